//! Ids of 16 bytes as lower-case hexadecimal text, and comparisons with text as comparisons with bytes.
//!
//! Tables store ids as bytes and show them through [`hex_id`]. A filter on the text would have to compute it for every row;
//! [`CompareBytes`] turns it around, so that statistics and bloom filters of the files decide where to look at all.

use std::sync::{Arc, LazyLock};

use datafusion::arrow::array::{Array, AsArray, FixedSizeBinaryArray, StringArray};
use datafusion::arrow::buffer::OffsetBuffer;
use datafusion::arrow::datatypes::DataType;
use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::common::{Result, ScalarValue, plan_err};
use datafusion::logical_expr::expr::{InList, ScalarFunction};
use datafusion::logical_expr::{
    BinaryExpr, ColumnarValue, Expr, LogicalPlan, Operator, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility, lit,
};
use datafusion::optimizer::{ApplyOrder, OptimizerConfig, OptimizerRule};
use weir_protocol::ids::hex;

/// The text of an id.
pub(crate) fn hex_id(id: Expr) -> Expr {
    Expr::ScalarFunction(ScalarFunction::new_udf(Arc::clone(&HEX_ID), vec![id]))
}

static HEX_ID: LazyLock<Arc<ScalarUDF>> = LazyLock::new(|| Arc::new(ScalarUDF::from(HexId::new())));

#[derive(Debug, PartialEq, Eq, Hash)]
struct HexId {
    signature: Signature,
}

impl HexId {
    fn new() -> Self {
        Self { signature: Signature::exact(vec![DataType::FixedSizeBinary(16)], Volatility::Immutable) }
    }
}

impl ScalarUDFImpl for HexId {
    fn name(&self) -> &str {
        "hex_id"
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _arguments: &[DataType]) -> Result<DataType> {
        Ok(DataType::Utf8)
    }

    fn return_field_from_args(&self, args: datafusion::logical_expr::ReturnFieldArgs) -> Result<datafusion::arrow::datatypes::FieldRef> {
        let nullable = args.arg_fields.first().is_none_or(|field| field.is_nullable());
        Ok(Arc::new(datafusion::arrow::datatypes::Field::new(self.name(), DataType::Utf8, nullable)))
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let Some(ids) = args.args.first() else { return plan_err!("hex_id takes an id") };
        let ids = ids.to_array(args.number_rows)?;
        let Some(ids) = ids.as_fixed_size_binary_opt() else { return plan_err!("hex_id takes an id of 16 bytes") };
        Ok(ColumnarValue::Array(Arc::new(texts(ids)?)))
    }
}

/// The digits of every byte.
static DIGITS: LazyLock<[[u8; 2]; 256]> = LazyLock::new(|| {
    const HEXADECIMAL: &[u8; 16] = b"0123456789abcdef";
    std::array::from_fn(|byte| [HEXADECIMAL[byte >> 4], HEXADECIMAL[byte & 15]])
});

/// The texts of ids. Every text has 32 characters, so all are written in one go, those of nulls included.
fn texts(ids: &FixedSizeBinaryArray) -> Result<StringArray> {
    let bytes = ids.values().get(..ids.len() * 16).unwrap_or_default();
    let digits = &*DIGITS;
    let mut text = Vec::with_capacity(bytes.len() * 2);
    bytes.iter().for_each(|byte| text.extend_from_slice(&digits[usize::from(*byte)]));
    let offsets = OffsetBuffer::from_repeated_length(32, ids.len());
    Ok(StringArray::try_new(offsets, text.into(), ids.nulls().cloned())?)
}

/// The argument, where an expression is the text of an id.
fn id_of(expr: &Expr) -> Option<&Expr> {
    match expr {
        Expr::ScalarFunction(call) if call.func.name() == HEX_ID.name() => call.args.first(),
        _ => None,
    }
}

/// The text of a literal; through casts between text types, which planning may have added.
fn text_of(expr: &Expr) -> Option<&str> {
    match expr {
        Expr::Literal(ScalarValue::Utf8(text) | ScalarValue::LargeUtf8(text) | ScalarValue::Utf8View(text), _) => text.as_deref(),
        _ => None,
    }
}

/// The bytes whose text this is, if any: only lower-case digits without hyphens are the text of an id.
fn bytes_of(text: &str) -> Option<Expr> {
    let bytes = weir_protocol::ids::parse_hex16(text)?;
    (hex(&bytes) == text).then(|| lit(ScalarValue::FixedSizeBinary(16, Some(bytes.to_vec()))))
}

/// Compares ids as bytes.
#[derive(Debug, Default)]
pub(crate) struct CompareBytes;

impl OptimizerRule for CompareBytes {
    fn name(&self) -> &str {
        "compare_ids_as_bytes"
    }

    fn apply_order(&self) -> Option<ApplyOrder> {
        Some(ApplyOrder::BottomUp)
    }

    fn rewrite(&self, plan: LogicalPlan, _config: &dyn OptimizerConfig) -> Result<Transformed<LogicalPlan>> {
        // Only where rows are chosen: elsewhere the name of the expression is the name of a column.
        match plan {
            LogicalPlan::Filter(_) | LogicalPlan::TableScan(_) => plan.map_expressions(|expr| expr.transform_up(|e| Ok(compare_bytes(e)))),
            other => Ok(Transformed::no(other)),
        }
    }
}

fn compare_bytes(expr: Expr) -> Transformed<Expr> {
    match &expr {
        Expr::BinaryExpr(BinaryExpr { left, op: op @ (Operator::Eq | Operator::NotEq), right }) => {
            let sides = id_of(left).zip(text_of(right)).or_else(|| id_of(right).zip(text_of(left)));
            let Some((id, text)) = sides else { return Transformed::no(expr) };
            match bytes_of(text) {
                Some(bytes) => Transformed::yes(Expr::BinaryExpr(BinaryExpr::new(Box::new(id.clone()), *op, Box::new(bytes)))),
                // No id has this text. Null stays null, as in any comparison.
                None => Transformed::yes(never(id.clone(), *op == Operator::Eq)),
            }
        }
        Expr::InList(InList { expr: tested, list, negated }) => {
            let Some((id, texts)) = id_of(tested).zip(list.iter().map(text_of).collect::<Option<Vec<_>>>()) else { return Transformed::no(expr) };
            let known: Vec<Expr> = texts.into_iter().filter_map(bytes_of).collect();
            if known.is_empty() {
                return Transformed::yes(never(id.clone(), !negated));
            }
            Transformed::yes(id.clone().in_list(known, *negated))
        }
        _ => Transformed::no(expr),
    }
}

/// False (or, negated, true) for every id, and null for null.
fn never(id: Expr, is_equality: bool) -> Expr {
    let no_id = lit(ScalarValue::Boolean(None));
    let answer = if is_equality { lit(false) } else { lit(true) };

    Expr::Case(datafusion::logical_expr::Case::new(None, vec![(Box::new(id.is_null()), Box::new(no_id))], Some(Box::new(answer))))
}

#[cfg(test)]
mod tests {
    use super::*;
    use datafusion::logical_expr::col;

    #[test]
    fn ids_as_text() {
        let given = [Some([0u8; 16]), None, Some([0xab; 16]), Some([0x0f; 16])];
        let array = FixedSizeBinaryArray::try_from_sparse_iter_with_size(given.into_iter(), 16).unwrap();
        for (from, length) in [(0, 4), (1, 3), (2, 1), (0, 0)] {
            let got = texts(&array.slice(from, length)).unwrap();
            let want: Vec<Option<String>> = given[from..from + length].iter().map(|id| id.map(|id| hex(&id))).collect();
            assert_eq!(got.iter().map(|text| text.map(str::to_owned)).collect::<Vec<_>>(), want);
        }
    }

    #[test]
    fn comparisons_with_text_become_comparisons_with_bytes() {
        let id = || hex_id(col("event_id"));
        let hexes = "00112233445566778899aabbccddeeff";
        let check = |given: Expr, changed: bool, want: &str| {
            let got = compare_bytes(given);
            assert_eq!(got.transformed, changed);
            assert!(got.data.to_string().contains(want), "{}", got.data);
        };
        check(id().eq(lit(hexes)), true, "event_id = FixedSizeBinary(16");
        check(lit(hexes).not_eq(id()), true, "event_id != FixedSizeBinary(16");
        check(id().eq(lit(hexes.to_uppercase())), true, "ELSE Boolean(false)");
        check(id().not_eq(lit("x")), true, "ELSE Boolean(true)");
        check(id().in_list(vec![lit(hexes), lit("x")], false), true, "event_id IN ([FixedSizeBinary(16");
        check(id().in_list(vec![lit("x")], true), true, "ELSE Boolean(true)");
        check(id().gt(lit(hexes)), false, "hex_id(event_id) >");
        check(col("title").eq(lit(hexes)), false, "title =");
    }
}
