//! How the sends ended, and how long they took.

use std::collections::BTreeMap;
use std::time::Duration;

use hdrhistogram::Histogram;

use super::corpus::Rows;

/// Latencies above this count as this.
const LATENCY_MAX: Duration = Duration::from_secs(3600);
/// Digits to which latencies are kept.
const DIGITS: u8 = 3;

/// How a send ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ended {
    /// It was answered 200.
    Accepted,
    /// It was answered something else.
    Refused(u16),
    /// There was no answer.
    Failed(String),
}

/// The sends so far.
#[derive(Debug)]
pub struct Tally {
    /// Answered 200.
    pub accepted: u64,
    /// Answered otherwise, by status.
    pub refused: BTreeMap<u16, u64>,
    /// Not answered, by reason.
    pub failed: BTreeMap<String, u64>,
    /// Microseconds from a send's moment to its answer, of all that were answered.
    pub latency_us: Histogram<u64>,
    /// The same since [`Tally::take_recent`].
    recent_us: Histogram<u64>,
    /// Bytes of the envelopes.
    pub plain_bytes: u64,
    /// Bytes of the bodies.
    pub wire_bytes: u64,
    /// What the accepted ones add to the tables.
    pub rows: Rows,
}

impl Default for Tally {
    fn default() -> Self {
        Self {
            accepted: 0,
            refused: BTreeMap::new(),
            failed: BTreeMap::new(),
            latency_us: latencies(),
            recent_us: latencies(),
            plain_bytes: 0,
            wire_bytes: 0,
            rows: Rows::default(),
        }
    }
}

/// An empty histogram of microseconds.
pub fn latencies() -> Histogram<u64> {
    Histogram::new_with_bounds(1, LATENCY_MAX.as_micros() as u64, DIGITS).expect("the bounds are in order and three digits are allowed")
}

/// Counts a time in a histogram of microseconds.
pub fn record(histogram: &mut Histogram<u64>, took: Duration) {
    histogram.saturating_record(took.as_micros() as u64);
}

/// What of a send is counted beside its end.
#[derive(Debug, Clone, Copy)]
pub struct Sent {
    /// From its moment to its answer.
    pub took: Duration,
    /// Bytes of the envelope.
    pub plain_bytes: usize,
    /// Bytes of the body.
    pub wire_bytes: usize,
    /// What it adds to the tables where it is accepted.
    pub rows: Rows,
}

impl Tally {
    /// Counts a send.
    pub fn count(&mut self, ended: Ended, sent: Sent) {
        self.plain_bytes += sent.plain_bytes as u64;
        self.wire_bytes += sent.wire_bytes as u64;
        match ended {
            Ended::Accepted => {
                self.accepted += 1;
                self.rows += sent.rows;
            }
            Ended::Refused(status) => *self.refused.entry(status).or_default() += 1,
            Ended::Failed(reason) => {
                *self.failed.entry(reason).or_default() += 1;
                return;
            }
        }
        record(&mut self.latency_us, sent.took);
        record(&mut self.recent_us, sent.took);
    }

    /// All sends.
    pub fn sent(&self) -> u64 {
        self.accepted + self.refused() + self.failed.values().sum::<u64>()
    }

    /// Sends that were answered, but not 200.
    pub fn refused(&self) -> u64 {
        self.refused.values().sum()
    }

    /// The latencies since the last call.
    pub fn take_recent(&mut self) -> Histogram<u64> {
        std::mem::replace(&mut self.recent_us, latencies())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ends_are_counted_apart_and_latencies_only_of_answers() {
        let mut tally = Tally::default();
        let rows = Rows { errors: 1, ..Rows::default() };
        let sent = |ms| Sent { took: Duration::from_millis(ms), plain_bytes: 10, wire_bytes: 4, rows };
        tally.count(Ended::Accepted, sent(10));
        tally.count(Ended::Accepted, sent(20));
        tally.count(Ended::Refused(429), sent(30));
        tally.count(Ended::Failed("no answer".to_owned()), sent(10_000));
        assert_eq!((tally.sent(), tally.accepted, tally.refused(), tally.rows.errors), (4, 2, 1, 2));
        assert_eq!((tally.plain_bytes, tally.wire_bytes), (40, 16));
        assert_eq!((tally.latency_us.len(), tally.latency_us.value_at_quantile(1.0) / 1000), (3, 30));
        assert_eq!((tally.take_recent().len(), tally.take_recent().len()), (3, 0));
    }
}
