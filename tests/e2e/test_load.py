"""The load generator: what it says it sent is what the tables have."""

import json
import subprocess

import pytest
from envelopes import CORPUS
from weir import BINARY, free_port

ERRORS = "_event_"


def load(weir, *arguments, dsns=None):
    """Runs `weir load`; returns the finished process and its report."""
    dsns = dsns or [weir.project.dsn]
    command = [BINARY, "load", "--corpus", str(CORPUS), "--format", "json", *(part for dsn in dsns for part in ("--dsn", dsn)), *map(str, arguments)]
    ran = subprocess.run(command, capture_output=True, text=True, env=weir.env, cwd=weir.data.parent, timeout=120)
    return ran, json.loads(ran.stdout) if ran.stdout else None


def asking(weir):
    return ["--url", f"grpc://127.0.0.1:{weir.flight}", "--token", weir.token]


def test_everything_recorded_is_sent_accepted_and_counted(weir):
    ran, report = load(weir, "--count", 400, "--verify", *asking(weir))
    assert ran.returncode == 0, ran.stderr
    assert (report["sent"], report["accepted"], report["refused"], report["failed"]) == (400, 400, {}, {})
    assert report["verified"]["agrees"] and report["verified"]["found"]["errors"] > 100, report
    assert report["answer_ms"]["count"] == 400 and report["answer_ms"]["p50"] <= report["answer_ms"]["p99"] <= report["answer_ms"]["max"]
    # No event was taken for another.
    assert weir.value("SELECT count(*) - count(DISTINCT event_id) AS n FROM errors") == 0
    assert weir.value("SELECT count(*) AS n FROM outcomes WHERE reason = 'duplicate'") == 0
    # Times are those of the sending, and keep their order.
    assert weir.value("SELECT count(*) AS n FROM errors WHERE timestamp < received - INTERVAL '10 minutes' OR timestamp > received + INTERVAL '1 minute'") == 0


@pytest.mark.parametrize("encoding", ["identity", "gzip", "deflate", "br", "zstd"])
def test_every_encoding_is_accepted(weir, encoding):
    ran, report = load(weir, "--count", 30, "--only", ERRORS, "--encoding", encoding)
    assert ran.returncode == 0, ran.stderr
    assert report["accepted"] == 30
    assert (report["wire_bytes"] == report["plain_bytes"]) == (encoding == "identity")


def test_loads_are_spread(fresh):
    weir = fresh().start()
    shop = weir.create_project("shop")
    spread = ["--issues", 200, "--users", 7, "--releases", 3]
    ran, report = load(weir, "--count", 600, "--only", ERRORS, *spread, "--verify", *asking(weir), dsns=[weir.project.dsn, shop.dsn])
    assert ran.returncode == 0, ran.stderr
    assert report["accepted"] == 600
    [row] = weir.query("SELECT count(*) AS n, count(DISTINCT user_id) AS users, count(DISTINCT project_id) AS projects FROM errors")
    assert (row["users"], row["projects"]) == (7, 2)
    assert weir.value("SELECT count(DISTINCT release) AS n FROM errors WHERE release LIKE 'weir-load@%'") == 3
    # Each project has its own issues, and of 600 events with a few frequent issues not every issue has one.
    assert 60 < weir.value("SELECT count(*) AS n FROM issues") <= 2 * 230


def test_a_fixed_rate_and_the_time_until_rows_are_seen(weir):
    ran, report = load(weir, "--rate", 50, "--seconds", 2, "--connections", 2, "--only", ERRORS, "--probes", 20, *asking(weir))
    assert ran.returncode == 0, ran.stderr
    assert (report["sent"], report["missed"], report["rate"]) == (100, 0, 50)
    assert report["visible_ms"]["count"] > 0
    assert "accepted" in ran.stderr, "a line of progress each second"


def test_what_is_refused_is_said(weir):
    unknown = weir.project.dsn.replace(weir.project.key, "f" * 32)
    ran, report = load(weir, "--count", 5, "--only", ERRORS, dsns=[unknown])
    assert ran.returncode != 0 and "nothing was accepted" in ran.stderr
    assert report["accepted"] == 0 and report["refused"] == {"403": 5}
    nobody = weir.project.dsn.replace(str(weir.http), str(free_port()))
    ran, report = load(weir, "--count", 2, "--only", ERRORS, dsns=[nobody])
    assert ran.returncode != 0 and sum(report["failed"].values()) == 2, report


def test_rows_that_nobody_sent_are_seen_by_verify(weir):
    """Two loads at a time: each finds more rows than it sent, and says so."""
    command = [BINARY, "load", "--dsn", weir.project.dsn, "--corpus", str(CORPUS), "--only", ERRORS, "--rate", "100", "--seconds", "2"]
    other = subprocess.Popen(command, env=weir.env, cwd=weir.data.parent, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    ran, report = load(weir, "--rate", 50, "--seconds", 3, "--only", ERRORS, "--verify", *asking(weir))
    assert other.wait(60) == 0
    assert ran.returncode != 0 and "do not have what was accepted" in ran.stderr
    assert report["verified"]["found"]["errors"] > report["verified"]["wanted"]["errors"]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--rate", "0"], "--rate 0"),
        (["--rate", "1e-30"], "from 0.001"),
        (["--rate", "nan"], "from 0.001"),
        (["--probes", "1e-30"], "from 0.001"),
        (["--encoding", "recorded", "--encoding", "gzip"], "--encoding recorded"),
        (["--connections", "0"], "1 to 4096"),
        (["--only", "("], "--only"),
        (["--only", "no such name"], "no envelope to send"),
        (["--verify"], "needs a token"),
        (["--dsn", "https://" + "0" * 32 + "@h/1"], "plain HTTP"),
        (["--dsn", "nonsense"], "nonsense"),
    ],
)
def test_what_makes_no_sense_is_an_error(weir, arguments, words):
    ran, _ = load(weir, *arguments)
    assert ran.returncode != 0 and words in ran.stderr, ran.stderr
