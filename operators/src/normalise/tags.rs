//! Tags: a list of pairs, whatever the SDK sent (`spec/ingest.md` section 3.2).

use std::collections::BTreeSet;

use weir_protocol::json::{Json, Object};

use super::note::Notes;
use super::trim::first_chars;

/// A tag's key and value have at most this many characters; what is longer is cut without dots.
pub const TAG_CHARS_MAX: usize = 200;

/// Keys that the server gives itself.
const RESERVED: [&str; 5] = ["release", "dist", "user", "filename", "function"];

/// Brings `tags` into a list of pairs of texts, each key once; without any the field goes.
pub fn normalise<'a>(event: &mut Object<'a>, notes: &mut Notes<'a>) {
    let pairs: Vec<(Json<'a>, Json<'a>)> = match event.remove("tags") {
        None | Some(Json::Null) => return,
        Some(Json::Object(map)) => map.into_iter().map(|(key, value)| (Json::String(key), value)).collect(),
        Some(Json::Array(list)) => list.into_iter().filter_map(|pair| pair_of(pair, notes)).collect(),
        Some(other) => return notes.invalid(&["tags"], other),
    };
    let mut seen = BTreeSet::new();
    let mut tags = Vec::with_capacity(pairs.len());
    for (key, value) in pairs {
        let Some(key) = key_text(&key) else {
            notes.invalid(&["tags"], key);
            continue;
        };
        if RESERVED.contains(&key.as_str()) || !seen.insert(key.clone()) {
            continue;
        }
        match value_text(&value) {
            Ok(Some(text)) => tags.push(pair(key, text)),
            Ok(None) => {}
            Err(()) => notes.invalid(&["tags", &key], value),
        }
    }
    set(event, tags);
}

/// Adds a tag unless the key is there.
pub fn add<'a>(event: &mut Object<'a>, key: &str, text: &str) {
    let mut tags = match event.remove("tags") {
        Some(Json::Array(tags)) => tags,
        _ => Vec::new(),
    };
    let text = first_chars(text.trim(), TAG_CHARS_MAX).trim_end().to_owned();
    let is_there = tags.iter().any(|tag| tag.as_array().and_then(|pair| pair.first()).and_then(Json::as_str) == Some(key));
    if !is_there && !text.is_empty() && !text.contains('\n') {
        tags.push(pair(key.to_owned(), text));
    }
    set(event, tags);
}

/// Takes a tag out.
pub fn remove(event: &mut Object<'_>, key: &str) -> Option<String> {
    let tags = event.get_mut("tags")?.as_array_mut()?;
    let at = tags.iter().position(|tag| tag.as_array().and_then(|pair| pair.first()).and_then(Json::as_str) == Some(key))?;
    let value = tags.remove(at).as_array().and_then(|pair| pair.get(1)).and_then(Json::as_str).map(str::to_owned);
    if tags.is_empty() {
        event.remove("tags");
    }
    value
}

/// The tags of a normalised event in their order.
pub fn pairs<'e>(event: &'e Json<'_>) -> impl Iterator<Item = (&'e str, &'e str)> {
    event.get("tags").and_then(Json::as_array).unwrap_or_default().iter().filter_map(|pair| match pair.as_array()? {
        [key, value] => Some((key.as_str()?, value.as_str()?)),
        _ => None,
    })
}

fn set<'a>(event: &mut Object<'a>, tags: Vec<Json<'a>>) {
    if !tags.is_empty() {
        event.insert("tags", Json::Array(tags));
    }
}

fn pair<'a>(key: String, text: String) -> Json<'a> {
    Json::Array(vec![Json::text(key), Json::text(text)])
}

/// A pair is a list of two; a list of `{key, value}` objects, which the API answers with, is taken too.
fn pair_of<'a>(value: Json<'a>, notes: &mut Notes<'a>) -> Option<(Json<'a>, Json<'a>)> {
    match value {
        Json::Array(mut pair) if pair.len() == 2 => {
            let value = pair.pop()?;
            Some((pair.pop()?, value))
        }
        Json::Object(mut object) if object.contains_key("key") => Some((object.remove("key")?, object.remove("value").unwrap_or_default())),
        Json::Null => None,
        other => {
            notes.invalid(&["tags"], other);
            None
        }
    }
}

fn key_text(key: &Json<'_>) -> Option<String> {
    let text = match key {
        Json::String(text) => first_chars(text.trim(), TAG_CHARS_MAX).replace(' ', "-"),
        Json::Int(_) | Json::UInt(_) => key.to_string(),
        _ => return None,
    };
    (!text.is_empty() && text.chars().all(|c| c.is_ascii_alphanumeric() || "_.:-".contains(c))).then_some(text)
}

fn value_text(value: &Json<'_>) -> Result<Option<String>, ()> {
    let text = match value {
        Json::Null => return Ok(None),
        Json::Bool(true) => "True".to_owned(),
        Json::Bool(false) => "False".to_owned(),
        Json::Int(_) | Json::UInt(_) => value.to_string(),
        Json::Float(number) => format!("{:.0}", number.trunc()),
        Json::String(text) => text.trim().to_owned(),
        Json::Array(_) | Json::Object(_) => return Err(()),
    };
    if text.contains('\n') {
        return Err(());
    }
    let text = first_chars(&text, TAG_CHARS_MAX).trim_end().to_owned();
    Ok((!text.is_empty()).then_some(text))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tags_become_pairs() {
        let check = |json: &str, want: &str| {
            let text = format!(r#"{{"tags":{json}}}"#);
            let mut event = Json::parse(text.as_bytes()).unwrap();
            let mut notes = Notes::default();
            normalise(event.as_object_mut().unwrap(), &mut notes);
            assert_eq!(event.get("tags").map(Json::to_string).unwrap_or_default(), want, "{json}");
        };
        check(r#"{"a":"1","b c":true,"d":2.9,"e":"","f":null,"g":7}"#, r#"[["a","1"],["b-c","True"],["d","2"],["g","7"]]"#);
        check(r#"[["a","1"],["a","2"],null,["x"],[1,"y"],{"key":"k","value":"v"}]"#, r#"[["a","1"],["1","y"],["k","v"]]"#);
        check(r#"{"release":"1","dist":"1","user":"1","filename":"1","function":"1"}"#, "");
        check(r#"{"ü":"1","a":"x\ny","b":[1]}"#, "");
        check("3", "");
        check(&format!(r#"{{"k":"{}"}}"#, "v".repeat(300)), &format!(r#"[["k","{}"]]"#, "v".repeat(200)));
    }
}
