//! The relational plan: what the graph can keep up to date.
//!
//! Every node has a schema; columns are known by their position. Where a node groups or joins, its inputs have been mapped
//! such that the keys are the leading columns: so rendering needs no expressions beyond those of scans and maps.

use std::fmt::Debug;
use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch};
use arrow::datatypes::SchemaRef;

/// A value for each row of a batch. Pure: the same batch gives the same values, whenever and wherever it is asked.
pub trait Evaluate: Debug + Send + Sync {
    /// The values, as many as the batch has rows.
    ///
    /// # Errors
    /// Where a row has no value (a cast that fails, a division by zero). The error is of the whole batch; which row it is
    /// finds out who asks again with parts of it.
    fn evaluate(&self, batch: &RecordBatch) -> Result<ArrayRef, EvaluateError>;
}

/// An expression over the columns of a node's input.
pub type Expression = Arc<dyn Evaluate>;

/// Why an expression has no value.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct EvaluateError(pub String);

/// A node and the columns that it gives.
#[derive(Debug, Clone)]
pub struct Relation {
    /// What it does.
    pub node: Node,
    /// Its columns.
    pub schema: SchemaRef,
}

/// What a node does.
#[derive(Debug, Clone)]
pub enum Node {
    /// Rows of a table as they come and go.
    Scan(Scan),
    /// Rows that are always there.
    Values(RecordBatch),
    /// Rows that pass, with other columns.
    Map(Map),
    /// Rows once for each choice of constants that they meet.
    Variants(Variants),
    /// A row for each group.
    Reduce(Reduce),
    /// Each row once.
    Distinct(Box<Relation>),
    /// The rows of all; their schemas are equal.
    Union(Vec<Relation>),
    /// Rows that belong together.
    Join(Join),
    /// The first rows of each group.
    TopK(TopK),
}

/// Rows of a table as they come and go.
#[derive(Debug, Clone)]
pub struct Scan {
    /// The table, one of [`crate::schema::tables`].
    pub table: &'static str,
    /// Which columns of the table's stored schema the expressions see, in their order.
    pub table_columns: Vec<usize>,
    /// Rows for which all are true pass.
    pub filter: Vec<Expression>,
    /// The columns that it gives.
    pub columns: Vec<Expression>,
    /// When a row is in the relation; always, where there is none.
    pub window: Option<Window>,
}

/// When a row is in a relation: from `time + upper` until `time + lower`, both moved to the end of the row's pane. Pane `p` of a
/// row's `time` is `time / pane_ms`: at tick `t` the rows with `(t - lower_ms) / pane_ms <= p` are in, and where there is an upper
/// bound only those with `p < (t - upper_ms) / pane_ms` (divisions round down).
#[derive(Debug, Clone)]
pub struct Window {
    /// Unix milliseconds of each row (`Int64`), over the same columns as the scan's expressions.
    pub time: Expression,
    /// How long a row stays.
    pub lower_ms: u64,
    /// How long it is kept back first; 0 for not at all.
    pub upper_ms: u64,
    /// The grain in which rows come and go: a sixtieth of the width, never finer than a tick.
    pub pane_ms: u64,
    /// How late a row may be: one that was received later than this after the end of its pane is counted and left out. `None` where
    /// `time` is the time of receipt.
    pub lateness_ms: Option<u64>,
    /// When each row was received, in Unix milliseconds (`Int64`): with it a row is late or not whenever it is read, so that a
    /// restart or a backtest answers as the live graph did. `None` for the tick at which the row comes.
    pub received: Option<Expression>,
}

/// Rows that pass, with other columns.
#[derive(Debug, Clone)]
pub struct Map {
    /// What is mapped.
    pub input: Box<Relation>,
    /// Rows for which all are true pass.
    pub filter: Vec<Expression>,
    /// The columns that it gives.
    pub columns: Vec<Expression>,
}

/// Rows once for each distinct choice of constants among the subscriptions, with these constants: those rows that meet the condition.
/// So subscriptions share a relation though they compare with other constants.
#[derive(Debug, Clone)]
pub struct Variants {
    /// What is looked at.
    pub input: Box<Relation>,
    /// Which columns of the template's parameter key are the constants.
    pub parameters: Vec<usize>,
    /// Their types.
    pub constants: SchemaRef,
    /// Over the input's columns and the constants behind them. Rows for which all are true pass.
    pub filter: Vec<Expression>,
    /// The columns that it gives: places among the input's columns and the constants behind them.
    pub columns: Vec<usize>,
}

/// A row for each group: the key's columns, then a column for each aggregate.
#[derive(Debug, Clone)]
pub struct Reduce {
    /// What is grouped.
    pub input: Box<Relation>,
    /// The first so many columns of the input are the key.
    pub keys: usize,
    /// What is computed of each group; nothing for its mere presence.
    pub aggregates: Vec<Aggregate>,
    /// Which groups there are.
    pub universe: Universe,
}

/// Which groups a reduction has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Universe {
    /// Those with rows.
    Rows,
    /// One, whether there are rows or not; the key is empty. What an aggregate without GROUP BY means.
    One,
    /// One for each key that a subscription asks for, whether there are rows or not; other groups do not matter. The key is made of
    /// these columns of the template's parameter key.
    Parameters(Vec<usize>),
}

/// An aggregate.
#[derive(Debug, Clone, PartialEq)]
pub struct Aggregate {
    /// Which.
    pub function: AggregateFunction,
    /// The input column that is aggregated; none for `count(*)`.
    pub argument: Option<usize>,
    /// A boolean input column: only rows where it is true count (`FILTER`).
    pub filter: Option<usize>,
    /// Whether each value of a group counts once.
    pub distinct: bool,
}

/// What can be computed of a group. Nulls are left out, as SQL has it; without values all but the counts are null.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum AggregateFunction {
    /// Rows, or non-null values. `Int64`.
    Count,
    /// Sum, of the type of the output column: integers exactly, floats in fixed point so that order does not matter.
    Sum,
    /// Mean. `Float64`.
    Average,
    /// Least, in the order of the type.
    Minimum,
    /// Greatest.
    Maximum,
    /// Sample or population variance, or its root. `Float64`.
    Variance {
        /// Divided by n - 1 instead of n.
        sample: bool,
        /// The standard deviation.
        root: bool,
    },
    /// Whether all are true.
    BoolAnd,
    /// Whether any is true.
    BoolOr,
    /// A quantile by a sketch of relative error 1 %, [`crate::relation`]'s and the queries' alike. `Float64`.
    Quantile(f64),
}

/// Rows that belong together: those whose keys are equal and not null.
#[derive(Debug, Clone)]
pub struct Join {
    /// The left rows.
    pub left: Box<Relation>,
    /// The right rows.
    pub right: Box<Relation>,
    /// The first so many columns of both are the key; none for all pairs.
    pub keys: usize,
    /// Which rows come of it.
    pub kind: JoinKind,
}

/// Which rows come of a join.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum JoinKind {
    /// Pairs: all columns of the left, then all columns of the right.
    Inner,
    /// The same, and left rows without a partner with nulls.
    Left,
    /// Left rows with a partner, each as often as it is there.
    Semi,
    /// Left rows without a partner, those with null keys among them (`NOT EXISTS`).
    Anti,
}

/// The first rows of each group, in an order that is made total by the rows themselves.
#[derive(Debug, Clone)]
pub struct TopK {
    /// What is ordered.
    pub input: Box<Relation>,
    /// The first so many columns are the group; none for all rows together.
    pub keys: usize,
    /// The order.
    pub order: Vec<Order>,
    /// How many rows are left out first.
    pub offset: u64,
    /// How many rows remain.
    pub limit: u64,
    /// Whether a last column numbers the rows from 1 (`row_number()`, `UInt64`).
    pub numbered: bool,
}

/// A column to order by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Order {
    /// Which.
    pub column: usize,
    /// Greatest first.
    pub descending: bool,
    /// Nulls before values.
    pub nulls_first: bool,
}
