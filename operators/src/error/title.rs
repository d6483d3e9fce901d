//! Title, culprit and location of an event (`spec/grouping.md` section 4).

use weir_protocol::json::Json;

use crate::event::{self, crash_frame, text};
use crate::grouping::{exception, security};
use crate::normalise::trim::{first_chars, shortened};

const TITLE_CHARS_MAX: usize = 100;
const VALUE_CHARS_MAX: usize = 1024;
const TYPE_CHARS_MAX: usize = 128;
const CULPRIT_CHARS_MAX: usize = 200;

/// The title of an event that says nothing.
pub const UNLABELED: &str = "<unlabeled event>";

/// What a list of issues shows of an event.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Metadata {
    /// One line.
    pub title: String,
    /// Where it happened, by name; empty where that is not known.
    pub culprit: String,
    /// The file.
    pub location: Option<String>,
    /// The type of the main exception.
    pub kind: Option<String>,
    /// The value of the main exception.
    pub value: Option<String>,
    /// The file of the crashing frame.
    pub filename: Option<String>,
    /// The function of the crashing frame.
    pub function: Option<String>,
}

/// The metadata of a normalised event.
pub fn metadata(event: &Json<'_>) -> Metadata {
    let mut metadata = match event.str_at(&["type"]) {
        Some("error") => of_error(event),
        Some(kind @ ("csp" | "hpkp" | "expectct" | "expectstaple" | "nel")) => of_report(event, kind),
        Some("transaction") => titled(text(event, "transaction").unwrap_or("<unlabeled transaction>").to_owned()),
        _ => of_message(event),
    };
    metadata.culprit = culprit(event);
    metadata
}

/// Whether a title only stands for a missing one; it never replaces a real one.
pub fn is_placeholder(title: &str) -> bool {
    matches!(title, UNLABELED | "<untitled>" | "<unknown>" | "")
}

fn titled(title: String) -> Metadata {
    Metadata { title, ..Metadata::default() }
}

fn of_message(event: &Json<'_>) -> Metadata {
    titled(event::message(event).and_then(first_line).unwrap_or_else(|| UNLABELED.to_owned()))
}

/// `Type: first line of the value`; a message that carries a stack is called by its text.
fn of_error(event: &Json<'_>) -> Metadata {
    let Some(main) = exception::main(event) else { return of_message(event) };
    let frame = crash_frame(main);
    let of_frame = |key| frame.and_then(|frame| text(frame, key)).map(str::to_owned);
    let kind = text(main, "type").map(|kind| first_chars(kind, TYPE_CHARS_MAX).to_owned());
    let value = text(main, "value").map(|value| shortened(value, VALUE_CHARS_MAX).unwrap_or_else(|| value.to_owned()));
    let (filename, function) = (of_frame("filename"), of_frame("function"));
    let line = value.as_deref().and_then(first_line);
    let title = match (&kind, line) {
        (Some(kind), Some(line)) => format!("{kind}: {line}"),
        (Some(kind), None) => kind.clone(),
        (None, line) if event::is_attached_stack(main) => event::message(event).and_then(first_line).or(line).or(function.clone()).unwrap_or_else(unknown),
        (None, line) => line.or(function.clone()).unwrap_or_else(unknown),
    };
    Metadata { title, location: filename.clone(), kind, value, filename, function, culprit: String::new() }
}

fn unknown() -> String {
    "<unknown>".to_owned()
}

/// A sentence about what was violated, where the report does not bring its own.
fn of_report(event: &Json<'_>, kind: &str) -> Metadata {
    let report = event.get(kind).unwrap_or(&Json::Null);
    let host = text(report, "hostname").unwrap_or("<unknown>");
    let generated = match kind {
        "csp" => format!("Blocked '{}' from '{}'", security::directive(report).unwrap_or("<unknown>"), security::blocked_origin(report).trim_matches('\'')),
        "hpkp" => format!("Public key pinning validation failed for '{host}'"),
        "expectct" => format!("Expect-CT failed for '{host}'"),
        "expectstaple" => format!("Expect-Staple failed for '{host}'"),
        _ => UNLABELED.to_owned(),
    };
    let location = text(report, "document_uri").or_else(|| text(report, "hostname")).map(str::to_owned);
    Metadata { location, ..titled(event::message(event).and_then(first_line).unwrap_or(generated)) }
}

/// The first line that is not blank, cut for a title.
fn first_line(text: &str) -> Option<String> {
    let line = text.lines().map(str::trim).find(|line| !line.is_empty())?;
    Some(shortened(line, TITLE_CHARS_MAX).unwrap_or_else(|| line.to_owned()))
}

fn culprit(event: &Json<'_>) -> String {
    let given = text(event, "culprit").or_else(|| text(event, "transaction")).map(str::to_owned);
    let culprit = given.or_else(|| stack_culprit(event)).or_else(|| text(event.get("request")?, "url").map(str::to_owned));
    first_chars(&culprit.unwrap_or_default(), CULPRIT_CHARS_MAX).to_owned()
}

fn stack_culprit(event: &Json<'_>) -> Option<String> {
    let platform = event.str_at(&["platform"]).unwrap_or_default();
    let holders = [event::exceptions(event).last().copied(), Some(event), event::relevant_thread(event)];
    let frame = holders.into_iter().flatten().find_map(crash_frame)?;
    Some(frame_culprit(frame, text(frame, "platform").unwrap_or(platform))).filter(|culprit| !culprit.is_empty())
}

fn frame_culprit(frame: &Json<'_>, platform: &str) -> String {
    let function = text(frame, "function").unwrap_or("?");
    let place = text(frame, "module").or_else(|| text(frame, "filename"));
    match (platform, place) {
        ("objc" | "cocoa" | "native", _) => function.to_owned(),
        (_, None) => String::new(),
        ("javascript" | "node", Some(place)) => format!("{function}({place})"),
        (_, Some(place)) => format!("{place} in {function}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::normalise::{self, EventContext};

    fn check(json: &str, title: &str, culprit: &str, location: Option<&str>) {
        let mut event = Json::parse(json.as_bytes()).unwrap();
        normalise::event(&mut event, &EventContext::default()).unwrap();
        let got = metadata(&event);
        assert_eq!((got.title.as_str(), got.culprit.as_str(), got.location.as_deref()), (title, culprit, location), "{json}");
    }

    #[test]
    fn messages() {
        check("{}", UNLABELED, "", None);
        check(r#"{"message":"\n first \nsecond"}"#, "first", "", None);
        check(&format!(r#"{{"message":"{}"}}"#, "x".repeat(101)), &format!("{}...", "x".repeat(97)), "", None);
        check(r#"{"message":"m","transaction":"/a","request":{"url":"http://h/"}}"#, "m", "/a", None);
        check(r#"{"message":"m","request":{"url":"http://h/"}}"#, "m", "http://h/", None);
        check(r#"{"message":"m","threads":[{"stacktrace":{"frames":[{"function":"f","module":"a.b"}]}}]}"#, "m", "a.b in f", None);
    }

    #[test]
    fn errors() {
        let frames = r#"[{"function":"f","module":"a","filename":"a.py","in_app":true},{"function":"g","module":"b","filename":"b.py"}]"#;
        let with = |exception: &str, rest: &str| format!(r#"{{{rest}"exception":{{{exception},"stacktrace":{{"frames":{frames}}}}}}}"#);
        check(&with(r#""type":"T","value":"v\nw""#, ""), "T: v", "a in f", Some("a.py"));
        check(&with(r#""type":"T""#, r#""platform":"javascript","#), "T", "f(a)", Some("a.py"));
        check(&with(r#""type":"T""#, r#""platform":"native","#), "T", "f", Some("a.py"));
        check(&with(r#""value":"a b: c""#, ""), "a b: c", "a in f", Some("a.py"));
        check(&with(r#""value":"v","mechanism":{"type":"generic","synthetic":true}"#, r#""message":"m","#), "m", "a in f", Some("a.py"));
        check(r#"{"exception":[{"type":"A"},{"type":"B"}]}"#, "B", "", None);
    }

    #[test]
    fn reports() {
        let csp = r#"{"csp":{"effective_directive":"img-src","blocked_uri":"https://h/x","document_uri":"https://d/"}}"#;
        check(csp, "Blocked 'img-src' from 'h'", "", Some("https://d/"));
        check(r#"{"hpkp":{"hostname":"h"}}"#, "Public key pinning validation failed for 'h'", "", Some("h"));
    }

    #[test]
    fn placeholders() {
        assert!(is_placeholder(UNLABELED) && !is_placeholder("T: v"));
    }
}
