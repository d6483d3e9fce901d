//! The definitions of subscriptions.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, PoisonError};

use serde::{Deserialize, Serialize};
use sqlx::any::AnyRow;
use sqlx::{AnyConnection, Row};
use tokio::sync::oneshot;
use weir_protocol::ids::{OrgId, ProjectId};
use weir_protocol::limits;
use weir_protocol::subscription::{Subscription, SubscriptionId, SubscriptionOptions};

use crate::database::{Catalog, Writing};
use crate::error::CatalogError;
use crate::secret::SecretKey;
use crate::sequence;

/// A subscription that has no number yet.
#[derive(Debug, Clone)]
pub struct NewSubscription {
    /// Its name.
    pub name: String,
    /// The query, as text.
    pub query: String,
    /// What is given with it.
    pub options: SubscriptionOptions,
    /// Whose it is.
    pub org_id: OrgId,
    /// The projects that it reads; `None` for all of the organisation.
    pub projects: Option<BTreeSet<ProjectId>>,
    /// The name of the token that creates it.
    pub created_by: String,
    /// Now, in Unix milliseconds.
    pub created_ms: u64,
}

/// Subscriptions that wait to be created: all of them go into the next transaction.
#[derive(Debug, Default)]
pub(crate) struct Creations {
    waiting: Mutex<Vec<(NewSubscription, Answer)>>,
}

type Answer = oneshot::Sender<Result<Subscription, CatalogError>>;

impl Creations {
    fn push(&self, new: NewSubscription, answer: Answer) {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner).push((new, answer));
    }

    fn take_one(&self) -> Option<(NewSubscription, Answer)> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner).pop()
    }

    fn take(&self) -> Vec<(NewSubscription, Answer)> {
        std::mem::take(&mut *self.waiting.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// What of the options is sealed.
#[derive(Serialize, Deserialize)]
struct Sealed {
    notify: Vec<String>,
    secret: Option<String>,
}

/// The columns of [`subscription_of`].
macro_rules! columns {
    () => {
        "id, org_id, name, version, query, options, sealed, projects, created_by, created_ms"
    };
}

impl Catalog {
    /// Creates a subscription. It is durable when this returns. Calls that come while another one's transaction is written share
    /// the next one, so that many callers do not wait for as many syncs of the disk.
    ///
    /// # Errors
    /// [`CatalogError::Exists`] for a name in use, [`CatalogError::InvalidSubscriptionName`], [`CatalogError::TooMany`].
    pub async fn create_subscription(&self, new: NewSubscription) -> Result<Subscription, CatalogError> {
        let (answer, answered) = oneshot::channel();
        self.creations.push(new, answer);
        // A task of its own: a caller that goes away takes nobody else's creation with it.
        tokio::spawn({
            let catalog = self.clone();
            async move { catalog.create_waiting().await }
        });
        answered.await.unwrap_or_else(|_| Err(CatalogError::Database(sqlx::Error::WorkerCrashed)))
    }

    /// Creates many in one transaction. The outer result is the transaction's; each has its own beside it, in the same order.
    ///
    /// # Errors
    /// [`CatalogError::Database`]; then none was created.
    pub async fn create_subscriptions(&self, new: Vec<NewSubscription>) -> Result<Vec<Result<Subscription, CatalogError>>, CatalogError> {
        let writing = self.begin_writing().await?;
        self.create(writing, &new).await
    }

    /// Creates what waits when this task's turn comes; an earlier task may have done it all.
    async fn create_waiting(&self) {
        let writing = match self.begin_writing().await {
            Ok(writing) => writing,
            Err(error) => {
                // Whoever waits has a task of its own, which may fare better; this one answers for one.
                if let Some((_, answer)) = self.creations.take_one() {
                    let _ = answer.send(Err(error));
                }
                return;
            }
        };
        let (new, answers): (Vec<_>, Vec<_>) = self.creations.take().into_iter().unzip();
        if new.is_empty() {
            return;
        }
        // An answer that nobody waits for any more is dropped.
        match self.create(writing, &new).await {
            Ok(results) => results.into_iter().zip(answers).for_each(|(result, answer)| drop(answer.send(result))),
            // What failed may lie with one of them: each gets its own attempt and its own error.
            Err(_) => {
                for (new, answer) in new.into_iter().zip(answers) {
                    let result = self.create_subscriptions(vec![new]).await.and_then(|mut results| results.pop().unwrap_or(Err(nothing())));
                    let _ = answer.send(result);
                }
            }
        }
    }

    async fn create(&self, mut writing: Writing, new: &[NewSubscription]) -> Result<Vec<Result<Subscription, CatalogError>>, CatalogError> {
        let first = sequence::take(&mut writing, "subscription", new.len()).await?;
        let mut counts = BTreeMap::new();
        let mut results = Vec::with_capacity(new.len());
        for (id, new) in (first..).zip(new) {
            results.push(match insert(&mut writing, &self.secrets, id, new, &mut counts).await {
                Err(error @ CatalogError::Database(_)) => return Err(error),
                other => other,
            });
        }
        if let Err(error) = writing.commit().await {
            // A connection may end while the commit is written. Numbers are never given twice: where one is there, all of it is.
            let made = results.iter().flatten().map(|subscription: &Subscription| subscription.id).next();
            if !error.is_transient() || !self.has_subscription(made).await? {
                return Err(error);
            }
        }
        Ok(results)
    }

    /// Whether a subscription of a number is there, once no transaction is under way that could still create it.
    async fn has_subscription(&self, id: Option<SubscriptionId>) -> Result<bool, CatalogError> {
        let Some(id) = id else { return Ok(false) };
        let mut writing = self.begin_writing().await?;
        let found: i64 = sqlx::query_scalar("SELECT count(*) FROM weir_subscription WHERE id = $1").bind(id as i64).fetch_one(&mut *writing).await?;
        Ok(found > 0)
    }

    /// Changes query and options; `bump_version` where what its alerts mean changes.
    ///
    /// # Errors
    /// [`CatalogError::Unknown`] where it was dropped.
    pub async fn alter_subscription(
        &self,
        id: SubscriptionId,
        query: &str,
        options: &SubscriptionOptions,
        bump_version: bool,
    ) -> Result<Subscription, CatalogError> {
        let (shown, sealed) = parts(&self.secrets, id as i64, options)?;
        let mut writing = self.begin_writing().await?;
        let row = sqlx::query(concat!(
            "UPDATE weir_subscription SET query = $2, options = $3, sealed = $4, version = version + $5 WHERE id = $1 RETURNING ",
            columns!()
        ))
        .bind(id as i64)
        .bind(query)
        .bind(shown)
        .bind(sealed)
        .bind(i64::from(bump_version))
        .fetch_optional(&mut *writing)
        .await?;
        let subscription = subscription_of(&row.ok_or_else(|| unknown(id))?, &self.secrets)?;
        writing.commit().await?;
        Ok(subscription)
    }

    /// Puts query, options and version back as they were.
    ///
    /// # Errors
    /// [`CatalogError::Unknown`] where it was dropped.
    pub async fn restore_subscription(&self, before: &Subscription) -> Result<(), CatalogError> {
        let (shown, sealed) = parts(&self.secrets, before.id as i64, &before.options)?;
        let mut writing = self.begin_writing().await?;
        let restored = sqlx::query("UPDATE weir_subscription SET query = $2, options = $3, sealed = $4, version = $5 WHERE id = $1")
            .bind(before.id as i64)
            .bind(&before.query)
            .bind(shown)
            .bind(sealed)
            .bind(i64::from(before.version))
            .execute(&mut *writing)
            .await?;
        if restored.rows_affected() == 0 {
            return Err(unknown(before.id));
        }
        writing.commit().await
    }

    /// Drops a subscription with its alerts and what was still to be sent of them. Nobody is notified; the history stays.
    ///
    /// # Errors
    /// [`CatalogError::Unknown`] where it was dropped already.
    pub async fn drop_subscription(&self, id: SubscriptionId) -> Result<(), CatalogError> {
        let mut writing = self.begin_writing().await?;
        let dropped = sqlx::query("DELETE FROM weir_subscription WHERE id = $1").bind(id as i64).execute(&mut *writing).await?;
        if dropped.rows_affected() == 0 {
            return Err(unknown(id));
        }
        sqlx::query("DELETE FROM weir_alert_active WHERE subscription_id = $1").bind(id as i64).execute(&mut *writing).await?;
        sqlx::query("DELETE FROM weir_outbox WHERE subscription_id = $1").bind(id as i64).execute(&mut *writing).await?;
        writing.commit().await
    }

    /// All subscriptions, in the order in which they were created.
    pub async fn subscriptions(&self) -> Result<Vec<Subscription>, CatalogError> {
        let rows = sqlx::query(concat!("SELECT ", columns!(), " FROM weir_subscription ORDER BY id")).fetch_all(&self.pool).await?;
        rows.iter().map(|row| subscription_of(row, &self.secrets)).collect()
    }

    /// The subscription of a name.
    pub async fn subscription(&self, org_id: OrgId, name: &str) -> Result<Option<Subscription>, CatalogError> {
        let row = sqlx::query(concat!("SELECT ", columns!(), " FROM weir_subscription WHERE org_id = $1 AND name = $2"))
            .bind(org_id as i64)
            .bind(name)
            .fetch_optional(&self.pool)
            .await?;
        row.map(|row| subscription_of(&row, &self.secrets)).transpose()
    }
}

fn unknown(id: SubscriptionId) -> CatalogError {
    CatalogError::Unknown { kind: "subscription", name: format!("number {id}") }
}

fn nothing() -> CatalogError {
    CatalogError::Corrupt { what: "no answer to a creation".to_owned() }
}

async fn insert(
    connection: &mut AnyConnection,
    secrets: &SecretKey,
    id: i64,
    new: &NewSubscription,
    counts: &mut BTreeMap<OrgId, usize>,
) -> Result<Subscription, CatalogError> {
    let max = limits::SUBSCRIPTION_NAME_BYTES_MAX;
    if new.name.is_empty() || new.name.len() > max || new.name.chars().any(char::is_control) {
        return Err(CatalogError::InvalidSubscriptionName { name: new.name.chars().take(max).collect(), max });
    }
    let count = match counts.get(&new.org_id) {
        Some(count) => *count,
        None => {
            let stored: i64 =
                sqlx::query_scalar("SELECT count(*) FROM weir_subscription WHERE org_id = $1").bind(new.org_id as i64).fetch_one(&mut *connection).await?;
            stored as usize
        }
    };
    if count >= limits::SUBSCRIPTION_COUNT_MAX {
        return Err(CatalogError::TooMany { kind: "subscription", max: limits::SUBSCRIPTION_COUNT_MAX });
    }
    let (shown, sealed) = parts(secrets, id, &new.options)?;
    let inserted = sqlx::query(concat!(
        "INSERT INTO weir_subscription (",
        columns!(),
        ") VALUES ($1, $2, $3, 1, $4, $5, $6, $7, $8, $9) ON CONFLICT (org_id, name) DO NOTHING"
    ))
    .bind(id)
    .bind(new.org_id as i64)
    .bind(&new.name)
    .bind(&new.query)
    .bind(shown)
    .bind(sealed)
    .bind(new.projects.as_ref().map(projects_text))
    .bind(&new.created_by)
    .bind(new.created_ms as i64)
    .execute(&mut *connection)
    .await?;
    if inserted.rows_affected() == 0 {
        return Err(CatalogError::Exists { kind: "subscription", name: new.name.clone() });
    }
    counts.insert(new.org_id, count + 1);
    Ok(Subscription {
        id: id as SubscriptionId,
        version: 1,
        name: new.name.clone(),
        query: new.query.clone(),
        options: new.options.clone(),
        org_id: new.org_id,
        projects: new.projects.clone(),
        created_by: new.created_by.clone(),
        created_ms: new.created_ms,
    })
}

fn place(id: i64) -> String {
    format!("subscription {id}")
}

/// The options as they are stored: JSON without what is secret, and what is, sealed.
fn parts(secrets: &SecretKey, id: i64, options: &SubscriptionOptions) -> Result<(String, String), CatalogError> {
    let mut shown = options.clone();
    let sealed = Sealed { notify: std::mem::take(&mut shown.notify), secret: shown.secret.take() };
    let text = |value: serde_json::Result<String>| value.map_err(|e| CatalogError::Corrupt { what: format!("options that are no JSON ({e})") });
    Ok((text(serde_json::to_string(&shown))?, secrets.seal(&place(id), &text(serde_json::to_string(&sealed))?)?))
}

/// The secret of a subscription's sealed part.
pub(crate) fn secret_of(secrets: &SecretKey, id: i64, sealed: &str) -> Result<Option<String>, CatalogError> {
    Ok(unsealed(secrets, id, sealed)?.secret)
}

fn unsealed(secrets: &SecretKey, id: i64, sealed: &str) -> Result<Sealed, CatalogError> {
    let text = secrets.open_sealed(&place(id), sealed)?;
    serde_json::from_str(&text).map_err(|_| CatalogError::Corrupt { what: format!("the targets of subscription {id}") })
}

fn subscription_of(row: &AnyRow, secrets: &SecretKey) -> Result<Subscription, CatalogError> {
    let id: i64 = row.try_get("id")?;
    let mut options: SubscriptionOptions =
        serde_json::from_str(row.try_get("options")?).map_err(|_| CatalogError::Corrupt { what: format!("the options of subscription {id}") })?;
    let sealed = unsealed(secrets, id, row.try_get("sealed")?)?;
    (options.notify, options.secret) = (sealed.notify, sealed.secret);
    Ok(Subscription {
        id: id as SubscriptionId,
        version: row.try_get::<i64, _>("version")? as u32,
        name: row.try_get("name")?,
        query: row.try_get("query")?,
        options,
        org_id: row.try_get::<i64, _>("org_id")? as OrgId,
        projects: projects_of(row.try_get("projects")?)?,
        created_by: row.try_get("created_by")?,
        created_ms: row.try_get::<i64, _>("created_ms")? as u64,
    })
}

fn projects_text(projects: &BTreeSet<ProjectId>) -> String {
    let numbers: Vec<String> = projects.iter().map(ToString::to_string).collect();
    format!("[{}]", numbers.join(","))
}

/// The projects as stored by [`projects_text`].
pub(crate) fn projects_of(text: Option<&str>) -> Result<Option<BTreeSet<ProjectId>>, CatalogError> {
    text.map(|text| serde_json::from_str(text).map_err(|_| CatalogError::Corrupt { what: format!("the projects {text:?}") })).transpose()
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::database::CatalogLocation;
    use crate::testing::{Place, in_both_databases};

    pub(crate) fn new(name: &str) -> NewSubscription {
        NewSubscription {
            name: name.to_owned(),
            query: "SELECT 1".to_owned(),
            options: SubscriptionOptions {
                severity: Some("critical".to_owned()),
                notify: vec!["webhook:https://me:hunter2@example.org/x".to_owned()],
                for_ms: 120_000,
                secret: Some("correct horse".to_owned()),
                ..SubscriptionOptions::default()
            },
            org_id: 1,
            projects: Some([1, 2].into()),
            created_by: "admin".to_owned(),
            created_ms: 5,
        }
    }

    async fn subscriptions_come_back_as_they_were_given(place: Place) {
        let catalog = place.open().await;
        catalog.create_first_project(5).await.unwrap();
        let first = catalog.create_subscription(new("a")).await.unwrap();
        assert_eq!((first.id, first.version, &first.options, first.projects.clone()), (1, 1, &new("a").options, new("a").projects));
        let all = NewSubscription { projects: None, options: SubscriptionOptions::default(), ..new("b") };
        let second = catalog.create_subscription(all).await.unwrap();
        let options = SubscriptionOptions { secret: Some("staple".to_owned()), ..first.options.clone() };
        let altered = catalog.alter_subscription(first.id, "SELECT 2", &options, true).await.unwrap();
        assert_eq!((altered.version, altered.query.as_str(), &altered.options), (2, "SELECT 2", &options));
        let kept = catalog.alter_subscription(first.id, "SELECT 2", &options, false).await.unwrap();
        assert_eq!(kept.version, 2);
        catalog.close().await;
        let catalog = place.open().await;
        assert_eq!(catalog.subscriptions().await.unwrap(), [kept.clone(), second.clone()]);
        assert_eq!(catalog.subscription(1, "a").await.unwrap(), Some(kept));
        catalog.drop_subscription(1).await.unwrap();
        assert!(matches!(catalog.drop_subscription(1).await.unwrap_err(), CatalogError::Unknown { .. }));
        assert!(matches!(catalog.alter_subscription(1, "", &options, true).await.unwrap_err(), CatalogError::Unknown { .. }));
        assert_eq!(catalog.subscriptions().await.unwrap(), [second]);
        assert_eq!(catalog.create_subscription(new("a")).await.unwrap().id, 3, "a number is never given again");
    }

    async fn no_secret_stands_in_the_database_or_in_debug_output(place: Place) {
        let catalog = place.open().await;
        catalog.create_first_project(5).await.unwrap();
        let subscription = catalog.create_subscription(new("a")).await.unwrap();
        catalog.close().await;
        let file = match &place.location {
            CatalogLocation::Sqlite(path) => std::fs::read(path).unwrap(),
            CatalogLocation::Postgres { .. } => {
                let catalog = place.open().await;
                let rows = "SELECT string_agg(s.name || s.options || s.sealed, ' ') FROM weir_subscription s";
                sqlx::query_scalar::<_, String>(rows).fetch_one(&catalog.pool).await.unwrap().into_bytes()
            }
        };
        assert!(!file.is_empty());
        let debug = format!("{subscription:?}");
        for secret in ["hunter2", "correct horse"] {
            assert!(!file.windows(secret.len()).any(|window| window == secret.as_bytes()), "{secret} is in the file");
            assert!(!debug.contains(secret), "{debug}");
        }
        assert!(debug.contains("webhook:https://example.org/x"), "{debug}");
    }

    async fn names_are_unique_and_bounded(place: Place) {
        let catalog = place.open().await;
        catalog.create_first_project(5).await.unwrap();
        catalog.create_subscription(new("a")).await.unwrap();
        assert!(matches!(catalog.create_subscription(new("a")).await.unwrap_err(), CatalogError::Exists { kind: "subscription", .. }));
        for name in ["", "a\nb", &"x".repeat(129)] {
            assert!(matches!(catalog.create_subscription(new(name)).await.unwrap_err(), CatalogError::InvalidSubscriptionName { .. }), "{name:?}");
        }
        let many = catalog.create_subscriptions(vec![new("b"), new("a"), new("c"), new("c")]).await.unwrap();
        assert_eq!(many.iter().map(Result::is_ok).collect::<Vec<_>>(), [true, false, true, false]);
        let names: Vec<String> = catalog.subscriptions().await.unwrap().into_iter().map(|s| s.name).collect();
        assert_eq!(names, ["a", "b", "c"]);
    }

    async fn calls_at_once_share_transactions_and_each_gets_its_own_answer(place: Place) {
        let catalog = place.open().await;
        catalog.create_first_project(5).await.unwrap();
        let calls = (0..200).map(|i| {
            let catalog = catalog.clone();
            // Every name twice: one of the two calls is refused.
            tokio::spawn(async move { (i / 2, catalog.create_subscription(new(&format!("s{}", i / 2))).await) })
        });
        let mut made = BTreeMap::new();
        for call in calls.collect::<Vec<_>>() {
            let (i, result) = call.await.unwrap();
            match result {
                Ok(subscription) => assert!(made.insert(i, subscription.id).is_none(), "s{i} was made twice"),
                Err(error) => assert!(matches!(error, CatalogError::Exists { .. }), "{error}"),
            }
        }
        assert_eq!(made.len(), 100);
        assert_eq!(catalog.subscriptions().await.unwrap().len(), 100);
    }

    in_both_databases!(
        subscriptions_come_back_as_they_were_given,
        no_secret_stands_in_the_database_or_in_debug_output,
        names_are_unique_and_bounded,
        calls_at_once_share_transactions_and_each_gets_its_own_answer
    );
}
