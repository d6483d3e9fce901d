//! Planning and running statements within bounds.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use datafusion::arrow::array::RecordBatch;
use datafusion::arrow::datatypes::{DataType, Schema, SchemaRef};
use datafusion::common::{ParamValues, ScalarValue};
use datafusion::execution::SessionState;
use datafusion::execution::context::SQLOptions;
use datafusion::execution::disk_manager::{DiskManagerBuilder, DiskManagerMode};
use datafusion::execution::memory_pool::MemoryPool;
use datafusion::execution::runtime_env::{RuntimeEnv, RuntimeEnvBuilder};
use datafusion::logical_expr::LogicalPlan;
use futures::StreamExt;
use futures::stream::BoxStream;
use tokio::runtime::{Builder, Runtime};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use weir_dataflow::snapshot::Snapshots;

pub use crate::error::{Busy, QueryError};
use crate::memory::{QueryMemory, SharedMemory};
use crate::running::{Bounds, Place, QueryId, RunningQueries};
use crate::scope::Scope;
use crate::session::Sessions;
use crate::statement::{self, Command, Statement};
pub use crate::stream::QueryStream;
use crate::stream::Task;
use crate::subscription::{self, CompiledQuery, Control, Planner, Refusal, SubscriptionControl};
use crate::tables::{CATALOG, SCHEMA};
use crate::{telemetry, views, wire};

/// The bounds of queries. The settings are those of the section `query`.
#[derive(Debug, Clone)]
pub struct EngineOptions {
    /// Memory of all queries together (`max_bytes`).
    pub memory_bytes_max: usize,
    /// Memory of one query (`max_bytes_per_query`); operators that can spill to disk do at its end.
    pub query_memory_bytes_max: usize,
    /// Disk space of all that is spilled (`max_spill_bytes`).
    pub spill_bytes_max: u64,
    /// How long a query may run, the time included that its client takes to read (`max_time`).
    pub query_time_max: Duration,
    /// How many rows a query may return (`max_rows`).
    pub rows_max: usize,
    /// How many queries may run at a time (`max_concurrent`).
    pub concurrent_queries_max: usize,
    /// How many of one organisation (`max_concurrent_per_org`).
    pub organisation_queries_max: usize,
    /// How many with one token (`max_concurrent_per_token`).
    pub token_queries_max: usize,
    /// How long a query waits for its turn before it is refused (`max_wait`).
    pub wait_max: Duration,
    /// In how many parts a query is run side by side, and how many threads queries have.
    pub parts: usize,
    /// Where queries that outgrow their memory write. What is in it is removed at the start.
    pub spill: PathBuf,
}

impl Default for EngineOptions {
    fn default() -> Self {
        Self {
            memory_bytes_max: 512 << 20,
            query_memory_bytes_max: 256 << 20,
            spill_bytes_max: 10 << 30,
            query_time_max: Duration::from_secs(60),
            rows_max: 1_000_000,
            concurrent_queries_max: 16,
            organisation_queries_max: 16,
            token_queries_max: 8,
            wait_max: Duration::from_secs(5),
            parts: std::thread::available_parallelism().map_or(2, usize::from),
            spill: std::env::temp_dir().join("weir-spill"),
        }
    }
}

/// The memory that footers of files are kept in.
const FOOTER_BYTES_MAX: usize = 64 << 20;

/// Streams of live rows at a time. They have no end of their own, so they have no place among the queries that run.
const LIVE_STREAMS_MAX: usize = 1024;

/// Answers queries. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Engine(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    snapshots: Snapshots,
    options: EngineOptions,
    runtime: RuntimeEnv,
    memory: Arc<SharedMemory>,
    sessions: Sessions,
    running: RunningQueries,
    threads: Threads,
    subscriptions: Control,
    planner: Planner,
    live_streams: Arc<Semaphore>,
}

/// The threads of queries. Given up in the background: an engine may be dropped where waiting is not allowed.
#[derive(Debug)]
struct Threads(Option<Runtime>);

impl Threads {
    fn handle(&self) -> &tokio::runtime::Handle {
        self.0.as_ref().expect("there until it is dropped").handle()
    }
}

impl Drop for Threads {
    fn drop(&mut self) {
        if let Some(runtime) = self.0.take() {
            runtime.shutdown_background();
        }
    }
}

/// A statement that is planned over one snapshot.
pub struct Planned {
    sql: String,
    scope: Scope,
    what: What,
}

enum What {
    Rows { state: Box<SessionState>, plan: LogicalPlan },
    Command(Command),
    Subscription { command: subscription::Command, schema: SchemaRef },
}

impl Engine {
    /// An engine over the graph's snapshots.
    ///
    /// # Errors
    /// Where the folder of spilled rows cannot be emptied, or threads cannot be started.
    pub fn new(snapshots: Snapshots, options: EngineOptions) -> std::io::Result<Self> {
        match std::fs::remove_dir_all(&options.spill) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error),
            _ => std::fs::create_dir_all(&options.spill)?,
        }
        let disk = DiskManagerBuilder::default()
            .with_mode(DiskManagerMode::Directories(vec![options.spill.clone()]))
            .with_max_temp_directory_size(options.spill_bytes_max);
        let runtime =
            RuntimeEnvBuilder::new().with_disk_manager_builder(disk).with_metadata_cache_limit(FOOTER_BYTES_MAX).build().map_err(std::io::Error::other)?;
        let threads = Builder::new_multi_thread()
            .worker_threads(options.parts)
            .thread_name("query")
            .thread_stack_size(statement::PLANNING_STACK_BYTES)
            .enable_all()
            .build()?;
        let running = RunningQueries::new(Bounds {
            server_max: options.concurrent_queries_max,
            organisation_max: options.organisation_queries_max,
            token_max: options.token_queries_max,
            wait_max: options.wait_max,
        });
        let memory = SharedMemory::new(options.memory_bytes_max);
        let subscriptions = Control::default();
        let (sessions, threads) = (Sessions::new(&options, &runtime, subscriptions.clone()), Threads(Some(threads)));
        let planner = Planner::new(sessions.template().clone()).map_err(std::io::Error::other)?;
        Ok(Self(Arc::new(Inner {
            snapshots,
            options,
            runtime,
            memory,
            sessions,
            running,
            threads,
            subscriptions,
            planner,
            live_streams: Arc::new(Semaphore::new(LIVE_STREAMS_MAX)),
        })))
    }

    /// Gives the engine what keeps subscriptions; once, before statements are answered. Without it they are refused.
    pub fn set_subscriptions(&self, control: Arc<dyn SubscriptionControl>) {
        self.0.subscriptions.set(control);
    }

    /// Compiles the query of a subscription for whoever may read `scope`.
    ///
    /// # Errors
    /// Where it cannot be kept up to date.
    pub fn compile(&self, scope: &Scope, query: &str, options: &weir_protocol::subscription::SubscriptionOptions) -> Result<CompiledQuery, Refusal> {
        subscription::compile(&self.0.planner, scope, query, options)
    }

    /// A stream of rows that are there.
    pub(crate) fn stream_of(&self, schema: SchemaRef, batch: RecordBatch) -> QueryStream {
        self.streamed(schema, futures::stream::iter([Ok(batch)]).boxed())
    }

    /// A stream of rows that come.
    pub(crate) fn streamed(&self, schema: SchemaRef, batches: BoxStream<'static, Result<RecordBatch, QueryError>>) -> QueryStream {
        QueryStream::of(schema, batches, self.0.threads.handle())
    }

    /// What keeps subscriptions.
    pub(crate) fn subscriptions(&self) -> &Control {
        &self.0.subscriptions
    }

    /// What plans their queries.
    pub(crate) fn planner(&self) -> &Planner {
        &self.0.planner
    }

    /// Plans a statement over the newest snapshot.
    pub async fn plan(&self, scope: &Scope, sql: &str) -> Result<Planned, QueryError> {
        let what = match statement::parse(sql)? {
            Statement::Command(command) => What::Command(command),
            Statement::Subscription(command) => {
                let schema = wire::schema(command.schema(scope, &self.0.subscriptions)?.as_ref());
                What::Subscription { command: *command, schema }
            }
            Statement::Show(show) => {
                let state = Box::new(self.session(scope).await?);
                let plan = show.plan(&state, &self.0.running.of(scope))?;
                What::Rows { state, plan }
            }
            Statement::Query(query) => {
                let state = Box::new(self.session(scope).await?);
                let plan = state.statement_to_plan(*query).await?;
                SQLOptions::new().with_allow_ddl(false).with_allow_dml(false).with_allow_statements(false).verify_plan(&plan)?;
                if scope.projects.is_some() && matches!(plan, LogicalPlan::Analyze(_)) {
                    return Err(QueryError::Invalid(
                        "EXPLAIN ANALYZE counts rows of all projects, so it takes a token of all projects: ask EXPLAIN".to_owned(),
                    ));
                }
                What::Rows { state, plan }
            }
        };
        Ok(Planned { sql: sql.to_owned(), scope: scope.clone(), what })
    }

    pub(crate) async fn session(&self, scope: &Scope) -> Result<SessionState, QueryError> {
        Ok(self.0.sessions.bound(scope, self.0.snapshots.latest()).await?)
    }

    /// Plans a statement and runs it.
    pub async fn query(&self, scope: &Scope, sql: &str) -> Result<QueryStream, QueryError> {
        let planned = self.plan(scope, sql).await?;
        self.run(planned, QueryId::default()).await
    }

    /// Runs a plan; the id is the one that its client may cancel it by.
    pub(crate) async fn run(&self, planned: Planned, id: QueryId) -> Result<QueryStream, QueryError> {
        let inner = &self.0;
        let schema = planned.schema();
        let (state, plan) = match planned.what {
            What::Rows { state, plan } => (state, plan),
            What::Command(command) => {
                self.execute(&planned.scope, &command)?;
                return Ok(QueryStream::empty(schema));
            }
            What::Subscription { command, .. } => return self.run_subscription(&planned.scope, command, schema, (id, &planned.sql)).await,
        };
        let (place, runtime) = self.begin(&planned.scope, id, &planned.sql).await?;
        let task = Task { state: *state, plan, schema, runtime, place, time_max: inner.options.query_time_max, rows_max: inner.options.rows_max };
        Ok(QueryStream::start(task, inner.threads.handle()))
    }

    /// A place among the queries that run, and a runtime with the memory that is its own.
    pub(crate) async fn begin(&self, scope: &Scope, id: QueryId, sql: &str) -> Result<(Place, Arc<RuntimeEnv>), QueryError> {
        let inner = &self.0;
        let memory: Arc<dyn MemoryPool> = Arc::new(QueryMemory::new(inner.options.query_memory_bytes_max, &inner.memory));
        let place = inner.running.begin(scope, id, sql, Arc::clone(&memory)).await;
        let place = place.inspect_err(|error| metrics::counter!(telemetry::QUERIES, "result" => error.kind()).increment(1))?;
        Ok((place, Arc::new(RuntimeEnv { memory_pool: memory, ..inner.runtime.clone() })))
    }

    /// The threads of queries.
    pub(crate) fn threads(&self) -> &tokio::runtime::Handle {
        self.0.threads.handle()
    }

    /// The right to one more stream without an end.
    pub(crate) fn live_stream(&self) -> Result<OwnedSemaphorePermit, QueryError> {
        Arc::clone(&self.0.live_streams).try_acquire_owned().map_err(|_| QueryError::Busy(Busy::Live(LIVE_STREAMS_MAX)))
    }

    /// Runs a statement that has an effect; returns how many things it changed.
    pub(crate) async fn update(&self, planned: Planned) -> Result<u64, QueryError> {
        match planned.what {
            What::Command(command) => self.execute(&planned.scope, &command),
            What::Subscription { command, schema } if !command.returns_rows() => {
                self.run_subscription(&planned.scope, command, schema, (QueryId::default(), &planned.sql)).await?;
                // Subscriptions are no rows: a change of them changes none.
                Ok(0)
            }
            _ => Err(QueryError::Invalid("this statement returns rows: ask it as a query".to_owned())),
        }
    }

    /// Does what a command says; returns how many things it changed.
    fn execute(&self, scope: &Scope, command: &Command) -> Result<u64, QueryError> {
        match command {
            Command::KillQuery(number) if self.0.running.kill(scope, *number) => Ok(1),
            Command::KillQuery(number) => Err(QueryError::Invalid(format!("no query {number} runs that this token may stop: SHOW QUERIES lists them"))),
        }
    }

    /// Stops the query of an id; says whether it was running. One that has not begun will not.
    pub(crate) fn cancel(&self, scope: &Scope, id: QueryId) -> bool {
        self.0.running.cancel(scope, id)
    }

    /// The tables and views of a caller with their schemas, for metadata calls.
    pub(crate) async fn tables(&self, scope: &Scope) -> Result<Vec<(String, &'static str, SchemaRef)>, QueryError> {
        let state = self.session(scope).await?;
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

    /// How long a query may run.
    pub(crate) fn query_time_max(&self) -> Duration {
        self.0.options.query_time_max
    }

    /// The queries that run and that a caller may know of.
    #[cfg(test)]
    pub(crate) fn running(&self, scope: &Scope) -> Vec<Arc<crate::running::RunningQuery>> {
        self.0.running.of(scope)
    }

    /// What queries take at present of the memory that is theirs.
    pub fn memory_bytes(&self) -> usize {
        self.0.memory.reserved()
    }

    /// What queries take at present of the disk.
    pub fn spill_bytes(&self) -> u64 {
        self.0.runtime.disk_manager.used_disk_space()
    }

    /// Sets the gauges of queries to what holds now.
    pub fn observe(&self) {
        self.0.running.observe();
        metrics::gauge!(telemetry::MEMORY_BYTES).set(self.memory_bytes() as f64);
        metrics::gauge!(telemetry::SPILL_BYTES).set(self.spill_bytes() as f64);
    }
}

impl Planned {
    /// The schema of the result; of a command, that of no columns.
    pub fn schema(&self) -> SchemaRef {
        match &self.what {
            What::Rows { plan, .. } => wire::schema(plan.schema().as_arrow()),
            What::Command(_) => Arc::new(Schema::empty()),
            What::Subscription { schema, .. } => Arc::clone(schema),
        }
    }

    /// Whether its rows come for as long as somebody reads them.
    pub(crate) fn is_endless(&self) -> bool {
        matches!(&self.what, What::Subscription { command: subscription::Command::Subscribe { .. }, .. })
    }

    /// The types of the parameters `$1`, `$2` … in their order; text where the statement does not say.
    pub fn parameters(&self) -> Result<Vec<DataType>, QueryError> {
        let What::Rows { plan, .. } = &self.what else { return Ok(Vec::new()) };
        let number =
            |name: &str| name.trim_start_matches('$').parse().map_err(|_| QueryError::Invalid(format!("the parameter {name} has no number: write $1, $2 …")));
        let types = plan.get_parameter_types()?.into_iter();
        let mut numbered: Vec<(usize, DataType)> =
            types.map(|(name, data_type)| Ok((number(&name)?, data_type.unwrap_or(DataType::Utf8)))).collect::<Result<_, QueryError>>()?;
        numbered.sort_by_key(|(number, _)| *number);
        Ok(numbered.into_iter().map(|(_, data_type)| data_type).collect())
    }

    /// The same with values for its parameters.
    pub fn with_parameters(mut self, values: Vec<ScalarValue>) -> Result<Self, QueryError> {
        match &mut self.what {
            What::Rows { plan, .. } if !values.is_empty() => *plan = plan.clone().with_param_values(ParamValues::from(values))?,
            _ => {}
        }
        Ok(self)
    }
}
