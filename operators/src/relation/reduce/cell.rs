//! What an aggregate comes to, and columns of it.

use std::sync::Arc;

use arrow::array::{ArrayRef, BooleanArray, Decimal128Array, Float64Array, Int64Array, UInt64Array, new_null_array};
use arrow::datatypes::{DataType, Field};

use super::super::codec::Codec;
use super::super::spine::Bytes;
use super::fixed::{Double, OF_SQUARES, OF_VALUES};
use super::group::Sums;
use super::slots::{FLOAT_SLOTS, Number, Part, bucket_of};
use crate::sketch;

/// What an aggregate comes to.
#[derive(Debug, Clone)]
pub(super) enum Cell {
    Null,
    Integer(i128),
    Float(f64),
    Boolean(bool),
    /// A value as its [`Codec`] has it.
    Bytes(Bytes),
}

impl PartialEq for Cell {
    fn eq(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Null, Self::Null) => true,
            (Self::Integer(a), Self::Integer(b)) => a == b,
            (Self::Float(a), Self::Float(b)) => a.to_bits() == b.to_bits(),
            (Self::Boolean(a), Self::Boolean(b)) => a == b,
            (Self::Bytes(a), Self::Bytes(b)) => a == b,
            _ => false,
        }
    }
}

/// What a part comes to, as a value of `output`.
///
/// # Errors
/// Where the type has no such value.
pub(super) fn cell(part: Part, group: &Sums, output: &DataType) -> Result<Cell, String> {
    let sums = &group.sums;
    let has_values = |count: usize| sums[count] > 0;
    Ok(match part {
        Part::Count { count } => Cell::Integer(sums[count]),
        Part::Sum { count, .. } if !has_values(count) => Cell::Null,
        Part::Sum { count, at, number: Number::Float, mean } => {
            let sum = float_sum(&sums[at..at + FLOAT_SLOTS])?;
            Cell::Float(match sum {
                Ok(sum) if mean => sum.divided_by(sums[count] as f64).rounded(),
                Ok(sum) => sum.rounded(),
                Err(special) => special,
            })
        }
        Part::Sum { count, at, number, mean } => integer_sum(sums[at], sums[count], number, mean, output)?,
        Part::Variance { count, at, sample, root } => variance(&sums[at..], sums[count], sample, root)?,
        Part::Boolean { count, .. } if !has_values(count) => Cell::Null,
        Part::Boolean { of, and, .. } => Cell::Boolean((sums[of] > 0) != and),
        Part::Extreme { bag, greatest } => {
            let mut values = group.bags[bag].iter().filter(|&(_, &count)| count > 0).map(|(value, _)| value);
            let value = if greatest { values.next_back() } else { values.next() };
            value.map_or(Cell::Null, |value| Cell::Bytes(value.clone()))
        }
        Part::Quantile { bag, quantile } => {
            let buckets = group.bags[bag].iter().filter(|&(_, &count)| count > 0).map(|(bucket, &count)| (bucket_of(bucket), count.unsigned_abs()));
            sketch::quantile(buckets, quantile).map_or(Cell::Null, Cell::Float)
        }
    })
}

/// A sum, or what is left of it where there are NaNs or infinities.
fn float_sum(slots: &[i128]) -> Result<Result<Double, f64>, String> {
    let [nan, positive, negative, large] = [2, 3, 4, 5].map(|slot: usize| slots[slot] > 0);
    Ok(if nan || positive && negative {
        Err(f64::NAN)
    } else if positive {
        Err(f64::INFINITY)
    } else if negative {
        Err(f64::NEG_INFINITY)
    } else if large {
        return Err("a value is too large to be summed".to_owned());
    } else {
        Ok(OF_VALUES.join(slots[0], slots[1]))
    })
}

fn integer_sum(sum: i128, count: i128, number: Number, mean: bool, output: &DataType) -> Result<Cell, String> {
    let scale = if let Number::Decimal { scale } = number { scale } else { 0 };
    let overflow = || format!("{} {} does not fit {output}", if mean { "the mean of" } else { "the sum" }, shown(sum, scale));
    match output {
        DataType::Float64 => {
            let sum = Double::of_sum(sum as f64, (sum - (sum as f64) as i128) as f64);
            let sum = if mean { sum.divided_by(count as f64) } else { sum };
            Ok(Cell::Float(sum.divided_by(10f64.powi(scale.into())).rounded()))
        }
        DataType::Decimal128(precision, output_scale) => {
            // Cut towards zero, as DataFusion's mean of decimals is.
            let value = if mean {
                let finer = 10i128.checked_pow(u32::from((output_scale - scale).unsigned_abs())).ok_or_else(overflow)?;
                sum.checked_mul(finer).ok_or_else(overflow)? / count
            } else {
                sum
            };
            let bound = 10i128.checked_pow(u32::from(*precision)).unwrap_or(i128::MAX);
            if value.checked_abs().is_some_and(|value| value < bound) { Ok(Cell::Integer(value)) } else { Err(overflow()) }
        }
        DataType::UInt64 => u64::try_from(sum).map(|sum| Cell::Integer(sum.into())).map_err(|_| overflow()),
        _ => i64::try_from(sum).map(|sum| Cell::Integer(sum.into())).map_err(|_| overflow()),
    }
}

fn shown(sum: i128, scale: i8) -> String {
    if scale > 0 { format!("{sum}e-{scale}") } else { sum.to_string() }
}

fn variance(slots: &[i128], count: i128, sample: bool, root: bool) -> Result<Cell, String> {
    let divisor = count - i128::from(sample);
    if count <= 0 || divisor <= 0 {
        return Ok(Cell::Null);
    }
    let sum = match float_sum(&slots[..FLOAT_SLOTS])? {
        Ok(sum) => sum,
        Err(_) => return Ok(Cell::Float(f64::NAN)),
    };
    let squares = OF_SQUARES.join(slots[FLOAT_SLOTS], slots[FLOAT_SLOTS + 1]);
    let deviations = squares.minus(sum.times(sum).divided_by(count as f64)).rounded().max(0.0);
    let variance = deviations / divisor as f64;
    Ok(Cell::Float(if root { variance.sqrt() } else { variance }))
}

/// A column of what an aggregate came to.
pub(super) fn column<'a>(cells: impl Iterator<Item = &'a Cell>, field: &Field) -> ArrayRef {
    let integer = |cell: &Cell| if let Cell::Integer(value) = cell { Some(*value) } else { None };
    let float = |cell: &Cell| if let Cell::Float(value) = cell { Some(*value) } else { None };
    let boolean = |cell: &Cell| if let Cell::Boolean(value) = cell { Some(*value) } else { None };
    let cells: Vec<&Cell> = cells.collect();
    if let Some(bytes) = cells.iter().find_map(|cell| if let Cell::Bytes(_) = cell { Some(()) } else { None }) {
        let () = bytes;
        return extremes(&cells, field);
    }
    match field.data_type() {
        DataType::Int64 => Arc::new(cells.iter().map(|cell| integer(cell).map(|value| value as i64)).collect::<Int64Array>()),
        DataType::UInt64 => Arc::new(cells.iter().map(|cell| integer(cell).map(|value| value as u64)).collect::<UInt64Array>()),
        DataType::Float64 => Arc::new(cells.iter().map(|cell| float(cell)).collect::<Float64Array>()),
        DataType::Boolean => Arc::new(cells.iter().map(|cell| boolean(cell)).collect::<BooleanArray>()),
        DataType::Decimal128(precision, scale) => {
            let values: Decimal128Array = cells.iter().map(|cell| integer(cell)).collect();
            Arc::new(values.with_precision_and_scale(*precision, *scale).expect("the plan's own precision"))
        }
        other => new_null_array(other, cells.len()),
    }
}

fn extremes(cells: &[&Cell], field: &Field) -> ArrayRef {
    let codec = Codec::new(&vec![Arc::new(field.clone())].into()).expect("checked when laid out");
    let null = codec.encode(&[new_null_array(field.data_type(), 1)]).row(0);
    let rows = cells.iter().map(|cell| if let Cell::Bytes(bytes) = cell { bytes.as_slice() } else { null.as_slice() });
    codec.decode(rows).remove(0)
}
