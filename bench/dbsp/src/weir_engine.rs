//! Our engine: a template without parameters, and one subscription that sees all groups.

use std::cell::RefCell;
use std::error::Error;
use std::rc::Rc;
use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, BooleanArray, Int64Array, RecordBatch, RecordBatchOptions};
use arrow::datatypes::{DataType, Field, Int64Type, Schema, SchemaRef};
use weir_operators::relation::plan::{Aggregate, AggregateFunction, Evaluate, EvaluateError, Expression, Node, Reduce, Relation, Scan, Universe, Window};
use weir_operators::relation::template::{Changes, Finish, Parameters, TableChanges, Template};
use weir_operators::relation::{RenderOptions, TemplateInputs, render};

use crate::Engine;
use crate::events::{LOWER_MS, PANE_MS, Tick};

const TABLE: &str = "events";

#[derive(Debug)]
struct Column(usize);

impl Evaluate for Column {
    fn evaluate(&self, batch: &RecordBatch) -> Result<ArrayRef, EvaluateError> {
        Ok(Arc::clone(batch.column(self.0)))
    }
}

#[derive(Debug)]
struct Always;

impl Evaluate for Always {
    fn evaluate(&self, batch: &RecordBatch) -> Result<ArrayRef, EvaluateError> {
        Ok(Arc::new(BooleanArray::from(vec![true; batch.num_rows()])))
    }
}

fn ints(names: &[&str]) -> SchemaRef {
    Arc::new(Schema::new(names.iter().map(|name| Field::new(*name, DataType::Int64, true)).collect::<Vec<_>>()))
}

/// `SELECT key, count(*), sum(value) FROM events WHERE time > now() - INTERVAL '1 minute' GROUP BY key`.
fn template() -> Arc<Template> {
    let column = |index| Arc::new(Column(index)) as Expression;
    let window = Window { time: column(1), lower_ms: LOWER_MS, upper_ms: 0, pane_ms: PANE_MS, lateness_ms: None, received: None };
    let scan = Scan { table: TABLE, table_columns: vec![0, 1, 2], filter: vec![], columns: vec![column(0), column(2)], window: Some(window) };
    let aggregate = |function, argument| Aggregate { function, argument, filter: None, distinct: false };
    let reduce = Reduce {
        input: Box::new(Relation { node: Node::Scan(scan), schema: ints(&["key", "value"]) }),
        keys: 1,
        aggregates: vec![aggregate(AggregateFunction::Count, None), aggregate(AggregateFunction::Sum, Some(1))],
        universe: Universe::Rows,
    };
    let finish = Finish {
        columns: vec![column(0), column(1), column(2)],
        schema: ints(&["key", "n", "total"]),
        key: vec![column(0)],
        key_schema: ints(&["key"]),
        fires: Arc::new(Always),
        holds: None,
        escalates: None,
        project: None,
    };
    Arc::new(Template {
        relation: Relation { node: Node::Reduce(reduce), schema: ints(&["key", "n", "total"]) },
        parameter_keys: 0,
        constants: ints(&[]),
        finish,
    })
}

/// What the dataflow said last.
#[derive(Default)]
struct Said {
    frontier: Option<u64>,
    changes: Vec<Changes>,
}

/// The dataflow on a worker of its own.
pub struct Weir<'a> {
    worker: &'a mut timely::worker::Worker,
    inputs: TemplateInputs,
    said: Rc<RefCell<Said>>,
    schema: SchemaRef,
}

/// Runs what is given the engine, in the thread of the worker.
pub fn run(then: impl FnOnce(Weir<'_>) -> Result<(), Box<dyn Error>> + Send + Sync + 'static) -> Result<(), Box<dyn Error>> {
    // An error of one thread is a text for another.
    timely::execute_directly(move |worker| {
        let said = Rc::new(RefCell::new(Said { frontier: Some(0), changes: Vec::new() }));
        let inputs = worker.dataflow(|scope| {
            let said = Rc::clone(&said);
            render(scope, template(), RenderOptions::default(), move |advance| {
                let mut said = said.borrow_mut();
                said.frontier = advance.frontier;
                said.changes.extend(advance.changes.into_iter().map(|(_, changes)| changes));
            })
        });
        let mut weir = Weir { worker, inputs: inputs.map_err(|e| e.to_string())?, said, schema: ints(&["key", "time", "value"]) };
        weir.subscribe().map_err(|e| e.to_string())?;
        then(weir).map_err(|e| e.to_string())
    })
    .map_err(|text: String| text.into())
}

impl Weir<'_> {
    fn subscribe(&mut self) -> Result<(), Box<dyn Error>> {
        let nothing = RecordBatch::try_new_with_options(ints(&[]), vec![], &RecordBatchOptions::new().with_row_count(Some(1)))?;
        self.inputs.advance_to(1);
        self.inputs.parameters(1, &Parameters { subscription: 1, key: nothing.clone(), constants: nothing }, true)?;
        self.finish(1);
        Ok(())
    }

    /// Steps until a tick is complete.
    fn finish(&mut self, tick: u64) {
        self.inputs.advance_to(tick + 1);
        let said = Rc::clone(&self.said);
        self.worker.step_while(|| said.borrow().frontier.is_some_and(|frontier| frontier <= tick));
    }
}

impl Engine for Weir<'_> {
    fn tick(&mut self, tick: &Tick, changed: &mut dyn FnMut(i64, i64, i64, i64)) -> Result<(), Box<dyn Error>> {
        let columns = [&tick.keys, &tick.times, &tick.values].map(|column| Arc::new(Int64Array::from(column.clone())) as ArrayRef);
        let batch = RecordBatch::try_new(Arc::clone(&self.schema), columns.to_vec())?;
        self.inputs.table(tick.ms, TableChanges { table: TABLE, batch, differences: None });
        self.finish(tick.ms);
        for changes in self.said.borrow_mut().changes.drain(..) {
            let [keys, counts, sums] = [0, 1, 2].map(|at| changes.rows.column(at).as_primitive::<Int64Type>().clone());
            for (row, difference) in changes.differences.iter().enumerate() {
                changed(keys.value(row), counts.value(row), sums.value(row), *difference);
            }
        }
        Ok(())
    }
}
