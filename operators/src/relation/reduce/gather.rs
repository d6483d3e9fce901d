//! Adds up a worker's rows by group, pane and tick, before they go to the group's worker.

use std::collections::HashMap;
use std::rc::Rc;

use timely::dataflow::Stream;

use super::super::codec::Codec;
use super::super::edge::{Delta, Deltas, each};
use super::super::meter::Meter;
use super::super::spine::Bytes;
use super::group::Contribution;
use super::slots::{Addition, BagKind, Slots};
use crate::Time;

/// Adds up rows by group, pane and tick.
pub(super) fn gather<'scope>(
    input: Deltas<'scope>,
    slots: Rc<Slots>,
    codec: Rc<Codec>,
    monotone: bool,
    meter: Rc<Meter>,
) -> Stream<'scope, Time, Vec<Contribution>> {
    let keys = codec.fields().len();
    each(input, "Gather", move |_time, deltas, made| {
        for delta in deltas.drain(..) {
            if !meter.is_halted() {
                gather_batch(&delta, keys, &slots, &codec, monotone, made);
            }
        }
    })
}

fn gather_batch(delta: &Delta, keys: usize, slots: &Slots, codec: &Codec, monotone: bool, made: &mut Vec<Contribution>) {
    let encoded = codec.encode(&delta.batch.columns()[..keys]);
    let mut places: HashMap<(Time, Option<i64>, &[u8]), usize> = HashMap::new();
    let mut contributions: Vec<Contribution> = Vec::new();
    let place_of: Vec<usize> = (0..delta.batch.num_rows())
        .map(|row| {
            let (time, pane) = (delta.times[row], delta.panes.as_ref().map(|panes| panes[row]));
            *places.entry((time, pane, encoded.bytes(row))).or_insert_with(|| {
                let mut key = Bytes::with_capacity(1 + encoded.bytes(row).len());
                key.push(1);
                encoded.append_to(row, &mut key);
                contributions.push(Contribution { key, time, pane, sums: vec![0; slots.width], bags: Vec::new() });
                contributions.len() - 1
            })
        })
        .collect();
    slots.read(&delta.batch, &delta.differences, |row, addition| {
        let contribution = &mut contributions[place_of[row]];
        match addition {
            Addition::Slot(slot, sum) => contribution.sums[slot] = contribution.sums[slot].wrapping_add(sum),
            Addition::Bag(bag, value, difference) => match slots.bags[bag] {
                BagKind::Extreme { greatest } if monotone => keep_extreme(&mut contribution.bags, bag as u32, value, difference, greatest),
                _ => contribution.bags.push((bag as u32, value.to_vec(), difference)),
            },
        }
    });
    for contribution in &mut contributions {
        consolidate(&mut contribution.bags);
    }
    // What comes and goes in one batch adds up to nothing.
    contributions.retain(|contribution| contribution.sums.iter().any(|sum| *sum != 0) || !contribution.bags.is_empty());
    made.append(&mut contributions);
}

fn keep_extreme(values: &mut Vec<(u32, Bytes, i64)>, bag: u32, value: &[u8], difference: i64, greatest: bool) {
    if difference <= 0 {
        return;
    }
    match values.iter_mut().find(|(of, _, _)| *of == bag) {
        Some((_, so_far, _)) if if greatest { value > so_far.as_slice() } else { value < so_far.as_slice() } => *so_far = value.to_vec(),
        Some(_) => {}
        None => values.push((bag, value.to_vec(), 1)),
    }
}

fn consolidate(values: &mut Vec<(u32, Bytes, i64)>) {
    values.sort_unstable();
    values.dedup_by(|next, kept| {
        let same = next.0 == kept.0 && next.1 == kept.1;
        if same {
            kept.2 += next.2;
        }
        same
    });
    values.retain(|(_, _, difference)| *difference != 0);
}
