//! Tags: a list of pairs, whatever the SDK sent (`spec/ingest.md` section 3.2).

use std::collections::BTreeSet;

use weir_protocol::json::{Json, Object};

use super::device;
use super::note::Notes;
use super::path::Path;
use super::read::primitive;
use super::schema::Chars;
use super::trim::shorten;

/// A tag's key and value have at most this many characters.
pub const TAG_CHARS_MAX: usize = 200;

/// Keys that the server gives itself.
const RESERVED: [&str; 6] = ["release", "dist", "user", "filename", "function", device::TAG];

/// Reads `tags` as a list of pairs of texts; a key or a text that is none is null.
pub fn read<'a>(value: &mut Json<'a>, path: Path<'_>, notes: &mut Notes<'a>) {
    match value {
        Json::Object(map) => {
            let mut pairs: Vec<(std::borrow::Cow<'a, str>, Json<'a>)> = std::mem::take(map).into_iter().collect();
            pairs.sort_by(|a, b| a.0.cmp(&b.0));
            *value = Json::Array(pairs.into_iter().map(|(key, value)| Json::Array(vec![Json::String(key), value])).collect());
        }
        Json::Array(_) => {}
        _ => {
            notes.invalid(path, "expected an array", value.take());
            *value = Json::Array(Vec::new());
        }
    }
    let Json::Array(tags) = value else { return };
    for (index, tag) in tags.iter_mut().enumerate() {
        let path = path.index(index);
        match tag {
            Json::Null => {}
            Json::Array(pair) if pair.len() == 2 => {
                for (at, part) in pair.iter_mut().enumerate().filter(|(_, part)| !part.is_null()) {
                    part_of(part, at == 0, path.index(at), notes);
                }
            }
            other => notes.invalid(path, "expected a tuple", other.take()),
        }
    }
}

fn part_of<'a>(part: &mut Json<'a>, is_key: bool, path: Path<'_>, notes: &mut Notes<'a>) {
    if !primitive(part, path, notes) {
        return;
    }
    let Some(given) = part.as_str() else { return };
    let changed = if is_key { given.contains(' ').then(|| given.replace(' ', "-")) } else { Some(given.trim()).filter(|t| *t != given).map(str::to_owned) };
    if let Some(changed) = changed {
        *part = Json::text(changed);
    }
    let chars = if is_key { Chars::Word("_.:-") } else { Chars::Without("\n") };
    let text = part.as_str().unwrap_or_default();
    if text.is_empty() {
        notes.error(path, "invalid_data", vec![("reason", Json::text("expected a non-empty value"))]);
        *part = Json::Null;
    } else if let Some(refused) = chars.first_refused(text) {
        notes.invalid(path, format!("invalid character {refused:?}"), part.take());
    }
}

/// Takes out tags that stand for fields and those that come again, and adds the fields that stand for tags.
pub fn normalise<'a>(event: &mut Object<'a>, notes: &mut Notes<'a>) {
    let path = Path::Root.key("tags");
    let mut tags = match event.remove("tags") {
        Some(Json::Array(tags)) => tags,
        _ => Vec::new(),
    };
    let mut seen: BTreeSet<String> = BTreeSet::new();
    let keeps: Vec<bool> = tags
        .iter()
        .map(|tag| match key(tag) {
            Some(key) => key != "environment" && !RESERVED.contains(&key) && seen.insert(key.to_owned()),
            None => true,
        })
        .collect();
    if keeps.contains(&false) {
        environment(event, &tags);
        let places: Vec<Option<usize>> = keeps.iter().scan(0, |next, keep| Some(keep.then(|| std::mem::replace(next, *next + 1)))).collect();
        notes.move_elements(path, |index| places.get(index).copied().flatten());
        let mut keeps = keeps.into_iter();
        tags.retain(|_| keeps.next().unwrap_or(true));
    }
    for name in ["server_name", "site"] {
        notes.forget_below(Path::Root.key(name));
        if let Some(text @ Json::String(_)) = event.remove(name) {
            tags.retain(|tag| key(tag) != Some(name));
            tags.push(Json::Array(vec![Json::text(name), text]));
        }
    }
    for (index, tag) in tags.iter_mut().enumerate() {
        for (at, part) in tag.as_array_mut().into_iter().flatten().enumerate() {
            shorten(part, TAG_CHARS_MAX, 0, path.index(index).index(at), notes);
        }
    }
    if !tags.is_empty() || notes.has(path) {
        event.insert("tags", Json::Array(tags));
    }
}

/// The tag stands for the field where that has nothing.
fn environment<'a>(event: &mut Object<'a>, tags: &[Json<'a>]) {
    let tagged = tags.iter().find(|tag| key(tag) == Some("environment")).and_then(|tag| tag.as_array()?.get(1)).filter(|value| !value.is_null());
    if event.get("environment").is_none()
        && let Some(tagged) = tagged
    {
        event.insert("environment", tagged.clone());
    }
}

fn key<'t>(tag: &'t Json<'_>) -> Option<&'t str> {
    tag.as_array()?.first()?.as_str()
}

/// The tags of a normalised event in their order.
pub fn pairs<'e>(event: &'e Json<'_>) -> impl Iterator<Item = (&'e str, &'e str)> {
    event.get("tags").and_then(Json::as_array).unwrap_or_default().iter().filter_map(|pair| match pair.as_array()? {
        [key, value] => Some((key.as_str()?, value.as_str()?)),
        _ => None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tags_become_pairs() {
        let check = |json: &str, want: &str| {
            let mut tags = Json::parse(json.as_bytes()).unwrap();
            let mut notes = Notes::default();
            read(&mut tags, Path::Root.key("tags"), &mut notes);
            let mut event: Object<'_> = [("tags", tags)].into_iter().collect();
            normalise(&mut event, &mut notes);
            assert_eq!(event.get("tags").map(Json::to_string).unwrap_or_default(), want, "{json}");
        };
        check(r#"{"d":2.9,"a":"1","b c":true,"e":"","f":null,"g":7}"#, r#"[["a","1"],["b-c","True"],["d","2"],["e",null],["f",null],["g","7"]]"#);
        check(r#"[["a","1"],["a","2"],null,["x"],[1,"y"]]"#, r#"[["a","1"],null,null,["1","y"]]"#);
        check(r#"{"release":"1","dist":"1","user":"1","filename":"1","function":"1"}"#, "");
        check(r#"{"ü":"1","a":"x\ny"}"#, r#"[["a",null],[null,"1"]]"#);
        check("3", "[]");
        check(&format!(r#"{{"k":"{}"}}"#, "v".repeat(300)), &format!(r#"[["k","{}..."]]"#, "v".repeat(197)));
    }
}
