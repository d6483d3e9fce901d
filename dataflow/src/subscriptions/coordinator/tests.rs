//! The coordinator alone: what workers would say is said by hand.

use std::sync::mpsc::{Receiver, sync_channel};

use arrow::array::{Int64Array, RecordBatch, StringArray};
use tempfile::TempDir;
use tokio::task::JoinHandle;
use weir_operators::relation::template::{Changes, Failure, HALTED, TemplateAdvance, Usage};
use weir_protocol::limits::SUBSCRIPTION_ROWS_MAX;

use super::*;
use crate::snapshot::Snapshot;
use crate::subscriptions::command::Hydration;
use crate::subscriptions::tests::{Asked, HOUR_MS};
use crate::subscriptions::{Compiled, Status, SubscriptionError, Subscriptions};

struct Stage {
    coordinator: Coordinator,
    subscriptions: Subscriptions,
    /// What the workers were given, and the stored rows that they would take.
    rows: Vec<Receiver<Hydration>>,
    _dir: TempDir,
}

/// A command without what it carries.
#[derive(Debug, PartialEq)]
enum Told {
    Build(TemplateNumber),
    Parameters { template: TemplateNumber, ticket: u64, came: usize, gone: usize },
    Drop(TemplateNumber),
}

type Asking = JoinHandle<Result<(), SubscriptionError>>;

impl Stage {
    fn new(workers: usize) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let (journal, _) = weir_journal::Journal::open(weir_journal::Options::new(dir.path().join("journal"))).unwrap();
        let (sender, notices) = sync_channel(1024);
        let shared = Arc::new(Shared::new(sender));
        let coordinator = Coordinator {
            own: None,
            notices,
            shared: Arc::clone(&shared),
            mailboxes: (0..workers).map(|_| Arc::default()).collect(),
            outgoing: Arc::default(),
            alarm: Arc::new(Alarm::new(journal)),
            snapshots: Snapshots::new(Snapshot { tick_ms: 1, ..Snapshot::default() }),
            progress: Arc::default(),
            runtime: Handle::current(),
            state: State::new(workers, RestoredAlerts::default(), 1, BTreeMap::new(), Some(BTreeMap::new())),
        };
        Self { coordinator, subscriptions: Subscriptions { shared }, rows: Vec::new(), _dir: dir }
    }

    /// The commands of the first worker since the last call. All workers are told the same but for parameters.
    fn told(&mut self) -> Vec<Told> {
        let mut told = Vec::new();
        for (worker, mailbox) in self.coordinator.mailboxes.iter().enumerate() {
            while let Some(command) = mailbox.take() {
                match command {
                    Command::Build { template, rows, .. } => {
                        self.rows.push(rows);
                        told.extend((worker == 0).then_some(Told::Build(template)));
                    }
                    Command::Parameters { template, changes, ticket } => {
                        let came = changes.iter().filter(|(_, comes)| *comes).count();
                        told.push(Told::Parameters { template, ticket, came, gone: changes.len() - came });
                    }
                    Command::Drop { template } => told.extend((worker == 0).then_some(Told::Drop(template))),
                    Command::End => {}
                }
            }
        }
        told
    }

    /// Somebody asks for something, and the coordinator has taken it.
    async fn ask(&mut self, asking: impl Future<Output = Result<(), SubscriptionError>> + Send + 'static) -> Asking {
        let asking = tokio::spawn(asking);
        // What timers say is said by hand here.
        while !matches!(self.coordinator.notices.try_recv(), Ok(Notice::Requests)) {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        self.coordinator.turn();
        asking
    }

    async fn install(&mut self, compiled: Compiled) -> Asking {
        let subscriptions = self.subscriptions.clone();
        self.ask(async move { subscriptions.install(vec![compiled]).await }).await
    }

    async fn replace(&mut self, compiled: Compiled) -> Asking {
        let subscriptions = self.subscriptions.clone();
        self.ask(async move { subscriptions.replace(compiled).await }).await
    }

    fn say(&mut self, worker: usize, news: News) {
        self.coordinator.take(Notice::Worker { worker, news: Box::new(news) });
        self.coordinator.turn();
    }

    /// All workers have built and filled a template.
    fn fill(&mut self, template: TemplateNumber) {
        for worker in 0..self.coordinator.mailboxes.len() {
            self.say(worker, News { built: vec![(template, 1)], begun: vec![template], ..News::default() });
        }
    }

    fn applied(&mut self, ticket: u64, at: Time) {
        self.say(0, News { applied: vec![(ticket, Some(at))], ..News::default() });
    }

    /// Some templates have passed a tick on all workers, which is released.
    fn tick(&mut self, tick: Time, templates: &[TemplateNumber]) {
        self.coordinator.take(Notice::Released { tick, upper: BTreeMap::new() });
        for worker in 0..self.coordinator.mailboxes.len() {
            let advances = templates.iter().map(|template| (*template, advance(tick))).collect();
            self.say(worker, News { advances, ..News::default() });
        }
    }

    fn delete(&mut self) {
        self.say(0, News { deleted: true, ..News::default() });
    }
}

fn advance(tick: Time) -> TemplateAdvance {
    TemplateAdvance { frontier: Some(tick + 1), changes: Vec::new(), failures: Vec::new(), refused: Vec::new(), late: 0, usage: Usage::default() }
}

/// Rows of subscription 1 that come or go, each of an environment.
fn changes(compiled: &Compiled, environments: &[String], difference: i64) -> Changes {
    let texts = Arc::new(StringArray::from(environments.to_vec()));
    let counts = Arc::new(Int64Array::from(vec![1; environments.len()]));
    let finish = &compiled.template.finish;
    Changes {
        rows: RecordBatch::try_new(Arc::clone(&finish.schema), vec![Arc::clone(&texts) as _, counts]).unwrap(),
        keys: RecordBatch::try_new(Arc::clone(&finish.key_schema), vec![texts]).unwrap(),
        subscriptions: vec![1; environments.len()],
        fires: vec![true; environments.len()],
        escalates: vec![false; environments.len()],
        differences: vec![difference; environments.len()],
    }
}

#[tokio::test]
async fn deletions_that_follow_closely_wait_for_what_is_being_filled() {
    let mut stage = Stage::new(1);
    let compiled = Asked::errors(1, "a", HOUR_MS, 0).compiled();
    let asking = stage.install(compiled.clone()).await;
    assert_eq!(stage.told(), [Told::Build(1), Told::Parameters { template: 1, ticket: 1, came: 1, gone: 0 }]);
    stage.fill(1);
    stage.applied(1, 1);
    stage.tick(10, &[1]);
    assert_eq!(asking.await.unwrap(), Ok(()));
    stage.delete();
    assert_eq!(stage.told(), [Told::Build(2), Told::Parameters { template: 2, ticket: 2, came: 1, gone: 0 }]);
    for _ in 0..3 {
        stage.delete();
        assert_eq!(stage.told(), []);
    }
    // Whoever comes meanwhile belongs to the new one.
    let second = stage.install(Asked::errors(2, "b", HOUR_MS, 0).compiled()).await;
    assert_eq!(stage.told(), [Told::Parameters { template: 2, ticket: 3, came: 1, gone: 0 }]);
    stage.fill(2);
    stage.applied(2, 1);
    stage.applied(3, 1);
    stage.tick(20, &[1, 2]);
    assert_eq!(second.await.unwrap(), Ok(()));
    // The deletions in between are seen to when it is there.
    stage.tick(30, &[2]);
    let told = stage.told();
    let (parameters, others): (Vec<Told>, Vec<Told>) = told.into_iter().partition(|told| matches!(told, Told::Parameters { .. }));
    assert_eq!(others, [Told::Drop(1), Told::Build(3)]);
    let Some(Told::Parameters { template: 3, ticket, came: 2, gone: 0 }) = parameters.last() else { panic!("{parameters:?}") };
    stage.fill(3);
    stage.applied(*ticket, 1);
    stage.tick(40, &[2, 3]);
    stage.tick(50, &[3]);
    assert!(stage.told().contains(&Told::Drop(2)));
    // The shape is that of the newest template: it is known, whatever was dropped.
    assert_eq!(stage.subscriptions.usage(&compiled.shape).unwrap().subscriptions, 2);
    let _third = stage.install(Asked::errors(3, "c", HOUR_MS, 0).compiled()).await;
    assert!(matches!(stage.told()[..], [Told::Parameters { template: 3, came: 1, .. }]));
}

#[tokio::test]
async fn a_version_is_not_there_with_the_parameters_of_the_one_before() {
    let mut stage = Stage::new(1);
    let asked = Asked::errors(1, "a", HOUR_MS, 0);
    let _asking = stage.install(asked.compiled()).await;
    stage.fill(1);
    stage.applied(1, 1);
    stage.tick(10, &[1]);
    let second = stage.replace(asked.altered(2, 5)).await;
    let third = stage.replace(asked.altered(3, 7)).await;
    stage.applied(2, 12);
    stage.tick(20, &[1]);
    assert_eq!(stage.coordinator.state.waiters.len(), 1, "its own parameters are not there");
    stage.applied(3, 22);
    stage.tick(30, &[1]);
    assert_eq!((second.await.unwrap(), third.await.unwrap()), (Ok(()), Ok(())));
}

#[tokio::test]
async fn where_one_worker_halts_rows_stay_as_they_are() {
    let mut stage = Stage::new(2);
    let compiled = Asked::errors(1, "a", HOUR_MS, 0).compiled();
    let _asking = stage.install(compiled.clone()).await;
    stage.fill(1);
    stage.applied(1, 1);
    let row = ["a".to_owned()];
    stage.say(0, News { advances: vec![(1, TemplateAdvance { changes: vec![(10, changes(&compiled, &row, 1))], ..advance(9) })], ..News::default() });
    stage.tick(10, &[1]);
    assert_eq!(stage.subscriptions.state(1).unwrap().rows, 1);
    // What the one worker takes away the other one would have put in its place.
    let halt = Failure { subscription: None, message: format!("{HALTED}too much"), row: String::new() };
    stage.say(1, News { advances: vec![(1, TemplateAdvance { failures: vec![(11, halt, 1)], ..advance(10) })], ..News::default() });
    stage.say(0, News { advances: vec![(1, TemplateAdvance { changes: vec![(20, changes(&compiled, &row, -1))], ..advance(10) })], ..News::default() });
    stage.tick(20, &[1]);
    let state = stage.subscriptions.state(1).unwrap();
    assert_eq!((state.status, state.rows), (Status::Failed, 1));
    assert!(state.error.is_some_and(|error| error.contains("too much")));
}

#[tokio::test]
async fn an_answer_that_grows_too_large_ends_and_holds_nothing() {
    let mut stage = Stage::new(1);
    let compiled = Asked::errors(1, "a", HOUR_MS, 0).compiled();
    let _asking = stage.install(compiled.clone()).await;
    stage.fill(1);
    stage.applied(1, 1);
    stage.tick(10, &[1]);
    stage.told();
    let rows: Vec<String> = (0..=SUBSCRIPTION_ROWS_MAX).map(|row| row.to_string()).collect();
    let come = |rows: &[String]| (20, changes(&compiled, rows, 1));
    let advance_with = |changes| News { advances: vec![(1, TemplateAdvance { changes, ..advance(10) })], ..News::default() };
    // Within a tick there may be more for a moment.
    stage.say(0, advance_with(vec![come(&rows), (20, changes(&compiled, &rows[..1], -1))]));
    stage.tick(20, &[1]);
    assert_eq!(stage.subscriptions.state(1).map(|state| (state.status, state.rows)), Some((Status::Running, SUBSCRIPTION_ROWS_MAX as u64)));
    stage.say(0, advance_with(vec![(30, changes(&compiled, &rows[..1], 1))]));
    stage.tick(30, &[1]);
    let state = stage.subscriptions.state(1).unwrap();
    assert_eq!((state.status, state.rows), (Status::Failed, 0));
    assert!(state.error.is_some_and(|error| error.contains("more than")));
    assert_eq!(stage.told(), [Told::Parameters { template: 1, ticket: 2, came: 0, gone: 1 }, Told::Drop(1)]);
}

#[tokio::test]
async fn stored_rows_that_cannot_be_read_are_read_again_for_ever_and_a_creation_is_refused() {
    let mut stage = Stage::new(1);
    let fail = |stage: &mut Stage, template| {
        stage.coordinator.take(Notice::HydrationFailed { template, error: "no such file".to_owned() });
        stage.coordinator.turn();
    };
    let again = |stage: &mut Stage, template| {
        stage.coordinator.take(Notice::FillAgain { template });
        stage.coordinator.turn();
    };
    let created = stage.install(Asked::errors(1, "a", HOUR_MS, 0).compiled()).await;
    for template in 1..=3 {
        fail(&mut stage, template);
        assert_eq!(stage.subscriptions.state(1).map(|state| state.status), Some(Status::Hydrating));
        again(&mut stage, template);
    }
    fail(&mut stage, 4);
    assert!(created.await.unwrap().is_err_and(|error| error.to_string().contains("no such file")));
    assert_eq!(stage.subscriptions.states(), [], "nothing of it stays");

    // One that stood before the start is tried for ever, and says so.
    let (subscriptions, compiled) = (stage.subscriptions.clone(), Asked::errors(2, "a", HOUR_MS, 0).compiled());
    let taking_up = stage.ask(async move { subscriptions.take_up(vec![compiled]).await }).await;
    for template in 5..=20 {
        fail(&mut stage, template);
        assert!(stage.subscriptions.state(2).unwrap().error.unwrap().contains("no such file"));
        again(&mut stage, template);
    }
    assert!(taking_up.await.unwrap().is_err());
    let told = stage.told();
    let of_newest = |told: &Told| if let Told::Parameters { template: 21, ticket, .. } = told { Some(*ticket) } else { None };
    let ticket = told.iter().find_map(of_newest).unwrap();
    stage.fill(21);
    stage.applied(ticket, 1);
    stage.tick(10, &[21]);
    assert_eq!(stage.subscriptions.state(2).map(|state| (state.status, state.error)), Some((Status::Running, None)));

    // What runs runs on while it is filled anew.
    stage.delete();
    fail(&mut stage, 22);
    let state = stage.subscriptions.state(2).unwrap();
    assert_eq!(state.status, Status::Running);
    assert!(state.error.is_some_and(|error| error.contains("no such file")));
}

#[test]
fn a_subscription_has_one_deadline() {
    let mut deadlines = Deadlines::default();
    for time in 1..100 {
        deadlines.set(1, Some(time));
    }
    deadlines.set(2, Some(50));
    deadlines.set(2, Some(50));
    assert_eq!(deadlines.by_time.len(), 2);
    assert_eq!((deadlines.pop_due(49), deadlines.pop_due(50), deadlines.first()), (None, Some(2), Some(99)));
    deadlines.set(1, None);
    assert!(deadlines.by_time.is_empty() && deadlines.times.is_empty());
}
