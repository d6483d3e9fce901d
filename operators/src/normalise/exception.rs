//! Exceptions: one form out of the three that SDKs send (`spec/ingest.md` sections 3.1 and 3.2).

use weir_protocol::json::{Json, Object};

use super::note::Notes;
use super::stacktrace;
use super::trim::{bound, shorten};

const TYPE_CHARS_MAX: usize = 256;
const VALUE_CHARS_MAX: usize = 8192;
const MODULE_CHARS_MAX: usize = 256;
const MECHANISM_TYPE_CHARS_MAX: usize = 128;
const MECHANISM_BYTES_MAX: usize = 8 << 10;

/// Brings `exception` (an object, a list or `{values}`) into `{values}`. An exception that says nothing becomes null; without
/// any left the field goes.
pub fn normalise<'a>(event: &mut Object<'a>, notes: &mut Notes<'a>) {
    let mut interface = match event.remove("exception") {
        None | Some(Json::Null) => return,
        Some(Json::Array(values)) => [("values", Json::Array(values))].into_iter().collect(),
        Some(Json::Object(object)) if object.contains_key("values") => object,
        Some(Json::Object(object)) => [("values", Json::Array(vec![Json::Object(object)]))].into_iter().collect(),
        Some(other) => return notes.invalid(&["exception"], other),
    };
    let mut values = match interface.remove("values") {
        None | Some(Json::Null) => return,
        Some(Json::Array(values)) => values,
        Some(value @ Json::Object(_)) => vec![value],
        Some(other) => return notes.invalid(&["exception", "values"], other),
    };
    adopt_stacktrace(&mut values, event);
    for (index, value) in values.iter_mut().enumerate() {
        let index = index.to_string();
        let path = ["exception", "values", index.as_str()];
        match value {
            Json::Null => {}
            Json::Object(exception) => {
                if !normalise_one(exception, &path, notes) {
                    notes.missing(&path, "type or value");
                    *value = Json::Null;
                }
            }
            other => notes.invalid(&path, other.take()),
        }
    }
    if values.iter().any(|value| !value.is_null()) {
        interface.insert("values", Json::Array(values));
        event.insert("exception", Json::Object(interface));
    }
}

/// A stack trace at the top of the event belongs to its only exception, where that has none.
fn adopt_stacktrace<'a>(values: &mut [Json<'a>], event: &mut Object<'a>) {
    let [Json::Object(exception)] = values else { return };
    let says_something = exception.get("type").is_some() || exception.get("value").is_some();
    if says_something && exception.get("stacktrace").is_none() && event.get("stacktrace").is_some() {
        exception.insert("stacktrace", event.remove("stacktrace").unwrap_or_default());
    }
}

/// Whether the exception says anything.
fn normalise_one<'a>(exception: &mut Object<'a>, path: &[&str], notes: &mut Notes<'a>) -> bool {
    for key in ["type", "module"] {
        if exception.get(key).is_some_and(|v| v.as_str().is_none()) {
            let path: Vec<&str> = path.iter().copied().chain([key]).collect();
            notes.invalid(&path, exception.remove(key).unwrap_or_default());
        }
    }
    if exception.get("value").is_some_and(|v| v.as_str().is_none()) {
        let text = exception.get("value").map(Json::to_string).unwrap_or_default();
        exception.insert("value", Json::text(text));
    }
    remove_empty(exception);
    mechanism(exception, path, notes);
    split_type_from_value(exception);
    for (key, chars_max) in [("type", TYPE_CHARS_MAX), ("value", VALUE_CHARS_MAX), ("module", MODULE_CHARS_MAX)] {
        if let Some(value) = exception.get_mut(key) {
            shorten(value, chars_max);
        }
    }
    remove_empty(exception);
    if exception.get("type").is_none() && exception.get("value").is_none() {
        return false;
    }
    stacktrace::normalise(exception, path, notes);
    exception.retain(|_, value| !value.is_null());
    true
}

fn remove_empty(exception: &mut Object<'_>) {
    for key in ["type", "value", "module"] {
        if exception.get(key).and_then(Json::as_str).is_none_or(str::is_empty) {
            exception.remove(key);
        }
    }
}

/// A value `Type: message` without a type is split, unless the exception is one that the SDK attached to a message: its value is
/// that message.
fn split_type_from_value(exception: &mut Object<'_>) {
    let is_synthetic = exception.get("mechanism").and_then(|m| m.get("synthetic")).and_then(Json::as_bool) == Some(true);
    if exception.get("type").is_some() || is_synthetic {
        return;
    }
    let Some(value) = exception.get("value").and_then(Json::as_str) else { return };
    let Some((name, message)) = value.split_once(':') else { return };
    if name.is_empty() || !name.chars().all(|c| c.is_alphanumeric() || c == '_') || message.contains('\n') {
        return;
    }
    let (name, message) = (name.to_owned(), message.trim().to_owned());
    exception.insert("type", Json::text(name));
    exception.insert("value", Json::text(message));
}

fn mechanism<'a>(exception: &mut Object<'a>, path: &[&str], notes: &mut Notes<'a>) {
    let at = |key| path.iter().copied().chain(["mechanism", key]).filter(|p: &&str| !p.is_empty()).collect::<Vec<_>>();
    let mut mechanism = match exception.remove("mechanism") {
        None | Some(Json::Null) => return,
        Some(Json::Object(mechanism)) => mechanism,
        Some(other) => return notes.invalid(&at(""), other),
    };
    mechanism.retain(|_, value| !value.is_null());
    if mechanism.is_empty() {
        return;
    }
    for key in ["handled", "synthetic", "is_exception_group"] {
        if mechanism.get(key).is_some_and(|v| v.as_bool().is_none()) {
            notes.invalid(&at(key), mechanism.remove(key).unwrap_or_default());
        }
    }
    for key in ["exception_id", "parent_id"] {
        if mechanism.get(key).is_some_and(|v| v.as_u64().is_none()) {
            notes.invalid(&at(key), mechanism.remove(key).unwrap_or_default());
        }
    }
    if mechanism.get("type").is_some_and(|v| v.as_str().is_none()) {
        notes.invalid(&at("type"), mechanism.remove("type").unwrap_or_default());
    }
    if mechanism.get("type").and_then(Json::as_str).is_none_or(str::is_empty) {
        mechanism.insert("type", Json::text("generic"));
    }
    if let Some(kind) = mechanism.get_mut("type") {
        shorten(kind, MECHANISM_TYPE_CHARS_MAX);
    }
    if let Some(description) = mechanism.get_mut("description") {
        shorten(description, VALUE_CHARS_MAX);
    }
    if let Some(data) = mechanism.get_mut("data") {
        bound(data, MECHANISM_BYTES_MAX);
    }
    exception.insert("mechanism", Json::Object(mechanism));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exceptions_take_one_form() {
        let check = |json: &str, want: &str| {
            let text = format!(r#"{{"exception":{json}}}"#);
            let mut event = Json::parse(text.as_bytes()).unwrap();
            normalise(event.as_object_mut().unwrap(), &mut Notes::default());
            assert_eq!(event.at(&["exception", "values"]).map(Json::to_string).unwrap_or_default(), want, "{json}");
        };
        check(r#"{"type":"A","value":"b"}"#, r#"[{"type":"A","value":"b"}]"#);
        check(r#"[{"type":"A"},{"module":"m"}]"#, r#"[{"type":"A"},null]"#);
        check(r#"{"values":[{"value":{"code":3}}]}"#, r#"[{"value":"{\"code\":3}"}]"#);
        check(r#"{"value":"ValueError: no: such"}"#, r#"[{"value":"no: such","type":"ValueError"}]"#);
        check(r#"{"value":"two words: no"}"#, r#"[{"value":"two words: no"}]"#);
        check(r#"{"value":"a: b","mechanism":{"synthetic":true}}"#, r#"[{"value":"a: b","mechanism":{"synthetic":true,"type":"generic"}}]"#);
        check(r#"{"type":"A","mechanism":{"handled":"no"}}"#, r#"[{"type":"A","mechanism":{"type":"generic"}}]"#);
        check(r#"{"type":"A","value":"","stacktrace":{"frames":[]},"module":null}"#, r#"[{"type":"A"}]"#);
        check(r#"{"values":[]}"#, "");
        check(r#"[null,{}]"#, "");
        check(r#""text""#, "");
    }

    #[test]
    fn the_only_exception_adopts_the_event_stack() {
        let mut event = Json::parse(br#"{"exception":{"type":"A"},"stacktrace":{"frames":[{"function":"f"}]}}"#).unwrap();
        normalise(event.as_object_mut().unwrap(), &mut Notes::default());
        assert_eq!(event.to_string(), r#"{"exception":{"values":[{"type":"A","stacktrace":{"frames":[{"function":"f"}]}}]}}"#);
    }
}
