//! Contexts: bounded, typed, and always with a trace (`spec/ingest.md` section 3.2).

use weir_protocol::EventId;
use weir_protocol::ids::{hex, parse_hex8, parse_hex16};
use weir_protocol::json::{Json, Object};

use super::note::Notes;
use super::trim::bound;

const CONTEXT_BYTES_MAX: usize = 8 << 10;
const CONTEXT_COUNT_MAX: usize = 200;

/// Brings `contexts` into form. A context's type defaults to its key; without a trace the event is its own.
pub fn normalise<'a>(event: &mut Object<'a>, event_id: EventId, notes: &mut Notes<'a>) {
    let mut contexts = match event.remove("contexts") {
        Some(Json::Object(contexts)) => contexts,
        None | Some(Json::Null) => Object::new(),
        Some(other) => {
            notes.invalid(&["contexts"], other);
            Object::new()
        }
    };
    let mut trace = match contexts.remove("trace") {
        Some(Json::Object(trace)) => trace,
        _ => Object::new(),
    };
    let mut count = 0;
    contexts.retain(|key, context| {
        count += 1;
        count <= CONTEXT_COUNT_MAX && normalise_one(key, context, notes)
    });
    normalise_trace(&mut trace, event_id, notes);
    contexts.insert("trace", Json::Object(trace));
    event.insert("contexts", Json::Object(contexts));
}

/// Whether the context stays.
fn normalise_one<'a>(key: &str, context: &mut Json<'a>, notes: &mut Notes<'a>) -> bool {
    let Json::Object(object) = context else {
        if !context.is_null() {
            notes.invalid(&["contexts", key], context.take());
        }
        return false;
    };
    object.retain(|_, value| !value.is_null());
    if object.is_empty() {
        return false;
    }
    let kind = object.remove("type").filter(|kind| kind.as_str().is_some_and(|kind| !kind.is_empty())).unwrap_or_else(|| Json::text(key.to_owned()));
    bound(context, CONTEXT_BYTES_MAX);
    if let Json::Object(object) = context {
        object.insert("type", kind);
    }
    true
}

fn normalise_trace<'a>(trace: &mut Object<'a>, event_id: EventId, notes: &mut Notes<'a>) {
    trace.retain(|_, value| !value.is_null());
    let trace_id = trace.remove("trace_id");
    let read = trace_id.as_ref().and_then(Json::as_str).and_then(parse_hex16).filter(|id| *id != [0; 16]);
    if let (Some(given), None) = (trace_id, read) {
        notes.invalid(&["contexts", "trace", "trace_id"], given);
    }
    for key in ["span_id", "parent_span_id"] {
        let Some(given) = trace.remove(key) else { continue };
        match given.as_str().and_then(parse_hex8).filter(|id| *id != 0) {
            Some(id) => trace.insert(key, Json::text(format!("{id:016x}"))),
            None => notes.invalid(&["contexts", "trace", key], given),
        }
    }
    trace.remove("type");
    let mut bag = Json::Object(std::mem::take(trace));
    bound(&mut bag, CONTEXT_BYTES_MAX);
    if let Json::Object(bag) = bag {
        *trace = bag;
    }
    trace.insert("trace_id", Json::text(hex(&read.unwrap_or(event_id.0))));
    trace.insert("type", Json::text("trace"));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn contexts() {
        let own = r#""trace":{"trace_id":"00000000000000000000000000000007","type":"trace"}"#;
        let check = |json: &str, want: &str| {
            let text = format!(r#"{{"contexts":{json}}}"#);
            let mut event = Json::parse(text.as_bytes()).unwrap();
            let mut id = [0; 16];
            id[15] = 7;
            normalise(event.as_object_mut().unwrap(), EventId(id), &mut Notes::default());
            assert_eq!(event.get("contexts").map(Json::to_string).unwrap_or_default(), want, "{json}");
        };
        check("null", &format!("{{{own}}}"));
        check("7", &format!("{{{own}}}"));
        check(r#"{"os":{"name":"Linux"},"a":null,"b":3,"c":{}}"#, &format!(r#"{{"os":{{"name":"Linux","type":"os"}},{own}}}"#));
        check(r#"{"trace":{"trace_id":"x","span_id":"y","op":"o"}}"#, r#"{"trace":{"op":"o","trace_id":"00000000000000000000000000000007","type":"trace"}}"#);
        check(
            r#"{"trace":{"trace_id":"05A69398-9956-4f84-aaff-8d56571f1744","span_id":"AEC3abd7115ba43d","parent_span_id":null}}"#,
            r#"{"trace":{"span_id":"aec3abd7115ba43d","trace_id":"05a6939899564f84aaff8d56571f1744","type":"trace"}}"#,
        );
    }
}
