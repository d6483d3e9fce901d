//! Rows as the lake keeps them: a sorted file a table and date, by the writer of commits.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::Context;
use datafusion::arrow::array::{AsArray, RecordBatch, UInt32Array};
use datafusion::arrow::compute::{SortColumn, lexsort_to_indices, take_record_batch};
use datafusion::arrow::datatypes::TimestampMillisecondType;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use serde::{Deserialize, Serialize};
use weir_dataflow::Checksums;
use weir_dataflow::snapshot::{DataFile, Snapshot, TableSnapshot};
use weir_operators::schema::{self, Table, TableKind};

use crate::data::{self, MIDNIGHT_MS, Size, TRACE};

const DAY_MS: i64 = 86_400_000;

/// What is in the folder, and what the placeholders of queries stand for.
#[derive(Debug, Serialize, Deserialize)]
pub struct Manifest {
    files: Vec<Listed>,
    /// Value of `$a`, and so on.
    pub placeholders: std::collections::BTreeMap<String, String>,
    /// An event in the middle.
    pub event_id: String,
}

#[derive(Debug, Serialize, Deserialize)]
struct Listed {
    table: String,
    path: PathBuf,
    bytes: u64,
    checksums: Vec<u8>,
    rows: u64,
    received_ms: (i64, i64),
    project_id: (i64, i64),
}

/// Makes the rows and writes them.
pub fn generate(folder: &Path, size: Size) -> anyhow::Result<()> {
    let mut files = Vec::new();
    for table in schema::tables() {
        let rows = match table.name {
            "errors" => Some(data::errors(table, size.errors)?),
            "spans" => Some(data::spans(table, size.spans)?),
            _ => data::others(table)?,
        };
        for rows in rows.iter().filter(|rows| rows.num_rows() > 0) {
            files.extend(write(folder, table, rows)?);
        }
    }
    let hex = |id: [u8; 16]| id.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    let placeholders = [
        ("$a2", "TIMESTAMP '2026-09-17 06:00:00'".to_owned()),
        ("$b2", "TIMESTAMP '2026-09-24 06:00:00'".to_owned()),
        ("$a", "TIMESTAMP '2026-09-24 06:00:00'".to_owned()),
        ("$b", "TIMESTAMP '2026-10-01 06:00:00'".to_owned()),
        ("$t", format!("'{}'", hex(data::id(TRACE, 7)))),
    ];
    let manifest = Manifest {
        files,
        placeholders: placeholders.into_iter().map(|(name, value)| (name.to_owned(), value)).collect(),
        event_id: hex(data::id(1, size.errors as u64 / 2)),
    };
    std::fs::write(folder.join("manifest.json"), serde_json::to_vec_pretty(&manifest)?)?;
    Ok(())
}

/// Writes a file for each date of `received`.
fn write(folder: &Path, table: &'static Table, rows: &RecordBatch) -> anyhow::Result<Vec<Listed>> {
    let received = rows.column_by_name("received").context("every table has it")?.as_primitive::<TimestampMillisecondType>().clone();
    let mut days: Vec<i64> = received.values().iter().map(|ms| ms.div_euclid(DAY_MS)).collect();
    days.sort_unstable();
    days.dedup();
    let mut files = Vec::new();
    for day in days {
        let chosen: UInt32Array = (0..rows.num_rows() as u32).filter(|row| received.value(*row as usize).div_euclid(DAY_MS) == day).collect();
        let part = take_record_batch(rows, &chosen)?;
        let key = |name: &&str| part.column_by_name(name).map(|values| SortColumn { values: Arc::clone(values), options: None });
        let keys: Vec<SortColumn> = table.sort_key.iter().filter_map(key).collect();
        let sorted = take_record_batch(&part, &lexsort_to_indices(&keys, None)?)?;
        let date = chrono::DateTime::from_timestamp_millis(day * DAY_MS).context("a day of this era")?.date_naive();
        let ymd = (chrono::Datelike::year(&date), chrono::Datelike::month(&date), chrono::Datelike::day(&date));
        let relative = format!("{date}/workload.parquet");
        let written = weir_dataflow::write_file(folder, table, &relative, ymd, &sorted)?;
        let bounds = |values: &[i64]| (values.iter().copied().min().unwrap_or(MIDNIGHT_MS), values.iter().copied().max().unwrap_or(MIDNIGHT_MS));
        files.push(Listed {
            table: table.name.to_owned(),
            path: Path::new(table.name).join(&relative),
            bytes: written.bytes,
            checksums: written.checksums,
            rows: written.rows,
            received_ms: bounds(part.column_by_name("received").context("it has")?.as_primitive::<TimestampMillisecondType>().values()),
            project_id: bounds(part.column_by_name("project_id").context("it has")?.as_primitive::<datafusion::arrow::datatypes::Int64Type>().values()),
        });
    }
    Ok(files)
}

/// The folder as a snapshot of Weir: tables of current state in memory, the others in their files.
pub fn open(folder: &Path) -> anyhow::Result<(Snapshot, Manifest)> {
    let folder = std::fs::canonicalize(folder)?;
    let manifest: Manifest = serde_json::from_slice(&std::fs::read(folder.join("manifest.json"))?)?;
    let mut snapshot = Snapshot { tick_ms: (MIDNIGHT_MS + DAY_MS / 2) as u64, ..Snapshot::default() };
    for table in schema::tables() {
        let (mut hot, mut cold) = (Vec::new(), Vec::new());
        for file in manifest.files.iter().filter(|file| file.table == table.name) {
            let path = folder.join(&file.path);
            match table.kind {
                TableKind::Current => hot.extend(read(&path)?),
                TableKind::Appended => {
                    let checksums = Checksums::from_bytes(&file.checksums);
                    cold.push(DataFile { path, bytes: file.bytes, checksums, rows: file.rows, received_ms: file.received_ms, project_id: file.project_id });
                }
            }
        }
        snapshot.tables.insert(table.name, TableSnapshot { hot: hot.into(), cold: cold.into() });
    }
    Ok((snapshot, manifest))
}

fn read(path: &Path) -> anyhow::Result<Vec<RecordBatch>> {
    let reader = ParquetRecordBatchReaderBuilder::try_new(std::fs::File::open(path)?)?.build()?;
    Ok(reader.collect::<Result<_, _>>()?)
}
