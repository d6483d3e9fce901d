//! What the journal says about itself.

use crate::damage::Damage;
use crate::journal::Offsets;

/// The state of the journal at one moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Status {
    /// Whether the last append, or the last probe after one that failed, was written.
    pub healthy: bool,
    /// Why it is not healthy.
    pub error: Option<String>,
    /// The folder of the segments, or the URL of the topic.
    pub place: String,
    /// All segments on disk together; nothing for a topic.
    pub bytes: u64,
    /// How many segments there are; none for a topic.
    pub segments: usize,
    /// The first offset that is held, by partition; as far as it is known.
    pub starts: Offsets,
    /// The offset after the last durable record, by partition; as far as it is known.
    pub ends: Offsets,
    /// What was found to be lost among the records that are held; the first hundred places.
    pub damages: Vec<Damage>,
}
