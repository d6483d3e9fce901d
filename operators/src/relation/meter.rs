//! How much a template holds and does on a worker, and where it ends.

use std::cell::{Cell, RefCell};

use weir_protocol::limits;

use super::template::{HALTED, Usage};

/// The most that a template may hold and do, over all workers; each worker may use its share.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Quotas {
    /// Groups of reductions and top-k, those of panes that have not left among them.
    pub groups_max: u64,
    /// Bytes of state, about: rows of joins, groups, values of distinct and extreme aggregates, rows that a window holds.
    pub state_bytes_max: u64,
    /// Pairs that joins may make in a tick, those of rows with subscriptions among them. The stored rows that a dataflow begins with
    /// may make [`FILLING_FACTOR`] times as many: what many ticks have brought comes at once then.
    pub pairs_per_tick_max: u64,
}

impl Default for Quotas {
    fn default() -> Self {
        Self {
            groups_max: limits::TEMPLATE_GROUPS_MAX,
            state_bytes_max: limits::TEMPLATE_STATE_BYTES_MAX,
            pairs_per_tick_max: limits::TEMPLATE_PAIRS_PER_TICK_MAX,
        }
    }
}

/// How many times the pairs of a tick the stored rows may make that a dataflow begins with.
pub const FILLING_FACTOR: u64 = 100;

/// What is used of a template's [`Quotas`] on one worker. Beyond them the template halts: it lets go of what it can, makes
/// nothing more and says so, since a wrong answer is worse than none.
pub(super) struct Meter {
    share: Quotas,
    groups: Cell<i64>,
    bytes: Cell<i64>,
    pairs: Cell<u64>,
    /// Whether nothing is complete yet: the dataflow is given the stored rows that it begins with.
    filling: Cell<bool>,
    late: Cell<u64>,
    halted: RefCell<Option<String>>,
    told: Cell<bool>,
}

impl Meter {
    pub fn new(quotas: Quotas, workers: u64) -> Self {
        let share = |whole: u64| whole.div_ceil(workers.max(1));
        let share = Quotas {
            groups_max: share(quotas.groups_max),
            state_bytes_max: share(quotas.state_bytes_max),
            pairs_per_tick_max: share(quotas.pairs_per_tick_max),
        };
        Self {
            share,
            groups: Cell::new(0),
            bytes: Cell::new(0),
            pairs: Cell::new(0),
            filling: Cell::new(true),
            late: Cell::new(0),
            halted: RefCell::new(None),
            told: Cell::new(false),
        }
    }

    pub fn add_groups(&self, groups: i64) {
        self.groups.set(self.groups.get() + groups);
        if self.groups.get() > as_signed(self.share.groups_max) {
            self.halt(|| format!("more than {} groups: group by fewer values, or by values that recur", self.share.groups_max));
        }
    }

    pub fn add_bytes(&self, bytes: i64) {
        self.bytes.set(self.bytes.get() + bytes);
        if self.bytes.get() > as_signed(self.share.state_bytes_max) {
            self.halt(|| format!("more than {} bytes of state: narrow the window or the filter", self.share.state_bytes_max));
        }
    }

    /// Counts a pair of a join; whether it may be made.
    pub fn pair(&self) -> bool {
        self.pairs(1)
    }

    /// Counts pairs; whether they may be made.
    pub fn pairs(&self, count: u64) -> bool {
        if self.is_halted() {
            return false;
        }
        self.pairs.set(self.pairs.get().saturating_add(count));
        let max = self.pairs_max();
        if self.pairs.get() > max {
            self.halt(|| format!("more than {max} pairs of joined rows in a tick: join on more columns or narrow what is joined"));
            return false;
        }
        true
    }

    /// Counts pairs that can be refused without harm to others; whether they may be made.
    pub fn has_room(&self, count: u64) -> bool {
        let pairs = self.pairs.get().saturating_add(count);
        let has_room = !self.is_halted() && pairs <= self.pairs_max();
        if has_room {
            self.pairs.set(pairs);
        }
        has_room
    }

    fn pairs_max(&self) -> u64 {
        if self.filling.get() { self.share.pairs_per_tick_max.saturating_mul(FILLING_FACTOR) } else { self.share.pairs_per_tick_max }
    }

    /// The stored rows are taken in: from now on pairs are those of ticks.
    pub fn end_filling(&self) {
        if self.filling.replace(false) {
            self.pairs.set(0);
        }
    }

    /// Halts the template since something cannot be computed.
    pub fn fail(&self, what: &str) {
        self.halt(|| what.to_owned());
    }

    pub fn add_late(&self, rows: u64) {
        self.late.set(self.late.get() + rows);
    }

    pub fn is_halted(&self) -> bool {
        self.halted.borrow().is_some()
    }

    fn halt(&self, reason: impl FnOnce() -> String) {
        let mut halted = self.halted.borrow_mut();
        if halted.is_none() {
            *halted = Some(format!("{HALTED}{}", reason()));
        }
    }

    /// Why the template has halted, once.
    pub fn tell_halt(&self) -> Option<String> {
        if self.told.get() {
            return None;
        }
        let reason = self.halted.borrow().clone();
        self.told.set(reason.is_some());
        reason
    }

    /// The late rows since it was last asked.
    pub fn take_late(&self) -> u64 {
        self.late.replace(0)
    }

    /// What is used now; the pairs are those since it was last asked.
    pub fn take_usage(&self) -> Usage {
        Usage { groups: self.groups.get().max(0) as u64, state_bytes: self.bytes.get().max(0) as u64, pairs: self.pairs.replace(0) }
    }
}

fn as_signed(bound: u64) -> i64 {
    i64::try_from(bound).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_share_of_the_quota_each_and_a_reason_once() {
        let meter = Meter::new(Quotas { groups_max: 3, ..Quotas::default() }, 2);
        meter.add_groups(2);
        assert!(!meter.is_halted());
        meter.add_groups(1);
        assert!(meter.is_halted());
        assert!(meter.tell_halt().unwrap().contains("more than 2 groups"));
        assert_eq!(meter.tell_halt(), None);
        assert!(!meter.pair());
    }
}
