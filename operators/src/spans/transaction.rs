//! A transaction: the segment with its spans in one event (`spec/ingest.md` section 3.3).

use weir_protocol::json::{Json, Object};
use weir_protocol::outcome::Outcome;
use weir_protocol::{Category, EventId};

use super::{blank, category, counted, description, json_attributes, owned, sample_weight, span_id};
use crate::decode::Item;
use crate::deduplicate::Identity;
use crate::error::{tags, user_hash};
use crate::fact::{Fact, Rows};
use crate::interpret::{Knowledge, event_context, payload_row};
use crate::normalise;
use crate::normalise::clock::time_us;
use crate::normalise::transaction::UNLABELED;
use crate::rows::{OutcomeRow, Pairs, SpanRow};

/// The fact that a `transaction` item states.
pub fn transaction(item: &Item, knowledge: &Knowledge) -> Fact {
    let Ok(mut json @ Json::Object(_)) = Json::parse(&item.payload) else { return refused(item, "invalid_json", 0) };
    let children = json.get("spans").and_then(Json::as_array).map_or(0, <[Json<'_>]>::len);
    let context = event_context(item, knowledge);
    if let Some(object) = json.as_object_mut() {
        object.insert("type", Json::text("transaction"));
    }
    if normalise::event(&mut json, &context).is_err() {
        return refused(item, "invalid_transaction", children);
    }
    let spans = rows(item, &json, context.event_id);
    // A start that has no place on the server's clock is found out only now.
    if spans.is_empty() {
        return refused(item, "invalid_transaction", children);
    }
    let cut_off = (children + 1).saturating_sub(spans.len()) as u64;
    let payload = payload_row(item, context.event_id, "transaction", &json);
    let mut outcomes: Vec<OutcomeRow> =
        [Category::Transaction, Category::TransactionIndexed].map(|category| item.context.outcome(Outcome::Accepted, None, category, 1)).into();
    outcomes.extend(counted(item, Outcome::Accepted, None, spans.len() as u64));
    if cut_off > 0 {
        outcomes.extend(counted(item, Outcome::Invalid, Some("too_large:span"), cut_off));
    }
    outcomes.iter_mut().for_each(|outcome| outcome.event_id = Some(context.event_id.0));
    let identity = Some(Identity::event(context.project_id, context.event_id));
    Fact { identity, ..item.fact(Rows::Transaction { spans, payload: Box::new(payload) }, outcomes) }
}

/// A transaction that is refused takes its spans with it, the segment's own included.
fn refused(item: &Item, reason: &str, children: usize) -> Fact {
    let mut outcomes: Vec<OutcomeRow> =
        [Category::Transaction, Category::TransactionIndexed].map(|category| item.context.outcome(Outcome::Invalid, Some(reason), category, 1)).into();
    outcomes.extend(counted(item, Outcome::Invalid, Some(reason), children as u64 + 1));
    item.fact(Rows::None, outcomes)
}

/// The segment and its children.
fn rows(item: &Item, json: &Json<'_>, event_id: EventId) -> Vec<SpanRow> {
    let Some(segment) = segment(item, json, event_id) else { return Vec::new() };
    let spans = json.get("spans").and_then(Json::as_array).unwrap_or_default();
    let mut rows = vec![segment];
    for span in spans {
        rows.extend(child(item, span, &rows[0]));
    }
    rows
}

fn segment(item: &Item, json: &Json<'_>, event_id: EventId) -> Option<SpanRow> {
    let trace = json.at(&["contexts", "trace"])?;
    let end_us = json.get("timestamp").and_then(time_us)?;
    let start_us = json.get("start_timestamp").and_then(time_us)?;
    let mut attributes = json_attributes(trace.get("data").and_then(Json::as_object));
    let tags: Vec<(String, Json<'_>)> = tags::tags(json).into_iter().map(|(key, value)| (key, Json::text(value))).collect();
    attributes.add_absent(tags.iter().map(|(key, value)| (key.as_str(), value)));
    let op = owned(trace.get("op")).unwrap_or_else(|| "default".to_owned());
    let user = owned(json.at(&["user", "sentry_user"]));
    let client_rate = trace.get("client_sample_rate").and_then(Json::as_f64).or(item.context.sample_rate).unwrap_or(1.0);
    let name = owned(json.get("transaction")).unwrap_or_else(|| UNLABELED.to_owned());
    let status = json.at(&["contexts", "response", "status_code"]).and_then(Json::as_i64).or_else(|| attributes.integer("http.response.status_code"));
    let mut row = blank(item, super::trace_id(trace.get("trace_id"))?, span_id(trace.get("span_id"))?, start_us, end_us.max(start_us));
    row.parent_span_id = span_id(trace.get("parent_span_id"));
    row.is_segment = true;
    row.description.clone_from(&name);
    row.transaction_name = name;
    row.category = category(&op);
    row.op = op;
    row.status = owned(trace.get("status")).unwrap_or_else(|| "unknown".to_owned());
    row.environment = owned(json.get("environment"));
    row.release = owned(json.get("release"));
    row.user_hash = user.as_deref().map(|user| user_hash(item.context.common.project_id as u64, user));
    row.user = user;
    row.http_status = status.and_then(|status| i32::try_from(status).ok());
    row.exclusive_ms = exclusive_ms(trace).unwrap_or(row.duration_ms);
    row.measurements = measurements(json.get("measurements"));
    row.client_sample_rate = client_rate;
    row.sample_weight = sample_weight(client_rate, 1.0);
    row.event_id = Some(event_id.0);
    row.platform = owned(json.get("platform"));
    row.attributes = attributes;
    description::add(&mut row);
    Some(row)
}

fn child(item: &Item, span: &Json<'_>, segment: &SpanRow) -> Option<SpanRow> {
    let start_us = span.get("start_timestamp").and_then(time_us)?;
    let end_us = span.get("timestamp").and_then(time_us).unwrap_or(segment.end_us).max(start_us);
    let mut attributes = json_attributes(span.get("data").and_then(Json::as_object));
    attributes.add_absent(span.get("tags").and_then(Json::as_object).into_iter().flat_map(Object::iter));
    let op = owned(span.get("op")).unwrap_or_else(|| "default".to_owned());
    let mut row = blank(item, super::trace_id(span.get("trace_id")).unwrap_or(segment.trace_id), span_id(span.get("span_id"))?, start_us, end_us);
    row.parent_span_id = span_id(span.get("parent_span_id"));
    row.segment_id.clone_from(&segment.span_id);
    row.transaction_name.clone_from(&segment.transaction_name);
    row.category = category(&op);
    row.op = op;
    row.description = owned(span.get("description")).unwrap_or_default();
    row.status = owned(span.get("status")).unwrap_or_else(|| "unknown".to_owned());
    row.environment.clone_from(&segment.environment);
    row.release.clone_from(&segment.release);
    row.user_hash = segment.user_hash;
    row.user.clone_from(&segment.user);
    row.http_status = attributes.integer("http.response.status_code").and_then(|status| i32::try_from(status).ok());
    row.exclusive_ms = exclusive_ms(span).unwrap_or(row.duration_ms);
    row.measurements = measurements(span.get("measurements"));
    row.client_sample_rate = segment.client_sample_rate;
    row.sample_weight = segment.sample_weight;
    row.event_id = segment.event_id;
    row.platform.clone_from(&segment.platform);
    row.attributes = attributes;
    description::add(&mut row);
    Some(row)
}

/// The values of `{"lcp": {"value": 248, "unit": "millisecond"}}`; a name that is none is left out (`spec/ingest.md` section 3.2).
pub(super) fn measurements(given: Option<&Json<'_>>) -> Pairs<f64> {
    let all = given.and_then(Json::as_object);
    let value = |(name, measurement): (&str, &Json<'_>)| Some((measurement_name(name)?, measurement.get("value")?.as_f64()?));
    let mut pairs: Pairs<f64> = all.into_iter().flat_map(Object::iter).filter_map(value).collect();
    // A map has no key twice; of names that differ in case alone the first stands.
    pairs.sort_by(|a, b| a.0.cmp(&b.0));
    pairs.dedup_by(|later, first| later.0 == first.0);
    pairs
}

fn measurement_name(name: &str) -> Option<String> {
    let name = name.trim().to_ascii_lowercase();
    (!name.is_empty() && name.bytes().all(|c| c.is_ascii_alphanumeric() || c == b'.' || c == b'_')).then_some(name)
}

fn exclusive_ms(span: &Json<'_>) -> Option<f64> {
    span.get(normalise::exclusive_time::FIELD).and_then(Json::as_f64)
}
