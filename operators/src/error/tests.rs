//! Normalisation, grouping and rows over recorded events and over arbitrary ones.

use std::collections::BTreeMap;
use std::path::PathBuf;

use proptest::prelude::*;
use weir_protocol::EventId;
use weir_protocol::envelope::{Envelope, ItemType};
use weir_protocol::ids::hex;
use weir_protocol::json::{Json, Object};

use super::*;
use crate::grouping::{self, Rules, Variant};
use crate::normalise::{self, EventContext};
use crate::rows::{Common, ErrorRow, TableRow};

/// When the recorded events count as received: an hour after the newest of them.
const RECEIVED_MS: u64 = 1_795_330_000_000;

fn context(event_id: EventId) -> EventContext {
    EventContext { event_id, received_ms: RECEIVED_MS, client_ip: "203.0.113.9".parse().ok(), project_id: 1, ..EventContext::default() }
}

fn row(event: &Json<'_>) -> ErrorRow {
    let common = Common { org_id: 1, project_id: 1, project: "shop".into(), received_ms: RECEIVED_MS as i64, retention_days: 90, seq: 0 };
    error_row(event, &context(EventId([7; 16])), common, &grouping::hashes(event, &Rules::default()))
}

/// The recorded error events by the name of their envelope, normalised; none where there are no recordings.
fn recorded() -> BTreeMap<String, Json<'static>> {
    let folder = PathBuf::from(std::env::var_os("CARGO_MANIFEST_DIR").unwrap()).join("../tests/corpus/envelopes");
    let Ok(files) = std::fs::read_dir(folder) else { return BTreeMap::new() };
    let mut events = BTreeMap::new();
    for path in files.map(|file| file.unwrap().path()).filter(|path| path.extension().is_some_and(|e| e == "envelope")) {
        let Ok(envelope) = Envelope::parse(&std::fs::read(&path).unwrap().into()) else { continue };
        for item in envelope.items.iter().filter(|item| item.header.item_type == ItemType::Event) {
            let mut event = Json::parse(&item.payload).unwrap().into_owned();
            normalise::event(&mut event, &context(envelope.header.event_id.unwrap())).unwrap();
            events.insert(path.file_stem().unwrap().to_string_lossy().into_owned(), event);
        }
    }
    events
}

#[test]
fn recorded_events_have_titles_and_hashes() {
    let titles = [
        ("browser_event_cause_linked", "EmptyCartError: cannot price the cart"),
        ("browser_event_console", "cart %s has %d lines c-9 2 [object Object]"),
        ("browser_event_error", "TypeError: Cannot read properties of null (reading 'toFixed')"),
        ("browser_event_message", "coupon was refused"),
        ("browser_event_rejection_object", "UnhandledRejection: Object captured as promise rejection with keys: code, detail, status"),
        ("browser_event_sourcemap_debug_id", "TypeError: Cannot read properties of null (reading 'toFixed')"),
        ("browser_event_tunnel_dsn", "coupon was refused"),
        ("go_event_client_report", "kept"),
        ("go_event_panic", "runtime.plainError: assignment to entry in nil map"),
        ("go_event_panic_string", "unexpected state 7"),
        ("go_event_with_2_attachments", "*errors.errorString: cannot decode request"),
        ("go_event_wrapped", "*fmt.wrapError: checkout step 2: reserve item 42: warehouse eu-1: item is gone"),
        ("java_event_cause_chain", "OrderFailedException: order 4711 could not be placed"),
        ("java_event_client_report", "kept"),
        ("java_event_in_session", "IllegalStateException: inventory out of date"),
        ("java_event_message_params", "stock of item 42 is low (3 left)"),
        ("java_event_proguard", "c: order 4711 could not be placed"),
        ("java_event_with_4_attachments", "IllegalStateException: order 4711 stuck"),
        ("node_event_message", "queue lag above threshold"),
        ("py_event_breadcrumbs_contexts", "Inventory drift detected for sku A-2064"),
        ("py_event_exception_chained", "PaymentGatewayError: checkout failed for order 10982"),
        ("py_event_exception_small", "KeyError: 'missing'"),
        ("py_event_flask_request", "PaymentGatewayError: checkout failed for order 10244"),
        ("py_event_in_session", "ValueError: bad amount 'x,,' for card ending 4000"),
        ("py_event_message", "Cache miss ratio above 40% for shard 17"),
        ("rust_event_anyhow_session", "Error: reading shard id"),
    ];
    let events = recorded();
    if events.is_empty() {
        eprintln!("skipped: there are no recorded envelopes");
    }
    for (name, event) in &events {
        let metadata = metadata(event);
        assert!(!metadata.title.is_empty() && !title::is_placeholder(&metadata.title), "{name}");
        let hashes = grouping::hashes(event, &Rules::default());
        assert!(hashes.first().is_some_and(|hash| hash.variant != Variant::Fallback), "{name}: {hashes:?}");
        assert_eq!(event.get("errors").map(Json::to_string), None, "{name}");
    }
    for (name, want) in titles.into_iter().filter(|_| !events.is_empty()) {
        assert_eq!(events.get(name).map(|event| metadata(event).title).as_deref(), Some(want), "{name}");
    }
}

#[test]
fn messages_with_a_stack_are_grouped_by_their_text() {
    let events = recorded();
    let primary = |name: &str| events.get(name).map(|event| grouping::hashes(event, &Rules::default()).first().map(|hash| hash.variant));
    for name in ["node_event_message", "browser_event_message", "browser_event_console"].into_iter().filter(|_| !events.is_empty()) {
        assert_eq!(primary(name), Some(Some(Variant::Default)), "{name}");
    }
}

#[test]
fn columns() {
    let mut event = Json::parse(
        br#"{"timestamp":1795322892.9939,"platform":"python","release":"r@1","environment":"e","dist":"d","transaction":"/t","version":"7",
        "user":{"id":"7","username":"ada","email":"a@b","ip_address":"203.0.113.7","geo":{"country_code":"DE"}},
        "request":{"method":"post","headers":{"referer":"http://r/"}},"sdk":{"name":"s","version":"1","integrations":["flask"]},
        "contexts":{"trace":{"trace_id":"05a6939899564f84aaff8d56571f1744","span_id":"aec3abd7115ba43d","sampled":true,"client_sample_rate":0.25},
            "replay":{"replay_id":"c33256b3d47856aa948aa868319c43b1"},"os":{"name":"Linux","build":{"n":1},"rooted":false},
            "flags":{"values":[{"flag":"f","result":true},{"flag":"g","result":"b"},{"flag":"f","result":false},{"flag":3}]}},
        "modules":{"m":"1"},"threads":[{"id":3,"main":true,"current":true}],
        "exception":[{"type":"A","value":"a","mechanism":{"type":"t","handled":false},"stacktrace":{"frames":[{"function":"f","lineno":3,"in_app":true}]}},
            {"type":"B","thread_id":3,"stacktrace":{"frames":[{"function":"g","lineno":9999999999}]}}],"level":"x"}"#,
    )
    .unwrap();
    normalise::event(&mut event, &context(EventId([7; 16]))).unwrap();
    let row = row(&event);
    let pairs = |pairs: &[(String, Option<String>)]| pairs.iter().map(|(k, v)| format!("{k}={}", v.as_deref().unwrap())).collect::<Vec<_>>().join(" ");
    let text = |text: &Option<String>| text.clone().unwrap_or_default();
    let check = |name: &str, got: String, want: &str| assert_eq!(got, want, "{name}");
    check("timestamp", row.timestamp_ms.to_string(), "1795322892993");
    check("type, level", format!("{} {}", row.type_, text(&row.level)), "error error");
    check("title", row.title.clone(), "B");
    check("culprit", row.culprit.clone(), "/t");
    check("release", [&row.release, &row.environment, &row.dist, &row.version].map(text).join(" "), "r@1 e d 7");
    check("trace", format!("{} {}", hex(&row.trace_id.unwrap()), text(&row.span_id)), "05a6939899564f84aaff8d56571f1744 aec3abd7115ba43d");
    check("replay", hex(&row.replay_id.unwrap()), "c33256b3d47856aa948aa868319c43b1");
    check("sampling", format!("{:?} {:?}", row.trace_sampled, row.sample_weight), "Some(true) Some(4.0)");
    check("user", [&row.user_id, &row.user_name, &row.user_email, &row.ip].map(text).join(" "), "7 ada a@b 203.0.113.7");
    check("user tag", row.user.clone(), "id:7");
    assert_eq!(row.user_hash, Some(user_hash(1, "id:7")));
    check("request", [&row.http_method, &row.http_referer].map(text).join(" "), "POST http://r/");
    check("sdk", format!("{} {} {:?}", row.sdk_name, row.sdk_version, row.sdk_integrations), r#"s 1 ["flask"]"#);
    check("flags", pairs(&row.flags), "f=false g=b");
    check("modules", pairs(&row.modules), "m=1");
    check(
        "contexts",
        pairs(&row.contexts),
        "geo.country_code=DE os.name=Linux os.os=Linux os.rooted=False replay.replay_id=c33256b3d47856aa948aa868319c43b1 trace.client_sample_rate=0.25 \
        trace.sampled=True trace.span_id=aec3abd7115ba43d trace.status=unknown trace.trace_id=05a6939899564f84aaff8d56571f1744",
    );
    let exceptions: Vec<String> =
        row.exceptions.iter().map(|e| format!("{} {} {} {:?}", text(&e.type_), text(&e.value), text(&e.mechanism_type), e.handled)).collect();
    assert_eq!(exceptions, ["A a t Some(false)", "B   None"]);
    let frames: Vec<String> = row.frames.iter().map(|f| format!("{} {:?} {:?} {}", text(&f.function), f.lineno, f.in_app, f.stack_level)).collect();
    assert_eq!(frames, ["f Some(3) Some(true) 0", "g None None 1"]);
    check("flags of the event", format!("{} {:?} {}", row.unhandled, row.main_thread, row.num_processing_errors), "true Some(true) 3");
}

#[test]
fn ids_of_issues_are_stable_and_differ_by_project() {
    assert_eq!(group_id(1, &[7; 16]), group_id(1, &[7; 16]));
    assert_ne!(group_id(1, &[7; 16]), group_id(2, &[7; 16]));
    assert_ne!(group_id(1, &[7; 16]), group_id(1, &[8; 16]));
    assert!((0..64).all(|n| group_id(n, &[7; 16]) >= 0 && user_hash(n, "id:7") >= 0));
}

const KEYS: &str = "event_id timestamp start_timestamp level platform type message logentry formatted params logger release dist environment tags \
    fingerprint exception values value module mechanism handled synthetic exception_id parent_id is_exception_group meta ns_error domain code stacktrace \
    frames function raw_function filename abs_path package context_line pre_context lineno colno in_app vars data threads crashed current breadcrumbs \
    category user id email ip_address username geo request url method headers cookies query_string env REMOTE_ADDR contexts trace trace_id span_id os name \
    version flags flag result replay replay_id sdk integrations settings infer_ip extra modules checksum template csp blocked_uri effective_directive hpkp \
    hostname errors _meta transaction culprit server_name site time_spent sentry.interfaces.Http sentry.interfaces.Exception unknown_thing key nel";

const TEXTS: &[&str] = &[
    "",
    " ",
    "x",
    "error",
    "latest",
    "{{auto}}",
    "never",
    "{{ default }}",
    "{{ message }}",
    "ValueError: no 7 at 0xdead\nbeef\n\nmore",
    "javascript",
    "java",
    "python",
    "native",
    "csp",
    "2026-11-22T04:41:49.672434174Z",
    "2031-01-01T00:00:00+14:00",
    "http://h/a?b=1&c=%zz#f",
    "a=1; b=2",
    "{\"a\":[1]}",
    "[[\"",
    "203.0.113.7",
    "05a6939899564f84aaff8d56571f1744",
    "%s %(a)s %d {} {0}",
    "application/x-www-form-urlencoded",
    "Content-Type",
    "cookie",
    "é\u{0}\u{10ffff}ü=",
    "::1 a::b 12:34 -1.5 ='x",
];

fn arbitrary_json() -> impl Strategy<Value = Json<'static>> {
    let keys: Vec<&'static str> = KEYS.split_whitespace().collect();
    let leaf = prop_oneof![
        Just(Json::Null),
        any::<bool>().prop_map(Json::Bool),
        (-3i64..60).prop_map(Json::Int),
        any::<i64>().prop_map(Json::Int),
        (1u64 << 63..u64::MAX).prop_map(Json::UInt),
        prop_oneof![-1e20..1e20, Just(1_795_322_892.993)].prop_map(Json::Float),
        proptest::sample::select(TEXTS).prop_map(Json::text),
        "\\PC{0,40}".prop_map(Json::text),
        (1usize..20_000).prop_map(|n| Json::text("é1:".repeat(n / 3))),
    ];
    leaf.prop_recursive(6, 96, 8, move |inner| {
        let object = proptest::collection::vec((proptest::sample::select(keys.clone()), inner.clone()), 0..8);
        prop_oneof![
            proptest::collection::vec(inner, 0..6).prop_map(Json::Array),
            object.prop_map(|members| Json::Object(members.into_iter().collect::<Object<'_>>())),
        ]
    })
}

/// An object with some of the keys, each mostly with a text or another plain value.
fn object_of(keys: &'static str) -> impl Strategy<Value = Json<'static>> {
    let keys: Vec<&'static str> = keys.split_whitespace().collect();
    let value = prop_oneof![3 => proptest::sample::select(TEXTS).prop_map(Json::text), 2 => arbitrary_json()];
    proptest::collection::vec((proptest::sample::select(keys), value), 0..8).prop_map(|members| Json::Object(members.into_iter().collect()))
}

fn with<'a>(mut object: Json<'a>, key: &'static str, value: Json<'a>) -> Json<'a> {
    if let Json::Object(object) = &mut object {
        object.insert(key, value);
    }
    object
}

/// Holders of stacks: exceptions and threads.
fn arbitrary_holders(keys: &'static str) -> impl Strategy<Value = Json<'static>> {
    let frame = object_of("function raw_function module package filename abs_path platform context_line pre_context lineno colno in_app vars data");
    let frames = proptest::collection::vec(frame, 0..4).prop_map(Json::Array);
    let mechanism = object_of("type handled synthetic exception_id parent_id is_exception_group meta data description");
    let holder = (object_of(keys), frames, mechanism).prop_map(|(holder, frames, mechanism)| {
        let stacktrace = with(Json::Object(Object::new()), "frames", frames);
        with(with(holder, "stacktrace", stacktrace), "mechanism", mechanism)
    });
    proptest::collection::vec(holder, 0..4).prop_map(Json::Array)
}

/// An interface with the keys that it has, so that what is below them is reached.
fn arbitrary_interface() -> impl Strategy<Value = (&'static str, Json<'static>)> {
    let named = |name: &'static str, keys: &'static str| object_of(keys).prop_map(move |value| (name, value)).boxed();
    proptest::strategy::Union::new([
        arbitrary_holders("type value module thread_id").prop_map(|value| ("exception", value)).boxed(),
        arbitrary_holders("id name crashed current main state").prop_map(|value| ("threads", value)).boxed(),
        named("request", "url fragment method headers cookies query_string env data inferred_content_type"),
        named("user", "id username name email ip_address geo data sentry_user plan"),
        named("logentry", "message formatted params"),
        named("contexts", "trace os device flags replay runtime custom"),
        named("tags", "a environment level release server_name x.y"),
        named("csp", "effective_directive violated_directive blocked_uri document_uri"),
        named("sdk", "name version integrations settings"),
        named("extra", "a b c d e f"),
        proptest::collection::vec(object_of("timestamp type category level message data"), 0..4).prop_map(|v| ("breadcrumbs", Json::Array(v))).boxed(),
        proptest::collection::vec(arbitrary_json(), 0..4).prop_map(|v| ("fingerprint", Json::Array(v))).boxed(),
    ])
}

fn arbitrary_event() -> impl Strategy<Value = Json<'static>> {
    let keys: Vec<&'static str> = KEYS.split_whitespace().collect();
    let any_member = (proptest::sample::select(keys), arbitrary_json());
    proptest::collection::vec(prop_oneof![any_member, arbitrary_interface()], 0..12).prop_map(|members| Json::Object(members.into_iter().collect()))
}

proptest! {
    #[test]
    fn arbitrary_events_are_taken(given in arbitrary_event(), sent_at in proptest::option::of(proptest::sample::select(TEXTS))) {
        let context = EventContext { sent_at: sent_at.map(str::to_owned), client: Some("sdk/1".to_owned()), ..context(EventId([7; 16])) };
        let mut event = given;
        if normalise::event(&mut event, &context).is_err() {
            return Ok(());
        }
        prop_assert!(Json::parse(event.to_string().as_bytes()).is_ok());
        prop_assert!(!grouping::hashes(&event, &Rules::default()).is_empty());
        let row = row(&event);
        prop_assert!(!row.title.is_empty());
        prop_assert!(row.tags.windows(2).all(|pair| pair[0].0 < pair[1].0), "{:?}", row.tags);
        prop_assert_eq!(row.event_id, [7; 16]);
        prop_assert!(row.group_id >= 0 && row.timestamp_ms >= 0);
        prop_assert_eq!(ErrorRow::batch(&[row]).num_rows(), 1);
    }
}
