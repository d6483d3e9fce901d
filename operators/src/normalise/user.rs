//! The user: known fields, an address that is one, and the text that identifies it (`spec/ingest.md` sections 3.2 and 3.5).

use std::net::IpAddr;

use weir_protocol::json::{Json, Object};

use super::note::Notes;
use super::trim::{bound, shorten};

/// Stands for the address of the client in fields that take an address.
pub const AUTO: &str = "{{auto}}";

const NAME_CHARS_MAX: usize = 128;
const EMAIL_CHARS_MAX: usize = 75;
const DATA_BYTES_MAX: usize = 8 << 10;
const KNOWN: [&str; 8] = ["id", "email", "ip_address", "username", "name", "geo", "sentry_user", "data"];

/// What `sdk.settings.infer_ip` asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum InferIp {
    /// Not said: the address is filled in for browsers and Apple's platforms.
    Legacy,
    /// Filled in for every platform.
    Auto,
    /// Never, not even where the SDK wrote `{{auto}}`.
    Never,
}

impl InferIp {
    /// What the event's SDK asks for.
    pub fn of(event: &Object<'_>) -> Self {
        match event.get("sdk").and_then(|sdk| sdk.str_at(&["settings", "infer_ip"])) {
            Some("auto") => Self::Auto,
            Some("never") => Self::Never,
            _ => Self::Legacy,
        }
    }
}

/// Brings `user` into form; `remote_addr` is the request's address, where it has one. A user without any field goes.
pub fn normalise<'a>(event: &mut Object<'a>, client_ip: Option<IpAddr>, remote_addr: Option<&str>, notes: &mut Notes<'a>) {
    let mut user = match event.remove("user") {
        Some(Json::Object(user)) => user,
        None | Some(Json::Null) => Object::new(),
        Some(other) => {
            notes.invalid(&["user"], other);
            Object::new()
        }
    };
    gather_unknown(&mut user, notes);
    for (key, chars_max) in [("id", NAME_CHARS_MAX), ("username", NAME_CHARS_MAX), ("name", NAME_CHARS_MAX), ("email", EMAIL_CHARS_MAX)] {
        text_field(&mut user, key, chars_max, notes);
    }
    address(&mut user, event, client_ip, remote_addr, notes);
    user.remove("sentry_user");
    if let Some(identity) = identity(&user) {
        user.insert("sentry_user", Json::text(identity));
    }
    user.retain(|_, value| !value.is_null());
    if !user.is_empty() {
        event.insert("user", Json::Object(user));
    }
}

/// The text that identifies a user: id, else username, email, address, with its kind before it.
fn identity(user: &Object<'_>) -> Option<String> {
    [("id", "id"), ("username", "username"), ("email", "email"), ("ip_address", "ip")]
        .into_iter()
        .find_map(|(key, prefix)| Some(format!("{prefix}:{}", user.get(key)?.as_str().filter(|text| !text.is_empty())?)))
}

fn gather_unknown<'a>(user: &mut Object<'a>, notes: &mut Notes<'a>) {
    let data = match user.remove("data") {
        Some(Json::Object(data)) => data,
        None | Some(Json::Null) => Object::new(),
        Some(other) => {
            notes.invalid(&["user", "data"], other);
            Object::new()
        }
    };
    let (known, unknown): (Vec<_>, Vec<_>) = std::mem::take(user).into_iter().partition(|(key, _)| KNOWN.contains(&key.as_ref()));
    *user = known.into_iter().collect();
    // Of a key that is in both places the last value stays, so the data come last.
    let unknown = unknown.into_iter().filter(|(_, value)| !value.is_null());
    let data: Object<'a> = unknown.chain(data).collect();
    let mut data = Json::Object(data);
    bound(&mut data, DATA_BYTES_MAX);
    if data.as_object().is_some_and(|data| !data.is_empty()) {
        user.insert("data", data);
    }
    if user.get("geo").is_some_and(|geo| geo.as_object().is_none()) {
        notes.invalid(&["user", "geo"], user.remove("geo").unwrap_or_default());
    }
}

fn text_field<'a>(user: &mut Object<'a>, key: &str, chars_max: usize, notes: &mut Notes<'a>) {
    let Some(value) = user.get_mut(key) else { return };
    match value {
        Json::Null => {}
        Json::String(text) => {
            let trimmed = text.trim();
            if trimmed.is_empty() {
                *value = Json::Null;
            } else if trimmed.len() < text.len() {
                *value = Json::text(trimmed.to_owned());
            }
        }
        Json::Bool(truth) => *value = Json::text(if *truth { "True" } else { "False" }),
        Json::Int(_) | Json::UInt(_) | Json::Float(_) => *value = Json::text(value.to_string()),
        Json::Array(_) | Json::Object(_) => notes.invalid(&["user", key], value.take()),
    }
    shorten(value, chars_max);
}

fn address<'a>(user: &mut Object<'a>, event: &Object<'a>, client_ip: Option<IpAddr>, remote_addr: Option<&str>, notes: &mut Notes<'a>) {
    let infer = InferIp::of(event);
    let client = client_ip.filter(|_| infer != InferIp::Never).map(|ip| ip.to_string());
    let given = user.remove("ip_address").unwrap_or_default();
    let filled_in = || {
        let is_client = matches!(event.get("platform").and_then(Json::as_str), Some("javascript" | "cocoa" | "objc"));
        let remote = remote_addr.and_then(|text| text.trim().parse::<IpAddr>().ok()).map(|ip| ip.to_string());
        match infer {
            InferIp::Never => None,
            InferIp::Legacy => remote.or_else(|| client.clone().filter(|_| is_client)),
            InferIp::Auto => remote.or_else(|| client.clone()),
        }
    };
    let address = match given {
        Json::Null => filled_in(),
        Json::String(text) if text.trim() == AUTO => client,
        Json::String(text) if text.trim().is_empty() => filled_in(),
        Json::String(text) => match text.trim().parse::<IpAddr>() {
            Ok(ip) => Some(ip.to_string()),
            Err(_) => {
                notes.invalid(&["user", "ip_address"], Json::String(text));
                None
            }
        },
        other => {
            notes.invalid(&["user", "ip_address"], other);
            None
        }
    };
    if let Some(address) = address {
        user.insert("ip_address", Json::text(address));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(event: &str, remote: Option<&str>, want: &str) {
        let mut json = Json::parse(event.as_bytes()).unwrap();
        normalise(json.as_object_mut().unwrap(), "203.0.113.9".parse().ok(), remote, &mut Notes::default());
        assert_eq!(json.get("user").map(Json::to_string).unwrap_or_default(), want, "{event}");
    }

    #[test]
    fn users() {
        check(r#"{"user":{"id":7,"email":"a@b","plan":"gold"}}"#, None, r#"{"id":"7","email":"a@b","data":{"plan":"gold"},"sentry_user":"id:7"}"#);
        check(r#"{"user":{"email":"a@b","sentry_user":"id:1"}}"#, None, r#"{"email":"a@b","sentry_user":"email:a@b"}"#);
        check(r#"{"user":{"ip_address":"300.1.1.1"}}"#, None, "");
        check(r#"{"user":{}}"#, None, "");
        check(r#"{"user":3}"#, None, "");
    }

    #[test]
    fn addresses() {
        let client = r#"{"ip_address":"203.0.113.9","sentry_user":"ip:203.0.113.9"}"#;
        check(r#"{"user":{"ip_address":"{{auto}}"}}"#, None, client);
        check(r#"{"user":{"ip_address":"{{auto}}"},"sdk":{"settings":{"infer_ip":"never"}}}"#, None, "");
        check(r#"{"sdk":{"settings":{"infer_ip":"auto"}}}"#, None, client);
        check(r#"{"platform":"javascript"}"#, None, client);
        check(r#"{"platform":"python"}"#, None, "");
        check(r#"{"platform":"python"}"#, Some("10.0.0.1"), r#"{"ip_address":"10.0.0.1","sentry_user":"ip:10.0.0.1"}"#);
    }
}
