//! The engine over snapshots made up for the purpose.

pub(crate) mod filled;
mod limits;
mod scope;

use std::path::Path;

use datafusion::arrow::array::RecordBatch;
use futures::TryStreamExt;
use weir_dataflow::snapshot::{Snapshot, Snapshots};

use crate::engine::{Engine, EngineOptions, QueryError};
use crate::output::{Format, write};
use crate::scope::Scope;

/// Options that keep what is spilled below a folder of the test's own.
pub(crate) fn options(folder: &Path) -> EngineOptions {
    EngineOptions { spill: folder.join("spill"), wait_max: std::time::Duration::ZERO, parts: 2, ..EngineOptions::default() }
}

pub(crate) fn engine(snapshot: Snapshot, options: EngineOptions) -> Engine {
    Engine::new(Snapshots::new(snapshot), options).unwrap()
}

/// A token for every project of organisation 1.
pub(crate) fn everything() -> Scope {
    Scope { org_id: 1, projects: None, name: "everything".to_owned() }
}

pub(crate) async fn batches(engine: &Engine, scope: &Scope, sql: &str) -> Result<Vec<RecordBatch>, QueryError> {
    engine.query(scope, sql).await?.try_collect().await
}

/// The rows as JSON, one array of values a row, in the order of the columns.
pub(crate) async fn rows(engine: &Engine, scope: &Scope, sql: &str) -> Result<serde_json::Value, QueryError> {
    let stream = engine.query(scope, sql).await?;
    let schema = stream.schema();
    let batches: Vec<RecordBatch> = stream.try_collect().await?;
    assert!(batches.iter().all(|batch| batch.schema() == schema), "the stream's schema is its batches'");
    let mut text = Vec::new();
    write(&mut text, &schema, &batches, Format::Json).unwrap();
    let objects: Vec<serde_json::Map<String, serde_json::Value>> = serde_json::from_slice(&text).unwrap();
    let values = |object: serde_json::Map<String, serde_json::Value>| {
        let mut object = object;
        schema.fields().iter().map(|field| object.remove(field.name()).unwrap()).collect::<Vec<_>>()
    };
    Ok(objects.into_iter().map(values).collect())
}
