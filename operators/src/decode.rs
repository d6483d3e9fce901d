//! From a record of the journal to its items.

use std::net::IpAddr;
use std::sync::Arc;

use bytes::Bytes;
use timely::dataflow::StreamVec;
use weir_protocol::envelope::{Envelope, ItemHeader};
use weir_protocol::outcome::{Outcome, OutcomeCount, clean_reason};
use weir_protocol::record::{Content, Intake, Position, Project, Record};
use weir_protocol::{Category, EventId};

use crate::Time;
use crate::fact::{Fact, Rows};
use crate::normalise::clock::Shift;
use crate::rows::{Common, OutcomeRow, ProjectRow};
use crate::stage::each;

/// A record with its place in the journal.
#[derive(Debug)]
pub struct Entry {
    /// The place.
    pub position: Position,
    /// The record.
    pub record: Arc<Record>,
}

/// What all items of a request have in common.
#[derive(Debug, Clone)]
pub struct Context {
    /// The first columns of every row.
    pub common: Common,
    /// The place of the record.
    pub position: Position,
    /// The key that authenticated.
    pub key_id: Option<i64>,
    /// The address of the client.
    pub client_ip: Option<IpAddr>,
    /// The `User-Agent` header.
    pub user_agent: Option<String>,
    /// `sentry_client` of the authentication.
    pub client: Option<String>,
    /// The event that the items belong to.
    pub event_id: Option<EventId>,
    /// `sent_at` of the envelope, as written.
    pub sent_at: Option<String>,
    /// `trace.sample_rate` of the envelope's header.
    pub sample_rate: Option<f64>,
}

/// An item of an envelope, not yet looked into.
#[derive(Debug, Clone)]
pub struct Item {
    /// What it has in common with the others of its request.
    pub context: Arc<Context>,
    /// Its place in the record.
    pub index: u32,
    /// Its header.
    pub header: ItemHeader,
    /// Its payload.
    pub payload: Bytes,
}

/// What a record holds.
#[derive(Debug, Clone)]
pub enum Decoded {
    /// An item to be interpreted.
    Item(Item),
    /// Something that needs no interpretation.
    Fact(Fact),
}

impl Context {
    /// An outcome of an item of this request.
    pub fn outcome(&self, outcome: Outcome, reason: Option<&str>, category: Category, quantity: u64) -> OutcomeRow {
        OutcomeRow {
            common: self.common.clone(),
            key_id: self.key_id,
            timestamp_ms: self.common.received_ms,
            outcome: outcome.number(),
            reason: reason.map(clean_reason),
            category: category.number(),
            quantity: quantity as i64,
            event_id: self.event_id.map(|id| id.0),
        }
    }
}

impl Item {
    /// A fact about this item.
    pub fn fact(&self, rows: Rows, outcomes: Vec<OutcomeRow>) -> Fact {
        let common = &self.context.common;
        Fact { project_id: common.project_id as u64, seq: common.seq, item: self.index, received_ms: common.received_ms as u64, identity: None, rows, outcomes }
    }

    /// The fact that this item is refused, in every category that it counts in.
    pub fn refused(&self, reason: &str) -> Fact {
        let item = weir_protocol::envelope::Item { header: self.header.clone(), raw_header: Bytes::new(), payload: self.payload.clone() };
        let outcomes = item.quantities().into_iter().map(|(category, quantity)| self.context.outcome(Outcome::Invalid, Some(reason), category, quantity));
        self.fact(Rows::None, outcomes.collect())
    }

    /// By how much the times of the item's elements are moved, where the SDK's clock is far from the server's.
    pub fn shift(&self) -> Shift {
        Shift::of_request(self.context.sent_at.as_deref(), self.context.common.received_ms)
    }

    /// An id made of the item's place in the journal: the same at every replay.
    pub fn made_id(&self, element: u64) -> [u8; 16] {
        let mut hasher = blake3::Hasher::new();
        hasher.update(b"item").update(&self.context.position.partition.to_le_bytes()).update(&self.context.position.offset.to_le_bytes());
        hasher.update(&self.index.to_le_bytes()).update(&element.to_le_bytes());
        let mut id = [0; 16];
        hasher.finalize_xof().fill(&mut id);
        id
    }

    /// The digest of the payload: what makes an item without an id the same as another.
    pub fn digest(&self) -> [u8; 16] {
        let mut digest = [0; 16];
        blake3::Hasher::new().update(&self.payload).finalize_xof().fill(&mut digest);
        digest
    }
}

fn common(project: &Project, received_ms: u64, position: Position) -> Common {
    Common {
        org_id: project.org_id as i64,
        project_id: project.project_id as i64,
        project: project.slug.as_str().into(),
        received_ms: received_ms as i64,
        retention_days: project.retention_days as i16,
        seq: position.seq(),
    }
}

/// The items of a record.
pub fn decode(entry: &Entry) -> Vec<Decoded> {
    match &entry.record.content {
        Content::Project(project) => {
            let common = common(project, entry.record.received_ms, entry.position);
            vec![command(entry, project, Rows::Project(Box::new(ProjectRow { common })))]
        }
        Content::Deletion(deletion) => vec![command(entry, &deletion.project, Rows::Deletion(deletion.clone()))],
        Content::Erased(erased) => vec![command(entry, &erased.project, Rows::Erased(erased.clone()))],
        Content::Intake(intake) => decode_intake(entry, intake),
    }
}

/// A record of Weir's own, which needs no interpretation.
fn command(entry: &Entry, project: &Project, rows: Rows) -> Decoded {
    let (seq, received_ms) = (entry.position.seq(), entry.record.received_ms);
    Decoded::Fact(Fact { project_id: project.project_id, seq, item: 0, received_ms, identity: None, rows, outcomes: Vec::new() })
}

fn decode_intake(entry: &Entry, intake: &Intake) -> Vec<Decoded> {
    let common = common(&intake.project, entry.record.received_ms, entry.position);
    let mut context = Context {
        common,
        position: entry.position,
        key_id: intake.key_id.map(|id| id as i64),
        client_ip: intake.client_ip,
        user_agent: intake.user_agent.clone(),
        client: intake.client.clone(),
        event_id: intake.event_id,
        sent_at: None,
        sample_rate: None,
    };
    let mut decoded = Vec::new();
    if !intake.outcomes.is_empty() {
        decoded.push(Decoded::Fact(at_the_door(&context, &intake.outcomes)));
    }
    let Some(body) = &intake.body else { return decoded };
    // The door framed the same bytes within the same bounds, so this fails only where the record is damaged.
    let envelope = body.plain().map_err(|e| e.to_string()).and_then(|plain| Envelope::parse(&plain).map_err(|e| e.to_string()));
    let envelope = match envelope {
        Ok(envelope) => envelope,
        Err(_) => {
            let outcome = context.outcome(Outcome::Invalid, Some("internal"), Category::Unknown, 1);
            decoded.push(Decoded::Fact(fact_of(&context, u32::MAX, vec![outcome])));
            return decoded;
        }
    };
    context.sent_at = envelope.header.sent_at;
    context.sample_rate = sample_rate(&envelope.header.raw);
    let context = Arc::new(context);
    for (index, item) in envelope.items.into_iter().enumerate() {
        decoded.push(Decoded::Item(Item { context: Arc::clone(&context), index: index as u32, header: item.header, payload: item.payload }));
    }
    decoded
}

/// Outcomes of items that the door refused come before those of its other items, so they have a place of their own.
fn at_the_door(context: &Context, counts: &[OutcomeCount]) -> Fact {
    let row = |count: &OutcomeCount| OutcomeRow {
        common: context.common.clone(),
        key_id: context.key_id,
        timestamp_ms: context.common.received_ms,
        outcome: count.outcome.number(),
        reason: count.reason.as_deref().map(clean_reason),
        category: count.category,
        quantity: count.quantity as i64,
        event_id: count.event_id.map(|id| id.0),
    };
    fact_of(context, u32::MAX, counts.iter().map(row).collect())
}

fn fact_of(context: &Context, item: u32, outcomes: Vec<OutcomeRow>) -> Fact {
    let common = &context.common;
    Fact { project_id: common.project_id as u64, seq: common.seq, item, received_ms: common.received_ms as u64, identity: None, rows: Rows::None, outcomes }
}

/// `trace.sample_rate`, which SDKs write as text or as a number. A bad trace context is ignored (`spec/ingest.md` 2.1).
fn sample_rate(header: &[u8]) -> Option<f64> {
    let header = weir_protocol::json::Json::parse(header).ok()?;
    let rate = header.at(&["trace", "sample_rate"])?;
    rate.as_f64().or_else(|| rate.as_str()?.parse().ok()).filter(|rate| (0.0..=1.0).contains(rate))
}

/// The stage that takes records apart.
pub trait Decode<'scope> {
    /// Records into items.
    fn decode(self) -> StreamVec<'scope, Time, Decoded>;
}

impl<'scope> Decode<'scope> for StreamVec<'scope, Time, Arc<Entry>> {
    fn decode(self) -> StreamVec<'scope, Time, Decoded> {
        each(self, "Decode", |entry: Arc<Entry>, decoded| decoded.extend(decode(&entry)))
    }
}
