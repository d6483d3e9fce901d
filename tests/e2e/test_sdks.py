"""Real, unmodified SDKs: what each sends is found by SQL. The clients of tests/sdks print what they sent."""

import json
import pathlib
import subprocess
import sys
import uuid

import pytest
from weir import HERE, TARGET

ACCEPTED, CLIENT_DISCARD = 0, 5
ERROR, SPAN, LOG = 1, 12, 23

SDKS = HERE.parent / "sdks"
CACHE = pathlib.Path(TARGET).parent
CLIENTS = {
    "python": [sys.executable, SDKS / "python/client.py"],
    "node": ["node", SDKS / "node/client.js"],
    "go": [CACHE / "sdk-go/client"],
    "rust": [CACHE / "sdk-rust/release/sdk-client"],
}


@pytest.fixture(scope="module", params=CLIENTS)
def sent(request, weir, project):
    """What a client says that it sent, under a release of its own."""
    release = f"shop@{uuid.uuid4().hex}"
    ran = subprocess.run([*CLIENTS[request.param], project.dsn, release], capture_output=True, text=True, timeout=120)
    assert ran.returncode == 0, ran.stderr
    return {**json.loads(ran.stdout), "release": release}


def row_of(weir, event):
    weir.until(f"SELECT count(*) AS n FROM errors WHERE event_id = '{event['event_id']}'", 1)
    return weir.query(f"SELECT * FROM errors WHERE event_id = '{event['event_id']}'")[0]


def check_event(weir, sent, event):
    """What every event of a client has; returns its row and its payload."""
    row = row_of(weir, event)
    wanted = {
        "title": event["title"],
        "level": event["level"],
        "release": sent["release"],
        "environment": "e2e",
        "platform": sent["platform"],
        "user": "id:42",
        "user_id": "42",
        "user_name": "ada",
        "user_email": "ada@example.org",
        "sdk_name": sent["sdk"],
        "project": "default",
    }
    assert {name: row[name] for name in wanted} == wanted
    payload = json.loads(weir.value(f"SELECT payload FROM payloads WHERE event_id = '{event['event_id']}'"))
    assert row["trace_id"] == payload["contexts"]["trace"]["trace_id"] and len(row["trace_id"]) == 32
    tags = weir.query(f"SELECT tags['flavour'] AS flavour, tags['server_name'] AS server FROM errors WHERE event_id = '{event['event_id']}'")
    assert tags == [{"flavour": "vanilla", "server": "web-1"}]
    return row, payload


def test_exception(weir, sent):
    row, payload = check_event(weir, sent, sent["exception"])
    assert row["type"] == "error"
    assert [e["type"] for e in row["exceptions"]] == sent["exception"]["exceptions"]
    kept = [frame for exception in payload["exception"]["values"] for frame in (exception.get("stacktrace") or {}).get("frames") or []]
    assert len(row["frames"]) == len(kept)


def test_message(weir, sent):
    message = sent["message"]
    row, payload = check_event(weir, sent, message)
    assert row["message"] == message["title"]
    assert [crumb["message"] for crumb in payload["breadcrumbs"]["values"] if crumb.get("category") == "shop"] == [message["breadcrumb"]]
    context, key, value = message["context"]
    assert str(payload["contexts"][context][key]) == value
    assert weir.value(f"SELECT contexts['{context}.{key}'] AS v FROM errors WHERE event_id = '{message['event_id']}'") == value


def test_trace(weir, sent):
    trace = sent["trace"]
    where = f"trace_id = '{trace['trace_id']}' AND release = '{sent['release']}'"
    weir.until(f"SELECT count(*) AS n FROM spans WHERE {where}", 1 + len(trace["spans"]))
    rows = weir.query(f"SELECT * FROM spans WHERE {where}")
    assert {r["op"]: r["description"] for r in rows if not r["is_segment"]} == trace["spans"]
    assert {(r["environment"], r["transaction_name"], r["segment_id"]) for r in rows} == {("e2e", trace["name"], trace["root_span_id"])}
    assert all(0 <= r["exclusive_ms"] <= r["duration_ms"] for r in rows)
    root = next(r for r in rows if r["is_segment"])
    assert (root["span_id"], root["op"], root["user"]) == (trace["root_span_id"], trace["op"], "id:42")
    assert {r["parent_span_id"] for r in rows if not r["is_segment"]} == {trace["root_span_id"]}
    # Whether it came as a transaction event or as spans on their own, it is a transaction.
    assert weir.value(f"SELECT count(*) AS n FROM transactions WHERE {where}") == 1
    assert (root["event_id"] is not None) == trace["transaction"]


def test_logs(weir, sent):
    where = f"release = '{sent['release']}' AND environment = 'e2e'"
    weir.until(f"SELECT count(*) AS n FROM logs WHERE {where}", len(sent["logs"]))
    rows = weir.query(f"SELECT *, attrs_str['shop'] AS shop FROM logs WHERE {where}")
    assert {r["body"]: r["severity"] for r in rows} == sent["logs"]
    assert {r["severity"]: r["severity_number"] for r in rows} == {"info": 9, "warn": 13, "error": 17}
    assert next(r["shop"] for r in rows if r["severity"] == "info") == "north"
    assert all(len(r["trace_id"]) == 32 for r in rows)


def test_nothing_was_refused(weir, sent):
    """Of what the clients send, only sessions and client reports are no rows yet; a row here is an item that was lost."""
    weir.until_still()
    outcomes = weir.outcomes()
    assert {category for (outcome, _, category) in outcomes if outcome == ACCEPTED} >= {ERROR, SPAN, LOG}
    refused = {reason for (outcome, reason, _) in outcomes if outcome not in (ACCEPTED, CLIENT_DISCARD)}
    assert refused <= {"unsupported:session", "unsupported:sessions"}
