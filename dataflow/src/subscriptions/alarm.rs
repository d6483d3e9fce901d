//! When the next tick is due though nothing arrives: a window's row leaves, a wait ends, or somebody asked for a tick.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::SeqCst};
use std::time::Duration;

use weir_journal::{Journal, Offsets};
use weir_operators::Time;

/// Set by the coordinator, obeyed by the ticker, which is woken through what it waits for: the journal.
pub(crate) struct Alarm {
    journal: Journal,
    due_ms: AtomicU64,
    /// The due time changed and the ticker has not looked yet.
    changed: AtomicBool,
    asked: AtomicBool,
}

impl Alarm {
    pub(crate) fn new(journal: Journal) -> Self {
        Self { journal, due_ms: AtomicU64::new(Time::MAX), changed: AtomicBool::new(false), asked: AtomicBool::new(false) }
    }

    /// How far the journal reaches, as soon as that is known.
    pub(crate) fn journal_ends(&self) -> Option<Offsets> {
        self.journal.known_ends()
    }

    /// Asks for a tick at once.
    pub(crate) fn ask(&self) {
        if !self.asked.swap(true, SeqCst) {
            self.journal.wake_readers();
        }
    }

    /// Sets when a tick is due at the latest.
    pub(crate) fn set(&self, due_ms: Time) {
        let before = self.due_ms.swap(due_ms, SeqCst);
        if due_ms < before {
            self.changed.store(true, SeqCst);
            self.journal.wake_readers();
        }
    }

    /// Whether the ticker must not go on waiting.
    pub(crate) fn is_called(&self) -> bool {
        self.asked.load(SeqCst) || self.changed.load(SeqCst)
    }

    /// Whether a tick was asked for.
    pub(crate) fn is_asked(&self) -> bool {
        self.asked.load(SeqCst)
    }

    /// How long the ticker may wait, where it has released `last` and it is `now`. A due time that it has reached with its last
    /// tick counts no more.
    pub(crate) fn patience(&self, last: Time, now: Time) -> Duration {
        self.changed.store(false, SeqCst);
        let due = self.due_ms.load(SeqCst);
        if due <= last { Duration::MAX } else { Duration::from_millis(due.saturating_sub(now)) }
    }

    /// A tick is released: what asked for one is content.
    pub(crate) fn released(&self) {
        self.asked.store(false, SeqCst);
    }
}
