//! The HTTP doors for SDKs: authenticate, bound, decompress and frame what comes in, and answer when the log has it.
//!
//! | module | noun |
//! |---|---|
//! | [`doors`] | the router: a request goes to its door and leaves with its answer |
//! | [`serve`] | connections, and their end |
//! | `paths`, `query`, `cors` | the surface of HTTP that SDKs expect |
//! | `auth`, [`keys`], `origin`, `address` | who sends, and from where |
//! | `body`, `budget` | bytes within bounds |
//! | `store`, `payload` | the legacy door, and the little that is read of an event |
//! | `admission`, `tally` | what is taken, and how the rest ended |
//! | `intake` | from a request to a record |
//! | [`log`] | where records go |
//! | `refusal` | every error that is answered |
//! | `telemetry` | the metrics, with their catalogue |
//!
//! A request is answered 200 only after the log has its record. Refused requests of a known sender are counted by a record of
//! outcomes, as long as few of those are under way: it waits for nothing and is dropped, and counted in metrics, past
//! [`Options::refusal_records_max`]. Bodies that broke off, stood still (408) or found no room (503) are counted in metrics only.
//! Requests that authenticate nowhere belong to no project, so they too are counted in metrics only.

mod address;
mod admission;
mod auth;
mod body;
mod budget;
mod cors;
pub mod doors;
mod intake;
pub mod keys;
pub mod log;
mod options;
mod origin;
mod paths;
mod payload;
mod query;
mod refusal;
pub mod serve;
mod store;
mod tally;
mod telemetry;
#[cfg(test)]
mod tests;

pub use axum::Router;
pub use doors::{Doors, Health, router};
pub use keys::{Key, KeySource, KeySourceError};
pub use log::{Log, NotKept};
pub use options::Options;
pub use serve::{Connections, serve, serve_within};
