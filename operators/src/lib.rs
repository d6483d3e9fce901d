//! The logic of the graph: pure cores with thin timely wrappers.
//!
//! Records go in, rows come out. Nothing here reads a clock, does I/O, draws a random number or depends on the order of a hash
//! map, so the same journal always leads to the same rows. A stage is a trait over timely's streams; the functions that it
//! calls know nothing of timely.
//!
//! | stage | module | makes of it |
//! |---|---|---|
//! | 1 | [`decode`] | records into items |
//! | 2 | [`interpret`] | items into facts: [`normalise`], [`grouping`], [`error`], [`spans`], [`logs`], [`client_report`] |
//! | 3 | [`deduplicate`] | duplicates into outcomes |
//! | 4 | [`issues`] | errors into issues, with [`users`] |
//! | 5 | [`output`] | rows of a tick into batches |
//!
//! [`schema`] says which tables there are and [`rows`] what their rows are made of. [`sketch`] counts distributions, for queries
//! and for maintained views alike.

pub mod alert;
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
pub mod relation;
pub mod rows;
pub mod schema;
pub mod sketch;
pub mod spans;
mod stage;
pub mod users;

/// The graph's time: Unix milliseconds, strictly increasing from tick to tick.
pub type Time = u64;
