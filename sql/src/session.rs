//! Sessions: what a caller's statements are planned with. One is made for each scope and kept; each statement has a copy
//! that is bound to the newest snapshot.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};

use datafusion::catalog::{MemoryCatalogProviderList, TableProvider};
use datafusion::common::{Result, internal_datafusion_err};
use datafusion::execution::runtime_env::RuntimeEnv;
use datafusion::execution::{SessionState, SessionStateBuilder};
use datafusion::optimizer::Analyzer;
use datafusion::prelude::SessionConfig;
use weir_dataflow::reach::Reach;
use weir_dataflow::snapshot::Snapshot;

use crate::engine::EngineOptions;
use crate::functions::{self, WriteOut};
use crate::hex_id::CompareBytes;
use crate::scope::Scope;
use crate::subscription::{AlertsTable, Control, DeliveriesTable, SubscriptionFunction};
use crate::tables::{CATALOG, Catalog, PlannedTable, SCHEMA, Tables, scoped};
use crate::views;

/// The snapshot that a statement reads, in its session's configuration.
#[derive(Debug)]
pub(crate) struct Pinned(pub(crate) Arc<Snapshot>);

/// The snapshot of a session.
pub(crate) fn pinned(config: &SessionConfig) -> Result<Arc<Snapshot>> {
    let pinned = config.get_extension::<Pinned>().ok_or_else(|| internal_datafusion_err!("the session has no snapshot"))?;
    Ok(Arc::clone(&pinned.0))
}

/// What callers may read, as a key.
type ScopeKey = (u64, Option<BTreeSet<u64>>);

/// Sessions kept; past it all are made anew, which takes a millisecond each.
const SESSIONS_MAX: usize = 1000;

/// Makes and keeps sessions.
#[derive(Debug)]
pub(crate) struct Sessions {
    template: SessionState,
    subscriptions: Control,
    kept: Mutex<BTreeMap<ScopeKey, SessionState>>,
}

impl Sessions {
    pub(crate) fn new(options: &EngineOptions, runtime: &RuntimeEnv, subscriptions: Control) -> Self {
        let mut template = SessionStateBuilder::new().with_config(session_config(options)).with_runtime_env(Arc::new(runtime.clone())).with_default_features();
        template.aggregate_functions().get_or_insert_default().extend(functions::aggregates());
        let scalars = template.scalar_functions().get_or_insert_default();
        scalars.extend(functions::scalars(scalars));
        let mut analyzer = Analyzer::new().rules;
        analyzer.insert(0, Arc::new(WriteOut));
        let template = template.with_analyzer_rules(analyzer).with_optimizer_rule(Arc::new(CompareBytes)).build();
        Self { template, subscriptions, kept: Mutex::default() }
    }

    /// The functions and the settings, without tables.
    pub(crate) fn template(&self) -> &SessionState {
        &self.template
    }

    /// A session over a snapshot with the caller's tables. `now()` is the snapshot's tick.
    pub(crate) async fn bound(&self, scope: &Scope, snapshot: Arc<Snapshot>) -> Result<SessionState> {
        // Deletions that files still have to follow are rare and soon done: such a session is made for its statement alone.
        let mut state = if snapshot.deletions.is_empty() { self.of(scope).await? } else { self.made(scope, &snapshot.deletions).await? };
        let now = chrono::DateTime::from_timestamp_millis(snapshot.tick_ms as i64).unwrap_or_default();
        state.execution_props_mut().query_execution_start_time = Some(now);
        state.config_mut().set_extension(Arc::new(Pinned(snapshot)));
        Ok(state)
    }

    /// The session of a scope, kept for the next caller.
    async fn of(&self, scope: &Scope) -> Result<SessionState> {
        let key = (scope.org_id, scope.projects.clone());
        let kept = || self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(state) = kept().get(&key) {
            return Ok(state.clone());
        }
        let made = self.made(scope, &[]).await?;
        let mut kept = kept();
        if kept.len() >= SESSIONS_MAX {
            kept.clear();
        }
        kept.insert(key, made.clone());
        Ok(made)
    }

    async fn made(&self, scope: &Scope, deletions: &[Arc<Reach>]) -> Result<SessionState> {
        // A list of catalogs of its own: a clone of the template would share the template's with every other caller.
        let catalogs = Arc::new(MemoryCatalogProviderList::new());
        let mut state = SessionStateBuilder::new_from_existing(self.template.clone()).with_catalog_list(catalogs).build();
        // The physical plan shows what is stored for others beside the caller: files, and how many rows they have.
        state.config_mut().options_mut().explain.logical_plan_only = scope.projects.is_some();
        state.register_udtf(SubscriptionFunction::NAME, Arc::new(SubscriptionFunction::new(scope.clone(), self.subscriptions.clone())));
        let mut tables = scoped(scope, deletions)?;
        tables.insert(AlertsTable::NAME.to_owned(), Arc::new(AlertsTable::new(scope.clone(), self.subscriptions.clone())));
        tables.insert(DeliveriesTable::NAME.to_owned(), Arc::new(DeliveriesTable::new(scope.clone(), self.subscriptions.clone())));
        register(&state, &tables);
        for (name, sql) in views::VIEWS {
            let plan = state.create_logical_plan(sql).await?;
            let view: Arc<dyn TableProvider> = Arc::new(PlannedTable::view(plan));
            tables.insert((*name).to_owned(), view);
            register(&state, &tables);
        }
        Ok(state)
    }
}

fn register(state: &SessionState, tables: &BTreeMap<String, Arc<dyn TableProvider>>) {
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
