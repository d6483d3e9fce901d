//! What became of an item: rows that are ready but for its issue, or the reason why there are none.

use std::mem;

use serde::{Deserialize, Serialize};
use weir_protocol::ProjectId;
use weir_protocol::deletion::{Deletion, Erased};
use weir_protocol::outcome::Outcome;

use crate::deduplicate::Identity;
use crate::rows::{ErrorRow, ItemRow, LogRow, OutcomeRow, PayloadRow, ProjectRow, SpanRow};
use crate::stage::Placed;

/// An item of the journal, interpreted.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Fact {
    /// The project that it belongs to.
    pub project_id: ProjectId,
    /// The position of its record.
    pub seq: i64,
    /// Its place in the record.
    pub item: u32,
    /// When its record was received, in Unix milliseconds.
    pub received_ms: u64,
    /// What makes it the same as another; `None` for what is never a duplicate.
    pub identity: Option<Identity>,
    /// Its rows.
    pub rows: Rows,
    /// How it ended: accepted, as long as nobody finds that it is a duplicate.
    pub outcomes: Vec<OutcomeRow>,
}

/// The rows of an item.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum Rows {
    /// None: it was refused, or it only reports outcomes.
    None,
    /// An error event. Its issue is not known yet; the hashes lead to it, the primary one first.
    Error {
        /// The row.
        row: Box<ErrorRow>,
        /// Grouping hashes.
        hashes: Vec<[u8; 16]>,
        /// The whole event.
        payload: Box<PayloadRow>,
    },
    /// A transaction with its spans.
    Transaction {
        /// The segment and its children.
        spans: Vec<SpanRow>,
        /// The whole event.
        payload: Box<PayloadRow>,
    },
    /// Spans that came on their own.
    Spans {
        /// The spans.
        spans: Vec<SpanRow>,
        /// The item that brought them.
        item: Box<ItemRow>,
    },
    /// Logs.
    Logs {
        /// The logs.
        logs: Vec<LogRow>,
        /// The item that brought them.
        item: Box<ItemRow>,
    },
    /// A client report: outcomes of other items, and no row but the one that remembers it.
    Report(Box<ItemRow>),
    /// A project.
    Project(Box<ProjectRow>),
    /// Something that is to be deleted.
    Deletion(Box<Deletion>),
    /// A deletion that was carried out.
    Erased(Box<Erased>),
}

impl Placed for Fact {
    fn route(&self) -> u64 {
        crate::output::route(self.project_id)
    }

    fn order(&self) -> (i64, u32) {
        (self.seq, self.item)
    }
}

impl Fact {
    /// The same as a duplicate: without rows, and everything that was accepted is invalid for that reason. What a client report
    /// says of other items was counted the first time.
    pub fn into_duplicate(mut self) -> Self {
        if matches!(mem::replace(&mut self.rows, Rows::None), Rows::Report(_)) {
            self.outcomes.clear();
        }
        for outcome in self.outcomes.iter_mut().filter(|o| o.outcome == Outcome::Accepted.number()) {
            outcome.outcome = Outcome::Invalid.number();
            outcome.reason = Some("duplicate".to_owned());
        }
        self
    }
}
