//! Who asks, and what of.

use std::collections::{BTreeMap, BTreeSet};
use std::future::Future;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use datafusion::logical_expr::{Expr, col, lit};

/// What a token may read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Scope {
    /// The organisation.
    pub org_id: u64,
    /// Its projects; `None` for all of the organisation.
    pub projects: Option<BTreeSet<u64>>,
    /// What the token is called.
    pub name: String,
}

impl Scope {
    /// The condition that every row must meet, in every table.
    pub(crate) fn condition(&self) -> Expr {
        let organisation = col("org_id").eq(lit(self.org_id as i64));
        match &self.projects {
            None => organisation,
            Some(projects) => organisation.and(col("project_id").in_list(projects.iter().map(|id| lit(*id as i64)).collect(), false)),
        }
    }
}

/// Knows tokens.
pub trait Authenticator: Send + Sync + 'static {
    /// What a token may read; `None` for one that is unknown or revoked.
    ///
    /// # Errors
    /// A text that says why it could not be found out.
    fn scope(&self, token: &str) -> impl Future<Output = Result<Option<Scope>, String>> + Send;
}

/// How long an answer of the authenticator is believed; a revoked token works no longer than this.
const REMEMBERED_FOR: Duration = Duration::from_secs(5);
/// How many answers are remembered.
const REMEMBERED_MAX: usize = 10_000;

type Answer = (Instant, Option<Scope>);

/// Remembers what the authenticator said, for a moment.
pub(crate) struct Scopes<A> {
    authenticator: A,
    /// By the hash of the token: when it was asked, and the answer.
    remembered: Mutex<BTreeMap<[u8; 32], Answer>>,
}

impl<A: Authenticator> Scopes<A> {
    pub(crate) fn new(authenticator: A) -> Self {
        Self { authenticator, remembered: Mutex::new(BTreeMap::new()) }
    }

    pub(crate) async fn scope(&self, token: &str) -> Result<Option<Scope>, String> {
        let key = *blake3::hash(token.as_bytes()).as_bytes();
        let now = Instant::now();
        if let Some((asked, scope)) = self.remembered.lock().unwrap_or_else(PoisonError::into_inner).get(&key)
            && now.duration_since(*asked) < REMEMBERED_FOR
        {
            return Ok(scope.clone());
        }
        let scope = self.authenticator.scope(token).await?;
        let mut remembered = self.remembered.lock().unwrap_or_else(PoisonError::into_inner);
        if remembered.len() >= REMEMBERED_MAX {
            remembered.retain(|_, (asked, _)| now.duration_since(*asked) < REMEMBERED_FOR);
        }
        if remembered.len() < REMEMBERED_MAX {
            remembered.insert(key, (now, scope.clone()));
        }
        Ok(scope)
    }
}
