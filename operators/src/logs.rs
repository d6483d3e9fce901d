//! Logs: a container of entries with typed attributes.

use weir_protocol::Category;
use weir_protocol::ids::{parse_hex8, parse_hex16};
use weir_protocol::json::Json;
use weir_protocol::limits::LOG_BYTES_MAX;
use weir_protocol::outcome::Outcome;

use crate::decode::Item;
use crate::deduplicate::Identity;
use crate::fact::{Fact, Rows};
use crate::normalise::clock::time_us;
use crate::rows::{ItemRow, LogRow, OutcomeRow};
use crate::spans::typed_attributes;

/// The fact that a `log` item states.
pub fn logs(item: &Item) -> Fact {
    let Ok(json @ Json::Object(_)) = Json::parse(&item.payload) else { return item.refused("invalid_json") };
    let Some(elements) = json.get("items").and_then(Json::as_array).filter(|items| item.header.item_count == Some(items.len() as u64)) else {
        return item.refused("invalid_log");
    };
    let may_exceed = item.payload.len() > LOG_BYTES_MAX;
    let (mut logs, mut outcomes) = (Vec::with_capacity(elements.len()), Vec::new());
    let mut refused_bytes = 0;
    for (index, element) in elements.iter().enumerate() {
        let fits = !may_exceed || element.to_string().len() <= LOG_BYTES_MAX;
        match log(item, index as u64, element).filter(|_| fits) {
            Some(row) => logs.push(row),
            None => {
                let bytes = element.to_string().len().min(item.payload.len()) as u64;
                refused_bytes += bytes;
                outcomes.extend(counted(item, Outcome::Invalid, Some("invalid_log"), 1, bytes));
            }
        }
    }
    if logs.is_empty() {
        return item.fact(Rows::None, outcomes);
    }
    let bytes = (item.payload.len() as u64).saturating_sub(refused_bytes);
    outcomes.extend(counted(item, Outcome::Accepted, None, logs.len() as u64, bytes));
    let digest = item.digest();
    let stored = ItemRow { common: item.context.common.clone(), item_id: digest, type_: "log".to_owned(), quantity: logs.len() as i64 };
    let identity = Some(Identity::payload(item.context.common.project_id as u64, digest));
    Fact { identity, ..item.fact(Rows::Logs { logs, item: Box::new(stored) }, outcomes) }
}

fn counted(item: &Item, outcome: Outcome, reason: Option<&str>, quantity: u64, bytes: u64) -> [OutcomeRow; 2] {
    [(Category::LogItem, quantity), (Category::LogByte, bytes)].map(|(category, quantity)| item.context.outcome(outcome, reason, category, quantity))
}

fn log(item: &Item, index: u64, log: &Json<'_>) -> Option<LogRow> {
    let attributes = typed_attributes(log.get("attributes").and_then(Json::as_object));
    let text = |key: &str| attributes.text(key).map(str::to_owned);
    let (severity, severity_number) = severity(log.str_at(&["level"]), log.get("severity_number").and_then(Json::as_i64));
    let span_id = log.str_at(&["span_id"]).or_else(|| attributes.text("sentry.trace.parent_span_id"));
    Some(LogRow {
        common: item.context.common.clone(),
        log_id: item.made_id(index),
        timestamp_us: time_us(log.get("timestamp")?)?,
        trace_id: log.str_at(&["trace_id"]).and_then(parse_hex16),
        span_id: span_id.and_then(parse_hex8).map(|id| format!("{id:016x}")),
        severity: severity.to_owned(),
        severity_number,
        body: log.get("body")?.as_str()?.to_owned(),
        environment: text("sentry.environment"),
        release: text("sentry.release"),
        attributes,
    })
}

/// Levels with the least number that OpenTelemetry gives them.
const SEVERITIES: [(&str, i16); 6] = [("trace", 1), ("debug", 5), ("info", 9), ("warn", 13), ("error", 17), ("fatal", 21)];

/// Level and number; each stands for the other where that is missing or unknown.
fn severity(level: Option<&str>, number: Option<i64>) -> (&'static str, i16) {
    let number = number.and_then(|n| i16::try_from(n).ok()).filter(|n| (1..=24).contains(n));
    let by_name = level.and_then(|level| SEVERITIES.iter().find(|(name, _)| *name == level || (level == "warning" && *name == "warn")));
    let by_number = number.and_then(|n| SEVERITIES.iter().rev().find(|(_, least)| *least <= n));
    let (name, least) = by_name.or(by_number).copied().unwrap_or(("info", 9));
    (name, number.unwrap_or(least))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spans::tests::{item, outcomes};

    #[test]
    fn severities() {
        for (level, number, want) in [
            (Some("warn"), None, ("warn", 13)),
            (Some("warning"), None, ("warn", 13)),
            (Some("error"), Some(18), ("error", 18)),
            (Some("loud"), Some(22), ("fatal", 22)),
            (None, Some(4), ("trace", 4)),
            (None, Some(99), ("info", 9)),
            (None, None, ("info", 9)),
        ] {
            assert_eq!(severity(level, number), want, "{level:?} {number:?}");
        }
    }

    #[test]
    fn a_container_is_read_entry_by_entry() {
        let payload = r#"{"items":[
            {"timestamp":1795322892.5,"trace_id":"5b8efff798038103d269b633813fc60c","level":"info","body":"one","attributes":{
                "sentry.release":{"value":"r@1","type":"string"},"n":{"value":2,"type":"double"},"k":{"value":2,"type":"integer"},"l":{"value":["a"],"type":"array"}}},
            {"timestamp":"2026-11-22T04:41:49.672434174Z","level":"error","body":"two"},
            {"timestamp":"soon","level":"error","body":"three"}]}"#;
        let fact = logs(&item(r#"{"type":"log","item_count":3}"#, payload));
        let Rows::Logs { logs, item } = &fact.rows else { panic!("{fact:?}") };
        assert_eq!(
            logs.iter().map(|l| (l.body.as_str(), l.severity_number, l.timestamp_us)).collect::<Vec<_>>(),
            [("one", 9, 1_795_322_892_500_000), ("two", 17, 1_795_322_509_672_434)]
        );
        assert_eq!(
            (logs[0].release.as_deref(), logs[0].attributes.number.len(), logs[0].attributes.integer.len(), logs[0].attributes.text("l")),
            (Some("r@1"), 1, 1, Some("[\"a\"]"))
        );
        assert_ne!(logs[0].log_id, logs[1].log_id);
        assert_eq!(item.quantity, 2);
        let counted: Vec<_> = outcomes(&fact).into_iter().filter(|(_, _, category, _)| *category == 23).collect();
        assert_eq!(counted, [(3, Some("invalid_log".to_owned()), 23, 1), (0, None, 23, 2)]);
    }

    #[test]
    fn a_wrong_count_invalidates_the_container() {
        let fact = logs(&item(r#"{"type":"log","item_count":3}"#, r#"{"items":[]}"#));
        assert_eq!(outcomes(&fact)[0], (3, Some("invalid_log".to_owned()), 23, 3));
        assert_eq!(fact.rows, Rows::None);
    }
}
