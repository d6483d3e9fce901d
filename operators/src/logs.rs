//! Logs: a container of them becomes rows (`spec/ingest.md` section 2.4).

use weir_protocol::Category;
use weir_protocol::ids::{parse_hex8, parse_hex16};
use weir_protocol::json::Json;
use weir_protocol::limits::LOG_BYTES_MAX;
use weir_protocol::outcome::Outcome;

use crate::attributes::Bag;
use crate::container::{self, bytes_of, is_too_large, times_us};
use crate::decode::Item;
use crate::fact::{Fact, Rows};
use crate::interpret::event_context;
use crate::normalise::EventContext;
use crate::normalise::user::InferIp;
use crate::rows::{LogRow, OutcomeRow};

const INVALID: &str = "invalid_log";
const TOO_LARGE: &str = "too_large:log";

/// Severities with the lowest of the four numbers that OpenTelemetry gives each.
const SEVERITIES: [(&str, i16); 6] = [("trace", 1), ("debug", 5), ("info", 9), ("warn", 13), ("error", 17), ("fatal", 21)];

/// How many logs, and how many bytes.
#[derive(Debug, Clone, Copy, Default)]
struct Sum {
    logs: u64,
    bytes: u64,
}

impl Sum {
    fn add(&mut self, log: &Json<'_>) {
        self.logs += 1;
        self.bytes += bytes_of(log) as u64;
    }

    fn outcomes(self, item: &Item, outcome: Outcome, reason: Option<&str>) -> impl Iterator<Item = OutcomeRow> {
        [(Category::LogItem, self.logs), (Category::LogByte, self.bytes)]
            .into_iter()
            .filter(move |_| self.logs > 0)
            .map(move |(category, quantity)| container::outcome(item, outcome, reason, category, quantity))
    }
}

/// The logs of an item. A log without a text or over its limit is refused alone; the bytes of the container count as those of
/// the logs that stay.
pub fn logs(item: &Item) -> Fact {
    let container = match container::read(item, INVALID) {
        Ok(container) => container,
        Err(reason) => return item.refused(reason),
    };
    let context = event_context(item);
    let (mut rows, mut invalid, mut too_large) = (Vec::with_capacity(container.elements.len()), Sum::default(), Sum::default());
    for (index, log) in (0u64..).zip(&container.elements) {
        if is_too_large(log, item, LOG_BYTES_MAX) {
            too_large.add(log);
            continue;
        }
        match log_row(log, index, item, &context, container.infer_ip) {
            Some(row) => rows.push(row),
            None => invalid.add(log),
        }
    }
    let bytes = (item.payload.len() as u64).saturating_sub(invalid.bytes + too_large.bytes);
    let accepted = Sum { logs: rows.len() as u64, bytes };
    let refused = invalid.outcomes(item, Outcome::Invalid, Some(INVALID)).chain(too_large.outcomes(item, Outcome::Invalid, Some(TOO_LARGE)));
    let outcomes = accepted.outcomes(item, Outcome::Accepted, None).chain(refused).collect();
    if rows.is_empty() {
        return item.fact(Rows::None, outcomes);
    }
    let item_row = container::item_row(item, rows.len());
    container::fact(item, Rows::Logs { logs: rows, item: item_row }, outcomes)
}

/// A log needs a text; anything else that it lacks or that is wrong is left out, and without a time it happened on receipt.
fn log_row(log: &Json<'_>, index: u64, item: &Item, context: &EventContext, infer_ip: InferIp) -> Option<LogRow> {
    let body = match log.get("body")? {
        Json::String(text) => text.clone().into_owned(),
        Json::Array(_) | Json::Object(_) => return None,
        other => other.to_string(),
    };
    let (_, timestamp_us) = times_us(None, log.get("timestamp"), context);
    let mut bag = Bag::default();
    bag.add_typed(log.get("attributes"));
    bag.resolve_address(infer_ip, context.client_ip);
    let (severity, severity_number) = severity(log, &bag);
    Some(LogRow {
        common: item.context.common.clone(),
        log_id: item.made_id(index),
        timestamp_us,
        trace_id: log.str_at(&["trace_id"]).and_then(parse_hex16).filter(|id| *id != [0; 16]),
        span_id: span_id(log, &bag),
        severity: severity.to_owned(),
        severity_number,
        body,
        environment: bag.environment(),
        release: bag.release(),
        attributes: bag.into_attributes(),
    })
}

/// The span that was active. Browsers have it only as an attribute.
fn span_id(log: &Json<'_>, bag: &Bag<'_>) -> Option<String> {
    let read = |text: &str| parse_hex8(text).filter(|id| *id != 0);
    let id = log.str_at(&["span_id"]).and_then(read).or_else(|| read(&bag.text("sentry.trace.parent_span_id")?))?;
    Some(format!("{id:016x}"))
}

/// Severity and its number. Either is made of the other where only one is known; without both it is `info`.
fn severity(log: &Json<'_>, bag: &Bag<'_>) -> (&'static str, i16) {
    let attribute = bag.text("sentry.severity_text");
    let named = log.str_at(&["level"]).and_then(name_of_level).or_else(|| name_of_level(attribute.as_deref()?));
    let number = log.get("severity_number").and_then(Json::as_f64).or_else(|| bag.number("sentry.severity_number"));
    let number = number.filter(|n| n.fract() == 0.0 && (1.0..25.0).contains(n)).map(|n| n as i16);
    match (named, number) {
        (Some((name, lowest)), number) => (name, number.unwrap_or(lowest)),
        (None, Some(number)) => (SEVERITIES.iter().rev().find(|(_, lowest)| *lowest <= number).map_or("info", |(name, _)| name), number),
        (None, None) => ("info", 9),
    }
}

fn name_of_level(level: &str) -> Option<(&'static str, i16)> {
    let level = level.trim().to_ascii_lowercase();
    let name = match level.as_str() {
        "warning" => "warn",
        "critical" => "fatal",
        "log" => "info",
        other => other,
    };
    SEVERITIES.into_iter().find(|(known, _)| *known == name)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::recorded::{RECEIVED_MS, item, items, outcomes};

    fn container(logs: &str, count: usize) -> Item {
        item(&format!(r#"{{"type":"log","item_count":{count},"content_type":"application/vnd.sentry.items.log+json"}}"#), &format!(r#"{{"items":[{logs}]}}"#))
    }

    fn rows(fact: Fact) -> Vec<LogRow> {
        match fact.rows {
            Rows::Logs { logs, .. } => logs,
            _ => Vec::new(),
        }
    }

    fn row(log: &str) -> Option<LogRow> {
        rows(logs(&container(log, 1))).pop()
    }

    #[test]
    fn severities() {
        let check = |fields: &str, want: &str, number: i16| {
            let row = row(&format!(r#"{{"body":"b"{fields}}}"#)).unwrap();
            assert_eq!((row.severity.as_str(), row.severity_number), (want, number), "{fields}");
        };
        check("", "info", 9);
        check(r#","level":"warn""#, "warn", 13);
        check(r#","level":"WARNING","severity_number":14"#, "warn", 14);
        check(r#","level":"critical""#, "fatal", 21);
        check(r#","level":"notice""#, "info", 9);
        check(r#","severity_number":8"#, "debug", 8);
        check(r#","severity_number":24"#, "fatal", 24);
        check(r#","severity_number":25"#, "info", 9);
        check(r#","level":7,"severity_number":"9""#, "info", 9);
        check(r#","attributes":{"sentry.severity_number":{"value":17,"type":"integer"}}"#, "error", 17);
        check(r#","attributes":{"sentry.severity_text":{"value":"debug","type":"string"}}"#, "debug", 5);
    }

    #[test]
    fn times_and_ids() {
        let received_us = RECEIVED_MS as i64 * 1000;
        let check = |fields: &str, want_us: i64, trace: bool, span: Option<&str>| {
            let row = row(&format!(r#"{{"body":"b"{fields}}}"#)).unwrap();
            assert_eq!((row.timestamp_us, row.trace_id.is_some(), row.span_id.as_deref()), (want_us, trace, span), "{fields}");
        };
        check("", received_us, false, None);
        check(r#","timestamp":1795322226.617678"#, 1_795_322_226_617_678, false, None);
        check(r#","timestamp":"2026-11-22T04:41:49.830209596Z""#, 1_795_322_509_830_209, false, None);
        check(r#","timestamp":"soon""#, received_us, false, None);
        check(r#","timestamp":99999999999"#, received_us, false, None);
        check(r#","trace_id":"b7ef5428e16be11d09f38cb6e3d0b219","span_id":"88BDFCCF0570c70c""#, received_us, true, Some("88bdfccf0570c70c"));
        check(r#","trace_id":"00000000000000000000000000000000","span_id":"""#, received_us, false, None);
        check(r#","attributes":{"sentry.trace.parent_span_id":{"value":"ad43e76f22fb266f"}}"#, received_us, false, Some("ad43e76f22fb266f"));
    }

    #[test]
    fn bodies() {
        let check = |log: &str, want: Option<&str>| assert_eq!(row(log).map(|row| row.body).as_deref(), want, "{log}");
        check(r#"{"body":"b"}"#, Some("b"));
        check(r#"{"body":""}"#, Some(""));
        check(r#"{"body":7}"#, Some("7"));
        check(r#"{"body":null}"#, None);
        check(r#"{"body":["b"]}"#, None);
        check("{}", None);
        check("null", None);
        check("7", None);
    }

    #[test]
    fn every_log_and_every_byte_has_an_outcome() {
        let check = |item: Item, want: &str| assert_eq!(outcomes(&logs(&item)), want, "{}", String::from_utf8_lossy(&item.payload));
        check(container(r#"{"body":"b"}"#, 1), "0 log_item=1, 0 log_byte=24");
        check(container(r#"{"body":"b"},{}"#, 2), "0 log_item=1, 0 log_byte=25, 3 invalid_log log_item=1, 3 invalid_log log_byte=2");
        check(container(r#"{"body":"b"}"#, 2), "3 invalid_log log_item=2, 3 invalid_log log_byte=24");
        check(container("", 0), "3 invalid_log log_item=1, 3 invalid_log log_byte=12");
        check(item(r#"{"type":"log"}"#, r#"{"items":[{"body":"b"}]}"#), "3 invalid_log log_item=1, 3 invalid_log log_byte=24");
        check(item(r#"{"type":"log","item_count":1}"#, "[]"), "3 invalid_log log_item=1, 3 invalid_log log_byte=2");
        check(item(r#"{"type":"log","item_count":1}"#, "{"), "3 invalid_json log_item=1, 3 invalid_json log_byte=1");
    }

    #[test]
    fn a_log_over_its_limit_is_refused_alone() {
        let long = format!(r#"{{"body":"{}"}}"#, "x".repeat(LOG_BYTES_MAX));
        let item = container(&format!(r#"{{"body":"b"}},{long}"#), 2);
        let want = format!("0 log_item=1, 0 log_byte=25, 3 too_large:log log_item=1, 3 too_large:log log_byte={}", long.len());
        let fact = logs(&item);
        assert_eq!(outcomes(&fact), want);
        assert_eq!(rows(fact).len(), 1);
    }

    #[test]
    fn ids_differ_and_stay_the_same_and_duplicates_are_known() {
        let (one, again) = (logs(&container(r#"{"body":"b"},{"body":"b"}"#, 2)), logs(&container(r#"{"body":"b"},{"body":"b"}"#, 2)));
        assert_eq!(one, again);
        assert!(one.identity.is_some());
        assert_eq!(logs(&container("7", 1)).identity, None);
        let ids: Vec<[u8; 16]> = rows(one).iter().map(|row| row.log_id).collect();
        assert_ne!(ids[0], ids[1]);
    }

    #[test]
    fn recorded_logs() {
        let check = |name: &str, count: usize, severities: &str, environment: &str, release: &str| {
            let item = items(name).into_iter().find(|item| item.header.item_type.name() == "log").unwrap();
            let fact = logs(&item);
            assert_eq!(outcomes(&fact), format!("0 log_item={count}, 0 log_byte={}", item.payload.len()), "{name}");
            let rows = rows(fact);
            let got: std::collections::BTreeSet<&str> = rows.iter().map(|row| row.severity.as_str()).collect();
            assert_eq!(got.into_iter().collect::<Vec<_>>().join(" "), severities, "{name}");
            for row in &rows {
                assert_eq!((row.environment.as_deref(), row.release.as_deref()), (Some(environment), Some(release)), "{name}");
                assert!(row.trace_id.is_some() && !row.body.is_empty() && row.timestamp_us < RECEIVED_MS as i64 * 1000, "{name}: {row:?}");
            }
        };
        check("browser_log_batch7", 7, "debug error fatal info trace warn", "production", "web-shop@3.1.0");
        check("go_log_batch6", 6, "debug error fatal info trace warn", "production", "stock-api@1.9.0");
        check("java_log_batch8", 8, "debug error fatal info trace warn", "production", "order-service@2.7.1+build.48");
        check("node_log_batch15", 15, "info", "production", "web-bff@5.0.2");
        check("py_log_batch41", 41, "error info warn", "production", "shop-api@2.4.1+build.77");
        check("rust_log", 1, "info", "prod", "indexer@0.9.0");
    }

    #[test]
    fn attributes_of_a_recorded_log() {
        let item = items("go_log_batch6").into_iter().find(|item| item.header.item_type.name() == "log").unwrap();
        let row = rows(logs(&item)).remove(2);
        assert_eq!((row.body.as_str(), row.span_id.as_deref()), ("imported 118 of 120 rows", Some("88bdfccf0570c70c")));
        assert_eq!(row.attributes.number, [("ratio".to_owned(), 0.983)]);
        assert_eq!(row.attributes.integer, [("shard".to_owned(), 3)]);
        assert_eq!(row.attributes.boolean, [("dry_run".to_owned(), false)]);
        assert!(row.attributes.text.contains(&("sentry.message.template".to_owned(), "imported %d of %d rows".to_owned())));
    }
}
