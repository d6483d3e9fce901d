//! Conditions on a table whose constants become parameters though they do not compare with `=`: ranges, `IN`, `LIKE`.
//!
//! Rows that any subscription of the shape may ask for are kept as long as they are in the window, so that one with new constants sees
//! at once what is there. Equal rows are kept once; still that is more than the groups alone, and so windows that are long keep their
//! constants.

use std::rc::Rc;

use datafusion::arrow::datatypes::{DataType, TimeUnit};
use datafusion::common::tree_node::{Transformed, TreeNode, TreeNodeRecursion};
use datafusion::common::{Column, DFSchema, ScalarValue};
use datafusion::error::DataFusionError;
use datafusion::logical_expr::expr::{InList, Like};
use datafusion::logical_expr::utils::{conjunction, disjunction};
use datafusion::logical_expr::{Between, BinaryExpr, Expr, ExprSchemable, Operator};
use weir_operators::relation::plan::{Node, Variants};
use weir_operators::schema::{Table, TableKind};

use super::evaluate::physical;
use super::lower::place;
use super::pending::{Built, build_scan, column, df_schema, expr_text, exprs_text, is_portable, literal, may_be_param, position, schema_of};
use super::slots::{Param, Slots};
use super::window::WindowSpec;

type Result<T> = std::result::Result<T, DataFusionError>;

/// Rows are kept for new subscriptions where windows reach no further back than this.
const REACH_MS_MAX: u64 = 3_600_000;
/// Longer lists keep their constants.
const LIST_MAX: usize = 16;

/// The conditions of a scan whose constants are parameters.
#[derive(Debug, Clone, Default)]
pub(crate) struct VariantsSpec {
    /// Over the columns of the table and the constants behind them.
    pub(crate) conditions: Vec<Expr>,
    /// The constants.
    pub(crate) constants: Vec<Constant>,
    /// Where constants are carried to the parameter key.
    pub(crate) slots: Option<Rc<Slots>>,
}

/// A constant that has left its condition.
#[derive(Debug, Clone)]
pub(crate) struct Constant {
    pub(crate) data_type: DataType,
    pub(crate) slot: usize,
}

impl VariantsSpec {
    /// Takes conditions with constants out of a filter, and gives what is to be carried for them.
    pub(crate) fn take_from(
        &mut self,
        filter: &mut Vec<Expr>,
        table: &Table,
        window: Option<&WindowSpec>,
        schema: &DFSchema,
        slots: &Slots,
    ) -> Result<Vec<Param<Expr>>> {
        let is_short = match window {
            Some(window) => window.lower_ms <= REACH_MS_MAX,
            None => table.kind == TableKind::Current,
        };
        if self.slots.is_none() || !slots.are_wide() || !is_short {
            return Ok(Vec::new());
        }
        let first = table.stored_schema().fields().len();
        // In an order that does not depend on how the query is written, constants last.
        let mut conditions: Vec<(String, String, Expr)> = Vec::new();
        for condition in std::mem::take(filter) {
            let shape = Constants { first: 0, schema, values: Vec::new() }.replaced(&condition).map(|replaced| expr_text(&replaced));
            match shape {
                Some(shape) => conditions.push((shape, expr_text(&condition), condition)),
                None => filter.push(condition),
            }
        }
        conditions.sort_by(|a, b| (&a.0, &a.1).cmp(&(&b.0, &b.1)));
        conditions.dedup_by(|a, b| a.1 == b.1);
        let mut params = Vec::new();
        for (_, _, condition) in conditions {
            let mut constants = Constants { first: first + self.constants.len(), schema, values: Vec::new() };
            let Some(replaced) = constants.replaced(&condition) else { continue };
            self.conditions.push(replaced);
            for value in constants.values {
                let slot = slots.take();
                slots.depend_on(slot);
                params.push(Param { expr: column(first + self.constants.len()), slot, value: value.clone() });
                self.constants.push(Constant { data_type: value.data_type(), slot });
            }
        }
        Ok(params)
    }

    /// The table's rows with these columns, once for each choice of constants that they meet.
    pub(crate) fn build(self, table: &'static Table, window: Option<WindowSpec>, scope: Vec<Expr>, filter: Vec<Expr>, columns: &[Expr]) -> Result<Built> {
        let first = table.stored_schema().fields().len();
        let stored = df_schema(&schema_of(table.stored_schema().fields().iter().map(|field| field.data_type().clone())))?;
        let mut read: Vec<Expr> = Vec::new();
        let conditions = self.conditions.iter().map(|condition| lifted(condition, first, &mut read)).collect::<Result<Vec<_>>>()?;
        let given = columns.iter().map(|expr| lifted(expr, first, &mut read)).collect::<Result<Vec<_>>>()?;
        // Whose a row is that fails below is not known: such a query keeps its constants.
        if let Some(slots) = &self.slots
            && !read.iter().chain(&filter).all(|expr| cannot_fail(expr, &stored))
        {
            slots.lose();
        }
        let scan = build_scan(table, window, scope, filter, read)?;
        let width = scan.width();
        let behind = |expr: &Expr| -> Result<Expr> {
            let moved = expr.clone().transform(|e| match constant(&e) {
                Some(index) => Ok(Transformed::yes(column(width + index))),
                None => Ok(Transformed::no(e)),
            });
            Ok(moved?.data)
        };
        let conditions = conditions.iter().map(behind).collect::<Result<Vec<_>>>()?;
        let given = given.iter().map(behind).collect::<Result<Vec<_>>>()?;
        let columns = given.iter().map(|expr| position(expr).ok_or_else(|| DataFusionError::Internal(format!("{expr} is no column"))));
        let columns = columns.collect::<Result<Vec<_>>>()?;
        let constants = schema_of(self.constants.iter().map(|constant| constant.data_type.clone()));
        let types = scan.relation.schema.fields().iter().chain(constants.fields()).map(|field| field.data_type().clone()).collect::<Vec<_>>();
        let seen = schema_of(types.iter().cloned());
        let df = df_schema(&seen)?;
        let schema = schema_of(columns.iter().map(|column| types[*column].clone()));
        let slots: Vec<usize> = self.constants.iter().map(|constant| constant.slot).collect();
        let head = format!("variants by {slots:?} where {} give {columns:?}", exprs_text(&conditions));
        let filter = conditions.iter().map(|condition| physical(condition, &df)).collect::<Result<Vec<_>>>()?;
        let node = Variants { input: Box::new(scan.relation), parameters: slots, constants, filter, columns };
        Ok(Built::new(Node::Variants(node), schema, &head, &[&scan.text]))
    }
}

/// Puts constants of a condition behind the columns.
struct Constants<'a> {
    first: usize,
    schema: &'a DFSchema,
    values: Vec<ScalarValue>,
}

impl Constants<'_> {
    /// The condition with columns in the place of its constants; `None` where it has none that can be taken out.
    fn replaced(&mut self, condition: &Expr) -> Option<Expr> {
        match condition {
            Expr::BinaryExpr(BinaryExpr { left, op: op @ (Operator::And | Operator::Or), right }) => {
                let (l, r) = (self.replaced(left), self.replaced(right));
                if l.is_none() && r.is_none() {
                    return None;
                }
                let (l, r) = (l.unwrap_or_else(|| left.as_ref().clone()), r.unwrap_or_else(|| right.as_ref().clone()));
                Some(Expr::BinaryExpr(BinaryExpr::new(Box::new(l), *op, Box::new(r))))
            }
            Expr::Not(inner) => Some(Expr::Not(Box::new(self.replaced(inner)?))),
            Expr::BinaryExpr(BinaryExpr { left, op, right }) if is_comparison(*op) => {
                let (left, right) = match (literal(left), literal(right)) {
                    (None, Some(value)) => (left.as_ref().clone(), self.constant(left, value)?),
                    (Some(value), None) => (self.constant(right, value)?, right.as_ref().clone()),
                    _ => return None,
                };
                Some(Expr::BinaryExpr(BinaryExpr::new(Box::new(left), *op, Box::new(right))))
            }
            Expr::Like(like) => {
                let pattern = Box::new(self.constant(&like.expr, literal(&like.pattern)?)?);
                Some(Expr::Like(Like { pattern, ..like.clone() }))
            }
            Expr::Between(between) => {
                let (low, high) = (literal(&between.low)?, literal(&between.high)?);
                self.may_be(&between.expr, low).then_some(())?;
                self.may_be(&between.expr, high).then_some(())?;
                let (low, high) = (Box::new(self.constant(&between.expr, low)?), Box::new(self.constant(&between.expr, high)?));
                Some(Expr::Between(Between { low, high, ..between.clone() }))
            }
            Expr::InList(InList { expr, list, negated }) if list.len() <= LIST_MAX => {
                let values = list.iter().map(literal).collect::<Option<Vec<_>>>()?;
                values.iter().all(|value| self.may_be(expr, value)).then_some(())?;
                let op = if *negated { Operator::NotEq } else { Operator::Eq };
                let each = values.into_iter().map(|value| {
                    let constant = self.constant(expr, value)?;
                    Some(Expr::BinaryExpr(BinaryExpr::new(expr.clone(), op, Box::new(constant))))
                });
                let each = each.collect::<Option<Vec<_>>>()?;
                if *negated { conjunction(each) } else { disjunction(each) }
            }
            _ => None,
        }
    }

    fn may_be(&self, compared: &Expr, value: &ScalarValue) -> bool {
        may_be_param(compared, value, self.schema)
    }

    /// A column for a constant that something is compared with.
    fn constant(&mut self, compared: &Expr, value: &ScalarValue) -> Option<Expr> {
        if !self.may_be(compared, value) {
            return None;
        }
        self.values.push(value.clone());
        Some(column(self.first + self.values.len() - 1))
    }
}

fn is_comparison(op: Operator) -> bool {
    matches!(op, Operator::Eq | Operator::NotEq | Operator::Lt | Operator::LtEq | Operator::Gt | Operator::GtEq)
}

/// The name of a constant among columns that are not counted yet.
const CONSTANT: char = 'v';

/// The place of a constant.
fn constant(expr: &Expr) -> Option<usize> {
    match expr {
        Expr::Column(column) => column.name.strip_prefix(CONSTANT)?.parse().ok(),
        _ => None,
    }
}

/// An expression over what is read of the table: parts without constants are read, and constants are told from columns.
fn lifted(expr: &Expr, first: usize, read: &mut Vec<Expr>) -> Result<Expr> {
    let is_constant = |e: &Expr| position(e).is_some_and(|index| index >= first);
    if let Some(index) = position(expr).filter(|index| *index >= first) {
        return Ok(Expr::Column(Column::new_unqualified(format!("{CONSTANT}{}", index - first))));
    }
    if !expr.exists(|e| Ok(is_constant(e)))? {
        return Ok(column(place(read, expr)));
    }
    Ok(expr.clone().map_children(|child| lifted(&child, first, read).map(Transformed::yes))?.data)
}

/// Functions that have a value whatever they are given.
const TOTAL_FUNCTIONS: [&str; 21] = [
    "abs",
    "array_element",
    "btrim",
    "ceil",
    "character_length",
    "coalesce",
    "concat",
    "contains",
    "date_bin",
    "date_part",
    "date_trunc",
    "floor",
    "get_field",
    "hex_id",
    "lower",
    "map_extract",
    "nullif",
    "starts_with",
    "strpos",
    "trim",
    "upper",
];

/// Whether an expression has a value for every row.
fn cannot_fail(expr: &Expr, schema: &DFSchema) -> bool {
    let mut fails = false;
    let is_float = |e: &Expr| e.get_type(schema).is_ok_and(|data_type| data_type.is_floating());
    let applied = expr.apply(|e| {
        fails |= match e {
            Expr::BinaryExpr(binary) => match binary.op {
                Operator::And | Operator::Or => false,
                Operator::Divide | Operator::Modulo => !is_float(e),
                Operator::Plus | Operator::Minus | Operator::Multiply => {
                    !e.get_type(schema).is_ok_and(|data_type| data_type.is_numeric() && !data_type.is_decimal())
                }
                op => !is_comparison(op),
            },
            Expr::Cast(cast) => !cast.expr.get_type(schema).is_ok_and(|from| takes_all(&from, cast.field.data_type())),
            Expr::ScalarFunction(call) => !TOTAL_FUNCTIONS.contains(&call.func.name()),
            Expr::Column(_)
            | Expr::Literal(..)
            | Expr::Alias(_)
            | Expr::Not(_)
            | Expr::IsNull(_)
            | Expr::IsNotNull(_)
            | Expr::IsTrue(_)
            | Expr::IsFalse(_)
            | Expr::IsUnknown(_)
            | Expr::IsNotTrue(_)
            | Expr::IsNotFalse(_)
            | Expr::IsNotUnknown(_)
            | Expr::Like(_)
            | Expr::InList(_)
            | Expr::Between(_)
            | Expr::Case(_)
            | Expr::TryCast(_) => false,
            _ => true,
        };
        Ok(TreeNodeRecursion::Continue)
    });
    applied.is_ok() && !fails
}

/// Whether every value of a type has one of another.
fn takes_all(from: &DataType, to: &DataType) -> bool {
    let is_time = |data_type: &DataType| matches!(data_type, DataType::Timestamp(unit, _) if *unit != TimeUnit::Nanosecond);
    match to {
        DataType::Utf8 => is_portable(from),
        DataType::Float64 => from.is_numeric() || *from == DataType::Boolean,
        DataType::Int64 => {
            is_time(from) || matches!(from, DataType::Boolean | DataType::Int8 | DataType::Int16 | DataType::Int32 | DataType::Int64 | DataType::UInt32)
        }
        _ => is_time(to) && (is_time(from) || *from == DataType::Date32),
    }
}
