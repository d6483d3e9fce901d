//! Alerts through the catalog: commits, the outbox, the log.

use weir_protocol::subscription::transition_id;

use super::*;
use crate::NewSubscription;
use crate::outbox::{DeliveryOutcome, DeliveryResult, DeliveryStatus};
use crate::subscriptions::tests::new;
use crate::testing::{Place, in_both_databases};

const HOOK: &str = "webhook:https://me:hunter2@example.org/x?token=1";

fn transition(subscription: SubscriptionId, key: &str, kind: TransitionKind, tick_ms: u64, notify: &[&str]) -> Transition {
    Transition {
        id: transition_id(subscription, 1, key, kind, tick_ms),
        subscription_id: subscription,
        subscription: "a".to_owned(),
        version: 1,
        org_id: 1,
        project_id: None,
        key: key.to_owned(),
        kind,
        severity: "error".to_owned(),
        row: format!("{{\"n\":{tick_ms}}}"),
        event_time_ms: tick_ms,
        fired_ms: tick_ms,
        notify: notify.iter().map(|target| (*target).to_owned()).collect(),
    }
}

fn active(subscription: SubscriptionId, key: &str, fired_ms: u64) -> ActiveAlert {
    ActiveAlert {
        subscription_id: subscription,
        key: key.to_owned(),
        version: 1,
        escalated: false,
        since_ms: 0,
        fired_ms,
        notified_ms: fired_ms,
        row: "{}".to_owned(),
    }
}

/// A catalog with one subscription (number 1) and a partition that this process holds.
async fn started(place: &Place) -> (Catalog, i64) {
    let catalog = place.open().await;
    catalog.create_first_project(5).await.unwrap();
    catalog.create_subscription(new("a")).await.unwrap();
    let generation = catalog.take_partition(0, 1).await.unwrap();
    (catalog, generation)
}

fn everything() -> AlertQuery {
    AlertQuery { org_id: 1, projects: None, after: 0, limit: usize::MAX }
}

fn result(seq: u64, attempt: u32, outcome: DeliveryOutcome) -> DeliveryResult {
    DeliveryResult { seq, attempt, at_ms: 1_000, duration_ms: 7, outcome }
}

async fn a_commit_is_there_whole_and_only_once(place: Place) {
    let (catalog, generation) = started(&place).await;
    let fired = transition(1, "{\"k\":1}", TransitionKind::Fired, 10, &[HOOK, "email:pay@example.org", HOOK]);
    let commit = AlertCommit {
        generation,
        offsets: [(0, 42)].into(),
        tick_ms: 10,
        transitions: vec![fired.clone(), transition(1, "{\"k\":2}", TransitionKind::Fired, 10, &[])],
        active: vec![active(1, "{\"k\":1}", 10), active(1, "{\"k\":2}", 10)],
        ended: Vec::new(),
    };
    catalog.commit_alerts(&commit).await.unwrap();
    catalog.commit_alerts(&commit).await.unwrap();
    catalog.close().await;
    let catalog = place.open().await;
    let restored = catalog.restore_alerts().await.unwrap();
    assert_eq!((restored.offsets, restored.tick_ms), ([(0, 42)].into(), 10));
    assert_eq!(restored.active.len(), 2);
    let history = catalog.alerts(&everything()).await.unwrap();
    assert_eq!(history.iter().map(|a| a.key.as_str()).collect::<Vec<_>>(), ["{\"k\":1}", "{\"k\":2}"]);
    assert_eq!((&history[0].id, history[0].kind, history[0].delivered_time_ms), (&fired.id, TransitionKind::Fired, None));
    let entries = catalog.outbox_after(0, 100).await.unwrap();
    assert_eq!(entries.iter().map(|e| (e.host.as_str(), e.attempts)).collect::<BTreeSet<_>>(), [("", 0), ("example.org:443", 0)].into());
    assert_eq!(entries.len(), 2, "a target named twice is told once");
    let messages = catalog.outbox_messages(&entries.iter().map(|e| e.seq).collect::<Vec<_>>()).await.unwrap();
    assert!(
        messages
            .iter()
            .any(|m| m.target == HOOK && m.secret.as_deref() == Some("correct horse") && m.transition == Transition { notify: vec![], ..fired.clone() })
    );
    assert!(!format!("{messages:?}").contains("hunter2"));
}

async fn standing_alerts_change_and_end(place: Place) {
    let (catalog, generation) = started(&place).await;
    let commit = |active: Vec<ActiveAlert>, ended: Vec<(SubscriptionId, String)>| AlertCommit {
        generation,
        offsets: [(0, 1)].into(),
        active,
        ended,
        ..AlertCommit::default()
    };
    let key = |i: usize| format!("{{\"k\":{i}}}");
    let many = (0..2_500).map(|i| active(1, &key(i), 1)).collect();
    catalog.commit_alerts(&commit(many, vec![])).await.unwrap();
    let changed = ActiveAlert { escalated: true, row: "{\"n\":2}".to_owned(), ..active(1, &key(0), 1) };
    let twice = vec![active(1, &key(0), 9), changed.clone(), active(1, &key(1), 2)];
    catalog.commit_alerts(&commit(twice, (1..2_499).map(|i| (1, key(i))).collect())).await.unwrap();
    let restored = catalog.restore_alerts().await.unwrap().active;
    let found: BTreeMap<_, _> = restored.iter().map(|a| (a.key.clone(), a)).collect();
    assert_eq!(found.keys().cloned().collect::<BTreeSet<_>>(), [key(0), key(1), key(2_499)].into());
    assert_eq!(found[&key(0)], &changed, "of two changes the last one holds");
    assert_eq!(found[&key(1)].fired_ms, 2, "one that ended and came again stands");
}

async fn a_process_that_lost_its_partition_tells_nobody(place: Place) {
    let (catalog, mine) = started(&place).await;
    catalog.take_partition(0, 2).await.unwrap();
    let commit = AlertCommit {
        generation: mine,
        offsets: [(0, 1)].into(),
        transitions: vec![transition(1, "{}", TransitionKind::Fired, 1, &[HOOK])],
        ..AlertCommit::default()
    };
    assert!(matches!(catalog.commit_alerts(&commit).await.unwrap_err(), CatalogError::Fenced { .. }));
    assert!(catalog.outbox_after(0, 10).await.unwrap().is_empty());
    assert!(catalog.alerts(&everything()).await.unwrap().is_empty());
}

async fn a_dropped_subscription_leaves_its_history_alone(place: Place) {
    let (catalog, generation) = started(&place).await;
    let commit = |key: &str| AlertCommit {
        generation,
        offsets: [(0, 1)].into(),
        transitions: vec![transition(1, key, TransitionKind::Fired, 1, &[HOOK])],
        active: vec![active(1, key, 1)],
        ..AlertCommit::default()
    };
    catalog.commit_alerts(&commit("{\"k\":1}")).await.unwrap();
    let seq = catalog.outbox_after(0, 10).await.unwrap()[0].seq;
    catalog.drop_subscription(1).await.unwrap();
    assert!(catalog.outbox_messages(&[seq]).await.unwrap().is_empty());
    catalog.record_deliveries(&[result(seq, 1, DeliveryOutcome::Delivered)]).await.unwrap();
    catalog.commit_alerts(&commit("{\"k\":2}")).await.unwrap();
    assert_eq!(catalog.alerts(&everything()).await.unwrap().len(), 1);
    assert!(catalog.restore_alerts().await.unwrap().active.is_empty());
    assert!(catalog.outbox_after(0, 10).await.unwrap().is_empty());
}

async fn attempts_are_logged_and_end_the_row_once(place: Place) {
    let (catalog, generation) = started(&place).await;
    let transitions = vec![transition(1, "{}", TransitionKind::Fired, 1, &[HOOK]), transition(1, "{}", TransitionKind::Resolved, 2, &[HOOK])];
    let again = AlertCommit { generation, offsets: [(0, 1)].into(), transitions, ..AlertCommit::default() };
    catalog.commit_alerts(&again).await.unwrap();
    let entries = catalog.outbox_after(0, 10).await.unwrap();
    let (first, second) = (entries[0].seq, entries[1].seq);
    assert_eq!((&entries[0].receiver, &entries[0].key_hash), (&entries[1].receiver, &entries[1].key_hash));
    let retry = DeliveryOutcome::Retry { due_ms: 5_000, error: "503".to_owned() };
    catalog.record_deliveries(&[result(first, 1, retry)]).await.unwrap();
    let entry = catalog.outbox_after(0, 1).await.unwrap().remove(0);
    assert_eq!((entry.attempts, entry.due_ms), (1, 5_000));
    let ends = [result(first, 2, DeliveryOutcome::Delivered), result(second, 1, DeliveryOutcome::Failed { error: "404".repeat(1_000) })];
    catalog.record_deliveries(&ends).await.unwrap();
    catalog.record_deliveries(&ends).await.unwrap();
    catalog.commit_alerts(&again).await.unwrap();
    assert!(catalog.outbox_after(0, 10).await.unwrap().is_empty(), "a delivered transition committed again is not sent again");
    let log = catalog.deliveries(&everything()).await.unwrap();
    let shown: Vec<_> = log.iter().map(|d| (d.attempt, d.status, d.error.as_deref().map(str::len))).collect();
    assert_eq!(shown, [(1, DeliveryStatus::Retrying, Some(3)), (2, DeliveryStatus::Delivered, None), (1, DeliveryStatus::Failed, Some(ERROR_BYTES))]);
    assert!(log.iter().all(|d| d.target == "webhook:https://example.org/x?…"), "{log:?}");
    let delivered: Vec<_> = catalog.alerts(&everything()).await.unwrap().iter().map(|a| a.delivered_time_ms).collect();
    assert_eq!(delivered, [Some(1_007), None]);
}

/// What is kept of an error.
const ERROR_BYTES: usize = 500;

async fn what_cannot_be_sent_is_in_the_log_and_not_lost(place: Place) {
    let (catalog, generation) = started(&place).await;
    let nonsense = transition(1, "{}", TransitionKind::Fired, 1, &["pager:secret"]);
    catalog.commit_alerts(&AlertCommit { generation, offsets: [(0, 1)].into(), transitions: vec![nonsense], ..AlertCommit::default() }).await.unwrap();
    let log = catalog.deliveries(&everything()).await.unwrap();
    assert_eq!((log.len(), log[0].attempt, log[0].status, log[0].target.as_str()), (1, 0, DeliveryStatus::Failed, "pager:…"));
    let mut all = Vec::new();
    for i in 0..limits::OUTBOX_COUNT_MAX + 3 {
        all.push(transition(1, &format!("{{\"k\":{i}}}"), TransitionKind::Fired, 2, &["email:a@b"]));
    }
    catalog.commit_alerts(&AlertCommit { generation, offsets: [(0, 2)].into(), transitions: all, ..AlertCommit::default() }).await.unwrap();
    assert_eq!(catalog.outbox_after(0, usize::MAX >> 1).await.unwrap().len(), limits::OUTBOX_COUNT_MAX);
    let log = catalog.deliveries(&AlertQuery { after: log[0].seq, ..everything() }).await.unwrap();
    assert_eq!(log.len(), 3);
    assert!(log[0].error.as_deref().unwrap().contains("wait already"), "{log:?}");
}

async fn readers_see_the_alerts_of_their_projects(place: Place) {
    let (catalog, generation) = started(&place).await;
    catalog.create_subscription(NewSubscription { projects: None, ..new("all") }).await.unwrap();
    let of = |subscription, key: &str, project_id| Transition { project_id, ..transition(subscription, key, TransitionKind::Fired, 1, &[]) };
    let transitions = vec![of(1, "1", Some(1)), of(1, "2", Some(2)), of(1, "of 1 and 2", None), of(2, "of all", None)];
    catalog.commit_alerts(&AlertCommit { generation, offsets: [(0, 1)].into(), transitions, ..AlertCommit::default() }).await.unwrap();
    for (projects, want) in [
        (None, vec!["1", "2", "of 1 and 2", "of all"]),
        (Some(vec![1]), vec!["1"]),
        (Some(vec![1, 2, 3]), vec!["1", "2", "of 1 and 2"]),
        (Some(vec![]), vec![]),
    ] {
        let query = AlertQuery { projects: projects.map(|p| p.into_iter().collect()), ..everything() };
        let seen: Vec<String> = catalog.alerts(&query).await.unwrap().into_iter().map(|a| a.key).collect();
        assert_eq!(seen, want, "{:?}", query.projects);
    }
    let first = catalog.alerts(&AlertQuery { limit: 2, ..everything() }).await.unwrap();
    let rest = catalog.alerts(&AlertQuery { after: first[1].seq, ..everything() }).await.unwrap();
    assert_eq!((first.len(), rest.len(), rest[0].key.as_str()), (2, 2, "of 1 and 2"));
    assert!(catalog.alerts(&AlertQuery { org_id: 2, ..everything() }).await.unwrap().is_empty());
}

async fn old_entries_go_unless_they_are_still_to_be_delivered(place: Place) {
    let (catalog, generation) = started(&place).await;
    let transitions = vec![transition(1, "old", TransitionKind::Fired, 1, &[]), transition(1, "old, waiting", TransitionKind::Fired, 1, &[HOOK])];
    let young = transition(1, "young", TransitionKind::Fired, limits::ALERT_HISTORY_MS + 1, &[]);
    let transitions = transitions.into_iter().chain([young]).collect();
    catalog.commit_alerts(&AlertCommit { generation, offsets: [(0, 1)].into(), transitions, ..AlertCommit::default() }).await.unwrap();
    assert_eq!(catalog.trim_alerts(limits::ALERT_HISTORY_MS + 2).await.unwrap(), 1);
    let keys: Vec<String> = catalog.alerts(&everything()).await.unwrap().into_iter().map(|a| a.key).collect();
    assert_eq!(keys, ["old, waiting", "young"]);
    let seq = catalog.outbox_after(0, 1).await.unwrap()[0].seq;
    catalog.record_deliveries(&[result(seq, 1, DeliveryOutcome::Delivered)]).await.unwrap();
    assert_eq!(catalog.trim_alerts(limits::ALERT_HISTORY_MS + 2).await.unwrap(), 2, "the entry and the line of its delivery, which is of 1970");
    assert_eq!(catalog.deliveries(&everything()).await.unwrap(), []);
}

in_both_databases!(
    a_commit_is_there_whole_and_only_once,
    standing_alerts_change_and_end,
    a_process_that_lost_its_partition_tells_nobody,
    a_dropped_subscription_leaves_its_history_alone,
    attempts_are_logged_and_end_the_row_once,
    what_cannot_be_sent_is_in_the_log_and_not_lost,
    readers_see_the_alerts_of_their_projects,
    old_entries_go_unless_they_are_still_to_be_delivered
);
