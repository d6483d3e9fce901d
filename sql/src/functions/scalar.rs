//! The functions of the field that look at one row.

use std::sync::{Arc, LazyLock};

use datafusion::arrow::array::{Array, ArrayRef, AsArray, BooleanArray, Float64Array};
use datafusion::arrow::datatypes::{DataType, Float64Type};
use datafusion::common::{Result, plan_err};
use datafusion::logical_expr::{ColumnarValue, Documentation, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, TypeSignature, Volatility};

use super::field::SECTION;

/// All of them.
pub(super) fn all() -> Vec<ScalarUDF> {
    vec![ScalarUDF::from(Histogram::new()), ScalarUDF::from(Handled::new(true)), ScalarUDF::from(Handled::new(false))]
}

/// The lower bound of the bucket that a value is in.
#[derive(Debug, PartialEq, Eq, Hash)]
struct Histogram {
    signature: Signature,
}

impl Histogram {
    fn new() -> Self {
        let takes = (2..=4).map(|count| TypeSignature::Exact(vec![DataType::Float64; count])).collect();
        Self { signature: Signature::one_of(takes, Volatility::Immutable) }
    }
}

static HISTOGRAM_DOC: LazyLock<Documentation> = LazyLock::new(|| {
    Documentation::builder(
        SECTION,
        "The bucket that a value is in: floor((value · multiplier − offset) / size) · size + offset. Group by it to get a histogram.",
        "histogram(value, size, offset = 0, multiplier = 1)",
    )
    .with_argument("value", "a number")
    .with_argument("size", "width of a bucket, above 0")
    .with_argument("offset", "where the buckets begin; 0 by default")
    .with_argument("multiplier", "what values are multiplied by first; 1 by default")
    .with_sql_example("SELECT histogram(duration_ms, 100) AS bucket, count(*) FROM transactions GROUP BY bucket ORDER BY bucket")
    .build()
});

impl ScalarUDFImpl for Histogram {
    fn name(&self) -> &str {
        "histogram"
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _arguments: &[DataType]) -> Result<DataType> {
        Ok(DataType::Float64)
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let arrays = ColumnarValue::values_to_arrays(&args.args)?;
        let at = |index: usize, row: usize, default: f64| match arrays.get(index).map(|array| array.as_primitive::<Float64Type>()) {
            Some(array) => array.is_valid(row).then(|| array.value(row)),
            None => Some(default),
        };
        let bucket = |row: usize| {
            let (value, size, offset, multiplier) = (at(0, row, 0.0)?, at(1, row, 0.0)?, at(2, row, 0.0)?, at(3, row, 1.0)?);
            (size > 0.0).then(|| ((value * multiplier - offset) / size).floor() * size + offset)
        };
        let rows = arrays.first().map_or(0, |array| array.len());
        Ok(ColumnarValue::Array(Arc::new((0..rows).map(bucket).collect::<Float64Array>())))
    }

    fn documentation(&self) -> Option<&Documentation> {
        Some(&HISTOGRAM_DOC)
    }
}

/// Whether the exceptions of an error were handled.
#[derive(Debug, PartialEq, Eq, Hash)]
struct Handled {
    signature: Signature,
    handled: bool,
}

impl Handled {
    fn new(handled: bool) -> Self {
        Self { signature: Signature::any(1, Volatility::Immutable), handled }
    }
}

static IS_HANDLED_DOC: LazyLock<Documentation> = LazyLock::new(|| {
    Documentation::builder(SECTION, "Whether no exception says that it was not handled.", "is_handled(exceptions)")
        .with_argument("exceptions", "the column exceptions of errors")
        .with_sql_example("SELECT count(*) FROM errors WHERE is_handled(exceptions)")
        .build()
});

static NOT_HANDLED_DOC: LazyLock<Documentation> = LazyLock::new(|| {
    Documentation::builder(SECTION, "Whether an exception says that it was not handled.", "not_handled(exceptions)")
        .with_argument("exceptions", "the column exceptions of errors")
        .with_sql_example("SELECT count(*) FROM errors WHERE not_handled(exceptions)")
        .build()
});

impl ScalarUDFImpl for Handled {
    fn name(&self) -> &str {
        if self.handled { "is_handled" } else { "not_handled" }
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, arguments: &[DataType]) -> Result<DataType> {
        let is_exceptions = match arguments {
            [DataType::List(element)] => matches!(element.data_type(), DataType::Struct(fields) if fields.find("handled").is_some()),
            _ => false,
        };
        if is_exceptions { Ok(DataType::Boolean) } else { plan_err!("{}(exceptions) takes the column exceptions of errors", self.name()) }
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let arrays = ColumnarValue::values_to_arrays(&args.args)?;
        let lists = arrays[0].as_list::<i32>();
        let handled = lists.values().as_struct().column_by_name("handled").map(|column| column.as_boolean().clone());
        let Some(handled) = handled else { return plan_err!("{}(exceptions) takes the column exceptions of errors", self.name()) };
        let is_unhandled = |row: usize| {
            let offsets = lists.value_offsets();
            let mut range = offsets[row] as usize..offsets[row + 1] as usize;
            lists.is_valid(row) && range.any(|at| handled.is_valid(at) && !handled.value(at))
        };
        let answers: BooleanArray = (0..lists.len()).map(|row| Some(is_unhandled(row) != self.handled)).collect();
        Ok(ColumnarValue::Array(Arc::new(answers) as ArrayRef))
    }

    fn documentation(&self) -> Option<&Documentation> {
        Some(if self.handled { &IS_HANDLED_DOC } else { &NOT_HANDLED_DOC })
    }
}
