//! Sorted files into one sorted stream, some batches in memory at a time.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use arrow::array::{Array, ArrayRef, BooleanArray, RecordBatch};
use arrow::compute::{filter_record_batch, interleave_record_batch};
use arrow::error::ArrowError;
use arrow::row::{OwnedRow, RowConverter, Rows, SortField};
use weir_operators::schema::Table;

use super::read::{Batches, Looking};
use super::{MaintenanceError, Observed};

/// Rows that are put together before they are handed on.
const OUT_ROWS: usize = 1024;

/// Where one input is.
struct Cursor {
    batches: Batches,
    batch: RecordBatch,
    keys: Rows,
    at: usize,
}

/// A merge of files that are each in the table's order. Rows that are equal by it come in the order of the files.
pub(super) struct Merged<'a> {
    table: &'static Table,
    converter: RowConverter,
    keep: &'a dyn Fn(&RecordBatch) -> Result<Option<BooleanArray>, MaintenanceError>,
    cursors: Vec<Cursor>,
}

impl<'a> Merged<'a> {
    /// Opens the files, which share so many bytes of memory for their batches. `keep` says which rows of a batch are wanted;
    /// nothing means all.
    pub(super) fn open(
        table: &'static Table,
        files: &[Observed],
        memory_bytes: usize,
        keep: &'a dyn Fn(&RecordBatch) -> Result<Option<BooleanArray>, MaintenanceError>,
    ) -> Result<Self, MaintenanceError> {
        let field = |name: &&str| Ok(SortField::new(table.stored_schema().field_with_name(name)?.data_type().clone()));
        let converter = RowConverter::new(table.sort_key.iter().map(field).collect::<Result<_, ArrowError>>()?)?;
        let mut merged = Self { table, converter, keep, cursors: Vec::new() };
        let batch_bytes = (memory_bytes / files.len().max(1) / 4).clamp(64 << 10, 4 << 20);
        for file in files {
            let batches = Batches::open(file, None, Looking::default(), batch_bytes)?;
            let batch = RecordBatch::new_empty(table.stored_schema().clone());
            let keys = merged.keys(&batch)?;
            merged.cursors.push(Cursor { batches, batch, keys, at: 0 });
        }
        Ok(merged)
    }

    fn keys(&self, batch: &RecordBatch) -> Result<Rows, MaintenanceError> {
        let column = |name: &&str| batch.column_by_name(name).cloned().ok_or_else(|| ArrowError::SchemaError(format!("no column {name}")));
        let columns: Vec<ArrayRef> = self.table.sort_key.iter().map(column).collect::<Result<_, _>>()?;
        Ok(self.converter.convert_columns(&columns)?)
    }

    /// Moves a cursor to its next batch with wanted rows; says whether there is one.
    fn refill(&mut self, index: usize) -> Result<bool, MaintenanceError> {
        while let Some(batch) = self.cursors[index].batches.next() {
            let mut batch = batch?;
            if let Some(wanted) = (self.keep)(&batch)? {
                batch = filter_record_batch(&batch, &wanted)?;
            }
            if batch.num_rows() > 0 {
                let keys = self.keys(&batch)?;
                let cursor = &mut self.cursors[index];
                (cursor.batch, cursor.keys, cursor.at) = (batch, keys, 0);
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Hands on all rows in their order.
    pub(super) fn for_each(mut self, mut each: impl FnMut(&RecordBatch) -> Result<(), MaintenanceError>) -> Result<(), MaintenanceError> {
        let mut heap: BinaryHeap<Reverse<(OwnedRow, usize)>> = BinaryHeap::new();
        for index in 0..self.cursors.len() {
            if self.refill(index)? {
                heap.push(Reverse((self.cursors[index].keys.row(0).owned(), index)));
            }
        }
        let mut picked: Vec<(usize, usize)> = Vec::with_capacity(OUT_ROWS);
        while let Some(Reverse((_, index))) = heap.pop() {
            // Rows of one file often follow each other: they are taken as long as no other file's comes first.
            let next = heap.peek().map(|Reverse((key, other))| (key.row(), *other));
            let cursor = &mut self.cursors[index];
            let rows = cursor.batch.num_rows();
            loop {
                picked.push((index, cursor.at));
                cursor.at += 1;
                if cursor.at == rows || picked.len() == OUT_ROWS || next.is_some_and(|next| next < (cursor.keys.row(cursor.at), index)) {
                    break;
                }
            }
            let ended = cursor.at == rows;
            if ended || picked.len() == OUT_ROWS {
                self.flush(&mut picked, &mut each)?;
            }
            if !ended || self.refill(index)? {
                let cursor = &self.cursors[index];
                heap.push(Reverse((cursor.keys.row(cursor.at).owned(), index)));
            }
        }
        self.flush(&mut picked, &mut each)
    }

    fn flush(&self, picked: &mut Vec<(usize, usize)>, each: &mut impl FnMut(&RecordBatch) -> Result<(), MaintenanceError>) -> Result<(), MaintenanceError> {
        if picked.is_empty() {
            return Ok(());
        }
        let batches: Vec<&RecordBatch> = self.cursors.iter().map(|cursor| &cursor.batch).collect();
        each(&interleave_record_batch(&batches, picked)?)?;
        picked.clear();
        Ok(())
    }
}

/// Which rows are not reached; nothing where none is.
pub(super) fn unreached(reached: &BooleanArray) -> Result<Option<BooleanArray>, ArrowError> {
    if reached.true_count() == 0 && reached.null_count() == 0 { Ok(None) } else { arrow::compute::not(reached).map(Some) }
}
