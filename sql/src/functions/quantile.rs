//! Quantiles: an aggregate that makes a sketch, and a function that reads one.

use std::sync::{Arc, LazyLock};

use datafusion::arrow::array::{Array, ArrayRef, AsArray, BinaryArray, BooleanArray, Float64Array};
use datafusion::arrow::datatypes::{DataType, Field, FieldRef, Float64Type};
use datafusion::common::{Result, ScalarValue, exec_err};
use datafusion::logical_expr::function::{AccumulatorArgs, StateFieldsArgs};
use datafusion::logical_expr::{
    Accumulator, AggregateUDF, AggregateUDFImpl, ColumnarValue, Documentation, EmitTo, Expr, GroupsAccumulator, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl,
    Signature, Volatility,
};
use weir_operators::sketch::Sketch;

use super::field::SECTION;

/// The quantile `fraction` of the values: a sketch of them, read.
pub(super) fn quantile(value: Expr, fraction: Expr) -> Result<Expr> {
    Ok(SKETCH_QUANTILE.call(vec![DDSKETCH.call(vec![value]), fraction]))
}

pub(super) static DDSKETCH: LazyLock<Arc<AggregateUDF>> = LazyLock::new(|| Arc::new(AggregateUDF::from(DdSketch::new())));
pub(super) static SKETCH_QUANTILE: LazyLock<Arc<ScalarUDF>> = LazyLock::new(|| Arc::new(ScalarUDF::from(SketchQuantile::new())));

#[derive(Debug, PartialEq, Eq, Hash)]
struct DdSketch {
    signature: Signature,
}

impl DdSketch {
    fn new() -> Self {
        Self { signature: Signature::exact(vec![DataType::Float64], Volatility::Immutable) }
    }
}

static DDSKETCH_DOC: LazyLock<Documentation> = LazyLock::new(|| {
    Documentation::builder(SECTION, "The distribution of the values as a DDSketch with a relative error of 1 %, for sketch_quantile.", "ddsketch(value)")
        .with_argument("value", "a number")
        .with_sql_example("SELECT sketch_quantile(ddsketch(duration_ms), 0.95) FROM spans")
        .build()
});

impl AggregateUDFImpl for DdSketch {
    fn name(&self) -> &str {
        "ddsketch"
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _arguments: &[DataType]) -> Result<DataType> {
        Ok(DataType::Binary)
    }

    fn accumulator(&self, _arguments: AccumulatorArgs) -> Result<Box<dyn Accumulator>> {
        Ok(Box::new(One::default()))
    }

    fn state_fields(&self, arguments: StateFieldsArgs) -> Result<Vec<FieldRef>> {
        Ok(vec![Arc::new(Field::new(format!("{}[sketch]", arguments.name), DataType::Binary, true))])
    }

    fn groups_accumulator_supported(&self, _arguments: AccumulatorArgs) -> bool {
        true
    }

    fn create_groups_accumulator(&self, _arguments: AccumulatorArgs) -> Result<Box<dyn GroupsAccumulator>> {
        Ok(Box::new(Groups::default()))
    }

    fn documentation(&self) -> Option<&Documentation> {
        Some(&DDSKETCH_DOC)
    }
}

/// The sketch of all rows, or of those of a window.
#[derive(Debug, Default)]
struct One {
    sketch: Sketch,
}

fn read(bytes: &[u8]) -> Result<Sketch> {
    Sketch::from_bytes(bytes).or_else(|e| exec_err!("{e}"))
}

impl Accumulator for One {
    fn update_batch(&mut self, values: &[ArrayRef]) -> Result<()> {
        values[0].as_primitive::<Float64Type>().iter().flatten().for_each(|value| self.sketch.add(value));
        Ok(())
    }

    fn retract_batch(&mut self, values: &[ArrayRef]) -> Result<()> {
        values[0].as_primitive::<Float64Type>().iter().flatten().for_each(|value| self.sketch.remove(value));
        Ok(())
    }

    fn supports_retract_batch(&self) -> bool {
        true
    }

    fn merge_batch(&mut self, states: &[ArrayRef]) -> Result<()> {
        states[0].as_binary::<i32>().iter().flatten().try_for_each(|bytes| read(bytes).map(|other| self.sketch.merge(&other)))
    }

    fn state(&mut self) -> Result<Vec<ScalarValue>> {
        Ok(vec![self.evaluate()?])
    }

    fn evaluate(&mut self) -> Result<ScalarValue> {
        Ok(ScalarValue::Binary((!self.sketch.is_empty()).then(|| self.sketch.to_bytes())))
    }

    fn size(&self) -> usize {
        size_of::<Self>() + self.sketch.heap_bytes()
    }
}

/// A sketch a group.
#[derive(Debug, Default)]
struct Groups {
    sketches: Vec<Sketch>,
    heap_bytes: usize,
}

impl Groups {
    fn change(&mut self, group: usize, change: impl FnOnce(&mut Sketch)) {
        let sketch = &mut self.sketches[group];
        let before = sketch.heap_bytes();
        change(sketch);
        self.heap_bytes = self.heap_bytes + sketch.heap_bytes() - before;
    }

    fn grow(&mut self, groups: usize) {
        if self.sketches.len() < groups {
            self.sketches.resize(groups, Sketch::default());
        }
    }
}

impl GroupsAccumulator for Groups {
    fn update_batch(&mut self, values: &[ArrayRef], groups: &[usize], filter: Option<&BooleanArray>, total: usize) -> Result<()> {
        self.grow(total);
        let values = values[0].as_primitive::<Float64Type>();
        for (row, group) in groups.iter().enumerate() {
            if values.is_valid(row) && filter.is_none_or(|filter| filter.is_valid(row) && filter.value(row)) {
                self.change(*group, |sketch| sketch.add(values.value(row)));
            }
        }
        Ok(())
    }

    fn merge_batch(&mut self, values: &[ArrayRef], groups: &[usize], total: usize) -> Result<()> {
        self.grow(total);
        let sketches = values[0].as_binary::<i32>();
        for (row, group) in groups.iter().enumerate().filter(|(row, _)| sketches.is_valid(*row)) {
            let other = read(sketches.value(row))?;
            self.change(*group, |sketch| sketch.merge(&other));
        }
        Ok(())
    }

    fn evaluate(&mut self, emit_to: EmitTo) -> Result<ArrayRef> {
        let taken = emit_to.take_needed(&mut self.sketches);
        self.heap_bytes = self.sketches.iter().map(Sketch::heap_bytes).sum();
        Ok(Arc::new(taken.iter().map(|sketch| (!sketch.is_empty()).then(|| sketch.to_bytes())).collect::<BinaryArray>()))
    }

    fn state(&mut self, emit_to: EmitTo) -> Result<Vec<ArrayRef>> {
        Ok(vec![self.evaluate(emit_to)?])
    }

    fn convert_to_state(&self, values: &[ArrayRef], filter: Option<&BooleanArray>) -> Result<Vec<ArrayRef>> {
        let values = values[0].as_primitive::<Float64Type>();
        let one = |(row, value): (usize, Option<f64>)| {
            let value = value.filter(|_| filter.is_none_or(|filter| filter.is_valid(row) && filter.value(row)))?;
            let mut sketch = Sketch::default();
            sketch.add(value);
            Some(sketch.to_bytes())
        };
        Ok(vec![Arc::new(values.iter().enumerate().map(one).collect::<BinaryArray>())])
    }

    fn size(&self) -> usize {
        size_of::<Self>() + self.sketches.capacity() * size_of::<Sketch>() + self.heap_bytes
    }
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct SketchQuantile {
    signature: Signature,
}

impl SketchQuantile {
    fn new() -> Self {
        Self { signature: Signature::exact(vec![DataType::Binary, DataType::Float64], Volatility::Immutable) }
    }
}

static SKETCH_QUANTILE_DOC: LazyLock<Documentation> = LazyLock::new(|| {
    Documentation::builder(SECTION, "The value below which a fraction of the values of a sketch lie; null for none.", "sketch_quantile(sketch, fraction)")
        .with_argument("sketch", "what ddsketch returns")
        .with_argument("fraction", "0 to 1")
        .with_sql_example("SELECT sketch_quantile(ddsketch(duration_ms), 0.95) FROM spans")
        .build()
});

impl ScalarUDFImpl for SketchQuantile {
    fn name(&self) -> &str {
        "sketch_quantile"
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _arguments: &[DataType]) -> Result<DataType> {
        Ok(DataType::Float64)
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let arrays = ColumnarValue::values_to_arrays(&args.args)?;
        let (sketches, fractions) = (arrays[0].as_binary::<i32>(), arrays[1].as_primitive::<Float64Type>());
        let one = |(sketch, fraction): (Option<&[u8]>, Option<f64>)| match (sketch, fraction) {
            (Some(_), Some(fraction)) if !(0.0..=1.0).contains(&fraction) => {
                exec_err!("{fraction} is no fraction: a quantile is asked for with 0 to 1, 0.95 for the 95th percentile")
            }
            (Some(sketch), Some(fraction)) => Ok(read(sketch)?.quantile(fraction)),
            _ => Ok(None),
        };
        let answers = sketches.iter().zip(fractions.iter()).map(one).collect::<Result<Float64Array>>()?;
        Ok(ColumnarValue::Array(Arc::new(answers)))
    }

    fn documentation(&self) -> Option<&Documentation> {
        Some(&SKETCH_QUANTILE_DOC)
    }
}
