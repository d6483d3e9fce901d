//! What a reduction keeps of a group: a row of integers that add up, and bags of values.

use arrow::array::{Array, ArrayRef, AsArray, BooleanArray, RecordBatch};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Decimal128Type, Field, Float64Type, Int64Type, Schema, UInt64Type};

use super::super::codec::{Codec, Encoded};
use super::super::plan::{Aggregate, AggregateFunction, Reduce};
use super::super::render::RenderError;
use super::super::spine::Bytes;
use super::fixed::{OF_SQUARES, OF_VALUES};
use crate::sketch;

/// What an aggregate is computed from.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Part {
    /// `count`.
    Count { count: usize },
    /// `sum` or `avg`: a count, then the [`Number`]'s slots.
    Sum { count: usize, at: usize, number: Number, mean: bool },
    /// Variance: a count, then a float's slots and those of its squares.
    Variance { count: usize, at: usize, sample: bool, root: bool },
    /// `bool_and` (`of` counts what is false) or `bool_or` (what is true).
    Boolean { count: usize, of: usize, and: bool },
    /// The first or the last value of a bag.
    Extreme { bag: usize, greatest: bool },
    /// A quantile of a bag of buckets.
    Quantile { bag: usize, quantile: f64 },
}

/// How numbers are summed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Number {
    /// One slot.
    Integer,
    /// One slot, in units of `10^-scale`.
    Decimal { scale: i8 },
    /// Six slots: coarse part, fine part, NaNs, positive and negative infinities, values that are too large.
    Float,
}

/// Slots of a float: coarse, fine, NaN, +inf, -inf, too large.
pub(super) const FLOAT_SLOTS: usize = 6;
/// Slots of a float's squares: coarse, fine.
const SQUARE_SLOTS: usize = 2;

/// What becomes of the values in a bag.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum BagKind {
    /// Each value counts once: when it comes and goes, it is added to and taken from this part.
    Distinct(Part),
    /// Only the least or greatest matters.
    Extreme { greatest: bool },
    /// Buckets of a sketch.
    Sketch,
}

/// Where everything is.
#[derive(Debug)]
pub(super) struct Slots {
    /// How many integers a group has. The first counts its rows.
    pub width: usize,
    pub parts: Vec<Part>,
    pub bags: Vec<BagKind>,
    inputs: Vec<Input>,
}

/// How an aggregate's values are read.
#[derive(Debug)]
struct Input {
    argument: Option<(usize, ValueType)>,
    filter: Option<usize>,
    part: Part,
    bag: Option<usize>,
    /// `count(*)` without a filter is the group's presence.
    is_presence: bool,
}

/// The type to which an argument is cast before it is read.
#[derive(Debug, Clone, PartialEq)]
enum ValueType {
    /// Only whether it is null matters.
    Presence,
    Number(DataType),
    Boolean,
    /// Compared by its bytes.
    Any(Field),
}

impl Slots {
    /// Lays out a reduction. `input` are the columns that it reads, `output` those that it gives.
    ///
    /// # Errors
    /// Where an aggregate cannot be maintained over the types.
    pub fn of(reduce: &Reduce, input: &Schema, output: &Schema) -> Result<Self, RenderError> {
        let mut slots = Self { width: 1, parts: Vec::new(), bags: Vec::new(), inputs: Vec::new() };
        for (aggregate, field) in reduce.aggregates.iter().zip(&output.fields()[reduce.keys..]) {
            slots.add(aggregate, input, field)?;
        }
        Ok(slots)
    }

    fn add(&mut self, aggregate: &Aggregate, input: &Schema, output: &Field) -> Result<(), RenderError> {
        let refused = |what: &str| RenderError::Aggregate { column: output.name().clone(), reason: what.to_owned() };
        let argument = aggregate.argument.map(|argument| input.field(argument));
        let argument_type = argument.map(Field::data_type);
        if let Some(argument) = argument.filter(|argument| matches!(argument.data_type(), DataType::Dictionary(..))) {
            return Err(RenderError::Type { column: argument.name().clone(), data_type: argument.data_type().clone() });
        }
        let needs_argument = || refused("it needs an argument");
        let is_presence = aggregate.function == AggregateFunction::Count && aggregate.argument.is_none() && aggregate.filter.is_none();
        let mut distinct = aggregate.distinct;
        let (part, value_type) = match aggregate.function {
            AggregateFunction::Count if is_presence => (Part::Count { count: 0 }, None),
            AggregateFunction::Count => {
                let value_type = argument.map(|argument| if distinct { ValueType::Any(argument.clone()) } else { ValueType::Presence });
                (Part::Count { count: self.take(1) }, value_type)
            }
            AggregateFunction::Sum | AggregateFunction::Average => {
                let mean = aggregate.function == AggregateFunction::Average;
                let (number, as_type) = number_of(argument_type.ok_or_else(needs_argument)?).ok_or_else(|| refused("only numbers can be summed"))?;
                check_sum(number, mean, output.data_type()).map_err(|reason| refused(&reason))?;
                let count = self.take(1);
                let at = self.take(number.width());
                (Part::Sum { count, at, number, mean }, Some(ValueType::Number(as_type)))
            }
            AggregateFunction::Variance { sample, root } => {
                number_of(argument_type.ok_or_else(needs_argument)?).ok_or_else(|| refused("only numbers vary"))?;
                let count = self.take(1);
                let at = self.take(FLOAT_SLOTS + SQUARE_SLOTS);
                (Part::Variance { count, at, sample, root }, Some(ValueType::Number(DataType::Float64)))
            }
            AggregateFunction::BoolAnd | AggregateFunction::BoolOr => {
                distinct = false;
                if argument_type.ok_or_else(needs_argument)? != &DataType::Boolean {
                    return Err(refused("its argument is not a boolean"));
                }
                let count = self.take(1);
                let of = self.take(1);
                (Part::Boolean { count, of, and: aggregate.function == AggregateFunction::BoolAnd }, Some(ValueType::Boolean))
            }
            AggregateFunction::Minimum | AggregateFunction::Maximum => {
                distinct = false;
                let argument = argument.ok_or_else(needs_argument)?;
                Codec::new(&vec![std::sync::Arc::new(argument.clone())].into())?;
                if argument.data_type() != output.data_type() {
                    return Err(refused("it is not of its argument's type"));
                }
                let greatest = aggregate.function == AggregateFunction::Maximum;
                let bag = self.bag(BagKind::Extreme { greatest });
                (Part::Extreme { bag, greatest }, Some(ValueType::Any(argument.clone())))
            }
            AggregateFunction::Quantile(quantile) => {
                number_of(argument_type.ok_or_else(needs_argument)?).ok_or_else(|| refused("only numbers have quantiles"))?;
                if distinct {
                    return Err(refused("quantiles of distinct values are not maintained"));
                }
                let bag = self.bag(BagKind::Sketch);
                (Part::Quantile { bag, quantile }, Some(ValueType::Number(DataType::Float64)))
            }
        };
        check_output(&part, output.data_type()).map_err(|reason| refused(&reason))?;
        let bag = match part {
            Part::Extreme { bag, .. } | Part::Quantile { bag, .. } => Some(bag),
            _ if distinct => Some(self.bag(BagKind::Distinct(part))),
            _ => None,
        };
        self.parts.push(part);
        self.inputs.push(Input { argument: aggregate.argument.zip(value_type), filter: aggregate.filter, part, bag, is_presence });
        Ok(())
    }

    fn take(&mut self, slots: usize) -> usize {
        let at = self.width;
        self.width += slots;
        at
    }

    fn bag(&mut self, kind: BagKind) -> usize {
        self.bags.push(kind);
        self.bags.len() - 1
    }

    /// Reads the rows of a batch: `group_of` says which group each belongs to, `give` takes what it adds.
    pub fn read(&self, batch: &RecordBatch, differences: &[i64], mut give: impl FnMut(usize, Addition<'_>)) {
        for (row, &difference) in differences.iter().enumerate() {
            give(row, Addition::Slot(0, difference.into()));
        }
        let mut scratch = Vec::new();
        for input in self.inputs.iter().filter(|input| !input.is_presence) {
            let filter = input.filter.map(|filter| batch.column(filter).as_boolean());
            let values = Values::of(input, batch);
            for (row, &difference) in differences.iter().enumerate() {
                if filter.is_some_and(|filter| !(filter.is_valid(row) && filter.value(row))) || values.is_null(row) {
                    continue;
                }
                match input.bag {
                    Some(bag) => {
                        scratch.clear();
                        if values.bag_value(row, input.part, &mut scratch) {
                            give(row, Addition::Bag(bag, &scratch, difference));
                        }
                    }
                    None => add(input.part, values.value(row), difference, |slot, sum| give(row, Addition::Slot(slot, sum))),
                }
            }
        }
    }
}

/// What a row adds to its group.
pub(super) enum Addition<'a> {
    Slot(usize, i128),
    Bag(usize, &'a [u8], i64),
}

impl Number {
    fn width(self) -> usize {
        if self == Self::Float { FLOAT_SLOTS } else { 1 }
    }
}

/// A value that is summed.
#[derive(Debug, Clone, Copy)]
pub(super) enum Value {
    Nothing,
    Integer(i128),
    Float(f64),
    Boolean(bool),
}

/// Adds a value to the slots of its part.
pub(super) fn add(part: Part, value: Value, difference: i64, mut give: impl FnMut(usize, i128)) {
    let times = i128::from(difference);
    match (part, value) {
        (Part::Count { count }, _) => give(count, times),
        (Part::Sum { count, at, .. }, Value::Integer(value)) => {
            give(count, times);
            give(at, value.wrapping_mul(times));
        }
        (Part::Sum { count, at, .. } | Part::Variance { count, at, .. }, Value::Float(value)) => {
            give(count, times);
            let squares = matches!(part, Part::Variance { .. });
            add_float(at, value, squares, times, give);
        }
        (Part::Boolean { count, of, and }, Value::Boolean(value)) => {
            give(count, times);
            if value != and {
                give(of, times);
            }
        }
        _ => unreachable!("values are read as their part needs them"),
    }
}

fn add_float(at: usize, value: f64, squares: bool, times: i128, mut give: impl FnMut(usize, i128)) {
    let square = value * value;
    match OF_VALUES.split(value) {
        Some((coarse, fine)) if !squares || OF_SQUARES.split(square).is_some() => {
            give(at, coarse.wrapping_mul(times));
            give(at + 1, fine.wrapping_mul(times));
            if squares {
                // The square to its last bit: what the product rounds away is summed too.
                for part in [square, value.mul_add(value, -square)] {
                    let (coarse, fine) = OF_SQUARES.split(part).expect("a square within bounds");
                    give(at + FLOAT_SLOTS, coarse.wrapping_mul(times));
                    give(at + FLOAT_SLOTS + 1, fine.wrapping_mul(times));
                }
            }
        }
        _ if value.is_nan() => give(at + 2, times),
        _ if value == f64::INFINITY => give(at + 3, times),
        _ if value == f64::NEG_INFINITY => give(at + 4, times),
        _ => give(at + 5, times),
    }
}

/// A column as its aggregate reads it.
enum Values {
    /// `count(*)` with a filter.
    All,
    Presence(ArrayRef),
    Signed(ArrayRef),
    Unsigned(ArrayRef),
    Float(ArrayRef),
    Decimal(ArrayRef),
    Boolean(BooleanArray),
    Any(ArrayRef, Encoded),
}

impl Values {
    fn of(input: &Input, batch: &RecordBatch) -> Self {
        let Some((argument, value_type)) = &input.argument else { return Self::All };
        let column = batch.column(*argument);
        match value_type {
            ValueType::Presence => Self::Presence(std::sync::Arc::clone(column)),
            ValueType::Boolean => Self::Boolean(column.as_boolean().clone()),
            ValueType::Any(field) => {
                let codec = Codec::new(&vec![std::sync::Arc::new(field.clone())].into()).expect("checked when laid out");
                let encoded = codec.encode(std::slice::from_ref(column));
                Self::Any(std::sync::Arc::clone(column), encoded)
            }
            ValueType::Number(as_type) => {
                let numbers = cast(column, as_type).expect("numbers widen");
                match as_type {
                    DataType::Int64 => Self::Signed(numbers),
                    DataType::UInt64 => Self::Unsigned(numbers),
                    DataType::Float64 => Self::Float(numbers),
                    _ => Self::Decimal(numbers),
                }
            }
        }
    }

    fn is_null(&self, row: usize) -> bool {
        match self {
            Self::All => false,
            Self::Boolean(values) => values.is_null(row),
            Self::Presence(values) | Self::Signed(values) | Self::Unsigned(values) | Self::Float(values) | Self::Decimal(values) | Self::Any(values, _) => {
                values.is_null(row)
            }
        }
    }

    fn value(&self, row: usize) -> Value {
        match self {
            Self::All | Self::Presence(_) | Self::Any(..) => Value::Nothing,
            Self::Signed(values) => Value::Integer(values.as_primitive::<Int64Type>().value(row).into()),
            Self::Unsigned(values) => Value::Integer(values.as_primitive::<UInt64Type>().value(row).into()),
            Self::Decimal(values) => Value::Integer(values.as_primitive::<Decimal128Type>().value(row)),
            Self::Float(values) => Value::Float(values.as_primitive::<Float64Type>().value(row)),
            Self::Boolean(values) => Value::Boolean(values.value(row)),
        }
    }

    /// A value as bags hold it; whether it goes into one.
    fn bag_value(&self, row: usize, part: Part, bytes: &mut Bytes) -> bool {
        match (part, self) {
            (Part::Quantile { .. }, Self::Float(values)) => {
                let Some(bucket) = sketch::bucket(values.as_primitive::<Float64Type>().value(row)) else { return false };
                bytes.extend_from_slice(&bucket_bytes(bucket));
            }
            (Part::Count { .. }, Self::Any(_, encoded)) => distinct_bytes(encoded.bytes(row), bytes),
            (_, Self::Any(_, encoded)) => bytes.extend_from_slice(encoded.bytes(row)),
            _ => match self.value(row) {
                Value::Integer(value) => bytes.extend_from_slice(&value.to_le_bytes()),
                // Both zeros are one value, and so are all NaNs.
                Value::Float(value) => bytes.extend_from_slice(&(if value.is_nan() { f64::NAN } else { value + 0.0 }).to_bits().to_le_bytes()),
                Value::Boolean(_) | Value::Nothing => {}
            },
        }
        true
    }
}

/// How many bytes tell distinct values apart at most: longer ones by their hash.
const DISTINCT_BYTES_MAX: usize = 16;

/// A value of `count(distinct …)`: itself where it is short, else 128 bits of its BLAKE3 hash.
fn distinct_bytes(encoded: &[u8], bytes: &mut Bytes) {
    if encoded.len() < DISTINCT_BYTES_MAX {
        bytes.extend_from_slice(encoded);
    } else {
        bytes.extend_from_slice(&blake3::hash(encoded).as_bytes()[..DISTINCT_BYTES_MAX]);
    }
}

/// A distinct value of a bag, as it is added to its part.
pub(super) fn distinct_value(part: Part, bytes: &[u8]) -> Value {
    match part {
        Part::Count { .. } => Value::Nothing,
        Part::Sum { number: Number::Float, .. } | Part::Variance { .. } => {
            Value::Float(f64::from_bits(u64::from_le_bytes(bytes.try_into().expect("eight bytes of a float"))))
        }
        _ => Value::Integer(i128::from_le_bytes(bytes.try_into().expect("sixteen bytes of an integer"))),
    }
}

/// A bucket's bytes, which sort as buckets do.
fn bucket_bytes(bucket: i32) -> [u8; 4] {
    ((bucket as u32) ^ (1 << 31)).to_be_bytes()
}

/// The bucket of [`bucket_bytes`].
pub(super) fn bucket_of(bytes: &[u8]) -> i32 {
    (u32::from_be_bytes(bytes.try_into().expect("four bytes of a bucket")) ^ (1 << 31)) as i32
}

/// How numbers of a type are summed, and as which type they are read.
fn number_of(data_type: &DataType) -> Option<(Number, DataType)> {
    Some(match data_type {
        DataType::Int8 | DataType::Int16 | DataType::Int32 | DataType::Int64 => (Number::Integer, DataType::Int64),
        DataType::UInt8 | DataType::UInt16 | DataType::UInt32 | DataType::UInt64 => (Number::Integer, DataType::UInt64),
        DataType::Float16 | DataType::Float32 | DataType::Float64 => (Number::Float, DataType::Float64),
        DataType::Decimal128(_, scale) => (Number::Decimal { scale: *scale }, data_type.clone()),
        _ => return None,
    })
}

fn check_sum(number: Number, mean: bool, output: &DataType) -> Result<(), String> {
    let fits = match (number, output) {
        (Number::Integer, DataType::Int64 | DataType::UInt64) => !mean,
        (_, DataType::Float64) => true,
        (Number::Decimal { scale }, DataType::Decimal128(_, output)) => {
            if mean {
                *output >= scale
            } else {
                *output == scale
            }
        }
        _ => false,
    };
    if fits { Ok(()) } else { Err(format!("its sum is not maintained as {output}")) }
}

fn check_output(part: &Part, output: &DataType) -> Result<(), String> {
    let expected = match part {
        Part::Count { .. } => DataType::Int64,
        Part::Variance { .. } | Part::Quantile { .. } => DataType::Float64,
        Part::Boolean { .. } => DataType::Boolean,
        Part::Sum { .. } | Part::Extreme { .. } => return Ok(()),
    };
    if *output == expected { Ok(()) } else { Err(format!("it is {expected}, not {output}")) }
}
