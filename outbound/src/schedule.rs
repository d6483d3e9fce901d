//! What is sent when: pure, so that a test can be its clock.
//!
//! Rules. One attempt at a row at a time. Of one receiver, what happened to one alert is delivered in its order: that it resolved is
//! not told before that it fired. A failed attempt is repeated after a time that doubles, up to an age. A receiver that fails is left
//! alone for a while, whatever waits for it; receivers of a host take turns, and so do hosts, each with a bounded number of attempts
//! at once, so that one that is dead or slow delays no other.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::ops::Bound;
use std::sync::Arc;
use std::time::Duration;

use weir_catalog::{DeliveryOutcome, OutboxEntry};
use weir_protocol::subscription::SubscriptionId;

use crate::courier::Verdict;

/// How long and how often is tried.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Patience {
    /// The time before the first repetition; it doubles with each.
    pub first_ms: u64,
    /// The longest time between two attempts.
    pub longest_ms: u64,
    /// The longest time for which a failing receiver is left alone.
    pub pause_ms_max: u64,
    /// The age at which a notification is given up.
    pub age_ms_max: u64,
    /// Attempts at once, of all hosts.
    pub attempts_at_once_max: usize,
    /// Attempts at once, of one host; e-mail counts as one host.
    pub attempts_at_once_of_a_host_max: usize,
}

impl Default for Patience {
    fn default() -> Self {
        Self {
            first_ms: 1_000,
            longest_ms: 15 * 60_000,
            pause_ms_max: 60_000,
            age_ms_max: 24 * 3_600_000,
            attempts_at_once_max: 64,
            attempts_at_once_of_a_host_max: 8,
        }
    }
}

/// An attempt that is to be made now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pick {
    /// The row of the outbox.
    pub seq: u64,
    /// Which attempt, from 1.
    pub attempt: u32,
}

/// What waits, and what is under way.
#[derive(Debug)]
pub struct Schedule {
    patience: Patience,
    rows: BTreeMap<u64, Waiting>,
    chains: BTreeMap<Chain, VecDeque<u64>>,
    receivers: BTreeMap<Name, Receiver>,
    hosts: BTreeMap<Name, Host>,
    in_flight: BTreeMap<u64, u64>,
    /// The host that was served last.
    last_host: Option<Name>,
    turn: u64,
}

type Name = Arc<str>;
/// Rows that are delivered one after the other: receiver, subscription, key of the alert.
type Chain = (Name, SubscriptionId, String);

#[derive(Debug)]
struct Waiting {
    alert_id: String,
    chain: Chain,
    attempts: u32,
    due_ms: u64,
    created_ms: u64,
}

#[derive(Debug)]
struct Receiver {
    host: Name,
    /// The rows that may be tried from a time on: the first of each chain, unless it is under way.
    queue: BTreeSet<(u64, u64)>,
    /// All rows, those behind others and those under way included.
    rows: usize,
    failures: u32,
    failed_ms: u64,
    paused_until_ms: u64,
    /// When it was served last, counted in attempts.
    turn: u64,
    place: Option<Place>,
}

/// Where a receiver stands in its host.
#[derive(Debug, Clone, Copy)]
enum Place {
    /// It has nothing to be tried before this time.
    Later(u64),
    /// It waits for its turn.
    Now(u64),
}

#[derive(Debug, Default)]
struct Host {
    in_flight: usize,
    later: BTreeSet<(u64, Name)>,
    now: BTreeSet<(u64, Name)>,
    receivers: usize,
}

impl Schedule {
    /// An empty one.
    pub fn new(patience: Patience) -> Self {
        Self {
            patience,
            rows: BTreeMap::new(),
            chains: BTreeMap::new(),
            receivers: BTreeMap::new(),
            hosts: BTreeMap::new(),
            in_flight: BTreeMap::new(),
            last_host: None,
            turn: 0,
        }
    }

    /// How many rows wait or are under way.
    pub fn len(&self) -> usize {
        self.rows.len()
    }

    /// Whether there is nothing.
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// How many attempts are under way.
    pub fn in_flight(&self) -> usize {
        self.in_flight.len()
    }

    /// Adds a row of the outbox. Rows are added in the order of their numbers, each once.
    pub fn add(&mut self, entry: OutboxEntry) {
        let (receiver, host): (Name, Name) = (entry.receiver.into(), entry.host.into());
        let chain = (receiver.clone(), entry.subscription_id, entry.key_hash);
        let host_state = self.hosts.entry(host.clone()).or_default();
        let state = self.receivers.entry(receiver.clone()).or_insert_with(|| {
            host_state.receivers += 1;
            Receiver { host, queue: BTreeSet::new(), rows: 0, failures: 0, failed_ms: 0, paused_until_ms: 0, turn: 0, place: None }
        });
        state.rows += 1;
        let before = self.chains.entry(chain.clone()).or_default();
        before.push_back(entry.seq);
        if before.len() == 1 {
            state.queue.insert((entry.due_ms, entry.seq));
        }
        let waiting = Waiting { alert_id: entry.alert_id, chain, attempts: entry.attempts, due_ms: entry.due_ms, created_ms: entry.created_ms };
        self.rows.insert(entry.seq, waiting);
        self.replace(&receiver);
    }

    /// The next attempt to be made now, if any may be; it is under way until [`settle`](Self::settle) or [`forget`](Self::forget).
    pub fn next(&mut self, now_ms: u64) -> Option<Pick> {
        if self.in_flight.len() >= self.patience.attempts_at_once_max {
            return None;
        }
        let receiver = self.next_receiver(now_ms)?;
        self.turn += 1;
        let state = self.receivers.get_mut(&receiver)?;
        let (_, seq) = state.queue.pop_first()?;
        state.turn = self.turn;
        self.hosts.get_mut(&state.host)?.in_flight += 1;
        self.last_host = Some(state.host.clone());
        self.in_flight.insert(seq, now_ms);
        self.replace(&receiver);
        self.rows.get(&seq).map(|row| Pick { seq, attempt: row.attempts + 1 })
    }

    /// The receiver that waited longest for its turn, of the next host that has one after the host that was served last.
    fn next_receiver(&mut self, now_ms: u64) -> Option<Name> {
        let at_once_max = self.patience.attempts_at_once_of_a_host_max;
        let has_one =
            |host: &Host| host.in_flight < at_once_max && (!host.now.is_empty() || host.later.first().is_some_and(|(ready_ms, _)| *ready_ms <= now_ms));
        let first_of = |range: (Bound<&str>, Bound<&str>)| self.hosts.range::<str, _>(range).find(|(_, host)| has_one(host)).map(|(name, _)| name.clone());
        let last = self.last_host.as_deref().unwrap_or_default();
        let host = first_of((Bound::Excluded(last), Bound::Unbounded)).or_else(|| first_of((Bound::Unbounded, Bound::Included(last))))?;
        self.ready_of(&host, now_ms)
    }

    fn ready_of(&mut self, host: &Name, now_ms: u64) -> Option<Name> {
        let host = self.hosts.get_mut(host)?;
        while let Some((ready_ms, _)) = host.later.first()
            && *ready_ms <= now_ms
        {
            let (_, name) = host.later.pop_first()?;
            let receiver = self.receivers.get_mut(&name)?;
            receiver.place = Some(Place::Now(receiver.turn));
            host.now.insert((receiver.turn, name));
        }
        host.now.first().map(|(_, name)| name.clone())
    }

    /// When [`next`](Self::next) may have something that it has not now, if no attempt ends before; `None` where only that can help.
    pub fn wake_ms(&self) -> Option<u64> {
        if self.in_flight.len() >= self.patience.attempts_at_once_max {
            return None;
        }
        let open = self.hosts.values().filter(|host| host.in_flight < self.patience.attempts_at_once_of_a_host_max);
        open.filter_map(|host| if host.now.is_empty() { host.later.first().map(|(ready_ms, _)| *ready_ms) } else { Some(0) }).min()
    }

    /// What a verdict on an attempt under way means for its row, which stays under way until that is [settled](Self::settle). The
    /// receiver is taken note of at once.
    pub fn decide(&mut self, seq: u64, verdict: Verdict, now_ms: u64) -> DeliveryOutcome {
        let (error, after) = match verdict {
            Verdict::Delivered => {
                self.receiver_succeeded(seq);
                return DeliveryOutcome::Delivered;
            }
            Verdict::Failed { error } => return DeliveryOutcome::Failed { error },
            Verdict::Retry { error, after } => (error, after),
        };
        let asked_ms = after.unwrap_or(Duration::ZERO).as_millis() as u64;
        self.receiver_failed(seq, now_ms, asked_ms);
        let Some(row) = self.rows.get(&seq) else { return DeliveryOutcome::Failed { error } };
        if now_ms.saturating_sub(row.created_ms) >= self.patience.age_ms_max {
            return DeliveryOutcome::Failed { error: format!("{error} (given up after {})", hours(self.patience.age_ms_max)) };
        }
        DeliveryOutcome::Retry { due_ms: now_ms + self.patience.delay_ms(row.attempts + 1, &row.alert_id).max(asked_ms), error }
    }

    fn receiver_succeeded(&mut self, seq: u64) {
        let Some(name) = self.rows.get(&seq).map(|row| row.chain.0.clone()) else { return };
        if let Some(receiver) = self.receivers.get_mut(&name) {
            (receiver.failures, receiver.paused_until_ms) = (0, 0);
        }
        self.replace(&name);
    }

    fn receiver_failed(&mut self, seq: u64, now_ms: u64, asked_ms: u64) {
        let Some(name) = self.rows.get(&seq).map(|row| row.chain.0.clone()) else { return };
        let begun_ms = self.in_flight.get(&seq).copied().unwrap_or(now_ms);
        let Some(receiver) = self.receivers.get_mut(&name) else { return };
        // Of attempts that were under way together the first failure speaks for all.
        if receiver.failures == 0 || begun_ms >= receiver.failed_ms {
            receiver.failures += 1;
            receiver.failed_ms = now_ms;
            receiver.paused_until_ms = now_ms + self.patience.pause_ms(receiver.failures);
        }
        receiver.paused_until_ms = receiver.paused_until_ms.max(now_ms + asked_ms);
        self.replace(&name);
    }

    /// The first rows that are to be given up without an attempt: too old, and their receiver fails anyway.
    pub fn expired(&self, now_ms: u64, count_max: usize) -> Vec<u64> {
        let is_expired = |(seq, row): &(&u64, &Waiting)| {
            now_ms.saturating_sub(row.created_ms) >= self.patience.age_ms_max
                && !self.in_flight.contains_key(seq)
                && self.receivers.get(&row.chain.0).is_some_and(|receiver| receiver.failures > 0)
        };
        self.rows.iter().filter(is_expired).map(|(seq, _)| *seq).take(count_max).collect()
    }

    /// Why [expired](Self::expired) rows are given up.
    pub fn expiry(&self) -> String {
        format!("given up after {}: the receiver has been failing", hours(self.patience.age_ms_max))
    }

    /// Takes note of an outcome, once it is recorded.
    pub fn settle(&mut self, seq: u64, outcome: &DeliveryOutcome) {
        match outcome {
            DeliveryOutcome::Retry { due_ms, .. } => {
                if let Some(row) = self.rows.get_mut(&seq) {
                    row.attempts += 1;
                }
                self.put_back(seq, *due_ms);
            }
            DeliveryOutcome::Delivered | DeliveryOutcome::Failed { .. } => self.forget(seq),
        }
    }

    /// Ends an attempt that was never made: neither the row nor its receiver is to blame.
    pub fn put_back(&mut self, seq: u64, due_ms: u64) {
        self.release(seq);
        let Some(row) = self.rows.get_mut(&seq) else { return };
        row.due_ms = due_ms;
        let name = row.chain.0.clone();
        if let Some(receiver) = self.receivers.get_mut(&name) {
            receiver.queue.insert((due_ms, seq));
        }
        self.replace(&name);
    }

    /// Takes a row out that is no longer in the outbox.
    pub fn forget(&mut self, seq: u64) {
        self.release(seq);
        self.remove(seq);
    }

    /// Ends the attempt at a row, if there is one.
    fn release(&mut self, seq: u64) {
        let was_in_flight = self.in_flight.remove(&seq).is_some();
        let receiver = self.rows.get(&seq).and_then(|row| self.receivers.get(&row.chain.0));
        if let Some(host) = receiver.filter(|_| was_in_flight).and_then(|receiver| self.hosts.get_mut(&receiver.host)) {
            host.in_flight -= 1;
        }
    }

    /// Removes a row that is not under way; the next one of its chain follows.
    fn remove(&mut self, seq: u64) {
        let Some(row) = self.rows.remove(&seq) else { return };
        let name = row.chain.0.clone();
        let mut follower = None;
        if let Some(chain) = self.chains.get_mut(&row.chain) {
            if chain.front() == Some(&seq) {
                chain.pop_front();
                follower = chain.front().copied();
            } else {
                chain.retain(|other| *other != seq);
            }
            if chain.is_empty() {
                self.chains.remove(&row.chain);
            }
        }
        if let Some(receiver) = self.receivers.get_mut(&name) {
            receiver.queue.remove(&(row.due_ms, seq));
            receiver.rows -= 1;
            if let Some(next) = follower.and_then(|next| self.rows.get(&next).map(|row| (row.due_ms, next))) {
                receiver.queue.insert(next);
            }
        }
        self.replace(&name);
    }

    /// Puts a receiver where it belongs in its host, or takes it out where nothing waits for it.
    fn replace(&mut self, name: &Name) {
        let Some(receiver) = self.receivers.get_mut(name) else { return };
        let Some(host) = self.hosts.get_mut(&receiver.host) else { return };
        match receiver.place.take() {
            Some(Place::Later(ready_ms)) => host.later.remove(&(ready_ms, name.clone())),
            Some(Place::Now(turn)) => host.now.remove(&(turn, name.clone())),
            None => false,
        };
        if let Some((due_ms, _)) = receiver.queue.first() {
            let ready_ms = (*due_ms).max(receiver.paused_until_ms);
            host.later.insert((ready_ms, name.clone()));
            receiver.place = Some(Place::Later(ready_ms));
        } else if receiver.rows == 0 {
            host.receivers -= 1;
            if host.receivers == 0 {
                let empty = receiver.host.clone();
                self.hosts.remove(&empty);
            }
            self.receivers.remove(name);
        }
    }
}

impl Patience {
    /// The time before the attempt after the given one: doubled each time, and a quarter more or less, so that what failed together
    /// does not come back together. The id makes the difference, since nothing here is random.
    fn delay_ms(&self, attempt: u32, alert_id: &str) -> u64 {
        let doubled = self.first_ms.saturating_mul(1 << attempt.saturating_sub(1).min(40)).min(self.longest_ms);
        let hash = blake3::hash(format!("{alert_id} {attempt}").as_bytes());
        let spread = u64::from(hash.as_bytes()[0]) * doubled / 2 / 255;
        (doubled - doubled / 4 + spread).max(1)
    }

    fn pause_ms(&self, failures: u32) -> u64 {
        self.first_ms.saturating_mul(1 << failures.saturating_sub(1).min(40)).min(self.pause_ms_max)
    }
}

fn hours(ms: u64) -> String {
    if ms >= 3_600_000 { format!("{} hours", ms / 3_600_000) } else { format!("{} s", ms as f64 / 1_000.0) }
}

#[cfg(test)]
mod tests;
