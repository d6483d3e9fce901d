//! A start: the state of the last commit, and the identities of what was received within the duplicate window.

use std::path::PathBuf;

use arrow::array::{AsArray, RecordBatch};
use arrow::datatypes::{Int64Type, TimestampMillisecondType};
use parquet::arrow::ProjectionMask;
use parquet::arrow::arrow_reader::{ArrowReaderOptions, ParquetRecordBatchReaderBuilder};
use parquet::errors::ParquetError;
use weir_operators::deduplicate::Identity;
use weir_protocol::EventId;
use weir_protocol::limits::DEDUPLICATION_WINDOW_MS;

use crate::lake::CheckedFile;
use crate::snapshot::DataFile;

/// An identity that the tables hold.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Seen {
    pub(crate) project_id: u64,
    pub(crate) identity: Identity,
    pub(crate) received_ms: u64,
}

/// Why the identities could not be read.
#[derive(Debug, thiserror::Error)]
#[error("reading {path}: {source}: the file is named by the last commit; restore it, or restore the whole data directory from a backup")]
pub struct SeenError {
    path: PathBuf,
    source: ParquetError,
}

/// The identities that files hold of what was received in the window before the newest record that is committed: the next
/// record was received after it. `events` are files of the table `payloads`, `items` those of the table `items`.
pub(crate) fn seen(events: &[DataFile], items: &[DataFile]) -> Result<Vec<Seen>, SeenError> {
    let newest_ms = events.iter().chain(items).map(|file| file.received_ms.1).max().unwrap_or_default();
    // A minute more, since records of one moment may stand in the journal in another order than they were received in.
    let since_ms = newest_ms.saturating_sub(DEDUPLICATION_WINDOW_MS as i64 + 60_000);
    let mut seen = Vec::new();
    for (files, column, identity) in [(events, "event_id", event as fn(u64, [u8; 16]) -> Identity), (items, "item_id", Identity::payload)] {
        for file in files.iter().filter(|file| file.received_ms.1 >= since_ms) {
            read(file, column, since_ms, identity, &mut seen).map_err(|source| SeenError { path: file.path.clone(), source })?;
        }
    }
    Ok(seen)
}

fn event(project_id: u64, id: [u8; 16]) -> Identity {
    Identity::event(project_id, EventId(id))
}

fn read(file: &DataFile, column: &str, since_ms: i64, identity: fn(u64, [u8; 16]) -> Identity, seen: &mut Vec<Seen>) -> Result<(), ParquetError> {
    // The types are known from the file's own schema. Arrow's, which is kept in it as well, is read by code that trusts its bytes.
    let options = ArrowReaderOptions::new().with_skip_arrow_metadata(true);
    let builder = ParquetRecordBatchReaderBuilder::try_new_with_options(CheckedFile::open(&file.path, &file.checksums)?, options)?;
    let mask = ProjectionMask::columns(builder.parquet_schema(), ["project_id", "received", column]);
    for batch in builder.with_projection(mask).build()? {
        let batch = batch?;
        let missing = || ParquetError::General(format!("the columns project_id, received and {column} are not all there"));
        let (projects, received, ids) = columns(&batch, column).ok_or_else(missing)?;
        for row in 0..batch.num_rows() {
            let (received_ms, id) = (received.value(row), ids.value(row));
            if let (true, Ok(id)) = (received_ms >= since_ms, id.try_into()) {
                let project_id = projects.value(row) as u64;
                seen.push(Seen { project_id, identity: identity(project_id, id), received_ms: received_ms as u64 });
            }
        }
    }
    Ok(())
}

type Columns<'a> =
    (&'a arrow::array::PrimitiveArray<Int64Type>, &'a arrow::array::PrimitiveArray<TimestampMillisecondType>, &'a arrow::array::FixedSizeBinaryArray);

fn columns<'a>(batch: &'a RecordBatch, id: &str) -> Option<Columns<'a>> {
    Some((
        batch.column_by_name("project_id")?.as_primitive_opt()?,
        batch.column_by_name("received")?.as_primitive_opt()?,
        batch.column_by_name(id)?.as_fixed_size_binary_opt()?,
    ))
}
