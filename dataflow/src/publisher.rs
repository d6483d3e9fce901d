//! The publisher: gathers what the workers made of each tick, publishes snapshots, and decides when to commit.
//!
//! It is the one owner of the tables in memory. Rows go from hot to frozen (being committed) to cold; a snapshot shows all
//! three, so a query sees each row once whatever the moment.

use std::collections::{BTreeMap, BTreeSet};
use std::mem;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender};
use std::time::{Duration, Instant};

use arrow::array::RecordBatch;
use weir_journal::{Damage, Journal};
use weir_operators::Time;
use weir_operators::issues::{IssueState, RemovedIssue};
use weir_operators::output::Output;
use weir_operators::rows::{IssueRow, ProjectRow};
use weir_operators::schema::{self, TableKind};
use weir_protocol::deletion::Deletion;

use crate::committer::{Epoch, EpochCommitted};
use crate::current::{Current, Key};
use crate::hot::Hot;
use crate::others::{Committed, Own};
use crate::progress::Progress;
use crate::reach::Reach;
use crate::snapshot::{DataFile, Snapshot, Snapshots, TableSnapshot};
use crate::subscriptions::command::Notice;
use crate::telemetry;
use crate::ticker::now_ms;

/// What reaches the publisher. The channel is bounded by the ticks in flight and by one commit at a time.
pub(crate) enum Message {
    /// The ticker released a tick.
    Released { tick: Time, upper: BTreeMap<u16, u64>, damages: Vec<Damage> },
    /// A worker completed all ticks before `frontier`; `None` when it ended.
    Advanced { worker: usize, frontier: Option<Time>, outputs: Vec<(Time, Output)> },
    /// A commit was made.
    Committed(EpochCommitted),
    /// The committer gave up; what is not committed stays in the journal.
    Uncommitted,
    /// Files of a table took the place of others.
    Replaced { table: &'static str, old: Vec<PathBuf>, new: Vec<DataFile>, snapshot_id: i64 },
    /// More is known of what a deletion reaches.
    Reaches(Reach),
    /// What other processes have committed.
    Others(Box<Committed>),
}

/// When to commit.
#[derive(Debug, Clone, Copy)]
pub struct CommitPolicy {
    /// How long a row may wait.
    pub age_max: Duration,
    /// How many bytes of rows may wait.
    pub bytes_max: usize,
}

/// Past this many times `bytes_max` of rows in memory the graph pauses until a commit succeeds.
const PAUSE_FACTOR: usize = 4;

pub(crate) struct Publisher {
    pub(crate) messages: Receiver<Message>,
    pub(crate) epochs: SyncSender<Epoch>,
    pub(crate) snapshots: Snapshots,
    pub(crate) journal: Journal,
    pub(crate) progress: Arc<Progress>,
    pub(crate) policy: CommitPolicy,
    pub(crate) tables: Tables,
    /// Told of each commit.
    pub(crate) maintenance: SyncSender<()>,
    /// Told of rows that are deleted as was not known before.
    pub(crate) notices: SyncSender<Notice>,
}

/// The tables in memory and what a commit has to take along.
#[derive(Default)]
pub(crate) struct Tables {
    pub(crate) hot: BTreeMap<&'static str, Hot>,
    pub(crate) frozen: BTreeMap<&'static str, Arc<[RecordBatch]>>,
    pub(crate) cold: BTreeMap<&'static str, Arc<[DataFile]>>,
    pub(crate) issues: Current<IssueRow>,
    pub(crate) projects: Current<ProjectRow>,
    /// Deletions that are not carried out yet, by their place in the journal.
    pub(crate) deletions: BTreeMap<i64, Arc<Reach>>,
    pub(crate) changed: Changed,
    /// The offset after the last record in the tables, by partition.
    pub(crate) upper: BTreeMap<u16, u64>,
    /// What of the tables is made here, where other processes make the rest.
    pub(crate) own: Option<Own>,
}

/// State rows that changed since the last commit.
#[derive(Default)]
pub(crate) struct Changed {
    /// Nothing for an issue that is gone.
    pub(crate) issues: BTreeMap<Key, Option<IssueState>>,
    /// Nothing for a hash that leads nowhere any more.
    pub(crate) hashes: BTreeMap<(u64, [u8; 16]), Option<i64>>,
    pub(crate) projects: BTreeMap<u64, ProjectRow>,
    pub(crate) issue_numbers: BTreeMap<u64, u64>,
    pub(crate) deletions: BTreeMap<i64, Deletion>,
    pub(crate) erased: Vec<i64>,
}

impl Changed {
    /// Whether something has to leave the disk that a commit lets go.
    fn is_urgent(&self) -> bool {
        !self.deletions.is_empty() || !self.erased.is_empty()
    }
}

impl Tables {
    /// Takes up what a worker made of a tick.
    fn apply(&mut self, output: Output) -> Result<(), arrow::error::ArrowError> {
        for (table, batch) in output.batches {
            metrics::counter!(telemetry::ROWS, "table" => table).increment(batch.num_rows() as u64);
            self.hot.entry(table).or_default().push(batch)?;
        }
        for state in output.issues {
            let key = (state.row.common.project_id, state.row.group_id);
            self.issues.upsert(key, state.row.clone());
            self.changed.issues.insert(key, Some(state));
        }
        for (project_id, hash, group_id) in output.hashes {
            self.changed.hashes.insert((project_id, hash), Some(group_id));
        }
        self.apply_deletions(&output.removed_issues, output.removed_hashes, output.deletions, output.erased);
        for project in output.projects {
            self.projects.upsert((project.common.project_id, 0), project.clone());
            self.changed.projects.insert(project.common.project_id as u64, project);
        }
        Ok(())
    }

    fn apply_deletions(&mut self, issues: &[RemovedIssue], hashes: Vec<(u64, [u8; 16])>, deletions: Vec<(i64, Deletion)>, erased: Vec<i64>) {
        for removed in issues {
            let key = (removed.project_id as i64, removed.group_id);
            self.issues.remove(&key);
            self.changed.issues.insert(key, None);
            self.changed.issue_numbers.insert(removed.project_id, removed.last_number);
        }
        self.changed.hashes.extend(hashes.into_iter().map(|key| (key, None)));
        for (seq, deletion) in deletions {
            self.deletions.insert(seq, Arc::new(Reach::new(seq, &deletion)));
            self.changed.deletions.insert(seq, deletion);
        }
        for seq in erased {
            self.deletions.remove(&seq);
            self.changed.deletions.remove(&seq);
            self.changed.erased.push(seq);
        }
    }

    pub(crate) fn snapshot(&mut self, tick_ms: Time) -> Snapshot {
        let mut tables = BTreeMap::new();
        for table in schema::tables() {
            let hot: Arc<[RecordBatch]> = match (table.kind, table.name) {
                (TableKind::Current, "issues") => self.issues.batches(),
                (TableKind::Current, "projects") => self.projects.batches(),
                _ => {
                    let frozen = self.frozen.get(table.name).into_iter().flat_map(|batches| batches.iter());
                    frozen.chain(self.hot.get(table.name).into_iter().flat_map(Hot::iter)).cloned().collect()
                }
            };
            let cold = self.cold.get(table.name).cloned().unwrap_or_default();
            tables.insert(table.name, TableSnapshot { hot, cold });
        }
        Snapshot { tick_ms, tables, deletions: self.deletions.values().cloned().collect() }
    }

    fn hot_bytes(&self) -> usize {
        self.hot.values().map(Hot::bytes).sum()
    }

    /// Whether there is anything to commit. Records that made no rows (an idle project's, say) count: their offsets do.
    fn is_dirty(&self, committed: &BTreeMap<u16, u64>) -> bool {
        self.upper != *committed || self.hot.values().any(|hot| !hot.is_empty())
    }

    /// Turns what is hot into an epoch to be committed; it stays visible as frozen.
    fn freeze(&mut self, tick: Time) -> Epoch {
        self.frozen = mem::take(&mut self.hot).into_iter().filter(|(_, hot)| !hot.is_empty()).map(|(table, hot)| (table, hot.batches())).collect();
        Epoch { tick, offsets: self.upper.clone(), tables: self.frozen.clone(), changed: mem::take(&mut self.changed) }
    }

    /// What was frozen is in files now. Returns the lists that were without them.
    fn thaw(&mut self, files: Vec<(&'static str, DataFile)>) -> Vec<Arc<[DataFile]>> {
        self.frozen.clear();
        let add = |(table, file)| {
            let cold = self.cold.entry(table).or_default();
            let grown = cold.iter().cloned().chain([file]).collect();
            mem::replace(cold, grown)
        };
        files.into_iter().map(add).collect()
    }
}

impl Tables {
    /// Shows what other processes have committed; returns the lists of files that were shown before.
    fn take_up(&mut self, committed: Committed) -> Vec<Arc<[DataFile]>> {
        let Some(own) = self.own.as_ref() else { return Vec::new() };
        let Committed { mut files, gone, issues, projects, deletions, .. } = committed;
        let mut before = Vec::new();
        for table in schema::tables() {
            let others = files.remove(table.name).unwrap_or_default();
            let list = self.cold.entry(table.name).or_default();
            let own = list.iter().filter(|file| own.wrote(file) && !gone.contains(&file.path)).cloned();
            let new: Arc<[DataFile]> = own.chain(others).collect();
            if *list != new {
                before.push(mem::replace(list, new));
            }
        }
        let others = |project_id: i64| !own.holds(project_id as u64);
        let known: BTreeSet<Key> = issues.iter().map(|row| (row.common.project_id, row.group_id)).collect();
        let vanished: Vec<Key> = self.issues.keys().filter(|key| others(key.0) && !known.contains(key)).collect();
        vanished.iter().for_each(|key| self.issues.remove(key));
        for row in issues {
            let key = (row.common.project_id, row.group_id);
            if self.issues.get(&key).is_none_or(|shown| *shown != row) {
                self.issues.upsert(key, row);
            }
        }
        for row in projects {
            let key = (row.common.project_id, 0);
            if self.projects.get(&key).is_none_or(|shown| *shown != row) {
                self.projects.upsert(key, row);
            }
        }
        let standing: BTreeSet<i64> = deletions.iter().map(|(seq, _)| *seq).collect();
        self.deletions.retain(|seq, reach| !others(reach.project_id()) || standing.contains(seq));
        for (seq, deletion) in deletions {
            self.deletions.entry(seq).or_insert_with(|| Arc::new(Reach::new(seq, &deletion)));
        }
        before
    }

    /// Puts files in the place of others; returns the list that had the others.
    fn replace(&mut self, table: &'static str, old: &[PathBuf], new: Vec<DataFile>) -> Option<Arc<[DataFile]>> {
        let cold = self.cold.get_mut(table)?;
        let kept = cold.iter().filter(|file| !old.contains(&file.path)).cloned();
        let replaced = kept.chain(new).collect();
        Some(mem::replace(cold, replaced))
    }
}

/// What the publisher remembers between messages.
#[derive(Default)]
struct Ticks {
    released: BTreeMap<Time, BTreeMap<u16, u64>>,
    outputs: BTreeMap<Time, Vec<Output>>,
    /// The workers' frontiers; `None` is the end.
    frontiers: Vec<Option<Time>>,
    committed: BTreeMap<u16, u64>,
    last_tick: Time,
    dirty_since: Option<Instant>,
    committing: bool,
    gave_up: bool,
    /// The newest snapshot of the lake in which this process replaced files.
    replaced: i64,
}

impl Publisher {
    /// Publishes until all workers have ended, then commits what is left.
    pub(crate) fn run(mut self, workers: usize) -> Result<(), arrow::error::ArrowError> {
        let mut ticks = Ticks { frontiers: vec![Some(0); workers], committed: self.tables.upper.clone(), ..Ticks::default() };
        loop {
            match self.messages.recv_timeout(self.time_to_commit(&ticks)) {
                Ok(message) => self.take(message, &mut ticks)?,
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return Ok(()),
            }
            let ended = ticks.frontiers.iter().all(Option::is_none);
            if self.must_commit(&ticks, ended) {
                ticks.committing = true;
                ticks.dirty_since = None;
                let epoch = self.tables.freeze(ticks.last_tick);
                if self.epochs.send(epoch).is_err() {
                    return Ok(());
                }
            }
            if ended && !ticks.committing && (ticks.gave_up || !self.tables.is_dirty(&ticks.committed)) {
                return Ok(());
            }
        }
    }

    fn time_to_commit(&self, ticks: &Ticks) -> Duration {
        let age = ticks.dirty_since.map(|since| self.policy.age_max.saturating_sub(since.elapsed()));
        age.filter(|_| !ticks.committing).unwrap_or(Duration::from_secs(60)).max(Duration::from_millis(1))
    }

    fn must_commit(&self, ticks: &Ticks, ended: bool) -> bool {
        let due = self.tables.changed.is_urgent()
            || ticks.dirty_since.is_some_and(|since| since.elapsed() >= self.policy.age_max)
            || self.tables.hot_bytes() >= self.policy.bytes_max
            || ended;
        !ticks.committing && !ticks.gave_up && due && self.tables.is_dirty(&ticks.committed)
    }

    fn take(&mut self, message: Message, ticks: &mut Ticks) -> Result<(), arrow::error::ArrowError> {
        match message {
            Message::Released { tick, upper, damages } => {
                self.progress.damaged(damages.len() as u64);
                ticks.released.insert(tick, upper);
            }
            Message::Advanced { worker, frontier, outputs } => {
                ticks.frontiers[worker] = frontier;
                for (tick, output) in outputs {
                    ticks.outputs.entry(tick).or_default().push(output);
                }
                self.complete(ticks)?;
            }
            Message::Committed(done) => {
                ticks.committing = false;
                self.snapshots.retire(self.tables.thaw(done.files));
                self.snapshots.publish(self.tables.snapshot(ticks.last_tick));
                if let Err(error) = self.journal.truncate_before(&done.offsets) {
                    tracing::warn!(%error, "the journal was not truncated; it is tried again after the next commit");
                }
                self.progress.committed(&done.offsets, now_ms());
                ticks.committed = done.offsets;
                // One that waits already stands for this commit, too.
                let _ = self.maintenance.try_send(());
            }
            Message::Replaced { table, old, new, snapshot_id } => {
                ticks.replaced = ticks.replaced.max(snapshot_id);
                // Before the publication: whoever sees that the files are replaced must find out who holds them still.
                self.snapshots.retire(self.tables.replace(table, &old, new));
                self.snapshots.publish(self.tables.snapshot(ticks.last_tick));
            }
            Message::Reaches(reach) => {
                // It may have been carried out since, by another process before this one.
                if let Some(known) = self.tables.deletions.get_mut(&reach.seq).filter(|known| ***known != reach) {
                    *known = Arc::new(reach);
                    self.snapshots.publish(self.tables.snapshot(ticks.last_tick));
                    // Whoever was given rows that are reached only now is to be without them.
                    let _ = self.notices.send(Notice::Deleted);
                }
            }
            Message::Others(committed) => {
                // What was read before this process replaced files would show them again; it is read anew, since the replacement changed it.
                if committed.snapshot_id >= ticks.replaced {
                    self.snapshots.retire(self.tables.take_up(*committed));
                    self.snapshots.publish(self.tables.snapshot(ticks.last_tick));
                }
            }
            Message::Uncommitted => {
                ticks.committing = false;
                ticks.gave_up = true;
            }
        }
        self.watch_memory();
        Ok(())
    }

    /// Publishes the ticks that all workers have done with.
    fn complete(&mut self, ticks: &mut Ticks) -> Result<(), arrow::error::ArrowError> {
        let frontier = ticks.frontiers.iter().map(|f| f.unwrap_or(Time::MAX)).min().unwrap_or(Time::MAX);
        let mut completed = 0;
        let mut changed = false;
        let mut oldest_received = None;
        while let Some(entry) = ticks.released.first_entry() {
            if *entry.key() >= frontier {
                break;
            }
            let (tick, upper) = entry.remove_entry();
            completed += 1;
            ticks.last_tick = tick;
            changed |= !upper.is_empty();
            self.tables.upper.extend(upper);
            for output in ticks.outputs.remove(&tick).unwrap_or_default() {
                oldest_received = oldest_received.into_iter().chain(output.oldest_received_ms).min();
                self.tables.apply(output)?;
            }
        }
        if completed == 0 {
            return Ok(());
        }
        if changed {
            ticks.dirty_since.get_or_insert_with(Instant::now);
        }
        self.publish(ticks.last_tick, changed);
        self.progress.completed(completed);
        if let Some(received_ms) = oldest_received {
            metrics::histogram!(telemetry::VISIBLE_MS).record(now_ms().saturating_sub(received_ms) as f64);
        }
        Ok(())
    }

    fn publish(&mut self, tick: Time, changed: bool) {
        let snapshot = if changed { self.tables.snapshot(tick) } else { Snapshot { tick_ms: tick, ..Snapshot::clone(&self.snapshots.latest()) } };
        self.snapshots.publish(snapshot);
        self.progress.published(tick, &self.tables.upper);
        metrics::gauge!(telemetry::TICKS_IN_FLIGHT).set(self.progress.ticks_in_flight() as f64);
        let ends = self.journal.ends();
        let mut total = 0;
        for (partition, upper) in &self.tables.upper {
            let lag = ends.get(partition).map_or(0, |end| end.saturating_sub(*upper));
            metrics::gauge!(telemetry::PARTITION_LAG_RECORDS, "partition" => partition.to_string()).set(lag as f64);
            total += lag;
        }
        metrics::gauge!(telemetry::LAG_RECORDS).set(total as f64);
    }

    /// Rows that cannot be committed must not fill the memory: past the bound the graph reads no further until they are.
    fn watch_memory(&self) {
        let bytes = self.tables.hot_bytes();
        metrics::gauge!(telemetry::HOT_BYTES).set(bytes as f64);
        self.progress.pause(bytes > self.policy.bytes_max.saturating_mul(PAUSE_FACTOR));
    }
}
