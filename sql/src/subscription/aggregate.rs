//! Aggregates.

use datafusion::arrow::datatypes::DataType;
use datafusion::common::ScalarValue;
use datafusion::logical_expr::expr::{AggregateFunction as Call, AggregateFunctionParams};
use datafusion::logical_expr::{Aggregate as AggregateNode, Expr, cast};
use weir_operators::relation::plan::{Aggregate, AggregateFunction, Node, Reduce, Universe};

use super::lower::{Above, Lowered, Lowering, column_name, place, without_alias};
use super::pending::{Built, Pending, column, literal, schema_of, without_cast};

impl Lowering<'_> {
    pub(crate) fn aggregate(&self, node: &AggregateNode, above: Above) -> Lowered<Pending> {
        let mut input = self.ready(self.lower(&node.input, self.below(above))?)?;
        let schema = node.input.schema();
        let groups = node.group_expr.iter().map(|e| self.rebase(e, schema, &input.columns)).collect::<Lowered<Vec<_>>>()?;
        for group in &groups {
            self.refuse_now(group)?;
        }
        let is_global = groups.is_empty();
        // An aggregate without GROUP BY has a row though there is none to group. So there must be one for each parameter key that is
        // asked for, and what is asked for is known only where the key is carried to the end.
        if is_global && above == Above::Cut {
            input.restore_params(&self.slots);
        } else {
            input.extract_params(&self.slots).map_err(|e| self.internal(e))?;
        }
        let mut columns: Vec<Expr> = input.params.iter().map(|param| param.expr.clone()).collect();
        let carried = columns.len();
        let group_at: Vec<usize> = groups.iter().map(|group| place(&mut columns, group)).collect();
        let keys = columns.len();
        let universe = match (is_global, carried) {
            (false, _) => Universe::Rows,
            (true, 0) => Universe::One,
            (true, _) => Universe::Parameters(input.params.iter().map(|param| param.slot).collect()),
        };
        let mut calls = Calls { lowering: self, input: &input, keys, arguments: Vec::new(), aggregates: Vec::new(), types: Vec::new() };
        let first_type = node.schema.fields().len() - node.aggr_expr.len();
        let mut answers = Vec::new();
        for (index, expr) in node.aggr_expr.iter().enumerate() {
            let Expr::AggregateFunction(call) = without_alias(expr) else {
                return self.refuse("group", format!("{expr} is no aggregate"));
            };
            answers.push(calls.call(call, schema, node.schema.field(first_type + index).data_type())?);
        }
        let Calls { arguments, aggregates, types, .. } = calls;
        let key_types = columns.iter().map(|expr| input.type_of(expr)).collect::<Result<Vec<_>, _>>().map_err(|e| self.internal(e))?;
        columns.extend(arguments);
        let params = input.params.clone();
        let asks = matches!(universe, Universe::Parameters(_));
        let is_universal = asks || input.universal;
        if asks {
            params.iter().for_each(|param| self.slots.depend_on(param.slot));
        }
        let built = input.build(columns).map_err(|e| self.internal(e))?;
        let head = format!("reduce {universe:?} by {keys}: {aggregates:?}");
        let reduce = Reduce { input: Box::new(built.relation), keys, aggregates, universe };
        let reduced = Built::new(Node::Reduce(reduce), schema_of(key_types.into_iter().chain(types)), &head, &[&built.text]);
        let mut pending = Pending::node(reduced);
        pending.columns = group_at.iter().map(|index| column(*index)).chain(answers).collect();
        pending.params = params.iter().enumerate().map(|(index, param)| param.over(column(index))).collect();
        pending.universal = is_universal;
        pending.key = Some(node.group_expr.iter().map(column_name).zip(group_at.iter().map(|index| column(*index))).collect());
        Ok(pending)
    }
}

struct Calls<'a, 'b> {
    lowering: &'a Lowering<'b>,
    input: &'a Pending,
    keys: usize,
    /// Columns behind the keys.
    arguments: Vec<Expr>,
    aggregates: Vec<Aggregate>,
    types: Vec<DataType>,
}

impl Calls<'_, '_> {
    /// The answer of a call over the columns of the reduction, with the type that the plan gives it.
    fn call(&mut self, call: &Call, schema: &datafusion::common::DFSchema, data_type: &DataType) -> Lowered<Expr> {
        let name = call.func.name();
        let AggregateFunctionParams { args, distinct, filter, order_by, .. } = &call.params;
        let rebase = |expr: &Expr| self.lowering.rebase(expr, schema, &self.input.columns);
        let mut args = args.iter().map(rebase).collect::<Lowered<Vec<_>>>()?;
        let filter = filter.as_deref().map(rebase).transpose()?;
        // `approx_percentile_cont(0.95) WITHIN GROUP (ORDER BY x)`: the value comes first, as in the other form.
        let is_quantile = matches!(name, "approx_percentile_cont" | "percentile_cont" | "quantile" | "percentile");
        if is_quantile
            && args.len() == 1
            && let Some(sort) = order_by.first()
        {
            args.insert(0, rebase(&sort.expr)?);
        }
        for arg in args.iter().chain(&filter) {
            self.lowering.refuse_now(arg)?;
        }
        let argument = args.first().cloned();
        let is_rows = argument.as_ref().is_none_or(|argument| literal(argument).is_some());
        let none = |message: &str| self.lowering.refuse(name, message);
        if args.len() > 1 && !is_quantile && name != "approx_distinct" {
            return none(&format!("{name} over several values is not maintained; count (DISTINCT) one expression that holds them all, as in a || '/' || b"));
        }
        let function = match name {
            "count" if is_rows && !distinct => return self.push(AggregateFunction::Count, None, filter, false, DataType::Int64, data_type),
            "count" => AggregateFunction::Count,
            "approx_distinct" => return self.push(AggregateFunction::Count, argument, filter, true, DataType::Int64, data_type),
            "sum" => AggregateFunction::Sum,
            "avg" | "mean" => AggregateFunction::Average,
            "min" => AggregateFunction::Minimum,
            "max" => AggregateFunction::Maximum,
            "var" | "var_samp" | "var_sample" => AggregateFunction::Variance { sample: true, root: false },
            "var_pop" | "var_population" => AggregateFunction::Variance { sample: false, root: false },
            "stddev" | "stddev_samp" => AggregateFunction::Variance { sample: true, root: true },
            "stddev_pop" => AggregateFunction::Variance { sample: false, root: true },
            "bool_and" => AggregateFunction::BoolAnd,
            "bool_or" => AggregateFunction::BoolOr,
            "median" | "approx_median" => AggregateFunction::Quantile(0.5),
            "approx_percentile_cont" | "percentile_cont" | "quantile" | "percentile" => {
                let is_from_above = order_by.first().is_some_and(|sort| !sort.asc);
                let Some(share) = args.get(1).and_then(number).filter(|share| (0.0..=1.0).contains(share)) else {
                    return none(&format!("{name} takes a constant from 0 to 1 beside the value, as in {name}(duration_ms, 0.95)"));
                };
                AggregateFunction::Quantile(if is_from_above { 1.0 - share } else { share })
            }
            "first_value" | "last_value" | "nth_value" => {
                return none(&format!(
                    "{name}() is not maintained; the first row of each group is: SELECT DISTINCT ON (key) key, value FROM … ORDER BY key, received DESC"
                ));
            }
            _ => {
                return none(&format!(
                    "{name}() is not maintained: what a row that leaves adds to it cannot be taken back. There are count, sum, avg, min, max, count(DISTINCT), \
                     approx_distinct, median, approx_percentile_cont, var, stddev, bool_and, bool_or, each with FILTER, and Weir's own such as p95 and apdex"
                ));
            }
        };
        let Some(mut argument) = argument else { return none(&format!("{name}() takes a value")) };
        let of_argument = self.input.type_of(&argument).map_err(|e| self.lowering.internal(e))?;
        let output = match function {
            AggregateFunction::Count => DataType::Int64,
            AggregateFunction::Sum if matches!(data_type, DataType::Int64 | DataType::UInt64 | DataType::Float64) => data_type.clone(),
            AggregateFunction::Sum if data_type.is_decimal() => DataType::Float64,
            AggregateFunction::Sum => return none(&format!("sum of {of_argument} is not maintained; cast it to BIGINT or DOUBLE")),
            AggregateFunction::Minimum | AggregateFunction::Maximum if of_argument.is_nested() => {
                return none(&format!("{name} of {of_argument} is not maintained; take a part of it"));
            }
            AggregateFunction::Minimum | AggregateFunction::Maximum => of_argument.clone(),
            AggregateFunction::BoolAnd | AggregateFunction::BoolOr => DataType::Boolean,
            _ => DataType::Float64,
        };
        if matches!(function, AggregateFunction::Sum) && of_argument != output
            || output == DataType::Float64 && of_argument != DataType::Float64 && !matches!(function, AggregateFunction::Minimum | AggregateFunction::Maximum)
        {
            argument = cast(argument, output.clone());
        }
        self.push(function, Some(argument), filter, *distinct, output, data_type)
    }

    /// Adds an aggregate, unless it is there, and gives its answer.
    fn push(
        &mut self,
        function: AggregateFunction,
        argument: Option<Expr>,
        filter: Option<Expr>,
        distinct: bool,
        output: DataType,
        wanted: &DataType,
    ) -> Lowered<Expr> {
        let keys = self.keys;
        let mut at = |expr: Expr| keys + place(&mut self.arguments, &expr);
        let aggregate = Aggregate { function, argument: argument.map(&mut at), filter: filter.map(&mut at), distinct };
        let index = self.aggregates.iter().position(|known| *known == aggregate).unwrap_or_else(|| {
            self.aggregates.push(aggregate);
            self.types.push(output.clone());
            self.aggregates.len() - 1
        });
        let answer = column(keys + index);
        Ok(if output == *wanted { answer } else { cast(answer, wanted.clone()) })
    }
}

/// A constant number.
fn number(expr: &Expr) -> Option<f64> {
    match literal(without_cast(expr))?.cast_to(&DataType::Float64) {
        Ok(ScalarValue::Float64(share)) => share,
        _ => None,
    }
}
