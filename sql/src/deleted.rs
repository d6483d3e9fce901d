//! Rows that a deletion reaches and that no file has lost yet: the condition that leaves them out of a table.

use std::hash::{Hash, Hasher};
use std::sync::Arc;

use datafusion::arrow::array::{ArrayRef, RecordBatch};
use datafusion::arrow::datatypes::DataType;
use datafusion::common::Result;
use datafusion::logical_expr::expr::ScalarFunction;
use datafusion::logical_expr::{ColumnarValue, Expr, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility, col, not};
use weir_dataflow::reach::Reach;
use weir_operators::schema::Table;

/// The condition that rows of a table meet which a deletion does not reach; nothing where it reaches none.
pub(crate) fn not_deleted(table: &Table, reach: &Arc<Reach>) -> Option<Expr> {
    let columns = reach.columns(table);
    if columns.is_empty() {
        return None;
    }
    let arguments = columns.iter().map(|column| col(*column)).collect();
    let reached = Reached { reach: Arc::clone(reach), columns, signature: Signature::variadic_any(Volatility::Immutable) };
    Some(not(Expr::ScalarFunction(ScalarFunction::new_udf(Arc::new(ScalarUDF::from(reached)), arguments))))
}

/// A function of the columns by which a deletion tells its rows.
#[derive(Debug, PartialEq, Eq)]
struct Reached {
    reach: Arc<Reach>,
    columns: Vec<&'static str>,
    signature: Signature,
}

impl Hash for Reached {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.reach.seq.hash(state);
        self.columns.hash(state);
    }
}

impl ScalarUDFImpl for Reached {
    fn name(&self) -> &str {
        "deleted"
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _arguments: &[DataType]) -> Result<DataType> {
        Ok(DataType::Boolean)
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let columns = self.columns.iter().zip(&args.args).map(|(name, value)| Ok((*name, value.to_array(args.number_rows)?, true)));
        let columns: Vec<(&str, ArrayRef, bool)> = columns.collect::<Result<_>>()?;
        let batch = RecordBatch::try_from_iter_with_nullable(columns)?;
        Ok(ColumnarValue::Array(Arc::new(self.reach.reached(&batch)?)))
    }
}
