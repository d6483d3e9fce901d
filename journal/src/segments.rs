//! The journal as segment files in a folder.

use std::sync::atomic::Ordering::SeqCst;
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;

use tokio::sync::oneshot;
use weir_protocol::limits::RECORD_BYTES_MAX;
use weir_protocol::record::{Position, Record};

use crate::error::{AppendError, JournalError};
use crate::frame::HEAD_BYTES;
use crate::log::{Shared, locked};
use crate::open::{self, Opened, Start};
use crate::options::Options;
use crate::queue::Pending;
use crate::reader::SegmentReader;
use crate::segment::{self, HEADER_BYTES};
use crate::status::Status;
use crate::storage::{Directory, Storage};
use crate::telemetry;
use crate::writer::{Writer, reserved_bytes};

/// Segment files with one writer. Cheap to clone; the last clone that is dropped closes it.
#[derive(Debug, Clone)]
pub struct Segments(Arc<Handle>);

#[derive(Debug)]
struct Handle {
    shared: Arc<Shared>,
    writer: Mutex<Option<JoinHandle<()>>>,
}

impl Segments {
    /// Opens the journal in a folder, or begins one. Blocks while the last segment is read.
    ///
    /// # Errors
    /// [`JournalError::Newer`] where a newer version wrote a segment; [`JournalError::Storage`] where files cannot be used.
    pub fn open(options: Options) -> Result<(Self, Opened), JournalError> {
        let storage = Directory::open(&options.dir).map_err(|source| JournalError::Storage { action: "make", file: options.dir.clone(), source })?;
        Self::open_with(options, Arc::new(storage))
    }

    /// Opens the journal over another storage; `options.dir` only names its files in messages.
    ///
    /// # Errors
    /// As [`Segments::open`].
    pub fn open_with(options: Options, storage: Arc<dyn Storage>) -> Result<(Self, Opened), JournalError> {
        let Start { shared, active, opened } = open::open(options, storage)?;
        let writer = Writer::new(Arc::clone(&shared), active);
        let thread = std::thread::Builder::new().name("weir-journal".to_owned()).spawn(|| writer.run()).map_err(JournalError::Thread)?;
        Ok((Self(Arc::new(Handle { shared, writer: Mutex::new(Some(thread)) })), opened))
    }

    /// Appends a record; returns its position once it is durable. Where too much waits already, this waits for room.
    ///
    /// A call that is dropped before it returns may or may not have appended.
    ///
    /// # Errors
    /// None of them leaves the record where it is promised to be read; [`AppendError::retry_later`] says whether to try again.
    pub async fn append(&self, record: Record) -> Result<Position, AppendError> {
        let shared = &self.0.shared;
        let room = shared.queue.room(record.bytes_in_memory()).await?;
        let payload = record.encode();
        let max = self.record_bytes_max();
        if payload.len() as u64 > max {
            return Err(AppendError::TooLarge { bytes: payload.len() as u64, max });
        }
        let payload_crc = crc32fast::hash(&payload);
        let (answer, answered) = oneshot::channel();
        let pending = Pending { record: Arc::new(record), payload, payload_crc, answer, room };
        let reserve = reserved_bytes(&pending);
        shared.queue.push(pending, |waiting| {
            let mut log = shared.log();
            let (bytes, max) = (log.bytes + waiting.reserved_bytes, shared.options.journal_bytes_max);
            if bytes + reserve > max {
                let full = AppendError::Full { bytes, max };
                if log.error.is_none() {
                    tracing::error!(error = %full, "appends fail");
                }
                log.error = Some(full.clone());
                return Err(full);
            }
            waiting.reserved_bytes += reserve;
            Ok(())
        })?;
        // The writer answers everything that it was given, unless it panicked.
        answered.await.unwrap_or(Err(AppendError::Closed))
    }

    /// Waits until these records are all with the writer. The storage must not answer meanwhile.
    #[cfg(test)]
    pub(crate) fn until_handed_over(&self, records: impl IntoIterator<Item = Record>) {
        let bytes = records.into_iter().map(|record| HEADER_BYTES + (HEAD_BYTES + record.encode().len()) as u64).sum();
        while self.0.shared.queue.reserved_bytes() < bytes {
            std::thread::yield_now();
        }
    }

    /// The largest payload that can ever be appended.
    fn record_bytes_max(&self) -> u64 {
        let journal = self.0.shared.options.journal_bytes_max.saturating_sub(2 * HEADER_BYTES + HEAD_BYTES as u64);
        journal.min(RECORD_BYTES_MAX as u64)
    }

    /// The offset after the last durable record.
    pub fn end(&self) -> u64 {
        self.0.shared.log().end
    }

    /// The first offset that is held.
    pub fn start(&self) -> u64 {
        self.0.shared.log().start
    }

    /// A reader that begins with an offset, which may lie ahead.
    pub fn reader(&self, from_offset: u64) -> SegmentReader {
        SegmentReader::new(Arc::clone(&self.0.shared), from_offset)
    }

    /// Lets readers that wait look at what they are called by.
    pub fn wake_readers(&self) {
        // The lock orders this after a reader's look and before its sleep, or after both: no call is missed.
        drop(self.0.shared.log());
        self.0.shared.readable.notify_all();
    }

    /// Makes the next record begin a segment, so that everything before it can be dropped from the disk as soon as it is
    /// committed.
    pub fn begin_segment(&self) {
        self.0.shared.begin_segment.store(true, SeqCst);
    }

    /// Drops whole segments whose records all lie below an offset, never the one that is written. Returns the bytes that were freed.
    ///
    /// # Errors
    /// [`JournalError::Storage`] where a file cannot be removed. Its records are not held any more all the same; it is tried
    /// again with the next call.
    pub fn truncate_before(&self, offset: u64) -> Result<u64, JournalError> {
        let shared = &self.0.shared;
        let going: Vec<_> = {
            let mut log = shared.log();
            let count = log.droppable(offset);
            if let Some(first_kept) = log.segments.get(count) {
                log.start = first_kept.base;
            }
            let start = log.start;
            log.damages.retain(|damage| damage.next_offset > start);
            log.segments[..count].to_vec()
        };
        let mut freed = 0;
        for segment in going {
            match shared.storage.remove(&segment::name(segment.base)) {
                Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                    metrics::counter!(telemetry::ERRORS).increment(1);
                    return Err(shared.storage_error("remove", segment.base)(error));
                }
                _ => {}
            }
            let mut log = shared.log();
            // Another call may have dropped it at the same time.
            if let Some(index) = log.segments.iter().position(|held| held.base == segment.base) {
                log.segments.remove(index);
                log.bytes -= segment.length;
                freed += segment.length;
            }
            if matches!(log.error, Some(AppendError::Full { .. })) {
                log.error = None;
            }
            metrics::gauge!(telemetry::BYTES).set(log.bytes as f64);
        }
        Ok(freed)
    }

    /// How the journal is.
    pub fn status(&self) -> Status {
        self.0.shared.log().status(&self.0.shared.options.dir)
    }

    /// Takes no more appends: they fail with [`AppendError::Closed`]. What waits is written; blocks until that is done.
    /// Readers read on.
    pub fn close(&self) {
        self.0.close();
    }
}

impl Handle {
    fn close(&self) {
        self.shared.queue.close();
        // The lock is held meanwhile, so that whoever closes at the same time waits as well.
        let mut writer = locked(&self.writer);
        if let Some(thread) = writer.take()
            && thread.join().is_err()
        {
            tracing::error!("the journal's writer thread panicked");
        }
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        self.close();
    }
}
