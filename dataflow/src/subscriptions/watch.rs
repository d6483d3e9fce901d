//! Whoever follows the rows of a subscription: first all of them, then each change.
//!
//! What waits for a reader is bounded. A reader that is too slow loses the changes, is told so, and begins again with all rows.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use arrow::array::RecordBatch;
use tokio::sync::Notify;
use weir_operators::Time;
use weir_protocol::limits::WATCH_ROWS_WAITING_MAX;
use weir_protocol::subscription::SubscriptionId;

use super::handle::Shared;
use super::live::LiveRows;

/// What a reader is told.
#[derive(Debug, Clone)]
pub enum WatchEvent {
    /// All rows as they stand: first, and after changes were lost.
    Snapshot {
        /// The rows.
        rows: LiveRows,
        /// Whether changes before it were lost, since the reader was too slow, or since the query was changed.
        lost: bool,
    },
    /// Rows that came or went.
    Changes {
        /// The tick, in Unix milliseconds.
        tick_ms: Time,
        /// The rows.
        rows: RecordBatch,
        /// How often each comes (positive) or goes (negative).
        differences: Vec<i64>,
    },
}

/// A reader's end.
#[derive(Debug)]
pub struct Watch {
    pub(super) id: SubscriptionId,
    pub(super) queue: Arc<Queue>,
    pub(super) shared: Weak<Shared>,
}

/// What waits for a reader.
#[derive(Debug, Default)]
pub(super) struct Queue {
    waiting: Mutex<Waiting>,
    filled: Notify,
}

#[derive(Debug, Default)]
struct Waiting {
    events: VecDeque<WatchEvent>,
    rows: usize,
    /// Whether the next event must be a snapshot, and whether changes were lost before it.
    snapshot: Option<bool>,
    ended: bool,
}

impl Queue {
    /// A queue that begins with a snapshot.
    pub(super) fn new() -> Self {
        Self { waiting: Mutex::new(Waiting { snapshot: Some(false), ..Waiting::default() }), filled: Notify::new() }
    }

    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds the changes of a tick.
    pub(super) fn push(&self, tick_ms: Time, rows: &RecordBatch, differences: &[i64]) {
        let mut waiting = self.lock();
        if waiting.snapshot.is_some() {
            // The snapshot will have them.
            return;
        }
        if waiting.rows + rows.num_rows() > WATCH_ROWS_WAITING_MAX {
            drop(waiting);
            return self.begin_again();
        }
        waiting.rows += rows.num_rows();
        waiting.events.push_back(WatchEvent::Changes { tick_ms, rows: rows.clone(), differences: differences.to_vec() });
        self.filled.notify_one();
    }

    /// The next event is a snapshot.
    pub(super) fn begin_again(&self) {
        let mut waiting = self.lock();
        waiting.events.clear();
        waiting.rows = 0;
        waiting.snapshot.get_or_insert(true);
        self.filled.notify_one();
    }

    /// The subscription is gone.
    pub(super) fn end(&self) {
        self.lock().ended = true;
        self.filled.notify_one();
    }
}

/// What there is for a reader at the moment.
enum Next {
    Event(Box<WatchEvent>),
    Later,
    Ended,
}

impl Watch {
    /// The next event; `None` when the subscription was dropped, or the graph has ended. Cancelling loses nothing.
    pub async fn next(&mut self) -> Option<WatchEvent> {
        loop {
            match self.look() {
                Next::Event(event) => return Some(*event),
                Next::Ended => return None,
                Next::Later => self.queue.filled.notified().await,
            }
        }
    }

    fn look(&self) -> Next {
        let Some(shared) = self.shared.upgrade() else { return Next::Ended };
        // While this is held no tick is applied: the snapshot is exactly what the changes follow.
        let live = shared.read();
        let mut waiting = self.queue.lock();
        if waiting.ended {
            return Next::Ended;
        }
        if let Some(lost) = waiting.snapshot {
            let Some(rows) = live.rows(self.id) else { return Next::Later };
            waiting.snapshot = None;
            return Next::Event(Box::new(WatchEvent::Snapshot { rows, lost }));
        }
        match waiting.events.pop_front() {
            Some(event) => {
                if let WatchEvent::Changes { rows, .. } = &event {
                    waiting.rows -= rows.num_rows();
                }
                Next::Event(Box::new(event))
            }
            None => Next::Later,
        }
    }
}
