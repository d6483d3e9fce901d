//! The container of version 2 spans: `{"items": […]}` with typed attributes.

use weir_protocol::json::Json;
use weir_protocol::limits::{SPAN_BYTES_MAX, SPAN_CONTAINER_COUNT_MAX};
use weir_protocol::outcome::Outcome;

use super::{attributes::platform, blank, category, counted, description, span_id, trace_id, typed_attributes, user_tag};
use crate::decode::Item;
use crate::error::user_hash;
use crate::normalise::clock::time_us;
use crate::rows::{OutcomeRow, SpanRow};

/// The spans, and the outcomes of those that are none; `None` where the count is not what the header says, or beyond the
/// bound (`spec/ingest.md` section 2.1), or nothing is there that an outcome could count.
pub(super) fn spans(item: &Item, json: &Json<'_>) -> Option<(Vec<SpanRow>, Vec<OutcomeRow>)> {
    let elements = json.get("items")?.as_array()?;
    if item.header.item_count != Some(elements.len() as u64) || elements.is_empty() || elements.len() > SPAN_CONTAINER_COUNT_MAX {
        return None;
    }
    // Only a container that is large as a whole can hold an element that is too large.
    let may_exceed = item.payload.len() > SPAN_BYTES_MAX;
    let (mut rows, mut outcomes) = (Vec::with_capacity(elements.len()), Vec::new());
    for element in elements {
        let fits = !may_exceed || element.to_string().len() <= SPAN_BYTES_MAX;
        match span(item, json, element).filter(|_| fits) {
            Some(row) => rows.push(row),
            None => outcomes.extend(counted(item, Outcome::Invalid, Some("invalid_span"), 1)),
        }
    }
    Some((rows, outcomes))
}

fn span(item: &Item, container: &Json<'_>, span: &Json<'_>) -> Option<SpanRow> {
    let shift = item.shift();
    let start_us = shift.us(time_us(span.get("start_timestamp")?)?);
    let end_us = super::end_us(start_us, shift.us(time_us(span.get("end_timestamp")?)?))?;
    let mut attributes = typed_attributes(span.get("attributes").and_then(Json::as_object));
    attributes.resolve_address(item, container);
    let text = |key: &str| attributes.text(key).map(str::to_owned);
    let name = super::owned(span.get("name"));
    let is_segment = span.get("is_segment").and_then(Json::as_bool).unwrap_or(false);
    let op = text("sentry.op").unwrap_or_else(|| "default".to_owned());
    let user = user_tag(&attributes);
    let mut row = blank(item, trace_id(span.get("trace_id"))?, span_id(span.get("span_id"))?, start_us, end_us);
    if !is_segment {
        row.segment_id = attributes.text("sentry.segment.id").and_then(super::span_id_of).or_else(|| span_id(span.get("segment_id"))).unwrap_or_default();
    }
    row.parent_span_id = span_id(span.get("parent_span_id"));
    row.is_segment = is_segment;
    row.transaction_name = text("sentry.segment.name").or_else(|| name.clone().filter(|_| is_segment)).unwrap_or_default();
    row.category = text("sentry.category").or_else(|| category(&op));
    row.op = op;
    row.description = text("sentry.description").or(name).unwrap_or_default();
    row.status = super::owned(span.get("status")).unwrap_or_else(|| "unknown".to_owned());
    row.environment = text("sentry.environment").or_else(|| text("environment"));
    row.release = text("sentry.release").or_else(|| text("release"));
    row.user_hash = user.as_deref().map(|user| user_hash(item.context.common.project_id as u64, user));
    row.user = user;
    row.http_status = attributes.integer("http.response.status_code").and_then(|status| i32::try_from(status).ok());
    row.platform = platform(&attributes);
    if let Some(exclusive_ms) = attributes.float("sentry.exclusive_time") {
        row.exclusive_ms = exclusive_ms;
    }
    row.attributes = attributes;
    description::add(&mut row);
    Some(row)
}
