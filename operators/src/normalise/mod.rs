//! Normalisation of an error event in place: lenient, never rejecting (`spec/ingest.md` section 3).
//!
//! A field that is not what it should be goes, and is listed in `errors` and `_meta`. Normalising twice changes nothing.
//!
//! | module | noun |
//! |---|---|
//! | [`alias`] | older names of fields, and which names there are |
//! | [`kind`], [`level`], [`release`], [`clock`] | single values |
//! | [`tags`], [`user`], [`fingerprint`], [`message`], [`request`], [`contexts`] | interfaces |
//! | [`exception`], [`thread`], [`stacktrace`], [`breadcrumb`] | interfaces with values |
//! | [`attribute`] | short texts and bags without rules of their own |
//! | [`note`], [`trim`] | what was changed; limits |

use std::net::IpAddr;

use weir_protocol::json::{Json, Object};
use weir_protocol::{EventId, KeyId, ProjectId};

pub mod alias;
pub mod attribute;
pub mod breadcrumb;
pub mod clock;
pub mod contexts;
pub mod exception;
pub mod fingerprint;
pub mod kind;
pub mod level;
pub mod message;
pub mod note;
pub mod release;
pub mod request;
pub mod stacktrace;
pub mod tags;
pub mod thread;
pub mod trim;
pub mod user;

#[cfg(test)]
mod tests;

use note::Notes;
use release::Field;

/// Days that an event may be old where nothing else is said.
pub const RETENTION_DAYS: u16 = 90;

/// What is known of an event besides its payload.
#[derive(Debug, Clone, PartialEq)]
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
        }
    }
}

/// Normalises an error event in place. A value that is no object stays as it is: the caller refuses it.
pub fn event<'a>(event: &mut Json<'a>, context: &EventContext) {
    let Json::Object(event) = event else { return };
    let mut notes = Notes::default();
    alias::normalise(event, &mut notes);
    attribute::normalise(event, &context.client, &mut notes);
    identity(event, context);
    let shift = clock::normalise(event, context, &mut notes);
    level_and_platform(event, &mut notes);
    message::normalise(event, &mut notes);
    exception::normalise(event, &mut notes);
    thread::normalise(event, &mut notes);
    stacktrace::normalise(event, &[], &mut notes);
    breadcrumb::normalise(event, shift, &mut notes);
    fingerprint::normalise(event, &mut notes);
    tags::normalise(event, &mut notes);
    promotions(event, &mut notes);
    request::normalise(event, context.client_ip, &mut notes);
    let remote_addr = event.get("request").and_then(|r| r.str_at(&["env", "REMOTE_ADDR"])).map(str::to_owned);
    user::normalise(event, context.client_ip, remote_addr.as_deref(), &mut notes);
    contexts::normalise(event, context.event_id, &mut notes);
    event.insert("type", Json::text(kind::kind(event)));
    notes.write(event);
}

fn identity(event: &mut Object<'_>, context: &EventContext) {
    event.insert("event_id", Json::text(context.event_id.to_string()));
    event.insert("project", i64::try_from(context.project_id).map_or(Json::UInt(context.project_id), Json::Int));
    match context.key_id {
        Some(key_id) => event.insert("key_id", Json::text(key_id.to_string())),
        None => drop(event.remove("key_id")),
    }
}

fn level_and_platform<'a>(event: &mut Object<'a>, notes: &mut Notes<'a>) {
    let given = event.remove("level").unwrap_or_default();
    let level = level::level(&given);
    if level.is_none() && !given.is_null() {
        notes.invalid(&["level"], given);
    }
    let default = if kind::kind(event) == "transaction" { "info" } else { "error" };
    event.insert("level", Json::text(level.unwrap_or(default)));
    event.insert("platform", Json::text(kind::platform(event.get("platform"))));
}

/// Release, environment and distribution; the tags that stand for fields, and the fields that stand for tags.
fn promotions<'a>(event: &mut Object<'a>, notes: &mut Notes<'a>) {
    checked(event, "release", release::release, notes);
    checked(event, "environment", release::environment, notes);
    checked(event, "dist", release::dist, notes);
    if let Some(tagged) = tags::remove(event, "environment")
        && event.get("environment").is_none()
        && let Field::Valid(environment) = release::environment(&Json::text(tagged))
    {
        event.insert("environment", Json::text(environment));
    }
    for key in ["server_name", "site"] {
        match event.remove(key) {
            None | Some(Json::Null) => {}
            Some(Json::String(text)) => tags::add(event, key, &text),
            Some(other) => notes.invalid(&[key], other),
        }
    }
}

fn checked<'a>(event: &mut Object<'a>, key: &'static str, read: fn(&Json<'_>) -> Field, notes: &mut Notes<'a>) {
    let Some(value) = event.remove(key) else { return };
    match read(&value) {
        Field::Valid(text) => event.insert(key, Json::text(text)),
        Field::Absent => {}
        Field::Invalid => notes.invalid(&[key], value),
    }
}
