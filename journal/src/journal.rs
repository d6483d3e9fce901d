//! The handle to the journal, whatever it is kept in.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use weir_protocol::record::{Position, Record};

use crate::PARTITION;
use crate::error::{AppendError, JournalError};
use crate::kafka::{Identity, Kafka, KafkaOptions, KafkaReader};
use crate::open::Opened;
use crate::options::Options;
use crate::reader::{Entry, SegmentReader};
use crate::segments::Segments;
use crate::status::Status;
use crate::storage::Storage;

/// Offsets by partition.
pub type Offsets = BTreeMap<u16, u64>;

/// A durable log of records. Cheap to clone; the last clone that is dropped closes it.
#[derive(Debug, Clone)]
pub struct Journal(Backend);

#[derive(Debug, Clone)]
enum Backend {
    Segments(Segments),
    Kafka(Kafka),
}

impl Journal {
    /// Opens the journal in a folder, or begins one. Blocks while the last segment is read.
    ///
    /// # Errors
    /// [`JournalError::Newer`] where a newer version wrote a segment; [`JournalError::Storage`] where files cannot be used.
    pub fn open(options: Options) -> Result<(Self, Opened), JournalError> {
        Segments::open(options).map(|(segments, opened)| (Self(Backend::Segments(segments)), opened))
    }

    /// Opens the journal in a folder over another storage; `options.dir` only names its files in messages.
    ///
    /// # Errors
    /// As [`Journal::open`].
    pub fn open_with(options: Options, storage: Arc<dyn Storage>) -> Result<(Self, Opened), JournalError> {
        Segments::open_with(options, storage).map(|(segments, opened)| (Self(Backend::Segments(segments)), opened))
    }

    /// Opens the journal in a Kafka topic, which is made where it is missing. Blocks until a broker has answered, but for
    /// `options.patience` at most: without an answer the journal is open as well, says in its status what it waits for, and takes no
    /// records until then.
    ///
    /// # Errors
    /// [`JournalError::Kafka`] where a setting cannot be used, or where the topic is not the one that it must be.
    pub fn open_kafka(options: KafkaOptions) -> Result<Self, JournalError> {
        Kafka::open(options).map(|kafka| Self(Backend::Kafka(kafka)))
    }

    /// Appends a record; returns its position once it is durable. Where too much waits already, this waits for room.
    ///
    /// A call that is dropped before it returns may or may not have appended.
    ///
    /// # Errors
    /// None of them leaves the record where it is promised to be read; [`AppendError::retry_later`] says whether to try again.
    pub async fn append(&self, record: Record) -> Result<Position, AppendError> {
        match &self.0 {
            Backend::Segments(segments) => segments.append(record).await,
            Backend::Kafka(kafka) => kafka.append(record).await,
        }
    }

    /// The partitions that there are. Those of a topic that no broker has told of yet are what the settings say.
    pub fn partitions(&self) -> Vec<u16> {
        match &self.0 {
            Backend::Segments(_) => vec![PARTITION],
            Backend::Kafka(kafka) => kafka.partitions(),
        }
    }

    /// The partition of a project's records.
    pub fn partition_of(&self, project_id: u64) -> u16 {
        match &self.0 {
            Backend::Segments(_) => PARTITION,
            Backend::Kafka(kafka) => kafka.partition_of(project_id),
        }
    }

    /// The offset after the last durable record, by partition; as far as it is known.
    pub fn ends(&self) -> Offsets {
        match &self.0 {
            Backend::Segments(segments) => [(PARTITION, segments.end())].into(),
            Backend::Kafka(kafka) => kafka.ends(),
        }
    }

    /// The same, but nothing until the ends of all partitions are known.
    pub fn known_ends(&self) -> Option<Offsets> {
        match &self.0 {
            Backend::Segments(_) => Some(self.ends()),
            Backend::Kafka(kafka) => kafka.known_ends(),
        }
    }

    /// The first offset that is held, by partition; as far as it is known.
    pub fn starts(&self) -> Offsets {
        match &self.0 {
            Backend::Segments(segments) => [(PARTITION, segments.start())].into(),
            Backend::Kafka(kafka) => kafka.starts(),
        }
    }

    /// The topic, once a broker has told of it; nothing where the journal is in a folder.
    pub fn identity(&self) -> Option<Identity> {
        match &self.0 {
            Backend::Segments(_) => None,
            Backend::Kafka(kafka) => kafka.identity(),
        }
    }

    /// Checks that reading can begin with these offsets. What a topic has lost from its front is no error: it is read as a damage.
    ///
    /// # Errors
    /// [`JournalError::Gap`] where segments are missing; [`JournalError::Kafka`] where a topic ends before.
    pub fn check(&self, from: &Offsets) -> Result<(), JournalError> {
        match &self.0 {
            Backend::Segments(segments) => {
                let (wanted, start, end) = (from.get(&PARTITION).copied().unwrap_or_default(), segments.start(), segments.end());
                if (start..=end).contains(&wanted) { Ok(()) } else { Err(JournalError::Gap { wanted, start, end }) }
            }
            Backend::Kafka(kafka) => kafka.check(from),
        }
    }

    /// A reader of some partitions that begins with these offsets, which may lie ahead.
    ///
    /// # Errors
    /// [`JournalError::Thread`] where the reader needs a thread and none is given; [`JournalError::Kafka`] for its settings.
    pub fn reader(&self, from: &Offsets) -> Result<Reader, JournalError> {
        Ok(Reader(match &self.0 {
            Backend::Segments(segments) => Source::Segments(segments.reader(from.get(&PARTITION).copied().unwrap_or_default())),
            Backend::Kafka(kafka) => Source::Kafka(kafka.reader(from)?),
        }))
    }

    /// Lets readers that wait look at what they are called by.
    pub fn wake_readers(&self) {
        match &self.0 {
            Backend::Segments(segments) => segments.wake_readers(),
            Backend::Kafka(kafka) => kafka.wake_readers(),
        }
    }

    /// Makes the next record begin a segment, so that everything before it can be dropped from the disk as soon as it is
    /// committed. What leaves a topic, and when, is Kafka's retention alone.
    pub fn begin_segment(&self) {
        if let Backend::Segments(segments) = &self.0 {
            segments.begin_segment();
        }
    }

    /// Drops whole segments whose records all lie below an offset, never the one that is written. Returns the bytes that were
    /// freed. A topic keeps its records for as long as its retention says.
    ///
    /// # Errors
    /// [`JournalError::Storage`] where a file cannot be removed. Its records are not held any more all the same; it is tried
    /// again with the next call.
    pub fn truncate_before(&self, offsets: &Offsets) -> Result<u64, JournalError> {
        match &self.0 {
            Backend::Segments(segments) => segments.truncate_before(offsets.get(&PARTITION).copied().unwrap_or_default()),
            Backend::Kafka(_) => Ok(0),
        }
    }

    /// How the journal is.
    pub fn status(&self) -> Status {
        match &self.0 {
            Backend::Segments(segments) => segments.status(),
            Backend::Kafka(kafka) => kafka.status(),
        }
    }

    /// Takes no more appends: they fail with [`AppendError::Closed`]. What waits is written; blocks until that is done.
    /// Readers read on.
    pub fn close(&self) {
        match &self.0 {
            Backend::Segments(segments) => segments.close(),
            Backend::Kafka(kafka) => kafka.close(),
        }
    }
}

/// Places in the partitions of the journal. Used by one thread; its calls block.
#[derive(Debug)]
pub struct Reader(Source);

#[derive(Debug)]
enum Source {
    Segments(SegmentReader),
    Kafka(KafkaReader),
}

impl Reader {
    /// Waits until something durable is there to read; false when the time has passed before.
    pub fn wait(&mut self, timeout: Duration) -> bool {
        self.wait_unless(timeout, || false)
    }

    /// The same, but waits no longer once `called` holds, which is asked again after each [`Journal::wake_readers`]; false
    /// where there is nothing to read.
    pub fn wait_unless(&mut self, timeout: Duration, called: impl Fn() -> bool) -> bool {
        match &mut self.0 {
            Source::Segments(reader) => reader.wait_unless(timeout, called),
            Source::Kafka(reader) => reader.wait_unless(timeout, called),
        }
    }

    /// Whether everything was read that the journal is known to hold.
    pub fn is_drained(&self) -> bool {
        match &self.0 {
            Source::Segments(reader) => reader.is_drained(),
            Source::Kafka(reader) => reader.is_drained(),
        }
    }

    /// Reads entries that take up to `bytes_max` together in memory, and at least one when there is any. Those of one partition
    /// are in their order.
    ///
    /// # Errors
    /// [`JournalError::Truncated`] where the records asked for are held no longer; [`JournalError::Storage`] where a file cannot
    /// be read; [`JournalError::NewerRecord`] where a newer version wrote a record. The reader stays where it is.
    pub fn read(&mut self, bytes_max: usize) -> Result<Vec<Entry>, JournalError> {
        match &mut self.0 {
            Source::Segments(reader) => reader.read(bytes_max),
            Source::Kafka(reader) => reader.read(bytes_max),
        }
    }
}
