//! The order in which the parts start and stop.
//!
//! Start: lock, catalog, journal, graph, dispatcher, then the doors: nobody is let in before what they ask for is there. Stop:
//! the doors close and finish what is under way, then the journal takes no more, then the graph drains it and commits, then the
//! dispatcher sends what came of that, as far as it can at once; the rest is sent after the next start.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::Context;
use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle};
use serde_json::json;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use weir_catalog::{Catalog, ProjectRow};
use weir_dataflow::{Graph, GraphOptions, MaintenanceOptions, ProgressReport, Share};
use weir_ingest::{Doors, Health};
use weir_journal::{Journal, Status};
use weir_operators::interpret::Knowledge;
use weir_outbound::{Client, Courier, Dispatcher, Patience, Reach};
use weir_sql::{Engine, EngineOptions};

use crate::config::Config;
use crate::data_dir::{DataDir, ServeLock};

use catching_up::CatchingUp;
use cluster::{Member, Running};

mod catching_up;
mod cluster;
mod commands;
mod journal;
pub mod sources;
mod subscriptions;

/// The running program.
pub struct Weir {
    catalog: Catalog,
    journal: Journal,
    running: Arc<Running>,
    /// The name of this process among others, where there may be others.
    member: Option<String>,
    cluster_task: Option<JoinHandle<()>>,
    stop_doors: watch::Sender<bool>,
    doors: Vec<JoinHandle<()>>,
    commands_task: JoinHandle<()>,
    upkeep_task: JoinHandle<((), ())>,
    _lock: ServeLock,
}

/// How often the values of histograms are folded into buckets.
const METRICS_FOLDED_EVERY: Duration = Duration::from_secs(5);
/// How long the doors may take to finish what is under way. With the time for draining and for the last commit a stop stays
/// below ten seconds.
const DOORS_CLOSE_MAX: Duration = Duration::from_secs(3);

/// How long queries wait at a start for subscriptions to be taken up.
const TAKING_UP_MAX: Duration = Duration::from_secs(10);

/// How long notifications under way may take to end at a stop.
const DELIVERIES_END_MAX: Duration = Duration::from_secs(1);

/// The wall clock in Unix milliseconds.
pub fn now_ms() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_millis() as u64)
}

impl Weir {
    /// Starts everything; when it returns, requests are answered. `announce` is given the projects and, at the first start, the
    /// administrator's token just before the doors open: whoever is answered can also read where to send.
    pub async fn start(config: &Config, announce: impl FnOnce(&[ProjectRow], Option<&str>)) -> anyhow::Result<Self> {
        let data = DataDir::at(&config.data)?;
        data.create()?;
        let lock = data.lock()?;
        let metrics = install_metrics()?;
        // Ports first: a port in use is the commonest mistake, and nothing is written for it.
        let http = bind(config.http, "http").await?;
        let flight = bind(config.flight, "flight").await?;
        let location = config.catalog.location(&data);
        let catalog = Catalog::open_at(&location).await.with_context(|| format!("the catalog {location} cannot be opened"))?;
        catalog.create_first_project(now_ms()).await?;
        let projects = catalog.projects().await?;
        let journal = journal::open(config, &data, &catalog).await?;
        let lease = config.cluster.lease.0;
        let mut member = match lease.is_zero() {
            true => None,
            false => Some(Member::new(data.process_id()?, lease, catalog.clone(), journal.clone())),
        };
        let share = match &mut member {
            None => Share::All,
            Some(member) => member.begin().await.context("this process cannot join the others")?,
        };
        let options = GraphOptions {
            share,
            workers: config.workers,
            lake: config.store.folder()?.unwrap_or_else(|| data.lake()),
            commit_age_max: config.commit.max_age.0,
            commit_bytes_max: config.commit.max_bytes.0 as usize,
            maintenance: MaintenanceOptions {
                grace: config.lake.grace.0,
                file_bytes: config.lake.file_bytes.0,
                memory_bytes: config.lake.max_bytes.0,
                cpu_percent: config.lake.max_cpu_percent,
                ..MaintenanceOptions::default()
            },
            knowledge: Knowledge { places: config.geo.places()?.map(Arc::new), ..Knowledge::default() },
        };
        let graph = Graph::start(options.clone(), catalog.clone(), journal.clone()).await.context("the graph does not start")?;

        let engine = Engine::new(
            graph.snapshots(),
            EngineOptions {
                memory_bytes_max: config.query.max_bytes.0 as usize,
                query_memory_bytes_max: config.query.max_bytes_per_query.0 as usize,
                spill_bytes_max: config.query.max_spill_bytes.0,
                query_time_max: config.query.max_time.0,
                rows_max: config.query.max_rows,
                concurrent_queries_max: config.query.max_concurrent,
                organisation_queries_max: config.query.max_concurrent_per_org,
                token_queries_max: config.query.max_concurrent_per_token,
                wait_max: config.query.max_wait.0,
                spill: data.spill(),
                ..EngineOptions::default()
            },
        )
        .context("queries cannot be answered")?;
        let (keeper, taking_up) = subscriptions::Keeper::start(catalog.clone(), graph.subscriptions(), &engine, member.is_some())
            .await
            .context("subscriptions cannot be taken up")?;
        if let Some(member) = &mut member {
            member.follow(Arc::clone(&keeper));
        }
        engine.set_subscriptions(keeper);
        let (stop_doors, stopped) = watch::channel(false);
        let known_projects = graph.known_projects();
        let (settings, shared_catalog) = (config.clone(), catalog.clone());
        let make_dispatcher = Box::new(move || start_dispatcher(&settings, &shared_catalog));
        let delivers = !matches!(&options.share, Share::Part { maintains: false, .. });
        let running = Running::new(graph, make_dispatcher, delivers).await?;
        let catching_up = CatchingUp::default();
        let upkeep_task = tokio::spawn(futures::future::join(keep_metrics(metrics.clone()), catching_up.clone().watch(journal.clone(), Arc::clone(&running))));
        let health = health(metrics, &journal, &running, &engine, catching_up);
        let router = weir_ingest::router(Doors::new(journal.clone(), sources::Keys(catalog.clone()), health));
        // Made when it can be printed: a start that ends before leaves it to the next.
        let first_token = catalog.create_first_token("admin", now_ms()).await?;
        announce(&projects, first_token.as_deref());
        let tokens = sources::Tokens(catalog.clone());
        let name = member.is_some().then(|| data.process_id()).transpose()?;
        let cluster_task = member.map(|member| tokio::spawn(member.run(Arc::clone(&running), options, engine.clone())));
        let doors = vec![
            door(serve_http(http, router, until_stopped(stopped.clone())), &running),
            door(
                async move {
                    // Whoever asks for the rows of a subscription right after a start is to see them.
                    let _ = tokio::time::timeout(TAKING_UP_MAX, taking_up).await;
                    serve_flight(flight, engine, tokens, until_stopped(stopped)).await
                },
                &running,
            ),
        ];
        let commands_task = tokio::spawn(commands::journal_all(catalog.clone(), journal.clone(), Arc::clone(&running), known_projects));
        Ok(Self { catalog, journal, running, member: name, cluster_task, stop_doors, doors, commands_task, upkeep_task, _lock: lock })
    }

    /// Resolves when the graph or a door has failed for good.
    pub fn failure(&self) -> impl Future<Output = ()> + use<> {
        let (running, cluster) = (Arc::clone(&self.running), self.member.is_some());
        async move {
            while running.failure(cluster).is_none() {
                tokio::time::sleep(Duration::from_millis(200)).await;
            }
        }
    }

    /// Stops everything in order: what was accepted is committed, or stays in the journal for the next start.
    pub async fn stop(self) -> anyhow::Result<()> {
        self.commands_task.abort();
        self.upkeep_task.abort();
        self.stop_doors.send_replace(true);
        // All doors share the time: what is under way in one does not lengthen the stop of another.
        let deadline = tokio::time::Instant::now() + DOORS_CLOSE_MAX;
        for mut door in self.doors {
            // What ended one before was told by it; the rest is stopped in order all the same.
            match tokio::time::timeout_at(deadline, &mut door).await {
                Ok(Ok(())) => {}
                Ok(Err(error)) => tracing::error!(%error, "a door panicked"),
                Err(_) => door.abort(),
            }
        }
        let journal = self.journal;
        tokio::task::spawn_blocking(move || journal.close()).await.context("stopping panicked")?;
        self.running.stop().await?;
        if let Some(task) = self.cluster_task {
            task.abort();
        }
        if let Some(name) = &self.member
            && let Err(error) = self.catalog.leave(name).await
        {
            tracing::warn!(%error, "the other processes were not told of the end; they find out when the lease is over");
        }
        self.running.end_deliveries().await;
        self.catalog.close().await;
        tracing::info!("stopped");
        Ok(())
    }
}

/// A door that is served until the stop. One that ends before ends the program: nobody would come in by it any more.
fn door(serving: impl Future<Output = anyhow::Result<()>> + Send + 'static, running: &Arc<Running>) -> JoinHandle<()> {
    let running = Arc::clone(running);
    tokio::spawn(async move {
        if let Err(error) = serving.await {
            running.fail(&error);
        }
    })
}

async fn bind(address: std::net::SocketAddr, flag: &str) -> anyhow::Result<TcpListener> {
    TcpListener::bind(address).await.with_context(|| format!("the address {address} cannot be used: stop what uses it, or give another with --{flag}"))
}

fn start_dispatcher(config: &Config, catalog: &Catalog) -> anyhow::Result<Dispatcher> {
    let client = Client::new(Reach::allowing(config.outbound.allow.0.clone()))?;
    Ok(Dispatcher::start(catalog.clone(), Courier::new(client, config.mail.server()?), Patience::default()))
}

fn install_metrics() -> anyhow::Result<PrometheusHandle> {
    let seconds = [0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0];
    let milliseconds = seconds.map(|s| s * 1000.0);
    let records = [1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0, 512.0, 1024.0];
    let recorder = PrometheusBuilder::new()
        .set_buckets_for_metric(Matcher::Suffix("_seconds".to_owned()), &seconds)?
        .set_buckets_for_metric(Matcher::Suffix("_milliseconds".to_owned()), &milliseconds)?
        .set_buckets_for_metric(Matcher::Suffix("_records".to_owned()), &records)?
        .build_recorder();
    let handle = recorder.handle();
    metrics::set_global_recorder(recorder).map_err(|_| anyhow::anyhow!("metrics are already recorded by something else in this process"))?;
    Ok(handle)
}

/// Folds what histograms were given into their buckets: until then every value is kept, whether anybody asks for metrics or not.
async fn keep_metrics(metrics: PrometheusHandle) {
    let mut every = tokio::time::interval(METRICS_FOLDED_EVERY);
    loop {
        every.tick().await;
        metrics.run_upkeep();
    }
}

/// What `/_health/` and `/metrics` say.
fn health(metrics: PrometheusHandle, journal: &Journal, running: &Arc<Running>, engine: &Engine, catching_up: CatchingUp) -> Health {
    let (journal, running, engine) = (journal.clone(), Arc::clone(running), engine.clone());
    Health {
        metrics: Arc::new(move || {
            engine.observe();
            metrics.run_upkeep();
            metrics.render()
        }),
        report: Arc::new(move || report(&journal, &running, &catching_up)),
    }
}

fn report(journal: &Journal, running: &Running, catching_up: &CatchingUp) -> (bool, serde_json::Value) {
    let (log, graph) = (journal.status(), running.progress().report());
    let healthy = log.healthy && graph.failure.is_none() && graph.trouble.is_none();
    let lag = graph.lag_records(&log.ends);
    let partitions: Vec<_> = log
        .ends
        .keys()
        .chain(graph.visible_offsets.keys())
        .collect::<BTreeSet<_>>()
        .into_iter()
        .map(|partition| partition_report(*partition, &log, &graph))
        .collect();
    let detail = json!({
        "healthy": healthy,
        "version": env!("CARGO_PKG_VERSION"),
        "journal": {
            "healthy": log.healthy, "error": log.error, "place": log.place, "bytes": log.bytes, "segments": log.segments, "partitions": partitions,
            "lost_records": log.damages.iter().map(weir_journal::Damage::records).sum::<u64>(),
            "damages": log.damages.iter().map(ToString::to_string).collect::<Vec<_>>(),
        },
        "graph": graph,
        "cluster": running.shown(),
        "lag_records": lag,
        "catching_up": catching_up.estimate(),
    });
    (healthy, detail)
}

/// How far a partition is in the journal and in the tables; without the latter where another process reads it.
fn partition_report(partition: u16, log: &Status, graph: &ProgressReport) -> serde_json::Value {
    let (end, visible) = (log.ends.get(&partition), graph.visible_offsets.get(&partition));
    let lag = end.zip(visible).map(|(end, visible)| end.saturating_sub(*visible));
    json!({
        "partition": partition, "start": log.starts.get(&partition), "end": end, "visible": visible,
        "committed": graph.committed_offsets.get(&partition), "lag_records": lag,
    })
}

async fn until_stopped(mut stopped: watch::Receiver<bool>) {
    // An error means that the sender is gone, which ends serving just as well.
    let _ = stopped.wait_for(|stop| *stop).await;
}

async fn serve_http(listener: TcpListener, router: weir_ingest::Router, stop: impl Future<Output = ()> + Send + 'static) -> anyhow::Result<()> {
    weir_ingest::serve(listener, router, stop).await.context("serving HTTP")
}

async fn serve_flight(listener: TcpListener, engine: Engine, tokens: sources::Tokens, stop: impl Future<Output = ()> + Send + 'static) -> anyhow::Result<()> {
    weir_sql::serve(listener, engine, tokens, stop).await.context("serving Flight SQL")
}
