//! Ticks, sources, the graph, tables and commits.

pub mod snapshot;
