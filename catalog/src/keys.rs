//! Project keys: what a DSN authenticates with.

use sqlx::Row;
use weir_protocol::ids::{KeyId, PublicKey};
use weir_protocol::record::Project;

use crate::database::Catalog;
use crate::error::CatalogError;
use crate::projects::project_of;

/// A key and the project that it belongs to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProjectKey {
    /// The key's id.
    pub key_id: KeyId,
    /// Whether events are taken with it.
    pub enabled: bool,
    /// The project.
    pub project: Project,
    /// Origins that browsers may send from (`spec/ingest.md` section 8).
    pub allowed_domains: Vec<String>,
}

impl Catalog {
    /// Looks a public key up.
    pub async fn key(&self, public_key: PublicKey) -> Result<Option<ProjectKey>, CatalogError> {
        let row = sqlx::query(
            "SELECT k.id AS key_id, k.enabled, p.org_id, p.id, p.slug, p.retention_days, p.allowed_domains
             FROM weir_project_key k JOIN weir_project p ON p.id = k.project_id WHERE k.public_key = $1",
        )
        .bind(public_key.to_string())
        .fetch_optional(&self.pool)
        .await?;
        let Some(row) = row else { return Ok(None) };
        let domains: String = row.try_get("allowed_domains")?;
        Ok(Some(ProjectKey {
            key_id: row.try_get::<i64, _>("key_id")? as KeyId,
            enabled: row.try_get::<i64, _>("enabled")? != 0,
            project: project_of(&row)?,
            allowed_domains: serde_json::from_str(&domains).map_err(|_| CatalogError::Corrupt { what: format!("the allowed domains {domains:?}") })?,
        }))
    }
}

#[cfg(test)]
mod tests {
    use crate::testing::{Place, in_both_databases};
    use weir_protocol::PublicKey;

    async fn a_key_leads_to_its_project(place: Place) {
        let catalog = place.open().await;
        catalog.create_first_project(5).await.unwrap();
        let shop = catalog.create_project("shop", 5).await.unwrap();
        let key = catalog.key(shop.public_key).await.unwrap().unwrap();
        assert_eq!((key.project.slug.as_str(), key.enabled, key.allowed_domains), ("shop", true, vec!["*".to_owned()]));
        assert_eq!(catalog.key(PublicKey([9; 16])).await.unwrap(), None);
    }

    in_both_databases!(a_key_leads_to_its_project);
}
