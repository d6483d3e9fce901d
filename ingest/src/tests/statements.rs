//! One request a row: what is answered, and what the log gets.

use base64::Engine;
use bytes::Bytes;

use super::world::{Answer, BROKEN, CLOSED, DISABLED, KEY, STRICT, World, auth, auth_of, encoded, request};
use crate::{NotKept, Options};

const ENVELOPE: &str = "/api/1/envelope/";
const STORE: &str = "/api/1/store/";
const ID: &str = "9ec79c33ec9942ab8353589fcb2e04dc";

/// Caps that tests reach with little.
fn options() -> Options {
    Options { envelope_bytes_max: 4 << 20, store_bytes_max: 1 << 20, ..Options::default() }
}

/// What every answer carries, and what an error carries besides.
fn check_headers(row: &str, answer: &Answer) {
    assert_eq!(answer.header("cross-origin-resource-policy"), "cross-origin", "{row}");
    assert_eq!(answer.header("access-control-allow-origin"), "*", "{row}");
    assert_eq!(answer.header("access-control-expose-headers"), "x-sentry-error, x-sentry-rate-limits, retry-after", "{row}");
    if answer.status >= 400 {
        let body: serde_json::Value = serde_json::from_slice(&answer.body).unwrap();
        let detail = body["detail"].as_str().unwrap();
        assert!(!detail.is_empty() && answer.header("x-sentry-error") == detail, "{row}: {detail:?}, {:?}", answer.header("x-sentry-error"));
        assert_eq!(answer.header("content-type"), "application/json", "{row}");
    }
}

struct Row<'a> {
    name: &'a str,
    method: &'a str,
    path: &'a str,
    headers: Vec<String>,
    body: Bytes,
}

fn post<'a>(name: &'a str, path: &'a str, headers: &[&str], body: impl Into<Bytes>) -> Row<'a> {
    Row { name, method: "POST", path, headers: headers.iter().map(|h| (*h).to_owned()).collect(), body: body.into() }
}

/// Sends a row to doors of its own and compares the status and what the log then holds; returns the answer.
async fn check(row: Row<'_>, status: u16, kept: &str) -> Answer {
    let world = World::new(options());
    let headers: Vec<&str> = row.headers.iter().map(String::as_str).collect();
    let answer = world.send(request(row.method, row.path, &headers, row.body)).await;
    assert_eq!(answer.status, status, "{}: {:?}", row.name, answer.body);
    assert_eq!(world.kept(), kept, "{}", row.name);
    check_headers(row.name, &answer);
    answer
}

fn event(payload: &str) -> String {
    format!("{{\"event_id\":\"{ID}\"}}\n{{\"type\":\"event\"}}\n{payload}\n")
}

fn items(item_type: &str, count: usize) -> String {
    format!("{{}}\n{}", format!("{{\"type\":\"{item_type}\"}}\n{{}}\n").repeat(count))
}

fn zlib64(text: &str) -> String {
    base64::engine::general_purpose::STANDARD.encode(encoded("deflate", text.as_bytes()))
}

fn query_of(data: &str) -> String {
    let escaped: String = data.bytes().map(|byte| format!("%{byte:02x}")).collect();
    format!("{STORE}?sentry_key={KEY}&sentry_data={escaped}")
}

#[tokio::test]
async fn store() {
    let auth = auth();
    let json = format!("{{\"event_id\":\"{ID}\",\"message\":\"m\"}}");
    let kept = format!("event={}", &json[..40]);
    let told = format!("{{\"id\":\"{ID}\"}}");
    for (name, path, body) in [
        ("01 store of JSON", STORE, json.clone()),
        ("02 base64 of zlib", STORE, zlib64(&json)),
        ("04 store without a slash", "/api/1/store", json.clone()),
        ("04 store with two", "/api/1/store//", json.clone()),
        ("04 slashes everywhere", "//api//1///store/", json.clone()),
        ("04 the legacy path", "/api/store/", json.clone()),
    ] {
        let answer = check(post(name, path, &[&auth], body), 200, &kept).await;
        assert_eq!(answer.text(), told, "{name}");
        assert_eq!(answer.header("content-type"), "application/json", "{name}");
    }
    for (name, data) in [("03 GET of JSON", json.clone()), ("03 GET of base64 of zlib", zlib64(&json))] {
        let answer = check(Row { method: "GET", ..post(name, &query_of(&data), &[], "") }, 200, &kept).await;
        assert_eq!(answer.header("content-type"), "image/gif", "{name}");
        assert!(answer.body.starts_with(b"GIF89a"), "{name}");
    }
    check(post("transaction", STORE, &[&auth], "{\"type\":\"transaction\"}"), 200, "transaction={\"type\":\"transaction\"}").await;
    let python = auth.replace("test/1.0", "raven-python/6.0");
    check(post("NaN of python", STORE, &[&python], "{\"extra\":NaN}"), 200, "event={\"extra\":null}").await;
    check(post("NaN of others", STORE, &[&auth], "{\"extra\":NaN}"), 400, "-invalid_json/error=1").await;
    check(post("an envelope", STORE, &[&auth, "content-type: application/x-sentry-envelope"], event("{}")), 200, "event={}").await;
    check(post("nonsense", STORE, &[&auth], "{not json"), 400, "-invalid_json/error=1").await;
    check(post("nothing", STORE, &[&auth], ""), 400, "-no_data/error=1").await;
    check(Row { method: "GET", ..post("GET of nothing", &format!("{STORE}?sentry_key={KEY}"), &[], "") }, 400, "-no_data/error=1").await;
    check(post("too large", STORE, &[&auth], format!("{{\"a\":\"{}\"}}", "x".repeat(1 << 20))), 413, "-too_large:event/error=1").await;
    let deep = format!("{{\"a\":{}{}}}", "[".repeat(100_000), "]".repeat(100_000));
    check(post("deep", STORE, &[&auth], deep.clone()), 200, &format!("event={}", &deep[..40])).await;
}

#[tokio::test]
async fn encodings() {
    let auth = auth();
    for encoding in ["gzip", "deflate", "br", "zstd", "identity", ""] {
        let name = format!("05 {encoding}");
        let header = format!("content-encoding: {encoding}");
        for (path, plain, kept) in [(ENVELOPE, event("{\"a\":1}"), "event={\"a\":1}"), (STORE, "{\"a\":2}".to_owned(), "event={\"a\":2}")] {
            check(post(&name, path, &[&auth, &header], encoded(encoding, plain.as_bytes())), 200, kept).await;
        }
        if !matches!(encoding, "identity" | "") {
            // A body that is larger than a first try at decompression, and one that is larger than is inflated in place.
            let large = format!("{}{{\"type\":\"new\"}}\n{}\n", event("{}"), "x".repeat(3 << 20));
            check(post(&name, ENVELOPE, &[&auth, &header], encoded(encoding, large.as_bytes())), 200, "event={} -unsupported:new/unknown=1").await;
            let noise: String = (0..400_000u32).map(|n| format!("{:x}", n.wrapping_mul(2_654_435_761))).collect();
            let large = format!("{}{{\"type\":\"new\"}}\n{noise}\n", event("{}"));
            check(post(&name, ENVELOPE, &[&auth, &header], encoded(encoding, large.as_bytes())), 200, "event={} -unsupported:new/unknown=1").await;

            let bomb = encoded(encoding, &vec![0; 16 << 20]);
            check(post(&format!("06 {encoding} bomb"), ENVELOPE, &[&auth, &header], bomb.clone()), 413, "-too_large:envelope/error=1").await;
            check(post(&format!("06 {encoding} bomb to store"), STORE, &[&auth, &header], bomb), 413, "-too_large:event/error=1").await;
            let packed = encoded(encoding, event(&"{}".repeat(100)).as_bytes());
            let cut = packed[..packed.len() - 5].to_vec();
            check(post(&format!("truncated {encoding}"), ENVELOPE, &[&auth, &header], cut), 400, "-invalid_compression/error=1").await;
            check(post(&format!("not {encoding}"), ENVELOPE, &[&auth, &header], event("{}")), 400, "-invalid_compression/error=1").await;
            check(post(&format!("empty {encoding}"), ENVELOPE, &[&auth, &header], ""), 400, "-invalid_envelope/error=1").await;
        }
    }
    check(post("unknown", ENVELOPE, &[&auth, "content-encoding: rot13"], event("{}")), 415, "-content_type/error=1").await;
    check(post("stated too large", ENVELOPE, &[&auth, "content-length: 99999999"], "{}"), 413, "-too_large:envelope/error=1").await;
    check(post("really too large", ENVELOPE, &[&auth], vec![b'x'; (4 << 20) + 1]), 413, "-too_large:envelope/error=1").await;
}

#[tokio::test]
async fn authentication() {
    let (auth, good) = (auth(), event("{}"));
    let with_dsn = |dsn: &str| format!("{{\"dsn\":\"{dsn}\"}}\n{{\"type\":\"log\"}}\n{{}}\n");
    let dsn = |key: &str, project: &str| with_dsn(&format!("http://{key}@example.org/{project}"));
    let query = format!("{ENVELOPE}?sentry_key={KEY}&sentry_version=7");
    let refused = check(post("10 errors say what scripts may read", ENVELOPE, &[], good.clone()), 401, "").await;
    assert_eq!(refused.header("access-control-expose-headers"), "x-sentry-error, x-sentry-rate-limits, retry-after");
    check(post("12 none", ENVELOPE, &[], good.clone()), 401, "").await;
    check(post("12 none for store", STORE, &[], "{}"), 401, "").await;
    check(post("12 none, and no envelope", ENVELOPE, &[], "nonsense"), 401, "").await;
    check(post("12 two", &query, &[&auth], good.clone()), 401, "").await;
    check(post("query", &query, &[], good.clone()), 200, "event={}").await;
    check(post("13 dsn alone", ENVELOPE, &["x-sentry-auth: "], dsn(KEY, "1")), 200, "log={}").await;
    check(post("13 dsn beside a header", ENVELOPE, &[&auth], dsn(KEY, "1")), 200, "log={}").await;
    check(post("14 dsn of another project", ENVELOPE, &[], dsn(KEY, "2")), 400, "").await;
    check(post("14 dsn of another project beside a header", ENVELOPE, &[&auth], dsn(KEY, "2")), 400, "-invalid_envelope/error=1").await;
    check(post("14 dsn of another key beside a header", ENVELOPE, &[&auth], dsn(STRICT, "1")), 400, "-invalid_envelope/error=1").await;
    check(post("14 no dsn beside a header", ENVELOPE, &[&auth], with_dsn("x")), 400, "-invalid_envelope/error=1").await;
    check(post("dsn that is none", ENVELOPE, &[], with_dsn("x")), 401, "").await;
    check(post("dsn of an unknown key", ENVELOPE, &[], dsn(&"9".repeat(32), "1")), 403, "").await;
    check(post("15 short key", ENVELOPE, &["x-sentry-auth: Sentry sentry_key=abc"], good.clone()), 400, "").await;
    check(post("15 version 8", ENVELOPE, &[&auth.replace("version=7", "version=8")], good.clone()), 400, "").await;
    check(post("16 disabled key", ENVELOPE, &[&auth_of(DISABLED)], good.clone()), 403, "").await;
    check(post("unknown key", ENVELOPE, &[&auth_of(&"0".repeat(32))], good.clone()), 403, "").await;
    check(post("wrong project", "/api/99999999/envelope/", &[&auth], good.clone()), 403, "").await;
    check(post("project that is no number", "/api/abc/envelope/", &[&auth], good.clone()), 400, "").await;
    let answer = check(post("keys cannot be looked up", ENVELOPE, &[&auth_of(BROKEN)], good), 503, "").await;
    assert_eq!(answer.header("retry-after"), "5");
}

#[tokio::test]
async fn origins() {
    for (name, project, key, header, status, kept) in [
        ("11 any", 1, KEY, "origin: http://other.com", 200, "event={}"),
        ("11 listed", 2, STRICT, "origin: http://valid.com", 200, "event={}"),
        ("11 other", 2, STRICT, "origin: http://other.com", 403, "-cors/error=1"),
        ("11 no origin", 2, STRICT, "accept: */*", 200, "event={}"),
        ("11 empty list", 3, CLOSED, "referer: http://valid.com/", 403, "-cors/error=1"),
        ("11 empty list, no origin", 3, CLOSED, "accept: */*", 200, "event={}"),
    ] {
        check(post(name, &format!("/api/{project}/envelope/"), &[&auth_of(key), header], event("{}")), status, kept).await;
    }
}

#[tokio::test]
async fn envelopes() {
    let auth = auth();
    let to = |name, body: String| post(name, ENVELOPE, &[&auth], body);
    check(to("18 implicit length to the end", "{}\n{\"type\":\"log\"}\n{\"a\":1}".to_owned()), 200, "log={\"a\":1}").await;
    let two = "{}\n{\"type\":\"attachment\",\"length\":0}\n\n{\"type\":\"attachment\",\"length\":0}\n";
    let empty = "-unsupported:attachment/attachment=2 -unsupported:attachment/attachment_item=2";
    check(to("18 two empty attachments", two.to_owned()), 200, empty).await;
    check(to("18 two empty attachments and a line feed", format!("{two}\n")), 200, empty).await;
    check(to("18 CRLF is data", "{}\n{\"type\":\"event\",\"length\":6}\n{\r\n\r\n}\n".to_owned()), 200, "event={\r\n\r\n}").await;
    check(to("19 byte after length", "{}\n{\"type\":\"event\",\"length\":2}\n{}x".to_owned()), 400, "-invalid_envelope/error=1").await;
    check(to("20 length past the end", "{}\n{\"type\":\"event\",\"length\":999}\n{}".to_owned()), 400, "-invalid_envelope/error=1").await;
    let unknown = format!("{}{{\"type\":\"brand_new\"}}\nx\n", event("{}"));
    check(to("21 unknown type", unknown), 200, "event={} -unsupported:brand_new/unknown=1").await;
    let answer =
        check(to("22 attachment without an id", items("attachment", 1)), 200, "-unsupported:attachment/attachment=2 -unsupported:attachment/attachment_item=1")
            .await;
    assert_eq!(answer.text().len(), r#"{"id":""}"#.len() + 32);
    let answer = check(
        to("23 header beats payload", event("{\"event_id\":\"11111111111111111111111111111111\"}")),
        200,
        &format!("event={{\"event_id\":\"{}", "1".repeat(27)),
    )
    .await;
    assert_eq!(answer.text(), format!("{{\"id\":\"{ID}\"}}"));
    check(to("24 integration", items("integration", 1)), 200, "-unsupported:integration/unknown=1").await;
    let refused = "-too_large:attachment/attachment=62 -too_large:attachment/attachment_item=31";
    check(to("26 31 attachments", items("attachment", 31)), 413, refused).await;
    let answer = check(to("26 101 sessions", items("session", 101)), 413, "-too_large:session/session=101").await;
    assert!(answer.text().starts_with("{\"detail\":\"envelope exceeded size limits for type 'session'\""), "{}", answer.text());
    let large = format!("{{\"message\":\"{}\"}}", "a".repeat(1 << 20));
    check(to("07 event over 1 MiB", event(&large) + "{\"type\":\"session\"}\n{}\n"), 413, "-too_large:event/error=1 -too_large:event/session=1").await;
    check(to("second event", event("{}") + "{\"type\":\"event\"}\n[]\n"), 200, "event={} -duplicate_item/error=1").await;
    let answer = check(to("no items", "{}\n".to_owned()), 200, "").await;
    assert_eq!(answer.text(), "{}");
    let answer = check(to("no items but an id", format!("{{\"event_id\":\"{ID}\"}}\n")), 200, "").await;
    assert_eq!(answer.text(), format!("{{\"id\":\"{ID}\"}}"));
    let answer = check(
        to("id of the payload", format!("{{}}\n{{\"type\":\"event\"}}\n{{\"event_id\":\"{ID}\"}}\n")),
        200,
        &format!("event={{\"event_id\":\"{}", &ID[..27]),
    )
    .await;
    assert_eq!(answer.text(), format!("{{\"id\":\"{ID}\"}}"));
    let answer = check(to("items that need no id", items("log", 1)), 200, "log={}").await;
    assert_eq!(answer.text(), "{}");
    check(to("nothing", String::new()), 400, "-invalid_envelope/error=1").await;
    check(post("not an envelope", ENVELOPE, &[&auth], &b"\xff\xfe\x00nonsense"[..]), 400, "-invalid_envelope/error=1").await;
    check(to("deep header", "[".repeat(100_000) + "\n"), 400, "-invalid_envelope/error=1").await;
    let deep = "[".repeat(100_000) + &"]".repeat(100_000);
    check(to("deep payload", format!("{{}}\n{{\"type\":\"event\"}}\n{deep}\n")), 200, &format!("event={}", &deep[..40])).await;
}

#[tokio::test]
async fn what_browsers_ask_first() {
    for path in [ENVELOPE, STORE, "/api/store/", "/api/abc/envelope"] {
        let answer = check(Row { method: "OPTIONS", ..post("09 preflight", path, &["origin: http://a.com"], "") }, 200, "").await;
        assert_eq!(answer.header("access-control-allow-methods"), "POST");
        assert_eq!(answer.header("access-control-max-age"), "3600");
        let mut allowed: Vec<&str> = answer.header("access-control-allow-headers").split(", ").collect();
        allowed.sort_unstable();
        assert_eq!(
            allowed,
            [
                "accept",
                "authentication",
                "authorization",
                "content-encoding",
                "content-type",
                "origin",
                "referer",
                "transfer-encoding",
                "x-forwarded-for",
                "x-requested-with",
                "x-sentry-auth"
            ]
        );
    }
    check(post("no such path", "/api/1/nowhere/", &[&auth()], ""), 404, "").await;
    let answer = check(Row { method: "PUT", ..post("no such method", ENVELOPE, &[&auth()], "") }, 405, "").await;
    assert_eq!(answer.header("allow"), "POST, OPTIONS");
}

#[tokio::test]
async fn health() {
    for (path, status, body) in [
        ("/_health/", 200, "ok"),
        ("/_health/?full", 503, r#"{"journal":"full"}"#),
        ("/metrics", 200, "some_metric 1\n"),
        ("/api/relay/healthcheck/live/", 200, r#"{"is_healthy":true}"#),
        ("/api/relay/healthcheck/ready/", 503, r#"{"is_healthy":false}"#),
        ("/api/0/relays/live/", 200, r#"{"is_healthy":true}"#),
    ] {
        let answer = World::new(options()).send(request("GET", path, &[], "")).await;
        assert_eq!((answer.status, answer.text()), (status, body), "{path}");
    }
}

#[tokio::test]
async fn a_log_that_fails_is_told() {
    for (failure, status) in [(NotKept::Unavailable("full".to_owned()), 503), (NotKept::TooLarge("300 MiB".to_owned()), 413)] {
        for (path, body) in [(ENVELOPE, event("{}")), (STORE, "{}".to_owned())] {
            let world = World::failing(options(), Some(failure.clone()));
            let answer = world.send(request("POST", path, &[&auth()], body)).await;
            assert_eq!(answer.status, status, "{path} {failure}");
            check_headers(path, &answer);
            assert_eq!(answer.header("retry-after"), if status == 503 { "5" } else { "" }, "{path} {failure}");
        }
    }
}

#[tokio::test]
async fn bytes_in_memory_are_bounded() {
    let check = async |bodies_in_flight_bytes_max: usize, encoding: &str, status: u16| {
        let world = World::new(Options { bodies_in_flight_bytes_max, ..options() });
        let header = format!("content-encoding: {encoding}");
        let body = encoded(encoding, event(&format!("\"{}\"", "x".repeat(1000))).as_bytes());
        for _ in 0..3 {
            let answer = world.send(request("POST", ENVELOPE, &[&auth(), &header], body.clone())).await;
            assert_eq!(answer.status, status, "{bodies_in_flight_bytes_max} {encoding}");
        }
    };
    check(1 << 20, "identity", 200).await;
    check(1 << 10, "identity", 503).await;
    check(2 << 20, "gzip", 200).await;
    check(1 << 20, "gzip", 503).await;
}

#[tokio::test]
async fn the_record_says_who_sent_and_keeps_the_body_as_it_came() {
    let world = World::new(options());
    let agent = format!("user-agent: {}", "é".repeat(300));
    let plain = event("{}");
    let packed = encoded("gzip", plain.as_bytes());
    let headers = [&auth(), "content-encoding: gzip", "x-forwarded-for: 203.0.113.7, 10.0.0.1", agent.as_str()];
    assert_eq!(world.send(request("POST", ENVELOPE, &headers, packed.clone())).await.status, 200);
    let intakes = world.intakes();
    let [intake] = intakes.as_slice() else { panic!("one record, not {}", intakes.len()) };
    assert_eq!((intake.project.project_id, intake.project.slug.as_str(), intake.key_id), (1, "p1", Some(1)));
    assert_eq!(intake.client.as_deref(), Some("test/1.0"));
    assert_eq!(intake.client_ip.map(|ip| ip.to_string()).as_deref(), Some("203.0.113.7"), "38 the first of X-Forwarded-For");
    assert_eq!(intake.user_agent.as_deref(), Some("é".repeat(256).as_str()));
    assert_eq!(intake.event_id.map(|id| id.to_string()).as_deref(), Some(ID));
    let stored = intake.body.clone().map(|body| body.bytes_in_memory());
    assert_eq!(stored, Some(packed.len() + plain.len()), "the body is stored as compressed as it came, and counts as what it is besides");
}

#[tokio::test]
async fn records_of_refusals_are_bounded() {
    let world = World::new(Options { refusal_records_max: 0, ..options() });
    assert_eq!(world.send(request("POST", STORE, &[&auth()], "nonsense")).await.status, 400);
    assert_eq!(world.kept(), "");
}
