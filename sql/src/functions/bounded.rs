//! Functions whose result is far larger than what they are given: they are refused past a bound.
//!
//! What a function makes is made at once, before any operator can account for it or write it to the disk. So the bound on a query's
//! memory does not reach it.

use std::sync::Arc;

use datafusion::arrow::array::{Array, ArrayRef, AsArray, Int64Array};
use datafusion::arrow::compute::cast;
use datafusion::arrow::datatypes::{DataType, Field, FieldRef, Int64Type};
use datafusion::common::{Result, exec_err};
use datafusion::logical_expr::simplify::{ExprSimplifyResult, SimplifyContext};
use datafusion::logical_expr::{ColumnarValue, Documentation, Expr, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature};

/// What one call makes of one batch, in bytes of text or elements of lists.
const MADE_MAX: u64 = 16 << 20;

/// How much is made of a row: its arguments as numbers, and how long the first is as a text or a list.
type Size = fn(first: u64, numbers: &[Option<i64>]) -> u64;

/// Those that make much of little.
const FUNCTIONS: [(&str, Size); 7] = [
    ("repeat", |first, numbers| first.saturating_mul(number(numbers, 1))),
    ("lpad", |_, numbers| number(numbers, 1)),
    ("rpad", |_, numbers| number(numbers, 1)),
    ("array_repeat", |first, numbers| first.max(1).saturating_mul(number(numbers, 1))),
    ("array_resize", |_, numbers| number(numbers, 1)),
    ("range", |_, numbers| steps(numbers)),
    ("generate_series", |_, numbers| steps(numbers)),
];

fn number(numbers: &[Option<i64>], index: usize) -> u64 {
    numbers.get(index).copied().flatten().map_or(0, |number| number.max(0).unsigned_abs())
}

/// The elements of a series of numbers: `(stop)`, `(start, stop)` or `(start, stop, step)`.
fn steps(numbers: &[Option<i64>]) -> u64 {
    let (start, stop, step) = match numbers {
        [Some(stop)] => (0, *stop, 1),
        [Some(start), Some(stop)] => (*start, *stop, 1),
        [Some(start), Some(stop), Some(step), ..] => (*start, *stop, *step),
        _ => return 0,
    };
    start.abs_diff(stop) / step.unsigned_abs().max(1)
}

/// The functions among those given that are bounded, in their bounded form.
pub(super) fn bounded(functions: &[Arc<ScalarUDF>]) -> Vec<Arc<ScalarUDF>> {
    let bound = |function: &Arc<ScalarUDF>| {
        let (_, size) = FUNCTIONS.iter().find(|(name, _)| *name == function.name())?;
        Some(Arc::new(ScalarUDF::from(Bounded { function: Arc::clone(function), size: *size })))
    };
    functions.iter().filter_map(bound).collect()
}

/// A function with a bound on what it makes.
#[derive(Debug)]
struct Bounded {
    function: Arc<ScalarUDF>,
    size: Size,
}

impl PartialEq for Bounded {
    fn eq(&self, other: &Self) -> bool {
        self.function == other.function
    }
}

impl Eq for Bounded {}

impl std::hash::Hash for Bounded {
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        self.function.hash(state);
    }
}

impl Bounded {
    fn check(&self, args: &ScalarFunctionArgs) -> Result<()> {
        // Constants are looked at once, however many rows there are of them.
        let is_constant = args.args.iter().all(|arg| matches!(arg, ColumnarValue::Scalar(_)));
        let rows = if is_constant { args.number_rows.min(1) } else { args.number_rows };
        let arrays = args.args.iter().map(|arg| arg.to_array(rows)).collect::<Result<Vec<ArrayRef>>>()?;
        let numbers = arrays.iter().map(|array| if array.data_type().is_integer() { Some(cast(array, &DataType::Int64).ok()?) } else { None });
        let numbers: Vec<Option<ArrayRef>> = numbers.collect();
        let mut made: u64 = 0;
        for row in 0..rows {
            let at = |array: &Option<ArrayRef>| {
                let numbers: &Int64Array = array.as_ref()?.as_primitive_opt::<Int64Type>()?;
                numbers.is_valid(row).then(|| numbers.value(row))
            };
            let of_row: Vec<Option<i64>> = numbers.iter().map(at).collect();
            made = made.saturating_add((self.size)(arrays.first().map_or(0, |first| length(first, row)), &of_row));
        }
        if made > MADE_MAX {
            return exec_err!("{} would make {made} bytes or elements at once, and {MADE_MAX} is the bound: ask for less of it", self.function.name());
        }
        Ok(())
    }
}

/// The length of a text in bytes, or of a list in elements.
fn length(array: &ArrayRef, row: usize) -> u64 {
    let length = match array.data_type() {
        _ if array.is_null(row) => 0,
        DataType::Utf8 => array.as_string::<i32>().value(row).len(),
        DataType::LargeUtf8 => array.as_string::<i64>().value(row).len(),
        DataType::Utf8View => array.as_string_view().value(row).len(),
        DataType::List(_) => array.as_list::<i32>().value(row).len(),
        _ => 1,
    };
    length as u64
}

impl ScalarUDFImpl for Bounded {
    fn name(&self) -> &str {
        self.function.name()
    }

    fn aliases(&self) -> &[String] {
        self.function.aliases()
    }

    fn signature(&self) -> &Signature {
        self.function.signature()
    }

    fn return_type(&self, arguments: &[DataType]) -> Result<DataType> {
        self.function.return_type(arguments)
    }

    fn return_field_from_args(&self, args: ReturnFieldArgs) -> Result<FieldRef> {
        let field = self.function.return_field_from_args(args)?;
        Ok(Arc::new(Field::clone(&field)))
    }

    fn coerce_types(&self, arguments: &[DataType]) -> Result<Vec<DataType>> {
        self.function.coerce_types(arguments)
    }

    fn simplify(&self, args: Vec<Expr>, _context: &SimplifyContext) -> Result<ExprSimplifyResult> {
        Ok(ExprSimplifyResult::Original(args))
    }

    fn documentation(&self) -> Option<&Documentation> {
        self.function.documentation()
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        self.check(&args)?;
        self.function.invoke_with_args(args)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn series_are_counted_before_they_are_made() {
        for (numbers, want) in [
            (&[Some(10)][..], 10),
            (&[Some(5), Some(10)], 5),
            (&[Some(0), Some(i64::MAX), Some(2)], i64::MAX.unsigned_abs() / 2),
            (&[Some(i64::MIN), Some(i64::MAX), Some(1)], u64::MAX),
            (&[Some(10), Some(0), Some(-5)], 2),
            (&[Some(0), Some(9), Some(0)], 9),
            (&[None, Some(9)], 0),
        ] {
            assert_eq!(steps(numbers), want, "{numbers:?}");
        }
    }
}
