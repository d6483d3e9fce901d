//! Weir: what the services of a self-hosted Sentry do, in one program.
//!
//! This crate is the binary's own part: [`cli`] says what can be asked, [`config`] how it is set, [`boot`] in which order
//! the parts start and stop. Everything else is in the crates below it; `docs/ARCHITECTURE.md` leads through them.

pub mod boot;
pub mod cli;
pub mod commands;
pub mod config;
pub mod data_dir;

use std::process::ExitCode;

use clap::Parser;

/// Reads the command line, runs one command, says what went wrong.
///
/// It stands here and not in the program's `main`, so that all that a command runs is compiled once.
pub fn run() -> ExitCode {
    let cli = cli::Cli::parse();
    let runtime = match tokio::runtime::Builder::new_multi_thread()
        .worker_threads(cli.async_threads())
        .thread_stack_size(weir_sql::PLANNING_STACK_BYTES)
        .enable_all()
        .build()
    {
        Ok(runtime) => runtime,
        Err(error) => return fail(&anyhow::anyhow!("the async runtime does not start: {error}")),
    };
    match runtime.block_on(cli.run()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => fail(&error),
    }
}

/// The one place that writes errors for people: the whole chain in one line.
#[allow(clippy::print_stderr, reason = "the command line's errors go to standard error")]
fn fail(error: &anyhow::Error) -> ExitCode {
    eprintln!("weir: {error:#}");
    ExitCode::FAILURE
}
