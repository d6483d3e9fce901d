//! Reading committed files: batch by batch in the schema of today, and only the parts that may hold what is looked for.

use std::path::PathBuf;
use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch, RecordBatchOptions, new_null_array};
use arrow::datatypes::{Schema, SchemaRef};
use parquet::arrow::ProjectionMask;
use parquet::arrow::arrow_reader::{ParquetRecordBatchReader, ParquetRecordBatchReaderBuilder};
use parquet::errors::ParquetError;
use parquet::file::statistics::Statistics;

use super::Observed;
use crate::lake::CheckedFile;

/// Why a file could not be read.
#[derive(Debug, thiserror::Error)]
#[error("reading {path}: {source}")]
pub(super) struct ReadError {
    pub(super) path: PathBuf,
    source: ParquetError,
}

/// What narrows the row groups of a file.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Looking {
    /// Rows of this project.
    pub(super) project_id: Option<i64>,
    /// Rows of this event, in tables whose bloom filters know.
    pub(super) event_id: Option<[u8; 16]>,
}

/// The rows of a file.
pub(super) struct Batches {
    path: PathBuf,
    inner: ParquetRecordBatchReader,
    schema: SchemaRef,
}

/// Rows of a batch, whatever their size.
const BATCH_ROWS_MAX: usize = 8192;
const BATCH_ROWS_MIN: usize = 16;

impl Batches {
    /// Opens a file; `columns` are those that are wanted, all without. Batches take about so many bytes of memory.
    pub(super) fn open(file: &Observed, columns: Option<&[&str]>, looking: Looking, batch_bytes: usize) -> Result<Self, ReadError> {
        let (table, path) = (file.table, &file.live.path);
        let error = |source| ReadError { path: path.clone(), source };
        let schema = match columns {
            None => Arc::clone(table.stored_schema()),
            Some(names) => {
                Arc::new(Schema::new(table.stored_schema().fields().iter().filter(|f| names.contains(&f.name().as_str())).cloned().collect::<Vec<_>>()))
            }
        };
        let file = CheckedFile::open(path, &file.checksums).map_err(|e| error(e.into()))?;
        let mut builder = ParquetRecordBatchReaderBuilder::try_new(file).map_err(error)?;
        let groups = groups(&mut builder, looking).map_err(error)?;
        let (rows, bytes) =
            builder.metadata().row_groups().iter().fold((0, 0), |(rows, bytes), group| (rows + group.num_rows(), bytes + group.total_byte_size()));
        let row_bytes = (bytes / rows.max(1)).max(1) as usize;
        let names = schema.fields().iter().map(|f| f.name().as_str());
        let mask = ProjectionMask::columns(builder.parquet_schema(), names);
        let batch_rows = (batch_bytes / row_bytes).clamp(BATCH_ROWS_MIN, BATCH_ROWS_MAX);
        let inner = builder.with_projection(mask).with_row_groups(groups).with_batch_size(batch_rows).build().map_err(error)?;
        Ok(Self { path: path.clone(), inner, schema })
    }

    /// The batch in the schema of today: a column that the file is too old to have is null.
    fn adapted(&self, batch: &RecordBatch) -> Result<RecordBatch, ParquetError> {
        let column = |field: &Arc<arrow::datatypes::Field>| match batch.column_by_name(field.name()) {
            Some(column) => Ok(Arc::clone(column)),
            None if field.is_nullable() => Ok(new_null_array(field.data_type(), batch.num_rows())),
            None => Err(ParquetError::General(format!("the column {} is missing", field.name()))),
        };
        let columns: Vec<ArrayRef> = self.schema.fields().iter().map(column).collect::<Result<_, _>>()?;
        let options = RecordBatchOptions::new().with_row_count(Some(batch.num_rows()));
        Ok(RecordBatch::try_new_with_options(Arc::clone(&self.schema), columns, &options)?)
    }
}

impl Iterator for Batches {
    type Item = Result<RecordBatch, ReadError>;

    fn next(&mut self) -> Option<Self::Item> {
        let read = self.inner.next()?.map_err(ParquetError::from).and_then(|batch| self.adapted(&batch));
        Some(read.map_err(|source| ReadError { path: self.path.clone(), source }))
    }
}

/// The row groups that may hold what is looked for.
fn groups(builder: &mut ParquetRecordBatchReaderBuilder<CheckedFile>, looking: Looking) -> Result<Vec<usize>, ParquetError> {
    let leaf = |builder: &ParquetRecordBatchReaderBuilder<CheckedFile>, name: &str| {
        builder.parquet_schema().columns().iter().position(|column| column.path().parts().len() == 1 && column.name() == name)
    };
    let (project, event) = (leaf(builder, "project_id"), leaf(builder, "event_id"));
    let mut groups = Vec::new();
    for group in 0..builder.metadata().num_row_groups() {
        if let (Some(wanted), Some(column)) = (looking.project_id, project)
            && let Some(Statistics::Int64(statistics)) = builder.metadata().row_group(group).column(column).statistics()
            && let (Some(least), Some(greatest)) = (statistics.min_opt(), statistics.max_opt())
            && !(*least..=*greatest).contains(&wanted)
        {
            continue;
        }
        if let (Some(id), Some(column)) = (looking.event_id, event)
            && let Some(filter) = builder.get_row_group_column_bloom_filter(group, column)?
            && !filter.check(&id[..])
        {
            continue;
        }
        groups.push(group);
    }
    Ok(groups)
}
