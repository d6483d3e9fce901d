//! Organisations and projects.

use serde::Serialize;
use sqlx::{AnyConnection, Row};
use weir_protocol::ids::{OrgId, ProjectId, PublicKey, hex};
use weir_protocol::record::Project;

use crate::database::Catalog;
use crate::error::CatalogError;

/// A project with the key of its first DSN.
#[derive(Debug, Clone, Serialize)]
pub struct ProjectRow {
    /// The project as the journal knows it.
    #[serde(flatten)]
    pub project: Project,
    /// The public key of its oldest enabled DSN.
    pub public_key: PublicKey,
}

/// Days that rows are kept where a project says nothing else (`spec/storage-query.md` section 1: 30 or 90).
const RETENTION_DAYS: u16 = 90;
/// The longest that a project can be kept: ten years.
const RETENTION_DAYS_MAX: u16 = 3650;

/// Whether a text may name a project: it stands in URLs, in SQL and in short ids.
fn is_slug(name: &str) -> bool {
    let allowed = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    (1..=50).contains(&name.len()) && name.chars().all(allowed) && !name.starts_with('-')
}

pub(crate) fn random_bytes<const N: usize>() -> Result<[u8; N], CatalogError> {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).map_err(|e| CatalogError::Random(e.to_string()))?;
    Ok(bytes)
}

/// Inserts a project with one key into the first organisation.
async fn insert_project(connection: &mut AnyConnection, slug: &str, now_ms: u64) -> Result<ProjectRow, CatalogError> {
    let org_id: OrgId = 1;
    let public_key = PublicKey(random_bytes()?);
    let inserted: Option<i64> = sqlx::query_scalar(
        "INSERT INTO weir_project (org_id, slug, retention_days, allowed_domains, created_ms) VALUES ($1, $2, $3, '[\"*\"]', $4) ON CONFLICT DO NOTHING RETURNING id",
    )
    .bind(org_id as i64)
    .bind(slug)
    .bind(i64::from(RETENTION_DAYS))
    .bind(now_ms as i64)
    .fetch_optional(&mut *connection)
    .await?;
    let project_id = inserted.ok_or_else(|| CatalogError::Exists { kind: "project", name: slug.to_owned() })?;
    sqlx::query("INSERT INTO weir_project_key (project_id, public_key, enabled, created_ms) VALUES ($1, $2, 1, $3)")
        .bind(project_id)
        .bind(hex(&public_key.0))
        .bind(now_ms as i64)
        .execute(&mut *connection)
        .await?;
    let project = Project { org_id, project_id: project_id as ProjectId, slug: slug.to_owned(), retention_days: RETENTION_DAYS };
    Ok(ProjectRow { project, public_key })
}

impl Catalog {
    /// Creates the organisation and the project `default` where there is no project yet; says whether it did.
    ///
    /// Both are made in one transaction: a start that is cut off in the middle leaves neither, and the next one makes both.
    pub async fn create_first_project(&self, now_ms: u64) -> Result<bool, CatalogError> {
        let mut writing = self.begin_writing().await?;
        sqlx::query("INSERT INTO weir_organization (id, slug, created_ms) VALUES (1, 'weir', $1) ON CONFLICT DO NOTHING")
            .bind(now_ms as i64)
            .execute(&mut *writing)
            .await?;
        // Projects are never removed, so that there is none tells of a first start.
        let projects: i64 = sqlx::query_scalar("SELECT count(*) FROM weir_project").fetch_one(&mut *writing).await?;
        if projects > 0 {
            return Ok(false);
        }
        insert_project(&mut writing, "default", now_ms).await?;
        writing.commit().await?;
        Ok(true)
    }

    /// Creates a project with one key in the first organisation.
    ///
    /// # Errors
    /// [`CatalogError::InvalidName`] and [`CatalogError::Exists`].
    pub async fn create_project(&self, slug: &str, now_ms: u64) -> Result<ProjectRow, CatalogError> {
        if !is_slug(slug) {
            return Err(CatalogError::InvalidName { kind: "project", name: slug.to_owned() });
        }
        let mut writing = self.begin_writing().await?;
        let row = insert_project(&mut writing, slug, now_ms).await?;
        writing.commit().await?;
        Ok(row)
    }

    /// All projects in the order of their ids.
    pub async fn projects(&self) -> Result<Vec<ProjectRow>, CatalogError> {
        let rows = sqlx::query(
            "SELECT p.org_id, p.id, p.slug, p.retention_days,
                    (SELECT k.public_key FROM weir_project_key k WHERE k.project_id = p.id ORDER BY k.enabled DESC, k.id LIMIT 1) AS public_key
             FROM weir_project p ORDER BY p.id",
        )
        .fetch_all(&self.pool)
        .await?;
        rows.iter()
            .map(|row| {
                let key: String = row.try_get("public_key")?;
                let public_key = key.parse().map_err(|_| CatalogError::Corrupt { what: format!("the public key {key:?}") })?;
                Ok(ProjectRow { project: project_of(row)?, public_key })
            })
            .collect()
    }

    /// Sets how many days the rows of a project are kept.
    ///
    /// # Errors
    /// [`CatalogError::Unknown`] and [`CatalogError::InvalidRetention`].
    pub async fn set_retention(&self, slug: &str, days: u16) -> Result<(), CatalogError> {
        if !(1..=RETENTION_DAYS_MAX).contains(&days) {
            return Err(CatalogError::InvalidRetention { days });
        }
        let changed = sqlx::query("UPDATE weir_project SET retention_days = $2 WHERE slug = $1").bind(slug).bind(i64::from(days)).execute(&self.pool).await?;
        if changed.rows_affected() == 0 {
            return Err(CatalogError::Unknown { kind: "project", name: slug.to_owned() });
        }
        Ok(())
    }

    /// Two numbers that change when any process creates a project or changes how long one is kept; cheap to ask every second.
    pub async fn projects_version(&self) -> Result<(i64, i64), CatalogError> {
        Ok(sqlx::query_as("SELECT coalesce(max(id), 0), CAST(coalesce(sum(id * retention_days), 0) AS BIGINT) FROM weir_project").fetch_one(&self.pool).await?)
    }
}

/// The project of a row with the columns `org_id, id, slug, retention_days`.
pub(crate) fn project_of(row: &sqlx::any::AnyRow) -> Result<Project, CatalogError> {
    Ok(Project {
        org_id: row.try_get::<i64, _>("org_id")? as OrgId,
        project_id: row.try_get::<i64, _>("id")? as ProjectId,
        slug: row.try_get("slug")?,
        retention_days: row.try_get::<i64, _>("retention_days")? as u16,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{Place, in_both_databases};

    async fn the_first_project_is_made_once(place: Place) {
        let catalog = place.open().await;
        assert!(catalog.create_first_project(5).await.unwrap());
        assert!(!catalog.create_first_project(6).await.unwrap());
        let projects = catalog.projects().await.unwrap();
        assert_eq!(projects.iter().map(|p| (p.project.project_id, p.project.slug.as_str())).collect::<Vec<_>>(), [(1, "default")]);
    }

    async fn retention_is_set_by_project(place: Place) {
        let catalog = place.open().await;
        catalog.create_first_project(5).await.unwrap();
        let before = catalog.projects_version().await.unwrap();
        catalog.set_retention("default", 30).await.unwrap();
        assert_ne!(catalog.projects_version().await.unwrap(), before);
        assert_eq!(catalog.projects().await.unwrap()[0].project.retention_days, 30);
        assert!(matches!(catalog.set_retention("default", 0).await, Err(CatalogError::InvalidRetention { days: 0 })));
        assert!(matches!(catalog.set_retention("default", 4000).await, Err(CatalogError::InvalidRetention { .. })));
        assert!(matches!(catalog.set_retention("shop", 30).await, Err(CatalogError::Unknown { .. })));
    }

    async fn names_of_projects(place: Place) {
        let catalog = place.open().await;
        catalog.create_first_project(5).await.unwrap();
        for (name, want) in
            [("shop", true), ("shop", false), ("2-go", true), ("", false), ("-x", false), ("Shop", false), ("a b", false), (&"x".repeat(51), false)]
        {
            assert_eq!(catalog.create_project(name, 5).await.is_ok(), want, "{name:?}");
        }
    }

    in_both_databases!(the_first_project_is_made_once, retention_is_set_by_project, names_of_projects);
}
