//! `weir token`: create, list and revoke access tokens.

use super::existing_catalog;
use crate::boot::now_ms;
use crate::config::Config;

/// Creates a token and prints it alone on standard output: it is shown this once.
pub async fn create(config: &Config, name: &str, projects: &[String]) -> anyhow::Result<()> {
    let catalog = existing_catalog(config).await?;
    let token = catalog.create_token(name, projects, now_ms()).await?;
    catalog.close().await;
    println!("{token}");
    Ok(())
}

/// Lists the tokens by name with the projects that they read.
pub async fn list(config: &Config) -> anyhow::Result<()> {
    let catalog = existing_catalog(config).await?;
    for token in catalog.tokens().await? {
        println!("{:<30}  {}", token.name, token.projects.map_or_else(|| "all projects".to_owned(), |slugs| slugs.join(", ")));
    }
    catalog.close().await;
    Ok(())
}

/// Revokes a token; a server that runs notices within seconds.
pub async fn revoke(config: &Config, name: &str) -> anyhow::Result<()> {
    let catalog = existing_catalog(config).await?;
    catalog.revoke_token(name, now_ms()).await?;
    catalog.close().await;
    println!("revoked {name}");
    Ok(())
}
