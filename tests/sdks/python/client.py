"""Sends one of each thing with the Python SDK and prints what it sent: client.py DSN RELEASE."""

import json
import sys

import sentry_sdk
from sentry_sdk import logger

dsn, release = sys.argv[1:]
sentry_sdk.init(dsn=dsn, release=release, environment="e2e", traces_sample_rate=1.0, enable_logs=True, server_name="web-1")
sentry_sdk.set_user({"id": "42", "email": "ada@example.org", "username": "ada"})
sentry_sdk.set_tag("flavour", "vanilla")

try:
    {}["basket"]
except KeyError as error:
    exception_id = sentry_sdk.capture_exception(error)

sentry_sdk.add_breadcrumb(category="shop", message="opened the basket", level="info")
sentry_sdk.set_context("order", {"number": 17})
message_id = sentry_sdk.capture_message("checkout is slow", level="warning")

with sentry_sdk.start_transaction(name="checkout", op="task") as transaction:
    for op, name in (("db.query", "SELECT 1"), ("http.client", "GET /stock")):
        with sentry_sdk.start_span(op=op, name=name):
            pass

logger.info("payment of {amount}", amount=5, attributes={"shop": "north"})
logger.warning("stock is low")
logger.error("payment failed")
sentry_sdk.flush(20)

print(
    json.dumps(
        {
            "sdk": "sentry.python",
            "platform": "python",
            "exception": {"event_id": exception_id, "title": "KeyError: 'basket'", "level": "error", "exceptions": ["KeyError"]},
            "message": {
                "event_id": message_id,
                "title": "checkout is slow",
                "level": "warning",
                "breadcrumb": "opened the basket",
                "context": ["order", "number", "17"],
            },
            "trace": {
                "trace_id": transaction.trace_id,
                "root_span_id": transaction.span_id,
                "name": "checkout",
                "op": "task",
                "spans": {"db.query": "SELECT 1", "http.client": "GET /stock"},
                "transaction": True,
            },
            "logs": {"payment of 5": "info", "stock is low": "warn", "payment failed": "error"},
        }
    )
)
