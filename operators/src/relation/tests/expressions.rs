//! Expressions for tests, evaluated row by row on plain values.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, BooleanArray, Float64Array, Int64Array, RecordBatch, StringArray, UInt64Array};
use arrow::datatypes::{DataType, Float64Type, Int64Type, UInt64Type};

use super::super::plan::{Evaluate, EvaluateError, Expression};

/// A plain value.
#[derive(Debug, Clone, PartialEq, PartialOrd)]
pub(super) enum V {
    Null,
    B(bool),
    I(i64),
    F(f64),
    S(String),
}

/// An expression over columns.
#[derive(Debug, Clone)]
pub(super) enum E {
    Column(usize),
    Literal(V),
    /// Fails where the divisor is zero.
    Divide(Box<E>, Box<E>),
    Add(Box<E>, Box<E>),
    Less(Box<E>, Box<E>),
    Equal(Box<E>, Box<E>),
    And(Box<E>, Box<E>),
    Modulo(Box<E>, i64),
    /// Fails where the text is not a number.
    Parse(Box<E>),
    Panic(Box<E>),
}

pub(super) fn column(index: usize) -> E {
    E::Column(index)
}

pub(super) fn int(value: i64) -> E {
    E::Literal(V::I(value))
}

impl E {
    pub fn less(self, other: E) -> E {
        E::Less(Box::new(self), Box::new(other))
    }

    pub fn equal(self, other: E) -> E {
        E::Equal(Box::new(self), Box::new(other))
    }

    pub fn and(self, other: E) -> E {
        E::And(Box::new(self), Box::new(other))
    }

    pub fn divided_by(self, other: E) -> E {
        E::Divide(Box::new(self), Box::new(other))
    }

    /// As the plan has it, of a type.
    pub fn typed(self, data_type: DataType) -> Expression {
        Arc::new(Typed { expression: self, data_type })
    }

    pub fn int(self) -> Expression {
        self.typed(DataType::Int64)
    }

    pub fn boolean(self) -> Expression {
        self.typed(DataType::Boolean)
    }

    /// The value over a row.
    pub fn value(&self, row: &[V]) -> Result<V, String> {
        Ok(match self {
            Self::Column(index) => row[*index].clone(),
            Self::Literal(value) => value.clone(),
            Self::Add(a, b) => match (a.value(row)?, b.value(row)?) {
                (V::I(a), V::I(b)) => V::I(a.checked_add(b).ok_or("overflow")?),
                (V::F(a), V::F(b)) => V::F(a + b),
                _ => V::Null,
            },
            Self::Divide(a, b) => match (a.value(row)?, b.value(row)?) {
                (V::I(_), V::I(0)) => return Err("division by zero".to_owned()),
                (V::I(a), V::I(b)) => V::I(a / b),
                _ => V::Null,
            },
            Self::Modulo(a, by) => match a.value(row)? {
                V::I(a) => V::I(a.rem_euclid(*by)),
                _ => V::Null,
            },
            Self::Less(a, b) => compare(&a.value(row)?, &b.value(row)?, |order| order == std::cmp::Ordering::Less),
            Self::Equal(a, b) => compare(&a.value(row)?, &b.value(row)?, |order| order == std::cmp::Ordering::Equal),
            Self::And(a, b) => match (a.value(row)?, b.value(row)?) {
                (V::B(a), V::B(b)) => V::B(a && b),
                (V::B(false), _) | (_, V::B(false)) => V::B(false),
                _ => V::Null,
            },
            Self::Parse(a) => match a.value(row)? {
                V::S(text) => V::I(text.parse().map_err(|_| format!("cannot cast '{text}' to Int64"))?),
                _ => V::Null,
            },
            Self::Panic(a) => match a.value(row)? {
                V::B(true) => panic!("asked to"),
                other => other,
            },
        })
    }
}

fn compare(a: &V, b: &V, holds: impl Fn(std::cmp::Ordering) -> bool) -> V {
    if matches!(a, V::Null) || matches!(b, V::Null) {
        return V::Null;
    }
    V::B(a.partial_cmp(b).is_some_and(holds))
}

#[derive(Debug)]
struct Typed {
    expression: E,
    data_type: DataType,
}

impl Evaluate for Typed {
    fn evaluate(&self, batch: &RecordBatch) -> Result<ArrayRef, EvaluateError> {
        let values = rows(batch).iter().map(|row| self.expression.value(row)).collect::<Result<Vec<_>, _>>().map_err(EvaluateError)?;
        Ok(array(&values, &self.data_type))
    }
}

/// A column of plain values.
pub(super) fn array(values: &[V], data_type: &DataType) -> ArrayRef {
    match data_type {
        DataType::Int64 => Arc::new(values.iter().map(|value| if let V::I(value) = value { Some(*value) } else { None }).collect::<Int64Array>()),
        DataType::Float64 => Arc::new(values.iter().map(|value| if let V::F(value) = value { Some(*value) } else { None }).collect::<Float64Array>()),
        DataType::Boolean => Arc::new(values.iter().map(|value| if let V::B(value) = value { Some(*value) } else { None }).collect::<BooleanArray>()),
        DataType::UInt64 => Arc::new(values.iter().map(|value| if let V::I(value) = value { Some(*value as u64) } else { None }).collect::<UInt64Array>()),
        DataType::Utf8 => Arc::new(values.iter().map(|value| if let V::S(value) = value { Some(value.as_str()) } else { None }).collect::<StringArray>()),
        other => panic!("no plain values of {other}"),
    }
}

/// The rows of a batch as plain values.
pub(super) fn rows(batch: &RecordBatch) -> Vec<Vec<V>> {
    (0..batch.num_rows()).map(|row| batch.columns().iter().map(|column| value(column, row)).collect()).collect()
}

fn value(column: &ArrayRef, row: usize) -> V {
    if column.is_null(row) {
        return V::Null;
    }
    match column.data_type() {
        DataType::Int64 => V::I(column.as_primitive::<Int64Type>().value(row)),
        DataType::UInt64 => V::I(column.as_primitive::<UInt64Type>().value(row) as i64),
        DataType::Float64 => V::F(column.as_primitive::<Float64Type>().value(row)),
        DataType::Boolean => V::B(column.as_boolean().value(row)),
        DataType::Utf8 => V::S(column.as_string::<i32>().value(row).to_owned()),
        other => panic!("no plain values of {other}"),
    }
}
