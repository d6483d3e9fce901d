//! Rows that belong together.

use std::rc::Rc;

use arrow::array::{ArrayRef, new_null_array};
use arrow::datatypes::SchemaRef;
use differential_dataflow::AsCollection;
use timely::dataflow::Stream;

use super::codec::{Codec, batch_of};
use super::edge::{Delta, Deltas, NullKeys, codecs, each, encode, plain_key};
use super::meter::Meter;
use super::plan::{Join, JoinKind};
use super::render::RenderError;
use super::spine::{Bytes, Keyed, KeyedRows, arrange, present};
use crate::Time;

/// A pair: the key, the left row and the right row, each without it. Rows without a partner have none on the right.
type Pair = (Bytes, Bytes, Option<Bytes>);

/// Joins rows on their leading columns.
pub(super) fn join<'scope>(
    left: Deltas<'scope>,
    right: Deltas<'scope>,
    plan: &Join,
    schema: &SchemaRef,
    meter: &Rc<Meter>,
) -> Result<Deltas<'scope>, RenderError> {
    let left_codecs = codecs(&plan.left.schema, plan.keys)?;
    let right_codecs = codecs(&plan.right.schema, plan.keys)?;
    for (of_left, of_right) in left_codecs.0.fields().iter().zip(right_codecs.0.fields()) {
        if of_left.data_type() != of_right.data_type() {
            return Err(RenderError::JoinKey { left: of_left.data_type().clone(), right: of_right.data_type().clone() });
        }
    }
    let left_nulls = if matches!(plan.kind, JoinKind::Left | JoinKind::Anti) { NullKeys::Keep } else { NullKeys::Leave };
    let left_rows = encode(left, plan.keys, left_nulls, Rc::clone(&left_codecs), Rc::clone(meter), "JoinLeft").as_collection();
    let right_rows = encode(right, plan.keys, NullKeys::Leave, Rc::clone(&right_codecs), Rc::clone(meter), "JoinRight").as_collection();
    let right_rows = arrange(right_rows, "ArrangeRight");
    let pairs = match plan.kind {
        JoinKind::Inner => inner(arrange(left_rows, "ArrangeLeft"), right_rows, meter),
        JoinKind::Left => {
            let left_arranged = arrange(left_rows.clone(), "ArrangeLeft");
            let partnered = semi(left_arranged.clone(), present(right_rows.clone()), meter);
            let alone = left_rows.concat(partnered.negate()).map(|(key, left)| (key, left, None));
            inner(left_arranged, right_rows, meter).concat(alone)
        }
        JoinKind::Semi => semi(arrange(left_rows, "ArrangeLeft"), present(right_rows), meter).map(|(key, left)| (key, left, None)),
        JoinKind::Anti => {
            let partnered = semi(arrange(left_rows.clone(), "ArrangeLeft"), present(right_rows), meter);
            left_rows.concat(partnered.negate()).map(|(key, left)| (key, left, None))
        }
    };
    // The rows without a partner come and go within a tick: they are brought together before anyone sees them.
    let pairs = if plan.kind == JoinKind::Inner { pairs.inner } else { pairs.consolidate().inner };
    let with_right = matches!(plan.kind, JoinKind::Inner | JoinKind::Left);
    Ok(decode(pairs, Decoder { left: left_codecs, right: with_right.then_some(right_codecs), schema: SchemaRef::clone(schema) }))
}

fn inner<'scope>(left: KeyedRows<'scope>, right: KeyedRows<'scope>, meter: &Rc<Meter>) -> differential_dataflow::VecCollection<'scope, Time, Pair, i64> {
    let meter = Rc::clone(meter);
    left.join_core(right, move |key: &[u8], left: &[u8], right: &[u8]| meter.pair().then(|| (key.to_vec(), left.to_vec(), Some(right.to_vec()))))
}

fn semi<'scope>(left: KeyedRows<'scope>, keys: KeyedRows<'scope>, meter: &Rc<Meter>) -> Keyed<'scope> {
    let meter = Rc::clone(meter);
    left.join_core(keys, move |key: &[u8], left: &[u8], _: &[u8]| meter.pair().then(|| (key.to_vec(), left.to_vec())))
}

struct Decoder {
    left: Rc<(Codec, Codec)>,
    /// Of the right columns, where they are in the result.
    right: Option<Rc<(Codec, Codec)>>,
    schema: SchemaRef,
}

fn decode<'scope>(pairs: Stream<'scope, Time, Vec<(Pair, Time, i64)>>, decoder: Decoder) -> Deltas<'scope> {
    each(pairs, "JoinRows", move |_time, pairs, made| {
        let mut columns = decoder.left.0.decode(pairs.iter().map(|((key, _, _), _, _)| plain_key(key)));
        let left_keys: Vec<ArrayRef> = columns.clone();
        columns.extend(decoder.left.1.decode(pairs.iter().map(|((_, left, _), _, _)| left.as_slice())));
        if let Some(right) = &decoder.right {
            columns.extend(right_columns(right, left_keys, pairs));
        }
        made.push(Delta {
            batch: batch_of(&decoder.schema, columns, pairs.len()),
            times: pairs.iter().map(|(_, time, _)| *time).collect(),
            differences: pairs.iter().map(|(_, _, difference)| *difference).collect(),
            panes: None,
        });
        pairs.clear();
    })
}

/// The right columns of pairs: nulls where there is no partner. The right key is the left one.
fn right_columns(codecs: &(Codec, Codec), left_keys: Vec<ArrayRef>, pairs: &[(Pair, Time, i64)]) -> Vec<ArrayRef> {
    let values: Vec<&[u8]> = pairs.iter().filter_map(|((_, _, right), _, _)| right.as_deref()).collect();
    let decoded = codecs.1.decode(values.iter().copied());
    if values.len() == pairs.len() {
        return left_keys.into_iter().chain(decoded).collect();
    }
    let mut next = 0;
    let places: arrow::array::UInt32Array = pairs
        .iter()
        .map(|((_, _, right), _, _)| {
            right.as_ref().map(|_| {
                next += 1;
                next - 1
            })
        })
        .collect();
    let rows: arrow::array::UInt32Array = places.iter().zip(0..).map(|(place, row)| place.map(|_| row)).collect();
    let spread = |column: &ArrayRef, places| {
        if column.is_empty() {
            new_null_array(column.data_type(), pairs.len())
        } else {
            arrow::compute::take(column, places, None).expect("places of the column")
        }
    };
    left_keys.iter().map(|key| spread(key, &rows)).chain(decoded.iter().map(|column| spread(column, &places))).collect()
}
