//! The spans of a transaction, and whether it can be stored (`spec/ingest.md` section 3.3).

use weir_protocol::EventId;
use weir_protocol::json::{Json, Object};

use super::InvalidTransaction;
use super::clock::{self, Shift};
use super::note::Notes;
use super::path::Path;
use crate::spans::end_us;

/// The spans of a transaction together are kept up to this size; the rest is left out.
const BYTES_MAX: usize = 819_200;

/// Whether a transaction whose fields were read has what it needs. An end that is missing is the receipt's time; a child
/// without an end is kept (Java leaves the end out of spans that were not finished).
pub fn validate(event: &Object<'_>) -> Result<(), InvalidTransaction> {
    let start = time(event, "start_timestamp").ok_or(InvalidTransaction("a start"))?;
    let end = time(event, "timestamp").ok_or(InvalidTransaction("an end"))?;
    end_us(start, end).ok_or(InvalidTransaction("an end after its start"))?;
    let trace = event.get("contexts").and_then(|contexts| contexts.get("trace")).and_then(Json::as_object).ok_or(InvalidTransaction("a trace"))?;
    ids(trace)?;
    for span in event.get("spans").and_then(Json::as_array).unwrap_or_default() {
        let span = span.as_object().ok_or(InvalidTransaction("a span that is one"))?;
        let start = time(span, "start_timestamp").ok_or(InvalidTransaction("the start of a span"))?;
        if let Some(end) = time(span, "timestamp") {
            end_us(start, end).ok_or(InvalidTransaction("the end of a span after its start"))?;
        }
        ids(span)?;
    }
    Ok(())
}

fn ids(holder: &Object<'_>) -> Result<(), InvalidTransaction> {
    holder.get("trace_id").ok_or(InvalidTransaction("a trace id"))?;
    holder.get("span_id").ok_or(InvalidTransaction("a span id"))?;
    Ok(())
}

fn time(holder: &Object<'_>, key: &str) -> Option<i64> {
    holder.get(key).and_then(clock::time_us)
}

/// Gives spans what they lack, and moves their times as the event's are moved.
pub fn normalise<'a>(event: &mut Object<'a>, shift: Shift, event_id: EventId, is_transaction: bool, notes: &mut Notes<'a>) {
    if is_transaction && event.get("spans").is_none() {
        event.insert("spans", Json::Array(Vec::new()));
    }
    let end = event.get("timestamp").cloned().unwrap_or_default();
    let trace_id = event_id.to_string();
    let Some(Json::Array(spans)) = event.get_mut("spans") else { return };
    let path = Path::Root.key("spans");
    for (index, span) in spans.iter_mut().enumerate() {
        if let Json::Object(span) = span {
            normalise_one(span, shift, path.index(index), &trace_id, (is_transaction, &end), notes);
        }
    }
    cut(spans, path, notes);
}

fn normalise_one<'a>(
    span: &mut Object<'a>,
    shift: Shift,
    path: Path<'_>,
    trace_id: &str,
    (is_transaction, end): (bool, &Json<'a>),
    notes: &mut Notes<'a>,
) {
    for key in ["start_timestamp", "timestamp"] {
        let Some(moved) = span.get(key).filter(|_| shift != Shift::NONE).and_then(|value| shift.moved(value)) else { continue };
        span.insert(key, moved);
    }
    if span.get("trace_id").and_then(Json::as_str).is_some_and(|id| id.bytes().all(|byte| byte == b'0')) {
        notes.remark(path.key("trace_id"), "nil_trace_id", "s");
        span.insert("trace_id", Json::text(trace_id.to_owned()));
    }
    if !is_transaction {
        return;
    }
    if span.get("timestamp").is_none() {
        span.insert("timestamp", end.clone());
        span.insert("status", Json::text("deadline_exceeded"));
    }
    if span.get("op").is_none() {
        span.insert("op", Json::text("default"));
    }
}

/// Leaves out the last spans, where all together are too large.
fn cut<'a>(spans: &mut Vec<Json<'a>>, path: Path<'_>, notes: &mut Notes<'a>) {
    let mut left = BYTES_MAX;
    let fitting = spans.iter().take_while(|span| {
        let size = super::size::size(span) + super::size::EACH_BYTES;
        let fits = size <= left;
        left = left.saturating_sub(size);
        fits
    });
    let count = fitting.count();
    if count < spans.len() {
        notes.move_elements(path, |index| (index < count).then_some(index));
        notes.length(path, spans.len());
        spans.truncate(count);
    }
}
