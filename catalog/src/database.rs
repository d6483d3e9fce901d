//! The handle to the catalog: SQLite or PostgreSQL, how either is opened, and how a transaction that writes begins.

use std::fmt::Write;
use std::ops::{Deref, DerefMut};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use sqlx::any::{AnyConnectOptions, AnyPoolOptions};
use sqlx::{Any, AnyConnection, AnyPool, AssertSqlSafe, Connection, Executor, Row, SqlSafeStr, SqlStr, Transaction};
use tokio::sync::{Mutex, Notify, OwnedMutexGuard};

use crate::error::CatalogError;
use crate::migrations;
use crate::secret::SecretKey;
use crate::subscriptions::Creations;

/// Where a catalog is. It is shown without passwords.
#[derive(Clone, PartialEq, Eq)]
pub enum CatalogLocation {
    /// A SQLite file; the key of its secrets stands beside it.
    Sqlite(PathBuf),
    /// A PostgreSQL database.
    Postgres {
        /// `postgres://USER:PASSWORD@HOST:PORT/DATABASE`.
        url: String,
        /// The file with the key of its secrets: a copy of the same key for each process.
        key: PathBuf,
    },
}

impl CatalogLocation {
    fn key(&self) -> PathBuf {
        match self {
            Self::Sqlite(path) => path.with_extension("key"),
            Self::Postgres { key, .. } => key.clone(),
        }
    }
}

impl std::fmt::Display for CatalogLocation {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Sqlite(path) => write!(f, "{}", path.display()),
            Self::Postgres { url, .. } => f.write_str(&without_secrets(url)),
        }
    }
}

impl std::fmt::Debug for CatalogLocation {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{self}")
    }
}

/// A URL without what stands between `//` and `@`, and without its parameters, one of which may be a password.
fn without_secrets(url: &str) -> String {
    let shown = url.split(['?', '#']).next().unwrap_or_default();
    match (shown.find("://"), shown.rfind('@')) {
        (Some(start), Some(end)) if start + 3 < end => format!("{}…{}", &shown[..start + 3], &shown[end..]),
        // An `@` after a `?`: a password that was not written as URLs are.
        _ if url.contains('@') && !shown.contains('@') => "postgres://…".to_owned(),
        _ => shown.to_owned(),
    }
}

/// The catalog database. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Catalog {
    pub(crate) pool: AnyPool,
    pub(crate) dialect: Dialect,
    pub(crate) secrets: Arc<SecretKey>,
    pub(crate) creations: Arc<Creations>,
    /// Told whenever something was put into the outbox.
    pub(crate) outbox_filled: Arc<Notify>,
    writer: Arc<Mutex<()>>,
}

/// Whose SQL a connection speaks. Statements are written for both; what differs is here and in `migrations.rs`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Dialect {
    Sqlite,
    Postgres,
}

impl Dialect {
    pub(crate) fn of(connection: &AnyConnection) -> Self {
        if connection.backend_name() == "PostgreSQL" { Self::Postgres } else { Self::Sqlite }
    }

    /// A statement whose parameters are cast to types that SQLite has not, where it keeps text: `$1::timestamptz`, `$1::uuid`.
    pub(crate) fn statement(self, sql: &'static str) -> SqlStr {
        match self {
            Self::Postgres => sql.into_sql_str(),
            Self::Sqlite => AssertSqlSafe(sql.replace("::timestamptz", "").replace("::uuid", "")).into_sql_str(),
        }
    }

    /// `($1, $2), ($3, $4)`: the parameters of some rows with so many columns each, to be bound in their order. SQLite gets question
    /// marks: thousands of names are looked through for each one.
    pub(crate) fn parameters(self, rows: usize, columns: usize) -> String {
        let one = |number: usize| match self {
            Self::Sqlite => "?".to_owned(),
            Self::Postgres => format!("${}", number + 1),
        };
        let row = |row: usize| (0..columns).map(|column| one(row * columns + column)).collect::<Vec<_>>().join(", ");
        (0..rows).map(|number| format!("({})", row(number))).collect::<Vec<_>>().join(", ")
    }

    /// Begins a transaction that no other writer of the catalog has at the same time: SQLite's own lock, or an advisory one that
    /// belongs to the schema. Each statement after it sees whatever was committed before it.
    async fn begin(self, pool: &AnyPool) -> Result<Transaction<'static, Any>, CatalogError> {
        match self {
            Self::Sqlite => Ok(pool.begin_with("BEGIN IMMEDIATE").await?),
            Self::Postgres => {
                // At a stricter level the statement that waits for the lock would fix what the others see.
                let mut transaction = pool.begin_with("BEGIN ISOLATION LEVEL READ COMMITTED READ WRITE").await?;
                transaction.execute(LOCK).await?;
                Ok(transaction)
            }
        }
    }
}

/// `WEIR` and the schema: two catalogs in two schemas of a database do not wait for each other. It ends with the transaction.
const LOCK: &str = "SELECT pg_advisory_xact_lock(1464158546, coalesce(current_schema()::regnamespace::oid::integer, 0))";

/// A transaction that writes, and this process's turn to have one.
///
/// Within the process writers queue, so that they do not sleep and ask the database again (SQLite), or take connections from those
/// who read (PostgreSQL).
pub(crate) struct Writing {
    transaction: Transaction<'static, Any>,
    _turn: OwnedMutexGuard<()>,
}

impl Writing {
    pub(crate) async fn commit(self) -> Result<(), CatalogError> {
        Ok(self.transaction.commit().await?)
    }
}

impl Deref for Writing {
    type Target = AnyConnection;

    fn deref(&self) -> &AnyConnection {
        &self.transaction
    }
}

impl DerefMut for Writing {
    fn deref_mut(&mut self) -> &mut AnyConnection {
        &mut self.transaction
    }
}

/// How long a writer waits for another process's transaction (the command line beside `serve`).
const BUSY_SECONDS: u64 = 10;
/// How long a call waits for a connection; a PostgreSQL that is away is asked for again within this time.
const ACQUIRE_SECONDS: u64 = 10;
/// The same where somebody waits for an answer and a connection to PostgreSQL is all that it takes.
const ACQUIRE_REMOTE_SECONDS: u64 = 5;
/// How long a start waits for PostgreSQL's first answer.
const CONNECT_SECONDS: u64 = 10;
/// Connections of one process. Writers are serialised; the others read.
const CONNECTIONS_MAX: u32 = 4;

const SQLITE_SESSION: &str = "
-- Readers (DuckDB among them) read on while a commit is written.
PRAGMA journal_mode = WAL;
-- A commit is on disk when it returns: the journal is truncated on the strength of it.
PRAGMA synchronous = FULL;
PRAGMA foreign_keys = ON;
PRAGMA cache_size = -1024;
-- What is deleted is overwritten, so that it does not linger in free pages.
PRAGMA secure_delete = ON;
";

/// What must hold whatever the server, the database or the role have set.
const POSTGRES_SESSION: &str = "
SELECT set_config('application_name', 'weir', false) WHERE current_setting('application_name') = '';
-- A commit is on disk when it returns, as above. What is stricter than that stays.
SELECT set_config('synchronous_commit', 'on', false) WHERE current_setting('synchronous_commit') = 'off';
-- Nobody waits for ever. A process that stands still with the lock loses it before the others cease to wait for it.
SET lock_timeout = '15s';
SET statement_timeout = '120s';
SET idle_in_transaction_session_timeout = '5s';
SET tcp_keepalives_idle = 15;
SET tcp_keepalives_interval = 5;
SET tcp_keepalives_count = 3;
-- Backslashes and quotes mean what the standard says.
SET standard_conforming_strings = on;
";

/// The oldest PostgreSQL that is tested against is 15; 12 has all that is used.
const POSTGRES_VERSION_MIN: i64 = 120_000;

impl Catalog {
    /// Opens the SQLite catalog at a path, creating it and bringing its tables up to date.
    ///
    /// # Errors
    /// As [`open_at`](Self::open_at).
    pub async fn open(path: &Path) -> Result<Self, CatalogError> {
        Self::open_at(&CatalogLocation::Sqlite(path.to_owned())).await
    }

    /// Opens a catalog, creating it and bringing its tables up to date. The database of a PostgreSQL must be there; tables are made
    /// in the first schema of the role's search path.
    ///
    /// # Errors
    /// [`CatalogError::Unreachable`] where PostgreSQL does not answer or refuses; [`CatalogError::Unsuitable`] where it cannot be used;
    /// [`CatalogError::Newer`] where a newer version wrote the catalog; [`CatalogError::SecretKey`] where the key is not the one that
    /// its secrets are sealed with; [`CatalogError::Database`] where it cannot be opened.
    pub async fn open_at(location: &CatalogLocation) -> Result<Self, CatalogError> {
        let (pool, dialect) = pool(location).await?;
        let mut transaction = dialect.begin(&pool).await?;
        migrations::apply(&mut transaction, location).await?;
        transaction.commit().await?;
        let secrets = Arc::new(SecretKey::open(&pool, &location.key()).await?);
        Ok(Self { pool, dialect, secrets, creations: Arc::default(), outbox_filled: Arc::default(), writer: Arc::default() })
    }

    /// Opens a catalog where there is one.
    ///
    /// # Errors
    /// As [`open_at`](Self::open_at).
    pub async fn open_existing(location: &CatalogLocation) -> Result<Option<Self>, CatalogError> {
        let exists = match location {
            CatalogLocation::Sqlite(path) => path.exists(),
            CatalogLocation::Postgres { .. } => {
                let mut connection = connect(location).await?;
                let sql = "SELECT count(*) FROM pg_catalog.pg_tables WHERE schemaname = current_schema() AND tablename = 'weir_meta'";
                let found: i64 = sqlx::query_scalar(sql).fetch_one(&mut connection).await?;
                connection.close().await?;
                found > 0
            }
        };
        if exists { Self::open_at(location).await.map(Some) } else { Ok(None) }
    }

    /// Begins a transaction that writes, when it is this caller's turn.
    pub(crate) async fn begin_writing(&self) -> Result<Writing, CatalogError> {
        let turn = self.writer.clone().lock_owned().await;
        Ok(Writing { transaction: self.dialect.begin(&self.pool).await?, _turn: turn })
    }

    /// Closes all connections; SQLite folds its write-ahead log into the file.
    pub async fn close(&self) {
        self.pool.close().await;
    }
}

fn options(location: &CatalogLocation) -> Result<AnyConnectOptions, CatalogError> {
    sqlx::any::install_default_drivers();
    let url = match location {
        CatalogLocation::Sqlite(path) => sqlite_url(path)?,
        CatalogLocation::Postgres { url, .. } => url.clone(),
    };
    url.parse().map_err(|error: sqlx::Error| CatalogError::Unsuitable { location: location.to_string(), reason: error.to_string() })
}

/// The URL of a file. Whatever a URL might take for something else is escaped; the folder is named without links and dots, since
/// a URL would fold those by itself.
fn sqlite_url(path: &Path) -> Result<String, CatalogError> {
    let unsuitable = |reason: String| CatalogError::Unsuitable { location: path.display().to_string(), reason };
    let absolute = std::path::absolute(path).map_err(|error| unsuitable(error.to_string()))?;
    let folder = absolute.parent().unwrap_or(Path::new("/")).canonicalize().map_err(|error| unsuitable(format!("its folder cannot be used ({error})")))?;
    let file = folder.join(absolute.file_name().unwrap_or_default());
    let text = file.to_str().ok_or_else(|| unsuitable("its name is not UTF-8".to_owned()))?;
    let mut url = "sqlite://".to_owned();
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"/-_.".contains(&byte) {
            url.push(char::from(byte));
        } else {
            let _ = write!(url, "%{byte:02X}");
        }
    }
    url.push_str("?mode=rwc");
    Ok(url)
}

async fn pool(location: &CatalogLocation) -> Result<(AnyPool, Dialect), CatalogError> {
    let options = options(location)?;
    // A full disk makes SQLite end a transaction by itself, of which the driver does not know: such a connection could begin no other.
    // They are looked at when they are taken, since a rollback may still be under way when they are given back.
    let is_free = |connection: &mut AnyConnection| !connection.is_in_transaction();
    let pool = AnyPoolOptions::new().max_connections(CONNECTIONS_MAX).before_acquire(move |connection, _| Box::pin(async move { Ok(is_free(connection)) }));
    match location {
        CatalogLocation::Sqlite(_) => {
            let pool = pool.acquire_timeout(Duration::from_secs(ACQUIRE_SECONDS)).after_connect(|connection, _| {
                Box::pin(async move {
                    // First, since the others may have to wait already.
                    connection.execute(AssertSqlSafe(format!("PRAGMA busy_timeout = {}", BUSY_SECONDS * 1_000))).await?;
                    connection.execute(sqlx::raw_sql(SQLITE_SESSION)).await?;
                    Ok(())
                })
            });
            Ok((pool.connect_with(options).await?, Dialect::Sqlite))
        }
        CatalogLocation::Postgres { .. } => {
            check_server(connect(location).await?, location).await?;
            let pool = pool.acquire_timeout(Duration::from_secs(ACQUIRE_REMOTE_SECONDS)).after_connect(|connection, _| {
                Box::pin(async move {
                    connection.execute(sqlx::raw_sql(POSTGRES_SESSION)).await?;
                    Ok(())
                })
            });
            Ok((pool.connect_with(options).await?, Dialect::Postgres))
        }
    }
}

/// One connection to PostgreSQL apart from the pool, which asks again until its time is over and does not tell why.
async fn connect(location: &CatalogLocation) -> Result<AnyConnection, CatalogError> {
    let unreachable = |reason: String| CatalogError::Unreachable { location: location.to_string(), reason };
    let options = options(location)?;
    match tokio::time::timeout(Duration::from_secs(CONNECT_SECONDS), AnyConnection::connect_with(&options)).await {
        Ok(connected) => connected.map_err(|error| unreachable(error.to_string())),
        Err(_) => Err(unreachable(format!("no answer within {CONNECT_SECONDS} seconds"))),
    }
}

async fn check_server(mut connection: AnyConnection, location: &CatalogLocation) -> Result<(), CatalogError> {
    let sql = "SELECT current_setting('server_version_num')::bigint AS version, current_setting('server_encoding') AS encoding,
                      current_schema()::text AS schema, pg_is_in_recovery() AS standby";
    let row = sqlx::query(sql).fetch_one(&mut connection).await?;
    let (version, encoding, schema): (i64, String, Option<String>) = (row.try_get("version")?, row.try_get("encoding")?, row.try_get("schema")?);
    let reason = if version < POSTGRES_VERSION_MIN {
        Some(format!("its server has version {}, but weir needs 12 or newer", version / 10_000))
    } else if encoding != "UTF8" {
        Some(format!("its encoding is {encoding}: create a database with ENCODING 'UTF8'"))
    } else if schema.is_none() {
        Some("no schema of its search path is there: create one, or set search_path for the role".to_owned())
    } else if row.try_get("standby")? {
        Some("its server is a standby, which cannot be written: name the primary".to_owned())
    } else {
        None
    };
    connection.close().await?;
    reason.map_or(Ok(()), |reason| Err(CatalogError::Unsuitable { location: location.to_string(), reason }))
}

/// A truth value, which SQLite keeps as a number.
pub(crate) fn flag(row: &sqlx::any::AnyRow, column: &str) -> Result<Option<bool>, CatalogError> {
    use sqlx::ValueRef;
    use sqlx::any::AnyTypeInfoKind;
    match row.try_get_raw(column)?.type_info().kind() {
        AnyTypeInfoKind::Bool => Ok(row.try_get(column)?),
        _ => Ok(row.try_get::<Option<i64>, _>(column)?.map(|number| number != 0)),
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::testing::{Place, in_both_databases};

    /// The connections of a catalog that has no tables yet.
    pub(crate) async fn bare(location: &CatalogLocation) -> (AnyPool, Dialect) {
        pool(location).await.unwrap()
    }

    #[tokio::test]
    async fn sqlite_is_durable_and_forgets_what_is_deleted() {
        let place = Place::sqlite();
        let catalog = place.open().await;
        for (pragma, want) in [("synchronous", 2), ("secure_delete", 1), ("foreign_keys", 1), ("busy_timeout", 10_000), ("cache_size", -1024)] {
            let found: i64 = sqlx::query_scalar(AssertSqlSafe(format!("PRAGMA {pragma}"))).fetch_one(&catalog.pool).await.unwrap();
            assert_eq!(found, want, "{pragma}");
        }
        let mode: String = sqlx::query_scalar("PRAGMA journal_mode").fetch_one(&catalog.pool).await.unwrap();
        assert_eq!(mode, "wal");
    }

    #[tokio::test]
    async fn a_file_may_have_any_name() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("50% of ../the?data#x ü");
        std::fs::create_dir_all(&path).unwrap();
        let file = path.join("catalog.sqlite");
        Catalog::open(&file).await.unwrap().close().await;
        assert!(file.exists());
    }

    async fn a_catalog_is_opened_where_there_is_one(place: Place) {
        assert!(Catalog::open_existing(&place.location).await.unwrap().is_none());
        place.open().await.close().await;
        assert!(Catalog::open_existing(&place.location).await.unwrap().is_some());
    }

    /// A connection that ends between two statements, or in the middle of the commit, leaves all or nothing, and no lock.
    async fn a_connection_that_is_dropped_leaves_no_lock(place: Place) {
        let catalog = place.open().await;
        if catalog.dialect == Dialect::Sqlite {
            return;
        }
        let mut writing = catalog.begin_writing().await.unwrap();
        let pid: i64 = sqlx::query_scalar("SELECT pg_backend_pid()::bigint").fetch_one(&mut *writing).await.unwrap();
        sqlx::query("INSERT INTO weir_meta (key, value) VALUES ('x', 'y')").execute(&mut *writing).await.unwrap();
        sqlx::query("SELECT pg_terminate_backend($1::integer)").bind(pid).execute(&catalog.pool).await.unwrap();
        let error = writing.commit().await.unwrap_err();
        assert!(error.is_transient(), "{error:?}");
        let mut writing = catalog.begin_writing().await.unwrap();
        let left: i64 = sqlx::query_scalar("SELECT count(*) FROM weir_meta WHERE key = 'x'").fetch_one(&mut *writing).await.unwrap();
        assert_eq!(left, 0);
        writing.commit().await.unwrap();
    }

    /// SQLite's lock belongs to a process of the same machine, which ends or goes on.
    async fn a_writer_that_stands_still_loses_the_lock(place: Place) {
        let (still, next) = (place.open().await, place.open().await);
        if still.dialect == Dialect::Sqlite {
            return;
        }
        let writing = still.begin_writing().await.unwrap();
        next.begin_writing().await.unwrap().commit().await.unwrap();
        assert!(writing.commit().await.unwrap_err().is_transient());
    }

    in_both_databases!(a_writer_that_stands_still_loses_the_lock, a_catalog_is_opened_where_there_is_one, a_connection_that_is_dropped_leaves_no_lock);

    #[tokio::test]
    async fn a_server_that_is_away_is_named_without_its_password() {
        let url = "postgres://me:hunter2@127.0.0.1:1/weir?password=hunter3".to_owned();
        let error = Catalog::open_at(&CatalogLocation::Postgres { url, key: "/nowhere/catalog.key".into() }).await.unwrap_err();
        assert!(matches!(error, CatalogError::Unreachable { .. }), "{error}");
        let said = format!("{error} {error:?}");
        assert!(said.contains("127.0.0.1:1/weir") && !said.contains("hunter"), "{said}");
    }

    #[test]
    fn passwords_are_not_shown() {
        for (url, want) in [
            ("postgres://db/weir", "postgres://db/weir"),
            ("postgres://me:hunter2@db:5432/weir", "postgres://…@db:5432/weir"),
            ("postgres://me:hun@ter2@db/weir", "postgres://…@db/weir"),
            ("postgres://db/weir?user=me&password=hunter2", "postgres://db/weir"),
            ("postgres://me:hun?ter2@db/weir", "postgres://…"),
        ] {
            assert_eq!(without_secrets(url), want);
        }
    }

    #[test]
    fn parameters_are_numbered() {
        assert_eq!(Dialect::Postgres.parameters(2, 3), "($1, $2, $3), ($4, $5, $6)");
        assert_eq!(Dialect::Sqlite.parameters(2, 2), "(?, ?), (?, ?)");
    }
}
