"""The HTTP doors, one request a row: the acceptance statements by their numbers, then hostile input."""

import base64
import dataclasses
import gzip
import json
import urllib.parse
import uuid
import zlib
from collections.abc import Callable

import pytest
from envelopes import ENCODERS, envelope, event, logs, parse, spans

CORS_HEADERS = {
    "x-sentry-auth",
    "x-requested-with",
    "x-forwarded-for",
    "origin",
    "referer",
    "accept",
    "content-type",
    "authentication",
    "authorization",
    "content-encoding",
    "transfer-encoding",
}
EXPOSED = {"x-sentry-error", "x-sentry-rate-limits", "retry-after"}


@dataclasses.dataclass
class Row:
    """A request and its answer. `stored` are ids of error events that must be rows afterwards, with their messages."""

    name: str
    status: int
    body: bytes | str = b""
    path: str = "/api/{project}/envelope/"
    headers: dict | None = None
    method: str = "POST"
    stored: dict = dataclasses.field(default_factory=dict)
    check: Callable | None = None

    def __post_init__(self):
        self.body = self.body.encode() if isinstance(self.body, str) else self.body

    def __str__(self):
        return self.name


def message(text):
    """(id, JSON text) of a message event"""
    made = {"event_id": uuid.uuid4().hex, "message": text, "platform": "python"}
    return made["event_id"], json.dumps(made)


def answered_id(answer, event_id):
    return answer.json() == {"id": event_id}


def an_id(answer):
    return len(answer.json()["id"]) == 32 and int(answer.json()["id"], 16) >= 0


def rows(key, closed_key):
    """All rows for a project 1 with the given key; `closed_key` is a disabled key of project 2."""
    auth = {"X-Sentry-Auth": f"Sentry sentry_key={key}, sentry_version=7, sentry_client=weir-tests/1.0"}
    dsn = f"http://{key}@127.0.0.1/1"
    made = []

    def row(name, status, body=b"", headers=auth, **more):
        made.append(Row(name, status, body, headers=headers, **more))

    def one(text):
        """(an envelope of one message, {id: text})"""
        event_id, body = message(text)
        return envelope(("event", body), event_id=event_id), {event_id: text}

    # -- store ----------------------------------------------------------------------------------------------------------
    store = "/api/1/store/"
    for name, path, encode in (
        ("01 store of JSON", store, str.encode),
        ("02 store of base64 of zlib", store, lambda text: base64.b64encode(zlib.compress(text.encode()))),
        ("02 store of base64", store, lambda text: base64.b64encode(text.encode())),
        ("04 store without a slash", "/api/1/store", str.encode),
        ("04 store with two slashes", "/api/1/store//", str.encode),
        ("04 doubled slashes", "//api//1//store/", str.encode),
        ("04 the legacy path", "/api/store/", str.encode),
    ):
        event_id, body = message(name)
        row(name, 200, encode(body), path=path, stored={event_id: name}, check=lambda a, e=event_id: answered_id(a, e))
    for name, encode in (("03 GET of JSON", str.encode), ("03 GET of base64 of zlib", lambda text: base64.b64encode(zlib.compress(text.encode())))):
        event_id, body = message(name)
        path = f"{store}?sentry_key={key}&sentry_data={urllib.parse.quote_plus(encode(body))}"
        row(
            name,
            200,
            method="GET",
            path=path,
            headers={},
            stored={event_id: name},
            check=lambda a: a.headers["content-type"] == "image/gif" and a.body.startswith(b"GIF89a"),
        )
    row("store of no JSON", 400, "{not json", path=store)
    row("store of nothing", 400, path=store)
    for name, encode in ENCODERS.items():
        named = {} if name == "identity" else {"Content-Encoding": name}
        body, stored = one(f"05 {name}")
        row(f"05 {name}", 200, encode(body), {**auth, **named}, stored=stored)
        event_id, body = message(f"05 {name} to store")
        row(f"05 {name} to store", 200, encode(body.encode()), {**auth, **named}, path=store, stored={event_id: f"05 {name} to store"})
    body, stored = one("05 an empty encoding")
    row("05 an empty encoding", 200, body, {**auth, "Content-Encoding": ""}, stored=stored)

    # -- size -----------------------------------------------------------------------------------------------------------
    packer = zlib.compressobj(9, zlib.DEFLATED, 31)
    bomb = b"".join(packer.compress(bytes(1 << 24)) for _ in range(16)) + packer.flush()
    row("06 gzip bomb", 413, bomb, {**auth, "Content-Encoding": "gzip"})
    row("06 gzip bomb to store", 413, bomb, {**auth, "Content-Encoding": "gzip"}, path=store)
    row("07 event over 1 MiB", 413, envelope(("event", {"message": "a" * (1 << 20)})))
    row("07 store over 1 MiB", 413, json.dumps({"message": "a" * (1 << 20)}), path=store)
    row("26 31 attachments", 413, envelope(*[("attachment", b"x")] * 31))
    row("26 30 attachments", 200, envelope(*[("attachment", b"x")] * 30))
    row("26 101 sessions", 413, envelope(*[("session", {})] * 101))

    # -- browsers ---------------------------------------------------------------------------------------------------------
    def preflight(answer):
        listed = {h.strip().lower() for h in answer.headers["access-control-allow-headers"].split(",")}
        return answer.headers["access-control-allow-methods"] == "POST" and listed == CORS_HEADERS and answer.headers["access-control-max-age"] == "3600"

    asks = {"Origin": "https://shop.example.org", "Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "content-type,x-requested-with"}
    row("09 preflight", 200, method="OPTIONS", headers=asks, check=preflight)
    row("09 preflight of store", 200, method="OPTIONS", headers=asks, path=store, check=preflight)
    body, stored = one("a browser")
    row(
        "a browser",
        200,
        body,
        {"Origin": "https://shop.example.org", "Content-Type": "text/plain;charset=UTF-8"},
        path=f"/api/1/envelope/?sentry_version=7&sentry_key={key}&sentry_client=sentry.javascript.browser%2F11.12.0",
        stored=stored,
    )

    # -- authentication ---------------------------------------------------------------------------------------------------
    good = one("refused")[0]
    auth_of = lambda key, version=7: {"X-Sentry-Auth": f"Sentry sentry_key={key}, sentry_version={version}"}
    row("12 no authentication", 401, good, {})
    row("12 no authentication for store", 401, "{}", {}, path=store)
    row("12 header and query", 401, good, path=f"/api/1/envelope/?sentry_key={key}")
    for name, headers in (
        ("Authorization: Sentry", {"Authorization": f"Sentry sentry_key={key}, sentry_version=7"}),
        ("Authorization: Basic", {"Authorization": "Basic " + base64.b64encode(f"{key}:".encode()).decode()}),
        ("no blanks after commas", {"X-Sentry-Auth": f"Sentry sentry_version=7,sentry_client=sentry.java/8.62.0,sentry_key={key}"}),
    ):
        body, stored = one(name)
        row(name, 200, body, headers, stored=stored)
    event_id, body = message("13 dsn alone")
    row("13 dsn alone", 200, envelope(("event", body), event_id=event_id, dsn=dsn), {"X-Sentry-Auth": ""}, stored={event_id: "13 dsn alone"})
    event_id, body = message("13 dsn beside a header")
    row("13 dsn beside a header", 200, envelope(("event", body), event_id=event_id, dsn=dsn), stored={event_id: "13 dsn beside a header"})
    row("14 dsn of another project", 400, envelope(dsn=f"http://{key}@127.0.0.1/2"))
    row("14 dsn of another key", 400, envelope(dsn=f"http://{'1' * 32}@127.0.0.1/1"))
    row("14 dsn of another project alone", 400, envelope(dsn=f"http://{key}@127.0.0.1/2"), {})
    row("15 short key", 400, good, auth_of("abc"))
    row("15 version 8", 400, good, auth_of(key, 8))
    row("16 disabled key", 403, good, auth_of(closed_key), path="/api/2/envelope/")
    row("unknown key", 403, good, auth_of("0" * 32))
    row("another project's key", 403, good, path="/api/2/envelope/")
    row("no such project", 403, good, path="/api/99999999/envelope/")
    row("project that is no number", 400, good, path="/api/abc/envelope/")
    row("unknown path", 404, path="/api/1/nowhere/")
    row("GET of an envelope", 405, method="GET")

    # -- envelopes --------------------------------------------------------------------------------------------------------
    event_id, body = message("18 implicit length to the end")
    row("18 implicit length to the end", 200, f'{{"event_id":"{event_id}"}}\n{{"type":"event"}}\n{body}', stored={event_id: "18 implicit length to the end"})
    two = '{}\n{"type":"attachment","length":0}\n\n{"type":"attachment","length":0}\n'
    row("18 two empty attachments", 200, two, check=an_id)
    row("18 two empty attachments and a line feed", 200, two + "\n", check=an_id)
    event_id, body = message("18 CRLF is data")
    crlf = body.replace(", ", ",\r\n").encode()
    row("18 CRLF is data", 200, envelope(("event", crlf), event_id=event_id), stored={event_id: "18 CRLF is data"})
    row("19 byte after length", 400, '{}\n{"type":"event","length":2}\n{}x')
    row("20 length past the end", 400, '{}\n{"type":"event","length":999}\n{}')
    event_id, body = message("21 unknown type beside an event")
    row(
        "21 unknown type beside an event",
        200,
        envelope(("brand_new", b"\x00\n\xff"), ("event", body), event_id=event_id),
        stored={event_id: "21 unknown type beside an event"},
    )
    row("22 attachment without an id", 200, envelope(("attachment", b"abc")), check=an_id)
    in_header, (_, body) = uuid.uuid4().hex, message("23 header beats payload")
    row(
        "23 header beats payload",
        200,
        envelope(("event", body), event_id=in_header),
        stored={in_header: "23 header beats payload"},
        check=lambda a: answered_id(a, in_header),
    )
    hyphenated, body = message("23 hyphens in the header")
    row(
        "23 hyphens in the header",
        200,
        envelope(("event", body), event_id=str(uuid.UUID(hyphenated))),
        stored={hyphenated: "23 hyphens in the header"},
        check=lambda a: answered_id(a, hyphenated),
    )
    in_payload, body = message("id of the payload")
    row("id of the payload", 200, envelope(("event", body)), stored={in_payload: "id of the payload"}, check=lambda a: answered_id(a, in_payload))
    nil, body = message("nil id in the header")
    row(
        "nil id in the header",
        200,
        envelope(("event", body), event_id=str(uuid.UUID(int=0))),
        stored={nil: "nil id in the header"},
        check=lambda a: answered_id(a, nil),
    )
    row("24 integration", 200, envelope(("integration", b"{}")))
    row("25 container of another count", 200, envelope(logs("25 a", "25 b", count=3)))
    row("25 container of spans of another count", 200, envelope(spans(2, stated=1)))
    row("no items", 200, "{}\n", check=lambda a: a.json() == {})
    row("items that need no id", 200, envelope(logs("a door's log")), check=lambda a: a.json() == {})

    # -- hostile ----------------------------------------------------------------------------------------------------------
    row("empty body", 400)
    row("not an envelope", 400, b"\xff\xfe\x00nonsense")
    row("truncated gzip", 400, gzip.compress(good)[:-20], {**auth, "Content-Encoding": "gzip"})
    row("not gzip at all", 400, good, {**auth, "Content-Encoding": "gzip"})
    row("unknown encoding", 415, good, {**auth, "Content-Encoding": "rot13"})
    row("deep header", 400, b"[" * 100_000 + b"\n")
    row("deep payload", 200, b'{}\n{"type":"event"}\n' + b"[" * 100_000 + b"]" * 100_000 + b"\n")
    row("item without a type", 400, "{}\n{}\n")
    row("negative length", 400, '{}\n{"type":"event","length":-1}\n{}')
    row("length beyond any number", 400, '{}\n{"type":"event","length":1e300}\n{}')
    row("bad event id", 400, '{"event_id":"12"}\n')
    row("duplicate sent_at", 400, '{"sent_at":"2026-01-01T00:00:00Z","sent_at":"2026-01-01T00:00:00Z"}\n')
    row("event that is no object", 200, envelope(("event", "[1]")))
    row("event that is no JSON", 200, envelope(("event", b"\xff\xfe")))
    event_id = uuid.uuid4().hex
    row(
        "event of nothing but wrong types",
        200,
        envelope(
            (
                "event",
                {
                    "message": "wrong types",
                    "level": [],
                    "tags": 5,
                    "user": "ada",
                    "exception": 3,
                    "breadcrumbs": {"values": 7},
                    "timestamp": {},
                    "contexts": [],
                    "release": {},
                    "environment": [None],
                    "extra": "x",
                    "fingerprint": {},
                    "sdk": 1,
                },
            ),
            event_id=event_id,
        ),
        stored={event_id: "wrong types"},
    )
    event_id = uuid.uuid4().hex
    row(
        "NUL in a value",
        200,
        envelope(("event", '{"message":"nul","tags":{"a":"\\u0000"},"extra":{"\\u0000":1}}'), event_id=event_id),
        stored={event_id: "nul"},
    )
    row("half a surrogate pair", 200, envelope(("event", '{"message":"\\ud800"}')))
    return made


# The table is made once to name the rows, and once more with the keys of the program that runs.
NAMES = [row.name for row in rows("0" * 31 + "1", "0" * 31 + "2")]


@pytest.fixture(scope="module")
def sent(weir, project):
    """{name: (row, answer)}: every row was sent, in order, and what was accepted is in the tables."""
    closed = weir.create_project("closed")
    assert closed.id == 2
    assert weir.catalog(f"UPDATE weir_project_key SET enabled = 0 WHERE public_key = '{closed.key}' RETURNING enabled") == [["0"]]
    answers = {}
    for row in rows(project.key, closed.key):
        answers[row.name] = row, weir.request(row.method, row.path.format(project=1), row.body, row.headers)
    weir.until_still()
    return answers


@pytest.fixture(scope="module")
def messages(weir, sent):
    """{event id: message} of all errors."""
    return {r["event_id"]: r["message"] for r in weir.query("SELECT event_id, message FROM errors")}


def test_names_are_unique():
    assert len(set(NAMES)) == len(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_door(sent, messages, name):
    row, answer = sent[name]
    assert answer.status == row.status, answer
    assert answer.headers["cross-origin-resource-policy"] == "cross-origin"
    if answer.status >= 400:
        assert answer.headers["content-type"].startswith("application/json") and answer.json()["detail"], answer
    assert row.check is None or row.check(answer), answer
    assert {event_id: messages.get(event_id) for event_id in row.stored} == row.stored


def test_errors_expose_what_sdks_read(sent):
    """Statement 10."""
    for row, answer in sent.values():
        if row.method == "POST":
            exposed = {h.strip().lower() for h in answer.headers["access-control-expose-headers"].split(",")}
            assert exposed == EXPOSED and answer.headers["access-control-allow-origin"] in ("*", (row.headers or {}).get("Origin")), row


def test_no_more_is_stored_than_was_accepted(sent, messages):
    """Refused requests leave no rows. What hostile requests that were taken leave, if anything, has no message."""
    wanted = {event_id for row, _ in sent.values() for event_id in row.stored}
    assert wanted <= set(messages)
    assert {event_id: text for event_id, text in messages.items() if event_id not in wanted and text} == {}


@pytest.mark.parametrize(
    ("reason", "category", "quantity"),
    [
        ("unsupported:attachment", 22, 2 + 2 + 30 + 1),
        ("unsupported:brand_new", -1, 1),
        ("unsupported:integration", -1, 1),
        ("invalid_log", 23, 3),
        ("invalid_span", 12, 1),
        ("too_large:attachment", 22, 31),
        ("too_large:session", 5, 101),
    ],
)
def test_what_was_refused_is_an_outcome(weir, sent, reason, category, quantity):
    """Statements 21, 24, 25, 26: what is not stored says why."""
    weir.until(f"SELECT sum(quantity) AS n FROM outcomes WHERE outcome = 3 AND reason = '{reason}' AND category = {category}", quantity)


def test_a_container_of_another_count_leaves_no_rows(weir, sent):
    assert weir.query("SELECT body FROM logs") == [{"body": "a door's log"}]
    assert weir.value("SELECT count(*) AS n FROM spans") == 0


def test_the_formatted_message_is_in_the_payload(weir, sent):
    """Statement 1."""
    event_id = next(iter(sent["01 store of JSON"][0].stored))
    payload = json.loads(weir.value(f"SELECT payload FROM payloads WHERE event_id = '{event_id}'"))
    assert payload["logentry"]["formatted"] == "01 store of JSON"


def test_a_chunked_body(weir, project):
    """SDKs send chunked bodies, and none with a Content-Length beside it."""
    made = event(message="chunked")
    body = envelope(("event", made), event_id=made["event_id"])
    parts = (body[i : i + 100] for i in range(0, len(body), 100))
    assert weir.post("/api/1/envelope/", parts, project.auth).json() == {"id": made["event_id"]}
    weir.until(f"SELECT count(*) AS n FROM errors WHERE event_id = '{made['event_id']}'", 1)
    assert parse(body)[0]["event_id"] == made["event_id"]


def test_38_auto_is_the_first_forwarded_address(weir, project):
    made = event(user={"ip_address": "{{auto}}"})
    weir.send(envelope(("event", made), event_id=made["event_id"]), project, {"X-Forwarded-For": "198.51.100.7, 10.0.0.1"})
    weir.until(f"SELECT ip FROM errors WHERE event_id = '{made['event_id']}'", "198.51.100.7")


def test_a_refused_body_is_read_before_the_connection_closes(weir):
    """The client reads the status, not a reset, though it is refused before its body was read."""
    answer = weir.post("/api/1/envelope/", b"x" * (8 << 20), {})
    assert answer.status == 401 and answer.json()["detail"]


def test_still_well(weir, sent):
    assert weir.get("/_health/").status == 200
