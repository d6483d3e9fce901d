//! `weir check`: requirements, configuration and reachability, in words.

use std::net::{IpAddr, Ipv4Addr, TcpListener};
use std::os::unix::fs::PermissionsExt;

use anyhow::bail;
use weir_catalog::{Catalog, CatalogLocation};
use weir_outbound::Reach;

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
    let location = config.catalog.location(&data);
    let (opened, is_there) = catalog(&location).await;
    say("catalog", opened);
    say("key of secrets", key(&data, is_there));
    say("outbound", outbound(&config));
    say("mail", mail(&config).await);
    let served = if data.was_served() { data.lock().err() } else { None };
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

/// What is said of the catalog, and whether there is one.
async fn catalog(location: &CatalogLocation) -> (Result<String, String>, bool) {
    let catalog = match Catalog::open_existing(location).await {
        Ok(Some(catalog)) => catalog,
        Ok(None) => return (Ok(format!("none yet in {location}; the first start makes it")), false),
        Err(error) => return (Err(error.to_string()), false),
    };
    let projects = catalog.projects().await;
    catalog.close().await;
    (projects.map(|projects| format!("{} projects in {location}", projects.len())).map_err(|e| e.to_string()), true)
}

fn key(data: &DataDir, is_there: bool) -> Result<String, String> {
    let path = data.secret_key();
    match std::fs::metadata(&path) {
        Ok(file) if file.permissions().mode() & 0o077 != 0 => {
            Err(format!("{} can be read by others: chmod 600 it; whoever has read it can open the secrets of subscriptions", path.display()))
        }
        Ok(_) => Ok(format!("{}; back it up with the catalog, and apart from it", path.display())),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound && !is_there => Ok("none yet; the first start makes it".to_owned()),
        Err(error) => Err(format!("{}: {error}", path.display())),
    }
}

/// Where clouds tell each machine its credentials: the address that a request forged on the server is most often meant for.
const METADATA_SERVICE: IpAddr = IpAddr::V4(Ipv4Addr::new(169, 254, 169, 254));

fn outbound(config: &Config) -> Result<String, String> {
    let allowed = String::from(config.outbound.allow.clone());
    if Reach::allowing(config.outbound.allow.0.clone()).permits(METADATA_SERVICE) {
        return Err(format!(
            "outbound.allow is {allowed}: whoever may write a subscription can reach {METADATA_SERVICE}; name only the networks that are meant"
        ));
    }
    Ok(if allowed.is_empty() { "public addresses only".to_owned() } else { format!("public addresses and {allowed}") })
}

async fn mail(config: &Config) -> Result<String, String> {
    let Some(server) = config.mail.server().map_err(|e| e.to_string())? else {
        return Ok("none: subscriptions cannot notify by mail until mail.url and mail.from are set".to_owned());
    };
    server.check().await.map_err(|e| format!("{}: {e}", config.mail.url))?;
    Ok(format!("{} answers; mails come from {}", config.mail.url, config.mail.from))
}

fn port_is_free(config: &Config, setting: &str) -> Result<String, String> {
    let address = if setting == "http" { config.http } else { config.flight };
    TcpListener::bind(address).map(|_| address.to_string()).map_err(|e| format!("{address}: {e}: stop what uses it, or give another with --{setting}"))
}
