"""The 25 benchmark queries: they parse, plan and run, and DuckDB gives the same answers over the same Parquet files."""

import re

import pytest
from workload import PROGRAM, QUERIES, Lake

NAMES = re.findall(r"^-- (Q\d+) ", QUERIES.read_text(), flags=re.M)


@pytest.fixture(scope="module")
def lake(tmp_path_factory):
    assert PROGRAM.exists(), f"there is no {PROGRAM}: cargo build --release --workspace --example workload"
    with Lake(tmp_path_factory.mktemp("workload"), 8000, 8000) as made:
        yield made


def test_there_are_25():
    assert NAMES == [f"Q{n}" for n in range(1, 26)]


@pytest.mark.parametrize("name", NAMES)
def test_same_answer(lake, name):
    sql = lake.queries[name]
    ours, theirs = lake.weir_rows(sql), lake.duck_rows(sql)
    assert ours, f"{name} finds nothing: the data say nothing about it"
    # Ties in the order of a query may stand either way.
    assert sorted(ours, key=repr) == sorted(theirs, key=repr)


def test_an_event_by_its_id(lake):
    event_id = lake.manifest["event_id"]
    assert lake.weir_rows(f"SELECT event_id, project FROM errors WHERE event_id = '{event_id}'")[0][0] == event_id
