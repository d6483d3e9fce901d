//! What a send has of its own: ids, a moment, a place in the spread of issues, users and releases.

use std::sync::atomic::{AtomicI64, Ordering::Relaxed};
use std::time::{SystemTime, UNIX_EPOCH};

/// What the gaps of a template are filled with.
#[derive(Debug, Clone, Copy)]
pub struct Fresh<'a> {
    /// Makes the ids; no two sends have the same.
    pub seed: u64,
    /// The moment of sending, in Unix microseconds; no two sends have the same.
    pub now_us: i64,
    /// Which issue of its template, from 0.
    pub issue: u64,
    /// Which user, from 0.
    pub user: u64,
    /// Which release, from 0.
    pub release: u64,
    /// The DSN that is sent to.
    pub dsn: &'a str,
    /// Its public key.
    pub key: &'a str,
}

impl Fresh<'_> {
    /// The n-th id of the envelope: a random UUID to look at.
    pub fn id(&self, number: u16) -> [u8; 16] {
        let low = mix(self.seed ^ (u64::from(number) << 48) ^ (u64::from(number) + 1));
        let high = mix(low ^ self.seed);
        let mut id = [0; 16];
        id[..8].copy_from_slice(&high.to_be_bytes());
        id[8..].copy_from_slice(&low.to_be_bytes());
        id[6] = (id[6] & 0x0f) | 0x40;
        id[8] = (id[8] & 0x3f) | 0x80;
        id
    }

    /// The n-th span id of the envelope; never all zeros.
    pub fn span_id(&self, number: u16) -> u64 {
        mix(!self.seed ^ (u64::from(number) << 32)) | 1
    }
}

/// How many issues, users and releases there are; 0 leaves them as they were recorded.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Spread {
    /// Issues of each recorded error event.
    pub issues_per_event: u64,
    /// Users.
    pub users: u64,
    /// Releases.
    pub releases: u64,
}

/// Where fresh values come from. Shared by all connections.
#[derive(Debug)]
pub struct Source {
    random: u64,
    spread: Spread,
    last_us: AtomicI64,
}

impl Source {
    /// A source whose ids are those of no other run: `random` is drawn anew for each.
    pub fn new(random: u64, spread: Spread) -> Self {
        Self { random, spread, last_us: AtomicI64::new(0) }
    }

    /// The values of a send.
    pub fn fresh<'a>(&self, send: u64, dsn: &'a str, key: &'a str) -> Fresh<'a> {
        // The finaliser is a bijection, so that no two sends of a run have one seed.
        let seed = mix(self.random.wrapping_add(send));
        let pick = |salt: u64, count: u64| pick(mix(seed ^ salt), count);
        Fresh {
            seed,
            now_us: self.now_us(),
            issue: skewed(mix(seed ^ 1), self.spread.issues_per_event),
            user: pick(2, self.spread.users),
            release: pick(3, self.spread.releases),
            dsn,
            key,
        }
    }

    /// The clock, moved on where two sends fall into one microsecond: items without an id are told apart by what they say.
    fn now_us(&self) -> i64 {
        let clock = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_micros() as i64);
        let next = |last: i64| Some(clock.max(last + 1));
        let last = self.last_us.fetch_update(Relaxed, Relaxed, next).unwrap_or_default();
        clock.max(last + 1)
    }
}

/// One of `count` values, each as often as the others.
fn pick(random: u64, count: u64) -> u64 {
    if count == 0 { 0 } else { random % count }
}

/// One of `count` values, the n-th about n times as rare as the first: a few issues make most of the events.
fn skewed(random: u64, count: u64) -> u64 {
    if count == 0 {
        return 0;
    }
    let share = (random >> 11) as f64 / (1u64 << 53) as f64;
    (((count + 1) as f64).powf(share) as u64).clamp(1, count) - 1
}

/// The finaliser of splitmix64: a bijection whose results look random.
fn mix(value: u64) -> u64 {
    let value = value.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let value = (value ^ (value >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let value = (value ^ (value >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    value ^ (value >> 31)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn sends_have_nothing_in_common() {
        let source = Source::new(7, Spread::default());
        let (mut ids, mut spans, mut times) = (BTreeSet::new(), BTreeSet::new(), BTreeSet::new());
        for send in 0..2000 {
            let fresh = source.fresh(send, "", "");
            (0..20).for_each(|number| assert!(ids.insert(fresh.id(number)), "id {number} of {send}"));
            (0..20).for_each(|number| assert!(spans.insert(fresh.span_id(number)), "span id {number} of {send}"));
            assert!(times.insert(fresh.now_us), "{send}");
        }
        assert_ne!(Source::new(8, Spread::default()).fresh(0, "", "").id(0), source.fresh(0, "", "").id(0));
    }

    #[test]
    fn the_spread_is_all_used_and_never_exceeded() {
        let source = Source::new(1, Spread { issues_per_event: 10, users: 20, releases: 3 });
        let sent: Vec<Fresh<'_>> = (0..5000).map(|send| source.fresh(send, "", "")).collect();
        let of = |value: fn(&Fresh<'_>) -> u64| sent.iter().map(value).collect::<BTreeSet<_>>();
        assert_eq!(of(|f| f.issue), (0..10).collect());
        assert_eq!(of(|f| f.user), (0..20).collect());
        assert_eq!(of(|f| f.release), (0..3).collect());
        let often = |n| sent.iter().filter(|f| f.issue == n).count();
        assert!(often(0) > 2 * often(9), "{} and {}", often(0), often(9));
    }
}
