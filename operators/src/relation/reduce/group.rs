//! The groups of a reduction on the worker that they belong to: what each came to, and what each pane of a window adds to it.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::rc::Rc;

use arrow::datatypes::SchemaRef;
use serde::{Deserialize, Serialize};

use super::super::meter::Meter;
use super::super::plan::Universe;
use super::super::spine::Bytes;
use super::super::window::Geometry;
use super::cell::{Cell, cell};
use super::slots::{BagKind, Part, Slots, add, distinct_value};
use crate::Time;

/// What rows of one group, and of one pane where there is a window, add up to.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Contribution {
    pub key: Bytes,
    pub time: Time,
    pub pane: Option<i64>,
    pub sums: Vec<i128>,
    /// Values by bag, sorted, each once.
    pub bags: Vec<(u32, Bytes, i64)>,
}

/// Integers that add up, and bags of values.
#[derive(Debug, Default)]
pub(super) struct Sums {
    pub sums: Box<[i128]>,
    pub bags: Box<[BTreeMap<Bytes, i64>]>,
}

#[derive(Debug, Default)]
struct Group {
    sums: Sums,
    /// How many subscriptions ask for the group.
    asked: i64,
}

#[derive(Debug, Default)]
struct Pane {
    entered: bool,
    groups: BTreeMap<Bytes, Sums>,
}

/// What a group came to: the aggregates, or why one of them has no value.
pub(super) type Outcome = Result<Vec<Cell>, String>;

/// The groups of a worker.
pub(super) struct Groups {
    slots: Rc<Slots>,
    /// The aggregates' columns are those from `keys` on.
    schema: SchemaRef,
    keys: usize,
    universe: Universe,
    window: Option<Geometry>,
    /// Whether rows never go, but with their pane: then only the extreme of a pane matters.
    monotone: bool,
    meter: Rc<Meter>,
    groups: HashMap<Bytes, Group>,
    panes: BTreeMap<i64, Pane>,
    /// Panes that have rows and have not entered.
    outside: BTreeSet<i64>,
    /// Whether the one group of [`Universe::One`] is there.
    seeded: bool,
    /// What the groups that this tick has touched came to before.
    touched: BTreeMap<Bytes, Option<Outcome>>,
}

/// The key of the group of all rows, as [`super::super::edge::encode`] has it.
pub(super) const WHOLE: &[u8] = &[1];

const GROUP_OVERHEAD_BYTES: usize = 128;
const VALUE_OVERHEAD_BYTES: usize = 48;

impl Sums {
    fn new(slots: &Slots) -> Self {
        Self { sums: vec![0; slots.width].into(), bags: vec![BTreeMap::new(); slots.bags.len()].into() }
    }

    fn is_zero(&self) -> bool {
        self.sums.iter().all(|sum| *sum == 0) && self.bags.iter().all(BTreeMap::is_empty)
    }

    fn bytes(&self, key: &Bytes) -> i64 {
        let values: usize = self.bags.iter().flat_map(BTreeMap::keys).map(|value| value.len() + VALUE_OVERHEAD_BYTES).sum();
        (key.len() + GROUP_OVERHEAD_BYTES + 16 * self.sums.len() + values) as i64
    }
}

/// Adds to a value's count; gives the counts before and after.
fn count_value(bag: &mut BTreeMap<Bytes, i64>, value: &[u8], difference: i64, meter: &Meter) -> (i64, i64) {
    if let Some(count) = bag.get_mut(value) {
        let before = *count;
        *count += difference;
        let after = *count;
        if after == 0 {
            bag.remove(value);
            meter.add_bytes(-((value.len() + VALUE_OVERHEAD_BYTES) as i64));
        }
        return (before, after);
    }
    bag.insert(value.to_vec(), difference);
    meter.add_bytes((value.len() + VALUE_OVERHEAD_BYTES) as i64);
    (0, difference)
}

impl Groups {
    pub fn new(slots: Rc<Slots>, schema: SchemaRef, keys: usize, universe: Universe, window: Option<Geometry>, monotone: bool, meter: Rc<Meter>) -> Self {
        Self {
            slots,
            schema,
            keys,
            universe,
            window,
            monotone,
            meter,
            groups: HashMap::new(),
            panes: BTreeMap::new(),
            outside: BTreeSet::new(),
            seeded: false,
            touched: BTreeMap::new(),
        }
    }

    /// Puts the group of all rows in.
    pub fn seed(&mut self) {
        self.touch(WHOLE);
        self.seeded = true;
    }

    /// Lets go of everything.
    pub fn clear(&mut self) {
        self.groups = HashMap::new();
        self.panes.clear();
        self.outside.clear();
        self.touched.clear();
    }

    /// Counts the subscriptions that ask for a group.
    pub fn ask(&mut self, key: &Bytes, difference: i64) {
        self.touch(key);
        let group = group_of(&mut self.groups, key, &self.slots, &self.meter);
        group.asked += difference;
        self.drop_if_empty(key);
    }

    /// Adds what rows of `now` add up to.
    pub fn take(&mut self, contribution: &Contribution, now: Time) {
        let entered = match (contribution.pane, self.window) {
            (Some(pane), Some(window)) => {
                if window.leave(pane) <= now {
                    return;
                }
                let entered = window.enter(pane) <= now;
                let of_pane = self.panes.entry(pane).or_insert_with(|| Pane { entered, groups: BTreeMap::new() });
                if !of_pane.entered {
                    self.outside.insert(pane);
                }
                of_pane.entered
            }
            _ => true,
        };
        if entered {
            self.touch(&contribution.key);
        }
        self.add_sums(contribution, entered);
        for (bag, value, difference) in &contribution.bags {
            let bag = *bag as usize;
            match self.slots.bags[bag] {
                BagKind::Extreme { greatest } if self.monotone => self.add_extreme(contribution, bag, value, *difference, greatest, entered),
                BagKind::Distinct(part) if self.keeps_latest() => {
                    if let Some(pane) = contribution.pane.filter(|_| *difference > 0) {
                        self.add_latest(&contribution.key, pane, bag, part, value);
                    }
                }
                _ => {
                    let meter = Rc::clone(&self.meter);
                    if let Some(of_pane) = self.pane_group(contribution) {
                        count_value(&mut of_pane.bags[bag], value, *difference, &meter);
                    }
                    if entered {
                        self.add_value(&contribution.key, bag, value, *difference);
                    }
                }
            }
        }
        if entered {
            self.drop_if_empty(&contribution.key);
        }
    }

    fn add_sums(&mut self, contribution: &Contribution, entered: bool) {
        if let Some(of_pane) = self.pane_group(contribution) {
            add_all(&mut of_pane.sums, &contribution.sums, 1);
        }
        if entered {
            let group = group_of(&mut self.groups, &contribution.key, &self.slots, &self.meter);
            add_all(&mut group.sums.sums, &contribution.sums, 1);
        }
    }

    /// What the pane of a contribution has for its group.
    fn pane_group(&mut self, contribution: &Contribution) -> Option<&mut Sums> {
        let of_pane = self.panes.get_mut(&contribution.pane?)?;
        if !of_pane.groups.contains_key(&contribution.key) {
            let sums = Sums::new(&self.slots);
            self.meter.add_groups(1);
            self.meter.add_bytes(sums.bytes(&contribution.key));
            of_pane.groups.insert(contribution.key.clone(), sums);
        }
        of_pane.groups.get_mut(&contribution.key)
    }

    /// Keeps the better of a value and the extreme so far, of the pane or of all.
    fn add_extreme(&mut self, contribution: &Contribution, bag: usize, value: &[u8], difference: i64, greatest: bool, entered: bool) {
        if difference <= 0 {
            return;
        }
        let meter = Rc::clone(&self.meter);
        let group = group_of(&mut self.groups, &contribution.key, &self.slots, &meter);
        let so_far = match contribution.pane {
            Some(_) => self.pane_group(contribution).and_then(|sums| sums.bags[bag].keys().next().cloned()),
            None => group.sums.bags[bag].keys().next().cloned(),
        };
        if so_far.as_deref().is_some_and(|so_far| if greatest { value <= so_far } else { value >= so_far }) {
            return;
        }
        if let Some(of_pane) = self.pane_group(contribution) {
            if let Some(so_far) = &so_far {
                count_value(&mut of_pane.bags[bag], so_far, -1, &meter);
            }
            count_value(&mut of_pane.bags[bag], value, 1, &meter);
        }
        if entered {
            if let Some(so_far) = &so_far {
                self.add_value(&contribution.key, bag, so_far, -1);
            }
            self.add_value(&contribution.key, bag, value, 1);
        }
    }

    /// Whether a distinct value stands in the latest of its panes alone: where rows never go but with their pane, and panes are in
    /// from the start. So state does not grow with how often values recur.
    fn keeps_latest(&self) -> bool {
        self.monotone && self.window.is_some_and(Geometry::is_in_at_once)
    }

    /// Moves a distinct value to its latest pane. The group's bag holds the pane in the place of a count.
    fn add_latest(&mut self, key: &Bytes, pane: i64, bag: usize, part: Part, value: &[u8]) {
        let meter = Rc::clone(&self.meter);
        let group = group_of(&mut self.groups, key, &self.slots, &meter);
        match group.sums.bags[bag].get_mut(value) {
            Some(latest) if *latest >= pane => return,
            Some(latest) => {
                let before = std::mem::replace(latest, pane);
                if let Some(sums) = self.panes.get_mut(&before).and_then(|of_pane| of_pane.groups.get_mut(key)) {
                    count_value(&mut sums.bags[bag], value, -1, &meter);
                }
            }
            None => {
                count_value(&mut group.sums.bags[bag], value, pane, &meter);
                let sums = &mut group.sums.sums;
                add(part, distinct_value(part, value), 1, |slot, sum| sums[slot] = sums[slot].wrapping_add(sum));
            }
        }
        if let Some(sums) = self.panes.get_mut(&pane).and_then(|of_pane| of_pane.groups.get_mut(key)) {
            count_value(&mut sums.bags[bag], value, 1, &meter);
        }
    }

    /// Takes out a distinct value whose latest pane leaves.
    fn drop_latest(&mut self, key: &Bytes, bag: usize, part: Part, value: &[u8]) {
        let group = group_of(&mut self.groups, key, &self.slots, &self.meter);
        if let Some(latest) = group.sums.bags[bag].get(value).copied() {
            count_value(&mut group.sums.bags[bag], value, -latest, &self.meter);
            let sums = &mut group.sums.sums;
            add(part, distinct_value(part, value), -1, |slot, sum| sums[slot] = sums[slot].wrapping_add(sum));
        }
    }

    /// Adds to a value's count in a group; a distinct value that comes or goes is added to or taken from its part.
    fn add_value(&mut self, key: &Bytes, bag: usize, value: &[u8], difference: i64) {
        let group = group_of(&mut self.groups, key, &self.slots, &self.meter);
        let (before, after) = count_value(&mut group.sums.bags[bag], value, difference, &self.meter);
        if let BagKind::Distinct(part) = self.slots.bags[bag] {
            let times = i64::from(after > 0) - i64::from(before > 0);
            if times != 0 {
                let sums = &mut group.sums.sums;
                add(part, distinct_value(part, value), times, |slot, sum| sums[slot] = sums[slot].wrapping_add(sum));
            }
        }
    }

    /// Lets panes enter and leave that are due at `now`.
    pub fn advance(&mut self, now: Time) {
        let Some(window) = self.window else { return };
        while let Some(pane) = self.outside.first().copied().filter(|pane| window.enter(*pane) <= now) {
            self.outside.remove(&pane);
            if let Some(mut of_pane) = self.panes.remove(&pane) {
                of_pane.entered = true;
                for (key, sums) in &of_pane.groups {
                    self.add_pane_group(key, sums, 1);
                }
                self.panes.insert(pane, of_pane);
            }
        }
        while let Some(entry) = self.panes.first_entry().filter(|entry| window.leave(*entry.key()) <= now) {
            let (pane, of_pane) = entry.remove_entry();
            self.outside.remove(&pane);
            for (key, sums) in &of_pane.groups {
                if of_pane.entered {
                    self.add_pane_group(key, sums, -1);
                }
                self.meter.add_groups(-1);
                self.meter.add_bytes(-sums.bytes(key));
            }
        }
    }

    fn add_pane_group(&mut self, key: &Bytes, of_pane: &Sums, sign: i64) {
        self.touch(key);
        let group = group_of(&mut self.groups, key, &self.slots, &self.meter);
        add_all(&mut group.sums.sums, &of_pane.sums, sign.into());
        for (bag, values) in of_pane.bags.iter().enumerate() {
            for (value, count) in values {
                match self.slots.bags[bag] {
                    BagKind::Distinct(part) if self.keeps_latest() => self.drop_latest(key, bag, part, value),
                    _ => self.add_value(key, bag, value, sign * count),
                }
            }
        }
        self.drop_if_empty(key);
    }

    fn drop_if_empty(&mut self, key: &Bytes) {
        if let Some(group) = self.groups.get(key)
            && group.asked == 0
            && group.sums.is_zero()
        {
            self.meter.add_groups(-1);
            self.meter.add_bytes(-group.sums.bytes(key));
            self.groups.remove(key);
        }
    }

    /// Remembers what a group came to before the tick.
    fn touch(&mut self, key: &[u8]) {
        if !self.touched.contains_key(key) {
            let before = self.outcome(key);
            self.touched.insert(key.to_vec(), before);
        }
    }

    /// What a group comes to; `None` where it is not there.
    fn outcome(&self, key: &[u8]) -> Option<Outcome> {
        let group = self.groups.get(key);
        let is_there = match &self.universe {
            Universe::Rows => group.is_some_and(|group| group.sums.sums[0] > 0),
            Universe::One => self.seeded,
            Universe::Parameters(_) => group.is_some_and(|group| group.asked > 0),
        };
        if !is_there {
            return None;
        }
        let nothing;
        let sums = match group {
            Some(group) => &group.sums,
            None => {
                nothing = Sums::new(&self.slots);
                &nothing
            }
        };
        let fields = &self.schema.fields()[self.keys..];
        Some(self.slots.parts.iter().zip(fields).map(|(part, field)| cell(*part, sums, field.data_type())).collect())
    }

    /// What the tick changed, in the order of the keys: what each group came to before and after.
    pub fn take_changes(&mut self) -> Vec<(Bytes, Option<Outcome>, Option<Outcome>)> {
        std::mem::take(&mut self.touched)
            .into_iter()
            .filter_map(|(key, before)| {
                let after = self.outcome(&key);
                (before != after).then_some((key, before, after))
            })
            .collect()
    }
}

fn group_of<'a>(groups: &'a mut HashMap<Bytes, Group>, key: &Bytes, slots: &Slots, meter: &Meter) -> &'a mut Group {
    if !groups.contains_key(key) {
        let group = Group { sums: Sums::new(slots), asked: 0 };
        meter.add_groups(1);
        meter.add_bytes(group.sums.bytes(key));
        groups.insert(key.clone(), group);
    }
    groups.get_mut(key).expect("it has just been put in")
}

fn add_all(sums: &mut [i128], of: &[i128], sign: i128) {
    for (sum, value) in sums.iter_mut().zip(of) {
        *sum = sum.wrapping_add(value.wrapping_mul(sign));
    }
}
