//! Asking the tables: whether all that was accepted can be queried, and how soon.

use std::fmt;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use hdrhistogram::Histogram;
use serde_json::Value;
use tokio::sync::mpsc;
use weir_protocol::ProjectId;
use weir_sql::client::Client;
use weir_sql::output::{self, Format};

use super::corpus::Rows;
use super::sender::Accepted;
use super::tally::{latencies, record};

/// How often is asked whether all is there.
const ASK_EVERY: Duration = Duration::from_millis(20);
/// How often is asked for one event.
const PROBE_EVERY: Duration = Duration::from_millis(2);
/// How long an event that was accepted may take before looking for it is given up.
const PROBE_MAX: Duration = Duration::from_secs(30);

/// The tables of a server.
pub struct Tables {
    client: Client,
    projects: String,
}

/// What became of what was accepted.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Verified {
    /// What there should be.
    pub wanted: Rows,
    /// What there is.
    pub found: Rows,
    /// From the last answer until the counts agreed, or until it was given up.
    pub took: Duration,
}

impl Verified {
    /// Whether all is there, and nothing twice.
    pub fn agrees(&self) -> bool {
        self.wanted == self.found
    }
}

impl fmt::Display for Verified {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let parts = [
            ("errors", self.found.errors, self.wanted.errors),
            ("transactions", self.found.transactions, self.wanted.transactions),
            ("logs", self.found.logs, self.wanted.logs),
        ];
        for (index, (name, found, wanted)) in parts.into_iter().enumerate() {
            write!(f, "{}{name} {found} of {wanted}", if index == 0 { "" } else { ", " })?;
        }
        Ok(())
    }
}

impl Tables {
    /// Connects to a server; what it is asked for are rows of these projects.
    pub async fn connect(url: &str, token: &str, projects: impl Iterator<Item = ProjectId>) -> anyhow::Result<Self> {
        let client = Client::connect(url, token).await?;
        let projects: Vec<String> = projects.map(|id| id.to_string()).collect();
        Ok(Self { client, projects: projects.join(", ") })
    }

    async fn ask(&mut self, sql: &str) -> anyhow::Result<Vec<Value>> {
        let (schema, batches) = self.client.query(sql).await?;
        let mut text = Vec::new();
        output::write(&mut text, &schema, &batches, Format::Json)?;
        serde_json::from_slice(&text).context("the rows cannot be read")
    }

    /// How many rows there are.
    pub async fn rows(&mut self) -> anyhow::Result<Rows> {
        let of =
            |name: &str, table: &str, only: &str| format!("SELECT '{name}' AS t, count(*) AS n FROM {table} WHERE project_id IN ({}){only}", self.projects);
        // The view of transactions has segments that came as spans, too.
        let transactions = of("transactions", "payloads", " AND type = 'transaction'");
        let sql = format!("{} UNION ALL {transactions} UNION ALL {}", of("errors", "errors", ""), of("logs", "logs", ""));
        let mut rows = Rows::default();
        for row in self.ask(&sql).await? {
            let n = row["n"].as_u64().context("a count is no number")?;
            match row["t"].as_str() {
                Some("errors") => rows.errors = n,
                Some("transactions") => rows.transactions = n,
                Some("logs") => rows.logs = n,
                other => bail!("a count of {other:?}"),
            }
        }
        Ok(rows)
    }

    /// Waits until the rows that were added since `before` are those of what was accepted, for at most `patience`. Fewer are
    /// waited for; more never become fewer.
    pub async fn verify(&mut self, before: Rows, accepted: Rows, patience: Duration) -> anyhow::Result<Verified> {
        let start = Instant::now();
        loop {
            let now = self.rows().await?;
            let added = |now: u64, before: u64| now.saturating_sub(before);
            let found = Rows {
                errors: added(now.errors, before.errors),
                transactions: added(now.transactions, before.transactions),
                logs: added(now.logs, before.logs),
            };
            let verified = Verified { wanted: accepted, found, took: start.elapsed() };
            let too_many = found.errors > accepted.errors || found.transactions > accepted.transactions || found.logs > accepted.logs;
            if verified.agrees() || too_many || start.elapsed() > patience {
                return Ok(verified);
            }
            tokio::time::sleep(ASK_EVERY).await;
        }
    }

    /// Asks for accepted events, one after the other, at most `rate` a second, until their channel ends: how long each took from
    /// its acceptance to the answer that has it. The time that asking takes counts along.
    pub async fn probe(mut self, mut accepted: mpsc::Receiver<Accepted>, rate: f64) -> anyhow::Result<Histogram<u64>> {
        let mut visible_us = latencies();
        let mut every = tokio::time::interval(Duration::from_secs_f64(1.0 / rate));
        every.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            every.tick().await;
            // What waited in the channel meanwhile is old by now.
            while accepted.try_recv().is_ok() {}
            let Some(event) = accepted.recv().await else { return Ok(visible_us) };
            let sql = format!("SELECT 1 AS n FROM errors WHERE event_id = '{}' AND received > now() - INTERVAL '5 minutes'", event.event_id);
            while self.ask(&sql).await?.is_empty() {
                if event.at.elapsed() > PROBE_MAX {
                    bail!("the event {} was accepted, but is not in errors after {} s", event.event_id, PROBE_MAX.as_secs());
                }
                tokio::time::sleep(PROBE_EVERY).await;
            }
            record(&mut visible_us, event.at.elapsed());
        }
    }
}
