"""A load with known ids, kills at chosen moments, and what must hold afterwards whatever died when.

`Load` sends and remembers what each body was answered with. `Killer` ends the program at a moment that is drawn from a seed.
`Ledger.check` compares what was sent with everything that the program shows: tables, counters, alerts, files.
"""

import collections
import contextlib
import http.client
import json
import random
import sqlite3
import subprocess
import threading
import time
import uuid

import watching
from duck import attached
from envelopes import RECORDED_KEY, envelope, event, logs, parse, recorded
from weir import UNTIL_S

RELEASE = "crash@1"
# Commits, merges and removals follow each other all the time.
SETTINGS = {
    "WEIR_COMMIT__MAX_AGE": "150ms",
    "WEIR_LAKE__GRACE": "300ms",
    "WEIR_LAKE__MAX_CPU_PERCENT": "100",
    "WEIR_LAKE__FILE_BYTES": "1MiB",
}
FLAPPING = 4


class Sent:
    """A body and what became of it."""

    __slots__ = ("kind", "ids", "body", "answered", "attempts", "statuses")

    def __init__(self, kind, ids, body):
        self.kind, self.ids, self.body = kind, ids, body
        self.answered, self.attempts, self.statuses = False, 0, collections.Counter()


def fresh_id(dice):
    return uuid.UUID(int=dice.getrandbits(128), version=4).hex


def templates():
    """(kind, envelope without credentials, its event id) of recorded events and transactions that are kept."""
    found = []
    for request in recorded():
        header, items = parse(request.body)
        kinds = {item.type for item in items} & {"event", "transaction"}
        if not header.get("event_id") or len(kinds) != 1 or "session" in {item.type for item in items}:
            continue
        line, rest = request.body.split(b"\n", 1)
        header.pop("dsn", None)
        header.get("trace", {}).pop("public_key", None)
        found.append(("error" if kinds == {"event"} else "transaction", json.dumps(header).encode() + b"\n" + rest, header["event_id"]))
    assert len(found) > 15 and {kind for kind, _, _ in found} == {"error", "transaction"}
    assert not any(RECORDED_KEY.encode() in body.split(b"\n", 1)[0] for _, body, _ in found)
    return found


class Load:
    """Threads that send until they are stopped, to a program that may be dead; what got no answer is mostly sent again."""

    def __init__(self, weir, project, seed, threads=3, pause_s=0.002, resend=0.8):
        self.weir, self.project, self.pause_s, self.resend = weir, project, pause_s, resend
        self.templates = templates()
        self.round, self.sent, self.lock = 0, [], threading.Lock()
        self.running, self.stopping = threading.Event(), threading.Event()
        self.idle = [threading.Event() for _ in range(threads)]
        self.threads = [threading.Thread(target=self.send, args=(n, random.Random(f"{seed}/load/{n}")), daemon=True) for n in range(threads)]
        for thread in self.threads:
            thread.start()

    def make(self, dice):
        kind = dice.choices(("small", "flap", "recorded", "logs"), (5, 2, 2, 1))[0]
        if kind == "recorded":
            kind, body, old = dice.choice(self.templates)
            fresh = fresh_id(dice)
            plain = old.replace("-", "")
            dashed = str(uuid.UUID(fresh)) if "-" in old else fresh
            return Sent(kind, [fresh], body.replace(old.encode(), dashed.encode()).replace(plain.encode(), fresh.encode()))
        if kind == "logs":
            ids = [f"{RELEASE} {fresh_id(dice)}" for _ in range(3)]
            return Sent("log", ids, envelope(logs(*ids)))
        # One environment a round fires once and stands; the others come and go.
        environment = f"round-{self.round}" if kind == "small" else f"flap-{int(time.time()) % FLAPPING}"
        made = event(event_id=fresh_id(dice), environment=environment, release=RELEASE)
        return Sent("error", [made["event_id"]], envelope(("event", made), event_id=made["event_id"]))

    def send(self, number, dice):
        connection = None
        while not self.stopping.is_set():
            if not self.running.is_set():
                self.idle[number].set()
                self.running.wait(0.1)
                continue
            self.idle[number].clear()
            sent = self.make(dice)
            with self.lock:
                self.sent.append(sent)
            while not self.stopping.is_set():
                connection = self.post(connection, sent)
                if sent.answered or dice.random() >= self.resend:
                    break
                time.sleep(0.02)
            time.sleep(self.pause_s)

    def post(self, connection, sent):
        """One attempt over a connection that is kept alive; returns the connection to go on with."""
        sent.attempts += 1
        try:
            if connection is None:
                connection = http.client.HTTPConnection("127.0.0.1", self.weir.http, timeout=30)
            connection.request("POST", f"/api/{self.project.id}/envelope/", sent.body, self.project.auth)
            answer = connection.getresponse()
            answer.read()
            sent.statuses[answer.status] += 1
            sent.answered = sent.answered or answer.status == 200
        except (OSError, http.client.HTTPException) as error:
            sent.statuses[type(error).__name__] += 1
            if connection is not None:
                connection.close()
            return None
        return connection

    def go(self):
        self.running.set()

    def pause(self):
        """Nothing is under way when this returns."""
        self.running.clear()
        for idle in self.idle:
            assert idle.wait(UNTIL_S), "a sender hangs"

    def close(self):
        self.stopping.set()
        self.running.set()
        for thread in self.threads:
            thread.join(60)
            assert not thread.is_alive(), "a sender hangs"

    def acknowledged(self):
        return sum(sent.answered for sent in self.sent)


class Killer:
    """Kills the program at the moment that something is seen, or after a time."""

    def __init__(self, weir, kills=None):
        self.weir, self.target, self.delay_s = weir, None, 0.0
        self.hit = threading.Event()
        self.watch = watching.Watch(weir.data, self.seen)
        self.kills = kills or collections.Counter()

    def seen(self, sight):
        if sight == self.target and not self.hit.is_set():
            if self.delay_s:
                time.sleep(self.delay_s)
            self.weir.process.kill()
            self.hit.set()

    def at(self, target, delay_s, patience_s, meanwhile=lambda: None):
        """Kills when `target` is seen, and a little later; after the patience in any case. Says what the kill hit."""
        self.hit.clear()
        self.delay_s, self.target = delay_s, target
        meanwhile()
        hit = self.hit.wait(patience_s)
        self.target = None
        return self.count(target if hit else "any moment")

    def after(self, name, seconds):
        time.sleep(seconds)
        return self.count(name)

    def count(self, name):
        # A program that ended by itself was not killed, and had a reason.
        self.weir.process.kill()
        code = self.weir.process.wait()
        assert code == -9, f"it ended by itself with {code}; its last words: {self.weir.said()[-1000:]}"
        self.kills[name] += 1
        return name

    def close(self):
        self.watch.close()

    def said(self):
        return ", ".join(f"{name} {count}" for name, count in sorted(self.kills.items()))


RANDOM, START, DOORS = "any moment", "start", "first moments"
TARGETS = {
    RANDOM: 3,
    START: 3,
    DOORS: 2,
    watching.JOURNAL_WRITTEN: 2,
    watching.COMMIT_FILE: 3,
    watching.COMMIT_TRANSACTION: 3,
    watching.MERGED_FILE: 3,
    watching.FILE_REMOVED: 2,
    watching.SEGMENT_REMOVED: 3,
    watching.SEGMENT_BEGUN: 1,
}


def plan(seed, rounds):
    """[(target, delay in seconds, kills while it comes up again)]: every target in its share, in an order drawn from the seed."""
    dice = random.Random(f"{seed}/plan")
    targets = [target for target, share in TARGETS.items() for _ in range(share)]
    drawn = []
    while len(drawn) < rounds:
        dice.shuffle(targets)
        drawn += targets
    # Half of the kills come at once, the others some milliseconds later.
    delay = lambda: 0.0 if dice.random() < 0.5 else dice.expovariate(1 / 0.006)
    again = lambda: dice.choices((0, 1, 2), (6, 3, 1))[0]
    return [(target, dice.uniform(0.05, 1.5) if target == RANDOM else delay(), [dice.random() for _ in range(again())]) for target in drawn[:rounds]]


class Ledger:
    """What must hold, from what was sent."""

    def __init__(self, weir, load, hook=None):
        self.weir, self.load, self.hook = weir, load, hook
        self.deleted = set()
        self.events = 0

    def delete_one(self):
        """Deletes an acknowledged error; a deletion begins a segment, and is committed at once."""
        candidates = [s for s in self.load.sent[-400:] if s.kind == "error" and s.answered and not s.statuses.keys() - {200} and s.ids[0] not in self.deleted]
        if not candidates:
            return
        [event_id] = candidates[0].ids
        command = ["delete", "event", event_id, "--project", self.load.project.slug, "--now"]
        with contextlib.suppress(subprocess.TimeoutExpired):
            if self.weir.run(*command).returncode == 0:
                self.deleted.add(event_id)

    def check(self):
        """Asks for everything. The load must be paused."""
        weir = self.weir
        weir.until_still()
        if self.deleted:
            text = ",".join(f"'{event_id}'" for event_id in sorted(self.deleted))
            weir.until(f"SELECT count(*) AS n FROM errors WHERE event_id IN ({text})", 0)
        stored = {
            "error": [r["event_id"] for r in weir.query("SELECT event_id FROM errors")],
            "transaction": [r["event_id"] for r in weir.query("SELECT event_id FROM transactions")],
            "log": [r["body"] for r in weir.query("SELECT body FROM logs")],
        }
        for kind, ids in stored.items():
            sent = {i for s in self.load.sent if s.kind == kind for i in s.ids}
            acknowledged = {i for s in self.load.sent if s.kind == kind and s.answered for i in s.ids} - self.deleted
            doubled = [i for i, n in collections.Counter(ids).items() if n > 1]
            assert not doubled, f"{len(doubled)} {kind}s are there more than once: {doubled[:3]}"
            lost = acknowledged - set(ids)
            assert not lost, f"{len(lost)} of {len(acknowledged)} acknowledged {kind}s are lost: {sorted(lost)[:3]}"
            assert set(ids) <= sent, f"{kind}s that nobody sent"
            assert not self.deleted & set(ids), "a deleted event came back"
        payloads = [r["event_id"] for r in weir.query("SELECT event_id FROM payloads")]
        assert sorted(payloads) == sorted(stored["error"] + stored["transaction"]), "payloads are not those of the rows"
        self.events = sum(map(len, stored.values()))
        self.check_counters(stored)
        return self

    def check_counters(self, stored):
        weir = self.weir
        accepted = {r["category"]: r["n"] for r in weir.query("SELECT category, sum(quantity) AS n FROM outcomes WHERE outcome = 0 GROUP BY category")}
        rows = {1: len(stored["error"]) + len(self.deleted), 9: len(stored["transaction"]), 23: len(stored["log"])}
        assert {category: accepted.get(category, 0) for category in rows} == rows, f"outcomes {accepted}, rows {rows}"
        by_group = {r["group_id"]: r["n"] for r in weir.query("SELECT group_id, count(*) AS n FROM errors GROUP BY group_id")}
        seen = {r["group_id"]: r["times_seen"] for r in weir.query("SELECT group_id, times_seen FROM issues")}
        assert seen == by_group, f"issues {seen}, rows {by_group}"
        numbers = [r["short_id"] for r in weir.query("SELECT short_id FROM issues")]
        assert len(numbers) == len(set(numbers)), "two issues have one number"

    def check_alerts(self):
        """Every transition is told, under one id with one body, in order; what fires resolves before it fires again."""
        weir, hook = self.weir, self.hook
        # The last of what comes and goes has gone, and everybody was told.
        weir.until("SELECT count(*) AS n FROM subscription('flapping')", 0)
        unresolved = "SELECT count(*) FILTER (WHERE kind = 'fired') - count(*) FILTER (WHERE kind = 'resolved') AS n FROM alerts WHERE subscription = 'flapping'"
        weir.until(unresolved, 0)
        weir.until("SELECT count(*) AS n FROM alerts WHERE delivered_time IS NULL", 0)
        history = weir.query("SELECT id, subscription, key, kind, fired_time FROM alerts ORDER BY fired_time")
        ids = [a["id"] for a in history]
        assert len(ids) == len(set(ids)), "an id stands for two transitions"
        bodies = collections.defaultdict(set)
        arrived = list(hook.arrived)
        for request in arrived:
            bodies[request.id].add(request.body)
        assert set(bodies) == set(ids), f"told and not recorded: {set(bodies) - set(ids)}; recorded and not told: {set(ids) - set(bodies)}"
        assert all(len(told) == 1 for told in bodies.values()), "an id was told with two bodies"
        by_key = collections.defaultdict(list)
        for alert in history:
            by_key[alert["subscription"], alert["key"]].append(alert)
        first = list(dict.fromkeys(a.id for a in arrived))
        place = {alert_id: n for n, alert_id in enumerate(first)}
        for (name, key), alerts in by_key.items():
            kinds = [a["kind"] for a in alerts]
            want = ["fired", "resolved"] * len(kinds)
            assert kinds == want[: len(kinds)], f"{name} {key}: {kinds}"
            assert [place[a["id"]] for a in alerts] == sorted(place[a["id"]] for a in alerts), f"{name} {key} was told out of order"
            if name == "flapping":
                assert kinds[-1] == "resolved", f"{key} never resolved"
        wanted = {json.loads(self.key_of(s))["environment"] for s in self.load.sent if s.answered and self.key_of(s)} - {None}
        fired = [json.loads(key)["environment"] for (name, key), alerts in by_key.items() if name == "standing"]
        assert wanted <= set(fired), f"never fired: {sorted(wanted - set(fired))}"
        assert all(len(alerts) == 1 for (name, _), alerts in by_key.items() if name == "standing"), "an alert that stands fired twice"
        return len(ids), len(arrived)

    @staticmethod
    def key_of(sent):
        """The environment of a small error of a round, as JSON text; None for others."""
        if sent.kind != "error" or b'"environment": "round-' not in sent.body:
            return None
        return json.dumps({"environment": parse(sent.body)[1][0].json()["environment"]})

    def check_files(self):
        """When the maintenance is at rest, the disk has the files that the catalog names and no others."""
        weir, end = self.weir, time.monotonic() + UNTIL_S
        while True:
            on_disk = {path.name for path in weir.data.glob("lake/main/*/*/*.parquet")}
            catalog = sqlite3.connect(f"file:{weir.data / 'catalog.sqlite'}?mode=ro", uri=True)
            with contextlib.closing(catalog):
                named = {row[0].rsplit("/", 1)[-1] for row in catalog.execute("SELECT path FROM ducklake_data_file")}
            if on_disk == named:
                break
            left, gone = sorted(on_disk - named), sorted(named - on_disk)
            assert time.monotonic() < end, f"files that no commit names: {left[:5]}; named files that are gone: {gone[:5]}"
            time.sleep(0.2)
        with contextlib.closing(attached(weir)) as duck:
            [(rows, ids)] = duck.execute("SELECT count(*), count(DISTINCT event_id) FROM lake.errors").fetchall()
            assert rows == ids and rows <= weir.value("SELECT count(*) AS n FROM errors")
        return len(on_disk)


def subscribe(weir, hook):
    """`standing` fires once for each round's environment; `flapping` fires and resolves all the time."""
    counted = (
        "SELECT environment, count(*) AS n FROM errors WHERE environment LIKE '{0}-%' AND received > now() - INTERVAL '{1}' "
        "GROUP BY environment HAVING count(*) > 0"
    )
    weir.query(f"CREATE SUBSCRIPTION standing WITH (notify = 'webhook:{hook.url}/standing') AS " + counted.format("round", "6 hours"))
    weir.query(f"CREATE SUBSCRIPTION flapping WITH (notify = 'webhook:{hook.url}/flapping') AS " + counted.format("flap", "1 second"))
