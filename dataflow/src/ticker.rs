//! The ticker: decides when a tick happens and which records it releases.
//!
//! Under load ticks follow each other as the graph completes them, never more than [`TICKS_IN_FLIGHT_MAX`] at a time; what
//! arrives meanwhile makes the next tick larger, not more. Idle, a tick a second moves the graph's time on. This is the
//! only clock that the graph has.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::mpsc::SyncSender;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use timely::scheduling::SyncActivator;
use weir_journal::{Damage, Entry as JournalEntry, JournalError, Reader};
use weir_operators::Time;
use weir_operators::decode::Entry;

use crate::progress::Progress;
use crate::publisher::Message;
use crate::source::TickInput;
use crate::subscriptions::alarm::Alarm;
use crate::subscriptions::command::Notice;

/// Ticks that the graph may have before it at a time.
const TICKS_IN_FLIGHT_MAX: u64 = 3;
/// The least time between two ticks: below it, a tick's fixed cost would outweigh its records.
const TICK_MIN: Duration = Duration::from_millis(20);
/// The same where somebody waits for the next tick.
const TICK_ASKED_MIN: Duration = Duration::from_millis(5);
/// The greatest time between two ticks.
const TICK_MAX: Duration = Duration::from_secs(1);
/// Records of one tick, in bytes of memory, bodies decompressed. About a thousand events: what a worker does in half a second.
const TICK_BYTES_MAX: usize = 16 << 20;
/// How long a stop waits for the journal to be drained. What is left is durable and read at the next start.
const DRAIN_MAX: Duration = Duration::from_secs(3);
/// How long the ticker sleeps where it must wait for the graph or for a commit.
const PAUSE: Duration = Duration::from_millis(5);

/// A worker's end of the source.
pub(crate) struct WorkerInput {
    pub(crate) ticks: SyncSender<TickInput>,
    pub(crate) activator: SyncActivator,
}

pub(crate) struct Ticker {
    pub(crate) reader: Reader,
    pub(crate) workers: Vec<WorkerInput>,
    pub(crate) publisher: SyncSender<Message>,
    pub(crate) progress: Arc<Progress>,
    /// What tells of each tick beside the publisher, and calls for ticks though nothing arrives.
    pub(crate) notices: SyncSender<Notice>,
    pub(crate) alarm: Arc<Alarm>,
    pub(crate) last: Time,
    /// Whether the last tick was ahead of the clock.
    pub(crate) was_ahead: bool,
}

/// By how much a tick may be ahead of the clock before it is worth a word: clocks are set by less all the time.
const AHEAD_MS_MAX: u64 = 5_000;

/// What is wrong where ticks are ahead of the clock: time never goes back, so they go on from there, a millisecond each.
fn clock_trouble(tick: Time, now: Time) -> Option<String> {
    let ahead = tick.saturating_sub(now);
    (ahead > AHEAD_MS_MAX).then(|| {
        format!(
            "the clock is {} s behind the newest tick: it was ahead once, or was set back; windows of subscriptions do not see what arrives until it has caught up: set it right",
            ahead / 1000
        )
    })
}

impl Ticker {
    /// Releases ticks until the journal is drained after a stop was asked for, or until it cannot be read.
    pub(crate) fn run(mut self) -> Result<(), JournalError> {
        let mut released_at = Instant::now();
        let mut stop_asked_at = None;
        loop {
            let stopping = self.progress.is_stopping();
            if stopping && stop_asked_at.get_or_insert_with(Instant::now).elapsed() > DRAIN_MAX {
                tracing::info!("stopping before the journal is drained; the rest is read at the next start");
                return Ok(());
            }
            let patience = TICK_MAX.saturating_sub(released_at.elapsed()).min(self.alarm.patience(self.last, now_ms()));
            let alarm = Arc::clone(&self.alarm);
            let waiting = self.reader.wait_unless(if stopping { Duration::ZERO } else { patience }, move || alarm.is_called());
            let asked = self.alarm.is_asked();
            if !stopping && !waiting && !asked && self.alarm.is_called() {
                // Another time is due.
                continue;
            }
            if stopping && !waiting {
                if self.reader.is_drained() {
                    return Ok(());
                }
                // What was acknowledged is on its way here.
                self.reader.wait(PAUSE);
                continue;
            }
            if self.progress.has_failed() {
                return Ok(());
            }
            if self.progress.ticks_in_flight() >= TICKS_IN_FLIGHT_MAX || self.progress.is_paused() {
                std::thread::sleep(PAUSE);
                continue;
            }
            let least = if asked { TICK_ASKED_MIN } else { TICK_MIN };
            if !stopping && released_at.elapsed() < least {
                std::thread::sleep(least.saturating_sub(released_at.elapsed()));
            }
            let entries = self.reader.read(TICK_BYTES_MAX)?;
            released_at = Instant::now();
            self.release(entries);
        }
    }

    fn release(&mut self, read: Vec<JournalEntry>) {
        let now = now_ms();
        let time = (self.last + 1).max(now);
        let ahead = clock_trouble(time, now);
        if ahead.is_some() || self.was_ahead {
            self.was_ahead = ahead.is_some();
            self.progress.trouble_with("clock", ahead);
        }
        self.last = time;
        self.alarm.released();
        let mut shares: Vec<Vec<Arc<Entry>>> = self.workers.iter().map(|_| Vec::new()).collect();
        let mut upper = BTreeMap::new();
        let mut damages: Vec<Damage> = Vec::new();
        for entry in read {
            match entry {
                JournalEntry::Record { position, record, .. } => {
                    upper.insert(position.partition, position.offset + 1);
                    let worker = position.offset as usize % shares.len();
                    shares[worker].push(Arc::new(Entry { position, record }));
                }
                JournalEntry::Damaged(damage) => {
                    upper.insert(damage.position.partition, damage.next_offset);
                    damages.push(damage);
                }
            }
        }
        metrics::counter!(crate::telemetry::TICKS).increment(1);
        self.progress.released(time);
        // A receiver that is gone has failed, and its failure is reported where its thread is joined.
        let _ = self.notices.send(Notice::Released { tick: time, upper: upper.clone() });
        let _ = self.publisher.send(Message::Released { tick: time, upper, damages });
        for (worker, entries) in self.workers.iter().zip(shares) {
            if worker.ticks.send(TickInput { time, entries }).is_ok() {
                let _ = worker.activator.activate();
            }
        }
    }
}

impl Drop for Ticker {
    /// Closes the source: the sender goes first, so that the worker finds the channel closed when it wakes.
    fn drop(&mut self) {
        for WorkerInput { ticks, activator } in self.workers.drain(..) {
            drop(ticks);
            let _ = activator.activate();
        }
    }
}

/// The wall clock in Unix milliseconds.
pub(crate) fn now_ms() -> Time {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_millis() as Time)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_that_was_ahead_is_told_of() {
        assert_eq!(clock_trouble(10_000, 10_000), None);
        assert_eq!(clock_trouble(10_000, 20_000), None);
        assert_eq!(clock_trouble(15_000, 10_000), None);
        assert!(clock_trouble(3_610_000, 10_000).is_some_and(|trouble| trouble.contains("3600 s behind")));
    }
}
