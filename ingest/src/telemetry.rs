//! The metrics of the doors.
//!
//! | metric | kind | labels | meaning |
//! |---|---|---|---|
//! | `ingest_requests_total` | counter | `door`, `status` | requests answered; `door` is `none` for paths that lead nowhere |
//! | `ingest_request_seconds` | histogram | `door` | from the head of a request to its answer |
//! | `ingest_bytes_total` | counter | | bytes of bodies read, as they came |
//! | `ingest_items_total` | counter | `type` | items framed; types that are not known count as `unknown`, those only a server makes as `internal` |
//! | `ingest_bodies_in_flight_bytes` | gauge | | bytes that bodies take in memory |
//! | `ingest_refusals_unrecorded_total` | counter | | refused requests whose outcome did not reach the journal |

use std::time::Duration;

use axum::http::StatusCode;
use metrics::{Unit, counter, describe_counter, describe_gauge, describe_histogram, gauge, histogram};

use weir_protocol::envelope::{Item, ItemType};

/// Gives the metrics their descriptions.
pub(crate) fn describe() {
    describe_counter!("ingest_requests_total", "Requests answered, by door and status");
    describe_histogram!("ingest_request_seconds", Unit::Seconds, "Time from the head of a request to its answer");
    describe_counter!("ingest_bytes_total", Unit::Bytes, "Bytes of bodies read, as they came");
    describe_counter!("ingest_items_total", "Items framed, by type");
    describe_gauge!("ingest_bodies_in_flight_bytes", Unit::Bytes, "Bytes that bodies take in memory");
    describe_counter!("ingest_refusals_unrecorded_total", "Refused requests whose outcome did not reach the journal");
}

pub(crate) fn answered(door: &'static str, status: StatusCode, took: Duration) {
    counter!("ingest_requests_total", "door" => door, "status" => status.as_str().to_owned()).increment(1);
    histogram!("ingest_request_seconds", "door" => door).record(took.as_secs_f64());
}

pub(crate) fn read(bytes: usize) {
    counter!("ingest_bytes_total").increment(bytes as u64);
}

pub(crate) fn framed(items: &[Item]) {
    for item in items {
        counter!("ingest_items_total", "type" => known_name(&item.header.item_type)).increment(1);
    }
}

pub(crate) fn bodies_in_flight(change: f64) {
    gauge!("ingest_bodies_in_flight_bytes").increment(change);
}

pub(crate) fn refusal_unrecorded() {
    counter!("ingest_refusals_unrecorded_total").increment(1);
}

/// The name of a type; names from outside would let anybody make up labels.
fn known_name(item_type: &ItemType) -> &'static str {
    match item_type {
        ItemType::Event => "event",
        ItemType::Transaction => "transaction",
        ItemType::Span => "span",
        ItemType::Log => "log",
        ItemType::TraceMetric => "trace_metric",
        ItemType::Session => "session",
        ItemType::Sessions => "sessions",
        ItemType::CheckIn => "check_in",
        ItemType::Profile => "profile",
        ItemType::ProfileChunk => "profile_chunk",
        ItemType::ReplayEvent => "replay_event",
        ItemType::ReplayRecording => "replay_recording",
        ItemType::ReplayVideo => "replay_video",
        ItemType::UserReport => "user_report",
        ItemType::Feedback => "feedback",
        ItemType::ClientReport => "client_report",
        ItemType::Attachment => "attachment",
        ItemType::Statsd => "statsd",
        ItemType::MetricBuckets => "metric_buckets",
        ItemType::Internal(_) => "internal",
        ItemType::Unknown(_) => "unknown",
    }
}
