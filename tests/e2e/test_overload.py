"""More than the program can take: it refuses or slows down what comes, never grows, and is up to date again afterwards.

What it takes in time is measured by bench/overload; here nothing depends on how fast the machine is.
"""

import gzip
import json
import re
import subprocess
import threading
import os
import time

import pytest
from envelopes import CORPUS, envelope, event, logs
from faults import Faults
from weir import BINARY, UNTIL_S

MIB = 1 << 20
# Of a program with default settings under an endless load; without load it has some 70 MiB.
RESIDENT_BYTES_MAX = 1200 * MIB
# Ticks follow each other by this at the soonest, so that under load they grow and do not multiply.
TICK_S_MIN = 0.020


class Resident:
    """The most that a process has in memory, looked at ten times a second."""

    def __init__(self, weir):
        self.weir, self.most, self.closing = weir, 0, threading.Event()
        self.thread = threading.Thread(target=self.run, daemon=True)
        self.thread.start()

    def run(self):
        while not self.closing.wait(0.1):
            try:
                with open(f"/proc/{self.weir.process.pid}/status") as status:
                    found = re.search(r"VmRSS:\s+(\d+)", status.read())
            except OSError:
                continue
            self.most = max(self.most, int(found[1]) * 1024 if found else 0)

    def close(self):
        self.closing.set()
        self.thread.join()
        return self.most


def load(weir, seconds, connections=32):
    """As fast as it goes; the report of `weir load`."""
    command = [BINARY, "load", "--dsn", weir.project.dsn, "--corpus", CORPUS, "--only", "^(py|node|rust)_event", "--issues", "200"]
    command += ["--connections", str(connections), "--seconds", str(seconds), "--format", "json"]
    ran = subprocess.run(list(map(str, command)), capture_output=True, text=True, env=weir.env, cwd=weir.data.parent, timeout=600)
    return json.loads(ran.stdout)


def until_drained(weir, patience_s=300):
    end = time.monotonic() + patience_s
    while (said := weir.get("/_health/?full").json())["lag_records"]:
        assert weir.process.poll() is None, weir.said()[-1000:]
        assert time.monotonic() < end, said
        time.sleep(0.1)


def test_an_endless_load(fresh):
    weir = fresh().start()
    ticks, begun = weir.metrics().get(("graph_ticks_total", ""), 0), time.monotonic()
    resident = Resident(weir)
    report = load(weir, 8)
    until_drained(weir)
    most, elapsed = resident.close(), time.monotonic() - begun
    print(f"{report['accepted']} accepted, {report['refused']} refused, {most / MIB:.0f} MiB at most")
    assert set(report["refused"]) <= {"429", "503"} and not report["failed"], report
    assert weir.value("SELECT count(*) AS n FROM errors") == report["accepted"] > 500
    assert most < RESIDENT_BYTES_MAX
    made = weir.metrics()["graph_ticks_total", ""] - ticks
    assert made <= elapsed / TICK_S_MIN + 1, f"{made} ticks in {elapsed:.1f} s"
    assert made < report["accepted"], "a tick a record"


def test_a_graph_that_stands_still(fresh):
    """Nothing can be committed, so the graph pauses: the journal takes what comes up to its bound, then it is refused; then it drains."""
    weir = fresh(env={"WEIR_COMMIT__MAX_BYTES": "8MiB", "WEIR_JOURNAL__MAX_BYTES": "140MiB"})
    faults = Faults(weir.data, 1)
    weir.env.update(faults.env)
    weir.start()
    assert weir.token
    faults.rules("create lake/* enospc 1", "mkdir lake/* enospc 1")
    resident, reports = Resident(weir), []
    while "503" not in (reports[-1]["refused"] if reports else {}):
        reports.append(load(weir, 5))
        assert len(reports) < 20, "the journal does not fill"
    said = weir.get("/_health/?full")
    assert said.status == 503 and said.json()["graph"]["paused"] and "journal is full" in said.json()["journal"]["error"], said
    assert said.json()["journal"]["bytes"] <= 140 * MIB
    # One that is larger than what may be left: those that were refused were, too.
    large = envelope(("event", event(extra={"noise": os.urandom(200_000).hex()})))
    refusal = weir.post(f"/api/{weir.project.id}/envelope/", large, weir.project.auth)
    assert refusal.status == 503 and int(refusal.headers["Retry-After"]) > 0
    # Queries are answered meanwhile, from what was read before.
    assert weir.value("SELECT count(*) AS n FROM errors") > 0
    standing = resident.most
    assert standing < 512 * MIB, f"{standing / MIB:.0f} MiB while the graph stands still"
    faults.rules()
    until_drained(weir)
    most = resident.close()
    accepted = sum(report["accepted"] for report in reports)
    print(f"{accepted} accepted, {standing / MIB:.0f} MiB while it stands, {most / MIB:.0f} MiB at most")
    assert weir.value("SELECT count(*) AS n FROM errors") == accepted
    assert most < RESIDENT_BYTES_MAX
    end = time.monotonic() + UNTIL_S
    while weir.get("/_health/?full").status != 200:
        assert time.monotonic() < end, weir.get("/_health/?full").json()
        time.sleep(0.1)
    weir.send(envelope(("event", event())), weir.project)


def test_a_backlog_of_bodies_that_decompress_to_much(fresh):
    """What one tick takes from the journal is bounded by what it becomes in memory."""
    weir = fresh(env={"WEIR_COMMIT__MAX_BYTES": "8MiB"})
    faults = Faults(weir.data, 1)
    weir.env.update(faults.env)
    weir.start()
    assert weir.token
    project = weir.project
    faults.rules("create lake/* enospc 1", "mkdir lake/* enospc 1")
    for number in range(60):
        body = gzip.compress(envelope(logs(*[f"{number}-{n} " + "a" * 100_000 for n in range(100)])), 1)
        assert weir.post(f"/api/{project.id}/envelope/", body, {**project.auth, "Content-Encoding": "gzip"}).status == 200
    weir.kill()
    faults.rules()
    weir.serve()
    resident = Resident(weir)
    end = time.monotonic() + UNTIL_S
    while True:
        try:
            if weir.get("/_health/?full").json()["lag_records"] == 0:
                break
        except OSError:
            pass
        assert weir.process.poll() is None and time.monotonic() < end, weir.said()[-1000:]
        time.sleep(0.1)
    most = resident.close()
    assert weir.value("SELECT count(*) AS n FROM logs") == 6000
    assert most < 768 * MIB, f"{most / MIB:.0f} MiB for a backlog of 60 bodies of 10 MB"
