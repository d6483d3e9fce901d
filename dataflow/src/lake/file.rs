//! Writing one Parquet file, at once or batch by batch.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrow::array::RecordBatch;
use parquet::arrow::ArrowSchemaConverter;
use parquet::arrow::ArrowWriter;
use parquet::arrow::arrow_writer::ArrowWriterOptions;
use parquet::basic::{Compression, LogicalType, Type as PhysicalType, ZstdLevel};
use parquet::errors::ParquetError;
use parquet::file::metadata::SortingColumn;
use parquet::file::properties::{EnabledStatistics, WriterProperties};
use parquet::schema::types::{ColumnPath, SchemaDescriptor, Type};
use weir_catalog::{ColumnStatistics, NewFile};
use weir_operators::schema::Table;

use super::checked::SummedFile;
use super::statistics;

/// Rows of a row group.
const ROW_GROUP_ROWS: usize = 128 << 10;
/// Encoded bytes of a row group while it is written: with large texts it ends before it has all its rows.
const ROW_GROUP_BYTES: usize = 32 << 20;
/// Rows between two looks at the size of a page, in tables with large texts.
const PAYLOAD_WRITE_BATCH_ROWS: usize = 16;
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

/// How much a file is worth compressing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Effort {
    /// Written in a hurry, by a commit: it is merged into others before long.
    Commit,
    /// Written once and read for months.
    Settle,
}

impl Effort {
    /// The level of zstd; `docs/storage.md` has the figures.
    fn level(self) -> i32 {
        match self {
            Self::Commit => 1,
            Self::Settle => 3,
        }
    }

    /// Pages of a table's large texts. Events of an issue are much alike, so that a large page takes a fraction of the space
    /// of many small ones; a lookup of one row decompresses one page.
    fn payload_page_bytes(self) -> usize {
        match self {
            Self::Commit => 256 << 10,
            Self::Settle => 1 << 20,
        }
    }
}

/// Writes rows, which are of one date and in the table's order, to `root/TABLE/relative` and syncs file and folder.
pub fn write(root: &Path, table: &'static Table, relative: &str, date: (i32, u32, u32), rows: &RecordBatch) -> Result<NewFile, WriteError> {
    let mut writer = FileWriter::create(root, table, relative, date, rows.num_rows(), Effort::Commit)?;
    writer.write(rows)?;
    writer.finish()
}

/// A file that is being written. It is removed where it is not finished.
pub struct FileWriter {
    root: PathBuf,
    path: PathBuf,
    relative: String,
    table: &'static Table,
    date: (i32, u32, u32),
    rows: u64,
    writer: Option<ArrowWriter<SummedFile>>,
}

impl FileWriter {
    /// Begins a file for about so many rows, which are to come in the table's order and of one date.
    pub fn create(root: &Path, table: &'static Table, relative: &str, date: (i32, u32, u32), rows: usize, effort: Effort) -> Result<Self, WriteError> {
        let path = root.join(table.name).join(relative);
        let io = |source| WriteError::Io { path: path.clone(), source };
        let parquet = |source| WriteError::Parquet { path: path.clone(), source };
        std::fs::create_dir_all(path.parent().unwrap_or(root)).map_err(io)?;
        let file = File::options().create(true).truncate(true).read(true).write(true).open(&path).map_err(io)?;
        let options = ArrowWriterOptions::new().with_properties(properties(table, rows, effort)).with_parquet_schema(parquet_schema(table).map_err(parquet)?);
        let writer = ArrowWriter::try_new_with_options(SummedFile::new(file), Arc::clone(table.stored_schema()), options).map_err(parquet)?;
        Ok(Self { root: root.to_owned(), path, relative: relative.to_owned(), table, date, rows: 0, writer: Some(writer) })
    }

    /// Adds rows.
    pub fn write(&mut self, rows: &RecordBatch) -> Result<(), WriteError> {
        let Some(writer) = self.writer.as_mut() else { return Ok(()) };
        self.rows += rows.num_rows() as u64;
        writer.write(rows).map_err(|source| WriteError::Parquet { path: self.path.clone(), source })
    }

    /// How large it is by now, about.
    pub fn bytes(&self) -> usize {
        self.writer.as_ref().map_or(0, |writer| writer.bytes_written() + writer.in_progress_size())
    }

    /// Completes the file and syncs it with its folder.
    pub fn finish(mut self) -> Result<NewFile, WriteError> {
        let (path, root) = (self.path.clone(), self.root.clone());
        let io = |source| WriteError::Io { path: path.clone(), source };
        let parquet = |source| WriteError::Parquet { path: path.clone(), source };
        let mut writer = self.writer.take().expect("only this ends a writer");
        let finished = writer.finish().map_err(parquet).and_then(|metadata| {
            // The file itself stays open in the writer until it is dropped; a second handle syncs the same file.
            let mut file = File::open(&path).map_err(io)?;
            file.sync_all().map_err(io)?;
            sync_folders(path.parent().unwrap_or(&root), &root).map_err(io)?;
            let (bytes, footer_bytes) = lengths(&mut file).map_err(io)?;
            Ok((metadata, bytes, footer_bytes, writer.inner().checksums()))
        });
        match finished {
            Ok((metadata, bytes, footer_bytes, checksums)) => {
                let statistics: Vec<ColumnStatistics> = statistics::of_file(self.table, &metadata);
                let (table, path, rows, date) = (self.table.name, self.relative.clone(), self.rows, self.date);
                Ok(NewFile { table, path, rows, bytes, footer_bytes, checksums, date, statistics })
            }
            Err(error) => {
                // Dropping what is not finished removes it.
                self.writer = Some(writer);
                Err(error)
            }
        }
    }
}

impl Drop for FileWriter {
    fn drop(&mut self) {
        if self.writer.take().is_some()
            && let Err(error) = std::fs::remove_file(&self.path)
        {
            tracing::debug!(%error, path = %self.path.display(), "a file that was not finished is left for the next start to remove");
        }
    }
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

fn properties(table: &Table, rows: usize, effort: Effort) -> WriterProperties {
    // Parquet's writer knows the levels 1 to 22.
    let level = ZstdLevel::try_new(effort.level()).unwrap_or_default();
    let mut builder = WriterProperties::builder()
        .set_compression(Compression::ZSTD(level))
        .set_max_row_group_row_count(Some(ROW_GROUP_ROWS))
        .set_max_row_group_bytes(Some(ROW_GROUP_BYTES))
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
        // Whether a page is full is looked at once in so many rows.
        builder = builder.set_write_batch_size(PAYLOAD_WRITE_BATCH_ROWS);
        let path = ColumnPath::from("payload");
        builder = builder
            .set_column_dictionary_enabled(path.clone(), false)
            .set_column_statistics_enabled(path.clone(), EnabledStatistics::Chunk)
            .set_column_data_page_size_limit(path.clone(), effort.payload_page_bytes());
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
