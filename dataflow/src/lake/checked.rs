//! Checksums of a file's blocks, kept in the catalog: what changed on the disk after it was written is found by whoever reads it.
//!
//! Parquet has checksums of pages, which its writer does not make; they would leave footers and indexes out besides.

use std::fs::File;
use std::io::{self, Read, Write};
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use parquet::errors::ParquetError;
use parquet::file::reader::{ChunkReader, Length};

/// Bytes of a block; the last of a file may have fewer.
const BLOCK_BYTES: u64 = 32 << 10;

/// Bytes of a file that are not those that were written.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("bytes {} to {} of {path} are not those that were written: the disk has damaged the file; restore it from a backup", .bytes.start, .bytes.end)]
pub struct Damaged {
    /// The file.
    pub path: PathBuf,
    /// Where it is damaged, as far as the checksums tell: a block.
    pub bytes: Range<u64>,
}

/// The CRC-32 of every block of a file; empty where none are known, as for files that other programs wrote. Cheap to clone.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Checksums(Arc<[u32]>);

impl Checksums {
    /// Reads them as the catalog keeps them, little-endian.
    pub fn from_bytes(bytes: &[u8]) -> Self {
        Self(bytes.as_chunks().0.iter().map(|sum| u32::from_le_bytes(*sum)).collect())
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The whole blocks that a range of a file of `length` bytes is in: what has to be read to check it. Without checksums the range itself.
    pub fn blocks(&self, range: Range<u64>, length: u64) -> Range<u64> {
        if self.is_empty() || range.is_empty() {
            return range;
        }
        range.start / BLOCK_BYTES * BLOCK_BYTES..range.end.next_multiple_of(BLOCK_BYTES).min(length)
    }

    /// Checks whole blocks that begin at `start`.
    ///
    /// # Errors
    /// Names the first that is damaged.
    pub fn check(&self, path: &Path, start: u64, bytes: &[u8]) -> Result<(), Damaged> {
        if self.is_empty() {
            return Ok(());
        }
        for (index, block) in (start / BLOCK_BYTES..).zip(bytes.chunks(BLOCK_BYTES as usize)) {
            // A file that has grown has blocks of which nothing is known.
            if self.0.get(index as usize) != Some(&crc32fast::hash(block)) {
                let begin = index * BLOCK_BYTES;
                return Err(Damaged { path: path.to_owned(), bytes: begin..begin + block.len() as u64 });
            }
        }
        Ok(())
    }
}

/// A file that is written from its beginning to its end, and the checksums of its blocks.
pub(super) struct SummedFile {
    file: File,
    finished: Vec<u32>,
    block: crc32fast::Hasher,
    filled: u64,
}

impl SummedFile {
    pub(super) fn new(file: File) -> Self {
        Self { file, finished: Vec::new(), block: crc32fast::Hasher::new(), filled: 0 }
    }

    /// The checksums of what was written, as the catalog keeps them.
    pub(super) fn checksums(&self) -> Vec<u8> {
        let last = (self.filled > 0).then(|| self.block.clone().finalize());
        self.finished.iter().copied().chain(last).flat_map(u32::to_le_bytes).collect()
    }
}

impl Write for SummedFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.file.write(bytes)?;
        let mut rest = &bytes[..written];
        while !rest.is_empty() {
            let (part, behind) = rest.split_at(rest.len().min((BLOCK_BYTES - self.filled) as usize));
            self.block.update(part);
            self.filled += part.len() as u64;
            if self.filled == BLOCK_BYTES {
                self.finished.push(std::mem::take(&mut self.block).finalize());
                self.filled = 0;
            }
            rest = behind;
        }
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

/// A file of which nothing is read that is not what was written.
pub(crate) struct CheckedFile(Arc<Checked>);

struct Checked {
    path: PathBuf,
    file: File,
    length: u64,
    checksums: Checksums,
    /// The blocks that were read last: headers and values of small pages are near each other.
    last: Mutex<(u64, Bytes)>,
}

impl CheckedFile {
    pub(crate) fn open(path: &Path, checksums: &Checksums) -> io::Result<Self> {
        let file = File::open(path)?;
        let length = file.metadata()?.len();
        Ok(Self(Arc::new(Checked { path: path.to_owned(), file, length, checksums: checksums.clone(), last: Mutex::default() })))
    }
}

impl Checked {
    fn read(&self, range: Range<u64>) -> Result<Bytes, ParquetError> {
        if range.end > self.length {
            return Err(ParquetError::EOF(format!("the file ends at {} of {} bytes", self.length, range.end)));
        }
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        if range.start < last.0 || range.end > last.0 + last.1.len() as u64 {
            let blocks = self.checksums.blocks(range.clone(), self.length);
            let mut bytes = vec![0; (blocks.end - blocks.start) as usize];
            self.file.read_exact_at(&mut bytes, blocks.start)?;
            self.checksums.check(&self.path, blocks.start, &bytes).map_err(|damaged| ParquetError::External(Box::new(damaged)))?;
            *last = (blocks.start, bytes.into());
        }
        Ok(last.1.slice((range.start - last.0) as usize..(range.end - last.0) as usize))
    }
}

impl Length for CheckedFile {
    fn len(&self) -> u64 {
        self.0.length
    }
}

impl ChunkReader for CheckedFile {
    type T = CheckedRead;

    fn get_read(&self, start: u64) -> Result<CheckedRead, ParquetError> {
        Ok(CheckedRead { file: Arc::clone(&self.0), at: start })
    }

    fn get_bytes(&self, start: u64, length: usize) -> Result<Bytes, ParquetError> {
        self.0.read(start..start.saturating_add(length as u64))
    }
}

/// A checked file from some place on.
pub(crate) struct CheckedRead {
    file: Arc<Checked>,
    at: u64,
}

impl Read for CheckedRead {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        // Up to the end of the block: what is asked for next is there then.
        let end = (self.at / BLOCK_BYTES + 1) * BLOCK_BYTES;
        let end = end.min(self.file.length).min(self.at.saturating_add(into.len() as u64));
        if end <= self.at {
            return Ok(0);
        }
        let bytes = self.file.read(self.at..end).map_err(io::Error::other)?;
        into[..bytes.len()].copy_from_slice(&bytes);
        self.at = end;
        Ok(bytes.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(dir: &Path, bytes: &[u8], piece: usize) -> (PathBuf, Checksums) {
        let path = dir.join("file");
        let mut file = SummedFile::new(File::create(&path).unwrap());
        for piece in bytes.chunks(piece) {
            file.write_all(piece).unwrap();
        }
        (path, Checksums::from_bytes(&file.checksums()))
    }

    #[test]
    fn what_was_written_is_read_wherever_one_begins() {
        let dir = tempfile::tempdir().unwrap();
        for length in [0, 1, BLOCK_BYTES - 1, BLOCK_BYTES, BLOCK_BYTES + 1, 3 * BLOCK_BYTES + 77] {
            let bytes: Vec<u8> = (0..length).map(|at| (at * 31 % 251) as u8).collect();
            for piece in [1 << 20, 1000] {
                let (path, checksums) = written(dir.path(), &bytes, piece);
                assert_eq!(checksums.0.len() as u64, length.div_ceil(BLOCK_BYTES));
                let file = CheckedFile::open(&path, &checksums).unwrap();
                for start in [0, 1, BLOCK_BYTES - 2, BLOCK_BYTES, 2 * BLOCK_BYTES + 5, length].into_iter().filter(|start| *start <= length) {
                    let mut rest = Vec::new();
                    file.get_read(start).unwrap().read_to_end(&mut rest).unwrap();
                    assert_eq!(rest, &bytes[start as usize..]);
                    for end in [start, start + 1, BLOCK_BYTES + 7, length].into_iter().filter(|end| (start..=length).contains(end)) {
                        assert_eq!(file.get_bytes(start, (end - start) as usize).unwrap(), &bytes[start as usize..end as usize]);
                    }
                }
                assert!(matches!(file.get_bytes(length, 1), Err(ParquetError::EOF(_))));
            }
        }
    }

    #[test]
    fn every_flipped_bit_is_found_and_only_its_block_is_lost() {
        let dir = tempfile::tempdir().unwrap();
        let bytes = vec![7; 2 * BLOCK_BYTES as usize + 100];
        let (path, checksums) = written(dir.path(), &bytes, 4096);
        for place in [0, BLOCK_BYTES as usize - 1, BLOCK_BYTES as usize, bytes.len() - 1] {
            let mut damaged = bytes.clone();
            damaged[place] ^= 1 << (place % 8);
            std::fs::write(&path, damaged).unwrap();
            let file = CheckedFile::open(&path, &checksums).unwrap();
            for block in 0..3 {
                let begin = block * BLOCK_BYTES;
                let read = file.get_bytes(begin, (BLOCK_BYTES.min(bytes.len() as u64 - begin)) as usize);
                assert_eq!(read.is_err(), place as u64 / BLOCK_BYTES == block, "byte {place}, block {block}");
                if let Err(error) = read {
                    assert!(error.to_string().contains(&format!("bytes {begin} to ")) && error.to_string().contains("damaged the file"), "{error}");
                }
            }
            assert!(CheckedFile::open(&path, &Checksums::default()).unwrap().get_bytes(0, bytes.len()).is_ok());
        }
        // One that is longer than it was written is found where it is longer, and one that is shorter at its end.
        let longer = [&bytes[..], &[1; 10]].concat();
        std::fs::write(&path, &longer).unwrap();
        assert!(CheckedFile::open(&path, &checksums).unwrap().get_bytes(longer.len() as u64 - 8, 8).is_err());
        std::fs::write(&path, &bytes[..bytes.len() - 1]).unwrap();
        assert!(CheckedFile::open(&path, &checksums).unwrap().get_bytes(bytes.len() as u64 - 9, 8).is_err());
    }
}
