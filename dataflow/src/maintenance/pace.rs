//! How fast the maintenance works: for a share of one core's time, and no longer than until a stop.

use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::progress::Progress;

/// The program stops; what was begun is left for the next start.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the program stops")]
pub(super) struct Stopped;

/// Rests in proportion to what was worked.
#[derive(Debug)]
pub(super) struct Pace {
    /// How long to rest for a second of work.
    rest: f64,
    since: Instant,
    progress: Arc<Progress>,
}

/// Work between two rests.
const STRETCH: Duration = Duration::from_millis(20);
/// The longest rest: a stretch that waited for the disk was no work.
const REST_MAX: Duration = Duration::from_millis(500);

impl Pace {
    /// A pace of so many hundredths of a core.
    pub(super) fn new(percent: u32, progress: Arc<Progress>) -> Self {
        let rest = f64::from(100 - percent.clamp(1, 100)) / f64::from(percent.clamp(1, 100));
        Self { rest, since: Instant::now(), progress }
    }

    /// Begins a stretch of work: what passed before was none.
    pub(super) fn begin(&mut self) {
        self.since = Instant::now();
    }

    /// Called often during work.
    ///
    /// # Errors
    /// [`Stopped`] where the program stops.
    pub(super) fn step(&mut self) -> Result<(), Stopped> {
        if self.progress.is_stopping() || self.progress.has_failed() {
            return Err(Stopped);
        }
        let worked = self.since.elapsed();
        if worked >= STRETCH {
            std::thread::sleep(worked.mul_f64(self.rest).min(REST_MAX));
            self.since = Instant::now();
        }
        Ok(())
    }
}
