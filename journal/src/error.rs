//! What can go wrong with the journal.

use std::io;
use std::path::PathBuf;

use weir_protocol::record::RecordError;

/// Why the journal could not be opened, read or truncated.
#[derive(Debug, thiserror::Error)]
pub enum JournalError {
    /// The files could not be used.
    #[error("the journal cannot {action} {}: {source}", .file.display())]
    Storage {
        /// What was tried.
        action: &'static str,
        /// The file or folder.
        file: PathBuf,
        /// What the operating system said.
        source: io::Error,
    },
    /// A segment was written by a newer version.
    #[error("the journal segment {} has format {found}, but this version of weir reads up to {known}: use the version of weir that wrote it, or a newer one", .file.display())]
    Newer {
        /// The segment.
        file: PathBuf,
        /// The format it has.
        found: u32,
        /// The newest format that this version reads.
        known: u32,
    },
    /// A record was written by a newer version.
    #[error("record {offset} of the journal, in {}, cannot be read: {source}", .file.display())]
    NewerRecord {
        /// The record.
        offset: u64,
        /// Its segment.
        file: PathBuf,
        /// Which format it has.
        source: RecordError,
    },
    /// What a reader asked for was truncated away.
    #[error("records {wanted} to {start} of the journal (the last excluded) were truncated away; it holds {start} to {end}")]
    Truncated {
        /// The first record that was asked for.
        wanted: u64,
        /// The first record that is still held.
        start: u64,
        /// The offset after the last record.
        end: u64,
    },
    /// Segments that the last commit continues from are missing.
    #[error(
        "the last commit continues from record {wanted} of the journal, but the journal holds {start} to {end}: restore the journal's folder, or the whole data directory from a backup"
    )]
    Gap {
        /// Where the commit continues.
        wanted: u64,
        /// The first record held.
        start: u64,
        /// The record after the last.
        end: u64,
    },
    /// A topic cannot be used.
    #[error("{0}")]
    Kafka(String),
    /// A thread was not given.
    #[error("a thread of the journal cannot be started: {0}")]
    Thread(io::Error),
}

/// Why a record was not kept. It is in none of the cases durable as far as the caller may count on.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AppendError {
    /// The journal has reached its bound; it was not touched.
    #[error(
        "the journal is full: it holds {bytes} of {max} bytes; what is committed is truncated away, so either commits fail or `journal.max_bytes` is too small"
    )]
    Full {
        /// What it holds, and what waits to be written.
        bytes: u64,
        /// The bound.
        max: u64,
    },
    /// The file could not be written or synced.
    #[error("the journal cannot be written: {reason}")]
    Storage {
        /// What was tried, and what the operating system said.
        reason: String,
    },
    /// The record is larger than a record may be.
    #[error("the record has {bytes} bytes; the journal takes up to {max}")]
    TooLarge {
        /// Its size.
        bytes: u64,
        /// The bound.
        max: u64,
    },
    /// The journal was closed: the program is stopping.
    #[error("the journal is closed: the program is stopping")]
    Closed,
    /// Too many appends wait already.
    #[error("too many appends wait for the journal")]
    Busy,
}

impl AppendError {
    /// Whether the same record may be kept when it is appended again later. `Closed` says yes, since a restarted program would.
    pub fn retry_later(&self) -> bool {
        !matches!(self, Self::TooLarge { .. })
    }
}
