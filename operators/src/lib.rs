//! The logic of the graph: pure cores with thin timely wrappers.
