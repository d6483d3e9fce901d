//! Running the statements about subscriptions.

use std::sync::{Arc, LazyLock};

use datafusion::arrow::array::{ArrayRef, BooleanArray, Int64Array, RecordBatch, StringArray, TimestampMillisecondArray};
use datafusion::arrow::compute::concat_batches;
use datafusion::arrow::datatypes::{DataType, Field, Schema, SchemaRef, TimeUnit};
use futures::StreamExt;
use weir_protocol::notify::redacted_target;
use weir_protocol::subscription::Subscription;

use super::backtest::Backtest;
use super::compile::{CompiledQuery, compile, values_text};
use super::control::{Control, LiveChanges, NewSubscription, SubscriptionControl, may_read};
use super::options::Setting;
use super::syntax::{Command, Query};
use crate::engine::Engine;
use crate::error::QueryError;
use crate::running::QueryId;
use crate::scope::Scope;
use crate::statement::StatementError;
use crate::stream::QueryStream;

/// The severity where none is given.
const SEVERITY_DEFAULT: &str = "error";

impl Command {
    /// Whether it answers with rows; the others act and answer with none.
    pub(crate) fn returns_rows(&self) -> bool {
        !matches!(self, Self::Create { .. } | Self::Alter { .. } | Self::Drop { .. })
    }

    /// The columns of its answer.
    pub(crate) fn schema(&self, scope: &Scope, control: &Control) -> Result<SchemaRef, QueryError> {
        Ok(match self {
            Self::Create { .. } | Self::Alter { .. } | Self::Drop { .. } => Arc::new(Schema::empty()),
            Self::Show => Arc::clone(&SHOW),
            Self::Explain { .. } => Arc::clone(&EXPLAIN),
            Self::Backtest { .. } => Arc::clone(&BACKTEST),
            Self::Subscribe { name } => {
                let found = control.find(scope, name)?;
                let rows = control.get()?.rows(found.id).ok_or_else(|| QueryError::Invalid(format!("the subscription {name} has no rows to show yet")))?;
                changes_schema(&rows.schema)
            }
        })
    }
}

static SHOW: LazyLock<SchemaRef> = LazyLock::new(|| {
    let text = |name: &str, nullable| Field::new(name, DataType::Utf8, nullable);
    Arc::new(Schema::new(vec![
        text("name", false),
        text("state", false),
        text("severity", false),
        Field::new("rows", DataType::Int64, false),
        text("notify", false),
        text("query", false),
        text("error", true),
        text("created_by", false),
        Field::new("created", DataType::Timestamp(TimeUnit::Millisecond, None), false),
    ]))
});

static EXPLAIN: LazyLock<SchemaRef> =
    LazyLock::new(|| Arc::new(Schema::new(vec![Field::new("item", DataType::Utf8, false), Field::new("detail", DataType::Utf8, false)])));

/// What a backtest answers with.
pub(super) static BACKTEST: LazyLock<SchemaRef> = LazyLock::new(|| {
    let text = |name: &str| Field::new(name, DataType::Utf8, false);
    let time = |name: &str| Field::new(name, DataType::Timestamp(TimeUnit::Millisecond, None), false);
    Arc::new(Schema::new(vec![time("fired_time"), time("event_time"), text("kind"), text("severity"), text("key"), text("row")]))
});

/// The columns of rows, behind the tick and the multiplicity of each.
fn changes_schema(rows: &Schema) -> SchemaRef {
    let first = [
        Field::new("_tick", DataType::Timestamp(TimeUnit::Millisecond, None), false),
        Field::new("_snapshot", DataType::Boolean, false),
        Field::new("_difference", DataType::Int64, false),
    ];
    Arc::new(Schema::new(first.into_iter().map(Arc::new).chain(rows.fields().iter().cloned()).collect::<Vec<_>>()))
}

impl Engine {
    /// Runs a statement about subscriptions; `run` is by what its client may cancel it, and its text.
    pub(crate) async fn run_subscription(&self, scope: &Scope, command: Command, schema: SchemaRef, run: (QueryId, &str)) -> Result<QueryStream, QueryError> {
        let control = self.subscriptions();
        match command {
            Command::Create { name, options, query } => {
                let compiled = self.compiled(scope, &query.in_place, &options)?;
                let new =
                    NewSubscription { name, query: query.sql, options, org_id: scope.org_id, projects: scope.projects.clone(), created_by: scope.name.clone() };
                control.get()?.create(new, compiled).await.map_err(QueryError::Invalid)?;
                Ok(QueryStream::empty(schema))
            }
            Command::Alter { name, settings, query } => {
                // Another change that came in between is changed in its turn.
                while !self.alter(scope, &name, settings.clone(), query.clone()).await? {}
                Ok(QueryStream::empty(schema))
            }
            Command::Drop { name, if_exists } => {
                match control.find(scope, &name) {
                    Ok(found) => control.get()?.remove(found.id).await.map_err(QueryError::Invalid)?,
                    Err(QueryError::Invalid(_)) if if_exists => {}
                    Err(error) => return Err(error),
                }
                Ok(QueryStream::empty(schema))
            }
            Command::Show => {
                let batch = shown(scope, control.get()?.as_ref())?;
                Ok(self.stream_of(schema, batch))
            }
            Command::Explain { name } => {
                let found = control.find(scope, &name)?;
                let batch = self.explained(&found)?;
                Ok(self.stream_of(schema, batch))
            }
            Command::Backtest { from_ms, to_ms, options, query } => {
                let compiled = self.compiled(scope, &query.in_place, &options)?;
                let running = self.begin(scope, run.0, run.1).await?;
                self.backtest(scope, Backtest { sql: query.sql, options, compiled, from_ms, to_ms }, running).await
            }
            Command::Subscribe { name } => {
                let found = control.find(scope, &name)?;
                let right = self.live_stream()?;
                let changes = control.get()?.watch(found.id).ok_or_else(|| QueryError::Invalid(format!("the subscription {name} does not run")))?;
                let wanted = Arc::clone(&schema);
                let batches = changes.map(move |change| {
                    // Given back when the stream ends.
                    let _ = &right;
                    change.map_err(QueryError::Invalid).and_then(|change| changed(&change, &wanted))
                });
                Ok(self.streamed(schema, batches.boxed()))
            }
        }
    }

    fn compiled(&self, scope: &Scope, sql: &str, options: &weir_protocol::subscription::SubscriptionOptions) -> Result<CompiledQuery, QueryError> {
        Ok(compile(self.planner(), scope, sql, options).map_err(StatementError::from)?)
    }

    /// Alters a subscription as it is now; false where it is another by the time of the change.
    async fn alter(&self, scope: &Scope, name: &str, settings: Vec<Setting>, query: Option<Query>) -> Result<bool, QueryError> {
        let found = self.subscriptions().find(scope, name)?;
        let changed = query.is_some() || settings.iter().any(Setting::changes_meaning);
        let mut options = found.options.clone();
        settings.into_iter().for_each(|setting| setting.apply(&mut options));
        // It reads what it read: what its creator could read then.
        let frozen = Scope { org_id: found.org_id, projects: found.projects.clone(), name: found.created_by.clone() };
        let in_place = query.as_ref().map_or(&found.query, |query| &query.in_place);
        let compiled = self.compiled(&frozen, in_place, &options)?;
        let query = query.map_or_else(|| found.query.clone(), |query| query.sql);
        self.subscriptions().get()?.alter(&found, query, options, changed, compiled).await.map_err(QueryError::Invalid)
    }

    fn explained(&self, subscription: &Subscription) -> Result<RecordBatch, QueryError> {
        let scope = Scope { org_id: subscription.org_id, projects: subscription.projects.clone(), name: subscription.created_by.clone() };
        let compiled = self.compiled(&scope, &subscription.query, &subscription.options)?;
        let plan = self.planner().plan(&subscription.query).map_err(StatementError::from)?;
        let control = self.subscriptions().get()?;
        let usage = control.usage(&compiled.shape).unwrap_or_default();
        let shared = match usage.subscriptions {
            0 | 1 => "with no other subscription".to_owned(),
            n => format!("with {} other subscriptions", n - 1),
        };
        let class = if compiled.template.parameter_keys > 0 {
            "shared by constants: a new subscription of this shape is one row of parameters"
        } else if !compiled.template.constants.fields().is_empty() {
            "shared by thresholds: a new subscription of this shape is one row of constants"
        } else {
            "shared by equal queries"
        };
        let nodes = compiled.text.lines().filter(|line| line.contains(" -> ")).count();
        let items = [
            ("query", subscription.query.clone()),
            ("plan", plan.display_indent().to_string()),
            ("template", format!("{}, shared {shared}", hex_of(&compiled.shape))),
            ("class", class.to_owned()),
            ("parameter key", values_text(&compiled.key)),
            ("constants", values_text(&compiled.constants)),
            ("maintained", compiled.text.to_string()),
            ("state", format!("{} groups, {} bytes, of all that share the template", usage.groups, usage.state_bytes)),
            (
                "cost an event",
                format!(
                    "{nodes} operators once for all that share the template, then one lookup a changed group for each of the subscriptions that it concerns"
                ),
            ),
        ];
        let items: Vec<(&str, String)> = items.into_iter().collect();
        let columns: Vec<ArrayRef> = vec![
            Arc::new(items.iter().map(|(item, _)| Some(*item)).collect::<StringArray>()),
            Arc::new(items.iter().map(|(_, detail)| Some(detail.as_str())).collect::<StringArray>()),
        ];
        RecordBatch::try_new(Arc::clone(&EXPLAIN), columns).map_err(|e| QueryError::Internal(e.to_string()))
    }
}

fn hex_of(shape: &[u8; 32]) -> String {
    shape.iter().take(8).map(|byte| format!("{byte:02x}")).collect()
}

fn shown(scope: &Scope, control: &dyn SubscriptionControl) -> Result<RecordBatch, QueryError> {
    let found: Vec<Arc<Subscription>> = control.subscriptions(scope.org_id).into_iter().filter(|found| may_read(scope, found)).collect();
    let states: Vec<_> = found.iter().map(|found| control.state(found.id)).collect();
    let text = |of: &dyn Fn(usize) -> Option<String>| -> ArrayRef { Arc::new((0..found.len()).map(of).collect::<StringArray>()) };
    let columns: Vec<ArrayRef> = vec![
        text(&|i| Some(found[i].name.clone())),
        text(&|i| Some(states[i].as_ref().map_or_else(|| "starting".to_owned(), |state| state.state.clone()))),
        text(&|i| Some(found[i].options.severity.clone().unwrap_or_else(|| SEVERITY_DEFAULT.to_owned()))),
        Arc::new(states.iter().map(|state| state.as_ref().map_or(0, |state| state.rows as i64)).collect::<Int64Array>()),
        text(&|i| Some(found[i].options.notify.iter().map(|target| redacted_target(target)).collect::<Vec<_>>().join(", "))),
        text(&|i| Some(found[i].query.clone())),
        text(&|i| states[i].as_ref().and_then(|state| state.error.clone())),
        text(&|i| Some(found[i].created_by.clone())),
        Arc::new(TimestampMillisecondArray::from_iter_values(found.iter().map(|found| found.created_ms as i64))),
    ];
    RecordBatch::try_new(Arc::clone(&SHOW), columns).map_err(|e| QueryError::Internal(e.to_string()))
}

/// Rows as they come and go, behind their tick and multiplicity.
fn changed(change: &LiveChanges, schema: &SchemaRef) -> Result<RecordBatch, QueryError> {
    let internal = |e: datafusion::arrow::error::ArrowError| QueryError::Internal(e.to_string());
    let rows = match change.batches.first() {
        Some(first) => concat_batches(&first.schema(), &change.batches).map_err(internal)?,
        None => return Ok(RecordBatch::new_empty(Arc::clone(schema))),
    };
    let count = rows.num_rows();
    let first: [ArrayRef; 3] = [
        Arc::new(TimestampMillisecondArray::from(vec![change.tick_ms as i64; count])),
        Arc::new(BooleanArray::from(vec![change.snapshot; count])),
        Arc::new(Int64Array::from(change.differences.clone().unwrap_or_else(|| vec![1; count]))),
    ];
    let columns: Vec<ArrayRef> = first.into_iter().chain(rows.columns().iter().cloned()).collect();
    // The columns were told before the first row; a subscription that was altered since then may have others.
    if columns.len() != schema.fields().len() {
        return Err(QueryError::Invalid("the subscription was altered and has other columns now: subscribe again".to_owned()));
    }
    crate::wire::batch_of(columns, schema).map_err(internal)
}
