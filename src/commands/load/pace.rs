//! When to send: at a fixed rate whether the server keeps up or not, or as fast as it goes.
//!
//! At a fixed rate a send has its moment before it is known whether a connection will be free. Latency counts from that moment:
//! a server that stands still makes all sends late that it held up, not only those that were under way.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

use tokio::sync::Semaphore;

/// How long sends that are late may go on after the last one's moment.
const LATE_MAX: Duration = Duration::from_secs(10);
/// The longest sleep of the clock's thread, so that it sees that it shall end.
const NAP_MAX: Duration = Duration::from_millis(100);

/// How much is sent, and when.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Plan {
    /// Sends a second; `None` for as fast as it goes.
    pub rate: Option<f64>,
    /// When to end.
    pub time: Option<Duration>,
    /// After how many sends to end.
    pub count: Option<u64>,
}

/// A send and its moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Turn {
    /// Its number, from 0.
    pub number: u64,
    /// When it was to be sent.
    pub due: Instant,
}

/// Gives the turns to the connections.
#[derive(Debug)]
pub struct Pace {
    plan: Plan,
    start: Instant,
    /// Turns whose moment has come, at a fixed rate.
    due: Semaphore,
    next: AtomicU64,
    stopped: AtomicBool,
}

impl Plan {
    /// How many sends a fixed rate makes; `None` where only a stop ends it.
    fn sends(&self) -> Option<u64> {
        let of_time = self.rate.zip(self.time).map(|(rate, time)| (rate * time.as_secs_f64()).ceil() as u64);
        self.count.into_iter().chain(of_time).min()
    }

    fn moment(&self, start: Instant, number: u64) -> Instant {
        self.rate.map_or(start, |rate| start + Duration::from_secs_f64(number as f64 / rate))
    }
}

impl Pace {
    /// Begins now.
    pub fn start(plan: Plan) -> Arc<Self> {
        let pace = Arc::new(Self { plan, start: Instant::now(), due: Semaphore::new(0), next: AtomicU64::new(0), stopped: AtomicBool::new(false) });
        if plan.rate.is_some() {
            let clock = Arc::clone(&pace);
            // A thread: the timers of the async runtime wake a millisecond late.
            std::thread::spawn(move || clock.strike());
        }
        pace
    }

    /// When it began.
    pub fn started(&self) -> Instant {
        self.start
    }

    /// Gives no more turns.
    pub fn stop(&self) {
        self.stopped.store(true, Relaxed);
        // More than there can be connections: each finds that there is no turn for it.
        self.due.add_permits(1 << 20);
    }

    /// Sends that were planned and whose moment has passed, but that nobody came to.
    pub fn missed(&self) -> u64 {
        let Some(rate) = self.plan.rate else { return 0 };
        let passed = (self.start.elapsed().as_secs_f64() * rate) as u64;
        let planned = self.plan.sends().map_or(passed, |sends| sends.min(passed));
        planned.saturating_sub(self.next.load(Relaxed))
    }

    /// The next turn, once its moment has come; `None` at the end.
    pub async fn turn(&self) -> Option<Turn> {
        if self.plan.rate.is_some() {
            self.due.acquire().await.ok()?.forget();
        }
        if self.is_over() {
            return None;
        }
        let number = self.next.fetch_add(1, Relaxed);
        if self.plan.sends().is_some_and(|sends| number >= sends) {
            self.next.fetch_sub(1, Relaxed);
            return None;
        }
        let due = if self.plan.rate.is_some() { self.plan.moment(self.start, number) } else { Instant::now() };
        Some(Turn { number, due })
    }

    fn is_over(&self) -> bool {
        let Some(time) = self.plan.time else { return self.stopped.load(Relaxed) };
        let end = if self.plan.rate.is_some() { time.saturating_add(LATE_MAX) } else { time };
        self.stopped.load(Relaxed) || self.start.elapsed() >= end
    }

    /// Lets each turn go at its moment.
    fn strike(&self) {
        let sends = self.plan.sends().unwrap_or(u64::MAX);
        let mut number = 0;
        while number < sends && !self.stopped.load(Relaxed) {
            let wait = self.plan.moment(self.start, number).saturating_duration_since(Instant::now());
            if wait.is_zero() {
                self.due.add_permits(1);
                number += 1;
            } else {
                std::thread::sleep(wait.min(NAP_MAX));
            }
        }
        self.due.add_permits(1 << 20);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn turns(plan: Plan) -> Vec<(u64, Duration)> {
        let pace = Pace::start(plan);
        let mut turns = Vec::new();
        while let Some(turn) = pace.turn().await {
            turns.push((turn.number, turn.due - pace.started()));
        }
        turns
    }

    #[tokio::test]
    async fn moments_are_those_of_the_rate_however_late_they_are_taken() {
        let want: Vec<_> = (0..50).map(|n| (n, Duration::from_secs_f64(n as f64 / 1000.0))).collect();
        let plan = Plan { rate: Some(1000.0), time: Some(Duration::from_millis(50)), count: None };
        assert_eq!(turns(plan).await, want);
        let pace = Pace::start(plan);
        tokio::time::sleep(Duration::from_millis(80)).await;
        assert_eq!(pace.missed(), 50);
        let first = pace.turn().await.unwrap();
        assert_eq!((first.number, first.due), (0, pace.started()));
        assert_eq!(pace.missed(), 49);
    }

    #[tokio::test]
    async fn counts_end_it() {
        assert_eq!(turns(Plan { rate: Some(1e6), time: None, count: Some(7) }).await.len(), 7);
        assert_eq!(turns(Plan { rate: None, time: None, count: Some(7) }).await.len(), 7);
        assert_eq!(turns(Plan { rate: None, time: Some(Duration::ZERO), count: Some(7) }).await.len(), 0);
    }

    #[tokio::test]
    async fn stopping_ends_it() {
        for rate in [None, Some(0.001)] {
            let pace = Pace::start(Plan { rate, time: None, count: None });
            assert!(pace.turn().await.is_some());
            pace.stop();
            assert_eq!(pace.turn().await, None);
        }
    }
}
