//! The hot half of a table: batches since the last commit, merged as they age.

use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::compute::concat_batches;
use arrow::error::ArrowError;

/// Immutable batches in the order of their ticks. Eight that are about equally large, with smaller ones between them, become one,
/// like digits of a counter in base eight: n rows lie in a few batches for each digit, a query never walks thousands of tiny ones,
/// and each row is copied about once a digit. A base of two would leave fewer batches and copy each row three times as often.
#[derive(Debug, Default, Clone)]
pub(crate) struct Hot {
    batches: Vec<RecordBatch>,
    bytes: usize,
}

/// So many batches become one.
const MERGED_BATCHES: usize = 8;
/// A batch of this many rows is left as it is: it is large enough for any operator.
const FULL_ROWS: usize = 8192;

/// The number of digits of a batch's rows in base eight: batches of one size are about equally large.
fn size(batch: &RecordBatch) -> u32 {
    batch.num_rows().max(1).ilog2() / MERGED_BATCHES.ilog2()
}

impl Hot {
    /// Adds the rows of a tick.
    pub(crate) fn push(&mut self, batch: RecordBatch) -> Result<(), ArrowError> {
        if batch.num_rows() == 0 {
            return Ok(());
        }
        self.bytes += batch.get_array_memory_size();
        self.batches.push(batch);
        // What was merged may complete the next larger size.
        while let Some(first) = self.first_to_merge() {
            let merged = self.batches.split_off(first);
            self.batches.push(concat_batches(&merged[0].schema(), &merged)?);
        }
        Ok(())
    }

    /// Where the batches begin that become one with the last; `None` while there are too few.
    fn first_to_merge(&self) -> Option<usize> {
        let last = self.batches.last().filter(|batch| batch.num_rows() < FULL_ROWS)?;
        let larger = |batch: &RecordBatch| size(batch) > size(last) || batch.num_rows() >= FULL_ROWS;
        let first = self.batches.iter().rposition(larger).map_or(0, |larger| larger + 1);
        (self.batches.len() - first >= MERGED_BATCHES).then_some(first)
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

    /// Pushes batches of these sizes in turn; the rows must be there in order, and the batches few at every moment.
    fn check(sizes: &[i64], total: i64, batches_max: usize) {
        let mut hot = Hot::default();
        let mut next = 0;
        for rows in sizes.iter().cycle() {
            let column: ArrayRef = Arc::new(Int64Array::from_iter_values(next..next + rows));
            hot.push(RecordBatch::try_from_iter([("n", column)]).unwrap()).unwrap();
            next += rows;
            let small = hot.batches.iter().filter(|batch| batch.num_rows() < FULL_ROWS).count();
            assert!(small <= batches_max, "{small} batches below {FULL_ROWS} rows after {next} rows of {sizes:?}");
            if next >= total {
                break;
            }
        }
        let rows: Vec<i64> = hot.batches().iter().flat_map(|b| b.column(0).as_primitive::<Int64Type>().values().to_vec()).collect();
        assert_eq!(rows, (0..next).collect::<Vec<_>>());
    }

    #[test]
    fn rows_keep_their_order_in_few_batches() {
        // Seven of each of the five sizes below a full batch.
        check(&[1], 10_000, 35);
        check(&[30], 50_000, 35);
        check(&[1, 100], 50_000, 35);
        check(&[500, 1, 1, 7, 60], 50_000, 35);
        check(&[9_000, 1], 50_000, 35);
    }
}
