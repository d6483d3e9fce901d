//! The attributes of spans and logs: typed ones, plain ones, and how they become columns.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::net::IpAddr;

use weir_protocol::ProjectId;
use weir_protocol::json::Json;

use crate::error::user_hash;
use crate::normalise::release::{Field, environment, release};
use crate::normalise::user::{AUTO, InferIp};
use crate::rows::Attributes;

/// Attributes that hold the address of a client.
const ADDRESSES: [&str; 3] = ["client.address", "user.ip_address", "user.ip"];

/// The attributes that identify a user, in the order of their weight, each with its prefix in the `user` tag. They are those
/// of an event's user (`spec/ingest.md` section 3.2).
const USER: [(&str, &str); 6] =
    [("user.id", "id"), ("user.name", "username"), ("user.username", "username"), ("user.email", "email"), ("user.ip_address", "ip"), ("user.ip", "ip")];

/// The largest whole number below which a floating-point number is exact.
const EXACT_MAX: f64 = 9_007_199_254_740_992.0;

/// The value of an attribute.
#[derive(Debug, Clone, PartialEq)]
enum Value<'e> {
    Text(Cow<'e, str>),
    Number(f64),
    Integer(i64),
    Boolean(bool),
}

/// The attributes of one element by their names; of a name that comes twice the first stands.
#[derive(Debug, Default)]
pub(crate) struct Bag<'e>(BTreeMap<Cow<'e, str>, Value<'e>>);

impl<'e> Value<'e> {
    /// A value by its JSON type. Lists and objects are their JSON text, and so is a whole number that a column cannot hold.
    fn plain(value: &'e Json<'_>) -> Option<Self> {
        Some(match value {
            Json::Null => return None,
            Json::Bool(value) => Self::Boolean(*value),
            Json::Int(value) => Self::Integer(*value),
            Json::Float(value) => Self::Number(*value),
            Json::String(text) => Self::Text(Cow::Borrowed(text.as_ref())),
            Json::UInt(_) | Json::Array(_) | Json::Object(_) => Self::Text(Cow::Owned(value.to_string())),
        })
    }

    /// A `{type, value}` pair. The stated type tells whole from floating-point numbers, which JSON does not; where it does
    /// not fit the value, the value decides, so that nothing is lost. What is no pair is a plain value.
    fn typed(attribute: &'e Json<'_>) -> Option<Self> {
        let Some(pair) = attribute.as_object() else { return Self::plain(attribute) };
        let stated = pair.get("type").and_then(Json::as_str);
        match (pair.get("value"), stated) {
            (Some(value @ (Json::Int(_) | Json::UInt(_))), Some("double")) => value.as_f64().map(Self::Number),
            (Some(Json::Float(value)), Some("integer")) if value.fract() == 0.0 && value.abs() <= EXACT_MAX => Some(Self::Integer(*value as i64)),
            (Some(value), _) => Self::plain(value),
            (None, None) if !pair.contains_key("value") => Self::plain(attribute),
            (None, _) => None,
        }
    }

    fn text(&self) -> String {
        match self {
            Self::Text(text) => text.trim().to_owned(),
            Self::Number(value) => value.to_string(),
            Self::Integer(value) => value.to_string(),
            Self::Boolean(value) => value.to_string(),
        }
    }
}

impl<'e> Bag<'e> {
    /// Adds the members of an object of `{type, value}` pairs.
    pub(crate) fn add_typed(&mut self, attributes: Option<&'e Json<'_>>) {
        self.add_members(attributes, Value::typed);
    }

    /// Adds the members of an object of plain values.
    pub(crate) fn add_plain(&mut self, data: Option<&'e Json<'_>>) {
        self.add_members(data, Value::plain);
    }

    fn add_members<'a: 'e>(&mut self, object: Option<&'e Json<'a>>, read: fn(&'e Json<'a>) -> Option<Value<'e>>) {
        for (key, value) in object.and_then(Json::as_object).into_iter().flat_map(|object| object.iter()) {
            if let Some(value) = read(value) {
                self.0.entry(Cow::Borrowed(key)).or_insert(value);
            }
        }
    }

    /// Adds a text that is there and not empty.
    pub(crate) fn add_text(&mut self, key: &'e str, text: Option<&'e str>) {
        if let Some(text) = text.filter(|text| !text.is_empty()) {
            self.0.entry(Cow::Borrowed(key)).or_insert(Value::Text(Cow::Borrowed(text)));
        }
    }

    /// Puts the client's address where the SDK wrote `{{auto}}`; where there is none, or it is not to be known, the attribute
    /// goes (`spec/ingest.md` section 3.5).
    pub(crate) fn resolve_address(&mut self, infer_ip: InferIp, client_ip: Option<IpAddr>) {
        let client = client_ip.filter(|_| infer_ip != InferIp::Never);
        for key in ADDRESSES {
            let Some(value) = self.0.get_mut(key) else { continue };
            if !matches!(value, Value::Text(text) if text.trim() == AUTO) {
                continue;
            }
            match client {
                Some(ip) => *value = Value::Text(Cow::Owned(ip.to_string())),
                None => drop(self.0.remove(key)),
            }
        }
    }

    /// An attribute as text; `None` where it is empty.
    pub(crate) fn text(&self, key: &str) -> Option<String> {
        self.0.get(key).map(Value::text).filter(|text| !text.is_empty())
    }

    /// The first of several attributes that has a text.
    pub(crate) fn first_text(&self, keys: &[&str]) -> Option<String> {
        keys.iter().find_map(|key| self.text(key))
    }

    /// An attribute as a number; a text that is one counts.
    pub(crate) fn number(&self, key: &str) -> Option<f64> {
        match self.0.get(key)? {
            Value::Number(value) => Some(*value),
            Value::Integer(value) => Some(*value as f64),
            Value::Text(text) => text.trim().parse().ok().filter(|value: &f64| value.is_finite()),
            Value::Boolean(_) => None,
        }
    }

    /// The environment, where it is a valid one.
    pub(crate) fn environment(&self) -> Option<String> {
        valid(environment, self.first_text(&["sentry.environment", "environment"])?)
    }

    /// The release, where it is a valid one.
    pub(crate) fn release(&self) -> Option<String> {
        valid(release, self.first_text(&["sentry.release", "release"])?)
    }

    /// The user as tag, `id:7`.
    pub(crate) fn user(&self) -> Option<String> {
        USER.iter().find_map(|(key, prefix)| Some(format!("{prefix}:{}", self.text(key)?)))
    }

    /// The status of an HTTP response.
    pub(crate) fn http_status(&self) -> Option<i32> {
        ["http.response.status_code", "http.status_code"].into_iter().find_map(|key| http_status(self.number(key)?))
    }

    /// The columns, sorted by name.
    pub(crate) fn into_attributes(self) -> Attributes {
        let mut attributes = Attributes::default();
        for (key, value) in self.0 {
            let key = key.into_owned();
            match value {
                Value::Text(text) => attributes.text.push((key, text.into_owned())),
                Value::Number(value) => attributes.number.push((key, value)),
                Value::Integer(value) => attributes.integer.push((key, value)),
                Value::Boolean(value) => attributes.boolean.push((key, value)),
            }
        }
        attributes
    }
}

/// A whole number that is the status of an HTTP response.
pub(crate) fn http_status(value: f64) -> Option<i32> {
    (value.fract() == 0.0 && (100.0..1000.0).contains(&value)).then_some(value as i32)
}

/// The hash of a user's tag within a project.
pub(crate) fn hash_of(user: Option<&String>, project_id: ProjectId) -> Option<i64> {
    user.map(|user| user_hash(project_id, user))
}

fn valid(read: fn(&Json<'_>) -> Field, text: String) -> Option<String> {
    match read(&Json::text(text)) {
        Field::Valid(text) => Some(text),
        Field::Absent | Field::Invalid => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bag(attributes: &str, data: &str, then: impl FnOnce(Bag<'_>) -> String) -> String {
        let (attributes, data) = (Json::parse(attributes.as_bytes()).unwrap(), Json::parse(data.as_bytes()).unwrap());
        let mut bag = Bag::default();
        bag.add_typed(Some(&attributes));
        bag.add_plain(Some(&data));
        then(bag)
    }

    #[test]
    fn values_go_to_the_column_of_their_type() {
        let check = |attribute: &str, want: &str| {
            let got = bag(&format!(r#"{{"a":{attribute}}}"#), "null", |bag| {
                let Attributes { text, number, integer, boolean } = bag.into_attributes();
                format!("{text:?} {number:?} {integer:?} {boolean:?}")
            });
            assert_eq!(got, want, "{attribute}");
        };
        check(r#"{"type":"string","value":"x"}"#, r#"[("a", "x")] [] [] []"#);
        check(r#"{"type":"integer","value":3}"#, r#"[] [] [("a", 3)] []"#);
        check(r#"{"type":"integer","value":3.0}"#, r#"[] [] [("a", 3)] []"#);
        check(r#"{"type":"integer","value":3.5}"#, r#"[] [("a", 3.5)] [] []"#);
        check(r#"{"type":"integer","value":18446744073709551615}"#, r#"[("a", "18446744073709551615")] [] [] []"#);
        check(r#"{"type":"double","value":3}"#, r#"[] [("a", 3.0)] [] []"#);
        check(r#"{"type":"boolean","value":true}"#, r#"[] [] [] [("a", true)]"#);
        check(r#"{"type":"boolean","value":"yes"}"#, r#"[("a", "yes")] [] [] []"#);
        check(r#"{"type":"array","value":["x",1]}"#, r#"[("a", "[\"x\",1]")] [] [] []"#);
        check(r#"{"value":{"k":1}}"#, r#"[("a", "{\"k\":1}")] [] [] []"#);
        check(r#"{"k":1}"#, r#"[("a", "{\"k\":1}")] [] [] []"#);
        check(r#"{"type":"string","value":null}"#, "[] [] [] []");
        check(r#"{"type":"string"}"#, "[] [] [] []");
        check(r#"{"value":null}"#, "[] [] [] []");
        check("null", "[] [] [] []");
        check("7", r#"[] [] [("a", 7)] []"#);
    }

    #[test]
    fn of_a_name_that_comes_twice_the_first_stands() {
        let got = bag(r#"{"b":{"value":"typed"}}"#, r#"{"b":"plain","a":1}"#, |bag| format!("{:?}", bag.into_attributes()));
        assert_eq!(got, r#"Attributes { text: [("b", "typed")], number: [], integer: [("a", 1)], boolean: [] }"#);
    }

    #[test]
    fn fields_of_rows() {
        let check = |data: &str, want: &str| {
            let got = bag("null", data, |bag| format!("{:?} {:?} {:?} {:?}", bag.environment(), bag.release(), bag.user(), bag.http_status()));
            assert_eq!(got, want, "{data}");
        };
        check("{}", "None None None None");
        check(
            r#"{"sentry.environment":"e","environment":"x","sentry.release":"r@1","user.id":42,"user.email":"a@b","http.response.status_code":"502"}"#,
            r#"Some("e") Some("r@1") Some("id:42") Some(502)"#,
        );
        check(r#"{"environment":"a/b","release":"latest","user.name":"ada","http.status_code":99}"#, r#"None None Some("username:ada") None"#);
        check(r#"{"user.id":"","user.email":"a@b","http.response.status_code":200.5}"#, r#"None None Some("email:a@b") None"#);
    }

    #[test]
    fn addresses() {
        let check = |data: &str, infer_ip: InferIp, ip: Option<&str>, want: &str| {
            let got = bag("null", data, |mut bag| {
                bag.resolve_address(infer_ip, ip.map(|ip| ip.parse().unwrap()));
                format!("{:?}", bag.into_attributes().text)
            });
            assert_eq!(got, want, "{data} {infer_ip:?} {ip:?}");
        };
        let auto = r#"{"client.address":"{{auto}}"}"#;
        check(auto, InferIp::Legacy, Some("203.0.113.9"), r#"[("client.address", "203.0.113.9")]"#);
        check(auto, InferIp::Never, Some("203.0.113.9"), "[]");
        check(auto, InferIp::Auto, None, "[]");
        check(r#"{"user.ip_address":"10.0.0.1"}"#, InferIp::Never, Some("203.0.113.9"), r#"[("user.ip_address", "10.0.0.1")]"#);
    }
}
