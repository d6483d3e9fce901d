"""The limits of queries as settings of the program: what is refused says which, and /metrics shows what runs."""

import re

import adbc_driver_flightsql.dbapi as flightsql
import pytest

ENDLESS = "SELECT sum(value) FROM generate_series(1, 1000000000000)"
LIMITS = {
    "WEIR_QUERY__MAX_ROWS": "5000",
    "WEIR_QUERY__MAX_BYTES": "64MiB",
    "WEIR_QUERY__MAX_BYTES_PER_QUERY": "32MiB",
    "WEIR_QUERY__MAX_SPILL_BYTES": "1MiB",
    "WEIR_QUERY__MAX_CONCURRENT_PER_TOKEN": "1",
    "WEIR_QUERY__MAX_WAIT": "0s",
}


@pytest.fixture(scope="module")
def limited(serving):
    return serving(env=LIMITS)


@pytest.mark.parametrize(
    ("sql", "want"),
    [
        ("SELECT * FROM generate_series(1, 5001)", r"more than 5000 rows \(query.max_rows\): add a LIMIT"),
        ("SELECT array_length(array_agg(value)) FROM generate_series(1, 20000000)", r"\(query.max_(bytes_per_query|spill_bytes)\).*fewer groups"),
        ("SELECT max(n) FROM (SELECT row_number() OVER (ORDER BY value % 1000, value) AS n FROM generate_series(1, 4000000))", r"\(query.max_spill_bytes\)"),
    ],
)
def test_what_is_refused_says_why(limited, sql, want):
    ran = limited.ask(sql)
    assert ran.returncode == 1 and re.search(want, ran.stderr), ran.stderr
    assert limited.value("SELECT count(*) AS n FROM (SELECT * FROM generate_series(1, 5000))") == 5000


def test_time(serving):
    """A program of its own: on a busy machine other queries may take as long as this limit."""
    ran = serving(env={"WEIR_QUERY__MAX_TIME": "1s"}).ask(ENDLESS)
    assert ran.returncode == 1 and re.search(r"longer than 1 s \(query.max_time\): ask for less", ran.stderr), ran.stderr


def test_queries_at_a_time(limited):
    with limited.asking(ENDLESS) as asked:
        limited.until_running(1)
        refused = limited.ask("SELECT 1")
        assert refused.returncode == 1 and "query.max_concurrent_per_token" in refused.stderr
        assert limited.value("SELECT 1 AS n", limited.create_token("another")) == 1
        asked.kill()
    limited.until_running(0)
    assert limited.value("SELECT 1 AS n") == 1


def test_progress_in_metrics(weir):
    with weir.asking(ENDLESS) as asked:
        weir.until_running(1)
        first = weir.metrics()
        slot = next(label for (name, label), value in first.items() if name == "sql_running_query_seconds" and value > 0)
        while weir.metrics()["sql_running_query_rows_scanned", slot] <= first["sql_running_query_rows_scanned", slot]:
            assert asked.poll() is None
        listed = weir.query("SHOW QUERIES")
        assert [row for row in listed if "generate_series" in row["statement"] and row["rows_scanned"] > 0 and row["seconds"] > 0]
        asked.kill()
    weir.until_running(0)
    after = weir.metrics()
    assert after["sql_queries_total", 'result="dropped"'] >= 1 and after["sql_running_query_seconds", slot] == 0
    assert after["sql_query_seconds_count", ""] >= 1 and after["sql_query_plan_seconds_count", ""] >= 1


def test_a_client_that_goes_away_stops_its_query(weir):
    with weir.connect() as connection, connection.cursor() as cursor:
        cursor.execute("SELECT value FROM generate_series(1, 1000000000000)")
        assert cursor.fetchone() == (1,)
        weir.until_running(1)
    weir.until_running(0)


def test_adbc_cancels(weir):
    with weir.connect() as connection, connection.cursor() as cursor:
        cursor.execute("SELECT value FROM generate_series(1, 1000000000000)")
        cursor.adbc_cancel()
        with pytest.raises(flightsql.Error):
            while cursor.fetchmany(100_000):
                pass
    weir.until_running(0)
