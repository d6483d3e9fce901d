//! What keeps subscriptions: their definitions, their rows, their history. The binary implements it over the catalog and the graph.

use std::collections::BTreeSet;
use std::fmt::Debug;
use std::sync::{Arc, OnceLock};

use async_trait::async_trait;
use datafusion::arrow::array::RecordBatch;
use datafusion::arrow::datatypes::SchemaRef;
use futures::stream::BoxStream;
use weir_protocol::ids::{OrgId, ProjectId};
use weir_protocol::subscription::{Subscription, SubscriptionId, SubscriptionOptions, TransitionKind};

use super::compile::{CompiledQuery, Shape};
use crate::error::QueryError;
use crate::scope::Scope;

/// A subscription that is to be created.
#[derive(Debug, Clone)]
pub struct NewSubscription {
    /// Its name.
    pub name: String,
    /// Its query.
    pub query: String,
    /// What is given with it.
    pub options: SubscriptionOptions,
    /// Whose it is.
    pub org_id: OrgId,
    /// The projects that it reads; `None` for all of the organisation.
    pub projects: Option<BTreeSet<ProjectId>>,
    /// The name of the token that creates it.
    pub created_by: String,
}

/// How a subscription is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SubscriptionState {
    /// `running`, `hydrating` or `failed`.
    pub state: String,
    /// How many rows hold.
    pub rows: u64,
    /// Why it failed.
    pub error: Option<String>,
}

/// The rows that hold.
#[derive(Debug, Clone)]
pub struct LiveRows {
    /// Their columns.
    pub schema: SchemaRef,
    /// The rows.
    pub batches: Vec<RecordBatch>,
    /// As of which tick, in Unix milliseconds.
    pub tick_ms: u64,
}

/// Changes of the rows of a subscription, as one who watches it sees them.
#[derive(Debug, Clone)]
pub struct LiveChanges {
    /// The tick, in Unix milliseconds.
    pub tick_ms: u64,
    /// Whether the rows are all that hold, in place of all that were said before: at first, and when the reader was too slow.
    pub snapshot: bool,
    /// The rows.
    pub batches: Vec<RecordBatch>,
    /// How often each comes (positive) or goes (negative); `None` where each comes once.
    pub differences: Option<Vec<i64>>,
}

/// What a template costs.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct TemplateUsage {
    /// How many subscriptions share it.
    pub subscriptions: u64,
    /// Groups that are kept.
    pub groups: u64,
    /// Bytes of state, about.
    pub state_bytes: u64,
}

/// Which entries of the history to read.
#[derive(Debug, Clone)]
pub struct HistoryQuery {
    /// The organisation.
    pub org_id: OrgId,
    /// The projects that the reader may read; `None` for all.
    pub projects: Option<BTreeSet<ProjectId>>,
    /// Only entries after this place in the history.
    pub after: u64,
    /// At most so many.
    pub limit: usize,
}

/// An entry of the history.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HistoryRow {
    /// Its place in the history, which rises.
    pub seq: u64,
    /// Its id.
    pub id: String,
    /// The subscription's name then.
    pub subscription: String,
    /// Its version then.
    pub version: u32,
    /// The project that the row names.
    pub project_id: Option<ProjectId>,
    /// The key: a JSON object.
    pub key: String,
    /// What happened.
    pub kind: TransitionKind,
    /// The severity.
    pub severity: String,
    /// The row: a JSON object.
    pub row: String,
    /// The tick at which the row came to be so, in Unix milliseconds.
    pub event_time_ms: u64,
    /// The tick at which the transition was made, in Unix milliseconds.
    pub fired_time_ms: u64,
    /// When it was delivered, in Unix milliseconds.
    pub delivered_time_ms: Option<u64>,
}

/// An attempt to deliver an alert.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeliveryRow {
    /// Its place in the log, which rises.
    pub seq: u64,
    /// The transition's id: [`HistoryRow::id`].
    pub id: String,
    /// The subscription's name then.
    pub subscription: String,
    /// The project that the alert's row names.
    pub project_id: Option<ProjectId>,
    /// Whom it was for, without secrets.
    pub target: String,
    /// Which attempt, from 1; 0 where none was made.
    pub attempt: u32,
    /// When it began, in Unix milliseconds.
    pub attempt_time_ms: u64,
    /// How long it took, in milliseconds.
    pub duration_ms: u64,
    /// `delivered`, `retrying` or `failed`.
    pub status: &'static str,
    /// What went wrong.
    pub error: Option<String>,
}

/// Keeps subscriptions. Errors are texts for whoever asked.
#[async_trait]
pub trait SubscriptionControl: Debug + Send + Sync + 'static {
    /// Creates a subscription and lets it run. When this returns, the rows that hold at once are there.
    async fn create(&self, new: NewSubscription, compiled: CompiledQuery) -> Result<(), String>;
    /// Changes one from what it was `before`; with `changed`, its alerts mean something else and it gets a new version. False where
    /// it is not as it was `before` any more: somebody else altered it meanwhile, and nothing was done.
    async fn alter(
        &self,
        before: &Arc<Subscription>,
        query: String,
        options: SubscriptionOptions,
        changed: bool,
        compiled: CompiledQuery,
    ) -> Result<bool, String>;
    /// Ends one; its history stays.
    async fn remove(&self, id: SubscriptionId) -> Result<(), String>;
    /// All of an organisation, by name.
    fn subscriptions(&self, org_id: OrgId) -> Vec<Arc<Subscription>>;
    /// One by its name.
    fn find(&self, org_id: OrgId, name: &str) -> Option<Arc<Subscription>>;
    /// How one is.
    fn state(&self, id: SubscriptionId) -> Option<SubscriptionState>;
    /// The rows of one that hold now.
    fn rows(&self, id: SubscriptionId) -> Option<LiveRows>;
    /// The rows of one that hold now, then how they change.
    fn watch(&self, id: SubscriptionId) -> Option<BoxStream<'static, Result<LiveChanges, String>>>;
    /// What the template of a shape costs.
    fn usage(&self, shape: &Shape) -> Option<TemplateUsage>;
    /// Entries of the history, in their order.
    async fn history(&self, query: &HistoryQuery) -> Result<Vec<HistoryRow>, String>;
    /// Entries of the delivery log, in their order: those of alerts whose history the reader may read.
    async fn deliveries(&self, query: &HistoryQuery) -> Result<Vec<DeliveryRow>, String>;
}

/// What keeps subscriptions, once it is there. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub(crate) struct Control(Arc<OnceLock<Arc<dyn SubscriptionControl>>>);

impl Control {
    /// Sets it; the first one stays.
    pub(crate) fn set(&self, control: Arc<dyn SubscriptionControl>) {
        let _ = self.0.set(control);
    }

    /// It, or a refusal where there is none.
    pub(crate) fn get(&self) -> Result<&Arc<dyn SubscriptionControl>, QueryError> {
        self.0.get().ok_or_else(|| QueryError::Invalid("this server keeps no subscriptions".to_owned()))
    }

    /// The subscription of a name, for a caller that may read all that it reads. To others it is not there.
    pub(crate) fn find(&self, scope: &Scope, name: &str) -> Result<Arc<Subscription>, QueryError> {
        let found = self.get()?.find(scope.org_id, name).filter(|found| may_read(scope, found));
        found.ok_or_else(|| {
            QueryError::Invalid(format!(
                "there is no subscription {name}, or the token does not read all of its projects; SHOW SUBSCRIPTIONS lists those that it does"
            ))
        })
    }
}

/// Whether a caller may read all that a subscription reads.
pub(crate) fn may_read(scope: &Scope, subscription: &Subscription) -> bool {
    scope.org_id == subscription.org_id
        && match (&scope.projects, &subscription.projects) {
            (None, _) => true,
            (Some(_), None) => false,
            (Some(may), Some(reads)) => reads.is_subset(may),
        }
}
