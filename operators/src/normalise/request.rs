//! The HTTP request of an event (`spec/ingest.md` sections 3.2 and 3.5).

use std::borrow::Cow;

use weir_protocol::json::{Json, Object};

use super::note::Notes;
use super::path::Path;
use super::read::{is_empty, primitive, primitive_text, sorted_text};

const METHOD_CHARS_MAX: usize = 32;
const FORM: &str = "application/x-www-form-urlencoded";
const JSON: &str = "application/json";

/// Brings `request` into form.
pub fn normalise<'a>(event: &mut Object<'a>, notes: &mut Notes<'a>) {
    let Some(Json::Object(request)) = event.get_mut("request") else { return };
    let path = Path::Root.key("request");
    method(request, path, notes);
    url(request);
    cookie_header(request);
    body(request);
    request.retain(|key, value| match (key, &value) {
        ("data", Json::String(text)) => !text.is_empty(),
        ("url" | "query_string" | "fragment" | "cookies" | "headers" | "env", value) => !is_empty(value) || notes.has(path.key(key)),
        _ => true,
    });
    if request.is_empty() {
        event.remove("request");
    }
}

/// The value of a header of a normalised request, by its name in any case.
pub fn header<'r>(request: &'r Json<'_>, name: &str) -> Option<&'r str> {
    let headers = request.get("headers")?.as_array()?;
    headers.iter().filter_map(Json::as_array).find(|pair| pair.first().and_then(Json::as_str).is_some_and(|n| n.eq_ignore_ascii_case(name)))?.get(1)?.as_str()
}

fn method<'a>(request: &mut Object<'a>, path: Path<'_>, notes: &mut Notes<'a>) {
    let Some(value) = request.get_mut("method") else { return };
    let Some(given) = value.as_str() else { return };
    let upper = given.to_uppercase();
    if upper != given {
        *value = Json::text(upper.clone());
    }
    let is_name = upper.bytes().all(|byte| byte.is_ascii_uppercase() || b"-_".contains(&byte)) && upper.bytes().any(|byte| byte.is_ascii_uppercase());
    if !is_name || upper.len() > METHOD_CHARS_MAX {
        notes.refused(path.key("method"), value.take());
    }
}

/// Query and fragment move out of the URL; an absolute one is written as browsers write it.
fn url(request: &mut Object<'_>) {
    let Some(given) = request.get("url").and_then(Json::as_str) else { return };
    let (address, query, fragment) = match url::Url::parse(given) {
        Ok(mut url) => {
            let (query, fragment) = (url.query().map(str::to_owned), url.fragment().map(str::to_owned));
            url.set_query(None);
            url.set_fragment(None);
            (url.to_string(), query, fragment)
        }
        Err(_) => {
            let (rest, fragment) = given.split_once('#').map_or((given, None), |(rest, fragment)| (rest, Some(fragment.to_owned())));
            let (address, query) = rest.split_once('?').map_or((rest, None), |(address, query)| (address, Some(query.to_owned())));
            (address.to_owned(), query, fragment)
        }
    };
    if address != given {
        request.insert("url", Json::text(address));
    }
    if let Some(query) = query.filter(|_| request.get("query_string").is_none()) {
        request.insert("query_string", pairs_json(form_pairs(&query)));
    }
    if let Some(fragment) = fragment.filter(|_| request.get("fragment").is_none()) {
        request.insert("fragment", Json::text(fragment));
    }
}

/// The first `Cookie` header is the cookies, where there are none yet.
fn cookie_header(request: &mut Object<'_>) {
    let has_cookies = request.get("cookies").is_some();
    let Some(headers) = request.get_mut("headers").and_then(Json::as_array_mut) else { return };
    let is_cookie = |pair: &Json<'_>| pair.as_array().and_then(|pair| pair.first()).and_then(Json::as_str) == Some("Cookie");
    let Some(at) = headers.iter().position(is_cookie) else { return };
    let text = headers[at].as_array().and_then(|pair| pair.get(1)).and_then(Json::as_str).unwrap_or_default();
    let cookies = match parse_cookies(text) {
        (cookies, None) => cookies,
        (_, Some(_)) if has_cookies => Vec::new(),
        (_, Some(_)) => return,
    };
    headers.remove(at);
    if !has_cookies {
        request.insert("cookies", pairs_json(cookies));
    }
}

/// A body that is JSON or a form becomes structure, and `inferred_content_type` says which it was.
fn body(request: &mut Object<'_>) {
    let content_type = request_content_type(request);
    let mut inferred = content_type;
    if let Some(data) = request.get_mut("data")
        && let Some(text) = data.as_str()
    {
        if let Some(parsed) = Json::parse(text.as_bytes()).ok().filter(|parsed| !parsed.is_null()) {
            inferred = Some(JSON.to_owned());
            *data = parsed.into_owned();
        } else if is_form(text) {
            inferred = Some(FORM.to_owned());
            *data = Json::Object(form_pairs(text).into_iter().map(|(name, value)| (name, Json::text(value))).collect());
        }
    }
    match inferred.filter(|inferred| !inferred.is_empty()) {
        Some(inferred) => request.insert("inferred_content_type", Json::text(inferred)),
        None => drop(request.remove("inferred_content_type")),
    }
}

/// Whether the text is a form with something in it.
fn is_form(text: &str) -> bool {
    text.contains('=')
}

/// The media type that the headers name, without its parameters.
fn request_content_type(request: &Object<'_>) -> Option<String> {
    let headers = request.get("headers")?.as_array()?;
    let named = |pair: &&[Json<'_>]| pair.first().and_then(Json::as_str) == Some("Content-Type");
    let value = headers.iter().filter_map(Json::as_array).find(named)?.get(1)?.as_str()?;
    Some(value.split(';').next().unwrap_or_default().to_owned())
}

/// Names and values.
type Pairs = Vec<(String, String)>;

fn pairs_json<'a>(pairs: Pairs) -> Json<'a> {
    Json::Array(pairs.into_iter().map(|(name, value)| Json::Array(vec![Json::text(name), Json::text(value)])).collect())
}

/// Reads headers as a list of pairs, names as they are usually written.
pub fn read_headers<'a>(value: &mut Json<'a>, path: Path<'_>, notes: &mut Notes<'a>) {
    let is_map = value.as_object().is_some();
    if is_map || value.as_array().is_some() {
        read_pairs(value, read_header, path, notes);
    } else {
        return notes.invalid(path, "expected an array", value.take());
    }
    let Json::Array(pairs) = value else { return };
    for pair in pairs.iter_mut() {
        if let Some([name, _]) = pair.as_array_mut().map(Vec::as_mut_slice)
            && let Some(title) = name.as_str().and_then(title_case)
        {
            *name = Json::text(title);
        }
    }
    if is_map {
        let name = |pair: &Json<'a>| pair.as_array().and_then(|pair| pair.first()).and_then(Json::as_str).unwrap_or_default().to_owned();
        pairs.sort_by_key(name);
    }
}

/// A header's value; several values of one header are joined.
fn read_header<'a>(value: &mut Json<'a>, path: Path<'_>, notes: &mut Notes<'a>) {
    let Json::Array(values) = value else {
        primitive(value, path, notes);
        return;
    };
    let (mut texts, mut is_refused) = (Vec::new(), false);
    for value in std::mem::take(values).into_iter().filter(|value| !value.is_null()) {
        match primitive_text(&value) {
            Ok(text) => texts.push(text.into_owned()),
            Err(reason) if !is_refused => {
                is_refused = true;
                notes.error(path, "invalid_data", vec![("reason", Json::text(reason))]);
            }
            Err(_) => {}
        }
    }
    *value = Json::text(texts.join(","));
}

/// Reads cookies, text or pairs, as a list of pairs of texts.
pub fn read_cookies<'a>(value: &mut Json<'a>, path: Path<'_>, notes: &mut Notes<'a>) {
    match value {
        Json::Object(_) | Json::Array(_) => read_pairs(value, read_text, path, notes),
        Json::String(text) if text.is_empty() => *value = Json::Null,
        Json::String(text) => {
            let (cookies, wrong) = parse_cookies(text);
            let given = std::mem::replace(value, pairs_json(cookies));
            if let Some(wrong) = wrong {
                notes.invalid(path, wrong, given);
            }
        }
        other => notes.invalid(path, "expected cookies", other.take()),
    }
}

fn read_text<'a>(value: &mut Json<'a>, path: Path<'_>, notes: &mut Notes<'a>) {
    if value.as_str().is_none() {
        notes.invalid(path, "expected a string", value.take());
    }
}

/// The cookies, and what is wrong with the first that is none.
fn parse_cookies(text: &str) -> (Pairs, Option<&'static str>) {
    let (mut cookies, mut wrong) = (Vec::new(), None);
    for part in text.split(';').filter(|part| !part.trim().is_empty()) {
        match part.split_once('=').map(|(name, value)| (name.trim(), value.trim())) {
            None => wrong = wrong.or(Some("the cookie is missing a name/value pair")),
            Some(("", _)) => wrong = wrong.or(Some("the cookie's name is empty")),
            Some((name, value)) => cookies.push((percent_decoded(name, false), percent_decoded(value, false))),
        }
    }
    (cookies, wrong)
}

/// Reads a query, text or pairs, as a list of pairs of texts.
pub fn read_query<'a>(value: &mut Json<'a>, path: Path<'_>, notes: &mut Notes<'a>) {
    match value {
        Json::Object(_) | Json::Array(_) => read_pairs(value, read_text_or_json, path, notes),
        Json::String(text) => *value = pairs_json(form_pairs(text.trim_start_matches('?'))),
        other => notes.invalid(path, "expected a query string or map", other.take()),
    }
}

/// Reads a text; anything else becomes its JSON.
pub fn read_text_or_json<'a>(value: &mut Json<'a>, _path: Path<'_>, _notes: &mut Notes<'a>) {
    if value.as_str().is_none() {
        *value = Json::text(sorted_text(value));
    }
}

/// Reads a map or a list of pairs as a list of pairs with texts for names.
fn read_pairs<'a>(value: &mut Json<'a>, read: fn(&mut Json<'a>, Path<'_>, &mut Notes<'a>), path: Path<'_>, notes: &mut Notes<'a>) {
    if let Json::Object(map) = value {
        let mut pairs: Vec<(Cow<'a, str>, Json<'a>)> = std::mem::take(map).into_iter().collect();
        pairs.sort_by(|a, b| a.0.cmp(&b.0));
        *value = Json::Array(pairs.into_iter().map(|(name, value)| Json::Array(vec![Json::String(name), value])).collect());
    }
    let Json::Array(pairs) = value else { return };
    for (index, pair) in pairs.iter_mut().enumerate() {
        let path = path.index(index);
        match pair {
            Json::Null => {}
            Json::Array(parts) if parts.len() == 2 => {
                let [name, value] = parts.as_mut_slice() else { continue };
                if !name.is_null() {
                    read_text(name, path.index(0), notes);
                }
                if !value.is_null() {
                    read(value, path.index(1), notes);
                }
            }
            other => notes.invalid(path, "expected a tuple", other.take()),
        }
    }
}

/// `user-agent` → `User-Agent`; `None` where it is written so already.
fn title_case(name: &str) -> Option<String> {
    let is_lower = |word: &str| word.chars().next().is_some_and(|first| first.to_uppercase().next() != Some(first));
    if !name.split('-').any(is_lower) {
        return None;
    }
    let title = |word: &str| {
        let mut chars = word.chars();
        chars.next().map_or_else(String::new, |first| first.to_uppercase().chain(chars).collect())
    };
    Some(name.split('-').map(title).collect::<Vec<_>>().join("-"))
}

/// The pairs of `a=1&b=2` with percent signs and pluses undone.
fn form_pairs(text: &str) -> Pairs {
    text.split('&')
        .filter(|part| !part.is_empty())
        .map(|part| part.split_once('=').unwrap_or((part, "")))
        .map(|(name, value)| (percent_decoded(name, true), percent_decoded(value, true)))
        .collect()
}

fn percent_decoded(text: &str, plus_is_blank: bool) -> String {
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
            (b'+', _) if plus_is_blank => out.push(b' '),
            (byte, _) => out.push(byte),
        }
        at += 1;
    }
    String::from_utf8_lossy(&out).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::normalise::fields::EVENT;
    use crate::normalise::read;

    #[test]
    fn requests() {
        let check = |json: &str, want: &str| {
            let text = format!(r#"{{"request":{json}}}"#);
            let mut event = Json::parse(text.as_bytes()).unwrap();
            let (event, mut notes) = (event.as_object_mut().unwrap(), Notes::default());
            read::object(event, &EVENT, Path::Root, &mut notes);
            normalise(event, &mut notes);
            assert_eq!(event.get("request").map(Json::to_string).unwrap_or_default(), want, "{json}");
        };
        check(r#"{"url":"http://h/p?a=1&b=x%20y#frag"}"#, r#"{"url":"http://h/p","query_string":[["a","1"],["b","x y"]],"fragment":"frag"}"#);
        check(r#"{"url":"/p?a=1","query_string":"b=2"}"#, r#"{"url":"/p","query_string":[["b","2"]]}"#);
        check(r#"{"method":"get"}"#, r#"{"method":"GET"}"#);
        check(r#"{"method":"not a token"}"#, r#"{"method":null}"#);
        check(r#"{"headers":{"user-agent":"x","COOKIE-x":1}}"#, r#"{"headers":[["COOKIE-X","1"],["User-Agent","x"]]}"#);
        check(r#"{"headers":[["cookie","a=1; b=2"]]}"#, r#"{"cookies":[["a","1"],["b","2"]]}"#);
        check(r#"{"headers":{"a":["x",1,null]}}"#, r#"{"headers":[["A","x,1"]]}"#);
        check(r#"{"data":"{\"a\":1}"}"#, r#"{"data":{"a":1},"inferred_content_type":"application/json"}"#);
        check(r#"{"data":"a=1+2"}"#, r#"{"data":{"a":"1 2"},"inferred_content_type":"application/x-www-form-urlencoded"}"#);
        check(r#"{"query_string":{"a":1}}"#, r#"{"query_string":[["a","1"]]}"#);
        check("{}", "");
    }

    #[test]
    fn percent_signs() {
        let check = |text: &str, want: &str| assert_eq!(percent_decoded(text, true), want);
        check("a%20b+c", "a b c");
        check("%", "%");
        check("%zz%4", "%zz%4");
        check("%C3%A9", "é");
        check("%é", "%é");
    }
}
