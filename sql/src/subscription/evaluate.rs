//! Expressions of the graph, by DataFusion's physical expressions.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use datafusion::arrow::array::{ArrayRef, RecordBatch};
use datafusion::common::DFSchema;
use datafusion::error::DataFusionError;
use datafusion::execution::context::ExecutionProps;
use datafusion::logical_expr::Expr;
use datafusion::logical_expr::physical_planning_context::PhysicalPlanningContext;
use datafusion::physical_expr::{PhysicalExpr, create_physical_expr};
use weir_operators::relation::plan::{Evaluate, EvaluateError, Expression};

/// A physical expression.
#[derive(Debug)]
struct Physical(Arc<dyn PhysicalExpr>);

impl Evaluate for Physical {
    fn evaluate(&self, batch: &RecordBatch) -> Result<ArrayRef, EvaluateError> {
        // A function that panics on some value is an error of the subscription that uses it, and not the end of a worker.
        let evaluated = catch_unwind(AssertUnwindSafe(|| self.0.evaluate(batch).and_then(|value| value.into_array(batch.num_rows()))));
        match evaluated {
            Ok(result) => result.map_err(|error| EvaluateError(crate::error::one_line(&error.strip_backtrace()))),
            Err(_) => Err(EvaluateError(format!("{} panicked on a value", self.0))),
        }
    }
}

/// An expression over the columns of a schema whose names are their positions.
pub(crate) fn physical(expr: &Expr, schema: &DFSchema) -> Result<Expression, DataFusionError> {
    let physical = create_physical_expr(expr, schema, &ExecutionProps::new(), &PhysicalPlanningContext::default())?;
    Ok(Arc::new(Physical(physical)))
}
