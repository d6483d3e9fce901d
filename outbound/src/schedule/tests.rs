//! The schedule under a clock of the test's own.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;
use weir_catalog::{DeliveryOutcome, OutboxEntry};

use super::*;

fn entry(seq: u64, receiver: &str, host: &str, key: &str, created_ms: u64) -> OutboxEntry {
    OutboxEntry {
        seq,
        alert_id: format!("alert{seq}"),
        receiver: receiver.to_owned(),
        host: host.to_owned(),
        subscription_id: 1,
        key_hash: key.to_owned(),
        attempts: 0,
        due_ms: created_ms,
        created_ms,
    }
}

fn retry() -> Verdict {
    Verdict::retry("503".to_owned())
}

/// Ends an attempt; gives the time of the next one.
fn end(schedule: &mut Schedule, seq: u64, verdict: Verdict, now_ms: u64) -> Option<u64> {
    let outcome = schedule.decide(seq, verdict, now_ms);
    schedule.settle(seq, &outcome);
    match outcome {
        DeliveryOutcome::Retry { due_ms, .. } => Some(due_ms),
        _ => None,
    }
}

fn all(schedule: &mut Schedule, now_ms: u64) -> Vec<u64> {
    std::iter::from_fn(|| schedule.next(now_ms)).map(|pick| pick.seq).collect()
}

#[test]
fn a_failing_receiver_is_tried_ever_more_rarely_until_an_age() {
    let patience = Patience::default();
    let mut schedule = Schedule::new(patience);
    schedule.add(entry(1, "r", "h", "k", 0));
    let (mut now_ms, mut waits) = (0, Vec::new());
    let error = loop {
        let pick = schedule.next(now_ms).unwrap();
        assert_eq!(pick.attempt as usize, waits.len() + 1);
        assert_eq!(schedule.next(now_ms), None, "one attempt at a row at a time");
        let outcome = schedule.decide(1, retry(), now_ms);
        schedule.settle(1, &outcome);
        match outcome {
            DeliveryOutcome::Retry { due_ms, .. } => {
                assert_eq!(schedule.next(due_ms - 1), None);
                assert_eq!(schedule.wake_ms(), Some(due_ms.max(now_ms + patience.pause_ms(waits.len() as u32 + 1))));
                waits.push(due_ms - now_ms);
                now_ms = schedule.wake_ms().unwrap();
            }
            DeliveryOutcome::Failed { error } => break error,
            DeliveryOutcome::Delivered => panic!("nothing was delivered"),
        }
    };
    for (i, wait) in waits.iter().enumerate() {
        let doubled = (1_000u64 << i.min(40)).min(patience.longest_ms);
        assert!((doubled * 3 / 4..=doubled * 5 / 4).contains(wait), "wait {i} is {wait} ms");
    }
    assert!(now_ms >= patience.age_ms_max && now_ms < patience.age_ms_max + 2 * patience.longest_ms, "given up at {now_ms} ms");
    assert!(error.contains("503") && error.contains("24 hours"), "{error}");
    assert!(schedule.is_empty() && schedule.in_flight() == 0);
}

#[test]
fn what_the_receiver_asks_for_is_waited_for() {
    let mut schedule = Schedule::new(Patience::default());
    schedule.add(entry(1, "r", "h", "k", 0));
    schedule.next(0).unwrap();
    schedule.add(entry(2, "r", "h", "other", 0));
    let asked = Verdict::Retry { error: "429".to_owned(), after: Some(Duration::from_secs(120)) };
    assert_eq!(end(&mut schedule, 1, asked, 5), Some(120_005));
    assert_eq!(all(&mut schedule, 120_004), Vec::<u64>::new(), "whatever waits for it waits");
    assert_eq!(all(&mut schedule, 120_005), [2, 1]);
}

#[test]
fn refusals_end_it_and_do_not_pause_the_receiver() {
    let mut schedule = Schedule::new(Patience::default());
    schedule.add(entry(1, "r", "h", "k", 0));
    schedule.add(entry(2, "r", "h", "other", 0));
    assert_eq!(schedule.next(0).unwrap().seq, 1);
    assert_eq!(end(&mut schedule, 1, Verdict::Failed { error: "404".to_owned() }, 0), None);
    assert_eq!(schedule.next(0).unwrap().seq, 2);
}

#[test]
fn of_one_alert_nothing_overtakes() {
    let mut schedule = Schedule::new(Patience::default());
    schedule.add(entry(1, "r", "h", "k", 0)); // fired
    schedule.add(entry(2, "r", "h", "k", 0)); // resolved
    schedule.add(entry(3, "r", "h", "other", 0));
    assert_eq!(all(&mut schedule, 0), [1, 3]);
    end(&mut schedule, 3, Verdict::Delivered, 1);
    let due_ms = end(&mut schedule, 1, retry(), 1).unwrap();
    assert_eq!(all(&mut schedule, 50_000_000.min(due_ms + 60_000)), [1], "the second waits for the first");
    end(&mut schedule, 1, Verdict::Delivered, 60_002);
    assert_eq!(all(&mut schedule, 60_002), [2]);
}

#[test]
fn a_dead_host_delays_no_other() {
    let patience = Patience::default();
    let mut schedule = Schedule::new(patience);
    for seq in 1..=20_000 {
        schedule.add(entry(seq, "dead", "dead:443", &format!("k{seq}"), 0));
    }
    schedule.add(entry(20_001, "alive", "alive:443", "k", 0));
    let first = all(&mut schedule, 0);
    assert_eq!(first.len(), patience.attempts_at_once_of_a_host_max + 1);
    assert!(first.contains(&20_001));
    // The dead host's attempts hang; more for the others still goes out.
    end(&mut schedule, 20_001, Verdict::Delivered, 1);
    schedule.add(entry(20_002, "alive", "alive:443", "k", 5));
    assert_eq!(all(&mut schedule, 5), [20_002]);
}

#[test]
fn receivers_of_one_host_take_turns_and_a_failing_one_is_left_alone() {
    let mut schedule = Schedule::new(Patience { attempts_at_once_of_a_host_max: 1, ..Patience::default() });
    for seq in 1..=100 {
        schedule.add(entry(seq, "busy", "h", &format!("k{seq}"), 0));
    }
    schedule.add(entry(101, "quiet", "h", "k", 3));
    let mut order = Vec::new();
    for _ in 0..4 {
        let seq = schedule.next(10).unwrap().seq;
        order.push(seq);
        end(&mut schedule, seq, Verdict::Delivered, 10);
    }
    assert_eq!(order, [1, 101, 2, 3]);
    schedule.add(entry(102, "quiet", "h", "k", 10));
    let failed = all(&mut schedule, 10);
    end(&mut schedule, failed[0], retry(), 11);
    let mut rest = Vec::new();
    while let Some(pick) = schedule.next(12) {
        rest.push(pick.seq);
        end(&mut schedule, pick.seq, retry(), 12);
    }
    assert_eq!(failed.len() + rest.len(), 2, "one attempt at each receiver, then both are left alone: {failed:?} {rest:?}");
}

#[test]
fn failures_at_once_count_once() {
    let patience = Patience::default();
    let mut schedule = Schedule::new(patience);
    (1..=8).for_each(|seq| schedule.add(entry(seq, "r", "h", &format!("k{seq}"), 0)));
    for seq in all(&mut schedule, 0) {
        end(&mut schedule, seq, retry(), 100);
    }
    assert!(schedule.wake_ms().unwrap() <= 100 + 2 * patience.first_ms, "{:?}", schedule.wake_ms());
}

#[test]
fn what_is_too_old_for_a_failing_receiver_is_given_up_unseen() {
    let patience = Patience::default();
    let mut schedule = Schedule::new(patience);
    (1..=3).for_each(|seq| schedule.add(entry(seq, "r", "h", "k", 0)));
    let late = patience.age_ms_max;
    assert_eq!(schedule.expired(late, 9), Vec::<u64>::new(), "each gets an attempt where nothing says that its receiver fails");
    schedule.next(late).unwrap();
    assert_eq!(end(&mut schedule, 1, retry(), late), None);
    schedule.add(entry(4, "r", "h", "other", late));
    schedule.add(entry(5, "fine", "h", "k", 0));
    assert_eq!(schedule.expired(late, 9), [2, 3], "neither the young one nor that of another receiver");
    let outcome = DeliveryOutcome::Failed { error: schedule.expiry() };
    [2, 3].iter().for_each(|seq| schedule.settle(*seq, &outcome));
    assert_eq!((schedule.len(), schedule.expired(late, 9)), (2, vec![]));
}

#[test]
fn an_attempt_never_made_is_put_back() {
    let mut schedule = Schedule::new(Patience::default());
    schedule.add(entry(1, "r", "h", "k", 0));
    schedule.next(0).unwrap();
    schedule.put_back(1, 7);
    assert_eq!((schedule.next(6), schedule.next(7)), (None, Some(Pick { seq: 1, attempt: 1 })));
    schedule.forget(1);
    assert!(schedule.is_empty() && schedule.receivers.is_empty() && schedule.hosts.is_empty() && schedule.chains.is_empty());
}

proptest! {
    /// Whatever comes and however attempts end: each row is delivered or given up exactly once, in the order of its alert; bounds hold;
    /// and at the end nothing is left behind.
    #[test]
    fn every_row_ends_once(
        rows in prop::collection::vec((0..4u8, 0..3u8, 0..3u8), 1..60),
        verdicts in prop::collection::vec(0..5u8, 400),
        ahead in 1..20usize,
    ) {
        let patience = Patience { attempts_at_once_max: 5, attempts_at_once_of_a_host_max: 2, age_ms_max: 100_000, ..Patience::default() };
        let mut schedule = Schedule::new(patience);
        let mut waiting = rows.iter().enumerate().map(|(i, (receiver, host, key))| {
            let receiver = format!("r{receiver}h{host}");
            entry(i as u64 + 1, &receiver, &format!("h{host}"), &format!("k{key}"), 0)
        }).collect::<VecDeque<_>>();
        let chain: BTreeMap<u64, (String, String)> = waiting.iter().map(|e| (e.seq, (e.receiver.clone(), e.key_hash.clone()))).collect();
        let host: BTreeMap<u64, String> = waiting.iter().map(|e| (e.seq, e.host.clone())).collect();
        let (mut now_ms, mut verdicts) = (0, verdicts.into_iter());
        let mut ended: Vec<u64> = Vec::new();
        let mut flying: VecDeque<u64> = VecDeque::new();
        loop {
            for _ in 0..ahead {
                waiting.pop_front().into_iter().for_each(|e| schedule.add(e));
            }
            while let Some(pick) = schedule.next(now_ms) {
                prop_assert!(!ended.contains(&pick.seq) && !flying.contains(&pick.seq));
                flying.push_back(pick.seq);
                let of_host = flying.iter().filter(|seq| host[seq] == host[&pick.seq]).count();
                prop_assert!(flying.len() <= 5 && of_host <= 2);
            }
            if let Some(seq) = flying.pop_front() {
                let verdict = match verdicts.next() {
                    Some(0) => Verdict::Failed { error: String::new() },
                    Some(1 | 2) => retry(),
                    _ => Verdict::Delivered,
                };
                if end(&mut schedule, seq, verdict, now_ms).is_none() {
                    ended.push(seq);
                }
                now_ms += 1;
            } else if let Some(wake_ms) = schedule.wake_ms() {
                prop_assert!(wake_ms > now_ms, "nothing was due, and yet {wake_ms} is not after {now_ms}");
                now_ms = wake_ms;
            } else if waiting.is_empty() {
                break;
            }
        }
        prop_assert_eq!(ended.iter().collect::<BTreeSet<_>>().len(), rows.len());
        for (i, later) in ended.iter().enumerate() {
            prop_assert!(ended[..i].iter().all(|earlier| chain[earlier] != chain[later] || earlier < later));
        }
        prop_assert!(schedule.is_empty() && schedule.receivers.is_empty() && schedule.hosts.is_empty() && schedule.chains.is_empty());
    }
}
