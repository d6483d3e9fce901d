//! A row for each group.
//!
//! Each worker first adds up its own rows of a tick by group and pane ([`gather`]), so that what crosses to the group's worker
//! does not grow with the events; there one operator keeps what every group came to, and what each pane added to it, and takes
//! a pane out when its time has come. Pending state is groups × panes, and the order of events does not matter.

mod cell;
mod fixed;
mod gather;
mod group;
mod slots;

use std::rc::Rc;
use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch, new_null_array};
use arrow::datatypes::SchemaRef;
use timely::container::CapacityContainerBuilder;
use timely::dataflow::Stream;
use timely::dataflow::channels::pact::{Exchange, Pipeline};
use timely::dataflow::operators::generic::OutputBuilder;
use timely::dataflow::operators::generic::builder_rc::OperatorBuilder;

use self::cell::Cell;
use self::group::{Contribution, Groups, Outcome, WHOLE};
use self::slots::Slots;
use super::codec::{Codec, batch_of};
use super::edge::{Delta, Deltas, Flaws, plain_key};
use super::flaw::{Flaw, FlawUpdate, Owner, shown};
use super::message::Message;
use super::meter::Meter;
use super::plan::{Reduce, Universe};
use super::render::RenderError;
use super::spine::{Bytes, KeyedUpdate, route};
use super::ticks::{Ticks, complete};
use super::window::Geometry;
use crate::Time;

/// What a reduction reads besides its rows.
pub(super) struct Surroundings<'scope> {
    pub messages: Stream<'scope, Time, Vec<Message>>,
    /// The keys that subscriptions ask for, where these are its groups.
    pub asked: Option<Stream<'scope, Time, Vec<KeyedUpdate>>>,
    /// The window of the rows' panes.
    pub window: Option<Geometry>,
    /// Whether rows never go, but with their pane.
    pub monotone: bool,
    pub owner: Owner,
    pub meter: Rc<Meter>,
}

/// Whether a reduction can be maintained.
pub(super) fn check(plan: &Reduce, input_schema: &SchemaRef, schema: &SchemaRef) -> Result<(), RenderError> {
    Codec::new(&schema.fields()[..plan.keys].iter().cloned().collect())?;
    Slots::of(plan, input_schema, schema).map(|_| ())
}

/// Reduces rows to groups.
pub(super) fn reduce<'scope>(
    input: Deltas<'scope>,
    plan: &Reduce,
    input_schema: &SchemaRef,
    schema: &SchemaRef,
    around: Surroundings<'scope>,
) -> Result<(Deltas<'scope>, Flaws<'scope>), RenderError> {
    let slots = Rc::new(Slots::of(plan, input_schema, schema)?);
    let key_codec = Rc::new(Codec::new(&schema.fields()[..plan.keys].iter().cloned().collect())?);
    let gathered = gather::gather(input, Rc::clone(&slots), Rc::clone(&key_codec), around.monotone, Rc::clone(&around.meter));
    let scope = gathered.scope();
    let mut builder = OperatorBuilder::new("Reduce".to_owned(), scope);
    let mut rows = builder.new_input(gathered, Exchange::new(|contribution: &Contribution| route(&contribution.key)));
    let mut clock = around.window.map(|_| builder.new_input(around.messages, Pipeline));
    let mut asked = around.asked.map(|asked| builder.new_input(asked, Exchange::new(|((key, _), _, _): &KeyedUpdate| route(key))));
    let (made, made_stream) = builder.new_output();
    let mut made = OutputBuilder::<_, CapacityContainerBuilder<Vec<Delta>>>::from(made);
    let (flaws, flaws_stream) = builder.new_output();
    let mut flaws = OutputBuilder::<_, CapacityContainerBuilder<Vec<FlawUpdate>>>::from(flaws);
    let seeds = plan.universe == Universe::One && route(&WHOLE.to_vec()) as usize % scope.peers() == scope.index();
    let mut groups = Groups::new(slots, Arc::clone(schema), plan.keys, plan.universe.clone(), around.window, around.monotone, Rc::clone(&around.meter));
    let output = Output { codec: key_codec, schema: Arc::clone(schema), keys: plan.keys, owner: around.owner };
    builder.build(move |capabilities| {
        let mut ticks: Ticks<Change, 2> = Ticks::default();
        if seeds {
            ticks.start(0, capabilities.try_into().expect("one for each output"));
        }
        let mut to_seed = seeds;
        move |frontiers| {
            rows.for_each(|capability, contributions| {
                ticks.take(&capability, contributions.drain(..).map(|contribution| (contribution.time, Change::Rows(contribution))));
            });
            if let Some(clock) = &mut clock {
                clock.for_each(|capability, messages| {
                    if messages.iter().any(|message| matches!(message, Message::Clock)) {
                        ticks.touch(&capability);
                    }
                });
            }
            if let Some(asked) = &mut asked {
                asked.for_each(|capability, updates| {
                    ticks.take(&capability, updates.drain(..).map(|((key, _), time, difference)| (time, Change::Asked(key, difference))));
                });
            }
            let mut made = made.activate();
            let mut flaws = flaws.activate();
            while let Some((time, [rows_capability, flaws_capability], changes)) = ticks.next_complete(|time| complete(frontiers, time)) {
                if around.meter.is_halted() {
                    groups.clear();
                    continue;
                }
                if std::mem::take(&mut to_seed) {
                    groups.seed();
                }
                for change in &changes {
                    match change {
                        Change::Rows(contribution) => groups.take(contribution, time),
                        Change::Asked(key, difference) => groups.ask(key, *difference),
                    }
                }
                groups.advance(time);
                let changes = groups.take_changes();
                if let Some(delta) = output.rows(&changes, time) {
                    made.session(&rows_capability).give(delta);
                }
                let failed = output.flaws(&changes, time);
                if !failed.is_empty() {
                    flaws.session(&flaws_capability).give_iterator(failed.into_iter());
                }
            }
        }
    });
    Ok((made_stream, flaws_stream))
}

/// What happens to a group.
enum Change {
    Rows(Contribution),
    Asked(Bytes, i64),
}

/// Makes batches of what groups came to.
struct Output {
    codec: Rc<Codec>,
    schema: SchemaRef,
    keys: usize,
    owner: Owner,
}

type Changed = (Bytes, Option<Outcome>, Option<Outcome>);

impl Output {
    fn rows(&self, changes: &[Changed], time: Time) -> Option<Delta> {
        let mut rows: Vec<(&Bytes, &Vec<Cell>, i64)> = Vec::with_capacity(2 * changes.len());
        for (key, before, after) in changes {
            for (outcome, difference) in [(before, -1), (after, 1)] {
                if let Some(Ok(cells)) = outcome {
                    rows.push((key, cells, difference));
                }
            }
        }
        if rows.is_empty() {
            return None;
        }
        let mut columns: Vec<ArrayRef> = self.codec.decode(rows.iter().map(|(key, _, _)| plain_key(key)));
        for (aggregate, field) in self.schema.fields()[self.keys..].iter().enumerate() {
            columns.push(cell::column(rows.iter().map(|(_, cells, _)| &cells[aggregate]), field));
        }
        let differences = rows.iter().map(|(_, _, difference)| *difference).collect();
        Some(Delta { times: vec![time; rows.len()], batch: batch_of(&self.schema, columns, rows.len()), differences, panes: None })
    }

    fn flaws(&self, changes: &[Changed], time: Time) -> Vec<FlawUpdate> {
        let mut flaws = Vec::new();
        for (key, before, after) in changes {
            for (outcome, difference) in [(before, -1), (after, 1)] {
                if let Some(Err(message)) = outcome {
                    let group = self.group_row(key);
                    let row = shown(&group.project(&(0..self.keys).collect::<Vec<_>>()).expect("leading columns"));
                    let flaw = Flaw { key: self.owner.key(&group), message: message.clone(), row, enter: 0, leave: Time::MAX };
                    flaws.push((flaw, time, difference));
                }
            }
        }
        flaws
    }

    /// A group without its aggregates.
    fn group_row(&self, key: &Bytes) -> RecordBatch {
        let mut columns = self.codec.decode(std::iter::once(plain_key(key)));
        columns.extend(self.schema.fields()[self.keys..].iter().map(|field| new_null_array(field.data_type(), 1)));
        batch_of(&super::codec::nullable(&self.schema), columns, 1)
    }
}
