"""Files become few, rows leave, deletions reach the disk: with the real program, its command line, and DuckDB as the other reader."""

import threading
import time

import pytest
from duck import attached
from envelopes import envelope, error, logs, transaction
from test_restart import check_exactly_once, join, load
from weir import UNTIL_S

MANY_COMMITS = {"WEIR_COMMIT__MAX_AGE": "20ms", "WEIR_LAKE__MAX_CPU_PERCENT": "100"}


def files(weir, table="*"):
    """The Parquet files on disk."""
    return set(weir.data.glob(f"lake/main/{table}/*/*.parquet"))


def until(what, holds):
    end = time.monotonic() + UNTIL_S
    while not holds():
        assert time.monotonic() < end, f"not {what} after {UNTIL_S} s"
        time.sleep(0.1)


def commits(weir):
    return weir.get("/_health/?full").json()["graph"]["committed_offsets"]["0"]


def send_and_commit(weir, project, body):
    """Sends, and waits until it is committed: a commit of its own."""
    before = commits(weir)
    weir.send(body, project)
    until("committed", lambda: commits(weir) > before)


def maintenance(weir):
    return weir.get("/_health/?full").json()["graph"]["maintenance"]


def live(duck):
    """The files that DuckDB reads errors from."""
    return {row[0] for row in duck.execute("SELECT data_file FROM ducklake_list_files('lake', 'errors')").fetchall()}


def sums(duck):
    sql = """SELECT count(*), count(DISTINCT event_id), sum(length(title)), min(level), max(release), sum(seq), count(DISTINCT tags['n']) FROM lake.errors"""
    return duck.execute(sql).fetchone()


def test_many_commits_become_few_files_and_every_reader_sees_the_same_rows(fresh):
    weir = fresh(env={**MANY_COMMITS, "WEIR_LAKE__GRACE": "1h"}).start()
    project = weir.project
    for n in range(40):
        send_and_commit(weir, project, error(level=("error", "warning")[n % 2], release=f"r@{n}", tags={"n": str(n)})[0])
    until("merged", lambda: maintenance(weir)["backlog_files"] == 0)
    duck = attached(weir)
    assert len(live(duck)) < 8 and len(files(weir, "errors")) >= 40, "replaced files stay for the grace period"
    assert sums(duck)[0:2] == (40, 40) and sums(duck)[6] == 40
    ours = weir.query("SELECT count(*) AS n, count(DISTINCT event_id) AS e, sum(length(title)) AS t, sum(seq) AS s FROM errors")[0]
    assert tuple(ours.values()) == tuple(sums(duck)[i] for i in (0, 1, 2, 5))
    # Older snapshots answer until the grace period ends.
    oldest = duck.execute("SELECT min(snapshot_id) FROM ducklake_snapshots('lake') WHERE snapshot_id > 0").fetchone()[0]
    counts = [duck.execute(f"SELECT count(DISTINCT event_id) FROM lake.errors AT (VERSION => {v})").fetchone()[0] for v in range(oldest, oldest + 30, 3)]
    assert counts == sorted(counts) and counts[0] < counts[-1]
    before = sums(duck)
    duck.close()

    assert weir.stop() == 0
    weir.env["WEIR_LAKE__GRACE"] = "1s"
    weir.start()
    until("cleaned up", lambda: maintenance(weir)["passes"] > 1 and maintenance(weir)["replaced_files"] == 0)
    duck = attached(weir)
    assert sums(duck) == before
    assert {path.name for path in files(weir, "errors")} == {path.rsplit("/", 1)[-1] for path in live(duck)}
    assert duck.execute("SELECT count(*) FROM ducklake_snapshots('lake')").fetchone()[0] < 10, "the catalog does not grow with every commit"
    assert weir.value("SELECT count(*) AS n FROM errors") == 40
    metrics = weir.get("/metrics").text()
    for name in ("lake_files", "lake_bytes", "maintenance_removed_files_total", "maintenance_seconds"):
        assert f"\n{name}" in metrics or metrics.startswith(name), name


ADA = {"id": "ada-7", "email": "ada@example.com"}


def test_deletions_by_command_line(fresh):
    weir = fresh(env={**MANY_COMMITS, "WEIR_LAKE__GRACE": "1h"}).start()
    project, other = weir.project, weir.create_project("other")
    weir.until("SELECT count(*) AS n FROM projects", 2)
    kinds = lambda kind, **fields: error(exception={"values": [{"type": kind, "value": "it broke"}]}, **fields)
    one, event_id = kinds("One", user={"id": "bob"})
    for body in (one, kinds("One", user=ADA)[0], kinds("Two", user={"id": "bob"})[0], kinds("Three", user=ADA)[0]):
        send_and_commit(weir, project, body)
    weir.send(kinds("One", user=ADA)[0], other)
    weir.send(envelope(("transaction", {**transaction(), "user": ADA})), project)
    of_ada = logs("of ada", "of nobody")
    of_ada[1]["items"][0]["attributes"]["user.email"] = {"type": "string", "value": ADA["email"]}
    weir.send(envelope(of_ada), project)
    weir.until_still()
    weir.until("SELECT count(*) AS n FROM errors", 5)
    assert weir.value("SELECT count(*) AS n FROM spans") == 3
    short_id = weir.value("SELECT short_id FROM issues WHERE title LIKE 'Two%'")

    assert "will be deleted" in weir.cli("delete", "event", event_id, "--project", "default")
    weir.until(f"SELECT count(*) AS n FROM errors WHERE event_id = '{event_id}'", 0)
    assert weir.value(f"SELECT count(*) AS n FROM payloads WHERE event_id = '{event_id}'") == 0
    weir.until("SELECT times_seen FROM issues WHERE title LIKE 'One%' AND project = 'default'", 1)

    weir.cli("delete", "issue", short_id, "--project", "default", "--now")
    weir.until(f"SELECT count(*) AS n FROM issues WHERE short_id = '{short_id}'", 0)
    assert weir.value("SELECT count(*) AS n FROM errors WHERE title LIKE 'Two%'") == 0

    weir.cli("delete", "user", "ada@example.com", "--project", "default", "--now")
    weir.until("SELECT count(*) AS n FROM errors", 1)
    weir.until("SELECT count(*) AS n FROM spans", 0)
    weir.until("SELECT count(*) AS n FROM logs", 1)
    assert weir.value("SELECT count(*) AS n FROM errors WHERE project = 'other' AND user_email = 'ada@example.com'") == 1
    until("carried out", lambda: maintenance(weir)["pending_deletions"] == 0 and maintenance(weir)["replaced_files"] == 0)
    duck = attached(weir)
    # Every file that is left on disk, whether the lake names it or not.
    everything = f"read_parquet('{weir.data}/lake/main/payloads/*/*.parquet', union_by_name => true)"
    assert duck.execute(f"SELECT count(*) FROM {everything} WHERE payload LIKE '%ada@example%' AND project = 'default'").fetchone() == (0,)
    assert duck.execute(f"SELECT count(*) FROM {everything} WHERE payload LIKE '%ada@example%' AND project = 'other'").fetchone() == (1,)
    duck.close()

    assert weir.stop() == 0
    weir.start()
    weir.until_still()
    assert weir.value("SELECT count(*) AS n FROM errors") == 1
    assert [r["project"] for r in weir.query("SELECT project FROM issues")] == ["other"]
    weir.send(kinds("Two", user={"id": "bob"})[0], project)
    weir.until("SELECT count(*) AS n FROM issues WHERE project = 'default'", 1)
    assert weir.value("SELECT short_id FROM issues WHERE project = 'default'") == "DEFAULT-4"


@pytest.mark.parametrize(
    "arguments, words",
    [
        (["event", "xyz"], "32 hexadecimal digits"),
        (["user", "id:"], "names no user"),
        (["issue"], "required"),
    ],
)
def test_a_deletion_that_cannot_be(weir, arguments, words):
    ran = weir.run("delete", *arguments, "--project", "default")
    assert ran.returncode != 0 and words in ran.stderr and ran.stdout == "", ran
    ran = weir.run("delete", "user", "x", "--project", "nowhere")
    assert ran.returncode != 0 and "no project named" in ran.stderr


def test_retention_by_project(weir):
    project = weir.create_project("short")
    weir.cli("project", "set", "short", "--retention-days", "30")
    assert " 30 days" in next(line for line in weir.cli("project", "list").splitlines() if " short " in line)
    weir.until("SELECT retention_days AS n FROM projects WHERE slug = 'short'", 30)
    deadline = time.monotonic() + UNTIL_S
    # The doors remember a project for some seconds.
    while True:
        body, event_id = error()
        weir.send(body, project)
        weir.until(f"SELECT count(*) AS n FROM errors WHERE event_id = '{event_id}'", 1)
        if weir.value(f"SELECT retention_days AS n FROM errors WHERE event_id = '{event_id}'") == 30:
            break
        assert time.monotonic() < deadline
        time.sleep(1)
    for days in ("0", "4000"):
        ran = weir.run("project", "set", "short", "--retention-days", days)
        assert ran.returncode != 0 and "use 1 to 3650" in ran.stderr


def test_killed_again_and_again_while_files_are_merged(fresh):
    weir = fresh(env={**MANY_COMMITS, "WEIR_LAKE__GRACE": "200ms"})
    acknowledged = set()
    for _ in range(4):
        weir.start()
        stop = threading.Event()
        threads = load(weir, weir.project, stop, acknowledged, threads=2)
        time.sleep(2.5)
        weir.kill()
        stop.set()
        join(threads)
    weir.start()
    check_exactly_once(weir, acknowledged)
    until("at rest", lambda: (report := maintenance(weir))["backlog_files"] == 0 and report["replaced_files"] == 0 and report["passes"] > 2)
    duck = attached(weir)
    until("committed", lambda: sums(duck)[0] == weir.value("SELECT count(*) AS n FROM errors"))
    until("no file but those of the lake", lambda: {p.name for p in files(weir, "errors")} == {p.rsplit("/", 1)[-1] for p in live(duck)})
    check_exactly_once(weir, acknowledged)
