//! The spans of a transaction, and whether it can be stored (`spec/ingest.md` section 3.3).

use weir_protocol::EventId;
use weir_protocol::json::{Json, Object};

use super::InvalidTransaction;
use super::clock::{self, Shift};
use super::fields::SPAN_FIELDS;
use super::note::Notes;
use super::path::Path;
use super::size::{EACH_BYTES, size};
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

fn normalise_one<'a>(span: &mut Object<'a>, shift: Shift, path: Path<'_>, trace_id: &str, (is_transaction, end): (bool, &Json<'a>), notes: &mut Notes<'a>) {
    for key in ["start_timestamp", "timestamp"] {
        let Some(us) = span.get(key).filter(|_| shift != Shift::NONE).and_then(clock::time_us) else { continue };
        span.insert(key, clock::seconds(shift.us(us)));
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

/// The operations whose time a transaction sums up, with what stands before a dot in theirs.
const OPERATIONS: [(&str, &str); 5] = [("http", "ops.http"), ("db", "ops.db"), ("browser", "ops.browser"), ("resource", "ops.resource"), ("ui", "ops.ui")];

/// Sums up how long operations took: time that several spans of one took at once counts once.
pub fn break_down(event: &mut Object<'_>) {
    let mut intervals: Vec<Vec<(i64, i64)>> = vec![Vec::new(); OPERATIONS.len()];
    for span in event.get("spans").and_then(Json::as_array).unwrap_or_default() {
        let op = span.str_at(&["op"]).unwrap_or_default();
        let Some(at) = OPERATIONS.iter().position(|(prefix, _)| op.starts_with(prefix)) else { continue };
        let time = |key| span.get(key).and_then(clock::time_us);
        intervals[at].extend(time("start_timestamp").zip(time("timestamp")));
    }
    let all: Vec<(i64, i64)> = intervals.iter().flatten().copied().collect();
    if all.is_empty() {
        return;
    }
    let named = intervals.into_iter().zip(OPERATIONS).filter(|(intervals, _)| !intervals.is_empty()).map(|(intervals, (_, name))| (name, intervals));
    let sums = named.chain([("total.time", all)]).map(|(name, intervals)| {
        let value = Json::Float(covered_us(intervals) as f64 / 1000.0);
        (name, Json::Object([("value", value), ("unit", Json::text("millisecond"))].into_iter().collect()))
    });
    let mut breakdowns = match event.remove("breakdowns") {
        Some(Json::Object(breakdowns)) => breakdowns,
        _ => Object::new(),
    };
    let mut summed = match breakdowns.remove("span_ops") {
        Some(Json::Object(given)) => given,
        _ => Object::new(),
    };
    sums.for_each(|(name, sum)| summed.insert(name, sum));
    breakdowns.insert("span_ops", Json::Object(summed));
    event.insert("breakdowns", Json::Object(breakdowns));
}

/// How much time at least one of the intervals covers.
fn covered_us(mut intervals: Vec<(i64, i64)>) -> i64 {
    intervals.sort_unstable();
    let (mut covered, mut reached) = (0, i64::MIN);
    for (start, end) in intervals {
        let start = start.max(reached);
        if end > start {
            covered += end - start;
            reached = end;
        }
    }
    covered
}

/// Leaves out the last spans, where all together are too large. Fields that are not there count as well.
fn cut<'a>(spans: &mut Vec<Json<'a>>, path: Path<'_>, notes: &mut Notes<'a>) {
    let mut used = 0;
    let begun = spans.iter().take_while(|span| {
        let has_room = used < BYTES_MAX;
        let absent = SPAN_FIELDS.fields.len().saturating_sub(span.as_object().map_or(0, Object::len));
        used += size(span) + EACH_BYTES + absent * EACH_BYTES;
        has_room
    });
    let count = begun.count();
    if count < spans.len() {
        notes.move_elements(path, |index| (index < count).then_some(index));
        notes.length(path, spans.len());
        spans.truncate(count);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_of_too_many_spans_go() {
        let span = format!(
            r#"{{"trace_id":"{}","span_id":"{}","start_timestamp":1799999998.1,"timestamp":1799999998.2,"op":"default","description":"{}"}}"#,
            "a".repeat(32),
            "b".repeat(16),
            "x".repeat(990)
        );
        let text = format!(r#"{{"spans":[{}]}}"#, vec![span; 900].join(","));
        let mut event = Json::parse(text.as_bytes()).unwrap();
        let mut notes = Notes::default();
        normalise(event.as_object_mut().unwrap(), Shift::NONE, EventId([7; 16]), true, &mut notes);
        assert_eq!(event.get("spans").and_then(Json::as_array).map(<[Json<'_>]>::len), Some(743));
        assert!(notes.has(Path::Root.key("spans")));
    }
}
