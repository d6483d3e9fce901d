//! Containers: items of several elements, `{"items":[…]}` (`spec/ingest.md` section 2.1).

use weir_protocol::Category;
use weir_protocol::envelope::ItemHeader;
use weir_protocol::json::{Json, Object};
use weir_protocol::outcome::Outcome;

use crate::decode::Item;
use crate::deduplicate::Identity;
use crate::fact::{Fact, Rows};
use crate::normalise::EventContext;
use crate::normalise::clock::{self, time_us};
use crate::normalise::note::Notes;
use crate::normalise::user::InferIp;
use crate::rows::{ItemRow, OutcomeRow};

/// What a container holds.
pub(crate) struct Container<'a> {
    /// The elements in their order; at least one.
    pub elements: Vec<Json<'a>>,
    /// Whether the SDK wants the client's address filled in (`ingest_settings.infer_ip`).
    pub infer_ip: InferIp,
}

/// Spans of the second version and whatever states `item_count` come as containers; a legacy span stands alone.
pub(crate) fn is_container(header: &ItemHeader) -> bool {
    header.item_count.is_some() || header.content_type.as_deref().is_some_and(|t| t.trim_start().starts_with("application/vnd.sentry.items."))
}

/// The elements of an item, or the reason why it is refused whole. A missing or wrong count refuses it, and so does an empty
/// container: it has nothing that another outcome could count.
pub(crate) fn read<'a>(item: &'a Item, invalid: &'static str) -> Result<Container<'a>, &'static str> {
    let mut json = Json::parse(&item.payload).map_err(|_| "invalid_json")?;
    let infer_ip = match json.str_at(&["ingest_settings", "infer_ip"]) {
        Some("auto") => InferIp::Auto,
        Some("never") => InferIp::Never,
        _ => InferIp::Legacy,
    };
    let elements = match json.as_object_mut().and_then(|container| container.remove("items")) {
        Some(Json::Array(elements)) if !elements.is_empty() => elements,
        _ => return Err(invalid),
    };
    if item.header.item_count != Some(elements.len() as u64) {
        return Err(invalid);
    }
    Ok(Container { elements, infer_ip })
}

/// Whether an element is over its limit. An item that is not cannot hold one that is.
pub(crate) fn is_too_large(element: &Json<'_>, item: &Item, bytes_max: usize) -> bool {
    item.payload.len() > bytes_max && bytes_of(element) > bytes_max
}

/// The bytes of an element, without what blanks the SDK wrote.
pub(crate) fn bytes_of(element: &Json<'_>) -> usize {
    element.to_string().len()
}

/// Start and end of an element by the server's clock, in Unix microseconds (`spec/ingest.md` section 3.4). Its clock is
/// corrected, and the element is moved into the window of accepted times, as an event would be; `happened` is the time that
/// has to lie in the window, and is the receipt where it is no time.
pub(crate) fn times_us<'a>(started: Option<&Json<'a>>, happened: Option<&Json<'a>>, context: &EventContext) -> (Option<i64>, i64) {
    let mut times: Object<'a> = [("timestamp", happened), ("start_timestamp", started)].into_iter().filter_map(|(k, v)| Some((k, v?.clone()))).collect();
    clock::normalise(&mut times, context, &mut Notes::default());
    let time = |key: &str| times.get(key).and_then(time_us);
    (time("start_timestamp"), time("timestamp").unwrap_or_default())
}

/// An outcome of elements. They belong to no event, even where the envelope names one.
pub(crate) fn outcome(item: &Item, outcome: Outcome, reason: Option<&str>, category: Category, quantity: u64) -> OutcomeRow {
    OutcomeRow { event_id: None, ..item.context.outcome(outcome, reason, category, quantity) }
}

/// The fact of an item without an id: it is known by its payload.
pub(crate) fn fact(item: &Item, rows: Rows, outcomes: Vec<OutcomeRow>) -> Fact {
    let identity = Identity::payload(item.context.common.project_id as u64, item.digest());
    Fact { identity: Some(identity), ..item.fact(rows, outcomes) }
}

/// The row by which a stored item is remembered.
pub(crate) fn item_row(item: &Item, elements: usize) -> Box<ItemRow> {
    Box::new(ItemRow { common: item.context.common.clone(), item_id: item.digest(), type_: item.header.item_type.name().to_owned(), quantity: elements as i64 })
}
