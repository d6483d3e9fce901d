//! A slow twin of the engine: it keeps every row that ever came and answers each tick from scratch, on plain values.

use std::collections::BTreeMap;

use arrow::datatypes::{DataType, SchemaRef};
use weir_protocol::limits::CLOCK_AHEAD_MS;

use super::super::plan::{Aggregate, AggregateFunction, Join, JoinKind, Map, Node, Order, Reduce, Relation, Scan, TopK, Universe, Variants, Window};
use super::expressions::{E, V};
use super::operators::schema;
use crate::sketch;

/// A plan whose expressions can be seen.
#[derive(Debug, Clone)]
pub(super) struct M {
    pub node: N,
    pub types: Vec<DataType>,
}

#[derive(Debug, Clone)]
pub(super) enum N {
    Scan {
        filter: Vec<E>,
        columns: Vec<E>,
        window: Option<W>,
    },
    Map {
        input: Box<M>,
        filter: Vec<E>,
        columns: Vec<E>,
    },
    Reduce {
        input: Box<M>,
        keys: usize,
        aggregates: Vec<Aggregate>,
        universe: Universe,
    },
    /// Each row with each of the constants that subscriptions have in a column of the parameter key, where the condition holds.
    Variants {
        input: Box<M>,
        parameter: usize,
        condition: E,
        columns: Vec<usize>,
    },
    Distinct(Box<M>),
    Union(Vec<M>),
    Join {
        left: Box<M>,
        right: Box<M>,
        keys: usize,
        kind: JoinKind,
    },
    TopK {
        input: Box<M>,
        keys: usize,
        order: Vec<Order>,
        offset: u64,
        limit: u64,
        numbered: bool,
    },
}

/// A window over a column of the table.
#[derive(Debug, Clone, Copy)]
pub(super) struct W {
    pub column: usize,
    pub lower: i64,
    pub upper: i64,
    pub pane: i64,
    pub lateness: Option<i64>,
    /// When a row was received, another column.
    pub received: usize,
}

/// A row that came or went.
#[derive(Debug, Clone)]
pub(super) struct Event {
    pub tick: i64,
    pub row: Vec<V>,
    pub difference: i64,
}

/// What there is at a tick.
pub(super) struct World<'a> {
    pub now: i64,
    pub events: &'a [Event],
    /// The keys of the subscriptions.
    pub asked: Vec<Vec<V>>,
    /// Whether a row has failed.
    pub failed: bool,
}

pub(super) type Bag = Vec<(Vec<V>, i64)>;

impl World<'_> {
    /// The distinct values of some columns of the subscriptions' keys.
    fn asked(&self, columns: &[usize]) -> Vec<Vec<V>> {
        let keys = self.asked.iter().map(|key| (columns.iter().map(|column| key[*column].clone()).collect(), 1)).collect();
        sum(keys).into_iter().map(|(key, _)| key).collect()
    }
}

impl M {
    pub fn schema(&self) -> SchemaRef {
        let names: Vec<String> = (0..self.types.len()).map(|index| format!("c{index}")).collect();
        schema(&names.iter().map(String::as_str).zip(self.types.iter().cloned()).collect::<Vec<_>>())
    }

    /// The plan for the engine, over a table of so many columns.
    pub fn lowered(&self, table: &'static str, table_columns: usize) -> Relation {
        let typed = |columns: &[E]| columns.iter().zip(&self.types).map(|(column, data_type)| column.clone().typed(data_type.clone())).collect::<Vec<_>>();
        let conditions = |filter: &[E]| filter.iter().map(|condition| condition.clone().boolean()).collect::<Vec<_>>();
        let lower = |input: &M| Box::new(input.lowered(table, table_columns));
        let node = match &self.node {
            N::Scan { filter, columns, window } => Node::Scan(Scan {
                table,
                table_columns: (0..table_columns).collect(),
                filter: conditions(filter),
                columns: typed(columns),
                window: window.map(|window| Window {
                    time: E::Column(window.column).int(),
                    lower_ms: window.lower as u64,
                    upper_ms: window.upper as u64,
                    pane_ms: window.pane as u64,
                    lateness_ms: window.lateness.map(|lateness| lateness as u64),
                    received: window.lateness.map(|_| E::Column(window.received).int()),
                }),
            }),
            N::Map { input, filter, columns } => Node::Map(Map { input: lower(input), filter: conditions(filter), columns: typed(columns) }),
            N::Reduce { input, keys, aggregates, universe } => {
                Node::Reduce(Reduce { input: lower(input), keys: *keys, aggregates: aggregates.clone(), universe: universe.clone() })
            }
            N::Variants { input, parameter, condition, columns } => Node::Variants(Variants {
                input: lower(input),
                parameters: vec![*parameter],
                constants: schema(&[("v", DataType::Int64)]),
                filter: vec![condition.clone().boolean()],
                columns: columns.clone(),
            }),
            N::Distinct(input) => Node::Distinct(lower(input)),
            N::Union(inputs) => Node::Union(inputs.iter().map(|input| *lower(input)).collect()),
            N::Join { left, right, keys, kind } => Node::Join(Join { left: lower(left), right: lower(right), keys: *keys, kind: *kind }),
            N::TopK { input, keys, order, offset, limit, numbered } => {
                Node::TopK(TopK { input: lower(input), keys: *keys, order: order.clone(), offset: *offset, limit: *limit, numbered: *numbered })
            }
        };
        Relation { node, schema: self.schema() }
    }

    /// Its rows and how often each is there.
    pub fn answer(&self, world: &mut World<'_>) -> Bag {
        match &self.node {
            N::Scan { filter, columns, window } => {
                let now = world.now;
                let here = world.events.iter().filter(|event| event.tick <= now && window.is_none_or(|window| window.holds(event, now)));
                let bag = here.map(|event| (event.row.clone(), event.difference)).collect();
                project(bag, filter, columns, world)
            }
            N::Map { input, filter, columns } => {
                let bag = input.answer(world);
                project(bag, filter, columns, world)
            }
            N::Reduce { input, keys, aggregates, universe } => {
                let bag = input.answer(world);
                reduce(bag, *keys, aggregates, universe, &self.types, world)
            }
            N::Variants { input, parameter, condition, columns } => {
                let bag = input.answer(world);
                let mut paired = Vec::new();
                for constants in world.asked(&[*parameter]) {
                    paired.extend(bag.iter().map(|(row, count)| (row.iter().chain(&constants).cloned().collect(), *count)));
                }
                let picked: Vec<E> = columns.iter().map(|column| E::Column(*column)).collect();
                project(paired, std::slice::from_ref(condition), &picked, world)
            }
            N::Distinct(input) => sum(input.answer(world)).into_iter().filter(|(_, count)| *count > 0).map(|(row, _)| (row, 1)).collect(),
            N::Union(inputs) => inputs.iter().flat_map(|input| input.answer(world)).collect(),
            N::Join { left, right, keys, kind } => {
                let width = right.types.len();
                let left = sum(left.answer(world));
                let right = sum(right.answer(world));
                join(&left, &right, *keys, *kind, width)
            }
            N::TopK { input, keys, order, offset, limit, numbered } => topk(sum(input.answer(world)), *keys, order, *offset, *limit, *numbered),
        }
    }
}

impl W {
    fn holds(&self, event: &Event, now: i64) -> bool {
        let V::I(time) = event.row[self.column] else { return false };
        let V::I(received) = event.row[self.received] else { panic!("every row was received") };
        let is_ahead = self.lateness.is_some() && time - received > CLOCK_AHEAD_MS as i64;
        let pane = if is_ahead { received } else { time }.div_euclid(self.pane);
        let late = self.lateness.is_some_and(|lateness| received > (pane + 1) * self.pane + lateness);
        let lower = (now - self.lower).div_euclid(self.pane) <= pane;
        let upper = self.upper == 0 || pane < (now - self.upper).div_euclid(self.pane);
        !late && lower && upper
    }
}

/// The order of values: nulls first.
pub(super) fn order_of(a: &V, b: &V) -> std::cmp::Ordering {
    match (a, b) {
        (V::Null, V::Null) => std::cmp::Ordering::Equal,
        (V::Null, _) => std::cmp::Ordering::Less,
        (_, V::Null) => std::cmp::Ordering::Greater,
        (V::F(a), V::F(b)) => a.total_cmp(b),
        _ => a.partial_cmp(b).expect("values of one type"),
    }
}

fn order_rows(a: &[V], b: &[V]) -> std::cmp::Ordering {
    a.iter().zip(b).map(|(a, b)| order_of(a, b)).find(|order| order.is_ne()).unwrap_or(std::cmp::Ordering::Equal)
}

/// Each row once, in order.
pub(super) fn sum(mut bag: Bag) -> Bag {
    bag.sort_by(|(a, _), (b, _)| order_rows(a, b));
    let mut summed: Bag = Vec::new();
    for (row, count) in bag {
        match summed.last_mut() {
            Some((last, of_last)) if order_rows(last, &row).is_eq() => *of_last += count,
            _ => summed.push((row, count)),
        }
    }
    summed.retain(|(_, count)| *count != 0);
    summed
}

fn project(bag: Bag, filter: &[E], columns: &[E], world: &mut World<'_>) -> Bag {
    let mut made = Vec::new();
    'rows: for (row, count) in sum(bag) {
        for condition in filter {
            match condition.value(&row) {
                Ok(V::B(true)) => {}
                Ok(_) => continue 'rows,
                Err(_) => {
                    world.failed = true;
                    continue 'rows;
                }
            }
        }
        match columns.iter().map(|column| column.value(&row)).collect::<Result<Vec<_>, _>>() {
            Ok(values) => made.push((values, count)),
            Err(_) => world.failed = true,
        }
    }
    made
}

fn reduce(bag: Bag, keys: usize, aggregates: &[Aggregate], universe: &Universe, types: &[DataType], world: &World<'_>) -> Bag {
    let mut groups: Vec<(Vec<V>, Bag)> = Vec::new();
    match universe {
        Universe::Rows => {}
        Universe::One => groups.push((vec![], vec![])),
        Universe::Parameters(columns) => groups.extend(world.asked(columns).into_iter().map(|key| (key, vec![]))),
    }
    for (row, count) in sum(bag) {
        match groups.iter_mut().find(|(key, _)| order_rows(key, &row[..keys]).is_eq()) {
            Some((_, rows)) => rows.push((row, count)),
            None if *universe == Universe::Rows => groups.push((row[..keys].to_vec(), vec![(row, count)])),
            None => {}
        }
    }
    groups
        .into_iter()
        .map(|(mut key, rows)| {
            key.extend(aggregates.iter().zip(&types[keys..]).map(|(aggregate, data_type)| of_group(aggregate, &rows, data_type)));
            (key, 1)
        })
        .collect()
}

/// A sum that does not depend on the order: partial sums that do not overlap are kept until all are there, as Shewchuk has it.
fn sum_of_floats(values: impl Iterator<Item = f64>) -> f64 {
    let mut partials: Vec<f64> = Vec::new();
    for mut value in values {
        let mut kept = Vec::with_capacity(partials.len() + 1);
        for partial in partials {
            let (large, small) = if value.abs() < partial.abs() { (partial, value) } else { (value, partial) };
            let high = large + small;
            let low = small - (high - large);
            if low != 0.0 {
                kept.push(low);
            }
            value = high;
        }
        kept.push(value);
        partials = kept;
    }
    partials.into_iter().rev().sum()
}

fn of_group(aggregate: &Aggregate, rows: &Bag, data_type: &DataType) -> V {
    let passing = rows.iter().filter(|(row, _)| aggregate.filter.is_none_or(|filter| row[filter] == V::B(true)));
    let Some(argument) = aggregate.argument else { return V::I(passing.map(|(_, count)| count).sum()) };
    let mut values: Vec<V> =
        passing.flat_map(|(row, count)| std::iter::repeat_n(row[argument].clone(), *count as usize)).filter(|value| *value != V::Null).collect();
    values.sort_by(order_of);
    if aggregate.distinct {
        values.dedup();
    }
    if aggregate.function == AggregateFunction::Count {
        return V::I(values.len() as i64);
    }
    if values.is_empty() {
        return V::Null;
    }
    let float = |value: &V| match value {
        V::I(value) => *value as f64,
        V::F(value) => *value,
        other => panic!("{other:?} is not a number"),
    };
    let total = sum_of_floats(values.iter().filter(|value| matches!(value, V::I(_) | V::F(_))).map(float));
    match aggregate.function {
        AggregateFunction::Sum if *data_type == DataType::Int64 => V::I(total as i64),
        AggregateFunction::Sum => V::F(total),
        AggregateFunction::Average => V::F(total / values.len() as f64),
        AggregateFunction::Minimum => values.remove(0),
        AggregateFunction::Maximum => values.remove(values.len() - 1),
        AggregateFunction::BoolAnd => V::B(values.iter().all(|value| *value == V::B(true))),
        AggregateFunction::BoolOr => V::B(values.contains(&V::B(true))),
        AggregateFunction::Quantile(quantile) => {
            let mut buckets = BTreeMap::<i32, u64>::new();
            for value in &values {
                *buckets.entry(sketch::bucket(float(value)).expect("no NaN")).or_default() += 1;
            }
            V::F(sketch::quantile(buckets.iter().map(|(bucket, count)| (*bucket, *count)), quantile).expect("there are values"))
        }
        AggregateFunction::Count | AggregateFunction::Variance { .. } => unreachable!("not drawn"),
    }
}

fn join(left: &Bag, right: &Bag, keys: usize, kind: JoinKind, right_width: usize) -> Bag {
    let mut made = Vec::new();
    for (row, count) in left {
        let has_null = row[..keys].contains(&V::Null);
        let partners: Vec<_> = right.iter().filter(|(other, _)| !has_null && order_rows(&row[..keys], &other[..keys]).is_eq()).collect();
        let pairs = partners.iter().map(|(other, of_other)| (row.iter().chain(other).cloned().collect::<Vec<_>>(), count * of_other));
        match kind {
            JoinKind::Inner => made.extend(pairs),
            JoinKind::Left if partners.is_empty() => made.push((row.iter().cloned().chain(vec![V::Null; right_width]).collect(), *count)),
            JoinKind::Left => made.extend(pairs),
            JoinKind::Semi if !partners.is_empty() => made.push((row.clone(), *count)),
            JoinKind::Anti if partners.is_empty() => made.push((row.clone(), *count)),
            JoinKind::Semi | JoinKind::Anti => {}
        }
    }
    made
}

fn topk(bag: Bag, keys: usize, order: &[Order], offset: u64, limit: u64, numbered: bool) -> Bag {
    let mut groups: Vec<(Vec<V>, Vec<Vec<V>>)> = Vec::new();
    for (row, count) in bag {
        let copies = std::iter::repeat_n(row.clone(), count.max(0) as usize);
        match groups.iter_mut().find(|(key, _)| order_rows(key, &row[..keys]).is_eq()) {
            Some((_, rows)) => rows.extend(copies),
            None => groups.push((row[..keys].to_vec(), copies.collect())),
        }
    }
    let mut made = Vec::new();
    for (_, mut rows) in groups {
        rows.sort_by(|a, b| {
            let by = order.iter().map(|order| by_column(&a[order.column], &b[order.column], order)).find(|order| order.is_ne());
            by.unwrap_or_else(|| order_rows(a, b))
        });
        for (number, mut row) in (1..).zip(rows).skip(offset as usize).take(limit as usize) {
            row.extend(numbered.then_some(V::I(number)));
            made.push((row, 1));
        }
    }
    made
}

fn by_column(a: &V, b: &V, order: &Order) -> std::cmp::Ordering {
    let is_null = |value: &V| matches!(value, V::Null);
    match (is_null(a), is_null(b)) {
        (true, true) => std::cmp::Ordering::Equal,
        (true, false) => {
            if order.nulls_first {
                std::cmp::Ordering::Less
            } else {
                std::cmp::Ordering::Greater
            }
        }
        (false, true) => {
            if order.nulls_first {
                std::cmp::Ordering::Greater
            } else {
                std::cmp::Ordering::Less
            }
        }
        (false, false) if order.descending => order_of(b, a),
        (false, false) => order_of(a, b),
    }
}

/// The columns of plain values by their types.
pub(super) fn batch(schema: &SchemaRef, rows: &[Vec<V>]) -> arrow::array::RecordBatch {
    let columns = schema.fields().iter().enumerate().map(|(index, field)| {
        let values: Vec<V> = rows.iter().map(|row| row[index].clone()).collect();
        super::expressions::array(&values, field.data_type())
    });
    super::super::codec::batch_of(schema, columns.collect(), rows.len())
}
