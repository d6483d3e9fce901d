//! Maintained queries: the relational plan that the graph can run, and what it makes of the tables' changes.
//!
//! [`plan`] is a small closed language over batches: scans with windows, maps, reductions, joins, top-k. It knows nothing of
//! SQL: expressions are opaque ([`plan::Evaluate`]), and whoever compiles SQL implements them. [`template`] is one plan for all
//! subscriptions that differ in their constants only. Edges between operators are Arrow batches with times and differences;
//! arrangements hold rows as bytes.

pub mod plan;
pub mod template;
