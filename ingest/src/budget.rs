//! The budget of bytes that bodies may take in memory, all requests together.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::telemetry;

/// Bytes that bodies take now, and how many they may.
#[derive(Debug)]
pub(crate) struct Budget {
    taken: AtomicUsize,
    bytes_max: usize,
}

/// The budget is used up; the client may try again a little later.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Exhausted;

/// A part of the budget, given back when dropped.
#[derive(Debug)]
pub(crate) struct Reservation {
    budget: Arc<Budget>,
    bytes: usize,
}

impl Budget {
    /// A budget of so many bytes.
    pub(crate) fn new(bytes_max: usize) -> Arc<Self> {
        Arc::new(Self { taken: AtomicUsize::new(0), bytes_max })
    }

    /// An empty reservation, to be grown.
    pub(crate) fn reservation(self: &Arc<Self>) -> Reservation {
        Reservation { budget: Arc::clone(self), bytes: 0 }
    }
}

impl Reservation {
    /// Takes more bytes out of the budget, all or none.
    pub(crate) fn grow(&mut self, bytes: usize) -> Result<(), Exhausted> {
        let take = |taken: usize| taken.checked_add(bytes).filter(|sum| *sum <= self.budget.bytes_max);
        self.budget.taken.fetch_update(Ordering::Relaxed, Ordering::Relaxed, take).map_err(|_| Exhausted)?;
        self.bytes += bytes;
        telemetry::bodies_in_flight(bytes as f64);
        Ok(())
    }

    /// Gives back what is above a number of bytes.
    pub(crate) fn shrink_to(&mut self, bytes: usize) {
        let excess = self.bytes.saturating_sub(bytes);
        if excess > 0 {
            self.bytes -= excess;
            self.budget.taken.fetch_sub(excess, Ordering::Relaxed);
            telemetry::bodies_in_flight(-(excess as f64));
        }
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        self.shrink_to(0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_taken_comes_back() {
        let budget = Budget::new(100);
        let mut first = budget.reservation();
        let mut second = budget.reservation();
        assert_eq!(first.grow(60), Ok(()));
        assert_eq!(second.grow(41), Err(Exhausted));
        assert_eq!(second.grow(usize::MAX), Err(Exhausted));
        assert_eq!(second.grow(40), Ok(()));
        first.shrink_to(10);
        assert_eq!(second.grow(50), Ok(()));
        first.shrink_to(20);
        drop(second);
        assert_eq!(budget.taken.load(Ordering::Relaxed), 10);
        drop(first);
        assert_eq!(budget.taken.load(Ordering::Relaxed), 0);
    }
}
