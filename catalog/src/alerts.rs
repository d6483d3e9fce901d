//! The alerts of subscriptions: what stands, what happened, and the commit that writes it before anybody is told.

use std::collections::{BTreeMap, BTreeSet};

use futures::TryStreamExt;
use sqlx::any::AnyRow;
use sqlx::{AnyConnection, AssertSqlSafe, Row};
use weir_protocol::ids::{OrgId, ProjectId};
use weir_protocol::limits;
use weir_protocol::subscription::{ActiveAlert, SubscriptionId, Transition, TransitionKind};

use crate::database::{Catalog, Dialect};
use crate::error::CatalogError;
use crate::lake_commit::check_fence;
use crate::subscriptions::projects_of;
use crate::{outbox, sequence};

/// What one tick, or several, made of the alerts. It is written whole or not at all, and fenced as a commit of the tables is.
#[derive(Debug, Clone, Default)]
pub struct AlertCommit {
    /// The generation under which the partitions were taken.
    pub generation: i64,
    /// The offset after the last record that the alerts reflect, by partition: all partitions that this process holds, since
    /// the fence is checked on these.
    pub offsets: BTreeMap<u16, u64>,
    /// The tick that they reflect, in Unix milliseconds.
    pub tick_ms: u64,
    /// New entries of the history, in their order; each with somebody to tell goes to the outbox too.
    pub transitions: Vec<Transition>,
    /// Alerts that stand from now on, or changed. One that is also among the ended ones stands.
    pub active: Vec<ActiveAlert>,
    /// Alerts that no longer stand: subscription and key.
    pub ended: Vec<(SubscriptionId, String)>,
}

/// The alerts as of the last [`AlertCommit`].
#[derive(Debug, Clone, Default)]
pub struct RestoredAlerts {
    /// The offset after the last record that they reflect, by partition.
    pub offsets: BTreeMap<u16, u64>,
    /// The tick that they reflect.
    pub tick_ms: u64,
    /// The alerts that stand.
    pub active: Vec<ActiveAlert>,
}

/// Which entries of the history, or of the delivery log, to read.
#[derive(Debug, Clone)]
pub struct AlertQuery {
    /// The organisation.
    pub org_id: OrgId,
    /// The projects that the reader may read; `None` for all. An alert of a project is read by whoever may read the project,
    /// another one by whoever may read all projects of its subscription.
    pub projects: Option<BTreeSet<ProjectId>>,
    /// Only entries after the one of this [`AlertRow::seq`] or [`crate::DeliveryRow::seq`]; 0 for all.
    pub after: u64,
    /// At most so many.
    pub limit: usize,
}

/// An entry of the history.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AlertRow {
    /// Its place in the history, which rises.
    pub seq: u64,
    /// The transition's id.
    pub id: String,
    /// The subscription's name then.
    pub subscription: String,
    /// Its version then.
    pub version: u32,
    /// The project, where the row names one.
    pub project_id: Option<ProjectId>,
    /// The key: a JSON object.
    pub key: String,
    /// What happened.
    pub kind: TransitionKind,
    /// The severity.
    pub severity: String,
    /// The row: a JSON object.
    pub row: String,
    /// The tick at which the row came to be so, in Unix milliseconds.
    pub event_time_ms: u64,
    /// The tick at which the transition was made, in Unix milliseconds.
    pub fired_time_ms: u64,
    /// When the first of its targets had it, in Unix milliseconds.
    pub delivered_time_ms: Option<u64>,
}

/// Rows that one statement inserts: with at most 15 columns it stays below the 32,766 parameters that SQLite takes.
pub(crate) const ROWS_PER_STATEMENT: usize = 1_000;

impl Catalog {
    /// Commits the alerts: history, standing alerts, outbox and offsets. Either all of it is there afterwards, or none of it; then
    /// whoever sends is woken. The same commit tried again adds nothing: a transition is known by its id.
    ///
    /// What belongs to a subscription that was dropped in the meantime is left out.
    ///
    /// # Errors
    /// [`CatalogError::Fenced`] where another process took the partition over; [`CatalogError::Database`] else.
    pub async fn commit_alerts(&self, commit: &AlertCommit) -> Result<(), CatalogError> {
        let mut writing = self.begin_writing().await?;
        check_fence(&mut writing, &commit.offsets, commit.generation).await?;
        let named = commit.transitions.iter().map(|t| t.subscription_id).chain(commit.active.iter().map(|a| a.subscription_id));
        let standing = standing(&mut writing, named.collect()).await?;
        let added = insert_history(&mut writing, &commit.transitions, &standing).await?;
        let to_send: Vec<&Transition> = commit.transitions.iter().filter(|t| !t.notify.is_empty() && added.contains(&t.id)).collect();
        let enqueued = outbox::enqueue(&mut writing, &self.secrets, &to_send, commit.tick_ms).await?;
        delete_active(&mut writing, &commit.ended).await?;
        upsert_active(&mut writing, &commit.active, &standing).await?;
        for (partition, offset) in &commit.offsets {
            sqlx::query(
                "INSERT INTO weir_alert_commit (partition_id, next_offset, tick_ms) VALUES ($1, $2, $3)
                 ON CONFLICT (partition_id) DO UPDATE SET next_offset = excluded.next_offset, tick_ms = excluded.tick_ms",
            )
            .bind(i64::from(*partition))
            .bind(*offset as i64)
            .bind(commit.tick_ms as i64)
            .execute(&mut *writing)
            .await?;
        }
        writing.commit().await?;
        if enqueued > 0 {
            self.outbox_filled.notify_one();
        }
        Ok(())
    }

    /// Reads the alerts as of the last commit.
    pub async fn restore_alerts(&self) -> Result<RestoredAlerts, CatalogError> {
        let mut restored = RestoredAlerts::default();
        for row in sqlx::query("SELECT partition_id, next_offset, tick_ms FROM weir_alert_commit").fetch_all(&self.pool).await? {
            restored.offsets.insert(row.try_get::<i64, _>("partition_id")? as u16, row.try_get::<i64, _>("next_offset")? as u64);
            restored.tick_ms = restored.tick_ms.max(row.try_get::<i64, _>("tick_ms")? as u64);
        }
        let mut rows = sqlx::query(
            "SELECT subscription_id, alert_key, version, escalated, since_ms, fired_ms, notified_ms, alert_row FROM weir_alert_active ORDER BY subscription_id, key_hash",
        )
        .fetch(&self.pool);
        while let Some(row) = rows.try_next().await? {
            restored.active.push(active_of(&row)?);
        }
        Ok(restored)
    }

    /// Reads the history in its order.
    pub async fn alerts(&self, query: &AlertQuery) -> Result<Vec<AlertRow>, CatalogError> {
        let statement = "SELECT seq, id, subscription, version, project_id, projects, alert_key, kind, severity, alert_row, event_ms, fired_ms, delivered_ms
             FROM weir_alert WHERE org_id = $1 AND seq > $2 ORDER BY seq";
        self.readable(statement, query, alert_of).await
    }

    /// The rows of a statement that their reader may see. Its parameters are the organisation and the number to begin after; its
    /// columns include those of [`is_readable`].
    pub(crate) async fn readable<T>(
        &self,
        statement: &'static str,
        query: &AlertQuery,
        row_of: impl Fn(&AnyRow) -> Result<T, CatalogError>,
    ) -> Result<Vec<T>, CatalogError> {
        let mut rows = sqlx::query(statement).bind(query.org_id as i64).bind(query.after as i64).fetch(&self.pool);
        let mut found = Vec::new();
        while found.len() < query.limit
            && let Some(row) = rows.try_next().await?
        {
            if is_readable(&row, query)? {
                found.push(row_of(&row)?);
            }
        }
        Ok(found)
    }

    /// Removes what is older than history and delivery log are kept, or too much ([`limits::ALERT_HISTORY_MS`] and the bounds
    /// beside it), in small transactions; returns how many rows. An entry that is still to be delivered stays.
    pub async fn trim_alerts(&self, now_ms: u64) -> Result<u64, CatalogError> {
        let old = |kept_ms: u64| now_ms.saturating_sub(kept_ms) as i64;
        let mut removed = self.trim(OLD_HISTORY, old(limits::ALERT_HISTORY_MS)).await?;
        removed += self.trim(OLD_LOG, old(limits::DELIVERY_LOG_MS)).await?;
        for (kind, statement, count_max) in [("alert", LONG_HISTORY, limits::ALERT_HISTORY_COUNT_MAX), ("delivery", LONG_LOG, limits::DELIVERY_LOG_COUNT_MAX)] {
            // Numbers have gaps at the most, so that this keeps no more rows than it may.
            let last: i64 = sqlx::query_scalar("SELECT last_value FROM weir_sequence WHERE name = $1").bind(kind).fetch_one(&self.pool).await?;
            removed += self.trim(statement, last - count_max as i64).await?;
        }
        Ok(removed)
    }

    /// Runs a statement that removes some rows up to a bound until it finds no more.
    async fn trim(&self, statement: &'static str, bound: i64) -> Result<u64, CatalogError> {
        let mut removed = 0;
        loop {
            let mut writing = self.begin_writing().await?;
            let trimmed = sqlx::query(statement).bind(bound).bind(ROWS_PER_STATEMENT as i64).execute(&mut *writing).await?.rows_affected();
            writing.commit().await?;
            removed += trimmed;
            if trimmed < ROWS_PER_STATEMENT as u64 {
                return Ok(removed);
            }
        }
    }
}

// One condition each, so that each finds its rows in an index.
const OLD_HISTORY: &str = "DELETE FROM weir_alert WHERE seq IN (SELECT a.seq FROM weir_alert a
    WHERE a.fired_ms < $1 AND NOT EXISTS (SELECT 1 FROM weir_outbox o WHERE o.alert_id = a.id) ORDER BY a.fired_ms LIMIT $2)";
const LONG_HISTORY: &str = "DELETE FROM weir_alert WHERE seq IN (SELECT a.seq FROM weir_alert a
    WHERE a.seq <= $1 AND NOT EXISTS (SELECT 1 FROM weir_outbox o WHERE o.alert_id = a.id) ORDER BY a.seq LIMIT $2)";
const OLD_LOG: &str = "DELETE FROM weir_delivery WHERE seq IN (SELECT seq FROM weir_delivery WHERE at_ms < $1 ORDER BY at_ms LIMIT $2)";
const LONG_LOG: &str = "DELETE FROM weir_delivery WHERE seq IN (SELECT seq FROM weir_delivery WHERE seq <= $1 ORDER BY seq LIMIT $2)";

/// Those of the subscriptions that were not dropped, each with its projects as they are stored.
type Standing = BTreeMap<SubscriptionId, Option<String>>;

async fn standing(connection: &mut AnyConnection, named: BTreeSet<SubscriptionId>) -> Result<Standing, CatalogError> {
    let mut found = BTreeMap::new();
    for some in named.into_iter().collect::<Vec<_>>().chunks(ROWS_PER_STATEMENT) {
        let sql = format!("SELECT id, projects FROM weir_subscription WHERE id IN {}", Dialect::of(connection).parameters(1, some.len()));
        let query = some.iter().fold(sqlx::query(AssertSqlSafe(sql)), |query, id| query.bind(*id as i64));
        for row in query.persistent(false).fetch_all(&mut *connection).await? {
            found.insert(row.try_get::<i64, _>("id")? as SubscriptionId, row.try_get("projects")?);
        }
    }
    Ok(found)
}

/// Adds the transitions that are not there yet; returns the ids of those.
async fn insert_history(connection: &mut AnyConnection, transitions: &[Transition], standing: &Standing) -> Result<BTreeSet<String>, CatalogError> {
    let mut added = BTreeSet::new();
    let transitions: Vec<(&Transition, &Option<String>)> = transitions.iter().filter_map(|t| Some((t, standing.get(&t.subscription_id)?))).collect();
    for some in transitions.chunks(ROWS_PER_STATEMENT) {
        let first = sequence::take(&mut *connection, "alert", some.len()).await?;
        let sql = format!(
            "INSERT INTO weir_alert (seq, id, subscription_id, subscription, version, org_id, project_id, projects, alert_key, kind, severity, alert_row, event_ms, fired_ms)
             VALUES {} ON CONFLICT (id) DO NOTHING RETURNING id",
            Dialect::of(connection).parameters(some.len(), 14)
        );
        let query = (first..).zip(some).fold(sqlx::query_scalar::<_, String>(AssertSqlSafe(sql)), |query, (seq, (t, projects))| {
            query
                .bind(seq)
                .bind(&t.id)
                .bind(t.subscription_id as i64)
                .bind(&t.subscription)
                .bind(i64::from(t.version))
                .bind(t.org_id as i64)
                .bind(t.project_id.map(|id| id as i64))
                .bind(projects.as_deref())
                .bind(&t.key)
                .bind(t.kind.as_str())
                .bind(&t.severity)
                .bind(&t.row)
                .bind(t.event_time_ms as i64)
                .bind(t.fired_ms as i64)
        });
        added.extend(query.persistent(false).fetch_all(&mut *connection).await?);
    }
    Ok(added)
}

/// A short stand-in for a key, which may be longer than an index takes.
pub(crate) fn key_hash(key: &str) -> String {
    blake3::hash(key.as_bytes()).to_hex()[..32].to_owned()
}

async fn delete_active(connection: &mut AnyConnection, ended: &[(SubscriptionId, String)]) -> Result<(), CatalogError> {
    for some in ended.chunks(ROWS_PER_STATEMENT) {
        let sql = format!("DELETE FROM weir_alert_active WHERE (subscription_id, key_hash) IN (VALUES {})", Dialect::of(connection).parameters(some.len(), 2));
        let query = some.iter().fold(sqlx::query(AssertSqlSafe(sql)), |query, (subscription, key)| query.bind(*subscription as i64).bind(key_hash(key)));
        query.persistent(false).execute(&mut *connection).await?;
    }
    Ok(())
}

async fn upsert_active(connection: &mut AnyConnection, active: &[ActiveAlert], standing: &Standing) -> Result<(), CatalogError> {
    // PostgreSQL refuses a statement that changes the same row twice; of several the last one holds.
    let latest: BTreeMap<(SubscriptionId, &str), &ActiveAlert> =
        active.iter().filter(|a| standing.contains_key(&a.subscription_id)).map(|a| ((a.subscription_id, a.key.as_str()), a)).collect();
    for some in latest.into_values().collect::<Vec<_>>().chunks(ROWS_PER_STATEMENT) {
        let sql = format!(
            "INSERT INTO weir_alert_active (subscription_id, key_hash, alert_key, version, escalated, since_ms, fired_ms, notified_ms, alert_row) VALUES {}
             ON CONFLICT (subscription_id, key_hash) DO UPDATE SET version = excluded.version, escalated = excluded.escalated,
              since_ms = excluded.since_ms, fired_ms = excluded.fired_ms, notified_ms = excluded.notified_ms, alert_row = excluded.alert_row",
            Dialect::of(connection).parameters(some.len(), 9)
        );
        let query = some.iter().fold(sqlx::query(AssertSqlSafe(sql)), |query, alert| {
            query
                .bind(alert.subscription_id as i64)
                .bind(key_hash(&alert.key))
                .bind(&alert.key)
                .bind(i64::from(alert.version))
                .bind(i64::from(alert.escalated))
                .bind(alert.since_ms as i64)
                .bind(alert.fired_ms as i64)
                .bind(alert.notified_ms as i64)
                .bind(&alert.row)
        });
        query.persistent(false).execute(&mut *connection).await?;
    }
    Ok(())
}

fn active_of(row: &AnyRow) -> Result<ActiveAlert, CatalogError> {
    Ok(ActiveAlert {
        subscription_id: row.try_get::<i64, _>("subscription_id")? as SubscriptionId,
        key: row.try_get("alert_key")?,
        version: row.try_get::<i64, _>("version")? as u32,
        escalated: row.try_get::<i64, _>("escalated")? != 0,
        since_ms: row.try_get::<i64, _>("since_ms")? as u64,
        fired_ms: row.try_get::<i64, _>("fired_ms")? as u64,
        notified_ms: row.try_get::<i64, _>("notified_ms")? as u64,
        row: row.try_get("alert_row")?,
    })
}

/// Whether a reader may see a row with the columns `project_id` and `projects` of the history.
fn is_readable(row: &AnyRow, query: &AlertQuery) -> Result<bool, CatalogError> {
    let Some(allowed) = &query.projects else { return Ok(true) };
    if let Some(project_id) = row.try_get::<Option<i64>, _>("project_id")? {
        return Ok(allowed.contains(&(project_id as ProjectId)));
    }
    // All of the organisation is more than any list.
    Ok(projects_of(row.try_get("projects")?)?.is_some_and(|projects| projects.is_subset(allowed)))
}

/// The kind of a stored transition.
pub(crate) fn kind_of(row: &AnyRow) -> Result<TransitionKind, CatalogError> {
    let word: &str = row.try_get("kind")?;
    TransitionKind::of(word).ok_or_else(|| CatalogError::Corrupt { what: format!("the transition {word:?}") })
}

fn alert_of(row: &AnyRow) -> Result<AlertRow, CatalogError> {
    Ok(AlertRow {
        seq: row.try_get::<i64, _>("seq")? as u64,
        id: row.try_get("id")?,
        subscription: row.try_get("subscription")?,
        version: row.try_get::<i64, _>("version")? as u32,
        project_id: row.try_get::<Option<i64>, _>("project_id")?.map(|id| id as ProjectId),
        key: row.try_get("alert_key")?,
        kind: kind_of(row)?,
        severity: row.try_get("severity")?,
        row: row.try_get("alert_row")?,
        event_time_ms: row.try_get::<i64, _>("event_ms")? as u64,
        fired_time_ms: row.try_get::<i64, _>("fired_ms")? as u64,
        delivered_time_ms: row.try_get::<Option<i64>, _>("delivered_ms")?.map(|ms| ms as u64),
    })
}

#[cfg(test)]
mod tests;
