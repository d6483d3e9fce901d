//! What can go wrong with the catalog.

use std::path::PathBuf;

/// Why a call to the catalog failed.
#[derive(Debug, thiserror::Error)]
pub enum CatalogError {
    /// The database refused or failed; its own words.
    #[error("the catalog database failed: {0}")]
    Database(#[from] sqlx::Error),
    /// The data was written by a newer version.
    #[error("the catalog {location} has format {found}, but this version of weir reads up to {known}: use the version of weir that wrote it, or a newer one")]
    Newer {
        /// The database, without passwords.
        location: String,
        /// The format it has.
        found: i64,
        /// The newest format that this version reads.
        known: i64,
    },
    /// PostgreSQL does not answer, or refuses who asks.
    #[error("the catalog {location} cannot be reached ({reason}): check that its server runs, and the name, user and password in catalog.url")]
    Unreachable {
        /// The database, without passwords.
        location: String,
        /// Why.
        reason: String,
    },
    /// A database that cannot hold a catalog.
    #[error("the catalog {location} cannot be used: {reason}")]
    Unsuitable {
        /// The database, without passwords.
        location: String,
        /// What is wrong with it, and what to do.
        reason: String,
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
    #[error(
        "the key file {path} {reason}: restore it from the backup that goes with the catalog, or copy it from another process of the same catalog (docs/alerts-delivery.md says what to do without one)"
    )]
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
    /// Whether the same call may succeed later: the disk was full, another writer held the lock, or the server was away.
    pub fn is_transient(&self) -> bool {
        match self {
            Self::Unreachable { .. } | Self::Database(sqlx::Error::PoolTimedOut | sqlx::Error::Io(_) | sqlx::Error::WorkerCrashed) => true,
            Self::Database(sqlx::Error::Database(error)) => {
                let code = error.code().unwrap_or_default();
                if error.try_downcast_ref::<sqlx::postgres::PgDatabaseError>().is_some() { is_transient_state(&code) } else { is_transient_result(&code) }
            }
            _ => false,
        }
    }
}

/// SQLite's primary result codes BUSY 5, LOCKED 6, IOERR 10, FULL 13, CANTOPEN 14; extended ones carry them in the low byte.
fn is_transient_result(code: &str) -> bool {
    code.parse::<u32>().is_ok_and(|code| matches!(code & 0xff, 5 | 6 | 10 | 13 | 14))
}

/// PostgreSQL's classes of states: connections, transactions rolled back for others, resources, locks and timeouts, an operator, the
/// system; and a server that became read-only, as a primary does that another takes over from.
fn is_transient_state(code: &str) -> bool {
    ["08", "40", "53", "55", "57", "58", "25P03", "25006"].iter().any(|class| code.starts_with(class))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_may_succeed_later_is_told_from_what_will_not() {
        for (code, want) in [("5", true), ("517", true), ("13", true), ("1", false), ("2067", false), ("x", false)] {
            assert_eq!(is_transient_result(code), want, "{code}");
        }
        for (code, want) in
            [("57P01", true), ("08006", true), ("53100", true), ("55P03", true), ("25006", true), ("23505", false), ("42P01", false), ("25P02", false)]
        {
            assert_eq!(is_transient_state(code), want, "{code}");
        }
    }
}
