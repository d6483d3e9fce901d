//! Each row once.

use std::rc::Rc;

use arrow::datatypes::SchemaRef;
use differential_dataflow::AsCollection;

use super::codec::batch_of;
use super::edge::{Delta, Deltas, NullKeys, codecs, each, encode, plain_key};
use super::meter::Meter;
use super::render::RenderError;
use super::spine::{arrange, present};

/// Each row once, however often it is there.
pub(super) fn distinct<'scope>(input: Deltas<'scope>, schema: &SchemaRef, meter: &Rc<Meter>) -> Result<Deltas<'scope>, RenderError> {
    let codecs = codecs(schema, schema.fields().len())?;
    let rows = encode(input, schema.fields().len(), NullKeys::Equal, Rc::clone(&codecs), Rc::clone(meter), "DistinctRows");
    let rows = present(arrange(rows.as_collection(), "ArrangeDistinct")).as_collection(|row, _| row.to_vec());
    let schema = SchemaRef::clone(schema);
    Ok(each(rows.inner, "DistinctBatches", move |_time, rows, made| {
        let columns = codecs.0.decode(rows.iter().map(|(row, _, _)| plain_key(row)));
        made.push(Delta {
            batch: batch_of(&schema, columns, rows.len()),
            times: rows.iter().map(|(_, time, _)| *time).collect(),
            differences: rows.iter().map(|(_, _, difference)| *difference).collect(),
            panes: None,
        });
        rows.clear();
    }))
}
