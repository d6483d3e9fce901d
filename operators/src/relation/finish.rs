//! What each subscription says of the rows of its share, tick by tick.

use std::collections::{BTreeMap, HashMap};
use std::rc::Rc;
use std::sync::Arc;

use arrow::array::{ArrayRef, BooleanArray, RecordBatch, UInt32Array};
use arrow::compute::take;
use arrow::datatypes::{DataType, Field, Fields, Schema, SchemaRef};
use arrow::error::ArrowError;
use timely::dataflow::Stream;
use timely::dataflow::channels::pact::{Exchange, Pipeline};
use timely::dataflow::operators::generic::builder_rc::OperatorBuilder;

use super::codec::{Codec, batch_of};
use super::edge::{Flaws, plain_key, take_rows};
use super::evaluate::{Projection, truths};
use super::flaw::{FLAW_TAG, Flaw, FlawUpdate, Register, payload, read_payload, shown};
use super::message::Message;
use super::meter::Meter;
use super::plan::Expression;
use super::render::RenderError;
use super::share::{Arrivals, Pair, Pairs, Shares};
use super::spine::{Bytes, KeyedUpdate, route};
use super::template::{Changes, Failure, SubscriptionId, Template, TemplateAdvance, Usage};
use crate::Time;

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

/// What is said of a row to a [`Pair`]'s target.
struct Said {
    target: u32,
    row: Bytes,
    fires: bool,
    escalates: bool,
    difference: i64,
}

/// Failures that begin (positive) or end (negative).
type Failures = BTreeMap<Failure, i64>;

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

    /// Notes what is said of pairs, and which of them fail. Rows are spread over their constants a part at a time, and only those
    /// that say something are kept.
    fn finish(&self, pairs: &Pairs, finished: &mut Finished) -> Result<(), ArrowError> {
        let (flaws, seen): (Vec<&Pair>, Vec<&Pair>) = pairs.pairs.iter().partition(|pair| pairs.rows[pair.row as usize].1.first() == Some(&FLAW_TAG));
        for pair in flaws {
            let (message, row) = read_payload(&pairs.rows[pair.row as usize].1);
            finished.fail(pairs, pair, &message, &row);
        }
        let mut rest = &seen[..];
        while !rest.is_empty() {
            let (part, others) = rest.split_at(fitting(rest.iter().map(|pair| pairs.bytes(pair))));
            self.finish_part(pairs, part, finished)?;
            rest = others;
        }
        Ok(())
    }

    fn finish_part(&self, pairs: &Pairs, seen: &[&Pair], finished: &mut Finished) -> Result<(), ArrowError> {
        let input = self.input(pairs, seen)?;
        let fail_row = |finished: &mut Finished, place: u32, message: &str| {
            let of_relation = input.slice(place as usize, 1).project(&(0..self.relation_columns).collect::<Vec<_>>()).expect("leading columns");
            finished.fail(pairs, seen[place as usize], message, &shown(&of_relation));
        };
        let conditions = self.conditions.apply(&input);
        conditions.failures.iter().for_each(|(place, error)| fail_row(finished, *place, &error.0));
        let flags: Vec<BooleanArray> = conditions.batch.columns().iter().map(|column| truths(column).expect("conditions are booleans")).collect();
        let mut kept = Vec::new();
        let mut fires = Vec::new();
        for (at, &place) in conditions.rows.iter().enumerate() {
            if flags.iter().any(|flag| flag.value(at)) {
                kept.push(place);
                fires.push(flags[0].value(at));
            }
        }
        if kept.is_empty() {
            return Ok(());
        }
        let answer = self.answer.apply(&take_rows(&input, &kept));
        answer.failures.iter().for_each(|(place, error)| fail_row(finished, kept[*place as usize], &error.0));
        let columns = self.answer_columns + self.key_columns;
        let escalates = answer.batch.columns().get(columns).map(|flags| truths(flags).expect("conditions are booleans"));
        let encoded = self.codec.encode(&answer.batch.columns()[..columns]);
        finished.said.extend(answer.rows.iter().enumerate().map(|(place, &at)| {
            let pair = seen[kept[at as usize] as usize];
            Said {
                target: pair.target,
                row: encoded.row(place),
                fires: fires[at as usize],
                escalates: escalates.as_ref().is_some_and(|escalates| escalates.value(place)),
                difference: pair.difference,
            }
        }));
        Ok(())
    }

    /// The relation's columns and the constants of pairs.
    fn input(&self, pairs: &Pairs, seen: &[&Pair]) -> Result<RecordBatch, ArrowError> {
        let (of_rows, rows) = distinct(seen.iter().map(|pair| pair.row));
        let (of_constants, constants) = distinct(seen.iter().map(|pair| pair.constants));
        let row = |number: &u32| &pairs.rows[*number as usize];
        let mut columns: Vec<ArrayRef> = self.keys.0.decode(rows.iter().map(|number| plain_key(&row(number).0)));
        columns.extend(self.keys.1.decode(rows.iter().map(|number| &row(number).1[1..])));
        let constants = self.constants.decode(constants.iter().map(|number| pairs.constants[*number as usize].as_slice()));
        let spread = columns.iter().map(|column| take(column, &of_rows, None)).chain(constants.iter().map(|column| take(column, &of_constants, None)));
        Ok(batch_of(&self.input_schema, spread.collect::<Result<_, _>>()?, seen.len()))
    }

    /// What is told, in batches of a bounded size.
    fn changes(&self, told: &[Told<'_>]) -> Vec<Changes> {
        let mut changes = Vec::new();
        let mut rest = told;
        while !rest.is_empty() {
            let (part, others) = rest.split_at(fitting(rest.iter().map(|told| told.said.row.len())));
            let columns = self.codec.decode(part.iter().map(|told| told.said.row.as_slice()));
            let (rows, keys) = columns.split_at(self.answer_columns);
            changes.push(Changes {
                rows: batch_of(&self.rows_schema, rows.to_vec(), part.len()),
                keys: batch_of(&self.keys_schema, keys.to_vec(), part.len()),
                subscriptions: part.iter().map(|told| told.subscription).collect(),
                fires: part.iter().map(|told| told.said.fires).collect(),
                escalates: part.iter().map(|told| told.said.escalates).collect(),
                differences: part.iter().map(|told| told.difference).collect(),
            });
            rest = others;
        }
        changes
    }
}

/// Rows of a batch, and their bytes: far below the two gigabytes that a column of texts can hold.
const BATCH_ROWS_MAX: usize = 8192;
const BATCH_BYTES_MAX: usize = 64 << 20;

/// How many of these rows, at least one, one batch takes.
fn fitting(sizes: impl Iterator<Item = usize>) -> usize {
    let mut bytes = 0;
    let fitting = sizes.take(BATCH_ROWS_MAX).take_while(|size| {
        bytes += size;
        bytes <= BATCH_BYTES_MAX
    });
    fitting.count().max(1)
}

/// The distinct ones of some numbers, and the place of each number among them.
fn distinct(numbers: impl Iterator<Item = u32>) -> (UInt32Array, Vec<u32>) {
    let mut places = HashMap::new();
    let mut distinct = Vec::new();
    let of_numbers = numbers.map(|number| {
        *places.entry(number).or_insert_with(|| {
            distinct.push(number);
            distinct.len() as u32 - 1
        })
    });
    (of_numbers.collect::<Vec<u32>>().into(), distinct)
}

/// What is said of a tick so far.
#[derive(Default)]
struct Finished {
    said: Vec<Said>,
    failures: Failures,
}

impl Finished {
    fn fail(&mut self, pairs: &Pairs, pair: &Pair, message: &str, row: &str) {
        for (subscription, count) in &pairs.targets[pair.target as usize] {
            let failure = Failure { subscription: Some(*subscription), message: message.to_owned(), row: row.to_owned() };
            *self.failures.entry(failure).or_default() += count * pair.difference;
        }
    }
}

/// What is said to one subscription.
struct Told<'a> {
    subscription: SubscriptionId,
    said: &'a Said,
    difference: i64,
}

/// Each row once for each target, and none that comes as often as it goes.
fn consolidated(mut said: Vec<Said>) -> Vec<Said> {
    fn by(said: &Said) -> (u32, &Bytes, bool, bool) {
        (said.target, &said.row, said.fires, said.escalates)
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

/// Each row once for each subscription, in order, and none that comes as often as it goes.
fn told<'a>(said: &'a [Said], targets: &[Vec<(SubscriptionId, i64)>], meter: &Meter) -> Vec<Told<'a>> {
    fn by<'b>(told: &'b Told<'_>) -> (SubscriptionId, &'b Bytes, bool, bool) {
        (told.subscription, &told.said.row, told.said.fires, told.said.escalates)
    }
    let mut all = Vec::new();
    for said in said {
        let targets = &targets[said.target as usize];
        // The pair itself is counted already.
        if meter.pairs(targets.len().saturating_sub(1) as u64) {
            all.extend(targets.iter().map(|(subscription, count)| Told { subscription: *subscription, said, difference: count * said.difference }));
        }
    }
    all.sort_by(|a, b| by(a).cmp(&by(b)));
    all.dedup_by(|next, kept| {
        let same = by(next) == by(kept);
        if same {
            kept.difference += next.difference;
        }
        same
    });
    all.retain(|told| told.difference != 0);
    all
}

/// What [`answer`] reads.
pub(super) struct Sources<'scope> {
    /// Rows of the relation by their parameter key.
    pub rows: Stream<'scope, Time, Vec<KeyedUpdate>>,
    pub parameters: Stream<'scope, Time, Vec<KeyedUpdate>>,
    pub flaws: Flaws<'scope>,
    /// Where there are windows: failing rows leave them too.
    pub clock: Option<Stream<'scope, Time, Vec<Message>>>,
}

/// What came for a tick.
#[derive(Default)]
struct Arrived {
    rows: Vec<((Bytes, Bytes), i64)>,
    parameters: Vec<((Bytes, Bytes), i64)>,
    flaws: Vec<(Flaw, i64)>,
}

/// Keeps rows and subscriptions together, and says what is complete, each time more of it is.
pub(super) fn answer(sources: Sources<'_>, finisher: Finisher, meter: Rc<Meter>, mut emit: impl FnMut(TemplateAdvance) + 'static) {
    let by_key = || Exchange::new(|((key, _), _, _): &KeyedUpdate| route(key));
    let mut builder = OperatorBuilder::new("Answers".to_owned(), sources.rows.scope());
    let mut rows = builder.new_input(sources.rows, by_key());
    let mut parameters = builder.new_input(sources.parameters, by_key());
    let mut flaws = builder.new_input(sources.flaws, Exchange::new(|(flaw, _, _): &FlawUpdate| flaw.key.as_ref().map_or(0, route)));
    let mut clock = sources.clock.map(|clock| builder.new_input(clock, Pipeline));
    builder.build(move |_capabilities| {
        let mut waiting: BTreeMap<Time, Arrived> = BTreeMap::new();
        let mut register = Register::new(Rc::clone(&meter));
        let mut shares = Shares::new(Rc::clone(&meter));
        let mut told = Some(0);
        move |frontiers| {
            rows.for_each(|_capability, data| {
                for (row, time, difference) in data.drain(..) {
                    let mut row: ((Bytes, Bytes), i64) = (row, difference);
                    // Before failing rows, whose first byte is another.
                    row.0.1.insert(0, 0);
                    waiting.entry(time).or_default().rows.push(row);
                }
            });
            parameters.for_each(|_capability, data| {
                data.drain(..).for_each(|(row, time, difference)| waiting.entry(time).or_default().parameters.push((row, difference)));
            });
            flaws.for_each(|_capability, data| {
                data.drain(..).for_each(|(flaw, time, difference)| waiting.entry(time).or_default().flaws.push((flaw, difference)));
            });
            if let Some(clock) = &mut clock {
                clock.for_each(|capability, messages| {
                    if let Some(&time) = capability.least().filter(|_| messages.iter().any(|message| matches!(message, Message::Clock))) {
                        waiting.entry(time).or_default();
                    }
                });
            }
            let frontier = frontiers.iter().filter_map(|frontier| frontier.frontier().first().copied()).min();
            if frontier == told {
                return;
            }
            let before = std::mem::replace(&mut told, frontier);
            let mut advance = TemplateAdvance { frontier, changes: Vec::new(), failures: Vec::new(), refused: Vec::new(), late: 0, usage: Usage::default() };
            while let Some(entry) = waiting.first_entry().filter(|entry| frontier.is_none_or(|frontier| *entry.key() < frontier)) {
                let (time, arrived) = entry.remove_entry();
                if meter.is_halted() {
                    shares.clear();
                } else {
                    tick(time, arrived, &mut register, &mut shares, &finisher, &meter, &mut advance);
                }
            }
            // With the first tick the stored rows are taken in.
            meter.end_filling();
            if let Some(message) = meter.tell_halt() {
                // Of the ticks that are complete now the first may be missing already.
                let time = before.unwrap_or(Time::MAX);
                advance.failures.push((time, Failure { subscription: None, message, row: String::new() }, 1));
            }
            advance.late = meter.take_late();
            advance.usage = meter.take_usage();
            emit(advance);
        }
    });
}

fn tick(time: Time, arrived: Arrived, register: &mut Register, shares: &mut Shares, finisher: &Finisher, meter: &Meter, advance: &mut TemplateAdvance) {
    let mut rows = arrived.rows;
    arrived.flaws.into_iter().for_each(|(flaw, difference)| register.take(flaw, time, difference));
    for (key, (message, row), difference) in register.advance(time) {
        match key {
            Some(key) => rows.push(((key, payload(&message, &row)), difference)),
            None => advance.failures.push((time, Failure { subscription: None, message, row }, difference)),
        }
    }
    if rows.is_empty() && arrived.parameters.is_empty() {
        return;
    }
    let mut finished = Finished::default();
    let (targets, refused) = shares.take(Arrivals::by_key(rows, arrived.parameters), |pairs| {
        if !meter.is_halted()
            && let Err(error) = finisher.finish(pairs, &mut finished)
        {
            meter.fail(&format!("rows with constants: {error}"));
        }
    });
    advance.refused.extend(refused);
    let said = consolidated(finished.said);
    let told = told(&said, &targets, meter);
    // Beyond a quota pairs are missing: nothing is said rather than half of it.
    if !meter.is_halted() {
        advance.changes.extend(finisher.changes(&told).into_iter().map(|changes| (time, changes)));
        let failures = finished.failures.into_iter().filter(|(_, difference)| *difference != 0);
        advance.failures.extend(failures.map(|(failure, difference)| (time, failure, difference)));
    }
}
