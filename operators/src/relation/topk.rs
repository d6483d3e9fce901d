//! The first rows of each group.

use std::collections::{BTreeMap, HashMap};
use std::rc::Rc;
use std::sync::Arc;

use arrow::array::UInt64Array;
use arrow::compute::SortOptions;
use arrow::datatypes::SchemaRef;
use arrow::row::{RowConverter, SortField};
use serde::{Deserialize, Serialize};
use timely::container::CapacityContainerBuilder;
use timely::dataflow::channels::pact::Exchange;
use timely::dataflow::operators::generic::operator::Operator;

use super::codec::{Codec, batch_of};
use super::edge::{Delta, Deltas, each};
use super::meter::Meter;
use super::plan::TopK;
use super::render::RenderError;
use super::spine::{Bytes, route};
use super::ticks::Ticks;
use crate::Time;

/// A row by its group and by its place in the order, and how often it comes or goes.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Ranked {
    group: Bytes,
    order: Bytes,
    row: Bytes,
    time: Time,
    difference: i64,
}

/// The rows of a group in their order, ties by the rows themselves, and how often each is there.
type Ranking = BTreeMap<(Bytes, Bytes), i64>;

/// Bytes of a ranking's entry besides its own.
const ENTRY_OVERHEAD_BYTES: i64 = 80;

/// The first rows of each group.
pub(super) fn topk<'scope>(
    input: Deltas<'scope>,
    plan: &TopK,
    input_schema: &SchemaRef,
    schema: &SchemaRef,
    meter: &Rc<Meter>,
) -> Result<Deltas<'scope>, RenderError> {
    let rows = Rc::new(Codec::new(input_schema.fields())?);
    let groups = Codec::new(&input_schema.fields()[..plan.keys].iter().cloned().collect())?;
    let order = plan.order.iter().map(|order| {
        let options = SortOptions { descending: order.descending, nulls_first: order.nulls_first };
        SortField::new_with_options(input_schema.field(order.column).data_type().clone(), options)
    });
    let order = RowConverter::new(order.collect()).expect("the types of all columns have an order");
    let ranked = rank(input, plan, groups, order, Rc::clone(&rows), Rc::clone(meter));
    let (offset, limit, numbered) = (plan.offset, plan.limit, plan.numbered);
    let schema = Arc::clone(schema);
    let meter = Rc::clone(meter);
    let by_group = Exchange::new(|ranked: &Ranked| route(&ranked.group));
    Ok(ranked.unary_frontier::<CapacityContainerBuilder<Vec<Delta>>, _, _, _>(by_group, "TopK", move |_capability, _info| {
        let mut ticks: Ticks<Ranked, 1> = Ticks::default();
        let mut rankings: HashMap<Bytes, Ranking> = HashMap::new();
        move |(input, frontier), output| {
            input.for_each(|capability, data| ticks.take(&capability, data.drain(..).map(|ranked| (ranked.time, ranked))));
            while let Some((time, [capability], changes)) = ticks.next_complete(|time| !frontier.less_equal(&time)) {
                if meter.is_halted() {
                    rankings = HashMap::new();
                    continue;
                }
                let mut touched: BTreeMap<Bytes, Vec<Placed>> = BTreeMap::new();
                for ranked in changes {
                    if !touched.contains_key(&ranked.group) {
                        let before = rankings.get(&ranked.group).map_or_else(Vec::new, |ranking| first(ranking, offset, limit, numbered));
                        touched.insert(ranked.group.clone(), before);
                    }
                    change(&mut rankings, ranked, &meter);
                }
                let mut updates: Vec<(Placed, i64)> = Vec::new();
                for (group, before) in touched {
                    let after = rankings.get(&group).map_or_else(Vec::new, |ranking| first(ranking, offset, limit, numbered));
                    updates.extend(before.into_iter().map(|placed| (placed, -1)));
                    updates.extend(after.into_iter().map(|placed| (placed, 1)));
                }
                differential_dataflow::consolidation::consolidate(&mut updates);
                if !updates.is_empty() {
                    output.session(&capability).give(batch(&updates, time, &rows, &schema, numbered));
                }
            }
        }
    }))
}

/// A row and its number, 0 where rows are not numbered.
type Placed = (Bytes, u64);

fn rank<'scope>(
    input: Deltas<'scope>,
    plan: &TopK,
    groups: Codec,
    order: RowConverter,
    rows: Rc<Codec>,
    meter: Rc<Meter>,
) -> timely::dataflow::Stream<'scope, Time, Vec<Ranked>> {
    let keys = plan.keys;
    let columns: Vec<usize> = plan.order.iter().map(|order| order.column).collect();
    each(input, "Rank", move |_time, deltas, made| {
        for delta in deltas.drain(..).filter(|_| !meter.is_halted()) {
            let of_group = groups.encode(&delta.batch.columns()[..keys]);
            let of_row = rows.encode(delta.batch.columns());
            let by: Vec<_> = columns.iter().map(|&column| Arc::clone(delta.batch.column(column))).collect();
            let of_order = (!by.is_empty()).then(|| order.convert_columns(&by).expect("columns have the types that the plan says"));
            made.extend((0..delta.batch.num_rows()).map(|row| Ranked {
                group: of_group.row(row),
                order: of_order.as_ref().map_or_else(Bytes::new, |of_order| of_order.row(row).data().to_vec()),
                row: of_row.row(row),
                time: delta.times[row],
                difference: delta.differences[row],
            }));
        }
    })
}

fn change(rankings: &mut HashMap<Bytes, Ranking>, ranked: Ranked, meter: &Meter) {
    let bytes = (ranked.order.len() + ranked.row.len()) as i64 + ENTRY_OVERHEAD_BYTES;
    let group_bytes = ranked.group.len() as i64 + ENTRY_OVERHEAD_BYTES;
    let ranking = rankings.entry(ranked.group.clone()).or_insert_with(|| {
        meter.add_groups(1);
        meter.add_bytes(group_bytes);
        Ranking::new()
    });
    let entry = (ranked.order, ranked.row);
    let count = ranking.get(&entry).copied().unwrap_or(0);
    meter.add_bytes(bytes * (i64::from(count + ranked.difference != 0) - i64::from(count != 0)));
    if count + ranked.difference == 0 {
        ranking.remove(&entry);
    } else {
        ranking.insert(entry, count + ranked.difference);
    }
    if ranking.is_empty() {
        rankings.remove(&ranked.group);
        meter.add_groups(-1);
        meter.add_bytes(-group_bytes);
    }
}

/// The rows from `offset` on, `limit` of them.
fn first(ranking: &Ranking, offset: u64, limit: u64, numbered: bool) -> Vec<Placed> {
    let mut rows = Vec::new();
    let mut number = 0u64;
    let end = offset.saturating_add(limit);
    for ((_, row), &count) in ranking {
        for _ in 0..count.max(0) {
            if number >= end {
                return rows;
            }
            number += 1;
            if number > offset {
                rows.push((row.clone(), if numbered { number } else { 0 }));
            }
        }
    }
    rows
}

fn batch(updates: &[(Placed, i64)], time: Time, rows: &Codec, schema: &SchemaRef, numbered: bool) -> Delta {
    let mut columns = rows.decode(updates.iter().map(|((row, _), _)| row.as_slice()));
    if numbered {
        columns.push(Arc::new(updates.iter().map(|((_, number), _)| *number).collect::<UInt64Array>()));
    }
    Delta {
        batch: batch_of(schema, columns, updates.len()),
        times: vec![time; updates.len()],
        differences: updates.iter().map(|(_, difference)| *difference).collect(),
        panes: None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn copies_count_and_the_offset_is_left_out() {
        let entry = |order: u8, row: u8| (vec![order], vec![row]);
        let ranking: Ranking = [(entry(1, 9), 2), (entry(2, 8), 1), (entry(2, 7), -1), (entry(3, 6), 5)].into_iter().collect();
        assert_eq!(first(&ranking, 1, 3, true), [(vec![9], 2), (vec![8], 3), (vec![6], 4)]);
        assert_eq!(first(&ranking, 0, 2, false), [(vec![9], 0), (vec![9], 0)]);
        assert_eq!(first(&ranking, 100, u64::MAX, true), []);
    }
}
