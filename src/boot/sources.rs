//! The catalog as the doors and the queries see it.

use weir_catalog::Catalog;
use weir_ingest::keys::{Key, KeySource, KeySourceError};
use weir_protocol::PublicKey;
use weir_sql::{Authenticator, Scope};

/// Keys of projects, for the doors.
#[derive(Debug, Clone)]
pub struct Keys(pub Catalog);

impl KeySource for Keys {
    async fn key(&self, public_key: PublicKey) -> Result<Option<Key>, KeySourceError> {
        let found = self.0.key(public_key).await.map_err(|e| KeySourceError(e.to_string()))?;
        Ok(found.map(|key| Key { key_id: key.key_id, enabled: key.enabled, project: key.project, allowed_domains: key.allowed_domains }))
    }
}

/// Access tokens, for queries.
#[derive(Debug, Clone)]
pub struct Tokens(pub Catalog);

impl Authenticator for Tokens {
    async fn scope(&self, token: &str) -> Result<Option<Scope>, String> {
        let found = self.0.token_scope(token).await.map_err(|e| e.to_string())?;
        Ok(found.map(|scope| Scope { org_id: scope.org_id, projects: scope.projects, name: scope.name }))
    }
}
