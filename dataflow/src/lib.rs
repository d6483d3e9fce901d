//! Ticks, sources, the graph, tables and commits.
