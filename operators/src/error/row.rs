//! The columns of `errors` out of a normalised event (`spec/storage-query.md` section 1).

use weir_protocol::EventId;
use weir_protocol::ids::parse_hex16;
use weir_protocol::json::Json;

use super::tags::{scalar, tags};
use super::title::metadata;
use super::{group_id, user_hash};
use crate::event::{self, text};
use crate::grouping::GroupHash;
use crate::normalise::EventContext;
use crate::normalise::clock::time_us;
use crate::normalise::request::header;
use crate::rows::{Common, ErrorRow, ExceptionRow, FrameRow, Pairs};

/// The row of a normalised error event. `hashes` are those of the event, the primary one first.
pub fn error_row(event: &Json<'_>, context: &EventContext, common: Common, hashes: &[GroupHash]) -> ErrorRow {
    let metadata = metadata(event);
    let owned = |path: &[&str]| event.str_at(path).filter(|text| !text.is_empty()).map(str::to_owned);
    let primary_hash = hashes.first().map(|hash| hash.hash).unwrap_or_default();
    let user = owned(&["user", "sentry_user"]);
    let exceptions = event::exceptions(event);
    ErrorRow {
        event_id: event.str_at(&["event_id"]).and_then(|id| id.parse::<EventId>().ok()).unwrap_or(context.event_id).0,
        group_id: group_id(context.project_id, &primary_hash),
        group_first_seen_ms: None,
        primary_hash,
        timestamp_ms: event.get("timestamp").and_then(time_us).map_or(common.received_ms, |us| us.div_euclid(1000)),
        type_: owned(&["type"]).unwrap_or_else(|| "default".to_owned()),
        level: owned(&["level"]),
        title: metadata.title,
        message: event::message(event).unwrap_or_default().to_owned(),
        culprit: metadata.culprit,
        location: metadata.location,
        transaction_name: owned(&["transaction"]).unwrap_or_default(),
        version: owned(&["version"]),
        platform: owned(&["platform"]).unwrap_or_else(|| "other".to_owned()),
        environment: owned(&["environment"]),
        release: owned(&["release"]),
        dist: owned(&["dist"]),
        trace_id: event.str_at(&["contexts", "trace", "trace_id"]).and_then(parse_hex16),
        span_id: owned(&["contexts", "trace", "span_id"]),
        user_hash: user.as_deref().map(|user| user_hash(context.project_id, user)),
        user: user.unwrap_or_default(),
        user_id: owned(&["user", "id"]),
        user_name: owned(&["user", "username"]).or_else(|| owned(&["user", "name"])),
        user_email: owned(&["user", "email"]),
        ip: owned(&["user", "ip_address"]),
        sdk_name: owned(&["sdk", "name"]).unwrap_or_default(),
        sdk_version: owned(&["sdk", "version"]).unwrap_or_default(),
        tags: tags(event).into_iter().map(|(key, value)| (key, Some(value))).collect(),
        contexts: contexts(event),
        replay_id: event.str_at(&["contexts", "replay", "replay_id"]).and_then(parse_hex16),
        trace_sampled: event.at(&["contexts", "trace", "sampled"]).and_then(Json::as_bool),
        sample_weight: sample_weight(event, context),
        sdk_integrations: texts(event.at(&["sdk", "integrations"])),
        http_method: owned(&["request", "method"]),
        http_referer: event.get("request").and_then(|request| header(request, "Referer")).map(str::to_owned),
        flags: flags(event),
        modules: modules(event),
        unhandled: exceptions.iter().any(|exception| handled(exception) == Some(false)),
        main_thread: main_thread(event, &exceptions),
        symbolicated_in_app: None,
        num_processing_errors: event.get("errors").and_then(Json::as_array).map_or(0, |errors| i32::try_from(errors.len()).unwrap_or(i32::MAX)),
        frames: frames(event, &exceptions),
        exceptions: exceptions.into_iter().map(exception_row).collect(),
        common,
    }
}

/// One over the rate at which the SDK sampled; nothing where it is not known or 0.
fn sample_weight(event: &Json<'_>, context: &EventContext) -> Option<f64> {
    let rate = event.at(&["contexts", "trace", "client_sample_rate"]).and_then(Json::as_f64).or(context.sample_rate)?;
    (rate > 0.0 && rate <= 1.0).then(|| 1.0 / rate)
}

fn texts(list: Option<&Json<'_>>) -> Vec<String> {
    list.and_then(Json::as_array).unwrap_or_default().iter().filter_map(Json::as_str).map(str::to_owned).collect()
}

/// The members of all contexts that are neither lists nor objects, as `container.key`; the place of the user is one of them.
fn contexts(event: &Json<'_>) -> Pairs<Option<String>> {
    let all = event.get("contexts").and_then(Json::as_object);
    let geo = event.at(&["user", "geo"]).map(|geo| ("geo", geo));
    let containers = all.into_iter().flat_map(|contexts| contexts.iter()).chain(geo);
    let mut pairs: Pairs<Option<String>> = containers
        .filter_map(|(name, context)| Some((name, context.as_object()?)))
        .flat_map(|(name, context)| context.iter().filter(|(key, _)| *key != "type").map(move |(key, value)| (format!("{name}.{key}"), scalar(value))))
        .filter(|(_, value)| value.is_some())
        .collect();
    pairs.sort();
    pairs.dedup_by(|later, earlier| later.0 == earlier.0);
    pairs
}

/// Feature flags and how they were evaluated, the last evaluation of each.
fn flags(event: &Json<'_>) -> Pairs<Option<String>> {
    let values = event.at(&["contexts", "flags", "values"]).and_then(Json::as_array).unwrap_or_default();
    let mut flags: Pairs<Option<String>> = Vec::new();
    for (flag, result) in values.iter().filter_map(|value| Some((text(value, "flag")?, value.get("result")?))) {
        let result = result.as_str().map_or_else(|| result.to_string(), str::to_owned);
        match flags.iter_mut().find(|(other, _)| other == flag) {
            Some((_, last)) => *last = Some(result),
            None => flags.push((flag.to_owned(), Some(result))),
        }
    }
    flags
}

fn modules(event: &Json<'_>) -> Pairs<Option<String>> {
    let modules = event.get("modules").and_then(Json::as_object);
    modules.into_iter().flat_map(|modules| modules.iter()).filter_map(|(name, version)| Some((name.to_owned(), Some(version.as_str()?.to_owned())))).collect()
}

fn handled(exception: &Json<'_>) -> Option<bool> {
    exception.at(&["mechanism", "handled"]).and_then(Json::as_bool)
}

/// Whether the last exception's thread, else the thread that the event is about, is the main one.
fn main_thread(event: &Json<'_>, exceptions: &[&Json<'_>]) -> Option<bool> {
    let id = exceptions.last().and_then(|exception| exception.get("thread_id"));
    let thread = match id {
        Some(id) => event::values(event, "threads").into_iter().find(|thread| thread.get("id") == Some(id)),
        None => event::relevant_thread(event),
    };
    thread?.get("main").and_then(Json::as_bool)
}

fn exception_row(exception: &Json<'_>) -> ExceptionRow {
    ExceptionRow {
        type_: text(exception, "type").map(str::to_owned),
        value: text(exception, "value").map(str::to_owned),
        mechanism_type: exception.str_at(&["mechanism", "type"]).map(str::to_owned),
        handled: handled(exception),
    }
}

/// The frames of all exceptions; of an event without any, those of its stack or of the thread that it is about.
fn frames(event: &Json<'_>, exceptions: &[&Json<'_>]) -> Vec<FrameRow> {
    let of = |holder: &Json<'_>, level: usize| -> Vec<FrameRow> {
        let level = i32::try_from(level).unwrap_or(i32::MAX);
        event::frames(holder).into_iter().map(|frame| frame_row(frame, level)).collect()
    };
    let rows: Vec<FrameRow> = exceptions.iter().enumerate().flat_map(|(level, exception)| of(exception, level)).collect();
    if !rows.is_empty() {
        return rows;
    }
    let rows = of(event, 0);
    if rows.is_empty() { event::relevant_thread(event).map(|thread| of(thread, 0)).unwrap_or_default() } else { rows }
}

fn frame_row(frame: &Json<'_>, stack_level: i32) -> FrameRow {
    let owned = |key: &str| text(frame, key).map(str::to_owned);
    let number = |key: &str| frame.get(key).and_then(Json::as_u64).and_then(|number| i32::try_from(number).ok());
    FrameRow {
        abs_path: owned("abs_path"),
        filename: owned("filename"),
        function: owned("function"),
        module: owned("module"),
        package: owned("package"),
        lineno: number("lineno"),
        colno: number("colno"),
        in_app: frame.get("in_app").and_then(Json::as_bool),
        stack_level,
    }
}
