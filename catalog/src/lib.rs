//! The relational database: projects, keys, tokens, the lake's catalog, and the commits that bind all tables to the journal.
//!
//! Everything that must change together changes in one transaction here. [`Catalog`] is a handle to it, cheap to clone;
//! each noun has a file that adds its methods. The tables of Weir's own begin with `weir_`; those that begin with
//! `ducklake_` are the catalog of a DuckLake (version 1.0 of its specification), so that any reader of that format can
//! attach the same file. Nothing in the file is a secret: keys are public, tokens are stored hashed, and what subscriptions
//! are notified through is sealed with a key that stands beside the file ([`SecretKey`]).

mod alerts;
mod database;
mod deletions;
mod error;
mod journal;
mod keys;
mod lake;
mod lake_commit;
mod lake_maintenance;
mod migrations;
mod outbox;
mod processes;
mod projects;
mod secret;
mod sequence;
mod state;
mod subscriptions;
#[cfg(test)]
mod testing;
mod tokens;

pub use alerts::{AlertCommit, AlertQuery, AlertRow, RestoredAlerts};
pub use database::{Catalog, CatalogLocation};
pub use deletions::PendingDeletion;
pub use error::CatalogError;
pub use keys::ProjectKey;
pub use lake::{Lake, LakeColumn, LakeFile, LakeTable};
pub use lake_commit::{ColumnStatistics, Commit, Committed, MAINTENANCE, NewFile};
pub use lake_maintenance::{DeletedIdentity, LakeTotals, LiveFile, Replacement, ScheduledFile};
pub use outbox::{DeliveryOutcome, DeliveryResult, DeliveryRow, DeliveryStatus, OutboxEntry, OutboxMessage};
pub use processes::Membership;
pub use projects::ProjectRow;
pub use secret::SecretKey;
pub use state::{GroupHashRow, IssueStateRow, Restored};
pub use subscriptions::NewSubscription;
pub use tokens::{Token, TokenScope};
