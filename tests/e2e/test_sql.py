"""SQL: `weir query` in its formats, the public ADBC driver, and what a token may see."""

import csv
import datetime
import io
import re

import adbc_driver_flightsql.dbapi as flightsql
import pyarrow
import pytest
from envelopes import envelope, error, logs, spans, transaction

TABLES = {
    "errors",
    "issues",
    "occurrences",
    "spans",
    "logs",
    "metrics",
    "sessions",
    "outcomes",
    "uptime_results",
    "checkins",
    "replays",
    "profile_chunks",
    "releases",
    "projects",
    "payloads",
    "alerts",
    "deliveries",
}
LOGS = {"alerts", "deliveries"}
VIEWS = {"transactions", "events", "error_tags", "error_frames"}
STAGING, PRODUCTION, OTHERS = 3, 4, 3
BROKEN_TITLE = 'ValueError: a "quoted", broken'


@pytest.fixture(scope="module")
def other(weir):
    """A second project."""
    return weir.create_project("other")


@pytest.fixture(scope="module")
def loaded(weir, project, other):
    """Something of everything in two projects; returns the ids of the first's errors by environment."""
    ids = {"staging": [], "production": []}
    for environment, count in (("staging", STAGING), ("production", PRODUCTION)):
        for i in range(count):
            body, event_id = error(environment=environment, release="shop@1", tags={"flavour": "vanilla", "shelf": str(i)}, user={"id": str(i)})
            ids[environment].append(event_id)
            weir.send(body, project)
    weir.send(error(environment="", exception={"values": [{"type": "ValueError", "value": 'a "quoted", broken\nsecond line'}]})[0], other)
    for _ in range(OTHERS - 1):
        weir.send(error(tags={"flavour": "mint"})[0], other)
    for to in (project, other):
        made = transaction(spans=2)
        weir.send(envelope(("transaction", made), event_id=made["event_id"]), to)
        weir.send(envelope(spans(3), logs("one", "two"), ("session", {"sid": "x"})), to)
    weir.until("SELECT count(*) AS n FROM errors", STAGING + PRODUCTION + OTHERS)
    weir.until("SELECT count(*) AS n FROM spans", 2 * (3 + 3))
    weir.until("SELECT count(*) AS n FROM logs", 2 * 2)
    weir.until_still()
    return ids


@pytest.fixture(scope="module")
def relations(weir, loaded):
    """Every table and view that a client can see."""
    rows = weir.query("SELECT table_name FROM information_schema.tables WHERE table_schema <> 'information_schema'")
    return {r["table_name"] for r in rows}


@pytest.fixture
def connection(weir, loaded):
    with weir.connect() as made:
        yield made


# -- weir query -----------------------------------------------------------------------------------------------------------


def test_json(weir, loaded):
    sql = "SELECT project, count(*) AS n, bool_or(unhandled) AS u, NULL AS nothing, avg(group_id) > 1.5 AS big FROM errors GROUP BY project ORDER BY project"
    assert weir.query(sql) == [
        {"project": "default", "n": 7, "u": False, "nothing": None, "big": True},
        {"project": "other", "n": 3, "u": False, "nothing": None, "big": True},
    ]
    assert weir.query("SELECT * FROM errors WHERE title = 'no such title'") == []
    row = weir.query("SELECT tags, frames, exceptions FROM errors WHERE environment = 'staging' ORDER BY tags['shelf'] LIMIT 1")[0]
    assert row["frames"][0]["function"] == "total" and row["frames"][0]["lineno"] == 7 and row["exceptions"][0]["type"] == "ValueError"
    assert row["tags"]["flavour"] == "vanilla"


def test_csv(weir, loaded):
    ran = weir.ask(f"SELECT title, environment, 1 AS n FROM errors WHERE title = '{BROKEN_TITLE}' UNION ALL SELECT 'plain', 'x', 2 ORDER BY n", form="csv")
    assert ran.returncode == 0, ran.stderr
    assert list(csv.reader(io.StringIO(ran.stdout))) == [["title", "environment", "n"], [BROKEN_TITLE, "", "1"], ["plain", "x", "2"]]


def test_table(weir, loaded):
    ran = weir.ask("SELECT environment, count(*) AS n FROM errors WHERE environment = 'staging' GROUP BY environment", form="table")
    assert ran.returncode == 0, ran.stderr
    cells = [[cell.strip() for cell in re.split(r"[|│┆]", line)] for line in ran.stdout.splitlines() if re.search(r"[|│┆]", line)]
    assert [row for row in cells if row[0] in ("environment", "staging")] == [["environment", "n"], ["staging", str(STAGING)]]


@pytest.mark.parametrize(
    ("sql", "want"),
    [
        ("SELEC 1", r"SELEC"),
        ("SELECT no_such_column FROM errors", r"no_such_column"),
        ("SELECT * FROM no_such_table", r"no_such_table"),
        ("SELECT " + "(" * 20000 + "1" + ")" * 20000, r"\S"),
        ("", r"\S"),
    ],
)
def test_wrong_sql_says_what_is_wrong(weir, loaded, sql, want):
    ran = weir.ask(sql)
    assert ran.returncode not in (0, None) and ran.stdout == "" and re.search(want, ran.stderr), ran
    assert "panick" not in ran.stderr
    assert weir.value("SELECT 1 AS n") == 1


def test_no_server_says_so(weir, loaded):
    dead = type(weir)(weir.data.with_name("nothing"))
    ran = dead.ask("SELECT 1", token="x")
    assert ran.returncode == 1 and str(dead.flight) in ran.stderr, ran


@pytest.mark.parametrize("token", ["no-such-token", "weir_" + "A" * 43, "ü"])
def test_a_bad_token_is_refused(weir, loaded, token):
    ran = weir.ask("SELECT 1", token=token)
    assert ran.returncode == 1 and "token" in ran.stderr.lower(), ran


# -- tables ---------------------------------------------------------------------------------------------------------------


def test_every_table_is_there(relations):
    assert TABLES | VIEWS <= relations


def test_every_relation_names_its_project(weir, relations):
    """project, project_id and received, and no type that clients misread."""
    rows = weir.query("SELECT table_name, column_name, data_type FROM information_schema.columns WHERE table_schema <> 'information_schema'")
    columns = {}
    for r in rows:
        columns.setdefault(r["table_name"], {})[r["column_name"]] = r["data_type"]
    for relation in relations:
        # An alert, and what was told of it, is of its subscription, and of a project only where its row names one.
        assert relation in LOGS or {"project", "project_id", "received"} <= set(columns[relation]), relation
        for name, data_type in columns[relation].items():
            assert "View" not in data_type and "UInt" not in data_type and "+00:00" not in data_type, f"{relation}.{name} is {data_type}"


def test_ids_compare_as_text(weir, loaded):
    event_id = loaded["staging"][0]
    assert weir.query(f"SELECT event_id FROM errors WHERE event_id = '{event_id}'") == [{"event_id": event_id}]
    assert weir.value(f"SELECT count(*) AS n FROM errors WHERE event_id IN ('{event_id}', '{loaded['staging'][1]}', 'nonsense')") == 2
    assert weir.value(f"SELECT count(*) AS n FROM errors WHERE event_id LIKE '{event_id[:12]}%'") == 1
    assert weir.value(f"SELECT count(*) AS n FROM errors WHERE '{event_id}' = event_id AND length(event_id) = 32") == 1
    assert weir.value(f"SELECT count(*) AS n FROM errors e JOIN payloads p ON e.event_id = p.event_id WHERE e.event_id = '{event_id}'") == 1
    ordered = [r["event_id"] for r in weir.query("SELECT event_id FROM errors ORDER BY event_id")]
    assert ordered == sorted(ordered)


def test_tags(weir, loaded):
    assert weir.value("SELECT count(*) AS n FROM errors WHERE tags['flavour'] = 'vanilla'") == STAGING + PRODUCTION
    assert weir.value("SELECT count(*) AS n FROM errors WHERE tags['flavour'] IS NULL AND project = 'other'") == 1
    assert [r["shelf"] for r in weir.query("SELECT tags['shelf'] AS shelf FROM errors WHERE environment = 'staging' ORDER BY shelf")] == ["0", "1", "2"]


def test_views(weir, loaded):
    assert weir.query("SELECT project, count(*) AS n FROM transactions WHERE event_id IS NOT NULL GROUP BY project ORDER BY project") == [
        {"project": "default", "n": 1},
        {"project": "other", "n": 1},
    ]
    errors, transactions = (weir.value(f"SELECT count(*) AS n FROM {table}") for table in ("errors", "transactions"))
    assert weir.value("SELECT count(*) AS n FROM events") == errors + transactions
    shelf = f"SELECT value FROM error_tags WHERE event_id = '{loaded['staging'][2]}' AND key = 'shelf'"
    assert weir.query(shelf) == [{"value": "2"}]
    assert weir.value("SELECT count(*) AS n FROM error_tags") == weir.value("SELECT sum(cardinality(tags)) AS n FROM errors")
    frames = weir.query(f"SELECT function, filename, lineno, in_app FROM error_frames WHERE event_id = '{loaded['staging'][0]}'")
    assert frames == [{"function": "total", "filename": "shop/cart.py", "lineno": 7, "in_app": True}]


def test_issues_join_errors(weir, loaded):
    rows = weir.query(
        "SELECT i.short_id, i.times_seen, i.user_count, count(*) AS n FROM issues i JOIN errors e ON e.group_id = i.group_id AND e.project_id = i.project_id "
        "WHERE i.project = 'default' GROUP BY i.short_id, i.times_seen, i.user_count"
    )
    assert rows == [{"short_id": "DEFAULT-1", "times_seen": STAGING + PRODUCTION, "user_count": max(STAGING, PRODUCTION), "n": STAGING + PRODUCTION}]


# -- tenants --------------------------------------------------------------------------------------------------------------


def test_a_token_sees_its_projects_only(weir, loaded, project, other, relations):
    tokens = {p.id: weir.create_token(f"only-{p.slug}", p.slug) for p in (project, other)}
    both = weir.create_token("both", project.slug, other.slug)
    filled = set()
    for relation in sorted(relations - LOGS):
        counts = {}
        for project_id, token in tokens.items():
            rows = weir.query(f"SELECT project_id, project, count(*) AS n FROM {relation} GROUP BY project_id, project", token)
            assert {r["project_id"] for r in rows} <= {project_id}, relation
            counts[project_id] = sum(r["n"] for r in rows)
        # A question that names the other project, or hides it in a subquery, or goes around the default schema.
        hidden = f"SELECT count(*) AS n FROM (SELECT * FROM {relation} WHERE project_id = {project.id} OR 1 = 1) WHERE project_id = {project.id}"
        assert weir.value(hidden, tokens[other.id]) == 0, relation
        everything = {token: weir.value(f"SELECT count(*) AS n FROM {relation}", token) for token in (weir.token, both)}
        assert set(everything.values()) == {sum(counts.values())}, relation
        filled |= {relation for n in counts.values() if n}
    assert {"errors", "issues", "spans", "logs", "outcomes", "payloads", "projects", "events", "transactions", "error_tags", "error_frames"} <= filled
    qualified = weir.query("SELECT table_catalog, table_schema FROM information_schema.tables WHERE table_name = 'errors'", tokens[other.id])[0]
    full = f"{qualified['table_catalog']}.{qualified['table_schema']}.errors"
    assert weir.value(f"SELECT count(*) AS n FROM {full}", tokens[other.id]) == OTHERS


def test_a_token_of_an_unknown_project_is_not_made(weir, loaded):
    ran = weir.run("token", "create", "nobody", "--project", "no-such-project")
    assert ran.returncode == 1 and "no-such-project" in ran.stderr and ran.stdout == "", ran


# -- ADBC -----------------------------------------------------------------------------------------------------------------

WRITES = [
    "DELETE FROM errors",
    "UPDATE errors SET title = 'x'",
    "INSERT INTO errors SELECT * FROM errors",
    "DROP TABLE errors",
    "DROP VIEW events",
    "TRUNCATE TABLE errors",
    "CREATE TABLE t AS SELECT 1",
    "CREATE VIEW v AS SELECT 1",
    "CREATE SCHEMA s",
    "COPY errors TO '/tmp/weir-tests-copy.csv'",
    "SELECT * FROM '/etc/passwd'",
    "CREATE EXTERNAL TABLE t STORED AS CSV LOCATION '/etc/passwd'",
    "SET datafusion.execution.batch_size = 1",
    "CREATE FUNCTION f() RETURNS INT RETURN 1",
    "PREPARE p AS SELECT 1",
]


def test_adbc_queries(connection):
    with connection.cursor() as cursor:
        cursor.execute("SELECT project, count(*) AS n FROM errors GROUP BY project ORDER BY n DESC")
        assert cursor.fetchall() == [("default", 7), ("other", 3)]
        cursor.execute("SELECT * FROM errors WHERE 1 = 0")
        assert cursor.fetchall() == [] and "event_id" in [c[0] for c in cursor.description]


def test_adbc_parameters(connection, loaded):
    with connection.cursor() as cursor:
        cursor.execute("SELECT count(*) FROM errors WHERE environment = $1", ("staging",))
        assert cursor.fetchone() == (STAGING,)
        cursor.execute(
            "SELECT count(*) FROM errors WHERE environment = $1 AND timestamp > $2 AND event_id = $3",
            ("staging", datetime.datetime(2020, 1, 1), loaded["staging"][0]),
        )
        assert cursor.fetchone() == (1,)
        cursor.execute("SELECT count(*) FROM errors WHERE tags['shelf'] = $1 AND project_id = $2", ("1", 1))
        assert cursor.fetchone() == (2,)
        assert cursor.adbc_prepare("SELECT title FROM errors WHERE environment = $1 AND project_id = $2") is not None


def test_adbc_prepared_statements_are_used_again(connection):
    with connection.cursor() as cursor:
        for environment, want in (("staging", STAGING), ("production", PRODUCTION + OTHERS - 1), ("none", 0), ("staging", STAGING)):
            cursor.execute("SELECT count(*) FROM errors WHERE environment = $1", (environment,))
            assert cursor.fetchone() == (want,)


def test_adbc_metadata(connection, relations):
    info = connection.adbc_get_info()
    assert "weir" in str(info.get("vendor_name", "")).lower() and info.get("vendor_version"), info
    assert {"TABLE", "VIEW"} <= {name.replace("BASE ", "") for name in connection.adbc_get_table_types()}
    objects = connection.adbc_get_objects(depth="all").read_all().to_pylist()
    listed = {t["table_name"]: t for c in objects for s in c["catalog_db_schemas"] or [] for t in s["db_schema_tables"] or []}
    assert relations <= set(listed)
    assert [c["column_name"] for c in listed["errors"]["table_columns"]][:3] == ["org_id", "project_id", "project"]
    assert all(t["table_columns"] for name, t in listed.items() if name in relations)
    one = connection.adbc_get_objects(depth="tables", table_name_filter="err%").read_all().to_pylist()
    names = {t["table_name"] for c in one for s in c["catalog_db_schemas"] or [] for t in s["db_schema_tables"] or []}
    assert names == {name for name in relations if name.startswith("err")}
    schema = connection.adbc_get_table_schema("errors")
    assert schema.field("event_id").type == pyarrow.utf8() and schema.field("group_id").type == pyarrow.int64()


def test_adbc_nested_types(connection, loaded, relations):
    with connection.cursor() as cursor:
        cursor.execute(f"SELECT tags, contexts, exceptions, frames, timestamp FROM errors WHERE event_id = '{loaded['staging'][1]}'")
        table = cursor.fetch_arrow_table()
        row = table.to_pylist()[0]
        assert ("shelf", "1") in row["tags"] and row["exceptions"][0]["value"] == "bad" and row["frames"][0]["module"] == "shop.cart"
        assert pyarrow.types.is_map(table.schema.field("tags").type) and table.schema.field("timestamp").type == pyarrow.timestamp("ms")
        # Every column of every relation survives the wire.
        for relation in sorted(relations):
            cursor.execute(f"SELECT * FROM {relation} LIMIT 50")
            cursor.fetch_arrow_table().validate(full=True)


def test_adbc_basic_authentication(weir, loaded):
    def count(**how):
        with flightsql.connect(f"grpc://127.0.0.1:{weir.flight}", db_kwargs=how, autocommit=True) as connection, connection.cursor() as cursor:
            cursor.execute("SELECT count(*) FROM errors")
            return cursor.fetchone()[0]

    for how in ({"username": "token", "password": weir.token}, {"username": weir.token, "password": ""}):
        assert count(**how) == STAGING + PRODUCTION + OTHERS
    for how in ({"username": "token", "password": "wrong"}, {"username": "wrong", "password": ""}, {}):
        with pytest.raises(flightsql.Error, match="(?i)token|unauth"):
            count(**how)


@pytest.mark.parametrize("statement", WRITES)
def test_writes_are_refused(weir, loaded, statement):
    with weir.connect() as connection, connection.cursor() as cursor:

        def as_query():
            cursor.execute(statement)
            cursor.fetchall()

        def as_update():
            cursor.adbc_statement.set_sql_query(statement)
            cursor.adbc_statement.execute_update()

        for way in (as_query, as_update):
            with pytest.raises(flightsql.Error) as refused:
                way()
            assert not re.search("(?i)panic|internal error", str(refused.value)), refused.value
    said = weir.ask(statement)
    assert said.returncode == 1 and re.search("weir answers .*; [A-Z ]+ is refused|not found", said.stderr), said.stderr
    assert weir.value("SELECT count(*) AS n FROM errors") == STAGING + PRODUCTION + OTHERS
