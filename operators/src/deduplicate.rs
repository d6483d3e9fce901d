//! Duplicates: whether an item was seen before, within a window of receive time.
//!
//! SDKs send again what they got no answer for. An item that has the same identity as one received at most an hour before
//! (by receive time, which the journal holds, so that a replay decides alike) is counted once.

use std::collections::{BTreeMap, HashMap};

use serde::{Deserialize, Serialize};
use timely::dataflow::StreamVec;
use weir_protocol::ids::{EventId, ProjectId};
use weir_protocol::limits::{DEDUPLICATION_IDS_MAX, DEDUPLICATION_WINDOW_MS};

use crate::Time;
use crate::fact::Fact;
use crate::stage::each_tick;

/// What makes an item the same as another: 128 bits of BLAKE3 over its project and its id or payload.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Identity(u128);

impl Identity {
    /// An event or transaction is known by its id.
    pub fn event(project_id: ProjectId, event_id: EventId) -> Self {
        Self::of(project_id, b"event", &event_id.0)
    }

    /// An item without an id is known by the digest of its payload; see [`crate::decode::Item::digest`].
    pub fn payload(project_id: ProjectId, digest: [u8; 16]) -> Self {
        Self::of(project_id, b"items", &digest)
    }

    /// Its bytes, to be stored.
    pub fn to_bytes(self) -> [u8; 16] {
        self.0.to_le_bytes()
    }

    /// The identity that had these bytes.
    pub fn from_bytes(bytes: [u8; 16]) -> Self {
        Self(u128::from_le_bytes(bytes))
    }

    fn of(project_id: ProjectId, kind: &[u8; 5], id: &[u8; 16]) -> Self {
        let mut hasher = blake3::Hasher::new();
        hasher.update(&project_id.to_le_bytes()).update(kind).update(id);
        let mut bytes = [0; 16];
        hasher.finalize_xof().fill(&mut bytes);
        Self(u128::from_le_bytes(bytes))
    }
}

/// The identities of the window. Memory is bounded: past `ids_max` the oldest minute is forgotten, and the window is shorter
/// than stated until fewer arrive.
#[derive(Debug)]
pub struct Recent {
    window_ms: u64,
    ids_max: usize,
    /// When each identity was first received. Looked up only, never iterated: its order is not defined.
    seen: HashMap<Identity, u64>,
    /// The same by minute of receipt, to forget them in order.
    by_minute: BTreeMap<u64, Vec<Identity>>,
}

const MINUTE_MS: u64 = 60_000;

impl Default for Recent {
    fn default() -> Self {
        Self::new(DEDUPLICATION_WINDOW_MS, DEDUPLICATION_IDS_MAX)
    }
}

impl Recent {
    /// Remembers at most `ids_max` identities, each for `window_ms` milliseconds of receive time.
    pub fn new(window_ms: u64, ids_max: usize) -> Self {
        Self { window_ms, ids_max, seen: HashMap::new(), by_minute: BTreeMap::new() }
    }

    /// Whether an item received at `received_ms` is the first of its identity within the window. Later ones do not prolong
    /// the window: a client that repeats forever is counted once an hour.
    pub fn is_first(&mut self, identity: Identity, received_ms: u64) -> bool {
        if let Some(&first_ms) = self.seen.get(&identity)
            && received_ms.saturating_sub(first_ms) <= self.window_ms
        {
            return false;
        }
        self.remember(identity, received_ms);
        true
    }

    /// Takes an identity up without asking: one that the tables hold, at start. It may have been received again after the window;
    /// then the last time counts, in whatever order they are told.
    pub fn remember(&mut self, identity: Identity, received_ms: u64) {
        let known = self.seen.entry(identity).or_insert(received_ms);
        if received_ms < *known {
            return;
        }
        *known = received_ms;
        self.by_minute.entry(received_ms / MINUTE_MS).or_default().push(identity);
        while self.seen.len() > self.ids_max {
            self.forget_oldest_minute();
        }
    }

    /// Forgets what no item received at or after `received_ms` can be a duplicate of. A minute more is kept, since records
    /// of one moment may stand in the journal in another order than they were received in.
    pub fn forget_before_window_of(&mut self, received_ms: u64) {
        let horizon = received_ms.saturating_sub(self.window_ms + MINUTE_MS) / MINUTE_MS;
        while self.by_minute.first_key_value().is_some_and(|(minute, _)| *minute < horizon) {
            self.forget_oldest_minute();
        }
    }

    fn forget_oldest_minute(&mut self) {
        let Some((minute, identities)) = self.by_minute.pop_first() else { return };
        for identity in identities {
            // It may have been received again after the window; then it is remembered under a later minute.
            if self.seen.get(&identity).is_some_and(|received_ms| received_ms / MINUTE_MS == minute) {
                self.seen.remove(&identity);
            }
        }
    }

    /// How many identities are remembered.
    pub fn len(&self) -> usize {
        self.seen.len()
    }

    /// Whether none is remembered.
    pub fn is_empty(&self) -> bool {
        self.seen.is_empty()
    }
}

/// The stage that finds duplicates.
pub trait Deduplicate<'scope> {
    /// Turns the facts of items that were received before into outcomes.
    fn deduplicate(self, recent: Recent) -> StreamVec<'scope, Time, Fact>;
}

impl<'scope> Deduplicate<'scope> for StreamVec<'scope, Time, Fact> {
    fn deduplicate(self, mut recent: Recent) -> StreamVec<'scope, Time, Fact> {
        each_tick(self, "Deduplicate", move |_time, facts: Vec<Fact>, unique| {
            let mut newest_ms = None;
            for fact in facts {
                newest_ms = newest_ms.max(Some(fact.received_ms));
                let is_first = fact.identity.is_none_or(|identity| recent.is_first(identity, fact.received_ms));
                unique.push(if is_first { fact } else { fact.into_duplicate() });
            }
            if let Some(received_ms) = newest_ms {
                recent.forget_before_window_of(received_ms);
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(n: u8) -> Identity {
        Identity::event(1, EventId([n; 16]))
    }

    #[test]
    fn the_window_is_of_receive_time_and_is_not_prolonged() {
        let mut recent = Recent::new(3_600_000, 100);
        for (n, received_ms, first) in
            [(1, 0, true), (1, 1, false), (2, 1, true), (1, 3_600_000, false), (1, 3_600_001, true), (1, 7_200_001, false), (1, 7_200_002, true)]
        {
            assert_eq!(recent.is_first(id(n), received_ms), first, "{n} at {received_ms}");
        }
    }

    #[test]
    fn of_two_stored_times_the_later_one_counts() {
        let mut recent = Recent::new(3_600_000, 100);
        recent.remember(id(1), 3_660_000);
        recent.remember(id(1), 0);
        assert!(!recent.is_first(id(1), 4_200_000));
        recent.forget_before_window_of(4_200_000);
        assert_eq!(recent.len(), 1);
    }

    #[test]
    fn forgetting_never_shortens_the_window() {
        let mut recent = Recent::new(3_600_000, 100);
        recent.is_first(id(1), 59_999);
        recent.is_first(id(2), 60_000);
        recent.forget_before_window_of(3_720_000);
        assert_eq!(recent.len(), 1);
        assert!(!recent.is_first(id(2), 3_660_000));
    }

    #[test]
    fn memory_is_bounded() {
        let mut recent = Recent::new(3_600_000, 10);
        for n in 0..100u8 {
            recent.is_first(id(n), u64::from(n) * 60_000);
        }
        assert!(recent.len() <= 10);
        assert!(!recent.is_first(id(99), 99 * 60_000));
    }

    #[test]
    fn identities_differ_by_project_and_kind() {
        let all = [Identity::event(1, EventId([1; 16])), Identity::event(2, EventId([1; 16])), Identity::payload(1, [1; 16]), id(2)];
        assert_eq!(all.iter().collect::<std::collections::BTreeSet<_>>().len(), all.len());
    }
}
