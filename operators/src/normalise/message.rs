//! The message: `logentry` with its parameters filled in (`spec/ingest.md` sections 3.1 and 3.2).

use weir_protocol::json::{Json, Object};

use super::note::Notes;
use super::trim::shorten;

/// A message has at most this many characters.
pub const MESSAGE_CHARS_MAX: usize = 8192;

/// Brings `logentry` (and `message`, its other name) into `{message?, formatted, params?}`; an empty one goes.
pub fn normalise<'a>(event: &mut Object<'a>, notes: &mut Notes<'a>) {
    let mut entry = match (event.remove("logentry"), event.remove("message")) {
        (Some(Json::Object(entry)), _) if !entry.is_empty() => entry,
        (None | Some(Json::Null | Json::Object(_)), None | Some(Json::Null)) => return,
        (None | Some(Json::Null | Json::Object(_)), Some(value)) | (Some(value), _) => from_value(value),
    };
    for key in ["message", "formatted"] {
        match entry.remove(key) {
            None | Some(Json::Null) => {}
            Some(Json::String(text)) if text.trim().is_empty() => {}
            Some(Json::String(text)) => entry.insert(key, Json::String(text)),
            Some(value @ (Json::Array(_) | Json::Object(_))) => notes.invalid(&["logentry", key], value),
            Some(value) => entry.insert(key, Json::text(value.to_string())),
        }
    }
    if entry.get("params").is_some_and(|params| !matches!(params, Json::Array(_) | Json::Object(_))) {
        notes.invalid(&["logentry", "params"], entry.remove("params").unwrap_or_default());
    }
    if entry.get("formatted").is_none() {
        let formatted = entry.get("message").and_then(Json::as_str).map(|message| match entry.get("params") {
            Some(params) => filled_in(message, params),
            None => message.to_owned(),
        });
        let Some(formatted) = formatted else { return };
        entry.insert("formatted", Json::text(formatted));
    }
    for key in ["message", "formatted"] {
        if let Some(text) = entry.get_mut(key) {
            shorten(text, MESSAGE_CHARS_MAX);
        }
    }
    if entry.get("message") == entry.get("formatted") {
        entry.remove("message");
    }
    event.insert("logentry", Json::Object(entry));
}

fn from_value(value: Json<'_>) -> Object<'_> {
    match value {
        Json::Object(entry) => entry,
        Json::String(_) => [("formatted", value)].into_iter().collect(),
        other => [("formatted", Json::text(other.to_string()))].into_iter().collect(),
    }
}

/// The message with its parameters: Python's `%s` and `%(name)s`, or `{}`, `{0}` and `{name}`. Unchanged where they do not fit.
pub fn filled_in(message: &str, params: &Json<'_>) -> String {
    percent(message, params).or_else(|| curly(message, params)).unwrap_or_else(|| message.to_owned())
}

fn percent(message: &str, params: &Json<'_>) -> Option<String> {
    let mut out = String::with_capacity(message.len());
    let mut rest = message;
    let mut next = 0;
    while let Some(at) = rest.find('%') {
        out.push_str(&rest[..at]);
        rest = &rest[at + 1..];
        if let Some(after) = rest.strip_prefix('%') {
            out.push('%');
            rest = after;
            continue;
        }
        let param = match rest.strip_prefix('(') {
            Some(named) => {
                let end = named.find(')')?;
                rest = &named[end + 1..];
                params.get(&named[..end])?
            }
            None => {
                next += 1;
                params.as_array()?.get(next - 1)?
            }
        };
        let flags = rest.find(|c: char| !"0123456789.+-# ".contains(c))?;
        let conversion = rest[flags..].chars().next().filter(|c| "sdifFgGeErxXouc".contains(*c))?;
        out.push_str(&text_of(param));
        rest = &rest[flags + conversion.len_utf8()..];
    }
    out.push_str(rest);
    (next > 0 || params.as_object().is_some()).then_some(out).filter(|text| text != message)
}

fn curly(message: &str, params: &Json<'_>) -> Option<String> {
    let mut out = String::with_capacity(message.len());
    let mut rest = message;
    let mut next = 0;
    while let Some(at) = rest.find('{') {
        out.push_str(&rest[..at]);
        let end = at + rest[at..].find('}')?;
        let name = &rest[at + 1..end];
        let param = match (name, params) {
            ("", Json::Array(list)) => {
                next += 1;
                list.get(next - 1)?
            }
            (index, Json::Array(list)) => list.get(index.parse::<usize>().ok()?)?,
            (name, _) => params.get(name)?,
        };
        out.push_str(&text_of(param));
        rest = &rest[end + 1..];
    }
    out.push_str(rest);
    Some(out)
}

fn text_of(param: &Json<'_>) -> String {
    match param {
        Json::String(text) => text.to_string(),
        Json::Null => "None".to_owned(),
        Json::Bool(true) => "True".to_owned(),
        Json::Bool(false) => "False".to_owned(),
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_become_log_entries() {
        let check = |json: &str, want: &str| {
            let mut event = Json::parse(json.as_bytes()).unwrap();
            normalise(event.as_object_mut().unwrap(), &mut Notes::default());
            assert_eq!(event.to_string(), want, "{json}");
        };
        check(r#"{"message":"kept"}"#, r#"{"logentry":{"formatted":"kept"}}"#);
        check(r#"{"message":{"formatted":"kept"}}"#, r#"{"logentry":{"formatted":"kept"}}"#);
        check(r#"{"logentry":{"message":"a","formatted":"a"}}"#, r#"{"logentry":{"formatted":"a"}}"#);
        check(r#"{"logentry":{"message":"%s is %d","params":["x",3]}}"#, r#"{"logentry":{"params":["x",3],"message":"%s is %d","formatted":"x is 3"}}"#);
        check(r#"{"logentry":{},"message":"m"}"#, r#"{"logentry":{"formatted":"m"}}"#);
        check(r#"{"message":[1,2]}"#, r#"{"logentry":{"formatted":"[1,2]"}}"#);
        check(r#"{"message":""}"#, "{}");
        check(r#"{"logentry":null}"#, "{}");
    }

    #[test]
    fn parameters_are_filled_in() {
        let check =
            |message: &str, params: &str, want: &str| assert_eq!(filled_in(message, &Json::parse(params.as_bytes()).unwrap()), want, "{message} {params}");
        check("%s of %s", r#"["1","2"]"#, "1 of 2");
        check("%(n)s at 100%%", r#"{"n":7}"#, "7 at 100%");
        check("%.2f s", "[1.5]", "1.5 s");
        check("{} and {}", r#"["a","b"]"#, "a and b");
        check("{1} {0}", r#"["a","b"]"#, "b a");
        check("{name}", r#"{"name":"n"}"#, "n");
        check("%s %s", r#"["a"]"#, "%s %s");
        check("100% {}", r#"["a"]"#, "100% a");
        check("plain", r#"["a"]"#, "plain");
    }
}
