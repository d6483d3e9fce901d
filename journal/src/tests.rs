//! The journal as a whole, over a disk that does as it is told.

mod damage;
mod faults;
mod power;
mod reading;
mod writing;

use std::sync::Arc;

use bytes::Bytes;
use weir_protocol::record::{Body, Content, Intake, Position, Project, Record};

use crate::frame::HEAD_BYTES;
use crate::segment::{self, HEADER_BYTES};
use crate::segments::Segments;
use crate::storage::faulty::Faulty;
use crate::{AppendError, Entry, JournalError, Opened, Options};

/// A record that is known by its number, with a body of a size.
fn record(id: u64, body_bytes: usize) -> Record {
    let body: Vec<u8> = (0..body_bytes).map(|at| (id as usize).wrapping_mul(31).wrapping_add(at) as u8).collect();
    let project = Project { org_id: 1, project_id: 7, slug: "shop".to_owned(), retention_days: 90 };
    let body = Some(Body::identity(Bytes::from(body)));
    let intake = Intake { project, key_id: None, client_ip: None, user_agent: None, client: None, event_id: None, outcomes: Vec::new(), body };
    Record { received_ms: id, content: Content::Intake(Box::new(intake)) }
}

fn frame_bytes(record: &Record) -> usize {
    HEAD_BYTES + record.encode().len()
}

fn options() -> Options {
    Options::new("journal")
}

/// Nothing is kept in memory for readers: they read files.
fn without_tail() -> Options {
    Options { tail_bytes_max: 0, ..options() }
}

fn open(options: Options, disk: &Faulty) -> (Segments, Opened) {
    Segments::open_with(options, Arc::new(disk.clone())).unwrap()
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().build().unwrap()
}

fn append(journal: &Segments, record: Record) -> Result<u64, AppendError> {
    runtime().block_on(journal.append(record)).map(|Position { offset, .. }| offset)
}

/// Appends these one after the other.
fn fill(journal: &Segments, ids: std::ops::Range<u64>, body_bytes: usize) {
    for id in ids {
        append(journal, record(id, body_bytes)).unwrap();
    }
}

/// Appends records all at the same time.
fn append_all(journal: &Segments, records: impl IntoIterator<Item = Record>) -> Vec<Result<u64, AppendError>> {
    runtime().block_on(async {
        let tasks: Vec<_> = records
            .into_iter()
            .map(|record| (journal.clone(), record))
            .map(|(journal, record)| tokio::spawn(async move { journal.append(record).await }))
            .collect();
        let mut results = Vec::new();
        for task in tasks {
            results.push(task.await.unwrap().map(|position| position.offset));
        }
        results
    })
}

/// Everything from an offset on, read in answers of a size.
fn read_all(journal: &Segments, from: u64, bytes_max: usize) -> Result<Vec<Entry>, JournalError> {
    let mut reader = journal.reader(from);
    let mut all = Vec::new();
    loop {
        let entries = reader.read(bytes_max)?;
        if entries.is_empty() {
            assert_eq!(reader.offset(), journal.end().max(from));
            return Ok(all);
        }
        all.extend(entries);
    }
}

/// What was read, in short: the offset and number of each record, the range of each damage.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Short {
    Record(u64, u64),
    Lost(u64, u64),
}

fn short(entries: &[Entry]) -> Vec<Short> {
    let one = |entry: &Entry| match entry {
        Entry::Record { position, record: read, bytes } => {
            assert_eq!(*bytes, read.bytes_in_memory());
            Short::Record(position.offset, read.received_ms)
        }
        Entry::Damaged(damage) => Short::Lost(damage.position.offset, damage.next_offset),
    };
    entries.iter().map(one).collect()
}

/// The bytes of a journal of one segment with these records, and where each frame begins.
fn segment_of(records: &[Record]) -> (Vec<u8>, Vec<usize>) {
    let disk = Faulty::new();
    let (journal, _) = open(options(), &disk);
    let mut begins = Vec::new();
    let mut at = HEADER_BYTES as usize;
    for record in records {
        append(&journal, record.clone()).unwrap();
        begins.push(at);
        at += frame_bytes(record);
    }
    begins.push(at);
    drop(journal);
    let bytes = disk.bytes(&segment::name(0)).unwrap();
    assert_eq!(bytes.len(), at);
    (bytes, begins)
}

/// A disk with one segment of these bytes.
fn disk_with(bytes: Vec<u8>) -> Faulty {
    let disk = Faulty::new();
    disk.put(&segment::name(0), bytes);
    disk
}
