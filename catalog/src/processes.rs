//! The processes that share the catalog, and which partitions of the journal each holds.
//!
//! A process shows that it lives by counting up. Whoever looks measures with its own clock for how long a count has stood still: the clocks
//! of two machines are never compared. Who holds a partition is agreed on here; that nobody else commits for it is the work of the
//! generations (see [`Catalog::take_partitions`]), whatever is agreed on.

use std::collections::{BTreeMap, BTreeSet};

use sqlx::Row;

use crate::database::Catalog;
use crate::error::CatalogError;

/// The processes and the partitions at one moment.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Membership {
    /// How often each process has shown that it lives.
    pub beats: BTreeMap<String, i64>,
    /// Who holds each partition that is held.
    pub holders: BTreeMap<u16, String>,
}

impl Catalog {
    /// Shows that a process lives, and returns who else does.
    pub async fn beat(&self, process: &str, now_ms: u64) -> Result<Membership, CatalogError> {
        let mut writing = self.begin_writing().await?;
        sqlx::query(
            "INSERT INTO weir_process (id, beats, beat_ms) VALUES ($1, 1, $2)
             ON CONFLICT (id) DO UPDATE SET beats = weir_process.beats + 1, beat_ms = excluded.beat_ms",
        )
        .bind(process)
        .bind(now_ms as i64)
        .execute(&mut *writing)
        .await?;
        let mut membership = Membership::default();
        for row in sqlx::query("SELECT id, beats FROM weir_process").fetch_all(&mut *writing).await? {
            membership.beats.insert(row.try_get("id")?, row.try_get("beats")?);
        }
        for row in sqlx::query("SELECT partition_id, process_id FROM weir_partition_holder").fetch_all(&mut *writing).await? {
            membership.holders.insert(row.try_get::<i64, _>("partition_id")? as u16, row.try_get("process_id")?);
        }
        writing.commit().await?;
        Ok(membership)
    }

    /// Gives a process those of the partitions that nobody holds, or only processes that are gone; returns which.
    pub async fn claim_partitions(&self, process: &str, partitions: &BTreeSet<u16>, gone: &BTreeSet<String>) -> Result<BTreeSet<u16>, CatalogError> {
        let mut writing = self.begin_writing().await?;
        let mut claimed = BTreeSet::new();
        for partition in partitions {
            let holder: Option<String> = sqlx::query_scalar("SELECT process_id FROM weir_partition_holder WHERE partition_id = $1")
                .bind(i64::from(*partition))
                .fetch_optional(&mut *writing)
                .await?;
            if holder.is_some_and(|holder| holder != process && !gone.contains(&holder)) {
                continue;
            }
            sqlx::query(
                "INSERT INTO weir_partition_holder (partition_id, process_id) VALUES ($1, $2)
                 ON CONFLICT (partition_id) DO UPDATE SET process_id = excluded.process_id",
            )
            .bind(i64::from(*partition))
            .bind(process)
            .execute(&mut *writing)
            .await?;
            claimed.insert(*partition);
        }
        writing.commit().await?;
        Ok(claimed)
    }

    /// Lets all partitions of a process go but these.
    pub async fn release_partitions(&self, process: &str, keep: &BTreeSet<u16>) -> Result<(), CatalogError> {
        let mut writing = self.begin_writing().await?;
        let held: Vec<i64> =
            sqlx::query_scalar("SELECT partition_id FROM weir_partition_holder WHERE process_id = $1").bind(process).fetch_all(&mut *writing).await?;
        for partition in held.into_iter().filter(|partition| !keep.contains(&(*partition as u16))) {
            sqlx::query("DELETE FROM weir_partition_holder WHERE partition_id = $1").bind(partition).execute(&mut *writing).await?;
        }
        writing.commit().await
    }

    /// A process ends: others take over at once what it held.
    pub async fn leave(&self, process: &str) -> Result<(), CatalogError> {
        self.release_partitions(process, &BTreeSet::new()).await?;
        sqlx::query("DELETE FROM weir_process WHERE id = $1").bind(process).execute(&self.pool).await?;
        Ok(())
    }

    /// How far each partition is committed and in which snapshot of the lake: it differs after every commit, whoever made it.
    pub async fn commits(&self) -> Result<(i64, BTreeMap<u16, (u64, u64)>), CatalogError> {
        let newest: Option<i64> = sqlx::query_scalar("SELECT MAX(snapshot_id) FROM ducklake_snapshot").fetch_one(&self.pool).await?;
        let mut commits = BTreeMap::new();
        for row in sqlx::query("SELECT partition_id, next_offset, tick_ms FROM weir_commit").fetch_all(&self.pool).await? {
            let at = (row.try_get::<i64, _>("next_offset")? as u64, row.try_get::<i64, _>("tick_ms")? as u64);
            commits.insert(row.try_get::<i64, _>("partition_id")? as u16, at);
        }
        Ok((newest.unwrap_or_default(), commits))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{Place, in_both_databases};

    fn set<const N: usize>(partitions: [u16; N]) -> BTreeSet<u16> {
        partitions.into()
    }

    async fn partitions_have_one_holder_each(place: Place) {
        let catalog = place.open().await;
        let nobody = BTreeSet::new();
        assert_eq!(catalog.beat("a", 1).await.unwrap().beats, [("a".to_owned(), 1)].into());
        assert_eq!(catalog.claim_partitions("a", &set([0, 1, 2]), &nobody).await.unwrap(), set([0, 1, 2]));
        catalog.beat("b", 1).await.unwrap();
        assert_eq!(catalog.claim_partitions("b", &set([1]), &nobody).await.unwrap(), nobody_holds());
        catalog.release_partitions("a", &set([0, 2])).await.unwrap();
        assert_eq!(catalog.claim_partitions("b", &set([1, 2]), &nobody).await.unwrap(), set([1]));
        let membership = catalog.beat("a", 2).await.unwrap();
        assert_eq!(membership.beats, [("a".to_owned(), 2), ("b".to_owned(), 1)].into());
        assert_eq!(membership.holders, [(0, "a".to_owned()), (1, "b".to_owned()), (2, "a".to_owned())].into());
        assert_eq!(catalog.claim_partitions("b", &set([0, 1, 2]), &["a".to_owned()].into()).await.unwrap(), set([0, 1, 2]));
        catalog.leave("b").await.unwrap();
        let membership = catalog.beat("a", 3).await.unwrap();
        assert_eq!((membership.beats.len(), membership.holders.len()), (1, 0));
    }

    fn nobody_holds() -> BTreeSet<u16> {
        BTreeSet::new()
    }

    in_both_databases!(partitions_have_one_holder_each);
}
