//! Rows of a table of which only some columns matter: the others are null, or empty where they may not be null.

use std::collections::BTreeMap;
use std::sync::Arc;

use datafusion::arrow::array::{
    ArrayRef, AsArray, BooleanArray, FixedSizeBinaryArray, Float64Array, Int16Array, Int32Array, Int64Array, ListArray, MapArray, RecordBatch, StringArray,
    TimestampMicrosecondArray, TimestampMillisecondArray, new_empty_array, new_null_array,
};
use datafusion::arrow::buffer::OffsetBuffer;
use datafusion::arrow::datatypes::{DataType, TimeUnit};
use datafusion::error::Result;
use weir_operators::schema::Table;

/// Columns by name.
pub type Columns = BTreeMap<&'static str, ArrayRef>;

/// A batch in the table's stored schema.
pub fn filled(table: &Table, rows: usize, mut columns: Columns) -> Result<RecordBatch> {
    columns.entry("org_id").or_insert_with(|| Arc::new(Int64Array::from(vec![1; rows])));
    columns.entry("retention_days").or_insert_with(|| Arc::new(Int16Array::from(vec![90; rows])));
    columns.entry("seq").or_insert_with(|| Arc::new(Int64Array::from_iter_values(0..rows as i64)));
    let arrays = table.stored_schema().fields().iter().map(|field| match columns.remove(field.name().as_str()) {
        Some(given) => given,
        None if field.is_nullable() => new_null_array(field.data_type(), rows),
        None => empty(field.data_type(), rows),
    });
    let made = RecordBatch::try_new(Arc::clone(table.stored_schema()), arrays.collect())?;
    assert!(columns.is_empty(), "{} has no columns {:?}", table.name, columns.keys());
    Ok(made)
}

/// Zeros (ones for factors), empty texts, empty lists and maps.
fn empty(data_type: &DataType, rows: usize) -> ArrayRef {
    let offsets = || OffsetBuffer::new_zeroed(rows);
    match data_type {
        DataType::Utf8 => Arc::new(StringArray::from(vec![""; rows])),
        DataType::Boolean => Arc::new(BooleanArray::from(vec![false; rows])),
        DataType::Int16 => Arc::new(Int16Array::from(vec![0; rows])),
        DataType::Int32 => Arc::new(Int32Array::from(vec![0; rows])),
        DataType::Int64 => Arc::new(Int64Array::from(vec![0; rows])),
        DataType::Float64 => Arc::new(Float64Array::from(vec![1.0; rows])),
        DataType::Timestamp(TimeUnit::Millisecond, None) => Arc::new(TimestampMillisecondArray::from(vec![0; rows])),
        DataType::Timestamp(TimeUnit::Microsecond, None) => Arc::new(TimestampMicrosecondArray::from(vec![0; rows])),
        DataType::FixedSizeBinary(16) => Arc::new(FixedSizeBinaryArray::new(16, vec![0u8; 16 * rows].into(), None)),
        DataType::List(element) => Arc::new(ListArray::new(Arc::clone(element), offsets(), new_empty_array(element.data_type()), None)),
        DataType::Map(entries, sorted) => {
            let none = new_empty_array(entries.data_type()).as_struct().clone();
            Arc::new(MapArray::new(Arc::clone(entries), offsets(), none, None, *sorted))
        }
        other => unreachable!("the schema uses no {other}"),
    }
}
