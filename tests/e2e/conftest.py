"""Fixtures: the program, running."""

import os
import pathlib

import postgres
import pytest
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
def weir(tmp_path_factory, started):
    """A program that the tests of a module share. It must end well when it is asked to."""
    program = Weir(pathlib.Path(tmp_path_factory.mktemp("weir")) / "data")
    started.append(program)
    program.start()
    yield program
    assert program.stop() == 0, f"it did not end well on SIGTERM; its last words: {program.said()[-1000:]}"


@pytest.fixture(scope="module")
def project(weir):
    """The project of the first start."""
    return weir.project
