//! Items for tests: of recorded envelopes, and hand-made ones.

use std::path::PathBuf;
use std::sync::Arc;

use weir_protocol::category::name_of;
use weir_protocol::envelope::Envelope;
use weir_protocol::record::{Body, Content, Intake, Position, Project, Record};

use crate::decode::{Decoded, Entry, Item, decode};
use crate::fact::Fact;

/// When all items count as received: some hours after the newest of the recorded ones.
pub(crate) const RECEIVED_MS: u64 = 1_795_330_000_000;

/// The items of a recorded envelope.
pub(crate) fn items(name: &str) -> Vec<Item> {
    let file = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join(format!("../tests/corpus/envelopes/{name}.envelope"));
    items_of(std::fs::read(&file).unwrap_or_else(|error| panic!("{}: {error}", file.display())))
}

/// An item of its own, from a header's line and a payload of one line.
pub(crate) fn item(header: &str, payload: &str) -> Item {
    items_of(format!("{{}}\n{header}\n{payload}\n").into_bytes()).remove(0)
}

fn items_of(envelope: Vec<u8>) -> Vec<Item> {
    let event_id = Envelope::parse(&envelope.clone().into()).unwrap().header.event_id;
    let intake = Intake {
        project: Project { org_id: 1, project_id: 7, slug: "shop".to_owned(), retention_days: 90 },
        key_id: Some(3),
        client_ip: "203.0.113.9".parse().ok(),
        user_agent: None,
        client: None,
        event_id,
        outcomes: Vec::new(),
        body: Some(Body::identity(envelope.into())),
    };
    let record = Arc::new(Record { received_ms: RECEIVED_MS, content: Content::Intake(Box::new(intake)) });
    let decoded = decode(&Entry { position: Position { partition: 0, offset: 5 }, record });
    decoded.into_iter().map(|decoded| if let Decoded::Item(item) = decoded { item } else { panic!("not an item: {decoded:?}") }).collect()
}

/// The outcomes of a fact: number, reason, category and quantity of each.
pub(crate) fn outcomes(fact: &Fact) -> String {
    let text = |row: &crate::rows::OutcomeRow| {
        let reason = row.reason.as_ref().map(|reason| format!("{reason} ")).unwrap_or_default();
        format!("{} {reason}{}={}", row.outcome, name_of(row.category), row.quantity)
    };
    fact.outcomes.iter().map(text).collect::<Vec<_>>().join(", ")
}
