//! The logic of the graph: pure cores with thin timely wrappers.

pub mod error;
pub mod event;
pub mod grouping;
pub mod normalise;
pub mod client_report;
pub mod decode;
pub mod fact;
pub mod interpret;
pub mod issues;
pub mod logs;
pub mod output;
pub mod spans;
pub mod deduplicate;
pub mod rows;
pub mod schema;
pub mod users;
mod stage;

/// The graph's time: Unix milliseconds, strictly increasing from tick to tick.
pub type Time = u64;
