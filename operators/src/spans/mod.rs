//! Spans, in the three forms in which SDKs send them: with their transaction, in containers, or one alone.

mod attributes;
mod container;
mod description;
mod legacy;
mod transaction;

#[cfg(test)]
pub(crate) mod tests;

pub use transaction::transaction;

pub(crate) use attributes::{json_attributes, typed_attributes, user_tag};

use weir_protocol::Category;
use weir_protocol::ids::{parse_hex8, parse_hex16};
use weir_protocol::json::Json;
use weir_protocol::outcome::Outcome;

use crate::decode::Item;
use crate::deduplicate::Identity;
use crate::fact::{Fact, Rows};
use crate::rows::{ItemRow, OutcomeRow, SpanRow};

/// The spans of a `span` item: a container of version 2, or a single one of the older form.
pub fn spans(item: &Item) -> Fact {
    let Ok(json @ Json::Object(_)) = Json::parse(&item.payload) else { return item.refused("invalid_json") };
    let (spans, mut outcomes) = if json.get("items").is_some() {
        match container::spans(item, &json) {
            Some(read) => read,
            None => return item.refused("invalid_span"),
        }
    } else {
        match legacy::span(item, &json) {
            Some(span) => (vec![span], Vec::new()),
            None => return item.refused("invalid_span"),
        }
    };
    if spans.is_empty() {
        return item.fact(Rows::None, outcomes);
    }
    outcomes.extend(counted(item, Outcome::Accepted, None, spans.len() as u64));
    let digest = item.digest();
    let stored = ItemRow { common: item.context.common.clone(), item_id: digest, type_: "span".to_owned(), quantity: spans.len() as i64 };
    let identity = Some(Identity::payload(item.context.common.project_id as u64, digest));
    Fact { identity, ..item.fact(Rows::Spans { spans, item: Box::new(stored) }, outcomes) }
}

/// Spans count in two categories.
fn counted(item: &Item, outcome: Outcome, reason: Option<&str>, quantity: u64) -> [OutcomeRow; 2] {
    [Category::Span, Category::SpanIndexed].map(|category| item.context.outcome(outcome, reason, category, quantity))
}

/// A trace id out of its text, in lower case and without hyphens.
pub(crate) fn trace_id_of(text: &str) -> Option<String> {
    parse_hex16(text).map(|id| weir_protocol::ids::hex(&id))
}

/// A trace id that is not all zeros.
pub(crate) fn trace_id(value: Option<&Json<'_>>) -> Option<[u8; 16]> {
    parse_hex16(value?.as_str()?).filter(|id| *id != [0; 16])
}

/// A span id that is not all zeros, in lower case.
fn span_id(value: Option<&Json<'_>>) -> Option<String> {
    span_id_of(value?.as_str()?)
}

/// A span id out of its text.
pub(crate) fn span_id_of(text: &str) -> Option<String> {
    parse_hex8(text).filter(|id| *id != 0).map(|id| format!("{id:016x}"))
}

/// The category of an operation: what stands before its first dot.
fn category(op: &str) -> Option<String> {
    let first = op.split('.').next().unwrap_or_default();
    (!first.is_empty() && first != "default").then(|| first.to_owned())
}

/// One over the sample rates; a rate outside (0, 1] counts as 1 (`spec/storage-query.md` section 1).
fn sample_weight(client: f64, server: f64) -> f64 {
    let rate = |rate: f64| if rate > 0.0 && rate <= 1.0 { rate } else { 1.0 };
    1.0 / (rate(client) * rate(server))
}

fn duration_ms(start_us: i64, end_us: i64) -> f64 {
    (end_us - start_us) as f64 / 1000.0
}

/// When a span ended. A start up to a microsecond after it is an effect of notation (Rust sends starts as floats and ends as
/// text with nine digits) and counts as the end; one later than that makes the span invalid.
pub(crate) fn end_us(start_us: i64, end_us: i64) -> Option<i64> {
    (start_us - end_us <= 1).then(|| end_us.max(start_us))
}

fn owned(value: Option<&Json<'_>>) -> Option<String> {
    value.and_then(Json::as_str).filter(|text| !text.is_empty()).map(str::to_owned)
}

/// A row of which the caller fills what it knows.
fn blank(item: &Item, trace_id: [u8; 16], span_id: String, start_us: i64, end_us: i64) -> SpanRow {
    let duration_ms = duration_ms(start_us, end_us);
    SpanRow {
        common: item.context.common.clone(),
        trace_id,
        segment_id: span_id.clone(),
        span_id,
        parent_span_id: None,
        is_segment: false,
        transaction_name: String::new(),
        op: String::new(),
        category: None,
        description: String::new(),
        status: "unknown".to_owned(),
        start_us,
        end_us,
        duration_ms,
        exclusive_ms: duration_ms,
        environment: None,
        release: None,
        user_hash: None,
        http_status: None,
        measurements: Vec::new(),
        attributes: Default::default(),
        client_sample_rate: item.context.sample_rate.unwrap_or(1.0),
        server_sample_rate: 1.0,
        sample_weight: sample_weight(item.context.sample_rate.unwrap_or(1.0), 1.0),
        event_id: None,
        user: None,
        platform: None,
    }
}
