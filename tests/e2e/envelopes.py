"""Envelopes: the recorded ones of tests/corpus, small ones of our own, and a strict reader for both."""

import dataclasses
import gzip
import json
import time
import uuid
import zlib

import brotli
import zstandard
from weir import HERE

CORPUS = HERE.parent / "corpus/envelopes"
RECORDED_KEY = "0123456789abcdef0123456789abcdef"
NOT_SENT_AGAIN = ("host", "connection", "content-length", "transfer-encoding", "accept-encoding", "content-encoding")

ENCODERS = {
    "identity": lambda body: body,
    "gzip": gzip.compress,
    "deflate": zlib.compress,
    "br": lambda body: brotli.compress(body, quality=4),
    "zstd": lambda body: zstandard.ZstdCompressor(level=1).compress(body),
}


@dataclasses.dataclass
class Recorded:
    """A recorded envelope request."""

    name: str
    path: str
    headers: dict
    body: bytes

    def __repr__(self):
        return self.name


def recorded():
    """Every recorded request to the envelope door. Reports and OTLP go to doors of their own, preflights have no body."""
    found = []
    for file in sorted(CORPUS.glob("*.meta.json")):
        meta = json.loads(file.read_text())
        body = file.with_name(file.name.replace(".meta.json", ".envelope")).read_bytes()
        if "/envelope/" in meta["path"] and body:
            found.append(Recorded(file.name.removesuffix(".meta.json"), meta["path"], meta["headers"], body))
    return found


def as_recorded(request, project):
    """(path, headers, body) as the SDK sent them, but for the key."""
    encoding = {name.lower(): value for name, value in request.headers.items()}.get("content-encoding", "identity")
    headers = {name: value.replace(RECORDED_KEY, project.key) for name, value in request.headers.items() if name.lower() not in NOT_SENT_AGAIN}
    if encoding != "identity":
        headers["Content-Encoding"] = encoding
    return request.path.replace(RECORDED_KEY, project.key), headers, ENCODERS[encoding](request.body.replace(RECORDED_KEY.encode(), project.key.encode()))


def with_fresh_id(body):
    """(the envelope with another event id and without credentials of its own, that id or None)"""
    line, rest = body.split(b"\n", 1)
    header = json.loads(line)
    header.pop("dsn", None)
    old = header.get("event_id")
    if old is None:
        return json.dumps(header).encode() + b"\n" + rest, None
    fresh = uuid.uuid4().hex
    header["event_id"] = fresh
    return json.dumps(header).encode() + b"\n" + rest.replace(old.replace("-", "").encode(), fresh.encode()).replace(old.encode(), fresh.encode()), fresh


@dataclasses.dataclass
class Item:
    header: dict
    payload: bytes

    @property
    def type(self):
        return self.header["type"]

    def json(self):
        return json.loads(self.payload)


def parse(body):
    """(header, items), read strictly."""
    line, _, rest = body.partition(b"\n")
    header, items = json.loads(line), []
    while rest:
        line, _, rest = rest.partition(b"\n")
        item = json.loads(line)
        if "length" in item:
            payload, rest = rest[: item["length"]], rest[item["length"] :]
            assert len(payload) == item["length"] and rest[:1] in (b"", b"\n"), item
            rest = rest[1:]
        else:
            payload, _, rest = rest.partition(b"\n")
        items.append(Item(item, payload))
    return header, items


def envelope(*items, **header):
    """An envelope of (type, payload) or (header, payload) pairs; payloads are bytes, text or JSON values, each with its length."""
    lines = [json.dumps(header).encode()]
    for kind, payload in items:
        if not isinstance(payload, bytes):
            payload = (payload if isinstance(payload, str) else json.dumps(payload)).encode()
        item = {"type": kind} if isinstance(kind, str) else dict(kind)
        lines += [json.dumps({**item, "length": len(payload)}).encode(), payload]
    return b"\n".join(lines) + b"\n"


def event(**fields):
    """A small error event with an id of its own."""
    return {
        "event_id": uuid.uuid4().hex,
        "platform": "python",
        "level": "error",
        "timestamp": time.time(),
        "environment": "production",
        "exception": {
            "values": [
                {
                    "type": "ValueError",
                    "value": "bad",
                    "stacktrace": {"frames": [{"filename": "shop/cart.py", "module": "shop.cart", "function": "total", "lineno": 7, "in_app": True}]},
                }
            ]
        },
        **fields,
    }


def error(**fields):
    """(an envelope with one small error event, its id)"""
    made = event(**fields)
    return envelope(("event", made), event_id=made["event_id"]), made["event_id"]


def transaction(spans=2, **fields):
    """A small transaction with child spans."""
    now, trace, root = time.time(), uuid.uuid4().hex, uuid.uuid4().hex[:16]
    return {
        "event_id": uuid.uuid4().hex,
        "type": "transaction",
        "transaction": "checkout",
        "platform": "python",
        "start_timestamp": now - 1,
        "timestamp": now,
        "contexts": {"trace": {"trace_id": trace, "span_id": root, "op": "task", "status": "ok"}},
        "spans": [
            {
                "trace_id": trace,
                "span_id": uuid.uuid4().hex[:16],
                "parent_span_id": root,
                "op": "db",
                "description": f"SELECT {i}",
                "start_timestamp": now - 0.9,
                "timestamp": now - 0.5,
            }
            for i in range(spans)
        ],
        **fields,
    }


def logs(*bodies, count=None):
    """An item with a container of logs; `count` may lie about how many."""
    items = [{"timestamp": time.time(), "trace_id": uuid.uuid4().hex, "level": "info", "body": body, "attributes": {}} for body in bodies]
    header = {"type": "log", "item_count": len(items) if count is None else count, "content_type": "application/vnd.sentry.items.log+json"}
    return header, {"items": items}


def spans(count, stated=None):
    """An item with a container of spans of the second version."""
    now, trace = time.time(), uuid.uuid4().hex
    items = [
        {
            "trace_id": trace,
            "span_id": uuid.uuid4().hex[:16],
            "name": f"span {i}",
            "status": "ok",
            "is_segment": i == 0,
            "start_timestamp": now - 1,
            "end_timestamp": now,
            "attributes": {},
        }
        for i in range(count)
    ]
    header = {"type": "span", "item_count": count if stated is None else stated, "content_type": "application/vnd.sentry.items.span.v2+json"}
    return header, {"items": items}
