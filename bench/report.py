"""The report: every figure beside what it must be, what it should be, and the floor of the machine."""

import statistics


def spread_of(values):
    """What is kept of a figure that was measured several times."""
    return {"median": statistics.median(values), "least": min(values), "most": max(values), "rounds": len(values)}


def number(value):
    if value is None:
        return "–"
    if value == 0 or abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:.3g}" if abs(value) < 10 else f"{value:.1f}"


def spread(found, factor=1.0):
    return f"{number(found['median'] * factor)} ({number(found['least'] * factor)}–{number(found['most'] * factor)})"


def floor_sum(found):
    """What an event needs at the very least, in microseconds: the least of each kind of work that cannot be left out."""
    us = {name: value["median"] for name, value in found["floors"]["us_per_event"].items()}
    parts = {
        "HTTP": us["HTTP, nothing behind it"],
        "gunzip": us["gunzip, zlib-rs"],
        "parse": us["parse, sonic-rs"],
        "zstd": us["zstd 1, batches"],
    }
    return sum(parts.values()), parts


def table(header, rows):
    lines = ["| " + " | ".join(header) + " |", "|" + "---|" * len(header)]
    return "\n".join(lines + ["| " + " | ".join(str(cell) for cell in row) + " |" for row in rows])


def figures(found):
    floor_us, _ = floor_sum(found)
    whole, steady, syncs = found["whole_path"], found["steady"], found["floors"]["syncs"]
    latency = steady["latency"]
    ratio = whole["cpu_s_per_1000"]["median"] * 1000 / floor_us
    stored = found.get("stored")
    rows = [
        ("whole path, CPU-s per 1,000 events", "0.4", "0.2", spread(whole["cpu_s_per_1000"]), f"{number(floor_us / 1000)} (× {ratio:.2f}; aim ≤ × 2.5)"),
        ("events a second, load generator on the same cores", "", "", spread(whole["per_second"]), ""),
        (f"answered, p99 at {latency['rate']:.0f}/s and {latency['connections']} connections, ms", "10", "5", number(latency["answer_ms"]["p99"]), f"one sync {number(syncs['p50_ms'])}"),
        ("answered, p50, ms", "", "", number(latency["answer_ms"]["p50"]), ""),
        ("accepted to seen by SQL, p99, ms", "250", "100", number(latency["visible_ms"]["p99"]), ""),
        ("accepted to seen by SQL, p50, ms", "", "", number(latency["visible_ms"]["p50"]), ""),
        ("idle, % of a core", "1", "0.5", number(steady["idle_share"] * 100), ""),
        ("idle, resident MB", "100", "80", number(steady["idle_mb"]), ""),
        ("peak resident MB under load", "", "", spread(whole["peak_mb"]), ""),
        (f"disk per event, bytes, {found['whole_path']['cpu_s_per_1000']['rounds']} small runs", "", "", spread(whole["disk_bytes_per_event"]), ""),
        ("event by id, ms, with the client's start", "", "", spread(steady["by_id_ms"]), f"`SELECT 1` {number(steady['by_id_ms']['of_it_start'])}"),
        (f"restart after a kill, {steady['restart_events']:,} events, until healthy, s", "", "", number(steady["restart_s"]), ""),
        ("the same until caught up, s", "", "", number(steady["restart_caught_up_s"]), ""),
    ]
    if stored:
        rows += [
            (f"disk per event, bytes, {stored['events']:,} stored, everything in the data directory", "2,000", "1,500", number(stored["disk_bytes_per_event"]), ""),
            ("the same without files that were replaced and wait for `lake.grace`", "", "", number(stored["live_bytes_per_event"]), ""),
            (f"whole path, {stored['events']:,} events, CPU-s per 1,000", "0.4", "0.2", number(stored["cpu_s_per_1000"]), number(floor_us / 1000)),
            (f"event by id among {stored['events']:,}, ms, with the client's start", "50", "20", spread(stored["by_id_ms"]), f"`SELECT 1` {number(stored['by_id_ms']['of_it_start'])}"),
            (f"restart with {stored['events']:,} stored, s", "", "", number(stored["restart_s"]), ""),
            (f"resident MB, {stored['events']:,} events: peak, when loaded, idle after the restart", "", "", " / ".join(number(stored[name]) for name in ("peak_mb", "loaded_mb", "resident_mb")), ""),
            (f"events a second, {stored['events']:,} events", "", "", number(stored["per_second"]), ""),
        ]
    mixed = steady["mixed"]["verified"]
    rows.append((f"every recorded kind of request, {steady['mixed']['accepted']} of {steady['mixed']['sent']} accepted: rows found of rows wanted", "all", "all",
                 ", ".join(f"{name} {mixed['found'][name]} of {wanted}" for name, wanted in mixed["wanted"].items()), ""))
    text = table(("figure", "must", "aim", "measured: median (least–most)", "floor"), rows)
    if stored:
        text += "\n\nOn the disk: " + ", ".join(f"{name} {number(size / 1e6)} MB" for name, size in stored["disk_parts"].items()) + "."
    return text


def floors(found):
    rows = [(name, spread(value)) for name, value in sorted(found["floors"]["us_per_event"].items())]
    total, parts = floor_sum(found)
    rows.append((" + ".join(parts), number(total)))
    syncs = found["floors"]["syncs"]
    return (
        table(("floor", "CPU µs an event: median (least–most)"), rows)
        + f"\n\nSyncs of the disk: {number(syncs['per_second'])} a second, p50 {number(syncs['p50_ms'])} ms, p99 {number(syncs['p99_ms'])} ms."
    )


def beside(found):
    peer = found.get("bugsink")
    if peer is None:
        return ""
    if "unavailable" in peer:
        return f"\n## Beside Bugsink\n\nNot measured: {peer['unavailable']}\n"
    whole = found["whole_path"]
    rows = [
        ("CPU-s per 1,000 events", number(whole["cpu_s_per_1000"]["median"]), number(peer["cpu_s_per_1000"])),
        ("events a second", number(whole["per_second"]["median"]), number(peer["per_second"])),
        ("disk per event, bytes", number(whole["disk_bytes_per_event"]["median"]), number(peer["disk_bytes_per_event"])),
        ("resident MB", number(found["steady"]["idle_mb"]), number(peer["resident_mb"])),
    ]
    times = peer["cpu_s_per_1000"] / whole["cpu_s_per_1000"]["median"]
    return f"\n## Beside Bugsink {peer['version']}\n\n" + table(("", "Weir", "Bugsink"), rows) + f"\n\nThe same events, {peer['events']} of them: × {times:.0f} the CPU.\n"


def queries(found):
    asked = {name: row for name, row in found.items() if isinstance(row, dict)}
    rows = [(name, number(row["weir_ms"]), number(row["duckdb_ms"]), number(row["ratio"])) for name, row in asked.items()]
    summary = f"The {len(asked)} queries of `tests/corpus/workload/queries.sql` over {found['errors']:,} errors and {found['spans']:,} spans, two threads each, medians."
    return (
        f"\n## Queries beside DuckDB\n\n{summary}\nGeometric mean of the ratios: {number(found['geomean'])} (must 1.5, aim 1.0)."
        f" One event by its id: {number(found['event_by_id_ms'])} ms (must 50, aim 20).\n\n" + table(("query", "Weir, ms", "DuckDB, ms", "ratio"), rows) + "\n"
    )


def markdown(found):
    machine = found["machine"]
    text = f"""# Measured {found['began']}, {found['mode']} mode

{machine['cpu']}, {machine['cores']} cores, {machine['memory_gb']} GB, Linux {machine['kernel']}; load average {machine['load_at_start']:.1f} at the start, {machine['load_at_end']:.1f} at the end.
{machine['weir']} at {machine['revision']}, {machine['rustc']}, Python {machine['python']}.
Events of {found['floors']['bytes_per_event']:,} bytes on the average, {found['floors']['wire_bytes_per_event']:,} compressed; {found['whole_path']['cpu_s_per_1000']['rounds']} rounds.

{figures(found)}

## Floors

{floors(found)}
{beside(found)}"""
    return text + queries(found["queries"])
