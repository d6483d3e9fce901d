//! Queries over a small snapshot.
