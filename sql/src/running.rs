//! The queries that run: how many may, how far they are, and how they are stopped.

use std::collections::{BTreeMap, VecDeque};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use datafusion::execution::memory_pool::MemoryPool;
use datafusion::physical_plan::ExecutionPlan;
use tokio::sync::{Notify, watch};

use crate::error::{Busy, QueryError};
use crate::scope::Scope;
use crate::telemetry;

/// How many queries may run at a time.
#[derive(Debug, Clone)]
pub(crate) struct Bounds {
    pub(crate) server_max: usize,
    pub(crate) organisation_max: usize,
    pub(crate) token_max: usize,
    /// How long one waits for its turn before it is refused.
    pub(crate) wait_max: Duration,
}

/// Queries that wait for their turn; more are refused at once.
const WAITING_MAX: usize = 256;
/// Cancelled queries that had not begun, whose ids are remembered.
const CANCELLED_MAX: usize = 1024;
/// The same of one token.
const CANCELLED_PER_TOKEN_MAX: usize = 64;

/// An id that a client knows its query by, drawn at random.
pub(crate) type QueryId = [u8; 16];

/// All of them. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct RunningQueries(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    bounds: Bounds,
    state: Mutex<State>,
    ended: Notify,
}

#[derive(Debug, Default)]
struct State {
    last_number: u64,
    queries: BTreeMap<u64, Arc<RunningQuery>>,
    waiting: usize,
    /// By the organisation and the token that cancelled them: nobody else's query ends by it.
    cancelled: VecDeque<(u64, String, QueryId)>,
}

/// A query while it runs.
#[derive(Debug)]
pub(crate) struct RunningQuery {
    pub(crate) number: u64,
    /// The least number that no other query has at the same time, below the bound of the server.
    slot: usize,
    id: QueryId,
    org_id: u64,
    pub(crate) token: String,
    pub(crate) sql: String,
    pub(crate) started: Instant,
    pub(crate) memory: Arc<dyn MemoryPool>,
    pub(crate) rows: AtomicU64,
    plan: OnceLock<Arc<dyn ExecutionPlan>>,
    stop: watch::Sender<bool>,
}

/// What a query has read from the tables so far.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Scanned {
    pub(crate) rows: u64,
    pub(crate) bytes: u64,
}

impl RunningQuery {
    /// Makes the plan known whose operators count what they do.
    pub(crate) fn runs(&self, plan: Arc<dyn ExecutionPlan>) {
        // A query has one plan, so it is not set yet.
        let _ = self.plan.set(plan);
    }

    /// What it has read so far.
    pub(crate) fn scanned(&self) -> Scanned {
        let mut scanned = Scanned::default();
        if let Some(plan) = self.plan.get() {
            add_scanned(plan.as_ref(), &mut scanned);
        }
        scanned
    }

    /// Resolves when somebody stops it.
    pub(crate) async fn stopped(&self) {
        // The sender lives in `self`, so waiting cannot fail.
        let _ = self.stop.subscribe().wait_for(|stop| *stop).await;
    }

    fn may_be_stopped_by(&self, scope: &Scope) -> bool {
        self.org_id == scope.org_id && (scope.projects.is_none() || self.token == scope.name)
    }
}

fn add_scanned(plan: &dyn ExecutionPlan, scanned: &mut Scanned) {
    let children = plan.children();
    if children.is_empty()
        && let Some(metrics) = plan.metrics()
    {
        scanned.rows += metrics.output_rows().unwrap_or_default() as u64;
        scanned.bytes += metrics.sum_by_name("bytes_scanned").map_or(0, |value| value.as_usize() as u64);
    }
    children.into_iter().for_each(|child| add_scanned(child.as_ref(), scanned));
}

/// A query's place among those that run; given back when dropped.
#[derive(Debug)]
pub(crate) struct Place {
    pub(crate) query: Arc<RunningQuery>,
    all: RunningQueries,
}

impl Drop for Place {
    fn drop(&mut self) {
        self.all.state().queries.remove(&self.query.number);
        self.all.0.ended.notify_waiters();
    }
}

impl RunningQueries {
    pub(crate) fn new(bounds: Bounds) -> Self {
        Self(Arc::new(Shared { bounds, state: Mutex::default(), ended: Notify::new() }))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits for a place, no longer than the bounds say.
    pub(crate) async fn begin(&self, scope: &Scope, id: QueryId, sql: &str, memory: Arc<dyn MemoryPool>) -> Result<Place, QueryError> {
        let deadline = tokio::time::Instant::now() + self.0.bounds.wait_max;
        let mut waiting: Option<Waiting> = None;
        loop {
            // Asked for before looking: a query that ends in between is not missed.
            let mut ended = std::pin::pin!(self.0.ended.notified());
            ended.as_mut().enable();
            let busy = match self.try_begin(scope, id, sql, &memory)? {
                Ok(place) => return Ok(place),
                Err(busy) => busy,
            };
            if waiting.is_none() {
                waiting = Waiting::begin(self);
            }
            if waiting.is_none() || tokio::time::timeout_at(deadline, ended).await.is_err() {
                return Err(QueryError::Busy(busy));
            }
        }
    }

    fn try_begin(&self, scope: &Scope, id: QueryId, sql: &str, memory: &Arc<dyn MemoryPool>) -> Result<Result<Place, Busy>, QueryError> {
        let (bounds, mut state) = (&self.0.bounds, self.state());
        if let Some(at) = state.cancelled.iter().position(|(org_id, token, cancelled)| *cancelled == id && *org_id == scope.org_id && *token == scope.name) {
            state.cancelled.remove(at);
            return Err(QueryError::Cancelled);
        }
        let of = |count: &dyn Fn(&RunningQuery) -> bool| state.queries.values().filter(|query| count(query)).count();
        let of_token = of(&|query| query.org_id == scope.org_id && query.token == scope.name);
        if of_token >= bounds.token_max {
            return Ok(Err(Busy::Token(scope.name.clone(), bounds.token_max)));
        }
        if of(&|query| query.org_id == scope.org_id) >= bounds.organisation_max {
            return Ok(Err(Busy::Organisation(bounds.organisation_max)));
        }
        let taken: Vec<usize> = state.queries.values().map(|query| query.slot).collect();
        let Some(slot) = (0..bounds.server_max).find(|slot| !taken.contains(slot)) else { return Ok(Err(Busy::Server(bounds.server_max))) };
        state.last_number += 1;
        let query = Arc::new(RunningQuery {
            number: state.last_number,
            slot,
            id,
            org_id: scope.org_id,
            token: scope.name.clone(),
            sql: sql.to_owned(),
            started: Instant::now(),
            memory: Arc::clone(memory),
            rows: AtomicU64::new(0),
            plan: OnceLock::new(),
            stop: watch::Sender::new(false),
        });
        state.queries.insert(query.number, Arc::clone(&query));
        Ok(Ok(Place { query, all: self.clone() }))
    }

    /// Stops the query that a client knows by `id`; one that has not begun will not. Says whether one was running.
    pub(crate) fn cancel(&self, scope: &Scope, id: QueryId) -> bool {
        let mut state = self.state();
        let mut found = false;
        for query in state.queries.values().filter(|query| query.id == id && query.may_be_stopped_by(scope)) {
            query.stop.send_replace(true);
            found = true;
        }
        // Zeros are the id of every run that has none.
        if !found && id != QueryId::default() {
            let of_token = |(org_id, token, _): &&(u64, String, QueryId)| *org_id == scope.org_id && *token == scope.name;
            if state.cancelled.iter().filter(of_token).count() >= CANCELLED_PER_TOKEN_MAX
                && let Some(oldest) = state.cancelled.iter().position(|cancelled| of_token(&cancelled))
            {
                state.cancelled.remove(oldest);
            }
            state.cancelled.push_back((scope.org_id, scope.name.clone(), id));
            if state.cancelled.len() > CANCELLED_MAX {
                state.cancelled.pop_front();
            }
        }
        found
    }

    /// Stops the query of a number; says whether there is one that the caller may stop.
    pub(crate) fn kill(&self, scope: &Scope, number: u64) -> bool {
        let state = self.state();
        let query = state.queries.get(&number).filter(|query| query.may_be_stopped_by(scope));
        if let Some(query) = query {
            query.stop.send_replace(true);
        }
        query.is_some()
    }

    /// The queries that a caller may know of: with a token for every project those of the organisation, else those of the token.
    pub(crate) fn of(&self, scope: &Scope) -> Vec<Arc<RunningQuery>> {
        self.state().queries.values().filter(|query| query.may_be_stopped_by(scope)).cloned().collect()
    }

    /// Sets the gauges: one label a slot, so that there are never more than queries may run.
    pub(crate) fn observe(&self) {
        let queries: Vec<Arc<RunningQuery>> = self.state().queries.values().cloned().collect();
        metrics::gauge!(telemetry::RUNNING).set(queries.len() as f64);
        metrics::gauge!(telemetry::WAITING).set(self.state().waiting as f64);
        for slot in 0..self.0.bounds.server_max {
            let query = queries.iter().find(|query| query.slot == slot);
            let scanned = query.map(|query| query.scanned()).unwrap_or_default();
            let label = slot.to_string();
            let set = |name: &'static str, value: f64| metrics::gauge!(name, "slot" => label.clone()).set(value);
            set(telemetry::RUNNING_SECONDS, query.map_or(0.0, |query| query.started.elapsed().as_secs_f64()));
            set(telemetry::RUNNING_ROWS_SCANNED, scanned.rows as f64);
            set(telemetry::RUNNING_BYTES_SCANNED, scanned.bytes as f64);
            set(telemetry::RUNNING_ROWS, query.map_or(0.0, |query| query.rows.load(Ordering::Relaxed) as f64));
            set(telemetry::RUNNING_MEMORY_BYTES, query.map_or(0.0, |query| query.memory.reserved() as f64));
        }
    }
}

/// Counts one that waits, for as long as it lives.
struct Waiting(RunningQueries);

impl Waiting {
    fn begin(all: &RunningQueries) -> Option<Self> {
        let mut state = all.state();
        (state.waiting < WAITING_MAX).then(|| {
            state.waiting += 1;
            Self(all.clone())
        })
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        self.0.state().waiting -= 1;
    }
}

#[cfg(test)]
mod tests {
    use datafusion::execution::memory_pool::UnboundedMemoryPool;

    use super::*;

    fn scope(org_id: u64, name: &str) -> Scope {
        Scope { org_id, projects: Some([1].into()), name: name.to_owned() }
    }

    fn queries(server_max: usize, organisation_max: usize, token_max: usize, wait_max: Duration) -> RunningQueries {
        RunningQueries::new(Bounds { server_max, organisation_max, token_max, wait_max })
    }

    async fn begin(queries: &RunningQueries, scope: &Scope, id: u8) -> Result<Place, QueryError> {
        queries.begin(scope, [id; 16], "SELECT 1", Arc::new(UnboundedMemoryPool::default())).await
    }

    #[tokio::test]
    async fn each_limit_is_named() {
        let queries = queries(4, 3, 2, Duration::ZERO);
        let (a, b, other) = (scope(1, "a"), scope(1, "b"), scope(2, "a"));
        let mut held = vec![begin(&queries, &a, 1).await.unwrap(), begin(&queries, &a, 2).await.unwrap()];
        let busy = |result: Result<Place, QueryError>| result.unwrap_err().to_string();
        assert!(
            busy(begin(&queries, &a, 3).await)
                .contains("2 queries of the token a are running, and no more of one may at a time (query.max_concurrent_per_token)")
        );
        held.push(begin(&queries, &b, 3).await.unwrap());
        assert!(busy(begin(&queries, &b, 4).await).contains("3 queries of this organisation"));
        held.push(begin(&queries, &other, 5).await.unwrap());
        assert!(busy(begin(&queries, &other, 6).await).contains("4 queries are running, and no more may at a time (query.max_concurrent)"));
        held.remove(0);
        let again = begin(&queries, &a, 7).await.unwrap();
        assert_eq!(again.query.slot, 0);
    }

    #[tokio::test]
    async fn one_that_waits_is_next() {
        let queries = queries(1, 1, 1, Duration::from_secs(600));
        let a = scope(1, "a");
        let first = begin(&queries, &a, 1).await.unwrap();
        let waiting = tokio::spawn({
            let (queries, a) = (queries.clone(), a.clone());
            async move { begin(&queries, &a, 2).await.map(|place| place.query.number) }
        });
        while queries.state().waiting == 0 {
            tokio::task::yield_now().await;
        }
        drop(first);
        assert_eq!(waiting.await.unwrap().unwrap(), 2);
        assert_eq!(queries.state().waiting, 0);
    }

    #[tokio::test]
    async fn only_who_may_stops_a_query() {
        let queries = queries(4, 4, 4, Duration::ZERO);
        let (a, b, everything, foreign) =
            (scope(1, "a"), scope(1, "b"), Scope { projects: None, ..scope(1, "admin") }, Scope { projects: None, ..scope(2, "admin") });
        let place = begin(&queries, &a, 1).await.unwrap();
        for stranger in [&b, &foreign] {
            assert!(!queries.cancel(stranger, [1; 16]) && !queries.kill(stranger, place.query.number) && queries.of(stranger).is_empty());
        }
        assert_eq!(queries.of(&everything).len(), 1);
        assert!(!*place.query.stop.borrow());
        assert!(queries.cancel(&a, [1; 16]));
        place.query.stopped().await;
        let place = begin(&queries, &a, 3).await.unwrap();
        assert!(queries.kill(&everything, place.query.number));
        place.query.stopped().await;
        // One that has not begun does not.
        assert!(!queries.cancel(&a, [9; 16]));
        assert!(matches!(begin(&queries, &a, 9).await, Err(QueryError::Cancelled)));
        drop(begin(&queries, &a, 9).await.unwrap());
        // Nor does it end what somebody else begins by the same id, and a run without an id cannot be ended before it begins.
        assert!(!queries.cancel(&foreign, [9; 16]) && !queries.cancel(&a, [0; 16]));
        assert!(begin(&queries, &a, 9).await.is_ok() && begin(&queries, &a, 0).await.is_ok());
    }
}
