//! The type of an event and its platform (`spec/ingest.md` section 3.2).

use weir_protocol::json::{Json, Object};

/// Interfaces that make an event a security or network report, each the type it gives.
const REPORTS: [&str; 5] = ["csp", "hpkp", "expectct", "expectstaple", "nel"];

const PLATFORMS: [&str; 19] = [
    "as3",
    "c",
    "cfml",
    "cocoa",
    "csharp",
    "elixir",
    "go",
    "groovy",
    "haskell",
    "java",
    "javascript",
    "native",
    "node",
    "objc",
    "other",
    "perl",
    "php",
    "python",
    "ruby",
];

/// The type: stated for transactions and feedback, else inferred from what the event carries.
pub fn kind(event: &Object<'_>) -> &'static str {
    match event.get("type").and_then(Json::as_str) {
        Some("transaction") => return "transaction",
        Some("feedback") => return "feedback",
        _ => {}
    }
    if let Some(report) = REPORTS.into_iter().find(|report| event.get(report).is_some()) {
        return report;
    }
    let exceptions = event.get("exception").and_then(|interface| interface.get("values")).and_then(Json::as_array);
    if exceptions.is_some_and(|values| !values.is_empty()) { "error" } else { "default" }
}

/// The platform where it is a known one, else `other`. Case matters.
pub fn platform(name: &str) -> &'static str {
    PLATFORMS.into_iter().find(|known| *known == name).unwrap_or("other")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds() {
        let check = |json: &str, want: &str| assert_eq!(kind(Json::parse(json.as_bytes()).unwrap().as_object().unwrap()), want, "{json}");
        check("{}", "default");
        check(r#"{"type":"error"}"#, "default");
        check(r#"{"exception":{"values":[]}}"#, "default");
        check(r#"{"exception":{"values":[null]}}"#, "error");
        check(r#"{"type":"transaction","exception":{}}"#, "transaction");
        check(r#"{"csp":{},"exception":{}}"#, "csp");
        check(r#"{"csp":null,"type":"feedback"}"#, "feedback");
    }

    #[test]
    fn platforms() {
        let check = |name: &str, want: &str| assert_eq!(platform(name), want, "{name}");
        check("python", "python");
        check("Python", "other");
        check("rust", "other");
        check("", "other");
    }
}
