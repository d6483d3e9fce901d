//! Random plans over random ticks: the engine says at every tick what the slow twin says, with any number of workers.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::datatypes::DataType;
use proptest::prelude::*;
use proptest::test_runner::{RngAlgorithm, TestRng, TestRunner};
use serde_json::Value;

use super::super::harness::{AnswerRow, Run, Tick, run};
use super::super::json::row_object;
use super::super::plan::{Aggregate, AggregateFunction, JoinKind, Order, Universe};
use super::super::template::{Finish, Parameters, SubscriptionId, TableChanges, Template};
use super::expressions::{E, V, column, int};
use super::operators::schema;
use super::twin::{Event, M, N, W, World, batch, sum};

/// The columns of the table: key, number, float, text, flag, when it happened, when it was received.
const TYPES: [DataType; 7] = [DataType::Int64, DataType::Int64, DataType::Float64, DataType::Utf8, DataType::Boolean, DataType::Int64, DataType::Int64];
const TIME: usize = 5;
const RECEIVED: usize = 6;

/// Choices, drawn one after the other. Where they end all are 0, the simplest; so fewer and smaller choices are simpler cases.
struct Tape<'a> {
    choices: std::slice::Iter<'a, u16>,
}

impl Tape<'_> {
    fn below(&mut self, bound: usize) -> usize {
        self.choices.next().map_or(0, |choice| *choice as usize % bound)
    }

    fn chance(&mut self, of: usize) -> bool {
        self.below(of) == of - 1
    }

    fn one<T: Clone>(&mut self, of: &[T]) -> T {
        of[self.below(of.len())].clone()
    }
}

fn table_value(tape: &mut Tape<'_>, data_type: &DataType) -> V {
    if tape.chance(8) {
        return V::Null;
    }
    match data_type {
        DataType::Int64 => V::I(tape.below(4) as i64),
        // Quarters, whose sums are exact.
        DataType::Float64 => V::F(tape.below(40) as f64 / 4.0 - 3.0),
        DataType::Utf8 => V::S(tape.one(&["", "a", "b", "7"]).to_owned()),
        _ => V::B(tape.chance(2)),
    }
}

fn columns_of(types: &[DataType], wanted: &DataType) -> Vec<usize> {
    (0..types.len()).filter(|&index| types[index] == *wanted).collect()
}

/// An expression of some type over columns.
fn expression(tape: &mut Tape<'_>, types: &[DataType]) -> (E, DataType) {
    let index = tape.below(types.len());
    let data_type = types[index].clone();
    let plain = Box::new(column(index));
    let ints = columns_of(types, &DataType::Int64);
    match (&data_type, tape.below(6)) {
        (DataType::Int64, 3) => (E::Add(plain, Box::new(int(1))), DataType::Int64),
        (DataType::Int64, 4) => (E::Modulo(plain, 2), DataType::Int64),
        (DataType::Int64, 5) => (E::Divide(Box::new(int(6)), Box::new(column(tape.one(&ints)))), DataType::Int64),
        (DataType::Utf8, 5) => (E::Parse(plain), DataType::Int64),
        _ => (column(index), data_type),
    }
}

fn condition(tape: &mut Tape<'_>, types: &[DataType]) -> E {
    let ints = columns_of(types, &DataType::Int64);
    let flags = columns_of(types, &DataType::Boolean);
    if ints.is_empty() || (!flags.is_empty() && tape.chance(4)) {
        return flags.first().map_or(E::Literal(V::B(true)), |&flag| column(flag));
    }
    let of = column(tape.one(&ints));
    match tape.below(3) {
        0 => int(0).less(of.clone()).and(of.less(int(3))),
        1 => of.less(int(2)),
        _ => int(6).divided_by(of).less(int(4)),
    }
}

fn conditions(tape: &mut Tape<'_>, types: &[DataType]) -> Vec<E> {
    (0..tape.below(3)).map(|_| condition(tape, types)).collect()
}

fn scan(tape: &mut Tape<'_>) -> M {
    let window = tape.chance(2).then(|| W {
        column: TIME,
        lower: tape.one(&[60, 100, 300]),
        upper: tape.one(&[0, 0, 0, 30, 50]),
        pane: tape.one(&[1, 5, 20]),
        lateness: tape.chance(2).then_some(30),
        received: RECEIVED,
    });
    let filter = conditions(tape, &TYPES);
    if tape.chance(3) {
        let (columns, types) = (0..1 + tape.below(4)).map(|_| expression(tape, &TYPES)).unzip();
        return M { node: N::Scan { filter, columns, window }, types };
    }
    M { node: N::Scan { filter, columns: (0..TYPES.len()).map(column).collect(), window }, types: TYPES.to_vec() }
}

fn plan(tape: &mut Tape<'_>, depth: usize) -> M {
    if depth == 0 {
        return scan(tape);
    }
    match tape.below(8) {
        0 => scan(tape),
        1 => {
            let input = plan(tape, depth - 1);
            let filter = conditions(tape, &input.types);
            let (columns, types) = (0..1 + tape.below(4)).map(|_| expression(tape, &input.types)).unzip();
            M { node: N::Map { input: Box::new(input), filter, columns }, types }
        }
        2 | 3 => {
            let input = plan(tape, depth - 1);
            let universe = if tape.chance(4) { Universe::One } else { Universe::Rows };
            reduce(tape, input, universe)
        }
        4 => {
            let input = narrow(tape, depth);
            M { types: input.types.clone(), node: N::Distinct(Box::new(input)) }
        }
        5 => {
            let first = plan(tape, depth - 1);
            let second = M {
                node: N::Map { filter: conditions(tape, &first.types), columns: (0..first.types.len()).map(column).collect(), input: Box::new(first.clone()) },
                types: first.types.clone(),
            };
            M { types: first.types.clone(), node: N::Union(vec![first, second]) }
        }
        6 => {
            let kind = tape.one(&[JoinKind::Inner, JoinKind::Left, JoinKind::Semi, JoinKind::Anti]);
            let left = narrow(tape, depth);
            let right = narrow(tape, depth);
            let keys = usize::from(left.types[0] == right.types[0] && !tape.chance(4));
            let both = matches!(kind, JoinKind::Inner | JoinKind::Left);
            let types = left.types.iter().chain(both.then_some(&right.types).into_iter().flatten()).cloned().collect();
            M { types, node: N::Join { left: Box::new(left), right: Box::new(right), keys, kind } }
        }
        _ => {
            let input = narrow(tape, depth);
            let width = input.types.len();
            let order = (0..tape.below(3)).map(|_| Order { column: tape.below(width), descending: tape.chance(2), nulls_first: tape.chance(2) }).collect();
            let numbered = tape.chance(3);
            let mut types = input.types.clone();
            types.extend(numbered.then_some(DataType::UInt64));
            let (keys, offset, limit) = (tape.below(2), tape.below(2) as u64, 1 + tape.below(3) as u64);
            M { types, node: N::TopK { input: Box::new(input), keys, order, offset, limit, numbered } }
        }
    }
}

/// A plan of few columns and few values, so that rows meet.
fn narrow(tape: &mut Tape<'_>, depth: usize) -> M {
    let input = plan(tape, depth - 1);
    let (columns, types) = (0..1 + tape.below(2)).map(|_| expression(tape, &input.types)).unzip();
    M { node: N::Map { input: Box::new(input), filter: Vec::new(), columns }, types }
}

fn reduce(tape: &mut Tape<'_>, input: M, universe: Universe) -> M {
    grouped(tape, input, universe, 0)
}

fn grouped(tape: &mut Tape<'_>, input: M, universe: Universe, keys_min: usize) -> M {
    let keys = match &universe {
        Universe::Rows => (keys_min + tape.below(3)).min(input.types.len()),
        Universe::One => 0,
        Universe::Parameters(columns) => columns.len(),
    };
    let mut types = input.types[..keys].to_vec();
    let flags = columns_of(&input.types, &DataType::Boolean);
    let aggregates = (0..usize::from(keys == 0) + tape.below(3))
        .map(|_| {
            let (aggregate, data_type) = aggregate(tape, &input.types, &flags);
            types.push(data_type);
            aggregate
        })
        .collect();
    M { types, node: N::Reduce { input: Box::new(input), keys, aggregates, universe } }
}

fn aggregate(tape: &mut Tape<'_>, types: &[DataType], flags: &[usize]) -> (Aggregate, DataType) {
    let filter = (!flags.is_empty() && tape.chance(4)).then(|| tape.one(flags));
    let count = Aggregate { function: AggregateFunction::Count, argument: None, filter, distinct: false };
    let argument = tape.below(types.len());
    let of = |function, distinct| Aggregate { function, argument: Some(argument), filter, distinct };
    let is_number = matches!(types[argument], DataType::Int64 | DataType::Float64);
    match tape.below(9) {
        1 => (of(AggregateFunction::Count, false), DataType::Int64),
        2 => (of(AggregateFunction::Count, true), DataType::Int64),
        3 => (of(AggregateFunction::Minimum, false), types[argument].clone()),
        4 => (of(AggregateFunction::Maximum, false), types[argument].clone()),
        5 if is_number => (of(AggregateFunction::Sum, tape.chance(3)), types[argument].clone()),
        6 if is_number => (of(AggregateFunction::Average, tape.chance(3)), DataType::Float64),
        7 if is_number => (of(AggregateFunction::Quantile(0.5), false), DataType::Float64),
        8 if types[argument] == DataType::Boolean => (of(tape.one(&[AggregateFunction::BoolAnd, AggregateFunction::BoolOr]), false), DataType::Boolean),
        _ => (count, DataType::Int64),
    }
}

/// A subscription and when it is there.
#[derive(Debug, Clone)]
struct Subscribed {
    id: SubscriptionId,
    key: Vec<V>,
    limit: i64,
    from: usize,
    until: usize,
}

#[derive(Debug)]
struct Case {
    /// Of a table to which rows are only added, as the engine knows of some.
    table: &'static str,
    relation: M,
    parameter_keys: usize,
    fires: E,
    holds: Option<E>,
    ticks: Vec<i64>,
    events: Vec<Event>,
    subscribed: Vec<Subscribed>,
    run: Run,
}

fn case(choices: &[u16]) -> Case {
    let tape = &mut Tape { choices: choices.iter() };
    let depth = 1 + tape.below(3);
    let mut relation = plan(tape, depth);
    let mut parameter_keys = 0;
    if tape.chance(2) && matches!(relation.types[0], DataType::Int64 | DataType::Utf8) {
        parameter_keys = 1;
        if tape.chance(3) {
            relation = reduce(tape, relation, Universe::Parameters(vec![0]));
        }
    } else if tape.chance(2)
        && let Some(&of) = columns_of(&relation.types, &DataType::Int64).first()
    {
        // A condition with a constant of the subscription, which becomes the first column.
        let width = relation.types.len();
        let condition = if tape.chance(2) { column(width).less(column(of)) } else { column(width).equal(column(of)) };
        let columns: Vec<usize> = std::iter::once(width).chain(0..width).collect();
        let types = std::iter::once(DataType::Int64).chain(relation.types.iter().cloned()).collect();
        relation = M { types, node: N::Variants { input: Box::new(relation), parameter: 0, condition, columns } };
        parameter_keys = 1;
        relation = match tape.below(3) {
            0 => reduce(tape, relation, Universe::Parameters(vec![0])),
            1 => grouped(tape, relation, Universe::Rows, 1),
            _ => relation,
        };
    }
    let ints = columns_of(&relation.types, &DataType::Int64);
    let limit = column(relation.types.len());
    let fires = match ints.last() {
        Some(&of) if tape.chance(2) => limit.clone().less(column(of)),
        Some(&of) if tape.chance(5) => int(3).divided_by(limit.clone()).less(column(of)),
        _ => E::Literal(V::B(true)),
    };
    let holds = ints.first().filter(|_| tape.chance(3)).map(|&of| int(0).less(column(of)));
    let mut now = 1000;
    let ticks: Vec<i64> = (0..4 + tape.below(7))
        .map(|_| {
            now += 1 + tape.one(&[0, 10, 40, 150]);
            now
        })
        .collect();
    let table = tape.one(&["twin", "errors"]);
    let events = events(tape, &ticks, table == "twin");
    let subscribed = (1..=1 + tape.below(4) as SubscriptionId)
        .map(|id| {
            let key = relation.types[..parameter_keys].iter().map(|data_type| table_value(tape, data_type)).collect();
            let from = tape.below(3).min(ticks.len() - 1);
            Subscribed { id, key, limit: tape.below(4) as i64, from, until: if tape.chance(3) { from + 1 + tape.below(4) } else { usize::MAX } }
        })
        .collect();
    let run = Run { workers: tape.one(&[1, 2, 4]), pipelined: tape.chance(2), ..Run::default() };
    Case { table, relation, parameter_keys, fires, holds, ticks, events, subscribed, run }
}

fn events(tape: &mut Tape<'_>, ticks: &[i64], retract: bool) -> Vec<Event> {
    let mut events = Vec::new();
    let mut there: Vec<Vec<V>> = Vec::new();
    for &tick in ticks {
        for _ in 0..tape.below(6) {
            if retract && !there.is_empty() && tape.chance(4) {
                let row = there.swap_remove(tape.below(there.len()));
                events.push(Event { tick, row, difference: -1 });
                continue;
            }
            let mut row: Vec<V> = TYPES.iter().map(|data_type| table_value(tape, data_type)).collect();
            // Received in this tick or, where stored rows are read, long before it; it happened before that, or by a clock that is
            // ahead, as far as one may be and farther.
            let received = tick - tape.one(&[0, 0, 4, 35, 90]);
            row[RECEIVED] = V::I(received);
            row[TIME] = if tape.chance(10) { V::Null } else { V::I(received - tape.one(&[0, 3, 25, 70, -15, -60_000, -60_001, -1_000_000])) };
            there.push(row.clone());
            events.push(Event { tick, row, difference: 1 });
        }
    }
    events
}

type Rows = BTreeMap<SubscriptionId, BTreeMap<AnswerRow, i64>>;

impl Case {
    fn template(&self) -> Arc<Template> {
        let relation = self.relation.lowered(self.table, TYPES.len());
        let columns = self.relation.types.iter().enumerate().map(|(index, data_type)| column(index).typed(data_type.clone())).collect();
        let finish = Finish {
            columns,
            schema: self.relation.schema(),
            key: vec![],
            key_schema: schema(&[]),
            fires: self.fires.clone().boolean(),
            holds: self.holds.clone().map(E::boolean),
            escalates: None,
            project: None,
        };
        Arc::new(Template { relation, parameter_keys: self.parameter_keys, constants: schema(&[("limit", DataType::Int64)]), finish })
    }

    fn parameters(&self, subscribed: &Subscribed) -> Parameters {
        let key_types: Vec<_> = self.relation.types[..self.parameter_keys].iter().map(|data_type| ("k", data_type.clone())).collect();
        Parameters {
            subscription: subscribed.id,
            key: batch(&schema(&key_types), std::slice::from_ref(&subscribed.key)),
            constants: batch(&schema(&[("limit", DataType::Int64)]), &[vec![V::I(subscribed.limit)]]),
        }
    }

    fn script(&self) -> Vec<Tick> {
        let names = ["k", "v", "x", "s", "b", "t", "r"];
        let of_table = schema(&names.into_iter().zip(TYPES).collect::<Vec<_>>());
        let tick = |(index, &time): (usize, &i64)| {
            let events: Vec<&Event> = self.events.iter().filter(|event| event.tick == time).collect();
            let rows: Vec<Vec<V>> = events.iter().map(|event| event.row.clone()).collect();
            let differences = Some(events.iter().map(|event| event.difference).collect());
            let come = self.subscribed.iter().filter(|subscribed| subscribed.from == index).map(|subscribed| (self.parameters(subscribed), true));
            let go = self.subscribed.iter().filter(|subscribed| subscribed.until == index).map(|subscribed| (self.parameters(subscribed), false));
            Tick {
                time: time as u64,
                tables: vec![TableChanges { table: self.table, batch: batch(&of_table, &rows), differences }],
                parameters: come.chain(go).collect(),
            }
        };
        self.ticks.iter().enumerate().map(tick).collect()
    }

    /// What the twin says holds at a tick; whether a row of the relation fails, and whether one of a condition does.
    fn expected(&self, index: usize) -> (Rows, bool, bool) {
        let there: Vec<&Subscribed> = self.subscribed.iter().filter(|subscribed| subscribed.from <= index && index < subscribed.until).collect();
        let there: Vec<&Subscribed> = there.into_iter().filter(|subscribed| !subscribed.key.contains(&V::Null)).collect();
        let asked = there.iter().map(|subscribed| subscribed.key.clone()).collect();
        let mut world = World { now: self.ticks[index], events: &self.events, asked, failed: false };
        let relation = sum(self.relation.answer(&mut world));
        let mut rows = Rows::new();
        let mut failed = false;
        for subscribed in there {
            for (row, count) in relation.iter().filter(|(row, _)| row[..self.parameter_keys] == subscribed.key) {
                let seen: Vec<V> = row.iter().cloned().chain([V::I(subscribed.limit)]).collect();
                let flags = std::iter::once(&self.fires).chain(&self.holds).map(|flag| flag.value(&seen)).collect::<Result<Vec<_>, _>>();
                match flags {
                    Ok(flags) if flags.contains(&V::B(true)) => {
                        let text = Value::Object(row_object(&batch(&self.relation.schema(), std::slice::from_ref(row)), 0)).to_string();
                        let answer = AnswerRow { row: text, key: "{}".to_owned(), fires: flags[0] == V::B(true), escalates: false };
                        *rows.entry(subscribed.id).or_default().entry(answer).or_default() += count;
                    }
                    Ok(_) => {}
                    Err(_) => failed = true,
                }
            }
        }
        (rows, world.failed, failed)
    }
}

/// What the cases so far were about.
#[derive(Debug, Default)]
struct Coverage {
    ticks: usize,
    with_rows: usize,
    with_failures: usize,
    /// Of which kinds of nodes the answers were that had rows.
    nodes: BTreeMap<&'static str, usize>,
}

impl Coverage {
    fn count(&mut self, plan: &M) {
        let (name, inputs): (_, Vec<&M>) = match &plan.node {
            N::Scan { window: Some(_), .. } => ("windowed scan", vec![]),
            N::Scan { .. } => ("scan", vec![]),
            N::Map { input, .. } => ("map", vec![input]),
            N::Reduce { input, universe: Universe::Rows, .. } => ("reduce", vec![input]),
            N::Reduce { input, universe: Universe::One, .. } => ("reduce to one", vec![input]),
            N::Reduce { input, .. } => ("reduce by parameters", vec![input]),
            N::Variants { input, .. } => ("variants", vec![input]),
            N::Distinct(input) => ("distinct", vec![input]),
            N::Union(inputs) => ("union", inputs.iter().collect()),
            N::Join { left, right, kind, .. } => {
                let name = match kind {
                    JoinKind::Inner => "inner join",
                    JoinKind::Left => "left join",
                    JoinKind::Semi => "semi join",
                    JoinKind::Anti => "anti join",
                };
                (name, vec![left, right])
            }
            N::TopK { input, .. } => ("top-k", vec![input]),
        };
        *self.nodes.entry(name).or_default() += 1;
        inputs.into_iter().for_each(|input| self.count(input));
    }
}

fn agree(choices: &[u16], coverage: &mut Coverage) -> Result<(), TestCaseError> {
    let case = case(choices);
    let outcome = run(&case.template(), &case.script(), case.run);
    for (index, (time, answer)) in outcome.ticks.iter().enumerate() {
        let (rows, row_fails, condition_fails) = case.expected(index);
        prop_assert_eq!(&answer.rows, &rows, "at tick {} of {:#?}", time, case);
        let told = !answer.failures.is_empty();
        prop_assert!(!told || row_fails || condition_fails, "at tick {} nothing fails but {:?} is told: {:#?}", time, answer.failures, case);
        let must_be_told = condition_fails || (row_fails && case.parameter_keys == 0);
        prop_assert!(told || !must_be_told, "at tick {} a failure is not told: {:#?}", time, case);
        coverage.ticks += 1;
        coverage.with_failures += usize::from(told);
        if !rows.is_empty() {
            coverage.with_rows += 1;
            coverage.count(&case.relation);
        }
    }
    Ok(())
}

/// How many cases are run unless `PROPTEST_CASES` says otherwise.
const CASES: u32 = 600;

#[test]
fn the_engine_says_at_every_tick_what_the_slow_twin_says() {
    #[allow(clippy::disallowed_methods, reason = "a test that can be made to soak")]
    let cases = std::env::var("PROPTEST_CASES").ok().and_then(|cases| cases.parse().ok()).unwrap_or(CASES);
    let config = ProptestConfig { failure_persistence: None, cases, max_shrink_iters: 2_000, ..ProptestConfig::default() };
    let coverage = RefCell::new(Coverage::default());
    // The same cases each time, unless a number is asked for: then others, too.
    let is_soak = cases != CASES;
    let mut runner = if is_soak { TestRunner::new(config) } else { TestRunner::new_with_rng(config, TestRng::deterministic_rng(RngAlgorithm::ChaCha)) };
    let result = runner.run(&prop::collection::vec(any::<u16>(), 0..1_200), |choices| agree(&choices, &mut coverage.borrow_mut()));
    if let Err(failure) = result {
        panic!("{failure}");
    }
    let coverage = coverage.into_inner();
    println!("{coverage:?}");
    // Cases that say nothing prove nothing.
    assert!(coverage.ticks >= 4 * cases as usize, "{coverage:?}");
    assert!(coverage.with_rows * 4 >= coverage.ticks, "{coverage:?}");
    assert!(coverage.with_failures * 50 >= coverage.ticks, "{coverage:?}");
    assert!(cases < CASES || (coverage.nodes.len() == 14 && coverage.nodes.values().all(|count| *count >= 20)), "{coverage:?}");
}
