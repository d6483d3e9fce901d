//! Threads (`spec/ingest.md` section 3.2).

use weir_protocol::json::{Json, Object};

use super::note::Notes;
use super::stacktrace;
use super::trim::shorten;

const NAME_CHARS_MAX: usize = 1024;

/// Brings `threads` (a list or `{values}`) into `{values}`; without a thread the field goes.
pub fn normalise<'a>(event: &mut Object<'a>, notes: &mut Notes<'a>) {
    let Some(mut values) = take_values(event, "threads", notes) else { return };
    for (index, value) in values.iter_mut().enumerate() {
        let index = index.to_string();
        let path = ["threads", "values", index.as_str()];
        match value {
            Json::Null => {}
            Json::Object(thread) => normalise_one(thread, &path, notes),
            other => notes.invalid(&path, other.take()),
        }
    }
    if values.iter().any(|value| !value.is_null()) {
        event.insert("threads", Json::Object([("values", Json::Array(values))].into_iter().collect()));
    }
}

fn normalise_one<'a>(thread: &mut Object<'a>, path: &[&str], notes: &mut Notes<'a>) {
    for key in ["crashed", "current", "main"] {
        if thread.get(key).is_some_and(|v| v.as_bool().is_none()) {
            let path: Vec<&str> = path.iter().copied().chain([key]).collect();
            notes.invalid(&path, thread.remove(key).unwrap_or_default());
        }
    }
    if let Some(name) = thread.get_mut("name") {
        shorten(name, NAME_CHARS_MAX);
    }
    stacktrace::normalise(thread, path, notes);
    thread.retain(|_, value| !value.is_null());
}

/// The elements of an interface that SDKs send as a list or as `{values}`.
pub(super) fn take_values<'a>(event: &mut Object<'a>, interface: &'static str, notes: &mut Notes<'a>) -> Option<Vec<Json<'a>>> {
    let values = match event.remove(interface)? {
        Json::Object(mut object) => object.remove("values").unwrap_or_default(),
        other => other,
    };
    match values {
        Json::Array(values) => Some(values),
        Json::Null => None,
        other => {
            notes.invalid(&[interface], other);
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn threads_take_one_form() {
        let check = |json: &str, want: &str| {
            let text = format!(r#"{{"threads":{json}}}"#);
            let mut event = Json::parse(text.as_bytes()).unwrap();
            normalise(event.as_object_mut().unwrap(), &mut Notes::default());
            assert_eq!(event.get("threads").map(Json::to_string).unwrap_or_default(), want, "{json}");
        };
        check(r#"[{"id":1,"current":true,"crashed":3}]"#, r#"{"values":[{"id":1,"current":true}]}"#);
        check(r#"{"values":[{"stacktrace":{"frames":[]}},7]}"#, r#"{"values":[{},null]}"#);
        check(r#"{"values":[]}"#, "");
        check(r#"{}"#, "");
        check("7", "");
    }
}
