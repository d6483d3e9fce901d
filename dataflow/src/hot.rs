//! The hot half of a table: batches since the last commit, merged as they age.

use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::compute::concat_batches;
use arrow::error::ArrowError;

/// Immutable batches in the order of their ticks. A new batch is merged with its neighbours as long as they are not more
/// than twice as large, like digits of a binary counter: n rows lie in about log n batches, each row is copied about
/// log n times, and a query never walks thousands of tiny ones.
#[derive(Debug, Default, Clone)]
pub(crate) struct Hot {
    batches: Vec<RecordBatch>,
    bytes: usize,
}

/// A batch of this many rows is left as it is: it is large enough for any operator.
const FULL_ROWS: usize = 8192;

impl Hot {
    /// Adds the rows of a tick.
    pub(crate) fn push(&mut self, batch: RecordBatch) -> Result<(), ArrowError> {
        if batch.num_rows() == 0 {
            return Ok(());
        }
        let mut first = self.batches.len();
        let mut rows = batch.num_rows();
        while first > 0 {
            let before = self.batches[first - 1].num_rows();
            if before > rows * 2 || before >= FULL_ROWS {
                break;
            }
            rows += before;
            first -= 1;
        }
        self.bytes += batch.get_array_memory_size();
        if first == self.batches.len() {
            self.batches.push(batch);
            return Ok(());
        }
        let mut merged = self.batches.split_off(first);
        merged.push(batch);
        self.batches.push(concat_batches(&merged[0].schema(), &merged)?);
        Ok(())
    }

    /// The batches.
    pub(crate) fn batches(&self) -> Arc<[RecordBatch]> {
        self.batches.as_slice().into()
    }

    /// What was pushed, in bytes of memory.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Whether there are no rows.
    pub(crate) fn is_empty(&self) -> bool {
        self.batches.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use arrow::array::{ArrayRef, AsArray, Int64Array};
    use arrow::datatypes::Int64Type;

    use super::*;

    #[test]
    fn rows_keep_their_order_in_few_batches() {
        let mut hot = Hot::default();
        for n in 0..5_000i64 {
            let column: ArrayRef = Arc::new(Int64Array::from(vec![n]));
            hot.push(RecordBatch::try_from_iter([("n", column)]).unwrap()).unwrap();
        }
        let batches = hot.batches();
        assert!(batches.len() < 20, "{} batches", batches.len());
        let rows: Vec<i64> = batches.iter().flat_map(|b| b.column(0).as_primitive::<Int64Type>().values().to_vec()).collect();
        assert_eq!(rows, (0..5_000).collect::<Vec<_>>());
    }
}
