"""The lake, read by DuckDB's own DuckLake extension while Weir runs: the same rows as SQL gives."""

import pytest
from duck import attached
from envelopes import error
from weir import until

# Written so that DuckDB and DataFusion both read it. Values are summed, since a bare count comes from the catalog alone.
ID = "count(DISTINCT replace(CAST({} AS VARCHAR), '-', '')) AS ids_of_{}"
SUMS = {
    "errors": [
        ID.format("event_id", "events"),
        "sum(length(title)) AS titles",
        "sum(CASE WHEN level = 'error' THEN 1 ELSE 0 END) AS errors",
        "count(DISTINCT level) AS levels",
        "count(release) AS releases",
        "sum(frame_count) AS frames",
        "min(group_id) AS least",
        "max(group_id) AS most",
    ],
    "spans": [
        ID.format("trace_id", "traces"),
        "count(DISTINCT span_id) AS spans",
        "sum(length(op)) AS ops",
        "sum(CASE WHEN is_segment THEN 1 ELSE 0 END) AS roots",
    ],
    "logs": [ID.format("log_id", "logs"), "sum(length(body)) AS letters", "sum(severity_number) AS numbers"],
    "outcomes": ["sum(quantity) AS quantity", "sum(category) AS categories", "sum(outcome) AS outcomes", "count(DISTINCT reason) AS reasons"],
    "payloads": [ID.format("event_id", "events"), "count(DISTINCT type) AS types"],
}
SOURCES = {"errors": "(SELECT *, coalesce(array_length(frames), 0) AS frame_count FROM {lake}errors)"}


@pytest.fixture(scope="module")
def duck(weir, corpus):
    """DuckDB with the lake attached, when every row that was sent is committed."""
    catalogs = [path for path in weir.data.rglob("*") if path.is_file() and path.read_bytes()[:15] == b"SQLite format 3"]
    assert catalogs == ([] if weir.catalog_url else [weir.data / "catalog.sqlite"])
    connection = attached(weir)
    until(lambda: {table: count(connection, table) for table in SUMS}, {table: weir.value(f"SELECT count(*) AS n FROM {table}") for table in SUMS}, "committed")
    yield connection
    connection.close()


def count(duck, table):
    return duck.execute(f"SELECT count(*) FROM lake.{table}").fetchone()[0]


def both(weir, duck, sql):
    """The rows of the same question to both, `{lake}` standing before each table; they must be equal and not empty."""
    ours = [tuple(row.values()) for row in weir.query(sql.replace("{lake}", ""))]
    theirs = duck.execute(sql.replace("{lake}", "lake.")).fetchall()
    assert ours == theirs, sql
    assert ours
    return ours


@pytest.mark.parametrize("table", SUMS)
def test_sums_of_values(weir, duck, table):
    source = SOURCES.get(table, "{lake}" + table)
    [row] = both(weir, duck, f"SELECT {', '.join(SUMS[table])} FROM {source} AS t")
    assert row[0] > 0


def test_conditions_on_text(weir, duck):
    """Statistics of files and tables are trusted by readers: a wrong one would hide rows."""
    for column in ("level", "release", "environment", "platform", "title", "type"):
        values = both(weir, duck, f"SELECT {column}, count(*) AS n FROM {{lake}}errors WHERE {column} IS NOT NULL GROUP BY {column} ORDER BY {column}")
        for value, n in values:
            quoted = value.replace("'", "''")
            assert both(weir, duck, f"SELECT count(*) AS n FROM {{lake}}errors WHERE {column} = '{quoted}'") == [(n,)]
            both(weir, duck, f"SELECT count(*) AS n FROM {{lake}}errors WHERE {column} >= '{quoted}'")


def test_conditions_on_times_and_numbers(weir, duck):
    for table, column in (("errors", "received"), ("errors", "timestamp"), ("spans", "start_ts"), ("spans", "end_ts"), ("logs", "timestamp")):
        times = sorted(r["t"] for r in weir.query(f"SELECT DISTINCT CAST({column} AS VARCHAR) AS t FROM {table}"))
        for time_ in {times[0], times[len(times) // 2], times[-1]}:
            for comparison in ("<=", ">=", "="):
                assert both(weir, duck, f"SELECT count(*) AS n FROM {{lake}}{table} WHERE {column} {comparison} TIMESTAMP '{time_}'")[0][0] > 0
    for group in weir.query("SELECT group_id, count(*) AS n FROM errors GROUP BY group_id"):
        assert both(weir, duck, f"SELECT count(*) AS n FROM {{lake}}errors WHERE group_id = {group['group_id']}") == [(group["n"],)]
    durations = both(weir, duck, "SELECT sum(CASE WHEN duration_ms > 10 THEN 1 ELSE 0 END) AS slow FROM {lake}spans WHERE duration_ms >= 0")
    assert durations[0][0] > 0


def test_ids_are_uuids(weir, duck):
    event_id = weir.value("SELECT event_id FROM errors ORDER BY event_id LIMIT 1")
    assert duck.execute("SELECT title FROM lake.errors WHERE event_id = CAST(? AS UUID)", [event_id]).fetchone()[0] == weir.value(
        f"SELECT title FROM errors WHERE event_id = '{event_id}'"
    )


def test_nested_columns(weir, duck):
    tagged = weir.query("SELECT key, value FROM error_tags WHERE key NOT LIKE '%''%' AND value NOT LIKE '%''%' ORDER BY key, value LIMIT 1")[0]
    assert both(weir, duck, f"SELECT count(*) AS n FROM {{lake}}errors WHERE tags['{tagged['key']}'] = '{tagged['value']}'")[0][0] > 0
    both(weir, duck, "SELECT sum(cardinality(tags)) AS tags, sum(cardinality(contexts)) AS contexts FROM {lake}errors")
    [(frames, own)] = both(
        weir,
        duck,
        "SELECT sum(array_length(frames)) AS n, sum(CASE WHEN frames[1]['in_app'] THEN 1 ELSE 0 END) AS own FROM {lake}errors WHERE array_length(frames) > 0",
    )
    assert frames > own > 0
    kinds = both(
        weir,
        duck,
        "SELECT exceptions[1]['type'] AS kind, count(*) AS n FROM {lake}errors WHERE array_length(exceptions) > 0 GROUP BY 1 ORDER BY kind NULLS LAST",
    )
    assert len(kinds) > 3


def test_new_rows_appear_to_who_is_attached(weir, project, duck):
    before = count(duck, "errors")
    weir.send(error()[0], project)
    until(lambda: count(duck, "errors"), before + 1, "committed")


def test_an_id_is_looked_up_by_bloom_filter(weir, duck):
    """The comparison with text reaches the files as one of bytes: min and max cannot tell random ids apart, the filter can."""
    event_id = weir.value("SELECT event_id FROM errors LIMIT 1")
    plan = str(weir.query(f"EXPLAIN SELECT title FROM errors WHERE event_id = '{event_id}'"))
    assert f"required_guarantees=[event_id in ({event_id[:20].upper()}" in plan, plan
    read = str(weir.query(f"EXPLAIN ANALYZE SELECT title FROM errors WHERE event_id = '{'0' * 31}1'"))
    assert "row_groups_pruned_bloom_filter=" in read, read
