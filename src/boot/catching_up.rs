//! How far the graph is behind the journal, how fast it goes, and how long that takes yet: said while it is so, after a start with
//! much to read above all.

use std::sync::{Arc, PoisonError, RwLock};
use std::time::{Duration, Instant};

use serde::Serialize;
use weir_journal::Journal;

use super::cluster::Running;

/// Less than this is the ordinary distance of a busy program.
const BEHIND_RECORDS_MIN: u64 = 10_000;
/// How often it is looked at.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// How often it is logged.
const LOG_EVERY: Duration = Duration::from_secs(10);
/// The share of the newest look in the rate that is shown: ticks are uneven.
const NEWEST_SHARE: f64 = 0.2;

/// An estimate of the time that the graph needs to catch up.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Estimate {
    /// Records that are in the journal and not yet in the tables.
    records_behind: u64,
    /// Records that came into the tables, a second.
    records_per_second: u64,
    /// At this rate, with as much coming as came lately; nothing where it does not come nearer.
    seconds_left: Option<u64>,
}

/// The newest estimate; none while the graph is not behind.
#[derive(Debug, Clone, Default)]
pub(super) struct CatchingUp(Arc<RwLock<Option<Estimate>>>);

impl CatchingUp {
    /// What is shown of it.
    pub(super) fn estimate(&self) -> Option<Estimate> {
        self.0.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Looks at it for as long as the program runs.
    pub(super) async fn watch(self, journal: Journal, running: Arc<Running>) {
        let mut seen = Seen::default();
        let mut logged: Option<Instant> = None;
        loop {
            tokio::time::sleep(LOOK_EVERY).await;
            let (ends, graph) = (journal.status().ends, running.progress().report());
            let behind = graph.lag_records(&ends);
            let visible = graph.visible_offsets.values().sum();
            let estimate = seen.look(behind, visible, LOOK_EVERY).filter(|_| behind >= BEHIND_RECORDS_MIN);
            match (&estimate, logged) {
                (Some(estimate), at) if at.is_none_or(|at| at.elapsed() >= LOG_EVERY) => {
                    tracing::info!(
                        records_behind = estimate.records_behind,
                        records_per_second = estimate.records_per_second,
                        seconds_left = estimate.seconds_left,
                        "reading what is in the journal"
                    );
                    logged = Some(Instant::now());
                }
                (None, Some(_)) => {
                    tracing::info!(records_behind = behind, "the journal is read");
                    logged = None;
                }
                _ => {}
            }
            *self.0.write().unwrap_or_else(PoisonError::into_inner) = estimate;
        }
    }
}

/// What was seen at the last look.
#[derive(Debug, Default)]
struct Seen {
    last: Option<(u64, u64)>,
    /// Records a second: into the tables, and nearer to the journal's end.
    rates: Option<(f64, f64)>,
}

impl Seen {
    fn look(&mut self, behind: u64, visible: u64, since: Duration) -> Option<Estimate> {
        let last = self.last.replace((behind, visible));
        let (last_behind, last_visible) = last?;
        let a_second = |records: f64| records / since.as_secs_f64().max(f64::EPSILON);
        // Another graph, over other partitions, begins anew.
        let newest = (a_second(visible.saturating_sub(last_visible) as f64), a_second(last_behind as f64 - behind as f64));
        let mix = |old: f64, new: f64| old * (1.0 - NEWEST_SHARE) + new * NEWEST_SHARE;
        let (read, nearer) = self.rates.map_or(newest, |(read, nearer)| (mix(read, newest.0), mix(nearer, newest.1)));
        self.rates = Some((read, nearer));
        let seconds_left = (nearer >= 1.0).then(|| (behind as f64 / nearer).ceil() as u64);
        Some(Estimate { records_behind: behind, records_per_second: read as u64, seconds_left })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_time_left_follows_from_how_fast_the_end_comes_nearer() {
        let mut seen = Seen::default();
        let second = Duration::from_secs(1);
        assert!(seen.look(100_000, 0, second).is_none(), "of one look no rate is known");
        let estimate = seen.look(98_000, 2_000, second).unwrap();
        assert_eq!((estimate.records_behind, estimate.records_per_second, estimate.seconds_left), (98_000, 2_000, Some(49)));
        // As much comes as is read: it does not come nearer.
        let mut seen = Seen::default();
        seen.look(50_000, 0, second);
        assert_eq!(seen.look(50_000, 2_000, second).unwrap().seconds_left, None);
    }
}
