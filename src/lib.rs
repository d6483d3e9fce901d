//! Weir: what the services of a self-hosted Sentry do, in one program.
//!
//! This crate is the binary's own part: [`cli`] says what can be asked, [`config`] how it is set, [`boot`] in which order
//! the parts start and stop. Everything else is in the crates below it; `docs/ARCHITECTURE.md` leads through them.

pub mod boot;
pub mod cli;
pub mod commands;
pub mod config;
pub mod data_dir;
