//! Rows as bytes: compact, comparable, and read back as batches.

use arrow::array::{ArrayRef, RecordBatch, RecordBatchOptions};
use arrow::datatypes::SchemaRef;
use arrow::error::ArrowError;
use arrow::row::{RowConverter, SortField};

/// The bytes of a row. Only bytes of one codec compare.
pub(crate) type RowBytes = Box<[u8]>;

/// Between rows of a schema and their bytes.
#[derive(Debug)]
pub(crate) struct Codec {
    schema: SchemaRef,
    converter: RowConverter,
}

impl Codec {
    /// # Errors
    /// Where a type cannot be made bytes.
    pub(crate) fn new(schema: SchemaRef) -> Result<Self, ArrowError> {
        let fields = schema.fields().iter().map(|field| SortField::new(field.data_type().clone())).collect();
        Ok(Self { converter: RowConverter::new(fields)?, schema })
    }

    pub(crate) fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    /// The rows of a batch.
    pub(crate) fn encode(&self, batch: &RecordBatch) -> Result<Vec<RowBytes>, ArrowError> {
        if batch.num_columns() == 0 {
            return Ok(vec![RowBytes::default(); batch.num_rows()]);
        }
        let rows = self.converter.convert_columns(batch.columns())?;
        Ok(rows.iter().map(|row| row.as_ref().into()).collect())
    }

    /// The batch of rows.
    pub(crate) fn decode<'a>(&self, rows: impl ExactSizeIterator<Item = &'a [u8]>) -> Result<RecordBatch, ArrowError> {
        let options = RecordBatchOptions::new().with_row_count(Some(rows.len()));
        let columns: Vec<ArrayRef> = if self.schema.fields().is_empty() {
            Vec::new()
        } else {
            let parser = self.converter.parser();
            self.converter.convert_rows(rows.map(|bytes| parser.parse(bytes)))?
        };
        RecordBatch::try_new_with_options(SchemaRef::clone(&self.schema), columns, &options)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::array::{Float64Array, StringArray};
    use arrow::datatypes::{DataType, Field, Schema};

    use super::*;

    #[test]
    fn rows_read_back() {
        let schema = Arc::new(Schema::new(vec![Field::new("a", DataType::Utf8, true), Field::new("b", DataType::Float64, true)]));
        let columns: Vec<ArrayRef> =
            vec![Arc::new(StringArray::from(vec![Some("x"), None, Some("")])), Arc::new(Float64Array::from(vec![Some(0.5), Some(-0.0), None]))];
        let batch = RecordBatch::try_new(Arc::clone(&schema), columns).unwrap();
        let codec = Codec::new(schema).unwrap();
        let rows = codec.encode(&batch).unwrap();
        assert_eq!(codec.decode(rows.iter().map(|row| &row[..])).unwrap(), batch);
    }

    #[test]
    fn rows_without_columns_are_counted() {
        let schema = Arc::new(Schema::empty());
        let batch = RecordBatch::try_new_with_options(Arc::clone(&schema), Vec::new(), &RecordBatchOptions::new().with_row_count(Some(2))).unwrap();
        let codec = Codec::new(schema).unwrap();
        let rows = codec.encode(&batch).unwrap();
        assert_eq!(codec.decode(rows.iter().map(|row| &row[..])).unwrap().num_rows(), 2);
    }
}
