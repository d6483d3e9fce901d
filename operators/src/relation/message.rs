//! What is said to a template's dataflow.

use std::sync::Arc;

use super::template::{Parameters, TableChanges};

/// What is said to a template's dataflow, at a tick.
#[derive(Debug, Clone)]
pub(super) enum Message {
    /// Rows of a table.
    Table(TableChanges),
    /// A subscription comes (1) or goes (-1).
    Parameters(Arc<Parameters>, i64),
    /// The tick is: rows whose time in their window ends come due.
    Clock,
}
