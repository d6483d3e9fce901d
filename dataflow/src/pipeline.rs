//! The graph on one screen: a stage a line, from the journal's records to the rows of a tick.

use timely::dataflow::Scope;
use timely::scheduling::SyncActivator;
use weir_operators::Time;
use weir_operators::decode::Decode;
use weir_operators::deduplicate::Deduplicate;
use weir_operators::interpret::Interpret;
use weir_operators::issues::AssignIssues;
use weir_operators::output::{Advance, Gather};

use crate::runtime::WorkerState;
use crate::source;

/// Builds the graph of one worker; `released` is told of each tick, `advance` of each completed one. What wakes the source is
/// returned.
pub(crate) fn build(scope: Scope<'_, Time>, state: WorkerState, released: impl FnMut(Time) + 'static, advance: impl FnMut(Advance) + 'static) -> SyncActivator {
    let (records, activator) = source::records(scope, state.ticks, released);
    records
        .decode() // envelopes into items; what is not supported into outcomes
        .interpret(state.knowledge) // each item's JSON, parsed once: normalised, grouped, made rows
        .deduplicate(state.recent) // what was received before into outcomes; from here on by project
        .assign_issues(state.issues) // hashes to issues: first and last seen, counts, short ids
        .gather(advance); // the rows of a tick, as batches
    activator
}
