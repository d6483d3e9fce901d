//! What queries read: every table as it stands at one tick.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use arc_swap::ArcSwap;
use arrow::array::RecordBatch;
use tokio::sync::watch;

use crate::lake::Checksums;
use crate::reach::Reach;

/// All tables at one tick. Immutable; a query holds one for as long as it runs.
#[derive(Debug, Clone, Default)]
pub struct Snapshot {
    /// The tick, in Unix milliseconds: `now()` of a query over this snapshot.
    pub tick_ms: u64,
    /// The tables by name; every table of [`weir_operators::schema`] is there.
    pub tables: BTreeMap<&'static str, TableSnapshot>,
    /// Deletions that are not carried out yet: no reader shows what they reach.
    pub deletions: Arc<[Arc<Reach>]>,
}

/// One table at one tick: the rows since the last commit, and the files before it. No row is in both.
#[derive(Debug, Clone)]
pub struct TableSnapshot {
    /// Rows since the last commit, in the table's stored schema.
    pub hot: Arc<[RecordBatch]>,
    /// Committed Parquet files, in the table's stored schema.
    pub cold: Arc<[DataFile]>,
}

/// A committed Parquet file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DataFile {
    /// Where it is.
    pub path: PathBuf,
    /// Its size in bytes.
    pub bytes: u64,
    /// The checksums of its blocks.
    pub checksums: Checksums,
    /// Its rows.
    pub rows: u64,
    /// Least and greatest `received` of its rows, in Unix milliseconds.
    pub received_ms: (i64, i64),
    /// Least and greatest `project_id` of its rows.
    pub project_id: (i64, i64),
}

impl Snapshot {
    /// A table by name.
    pub fn table(&self, name: &str) -> Option<&TableSnapshot> {
        self.tables.get(name)
    }
}

/// The newest snapshot, published by the graph and read by queries. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Snapshots {
    latest: Arc<ArcSwap<Snapshot>>,
    published: Arc<watch::Sender<u64>>,
    /// Lists of files that were replaced, which a query may still hold.
    retired: Arc<Mutex<Vec<Weak<[DataFile]>>>>,
}

impl Snapshots {
    /// Begins with one snapshot.
    pub fn new(first: Snapshot) -> Self {
        let (published, _) = watch::channel(first.tick_ms);
        Self { latest: Arc::new(ArcSwap::from_pointee(first)), published: Arc::new(published), retired: Arc::default() }
    }

    /// The newest snapshot.
    pub fn latest(&self) -> Arc<Snapshot> {
        self.latest.load_full()
    }

    /// Remembers lists of files that newer snapshots do not have, for as long as queries hold them.
    pub(crate) fn retire(&self, lists: impl IntoIterator<Item = Arc<[DataFile]>>) {
        let mut retired = self.retired.lock().unwrap_or_else(PoisonError::into_inner);
        retired.retain(|list| list.strong_count() > 0);
        retired.extend(lists.into_iter().map(|list| Arc::downgrade(&list)));
    }

    /// The files that the newest snapshot names, and those that some query still holds.
    pub(crate) fn files_in_use(&self) -> BTreeSet<PathBuf> {
        let retired = self.retired.lock().unwrap_or_else(PoisonError::into_inner);
        let held: Vec<Arc<[DataFile]>> = retired.iter().filter_map(Weak::upgrade).collect();
        drop(retired);
        let latest = self.latest();
        let shown = latest.tables.values().flat_map(|table| table.cold.iter());
        held.iter().flat_map(|files| files.iter()).chain(shown).map(|file| file.path.clone()).collect()
    }

    /// Makes a snapshot the newest.
    pub(crate) fn publish(&self, snapshot: Snapshot) {
        let tick = snapshot.tick_ms;
        self.latest.store(Arc::new(snapshot));
        self.published.send_replace(tick);
    }

    /// Waits until a snapshot of at least this tick is published, and returns the newest then.
    pub async fn at_least(&self, tick_ms: u64) -> Arc<Snapshot> {
        let mut ticks = self.published.subscribe();
        // The sender lives as long as `self`, so waiting cannot fail.
        let _ = ticks.wait_for(|tick| *tick >= tick_ms).await;
        self.latest()
    }
}
