//! Subscriptions: their definitions in the catalog, their rows in the graph, their compiler in the engine.

use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use async_trait::async_trait;
use futures::StreamExt;
use futures::stream::BoxStream;
use tokio::sync::OwnedRwLockWriteGuard;
use tokio::task::JoinHandle;
use weir_catalog::{AlertQuery, Catalog};
use weir_dataflow::Subscriptions;
use weir_dataflow::subscriptions::{Compiled, WatchEvent};
use weir_protocol::ids::OrgId;
use weir_protocol::subscription::{Subscription, SubscriptionId, SubscriptionOptions};
use weir_sql::subscription::{
    CompiledQuery, DeliveryRow, HistoryQuery, HistoryRow, LiveChanges, LiveRows, NewSubscription, Shape, SubscriptionControl, SubscriptionState, TemplateUsage,
};
use weir_sql::{Engine, Scope};

use super::now_ms;

/// Keeps subscriptions. The catalog makes them durable; the graph runs them; names are looked up here. Cheap to clone.
///
/// What changes them is a task of its own: a client that goes away in the middle of a statement leaves nothing half done.
#[derive(Debug, Clone)]
pub struct Keeper {
    catalog: Catalog,
    /// Those of the graph that runs, which may be another one after a while.
    running: Arc<RwLock<Subscriptions>>,
    /// Whether other processes have some of the projects.
    shared: bool,
    /// Shared by whoever changes a subscription here, and held alone by whoever takes up what other processes changed: nobody takes the
    /// one for the other.
    changing: Arc<tokio::sync::RwLock<()>>,
    names: Arc<RwLock<Names>>,
}

type Names = BTreeMap<(OrgId, String), Named>;

/// What a name stands for.
#[derive(Debug)]
struct Named {
    definition: Arc<Subscription>,
    /// Whoever alters it holds this: from looking at what it is until it is another.
    turn: Arc<tokio::sync::Mutex<()>>,
}

impl Named {
    fn new(definition: Arc<Subscription>) -> Self {
        Self { definition, turn: Arc::default() }
    }
}

const DROPPED_MEANWHILE: &str = "the subscription was dropped meanwhile";

impl Keeper {
    /// Takes up what the catalog holds. Definitions are there when this returns; their rows are when the task ends.
    pub async fn start(catalog: Catalog, running: Subscriptions, engine: &Engine, shared: bool) -> anyhow::Result<(Arc<Self>, JoinHandle<()>)> {
        let defined: Vec<Arc<Subscription>> = catalog.subscriptions().await?.into_iter().map(Arc::new).collect();
        let names = defined.iter().map(|definition| ((definition.org_id, definition.name.clone()), Named::new(Arc::clone(definition)))).collect();
        let keeper = Self { catalog, running: Arc::new(RwLock::new(running)), shared, changing: Arc::default(), names: Arc::new(RwLock::new(names)) };
        let taking_up = tokio::spawn(keeper.clone().take_up(engine.clone(), defined));
        Ok((Arc::new(keeper), taking_up))
    }

    async fn take_up(self, engine: Engine, defined: Vec<Arc<Subscription>>) {
        let ids: Vec<SubscriptionId> = defined.iter().map(|definition| definition.id).collect();
        let compiling = tokio::task::spawn_blocking(move || compile_all(&engine, defined)).await;
        let Ok((compiled, broken)) = compiling else { return tracing::error!("compiling the subscriptions panicked") };
        if let Err(error) = self.running().take_up(compiled).await {
            tracing::error!(%error, "subscriptions were not taken up");
        }
        for (definition, why) in broken {
            tracing::warn!(subscription = definition.name, why, "a subscription cannot be compiled any more");
            if let Err(error) = self.running().broken(definition, why).await {
                tracing::error!(%error, "a subscription that cannot be compiled was not told of");
            }
        }
        // Some may have been dropped before they were there to be removed.
        for id in ids.into_iter().filter(|id| self.by_id(*id).is_none()) {
            self.end(id).await;
        }
    }

    /// Lets nobody change a subscription until what is returned is dropped: the graph is about to be another one.
    pub async fn hold(&self) -> OwnedRwLockWriteGuard<()> {
        Arc::clone(&self.changing).write_owned().await
    }

    /// Goes on with another graph: takes up what the catalog holds.
    pub async fn go_on(&self, running: Subscriptions, engine: &Engine) -> anyhow::Result<()> {
        let defined: Vec<Arc<Subscription>> = self.catalog.subscriptions().await?.into_iter().map(Arc::new).collect();
        *self.write() = defined.iter().map(|definition| ((definition.org_id, definition.name.clone()), Named::new(Arc::clone(definition)))).collect();
        *self.running.write().unwrap_or_else(PoisonError::into_inner) = running;
        drop(tokio::spawn(self.clone().take_up(engine.clone(), defined)));
        Ok(())
    }

    fn running(&self) -> Subscriptions {
        self.running.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn read(&self) -> RwLockReadGuard<'_, Names> {
        self.names.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, Names> {
        self.names.write().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes up what other processes have changed of the subscriptions.
    pub async fn follow(&self, engine: &Engine) -> anyhow::Result<()> {
        let _changing = self.changing.write().await;
        let defined: BTreeMap<SubscriptionId, Arc<Subscription>> = self.catalog.subscriptions().await?.into_iter().map(|s| (s.id, Arc::new(s))).collect();
        let known: BTreeMap<SubscriptionId, Arc<Subscription>> =
            self.read().values().map(|named| (named.definition.id, Arc::clone(&named.definition))).collect();
        for id in known.keys().filter(|id| !defined.contains_key(id)) {
            self.forget(*id);
            self.end(*id).await;
        }
        let changed: Vec<Arc<Subscription>> = defined.values().filter(|definition| known.get(&definition.id) != Some(*definition)).cloned().collect();
        if changed.is_empty() {
            return Ok(());
        }
        let engine = engine.clone();
        let (compiled, broken) = tokio::task::spawn_blocking(move || compile_all(&engine, changed)).await?;
        for compiled in compiled {
            let definition = Arc::clone(&compiled.definition);
            match known.contains_key(&definition.id) {
                true => self.running().replace(compiled).await?,
                false => self.running().install(vec![compiled]).await?,
            }
            self.remember(definition);
        }
        for (definition, why) in broken {
            self.remember(Arc::clone(&definition));
            self.running().broken(definition, why).await?;
        }
        Ok(())
    }

    /// Each process sees the rows of its own projects at once: what is said of several projects together would be half of it in each.
    fn check_key(&self, compiled: &CompiledQuery) -> Result<(), String> {
        let key = &compiled.template.finish.key_schema;
        if !self.shared || ["project", "project_id"].iter().any(|name| key.column_with_name(name).is_some()) {
            return Ok(());
        }
        Err("several processes share the projects (cluster.lease is set), so a subscription's rows have to belong to a project each: add project or project_id to its GROUP BY, \
             or to its columns where it has none"
            .to_owned())
    }

    fn by_id(&self, id: SubscriptionId) -> Option<Arc<Subscription>> {
        self.read().values().find(|named| named.definition.id == id).map(|named| Arc::clone(&named.definition))
    }

    fn remember(&self, definition: Arc<Subscription>) {
        self.write().insert((definition.org_id, definition.name.clone()), Named::new(definition));
    }

    fn forget(&self, id: SubscriptionId) {
        self.write().retain(|_, named| named.definition.id != id);
    }

    /// Ends what runs of a subscription, if anything does.
    async fn end(&self, id: SubscriptionId) {
        if let Err(error) = self.running().remove(id).await {
            tracing::debug!(%error, "a dropped subscription did not run");
        }
    }

    async fn create_now(self, new: weir_catalog::NewSubscription, compiled: CompiledQuery) -> Result<(), String> {
        let _changing = self.changing.read().await;
        let definition = Arc::new(self.catalog.create_subscription(new).await.map_err(|e| e.to_string())?);
        let id = definition.id;
        // From here on it can be looked up and dropped, however long its rows take.
        self.remember(Arc::clone(&definition));
        let installed = self.running().install(vec![joined(definition, compiled)]).await;
        if self.by_id(id).is_none() {
            // Whoever dropped it may have come before it was there to be removed.
            self.end(id).await;
            return Err(DROPPED_MEANWHILE.to_owned());
        }
        let Err(error) = installed else { return Ok(()) };
        // It never ran: nothing of it may stay.
        self.forget(id);
        self.end(id).await;
        self.catalog.drop_subscription(id).await.map_err(|e| format!("{error}; and it could not be taken back: {e}"))?;
        Err(error.to_string())
    }

    async fn alter_now(self, before: Arc<Subscription>, changed: Changed, compiled: CompiledQuery) -> Result<bool, String> {
        let _changing = self.changing.read().await;
        let place = (before.org_id, before.name.clone());
        let turn = self.read().get(&place).map(|named| Arc::clone(&named.turn)).ok_or(DROPPED_MEANWHILE)?;
        let _turn = turn.lock().await;
        match self.by_id(before.id) {
            None => return Err(DROPPED_MEANWHILE.to_owned()),
            Some(now) if now != before => return Ok(false),
            Some(_) => {}
        }
        let Changed { query, options, meaning } = changed;
        let after = self.catalog.alter_subscription(before.id, &query, &options, meaning).await.map_err(|e| e.to_string())?;
        let after = Arc::new(after);
        if let Err(error) = self.running().replace(joined(Arc::clone(&after), compiled)).await {
            if self.by_id(before.id).is_none() {
                return Err(DROPPED_MEANWHILE.to_owned());
            }
            self.catalog.restore_subscription(&before).await.map_err(|e| format!("{error}; and the change could not be taken back: {e}"))?;
            return Err(error.to_string());
        }
        // One that was dropped meanwhile stays dropped.
        if let Some(named) = self.write().get_mut(&place).filter(|named| named.definition.id == before.id) {
            named.definition = after;
        }
        Ok(true)
    }

    async fn remove_now(self, id: SubscriptionId) -> Result<(), String> {
        let _changing = self.changing.read().await;
        self.catalog.drop_subscription(id).await.map_err(|e| e.to_string())?;
        self.forget(id);
        self.end(id).await;
        Ok(())
    }
}

/// What a subscription is altered to.
struct Changed {
    query: String,
    options: SubscriptionOptions,
    /// Whether its alerts mean something else.
    meaning: bool,
}

/// Does all of it, also where whoever asked goes away meanwhile.
async fn in_full<T: Send + 'static>(work: impl Future<Output = Result<T, String>> + Send + 'static) -> Result<T, String> {
    tokio::spawn(work).await.unwrap_or_else(|error| Err(format!("the statement was not carried out: {error}")))
}

type Broken = Vec<(Arc<Subscription>, String)>;

fn compile_all(engine: &Engine, defined: Vec<Arc<Subscription>>) -> (Vec<Compiled>, Broken) {
    let (mut compiled, mut broken) = (Vec::with_capacity(defined.len()), Vec::new());
    for definition in defined {
        let scope = Scope { org_id: definition.org_id, projects: definition.projects.clone(), name: definition.created_by.clone() };
        match engine.compile(&scope, &definition.query, &definition.options) {
            Ok(query) => compiled.push(joined(definition, query)),
            Err(refusal) => broken.push((definition, refusal.to_string())),
        }
    }
    (compiled, broken)
}

fn joined(definition: Arc<Subscription>, query: CompiledQuery) -> Compiled {
    let parameters = query.parameters(definition.id);
    Compiled { shape: query.shape, template: query.template, parameters, definition }
}

#[async_trait]
impl SubscriptionControl for Keeper {
    async fn create(&self, new: NewSubscription, compiled: CompiledQuery) -> Result<(), String> {
        self.check_key(&compiled)?;
        let new = weir_catalog::NewSubscription {
            name: new.name,
            query: new.query,
            options: new.options,
            org_id: new.org_id,
            projects: new.projects,
            created_by: new.created_by,
            created_ms: now_ms(),
        };
        in_full(self.clone().create_now(new, compiled)).await
    }

    async fn alter(
        &self,
        before: &Arc<Subscription>,
        query: String,
        options: SubscriptionOptions,
        changed: bool,
        compiled: CompiledQuery,
    ) -> Result<bool, String> {
        self.check_key(&compiled)?;
        in_full(self.clone().alter_now(Arc::clone(before), Changed { query, options, meaning: changed }, compiled)).await
    }

    async fn remove(&self, id: SubscriptionId) -> Result<(), String> {
        in_full(self.clone().remove_now(id)).await
    }

    fn subscriptions(&self, org_id: OrgId) -> Vec<Arc<Subscription>> {
        let names = self.read();
        names.range((org_id, String::new())..).take_while(|((org, _), _)| *org == org_id).map(|(_, named)| Arc::clone(&named.definition)).collect()
    }

    fn find(&self, org_id: OrgId, name: &str) -> Option<Arc<Subscription>> {
        self.read().get(&(org_id, name.to_owned())).map(|named| Arc::clone(&named.definition))
    }

    fn state(&self, id: SubscriptionId) -> Option<SubscriptionState> {
        let state = self.running().state(id)?;
        Some(SubscriptionState { state: state.status.as_str().to_owned(), rows: state.rows, error: state.error })
    }

    fn rows(&self, id: SubscriptionId) -> Option<LiveRows> {
        let rows = self.running().rows(id)?;
        Some(LiveRows { schema: rows.schema, batches: rows.batches, tick_ms: rows.tick_ms })
    }

    fn watch(&self, id: SubscriptionId) -> Option<BoxStream<'static, Result<LiveChanges, String>>> {
        let watch = self.running().watch(id)?;
        let events = futures::stream::unfold(watch, |mut watch| async move { watch.next().await.map(|event| (event, watch)) });
        let changes = events.map(|event| {
            Ok(match event {
                WatchEvent::Snapshot { rows, .. } => LiveChanges { tick_ms: rows.tick_ms, snapshot: true, batches: rows.batches, differences: None },
                WatchEvent::Changes { tick_ms, rows, differences } => {
                    LiveChanges { tick_ms, snapshot: false, batches: vec![rows], differences: Some(differences) }
                }
            })
        });
        Some(changes.boxed())
    }

    fn usage(&self, shape: &Shape) -> Option<TemplateUsage> {
        let usage = self.running().usage(shape)?;
        Some(TemplateUsage { subscriptions: usage.subscriptions, groups: usage.groups, state_bytes: usage.state_bytes })
    }

    async fn history(&self, query: &HistoryQuery) -> Result<Vec<HistoryRow>, String> {
        let rows = self.catalog.alerts(&read_by(query)).await.map_err(|e| e.to_string())?;
        let rows = rows.into_iter().map(|row| HistoryRow {
            seq: row.seq,
            id: row.id,
            subscription: row.subscription,
            version: row.version,
            project_id: row.project_id,
            key: row.key,
            kind: row.kind,
            severity: row.severity,
            row: row.row,
            event_time_ms: row.event_time_ms,
            fired_time_ms: row.fired_time_ms,
            delivered_time_ms: row.delivered_time_ms,
        });
        Ok(rows.collect())
    }

    async fn deliveries(&self, query: &HistoryQuery) -> Result<Vec<DeliveryRow>, String> {
        let rows = self.catalog.deliveries(&read_by(query)).await.map_err(|e| e.to_string())?;
        let rows = rows.into_iter().map(|row| DeliveryRow {
            seq: row.seq,
            id: row.id,
            subscription: row.subscription,
            project_id: row.project_id,
            target: row.target,
            attempt: row.attempt,
            attempt_time_ms: row.at_ms,
            duration_ms: row.duration_ms,
            status: row.status.as_str(),
            error: row.error,
        });
        Ok(rows.collect())
    }
}

fn read_by(query: &HistoryQuery) -> AlertQuery {
    AlertQuery { org_id: query.org_id, projects: query.projects.clone(), after: query.after, limit: query.limit }
}

#[cfg(test)]
mod tests;
