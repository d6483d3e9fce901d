//! Breadcrumbs (`spec/ingest.md` section 3.2).

use weir_protocol::json::{Json, Object};

use super::clock::Shift;
use super::level::level;
use super::note::Notes;
use super::thread::take_values;
use super::trim::{bound, shorten};

const NAME_CHARS_MAX: usize = 128;
const MESSAGE_CHARS_MAX: usize = 8192;
const DATA_BYTES_MAX: usize = 2 << 10;

/// Brings `breadcrumbs` (a list or `{values}`) into `{values}`, their times corrected as the event's is; none, and the field goes.
pub fn normalise<'a>(event: &mut Object<'a>, shift: Shift, notes: &mut Notes<'a>) {
    let Some(mut values) = take_values(event, "breadcrumbs", notes) else { return };
    for (index, value) in values.iter_mut().enumerate() {
        let index = index.to_string();
        let path = ["breadcrumbs", "values", index.as_str()];
        match value {
            Json::Null => {}
            Json::Object(crumb) => normalise_one(crumb, &path, shift, notes),
            other => notes.invalid(&path, other.take()),
        }
    }
    if values.iter().any(|value| !value.is_null()) {
        event.insert("breadcrumbs", Json::Object([("values", Json::Array(values))].into_iter().collect()));
    }
}

fn normalise_one<'a>(crumb: &mut Object<'a>, path: &[&str], shift: Shift, notes: &mut Notes<'a>) {
    let at = |key| path.iter().copied().chain([key]).collect::<Vec<_>>();
    if let Some(given) = crumb.remove("timestamp").filter(|v| !v.is_null()) {
        match shift.moved(&given) {
            Some(moved) => crumb.insert("timestamp", moved),
            None => notes.invalid(&at("timestamp"), given),
        }
    }
    for (key, chars_max) in [("type", NAME_CHARS_MAX), ("category", NAME_CHARS_MAX), ("message", MESSAGE_CHARS_MAX)] {
        match crumb.get_mut(key) {
            None | Some(Json::Null) => {}
            Some(value @ Json::String(_)) => shorten(value, chars_max),
            Some(value @ (Json::Array(_) | Json::Object(_))) => notes.invalid(&at(key), value.take()),
            Some(value) => *value = Json::text(value.to_string()),
        }
    }
    if crumb.get("type").and_then(Json::as_str).is_none_or(str::is_empty) {
        crumb.insert("type", Json::text("default"));
    }
    let given = crumb.remove("level").unwrap_or_default();
    let name = level(&given);
    if name.is_none() && !given.is_null() {
        notes.invalid(&at("level"), given);
    }
    crumb.insert("level", Json::text(name.unwrap_or("info")));
    match crumb.get_mut("data") {
        None | Some(Json::Null) => {}
        Some(data @ Json::Object(_)) => {
            bound(data, DATA_BYTES_MAX);
        }
        Some(data) => notes.invalid(&at("data"), data.take()),
    }
    crumb.retain(|_, value| !value.is_null());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn breadcrumbs_take_one_form() {
        let check = |json: &str, want: &str| {
            let text = format!(r#"{{"breadcrumbs":{json}}}"#);
            let mut event = Json::parse(text.as_bytes()).unwrap();
            normalise(event.as_object_mut().unwrap(), Shift::NONE, &mut Notes::default());
            assert_eq!(event.get("breadcrumbs").map(Json::to_string).unwrap_or_default(), want, "{json}");
        };
        check(
            r#"[{"timestamp":"1970-01-01T00:00:01Z","message":"m","data":{}}]"#,
            r#"{"values":[{"message":"m","data":{},"timestamp":1.0,"type":"default","level":"info"}]}"#,
        );
        check(r#"{"values":[{"level":"warn","timestamp":"soon","type":"http","data":3}]}"#, r#"{"values":[{"type":"http","level":"info"}]}"#);
        check(r#"{"values":[]}"#, "");
        check("null", "");
    }
}
