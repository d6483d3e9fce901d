//! The doors as a client sees them: the acceptance statements of `spec/ingest.md` section 9, by their numbers, and the bounds.

mod connections;
mod statements;
mod world;
