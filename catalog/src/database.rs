//! The handle to the catalog and how it is opened.

use std::ops::{Deref, DerefMut};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use sqlx::SqlitePool;
use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous};
use sqlx::{Sqlite, SqliteConnection, Transaction};
use tokio::sync::{Mutex, Notify, OwnedMutexGuard};

use crate::error::CatalogError;
use crate::migrations;
use crate::secret::SecretKey;
use crate::subscriptions::Creations;

/// The catalog database. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Catalog {
    pub(crate) pool: SqlitePool,
    pub(crate) path: PathBuf,
    pub(crate) secrets: Arc<SecretKey>,
    pub(crate) creations: Arc<Creations>,
    /// Told whenever something was put into the outbox.
    pub(crate) outbox_filled: Arc<Notify>,
    writer: Arc<Mutex<()>>,
}

/// A transaction that writes, and this process's turn to have one.
///
/// SQLite has one writer at a time and lets others sleep and ask again, for up to a tenth of a second; within the process they
/// queue instead.
pub(crate) struct Writing {
    transaction: Transaction<'static, Sqlite>,
    _turn: OwnedMutexGuard<()>,
}

impl Writing {
    pub(crate) async fn commit(self) -> Result<(), CatalogError> {
        Ok(self.transaction.commit().await?)
    }
}

impl Deref for Writing {
    type Target = SqliteConnection;

    fn deref(&self) -> &SqliteConnection {
        &self.transaction
    }
}

impl DerefMut for Writing {
    fn deref_mut(&mut self) -> &mut SqliteConnection {
        &mut self.transaction
    }
}

/// How long a writer waits for another process's transaction (the command line beside `serve`).
const BUSY_SECONDS: u64 = 10;
/// Connections of one process. Writers are serialised by SQLite; the others read.
const CONNECTIONS_MAX: u32 = 4;

impl Catalog {
    /// Opens the SQLite catalog at a path, creating it and bringing its tables up to date.
    ///
    /// # Errors
    /// [`CatalogError::Newer`] where a newer version wrote it; [`CatalogError::SecretKey`] where the key beside it is not the one
    /// that its secrets are sealed with; [`CatalogError::Database`] where it cannot be opened.
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
        migrations::apply(&pool, path).await?;
        let secrets = Arc::new(SecretKey::open(&pool, &path.with_extension("key")).await?);
        Ok(Self { pool, path: path.to_owned(), secrets, creations: Arc::default(), outbox_filled: Arc::default(), writer: Arc::default() })
    }

    /// Begins a transaction that writes, when it is this caller's turn.
    pub(crate) async fn begin_writing(&self) -> Result<Writing, CatalogError> {
        let turn = self.writer.clone().lock_owned().await;
        Ok(Writing { transaction: self.pool.begin_with("BEGIN IMMEDIATE").await?, _turn: turn })
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
