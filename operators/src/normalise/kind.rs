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
    if event.get("exception").is_some() { "error" } else { "default" }
}

/// The platform where it is a known one, else `other`. Case matters.
pub fn platform(value: Option<&Json<'_>>) -> &'static str {
    let name = value.and_then(Json::as_str).unwrap_or_default();
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
        check(r#"{"exception":{"values":[]}}"#, "error");
        check(r#"{"type":"transaction","exception":{}}"#, "transaction");
        check(r#"{"csp":{},"exception":{}}"#, "csp");
        check(r#"{"csp":null,"type":"feedback"}"#, "feedback");
    }

    #[test]
    fn platforms() {
        let check = |json: &str, want: &str| assert_eq!(platform(Some(&Json::parse(json.as_bytes()).unwrap())), want, "{json}");
        check(r#""python""#, "python");
        check(r#""Python""#, "other");
        check(r#""rust""#, "other");
        check("7", "other");
        assert_eq!(platform(None), "other");
    }
}
