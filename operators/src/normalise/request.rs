//! The HTTP request of an event (`spec/ingest.md` sections 3.2 and 3.5).

use std::net::IpAddr;

use weir_protocol::json::{Json, Object};

use super::note::Notes;
use super::trim::{bound, shorten, shortened};
use super::user::{AUTO, InferIp};

const URL_CHARS_MAX: usize = 256;
const FRAGMENT_CHARS_MAX: usize = 1024;
const BODY_CHARS_MAX: usize = 8 << 10;
const BAG_BYTES_MAX: usize = 8 << 10;
const COOKIES_BYTES_MAX: usize = 2 << 10;
const QUERY_BYTES_MAX: usize = 1 << 10;
const METHOD_CHARS_MAX: usize = 32;

/// Names and values.
type Pairs<'a> = Vec<(String, Json<'a>)>;

/// Brings `request` into form.
pub fn normalise<'a>(event: &mut Object<'a>, client_ip: Option<IpAddr>, notes: &mut Notes<'a>) {
    let infer = InferIp::of(event);
    let mut request = match event.remove("request") {
        None | Some(Json::Null) => return,
        Some(Json::Object(request)) => request,
        Some(other) => return notes.invalid(&["request"], other),
    };
    url(&mut request, notes);
    method(&mut request, notes);
    pairs(&mut request, "headers", BAG_BYTES_MAX, header_pairs, notes);
    cookie_header(&mut request);
    pairs(&mut request, "cookies", COOKIES_BYTES_MAX, cookie_pairs, notes);
    pairs(&mut request, "query_string", QUERY_BYTES_MAX, query_pairs, notes);
    env(&mut request, client_ip.filter(|_| infer != InferIp::Never), notes);
    body(&mut request);
    request.retain(|_, value| !value.is_null());
    if !request.is_empty() {
        event.insert("request", Json::Object(request));
    }
}

/// The value of a header of a normalised request, by its name in any case.
pub fn header<'r>(request: &'r Json<'_>, name: &str) -> Option<&'r str> {
    let headers = request.get("headers")?.as_array()?;
    headers.iter().filter_map(Json::as_array).find(|pair| pair.first().and_then(Json::as_str).is_some_and(|n| n.eq_ignore_ascii_case(name)))?.get(1)?.as_str()
}

/// Query and fragment move out of the URL.
fn url<'a>(request: &mut Object<'a>, notes: &mut Notes<'a>) {
    let Some(value) = request.remove("url").filter(|v| !v.is_null()) else { return };
    let Json::String(text) = value else { return notes.invalid(&["request", "url"], value) };
    let (rest, fragment) = text.split_once('#').map_or((text.as_ref(), None), |(rest, fragment)| (rest, Some(fragment)));
    let (address, query) = rest.split_once('?').map_or((rest, None), |(address, query)| (address, Some(query)));
    for (key, part) in [("query_string", query), ("fragment", fragment)] {
        if let Some(part) = part.filter(|part| !part.is_empty() && request.get(key).is_none()) {
            request.insert(key, Json::text(part.to_owned()));
        }
    }
    if let Some(fragment) = request.get_mut("fragment") {
        shorten(fragment, FRAGMENT_CHARS_MAX);
    }
    if !address.is_empty() {
        request.insert("url", Json::text(shortened(address, URL_CHARS_MAX).unwrap_or_else(|| address.to_owned())));
    }
}

fn method<'a>(request: &mut Object<'a>, notes: &mut Notes<'a>) {
    let Some(value) = request.remove("method").filter(|v| !v.is_null()) else { return };
    match value.as_str().map(str::trim) {
        Some("") => {}
        Some(text) if text.len() <= METHOD_CHARS_MAX && text.bytes().all(is_token_byte) => request.insert("method", Json::text(text.to_ascii_uppercase())),
        _ => notes.invalid(&["request", "method"], value),
    }
}

/// RFC 9110 section 5.6.2.
fn is_token_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

/// Brings a field into a bounded list of pairs.
fn pairs<'a>(request: &mut Object<'a>, key: &'static str, bytes_max: usize, read: fn(&Json<'a>) -> Option<Pairs<'a>>, notes: &mut Notes<'a>) {
    let Some(value) = request.remove(key).filter(|v| !v.is_null()) else { return };
    let Some(pairs) = read(&value) else { return notes.invalid(&["request", key], value) };
    let mut list = Json::Array(pairs.into_iter().map(|(name, value)| Json::Array(vec![Json::text(name), value])).collect());
    bound(&mut list, bytes_max);
    if let Some(list) = list.as_array_mut() {
        list.retain(|pair| pair.as_array().is_some_and(|pair| pair.len() == 2));
        if list.is_empty() {
            return;
        }
    }
    request.insert(key, list);
}

/// The pairs of a map or of a list of pairs.
fn any_pairs<'a>(value: &Json<'a>) -> Option<Pairs<'a>> {
    match value {
        Json::Object(map) => Some(map.iter().map(|(name, value)| (name.to_owned(), value.clone())).collect()),
        Json::Array(list) => Some(
            list.iter()
                .filter_map(|pair| match pair.as_array()? {
                    [name, value] => Some((name.as_str()?.to_owned(), value.clone())),
                    _ => None,
                })
                .collect(),
        ),
        _ => None,
    }
}

fn header_pairs<'a>(value: &Json<'a>) -> Option<Pairs<'a>> {
    Some(any_pairs(value)?.into_iter().filter_map(|(name, value)| Some((title_case(&name), header_text(&value)?))).collect())
}

/// A header's value; several values of one header are joined.
fn header_text<'a>(value: &Json<'a>) -> Option<Json<'a>> {
    match value {
        Json::String(_) => Some(value.clone()),
        Json::Null | Json::Object(_) => None,
        Json::Array(values) => Some(Json::text(values.iter().filter_map(Json::as_str).collect::<Vec<_>>().join(","))),
        other => Some(Json::text(other.to_string())),
    }
}

/// `user-agent` → `User-Agent`.
fn title_case(name: &str) -> String {
    name.split('-')
        .map(|word| {
            let mut chars = word.chars();
            chars.next().map_or_else(String::new, |first| first.to_ascii_uppercase().to_string() + chars.as_str())
        })
        .collect::<Vec<_>>()
        .join("-")
}

fn cookie_header(request: &mut Object<'_>) {
    let Some(headers) = request.get_mut("headers").and_then(Json::as_array_mut) else { return };
    let is_cookie = |pair: &Json<'_>| pair.as_array().and_then(|pair| pair.first()).and_then(Json::as_str) == Some("Cookie");
    let Some(at) = headers.iter().position(is_cookie) else { return };
    let header = headers.remove(at);
    headers.retain(|pair| !is_cookie(pair));
    if headers.is_empty() {
        request.remove("headers");
    }
    if request.get("cookies").is_none()
        && let Some(text) = header.as_array().and_then(|pair| pair.get(1))
    {
        request.insert("cookies", text.clone());
    }
}

fn cookie_pairs<'a>(value: &Json<'a>) -> Option<Pairs<'a>> {
    let Json::String(text) = value else { return Some(any_pairs(value)?.into_iter().map(|(name, value)| (name, as_text(value))).collect()) };
    let pair = |part: &str| {
        let (name, value) = part.trim().split_once('=')?;
        Some((name.to_owned(), Json::text(value.to_owned())))
    };
    Some(text.split(';').filter_map(pair).collect())
}

fn query_pairs<'a>(value: &Json<'a>) -> Option<Pairs<'a>> {
    let Json::String(text) = value else { return Some(any_pairs(value)?.into_iter().map(|(name, value)| (name, as_text(value))).collect()) };
    Some(form_pairs(text.trim_start_matches('?')))
}

/// The pairs of `a=1&b=2` with percent signs and pluses undone.
fn form_pairs<'a>(text: &str) -> Pairs<'a> {
    text.split('&')
        .filter(|part| !part.is_empty())
        .map(|part| part.split_once('=').unwrap_or((part, "")))
        .map(|(name, value)| (percent_decoded(name), Json::text(percent_decoded(value))))
        .collect()
}

fn percent_decoded(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut out = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while let Some(&byte) = bytes.get(at) {
        let hex = bytes.get(at + 1..at + 3).and_then(|pair| std::str::from_utf8(pair).ok()).filter(|pair| pair.bytes().all(|b| b.is_ascii_hexdigit()));
        match (byte, hex.and_then(|pair| u8::from_str_radix(pair, 16).ok())) {
            (b'%', Some(decoded)) => {
                out.push(decoded);
                at += 2;
            }
            (b'+', _) => out.push(b' '),
            (byte, _) => out.push(byte),
        }
        at += 1;
    }
    String::from_utf8_lossy(&out).into_owned()
}

fn as_text(value: Json<'_>) -> Json<'_> {
    match value {
        Json::String(_) => value,
        Json::Null => Json::text(""),
        other => Json::text(other.to_string()),
    }
}

fn env<'a>(request: &mut Object<'a>, client_ip: Option<IpAddr>, notes: &mut Notes<'a>) {
    match request.get_mut("env") {
        None | Some(Json::Null) => return,
        Some(Json::Object(env)) => {
            if env.get("REMOTE_ADDR").and_then(Json::as_str) == Some(AUTO) {
                match client_ip {
                    Some(ip) => env.insert("REMOTE_ADDR", Json::text(ip.to_string())),
                    None => drop(env.remove("REMOTE_ADDR")),
                }
            }
        }
        Some(other) => notes.invalid(&["request", "env"], other.take()),
    }
    if let Some(env) = request.get_mut("env") {
        bound(env, BAG_BYTES_MAX);
    }
}

/// A body that is JSON or a form becomes structure, and `inferred_content_type` says which it was.
fn body(request: &mut Object<'_>) {
    let content_type = request_content_type(request);
    let Some(data) = request.get_mut("data") else { return };
    let mut inferred = None;
    if let Some(text) = data.as_str() {
        // A text that was cut has the full length, and what is cut must not be read as something else the next time.
        let is_whole = text.chars().count() < BODY_CHARS_MAX;
        if let Ok(parsed @ (Json::Object(_) | Json::Array(_))) = Json::parse(text.as_bytes()) {
            inferred = Some("application/json");
            *data = parsed.into_owned();
        } else if is_whole && content_type.as_deref() == Some("application/x-www-form-urlencoded") && text.contains('=') {
            inferred = content_type.as_deref();
            *data = Json::Array(form_pairs(text).into_iter().map(|(name, value)| Json::Array(vec![Json::text(name), value])).collect());
        }
    }
    match data {
        Json::String(_) => shorten(data, BODY_CHARS_MAX),
        data => {
            bound(data, BAG_BYTES_MAX);
        }
    }
    let inferred = inferred.map(str::to_owned).or(content_type);
    if let Some(inferred) = inferred.filter(|_| request.get("inferred_content_type").is_none()) {
        request.insert("inferred_content_type", Json::text(inferred));
    }
}

/// The media type that the headers name, without its parameters.
fn request_content_type(request: &Object<'_>) -> Option<String> {
    let headers = request.get("headers")?.as_array()?;
    let named = |pair: &&[Json<'_>]| pair.first().and_then(Json::as_str) == Some("Content-Type");
    let value = headers.iter().filter_map(Json::as_array).find(named)?.get(1)?.as_str()?;
    Some(value.split(';').next().unwrap_or_default().trim().to_ascii_lowercase()).filter(|name| !name.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests() {
        let check = |json: &str, want: &str| {
            let text = format!(r#"{{"request":{json}}}"#);
            let mut event = Json::parse(text.as_bytes()).unwrap();
            normalise(event.as_object_mut().unwrap(), "203.0.113.9".parse().ok(), &mut Notes::default());
            assert_eq!(event.get("request").map(Json::to_string).unwrap_or_default(), want, "{json}");
        };
        check(r#"{"url":"http://h/p?a=1&b=x%20y#frag"}"#, r#"{"fragment":"frag","url":"http://h/p","query_string":[["a","1"],["b","x y"]]}"#);
        check(r#"{"method":"get"}"#, r#"{"method":"GET"}"#);
        check(r#"{"method":"not a token"}"#, "");
        check(r#"{"headers":{"user-agent":"x","COOKIE-x":1}}"#, r#"{"headers":[["User-Agent","x"],["COOKIE-X","1"]]}"#);
        check(r#"{"headers":[["cookie","a=1; b=2"]]}"#, r#"{"cookies":[["a","1"],["b","2"]]}"#);
        check(r#"{"env":{"REMOTE_ADDR":"{{auto}}"}}"#, r#"{"env":{"REMOTE_ADDR":"203.0.113.9"}}"#);
        check(r#"{"data":"{\"a\":1}"}"#, r#"{"data":{"a":1},"inferred_content_type":"application/json"}"#);
        check(r#"{"data":"a=1+2"}"#, r#"{"data":"a=1+2"}"#);
        check(
            r#"{"data":"a=1+2","headers":{"content-type":"application/x-www-form-urlencoded; charset=utf-8"}}"#,
            r#"{"data":[["a","1 2"]],"headers":[["Content-Type","application/x-www-form-urlencoded; charset=utf-8"]],"inferred_content_type":"application/x-www-form-urlencoded"}"#,
        );
        check(r#"{"query_string":{"a":1}}"#, r#"{"query_string":[["a","1"]]}"#);
        check("7", "");
    }

    #[test]
    fn percent_signs() {
        let check = |text: &str, want: &str| assert_eq!(percent_decoded(text), want);
        check("a%20b+c", "a b c");
        check("%", "%");
        check("%zz%4", "%zz%4");
        check("%C3%A9", "é");
        check("%é", "%é");
    }
}
