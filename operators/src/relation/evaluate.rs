//! Filters and columns over a batch, where single rows may fail.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, BooleanArray, RecordBatch, UInt32Array};
use arrow::compute::{concat_batches, filter_record_batch, prep_null_mask_filter};
use arrow::datatypes::{DataType, SchemaRef};

use super::codec::batch_of;
use super::plan::{EvaluateError, Expression};

/// The values of an expression: as many as there are rows, or an error; a panic is an error.
pub(super) fn evaluate(expression: &Expression, batch: &RecordBatch) -> Result<ArrayRef, EvaluateError> {
    let values = catch_unwind(AssertUnwindSafe(|| expression.evaluate(batch))).unwrap_or_else(|panic| Err(EvaluateError(panic_message(&*panic))))?;
    if values.len() == batch.num_rows() {
        Ok(values)
    } else {
        Err(EvaluateError(format!("the expression gave {} values for {} rows", values.len(), batch.num_rows())))
    }
}

fn panic_message(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().copied().or_else(|| panic.downcast_ref::<String>().map(String::as_str));
    format!("the expression panicked: {}", text.unwrap_or("without a message"))
}

/// Filters and columns.
#[derive(Debug, Clone)]
pub(super) struct Projection {
    pub filter: Vec<Expression>,
    pub columns: Vec<Expression>,
    pub schema: SchemaRef,
}

/// What a projection made of a batch.
pub(super) struct Projected {
    /// The rows that passed.
    pub batch: RecordBatch,
    /// Which rows of the input they are, in their order.
    pub rows: Vec<u32>,
    /// Rows of the input that have no value, and why.
    pub failures: Vec<(u32, EvaluateError)>,
}

impl Projection {
    /// Evaluates over a batch. A filter is asked only about rows that those before it let through; a row that fails does not
    /// disturb the others.
    pub fn apply(&self, batch: &RecordBatch) -> Projected {
        let mut pieces = Vec::new();
        let mut rows = Vec::new();
        let mut failures = Vec::new();
        let mut ranges = vec![(0, batch.num_rows())];
        // Halves of what failed are asked in their order, so that rows stay in theirs.
        while let Some((start, length)) = ranges.pop() {
            if length == 0 {
                continue;
            }
            match self.apply_whole(&batch.slice(start, length)) {
                Ok((piece, kept)) => {
                    let start = start as u32;
                    rows.extend(kept.values().iter().map(|row| start + row));
                    pieces.push(piece);
                }
                Err(error) if length == 1 => failures.push((start as u32, error)),
                Err(_) => {
                    let half = length / 2;
                    ranges.push((start + half, length - half));
                    ranges.push((start, half));
                }
            }
        }
        let batch = match pieces.len() {
            0 => RecordBatch::new_empty(Arc::clone(&self.schema)),
            1 => pieces.remove(0),
            _ if self.columns.is_empty() => batch_of(&self.schema, Vec::new(), rows.len()),
            _ => concat_batches(&self.schema, &pieces).expect("pieces have one schema"),
        };
        Projected { batch, rows, failures }
    }

    fn apply_whole(&self, batch: &RecordBatch) -> Result<(RecordBatch, UInt32Array), EvaluateError> {
        let mut current = batch.clone();
        let mut kept: UInt32Array = (0..batch.num_rows() as u32).collect();
        for filter in &self.filter {
            if current.num_rows() == 0 {
                break;
            }
            let passes = truths(&evaluate(filter, &current)?)?;
            if passes.true_count() == passes.len() {
                continue;
            }
            kept = arrow::compute::filter(&kept, &passes).map_err(internal)?.as_primitive().clone();
            current = filter_record_batch(&current, &passes).map_err(internal)?;
        }
        if current.num_rows() == 0 {
            return Ok((RecordBatch::new_empty(Arc::clone(&self.schema)), kept));
        }
        let columns = self.columns.iter().map(|column| evaluate(column, &current)).collect::<Result<Vec<_>, _>>()?;
        check(&self.schema, &columns)?;
        Ok((batch_of(&self.schema, columns, current.num_rows()), kept))
    }

    /// The columns over one row that has failed: those that fail are null. For telling whose row it would have been.
    pub fn salvage(&self, row: &RecordBatch) -> RecordBatch {
        let columns = self.columns.iter().zip(self.schema.fields()).map(|(column, field)| {
            let value = evaluate(column, row).ok().filter(|value| value.data_type() == field.data_type());
            value.unwrap_or_else(|| arrow::array::new_null_array(field.data_type(), row.num_rows()))
        });
        batch_of(&super::codec::nullable(&self.schema), columns.collect(), row.num_rows())
    }
}

/// Which are true; null is not.
pub(super) fn truths(values: &ArrayRef) -> Result<BooleanArray, EvaluateError> {
    let Some(values) = values.as_boolean_opt() else {
        if values.data_type() == &DataType::Null {
            return Ok(BooleanArray::from(vec![false; values.len()]));
        }
        return Err(EvaluateError(format!("a condition is {}, not a boolean", values.data_type())));
    };
    Ok(if values.null_count() > 0 { prep_null_mask_filter(values) } else { values.clone() })
}

fn check(schema: &SchemaRef, columns: &[ArrayRef]) -> Result<(), EvaluateError> {
    for (column, field) in columns.iter().zip(schema.fields()) {
        if column.data_type() != field.data_type() {
            return Err(EvaluateError(format!("{} is {} and not {} as planned", field.name(), column.data_type(), field.data_type())));
        }
        if !field.is_nullable() && column.null_count() > 0 {
            return Err(EvaluateError(format!("{} is null", field.name())));
        }
    }
    Ok(())
}

fn internal(error: arrow::error::ArrowError) -> EvaluateError {
    EvaluateError(error.to_string())
}

#[cfg(test)]
mod tests {
    use arrow::array::Int64Array;
    use arrow::datatypes::{Field, Int64Type, Schema};

    use super::super::plan::Evaluate;
    use super::*;

    /// Fails for some values, and counts how often it is asked.
    #[derive(Debug)]
    struct Picky(std::sync::atomic::AtomicUsize);

    impl Evaluate for Picky {
        fn evaluate(&self, batch: &RecordBatch) -> Result<ArrayRef, EvaluateError> {
            self.0.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
            let values = batch.column(0).as_primitive::<Int64Type>();
            match values.values().iter().find(|value| **value % 500 == 7) {
                Some(value) => Err(EvaluateError(format!("not {value}"))),
                None => Ok(Arc::clone(batch.column(0))),
            }
        }
    }

    #[test]
    fn failing_rows_are_found_by_halving_and_the_others_keep_their_order() {
        let schema = Arc::new(Schema::new(vec![Field::new("v", DataType::Int64, true)]));
        let batch = RecordBatch::try_new(Arc::clone(&schema), vec![Arc::new(Int64Array::from_iter_values(0..1000))]).unwrap();
        let picky = Arc::new(Picky(0.into()));
        let projection = Projection { filter: vec![], columns: vec![Arc::<Picky>::clone(&picky) as Expression], schema };
        let projected = projection.apply(&batch);
        assert_eq!(projected.failures, [(7, EvaluateError("not 7".to_owned())), (507, EvaluateError("not 507".to_owned()))]);
        let expected: Vec<u32> = (0..1000).filter(|row| row % 500 != 7).collect();
        assert_eq!(projected.rows, expected);
        assert_eq!(projected.batch.column(0).as_primitive::<Int64Type>().values().iter().map(|value| *value as u32).collect::<Vec<_>>(), expected);
        assert!(picky.0.load(std::sync::atomic::Ordering::Relaxed) < 50);
    }
}
