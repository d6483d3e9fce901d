//! The tags of an event as people search them: its own, and those that its fields and contexts stand for.

use std::collections::BTreeMap;

use weir_protocol::json::Json;

use crate::event::{exceptions, text};
use crate::normalise::tags::{TAG_CHARS_MAX, pairs};
use crate::normalise::trim::first_chars;

/// Fields of an event that are tags as well.
const FIELDS: [&str; 6] = ["level", "environment", "release", "dist", "logger", "transaction"];

/// A kind of context that is tags.
struct ContextTags {
    /// The context's type.
    kind: &'static str,
    /// The members whose texts together are the tag under the context's name.
    whole: &'static [&'static str],
    /// Endings of tags of their own, and the members that they stand for.
    members: &'static [(&'static str, &'static str)],
}

const CONTEXTS: [ContextTags; 7] = [
    ContextTags { kind: "browser", whole: &["name", "version"], members: &[("name", "name")] },
    ContextTags { kind: "client_os", whole: &["name", "version"], members: &[("name", "name")] },
    ContextTags { kind: "os", whole: &["name", "version"], members: &[("name", "name"), ("rooted", "rooted")] },
    ContextTags { kind: "device", whole: &["model"], members: &[("family", "family"), ("class", "class")] },
    ContextTags { kind: "runtime", whole: &["name", "version"], members: &[("name", "name")] },
    ContextTags { kind: "gpu", whole: &[], members: &[("name", "name"), ("vendor", "vendor_name")] },
    ContextTags { kind: "monitor", whole: &[], members: &[("id", "id"), ("slug", "slug")] },
];

/// Tags by key.
type Tags = BTreeMap<String, String>;

/// All tags. A tag that the SDK set stands before one that is derived, but for the fields.
pub fn tags(event: &Json<'_>) -> Tags {
    let mut tags = Tags::new();
    for key in FIELDS {
        add(&mut tags, key, text(event, key));
    }
    add(&mut tags, "user", event.str_at(&["user", "sentry_user"]));
    pairs(event).for_each(|(key, value)| add(&mut tags, key, Some(value)));
    add(&mut tags, "url", event.str_at(&["request", "url"]));
    mechanism(&mut tags, event);
    contexts(&mut tags, event);
    add(&mut tags, "replayId", event.str_at(&["contexts", "replay", "replay_id"]));
    tags
}

fn add(tags: &mut Tags, key: &str, value: Option<&str>) {
    let value = value.map(|value| first_chars(value.trim(), TAG_CHARS_MAX).trim_end()).filter(|value| !value.is_empty() && !value.contains('\n'));
    if let Some(value) = value {
        tags.entry(key.to_owned()).or_insert_with(|| value.to_owned());
    }
}

/// How the last exception was caught.
fn mechanism(tags: &mut Tags, event: &Json<'_>) {
    let exceptions = exceptions(event);
    let Some(mechanism) = exceptions.iter().rev().find_map(|exception| exception.get("mechanism")) else { return };
    add(tags, "mechanism", text(mechanism, "type"));
    let handled = mechanism.get("handled").and_then(Json::as_bool).map(|handled| if handled { "yes" } else { "no" });
    add(tags, "handled", handled);
}

fn contexts(tags: &mut Tags, event: &Json<'_>) {
    let Some(contexts) = event.get("contexts").and_then(Json::as_object) else { return };
    for (name, context) in contexts.iter() {
        let kind = text(context, "type").unwrap_or(name);
        let Some(ContextTags { whole, members, .. }) = CONTEXTS.iter().find(|tags| tags.kind == kind) else { continue };
        let texts: Vec<String> = whole.iter().filter_map(|member| scalar(context.get(member)?)).collect();
        if texts.len() == whole.len() {
            add(tags, name, Some(&texts.join(" ")));
        }
        for (suffix, member) in *members {
            add(tags, &format!("{name}.{suffix}"), context.get(member).and_then(scalar).as_deref());
        }
    }
}

/// The text of a value that is neither a list nor an object.
pub fn scalar(value: &Json<'_>) -> Option<String> {
    match value {
        Json::String(text) => Some(text.trim().to_owned()),
        Json::Bool(true) => Some("True".to_owned()),
        Json::Bool(false) => Some("False".to_owned()),
        Json::Int(_) | Json::UInt(_) | Json::Float(_) => Some(value.to_string()),
        Json::Null | Json::Array(_) | Json::Object(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::normalise::{self, EventContext};

    #[test]
    fn tags_of_fields_and_contexts() {
        let check = |json: &str, want: &str| {
            let mut event = Json::parse(json.as_bytes()).unwrap();
            normalise::event(&mut event, &EventContext::default()).unwrap();
            let got: Vec<String> = tags(&event).into_iter().map(|(key, value)| format!("{key}={value}")).collect();
            assert_eq!(got.join(" "), want, "{json}");
        };
        check("{}", "level=error");
        check(
            r#"{"release":"r","environment":"e","dist":"d","logger":"l","transaction":"/t","server_name":"s","user":{"id":"7"},"tags":{"level":"x","a":"1"}}"#,
            "a=1 dist=d environment=e level=error logger=l release=r server_name=s transaction=/t user=id:7",
        );
        check(r#"{"exception":{"type":"T","mechanism":{"type":"m","handled":false}}}"#, "handled=no level=error mechanism=m");
        check(
            r#"{"contexts":{"os":{"name":"Linux","version":"6"},"rust":{"type":"runtime","name":"rustc","version":"1"},"device":{"family":"F"},"os2":{"type":"os","name":"X"}}}"#,
            "device.family=F level=error os=Linux 6 os.name=Linux os2.name=X rust=rustc 1 rust.name=rustc",
        );
        check(r#"{"request":{"url":"http://h/a?b"}}"#, "level=error url=http://h/a");
    }
}
