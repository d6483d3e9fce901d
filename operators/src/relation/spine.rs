//! How arrangements hold rows: as bytes, one after the other, instead of a box for each.

use std::rc::Rc;

use differential_dataflow::VecCollection;
use differential_dataflow::hashable::Hashable;
use differential_dataflow::operators::arrange::arrangement::arrange_core;
use differential_dataflow::operators::arrange::{Arranged, TraceAgent};
use differential_dataflow::trace::implementations::merge_batcher::{MergeBatcher, vec::VecMerger};
use differential_dataflow::trace::implementations::ord_neu::{OrdValBatch, OrdValBuilder};
use differential_dataflow::trace::implementations::spine_fueled::Spine;
use differential_dataflow::trace::implementations::{BatchContainer, ContainerChunker, OffsetList};
use timely::container::PushInto;
use timely::dataflow::channels::pact::Exchange;

use crate::Time;

/// A row, or a part of one, as bytes that sort as the row does.
pub(super) type Bytes = Vec<u8>;

/// A row by its key, when it comes and how often.
pub(super) type KeyedUpdate = ((Bytes, Bytes), Time, i64);

/// Rows by their key.
pub(super) type Keyed<'scope> = VecCollection<'scope, Time, (Bytes, Bytes), i64>;

/// Keys, values, times, differences and offsets of an arrangement.
type Layout = (ByteRows, ByteRows, Vec<Time>, Vec<i64>, OffsetList);

/// What [`KeyedUpdate`]s become when sorted.
type KeyedBuilder = OrdValBuilder<Layout, Vec<KeyedUpdate>>;

type KeyedBatcher = MergeBatcher<ContainerChunker<Vec<KeyedUpdate>>, VecMerger<(Bytes, Bytes), Time, i64>, KeyedBuilder>;

/// Rows by their key, sorted, over time.
type KeyedSpine = Spine<Rc<OrdValBatch<Layout>>>;

/// An arrangement of rows by their key.
pub(super) type KeyedRows<'scope> = Arranged<'scope, TraceAgent<KeyedSpine>>;

/// Where a key belongs: the same worker whenever and wherever it is asked, for one number of workers. Never stored.
pub(super) fn route(key: &Bytes) -> u64 {
    key.hashed()
}

/// Brings rows of one key to one worker and keeps them there.
pub(super) fn arrange<'scope>(rows: Keyed<'scope>, name: &str) -> KeyedRows<'scope> {
    let by_key = Exchange::new(|((key, _), _, _): &KeyedUpdate| route(key));
    arrange_core::<_, _, KeyedBatcher, KeyedSpine>(rows.inner, by_key, name, KeyedBatcher::new)
}

/// The keys that have rows, each once.
pub(super) fn present(rows: KeyedRows<'_>) -> KeyedRows<'_> {
    rows.reduce_abelian::<_, KeyedBuilder, KeyedSpine, _, _>(
        "Keys",
        |_key, rows, present| {
            if rows.iter().any(|(_, count)| *count > 0) {
                present.push((Bytes::new(), 1));
            }
        },
        |batch, key: &[u8], updates| {
            batch.clear();
            batch.extend(updates.drain(..).map(|(value, time, difference)| ((key.to_vec(), value), time, difference)));
        },
    )
}

/// Byte strings in one allocation.
pub(super) struct ByteRows {
    ends: OffsetList,
    bytes: Vec<u8>,
}

impl PushInto<Bytes> for ByteRows {
    fn push_into(&mut self, item: Bytes) {
        self.push_ref(&item);
    }
}

impl BatchContainer for ByteRows {
    type Owned = Bytes;
    type ReadItem<'a> = &'a [u8];

    fn into_owned<'a>(item: Self::ReadItem<'a>) -> Self::Owned {
        item.to_vec()
    }

    fn clone_onto<'a>(item: Self::ReadItem<'a>, other: &mut Self::Owned) {
        other.clear();
        other.extend_from_slice(item);
    }

    fn push_ref(&mut self, item: Self::ReadItem<'_>) {
        self.bytes.extend_from_slice(item);
        self.ends.push(self.bytes.len());
    }

    fn push_own(&mut self, item: &Self::Owned) {
        self.push_ref(item);
    }

    fn clear(&mut self) {
        self.ends.clear();
        self.bytes.clear();
    }

    fn with_capacity(size: usize) -> Self {
        Self { ends: OffsetList::with_capacity(size), bytes: Vec::new() }
    }

    fn merge_capacity(left: &Self, right: &Self) -> Self {
        Self { ends: OffsetList::with_capacity(left.len() + right.len()), bytes: Vec::with_capacity(left.bytes.len() + right.bytes.len()) }
    }

    fn reborrow<'b, 'a: 'b>(item: Self::ReadItem<'a>) -> Self::ReadItem<'b> {
        item
    }

    fn index(&self, index: usize) -> Self::ReadItem<'_> {
        let start = if index == 0 { 0 } else { self.ends.index(index - 1) };
        &self.bytes[start..self.ends.index(index)]
    }

    fn len(&self) -> usize {
        self.ends.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn byte_strings_come_back_as_they_went_in() {
        let mut rows = ByteRows::with_capacity(2);
        for row in [&b""[..], b"", b"abc", b"", b"de"] {
            rows.push_ref(row);
        }
        let read: Vec<&[u8]> = (0..rows.len()).map(|index| rows.index(index)).collect();
        assert_eq!(read, [&b""[..], b"", b"abc", b"", b"de"]);
        rows.clear();
        assert_eq!(rows.len(), 0);
        rows.push_into(b"x".to_vec());
        assert_eq!(rows.index(0), b"x");
    }
}
