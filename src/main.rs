//! The program: reads the command line, runs one command, says what went wrong.

use std::process::ExitCode;

use clap::Parser;
use weir::cli::Cli;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    let cli = Cli::parse();
    let runtime = match tokio::runtime::Builder::new_multi_thread().worker_threads(cli.async_threads()).enable_all().build() {
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
