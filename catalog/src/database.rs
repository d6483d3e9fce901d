//! The handle to the catalog and how it is opened.

use std::path::{Path, PathBuf};
use std::time::Duration;

use sqlx::SqlitePool;
use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous};

use crate::error::CatalogError;
use crate::migrations;

/// The catalog database. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Catalog {
    pub(crate) pool: SqlitePool,
    pub(crate) path: PathBuf,
}

/// How long a writer waits for another process's transaction (the command line beside `serve`).
const BUSY_SECONDS: u64 = 10;
/// Connections of one process. Writers are serialised by SQLite; the others read.
const CONNECTIONS_MAX: u32 = 4;

impl Catalog {
    /// Opens the SQLite catalog at a path, creating it and bringing its tables up to date.
    ///
    /// # Errors
    /// [`CatalogError::Newer`] where a newer version wrote it; [`CatalogError::Database`] where it cannot be opened.
    pub async fn open(path: &Path) -> Result<Self, CatalogError> {
        let options = SqliteConnectOptions::new()
            .filename(path)
            .create_if_missing(true)
            // Readers (DuckDB among them) read on while a commit is written.
            .journal_mode(SqliteJournalMode::Wal)
            // A commit is on disk when it returns: the journal is truncated on the strength of it.
            .synchronous(SqliteSynchronous::Full)
            .foreign_keys(true)
            .pragma("cache_size", "-1024")
            // What is deleted is overwritten, so that it does not linger in free pages.
            .pragma("secure_delete", "on")
            .busy_timeout(Duration::from_secs(BUSY_SECONDS));
        let pool = SqlitePoolOptions::new().max_connections(CONNECTIONS_MAX).acquire_timeout(Duration::from_secs(BUSY_SECONDS)).connect_with(options).await?;
        let catalog = Self { pool, path: path.to_owned() };
        migrations::apply(&catalog).await?;
        Ok(catalog)
    }

    /// Where the database is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Closes all connections, so that the write-ahead log is folded into the file.
    pub async fn close(&self) {
        self.pool.close().await;
    }
}
