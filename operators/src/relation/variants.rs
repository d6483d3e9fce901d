//! Rows as subscriptions see them whose conditions have other constants: each row once for each choice of constants that it meets.
//!
//! Whoever chooses later must see what is there, so the rows are kept as long as they are in their window, those that are equal in all
//! columns as one. Where nobody has chosen yet, nothing is made of them.

use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch, UInt32Array};
use arrow::compute::take;
use arrow::datatypes::{FieldRef, Fields, Schema, SchemaRef};
use timely::container::CapacityContainerBuilder;
use timely::dataflow::Stream;
use timely::dataflow::channels::pact::{Exchange, Pipeline};
use timely::dataflow::operators::generic::OutputBuilder;
use timely::dataflow::operators::generic::builder_rc::OperatorBuilder;

use super::codec::{Codec, batch_of};
use super::edge::{Delta, Deltas, Flaws};
use super::evaluate::Projection;
use super::flaw::{Flaw, FlawUpdate, Owner, shown};
use super::message::Message;
use super::meter::Meter;
use super::parameters::Chosen;
use super::plan::{Evaluate, EvaluateError, Expression, Variants};
use super::render::RenderError;
use super::spine::Bytes;
use super::ticks::{Ticks, complete};
use super::window::Geometry;
use crate::Time;

/// Rows that are made at a time of those that are kept.
const PIECE_ROWS: usize = 8192;
/// Bytes of a kept row besides its own.
const ROW_OVERHEAD_BYTES: i64 = 64;

/// What [`variants`] reads.
pub(super) struct Sources<'scope> {
    pub rows: Deltas<'scope>,
    /// The choices of all subscriptions, on every worker.
    pub chosen: Stream<'scope, Time, Vec<Chosen>>,
    pub messages: Stream<'scope, Time, Vec<Message>>,
    /// The window of the rows' panes, where it is yet to be applied.
    pub window: Option<Geometry>,
}

/// A column as it is.
#[derive(Debug)]
struct Pick(usize);

impl Evaluate for Pick {
    fn evaluate(&self, batch: &RecordBatch) -> Result<ArrayRef, EvaluateError> {
        batch.columns().get(self.0).cloned().ok_or_else(|| EvaluateError(format!("there is no column {}", self.0)))
    }
}

/// Each row once for each choice of constants that it meets.
pub(super) fn variants<'scope>(
    sources: Sources<'scope>,
    plan: &Variants,
    schema: &SchemaRef,
    owner: Owner,
    meter: Rc<Meter>,
) -> Result<(Deltas<'scope>, Flaws<'scope>), RenderError> {
    let mut keeper = Keeper::new(plan, schema, sources.window, owner, meter)?;
    let mut builder = OperatorBuilder::new("Variants".to_owned(), sources.rows.scope());
    let mut rows = builder.new_input(sources.rows, Pipeline);
    let mut chosen = builder.new_input(sources.chosen, Exchange::new(|chosen: &Chosen| chosen.worker));
    let mut clock = sources.window.map(|_| builder.new_input(sources.messages, Pipeline));
    let (made, made_stream) = builder.new_output();
    let mut made = OutputBuilder::<_, CapacityContainerBuilder<Vec<Delta>>>::from(made);
    let (flaws, flaws_stream) = builder.new_output();
    let mut flaws = OutputBuilder::<_, CapacityContainerBuilder<Vec<FlawUpdate>>>::from(flaws);
    builder.build(move |_capabilities| {
        let mut ticks: Ticks<Change, 2> = Ticks::default();
        move |frontiers| {
            rows.for_each(|capability, deltas| {
                ticks.take(&capability, deltas.drain(..).flat_map(Delta::by_time).map(|(time, delta)| (time, Change::Rows(delta))));
            });
            chosen.for_each(|capability, choices| {
                ticks.take(&capability, choices.drain(..).map(|chosen| (chosen.time, Change::Chosen(chosen.constants, chosen.difference))));
            });
            if let Some(clock) = &mut clock {
                clock.for_each(|capability, messages| {
                    if messages.iter().any(|message| matches!(message, Message::Clock)) {
                        ticks.touch(&capability);
                    }
                });
            }
            let mut made = made.activate();
            let mut flaws = flaws.activate();
            while let Some((time, [of_rows, of_flaws], changes)) = ticks.next_complete(|time| complete(frontiers, time)) {
                let (rows, failed) = keeper.tick(time, changes);
                if !rows.is_empty() {
                    made.session(&of_rows).give_iterator(rows.into_iter());
                }
                if !failed.is_empty() {
                    flaws.session(&of_flaws).give_iterator(failed.into_iter());
                }
            }
        }
    });
    Ok((made_stream, flaws_stream))
}

enum Change {
    Rows(Delta),
    Chosen(Bytes, i64),
}

/// A worker's rows and everybody's choices.
struct Keeper {
    rows: Codec,
    constants: Codec,
    /// The columns that the projection sees: those of a row, then the constants.
    seen: SchemaRef,
    projection: Projection,
    window: Option<Geometry>,
    owner: Owner,
    meter: Rc<Meter>,
    /// Rows by their pane, where there are panes, and how often each is there.
    kept: BTreeMap<Option<i64>, BTreeMap<Bytes, i64>>,
    /// How many subscriptions have made each choice.
    chosen: BTreeMap<Bytes, i64>,
}

impl Keeper {
    fn new(plan: &Variants, schema: &SchemaRef, window: Option<Geometry>, owner: Owner, meter: Rc<Meter>) -> Result<Self, RenderError> {
        let of_rows: Vec<FieldRef> = plan.input.schema.fields().iter().cloned().collect();
        let seen: Fields = of_rows.iter().chain(plan.constants.fields()).cloned().collect();
        let columns = plan.columns.iter().map(|column| Arc::new(Pick(*column)) as Expression).collect();
        Ok(Self {
            rows: Codec::new(plan.input.schema.fields())?,
            constants: Codec::new(plan.constants.fields())?,
            seen: super::codec::nullable(&Schema::new(seen)),
            projection: Projection { filter: plan.filter.clone(), columns, schema: super::codec::nullable(schema) },
            window,
            owner,
            meter,
            kept: BTreeMap::new(),
            chosen: BTreeMap::new(),
        })
    }

    /// Takes a tick's changes in: who comes sees what was there, what changes is seen by who is there then.
    fn tick(&mut self, now: Time, changes: Vec<Change>) -> (Vec<Delta>, Vec<FlawUpdate>) {
        let (mut made, mut flaws) = (Vec::new(), Vec::new());
        if self.meter.is_halted() {
            self.kept.clear();
            return (made, flaws);
        }
        self.let_go(now);
        let mut deltas = Vec::new();
        let mut choices: BTreeMap<Bytes, i64> = BTreeMap::new();
        for change in changes {
            match change {
                Change::Rows(delta) => deltas.push(delta),
                Change::Chosen(constants, difference) => *choices.entry(constants).or_default() += difference,
            }
        }
        for (constants, difference) in choices {
            let count = self.chosen.entry(constants.clone()).or_default();
            let before = *count;
            *count += difference;
            let after = *count;
            if after == 0 {
                self.chosen.remove(&constants);
            }
            let sign = i64::from(after > 0) - i64::from(before > 0);
            if sign != 0 {
                self.show_kept(now, &constants, sign, &mut made, &mut flaws);
            }
        }
        for delta in deltas {
            for constants in self.chosen.iter().filter(|(_, count)| **count > 0).map(|(constants, _)| constants) {
                self.show(now, &delta, constants, &mut made, &mut flaws);
            }
            self.keep(&delta);
        }
        (made, flaws)
    }

    /// Lets panes go whose rows have left their window. Whoever applies the window takes them out by itself.
    fn let_go(&mut self, now: Time) {
        let Some(window) = self.window else { return };
        while let Some(entry) = self.kept.first_entry()
            && entry.key().is_some_and(|pane| window.leave(pane) <= now)
        {
            let rows = entry.remove();
            self.meter.add_bytes(-rows.keys().map(|row| row.len() as i64 + ROW_OVERHEAD_BYTES).sum::<i64>());
        }
    }

    fn keep(&mut self, delta: &Delta) {
        let encoded = self.rows.encode(delta.batch.columns());
        for (row, difference) in delta.differences.iter().enumerate() {
            let pane = delta.panes.as_ref().map(|panes| panes[row]);
            let of_pane = self.kept.entry(pane).or_default();
            let bytes = encoded.bytes(row);
            let size = bytes.len() as i64 + ROW_OVERHEAD_BYTES;
            match of_pane.get_mut(bytes) {
                Some(count) => {
                    *count += difference;
                    if *count == 0 {
                        of_pane.remove(bytes);
                        self.meter.add_bytes(-size);
                    }
                }
                None => {
                    of_pane.insert(encoded.row(row), *difference);
                    self.meter.add_bytes(size);
                }
            }
            if of_pane.is_empty() {
                self.kept.remove(&pane);
            }
        }
    }

    /// Shows all rows that are kept to a choice that came (1), or takes them back from one that went (-1).
    fn show_kept(&self, now: Time, constants: &Bytes, sign: i64, made: &mut Vec<Delta>, flaws: &mut Vec<FlawUpdate>) {
        for (pane, rows) in &self.kept {
            let mut rest = rows.iter();
            loop {
                let piece: Vec<(&Bytes, &i64)> = rest.by_ref().take(PIECE_ROWS).collect();
                if piece.is_empty() {
                    break;
                }
                let columns = self.rows.decode(piece.iter().map(|(row, _)| row.as_slice()));
                let schema = super::codec::nullable(&Schema::new(self.rows.fields().clone()));
                let delta = Delta {
                    batch: batch_of(&schema, columns, piece.len()),
                    times: vec![now; piece.len()],
                    differences: piece.iter().map(|(_, count)| sign * **count).collect(),
                    panes: pane.map(|pane| vec![pane; piece.len()]),
                };
                self.show(now, &delta, constants, made, flaws);
            }
        }
    }

    /// Rows with the constants of a choice, those that meet its condition.
    fn show(&self, now: Time, delta: &Delta, constants: &Bytes, made: &mut Vec<Delta>, flaws: &mut Vec<FlawUpdate>) {
        let rows = delta.batch.num_rows();
        let first = UInt32Array::from(vec![0; rows]);
        let of_choice = self.constants.decode(std::iter::once(constants.as_slice()));
        let spread = of_choice.iter().map(|column| take(column, &first, None).expect("one value for each row"));
        let seen = batch_of(&self.seen, delta.batch.columns().iter().cloned().chain(spread).collect(), rows);
        let projected = self.projection.apply(&seen);
        for (row, error) in projected.failures {
            let index = row as usize;
            let failing = seen.slice(index, 1);
            let pane = delta.panes.as_ref().map(|panes| panes[index]);
            let (enter, leave) = self.window.zip(pane).map_or((0, Time::MAX), |(window, pane)| (window.enter(pane), window.leave(pane)));
            let flaw = Flaw { key: self.owner.key(&self.projection.salvage(&failing)), message: error.0, row: shown(&failing), enter, leave };
            flaws.push((flaw, now, delta.differences[index]));
        }
        // Beyond the quota nothing more is made, and the template says that it has halted.
        if !projected.rows.is_empty() && projected.rows.iter().all(|_| self.meter.pair()) {
            made.push(delta.select(projected.batch, &projected.rows));
        }
    }
}
