//! Normalises events as the graph does: one JSON object a line in, one a line out.
//!
//! In: `{"payload": "…", "received_ms": …, "event_id": "…", "client": …, "client_ip": …, "user_agent": …, "sent_at": …}`, of
//! which all but the payload may be left out. Out: the normalised payload, or `{"error": "…"}`.
//!
//! With `--measure N` it normalises everything N times and writes the CPU time of one event instead.

use std::io::{BufRead, Write};
use std::sync::Arc;

use anyhow::Context;
use serde::Deserialize;
use weir_operators::normalise::place::Places;
use weir_operators::normalise::{self, EventContext};
use weir_protocol::EventId;
use weir_protocol::json::Json;

#[derive(Deserialize)]
struct Given {
    payload: String,
    received_ms: u64,
    event_id: Option<EventId>,
    client: Option<String>,
    client_ip: Option<std::net::IpAddr>,
    user_agent: Option<String>,
    sent_at: Option<String>,
}

#[allow(clippy::disallowed_methods, reason = "an example reads its arguments")]
/// The database that `WEIR_GEO__DATABASE` names.
fn places() -> anyhow::Result<Option<Arc<Places>>> {
    let Some(path) = std::env::var_os("WEIR_GEO__DATABASE") else { return Ok(None) };
    Ok(Some(Arc::new(Places::read(std::fs::read(path)?)?)))
}

impl Given {
    fn context(&self, places: &Option<Arc<Places>>) -> EventContext {
        EventContext {
            event_id: self.event_id.unwrap_or_default(),
            received_ms: self.received_ms,
            sent_at: self.sent_at.clone(),
            client_ip: self.client_ip,
            user_agent: self.user_agent.clone(),
            client: self.client.clone(),
            project_id: 7,
            key_id: Some(11),
            places: places.clone(),
            ..EventContext::default()
        }
    }

    fn normalised(&self, places: &Option<Arc<Places>>) -> String {
        let refused = |error: String| Json::Object([("error", Json::text(error))].into_iter().collect()).to_string();
        match Json::parse(self.payload.as_bytes()) {
            Err(error) => refused(error.to_string()),
            Ok(mut event) => match normalise::event(&mut event, &self.context(places)) {
                Ok(()) => event.to_string(),
                Err(error) => refused(error.to_string()),
            },
        }
    }
}

#[allow(clippy::disallowed_methods, reason = "an example reads its input and its arguments")]
fn main() -> anyhow::Result<()> {
    let mut arguments = std::env::args().skip(1);
    let rounds: Option<u32> = match (arguments.next().as_deref(), arguments.next()) {
        (Some("--measure"), Some(rounds)) => Some(rounds.parse().context("the number of rounds")?),
        _ => None,
    };
    let given: Vec<Given> = std::io::stdin().lock().lines().map(|line| Ok(serde_json::from_str(&line?)?)).collect::<anyhow::Result<_>>()?;
    let places = places()?;
    let mut out = std::io::BufWriter::new(std::io::stdout().lock());
    let Some(rounds) = rounds else {
        for event in &given {
            writeln!(out, "{}", event.normalised(&places))?;
        }
        return Ok(());
    };
    let parse = measured(rounds, &given, |event| Json::parse(event.payload.as_bytes()).is_ok());
    let both = measured(rounds, &given, |event| {
        let mut json = Json::parse(event.payload.as_bytes()).unwrap_or_default();
        normalise::event(&mut json, &event.context(&places)).is_ok()
    });
    writeln!(out, "{} events: parse {parse:.2} µs, normalise {:.2} µs", given.len(), both - parse)?;
    Ok(())
}

/// Microseconds an event, the least of all rounds.
#[allow(clippy::disallowed_methods, reason = "it measures")]
fn measured(rounds: u32, given: &[Given], work: impl Fn(&Given) -> bool) -> f64 {
    let round = || {
        let start = std::time::Instant::now();
        let done = given.iter().filter(|event| work(event)).count();
        std::hint::black_box(done);
        start.elapsed().as_secs_f64() * 1e6 / given.len().max(1) as f64
    };
    (0..rounds).map(|_| round()).fold(f64::INFINITY, f64::min)
}
