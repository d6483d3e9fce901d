//! `weir delete`: events, issues, and what names a user.

use anyhow::bail;
use weir_protocol::deletion::{Deletion, Target};

use super::existing_catalog;
use crate::boot::now_ms;
use crate::config::Config;

/// The issue that a text names: a short id, or the number that the column `group_id` has.
pub fn issue(text: &str) -> Target {
    text.parse().map_or_else(|_| Target::ShortId(text.to_owned()), Target::Issue)
}

/// Leaves the deletions for `serve`, which takes them up within a second, or when it starts next.
pub async fn run(config: &Config, targets: Vec<Target>, project: &str, now: bool) -> anyhow::Result<()> {
    let catalog = existing_catalog(config).await?;
    let Some(row) = catalog.projects().await?.into_iter().find(|row| row.project.slug == project) else {
        bail!("there is no project named {project:?}: `weir project list` shows those that there are");
    };
    for target in targets {
        let what = target.to_string();
        catalog.request_deletion(&Deletion { project: row.project.clone(), target, now }, now_ms()).await?;
        println!("{what} will be deleted from {project}");
    }
    catalog.close().await;
    Ok(())
}
