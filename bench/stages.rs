//! A benchmark a stage of an event's way, over the recorded error events that average 12 KB: `cargo bench`.
//!
//! Every benchmark does its work for the same events, [`EVENTS`] of them with ids and times of their own, so the figures can be
//! added up and compared with the whole path. They are wall times of one thread: on a machine that does other things compare
//! them with each other, not with those of another day.

use std::hint::black_box;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use criterion::{BatchSize, BenchmarkGroup, Criterion, Throughput, criterion_group, criterion_main};
use http_body_util::Full;
use hyper::Request;
use tokio::runtime::Runtime;
use tower::ServiceExt;
use weir::boot::sources::Keys;
use weir::commands::load::corpus::{self, Sample};
use weir::commands::load::encoder::Encoder;
use weir::commands::load::fresh::{Source, Spread};
use weir::commands::load::template::Varied;
use weir_catalog::Catalog;
use weir_dataflow::{Graph, GraphOptions, MaintenanceOptions};
use weir_ingest::{Doors, Health, Router};
use weir_journal::Journal;
use weir_operators::decode::{Decoded, Entry, Item, decode};
use weir_operators::deduplicate::Recent;
use weir_operators::fact::{Fact, Rows};
use weir_operators::grouping::{self, Rules};
use weir_operators::interpret::{Knowledge, interpret};
use weir_operators::issues::Issues;
use weir_operators::normalise::{self, EventContext};
use weir_operators::rows::{ErrorRow, OutcomeRow, PayloadRow, TableRow};
use weir_protocol::encoding::Encoding;
use weir_protocol::envelope::Envelope;
use weir_protocol::json::Json;
use weir_protocol::limits::ENVELOPE_BYTES_MAX;
use weir_protocol::record::{Body, Content, Intake, Position, Project, Record};

/// Events of one round: some seconds of traffic would not fit into any cache, one event would always.
const EVENTS: usize = 256;
/// The recorded events, and that they average 12 KB.
const ONLY: &str = "^(py|node|rust)_event";
/// Requests at a time on the whole path.
const CONNECTIONS: usize = 8;

fn now_ms() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).expect("the clock is past 1970").as_millis() as u64
}

fn samples() -> Vec<Sample> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/corpus/envelopes");
    let only = regex::Regex::new(ONLY).expect("the expression is one");
    corpus::read(&folder, &only, Varied { issues: true, users: true, releases: true }, |name, reason| panic!("{name}: {reason}")).expect("the corpus is there")
}

/// Envelopes with ids of their own, plain and as they are sent.
fn bodies(random: u64) -> Vec<(Bytes, Bytes)> {
    let samples = samples();
    let source = Source::new(random, Spread { issues_per_event: 100, users: 1000, releases: 10 });
    let mut encoder = Encoder::new().expect("the compressors begin");
    let mut scratch = Vec::new();
    let mut bodies = Vec::new();
    for number in 0..EVENTS {
        let mut plain = Vec::new();
        let fresh = source.fresh(number as u64, "http://0123456789abcdef0123456789abcdef@127.0.0.1:9000/1", "0123456789abcdef0123456789abcdef");
        samples[number % samples.len()].template.fill(&fresh, &mut plain, &mut scratch);
        let packed = encoder.encode(Encoding::Gzip, &plain).expect("text is compressed");
        bodies.push((plain.into(), packed.into()));
    }
    bodies
}

fn record(plain: &Bytes, packed: &Bytes) -> Record {
    let envelope = Envelope::parse(plain).expect("it is an envelope");
    let intake = Intake {
        project: Project { org_id: 1, project_id: 1, slug: "default".to_owned(), retention_days: 90 },
        key_id: Some(1),
        client_ip: "192.0.2.1".parse().ok(),
        user_agent: Some("sentry.python/2.75.0".to_owned()),
        client: Some("sentry.python/2.75.0".to_owned()),
        event_id: envelope.header.event_id,
        outcomes: Vec::new(),
        body: Some(Body::received(Encoding::Gzip, packed.clone(), plain.clone())),
    };
    Record { received_ms: now_ms(), content: Content::Intake(Box::new(intake)) }
}

fn entries(bodies: &[(Bytes, Bytes)]) -> Vec<Entry> {
    let entry = |(offset, (plain, packed)): (usize, &(Bytes, Bytes))| Entry {
        position: Position { partition: 0, offset: offset as u64 },
        record: Arc::new(record(plain, packed)),
    };
    bodies.iter().enumerate().map(entry).collect()
}

fn items(entries: &[Entry]) -> Vec<Item> {
    let item = |decoded| match decoded {
        Decoded::Item(item) => Some(item),
        Decoded::Fact(_) => None,
    };
    entries.iter().flat_map(decode).filter_map(item).filter(|item| item.header.item_type.name() == "event").collect()
}

fn context(item: &Item) -> EventContext {
    EventContext { event_id: item.context.event_id.expect("an event has an id"), received_ms: now_ms(), project_id: 1, ..EventContext::default() }
}

fn facts(items: &[Item]) -> Vec<Fact> {
    items.iter().map(|item| interpret(item, &Knowledge::default())).collect()
}

/// The rows of facts, table by table.
fn rows(facts: Vec<Fact>) -> (Vec<ErrorRow>, Vec<PayloadRow>, Vec<OutcomeRow>) {
    let (mut errors, mut payloads, mut outcomes) = (Vec::new(), Vec::new(), Vec::new());
    for fact in facts {
        outcomes.extend(fact.outcomes);
        if let Rows::Error { row, payload, .. } = fact.rows {
            errors.push(*row);
            payloads.push(*payload);
        }
    }
    (errors, payloads, outcomes)
}

#[allow(clippy::print_stdout, reason = "a benchmark prints what it found")]
fn stages(c: &mut Criterion) {
    let bodies = bodies(1);
    let bytes: usize = bodies.iter().map(|(plain, _)| plain.len()).sum();
    let mut group = c.benchmark_group("stage");
    group.throughput(Throughput::Elements(EVENTS as u64)).sample_size(20).measurement_time(Duration::from_secs(3));
    println!("{EVENTS} events of {} bytes on the average", bytes / EVENTS);

    group.bench_function("decompress", |b| {
        b.iter(|| bodies.iter().map(|(_, packed)| Encoding::Gzip.decode(packed, ENVELOPE_BYTES_MAX)).for_each(|p| drop(black_box(p))))
    });
    group.bench_function("frame", |b| b.iter(|| bodies.iter().map(|(plain, _)| Envelope::parse(plain)).for_each(|e| drop(black_box(e)))));
    let entries = entries(&bodies);
    group.bench_function("decode", |b| b.iter(|| entries.iter().map(decode).for_each(|d| drop(black_box(d)))));
    let items = items(&entries);
    group.bench_function("parse", |b| b.iter(|| items.iter().map(|item| Json::parse(&item.payload)).for_each(|j| drop(black_box(j)))));
    of_events(&mut group, &items);
    let facts = facts(&items);
    with_memory(&mut group, &facts);
    let (errors, payloads, outcomes) = rows(facts);
    group.bench_function("table append", |b| b.iter(|| black_box((ErrorRow::batch(&errors), PayloadRow::batch(&payloads), OutcomeRow::batch(&outcomes)))));
    journal_append(&mut group, &bodies);
    group.finish();
}

/// What is done with the JSON of an event.
fn of_events(group: &mut BenchmarkGroup<'_, criterion::measurement::WallTime>, items: &[Item]) {
    let parsed = || items.iter().map(|item| (Json::parse(&item.payload).expect("it is JSON"), context(item))).collect::<Vec<_>>();
    let normalise = |mut events: Vec<(Json<'_>, EventContext)>| {
        events.iter_mut().for_each(|(json, context)| normalise::event(json, context).expect("an error event is always valid"));
        black_box(events.len())
    };
    group.bench_function("normalise", |b| b.iter_batched(parsed, normalise, BatchSize::LargeInput));
    let mut normalised = parsed();
    normalised.iter_mut().for_each(|(json, context)| normalise::event(json, context).expect("an error event is always valid"));
    group.bench_function("group", |b| b.iter(|| normalised.iter().for_each(|(json, _)| drop(black_box(grouping::hashes(json, &Rules::default()))))));
    group.bench_function("write JSON", |b| b.iter(|| normalised.iter().for_each(|(json, _)| drop(black_box(json.to_string())))));
    group.bench_function("interpret", |b| b.iter(|| items.iter().for_each(|item| drop(black_box(interpret(item, &Knowledge::default()))))));
}

/// The stages with memory.
fn with_memory(group: &mut BenchmarkGroup<'_, criterion::measurement::WallTime>, facts: &[Fact]) {
    let deduplicate = || {
        let mut recent = Recent::default();
        facts.iter().filter(|fact| fact.identity.is_none_or(|identity| recent.is_first(identity, fact.received_ms))).count()
    };
    group.bench_function("deduplicate", |b| b.iter(deduplicate));
    let assign = |facts: Vec<Fact>| {
        let mut issues = Issues::default();
        for mut fact in facts {
            if let Rows::Error { row, hashes, .. } = &mut fact.rows {
                issues.assign(row, hashes);
            }
        }
        black_box(issues.take_changes())
    };
    group.bench_function("assign issues", |b| b.iter_batched(|| facts.to_vec(), assign, BatchSize::LargeInput));
}

/// Appends of all events at once, durable when it returns: one or few syncs of the disk.
fn journal_append(group: &mut BenchmarkGroup<'_, criterion::measurement::WallTime>, bodies: &[(Bytes, Bytes)]) {
    let runtime = Runtime::new().expect("the runtime starts");
    let folder = tempfile::tempdir().expect("a folder");
    let (journal, _) = Journal::open(weir_journal::Options::new(folder.path())).expect("the journal opens");
    let records: Vec<Record> = bodies.iter().map(|(plain, packed)| record(plain, packed)).collect();
    let append = |records: Vec<Record>| {
        runtime.block_on(async {
            let appended: Vec<_> = records
                .into_iter()
                .map(|record| {
                    tokio::spawn({
                        let journal = journal.clone();
                        async move { journal.append(record).await }
                    })
                })
                .collect();
            for append in appended {
                append.await.expect("no panic").expect("appended");
            }
        });
    };
    group.bench_function("journal append", |b| b.iter_batched(|| records.clone(), append, BatchSize::LargeInput));
}

/// The program without its sockets.
struct Spine {
    router: Router,
    journal: Journal,
    graph: Graph,
    key: String,
    _folder: tempfile::TempDir,
}

impl Spine {
    async fn start() -> anyhow::Result<Self> {
        let folder = tempfile::tempdir()?;
        let catalog = Catalog::open(&folder.path().join("catalog.sqlite")).await?;
        catalog.create_first_project(now_ms()).await?;
        let key = catalog.projects().await?.first().map(|row| row.public_key.to_string()).unwrap_or_default();
        let (journal, _) = Journal::open(weir_journal::Options::new(folder.path().join("journal")))?;
        let options = GraphOptions {
            workers: 1,
            lake: folder.path().join("lake"),
            commit_age_max: Duration::from_secs(60),
            commit_bytes_max: 64 << 20,
            maintenance: MaintenanceOptions::default(),
            share: weir_dataflow::Share::All,
            knowledge: Knowledge::default(),
        };
        let graph = Graph::start(options, catalog.clone(), journal.clone()).await?;
        let health = Health { report: Arc::new(|| (true, serde_json::Value::Null)), metrics: Arc::new(String::new) };
        let router = weir_ingest::router(Doors::new(journal.clone(), Keys(catalog), health));
        Ok(Self { router, journal, graph, key, _folder: folder })
    }

    /// Sends all bodies over a few connections at a time and waits until queries see them.
    async fn send(&self, bodies: Vec<Bytes>) {
        let mut sending = Vec::new();
        for connection in 0..CONNECTIONS {
            let mine: Vec<Bytes> = bodies.iter().skip(connection).step_by(CONNECTIONS).cloned().collect();
            let (router, auth) = (self.router.clone(), format!("Sentry sentry_key={}, sentry_version=7", self.key));
            sending.push(tokio::spawn(async move {
                for body in mine {
                    let request = Request::post("/api/1/envelope/").header("x-sentry-auth", &auth).header("content-encoding", "gzip");
                    let answer = router.clone().oneshot(request.body(Full::new(body)).expect("a request")).await.expect("an answer");
                    assert_eq!(answer.status(), 200);
                }
            }));
        }
        for connection in sending {
            connection.await.expect("no panic");
        }
        let progress = self.graph.progress();
        while progress.report().visible_offsets < self.journal.ends() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }
}

/// From the request to the row that queries see, commits included: what the stages above add up to, and the threads between them.
fn whole_path(c: &mut Criterion) {
    let runtime = Runtime::new().expect("the runtime starts");
    let spine = runtime.block_on(Spine::start()).expect("the program starts");
    let mut group = c.benchmark_group("whole path");
    group.throughput(Throughput::Elements(EVENTS as u64)).sample_size(10).measurement_time(Duration::from_secs(5));
    let mut round = 1;
    group.bench_function("request to queryable row", |b| {
        b.iter_custom(|rounds| {
            let mut took = Duration::ZERO;
            for _ in 0..rounds {
                round += 1;
                let bodies = bodies(round).into_iter().map(|(_, packed)| packed).collect();
                let begun = Instant::now();
                runtime.block_on(spine.send(bodies));
                took += begun.elapsed();
            }
            took
        });
    });
    group.finish();
}

criterion_group!(benches, stages, whole_path);
criterion_main!(benches);
