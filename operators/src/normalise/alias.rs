//! Older names of an event's fields (`spec/ingest.md` section 3.1).

use weir_protocol::json::Object;

/// Names of interfaces as SDKs once wrote them, and other names, with the fields that they stand for.
const OLDER: [(&str, &str); 10] = [
    ("message", "logentry"),
    ("sentry.interfaces.Breadcrumbs", "breadcrumbs"),
    ("sentry.interfaces.Contexts", "contexts"),
    ("sentry.interfaces.Csp", "csp"),
    ("sentry.interfaces.Exception", "exception"),
    ("sentry.interfaces.Http", "request"),
    ("sentry.interfaces.Message", "logentry"),
    ("sentry.interfaces.Stacktrace", "stacktrace"),
    ("sentry.interfaces.Template", "template"),
    ("sentry.interfaces.User", "user"),
];

/// Replaces older names. Where a field comes under both, the newer one stands.
pub fn normalise(event: &mut Object<'_>) {
    if !event.iter().any(|(name, _)| field_of(name).is_some()) {
        return;
    }
    let (older, newer): (Vec<_>, Vec<_>) = std::mem::take(event).into_iter().partition(|(name, _)| field_of(name).is_some());
    *event = newer.into_iter().collect();
    for (name, value) in older {
        if let Some(field) = field_of(&name).filter(|field| !event.contains_key(field)) {
            event.insert(field, value);
        }
    }
}

fn field_of(name: &str) -> Option<&'static str> {
    OLDER.iter().find(|(older, _)| *older == name).map(|(_, field)| *field)
}

#[cfg(test)]
mod tests {
    use weir_protocol::json::Json;

    use super::*;

    #[test]
    fn names() {
        let check = |json: &str, want: &str| {
            let mut event = Json::parse(json.as_bytes()).unwrap();
            normalise(event.as_object_mut().unwrap());
            assert_eq!(event.to_string(), want, "{json}");
        };
        check(r#"{"sentry.interfaces.Http":{"url":"u"}}"#, r#"{"request":{"url":"u"}}"#);
        check(r#"{"request":null,"sentry.interfaces.Http":{"url":"b"}}"#, r#"{"request":null}"#);
        check(r#"{"sentry.interfaces.Message":{"message":"m"}}"#, r#"{"logentry":{"message":"m"}}"#);
        check(r#"{"message":"m","logentry":"l"}"#, r#"{"logentry":"l"}"#);
        check(r#"{"colour":"red"}"#, r#"{"colour":"red"}"#);
    }
}
