//! The message: `logentry` with its parameters filled in (`spec/ingest.md` sections 3.1 and 3.2).

use std::borrow::Cow;

use weir_protocol::json::{Json, Object};

use super::fields::LOGENTRY;
use super::note::Notes;
use super::path::Path;
use super::read::{self, is_empty, sorted_text};

/// A message with its parameters is at most this long in bytes; a longer one stays without them. It is cut to 8,192 characters in
/// the end, but a parameter may be named any number of times.
const FILLED_IN_BYTES_MAX: usize = 64 << 10;
/// A parameter's name ends within so many bytes, or it is none.
const NAME_BYTES_MAX: usize = 256;

/// Reads `logentry` (or `message`, its other name) as `{message?, formatted, params?}`; an empty one goes.
pub fn read<'a>(value: &mut Json<'a>, path: Path<'_>, notes: &mut Notes<'a>) {
    let mut entry = match value.take() {
        Json::Object(entry) => entry,
        text @ Json::String(_) => [("formatted", text)].into_iter().collect(),
        other => [("formatted", Json::text(sorted_text(&other)))].into_iter().collect(),
    };
    if entry.iter().all(|(_, value)| value.is_null()) {
        return;
    }
    read::object(&mut entry, &LOGENTRY, path, notes);
    let is_text = |entry: &Object<'_>, key| entry.get(key).and_then(Json::as_str).is_some();
    if !is_text(&entry, "formatted") && !is_text(&entry, "message") {
        notes.forget_below(path);
        for field in LOGENTRY.fields.iter().filter(|field| !entry.contains_key(field.name)).collect::<Vec<_>>() {
            entry.insert(field.name, Json::Null);
        }
        return notes.invalid(path, "no message present", Json::Object(entry));
    }
    entry.retain(|key, _| LOGENTRY.field(key).is_some());
    if let (false, Some(message)) = (is_text(&entry, "formatted"), entry.get("message").and_then(Json::as_str)) {
        let formatted = entry.get("params").and_then(|params| filled_in(message, params)).unwrap_or_else(|| message.to_owned());
        notes.forget_below(path.key("formatted"));
        entry.insert("formatted", Json::text(formatted));
    }
    if entry.get("message") == entry.get("formatted") {
        entry.remove("message");
    }
    if !entry.iter().all(|(_, value)| is_empty(value)) || notes.has_below(path) {
        *value = Json::Object(entry);
    }
}

/// The message with its parameters, where it names any: Python's `%s` and `%(name)s`, else `{}`, `{0}` and `{name}`.
///
/// `None` where they do not fit, or where the whole would be longer than [`FILLED_IN_BYTES_MAX`]. Widths and precisions are not applied.
pub fn filled_in(message: &str, params: &Json<'_>) -> Option<String> {
    if message.contains('%') { percent(message, params) } else { curly(message, params) }
}

/// What stands before the first of these characters, and what follows it, where it comes soon enough to end a name.
fn name_before(text: &str, end: u8) -> Option<(&str, &str)> {
    let at = text.bytes().take(NAME_BYTES_MAX).position(|byte| byte == end)?;
    Some((&text[..at], &text[at + 1..]))
}

/// The text that is made.
struct FilledIn(String);

impl FilledIn {
    fn of(message: &str) -> Self {
        Self(String::with_capacity(message.len().min(FILLED_IN_BYTES_MAX)))
    }

    fn push(&mut self, text: &str) -> Option<()> {
        if self.0.len() + text.len() > FILLED_IN_BYTES_MAX {
            return None;
        }
        self.0.push_str(text);
        Some(())
    }
}

/// Takes the parameters of a list one after the other.
struct Params<'p, 'a> {
    all: &'p Json<'a>,
    next: usize,
}

impl<'p, 'a> Params<'p, 'a> {
    fn next(&mut self) -> Option<&'p Json<'a>> {
        self.next += 1;
        self.at(self.next - 1)
    }

    fn at(&self, index: usize) -> Option<&'p Json<'a>> {
        self.all.as_array()?.get(index).filter(|param| !param.is_null())
    }
}

fn percent(message: &str, params: &Json<'_>) -> Option<String> {
    let mut params = Params { all: params, next: 0 };
    let mut out = FilledIn::of(message);
    let mut rest = message;
    while let Some(at) = rest.find('%') {
        out.push(&rest[..at])?;
        rest = &rest[at + 1..];
        let Some((name, conversion, after)) = directive(rest) else {
            out.push("%")?;
            continue;
        };
        rest = after;
        if conversion == '%' {
            out.push("%")?;
            continue;
        }
        let param = match name {
            Some(name) => params.all.get(name)?,
            None => params.next()?,
        };
        out.push(&converted(param, conversion))?;
    }
    out.push(rest)?;
    Some(out.0)
}

/// The name, if any, and the conversion of what stands after a percent sign, and what follows.
fn directive(text: &str) -> Option<(Option<&str>, char, &str)> {
    let (name, rest) = match text.strip_prefix('(') {
        Some(named) => name_before(named, b')').map(|(name, rest)| (Some(name), rest))?,
        None => (None, text),
    };
    let flags = rest.find(|c: char| !"0123456789.+-# *hlL".contains(c))?;
    let conversion = rest[flags..].chars().next().filter(|c| "diouxXeEfFgGcrs%".contains(*c))?;
    Some((name, conversion, &rest[flags + 1..]))
}

fn converted<'p>(param: &'p Json<'_>, conversion: char) -> Cow<'p, str> {
    match (conversion, param) {
        ('x', Json::Int(number)) => format!("{number:x}").into(),
        ('X', Json::Int(number)) => format!("{number:X}").into(),
        ('o', Json::Int(number)) => format!("{number:o}").into(),
        ('e', Json::Float(number)) => format!("{number:e}").into(),
        ('E', Json::Float(number)) => format!("{number:E}").into(),
        ('r', _) => param.to_string().into(),
        _ => text_of(param),
    }
}

fn curly(message: &str, params: &Json<'_>) -> Option<String> {
    let mut params = Params { all: params, next: 0 };
    let mut out = FilledIn::of(message);
    let mut rest = message;
    while let Some(at) = rest.find('{') {
        out.push(&rest[..at])?;
        rest = &rest[at + 1..];
        let name = name_before(rest, b'}').filter(|(name, _)| name.chars().all(|c| c.is_alphanumeric() || c == '_'));
        let Some((name, after)) = name else {
            out.push("{")?;
            continue;
        };
        let param = match name.parse::<usize>() {
            _ if name.is_empty() => params.next()?,
            Ok(index) => params.at(index)?,
            Err(_) => params.all.get(name)?,
        };
        out.push(&text_of(param))?;
        rest = after;
    }
    out.push(rest)?;
    Some(out.0)
}

fn text_of<'p>(param: &'p Json<'_>) -> Cow<'p, str> {
    match param {
        Json::String(text) => Cow::Borrowed(text),
        Json::Float(number) => number.to_string().into(),
        other => sorted_text(other).into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_become_log_entries() {
        let check = |json: &str, want: &str| {
            let mut entry = Json::parse(json.as_bytes()).unwrap();
            read(&mut entry, Path::Root.key("logentry"), &mut Notes::default());
            assert_eq!(entry.to_string(), want, "{json}");
        };
        check(r#""kept""#, r#"{"formatted":"kept"}"#);
        check(r#"{"formatted":"kept"}"#, r#"{"formatted":"kept"}"#);
        check(r#"{"message":"a","formatted":"a"}"#, r#"{"formatted":"a"}"#);
        check(r#"{"message":"%s is %d","params":["x",3]}"#, r#"{"message":"%s is %d","params":["x",3],"formatted":"x is 3"}"#);
        check("[1,2]", r#"{"formatted":"[1,2]"}"#);
        check(r#""""#, "null");
        check("{}", "null");
        check(r#"{"params":[1]}"#, "null");
    }

    #[test]
    fn parameters_are_filled_in() {
        let check = |message: &str, params: &str, want: Option<&str>| {
            assert_eq!(filled_in(message, &Json::parse(params.as_bytes()).unwrap()).as_deref(), want, "{message} {params}");
        };
        check("%s of %s", r#"["1","2"]"#, Some("1 of 2"));
        check("%(n)s at 100%%", r#"{"n":7}"#, Some("7 at 100%"));
        check("%.2f s", "[1.5]", Some("1.5 s"));
        check("%x %r", r#"[255,"a"]"#, Some("ff \"a\""));
        check("{} and {}", r#"["a","b"]"#, Some("a and b"));
        check("{1} {0}", r#"["a","b"]"#, Some("b a"));
        check("{name} {{}", r#"{"name":"n"}"#, None);
        check("{name} {!}", r#"{"name":"n"}"#, Some("n {!}"));
        check("%s %s", r#"["a"]"#, None);
        check("%s", "[null]", None);
        check("100% {}", r#"["a"]"#, Some("100% {}"));
        check("plain", r#"["a"]"#, Some("plain"));
        let distant = format!("{{{}}} %({})s", "n".repeat(NAME_BYTES_MAX), "n".repeat(NAME_BYTES_MAX));
        check(&distant, "[]", Some(&distant));
    }

    #[test]
    fn a_message_that_would_grow_without_bound_stays_as_it_is() {
        let params = format!(r#"["{}"]"#, "x".repeat(1000));
        let params = Json::parse(params.as_bytes()).unwrap();
        assert_eq!(filled_in(&"{0}".repeat(60), &params).map(|text| text.len()), Some(60_000));
        assert_eq!(filled_in(&"{0}".repeat(100_000), &params), None);
        let named = format!(r#"{{"n":"{}"}}"#, "x".repeat(1000));
        assert_eq!(filled_in(&"%(n)s".repeat(100_000), &Json::parse(named.as_bytes()).unwrap()), None);
        let entry: Object<'_> = [("message", Json::text("{0}".repeat(100_000))), ("params", params)].into_iter().collect();
        let mut entry = Json::Object(entry);
        read(&mut entry, Path::Root.key("logentry"), &mut Notes::default());
        assert_eq!(entry.str_at(&["formatted"]).map(str::len), Some(300_000));
    }
}
