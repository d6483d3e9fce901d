//! Subscriptions: their definitions in the catalog, their rows in the graph, their compiler in the engine.

use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError, RwLock};

use async_trait::async_trait;
use futures::StreamExt;
use futures::stream::BoxStream;
use tokio::sync::Mutex;
use tokio::task::JoinHandle;
use weir_catalog::{AlertQuery, Catalog};
use weir_dataflow::Subscriptions;
use weir_dataflow::subscriptions::{Compiled, WatchEvent};
use weir_protocol::ids::OrgId;
use weir_protocol::subscription::{Subscription, SubscriptionId, SubscriptionOptions};
use weir_sql::subscription::{
    CompiledQuery, HistoryQuery, HistoryRow, LiveChanges, LiveRows, NewSubscription, Shape, SubscriptionControl, SubscriptionState, TemplateUsage,
};
use weir_sql::{Engine, Scope};

use super::now_ms;

/// Keeps subscriptions. The catalog makes them durable; the graph runs them; names are looked up here.
#[derive(Debug)]
pub struct Keeper {
    catalog: Catalog,
    running: Subscriptions,
    /// Whether other processes have some of the projects.
    shared: bool,
    /// Held while a subscription is changed here, so that nobody takes it for a change of another process.
    changing: Mutex<()>,
    names: RwLock<BTreeMap<(OrgId, String), Arc<Subscription>>>,
}

impl Keeper {
    /// Takes up what the catalog holds. Definitions are there when this returns; their rows are when the task ends.
    pub async fn start(catalog: Catalog, running: Subscriptions, engine: &Engine, shared: bool) -> anyhow::Result<(Arc<Self>, JoinHandle<()>)> {
        let defined: Vec<Arc<Subscription>> = catalog.subscriptions().await?.into_iter().map(Arc::new).collect();
        let names = defined.iter().map(|definition| ((definition.org_id, definition.name.clone()), Arc::clone(definition))).collect();
        let keeper = Arc::new(Self { catalog, running: running.clone(), shared, changing: Mutex::default(), names: RwLock::new(names) });
        let engine = engine.clone();
        let taking_up = tokio::spawn(async move {
            let compiling = tokio::task::spawn_blocking(move || compile_all(&engine, defined)).await;
            let Ok((compiled, broken)) = compiling else { return tracing::error!("compiling the subscriptions panicked") };
            if let Err(error) = running.install(compiled).await {
                tracing::error!(%error, "subscriptions were not taken up");
            }
            for (definition, why) in broken {
                tracing::warn!(subscription = definition.name, why, "a subscription cannot be compiled any more");
                if let Err(error) = running.broken(definition, why).await {
                    tracing::error!(%error, "a subscription that cannot be compiled was not told of");
                }
            }
        });
        Ok((keeper, taking_up))
    }

    /// Takes up what other processes have changed of the subscriptions.
    pub async fn follow(&self, engine: &Engine) -> anyhow::Result<()> {
        let _changing = self.changing.lock().await;
        let defined: BTreeMap<SubscriptionId, Arc<Subscription>> = self.catalog.subscriptions().await?.into_iter().map(|s| (s.id, Arc::new(s))).collect();
        let known: BTreeMap<SubscriptionId, Arc<Subscription>> =
            self.names.read().unwrap_or_else(PoisonError::into_inner).values().map(|definition| (definition.id, Arc::clone(definition))).collect();
        for id in known.keys().filter(|id| !defined.contains_key(id)) {
            self.forget(*id).await;
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
                true => self.running.replace(compiled).await?,
                false => self.running.install(vec![compiled]).await?,
            }
            self.remember(Subscription::clone(&definition));
        }
        for (definition, why) in broken {
            self.remember(Subscription::clone(&definition));
            self.running.broken(definition, why).await?;
        }
        Ok(())
    }

    async fn forget(&self, id: SubscriptionId) {
        self.names.write().unwrap_or_else(PoisonError::into_inner).retain(|_, definition| definition.id != id);
        // One that is still being taken up after a start is not there yet; the catalog has forgotten it.
        if let Err(error) = self.running.remove(id).await {
            tracing::debug!(%error, "a dropped subscription did not run");
        }
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

    fn remember(&self, definition: Subscription) {
        let mut names = self.names.write().unwrap_or_else(PoisonError::into_inner);
        names.insert((definition.org_id, definition.name.clone()), Arc::new(definition));
    }

    fn by_id(&self, id: SubscriptionId) -> Option<Arc<Subscription>> {
        self.names.read().unwrap_or_else(PoisonError::into_inner).values().find(|definition| definition.id == id).cloned()
    }
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
        let _changing = self.changing.lock().await;
        let new = weir_catalog::NewSubscription {
            name: new.name,
            query: new.query,
            options: new.options,
            org_id: new.org_id,
            projects: new.projects,
            created_by: new.created_by,
            created_ms: now_ms(),
        };
        let definition = self.catalog.create_subscription(new).await.map_err(|e| e.to_string())?;
        let installed = self.running.install(vec![joined(Arc::new(definition.clone()), compiled)]).await;
        if let Err(error) = installed {
            // It never ran: nothing of it may stay.
            self.catalog.drop_subscription(definition.id).await.map_err(|e| format!("{error}; and it could not be taken back: {e}"))?;
            return Err(error.to_string());
        }
        self.remember(definition);
        Ok(())
    }

    async fn alter(&self, id: SubscriptionId, query: String, options: SubscriptionOptions, changed: bool, compiled: CompiledQuery) -> Result<(), String> {
        self.check_key(&compiled)?;
        let _changing = self.changing.lock().await;
        let before = self.by_id(id).ok_or_else(|| "the subscription was dropped meanwhile".to_owned())?;
        let after = self.catalog.alter_subscription(id, &query, &options, changed).await.map_err(|e| e.to_string())?;
        if let Err(error) = self.running.replace(joined(Arc::new(after.clone()), compiled)).await {
            let back = self.catalog.alter_subscription(id, &before.query, &before.options, false).await;
            back.map_err(|e| format!("{error}; and the change could not be taken back: {e}"))?;
            return Err(error.to_string());
        }
        self.remember(after);
        Ok(())
    }

    async fn remove(&self, id: SubscriptionId) -> Result<(), String> {
        let _changing = self.changing.lock().await;
        self.catalog.drop_subscription(id).await.map_err(|e| e.to_string())?;
        self.forget(id).await;
        Ok(())
    }

    fn subscriptions(&self, org_id: OrgId) -> Vec<Arc<Subscription>> {
        let names = self.names.read().unwrap_or_else(PoisonError::into_inner);
        names.range((org_id, String::new())..).take_while(|((org, _), _)| *org == org_id).map(|(_, definition)| Arc::clone(definition)).collect()
    }

    fn find(&self, org_id: OrgId, name: &str) -> Option<Arc<Subscription>> {
        self.names.read().unwrap_or_else(PoisonError::into_inner).get(&(org_id, name.to_owned())).cloned()
    }

    fn state(&self, id: SubscriptionId) -> Option<SubscriptionState> {
        let state = self.running.state(id)?;
        Some(SubscriptionState { state: state.status.as_str().to_owned(), rows: state.rows, error: state.error })
    }

    fn rows(&self, id: SubscriptionId) -> Option<LiveRows> {
        let rows = self.running.rows(id)?;
        Some(LiveRows { schema: rows.schema, batches: rows.batches, tick_ms: rows.tick_ms })
    }

    fn watch(&self, id: SubscriptionId) -> Option<BoxStream<'static, Result<LiveChanges, String>>> {
        let watch = self.running.watch(id)?;
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
        let usage = self.running.usage(shape)?;
        Some(TemplateUsage { subscriptions: usage.subscriptions, groups: usage.groups, state_bytes: usage.state_bytes })
    }

    async fn history(&self, query: &HistoryQuery) -> Result<Vec<HistoryRow>, String> {
        let query = AlertQuery { org_id: query.org_id, projects: query.projects.clone(), after: query.after, limit: query.limit };
        let rows = self.catalog.alerts(&query).await.map_err(|e| e.to_string())?;
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
}
