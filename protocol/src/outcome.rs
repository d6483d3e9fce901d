//! Outcomes: how each item that arrived ended. Every item has exactly one.

use serde::{Deserialize, Serialize};

use crate::ids::EventId;
use crate::limits::REASON_BYTES_MAX;

/// The kinds of outcome with Sentry's numbers (`spec/ingest.md` section 6).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[repr(i16)]
pub enum Outcome {
    /// Stored.
    Accepted = 0,
    /// Dropped by an inbound filter.
    Filtered = 1,
    /// Dropped by a quota.
    RateLimited = 2,
    /// Dropped because it could not be read, was too large, was a duplicate, or is not supported.
    Invalid = 3,
    /// Dropped by an abuse limit.
    Abuse = 4,
    /// Dropped by the SDK, which said so in a client report.
    ClientDiscard = 5,
}

impl Outcome {
    /// Sentry's number.
    pub fn number(self) -> i16 {
        self as i16
    }
}

/// One outcome in one category: the unit in which outcomes are stored.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OutcomeCount {
    /// How it ended.
    pub outcome: Outcome,
    /// Why; absent where it was accepted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// The category's number; see [`crate::category`].
    pub category: i16,
    /// Items, or bytes where the category counts bytes.
    pub quantity: u64,
    /// The event, where the item has an id.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub event_id: Option<EventId>,
}

/// Makes a text fit to be a reason: printable ASCII, bounded, since parts of it come from outside.
pub fn clean_reason(text: &str) -> String {
    text.chars().map(|c| if c.is_ascii_graphic() || c == ' ' { c } else { '?' }).take(REASON_BYTES_MAX).collect()
}
