//! A single span of the older form, sent on its own.

use weir_protocol::json::Json;

use super::{blank, category, description, json_attributes, owned, span_id, trace_id, user_tag};
use crate::decode::Item;
use crate::error::user_hash;
use crate::normalise::clock::time_us;
use crate::rows::SpanRow;

/// The span; `None` where it lacks an id or a time, or ends before it starts.
pub(super) fn span(item: &Item, span: &Json<'_>) -> Option<SpanRow> {
    let shift = item.shift();
    let start_us = shift.us(time_us(span.get("start_timestamp")?)?);
    let end_us = super::end_us(start_us, shift.us(time_us(span.get("timestamp")?)?))?;
    let mut attributes = json_attributes(span.get("data").and_then(Json::as_object));
    attributes.resolve_address(item, span);
    let text = |key: &str| attributes.text(key).map(str::to_owned);
    let op = owned(span.get("op")).or_else(|| text("sentry.op")).unwrap_or_else(|| "default".to_owned());
    let user = user_tag(&attributes);
    let mut row = blank(item, trace_id(span.get("trace_id"))?, span_id(span.get("span_id"))?, start_us, end_us);
    row.is_segment = span.get("is_segment").and_then(Json::as_bool).unwrap_or(false);
    if let Some(segment) = span_id(span.get("segment_id")) {
        row.segment_id = segment;
    }
    row.parent_span_id = span_id(span.get("parent_span_id"));
    row.transaction_name = text("transaction").or_else(|| text("sentry.transaction")).unwrap_or_default();
    row.category = category(&op);
    row.op = op;
    row.description = owned(span.get("description")).unwrap_or_default();
    row.status = owned(span.get("status")).unwrap_or_else(|| "unknown".to_owned());
    if let Some(exclusive_ms) = span.get("exclusive_time").and_then(Json::as_f64) {
        row.exclusive_ms = exclusive_ms;
    }
    row.environment = text("environment").or_else(|| text("sentry.environment"));
    row.release = text("release").or_else(|| text("sentry.release"));
    row.user_hash = user.as_deref().map(|user| user_hash(item.context.common.project_id as u64, user));
    row.user = user;
    row.http_status = attributes.integer("http.response.status_code").and_then(|status| i32::try_from(status).ok());
    row.measurements = super::transaction::measurements(span.get("measurements"));
    row.attributes = attributes;
    description::add(&mut row);
    Some(row)
}
