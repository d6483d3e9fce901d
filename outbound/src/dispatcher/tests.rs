//! The dispatcher with a real catalog, a real HTTP receiver and a real mail server.

use std::collections::BTreeSet;
use std::path::Path;

use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;
use weir_catalog::{AlertCommit, AlertQuery, DeliveryRow, DeliveryStatus, NewSubscription};
use weir_protocol::subscription::{SubscriptionOptions, Transition, TransitionKind, transition_id};

use super::*;
use crate::client::Client;
use crate::mail::Mail;
use crate::reach::Reach;
use crate::receivers::{Answer, MailServer, Receiver, until};

/// Patience for tests that wait for repetitions.
const QUICK: Patience =
    Patience { first_ms: 10, longest_ms: 40, pause_ms_max: 20, age_ms_max: 3_600_000, attempts_at_once_max: 64, attempts_at_once_of_a_host_max: 8 };

struct World {
    dir: tempfile::TempDir,
    catalog: Catalog,
    generation: i64,
}

impl World {
    async fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let catalog = open(dir.path()).await;
        catalog.create_first_project(1).await.unwrap();
        let options = SubscriptionOptions { secret: Some("correct horse".to_owned()), ..SubscriptionOptions::default() };
        let new = NewSubscription { name: "s".to_owned(), query: String::new(), options, org_id: 1, projects: None, created_by: String::new(), created_ms: 1 };
        catalog.create_subscription(new).await.unwrap();
        let generation = catalog.take_partition(0, 1).await.unwrap();
        Self { dir, catalog, generation }
    }

    /// The catalog as a program finds it that is started after this one died.
    async fn restarted(self) -> Self {
        self.catalog.close().await;
        let catalog = open(self.dir.path()).await;
        Self { catalog, ..self }
    }

    fn dispatcher(&self, mail: Option<Mail>) -> Dispatcher {
        let client = Client::new(Reach::allowing(Reach::networks("127.0.0.0/8").unwrap())).unwrap();
        Dispatcher::start(self.catalog.clone(), Courier::new(client, mail), QUICK)
    }

    /// Commits a transition of a key; gives its id.
    async fn commit(&self, key: &str, kind: TransitionKind, notify: &[String]) -> String {
        let tick_ms = now_ms();
        let id = transition_id(1, 1, key, kind, tick_ms);
        let transition = Transition {
            id: id.clone(),
            subscription_id: 1,
            subscription: "s".to_owned(),
            version: 1,
            org_id: 1,
            project_id: None,
            key: format!("{{\"k\":\"{key}\"}}"),
            kind,
            severity: "error".to_owned(),
            row: format!("{{\"k\":\"{key}\",\"n\":5}}"),
            event_time_ms: tick_ms,
            fired_ms: tick_ms,
            notify: notify.to_vec(),
        };
        let commit = AlertCommit { generation: self.generation, offsets: [(0, 1)].into(), tick_ms, transitions: vec![transition], ..AlertCommit::default() };
        self.catalog.commit_alerts(&commit).await.unwrap();
        id
    }

    async fn log(&self) -> Vec<DeliveryRow> {
        self.catalog.deliveries(&AlertQuery { org_id: 1, projects: None, after: 0, limit: usize::MAX }).await.unwrap()
    }

    /// Waits until the log has so many entries.
    async fn logged(&self, count: usize) -> Vec<DeliveryRow> {
        for _ in 0..3_000 {
            let log = self.log().await;
            if log.len() >= count {
                return log;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        panic!("the log has not {count} entries: {:?}", self.log().await);
    }

    async fn waiting(&self) -> usize {
        self.catalog.outbox_after(0, 1_000).await.unwrap().len()
    }
}

async fn open(dir: &Path) -> Catalog {
    Catalog::open(&dir.join("catalog.sqlite")).await.unwrap()
}

fn statuses(log: &[DeliveryRow]) -> Vec<(u32, DeliveryStatus)> {
    log.iter().map(|row| (row.attempt, row.status)).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_webhook_arrives_signed_once_and_is_recorded() {
    let world = World::new().await;
    let receiver = Receiver::start(|_, _| Answer::Status(200)).await;
    let dispatcher = world.dispatcher(None);
    let id = world.commit("a", TransitionKind::Fired, &[format!("webhook:{}", receiver.url("/hook"))]).await;
    let log = world.logged(1).await;
    let arrived = receiver.arrived();
    assert_eq!(arrived.len(), 1);
    let arrived = &arrived[0];
    assert_eq!((arrived.method.as_str(), arrived.path.as_str(), arrived.header("content-type")), ("POST", "/hook", Some("application/json")));
    assert_eq!(arrived.header("idempotency-key"), Some(id.as_str()));
    let mut mac = Hmac::<Sha256>::new_from_slice(b"correct horse").unwrap();
    mac.update(arrived.body.as_bytes());
    let want: String = mac.finalize().into_bytes().iter().map(|byte| format!("{byte:02x}")).collect();
    assert_eq!(arrived.header("x-weir-signature"), Some(format!("sha256={want}").as_str()));
    let body: serde_json::Value = serde_json::from_str(&arrived.body).unwrap();
    assert_eq!((&body["id"], &body["kind"], &body["row"]["n"]), (&id.as_str().into(), &"fired".into(), &5.into()));
    assert_eq!(statuses(&log), [(1, DeliveryStatus::Delivered)]);
    let history = world.catalog.alerts(&AlertQuery { org_id: 1, projects: None, after: 0, limit: 9 }).await.unwrap();
    assert!(history[0].delivered_time_ms.is_some_and(|ms| ms >= history[0].fired_time_ms));
    dispatcher.finish(Duration::from_secs(5)).await;
    assert_eq!((receiver.arrived().len(), world.waiting().await), (1, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn failures_are_repeated_with_the_same_id_and_refusals_are_not() {
    let world = World::new().await;
    let receiver = Receiver::start(|arrived, before| match (arrived.path.as_str(), before) {
        ("/refuses", _) => Answer::Whole(404, vec![], "no such hook".to_owned()),
        (_, 0) => Answer::Status(503),
        (_, 1) => Answer::HangUp,
        (_, 2) => Answer::Whole(429, vec![("retry-after", "0".to_owned())], String::new()),
        _ => Answer::Status(202),
    })
    .await;
    let _dispatcher = world.dispatcher(None);
    let id = world.commit("a", TransitionKind::Failed, &[format!("webhook:{}", receiver.url("/fails"))]).await;
    let log = world.logged(4).await;
    use DeliveryStatus::{Delivered, Failed, Retrying};
    assert_eq!(statuses(&log), [(1, Retrying), (2, Retrying), (3, Retrying), (4, Delivered)], "{log:?}");
    let arrived = receiver.arrived();
    assert_eq!(arrived.iter().map(|a| (a.header("idempotency-key"), &a.body)).collect::<BTreeSet<_>>().len(), 1, "every attempt is the same");
    assert_eq!(arrived[0].header("idempotency-key"), Some(id.as_str()));
    world.commit("b", TransitionKind::Fired, &[format!("webhook:{}", receiver.url("/refuses"))]).await;
    let log = world.logged(5).await;
    assert_eq!((log[4].attempt, log[4].status), (1, Failed));
    assert!(log[4].error.as_deref().unwrap().contains("404") && log[4].error.as_deref().unwrap().contains("no such hook"), "{log:?}");
    assert_eq!(world.waiting().await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_sent_and_not_recorded_is_sent_again_with_the_same_id_and_then_never_more() {
    let world = World::new().await;
    // The first answer never comes: the program dies between sending and recording.
    let receiver = Receiver::start(|_, before| if before == 0 { Answer::Silence } else { Answer::Status(200) }).await;
    let dispatcher = world.dispatcher(None);
    let id = world.commit("a", TransitionKind::Fired, &[format!("webhook:{}", receiver.url("/"))]).await;
    receiver.until(1).await;
    drop(dispatcher);
    let world = world.restarted().await;
    let second = world.dispatcher(None);
    world.logged(1).await;
    let arrived = receiver.arrived();
    assert_eq!(arrived.iter().map(|a| a.header("idempotency-key").unwrap()).collect::<Vec<_>>(), [id.as_str(), id.as_str()]);
    drop(second);
    let world = world.restarted().await;
    let third = world.dispatcher(None);
    // Another delivery shows that this one has looked at the outbox.
    world.commit("b", TransitionKind::Fired, &[format!("webhook:{}", receiver.url("/"))]).await;
    world.logged(2).await;
    third.finish(Duration::from_secs(5)).await;
    let keys: Vec<String> = receiver.arrived().iter().map(|a| a.header("idempotency-key").unwrap().to_owned()).collect();
    assert_eq!(keys.iter().filter(|key| **key == id).count(), 2, "recorded, it is never sent again: {keys:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_happens_to_one_alert_is_told_in_its_order() {
    let world = World::new().await;
    let receiver = Receiver::start(|_, before| if before < 2 { Answer::Status(500) } else { Answer::Status(200) }).await;
    let target = [format!("webhook:{}", receiver.url("/"))];
    for kind in [TransitionKind::Fired, TransitionKind::Escalated, TransitionKind::Resolved] {
        world.commit("a", kind, &target).await;
    }
    let _dispatcher = world.dispatcher(None);
    world.logged(5).await;
    let kinds: Vec<String> = receiver.arrived().iter().map(|a| serde_json::from_str::<serde_json::Value>(&a.body).unwrap()["kind"].to_string()).collect();
    assert_eq!(kinds, ["\"fired\"", "\"fired\"", "\"fired\"", "\"escalated\"", "\"resolved\""]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_receiver_that_hangs_delays_no_other() {
    let world = World::new().await;
    let hanging = Receiver::start(|_, _| Answer::Silence).await;
    let quick = Receiver::start(|_, _| Answer::Status(200)).await;
    for i in 0..50 {
        world.commit(&format!("h{i}"), TransitionKind::Fired, &[format!("webhook:{}", hanging.url("/"))]).await;
    }
    let dispatcher = world.dispatcher(None);
    hanging.until(QUICK.attempts_at_once_of_a_host_max).await;
    for i in 0..50 {
        world.commit(&format!("q{i}"), TransitionKind::Fired, &[format!("webhook:{}", quick.url("/"))]).await;
    }
    quick.until(50).await;
    assert_eq!(hanging.arrived().len(), QUICK.attempts_at_once_of_a_host_max);
    // A stop does not wait for what hangs.
    dispatcher.finish(Duration::from_millis(100)).await;
    assert_eq!(world.waiting().await, 50);
}

#[tokio::test(flavor = "multi_thread")]
async fn slack_gets_its_own_form() {
    let world = World::new().await;
    let receiver = Receiver::start(|_, _| Answer::Whole(200, vec![], "ok".to_owned())).await;
    let _dispatcher = world.dispatcher(None);
    world.commit("a", TransitionKind::Fired, &[format!("slack:{}", receiver.url("/services/T0/B0/secret"))]).await;
    let log = world.logged(1).await;
    assert_eq!((log[0].status, log[0].target.contains("secret")), (DeliveryStatus::Delivered, false), "{log:?}");
    let body: serde_json::Value = serde_json::from_str(&receiver.arrived()[0].body).unwrap();
    assert!(body["text"].as_str().unwrap().contains("s fired: k=a"), "{body}");
    assert_eq!(body["attachments"][0]["fields"][1]["value"], "5");
}

#[tokio::test(flavor = "multi_thread")]
async fn mails_arrive_and_what_the_server_says_decides() {
    let world = World::new().await;
    let server = MailServer::start(|to, before| match (to, before) {
        (_, 0) => ("250 well", "451 try later"),
        ("nobody@example.org", _) => ("550 no such mailbox", "250 taken"),
        _ => ("250 well", "250 taken"),
    })
    .await;
    let mail = Mail::new(&format!("smtp://{}", server.address), "Weir <weir@example.org>").unwrap();
    mail.check().await.unwrap();
    let _dispatcher = world.dispatcher(Some(mail));
    let id = world.commit("a", TransitionKind::Fired, &["email:pay@example.org".to_owned()]).await;
    let log = world.logged(2).await;
    assert_eq!(statuses(&log), [(1, DeliveryStatus::Retrying), (2, DeliveryStatus::Delivered)], "{log:?}");
    let arrived = until(|| server.arrived(), |arrived| !arrived.is_empty()).await;
    assert_eq!((arrived.len(), arrived[0].to.as_str()), (1, "pay@example.org"));
    for line in [format!("Message-ID: <{id}@example.org>"), "Subject: [error] s fired: k=a".to_owned(), "n  5".to_owned()] {
        assert!(arrived[0].text.contains(&line), "{line:?} is not in {}", arrived[0].text);
    }
    world.commit("b", TransitionKind::Fired, &["email:nobody@example.org".to_owned()]).await;
    let log = world.logged(3).await;
    assert_eq!((log[2].status, log[2].error.as_deref().unwrap().contains("no such mailbox")), (DeliveryStatus::Failed, true), "{log:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_mail_server_or_a_way_there_the_log_says_so() {
    let world = World::new().await;
    let _dispatcher = world.dispatcher(None);
    world.commit("a", TransitionKind::Fired, &["email:pay@example.org".to_owned(), "webhook:http://10.0.0.1/".to_owned()]).await;
    let log = world.logged(2).await;
    let errors: BTreeSet<&str> = log.iter().map(|row| row.error.as_deref().unwrap()).collect();
    assert!(log.iter().all(|row| row.status == DeliveryStatus::Failed), "{log:?}");
    assert!(errors.iter().any(|error| error.contains("mail.url is not set")) && errors.iter().any(|error| error.contains("outbound.allow")), "{errors:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_waits_for_a_dropped_subscription_is_not_sent() {
    let world = World::new().await;
    let receiver = Receiver::start(|arrived, _| if arrived.path == "/down" { Answer::Status(500) } else { Answer::Status(200) }).await;
    let _dispatcher = world.dispatcher(None);
    world.commit("a", TransitionKind::Fired, &[format!("webhook:{}", receiver.url("/down"))]).await;
    world.logged(2).await;
    world.catalog.drop_subscription(1).await.unwrap();
    let logged = world.log().await.len();
    let new = NewSubscription {
        name: "other".to_owned(),
        query: String::new(),
        options: SubscriptionOptions::default(),
        org_id: 1,
        projects: None,
        created_by: String::new(),
        created_ms: 1,
    };
    assert_eq!(world.catalog.create_subscription(new).await.unwrap().id, 2);
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert!(world.log().await.len() <= logged + 1, "at most the attempt that was under way");
    assert_eq!(world.waiting().await, 0);
}
