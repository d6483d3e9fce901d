//! Whose rows an answer shows: the column that is the project of everything that a row was made of.
//!
//! An alert may be read by whoever reads its project. A column that is called so proves nothing: it must be the tables' own, and no row of
//! another project may have had a part in the row.

use std::collections::BTreeSet;

use datafusion::common::Column;
use datafusion::common::tree_node::TreeNode;
use datafusion::logical_expr::{Aggregate, Distinct, Expr, Join, JoinType, LogicalPlan, Projection, Union, Window};

/// What the column is called.
const NAME: &str = "project_id";

/// The column of an answer that is called `project_id` and is the project of everything that its row was made of.
pub(crate) fn column_of(plan: &LogicalPlan) -> Option<usize> {
    let proven = proven(plan);
    (0..plan.schema().fields().len()).find(|index| proven.contains(index) && plan.schema().field(*index).name() == NAME)
}

/// The columns of a plan that are so, whatever they are called.
fn proven(plan: &LogicalPlan) -> BTreeSet<usize> {
    // What a subquery looks at is not looked at here.
    if plan.expressions().iter().any(has_subquery) {
        return BTreeSet::new();
    }
    match plan {
        LogicalPlan::TableScan(scan) => scan.projected_schema.fields().iter().position(|field| field.name() == NAME).into_iter().collect(),
        LogicalPlan::Filter(node) => proven(&node.input),
        LogicalPlan::Sort(node) => proven(&node.input),
        LogicalPlan::Limit(node) => proven(&node.input),
        LogicalPlan::SubqueryAlias(node) => proven(&node.input),
        LogicalPlan::Distinct(Distinct::All(input)) => proven(input),
        LogicalPlan::Projection(node) => of_projection(node),
        LogicalPlan::Aggregate(node) => of_aggregate(node),
        LogicalPlan::Window(node) => of_window(node),
        LogicalPlan::Union(node) => of_union(node),
        LogicalPlan::Join(node) => of_join(node),
        _ => BTreeSet::new(),
    }
}

fn has_subquery(expr: &Expr) -> bool {
    expr.exists(|expr| Ok(matches!(expr, Expr::ScalarSubquery(_) | Expr::InSubquery(_) | Expr::Exists(_)))).unwrap_or(true)
}

/// The place of the column that an expression is, in the plan that it stands above.
fn place(expr: &Expr, input: &LogicalPlan) -> Option<usize> {
    match expr {
        Expr::Column(Column { relation, name, .. }) => input.schema().index_of_column_by_name(relation.as_ref(), name),
        Expr::Alias(alias) => place(&alias.expr, input),
        _ => None,
    }
}

/// Which of some expressions over a plan are its proven columns.
fn kept<'a>(exprs: impl IntoIterator<Item = &'a Expr>, input: &LogicalPlan) -> BTreeSet<usize> {
    let proven = proven(input);
    let is_proven = |expr: &Expr| place(expr, input).is_some_and(|place| proven.contains(&place));
    exprs.into_iter().enumerate().filter(|(_, expr)| is_proven(expr)).map(|(index, _)| index).collect()
}

fn of_projection(node: &Projection) -> BTreeSet<usize> {
    kept(&node.expr, &node.input)
}

/// Rows are brought together by the group: one project each, where that is a part of it.
fn of_aggregate(node: &Aggregate) -> BTreeSet<usize> {
    if node.group_expr.iter().any(|expr| matches!(expr, Expr::GroupingSet(_))) {
        return BTreeSet::new();
    }
    kept(&node.group_expr, &node.input)
}

/// What is counted over rows of several projects is of none of them.
fn of_window(node: &Window) -> BTreeSet<usize> {
    let of_project = |expr: &Expr| match expr {
        Expr::WindowFunction(call) => !kept(&call.params.partition_by, &node.input).is_empty(),
        _ => false,
    };
    if node.window_expr.iter().all(of_project) { proven(&node.input) } else { BTreeSet::new() }
}

fn of_union(node: &Union) -> BTreeSet<usize> {
    node.inputs.iter().map(|input| proven(input)).reduce(|all, of_one| &all & &of_one).unwrap_or_default()
}

/// Rows that are joined must be of one project, and the join must say so.
fn of_join(node: &Join) -> BTreeSet<usize> {
    let (left, right) = (proven(&node.left), proven(&node.right));
    let is_one = |(l, r): &(Expr, Expr)| {
        place(l, &node.left).is_some_and(|place| left.contains(&place)) && place(r, &node.right).is_some_and(|place| right.contains(&place))
    };
    if !node.on.iter().any(is_one) {
        return BTreeSet::new();
    }
    let width = node.left.schema().fields().len();
    match node.join_type {
        JoinType::Inner => left.into_iter().chain(right.into_iter().map(|index| width + index)).collect(),
        JoinType::Left | JoinType::LeftSemi | JoinType::LeftAnti | JoinType::LeftMark => left,
        JoinType::Right => right.into_iter().map(|index| width + index).collect(),
        JoinType::RightSemi | JoinType::RightAnti | JoinType::RightMark => right,
        JoinType::Full => BTreeSet::new(),
    }
}
