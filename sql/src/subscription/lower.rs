//! From DataFusion's logical plan to a relation that the graph can keep up to date.

use std::rc::Rc;
use std::sync::Arc;

use datafusion::arrow::array::RecordBatch;
use datafusion::arrow::datatypes::DataType;
use datafusion::common::tree_node::{Transformed, TreeNode, TreeNodeRecursion};
use datafusion::common::{DFSchema, ScalarValue};
use datafusion::error::DataFusionError;
use datafusion::logical_expr::expr::{Sort as SortExpr, WindowFunctionDefinition};
use datafusion::logical_expr::utils::split_conjunction;
use datafusion::logical_expr::{
    Distinct, DistinctOn, Expr, Filter, Limit, LogicalPlan, Projection, Sort, Subquery, TableScan, Union, Values, Volatility, Window, col, lit,
};
use weir_operators::relation::plan::{Join, JoinKind, Node, Order, TopK};
use weir_operators::schema::TableKind;

use super::pending::{Base, Built, Ordered, Pending, column, order_text, schema_of};
use super::planner::Source;
use super::refusal::{self, Refusal};
use super::slots::{Param, Slots};
use super::variants::VariantsSpec;
use super::window::{self, Edge, WindowSpec};
use crate::scope::Scope;

/// A top-k keeps no more rows than this.
const TOP_ROWS_MAX: u64 = 10_000;

pub(crate) type Lowered<T> = Result<T, Refusal>;

/// Lowers the plan of one query.
pub(crate) struct Lowering<'a> {
    /// The query's text, in which refusals point.
    pub(crate) sql: &'a str,
    /// What may be read.
    pub(crate) scope: &'a Scope,
    /// How late events may be; as late as their window is long where it is not given.
    pub(crate) lateness_ms: Option<u64>,
    /// The constants that become parameters.
    pub(crate) slots: Rc<Slots>,
}

/// What stands above a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Above {
    /// Nothing but filters and projections.
    Root,
    /// Nodes that carry parameters upwards.
    Carried,
    /// A node that does not.
    Cut,
}

impl Lowering<'_> {
    /// A refusal that points at a word of the query.
    pub(crate) fn refuse<T>(&self, word: &str, message: impl Into<String>) -> Lowered<T> {
        Err(Refusal::of(self.sql, word, message))
    }

    pub(crate) fn internal(&self, error: DataFusionError) -> Refusal {
        refusal::from_planning(self.sql, &error)
    }

    /// What stands above the input of a node that carries parameters.
    pub(crate) fn below(&self, above: Above) -> Above {
        if above == Above::Cut || !self.slots.are_wide() { Above::Cut } else { Above::Carried }
    }

    /// Lowers a node.
    pub(crate) fn lower(&self, plan: &LogicalPlan, above: Above) -> Lowered<Pending> {
        match plan {
            LogicalPlan::Projection(node) => self.projection(node, above),
            LogicalPlan::Filter(node) => self.filter(node, above),
            LogicalPlan::SubqueryAlias(node) => self.lower(&node.input, above),
            LogicalPlan::TableScan(node) => self.scan(node, above),
            LogicalPlan::Aggregate(node) => self.aggregate(node, above),
            LogicalPlan::Distinct(Distinct::All(input)) => self.distinct(input, above),
            LogicalPlan::Distinct(Distinct::On(node)) => self.distinct_on(node, above),
            LogicalPlan::Union(node) => self.union(node),
            LogicalPlan::Join(node) => self.join(node, above),
            LogicalPlan::Sort(node) => self.sort(node, above),
            LogicalPlan::Limit(node) => self.limit(node, above),
            LogicalPlan::Window(node) => self.number_rows(node, above),
            LogicalPlan::Values(node) => self.values(node),
            LogicalPlan::EmptyRelation(node) if !node.produce_one_row => {
                let schema = schema_of(node.schema.fields().iter().map(|field| field.data_type().clone()));
                Ok(Pending::node(Built::values(RecordBatch::new_empty(schema))))
            }
            LogicalPlan::EmptyRelation(_) => {
                self.refuse("select", "a SELECT without FROM reads no table, so nothing could change its answer; select from a table or a view")
            }
            LogicalPlan::Unnest(_) => self.refuse(
                "unnest",
                "unnest, error_tags and error_frames make several rows of one and are not maintained yet; look a tag up by its name instead, as in tags['region']",
            ),
            LogicalPlan::RecursiveQuery(_) => self.refuse("recursive", "a recursive query is not maintained; write the steps out, as joins"),
            LogicalPlan::Repartition(node) => self.lower(&node.input, above),
            LogicalPlan::Subquery(node) => self.lower(&node.subquery, Above::Cut),
            other => {
                let what = other.display().to_string();
                let what = what.split([':', ' ']).next().unwrap_or_default().to_owned();
                self.refuse(&what, format!("{what} is no part of a query that can be maintained; a subscription is one SELECT over tables and views"))
            }
        }
    }

    fn scan(&self, scan: &TableScan, above: Above) -> Lowered<Pending> {
        let Some(source) = scan.source.downcast_ref::<Source>() else {
            return self.refuse(scan.table_name.table(), format!("{} is no table that changes are known of", scan.table_name));
        };
        let table = source.table;
        let stored = |name: &str| table.columns.iter().position(|c| c.name == name).map(column);
        let scope = self.scope.condition();
        let scope = split_conjunction(&scope)
            .into_iter()
            .map(|condition| {
                let moved = condition.clone().transform(|e| match &e {
                    Expr::Column(c) => Ok(stored(&c.name).map_or(Transformed::no(e), Transformed::yes)),
                    _ => Ok(Transformed::no(e)),
                });
                moved.map(|moved| moved.data)
            })
            .collect::<Result<Vec<_>, _>>()
            .map_err(|e| self.internal(e))?;
        let variants = VariantsSpec { slots: (above != Above::Cut).then(|| Rc::clone(&self.slots)), ..VariantsSpec::default() };
        let mut pending = Pending::scan(table, scope, variants);
        let whole = DFSchema::try_from_qualified_schema(scan.table_name.clone(), table.sql_schema()).map_err(|e| self.internal(e))?;
        for condition in &scan.filters {
            for condition in split_conjunction(condition) {
                let condition = self.rebase(condition, &whole, &pending.columns)?;
                self.add_condition(&mut pending, condition)?;
            }
        }
        if let Some(projection) = &scan.projection {
            pending.columns = projection.iter().map(|index| pending.columns[*index].clone()).collect();
        }
        Ok(pending)
    }

    fn projection(&self, node: &Projection, above: Above) -> Lowered<Pending> {
        let input = self.lower(&node.input, above)?;
        let (mut input, exprs) = self.attach_subqueries(input, &node.expr)?;
        let columns = exprs.iter().map(|expr| self.rebase(expr, node.input.schema(), &input.columns)).collect::<Lowered<Vec<_>>>()?;
        for column in &columns {
            self.refuse_now(column)?;
        }
        input.columns = columns;
        Ok(input)
    }

    fn filter(&self, node: &Filter, above: Above) -> Lowered<Pending> {
        let input = self.lower(&node.input, above)?;
        let shown = input.columns.len();
        let (mut input, predicate) = self.attach_subqueries(input, std::slice::from_ref(&node.predicate))?;
        for condition in predicate.iter().flat_map(split_conjunction) {
            let condition = self.rebase(condition, node.input.schema(), &input.columns)?;
            self.add_condition(&mut input, condition)?;
        }
        input.columns.truncate(shown);
        Ok(input)
    }

    /// Adds a condition on the base of a relation; on its window where it compares a time with `now()`.
    pub(crate) fn add_condition(&self, pending: &mut Pending, condition: Expr) -> Lowered<()> {
        if !window::depends_on_now(&condition) {
            pending.filter.push(condition);
            return Ok(());
        }
        let Base::Scan { table, window, .. } = &mut pending.base else {
            return self.refuse_now(&condition);
        };
        let Some((column, time, edge)) = window::edge(&condition) else { return self.refuse_now(&condition) };
        let name = table.columns[column].name;
        if !matches!(table.columns[column].sql_type, DataType::Timestamp(_, _)) {
            return self.refuse(name, format!("{name} is no time that can be compared with now()"));
        }
        let is_event_time = table.kind == TableKind::Appended && name != "received";
        let spec = window.get_or_insert(WindowSpec { time, column, lower_ms: 0, upper_ms: 0, lateness_ms: is_event_time.then_some(0) });
        if spec.column != column {
            let first = table.columns[spec.column].name;
            return self.refuse(name, format!("{first} and {name} are both compared with now(); a table has one window: compare one of them"));
        }
        match edge {
            Edge::Youngest(0) => return self.refuse(name, format!("no {name} is later than now(): write {name} > now() - INTERVAL '5 minutes'")),
            Edge::Youngest(age) => spec.lower_ms = if spec.lower_ms == 0 { age } else { spec.lower_ms.min(age) },
            Edge::Oldest(age) => spec.upper_ms = spec.upper_ms.max(age),
            Edge::Always => {}
        }
        Ok(())
    }

    /// `now()` outside of a window changes with every tick, for every row.
    pub(crate) fn refuse_now(&self, expr: &Expr) -> Lowered<()> {
        let mut name = None;
        let applied = expr.apply(|e| {
            if let Some(found) = window::now_function(e) {
                name = Some(found.to_owned());
                return Ok(TreeNodeRecursion::Stop);
            }
            Ok(TreeNodeRecursion::Continue)
        });
        applied.map_err(|e| self.internal(e))?;
        match name {
            None => Ok(()),
            Some(name) => self.refuse(
                &name,
                format!(
                    "{name}() is another time at every tick and may stand only in a condition of WHERE that compares received or timestamp with \
                     now() - INTERVAL '…', beside others with AND: write received > now() - INTERVAL '5 minutes'"
                ),
            ),
        }
    }

    /// An expression over a node's columns as one over its base.
    pub(crate) fn rebase(&self, expr: &Expr, schema: &DFSchema, columns: &[Expr]) -> Lowered<Expr> {
        self.refuse_parts(expr)?;
        over_base(expr.clone(), schema, columns).map_err(|e| self.internal(e))
    }

    fn refuse_parts(&self, expr: &Expr) -> Lowered<()> {
        let mut found: Option<(String, String)> = None;
        let applied = expr.apply(|e| {
            let refused = match e {
                Expr::ScalarFunction(call) if call.func.signature().volatility == Volatility::Volatile => Some((
                    call.func.name().to_owned(),
                    format!(
                        "{}() has another value each time it is asked, so an answer with it could never be kept up to date; leave it out",
                        call.func.name()
                    ),
                )),
                Expr::Exists(_) => {
                    Some(("exists".to_owned(), "this EXISTS cannot be turned into a join; compare with = in it, beside WHERE and AND alone".to_owned()))
                }
                Expr::InSubquery(_) => {
                    Some(("in".to_owned(), "this IN (SELECT …) cannot be turned into a join; write it in WHERE, beside others with AND".to_owned()))
                }
                Expr::SetComparison(_) => {
                    Some(("any".to_owned(), "ANY and ALL over a subquery are not maintained; write IN, EXISTS, or compare with min() or max()".to_owned()))
                }
                Expr::OuterReferenceColumn(_, c) => {
                    Some((c.name.clone(), format!("{} belongs to the outer query and this subquery cannot be turned into a join; write the join out", c.name)))
                }
                Expr::WindowFunction(call) => Some((
                    call.fun.name().to_owned(),
                    format!("{} OVER is not maintained here; row_number() OVER (PARTITION BY … ORDER BY …) <= k is", call.fun.name()),
                )),
                Expr::GroupingSet(_) => Some((
                    "grouping".to_owned(),
                    "GROUPING SETS, ROLLUP and CUBE are not maintained; write a query for each grouping with UNION ALL between them".to_owned(),
                )),
                Expr::Unnest(_) => Some(("unnest".to_owned(), "unnest makes several rows of one and is not maintained yet".to_owned())),
                Expr::Placeholder(p) => Some((p.id.clone(), "a subscription has no parameters; write the value itself".to_owned())),
                _ => None,
            };
            if refused.is_some() {
                found = refused;
                return Ok(TreeNodeRecursion::Stop);
            }
            Ok(TreeNodeRecursion::Continue)
        });
        applied.map_err(|e| self.internal(e))?;
        match found {
            Some((word, message)) => self.refuse(&word, message),
            None => Ok(()),
        }
    }

    /// Joins the answers of subqueries of one row to a relation, and puts columns in their places. They come after the columns
    /// of the relation.
    fn attach_subqueries(&self, input: Pending, exprs: &[Expr]) -> Lowered<(Pending, Vec<Expr>)> {
        let mut subqueries: Vec<Subquery> = Vec::new();
        for expr in exprs {
            let applied = expr.apply(|e| {
                if let Expr::ScalarSubquery(subquery) = e
                    && !subqueries.contains(subquery)
                {
                    subqueries.push(subquery.clone());
                }
                Ok(TreeNodeRecursion::Continue)
            });
            applied.map_err(|e| self.internal(e))?;
        }
        let mut input = input;
        let shown = input.columns.len();
        for subquery in &subqueries {
            input = self.attach(input, subquery)?;
        }
        let replaced = exprs.iter().map(|expr| {
            let replaced = expr.clone().transform(|e| match &e {
                Expr::ScalarSubquery(subquery) => {
                    let index = subqueries.iter().position(|known| known == subquery).unwrap_or_default();
                    Ok(Transformed::yes(col(format!("{ATTACHED}{}", shown + index))))
                }
                _ => Ok(Transformed::no(e)),
            });
            replaced.map(|replaced| replaced.data).map_err(|e| self.internal(e))
        });
        let replaced = replaced.collect::<Lowered<Vec<_>>>()?;
        Ok((input, replaced))
    }

    fn attach(&self, input: Pending, subquery: &Subquery) -> Lowered<Pending> {
        if !subquery.outer_ref_columns.is_empty() {
            return self.refuse("select", "this subquery depends on the outer query in a way that cannot be turned into a join; write the join out");
        }
        if !has_one_row(&subquery.subquery) {
            return self
                .refuse("select", "a subquery that stands for a value must have one row whatever the tables hold: an aggregate without GROUP BY, or LIMIT 1");
        }
        let value = self.ready(self.lower(&subquery.subquery, Above::Cut)?)?;
        let mut value = value;
        value.restore_params(&self.slots);
        let columns = value.columns.clone();
        let right = value.build(columns).map_err(|e| self.internal(e))?;
        let left = self.kept(input)?;
        let joined = joined(left.built.clone(), right, 0, JoinKind::Left);
        let width = left.built.width();
        let mut pending = left.over(joined);
        pending.columns.push(column(width));
        Ok(pending)
    }

    fn distinct(&self, input: &LogicalPlan, above: Above) -> Lowered<Pending> {
        let names: Vec<String> = input.schema().fields().iter().map(|field| field.name().clone()).collect();
        let mut input = self.ready(self.lower(input, self.below(above))?)?;
        input.extract_params(&self.slots).map_err(|e| self.internal(e))?;
        let mut columns: Vec<Expr> = input.params.iter().map(|param| param.expr.clone()).collect();
        let shown: Vec<usize> = input.columns.iter().map(|expr| place(&mut columns, expr)).collect();
        let (params, universal) = (input.params.clone(), input.universal);
        let built = input.build(columns).map_err(|e| self.internal(e))?;
        let schema = Arc::clone(&built.relation.schema);
        let text = built.text.clone();
        let distinct = Built::new(Node::Distinct(Box::new(built.relation)), schema, "distinct", &[&text]);
        let mut pending = Pending::node(distinct);
        pending.columns = shown.iter().map(|index| column(*index)).collect();
        pending.params = params.iter().enumerate().map(|(index, param)| param.over(column(index))).collect();
        pending.universal = universal;
        pending.key = Some(names.into_iter().zip(pending.columns.clone()).collect());
        Ok(pending)
    }

    fn distinct_on(&self, node: &DistinctOn, above: Above) -> Lowered<Pending> {
        let input = self.ready(self.lower(&node.input, self.below(above))?)?;
        let over = |exprs: &[Expr], input: &Pending| exprs.iter().map(|e| self.rebase(e, node.input.schema(), &input.columns)).collect::<Lowered<Vec<_>>>();
        let groups = over(&node.on_expr, &input)?;
        let shown = over(&node.select_expr, &input)?;
        let order = self.order(node.sort_expr.as_deref().unwrap_or_default(), node.input.schema(), &input)?;
        let names: Vec<String> = node.on_expr.iter().map(|e| e.schema_name().to_string()).collect();
        let mut input = input;
        input.columns = shown;
        input.order = order;
        self.top(input, &groups, Some(names), 0, 1)
    }

    fn union(&self, node: &Union) -> Lowered<Pending> {
        let mut inputs = Vec::new();
        for input in &node.inputs {
            let mut input = self.ready(self.lower(input, Above::Cut)?)?;
            input.restore_params(&self.slots);
            let columns = input.columns.clone();
            inputs.push(input.build(columns).map_err(|e| self.internal(e))?);
        }
        Ok(Pending::node(united(inputs)))
    }

    fn sort(&self, node: &Sort, above: Above) -> Lowered<Pending> {
        let mut input = self.lower(&node.input, self.below(above))?;
        input.order = self.order(&node.expr, node.input.schema(), &input)?;
        match node.fetch {
            Some(fetch) => self.top(input, &[], None, 0, fetch as u64),
            None => Ok(input),
        }
    }

    fn order(&self, exprs: &[SortExpr], schema: &DFSchema, input: &Pending) -> Lowered<Vec<Ordered>> {
        let ordered = exprs.iter().map(|sort| {
            let expr = self.rebase(&sort.expr, schema, &input.columns)?;
            self.refuse_now(&expr)?;
            Ok(Ordered { expr, descending: !sort.asc, nulls_first: sort.nulls_first })
        });
        ordered.collect()
    }

    fn limit(&self, node: &Limit, above: Above) -> Lowered<Pending> {
        let count = |expr: Option<&Expr>, what: &str| match expr {
            None => Ok(None),
            Some(Expr::Literal(ScalarValue::Int64(None), _)) => Ok(None),
            Some(Expr::Literal(ScalarValue::Int64(Some(n)), _)) if *n >= 0 => Ok(Some(*n as u64)),
            Some(_) => self.refuse(what, format!("{what} takes a number that is not negative")),
        };
        let skip = count(node.skip.as_deref(), "offset")?.unwrap_or(0);
        let fetch = count(node.fetch.as_deref(), "limit")?;
        let input = self.lower(&node.input, self.below(above))?;
        match fetch {
            None if skip == 0 => Ok(input),
            None => self.refuse("offset", "OFFSET without LIMIT keeps all rows but a few; add a LIMIT"),
            Some(_) if input.order.is_empty() => {
                self.refuse("limit", "LIMIT without ORDER BY keeps rows by chance; say which rows are first with ORDER BY, or leave LIMIT out")
            }
            Some(fetch) => self.top(input, &[], None, skip, fetch),
        }
    }

    /// The first rows of each group, in the order of the relation.
    fn top(&self, input: Pending, groups: &[Expr], names: Option<Vec<String>>, offset: u64, limit: u64) -> Lowered<Pending> {
        if limit > TOP_ROWS_MAX || offset > TOP_ROWS_MAX {
            return self.refuse("limit", format!("LIMIT and OFFSET are {TOP_ROWS_MAX} at most in a subscription"));
        }
        let (input, keys, order) = self.grouped(input, groups)?;
        let schema = Arc::clone(&input.built.relation.schema);
        let head = format!("top {limit} after {offset} of {keys} by {}", order_text(&order));
        let node = TopK { input: Box::new(input.built.relation.clone()), keys, order, offset, limit, numbered: false };
        let built = Built::new(Node::TopK(node), schema, &head, &[&input.built.text]);
        let group_columns: Vec<usize> = input.extra.clone();
        let mut pending = input.over(built);
        if let Some(names) = names {
            pending.key = Some(names.into_iter().zip(group_columns.iter().map(|index| column(*index))).collect());
        }
        Ok(pending)
    }

    /// A relation with what is carried and the groups as leading columns, and the columns of its order behind.
    fn grouped(&self, input: Pending, groups: &[Expr]) -> Lowered<(Kept, usize, Vec<Order>)> {
        let ordered = input.order.clone();
        let mut input = self.ready(input)?;
        input.extract_params(&self.slots).map_err(|e| self.internal(e))?;
        let mut columns: Vec<Expr> = input.params.iter().map(|param| param.expr.clone()).collect();
        let extra: Vec<usize> = groups.iter().map(|expr| place(&mut columns, expr)).collect();
        let keys = columns.len();
        let kept = self.keep(input, columns, extra, &ordered.iter().map(|o| o.expr.clone()).collect::<Vec<_>>())?;
        let order = ordered.iter().zip(&kept.behind).map(|(o, at)| Order { column: *at, descending: o.descending, nulls_first: o.nulls_first }).collect();
        Ok((kept, keys, order))
    }

    fn number_rows(&self, node: &Window, above: Above) -> Lowered<Pending> {
        let [Expr::WindowFunction(call)] = node.window_expr.iter().map(without_alias).collect::<Vec<_>>()[..] else {
            return self.refuse("over", "one function OVER (…) a SELECT is maintained: row_number()");
        };
        let name = call.fun.name().to_owned();
        if !matches!(&call.fun, WindowFunctionDefinition::WindowUDF(udf) if udf.name() == "row_number") {
            return self.refuse(
                &name,
                format!(
                    "{name}() OVER is not maintained: a new row could change the answer for all others. row_number() OVER (PARTITION BY … ORDER BY …) <= k is, \
                     and so are aggregates with GROUP BY, to which rows can be joined"
                ),
            );
        }
        let input = self.lower(&node.input, self.below(above))?;
        let schema = node.input.schema();
        let groups = call.params.partition_by.iter().map(|e| self.rebase(e, schema, &input.columns)).collect::<Lowered<Vec<_>>>()?;
        let names: Vec<String> = call.params.partition_by.iter().map(column_name).collect();
        let mut input = input;
        input.order = self.order(&call.params.order_by, schema, &input)?;
        if input.order.is_empty() {
            return self.refuse("row_number", "row_number() without ORDER BY numbers rows by chance; say which are first: OVER (PARTITION BY … ORDER BY …)");
        }
        let (kept, keys, order) = self.grouped(input, &groups)?;
        let width = kept.built.width();
        let group_columns = kept.extra.clone();
        let base = Base::Numbered { input: kept.built.clone(), keys, order };
        let mut pending = kept.over_base(base);
        pending.columns.push(column(width));
        pending.key = Some(names.into_iter().zip(group_columns.iter().map(|index| column(*index))).collect());
        Ok(pending)
    }

    fn values(&self, node: &Values) -> Lowered<Pending> {
        let types: Vec<DataType> = node.schema.fields().iter().map(|field| field.data_type().clone()).collect();
        let columns = types.iter().enumerate().map(|(index, data_type)| {
            let values = node.values.iter().map(|row| match without_alias(&row[index]) {
                Expr::Literal(value, _) => value.cast_to(data_type).map_err(|e| self.internal(e)),
                other => self.refuse("values", format!("{other} is no constant; VALUES in a subscription takes constants")),
            });
            ScalarValue::iter_to_array(values.collect::<Lowered<Vec<_>>>()?).map_err(|e| self.internal(e))
        });
        let columns = columns.collect::<Lowered<Vec<_>>>()?;
        let batch = RecordBatch::try_new(schema_of(types), columns).map_err(|e| self.internal(e.into()))?;
        Ok(Pending::node(Built::values(batch)))
    }

    /// A relation that can be built: numbered rows are cut, and windows are checked.
    pub(crate) fn ready(&self, mut pending: Pending) -> Lowered<Pending> {
        if !pending.cut_numbered() {
            return self
                .refuse("row_number", "row_number() must be bounded, so that few rows need to be kept: add a condition such as r <= 3 or r = 1 around it");
        }
        if let Base::Scan { table, window, .. } = &mut pending.base {
            if let Some(spec) = window {
                self.check_window(table.name, table.columns[spec.column].name, spec)?;
            }
            if table.kind == TableKind::Appended && window.is_none() {
                return self.refuse(
                    table.name,
                    format!("{} has no window: it would have to be kept for ever. Add a condition such as received > now() - INTERVAL '5 minutes' (1 second to 24 hours)", table.name),
                );
            }
        }
        Ok(pending)
    }

    fn check_window(&self, table: &str, column: &str, spec: &mut WindowSpec) -> Lowered<()> {
        if spec.lower_ms == 0 {
            return self.refuse(column, format!("the window of {table} has no beginning: add {column} > now() - INTERVAL '5 minutes'"));
        }
        if spec.lower_ms <= spec.upper_ms {
            return self.refuse(column, format!("the window of {table} ends before it begins: the condition with > needs the longer interval"));
        }
        let width = spec.width_ms();
        if !(window::WINDOW_MS_MIN..=window::WINDOW_MS_MAX).contains(&width) {
            return self.refuse("interval", format!("the window of {table} is {:.3} s long; windows are 1 second to 24 hours long", width as f64 / 1000.0));
        }
        if spec.lower_ms > window::WINDOW_AGE_MS_MAX {
            return self.refuse("interval", format!("the window of {table} begins more than two years ago"));
        }
        if spec.lateness_ms.is_some() {
            spec.lateness_ms = Some(self.lateness_ms.unwrap_or(width));
        }
        Ok(())
    }

    /// A relation with all that its parent must keep of it: what is carried, its columns, and its alert's key.
    pub(crate) fn kept(&self, input: Pending) -> Lowered<Kept> {
        let mut input = self.ready(input)?;
        input.extract_params(&self.slots).map_err(|e| self.internal(e))?;
        self.keep(input, Vec::new(), Vec::new(), &[])
    }

    /// The same with columns in front and others behind.
    pub(crate) fn keep(&self, input: Pending, mut columns: Vec<Expr>, extra: Vec<usize>, behind: &[Expr]) -> Lowered<Kept> {
        let shown = input.columns.iter().map(|expr| place(&mut columns, expr)).collect();
        let params = input.params.iter().map(|param| param.over(place(&mut columns, &param.expr))).collect();
        let key = input.key.as_ref().map(|key| key.iter().map(|(name, expr)| (name.clone(), place(&mut columns, expr))).collect());
        let behind = behind.iter().map(|expr| place(&mut columns, expr)).collect();
        let universal = input.universal;
        let built = input.build(columns).map_err(|e| self.internal(e))?;
        Ok(Kept { built, shown, params, key, extra, behind, universal })
    }
}

/// A node, and where in its columns what was kept is.
pub(crate) struct Kept {
    pub(crate) built: Built,
    /// The columns of the plan's node.
    pub(crate) shown: Vec<usize>,
    pub(crate) params: Vec<Param<usize>>,
    pub(crate) key: Option<Vec<(String, usize)>>,
    /// Columns of groups.
    pub(crate) extra: Vec<usize>,
    /// Columns of an order.
    pub(crate) behind: Vec<usize>,
    /// See [`Pending::universal`].
    pub(crate) universal: bool,
}

impl Kept {
    /// The same over a node whose first columns are those of this one.
    pub(crate) fn over(self, built: Built) -> Pending {
        self.over_base(Base::Node(built))
    }

    fn over_base(self, base: Base) -> Pending {
        Pending {
            base,
            filter: Vec::new(),
            columns: self.shown.into_iter().map(column).collect(),
            params: self.params.iter().map(|param| param.over(column(param.expr))).collect(),
            key: self.key.map(|key| key.into_iter().map(|(name, index)| (name, column(index))).collect()),
            order: Vec::new(),
            universal: self.universal,
        }
    }
}

/// Names of columns that stand for subqueries begin with this, which no name in SQL can.
const ATTACHED: &str = "\0attached ";

/// An expression over a node's columns as one over its base, without aliases.
fn over_base(expr: Expr, schema: &DFSchema, columns: &[Expr]) -> Result<Expr, DataFusionError> {
    match expr {
        Expr::Alias(alias) => over_base(*alias.expr, schema, columns),
        Expr::Column(c) => {
            let index = match c.name.strip_prefix(ATTACHED) {
                Some(number) if c.relation.is_none() => {
                    number.parse().map_err(|_| DataFusionError::Internal("an attached column without a number".to_owned()))?
                }
                _ => schema.index_of_column(&c)?,
            };
            columns.get(index).cloned().ok_or_else(|| DataFusionError::Internal(format!("there is no column {index}")))
        }
        other => Ok(other.map_children(|child| over_base(child, schema, columns).map(Transformed::yes))?.data),
    }
}

/// Where an expression is among others; it is added where it is not.
pub(crate) fn place(columns: &mut Vec<Expr>, expr: &Expr) -> usize {
    columns.iter().position(|known| known == expr).unwrap_or_else(|| {
        columns.push(expr.clone());
        columns.len() - 1
    })
}

/// A join of two nodes.
pub(crate) fn joined(left: Built, right: Built, keys: usize, kind: JoinKind) -> Built {
    let types = |built: &Built| built.relation.schema.fields().iter().map(|field| field.data_type().clone()).collect::<Vec<_>>();
    let schema = match kind {
        JoinKind::Inner | JoinKind::Left => schema_of(types(&left).into_iter().chain(types(&right))),
        JoinKind::Semi | JoinKind::Anti => schema_of(types(&left)),
    };
    let head = format!("join {kind:?} on {keys}");
    let node = Join { left: Box::new(left.relation), right: Box::new(right.relation), keys, kind };
    Built::new(Node::Join(node), schema, &head, &[&left.text, &right.text])
}

/// The rows of all.
pub(crate) fn united(inputs: Vec<Built>) -> Built {
    let schema = inputs.first().map_or_else(|| schema_of([]), |first| Arc::clone(&first.relation.schema));
    let texts: Vec<String> = inputs.iter().map(|input| input.text.clone()).collect();
    let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
    Built::new(Node::Union(inputs.into_iter().map(|input| input.relation).collect()), schema, "union", &texts)
}

pub(crate) fn without_alias(expr: &Expr) -> &Expr {
    match expr {
        Expr::Alias(alias) => without_alias(&alias.expr),
        other => other,
    }
}

/// What a grouping expression is called in an alert's key.
pub(crate) fn column_name(expr: &Expr) -> String {
    match expr {
        Expr::Column(column) => column.name.clone(),
        Expr::Alias(alias) => alias.name.clone(),
        other => other.schema_name().to_string(),
    }
}

/// Whether a plan has at most one row whatever the tables hold.
fn has_one_row(plan: &LogicalPlan) -> bool {
    match plan {
        LogicalPlan::Projection(node) => has_one_row(&node.input),
        LogicalPlan::Filter(node) => has_one_row(&node.input),
        LogicalPlan::SubqueryAlias(node) => has_one_row(&node.input),
        LogicalPlan::Aggregate(node) => node.group_expr.is_empty(),
        LogicalPlan::Limit(node) => node.fetch.as_deref() == Some(&lit(1i64)) || node.fetch.as_deref() == Some(&lit(0i64)),
        _ => false,
    }
}
