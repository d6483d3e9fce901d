"""Subscriptions: their statements over every way of asking, their rows, and who may see them."""

import json
import subprocess
import time

import pytest
from envelopes import error
from weir import BINARY, UNTIL_S, lines, until

WINDOW = "received > now() - INTERVAL '1 hour'"
BY_LEVEL = f"SELECT level, count(*) AS n FROM errors WHERE {WINDOW} GROUP BY level HAVING count(*) >= 2"


def send(weir, project, count=1, **fields):
    for _ in range(count):
        weir.send(error(**fields)[0], project)


def names(weir, token=None):
    return {row["name"] for row in weir.query("SHOW SUBSCRIPTIONS", token)}


def until_rows(weir, name, want):
    until(lambda: sorted(tuple(row.values()) for row in weir.query(f"SELECT * FROM subscription('{name}')")), want, f"the rows of {name}")


def test_life(weir, project):
    """Rows that are stored count, rows that come count, and the alert's history tells."""
    send(weir, project, 3, level="fatal", environment="life")
    weir.until("SELECT count(*) AS n FROM errors WHERE environment = 'life'", 3)
    by_life = BY_LEVEL.replace("WHERE", "WHERE environment = 'life' AND")
    assert weir.query(f"CREATE SUBSCRIPTION life WITH (severity = 'critical') AS {by_life}") == []
    until_rows(weir, "life", [("fatal", 3)])
    send(weir, project, 2, level="info", environment="life")
    until_rows(weir, "life", [("fatal", 3), ("info", 2)])
    shown = next(row for row in weir.query("SHOW SUBSCRIPTIONS") if row["name"] == "life")
    assert (shown["state"], shown["severity"], shown["rows"], shown["error"]) == ("running", "critical", 2, None)
    weir.until("SELECT count(*) AS n FROM alerts WHERE subscription = 'life' AND kind = 'fired'", 2)
    fired = weir.query("SELECT key, severity, row FROM alerts WHERE subscription = 'life' ORDER BY key")
    assert [json.loads(f["key"]) for f in fired] == [{"level": "fatal"}, {"level": "info"}]
    assert weir.query("ALTER SUBSCRIPTION life SET (severity = 'info') AS " + by_life.replace(">= 2", ">= 3")) == []
    until_rows(weir, "life", [("fatal", 3)])
    items = {row["item"] for row in weir.query("EXPLAIN SUBSCRIPTION life")}
    assert {"query", "plan", "template", "class", "state", "cost an event"} <= items
    joined = weir.query("SELECT e.level, count(*) AS n FROM errors e JOIN subscription('life') s ON s.level = e.level WHERE e.environment = 'life' GROUP BY e.level")
    assert joined == [{"level": "fatal", "n": 3}]
    assert weir.query("DROP SUBSCRIPTION life") == []
    assert "no subscription life" in weir.ask("SELECT * FROM subscription('life')").stderr
    assert weir.query("DROP SUBSCRIPTION IF EXISTS life") == []


def test_constants_of_lists_and_patterns_share_a_template(weir, project):
    """Subscriptions that differ in a list, a pattern and a bound are one template; each sees what is there, and its own."""
    count = "SELECT count(*) AS n FROM errors WHERE environment = 'alike' AND level IN ('{0}', '{1}') AND title LIKE '{2}' AND " + WINDOW
    for level in ("fatal", "error", "info"):
        send(weir, project, 1, environment="alike", level=level)
    weir.until("SELECT count(*) AS n FROM errors WHERE environment = 'alike'", 3)
    for name, constants, rows in (("one", ("fatal", "info", "_%"), 2), ("two", ("error", "warning", "_%"), 1), ("three", ("fatal", "error", "nothing%"), 0)):
        weir.query(f"CREATE SUBSCRIPTION alike_{name} AS {count.format(*constants)}")
        assert weir.value(f"SELECT n FROM subscription('alike_{name}')") == rows, name
    templates = {name: explained(weir, f"alike_{name}")["template"] for name in ("one", "two", "three")}
    assert len(set(templates.values())) == 1 and "with 2 other subscriptions" in templates["one"], templates
    assert explained(weir, "alike_one")["class"].startswith("shared by constants")
    send(weir, project, 1, environment="alike", level="error")
    weir.until("SELECT n FROM subscription('alike_two')", 2)
    assert weir.value("SELECT n FROM subscription('alike_one')") == 2
    for name in templates:
        weir.query(f"DROP SUBSCRIPTION alike_{name}")


def explained(weir, name):
    """What EXPLAIN says, by item."""
    return {row["item"]: row["detail"] for row in weir.query(f"EXPLAIN SUBSCRIPTION {name}")}


def test_drivers(weir):
    """Each way of executing acts once; preparing and describing act never."""
    with weir.connect() as connection, connection.cursor() as cursor:
        cursor.execute(f"CREATE SUBSCRIPTION by_query AS {BY_LEVEL}")
        assert cursor.fetchall() == []
        cursor.adbc_statement.set_sql_query(f"CREATE SUBSCRIPTION by_update AS {BY_LEVEL}")
        assert cursor.adbc_statement.execute_update() in (0, -1)
        cursor.adbc_statement.set_sql_query(f"CREATE SUBSCRIPTION only_prepared AS {BY_LEVEL}")
        cursor.adbc_statement.prepare()
        assert {"by_query", "by_update"} <= names(weir) and "only_prepared" not in names(weir)
        assert cursor.adbc_statement.execute_update() in (0, -1)
        assert "only_prepared" in names(weir)
        for name in ("by_query", "by_update", "only_prepared"):
            cursor.execute(f"DROP SUBSCRIPTION {name}")
            cursor.fetchall()
        with pytest.raises(Exception, match="there is already"):
            for _ in range(2):
                cursor.execute(f"CREATE SUBSCRIPTION twice AS {BY_LEVEL}")
                cursor.fetchall()
        cursor.execute("DROP SUBSCRIPTION twice")
        cursor.fetchall()
        with pytest.raises(Exception, match="line 1, column 42: there is no table"):
            cursor.execute("CREATE SUBSCRIPTION bad AS SELECT * FROM nothing")
            cursor.fetchall()


def test_what_a_token_may_see(weir, project):
    """A subscription reads what its creator may read, and is there for those who may read as much."""
    other = weir.create_project("subscribed")
    narrow = weir.create_token("narrow", "subscribed")
    send(weir, project, 1, environment="seen")
    send(weir, other, 2, environment="seen")
    weir.until("SELECT count(*) AS n FROM errors WHERE environment = 'seen'", 3)
    seen = f"SELECT environment, count(*) AS n FROM errors WHERE environment = 'seen' AND {WINDOW} GROUP BY environment"
    weir.query(f"CREATE SUBSCRIPTION wide_eyed AS {seen}")
    weir.query(f"CREATE SUBSCRIPTION narrow_eyed AS {seen}", narrow)
    until_rows(weir, "wide_eyed", [("seen", 3)])
    until_rows(weir, "narrow_eyed", [("seen", 2)])
    assert "narrow_eyed" in names(weir, narrow) and "wide_eyed" not in names(weir, narrow)
    for refused in ("SELECT * FROM subscription('wide_eyed')", "DROP SUBSCRIPTION wide_eyed", "EXPLAIN SUBSCRIPTION wide_eyed", "SUBSCRIBE wide_eyed"):
        assert "no subscription wide_eyed" in weir.ask(refused, narrow).stderr
    for name in ("wide_eyed", "narrow_eyed"):
        weir.query(f"DROP SUBSCRIPTION {name}")


def test_live_rows(weir, project):
    """`weir subscribe` prints what holds and then each change."""
    live = f"SELECT environment, count(*) AS n FROM errors WHERE environment = 'live' AND {WINDOW} GROUP BY environment"
    send(weir, project, 1, environment="live")
    weir.until("SELECT count(*) AS n FROM errors WHERE environment = 'live'", 1)
    weir.query(f"CREATE SUBSCRIPTION live AS {live}")
    following = subprocess.Popen(
        [BINARY, "subscribe", "live", "--url", f"grpc://127.0.0.1:{weir.flight}", "--token", weir.token], stdout=subprocess.PIPE, text=True
    )
    try:
        printed = lines(following.stdout)
        change = lambda: json.loads(printed.get(timeout=UNTIL_S))
        first = change()
        assert (first["_snapshot"], first["_difference"], first["n"]) == (True, 1, 1)
        send(weir, project, 1, environment="live")
        changes = sorted((change() for _ in range(2)), key=lambda change: change["_difference"])
        assert [(c["_difference"], c["n"], c["_snapshot"]) for c in changes] == [(-1, 1, False), (1, 2, False)]
    finally:
        following.kill()
        following.wait()
        following.stdout.close()
    weir.query("DROP SUBSCRIPTION live")


def test_backtest(weir, project):
    """What fires when it runs has fired in the backtest."""
    send(weir, project, 4, environment="past", level="error")
    weir.until("SELECT count(*) AS n FROM errors WHERE environment = 'past'", 4)
    time.sleep(1.1)
    now = time.time()
    stamp = lambda t: time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime(t))
    rows = weir.query(
        f"BACKTEST SUBSCRIPTION FROM TIMESTAMP '{stamp(now - 60)}' TO TIMESTAMP '{stamp(now + 3)}' WITH (severity = 'warning') AS "
        "SELECT environment, count(*) AS n FROM errors WHERE environment = 'past' AND received > now() - INTERVAL '1 hour' GROUP BY environment HAVING count(*) > 3"
    )
    assert [(r["kind"], r["severity"], json.loads(r["key"])) for r in rows] == [("fired", "warning", {"environment": "past"})]
    assert json.loads(rows[0]["row"])["n"] == 4
