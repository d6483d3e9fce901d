"""The programs that are measured, run on empty folders and seen from outside: what they cost is what Linux says of their processes."""

import contextlib
import hashlib
import json
import os
import pathlib
import re
import shutil
import signal
import socket
import sqlite3
import subprocess
import sys
import time
import urllib.request

TICKS = os.sysconf("SC_CLK_TCK")
# Deadlines are for a machine that is busy with other things.
START_S = 60
STOP_S = 60
DRAIN_S = 600


class Unavailable(Exception):
    """A program that could not be installed or started; the text says what was seen."""


def clients(cache, requirements):
    """The Python of tests/run, which has the packages of tests/requirements.txt; made where it is missing."""
    venv = cache / "venv" / hashlib.sha256(requirements.read_bytes()).hexdigest()[:16]
    if not (venv / "ready").exists():
        subprocess.run([sys.executable, "-m", "venv", "--clear", venv], check=True)
        subprocess.run([venv / "bin/pip", "install", "--quiet", "--disable-pip-version-check", "-r", requirements], check=True)
        (venv / "ready").touch()
    return venv / "bin/python"


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def cpu_of(pid):
    """CPU seconds of a process so far, and of those of its children that have ended."""
    fields = pathlib.Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return sum(int(field) for field in fields[11:15]) / TICKS


def memory_of(pid, name):
    return int(re.search(rf"{name}:\s+(\d+)", pathlib.Path(f"/proc/{pid}/status").read_text())[1]) / 1000


def bytes_in(folder):
    return sum(file.stat().st_size for file in pathlib.Path(folder).rglob("*") if file.is_file())


class Process:
    """A process of ours, ended when the block is left."""

    def __init__(self):
        self.process = None

    def spawn(self, command, **options):
        self.process = subprocess.Popen([str(part) for part in command], **options)

    def cpu_s(self):
        return cpu_of(self.process.pid)

    def resident_mb(self):
        return memory_of(self.process.pid, "VmRSS")

    def peak_mb(self):
        return memory_of(self.process.pid, "VmHWM")

    def stop(self):
        """SIGTERM; returns the CPU seconds of its whole life."""
        if self.process is None or self.process.returncode is not None:
            return None
        self.process.send_signal(signal.SIGTERM)
        end = time.monotonic() + STOP_S
        while time.monotonic() < end:
            pid, status, usage = os.wait4(self.process.pid, os.WNOHANG)
            if pid:
                self.process.returncode = os.waitstatus_to_exitcode(status)
                return usage.ru_utime + usage.ru_stime
            time.sleep(0.01)
        self.kill()
        sys.exit(f"{self.process.args[0]} did not stop within {STOP_S} s")

    def kill(self):
        if self.process and self.process.returncode is None:
            self.process.kill()
            self.process.wait()

    def __exit__(self, *_):
        self.kill()


class Weir(Process):
    """`weir serve` with its own defaults, and the settings that are given, on a data directory of its own."""

    def __init__(self, binary, data, **settings):
        super().__init__()
        self.binary, self.data = binary, pathlib.Path(data)
        self.http, self.flight = free_port(), free_port()
        self.url = f"grpc://127.0.0.1:{self.flight}"
        self.env = {name: value for name, value in os.environ.items() if not name.startswith("WEIR_")} | settings
        self._token = None

    def start(self):
        log = open(self.data.with_suffix(".log"), "ab")
        command = [self.binary, "serve", "--data", self.data, "--http", f"127.0.0.1:{self.http}", "--flight", f"127.0.0.1:{self.flight}"]
        self.spawn(command, stdout=log, stderr=log, env=self.env, cwd=self.data.parent)
        end = time.monotonic() + START_S
        while time.monotonic() < end:
            if self.process.poll() is not None:
                sys.exit(f"weir serve ended with {self.process.returncode}: {self.data.with_suffix('.log').read_text()[-500:]}")
            try:
                urllib.request.urlopen(f"http://127.0.0.1:{self.http}/_health/", timeout=5).read()
                return self
            except OSError:
                time.sleep(0.002)
        sys.exit(f"weir serve is not healthy after {START_S} s")

    def __enter__(self):
        return self.start()

    def remove(self):
        shutil.rmtree(self.data, ignore_errors=True)

    def cli(self, *arguments):
        ran = subprocess.run([self.binary, *arguments], capture_output=True, text=True, env=self.env, cwd=self.data.parent, timeout=300)
        if ran.returncode:
            sys.exit(f"weir {arguments[0]}: {ran.stderr.strip()[-500:]}")
        return ran.stdout.strip()

    @property
    def dsn(self):
        dsn = json.loads(self.cli("project", "list", "--format", "json", "--data", str(self.data)))[0]["dsn"]
        return re.sub(r"@[^/]+", f"@127.0.0.1:{self.http}", dsn)

    @property
    def token(self):
        self._token = self._token or self.cli("token", "create", "bench", "--data", str(self.data)).splitlines()[-1]
        return self._token

    def query(self, sql):
        return json.loads(self.cli("query", sql, "--format", "json", "--url", self.url, "--token", self.token))

    def drained(self):
        """Waits until all that was accepted is in the tables."""
        end = time.monotonic() + DRAIN_S
        while time.monotonic() < end:
            try:
                answer = urllib.request.urlopen(f"http://127.0.0.1:{self.http}/_health/?full", timeout=5).read()
            except OSError:
                time.sleep(0.02)
                continue
            if json.loads(answer)["lag_records"] == 0:
                return
            time.sleep(0.02)
        sys.exit(f"the tables did not catch up with the journal within {DRAIN_S} s")

    def disk_bytes(self):
        return bytes_in(self.data)

    def live_bytes(self):
        """The catalog and the files that its newest snapshot names, without replaced files; asked of a program that has stopped."""
        catalog = self.data / "catalog.sqlite"
        with contextlib.closing(sqlite3.connect(f"file:{catalog}?mode=ro", uri=True)) as connection:
            [(files,)] = connection.execute("SELECT sum(file_size_bytes) FROM ducklake_data_file WHERE end_snapshot IS NULL")
        return catalog.stat().st_size + (files or 0)

    def disk_parts(self):
        parts = {entry.name: bytes_in(entry) if entry.is_dir() else entry.stat().st_size for entry in sorted(self.data.iterdir())}
        return {name: size for name, size in parts.items() if size}


class Floor(Process):
    """A server in the doors' stack with nothing behind it."""

    KEY = "0123456789abcdef0123456789abcdef"

    def __init__(self, binary):
        super().__init__()
        self.binary, self.port = binary, free_port()
        self.dsn = f"http://{self.KEY}@127.0.0.1:{self.port}/1"

    def __enter__(self):
        self.spawn([self.binary, "serve", f"127.0.0.1:{self.port}"])
        end = time.monotonic() + START_S
        while time.monotonic() < end:
            try:
                socket.create_connection(("127.0.0.1", self.port), timeout=1).close()
                return self
            except OSError:
                time.sleep(0.02)
        sys.exit("the floor does not listen")


class Bugsink:
    """Bugsink from PyPI as its guide to a production server sets it up: SQLite, gunicorn's workers, snappea's workers.

    Its quotas are set beyond reach, since it would refuse what is measured.
    """

    CONFIGURE = """
path = "bugsink_conf.py"
text = open(path).read()
periods = ("5_MINUTES", "HOUR", "MONTH")
quotas = {f"MAX_EVENTS_{of}PER_{period}": 1_000_000_000 for of in ("", "PER_PROJECT_") for period in periods}
open(path, "w").write(text.replace("BUGSINK = {", f"BUGSINK = {{**{quotas!r},", 1))
"""
    GUNICORN_WORKERS = 4

    def __init__(self, home, folder):
        self.home, self.folder = pathlib.Path(home), pathlib.Path(folder)
        self.processes = []

    def bin(self, name):
        return self.home / "bin" / name

    def run(self, *command):
        env = {**os.environ, "DJANGO_SETTINGS_MODULE": "bugsink_conf", "PYTHONUNBUFFERED": "1"}
        ran = subprocess.run([str(part) for part in command], cwd=self.folder, env=env, capture_output=True, text=True, timeout=600)
        if ran.returncode:
            raise Unavailable(f"{pathlib.Path(command[0]).name}: {(ran.stderr or ran.stdout).strip()[-300:]}")
        return ran.stdout

    def shell(self, code):
        return self.run(self.bin("bugsink-manage"), "shell", "-v0", "-c", code).strip().splitlines()[-1]

    def __enter__(self):
        self.folder.mkdir(parents=True)
        if not (self.home / "ready").exists():
            self.run(sys.executable, "-m", "venv", "--clear", self.home)
            self.run(self.bin("pip"), "install", "--quiet", "--disable-pip-version-check", "bugsink")
            (self.home / "ready").touch()
        self.version = re.search(r"^bugsink\s+(\S+)", self.run(self.bin("pip"), "list", "--disable-pip-version-check"), re.M)[1]
        self.run(self.bin("bugsink-create-conf"), "--template=singleserver", "--host=127.0.0.1", f"--base-dir={self.folder}")
        self.run(sys.executable, "-c", self.CONFIGURE)
        self.run(self.bin("bugsink-manage"), "migrate", "-v0")
        self.run(self.bin("bugsink-manage"), "migrate", "-v0", "--database=snappea")
        key = self.shell("from projects.models import Project; print(Project.objects.create(name='load', slug='load').sentry_key.hex)")
        port = free_port()
        self.dsn = f"http://{key}@127.0.0.1:{port}/1"
        self.spawn("snappea", self.bin("bugsink-runsnappea"))
        self.spawn("gunicorn", self.bin("gunicorn"), f"--bind=127.0.0.1:{port}", f"--workers={self.GUNICORN_WORKERS}", "bugsink.wsgi")
        end = time.monotonic() + START_S
        while time.monotonic() < end:
            try:
                socket.create_connection(("127.0.0.1", port), timeout=1).close()
                return self
            except OSError:
                time.sleep(0.1)
        self.__exit__()
        raise Unavailable(f"gunicorn does not listen: {(self.folder / 'gunicorn.log').read_text()[-300:]}")

    def spawn(self, name, *command):
        log = open(self.folder / f"{name}.log", "wb")
        env = {**os.environ, "DJANGO_SETTINGS_MODULE": "bugsink_conf"}
        self.processes.append(subprocess.Popen([str(part) for part in command], cwd=self.folder, env=env, stdout=log, stderr=log))

    def pids(self):
        """The processes and the children of each: gunicorn's workers."""
        found = []
        for process in self.processes:
            found.append(process.pid)
            found += map(int, pathlib.Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split())
        return found

    def cpu_s(self):
        return sum(cpu_of(pid) for pid in self.pids())

    def resident_mb(self):
        return sum(memory_of(pid, "VmRSS") for pid in self.pids())

    def disk_bytes(self):
        return bytes_in(self.folder)

    def digested(self, events):
        """Waits until so many events are in its database."""
        end, found = time.monotonic() + DRAIN_S, 0
        while time.monotonic() < end:
            with contextlib.closing(sqlite3.connect(f"file:{self.folder / 'db.sqlite3'}?mode=ro", uri=True, timeout=30)) as connection:
                [(found,)] = connection.execute("SELECT count(*) FROM events_event")
            if found >= events:
                return
            time.sleep(0.2)
        raise Unavailable(f"it took up {found} of {events} events within {DRAIN_S} s: {(self.folder / 'snappea.log').read_text()[-300:]}")

    def __exit__(self, *_):
        for process in self.processes:
            process.terminate()
        for process in self.processes:
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
