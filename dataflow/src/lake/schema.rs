//! Arrow schemas as DuckLake's columns.

use arrow::datatypes::{DataType, Field, TimeUnit};
use weir_catalog::{Lake, LakeColumn, LakeTable};
use weir_operators::schema::{self, FIELD_ID};

/// A column of the lake that is not where the schema puts it: the catalog was changed by someone else.
#[derive(Debug, thiserror::Error)]
#[error("column {path} of table {table} has id {found:?} in the catalog, but {expected} in this version of weir: the catalog was altered by another program")]
pub struct UnexpectedColumn {
    table: &'static str,
    path: String,
    found: Option<i64>,
    expected: i64,
}

/// Every table as the lake is to have it.
pub fn lake_tables() -> Vec<LakeTable> {
    let table = |t: &schema::Table| LakeTable {
        name: t.name,
        columns: t.stored_schema().fields().iter().map(|f| lake_column(f, t.column(f.name()).is_some_and(|c| c.id))).collect(),
        partition_column: "received",
    };
    schema::tables().iter().map(table).collect()
}

fn lake_column(field: &Field, id: bool) -> LakeColumn {
    let (column_type, children) = match field.data_type() {
        DataType::List(element) => ("list", vec![lake_column(element, false)]),
        DataType::Struct(fields) => ("struct", fields.iter().map(|f| lake_column(f, false)).collect()),
        // DuckLake has key and value directly below the map; the struct between them exists only in Arrow.
        DataType::Map(entries, _) => match entries.data_type() {
            DataType::Struct(fields) => ("map", fields.iter().map(|f| lake_column(f, false)).collect()),
            other => unreachable!("the entries of a map are a struct, not {other}"),
        },
        DataType::FixedSizeBinary(16) if id => ("uuid", vec![]),
        other => (scalar_type(other), vec![]),
    };
    LakeColumn { name: field.name().clone(), column_type, nullable: field.is_nullable(), children }
}

/// DuckLake's name for the scalar types that the schema uses.
fn scalar_type(data_type: &DataType) -> &'static str {
    match data_type {
        DataType::Boolean => "boolean",
        DataType::Int16 => "int16",
        DataType::Int32 => "int32",
        DataType::Int64 => "int64",
        DataType::Float64 => "float64",
        DataType::Utf8 => "varchar",
        DataType::Timestamp(TimeUnit::Millisecond, None) => "timestamp_ms",
        DataType::Timestamp(TimeUnit::Microsecond, None) => "timestamp",
        other => unreachable!("the schema uses no {other}"),
    }
}

/// The leaf fields in the order of a Parquet file's columns, with the type that DuckLake knows each by.
pub(super) fn leaves(table: &schema::Table) -> Vec<(String, &'static str)> {
    fn walk(column: &LakeColumn, parent: &str, out: &mut Vec<(String, &'static str)>) {
        let path = if parent.is_empty() { column.name.clone() } else { format!("{parent}.{}", column.name) };
        if column.children.is_empty() {
            out.push((path, column.column_type));
        } else {
            column.children.iter().for_each(|child| walk(child, &path, out));
        }
    }
    let mut out = Vec::new();
    for field in table.stored_schema().fields() {
        walk(&lake_column(field, table.column(field.name()).is_some_and(|c| c.id)), "", &mut out);
    }
    out
}

/// Checks that the field ids which the files will carry are those of the catalog; readers find columns by them alone.
pub fn verify(lake: &Lake) -> Result<(), UnexpectedColumn> {
    for table in schema::tables() {
        for field in table.file_schema().fields() {
            verify_field(lake, table.name, field, field.name())?;
        }
    }
    Ok(())
}

fn verify_field(lake: &Lake, table: &'static str, field: &Field, path: &str) -> Result<(), UnexpectedColumn> {
    let expected = field.metadata().get(FIELD_ID).and_then(|id| id.parse().ok()).unwrap_or_default();
    let found = lake.column_id(table, path);
    if found != Some(expected) {
        return Err(UnexpectedColumn { table, path: path.to_owned(), found, expected });
    }
    let children: Vec<&Field> = match field.data_type() {
        DataType::List(element) => vec![element],
        DataType::Struct(fields) => fields.iter().map(AsRef::as_ref).collect(),
        DataType::Map(entries, _) => match entries.data_type() {
            DataType::Struct(fields) => fields.iter().map(AsRef::as_ref).collect(),
            _ => vec![],
        },
        _ => vec![],
    };
    children.into_iter().try_for_each(|child| verify_field(lake, table, child, &format!("{path}.{}", child.name())))
}
