//! Fingerprints: what they resolve to (`spec/grouping.md` sections 1.2, 1.10 and 3).

use std::cell::OnceCell;

use weir_protocol::json::Json;

use super::{exception, parameterise};
use crate::event::{self, text};
use crate::normalise::tags;

/// A part of a fingerprint after its variables were looked up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Part {
    /// `{{ default }}`: what would be hashed without a fingerprint.
    Default,
    /// Text.
    Text(String),
}

/// The parts of the event's fingerprint; `{{ default }}` alone where it has none.
pub fn parts(event: &Json<'_>) -> Vec<Part> {
    let given = event.get("fingerprint").and_then(Json::as_array).unwrap_or_default();
    let source = Source { event, main: OnceCell::new() };
    let parts: Vec<Part> = given.iter().filter_map(Json::as_str).map(|part| source.resolved(part)).collect();
    if parts.is_empty() { vec![Part::Default] } else { parts }
}

/// What variables are read from.
struct Source<'e, 'a> {
    event: &'e Json<'a>,
    /// The main exception, looked for once: in an exception group that is work.
    main: OnceCell<Option<&'e Json<'a>>>,
}

impl<'e, 'a> Source<'e, 'a> {
    fn resolved(&self, part: &str) -> Part {
        match variable(part) {
            Some("default") => Part::Default,
            Some(name) => Part::Text(self.value_of(name)),
            None if is_message_or_value(part, self.event) => Part::Text(parameterise::text(part)),
            None => Part::Text(part.to_owned()),
        }
    }

    fn of_exception(&self, key: &str) -> Option<String> {
        let main = *self.main.get_or_init(|| exception::main(self.event));
        text(main?, key).map(str::to_owned)
    }

    fn message(&self) -> Option<String> {
        event::message(self.event).map(str::to_owned).or_else(|| self.of_exception("value"))
    }

    fn value_of(&self, name: &str) -> String {
        let event = self.event;
        let frame = frame(event);
        let of_frame = |key: &str| frame.and_then(|frame| text(frame, key)).map(str::to_owned);
        let (value, missing) = match name {
            "transaction" => (text(event, "transaction").map(str::to_owned), "<no-transaction>"),
            "message" => (self.message().map(|message| parameterise::text(&message)), "<no-message>"),
            "raw_message" => (self.message(), "<no-message>"),
            "type" | "error.type" => (self.of_exception("type"), "<no-type>"),
            "value" | "error.value" => (self.of_exception("value").map(|value| parameterise::text(&value)), "<no-value>"),
            "raw_value" | "error.raw_value" => (self.of_exception("value"), "<no-value>"),
            "function" | "stack.function" => (of_frame("function"), "<no-function>"),
            "path" | "stack.abs_path" => (of_frame("abs_path").or_else(|| of_frame("filename")), "<no-abs-path>"),
            "stack.filename" => (of_frame("filename").or_else(|| of_frame("abs_path")), "<no-filename>"),
            "module" | "stack.module" => (of_frame("module"), "<no-module>"),
            "package" | "stack.package" => (of_frame("package"), "<no-package>"),
            "level" => (text(event, "level").map(str::to_owned), "<no-level>"),
            "logger" => (text(event, "logger").map(str::to_owned), "<no-logger>"),
            other => match other.strip_prefix("tags.") {
                Some(key) => {
                    let value = tags::pairs(event).find(|(name, _)| *name == key).map(|(_, value)| value.to_owned());
                    return value.unwrap_or_else(|| format!("<no-value-for-tag-{key}>"));
                }
                None => return format!("<unrecognized-variable-{other}>"),
            },
        };
        value.unwrap_or_else(|| missing.to_owned())
    }
}

/// The name in `{{ name }}`.
fn variable(part: &str) -> Option<&str> {
    let name = part.trim().strip_prefix("{{")?.strip_suffix("}}")?.trim();
    (!name.is_empty() && !name.contains(char::is_whitespace)).then_some(name)
}

/// A constant that an SDK copied from the message says no more than the message does.
fn is_message_or_value(part: &str, event: &Json<'_>) -> bool {
    event::message(event) == Some(part) || event::exceptions(event).into_iter().any(|exception| text(exception, "value") == Some(part))
}

/// The frame that variables read: the last of the application's own, else the last.
fn frame<'e, 'a>(event: &'e Json<'a>) -> Option<&'e Json<'a>> {
    let last = event::exceptions(event).last().copied();
    let threads = event::values(event, "threads");
    let only = if threads.len() == 1 { threads.first().copied() } else { None };
    [last, Some(event), only].into_iter().flatten().find_map(event::crash_frame)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn variables() {
        let check = |part: &str, want: &str| {
            let event = Json::parse(
                br#"{"transaction":"/t","level":"error","tags":[["k","v"]],"logentry":{"formatted":"took 3 ms"},"exception":{"values":[{"type":"T","value":"7 left",
                "stacktrace":{"frames":[{"function":"f","in_app":true,"filename":"a.py"},{"function":"g"}]}}]}}"#,
            )
            .unwrap();
            let want = if want.is_empty() { Part::Default } else { Part::Text(want.to_owned()) };
            assert_eq!(Source { event: &event, main: OnceCell::new() }.resolved(part), want, "{part}");
        };
        check("{{ default }}", "");
        check("{{default}}", "");
        check("{{ transaction }}", "/t");
        check("{{ message }}", "took <int> ms");
        check("{{ raw_message }}", "took 3 ms");
        check("{{ error.type }}", "T");
        check("{{ error.value }}", "<int> left");
        check("{{ stack.function }}", "f");
        check("{{ path }}", "a.py");
        check("{{ module }}", "<no-module>");
        check("{{ tags.k }}", "v");
        check("{{ tags.other }}", "<no-value-for-tag-other>");
        check("{{ colour }}", "<unrecognized-variable-colour>");
        check("7 left", "<int> left");
        check("7 right", "7 right");
    }
}
