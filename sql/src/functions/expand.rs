//! Writes the aggregates of the field out, in the plan.
//!
//! `apdex(d, 300)` over some rows becomes two counts and a sum over the same rows, with the division above them. Calls that
//! have a part in common share it: all quantiles of a column read one sketch. This comes before types are coerced, so what is
//! written out is cast and compared as if it had been written by hand.

use std::sync::Arc;

use datafusion::arrow::datatypes::Field;
use datafusion::common::config::ConfigOptions;
use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::common::{Column, Result, plan_err};
use datafusion::logical_expr::expr::{AggregateFunction, WindowFunction, WindowFunctionParams};
use datafusion::logical_expr::{Aggregate, Expr, LogicalPlan, Projection, Window, WindowFunctionDefinition, cast};
use datafusion::optimizer::AnalyzerRule;

use super::field::{Definition, FieldFunction};
use super::range::Around;

/// The rule.
#[derive(Debug, Default)]
pub(crate) struct WriteOut;

impl AnalyzerRule for WriteOut {
    fn name(&self) -> &str {
        "write_out_functions_of_the_field"
    }

    fn analyze(&self, plan: LogicalPlan, _config: &ConfigOptions) -> Result<LogicalPlan> {
        plan.transform_up_with_subqueries(|plan| match plan {
            LogicalPlan::Aggregate(aggregate) if aggregate.aggr_expr.iter().any(has_call) => write_out_aggregate(aggregate).map(Transformed::yes),
            LogicalPlan::Window(window) if window.window_expr.iter().any(has_call) => write_out_window(window).map(Transformed::yes),
            other => Ok(Transformed::no(other)),
        })
        .map(|transformed| transformed.data)
    }
}

fn has_call(expr: &Expr) -> bool {
    expr.exists(|e| Ok(definition(e).is_some())).unwrap_or(false)
}

fn definition(expr: &Expr) -> Option<&'static Definition> {
    let udf = match expr {
        Expr::AggregateFunction(call) => &call.func,
        Expr::WindowFunction(call) => match &call.fun {
            WindowFunctionDefinition::AggregateUDF(udf) => udf,
            WindowFunctionDefinition::WindowUDF(_) => return None,
        },
        _ => return None,
    };
    udf.inner().downcast_ref::<FieldFunction>().map(|function| function.definition)
}

fn write_out_aggregate(aggregate: Aggregate) -> Result<LogicalPlan> {
    let around = Around { groups: &aggregate.group_expr, input: &aggregate.input };
    let mut parts = Vec::new();
    let answers = aggregate.aggr_expr.iter().map(|expr| written_out(expr, &around, &mut parts)).collect::<Result<Vec<_>>>()?;
    let names = aggregate.schema.iter().skip(aggregate.schema.fields().len() - aggregate.aggr_expr.len());
    let answers: Vec<Expr> = answers.into_iter().zip(names).map(|(answer, (_, field))| as_field(answer, field)).collect();
    let counted = Aggregate::try_new(Arc::clone(&aggregate.input), aggregate.group_expr.clone(), parts)?;
    let groups = counted.schema.fields().len() - counted.aggr_expr.len();
    let columns: Vec<Expr> = counted.schema.iter().take(groups).map(|(qualifier, field)| Expr::Column(Column::from((qualifier, field)))).collect();
    let columns = columns.into_iter().chain(answers).collect();
    Ok(LogicalPlan::Projection(Projection::try_new(columns, Arc::new(LogicalPlan::Aggregate(counted)))?))
}

fn write_out_window(window: Window) -> Result<LogicalPlan> {
    let around = Around { groups: &[], input: &window.input };
    let mut parts = Vec::new();
    let answers = window.window_expr.iter().map(|expr| written_out(expr, &around, &mut parts)).collect::<Result<Vec<_>>>()?;
    let before = window.input.schema().fields().len();
    let names = window.schema.iter().skip(before);
    let answers: Vec<Expr> = answers.into_iter().zip(names).map(|(answer, (_, field))| as_field(answer, field)).collect();
    let counted = Window::try_new(parts, Arc::clone(&window.input))?;
    let columns: Vec<Expr> = counted.schema.iter().take(before).map(|(qualifier, field)| Expr::Column(Column::from((qualifier, field)))).collect();
    let columns = columns.into_iter().chain(answers).collect();
    Ok(LogicalPlan::Projection(Projection::try_new(columns, Arc::new(LogicalPlan::Window(counted)))?))
}

/// An answer with the type and the name that the call was given when it was planned.
fn as_field(answer: Expr, field: &Field) -> Expr {
    match answer.unalias() {
        column @ Expr::Column(_) => column.alias(field.name()),
        answer => cast(answer, field.data_type().clone()).alias(field.name()),
    }
}

/// An aggregate expression over the columns of `parts`, which gains those that it needs.
fn written_out(expr: &Expr, around: &Around<'_>, parts: &mut Vec<Expr>) -> Result<Expr> {
    let expanded = expr.clone().transform_down(|expr| match definition(&expr) {
        Some(definition) => expand(definition, &expr, around).map(Transformed::yes),
        None => Ok(Transformed::no(expr)),
    })?;
    let over_parts = expanded.data.transform_down(|expr| match expr {
        Expr::AggregateFunction(_) | Expr::WindowFunction(_) => {
            let column = Expr::Column(Column::from_name(expr.schema_name().to_string()));
            if !parts.contains(&expr) {
                parts.push(expr);
            }
            Ok(Transformed::new(column, true, datafusion::common::tree_node::TreeNodeRecursion::Jump))
        }
        other => Ok(Transformed::no(other)),
    })?;
    Ok(over_parts.data)
}

/// What a call stands for, with the call's own FILTER and OVER on each part.
fn expand(definition: &'static Definition, call: &Expr, around: &Around<'_>) -> Result<Expr> {
    let refuse = |what: &str| plan_err!("{} takes no {what}", definition.name);
    match call {
        Expr::AggregateFunction(AggregateFunction { params, .. }) => {
            if params.distinct {
                return refuse("DISTINCT");
            }
            if !params.order_by.is_empty() {
                return refuse("ORDER BY");
            }
            let expanded = (definition.expansion)(&params.args, around)?;
            each_aggregate(expanded, |mut part| {
                part.params.filter = both(part.params.filter.take(), params.filter.clone());
                Expr::AggregateFunction(part)
            })
        }
        Expr::WindowFunction(window) => {
            if window.params.distinct {
                return refuse("DISTINCT");
            }
            let expanded = (definition.expansion)(&window.params.args, around)?;
            each_aggregate(expanded, |part| over(part, &window.params))
        }
        other => plan_err!("{other} is no call"),
    }
}

fn each_aggregate(expr: Expr, change: impl Fn(AggregateFunction) -> Expr) -> Result<Expr> {
    let changed = expr.transform_up(|expr| match expr {
        Expr::AggregateFunction(part) => Ok(Transformed::yes(change(part))),
        other => Ok(Transformed::no(other)),
    })?;
    Ok(changed.data)
}

fn both(one: Option<Box<Expr>>, other: Option<Box<Expr>>) -> Option<Box<Expr>> {
    match (one, other) {
        (Some(one), Some(other)) => Some(Box::new(one.and(*other))),
        (one, other) => one.or(other),
    }
}

fn over(part: AggregateFunction, params: &WindowFunctionParams) -> Expr {
    let params = WindowFunctionParams {
        args: part.params.args,
        filter: both(part.params.filter, params.filter.clone()),
        distinct: part.params.distinct,
        null_treatment: part.params.null_treatment,
        ..params.clone()
    };
    Expr::WindowFunction(Box::new(WindowFunction { fun: WindowFunctionDefinition::AggregateUDF(part.func), params }))
}
