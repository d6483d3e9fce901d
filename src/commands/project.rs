//! `weir project`: create, change and list projects.

use serde_json::json;
use weir_catalog::ProjectRow;
use weir_protocol::dsn::Dsn;

use super::existing_catalog;
use crate::boot::now_ms;
use crate::cli::ListFormat;
use crate::config::Config;

/// The DSN of a project for SDKs on this machine.
pub fn dsn(config: &Config, project: &ProjectRow) -> Dsn {
    Dsn { scheme: "http".to_owned(), public_key: project.public_key, host: config.http.to_string(), project_id: project.project.project_id }
}

/// Creates a project and prints its DSN.
pub async fn create(config: &Config, name: &str) -> anyhow::Result<()> {
    let catalog = existing_catalog(config).await?;
    let project = catalog.create_project(name, now_ms()).await?;
    catalog.close().await;
    println!("{}", dsn(config, &project));
    Ok(())
}

/// Sets how many days the rows of a project are kept.
pub async fn set_retention(config: &Config, name: &str, days: u16) -> anyhow::Result<()> {
    let catalog = existing_catalog(config).await?;
    catalog.set_retention(name, days).await?;
    catalog.close().await;
    Ok(())
}

/// Lists the projects.
pub async fn list(config: &Config, format: ListFormat) -> anyhow::Result<()> {
    let catalog = existing_catalog(config).await?;
    let projects = catalog.projects().await?;
    catalog.close().await;
    match format {
        ListFormat::Json => {
            let rows: Vec<_> =
                projects.iter().map(|p| json!({"id": p.project.project_id, "slug": p.project.slug, "dsn": dsn(config, p).to_string()})).collect();
            println!("{}", serde_json::to_string(&rows)?);
        }
        ListFormat::Table => {
            for p in &projects {
                println!("{:>6}  {:<30}  {:>4} days  {}", p.project.project_id, p.project.slug, p.project.retention_days, dsn(config, p));
            }
        }
    }
    Ok(())
}
