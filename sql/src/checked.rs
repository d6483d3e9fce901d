//! The reading of one file of the lake, of which nothing is given on that is not what was written.

use std::fmt;
use std::ops::Range;
use std::path::PathBuf;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use datafusion::datasource::listing::PartitionedFile;
use datafusion::datasource::physical_plan::ParquetFileReaderFactory;
use datafusion::datasource::physical_plan::parquet::CachedParquetFileReaderFactory;
use datafusion::error::DataFusionError;
use datafusion::execution::cache::cache_manager::FileMetadataCache;
use datafusion::object_store::path::Path;
use datafusion::object_store::{
    CopyOptions, Error, GetOptions, GetRange, GetResult, GetResultPayload, ListResult, MultipartUpload, ObjectMeta, ObjectStore, PutMultipartOptions,
    PutOptions, PutPayload, PutResult, Result,
};
use datafusion::parquet::arrow::async_reader::AsyncFileReader;
use datafusion::physical_plan::metrics::ExecutionPlanMetricsSet;
use futures::StreamExt;
use futures::stream::BoxStream;
use weir_dataflow::{Checksums, Damaged};

/// What a [`PartitionedFile`] carries: where the file is, and its checksums.
#[derive(Debug)]
pub(crate) struct Checks {
    pub(crate) path: PathBuf,
    pub(crate) checksums: Checksums,
}

/// Makes readers that check what they read, with footers from the cache.
#[derive(Debug)]
pub(crate) struct CheckedReaders {
    pub(crate) store: Arc<dyn ObjectStore>,
    pub(crate) footers: Arc<FileMetadataCache>,
}

impl ParquetFileReaderFactory for CheckedReaders {
    fn create_reader(
        &self,
        partition_index: usize,
        file: PartitionedFile,
        metadata_size_hint: Option<usize>,
        metrics: &ExecutionPlanMetricsSet,
    ) -> Result<Box<dyn AsyncFileReader + Send>, DataFusionError> {
        let checks = file.extension::<Checks>().map(|checks| (checks.path.clone(), checks.checksums.clone()));
        let store: Arc<dyn ObjectStore> = match checks {
            Some((path, checksums)) => Arc::new(CheckedStore { store: Arc::clone(&self.store), bytes: file.object_meta.size, path, checksums }),
            None => Arc::clone(&self.store),
        };
        CachedParquetFileReaderFactory::new(store, Arc::clone(&self.footers)).create_reader(partition_index, file, metadata_size_hint, metrics)
    }
}

/// The store, for one file. Whatever is asked for is read in whole blocks, which are checked.
#[derive(Debug)]
struct CheckedStore {
    store: Arc<dyn ObjectStore>,
    /// The length that the file has by the catalog's account.
    bytes: u64,
    path: PathBuf,
    checksums: Checksums,
}

/// Why a file could not be read; says which.
#[derive(Debug, thiserror::Error)]
#[error("reading {path}: {source}")]
struct ReadError {
    path: PathBuf,
    source: Error,
}

impl CheckedStore {
    fn failed(&self, source: Error) -> Error {
        Error::Generic { store: "lake", source: Box::new(ReadError { path: self.path.clone(), source }) }
    }

    fn check(&self, blocks: &Range<u64>, bytes: &[u8]) -> Result<()> {
        if bytes.len() as u64 != blocks.end - blocks.start {
            let missing = blocks.start + bytes.len() as u64..blocks.end;
            return Err(damaged(Damaged { path: self.path.clone(), bytes: missing }));
        }
        self.checksums.check(&self.path, blocks.start, bytes).map_err(damaged)
    }
}

fn damaged(damaged: Damaged) -> Error {
    Error::Generic { store: "lake", source: Box::new(damaged) }
}

fn not_written(operation: &str) -> Error {
    Error::NotImplemented { operation: operation.to_owned(), implementer: "what reads files of the lake".to_owned() }
}

/// Whole blocks in which ranges lie, each once: those that touch become one.
fn united(mut blocks: Vec<Range<u64>>) -> Vec<Range<u64>> {
    blocks.sort_by_key(|blocks| blocks.start);
    let mut united: Vec<Range<u64>> = Vec::with_capacity(blocks.len());
    for next in blocks {
        match united.last_mut() {
            Some(last) if next.start <= last.end => last.end = last.end.max(next.end),
            _ => united.push(next),
        }
    }
    united
}

#[async_trait]
impl ObjectStore for CheckedStore {
    async fn get_opts(&self, location: &Path, options: GetOptions) -> Result<GetResult> {
        let range = match &options.range {
            None => 0..self.bytes,
            Some(range) => range.as_range(self.bytes).map_err(|source| Error::Generic { store: "lake", source: Box::new(source) })?,
        };
        if options.head || range.is_empty() {
            return self.store.get_opts(location, options).await.map_err(|error| self.failed(error));
        }
        let blocks = self.checksums.blocks(range.clone(), self.bytes);
        let options = GetOptions { range: Some(GetRange::Bounded(blocks.clone())), ..options };
        let result = self.store.get_opts(location, options).await.map_err(|error| self.failed(error))?;
        let (meta, attributes) = (result.meta.clone(), result.attributes.clone());
        let bytes = result.bytes().await.map_err(|error| self.failed(error))?;
        self.check(&blocks, &bytes)?;
        let bytes = bytes.slice((range.start - blocks.start) as usize..(range.end - blocks.start) as usize);
        Ok(GetResult { payload: GetResultPayload::Stream(futures::stream::once(async { Ok(bytes) }).boxed()), meta, range, attributes })
    }

    async fn get_ranges(&self, location: &Path, ranges: &[Range<u64>]) -> Result<Vec<Bytes>> {
        if self.checksums.is_empty() {
            return self.store.get_ranges(location, ranges).await.map_err(|error| self.failed(error));
        }
        let blocks = united(ranges.iter().map(|range| self.checksums.blocks(range.clone(), self.bytes)).collect());
        let read = self.store.get_ranges(location, &blocks).await.map_err(|error| self.failed(error))?;
        for (blocks, bytes) in blocks.iter().zip(&read) {
            self.check(blocks, bytes)?;
        }
        let part = |range: &Range<u64>| {
            let index = blocks.partition_point(|blocks| blocks.end < range.end);
            let (blocks, bytes) = (blocks.get(index)?, read.get(index)?);
            let (start, end) = (range.start.checked_sub(blocks.start)?, range.end - blocks.start);
            (end <= bytes.len() as u64).then(|| bytes.slice(start as usize..end as usize))
        };
        ranges.iter().map(|range| part(range).ok_or_else(|| damaged(Damaged { path: self.path.clone(), bytes: range.clone() }))).collect()
    }

    async fn put_opts(&self, _: &Path, _: PutPayload, _: PutOptions) -> Result<PutResult> {
        Err(not_written("put"))
    }

    async fn put_multipart_opts(&self, _: &Path, _: PutMultipartOptions) -> Result<Box<dyn MultipartUpload>> {
        Err(not_written("put_multipart"))
    }

    fn delete_stream(&self, _: BoxStream<'static, Result<Path>>) -> BoxStream<'static, Result<Path>> {
        futures::stream::once(async { Err(not_written("delete")) }).boxed()
    }

    fn list(&self, _: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        futures::stream::once(async { Err(not_written("list")) }).boxed()
    }

    async fn list_with_delimiter(&self, _: Option<&Path>) -> Result<ListResult> {
        Err(not_written("list"))
    }

    async fn copy_opts(&self, _: &Path, _: &Path, _: CopyOptions) -> Result<()> {
        Err(not_written("copy"))
    }
}

impl fmt::Display for CheckedStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.path.display())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use datafusion::object_store::ObjectStoreExt;
    use datafusion::object_store::memory::InMemory;

    const BLOCK: u64 = 32 << 10;

    fn sums(bytes: &[u8]) -> Checksums {
        let sums: Vec<u8> = bytes.chunks(BLOCK as usize).flat_map(|block| crc32(block).to_le_bytes()).collect();
        Checksums::from_bytes(&sums)
    }

    /// CRC-32 as it is defined, a bit at a time.
    fn crc32(bytes: &[u8]) -> u32 {
        !bytes.iter().fold(u32::MAX, |crc, byte| (0..8).fold(crc ^ u32::from(*byte), |crc, _| if crc & 1 == 1 { crc >> 1 ^ 0xEDB8_8320 } else { crc >> 1 }))
    }

    async fn store(bytes: &[u8], stored: Vec<u8>) -> (CheckedStore, Path) {
        let (memory, location) = (InMemory::new(), Path::from("main/errors/a.parquet"));
        memory.put(&location, stored.into()).await.unwrap();
        let path = PathBuf::from("/lake/main/errors/a.parquet");
        (CheckedStore { store: Arc::new(memory), bytes: bytes.len() as u64, path, checksums: sums(bytes) }, location)
    }

    fn bytes() -> Vec<u8> {
        (0..3 * BLOCK + 100).map(|at| (at * 31 % 251) as u8).collect()
    }

    const RANGES: &[Range<u64>] = &[0..1, 5..BLOCK, BLOCK - 1..BLOCK + 1, 2 * BLOCK..2 * BLOCK + 9, 3 * BLOCK + 90..3 * BLOCK + 100, 3..4, 7..7];

    #[tokio::test]
    async fn what_was_written_is_given_on() {
        let bytes = bytes();
        let (store, location) = store(&bytes, bytes.clone()).await;
        let read = store.get_ranges(&location, RANGES).await.unwrap();
        for (range, read) in RANGES.iter().zip(read) {
            assert_eq!(read, &bytes[range.start as usize..range.end as usize], "{range:?}");
            if !range.is_empty() {
                assert_eq!(store.get_range(&location, range.clone()).await.unwrap(), read, "{range:?}");
            }
        }
        let end = store.get_opts(&location, GetOptions { range: Some(GetRange::Suffix(150)), ..GetOptions::default() }).await.unwrap();
        assert_eq!(end.range, 3 * BLOCK - 50..3 * BLOCK + 100);
        assert_eq!(end.bytes().await.unwrap(), &bytes[bytes.len() - 150..]);
        assert!(store.put(&location, "x".into()).await.is_err() && store.delete(&location).await.is_err());
    }

    #[tokio::test]
    async fn damage_is_named_where_it_is_and_nowhere_else() {
        let bytes = bytes();
        let mut stored = bytes.clone();
        stored[BLOCK as usize + 77] ^= 4;
        let (damaged, location) = store(&bytes, stored).await;
        for range in RANGES.iter().filter(|range| !range.is_empty()) {
            let touches = range.start < 2 * BLOCK && range.end > BLOCK;
            for read in
                [damaged.get_range(&location, range.clone()).await, damaged.get_ranges(&location, std::slice::from_ref(range)).await.map(|mut r| r.remove(0))]
            {
                assert_eq!(read.is_err(), touches, "{range:?}");
                if let Err(error) = read {
                    assert!(error.to_string().contains("bytes 32768 to 65536 of /lake/main/errors/a.parquet"), "{error}");
                }
            }
        }
        // One that has lost its end.
        let (short, location) = store(&bytes, bytes[..bytes.len() - 50].to_vec()).await;
        let end = 3 * BLOCK + 1..3 * BLOCK + 100;
        let error = short.get_range(&location, end.clone()).await.unwrap_err();
        assert!(error.to_string().contains("/lake/main/errors/a.parquet"), "{error}");
        let error = short.get_ranges(&location, std::slice::from_ref(&end)).await.unwrap_err();
        assert!(error.to_string().contains("/lake/main/errors/a.parquet"), "{error}");
    }
}
