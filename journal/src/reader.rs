//! Reads durable records of segments in order: the newest from memory, older ones from files.

use std::io;
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use weir_protocol::record::{Position, Record, RecordError};

use crate::PARTITION;
use crate::damage::Damage;
use crate::error::JournalError;
use crate::log::{Shared, Span};
use crate::open::damage;
use crate::segment;
use crate::walk::{Step, Walk};

/// What a damage counts against the bound of a read.
const DAMAGE_BYTES: usize = 256;

/// What a reader finds.
#[derive(Debug, Clone, PartialEq)]
pub enum Entry {
    /// A record.
    Record {
        /// Where it is.
        position: Position,
        /// What it says.
        record: Arc<Record>,
        /// What it takes in memory.
        bytes: usize,
    },
    /// Records that are lost; the next entry is the one behind them.
    Damaged(Damage),
}

impl Entry {
    pub(crate) fn next_offset(&self) -> u64 {
        match self {
            Self::Record { position, .. } => position.offset + 1,
            Self::Damaged(damage) => damage.next_offset,
        }
    }

    pub(crate) fn bytes(&self) -> usize {
        match self {
            Self::Record { bytes, .. } => *bytes,
            Self::Damaged(_) => DAMAGE_BYTES,
        }
    }
}

/// A place in the journal. Used by one thread; its calls block.
#[derive(Debug)]
pub struct SegmentReader {
    shared: Arc<Shared>,
    offset: u64,
    open: Option<OpenSegment>,
    /// Where the frame of `offset` begins, known from a record that was read from memory: segment and byte.
    place: Option<(u64, u64)>,
    /// Was read from a file, but did not fit into the last answer.
    held: Option<Entry>,
}

#[derive(Debug)]
struct OpenSegment {
    base: u64,
    walk: Walk,
}

/// What a read gathers.
struct Gathered {
    entries: Vec<Entry>,
    bytes: usize,
    bytes_max: usize,
}

impl Gathered {
    fn has_room_for(&self, bytes: usize) -> bool {
        self.entries.is_empty() || self.bytes + bytes <= self.bytes_max
    }

    fn push(&mut self, entry: Entry) {
        self.bytes += entry.bytes();
        self.entries.push(entry);
    }
}

/// Whether there may be more to read within the bound.
enum Progress {
    More,
    Done,
}

impl SegmentReader {
    pub(crate) fn new(shared: Arc<Shared>, offset: u64) -> Self {
        Self { shared, offset, open: None, place: None, held: None }
    }

    /// The offset of the next entry.
    #[cfg(test)]
    pub fn offset(&self) -> u64 {
        self.offset
    }

    /// Waits until something durable is there to read; false when the time has passed before.
    #[cfg(test)]
    pub fn wait(&mut self, timeout: Duration) -> bool {
        self.wait_unless(timeout, || false)
    }

    /// The same, but waits no longer once `called` holds, which is asked again after each [`Journal::wake_readers`]; false
    /// where there is nothing to read.
    ///
    /// [`Journal::wake_readers`]: crate::Journal::wake_readers
    pub fn wait_unless(&mut self, timeout: Duration, called: impl Fn() -> bool) -> bool {
        let log = self.shared.log();
        let waited = self.shared.readable.wait_timeout_while(log, timeout, |log| log.end <= self.offset && !called());
        let (log, _) = waited.unwrap_or_else(PoisonError::into_inner);
        log.end > self.offset
    }

    /// Whether everything durable was read.
    pub fn is_drained(&self) -> bool {
        self.held.is_none() && self.offset >= self.shared.log().end
    }

    /// Reads entries that take up to `bytes_max` together in memory, and at least one when there is any.
    ///
    /// # Errors
    /// [`JournalError::Truncated`] where the records asked for are held no longer; [`JournalError::Storage`] where a file cannot
    /// be read; [`JournalError::NewerRecord`] where a newer version wrote a record. The reader stays where it is.
    pub fn read(&mut self, bytes_max: usize) -> Result<Vec<Entry>, JournalError> {
        let mut gathered = Gathered { entries: Vec::new(), bytes: 0, bytes_max };
        if let Some(held) = self.held.take() {
            self.offset = held.next_offset();
            gathered.push(held);
        }
        loop {
            match self.gather(&mut gathered) {
                Ok(Progress::More) => {}
                Ok(Progress::Done) => break,
                Err(error) if gathered.entries.is_empty() => return Err(error),
                // What was read goes out first. The reader stands before what failed, so the next call meets it again.
                Err(error) => {
                    tracing::debug!(%error, offset = self.offset, "reading stops early");
                    break;
                }
            }
        }
        Ok(gathered.entries)
    }

    fn gather(&mut self, gathered: &mut Gathered) -> Result<Progress, JournalError> {
        let (span, until) = {
            let log = self.shared.log();
            if self.offset >= log.end {
                return Ok(Progress::Done);
            }
            if self.offset >= log.tail_start() {
                for (offset, kept) in (self.offset..).zip(log.tail_from(self.offset)) {
                    if !gathered.has_room_for(kept.bytes) {
                        break;
                    }
                    let position = Position { partition: PARTITION, offset };
                    gathered.push(Entry::Record { position, record: Arc::clone(&kept.record), bytes: kept.bytes });
                    self.offset = offset + 1;
                    self.place = Some((kept.base, kept.byte_after));
                }
                return Ok(Progress::Done);
            }
            if self.offset < log.start {
                return Err(JournalError::Truncated { wanted: self.offset, start: log.start, end: log.end });
            }
            (log.span(self.offset), log.tail_start())
        };
        match span {
            Some(span) => self.gather_from_file(span, until, gathered),
            None => Ok(Progress::Done),
        }
    }

    fn gather_from_file(&mut self, span: Span, until: u64, gathered: &mut Gathered) -> Result<Progress, JournalError> {
        let mut open = self.open_segment(span)?;
        let result = self.walk_on(&mut open, until, gathered);
        self.open = Some(open);
        result
    }

    fn walk_on(&mut self, open: &mut OpenSegment, until: u64, gathered: &mut Gathered) -> Result<Progress, JournalError> {
        while self.offset < until {
            let (byte, next) = open.walk.place();
            let entry = match open.walk.step().map_err(self.shared.storage_error("read", open.base))? {
                // Before the offset that the reader began with.
                Step::Frame { offset, .. } if offset < self.offset => continue,
                Step::Lost { next, .. } if next <= self.offset => continue,
                Step::Frame { offset, payload, byte: at } => self.record(open.base, offset, &payload, at).inspect_err(|_| {
                    // The record must be met again.
                    open.walk.seek(byte, next);
                })?,
                Step::Lost { first, next, byte, reason } => Entry::Damaged(damage(&self.shared, open.base, first, next, byte, reason)),
                Step::Torn { .. } | Step::End => break,
            };
            if let Entry::Damaged(damage) = &entry {
                self.shared.log().note(damage);
            }
            if !gathered.has_room_for(entry.bytes()) {
                self.held = Some(entry);
                return Ok(Progress::Done);
            }
            self.offset = entry.next_offset();
            gathered.push(entry);
        }
        Ok(Progress::More)
    }

    /// A frame whose checksums are right but that holds no record is damage as well: it was written wrong.
    fn record(&self, base: u64, offset: u64, payload: &Bytes, byte: u64) -> Result<Entry, JournalError> {
        match Record::decode(payload) {
            Ok(record) => {
                let bytes = record.bytes_in_memory();
                Ok(Entry::Record { position: Position { partition: PARTITION, offset }, record: Arc::new(record), bytes })
            }
            Err(source @ RecordError::Newer(_)) => Err(JournalError::NewerRecord { offset, file: self.shared.path(base), source }),
            Err(error) => Ok(Entry::Damaged(damage(&self.shared, base, offset, offset + 1, byte, error.to_string()))),
        }
    }

    /// The segment at the place from which the offset can be reached.
    fn open_segment(&mut self, span: Span) -> Result<OpenSegment, JournalError> {
        let mut open = match self.open.take() {
            Some(open) if open.base == span.base && open.walk.next() <= self.offset => open,
            _ => self.open_file(span)?,
        };
        open.walk.extend(span.length, span.end);
        if let Some((base, byte)) = self.place.take()
            && base == span.base
            && open.walk.next() < self.offset
        {
            open.walk.seek(byte, self.offset);
        }
        Ok(open)
    }

    fn open_file(&self, span: Span) -> Result<OpenSegment, JournalError> {
        let opened = self.shared.storage.open(&segment::name(span.base));
        let walk = opened.and_then(|file| Walk::begin(file, span.base, span.length, Some(span.end)));
        walk.map(|walk| OpenSegment { base: span.base, walk }).map_err(|error| self.not_read(span.base, error))
    }

    /// A file that is gone was truncated away meanwhile, unless somebody else removed it.
    fn not_read(&self, base: u64, error: io::Error) -> JournalError {
        let log = self.shared.log();
        if self.offset < log.start {
            return JournalError::Truncated { wanted: self.offset, start: log.start, end: log.end };
        }
        drop(log);
        self.shared.storage_error("read", base)(error)
    }
}
