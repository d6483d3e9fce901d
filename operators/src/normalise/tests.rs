//! Normalisation of whole events.

use super::*;

fn normalised(json: &str) -> Json<'static> {
    let mut json = Json::parse(json.as_bytes()).unwrap().into_owned();
    let context = EventContext { event_id: EventId([0xab; 16]), received_ms: 1_800_000_000_000, project_id: 7, ..EventContext::default() };
    event(&mut json, &context);
    json
}

#[test]
fn an_empty_event_gets_what_every_event_has() {
    assert_eq!(
        normalised("{}").to_string(),
        concat!(
            r#"{"event_id":"abababababababababababababababab","project":7,"timestamp":1800000000.0,"received":1800000000.0,"level":"error","platform":"other","#,
            r#""contexts":{"trace":{"trace_id":"abababababababababababababababab","type":"trace"}},"type":"default"}"#
        )
    );
}

#[test]
fn what_is_invalid_goes_and_is_listed() {
    let event = normalised(r#"{"event_id":"x","timestamp":"x","level":"x","environment":"a/b","release":"latest","dist":"a b","message":"m"}"#);
    let names: Vec<&str> = event.get("errors").and_then(Json::as_array).unwrap().iter().filter_map(|e| e.str_at(&["name"])).collect();
    assert_eq!(names, ["timestamp", "level", "release", "environment", "dist"]);
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
