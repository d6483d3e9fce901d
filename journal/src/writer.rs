//! The one thread that writes: it takes all appends that wait, writes them with one write, syncs once, and answers all.
//!
//! Batches adapt by themselves: while one is synced, the next one gathers.

use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering::SeqCst;
use std::time::{Duration, Instant};

use tokio::sync::oneshot;
use weir_protocol::record::Position;

use crate::PARTITION;
use crate::error::AppendError;
use crate::frame::{HEAD_BYTES, Head};
use crate::log::{Kept, Segment, Shared};
use crate::queue::{Answer, Pending, Space, Taken};
use crate::segment::{self, HEADER_BYTES};
use crate::storage::SegmentFile;
use crate::telemetry;

/// After a failure, how long nothing has to come before the storage is tried without an append.
const PROBE_AFTER: Duration = Duration::from_secs(1);
/// What a probe writes behind the last record, and cuts off again.
const PROBE_BYTES: usize = 4096;
/// The buffer of frames is kept up to this size.
const BUFFER_KEPT_BYTES: usize = 4 << 20;

/// The segment that is written.
#[derive(Debug)]
pub(crate) struct Active {
    pub(crate) file: Arc<dyn SegmentFile>,
    pub(crate) tag: u32,
    pub(crate) base: u64,
    /// Its length up to the last durable record.
    pub(crate) length: u64,
}

pub(crate) struct Writer {
    shared: Arc<Shared>,
    /// `None` at first, and where the segment must not be written any more.
    active: Option<Active>,
    end: u64,
    buffer: Vec<u8>,
    failing: bool,
}

/// What failed, in words.
struct Failure {
    action: &'static str,
    base: u64,
    source: io::Error,
}

/// Ends the queue however the thread ends, so that no append waits for a writer that is gone.
struct Ending(Arc<Shared>);

impl Drop for Ending {
    fn drop(&mut self) {
        self.0.queue.abandon();
        if std::thread::panicking() {
            self.0.log().error = Some(AppendError::Storage { reason: "the writer thread panicked; restart weir".to_owned() });
        }
    }
}

impl Writer {
    pub(crate) fn new(shared: Arc<Shared>, active: Option<Active>) -> Self {
        let end = shared.log().end;
        Self { shared, active, end, buffer: Vec::new(), failing: false }
    }

    /// Writes until the queue is closed and empty.
    pub(crate) fn run(mut self) {
        let _ending = Ending(Arc::clone(&self.shared));
        loop {
            match self.shared.queue.take(self.space(), self.failing.then_some(PROBE_AFTER)) {
                Taken::Batch { pending, fits } => self.append(pending, fits),
                Taken::Idle => self.probe(),
                Taken::Closed => return,
            }
        }
    }

    fn space(&self) -> Space {
        let max = self.shared.options.segment_bytes_max;
        let here = self.active.as_ref().map(|active| match active.length {
            // A segment without records takes a record of any size.
            HEADER_BYTES => u64::MAX,
            length => max.saturating_sub(length),
        });
        Space { here, fresh: max.saturating_sub(HEADER_BYTES) }
    }

    fn append(&mut self, pending: Vec<Pending>, fits: bool) {
        let reserved = pending.iter().map(reserved_bytes).sum();
        match self.write(&pending, fits) {
            Ok(mut active) => {
                let first = self.end;
                self.end += pending.len() as u64;
                let answers = self.publish(&active, pending, reserved);
                active.length += self.buffer.len() as u64;
                self.active = Some(active);
                for (offset, answer) in (first..).zip(answers) {
                    // Whoever does not wait any more is not told; the record is durable all the same.
                    let _ = answer.send(Ok(Position { partition: PARTITION, offset }));
                }
            }
            Err(failure) => {
                let error = self.failed(failure);
                self.shared.queue.settle(reserved, || ());
                for Pending { answer, .. } in pending {
                    let _ = answer.send(Err(error.clone()));
                }
            }
        }
        self.buffer.clear();
        self.buffer.shrink_to(BUFFER_KEPT_BYTES);
    }

    /// Makes a batch durable and returns the segment, whose length is still that before it.
    fn write(&mut self, pending: &[Pending], fits: bool) -> Result<Active, Failure> {
        let begin = self.shared.begin_segment.load(SeqCst) && self.active.as_ref().is_some_and(|active| active.length > HEADER_BYTES);
        let active = match self.active.take() {
            Some(active) if fits && !begin => active,
            _ => self.begin_segment()?,
        };
        self.shared.begin_segment.store(false, SeqCst);
        for (offset, pending) in (self.end..).zip(pending) {
            Head { length: pending.payload.len() as u32, offset, payload_crc: pending.payload_crc }.write(active.tag, &mut self.buffer);
            self.buffer.extend_from_slice(&pending.payload);
        }
        let base = active.base;
        if let Err(source) = active.file.write_at(active.length, &self.buffer) {
            self.active = cut(active);
            return Err(Failure { action: "write", base, source });
        }
        let begun = Instant::now();
        if let Err(source) = active.file.sync() {
            // What the system could not sync it may hold for synced from now on, so this segment is not written any more.
            cut(active);
            return Err(Failure { action: "sync", base, source });
        }
        metrics::histogram!(telemetry::SYNC_SECONDS).record(begun.elapsed().as_secs_f64());
        metrics::counter!(telemetry::SYNCS).increment(1);
        Ok(active)
    }

    /// Shows a durable batch to readers.
    fn publish(&mut self, active: &Active, pending: Vec<Pending>, reserved: u64) -> Vec<oneshot::Sender<Answer>> {
        let (records, written) = (pending.len(), self.buffer.len() as u64);
        let mut answers = Vec::with_capacity(records);
        let bytes = self.shared.queue.settle(reserved, || {
            let mut log = self.shared.log();
            let mut byte_after = active.length;
            for Pending { record, payload, answer, room, .. } in pending {
                byte_after += (HEAD_BYTES + payload.len()) as u64;
                let bytes = record.bytes_in_memory();
                log.push(Kept { record, bytes, base: active.base, byte_after }, self.shared.options.tail_bytes_max);
                answers.push(answer);
                drop(room);
            }
            if let Some(last) = log.segments.last_mut() {
                last.length = byte_after;
            }
            log.bytes += written;
            log.error = None;
            log.bytes
        });
        self.shared.readable.notify_all();
        self.recovered();
        metrics::counter!(telemetry::APPENDS).increment(records as u64);
        metrics::counter!(telemetry::APPEND_BYTES).increment(written);
        metrics::histogram!(telemetry::BATCH_RECORDS).record(records as f64);
        metrics::gauge!(telemetry::BYTES).set(bytes as f64);
        answers
    }

    /// Begins the segment of the next record, durable before anything is written to it.
    fn begin_segment(&mut self) -> Result<Active, Failure> {
        let base = self.end;
        let fail = |action| move |source| Failure { action, base, source };
        self.drop_empty_segment(base).map_err(fail("remove"))?;
        let name = segment::name(base);
        let file = self.shared.storage.create(&name).map_err(fail("create"))?;
        let tag = segment::new_tag();
        let begun = file.write_at(0, &segment::header(base, tag)).and_then(|()| file.sync()).and_then(|()| self.shared.storage.sync_dir());
        if let Err(source) = begun {
            if let Err(error) = self.shared.storage.remove(&name) {
                tracing::debug!(%error, name, "a segment that could not be begun was not removed; the next one takes its place");
            }
            return Err(Failure { action: "begin", base, source });
        }
        metrics::counter!(telemetry::SYNCS).increment(2);
        let mut log = self.shared.log();
        log.segments.push(Segment { base, length: HEADER_BYTES });
        log.bytes += HEADER_BYTES;
        Ok(Active { file, tag, base, length: HEADER_BYTES })
    }

    /// A segment that never got a durable record has the name of the one that takes its place.
    fn drop_empty_segment(&self, base: u64) -> io::Result<()> {
        if self.shared.log().segments.last().is_none_or(|last| last.base != base) {
            return Ok(());
        }
        match self.shared.storage.remove(&segment::name(base)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let mut log = self.shared.log();
        let dropped = log.segments.pop().map_or(0, |segment| segment.length);
        log.bytes -= dropped;
        Ok(())
    }

    /// Tries the storage after a failure, so that the journal is known to be well before somebody relies on it.
    fn probe(&mut self) {
        let tried = match self.active.take() {
            None => self.begin_segment(),
            Some(active) => match active.file.write_at(active.length, &[0; PROBE_BYTES]).and_then(|()| active.file.truncate(active.length)) {
                Ok(()) => Ok(active),
                Err(source) => {
                    let base = active.base;
                    self.active = cut(active);
                    Err(Failure { action: "write", base, source })
                }
            },
        };
        match tried {
            Ok(active) => {
                self.active = Some(active);
                self.shared.log().error = None;
                self.recovered();
            }
            Err(failure) => drop(self.failed(failure)),
        }
    }

    fn failed(&mut self, Failure { action, base, source }: Failure) -> AppendError {
        metrics::counter!(telemetry::ERRORS).increment(1);
        let error = AppendError::Storage { reason: format!("{action} {}: {source}", self.shared.path(base).display()) };
        if !self.failing {
            tracing::error!(%error, "appends fail");
        }
        self.failing = true;
        self.shared.log().error = Some(error.clone());
        error
    }

    fn recovered(&mut self) {
        if self.failing {
            tracing::info!("the journal can be written again");
        }
        self.failing = false;
    }
}

/// What an append may take on disk: its frame, and a segment's header where it needs a new one.
pub(crate) fn reserved_bytes(pending: &Pending) -> u64 {
    pending.frame_bytes() + HEADER_BYTES
}

/// Cuts a file back to its last durable record. A file that cannot be cut is not written any more: what stands behind the
/// first offset of the segment that follows it is ignored.
fn cut(active: Active) -> Option<Active> {
    match active.file.truncate(active.length) {
        Ok(()) => Some(active),
        Err(error) => {
            metrics::counter!(telemetry::ERRORS).increment(1);
            tracing::warn!(%error, segment = active.base, "a segment could not be cut back; another one follows it");
            None
        }
    }
}
