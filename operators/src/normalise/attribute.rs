//! Short texts and bags of an event that have no rules of their own beyond a form and a limit (`spec/ingest.md` section 3.2).

use weir_protocol::json::{Json, Object};

use super::note::Notes;
use super::trim::{bound, first_chars, shorten};

const TRANSACTION_CHARS_MAX: usize = 200;
const LOGGER_CHARS_MAX: usize = 64;
const CHECKSUM_CHARS_MAX: usize = 128;
const SDK_CHARS_MAX: usize = 256;
const EXTRA_KEY_BYTES_MAX: usize = 16 << 10;
const EXTRA_BYTES_MAX: usize = 256 << 10;
const MODULES_BYTES_MAX: usize = 8 << 10;
const TIME_SPENT_MAX: u64 = 1 << 31;

/// Fields that are objects or nothing.
const OBJECTS: [&str; 13] =
    ["_meta", "csp", "debug_meta", "expectct", "expectstaple", "extra", "hpkp", "modules", "nel", "sdk", "template", "transaction_info", "_dsc"];

/// Brings the fields without rules of their own into form; `client` names the SDK where the payload does not.
pub fn normalise<'a>(event: &mut Object<'a>, client: &Option<String>, notes: &mut Notes<'a>) {
    for (key, chars_max) in [
        ("transaction", TRANSACTION_CHARS_MAX),
        ("culprit", TRANSACTION_CHARS_MAX),
        ("logger", LOGGER_CHARS_MAX),
        ("checksum", CHECKSUM_CHARS_MAX),
        ("version", LOGGER_CHARS_MAX),
        ("type", LOGGER_CHARS_MAX),
        ("platform", LOGGER_CHARS_MAX),
    ] {
        text(event, key, chars_max, notes);
    }
    if event.get("logger").and_then(Json::as_str).is_some_and(|logger| logger.contains(['\r', '\n'])) {
        notes.invalid(&["logger"], event.remove("logger").unwrap_or_default());
    }
    for key in OBJECTS {
        if event.get(key).is_some_and(|value| value.as_object().is_none()) {
            notes.invalid(&[key], event.remove(key).unwrap_or_default());
        }
    }
    if event.get("time_spent").is_some_and(|value| value.as_u64().is_none_or(|ms| ms >= TIME_SPENT_MAX - 1)) {
        notes.invalid(&["time_spent"], event.remove("time_spent").unwrap_or_default());
    }
    errors(event);
    event.remove("measurements");
    event.remove("spans");
    extra(event);
    modules(event, notes);
    sdk(event, client);
    event.retain(|_, value| !value.is_null());
}

fn text<'a>(event: &mut Object<'a>, key: &'static str, chars_max: usize, notes: &mut Notes<'a>) {
    let Some(value) = event.get_mut(key) else { return };
    match value {
        Json::Null => {}
        Json::String(given) => {
            let trimmed = given.trim();
            if trimmed.is_empty() {
                *value = Json::Null;
            } else if trimmed.len() < given.len() {
                *value = Json::text(trimmed.to_owned());
            }
        }
        Json::Int(_) | Json::UInt(_) if key == "version" => *value = Json::text(value.to_string()),
        _ => notes.invalid(&[key], value.take()),
    }
    shorten(value, chars_max);
}

/// Errors that an SDK or a proxy listed stay, where they are objects.
fn errors(event: &mut Object<'_>) {
    let Some(value) = event.get_mut("errors") else { return };
    match value {
        Json::Array(errors) => errors.retain(|error| error.as_object().is_some()),
        _ => *value = Json::Null,
    }
}

fn extra(event: &mut Object<'_>) {
    let Some(Json::Object(extra)) = event.get_mut("extra") else { return };
    let mut left = EXTRA_BYTES_MAX;
    extra.retain(|key, value| {
        if value.is_null() || left <= key.len() {
            return false;
        }
        left -= key.len();
        left -= bound(value, EXTRA_KEY_BYTES_MAX.min(left));
        true
    });
    if extra.is_empty() {
        event.remove("extra");
    }
}

/// Modules are versions by name; what is no text is none.
fn modules<'a>(event: &mut Object<'a>, notes: &mut Notes<'a>) {
    let Some(mut modules) = event.remove("modules") else { return };
    if let Json::Object(modules) = &mut modules {
        modules.retain(|name, version| match version {
            Json::String(_) => true,
            Json::Null => false,
            Json::Int(_) | Json::UInt(_) | Json::Float(_) => {
                *version = Json::text(version.to_string());
                true
            }
            other => {
                notes.invalid(&["modules", name], other.take());
                false
            }
        });
    }
    bound(&mut modules, MODULES_BYTES_MAX);
    if modules.as_object().is_some_and(|modules| !modules.is_empty()) {
        event.insert("modules", modules);
    }
}

fn sdk(event: &mut Object<'_>, client: &Option<String>) {
    if event.get("sdk").is_none()
        && let Some((name, version)) = client.as_deref().and_then(|client| client.split_once('/'))
    {
        let texts = [("name", name), ("version", version)];
        event.insert("sdk", Json::Object(texts.into_iter().map(|(key, text)| (key, Json::text(first_chars(text, SDK_CHARS_MAX).to_owned()))).collect()));
    }
    let Some(Json::Object(sdk)) = event.get_mut("sdk") else { return };
    for key in ["name", "version"] {
        match sdk.get_mut(key) {
            None => {}
            Some(value @ Json::String(_)) => shorten(value, SDK_CHARS_MAX),
            Some(value) => *value = Json::Null,
        }
    }
    if let Some(Json::Array(names)) = sdk.get_mut("integrations") {
        names.retain(|name| name.as_str().is_some());
    }
    sdk.retain(|_, value| !value.is_null());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attributes() {
        let check = |json: &str, want: &str| {
            let mut event = Json::parse(json.as_bytes()).unwrap();
            normalise(event.as_object_mut().unwrap(), &Some("sentry.rust/0.49.5".to_owned()), &mut Notes::default());
            let event = event.as_object_mut().unwrap();
            if event.get("sdk").is_some_and(|sdk| sdk.str_at(&["name"]) == Some("sentry.rust")) {
                event.remove("sdk");
            }
            assert_eq!(Json::Object(event.clone()).to_string(), want, "{json}");
        };
        check(r#"{"transaction":" /a ","logger":"a\nb","culprit":7,"time_spent":-1}"#, r#"{"transaction":"/a"}"#);
        check(r#"{"sdk":{"name":"s","version":3,"integrations":["a",1]}}"#, r#"{"sdk":{"name":"s","integrations":["a"]}}"#);
        check(r#"{"modules":{"a":"1","b":2,"c":[]},"extra":{},"template":3}"#, r#"{"modules":{"a":"1","b":"2"}}"#);
        check(r#"{"measurements":{"lcp":{"value":1}},"errors":[1,{"type":"t"}]}"#, r#"{"errors":[{"type":"t"}]}"#);
    }

    #[test]
    fn the_client_names_the_sdk() {
        let mut event = Json::parse(b"{}").unwrap();
        normalise(event.as_object_mut().unwrap(), &Some("sentry.rust/0.49.5".to_owned()), &mut Notes::default());
        assert_eq!(event.to_string(), r#"{"sdk":{"name":"sentry.rust","version":"0.49.5"}}"#);
    }
}
