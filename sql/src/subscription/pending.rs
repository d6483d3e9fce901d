//! A relation that is still taking filters and projections, and the node that becomes of it.
//!
//! Expressions are logical ones over the columns of a base, named by their positions: `c0`, `c1` … So two queries that differ in
//! names and aliases alone have the same text, and the text is what tells shapes apart.

use std::collections::BTreeSet;
use std::sync::Arc;

use datafusion::arrow::array::RecordBatch;
use datafusion::arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use datafusion::common::tree_node::{Transformed, TreeNode, TreeNodeRecursion};
use datafusion::common::{Column, DFSchema, ScalarValue};
use datafusion::error::DataFusionError;
use datafusion::logical_expr::{BinaryExpr, Expr, ExprSchemable, Operator};
use weir_operators::relation::plan::{Map, Node, Order, Relation, Scan, TopK, Window};
use weir_operators::schema::Table;

use super::evaluate::physical;
use super::slots::{Param, Slots};
use super::variants::VariantsSpec;
use super::window::WindowSpec;
use crate::hex_id::hex_id;

type Result<T> = std::result::Result<T, DataFusionError>;

/// A node with its text.
#[derive(Debug, Clone)]
pub(crate) struct Built {
    pub(crate) relation: Relation,
    pub(crate) text: String,
}

impl Built {
    /// How many columns it has.
    pub(crate) fn width(&self) -> usize {
        self.relation.schema.fields().len()
    }

    /// A node over others.
    pub(crate) fn new(node: Node, schema: SchemaRef, head: &str, inputs: &[&str]) -> Self {
        let mut text = format!("{head} -> {}", types_text(&schema));
        for input in inputs {
            text.push_str("\n  ");
            text.push_str(&input.replace('\n', "\n  "));
        }
        Self { relation: Relation { node, schema }, text }
    }

    /// Rows that are always there.
    pub(crate) fn values(batch: RecordBatch) -> Self {
        let rows = (0..batch.num_rows())
            .map(|row| {
                batch.columns().iter().map(|c| ScalarValue::try_from_array(c, row).map(|v| value_text(&v)).unwrap_or_default()).collect::<Vec<_>>().join(",")
            })
            .collect::<Vec<_>>();
        let schema = batch.schema();
        Self::new(Node::Values(batch), schema, &format!("values {}", rows.join(";")), &[])
    }
}

/// What expressions stand on.
#[derive(Debug, Clone)]
pub(crate) enum Base {
    /// A table; `c{n}` is its n-th column as it is stored. Behind these stand the constants of its variants.
    Scan {
        table: &'static Table,
        window: Option<WindowSpec>,
        /// What every row must meet, whatever the query says.
        scope: Vec<Expr>,
        variants: VariantsSpec,
    },
    /// A node.
    Node(Built),
    /// Rows with their number in each group, of which the first are kept: as many as the filters say.
    Numbered { input: Built, keys: usize, order: Vec<Order> },
}

/// A column to order by.
#[derive(Debug, Clone)]
pub(crate) struct Ordered {
    pub(crate) expr: Expr,
    pub(crate) descending: bool,
    pub(crate) nulls_first: bool,
}

/// See the module.
#[derive(Debug, Clone)]
pub(crate) struct Pending {
    pub(crate) base: Base,
    /// What rows of the base must meet.
    pub(crate) filter: Vec<Expr>,
    /// Columns of the plan's node.
    pub(crate) columns: Vec<Expr>,
    /// Conditions `expression = literal` that are to be met as well: they are carried upwards to become the parameter key.
    pub(crate) params: Vec<Param<Expr>>,
    /// What tells alerts apart, with names; `None` for the whole row.
    pub(crate) key: Option<Vec<(String, Expr)>>,
    /// The order of the rows.
    pub(crate) order: Vec<Ordered>,
    /// Whether there are rows for each parameter key that is asked for, and for no others.
    pub(crate) universal: bool,
}

/// A column of a base.
pub(crate) fn column(index: usize) -> Expr {
    Expr::Column(Column::new_unqualified(format!("c{index}")))
}

/// The position of a column of a base.
pub(crate) fn position(expr: &Expr) -> Option<usize> {
    match expr {
        Expr::Column(column) => column.name.strip_prefix('c')?.parse().ok(),
        _ => None,
    }
}

/// A schema of columns of these types: all may be null, whatever is known better, so that two ways to the same columns agree.
pub(crate) fn schema_of(types: impl IntoIterator<Item = DataType>) -> SchemaRef {
    Arc::new(Schema::new(types.into_iter().enumerate().map(|(index, data_type)| Field::new(format!("c{index}"), data_type, true)).collect::<Vec<_>>()))
}

fn types_text(schema: &Schema) -> String {
    schema.fields().iter().map(|field| field.data_type().to_string()).collect::<Vec<_>>().join(", ")
}

/// A schema for expressions.
pub(crate) fn df_schema(schema: &SchemaRef) -> Result<DFSchema> {
    DFSchema::try_from(Arc::clone(schema))
}

impl Base {
    /// The schema that expressions see.
    pub(crate) fn schema(&self) -> SchemaRef {
        match self {
            Self::Scan { table, variants, .. } => {
                let stored = table.stored_schema().fields().iter().map(|field| field.data_type().clone());
                schema_of(stored.chain(variants.constants.iter().map(|constant| constant.data_type.clone())))
            }
            Self::Node(built) => Arc::clone(&built.relation.schema),
            Self::Numbered { input, .. } => numbered_schema(input),
        }
    }
}

fn numbered_schema(input: &Built) -> SchemaRef {
    let fields = input.relation.schema.fields().iter().map(|field| field.data_type().clone());
    schema_of(fields.chain([DataType::UInt64]))
}

impl Pending {
    /// All columns of a table.
    pub(crate) fn scan(table: &'static Table, scope: Vec<Expr>, variants: VariantsSpec) -> Self {
        let sql_column = |index: usize| if table.columns[index].id { hex_id(column(index)) } else { column(index) };
        let columns = (0..table.columns.len()).map(sql_column).collect();
        Self::over(Base::Scan { table, window: None, scope, variants }, columns)
    }

    /// All columns of a node.
    pub(crate) fn node(built: Built) -> Self {
        let columns = (0..built.width()).map(column).collect();
        Self::over(Base::Node(built), columns)
    }

    /// Columns of a base.
    pub(crate) fn over(base: Base, columns: Vec<Expr>) -> Self {
        Self { base, filter: Vec::new(), columns, params: Vec::new(), key: None, order: Vec::new(), universal: false }
    }

    /// The type of an expression over the base.
    pub(crate) fn type_of(&self, expr: &Expr) -> Result<DataType> {
        expr.get_type(&df_schema(&self.base.schema())?)
    }

    /// Takes the conditions `expression = literal` out of the filter to carry them upwards, and where they are carried to the end
    /// the constants of other conditions on a table as well.
    pub(crate) fn extract_params(&mut self, slots: &Slots) -> Result<()> {
        if slots.inlines() {
            return Ok(());
        }
        let schema = df_schema(&self.base.schema())?;
        let mut kept = Vec::new();
        for condition in std::mem::take(&mut self.filter) {
            match equality(&condition) {
                Some((expr, value)) if may_be_param(&expr, &value, &schema) => {
                    // The same column equal to two values: one of them stays a condition.
                    if self.params.iter().any(|known| known.expr == expr) {
                        kept.push(condition);
                    } else {
                        self.params.push(Param { expr, value, slot: slots.take() });
                    }
                }
                _ => kept.push(condition),
            }
        }
        self.filter = kept;
        if let Base::Scan { table, window, variants, .. } = &mut self.base {
            self.params.extend(variants.take_from(&mut self.filter, table, window.as_ref(), &schema, slots)?);
        }
        self.params.sort_by_cached_key(|param| expr_text(&param.expr));
        Ok(())
    }

    /// Makes what was to be carried conditions again.
    pub(crate) fn restore_params(&mut self, slots: &Slots) {
        for Param { expr, value, slot } in std::mem::take(&mut self.params) {
            slots.drop(slot);
            self.filter.push(Expr::BinaryExpr(BinaryExpr::new(Box::new(expr), Operator::Eq, Box::new(Expr::Literal(value, None)))));
        }
    }

    /// The node with these columns. What is to be carried must have been taken into the columns, or restored.
    pub(crate) fn build(self, columns: Vec<Expr>) -> Result<Built> {
        let mut filter = self.filter;
        filter.sort_by_cached_key(expr_text);
        filter.dedup();
        match self.base {
            Base::Scan { table, window, scope, variants } if variants.conditions.is_empty() => build_scan(table, window, scope, filter, columns),
            Base::Scan { table, window, scope, variants } => variants.build(table, window, scope, filter, &columns),
            Base::Node(built) => build_map(built, filter, columns),
            Base::Numbered { .. } => Err(DataFusionError::Internal("the rows were numbered and not cut".to_owned())),
        }
    }

    /// Cuts numbered rows to as many as the filters ask for; `false` where they ask for all.
    pub(crate) fn cut_numbered(&mut self) -> bool {
        let Base::Numbered { input, keys, order } = &self.base else { return true };
        let number = column(input.width());
        let mut limit: Option<u64> = None;
        let mut kept = Vec::new();
        for condition in std::mem::take(&mut self.filter) {
            let bound = bound_on(&condition, &number);
            if let Some((bound, is_exact)) = bound {
                limit = Some(limit.map_or(bound, |limit| limit.min(bound)));
                if !is_exact {
                    continue;
                }
            }
            kept.push(condition);
        }
        let Some(limit) = limit else { return false };
        self.filter = kept;
        let schema = numbered_schema(input);
        let head = format!("top {limit} of {keys} numbered by {}", order_text(order));
        let (text, keys, order) = (input.text.clone(), *keys, order.clone());
        let node = TopK { input: Box::new(input.relation.clone()), keys, order, offset: 0, limit, numbered: true };
        self.base = Base::Node(Built::new(Node::TopK(node), schema, &head, &[&text]));
        true
    }
}

/// Text of an order.
pub(crate) fn order_text(order: &[Order]) -> String {
    order
        .iter()
        .map(|o| format!("c{}{}{}", o.column, if o.descending { " desc" } else { "" }, if o.nulls_first { " nulls first" } else { "" }))
        .collect::<Vec<_>>()
        .join(", ")
}

/// `number <= k`, `number < k` or `number = k`: the bound, and whether the condition says more than the bound does.
fn bound_on(condition: &Expr, number: &Expr) -> Option<(u64, bool)> {
    let Expr::BinaryExpr(BinaryExpr { left, op, right }) = condition else { return None };
    let (op, value) = if without_cast(left) == number {
        (*op, literal(right)?)
    } else if without_cast(right) == number {
        (op.swap()?, literal(left)?)
    } else {
        return None;
    };
    let value = match value {
        ScalarValue::UInt64(Some(value)) => *value,
        ScalarValue::Int64(Some(value)) => u64::try_from(*value).ok()?,
        _ => return None,
    };
    match op {
        Operator::LtEq => Some((value, false)),
        Operator::Lt => Some((value.saturating_sub(1), false)),
        Operator::Eq => Some((value, true)),
        _ => None,
    }
}

/// An expression below casts.
pub(crate) fn without_cast(expr: &Expr) -> &Expr {
    match expr {
        Expr::Cast(cast) => without_cast(&cast.expr),
        Expr::TryCast(cast) => without_cast(&cast.expr),
        Expr::Alias(alias) => without_cast(&alias.expr),
        other => other,
    }
}

/// The value of a literal that is not null.
pub(crate) fn literal(expr: &Expr) -> Option<&ScalarValue> {
    match expr {
        Expr::Literal(value, _) if !value.is_null() => Some(value),
        _ => None,
    }
}

/// `expression = literal`, either way around.
pub(crate) fn equality(condition: &Expr) -> Option<(Expr, ScalarValue)> {
    let Expr::BinaryExpr(BinaryExpr { left, op: Operator::Eq, right }) = condition else { return None };
    match (literal(left), literal(right)) {
        (None, Some(value)) => Some((left.as_ref().clone(), value.clone())),
        (Some(value), None) => Some((right.as_ref().clone(), value.clone())),
        _ => None,
    }
}

/// Whether a condition may move into the parameter key. Ids stay conditions: a group for each id would be a group for each row.
pub(crate) fn may_be_param(expr: &Expr, value: &ScalarValue, schema: &DFSchema) -> bool {
    let is_id = expr.exists(|e| Ok(matches!(e, Expr::ScalarFunction(call) if call.func.name() == "hex_id"))).unwrap_or(true);
    let type_agrees = expr.get_type(schema).is_ok_and(|data_type| data_type == value.data_type());
    !is_id && type_agrees && is_portable(&value.data_type())
}

/// Types that constants and parameters may have.
pub(crate) fn is_portable(data_type: &DataType) -> bool {
    use DataType::{Boolean, Date32, Float32, Float64, Int8, Int16, Int32, Int64, Timestamp, UInt8, UInt16, UInt32, UInt64, Utf8};
    matches!(data_type, Boolean | Int8 | Int16 | Int32 | Int64 | UInt8 | UInt16 | UInt32 | UInt64 | Float32 | Float64 | Utf8 | Date32 | Timestamp(_, _))
}

/// A table's rows that pass, with these columns.
pub(crate) fn build_scan(table: &'static Table, window: Option<WindowSpec>, scope: Vec<Expr>, filter: Vec<Expr>, columns: Vec<Expr>) -> Result<Built> {
    let stored = table.stored_schema();
    // Whether an event is late is a question of when it was received, whenever it is read.
    let received = window.as_ref().filter(|spec| spec.lateness_ms.is_some()).and_then(|_| table.columns.iter().position(|c| c.name == "received"));
    let received = received.map(|index| super::window::milliseconds(&column(index)));
    let window_time = window.iter().map(|w| &w.time);
    let used: BTreeSet<usize> = scope.iter().chain(&filter).chain(&columns).chain(window_time).chain(&received).flat_map(positions).collect();
    let table_columns: Vec<usize> = used.into_iter().collect();
    let compact = |expr: &Expr| -> Result<Expr> {
        let moved = expr.clone().transform(|e| match position(&e) {
            Some(index) => {
                let at = table_columns.binary_search(&index).map_err(|_| DataFusionError::Internal(format!("column {index} is not read")))?;
                Ok(Transformed::yes(column(at)))
            }
            None => Ok(Transformed::no(e)),
        })?;
        Ok(moved.data)
    };
    let seen = schema_of(table_columns.iter().map(|index| stored.field(*index).data_type().clone()));
    let df = df_schema(&seen)?;
    let filter = scope.iter().chain(&filter).map(compact).collect::<Result<Vec<_>>>()?;
    let columns = columns.iter().map(compact).collect::<Result<Vec<_>>>()?;
    let schema = schema_of(columns.iter().map(|expr| expr.get_type(&df)).collect::<Result<Vec<_>>>()?);
    let window_text = window.as_ref().map(WindowSpec::text).transpose()?.unwrap_or_default();
    let head = format!("scan {} {table_columns:?}{} where {} give {}", table.name, window_text, exprs_text(&filter), exprs_text(&columns));
    let received = received.as_ref().map(compact).transpose()?;
    let window = match window {
        Some(spec) => Some(Window {
            time: physical(&compact(&spec.time)?, &df)?,
            lower_ms: spec.lower_ms,
            upper_ms: spec.upper_ms,
            pane_ms: spec.pane_ms(),
            lateness_ms: spec.lateness_ms,
            received: received.map(|expr| physical(&expr, &df)).transpose()?,
        }),
        None => None,
    };
    let physicals = |exprs: &[Expr]| exprs.iter().map(|expr| physical(expr, &df)).collect::<Result<Vec<_>>>();
    let scan = Scan { table: table.name, table_columns, filter: physicals(&filter)?, columns: physicals(&columns)?, window };
    Ok(Built::new(Node::Scan(scan), schema, &head, &[]))
}

fn build_map(input: Built, filter: Vec<Expr>, columns: Vec<Expr>) -> Result<Built> {
    let is_identity = filter.is_empty() && columns.len() == input.width() && columns.iter().enumerate().all(|(index, expr)| position(expr) == Some(index));
    if is_identity {
        return Ok(input);
    }
    let df = df_schema(&input.relation.schema)?;
    let schema = schema_of(columns.iter().map(|expr| expr.get_type(&df)).collect::<Result<Vec<_>>>()?);
    let head = format!("map where {} give {}", exprs_text(&filter), exprs_text(&columns));
    let physicals = |exprs: &[Expr]| exprs.iter().map(|expr| physical(expr, &df)).collect::<Result<Vec<_>>>();
    let map = Map { filter: physicals(&filter)?, columns: physicals(&columns)?, input: Box::new(input.relation) };
    Ok(Built::new(Node::Map(map), schema, &head, &[&input.text]))
}

fn positions(expr: &Expr) -> Vec<usize> {
    let mut found = Vec::new();
    // Nothing in the closure fails.
    let _ = expr.apply(|e| {
        found.extend(position(e));
        Ok(TreeNodeRecursion::Continue)
    });
    found
}

/// The text of an expression. Literals are written apart from it, such that no text in them can be taken for anything else.
pub(crate) fn expr_text(expr: &Expr) -> String {
    let mut literals = Vec::new();
    let without = expr.clone().transform(|e| match &e {
        Expr::Literal(value, _) => {
            literals.push(value_text(value));
            Ok(Transformed::yes(Expr::Column(Column::new_unqualified(format!("l{}", literals.len())))))
        }
        _ => Ok(Transformed::no(e)),
    });
    match without {
        Ok(without) => format!("{}[{}]", without.data, literals.join(",")),
        Err(_) => format!("{expr:?}"),
    }
}

/// The text of a value.
pub(crate) fn value_text(value: &ScalarValue) -> String {
    if value.is_null() { format!("{} null", value.data_type()) } else { format!("{} {:?}", value.data_type(), value.to_string()) }
}

pub(crate) fn exprs_text(exprs: &[Expr]) -> String {
    exprs.iter().map(expr_text).collect::<Vec<_>>().join(", ")
}
