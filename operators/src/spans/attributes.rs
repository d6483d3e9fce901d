//! Attributes by type: those of containers say their type, those of JSON objects show it.

use weir_protocol::json::{Json, Object};

use crate::rows::Attributes;

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

    /// A text attribute.
    pub(crate) fn text(&self, key: &str) -> Option<&str> {
        self.text.iter().find(|(k, _)| k == key).map(|(_, v)| v.as_str()).filter(|v| !v.is_empty())
    }

    /// A number, whole or not.
    pub(crate) fn float(&self, key: &str) -> Option<f64> {
        let number = self.number.iter().find(|(k, _)| k == key).map(|(_, v)| *v);
        number.or_else(|| self.integer.iter().find(|(k, _)| k == key).map(|(_, v)| *v as f64))
    }

    /// Whether there is an attribute of this name, whatever its type.
    pub(crate) fn has(&self, key: &str) -> bool {
        self.text(key).is_some() || self.float(key).is_some() || self.boolean.iter().any(|(k, _)| k == key)
    }

    /// A whole number, given as such or as text.
    pub(crate) fn integer(&self, key: &str) -> Option<i64> {
        let number = self.integer.iter().find(|(k, _)| k == key).map(|(_, v)| *v);
        number.or_else(|| self.text(key)?.parse().ok())
    }
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
