//! Columns to bytes and back: what arrangements hold and keys are compared by.
//!
//! The bytes sort as the rows do. They live in memory only and are never stored: their format is arrow-row's affair.

use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch, RecordBatchOptions};
use arrow::datatypes::{DataType, Fields, Schema, SchemaRef};
use arrow::row::{RowConverter, Rows, SortField};

use super::render::RenderError;
use super::spine::Bytes;

/// Columns to bytes and back.
pub(super) struct Codec {
    converter: RowConverter,
    schema: SchemaRef,
}

impl Codec {
    /// For columns of these types.
    ///
    /// # Errors
    /// Where a type cannot be compared: a dictionary (it is to be cast to its values first) or a type that arrow-row has no
    /// order for.
    pub fn new(fields: &Fields) -> Result<Self, RenderError> {
        if let Some(field) = fields.iter().find(|field| matches!(field.data_type(), DataType::Dictionary(..))) {
            return Err(RenderError::Type { column: field.name().clone(), data_type: field.data_type().clone() });
        }
        let sort = fields.iter().map(|field| SortField::new(field.data_type().clone())).collect();
        let converter = RowConverter::new(sort).map_err(|_| {
            let field = fields.iter().find(|field| !RowConverter::supports_fields(&[SortField::new(field.data_type().clone())]));
            let (column, data_type) = field.map_or_else(|| (String::new(), DataType::Null), |field| (field.name().clone(), field.data_type().clone()));
            RenderError::Type { column, data_type }
        })?;
        Ok(Self { converter, schema: Arc::new(Schema::new(fields.clone())) })
    }

    /// The types of its columns.
    pub fn fields(&self) -> &Fields {
        self.schema.fields()
    }

    /// The rows of columns.
    pub fn encode(&self, columns: &[ArrayRef]) -> Encoded {
        if columns.is_empty() {
            return Encoded(None);
        }
        Encoded(Some(self.converter.convert_columns(columns).expect("columns have the types that the plan says")))
    }

    /// The columns of rows that this codec has made.
    pub fn decode<'a>(&self, rows: impl Iterator<Item = &'a [u8]>) -> Vec<ArrayRef> {
        if self.schema.fields().is_empty() {
            return Vec::new();
        }
        let parser = self.converter.parser();
        self.converter.convert_rows(rows.map(|row| parser.parse(row))).expect("bytes that this codec has made")
    }
}

/// Rows as bytes.
pub(super) struct Encoded(Option<Rows>);

impl Encoded {
    /// A row's bytes; none where there are no columns.
    pub fn row(&self, index: usize) -> Bytes {
        self.0.as_ref().map_or_else(Bytes::new, |rows| rows.row(index).data().to_vec())
    }

    /// A row's bytes at the end of others.
    pub fn append_to(&self, index: usize, bytes: &mut Bytes) {
        if let Some(rows) = &self.0 {
            bytes.extend_from_slice(rows.row(index).data());
        }
    }

    /// A row's bytes, lent.
    pub fn bytes(&self, index: usize) -> &[u8] {
        self.0.as_ref().map_or(&[], |rows| rows.row(index).data())
    }
}

/// A batch of columns that fit their schema; `rows` says how many there are where there is no column.
///
/// Whether a column may be null is not checked: the types are what decides.
pub(super) fn batch_of(schema: &SchemaRef, columns: Vec<ArrayRef>, rows: usize) -> RecordBatch {
    RecordBatch::try_new_with_options(Arc::clone(schema), columns, &RecordBatchOptions::new().with_row_count(Some(rows)))
        .expect("columns have the types that the plan says")
}

/// The same fields, all of which may be null.
pub(super) fn nullable(schema: &Schema) -> SchemaRef {
    Arc::new(Schema::new(schema.fields().iter().map(|field| field.as_ref().clone().with_nullable(true)).collect::<Fields>()))
}
