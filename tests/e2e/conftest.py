"""Fixtures: the program, running."""

import os
import uuid

import postgres
import pytest
from envelopes import as_recorded, recorded
from kafka import Broker
from weir import BINARY, Weir


def pytest_sessionstart(session):
    if not os.access(BINARY, os.X_OK):
        pytest.exit(f"there is no program at {BINARY}: run tests/run, or `cargo build --release` first", returncode=2)


def pytest_sessionfinish(session):
    postgres.end_session()


@pytest.fixture(scope="session")
def started():
    """Every program that the session started, so that none outlives it."""
    programs = []
    yield programs
    for program in programs:
        program.kill()


@pytest.fixture
def fresh(tmp_path, started):
    """Makes a program, not yet started, on an empty data directory of its own."""
    made = []

    def make(**options):
        program = Weir(tmp_path / f"data-{len(made)}", **options)
        made.append(program)
        started.append(program)
        return program

    yield make
    for program in made:
        program.kill()


@pytest.fixture(scope="module")
def serving(tmp_path_factory, started):
    """Starts programs that the tests of a module share. Each must end well when it is asked to."""
    made = []

    def start(**options):
        program = Weir(tmp_path_factory.mktemp("weir") / "data", **options)
        made.append(program)
        started.append(program)
        return program.start()

    yield start
    for program in made:
        assert program.stop() == 0, f"it did not end well on SIGTERM; its last words: {program.said()[-1000:]}"


@pytest.fixture(scope="module")
def weir(serving):
    """A program with the defaults."""
    return serving()


@pytest.fixture(scope="module")
def project(weir):
    """The project of the first start."""
    return weir.project


@pytest.fixture(scope="module")
def corpus(weir, project):
    """Everything that was recorded, accepted and in the tables."""
    for request in recorded():
        path, headers, body = as_recorded(request, project)
        answer = weir.post(path, body, headers)
        assert answer.status == 200, (request, answer)
    weir.until_still()


@pytest.fixture(scope="module")
def broker(tmp_path_factory):
    """A broker of Kafka that the tests of a module share."""
    made = Broker(tmp_path_factory.mktemp("kafka"))
    try:
        yield made.start()
    finally:
        made.kill()


@pytest.fixture
def topic():
    """The name of a topic that is not there yet."""
    return "weir-" + uuid.uuid4().hex[:12]


@pytest.fixture(scope="module")
def client(request, weir, corpus):
    """A client of Flight SQL that is a program of its own: the CLIENT of the module, connected."""
    made = request.module.CLIENT(weir, weir.token)
    yield made
    made.close()
