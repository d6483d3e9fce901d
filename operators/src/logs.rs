//! Logs: a container of entries with typed attributes.

use weir_protocol::Category;
use weir_protocol::json::Json;
use weir_protocol::limits::LOG_BYTES_MAX;
use weir_protocol::outcome::Outcome;

use crate::decode::Item;
use crate::deduplicate::Identity;
use crate::fact::{Fact, Rows};
use crate::normalise::clock::{Shift, time_us};
use crate::rows::{ItemRow, LogRow, OutcomeRow};
use crate::spans::{span_id_of, trace_id, typed_attributes};

/// The fact that a `log` item states.
pub fn logs(item: &Item) -> Fact {
    let Ok(json @ Json::Object(_)) = Json::parse(&item.payload) else { return item.refused("invalid_json") };
    let Some(elements) = json.get("items").and_then(Json::as_array).filter(|items| !items.is_empty() && item.header.item_count == Some(items.len() as u64))
    else {
        // An empty container has nothing else that an outcome could count.
        return item.refused("invalid_log");
    };
    let may_exceed = item.payload.len() > LOG_BYTES_MAX;
    let shift = item.shift();
    let (mut logs, mut outcomes) = (Vec::with_capacity(elements.len()), Vec::new());
    let mut refused_bytes = 0;
    for (index, element) in elements.iter().enumerate() {
        let fits = !may_exceed || element.to_string().len() <= LOG_BYTES_MAX;
        match log(item, &json, shift, index as u64, element).filter(|_| fits) {
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

fn log(item: &Item, container: &Json<'_>, shift: Shift, index: u64, log: &Json<'_>) -> Option<LogRow> {
    let mut attributes = typed_attributes(log.get("attributes").and_then(Json::as_object));
    attributes.resolve_address(item, container);
    let text = |key: &str| attributes.text(key).map(str::to_owned);
    let (severity, severity_number) = severity(log.str_at(&["level"]), log.get("severity_number").and_then(Json::as_i64));
    let span_id = log.str_at(&["span_id"]).and_then(span_id_of).or_else(|| span_id_of(attributes.text("sentry.trace.parent_span_id")?));
    Some(LogRow {
        common: item.context.common.clone(),
        log_id: item.made_id(index),
        timestamp_us: shift.us(time_us(log.get("timestamp")?)?),
        trace_id: trace_id(log.get("trace_id")),
        span_id,
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
    use crate::spans::tests::{item, outcomes, recorded, recorded_fact};

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
        for (count, quantity) in [(3, 3), (0, 1)] {
            let fact = logs(&item(&format!(r#"{{"type":"log","item_count":{count}}}"#), r#"{"items":[]}"#));
            let reason = Some("invalid_log".to_owned());
            assert_eq!(outcomes(&fact), [(3, reason.clone(), 23, quantity), (3, reason, 24, 12)], "{count}");
            assert_eq!(fact.rows, Rows::None);
        }
    }

    #[test]
    fn a_log_over_its_limit_is_refused_alone() {
        let payload = format!(r#"{{"items":[{{"timestamp":1,"body":"a"}},{{"timestamp":1,"body":"{}"}}]}}"#, "x".repeat(LOG_BYTES_MAX));
        let fact = logs(&item(r#"{"type":"log","item_count":2}"#, &payload));
        let counted: Vec<_> = outcomes(&fact).into_iter().map(|(outcome, _, category, quantity)| (outcome, category, quantity)).collect();
        let large = LOG_BYTES_MAX as i64 + 25;
        assert_eq!(counted, [(3, 23, 1), (3, 24, large), (0, 23, 1), (0, 24, payload.len() as i64 - large)]);
    }

    #[test]
    fn ids_of_spans() {
        let check = |members: &str, want: Option<&str>| {
            let fact = logs(&item(r#"{"type":"log","item_count":1}"#, &format!(r#"{{"items":[{{"timestamp":1,"body":"b",{members}}}]}}"#)));
            let Rows::Logs { logs, .. } = &fact.rows else { panic!("{fact:?}") };
            assert_eq!((logs[0].span_id.as_deref(), logs[0].trace_id), (want, None), "{members}");
        };
        let attribute = r#""attributes":{"sentry.trace.parent_span_id":{"value":"ad43e76f22fb266f","type":"string"}}"#;
        check(r#""span_id":"88BDFCCF0570c70c""#, Some("88bdfccf0570c70c"));
        check(&format!(r#""span_id":"",{attribute}"#), Some("ad43e76f22fb266f"));
        check(r#""span_id":"0000000000000000","trace_id":"00000000000000000000000000000000""#, None);
    }

    /// Every recorded envelope with logs: how many rows, their levels, environment and release; all of them accepted.
    #[test]
    fn what_sdks_sent() {
        let check = |name: &str, count: usize, severities: &str, environment: &str, release: &str| {
            let bytes = recorded(name).into_iter().find(|item| item.header.item_type.name() == "log").unwrap().payload.len();
            let fact = recorded_fact(name, "log");
            assert_eq!(outcomes(&fact), [(0, None, 23, count as i64), (0, None, 24, bytes as i64)], "{name}");
            let Rows::Logs { logs, item } = &fact.rows else { panic!("{fact:?}") };
            assert_eq!((logs.len(), item.quantity), (count, count as i64), "{name}");
            let got: std::collections::BTreeSet<&str> = logs.iter().map(|row| row.severity.as_str()).collect();
            assert_eq!(got.into_iter().collect::<Vec<_>>().join(" "), severities, "{name}");
            for row in logs {
                assert_eq!((row.environment.as_deref(), row.release.as_deref()), (Some(environment), Some(release)), "{name}");
                assert!(row.trace_id.is_some() && !row.body.is_empty(), "{name}: {row:?}");
            }
        };
        check("browser_log_batch7", 7, "debug error fatal info trace warn", "production", "web-shop@3.1.0");
        check("go_log_batch6", 6, "debug error fatal info trace warn", "production", "stock-api@1.9.0");
        check("java_log_batch8", 8, "debug error fatal info trace warn", "production", "order-service@2.7.1+build.48");
        check("node_log_batch15", 15, "info", "production", "web-bff@5.0.2");
        check("py_log_batch41", 41, "error info warn", "production", "shop-api@2.4.1+build.77");
        check("rust_log", 1, "info", "prod", "indexer@0.9.0");
    }
}
