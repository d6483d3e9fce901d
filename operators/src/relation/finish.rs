//! What each subscription says of the rows of its share, tick by tick.

use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::Arc;

use arrow::array::{ArrayRef, BooleanArray, RecordBatch};
use arrow::datatypes::{DataType, Field, Fields, Schema, SchemaRef};
use timely::dataflow::Stream;
use timely::dataflow::channels::pact::Pipeline;
use timely::dataflow::operators::generic::builder_rc::OperatorBuilder;

use super::codec::{Codec, batch_of};
use super::edge::{plain_key, take_rows};
use super::evaluate::{Projection, truths};
use super::flaw::{FLAW_TAG, TemplateFlaw, read_payload, shown};
use super::meter::Meter;
use super::plan::Expression;
use super::render::RenderError;
use super::spine::Bytes;
use super::template::{Changes, Failure, SubscriptionId, Template, TemplateAdvance};
use crate::Time;

/// A row of the relation, or a failure, with a subscription that sees it: the subscription, its constants, the parameter key and
/// the rest of the row.
pub(super) type Seen = (SubscriptionId, Bytes, Bytes, Bytes);

/// From rows with subscriptions to what is said of them.
pub(super) struct Finisher {
    keys: Rc<(Codec, Codec)>,
    constants: Rc<Codec>,
    input_schema: SchemaRef,
    relation_columns: usize,
    conditions: Projection,
    answer: Projection,
    answer_columns: usize,
    key_columns: usize,
    rows_schema: SchemaRef,
    keys_schema: SchemaRef,
    /// Of answers with their keys.
    codec: Codec,
}

/// A row of an answer before consolidation.
struct Said {
    subscription: SubscriptionId,
    row: Bytes,
    fires: bool,
    escalates: bool,
    /// Where it stands in the batch.
    place: u32,
    difference: i64,
}

impl Finisher {
    pub fn new(template: &Template, keys: Rc<(Codec, Codec)>, constants: Rc<Codec>) -> Result<Self, RenderError> {
        let finish = &template.finish;
        let input: Fields = template.relation.schema.fields().iter().chain(template.constants.fields()).cloned().collect();
        let boolean = |name: &str| Arc::new(Field::new(name, DataType::Boolean, true));
        let conditions: Vec<Expression> = std::iter::once(&finish.fires).chain(&finish.holds).cloned().collect();
        let conditions_schema: Fields = [boolean("fires"), boolean("holds")].into_iter().take(conditions.len()).collect();
        let columns: Vec<Expression> = finish.columns.iter().chain(&finish.key).chain(&finish.escalates).cloned().collect();
        let said: Fields = finish.schema.fields().iter().chain(finish.key_schema.fields()).cloned().collect();
        let codec = Codec::new(&said)?;
        let with_flag: Fields = said.iter().cloned().chain(finish.escalates.iter().map(|_| boolean("escalates"))).collect();
        Ok(Self {
            keys,
            constants,
            input_schema: super::codec::nullable(&Schema::new(input)),
            relation_columns: template.relation.schema.fields().len(),
            conditions: Projection { filter: Vec::new(), columns: conditions, schema: Arc::new(Schema::new(conditions_schema)) },
            answer: Projection { filter: Vec::new(), columns, schema: Arc::new(Schema::new(with_flag)) },
            answer_columns: finish.schema.fields().len(),
            key_columns: finish.key_schema.fields().len(),
            rows_schema: Arc::clone(&finish.schema),
            keys_schema: Arc::clone(&finish.key_schema),
            codec,
        })
    }

    /// What is said of a tick's rows, and which of them fail.
    fn finish(&self, seen: Vec<(Seen, i64)>) -> (Option<Changes>, BTreeMap<Failure, i64>) {
        let mut failures = BTreeMap::new();
        let (flaws, rows): (Vec<_>, Vec<_>) = seen.into_iter().partition(|((_, _, _, value), _)| value.first() == Some(&FLAW_TAG));
        for ((subscription, _, _, value), difference) in flaws {
            let (message, row) = read_payload(&value);
            *failures.entry(Failure { subscription: Some(subscription), message, row }).or_default() += difference;
        }
        if rows.is_empty() {
            return (None, failures);
        }
        let input = self.input(&rows);
        let mut fail = |row: u32, message: String| {
            let ((subscription, ..), difference) = &rows[row as usize];
            let of_relation = input.slice(row as usize, 1).project(&(0..self.relation_columns).collect::<Vec<_>>()).expect("leading columns");
            *failures.entry(Failure { subscription: Some(*subscription), message, row: shown(&of_relation) }).or_default() += difference;
        };
        let conditions = self.conditions.apply(&input);
        for (row, error) in conditions.failures {
            fail(row, error.0);
        }
        let flags: Vec<BooleanArray> = conditions.batch.columns().iter().map(|column| truths(column).expect("conditions are booleans")).collect();
        let mut kept = Vec::new();
        let mut fires = Vec::new();
        for (place, &row) in conditions.rows.iter().enumerate() {
            if flags.iter().any(|flag| flag.value(place)) {
                kept.push(row);
                fires.push(flags[0].value(place));
            }
        }
        if kept.is_empty() {
            return (None, failures);
        }
        let answer = self.answer.apply(&take_rows(&input, &kept));
        for (place, error) in answer.failures {
            fail(kept[place as usize], error.0);
        }
        let said_columns = self.answer_columns + self.key_columns;
        let escalates = answer.batch.columns().get(said_columns).map(|flags| truths(flags).expect("conditions are booleans"));
        let encoded = self.codec.encode(&answer.batch.columns()[..said_columns]);
        let said = answer.rows.iter().zip(0u32..).map(|(&kept_place, place)| {
            let ((subscription, ..), difference) = &rows[kept[kept_place as usize] as usize];
            Said {
                subscription: *subscription,
                row: encoded.row(place as usize),
                fires: fires[kept_place as usize],
                escalates: escalates.as_ref().is_some_and(|escalates| escalates.value(place as usize)),
                place,
                difference: *difference,
            }
        });
        let said = consolidated(said.collect());
        (self.changes(&answer.batch, &said), failures)
    }

    /// The relation's columns and the constants.
    fn input(&self, rows: &[(Seen, i64)]) -> RecordBatch {
        let mut columns: Vec<ArrayRef> = self.keys.0.decode(rows.iter().map(|((_, _, key, _), _)| plain_key(key)));
        columns.extend(self.keys.1.decode(rows.iter().map(|((_, _, _, value), _)| &value[1..])));
        columns.extend(self.constants.decode(rows.iter().map(|((_, constants, _, _), _)| constants.as_slice())));
        batch_of(&self.input_schema, columns, rows.len())
    }

    fn changes(&self, batch: &RecordBatch, said: &[Said]) -> Option<Changes> {
        if said.is_empty() {
            return None;
        }
        let places: Vec<u32> = said.iter().map(|said| said.place).collect();
        let taken = take_rows(batch, &places);
        let (rows, keys) = taken.columns().split_at(self.answer_columns);
        Some(Changes {
            rows: batch_of(&self.rows_schema, rows.to_vec(), said.len()),
            keys: batch_of(&self.keys_schema, keys[..self.key_columns].to_vec(), said.len()),
            subscriptions: said.iter().map(|said| said.subscription).collect(),
            fires: said.iter().map(|said| said.fires).collect(),
            escalates: said.iter().map(|said| said.escalates).collect(),
            differences: said.iter().map(|said| said.difference).collect(),
        })
    }
}

/// Each row once, in order, and none that comes as often as it goes.
fn consolidated(mut said: Vec<Said>) -> Vec<Said> {
    fn by(said: &Said) -> (SubscriptionId, &Bytes, bool, bool) {
        (said.subscription, &said.row, said.fires, said.escalates)
    }
    said.sort_by(|a, b| by(a).cmp(&by(b)));
    said.dedup_by(|next, kept| {
        let same = by(next) == by(kept);
        if same {
            kept.difference += next.difference;
        }
        same
    });
    said.retain(|said| said.difference != 0);
    said
}

/// Says what is complete, each time more of it is.
pub(super) fn emit<'scope>(
    seen: Stream<'scope, Time, Vec<(Seen, Time, i64)>>,
    flaws: Stream<'scope, Time, Vec<TemplateFlaw>>,
    finisher: Finisher,
    meter: Rc<Meter>,
    mut emit: impl FnMut(TemplateAdvance) + 'static,
) {
    let mut builder = OperatorBuilder::new("Answers".to_owned(), seen.scope());
    let mut rows = builder.new_input(seen, Pipeline);
    let mut whole = builder.new_input(flaws, Pipeline);
    builder.build(move |_capabilities| {
        let mut waiting: BTreeMap<Time, Vec<(Seen, i64)>> = BTreeMap::new();
        let mut waiting_flaws: BTreeMap<(Time, Failure), i64> = BTreeMap::new();
        let mut told: Option<Time> = Some(0);
        move |frontiers| {
            rows.for_each(|_capability, data| {
                for (seen, time, difference) in data.drain(..) {
                    waiting.entry(time).or_default().push((seen, difference));
                }
            });
            whole.for_each(|_capability, data| {
                for (time, message, row, difference) in data.drain(..) {
                    *waiting_flaws.entry((time, Failure { subscription: None, message, row })).or_default() += difference;
                }
            });
            let frontier = frontiers.iter().filter_map(|frontier| frontier.frontier().first().copied()).min();
            if frontier == told {
                return;
            }
            told = frontier;
            let is_complete = |time: Time| frontier.is_none_or(|frontier| time < frontier);
            let mut changes = Vec::new();
            let mut failures = Vec::new();
            while let Some(entry) = waiting.first_entry().filter(|entry| is_complete(*entry.key())) {
                let (time, seen) = entry.remove_entry();
                let (changed, failed) = finisher.finish(seen);
                changes.extend(changed.map(|changed| (time, changed)));
                failures.extend(failed.into_iter().map(|(failure, difference)| (time, failure, difference)));
            }
            while let Some(entry) = waiting_flaws.first_entry().filter(|entry| is_complete(entry.key().0)) {
                let ((time, failure), difference) = entry.remove_entry();
                failures.push((time, failure, difference));
            }
            if let Some(message) = meter.tell_halt() {
                failures.push((frontier.map_or(Time::MAX, |frontier| frontier - 1), Failure { subscription: None, message, row: String::new() }, 1));
            }
            failures.retain(|(_, _, difference)| *difference != 0);
            emit(TemplateAdvance { frontier, changes, failures, late: meter.take_late(), usage: meter.take_usage() });
        }
    });
}
