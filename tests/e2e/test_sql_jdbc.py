"""The public JDBC driver: queries of every table, parameters, updates, and all that it asks to show a schema."""

import pytest
from clients import jdbc
from test_sql import LOGS, TABLES, VIEWS

CLIENT = jdbc


@pytest.mark.parametrize("relation", sorted(TABLES | VIEWS))
def test_every_column_survives(client, weir, relation):
    answer = client.ask("query", f"SELECT * FROM {relation} LIMIT 20")
    assert len(answer["rows"]) == min(20, weir.value(f"SELECT count(*) AS n FROM {relation}"))
    assert relation in LOGS or ["project", "VARCHAR"] in answer["columns"]


def test_values(client):
    sql = "SELECT 1 AS n, CAST(2.5 AS DOUBLE) AS d, 'x' AS t, true AS b, NULL AS nothing, TIMESTAMP '2026-01-02 03:04:05.678' AS at, DATE '2026-01-02' AS day"
    assert client.rows("query", sql) == [[1, 2.5, "x", True, None, "2026-01-02 03:04:05.678", "2026-01-02"]]
    nested = "SELECT make_array(1, 2) AS l, named_struct('a', 1) AS s, MAP {'k': 'v'} AS m, p95(duration_ms) >= 0 AS p FROM spans"
    assert client.rows("query", nested)[0] == [[1, 2], {"a": 1}, {"k": "v"}, True]


def test_prepared(client, weir):
    counts = [weir.value(f"SELECT count(*) AS n FROM errors WHERE level = '{level}' AND project_id = 1") for level in ("error", "fatal", "none")]
    answer = client.ask("prepared", "SELECT count(*) FROM errors WHERE level = ? AND project_id = ?", "error", "#1", "fatal", "#1", "none", "#1")
    assert answer["parameters"] == 2 and answer["rows"] == [[[n]] for n in counts] and counts[0] > 0


def test_errors_are_told(client):
    for sql, want in (("SELECT no_such_column FROM errors", "no_such_column"), ("DROP TABLE errors", "DROP TABLE is refused")):
        assert want in client.say("query", sql)["error"]
    assert "is refused" in client.say("update", "DELETE FROM errors")["error"]
    assert "SHOW QUERIES" in client.say("update", "KILL QUERY 0")["error"]
    assert client.rows("query", "SELECT 1") == [[1]]


def test_a_statement_that_is_cancelled_ends(client, weir):
    assert client.rows("first", "SELECT value FROM generate_series(1, 1000000000000)") == [[1]]
    weir.until("SELECT 1 AS n", 1)
    weir.until_running(0)


def test_metadata(client):
    assert client.rows("catalogs") == [["weir"]]
    assert client.names("schemas", column="TABLE_SCHEM") == ["public"]
    assert client.names("tableTypes", column="TABLE_TYPE") == ["TABLE", "VIEW"]
    assert set(client.names("tables", "", "%", "", column="TABLE_NAME")) >= TABLES | VIEWS
    assert client.names("tables", "public", "error\\_%", "VIEW", column="TABLE_NAME") == ["error_frames", "error_tags"]
    assert client.names("tables", "public", "err%", "TABLE", column="TABLE_NAME") == ["errors"]
    assert client.rows("tables", "private", "%", "") == []
    assert client.names("columns", "errors", "event_id", column="COLUMN_NAME") == ["event_id"]
    assert client.names("columns", "errors", "%", column="COLUMN_NAME")[:3] == ["org_id", "project_id", "project"]
    for parts in (("primaryKeys", "errors"), ("exportedKeys", "errors"), ("importedKeys", "errors"), ("crossReference", "errors", "issues")):
        assert client.rows(*parts) == []
    client.ask("typeInfo")
    name, version, read_only, quote, numeric, keywords, transactions = client.rows("about")[0]
    assert name == "Weir" and version and read_only is False and quote == '"' and "ABS" in numeric and "KILL" in keywords and transactions is False


def test_user_and_password(weir, corpus):
    made = jdbc(weir, weir.token, user="anyone")
    assert made.rows("query", "SELECT 1") == [[1]]
    made.close()
    wrong = jdbc(weir, "wrong", user="anyone")
    assert "token" in wrong.say("query", "SELECT 1")["error"]
    wrong.close()
