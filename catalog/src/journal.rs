//! Which journal the commits continue from: offsets of one mean nothing in another.

use sqlx::Row;

use crate::database::Catalog;
use crate::error::CatalogError;

/// The key in `weir_meta`.
const KEY: &str = "journal";

impl Catalog {
    /// The journal that was set, in words of the program's own.
    pub async fn journal(&self) -> Result<Option<String>, CatalogError> {
        let row = sqlx::query("SELECT value FROM weir_meta WHERE key = $1").bind(KEY).fetch_optional(&self.pool).await?;
        Ok(row.map(|row| row.try_get("value")).transpose()?)
    }

    /// Sets the journal that the commits continue from, where none is set; returns the one that is set afterwards.
    pub async fn set_journal(&self, journal: &str) -> Result<String, CatalogError> {
        sqlx::query("INSERT INTO weir_meta (key, value) VALUES ($1, $2) ON CONFLICT (key) DO NOTHING").bind(KEY).bind(journal).execute(&self.pool).await?;
        Ok(self.journal().await?.unwrap_or_default())
    }

    /// Whether anything was ever committed.
    pub async fn has_commits(&self) -> Result<bool, CatalogError> {
        Ok(sqlx::query("SELECT partition_id FROM weir_commit LIMIT 1").fetch_optional(&self.pool).await?.is_some())
    }
}

#[cfg(test)]
mod tests {
    use crate::lake_commit::Commit;
    use crate::testing::{Place, in_both_databases};

    async fn the_first_journal_stays(place: Place) {
        let catalog = place.open().await;
        assert_eq!((catalog.journal().await.unwrap(), catalog.has_commits().await.unwrap()), (None, false));
        assert_eq!(catalog.set_journal("a").await.unwrap(), "a");
        assert_eq!(catalog.set_journal("b").await.unwrap(), "a");
        assert_eq!(catalog.journal().await.unwrap().as_deref(), Some("a"));
        let lake = catalog.ensure_lake(&[], place.dir()).await.unwrap();
        let generation = catalog.take_partitions(&[0], 1).await.unwrap();
        catalog.commit(&lake, &Commit { generation, offsets: [(0, 1)].into(), ..Commit::default() }).await.unwrap();
        assert!(catalog.has_commits().await.unwrap());
    }

    in_both_databases!(the_first_journal_stays);
}
