//! The lake's tables in the catalog: their columns, their ids, and the files that are committed.
//!
//! A table is created once; later versions may append nullable columns, never change one. Ids are those of DuckLake: every
//! field, nested ones too, has a column id, and a Parquet file's field ids equal them.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use sqlx::any::AnyRow;
use sqlx::{AnyConnection, Row};
use uuid::Uuid;

use crate::database::{Catalog, Dialect};
use crate::error::CatalogError;

/// A column, or a field of a nested one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LakeColumn {
    /// Its name.
    pub name: String,
    /// Its type by DuckLake's name (`int64`, `varchar`, `uuid`, `timestamp_ms`, `list`, `struct`, `map` …).
    pub column_type: &'static str,
    /// Whether it may be null.
    pub nullable: bool,
    /// The fields of a nested type: one `element` of a list, `key` and `value` of a map.
    pub children: Vec<LakeColumn>,
}

/// A table that the lake is to have.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LakeTable {
    /// Its name.
    pub name: &'static str,
    /// Its columns; new ones come at the end.
    pub columns: Vec<LakeColumn>,
    /// The timestamp column by whose date the files are partitioned.
    pub partition_column: &'static str,
}

/// The lake as the catalog has it.
#[derive(Debug, Clone, Default)]
pub struct Lake {
    pub(crate) tables: BTreeMap<String, TableIds>,
}

#[derive(Debug, Clone)]
pub(crate) struct TableIds {
    pub(crate) table_id: i64,
    pub(crate) partition_id: i64,
    /// Id and type of each column by its path, `frames.element.lineno`.
    pub(crate) columns: BTreeMap<String, (i64, String)>,
}

/// A committed file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LakeFile {
    /// Its table.
    pub table: String,
    /// Where it is.
    pub path: PathBuf,
    /// Its rows.
    pub rows: u64,
    /// Its size in bytes.
    pub bytes: u64,
    /// Checksums of its blocks, as they were registered; empty where none were.
    pub checksums: Vec<u8>,
    /// Least and greatest value of some columns, as the catalog has them in text, by column name.
    pub bounds: BTreeMap<String, (String, String)>,
}

impl Lake {
    /// The id of a column by its path, which is the Parquet field id.
    pub fn column_id(&self, table: &str, path: &str) -> Option<i64> {
        self.tables.get(table)?.columns.get(path).map(|(id, _)| *id)
    }
}

/// The schema (namespace) of all tables.
pub(crate) const SCHEMA: &str = "main";

/// The present moment as DuckLake writes it.
pub(crate) fn snapshot_time() -> String {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    time_text(chrono::DateTime::from_timestamp(now.as_secs() as i64, now.subsec_nanos()).unwrap_or_default())
}

/// A moment of Unix milliseconds as DuckLake writes it. Such texts compare as their moments do.
pub(crate) fn snapshot_text(ms: u64) -> String {
    time_text(chrono::DateTime::from_timestamp_millis(ms as i64).unwrap_or_default())
}

fn time_text(time: chrono::DateTime<chrono::Utc>) -> String {
    time.format("%Y-%m-%d %H:%M:%S%.6f+00").to_string()
}

impl Catalog {
    /// Makes the lake have these tables, with its files below `data_path`, and returns their ids.
    pub async fn ensure_lake(&self, tables: &[LakeTable], data_path: &Path) -> Result<Lake, CatalogError> {
        let mut transaction = self.begin_writing().await?;
        ensure_metadata(&mut transaction, data_path).await?;
        let present = read_lake(&mut transaction).await?;
        let mut change = Change::begin(&mut transaction).await?;
        change.schema_version += 1;
        for table in tables {
            match present.tables.get(table.name) {
                None => change.create_table(&mut transaction, table).await?,
                Some(ids) => change.append_columns(&mut transaction, table, ids).await?,
            }
        }
        change.end(&mut transaction).await?;
        let lake = read_lake(&mut transaction).await?;
        transaction.commit().await?;
        Ok(lake)
    }

    /// The files of all tables as of now, with the bounds of the named columns.
    pub async fn lake_files(&self, lake: &Lake, bounds_of: &[&str]) -> Result<Vec<LakeFile>, CatalogError> {
        let data_path: String = sqlx::query_scalar("SELECT value FROM ducklake_metadata WHERE \"key\" = 'data_path'").fetch_one(&self.pool).await?;
        let mut files = Vec::new();
        for (name, table) in &lake.tables {
            let rows = sqlx::query(
                "SELECT f.data_file_id, f.path, f.record_count, f.file_size_bytes, c.checksums FROM ducklake_data_file f
                 LEFT JOIN weir_file_checksum c ON c.data_file_id = f.data_file_id WHERE f.table_id = $1 AND f.end_snapshot IS NULL ORDER BY f.data_file_id",
            )
            .bind(table.table_id)
            .fetch_all(&self.pool)
            .await?;
            for row in rows {
                let path: String = row.try_get("path")?;
                files.push(LakeFile {
                    table: name.clone(),
                    path: Path::new(&data_path).join(SCHEMA).join(name).join(path),
                    rows: row.try_get::<i64, _>("record_count")? as u64,
                    bytes: row.try_get::<i64, _>("file_size_bytes")? as u64,
                    checksums: row.try_get::<Option<Vec<u8>>, _>("checksums")?.unwrap_or_default(),
                    bounds: self.bounds(table, row.try_get("data_file_id")?, bounds_of).await?,
                });
            }
        }
        Ok(files)
    }

    async fn bounds(&self, table: &TableIds, file: i64, columns: &[&str]) -> Result<BTreeMap<String, (String, String)>, CatalogError> {
        let mut bounds = BTreeMap::new();
        for column in columns {
            let Some((id, _)) = table.columns.get(*column) else { continue };
            let row = sqlx::query("SELECT min_value, max_value FROM ducklake_file_column_stats WHERE data_file_id = $1 AND column_id = $2")
                .bind(file)
                .bind(id)
                .fetch_optional(&self.pool)
                .await?;
            let Some(row) = row else { continue };
            if let (Some(min), Some(max)) = (row.try_get("min_value")?, row.try_get("max_value")?) {
                bounds.insert((*column).to_owned(), (min, max));
            }
        }
        Ok(bounds)
    }
}

/// The first rows of a lake; a later start only corrects where its files are, since a data directory may be moved.
async fn ensure_metadata(connection: &mut AnyConnection, data_path: &Path) -> Result<(), CatalogError> {
    let data_path = format!("{}/", data_path.display());
    let moved = sqlx::query("UPDATE ducklake_metadata SET value = $1 WHERE \"key\" = 'data_path'").bind(&data_path).execute(&mut *connection).await?;
    if moved.rows_affected() > 0 {
        return Ok(());
    }
    for (key, value) in [("version", "1.0"), ("created_by", concat!("Weir ", env!("CARGO_PKG_VERSION"))), ("data_path", &data_path), ("encrypted", "false")] {
        sqlx::query("INSERT INTO ducklake_metadata (\"key\", value) VALUES ($1, $2)").bind(key).bind(value).execute(&mut *connection).await?;
    }
    let sql = Dialect::of(connection).statement("INSERT INTO ducklake_snapshot VALUES (0, $1::timestamptz, 0, 1, 0)");
    sqlx::query(sql).bind(snapshot_time()).execute(&mut *connection).await?;
    sqlx::query("INSERT INTO ducklake_snapshot_changes VALUES (0, 'created_schema:\"main\"', NULL, NULL, NULL)").execute(&mut *connection).await?;
    let sql = Dialect::of(connection).statement("INSERT INTO ducklake_schema VALUES (0, $1::uuid, 0, NULL, $2, 'main/', TRUE)");
    sqlx::query(sql).bind(Uuid::new_v4().to_string()).bind(SCHEMA).execute(&mut *connection).await?;
    Ok(())
}

async fn read_lake(connection: &mut AnyConnection) -> Result<Lake, CatalogError> {
    let mut lake = Lake::default();
    let tables = sqlx::query(
        "SELECT t.table_id, t.table_name, p.partition_id FROM ducklake_table t
         JOIN ducklake_partition_info p ON p.table_id = t.table_id AND p.end_snapshot IS NULL
         WHERE t.end_snapshot IS NULL",
    )
    .fetch_all(&mut *connection)
    .await?;
    for row in tables {
        let table_id: i64 = row.try_get("table_id")?;
        let columns = sqlx::query(
            "SELECT column_id, column_name, column_type, parent_column FROM ducklake_column WHERE table_id = $1 AND end_snapshot IS NULL ORDER BY column_id",
        )
        .bind(table_id)
        .fetch_all(&mut *connection)
        .await?;
        let columns = paths(&columns)?;
        lake.tables.insert(row.try_get("table_name")?, TableIds { table_id, partition_id: row.try_get("partition_id")?, columns });
    }
    Ok(lake)
}

/// Ids and types by path. A parent's id is below its children's, so one pass in the order of ids finds every path.
fn paths(rows: &[AnyRow]) -> Result<BTreeMap<String, (i64, String)>, CatalogError> {
    let mut path_of: BTreeMap<i64, String> = BTreeMap::new();
    let mut columns = BTreeMap::new();
    for row in rows {
        let (id, name): (i64, String) = (row.try_get("column_id")?, row.try_get("column_name")?);
        let parent: Option<i64> = row.try_get("parent_column")?;
        let path = match parent.and_then(|p| path_of.get(&p)) {
            Some(parent) => format!("{parent}.{name}"),
            None => name,
        };
        columns.insert(path.clone(), (id, row.try_get("column_type")?));
        path_of.insert(id, path);
    }
    Ok(columns)
}

/// One snapshot that changes the lake; nothing is written where nothing changes.
pub(crate) struct Change {
    pub(crate) snapshot_id: i64,
    schema_version: i64,
    next_catalog_id: i64,
    pub(crate) next_file_id: i64,
    /// What is changed, in DuckLake's words.
    pub(crate) made: Vec<String>,
}

impl Change {
    /// The snapshot after the newest. Only for who holds the catalog's lock for writing.
    pub(crate) async fn begin(connection: &mut AnyConnection) -> Result<Self, CatalogError> {
        let row = sqlx::query("SELECT snapshot_id, schema_version, next_catalog_id, next_file_id FROM ducklake_snapshot ORDER BY snapshot_id DESC LIMIT 1")
            .fetch_one(&mut *connection)
            .await?;
        Ok(Self {
            snapshot_id: row.try_get::<i64, _>("snapshot_id")? + 1,
            schema_version: row.try_get("schema_version")?,
            next_catalog_id: row.try_get("next_catalog_id")?,
            next_file_id: row.try_get("next_file_id")?,
            made: Vec::new(),
        })
    }

    async fn create_table(&mut self, connection: &mut AnyConnection, table: &LakeTable) -> Result<(), CatalogError> {
        let (table_id, partition_id) = (self.next_catalog_id, self.next_catalog_id + 1);
        self.next_catalog_id += 2;
        let sql = Dialect::of(connection).statement("INSERT INTO ducklake_table VALUES ($1, $2::uuid, $3, NULL, 0, $4, $5, TRUE)");
        sqlx::query(sql)
            .bind(table_id)
            .bind(Uuid::new_v4().to_string())
            .bind(self.snapshot_id)
            .bind(table.name)
            .bind(format!("{}/", table.name))
            .execute(&mut *connection)
            .await?;
        let mut next_column_id = 1;
        for column in &table.columns {
            next_column_id = self.create_column(connection, table_id, column, None, next_column_id).await?;
        }
        sqlx::query("INSERT INTO ducklake_partition_info VALUES ($1, $2, $3, NULL)")
            .bind(partition_id)
            .bind(table_id)
            .bind(self.snapshot_id)
            .execute(&mut *connection)
            .await?;
        for (index, transform) in ["year", "month", "day"].into_iter().enumerate() {
            sqlx::query(
                "INSERT INTO ducklake_partition_column
                 SELECT $1, $2, $3, column_id, $4 FROM ducklake_column WHERE table_id = $2 AND column_name = $5 AND parent_column IS NULL",
            )
            .bind(partition_id)
            .bind(table_id)
            .bind(index as i64)
            .bind(transform)
            .bind(table.partition_column)
            .execute(&mut *connection)
            .await?;
        }
        self.altered(connection, table_id).await?;
        self.made.push(format!("created_table:\"{SCHEMA}\".\"{}\"", table.name));
        Ok(())
    }

    async fn append_columns(&mut self, connection: &mut AnyConnection, table: &LakeTable, ids: &TableIds) -> Result<(), CatalogError> {
        let mut next_column_id = ids.columns.values().map(|(id, _)| id + 1).max().unwrap_or(1);
        let mut appended = false;
        for column in table.columns.iter().filter(|c| !ids.columns.contains_key(&c.name)) {
            next_column_id = self.create_column(connection, ids.table_id, column, None, next_column_id).await?;
            appended = true;
        }
        if appended {
            self.altered(connection, ids.table_id).await?;
            self.made.push(format!("altered_table:{}", ids.table_id));
        }
        Ok(())
    }

    async fn altered(&self, connection: &mut AnyConnection, table_id: i64) -> Result<(), CatalogError> {
        sqlx::query("INSERT INTO ducklake_schema_versions VALUES ($1, $2, $3)")
            .bind(self.snapshot_id)
            .bind(self.schema_version)
            .bind(table_id)
            .execute(&mut *connection)
            .await?;
        Ok(())
    }

    /// Writes a column and its children, depth first; returns the next free id. Columns nest a few levels only.
    async fn create_column(
        &self,
        connection: &mut AnyConnection,
        table_id: i64,
        column: &LakeColumn,
        parent: Option<i64>,
        column_id: i64,
    ) -> Result<i64, CatalogError> {
        sqlx::query("INSERT INTO ducklake_column VALUES ($1, $2, NULL, $3, $1, $4, $5, NULL, 'NULL', $6, $7, $8, 'duckdb')")
            .bind(column_id)
            .bind(self.snapshot_id)
            .bind(table_id)
            .bind(&column.name)
            .bind(column.column_type)
            .bind(column.nullable)
            .bind(parent)
            .bind(if column.children.is_empty() { "literal" } else { "" })
            .execute(&mut *connection)
            .await?;
        let mut next = column_id + 1;
        for child in &column.children {
            next = Box::pin(self.create_column(connection, table_id, child, Some(column_id), next)).await?;
        }
        Ok(next)
    }

    pub(crate) async fn end(self, connection: &mut AnyConnection) -> Result<(), CatalogError> {
        if self.made.is_empty() {
            return Ok(());
        }
        let sql = Dialect::of(connection).statement("INSERT INTO ducklake_snapshot VALUES ($1, $2::timestamptz, $3, $4, $5)");
        sqlx::query(sql)
            .bind(self.snapshot_id)
            .bind(snapshot_time())
            .bind(self.schema_version)
            .bind(self.next_catalog_id)
            .bind(self.next_file_id)
            .execute(&mut *connection)
            .await?;
        sqlx::query("INSERT INTO ducklake_snapshot_changes VALUES ($1, $2, 'weir', NULL, NULL)")
            .bind(self.snapshot_id)
            .bind(self.made.join(","))
            .execute(&mut *connection)
            .await?;
        Ok(())
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::testing::{Place, in_both_databases};

    pub(crate) fn column(name: &str, column_type: &'static str, children: Vec<LakeColumn>) -> LakeColumn {
        LakeColumn { name: name.to_owned(), column_type, nullable: true, children }
    }

    pub(crate) fn table() -> LakeTable {
        let element = column("element", "struct", vec![column("lineno", "int32", vec![])]);
        let columns = vec![column("received", "timestamp_ms", vec![]), column("frames", "list", vec![element]), column("level", "varchar", vec![])];
        LakeTable { name: "errors", columns, partition_column: "received" }
    }

    async fn tables_are_created_once_and_columns_are_appended(place: Place) {
        let catalog = place.open().await;
        let lake = catalog.ensure_lake(&[table()], place.dir()).await.unwrap();
        let ids = |lake: &Lake| ["received", "frames", "frames.element", "frames.element.lineno", "level", "dist"].map(|p| lake.column_id("errors", p));
        assert_eq!(ids(&lake), [Some(1), Some(2), Some(3), Some(4), Some(5), None]);
        let snapshots = || async { sqlx::query_scalar::<_, i64>("SELECT max(snapshot_id) FROM ducklake_snapshot").fetch_one(&catalog.pool).await.unwrap() };
        catalog.ensure_lake(&[table()], place.dir()).await.unwrap();
        assert_eq!(snapshots().await, 1, "nothing changed, so there is no new snapshot");
        let mut grown = table();
        grown.columns.push(column("dist", "varchar", vec![]));
        let lake = catalog.ensure_lake(&[grown], place.dir()).await.unwrap();
        assert_eq!(ids(&lake), [Some(1), Some(2), Some(3), Some(4), Some(5), Some(6)]);
        assert_eq!(snapshots().await, 2);
    }

    in_both_databases!(tables_are_created_once_and_columns_are_appended);
}
