//! The consumer: a thread that fetches, and the reader that takes from it.

use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use bytes::Bytes;
use rdkafka::config::FromClientConfigAndContext;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{BorrowedMessage, Message};
use rdkafka::{Offset, TopicPartitionList};
use weir_protocol::record::{Position, Record, RecordError};

use super::Shared;
use super::settings::{Context, setting_error};
use super::watch::in_words;
use crate::damage::{Damage, Place};
use crate::error::JournalError;
use crate::journal::Offsets;
use crate::log::locked;
use crate::reader::Entry;

/// What is fetched ahead, in bytes of memory.
const AHEAD_BYTES_MAX: usize = 32 << 20;
/// How long the thread waits for records before it looks whether it is to end.
const POLL_MAX: Duration = Duration::from_millis(100);
/// How long it rests where the topic cannot be read.
const REST: Duration = Duration::from_millis(250);
/// How long a broker may take to say how far a partition reaches.
const ANSWER_MAX: Duration = Duration::from_secs(2);

/// Places in the partitions of a topic, and a thread that fetches ahead of them.
#[derive(Debug)]
pub struct KafkaReader {
    shared: Arc<Shared>,
    feed: Arc<Feed>,
    /// The offset of the next entry, by partition.
    next: Offsets,
    thread: Option<JoinHandle<()>>,
}

/// What was fetched and not yet taken.
#[derive(Debug, Default)]
pub(crate) struct Feed {
    fetched: Mutex<Fetched>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct Fetched {
    entries: VecDeque<Entry>,
    bytes: usize,
    error: Option<JournalError>,
    stopped: bool,
}

impl Feed {
    pub(crate) fn wake(&self) {
        // The lock orders this after a reader's look and before its sleep, or after both: no call is missed.
        drop(locked(&self.fetched));
        self.changed.notify_all();
    }

    fn push(&self, entry: Entry) {
        let mut fetched = locked(&self.fetched);
        fetched.bytes += entry.bytes();
        fetched.entries.push_back(entry);
        drop(fetched);
        self.changed.notify_all();
    }

    /// Waits for room; false once nobody takes any more.
    fn has_room(&self) -> bool {
        let waits = |fetched: &mut Fetched| fetched.bytes >= AHEAD_BYTES_MAX && !fetched.stopped;
        let (fetched, _) = self.changed.wait_timeout_while(locked(&self.fetched), Duration::from_secs(1), waits).unwrap_or_else(PoisonError::into_inner);
        !fetched.stopped
    }

    fn is_full(&self) -> bool {
        locked(&self.fetched).bytes >= AHEAD_BYTES_MAX
    }

    fn fail(&self, error: JournalError) {
        locked(&self.fetched).error = Some(error);
        self.changed.notify_all();
    }

    fn stop(&self) {
        locked(&self.fetched).stopped = true;
        self.changed.notify_all();
    }

    /// Rests; false once nobody takes any more.
    fn rest(&self) -> bool {
        let (fetched, _) = self.changed.wait_timeout_while(locked(&self.fetched), REST, |fetched| !fetched.stopped).unwrap_or_else(PoisonError::into_inner);
        !fetched.stopped
    }
}

impl KafkaReader {
    pub(crate) fn new(shared: Arc<Shared>, from: &Offsets) -> Result<Self, JournalError> {
        shared.topic.seen(from);
        let feed = Arc::new(Feed::default());
        let context = Context { shared: Arc::clone(&shared) };
        let consumer = BaseConsumer::from_config_and_context(&shared.options.consumer()?, context).map_err(|e| setting_error(&e))?;
        let fetcher = Fetcher { shared: Arc::clone(&shared), feed: Arc::clone(&feed), consumer, next: from.clone() };
        let thread = std::thread::Builder::new().name("weir-kafka-read".to_owned()).spawn(|| fetcher.run()).map_err(JournalError::Thread)?;
        let mut feeds = locked(&shared.feeds);
        feeds.retain(|feed| feed.strong_count() > 0);
        feeds.push(Arc::downgrade(&feed));
        drop(feeds);
        Ok(Self { shared, feed, next: from.clone(), thread: Some(thread) })
    }

    pub(crate) fn wait_unless(&mut self, timeout: Duration, called: impl Fn() -> bool) -> bool {
        let waits = |fetched: &mut Fetched| fetched.entries.is_empty() && fetched.error.is_none() && !called();
        let (fetched, _) = self.feed.changed.wait_timeout_while(locked(&self.feed.fetched), timeout, waits).unwrap_or_else(PoisonError::into_inner);
        !fetched.entries.is_empty() || fetched.error.is_some()
    }

    pub(crate) fn is_drained(&self) -> bool {
        let ends = self.shared.topic.ends();
        self.next.iter().all(|(partition, next)| ends.get(partition).is_none_or(|end| next >= end))
    }

    pub(crate) fn read(&mut self, bytes_max: usize) -> Result<Vec<Entry>, JournalError> {
        let mut taken = Vec::new();
        let mut bytes = 0;
        let mut fetched = locked(&self.feed.fetched);
        while let Some(entry) = fetched.entries.front() {
            if !taken.is_empty() && bytes + entry.bytes() > bytes_max {
                break;
            }
            let Some(entry) = fetched.entries.pop_front() else { break };
            bytes += entry.bytes();
            fetched.bytes -= entry.bytes();
            let partition = match &entry {
                Entry::Record { position, .. } => position.partition,
                Entry::Damaged(damage) => damage.position.partition,
            };
            self.next.insert(partition, entry.next_offset());
            taken.push(entry);
        }
        if taken.is_empty()
            && let Some(error) = fetched.error.take()
        {
            return Err(error);
        }
        drop(fetched);
        self.feed.changed.notify_all();
        Ok(taken)
    }
}

impl Drop for KafkaReader {
    fn drop(&mut self) {
        self.feed.stop();
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!("the thread that reads the topic panicked");
        }
    }
}

struct Fetcher {
    shared: Arc<Shared>,
    feed: Arc<Feed>,
    consumer: BaseConsumer<Context>,
    /// The offset of the next record, by partition.
    next: Offsets,
}

impl Fetcher {
    fn run(mut self) {
        while !self.shared.topic.is_usable() || !self.assign() {
            if !self.feed.rest() {
                return;
            }
        }
        while self.feed.has_room() {
            if self.feed.is_full() {
                continue;
            }
            match self.fetch() {
                Ok(true) => {}
                Ok(false) => {
                    while !self.assign() {
                        if !self.feed.rest() {
                            return;
                        }
                    }
                }
                Err(error) => return self.feed.fail(error),
            }
        }
    }

    /// Begins, or begins again, where each partition is to be read on; false where that cannot be done now.
    fn assign(&mut self) -> bool {
        let topic = self.shared.options.url.topic.clone();
        let mut places = TopicPartitionList::with_capacity(self.next.len());
        for (partition, next) in &mut self.next {
            let Ok((start, end)) = self.consumer.fetch_watermarks(&topic, i32::from(*partition), ANSWER_MAX) else { return false };
            let (Ok(start), Ok(end)) = (u64::try_from(start), u64::try_from(end)) else { return false };
            if *next > end {
                // The watch says so, and nothing is taken until it is whole again.
                return false;
            }
            if *next < start {
                let reason = format!(
                    "they are not in the topic any more, which begins at record {start} of this partition: its retention, or somebody, removed them before they were read; \
                     give the topic a retention that is longer than weir may stand still"
                );
                let damage =
                    Damage { position: Position { partition: *partition, offset: *next }, next_offset: start, place: Place::Topic(topic.clone()), reason };
                self.shared.topic.note(&damage);
                self.feed.push(Entry::Damaged(damage));
                *next = start;
            }
            if let Err(error) = places.add_partition_offset(&topic, i32::from(*partition), Offset::Offset(*next as i64)) {
                tracing::error!(%error, partition, "an offset cannot be asked for");
                return false;
            }
        }
        self.shared.topic.seen(&self.next);
        match self.consumer.assign(&places) {
            Ok(()) => true,
            Err(error) => {
                tracing::warn!(error = in_words(&error), "the partitions cannot be assigned; trying again");
                false
            }
        }
    }

    /// Takes what comes; false where the partitions must be assigned again.
    fn fetch(&mut self) -> Result<bool, JournalError> {
        match self.consumer.poll(POLL_MAX) {
            None => Ok(true),
            Some(Ok(message)) => {
                for entry in entries(&message, &mut self.next, &self.shared)? {
                    self.feed.push(entry);
                }
                Ok(true)
            }
            Some(Err(error)) => Ok(self.goes_on_after(&error)),
        }
    }

    fn goes_on_after(&self, error: &KafkaError) -> bool {
        match error.rdkafka_error_code() {
            Some(RDKafkaErrorCode::AutoOffsetReset | RDKafkaErrorCode::LogTruncation | RDKafkaErrorCode::OffsetOutOfRange) => {
                tracing::warn!(error = in_words(error), "the topic does not have the record that is to be read next");
                false
            }
            _ if matches!(error, KafkaError::MessageConsumptionFatal(_)) => {
                tracing::warn!(error = in_words(error), "reading begins anew");
                false
            }
            _ => {
                // It is tried again by itself; the watch says what is wrong.
                tracing::debug!(error = in_words(error), "reading the topic");
                true
            }
        }
    }
}

/// What a message is: the record, and before it what is missing.
fn entries(message: &BorrowedMessage<'_>, next: &mut Offsets, shared: &Shared) -> Result<Vec<Entry>, JournalError> {
    let (Ok(partition), Ok(offset)) = (u16::try_from(message.partition()), u64::try_from(message.offset())) else { return Ok(Vec::new()) };
    let Some(expected) = next.get_mut(&partition) else { return Ok(Vec::new()) };
    if offset < *expected {
        // It was read already.
        return Ok(Vec::new());
    }
    let place = || Place::Topic(shared.options.url.topic.clone());
    let mut entries = Vec::new();
    if offset > *expected {
        let reason = "the topic has no records there: it was compacted, or somebody else writes to it in transactions".to_owned();
        let damage = Damage { position: Position { partition, offset: *expected }, next_offset: offset, place: place(), reason };
        shared.topic.note(&damage);
        entries.push(Entry::Damaged(damage));
    }
    let position = Position { partition, offset };
    let payload = Bytes::copy_from_slice(message.payload().unwrap_or_default());
    entries.push(match Record::decode(&payload) {
        Ok(record) => {
            let bytes = record.bytes_in_memory();
            Entry::Record { position, record: Arc::new(record), bytes }
        }
        Err(source @ RecordError::Newer(_)) => {
            let file = format!("partition {partition} of topic {}", shared.options.url.topic).into();
            return Err(JournalError::NewerRecord { offset, file, source });
        }
        Err(error) => {
            let damage = Damage { position, next_offset: offset + 1, place: place(), reason: error.to_string() };
            shared.topic.note(&damage);
            Entry::Damaged(damage)
        }
    });
    *expected = offset + 1;
    Ok(entries)
}
