//! What a start finds in the directory.
//!
//! Only the last segment is read: earlier ones are checked when they are read. A tail that a crash left unfinished is cut
//! off; damage before valid records is kept and reported.

use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Condvar, Mutex};

use weir_protocol::record::Position;

use crate::PARTITION;
use crate::damage::{Damage, Place, TornTail};
use crate::error::JournalError;
use crate::frame::HEAD_BYTES;
use crate::log::{Log, Segment, Shared};
use crate::options::Options;
use crate::queue::Queue;
use crate::segment::{self, FORMAT, HEADER_BYTES, Header};
use crate::storage::Storage;
use crate::walk::{Step, Walk};
use crate::writer::Active;

/// What was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Opened {
    /// How many segments there are.
    pub segments: usize,
    /// The first offset that is held.
    pub start: u64,
    /// The offset that the next record will have.
    pub end: u64,
    /// The unfinished end that was cut off.
    pub torn: Option<TornTail>,
    /// What is lost in the last segment; earlier ones are checked when they are read.
    pub damages: Vec<Damage>,
}

/// The journal at its start, and the segment to go on with.
pub(crate) struct Start {
    pub(crate) shared: Arc<Shared>,
    pub(crate) active: Option<Active>,
    pub(crate) opened: Opened,
}

/// What the last segment is.
#[derive(Default)]
struct Last {
    active: Option<Active>,
    end: u64,
    length: u64,
    torn: Option<TornTail>,
    damages: Vec<Damage>,
}

/// Opens what a directory holds.
pub(crate) fn open(options: Options, storage: Arc<dyn Storage>) -> Result<Start, JournalError> {
    let shared = Shared {
        options,
        storage,
        queue: Queue::new(),
        log: Mutex::new(Log::new(Vec::new(), 0)),
        begin_segment: AtomicBool::new(false),
        readable: Condvar::new(),
    };
    let mut segments = list(&shared)?;
    for segment in &segments {
        check_format(&shared, segment)?;
    }
    let last = match segments.last_mut() {
        None => Last::default(),
        Some(segment) => {
            let last = read_last(&shared, *segment)?;
            segment.length = last.length;
            last
        }
    };
    // The names may have been made just before a crash, and what is appended from now on relies on them.
    shared.storage.sync_dir().map_err(directory_error(&shared, "sync"))?;
    let mut log = Log::new(segments, last.end);
    last.damages.iter().for_each(|damage| log.note(damage));
    if let Some(TornTail { file, byte, bytes_dropped }) = &last.torn {
        tracing::warn!(file = %file.display(), byte, bytes_dropped, "the last segment was not finished; its end, of which nothing was acknowledged, was cut off");
    }
    metrics::gauge!(crate::telemetry::BYTES).set(log.bytes as f64);
    let opened = Opened { segments: log.segments.len(), start: log.start, end: log.end, torn: last.torn, damages: last.damages };
    *shared.log() = log;
    Ok(Start { shared: Arc::new(shared), active: last.active, opened })
}

fn list(shared: &Shared) -> Result<Vec<Segment>, JournalError> {
    let listed = shared.storage.list().map_err(directory_error(shared, "list"))?;
    let mut segments: Vec<Segment> = listed.iter().filter_map(|file| Some(Segment { base: segment::base(&file.name)?, length: file.bytes })).collect();
    segments.sort_by_key(|segment| segment.base);
    Ok(segments)
}

fn directory_error(shared: &Shared, action: &'static str) -> impl FnOnce(std::io::Error) -> JournalError {
    let file = shared.options.dir.clone();
    move |source| JournalError::Storage { action, file, source }
}

fn check_format(shared: &Shared, segment: &Segment) -> Result<(), JournalError> {
    let file = shared.storage.open(&segment::name(segment.base)).map_err(shared.storage_error("open", segment.base))?;
    let mut bytes = [0; HEADER_BYTES as usize];
    file.read_at(0, &mut bytes).map_err(shared.storage_error("read", segment.base))?;
    match segment::parse(&bytes) {
        Header::Newer(found) => Err(JournalError::Newer { file: shared.path(segment.base), found, known: FORMAT }),
        Header::Known { base, .. } if base != segment.base => {
            tracing::warn!(file = %shared.path(segment.base).display(), base, "the segment was given another name");
            Ok(())
        }
        _ => Ok(()),
    }
}

fn read_last(shared: &Shared, Segment { base, length }: Segment) -> Result<Last, JournalError> {
    let file = shared.storage.open(&segment::name(base)).map_err(shared.storage_error("open", base))?;
    let mut walk = Walk::begin(Arc::clone(&file), base, length, None).map_err(shared.storage_error("read", base))?;
    let header = walk.header().map_err(shared.storage_error("read", base))?;
    if walk.tag().is_none() {
        return Ok(unreadable(shared, base, length));
    }
    let mut damages = Vec::new();
    let (length, torn) = loop {
        match walk.step().map_err(shared.storage_error("read", base))? {
            Step::Frame { .. } => {}
            Step::Lost { first, next, byte, reason } => damages.push(damage(shared, base, first, next, byte, reason)),
            Step::Torn { byte, .. } => {
                file.truncate(byte).map_err(shared.storage_error("truncate", base))?;
                break (byte, Some(TornTail { file: shared.path(base), byte, bytes_dropped: length - byte }));
            }
            Step::End => break (length, None),
        }
    };
    // A process that was killed may have written what it did not sync. It is read from now on, so it must be durable.
    file.sync().map_err(shared.storage_error("sync", base))?;
    let active = match header {
        Header::Known { tag, base: named } if named == base => Some(Active { file, tag, base, length }),
        _ => None,
    };
    Ok(Last { active, end: walk.next(), length, torn, damages })
}

/// A last segment of which neither header nor first record can be read.
fn unreadable(shared: &Shared, base: u64, length: u64) -> Last {
    if length <= HEADER_BYTES {
        // It was being made when the process ended. Its name says where the records before it end; the next append makes it anew.
        return Last { end: base, length, ..Last::default() };
    }
    // How many records it had cannot be known, so the offsets go on behind the most that it can have had.
    let next = base + (length - HEADER_BYTES).div_ceil(HEAD_BYTES as u64);
    let reason = "the header of the segment and its first record are damaged".to_owned();
    Last { end: next, length, damages: vec![damage(shared, base, base, next, 0, reason)], ..Last::default() }
}

/// A damage in a segment.
pub(crate) fn damage(shared: &Shared, base: u64, first: u64, next_offset: u64, byte: u64, reason: String) -> Damage {
    Damage { position: Position { partition: PARTITION, offset: first }, next_offset, place: Place::Segment { file: shared.path(base), byte }, reason }
}
