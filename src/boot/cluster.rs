//! Several processes over one topic and one catalog: which partitions are this process's, and the graph over them, which is started anew
//! when they change. The doors stay open meanwhile: whatever they take goes to the topic, and queries see what was last there.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use serde_json::json;
use tokio::sync::Mutex;
use weir_catalog::{Catalog, MAINTENANCE, Membership};
use weir_dataflow::snapshot::Snapshots;
use weir_dataflow::{Graph, GraphOptions, Progress, Share};
use weir_journal::Journal;
use weir_outbound::Dispatcher;
use weir_sql::Engine;

use super::{DELIVERIES_END_MAX, now_ms, subscriptions};

/// How often a process shows that it lives, and looks at the others, in a lease.
const BEATS_IN_A_LEASE: u32 = 5;

/// How often a graph that does not start with other partitions is tried again before the program ends.
const TRIES_MAX: u32 = 20;

/// Starts the delivery of notifications.
pub(super) type MakeDispatcher = Box<dyn Fn() -> anyhow::Result<Dispatcher> + Send + Sync>;

/// The graph, which may be another one after a while.
pub(super) struct Running {
    graph: Mutex<Option<Graph>>,
    progress: RwLock<Arc<Progress>>,
    /// What ended the program, beside what a graph says of itself.
    failure: RwLock<Option<String>>,
    snapshots: Snapshots,
    stopping: AtomicBool,
    /// Where this process delivers notifications: one of several does.
    dispatcher: Mutex<Option<Dispatcher>>,
    make_dispatcher: MakeDispatcher,
    shown: RwLock<serde_json::Value>,
}

impl Running {
    pub(super) async fn new(graph: Graph, make_dispatcher: MakeDispatcher, delivers: bool) -> anyhow::Result<Arc<Self>> {
        let (progress, snapshots) = (RwLock::new(graph.progress()), graph.snapshots());
        let running = Self {
            graph: Mutex::new(Some(graph)),
            progress,
            failure: RwLock::default(),
            snapshots,
            stopping: AtomicBool::new(false),
            dispatcher: Mutex::default(),
            make_dispatcher,
            shown: RwLock::default(),
        };
        running.deliver(delivers).await?;
        Ok(Arc::new(running))
    }

    /// Starts or ends the delivery of notifications.
    async fn deliver(&self, delivers: bool) -> anyhow::Result<()> {
        let mut dispatcher = self.dispatcher.lock().await;
        match (dispatcher.take(), delivers) {
            (None, true) => *dispatcher = Some((self.make_dispatcher)()?),
            (Some(ending), false) => ending.finish(DELIVERIES_END_MAX).await,
            (same, _) => *dispatcher = same,
        }
        Ok(())
    }

    /// Ends the delivery of notifications.
    pub(super) async fn end_deliveries(&self) {
        if let Some(dispatcher) = self.dispatcher.lock().await.take() {
            dispatcher.finish(DELIVERIES_END_MAX).await;
        }
    }

    pub(super) fn progress(&self) -> Arc<Progress> {
        Arc::clone(&self.progress.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Why the program has to end.
    pub(super) fn failure(&self, cluster: bool) -> Option<String> {
        let own = self.failure.read().unwrap_or_else(PoisonError::into_inner).clone();
        let progress = self.progress();
        // One that lost partitions to another process goes on with those that it has.
        own.or_else(|| progress.report().failure.filter(|_| !(cluster && progress.is_fenced())))
    }

    /// Something beside the graph failed for good; what failed first stays.
    pub(super) fn fail(&self, error: &anyhow::Error) {
        tracing::error!("the program cannot go on: {error:#}");
        self.failure.write().unwrap_or_else(PoisonError::into_inner).get_or_insert_with(|| format!("{error:#}"));
    }

    /// What the health page says of the processes.
    pub(super) fn shown(&self) -> serde_json::Value {
        self.shown.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Ends the graph in order.
    pub(super) async fn stop(&self) -> anyhow::Result<()> {
        self.stopping.store(true, SeqCst);
        if let Some(graph) = self.graph.lock().await.take() {
            tokio::task::spawn_blocking(move || graph.stop()).await.context("stopping panicked")?.context("the graph ended")?;
        }
        match self.failure.read().unwrap_or_else(PoisonError::into_inner).clone() {
            Some(failure) => bail!(failure),
            None => Ok(()),
        }
    }
}

/// This process among the others.
pub(super) struct Member {
    id: String,
    lease: Duration,
    catalog: Catalog,
    journal: Journal,
    /// The beats of each process, and when they last changed by this process's clock.
    seen: BTreeMap<String, (i64, Instant)>,
    held: BTreeSet<u16>,
    /// What takes up other processes' changes of subscriptions.
    keeper: Option<Arc<subscriptions::Keeper>>,
}

/// What is to change.
struct Change {
    /// What is wanted, as far as it can be had.
    next: BTreeSet<u16>,
    gone: BTreeSet<String>,
}

impl Member {
    pub(super) fn new(id: String, lease: Duration, catalog: Catalog, journal: Journal) -> Self {
        Self { id, lease, catalog, journal, seen: BTreeMap::new(), held: BTreeSet::new(), keeper: None }
    }

    /// Whose subscriptions are to be kept in step with the other processes'.
    pub(super) fn follow(&mut self, keeper: Arc<subscriptions::Keeper>) {
        self.keeper = Some(keeper);
    }

    /// Takes what can be had at a start.
    pub(super) async fn begin(&mut self) -> anyhow::Result<Share> {
        let change = self.look().await?.0;
        let next = change.map(|change| (change.next, change.gone)).unwrap_or_default();
        self.held = self.catalog.claim_partitions(&self.id, &next.0, &next.1).await?;
        Ok(self.share())
    }

    fn share(&self) -> Share {
        let mut partitions = self.held.clone();
        let maintains = partitions.remove(&MAINTENANCE);
        Share::Part { partitions, maintains }
    }

    /// Shows that this process lives and finds out what is to change.
    async fn look(&mut self) -> anyhow::Result<(Option<Change>, serde_json::Value)> {
        let membership = self.catalog.beat(&self.id, now_ms()).await?;
        let now = Instant::now();
        self.seen.retain(|id, _| membership.beats.contains_key(id));
        for (id, beats) in &membership.beats {
            let seen = self.seen.entry(id.clone()).or_insert((*beats, now));
            if seen.0 != *beats {
                *seen = (*beats, now);
            }
        }
        let (live, gone): (BTreeSet<&String>, BTreeSet<&String>) = self
            .seen
            .iter()
            .map(|(id, seen)| (id, *id == self.id || seen.1.elapsed() <= self.lease))
            .fold(<_>::default(), |(mut live, mut gone), (id, lives)| {
                if lives {
                    live.insert(id)
                } else {
                    gone.insert(id)
                };
                (live, gone)
            });
        let live: Vec<&str> = live.into_iter().map(String::as_str).collect();
        let gone: BTreeSet<String> = gone.into_iter().cloned().collect();
        let wanted = wanted(&live, &self.id, &self.journal.partitions());
        let next = next(&self.held, &wanted, &membership, &self.id, &gone);
        let shown = json!({
            "process": self.id,
            "processes": live,
            "partitions": self.held.iter().filter(|partition| **partition != MAINTENANCE).collect::<Vec<_>>(),
            "maintains": self.held.contains(&MAINTENANCE),
        });
        Ok(((next != self.held).then_some(Change { next, gone }), shown))
    }

    /// Keeps what this process holds in step with who lives, for as long as the program runs.
    pub(super) async fn run(mut self, running: Arc<Running>, options: GraphOptions, engine: Engine) {
        let mut tries = 0;
        loop {
            tokio::time::sleep(self.lease / BEATS_IN_A_LEASE).await;
            // A graph that could not be started is tried again.
            let again = running.progress().is_fenced() || running.graph.lock().await.is_none();
            if let Some(keeper) = &self.keeper
                && let Err(error) = keeper.follow(&engine).await
            {
                tracing::warn!(%error, "subscriptions that other processes changed are not taken up, trying again");
            }
            let looked = self.look().await;
            let change = match looked {
                Ok((change, shown)) => {
                    *running.shown.write().unwrap_or_else(PoisonError::into_inner) = shown;
                    match change {
                        None if again => Change { next: self.held.clone(), gone: BTreeSet::new() },
                        None => continue,
                        Some(change) => change,
                    }
                }
                Err(error) => {
                    tracing::warn!(%error, "this process cannot show that it lives; past {:?} others take its partitions over", self.lease);
                    continue;
                }
            };
            match self.change(change, &running, &options, &engine).await {
                Ok(()) => tries = 0,
                Err(error) if tries < TRIES_MAX => {
                    tries += 1;
                    tracing::error!("the graph cannot go on with other partitions, trying again: {error:#}");
                }
                Err(error) => {
                    running.fail(&error);
                    return;
                }
            }
        }
    }

    /// Ends the graph with a last commit, agrees with the others on what this process holds, and starts it from the last commits.
    async fn change(&mut self, change: Change, running: &Running, options: &GraphOptions, engine: &Engine) -> anyhow::Result<()> {
        // Statements about subscriptions wait until the next graph is there.
        let keeper = self.keeper.clone();
        let _held = match &keeper {
            Some(keeper) => Some(keeper.hold().await),
            None => None,
        };
        let mut graph = running.graph.lock().await;
        if running.stopping.load(SeqCst) {
            return Ok(());
        }
        if let Some(old) = graph.take() {
            let progress = old.progress();
            let stopped = tokio::task::spawn_blocking(move || old.stop()).await.context("stopping panicked")?;
            if let Err(error) = stopped {
                if !progress.is_fenced() {
                    return Err(error.into());
                }
                tracing::warn!(%error, "this process was taken for dead; what it did not commit is done by others");
            }
        }
        let keep: BTreeSet<u16> = self.held.intersection(&change.next).copied().collect();
        self.catalog.release_partitions(&self.id, &keep).await?;
        self.held = self.catalog.claim_partitions(&self.id, &change.next, &change.gone).await?;
        tracing::info!(partitions = ?self.held.iter().filter(|partition| **partition != MAINTENANCE).collect::<Vec<_>>(), "this process holds other partitions");
        let options = GraphOptions { share: self.share(), ..options.clone() };
        let new =
            Graph::start_again(options, self.catalog.clone(), self.journal.clone(), running.snapshots.clone()).await.context("the graph does not start")?;
        *running.progress.write().unwrap_or_else(PoisonError::into_inner) = new.progress();
        if let Some(keeper) = &keeper {
            keeper.go_on(new.subscriptions(), engine).await.context("subscriptions cannot be taken up")?;
        }
        running.deliver(self.held.contains(&MAINTENANCE)).await?;
        *graph = Some(new);
        Ok(())
    }
}

/// What a process is to hold where these live: every n-th partition, and the first of them the maintenance.
fn wanted(live: &[&str], me: &str, partitions: &[u16]) -> BTreeSet<u16> {
    let Some(mine) = live.iter().position(|id| *id == me) else { return BTreeSet::new() };
    let share = partitions.iter().enumerate().filter(|(index, _)| index % live.len() == mine).map(|(_, partition)| *partition);
    share.chain((mine == 0).then_some(MAINTENANCE)).collect()
}

/// What a process holds next: what it holds and still wants, and what it wants that nobody else holds.
fn next(held: &BTreeSet<u16>, wanted: &BTreeSet<u16>, membership: &Membership, me: &str, gone: &BTreeSet<String>) -> BTreeSet<u16> {
    let can_be_had = |partition: &u16| match membership.holders.get(partition) {
        None => true,
        Some(holder) if holder == me => true,
        // Of one that is not even known any more, too.
        Some(holder) => gone.contains(holder) || !membership.beats.contains_key(holder),
    };
    let lost = |partition: &u16| membership.holders.get(partition).is_some_and(|holder| holder != me);
    wanted.iter().filter(|partition| if held.contains(partition) { !lost(partition) } else { can_be_had(partition) }).copied().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn partitions_are_shared_among_those_that_live() {
        let all = [0, 1, 2, 3, 4];
        assert_eq!(wanted(&["a"], "a", &all), [0, 1, 2, 3, 4, MAINTENANCE].into());
        assert_eq!(wanted(&["a", "b"], "a", &all), [0, 2, 4, MAINTENANCE].into());
        assert_eq!(wanted(&["a", "b"], "b", &all), [1, 3].into());
        assert_eq!(wanted(&["a", "b"], "c", &all), [].into());
    }

    #[test]
    fn what_another_holds_is_waited_for() {
        let holders = |held: &[(u16, &str)]| held.iter().map(|(partition, holder)| (*partition, (*holder).to_owned())).collect();
        let membership = |held: &[(u16, &str)]| Membership { beats: [("a".to_owned(), 1), ("b".to_owned(), 1)].into(), holders: holders(held) };
        let check = |held: &[u16], wanted: &[u16], of: &[(u16, &str)], gone: &[&str], expected: &[u16]| {
            let set = |partitions: &[u16]| partitions.iter().copied().collect::<BTreeSet<u16>>();
            let gone = gone.iter().map(|id| (*id).to_owned()).collect();
            assert_eq!(next(&set(held), &set(wanted), &membership(of), "a", &gone), set(expected), "{held:?} {wanted:?} {of:?}");
        };
        check(&[], &[0, 1], &[(1, "b")], &[], &[0]);
        check(&[0], &[0, 1], &[(0, "a"), (1, "b")], &[], &[0]);
        check(&[0], &[0, 1], &[(0, "a"), (1, "b")], &["b"], &[0, 1]);
        check(&[0, 1], &[0], &[(0, "a"), (1, "a")], &[], &[0]);
        check(&[0, 1], &[0, 1], &[(0, "a"), (1, "b")], &[], &[0]);
        check(&[], &[0], &[(0, "nobody knows")], &[], &[0]);
    }
}
