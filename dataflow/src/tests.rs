//! The graph as a whole: the same journal gives the same tables, with any number of workers and across restarts.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use arrow::array::RecordBatch;
use arrow::util::display::{ArrayFormatter, FormatOptions};
use bytes::Bytes;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use weir_catalog::Catalog;
use weir_journal::{Journal, Options};
use weir_operators::interpret::Knowledge;
use weir_protocol::envelope::Envelope;
use weir_protocol::record::{Body, Content, Intake, Project, Record};

use crate::snapshot::Snapshot;
use crate::{Graph, GraphOptions, MaintenanceOptions};

pub(crate) fn project(project_id: u64) -> Project {
    Project { org_id: 1, project_id, slug: format!("p{project_id}"), retention_days: 90 }
}

/// What SDKs sent, to three projects, each envelope twice: the second time it is a duplicate.
pub(crate) fn records() -> Vec<Record> {
    let folder = PathBuf::from(std::env::var_os("CARGO_MANIFEST_DIR").unwrap()).join("../tests/corpus/envelopes");
    let mut files: Vec<_> = std::fs::read_dir(folder).unwrap().map(|e| e.unwrap().path()).filter(|p| p.extension().is_some_and(|e| e == "envelope")).collect();
    files.sort();
    let mut records: Vec<Record> = (1..=3).map(|id| Record { received_ms: 1_795_330_000_000, content: Content::Project(project(id)) }).collect();
    for (index, file) in files.iter().chain(&files).enumerate() {
        let plain = Bytes::from(std::fs::read(file).unwrap());
        let Ok(envelope) = Envelope::parse(&plain) else { continue };
        let intake = Intake {
            project: project(index as u64 % files.len() as u64 % 3 + 1),
            key_id: Some(1),
            client_ip: "192.0.2.1".parse().ok(),
            user_agent: None,
            client: None,
            event_id: envelope.header.event_id,
            outcomes: Vec::new(),
            body: Some(Body::identity(plain)),
        };
        records.push(Record { received_ms: 1_795_330_000_000 + index as u64 * 997, content: Content::Intake(Box::new(intake)) });
    }
    records
}

fn rows_of(batch: &RecordBatch) -> Vec<String> {
    let options = FormatOptions::default();
    let columns: Vec<_> = batch.columns().iter().map(|c| ArrayFormatter::try_new(c.as_ref(), &options).unwrap()).collect();
    (0..batch.num_rows()).map(|row| columns.iter().map(|c| c.value(row).to_string()).collect::<Vec<_>>().join("|")).collect()
}

/// All rows of all tables, in no order.
pub(crate) fn all_rows(snapshot: &Snapshot) -> BTreeMap<&'static str, Vec<String>> {
    let mut tables = BTreeMap::new();
    for (name, table) in &snapshot.tables {
        let mut rows: Vec<String> = table.hot.iter().flat_map(rows_of).collect();
        for file in table.cold.iter() {
            let schema = weir_operators::schema::table(name).unwrap().stored_schema();
            let reader = ParquetRecordBatchReaderBuilder::try_new(std::fs::File::open(&file.path).unwrap()).unwrap();
            assert_eq!(reader.schema(), schema, "what is read back from {name} has the type of what was written");
            rows.extend(reader.build().unwrap().flat_map(|batch| rows_of(&batch.unwrap())));
        }
        rows.sort();
        tables.insert(*name, rows);
    }
    tables
}

/// Drains the journal and commits.
pub(crate) async fn stop(journal: Journal, graph: Graph) {
    let stopping = move || {
        journal.close();
        graph.stop()
    };
    tokio::task::spawn_blocking(stopping).await.unwrap().unwrap();
}

/// Runs the records through graphs of the given numbers of workers, one after the other on one data directory, each taking an
/// equal share; the last one's tables are returned.
async fn run(workers: &[usize], commit_age_max: Duration) -> BTreeMap<&'static str, Vec<String>> {
    let dir = tempfile::tempdir().unwrap();
    let records = records();
    let share = records.len().div_ceil(workers.len());
    let mut tables = BTreeMap::new();
    for (part, workers) in records.chunks(share).zip(workers) {
        let catalog = Catalog::open(&dir.path().join("catalog.sqlite")).await.unwrap();
        let (journal, _) = Journal::open(Options::new(dir.path().join("journal"))).unwrap();
        let options = GraphOptions {
            workers: *workers,
            lake: dir.path().join("lake"),
            commit_age_max,
            commit_bytes_max: 64 << 20,
            maintenance: MaintenanceOptions::default(),
            share: crate::Share::All,
            knowledge: Knowledge::default(),
        };
        let graph = Graph::start(options, catalog.clone(), journal.clone()).await.unwrap();
        for record in part {
            journal.append(record.clone()).await.unwrap();
        }
        let progress = graph.progress();
        while progress.report().visible_offsets < journal.ends() {
            assert_eq!(progress.report().failure, None);
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        let snapshots = graph.snapshots();
        stop(journal, graph).await;
        tables = all_rows(&snapshots.latest());
        assert!(snapshots.latest().tables["errors"].hot.is_empty(), "a stop commits everything");
        catalog.close().await;
    }
    tables
}

#[tokio::test(flavor = "multi_thread")]
async fn the_same_journal_gives_the_same_tables() {
    let once = run(&[1], Duration::from_secs(60)).await;
    assert!(once["errors"].len() > 20 && once["spans"].len() > 60 && once["logs"].len() > 60 && once["issues"].len() > 10, "{:?}", once.keys());
    for (name, workers, commit_age_max) in [
        ("two workers", &[2][..], Duration::from_secs(60)),
        ("four workers, commits all the time", &[4], Duration::from_millis(1)),
        ("restarts at other widths", &[1, 3, 2], Duration::from_secs(60)),
    ] {
        let again = run(workers, commit_age_max).await;
        for (table, rows) in &once {
            let missing = rows.iter().filter(|row| !again[table].contains(row)).count();
            assert!(&again[table] == rows, "{table}, {name}: {} rows for {}, {missing} of them missing", again[table].len(), rows.len());
        }
    }
}
