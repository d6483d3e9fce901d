//! The journal as a Kafka topic.
//!
//! | module | noun |
//! |---|---|
//! | `settings` | where the topic is, and what librdkafka is told |
//! | `partition` | which partition a project's records are in |
//! | `topic` | the state of the topic as last seen |
//! | `watch` | the thread that looks at the topic, makes it, and finds out what is wrong |
//! | `append` | the producer |
//! | `reader` | the consumer |
//!
//! # What holds
//!
//! * A record is handed to the producer once. The producer is idempotent and waits for all replicas in sync, so that what it sends
//!   again by itself is kept once and in its order. A record whose fate is not known is answered with an error; whoever sends it
//!   again has it counted once, as a duplicate.
//! * Consumption begins with the offsets that it is told, in partitions that it is told. Kafka is not asked for offsets of a group and
//!   told none.
//! * What the topic does not hold any more is a damage with both ends, once, and reading goes on behind it. A topic that ends before
//!   what was read from it takes no records until it is whole again: it would give out the same offsets a second time.

mod append;
mod partition;
mod reader;
mod settings;
mod topic;
mod watch;

use std::sync::{Arc, Mutex, Weak};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use weir_protocol::record::{Position, Record};

use crate::error::{AppendError, JournalError};
use crate::journal::Offsets;
use crate::log::locked;
use crate::status::Status;

pub use reader::KafkaReader;
pub use settings::{KafkaOptions, KafkaUrl};
pub use topic::Identity;

use append::Appender;
use reader::Feed;
use topic::Topic;
use watch::Watch;

/// How long a topic that seems to end too early is looked at again.
const CHECK_MAX: Duration = Duration::from_secs(4);
/// How long a close waits for records under way.
const FLUSH_MAX: Duration = Duration::from_secs(2);

/// A topic. Cheap to clone; the last clone that is dropped closes it.
#[derive(Debug, Clone)]
pub struct Kafka(Arc<Handle>);

#[derive(Debug)]
struct Handle {
    shared: Arc<Shared>,
    appender: Arc<Appender>,
    watch: Mutex<Option<JoinHandle<()>>>,
}

/// What the handle, the watch and the readers share.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) options: KafkaOptions,
    pub(crate) topic: Topic,
    /// Readers that may wait.
    pub(crate) feeds: Mutex<Vec<Weak<Feed>>>,
}

impl Kafka {
    pub(crate) fn open(options: KafkaOptions) -> Result<Self, JournalError> {
        let patience = options.patience;
        let shared = Arc::new(Shared { topic: Topic::new(&options), options, feeds: Mutex::default() });
        let appender = Arc::new(Appender::new(&shared)?);
        let watch = Watch::new(Arc::clone(&shared), Arc::clone(&appender))?;
        let thread = std::thread::Builder::new().name("weir-kafka".to_owned()).spawn(|| watch.run()).map_err(JournalError::Thread)?;
        let kafka = Self(Arc::new(Handle { shared, appender, watch: Mutex::new(Some(thread)) }));
        let topic = &kafka.0.shared.topic;
        topic.until_looked_at(Instant::now() + patience);
        match topic.refusal() {
            Some(reason) => Err(JournalError::Kafka(reason)),
            None => Ok(kafka),
        }
    }

    pub(crate) async fn append(&self, record: Record) -> Result<Position, AppendError> {
        self.0.appender.append(record).await
    }

    pub(crate) fn partitions(&self) -> Vec<u16> {
        (0..self.0.shared.topic.partition_count()).collect()
    }

    pub(crate) fn partition_of(&self, project_id: u64) -> u16 {
        partition::of_project(project_id, self.0.shared.topic.partition_count())
    }

    pub(crate) fn ends(&self) -> Offsets {
        self.0.shared.topic.ends()
    }

    pub(crate) fn known_ends(&self) -> Option<Offsets> {
        self.0.shared.topic.known_ends()
    }

    pub(crate) fn starts(&self) -> Offsets {
        self.0.shared.topic.starts()
    }

    pub(crate) fn identity(&self) -> Option<Identity> {
        self.0.shared.topic.identity()
    }

    pub(crate) fn check(&self, from: &Offsets) -> Result<(), JournalError> {
        self.0.shared.topic.check(from, CHECK_MAX)
    }

    pub(crate) fn reader(&self, from: &Offsets) -> Result<KafkaReader, JournalError> {
        KafkaReader::new(Arc::clone(&self.0.shared), from)
    }

    pub(crate) fn wake_readers(&self) {
        self.0.shared.wake_readers();
    }

    pub(crate) fn status(&self) -> Status {
        self.0.shared.topic.status()
    }

    pub(crate) fn close(&self) {
        self.0.appender.close(FLUSH_MAX);
    }
}

impl Shared {
    fn wake_readers(&self) {
        locked(&self.feeds).retain(|feed| feed.upgrade().inspect(|feed| feed.wake()).is_some());
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        self.appender.close(FLUSH_MAX);
        self.shared.topic.end();
        if let Some(thread) = locked(&self.watch).take()
            && thread.join().is_err()
        {
            tracing::error!("the thread that watches the topic panicked");
        }
    }
}
