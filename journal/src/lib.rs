//! The durable log: the only input of the graph.
