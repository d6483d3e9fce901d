//! The vocabulary and the wire of Weir: ids, envelopes, JSON, outcomes and the records of the journal.
//!
//! Bytes come in, values go out, and the other way round. This crate performs no I/O, reads no clock and draws no random
//! numbers, so that everything above it may use it, the operators of the graph included.
//!
//! | module | noun |
//! |---|---|
//! | [`ids`] | event, project, organisation and key identifiers |
//! | [`dsn`] | the address that an SDK is given |
//! | [`encoding`] | content encodings, undone within bounds |
//! | [`envelope`] | the framing that SDKs send |
//! | [`json`] | a JSON value that borrows from the bytes it was read from |
//! | [`category`], [`outcome`] | what an item counts as, and how it ended |
//! | [`record`] | one entry of the journal |
//! | [`subscription`] | subscriptions, alerts, transitions |
//! | [`notify`] | whom an alert tells |
//! | [`deletion`] | what is to be deleted, and what that did |
//! | [`limits`] | every bound, with its unit in its name |

pub mod category;
pub mod deletion;
pub mod dsn;
pub mod encoding;
pub mod envelope;
pub mod ids;
pub mod json;
pub mod limits;
pub mod notify;
pub mod outcome;
pub mod record;
pub mod subscription;

pub use category::Category;
pub use ids::{EventId, KeyId, OrgId, ProjectId, PublicKey};
pub use outcome::{Outcome, OutcomeCount};
