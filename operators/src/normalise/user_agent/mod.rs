//! What the client's software is: the contexts `browser`, `client_os` and `device`, out of the headers of the event's request
//! (`spec/ingest.md` section 3.5).
//!
//! The patterns are those of uap-core, which Relay uses too; client hints (`Sec-CH-UA…`) stand before the user agent.

use weir_protocol::json::{Json, Object};

use super::note::Notes;
use super::path::Path;
use super::request::header;

mod hints;
mod patterns;

pub use patterns::{Agent, agent};

/// Adds the contexts that are not there.
pub fn normalise<'a>(event: &mut Object<'a>, notes: &mut Notes<'a>) {
    let Some(request) = event.get("request") else { return };
    let user_agent = header(request, "User-Agent");
    let hints = hints::agent(request);
    if user_agent.is_none() && hints == Agent::default() {
        return;
    }
    let named = user_agent.map(agent).unwrap_or_default();
    // In a browser the system is that of the event; elsewhere it is that of whoever made the request.
    let is_browser = event.get("platform").and_then(Json::as_str) == Some("javascript");
    let system_key = if is_browser { "os" } else { "client_os" };
    let found = [
        ("browser", hints.browser.or_else(|| named.browser.clone())),
        (system_key, hints.system.or_else(|| named.system.clone())),
        ("device", hints.device.or_else(|| named.device.clone())),
    ];
    if found.iter().all(|(_, members)| members.is_none()) {
        return;
    }
    if event.get("contexts").is_none() {
        event.insert("contexts", Json::Object(Object::new()));
    }
    let Some(Json::Object(contexts)) = event.get_mut("contexts") else { return };
    let path = Path::Root.key("contexts");
    for (key, members) in found.into_iter().filter_map(|(key, members)| Some((key, members?))) {
        if contexts.get(key).is_none() {
            notes.forget_below(path.key(key));
            let kind = if key == system_key { "os" } else { key };
            let context = members.into_iter().map(|(member, text)| (member, Json::text(text))).chain([("type", Json::text(kind))]);
            contexts.insert(key, Json::Object(context.collect()));
        }
    }
}
