//! Updates that wait until their tick is complete, so that an operator sees whole ticks in their order.

use std::collections::BTreeMap;

use timely::dataflow::operators::{Capability, InputCapability};
use timely::progress::frontier::MutableAntichain;

use crate::Time;

/// Updates by tick, with the right to answer on each of `OUTPUTS` ways.
pub(super) struct Ticks<D, const OUTPUTS: usize> {
    waiting: BTreeMap<Time, ([Capability<Time>; OUTPUTS], Vec<D>)>,
}

impl<D, const OUTPUTS: usize> Default for Ticks<D, OUTPUTS> {
    fn default() -> Self {
        Self { waiting: BTreeMap::new() }
    }
}

impl<D, const OUTPUTS: usize> Ticks<D, OUTPUTS> {
    /// Takes what a message carries, each with its tick, which is the message's or a later one.
    pub fn take(&mut self, capability: &InputCapability<Time>, data: impl Iterator<Item = (Time, D)>) {
        for (time, datum) in data {
            self.entry(capability, time).push(datum);
        }
    }

    /// Sees to it that a message's tick is told as complete, even if there is nothing else in it.
    pub fn touch(&mut self, capability: &InputCapability<Time>) {
        if let Some(&time) = capability.least() {
            self.entry(capability, time);
        }
    }

    /// Puts something in at a tick for which there are capabilities already.
    pub fn start(&mut self, time: Time, capabilities: [Capability<Time>; OUTPUTS]) {
        self.waiting.insert(time, (capabilities, Vec::new()));
    }

    fn entry(&mut self, capability: &InputCapability<Time>, time: Time) -> &mut Vec<D> {
        &mut self.waiting.entry(time).or_insert_with(|| (std::array::from_fn(|output| capability.delayed(&time, output)), Vec::new())).1
    }

    /// The earliest tick with something in it, if it is complete.
    pub fn next_complete(&mut self, is_complete: impl Fn(Time) -> bool) -> Option<(Time, [Capability<Time>; OUTPUTS], Vec<D>)> {
        let entry = self.waiting.first_entry().filter(|entry| is_complete(*entry.key()))?;
        let (time, (capabilities, data)) = entry.remove_entry();
        Some((time, capabilities, data))
    }
}

/// Whether nothing more can come at a time.
pub(super) fn complete(frontiers: &[MutableAntichain<Time>], time: Time) -> bool {
    !frontiers.iter().any(|frontier| frontier.less_equal(&time))
}
