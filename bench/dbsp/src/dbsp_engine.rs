//! dbsp: a circuit on one worker, with its defaults.

use std::error::Error;

use dbsp::typed_batch::{IndexedZSetReader, SpineSnapshot, TypedBox};
use dbsp::utils::Tup2;
use dbsp::{DBSPHandle, IndexedZSetHandle, InputHandle, OrdIndexedZSet, OutputHandle, RootCircuit, Runtime, Stream};

use crate::events::{PANE_MS, Tick};
use crate::{Engine, first_pane};

const WORKERS: usize = 1;

/// Count and sum, by key.
type Groups = OrdIndexedZSet<i64, Tup2<i64, i64>>;

/// A circuit with its handles.
pub struct Dbsp {
    circuit: DBSPHandle,
    /// The first time, or the first pane, that is in the window.
    first: InputHandle<i64>,
    groups: OutputHandle<SpineSnapshot<Groups>>,
    input: Input,
}

/// What the events are indexed by when they come.
enum Input {
    /// By time: key and value.
    Events(IndexedZSetHandle<i64, Tup2<i64, i64>>, Vec<Tup2<i64, Tup2<Tup2<i64, i64>, i64>>>),
    /// By pane and key: value.
    Panes(IndexedZSetHandle<Tup2<i64, i64>, i64>, Vec<Tup2<Tup2<i64, i64>, Tup2<i64, i64>>>),
}

/// The window from a first index on, without an end.
fn from<V: dbsp::DBData>(rows: &Stream<RootCircuit, OrdIndexedZSet<i64, V>>, first: &Stream<RootCircuit, i64>) -> Stream<RootCircuit, OrdIndexedZSet<i64, V>> {
    rows.window((true, true), &first.apply(|first| (TypedBox::new(*first), TypedBox::new(i64::MAX))))
}

impl Dbsp {
    /// A window over the events.
    ///
    /// # Errors
    /// Those of dbsp.
    pub fn of_events() -> Result<Self, Box<dyn Error>> {
        let (circuit, (first, events, groups)) = Runtime::init_circuit(WORKERS, |circuit| {
            let (first, first_handle) = circuit.add_input_stream::<i64>();
            let (events, events_handle) = circuit.add_input_indexed_zset::<i64, Tup2<i64, i64>>();
            let groups = from(&events, &first).map_index(|(_, Tup2(key, value))| (*key, *value)).aggregate_linear(|value| Tup2(1i64, *value));
            Ok((first_handle, events_handle, groups.accumulate_output()))
        })?;
        Ok(Self { circuit, first, groups, input: Input::Events(events, Vec::new()) })
    }

    /// A window over what the events of each pane add up to.
    ///
    /// # Errors
    /// Those of dbsp.
    pub fn of_panes() -> Result<Self, Box<dyn Error>> {
        let (circuit, (first, events, groups)) = Runtime::init_circuit(WORKERS, |circuit| {
            let (first, first_handle) = circuit.add_input_stream::<i64>();
            let (events, events_handle) = circuit.add_input_indexed_zset::<Tup2<i64, i64>, i64>();
            let panes =
                events.aggregate_linear(|value| Tup2(1i64, *value)).map_index(|(Tup2(pane, key), Tup2(count, sum))| (*pane, Tup2(*key, Tup2(*count, *sum))));
            let groups = from(&panes, &first).map_index(|(_, Tup2(key, sums))| (*key, *sums)).aggregate_linear(|sums| *sums);
            Ok((first_handle, events_handle, groups.accumulate_output()))
        })?;
        Ok(Self { circuit, first, groups, input: Input::Panes(events, Vec::new()) })
    }
}

impl Engine for Dbsp {
    fn tick(&mut self, tick: &Tick, changed: &mut dyn FnMut(i64, i64, i64, i64)) -> Result<(), Box<dyn Error>> {
        let rows = tick.times.iter().zip(&tick.keys).zip(&tick.values).map(|((time, key), value)| (*time, *key, *value));
        match &mut self.input {
            Input::Events(handle, batch) => {
                batch.extend(rows.map(|(time, key, value)| Tup2(time, Tup2(Tup2(key, value), 1))));
                handle.append(batch);
                self.first.set_for_all(first_pane(tick.ms) * PANE_MS as i64);
            }
            Input::Panes(handle, batch) => {
                batch.extend(rows.map(|(time, key, value)| Tup2(Tup2(time / PANE_MS as i64, key), Tup2(value, 1))));
                handle.append(batch);
                self.first.set_for_all(first_pane(tick.ms));
            }
        }
        self.circuit.transaction()?;
        // A large transaction takes several steps, each with an output of its own.
        for (key, Tup2(count, sum), difference) in self.groups.concat().consolidate().iter() {
            changed(key, count, sum, difference);
        }
        Ok(())
    }
}
