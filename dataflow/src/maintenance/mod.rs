//! The maintenance of the lake: few sorted files a day, rows gone when their time is over, deletions carried out.
//!
//! It has a thread of its own, works for a share of one core's time and within a bound of memory, and does one thing at a
//! time: write new files, register them in the place of others in one transaction, tell the publisher. Replaced files stay
//! for readers of older snapshots until the grace period ends. A process may die between any two steps: files that are not
//! registered are removed at the next start, and everything else is found in the catalog and gone on with.
//!
//! | module | noun |
//! |---|---|
//! | `plan` | what is to be done, decided from facts |
//! | `merge`, `read` | sorted files as one sorted stream |
//! | `erase` | deletions |
//! | `pace` | how fast |

mod erase;
mod merge;
mod pace;
mod plan;
mod read;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender};
use std::time::{Duration, Instant};

use arrow::array::{AsArray, BooleanArray, RecordBatch};
use arrow::datatypes::Int64Type;
use arrow::error::ArrowError;
use chrono::Datelike;
use tokio::runtime::Handle;
use weir_catalog::{Catalog, CatalogError, Lake, LiveFile, NewFile, PendingDeletion, Replacement};
use weir_journal::{AppendError, Journal};
use weir_operators::schema::{self, Table};
use weir_protocol::limits::DEDUPLICATION_WINDOW_MS;

use self::merge::Merged;
use self::pace::{Pace, Stopped};
use self::plan::{Date, Expiry, Limits, Merge, Parts};
use self::read::{Batches, Looking, ReadError};
use crate::lake::file::{Effort, FileWriter, WriteError};
use crate::lake::{Checksums, written};
use crate::progress::{MaintenanceReport, Progress};
use crate::publisher::Message;
use crate::snapshot::Snapshots;
use crate::telemetry;
use crate::ticker::now_ms;

/// How the lake is maintained.
#[derive(Debug, Clone)]
pub struct MaintenanceOptions {
    /// How long replaced files stay for readers of older snapshots.
    pub grace: Duration,
    /// How large a merged file should become, in bytes.
    pub file_bytes: u64,
    /// What reading and writing may take in memory, in bytes.
    pub memory_bytes: u64,
    /// How many hundredths of a core it may use.
    pub cpu_percent: u32,
    /// Ends the thread at a step of this name, as a kill would. Only tests set it.
    pub die_at: Option<&'static str>,
}

impl Default for MaintenanceOptions {
    fn default() -> Self {
        Self { grace: Duration::from_secs(3600), file_bytes: 128 << 20, memory_bytes: 96 << 20, cpu_percent: 50, die_at: None }
    }
}

/// Why a piece of work was not done.
#[derive(Debug, thiserror::Error)]
enum MaintenanceError {
    #[error(transparent)]
    Write(#[from] WriteError),
    #[error(transparent)]
    Read(#[from] ReadError),
    #[error("rewriting rows: {0}")]
    Rows(#[from] ArrowError),
    #[error(transparent)]
    Catalog(#[from] CatalogError),
    #[error("journalling what was done: {0}")]
    Append(#[from] AppendError),
    #[error("removing {path}: {source}")]
    Remove { path: PathBuf, source: std::io::Error },
    #[error(
        "a deletion waits: {0} files of the lake may hold what is to be deleted and cannot be rewritten here: another program has changed them, or they cannot be read"
    )]
    LeftAlone(usize),
    #[error("a deletion waits: {0} files that were committed just now may hold what is to be deleted, and are not shown yet")]
    NotShown(usize),
    #[error("the program stops")]
    Stopped,
}

impl From<Stopped> for MaintenanceError {
    fn from(_: Stopped) -> Self {
        Self::Stopped
    }
}

/// A file of the newest snapshot that queries see, too.
#[derive(Debug, Clone)]
struct Observed {
    live: LiveFile,
    table: &'static Table,
    class: Option<u16>,
    checksums: Checksums,
}

/// The files that the catalog names.
#[derive(Default)]
struct Files {
    /// Those that can be maintained.
    observed: Vec<Observed>,
    /// What a commit has registered and the publisher does not know yet: it must not be replaced, or it would be shown twice.
    not_shown: Vec<Observed>,
    /// Those that another program has changed, or that cannot be read.
    left_alone: Vec<Observed>,
}

/// Where nothing tells otherwise, how often it is looked whether there is something to do.
const PASS_EVERY: Duration = Duration::from_secs(60);
const PASS_SOONEST: Duration = Duration::from_millis(200);
/// How long a registration of files waits that could not be made.
const REGISTER_AGAIN_AFTER: Duration = Duration::from_millis(500);
/// How long nothing is tried after a failure.
const RETRY_AFTER: Duration = Duration::from_secs(10);

/// What the maintenance works with.
pub(crate) struct Tools {
    pub(crate) options: MaintenanceOptions,
    pub(crate) catalog: Catalog,
    pub(crate) journal: Journal,
    pub(crate) lake: Lake,
    pub(crate) tables_root: PathBuf,
    pub(crate) generation: i64,
    pub(crate) snapshots: Snapshots,
    pub(crate) publisher: SyncSender<Message>,
    pub(crate) progress: Arc<Progress>,
    pub(crate) runtime: Handle,
}

/// The maintenance, and what it remembers between passes: all of that can be found out again.
pub(crate) struct Maintenance {
    tools: Tools,
    pace: Pace,
    /// The projects of files that had to be asked, by the file's id.
    projects_of: BTreeMap<i64, BTreeSet<i64>>,
    /// Deletions whose completion is in the journal and not yet committed.
    erased: BTreeSet<i64>,
    /// Files that another program has changed, or that cannot be read.
    left_alone: BTreeSet<i64>,
    /// Which file could not be read last.
    unreadable: Option<String>,
    files_written: u64,
    expired_at: Option<Instant>,
    /// Whether deleted values may still stand in the catalog's write-ahead log.
    log_holds_deleted: bool,
}

impl std::ops::Deref for Maintenance {
    type Target = Tools;

    fn deref(&self) -> &Tools {
        &self.tools
    }
}

impl Maintenance {
    pub(crate) fn new(tools: Tools) -> Self {
        let pace = Pace::new(tools.options.cpu_percent, Arc::clone(&tools.progress));
        Self {
            tools,
            pace,
            projects_of: BTreeMap::new(),
            erased: BTreeSet::new(),
            left_alone: BTreeSet::new(),
            unreadable: None,
            files_written: 0,
            expired_at: None,
            log_holds_deleted: false,
        }
    }

    /// Works until the publisher ends. `committed` tells of each commit.
    pub(crate) fn run(mut self, committed: &Receiver<()>) {
        let mut wait = PASS_SOONEST;
        loop {
            match committed.recv_timeout(wait) {
                Ok(()) | Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return,
            }
            if self.progress.is_stopping() || self.progress.has_failed() {
                return;
            }
            let started = Instant::now();
            self.pace.begin();
            wait = match self.pass() {
                Ok(true) => Duration::ZERO,
                Ok(false) => (self.options.grace / 2).clamp(PASS_SOONEST, PASS_EVERY),
                Err(MaintenanceError::Stopped | MaintenanceError::Catalog(CatalogError::Fenced { .. })) => return,
                Err(MaintenanceError::Catalog(error @ CatalogError::Conflict { file })) => {
                    tracing::warn!(%error, "a file of the lake is not maintained");
                    self.left_alone.insert(file);
                    Duration::ZERO
                }
                Err(MaintenanceError::Read(error)) if self.leave_alone(&error.path) => {
                    metrics::counter!(telemetry::MAINTENANCE_FAILURES).increment(1);
                    tracing::error!(%error, "a file of the lake cannot be read and is not maintained");
                    self.unreadable = Some(format!("{error}; it is left alone until the next start: restore it from a backup"));
                    Duration::ZERO
                }
                Err(error) => {
                    metrics::counter!(telemetry::MAINTENANCE_FAILURES).increment(1);
                    tracing::warn!(%error, "the lake was not maintained, trying again");
                    let trouble = Some(error.to_string());
                    self.progress.maintained(MaintenanceReport { trouble, ..self.progress.report().maintenance });
                    RETRY_AFTER
                }
            };
            metrics::histogram!(telemetry::MAINTENANCE_SECONDS).record(started.elapsed().as_secs_f64());
        }
    }

    /// Does what is most urgent; says whether there may be more to do.
    fn pass(&mut self) -> Result<bool, MaintenanceError> {
        let deletions = self.runtime.block_on(self.catalog.pending_deletions())?;
        self.erased.retain(|seq| deletions.iter().any(|pending| pending.seq == *seq));
        let (mut worked, trouble) = self.carry_out(&deletions)?;
        let kept_days = self.kept_days()?;
        let files = self.observe()?;
        worked |= self.expire_rows(&files, &kept_days)?;
        let files = if worked { self.observe()? } else { files };
        let merging: Vec<plan::File> = files.iter().map(Observed::facts).collect();
        if let Some(merge) = plan::next_merge(&merging, today(), &kept_days, self.limits()) {
            self.merge(&merge, &files, &kept_days)?;
            worked = true;
        }
        let due = self.expired_at.is_none_or(|at| at.elapsed() >= (self.options.grace / 4).clamp(PASS_SOONEST, PASS_EVERY));
        if due || worked {
            self.clean_up(now_ms().saturating_sub(self.options.grace.as_millis() as u64))?;
            self.expired_at = Some(Instant::now());
        }
        if deletions.is_empty() && self.log_holds_deleted {
            self.runtime.block_on(self.catalog.forget_identities(now_ms().saturating_sub(DEDUPLICATION_WINDOW_MS + 120_000)))?;
            self.log_holds_deleted = !self.runtime.block_on(self.catalog.checkpoint())?;
        }
        self.report(&merging, &kept_days, deletions.len(), trouble.or_else(|| self.unreadable.clone()))?;
        Ok(worked)
    }

    /// Leaves a file alone from now on, so that nothing else waits for it; `false` where the catalog names none such.
    fn leave_alone(&mut self, path: &Path) -> bool {
        // A catalog that fails as well is told of by the next pass.
        let Ok(files) = self.look() else { return false };
        let found = files.observed.iter().find(|file| file.live.path == path).map(|file| file.live.id);
        found.is_some_and(|id| self.left_alone.insert(id))
    }

    /// Carries deletions out; says whether any was, and why one has to wait.
    fn carry_out(&mut self, deletions: &[PendingDeletion]) -> Result<(bool, Option<String>), MaintenanceError> {
        let (mut worked, mut waits) = (false, None);
        for pending in deletions {
            if self.erased.contains(&pending.seq) {
                continue;
            }
            match self.erase(pending) {
                // One that has to wait keeps nothing else from being done.
                Err(error @ (MaintenanceError::LeftAlone(_) | MaintenanceError::NotShown(_))) => waits = waits.or(Some(error.to_string())),
                erased => {
                    erased?;
                    self.erased.insert(pending.seq);
                    self.log_holds_deleted = true;
                    worked = true;
                }
            }
        }
        Ok((worked, waits))
    }

    fn report(&self, files: &[plan::File], kept_days: &BTreeMap<i64, u16>, pending_deletions: usize, trouble: Option<String>) -> Result<(), MaintenanceError> {
        let totals = self.runtime.block_on(self.catalog.lake_totals())?;
        let backlog_files = plan::backlog(files, today(), kept_days, self.limits());
        metrics::gauge!(telemetry::LAKE_FILES).set(totals.files as f64);
        metrics::gauge!(telemetry::LAKE_BYTES).set(totals.bytes as f64);
        metrics::gauge!(telemetry::LAKE_REPLACED_FILES).set(totals.replaced as f64);
        metrics::gauge!(telemetry::MAINTENANCE_BACKLOG_FILES).set(backlog_files as f64);
        metrics::gauge!(telemetry::PENDING_DELETIONS).set(pending_deletions as f64);
        self.progress.maintained(MaintenanceReport {
            files: totals.files,
            bytes: totals.bytes,
            replaced_files: totals.replaced,
            backlog_files: backlog_files as u64,
            pending_deletions: pending_deletions as u64,
            passes: self.progress.report().maintenance.passes + 1,
            trouble,
        });
        Ok(())
    }

    fn limits(&self) -> Limits {
        Limits { file_bytes: self.options.file_bytes, memory_bytes: self.options.memory_bytes }
    }

    /// The days that each project's rows are kept.
    fn kept_days(&self) -> Result<BTreeMap<i64, u16>, MaintenanceError> {
        let projects = self.runtime.block_on(self.catalog.projects())?;
        Ok(projects.into_iter().map(|row| (row.project.project_id as i64, row.project.retention_days)).collect())
    }

    /// The files that can be maintained.
    fn observe(&mut self) -> Result<Vec<Observed>, MaintenanceError> {
        Ok(self.look()?.observed)
    }

    /// The files that the catalog names.
    fn look(&mut self) -> Result<Files, MaintenanceError> {
        let live = self.runtime.block_on(self.catalog.live_files(&self.lake))?;
        let ids: BTreeSet<i64> = live.iter().map(|file| file.id).collect();
        self.left_alone.retain(|id| ids.contains(id));
        // After the catalog was asked: what is shown by then is no less.
        let snapshot = self.snapshots.latest();
        let shown: BTreeMap<&Path, &Checksums> =
            snapshot.tables.values().flat_map(|table| table.cold.iter().map(|file| (file.path.as_path(), &file.checksums))).collect();
        let mut files = Files::default();
        for live in live {
            let Some(table) = schema::table(&live.table) else { continue };
            let checksums = shown.get(live.path.as_path()).copied();
            let file = Observed { table, class: class_of(&live.path), checksums: checksums.cloned().unwrap_or_default(), live };
            if self.left_alone.contains(&file.live.id) {
                files.left_alone.push(file);
            } else if checksums.is_some() {
                files.observed.push(file);
            } else {
                files.not_shown.push(file);
            }
        }
        Ok(files)
    }

    /// Lets rows go whose time is over. Files of which all rows go are dropped, others rewritten.
    fn expire_rows(&mut self, files: &[Observed], kept_days: &BTreeMap<i64, u16>) -> Result<bool, MaintenanceError> {
        let today = today();
        let mut dropped: BTreeMap<&'static str, Vec<&Observed>> = BTreeMap::new();
        let mut worked = false;
        for file in files {
            let facts = file.facts();
            let mut expiry = plan::expiry(&facts, self.projects_of.get(&file.live.id), today, kept_days);
            if expiry == Expiry::Ask {
                let held = self.projects_in(file)?;
                expiry = plan::expiry(&facts, Some(&held), today, kept_days);
                self.projects_of.insert(file.live.id, held);
            }
            match expiry {
                Expiry::Drop => dropped.entry(file.table.name).or_default().push(file),
                Expiry::Rewrite => {
                    self.rewrite_expired(file, today, kept_days)?;
                    worked = true;
                }
                Expiry::Keep | Expiry::Ask => {}
            }
        }
        for (table, files) in dropped {
            let replacement = Replacement { generation: self.generation, table, old: files.iter().map(|f| f.live.id).collect(), ..Replacement::default() };
            let files: Vec<Observed> = files.into_iter().cloned().collect();
            self.replace(replacement, &files)?;
            metrics::counter!(telemetry::DELETED_ROWS, "reason" => "retention").increment(files.iter().map(|f| f.live.rows).sum());
            worked = true;
        }
        self.projects_of.retain(|id, _| files.iter().any(|file| file.live.id == *id));
        Ok(worked)
    }

    fn rewrite_expired(&mut self, file: &Observed, today: Date, kept_days: &BTreeMap<i64, u16>) -> Result<(), MaintenanceError> {
        let date = file.live.date;
        let kept = |project: i64| kept_days.get(&project).is_none_or(|days| !plan::is_over(date, today, *days));
        let new = self.write_merged(file.table, date, std::slice::from_ref(file), file.class, &|batch| by_project(batch, &kept))?;
        let gone = file.live.rows - new.iter().map(|f| f.rows).sum::<u64>();
        let replacement = Replacement { generation: self.generation, table: file.table.name, old: vec![file.live.id], new, identities: Vec::new() };
        self.replace(replacement, std::slice::from_ref(file))?;
        metrics::counter!(telemetry::DELETED_ROWS, "reason" => "retention").increment(gone);
        Ok(())
    }

    fn projects_in(&mut self, file: &Observed) -> Result<BTreeSet<i64>, MaintenanceError> {
        let mut held = BTreeSet::new();
        for batch in Batches::open(file, Some(&["project_id"]), Looking::default(), 1 << 20)? {
            let batch = batch?;
            let projects = batch.column(0).as_primitive_opt::<Int64Type>().ok_or_else(|| ArrowError::SchemaError("project_id is no integer".to_owned()))?;
            held.extend(projects.values().iter());
            self.pace.step()?;
        }
        Ok(held)
    }

    fn merge(&mut self, merge: &Merge, files: &[Observed], kept_days: &BTreeMap<i64, u16>) -> Result<(), MaintenanceError> {
        let merged: Vec<Observed> = files.iter().filter(|file| merge.files.contains(&file.live.id)).cloned().collect();
        let Some(table) = schema::table(merge.table) else { return Ok(()) };
        let mut new = Vec::new();
        match merge.parts {
            Parts::Whole => new.extend(self.write_merged(table, merge.date, &merged, None, &|_| Ok(None))?),
            Parts::Class(days) => new.extend(self.write_merged(table, merge.date, &merged, Some(days), &|_| Ok(None))?),
            Parts::ByClass => {
                let classes: BTreeSet<u16> = kept_days.values().copied().collect();
                // Rows of projects that the catalog does not know are kept longest.
                let longest = classes.last().copied().unwrap_or_default();
                for class in classes {
                    let of_class = |project: i64| kept_days.get(&project).copied().unwrap_or(longest) == class;
                    new.extend(self.write_merged(table, merge.date, &merged, Some(class), &|batch| by_project(batch, &of_class))?);
                }
            }
        }
        let old = merged.iter().map(|file| file.live.id).collect();
        let bytes: u64 = new.iter().map(|file| file.bytes).sum();
        self.replace(Replacement { generation: self.generation, table: table.name, old, new, identities: Vec::new() }, &merged)?;
        metrics::counter!(telemetry::MERGES, "table" => table.name).increment(1);
        metrics::counter!(telemetry::MERGED_FILES).increment(merged.len() as u64);
        metrics::counter!(telemetry::MERGED_BYTES).increment(bytes);
        Ok(())
    }

    /// Writes the wanted rows of some files, in their order, to as many files as they fill.
    fn write_merged(
        &mut self,
        table: &'static Table,
        date: Date,
        files: &[Observed],
        class: Option<u16>,
        wanted: &dyn Fn(&RecordBatch) -> Result<Option<BooleanArray>, MaintenanceError>,
    ) -> Result<Vec<NewFile>, MaintenanceError> {
        let rows = files.iter().map(|file| file.live.rows).sum::<u64>() as usize;
        let merged = Merged::open(table, files, self.options.memory_bytes as usize, wanted)?;
        let (root, file_bytes) = (self.tables_root.clone(), self.options.file_bytes as usize);
        let name = format!("g{}-m{}", self.generation, now_ms());
        let mut begun = Unregistered::default();
        let mut writer: Option<FileWriter> = None;
        merged.for_each(|batch| {
            self.pace.step()?;
            let mut current = match writer.take() {
                Some(writer) => writer,
                None => {
                    self.files_written += 1;
                    let class = class.map(|days| format!("-r{days}")).unwrap_or_default();
                    let relative = format!("{:04}-{:02}-{:02}/{name}-{}{class}.parquet", date.0, date.1, date.2, self.files_written);
                    FileWriter::create(&root, table, &relative, date, rows, Effort::Settle)?
                }
            };
            current.write(batch)?;
            if current.bytes() >= file_bytes {
                begun.add(&root, current.finish()?);
            } else {
                writer = Some(current);
            }
            Ok(())
        })?;
        if let Some(writer) = writer {
            begun.add(&root, writer.finish()?);
        }
        let written = begun.take();
        self.at("files written")?;
        Ok(written)
    }

    /// Registers files in the place of others and tells the publisher.
    fn replace(&mut self, replacement: Replacement, old: &[Observed]) -> Result<(), MaintenanceError> {
        let snapshot_id = match self.register(&replacement) {
            Ok(snapshot_id) => snapshot_id,
            Err(error) => {
                // Where nobody knows whether it was made, the files stay: the next start finds them named, or removes them.
                if !matches!(error, MaintenanceError::Catalog(CatalogError::Database(_)) | MaintenanceError::Stopped) {
                    let mut unregistered = Unregistered::default();
                    replacement.new.into_iter().for_each(|file| unregistered.add(&self.tables_root, file));
                }
                return Err(error);
            }
        };
        self.at("files registered")?;
        let new = replacement.new.iter().map(|file| written(&self.tables_root, file)).collect();
        self.tell(Message::Replaced { table: replacement.table, old: old.iter().map(|file| file.live.path.clone()).collect(), new, snapshot_id })?;
        self.until_shown(old)
    }

    /// Registers a replacement. A connection may end while it is committed; then it is tried again until it is known to be there, since
    /// everything that follows, the removal of files above all, depends on it.
    fn register(&mut self, replacement: &Replacement) -> Result<i64, MaintenanceError> {
        loop {
            match self.runtime.block_on(self.catalog.replace(&self.lake, replacement)) {
                Err(error) if error.is_transient() => {
                    metrics::counter!(telemetry::MAINTENANCE_FAILURES).increment(1);
                    tracing::warn!(%error, "files were not registered, trying again");
                    self.progress.maintained(MaintenanceReport { trouble: Some(error.to_string()), ..self.progress.report().maintenance });
                    std::thread::sleep(REGISTER_AGAIN_AFTER);
                    self.pace.begin();
                    self.pace.step()?;
                }
                registered => return Ok(registered?),
            }
        }
    }

    /// Waits until no new snapshot shows the old files: what is decided next must see the new ones.
    fn until_shown(&mut self, old: &[Observed]) -> Result<(), MaintenanceError> {
        let Some(first) = old.first() else { return Ok(()) };
        while self.snapshots.latest().table(first.table.name).is_some_and(|table| table.cold.iter().any(|file| file.path == first.live.path)) {
            std::thread::sleep(Duration::from_millis(1));
            self.pace.begin();
            self.pace.step()?;
        }
        Ok(())
    }

    fn tell(&self, message: Message) -> Result<(), MaintenanceError> {
        self.publisher.send(message).map_err(|_| MaintenanceError::Stopped)
    }

    /// Expires snapshots that were replaced before a moment, and removes the files that nobody reads any more.
    fn clean_up(&mut self, replaced_before_ms: u64) -> Result<(), MaintenanceError> {
        let expired = self.runtime.block_on(self.catalog.expire_snapshots(replaced_before_ms))?;
        self.at("snapshots expired")?;
        let scheduled = self.runtime.block_on(self.catalog.scheduled_files())?;
        if scheduled.is_empty() {
            return Ok(());
        }
        let in_use = self.snapshots.files_in_use();
        let mut removed = Vec::new();
        for file in scheduled.into_iter().filter(|file| !in_use.contains(&file.path)) {
            match std::fs::remove_file(&file.path) {
                Err(source) if source.kind() != std::io::ErrorKind::NotFound => return Err(MaintenanceError::Remove { path: file.path, source }),
                _ => removed.push(file.id),
            }
        }
        self.at("files removed")?;
        self.runtime.block_on(self.catalog.unschedule_files(&removed))?;
        metrics::counter!(telemetry::REMOVED_FILES).increment(removed.len() as u64);
        tracing::debug!(expired, removed = removed.len(), "replaced files were removed");
        Ok(())
    }

    /// A step at which a test may end the thread as a kill would.
    fn at(&self, step: &'static str) -> Result<(), MaintenanceError> {
        if self.options.die_at != Some(step) {
            return Ok(());
        }
        let trouble = Some(format!("died at {step}"));
        self.progress.maintained(MaintenanceReport { trouble, ..self.progress.report().maintenance });
        Err(MaintenanceError::Stopped)
    }
}

impl Observed {
    fn facts(&self) -> plan::File {
        let LiveFile { id, date, bytes, projects, .. } = self.live;
        plan::File { id, table: self.table.name, date, bytes, projects, class: self.class }
    }
}

/// Files that are written and not registered: they are removed where it does not come to that.
#[derive(Default)]
struct Unregistered(Vec<(PathBuf, NewFile)>);

impl Unregistered {
    fn add(&mut self, root: &Path, file: NewFile) {
        self.0.push((root.join(file.table).join(&file.path), file));
    }

    fn take(mut self) -> Vec<NewFile> {
        std::mem::take(&mut self.0).into_iter().map(|(_, file)| file).collect()
    }
}

impl Drop for Unregistered {
    fn drop(&mut self) {
        for (path, _) in &self.0 {
            if let Err(error) = std::fs::remove_file(path) {
                tracing::debug!(%error, path = %path.display(), "a file that is not registered is left for the next start to remove");
            }
        }
    }
}

/// Which rows are of wanted projects; nothing where all are.
fn by_project(batch: &RecordBatch, wanted: &dyn Fn(i64) -> bool) -> Result<Option<BooleanArray>, MaintenanceError> {
    let projects = batch.column_by_name("project_id").and_then(|column| column.as_primitive_opt::<Int64Type>());
    let projects = projects.ok_or_else(|| ArrowError::SchemaError("project_id is missing or no integer".to_owned()))?;
    let kept: BooleanArray = projects.values().iter().map(|project| Some(wanted(*project))).collect();
    Ok((kept.true_count() < kept.len()).then_some(kept))
}

/// The days that all rows of a file are kept, from its name, where a merge parted them so.
fn class_of(path: &Path) -> Option<u16> {
    let stem = path.file_stem()?.to_str()?;
    stem.rsplit('-').next()?.strip_prefix('r')?.parse().ok()
}

/// The date by which files are parted.
fn today() -> Date {
    let now = chrono::DateTime::from_timestamp_millis(now_ms() as i64).unwrap_or_default();
    (now.year(), now.month(), now.day())
}
