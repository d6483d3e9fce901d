//! What the threads of the graph know of each other: how far it is, whether it must pause, whether it ends.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::SeqCst};
use std::sync::{Mutex, PoisonError};

use serde::Serialize;
use weir_journal::Offsets;
use weir_operators::Time;

/// Shared by ticker, publisher and committer, and shown by the health page.
#[derive(Debug, Default)]
pub struct Progress {
    released_ticks: AtomicU64,
    completed_ticks: AtomicU64,
    released_tick: AtomicU64,
    published_tick: AtomicU64,
    visible_offsets: Mutex<Offsets>,
    committed_offsets: Mutex<Offsets>,
    committed_ms: AtomicU64,
    paused: AtomicBool,
    holds: AtomicU64,
    stopping: AtomicBool,
    fenced: AtomicBool,
    failure: Mutex<Option<String>>,
    trouble: Mutex<BTreeMap<&'static str, String>>,
    damages: AtomicU64,
    maintenance: Mutex<MaintenanceReport>,
}

/// The same at one moment.
#[derive(Debug, Clone, Serialize)]
pub struct ProgressReport {
    /// The newest tick that queries see, in Unix milliseconds.
    pub published_tick_ms: Time,
    /// The offset up to which each partition of the journal is in the tables.
    pub visible_offsets: Offsets,
    /// The offset up to which each partition is committed.
    pub committed_offsets: Offsets,
    /// When the last commit was made, in Unix milliseconds; 0 where there was none since the start.
    pub committed_ms: u64,
    /// Whether the graph waits for a commit, since its memory is used up.
    pub paused: bool,
    /// Damaged places of the journal that were passed over since the start.
    pub damages: u64,
    /// What goes wrong at present and is tried again.
    pub trouble: Option<String>,
    /// What ended the graph.
    pub failure: Option<String>,
    /// How the lake is maintained.
    pub maintenance: MaintenanceReport,
}

/// The maintenance of the lake as of its last pass.
#[derive(Debug, Clone, Default, Serialize)]
pub struct MaintenanceReport {
    /// Files of the newest snapshot.
    pub files: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Files that were replaced and are not yet removed.
    pub replaced_files: u64,
    /// Files that wait to be merged.
    pub backlog_files: u64,
    /// Deletions that are committed and not yet carried out.
    pub pending_deletions: u64,
    /// Passes since the start.
    pub passes: u64,
    /// What failed last, and is tried again.
    pub trouble: Option<String>,
}

fn set(kept: &Mutex<Offsets>, offsets: &Offsets) {
    let mut kept = kept.lock().unwrap_or_else(PoisonError::into_inner);
    if *kept != *offsets {
        kept.clone_from(offsets);
    }
}

impl ProgressReport {
    /// How many records of the partitions that are read here are not in the tables yet, where the journal ends at `ends`.
    pub fn lag_records(&self, ends: &Offsets) -> u64 {
        self.visible_offsets.iter().map(|(partition, visible)| ends.get(partition).map_or(0, |end| end.saturating_sub(*visible))).sum()
    }
}

impl Progress {
    pub(crate) fn released(&self, tick: Time) {
        self.released_tick.store(tick, SeqCst);
        self.released_ticks.fetch_add(1, SeqCst);
    }

    pub(crate) fn completed(&self, ticks: u64) {
        self.completed_ticks.fetch_add(ticks, SeqCst);
    }

    pub(crate) fn ticks_in_flight(&self) -> u64 {
        self.released_ticks.load(SeqCst).saturating_sub(self.completed_ticks.load(SeqCst))
    }

    pub(crate) fn published(&self, tick: Time, offsets: &Offsets) {
        self.published_tick.store(tick, SeqCst);
        set(&self.visible_offsets, offsets);
    }

    pub(crate) fn committed(&self, offsets: &Offsets, now_ms: u64) {
        set(&self.committed_offsets, offsets);
        self.committed_ms.store(now_ms, SeqCst);
    }

    pub(crate) fn damaged(&self, places: u64) {
        self.damages.fetch_add(places, SeqCst);
    }

    pub(crate) fn pause(&self, paused: bool) {
        self.paused.store(paused, SeqCst);
    }

    /// No tick follows until this is undone by [`Self::resume`]: what the ticks make piles up somewhere.
    pub(crate) fn hold(&self) {
        self.holds.fetch_add(1, SeqCst);
    }

    /// Undoes one [`Self::hold`].
    pub(crate) fn resume(&self) {
        self.holds.fetch_sub(1, SeqCst);
    }

    pub(crate) fn is_paused(&self) -> bool {
        self.paused.load(SeqCst) || self.holds.load(SeqCst) > 0
    }

    pub(crate) fn published_tick(&self) -> Time {
        self.published_tick.load(SeqCst)
    }

    pub(crate) fn stop(&self) {
        self.stopping.store(true, SeqCst);
    }

    pub(crate) fn is_stopping(&self) -> bool {
        self.stopping.load(SeqCst)
    }

    /// Something failed that is tried again; `None` when it went well at last.
    pub(crate) fn trouble(&self, text: Option<String>) {
        self.trouble_with("commits", text);
    }

    /// The same of something else than the tables' commits.
    pub fn trouble_with(&self, what: &'static str, text: Option<String>) {
        let mut trouble = self.trouble.lock().unwrap_or_else(PoisonError::into_inner);
        match text {
            Some(text) => trouble.insert(what, text),
            None => trouble.remove(what),
        };
    }

    fn troubles(&self) -> Option<String> {
        let trouble = self.trouble.lock().unwrap_or_else(PoisonError::into_inner);
        (!trouble.is_empty()).then(|| trouble.values().cloned().collect::<Vec<_>>().join("; "))
    }

    /// A pass of the maintenance ended.
    pub(crate) fn maintained(&self, report: MaintenanceReport) {
        *self.maintenance.lock().unwrap_or_else(PoisonError::into_inner) = report;
    }

    /// Something failed for good: the process must end.
    pub(crate) fn fail(&self, text: String) {
        self.failure.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(text);
    }

    /// Another process has taken partitions over: this graph must end, and can be started again with others.
    pub(crate) fn fence(&self, text: String) {
        self.fenced.store(true, SeqCst);
        self.fail(text);
    }

    /// Whether the graph ended since another process has taken partitions over.
    pub fn is_fenced(&self) -> bool {
        self.fenced.load(SeqCst)
    }

    pub(crate) fn has_failed(&self) -> bool {
        self.failure.lock().unwrap_or_else(PoisonError::into_inner).is_some()
    }

    /// How far the graph is.
    pub fn report(&self) -> ProgressReport {
        ProgressReport {
            published_tick_ms: self.published_tick.load(SeqCst),
            visible_offsets: self.visible_offsets.lock().unwrap_or_else(PoisonError::into_inner).clone(),
            committed_offsets: self.committed_offsets.lock().unwrap_or_else(PoisonError::into_inner).clone(),
            committed_ms: self.committed_ms.load(SeqCst),
            paused: self.is_paused(),
            damages: self.damages.load(SeqCst),
            trouble: self.troubles(),
            failure: self.failure.lock().unwrap_or_else(PoisonError::into_inner).clone(),
            maintenance: self.maintenance.lock().unwrap_or_else(PoisonError::into_inner).clone(),
        }
    }
}
