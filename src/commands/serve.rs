//! `weir serve`: the server.

use std::io::IsTerminal;

use tokio::signal::unix::{SignalKind, signal};
use tracing_subscriber::EnvFilter;
use weir_catalog::ProjectRow;

use crate::boot::Weir;
use crate::commands::project;
use crate::config::Config;

/// Starts everything, says where, and runs until SIGINT or SIGTERM.
pub async fn run(config: Config) -> anyhow::Result<()> {
    let filter = EnvFilter::try_from_env("WEIR_LOG").unwrap_or_else(|_| EnvFilter::new("info"));
    tracing_subscriber::fmt().with_env_filter(filter).with_ansi(std::io::stderr().is_terminal()).with_writer(std::io::stderr).init();
    // Before anything is announced: a signal that comes early must end the program in order, too.
    let (mut interrupt, mut terminate) = (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
    let weir = Weir::start(&config, |projects, first_token| announce(&config, projects, first_token)).await?;
    let failure = weir.failure();
    tokio::select! {
        _ = interrupt.recv() => tracing::info!("interrupted, stopping"),
        _ = terminate.recv() => tracing::info!("asked to terminate, stopping"),
        () = failure => {}
    }
    weir.stop().await
}

fn announce(config: &Config, projects: &[ProjectRow], first_token: Option<&str>) {
    for row in projects {
        println!("DSN of {:<12} {}", row.project.slug, project::dsn(config, row));
    }
    println!("SDKs send to        http://{}", config.http);
    println!("SQL is asked at     grpc://{}", config.flight);
    if let Some(token) = first_token {
        println!("admin token         {token}");
        println!("                    (shown this once; `weir token create NAME` makes another)");
    }
}
