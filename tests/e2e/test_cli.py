"""The command line, and what the program says of itself."""

import json
import re
import subprocess

import pytest
from envelopes import error
from weir import BINARY, until

TOKEN = re.compile(r"\bweir_[A-Za-z0-9_-]{40,}")


def test_the_first_start_prints_how_to_use_it_once(fresh):
    weir = fresh().start()
    said = weir.said()
    [dsn] = re.findall(r"http://[0-9a-f]{32}@\S+/1\b", said)
    assert dsn == weir.project.dsn and f"http://127.0.0.1:{weir.http}" in said.replace(dsn, "")
    [token] = TOKEN.findall(said)
    weir.send(error()[0], weir.project)
    weir.until("SELECT count(*) AS n FROM errors", 1)
    assert weir.query("SELECT count(*) AS n FROM errors", token) == [{"n": 1}]
    assert weir.stop() == 0

    weir.start()
    later = weir.said()[len(said) :]
    assert TOKEN.findall(later) == [] and dsn in later
    assert weir.query("SELECT count(*) AS n FROM errors", token) == [{"n": 1}]
    # It is stored nowhere in the clear.
    kept = [path for path in weir.data.rglob("*") if path.is_file() and token.encode() in path.read_bytes()]
    assert kept == []


def test_projects(weir):
    assert [(p.id, p.slug) for p in weir.projects()] == [(1, "default")]
    printed = weir.cli("project", "create", "shop")
    shop = next(p for p in weir.projects() if p.slug == "shop")
    assert printed.splitlines()[-1].strip().endswith(f"/{shop.id}") and shop.key in printed
    assert shop.key != weir.project.key
    listed = json.loads(weir.cli("project", "list", "--format", "json"))
    assert [set(p) for p in listed] == [{"id", "slug", "dsn"}] * 2
    assert "shop" in weir.cli("project", "list")
    # The running program takes its events without a restart.
    weir.send(error()[0], shop)
    weir.until("SELECT count(*) AS n FROM errors WHERE project = 'shop'", 1)
    weir.until("SELECT count(*) AS n FROM projects WHERE slug = 'shop'", 1)


@pytest.mark.parametrize("name", ["default", "", "Upper", "a b", "-a", "a/b", "ü", "x" * 51, "a'; DROP TABLE weir_project; --"])
def test_a_project_name_that_cannot_be(weir, name):
    before = weir.projects()
    ran = weir.run("project", "create", name)
    assert ran.returncode != 0 and ran.stderr.strip() and ran.stdout == "", ran
    assert weir.projects() == before


def test_tokens(weir):
    token = weir.create_token("short-lived")
    assert TOKEN.fullmatch(token)
    assert weir.query("SELECT 1 AS n", token) == [{"n": 1}]
    assert weir.run("token", "create", "short-lived").returncode == 1
    listed = weir.cli("token", "list")
    assert "short-lived" in listed and token not in listed and "admin" in listed
    weir.create_token("scoped", "default")
    assert "default" in line_of(weir.cli("token", "list"), "scoped")
    weir.cli("token", "revoke", "short-lived")
    assert "short-lived" not in weir.cli("token", "list")
    until_refused(weir, token)
    ran = weir.run("token", "revoke", "short-lived")
    assert ran.returncode == 1 and "short-lived" in ran.stderr
    # The name is free again; the old token stays refused.
    again = weir.create_token("short-lived")
    assert weir.query("SELECT 1 AS n", again) == [{"n": 1}]
    until_refused(weir, token)


def line_of(text, word):
    return next(line for line in text.splitlines() if word in line)


def until_refused(weir, token):
    """A server that runs notices a revoked token after a while."""
    ran = until(lambda: weir.ask("SELECT 1", token), lambda ran: ran.returncode != 0, "the revoked token is refused")
    assert "token" in ran.stderr.lower(), ran


def test_the_command_line_works_without_a_server(fresh):
    weir = fresh().start()
    weir.stop()
    shop = weir.create_project("shop")
    token = weir.create_token("offline", "shop")
    weir.start()
    weir.send(error()[0], shop)
    weir.until("SELECT count(*) AS n FROM errors", 1)
    assert weir.query("SELECT project FROM errors", token) == [{"project": "shop"}]


def test_commands_without_data_say_so(fresh):
    weir = fresh()
    for command in (["project", "list"], ["project", "create", "shop"], ["token", "create", "t"], ["token", "list"], ["token", "revoke", "t"]):
        ran = weir.run(*command)
        assert ran.returncode == 1 and str(weir.data) in ran.stderr and not weir.data.exists(), ran


def test_check(weir, fresh):
    ran = weir.run("check")
    assert ran.returncode == 0 and "ok" in ran.stdout and "BAD" not in ran.stdout and str(weir.process.pid) in ran.stdout, ran
    good = fresh()
    addresses = {"WEIR_HTTP": f"127.0.0.1:{good.http}", "WEIR_FLIGHT": f"127.0.0.1:{good.flight}"}
    good.env.update(addresses)
    assert good.run("check").returncode == 0
    taken = fresh(env={**addresses, "WEIR_HTTP": f"127.0.0.1:{weir.http}"})
    ran = taken.run("check")
    assert ran.returncode == 1 and str(weir.http) in ran.stdout, ran
    wrong = fresh(env={"WEIR_WORKERS": "none"})
    ran = wrong.run("check")
    assert ran.returncode == 1 and "WEIR_WORKERS" in ran.stderr, ran


def test_health(weir):
    for path in ("/_health", "/_health/"):
        answer = weir.get(path)
        assert answer.status == 200 and "ok" in answer.text().lower()
    for path in ("/_health?full", "/_health/?full"):
        report = weir.get(path).json()
        assert report["healthy"] is True and report["version"] and report["journal"]["healthy"] is True and report["lag_records"] >= 0


def test_metrics(weir):
    def samples():
        answer = weir.get("/metrics")
        assert answer.status == 200 and answer.headers["content-type"].startswith("text/plain")
        lines = [line for line in answer.text().splitlines() if line and not line.startswith("#")]
        assert all(re.fullmatch(r"[a-zA-Z_:][a-zA-Z0-9_:]*(\{.*\})? (NaN|[-+]?(Inf|[0-9.eE+-]+))", line) for line in lines), lines
        return {line.rsplit(" ", 1)[0]: float(line.rsplit(" ", 1)[1]) for line in lines}

    weir.send(error()[0], weir.project)
    before = samples()
    for _ in range(5):
        weir.send(error()[0], weir.project)
    after = samples()
    assert any(after[name] - before.get(name, 0) == 5 for name in after), after


@pytest.mark.parametrize(
    "arguments",
    [[], ["no-such-command"], ["serve", "--no-such-flag"], ["serve", "--http", "nowhere"], ["query"], ["token"], ["project", "list", "--format", "xml"]],
)
def test_usage(arguments):
    ran = subprocess.run([BINARY, *arguments], capture_output=True, text=True, timeout=60)
    assert ran.returncode == 2 and re.search("Usage|--help", ran.stderr) and ran.stdout == "", ran


def test_help_and_version():
    for arguments, want in ((["--help"], "serve"), (["serve", "--help"], "--flight"), (["--version"], "weir ")):
        ran = subprocess.run([BINARY, *arguments], capture_output=True, text=True, timeout=60)
        assert ran.returncode == 0 and want in ran.stdout, ran
