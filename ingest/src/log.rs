//! Where the doors put what they take: anything that makes a record durable.

use std::future::Future;

use weir_protocol::record::{Position, Record};

/// Why a record was not kept.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NotKept {
    /// The record is larger than the log takes; the request is answered 413.
    #[error("the record is too large: {0}")]
    TooLarge(String),
    /// The log takes nothing now: full, closed, busy or broken. The request is answered 503 and may be sent again.
    #[error("{0}")]
    Unavailable(String),
}

/// A durable log. A request is answered 200 only after `append` has returned.
pub trait Log: Send + Sync + 'static {
    /// Appends a record; returns when it is durable.
    fn append(&self, record: Record) -> impl Future<Output = Result<Position, NotKept>> + Send;
}

impl Log for weir_journal::Journal {
    async fn append(&self, record: Record) -> Result<Position, NotKept> {
        // The journal's own method of this name goes before the trait's.
        Self::append(self, record).await.map_err(|error| match error {
            weir_journal::AppendError::TooLarge { .. } => NotKept::TooLarge(error.to_string()),
            other => NotKept::Unavailable(other.to_string()),
        })
    }
}
