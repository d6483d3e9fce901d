//! `SHOW FUNCTIONS` and `SHOW QUERIES`: questions about Weir itself, answered as tables.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use datafusion::arrow::array::{ArrayRef, Float64Array, Int64Array, RecordBatch, StringArray};
use datafusion::catalog::MemTable;
use datafusion::common::Result;
use datafusion::datasource::provider_as_source;
use datafusion::execution::SessionState;
use datafusion::logical_expr::{Documentation, Expr, LogicalPlan, LogicalPlanBuilder, col, lit};
use datafusion::sql::sqlparser::ast::{ShowStatementFilter, Statement as Sql};

use super::StatementError;
use crate::running::RunningQuery;

/// A question.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Show {
    /// The functions that a query may use, with their documentation.
    Functions {
        /// A pattern of LIKE that the name must meet.
        like: Option<String>,
    },
    /// The queries that run.
    Queries,
}

impl Show {
    /// The question that a statement is, if it is one.
    pub(super) fn of(statement: &Sql) -> std::result::Result<Option<Self>, StatementError> {
        Ok(match statement {
            Sql::ShowFunctions { filter: None } => Some(Self::Functions { like: None }),
            Sql::ShowFunctions { filter: Some(ShowStatementFilter::Like(like) | ShowStatementFilter::ILike(like)) } => {
                Some(Self::Functions { like: Some(like.to_lowercase()) })
            }
            Sql::ShowFunctions { .. } => return Err(StatementError::Syntax("write SHOW FUNCTIONS, or SHOW FUNCTIONS LIKE 'p9%'".to_owned())),
            Sql::ShowVariable { variable } if matches!(variable.as_slice(), [name] if name.value.eq_ignore_ascii_case("queries")) => Some(Self::Queries),
            _ => None,
        })
    }

    /// The plan that answers it.
    pub(crate) fn plan(&self, state: &SessionState, running: &[Arc<RunningQuery>]) -> Result<LogicalPlan> {
        match self {
            Self::Functions { like } => {
                let condition = like.as_ref().map(|like| col("function_name").like(lit(like.as_str())));
                scan("functions", functions(state)?, condition, "function_name")
            }
            Self::Queries => scan("queries", queries(running)?, None, "number"),
        }
    }
}

fn scan(name: &str, rows: RecordBatch, condition: Option<Expr>, order_by: &str) -> Result<LogicalPlan> {
    let table = MemTable::try_new(rows.schema(), vec![vec![rows]])?;
    let mut plan = LogicalPlanBuilder::scan(name, provider_as_source(Arc::new(table)), None)?;
    if let Some(condition) = condition {
        plan = plan.filter(condition)?;
    }
    plan.sort([col(order_by).sort(true, false)])?.build()
}

/// A row a function.
fn functions(state: &SessionState) -> Result<RecordBatch> {
    let scalars = state.scalar_functions().values().map(|f| (f.name(), "SCALAR", f.documentation()));
    let aggregates = state.aggregate_functions().values().map(|f| (f.name(), "AGGREGATE", f.documentation()));
    let windows = state.window_functions().values().map(|f| (f.name(), "WINDOW", f.documentation()));
    let mut rows: Vec<(&str, &str, Option<&Documentation>)> = scalars.chain(aggregates).chain(windows).collect();
    rows.sort_by_key(|(name, kind, _)| (*name, *kind));
    // A function is registered under each of its names.
    rows.dedup_by_key(|(name, kind, _)| (*name, *kind));
    let text = |of: &dyn Fn(&Documentation) -> Option<String>| Arc::new(rows.iter().map(|(_, _, doc)| doc.and_then(of)).collect::<StringArray>()) as ArrayRef;
    let arguments = |doc: &Documentation| Some(doc.arguments.as_ref()?.iter().map(|(name, what)| format!("{name}: {what}")).collect::<Vec<_>>().join("; "));
    Ok(RecordBatch::try_from_iter_with_nullable([
        ("function_name", Arc::new(StringArray::from_iter_values(rows.iter().map(|row| row.0))) as ArrayRef, false),
        ("function_type", Arc::new(StringArray::from_iter_values(rows.iter().map(|row| row.1))) as ArrayRef, false),
        ("syntax", text(&|doc| Some(doc.syntax_example.clone())), true),
        ("description", text(&|doc| Some(doc.description.trim().to_owned())), true),
        ("arguments", text(&arguments), true),
        ("example", text(&|doc| doc.sql_example.as_ref().map(|example| example.trim().to_owned())), true),
    ])?)
}

/// A row a query that runs.
fn queries(running: &[Arc<RunningQuery>]) -> Result<RecordBatch> {
    let whole = |of: &dyn Fn(&RunningQuery) -> u64| Arc::new(Int64Array::from_iter_values(running.iter().map(|query| of(query) as i64))) as ArrayRef;
    let text = |of: &dyn Fn(&RunningQuery) -> String| Arc::new(StringArray::from_iter_values(running.iter().map(|query| of(query)))) as ArrayRef;
    let seconds = Float64Array::from_iter_values(running.iter().map(|query| query.started.elapsed().as_secs_f64()));
    Ok(RecordBatch::try_from_iter_with_nullable([
        ("number", whole(&|query| query.number), false),
        ("token", text(&|query| query.token.clone()), false),
        ("seconds", Arc::new(seconds) as ArrayRef, false),
        ("rows_scanned", whole(&|query| query.scanned().rows), false),
        ("bytes_scanned", whole(&|query| query.scanned().bytes), false),
        ("rows", whole(&|query| query.rows.load(Ordering::Relaxed)), false),
        ("memory_bytes", whole(&|query| query.memory.reserved() as u64), false),
        ("statement", text(&|query| query.sql.clone()), false),
    ])?)
}
