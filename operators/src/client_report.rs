//! Client reports: what an SDK dropped before it sent anything (`spec/ingest.md` section 6).

use weir_protocol::Category;
use weir_protocol::category::number_of;
use weir_protocol::json::Json;
use weir_protocol::outcome::{Outcome, clean_reason};

use crate::decode::Item;
use crate::deduplicate::Identity;
use crate::fact::{Fact, Rows};
use crate::normalise::clock::time_us;
use crate::rows::{ItemRow, OutcomeRow};

/// Reasons of the client that are kept; others count without a reason.
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
/// A report that is dated later than this after its receipt says nothing.
const FUTURE_MS_MAX: i64 = 86_400_000;
/// A line that says more is not believed: sums over many reports must stay in range.
const QUANTITY_MAX: u64 = u32::MAX as u64;
/// Lines of a report that are read; there are about as many reasons as categories.
const LINES_MAX: usize = 1000;

/// The fact that a `client_report` item states: outcomes, and no row of its own.
pub fn client_report(item: &Item) -> Fact {
    let Ok(json @ Json::Object(_)) = Json::parse(&item.payload) else {
        return item.fact(Rows::None, vec![item.context.outcome(Outcome::Invalid, Some("invalid_json"), Category::Unknown, 1)]);
    };
    let received_ms = item.context.common.received_ms;
    let timestamp_ms = json.get("timestamp").and_then(time_us).map_or(received_ms, |us| us / 1000);
    let mut outcomes = Vec::new();
    if timestamp_ms <= received_ms + FUTURE_MS_MAX {
        for (list, outcome) in [
            ("discarded_events", Outcome::ClientDiscard),
            ("rate_limited_events", Outcome::RateLimited),
            ("filtered_events", Outcome::Filtered),
            ("filtered_sampling_events", Outcome::Filtered),
        ] {
            let lines = json.get(list).and_then(Json::as_array).unwrap_or_default();
            outcomes.extend(lines.iter().take(LINES_MAX).filter_map(|line| reported(item, line, outcome, timestamp_ms)));
        }
    }
    let digest = item.digest();
    let report = ItemRow { common: item.context.common.clone(), item_id: digest, type_: "client_report".to_owned(), quantity: outcomes.len() as i64 };
    let identity = Some(Identity::payload(item.context.common.project_id as u64, digest));
    Fact { identity, ..item.fact(Rows::Report(Box::new(report)), outcomes) }
}

fn reported(item: &Item, line: &Json<'_>, outcome: Outcome, timestamp_ms: i64) -> Option<OutcomeRow> {
    line.as_object()?;
    let quantity = line.get("quantity").map_or(Some(1), Json::as_u64).filter(|quantity| (1..=QUANTITY_MAX).contains(quantity))?;
    let reason = line.str_at(&["reason"]).map(clean_reason).filter(|reason| outcome != Outcome::ClientDiscard || REASONS.contains(&reason.as_str()));
    let category = line.get("category").and_then(Json::as_str).map_or(Category::Error.number(), number_of);
    let mut row = item.context.outcome(outcome, None, Category::Unknown, quantity);
    row.reason = reason;
    row.category = category;
    row.timestamp_ms = timestamp_ms;
    row.event_id = None;
    Some(row)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spans::tests::{item, outcomes, recorded_fact};

    fn check(payload: &str, want: &[(i16, Option<&str>, i16, i64)]) {
        let fact = client_report(&item(r#"{"type":"client_report"}"#, payload));
        let want: Vec<_> = want.iter().map(|(o, r, c, q)| (*o, r.map(str::to_owned), *c, *q)).collect();
        assert_eq!(outcomes(&fact), want, "{payload}");
    }

    #[test]
    fn lines_become_outcomes() {
        check(
            r#"{"timestamp":1795323021.253,"discarded_events":[{"reason":"before_send","category":"error","quantity":1},{"reason":"odd","category":"span","quantity":7}],
                "rate_limited_events":[{"reason":"org_quota","category":"transaction","quantity":2}],"filtered_sampling_events":[{"reason":"Sampled:3000"}]}"#,
            &[(5, Some("before_send"), 1, 1), (5, None, 12, 7), (2, Some("org_quota"), 2, 2), (1, Some("Sampled:3000"), 1, 1)],
        );
        check(r#"{"discarded_events":[{"category":"no such"},5,{"quantity":-1},{"quantity":0}]}"#, &[(5, None, -1, 1)]);
        check("{}", &[]);
        check(r#"{"timestamp":1895323021,"discarded_events":[{"quantity":1}]}"#, &[]);
        check("nonsense", &[(3, Some("invalid_json"), -1, 1)]);
    }

    #[test]
    fn what_sdks_sent() {
        let check = |name: &str, want: &[(&str, i16, i64)]| {
            let fact = recorded_fact(name, "client_report");
            let want: Vec<_> = want.iter().map(|(reason, category, quantity)| (5, Some((*reason).to_owned()), *category, *quantity)).collect();
            assert_eq!(outcomes(&fact), want, "{name}");
            assert!(fact.outcomes.iter().all(|row| row.event_id.is_none() && row.timestamp_ms < row.common.received_ms), "{name}");
        };
        check("browser_client_report", &[("before_send", 1, 1), ("event_processor", 1, 2)]);
        check("py_client_report", &[("event_processor", 1, 1)]);
        check("java_event_client_report", &[("before_send", 1, 3), ("event_processor", 12, 2), ("event_processor", 2, 1)]);
        check("go_event_client_report", &[("before_send", 1, 3), ("sample_rate", 2, 1), ("sample_rate", 12, 2)]);
    }

    #[test]
    fn a_repeated_report_counts_nothing() {
        let fact = client_report(&item(r#"{"type":"client_report"}"#, r#"{"discarded_events":[{"quantity":1}]}"#)).into_duplicate();
        assert!(fact.outcomes.is_empty());
    }
}
