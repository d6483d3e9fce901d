"""The benchmark queries over a generated lake, asked of Weir's engine and of DuckDB over the same Parquet files."""

import datetime
import decimal
import json
import os
import pathlib
import re
import subprocess
import time
import uuid

import duckdb

HERE = pathlib.Path(__file__).resolve().parent
TARGET = pathlib.Path(os.environ.get("CARGO_TARGET_DIR", pathlib.Path.home() / ".cache/weir/target")).resolve()
PROGRAM = TARGET / "release/examples/workload"
QUERIES = HERE.parent / "corpus/workload/queries.sql"
THREADS = 2

# What Weir has as views, over the columns that the queries use.
VIEWS = {
    "error_tags": "SELECT org_id, project_id, group_id, event_id, timestamp, tag.key AS key, tag.value AS value "
    "FROM (SELECT *, unnest(map_entries(tags)) AS tag FROM errors)",
    "error_frames": "SELECT org_id, project_id, group_id, event_id, timestamp, frame.function AS function, frame.filename AS filename, frame.in_app AS in_app "
    "FROM (SELECT *, unnest(frames) AS frame FROM errors)",
}


def queries(placeholders):
    """{name: SQL} with the placeholders filled in."""
    found = {}
    for part in re.split(r"^-- (?=Q\d+ )", QUERIES.read_text(), flags=re.M)[1:]:
        title, sql = part.split("\n", 1)
        sql = sql.strip().rstrip(";")
        for name in sorted(placeholders, key=len, reverse=True):
            sql = sql.replace(name, placeholders[name])
        found[title.split(" ")[0]] = sql
    return found


class Lake:
    """A generated lake with both engines over it."""

    def __init__(self, folder, errors, spans):
        self.folder = pathlib.Path(folder)
        self.weir = None
        if not (self.folder / "manifest.json").exists():
            subprocess.run([PROGRAM, "generate", self.folder, str(errors), str(spans)], check=True)
        self.manifest = json.loads((self.folder / "manifest.json").read_text())
        self.queries = queries(self.manifest["placeholders"])

    def __enter__(self):
        self.weir = subprocess.Popen([PROGRAM, "serve", self.folder], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.duck = duckdb.connect(config={"threads": THREADS})
        for table in sorted({file["table"] for file in self.manifest["files"]}):
            self.duck.execute(f"CREATE VIEW {table} AS SELECT * FROM read_parquet('{self.folder}/{table}/*/*.parquet', hive_partitioning = false)")
        for name, sql in VIEWS.items():
            self.duck.execute(f"CREATE VIEW {name} AS {sql}")
        return self

    def __exit__(self, *_):
        self.duck.close()
        self.weir.stdin.close()
        self.weir.wait(60)
        self.weir.stdout.close()

    def ask_weir(self, sql, rows=False):
        """The answer of one statement; its rows where they are wanted."""
        self.weir.stdin.write(json.dumps(("rows:" if rows else "") + sql) + "\n")
        self.weir.stdin.flush()
        answer = json.loads(self.weir.stdout.readline())
        if "error" in answer:
            raise RuntimeError(f"{sql}: {answer['error']}")
        return answer

    def weir_rows(self, sql):
        answer = self.ask_weir(sql, rows=True)
        return [tuple(plain(row[column]) for column in answer["columns"]) for row in answer["rows"]]

    def duck_rows(self, sql):
        return [tuple(plain(value) for value in row) for row in self.duck.execute(sql).fetchall()]

    def weir_ms(self, sql):
        return self.ask_weir(sql)["ms"]

    def duck_ms(self, sql):
        started = time.perf_counter()
        self.duck.execute(sql).fetch_arrow_table()
        return (time.perf_counter() - started) * 1000


def plain(value):
    """Values as both can be compared: ids without hyphens, times in one form, numbers to six digits."""
    if isinstance(value, uuid.UUID):
        return value.hex
    if isinstance(value, datetime.datetime):
        return value.isoformat(timespec="microseconds")
    if isinstance(value, str) and re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?", value):
        return datetime.datetime.fromisoformat(value).isoformat(timespec="microseconds")
    if isinstance(value, (int, float, decimal.Decimal)) and not isinstance(value, bool):
        return float(f"{float(value):.6g}")
    return value
