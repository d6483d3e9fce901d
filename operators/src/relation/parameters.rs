//! The subscriptions of a template: which share of the relation each sees, and its constants.

use std::rc::Rc;
use std::sync::Arc;

use arrow::array::ArrayRef;
use arrow::datatypes::SchemaRef;
use serde::{Deserialize, Serialize};
use timely::dataflow::Stream;

use super::codec::Codec;
use super::edge::each;
use super::message::Message;
use super::spine::{Bytes, KeyedUpdate};
use super::template::{Parameters, SubscriptionId};
use crate::Time;

/// Subscriptions by their parameter key. A null in it picks nothing, so such a subscription is left out.
pub(super) fn parameters<'scope>(
    messages: Stream<'scope, Time, Vec<Message>>,
    keys: Rc<Codec>,
    constants: Rc<Codec>,
) -> Stream<'scope, Time, Vec<KeyedUpdate>> {
    each(messages, "Parameters", move |time, messages, made| {
        for message in messages.drain(..) {
            if let Message::Parameters(parameters, difference) = message
                && let Some(row) = encode(&parameters, &keys, &constants)
            {
                made.push((row, time, difference));
            }
        }
    })
}

/// A choice of constants by a subscription that comes (1) or goes (-1), on its way to a worker.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Chosen {
    pub worker: u64,
    pub constants: Bytes,
    pub time: Time,
    pub difference: i64,
}

/// Columns of the parameter keys of all subscriptions, told to every worker.
pub(super) fn chosen<'scope>(
    messages: Stream<'scope, Time, Vec<Message>>,
    columns: Vec<usize>,
    codec: Codec,
    workers: u64,
) -> Stream<'scope, Time, Vec<Chosen>> {
    each(messages, "Chosen", move |time, messages, made| {
        for message in messages.drain(..) {
            if let Message::Parameters(parameters, difference) = message
                && let Some(constants) = encode_columns(&parameters, &columns, &codec)
            {
                made.extend((0..workers).map(|worker| Chosen { worker, constants: constants.clone(), time, difference }));
            }
        }
    })
}

/// The keys that subscriptions ask for, of some columns of their parameter keys.
pub(super) fn asked(messages: Stream<'_, Time, Vec<Message>>, columns: Vec<usize>, codec: Codec) -> Stream<'_, Time, Vec<KeyedUpdate>> {
    each(messages, "Asked", move |time, messages, made| {
        for message in messages.drain(..) {
            if let Message::Parameters(parameters, difference) = message
                && let Some(columns) = encode_columns(&parameters, &columns, &codec)
            {
                let mut key = vec![1];
                key.extend(columns);
                made.push(((key, Bytes::new()), time, difference));
            }
        }
    })
}

/// Some columns of a parameter key; none where any column of it is null: then it picks nothing.
fn encode_columns(parameters: &Parameters, columns: &[usize], codec: &Codec) -> Option<Bytes> {
    if parameters.key.columns().iter().any(|column| column.is_null(0)) {
        return None;
    }
    let columns: Vec<ArrayRef> = columns.iter().map(|column| Arc::clone(parameters.key.column(*column))).collect();
    let mut bytes = Bytes::new();
    codec.encode(&columns).append_to(0, &mut bytes);
    Some(bytes)
}

fn encode(parameters: &Parameters, keys: &Codec, constants: &Codec) -> Option<(Bytes, Bytes)> {
    if parameters.key.columns().iter().any(|column| column.is_null(0)) {
        return None;
    }
    let mut key = vec![1];
    keys.encode(parameters.key.columns()).append_to(0, &mut key);
    let mut value = parameters.subscription.to_be_bytes().to_vec();
    constants.encode(parameters.constants.columns()).append_to(0, &mut value);
    Some((key, value))
}

/// A subscription and its constants.
pub(super) fn split(value: &[u8]) -> (SubscriptionId, &[u8]) {
    let (id, constants) = value.split_at(size_of::<SubscriptionId>());
    (SubscriptionId::from_be_bytes(id.try_into().expect("eight bytes of an id")), constants)
}

/// Whether parameters fit a template.
pub(super) fn fit(parameters: &Parameters, keys: &Codec, constants: &SchemaRef) -> bool {
    let types = |batch: &arrow::array::RecordBatch, fields: &arrow::datatypes::Fields| {
        batch.num_columns() == fields.len() && batch.columns().iter().zip(fields).all(|(column, field)| column.data_type() == field.data_type())
    };
    parameters.key.num_rows() == 1
        && parameters.constants.num_rows() == 1
        && types(&parameters.key, keys.fields())
        && types(&parameters.constants, constants.fields())
}
