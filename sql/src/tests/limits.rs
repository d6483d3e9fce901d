//! Each limit of queries: what is refused, in which words, and that what is below it is answered.

use std::time::Duration;

use futures::{StreamExt, TryStreamExt};
use serde_json::json;
use weir_dataflow::snapshot::Snapshot;

use super::{batches, engine, everything, options};
use crate::engine::{Engine, EngineOptions, QueryError};
use crate::scope::Scope;

/// Runs until it is stopped.
const ENDLESS: &str = "SELECT sum(value) FROM generate_series(1, 1000000000000)";

fn with(change: impl FnOnce(&mut EngineOptions)) -> (tempfile::TempDir, Engine) {
    let folder = tempfile::tempdir().unwrap();
    let mut options = options(folder.path());
    change(&mut options);
    let engine = engine(Snapshot::default(), options);
    (folder, engine)
}

async fn refusal(engine: &Engine, sql: &str) -> (QueryError, String) {
    let error = batches(engine, &everything(), sql).await.unwrap_err();
    let text = error.to_string();
    (error, text)
}

/// Waits until no query runs.
async fn until_none_runs(engine: &Engine) {
    while !engine.running(&everything()).is_empty() {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn rows() {
    let (_folder, engine) = with(|options| options.rows_max = 20_000);
    let returned: usize = batches(&engine, &everything(), "SELECT * FROM generate_series(1, 20000)").await.unwrap().iter().map(|b| b.num_rows()).sum();
    assert_eq!(returned, 20_000);
    let (error, text) = refusal(&engine, "SELECT * FROM generate_series(1, 20001)").await;
    assert!(matches!(error, QueryError::Rows(20_000)) && text.contains("more than 20000 rows (query.max_rows): add a LIMIT"), "{text}");
    // Rows come as they are made, not after the last one.
    let mut stream = engine.query(&everything(), "SELECT * FROM generate_series(1, 1000000000000)").await.unwrap();
    assert!(stream.next().await.unwrap().unwrap().num_rows() > 0);
}

#[tokio::test]
async fn time() {
    let (_folder, engine) = with(|options| options.query_time_max = Duration::from_millis(50));
    let (error, text) = refusal(&engine, ENDLESS).await;
    assert!(matches!(error, QueryError::Time(_)) && text.contains("longer than 0.05 s (query.max_time): ask for less"), "{text}");
    until_none_runs(&engine).await;
}

#[tokio::test]
async fn memory() {
    let (_folder, engine) = with(|options| options.query_memory_bytes_max = 4 << 20);
    let (error, text) = refusal(&engine, "SELECT array_length(array_agg(value)) FROM generate_series(1, 10000000)").await;
    assert!(matches!(error, QueryError::Memory(_)) && text.contains("(query.max_bytes_per_query)") && text.contains("4.0 MiB"), "{text}");
    let (_folder, engine) = with(|options| options.memory_bytes_max = 4 << 20);
    let (_, text) = refusal(&engine, "SELECT array_length(array_agg(value)) FROM generate_series(1, 10000000)").await;
    assert!(text.contains("all queries together have") && text.contains("(query.max_bytes)"), "{text}");
    until_none_runs(&engine).await;
    // The parts of a query end on threads of their own, a moment after it.
    let given_back = async {
        while engine.memory_bytes() > 0 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(60), given_back).await.expect("memory is given back");
}

/// One sorted stream: of two that sort side by side one may want for memory while the other holds it.
const SORT: &str = "SELECT row_number() OVER (ORDER BY value % 1000, value DESC) AS n FROM generate_series(1, 4000000)";

#[tokio::test]
async fn what_outgrows_memory_goes_to_the_disk() {
    let (folder, engine) = with(|options| {
        options.query_memory_bytes_max = 32 << 20;
        options.rows_max = 4_000_000;
    });
    let mut stream = engine.query(&everything(), SORT).await.unwrap();
    let first = stream.next().await.unwrap().unwrap();
    assert_eq!(first.num_columns(), 1);
    assert!(engine.spill_bytes() > 0, "nothing was spilled");
    let rest: usize = stream.map_ok(|batch| batch.num_rows()).try_fold(0, |a, b| async move { Ok(a + b) }).await.unwrap();
    assert_eq!(first.num_rows() + rest, 4_000_000);
    until_none_runs(&engine).await;
    assert_eq!(engine.spill_bytes(), 0);
    drop(folder);
}

#[tokio::test]
async fn the_disk_is_bounded_too() {
    let (_folder, engine) = with(|options| {
        options.query_memory_bytes_max = 32 << 20;
        options.spill_bytes_max = 1 << 20;
    });
    let (error, text) = refusal(&engine, SORT).await;
    assert!(matches!(error, QueryError::Memory(_)) && text.contains("(query.max_spill_bytes)"), "{text}");
}

#[tokio::test]
async fn what_a_killed_process_spilled_is_removed() {
    let folder = tempfile::tempdir().unwrap();
    let left = folder.path().join("spill/datafusion-x/part");
    std::fs::create_dir_all(left.parent().unwrap()).unwrap();
    std::fs::write(&left, b"x").unwrap();
    let _engine = engine(Snapshot::default(), options(folder.path()));
    assert!(!left.exists());
}

#[tokio::test]
async fn queries_at_a_time() {
    let (_folder, engine) = with(|options| options.token_queries_max = 1);
    let running = engine.query(&everything(), ENDLESS).await.unwrap();
    let (error, text) = refusal(&engine, "SELECT 1").await;
    assert!(
        matches!(error, QueryError::Busy(_)) && text.contains("1 queries of the token everything") && text.contains("query.max_concurrent_per_token"),
        "{text}"
    );
    let other = Scope { name: "another".to_owned(), ..everything() };
    assert_eq!(rows_of(&engine, &other).await, json!([[1]]));
    // A dropped stream ends its query and gives its place back.
    drop(running);
    until_none_runs(&engine).await;
    assert_eq!(rows_of(&engine, &everything()).await, json!([[1]]));
}

async fn rows_of(engine: &Engine, scope: &Scope) -> serde_json::Value {
    super::rows(engine, scope, "SELECT 1").await.unwrap()
}

#[tokio::test]
async fn cancelled_by_its_id_and_by_its_number() {
    let (_folder, engine) = with(|_| {});
    let id = [7; 16];
    let planned = engine.plan(&everything(), ENDLESS).await.unwrap();
    let stream = engine.run(planned, id).await.unwrap();
    assert!(engine.cancel(&everything(), id));
    assert!(matches!(stream.try_collect::<Vec<_>>().await, Err(QueryError::Cancelled)));

    let stream = engine.query(&everything(), ENDLESS).await.unwrap();
    let listed = super::rows(&engine, &everything(), "SHOW QUERIES").await.unwrap();
    assert_eq!((listed[0][1].as_str(), listed[0][7].as_str()), (Some("everything"), Some(ENDLESS)));
    let stranger = Scope { projects: Some([1].into()), name: "stranger".to_owned(), ..everything() };
    assert_eq!(super::rows(&engine, &stranger, "SHOW QUERIES").await.unwrap(), json!([]));
    let kill = format!("KILL QUERY {}", listed[0][0]);
    assert!(super::rows(&engine, &stranger, &kill).await.unwrap_err().to_string().contains("SHOW QUERIES"));
    // Planning a command, as preparing does, has no effect.
    engine.plan(&everything(), &kill).await.unwrap();
    assert_eq!(engine.running(&everything()).len(), 1);
    assert_eq!(super::rows(&engine, &everything(), &kill).await.unwrap(), json!([]));
    assert!(matches!(stream.try_collect::<Vec<_>>().await, Err(QueryError::Cancelled)));
}

#[tokio::test]
async fn progress_of_a_running_query() {
    let (_folder, engine) = with(|_| {});
    let _stream = engine.query(&everything(), "SELECT count(*) FROM generate_series(1, 1000000000000)").await.unwrap();
    let query = engine.running(&everything()).remove(0);
    while query.scanned().rows == 0 {
        tokio::task::yield_now().await;
    }
    assert!(super::rows(&engine, &everything(), "SHOW QUERIES").await.unwrap()[0][3].as_i64() > Some(0));
}
