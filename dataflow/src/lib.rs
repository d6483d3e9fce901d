//! Ticks, sources, the graph, tables and commits.
//!
//! In go the records of the journal; out come snapshots of all tables and commits to the lake. This crate owns the threads
//! of the graph and its time, and knows nothing of HTTP or SQL. What happens to a record is in `weir_operators`; here it is
//! put together (`pipeline`), fed (`ticker`, `source`), published (`publisher`, [`snapshot`]) and made durable
//! (`committer`, `lake`); `maintenance` keeps what is durable in order.

mod committer;
mod current;
mod hot;
mod lake;
mod maintenance;
mod others;
mod pipeline;
mod progress;
mod publisher;
pub mod reach;
mod restore;
mod runtime;
pub mod snapshot;
mod source;
pub mod subscriptions;
pub mod telemetry;
mod ticker;
mod worker;

#[cfg(test)]
mod tests;

// Measurements and tests lay out lakes of their own, with the writer of commits.
pub use lake::file::{WriteError, write as write_file};
pub use lake::{Checksums, Damaged};
pub use maintenance::MaintenanceOptions;
pub use progress::{MaintenanceReport, Progress, ProgressReport};
pub use runtime::{Graph, GraphError, GraphOptions, Share};
pub use subscriptions::Subscriptions;
