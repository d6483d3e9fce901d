//! A caller sees its rows, in every table and view, whatever it asks.

use std::collections::BTreeSet;
use std::sync::Arc;

use datafusion::arrow::array::{ArrayRef, Int64Array, StringArray};
use serde_json::json;
use weir_dataflow::snapshot::{Snapshot, TableSnapshot};
use weir_operators::schema;

use super::filled::{Columns, filled};
use super::{engine, everything, options, rows};
use crate::scope::Scope;

/// In every table a row of project 1, two of project 2, and four of another organisation, whose project has number 1 too.
fn snapshot() -> Snapshot {
    let mut snapshot = Snapshot { tick_ms: 1_000_000, ..Snapshot::default() };
    for table in schema::tables() {
        let columns = Columns::from([
            ("org_id", Arc::new(Int64Array::from(vec![1, 1, 1, 2, 2, 2, 2])) as ArrayRef),
            ("project_id", Arc::new(Int64Array::from(vec![1, 2, 2, 1, 1, 1, 3])) as ArrayRef),
            ("project", Arc::new(StringArray::from(vec!["a", "b", "b", "x", "x", "x", "y"])) as ArrayRef),
        ]);
        let batch = filled(table, 7, columns).unwrap();
        snapshot.tables.insert(table.name, TableSnapshot { hot: [batch].into(), cold: [].into() });
    }
    snapshot
}

fn projects(org_id: u64, projects: Option<&[u64]>) -> Scope {
    Scope { org_id, projects: projects.map(|ids| ids.iter().copied().collect()), name: "test".to_owned() }
}

#[tokio::test]
async fn every_table_and_view_is_cut_to_the_scope() {
    let folder = tempfile::tempdir().unwrap();
    let engine = engine(snapshot(), options(folder.path()));
    let cases: [(Scope, &[i64]); 6] = [
        (projects(1, None), &[1, 2, 2]),
        (projects(1, Some(&[1])), &[1]),
        (projects(1, Some(&[2])), &[2, 2]),
        (projects(1, Some(&[])), &[]),
        (projects(2, Some(&[1, 2])), &[1, 1, 1]),
        (projects(3, None), &[]),
    ];
    // Views by unnesting have no rows here; the tests of the whole program fill them.
    let of_rows: BTreeSet<&str> = schema::tables().iter().map(|table| table.name).chain(["events"]).collect();
    for (scope, want) in cases {
        let listed = engine.tables(&scope).await.unwrap();
        // The tables, the views, the history of alerts and the log of deliveries.
        assert_eq!(listed.len(), schema::tables().len() + crate::views::VIEWS.len() + 2);
        // This engine keeps no subscriptions, so nobody can be asked for their history.
        for (name, kind, _) in listed.into_iter().filter(|(name, ..)| name != "alerts" && name != "deliveries") {
            let twice = if name == "events" { 1 } else { usize::from(of_rows.contains(name.as_str())) };
            let want: Vec<i64> = want.iter().copied().filter(|_| twice == 1).collect();
            for from in [name.clone(), format!("(SELECT * FROM {name} WHERE true OR project_id = 2) t"), format!("weir.public.{name}")] {
                let got = rows(&engine, &scope, &format!("SELECT project_id FROM {from} ORDER BY 1")).await.unwrap();
                let got: Vec<i64> = got.as_array().unwrap().iter().map(|row| row[0].as_i64().unwrap()).collect();
                assert_eq!(got, want, "{kind} {from} as {scope:?}");
            }
        }
    }
}

#[tokio::test]
async fn what_joins_groups_and_hides_is_cut_as_well() {
    let folder = tempfile::tempdir().unwrap();
    let engine = engine(snapshot(), options(folder.path()));
    let scope = projects(1, Some(&[2]));
    for (sql, want) in [
        ("SELECT count(*) FROM errors a CROSS JOIN issues b", json!([[4]])),
        ("SELECT count(*) FROM (SELECT 1) one LEFT JOIN errors e ON true", json!([[2]])),
        ("SELECT (SELECT count(*) FROM errors WHERE org_id = 2)", json!([[0]])),
        ("SELECT project_id FROM (VALUES (1), (2), (3)) t(project_id) WHERE project_id IN (SELECT project_id FROM errors)", json!([[2]])),
        ("WITH e AS (SELECT * FROM events) SELECT project, count(*) FROM e GROUP BY project", json!([["b", 2]])),
        ("SELECT project_id FROM errors UNION SELECT project_id FROM spans", json!([[2]])),
    ] {
        assert_eq!(rows(&engine, &scope, sql).await.unwrap(), want, "{sql}");
    }
}

#[tokio::test]
async fn a_session_of_one_scope_serves_no_other() {
    let folder = tempfile::tempdir().unwrap();
    let engine = engine(snapshot(), options(folder.path()));
    for _ in 0..2 {
        for (scope, want) in [(everything(), 3), (projects(1, Some(&[1])), 1), (projects(2, None), 4)] {
            assert_eq!(rows(&engine, &scope, "SELECT count(*) FROM errors").await.unwrap(), json!([[want]]));
        }
    }
}

#[tokio::test]
async fn statements_read_the_newest_snapshot_and_its_time() {
    let folder = tempfile::tempdir().unwrap();
    let engine = engine(snapshot(), options(folder.path()));
    assert_eq!(rows(&engine, &everything(), "SELECT now() = to_timestamp_millis(1000000)").await.unwrap(), json!([[true]]));
}
