//! Rows as JSON objects, as alerts show them: column name to value.
//!
//! Binary ids are lower-case hexadecimal text, timestamps RFC 3339 in UTC with milliseconds, integers numbers, and floats that
//! JSON has no number for (`NaN`, the infinities) text. The same row always gives the same text.

use arrow::array::{Array, AsArray, RecordBatch};
use arrow::datatypes::{
    DataType, Date32Type, Date64Type, Decimal128Type, Float16Type, Float32Type, Float64Type, Int8Type, Int16Type, Int32Type, Int64Type, TimeUnit,
    TimestampMicrosecondType, TimestampMillisecondType, TimestampNanosecondType, TimestampSecondType, UInt8Type, UInt16Type, UInt32Type, UInt64Type,
};
use arrow::util::display::array_value_to_string;
use chrono::{DateTime, SecondsFormat};
use serde_json::{Map, Number, Value};

/// A row as an object. Where columns share a name the last of them is shown.
///
/// # Panics
/// If there is no such row.
pub fn row_object(batch: &RecordBatch, row: usize) -> Map<String, Value> {
    batch.schema().fields().iter().zip(batch.columns()).map(|(field, column)| (field.name().clone(), value(column, row))).collect()
}

/// A row as the text of an object.
///
/// # Panics
/// If there is no such row.
pub fn row_text(batch: &RecordBatch, row: usize) -> String {
    Value::Object(row_object(batch, row)).to_string()
}

/// A value of a column.
///
/// # Panics
/// If the column is shorter.
pub fn value(column: &dyn Array, row: usize) -> Value {
    if column.is_null(row) {
        return Value::Null;
    }
    match column.data_type() {
        DataType::Null => Value::Null,
        DataType::Boolean => column.as_boolean().value(row).into(),
        DataType::Int8 => column.as_primitive::<Int8Type>().value(row).into(),
        DataType::Int16 => column.as_primitive::<Int16Type>().value(row).into(),
        DataType::Int32 => column.as_primitive::<Int32Type>().value(row).into(),
        DataType::Int64 => column.as_primitive::<Int64Type>().value(row).into(),
        DataType::UInt8 => column.as_primitive::<UInt8Type>().value(row).into(),
        DataType::UInt16 => column.as_primitive::<UInt16Type>().value(row).into(),
        DataType::UInt32 => column.as_primitive::<UInt32Type>().value(row).into(),
        DataType::UInt64 => column.as_primitive::<UInt64Type>().value(row).into(),
        DataType::Float16 => float(column.as_primitive::<Float16Type>().value(row).to_f64()),
        DataType::Float32 => float(column.as_primitive::<Float32Type>().value(row).into()),
        DataType::Float64 => float(column.as_primitive::<Float64Type>().value(row)),
        DataType::Decimal128(_, scale) => decimal(column.as_primitive::<Decimal128Type>().value(row), *scale),
        DataType::Utf8 => column.as_string::<i32>().value(row).into(),
        DataType::LargeUtf8 => column.as_string::<i64>().value(row).into(),
        DataType::Utf8View => column.as_string_view().value(row).into(),
        DataType::Binary => hex(column.as_binary::<i32>().value(row)),
        DataType::LargeBinary => hex(column.as_binary::<i64>().value(row)),
        DataType::BinaryView => hex(column.as_binary_view().value(row)),
        DataType::FixedSizeBinary(_) => hex(column.as_fixed_size_binary().value(row)),
        DataType::Timestamp(unit, _) => timestamp(column, *unit, row),
        DataType::Date32 => date(i64::from(column.as_primitive::<Date32Type>().value(row)) * 86_400_000),
        DataType::Date64 => date(column.as_primitive::<Date64Type>().value(row)),
        DataType::List(_) => list(&*column.as_list::<i32>().value(row)),
        DataType::LargeList(_) => list(&*column.as_list::<i64>().value(row)),
        DataType::FixedSizeList(..) => list(&*column.as_fixed_size_list().value(row)),
        DataType::Struct(fields) => {
            let columns = column.as_struct().columns();
            fields.iter().zip(columns).map(|(field, column)| (field.name().clone(), value(column, row))).collect::<Map<_, _>>().into()
        }
        DataType::Map(..) => {
            let entries = column.as_map().value(row);
            let (keys, values) = (entries.column(0), entries.column(1));
            (0..entries.len()).map(|entry| (key_text(keys, entry), value(values, entry))).collect::<Map<_, _>>().into()
        }
        DataType::Dictionary(..) => {
            let dictionary = column.as_any_dictionary();
            value(dictionary.values(), dictionary.normalized_keys()[row])
        }
        _ => array_value_to_string(column, row).map_or(Value::Null, Value::String),
    }
}

fn key_text(keys: &dyn Array, row: usize) -> String {
    match value(keys, row) {
        Value::String(text) => text,
        other => other.to_string(),
    }
}

fn float(value: f64) -> Value {
    Number::from_f64(value).map_or_else(
        || {
            if value.is_nan() {
                "NaN"
            } else if value > 0.0 {
                "Infinity"
            } else {
                "-Infinity"
            }
            .into()
        },
        Value::Number,
    )
}

fn decimal(value: i128, scale: i8) -> Value {
    if scale == 0
        && let Ok(whole) = i64::try_from(value)
    {
        return whole.into();
    }
    float(value as f64 / 10f64.powi(scale.into()))
}

fn hex(bytes: &[u8]) -> Value {
    use std::fmt::Write;
    let mut text = String::with_capacity(2 * bytes.len());
    for byte in bytes {
        write!(text, "{byte:02x}").expect("writing to a string");
    }
    text.into()
}

fn timestamp(column: &dyn Array, unit: TimeUnit, row: usize) -> Value {
    let milliseconds = match unit {
        TimeUnit::Second => column.as_primitive::<TimestampSecondType>().value(row).saturating_mul(1000),
        TimeUnit::Millisecond => column.as_primitive::<TimestampMillisecondType>().value(row),
        TimeUnit::Microsecond => column.as_primitive::<TimestampMicrosecondType>().value(row).div_euclid(1000),
        TimeUnit::Nanosecond => column.as_primitive::<TimestampNanosecondType>().value(row).div_euclid(1_000_000),
    };
    timestamp_text(milliseconds).map_or_else(|| milliseconds.into(), Value::String)
}

/// Unix milliseconds as RFC 3339 in UTC with milliseconds; none for a time that has no such text.
pub fn timestamp_text(unix_ms: i64) -> Option<String> {
    Some(DateTime::from_timestamp_millis(unix_ms)?.to_rfc3339_opts(SecondsFormat::Millis, true))
}

fn date(unix_ms: i64) -> Value {
    DateTime::from_timestamp_millis(unix_ms).map_or_else(|| unix_ms.into(), |time| time.format("%Y-%m-%d").to_string().into())
}

fn list(elements: &dyn Array) -> Value {
    (0..elements.len()).map(|element| value(elements, element)).collect::<Vec<_>>().into()
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::array::{
        ArrayRef, Decimal128Array, DictionaryArray, FixedSizeBinaryArray, Float64Array, Int64Array, ListArray, MapBuilder, StringArray, StringBuilder,
        TimestampMicrosecondArray, TimestampMillisecondArray, UInt64Array,
    };
    use arrow::datatypes::Int32Type;

    use super::*;

    fn of(column: impl Array + 'static) -> Vec<Value> {
        let column: ArrayRef = Arc::new(column);
        (0..column.len()).map(|row| value(&column, row)).collect()
    }

    #[test]
    fn values_read_as_people_expect() {
        assert_eq!(of(Int64Array::from(vec![Some(i64::MAX), None])), [Value::from(i64::MAX), Value::Null]);
        assert_eq!(of(UInt64Array::from(vec![u64::MAX])), [Value::from(u64::MAX)]);
        assert_eq!(of(Float64Array::from(vec![0.1, f64::NAN, f64::NEG_INFINITY])), [Value::from(0.1), "NaN".into(), "-Infinity".into()]);
        assert_eq!(of(FixedSizeBinaryArray::try_from_iter([[0u8, 255, 16]].iter()).unwrap()), [Value::from("00ff10")]);
        assert_eq!(of(TimestampMillisecondArray::from(vec![1_767_225_600_007, -1])), ["2026-01-01T00:00:00.007Z", "1969-12-31T23:59:59.999Z"]);
        assert_eq!(of(TimestampMicrosecondArray::from(vec![1_500])), ["1970-01-01T00:00:00.001Z"]);
        assert_eq!(of(Decimal128Array::from(vec![1250]).with_precision_and_scale(10, 2).unwrap()), [Value::from(12.5)]);
        assert_eq!(of(Decimal128Array::from(vec![7]).with_precision_and_scale(10, 0).unwrap()), [Value::from(7)]);
        let dictionary: DictionaryArray<Int32Type> = ["b", "a", "b"].into_iter().collect();
        assert_eq!(of(dictionary), ["b", "a", "b"]);
        let list = ListArray::from_iter_primitive::<Int32Type, _, _>([Some(vec![Some(1), None])]);
        assert_eq!(of(list), [Value::from(vec![Value::from(1), Value::Null])]);
    }

    #[test]
    fn a_row_is_an_object_of_its_columns() {
        let mut map = MapBuilder::new(None, StringBuilder::new(), StringBuilder::new());
        map.keys().append_value("k");
        map.values().append_value("v");
        map.append(true).unwrap();
        let columns: Vec<(&str, ArrayRef)> = vec![("a", Arc::new(StringArray::from(vec!["x\"y"]))), ("m", Arc::new(map.finish()))];
        let batch = RecordBatch::try_from_iter(columns).unwrap();
        assert_eq!(row_text(&batch, 0), r#"{"a":"x\"y","m":{"k":"v"}}"#);
    }
}
