//! The graph's threads: started from the last commit, stopped with a last one.
//!
//! One ticker, N timely workers, one publisher, one committer, one maintenance. They meet in channels: ticks go from the ticker to the
//! workers, what the workers made of them goes to the publisher, epochs go from the publisher to the committer and back.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::rc::Rc;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, SystemTime};

use timely::WorkerConfig;
use timely::communication::WorkerGuards;
use timely::scheduling::SyncActivator;
use tokio::runtime::Handle;
use weir_catalog::{Catalog, CatalogError, Lake, MAINTENANCE, Restored, RestoredAlerts};
use weir_journal::{Journal, JournalError, Offsets};
use weir_operators::deduplicate::{Identity, Recent};
use weir_operators::interpret::Knowledge;
use weir_operators::issues::{IssueState, Issues};
use weir_operators::output::{Advance, route};
use weir_operators::rows::ProjectRow;

use crate::committer::Committer;
use crate::lake::{self, UnexpectedColumn};
use crate::maintenance::{Maintenance, MaintenanceOptions, Tools};
use crate::others::{Others, Own};
use crate::pipeline;
use crate::progress::Progress;
use crate::publisher::{CommitPolicy, Message, Publisher, Tables};
use crate::reach::Reach;
use crate::restore::{self, SeenError};
use crate::snapshot::{DataFile, Snapshots};
use crate::source::TickInput;
use crate::subscriptions::alarm::Alarm;
use crate::subscriptions::command::{Mailbox, Notice};
use crate::subscriptions::coordinator::Coordinator;
use crate::subscriptions::feed::Feed;
use crate::subscriptions::recorder::{Outgoing, Recorder};
use crate::subscriptions::{self, AlertStore, Shared, Subscriptions};
use crate::ticker::{Ticker, WorkerInput, now_ms};
use crate::worker::WorkerLoop;

/// How the graph runs.
#[derive(Debug, Clone)]
pub struct GraphOptions {
    /// Timely workers.
    pub workers: usize,
    /// The folder of the lake's files.
    pub lake: PathBuf,
    /// How long rows may wait for a commit.
    pub commit_age_max: Duration,
    /// How many bytes of rows may wait for a commit.
    pub commit_bytes_max: usize,
    /// How the lake is maintained.
    pub maintenance: MaintenanceOptions,
    /// What of the journal and of the lake is this process's.
    pub share: Share,
    /// What interpretation knows beside the items.
    pub knowledge: Knowledge,
}

/// What of the journal and of the lake is a process's.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Share {
    /// Everything.
    #[default]
    All,
    /// Some partitions; other processes have the rest.
    Part {
        /// The partitions.
        partitions: BTreeSet<u16>,
        /// Whether this process maintains the lake.
        maintains: bool,
    },
}

/// Where other processes may be about to register them, how old files have to be that nothing names before they are removed.
const UNNAMED_AGE_MIN: Duration = Duration::from_secs(3600);

/// Why the graph did not start, or ended.
#[derive(Debug, thiserror::Error)]
pub enum GraphError {
    /// The catalog failed.
    #[error(transparent)]
    Catalog(#[from] CatalogError),
    /// The lake's tables are not as they should be.
    #[error(transparent)]
    Lake(#[from] UnexpectedColumn),
    /// Committed files could not be read.
    #[error(transparent)]
    Seen(#[from] SeenError),
    /// The state of the last commit is not what Weir writes.
    #[error("the state of the last commit cannot be read ({0}): restore the data directory from a backup")]
    State(#[from] serde_json::Error),
    /// Files of the lake could not be looked at or removed.
    #[error("the folder of the lake {path}: {source}")]
    Folder {
        /// The folder.
        path: PathBuf,
        /// What the operating system said.
        source: std::io::Error,
    },
    /// The journal does not hold what the last commit continues from, or cannot be read.
    #[error(transparent)]
    Journal(#[from] JournalError),
    /// Threads could not be started.
    #[error("the graph's threads do not start: {0}")]
    Threads(String),
    /// Something ended the graph while it ran.
    #[error("{0}")]
    Failed(String),
}

/// The running graph.
pub struct Graph {
    snapshots: Snapshots,
    progress: Arc<Progress>,
    known_projects: BTreeMap<u64, u16>,
    subscriptions: Subscriptions,
    threads: Vec<JoinHandle<()>>,
    workers: Option<WorkerGuards<()>>,
}

/// Messages that wait for the publisher. Few ticks are in flight and each worker says little about each, so that the channel
/// never fills and no worker ever waits here.
const MESSAGES_MAX: usize = 1024;

/// What one worker starts from.
pub(crate) struct WorkerState {
    pub(crate) ticks: Receiver<TickInput>,
    pub(crate) recent: Recent,
    pub(crate) issues: Issues,
    pub(crate) projects: Vec<ProjectRow>,
    pub(crate) knowledge: Knowledge,
}

impl Graph {
    /// Starts from the last commit. Takes the partitions over: a process that held them before cannot commit any more.
    pub async fn start(options: GraphOptions, catalog: Catalog, journal: Journal) -> Result<Self, GraphError> {
        let alerts = Arc::new(catalog.clone());
        Self::start_with(options, catalog, journal, alerts).await
    }

    /// The same with alerts kept elsewhere than in the catalog.
    pub async fn start_with(options: GraphOptions, catalog: Catalog, journal: Journal, alerts: Arc<dyn AlertStore>) -> Result<Self, GraphError> {
        Self::start_showing(options, catalog, journal, alerts, None).await
    }

    /// The same after an earlier graph of this process, whose readers go on with this one's snapshots.
    pub async fn start_again(options: GraphOptions, catalog: Catalog, journal: Journal, snapshots: Snapshots) -> Result<Self, GraphError> {
        let alerts = Arc::new(catalog.clone());
        Self::start_showing(options, catalog, journal, alerts, Some(snapshots)).await
    }

    async fn start_showing(
        options: GraphOptions,
        catalog: Catalog,
        journal: Journal,
        alerts: Arc<dyn AlertStore>,
        snapshots: Option<Snapshots>,
    ) -> Result<Self, GraphError> {
        lake::create(&options.lake).map_err(|source| GraphError::Folder { path: options.lake.clone(), source })?;
        let lake = catalog.ensure_lake(&lake::lake_tables(), &options.lake).await?;
        lake::verify(&lake)?;
        let (partitions, maintains) = match &options.share {
            Share::All => (journal.partitions().into_iter().collect(), true),
            Share::Part { partitions, maintains } => (partitions.clone(), *maintains),
        };
        let taken: Vec<u16> = partitions.iter().copied().chain(maintains.then_some(MAINTENANCE)).collect();
        let generation = catalog.take_partitions(&taken, now_ms()).await?;
        let restored = catalog.restore().await?;
        let start: Offsets = partitions.iter().map(|partition| (*partition, restored.offsets.get(partition).copied().unwrap_or_default())).collect();
        journal.check(&start)?;
        let tables_root = lake::tables_root(&options.lake);
        let shared = options.share != Share::All;
        let cold = cold_files(&catalog, &lake, &tables_root, shared).await?;
        let (worker_states, inputs) = worker_states(&options, &restored, &cold)?;
        let mut tables = restored_tables(&restored, cold, start.clone())?;
        if shared {
            let own = Own { partitions, generation, journal: journal.clone(), catalog: catalog.clone(), slugs: Arc::default() };
            own.learn().await?;
            tables.own = Some(own);
        }
        let known = |state: &String| {
            let common = serde_json::from_str::<ProjectRow>(state)?.common;
            Ok((common.project_id as u64, common.retention_days as u16))
        };
        let known_projects = restored.projects.iter().map(known).collect::<Result<BTreeMap<u64, u16>, serde_json::Error>>()?;
        let restored_alerts = alerts.restore_alerts().await?;
        let parts = Parts {
            options,
            catalog,
            journal,
            lake,
            tables_root,
            generation,
            start,
            last_tick: restored.tick_ms.max(restored_alerts.tick_ms),
            alerts,
            restored_alerts,
            maintains,
            snapshots,
        };
        parts.spawn(tables, worker_states, inputs, known_projects)
    }

    /// The newest snapshot, for queries.
    pub fn snapshots(&self) -> Snapshots {
        self.snapshots.clone()
    }

    /// How far the graph is.
    pub fn progress(&self) -> Arc<Progress> {
        Arc::clone(&self.progress)
    }

    /// The projects that the graph knew when it started, with the days that their rows are kept.
    pub fn known_projects(&self) -> BTreeMap<u64, u16> {
        self.known_projects.clone()
    }

    /// The subscriptions.
    pub fn subscriptions(&self) -> Subscriptions {
        self.subscriptions.clone()
    }

    /// Drains the journal, commits, and ends the threads. Blocks; the journal should take no more by now.
    ///
    /// # Errors
    /// What ended the graph before, if anything did.
    pub fn stop(mut self) -> Result<(), GraphError> {
        self.progress.stop();
        for thread in self.threads.drain(..) {
            if thread.join().is_err() {
                self.progress.fail("a thread of the graph panicked".to_owned());
            }
        }
        drop(self.workers.take());
        match self.progress.report().failure {
            Some(failure) => Err(GraphError::Failed(failure)),
            None => Ok(()),
        }
    }
}

impl Drop for Graph {
    /// A graph that is not stopped in order ends all the same: its threads would wait for each other for ever.
    fn drop(&mut self) {
        self.progress.stop();
    }
}

type Cold = BTreeMap<&'static str, Arc<[DataFile]>>;

async fn cold_files(catalog: &Catalog, lake: &Lake, tables_root: &std::path::Path, shared: bool) -> Result<Cold, GraphError> {
    let files = lake::data_files(catalog.lake_files(lake, &["received", "project_id"]).await?);
    // Replaced files are kept for readers of older snapshots; the maintenance removes them in time.
    let named = catalog.named_files().await?;
    let now = SystemTime::now();
    let before = if shared { now.checked_sub(UNNAMED_AGE_MIN).unwrap_or(now) } else { now };
    let removed = lake::remove_unnamed(tables_root, &named, before).map_err(|source| GraphError::Folder { path: tables_root.to_owned(), source })?;
    if removed > 0 {
        tracing::info!(removed, "removed files that no commit names");
    }
    let mut cold: BTreeMap<&'static str, Vec<DataFile>> = BTreeMap::new();
    for (table, file) in files {
        if let Some(table) = weir_operators::schema::table(&table) {
            cold.entry(table.name).or_default().push(file);
        }
    }
    Ok(cold.into_iter().map(|(table, files)| (table, files.into())).collect())
}

/// Each worker's share of the state: that of the projects which are routed to it.
fn worker_states(options: &GraphOptions, restored: &Restored, cold: &Cold) -> Result<(Vec<WorkerState>, Vec<SyncSender<TickInput>>), GraphError> {
    let files = |table| cold.get(table).map_or(&[][..], |files| files);
    let seen = restore::seen(files("payloads"), files("items"))?;
    let (mut states, mut inputs) = (Vec::new(), Vec::new());
    let projects = restored.projects.iter().map(|state| serde_json::from_str(state)).collect::<Result<Vec<ProjectRow>, _>>()?;
    for worker in 0..options.workers as u64 {
        let mine = |project_id: u64| route(project_id) % options.workers as u64 == worker;
        let (sender, ticks) = sync_channel(4);
        let mut recent = Recent::default();
        for item in seen.iter().filter(|item| mine(item.project_id)) {
            recent.remember(item.identity, item.received_ms);
        }
        for deleted in restored.identities.iter().filter(|deleted| mine(deleted.project_id)) {
            recent.remember(Identity::from_bytes(deleted.identity), deleted.received_ms);
        }
        let mut issues = Issues::default();
        for row in restored.issues.iter().filter(|row| mine(row.project_id)) {
            issues.restore_issue(serde_json::from_str::<IssueState>(&row.state)?);
        }
        for row in restored.hashes.iter().filter(|row| mine(row.project_id)) {
            issues.restore_hash(row.project_id, row.hash, row.group_id);
        }
        for (project_id, number) in restored.issue_numbers.iter().filter(|(project_id, _)| mine(*project_id)) {
            issues.restore_number(*project_id, *number);
        }
        for pending in restored.deletions.iter().filter(|pending| mine(pending.deletion.project_id())) {
            issues.restore_deletion(pending.seq);
        }
        states.push(WorkerState { ticks, recent, issues, projects: projects.clone(), knowledge: options.knowledge.clone() });
        inputs.push(sender);
    }
    Ok((states, inputs))
}

fn restored_tables(restored: &Restored, cold: Cold, upper: Offsets) -> Result<Tables, GraphError> {
    let mut tables = Tables { cold, upper, ..Tables::default() };
    for row in &restored.issues {
        let state: IssueState = serde_json::from_str(&row.state)?;
        tables.issues.upsert((state.row.common.project_id, state.row.group_id), state.row);
    }
    for pending in &restored.deletions {
        tables.deletions.insert(pending.seq, Arc::new(Reach::new(pending.seq, &pending.deletion)));
    }
    for state in &restored.projects {
        let row: ProjectRow = serde_json::from_str(state)?;
        tables.projects.upsert((row.common.project_id, 0), row);
    }
    Ok(tables)
}

struct Parts {
    options: GraphOptions,
    catalog: Catalog,
    journal: Journal,
    lake: Lake,
    tables_root: PathBuf,
    generation: i64,
    start: Offsets,
    last_tick: u64,
    alerts: Arc<dyn AlertStore>,
    restored_alerts: RestoredAlerts,
    maintains: bool,
    snapshots: Option<Snapshots>,
}

impl Parts {
    fn spawn(
        self,
        mut tables: Tables,
        states: Vec<WorkerState>,
        inputs: Vec<SyncSender<TickInput>>,
        known_projects: BTreeMap<u64, u16>,
    ) -> Result<Graph, GraphError> {
        let mut restored_alerts = self.restored_alerts;
        let progress = Arc::new(Progress::default());
        progress.published(self.last_tick, &self.start);
        progress.committed(&self.start, 0);
        let first = tables.snapshot(self.last_tick);
        let snapshots = match self.snapshots {
            None => Snapshots::new(first),
            Some(snapshots) => {
                snapshots.publish(first);
                snapshots
            }
        };
        let (publisher, messages) = sync_channel(MESSAGES_MAX);
        // One epoch at a time: the next is made when the last is committed.
        let (epochs, waiting) = sync_channel(1);
        let (notices, noticed) = sync_channel(MESSAGES_MAX);
        let mailboxes: Vec<Arc<Mailbox>> = states.iter().map(|_| Arc::default()).collect();
        let alarm = Arc::new(Alarm::new(self.journal.clone()));
        let shared = Arc::new(Shared::new(notices.clone()));
        let outgoing = Arc::new(Outgoing::default());
        let ends = WorkerEnds { publisher: publisher.clone(), notices: notices.clone(), mailboxes: mailboxes.clone(), progress: Arc::clone(&progress) };
        let (workers, activators) = spawn_workers(states, ends)?;
        let count = inputs.len();
        let ticker = Ticker {
            reader: self.journal.reader(&self.start)?,
            workers: inputs.into_iter().zip(activators).map(|(ticks, activator)| WorkerInput { ticks, activator }).collect(),
            publisher: publisher.clone(),
            progress: Arc::clone(&progress),
            notices: notices.clone(),
            alarm: Arc::clone(&alarm),
            last: self.last_tick,
            was_ahead: false,
        };
        if let Some(own) = &tables.own {
            restored_alerts.active.retain(|alert| own.holds_key(&alert.key));
        }
        let coordinator = Coordinator {
            own: tables.own.clone(),
            notices: noticed,
            shared: Arc::clone(&shared),
            mailboxes,
            outgoing: Arc::clone(&outgoing),
            alarm,
            snapshots: snapshots.clone(),
            progress: Arc::clone(&progress),
            runtime: Handle::current(),
            state: subscriptions::coordinator::State::new(count, restored_alerts, self.last_tick, tables.upper.clone(), self.journal.known_ends()),
        };
        let recorder = Recorder { outgoing, store: self.alerts, generation: self.generation, progress: Arc::clone(&progress), runtime: Handle::current() };
        let maintenance = Maintenance::new(Tools {
            options: self.options.maintenance,
            catalog: self.catalog.clone(),
            journal: self.journal.clone(),
            lake: self.lake.clone(),
            tables_root: self.tables_root.clone(),
            generation: self.generation,
            snapshots: snapshots.clone(),
            publisher: publisher.clone(),
            progress: Arc::clone(&progress),
            runtime: Handle::current(),
        });
        let (committed, commits) = sync_channel(1);
        let others = tables.own.clone().map(|own| Others {
            own,
            catalog: self.catalog.clone(),
            lake: self.lake.clone(),
            snapshots: snapshots.clone(),
            publisher: publisher.clone(),
            progress: Arc::clone(&progress),
            runtime: Handle::current(),
        });
        let committer = Committer {
            epochs: waiting,
            publisher,
            catalog: self.catalog,
            lake: self.lake,
            tables_root: self.tables_root,
            generation: self.generation,
            progress: Arc::clone(&progress),
            runtime: Handle::current(),
        };
        let policy = CommitPolicy { age_max: self.options.commit_age_max, bytes_max: self.options.commit_bytes_max };
        let publisher = Publisher {
            messages,
            epochs,
            snapshots: snapshots.clone(),
            journal: self.journal,
            progress: Arc::clone(&progress),
            policy,
            tables,
            maintenance: committed,
            notices,
        };
        let maintains = self.maintains;
        let mut threads = vec![
            thread("weir-ticker", &progress, move || ticker.run().map_err(|e| format!("the journal cannot be read: {e}")))?,
            thread("weir-publisher", &progress, move || publisher.run(count).map_err(|e| format!("publishing rows: {e}")))?,
            thread("weir-committer", &progress, move || {
                committer.run();
                Ok(())
            })?,
            thread("weir-alerts", &progress, move || {
                coordinator.run();
                Ok(())
            })?,
            thread("weir-recorder", &progress, move || {
                recorder.run();
                Ok(())
            })?,
            thread("weir-maintenance", &progress, move || {
                // Otherwise nobody listens, which the publisher is told by the channel's end.
                if maintains {
                    maintenance.run(&commits);
                }
                Ok(())
            })?,
        ];
        if let Some(others) = others {
            threads.push(thread("weir-others", &progress, move || {
                others.run();
                Ok(())
            })?);
        }
        let subscriptions = Subscriptions { shared };
        Ok(Graph { snapshots, progress, known_projects, subscriptions, threads, workers: Some(workers) })
    }
}

fn thread(name: &str, progress: &Arc<Progress>, run: impl FnOnce() -> Result<(), String> + Send + 'static) -> Result<JoinHandle<()>, GraphError> {
    let progress = Arc::clone(progress);
    let body = move || {
        if let Err(error) = run() {
            tracing::error!(%error, "the graph ended");
            progress.fail(error);
        }
    };
    std::thread::Builder::new().name(name.to_owned()).spawn(body).map_err(|e| GraphError::Threads(e.to_string()))
}

/// Where workers send what they make.
#[derive(Clone)]
struct WorkerEnds {
    publisher: SyncSender<Message>,
    notices: SyncSender<Notice>,
    mailboxes: Vec<Arc<Mailbox>>,
    progress: Arc<Progress>,
}

/// Starts the timely workers; returns when each has built the graph.
fn spawn_workers(states: Vec<WorkerState>, ends: WorkerEnds) -> Result<(WorkerGuards<()>, Vec<SyncActivator>), GraphError> {
    let count = states.len();
    let communication = if count == 1 { timely::CommunicationConfig::Thread } else { timely::CommunicationConfig::Process(count) };
    // An idle worker parks at once: ticks come tens of milliseconds apart, and spinning would only burn a core.
    let config = timely::Config { communication, worker: WorkerConfig::default().idle_spin(Duration::ZERO) };
    let states: Mutex<Vec<Option<WorkerState>>> = Mutex::new(states.into_iter().map(Some).collect());
    let (built, activators) = sync_channel(count);
    let (ends, built) = (Mutex::new(ends), Mutex::new(built));
    let guards = timely::execute(config, move |worker| {
        let index = worker.index();
        let mut state = states.lock().unwrap_or_else(PoisonError::into_inner).get_mut(index).and_then(Option::take).expect("each worker takes its state once");
        let WorkerEnds { publisher, notices, mailboxes, progress } = ends.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let end = EndOfWorker { index, publisher: publisher.clone(), progress: Arc::clone(&progress) };
        let feed = Rc::new(RefCell::new(Feed::new(std::mem::take(&mut state.projects))));
        let (fed, ticking) = (Rc::clone(&feed), Rc::clone(&feed));
        let advance = move |advance: Advance| {
            // Held so that the publisher hears of a worker's end even when the worker panics.
            let _end = &end;
            fed.borrow_mut().take(&advance);
            let _ = publisher.send(Message::Advanced { worker: index, frontier: advance.frontier, outputs: advance.outputs });
        };
        let activator = worker.dataflow(|scope| pipeline::build(scope, state, move |tick| ticking.borrow_mut().release(tick), advance));
        let _ = built.lock().unwrap_or_else(PoisonError::into_inner).send((index, activator));
        WorkerLoop::new(index, feed, Arc::clone(&mailboxes[index]), notices, progress).run(worker);
    })
    .map_err(GraphError::Threads)?;
    let mut activators: Vec<(usize, SyncActivator)> = activators.iter().take(count).collect();
    activators.sort_by_key(|(index, _)| *index);
    if activators.len() != count {
        return Err(GraphError::Threads("a worker ended before the graph was built".to_owned()));
    }
    Ok((guards, activators.into_iter().map(|(_, activator)| activator).collect()))
}

/// Says that a worker ended when its graph is dropped, in order or by a panic.
struct EndOfWorker {
    index: usize,
    publisher: SyncSender<Message>,
    progress: Arc<Progress>,
}

impl Drop for EndOfWorker {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.progress.fail("a worker of the graph panicked; the journal keeps what it had before it".to_owned());
        }
        let _ = self.publisher.send(Message::Advanced { worker: self.index, frontier: None, outputs: Vec::new() });
    }
}
