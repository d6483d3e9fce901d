#!/usr/bin/env python3
"""Times the 25 benchmark queries against DuckDB over the same Parquet files, and prints one JSON object.

    bench/queries/run.py [--errors 1000000] [--spans 3000000] [--repeat 5] [--folder FOLDER] [--only Q1,Q5]

    {"Q1": {"weir_ms": …, "duckdb_ms": …, "ratio": …}, …, "event_by_id_ms": …, "geomean": …}

Both engines have two threads. Runs alternate, so that a busy machine slows both; times are medians of warm runs. It needs the
packages of tests/requirements.txt; the folder is made where it is missing, which takes half a minute.
"""

import argparse
import json
import math
import pathlib
import statistics
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tests/e2e"))

from workload import PROGRAM, Lake  # noqa: E402

WARM_UPS = 2


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--errors", type=int, default=1_000_000)
    parser.add_argument("--spans", type=int, default=3_000_000)
    parser.add_argument("--repeat", type=int, default=5)
    parser.add_argument("--folder", type=pathlib.Path)
    parser.add_argument("--only")
    asked = parser.parse_args()
    if not PROGRAM.exists():
        subprocess.run(["cargo", "build", "--release", "--locked", "--workspace", "--example", "workload"], cwd=ROOT, check=True)
    folder = asked.folder or pathlib.Path.home() / f".cache/weir/workload-{asked.errors}-{asked.spans}"
    report = {}
    with Lake(folder, asked.errors, asked.spans) as lake:
        for name, sql in lake.queries.items():
            if not asked.only or name in asked.only.split(","):
                report[name] = timed(lake, sql, asked.repeat)
                print(name, report[name], file=sys.stderr)
        by_id = f"SELECT * FROM errors WHERE event_id = '{lake.manifest['event_id']}'"
        lake.weir_ms(by_id)
        report["event_by_id_ms"] = round(statistics.median(lake.weir_ms(by_id) for _ in range(asked.repeat * 2)), 2)
    ratios = [row["ratio"] for row in report.values() if isinstance(row, dict)]
    report["geomean"] = round(math.exp(statistics.fmean(math.log(ratio) for ratio in ratios)), 3)
    print(json.dumps(report, indent=1))


def timed(lake, sql, repeat):
    for _ in range(WARM_UPS):
        lake.weir_ms(sql)
        lake.duck_ms(sql)
    pairs = [(lake.weir_ms(sql), lake.duck_ms(sql)) for _ in range(repeat)]
    weir, duck = (statistics.median(times) for times in zip(*pairs))
    return {"weir_ms": round(weir, 2), "duckdb_ms": round(duck, 2), "ratio": round(weir / duck, 3)}


if __name__ == "__main__":
    main()
