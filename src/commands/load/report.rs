//! What came of a run, for people and for scripts.

use std::fmt::Write;
use std::time::Duration;

use hdrhistogram::Histogram;
use serde_json::{Value, json};

use super::tally::Tally;
use super::verify::Verified;

/// The quantiles that are shown.
const QUANTILES: [(&str, f64); 5] = [("p50", 0.5), ("p90", 0.9), ("p99", 0.99), ("p99.9", 0.999), ("max", 1.0)];

/// A finished run.
pub struct Report<'a> {
    /// The sends.
    pub tally: &'a Tally,
    /// From the first turn to the last answer.
    pub took: Duration,
    /// Connections.
    pub connections: usize,
    /// Sends a second that were planned.
    pub rate: Option<f64>,
    /// Sends that were planned and never made.
    pub missed: u64,
    /// Microseconds from acceptance to an answer of SQL, of the events that were asked for.
    pub visible_us: Option<Histogram<u64>>,
    /// Whether all can be queried.
    pub verified: Option<Verified>,
}

fn ms(us: u64) -> f64 {
    us as f64 / 1000.0
}

/// A line of quantiles, in milliseconds.
pub fn quantiles(histogram: &Histogram<u64>) -> String {
    let shown: Vec<String> = QUANTILES.iter().map(|(name, q)| format!("{name} {:.2}", ms(histogram.value_at_quantile(*q)))).collect();
    shown.join("  ")
}

fn quantiles_json(histogram: &Histogram<u64>) -> Value {
    let mut members: serde_json::Map<String, Value> =
        QUANTILES.iter().map(|(name, q)| ((*name).to_owned(), json!(ms(histogram.value_at_quantile(*q))))).collect();
    members.insert("count".to_owned(), json!(histogram.len()));
    Value::Object(members)
}

fn megabytes(bytes: u64) -> f64 {
    bytes as f64 / 1e6
}

impl Report<'_> {
    fn per_second(&self) -> f64 {
        self.tally.sent() as f64 / self.took.as_secs_f64().max(1e-9)
    }

    /// Lines for people.
    pub fn text(&self) -> String {
        let tally = self.tally;
        let mut out = String::new();
        let mut line = |name: &str, text: String| {
            // Writing to a string does not fail.
            let _ = writeln!(out, "{name:<10} {text}");
        };
        let planned = self.rate.map_or("as fast as it goes".to_owned(), |rate| format!("{rate}/s planned"));
        line("sent", format!("{} in {:.2} s: {:.1}/s, {planned}, {} connections", tally.sent(), self.took.as_secs_f64(), self.per_second(), self.connections));
        line("bytes", format!("{:.1} MB, {:.1} MB as sent", megabytes(tally.plain_bytes), megabytes(tally.wire_bytes)));
        line("accepted", tally.accepted.to_string());
        for (status, count) in &tally.refused {
            line("refused", format!("{count} with status {status}"));
        }
        for (reason, count) in &tally.failed {
            line("failed", format!("{count}: {reason}"));
        }
        if self.missed > 0 {
            line("not sent", format!("{}: the connections did not keep up with the rate", self.missed));
        }
        line("answer ms", quantiles(&tally.latency_us));
        if let Some(visible_us) = &self.visible_us {
            line("visible ms", format!("{}  ({} events)", quantiles(visible_us), visible_us.len()));
        }
        if let Some(verified) = &self.verified {
            let word = if verified.agrees() { "all" } else { "NOT ALL" };
            line("queryable", format!("{word}, {:.0} ms after the last answer: {verified}", verified.took.as_secs_f64() * 1000.0));
        }
        out
    }

    /// The same as one JSON object; times in milliseconds where their name says so.
    pub fn json(&self) -> Value {
        let tally = self.tally;
        let refused: serde_json::Map<String, Value> = tally.refused.iter().map(|(status, count)| (status.to_string(), json!(count))).collect();
        json!({
            "sent": tally.sent(),
            "accepted": tally.accepted,
            "refused": refused,
            "failed": tally.failed,
            "missed": self.missed,
            "seconds": self.took.as_secs_f64(),
            "per_second": self.per_second(),
            "rate": self.rate,
            "connections": self.connections,
            "plain_bytes": tally.plain_bytes,
            "wire_bytes": tally.wire_bytes,
            "answer_ms": quantiles_json(&tally.latency_us),
            "visible_ms": self.visible_us.as_ref().map(quantiles_json),
            "verified": self.verified.map(|verified| json!({
                "agrees": verified.agrees(),
                "ms": verified.took.as_secs_f64() * 1000.0,
                "wanted": rows_json(verified.wanted),
                "found": rows_json(verified.found),
            })),
        })
    }
}

fn rows_json(rows: super::corpus::Rows) -> Value {
    json!({ "errors": rows.errors, "transactions": rows.transactions, "logs": rows.logs })
}
