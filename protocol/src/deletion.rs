//! What people ask to be deleted, and what the deletion did: records of the journal like everything else.
//!
//! A deletion takes effect at its place in the journal: it reaches what was received before it and nothing after it. It is
//! carried out later, file by file; a second record says that it is done and how the issues that lost events stand since.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::ids::{EventId, ProjectId};
use crate::record::Project;

/// Something to be deleted from one project.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Deletion {
    /// The project.
    pub project: Project,
    /// What of it.
    pub target: Target,
    /// Whether the files that held it go at once, and not after the grace period for readers of older snapshots.
    #[serde(default)]
    pub now: bool,
}

/// What is to be deleted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Target {
    /// An event or transaction with everything that came with it.
    Event(EventId),
    /// An issue, by its short id (`SHOP-1A`), with its events. What arrives later starts a new one.
    ShortId(String),
    /// An issue by its id.
    Issue(i64),
    /// Everything that names a user.
    User(UserRef),
}

/// How a user is named.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum UserRef {
    /// By id or by e-mail address, whichever it is.
    Any(String),
    /// By `user.id`.
    Id(String),
    /// By `user.email`.
    Email(String),
    /// By `user.username`.
    Username(String),
    /// By `user.ip_address`.
    Ip(String),
}

impl UserRef {
    /// The value that is looked for.
    pub fn value(&self) -> &str {
        match self {
            Self::Any(value) | Self::Id(value) | Self::Email(value) | Self::Username(value) | Self::Ip(value) => value,
        }
    }
}

/// Why a text names no user.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} names no user: write an id or an e-mail address, or id:…, email:…, username:… or ip:…")]
pub struct InvalidUser(String);

impl FromStr for UserRef {
    type Err = InvalidUser;

    /// `id:42`, `email:…`, `username:…` and `ip:…` as in the column `user` of the tables; without a prefix an id or e-mail.
    fn from_str(text: &str) -> Result<Self, InvalidUser> {
        let (make, value): (fn(String) -> Self, &str) = match text.split_once(':') {
            Some(("id", value)) => (Self::Id, value),
            Some(("email", value)) => (Self::Email, value),
            Some(("username", value)) => (Self::Username, value),
            Some(("ip", value)) => (Self::Ip, value),
            _ => (Self::Any, text),
        };
        if value.trim().is_empty() { Err(InvalidUser(text.to_owned())) } else { Ok(make(value.to_owned())) }
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Event(id) => write!(f, "event {id}"),
            Self::ShortId(id) => write!(f, "issue {id}"),
            Self::Issue(id) => write!(f, "issue {id}"),
            // Who it was must not stand in a log file after the deletion.
            Self::User(_) => write!(f, "a user's data"),
        }
    }
}

/// A deletion was carried out: no file of the lake's newest snapshot holds what it reached.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Erased {
    /// The project.
    pub project: Project,
    /// The deletion's place in the journal.
    pub deletion_seq: i64,
    /// The issues that lost events.
    #[serde(default)]
    pub corrections: Vec<Correction>,
}

/// How an issue stands that lost events. Every change says what it replaces, so that events which arrive meanwhile are not
/// undone: what they have changed already is not changed back.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Correction {
    /// The issue.
    pub group_id: i64,
    /// How many events it lost.
    pub events: i64,
    /// Hashes of users that only those events had.
    pub users: Vec<u64>,
    /// The first time that was lost, and the first that remains.
    pub first_seen_ms: Option<(i64, i64)>,
    /// The last time that was lost, and the last that remains.
    pub last_seen_ms: Option<(i64, i64)>,
    /// The place of the newest event that was lost, and what the newest that remains shows.
    pub shown: Option<(i64, Shown)>,
}

/// What an issue shows of its newest event.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Shown {
    /// Its title.
    pub title: String,
    /// Its culprit.
    pub culprit: String,
    /// Its level.
    pub level: String,
    /// Its platform.
    pub platform: String,
}

impl Deletion {
    /// The project's id.
    pub fn project_id(&self) -> ProjectId {
        self.project.project_id
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn users_are_named_with_and_without_a_prefix() {
        for (text, want) in [
            ("42", Ok(UserRef::Any("42".to_owned()))),
            ("a@b.c", Ok(UserRef::Any("a@b.c".to_owned()))),
            ("id:42", Ok(UserRef::Id("42".to_owned()))),
            ("email:a@b.c", Ok(UserRef::Email("a@b.c".to_owned()))),
            ("username:bob", Ok(UserRef::Username("bob".to_owned()))),
            ("ip:::1", Ok(UserRef::Ip("::1".to_owned()))),
            ("urn:x:42", Ok(UserRef::Any("urn:x:42".to_owned()))),
            ("", Err(InvalidUser(String::new()))),
            ("id:", Err(InvalidUser("id:".to_owned()))),
        ] {
            assert_eq!(text.parse::<UserRef>(), want, "{text}");
        }
    }
}
