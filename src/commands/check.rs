//! `weir check`: requirements, configuration and reachability, in words.

use std::net::TcpListener;

use anyhow::bail;
use weir_catalog::Catalog;

use crate::cli::Common;
use crate::config::Config;
use crate::data_dir::DataDir;

/// Checks one thing after the other, says each result, and fails if any is bad.
pub async fn run(common: &Common) -> anyhow::Result<()> {
    let config = common.load()?;
    println!("ok    configuration");
    let data = DataDir::at(&config.data)?;
    let mut bad = 0;
    let mut say = |what: &str, result: Result<String, String>| match result {
        Ok(detail) => println!("ok    {what}: {detail}"),
        Err(reason) => {
            bad += 1;
            println!("BAD   {what}: {reason}");
        }
    };
    say("data directory", writable(&data));
    say("catalog", catalog(&data).await);
    let served = if data.exists() { data.lock().err() } else { None };
    match &served {
        // The ports are in use by the very process that serves this directory.
        Some(error) => say("serving", Ok(error.to_string())),
        None => {
            say("port for SDKs", port_is_free(&config, "http"));
            say("port for SQL", port_is_free(&config, "flight"));
        }
    }
    if bad > 0 {
        bail!("{bad} of the checks failed");
    }
    Ok(())
}

fn writable(data: &DataDir) -> Result<String, String> {
    data.create().map_err(|e| format!("{e:#}"))?;
    let probe = data.path().join("check.tmp");
    std::fs::write(&probe, b"x").and_then(|()| std::fs::remove_file(&probe)).map_err(|e| format!("{} cannot be written: {e}", data.path().display()))?;
    Ok(data.path().display().to_string())
}

async fn catalog(data: &DataDir) -> Result<String, String> {
    if !data.exists() {
        return Ok("none yet; the first start makes it".to_owned());
    }
    let catalog = Catalog::open(&data.catalog()).await.map_err(|e| e.to_string())?;
    let projects = catalog.projects().await.map_err(|e| e.to_string())?.len();
    catalog.close().await;
    Ok(format!("{projects} projects"))
}

fn port_is_free(config: &Config, setting: &str) -> Result<String, String> {
    let address = if setting == "http" { config.http } else { config.flight };
    TcpListener::bind(address).map(|_| address.to_string()).map_err(|e| format!("{address}: {e}: stop what uses it, or give another with --{setting}"))
}
