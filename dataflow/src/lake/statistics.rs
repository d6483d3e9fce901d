//! Column statistics of a Parquet file in DuckLake's words.
//!
//! Readers skip a file whose bounds exclude what they look for, so bounds must hold for every value. They come from the
//! file's own footer: a text cut short there is rounded (down for the lower bound, up for the upper).

use parquet::file::metadata::ParquetMetaData;
use parquet::file::statistics::Statistics;
use weir_catalog::ColumnStatistics;
use weir_operators::schema::Table;

use super::schema::leaves;

/// The statistics of each leaf column over all row groups.
pub(super) fn of_file(table: &Table, metadata: &ParquetMetaData) -> Vec<ColumnStatistics> {
    leaves(table).into_iter().enumerate().map(|(index, (path, column_type))| of_column(path, column_type, index, metadata)).collect()
}

fn of_column(path: String, column_type: &str, index: usize, metadata: &ParquetMetaData) -> ColumnStatistics {
    let mut merged = ColumnStatistics { path, bytes: 0, values: 0, nulls: 0, bounds: None };
    let mut bounds: Option<(Value, Value)> = None;
    for group in metadata.row_groups() {
        let column = group.column(index);
        merged.bytes += column.compressed_size().max(0) as u64;
        merged.values += column.num_values().max(0) as u64;
        let Some(statistics) = column.statistics() else { continue };
        merged.nulls += statistics.null_count_opt().unwrap_or_default();
        let Some((min, max)) = values(statistics) else { continue };
        bounds = Some(match bounds {
            None => (min, max),
            Some((low, high)) => (if min.is_less(&low) { min } else { low }, if high.is_less(&max) { max } else { high }),
        });
    }
    merged.bounds = bounds.map(|(min, max)| (min.text(column_type, Edge::Lower), max.text(column_type, Edge::Upper)));
    merged
}

/// Which end of the bounds a text is for: what cannot be written exactly is rounded outwards.
#[derive(Clone, Copy)]
enum Edge {
    Lower,
    Upper,
}

#[derive(Clone)]
enum Value {
    Bool(bool),
    Int(i64),
    Float(f64),
    Bytes(Vec<u8>),
}

fn values(statistics: &Statistics) -> Option<(Value, Value)> {
    Some(match statistics {
        Statistics::Boolean(s) => (Value::Bool(*s.min_opt()?), Value::Bool(*s.max_opt()?)),
        Statistics::Int32(s) => (Value::Int((*s.min_opt()?).into()), Value::Int((*s.max_opt()?).into())),
        Statistics::Int64(s) => (Value::Int(*s.min_opt()?), Value::Int(*s.max_opt()?)),
        Statistics::Float(s) => (Value::Float((*s.min_opt()?).into()), Value::Float((*s.max_opt()?).into())),
        Statistics::Double(s) => (Value::Float(*s.min_opt()?), Value::Float(*s.max_opt()?)),
        Statistics::ByteArray(_) | Statistics::FixedLenByteArray(_) => {
            (Value::Bytes(statistics.min_bytes_opt()?.to_vec()), Value::Bytes(statistics.max_bytes_opt()?.to_vec()))
        }
        Statistics::Int96(_) => return None,
    })
}

impl Value {
    fn is_less(&self, other: &Self) -> bool {
        match (self, other) {
            (Value::Bool(a), Value::Bool(b)) => a < b,
            (Value::Int(a), Value::Int(b)) => a < b,
            (Value::Float(a), Value::Float(b)) => a < b,
            (Value::Bytes(a), Value::Bytes(b)) => a < b,
            _ => unreachable!("the row groups of one column have one type"),
        }
    }

    fn text(&self, column_type: &str, edge: Edge) -> String {
        match (self, column_type) {
            (Value::Bool(value), _) => u8::from(*value).to_string(),
            (Value::Int(value), "timestamp_ms") => timestamp(value.saturating_mul(1000), 3, edge),
            (Value::Int(value), "timestamp") => timestamp(*value, 6, edge),
            (Value::Int(value), _) => value.to_string(),
            (Value::Float(value), _) => format!("{value:?}"),
            (Value::Bytes(bytes), "uuid") => uuid::Uuid::from_slice(bytes).map(|id| id.to_string()).unwrap_or_default(),
            (Value::Bytes(bytes), _) => String::from_utf8_lossy(bytes).into_owned(),
        }
    }
}

/// A time of microseconds as DuckLake writes it. Years that the form cannot hold are rounded outwards to ones it can.
fn timestamp(us: i64, digits: u32, edge: Edge) -> String {
    use chrono::Datelike;

    match chrono::DateTime::from_timestamp_micros(us) {
        Some(time) if (1..=9999).contains(&time.year()) && digits == 3 => time.format("%Y-%m-%d %H:%M:%S%.3f").to_string(),
        Some(time) if (1..=9999).contains(&time.year()) => time.format("%Y-%m-%d %H:%M:%S%.6f").to_string(),
        _ => match edge {
            Edge::Lower => "-infinity".to_owned(),
            Edge::Upper => "infinity".to_owned(),
        },
    }
}
