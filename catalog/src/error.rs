//! What can go wrong with the catalog.

use std::path::PathBuf;

/// Why a call to the catalog failed.
#[derive(Debug, thiserror::Error)]
pub enum CatalogError {
    /// The database refused or failed; its own words.
    #[error("the catalog database failed: {0}")]
    Database(#[from] sqlx::Error),
    /// The data was written by a newer version.
    #[error("the catalog {path} has format {found}, but this version of weir reads up to {known}: use the version of weir that wrote it, or a newer one")]
    Newer {
        /// The database.
        path: PathBuf,
        /// The format it has.
        found: i64,
        /// The newest format that this version reads.
        known: i64,
    },
    /// Another process took the partition over; what this process still holds must not be committed.
    #[error("another weir process has taken this partition over (generation {found}, ours is {mine}): this process must stop")]
    Fenced {
        /// The generation in the catalog.
        found: i64,
        /// Ours.
        mine: i64,
    },
    /// A name that is taken.
    #[error("there is already a {kind} named {name:?}: choose another name")]
    Exists {
        /// What it names.
        kind: &'static str,
        /// The name.
        name: String,
    },
    /// A name that is not there.
    #[error("there is no {kind} named {name:?}")]
    Unknown {
        /// What it should name.
        kind: &'static str,
        /// The name.
        name: String,
    },
    /// A name with characters that a name may not have.
    #[error("{name:?} is no name for a {kind}: use 1 to 50 lower-case letters, digits and hyphens, beginning with a letter or digit")]
    InvalidName {
        /// What it should name.
        kind: &'static str,
        /// The name.
        name: String,
    },
    /// A name that no subscription may have.
    #[error("{name:?} is no name for a subscription: use 1 to {max} bytes without control characters")]
    InvalidSubscriptionName {
        /// The name.
        name: String,
        /// The bound in bytes.
        max: usize,
    },
    /// As many as there may be.
    #[error("there are {max} {kind}s already, which is the most that is taken: remove some first")]
    TooMany {
        /// What there are too many of.
        kind: &'static str,
        /// The bound.
        max: usize,
    },
    /// The key with which secrets are sealed is lost, changed or cannot be read.
    #[error("the key file {path} {reason}: restore it from the backup that goes with the catalog (docs/alerts-delivery.md says what to do without one)")]
    SecretKey {
        /// The key file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// Another program changed the lake's files meanwhile.
    #[error("the lake's file {file} was replaced, or rows of it were marked as deleted, by another program: weir leaves it as it is")]
    Conflict {
        /// The id of the file.
        file: i64,
    },
    /// A number of days that is none.
    #[error("{days} is no number of days to keep rows: use 1 to 3650")]
    InvalidRetention {
        /// What was given.
        days: u16,
    },
    /// The operating system gave no random bytes.
    #[error("no random bytes from the operating system: {0}")]
    Random(String),
    /// What stands in the database is not what Weir writes.
    #[error("the catalog holds {what}, which weir never writes: restore it from a backup")]
    Corrupt {
        /// What was found.
        what: String,
    },
}

impl CatalogError {
    /// Whether the same call may succeed later: the disk was full, or another writer held the lock.
    pub fn is_transient(&self) -> bool {
        match self {
            Self::Database(sqlx::Error::PoolTimedOut | sqlx::Error::Io(_)) => true,
            // SQLite's primary result codes: BUSY 5, LOCKED 6, IOERR 10, FULL 13, CANTOPEN 14; extended ones carry them in the low byte.
            Self::Database(sqlx::Error::Database(e)) => {
                e.code().and_then(|c| c.parse::<u32>().ok()).is_some_and(|code| matches!(code & 0xff, 5 | 6 | 10 | 13 | 14))
            }
            _ => false,
        }
    }
}
