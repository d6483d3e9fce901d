//! The committer: writes an epoch's rows to Parquet and registers them, with the state and the offsets, in one transaction.
//!
//! It has a thread of its own, so that neither a worker nor the publisher waits for a disk. What fails is tried again until
//! it succeeds: the rows stay visible in memory and durable in the journal meanwhile.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender};
use std::time::{Duration, Instant};

use arrow::array::{AsArray, RecordBatch, UInt32Array};
use arrow::compute::{SortColumn, concat_batches, lexsort_to_indices, take_record_batch};
use arrow::datatypes::TimestampMillisecondType;
use arrow::error::ArrowError;
use chrono::Datelike;
use tokio::runtime::Handle;
use weir_catalog::{Catalog, CatalogError, Commit, GroupHashRow, IssueStateRow, Lake, NewFile};
use weir_operators::Time;
use weir_operators::schema::{self, Table};

use crate::lake::file::{self, WriteError};
use crate::lake::written;
use crate::progress::Progress;
use crate::publisher::{Changed, Message};
use crate::snapshot::DataFile;
use crate::telemetry;

/// What is to be committed: everything up to a tick.
pub(crate) struct Epoch {
    pub(crate) tick: Time,
    pub(crate) offsets: BTreeMap<u16, u64>,
    pub(crate) tables: BTreeMap<&'static str, Arc<[RecordBatch]>>,
    pub(crate) changed: Changed,
}

/// What was committed.
pub(crate) struct EpochCommitted {
    pub(crate) offsets: BTreeMap<u16, u64>,
    pub(crate) files: Vec<(&'static str, DataFile)>,
}

/// Why an epoch was not committed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CommitError {
    #[error(transparent)]
    Write(#[from] WriteError),
    #[error("ordering rows: {0}")]
    Order(#[from] ArrowError),
    #[error("writing the state: {0}")]
    State(#[from] serde_json::Error),
    #[error(transparent)]
    Catalog(#[from] CatalogError),
}

/// The first pause after a failure; it doubles up to the longest.
const RETRY_FIRST: Duration = Duration::from_millis(200);
const RETRY_LONGEST: Duration = Duration::from_secs(10);
/// How long a stop goes on trying.
const STOP_PATIENCE: Duration = Duration::from_secs(3);

pub(crate) struct Committer {
    pub(crate) epochs: Receiver<Epoch>,
    pub(crate) publisher: SyncSender<Message>,
    pub(crate) catalog: Catalog,
    pub(crate) lake: Lake,
    pub(crate) tables_root: PathBuf,
    pub(crate) generation: i64,
    pub(crate) progress: Arc<Progress>,
    pub(crate) runtime: Handle,
}

impl Committer {
    /// Commits epoch after epoch until the publisher ends, or until another process has taken over.
    pub(crate) fn run(self) {
        while let Ok(epoch) = self.epochs.recv() {
            let message = match self.commit_until_done(&epoch) {
                Some(done) => Message::Committed(done),
                None => Message::Uncommitted,
            };
            if self.publisher.send(message).is_err() {
                return;
            }
        }
    }

    fn commit_until_done(&self, epoch: &Epoch) -> Option<EpochCommitted> {
        let mut pause = RETRY_FIRST;
        let mut stop_seen_at = None;
        loop {
            let started = Instant::now();
            match self.commit(epoch) {
                Ok(done) => {
                    metrics::counter!(telemetry::COMMITS).increment(1);
                    metrics::histogram!(telemetry::COMMIT_SECONDS).record(started.elapsed().as_secs_f64());
                    self.progress.trouble(None);
                    return Some(done);
                }
                Err(CommitError::Catalog(fenced @ CatalogError::Fenced { .. })) => {
                    tracing::error!(error = %fenced, "not committed");
                    self.progress.fence(fenced.to_string());
                    return None;
                }
                Err(error) => {
                    metrics::counter!(telemetry::COMMIT_FAILURES).increment(1);
                    tracing::warn!(%error, retry_ms = pause.as_millis() as u64, "commit failed, trying again");
                    self.progress.trouble(Some(format!("the last commit failed and is tried again: {error}")));
                }
            }
            if self.progress.is_stopping() && stop_seen_at.get_or_insert_with(Instant::now).elapsed() > STOP_PATIENCE {
                tracing::warn!("stopping without a last commit; what it held is in the journal and read at the next start");
                return None;
            }
            std::thread::sleep(pause);
            pause = (pause * 2).min(RETRY_LONGEST);
        }
    }

    fn commit(&self, epoch: &Epoch) -> Result<EpochCommitted, CommitError> {
        let mut files = Vec::new();
        for (name, batches) in &epoch.tables {
            if let Some(table) = schema::table(name) {
                files.extend(self.write_table(table, epoch.tick, batches)?);
            }
        }
        let visible = files.iter().map(|file| (file.table, written(&self.tables_root, file))).collect();
        metrics::counter!(telemetry::COMMIT_BYTES).increment(files.iter().map(|f| f.bytes).sum());
        let commit = Commit {
            generation: self.generation,
            tick_ms: epoch.tick,
            offsets: epoch.offsets.clone(),
            files,
            issues: issue_states(&epoch.changed)?,
            hashes: present(&epoch.changed.hashes, |(project_id, hash), group_id| GroupHashRow { project_id: *project_id, hash: *hash, group_id: *group_id }),
            removed_issues: absent(&epoch.changed.issues).map(|(project_id, group_id)| (*project_id as u64, *group_id)).collect(),
            removed_hashes: absent(&epoch.changed.hashes).copied().collect(),
            issue_numbers: epoch.changed.issue_numbers.iter().map(|(project_id, number)| (*project_id, *number)).collect(),
            deletions: epoch.changed.deletions.iter().map(|(seq, deletion)| (*seq, deletion.clone())).collect(),
            erased: epoch.changed.erased.clone(),
            projects: epoch.changed.projects.iter().map(|(id, row)| Ok((*id, serde_json::to_string(row)?))).collect::<Result<_, serde_json::Error>>()?,
        };
        self.runtime.block_on(self.catalog.commit(&self.lake, &commit))?;
        Ok(EpochCommitted { offsets: epoch.offsets.clone(), files: visible })
    }

    /// Writes a file a day. The name is that of the generation and the tick: a second try replaces what the first left.
    fn write_table(&self, table: &'static Table, tick: Time, batches: &[RecordBatch]) -> Result<Vec<NewFile>, CommitError> {
        let rows = concat_batches(table.stored_schema(), batches)?;
        let sorted = sorted(table, &rows)?;
        let mut files = Vec::new();
        for (date, rows) in by_date(&sorted)? {
            let (year, month, day) = date;
            let relative = format!("{year:04}-{month:02}-{day:02}/g{}-t{tick}.parquet", self.generation);
            files.push(file::write(&self.tables_root, table, &relative, date, &rows)?);
        }
        Ok(files)
    }
}

fn issue_states(changed: &Changed) -> Result<Vec<IssueStateRow>, serde_json::Error> {
    let row = |key: &(i64, i64), state: &_| Ok(IssueStateRow { project_id: key.0 as u64, group_id: key.1, state: serde_json::to_string(state)? });
    present(&changed.issues, row).into_iter().collect()
}

/// What is made of the entries that have a value.
fn present<K, V, T>(changed: &BTreeMap<K, Option<V>>, make: impl Fn(&K, &V) -> T) -> Vec<T> {
    changed.iter().filter_map(|(key, value)| value.as_ref().map(|value| make(key, value))).collect()
}

/// The keys of those that have none: what they stood for is gone.
fn absent<K, V>(changed: &BTreeMap<K, Option<V>>) -> impl Iterator<Item = &K> {
    changed.iter().filter(|(_, value)| value.is_none()).map(|(key, _)| key)
}

/// The rows in the table's order.
fn sorted(table: &Table, rows: &RecordBatch) -> Result<RecordBatch, ArrowError> {
    let column = |name: &&str| rows.column_by_name(name).map(|values| SortColumn { values: Arc::clone(values), options: None });
    let columns: Vec<SortColumn> = table.sort_key.iter().filter_map(column).collect();
    if columns.is_empty() {
        return Ok(rows.clone());
    }
    let order = lexsort_to_indices(&columns, None)?;
    // Rows that came in order are not copied.
    if order.values().is_sorted() {
        return Ok(rows.clone());
    }
    take_record_batch(rows, &order)
}

type Date = (i32, u32, u32);

/// The rows by the date of `received`, each part in the order of the whole.
fn by_date(rows: &RecordBatch) -> Result<Vec<(Date, RecordBatch)>, ArrowError> {
    let received = rows.column_by_name("received").ok_or_else(|| ArrowError::SchemaError("a table without received".to_owned()))?;
    let mut places: BTreeMap<Date, Vec<u32>> = BTreeMap::new();
    for (index, ms) in received.as_primitive::<TimestampMillisecondType>().values().iter().enumerate() {
        let date = chrono::DateTime::from_timestamp_millis(*ms).map_or((1970, 1, 1), |t| (t.year(), t.month(), t.day()));
        places.entry(date).or_default().push(index as u32);
    }
    if places.len() == 1 {
        return Ok(places.into_keys().map(|date| (date, rows.clone())).collect());
    }
    places.into_iter().map(|(date, indices)| Ok((date, take_record_batch(rows, &UInt32Array::from(indices))?))).collect()
}
