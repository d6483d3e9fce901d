//! How a journal is set up.

use std::path::PathBuf;

/// The folder of a journal and its bounds.
#[derive(Debug, Clone)]
pub struct Options {
    /// Where the segments are. Only one process may use it at a time; the journal itself does not check that.
    pub dir: PathBuf,
    /// A segment that reaches this size is followed by another. A record that is larger has a segment of its own.
    pub segment_bytes_max: u64,
    /// All segments together; at this bound appends fail with [`AppendError::Full`](crate::AppendError::Full).
    pub journal_bytes_max: u64,
    /// The newest records are kept in memory for readers up to this size, with their bodies as the doors decompressed them.
    pub tail_bytes_max: usize,
}

impl Options {
    /// The defaults: segments of 64 MiB, 16 GiB together, 32 MiB of records in memory.
    pub fn new(dir: impl Into<PathBuf>) -> Self {
        Self { dir: dir.into(), segment_bytes_max: 64 << 20, journal_bytes_max: 16 << 30, tail_bytes_max: 32 << 20 }
    }
}
