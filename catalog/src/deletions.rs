//! Deletions: asked for by the command line, known to the graph, carried out by the maintenance.
//!
//! A request waits here until `serve` has journalled it. From the commit that holds the record until the one that holds its
//! completion, the deletion is pending: every reader leaves out what it reaches.

use sqlx::{AnyConnection, Row};
use weir_protocol::deletion::{Correction, Deletion};

use crate::database::Catalog;
use crate::error::CatalogError;
use crate::lake_commit::Commit;
use crate::lake_maintenance::DeletedIdentity;

/// A deletion that is committed and not yet carried out.
#[derive(Debug, Clone, PartialEq)]
pub struct PendingDeletion {
    /// Its place in the journal.
    pub seq: i64,
    /// What is to be deleted.
    pub deletion: Deletion,
    /// How the issues stand that lose events; `None` until that was found out.
    pub corrections: Option<Vec<Correction>>,
}

impl Catalog {
    /// Leaves a request for `serve`, running or not.
    pub async fn request_deletion(&self, deletion: &Deletion, now_ms: u64) -> Result<(), CatalogError> {
        sqlx::query("INSERT INTO weir_deletion_request (body, requested_ms) VALUES ($1, $2)")
            .bind(text(deletion)?)
            .bind(now_ms as i64)
            .execute(&self.pool)
            .await?;
        Ok(())
    }

    /// The requests that wait, in their order.
    pub async fn deletion_requests(&self) -> Result<Vec<(i64, Deletion)>, CatalogError> {
        let rows = sqlx::query("SELECT id, body FROM weir_deletion_request ORDER BY id").fetch_all(&self.pool).await?;
        rows.iter().map(|row| Ok((row.try_get("id")?, parsed(&row.try_get::<String, _>("body")?)?))).collect()
    }

    /// Forgets a request that is in the journal.
    pub async fn forget_deletion_request(&self, id: i64) -> Result<(), CatalogError> {
        sqlx::query("DELETE FROM weir_deletion_request WHERE id = $1").bind(id).execute(&self.pool).await?;
        Ok(())
    }

    /// The deletions that are committed and not carried out, in their order.
    pub async fn pending_deletions(&self) -> Result<Vec<PendingDeletion>, CatalogError> {
        let rows = sqlx::query("SELECT seq, body, corrections FROM weir_deletion ORDER BY seq").fetch_all(&self.pool).await?;
        rows.iter()
            .map(|row| {
                let corrections = row.try_get::<Option<String>, _>("corrections")?.map(|text| parsed(&text)).transpose()?;
                Ok(PendingDeletion { seq: row.try_get("seq")?, deletion: parsed(&row.try_get::<String, _>("body")?)?, corrections })
            })
            .collect()
    }

    /// Remembers how the issues stand that lose events, before the first file is rewritten: afterwards nobody can tell.
    pub async fn set_corrections(&self, seq: i64, corrections: &[Correction]) -> Result<(), CatalogError> {
        sqlx::query("UPDATE weir_deletion SET corrections = $2 WHERE seq = $1").bind(seq).bind(text(corrections)?).execute(&self.pool).await?;
        Ok(())
    }

    /// The identities of what was deleted and might still be sent again.
    pub async fn deleted_identities(&self) -> Result<Vec<DeletedIdentity>, CatalogError> {
        let rows = sqlx::query("SELECT project_id, identity, received_ms FROM weir_deleted_identity").fetch_all(&self.pool).await?;
        rows.iter()
            .map(|row| {
                let identity: Vec<u8> = row.try_get("identity")?;
                Ok(DeletedIdentity {
                    project_id: row.try_get::<i64, _>("project_id")? as u64,
                    identity: identity.try_into().map_err(|_| CatalogError::Corrupt { what: "an identity that has not 16 bytes".to_owned() })?,
                    received_ms: row.try_get::<i64, _>("received_ms")? as u64,
                })
            })
            .collect()
    }

    /// Forgets the identities of what was received before a moment (Unix milliseconds).
    pub async fn forget_identities(&self, received_before_ms: u64) -> Result<(), CatalogError> {
        sqlx::query("DELETE FROM weir_deleted_identity WHERE received_ms < $1").bind(received_before_ms as i64).execute(&self.pool).await?;
        Ok(())
    }
}

/// Writes what a commit says of deletions.
pub(crate) async fn write(connection: &mut AnyConnection, commit: &Commit) -> Result<(), CatalogError> {
    for (seq, deletion) in &commit.deletions {
        sqlx::query("INSERT INTO weir_deletion (seq, body) VALUES ($1, $2) ON CONFLICT DO NOTHING")
            .bind(seq)
            .bind(text(deletion)?)
            .execute(&mut *connection)
            .await?;
    }
    for seq in &commit.erased {
        sqlx::query("DELETE FROM weir_deletion WHERE seq = $1").bind(seq).execute(&mut *connection).await?;
    }
    for (project_id, group_id) in &commit.removed_issues {
        sqlx::query("DELETE FROM weir_issue_state WHERE project_id = $1 AND group_id = $2")
            .bind(*project_id as i64)
            .bind(group_id)
            .execute(&mut *connection)
            .await?;
    }
    for (project_id, hash) in &commit.removed_hashes {
        sqlx::query("DELETE FROM weir_group_hash WHERE project_id = $1 AND hash = $2")
            .bind(*project_id as i64)
            .bind(&hash[..])
            .execute(&mut *connection)
            .await?;
    }
    for (project_id, number) in &commit.issue_numbers {
        sqlx::query("INSERT INTO weir_issue_number VALUES ($1, $2) ON CONFLICT (project_id) DO UPDATE SET last_number = excluded.last_number")
            .bind(*project_id as i64)
            .bind(*number as i64)
            .execute(&mut *connection)
            .await?;
    }
    Ok(())
}

fn text<T: serde::Serialize + ?Sized>(value: &T) -> Result<String, CatalogError> {
    serde_json::to_string(value).map_err(|e| CatalogError::Corrupt { what: format!("a value that is no JSON ({e})") })
}

fn parsed<T: serde::de::DeserializeOwned>(text: &str) -> Result<T, CatalogError> {
    serde_json::from_str(text).map_err(|e| CatalogError::Corrupt { what: format!("a deletion that cannot be read ({e})") })
}

#[cfg(test)]
mod tests {
    use weir_protocol::deletion::{Target, UserRef};

    use super::*;
    use crate::lake::tests::table;
    use crate::testing::{Place, in_both_databases};

    async fn a_deletion_is_requested_pending_and_gone(place: Place) {
        let catalog = place.open().await;
        catalog.create_first_project(1).await.unwrap();
        let project = catalog.projects().await.unwrap().remove(0).project;
        let deletion = Deletion { project, target: Target::User(UserRef::Any("a@b.c".to_owned())), now: false };
        catalog.request_deletion(&deletion, 5).await.unwrap();
        let requests = catalog.deletion_requests().await.unwrap();
        assert_eq!(requests, [(1, deletion.clone())]);
        catalog.forget_deletion_request(1).await.unwrap();
        assert!(catalog.deletion_requests().await.unwrap().is_empty());

        let lake = catalog.ensure_lake(&[table()], place.dir()).await.unwrap();
        let generation = catalog.take_partition(0, 1).await.unwrap();
        let commit = |offset, deletions, erased| Commit { generation, offsets: [(0, offset)].into(), deletions, erased, ..Commit::default() };
        catalog.commit(&lake, &commit(4, vec![(3, deletion.clone())], vec![])).await.unwrap();
        let correction = Correction { group_id: 1, events: 2, users: vec![3], first_seen_ms: None, last_seen_ms: None, shown: None };
        catalog.set_corrections(3, std::slice::from_ref(&correction)).await.unwrap();
        let pending = PendingDeletion { seq: 3, deletion, corrections: Some(vec![correction]) };
        assert_eq!(catalog.pending_deletions().await.unwrap(), [pending]);
        catalog.commit(&lake, &commit(5, vec![], vec![3])).await.unwrap();
        assert!(catalog.pending_deletions().await.unwrap().is_empty());
    }

    in_both_databases!(a_deletion_is_requested_pending_and_gone);
}
