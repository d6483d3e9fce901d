//! The stored rows that a new dataflow begins with: hot batches and files of one snapshot, as far as its windows can need them.
//!
//! Rows are read a batch at a time off the workers' threads, and handed to the workers in turn through short channels, so that
//! memory does not grow with the tables.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::mpsc::SyncSender;

use arrow::array::{Array, AsArray, BooleanArray, RecordBatch, new_null_array};
use arrow::compute::filter_record_batch;
use arrow::datatypes::{Field, Schema, SchemaRef, TimestampMillisecondType};
use arrow::error::ArrowError;
use parquet::arrow::ProjectionMask;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use parquet::errors::ParquetError;
use parquet::file::metadata::RowGroupMetaData;
use parquet::file::statistics::Statistics;
use weir_operators::relation::plan::Relation;
use weir_operators::relation::template::TableChanges;
use weir_operators::schema::{self, Table};
use weir_protocol::ProjectId;

use super::command::{Hydration, Mailbox};
use super::scans::{Need, needs};
use crate::lake::CheckedFile;
use crate::reach::Reach;
use crate::snapshot::{DataFile, Snapshot, TableSnapshot};

/// Rows of a batch that a worker takes at a time: a tick waits no longer than for one of them.
const BATCH_ROWS: usize = 8192;
/// Batches that wait for a worker.
pub(super) const BATCHES_WAITING_MAX: usize = 2;

/// Why stored rows were not read.
#[derive(Debug, thiserror::Error)]
pub(super) enum HydrationError {
    #[error("reading {path}: {source}")]
    File { path: PathBuf, source: ParquetError },
    #[error("stored rows: {0}")]
    Rows(#[from] ArrowError),
}

/// A worker's end.
pub(super) struct Sink {
    pub(super) rows: SyncSender<Hydration>,
    pub(super) mailbox: Arc<Mailbox>,
}

/// The workers' ends; rows go to each in turn.
pub(super) struct Sinks {
    pub(super) sinks: Vec<Sink>,
    pub(super) turn: usize,
    pub(super) rows: u64,
}

/// Nobody wants the rows any more: the template was dropped, or the graph ends.
struct Unwanted;

enum Stop {
    Unwanted,
    Failed(HydrationError),
}

impl From<Unwanted> for Stop {
    fn from(_: Unwanted) -> Self {
        Self::Unwanted
    }
}

impl From<HydrationError> for Stop {
    fn from(error: HydrationError) -> Self {
        Self::Failed(error)
    }
}

impl From<ArrowError> for Stop {
    fn from(error: ArrowError) -> Self {
        Self::Failed(error.into())
    }
}

impl Sinks {
    /// Sends the rows of a snapshot that a relation can need; `projects` are those that it reads. Returns how many were sent.
    pub(super) fn fill(mut self, snapshot: &Snapshot, relation: &Relation, projects: Option<&BTreeSet<ProjectId>>) -> Result<u64, HydrationError> {
        match self.send_all(snapshot, relation, projects) {
            Ok(()) | Err(Stop::Unwanted) => Ok(self.rows),
            Err(Stop::Failed(error)) => Err(error),
        }
    }

    fn send_all(&mut self, snapshot: &Snapshot, relation: &Relation, projects: Option<&BTreeSet<ProjectId>>) -> Result<(), Stop> {
        self.send_each(|| Hydration::At(snapshot.tick_ms))?;
        for (name, need) in needs(relation, snapshot.tick_ms) {
            let (Some(table), Some(rows)) = (schema::table(name), snapshot.table(name)) else { continue };
            self.send_table(table, rows, &Wanted::new(table, need, snapshot, projects))?;
        }
        self.send_each(|| Hydration::Complete)?;
        Ok(())
    }

    fn send_table(&mut self, table: &'static Table, rows: &TableSnapshot, wanted: &Wanted<'_>) -> Result<(), Stop> {
        for batch in rows.hot.iter() {
            for start in (0..batch.num_rows()).step_by(BATCH_ROWS) {
                self.send(table, &batch.slice(start, BATCH_ROWS.min(batch.num_rows() - start)), wanted)?;
            }
        }
        for file in rows.cold.iter().filter(|file| wanted.may_be_in(file)) {
            let failed = |source| HydrationError::File { path: file.path.clone(), source };
            let reader = open(file, table, &wanted.need).map_err(failed)?;
            for batch in reader {
                let batch = batch.map_err(|error| failed(error.into()))?;
                self.send(table, &whole(table, &batch)?, wanted)?;
            }
        }
        Ok(())
    }

    fn send(&mut self, table: &'static Table, batch: &RecordBatch, wanted: &Wanted<'_>) -> Result<(), Stop> {
        let batch = wanted.of(batch)?;
        if batch.num_rows() == 0 {
            return Ok(());
        }
        self.rows += batch.num_rows() as u64;
        self.turn = (self.turn + 1) % self.sinks.len();
        self.send_to(self.turn, Hydration::Rows(TableChanges { table: table.name, batch, differences: None }))?;
        Ok(())
    }

    fn send_each(&self, message: impl Fn() -> Hydration) -> Result<(), Unwanted> {
        (0..self.sinks.len()).try_for_each(|sink| self.send_to(sink, message()))
    }

    fn send_to(&self, sink: usize, message: Hydration) -> Result<(), Unwanted> {
        let sink = &self.sinks[sink];
        sink.rows.send(message).map_err(|_| Unwanted)?;
        sink.mailbox.wake();
        Ok(())
    }
}

/// Which of a table's rows are wanted.
struct Wanted<'a> {
    need: Need,
    projects: Option<&'a BTreeSet<ProjectId>>,
    /// Deletions whose rows are gone for every reader, though they may still be stored.
    deletions: Vec<&'a Reach>,
}

impl<'a> Wanted<'a> {
    fn new(table: &Table, mut need: Need, snapshot: &'a Snapshot, projects: Option<&'a BTreeSet<ProjectId>>) -> Self {
        let mut deletions = Vec::new();
        for reach in snapshot.deletions.iter() {
            let columns = reach.columns(table);
            if !columns.is_empty() {
                need.columns.extend(columns.iter().filter_map(|name| table.stored_schema().index_of(name).ok()));
                deletions.push(&**reach);
            }
        }
        Self { need, projects, deletions }
    }

    /// Whether a file may have such rows, as far as its statistics tell.
    fn may_be_in(&self, file: &DataFile) -> bool {
        let in_projects = |projects: &BTreeSet<ProjectId>| projects.range(file.project_id.0 as u64..=file.project_id.1 as u64).next().is_some();
        file.received_ms.1 >= self.need.received_from_ms && self.projects.is_none_or(in_projects)
    }

    /// Those of a batch.
    fn of(&self, batch: &RecordBatch) -> Result<RecordBatch, ArrowError> {
        let mut batch = recent(batch, self.need.received_from_ms)?;
        for reach in &self.deletions {
            let reached = reach.reached(&batch)?;
            if reached.true_count() > 0 {
                let keep: BooleanArray = reached.iter().map(|reached| Some(reached != Some(true))).collect();
                batch = filter_record_batch(&batch, &keep)?;
            }
        }
        Ok(batch)
    }
}

type Batches = parquet::arrow::arrow_reader::ParquetRecordBatchReader;

/// Reads the needed columns of the row groups that may have needed rows.
fn open(file: &DataFile, table: &Table, need: &Need) -> Result<Batches, ParquetError> {
    let builder = ParquetRecordBatchReaderBuilder::try_new(CheckedFile::open(&file.path, &file.checksums)?)?;
    let wanted = |name: &str| name == RECEIVED || table.stored_schema().index_of(name).is_ok_and(|index| need.columns.contains(&index));
    let roots = builder.schema().fields().iter().enumerate().filter(|(_, field)| wanted(field.name())).map(|(index, _)| index);
    let mask = ProjectionMask::roots(builder.parquet_schema(), roots);
    let groups = builder.metadata().row_groups().iter().enumerate();
    let groups = groups.filter(|(_, group)| newest_received(group).is_none_or(|newest| newest >= need.received_from_ms)).map(|(index, _)| index).collect();
    builder.with_projection(mask).with_row_groups(groups).with_batch_size(BATCH_ROWS).build()
}

const RECEIVED: &str = "received";

/// The greatest `received` of a row group, where its statistics have it.
fn newest_received(group: &RowGroupMetaData) -> Option<i64> {
    let column = group.columns().iter().find(|column| column.column_path().string() == RECEIVED)?;
    match column.statistics()? {
        Statistics::Int64(statistics) => statistics.max_opt().copied(),
        _ => None,
    }
}

/// The batch with all columns of the table in their places; those that were not read are null, and not asked for.
fn whole(table: &Table, read: &RecordBatch) -> Result<RecordBatch, ArrowError> {
    let stored = table.stored_schema();
    let fields: Vec<Field> = stored.fields().iter().map(|field| Field::clone(field).with_nullable(true)).collect();
    let column = |field: &Arc<Field>| read.column_by_name(field.name()).map_or_else(|| new_null_array(field.data_type(), read.num_rows()), Arc::clone);
    RecordBatch::try_new(SchemaRef::new(Schema::new(fields)), stored.fields().iter().map(column).collect())
}

/// The rows that were received late enough.
fn recent(batch: &RecordBatch, from_ms: i64) -> Result<RecordBatch, ArrowError> {
    let Some(received) = batch.column_by_name(RECEIVED).and_then(|column| column.as_primitive_opt::<TimestampMillisecondType>()) else {
        return Ok(batch.clone());
    };
    if received.null_count() == 0 && received.values().iter().all(|ms| *ms >= from_ms) {
        return Ok(batch.clone());
    }
    let keep: BooleanArray = received.iter().map(|ms| Some(ms.is_none_or(|ms| ms >= from_ms))).collect();
    filter_record_batch(batch, &keep)
}
