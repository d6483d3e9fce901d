//! Exceptions: one form out of the three that SDKs send (`spec/ingest.md` sections 3.1 and 3.2).

use weir_protocol::json::{Json, Object};

use super::fields::EXCEPTION_FIELDS;
use super::note::Notes;
use super::path::Path;
use super::read;

/// Reads one exception. One that says nothing becomes null.
pub fn read<'a>(value: &mut Json<'a>, path: Path<'_>, notes: &mut Notes<'a>) {
    let Json::Object(exception) = value else { return notes.invalid(path, "expected exception", value.take()) };
    read::object(exception, &EXCEPTION_FIELDS, path, notes);
    let says_nothing = |key| exception.get(key).and_then(Json::as_str).is_none_or(str::is_empty);
    if !says_nothing("type") || !says_nothing("value") {
        exception.retain(|key, _| EXCEPTION_FIELDS.field(key).is_some());
        return;
    }
    notes.forget_below(path);
    let mut whole: Vec<_> = EXCEPTION_FIELDS.fields.iter().map(|field| (field.name.into(), exception.remove(field.name).unwrap_or_default())).collect();
    whole.extend(std::mem::take(exception));
    notes.error(path, "missing_attribute", vec![("attribute", Json::text("type or value"))]);
    notes.original(path, Json::Object(whole.into_iter().collect()));
    *value = Json::Null;
}

/// Gives the event's stack to the only exception, and splits values that begin with a type.
pub fn normalise<'a>(event: &mut Object<'a>, notes: &mut Notes<'a>) {
    let Some(Json::Object(interface)) = event.get_mut("exception") else { return };
    let Some(Json::Array(values)) = interface.get_mut("values") else { return };
    values.iter_mut().filter_map(Json::as_object_mut).for_each(split_type_from_value);
    let [Json::Object(exception)] = values.as_mut_slice() else { return };
    if exception.get("stacktrace").is_some() {
        return;
    }
    if let Some(stacktrace) = event.remove("stacktrace") {
        notes.rename(&["stacktrace"], &["exception", "values", "0", "stacktrace"]);
        if let Some([Json::Object(exception)]) =
            event.get_mut("exception").and_then(Json::as_object_mut).and_then(|e| e.get_mut("values")).and_then(Json::as_array_mut).map(Vec::as_mut_slice)
        {
            exception.insert("stacktrace", stacktrace);
        }
    }
}

/// A value `Type: message` without a type is split, unless the exception is one that the SDK attached to a message: its value is
/// that message.
fn split_type_from_value(exception: &mut Object<'_>) {
    if exception.get("type").and_then(Json::as_str).is_some_and(|kind| !kind.is_empty()) {
        return;
    }
    if exception.get("mechanism").and_then(|mechanism| mechanism.get("synthetic")).and_then(Json::as_bool) == Some(true) {
        return;
    }
    let Some((name, message)) = exception.get("value").and_then(Json::as_str).and_then(|value| value.split_once(':')) else { return };
    if name.is_empty() || !name.chars().all(|c| c.is_alphanumeric() || c == '_') || message.contains('\n') {
        return;
    }
    let (name, message) = (name.to_owned(), message.trim().to_owned());
    exception.insert("type", Json::text(name));
    exception.insert("value", Json::text(message));
}
