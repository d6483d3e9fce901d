//! From a subscription to the template that it shares and its own constants.
//!
//! What stands below the outermost grouping and compares with `=` becomes the parameter key, by which the relation is grouped as
//! well; constants above it become columns behind the relation's. All that remains is the shape: subscriptions of one shape have
//! the same text, and its digest names the template.

use std::collections::BTreeSet;
use std::rc::Rc;
use std::sync::Arc;

use datafusion::arrow::array::{ArrayRef, RecordBatch, RecordBatchOptions};
use datafusion::arrow::datatypes::{Field, Schema, SchemaRef};
use datafusion::common::tree_node::Transformed;
use datafusion::common::tree_node::TreeNode;
use datafusion::common::{DFSchema, ScalarValue};
use datafusion::error::DataFusionError;
use datafusion::logical_expr::expr::{InList, Like};
use datafusion::logical_expr::utils::{conjunction, disjunction};
use datafusion::logical_expr::{Between, BinaryExpr, Expr, ExprSchemable, LogicalPlan, Operator, lit};
use weir_operators::relation::plan::Expression;
use weir_operators::relation::template::{Finish, Parameters, Template};
use weir_protocol::subscription::{SubscriptionId, SubscriptionOptions};

use super::evaluate::physical;
use super::lower::{Above, Lowered, Lowering, place};
use super::pending::{Base, Built, Pending, column, df_schema, expr_text, exprs_text, is_portable, literal, position, value_text};
use super::planner::Planner;
use super::project;
use super::refusal::Refusal;
use super::slots::{Sharing, Slots};
use crate::scope::Scope;

/// The digest of all that subscriptions of one shape have in common.
pub type Shape = [u8; 32];

/// A subscription that the graph can run.
#[derive(Debug, Clone)]
pub struct CompiledQuery {
    /// Which template it shares.
    pub shape: Shape,
    /// The template.
    pub template: Arc<Template>,
    /// The key and the constants.
    pub key: RecordBatch,
    /// See [`Parameters::constants`].
    pub constants: RecordBatch,
    /// What the template does, a line a node.
    pub text: Arc<str>,
}

impl CompiledQuery {
    /// The parameters under a number.
    pub fn parameters(&self, subscription: SubscriptionId) -> Parameters {
        Parameters { subscription, key: self.key.clone(), constants: self.constants.clone() }
    }
}

/// Compiles a query; `sql` is its text, in which refusals point. Queries that differ in their literals alone are planned a few
/// times, and known from then on.
pub(crate) fn compile(planner: &Planner, scope: &Scope, sql: &str, options: &SubscriptionOptions) -> Lowered<CompiledQuery> {
    planner.known.compile(scope, sql, options, |sql, options| planned(planner, scope, sql, options))
}

/// Compiles a query by planning it.
pub(crate) fn planned(planner: &Planner, scope: &Scope, sql: &str, options: &SubscriptionOptions) -> Lowered<CompiledQuery> {
    let plan = planner.plan(sql)?;
    match lowered(planner, scope, sql, options, &plan, Sharing::Wide)? {
        Some(compiled) => Ok(compiled),
        None => sole(lowered(planner, scope, sql, options, &plan, Sharing::Narrow)?),
    }
}

/// Compiles a query with its constants in it: its template is shared by nobody.
#[cfg(test)]
pub(crate) fn inlined(planner: &Planner, scope: &Scope, sql: &str, options: &SubscriptionOptions) -> Lowered<CompiledQuery> {
    let plan = planner.plan(sql)?;
    sole(lowered(planner, scope, sql, options, &plan, Sharing::None)?)
}

fn sole(compiled: Option<CompiledQuery>) -> Lowered<CompiledQuery> {
    compiled.ok_or_else(|| Refusal::new("the constants of the query are lost on their way; write the condition that has them beside others with AND"))
}

/// Lowers a plan and finishes it; `None` where it cannot be with as many constants as parameters.
fn lowered(planner: &Planner, scope: &Scope, sql: &str, options: &SubscriptionOptions, plan: &LogicalPlan, sharing: Sharing) -> Lowered<Option<CompiledQuery>> {
    let slots = Rc::new(Slots::new(sharing));
    let lowering = Lowering { sql, scope, lateness_ms: options.lateness_ms, slots: Rc::clone(&slots) };
    let pending = lowering.ready(lowering.lower(plan, Above::Root)?)?;
    if !pending.order.is_empty() {
        return lowering.refuse(
            "order",
            "rows of a subscription have no order, so ORDER BY says nothing without LIMIT; leave it out, or add LIMIT to keep the first rows",
        );
    }
    let answer = answer_schema(&lowering, plan)?;
    let mut parts = Parts::of(pending, &slots).map_err(|e| lowering.internal(e))?;
    match slots.placed(&parts.relation.relation, &parts.slots) {
        Some(placed) if !slots.are_lost() => parts.relation.relation = placed,
        _ => return Ok(None),
    }
    let conditions = Conditions::parse(planner, options, &answer, &parts.columns)?;
    let project = project::column_of(plan);
    finish(planner, parts, conditions, answer, project, slots.inlines()).map(Some).map_err(|e| lowering.internal(e))
}

/// The columns of the answer, each name once.
fn answer_schema(lowering: &Lowering<'_>, plan: &LogicalPlan) -> Lowered<SchemaRef> {
    let mut fields: Vec<Field> = Vec::new();
    for field in plan.schema().fields() {
        if fields.iter().any(|known| known.name() == field.name()) {
            return lowering.refuse(field.name(), format!("the answer has two columns called {}; give one another name with AS", field.name()));
        }
        fields.push(Field::new(field.name(), field.data_type().clone(), true));
    }
    Ok(Arc::new(Schema::new(fields)))
}

/// The relation that is maintained, and what stands above it.
struct Parts {
    relation: Built,
    params: Vec<ScalarValue>,
    /// The numbers of the constants in the parameter key.
    slots: Vec<usize>,
    /// The answer over the relation.
    columns: Vec<Expr>,
    key: Option<Vec<(String, Expr)>>,
    fires: Vec<Expr>,
}

impl Parts {
    fn of(mut pending: Pending, slots: &Slots) -> Result<Self, DataFusionError> {
        if pending.key.is_none() {
            // Rows as they are: what they must meet is a part of what is maintained.
            pending.extract_params(slots)?;
            let mut columns: Vec<Expr> = pending.params.iter().map(|param| param.expr.clone()).collect();
            let (carried, shown) = (columns.len(), pending.columns.len());
            let (params, slots) = pending.params.iter().map(|param| (param.value.clone(), param.slot)).unzip();
            columns.extend(pending.columns.iter().cloned());
            let relation = pending.build(columns)?;
            let columns = (carried..carried + shown).map(column).collect();
            return Ok(Self { relation, params, slots, columns, key: None, fires: Vec::new() });
        }
        let leads = pending.params.iter().enumerate().all(|(index, param)| param.expr == column(index));
        match pending.base {
            // The groups with and without what fires them.
            Base::Node(relation) if leads => {
                let (params, slots) = pending.params.into_iter().map(|param| (param.value, param.slot)).unzip();
                Ok(Self { relation, params, slots, columns: pending.columns, key: pending.key, fires: pending.filter })
            }
            _ => Self::rearranged(pending),
        }
    }

    /// The same where the parameter key must be moved to the front.
    fn rearranged(mut pending: Pending) -> Result<Self, DataFusionError> {
        let fires = std::mem::take(&mut pending.filter);
        let mut columns: Vec<Expr> = pending.params.iter().map(|param| param.expr.clone()).collect();
        let (params, slots) = pending.params.iter().map(|param| (param.value.clone(), param.slot)).unzip();
        let width = pending.base.schema().fields().len();
        let places: Vec<usize> = (0..width).map(|index| place(&mut columns, &column(index))).collect();
        let move_to = |expr: Expr| -> Result<Expr, DataFusionError> {
            let moved = expr.transform(|e| match position(&e) {
                Some(index) => Ok(Transformed::yes(column(places[index]))),
                None => Ok(Transformed::no(e)),
            });
            moved.map(|moved| moved.data)
        };
        let shown = std::mem::take(&mut pending.columns).into_iter().map(move_to).collect::<Result<Vec<_>, _>>()?;
        let fires = fires.into_iter().map(move_to).collect::<Result<Vec<_>, _>>()?;
        let key = pending.key.take().map(|key| key.into_iter().map(|(name, expr)| Ok((name, move_to(expr)?))).collect::<Result<Vec<_>, DataFusionError>>());
        let relation = pending.build(columns)?;
        Ok(Self { relation, params, slots, columns: shown, key: key.transpose()?, fires })
    }
}

/// What is given beside the query.
struct Conditions {
    resolve_when: Option<Expr>,
    escalate_when: Option<Expr>,
}

impl Conditions {
    /// Conditions over the answer as conditions over the relation.
    fn parse(planner: &Planner, options: &SubscriptionOptions, answer: &SchemaRef, columns: &[Expr]) -> Lowered<Self> {
        let names = DFSchema::try_from(Arc::clone(answer)).map_err(|e| Refusal::new(e.to_string()))?;
        let parse = |what: &str, sql: Option<&String>| -> Lowered<Option<Expr>> {
            let Some(sql) = sql else { return Ok(None) };
            let refused = |message: String| Refusal::new(format!("{what} = '{sql}': {message}"));
            let expr = planner.condition(what, sql, &names)?;
            let lowering = Lowering {
                sql,
                scope: &Scope { org_id: 0, projects: None, name: String::new() },
                lateness_ms: None,
                slots: Rc::new(Slots::new(Sharing::Narrow)),
            };
            let over = lowering.rebase(&expr, &names, columns).map_err(|refusal| refused(refusal.message))?;
            lowering.refuse_now(&over).map_err(|refusal| refused(refusal.message))?;
            Ok(Some(over))
        };
        Ok(Self { resolve_when: parse("resolve_when", options.resolve_when.as_ref())?, escalate_when: parse("escalate_when", options.escalate_when.as_ref())? })
    }
}

fn finish(
    planner: &Planner,
    parts: Parts,
    conditions: Conditions,
    answer: SchemaRef,
    project: Option<usize>,
    inlines: bool,
) -> Result<CompiledQuery, DataFusionError> {
    let width = parts.relation.width();
    let mut constants = Constants { first: width, values: Vec::new(), inlines };
    let relation_schema = df_schema(&parts.relation.relation.schema)?;
    let typed = |exprs: &[Expr]| -> Result<Vec<Expr>, DataFusionError> {
        let fields = exprs.iter().zip(answer.fields());
        fields
            .map(|(expr, field)| {
                Ok(if expr.get_type(&relation_schema)? == *field.data_type() {
                    expr.clone()
                } else {
                    expr.clone().cast_to(field.data_type(), &relation_schema)?
                })
            })
            .collect()
    };
    let columns: Vec<Expr> = typed(&parts.columns)?;
    // A key is called what the answer calls it, if the answer shows it.
    let key: Vec<(String, Expr)> = match parts.key {
        None => answer.fields().iter().map(|field| field.name().clone()).zip(columns.clone()).collect(),
        Some(key) => key
            .into_iter()
            .map(|(name, expr)| (parts.columns.iter().position(|shown| *shown == expr).map_or(name, |index| answer.field(index).name().clone()), expr))
            .collect(),
    };
    let key = named_apart(key);
    let mut fires = parts.fires;
    fires.sort_by_cached_key(expr_text);
    fires.dedup();
    let fires = conjunction(fires).unwrap_or_else(|| lit(true));
    let columns = columns.into_iter().map(|expr| constants.pull(expr)).collect::<Result<Vec<_>, _>>()?;
    let key = key.into_iter().map(|(name, expr)| Ok((name, constants.pull(expr)?))).collect::<Result<Vec<_>, DataFusionError>>()?;
    let fires = constants.pull_condition(fires)?;
    // Neither a condition that is not known to be true resolves, nor does it escalate.
    let holds = conditions.resolve_when.map(|expr| constants.pull_condition(expr)).transpose()?.map(Expr::is_not_true);
    let escalates = conditions.escalate_when.map(|expr| constants.pull_condition(expr)).transpose()?.map(Expr::is_true);

    let constants_schema: SchemaRef = Arc::new(Schema::new(
        constants.values.iter().enumerate().map(|(index, value)| Field::new(format!("c{}", width + index), value.data_type(), true)).collect::<Vec<_>>(),
    ));
    let both = Arc::new(Schema::new(parts.relation.relation.schema.fields().iter().chain(constants_schema.fields()).cloned().collect::<Vec<_>>()));
    let both = df_schema(&both)?;
    let key_fields = key.iter().map(|(name, expr)| Ok(Field::new(name, expr.get_type(&both)?, true))).collect::<Result<Vec<_>, DataFusionError>>()?;
    let key_exprs: Vec<Expr> = key.into_iter().map(|(_, expr)| expr).collect();
    let parameter_keys = parts.params.len();

    let text = Text {
        answer: &answer,
        columns: &columns,
        key_fields: &key_fields,
        key: &key_exprs,
        fires: &fires,
        holds: holds.as_ref(),
        escalates: escalates.as_ref(),
        project,
    };
    let text: Arc<str> = text.whole(parameter_keys, &constants_schema, &parts.relation.text).into();
    let shape = *blake3::hash(text.as_bytes()).as_bytes();
    let key_schema: SchemaRef = Arc::new(Schema::new(parts.relation.relation.schema.fields()[..parameter_keys].to_vec()));
    let (key, constants_row) = (one_row(key_schema, &parts.params)?, one_row(Arc::clone(&constants_schema), &constants.values)?);
    let physicals = |exprs: &[Expr]| exprs.iter().map(|expr| physical(expr, &both)).collect::<Result<Vec<Expression>, _>>();
    let finish = || -> Result<Finish, DataFusionError> {
        Ok(Finish {
            columns: physicals(&columns)?,
            schema: Arc::clone(&answer),
            key: physicals(&key_exprs)?,
            key_schema: Arc::new(Schema::new(key_fields.clone())),
            fires: physical(&fires, &both)?,
            holds: holds.as_ref().map(|expr| physical(expr, &both)).transpose()?,
            escalates: escalates.as_ref().map(|expr| physical(expr, &both)).transpose()?,
            project,
        })
    };
    let relation = parts.relation.relation;
    let template = planner.template(shape, || Ok(Template { relation, parameter_keys, constants: constants_schema, finish: finish()? }))?;
    Ok(CompiledQuery { shape, template, key, constants: constants_row, text })
}

/// Keys with a name each: joined groupings may have columns of one name, and alerts are told apart by the key as a JSON object.
fn named_apart(key: Vec<(String, Expr)>) -> Vec<(String, Expr)> {
    let mut names: BTreeSet<String> = key.iter().map(|(name, _)| name.clone()).collect();
    let mut seen = BTreeSet::new();
    let mut apart = Vec::with_capacity(key.len());
    for (name, expr) in key {
        let mut own = name.clone();
        let mut number = 2;
        while seen.contains(&own) || (own != name && names.contains(&own)) {
            own = format!("{name}_{number}");
            number += 1;
        }
        names.insert(own.clone());
        seen.insert(own.clone());
        apart.push((own, expr));
    }
    apart
}

/// A batch of one row, which may have no columns.
pub(crate) fn one_row(schema: SchemaRef, values: &[ScalarValue]) -> Result<RecordBatch, DataFusionError> {
    let columns = values.iter().map(ScalarValue::to_array).collect::<Result<Vec<ArrayRef>, _>>()?;
    Ok(RecordBatch::try_new_with_options(schema, columns, &RecordBatchOptions::new().with_row_count(Some(1)))?)
}

/// Takes constants out of expressions above the relation.
struct Constants {
    /// The position of the first behind the relation's columns.
    first: usize,
    values: Vec<ScalarValue>,
    /// Whether they stay where they are.
    inlines: bool,
}

/// Longer lists keep their constants.
const LIST_MAX: usize = 16;

impl Constants {
    /// A column in place of a literal.
    fn place(&mut self, value: ScalarValue) -> Expr {
        self.values.push(value);
        column(self.first + self.values.len() - 1)
    }

    /// An expression with columns in place of the literals that are compared or calculated with, or that it is itself. Others,
    /// such as the arguments of functions, may decide types and stay.
    fn pull(&mut self, expr: Expr) -> Result<Expr, DataFusionError> {
        if let Some(value) = pulled(&expr).filter(|_| !self.inlines) {
            return Ok(self.place(value));
        }
        self.pull_condition(expr)
    }

    fn pull_condition(&mut self, expr: Expr) -> Result<Expr, DataFusionError> {
        match expr {
            Expr::BinaryExpr(BinaryExpr { left, op, right }) if is_calculation(op) => {
                let left = self.pull(*left)?;
                let right = self.pull(*right)?;
                Ok(Expr::BinaryExpr(BinaryExpr::new(Box::new(left), op, Box::new(right))))
            }
            Expr::Between(between) => {
                let expr = Box::new(self.pull_condition(*between.expr)?);
                let (low, high) = (Box::new(self.pull(*between.low)?), Box::new(self.pull(*between.high)?));
                Ok(Expr::Between(Between { expr, low, high, ..between }))
            }
            Expr::Like(like) => {
                let expr = Box::new(self.pull_condition(*like.expr)?);
                Ok(Expr::Like(Like { expr, pattern: Box::new(self.pull(*like.pattern)?), ..like }))
            }
            Expr::InList(InList { expr, list, negated }) if !self.inlines && list.len() <= LIST_MAX && list.iter().all(|e| pulled(e).is_some()) => {
                let expr = self.pull_condition(*expr)?;
                let op = if negated { Operator::NotEq } else { Operator::Eq };
                let each = list.into_iter().map(|value| Ok(Expr::BinaryExpr(BinaryExpr::new(Box::new(expr.clone()), op, Box::new(self.pull(value)?)))));
                let each = each.collect::<Result<Vec<_>, DataFusionError>>()?;
                let whole = if negated { conjunction(each) } else { disjunction(each) };
                Ok(whole.unwrap_or_else(|| lit(negated)))
            }
            other => Ok(other.map_children(|child| self.pull_condition(child).map(Transformed::yes))?.data),
        }
    }
}

fn pulled(expr: &Expr) -> Option<ScalarValue> {
    literal(expr).filter(|value| is_portable(&value.data_type())).cloned()
}

fn is_calculation(op: Operator) -> bool {
    use Operator::{Divide, Eq, Gt, GtEq, Lt, LtEq, Minus, Modulo, Multiply, NotEq, Plus};
    matches!(op, Eq | NotEq | Lt | LtEq | Gt | GtEq | Plus | Minus | Multiply | Divide | Modulo)
}

/// The text of a shape.
struct Text<'a> {
    answer: &'a Schema,
    columns: &'a [Expr],
    key_fields: &'a [Field],
    key: &'a [Expr],
    fires: &'a Expr,
    holds: Option<&'a Expr>,
    escalates: Option<&'a Expr>,
    project: Option<usize>,
}

impl Text<'_> {
    fn whole(&self, parameter_keys: usize, constants: &Schema, relation: &str) -> String {
        let names = |fields: &mut dyn Iterator<Item = &Field>| fields.map(|f| format!("{:?} {}", f.name(), f.data_type())).collect::<Vec<_>>().join(", ");
        let optional = |expr: Option<&Expr>| expr.map_or("-".to_owned(), expr_text);
        let project = self.project.map_or_else(String::new, |column| format!("project column {column}\n"));
        format!(
            "{project}answer {} = {}\nkey {} = {}\nfires {}\nholds {}\nescalates {}\nconstants {}\nparameters {parameter_keys}\n{relation}",
            names(&mut self.answer.fields().iter().map(AsRef::as_ref)),
            exprs_text(self.columns),
            names(&mut self.key_fields.iter()),
            exprs_text(self.key),
            expr_text(self.fires),
            optional(self.holds),
            optional(self.escalates),
            constants.fields().iter().map(|f| f.data_type().to_string()).collect::<Vec<_>>().join(", "),
        )
    }
}

/// Constants and the parameter key as text, for EXPLAIN.
pub(crate) fn values_text(batch: &RecordBatch) -> String {
    let values = batch.columns().iter().map(|column| ScalarValue::try_from_array(column, 0).map_or_else(|e| e.to_string(), |value| value_text(&value)));
    let values = values.collect::<Vec<_>>();
    if values.is_empty() { "none".to_owned() } else { values.join(", ") }
}
