//! What an item says: its JSON is parsed once, normalised, grouped and made rows.

use std::sync::Arc;

use timely::dataflow::StreamVec;
use weir_protocol::envelope::ItemType;
use weir_protocol::json::Json;
use weir_protocol::outcome::Outcome;
use weir_protocol::{Category, EventId};

use crate::Time;
use crate::decode::{Decoded, Item};
use crate::deduplicate::Identity;
use crate::error::error_row;
use crate::fact::{Fact, Rows};
use crate::grouping::{self, Rules};
use crate::normalise::place::Places;
use crate::normalise::{self, EventContext};
use crate::rows::PayloadRow;
use crate::stage::each;
use crate::{client_report, logs, spans};

/// What interpretation knows beside the item.
#[derive(Debug, Clone, Default)]
pub struct Knowledge {
    /// How events are grouped.
    pub rules: Rules,
    /// Where addresses are, if a database is at hand. What is stored depends on it: a replay with another one may store other places.
    pub places: Option<Arc<Places>>,
}

/// The fact that an item states.
pub fn interpret(item: &Item, knowledge: &Knowledge) -> Fact {
    match &item.header.item_type {
        ItemType::Event => event(item, knowledge),
        ItemType::Transaction => spans::transaction(item, knowledge),
        ItemType::Span => spans::spans(item),
        ItemType::Log => logs::logs(item),
        ItemType::ClientReport => client_report::client_report(item),
        other => item.refused(&format!("unsupported:{}", other.name())),
    }
}

/// The id of an item's event. The door gives one to every envelope that needs one; without it the place in the journal does.
pub(crate) fn event_id(item: &Item) -> EventId {
    item.context.event_id.unwrap_or_else(|| EventId(item.made_id(0)))
}

fn event(item: &Item, knowledge: &Knowledge) -> Fact {
    let Ok(mut json @ Json::Object(_)) = Json::parse(&item.payload) else { return item.refused("invalid_json") };
    let context = event_context(item, knowledge);
    // Only a transaction can be invalid, and one that comes as an event is not stored as one.
    if normalise::event(&mut json, &context).is_err() {
        return item.refused("invalid_transaction");
    }
    let hashes = grouping::hashes(&json, &knowledge.rules);
    let row = error_row(&json, &context, item.context.common.clone(), &hashes);
    let payload = payload_row(item, context.event_id, "event", &json);
    let identity = Identity::event(context.project_id, context.event_id);
    let mut outcome = item.context.outcome(Outcome::Accepted, None, Category::Error, 1);
    outcome.event_id = Some(context.event_id.0);
    let rows = Rows::Error { row: Box::new(row), hashes: hashes.iter().map(|h| h.hash).collect(), payload: Box::new(payload) };
    Fact { identity: Some(identity), ..item.fact(rows, vec![outcome]) }
}

pub(crate) fn payload_row(item: &Item, event_id: EventId, type_: &str, json: &Json<'_>) -> PayloadRow {
    // Normalisation adds a little more than it takes away.
    let payload = json.to_text(item.payload.len() + item.payload.len() / 8 + 256);
    PayloadRow { common: item.context.common.clone(), event_id: event_id.0, type_: type_.to_owned(), payload, group_id: None }
}

/// What normalisation has to know of a request.
pub(crate) fn event_context(item: &Item, knowledge: &Knowledge) -> EventContext {
    let context = &item.context;
    EventContext {
        event_id: event_id(item),
        received_ms: context.common.received_ms as u64,
        sent_at: context.sent_at.clone(),
        client_ip: context.client_ip,
        user_agent: context.user_agent.clone(),
        client: context.client.clone(),
        project_id: context.common.project_id as u64,
        key_id: context.key_id.map(|id| id as u64),
        sample_rate: context.sample_rate,
        retention_days: context.common.retention_days as u16,
        places: knowledge.places.clone(),
    }
}

/// The stage that looks into items.
pub trait Interpret<'scope> {
    /// Items into facts.
    fn interpret(self, knowledge: Knowledge) -> StreamVec<'scope, Time, Fact>;
}

impl<'scope> Interpret<'scope> for StreamVec<'scope, Time, Decoded> {
    fn interpret(self, knowledge: Knowledge) -> StreamVec<'scope, Time, Fact> {
        each(self, "Interpret", move |decoded, facts| {
            facts.push(match decoded {
                Decoded::Item(item) => interpret(&item, &knowledge),
                Decoded::Fact(fact) => fact,
            });
        })
    }
}
