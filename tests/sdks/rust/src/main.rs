//! Sends one of each thing with the Rust SDK and prints what it sent: sdk-client DSN RELEASE.

use std::time::Duration;

use sentry::protocol::{Context, Map, SpanStatus, User};
use sentry::{Breadcrumb, ClientOptions, Level, TransactionContext, logger_error, logger_info, logger_warn};
use serde_json::json;

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [dsn, release] = arguments.as_slice() else { panic!("usage: sdk-client DSN RELEASE") };
    let options = ClientOptions::new().dsn(dsn).release(release.clone()).environment("e2e").server_name("web-1").traces_sample_rate(1.0);
    let client = sentry::init(options);
    sentry::configure_scope(|scope| {
        scope.set_user(Some(User { id: Some("42".into()), email: Some("ada@example.org".into()), username: Some("ada".into()), ..Default::default() }));
        scope.set_tag("flavour", "vanilla");
    });

    let error = "basket".parse::<i32>().expect_err("a basket is no number");
    let exception = sentry::capture_error(&error);

    sentry::add_breadcrumb(Breadcrumb { category: Some("shop".into()), message: Some("opened the basket".into()), ..Default::default() });
    sentry::configure_scope(|scope| scope.set_context("order", Context::Other(Map::from([("number".to_owned(), json!(17))]))));
    let message = sentry::capture_message("checkout is slow", Level::Warning);

    let transaction = sentry::start_transaction(TransactionContext::new("checkout", "task"));
    for (op, description) in [("db.query", "SELECT 1"), ("http.client", "GET /stock")] {
        transaction.start_child(op, description).finish();
    }
    transaction.set_status(SpanStatus::Ok);
    let trace = transaction.get_trace_context();
    transaction.finish();

    logger_info!(shop = "north", "payment of {}", 5);
    logger_warn!("stock is low");
    logger_error!("payment failed");
    assert!(client.close(Some(Duration::from_secs(20))), "not everything was sent");

    let sent = json!({
        "sdk": "sentry.rust", "platform": "native",
        "exception": {"event_id": exception.simple().to_string(), "title": "ParseIntError: invalid digit found in string", "level": "error", "exceptions": ["ParseIntError"]},
        "message": {"event_id": message.simple().to_string(), "title": "checkout is slow", "level": "warning", "breadcrumb": "opened the basket", "context": ["order", "number", "17"]},
        "trace": {
            "trace_id": trace.trace_id.to_string(), "root_span_id": trace.span_id.to_string(), "name": "checkout", "op": "task",
            "spans": {"db.query": "SELECT 1", "http.client": "GET /stock"}, "transaction": true,
        },
        "logs": {"payment of 5": "info", "stock is low": "warn", "payment failed": "error"},
    });
    println!("{sent}");
}
