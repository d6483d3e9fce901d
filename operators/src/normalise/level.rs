//! The level of an event (`spec/ingest.md` section 3.2).

use weir_protocol::json::Json;

/// The level that a value names: a name, or a number of Python's logging. `warn` is not one.
pub fn level(value: &Json<'_>) -> Option<&'static str> {
    match value {
        Json::String(name) => match name.as_ref() {
            "debug" => Some("debug"),
            "info" | "log" => Some("info"),
            "warning" => Some("warning"),
            "error" => Some("error"),
            "fatal" | "critical" => Some("fatal"),
            _ => None,
        },
        _ => match value.as_u64()? {
            10 => Some("debug"),
            20 => Some("info"),
            30 => Some("warning"),
            40 => Some("error"),
            50 => Some("fatal"),
            _ => None,
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn levels() {
        let check = |json: &str, want: Option<&str>| assert_eq!(level(&Json::parse(json.as_bytes()).unwrap()), want, "{json}");
        check(r#""debug""#, Some("debug"));
        check(r#""log""#, Some("info"));
        check(r#""critical""#, Some("fatal"));
        check(r#""warn""#, None);
        check(r#""ERROR""#, None);
        check("30", Some("warning"));
        check("31", None);
        check("null", None);
        check("[]", None);
    }
}
