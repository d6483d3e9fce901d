//! The newest records in memory, so that a reader who keeps up reads no file and decompresses nothing again.

use std::collections::VecDeque;
use std::sync::Arc;

use weir_protocol::record::Record;

/// The last records, as many as fit.
#[derive(Debug)]
pub(crate) struct Tail {
    records: VecDeque<(Arc<Record>, usize)>,
    /// The offset after the last.
    end: u64,
    bytes: usize,
    bytes_max: usize,
}

impl Tail {
    pub(crate) fn new(end: u64, bytes_max: usize) -> Self {
        Self { records: VecDeque::new(), end, bytes: 0, bytes_max }
    }

    pub(crate) fn push(&mut self, record: Arc<Record>) {
        let bytes = record.bytes_in_memory();
        self.records.push_back((record, bytes));
        self.end += 1;
        self.bytes += bytes;
        while self.bytes > self.bytes_max {
            let Some((_, bytes)) = self.records.pop_front() else { break };
            self.bytes -= bytes;
        }
    }

    /// The records from an offset on, with the bytes that each takes; `None` where the first is not here any more.
    pub(crate) fn from(&self, offset: u64) -> Option<impl Iterator<Item = &(Arc<Record>, usize)>> {
        let first = self.end - self.records.len() as u64;
        let skipped = usize::try_from(offset.checked_sub(first)?).ok()?;
        Some(self.records.iter().skip(skipped))
    }
}
