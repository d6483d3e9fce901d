//! What was lost, and where.

use std::fmt;
use std::path::PathBuf;

use weir_protocol::record::Position;

/// A place where records cannot be read. They are never served; what follows them is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Damage {
    /// The first record that is lost.
    pub position: Position,
    /// The offset of the first record after it that can be read, or where the lost ones end.
    pub next_offset: u64,
    /// Where the damage begins.
    pub place: Place,
    /// What is wrong there.
    pub reason: String,
}

/// Where a damage begins.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Place {
    /// In a segment.
    Segment {
        /// The segment.
        file: PathBuf,
        /// Where in the file.
        byte: u64,
    },
    /// In a partition of a Kafka topic, at the damage's position.
    Topic(String),
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Segment { file, byte } => write!(f, "at byte {byte} of {}", file.display()),
            Self::Topic(topic) => write!(f, "in topic {topic}"),
        }
    }
}

impl Damage {
    /// How many records are lost.
    pub fn records(&self) -> u64 {
        self.next_offset.saturating_sub(self.position.offset)
    }
}

impl fmt::Display for Damage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { position: Position { partition, offset }, next_offset, place, reason } = self;
        write!(f, "records {offset} to {next_offset} (the last excluded) of partition {partition} are lost, {place}: {reason}")
    }
}

/// The end of the last segment that a crash left unfinished. It was cut off; nothing in it was acknowledged.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TornTail {
    /// The segment.
    pub file: PathBuf,
    /// Its length now.
    pub byte: u64,
    /// What was cut off.
    pub bytes_dropped: u64,
}
