//! What stands around a call: how long the time is that its rows are of, and of which types its arguments are.

use datafusion::arrow::datatypes::DataType;
use datafusion::common::{Column, Result, ScalarValue, plan_err};
use datafusion::functions::expr_fn::{date_part, now};
use datafusion::logical_expr::expr::ScalarFunction;
use datafusion::logical_expr::utils::split_conjunction;
use datafusion::logical_expr::{BinaryExpr, Expr, ExprSchemable, LogicalPlan, Operator, lit};

/// The grouping of a call and the rows under it.
pub(crate) struct Around<'a> {
    pub(super) groups: &'a [Expr],
    pub(super) input: &'a LogicalPlan,
}

impl Around<'_> {
    /// Whether an expression over the rows is text.
    pub(super) fn is_text(&self, expr: &Expr) -> Result<bool> {
        let data_type = expr.get_type(self.input.schema())?;
        Ok(matches!(data_type, DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View | DataType::Dictionary(..)))
    }

    /// Over how many seconds the rows of a group reach.
    pub(super) fn seconds(&self) -> Result<Expr> {
        if let Some(seconds) = self.groups.iter().find_map(bucket_seconds) {
            return Ok(lit(seconds));
        }
        match self.bounds() {
            Some((from, to)) => Ok(epoch(to) - epoch(from)),
            None => plan_err!(
                "epm and eps do not know how long the time is: say it in seconds, as in epm(3600), bound a time in WHERE, as in received > now() - INTERVAL '1 hour', or group by date_bin or date_trunc"
            ),
        }
    }

    /// The bounds that conditions on the rows set on the first time that they bound from below.
    fn bounds(&self) -> Option<(Expr, Expr)> {
        let mut conditions = Vec::new();
        let mut plan = self.input;
        loop {
            match plan {
                LogicalPlan::Filter(filter) => {
                    conditions.extend(split_conjunction(&filter.predicate).into_iter().filter_map(|condition| bound(condition, plan)));
                    plan = &filter.input;
                }
                LogicalPlan::SubqueryAlias(alias) => plan = &alias.input,
                LogicalPlan::Projection(projection) => plan = &projection.input,
                LogicalPlan::Window(window) => plan = &window.input,
                _ => break,
            }
        }
        let lower = conditions.iter().find(|bound| bound.is_lower)?;
        let upper = conditions.iter().find(|bound| !bound.is_lower && bound.column == lower.column);
        Some((lower.value.clone(), upper.map_or_else(now, |bound| bound.value.clone())))
    }
}

/// A condition `time >= value` or the like.
struct Bound {
    column: Column,
    is_lower: bool,
    value: Expr,
}

fn bound(condition: &Expr, plan: &LogicalPlan) -> Option<Bound> {
    let Expr::BinaryExpr(BinaryExpr { left, op, right }) = condition else { return None };
    let (column, op, value) = match (column_of(left), column_of(right)) {
        (Some(column), None) => (column, *op, right),
        (None, Some(column)) => (column, op.swap()?, left),
        _ => return None,
    };
    let is_lower = match op {
        Operator::Gt | Operator::GtEq => true,
        Operator::Lt | Operator::LtEq => false,
        _ => return None,
    };
    let is_time = matches!(value.get_type(plan.schema()), Ok(DataType::Timestamp(..) | DataType::Date32 | DataType::Date64));
    (is_time && value.column_refs().is_empty()).then(|| Bound { column: column.clone(), is_lower, value: value.as_ref().clone() })
}

/// A column, through casts that comparison may have added.
fn column_of(expr: &Expr) -> Option<&Column> {
    match expr {
        Expr::Column(column) => Some(column),
        Expr::Cast(cast) => column_of(&cast.expr),
        _ => None,
    }
}

fn epoch(time: Expr) -> Expr {
    date_part(lit("epoch"), time)
}

/// The width of the buckets of `date_bin(INTERVAL …, time)` or `date_trunc('…', time)`.
fn bucket_seconds(group: &Expr) -> Option<f64> {
    match group {
        Expr::Alias(alias) => bucket_seconds(&alias.expr),
        Expr::ScalarFunction(ScalarFunction { func, args }) => match (func.name(), literal(args.first()?)?) {
            ("date_bin", ScalarValue::IntervalMonthDayNano(Some(width))) if width.months == 0 => {
                Some(f64::from(width.days) * 86_400.0 + width.nanoseconds as f64 / 1e9)
            }
            ("date_bin", ScalarValue::IntervalDayTime(Some(width))) => Some(f64::from(width.days) * 86_400.0 + f64::from(width.milliseconds) / 1e3),
            ("date_trunc", ScalarValue::Utf8(Some(unit)) | ScalarValue::Utf8View(Some(unit)) | ScalarValue::LargeUtf8(Some(unit))) => {
                Some(match unit.to_ascii_lowercase().as_str() {
                    "second" => 1.0,
                    "minute" => 60.0,
                    "hour" => 3_600.0,
                    "day" => 86_400.0,
                    "week" => 604_800.0,
                    _ => return None,
                })
            }
            _ => None,
        },
        _ => None,
    }
}

fn literal(expr: &Expr) -> Option<&ScalarValue> {
    match expr {
        Expr::Literal(value, _) => Some(value),
        Expr::Cast(cast) => literal(&cast.expr),
        _ => None,
    }
}
