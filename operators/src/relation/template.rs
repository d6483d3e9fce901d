//! One plan for all subscriptions that differ in their constants only.
//!
//! The relation is maintained once, whoever is subscribed; a subscription is a row of *parameters*: the key that picks its share of
//! the relation, and the constants that its conditions compare with. Joining the two gives each subscription its rows, so a new
//! subscription of a known shape sees what is there at once and costs no new dataflow.

use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;

use super::plan::{Expression, Relation};
use crate::Time;

/// A subscription's number, unique in the catalog.
pub type SubscriptionId = u64;

/// What all subscriptions of one shape share.
#[derive(Debug, Clone)]
pub struct Template {
    /// What is maintained. Its leading [`Self::parameter_keys`] columns are the parameter key.
    pub relation: Relation,
    /// How many columns the parameter key has; none where every subscription sees the whole relation.
    pub parameter_keys: usize,
    /// The constants of a subscription, which [`Finish`] sees behind the relation's columns.
    pub constants: SchemaRef,
    /// From a row of the relation and a subscription's constants to what the subscription says of it.
    pub finish: Finish,
}

/// What a subscription says of a row. Expressions see the columns of the relation, then the constants.
#[derive(Debug, Clone)]
pub struct Finish {
    /// The columns of the answer.
    pub columns: Vec<Expression>,
    /// Their schema.
    pub schema: SchemaRef,
    /// What tells alerts apart; without any, all rows are one alert.
    pub key: Vec<Expression>,
    /// Names of the key's columns.
    pub key_schema: SchemaRef,
    /// Whether the row fires; null is no.
    pub fires: Expression,
    /// Whether a row that has fired keeps its alert: not `resolve_when`. Where it is absent a row that does not fire resolves.
    pub holds: Option<Expression>,
    /// Whether the alert is raised: `escalate_when`.
    pub escalates: Option<Expression>,
    /// The column of the answer that is the project of all rows that had a part in it; none where no column is known to be that.
    pub project: Option<usize>,
}

/// The constants of one subscription. Both batches have one row.
#[derive(Debug, Clone)]
pub struct Parameters {
    /// Whose.
    pub subscription: SubscriptionId,
    /// The parameter key: `parameter_keys` columns of the types of the relation's leading columns. A null picks nothing.
    pub key: RecordBatch,
    /// The constants.
    pub constants: RecordBatch,
}

/// Changes of a table at one tick, in its stored schema.
#[derive(Debug, Clone)]
pub struct TableChanges {
    /// The table.
    pub table: &'static str,
    /// The rows.
    pub batch: RecordBatch,
    /// How often each comes (1) or goes (-1); `None` where all come. Rows of an appended table come and never go: where a deletion
    /// takes some away, a template is filled anew without them.
    pub differences: Option<Arc<[i64]>>,
}

/// Rows of answers that come and go at one tick, consolidated: no row stands in it twice.
///
/// Only rows that fire, or that hold where the template says what holds, are in the answer.
#[derive(Debug, Clone)]
pub struct Changes {
    /// The columns of the answer.
    pub rows: RecordBatch,
    /// The key of each row.
    pub keys: RecordBatch,
    /// Whose each row is.
    pub subscriptions: Vec<SubscriptionId>,
    /// Whether each fires.
    pub fires: Vec<bool>,
    /// Whether each escalates.
    pub escalates: Vec<bool>,
    /// How often each comes (positive) or goes (negative).
    pub differences: Vec<i64>,
}

/// A row that an expression has no value for. It is left out; the subscription is told.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Failure {
    /// Whose; `None` for all of the template, where it is not known whose share the row would have been.
    pub subscription: Option<SubscriptionId>,
    /// What was wrong.
    pub message: String,
    /// The row, as text, cut to [`FAILURE_ROW_BYTES_MAX`].
    pub row: String,
}

/// How the message of a [`Failure`] begins that says that the template makes nothing more, on the worker that says so.
pub const HALTED: &str = "halted: ";

/// How much of a row a [`Failure`] shows.
pub const FAILURE_ROW_BYTES_MAX: usize = 512;

/// What a template's dataflow said on one worker.
#[derive(Debug)]
pub struct TemplateAdvance {
    /// All ticks before this are complete on this worker; `None` when the dataflow has ended.
    pub frontier: Option<Time>,
    /// What changed, by tick. A tick without changes is absent; several batches of one tick do not overlap.
    pub changes: Vec<(Time, Changes)>,
    /// Failures that began (positive) or ended with the rows that caused them (negative).
    pub failures: Vec<(Time, Failure, i64)>,
    /// Subscriptions that were not taken in: there are so many rows for them that the template would have halted.
    pub refused: Vec<SubscriptionId>,
    /// Rows that came too late for their window.
    pub late: u64,
    /// What the template holds and does on this worker.
    pub usage: Usage,
}

/// What a template holds and does on one worker.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Usage {
    /// Groups of reductions and top-k, those of panes that have not left among them.
    pub groups: u64,
    /// Bytes of state, about.
    pub state_bytes: u64,
    /// Pairs of joined rows since the last advance.
    pub pairs: u64,
}
