//! What standing subscriptions cost: CPU time of a tick and of an event, and memory, as their number grows; and what a tick costs
//! when nothing happens.
//!
//! `cargo run --release -p weir-operators --example subscription_cost`. Times are CPU time of the worker's thread, so that a busy
//! machine does not count; still, trust the ratios within one run.

#![allow(clippy::print_stdout, clippy::unwrap_used, clippy::disallowed_methods, reason = "a measurement: it prints, and reads its own CPU time")]

use std::cell::Cell;
use std::rc::Rc;
use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, BooleanArray, Int64Array, RecordBatch};
use arrow::datatypes::{DataType, Field, Int64Type, Schema, SchemaRef};
use weir_operators::relation::plan::{Aggregate, AggregateFunction, Evaluate, EvaluateError, Expression, Node, Reduce, Relation, Scan, Universe, Window};
use weir_operators::relation::template::{Finish, Parameters, TableChanges, Template};
use weir_operators::relation::{RenderOptions, TemplateInputs, render};

const TABLE: &str = "events";
const TICK_MS: u64 = 100;
const EVENTS_PER_TICK: usize = 1_000;
const KEYS: i64 = 1_000;
/// Ticks until the window of a minute is full.
const WARM_UP_TICKS: u64 = 700;
const TICKS: u64 = 300;

#[derive(Debug)]
struct Column(usize);

impl Evaluate for Column {
    fn evaluate(&self, batch: &RecordBatch) -> Result<ArrayRef, EvaluateError> {
        Ok(Arc::clone(batch.column(self.0)))
    }
}

#[derive(Debug)]
struct Less(usize, usize);

impl Evaluate for Less {
    fn evaluate(&self, batch: &RecordBatch) -> Result<ArrayRef, EvaluateError> {
        let (a, b) = (batch.column(self.0).as_primitive::<Int64Type>(), batch.column(self.1).as_primitive::<Int64Type>());
        Ok(Arc::new((0..a.len()).map(|row| Some(a.value(row) < b.value(row))).collect::<BooleanArray>()))
    }
}

fn ints(names: &[&str]) -> SchemaRef {
    Arc::new(Schema::new(names.iter().map(|name| Field::new(*name, DataType::Int64, true)).collect::<Vec<_>>()))
}

fn batch(schema: &SchemaRef, columns: Vec<Vec<i64>>) -> RecordBatch {
    RecordBatch::try_new(Arc::clone(schema), columns.into_iter().map(|column| Arc::new(Int64Array::from(column)) as ArrayRef).collect()).unwrap()
}

/// `SELECT key, count(*) FROM events WHERE time > now() - INTERVAL '1 minute' GROUP BY key HAVING count(*) > limit`.
fn template() -> Arc<Template> {
    let column = |index| Arc::new(Column(index)) as Expression;
    let window = Window { time: column(1), lower_ms: 60_000, upper_ms: 0, pane_ms: 1_000, lateness_ms: None, received: None };
    let scan = Scan { table: TABLE, table_columns: vec![0, 1], filter: vec![], columns: vec![column(0)], window: Some(window) };
    let input = Relation { node: Node::Scan(scan), schema: ints(&["key"]) };
    let count = Aggregate { function: AggregateFunction::Count, argument: None, filter: None, distinct: false };
    let reduce = Reduce { input: Box::new(input), keys: 1, aggregates: vec![count], universe: Universe::Rows };
    let finish = Finish {
        columns: vec![column(0), column(1)],
        schema: ints(&["key", "n"]),
        key: vec![column(0)],
        key_schema: ints(&["key"]),
        fires: Arc::new(Less(2, 1)),
        holds: None,
        escalates: None,
        project: None,
    };
    Arc::new(Template {
        relation: Relation { node: Node::Reduce(reduce), schema: ints(&["key", "n"]) },
        parameter_keys: 1,
        constants: ints(&["limit"]),
        finish,
    })
}

fn cpu_ns() -> u64 {
    std::fs::read_to_string("/proc/thread-self/schedstat").unwrap().split_whitespace().next().unwrap().parse().unwrap()
}

fn resident_bytes() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS")).unwrap();
    1024 * line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap()
}

struct Running {
    inputs: TemplateInputs,
    frontier: Rc<Cell<Option<u64>>>,
}

fn start(worker: &mut timely::worker::Worker, template: &Arc<Template>) -> Running {
    let frontier = Rc::new(Cell::new(Some(0)));
    let inputs = worker.dataflow(|scope| {
        let frontier = Rc::clone(&frontier);
        render(scope, Arc::clone(template), RenderOptions::default(), move |advance| frontier.set(advance.frontier)).unwrap()
    });
    Running { inputs, frontier }
}

impl Running {
    fn is_behind(&self, tick: u64) -> bool {
        self.frontier.get().is_some_and(|frontier| frontier <= tick)
    }
}

/// A sequence that looks random and is the same each time.
fn next(state: &mut u64) -> u64 {
    *state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
    *state >> 33
}

/// CPU nanoseconds of an event and bytes of a subscription, of which one in `fires` fires all the time and has a new value at each
/// tick.
fn with_parameters(parameters: usize, keys: i64, fires: i64) -> (f64, f64) {
    let template = template();
    timely::execute_directly(move |worker| {
        let mut running = start(worker, &template);
        let key_schema = ints(&["key"]);
        let constants_schema = ints(&["limit"]);
        let mut tick = 1_000_000;
        running.inputs.advance_to(tick);
        worker.step_while(|| running.is_behind(tick - 1));
        let before = resident_bytes();
        for subscription in 0..parameters {
            let key = batch(&key_schema, vec![vec![subscription as i64 % keys]]);
            let constants =
                batch(&constants_schema, vec![vec![if subscription as i64 / keys % fires == fires - 1 { 60 } else { 1_000_000 + subscription as i64 % 7 }]]);
            running.inputs.parameters(tick, &Parameters { subscription: subscription as u64, key, constants }, true).unwrap();
            if subscription % 1_000 == 999 {
                worker.step();
            }
        }
        running.inputs.advance_to(tick + 1);
        worker.step_while(|| running.is_behind(tick));
        let memory = (resident_bytes().saturating_sub(before)) as f64 / parameters as f64;
        let schema = ints(&["key", "time"]);
        let mut state = 42;
        let mut cpu = 0;
        for round in 0..WARM_UP_TICKS + TICKS {
            tick += TICK_MS;
            let keys: Vec<i64> = (0..EVENTS_PER_TICK).map(|_| (next(&mut state) % KEYS as u64) as i64).collect();
            let events = batch(&schema, vec![keys, vec![tick as i64 - 10; EVENTS_PER_TICK]]);
            let before = cpu_ns();
            running.inputs.table(tick, TableChanges { table: TABLE, batch: events, differences: None });
            running.inputs.advance_to(tick + 1);
            worker.step_while(|| running.is_behind(tick));
            if round >= WARM_UP_TICKS {
                cpu += cpu_ns() - before;
            }
        }
        (cpu as f64 / (TICKS * EVENTS_PER_TICK as u64) as f64, memory)
    })
}

fn idle(templates: usize) -> f64 {
    timely::execute_directly(move |worker| {
        let mut running: Vec<Running> = (0..templates).map(|_| start(worker, &template())).collect();
        let mut tick = 1_000_000;
        let mut cpu = 0;
        for round in 0..200 {
            tick += TICK_MS;
            let before = cpu_ns();
            running.iter_mut().for_each(|running| running.inputs.advance_to(tick + 1));
            worker.step_while(|| running.iter().any(|running| running.is_behind(tick)));
            if round >= 100 {
                cpu += cpu_ns() - before;
            }
        }
        cpu as f64 / 100.0
    })
}

fn main() {
    println!("{EVENTS_PER_TICK} events a tick over {KEYS} keys, a count of a sliding minute in panes of a second");
    println!("subscriptions      keys   one fires of   ns/event   bytes/subscription   times the first");
    let mut first = None;
    for (parameters, keys, fires) in
        [(10, KEYS, 100), (1_000, KEYS, 100), (10_000, KEYS, 100), (100_000, KEYS, 100), (100_000, 100_000, 100), (100_000, KEYS, 1)]
    {
        let (per_event, memory) = with_parameters(parameters, keys, fires);
        let base = *first.get_or_insert(per_event);
        println!("{parameters:>13} {keys:>9} {fires:>14} {per_event:>10.0} {memory:>20.0} {:>17.2}", per_event / base);
    }
    println!("templates   µs/idle tick");
    for templates in [1, 30, 100] {
        println!("{templates:>9} {:>14.0}", idle(templates) / 1000.0);
    }
}
