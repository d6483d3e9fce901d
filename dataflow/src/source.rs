//! The graph's only input: the journal's records, released tick by tick.

use std::sync::Arc;
use std::sync::mpsc::{Receiver, TryRecvError};

use timely::container::CapacityContainerBuilder;
use timely::dataflow::operators::generic::operator::source;
use timely::dataflow::{Scope, StreamVec};
use timely::scheduling::SyncActivator;
use weir_operators::Time;
use weir_operators::decode::Entry;

/// What a worker is given: the records of one tick that fall to it, possibly none.
#[derive(Debug)]
pub(crate) struct TickInput {
    /// The tick. Strictly greater than the one before.
    pub(crate) time: Time,
    /// Its records in the journal's order.
    pub(crate) entries: Vec<Arc<Entry>>,
}

/// The stream of a worker's records, and what wakes it when something waits in the channel. It ends when the sender is
/// dropped. `released` is told of each tick.
pub(crate) fn records<'scope>(
    scope: Scope<'scope, Time>,
    ticks: Receiver<TickInput>,
    mut released: impl FnMut(Time) + 'static,
) -> (StreamVec<'scope, Time, Arc<Entry>>, SyncActivator) {
    let mut activator = None;
    let stream = source::<_, CapacityContainerBuilder<Vec<Arc<Entry>>>, _, _>(scope, "Records", |capability, info| {
        activator = Some(scope.worker().sync_activator_for(info.address.to_vec()));
        let mut capability = Some(capability);
        move |output| {
            while let Some(held) = capability.as_mut() {
                match ticks.try_recv() {
                    Ok(TickInput { time, mut entries }) => {
                        released(time);
                        held.downgrade(&time);
                        output.session(held).give_container(&mut entries);
                        // Nothing more comes at this tick: it is complete as soon as the graph has done with it.
                        held.downgrade(&(time + 1));
                    }
                    Err(TryRecvError::Empty) => return,
                    Err(TryRecvError::Disconnected) => capability = None,
                }
            }
        }
    });
    (stream, activator.expect("a source is constructed where it is declared"))
}
