//! A table as it is stored: batches in memory and files, at the snapshot of the session, nothing hidden.

use std::sync::Arc;

use async_trait::async_trait;
use chrono::DateTime;
use datafusion::arrow::datatypes::SchemaRef;
use datafusion::catalog::{Session, TableProvider};
use datafusion::common::{DataFusionError, Result, ScalarValue, internal_err};
use datafusion::config::TableParquetOptions;
use datafusion::datasource::listing::PartitionedFile;
use datafusion::datasource::memory::MemorySourceConfig;
use datafusion::datasource::physical_plan::{FileGroup, FileScanConfigBuilder, ParquetSource};
use datafusion::datasource::source::DataSourceExec;
use datafusion::execution::object_store::ObjectStoreUrl;
use datafusion::logical_expr::{BinaryExpr, Expr, Operator, TableProviderFilterPushDown, TableType};
use datafusion::object_store::ObjectMeta;
use datafusion::object_store::path::Path;
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::union::UnionExec;
use weir_dataflow::snapshot::DataFile;
use weir_operators::schema::Table;

use crate::checked::{CheckedReaders, Checks};
use crate::session::pinned;

/// A table in its stored schema.
#[derive(Debug)]
pub(crate) struct StoredTable {
    table: &'static Table,
}

impl StoredTable {
    pub(crate) fn new(table: &'static Table) -> Self {
        Self { table }
    }
}

#[async_trait]
impl TableProvider for StoredTable {
    fn schema(&self) -> SchemaRef {
        Arc::clone(self.table.stored_schema())
    }

    fn table_type(&self) -> TableType {
        TableType::Base
    }

    /// Filters choose files here and stay in the plan; planning pushes them from there into the files.
    fn supports_filters_pushdown(&self, filters: &[&Expr]) -> Result<Vec<TableProviderFilterPushDown>> {
        Ok(vec![TableProviderFilterPushDown::Inexact; filters.len()])
    }

    async fn scan(&self, state: &dyn Session, projection: Option<&Vec<usize>>, filters: &[Expr], limit: Option<usize>) -> Result<Arc<dyn ExecutionPlan>> {
        let snapshot = pinned(state.config())?;
        let Some(stored) = snapshot.table(self.table.name) else { return internal_err!("the snapshot has no table {}", self.table.name) };
        let files: Vec<&DataFile> = stored.cold.iter().filter(|file| may_match(file, filters)).collect();
        let hot = MemorySourceConfig::try_new_exec(&[stored.hot.to_vec()], self.schema(), projection.cloned())?;
        if files.is_empty() {
            return Ok(hot);
        }
        let cold = self.scan_files(state, &files, projection, limit)?;
        if stored.hot.is_empty() {
            return Ok(cold);
        }
        UnionExec::try_new(vec![hot, cold])
    }
}

impl StoredTable {
    fn scan_files(&self, state: &dyn Session, files: &[&DataFile], projection: Option<&Vec<usize>>, limit: Option<usize>) -> Result<Arc<dyn ExecutionPlan>> {
        let options = TableParquetOptions { global: state.config_options().execution.parquet.clone(), ..TableParquetOptions::default() };
        // Files never change, so their footers, page indexes included, are read once and kept within the cache's bound.
        let store = ObjectStoreUrl::local_filesystem();
        let runtime = state.runtime_env();
        let reader = CheckedReaders { store: runtime.object_store(&store)?, footers: runtime.cache_manager.get_file_metadata_cache() };
        let source = ParquetSource::new(self.schema()).with_table_parquet_options(options).with_parquet_file_reader_factory(Arc::new(reader));
        let source = Arc::new(source);
        let groups = state.config().target_partitions().clamp(1, files.len());
        let mut grouped: Vec<Vec<PartitionedFile>> = (0..groups).map(|_| Vec::new()).collect();
        for (index, file) in files.iter().enumerate() {
            // Not from its text: that would be taken for a path whose special characters stand for themselves.
            let location = Path::from_absolute_path(&file.path).map_err(|e| DataFusionError::ObjectStore(Box::new(e.into())))?;
            let checks = Checks { path: file.path.clone(), checksums: file.checksums.clone() };
            let meta = ObjectMeta { location, last_modified: DateTime::default(), size: file.bytes, e_tag: None, version: None };
            grouped[index % groups].push(PartitionedFile::new_from_meta(meta).with_extension(checks));
        }
        let config = FileScanConfigBuilder::new(store, source)
            .with_file_groups(grouped.into_iter().map(FileGroup::new).collect())
            .with_projection_indices(projection.cloned())?
            .with_limit(limit)
            .build();
        Ok(DataSourceExec::from_data_source(config))
    }
}

/// Whether a file may hold rows that meet all filters, as far as its bounds of `project_id` and `received` tell.
fn may_match(file: &DataFile, filters: &[Expr]) -> bool {
    filters.iter().all(|filter| may_meet(file, filter))
}

fn may_meet(file: &DataFile, filter: &Expr) -> bool {
    match filter {
        Expr::BinaryExpr(BinaryExpr { left, op: Operator::And, right }) => may_meet(file, left) && may_meet(file, right),
        Expr::BinaryExpr(BinaryExpr { left, op: Operator::Or, right }) => may_meet(file, left) || may_meet(file, right),
        Expr::BinaryExpr(BinaryExpr { left, op, right }) => match (left.as_ref(), right.as_ref()) {
            (Expr::Column(column), Expr::Literal(value, _)) => within(file, &column.name, *op, value),
            (Expr::Literal(value, _), Expr::Column(column)) => op.swap().is_none_or(|op| within(file, &column.name, op, value)),
            _ => true,
        },
        Expr::InList(list) if !list.negated => match list.expr.as_ref() {
            Expr::Column(column) => list.list.iter().any(|item| match item {
                Expr::Literal(value, _) => within(file, &column.name, Operator::Eq, value),
                _ => true,
            }),
            _ => true,
        },
        _ => true,
    }
}

/// Whether a value between a file's bounds may compare so with a literal.
fn within(file: &DataFile, column: &str, op: Operator, value: &ScalarValue) -> bool {
    let ((least, greatest), value) = match (column, value) {
        ("project_id", ScalarValue::Int64(Some(value))) => (file.project_id, *value),
        ("received", ScalarValue::TimestampMillisecond(Some(value), None)) => (file.received_ms, *value),
        _ => return true,
    };
    match op {
        Operator::Eq => least <= value && value <= greatest,
        Operator::Lt => least < value,
        Operator::LtEq => least <= value,
        Operator::Gt => greatest > value,
        Operator::GtEq => greatest >= value,
        _ => true,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use datafusion::logical_expr::{col, lit};
    use weir_dataflow::Checksums;

    #[test]
    fn files_are_skipped_only_where_no_row_can_match() {
        let file = DataFile { path: "x".into(), bytes: 1, checksums: Checksums::default(), rows: 1, received_ms: (100, 200), project_id: (5, 7) };
        let ms = |v: i64| lit(ScalarValue::TimestampMillisecond(Some(v), None));
        for (filter, want) in [
            (col("project_id").eq(lit(6i64)), true),
            (col("project_id").eq(lit(8i64)), false),
            (lit(4i64).eq(col("project_id")), false),
            (col("project_id").in_list(vec![lit(1i64), lit(7i64)], false), true),
            (col("project_id").in_list(vec![lit(1i64)], false), false),
            (col("project_id").in_list(vec![lit(1i64)], true), true),
            (col("received").gt_eq(ms(200)), true),
            (col("received").gt(ms(200)), false),
            (col("received").lt(ms(100)), false),
            (ms(200).lt(col("received")), false),
            (col("received").gt(ms(300)).or(col("project_id").eq(lit(5i64))), true),
            (col("received").gt(ms(300)).and(col("project_id").eq(lit(5i64))), false),
            (col("title").eq(lit("x")), true),
        ] {
            assert_eq!(may_match(&file, std::slice::from_ref(&filter)), want, "{filter}");
        }
    }
}
