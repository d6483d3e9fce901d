//! The outbox and the delivery log: what is still to be sent, and how each attempt ended.
//!
//! A row of the outbox is one transition for one target. It is there from the commit of the transition until the target has it,
//! it is given up, or its subscription is dropped; nothing that is not in the outbox is ever sent.

use std::collections::BTreeSet;

use sqlx::any::AnyRow;
use sqlx::{AnyConnection, AssertSqlSafe, Row};
use weir_protocol::ids::{OrgId, ProjectId};
use weir_protocol::limits;
use weir_protocol::notify::{NotifyTarget, redacted_target};
use weir_protocol::subscription::{SubscriptionId, Transition};

use crate::alerts::{AlertQuery, ROWS_PER_STATEMENT, key_hash, kind_of};
use crate::database::{Catalog, Dialect};
use crate::error::CatalogError;
use crate::secret::SecretKey;
use crate::sequence;
use crate::subscriptions::secret_of;

/// What has to be known of a row of the outbox to decide when it is sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OutboxEntry {
    /// Its number, which rises.
    pub seq: u64,
    /// The transition.
    pub alert_id: String,
    /// What stands for the target: equal for equal targets.
    pub receiver: String,
    /// The host of the target with its port; empty for e-mail.
    pub host: String,
    /// The subscription.
    pub subscription_id: SubscriptionId,
    /// What stands for the alert's key: equal for equal keys.
    pub key_hash: String,
    /// How often it was tried.
    pub attempts: u32,
    /// Not to be tried before this, in Unix milliseconds.
    pub due_ms: u64,
    /// When it was put there, in Unix milliseconds.
    pub created_ms: u64,
}

/// What is sent. Its debug form shows no secret.
#[derive(Clone)]
pub struct OutboxMessage {
    /// The number of the row.
    pub seq: u64,
    /// The target with its secrets.
    pub target: String,
    /// What webhooks are signed with: the subscription's secret as it is now.
    pub secret: Option<String>,
    /// The transition, without its targets.
    pub transition: Transition,
}

impl std::fmt::Debug for OutboxMessage {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("OutboxMessage").field("seq", &self.seq).field("target", &redacted_target(&self.target)).field("transition", &self.transition).finish()
    }
}

/// How an attempt ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DeliveryOutcome {
    /// The target has it.
    Delivered,
    /// Not yet: it is to be tried again.
    Retry {
        /// Not before this, in Unix milliseconds.
        due_ms: u64,
        /// What went wrong.
        error: String,
    },
    /// It will not be tried again.
    Failed {
        /// What went wrong, and why that is final.
        error: String,
    },
}

/// An attempt to deliver.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeliveryResult {
    /// The row of the outbox.
    pub seq: u64,
    /// Which attempt, from 1.
    pub attempt: u32,
    /// When it began, in Unix milliseconds.
    pub at_ms: u64,
    /// How long it took, in milliseconds.
    pub duration_ms: u64,
    /// How it ended.
    pub outcome: DeliveryOutcome,
}

/// How an attempt ended, in the delivery log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DeliveryStatus {
    /// The target has it.
    Delivered,
    /// It is tried again.
    Retrying,
    /// It is not tried again.
    Failed,
}

impl DeliveryStatus {
    /// The word that clients see.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Delivered => "delivered",
            Self::Retrying => "retrying",
            Self::Failed => "failed",
        }
    }

    fn of(word: &str) -> Option<Self> {
        [Self::Delivered, Self::Retrying, Self::Failed].into_iter().find(|status| status.as_str() == word)
    }
}

/// An entry of the delivery log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeliveryRow {
    /// Its place in the log, which rises.
    pub seq: u64,
    /// The transition's id.
    pub id: String,
    /// The subscription's name.
    pub subscription: String,
    /// The project, where the alert names one.
    pub project_id: Option<ProjectId>,
    /// The target as it may be shown.
    pub target: String,
    /// Which attempt, from 1; 0 where none was made.
    pub attempt: u32,
    /// When it began, in Unix milliseconds.
    pub at_ms: u64,
    /// How long it took, in milliseconds.
    pub duration_ms: u64,
    /// How it ended.
    pub status: DeliveryStatus,
    /// What went wrong.
    pub error: Option<String>,
}

/// The words of an error that are kept.
const ERROR_CHARS_MAX: usize = 500;

impl Catalog {
    /// Resolves when something was put into the outbox since the last call.
    pub async fn outbox_filled(&self) {
        self.outbox_filled.notified().await;
    }

    /// The rows after a number, in their order. What was read once need not be read again: rows change only through
    /// [`record_deliveries`](Self::record_deliveries), and those that go are missing in
    /// [`outbox_messages`](Self::outbox_messages).
    pub async fn outbox_after(&self, seq: u64, limit: usize) -> Result<Vec<OutboxEntry>, CatalogError> {
        let rows = sqlx::query(
            "SELECT seq, alert_id, receiver, host, subscription_id, key_hash, attempts, due_ms, created_ms FROM weir_outbox WHERE seq > $1 ORDER BY seq LIMIT $2",
        )
        .bind(seq as i64)
        .bind(limit as i64)
        .fetch_all(&self.pool)
        .await?;
        rows.iter().map(entry_of).collect()
    }

    /// What is to be sent for some rows; those that are gone are left out.
    pub async fn outbox_messages(&self, seqs: &[u64]) -> Result<Vec<OutboxMessage>, CatalogError> {
        let mut messages = Vec::with_capacity(seqs.len());
        for some in seqs.chunks(ROWS_PER_STATEMENT) {
            let sql = format!(
                "SELECT o.seq, o.sealed, s.sealed AS subscription_sealed,
                        a.id, a.subscription_id, a.subscription, a.version, a.org_id, a.project_id, a.alert_key, a.kind, a.severity, a.alert_row, a.event_ms, a.fired_ms
                 FROM weir_outbox o JOIN weir_alert a ON a.id = o.alert_id JOIN weir_subscription s ON s.id = o.subscription_id WHERE o.seq IN {} ORDER BY o.seq",
                self.dialect.parameters(1, some.len())
            );
            let query = some.iter().fold(sqlx::query(AssertSqlSafe(sql)), |query, seq| query.bind(*seq as i64));
            let rows = query.persistent(false).fetch_all(&self.pool).await?;
            for row in &rows {
                messages.push(message_of(row, &self.secrets)?);
            }
        }
        Ok(messages)
    }

    /// Records how attempts ended, in one transaction: what is delivered or given up leaves the outbox, and each attempt enters the
    /// delivery log. An attempt at a row that is gone, because it was recorded before or its subscription was dropped, changes
    /// nothing.
    pub async fn record_deliveries(&self, results: &[DeliveryResult]) -> Result<(), CatalogError> {
        let mut writing = self.begin_writing().await?;
        for result in results {
            record(&mut writing, result).await?;
        }
        writing.commit().await
    }

    /// Reads the delivery log in its order.
    pub async fn deliveries(&self, query: &AlertQuery) -> Result<Vec<DeliveryRow>, CatalogError> {
        let statement = "SELECT d.seq, d.alert_id, a.subscription, a.project_id, a.projects, d.target, d.attempt, d.at_ms, d.duration_ms, d.status, d.error
             FROM weir_delivery d JOIN weir_alert a ON a.id = d.alert_id WHERE a.org_id = $1 AND d.seq > $2 ORDER BY d.seq";
        self.readable(statement, query, delivery_of).await
    }
}

fn place(seq: i64) -> String {
    format!("outbox {seq}")
}

/// Puts new transitions into the outbox, one row for each target; returns how many rows. What is past the bound, or cannot be
/// sent at all, is entered in the delivery log as failed.
pub(crate) async fn enqueue(connection: &mut AnyConnection, secrets: &SecretKey, transitions: &[&Transition], now_ms: u64) -> Result<usize, CatalogError> {
    if transitions.is_empty() {
        return Ok(0);
    }
    let waiting: i64 = sqlx::query_scalar("SELECT count(*) FROM weir_outbox").fetch_one(&mut *connection).await?;
    let mut room = limits::OUTBOX_COUNT_MAX.saturating_sub(waiting as usize);
    let (mut taken, mut refused) = (Vec::new(), Vec::new());
    for transition in transitions {
        for target in transition.notify.iter().collect::<BTreeSet<_>>() {
            match target.parse::<NotifyTarget>() {
                Err(error) => refused.push((*transition, redacted_target(target), error.to_string())),
                Ok(parsed) if room == 0 => {
                    let error = format!("not sent: {} notifications wait already, which is the most that may", limits::OUTBOX_COUNT_MAX);
                    refused.push((*transition, parsed.redacted(), error));
                }
                Ok(parsed) => {
                    room -= 1;
                    taken.push((*transition, target, parsed));
                }
            }
        }
    }
    for some in taken.chunks(ROWS_PER_STATEMENT) {
        let first = sequence::take(&mut *connection, "outbox", some.len()).await?;
        let sealed = (first..).zip(some).map(|(seq, (_, target, _))| secrets.seal(&place(seq), target)).collect::<Result<Vec<_>, _>>()?;
        let sql = format!(
            "INSERT INTO weir_outbox (seq, alert_id, receiver, subscription_id, key_hash, host, target, sealed, attempts, due_ms, created_ms) VALUES {}",
            Dialect::of(connection).parameters(some.len(), 11)
        );
        let query = (first..).zip(some).zip(sealed).fold(sqlx::query(AssertSqlSafe(sql)), |query, ((seq, (transition, target, parsed)), sealed)| {
            query
                .bind(seq)
                .bind(&transition.id)
                .bind(secrets.hash(target))
                .bind(transition.subscription_id as i64)
                .bind(key_hash(&transition.key))
                .bind(parsed.host())
                .bind(parsed.redacted())
                .bind(sealed)
                .bind(0i64)
                .bind(now_ms as i64)
                .bind(now_ms as i64)
        });
        query.persistent(false).execute(&mut *connection).await?;
    }
    for (transition, target, error) in refused {
        let log = LogEntry {
            alert_id: &transition.id,
            target: &target,
            attempt: 0,
            at_ms: now_ms,
            duration_ms: 0,
            status: DeliveryStatus::Failed,
            error: Some(&error),
        };
        insert_log(connection, &log).await?;
    }
    Ok(taken.len())
}

async fn record(connection: &mut AnyConnection, result: &DeliveryResult) -> Result<(), CatalogError> {
    let seq = result.seq as i64;
    let row = match &result.outcome {
        DeliveryOutcome::Retry { due_ms, .. } => {
            sqlx::query("UPDATE weir_outbox SET attempts = $2, due_ms = $3 WHERE seq = $1 RETURNING alert_id, target")
                .bind(seq)
                .bind(i64::from(result.attempt))
                .bind(*due_ms as i64)
                .fetch_optional(&mut *connection)
                .await?
        }
        DeliveryOutcome::Delivered | DeliveryOutcome::Failed { .. } => {
            sqlx::query("DELETE FROM weir_outbox WHERE seq = $1 RETURNING alert_id, target").bind(seq).fetch_optional(&mut *connection).await?
        }
    };
    let Some(row) = row else { return Ok(()) };
    let (alert_id, target): (String, String) = (row.try_get("alert_id")?, row.try_get("target")?);
    let (status, error) = match &result.outcome {
        DeliveryOutcome::Delivered => (DeliveryStatus::Delivered, None),
        DeliveryOutcome::Retry { error, .. } => (DeliveryStatus::Retrying, Some(error.as_str())),
        DeliveryOutcome::Failed { error } => (DeliveryStatus::Failed, Some(error.as_str())),
    };
    if status == DeliveryStatus::Delivered {
        sqlx::query("UPDATE weir_alert SET delivered_ms = $2 WHERE id = $1 AND delivered_ms IS NULL")
            .bind(&alert_id)
            .bind((result.at_ms + result.duration_ms) as i64)
            .execute(&mut *connection)
            .await?;
    }
    let log = LogEntry { alert_id: &alert_id, target: &target, attempt: result.attempt, at_ms: result.at_ms, duration_ms: result.duration_ms, status, error };
    insert_log(connection, &log).await
}

/// An entry of the delivery log that is about to be written.
struct LogEntry<'a> {
    alert_id: &'a str,
    target: &'a str,
    attempt: u32,
    at_ms: u64,
    duration_ms: u64,
    status: DeliveryStatus,
    error: Option<&'a str>,
}

async fn insert_log(connection: &mut AnyConnection, log: &LogEntry<'_>) -> Result<(), CatalogError> {
    let seq = sequence::take(&mut *connection, "delivery", 1).await?;
    let error: Option<String> =
        log.error.map(|error| error.chars().take(ERROR_CHARS_MAX).map(|c| if c == '\0' { char::REPLACEMENT_CHARACTER } else { c }).collect());
    sqlx::query("INSERT INTO weir_delivery (seq, alert_id, target, attempt, at_ms, duration_ms, status, error) VALUES ($1, $2, $3, $4, $5, $6, $7, $8)")
        .bind(seq)
        .bind(log.alert_id)
        .bind(log.target)
        .bind(i64::from(log.attempt))
        .bind(log.at_ms as i64)
        .bind(log.duration_ms as i64)
        .bind(log.status.as_str())
        .bind(error)
        .execute(connection)
        .await?;
    Ok(())
}

fn message_of(row: &AnyRow, secrets: &SecretKey) -> Result<OutboxMessage, CatalogError> {
    let (seq, subscription_id): (i64, i64) = (row.try_get("seq")?, row.try_get("subscription_id")?);
    Ok(OutboxMessage {
        seq: seq as u64,
        target: secrets.open_sealed(&place(seq), row.try_get("sealed")?)?,
        secret: secret_of(secrets, subscription_id, row.try_get("subscription_sealed")?)?,
        transition: Transition {
            id: row.try_get("id")?,
            subscription_id: subscription_id as SubscriptionId,
            subscription: row.try_get("subscription")?,
            version: row.try_get::<i64, _>("version")? as u32,
            org_id: row.try_get::<i64, _>("org_id")? as OrgId,
            project_id: row.try_get::<Option<i64>, _>("project_id")?.map(|id| id as ProjectId),
            key: row.try_get("alert_key")?,
            kind: kind_of(row)?,
            severity: row.try_get("severity")?,
            row: row.try_get("alert_row")?,
            event_time_ms: row.try_get::<i64, _>("event_ms")? as u64,
            fired_ms: row.try_get::<i64, _>("fired_ms")? as u64,
            notify: Vec::new(),
        },
    })
}

fn entry_of(row: &AnyRow) -> Result<OutboxEntry, CatalogError> {
    Ok(OutboxEntry {
        seq: row.try_get::<i64, _>("seq")? as u64,
        alert_id: row.try_get("alert_id")?,
        receiver: row.try_get("receiver")?,
        host: row.try_get("host")?,
        subscription_id: row.try_get::<i64, _>("subscription_id")? as SubscriptionId,
        key_hash: row.try_get("key_hash")?,
        attempts: row.try_get::<i64, _>("attempts")? as u32,
        due_ms: row.try_get::<i64, _>("due_ms")? as u64,
        created_ms: row.try_get::<i64, _>("created_ms")? as u64,
    })
}

fn delivery_of(row: &AnyRow) -> Result<DeliveryRow, CatalogError> {
    let status: &str = row.try_get("status")?;
    Ok(DeliveryRow {
        seq: row.try_get::<i64, _>("seq")? as u64,
        id: row.try_get("alert_id")?,
        subscription: row.try_get("subscription")?,
        project_id: row.try_get::<Option<i64>, _>("project_id")?.map(|id| id as ProjectId),
        target: row.try_get("target")?,
        attempt: row.try_get::<i64, _>("attempt")? as u32,
        at_ms: row.try_get::<i64, _>("at_ms")? as u64,
        duration_ms: row.try_get::<i64, _>("duration_ms")? as u64,
        status: DeliveryStatus::of(status).ok_or_else(|| CatalogError::Corrupt { what: format!("the delivery status {status:?}") })?,
        error: row.try_get("error")?,
    })
}
