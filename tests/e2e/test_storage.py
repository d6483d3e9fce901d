"""Files become few, rows leave, deletions reach the disk: with the real program, its command line, and DuckDB as the other reader."""

import threading
import time

import pytest
from clock import days_ago, preloaded
from duck import attached
from envelopes import envelope, error, logs, transaction
from test_restart import check_exactly_once, join, load
from weir import until

MANY_COMMITS = {"WEIR_COMMIT__MAX_AGE": "20ms", "WEIR_LAKE__MAX_CPU_PERCENT": "100"}


def files(weir, table="*"):
    """The Parquet files on disk."""
    return set(weir.data.glob(f"lake/main/{table}/*/*.parquet"))


def commits(weir):
    return weir.get("/_health/?full").json()["graph"]["committed_offsets"]["0"]


def send_and_commit(weir, project, body):
    """Sends, and waits until it is committed: a commit of its own."""
    before = commits(weir)
    weir.send(body, project)
    until(lambda: commits(weir) > before, True, "committed")


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
    until(lambda: maintenance(weir)["backlog_files"] == 0, True, "merged")
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
    until(lambda: maintenance(weir)["passes"] > 1 and maintenance(weir)["replaced_files"] == 0, True, "cleaned up")
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
    until(lambda: maintenance(weir)["pending_deletions"] == 0 and maintenance(weir)["replaced_files"] == 0, True, "carried out")
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

    def retention_of_another():
        body, event_id = error()
        weir.send(body, project)
        weir.until(f"SELECT count(*) AS n FROM errors WHERE event_id = '{event_id}'", 1)
        return weir.value(f"SELECT retention_days AS n FROM errors WHERE event_id = '{event_id}'")

    # The doors remember a project for some seconds.
    until(retention_of_another, 30, "the retention of a new event")
    for days in ("0", "4000"):
        ran = weir.run("project", "set", "short", "--retention-days", days)
        assert ran.returncode != 0 and "use 1 to 3650" in ran.stderr


def test_rows_leave_when_their_time_is_over(fresh, tmp_path):
    library = preloaded(tmp_path)
    weir = fresh(env={**MANY_COMMITS, "WEIR_LAKE__GRACE": "200ms"})
    present = dict(weir.env)
    sent = {}

    def live_for_a_while(days):
        """Sends one event to each project as of so many days ago, and stops with it committed."""
        weir.env = {**present, **(days_ago(library, days) if days else {})}
        weir.start()
        if not sent:
            weir.create_project("short")
            weir.cli("project", "set", "short", "--retention-days", "30")
        for project in (weir.project, next(p for p in weir.projects() if p.slug == "short")):
            # Stored with the days that its project keeps events: the doors hear of a change within some seconds.
            keeps = 30 if project.slug == "short" else 90
            body, event_id = error(message=f"secret-of-{project.slug}-{days}", timestamp=None)
            weir.send(body, project)
            weir.until(f"SELECT count(*) AS n FROM errors WHERE event_id = '{event_id}'", 1)
            sent[project.slug, days] = event_id
            weir.until(f"SELECT retention_days AS n FROM projects WHERE slug = '{project.slug}'", keeps)
        assert weir.stop() == 0

    for days in (100, 40, 0):
        live_for_a_while(days)
    weir.env = present
    weir.start()
    kept = {("default", 40), ("default", 0), ("short", 0)}
    weir.until("SELECT count(*) AS n FROM errors", len(kept))
    # The rows of each table leave at a tick of their own.
    weir.until("SELECT count(*) AS n FROM payloads", len(kept))
    ids = {row["event_id"] for row in weir.query("SELECT event_id FROM errors")}
    assert ids == {sent[key] for key in kept}
    assert {row["event_id"] for row in weir.query("SELECT event_id FROM payloads")} == ids
    # What is over leaves the disk, too, once nobody reads older snapshots any more.
    done = lambda report: report["replaced_files"] == 0 and report["backlog_files"] == 0 and report["passes"] > 2
    until(lambda: maintenance(weir), done, "cleaned up")
    duck = attached(weir)
    assert {str(row[0]).replace("-", "") for row in duck.execute("SELECT event_id FROM lake.errors").fetchall()} == ids
    on_disk = {key for path in files(weir, "payloads") for key in sent if duck.execute(
        f"SELECT count(*) FROM read_parquet('{path}') WHERE payload LIKE '%secret-of-{key[0]}-{key[1]}%'").fetchone()[0]}
    assert on_disk == kept


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
    until(lambda: (report := maintenance(weir))["backlog_files"] == 0 and report["replaced_files"] == 0 and report["passes"] > 2, True, "at rest")
    duck = attached(weir)
    until(lambda: sums(duck)[0] == weir.value("SELECT count(*) AS n FROM errors"), True, "committed")
    until(lambda: {p.name for p in files(weir, "errors")} == {p.rsplit("/", 1)[-1] for p in live(duck)}, True, "no file but those of the lake")
    check_exactly_once(weir, acknowledged)
