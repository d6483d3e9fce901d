//! What the command line left in the catalog, and `serve` puts into the journal: projects and deletions.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use weir_catalog::Catalog;
use weir_journal::Journal;
use weir_protocol::record::{Content, Record};

use super::cluster::Running;
use super::now_ms;

/// How often the catalog is asked.
const EVERY: Duration = Duration::from_secs(1);

/// Journals whatever is new, for as long as the program runs. `known` are the projects that the graph has, each with the days
/// that its rows are kept as the graph has them.
///
/// While the catalog does not answer, the health page says so: nothing else may ask it for a minute.
pub(super) async fn journal_all(catalog: Catalog, journal: Journal, running: Arc<Running>, known: BTreeMap<u64, u16>) {
    let mut known = known;
    let mut version = None;
    loop {
        let mut trouble = None;
        if let Err(error) = journal_projects(&catalog, &journal, &mut known, &mut version).await {
            tracing::warn!(%error, "projects were not journalled; trying again");
            trouble = Some(format!("new projects are not journalled, it is tried again: {error}"));
        }
        if let Err(error) = journal_deletions(&catalog, &journal).await {
            tracing::warn!(%error, "deletions were not journalled; trying again");
            trouble = Some(format!("new projects and deletions are not journalled, it is tried again: {error}"));
        }
        running.progress().trouble_with("commands", trouble);
        tokio::time::sleep(EVERY).await;
    }
}

/// Journals each project that the graph does not know yet, or not as it is now, whoever changed it.
async fn journal_projects(catalog: &Catalog, journal: &Journal, known: &mut BTreeMap<u64, u16>, version: &mut Option<(i64, i64)>) -> anyhow::Result<()> {
    let newest = Some(catalog.projects_version().await?);
    if newest == *version {
        return Ok(());
    }
    for row in catalog.projects().await? {
        let (id, days) = (row.project.project_id, row.project.retention_days);
        if known.get(&id) != Some(&days) {
            journal.append(Record { received_ms: now_ms(), content: Content::Project(row.project) }).await?;
            known.insert(id, days);
        }
    }
    *version = newest;
    Ok(())
}

/// Journals the deletions that wait. One that is journalled twice, since the program ended in between, deletes nothing more.
async fn journal_deletions(catalog: &Catalog, journal: &Journal) -> anyhow::Result<()> {
    for (id, deletion) in catalog.deletion_requests().await? {
        tracing::info!(project = deletion.project.slug, "deleting {}", deletion.target);
        journal.append(Record { received_ms: now_ms(), content: Content::Deletion(Box::new(deletion)) }).await?;
        catalog.forget_deletion_request(id).await?;
    }
    Ok(())
}
