"""Events with something odd at every field: wrong types, depths, lengths and encodings. The same seed gives the same events."""

import copy
import json
import random

T = 1_800_000_000
"""When the events count as received, in Unix seconds."""

TRACE = {"trace_id": "05a6939899564f84aaff8d56571f1744", "span_id": "aec3abd7115ba43d"}
FRAME = {
    "function": "f",
    "raw_function": "f()",
    "module": "a.b",
    "package": "p",
    "filename": "http://h/a.js?x=1",
    "abs_path": "/x/a.py",
    "lineno": 3,
    "colno": 4,
    "platform": "python",
    "pre_context": ["a", "b"],
    "context_line": "c",
    "post_context": ["d"],
    "in_app": True,
    "vars": {"x": 1, "y": {"z": [1, 2]}},
    "data": {"sourcemap": "m", "orig_lineno": 3, "orig_in_app": 1},
    "instruction_addr": "0x1f",
    "addr_mode": "rel:0",
    "symbol_addr": 16,
    "image_addr": "0x10",
    "function_id": "0x2",
    "trust": "scan",
    "lang": "c",
    "stack_start": True,
    "lock": {"type": 1, "address": "0x1", "package_name": "p", "class_name": "c", "thread_id": 3},
}
STACK = {"frames": [FRAME, {"function": "g", "abs_path": "https://h/b.js"}], "registers": {"rip": "0x10", "rax": 7}, "lang": "c", "snapshot": False}
EVENT = {
    "event_id": "9ec79c33ec9942ab8353589fcb2e04dc",
    "timestamp": T - 10.5,
    "level": "warning",
    "platform": "python",
    "logger": "app.log",
    "transaction": "/a",
    "culprit": "a in b",
    "server_name": "web-1",
    "site": "s",
    "release": "shop@1.2.3",
    "dist": "48",
    "environment": "production",
    "fingerprint": ["{{ default }}", "x"],
    "checksum": "abc",
    "time_spent": 12,
    "modules": {"django": "4.2", "six": "1"},
    "extra": {"a": 1, "b": {"c": [1, {"d": "e"}]}, "f": "g"},
    "tags": {"a": "1", "b c": True, "n": 2.5},
    "logentry": {"message": "%s of %d", "params": ["x", 3]},
    "user": {
        "id": 7,
        "username": "ada",
        "name": "Ada",
        "email": "a@b.c",
        "ip_address": "203.0.113.7",
        "geo": {"country_code": "DE", "city": "Berlin", "region": "Germany", "subdivision": "BE"},
        "data": {"k": "v"},
        "plan": "gold",
        "segment": "s",
    },
    "request": {
        "url": "http://h/p?a=1&b=x%20y#frag",
        "method": "get",
        "protocol": "HTTP/1.1",
        "data": {"a": [1, {"b": 2}]},
        "query_string": [["q", "1"]],
        "fragment": "f",
        "cookies": {"c": "1"},
        "headers": {"user-agent": "curl/8.0", "x-a": "1", "content-type": "application/json"},
        "env": {"REMOTE_ADDR": "10.0.0.1", "x": "y"},
        "body_size": 3,
        "api_target": "graphql",
    },
    "contexts": {
        "trace": {**TRACE, "parent_span_id": "b0e6f15b45c36b12", "op": "http", "status": "ok", "origin": "auto.http", "sampled": True, "exclusive_time": 1.5, "data": {"a": 1}},
        "os": {"name": "Linux", "version": "6.1", "build": 7, "kernel_version": "k", "rooted": False, "raw_description": None},
        "browser": {"name": "Firefox", "version": "120.0"},
        "runtime": {"name": "CPython", "version": "3.11", "build": "x"},
        "device": {"name": "d", "family": "Pixel", "model": "m", "arch": "arm64", "battery_level": 50, "memory_size": 123, "online": True, "boot_time": "2026-01-01T00:00:00Z", "uuid": "550e8400-e29b-41d4-a716-446655440000", "custom": [1]},
        "app": {"app_name": "a", "app_version": "1", "app_build": 3, "in_foreground": True, "view_names": ["v"], "app_memory": 5},
        "gpu": {"name": "g", "id": 3, "vendor_id": "v", "memory_size": 4, "multi_threaded_rendering": True},
        "culture": {"locale": "de", "is_24_hour_format": True, "timezone": "Z"},
        "response": {"cookies": "a=1", "headers": {"a-b": "1"}, "status_code": 200, "body_size": 3, "data": {"x": 1}},
        "replay": {"replay_id": "c33256b3d47856aa948aa868319c43b1"},
        "profile": {"profile_id": "c33256b3d47856aa948aa868319c43b1"},
        "flags": {"values": [{"flag": "f", "result": True}, {"flag": "g", "result": "b"}]},
        "otel": {"attributes": {"a": 1}, "resource": {"b": 2}},
        "spring": {"active_profiles": ["p"]},
        "cloud_resource": {"cloud.provider": "aws"},
        "custom": {"type": "custom", "a": {"b": {"c": {"d": {"e": {"f": {"g": 1}}}}}}},
    },
    "breadcrumbs": {"values": [{"timestamp": T - 20, "type": "http", "category": "c", "level": "error", "message": "m", "data": {"a": {"b": 1}}}, {"message": "n"}]},
    "exception": {
        "values": [
            {
                "type": "ValueError",
                "value": "no",
                "module": "m",
                "thread_id": 3,
                "stacktrace": STACK,
                "raw_stacktrace": {"frames": [{"function": "f"}]},
                "mechanism": {
                    "type": "generic",
                    "description": "d",
                    "help_link": "https://h/x",
                    "handled": False,
                    "synthetic": False,
                    "source": "__cause__",
                    "exception_id": 1,
                    "parent_id": 0,
                    "is_exception_group": False,
                    "data": {"a": {"b": [1]}},
                    "meta": {"errno": {"number": 2}, "signal": {"number": 11, "code": 1}, "mach_exception": {"exception": 1, "code": 2, "subcode": 3}, "ns_error": {"code": 1, "domain": "d"}},
                },
            },
            {"value": "KeyError: 'x'"},
        ]
    },
    "threads": {"values": [{"id": 3, "name": "main", "crashed": True, "current": True, "main": True, "state": "RUNNABLE", "stacktrace": STACK, "held_locks": {"0x1": {"type": 2, "address": "0x1"}}}]},
    "template": {"filename": "t", "abs_path": "/t", "lineno": 1, "colno": 2, "pre_context": ["a"], "context_line": "b", "post_context": ["c"]},
    "debug_meta": {
        "sdk_info": {"sdk_name": "macOS", "version_major": 14, "version_minor": 1, "version_patchlevel": 0},
        "images": [
            {"type": "macho", "debug_id": "3249d99d-0c40-4931-8610-f4e4fb0b6936-a", "code_id": "3249D99D", "code_file": "/x", "debug_file": "/y", "arch": "arm64", "image_addr": "0x10", "image_size": 3, "image_vmaddr": 0},
            {"type": "proguard", "uuid": "3249d99d0c4049318610f4e4fb0b6936"},
            {"type": "sourcemap", "debug_id": "3249d99d0c4049318610f4e4fb0b6936", "code_file": "http://h/a.js"},
            {"type": "jvm", "debug_id": "3249d99d0c4049318610f4e4fb0b6936"},
        ],
    },
    "sdk": {"name": "sentry.python", "version": "2.0", "integrations": ["flask"], "features": ["f"], "packages": [{"name": "pypi:x", "version": "1"}], "settings": {"infer_ip": "never"}},
    "errors": [{"type": "js_no_source", "url": "http://h"}],
    "scraping_attempts": [{"status": "success"}],
    "unknown_thing": {"a": 1},
}
SPAN = {
    **TRACE,
    "parent_span_id": "b0e6f15b45c36b12",
    "start_timestamp": T - 11.0,
    "timestamp": T - 10.75,
    "op": "db.query",
    "description": "SELECT 1",
    "status": "ok",
    "exclusive_time": 2.5,
    "origin": "auto.db",
    "tags": {"a": 1},
    "data": {"x": [1], "thread.id": 3},
    "segment_id": "aec3abd7115ba43d",
    "is_segment": False,
    "profile_id": "c33256b3d47856aa948aa868319c43b1",
    "links": [{**TRACE, "sampled": True, "attributes": {"a": 1}}],
    "measurements": {"m": {"value": 1, "unit": "byte"}},
    "platform": "python",
}
TRANSACTION = {
    **{key: EVENT[key] for key in ("event_id", "timestamp", "platform", "release", "environment", "tags", "user", "request", "contexts", "breadcrumbs", "sdk")},
    "type": "transaction",
    "transaction": "/users/1234/details",
    "transaction_info": {"source": "url", "original": "/o", "changes": [{"source": "url", "propagations": 1, "timestamp": T - 11}], "propagations": 2},
    "start_timestamp": T - 12.25,
    "spans": [SPAN, {**SPAN, "span_id": "b0e6f15b45c36b13", "op": "http.secure"}],
    "measurements": {"lcp": {"value": 3, "unit": "millisecond"}, "FP ": {"value": 2.5}, "frames_total": {"value": 8}, "frames_slow": {"value": 2}, "stall_total_time": {"value": 100}},
    "breakdowns": {"span_ops": {"ops.db": {"value": 1, "unit": "millisecond"}}},
}
TEXTS = [
    "", " ", "x", " x ", "a\nb", "a b", "a/b", "latest", "none", "..", "{{auto}}", "never", "?", "javascript", "é日😀", "\u0000", "0", "0x10", "-1", "1.5", "ok", "error", "info", "csp",
    "ValueError: no", "http://h/p?a=1#b", "/users/1234", "2026-11-22T04:41:49.672434174Z", "2026-11-22 04:41:49Z", "2026-11-22", "203.0.113.7", "::1", "a=1; b=2", "a=1&b=%20", '{"a":[1]}', "[1,", "%s {} %(a)s",
    "05a6939899564f84aaff8d56571f1744", "05A69398-9956-4F84-AAFF-8D56571F1744", "aec3abd7115ba43d", "0" * 32, "0" * 16, "application/json", "transaction", "feedback", "url", "millisecond", "\ud83d".encode("utf-8", "replace").decode(),
]
NUMBERS = [0, 1, -1, 7, 11, 200, 1.5, -2.75, 1e20, 1e300, 2**31, 2**53, 2**63, 2**64 - 1, -(2**63), T, T - 5, T + 1000, T - 40 * 86400, T - 200 * 86400, T + 0.123456]
KEYS = ["a", "type", "values", "", "é", "name", "x y", "number", "value", "frames", "k" * 300]


def deep(rng, levels):
    value = rng.choice([1, "x", None, True])
    for _ in range(levels):
        value = {rng.choice(KEYS[:3]): value} if rng.random() < 0.5 else [value]
    return value


def long_text(rng):
    return rng.choice(["x", "é", "日", "ab ", "😀", "1"]) * rng.choice([30, 64, 65, 80, 128, 129, 150, 200, 201, 256, 260, 300, 513, 533, 1100, 2049, 3000, 8193, 8400, 20000])


def odd_value(rng):
    """Something that a field may not expect."""
    kind = rng.randrange(12)
    if kind < 4:
        return rng.choice(TEXTS)
    if kind < 6:
        return rng.choice(NUMBERS)
    if kind == 6:
        return rng.choice([None, True, False, [], {}, [None], [[]], {"a": None}])
    if kind == 7:
        return long_text(rng)
    if kind == 8:
        return deep(rng, rng.randrange(1, 11))
    if kind == 9:
        return [rng.choice(TEXTS + NUMBERS + [None, True]) for _ in range(rng.choice([1, 2, 3, 40]))]
    if kind == 10:
        return {rng.choice(KEYS): rng.choice(TEXTS + NUMBERS + [None, {}]) for _ in range(rng.randrange(1, 5))}
    return rng.choice([["x" * 300] * 40, {f"k{i:04}": "v" * rng.randrange(1, 90) for i in range(rng.choice([10, 200, 700]))}, [[f"h{i}", "v" * 60] for i in range(rng.choice([3, 60, 200]))], [i for i in range(5000)]])


def places(value, path=()):
    """The paths of everything in a value."""
    yield path
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, item in items:
        yield from places(item, (*path, key))


def change(rng, event, path):
    """Does something odd to the value at a path."""
    holder = event
    for key in path[:-1]:
        holder = holder[key]
    key, what = path[-1], rng.randrange(10)
    if what == 0 and isinstance(holder, dict):
        del holder[key]
    elif what == 1 and isinstance(holder, dict):
        holder[rng.choice(KEYS + TEXTS[:4])] = odd_value(rng)
    elif what == 2 and isinstance(holder, list):
        holder.insert(rng.randrange(len(holder) + 1), odd_value(rng))
    elif what == 3 and isinstance(holder[key], list) and holder[key]:
        holder[key] = holder[key] * rng.choice([2, 30, 60, 260])
        if len(json.dumps(event)) > 900_000:
            holder[key] = holder[key][:2]
    else:
        holder[key] = odd_value(rng)


def some_of(rng, event):
    """An event with some of the fields, so that small ones are tried too."""
    if rng.random() < 0.4:
        return copy.deepcopy(event)
    required = {"type", "start_timestamp", "timestamp", "contexts", "spans"} if event.get("type") == "transaction" else set()
    return {key: copy.deepcopy(value) for key, value in event.items() if key in required or rng.random() < 0.3}


def odd_events(seed, count):
    """Yields (what was changed, event)."""
    rng = random.Random(seed)
    all_places = {id(event): [path for path in places(event) if path] for event in (EVENT, TRANSACTION)}
    turn = 0
    for _ in range(count):
        base = TRANSACTION if rng.random() < 0.3 else EVENT
        paths = all_places[id(base)]
        # Every place has its turn; some events have several odd things.
        first = paths[turn % len(paths)]
        turn += 1
        event = some_of(rng, base)
        changed = []
        for path in [first] + [rng.choice(paths) for _ in range(rng.choice([0, 0, 0, 1, 3]))]:
            if path[0] not in event:
                event[path[0]] = copy.deepcopy(base[path[0]])
            try:
                change(rng, event, path)
                changed.append(".".join(map(str, path)))
            except (KeyError, IndexError, TypeError):
                continue
        yield ", ".join(changed), event
