//! A lake of a workload, and the engine over it.
//!
//! ```text
//! workload generate FOLDER ERRORS SPANS    writes the lake's files, and manifest.json
//! workload serve FOLDER                    answers statements: a JSON text a line in, a JSON object a line out
//! ```
//!
//! An answer is `{"ms": …, "columns": […], "rows": […]}` or `{"error": …}`; `rows` only where the statement begins with `rows:`.

#![allow(clippy::print_stdout, reason = "a program that answers on standard output")]

mod data;
#[path = "../../src/tests/filled.rs"]
mod filled;
mod lake;

use std::io::BufRead;
use std::path::Path;
use std::time::Instant;

use anyhow::{Context, bail};
use futures::TryStreamExt;
use weir_dataflow::snapshot::Snapshots;
use weir_sql::{Engine, EngineOptions, Scope};

fn main() -> anyhow::Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>().as_slice() {
        ["generate", folder, errors, spans] => {
            std::fs::create_dir_all(folder)?;
            lake::generate(Path::new(folder), data::Size { errors: errors.parse()?, spans: spans.parse()? })
        }
        ["serve", folder] => tokio::runtime::Runtime::new()?.block_on(serve(Path::new(folder))),
        _ => bail!("usage: workload generate FOLDER ERRORS SPANS | serve FOLDER"),
    }
}

async fn serve(folder: &Path) -> anyhow::Result<()> {
    let (snapshot, _) = lake::open(folder).with_context(|| format!("{} is no lake of this program", folder.display()))?;
    let spill = folder.join("spill");
    let options = EngineOptions { memory_bytes_max: 4 << 30, query_memory_bytes_max: 2 << 30, spill, parts: 2, ..EngineOptions::default() };
    let engine = Engine::new(Snapshots::new(snapshot), options)?;
    let scope = Scope { org_id: 1, projects: None, name: "workload".to_owned() };
    for line in std::io::stdin().lock().lines() {
        let text: String = serde_json::from_str(&line?)?;
        let (wants_rows, sql) = text.strip_prefix("rows:").map_or((false, text.as_str()), |sql| (true, sql));
        println!("{}", answer(&engine, &scope, sql, wants_rows).await.unwrap_or_else(|error| serde_json::json!({ "error": error.to_string() })));
    }
    Ok(())
}

async fn answer(engine: &Engine, scope: &Scope, sql: &str, wants_rows: bool) -> anyhow::Result<serde_json::Value> {
    let started = Instant::now();
    let stream = engine.query(scope, sql).await?;
    let schema = stream.schema();
    let batches: Vec<_> = stream.try_collect().await?;
    let ms = started.elapsed().as_secs_f64() * 1000.0;
    let count: usize = batches.iter().map(|batch| batch.num_rows()).sum();
    if !wants_rows {
        return Ok(serde_json::json!({ "ms": ms, "count": count }));
    }
    let mut text = Vec::new();
    weir_sql::output::write(&mut text, &schema, &batches, weir_sql::output::Format::Json)?;
    let rows: serde_json::Value = serde_json::from_slice(&text)?;
    let columns: Vec<&String> = schema.fields().iter().map(|field| field.name()).collect();
    Ok(serde_json::json!({ "ms": ms, "count": count, "columns": columns, "rows": rows }))
}
