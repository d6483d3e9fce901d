//! Planning and running statements within bounds.

use std::path::PathBuf;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use datafusion::arrow::array::RecordBatch;
use datafusion::arrow::datatypes::{DataType, SchemaRef};
use datafusion::catalog::{CatalogProviderList, MemoryCatalogProviderList, TableProvider};
use datafusion::common::{ParamValues, ScalarValue};
use datafusion::error::DataFusionError;
use datafusion::execution::context::SQLOptions;
use datafusion::execution::disk_manager::{DiskManagerBuilder, DiskManagerMode};
use datafusion::execution::memory_pool::FairSpillPool;
use datafusion::execution::runtime_env::{RuntimeEnv, RuntimeEnvBuilder};
use datafusion::execution::{SendableRecordBatchStream, SessionState, SessionStateBuilder};
use datafusion::logical_expr::LogicalPlan;
use datafusion::physical_plan::execute_stream;
use datafusion::prelude::SessionConfig;
use futures::{Stream, StreamExt};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::Sleep;
use weir_dataflow::snapshot::{Snapshot, Snapshots};

use crate::hex_id::CompareBytes;
use crate::scope::Scope;
use crate::statement::{self, StatementError};
use crate::tables::{CATALOG, Catalog, PlannedTable, SCHEMA, Tables, scoped};
use crate::{telemetry, views, wire};

/// The bounds of queries.
#[derive(Debug, Clone)]
pub struct EngineOptions {
    /// Memory of all queries together; those that can spill to disk do.
    pub memory_bytes_max: usize,
    /// How long a query may run.
    pub query_time_max: Duration,
    /// How many rows a query may return.
    pub rows_max: usize,
    /// How many queries may run at a time.
    pub concurrent_queries_max: usize,
    /// In how many parts a query is run side by side.
    pub parts: usize,
    /// Where queries that outgrow their memory write.
    pub spill: PathBuf,
}

impl Default for EngineOptions {
    fn default() -> Self {
        Self {
            memory_bytes_max: 512 << 20,
            query_time_max: Duration::from_secs(60),
            rows_max: 1_000_000,
            concurrent_queries_max: 16,
            parts: 2,
            spill: std::env::temp_dir(),
        }
    }
}

/// Why a query has no answer, or no whole one.
#[derive(Debug, thiserror::Error)]
pub enum QueryError {
    /// It is not answered at all.
    #[error(transparent)]
    Statement(#[from] StatementError),
    /// It does not fit the tables, or fails on their values.
    #[error("{0}")]
    Invalid(String),
    /// It needs more memory than there is for queries.
    #[error("the query needs more memory than query.max_bytes leaves it: {0}")]
    Memory(String),
    /// It ran too long.
    #[error("the query ran longer than {} s (query.max_time): ask for less, for instance a shorter range of received", .0.as_secs())]
    Time(Duration),
    /// It returned too much.
    #[error("the query returns more than {0} rows (query.max_rows): add a LIMIT, or aggregate")]
    Rows(usize),
    /// Too many run.
    #[error("{0} queries are running, and no more may at a time (query.max_concurrent): try again in a moment")]
    Busy(usize),
    /// Weir's own failure.
    #[error("the query failed inside weir: {0}")]
    Internal(String),
}

impl From<DataFusionError> for QueryError {
    fn from(error: DataFusionError) -> Self {
        let text = one_line(&error.strip_backtrace());
        match error.find_root() {
            DataFusionError::ResourcesExhausted(_) => Self::Memory(text),
            DataFusionError::Internal(_) | DataFusionError::IoError(_) | DataFusionError::ObjectStore(_) | DataFusionError::ParquetError(_) => {
                Self::Internal(text)
            }
            _ => Self::Invalid(text),
        }
    }
}

/// Error texts go into one line; the chains of kinds before the cause say nothing to who asked.
fn one_line(text: &str) -> String {
    let mut text = text.split_whitespace().collect::<Vec<_>>().join(" ");
    for noise in ["External error: ", "Arrow error: ", "Error during planning: ", "This feature is not implemented: ", "Schema error: ", "Execution error: "] {
        text = text.replace(noise, "");
    }
    text
}

/// Answers queries. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Engine {
    snapshots: Snapshots,
    options: Arc<EngineOptions>,
    runtime: Arc<RuntimeEnv>,
    template: SessionState,
    running: Arc<Semaphore>,
}

/// A query that is planned over one snapshot.
pub struct Planned {
    state: SessionState,
    plan: LogicalPlan,
}

impl Engine {
    /// An engine over the graph's snapshots.
    ///
    /// # Panics
    /// Where the runtime's bounds contradict each other, which no setting can make them do.
    pub fn new(snapshots: Snapshots, options: EngineOptions) -> Self {
        let disk = DiskManagerBuilder::default().with_mode(DiskManagerMode::Directories(vec![options.spill.clone()]));
        let runtime = RuntimeEnvBuilder::new()
            .with_memory_pool(Arc::new(FairSpillPool::new(options.memory_bytes_max)))
            .with_disk_manager_builder(disk)
            .build_arc()
            .expect("memory and spill folder are independent of each other");
        let template = SessionStateBuilder::new()
            .with_config(session_config(&options))
            .with_runtime_env(Arc::clone(&runtime))
            .with_default_features()
            .with_optimizer_rule(Arc::new(CompareBytes))
            .build();
        let running = Arc::new(Semaphore::new(options.concurrent_queries_max));
        Self { snapshots, options: Arc::new(options), runtime, template, running }
    }

    /// Plans a statement over the newest snapshot.
    pub async fn plan(&self, scope: &Scope, sql: &str) -> Result<Planned, QueryError> {
        let statement = statement::parse(sql)?;
        let state = self.session(&self.snapshots.latest(), scope).await?;
        let plan = state.statement_to_plan(statement).await?;
        SQLOptions::new().with_allow_ddl(false).with_allow_dml(false).with_allow_statements(false).verify_plan(&plan)?;
        Ok(Planned { state, plan })
    }

    /// Plans a statement and runs it.
    pub async fn query(&self, scope: &Scope, sql: &str) -> Result<QueryStream, QueryError> {
        let planned = self.plan(scope, sql).await?;
        self.run(planned).await
    }

    /// Runs a plan.
    pub async fn run(&self, planned: Planned) -> Result<QueryStream, QueryError> {
        let held = Arc::clone(&self.running).try_acquire_owned().map_err(|_| QueryError::Busy(self.options.concurrent_queries_max))?;
        let started = Instant::now();
        let deadline = Box::pin(tokio::time::sleep(self.options.query_time_max));
        let schema = planned.schema();
        let physical = tokio::time::timeout(self.options.query_time_max, planned.state.create_physical_plan(&planned.plan))
            .await
            .map_err(|_| QueryError::Time(self.options.query_time_max))??;
        let inner = execute_stream(physical, planned.state.task_ctx())?;
        metrics::gauge!(telemetry::RUNNING).increment(1.0);
        let _tables = Arc::clone(planned.state.catalog_list());
        Ok(QueryStream { schema, inner, rows: 0, deadline, options: Arc::clone(&self.options), started, failed: false, _held: held, _tables })
    }

    /// A session over a snapshot with the caller's tables. `now()` is the snapshot's tick.
    async fn session(&self, snapshot: &Snapshot, scope: &Scope) -> Result<SessionState, QueryError> {
        // A list of catalogs of its own: a clone of the template would share the template's with every other caller.
        let catalogs = Arc::new(MemoryCatalogProviderList::new());
        let mut state = SessionStateBuilder::new_from_existing(self.template.clone()).with_catalog_list(catalogs).build();
        let now = chrono::DateTime::from_timestamp_millis(snapshot.tick_ms as i64).unwrap_or_default();
        state.execution_props_mut().query_execution_start_time = Some(now);
        let mut tables = scoped(snapshot, scope)?;
        register(&state, &tables);
        for (name, sql) in views::VIEWS {
            let plan = state.create_logical_plan(sql).await?;
            let view: Arc<dyn TableProvider> = Arc::new(PlannedTable::view(plan));
            tables.insert((*name).to_owned(), view);
            register(&state, &tables);
        }
        Ok(state)
    }

    /// The tables and views of a caller with their schemas, for metadata calls.
    pub(crate) async fn tables(&self, scope: &Scope) -> Result<Vec<(String, &'static str, SchemaRef)>, QueryError> {
        let state = self.session(&self.snapshots.latest(), scope).await?;
        let catalog = state.catalog_list().catalog(CATALOG).and_then(|c| c.schema(SCHEMA));
        let Some(tables) = catalog else { return Ok(Vec::new()) };
        let mut found = Vec::new();
        for name in tables.table_names() {
            if let Some(table) = tables.table(&name).await? {
                let kind = if views::VIEWS.iter().any(|(view, _)| *view == name) { "VIEW" } else { "TABLE" };
                found.push((name, kind, wire::schema(&table.schema())));
            }
        }
        Ok(found)
    }

    /// What queries take at present of the memory that is theirs.
    pub fn memory_bytes(&self) -> usize {
        self.runtime.memory_pool.reserved()
    }
}

fn register(state: &SessionState, tables: &std::collections::BTreeMap<String, Arc<dyn TableProvider>>) {
    state.catalog_list().register_catalog(CATALOG.to_owned(), Arc::new(Catalog(Arc::new(Tables::new(tables.clone())))));
}

fn session_config(options: &EngineOptions) -> SessionConfig {
    let mut config = SessionConfig::new()
        .with_default_catalog_and_schema(CATALOG, SCHEMA)
        .with_create_default_catalog_and_schema(false)
        .with_information_schema(true)
        .with_target_partitions(options.parts);
    let settings = config.options_mut();
    // What clients can read decides: plain text, no views.
    settings.sql_parser.map_string_types_to_utf8view = false;
    settings.execution.parquet.schema_force_view_types = false;
    // Rows are chosen inside the files, with bloom filters, statistics of row groups and of pages.
    settings.execution.parquet.pushdown_filters = true;
    settings.execution.parquet.reorder_filters = true;
    settings.execution.parquet.bloom_filter_on_read = true;
    settings.execution.parquet.enable_page_index = true;
    // Taking `attrs['key']` apart from the row below a projection of all columns breaks the plan's own check in DataFusion 55.2.
    settings.optimizer.enable_leaf_expression_pushdown = false;
    settings.execution.time_zone = Some("+00:00".to_owned());
    config
}

impl Planned {
    /// The schema of the result.
    pub fn schema(&self) -> SchemaRef {
        wire::schema(self.plan.schema().as_arrow())
    }

    /// The types of the parameters `$1`, `$2` … in their order; text where the statement does not say.
    pub fn parameters(&self) -> Result<Vec<DataType>, QueryError> {
        let number =
            |name: &str| name.trim_start_matches('$').parse().map_err(|_| QueryError::Invalid(format!("the parameter {name} has no number: write $1, $2 …")));
        let types = self.plan.get_parameter_types()?.into_iter();
        let mut numbered: Vec<(usize, DataType)> =
            types.map(|(name, data_type)| Ok((number(&name)?, data_type.unwrap_or(DataType::Utf8)))).collect::<Result<_, QueryError>>()?;
        numbered.sort_by_key(|(number, _)| *number);
        Ok(numbered.into_iter().map(|(_, data_type)| data_type).collect())
    }

    /// The same with values for its parameters.
    pub fn with_parameters(self, values: Vec<ScalarValue>) -> Result<Self, QueryError> {
        if values.is_empty() {
            return Ok(self);
        }
        let plan = self.plan.with_param_values(ParamValues::from(values))?;
        Ok(Self { state: self.state, plan })
    }
}

/// The rows of a query as they come, within its bounds. Dropping it ends the query.
pub struct QueryStream {
    schema: SchemaRef,
    inner: SendableRecordBatchStream,
    rows: usize,
    deadline: Pin<Box<Sleep>>,
    options: Arc<EngineOptions>,
    started: Instant,
    failed: bool,
    _held: OwnedSemaphorePermit,
    /// Holds the snapshot: a file that it names is not removed before the query ends.
    _tables: Arc<dyn CatalogProviderList>,
}

impl QueryStream {
    /// The schema of the rows.
    pub fn schema(&self) -> SchemaRef {
        Arc::clone(&self.schema)
    }

    fn bounded(&mut self, batch: Result<RecordBatch, DataFusionError>) -> Result<RecordBatch, QueryError> {
        let batch = batch?;
        self.rows += batch.num_rows();
        if self.rows > self.options.rows_max {
            return Err(QueryError::Rows(self.options.rows_max));
        }
        wire::batch(&batch, &self.schema).map_err(|e| QueryError::Internal(e.to_string()))
    }
}

impl Stream for QueryStream {
    type Item = Result<RecordBatch, QueryError>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        if self.failed {
            return Poll::Ready(None);
        }
        if self.deadline.as_mut().poll(cx).is_ready() {
            self.failed = true;
            return Poll::Ready(Some(Err(QueryError::Time(self.options.query_time_max))));
        }
        let polled = std::task::ready!(self.inner.poll_next_unpin(cx));
        let taken = polled.map(|batch| self.bounded(batch));
        self.failed = matches!(taken, Some(Err(_)));
        Poll::Ready(taken)
    }
}

impl Drop for QueryStream {
    fn drop(&mut self) {
        metrics::gauge!(telemetry::RUNNING).decrement(1.0);
        metrics::counter!(telemetry::QUERIES, "result" => if self.failed { "failed" } else { "ok" }).increment(1);
        metrics::histogram!(telemetry::SECONDS).record(self.started.elapsed().as_secs_f64());
        metrics::counter!(telemetry::ROWS).increment(self.rows as u64);
    }
}
