"""The catalog in PostgreSQL: the same rows as ever, and a server that drops connections, stops and comes back."""

import contextlib
import re
import shutil
import threading
import time

import duck
import postgres
import pytest
from envelopes import as_recorded, error, recorded
from test_restart import check_exactly_once, join, load, rows
from weir import START_S, UNTIL_S, free_port, until

QUICK = {"WEIR_COMMIT__MAX_AGE": "200ms"}
# What names our own connections; psql and DuckDB have other names.
OURS = "application_name = 'weir' AND datname = current_database()"


@pytest.fixture
def in_postgres(fresh):
    """A program whose catalog is an empty database of the server that all tests share."""
    return lambda **options: fresh(catalog_url=postgres.new_database(), **options)


@pytest.fixture
def server():
    """A server of the test's own, which it may stop."""
    server = postgres.Server().start()
    yield server
    server.remove()


@contextlib.contextmanager
def loaded(weir, project):
    """Sends events meanwhile; yields the ids that were acknowledged."""
    stop, acknowledged = threading.Event(), set()
    threads = load(weir, project, stop, acknowledged)
    try:
        yield acknowledged
    finally:
        stop.set()
        join(threads)


def all_is_committed(weir, acknowledged):
    """Each acknowledged event is one row, also when everything is read back from what was committed."""
    check_exactly_once(weir, acknowledged)
    assert weir.stop() == 0
    weir.start()
    check_exactly_once(weir, acknowledged)
    with contextlib.closing(duck.attached(weir)) as connection:
        counts = "SELECT count(event_id), count(DISTINCT event_id) FROM lake.errors"
        wanted = weir.value("SELECT count(*) AS n FROM errors")
        until(lambda: connection.execute(counts).fetchone(), (wanted, wanted))


def refused(program):
    said = len(program.said())
    program.serve()
    assert program.process.wait(START_S) == 1, program.said()
    return program.said()[said:]


# -- the same as ever ---------------------------------------------------------------------------------------------------


def test_rows_after_a_restart_are_the_rows_before(in_postgres):
    weir = in_postgres(env=QUICK).start()
    project = weir.project
    for request in recorded():
        path, headers, body = as_recorded(request, project)
        assert weir.post(path, body, headers).status == 200
    weir.until_still()
    before = rows(weir)
    assert all(before.values())
    assert weir.stop() == 0
    weir.start()
    weir.until_still()
    assert rows(weir) == before
    weir.kill()
    weir.start()
    weir.until_still()
    assert rows(weir) == before
    assert not list(weir.data.glob("catalog.sqlite*")), "a second catalog was made"
    assert (weir.data / "catalog.key").stat().st_mode & 0o777 == 0o600
    with contextlib.closing(duck.attached(weir)) as connection:
        for table in ("errors", "spans", "logs", "payloads"):
            wanted = weir.value(f"SELECT count(*) AS n FROM {table}")
            until(lambda: connection.execute(f"SELECT count(*) FROM lake.{table}").fetchone()[0], wanted, f"{table} in the lake")
        ours = weir.query("SELECT title, count(*) AS n, min(received) AS first FROM errors GROUP BY title ORDER BY title")
        theirs = connection.execute("SELECT title, count(*), min(received) FROM lake.errors GROUP BY title ORDER BY title").fetchall()
        assert [(row["title"], row["n"]) for row in ours] == [row[:2] for row in theirs]


def test_command_line_and_subscriptions(in_postgres):
    weir = in_postgres(env=QUICK)
    said = weir.run("project", "list")
    assert said.returncode == 1 and "start `weir serve`" in said.stderr
    weir.start()
    shop = weir.create_project("shop")
    assert shop.id > 1
    token = weir.create_token("shop", "shop")
    weir.query("CREATE SUBSCRIPTION any AS SELECT group_id, count(*) AS n FROM errors WHERE received > now() - INTERVAL '1 hour' GROUP BY group_id")
    weir.send(error(release="a")[0], shop)
    weir.send(error(release="a")[0], weir.project)
    weir.until("SELECT count(*) AS n FROM alerts WHERE kind = 'fired'", 2)
    weir.until("SELECT count(*) AS n FROM errors", 2)
    assert weir.value("SELECT count(*) AS n FROM errors", token) == 1
    assert weir.stop() == 0
    listed = weir.run("token", "list")
    assert listed.returncode == 0 and "shop" in listed.stdout
    weir.cli("token", "revoke", "shop")
    weir.start()
    assert [row["name"] for row in weir.query("SHOW SUBSCRIPTIONS")] == ["any"]
    assert weir.value("SELECT count(*) AS n FROM alerts") == 2, "nothing is fired twice"


def test_check_says_whether_it_is_reached(in_postgres):
    weir = in_postgres()
    said = weir.run("check")
    assert said.returncode == 0 and "ok    catalog: none yet in postgres://…@" in said.stdout, said
    weir.start()
    said = weir.run("check")
    assert said.returncode == 0 and "ok    catalog: 1 projects in postgres://…@" in said.stdout, said


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda url: re.sub(r":\d+/", f":{free_port()}/", url), "cannot be reached"),
        (lambda url: url.replace("weir:weir@", "weir:hunter2@"), "password authentication failed"),
        (lambda url: url.rsplit("/", 1)[0] + "/nowhere", 'database "nowhere" does not exist'),
        (lambda url: url.replace("postgres://", "mysql://"), "write postgres://"),
    ],
    ids=["nobody there", "wrong password", "no database", "another database"],
)
def test_a_catalog_that_cannot_be_used_is_refused(fresh, change, words):
    url = change(postgres.server_url())
    weir = fresh(catalog_url=url)
    said = refused(weir)
    assert words in said and "hunter2" not in said and ":weir@" not in said
    said = weir.run("check")
    assert said.returncode == 1 and words in said.stdout + said.stderr, said
    assert "hunter2" not in said.stdout + said.stderr and ":weir@" not in said.stdout + said.stderr


def test_the_key_of_another_catalog_is_refused(in_postgres):
    weir = in_postgres().start()
    assert weir.stop() == 0
    (weir.data / "catalog.key").unlink()
    said = refused(weir)
    assert "catalog.key" in said and "copy it from another process of the same catalog" in said


# -- two processes ------------------------------------------------------------------------------------------------------


def test_a_process_whose_partition_was_taken_over_commits_no_more(in_postgres, fresh):
    first = in_postgres(env=QUICK).start()
    project = first.project
    first.send(error(release="load@1")[0], project)
    first.until_still()
    # A copy of what the first has, as a machine would have that takes its place.
    second = fresh(env=QUICK, catalog_url=first.catalog_url)
    first.process.send_signal(19)  # SIGSTOP: it is silent for a while, and not dead
    shutil.copytree(first.data, second.data, ignore=shutil.ignore_patterns("serve.lock", "spill"))
    second.start()
    second.send(error(release="load@1")[0], project)
    second.until("SELECT count(*) AS n FROM errors WHERE release = 'load@1'", 2)
    first.process.send_signal(18)  # SIGCONT
    with contextlib.suppress(OSError):
        # Accepted perhaps, into a journal that nobody reads any more; committed never.
        first.post(f"/api/{project.id}/envelope/", error(release="lost@1")[0], project.auth)
    assert first.process.wait(UNTIL_S) == 1
    assert "another weir process has taken this partition over" in first.said()
    assert second.catalog("SELECT generation FROM weir_partition_owner WHERE partition_id = 0") == [["2"]]
    second.kill()
    second.start()
    second.until("SELECT count(*) AS n FROM errors WHERE release = 'load@1'", 2)
    assert second.value("SELECT count(*) AS n FROM errors WHERE release = 'lost@1'") == 0


# -- a server that fails ------------------------------------------------------------------------------------------------


def test_connections_that_are_dropped_under_load(in_postgres):
    weir = in_postgres(env=QUICK).start()
    with loaded(weir, weir.project) as acknowledged:
        dropped = 0
        while dropped < 100:
            dropped += len(weir.catalog(f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE {OURS}"))
            time.sleep(0.05)
    assert acknowledged
    all_is_committed(weir, acknowledged)


def test_connections_that_are_dropped_in_the_middle_of_a_commit(fresh, server):
    """A COMMIT that waits for a standby is on disk already. Who is dropped then is not told so, and must find it out."""
    weir = fresh(env=QUICK, catalog_url=postgres.new_database(server.url)).start()
    waiting = f"FROM pg_stat_activity WHERE {OURS} AND wait_event = 'SyncRep'"

    def standby(name):
        weir.catalog(f"ALTER SYSTEM SET synchronous_standby_names = '{name}'")
        weir.catalog("SELECT pg_reload_conf()")

    with loaded(weir, weir.project) as acknowledged:
        for _ in range(10):
            commits = weir.catalog("SELECT max(next_offset) FROM weir_commit")
            standby("nobody")
            until(lambda: weir.catalog(f"SELECT pid {waiting}"), bool, "a commit that waits")
            weir.catalog(f"SELECT pg_terminate_backend(pid) {waiting}")
            standby("")
            until(lambda: weir.catalog("SELECT max(next_offset) FROM weir_commit"), lambda reached: reached != commits, "a commit after it")
    assert weir.metrics()["commit_failures_total", ""] > 0
    all_is_committed(weir, acknowledged)


def test_a_server_that_is_away_for_a_while(fresh, server):
    weir = fresh(env=QUICK, catalog_url=postgres.new_database(server.url)).start()
    project = weir.project
    with loaded(weir, project) as acknowledged:
        until(lambda: len(acknowledged), lambda count: count > 50)
        for signal in ("INT", "QUIT"):
            server.stop(signal)
            before = len(acknowledged)
            until(lambda: len(acknowledged), lambda count: count > before + 50, "acknowledged while the catalog is away")
            trouble = until(lambda: weir.get("/_health/?full").json()["graph"]["trouble"], bool, "told by the health page")
            assert "is tried again" in trouble
            assert weir.get("/_health/?full").status == 503
            # Nobody knows whether this key is one: come again.
            unknown = {"X-Sentry-Auth": f"Sentry sentry_key={'5' * 32}, sentry_version=7"}
            assert weir.post(f"/api/{project.id}/envelope/", error()[0], unknown).status == 503
            server.start()
            until(lambda: weir.get("/_health/?full").status, 200, "healthy again")
            unknown = {"X-Sentry-Auth": f"Sentry sentry_key={'6' * 32}, sentry_version=7"}
            assert weir.post(f"/api/{project.id}/envelope/", error()[0], unknown).status in (401, 403)
    all_is_committed(weir, acknowledged)


def test_an_idle_program_tells_that_the_catalog_is_away(fresh, server):
    weir = fresh(catalog_url=postgres.new_database(server.url)).start()
    weir.until_still()
    server.stop()
    until(lambda: weir.get("/_health/?full").status, 503)
    server.start()
    until(lambda: weir.get("/_health/?full").status, 200)
