"""What is acknowledged survives: SIGTERM, SIGKILL in the middle of a load, and starts that must be refused."""

import http.client
import socket
import subprocess
import threading

import pytest
from envelopes import as_recorded, error, recorded
from weir import BINARY, START_S

# Every table that is filled; `received` and ids included, so that nothing may change by being read back.
FILLED = ("errors", "issues", "spans", "logs", "outcomes", "payloads", "projects")


def rows(weir):
    """Every row of every filled table, as sorted text."""
    return {table: sorted(map(repr, weir.query(f"SELECT * FROM {table}"))) for table in FILLED}


def load(weir, project, stop, acknowledged, threads=4):
    """Sends events until `stop` is set or the server is gone; ids whose 200 was read are acknowledged."""

    def send():
        connection = http.client.HTTPConnection("127.0.0.1", weir.http, timeout=30)
        while not stop.is_set():
            body, event_id = error(release="load@1")
            try:
                connection.request("POST", f"/api/{project.id}/envelope/", body, project.auth)
                answer = connection.getresponse()
                answer.read()
            except (OSError, http.client.HTTPException):
                return
            if answer.status == 200:
                acknowledged.add(event_id)

    running = [threading.Thread(target=send, daemon=True) for _ in range(threads)]
    for thread in running:
        thread.start()
    return running


def join(threads):
    for thread in threads:
        thread.join(60)
        assert not thread.is_alive()


def check_exactly_once(weir, acknowledged):
    """Each acknowledged id is one row; an id that was not acknowledged is at most one."""
    weir.until_still()
    ids = [r["event_id"] for r in weir.query("SELECT event_id FROM errors WHERE release = 'load@1'")]
    assert len(ids) == len(set(ids))
    assert acknowledged <= set(ids), f"{len(acknowledged - set(ids))} of {len(acknowledged)} acknowledged events are lost"
    assert weir.value("SELECT coalesce(sum(times_seen), 0) AS n FROM issues") == weir.value("SELECT count(*) AS n FROM errors")
    accepted = weir.value("SELECT sum(quantity) AS n FROM outcomes WHERE outcome = 0 AND category = 1")
    assert accepted == weir.value("SELECT count(*) AS n FROM errors")


@pytest.mark.parametrize("age", ["1s", "1h"], ids=["committed", "in the journal"])
def test_rows_after_a_restart_are_the_rows_before(fresh, age):
    weir = fresh(env={"WEIR_COMMIT__MAX_AGE": age}).start()
    project = weir.project
    for request in recorded():
        path, headers, body = as_recorded(request, project)
        assert weir.post(path, body, headers).status == 200
    weir.until_still()
    before = rows(weir)
    assert all(before.values())
    for _ in range(2):
        assert weir.stop() == 0
        weir.start()
        weir.until_still()
        assert rows(weir) == before
    weir.kill()
    weir.start()
    weir.until_still()
    assert rows(weir) == before


def test_killed_before_any_commit(fresh):
    """The journal alone holds everything."""
    weir = fresh(env={"WEIR_COMMIT__MAX_AGE": "1h"}).start()
    project = weir.project
    sent = {event_id for body, event_id in (error(release="load@1") for _ in range(50)) if weir.send(body, project)}
    weir.kill()
    weir.start()
    check_exactly_once(weir, sent)
    assert len(sent) == 50 == weir.value("SELECT count(*) AS n FROM errors")


@pytest.mark.parametrize("age", ["200ms", "2s"])
def test_killed_in_the_middle_of_a_load(fresh, age):
    weir = fresh(env={"WEIR_COMMIT__MAX_AGE": age}).start()
    project, acknowledged = weir.project, set()
    for life in range(3):
        stop = threading.Event()
        threads = load(weir, project, stop, acknowledged)
        # So much is under way that the kill falls between acknowledgements, ticks and commits.
        while len(acknowledged) < 300 * (life + 1):
            assert any(thread.is_alive() for thread in threads), weir.said()[-1000:]
            stop.wait(0.01)
        weir.kill()
        stop.set()
        join(threads)
        weir.start()
        check_exactly_once(weir, acknowledged)
    assert weir.stop() == 0


def test_terminated_in_the_middle_of_a_load(fresh):
    """It ends with 0 in time although clients go on sending, and loses nothing that it acknowledged."""
    weir = fresh().start()
    project, acknowledged, stop = weir.project, set(), threading.Event()
    threads = load(weir, project, stop, acknowledged)
    while len(acknowledged) < 200:
        assert any(thread.is_alive() for thread in threads), weir.said()[-1000:]
        stop.wait(0.01)
    assert weir.stop() == 0
    stop.set()
    join(threads)
    weir.start()
    check_exactly_once(weir, acknowledged)


def test_duplicates_are_known_after_a_restart(fresh):
    weir = fresh().start()
    project = weir.project
    body, event_id = error()
    weir.send(body, project)
    weir.until("SELECT count(*) AS n FROM errors", 1)
    for end in (weir.stop, weir.kill):
        end()
        weir.start()
        weir.send(body, project)
    weir.until("SELECT coalesce(sum(quantity), 0) AS n FROM outcomes WHERE reason = 'duplicate' AND category = 1", 2)
    assert weir.query("SELECT event_id FROM errors") == [{"event_id": event_id}]


# -- starts that are refused ----------------------------------------------------------------------------------------------


def refused(program):
    """Starts a program that must end by itself with an error; returns what it said."""
    said = len(program.said())
    program.serve()
    assert program.process.wait(START_S) == 1, program.said()
    return program.said()[said:]


def test_a_second_serve_is_refused(fresh):
    weir = fresh().start()
    second = fresh()
    second.data, second.log = weir.data, weir.log.with_name("second.log")
    said = refused(second)
    assert f"process {weir.process.pid}" in said and str(weir.data) in said
    weir.send(error()[0], weir.project)
    weir.until("SELECT count(*) AS n FROM errors", 1)


def test_a_port_in_use_is_refused(fresh):
    for port, flag in (("http", "--http"), ("flight", "--flight")):
        weir = fresh()
        with socket.socket() as taken:
            taken.bind(("127.0.0.1", getattr(weir, port)))
            taken.listen()
            said = refused(weir)
        assert f"127.0.0.1:{getattr(weir, port)}" in said and flag in said
        # Nothing is left behind that keeps it from starting when the port is free.
        weir.start()
        assert weir.stop() == 0


@pytest.mark.parametrize(
    ("text", "place", "setting"),
    [
        ('[commit]\nmax_age = "soon"\n', 2, "max_age"),
        ('http = "127.0.0.1"\n', 1, "http"),
        ("\nworkers = -1\n", 2, "workers"),
        ('[commit]\nmax_agee = "1s"\n', 2, "max_agee"),
        ("[no_such_section]\n", 1, "no_such_section"),
        ("workers = \n", 1, ""),
    ],
)
def test_a_bad_configuration_is_refused(fresh, tmp_path, text, place, setting):
    config = tmp_path / "weir.toml"
    config.write_text(text)
    weir = fresh(config=config)
    said = refused(weir)
    assert f"{config}:{place}" in said and setting in said
    assert not weir.data.exists()


def test_a_missing_configuration_is_refused(fresh, tmp_path):
    said = refused(fresh(config=tmp_path / "none.toml"))
    assert str(tmp_path / "none.toml") in said


def test_a_bad_variable_is_refused(fresh):
    weir = fresh(env={"WEIR_COMMIT__MAX_AGE": "soon"})
    assert "WEIR_COMMIT__MAX_AGE" in refused(weir)


def test_a_flag_wins_over_a_variable_over_a_file(fresh, tmp_path):
    """A port in use shows which of three was chosen: its number is in the refusal."""
    config = tmp_path / "weir.toml"
    with socket.socket() as of_file, socket.socket() as of_variable, socket.socket() as of_flag:
        for taken in (of_file, of_variable, of_flag):
            taken.bind(("127.0.0.1", 0))
            taken.listen()
        address = lambda taken: "127.0.0.1:%d" % taken.getsockname()[1]
        config.write_text(f'http = "{address(of_file)}"\n')
        weir = fresh()
        for variable, flag, chosen in (
            ({}, [], of_file),
            ({"WEIR_HTTP": address(of_variable)}, [], of_variable),
            ({"WEIR_HTTP": address(of_variable)}, ["--http", address(of_flag)], of_flag),
        ):
            command = [BINARY, "serve", "--config", config, "--data", weir.data, "--flight", f"127.0.0.1:{weir.flight}", *flag]
            ran = subprocess.run(command, capture_output=True, text=True, env={**weir.env, **variable}, timeout=START_S)
            assert ran.returncode == 1 and address(chosen) in ran.stderr, ran


def test_data_of_a_newer_version_is_refused(fresh):
    weir = fresh().start()
    assert weir.stop() == 0
    weir.catalog("UPDATE weir_meta SET value = '9999' WHERE key = 'format'")
    said = refused(weir)
    assert "9999" in said and "newer" in said
    assert weir.catalog("SELECT value FROM weir_meta WHERE key = 'format'") == [["9999"]]


@pytest.mark.parametrize("file", ["a file", "no permission"])
def test_a_data_directory_that_cannot_be_used(fresh, file):
    weir = fresh()
    weir.data.parent.mkdir(exist_ok=True)
    if file == "a file":
        weir.data.write_text("in the way")
    else:
        # /proc refuses even root.
        weir.data = type(weir.data)("/proc/weir-data")
    assert str(weir.data) in refused(weir)
