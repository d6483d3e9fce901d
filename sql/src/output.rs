//! Rows as text: a table, CSV or JSON.

use std::io::Write;

use datafusion::arrow::array::{Array, ArrayRef, AsArray, RecordBatch};
use datafusion::arrow::datatypes::{
    DataType, Float32Type, Float64Type, Int8Type, Int16Type, Int32Type, Int64Type, SchemaRef, UInt8Type, UInt16Type, UInt32Type, UInt64Type,
};
use datafusion::arrow::util::display::{ArrayFormatter, FormatOptions};
use serde_json::Value;

/// How rows are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// Columns in a frame, and the number of rows.
    Table,
    /// Comma-separated values with a header.
    Csv,
    /// One JSON array of objects.
    Json,
}

/// Why rows were not written.
#[derive(Debug, thiserror::Error)]
pub enum OutputError {
    /// The output refused.
    #[error(transparent)]
    Io(#[from] std::io::Error),
    /// A value has no text.
    #[error(transparent)]
    Value(#[from] datafusion::arrow::error::ArrowError),
    /// A value has no JSON, or the output refused it.
    #[error(transparent)]
    Json(#[from] serde_json::Error),
}

impl OutputError {
    /// Whether whoever reads the output has stopped reading.
    pub fn is_broken_pipe(&self) -> bool {
        let kind = match self {
            Self::Io(error) => Some(error.kind()),
            Self::Json(error) => error.io_error_kind(),
            Self::Value(_) => None,
        };
        kind == Some(std::io::ErrorKind::BrokenPipe)
    }
}

/// Writes rows.
///
/// # Errors
/// Where the output refuses.
pub fn write(out: &mut dyn Write, schema: &SchemaRef, batches: &[RecordBatch], format: Format) -> Result<(), OutputError> {
    match format {
        Format::Json => json(out, batches),
        Format::Csv => csv(out, schema, batches),
        Format::Table => table(out, schema, batches),
    }
}

fn json(out: &mut dyn Write, batches: &[RecordBatch]) -> Result<(), OutputError> {
    write!(out, "[")?;
    let mut first = true;
    for batch in batches {
        for row in 0..batch.num_rows() {
            if !std::mem::take(&mut first) {
                writeln!(out, ",")?;
            }
            object(out, batch, row)?;
        }
    }
    writeln!(out, "]")?;
    Ok(())
}

/// Writes rows as JSON objects, one a line.
///
/// # Errors
/// Where the output refuses.
pub fn write_lines(out: &mut dyn Write, batch: &RecordBatch) -> Result<(), OutputError> {
    for row in 0..batch.num_rows() {
        object(out, batch, row)?;
        writeln!(out)?;
    }
    out.flush()?;
    Ok(())
}

/// A row as an object. Members stand in the order of the columns, which a map of values would not keep.
fn object(out: &mut dyn Write, batch: &RecordBatch, row: usize) -> Result<(), OutputError> {
    let schema = batch.schema();
    for (index, (field, column)) in schema.fields().iter().zip(batch.columns()).enumerate() {
        write!(out, "{}", if index == 0 { "{" } else { "," })?;
        serde_json::to_writer(&mut *out, field.name())?;
        write!(out, ":")?;
        serde_json::to_writer(&mut *out, &value(column, row)?)?;
    }
    write!(out, "{}", if schema.fields().is_empty() { "{}" } else { "}" })?;
    Ok(())
}

/// A value as JSON: numbers, booleans, lists and objects as such, everything else as text.
fn value(column: &ArrayRef, row: usize) -> Result<Value, OutputError> {
    if column.is_null(row) {
        return Ok(Value::Null);
    }
    Ok(match column.data_type() {
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
        DataType::Float32 => f64::from(column.as_primitive::<Float32Type>().value(row)).into(),
        DataType::Float64 => column.as_primitive::<Float64Type>().value(row).into(),
        DataType::Utf8 => column.as_string::<i32>().value(row).into(),
        DataType::List(_) => elements(&column.as_list::<i32>().value(row))?.into(),
        DataType::LargeList(_) => elements(&column.as_list::<i64>().value(row))?.into(),
        DataType::Struct(fields) => {
            let members = fields.iter().zip(column.as_struct().columns()).map(|(field, column)| Ok((field.name().clone(), value(column, row)?)));
            Value::Object(members.collect::<Result<_, OutputError>>()?)
        }
        DataType::Map(_, _) => {
            let entries = column.as_map().value(row);
            let (keys, values) = (entries.column(0), entries.column(1));
            let key = |index| text(keys, index);
            Value::Object((0..entries.len()).map(|index| Ok((key(index)?, value(values, index)?))).collect::<Result<_, OutputError>>()?)
        }
        // A number where JSON's numbers hold it exactly, as sums of whole numbers do.
        DataType::Decimal32(_, 0) | DataType::Decimal64(_, 0) | DataType::Decimal128(_, 0) | DataType::Decimal256(_, 0) => {
            let text = text(column, row)?;
            text.parse::<i64>().map_or_else(|_| text.into(), Value::from)
        }
        _ => text(column, row)?.into(),
    })
}

fn elements(list: &ArrayRef) -> Result<Vec<Value>, OutputError> {
    (0..list.len()).map(|index| value(list, index)).collect()
}

fn text(column: &ArrayRef, row: usize) -> Result<String, OutputError> {
    Ok(ArrayFormatter::try_new(column.as_ref(), &FormatOptions::default())?.value(row).try_to_string()?)
}

/// A value for people: text as it is, nested values as JSON, null as nothing.
fn cell(column: &ArrayRef, row: usize) -> Result<String, OutputError> {
    Ok(match value(column, row)? {
        Value::Null => String::new(),
        Value::String(text) => text,
        other => other.to_string(),
    })
}

fn csv(out: &mut dyn Write, schema: &SchemaRef, batches: &[RecordBatch]) -> Result<(), OutputError> {
    let quoted = |text: &str| if text.contains([',', '"', '\n', '\r']) { format!("\"{}\"", text.replace('"', "\"\"")) } else { text.to_owned() };
    let names: Vec<String> = schema.fields().iter().map(|f| quoted(f.name())).collect();
    writeln!(out, "{}", names.join(","))?;
    for batch in batches {
        for row in 0..batch.num_rows() {
            let cells: Vec<String> = batch.columns().iter().map(|column| Ok(quoted(&cell(column, row)?))).collect::<Result<_, OutputError>>()?;
            writeln!(out, "{}", cells.join(","))?;
        }
    }
    Ok(())
}

/// A cell is cut at this many characters; CSV and JSON have all of it.
const CELL_CHARS_MAX: usize = 80;

fn table(out: &mut dyn Write, schema: &SchemaRef, batches: &[RecordBatch]) -> Result<(), OutputError> {
    let mut rows: Vec<Vec<String>> = vec![schema.fields().iter().map(|f| f.name().clone()).collect()];
    for batch in batches {
        for row in 0..batch.num_rows() {
            rows.push(batch.columns().iter().map(|column| cell(column, row).map(|text| cut(&text))).collect::<Result<_, _>>()?);
        }
    }
    let widths: Vec<usize> = (0..schema.fields().len()).map(|column| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0)).collect();
    let line = widths.iter().map(|width| "-".repeat(width + 2)).collect::<Vec<_>>().join("+");
    for (index, row) in rows.iter().enumerate() {
        let cells: Vec<String> = row.iter().zip(&widths).map(|(text, width)| format!(" {text}{} ", " ".repeat(width - text.chars().count()))).collect();
        writeln!(out, "{}", cells.join("|").trim_end())?;
        if index == 0 {
            writeln!(out, "{line}")?;
        }
    }
    let count = rows.len() - 1;
    writeln!(out, "{count} {}", if count == 1 { "row" } else { "rows" })?;
    Ok(())
}

fn cut(text: &str) -> String {
    let line: String = text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    if line.chars().count() <= CELL_CHARS_MAX { line } else { line.chars().take(CELL_CHARS_MAX - 1).chain(['…']).collect() }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use datafusion::arrow::array::{Int64Array, MapBuilder, StringArray, StringBuilder, TimestampMillisecondArray};

    use super::*;

    fn batch() -> RecordBatch {
        let mut tags = MapBuilder::new(None, StringBuilder::new(), StringBuilder::new());
        tags.keys().append_value("region");
        tags.values().append_value("eu");
        tags.append(true).unwrap();
        tags.append(true).unwrap();
        RecordBatch::try_from_iter([
            ("title", Arc::new(StringArray::from(vec![Some("a \"b\", c"), None])) as ArrayRef),
            ("n", Arc::new(Int64Array::from(vec![i64::MAX, 1]))),
            ("at", Arc::new(TimestampMillisecondArray::from(vec![0, 1_795_330_000_123]))),
            ("tags", Arc::new(tags.finish())),
        ])
        .unwrap()
    }

    fn written(format: Format, batches: &[RecordBatch]) -> String {
        let mut out = Vec::new();
        write(&mut out, &batch().schema(), batches, format).unwrap();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn json_has_numbers_lists_and_objects() {
        let parsed: Value = serde_json::from_str(&written(Format::Json, &[batch()])).unwrap();
        assert_eq!(parsed[0]["title"], "a \"b\", c");
        assert_eq!(parsed[0]["n"], i64::MAX);
        assert_eq!(parsed[0]["tags"]["region"], "eu");
        assert_eq!(parsed[1]["title"], Value::Null);
        assert_eq!(parsed[1]["at"], "2026-11-22T06:46:40.123");
        assert_eq!(written(Format::Json, &[]), "[]\n");
    }

    #[test]
    fn csv_quotes_what_needs_it() {
        assert_eq!(
            written(Format::Csv, &[batch()]),
            "title,n,at,tags\n\"a \"\"b\"\", c\",9223372036854775807,1970-01-01T00:00:00,\"{\"\"region\"\":\"\"eu\"\"}\"\n,1,2026-11-22T06:46:40.123,{}\n"
        );
    }

    #[test]
    fn a_table_counts_its_rows() {
        let text = written(Format::Table, &[batch()]);
        assert!(text.starts_with(" title"), "{text}");
        assert!(text.ends_with("2 rows\n"), "{text}");
    }
}
