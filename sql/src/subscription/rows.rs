//! `subscription('name')`: the rows that hold, as a table in any query.

use std::sync::Arc;

use datafusion::catalog::{TableFunctionArgs, TableFunctionImpl, TableProvider};
use datafusion::common::{Result, ScalarValue, plan_datafusion_err, plan_err};
use datafusion::datasource::MemTable;
use datafusion::logical_expr::Expr;

use super::control::Control;
use crate::scope::Scope;

/// The table function of one caller.
#[derive(Debug)]
pub(crate) struct SubscriptionFunction {
    scope: Scope,
    control: Control,
}

impl SubscriptionFunction {
    /// Its name in SQL.
    pub(crate) const NAME: &str = "subscription";

    pub(crate) fn new(scope: Scope, control: Control) -> Self {
        Self { scope, control }
    }
}

impl TableFunctionImpl for SubscriptionFunction {
    fn call_with_args(&self, args: TableFunctionArgs) -> Result<Arc<dyn TableProvider>> {
        let [Expr::Literal(ScalarValue::Utf8(Some(name)) | ScalarValue::Utf8View(Some(name)) | ScalarValue::LargeUtf8(Some(name)), _)] = args.exprs() else {
            return plan_err!("subscription takes the name of a subscription, as in subscription('checkout_errors')");
        };
        let found = self.control.find(&self.scope, name).map_err(|e| plan_datafusion_err!("{e}"))?;
        let control = self.control.get().map_err(|e| plan_datafusion_err!("{e}"))?;
        let Some(rows) = control.rows(found.id) else {
            let state = control.state(found.id);
            let why = state.and_then(|state| state.error.or(Some(state.state))).unwrap_or_else(|| "it is not running".to_owned());
            return plan_err!("the subscription {name} has no rows to show: {why}");
        };
        Ok(Arc::new(MemTable::try_new(rows.schema, vec![rows.batches])?))
    }
}
