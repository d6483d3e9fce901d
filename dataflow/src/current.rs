//! Tables of current state: a row a key, changed in place, served from memory.

use std::collections::BTreeMap;
use std::hash::{BuildHasher, BuildHasherDefault, DefaultHasher};
use std::sync::Arc;

use arrow::array::RecordBatch;
use weir_operators::rows::TableRow;

/// Project and the id within it.
pub(crate) type Key = (i64, i64);

/// The rows of such a table in buckets of a few hundred, each with the batch that queries read. A change rebuilds the
/// batch of its bucket only, so that publishing costs what changed and not what there is.
#[derive(Debug)]
pub(crate) struct Current<R> {
    buckets: Vec<Bucket<R>>,
    rows: usize,
}

#[derive(Debug)]
struct Bucket<R> {
    rows: BTreeMap<Key, R>,
    batch: Option<RecordBatch>,
}

impl<R> Default for Bucket<R> {
    fn default() -> Self {
        Self { rows: BTreeMap::new(), batch: None }
    }
}

/// Rows of a bucket on the average; at twice as many the buckets are doubled.
const BUCKET_ROWS: usize = 128;

impl<R: TableRow + Clone> Default for Current<R> {
    fn default() -> Self {
        Self { buckets: vec![Bucket::default()], rows: 0 }
    }
}

impl<R: TableRow + Clone> Current<R> {
    /// Sets the row of a key.
    pub(crate) fn upsert(&mut self, key: Key, row: R) {
        if self.rows >= self.buckets.len() * BUCKET_ROWS * 2 {
            self.grow();
        }
        let at = index(&key, self.buckets.len());
        let bucket = &mut self.buckets[at];
        bucket.batch = None;
        if bucket.rows.insert(key, row).is_none() {
            self.rows += 1;
        }
    }

    /// Removes the row of a key.
    pub(crate) fn remove(&mut self, key: &Key) {
        let at = index(key, self.buckets.len());
        let bucket = &mut self.buckets[at];
        if bucket.rows.remove(key).is_some() {
            bucket.batch = None;
            self.rows -= 1;
        }
    }

    /// The row of a key.
    pub(crate) fn get(&self, key: &Key) -> Option<&R> {
        self.buckets[index(key, self.buckets.len())].rows.get(key)
    }

    /// The keys, in no order.
    pub(crate) fn keys(&self) -> impl Iterator<Item = Key> {
        self.buckets.iter().flat_map(|bucket| bucket.rows.keys().copied())
    }

    fn grow(&mut self) {
        let doubled = self.buckets.len() * 2;
        let old = std::mem::replace(&mut self.buckets, (0..doubled).map(|_| Bucket::default()).collect());
        for (key, row) in old.into_iter().flat_map(|bucket| bucket.rows) {
            self.buckets[index(&key, doubled)].rows.insert(key, row);
        }
    }

    /// All rows.
    pub(crate) fn batches(&mut self) -> Arc<[RecordBatch]> {
        let built = self.buckets.iter_mut().filter(|bucket| !bucket.rows.is_empty()).map(|bucket| {
            let rows = &bucket.rows;
            bucket.batch.get_or_insert_with(|| R::batch(&rows.values().cloned().collect::<Vec<_>>())).clone()
        });
        built.collect()
    }
}

fn index(key: &Key, buckets: usize) -> usize {
    BuildHasherDefault::<DefaultHasher>::default().hash_one(key) as usize % buckets
}
