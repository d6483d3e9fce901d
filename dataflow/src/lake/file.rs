//! Writing one Parquet file.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::Path;
use std::sync::Arc;

use arrow::array::RecordBatch;
use parquet::arrow::ArrowSchemaConverter;
use parquet::arrow::ArrowWriter;
use parquet::arrow::arrow_writer::ArrowWriterOptions;
use parquet::basic::{Compression, LogicalType, Type as PhysicalType, ZstdLevel};
use parquet::errors::ParquetError;
use parquet::file::metadata::{ParquetMetaData, SortingColumn};
use parquet::file::properties::{EnabledStatistics, WriterProperties};
use parquet::schema::types::{ColumnPath, SchemaDescriptor, Type};
use weir_catalog::{ColumnStatistics, NewFile};
use weir_operators::schema::Table;

use super::statistics;

/// Rows of a row group.
const ROW_GROUP_ROWS: usize = 128 << 10;
/// Pages of a table's large texts are small, so that a lookup of one row decompresses little.
const PAYLOAD_PAGE_BYTES: usize = 64 << 10;
/// Share of false positives of a bloom filter.
const BLOOM_FALSE_POSITIVES: f64 = 0.01;

/// Why a file could not be written.
#[derive(Debug, thiserror::Error)]
pub enum WriteError {
    /// The file system refused.
    #[error("writing {path}: {source}")]
    Io {
        /// The file or folder.
        path: std::path::PathBuf,
        /// What the operating system said.
        source: std::io::Error,
    },
    /// The writer refused; a full disk shows here, too.
    #[error("writing {path}: {source}")]
    Parquet {
        /// The file.
        path: std::path::PathBuf,
        /// What the writer said.
        source: ParquetError,
    },
}

/// Writes rows, which are of one date and in the table's order, to `root/TABLE/relative` and syncs file and folder.
pub fn write(root: &Path, table: &'static Table, relative: &str, date: (i32, u32, u32), rows: &RecordBatch) -> Result<NewFile, WriteError> {
    let path = root.join(table.name).join(relative);
    let io = |source| WriteError::Io { path: path.clone(), source };
    let parquet = |source| WriteError::Parquet { path: path.clone(), source };
    let folder = path.parent().unwrap_or(root);
    std::fs::create_dir_all(folder).map_err(io)?;
    let mut file = File::options().create(true).truncate(true).read(true).write(true).open(&path).map_err(io)?;
    let metadata = encode(&file, table, rows).map_err(parquet)?;
    file.sync_all().map_err(io)?;
    sync_folders(folder, root).map_err(io)?;
    let (bytes, footer_bytes) = lengths(&mut file).map_err(io)?;
    let statistics: Vec<ColumnStatistics> = statistics::of_file(table, &metadata);
    Ok(NewFile { table: table.name, path: relative.to_owned(), rows: rows.num_rows() as u64, bytes, footer_bytes, date, statistics })
}

fn encode(file: &File, table: &Table, rows: &RecordBatch) -> Result<ParquetMetaData, ParquetError> {
    let options = ArrowWriterOptions::new().with_properties(properties(table, rows.num_rows())).with_parquet_schema(parquet_schema(table)?);
    let mut writer = ArrowWriter::try_new_with_options(file, rows.schema(), options)?;
    writer.write(rows)?;
    writer.close()
}

/// The table's Parquet schema: Arrow's conversion, with the ids marked as UUIDs.
fn parquet_schema(table: &Table) -> Result<SchemaDescriptor, ParquetError> {
    let converted = ArrowSchemaConverter::new().convert(table.file_schema())?;
    let mut fields = Vec::new();
    for field in converted.root_schema().get_fields() {
        if !table.column(field.name()).is_some_and(|column| column.id) {
            fields.push(Arc::clone(field));
            continue;
        }
        let info = field.get_basic_info();
        let id = Type::primitive_type_builder(field.name(), PhysicalType::FIXED_LEN_BYTE_ARRAY)
            .with_length(16)
            .with_repetition(info.repetition())
            .with_logical_type(Some(LogicalType::Uuid))
            .with_id(info.has_id().then(|| info.id()))
            .build()?;
        fields.push(Arc::new(id));
    }
    let root = Type::group_type_builder(converted.root_schema().name()).with_fields(fields).build()?;
    Ok(SchemaDescriptor::new(Arc::new(root)))
}

fn properties(table: &Table, rows: usize) -> WriterProperties {
    let mut builder = WriterProperties::builder()
        .set_compression(Compression::ZSTD(ZstdLevel::default()))
        .set_max_row_group_row_count(Some(ROW_GROUP_ROWS))
        .set_statistics_enabled(EnabledStatistics::Page)
        .set_sorting_columns(sorting_columns(table));
    for column in table.bloom_filters {
        let path = ColumnPath::from(*column);
        builder = builder
            .set_column_bloom_filter_enabled(path.clone(), true)
            .set_column_bloom_filter_fpp(path.clone(), BLOOM_FALSE_POSITIVES)
            .set_column_bloom_filter_max_ndv(path, rows.clamp(1, ROW_GROUP_ROWS) as u64);
    }
    if table.column("payload").is_some() {
        let path = ColumnPath::from("payload");
        builder = builder
            .set_column_dictionary_enabled(path.clone(), false)
            .set_column_statistics_enabled(path.clone(), EnabledStatistics::Chunk)
            .set_column_data_page_size_limit(path, PAYLOAD_PAGE_BYTES);
    }
    builder.build()
}

fn sorting_columns(table: &Table) -> Option<Vec<SortingColumn>> {
    let index = |name: &str| table.stored_schema().fields().iter().position(|f| f.name() == name);
    let leaf = |position: usize| table.stored_schema().fields().iter().take(position).all(|f| !f.data_type().is_nested()).then_some(position as i32);
    let column = |name: &&str| index(name).and_then(leaf).map(|column_idx| SortingColumn { column_idx, descending: false, nulls_first: true });
    table.sort_key.iter().map(column).collect()
}

/// A new file is found after a power cut only if its folder, and each new folder above it, is synced too.
fn sync_folders(folder: &Path, root: &Path) -> std::io::Result<()> {
    let mut folder = Some(folder);
    while let Some(path) = folder {
        File::open(path)?.sync_all()?;
        folder = path.parent().filter(|_| path != root);
    }
    Ok(())
}

/// The length of a Parquet file and of its footer, which the last eight bytes tell.
fn lengths(file: &mut File) -> std::io::Result<(u64, u64)> {
    let bytes = file.seek(SeekFrom::End(0))?;
    file.seek(SeekFrom::End(-8))?;
    let mut length = [0; 4];
    file.read_exact(&mut length)?;
    Ok((bytes, u32::from_le_bytes(length).into()))
}
