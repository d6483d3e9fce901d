//! The name of a transaction: what in it differs from call to call becomes `*` (`spec/ingest.md` section 3.3).

use weir_protocol::json::{Json, Object};

use super::note::Notes;
use super::path::Path;

/// The name of a transaction that has none.
pub const UNLABELED: &str = "<unlabeled transaction>";

/// Gives a transaction a name and a source, and takes ids out of a name that is a URL.
pub fn normalise<'a>(event: &mut Object<'a>, notes: &mut Notes<'a>) {
    if event.get("transaction").and_then(Json::as_str).is_none_or(str::is_empty) {
        event.insert("transaction", Json::text(UNLABELED));
    }
    if event.get("transaction_info").is_none() {
        event.insert("transaction_info", Json::Object(Object::new()));
    }
    let Some(Json::Object(info)) = event.get_mut("transaction_info") else { return };
    let source = info.get("source").and_then(Json::as_str).unwrap_or_default();
    match source {
        "url" | "sanitized" => info.insert("source", Json::text("sanitized")),
        "" => return info.insert("source", Json::text("unknown")),
        _ => return,
    }
    let Some(Json::String(name)) = event.get("transaction") else { return };
    let (general, ids) = without_ids(name);
    if ids.is_empty() {
        return;
    }
    let path = Path::Root.key("transaction");
    ids.into_iter().for_each(|(rule, range)| notes.replaced(path, rule, range));
    if general != "*" {
        notes.original(path, Json::String(name.clone()));
        event.insert("transaction", Json::text(general));
    }
}

/// The name with its ids replaced, and what each was and where it stood.
fn without_ids(name: &str) -> (String, Vec<(&'static str, std::ops::Range<usize>)>) {
    let mut general = String::with_capacity(name.len());
    let mut ids = Vec::new();
    let mut start = 0;
    for segment in name.split_inclusive('/') {
        let (text, slash) = segment.strip_suffix('/').map_or((segment, ""), |text| (text, "/"));
        match id_kind(text) {
            Some(kind) => {
                ids.push((kind, start..start + text.len()));
                general.push('*');
            }
            None => general.push_str(text),
        }
        general.push_str(slash);
        start += segment.len();
    }
    (general, ids)
}

/// What kind of id a segment is.
fn id_kind(segment: &str) -> Option<&'static str> {
    let is_hex = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_hexdigit());
    let has_number = segment.as_bytes().windows(2).any(|pair| pair.iter().all(u8::is_ascii_digit));
    match segment.len() {
        _ if has_number => Some("int"),
        40 if is_hex(segment) => Some("sha1"),
        32 if is_hex(segment) => Some("md5"),
        36 if uuid::Uuid::parse_str(segment).is_ok() => Some("uuid"),
        _ if segment.strip_prefix("0x").or_else(|| segment.strip_prefix("0X")).is_some_and(is_hex) => Some("hex"),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_urls_lose_their_ids() {
        let check = |name: &str, want: &str| assert_eq!(without_ids(name).0, want, "{name}");
        check("/users/1234/details", "/users/*/details");
        check("/a/550e8400-e29b-41d4-a716-446655440000/b", "/a/*/b");
        check("GET /x/abc_123", "GET /x/*");
        check("/x/0xdeadbeef", "/x/*");
        check("/x/deadbeef/1/v2", "/x/deadbeef/1/v2");
        check("//1234//", "//*//");
        check("", "");
    }

    #[test]
    fn only_urls_are_sanitized() {
        let check = |json: &str, want: &str| {
            let mut event = Json::parse(json.as_bytes()).unwrap();
            normalise(event.as_object_mut().unwrap(), &mut Notes::default());
            assert_eq!(event.to_string(), want, "{json}");
        };
        check("{}", r#"{"transaction":"<unlabeled transaction>","transaction_info":{"source":"unknown"}}"#);
        check(r#"{"transaction":"/a/12","transaction_info":{"source":"url"}}"#, r#"{"transaction":"/a/*","transaction_info":{"source":"sanitized"}}"#);
        check(r#"{"transaction":"/a/12","transaction_info":{"source":"route"}}"#, r#"{"transaction":"/a/12","transaction_info":{"source":"route"}}"#);
        check(r#"{"transaction":"12","transaction_info":{"source":"url"}}"#, r#"{"transaction":"12","transaction_info":{"source":"sanitized"}}"#);
    }
}
