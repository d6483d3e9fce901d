//! The state machine against a slow twin that looks at every millisecond of every key, and across restarts.

use std::collections::BTreeMap;
use std::sync::Arc;

use proptest::prelude::*;
use weir_protocol::subscription::{ActiveAlert, Subscription, SubscriptionOptions, TransitionKind};

use super::{Alerts, Recorded, Seen};
use crate::Time;

fn subscription(options: SubscriptionOptions) -> Arc<Subscription> {
    Arc::new(Subscription {
        id: 7,
        version: 1,
        name: "burst".to_owned(),
        query: "SELECT 1".to_owned(),
        options: SubscriptionOptions { notify: vec!["webhook:http://192.0.2.1".to_owned()], ..options },
        org_id: 1,
        projects: None,
        created_by: "test".to_owned(),
        created_ms: 1,
    })
}

fn seen(fires: bool, escalates: bool, value: u8) -> Seen {
    Seen { fires, escalates, row: format!("{{\"v\":{value}}}"), project_id: None }
}

/// Transitions as kind, key, when its row came to be so, when it happened, and whether somebody is told.
type Told = (TransitionKind, String, Time, Time, bool);

fn told(recorded: &Recorded) -> Vec<Told> {
    recorded.transitions.iter().map(|t| (t.kind, t.key.clone(), t.event_time_ms, t.fired_ms, !t.notify.is_empty())).collect()
}

/// Rows of all keys at each tick.
type History = BTreeMap<Time, BTreeMap<&'static str, Seen>>;

/// Why nobody knows of an alert.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Untold {
    /// Somebody does.
    No,
    Muted,
    TooSoon,
}

/// What should be recorded of a key: walks every millisecond and keeps four plain variables.
fn twin(options: &SubscriptionOptions, history: &History, key: &'static str, end: Time) -> Vec<Told> {
    let (mut waiting_since, mut standing, mut escalated, mut last_told) = (None, None::<(Time, Untold)>, false, None::<Time>);
    let (mut row, mut all) = (None::<Seen>, Vec::new());
    for now in 1..=end {
        if let Some(rows) = history.get(&now) {
            row = rows.get(key).cloned();
            let fires = row.as_ref().is_some_and(|row| row.fires);
            if standing.is_none() {
                waiting_since = fires.then(|| waiting_since.unwrap_or(now));
            }
        }
        let muted = now < options.mute_until_ms;
        if let Some(since) = waiting_since
            && now >= since + options.for_ms
        {
            let untold = match last_told {
                Some(last) if now < last + options.min_interval_ms => Untold::TooSoon,
                _ if muted => Untold::Muted,
                _ => Untold::No,
            };
            (waiting_since, standing, escalated) = (None, Some((now, untold)), false);
            if untold == Untold::No {
                last_told = Some(now);
            }
            all.push((TransitionKind::Fired, key.to_owned(), since, now, untold == Untold::No));
        }
        let Some((fired, untold)) = standing else { continue };
        match &row {
            None => {
                all.push((TransitionKind::Resolved, key.to_owned(), now, now, untold == Untold::No && !muted));
                standing = None;
            }
            Some(row) if row.escalates && !escalated => {
                escalated = true;
                if !muted {
                    (standing, last_told) = (Some((fired, Untold::No)), Some(now));
                }
                all.push((TransitionKind::Escalated, key.to_owned(), now, now, !muted));
            }
            Some(_) => {}
        }
        if let Some((fired, untold)) = standing
            && untold != Untold::No
            && !muted
            && last_told.is_none_or(|last| now >= last + options.min_interval_ms)
            && now > fired
        {
            (standing, last_told) = (Some((fired, Untold::No)), Some(now));
            all.push((TransitionKind::Fired, key.to_owned(), fired, now, true));
        }
    }
    all
}

/// Steps through the history as the coordinator does, with a restart before each of the given ticks.
fn run(options: &SubscriptionOptions, history: &History, restarts: &[Time], end: Time) -> Vec<Told> {
    let definition = subscription(options.clone());
    let mut alerts = Alerts::new(Arc::clone(&definition), [], true);
    let mut store: BTreeMap<String, ActiveAlert> = BTreeMap::new();
    let (mut all, mut before) = (Vec::new(), BTreeMap::new());
    let mut begun = false;
    for (tick, rows) in history {
        let mut recorded = Recorded::default();
        if restarts.contains(tick) {
            alerts = Alerts::new(Arc::clone(&definition), store.values().cloned(), true);
            begun = false;
        }
        if begun {
            alerts.pass(*tick, &mut recorded);
            for key in ["a", "b"] {
                if before.get(key) != rows.get(key) {
                    alerts.observe(*tick, key, rows.get(key).cloned(), &mut recorded);
                }
            }
            alerts.pass(*tick + 1, &mut recorded);
        } else {
            alerts.begin(*tick, rows, &mut recorded);
            begun = true;
        }
        before.clone_from(rows);
        all.extend(record(&mut store, recorded));
    }
    let mut recorded = Recorded::default();
    alerts.pass(end + 1, &mut recorded);
    all.extend(record(&mut store, recorded));
    let standing = store.values().filter(|alert| alert.fired_ms != 0).count();
    assert_eq!(standing, alerts.standing(), "what is recorded is what stands");
    all
}

fn record(store: &mut BTreeMap<String, ActiveAlert>, recorded: Recorded) -> Vec<Told> {
    assert!(recorded.transitions.is_empty() || recorded.urgent, "a transition is recorded at once");
    let made = told(&recorded);
    for ((_, key), active) in recorded.active {
        match active {
            Some(active) => store.insert(key, active),
            None => store.remove(&key),
        };
    }
    made
}

fn histories() -> impl Strategy<Value = History> {
    let row = || prop_oneof![2 => Just(None), 3 => (prop::bool::weighted(0.7), prop::bool::weighted(0.2), 0..3u8).prop_map(Some)];
    prop::collection::vec((1..30u64, row(), row()), 1..40).prop_map(|steps| {
        let mut now = 0;
        type Flags = Option<(bool, bool, u8)>;
        let tick = |(gap, a, b): (u64, Flags, Flags)| {
            now += gap;
            let rows = [("a", a), ("b", b)].into_iter().filter_map(|(key, row)| row.map(|(fires, escalates, value)| (key, seen(fires, escalates, value))));
            (now, rows.collect())
        };
        steps.into_iter().map(tick).collect()
    })
}

fn options() -> impl Strategy<Value = SubscriptionOptions> {
    let wait = || prop_oneof![Just(0u64), 1..60u64];
    (wait(), wait(), wait()).prop_map(|(for_ms, min_interval_ms, mute_until_ms)| SubscriptionOptions {
        for_ms,
        min_interval_ms,
        mute_until_ms,
        ..SubscriptionOptions::default()
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn every_millisecond_agrees(history in histories(), options in options()) {
        let end = history.keys().last().unwrap() + 100;
        let made = run(&options, &history, &[], end);
        for key in ["a", "b"] {
            let of_key: Vec<Told> = made.iter().filter(|t| t.1 == key).cloned().collect();
            prop_assert_eq!(of_key, twin(&options, &history, key, end));
        }
    }

    #[test]
    fn a_restart_changes_nothing(history in histories(), options in options(), restarts in prop::collection::vec(any::<prop::sample::Index>(), 0..4)) {
        let ticks: Vec<Time> = history.keys().copied().collect();
        let restarts: Vec<Time> = restarts.iter().map(|at| ticks[at.index(ticks.len())]).collect();
        let end = ticks.last().unwrap() + 100;
        // What is due while nothing runs (the end of a wait, of a mute, of an interval) is noticed later, or not at all where the row is
        // gone by then: so no waits here, and nothing is due while nothing runs.
        let options = SubscriptionOptions { for_ms: 0, ..options };
        let want = sorted(run(&options, &history, &[], end));
        let is_due_between = |before: Time, at: Time| want.iter().any(|told| (before + 1..at).contains(&told.3));
        let runs = |at: &Time| ticks.iter().rfind(|tick| *tick < at).is_none_or(|before| !is_due_between(*before, *at));
        let restarts: Vec<Time> = restarts.into_iter().filter(runs).collect();
        prop_assert_eq!(sorted(run(&options, &history, &restarts, end)), want);
    }
}

fn sorted(mut all: Vec<Told>) -> Vec<Told> {
    all.sort_by(|a, b| (a.3, &a.1, a.0).cmp(&(b.3, &b.1, b.0)));
    all
}

#[test]
fn a_wait_survives_a_restart() {
    let options = SubscriptionOptions { for_ms: 50, ..SubscriptionOptions::default() };
    let there = || BTreeMap::from([("a", seen(true, false, 1))]);
    let history = History::from([(10, there()), (20, there()), (30, there()), (70, there())]);
    let want = vec![(TransitionKind::Fired, "a".to_owned(), 10, 60, true)];
    assert_eq!(run(&options, &history, &[20, 30], 100), want);
    // Even where the process was down when the wait ended.
    assert_eq!(run(&options, &history, &[70], 100), want);
    // A row that left meanwhile has not held long enough, as far as anybody knows.
    let left = History::from([(10, there()), (70, BTreeMap::new())]);
    assert_eq!(run(&options, &left, &[70], 100), []);
}

#[test]
fn a_restart_resolves_what_ended_meanwhile() {
    let there = BTreeMap::from([("a", seen(true, true, 1))]);
    let history = History::from([(10, there), (90, BTreeMap::new())]);
    let made = run(&SubscriptionOptions::default(), &history, &[90], 100);
    let kinds: Vec<_> = made.iter().map(|t| (t.0, t.3)).collect();
    assert_eq!(kinds, [(TransitionKind::Fired, 10), (TransitionKind::Escalated, 10), (TransitionKind::Resolved, 90)]);
}

#[test]
fn severities_and_rows() {
    let options = SubscriptionOptions { severity: Some("warning".to_owned()), ..SubscriptionOptions::default() };
    let mut alerts = Alerts::new(subscription(options), [], true);
    let mut recorded = Recorded::default();
    alerts.observe(10, "a", Some(seen(true, false, 1)), &mut recorded);
    alerts.observe(20, "a", Some(seen(true, true, 2)), &mut recorded);
    alerts.observe(30, "a", Some(seen(false, false, 3)), &mut recorded);
    alerts.observe(40, "a", None, &mut recorded);
    let shown: Vec<_> = recorded.transitions.iter().map(|t| (t.kind.as_str(), t.severity.as_str(), t.row.as_str())).collect();
    assert_eq!(shown, [("fired", "warning", "{\"v\":1}"), ("escalated", "critical", "{\"v\":2}"), ("resolved", "critical", "{\"v\":3}")]);
    let ids: std::collections::BTreeSet<_> = recorded.transitions.iter().map(|t| &t.id).collect();
    assert_eq!(ids.len(), 3);
}

#[test]
fn an_altered_subscription_keeps_the_keys_of_both_versions() {
    let first = subscription(SubscriptionOptions::default());
    let mut alerts = Alerts::new(Arc::clone(&first), [], true);
    alerts.begin(10, &BTreeMap::from([("a", seen(true, false, 1)), ("b", seen(true, false, 1))]), &mut Recorded::default());
    let mut recorded = Recorded::default();
    alerts.alter(20, Arc::new(Subscription { version: 2, ..Subscription::clone(&first) }));
    alerts.begin(20, &BTreeMap::from([("b", seen(true, false, 5)), ("c", seen(true, false, 1))]), &mut recorded);
    let shown: Vec<_> = recorded.transitions.iter().map(|t| (t.kind, t.key.as_str(), t.version)).collect();
    assert_eq!(shown, [(TransitionKind::Resolved, "a", 2), (TransitionKind::Fired, "c", 2)]);
    assert_eq!(recorded.active[&(7, "b".to_owned())].as_ref().map(|alert| (alert.version, alert.fired_ms)), Some((2, 10)));
}

#[test]
fn a_failure_is_told_once_until_it_is_over() {
    let definition = subscription(SubscriptionOptions::default());
    let mut alerts = Alerts::new(Arc::clone(&definition), [], true);
    let mut recorded = Recorded::default();
    alerts.fail(10, "{}".to_owned(), &mut recorded);
    alerts.fail(20, "{}".to_owned(), &mut recorded);
    let mut restarted = Alerts::new(definition, recorded.active.values().flatten().cloned(), true);
    restarted.begin(25, &BTreeMap::new(), &mut recorded);
    restarted.fail(30, "{}".to_owned(), &mut recorded);
    assert_eq!(told(&recorded), [(TransitionKind::Failed, "{}".to_owned(), 10, 10, true)]);
    restarted.recover(&mut recorded);
    restarted.fail(40, "{}".to_owned(), &mut recorded);
    assert_eq!(told(&recorded).last(), Some(&(TransitionKind::Failed, "{}".to_owned(), 40, 40, true)));
}

#[test]
fn keys_are_forgotten_when_their_least_interval_has_passed() {
    let mut alerts = Alerts::new(subscription(SubscriptionOptions { min_interval_ms: 100, ..SubscriptionOptions::default() }), [], true);
    let mut recorded = Recorded::default();
    alerts.observe(10, "a", Some(seen(true, false, 1)), &mut recorded);
    alerts.observe(20, "a", None, &mut recorded);
    assert_eq!(alerts.next_deadline(), Some(110));
    alerts.pass(111, &mut recorded);
    assert_eq!((alerts.next_deadline(), alerts.keys.len()), (None, 0));
    assert_eq!(recorded.active, BTreeMap::from([((7, "a".to_owned()), None)]));
}

#[test]
fn an_alert_that_fired_muted_is_announced_when_the_mute_ends() {
    let options = SubscriptionOptions { mute_until_ms: 100, ..SubscriptionOptions::default() };
    let there = |escalates| BTreeMap::from([("a", seen(true, escalates, 1))]);
    let fired = |event_time, at, told| (TransitionKind::Fired, "a".to_owned(), event_time, at, told);
    let resolved = |at, told| (TransitionKind::Resolved, "a".to_owned(), at, at, told);
    // Once, and from then on it is told of like any other. It was raised meanwhile: it is announced as it stands.
    let raised = History::from([(10, there(false)), (20, there(true)), (150, BTreeMap::new())]);
    let escalated = (TransitionKind::Escalated, "a".to_owned(), 20, 20, false);
    let want = vec![fired(10, 10, false), escalated, fired(10, 100, true), resolved(150, true)];
    for restarts in [&[][..], &[20], &[150]] {
        let want = if restarts == [150] { [&want[..2], &[resolved(150, false)]].concat() } else { want.clone() };
        assert_eq!(run(&options, &raised, restarts, 200), want, "restarts at {restarts:?}");
    }
    // One that resolved meanwhile is not told of at all.
    let short = History::from([(10, there(false)), (50, BTreeMap::new())]);
    assert_eq!(run(&options, &short, &[], 200), [fired(10, 10, false), resolved(50, false)]);
    // The mute ended while nothing ran: it is announced when its row is seen again, as of the end of the mute.
    let long = History::from([(10, there(false)), (150, there(false)), (160, there(false))]);
    assert_eq!(run(&options, &long, &[150], 200), [fired(10, 10, false), fired(10, 100, true)]);
    assert_eq!(run(&options, &long, &[150, 160], 200), [fired(10, 10, false), fired(10, 100, true)]);
}

#[test]
fn an_alert_that_fired_too_soon_and_stands_is_announced_when_the_interval_ends() {
    let there = || BTreeMap::from([("a", seen(true, false, 1))]);
    let history = History::from([(10, there()), (20, BTreeMap::new()), (30, there()), (200, BTreeMap::new()), (210, there()), (215, BTreeMap::new())]);
    let fired = |event_time, at, told| (TransitionKind::Fired, "a".to_owned(), event_time, at, told);
    let resolved = |at, told| (TransitionKind::Resolved, "a".to_owned(), at, at, told);
    let want = |announced, again| {
        let first = [fired(10, 10, true), resolved(20, true), fired(30, 30, false)];
        [&first[..], &[fired(30, announced, true), resolved(200, true)], &[fired(210, 210, again), resolved(215, again)]].concat()
    };
    let options = SubscriptionOptions { min_interval_ms: 100, ..SubscriptionOptions::default() };
    assert_eq!(run(&options, &history, &[], 300), want(110, true));
    // The later of both: the interval, and the mute.
    let muted = SubscriptionOptions { min_interval_ms: 150, ..options };
    assert_eq!(run(&muted, &history, &[30], 300), want(160, false));
}

#[test]
fn a_mute_that_is_lifted_announces_what_stands() {
    let muted = subscription(SubscriptionOptions { mute_until_ms: 1000, ..SubscriptionOptions::default() });
    let mut alerts = Alerts::new(Arc::clone(&muted), [], true);
    let rows = BTreeMap::from([("a", seen(true, false, 1))]);
    let mut recorded = Recorded::default();
    alerts.begin(10, &rows, &mut recorded);
    assert_eq!(alerts.next_deadline(), Some(1000));
    let lifted = subscription(SubscriptionOptions::default());
    alerts.alter(50, Arc::clone(&lifted));
    alerts.pass(60, &mut recorded);
    let want = [(TransitionKind::Fired, "a".to_owned(), 10, 10, false), (TransitionKind::Fired, "a".to_owned(), 10, 50, true)];
    assert_eq!(told(&recorded), want);
    assert_ne!(recorded.transitions[0].id, recorded.transitions[1].id);
    assert_eq!(alerts.next_deadline(), None);
    // Where the process ended between the two, the alert is announced after the restart.
    let mut before = Recorded::default();
    Alerts::new(muted, [], true).begin(10, &rows, &mut before);
    let mut restarted = Alerts::new(lifted, before.active.values().flatten().cloned(), true);
    let mut after = Recorded::default();
    restarted.begin(70, &rows, &mut after);
    assert_eq!(told(&after).iter().map(|t| (t.0, t.4)).collect::<Vec<_>>(), [(TransitionKind::Fired, true)]);
    assert_ne!(after.transitions[0].id, recorded.transitions[0].id);
}

#[test]
fn a_failure_that_was_muted_is_told_when_the_mute_ends() {
    let definition = subscription(SubscriptionOptions { mute_until_ms: 100, ..SubscriptionOptions::default() });
    let failed = |event_time, at, told| (TransitionKind::Failed, "{}".to_owned(), event_time, at, told);
    let mut alerts = Alerts::new(Arc::clone(&definition), [], true);
    let mut recorded = Recorded::default();
    alerts.fail(10, "{}".to_owned(), &mut recorded);
    let active: Vec<ActiveAlert> = recorded.active.values().flatten().cloned().collect();
    alerts.pass(150, &mut recorded);
    assert_eq!(told(&recorded), [failed(10, 10, false), failed(10, 100, true)]);
    // After a restart it is told only if it fails still.
    let mut restarted = Alerts::new(Arc::clone(&definition), active.clone(), true);
    let mut recorded = Recorded::default();
    restarted.begin(120, &BTreeMap::new(), &mut recorded);
    restarted.fail(120, "{}".to_owned(), &mut recorded);
    restarted.pass(121, &mut recorded);
    assert_eq!(told(&recorded), [failed(10, 100, true)]);
    let mut mended = Alerts::new(definition, active, true);
    let mut recorded = Recorded::default();
    mended.begin(120, &BTreeMap::new(), &mut recorded);
    mended.recover(&mut recorded);
    mended.pass(130, &mut recorded);
    assert_eq!((told(&recorded), mended.next_deadline()), (Vec::new(), None));
}

#[test]
fn a_restored_alert_is_of_the_project_of_its_row_only_where_that_is_known_and_read() {
    let project_of = |projects: Option<&[u64]>, names_project| {
        let definition = Subscription {
            projects: projects.map(|projects| projects.iter().copied().collect()),
            ..Subscription::clone(&subscription(SubscriptionOptions::default()))
        };
        let active = ActiveAlert {
            subscription_id: 7,
            key: "a".to_owned(),
            version: 1,
            escalated: false,
            since_ms: 0,
            fired_ms: 10,
            notified_ms: 10,
            row: r#"{"project_id":2}"#.to_owned(),
        };
        let mut recorded = Recorded::default();
        Alerts::new(Arc::new(definition), [active], names_project).observe(20, "a", None, &mut recorded);
        recorded.transitions[0].project_id
    };
    assert_eq!(project_of(None, true), Some(2));
    assert_eq!(project_of(Some(&[1, 2]), true), Some(2));
    assert_eq!(project_of(Some(&[1, 2]), false), None);
    assert_eq!(project_of(Some(&[1, 3]), true), None);
    assert_eq!(project_of(Some(&[1]), true), Some(1), "a subscription that reads one project is of that");
}
