//! The state of the topic as it was last seen, and what is wrong with it in words.

use std::collections::BTreeMap;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use super::settings::{KAFKA_RECORD_BYTES_MAX, KafkaOptions};
use crate::damage::Damage;
use crate::error::JournalError;
use crate::journal::Offsets;
use crate::log::{DAMAGES_MAX, locked};
use crate::status::Status;
use crate::telemetry;

/// How many partitions a topic is made with where nothing else is set.
pub(crate) const PARTITIONS_DEFAULT: u16 = 4;
/// How long a record that was not delivered counts against the journal's health where none came since.
const FAILURE_COUNTS: Duration = Duration::from_secs(15);

/// Which topic it is that offsets belong to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Identity {
    /// Its name.
    pub topic: String,
    /// The cluster, where brokers tell.
    pub cluster: Option<String>,
    /// How many partitions it has.
    pub partitions: u16,
}

/// A partition as last seen.
#[derive(Debug, Clone, Copy, Default)]
struct Partition {
    start: Option<u64>,
    /// The offset after the last record, as the broker said.
    end: Option<u64>,
    /// Every record below this was there: it was acknowledged, or read, or is committed.
    seen: u64,
}

impl Partition {
    fn end(&self) -> u64 {
        self.end.unwrap_or_default().max(self.seen)
    }
}

#[derive(Debug)]
struct Known {
    identity: Option<Identity>,
    partition_count: u16,
    partitions: BTreeMap<u16, Partition>,
    record_bytes_max: u64,
    /// Whether a look at the topic was finished, however it ended.
    looked: bool,
    /// Why records cannot be taken now.
    trouble: Option<String>,
    /// Why this is not the topic that it must be; somebody has to do something.
    refusal: Option<String>,
    /// The last record that was not delivered.
    failure: Option<(Instant, String)>,
    /// What the client said last of brokers that it cannot reach.
    client_said: Option<String>,
    damages: Vec<Damage>,
    /// Whether readers were made for the partitions.
    read: bool,
    closed: bool,
    ended: bool,
}

#[derive(Debug)]
pub(crate) struct Topic {
    name: String,
    place: String,
    known: Mutex<Known>,
    changed: Condvar,
}

/// What a look at the topic found.
#[derive(Debug, Default)]
pub(crate) struct Look {
    /// First offset and the one after the last, by partition.
    pub(crate) bounds: BTreeMap<u16, (u64, u64)>,
    /// What was there for certain before it was looked; what is acknowledged meanwhile may not be within the bounds.
    pub(crate) seen: Offsets,
    /// What keeps it from being used, though it is the right one.
    pub(crate) trouble: Option<String>,
}

impl Topic {
    pub(crate) fn new(options: &KafkaOptions) -> Self {
        let remembered = options.remembered.as_ref().map(|identity| identity.partitions);
        let known = Known {
            identity: None,
            partition_count: remembered.or(options.partitions).unwrap_or(PARTITIONS_DEFAULT),
            partitions: BTreeMap::new(),
            record_bytes_max: KAFKA_RECORD_BYTES_MAX,
            looked: false,
            trouble: Some("no broker has answered yet".to_owned()),
            refusal: None,
            failure: None,
            client_said: None,
            damages: Vec::new(),
            read: false,
            closed: false,
            ended: false,
        };
        Self { name: options.url.topic.clone(), place: options.url.to_string(), known: Mutex::new(known), changed: Condvar::new() }
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        locked(&self.known)
    }

    /// Waits for the first look that reached a broker.
    pub(crate) fn until_looked_at(&self, deadline: Instant) {
        let waits = |known: &mut Known| known.refusal.is_none() && (!known.looked || known.trouble.is_some());
        drop(self.changed.wait_timeout_while(self.known(), deadline.saturating_duration_since(Instant::now()), waits).unwrap_or_else(PoisonError::into_inner));
    }

    /// Sleeps until somebody wants a look, or the time is over; false at the end.
    pub(crate) fn rest(&self, time: Duration) -> bool {
        let (known, _) = self.changed.wait_timeout_while(self.known(), time, |known| !known.ended).unwrap_or_else(PoisonError::into_inner);
        !known.ended
    }

    pub(crate) fn end(&self) {
        self.known().ended = true;
        self.changed.notify_all();
    }

    pub(crate) fn close(&self) {
        self.known().closed = true;
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.known().closed
    }

    /// The topic is the right one.
    pub(crate) fn identified(&self, identity: Identity, record_bytes_max: u64) {
        let mut known = self.known();
        if known.identity.as_ref() != Some(&identity) {
            tracing::info!(topic = identity.topic, cluster = identity.cluster, partitions = identity.partitions, "the journal is a topic of Kafka");
        }
        known.partition_count = identity.partitions;
        known.record_bytes_max = record_bytes_max.min(KAFKA_RECORD_BYTES_MAX);
        known.identity = Some(identity);
        known.refusal = None;
        self.changed.notify_all();
    }

    /// The topic is not the right one.
    pub(crate) fn refused(&self, reason: String) {
        let mut known = self.known();
        if known.refusal.as_ref() != Some(&reason) {
            tracing::error!("{reason}");
        }
        known.refusal = Some(reason);
        known.looked = true;
        self.changed.notify_all();
    }

    /// A look is over.
    pub(crate) fn looked(&self, look: Look) {
        let mut known = self.known();
        for (partition, (start, end)) in look.bounds {
            let held = known.partitions.entry(partition).or_default();
            (held.start, held.end) = (Some(start), Some(end));
        }
        let trouble = look.trouble.or_else(|| {
            let went_back_to = |partition: &u16, seen: &u64| known.partitions.get(partition)?.end.filter(|end| end < seen);
            let (partition, seen, end) = look.seen.iter().find_map(|(partition, seen)| Some((partition, seen, went_back_to(partition, seen)?)))?;
            Some(went_back(&self.name, *partition, *seen, end))
        });
        match (&known.trouble, &trouble) {
            (before, Some(now)) if before.as_ref() != Some(now) => tracing::error!("{now}"),
            (Some(_), None) if known.looked => tracing::info!("Kafka takes records again"),
            _ => {}
        }
        if trouble.is_none() {
            known.client_said = None;
        }
        known.trouble = trouble;
        known.looked = true;
        self.changed.notify_all();
    }

    /// The client could not reach brokers.
    pub(crate) fn client_said(&self, reason: &str) {
        self.known().client_said = Some(reason.to_owned());
    }

    pub(crate) fn last_said(&self) -> Option<String> {
        self.known().client_said.clone()
    }

    /// Below which offsets every record was there.
    pub(crate) fn all_seen(&self) -> Offsets {
        self.known().partitions.iter().map(|(number, held)| (*number, held.seen)).collect()
    }

    /// A record was delivered, or not.
    pub(crate) fn delivery_failed(&self, reason: String) {
        let mut known = self.known();
        if known.failure.is_none() {
            tracing::error!(reason, "appends fail");
        }
        known.failure = Some((Instant::now(), reason));
    }

    /// Records of a partition up to an offset are there.
    pub(crate) fn acknowledged(&self, partition: u16, next_offset: u64) {
        let mut known = self.known();
        if known.failure.take().is_some() {
            tracing::info!("the journal can be written again");
        }
        let held = known.partitions.entry(partition).or_default();
        held.seen = held.seen.max(next_offset);
    }

    /// What a process has read, or has committed, was there.
    pub(crate) fn seen(&self, offsets: &Offsets) {
        let mut known = self.known();
        known.read = true;
        for (partition, offset) in offsets {
            let held = known.partitions.entry(*partition).or_default();
            held.seen = held.seen.max(*offset);
        }
    }

    /// Records that are lost.
    pub(crate) fn note(&self, damage: &Damage) {
        tracing::error!(%damage, "records of the topic are lost");
        metrics::counter!(telemetry::DAMAGED_RECORDS).increment(damage.records());
        let mut known = self.known();
        if known.damages.len() < DAMAGES_MAX {
            known.damages.push(damage.clone());
        }
    }

    /// Why a record cannot be taken now.
    pub(crate) fn takes_nothing(&self) -> Option<String> {
        let known = self.known();
        known.refusal.clone().or_else(|| known.trouble.clone())
    }

    pub(crate) fn refusal(&self) -> Option<String> {
        self.known().refusal.clone()
    }

    /// Whether somebody reads it already.
    pub(crate) fn is_read(&self) -> bool {
        self.known().read
    }

    pub(crate) fn is_usable(&self) -> bool {
        let known = self.known();
        known.identity.is_some() && known.refusal.is_none()
    }

    pub(crate) fn identity(&self) -> Option<Identity> {
        self.known().identity.clone()
    }

    pub(crate) fn partition_count(&self) -> u16 {
        self.known().partition_count
    }

    pub(crate) fn record_bytes_max(&self) -> u64 {
        self.known().record_bytes_max
    }

    pub(crate) fn ends(&self) -> Offsets {
        self.known().partitions.iter().map(|(number, held)| (*number, held.end())).collect()
    }

    pub(crate) fn known_ends(&self) -> Option<Offsets> {
        let known = self.known();
        known.identity.as_ref()?;
        (0..known.partition_count).map(|number| known.partitions.get(&number).filter(|held| held.end.is_some()).map(|held| (number, held.end()))).collect()
    }

    pub(crate) fn starts(&self) -> Offsets {
        self.known().partitions.iter().filter_map(|(number, held)| Some((*number, held.start?))).collect()
    }

    /// Fails where a partition ends before an offset. What another process has just written may be newer than the last look: it is
    /// looked again before that is said.
    pub(crate) fn check(&self, from: &Offsets, patience: Duration) -> Result<(), JournalError> {
        let deadline = Instant::now() + patience;
        loop {
            let checked = self.check_now(from);
            let left = deadline.saturating_duration_since(Instant::now());
            if checked.is_ok() || left.is_zero() {
                return checked;
            }
            drop(self.changed.wait_timeout(self.known(), left).unwrap_or_else(PoisonError::into_inner));
        }
    }

    fn check_now(&self, from: &Offsets) -> Result<(), JournalError> {
        let known = self.known();
        for (partition, wanted) in from {
            if let Some(end) = known.partitions.get(partition).and_then(|held| held.end)
                && end < *wanted
            {
                return Err(JournalError::Kafka(went_back(&self.name, *partition, *wanted, end)));
            }
        }
        Ok(())
    }

    pub(crate) fn status(&self) -> Status {
        let known = self.known();
        let failure = known.failure.as_ref().filter(|(at, _)| at.elapsed() < FAILURE_COUNTS).map(|(_, reason)| reason.clone());
        let error = known.refusal.clone().or_else(|| known.trouble.clone()).or(failure);
        Status {
            healthy: error.is_none(),
            error,
            place: self.place.clone(),
            bytes: 0,
            segments: 0,
            starts: known.partitions.iter().filter_map(|(number, held)| Some((*number, held.start?))).collect(),
            ends: known.partitions.iter().map(|(number, held)| (*number, held.end())).collect(),
            damages: known.damages.clone(),
        }
    }
}

/// What is wrong where a partition ends before records that were there.
fn went_back(topic: &str, partition: u16, seen: u64, end: u64) -> String {
    format!(
        "partition {partition} of topic {topic} ends at record {end}, but records up to {seen} were there: the topic was made anew, or a replica that lacked them became \
         the leader; nothing is taken, since records {end} to {seen} would exist twice; bring the replica back that has them, or restore the topic; where they are lost for \
         good, begin with another topic and an empty data directory"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn topic() -> Topic {
        Topic::new(&KafkaOptions::new("kafka://a:1/t".parse().unwrap()))
    }

    fn look(topic: &Topic, bounds: &[(u16, (u64, u64))]) -> Look {
        Look { bounds: bounds.iter().copied().collect(), seen: topic.all_seen(), trouble: None }
    }

    #[test]
    fn a_topic_takes_records_once_it_was_seen_and_until_it_goes_back() {
        let topic = topic();
        assert_eq!(topic.takes_nothing().as_deref(), Some("no broker has answered yet"));
        assert_eq!((topic.known_ends(), topic.partition_count()), (None, PARTITIONS_DEFAULT));
        topic.identified(Identity { topic: "t".to_owned(), cluster: None, partitions: 2 }, u64::MAX);
        topic.looked(look(&topic, &[(0, (3, 10))]));
        assert_eq!((topic.takes_nothing(), topic.known_ends()), (None, None), "the end of partition 1 is not known");
        topic.looked(look(&topic, &[(0, (3, 10)), (1, (0, 0))]));
        topic.acknowledged(0, 12);
        assert_eq!(topic.known_ends(), Some([(0, 12), (1, 0)].into()), "what was acknowledged is there before the next look");
        let mut early = look(&topic, &[(0, (3, 12))]);
        topic.acknowledged(0, 13);
        early.bounds.insert(0, (3, 12));
        topic.looked(early);
        assert_eq!(topic.takes_nothing(), None, "what was acknowledged after the look began is not missed");
        topic.looked(look(&topic, &[(0, (3, 11))]));
        let said = topic.takes_nothing().unwrap();
        assert!(said.contains("partition 0 of topic t ends at record 11, but records up to 13 were there"), "{said}");
        topic.looked(look(&topic, &[(0, (3, 13))]));
        assert_eq!(topic.takes_nothing(), None, "it is whole again");
        assert!(topic.check(&[(0, 13), (1, 0)].into(), Duration::ZERO).is_ok() && topic.check(&[(1, 1)].into(), Duration::ZERO).is_err());
        assert!(topic.check(&[(0, 1)].into(), Duration::ZERO).is_ok(), "what the front has lost is met by the reader");
    }

    #[test]
    fn another_topic_is_refused_until_it_is_the_right_one() {
        let topic = topic();
        topic.refused("wrong".to_owned());
        assert_eq!((topic.takes_nothing().as_deref(), topic.is_usable()), (Some("wrong"), false));
        topic.identified(Identity { topic: "t".to_owned(), cluster: None, partitions: 1 }, 5);
        topic.looked(look(&topic, &[(0, (0, 0))]));
        assert_eq!((topic.takes_nothing(), topic.is_usable(), topic.record_bytes_max()), (None, true, 5));
    }
}
