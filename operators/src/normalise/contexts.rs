//! Contexts: typed, and always with a trace (`spec/ingest.md` section 3.2).

use weir_protocol::EventId;
use weir_protocol::json::{Json, Object};

use super::fields::context;
use super::note::Notes;
use super::path::Path;
use super::raw_description;
use super::read;
use super::request::body;
use super::span::links;

/// Contexts of which a name and a version are one text too, under the context's type.
const NAMED: [&str; 3] = ["browser", "os", "runtime"];

/// Reads `contexts`, each by its type, which is its key where it says none.
pub fn read<'a>(value: &mut Json<'a>, path: Path<'_>, notes: &mut Notes<'a>) {
    let Json::Object(contexts) = value else { return notes.invalid(path, "expected an object", value.take()) };
    for (key, value) in contexts.iter_mut() {
        let path = path.key(key);
        let Json::Object(object) = value else {
            if !value.is_null() {
                notes.invalid(path, "expected an object", value.take());
            }
            continue;
        };
        let kind = match object.remove("type") {
            Some(Json::String(kind)) if !kind.is_empty() => kind,
            _ => key.to_owned().into(),
        };
        read::object(object, context(&kind), path, notes);
        object.insert("type", Json::String(kind));
    }
}

/// Names contexts in one text, and gives the event a trace of its own where it has none.
pub fn normalise<'a>(event: &mut Object<'a>, event_id: EventId, notes: &mut Notes<'a>) {
    let is_transaction = event.get("type").and_then(Json::as_str) == Some("transaction");
    if event.get("contexts").is_none() {
        event.insert("contexts", Json::Object(Object::new()));
    }
    let Some(Json::Object(contexts)) = event.get_mut("contexts") else { return };
    for (key, value) in contexts.iter_mut() {
        if let Json::Object(object) = value
            && let Some(kind) = object.get("type").and_then(Json::as_str).and_then(|kind| NAMED.into_iter().find(|named| *named == kind))
        {
            let path = Path::Root.key("contexts");
            match kind {
                "os" => raw_description::system(object, path.key(key), notes),
                "runtime" => raw_description::runtime(object, path.key(key), notes),
                _ => {}
            }
            name(object, kind);
        }
    }
    for (_, value) in contexts.iter_mut() {
        if let Json::Object(response) = value
            && response.get("type").and_then(Json::as_str) == Some("response")
        {
            body(response);
        }
    }
    if contexts.get("trace").is_none_or(|trace| trace.str_at(&["type"]) != Some("trace")) {
        let path = Path::Root.key("contexts");
        notes.forget_below(path.key("trace"));
        contexts.insert("trace", Json::Object([("type", Json::text("trace"))].into_iter().collect()));
    }
    if let Some(Json::Object(trace)) = contexts.get_mut("trace") {
        normalise_trace(trace, event_id, is_transaction, notes);
    }
}

fn name(object: &mut Object<'_>, kind: &'static str) {
    if object.get(kind).and_then(Json::as_str).is_some() {
        return;
    }
    let text = |key| object.get(key).and_then(Json::as_str);
    match (text("name"), text("version")) {
        (Some(name), Some(version)) if !version.is_empty() => object.insert(kind, Json::text(format!("{name} {version}"))),
        (Some(name), _) if kind != "runtime" => object.insert(kind, Json::text(name.to_owned())),
        _ => drop(object.remove(kind)),
    }
}

/// An id that is missing or none is made of the event's, so that it is the same at every replay.
fn normalise_trace<'a>(trace: &mut Object<'a>, event_id: EventId, is_transaction: bool, notes: &mut Notes<'a>) {
    let path = Path::Root.key("contexts");
    let path = path.key("trace");
    if trace.get("trace_id").and_then(Json::as_str).is_none_or(|id| id.bytes().all(|byte| byte == b'0')) {
        if trace.get("trace_id").is_some() {
            notes.remark(path.key("trace_id"), "nil_trace_id", "s");
        }
        trace.insert("trace_id", Json::text(event_id.to_string()));
    }
    links(trace, path, &event_id.to_string(), notes);
    if trace.get("span_id").is_none() {
        let span_id = trace.get("trace_id").and_then(Json::as_str).unwrap_or_default().get(..16).unwrap_or_default().to_owned();
        trace.insert("span_id", Json::text(span_id));
    }
    if trace.get("status").is_none() {
        trace.insert("status", Json::text("unknown"));
    }
    if is_transaction && trace.get("op").is_none() {
        trace.insert("op", Json::text("default"));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn contexts() {
        let own = r#""trace":{"type":"trace","trace_id":"00000000000000070000000000000007","span_id":"0000000000000007","status":"unknown"}"#;
        let check = |json: &str, want: &str| {
            let text = format!(r#"{{"contexts":{json}}}"#);
            let mut event = Json::parse(text.as_bytes()).unwrap();
            let mut id = [0; 16];
            (id[7], id[15]) = (7, 7);
            let event = event.as_object_mut().unwrap();
            let mut notes = Notes::default();
            read(event.get_mut("contexts").unwrap(), Path::Root.key("contexts"), &mut notes);
            normalise(event, EventId(id), &mut notes);
            assert_eq!(event.get("contexts").map(Json::to_string).unwrap_or_default(), want, "{json}");
        };
        check("7", &format!("{{{own}}}"));
        check(r#"{"os":{"name":"Linux"},"a":null,"b":3}"#, &format!(r#"{{"os":{{"name":"Linux","type":"os","os":"Linux"}},"a":null,"b":null,{own}}}"#));
        check(
            r#"{"trace":{"trace_id":"05A69398-9956-4f84-aaff-8d56571f1744","span_id":"AEC3abd7115ba43d","op":"o","status":0}}"#,
            r#"{"trace":{"trace_id":"05a6939899564f84aaff8d56571f1744","span_id":"aec3abd7115ba43d","op":"o","status":"ok","type":"trace"}}"#,
        );
    }
}
