"""Every recorded envelope is taken just as it was sent, in every encoding, and each of its items is accounted for."""

import collections

import pytest
from envelopes import ENCODERS, as_recorded, parse, recorded, with_fresh_id
from weir import until

RECORDED = recorded()
# What is stored; an item of any other type ends as an outcome that names it.
STORED = {"event", "transaction", "span", "log"}
ERROR, TRANSACTION, ATTACHMENT, SESSION, PROFILE, REPLAY, MONITOR, SPAN, FEEDBACK, PROFILE_CHUNK, ATTACHMENT_ITEM, LOG, PROFILE_CHUNK_UI, METRIC = (
    1,
    2,
    4,
    5,
    6,
    7,
    10,
    12,
    14,
    18,
    22,
    23,
    26,
    33,
)
ACCEPTED, INVALID, CLIENT_DISCARD = 0, 3, 5


def quantities(item):
    """{category: quantity} of an item, read from its body. Categories that repeat another (indexed, bytes of logs) are left out."""
    if item.type == "event":
        return {ERROR: 1}
    if item.type == "transaction":
        return {TRANSACTION: 1, SPAN: 1 + len(item.json().get("spans") or [])}
    if item.type == "span":
        return {SPAN: len(item.json()["items"]) if "item_count" in item.header else 1}
    if item.type == "log":
        return {LOG: len(item.json()["items"])}
    if item.type == "trace_metric":
        return {METRIC: len(item.json()["items"])}
    if item.type == "attachment":
        return {ATTACHMENT: max(1, len(item.payload)), ATTACHMENT_ITEM: 1}
    if item.type == "profile_chunk":
        return {PROFILE_CHUNK_UI if item.header["platform"] == "javascript" else PROFILE_CHUNK: 1}
    one = {
        "session": SESSION,
        "sessions": SESSION,
        "check_in": MONITOR,
        "profile": PROFILE,
        "feedback": FEEDBACK,
        "user_report": FEEDBACK,
        "replay_event": REPLAY,
        "replay_recording": REPLAY,
        "replay_video": REPLAY,
    }
    return {} if item.type == "client_report" else {one[item.type]: 1}


def expected(bodies):
    """{(outcome, reason, category): quantity} that the bodies must lead to when they come for the first time."""
    sums = collections.Counter()
    for body in bodies:
        for item in parse(body)[1]:
            outcome, reason = (ACCEPTED, None) if item.type in STORED else (INVALID, f"unsupported:{item.type}")
            for category, quantity in quantities(item).items():
                sums[outcome, reason, category] += quantity
    return dict(sums)


CATEGORIES = {ERROR, TRANSACTION, ATTACHMENT, SESSION, PROFILE, REPLAY, MONITOR, SPAN, FEEDBACK, PROFILE_CHUNK, ATTACHMENT_ITEM, LOG, PROFILE_CHUNK_UI, METRIC}
ALL = expected(request.body for request in RECORDED)
STORED_ONCE = {category: quantity for (outcome, _, category), quantity in ALL.items() if outcome == ACCEPTED}


def ids_of(bodies, item_type):
    return {header["event_id"].replace("-", "") for header, items in map(parse, bodies) for item in items if item.type == item_type}


def outcomes(weir):
    """The outcomes of items, which are in the categories that this file counts."""
    return {key: n for key, n in weir.outcomes(f"outcome <> {CLIENT_DISCARD}").items() if key[2] in CATEGORIES}


def until_outcomes(weir, want):
    until(lambda: outcomes(weir), want, "outcomes")


def send_all(weir, project):
    """{name: status} of those that were refused."""
    answers = {}
    for request in RECORDED:
        path, headers, body = as_recorded(request, project)
        answers[request.name] = weir.post(path, body, headers).status
    return {name: status for name, status in answers.items() if status != 200}


@pytest.fixture(scope="module")
def refused(weir, project):
    """What was refused when each was sent once, as it was recorded."""
    return send_all(weir, project)


def test_the_corpus_is_what_it_was():
    """The tests below count what is there, so that what is there is counted once by hand."""
    types = collections.Counter(item.type for request in RECORDED for item in parse(request.body)[1])
    assert (len(RECORDED), types["event"], types["transaction"], types["log"], types["span"]) == (71, 27, 8, 6, 3)


def test_all_are_accepted_as_they_were_sent(refused):
    assert refused == {}


def test_each_item_has_one_outcome(weir, refused):
    until_outcomes(weir, ALL)


def test_accepted_items_are_rows(weir, refused):
    until_outcomes(weir, ALL)
    counted = {table: weir.value(f"SELECT count(*) AS n FROM {table}") for table in ("errors", "transactions", "spans", "logs")}
    # Segments that came as spans on their own are transactions, too, but of no event.
    counted["transactions"] = weir.value("SELECT count(*) AS n FROM transactions WHERE event_id IS NOT NULL")
    assert counted == {"errors": STORED_ONCE[ERROR], "transactions": STORED_ONCE[TRANSACTION], "spans": STORED_ONCE[SPAN], "logs": STORED_ONCE[LOG]}


def test_each_event_is_a_row_under_its_id(weir, refused):
    bodies = [request.body for request in RECORDED]
    errors, transactions = ids_of(bodies, "event"), ids_of(bodies, "transaction")
    weir.until("SELECT count(*) AS n FROM errors", len(errors))
    rows = weir.query("SELECT event_id, title, platform, sdk_name, group_id FROM errors")
    assert {r["event_id"] for r in rows} == errors
    assert all(r["title"] and r["platform"] and r["sdk_name"].startswith("sentry.") and r["group_id"] > 0 for r in rows)
    assert {r["event_id"] for r in weir.query("SELECT event_id FROM transactions WHERE event_id IS NOT NULL")} == transactions
    payloads = weir.query("SELECT event_id, type, payload FROM payloads")
    assert {(r["event_id"], r["type"]) for r in payloads} == {(e, "event") for e in errors} | {(t, "transaction") for t in transactions}


def test_client_reports_become_outcomes(weir, refused):
    wanted = sum(
        discarded["quantity"]
        for request in RECORDED
        for item in parse(request.body)[1]
        if item.type == "client_report"
        for discarded in item.json()["discarded_events"]
    )
    weir.until(f"SELECT coalesce(sum(quantity), 0) AS n FROM outcomes WHERE outcome = {CLIENT_DISCARD}", wanted)


def test_each_issue_counts_its_events(weir, refused):
    weir.until("SELECT coalesce(sum(times_seen), 0) AS n FROM issues", STORED_ONCE[ERROR])
    groups = {r["group_id"]: r["n"] for r in weir.query("SELECT group_id, count(*) AS n FROM errors GROUP BY group_id")}
    issues = weir.query("SELECT group_id, times_seen, short_id, title, status FROM issues")
    assert {i["group_id"]: i["times_seen"] for i in issues} == groups
    assert len({i["short_id"] for i in issues}) == len(issues) and {i["status"] for i in issues} == {"unresolved"}


def test_sent_again_they_are_duplicates(weir, project, refused):
    until_outcomes(weir, ALL)
    assert send_all(weir, project) == {}
    wanted = collections.Counter(ALL)
    for (outcome, reason, category), quantity in ALL.items():
        wanted[(INVALID, "duplicate", category) if outcome == ACCEPTED else (outcome, reason, category)] += quantity
    until_outcomes(weir, dict(wanted))
    counted = {table: weir.value(f"SELECT count(*) AS n FROM {table}") for table in ("errors", "spans", "logs")}
    assert counted == {"errors": STORED_ONCE[ERROR], "spans": STORED_ONCE[SPAN], "logs": STORED_ONCE[LOG]}
    assert weir.value("SELECT count(DISTINCT event_id) AS n FROM errors") == STORED_ONCE[ERROR]


@pytest.mark.parametrize("encoding", ENCODERS)
def test_every_encoding(weir, project, encoding):
    sent = [with_fresh_id(request.body)[0] for request in RECORDED]
    for body in sent:
        weir.send(ENCODERS[encoding](body), project, {} if encoding == "identity" else {"Content-Encoding": encoding})
    ids = ids_of(sent, "event")
    listed = ", ".join(f"'{i}'" for i in ids)
    weir.until(f"SELECT count(*) AS n FROM errors WHERE event_id IN ({listed})", STORED_ONCE[ERROR])
