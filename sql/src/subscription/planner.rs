//! From a query's text to a plan that can be lowered: planned over the tables themselves, with no snapshot and no caller.
//!
//! Three things differ from planning a query that runs once. `now()` stays in the plan, since it is another instant at every
//! tick. Rewrites that only pay for one run, or that make an aggregate which can be maintained into one that cannot, are left
//! out. And tables have neither scope nor rows: the scope is added where a scan is lowered.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use datafusion::arrow::datatypes::{DataType, SchemaRef};
use datafusion::common::config::ConfigOptions;
use datafusion::common::{DFSchema, Result as DataFusionResult, TableReference, plan_datafusion_err, plan_err};
use datafusion::execution::SessionState;
use datafusion::logical_expr::planner::{ContextProvider, ExprPlanner};
use datafusion::logical_expr::{AggregateUDF, Expr, HigherOrderUDF, LogicalPlan, ScalarUDF, TableProviderFilterPushDown, TableSource, TableType, WindowUDF};
use datafusion::optimizer::decorrelate_lateral_join::DecorrelateLateralJoin;
use datafusion::optimizer::decorrelate_predicate_subquery::DecorrelatePredicateSubquery;
use datafusion::optimizer::eliminate_cross_join::EliminateCrossJoin;
use datafusion::optimizer::eliminate_filter::EliminateFilter;
use datafusion::optimizer::eliminate_outer_join::EliminateOuterJoin;
use datafusion::optimizer::extract_equijoin_predicate::ExtractEquijoinPredicate;
use datafusion::optimizer::optimize_projections::OptimizeProjections;
use datafusion::optimizer::propagate_empty_relation::PropagateEmptyRelation;
use datafusion::optimizer::push_down_filter::PushDownFilter;
use datafusion::optimizer::rewrite_set_comparison::RewriteSetComparison;
use datafusion::optimizer::scalar_subquery_to_join::ScalarSubqueryToJoin;
use datafusion::optimizer::simplify_expressions::SimplifyExpressions;
use datafusion::optimizer::{Optimizer, OptimizerContext, OptimizerRule};
use datafusion::sql::parser::Statement as Parsed;
use datafusion::sql::planner::{ParserOptions, PlannerContext, SqlToRel};
use datafusion::sql::sqlparser::ast::{Expr as SqlExpr, Query, Statement as Sql, Value, Visit, Visitor};
use datafusion::sql::sqlparser::dialect::GenericDialect;
use datafusion::sql::sqlparser::parser::Parser;
use std::ops::ControlFlow;
use weir_operators::relation::template::Template;
use weir_operators::schema::{self, Table};

use super::compile::Shape;
use super::known::Known;
use super::refusal::{self, Refusal};
use super::rewrite;
use crate::statement::{self, Statement, StatementError};
use crate::views;

/// A table as it is planned over: its columns in SQL.
pub(crate) struct Source {
    /// The table.
    pub(crate) table: &'static Table,
}

impl TableSource for Source {
    fn schema(&self) -> SchemaRef {
        Arc::clone(self.table.sql_schema())
    }

    /// A scan applies all of its filters.
    fn supports_filters_pushdown(&self, filters: &[&Expr]) -> DataFusionResult<Vec<TableProviderFilterPushDown>> {
        Ok(vec![TableProviderFilterPushDown::Exact; filters.len()])
    }
}

struct View {
    plan: LogicalPlan,
    schema: SchemaRef,
}

impl TableSource for View {
    fn schema(&self) -> SchemaRef {
        Arc::clone(&self.schema)
    }

    fn table_type(&self) -> TableType {
        TableType::View
    }

    fn get_logical_plan(&self) -> Option<std::borrow::Cow<'_, LogicalPlan>> {
        Some(std::borrow::Cow::Borrowed(&self.plan))
    }
}

/// Plans queries of subscriptions. Views are planned once, here.
pub(crate) struct Planner {
    state: SessionState,
    sources: BTreeMap<String, Arc<dyn TableSource>>,
    optimizer: Optimizer,
    /// Templates that were made lately: their subscriptions share one, and what was found to run need not be looked at again.
    templates: Mutex<BTreeMap<Shape, Arc<Template>>>,
    /// Statements that were compiled lately.
    pub(crate) known: Known,
}

/// Templates that are remembered.
const TEMPLATES_MAX: usize = 1_000;

impl std::fmt::Debug for Planner {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Planner").finish_non_exhaustive()
    }
}

impl Planner {
    /// A planner with the functions and the settings of a session.
    pub(crate) fn new(state: SessionState) -> DataFusionResult<Self> {
        let source = |table: &'static Table| -> Arc<dyn TableSource> { Arc::new(Source { table }) };
        let sources = schema::tables().iter().map(|table| (table.name.to_owned(), source(table))).collect();
        let mut planner = Self { state, sources, optimizer: Optimizer::with_rules(rules()), templates: Mutex::default(), known: Known::default() };
        for (name, sql) in views::VIEWS {
            let Ok(Statement::Query(query)) = statement::parse(sql) else { return plan_err!("the view {name} is no query") };
            let plan = planner.to_rel().statement_to_plan(*query)?;
            let schema = Arc::new(plan.schema().as_arrow().clone());
            planner.sources.insert((*name).to_owned(), Arc::new(View { plan, schema }));
        }
        Ok(planner)
    }

    /// Adds a table of a test.
    #[cfg(test)]
    pub(crate) fn add_table(&mut self, table: &'static Table) {
        self.sources.insert(table.name.to_owned(), Arc::new(Source { table }));
    }

    /// Adds a view of a test.
    #[cfg(test)]
    pub(crate) fn add_view(&mut self, name: &str, sql: &str) -> DataFusionResult<()> {
        let Ok(Statement::Query(query)) = statement::parse(sql) else { return plan_err!("the view {name} is no query") };
        let plan = self.to_rel().statement_to_plan(*query)?;
        let schema = Arc::new(plan.schema().as_arrow().clone());
        self.sources.insert(name.to_owned(), Arc::new(View { plan, schema }));
        Ok(())
    }

    /// The optimised plan of a query, and the same before it was optimised.
    pub(crate) fn plan(&self, sql: &str) -> Result<LogicalPlan, Refusal> {
        let statement = match statement::parse(sql) {
            Ok(Statement::Query(query)) => *query,
            Ok(_) => return Err(Refusal::new("a subscription is a query: write SELECT …")),
            Err(StatementError::NotAQuery(what)) => return Err(Refusal::new(format!("a subscription is a query: write SELECT …; {what} is refused"))),
            Err(other) => return Err(Refusal::new(other.to_string())),
        };
        check_syntax(sql, &statement)?;
        let refused = |error| refusal::from_planning(sql, &error);
        let plan = self.to_rel().statement_to_plan(statement).map_err(refused)?;
        let plan = self.state.analyzer().execute_and_check(plan, self.state.config_options(), |_, _| {}).map_err(refused)?;
        let plan = rewrite::maintainable(plan).map_err(refused)?;
        let context = OptimizerContext::new_with_config_options(Arc::clone(self.state.config_options()))
            .without_query_execution_start_time()
            .with_skip_failing_rules(false)
            .with_max_passes(PASSES_MAX);
        self.optimizer.optimize(plan, &context, |_, _| {}).map_err(refused)
    }

    /// The template of a shape: one that is known, or a new one, which must be one that can run.
    pub(crate) fn template(&self, shape: Shape, make: impl FnOnce() -> DataFusionResult<Template>) -> DataFusionResult<Arc<Template>> {
        let known = || self.templates.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(template) = known().get(&shape) {
            return Ok(Arc::clone(template));
        }
        let template = Arc::new(make()?);
        weir_operators::relation::check(&template).map_err(|e| plan_datafusion_err!("{e}"))?;
        let mut known = known();
        if known.len() >= TEMPLATES_MAX {
            known.clear();
        }
        known.insert(shape, Arc::clone(&template));
        Ok(template)
    }

    /// A condition over columns.
    pub(crate) fn condition(&self, what: &str, sql: &str, columns: &DFSchema) -> Result<Expr, Refusal> {
        let refused = |message: String| Refusal::new(format!("{what} = '{sql}': {message}"));
        crate::statement::check_operators(sql).map_err(|error| refused(error.to_string()))?;
        let parsed = Parser::new(&GenericDialect {}).try_with_sql(sql).and_then(|mut parser| {
            let expr = parser.parse_expr()?;
            parser.expect_token(&datafusion::sql::sqlparser::tokenizer::Token::EOF)?;
            Ok(expr)
        });
        let parsed = parsed.map_err(|error| refused(error.to_string()))?;
        let planned = self.to_rel().sql_to_expr(parsed, columns, &mut PlannerContext::new());
        let planned = planned.and_then(|expr| self.simplified(expr, columns));
        let expr =
            planned.map_err(|error| refused(format!("{}; it is a condition on the columns of the answer", refusal::from_planning("", &error).message)))?;
        let data_type = datafusion::logical_expr::ExprSchemable::get_type(&expr, columns).map_err(|error| refused(error.to_string()))?;
        if data_type != DataType::Boolean {
            return Err(refused(format!("it is {data_type}, not a condition")));
        }
        Ok(expr)
    }

    fn simplified(&self, expr: Expr, columns: &DFSchema) -> DataFusionResult<Expr> {
        use datafusion::logical_expr::simplify::SimplifyContext;
        let context = SimplifyContext::builder().with_schema(Arc::new(columns.clone())).with_config_options(Arc::clone(self.state.config_options())).build();
        let simplifier = datafusion::optimizer::simplify_expressions::ExprSimplifier::new(context);
        simplifier.simplify(simplifier.coerce(expr, columns)?)
    }

    fn to_rel(&self) -> SqlToRel<'_, Self> {
        SqlToRel::new_with_options(self, ParserOptions::from(&self.state.config_options().sql_parser))
    }
}

/// Rewrites are repeated until nothing changes, but not more often than this.
const PASSES_MAX: u8 = 3;

/// What a plan goes through. Left out of DataFusion's own list: folding aggregates of distinct values into groups, whose state
/// would be kept twice; taking constants out of GROUP BY, which are a part of an alert's key; and all that only makes one run faster.
fn rules() -> Vec<Arc<dyn OptimizerRule + Send + Sync>> {
    vec![
        Arc::new(RewriteSetComparison::new()),
        Arc::new(SimplifyExpressions::new()),
        Arc::new(DecorrelatePredicateSubquery::new()),
        Arc::new(ScalarSubqueryToJoin::new()),
        Arc::new(DecorrelateLateralJoin::new()),
        Arc::new(ExtractEquijoinPredicate::new()),
        Arc::new(EliminateFilter::new()),
        Arc::new(EliminateCrossJoin::new()),
        Arc::new(PropagateEmptyRelation::new()),
        Arc::new(EliminateOuterJoin::new()),
        Arc::new(PushDownFilter::new()),
        Arc::new(OptimizeProjections::new()),
    ]
}

impl ContextProvider for Planner {
    fn get_table_source(&self, name: TableReference) -> DataFusionResult<Arc<dyn TableSource>> {
        let ours = name.catalog().is_none_or(|catalog| catalog == crate::tables::CATALOG) && name.schema().is_none_or(|schema| schema == crate::tables::SCHEMA);
        match self.sources.get(name.table()) {
            Some(source) if ours => Ok(Arc::clone(source)),
            _ => {
                let known = self.sources.keys().map(String::as_str).collect::<Vec<_>>().join(", ");
                plan_err!("there is no table '{}' to subscribe to; there are {known}", name.table())
            }
        }
    }

    fn get_table_function_source(&self, name: &str, _args: Vec<Expr>) -> DataFusionResult<Arc<dyn TableSource>> {
        plan_err!("the table function '{name}' gives no table that changes are known of; subscribe to tables and views")
    }

    fn get_expr_planners(&self) -> &[Arc<dyn ExprPlanner>] {
        self.state.expr_planners()
    }

    fn get_function_meta(&self, name: &str) -> Option<Arc<ScalarUDF>> {
        self.state.scalar_functions().get(name).cloned()
    }

    fn get_higher_order_meta(&self, name: &str) -> Option<Arc<HigherOrderUDF>> {
        self.state.higher_order_functions().get(name).cloned()
    }

    fn get_aggregate_meta(&self, name: &str) -> Option<Arc<AggregateUDF>> {
        self.state.aggregate_functions().get(name).cloned()
    }

    fn get_window_meta(&self, name: &str) -> Option<Arc<WindowUDF>> {
        self.state.window_functions().get(name).cloned()
    }

    fn get_variable_type(&self, _names: &[String]) -> Option<DataType> {
        None
    }

    fn options(&self) -> &ConfigOptions {
        self.state.config_options()
    }

    fn udf_names(&self) -> Vec<String> {
        self.state.scalar_functions().keys().cloned().collect()
    }

    fn higher_order_function_names(&self) -> Vec<String> {
        self.state.higher_order_functions().keys().cloned().collect()
    }

    fn udaf_names(&self) -> Vec<String> {
        self.state.aggregate_functions().keys().cloned().collect()
    }

    fn udwf_names(&self) -> Vec<String> {
        self.state.window_functions().keys().cloned().collect()
    }
}

/// Refuses what no plan needs to be made for.
fn check_syntax(sql: &str, statement: &Parsed) -> Result<(), Refusal> {
    let query = match statement {
        Parsed::Statement(statement) => match statement.as_ref() {
            Sql::Query(query) => query,
            _ => return Err(Refusal::new("a subscription is a query: write SELECT …")),
        },
        _ => return Err(Refusal::new("a subscription is a query: write SELECT …")),
    };
    match query.visit(&mut Syntax { sql }) {
        ControlFlow::Break(refusal) => Err(refusal),
        ControlFlow::Continue(()) => Ok(()),
    }
}

struct Syntax<'a> {
    sql: &'a str,
}

impl Visitor for Syntax<'_> {
    type Break = Refusal;

    fn pre_visit_query(&mut self, query: &Query) -> ControlFlow<Refusal> {
        if query.with.as_ref().is_some_and(|with| with.recursive) {
            let message = "WITH RECURSIVE: a recursive query may run without end at every change and is not maintained; write the steps out, as joins";
            return ControlFlow::Break(Refusal::of(self.sql, "recursive", message));
        }
        ControlFlow::Continue(())
    }

    fn pre_visit_expr(&mut self, expr: &SqlExpr) -> ControlFlow<Refusal> {
        match expr {
            SqlExpr::Value(value) => match &value.value {
                Value::Placeholder(name) => ControlFlow::Break(Refusal::new(format!("{name}: a subscription has no parameters; write the value itself"))),
                _ => ControlFlow::Continue(()),
            },
            _ => ControlFlow::Continue(()),
        }
    }
}
