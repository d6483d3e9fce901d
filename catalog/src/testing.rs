//! A catalog for a test, in each of the databases.

use std::path::Path;

use sqlx::{AnyConnection, AssertSqlSafe, Connection, Executor};
use weir_protocol::ids::hex;

use crate::database::{Catalog, CatalogLocation};
use crate::error::CatalogError;
use crate::projects::random_bytes;

/// Names a PostgreSQL database for tests: `postgres://USER:PASSWORD@HOST:PORT/DATABASE`. Each test has a schema of its own in it.
const SERVER: &str = "WEIR_TEST_POSTGRES";

/// Where a test's catalog is.
pub(crate) struct Place {
    dir: tempfile::TempDir,
    pub(crate) location: CatalogLocation,
}

impl Place {
    pub(crate) fn sqlite() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let location = CatalogLocation::Sqlite(dir.path().join("catalog.sqlite"));
        Self { dir, location }
    }

    pub(crate) fn dir(&self) -> &Path {
        self.dir.path()
    }

    pub(crate) async fn open(&self) -> Catalog {
        self.try_open().await.unwrap()
    }

    pub(crate) async fn try_open(&self) -> Result<Catalog, CatalogError> {
        Catalog::open_at(&self.location).await
    }
}

/// Runs a test in a schema of its own, or says that it does not.
pub(crate) async fn in_postgres(test: &str, run: impl AsyncFnOnce(Place)) {
    let Ok(server) = std::env::var(SERVER) else {
        // Written past the capture of the test harness, which shows nothing of a test that passes.
        let _ = std::io::Write::write_all(&mut std::io::stderr(), format!("SKIPPED {test} in PostgreSQL: {SERVER} names no server\n").as_bytes());
        return;
    };
    sqlx::any::install_default_drivers();
    let schema = format!("test_{}", hex(&random_bytes::<8>().unwrap()));
    let execute = async |sql: String| {
        let mut connection = AnyConnection::connect(&server).await.unwrap();
        connection.execute(AssertSqlSafe(sql)).await.unwrap();
        connection.close().await.unwrap();
    };
    execute(format!("CREATE SCHEMA {schema}")).await;
    let dir = tempfile::tempdir().unwrap();
    let joint = if server.contains('?') { '&' } else { '?' };
    let location = CatalogLocation::Postgres { url: format!("{server}{joint}options[search_path]={schema}"), key: dir.path().join("catalog.key") };
    run(Place { dir, location }).await;
    execute(format!("DROP SCHEMA {schema} CASCADE")).await;
}

/// Makes two tests of each function of a [`Place`].
macro_rules! in_both_databases {
    ($($name:ident),+ $(,)?) => {
        mod in_sqlite {
            $(#[tokio::test] async fn $name() { super::$name($crate::testing::Place::sqlite()).await })+
        }
        mod in_postgres {
            $(#[tokio::test] async fn $name() { $crate::testing::in_postgres(stringify!($name), super::$name).await })+
        }
    };
}
pub(crate) use in_both_databases;
