//! The two shapes of stage that the graph is made of: record by record, and tick by tick.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use timely::container::CapacityContainerBuilder;
use timely::dataflow::StreamVec;
use timely::dataflow::channels::pact::{Exchange, Pipeline};
use timely::dataflow::operators::Capability;
use timely::dataflow::operators::generic::operator::Operator;

use crate::Time;

/// A stage that makes any number of records of each, without memory: it stays on the worker that has the record.
pub(crate) fn each<'scope, D: Clone + 'static, O: Clone + 'static>(
    stream: StreamVec<'scope, Time, D>,
    name: &str,
    mut logic: impl FnMut(D, &mut Vec<O>) + 'static,
) -> StreamVec<'scope, Time, O> {
    stream.unary::<CapacityContainerBuilder<Vec<O>>, _, _, _>(Pipeline, name, move |_capability, _info| {
        let mut made = Vec::new();
        move |input, output| {
            input.for_each(|capability, records| {
                records.drain(..).for_each(|record| logic(record, &mut made));
                output.session(&capability).give_container(&mut made);
                made.clear();
            });
        }
    })
}

/// Where a record belongs and where it stands in the journal.
pub(crate) trait Placed {
    /// Records of one route go to one worker.
    fn route(&self) -> u64;
    /// The order of the journal: by this a worker takes the records of a tick, whichever worker read them.
    fn order(&self) -> (i64, u32);
}

/// A stage with memory: each worker is given all records of its routes, tick by tick in the order of the journal, so that
/// the same journal leads to the same state with any number of workers and any ticks.
pub(crate) fn each_tick<'scope, D, O>(
    stream: StreamVec<'scope, Time, D>,
    name: &str,
    mut logic: impl FnMut(Time, Vec<D>, &mut Vec<O>) + 'static,
) -> StreamVec<'scope, Time, O>
where
    D: Placed + Clone + Send + Serialize + for<'de> Deserialize<'de> + 'static,
    O: Clone + 'static,
{
    let by_route = Exchange::new(|record: &D| record.route());
    stream.unary_frontier::<CapacityContainerBuilder<Vec<O>>, _, _, _>(by_route, name, move |_capability, _info| {
        let mut waiting: BTreeMap<Time, (Capability<Time>, Vec<D>)> = BTreeMap::new();
        let mut made = Vec::new();
        move |(input, frontier), output| {
            input.for_each(|capability, records| {
                let Some(time) = capability.least().copied() else { return };
                if let Some((_, held)) = waiting.get_mut(&time) {
                    held.append(records);
                } else if let Some(kept) = capability.retain_least(0) {
                    waiting.insert(time, (kept, std::mem::take(records)));
                }
            });
            while let Some(entry) = waiting.first_entry() {
                if frontier.less_equal(entry.key()) {
                    break;
                }
                let (time, (capability, mut records)) = entry.remove_entry();
                records.sort_by_key(Placed::order);
                logic(time, records, &mut made);
                output.session(&capability).give_container(&mut made);
                made.clear();
            }
        }
    })
}
