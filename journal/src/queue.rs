//! Appends that wait to be written: bounded by the memory that their records take.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, TryAcquireError, oneshot};
use weir_protocol::record::{Position, Record};

use crate::error::AppendError;
use crate::frame::HEAD_BYTES;
use crate::log::locked;

/// Records that wait or are being written, in bytes of memory. A larger one waits until it is alone.
const QUEUE_BYTES_MAX: usize = 64 << 20;
/// Appends that wait for room in the queue; what they hold is their callers'.
const WAITING_MAX: usize = 10_000;

/// What an append waits for.
pub(crate) type Answer = Result<Position, AppendError>;

/// One append.
#[derive(Debug)]
pub(crate) struct Pending {
    pub(crate) record: Arc<Record>,
    pub(crate) payload: Bytes,
    pub(crate) payload_crc: u32,
    pub(crate) answer: oneshot::Sender<Answer>,
    /// Its room in the queue, given back when it is answered.
    pub(crate) room: OwnedSemaphorePermit,
}

impl Pending {
    /// Head and payload.
    pub(crate) fn frame_bytes(&self) -> u64 {
        HEAD_BYTES as u64 + self.payload.len() as u64
    }
}

/// How much the writer can write with one write.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Space {
    /// In the segment that it writes; `None` where it has none, everything where that has no record yet.
    pub(crate) here: Option<u64>,
    /// In a new segment. A record that is larger is written all the same, alone.
    pub(crate) fresh: u64,
}

/// What the writer is to do.
#[derive(Debug)]
pub(crate) enum Taken {
    /// Write these; into a new segment where they do not fit.
    Batch { pending: Vec<Pending>, fits: bool },
    /// Nothing came in the time given.
    Idle,
    /// The queue is closed and empty.
    Closed,
}

#[derive(Debug, Default)]
pub(crate) struct Waiting {
    pending: VecDeque<Pending>,
    closed: bool,
    /// What the frames that wait or are being written will take on disk, at most.
    pub(crate) reserved_bytes: u64,
}

/// Room for appends, in bytes of memory.
#[derive(Debug)]
pub(crate) struct Room {
    free: Arc<Semaphore>,
    waiting: AtomicUsize,
}

impl Room {
    pub(crate) fn new() -> Self {
        Self { free: Arc::new(Semaphore::new(QUEUE_BYTES_MAX)), waiting: AtomicUsize::new(0) }
    }

    /// Waits for room for a record of this size in memory.
    pub(crate) async fn take(&self, bytes: usize) -> Result<OwnedSemaphorePermit, AppendError> {
        let permits = bytes.min(QUEUE_BYTES_MAX) as u32;
        match Arc::clone(&self.free).try_acquire_many_owned(permits) {
            Ok(room) => return Ok(room),
            Err(TryAcquireError::Closed) => return Err(AppendError::Closed),
            Err(TryAcquireError::NoPermits) => {}
        }
        let _place = Place::take(&self.waiting, WAITING_MAX).ok_or(AppendError::Busy)?;
        Arc::clone(&self.free).acquire_many_owned(permits).await.map_err(|_| AppendError::Closed)
    }

    /// Gives no more room, not to those either that wait for it.
    pub(crate) fn close(&self) {
        self.free.close();
    }
}

#[derive(Debug)]
pub(crate) struct Queue {
    room: Room,
    waiting: Mutex<Waiting>,
    filled: Condvar,
}

impl Queue {
    pub(crate) fn new() -> Self {
        Self { room: Room::new(), waiting: Mutex::default(), filled: Condvar::new() }
    }

    /// Waits for room for a record of this size in memory.
    pub(crate) async fn room(&self, bytes: usize) -> Result<OwnedSemaphorePermit, AppendError> {
        self.room.take(bytes).await
    }

    /// Hands an append to the writer, if `admit` lets it on.
    pub(crate) fn push(&self, pending: Pending, admit: impl FnOnce(&mut Waiting) -> Result<(), AppendError>) -> Result<(), AppendError> {
        let mut waiting = locked(&self.waiting);
        if waiting.closed {
            return Err(AppendError::Closed);
        }
        admit(&mut waiting)?;
        waiting.pending.push_back(pending);
        self.filled.notify_one();
        Ok(())
    }

    /// Waits for appends and takes as many as one write can hold, at least one.
    pub(crate) fn take(&self, space: Space, idle_after: Option<Duration>) -> Taken {
        let mut waiting = locked(&self.waiting);
        while waiting.pending.is_empty() {
            if waiting.closed {
                return Taken::Closed;
            }
            waiting = match idle_after {
                None => self.filled.wait(waiting).unwrap_or_else(PoisonError::into_inner),
                Some(time) => {
                    let (waiting, waited) = self.filled.wait_timeout(waiting, time).unwrap_or_else(PoisonError::into_inner);
                    if waited.timed_out() && waiting.pending.is_empty() && !waiting.closed {
                        return Taken::Idle;
                    }
                    waiting
                }
            };
        }
        let first = waiting.pending.front().map_or(0, Pending::frame_bytes);
        let fits = space.here.is_some_and(|here| first <= here);
        let most = space.here.filter(|_| fits).unwrap_or(space.fresh).min(space.fresh);
        let mut total = 0;
        let fitting = waiting.pending.iter().take_while(|pending| {
            total += pending.frame_bytes();
            total <= most
        });
        let count = fitting.count().max(1);
        Taken::Batch { pending: waiting.pending.drain(..count).collect(), fits }
    }

    /// Runs `change` while nobody is let on, and gives back what a batch had reserved.
    pub(crate) fn settle<T>(&self, reserved_bytes: u64, change: impl FnOnce() -> T) -> T {
        let mut waiting = locked(&self.waiting);
        waiting.reserved_bytes = waiting.reserved_bytes.saturating_sub(reserved_bytes);
        change()
    }

    /// What the appends that were handed over and are not answered will take on disk, at most.
    #[cfg(test)]
    pub(crate) fn reserved_bytes(&self) -> u64 {
        locked(&self.waiting).reserved_bytes
    }

    /// Lets nothing more on; what waits is still written.
    pub(crate) fn close(&self) {
        self.room.close();
        locked(&self.waiting).closed = true;
        self.filled.notify_all();
    }

    /// Lets nothing more on and drops what waits, which fails it.
    pub(crate) fn abandon(&self) {
        self.close();
        locked(&self.waiting).pending.clear();
    }
}

/// A place among those that wait, given back when dropped: an append may be cancelled.
struct Place<'a>(&'a AtomicUsize);

impl<'a> Place<'a> {
    fn take(taken: &'a AtomicUsize, max: usize) -> Option<Self> {
        taken.fetch_update(SeqCst, SeqCst, |count| (count < max).then_some(count + 1)).ok().map(|_| Self(taken))
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, SeqCst);
    }
}
