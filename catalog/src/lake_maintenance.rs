//! Files of the lake that take the place of others, and the end of those that were replaced.
//!
//! A replaced file stays named, and on disk, for readers of older snapshots. When the snapshot that replaced it is older than
//! the grace period, older snapshots are expired and the file is scheduled for deletion; whoever removes it from the disk
//! takes it off the schedule afterwards. Each step is one transaction, so that a process may die between any two.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use sqlx::{AnyConnection, Row};
use weir_protocol::ids::ProjectId;

use crate::database::{Catalog, Dialect, flag};
use crate::error::CatalogError;
use crate::lake::{Change, Lake, SCHEMA, TableIds, snapshot_text, snapshot_time};
use crate::lake_commit::{MAINTENANCE, NewFile, check_generation, insert_file, widened};

/// A file of the newest snapshot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LiveFile {
    /// Its id.
    pub id: i64,
    /// Its table.
    pub table: String,
    /// Where it is.
    pub path: PathBuf,
    /// Year, month and day of its rows.
    pub date: (i32, u32, u32),
    /// Its rows.
    pub rows: u64,
    /// Its size in bytes.
    pub bytes: u64,
    /// Least and greatest `project_id` of its rows, where it is known.
    pub projects: Option<(i64, i64)>,
    /// Least and greatest `seq` of its rows, where it is known.
    pub seq: Option<(i64, i64)>,
}

/// Files of one table that take the place of others.
#[derive(Debug, Clone, Default)]
pub struct Replacement {
    /// The generation under which [`MAINTENANCE`] was taken; see [`Catalog::take_partitions`].
    pub generation: i64,
    /// The table.
    pub table: &'static str,
    /// The files that go, by id.
    pub old: Vec<i64>,
    /// The files that come, already synced to disk; none where every row goes.
    pub new: Vec<NewFile>,
    /// What was deleted and must not come in again within the duplicate window.
    pub identities: Vec<DeletedIdentity>,
}

/// The identity of an item that was deleted while it might still be sent again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DeletedIdentity {
    /// Its project.
    pub project_id: ProjectId,
    /// The identity by which duplicates are found.
    pub identity: [u8; 16],
    /// When it was received, in Unix milliseconds.
    pub received_ms: u64,
}

/// A file that is to be removed from the disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ScheduledFile {
    /// Its id.
    pub id: i64,
    /// Where it is, or was.
    pub path: PathBuf,
}

/// What is on disk by the catalog's account.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct LakeTotals {
    /// Files of the newest snapshot.
    pub files: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Files that were replaced and wait for the grace period, or for their removal.
    pub replaced: u64,
}

impl Catalog {
    /// The files of the newest snapshot, by table and id.
    pub async fn live_files(&self, lake: &Lake) -> Result<Vec<LiveFile>, CatalogError> {
        let root = self.lake_root().await?;
        let mut files = Vec::new();
        for (name, table) in &lake.tables {
            let column = |name: &str| table.columns.get(name).map_or(-1, |(id, _)| *id);
            let rows = sqlx::query(
                "SELECT f.data_file_id, f.path, f.record_count, f.file_size_bytes, p.min_value AS p0, p.max_value AS p1, s.min_value AS s0, s.max_value AS s1
                 FROM ducklake_data_file f
                 LEFT JOIN ducklake_file_column_stats p ON p.data_file_id = f.data_file_id AND p.column_id = $2
                 LEFT JOIN ducklake_file_column_stats s ON s.data_file_id = f.data_file_id AND s.column_id = $3
                 WHERE f.table_id = $1 AND f.end_snapshot IS NULL ORDER BY f.data_file_id",
            )
            .bind(table.table_id)
            .bind(column("project_id"))
            .bind(column("seq"))
            .fetch_all(&self.pool)
            .await?;
            for row in rows {
                let path: String = row.try_get("path")?;
                let bounds = |least: &str, greatest: &str| -> Result<Option<(i64, i64)>, CatalogError> {
                    let (least, greatest): (Option<String>, Option<String>) = (row.try_get(least)?, row.try_get(greatest)?);
                    Ok(least.and_then(|v| v.parse().ok()).zip(greatest.and_then(|v| v.parse().ok())))
                };
                // Another program may have written a file elsewhere; maintenance leaves those alone.
                let Some(date) = date_of(&path) else { continue };
                files.push(LiveFile {
                    id: row.try_get("data_file_id")?,
                    table: name.clone(),
                    path: root.join(name).join(&path),
                    date,
                    rows: row.try_get::<i64, _>("record_count")? as u64,
                    bytes: row.try_get::<i64, _>("file_size_bytes")? as u64,
                    projects: bounds("p0", "p1")?,
                    seq: bounds("s0", "s1")?,
                });
            }
        }
        Ok(files)
    }

    /// Puts files in the place of others, as one snapshot. Either all of it is there afterwards, or none of it. The same replacement
    /// tried again, since nobody told that it was made, changes nothing.
    ///
    /// # Errors
    /// [`CatalogError::Fenced`] where another process took over; [`CatalogError::Conflict`] where a file was replaced already or
    /// another program has marked rows of it as deleted.
    pub async fn replace(&self, lake: &Lake, replacement: &Replacement) -> Result<i64, CatalogError> {
        let table = lake.tables.get(replacement.table).ok_or_else(|| CatalogError::Corrupt { what: format!("no table {}", replacement.table) })?;
        let mut transaction = self.begin_writing().await?;
        // Before the fence: what was made before another process took over was made.
        if let Some(snapshot_id) = replaced_before(&mut transaction, table, replacement).await? {
            return Ok(snapshot_id);
        }
        check_generation(&mut transaction, MAINTENANCE, replacement.generation).await?;
        let mut change = Change::begin(&mut transaction).await?;
        let snapshot_id = change.snapshot_id;
        let mut rows_gone = 0;
        for id in &replacement.old {
            rows_gone += end_file(&mut transaction, table, *id, snapshot_id).await?;
        }
        for file in &replacement.new {
            insert_file(&mut transaction, table, file, snapshot_id, change.next_file_id).await?;
            rows_gone -= file.rows as i64;
            change.next_file_id += 1;
        }
        if rows_gone != 0 {
            // Values of rows that are gone must not be left behind in the bounds of the table.
            recompute_bounds(&mut transaction, table).await?;
        }
        for identity in &replacement.identities {
            sqlx::query("INSERT INTO weir_deleted_identity VALUES ($1, $2, $3) ON CONFLICT DO NOTHING")
                .bind(identity.project_id as i64)
                .bind(&identity.identity[..])
                .bind(identity.received_ms as i64)
                .execute(&mut *transaction)
                .await?;
        }
        let id = table.table_id;
        change.made = match (rows_gone, replacement.new.is_empty()) {
            (_, true) => vec![format!("deleted_from_table:{id}")],
            (0, false) => vec![format!("compacted_table:{id}")],
            (_, false) => vec![format!("inserted_into_table:{id}"), format!("deleted_from_table:{id}")],
        };
        change.end(&mut transaction).await?;
        transaction.commit().await?;
        Ok(snapshot_id)
    }

    /// Expires the snapshots that were replaced before a moment (Unix milliseconds), and schedules the files for deletion that
    /// only they named. Returns how many files.
    pub async fn expire_snapshots(&self, replaced_before_ms: u64) -> Result<u64, CatalogError> {
        let mut transaction = self.begin_writing().await?;
        // The snapshot that was the newest at that moment is still in use; what came before it is not.
        let keep: Option<i64> =
            sqlx::query_scalar(self.dialect.statement("SELECT max(snapshot_id) FROM ducklake_snapshot WHERE snapshot_time <= $1::timestamptz"))
                .bind(snapshot_text(replaced_before_ms))
                .fetch_one(&mut *transaction)
                .await?;
        let Some(keep) = keep else { return Ok(0) };
        let expired = sqlx::query("DELETE FROM ducklake_snapshot WHERE snapshot_id < $1").bind(keep).execute(&mut *transaction).await?;
        if expired.rows_affected() == 0 {
            return Ok(0);
        }
        sqlx::query("DELETE FROM ducklake_snapshot_changes WHERE snapshot_id < $1").bind(keep).execute(&mut *transaction).await?;
        let scheduled = sqlx::query(self.dialect.statement(
            "INSERT INTO ducklake_files_scheduled_for_deletion
             SELECT f.data_file_id, $2 || t.path || f.path, TRUE, $3::timestamptz FROM ducklake_data_file f
             JOIN ducklake_table t ON t.table_id = f.table_id AND t.end_snapshot IS NULL WHERE f.end_snapshot <= $1",
        ))
        .bind(keep)
        .bind(format!("{SCHEMA}/"))
        .bind(snapshot_time())
        .execute(&mut *transaction)
        .await?;
        for table in ["ducklake_file_column_stats", "ducklake_file_partition_value", "weir_file_checksum"] {
            let delete = format!("DELETE FROM {table} WHERE data_file_id IN (SELECT data_file_id FROM ducklake_data_file WHERE end_snapshot <= $1)");
            sqlx::query(sqlx::AssertSqlSafe(delete)).bind(keep).execute(&mut *transaction).await?;
        }
        sqlx::query("DELETE FROM ducklake_data_file WHERE end_snapshot <= $1").bind(keep).execute(&mut *transaction).await?;
        transaction.commit().await?;
        Ok(scheduled.rows_affected())
    }

    /// The files that are to be removed from the disk.
    pub async fn scheduled_files(&self) -> Result<Vec<ScheduledFile>, CatalogError> {
        let data_path = self.data_path().await?;
        let rows = sqlx::query("SELECT data_file_id, path, path_is_relative FROM ducklake_files_scheduled_for_deletion ORDER BY data_file_id")
            .fetch_all(&self.pool)
            .await?;
        rows.iter()
            .map(|row| {
                let path: String = row.try_get("path")?;
                let relative = flag(row, "path_is_relative")?.unwrap_or(true);
                let path = if relative { Path::new(&data_path).join(path) } else { PathBuf::from(path) };
                Ok(ScheduledFile { id: row.try_get("data_file_id")?, path })
            })
            .collect()
    }

    /// Takes files that were removed from the disk off the schedule.
    pub async fn unschedule_files(&self, ids: &[i64]) -> Result<(), CatalogError> {
        let mut transaction = self.begin_writing().await?;
        for id in ids {
            sqlx::query("DELETE FROM ducklake_files_scheduled_for_deletion WHERE data_file_id = $1").bind(id).execute(&mut *transaction).await?;
        }
        transaction.commit().await?;
        Ok(())
    }

    /// The files that some snapshot names, or that are scheduled for deletion: all that may be on disk.
    pub async fn named_files(&self) -> Result<BTreeSet<PathBuf>, CatalogError> {
        let root = self.lake_root().await?;
        let rows = sqlx::query(
            "SELECT t.path AS folder, f.path AS path FROM ducklake_data_file f JOIN ducklake_table t ON t.table_id = f.table_id AND t.end_snapshot IS NULL",
        )
        .fetch_all(&self.pool)
        .await?;
        let mut named = BTreeSet::new();
        for row in rows {
            named.insert(root.join(row.try_get::<String, _>("folder")?).join(row.try_get::<String, _>("path")?));
        }
        named.extend(self.scheduled_files().await?.into_iter().map(|file| file.path));
        Ok(named)
    }

    /// What is on disk by the catalog's account.
    pub async fn lake_totals(&self) -> Result<LakeTotals, CatalogError> {
        let row = sqlx::query(
            "SELECT count(*) FILTER (WHERE end_snapshot IS NULL) AS files, CAST(coalesce(sum(file_size_bytes) FILTER (WHERE end_snapshot IS NULL), 0) AS BIGINT) AS bytes,
                    count(*) FILTER (WHERE end_snapshot IS NOT NULL) + (SELECT count(*) FROM ducklake_files_scheduled_for_deletion) AS replaced
             FROM ducklake_data_file",
        )
        .fetch_one(&self.pool)
        .await?;
        let number = |name: &str| row.try_get::<i64, _>(name).map(|n| n as u64);
        Ok(LakeTotals { files: number("files")?, bytes: number("bytes")?, replaced: number("replaced")? })
    }

    /// Makes what was deleted leave the database's files. SQLite folds its write-ahead log into the database and empties it; says
    /// whether it could, since a reader may need the log still. PostgreSQL takes the dead rows out of the tables that deletions touch;
    /// how long its own log and backups keep them is its operator's to say.
    pub async fn checkpoint(&self) -> Result<bool, CatalogError> {
        if self.dialect == Dialect::Postgres {
            let mut connection = self.pool.acquire().await?;
            // However large the tables are. A statement by itself: VACUUM runs in no transaction.
            sqlx::query("SET statement_timeout = 0").execute(&mut *connection).await?;
            for table in DELETED_FROM {
                sqlx::raw_sql(sqlx::AssertSqlSafe(format!("VACUUM {table}"))).execute(&mut *connection).await?;
            }
            // Closed, and its settings with it.
            connection.close().await?;
            return Ok(true);
        }
        let busy: i64 = sqlx::query("PRAGMA wal_checkpoint(TRUNCATE)").fetch_one(&self.pool).await?.try_get(0)?;
        Ok(busy == 0)
    }

    async fn data_path(&self) -> Result<String, CatalogError> {
        Ok(sqlx::query_scalar("SELECT value FROM ducklake_metadata WHERE \"key\" = 'data_path'").fetch_one(&self.pool).await?)
    }

    async fn lake_root(&self) -> Result<PathBuf, CatalogError> {
        Ok(Path::new(&self.data_path().await?).join(SCHEMA))
    }
}

/// The tables with rows that a deletion removes or changes.
const DELETED_FROM: [&str; 8] = [
    "ducklake_data_file",
    "ducklake_file_column_stats",
    "ducklake_table_column_stats",
    "weir_deletion",
    "weir_deletion_request",
    "weir_deleted_identity",
    "weir_group_hash",
    "weir_issue_state",
];

/// The date of a file that Weir wrote: its folder's name.
fn date_of(path: &str) -> Option<(i32, u32, u32)> {
    let folder = path.split('/').next()?;
    let mut parts = folder.split('-');
    let date = (parts.next()?.parse().ok()?, parts.next()?.parse().ok()?, parts.next()?.parse().ok()?);
    parts.next().is_none().then_some(date)
}

/// The snapshot of the same replacement, where it was made already: its first new file is registered (names are never used twice), or,
/// where none comes, the files that go have all gone at once.
async fn replaced_before(connection: &mut AnyConnection, table: &TableIds, replacement: &Replacement) -> Result<Option<i64>, CatalogError> {
    if let Some(file) = replacement.new.first() {
        let begun = sqlx::query_scalar("SELECT begin_snapshot FROM ducklake_data_file WHERE table_id = $1 AND path = $2");
        return Ok(begun.bind(table.table_id).bind(&file.path).fetch_optional(&mut *connection).await?);
    }
    let mut ends = BTreeSet::new();
    for id in &replacement.old {
        let ended: Option<Option<i64>> = sqlx::query_scalar("SELECT end_snapshot FROM ducklake_data_file WHERE table_id = $1 AND data_file_id = $2")
            .bind(table.table_id)
            .bind(id)
            .fetch_optional(&mut *connection)
            .await?;
        ends.insert(ended.flatten());
    }
    Ok(if ends.len() == 1 { ends.pop_first().flatten() } else { None })
}

/// Ends a file with a snapshot; returns its rows.
async fn end_file(connection: &mut AnyConnection, table: &TableIds, id: i64, snapshot_id: i64) -> Result<i64, CatalogError> {
    let deletes: i64 = sqlx::query_scalar("SELECT count(*) FROM ducklake_delete_file WHERE data_file_id = $1 AND end_snapshot IS NULL")
        .bind(id)
        .fetch_one(&mut *connection)
        .await?;
    let ended = sqlx::query(
        "UPDATE ducklake_data_file SET end_snapshot = $3 WHERE data_file_id = $1 AND table_id = $2 AND end_snapshot IS NULL RETURNING record_count, file_size_bytes",
    )
    .bind(id)
    .bind(table.table_id)
    .bind(snapshot_id)
    .fetch_optional(&mut *connection)
    .await?;
    let Some(ended) = ended.filter(|_| deletes == 0) else { return Err(CatalogError::Conflict { file: id }) };
    let (rows, bytes): (i64, i64) = (ended.try_get("record_count")?, ended.try_get("file_size_bytes")?);
    sqlx::query("UPDATE ducklake_table_stats SET record_count = record_count - $2, file_size_bytes = file_size_bytes - $3 WHERE table_id = $1")
        .bind(table.table_id)
        .bind(rows)
        .bind(bytes)
        .execute(&mut *connection)
        .await?;
    Ok(rows)
}

/// The bounds of a table's columns from those of its files.
async fn recompute_bounds(connection: &mut AnyConnection, table: &TableIds) -> Result<(), CatalogError> {
    let rows = sqlx::query(
        "SELECT s.column_id, s.null_count, s.min_value, s.max_value FROM ducklake_file_column_stats s
         JOIN ducklake_data_file f ON f.data_file_id = s.data_file_id WHERE f.table_id = $1 AND f.end_snapshot IS NULL",
    )
    .bind(table.table_id)
    .fetch_all(&mut *connection)
    .await?;
    let types: BTreeMap<i64, &str> = table.columns.values().map(|(id, column_type)| (*id, column_type.as_str())).collect();
    type Known = (bool, (Option<String>, Option<String>));
    let mut known: BTreeMap<i64, Known> = BTreeMap::new();
    for row in rows {
        let column_id: i64 = row.try_get("column_id")?;
        let Some(column_type) = types.get(&column_id) else { continue };
        let bounds = (row.try_get("min_value")?, row.try_get("max_value")?);
        let nulls = row.try_get::<Option<i64>, _>("null_count")?.unwrap_or(1) > 0;
        let entry = known.entry(column_id).or_insert((false, (None, None)));
        *entry = (entry.0 || nulls, widened(column_type, entry.1.clone(), bounds));
    }
    sqlx::query("DELETE FROM ducklake_table_column_stats WHERE table_id = $1").bind(table.table_id).execute(&mut *connection).await?;
    for (column_id, (nulls, (min, max))) in known {
        let contains_nan = types.get(&column_id).is_some_and(|t| t.starts_with("float")).then_some(false);
        sqlx::query("INSERT INTO ducklake_table_column_stats VALUES ($1, $2, $3, $4, $5, $6, NULL)")
            .bind(table.table_id)
            .bind(column_id)
            .bind(nulls)
            .bind(contains_nan)
            .bind(min)
            .bind(max)
            .execute(&mut *connection)
            .await?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lake::tests::table;
    use crate::lake_commit::Commit;
    use crate::lake_commit::tests::file;
    use crate::testing::{Place, in_both_databases};

    struct World {
        catalog: Catalog,
        lake: Lake,
        generation: i64,
    }

    impl World {
        async fn with(place: &Place, files: Vec<NewFile>) -> Self {
            let catalog = place.open().await;
            let lake = catalog.ensure_lake(&[table()], place.dir()).await.unwrap();
            let generation = catalog.take_partitions(&[0, MAINTENANCE], 1).await.unwrap();
            let commit = Commit { generation, offsets: [(0, 5)].into(), files, ..Commit::default() };
            catalog.commit(&lake, &commit).await.unwrap();
            Self { catalog, lake, generation }
        }

        fn replacement(&self, old: &[i64], new: Vec<NewFile>) -> Replacement {
            Replacement { generation: self.generation, table: "errors", old: old.to_vec(), new, identities: Vec::new() }
        }

        async fn live(&self) -> Vec<(i64, String)> {
            let name = |f: &LiveFile| f.path.file_name().unwrap().to_string_lossy().into_owned();
            self.catalog.live_files(&self.lake).await.unwrap().iter().map(|f| (f.id, name(f))).collect()
        }

        async fn bounds(&self) -> (String, String) {
            let sql = "SELECT min_value, max_value FROM ducklake_table_column_stats WHERE column_id = 5";
            sqlx::query_as(sql).fetch_one(&self.catalog.pool).await.unwrap()
        }

        async fn count(&self, table: &str) -> i64 {
            sqlx::query_scalar(sqlx::AssertSqlSafe(format!("SELECT count(*) FROM {table}"))).fetch_one(&self.catalog.pool).await.unwrap()
        }
    }

    fn far_future() -> u64 {
        4_000_000_000_000
    }

    async fn files_take_the_place_of_others_and_the_others_go_step_by_step(place: Place) {
        let files = vec![file("2026-11-23/a", ("debug", "info")), file("2026-11-23/b", ("error", "zz"))];
        let world = World::with(&place, files).await;
        assert_eq!(world.live().await, [(0, "a".to_owned()), (1, "b".to_owned())]);
        let mut merged = file("2026-11-23/ab", ("debug", "info"));
        merged.rows = 5;
        world.catalog.replace(&world.lake, &world.replacement(&[0, 1], vec![merged])).await.unwrap();
        let mut again = file("2026-11-23/ab", ("debug", "info"));
        again.rows = 5;
        world.catalog.replace(&world.lake, &world.replacement(&[0, 1], vec![again])).await.unwrap();
        assert_eq!(world.live().await, [(2, "ab".to_owned())], "the same once more changes nothing");
        assert_eq!(world.bounds().await, ("debug".to_owned(), "info".to_owned()), "a row is gone, and its values with it");
        let (rows, next): (i64, i64) =
            sqlx::query_as("SELECT record_count, next_row_id FROM ducklake_table_stats").fetch_one(&world.catalog.pool).await.unwrap();
        assert_eq!((rows, next), (5, 11));

        assert_eq!(world.catalog.expire_snapshots(0).await.unwrap(), 0, "the grace period has not passed");
        assert_eq!(world.catalog.named_files().await.unwrap().len(), 3);
        assert_eq!(world.catalog.expire_snapshots(far_future()).await.unwrap(), 2);
        assert_eq!(
            (world.count("ducklake_snapshot").await, world.count("ducklake_data_file").await, world.count("ducklake_file_column_stats").await),
            (1, 1, 1)
        );
        let scheduled = world.catalog.scheduled_files().await.unwrap();
        assert!(scheduled[0].path.ends_with("main/errors/2026-11-23/a"), "{scheduled:?}");
        assert_eq!(world.catalog.named_files().await.unwrap().len(), 3, "they may still be on disk");
        world.catalog.unschedule_files(&[0, 1]).await.unwrap();
        assert_eq!(world.catalog.named_files().await.unwrap().len(), 1);
        assert_eq!(world.catalog.expire_snapshots(far_future()).await.unwrap(), 0);
        assert_eq!(world.catalog.lake_totals().await.unwrap(), LakeTotals { files: 1, bytes: 100, replaced: 0 });
    }

    async fn what_was_replaced_already_or_marked_by_others_is_a_conflict_and_changes_nothing(place: Place) {
        let world = World::with(&place, vec![file("2026-11-23/a", ("a", "b")), file("2026-11-23/b", ("a", "b"))]).await;
        world.catalog.replace(&world.lake, &world.replacement(&[0], vec![])).await.unwrap();
        world.catalog.replace(&world.lake, &world.replacement(&[0], vec![])).await.unwrap();
        let again = world.catalog.replace(&world.lake, &world.replacement(&[1, 0], vec![])).await.unwrap_err();
        assert!(matches!(again, CatalogError::Conflict { file: 0 }), "{again}");
        sqlx::query("INSERT INTO ducklake_delete_file (delete_file_id, table_id, begin_snapshot, data_file_id) VALUES (9, 1, 3, 1)")
            .execute(&world.catalog.pool)
            .await
            .unwrap();
        let marked = world.catalog.replace(&world.lake, &world.replacement(&[1], vec![])).await.unwrap_err();
        assert!(matches!(marked, CatalogError::Conflict { file: 1 }), "{marked}");
        assert_eq!(world.live().await, [(1, "b".to_owned())]);
        world.catalog.take_partition(MAINTENANCE, 2).await.unwrap();
        let fenced = world.catalog.replace(&world.lake, &world.replacement(&[1], vec![])).await.unwrap_err();
        assert!(matches!(fenced, CatalogError::Fenced { .. }), "{fenced}");
    }

    #[test]
    fn dates_are_read_from_folders() {
        assert_eq!(date_of("2026-11-23/g1-t2.parquet"), Some((2026, 11, 23)));
        for other in ["day=22/x.parquet", "x.parquet", "2026-11/x", "2026-11-23-4/x"] {
            assert_eq!(date_of(other), None, "{other}");
        }
    }

    in_both_databases!(
        files_take_the_place_of_others_and_the_others_go_step_by_step,
        what_was_replaced_already_or_marked_by_others_is_a_conflict_and_changes_nothing
    );
}
