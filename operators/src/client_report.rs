//! Client reports: what an SDK dropped before it could be sent (`spec/ingest.md` section 6).

use weir_protocol::category::{Category, number_of};
use weir_protocol::json::Json;
use weir_protocol::outcome::Outcome;

use crate::decode::Item;
use crate::fact::{Fact, Rows};
use crate::normalise::clock::time_us;
use crate::rows::OutcomeRow;

/// A report that is further ahead than this is not believed.
const FUTURE_MS_MAX: i64 = 86_400_000;
/// One entry counts at most this much, so that no client can make sums overflow.
const QUANTITY_MAX: u64 = u32::MAX as u64;

/// The lists of a report, and how what they count ended. Reasons of the first are kept only where they are known ones.
const LISTS: [(&str, Outcome); 4] = [
    ("discarded_events", Outcome::ClientDiscard),
    ("rate_limited_events", Outcome::RateLimited),
    ("filtered_events", Outcome::Filtered),
    ("filtered_sampling_events", Outcome::Filtered),
];

/// Reasons for which SDKs discard.
const REASONS: [&str; 15] = [
    "backpressure",
    "before_send",
    "buffer_overflow",
    "cache_overflow",
    "event_processor",
    "ignored",
    "insufficient_data",
    "internal_sdk_error",
    "invalid",
    "network_error",
    "no_parent_span",
    "queue_overflow",
    "ratelimit_backoff",
    "sample_rate",
    "send_error",
];

/// The outcomes that a report tells of. A report counts as nothing itself: one that cannot be read, or that comes from the
/// future, leaves nothing. It is never a duplicate.
pub fn client_report(item: &Item) -> Fact {
    let Ok(report @ Json::Object(_)) = Json::parse(&item.payload) else { return item.refused("invalid_json") };
    let received_ms = item.context.common.received_ms;
    let timestamp_ms = report.get("timestamp").and_then(time_us).map_or(received_ms, |us| us.div_euclid(1000));
    if timestamp_ms > received_ms.saturating_add(FUTURE_MS_MAX) {
        return item.refused("timestamp");
    }
    let mut outcomes = Vec::new();
    for (list, outcome) in LISTS {
        let entries = report.get(list).and_then(Json::as_array).unwrap_or_default();
        outcomes.extend(entries.iter().filter_map(|entry| row(entry, outcome, timestamp_ms, item)));
    }
    item.fact(Rows::None, outcomes)
}

/// An entry counts once where it says nothing else, as an error where it names no category, and not at all where its quantity
/// is 0 or no whole number.
fn row(entry: &Json<'_>, outcome: Outcome, timestamp_ms: i64, item: &Item) -> Option<OutcomeRow> {
    let entry = entry.as_object()?;
    let quantity = match entry.get("quantity") {
        None => 1,
        Some(quantity) => quantity.as_u64().filter(|n| *n > 0)?.min(QUANTITY_MAX),
    };
    let category = match entry.get("category") {
        None => Category::Error.number(),
        Some(category) => number_of(category.as_str().unwrap_or_default()),
    };
    let given = entry.get("reason").and_then(Json::as_str).filter(|reason| !reason.is_empty());
    let reason = given.filter(|reason| outcome != Outcome::ClientDiscard || REASONS.contains(reason));
    let row = item.context.outcome(outcome, reason, Category::Unknown, quantity);
    Some(OutcomeRow { timestamp_ms, category, event_id: None, ..row })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::recorded::{RECEIVED_MS, item, items, outcomes};

    fn report(payload: &str) -> Fact {
        client_report(&item(r#"{"type":"client_report"}"#, payload))
    }

    #[test]
    fn lists() {
        let check = |payload: &str, want: &str| assert_eq!(outcomes(&report(payload)), want, "{payload}");
        let entry = r#"[{"reason":"before_send","category":"transaction","quantity":2}]"#;
        check(&format!(r#"{{"discarded_events":{entry}}}"#), "5 before_send transaction=2");
        check(&format!(r#"{{"rate_limited_events":{entry}}}"#), "2 before_send transaction=2");
        check(&format!(r#"{{"filtered_events":{entry}}}"#), "1 before_send transaction=2");
        check(r#"{"filtered_sampling_events":[{"reason":"Sampled:1000,3000","category":"span","quantity":7}]}"#, "1 Sampled:1000,3000 span=7");
        check(r#"{"discarded_events":[{"reason":"mine"}]}"#, "5 error=1");
        check(r#"{"rate_limited_events":[{"reason":"mine"}]}"#, "2 mine error=1");
        check(r#"{"discarded_events":[{"reason":"invalid","category":"internal"}]}"#, "5 invalid unknown=1");
        check(r#"{"discarded_events":[{"category":7},{"category":null}]}"#, "5 unknown=1, 5 error=1");
        check(r#"{"discarded_events":[{"quantity":0},{"quantity":-1},{"quantity":1.5},{"quantity":"1"},7,null]}"#, "");
        check(r#"{"discarded_events":[{"quantity":18446744073709551615}]}"#, "5 error=4294967295");
        check(r#"{"discarded_events":{}}"#, "");
        check("{}", "");
        check("[]", "");
        check("{", "");
    }

    #[test]
    fn times() {
        let check = |timestamp: &str, want: Option<i64>| {
            let fact = report(&format!(r#"{{"timestamp":{timestamp},"discarded_events":[{{}}]}}"#));
            assert_eq!(fact.outcomes.first().map(|row| row.timestamp_ms), want, "{timestamp}");
        };
        let received = RECEIVED_MS as i64;
        check("null", Some(received));
        check(r#""soon""#, Some(received));
        check("1795309178.4267528", Some(1_795_309_178_426));
        check(r#""2026-11-22T04:41:50.025437101Z""#, Some(1_795_322_510_025));
        check(&(received / 1000 + 86_400).to_string(), Some(received + FUTURE_MS_MAX));
        check(&(received / 1000 + 86_401).to_string(), None);
    }

    #[test]
    fn recorded_reports() {
        let check = |name: &str, want: &str| {
            let item = items(name).into_iter().find(|item| item.header.item_type.name() == "client_report").unwrap();
            let fact = client_report(&item);
            assert_eq!(outcomes(&fact), want, "{name}");
            assert!(fact.outcomes.iter().all(|row| row.timestamp_ms < RECEIVED_MS as i64 && row.event_id.is_none()), "{name}");
            assert_eq!(fact.identity, None, "{name}");
        };
        check("browser_client_report", "5 before_send error=1, 5 event_processor error=2");
        check("py_client_report", "5 event_processor error=1");
        check("java_event_client_report", "5 before_send error=3, 5 event_processor span=2, 5 event_processor transaction=1");
        check("go_event_client_report", "5 before_send error=3, 5 sample_rate transaction=1, 5 sample_rate span=2");
    }
}
