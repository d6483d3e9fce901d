//! The logic of the graph: pure cores with thin timely wrappers.

pub mod client_report;
pub mod decode;
pub mod deduplicate;
pub mod error;
pub mod event;
pub mod fact;
pub mod grouping;
pub mod interpret;
pub mod issues;
pub mod logs;
pub mod normalise;
pub mod output;
pub mod rows;
pub mod schema;
pub mod spans;
mod stage;
pub mod users;

/// The graph's time: Unix milliseconds, strictly increasing from tick to tick.
pub type Time = u64;
