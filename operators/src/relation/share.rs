//! The rows of the relation and the subscriptions that see them, by parameter key.
//!
//! Subscriptions of one key with the same constants say the same of a row, so they stand together: a row that changes is looked
//! at once for each of the constants, and only what is said of it goes to every subscription.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::rc::Rc;

use super::meter::Meter;
use super::parameters;
use super::spine::Bytes;
use super::template::SubscriptionId;

/// A map that is a sorted list while it is small: most have one entry, and there are as many as subscriptions and groups.
#[derive(Debug)]
enum Sorted<K, V> {
    Few(Vec<(K, V)>),
    Many(BTreeMap<K, V>),
}

/// How many entries a list has at most.
const FEW_MAX: usize = 32;

impl<K, V> Default for Sorted<K, V> {
    fn default() -> Self {
        Self::Few(Vec::new())
    }
}

impl<K: Ord + Clone, V: Default> Sorted<K, V> {
    /// The value of a key, put in where it is not there.
    fn entry(&mut self, key: &K) -> &mut V {
        if let Self::Few(list) = self
            && list.len() >= FEW_MAX
        {
            *self = Self::Many(std::mem::take(list).into_iter().collect());
        }
        match self {
            Self::Few(list) => {
                let place = list.binary_search_by(|(at, _)| at.cmp(key)).unwrap_or_else(|place| {
                    if list.is_empty() {
                        list.reserve_exact(1);
                    }
                    list.insert(place, (key.clone(), V::default()));
                    place
                });
                &mut list[place].1
            }
            Self::Many(map) => map.entry(key.clone()).or_default(),
        }
    }

    fn remove(&mut self, key: &K) {
        match self {
            Self::Few(list) => {
                if let Ok(place) = list.binary_search_by(|(at, _)| at.cmp(key)) {
                    list.remove(place);
                }
            }
            Self::Many(map) => {
                map.remove(key);
            }
        }
    }

    fn is_empty(&self) -> bool {
        match self {
            Self::Few(list) => list.is_empty(),
            Self::Many(map) => map.is_empty(),
        }
    }

    fn for_each(&self, mut visit: impl FnMut(&K, &V)) {
        match self {
            Self::Few(list) => list.iter().for_each(|(key, value)| visit(key, value)),
            Self::Many(map) => map.iter().for_each(|(key, value)| visit(key, value)),
        }
    }
}

impl<K: Ord + Clone> Sorted<K, i64> {
    fn add(&mut self, key: &K, difference: i64) {
        let count = self.entry(key);
        *count += difference;
        if *count == 0 {
            self.remove(key);
        }
    }
}

/// What there is of a parameter key.
#[derive(Debug, Default)]
struct Share {
    /// Rows of the relation, and failing ones, and how often each is there.
    rows: Sorted<Bytes, i64>,
    /// Subscriptions by their constants, and how often each is there.
    subscribers: Sorted<Bytes, Sorted<SubscriptionId, i64>>,
}

/// What a tick changes, by parameter key.
#[derive(Debug, Default)]
pub(super) struct Arrivals {
    rows: Vec<(Bytes, i64)>,
    parameters: Vec<(Bytes, i64)>,
}

/// A row with constants that are to be said something of, and to whom.
#[derive(Debug)]
pub(super) struct Pair {
    /// Of [`Pairs::rows`].
    pub row: u32,
    /// Of [`Pairs::constants`].
    pub constants: u32,
    pub difference: i64,
    /// Of [`Pairs::targets`].
    pub target: u32,
}

/// What a tick leads to.
#[derive(Debug, Default)]
pub(super) struct Pairs {
    /// Parameter keys and the rest of rows.
    pub rows: Vec<(Bytes, Bytes)>,
    pub constants: Vec<Bytes>,
    /// Subscriptions that are told the same, and how often each is there.
    pub targets: Vec<Vec<(SubscriptionId, i64)>>,
    /// Those that are not finished yet.
    pub pairs: Vec<Pair>,
    /// Subscriptions that are refused.
    refused: Vec<SubscriptionId>,
}

/// The shares of a worker's keys.
pub(super) struct Shares {
    shares: HashMap<Bytes, Share>,
    /// Who was refused, by parameter key and parameters: it goes without having come.
    refused: BTreeSet<(Bytes, Bytes)>,
    meter: Rc<Meter>,
}

/// How many pairs are finished at a time.
const PAIRS_MAX: usize = 1 << 16;

const SUBSCRIPTION_OVERHEAD_BYTES: i64 = 160;

impl Arrivals {
    /// By key, from updates of a tick.
    pub fn by_key(rows: Vec<((Bytes, Bytes), i64)>, parameters: Vec<((Bytes, Bytes), i64)>) -> BTreeMap<Bytes, Self> {
        let mut by_key = BTreeMap::<Bytes, Self>::new();
        for ((key, row), difference) in rows {
            by_key.entry(key).or_default().rows.push((row, difference));
        }
        for ((key, parameters), difference) in parameters {
            by_key.entry(key).or_default().parameters.push((parameters, difference));
        }
        for arrivals in by_key.values_mut() {
            differential_dataflow::consolidation::consolidate(&mut arrivals.rows);
            differential_dataflow::consolidation::consolidate(&mut arrivals.parameters);
        }
        by_key
    }
}

impl Shares {
    pub fn new(meter: Rc<Meter>) -> Self {
        Self { shares: HashMap::new(), refused: BTreeSet::new(), meter }
    }

    /// Lets go of everything.
    pub fn clear(&mut self) {
        self.shares = HashMap::new();
        self.refused = BTreeSet::new();
    }

    /// Takes a tick's changes in: who comes sees what was there, what changes is seen by who is there then. `finish` is given the
    /// pairs, so many at a time as fit into memory whatever meets. Returns the pairs' targets, and who is refused since so many
    /// rows are there for it that all would halt.
    pub fn take(&mut self, arrivals: BTreeMap<Bytes, Arrivals>, mut finish: impl FnMut(&Pairs)) -> (Vec<Vec<(SubscriptionId, i64)>>, Vec<SubscriptionId>) {
        let mut pairs = Pairs::default();
        let mut numbers = HashMap::new();
        for (key, arrivals) in arrivals {
            self.take_key(key, arrivals, &mut pairs, &mut numbers, &mut finish);
        }
        pairs.finish(&mut finish);
        (pairs.targets, pairs.refused)
    }

    fn take_key(&mut self, key: Bytes, arrivals: Arrivals, pairs: &mut Pairs, numbers: &mut HashMap<Bytes, u32>, finish: &mut impl FnMut(&Pairs)) {
        let meter = &self.meter;
        let share = self.shares.entry(key.clone()).or_default();
        let mut old_rows = None;
        for (parameters, difference) in &arrivals.parameters {
            let (subscription, constants) = parameters::split(parameters);
            let (first, counts) = old_rows.get_or_insert_with(|| pairs.old_rows(&key, &share.rows));
            let was_refused = !self.refused.is_empty() && self.refused.remove(&(key.clone(), parameters.clone()));
            if *difference < 0 && was_refused {
                continue;
            }
            // Who goes is seen off whatever it takes: it makes room.
            if *difference > 0 && !meter.has_room(counts.len() as u64) {
                self.refused.insert((key.clone(), parameters.clone()));
                pairs.refused.push(subscription);
                continue;
            }
            let target = pairs.target(vec![(subscription, 1)]);
            let constants_number = pairs.number(constants, numbers);
            for (row, count) in (*first..).zip(counts.iter()) {
                pairs.push(Pair { row, constants: constants_number, difference: count * difference, target }, finish);
            }
            let constants = constants.to_vec();
            let of_constants = share.subscribers.entry(&constants);
            of_constants.add(&subscription, *difference);
            if of_constants.is_empty() {
                share.subscribers.remove(&constants);
            }
            meter.add_bytes(difference * ((key.len() + parameters.len()) as i64 + SUBSCRIPTION_OVERHEAD_BYTES));
        }
        if !arrivals.rows.is_empty() {
            let first = pairs.rows.len() as u32;
            for (row, difference) in &arrivals.rows {
                share.rows.add(row, *difference);
            }
            let differences: Vec<i64> = arrivals.rows.iter().map(|(_, difference)| *difference).collect();
            if !share.subscribers.is_empty() {
                pairs.rows.extend(arrivals.rows.into_iter().map(|(row, _)| (key.clone(), row)));
            }
            share.subscribers.for_each(|constants, subscriptions| {
                let mut told = Vec::new();
                subscriptions.for_each(|subscription, count| told.push((*subscription, *count)));
                let target = pairs.target(told);
                let constants = pairs.number(constants, numbers);
                if meter.pairs(differences.len() as u64) {
                    for (row, difference) in (first..).zip(&differences) {
                        pairs.push(Pair { row, constants, difference: *difference, target }, finish);
                    }
                }
            });
        }
        if share.rows.is_empty() && share.subscribers.is_empty() {
            self.shares.remove(&key);
        }
    }
}

impl Pairs {
    fn push(&mut self, pair: Pair, finish: &mut impl FnMut(&Self)) {
        self.pairs.push(pair);
        if self.pairs.len() >= PAIRS_MAX {
            self.finish(finish);
        }
    }

    fn finish(&mut self, finish: &mut impl FnMut(&Self)) {
        if !self.pairs.is_empty() {
            finish(self);
            self.pairs.clear();
        }
    }

    fn target(&mut self, subscriptions: Vec<(SubscriptionId, i64)>) -> u32 {
        self.targets.push(subscriptions);
        (self.targets.len() - 1) as u32
    }

    fn number(&mut self, constants: &[u8], numbers: &mut HashMap<Bytes, u32>) -> u32 {
        if let Some(number) = numbers.get(constants) {
            return *number;
        }
        let number = self.constants.len() as u32;
        self.constants.push(constants.to_vec());
        numbers.insert(constants.to_vec(), number);
        number
    }

    /// How large the row and the constants of a pair are.
    pub fn bytes(&self, pair: &Pair) -> usize {
        let (key, row) = &self.rows[pair.row as usize];
        key.len() + row.len() + self.constants[pair.constants as usize].len()
    }

    /// Puts the rows of a share in; gives the number of the first and how often each is there.
    fn old_rows(&mut self, key: &Bytes, rows: &Sorted<Bytes, i64>) -> (u32, Vec<i64>) {
        let first = self.rows.len() as u32;
        let mut counts = Vec::new();
        rows.for_each(|row, count| {
            self.rows.push((key.clone(), row.clone()));
            counts.push(*count);
        });
        (first, counts)
    }
}

#[cfg(test)]
mod tests {
    use super::super::meter::Quotas;
    use super::*;

    #[test]
    fn a_sorted_map_grows_and_shrinks() {
        let mut map = Sorted::<u64, i64>::default();
        let keys = || (0..100).map(|index| index * 37 % 100);
        keys().for_each(|key| map.add(&key, 2));
        let mut seen = Vec::new();
        map.for_each(|key, count| seen.push((*key, *count)));
        assert_eq!(seen, (0..100).map(|key| (key, 2)).collect::<Vec<_>>());
        keys().for_each(|key| map.add(&key, -2));
        assert!(map.is_empty());
    }

    fn parameters(subscription: u64, constants: u8) -> Bytes {
        let mut bytes = subscription.to_be_bytes().to_vec();
        bytes.push(constants);
        bytes
    }

    #[test]
    fn subscriptions_with_the_same_constants_are_told_together() {
        let mut shares = Shares::new(Rc::new(Meter::new(Quotas::default(), 1)));
        let key = || vec![1, 1];
        let come = [(1, 5), (2, 5), (3, 6)].map(|(subscription, constants)| ((key(), parameters(subscription, constants)), 1));
        assert_eq!(told(&mut shares, vec![], come.to_vec()), []);
        let of_row = told(&mut shares, vec![((key(), vec![0, 9]), 1)], vec![]);
        assert_eq!(of_row, [(vec![5], vec![(1, 1), (2, 1)], 1), (vec![6], vec![(3, 1)], 1)]);
        // Who comes later sees the row that is there, and with it the change of the same tick.
        let changed = told(&mut shares, vec![((key(), vec![0, 9]), -1), ((key(), vec![0, 8]), 1)], vec![((key(), parameters(4, 7)), 1)]);
        assert_eq!(changed.iter().filter(|(constants, _, _)| *constants == [7]).map(|(_, _, difference)| difference).sum::<i64>(), 1);
        let go = [(1, 5), (2, 5), (3, 6), (4, 7)].map(|(subscription, constants)| ((key(), parameters(subscription, constants)), -1));
        told(&mut shares, vec![((key(), vec![0, 8]), -1)], go.to_vec());
        assert!(shares.shares.is_empty());
    }

    #[test]
    fn who_comes_to_more_rows_than_a_tick_may_make_pairs_is_refused_alone() {
        let meter = Rc::new(Meter::new(Quotas { pairs_per_tick_max: 10, ..Quotas::default() }, 1));
        let mut shares = Shares::new(Rc::clone(&meter));
        let key = || vec![1, 1];
        let rows = |difference| (0..8).map(|row| ((key(), vec![0, row]), difference)).collect::<Vec<_>>();
        let comes = |subscription, difference| vec![((key(), parameters(subscription, 5)), difference)];
        told(&mut shares, rows(1), comes(1, 1));
        meter.end_filling();
        let (both, refused) = take(&mut shares, vec![], [comes(2, 1), comes(3, 1)].concat());
        assert_eq!((both.len(), refused), (8, vec![3]));
        // It goes as if it had come, and may come again.
        meter.take_usage();
        assert_eq!(take(&mut shares, vec![], comes(3, -1)), (vec![], vec![]));
        assert_eq!(told(&mut shares, vec![], comes(3, 1)).len(), 8);
        assert!(!meter.is_halted());
        let go = [1, 2, 3].map(|subscription| comes(subscription, -1)).concat();
        told(&mut shares, vec![], go);
        told(&mut shares, rows(-1), vec![]);
        assert!(shares.shares.is_empty() && shares.refused.is_empty() && !meter.is_halted());
    }

    /// Constants, whom they are of, and the difference of each pair.
    type Told = (Bytes, Vec<(SubscriptionId, i64)>, i64);

    fn take(shares: &mut Shares, rows: Vec<((Bytes, Bytes), i64)>, parameters: Vec<((Bytes, Bytes), i64)>) -> (Vec<Told>, Vec<SubscriptionId>) {
        let mut told = Vec::new();
        let (_, refused) = shares.take(Arrivals::by_key(rows, parameters), |pairs| {
            told.extend(
                pairs.pairs.iter().map(|pair| (pairs.constants[pair.constants as usize].clone(), pairs.targets[pair.target as usize].clone(), pair.difference)),
            );
        });
        (told, refused)
    }

    fn told(shares: &mut Shares, rows: Vec<((Bytes, Bytes), i64)>, parameters: Vec<((Bytes, Bytes), i64)>) -> Vec<Told> {
        let (told, refused) = take(shares, rows, parameters);
        assert!(refused.is_empty(), "{refused:?}");
        told
    }
}
