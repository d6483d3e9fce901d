//! Subscriptions on a running graph: what holds at once, what changes, what is recorded, and what a restart makes of it.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use arrow::array::{Array, ArrayRef, AsArray, BooleanArray, Int64Array, RecordBatch, StringArray};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Field, Int64Type, Schema, SchemaRef};
use bytes::Bytes;
use weir_catalog::{AlertQuery, Catalog, NewSubscription};
use weir_journal::{Journal, Options};
use weir_operators::interpret::Knowledge;
use weir_operators::relation::plan::{Aggregate, AggregateFunction, Evaluate, EvaluateError, Expression, Node, Reduce, Relation, Scan, Universe, Window};
use weir_operators::relation::template::{Finish, Parameters, Template};
use weir_operators::schema;
use weir_protocol::deletion::{Deletion, Target};
use weir_protocol::envelope::Envelope;
use weir_protocol::record::{Body, Content, Intake, Project, Record};
use weir_protocol::subscription::{Subscription, SubscriptionOptions, TransitionKind};

use super::{AlertStore, Compiled, MemoryAlerts, Status, SubscriptionError, Subscriptions, WatchEvent};
use crate::{Graph, GraphOptions, MaintenanceOptions};

// Expressions.

#[derive(Debug)]
struct Column(usize);

impl Evaluate for Column {
    fn evaluate(&self, batch: &RecordBatch) -> Result<ArrayRef, EvaluateError> {
        Ok(Arc::clone(batch.column(self.0)))
    }
}

#[derive(Debug)]
struct Milliseconds(usize);

impl Evaluate for Milliseconds {
    fn evaluate(&self, batch: &RecordBatch) -> Result<ArrayRef, EvaluateError> {
        cast(batch.column(self.0), &DataType::Int64).map_err(|e| EvaluateError(e.to_string()))
    }
}

/// Whether one column is greater than another; a negative constant is no number to compare with.
#[derive(Debug)]
struct Greater(usize, usize);

impl Evaluate for Greater {
    fn evaluate(&self, batch: &RecordBatch) -> Result<ArrayRef, EvaluateError> {
        let (left, right) = (batch.column(self.0).as_primitive::<Int64Type>(), batch.column(self.1).as_primitive::<Int64Type>());
        if right.values().iter().any(|bound| *bound < 0) {
            return Err(EvaluateError("a negative bound".to_owned()));
        }
        Ok(Arc::new(left.iter().zip(right).map(|(l, r)| Some(l? > r?)).collect::<BooleanArray>()))
    }
}

pub(super) fn schema_of(fields: &[(&str, DataType)]) -> SchemaRef {
    Arc::new(Schema::new(fields.iter().map(|(name, data_type)| Field::new(*name, data_type.clone(), true)).collect::<Vec<_>>()))
}

/// How many rows of a table there are of each value of a column, in a window on `received` or always.
fn counts(table: &'static str, column: &str, window_ms: Option<u64>) -> Arc<Template> {
    let stored = schema::table(table).unwrap().stored_schema();
    let (of, received) = (stored.index_of(column).unwrap(), stored.index_of("received").unwrap());
    let key_type = stored.field(of).data_type().clone();
    let expression = |column| Arc::new(Column(column)) as Expression;
    let scan = Scan {
        table,
        table_columns: vec![of, received],
        filter: Vec::new(),
        columns: vec![expression(0)],
        window: window_ms.map(|lower_ms| Window {
            time: Arc::new(Milliseconds(1)),
            lower_ms,
            upper_ms: 0,
            pane_ms: (lower_ms / 60).max(20),
            lateness_ms: None,
            received: None,
        }),
    };
    let scan = Relation { node: Node::Scan(scan), schema: schema_of(&[(column, key_type.clone())]) };
    let aggregate = Aggregate { function: AggregateFunction::Count, argument: None, filter: None, distinct: false };
    let reduce = Reduce { input: Box::new(scan), keys: 1, aggregates: vec![aggregate], universe: Universe::Rows };
    let answer = schema_of(&[(column, key_type.clone()), ("n", DataType::Int64)]);
    Arc::new(Template {
        relation: Relation { node: Node::Reduce(reduce), schema: Arc::clone(&answer) },
        parameter_keys: 1,
        constants: schema_of(&[("above", DataType::Int64), ("keeps_above", DataType::Int64), ("high", DataType::Int64)]),
        finish: Finish {
            columns: vec![expression(0), expression(1)],
            schema: answer,
            key: vec![expression(0)],
            key_schema: schema_of(&[(column, key_type)]),
            fires: Arc::new(Greater(1, 2)),
            holds: Some(Arc::new(Greater(1, 3))),
            escalates: Some(Arc::new(Greater(1, 4))),
            project: None,
        },
    })
}

/// What a subscription of [`counts`] asks for.
#[derive(Clone)]
pub(super) struct Asked {
    id: u64,
    table: &'static str,
    key: ArrayRef,
    window_ms: Option<u64>,
    above: i64,
    keeps_above: i64,
    options: SubscriptionOptions,
    version: u32,
}

impl Asked {
    pub(super) fn errors(id: u64, environment: &str, window_ms: u64, above: i64) -> Self {
        let options = SubscriptionOptions { notify: vec!["webhook:http://192.0.2.1/".to_owned()], ..SubscriptionOptions::default() };
        let key = Arc::new(StringArray::from(vec![environment]));
        Self { id, table: "errors", key, window_ms: Some(window_ms), above, keeps_above: above, options, version: 1 }
    }

    /// A later version with another bound.
    pub(super) fn altered(&self, version: u32, above: i64) -> Compiled {
        Self { version, above, ..self.clone() }.compiled()
    }

    pub(super) fn compiled(&self) -> Compiled {
        let column = if self.table == "errors" { "environment" } else { "project_id" };
        let template = counts(self.table, column, self.window_ms);
        let definition = Subscription {
            id: self.id,
            version: self.version,
            name: format!("s{}", self.id),
            query: String::new(),
            options: self.options.clone(),
            org_id: 1,
            projects: None,
            created_by: "test".to_owned(),
            created_ms: 1,
        };
        let constants = [self.above, self.keeps_above, 1000].map(|value| Arc::new(Int64Array::from(vec![value])) as ArrayRef);
        let key = RecordBatch::try_new(schema_of(&[(column, self.key.data_type().clone())]), vec![Arc::clone(&self.key)]).unwrap();
        Compiled {
            definition: Arc::new(definition),
            shape: *blake3::hash(format!("{} {:?}", self.table, self.window_ms).as_bytes()).as_bytes(),
            parameters: Parameters {
                subscription: self.id,
                key,
                constants: RecordBatch::try_new(Arc::clone(&template.constants), constants.to_vec()).unwrap(),
            },
            template,
        }
    }
}

// A program that runs.

struct Program {
    graph: Graph,
    journal: Journal,
    catalog: Catalog,
    alerts: Arc<MemoryAlerts>,
}

async fn start(dir: &Path, workers: usize, alerts: &Arc<MemoryAlerts>) -> Program {
    let catalog = Catalog::open(&dir.join("catalog.sqlite")).await.unwrap();
    let (journal, _) = Journal::open(Options::new(dir.join("journal"))).unwrap();
    let options = GraphOptions {
        workers,
        lake: dir.join("lake"),
        commit_age_max: Duration::from_secs(3600),
        commit_bytes_max: 64 << 20,
        maintenance: MaintenanceOptions::default(),
        share: crate::Share::All,
        knowledge: Knowledge::default(),
    };
    let store: Arc<dyn AlertStore> = Arc::<MemoryAlerts>::clone(alerts);
    let graph = Graph::start_with(options, catalog.clone(), journal.clone(), store).await.unwrap();
    Program { graph, journal, catalog, alerts: Arc::clone(alerts) }
}

impl Program {
    fn subscriptions(&self) -> Subscriptions {
        self.graph.subscriptions()
    }

    async fn send(&self, environments: &[&str]) {
        for environment in environments {
            self.journal.append(error(environment, 1)).await.unwrap();
        }
    }

    /// Everything that was sent is in the tables.
    async fn settle(&self) {
        let (progress, end) = (self.graph.progress(), self.journal.ends());
        until("the journal is read", || progress.report().visible_offsets >= end).await;
    }

    /// Ends in order, with a last commit.
    async fn stop(self) {
        let Self { graph, journal, catalog, .. } = self;
        tokio::task::spawn_blocking(move || {
            journal.close();
            graph.stop()
        })
        .await
        .unwrap()
        .unwrap();
        catalog.close().await;
    }

    /// Ends as a crash ends it: nothing is committed any more, neither tables nor alerts.
    async fn kill(self) {
        let generation = self.catalog.take_partition(0, 1).await.unwrap();
        self.alerts.fence(generation);
        let Self { graph, journal, catalog, .. } = self;
        let ended = tokio::task::spawn_blocking(move || {
            journal.close();
            graph.stop()
        });
        // That it could not commit may be an error.
        let _ = ended.await.unwrap();
        catalog.close().await;
    }

    fn transitions(&self) -> Vec<(u64, TransitionKind, String)> {
        self.alerts.transitions().into_iter().map(|t| (t.subscription_id, t.kind, t.key)).collect()
    }

    async fn until_transitions(&self, wanted: &[(u64, TransitionKind, &str)]) {
        let wanted: Vec<(u64, TransitionKind, String)> = wanted.iter().map(|(id, kind, key)| (*id, *kind, format!("{{\"environment\":\"{key}\"}}"))).collect();
        let mut seen = Vec::new();
        for _ in 0..3000 {
            seen = self.transitions();
            assert_eq!(self.graph.progress().report().failure, None);
            if seen.len() >= wanted.len() {
                break;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        assert_eq!(seen, wanted);
    }
}

async fn until(what: &str, condition: impl Fn() -> bool) {
    for _ in 0..3000 {
        if condition() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("it never came to be that {what}");
}

fn now_ms() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis() as u64
}

fn error(environment: &str, project_id: u64) -> Record {
    let id = uuid::Uuid::new_v4().simple().to_string();
    let event = format!(r#"{{"event_id":"{id}","message":"in {environment}","level":"error","platform":"other","environment":"{environment}"}}"#);
    let plain = Bytes::from(format!("{{\"event_id\":\"{id}\"}}\n{{\"type\":\"event\",\"length\":{}}}\n{event}\n", event.len()));
    let envelope = Envelope::parse(&plain).unwrap();
    let intake = Intake {
        project: Project { org_id: 1, project_id, slug: format!("p{project_id}"), retention_days: 90 },
        key_id: Some(1),
        client_ip: None,
        user_agent: None,
        client: None,
        event_id: envelope.header.event_id,
        outcomes: Vec::new(),
        body: Some(Body::identity(plain)),
    };
    Record { received_ms: now_ms(), content: Content::Intake(Box::new(intake)) }
}

/// The counts that a subscription shows.
fn shown(subscriptions: &Subscriptions, id: u64) -> Option<i64> {
    let rows = subscriptions.rows(id)?;
    let counts: Vec<i64> = rows.batches.iter().flat_map(|batch| batch.column(1).as_primitive::<Int64Type>().values().to_vec()).collect();
    assert!(counts.len() <= 1, "{counts:?}");
    Some(counts.first().copied().unwrap_or_default())
}

pub(super) const HOUR_MS: u64 = 3_600_000;

#[tokio::test(flavor = "multi_thread")]
async fn a_subscription_sees_what_is_there_and_what_comes() {
    for workers in [1, 2, 4] {
        let dir = tempfile::tempdir().unwrap();
        let program = start(dir.path(), workers, &Arc::default()).await;
        program.send(&["a", "b", "a"]).await;
        let subscriptions = program.subscriptions();
        // No waiting for what was sent: it is either in the snapshot or in a tick after it.
        let all = [Asked::errors(1, "a", HOUR_MS, 0).compiled(), Asked::errors(2, "b", HOUR_MS, 0).compiled(), Asked::errors(3, "a", HOUR_MS, 5).compiled()];
        subscriptions.install(all.to_vec()).await.unwrap();
        program.send(&["a", "b", "c"]).await;
        until("all is counted", || shown(&subscriptions, 1) == Some(3) && shown(&subscriptions, 2) == Some(2)).await;
        assert_eq!(shown(&subscriptions, 3), Some(0), "it has too few");
        // A known shape sees everything at once.
        subscriptions.install(vec![Asked::errors(4, "a", HOUR_MS, 2).compiled()]).await.unwrap();
        assert_eq!(shown(&subscriptions, 4), Some(3));
        let states: Vec<_> = subscriptions.states().into_iter().map(|s| (s.id, s.status, s.rows, s.error)).collect();
        let running = |id, rows| (id, Status::Running, rows, None);
        assert_eq!(states, [running(1, 1), running(2, 1), running(3, 0), running(4, 1)]);
        assert_eq!(subscriptions.install(vec![Asked::errors(4, "a", HOUR_MS, 2).compiled()]).await, Err(SubscriptionError::Exists { id: 4 }));
        for id in 1..=4 {
            subscriptions.remove(id).await.unwrap();
        }
        assert_eq!(subscriptions.remove(1).await, Err(SubscriptionError::Unknown { id: 1 }));
        assert_eq!(subscriptions.states(), []);
        // The template is gone, and comes again.
        subscriptions.install(vec![Asked::errors(5, "a", HOUR_MS, 0).compiled()]).await.unwrap();
        assert_eq!(shown(&subscriptions, 5), Some(3));
        program.stop().await;
        assert_eq!(subscriptions.install(vec![Asked::errors(6, "a", HOUR_MS, 0).compiled()]).await, Err(SubscriptionError::Stopped));
        // Whoever begins to watch then is not left waiting.
        let mut watch = subscriptions.watch(5).unwrap();
        assert!(tokio::time::timeout(Duration::from_secs(60), watch.next()).await.is_ok_and(|event| event.is_none()));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_alert_fires_and_resolves_when_its_window_ends_without_input() {
    let dir = tempfile::tempdir().unwrap();
    let program = start(dir.path(), 1, &Arc::default()).await;
    let waits = Asked { options: SubscriptionOptions { for_ms: 400, ..SubscriptionOptions::default() }, ..Asked::errors(2, "a", 2_000, 1) };
    let too_long = Asked { options: SubscriptionOptions { for_ms: 60_000, ..SubscriptionOptions::default() }, ..Asked::errors(3, "a", 2_000, 1) };
    program.subscriptions().install(vec![Asked::errors(1, "a", 2_000, 1).compiled(), waits.compiled(), too_long.compiled()]).await.unwrap();
    program.send(&["a", "b", "a"]).await;
    use TransitionKind::{Fired, Resolved};
    program.until_transitions(&[(1, Fired, "a"), (2, Fired, "a"), (1, Resolved, "a"), (2, Resolved, "a")]).await;
    let transitions = program.alerts.transitions();
    assert_eq!(transitions[1].event_time_ms, transitions[0].event_time_ms);
    assert_eq!(transitions[1].fired_ms, transitions[1].event_time_ms + 400, "a wait's end is dated when it is due");
    assert_eq!(transitions[0].row, "{\"environment\":\"a\",\"n\":2}");
    assert!(program.alerts.active().iter().all(|alert| alert.fired_ms == 0));
    program.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn hysteresis_keeps_an_alert() {
    let dir = tempfile::tempdir().unwrap();
    let program = start(dir.path(), 2, &Arc::default()).await;
    let subscriptions = program.subscriptions();
    let asked = Asked { keeps_above: 0, ..Asked::errors(1, "a", HOUR_MS, 1) };
    subscriptions.install(vec![asked.compiled()]).await.unwrap();
    program.send(&["a"]).await;
    program.settle().await;
    assert_eq!(shown(&subscriptions, 1), Some(0), "what only holds is no row of the answer");
    assert_eq!(program.transitions(), []);
    program.send(&["a"]).await;
    program.until_transitions(&[(1, TransitionKind::Fired, "a")]).await;
    program.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_crash_at_any_point_fires_nothing_twice_and_misses_nothing() {
    use TransitionKind::{Fired, Resolved};
    for widths in [[1, 1], [2, 4], [4, 1]] {
        let dir = tempfile::tempdir().unwrap();
        let alerts = Arc::new(MemoryAlerts::default());
        let asked: Vec<Asked> = ["a", "b", "c"].iter().zip(1..).map(|(environment, id)| Asked::errors(id, environment, HOUR_MS, 1)).collect();
        let all = || asked.iter().map(Asked::compiled).collect::<Vec<_>>();
        let program = start(dir.path(), widths[0], &alerts).await;
        program.subscriptions().install(all()).await.unwrap();
        program.send(&["a", "a"]).await;
        program.until_transitions(&[(1, Fired, "a")]).await;
        program.kill().await;

        // After the record of alerts and before the tables' commit: the journal is read again and nothing fires.
        let program = start(dir.path(), widths[1], &alerts).await;
        program.subscriptions().install(all()).await.unwrap();
        program.settle().await;
        program.send(&["b", "b"]).await;
        program.until_transitions(&[(1, Fired, "a"), (2, Fired, "b")]).await;
        program.stop().await;

        // After the tables' commit. Then a crash between a tick and the record of its alerts.
        let program = start(dir.path(), widths[0], &alerts).await;
        program.subscriptions().install(all()).await.unwrap();
        program.alerts.fence(i64::MAX);
        program.send(&["c", "c"]).await;
        let progress = program.graph.progress();
        until("recording has failed", || progress.report().failure.is_some()).await;
        program.kill().await;
        let program = start(dir.path(), widths[1], &alerts).await;
        program.subscriptions().install(all()).await.unwrap();
        let want = [(1, Fired, "a"), (2, Fired, "b"), (3, Fired, "c")];
        program.until_transitions(&want).await;
        program.stop().await;

        // What ended while nothing ran resolves: here since its bound was raised.
        let program = start(dir.path(), widths[1], &alerts).await;
        let raised = Asked { above: 9, keeps_above: 9, version: 2, ..asked[1].clone() };
        program.subscriptions().install(vec![asked[0].compiled(), raised.compiled(), asked[2].compiled()]).await.unwrap();
        program.until_transitions(&[want[0], want[1], want[2], (2, Resolved, "b")]).await;
        program.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_equal_the_tables_across_restarts_at_other_widths() {
    let dir = tempfile::tempdir().unwrap();
    let alerts = Arc::new(MemoryAlerts::default());
    let environments: Vec<String> = (0..20).map(|n| format!("e{n}")).collect();
    let errors = |id: usize| Asked::errors(id as u64, &environments[id], HOUR_MS, 0);
    let projects = Asked { table: "issues", key: Arc::new(Int64Array::from(vec![1])), window_ms: None, ..Asked::errors(100, "", HOUR_MS, 0) };
    let mut sent: BTreeMap<&str, i64> = BTreeMap::new();
    for (round, workers) in [1, 3, 2, 1].into_iter().enumerate() {
        let program = start(dir.path(), workers, &alerts).await;
        let subscriptions = program.subscriptions();
        let mut send = Vec::new();
        for n in 0..150 {
            let environment = environments[(n * n + round) % 20].as_str();
            *sent.entry(environment).or_default() += 1;
            send.push(environment);
        }
        program.send(&send[..50]).await;
        let all: Vec<Compiled> = (0..20).map(|id| errors(id).compiled()).chain([projects.compiled()]).collect();
        let (first, second) = all.split_at(10);
        let installing = subscriptions.install(first.to_vec());
        let (installed, ()) = tokio::join!(installing, program.send(&send[50..100]));
        installed.unwrap();
        subscriptions.install(second.to_vec()).await.unwrap();
        program.send(&send[100..]).await;
        program.settle().await;
        for (id, environment) in environments.iter().enumerate() {
            let wanted = sent.get(environment.as_str()).copied().unwrap_or_default();
            until(&format!("round {round}: {environment} is {wanted}, not {:?}", shown(&subscriptions, id as u64)), || {
                shown(&subscriptions, id as u64) == Some(wanted)
            })
            .await;
        }
        // An issue an environment, since the message names it; each is one row, however often it changed.
        until("issues are counted once", || shown(&subscriptions, 100) == Some(sent.len() as i64)).await;
        if round % 2 == 0 { program.kill().await } else { program.stop().await }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn many_are_taken_together() {
    let dir = tempfile::tempdir().unwrap();
    let program = start(dir.path(), 2, &Arc::default()).await;
    program.send(&["e0", "e1", "e1"]).await;
    let subscriptions = program.subscriptions();
    let mut tasks = tokio::task::JoinSet::new();
    for connection in 0..8u64 {
        let subscriptions = subscriptions.clone();
        tasks.spawn(async move {
            for n in 0..50u64 {
                let id = connection * 50 + n;
                let asked = Asked::errors(id, &format!("e{}", id % 3), HOUR_MS * (1 + id % 4), (id % 2) as i64);
                subscriptions.install(vec![asked.compiled()]).await.unwrap();
            }
        });
    }
    tasks.join_all().await;
    program.settle().await;
    until("all have their rows", || {
        (0..400u64).all(|id| {
            let count = [1, 2, 0][id as usize % 3];
            shown(&subscriptions, id) == Some(if count > (id % 2) as i64 { count } else { 0 })
        })
    })
    .await;
    program.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_altered_subscription_changes_at_one_tick() {
    let dir = tempfile::tempdir().unwrap();
    let program = start(dir.path(), 1, &Arc::default()).await;
    let subscriptions = program.subscriptions();
    let first = Asked::errors(1, "a", HOUR_MS, 0);
    subscriptions.install(vec![first.compiled()]).await.unwrap();
    program.send(&["a", "b", "b"]).await;
    program.until_transitions(&[(1, TransitionKind::Fired, "a")]).await;
    // Other constants, the same shape.
    let second = Asked { key: Arc::new(StringArray::from(vec!["b"])), version: 2, ..first.clone() };
    subscriptions.replace(second.compiled()).await.unwrap();
    assert_eq!(shown(&subscriptions, 1), Some(2));
    let resolved = [(1, TransitionKind::Fired, "a"), (1, TransitionKind::Resolved, "a"), (1, TransitionKind::Fired, "b")];
    program.until_transitions(&resolved).await;
    // Another shape: the key that is active in both versions keeps its alert.
    let third = Asked { window_ms: Some(2 * HOUR_MS), version: 3, ..second.clone() };
    subscriptions.replace(third.compiled()).await.unwrap();
    program.send(&["b"]).await;
    until("the third version counts", || shown(&subscriptions, 1) == Some(3)).await;
    program.until_transitions(&resolved).await;
    assert_eq!(program.alerts.transitions().len(), 3);
    assert_eq!(subscriptions.replace(Asked::errors(9, "a", HOUR_MS, 0).compiled()).await, Err(SubscriptionError::Unknown { id: 9 }));
    program.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failing_condition_marks_one_subscription() {
    let dir = tempfile::tempdir().unwrap();
    let program = start(dir.path(), 1, &Arc::default()).await;
    let subscriptions = program.subscriptions();
    subscriptions.install(vec![Asked::errors(1, "a", HOUR_MS, -1).compiled(), Asked::errors(2, "a", HOUR_MS, 0).compiled()]).await.unwrap();
    program.send(&["a", "a"]).await;
    until("one failed", || subscriptions.state(1).is_some_and(|state| state.status == Status::Failed)).await;
    let error = subscriptions.state(1).unwrap().error.unwrap();
    assert!(error.contains("a negative bound") && error.contains("\"a\""), "{error}");
    until("the other runs", || shown(&subscriptions, 2) == Some(2)).await;
    until("both are told", || program.alerts.transitions().len() == 2).await;
    let failed: Vec<_> = program.alerts.transitions().into_iter().filter(|t| t.kind == TransitionKind::Failed).collect();
    assert_eq!((failed.len(), failed[0].subscription_id, failed[0].notify.len()), (1, 1, 1));
    // Mended, it recovers.
    subscriptions.replace(Asked { version: 2, ..Asked::errors(1, "a", HOUR_MS, 0) }.compiled()).await.unwrap();
    until("it recovered", || shown(&subscriptions, 1) == Some(2) && subscriptions.state(1).is_some_and(|state| state.status == Status::Running)).await;
    program.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_deleted_leaves_every_answer() {
    for workers in [1, 2] {
        let dir = tempfile::tempdir().unwrap();
        let program = start(dir.path(), workers, &Arc::default()).await;
        let subscriptions = program.subscriptions();
        program.send(&["a", "a", "a"]).await;
        let issues = Asked { table: "issues", key: Arc::new(Int64Array::from(vec![1])), window_ms: None, ..Asked::errors(3, "", HOUR_MS, 0) };
        let all = [Asked::errors(1, "a", HOUR_MS, 1), Asked::errors(2, "b", HOUR_MS, 0), issues];
        subscriptions.install(all.iter().map(Asked::compiled).collect()).await.unwrap();
        program.send(&["b", "a"]).await;
        until("all are counted", || (1..=3).all(|id| shown(&subscriptions, id) == Some([4, 1, 2][id as usize - 1]))).await;
        let project = Project { org_id: 1, project_id: 1, slug: "p1".to_owned(), retention_days: 90 };
        let deletion = Deletion { project, target: Target::ShortId("P1-1".to_owned()), now: false };
        program.journal.append(Record { received_ms: now_ms(), content: Content::Deletion(Box::new(deletion)) }).await.unwrap();
        until("the issue of a is gone", || (1..=3).all(|id| shown(&subscriptions, id) == Some([0, 1, 1][id as usize - 1]))).await;
        until("its alert resolved", || program.transitions().iter().any(|(id, kind, _)| (*id, *kind) == (1, TransitionKind::Resolved))).await;
        program.send(&["b", "a"]).await;
        until("others go on", || (2..=3).all(|id| shown(&subscriptions, id) == Some(2))).await;
        program.stop().await;
    }
}

/// A transaction of a user, with one span that does not name her.
fn transaction_of(user: &str) -> Record {
    let (id, at) = (uuid::Uuid::new_v4().simple().to_string(), now_ms() as f64 / 1000.0);
    let trace = "0123456789abcdef0123456789abcdef";
    let span = format!(
        r#"{{"trace_id":"{trace}","span_id":"1123456789abcdef","parent_span_id":"0123456789abcdef","start_timestamp":{at},"timestamp":{at},"op":"db"}}"#
    );
    let context = format!(r#"{{"trace":{{"trace_id":"{trace}","span_id":"0123456789abcdef","op":"o"}}}}"#);
    let event = format!(
        r#"{{"event_id":"{id}","type":"transaction","transaction":"t","start_timestamp":{at},"timestamp":{at},"user":{{"id":"{user}"}},"contexts":{context},"spans":[{span}]}}"#
    );
    let mut record = error("a", 1);
    if let Content::Intake(intake) = &mut record.content {
        let plain = format!("{{\"event_id\":\"{id}\"}}\n{{\"type\":\"transaction\",\"length\":{}}}\n{event}\n", event.len());
        intake.body = Some(Body::identity(Bytes::from(plain)));
    }
    record
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_that_a_deletion_reaches_by_their_event_leave_answers_when_the_events_are_known() {
    let dir = tempfile::tempdir().unwrap();
    let program = start(dir.path(), 2, &Arc::default()).await;
    let subscriptions = program.subscriptions();
    let spans = Asked { table: "spans", key: Arc::new(Int64Array::from(vec![1])), ..Asked::errors(1, "", HOUR_MS, 0) };
    subscriptions.install(vec![spans.compiled()]).await.unwrap();
    for user in ["ada", "bob"] {
        program.journal.append(transaction_of(user)).await.unwrap();
    }
    until("all spans are counted", || shown(&subscriptions, 1) == Some(4)).await;
    let project = Project { org_id: 1, project_id: 1, slug: "p1".to_owned(), retention_days: 90 };
    let deletion = Deletion { project, target: Target::User("id:ada".parse().unwrap()), now: false };
    program.journal.append(Record { received_ms: now_ms(), content: Content::Deletion(Box::new(deletion)) }).await.unwrap();
    until("hers are gone", || shown(&subscriptions, 1) == Some(2)).await;
    program.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_watches_sees_all_rows_and_then_each_change() {
    let dir = tempfile::tempdir().unwrap();
    let program = start(dir.path(), 2, &Arc::default()).await;
    let subscriptions = program.subscriptions();
    subscriptions.install(vec![Asked::errors(1, "a", HOUR_MS, 0).compiled()]).await.unwrap();
    program.send(&["a"]).await;
    until("it has a row", || shown(&subscriptions, 1) == Some(1)).await;
    let mut watch = subscriptions.watch(1).unwrap();
    assert!(subscriptions.watch(2).is_none());
    let Some(WatchEvent::Snapshot { rows, lost: false }) = watch.next().await else { panic!("the rows come first") };
    assert_eq!(rows.batches[0].num_rows(), 1);
    program.send(&["a", "a"]).await;
    let mut sums: BTreeMap<i64, i64> = BTreeMap::from([(1, 1)]);
    while sums != BTreeMap::from([(3, 1)]) {
        let Some(WatchEvent::Changes { rows, differences, .. }) = watch.next().await else { panic!("changes follow") };
        for (count, difference) in rows.column(1).as_primitive::<Int64Type>().values().iter().zip(differences) {
            *sums.entry(*count).or_default() += difference;
        }
        sums.retain(|_, sum| *sum != 0);
    }
    subscriptions.remove(1).await.unwrap();
    assert!(watch.next().await.is_none(), "a dropped subscription ends");
    program.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn alerts_are_recorded_in_the_catalog_once() {
    let dir = tempfile::tempdir().unwrap();
    let query = AlertQuery { org_id: 1, projects: None, after: 0, limit: 100 };
    let mut id = 0;
    for (round, workers) in [1, 2].into_iter().enumerate() {
        let catalog = Catalog::open(&dir.path().join("catalog.sqlite")).await.unwrap();
        let (journal, _) = Journal::open(Options::new(dir.path().join("journal"))).unwrap();
        let options = GraphOptions {
            workers,
            lake: dir.path().join("lake"),
            commit_age_max: Duration::from_secs(3600),
            commit_bytes_max: 64 << 20,
            maintenance: MaintenanceOptions::default(),
            share: crate::Share::All,
            knowledge: Knowledge::default(),
        };
        let graph = Graph::start(options, catalog.clone(), journal.clone()).await.unwrap();
        if round == 0 {
            catalog.create_first_project(1).await.unwrap();
            let Compiled { definition, .. } = Asked::errors(0, "a", HOUR_MS, 1).compiled();
            let Subscription { name, query, options, org_id, projects, created_by, created_ms, .. } = Subscription::clone(&definition);
            id = catalog.create_subscription(NewSubscription { name, query, options, org_id, projects, created_by, created_ms }).await.unwrap().id;
        }
        let asked = Asked { options: SubscriptionOptions { for_ms: 1, ..SubscriptionOptions::default() }, ..Asked::errors(id, "a", HOUR_MS, 1) };
        graph.subscriptions().install(vec![asked.compiled()]).await.unwrap();
        for _ in 0..2 {
            journal.append(error("a", 1)).await.unwrap();
        }
        let mut rows = Vec::new();
        for _ in 0..3000 {
            rows = catalog.alerts(&query).await.unwrap();
            if !rows.is_empty() && shown(&graph.subscriptions(), id) == Some(2 * (round as i64 + 1)) {
                break;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        assert_eq!(rows.iter().map(|row| (row.kind, row.key.as_str())).collect::<Vec<_>>(), [(TransitionKind::Fired, "{\"environment\":\"a\"}")]);
        let restored = catalog.restore_alerts().await.unwrap();
        assert_eq!(
            restored.active.iter().map(|alert| (alert.subscription_id, alert.since_ms, alert.fired_ms)).collect::<Vec<_>>(),
            [(id, 0, rows[0].fired_time_ms)]
        );
        // A crash: what this one holds is not committed any more.
        catalog.take_partition(0, 1).await.unwrap();
        let ended = tokio::task::spawn_blocking(move || {
            journal.close();
            graph.stop()
        });
        let _ = ended.await.unwrap();
        catalog.close().await;
    }
}
