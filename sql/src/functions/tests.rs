//! What the functions of the field answer, with their rules for nothing and for nulls.

use serde_json::json;
use weir_dataflow::snapshot::Snapshot;

use crate::tests::{engine, everything, options, rows};

#[tokio::test]
async fn answers() {
    let folder = tempfile::tempdir().unwrap();
    let engine = engine(Snapshot { tick_ms: 7_200_000, ..Snapshot::default() }, options(folder.path()));
    const SPANS: &str = "(VALUES (100.0, 'ok', 'u1', 1), (300.0, 'internal_error', 'u2', 2), (900.0, 'cancelled', '', 3), (1300.0, 'not_found', 'u1', NULL)) \
                         t(d, status, u, n)";
    const SESSIONS: &str =
        "(VALUES ('r1', 'exited', 7, 1), ('r1', 'crashed', 3, 2), ('r1', 'exited', 5, 2), ('r2', 'errored', 1, NULL)) t(release, status, q, u)";
    const TIMES: &str =
        "(VALUES (TIMESTAMP '1970-01-01 01:10:00', 'a'), (TIMESTAMP '1970-01-01 01:20:00', 'b'), (TIMESTAMP '1970-01-01 00:30:00', 'c')) t(received, id)";
    let none = |from: &str| format!("{from} WHERE false");
    for (select, from, want) in [
        // One transaction of a second: tolerated, not failed.
        ("apdex(d, 300), failure_rate(status)", "(VALUES (1000.0, 'ok')) t(d, status)".to_owned(), json!([[0.5, 0.0]])),
        ("apdex(d), apdex(d, 100), apdex(CAST(NULL AS DOUBLE))", SPANS.to_owned(), json!([[0.625, 0.375, null]])),
        ("apdex(d, 300), failure_rate(status)", none(SPANS), json!([[null, null]])),
        ("apdex(n, 1)", SPANS.to_owned(), json!([[(1.0 + 2.0 / 2.0) / 3.0]])),
        ("failure_count(status), failure_rate(status)", SPANS.to_owned(), json!([[2, 0.5]])),
        ("failure_count(status)", none(SPANS), json!([[0]])),
        ("count_if(d > 200), count_if(status, '=', 'ok'), count_if(d, 'greaterOrEquals', 900), count_if(n, '<', 2.5)", SPANS.to_owned(), json!([[3, 1, 2, 2]])),
        ("count_if(d > 200)", none(SPANS), json!([[0]])),
        ("count_at_least(d, 300), count_at_least(n, 2)", SPANS.to_owned(), json!([[3, 2]])),
        // The empty user is none.
        ("count_unique(u), count_unique(n)", SPANS.to_owned(), json!([[2, 3]])),
        ("count_unique(u)", "(VALUES (''), (NULL)) t(u)".to_owned(), json!([[0]])),
        ("count_miserable(u, d, 300), count_miserable(u, d, 200)", SPANS.to_owned(), json!([[1, 1]])),
        ("user_misery(u, d, 300)", SPANS.to_owned(), json!([[(1.0 + 5.8875) / (2.0 + 117.75)]])),
        ("user_misery(u, d, 300)", none(SPANS), json!([[0.0]])),
        ("any(status), any(n)", SPANS.to_owned(), json!([["cancelled", 1]])),
        ("p100(d), p100(n), p95(CAST(NULL AS DOUBLE))", SPANS.to_owned(), json!([[1300.0, 3.0, null]])),
        ("p50(d), sum(d)", none(SPANS), json!([[null, null]])),
        ("crash_free_rate(status, q)", format!("{SESSIONS} WHERE release = 'r1'"), json!([[0.8]])),
        ("crash_free_rate(status, q), crash_free_users(status, u)", none(SESSIONS), json!([[null, null]])),
        ("release, crash_free_users(status, u)", format!("{SESSIONS} GROUP BY release ORDER BY release"), json!([["r1", 0.5], ["r2", null]])),
        ("last_seen(received) = TIMESTAMP '1970-01-01 01:20:00', latest_event(id, received)", TIMES.to_owned(), json!([[true, "b"]])),
        ("latest_event(id, received)", none(TIMES), json!([[null]])),
        ("eps(60), epm(60)", TIMES.to_owned(), json!([[0.05, 3.0]])),
        // The range is that of WHERE, until now() where nothing says otherwise, and the width of buckets where there are any.
        ("epm()", format!("{TIMES} WHERE received > now() - INTERVAL '1 hour'"), json!([[2.0 / 60.0]])),
        ("epm()", format!("{TIMES} WHERE received >= TIMESTAMP '1970-01-01 00:00:00' AND received < TIMESTAMP '1970-01-01 00:40:00'"), json!([[1.0 / 40.0]])),
        (
            "date_bin(INTERVAL '30 minutes', received) AS b, epm()",
            format!("{TIMES} GROUP BY b ORDER BY b"),
            json!([["1970-01-01T00:30:00", 1.0 / 30.0], ["1970-01-01T01:00:00", 2.0 / 30.0]]),
        ),
        (
            "date_trunc('hour', received) AS b, eps() * 3600",
            format!("{TIMES} GROUP BY b ORDER BY b"),
            json!([["1970-01-01T00:00:00", 1.0], ["1970-01-01T01:00:00", 2.0]]),
        ),
        ("count_range(received, TIMESTAMP '1970-01-01 01:00:00', now()), avg_range(1, received, now(), now())", TIMES.to_owned(), json!([[2, null]])),
        ("http_response_rate(s, 5), http_response_rate(s, 3)", "(VALUES (500), (503), (200), (NULL)) t(s)".to_owned(), json!([[2.0 / 3.0, 0.0]])),
        ("http_response_rate(s, 5)", "(VALUES (CAST(NULL AS INT))) t(s)".to_owned(), json!([[0.0]])),
        ("trace_status_rate(status, 'ok')", SPANS.to_owned(), json!([[0.25]])),
        ("cache_miss_rate(hit)", "(VALUES (true), (false), (NULL)) t(hit)".to_owned(), json!([[0.5]])),
        ("division(d, n)", "(VALUES (1, 4), (2, 8)) t(d, n)".to_owned(), json!([[0.25]])),
        ("division(d, n)", "(VALUES (1, 0)) t(d, n)".to_owned(), json!([[0.0]])),
        ("avg_compare(r, d, 'a', 'b')", "(VALUES ('a', 10), ('b', 15)) t(r, d)".to_owned(), json!([[0.5]])),
        (
            "count_web_vitals(v, 'lcp', 'good'), count_web_vitals(v, 'lcp', 'meh'), count_web_vitals(v, 'lcp', 'poor')",
            "(VALUES (100), (2500), (4000), (9000)) t(v)".to_owned(),
            json!([[1, 1, 2]]),
        ),
        ("performance_score(s, w), opportunity_score(s, w)", "(VALUES (0.5, 1.0), (0.25, 0.5)) t(s, w)".to_owned(), json!([[0.5, 0.75]])),
        (
            "histogram(d, 100), histogram(d, 100, 50), histogram(d, 10, 0, 2), histogram(d, 0)",
            "(VALUES (149)) t(d)".to_owned(),
            json!([[100.0, 50.0, 290.0, null]]),
        ),
        // Parts of a larger expression, under HAVING and ORDER BY, with FILTER, and over a window.
        ("1 - failure_rate(status) FILTER (WHERE d < 1000)", SPANS.to_owned(), json!([[1.0 - 1.0 / 3.0]])),
        ("status", format!("{SPANS} GROUP BY status HAVING apdex(d, 300) < 1 AND p95(d) < 1200 ORDER BY p50(d)"), json!([["cancelled"]])),
        ("d, failure_count(status) OVER (ORDER BY d)", format!("{SPANS} ORDER BY d"), json!([[100.0, 0], [300.0, 1], [900.0, 1], [1300.0, 2]])),
        (
            "d, p100(d) OVER (ORDER BY d ROWS BETWEEN 1 PRECEDING AND CURRENT ROW) FROM (VALUES (3), (1), (2)) t(d) ORDER BY d --",
            "x".to_owned(),
            json!([[1, 1.0], [2, 2.0], [3, 3.0]]),
        ),
        ("status, count_unique(u) AS users", format!("{SPANS} GROUP BY GROUPING SETS ((status), ()) ORDER BY users DESC, status LIMIT 1"), json!([[null, 2]])),
    ] {
        let sql = format!("SELECT {select} FROM {from}");
        let got = rows(&engine, &everything(), &sql).await.unwrap_or_else(|error| panic!("{sql}: {error}"));
        assert_eq!(got, want, "{sql}");
    }
}

#[tokio::test]
async fn quantiles_are_within_a_hundredth() {
    let folder = tempfile::tempdir().unwrap();
    let engine = engine(Snapshot::default(), options(folder.path()));
    let near = |value: &serde_json::Value, want: f64| (value.as_f64().unwrap() - want).abs() <= want * 0.0101;
    let all = "p50(v), p75(v), p90(v), p95(v), p99(v), percentile(v, 0.25), percentile(v, 0), percentile_range(v, 0.5, now(), now(), now())";
    let got = rows(&engine, &everything(), &format!("SELECT {all} FROM (SELECT value AS v FROM generate_series(1, 100000))")).await.unwrap();
    for (at, want) in [50_000.0, 75_000.0, 90_000.0, 95_000.0, 99_000.0, 25_000.0, 1.0].into_iter().enumerate() {
        assert!(near(&got[0][at], want), "{at}: {got}");
    }
    assert!(got[0][7].is_null());
    let groups =
        rows(&engine, &everything(), "SELECT v % 3 AS g, p50(v * (1 + v % 3)) FROM (SELECT value AS v FROM generate_series(1, 30000)) GROUP BY g ORDER BY g")
            .await
            .unwrap();
    for (at, want) in [15_000.0, 30_000.0, 45_000.0].into_iter().enumerate() {
        assert!(near(&groups[at][1], want), "{groups}");
    }
    let windows = rows(
        &engine,
        &everything(),
        "SELECT p50(v) OVER (ORDER BY v ROWS BETWEEN 2 PRECEDING AND CURRENT ROW) AS m FROM (VALUES (10), (20), (30), (40)) t(v) ORDER BY v",
    )
    .await
    .unwrap();
    for (at, want) in [10.0, 10.0, 20.0, 30.0].into_iter().enumerate() {
        assert!(near(&windows[at][0], want), "{windows}");
    }
    // All quantiles of a column read one sketch.
    let plan = rows(&engine, &everything(), &format!("EXPLAIN SELECT {all} FROM (SELECT value AS v FROM generate_series(1, 9))")).await.unwrap();
    let (_, aggregates) = plan[0][1].as_str().unwrap().split_once("aggr=[[").unwrap();
    assert!(!aggregates.contains("aggr=[["), "{plan}");
    assert_eq!(aggregates.matches("ddsketch(CAST(v AS Float64))").count(), 1, "{plan}");
}

#[tokio::test]
async fn wrong_calls_say_what_is_wrong() {
    let folder = tempfile::tempdir().unwrap();
    let engine = engine(Snapshot::default(), options(folder.path()));
    for (call, want) in [
        ("apdex()", "apdex(duration, threshold = 300) was given 0 arguments"),
        ("apdex(1, 2, 3)", "was given 3 arguments"),
        ("apdex('x')", "duration must be a number"),
        ("failure_rate(1)", "status must be text"),
        ("epm()", "say it in seconds, as in epm(3600)"),
        ("count_if(1, '~', 2)", "count_if knows the operators"),
        ("count_if(1, s, 2)", "must be a text in quotes"),
        ("count_web_vitals(1, 'xyz', 'good')", "knows lcp"),
        ("percentile(1, 95)", "95 is no fraction"),
        ("apdex(DISTINCT 1)", "takes no DISTINCT"),
        ("is_handled(s)", "takes the column exceptions"),
    ] {
        let error = rows(&engine, &everything(), &format!("SELECT {call} FROM (VALUES ('a')) t(s)")).await.unwrap_err().to_string();
        assert!(error.contains(want), "{call}: {error}");
    }
}

#[tokio::test]
async fn show_functions_documents_them() {
    let folder = tempfile::tempdir().unwrap();
    let engine = engine(Snapshot::default(), options(folder.path()));
    let listed = rows(&engine, &everything(), "SHOW FUNCTIONS").await.unwrap();
    let listed = listed.as_array().unwrap();
    for name in super::catalogue::AGGREGATES.iter().map(|d| d.name).chain([
        "ddsketch",
        "sketch_quantile",
        "histogram",
        "is_handled",
        "not_handled",
        "count",
        "date_bin",
    ]) {
        let row = listed.iter().find(|row| row[0] == name).unwrap_or_else(|| panic!("{name} is not listed"));
        assert!((2..=3).all(|at| row[at].as_str().is_some_and(|text| !text.is_empty())), "{row}");
    }
    let names = rows(&engine, &everything(), "SHOW FUNCTIONS LIKE 'p9%'").await.unwrap();
    assert_eq!(names.as_array().unwrap().iter().map(|row| row[0].as_str().unwrap()).collect::<Vec<_>>(), ["p90", "p95", "p99"]);
    // Every example parses and plans, which needs the tables.
    for definition in super::catalogue::AGGREGATES {
        engine.plan(&everything(), definition.example).await.unwrap_or_else(|error| panic!("{}: {error}", definition.example));
    }
}

#[tokio::test]
async fn handled_exceptions() {
    let folder = tempfile::tempdir().unwrap();
    let engine = engine(Snapshot::default(), options(folder.path()));
    let lists =
        "(SELECT make_array(named_struct('handled', true), named_struct('handled', false)) AS e UNION ALL SELECT make_array(named_struct('handled', true)))";
    let got = rows(&engine, &everything(), &format!("SELECT is_handled(e) AS h, not_handled(e) FROM {lists} t ORDER BY h")).await.unwrap();
    assert_eq!(got, json!([[false, true], [true, false]]));
}
