//! Spans over hand-made payloads and over those that SDKs sent.

use std::sync::Arc;

use bytes::Bytes;
use proptest::prelude::*;
use weir_protocol::EventId;
use weir_protocol::envelope::Envelope;
use weir_protocol::record::Position;

use super::*;
use crate::decode::Context;
use crate::interpret::Knowledge;
use crate::rows::Common;

fn transaction(item: &Item) -> Fact {
    super::transaction(item, &Knowledge::default())
}

/// An item of the given header and payload, received in November 2026.
pub(crate) fn item(header: &str, payload: &str) -> Item {
    let text = format!("{{}}\n{header}\n{}\n", payload.replace('\n', " "));
    let envelope = Envelope::parse(&Bytes::from(text)).unwrap();
    items(envelope, None).remove(0)
}

fn items(envelope: Envelope, sample_rate: Option<f64>) -> Vec<Item> {
    let context = Arc::new(Context {
        common: Common { org_id: 1, project_id: 7, project: "shop".into(), received_ms: 1_795_330_000_000, retention_days: 90, seq: 5 },
        position: Position { partition: 0, offset: 5 },
        key_id: Some(3),
        client_ip: None,
        user_agent: None,
        client: None,
        event_id: envelope.header.event_id.or(Some(EventId([9; 16]))),
        sent_at: None,
        sample_rate,
    });
    let item = |(index, item): (usize, weir_protocol::envelope::Item)| Item {
        context: Arc::clone(&context),
        index: index as u32,
        header: item.header,
        payload: item.payload,
    };
    envelope.items.into_iter().enumerate().map(item).collect()
}

/// The items of a recorded envelope.
#[allow(clippy::disallowed_methods, reason = "a test reads what SDKs sent from a file")]
pub(crate) fn recorded(name: &str) -> Vec<Item> {
    let path = format!("{}/../tests/corpus/envelopes/{name}.envelope", std::env::var("CARGO_MANIFEST_DIR").unwrap());
    let bytes = std::fs::read(&path).unwrap_or_else(|e| panic!("{path}: {e}"));
    items(Envelope::parse(&Bytes::from(bytes)).unwrap(), None)
}

/// The fact of the first recorded item of this type.
pub(crate) fn recorded_fact(name: &str, item_type: &str) -> Fact {
    let item = recorded(name).into_iter().find(|item| item.header.item_type.name() == item_type).unwrap();
    crate::interpret::interpret(&item, &Knowledge::default())
}

/// Outcome, reason, category and quantity of each.
pub(crate) fn outcomes(fact: &Fact) -> Vec<(i16, Option<String>, i16, i64)> {
    fact.outcomes.iter().map(|o| (o.outcome, o.reason.clone(), o.category, o.quantity)).collect()
}

const TRACE: &str = r#""contexts":{"trace":{"trace_id":"5b8efff798038103d269b633813fc60c","span_id":"eee19b7ec3c1b174","op":"http.server"}}"#;

fn spans_of(fact: &Fact) -> &[SpanRow] {
    match &fact.rows {
        Rows::Transaction { spans, .. } | Rows::Spans { spans, .. } => spans,
        _ => &[],
    }
}

#[test]
fn a_transaction_has_a_row_for_itself_and_each_child() {
    let payload = format!(
        r#"{{"transaction":"GET /a","start_timestamp":1795329000.0,"timestamp":1795329001.0,"environment":"production","user":{{"id":42}},{TRACE},
        "measurements":{{"LCP":{{"value":248}}}},"spans":[
        {{"trace_id":"5b8efff798038103d269b633813fc60c","span_id":"aaaaaaaaaaaaaaaa","parent_span_id":"eee19b7ec3c1b174","op":"db.sql","description":"SELECT 1","start_timestamp":1795329000.1,"timestamp":1795329000.4,"data":{{"rows":3,"ok":true,"f":0.5,"s":"x"}}}},
        {{"trace_id":"5b8efff798038103d269b633813fc60c","span_id":"bbbbbbbbbbbbbbbb","parent_span_id":"eee19b7ec3c1b174","start_timestamp":1795329000.3,"timestamp":1795329000.5}},
        {{"trace_id":"5b8efff798038103d269b633813fc60c","span_id":"cccccccccccccccc","parent_span_id":"aaaaaaaaaaaaaaaa","start_timestamp":1795329000.2}}]}}"#
    );
    let fact = transaction(&item(r#"{"type":"transaction"}"#, &payload));
    let rows = spans_of(&fact);
    let seen: Vec<_> = rows.iter().map(|r| (r.is_segment, r.op.as_str(), r.description.as_str(), r.duration_ms.round(), r.exclusive_ms.round())).collect();
    assert_eq!(
        seen,
        [
            (true, "http.server", "GET /a", 1000.0, 600.0),
            (false, "db.sql", "SELECT 1", 300.0, 100.0),
            (false, "default", "", 200.0, 200.0),
            (false, "default", "", 800.0, 800.0)
        ]
    );
    assert!(rows.iter().all(|r| r.segment_id == "eee19b7ec3c1b174" && r.transaction_name == "GET /a" && r.environment.as_deref() == Some("production")));
    assert!(rows.iter().all(|r| r.user.as_deref() == Some("id:42") && r.user_hash == rows[0].user_hash && r.event_id == Some([9; 16])));
    assert_eq!(rows[0].measurements, [("lcp".to_owned(), 248.0)]);
    let child = &rows[1].attributes;
    assert_eq!((child.integer("rows"), child.text("s"), child.number.len(), child.boolean.len()), (Some(3), Some("x"), 1, 1));
    assert_eq!(outcomes(&fact), [(0, None, 2, 1), (0, None, 9, 1), (0, None, 12, 4), (0, None, 16, 4)]);
    let Rows::Transaction { payload, .. } = &fact.rows else { panic!() };
    assert!(payload.payload.contains("SELECT 1") && payload.payload.contains("measurements"));
}

#[test]
fn invalid_transactions_are_refused_with_their_spans() {
    let check = |payload: &str, reason: &str, spans: i64| {
        let fact = transaction(&item(r#"{"type":"transaction"}"#, payload));
        let reason = Some(reason.to_owned());
        assert_eq!(
            outcomes(&fact),
            [(3, reason.clone(), 2, 1), (3, reason.clone(), 9, 1), (3, reason.clone(), 12, spans), (3, reason, 16, spans)],
            "{payload}"
        );
    };
    check("nonsense", "invalid_json", 1);
    check(&format!(r#"{{"timestamp":5,{TRACE}}}"#), "invalid_transaction", 1);
    check(&format!(r#"{{"start_timestamp":6,"timestamp":5,{TRACE}}}"#), "invalid_transaction", 1);
    check(r#"{"start_timestamp":4,"timestamp":5}"#, "invalid_transaction", 1);
    check(r#"{"start_timestamp":4,"timestamp":5,"contexts":{"trace":{"trace_id":"5b8efff798038103d269b633813fc60c"}}}"#, "invalid_transaction", 1);
    check(&format!(r#"{{"start_timestamp":4,"timestamp":5,"spans":[null],{TRACE}}}"#), "invalid_transaction", 2);
    check(&format!(r#"{{"start_timestamp":4,"timestamp":5,"spans":[{{"span_id":"aaaaaaaaaaaaaaaa"}}],{TRACE}}}"#), "invalid_transaction", 2);
}

#[test]
fn a_start_in_floats_and_an_end_in_text_may_differ_by_a_microsecond() {
    let payload = format!(
        r#"{{"start_timestamp":1795464190.7444084,"timestamp":"2026-11-23T20:03:10.744411803Z",{TRACE},"spans":[
        {{"trace_id":"c4d12a2caf8b320290d7416e5155ed8c","span_id":"ecf4d03f9053f580","start_timestamp":1795464190.744411,"timestamp":"2026-11-23T20:03:10.744410962Z"}}]}}"#
    );
    let fact = transaction(&item(r#"{"type":"transaction"}"#, &payload));
    assert_eq!(spans_of(&fact).iter().map(|r| r.duration_ms).collect::<Vec<_>>(), [0.004, 0.0]);
}

#[test]
fn a_container_is_read_span_by_span() {
    let payload = r#"{"version":2,"items":[
        {"name":"Pageload","trace_id":"5b8efff798038103d269b633813fc60c","span_id":"aaaaaaaaaaaaaaaa","start_timestamp":1795329000.0,"end_timestamp":1795329001.5,"is_segment":true,"status":"ok",
         "attributes":{"sentry.op":{"type":"string","value":"pageload"},"sentry.release":{"type":"string","value":"web@3"},"user.id":{"type":"integer","value":42},"http.response.status_code":{"type":"integer","value":200}}},
        {"name":"late","trace_id":"5b8efff798038103d269b633813fc60c","span_id":"bbbbbbbbbbbbbbbb","start_timestamp":2,"end_timestamp":1}]}"#;
    let fact = spans(&item(r#"{"type":"span","item_count":2,"content_type":"application/vnd.sentry.items.span.v2+json"}"#, payload));
    let rows = spans_of(&fact);
    assert_eq!(rows.len(), 1);
    let row = &rows[0];
    assert_eq!(
        (row.op.as_str(), row.transaction_name.as_str(), row.duration_ms, row.user.as_deref(), row.http_status),
        ("pageload", "Pageload", 1500.0, Some("id:42"), Some(200))
    );
    assert_eq!(outcomes(&fact), [(3, Some("invalid_span".to_owned()), 12, 1), (3, Some("invalid_span".to_owned()), 16, 1), (0, None, 12, 1), (0, None, 16, 1)]);
    for header in [r#"{"type":"span","item_count":3}"#, r#"{"type":"span"}"#] {
        assert_eq!(spans(&item(header, payload)).rows, Rows::None, "{header}");
    }
}

/// Every recorded envelope with spans: how many rows each makes, all of them accepted.
#[test]
fn what_sdks_sent() {
    let check = |name: &str, want: usize, segments: &[&str]| {
        let facts: Vec<Fact> = recorded(name).iter().map(|item| crate::interpret::interpret(item, &Knowledge::default())).collect();
        let rows: Vec<&SpanRow> = facts.iter().flat_map(spans_of).collect();
        let names: Vec<&str> = rows.iter().filter(|r| r.is_segment).map(|r| r.transaction_name.as_str()).collect();
        assert_eq!((rows.len(), names.as_slice()), (want, segments), "{name}");
        assert!(rows.iter().all(|r| r.end_us >= r.start_us && r.exclusive_ms >= 0.0 && r.span_id.len() == 16 && !r.op.is_empty()), "{name}");
        let refused: Vec<_> = facts.iter().flat_map(outcomes).filter(|(_, reason, _, _)| reason.as_deref().is_some_and(|r| r.starts_with("invalid"))).collect();
        assert_eq!(refused, [], "{name}");
    };
    check("py_transaction_spans", 25, &["POST /api/checkout"]);
    check("java_transaction_spans", 5, &["POST /orders"]);
    check("browser10_span_standalone_lcp", 1, &["/checkout"]);
    check("browser_span_v2_pageload", 20, &["Pageload"]);
    check("py_span_v2_stream", 13, &["POST /api/checkout"]);
    check("py_transaction_flask_ok", 1, &["ok"]);
    check("py_profile_plus_transaction", 1, &["tasks.rebuild_index"]);
    check("go_transaction", 4, &["ReindexJob"]);
    check("go_transaction_http", 2, &["POST /items/{id}"]);
    check("browser_transaction_pageload_static", 19, &["/checkout"]);
    check("browser10_transaction_profile", 22, &["/checkout"]);
}

/// The segment of each: operation, status, HTTP status, user, platform, release.
#[test]
fn segments_that_sdks_sent() {
    let check = |name: &str, item_type: &str, want: &str| {
        let fact = recorded_fact(name, item_type);
        let segment = spans_of(&fact).iter().find(|row| row.is_segment).unwrap();
        let text = |text: &Option<String>| text.clone().unwrap_or_default();
        let http_status = segment.http_status.map(|status| status.to_string()).unwrap_or_default();
        let got = [&segment.op, &segment.status, &http_status, &text(&segment.user), &text(&segment.platform), &text(&segment.release)];
        assert_eq!(got.map(String::as_str).join("|"), want, "{name}");
        let keys: std::collections::BTreeSet<&str> = segment.attributes.text.iter().map(|(key, _)| key.as_str()).collect();
        assert_eq!(keys.len(), segment.attributes.text.len(), "{name}: a map has no key twice");
    };
    check("py_transaction_flask_ok", "transaction", "http.server|ok|200|ip:127.0.0.1|python|shop-api@2.4.1+build.77");
    check("java_transaction_spans", "transaction", "http.server|internal_error|||java|order-service@2.7.1+build.48");
    check("go_transaction_http", "transaction", "http.server|ok|200|ip:127.0.0.1|go|stock-api@1.9.0");
    check("py_span_v2_stream", "span", "http.server|ok||id:8812|python|shop-api@2.4.1+build.77");
    check("browser_span_v2_pageload", "span", "pageload|ok|||javascript|web-shop@3.1.0");
    check("browser10_span_standalone_lcp", "span", "ui.webvital.lcp|unknown||||web-shop@3.1.0");
}

#[test]
fn a_span_that_was_not_finished_ends_with_its_transaction() {
    let fact = recorded_fact("java_transaction_spans", "transaction");
    let rows = spans_of(&fact);
    let ends = rows.iter().skip(1).filter(|row| row.end_us == rows[0].end_us).count();
    assert_eq!((rows.len(), ends), (5, 1));
    assert_eq!(outcomes(&fact), [(0, None, 2, 1), (0, None, 9, 1), (0, None, 12, 5), (0, None, 16, 5)]);
}

#[test]
fn times_of_a_transaction() {
    let received_us = 1_795_330_000_000_000;
    let child = r#""spans":[{"trace_id":"5b8efff798038103d269b633813fc60c","span_id":"aaaaaaaaaaaaaaaa","start_timestamp":CHILD,"timestamp":null}]"#;
    let check = |times: &str, child_start: &str, want: &[(i64, i64)]| {
        let fact = transaction(&item(r#"{"type":"transaction"}"#, &format!("{{{times},{TRACE},{}}}", child.replace("CHILD", child_start))));
        assert_eq!(spans_of(&fact).iter().map(|row| (row.start_us, row.end_us)).collect::<Vec<_>>(), want, "{times} {child_start}");
        let refused = fact.outcomes.iter().all(|outcome| outcome.reason.as_deref() == Some("invalid_transaction"));
        assert_eq!(refused, want.is_empty(), "{times} {child_start}");
    };
    let (start, end) = (received_us - 2_000_000, received_us - 1_000_000);
    check(r#""start_timestamp":1795329998,"timestamp":1795329999"#, "1795329998.5", &[(start, end), (start + 500_000, end)]);
    check(r#""start_timestamp":1795329998,"timestamp":null"#, "1795329998.5", &[(start, received_us), (start + 500_000, received_us)]);
    check(r#""start_timestamp":1795329998"#, "1795329998.5", &[(start, received_us), (start + 500_000, received_us)]);
    // Long past, so moved to its receipt, and the child with it.
    check(r#""start_timestamp":1,"timestamp":2"#, "1.5", &[(received_us - 1_000_000, received_us), (received_us - 500_000, received_us)]);
    // Far ahead, so moved back: what then lies before 1970 has no place.
    check(r#""start_timestamp":5000000001,"timestamp":5000000002"#, "1", &[(received_us - 1_000_000, received_us), (0, received_us)]);
    check(r#""start_timestamp":1,"timestamp":5000000000"#, "1", &[]);
}

#[test]
fn keys_and_names_come_once() {
    let payload = format!(
        r#"{{"start_timestamp":1795329998,"timestamp":1795329999,{},"tags":{{"a":"tag","b":"tag"}},
        "measurements":{{"LCP":{{"value":1}},"lcp":{{"value":2}},"a b":{{"value":3}},"fcp":{{"value":"4"}}}},
        "spans":[{{"trace_id":"5b8efff798038103d269b633813fc60c","span_id":"aaaaaaaaaaaaaaaa","start_timestamp":1795329998,"data":{{"a":"","n":1}},"tags":{{"a":"tag","n":"tag","m":2}}}}]}}"#,
        TRACE.replace(r#""op""#, r#""data":{"a":"","b":true},"op""#)
    );
    let fact = transaction(&item(r#"{"type":"transaction"}"#, &payload));
    let [segment, child] = spans_of(&fact) else { panic!("{fact:?}") };
    let values = |row: &SpanRow, key: &str| row.attributes.text.iter().filter(|(k, _)| k == key).map(|(_, v)| v.clone()).collect::<Vec<_>>();
    assert_eq!((values(segment, "a"), values(segment, "b"), segment.attributes.boolean.len()), (vec![String::new()], vec![], 1));
    assert_eq!(
        (values(child, "a"), values(child, "n"), values(child, "m"), &child.attributes.integer),
        (vec![String::new()], vec![], vec!["2".to_owned()], &vec![("n".to_owned(), 1)])
    );
    assert_eq!(segment.measurements, [("lcp".to_owned(), 2.0)]);
}

#[test]
fn the_address_of_the_client_is_filled_in() {
    let span = r#"{"trace_id":"5b8efff798038103d269b633813fc60c","span_id":"aaaaaaaaaaaaaaaa","start_timestamp":1,"end_timestamp":2,
        "attributes":{"user.ip_address":{"type":"string","value":"{{auto}}"},"other":{"type":"string","value":"{{auto}}"}}}"#;
    let check = |settings: &str, client_ip: Option<&str>, want: Option<&str>| {
        let mut item = item(r#"{"type":"span","item_count":1}"#, &format!(r#"{{{settings}"items":[{span}]}}"#));
        item.context = Arc::new(Context { client_ip: client_ip.map(|ip| ip.parse().unwrap()), ..Context::clone(&item.context) });
        let fact = spans(&item);
        assert_eq!((spans_of(&fact)[0].user.as_deref(), spans_of(&fact)[0].attributes.text("other")), (want, Some("{{auto}}")), "{settings} {client_ip:?}");
    };
    check("", Some("203.0.113.9"), Some("ip:203.0.113.9"));
    check(r#""ingest_settings":{"infer_ip":"auto"},"#, Some("203.0.113.9"), Some("ip:203.0.113.9"));
    check(r#""ingest_settings":{"infer_ip":"never"},"#, Some("203.0.113.9"), None);
    check("", None, None);
}

#[test]
fn containers_that_are_refused_whole() {
    let check = |count: u64, elements: usize, quantity: i64| {
        let fact = spans(&item(&format!(r#"{{"type":"span","item_count":{count}}}"#), &format!(r#"{{"items":[{}]}}"#, vec!["{}"; elements].join(","))));
        let reason = Some("invalid_span".to_owned());
        assert_eq!(outcomes(&fact), [(3, reason.clone(), 12, quantity), (3, reason, 16, quantity)], "{count} {elements}");
        assert_eq!((&fact.rows, fact.identity), (&Rows::None, None), "{count} {elements}");
    };
    check(2, 1, 2);
    check(0, 0, 1);
    check(1001, 1001, 1001);
}

#[test]
fn an_element_over_its_limit_is_refused_alone() {
    let span = |name: &str| {
        format!(r#"{{"name":"{name}","trace_id":"5b8efff798038103d269b633813fc60c","span_id":"aaaaaaaaaaaaaaaa","start_timestamp":1,"end_timestamp":2}}"#)
    };
    let payload = format!(r#"{{"items":[{},{}]}}"#, span("a"), span(&"x".repeat(weir_protocol::limits::SPAN_BYTES_MAX)));
    let fact = spans(&item(r#"{"type":"span","item_count":2}"#, &payload));
    assert_eq!(spans_of(&fact).iter().map(|row| row.description.as_str()).collect::<Vec<_>>(), ["a"]);
    assert_eq!(outcomes(&fact)[0], (3, Some("invalid_span".to_owned()), 12, 1));
}

/// What was refused stays refused, what was accepted is a duplicate: each element has one outcome.
#[test]
fn a_duplicate_keeps_what_was_refused() {
    let span = r#"{"trace_id":"5b8efff798038103d269b633813fc60c","span_id":"aaaaaaaaaaaaaaaa","start_timestamp":1,"end_timestamp":2}"#;
    let fact = spans(&item(r#"{"type":"span","item_count":2}"#, &format!(r#"{{"items":[{span},{{}}]}}"#))).into_duplicate();
    let reasons: Vec<_> = outcomes(&fact).into_iter().map(|(outcome, reason, category, quantity)| (outcome, reason.unwrap(), category, quantity)).collect();
    let row = |reason: &str, category: i16| (3, reason.to_owned(), category, 1);
    assert_eq!(reasons, [row("invalid_span", 12), row("invalid_span", 16), row("duplicate", 12), row("duplicate", 16)]);
    assert_eq!(fact.rows, Rows::None);
}

fn any_json() -> impl Strategy<Value = String> {
    let leaf = prop_oneof![
        Just("null".to_owned()),
        any::<i64>().prop_map(|n| n.to_string()),
        any::<bool>().prop_map(|b| b.to_string()),
        (-1e12f64..1e12).prop_map(|f| format!("{f:?}")),
        "[a-f0-9:.TZ-]{0,40}".prop_map(|s| format!("{s:?}")),
        Just(r#""5b8efff798038103d269b633813fc60c""#.to_owned()),
        Just(r#""eee19b7ec3c1b174""#.to_owned()),
        Just("1795329000.5".to_owned()),
    ];
    let keys = prop::sample::select(vec![
        "items",
        "spans",
        "contexts",
        "trace",
        "trace_id",
        "span_id",
        "parent_span_id",
        "start_timestamp",
        "timestamp",
        "end_timestamp",
        "attributes",
        "value",
        "type",
        "data",
        "measurements",
        "discarded_events",
        "quantity",
        "reason",
        "category",
        "body",
        "level",
        "severity_number",
        "user",
        "tags",
        "transaction",
        "op",
        "is_segment",
    ]);
    leaf.prop_recursive(5, 64, 6, move |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..5).prop_map(|items| format!("[{}]", items.join(","))),
            prop::collection::vec((keys.clone(), inner), 0..7)
                .prop_map(|members| format!("{{{}}}", members.iter().map(|(k, v)| format!("{k:?}:{v}")).collect::<Vec<_>>().join(","))),
        ]
    })
}

proptest! {
    /// Whatever is sent, each item ends in a fact.
    #[test]
    fn arbitrary_payloads_are_taken(payload in any_json(), count in 0u64..3) {
        for item_type in ["transaction", "span", "log", "client_report", "event"] {
            let item = item(&format!(r#"{{"type":"{item_type}","item_count":{count}}}"#), &payload);
            let fact = crate::interpret::interpret(&item, &Knowledge::default());
            prop_assert!(item_type == "client_report" || !fact.outcomes.is_empty());
        }
    }
}

/// A child of a transaction and a span of its own have the same group.
#[test]
fn spans_have_groups() {
    let trace = r#""trace_id":"5b8efff798038103d269b633813fc60c","start_timestamp":1795329000.1,"timestamp":1795329000.4,"end_timestamp":1795329000.4"#;
    let check = |span: &str, want: [Option<&str>; 2]| {
        let span = format!(r#"{{"span_id":"aaaaaaaaaaaaaaaa",{trace},{span}}}"#);
        let transaction = format!(r#"{{"start_timestamp":1795329000.0,"timestamp":1795329001.0,{TRACE},"spans":[{span}]}}"#);
        let facts = [super::transaction(&item(r#"{"type":"transaction"}"#, &transaction), &Knowledge::default()), spans(&item(r#"{"type":"span"}"#, &span))];
        for fact in facts {
            let attributes = &spans_of(&fact).last().unwrap().attributes;
            assert_eq!(["sentry.normalized_description", "sentry.group"].map(|key| attributes.text(key)), want, "{span}");
        }
    };
    // The first half of the MD5 of each, as `md5sum` has it.
    check(r#""op":"db","description":"SELECT 1""#, [Some("SELECT %s"), Some("3a377dcc490b1690")]);
    check(r#""op":"db.redis","description":"GET user:1""#, [Some("GET *"), Some("37e3d9fab1ae9162")]);
    check(r#""op":"db","description":"SELECT 1","data":{"sentry.normalized_description":"mine"}"#, [Some("mine"), Some("918b81db5e91d031")]);
    check(r#""op":"db","description":"SELECT 1","data":{"sentry.group":"g"}"#, [Some("SELECT %s"), Some("g")]);
    check(r#""op":"function","description":"f""#, [None, None]);
    check(r#""op":"resource.script","description":"/js/app.1234.js""#, [Some("/js/app.*.js"), Some("7529f8885d582045")]);
}

#[test]
fn spans_of_opentelemetry_have_groups() {
    let check = |attributes: &str, want: Option<&str>| {
        let span = format!(
            r#"{{"name":"n","trace_id":"5b8efff798038103d269b633813fc60c","span_id":"aaaaaaaaaaaaaaaa","start_timestamp":1,"end_timestamp":2,"attributes":{attributes}}}"#
        );
        let fact = spans(&item(r#"{"type":"span","item_count":1}"#, &format!(r#"{{"items":[{span}]}}"#)));
        assert_eq!(spans_of(&fact)[0].attributes.text("sentry.normalized_description"), want, "{attributes}");
    };
    let text = |key: &str, value: &str| format!(r#""{key}":{{"type":"string","value":"{value}"}}"#);
    check(
        &format!("{{{},{}}}", text("db.system.name", "postgresql"), text("db.query.text", "SELECT a FROM t WHERE b = 1")),
        Some("SELECT a FROM t WHERE b = %s"),
    );
    check(&format!("{{{},{}}}", text("http.request.method", "GET"), text("url.full", "https://a.example.com/x")), Some("GET https://*.example.com"));
    check("{}", None);
}
