//! What keeps a caller's expressions away from rows that the caller may not read.
//!
//! An expression may fail, and its error tells of the value that it failed on: `CAST(title AS BIGINT)` names the title. So a
//! condition that hides rows must not only be met by what comes out: it must be evaluated before anything else sees a row.
//! Planning knows no such order among filters, it merges and reorders them. Here it is kept: rows pass the scope below a node
//! through which only expressions are let down that cannot fail.

use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use datafusion::arrow::datatypes::SchemaRef;
use datafusion::catalog::{Session, TableProvider};
use datafusion::common::config::ConfigOptions;
use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::common::{DFSchema, Result, internal_err};
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::logical_expr::{BinaryExpr, Expr, Operator, TableProviderFilterPushDown, TableType};
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_expr::expressions::{self as physical, DynamicFilterPhysicalExpr};
use datafusion::physical_plan::filter::FilterExecBuilder;
use datafusion::physical_plan::filter_pushdown::{ChildFilterDescription, FilterDescription, FilterPushdownPhase};
use datafusion::physical_plan::{DisplayAs, DisplayFormatType, ExecutionPlan, PlanProperties};

use crate::stored::StoredTable;

/// A stored table, cut to the rows that meet a condition.
#[derive(Debug)]
pub(crate) struct ScopedTable {
    stored: StoredTable,
    condition: Expr,
}

impl ScopedTable {
    pub(crate) fn new(stored: StoredTable, condition: Expr) -> Self {
        Self { stored, condition }
    }
}

#[async_trait]
impl TableProvider for ScopedTable {
    fn schema(&self) -> SchemaRef {
        self.stored.schema()
    }

    fn table_type(&self) -> TableType {
        TableType::Base
    }

    fn supports_filters_pushdown(&self, filters: &[&Expr]) -> Result<Vec<TableProviderFilterPushDown>> {
        let support = |filter: &&Expr| if is_infallible(filter) { TableProviderFilterPushDown::Exact } else { TableProviderFilterPushDown::Unsupported };
        Ok(filters.iter().map(support).collect())
    }

    /// The limit is left to the plan above: how many rows meet the condition is not known here.
    async fn scan(&self, state: &dyn Session, projection: Option<&Vec<usize>>, filters: &[Expr], _limit: Option<usize>) -> Result<Arc<dyn ExecutionPlan>> {
        if let Some(fallible) = filters.iter().find(|filter| !is_infallible(filter)) {
            return internal_err!("the filter {fallible} was pushed below the scope");
        }
        let conditions: Vec<Expr> = std::iter::once(&self.condition).chain(filters).cloned().collect();
        let Some(condition) = conditions.iter().cloned().reduce(Expr::and) else { return internal_err!("a table without a condition") };
        let schema = self.schema();
        let asked: Vec<usize> = projection.cloned().unwrap_or_else(|| (0..schema.fields().len()).collect());
        let mut read = asked.clone();
        let needed = condition.column_refs().into_iter().map(|column| schema.index_of(&column.name)).collect::<Result<BTreeSet<usize>, _>>()?;
        read.extend(needed.into_iter().filter(|index| !asked.contains(index)));
        let input = self.stored.scan(state, Some(&read), &conditions, None).await?;
        let condition = state.create_physical_expr(condition, &DFSchema::try_from(input.schema())?)?;
        let filtered = FilterExecBuilder::new(condition, input).apply_projection(Some((0..asked.len()).collect()))?.build()?;
        Ok(Arc::new(ScopeExec::new(Arc::new(filtered))))
    }
}

/// Whether a filter gives an answer for every row, whatever is in it.
fn is_infallible(filter: &Expr) -> bool {
    let is_plain = |expr: &Expr| matches!(expr, Expr::Column(_) | Expr::Literal(..));
    match filter {
        Expr::BinaryExpr(BinaryExpr { left, op: Operator::And | Operator::Or, right }) => is_infallible(left) && is_infallible(right),
        Expr::BinaryExpr(BinaryExpr { left, op, right }) => is_comparison(*op) && is_plain(left) && is_plain(right),
        Expr::Not(inner) => is_infallible(inner),
        Expr::IsNull(inner) | Expr::IsNotNull(inner) => is_plain(inner),
        Expr::InList(list) => is_plain(&list.expr) && list.list.iter().all(is_plain),
        Expr::Between(between) => is_plain(&between.expr) && is_plain(&between.low) && is_plain(&between.high),
        // A pattern that is none fails before any row is read.
        Expr::Like(like) => is_plain(&like.expr) && matches!(like.pattern.as_ref(), Expr::Literal(..)),
        Expr::Column(_) | Expr::Literal(..) => true,
        _ => false,
    }
}

fn is_comparison(op: Operator) -> bool {
    use Operator::{Eq, Gt, GtEq, IsDistinctFrom, IsNotDistinctFrom, Lt, LtEq, NotEq};
    matches!(op, Eq | NotEq | Lt | LtEq | Gt | GtEq | IsDistinctFrom | IsNotDistinctFrom)
}

/// The same of a filter that is made while a plan is optimised, or runs.
fn is_infallible_physical(filter: &Arc<dyn PhysicalExpr>) -> bool {
    let is_plain = |expr: &Arc<dyn PhysicalExpr>| expr.downcast_ref::<physical::Column>().is_some() || expr.downcast_ref::<physical::Literal>().is_some();
    if let Some(binary) = filter.downcast_ref::<physical::BinaryExpr>() {
        let sides = [binary.left(), binary.right()];
        return match binary.op() {
            Operator::And | Operator::Or => sides.into_iter().all(is_infallible_physical),
            op => is_comparison(*op) && sides.into_iter().all(is_plain),
        };
    }
    // What it compares, as a top-k or a join finds it out while it runs, are columns that are there as they are.
    let is_dynamic = filter.downcast_ref::<DynamicFilterPhysicalExpr>().is_some();
    is_plain(filter) || (is_dynamic && filter.children().into_iter().all(is_plain))
}

/// The rows of its input, which the caller may read.
#[derive(Debug)]
struct ScopeExec {
    input: Arc<dyn ExecutionPlan>,
    properties: Arc<PlanProperties>,
}

impl ScopeExec {
    fn new(input: Arc<dyn ExecutionPlan>) -> Self {
        let properties = Arc::clone(input.properties());
        Self { input, properties }
    }
}

impl DisplayAs for ScopeExec {
    fn fmt_as(&self, _kind: DisplayFormatType, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ScopeExec")
    }
}

impl ExecutionPlan for ScopeExec {
    fn name(&self) -> &'static str {
        "ScopeExec"
    }

    fn properties(&self) -> &Arc<PlanProperties> {
        &self.properties
    }

    fn maintains_input_order(&self) -> Vec<bool> {
        vec![true]
    }

    fn children(&self) -> Vec<&Arc<dyn ExecutionPlan>> {
        vec![&self.input]
    }

    fn apply_expressions(&self, _f: &mut dyn FnMut(&Arc<dyn PhysicalExpr>) -> Result<TreeNodeRecursion>) -> Result<TreeNodeRecursion> {
        Ok(TreeNodeRecursion::Continue)
    }

    fn with_new_children(self: Arc<Self>, mut children: Vec<Arc<dyn ExecutionPlan>>) -> Result<Arc<dyn ExecutionPlan>> {
        match children.pop() {
            Some(input) if children.is_empty() => Ok(Arc::new(Self::new(input))),
            _ => internal_err!("ScopeExec has one input"),
        }
    }

    fn execute(&self, partition: usize, context: Arc<TaskContext>) -> Result<SendableRecordBatchStream> {
        self.input.execute(partition, context)
    }

    fn gather_filters_for_pushdown(
        &self,
        _phase: FilterPushdownPhase,
        parent_filters: Vec<Arc<dyn PhysicalExpr>>,
        _config: &ConfigOptions,
    ) -> Result<FilterDescription> {
        if !parent_filters.iter().all(is_infallible_physical) {
            return Ok(FilterDescription::all_unsupported(&parent_filters, &self.children()));
        }
        Ok(FilterDescription::new().with_child(ChildFilterDescription::from_child(&parent_filters, &self.input)?))
    }
}

#[cfg(test)]
mod tests {
    use datafusion::logical_expr::{cast, col, lit};
    use datafusion::prelude::upper;

    use super::*;

    #[test]
    fn only_what_cannot_fail_is_let_down() {
        let number = |expr: Expr| cast(expr, datafusion::arrow::datatypes::DataType::Int64);
        for (filter, want) in [
            (col("a").eq(lit(1)), true),
            (col("a").gt(col("b")).or(col("c").is_null()), true),
            (col("a").in_list(vec![lit("x"), lit("y")], true), true),
            (col("a").like(lit("x%")), true),
            (col("a").between(lit(1), lit(2)), true),
            (number(col("a")).gt(lit(1)), false),
            (col("a").eq(lit(1)).and(number(col("a")).gt(lit(1))), false),
            (col("a").like(col("b")), false),
            ((col("a") / col("b")).eq(lit(1)), false),
            (upper(col("a")).eq(lit("X")), false),
            (col("a").in_list(vec![number(col("b"))], false), false),
        ] {
            assert_eq!(is_infallible(&filter), want, "{filter}");
        }
    }
}
