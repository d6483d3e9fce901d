//! What is durable: the segments, the newest records in memory, and what was found to be lost.

use std::collections::VecDeque;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use weir_protocol::record::Record;

use crate::PARTITION;
use crate::damage::Damage;
use crate::error::{AppendError, JournalError};
use crate::options::Options;
use crate::queue::Queue;
use crate::segment;
use crate::status::Status;
use crate::storage::Storage;
use crate::telemetry;

/// How many damaged places are remembered; each is counted and logged all the same.
pub(crate) const DAMAGES_MAX: usize = 100;

/// What the handle, the writer and the readers share. Where both locks are held, the queue's was taken first.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) options: Options,
    pub(crate) storage: Arc<dyn Storage>,
    pub(crate) queue: Queue,
    pub(crate) log: Mutex<Log>,
    /// Whether the next record begins a segment, however small the last one is.
    pub(crate) begin_segment: AtomicBool,
    /// Signalled when records became durable.
    pub(crate) readable: Condvar,
}

impl Shared {
    pub(crate) fn log(&self) -> MutexGuard<'_, Log> {
        locked(&self.log)
    }

    /// Where a segment is.
    pub(crate) fn path(&self, base: u64) -> PathBuf {
        self.options.dir.join(segment::name(base))
    }

    /// An I/O error in the journal's words.
    pub(crate) fn storage_error(&self, action: &'static str, base: u64) -> impl FnOnce(io::Error) -> JournalError {
        let file = self.path(base);
        move |source| JournalError::Storage { action, file, source }
    }
}

/// A lock whose holder panicked is used on: every holder leaves whole values behind.
pub(crate) fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A segment, as far as it is durable.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Segment {
    pub(crate) base: u64,
    pub(crate) length: u64,
}

/// A segment with the offset at which it ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Span {
    pub(crate) base: u64,
    pub(crate) length: u64,
    pub(crate) end: u64,
}

/// A record in memory, and where its frame ends.
#[derive(Debug)]
pub(crate) struct Kept {
    pub(crate) record: Arc<Record>,
    pub(crate) bytes: usize,
    pub(crate) base: u64,
    pub(crate) byte_after: u64,
}

/// The durable part of the journal.
#[derive(Debug)]
pub(crate) struct Log {
    /// In the order of their offsets.
    pub(crate) segments: Vec<Segment>,
    /// All segments together.
    pub(crate) bytes: u64,
    /// The first offset that readers may ask for.
    pub(crate) start: u64,
    /// The offset after the last durable record.
    pub(crate) end: u64,
    pub(crate) error: Option<AppendError>,
    pub(crate) damages: Vec<Damage>,
    tail: VecDeque<Kept>,
    tail_bytes: usize,
}

impl Log {
    pub(crate) fn new(segments: Vec<Segment>, end: u64) -> Self {
        let bytes = segments.iter().map(|segment| segment.length).sum();
        let start = segments.first().map_or(end, |segment| segment.base);
        Self { segments, bytes, start, end, error: None, damages: Vec::new(), tail: VecDeque::new(), tail_bytes: 0 }
    }

    /// The segment that holds an offset below the end.
    pub(crate) fn span(&self, offset: u64) -> Option<Span> {
        let index = self.segments.partition_point(|segment| segment.base <= offset).checked_sub(1)?;
        let Segment { base, length } = self.segments[index];
        let end = self.segments.get(index + 1).map_or(self.end, |next| next.base);
        Some(Span { base, length, end })
    }

    /// The offset of the first record in memory; the end where there is none.
    pub(crate) fn tail_start(&self) -> u64 {
        self.end - self.tail.len() as u64
    }

    /// The records in memory from an offset on.
    pub(crate) fn tail_from(&self, offset: u64) -> impl Iterator<Item = &Kept> {
        self.tail.iter().skip(offset.saturating_sub(self.tail_start()) as usize)
    }

    /// Takes a durable record into memory, and lets older ones go.
    pub(crate) fn push(&mut self, kept: Kept, tail_bytes_max: usize) {
        self.end += 1;
        self.tail_bytes += kept.bytes;
        self.tail.push_back(kept);
        while self.tail_bytes > tail_bytes_max {
            let Some(oldest) = self.tail.pop_front() else { break };
            self.tail_bytes -= oldest.bytes;
        }
    }

    /// How many segments can go when records below an offset are not needed. The last one with records stays, so that a start
    /// finds where the offsets have come to; so does an empty one behind it.
    pub(crate) fn droppable(&self, offset: u64) -> usize {
        let last_with_records = self.segments.iter().rposition(|segment| segment.base < self.end).unwrap_or(0);
        let below = self.segments.iter().skip(1).take_while(|next| next.base <= offset).count();
        below.min(last_with_records)
    }

    /// Reports a damage, once.
    pub(crate) fn note(&mut self, damage: &Damage) {
        let known = self.damages.iter().any(|d| d.position == damage.position);
        if known {
            return;
        }
        tracing::error!(%damage, "the journal is damaged");
        metrics::counter!(telemetry::DAMAGED_RECORDS).increment(damage.records());
        if self.damages.len() < DAMAGES_MAX {
            self.damages.push(damage.clone());
        }
    }

    pub(crate) fn status(&self, place: &Path) -> Status {
        Status {
            healthy: self.error.is_none(),
            error: self.error.as_ref().map(ToString::to_string),
            place: place.display().to_string(),
            bytes: self.bytes,
            segments: self.segments.len(),
            starts: [(PARTITION, self.start)].into(),
            ends: [(PARTITION, self.end)].into(),
            damages: self.damages.clone(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whole_segments_below_an_offset_can_go_but_never_the_last_with_records() {
        let check = |bases: &[u64], end: u64, offset: u64, expected: usize| {
            let segments = bases.iter().map(|&base| Segment { base, length: 100 }).collect();
            assert_eq!(Log::new(segments, end).droppable(offset), expected, "{bases:?} to {end} before {offset}");
        };
        check(&[], 0, 5, 0);
        check(&[0], 9, 9, 0);
        check(&[0, 10, 20], 25, 9, 0);
        check(&[0, 10, 20], 25, 10, 1);
        check(&[0, 10, 20], 25, 19, 1);
        check(&[0, 10, 20], 25, 25, 2);
        check(&[0, 10, 20], 20, 20, 1);
        check(&[0, 10, 20], 25, u64::MAX, 2);
        check(&[0], 0, 5, 0);
    }
}
