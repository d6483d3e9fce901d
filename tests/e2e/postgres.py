"""PostgreSQL for tests: a server of their own, fresh databases, and statements beside the program."""

import os
import pathlib
import shutil
import subprocess
import tempfile
import uuid

SCRIPT = pathlib.Path(__file__).resolve().parents[1] / "postgres" / "server"


class Server:
    """A server that a test may stop and start. Nothing else uses it."""

    def __init__(self):
        # Not below pytest's folders, which the server's user may not enter.
        self.dir = tempfile.mkdtemp(prefix="weir-postgres-")
        self.url = None

    def start(self):
        port = [self.url.rsplit(":", 1)[1].split("/")[0]] if self.url else []
        ran = subprocess.run([SCRIPT, "start", self.dir, *port], stdout=subprocess.PIPE, text=True, timeout=90, check=True)
        self.url = ran.stdout.strip()
        return self

    def stop(self, signal="INT"):
        subprocess.run([SCRIPT, "stop", self.dir, signal], check=True, timeout=60)

    def remove(self):
        self.stop("QUIT")
        shutil.rmtree(self.dir, ignore_errors=True)


_servers = []


def server_url():
    """The server that all tests share: the one that tests/run started, or one that this process starts and the session ends."""
    if url := os.environ.get("WEIR_TEST_POSTGRES"):
        return url
    if not _servers:
        _servers.append(Server().start())
    return _servers[0].url


def end_session():
    while _servers:
        _servers.pop().remove()


def execute(url, sql):
    """Runs a statement with psql; its rows as lists of texts."""
    command = ["psql", url, "--no-psqlrc", "-v", "ON_ERROR_STOP=1", "-qAt", "-F", "\t", "-c", sql]
    ran = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert ran.returncode == 0, f"{sql}: {ran.stderr.strip()}"
    return [line.split("\t") for line in ran.stdout.splitlines()]


def new_database(url=None):
    """The URL of an empty database on a server."""
    url = url or server_url()
    name = "weir_" + uuid.uuid4().hex[:12]
    execute(url, f"CREATE DATABASE {name}")
    return f"{url.rsplit('/', 1)[0]}/{name}"
