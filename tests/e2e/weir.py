"""Runs the real program on an empty data directory, and talks to it from outside only."""

import contextlib
import dataclasses
import http.client
import json
import os
import pathlib
import queue
import re
import signal
import socket
import sqlite3
import subprocess
import threading
import time
import uuid

import adbc_driver_flightsql
import adbc_driver_flightsql.dbapi as flightsql
import postgres

HERE = pathlib.Path(__file__).resolve().parent
TARGET = pathlib.Path(os.environ.get("CARGO_TARGET_DIR", pathlib.Path.home() / ".cache/weir/target")).resolve()
BINARY = os.environ.get("WEIR_BIN", str(TARGET / "release/weir"))

# Deadlines are for a machine that is busy with other things; nothing waits so long where all is well.
START_S = 60
UNTIL_S = 60
# What the program promises: it ends within this time of SIGTERM.
STOP_S = 10


@dataclasses.dataclass
class Answer:
    """What an HTTP request was answered with."""

    status: int
    body: bytes
    headers: http.client.HTTPMessage

    def json(self):
        return json.loads(self.body)

    def text(self):
        return self.body.decode()


@dataclasses.dataclass
class Project:
    """A project as `weir project list` gives it."""

    id: int
    slug: str
    key: str
    dsn: str

    @property
    def auth(self):
        return {"X-Sentry-Auth": f"Sentry sentry_key={self.key}, sentry_version=7, sentry_client=weir-tests/1.0"}


class QueryError(AssertionError):
    """`weir query` ended with an error; the text is what it said."""


def until(ask, wanted, what="what was waited for"):
    """Asks until the answer equals `wanted`, or `wanted(answer)` is true, and returns it."""
    holds = wanted if callable(wanted) else lambda answer: answer == wanted
    end = time.monotonic() + UNTIL_S
    while not holds(answer := ask()):
        assert time.monotonic() < end, f"{what}: {answer!r} after {UNTIL_S} s, not {'as wanted' if callable(wanted) else repr(wanted)}"
        time.sleep(0.1)
    return answer


def lines(stream):
    """The lines of a stream as a queue, which a thread fills: waiting for one can have an end. An empty text is the stream's end."""
    found = queue.SimpleQueue()

    def read():
        for line in iter(stream.readline, ""):
            found.put(line)
        found.put("")

    threading.Thread(target=read, daemon=True).start()
    return found


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


class Weir:
    """One data directory and the `weir serve` on it."""

    def __init__(self, data, env=None, config=None, catalog_url=None):
        """With WEIR_TEST_CATALOG=postgres, or the URL of a database, the catalog is there and not in the data directory."""
        self.data = pathlib.Path(data)
        if catalog_url is None and os.environ.get("WEIR_TEST_CATALOG") == "postgres":
            catalog_url = postgres.new_database()
        self.catalog_url = catalog_url
        self.log = self.data.with_name(self.data.name + ".log")
        self.http, self.flight = free_port(), free_port()
        self.env = {**{k: v for k, v in os.environ.items() if not k.startswith("WEIR_")}, "WEIR_COMMIT__MAX_AGE": "2s", **(env or {})}
        if catalog_url:
            self.env["WEIR_CATALOG__URL"] = catalog_url
        self.config = config
        self.process = None
        self._token = None

    # -- life ---------------------------------------------------------------------------------------------------------

    def serve(self):
        """Starts the program and returns at once; what it prints is appended to the log."""
        command = [BINARY, "serve", "--data", str(self.data), "--http", f"127.0.0.1:{self.http}", "--flight", f"127.0.0.1:{self.flight}"]
        if self.config:
            command += ["--config", str(self.config)]
        with open(self.log, "ab") as log:
            # The working directory is one without a weir.toml.
            self.process = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT, env=self.env, cwd=self.data.parent)
        return self

    def start(self):
        """Starts the program and waits until it is healthy."""
        self.serve()
        end = time.monotonic() + START_S
        while time.monotonic() < end:
            assert self.process.poll() is None, f"serve ended with {self.process.returncode} while starting; its last words: {self.said()[-1000:]}"
            try:
                if self.get("/_health/").status == 200:
                    return self
            except OSError:
                pass
            time.sleep(0.05)
        raise AssertionError(f"not healthy after {START_S} s; its last words: {self.said()[-1000:]}")

    def stop(self):
        """SIGTERM; returns the exit code, or None where it did not end in time and was killed."""
        if self.process is None or self.process.poll() is not None:
            return self.process and self.process.returncode
        self.process.send_signal(signal.SIGTERM)
        try:
            return self.process.wait(STOP_S)
        except subprocess.TimeoutExpired:
            self.kill()
            return None

    def kill(self):
        """SIGKILL."""
        if self.process and self.process.poll() is None:
            self.process.kill()
            self.process.wait()

    def said(self):
        """Everything that the program printed in all its lives."""
        return self.log.read_text(errors="replace") if self.log.exists() else ""

    def catalog(self, sql):
        """Runs a statement in the catalog, beside the program; its rows as lists of texts."""
        if self.catalog_url:
            return postgres.execute(self.catalog_url, sql)
        with contextlib.closing(sqlite3.connect(self.data / "catalog.sqlite", timeout=30)) as connection, connection:
            return [[str(value) for value in row] for row in connection.execute(sql)]

    # -- the command line ---------------------------------------------------------------------------------------------

    def run(self, *args):
        """A command with this data directory; returns the finished process."""
        return subprocess.run([BINARY, *args, "--data", str(self.data)], capture_output=True, text=True, env=self.env, cwd=self.data.parent, timeout=60)

    def cli(self, *args):
        """The same, which must succeed; returns what it printed."""
        ran = self.run(*args)
        assert ran.returncode == 0, f"weir {' '.join(args)}: {ran.stderr.strip()}"
        return ran.stdout.strip()

    def projects(self):
        listed = json.loads(self.cli("project", "list", "--format", "json"))
        key = lambda dsn: re.search(r"://([0-9a-f]{32})[:@]", dsn).group(1)
        here = lambda dsn: re.sub(r"@[^/]+", f"@127.0.0.1:{self.http}", dsn)
        return [Project(p["id"], p["slug"], key(p["dsn"]), here(p["dsn"])) for p in listed]

    @property
    def project(self):
        """The project of the first start."""
        return next(p for p in self.projects() if p.id == 1)

    def create_project(self, name):
        self.cli("project", "create", name)
        return next(p for p in self.projects() if p.slug == name)

    def create_token(self, name, *projects):
        token = self.cli("token", "create", name, *[arg for p in projects for arg in ("--project", p)])
        assert re.fullmatch(r"\S+", token), f"the token does not stand alone: {token!r}"
        return token

    @property
    def token(self):
        """A token that reads every project."""
        self._token = self._token or self.create_token("tests-" + uuid.uuid4().hex[:8])
        return self._token

    def ask(self, sql, token=None, form="json"):
        """`weir query`; returns the finished process."""
        command = [BINARY, "query", sql, "--format", form, "--url", f"grpc://127.0.0.1:{self.flight}", "--token", token or self.token]
        return subprocess.run(command, capture_output=True, text=True, env=self.env, cwd=self.data.parent, timeout=120)

    def query(self, sql, token=None):
        """The rows as dictionaries."""
        ran = self.ask(sql, token)
        if ran.returncode:
            raise QueryError(f"{sql}: {ran.stderr.strip()}")
        return json.loads(ran.stdout)

    def value(self, sql, token=None):
        """The first column of the first row; None without rows."""
        rows = self.query(sql, token)
        return next(iter(rows[0].values())) if rows else None

    def until(self, sql, want):
        """Asks for one value until it equals `want`, or `want(value)` is true, and returns it."""
        try:
            return until(lambda: self.value(sql), want, sql)
        except AssertionError as failure:
            raise AssertionError(f"{failure}; log: {self.said()[-1000:]}") from failure

    def connect(self, token=None):
        """A connection of the public ADBC driver."""
        options = {adbc_driver_flightsql.DatabaseOptions.AUTHORIZATION_HEADER.value: f"Bearer {token or self.token}"}
        return flightsql.connect(f"grpc://127.0.0.1:{self.flight}", db_kwargs=options, autocommit=True)

    # -- queries that run -------------------------------------------------------------------------------------------

    @contextlib.contextmanager
    def asking(self, sql):
        """`weir query` as a process that runs meanwhile."""
        command = [BINARY, "query", sql, "--url", f"grpc://127.0.0.1:{self.flight}", "--token", self.token]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=self.env, cwd=self.data.parent)
        try:
            yield process
        finally:
            process.kill()
            process.communicate()

    def running(self):
        """Number and statement of the queries that run, as a token of its own sees them."""
        self._watcher = getattr(self, "_watcher", None) or self.create_token("watcher-" + uuid.uuid4().hex[:8])
        return [(row["number"], row["statement"]) for row in self.query("SHOW QUERIES", self._watcher)]

    def until_running(self, count):
        until(self.running, lambda running: len(running) == count, f"queries that run, {count}")

    def metrics(self):
        """{(name, labels): value}"""
        lines = re.findall(r"^(\w+)(?:\{(.*?)\})? (\S+)$", self.get("/metrics").text(), flags=re.M)
        return {(name, labels): float(value) for name, labels, value in lines}

    def outcomes(self, where="true"):
        """{(outcome, reason, category): quantity}"""
        rows = self.query(f"SELECT outcome, reason, category, sum(quantity) AS n FROM outcomes WHERE {where} GROUP BY outcome, reason, category")
        return {(r["outcome"], r.get("reason"), r["category"]): r["n"] for r in rows}

    def until_still(self, *tables):
        """Waits until everything that was acknowledged is in the tables: the graph has read the journal to its end."""
        until(lambda: self.get("/_health/?full").json(), lambda report: report["lag_records"] == 0, "the tables catch up with the journal")
        return {table: self.value(f"SELECT count(*) AS n FROM {table}") for table in tables}

    # -- the doors ----------------------------------------------------------------------------------------------------

    def request(self, method, path, body=None, headers=None):
        """Sends the given headers and no others but Host, Content-Length and Accept-Encoding."""
        connection = http.client.HTTPConnection("127.0.0.1", self.http, timeout=60)
        try:
            try:
                connection.request(method, path, body, headers or {})
            except (BrokenPipeError, ConnectionResetError):
                # Refused before all of it was sent; the answer may be there.
                if connection.sock is None:
                    raise
            answer = connection.getresponse()
            return Answer(answer.status, answer.read(), answer.headers)
        finally:
            connection.close()

    def get(self, path):
        return self.request("GET", path)

    def post(self, path, body, headers=None):
        return self.request("POST", path, body, headers)

    def send(self, envelope, project, headers=None):
        """Posts an envelope, which must be accepted."""
        answer = self.post(f"/api/{project.id}/envelope/", envelope, {**project.auth, **(headers or {})})
        assert answer.status == 200, answer
        return answer
