//! Names of an event's fields: the older ones, and the ones that there are (`spec/ingest.md` sections 3.1 and 3.2).

use weir_protocol::json::Object;

use super::note::Notes;

const PREFIX: &str = "sentry.interfaces.";

/// Fields that an event may have once older names are replaced.
const KNOWN: [&str; 59] = [
    "_dsc",
    "_meta",
    "_metrics",
    "_metrics_summary",
    "breadcrumbs",
    "breakdowns",
    "checksum",
    "contexts",
    "csp",
    "culprit",
    "debug_meta",
    "dist",
    "environment",
    "errors",
    "event_id",
    "exception",
    "expectct",
    "expectstaple",
    "extra",
    "fingerprint",
    "grouping_config",
    "hpkp",
    "ingest_path",
    "key_id",
    "level",
    "location",
    "logentry",
    "logger",
    "measurements",
    "message",
    "metadata",
    "modules",
    "nel",
    "parent_id",
    "platform",
    "processed_by_symbolicator",
    "profile_id",
    "project",
    "received",
    "release",
    "request",
    "sample_rates",
    "scraping_attempts",
    "sdk",
    "server_name",
    "site",
    "spans",
    "stacktrace",
    "start_timestamp",
    "tags",
    "template",
    "threads",
    "time_spent",
    "timestamp",
    "transaction",
    "transaction_info",
    "type",
    "user",
    "version",
];

/// Replaces older names and takes out fields that nothing knows.
pub fn normalise<'a>(event: &mut Object<'a>, notes: &mut Notes<'a>) {
    let (known, other): (Vec<_>, Vec<_>) = std::mem::take(event).into_iter().partition(|(name, _)| KNOWN.contains(&name.as_ref()));
    *event = known.into_iter().collect();
    for (name, value) in other {
        match field_of(&name) {
            Some(field) if event.get(field).is_none() => event.insert(field, value),
            Some(_) => {}
            None if value.is_null() => {}
            None => notes.unknown(&[&name], value),
        }
    }
}

/// The field that an interface's older name stands for; these names were class names, and SDKs wrote them in several cases.
fn field_of(name: &str) -> Option<&'static str> {
    let class = name.strip_prefix(PREFIX)?.to_ascii_lowercase();
    Some(match class.as_str() {
        "message" => "logentry",
        "exception" => "exception",
        "stacktrace" => "stacktrace",
        "template" => "template",
        "http" => "request",
        "user" => "user",
        "breadcrumbs" => "breadcrumbs",
        "contexts" => "contexts",
        "debugmeta" | "debug_meta" => "debug_meta",
        "sdk" => "sdk",
        "threads" => "threads",
        "csp" => "csp",
        "hpkp" => "hpkp",
        "expectct" => "expectct",
        "expectstaple" => "expectstaple",
        "nel" => "nel",
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use weir_protocol::json::Json;

    use super::*;

    #[test]
    fn names() {
        let check = |json: &str, want: &str| {
            let mut event = Json::parse(json.as_bytes()).unwrap();
            let mut notes = Notes::default();
            normalise(event.as_object_mut().unwrap(), &mut notes);
            notes.write(event.as_object_mut().unwrap());
            assert_eq!(event.to_string(), want, "{json}");
        };
        check(r#"{"sentry.interfaces.Http":{"url":"u"}}"#, r#"{"request":{"url":"u"}}"#);
        check(r#"{"request":{"url":"a"},"sentry.interfaces.Http":{"url":"b"}}"#, r#"{"request":{"url":"a"}}"#);
        check(r#"{"sentry.interfaces.Message":{"message":"m"}}"#, r#"{"logentry":{"message":"m"}}"#);
        check(
            r#"{"colour":"red"}"#,
            r#"{"errors":[{"type":"invalid_attribute","name":"colour","value":"red"}],"_meta":{"colour":{"":{"err":["invalid_attribute"],"val":"red"}}}}"#,
        );
        check(r#"{"colour":null}"#, "{}");
    }
}
