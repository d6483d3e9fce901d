//! The state of the graph in the catalog: what a restart continues from.

use std::collections::BTreeMap;

use sqlx::{AnyConnection, Row};
use weir_protocol::ids::ProjectId;

use crate::database::Catalog;
use crate::deletions::PendingDeletion;
use crate::error::CatalogError;
use crate::lake_commit::Commit;
use crate::lake_maintenance::DeletedIdentity;

/// An issue's state as the graph wrote it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IssueStateRow {
    /// The project.
    pub project_id: ProjectId,
    /// The issue.
    pub group_id: i64,
    /// JSON that the graph reads and writes.
    pub state: String,
}

/// Which issue a grouping hash leads to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GroupHashRow {
    /// The project.
    pub project_id: ProjectId,
    /// The hash.
    pub hash: [u8; 16],
    /// The issue.
    pub group_id: i64,
}

/// Everything as of the last commit; empty where there was none.
#[derive(Debug, Clone, Default)]
pub struct Restored {
    /// The offset from which the journal is to be read, by partition.
    pub offsets: BTreeMap<u16, u64>,
    /// The tick of the commit.
    pub tick_ms: u64,
    /// The issues.
    pub issues: Vec<IssueStateRow>,
    /// The grouping hashes.
    pub hashes: Vec<GroupHashRow>,
    /// The projects: JSON that the graph reads and writes.
    pub projects: Vec<String>,
    /// Deletions that were not carried out yet.
    pub deletions: Vec<PendingDeletion>,
    /// What was deleted and might still be sent again.
    pub identities: Vec<DeletedIdentity>,
    /// The last number of a short id by project, where the issue that had it may be gone.
    pub issue_numbers: Vec<(ProjectId, u64)>,
}

impl Catalog {
    /// Reads the state of the last commit.
    pub async fn restore(&self) -> Result<Restored, CatalogError> {
        let mut restored = Restored::default();
        for row in sqlx::query("SELECT partition_id, next_offset, tick_ms FROM weir_commit").fetch_all(&self.pool).await? {
            restored.offsets.insert(row.try_get::<i64, _>("partition_id")? as u16, row.try_get::<i64, _>("next_offset")? as u64);
            restored.tick_ms = restored.tick_ms.max(row.try_get::<i64, _>("tick_ms")? as u64);
        }
        for row in sqlx::query("SELECT project_id, group_id, state FROM weir_issue_state").fetch_all(&self.pool).await? {
            restored.issues.push(IssueStateRow {
                project_id: row.try_get::<i64, _>("project_id")? as ProjectId,
                group_id: row.try_get("group_id")?,
                state: row.try_get("state")?,
            });
        }
        for row in sqlx::query("SELECT project_id, hash, group_id FROM weir_group_hash").fetch_all(&self.pool).await? {
            let hash: Vec<u8> = row.try_get("hash")?;
            restored.hashes.push(GroupHashRow {
                project_id: row.try_get::<i64, _>("project_id")? as ProjectId,
                hash: hash.try_into().map_err(|_| CatalogError::Corrupt { what: "a grouping hash that has not 16 bytes".to_owned() })?,
                group_id: row.try_get("group_id")?,
            });
        }
        restored.projects = sqlx::query_scalar("SELECT state FROM weir_project_state ORDER BY project_id").fetch_all(&self.pool).await?;
        restored.deletions = self.pending_deletions().await?;
        restored.identities = self.deleted_identities().await?;
        for row in sqlx::query("SELECT project_id, last_number FROM weir_issue_number").fetch_all(&self.pool).await? {
            restored.issue_numbers.push((row.try_get::<i64, _>("project_id")? as ProjectId, row.try_get::<i64, _>("last_number")? as u64));
        }
        Ok(restored)
    }
}

pub(crate) async fn write(connection: &mut AnyConnection, commit: &Commit) -> Result<(), CatalogError> {
    for issue in &commit.issues {
        sqlx::query("INSERT INTO weir_issue_state VALUES ($1, $2, $3) ON CONFLICT (project_id, group_id) DO UPDATE SET state = excluded.state")
            .bind(issue.project_id as i64)
            .bind(issue.group_id)
            .bind(&issue.state)
            .execute(&mut *connection)
            .await?;
    }
    for hash in &commit.hashes {
        sqlx::query("INSERT INTO weir_group_hash VALUES ($1, $2, $3) ON CONFLICT (project_id, hash) DO UPDATE SET group_id = excluded.group_id")
            .bind(hash.project_id as i64)
            .bind(&hash.hash[..])
            .bind(hash.group_id)
            .execute(&mut *connection)
            .await?;
    }
    for (project_id, state) in &commit.projects {
        sqlx::query("INSERT INTO weir_project_state VALUES ($1, $2) ON CONFLICT (project_id) DO UPDATE SET state = excluded.state")
            .bind(*project_id as i64)
            .bind(state)
            .execute(&mut *connection)
            .await?;
    }
    Ok(())
}
