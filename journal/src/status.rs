//! What the journal says about itself.

use crate::damage::Damage;

/// The state of the journal at one moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Status {
    /// Whether the last append, or the last probe after one that failed, was written.
    pub healthy: bool,
    /// Why it is not healthy.
    pub error: Option<String>,
    /// All segments on disk together.
    pub bytes: u64,
    /// How many segments there are.
    pub segments: usize,
    /// The first offset that is held.
    pub start: u64,
    /// The offset after the last durable record.
    pub end: u64,
    /// What was found to be lost among the records that are held; the first hundred places.
    pub damages: Vec<Damage>,
}
