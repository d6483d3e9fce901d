//! Why a query has no answer, or no whole one: at a limit the text says which, where it is set, and what to do.

use std::time::Duration;

use datafusion::error::DataFusionError;

use crate::statement::StatementError;

/// Why a query has no answer, or no whole one.
#[derive(Debug, thiserror::Error)]
pub enum QueryError {
    /// It is not answered at all.
    #[error(transparent)]
    Statement(#[from] StatementError),
    /// It does not fit the tables, or fails on their values.
    #[error("{0}")]
    Invalid(String),
    /// It needs more memory or more space on the disk than there is for queries.
    #[error("the query needs more than it may have: {0}: aggregate into fewer groups, sort fewer columns, or ask for a shorter range of received")]
    Memory(String),
    /// It ran too long.
    #[error("the query ran longer than {} s (query.max_time): ask for less, for instance a shorter range of received", .0.as_secs_f64())]
    Time(Duration),
    /// It returned too much.
    #[error("the query returns more than {0} rows (query.max_rows): add a LIMIT, or aggregate")]
    Rows(usize),
    /// Too many run.
    #[error("{0}: try again when one has ended (SHOW QUERIES lists them), or raise the setting")]
    Busy(Busy),
    /// Somebody stopped it.
    #[error("the query was cancelled")]
    Cancelled,
    /// Weir's own failure.
    #[error("the query failed inside weir: {0}")]
    Internal(String),
}

/// Which limit of queries at a time is reached.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Busy {
    /// That of the server.
    #[error("{0} queries are running, and no more may at a time (query.max_concurrent)")]
    Server(usize),
    /// That of an organisation.
    #[error("{0} queries of this organisation are running, and no more of one may at a time (query.max_concurrent_per_org)")]
    Organisation(usize),
    /// That of a token.
    #[error("{1} queries of the token {0} are running, and no more of one may at a time (query.max_concurrent_per_token)")]
    Token(String, usize),
    /// That of live streams.
    #[error("{0} streams of live rows are read, and no more may be at a time")]
    Live(usize),
}

/// What DataFusion says where the folder of spilled rows is full.
const SPILL_FULL: &str = "The used disk space during the spilling process has exceeded the allowable limit";

impl From<DataFusionError> for QueryError {
    fn from(error: DataFusionError) -> Self {
        let text = one_line(&error.strip_backtrace());
        if text.contains(SPILL_FULL) {
            return Self::Memory("the disk space for rows that outgrow memory is used up (query.max_spill_bytes)".to_owned());
        }
        match error.find_root() {
            DataFusionError::ResourcesExhausted(reason) => Self::Memory(one_line(reason)),
            DataFusionError::Internal(_) | DataFusionError::IoError(_) | DataFusionError::ObjectStore(_) | DataFusionError::ParquetError(_) => {
                Self::Internal(text)
            }
            _ => Self::Invalid(text),
        }
    }
}

impl QueryError {
    /// The kind, as the label `result` of metrics.
    pub(crate) fn kind(&self) -> &'static str {
        match self {
            Self::Statement(_) | Self::Invalid(_) => "invalid",
            Self::Memory(_) => "memory",
            Self::Time(_) => "time",
            Self::Rows(_) => "rows",
            Self::Busy(_) => "busy",
            Self::Cancelled => "cancelled",
            Self::Internal(_) => "internal",
        }
    }
}

/// Error texts go into one line; the chains of kinds before the cause say nothing to who asked.
pub(crate) fn one_line(text: &str) -> String {
    let mut text = text.split_whitespace().collect::<Vec<_>>().join(" ");
    for noise in ["External error: ", "Arrow error: ", "Error during planning: ", "This feature is not implemented: ", "Schema error: ", "Execution error: "] {
        text = text.replace(noise, "");
    }
    text
}
