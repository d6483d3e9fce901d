//! What runs between operators: batches of rows, each with when it comes and how often.

use std::collections::BTreeMap;
use std::rc::Rc;

use arrow::array::{ArrayRef, RecordBatch, UInt32Array};
use arrow::compute::take;
use timely::container::CapacityContainerBuilder;
use timely::dataflow::Stream;
use timely::dataflow::channels::pact::Pipeline;
use timely::dataflow::operators::generic::OutputBuilder;
use timely::dataflow::operators::generic::builder_rc::OperatorBuilder;
use timely::dataflow::operators::generic::operator::Operator;
use timely::progress::operate::FrontierInterest;

use super::codec::{Codec, batch_of};
use super::flaw::FlawUpdate;
use super::meter::Meter;
use super::spine::{Bytes, KeyedUpdate};
use crate::Time;

/// Rows and when each comes (positive) or goes (negative).
#[derive(Debug, Clone)]
pub(super) struct Delta {
    pub batch: RecordBatch,
    pub times: Vec<Time>,
    pub differences: Vec<i64>,
    /// The pane of each row, where the window is yet to be applied.
    pub panes: Option<Vec<i64>>,
}

impl Delta {
    /// The rows of each tick by themselves: what one message carries may come at several.
    pub fn by_time(self) -> Vec<(Time, Self)> {
        let Some(&first) = self.times.first() else { return Vec::new() };
        if self.times.iter().all(|time| *time == first) {
            return vec![(first, self)];
        }
        let mut rows: BTreeMap<Time, Vec<u32>> = BTreeMap::new();
        self.times.iter().zip(0..).for_each(|(time, row)| rows.entry(*time).or_default().push(row));
        rows.into_iter().map(|(time, rows)| (time, self.select(take_rows(&self.batch, &rows), &rows))).collect()
    }

    /// The rows `rows`, in this order, with other columns.
    pub fn select(&self, batch: RecordBatch, rows: &[u32]) -> Self {
        debug_assert_eq!(batch.num_rows(), rows.len());
        Self {
            batch,
            times: rows.iter().map(|&row| self.times[row as usize]).collect(),
            differences: rows.iter().map(|&row| self.differences[row as usize]).collect(),
            panes: self.panes.as_ref().map(|panes| rows.iter().map(|&row| panes[row as usize]).collect()),
        }
    }
}

/// Batches between two operators.
pub(super) type Deltas<'scope> = Stream<'scope, Time, Vec<Delta>>;

/// Failing rows between two operators.
pub(super) type Flaws<'scope> = Stream<'scope, Time, Vec<FlawUpdate>>;

/// The rows of a batch at `rows`.
pub(super) fn take_rows(batch: &RecordBatch, rows: &[u32]) -> RecordBatch {
    if rows.len() == batch.num_rows() && rows.iter().zip(0..).all(|(&row, index)| row == index) {
        return batch.clone();
    }
    let rows = UInt32Array::from(rows.to_vec());
    let columns: Vec<ArrayRef> = batch.columns().iter().map(|column| take(column, &rows, None).expect("rows of the batch")).collect();
    batch_of(&batch.schema(), columns, rows.len())
}

/// An operator without a notion of completeness: it makes of each container what it makes of it at once.
pub(super) fn each<'scope, I: 'static, O: 'static>(
    stream: Stream<'scope, Time, Vec<I>>,
    name: &str,
    mut logic: impl FnMut(Time, &mut Vec<I>, &mut Vec<O>) + 'static,
) -> Stream<'scope, Time, Vec<O>> {
    stream.unary::<CapacityContainerBuilder<Vec<O>>, _, _, _>(Pipeline, name, move |_capability, _info| {
        let mut made = Vec::new();
        move |input, output| {
            input.for_each(|capability, data| {
                let Some(&time) = capability.least() else { return };
                logic(time, data, &mut made);
                if !made.is_empty() {
                    output.session(&capability).give_iterator(made.drain(..));
                }
            });
        }
    })
}

/// As [`each`], with rows that fail on a second way.
pub(super) fn each_or_flaw<'scope, I: 'static, O: 'static>(
    stream: Stream<'scope, Time, Vec<I>>,
    name: &str,
    mut logic: impl FnMut(Time, &mut Vec<I>, &mut Vec<O>, &mut Vec<FlawUpdate>) + 'static,
) -> (Stream<'scope, Time, Vec<O>>, Flaws<'scope>) {
    let mut builder = OperatorBuilder::new(name.to_owned(), stream.scope());
    let mut input = builder.new_input(stream, Pipeline);
    builder.set_notify_for(0, FrontierInterest::Never);
    let (rows, rows_stream) = builder.new_output();
    let mut rows = OutputBuilder::<_, CapacityContainerBuilder<Vec<O>>>::from(rows);
    let (flaws, flaws_stream) = builder.new_output();
    let mut flaws = OutputBuilder::<_, CapacityContainerBuilder<Vec<FlawUpdate>>>::from(flaws);
    builder.build(move |_capabilities| {
        let mut made = Vec::new();
        let mut failed = Vec::new();
        move |_frontiers| {
            let mut rows = rows.activate();
            let mut flaws = flaws.activate();
            input.for_each(|capability, data| {
                let Some(&time) = capability.least() else { return };
                logic(time, data, &mut made, &mut failed);
                if !made.is_empty() {
                    rows.session(&capability).give_iterator(made.drain(..));
                }
                if !failed.is_empty() {
                    flaws.session(&capability).give_iterator(failed.drain(..));
                }
            });
        }
    });
    (rows_stream, flaws_stream)
}

/// Bytes that an arrangement needs for a row besides the row's own: offsets, time and difference while not compacted.
pub(super) const ROW_OVERHEAD_BYTES: i64 = 32;

/// What to do with a row whose key has a null, which equals nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum NullKeys {
    /// Nulls are values like others.
    Equal,
    /// The row can match nothing and is not needed.
    Leave,
    /// The row can match nothing and is needed: its key is one that no other side has.
    Keep,
}

/// Rows as bytes, by the first `keys` columns. Keys of rows that can match begin with 1, others with 0.
pub(super) fn encode<'scope>(
    deltas: Deltas<'scope>,
    keys: usize,
    nulls: NullKeys,
    codecs: Rc<(Codec, Codec)>,
    meter: Rc<Meter>,
    name: &str,
) -> Stream<'scope, Time, Vec<KeyedUpdate>> {
    each(deltas, name, move |_time, deltas, made| {
        for delta in deltas.drain(..) {
            if meter.is_halted() {
                return;
            }
            let (key_columns, value_columns) = delta.batch.columns().split_at(keys);
            let key_rows = codecs.0.encode(key_columns);
            let value_rows = codecs.1.encode(value_columns);
            let mut bytes = 0;
            for row in 0..delta.batch.num_rows() {
                let has_null = nulls != NullKeys::Equal && key_columns.iter().any(|column| column.is_null(row));
                if has_null && nulls == NullKeys::Leave {
                    continue;
                }
                let mut key = Bytes::with_capacity(1 + key_rows.bytes(row).len());
                key.push(u8::from(!has_null));
                key_rows.append_to(row, &mut key);
                let value = value_rows.row(row);
                bytes += delta.differences[row] * ((key.len() + value.len()) as i64 + ROW_OVERHEAD_BYTES);
                made.push(((key, value), delta.times[row], delta.differences[row]));
            }
            meter.add_bytes(bytes);
        }
    })
}

/// The key that [`encode`] gave a row, as its codec knows it.
pub(super) fn plain_key(key: &[u8]) -> &[u8] {
    &key[1..]
}

/// The two codecs of a schema whose first `keys` columns are the key.
pub(super) fn codecs(schema: &arrow::datatypes::Schema, keys: usize) -> Result<Rc<(Codec, Codec)>, super::render::RenderError> {
    let fields: Vec<_> = schema.fields().iter().cloned().collect();
    let (key, value) = fields.split_at(keys);
    Ok(Rc::new((Codec::new(&key.iter().cloned().collect())?, Codec::new(&value.iter().cloned().collect())?)))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::array::{AsArray, Int64Array};
    use arrow::datatypes::Int64Type;

    use super::*;

    #[test]
    fn rows_of_several_ticks_are_told_apart() {
        let batch = RecordBatch::try_from_iter([("a", Arc::new(Int64Array::from(vec![1, 2, 3, 4])) as ArrayRef)]).unwrap();
        let delta = Delta { batch, times: vec![20, 10, 20, 10], differences: vec![1, -1, 2, -2], panes: Some(vec![5, 6, 7, 8]) };
        let parts: Vec<_> = delta.by_time().into_iter().map(|(time, part)| (time, values(&part), part.differences, part.panes.unwrap(), part.times)).collect();
        assert_eq!(parts, [(10, vec![2, 4], vec![-1, -2], vec![6, 8], vec![10, 10]), (20, vec![1, 3], vec![1, 2], vec![5, 7], vec![20, 20])]);
    }

    fn values(delta: &Delta) -> Vec<i64> {
        delta.batch.column(0).as_primitive::<Int64Type>().values().to_vec()
    }
}
