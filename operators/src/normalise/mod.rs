//! Normalisation of an event in place: lenient, never rejecting but for a transaction that cannot be stored
//! (`spec/ingest.md` section 3).
//!
//! First every field is read as what it takes ([`fields`], [`read`]): what is something else goes, and is listed in `errors`
//! and `_meta`. Then interfaces are brought into form, one after the other. Last everything is cut to its limits ([`trim`]).
//! A payload comes out as Relay's published package makes it; `docs/normalisation.md` lists where it does not.
//!
//! | module | noun |
//! |---|---|
//! | [`schema`], [`fields`], [`read`], [`alias`] | which fields there are, and what each takes |
//! | [`kind`], [`level`], [`release`], [`clock`] | single values |
//! | [`place`] | where an address is |
//! | [`tags`], [`user`], [`fingerprint`], [`message`], [`request`], [`contexts`], [`measurement`], [`image`] | interfaces |
//! | [`device`], [`raw_description`] | what contexts lead to |
//! | [`exception`], [`mechanism`], [`stacktrace`], [`breadcrumb`] | interfaces with values |
//! | [`transaction`], [`span`], [`exclusive_time`] | what only transactions have |
//! | [`user_agent`] | what the client's software is |
//! | [`path`], [`note`] | what was changed, and where |
//! | [`size`], [`trim`] | limits |

use std::net::IpAddr;
use std::sync::Arc;

use weir_protocol::json::{Json, Object};
use weir_protocol::{EventId, KeyId, ProjectId};

pub mod alias;
pub mod breadcrumb;
pub mod clock;
pub mod contexts;
pub mod device;
pub mod exception;
pub mod exclusive_time;
pub mod fields;
pub mod fingerprint;
pub mod image;
pub mod kind;
pub mod level;
pub mod measurement;
pub mod mechanism;
pub mod message;
mod names;
pub mod note;
pub mod path;
pub mod place;
pub mod raw_description;
pub mod read;
pub mod release;
pub mod request;
pub mod schema;
pub mod size;
pub mod span;
pub mod stacktrace;
pub mod tags;
pub mod transaction;
pub mod trim;
pub mod user;
pub mod user_agent;

#[cfg(test)]
mod tests;

use note::Notes;
use path::Path;
use place::Places;

/// Days that an event may be old where nothing else is said.
pub const RETENTION_DAYS: u16 = 90;

/// What is known of an event besides its payload.
#[derive(Debug, Clone)]
pub struct EventContext {
    /// The id that the door settled on.
    pub event_id: EventId,
    /// When it was received, in Unix milliseconds.
    pub received_ms: u64,
    /// `sent_at` of the envelope, as written.
    pub sent_at: Option<String>,
    /// The address of the client.
    pub client_ip: Option<IpAddr>,
    /// The `User-Agent` header of the request.
    pub user_agent: Option<String>,
    /// `sentry_client` of the authentication, `name/version`; names the SDK where the payload does not.
    pub client: Option<String>,
    /// The project.
    pub project_id: ProjectId,
    /// The key that the event was sent with.
    pub key_id: Option<KeyId>,
    /// `trace.sample_rate` of the envelope's header, from 0 to 1.
    pub sample_rate: Option<f64>,
    /// Days that the project keeps events; an older event counts as received now.
    pub retention_days: u16,
    /// Where addresses are, if a database is at hand.
    pub places: Option<Arc<Places>>,
}

impl Default for EventContext {
    fn default() -> Self {
        Self {
            event_id: EventId::NIL,
            received_ms: 0,
            sent_at: None,
            client_ip: None,
            user_agent: None,
            client: None,
            project_id: 0,
            key_id: None,
            sample_rate: None,
            retention_days: RETENTION_DAYS,
            places: None,
        }
    }
}

/// The version of the protocol that events come in.
const PROTOCOL_VERSION: &str = "7";
/// A time that took longer, in milliseconds, was none.
const TIME_SPENT_MAX: u64 = (1 << 31) - 1;

/// Why a transaction cannot be stored.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("the transaction lacks {0}")]
pub struct InvalidTransaction(&'static str);

/// Normalises an event in place. A value that is no object stays as it is: the caller refuses it.
pub fn event<'a>(event: &mut Json<'a>, context: &EventContext) -> Result<(), InvalidTransaction> {
    let Json::Object(event) = event else { return Ok(()) };
    let mut notes = Notes::default();
    let is_transaction = event.get("type").and_then(Json::as_str) == Some("transaction");
    alias::normalise(event);
    if !is_transaction {
        event.remove("measurements");
    }
    read::object(event, &fields::EVENT, Path::Root, &mut notes);
    let shift = clock::normalise(event, context, &mut notes);
    if is_transaction {
        span::validate(event)?;
    }
    identity(event, context);
    span::normalise(event, shift, context.event_id, is_transaction, &mut notes);
    if is_transaction {
        transaction::normalise(event, &mut notes);
        span::break_down(event);
        exclusive_time::normalise(event);
    }
    user::addresses(event, context.client_ip);
    if let Some(places) = &context.places {
        place::normalise(event, places);
    }
    user::normalise(event, &notes);
    release::normalise(event, &mut notes);
    breadcrumb::normalise(event, shift);
    tags::normalise(event, &mut notes);
    device::normalise(event);
    stacktrace::normalise(event, &mut notes);
    exception::normalise(event, &mut notes);
    event.insert("type", Json::text(kind::kind(event)));
    defaults(event, is_transaction, &mut notes);
    request::normalise(event, &mut notes);
    user_agent::normalise(event, &mut notes);
    measurement::normalise(event, duration_ms(event), &mut notes);
    contexts::normalise(event, context.event_id, &mut notes);
    mechanism::name_numbers(event, &mut notes);
    trim::normalise(event, &mut notes);
    without_what_says_nothing(event, &notes);
    notes.write(event);
    Ok(())
}

fn identity(event: &mut Object<'_>, context: &EventContext) {
    event.insert("event_id", Json::text(context.event_id.to_string()));
    event.insert("version", Json::text(PROTOCOL_VERSION));
    event.insert("project", i64::try_from(context.project_id).map_or(Json::UInt(context.project_id), Json::Int));
    match context.key_id {
        Some(key_id) => event.insert("key_id", Json::text(key_id.to_string())),
        None => drop(event.remove("key_id")),
    }
    event.remove("grouping_config");
    if event.get("sdk").is_none()
        && let Some((name, version)) = context.client.as_deref().and_then(|client| client.split_once('/'))
    {
        let texts = [("name", name), ("version", version)];
        event.insert("sdk", Json::Object(texts.into_iter().map(|(key, text)| (key, Json::text(text.to_owned()))).collect()));
    }
}

/// What every event has, and what is left out where it says nothing.
fn defaults<'a>(event: &mut Object<'a>, is_transaction: bool, notes: &mut Notes<'a>) {
    for (key, default) in [("level", if is_transaction { "info" } else { "error" }), ("logger", "")] {
        if event.get(key).is_none() {
            event.insert(key, Json::text(default));
        }
    }
    let given = event.remove("platform");
    let name = given.as_ref().and_then(Json::as_str).unwrap_or_default();
    let platform = kind::platform(name);
    if let Some(given) = given.filter(|given| given.as_str().is_some_and(|given| given != platform)) {
        notes.original(Path::Root.key("platform"), given);
    }
    event.insert("platform", Json::text(platform));
    if event.get_mut("extra").is_some_and(|extra| extra.is_null()) {
        event.insert("extra", Json::Object(Object::new()));
    }
    if event.get("time_spent").and_then(Json::as_u64).is_some_and(|ms| ms >= TIME_SPENT_MAX) {
        event.remove("time_spent");
    }
}

fn duration_ms(event: &Object<'_>) -> Option<f64> {
    Some((event.get("timestamp")?.as_f64()? - event.get("start_timestamp")?.as_f64()?) * 1000.0)
}

/// Leaves out elements and members that are null without anything to remark on.
fn without_what_says_nothing(event: &mut Object<'_>, notes: &Notes<'_>) {
    for key in ["breadcrumbs", "exception", "threads"] {
        let Some(Json::Object(interface)) = event.get_mut(key) else { continue };
        if let Some(Json::Array(values)) = interface.get_mut("values") {
            let path = Path::Root.key(key);
            sparse(values, path.key("values"), notes);
            if values.is_empty() {
                interface.remove("values");
            }
        }
    }
    if let Some(Json::Object(sdk)) = event.get_mut("sdk") {
        for key in ["integrations", "features", "packages"] {
            if let Some(Json::Array(items)) = sdk.get_mut(key) {
                let path = Path::Root.key("sdk");
                sparse(items, path.key(key), notes);
                if items.is_empty() {
                    sdk.remove(key);
                }
            }
        }
    }
    event.retain(|key, value| match (key, &value) {
        (_, Json::Null) => notes.has(Path::Root.key(key)),
        ("extra", Json::Object(extra)) => !extra.is_empty() || notes.has(Path::Root.key(key)),
        _ => true,
    });
}

fn sparse(items: &mut Vec<Json<'_>>, path: Path<'_>, notes: &Notes<'_>) {
    let mut index = 0;
    items.retain(|item| {
        index += 1;
        !read::is_deeply_empty(item) || notes.has(path.index(index - 1))
    });
}
