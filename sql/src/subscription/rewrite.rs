//! What is written otherwise in a plan before it is optimised, so that it can be maintained.
//!
//! A quantile is planned as a sketch that is read above the aggregate. The graph keeps the counts of a sketch's buckets and reads
//! them itself, so the pair becomes one aggregate. And the length of a window, which rates divide by, is written as the
//! difference of two times that depend on `now()`, which is a constant.

use std::sync::Arc;

use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::common::{Column, Result};
use datafusion::functions_aggregate::approx_percentile_cont::approx_percentile_cont_udaf;
use datafusion::logical_expr::expr::{AggregateFunction, ScalarFunction};
use datafusion::logical_expr::{Aggregate, BinaryExpr, Expr, LogicalPlan, Operator, Projection, lit};

use super::lower::without_alias;
use super::window::offset_from_now;

/// The plan with such parts written otherwise.
pub(crate) fn maintainable(plan: LogicalPlan) -> Result<LogicalPlan> {
    let rewritten = plan.transform_up_with_subqueries(|plan| {
        let plan = plan.map_expressions(|expr| expr.transform_up(|e| Ok(constant_length(e))))?;
        plan.transform_data(|plan| match plan {
            LogicalPlan::Projection(projection) => quantiles(projection),
            other => Ok(Transformed::no(other)),
        })
    })?;
    // Expressions that changed without their columns' types keep the schemas; quantiles made new ones.
    Ok(rewritten.data)
}

/// `date_part('epoch', now() - a) - date_part('epoch', now() - b)`: the seconds between.
fn constant_length(expr: Expr) -> Transformed<Expr> {
    let Expr::BinaryExpr(BinaryExpr { left, op: Operator::Minus, right }) = &expr else { return Transformed::no(expr) };
    match epoch_of_now(left).zip(epoch_of_now(right)) {
        Some((left_ms, right_ms)) => Transformed::yes(lit((left_ms - right_ms) as f64 / 1000.0)),
        None => Transformed::no(expr),
    }
}

fn epoch_of_now(expr: &Expr) -> Option<i64> {
    match super::pending::without_cast(expr) {
        Expr::ScalarFunction(ScalarFunction { func, args }) if func.name() == "date_part" => offset_from_now(args.get(1)?),
        _ => None,
    }
}

/// Reads of sketches in a projection right above the aggregate that makes them.
fn quantiles(projection: Projection) -> Result<Transformed<LogicalPlan>> {
    let LogicalPlan::Aggregate(aggregate) = projection.input.as_ref() else { return Ok(Transformed::no(LogicalPlan::Projection(projection))) };
    let first = aggregate.schema.fields().len() - aggregate.aggr_expr.len();
    let sketch = |column: &Column| -> Option<&AggregateFunction> {
        let index = aggregate.schema.maybe_index_of_column(column)?.checked_sub(first)?;
        match without_alias(aggregate.aggr_expr.get(index)?) {
            Expr::AggregateFunction(call) if call.func.name() == "ddsketch" => Some(call),
            _ => None,
        }
    };
    let mut added: Vec<Expr> = Vec::new();
    let exprs = projection.expr.iter().map(|expr| {
        let read = expr.clone().transform_up(|e| {
            let Expr::ScalarFunction(ScalarFunction { func, args }) = &e else { return Ok(Transformed::no(e)) };
            let (true, Some(Expr::Column(column)), Some(share)) = (func.name() == "sketch_quantile", args.first(), args.get(1)) else {
                return Ok(Transformed::no(e));
            };
            let Some(call) = sketch(column) else { return Ok(Transformed::no(e)) };
            let mut params = call.params.clone();
            params.args.push(share.clone());
            let quantile = Expr::AggregateFunction(AggregateFunction { func: approx_percentile_cont_udaf(), params });
            let column = Expr::Column(Column::from_name(quantile.schema_name().to_string()));
            if !added.contains(&quantile) {
                added.push(quantile);
            }
            Ok(Transformed::yes(column))
        })?;
        // A column is called what it was called before.
        let (_, name) = expr.qualified_name();
        Ok(if read.transformed { without_alias(&read.data).clone().alias(name) } else { read.data })
    });
    let exprs = exprs.collect::<Result<Vec<_>>>()?;
    if added.is_empty() {
        return Ok(Transformed::no(LogicalPlan::Projection(projection)));
    }
    let columns = exprs.iter().flat_map(Expr::column_refs).cloned().collect::<Vec<_>>();
    let used = |index: usize| columns.iter().any(|column| aggregate.schema.maybe_index_of_column(column) == Some(first + index));
    let kept = aggregate.aggr_expr.iter().enumerate().filter(|(index, _)| used(*index)).map(|(_, expr)| expr.clone());
    let aggregates = kept.chain(added.iter().cloned()).collect();
    let aggregate = Aggregate::try_new(Arc::clone(&aggregate.input), aggregate.group_expr.clone(), aggregates)?;
    Ok(Transformed::yes(LogicalPlan::Projection(Projection::try_new(exprs, Arc::new(LogicalPlan::Aggregate(aggregate)))?)))
}
