//! Attributes by type: those of containers say their type, those of JSON objects show it.

use std::collections::BTreeSet;

use weir_protocol::json::{Json, Object};

use crate::decode::Item;
use crate::normalise::user::AUTO;
use crate::rows::Attributes;

/// Attributes that hold the address of a client.
const ADDRESSES: [&str; 3] = ["client.address", "user.ip_address", "user.ip"];

impl Attributes {
    /// Adds a value under the type that it has; null is left out.
    pub(crate) fn add(&mut self, key: &str, value: &Json<'_>) {
        let key = key.to_owned();
        match value {
            Json::Null => {}
            Json::Bool(value) => self.boolean.push((key, *value)),
            Json::Int(value) => self.integer.push((key, *value)),
            Json::UInt(value) => self.number.push((key, *value as f64)),
            Json::Float(value) => self.number.push((key, *value)),
            Json::String(value) => self.text.push((key, value.to_string())),
            Json::Array(_) | Json::Object(_) => self.text.push((key, value.to_string())),
        }
    }

    /// Puts the client's address where the SDK wrote `{{auto}}`. Where it is not known, or the SDK asked that it be never
    /// filled in, the attribute goes (`spec/ingest.md` section 3.5).
    pub(crate) fn resolve_address(&mut self, item: &Item, container: &Json<'_>) {
        let never = container.str_at(&["ingest_settings", "infer_ip"]) == Some("never");
        let client = item.context.client_ip.filter(|_| !never).map(|ip| ip.to_string());
        self.text.retain_mut(|(key, value)| {
            if !ADDRESSES.contains(&key.as_str()) || value.trim() != AUTO {
                return true;
            }
            client.as_ref().map(|ip| value.clone_from(ip)).is_some()
        });
    }

    /// A text attribute.
    pub(crate) fn text(&self, key: &str) -> Option<&str> {
        self.text.iter().find(|(k, _)| k == key).map(|(_, v)| v.as_str()).filter(|v| !v.is_empty())
    }

    /// A number, whole or not.
    pub(crate) fn float(&self, key: &str) -> Option<f64> {
        let number = self.number.iter().find(|(k, _)| k == key).map(|(_, v)| *v);
        number.or_else(|| self.integer.iter().find(|(k, _)| k == key).map(|(_, v)| *v as f64))
    }

    /// Whether there is a value under this key, of any type.
    pub(crate) fn has(&self, key: &str) -> bool {
        let (text, number) = (self.text.iter().map(|(key, _)| key), self.number.iter().map(|(key, _)| key));
        let (integer, boolean) = (self.integer.iter().map(|(key, _)| key), self.boolean.iter().map(|(key, _)| key));
        text.chain(number).chain(integer).chain(boolean).any(|there| there == key)
    }

    /// Adds the values whose keys are not there yet under any type, since a map has no key twice.
    pub(crate) fn add_absent<'j, 'a: 'j>(&mut self, given: impl Iterator<Item = (&'j str, &'j Json<'a>)>) {
        let (text, number) = (self.text.iter().map(|(key, _)| key), self.number.iter().map(|(key, _)| key));
        let (integer, boolean) = (self.integer.iter().map(|(key, _)| key), self.boolean.iter().map(|(key, _)| key));
        let mut keys: BTreeSet<String> = text.chain(number).chain(integer).chain(boolean).cloned().collect();
        for (key, value) in given {
            if keys.insert(key.to_owned()) {
                self.add(key, value);
            }
        }
    }

    /// A whole number, given as such or as text.
    pub(crate) fn integer(&self, key: &str) -> Option<i64> {
        let number = self.integer.iter().find(|(k, _)| k == key).map(|(_, v)| *v);
        number.or_else(|| self.text(key)?.parse().ok())
    }
}

/// The platform that an element states, else the one in its SDK's name (`sentry.javascript.browser`).
pub(crate) fn platform(attributes: &Attributes) -> Option<String> {
    let of_sdk = || attributes.text("sentry.sdk.name")?.strip_prefix("sentry.")?.split('.').next();
    attributes.text("sentry.platform").or_else(of_sdk).map(str::to_owned)
}

/// The attributes of a JSON object, each by the type of its value.
pub(crate) fn json_attributes(object: Option<&Object<'_>>) -> Attributes {
    let mut attributes = Attributes::default();
    object.into_iter().flat_map(Object::iter).for_each(|(key, value)| attributes.add(key, value));
    attributes
}

/// Attributes of the form `{"key": {"type": "integer", "value": 3}}`. A whole number that is said to be a `double` is one.
pub(crate) fn typed_attributes(object: Option<&Object<'_>>) -> Attributes {
    let mut attributes = Attributes::default();
    for (key, attribute) in object.into_iter().flat_map(Object::iter) {
        let Some(value) = attribute.get("value") else { continue };
        match (attribute.str_at(&["type"]), value.as_f64()) {
            (Some("double"), Some(number)) => attributes.number.push((key.to_owned(), number)),
            _ => attributes.add(key, value),
        }
    }
    attributes
}

/// The user as tag: the first that there is of id, name, e-mail and address (`spec/grouping.md` section 5).
pub(crate) fn user_tag(attributes: &Attributes) -> Option<String> {
    let id = || attributes.text("user.id").map(str::to_owned).or_else(|| attributes.integer("user.id").map(|id| id.to_string()));
    let named = |prefix: &str, keys: &[&str]| keys.iter().find_map(|key| attributes.text(key)).map(|value| format!("{prefix}:{value}"));
    id().map(|id| format!("id:{id}"))
        .or_else(|| named("username", &["user.username", "user.name"]))
        .or_else(|| named("email", &["user.email"]))
        .or_else(|| named("ip", &["user.ip_address", "user.ip"]))
}
