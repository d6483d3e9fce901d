//! A commit: every table's new files, the changed state, and how far into the journal they reach, in one transaction.

use std::collections::{BTreeMap, BTreeSet};

use sqlx::{AnyConnection, AssertSqlSafe, Row};
use weir_protocol::deletion::Deletion;

use crate::alerts::ROWS_PER_STATEMENT;
use crate::database::{Catalog, Dialect, flag};
use crate::error::CatalogError;
use crate::lake::{Change, Lake, TableIds};
use crate::state::{GroupHashRow, IssueStateRow};

/// Taken like a partition by the process that maintains the lake.
pub const MAINTENANCE: u16 = u16::MAX;

/// What a commit makes durable.
#[derive(Debug, Clone, Default)]
pub struct Commit {
    /// The generation of the process; see [`Catalog::take_partition`].
    pub generation: i64,
    /// The tick up to which the tables go.
    pub tick_ms: u64,
    /// The offset after the last record that they hold, by partition of the journal.
    pub offsets: BTreeMap<u16, u64>,
    /// New files, already synced to disk.
    pub files: Vec<NewFile>,
    /// Changed issues.
    pub issues: Vec<IssueStateRow>,
    /// New grouping hashes.
    pub hashes: Vec<GroupHashRow>,
    /// Changed projects: id and state.
    pub projects: Vec<(u64, String)>,
    /// Deletions that were asked for, by their place in the journal.
    pub deletions: Vec<(i64, Deletion)>,
    /// Deletions that were carried out.
    pub erased: Vec<i64>,
    /// Issues that are gone.
    pub removed_issues: Vec<(u64, i64)>,
    /// Grouping hashes that lead nowhere any more.
    pub removed_hashes: Vec<(u64, [u8; 16])>,
    /// The last number of a short id, by project, where an issue is gone.
    pub issue_numbers: Vec<(u64, u64)>,
}

/// A Parquet file to be registered.
#[derive(Debug, Clone)]
pub struct NewFile {
    /// Its table.
    pub table: &'static str,
    /// Its path below the table's folder.
    pub path: String,
    /// Its rows.
    pub rows: u64,
    /// Its size in bytes.
    pub bytes: u64,
    /// The size of its footer: the number in its last eight bytes.
    pub footer_bytes: u64,
    /// Checksums of its blocks, by which readers find damage; the catalog does not read them.
    pub checksums: Vec<u8>,
    /// Year, month and day of its rows.
    pub date: (i32, u32, u32),
    /// Statistics of every leaf column. Readers trust them: one that is too narrow makes them skip rows.
    pub statistics: Vec<ColumnStatistics>,
}

/// What is known of a leaf column of a file. Bounds may be wider than the values, never narrower.
#[derive(Debug, Clone, PartialEq)]
pub struct ColumnStatistics {
    /// The column's path, `frames.element.lineno`.
    pub path: String,
    /// Compressed size.
    pub bytes: u64,
    /// Values, nulls included.
    pub values: u64,
    /// Nulls.
    pub nulls: u64,
    /// Lower and upper bound as DuckLake writes them; `None` where all values are null.
    pub bounds: Option<(String, String)>,
}

/// What a commit was given.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Committed {
    /// The lake's snapshot.
    pub snapshot_id: i64,
}

impl Catalog {
    /// Takes a partition of the journal over: whoever held it before cannot commit any more. Returns the generation with
    /// which to commit.
    pub async fn take_partition(&self, partition: u16, now_ms: u64) -> Result<i64, CatalogError> {
        self.take_partitions(&[partition], now_ms).await
    }

    /// Takes partitions of the journal over, all under one generation, which no other take ever has. Returns the generation with which
    /// to commit.
    pub async fn take_partitions(&self, partitions: &[u16], now_ms: u64) -> Result<i64, CatalogError> {
        // It waits for a commit that is under way, so that what is restored afterwards is all that there will be of the one before.
        let mut writing = self.begin_writing().await?;
        let generation: i64 = sqlx::query_scalar("SELECT COALESCE(MAX(generation), 0) + 1 FROM weir_partition_owner").fetch_one(&mut *writing).await?;
        for partition in partitions {
            sqlx::query(
                "INSERT INTO weir_partition_owner (partition_id, generation, taken_ms) VALUES ($1, $2, $3)
                 ON CONFLICT (partition_id) DO UPDATE SET generation = excluded.generation, taken_ms = excluded.taken_ms",
            )
            .bind(i64::from(*partition))
            .bind(generation)
            .bind(now_ms as i64)
            .execute(&mut *writing)
            .await?;
        }
        writing.commit().await?;
        Ok(generation)
    }

    /// Commits. Either all of it is there afterwards, or none of it.
    ///
    /// # Errors
    /// [`CatalogError::Fenced`] where another process took the partition over; [`CatalogError::Database`] else.
    pub async fn commit(&self, lake: &Lake, commit: &Commit) -> Result<Committed, CatalogError> {
        let mut transaction = self.begin_writing().await?;
        check_fence(&mut transaction, &commit.offsets, commit.generation).await?;
        if let Some(snapshot_id) = committed_before(&mut transaction, commit).await? {
            return Ok(Committed { snapshot_id });
        }
        let snapshot_id = insert_snapshot(&mut transaction, lake, commit).await?;
        for (partition, offset) in &commit.offsets {
            sqlx::query(
                "INSERT INTO weir_commit VALUES ($1, $2, $3, $4)
                 ON CONFLICT (partition_id) DO UPDATE SET next_offset = excluded.next_offset, tick_ms = excluded.tick_ms, snapshot_id = excluded.snapshot_id",
            )
            .bind(i64::from(*partition))
            .bind(*offset as i64)
            .bind(commit.tick_ms as i64)
            .bind(snapshot_id)
            .execute(&mut *transaction)
            .await?;
        }
        crate::deletions::write(&mut transaction, commit).await?;
        crate::state::write(&mut transaction, commit).await?;
        transaction.commit().await?;
        Ok(Committed { snapshot_id })
    }
}

/// Checks that none of the partitions was taken over since this process took it.
pub(crate) async fn check_fence(connection: &mut AnyConnection, offsets: &BTreeMap<u16, u64>, generation: i64) -> Result<(), CatalogError> {
    for partition in offsets.keys() {
        check_generation(connection, *partition, generation).await?;
    }
    Ok(())
}

/// Fails where another process took the partition over.
pub(crate) async fn check_generation(connection: &mut AnyConnection, partition: u16, mine: i64) -> Result<(), CatalogError> {
    let found: i64 = sqlx::query_scalar("SELECT generation FROM weir_partition_owner WHERE partition_id = $1")
        .bind(i64::from(partition))
        .fetch_one(&mut *connection)
        .await?;
    if found == mine { Ok(()) } else { Err(CatalogError::Fenced { found, mine }) }
}

/// The snapshot of the same commit, where it was made already: a disk may fail after a transaction is durable and before its
/// success is told, and then the commit is tried again.
async fn committed_before(connection: &mut AnyConnection, commit: &Commit) -> Result<Option<i64>, CatalogError> {
    let mut found = None;
    for (partition, offset) in &commit.offsets {
        let row: Option<i64> = sqlx::query_scalar("SELECT snapshot_id FROM weir_commit WHERE partition_id = $1 AND next_offset = $2 AND tick_ms = $3")
            .bind(i64::from(*partition))
            .bind(*offset as i64)
            .bind(commit.tick_ms as i64)
            .fetch_optional(&mut *connection)
            .await?;
        match row {
            Some(snapshot_id) => found = Some(snapshot_id),
            None => return Ok(None),
        }
    }
    Ok(found)
}

/// Registers the files as one snapshot; without files the newest snapshot stands.
async fn insert_snapshot(connection: &mut AnyConnection, lake: &Lake, commit: &Commit) -> Result<i64, CatalogError> {
    let mut change = Change::begin(connection).await?;
    let snapshot_id = change.snapshot_id;
    if commit.files.is_empty() {
        return Ok(snapshot_id - 1);
    }
    let mut changed = BTreeSet::new();
    for file in &commit.files {
        let table = lake.tables.get(file.table).ok_or_else(|| CatalogError::Corrupt { what: format!("no table {}", file.table) })?;
        insert_file(connection, table, file, snapshot_id, change.next_file_id).await?;
        changed.insert(table.table_id);
        change.next_file_id += 1;
    }
    change.made = changed.into_iter().map(|id| format!("inserted_into_table:{id}")).collect();
    change.end(connection).await?;
    Ok(snapshot_id)
}

pub(crate) async fn insert_file(connection: &mut AnyConnection, table: &TableIds, file: &NewFile, snapshot_id: i64, file_id: i64) -> Result<(), CatalogError> {
    let (rows, bytes) = (file.rows as i64, file.bytes as i64);
    let updated = sqlx::query(
        "UPDATE ducklake_table_stats SET record_count = record_count + $2, next_row_id = next_row_id + $2, file_size_bytes = file_size_bytes + $3 WHERE table_id = $1",
    )
    .bind(table.table_id)
    .bind(rows)
    .bind(bytes)
    .execute(&mut *connection)
    .await?;
    if updated.rows_affected() == 0 {
        sqlx::query("INSERT INTO ducklake_table_stats VALUES ($1, $2, $2, $3)").bind(table.table_id).bind(rows).bind(bytes).execute(&mut *connection).await?;
    }
    sqlx::query(
        "INSERT INTO ducklake_data_file
         SELECT $1, $2, $3, NULL, NULL, $4, TRUE, 'parquet', $5, $6, $7, next_row_id - $5, $8, NULL, NULL, NULL FROM ducklake_table_stats WHERE table_id = $2",
    )
    .bind(file_id)
    .bind(table.table_id)
    .bind(snapshot_id)
    .bind(&file.path)
    .bind(rows)
    .bind(bytes)
    .bind(file.footer_bytes as i64)
    .bind(table.partition_id)
    .execute(&mut *connection)
    .await?;
    if !file.checksums.is_empty() {
        let insert = "INSERT INTO weir_file_checksum (data_file_id, checksums) VALUES ($1, $2)";
        sqlx::query(insert).bind(file_id).bind(&file.checksums[..]).execute(&mut *connection).await?;
    }
    let (year, month, day) = file.date;
    for (index, value) in [year.to_string(), month.to_string(), day.to_string()].into_iter().enumerate() {
        sqlx::query("INSERT INTO ducklake_file_partition_value VALUES ($1, $2, $3, $4)")
            .bind(file_id)
            .bind(table.table_id)
            .bind(index as i64)
            .bind(value)
            .execute(&mut *connection)
            .await?;
    }
    let statistics = file.statistics.iter().map(|statistics| {
        let column =
            table.columns.get(&statistics.path).ok_or_else(|| CatalogError::Corrupt { what: format!("no column {} of {}", statistics.path, file.table) })?;
        Ok(KnownColumn::of(column, statistics))
    });
    insert_statistics(connection, table.table_id, file_id, &statistics.collect::<Result<Vec<_>, CatalogError>>()?).await
}

/// Statistics of a column as they are stored.
struct KnownColumn<'a> {
    column_id: i64,
    column_type: &'a str,
    statistics: &'a ColumnStatistics,
    bounds: Bounds,
    /// JSON has no NaN, so no column of ours ever holds one.
    contains_nan: Option<bool>,
}

impl<'a> KnownColumn<'a> {
    fn of((column_id, column_type): &'a (i64, String), statistics: &'a ColumnStatistics) -> Self {
        let bounds = statistics.bounds.as_ref().map(|(min, max)| (lower(min), upper(max))).unzip();
        Self { column_id: *column_id, column_type, statistics, bounds, contains_nan: column_type.starts_with("float").then_some(false) }
    }
}

/// Registers the statistics of a file, and widens those of its table. A file has a hundred columns, and a database may be some way
/// off: what can be one statement is one.
async fn insert_statistics(connection: &mut AnyConnection, table_id: i64, file_id: i64, columns: &[KnownColumn<'_>]) -> Result<(), CatalogError> {
    for some in columns.chunks(ROWS_PER_STATEMENT) {
        let sql = format!(
            "INSERT INTO ducklake_file_column_stats (data_file_id, table_id, column_id, column_size_bytes, value_count, null_count, min_value, max_value, contains_nan)
             VALUES {}",
            Dialect::of(connection).parameters(some.len(), 9)
        );
        let query = some.iter().fold(sqlx::query(AssertSqlSafe(sql)), |query, column| {
            query
                .bind(file_id)
                .bind(table_id)
                .bind(column.column_id)
                .bind(column.statistics.bytes as i64)
                .bind((column.statistics.values - column.statistics.nulls) as i64)
                .bind(column.statistics.nulls as i64)
                .bind(column.bounds.0.clone())
                .bind(column.bounds.1.clone())
                .bind(column.contains_nan)
        });
        query.persistent(false).execute(&mut *connection).await?;
    }
    let rows = sqlx::query("SELECT column_id, contains_null, min_value, max_value FROM ducklake_table_column_stats WHERE table_id = $1")
        .bind(table_id)
        .fetch_all(&mut *connection)
        .await?;
    let mut known: BTreeMap<i64, (bool, Bounds)> = BTreeMap::new();
    for row in rows {
        let contains_null = flag(&row, "contains_null")?.unwrap_or(true);
        known.insert(row.try_get("column_id")?, (contains_null, (row.try_get("min_value")?, row.try_get("max_value")?)));
    }
    for column in columns {
        let nulls = column.statistics.nulls > 0;
        let Some((contains_null, bounds)) = known.get(&column.column_id) else {
            sqlx::query("INSERT INTO ducklake_table_column_stats VALUES ($1, $2, $3, $4, $5, $6, NULL)")
                .bind(table_id)
                .bind(column.column_id)
                .bind(nulls)
                .bind(column.contains_nan)
                .bind(&column.bounds.0)
                .bind(&column.bounds.1)
                .execute(&mut *connection)
                .await?;
            continue;
        };
        let wider = widened(column.column_type, bounds.clone(), column.bounds.clone());
        if wider == *bounds && (*contains_null || !nulls) {
            continue;
        }
        sqlx::query("UPDATE ducklake_table_column_stats SET contains_null = $3, min_value = $4, max_value = $5 WHERE table_id = $1 AND column_id = $2")
            .bind(table_id)
            .bind(column.column_id)
            .bind(*contains_null || nulls)
            .bind(wider.0)
            .bind(wider.1)
            .execute(&mut *connection)
            .await?;
    }
    Ok(())
}

/// A lower bound as a database takes it: PostgreSQL has no text with a zero byte. What comes before it is less.
fn lower(text: &str) -> String {
    text.split('\0').next().unwrap_or_default().to_owned()
}

/// An upper bound, likewise: what comes before the zero byte and the next greater character.
fn upper(text: &str) -> String {
    text.split_once('\0').map_or_else(|| text.to_owned(), |(before, _)| format!("{before}\u{1}"))
}

type Bounds = (Option<String>, Option<String>);

/// The bounds that hold for both. They are text, but compare as the column's type.
pub(crate) fn widened(column_type: &str, old: Bounds, new: Bounds) -> Bounds {
    let lesser = |a: String, b: String| if is_less(column_type, &b, &a) { b } else { a };
    let greater = |a: String, b: String| if is_less(column_type, &a, &b) { b } else { a };
    let either = |a: Option<String>, b: Option<String>, pick: &dyn Fn(String, String) -> String| match (a, b) {
        (Some(a), Some(b)) => Some(pick(a, b)),
        (a, b) => a.or(b),
    };
    (either(old.0, new.0, &lesser), either(old.1, new.1, &greater))
}

/// Timestamps are written with all their digits, so that their texts compare as they do.
fn is_less(column_type: &str, a: &str, b: &str) -> bool {
    if column_type.contains("int") {
        matches!((a.parse::<i128>(), b.parse::<i128>()), (Ok(a), Ok(b)) if a < b)
    } else if column_type.starts_with("float") {
        matches!((a.parse::<f64>(), b.parse::<f64>()), (Ok(a), Ok(b)) if a < b)
    } else {
        a < b
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::lake::tests::table;
    use crate::testing::{Place, in_both_databases};

    pub(crate) fn file(path: &str, level: (&str, &str)) -> NewFile {
        let statistics =
            vec![ColumnStatistics { path: "level".to_owned(), bytes: 10, values: 3, nulls: 1, bounds: Some((level.0.to_owned(), level.1.to_owned())) }];
        NewFile { table: "errors", path: path.to_owned(), rows: 3, bytes: 100, footer_bytes: 40, checksums: vec![1, 2, 3, 4], date: (2026, 11, 23), statistics }
    }

    async fn files_offsets_and_state_are_committed_together_and_come_back(place: Place) {
        let catalog = place.open().await;
        let lake = catalog.ensure_lake(&[table()], place.dir()).await.unwrap();
        let generation = catalog.take_partition(0, 1).await.unwrap();
        let issue = |state: &str| IssueStateRow { project_id: 1, group_id: 9, state: state.to_owned() };
        let commit = |offset, files, state| Commit {
            generation,
            tick_ms: 7,
            offsets: [(0, offset)].into(),
            files,
            issues: vec![issue(state)],
            hashes: vec![GroupHashRow { project_id: 1, hash: [3; 16], group_id: 9 }],
            projects: vec![(1, "{}".to_owned())],
            ..Commit::default()
        };
        catalog.commit(&lake, &commit(5, vec![file("a", ("error", "info"))], "first")).await.unwrap();
        let second = catalog.commit(&lake, &commit(8, vec![file("b", ("debug", "fatal"))], "second")).await.unwrap();
        let again = catalog.commit(&lake, &commit(8, vec![file("b", ("debug", "fatal"))], "second")).await.unwrap();
        assert_eq!(again, second, "the same commit tried again registers nothing twice");
        let restored = catalog.restore().await.unwrap();
        assert_eq!((restored.offsets, restored.tick_ms, restored.issues), ([(0, 8)].into(), 7, vec![issue("second")]));
        assert_eq!(restored.hashes.len(), 1);
        let files = catalog.lake_files(&lake, &["level"]).await.unwrap();
        assert_eq!(files.iter().map(|f| (f.rows, f.bounds["level"].0.as_str())).collect::<Vec<_>>(), [(3, "error"), (3, "debug")]);
        let (min, max): (String, String) =
            sqlx::query_as("SELECT min_value, max_value FROM ducklake_table_column_stats WHERE column_id = 5").fetch_one(&catalog.pool).await.unwrap();
        assert_eq!((min.as_str(), max.as_str()), ("debug", "info"), "the table's bounds hold for both files");
        let starts: Vec<i64> = sqlx::query_scalar("SELECT row_id_start FROM ducklake_data_file ORDER BY 1").fetch_all(&catalog.pool).await.unwrap();
        assert_eq!(starts, [0, 3]);
    }

    async fn a_process_that_lost_its_partition_commits_nothing(place: Place) {
        let catalog = place.open().await;
        let lake = catalog.ensure_lake(&[table()], place.dir()).await.unwrap();
        let mine = catalog.take_partition(0, 1).await.unwrap();
        let theirs = catalog.take_partition(0, 2).await.unwrap();
        let commit = Commit { generation: mine, offsets: [(0, 5)].into(), files: vec![file("a", ("a", "b"))], ..Commit::default() };
        let error = catalog.commit(&lake, &commit).await.unwrap_err();
        assert!(matches!(error, CatalogError::Fenced { found, mine: m } if found == theirs && m == mine), "{error}");
        assert!(catalog.lake_files(&lake, &[]).await.unwrap().is_empty());
        assert!(catalog.restore().await.unwrap().offsets.is_empty());
    }

    async fn text_with_a_zero_byte_is_bounded_by_text_without(place: Place) {
        let catalog = place.open().await;
        let lake = catalog.ensure_lake(&[table()], place.dir()).await.unwrap();
        let generation = catalog.take_partition(0, 1).await.unwrap();
        let commit = Commit { generation, offsets: [(0, 5)].into(), files: vec![file("a", ("a\0x", "b\0x"))], ..Commit::default() };
        catalog.commit(&lake, &commit).await.unwrap();
        let bounds = &catalog.lake_files(&lake, &["level"]).await.unwrap()[0].bounds["level"];
        assert_eq!((bounds.0.as_str(), bounds.1.as_str()), ("a", "b\u{1}"));
        assert!("a" < "a\0x" && "b\0x" < "b\u{1}");
    }

    /// What a commit finds that waited for the other's transaction: either order is right, and never half of one.
    async fn a_commit_and_a_takeover_at_once_leave_no_commit_behind_the_takeover(place: Place) {
        let (first, second) = (place.open().await, place.open().await);
        let lake = first.ensure_lake(&[table()], place.dir()).await.unwrap();
        let mut generation = first.take_partition(0, 1).await.unwrap();
        for offset in 1..20 {
            let commit = Commit { generation, offsets: [(0, offset)].into(), files: vec![file(&format!("f{offset}"), ("a", "b"))], ..Commit::default() };
            let committing = tokio::spawn({
                let (first, lake) = (first.clone(), lake.clone());
                async move { first.commit(&lake, &commit).await }
            });
            generation = second.take_partition(0, 2).await.unwrap();
            let restored = second.restore().await.unwrap().offsets.get(&0).copied();
            match committing.await.unwrap() {
                Ok(_) => assert_eq!(restored, Some(offset), "a commit after the takeover, which did not see it"),
                Err(error) => {
                    assert!(matches!(error, CatalogError::Fenced { .. }), "{error}");
                    assert_ne!(restored, Some(offset));
                }
            }
        }
    }

    async fn many_writers_at_once_take_turns(place: Place) {
        let catalogs = [place.open().await, place.open().await, place.open().await];
        let lake = catalogs[0].ensure_lake(&[table()], place.dir()).await.unwrap();
        let writers = (0..3u16).map(|partition| {
            let (catalog, lake) = (catalogs[usize::from(partition)].clone(), lake.clone());
            tokio::spawn(async move {
                let generation = catalog.take_partition(partition, 1).await.unwrap();
                for offset in 1..=10u64 {
                    let files = vec![file(&format!("p{partition}-{offset}"), ("a", "b"))];
                    catalog.commit(&lake, &Commit { generation, offsets: [(partition, offset)].into(), files, ..Commit::default() }).await.unwrap();
                }
            })
        });
        for writer in writers.collect::<Vec<_>>() {
            writer.await.unwrap();
        }
        let starts: Vec<i64> =
            sqlx::query_scalar("SELECT row_id_start FROM ducklake_data_file ORDER BY data_file_id").fetch_all(&catalogs[0].pool).await.unwrap();
        assert_eq!(starts, (0..30).map(|i| i * 3).collect::<Vec<i64>>(), "no number was given twice");
        let snapshots: i64 = sqlx::query_scalar("SELECT max(snapshot_id) FROM ducklake_snapshot").fetch_one(&catalogs[0].pool).await.unwrap();
        assert_eq!(snapshots, 31);
    }

    async fn partitions_are_taken_together_and_each_is_fenced(place: Place) {
        let catalog = place.open().await;
        let lake = catalog.ensure_lake(&[table()], place.dir()).await.unwrap();
        let first = catalog.take_partitions(&[0, 1, 2], 1).await.unwrap();
        let commit =
            |generation, partitions: &[u16], offset| Commit { generation, offsets: partitions.iter().map(|p| (*p, offset)).collect(), ..Commit::default() };
        catalog.commit(&lake, &commit(first, &[0, 1, 2], 5)).await.unwrap();
        let second = catalog.take_partitions(&[1], 2).await.unwrap();
        assert!(second > first);
        let error = catalog.commit(&lake, &commit(first, &[0, 1, 2], 6)).await.unwrap_err();
        assert!(matches!(error, CatalogError::Fenced { .. }), "{error}");
        catalog.commit(&lake, &commit(first, &[0, 2], 6)).await.unwrap();
        catalog.commit(&lake, &commit(second, &[1], 7)).await.unwrap();
        assert_eq!(catalog.restore().await.unwrap().offsets, [(0, 6), (1, 7), (2, 6)].into());
        assert!(catalog.take_partitions(&[0], 3).await.unwrap() > second, "a generation is never given twice");
    }

    #[test]
    fn bounds_compare_as_their_type() {
        let check = |column_type, a: (&str, &str), b: (&str, &str), want: (&str, &str)| {
            let both = |p: (&str, &str)| (Some(p.0.to_owned()), Some(p.1.to_owned()));
            assert_eq!(widened(column_type, both(a), both(b)), both(want));
        };
        check("int64", ("9", "10"), ("-8", "9"), ("-8", "10"));
        check("float64", ("1.5", "2.5"), ("10.0", "11.0"), ("1.5", "11.0"));
        check("varchar", ("9", "a"), ("10", "A"), ("10", "a"));
        assert_eq!(widened("int64", (None, None), (Some("1".into()), Some("2".into()))), (Some("1".into()), Some("2".into())));
    }

    in_both_databases!(
        files_offsets_and_state_are_committed_together_and_come_back,
        text_with_a_zero_byte_is_bounded_by_text_without,
        a_commit_and_a_takeover_at_once_leave_no_commit_behind_the_takeover,
        many_writers_at_once_take_turns,
        a_process_that_lost_its_partition_commits_nothing,
        partitions_are_taken_together_and_each_is_fenced
    );
}
