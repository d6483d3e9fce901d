"""Arrow's Go client, used as Grafana's Flight SQL data source uses it."""

import pytest
from clients import go
from test_sql import TABLES, VIEWS

ENDLESS = "SELECT value FROM generate_series(1, 1000000000000)"
CLIENT = go


def test_a_panel(client, weir):
    """A time series with the macros of the query editor; the client compares the schemas of FlightInfo and DoGet."""
    sql = "SELECT $__dateBin(received) AS time, level, count(*) AS n FROM errors WHERE $__timeRange(received) GROUP BY time, level ORDER BY time"
    answer = client.ask("query", sql)
    assert answer["columns"] == [["time", "timestamp[ms]"], ["level", "utf8"], ["n", "int64"]]
    assert sum(row[2] for row in answer["rows"]) == weir.value("SELECT count(*) AS n FROM errors") > 0


@pytest.mark.parametrize("relation", sorted(TABLES | VIEWS))
def test_the_schema_promised_is_the_schema_brought(client, relation):
    client.ask("query", f"SELECT * FROM {relation} LIMIT 5")


def test_the_query_builder(client):
    tables = client.names("tables", "%", "", "schema", column="table_name")
    assert set(tables) >= TABLES | VIEWS and tables == sorted(tables)
    schemas = dict(zip(tables, client.names("tables", "%", "", "schema", column="table_schema")))
    assert schemas["errors"][:3] == ["org_id", "project_id", "project"] and all(schemas.values())
    assert client.names("tables", "error%", "VIEW", "", column="table_name") == ["error_frames", "error_tags"]
    assert client.names("tables", "spans", "TABLE,VIEW", "", column="table_name") == ["spans"]
    assert client.rows("tables", "%", "SYSTEM TABLE", "") == []


def test_metadata(client):
    assert client.rows("catalogs") == [["weir"]]
    assert client.rows("schemas") == [["weir", "public"]]
    assert client.rows("tableTypes") == [["TABLE"], ["VIEW"]]
    assert "Weir" in str(client.rows("sqlInfo"))
    assert [row[0] for row in client.rows("types")][:3] == ["BOOLEAN", "BIGINT", "BYTEA"]
    columns = {kind: [name for name, _ in client.ask("keys", "errors", kind)["columns"]] for kind in ("primary", "exported", "imported", "cross")}
    assert columns["primary"][:4] == ["catalog_name", "db_schema_name", "table_name", "column_name"]
    assert columns["exported"] == columns["imported"] == columns["cross"] and "fk_table_name" in columns["cross"]
    assert all(client.rows("keys", "errors", kind) == [] for kind in columns)
    assert {"CancelFlightInfo", "CancelQuery", "CloseSession", "CreatePreparedStatement"} <= {name for (name,) in client.rows("actions")}


def test_prepared(client, weir):
    want = [[[weir.value(f"SELECT count(*) AS n FROM errors WHERE level = '{level}'")]] for level in ("error", "fatal")]
    assert client.rows("prepared", "SELECT count(*) FROM errors WHERE level = $1", "error", "fatal") == want


def test_updates(client, weir):
    assert "is refused" in client.say("update", "DELETE FROM errors")["error"]
    assert "ask it as a query" in client.say("update", "SELECT 1")["error"]
    # A query that runs is stopped by its number, once.
    with weir.asking("SELECT sum(value) FROM generate_series(1, 1000000000000)") as asked:
        weir.until_running(1)
        [(number, _)] = weir.running()
        assert client.ask("update", f"KILL QUERY {number}") == {"updated": 1}
        assert "cancelled" in asked.communicate(timeout=60)[1]
    assert "no query" in client.say("update", f"KILL QUERY {number}")["error"]


def test_cancel(client, weir):
    said = client.ask("cancel", ENDLESS)
    assert said["before"][0] == "CANCEL_STATUS_CANCELLED" and "the query was cancelled" in said["before"][1]
    assert said["during"][0] == "CANCEL_STATUS_CANCELLING" and "the query was cancelled" in said["during"][1]
    weir.until_running(0)


def test_sessions(client):
    said = client.ask("session")
    assert said["errors"] == {"schema": "INVALID_VALUE", "timezone": "INVALID_NAME"}
    assert said["options"] == {"catalog": "weir", "schema": "public"}
    assert "CLOSED" in said["closed"]


def test_user_and_password(weir, corpus):
    made = go(weir, weir.token, user="anyone")
    assert made.rows("query", "SELECT 1") == [[1]]
    made.close()
    wrong = go(weir, "wrong", user="anyone")
    assert "token" in wrong.say("query", "SELECT 1")["error"]
    wrong.close()
