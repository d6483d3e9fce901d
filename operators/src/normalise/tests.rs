//! Normalisation of whole events.

use super::*;

fn normalised(json: &str) -> Json<'static> {
    let mut json = Json::parse(json.as_bytes()).unwrap().into_owned();
    let context = EventContext { event_id: EventId([0xab; 16]), received_ms: 1_800_000_000_000, project_id: 7, ..EventContext::default() };
    event(&mut json, &context).unwrap();
    json
}

#[test]
fn an_empty_event_gets_what_every_event_has() {
    assert_eq!(
        normalised("{}").to_string(),
        concat!(
            r#"{"timestamp":1800000000.0,"received":1800000000.0,"event_id":"abababababababababababababababab","version":"7","project":7,"type":"default","#,
            r#""level":"error","logger":"","platform":"other","contexts":{"trace":{"type":"trace","trace_id":"abababababababababababababababab","#,
            r#""span_id":"abababababababab","status":"unknown"}}}"#
        )
    );
}

#[test]
fn what_is_invalid_goes_and_is_listed() {
    let event = normalised(r#"{"event_id":"x","timestamp":"x","level":"x","environment":"a/b","release":"latest","dist":"a b","message":"m"}"#);
    let names: Vec<&str> = event.get("errors").and_then(Json::as_array).unwrap().iter().filter_map(|e| e.str_at(&["name"])).collect();
    assert_eq!(names, ["event_id", "timestamp", "level", "dist", "release", "environment"]);
    for (key, want) in [("level", Some("error")), ("environment", None), ("release", None), ("dist", None)] {
        assert_eq!(event.str_at(&[key]), want, "{key}");
        assert!(event.at(&["_meta", key, "", "err"]).is_some(), "{key}");
    }
}

#[test]
fn tags_and_fields_are_promoted() {
    let event = normalised(r#"{"tags":{"environment":"prod","a":"1"},"server_name":"web-1","site":"s"}"#);
    assert_eq!(event.str_at(&["environment"]), Some("prod"));
    assert_eq!(tags::pairs(&event).collect::<Vec<_>>(), [("a", "1"), ("server_name", "web-1"), ("site", "s")]);
    assert_eq!(normalised(r#"{"tags":{"environment":"a"},"environment":"b"}"#).str_at(&["environment"]), Some("b"));
}

#[test]
fn what_is_no_object_stays() {
    assert_eq!(normalised("[1]").to_string(), "[1]");
}

/// An event by its text, normalised; `{}` where it is a transaction that cannot be stored.
fn stored(payload: &str, sent_at: Option<&str>, retention_days: u16) -> Json<'static> {
    let mut json = Json::parse(payload.as_bytes()).unwrap().into_owned();
    let context = EventContext {
        event_id: EventId([0xab; 16]),
        received_ms: 1_800_000_000_000,
        sent_at: sent_at.map(str::to_owned),
        client_ip: "203.0.113.9".parse().ok(),
        retention_days,
        ..EventContext::default()
    };
    match event(&mut json, &context) {
        Ok(()) => json,
        Err(_) => Json::Object(Object::new()),
    }
}

/// The acceptance statements of `spec/ingest.md` section 9 on events, by their numbers: an event and what is stored at a path.
#[test]
fn statements() {
    let check = |name: &str, payload: &str, path: &str, want: &str| {
        let event = stored(payload, None, RETENTION_DAYS);
        let found = path.split('/').try_fold(&event, |value, key| match value {
            Json::Array(items) => items.get(key.parse::<usize>().ok()?),
            _ => value.as_object()?.iter().find(|(k, _)| *k == key).map(|(_, v)| v),
        });
        assert_eq!(found.map(Json::to_string).unwrap_or_default(), want, "{name}: {path}");
    };
    let names = |payload: &str| {
        let event = stored(payload, None, RETENTION_DAYS);
        let errors = event.get("errors").and_then(Json::as_array).unwrap_or_default();
        errors.iter().filter_map(|error| error.str_at(&["name"])).collect::<Vec<_>>().join(" ")
    };
    let bad = r#"{"event_id":"x","timestamp":"x","level":"x","environment":"a/b","release":"latest","dist":"a b","message":"kept"}"#;
    assert_eq!(names(bad), "event_id timestamp level dist release environment", "27 six bad fields");
    check("27 the event is kept", bad, "logentry/formatted", r#""kept""#);
    let frames: Vec<String> = (0..600).map(|line| format!(r#"{{"lineno":{line}}}"#)).collect();
    let deep = format!(r#"{{"exception":{{"type":"T","stacktrace":{{"frames":[{}]}}}}}}"#, frames.join(","));
    check("28 600 frames", &deep, "exception/values/0/stacktrace/frames/249/lineno", "599");
    check("28 250 are left", &deep, "exception/values/0/stacktrace/frames/250", "");
    check("28 the length", &deep, "_meta/exception/values/0/stacktrace/frames//len", "600");
    let long = format!(r#"{{"tags":{{"k":"{}"}},"message":"{}"}}"#, "v".repeat(300), "m".repeat(300_000));
    check("29 a tag", &long, "tags/0/1", &format!(r#""{}...""#, "v".repeat(197)));
    check("29 a message", &long, "logentry/formatted", &format!(r#""{}...""#, "m".repeat(8189)));
    check("30 an unknown key", r#"{"colour":"red"}"#, "colour", "null");
    check("30 is said to be one", r#"{"colour":"red"}"#, "errors/0/type", r#""invalid_attribute""#);
    check("31 measurements of an error", r#"{"measurements":{"lcp":{"value":1}}}"#, "measurements", "");

    let trace = r#""type":"transaction","contexts":{"trace":{"trace_id":"05a6939899564f84aaff8d56571f1744","span_id":"aec3abd7115ba43d"}}"#;
    let times = r#""start_timestamp":1799999990,"timestamp":1799999995"#;
    let with = |more: &str| format!("{{{trace},{times},{more}}}");
    let measured = with(r#""measurements":{" LCP ":{"value":420.5},"a b":{"value":1},"fid":{"value":"1"}}"#);
    check("32 names are trimmed and in lower case", &measured, "measurements/lcp/value", "420.5");
    check("32 a name with a blank", &measured, "measurements/a b", "");
    check("32 a text", &measured, "measurements/fid/value", "null");
    let span = |op: &str, start: f64, end: f64| {
        format!(r#"{{"trace_id":"05a6939899564f84aaff8d56571f1744","span_id":"aec3abd7115ba43e","op":"{op}","start_timestamp":{start},"timestamp":{end}}}"#)
    };
    let spans = [
        span("http", 1_799_999_990.0, 1_799_999_991.0),
        span("http.secure", 1_799_999_990.5, 1_799_999_992.0),
        span("other", 1_799_999_990.0, 1_799_999_994.0),
    ];
    let broken_down = with(&format!(r#""spans":[{}]"#, spans.join(",")));
    check("33 overlaps count once, by prefix", &broken_down, "breakdowns/span_ops/ops.http/value", "2000.0");
    check("33 others do not count", &broken_down, "breakdowns/span_ops/total.time/value", "2000.0");
    for (name, invalid) in [
        ("34 no start", format!(r#"{{{trace},"timestamp":1799999995}}"#)),
        ("34 an end before its start", format!(r#"{{{trace},"start_timestamp":1799999995,"timestamp":1799999990}}"#)),
        ("34 no trace", format!(r#"{{"type":"transaction",{times}}}"#)),
        ("34 a null span", with(r#""spans":[null]"#)),
    ] {
        check(name, &invalid, "type", "");
    }
    check("34 otherwise it is valid", &with(r#""spans":[]"#), "type", r#""transaction""#);
    let url = with(r#""transaction":"/users/1234/details","transaction_info":{"source":"url"}"#);
    check("35 ids become stars", &url, "transaction", r#""/users/*/details""#);
    check("35 the source", &url, "transaction_info/source", r#""sanitized""#);
    check("38 the client's address", r#"{"user":{"ip_address":"{{auto}}"}}"#, "user/ip_address", r#""203.0.113.9""#);

    let time = |payload: &str, sent_at: Option<&str>, retention_days: u16, key: &str| {
        let event = stored(payload, sent_at, retention_days);
        let kinds: Vec<String> =
            event.get("errors").and_then(Json::as_array).unwrap_or_default().iter().filter_map(|e| Some(e.str_at(&["type"])?.to_owned())).collect();
        let at = if key == "timestamp" {
            event.get(key).cloned()
        } else {
            event.get("breadcrumbs").and_then(|b| b.get("values")?.as_array()?.first()?.get("timestamp").cloned())
        };
        format!("{} {}", at.unwrap_or_default(), kinds.join(" "))
    };
    let old = format!(r#"{{"timestamp":{}}}"#, 1_800_000_000 - 31 * 86_400);
    assert_eq!(time(&old, None, 30, "timestamp"), "1800000000.0 past_timestamp", "36 31 days old, kept for 30");
    assert_eq!(time(&old, None, 90, "timestamp"), "1797321600.0 ", "36 31 days old, kept for 90");
    let late = r#"{"timestamp":1799913590,"breadcrumbs":[{"timestamp":1799913580}]}"#;
    assert_eq!(time(late, Some("2027-01-14T08:00:00Z"), 90, "timestamp"), "1799999990.0 clock_drift", "37 a clock a day behind");
    assert_eq!(time(late, Some("2027-01-14T08:00:00Z"), 90, "breadcrumb"), "1799999980.0 clock_drift", "37 breadcrumbs too");
    assert_eq!(time(late, Some("2027-01-15T07:59:00Z"), 90, "timestamp"), "1799913590.0 ", "37 a clock a minute behind");
}

/// Payloads that are small for what a careless reader makes of them: what is stored of each is of the order of what was sent.
#[test]
fn payloads_made_to_grow_do_not() {
    let long_key = "k".repeat(300_000);
    let payloads = [
        format!(r#"{{"logentry":{{"message":"{}","params":["{}"]}}}}"#, "{0}".repeat(100_000), "x".repeat(300_000)),
        format!(r#"{{"logentry":{{"message":"{}","params":{{"n":"{}"}}}}}}"#, "%(n)s".repeat(100_000), "x".repeat(300_000)),
        format!(r#"{{"logentry":{{"message":"{}","params":[1]}}}}"#, "{".repeat(500_000)),
        format!(r#"{{"logentry":{{"message":"{}","params":[1]}}}}"#, "%(".repeat(250_000)),
        format!(r#"{{"tags":{{"{long_key}":[{}]}},"extra":{{"{long_key}":[{}]}}}}"#, "{},".repeat(50_000) + "1", "null,".repeat(50_000) + "1"),
        format!(r#"{{"exception":{{"values":[{}]}}}}"#, vec!["1"; 200_000].join(",")),
        format!(r#"{{"contexts":{{"{long_key}":[{}]}},"breadcrumbs":[{}]}}"#, vec!["1"; 50_000].join(","), vec!["7"; 100_000].join(",")),
        format!(r#"{{"stacktrace":{{"frames":[{}]}}}}"#, vec![r#"{"lineno":"x","filename":"a"}"#; 30_000].join(",")),
        format!(r#"{{"exception":[{{"type":"E","mechanism":{{{}}}}}]}}"#, (0..60_000).map(|i| format!(r#""k{i}":1"#)).collect::<Vec<_>>().join(",")),
        format!(r#"{{"extra":{{{}}},"user":{{{}}}}}"#, members(50_000), members(50_000)),
        format!(r#"{{"exception":[{{{}}}],"tags":{{{}}},"modules":{{{}}}}}"#, members(30_000), members(30_000), members(30_000)),
    ];
    for payload in payloads {
        let stored = stored(&payload, None, RETENTION_DAYS).to_string();
        assert!(stored.len() < 2 * payload.len() + (2 << 20), "{} bytes of {}: {}", stored.len(), payload.len(), &payload[..60]);
    }
}

fn members(count: usize) -> String {
    (0..count).map(|i| format!(r#""key {i}":"value""#)).collect::<Vec<_>>().join(",")
}
