//! Windows: conditions that compare a time with `now()`.

use datafusion::arrow::datatypes::{DataType, TimeUnit};
use datafusion::common::ScalarValue;
use datafusion::common::tree_node::TreeNode;
use datafusion::error::DataFusionError;
use datafusion::logical_expr::{BinaryExpr, Expr, Operator, cast};

use super::pending::{expr_text, literal, position, without_cast};

/// The shortest window.
pub(crate) const WINDOW_MS_MIN: u64 = 1_000;
/// The longest window.
pub(crate) const WINDOW_MS_MAX: u64 = 24 * 3_600_000;
/// A window begins no longer ago than this: two years.
pub(crate) const WINDOW_AGE_MS_MAX: u64 = 2 * 366 * 24 * 3_600_000;
/// The finest pane: no finer than a tick.
const PANE_MS_MIN: u64 = 20;
/// A window moves in so many panes.
const PANES: u64 = 60;

/// When a row is in a window.
#[derive(Debug, Clone)]
pub(crate) struct WindowSpec {
    /// Unix milliseconds of a row, over the columns of the table.
    pub(crate) time: Expr,
    /// Which column of the table it is.
    pub(crate) column: usize,
    /// How long a row stays; 0 as long as no condition has said it.
    pub(crate) lower_ms: u64,
    /// How long it is kept back first.
    pub(crate) upper_ms: u64,
    /// See [`weir_operators::relation::plan::Window::lateness_ms`].
    pub(crate) lateness_ms: Option<u64>,
}

impl WindowSpec {
    /// Its length.
    pub(crate) fn width_ms(&self) -> u64 {
        self.lower_ms.saturating_sub(self.upper_ms)
    }

    /// The grain in which it moves.
    pub(crate) fn pane_ms(&self) -> u64 {
        (self.width_ms() / PANES).max(PANE_MS_MIN)
    }

    /// Its text.
    pub(crate) fn text(&self) -> Result<String, DataFusionError> {
        Ok(format!(" within {} of {}..{} late {:?}", expr_text(&self.time), self.lower_ms, self.upper_ms, self.lateness_ms))
    }
}

/// Whether an expression depends on the present.
pub(crate) fn depends_on_now(expr: &Expr) -> bool {
    expr.exists(|e| Ok(now_function(e).is_some())).unwrap_or(true)
}

/// The name of the function where an expression is the present in some form.
pub(crate) fn now_function(expr: &Expr) -> Option<&str> {
    match expr {
        Expr::ScalarFunction(call) if ["now", "current_date", "current_time"].contains(&call.func.name()) => Some(call.func.name()),
        _ => None,
    }
}

/// One edge of a window.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Edge {
    /// Rows are in it that are younger than this, in milliseconds.
    Youngest(u64),
    /// Rows are in it that are older than this.
    Oldest(u64),
    /// Every row is in it.
    Always,
}

/// The column that a condition compares with `now()`, and how; `None` where it is another condition.
pub(crate) fn edge(condition: &Expr) -> Option<(usize, Expr, Edge)> {
    let Expr::BinaryExpr(BinaryExpr { left, op, right }) = condition else { return None };
    compared(left, *op, right).or_else(|| compared(right, op.swap()?, left))
}

/// `time op now() - interval`, or `now() - time op interval`.
fn compared(left: &Expr, op: Operator, right: &Expr) -> Option<(usize, Expr, Edge)> {
    if let (Some(column), Some(offset_ms)) = (position(instant(left)), offset_from_now(right)) {
        return Some((column, milliseconds(instant(left)), edge_of(op, offset_ms)?));
    }
    let Expr::BinaryExpr(BinaryExpr { left: present, op: Operator::Minus, right: time }) = without_cast(left) else { return None };
    let (column, present_ms, age_ms) = (position(instant(time))?, offset_from_now(present)?, interval_ms(right)?);
    // now() - time < age is time > now() - age.
    Some((column, milliseconds(instant(time)), edge_of(op.swap()?, present_ms - age_ms)?))
}

fn edge_of(op: Operator, offset_ms: i64) -> Option<Edge> {
    match op {
        Operator::Gt | Operator::GtEq => Some(Edge::Youngest(u64::try_from(-offset_ms).unwrap_or(0))),
        Operator::Lt | Operator::LtEq if offset_ms >= 0 => Some(Edge::Always),
        Operator::Lt | Operator::LtEq => Some(Edge::Oldest(offset_ms.unsigned_abs())),
        _ => None,
    }
}

/// An expression below casts that keep the instant: one to a date or to whole seconds means another.
fn instant(expr: &Expr) -> &Expr {
    let keeps = |to: &DataType| matches!(to, DataType::Timestamp(TimeUnit::Millisecond | TimeUnit::Microsecond | TimeUnit::Nanosecond, _));
    match expr {
        Expr::Cast(cast) if keeps(cast.field.data_type()) => instant(&cast.expr),
        Expr::TryCast(cast) if keeps(cast.field.data_type()) => instant(&cast.expr),
        Expr::Alias(alias) => instant(&alias.expr),
        other => other,
    }
}

/// Unix milliseconds of a column.
pub(crate) fn milliseconds(time: &Expr) -> Expr {
    cast(cast(time.clone(), DataType::Timestamp(TimeUnit::Millisecond, None)), DataType::Int64)
}

/// `now()` plus or minus constants: how far from the present, in milliseconds.
pub(crate) fn offset_from_now(expr: &Expr) -> Option<i64> {
    match instant(expr) {
        Expr::ScalarFunction(call) if call.func.name() == "now" => Some(0),
        Expr::BinaryExpr(BinaryExpr { left, op: Operator::Minus, right }) => offset_from_now(left)?.checked_sub(interval_ms(right)?),
        Expr::BinaryExpr(BinaryExpr { left, op: Operator::Plus, right }) => match offset_from_now(left) {
            Some(offset) => offset.checked_add(interval_ms(right)?),
            None => offset_from_now(right)?.checked_add(interval_ms(left)?),
        },
        _ => None,
    }
}

/// A constant length of time in milliseconds; `None` for months, whose length differs.
fn interval_ms(expr: &Expr) -> Option<i64> {
    const DAY_MS: i64 = 86_400_000;
    match literal(without_cast(expr))? {
        ScalarValue::IntervalMonthDayNano(Some(v)) if v.months == 0 => i64::from(v.days).checked_mul(DAY_MS)?.checked_add(v.nanoseconds / 1_000_000),
        ScalarValue::IntervalDayTime(Some(v)) => i64::from(v.days).checked_mul(DAY_MS)?.checked_add(i64::from(v.milliseconds)),
        ScalarValue::DurationSecond(Some(v)) => v.checked_mul(1000),
        ScalarValue::DurationMillisecond(Some(v)) => Some(*v),
        ScalarValue::DurationMicrosecond(Some(v)) => Some(v / 1000),
        ScalarValue::DurationNanosecond(Some(v)) => Some(v / 1_000_000),
        _ => None,
    }
}
