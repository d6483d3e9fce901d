"""Disks that are full, broken, slow or wrong, below the journal, the lake and the catalog (tests/faults/faults.c).

While a fault lasts the program either works or says what is wrong, and answers everybody; when it ends the program goes on by itself, and
nothing that it acknowledged is missing. What is damaged at rest is found and named, and never served.
"""

import collections
import json
import os
import random
import re
import shutil
import sqlite3
import time

import pytest
from crashes import SETTINGS, Ledger, Load
from envelopes import envelope, event, logs, transaction
from faults import Faults
from weir import UNTIL_S, QueryError, Weir

SEED = os.environ.get("WEIR_CRASH_SEED") or str(random.SystemRandom().randrange(1 << 32))
FLIPS = int(os.environ.get("WEIR_FLIPS", "60"))
# How long a fault lasts: many times the age at which rows are committed.
FAULT_S = 2.5

# What the program does meanwhile: it works, it refuses what is sent, or it takes what is sent and cannot commit it.
WORKS, REFUSES, UNCOMMITTED = "works", "refuses", "uncommitted"
JOURNAL, LAKE, CATALOG = "journal*", "lake/*", "catalog.sqlite*"
CASES = [
    ("journal, disk full", [f"write {JOURNAL} enospc 1", f"create {JOURNAL} enospc 1"], REFUSES),
    ("journal, disk full in the middle of a write", [f"write {JOURNAL} part 1"], REFUSES),
    ("journal, writes fail", [f"write {JOURNAL} eio 1"], REFUSES),
    ("journal, syncs fail", [f"sync {JOURNAL} eio 1"], REFUSES),
    ("journal, nothing works", [f"* {JOURNAL} eio 1"], REFUSES),
    ("journal, short writes", [f"write {JOURNAL} short 0.7"], WORKS),
    ("journal, slow", [f"* {JOURNAL} slow 1 20"], WORKS),
    ("lake, disk full", [f"write {LAKE} enospc 1"], UNCOMMITTED),
    ("lake, no new files", [f"create {LAKE} enospc 1", f"mkdir {LAKE} enospc 1"], UNCOMMITTED),
    ("lake, disk full in the middle of a write", [f"write {LAKE} part 1"], UNCOMMITTED),
    ("lake, syncs fail", [f"sync {LAKE} eio 1"], UNCOMMITTED),
    ("lake, syncs of folders fail", ["sync lake/main/*-[0-9][0-9] eio 1"], UNCOMMITTED),
    ("lake, short writes", [f"write {LAKE} short 0.7"], WORKS),
    ("lake, slow", [f"* {LAKE} slow 1 20"], WORKS),
    ("catalog, disk full", [f"write {CATALOG} enospc 1"], UNCOMMITTED),
    ("catalog, disk full in the middle of a write", [f"write {CATALOG} part 1"], UNCOMMITTED),
    ("catalog, syncs fail", [f"sync {CATALOG} eio 1"], UNCOMMITTED),
    ("catalog, short writes", [f"write {CATALOG} short 0.7"], WORKS),
    ("catalog, slow", [f"* {CATALOG} slow 1 20"], WORKS),
    ("everything, disk full", ["write * enospc 1", "create * enospc 1", "mkdir * enospc 1"], REFUSES),
    ("everything, now and then", ["sync * eio 0.05", "write * part 0.02", "write * short 0.1", "create * eio 0.05", "unlink * eio 0.1"], None),
]


def report(weir):
    return weir.get("/_health/?full").json()


# What failed is tried again after ten seconds at the latest.
RECOVERED_S = 30


def until_recovered(weir, holds):
    """Well again by itself, and as far as is wanted."""
    end = time.monotonic() + RECOVERED_S
    while True:
        said = report(weir)
        if said["healthy"] and holds(said):
            return
        assert weir.process.poll() is None, f"it ended: {weir.said()[-1000:]}"
        assert time.monotonic() < end, f"it does not recover: {said}"
        time.sleep(0.05)


def partition(said):
    """The only partition that a journal of segments has, as the health page tells of it."""
    [only] = said["journal"]["partitions"]
    return only


def committed(said):
    """How far the tables are committed."""
    return partition(said)["committed"] or 0


def made(weir, counter="commits_total"):
    return weir.metrics().get((counter, ""), 0)


@pytest.mark.parametrize("rules, meanwhile", [pytest.param(rules, meanwhile, id=name) for name, rules, meanwhile in CASES])
def test_a_fault_comes_and_goes(fresh, rules, meanwhile):
    print(f"seed {SEED}")
    weir = fresh(env=SETTINGS)
    faults = Faults(weir.data, SEED)
    weir.env.update(faults.env)
    weir.start()
    load = Load(weir, weir.project, SEED, resend=0.95)
    ledger = Ledger(weir, load)
    weir.create_token("before")
    assert weir.token
    try:
        load.go()
        until(lambda: load.acknowledged() > 100 and committed(report(weir)) > 0)
        before, sent = report(weir), len(load.sent)
        faults.rules(*rules)
        time.sleep(FAULT_S)
        assert weir.process.poll() is None, f"it ended: {weir.said()[-1000:]}"
        during = report(weir)
        injected = len(faults.injected())
        assert injected > 0, "no fault was injected"
        moved = committed(during) - committed(before)
        refused = sum(s.statuses[503] for s in load.sent[sent:])
        # Half alive: it says that it is well while nothing is committed.
        assert moved > 0 or not during["healthy"], during
        if meanwhile == WORKS:
            assert during["healthy"] and moved > 0 and refused == 0, during
        if meanwhile == REFUSES:
            assert not during["healthy"] and not during["journal"]["healthy"] and during["journal"]["error"] and refused > 0, during
            refusal = weir.post(f"/api/{load.project.id}/envelope/", envelope(("event", event())), load.project.auth)
            assert refusal.status == 503 and int(refusal.headers["Retry-After"]) > 0, refusal
        if meanwhile == UNCOMMITTED:
            assert not during["healthy"] and "commit" in during["graph"]["trouble"] and during["journal"]["healthy"] and refused == 0, during
        # Whatever does not work, what was taken is answered about.
        assert weir.value("SELECT count(*) AS n FROM errors") > 0
        faults.rules()
        # With the load going on, and then to the end.
        until_recovered(weir, lambda said: committed(said) > partition(during)["end"])
        # Nothing of the fault is left behind that makes every third commit fail.
        commits, failures = made(weir), made(weir, "commit_failures_total")
        until(lambda: made(weir) > commits + 20)
        assert made(weir, "commit_failures_total") == failures, f"commits go on failing: {weir.said()[-1000:]}"
        load.pause()
        until_recovered(weir, lambda said: said["lag_records"] == 0 and committed(said) == partition(said)["end"])
        ledger.check()
        answers = sum((s.statuses for s in load.sent), collections.Counter())
        assert set(answers) <= {200, 503}, f"somebody was not answered: {answers}"
        weir.kill()
        weir.start()
        ledger.check()
        ledger.check_files()
        assert weir.stop() == 0
    finally:
        load.close()


@pytest.mark.parametrize("place", [JOURNAL, LAKE, CATALOG])
@pytest.mark.parametrize("fault", ["eio", "enospc"])
def test_a_start_on_a_broken_disk(fresh, place, fault):
    """It starts, or ends at once and says what it could not do with which file; with the disk well again it has everything."""
    weir = fresh(env=SETTINGS)
    faults = Faults(weir.data, SEED)
    weir.start()
    load = Load(weir, weir.project, SEED)
    try:
        load.go()
        until(lambda: load.acknowledged() > 50)
        weir.kill()
        load.pause()
        weir.env.update(faults.env)
        operations = "*" if fault == "eio" else "write"
        faults.rules(f"{operations} {place} {fault} 1", *([f"create {place} {fault} 1"] if fault == "enospc" else []))
        said = len(weir.said())
        weir.serve()
        # It ends, or its doors open.
        until(lambda: weir.process.poll() is not None or "SDKs send to" in weir.said()[said:])
        if weir.process.poll() is not None:
            last = weir.said()[said:]
            assert weir.process.returncode == 1 and "panicked" not in last, last
            assert re.search(place.rstrip("*").rstrip("/").split(".")[0], last), f"it does not say where: {last}"
        weir.kill()
        faults.rules()
        weir.start()
        Ledger(weir, load).check()
    finally:
        load.close()


# -- damage at rest -----------------------------------------------------------------------------------------------------------


def flip(path, dice, least=0):
    """Changes one bit; returns the byte."""
    data = bytearray(path.read_bytes())
    byte = dice.randrange(least, len(data))
    data[byte] ^= 1 << dice.randrange(8)
    path.write_bytes(data)
    return byte


def marked(number):
    """An error that says in many places which it is."""
    made = event(
        message=f"marked {number}",
        tags={"number": str(number)},
        environment=f"env-{number}",
        exception={"values": [{"type": f"Marked{number}", "value": f"value {number}"}]},
    )
    return envelope(("event", made), event_id=made["event_id"]), made["event_id"]


def test_bits_that_flip_in_the_journal(fresh):
    """A damaged record is named and left out; what is served is what was sent."""
    print(f"seed {SEED}")
    dice = random.Random(f"{SEED}/journal")
    weir = fresh(env={"WEIR_COMMIT__MAX_AGE": "1h"}).start()
    project, sent = weir.project, {}
    for number in range(150):
        body, event_id = marked(number)
        weir.send(body, project)
        sent[event_id] = number
    assert weir.token
    weir.kill()
    whole = weir.data.with_name("whole")
    shutil.copytree(weir.data, whole)
    found = collections.Counter()
    for _ in range(15):
        shutil.rmtree(weir.data)
        shutil.copytree(whole, weir.data)
        [segment] = weir.data.glob("journal/*.seg")
        flips = dice.choice((1, 1, 1, 5))
        places = [flip(segment, dice) for _ in range(flips)]
        said = len(weir.said())
        weir.start()
        weir.until_still()
        rows = {r["event_id"]: r for r in weir.query("SELECT event_id, environment, title, tags['number'] AS number FROM errors")}
        assert len(rows) == weir.value("SELECT count(*) AS n FROM errors")
        for event_id, row in rows.items():
            number = sent[event_id]
            assert (row["environment"], row["number"]) == (f"env-{number}", str(number)) and f"Marked{number}" in row["title"], row
        lost = len(sent) - len(rows)
        assert lost <= flips, f"bits at {places} took {lost} records along"
        log, journal = weir.said()[said:], report(weir)["journal"]
        if lost:
            # The last record is cut off as one that was never finished; that is named, too.
            assert (journal["damages"] and "the journal is damaged" in log) or "was cut off" in log, log
            assert segment.name in log
        found["lost"] += lost
        found["named"] += len(journal["damages"])
        # It goes on behind the damage.
        body, _ = marked(1000)
        weir.send(body, project)
        weir.until("SELECT count(*) AS n FROM errors WHERE environment = 'env-1000'", 1)
        weir.kill()
    assert found["lost"] > 0
    print(dict(found))


TABLES = ("errors", "payloads", "spans", "logs", "outcomes", "items")


def stored(weir, tables=TABLES):
    return {table: sorted(map(json.dumps, weir.query(f"SELECT * FROM {table}"))) for table in tables}


def fill(weir, count=150):
    """Commits rows of several tables, a file each, and stops."""
    weir.start()
    project = weir.project
    for number in range(count):
        weir.send(marked(number)[0], project)
        if number % 5 == 0:
            made = transaction()
            weir.send(envelope(("transaction", made), event_id=made["event_id"]), project)
            weir.send(envelope(logs(f"log {number}", f"another {number}")), project)
    assert weir.token
    weir.until_still()
    assert weir.stop() == 0


@pytest.fixture(scope="module")
def damaged(tmp_path_factory, started):
    """[(file, byte, what a query over its table then answered: None where it was as before, rows, or the error)]"""
    print(f"seed {SEED}")
    dice = random.Random(f"{SEED}/lake")
    weir = Weir(tmp_path_factory.mktemp("damaged") / "data", {"WEIR_COMMIT__MAX_AGE": "1h"})
    started.append(weir)
    fill(weir)
    weir.start()
    before, found = stored(weir), []
    for _ in range(FLIPS):
        path = dice.choice(sorted(weir.data.glob("lake/main/*/*/*.parquet")))
        table, whole = path.parent.parent.name, path.read_bytes()
        byte = flip(path, dice)
        try:
            answer = stored(weir, (table,))[table]
            found.append((path, byte, None if answer == before[table] else answer))
        except QueryError as error:
            found.append((path, byte, error))
        finally:
            path.write_bytes(whole)
    assert stored(weir) == before, "a damage that is gone is remembered"
    yield found
    weir.kill()


def test_a_damaged_file_of_the_lake_ends_a_query_and_nothing_else(damaged):
    refused = [str(answer) for _, _, answer in damaged if isinstance(answer, QueryError)]
    assert len(refused) > FLIPS // 20, "damage is not seen at all"
    assert not [text for text in refused if "panicked" in text or "transport" in text]


def test_a_damaged_file_of_the_lake_never_gives_wrong_rows(damaged):
    wrong = [f"{path.parent.parent.name}, byte {byte}" for path, byte, answer in damaged if isinstance(answer, list)]
    assert not wrong, f"{len(wrong)} of {len(damaged)} damages changed an answer: {wrong}"


def test_a_query_names_the_damaged_file_of_the_lake(damaged):
    nameless = [str(answer) for path, _, answer in damaged if isinstance(answer, QueryError) and path.name not in str(answer)]
    assert not nameless, f"{len(nameless)} errors name no file: {nameless[:2]}"


def test_a_start_with_a_damaged_file_of_the_lake(fresh):
    """A start reads the newest ids: it ends with the name of what is damaged, or all is as before."""
    weir = fresh(env={"WEIR_COMMIT__MAX_AGE": "1h"})
    fill(weir, 20)
    weir.start()
    before = stored(weir)
    assert weir.stop() == 0
    [path] = weir.data.glob("lake/main/payloads/*/*.parquet")
    whole = path.read_bytes()
    # Places in the schema that Arrow keeps in the footer at which one bit made its reader panic, and some by chance.
    schema = whole.index(b"ARROW:schema")
    dice = random.Random(f"{SEED}/start")
    chances = [(dice.randrange(len(whole)), dice.randrange(8)) for _ in range(6)]
    for place, bit in [(schema + 726, 1), (schema + 712, 1), (schema + 452, 4), (schema + 510, 2), *chances]:
        data = bytearray(whole)
        data[place] ^= 1 << bit
        path.write_bytes(data)
        said = len(weir.said())
        weir.serve()
        until(lambda: weir.process.poll() is not None or "SDKs send to" in weir.said()[said:])
        if weir.process.poll() is not None:
            last = weir.said()[said:]
            assert weir.process.returncode == 1 and path.name in last and "panicked" not in last, f"byte {place}: {last}"
        weir.kill()
    path.write_bytes(whole)
    weir.start()
    assert stored(weir) == before


def test_bits_that_flip_in_the_catalog(fresh):
    """A start on a damaged catalog ends with a message that says so, or all is as before."""
    print(f"seed {SEED}")
    dice = random.Random(f"{SEED}/catalog")
    weir = fresh(env={"WEIR_COMMIT__MAX_AGE": "1h"})
    fill(weir, 60)
    weir.start()
    before = stored(weir, (*TABLES, "issues", "projects"))
    weir.stop()
    whole = (weir.data / "catalog.sqlite").read_bytes()
    seen = collections.Counter()
    for _ in range(FLIPS // 3):
        flip(weir.data / "catalog.sqlite", dice)
        said = len(weir.said())
        weir.serve()
        until(lambda: weir.process.poll() is not None or "SDKs send to" in weir.said()[said:])
        if weir.process.poll() is not None:
            last = weir.said()[said:]
            assert weir.process.returncode == 1 and "panicked" not in last, last
            assert "catalog" in last or "restore" in last, last
            seen["did not start"] += 1
        else:
            try:
                weir.until("SELECT 1 AS n", 1)
                same = stored(weir, (*TABLES, "issues", "projects")) == before
                seen["as before" if same else "DIFFERS"] += 1
            except (QueryError, AssertionError) as error:
                seen["refused"] += 1
                print(str(error)[-300:])
        weir.kill()
        for name in ("catalog.sqlite-wal", "catalog.sqlite-shm"):
            (weir.data / name).unlink(missing_ok=True)
        (weir.data / "catalog.sqlite").write_bytes(whole)
    print(dict(seen))
    assert sqlite3.connect(weir.data / "catalog.sqlite").execute("PRAGMA integrity_check").fetchone() == ("ok",)
    weir.start()
    assert stored(weir, (*TABLES, "issues", "projects")) == before


def until(holds):
    end = time.monotonic() + UNTIL_S
    while not holds():
        assert time.monotonic() < end, "what was waited for did not come"
        time.sleep(0.01)
