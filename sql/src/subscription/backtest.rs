//! `BACKTEST SUBSCRIPTION`: when a subscription would have fired, from stored history.
//!
//! The same template runs over the rows that are stored, in the order in which they were received, and the same rules make alerts
//! of its answer. Ticks are as far apart as the finest pane of its windows, or farther where the time is long. Tables of current
//! state have no history: they are taken as they are now.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use datafusion::arrow::array::{ArrayRef, AsArray, RecordBatch, StringArray, TimestampMillisecondArray, new_null_array};
use datafusion::arrow::compute::concat_batches;
use datafusion::arrow::datatypes::{Field, Schema, SchemaRef, TimestampMillisecondType};
use datafusion::common::{ScalarValue, TableReference};
use datafusion::datasource::provider_as_source;
use datafusion::execution::memory_pool::{MemoryConsumer, MemoryReservation};
use datafusion::execution::runtime_env::RuntimeEnv;
use datafusion::execution::{SessionState, TaskContext};
use datafusion::logical_expr::{Expr, LogicalPlanBuilder, col, lit};
use datafusion::physical_plan::execute_stream;
use futures::StreamExt;
use weir_operators::alert::{Alerts, Recorded, Seen};
use weir_operators::relation::harness::{Run, Tick, advances};
use weir_operators::relation::json::row_text;
use weir_operators::relation::plan::{Node, Relation, Scan};
use weir_operators::relation::template::{Changes, TableChanges};
use weir_operators::schema::{self, TableKind};
use weir_protocol::subscription::{Subscription, SubscriptionOptions, Transition};

use super::compile::CompiledQuery;
use super::run::BACKTEST;
use crate::engine::Engine;
use crate::error::QueryError;
use crate::running::Place;
use crate::scope::Scope;
use crate::session::pinned;
use crate::stream::QueryStream;
use crate::tables::readable;

/// More rows than this are not read for a backtest.
const ROWS_MAX: usize = 2_000_000;
/// A backtest has no more ticks than this.
const TICKS_MAX: u64 = 20_000;

/// What is read of a table: the columns, and since when.
#[derive(Debug, Default)]
struct Reading {
    columns: BTreeSet<usize>,
    /// How long before the first tick its rows begin to matter, in milliseconds.
    before_ms: u64,
}

/// What is run.
pub(super) struct Backtest {
    pub(super) sql: String,
    pub(super) options: SubscriptionOptions,
    pub(super) compiled: CompiledQuery,
    /// The first tick and the last, in Unix milliseconds.
    pub(super) from_ms: u64,
    pub(super) to_ms: u64,
}

/// What a backtest reads with: one session for all tables, so that its joins are of one moment, and the memory of its query.
struct Reader {
    state: SessionState,
    scope: Scope,
    runtime: Arc<RuntimeEnv>,
    kept: MemoryReservation,
    rows: usize,
}

impl Engine {
    /// Runs the same template over the stored rows, in a place among the queries and within their bounds.
    pub(super) async fn backtest(&self, scope: &Scope, backtest: Backtest, (place, runtime): (Place, Arc<RuntimeEnv>)) -> Result<QueryStream, QueryError> {
        let (query, time_max) = (Arc::clone(&place.query), self.query_time_max());
        let (engine, scope) = (self.clone(), scope.clone());
        let mut work = self.threads().spawn(async move {
            let kept = MemoryConsumer::new("backtest").register(&runtime.memory_pool);
            let reader = Reader { state: engine.session(&scope).await?, scope, runtime, kept, rows: 0 };
            reader.run(&engine, backtest, place).await
        });
        let transitions = tokio::select! {
            biased;
            () = query.stopped() => Err(QueryError::Cancelled),
            () = tokio::time::sleep(time_max) => Err(QueryError::Time(time_max)),
            ran = &mut work => ran.map_err(|_| QueryError::Internal("the backtest panicked".to_owned()))?,
        };
        work.abort();
        let batch = answer(&transitions?).map_err(|e| QueryError::Internal(e.to_string()))?;
        Ok(self.stream_of(Arc::clone(&BACKTEST), batch))
    }
}

impl Reader {
    async fn run(mut self, engine: &Engine, backtest: Backtest, place: Place) -> Result<Vec<Transition>, QueryError> {
        let Backtest { sql, options, compiled, from_ms, to_ms } = backtest;
        let mut readings = BTreeMap::new();
        let mut pane_ms = u64::MAX;
        scans(&compiled.template.relation, &mut |scan| {
            let reading: &mut Reading = readings.entry(scan.table).or_default();
            reading.columns.extend(&scan.table_columns);
            if let Some(window) = &scan.window {
                reading.before_ms = reading.before_ms.max(window.lower_ms + window.lateness_ms.unwrap_or_default());
                pane_ms = pane_ms.min(window.pane_ms);
            }
        });
        let step_ms = pane_ms.min(60_000).max((to_ms - from_ms).div_ceil(TICKS_MAX)).max(1);
        let mut ticks: BTreeMap<u64, Vec<TableChanges>> = (0..=(to_ms - from_ms) / step_ms).map(|n| (from_ms + n * step_ms, Vec::new())).collect();
        for (table, reading) in readings {
            let batch = self.stored_rows(table, &reading, from_ms.saturating_sub(reading.before_ms), to_ms).await?;
            feed(table, &reading, &batch, &mut ticks);
        }
        let Scope { org_id, projects, name } = self.scope;
        let subscription = Subscription {
            id: 1,
            version: 1,
            name: "backtest".to_owned(),
            query: sql,
            // Who is told when is not asked: a mute changes nothing of when it fires.
            options: SubscriptionOptions { mute_until_ms: 0, ..options },
            org_id,
            projects,
            created_by: name,
            created_ms: from_ms,
        };
        let kept = self.kept;
        let ran = engine.threads().spawn_blocking(move || {
            // Held until it has ended, also where nobody waits for it any more.
            let _held = (place, kept);
            transitions(&compiled, subscription, ticks)
        });
        ran.await.map_err(|_| QueryError::Internal("the backtest panicked".to_owned()))?
    }

    /// The rows of a table by the time of their receipt; of each the columns that are read, that time behind them.
    async fn stored_rows(&mut self, name: &'static str, reading: &Reading, since_ms: u64, to_ms: u64) -> Result<RecordBatch, QueryError> {
        let Some(table) = schema::table(name) else { return Err(QueryError::Internal(format!("there is no table {name}"))) };
        let time = |ms: u64| lit(ScalarValue::TimestampMillisecond(Some(ms as i64), None));
        let stored = table.stored_schema();
        let mut columns: Vec<Expr> = reading.columns.iter().map(|index| col(stored.field(*index).name())).collect();
        columns.push(col("received").alias("_received"));
        let snapshot = pinned(self.state.config())?;
        let readable = readable(table, &self.scope, &snapshot.deletions);
        let mut plan = LogicalPlanBuilder::scan(TableReference::bare(name), provider_as_source(Arc::new(readable)), None)?;
        if table.kind == TableKind::Appended {
            plan = plan.filter(col("received").gt_eq(time(since_ms)).and(col("received").lt_eq(time(to_ms))))?;
        }
        let plan = plan.project(columns)?.sort(vec![col("_received").sort(true, true)])?.build()?;
        let physical = self.state.create_physical_plan(&plan).await?;
        let schema = physical.schema();
        let context = TaskContext::from(&self.state).with_runtime(Arc::clone(&self.runtime));
        let mut stream = execute_stream(physical, Arc::new(context))?;
        let mut batches = Vec::new();
        while let Some(batch) = stream.next().await {
            let batch = batch?;
            self.rows += batch.num_rows();
            if self.rows > ROWS_MAX {
                return Err(QueryError::Invalid(format!("the backtest would read more than {ROWS_MAX} rows: choose a shorter time, or fewer projects")));
            }
            self.kept.try_grow(batch.get_array_memory_size())?;
            batches.push(batch);
        }
        concat_batches(&schema, &batches).map_err(|e| QueryError::Internal(e.to_string()))
    }
}

/// All scans of a relation.
fn scans<'a>(relation: &'a Relation, each: &mut impl FnMut(&'a Scan)) {
    match &relation.node {
        Node::Scan(scan) => each(scan),
        Node::Values(_) => {}
        Node::Map(map) => scans(&map.input, each),
        Node::Variants(variants) => scans(&variants.input, each),
        Node::Reduce(reduce) => scans(&reduce.input, each),
        Node::Distinct(input) => scans(input, each),
        Node::Union(inputs) => inputs.iter().for_each(|input| scans(input, each)),
        Node::Join(join) => {
            scans(&join.left, each);
            scans(&join.right, each);
        }
        Node::TopK(top) => scans(&top.input, each),
    }
}

/// Gives each tick the rows that were received until then. Rows of current state are there from the first.
fn feed(table: &'static str, reading: &Reading, batch: &RecordBatch, ticks: &mut BTreeMap<u64, Vec<TableChanges>>) {
    let Some(received) = batch.columns().last().and_then(|column| column.as_primitive_opt::<TimestampMillisecondType>()) else { return };
    let is_current = schema::table(table).is_some_and(|table| table.kind == TableKind::Current);
    let mut next = 0;
    for (time, changes) in ticks.iter_mut() {
        let mut end = next;
        while end < batch.num_rows() && (is_current || received.value(end) <= *time as i64) {
            end += 1;
        }
        if end > next
            && let Some(batch) = in_stored_schema(table, reading, &batch.slice(next, end - next))
        {
            changes.push(TableChanges { table, batch, differences: None });
        }
        next = end;
    }
}

/// Rows in the table's stored schema; columns that nobody reads are null.
fn in_stored_schema(table: &str, reading: &Reading, batch: &RecordBatch) -> Option<RecordBatch> {
    let stored = schema::table(table)?.stored_schema();
    let fields: Vec<Field> = stored.fields().iter().map(|field| field.as_ref().clone().with_nullable(true)).collect();
    let mut read = batch.columns().iter();
    let columns = fields.iter().enumerate().map(|(index, field)| {
        let given: Option<ArrayRef> = if reading.columns.contains(&index) { read.next().cloned() } else { None };
        given.unwrap_or_else(|| new_null_array(field.data_type(), batch.num_rows()))
    });
    let columns = columns.collect();
    RecordBatch::try_new(SchemaRef::new(Schema::new(fields)), columns).ok()
}

/// What the answer would have made of the alerts.
fn transitions(compiled: &CompiledQuery, subscription: Subscription, ticks: BTreeMap<u64, Vec<TableChanges>>) -> Result<Vec<Transition>, QueryError> {
    weir_operators::relation::check(&compiled.template).map_err(|e| QueryError::Invalid(e.to_string()))?;
    let last = ticks.keys().next_back().copied().unwrap_or_default();
    let mut script: Vec<Tick> = ticks.into_iter().map(|(time, tables)| Tick { time, tables, parameters: Vec::new() }).collect();
    if let Some(first) = script.first_mut() {
        first.parameters.push((compiled.parameters(subscription.id), true));
    }
    let mut by_tick: BTreeMap<u64, Vec<Changes>> = BTreeMap::new();
    for (_, advance) in advances(&compiled.template, &script, Run::default()) {
        if let Some((_, failure, _)) = advance.failures.into_iter().find(|(_, _, difference)| *difference > 0) {
            return Err(QueryError::Invalid(format!("{}; the row that caused it: {}", failure.message, failure.row)));
        }
        for (time, changes) in advance.changes {
            by_tick.entry(time).or_default().push(changes);
        }
    }
    let mut alerts = Alerts::new(Arc::new(subscription), [], false);
    let mut rows: BTreeMap<String, BTreeMap<(bool, bool, String), i64>> = BTreeMap::new();
    let mut recorded = Recorded::default();
    for (time, changes) in by_tick {
        alerts.pass(time, &mut recorded);
        let mut touched = BTreeSet::new();
        for changes in &changes {
            for row in 0..changes.rows.num_rows() {
                let key = row_text(&changes.keys, row);
                let said = (changes.fires[row], changes.escalates[row], row_text(&changes.rows, row));
                *rows.entry(key.clone()).or_default().entry(said).or_default() += changes.differences[row];
                touched.insert(key);
            }
        }
        for key in touched {
            let Some(of_key) = rows.get_mut(&key) else { continue };
            of_key.retain(|_, count| *count != 0);
            // Of several rows of one key those that fire stand last.
            let seen = of_key.iter().rfind(|(_, count)| **count > 0).map(|((fires, escalates, row), _)| Seen {
                fires: *fires,
                escalates: *escalates,
                row: row.clone(),
                project_id: None,
            });
            if of_key.is_empty() {
                rows.remove(&key);
            }
            alerts.observe(time, &key, seen, &mut recorded);
        }
    }
    alerts.pass(last + 1, &mut recorded);
    Ok(recorded.transitions)
}

fn answer(transitions: &[Transition]) -> Result<RecordBatch, datafusion::arrow::error::ArrowError> {
    let text = |of: fn(&Transition) -> &str| -> ArrayRef { Arc::new(transitions.iter().map(|t| Some(of(t))).collect::<StringArray>()) };
    let time = |of: fn(&Transition) -> u64| -> ArrayRef { Arc::new(TimestampMillisecondArray::from_iter_values(transitions.iter().map(|t| of(t) as i64))) };
    let columns: Vec<ArrayRef> =
        vec![time(|t| t.fired_ms), time(|t| t.event_time_ms), text(|t| t.kind.as_str()), text(|t| &t.severity), text(|t| &t.key), text(|t| &t.row)];
    RecordBatch::try_new(Arc::clone(&BACKTEST), columns)
}
