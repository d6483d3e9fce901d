//! For tests: runs a template over scripted ticks on any number of workers and tells what each subscription's answer was.
//!
//! Not part of the program. It panics where something is wrong.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::{Arc, Mutex};

use arrow::array::UInt32Array;
use arrow::compute::take_record_batch;
use serde_json::Value;

use super::json::row_object;
use super::render::{RenderOptions, render};
use super::template::{Failure, Parameters, SubscriptionId, TableChanges, Template, TemplateAdvance, Usage};
use crate::Time;

/// What happens at a tick.
#[derive(Debug, Clone, Default)]
pub struct Tick {
    /// When.
    pub time: Time,
    /// Rows that come and go.
    pub tables: Vec<TableChanges>,
    /// Subscriptions that come (true) and go (false).
    pub parameters: Vec<(Parameters, bool)>,
}

/// How a script is run.
#[derive(Debug, Clone, Copy)]
pub struct Run {
    /// How many workers.
    pub workers: usize,
    /// Whether a tick may be fed while earlier ones are under way.
    pub pipelined: bool,
    /// The quotas.
    pub options: RenderOptions,
}

impl Default for Run {
    fn default() -> Self {
        Self { workers: 1, pipelined: false, options: RenderOptions::default() }
    }
}

/// A row of an answer.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct AnswerRow {
    /// The row, as the text of a JSON object.
    pub row: String,
    /// Its key, likewise.
    pub key: String,
    /// Whether it fires.
    pub fires: bool,
    /// Whether it escalates.
    pub escalates: bool,
}

/// What holds after a tick.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Answer {
    /// The rows of each subscription's answer and how often each is there; none is there no times.
    pub rows: BTreeMap<SubscriptionId, BTreeMap<AnswerRow, i64>>,
    /// Failures that hold.
    pub failures: BTreeMap<Failure, i64>,
    /// Late rows so far.
    pub late: u64,
}

/// What a script led to.
#[derive(Debug, Clone, Default)]
pub struct Outcome {
    /// What held after each tick.
    pub ticks: Vec<(Time, Answer)>,
    /// How many changes were told of each tick.
    pub changes: BTreeMap<Time, usize>,
    /// The most that was used, each figure summed over the workers' greatest.
    pub usage: Usage,
}

/// Runs a script.
///
/// # Panics
/// If the template cannot be rendered, a script's times do not increase or a worker panics.
pub fn run(template: &Arc<Template>, script: &[Tick], run: Run) -> Outcome {
    outcome(script, &advances(template, script, run))
}

/// Runs a script and gives what was said, by whichever worker.
///
/// # Panics
/// As [`run`].
pub fn advances(template: &Arc<Template>, script: &[Tick], run: Run) -> Vec<(usize, TemplateAdvance)> {
    let said: Arc<Mutex<Vec<(usize, TemplateAdvance)>>> = Arc::default();
    let communication = if run.workers == 1 { timely::CommunicationConfig::Thread } else { timely::CommunicationConfig::Process(run.workers) };
    let config = timely::Config { communication, worker: timely::WorkerConfig::default() };
    let script: Arc<[Tick]> = script.into();
    let guards = timely::execute(config, {
        let (said, script, template) = (Arc::clone(&said), Arc::clone(&script), Arc::clone(template));
        move |worker| {
            let index = worker.index();
            let frontier = Rc::new(Cell::new(Some(0)));
            let mut inputs = worker.dataflow(|scope| {
                let (said, frontier) = (Arc::clone(&said), Rc::clone(&frontier));
                render(scope, Arc::clone(&template), run.options, move |advance| {
                    frontier.set(advance.frontier);
                    said.lock().expect("no worker has panicked").push((index, advance));
                })
                .expect("a template that can be rendered")
            });
            for tick in script.iter() {
                for changes in &tick.tables {
                    inputs.table(tick.time, share(changes, index, run.workers));
                }
                for (parameters, insert) in tick.parameters.iter().filter(|(parameters, _)| parameters.subscription as usize % run.workers == index) {
                    inputs.parameters(tick.time, parameters, *insert).expect("parameters of the template's types");
                }
                inputs.advance_to(tick.time + 1);
                if run.pipelined {
                    worker.step();
                } else {
                    worker.step_while(|| frontier.get().is_some_and(|frontier| frontier <= tick.time));
                }
            }
            inputs.close();
        }
    })
    .expect("timely starts");
    for guard in guards.join() {
        guard.expect("a worker ended well");
    }
    std::mem::take(&mut *said.lock().expect("no worker has panicked"))
}

/// A worker's share of a table's rows.
fn share(changes: &TableChanges, index: usize, workers: usize) -> TableChanges {
    let rows: Vec<u32> = (0..changes.batch.num_rows() as u32).filter(|row| *row as usize % workers == index).collect();
    let differences = changes.differences.as_ref().map(|differences| rows.iter().map(|&row| differences[row as usize]).collect());
    let batch = take_record_batch(&changes.batch, &UInt32Array::from(rows)).expect("rows of the batch");
    TableChanges { table: changes.table, batch, differences }
}

fn outcome(script: &[Tick], said: &[(usize, TemplateAdvance)]) -> Outcome {
    let mut rows: BTreeMap<Time, Vec<(SubscriptionId, AnswerRow, i64)>> = BTreeMap::new();
    let mut failures: BTreeMap<Time, Vec<(Failure, i64)>> = BTreeMap::new();
    let mut late = 0;
    let mut outcome = Outcome::default();
    let mut usage: BTreeMap<usize, Usage> = BTreeMap::new();
    for (worker, advance) in said {
        let most = usage.entry(*worker).or_default();
        most.groups = most.groups.max(advance.usage.groups);
        most.state_bytes = most.state_bytes.max(advance.usage.state_bytes);
        most.pairs = most.pairs.max(advance.usage.pairs);
        late += advance.late;
        for (time, changes) in &advance.changes {
            *outcome.changes.entry(*time).or_default() += changes.differences.len();
            for row in 0..changes.differences.len() {
                let answer = AnswerRow {
                    row: Value::Object(row_object(&changes.rows, row)).to_string(),
                    key: Value::Object(row_object(&changes.keys, row)).to_string(),
                    fires: changes.fires[row],
                    escalates: changes.escalates[row],
                };
                rows.entry(*time).or_default().push((changes.subscriptions[row], answer, changes.differences[row]));
            }
        }
        for (time, failure, difference) in &advance.failures {
            failures.entry(*time).or_default().push((failure.clone(), *difference));
        }
    }
    for worker in usage.values() {
        outcome.usage.groups += worker.groups;
        outcome.usage.state_bytes += worker.state_bytes;
        outcome.usage.pairs += worker.pairs;
    }
    let mut answer = Answer { late, ..Answer::default() };
    for tick in script {
        let due = |time: &Time| *time <= tick.time;
        while let Some(entry) = rows.first_entry().filter(|entry| due(entry.key())) {
            for (subscription, row, difference) in entry.remove() {
                let of_subscription = answer.rows.entry(subscription).or_default();
                let count = of_subscription.entry(row.clone()).or_default();
                *count += difference;
                if *count == 0 {
                    of_subscription.remove(&row);
                }
                if answer.rows[&subscription].is_empty() {
                    answer.rows.remove(&subscription);
                }
            }
        }
        while let Some(entry) = failures.first_entry().filter(|entry| due(entry.key())) {
            for (failure, difference) in entry.remove() {
                let count = answer.failures.entry(failure.clone()).or_default();
                *count += difference;
                if *count == 0 {
                    answer.failures.remove(&failure);
                }
            }
        }
        outcome.ticks.push((tick.time, answer.clone()));
    }
    assert!(rows.is_empty() && failures.is_empty(), "changes after the last tick: {rows:?} {failures:?}");
    outcome
}
