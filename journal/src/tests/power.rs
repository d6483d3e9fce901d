//! Power cuts at any point, after any failures: everything acknowledged is there, in order, and nothing was invented.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use super::*;

#[derive(Debug, Clone)]
enum Act {
    /// So many appends at the same time, of about a size.
    Append(u8, u16),
    FailSyncs(u32),
    FailTruncates(u32),
    /// Room for so many bytes beside what is used.
    Capacity(u16),
    SpaceReturns,
    /// Truncate at so many 256ths of what is held.
    Truncate(u8),
    /// The power goes after so many calls; then the program starts again.
    PowerCut(u8, u64),
}

fn act() -> impl Strategy<Value = Act> {
    prop_oneof![
        8 => (1..12u8, 0..2000u16).prop_map(|(count, size)| Act::Append(count, size)),
        1 => (1..3u32).prop_map(Act::FailSyncs),
        1 => (1..3u32).prop_map(Act::FailTruncates),
        1 => (0..4000u16).prop_map(Act::Capacity),
        1 => Just(Act::SpaceReturns),
        2 => any::<u8>().prop_map(Act::Truncate),
        3 => (0..12u8, any::<u64>()).prop_map(|(calls, seed)| Act::PowerCut(calls, seed)),
    ]
}

/// What the journal has promised, and what was ever given to it.
#[derive(Default)]
struct Promises {
    acknowledged: BTreeMap<u64, u64>,
    given: BTreeSet<u64>,
}

impl Promises {
    fn append(&mut self, journal: &Segments, count: u8, size: u16) {
        let first = self.given.len() as u64;
        let ids = first..first + u64::from(count);
        self.given.extend(ids.clone());
        let records = ids.clone().map(|id| record(id, usize::from(size) / (id as usize % 3 + 1)));
        for (id, result) in ids.zip(append_all(journal, records)) {
            if let Ok(offset) = result {
                let before = self.acknowledged.insert(offset, id);
                assert_eq!(before, None, "two records were given offset {offset}");
            }
        }
    }

    fn check(&self, journal: &Segments) {
        let (start, end) = (journal.start(), journal.end());
        let read = short(&read_all(journal, start, 3000).unwrap());
        assert_eq!(journal.status().damages, []);
        let mut found = BTreeMap::new();
        for (offset, entry) in (start..end).zip(&read) {
            let Short::Record(at, id) = entry else { panic!("{entry:?}") };
            assert_eq!(*at, offset, "in order, without gaps");
            found.insert(offset, *id);
        }
        assert_eq!(found.len(), read.len());
        assert_eq!(found.len() as u64, end - start);
        for (offset, id) in self.acknowledged.range(start..) {
            assert_eq!(found.get(offset), Some(id), "record {offset} was acknowledged");
        }
        let distinct: BTreeSet<u64> = found.values().copied().collect();
        assert_eq!(distinct.len(), found.len(), "no record twice");
        assert!(distinct.is_subset(&self.given), "nothing is invented");
    }
}

/// A number below `n` for each question, from a seed.
fn choices(mut seed: u64) -> impl FnMut(u64) -> u64 {
    move |n| {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (seed >> 33) % n
    }
}

fn run(acts: &[Act], tail_bytes_max: usize) {
    let options = Options { segment_bytes_max: 6000, tail_bytes_max, ..options() };
    let mut disk = Faulty::new();
    let (mut journal, _) = open(options.clone(), &disk);
    let mut promises = Promises::default();
    for act in acts {
        match act {
            Act::Append(count, size) => promises.append(&journal, *count, *size),
            Act::FailSyncs(count) => disk.fail_syncs(*count),
            Act::FailTruncates(count) => disk.fail_truncates(*count),
            Act::Capacity(more) => disk.set_capacity(Some(journal.status().bytes + u64::from(*more))),
            Act::SpaceReturns => disk.set_capacity(None),
            Act::Truncate(part) => {
                let (start, end) = (journal.start(), journal.end());
                journal.truncate_before(start + (end - start) * u64::from(*part) / 255).unwrap();
            }
            Act::PowerCut(calls, seed) => {
                promises.check(&journal);
                disk.cut_power_after(u64::from(*calls));
                promises.append(&journal, 7, 500);
                promises.append(&journal, 3, 500);
                drop(journal);
                let end = promises.acknowledged.last_key_value().map_or(0, |(offset, _)| offset + 1);
                disk = disk.after_power_cut(choices(*seed));
                let (after, opened) = open(options.clone(), &disk);
                assert!(opened.end >= end, "the end went back from {end} to {}", opened.end);
                journal = after;
                promises.check(&journal);
            }
        }
    }
    promises.check(&journal);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn everything_acknowledged_survives(acts in prop::collection::vec(act(), 1..25), tail in prop_oneof![Just(0), Just(1 << 20)]) {
        run(&acts, tail);
    }
}
