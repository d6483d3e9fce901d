//! The user: known fields, an address that is one, and the text that identifies it (`spec/ingest.md` sections 3.2 and 3.5).

use std::net::IpAddr;

use weir_protocol::json::{Json, Object};

use super::fields::USER;
use super::note::Notes;
use super::path::Path;

/// Stands for the address of the client in fields that take an address.
pub const AUTO: &str = "{{auto}}";

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
        let settings = event.get("sdk").and_then(|sdk| sdk.get("settings")).and_then(Json::as_object);
        match settings.and_then(|settings| settings.get("infer_ip")).and_then(Json::as_str) {
            Some("auto") => Self::Auto,
            Some("never") => Self::Never,
            // Something else was asked for, and taken out: rather no address than one that was not wanted.
            None if settings.is_some_and(|settings| settings.contains_key("infer_ip")) => Self::Never,
            _ => Self::Legacy,
        }
    }
}

/// Reads `sdk.settings.infer_ip`; `legacy` is the same as nothing.
pub fn read_infer_ip<'a>(value: &mut Json<'a>, path: Path<'_>, notes: &mut Notes<'a>) {
    match value {
        Json::String(text) => match text.as_ref() {
            "auto" | "never" => {}
            "legacy" => *value = Json::Null,
            _ => notes.refused(path, value.take()),
        },
        other => notes.invalid(path, "expected a string", other.take()),
    }
}

/// Fills in the addresses that the SDK left to the server: of the request and of the user.
pub fn addresses(event: &mut Object<'_>, client_ip: Option<IpAddr>) {
    let infer = InferIp::of(event);
    let client = client_ip.filter(|_| infer != InferIp::Never).map(|ip| ip.to_string());
    let env = event.get_mut("request").and_then(Json::as_object_mut).and_then(|request| request.get_mut("env")).and_then(Json::as_object_mut);
    let remote = env.and_then(|env| env.get_mut("REMOTE_ADDR"));
    if let (Some(remote), Some(client)) = (remote, &client)
        && remote.as_str() == Some(AUTO)
    {
        *remote = Json::text(client.clone());
    }
    let remote = event.get("request").and_then(|request| request.str_at(&["env", "REMOTE_ADDR"]));
    let remote = remote.filter(|text| infer != InferIp::Never && (*text == AUTO || text.parse::<IpAddr>().is_ok())).map(str::to_owned);
    let is_client = matches!(event.get("platform").and_then(Json::as_str), Some("javascript" | "cocoa" | "objc"));
    let given = event.get("user").and_then(|user| user.str_at(&["ip_address"]));
    let address = match (given, infer) {
        (Some(AUTO), InferIp::Never) => None,
        (Some(AUTO), _) => client.or(remote).or_else(|| Some(AUTO.to_owned())),
        (Some(_), _) => return,
        (None, InferIp::Never) => return,
        (None, InferIp::Auto) => remote.or(client),
        (None, InferIp::Legacy) => remote.or(client.filter(|_| is_client)),
    };
    match (address, event.get_mut("user").and_then(Json::as_object_mut)) {
        (Some(address), Some(user)) => user.insert("ip_address", Json::text(address)),
        (Some(address), None) => event.insert("user", Json::Object([("ip_address", Json::text(address))].into_iter().collect())),
        (None, Some(user)) if user.get("ip_address").is_some() => drop(user.remove("ip_address")),
        (None, _) => {}
    }
}

/// Says who the user is and gathers what is no field of a user into `data`. A user without any field goes.
pub fn normalise<'a>(event: &mut Object<'a>, notes: &Notes<'a>) {
    let Some(Json::Object(user)) = event.get_mut("user") else { return };
    if user.iter().any(|(key, _)| USER.field(key).is_none()) {
        gather(user);
    }
    match identity(user) {
        Some(identity) => user.insert("sentry_user", Json::text(identity)),
        None => drop(user.remove("sentry_user")),
    }
    user.retain(|key, value| match value {
        Json::String(text) => !text.is_empty(),
        Json::Object(object) => !object.is_empty(),
        Json::Null => notes.has(Path::Root.key("user").key(key)),
        _ => true,
    });
    if user.is_empty() {
        event.remove("user");
    }
}

/// The text that identifies a user: id, else username, email, address, with its kind before it.
fn identity(user: &Object<'_>) -> Option<String> {
    [("id", "id"), ("username", "username"), ("email", "email"), ("ip_address", "ip")]
        .into_iter()
        .find_map(|(key, prefix)| Some(format!("{prefix}:{}", user.get(key)?.as_str()?)))
}

fn gather(user: &mut Object<'_>) {
    let data = match user.remove("data") {
        Some(Json::Object(data)) => data,
        _ => Object::new(),
    };
    let (known, unknown): (Vec<_>, Vec<_>) = std::mem::take(user).into_iter().partition(|(key, _)| USER.field(key).is_some());
    *user = known.into_iter().collect();
    user.insert("data", Json::Object(data.into_iter().chain(unknown).collect()));
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(event: &str, want: &str) {
        let mut json = Json::parse(event.as_bytes()).unwrap();
        let object = json.as_object_mut().unwrap();
        addresses(object, "203.0.113.9".parse().ok());
        normalise(object, &Notes::default());
        assert_eq!(json.get("user").map(Json::to_string).unwrap_or_default(), want, "{event}");
    }

    #[test]
    fn users() {
        check(r#"{"user":{"id":"7","email":"a@b","plan":"gold"}}"#, r#"{"id":"7","email":"a@b","data":{"plan":"gold"},"sentry_user":"id:7"}"#);
        check(r#"{"user":{"email":"a@b","sentry_user":"id:1"}}"#, r#"{"email":"a@b","sentry_user":"email:a@b"}"#);
        check(r#"{"user":{}}"#, "");
    }

    #[test]
    fn what_the_sdk_left_to_the_server() {
        let client = r#"{"ip_address":"203.0.113.9","sentry_user":"ip:203.0.113.9"}"#;
        check(r#"{"user":{"ip_address":"{{auto}}"}}"#, client);
        check(r#"{"user":{"ip_address":"{{auto}}"},"sdk":{"settings":{"infer_ip":"never"}}}"#, "");
        check(r#"{"sdk":{"settings":{"infer_ip":"auto"}}}"#, client);
        check(r#"{"platform":"javascript"}"#, client);
        check(r#"{"platform":"python"}"#, "");
        check(r#"{"request":{"env":{"REMOTE_ADDR":"10.0.0.1"}}}"#, r#"{"ip_address":"10.0.0.1","sentry_user":"ip:10.0.0.1"}"#);
        check(r#"{"request":{"env":{"REMOTE_ADDR":"{{auto}}"}}}"#, client);
    }
}
