//! Access tokens: who may ask SQL, and about which projects. Only their hashes are kept.

use std::collections::BTreeSet;

use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use sqlx::Row;
use weir_protocol::ids::{OrgId, ProjectId};

use crate::database::Catalog;
use crate::error::CatalogError;
use crate::projects::random_bytes;

/// What a token may read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TokenScope {
    /// The name that it was given.
    pub name: String,
    /// Its organisation.
    pub org_id: OrgId,
    /// Its projects; `None` for all of the organisation, those that come later included.
    pub projects: Option<BTreeSet<ProjectId>>,
}

/// A token as it is listed: never the token itself.
#[derive(Debug, Clone)]
pub struct Token {
    /// Its name.
    pub name: String,
    /// The slugs of its projects; `None` for all.
    pub projects: Option<Vec<String>>,
    /// When it was made, in Unix milliseconds.
    pub created_ms: i64,
}

/// What every token begins with, so that a leaked one is recognised.
const PREFIX: &str = "weir_";

fn hash(token: &str) -> String {
    blake3::hash(token.as_bytes()).to_hex().to_string()
}

impl Catalog {
    /// Makes a token and returns its text, which is stored nowhere. Without projects it reads all of the organisation.
    ///
    /// # Errors
    /// [`CatalogError::Exists`] for a name in use, [`CatalogError::Unknown`] for a project that is not there.
    pub async fn create_token(&self, name: &str, projects: &[String], now_ms: u64) -> Result<String, CatalogError> {
        let token = format!("{PREFIX}{}", BASE64_URL_SAFE_NO_PAD.encode(random_bytes::<32>()?));
        let mut transaction = self.begin_writing().await?;
        let inserted: Option<i64> = sqlx::query_scalar(
            "INSERT INTO weir_token (org_id, name, hash, every_project, created_ms) VALUES (1, $1, $2, $3, $4) ON CONFLICT DO NOTHING RETURNING id",
        )
        .bind(name)
        .bind(hash(&token))
        .bind(i64::from(projects.is_empty()))
        .bind(now_ms as i64)
        .fetch_optional(&mut *transaction)
        .await?;
        let token_id = inserted.ok_or_else(|| CatalogError::Exists { kind: "token", name: name.to_owned() })?;
        for slug in projects {
            let linked =
                sqlx::query("INSERT INTO weir_token_project (token_id, project_id) SELECT $1, id FROM weir_project WHERE slug = $2 ON CONFLICT DO NOTHING")
                    .bind(token_id)
                    .bind(slug)
                    .execute(&mut *transaction)
                    .await?;
            let repeated = projects.iter().filter(|p| *p == slug).count() > 1;
            if linked.rows_affected() == 0 && !repeated {
                return Err(CatalogError::Unknown { kind: "project", name: slug.clone() });
            }
        }
        transaction.commit().await?;
        Ok(token)
    }

    /// What a token may read; `None` for a text that is no token, or a revoked one.
    pub async fn token_scope(&self, token: &str) -> Result<Option<TokenScope>, CatalogError> {
        let found = sqlx::query("SELECT id, org_id, name, every_project FROM weir_token WHERE hash = $1 AND revoked_ms IS NULL")
            .bind(hash(token))
            .fetch_optional(&self.pool)
            .await?;
        let Some(row) = found else { return Ok(None) };
        let projects = if row.try_get::<i64, _>("every_project")? != 0 {
            None
        } else {
            let ids: Vec<i64> = sqlx::query_scalar("SELECT project_id FROM weir_token_project WHERE token_id = $1")
                .bind(row.try_get::<i64, _>("id")?)
                .fetch_all(&self.pool)
                .await?;
            Some(ids.into_iter().map(|id| id as ProjectId).collect())
        };
        Ok(Some(TokenScope { name: row.try_get("name")?, org_id: row.try_get::<i64, _>("org_id")? as OrgId, projects }))
    }

    /// Creates the first token, which reads everything; `None` where there is or was one, or another process makes it now.
    pub async fn create_first_token(&self, name: &str, now_ms: u64) -> Result<Option<String>, CatalogError> {
        let tokens: i64 = sqlx::query_scalar("SELECT count(*) FROM weir_token").fetch_one(&self.pool).await?;
        if tokens > 0 {
            return Ok(None);
        }
        match self.create_token(name, &[], now_ms).await {
            Ok(token) => Ok(Some(token)),
            Err(CatalogError::Exists { .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// The tokens that are not revoked, in the order in which they were made.
    pub async fn tokens(&self) -> Result<Vec<Token>, CatalogError> {
        let rows = sqlx::query(
            "SELECT t.name, t.created_ms, t.every_project,
                    (SELECT string_agg(p.slug, ',' ORDER BY p.id) FROM weir_token_project l JOIN weir_project p ON p.id = l.project_id WHERE l.token_id = t.id) AS slugs
             FROM weir_token t WHERE t.revoked_ms IS NULL ORDER BY t.id",
        )
        .fetch_all(&self.pool)
        .await?;
        rows.iter()
            .map(|row| {
                let slugs: Option<String> = row.try_get("slugs")?;
                let every = row.try_get::<i64, _>("every_project")? != 0;
                let projects = (!every).then(|| slugs.unwrap_or_default().split(',').map(str::to_owned).collect());
                Ok(Token { name: row.try_get("name")?, projects, created_ms: row.try_get("created_ms")? })
            })
            .collect()
    }

    /// Revokes the token of a name.
    ///
    /// # Errors
    /// [`CatalogError::Unknown`] where none of that name is in use.
    pub async fn revoke_token(&self, name: &str, now_ms: u64) -> Result<(), CatalogError> {
        let revoked = sqlx::query("UPDATE weir_token SET revoked_ms = $1 WHERE name = $2 AND revoked_ms IS NULL")
            .bind(now_ms as i64)
            .bind(name)
            .execute(&self.pool)
            .await?;
        if revoked.rows_affected() == 0 {
            return Err(CatalogError::Unknown { kind: "token", name: name.to_owned() });
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{Place, in_both_databases};

    async fn tokens_scope_what_is_read_until_they_are_revoked(place: Place) {
        let catalog = place.open().await;
        catalog.create_first_project(5).await.unwrap();
        let shop = catalog.create_project("shop", 5).await.unwrap();
        let all = catalog.create_first_token("all", 5).await.unwrap().unwrap();
        assert_eq!(catalog.create_first_token("other", 5).await.unwrap(), None);
        let scoped = catalog.create_token("scoped", &["shop".to_owned()], 5).await.unwrap();
        assert_eq!(catalog.token_scope(&all).await.unwrap().unwrap().projects, None);
        assert_eq!(catalog.token_scope(&scoped).await.unwrap().unwrap().projects, Some([shop.project.project_id].into()));
        assert_eq!(catalog.token_scope("weir_no").await.unwrap(), None);
        assert!(matches!(catalog.create_token("all", &[], 5).await, Err(CatalogError::Exists { .. })));
        assert!(matches!(catalog.create_token("x", &["nowhere".to_owned()], 5).await, Err(CatalogError::Unknown { .. })));
        catalog.revoke_token("all", 6).await.unwrap();
        assert_eq!(catalog.token_scope(&all).await.unwrap(), None);
        assert!(matches!(catalog.revoke_token("all", 6).await, Err(CatalogError::Unknown { .. })));
        catalog.create_token("all", &[], 7).await.unwrap();
        let dump: String = sqlx::query_scalar("SELECT string_agg(hash, ',') FROM weir_token").fetch_one(&catalog.pool).await.unwrap();
        assert!(!dump.contains(&all) && !dump.contains(&all[PREFIX.len()..]), "a token itself is never stored");
    }

    in_both_databases!(tokens_scope_what_is_read_until_they_are_revoked);
}
