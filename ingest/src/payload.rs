//! The little that a door reads of a payload: whether it is a JSON object, its event id, and its type.

use std::fmt;

use serde::Deserialize;
use serde::de::{Deserializer, IgnoredAny, MapAccess, Visitor};

use weir_protocol::ids::EventId;
use weir_protocol::json::Json;

/// What the top level of an event says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Shallow {
    /// Its id; an invalid one and the nil id count as absent, since an event is not refused for its id.
    pub(crate) event_id: Option<EventId>,
    /// Whether it says that it is a transaction.
    pub(crate) is_transaction: bool,
}

impl Shallow {
    /// Checks that the bytes are one JSON object and reads its top level. What is nested is skipped without recursion.
    pub(crate) fn read(bytes: &[u8]) -> Result<Self, serde_json::Error> {
        serde_json::from_slice(bytes)
    }
}

#[derive(Deserialize)]
#[serde(field_identifier, rename_all = "snake_case")]
enum Field {
    EventId,
    Type,
    #[serde(other)]
    Other,
}

impl<'de> Deserialize<'de> for Shallow {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct ObjectVisitor;

        impl<'de> Visitor<'de> for ObjectVisitor {
            type Value = Shallow;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a JSON object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut access: A) -> Result<Shallow, A::Error> {
                let mut shallow = Shallow::default();
                while let Some(field) = access.next_key::<Field>()? {
                    match field {
                        Field::EventId => shallow.event_id = event_id(&access.next_value()?),
                        Field::Type => shallow.is_transaction = access.next_value::<Json<'_>>()?.as_str() == Some("transaction"),
                        Field::Other => {
                            access.next_value::<IgnoredAny>()?;
                        }
                    }
                }
                Ok(shallow)
            }
        }

        deserializer.deserialize_map(ObjectVisitor)
    }
}

fn event_id(value: &Json<'_>) -> Option<EventId> {
    value.as_str()?.parse::<EventId>().ok().filter(|id| !id.is_nil())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_top_level() {
        let id: EventId = "9ec79c33ec9942ab8353589fcb2e04dc".parse().unwrap();
        let check = |text: &str, want: Option<(Option<EventId>, bool)>| {
            assert_eq!(Shallow::read(text.as_bytes()).ok().map(|s| (s.event_id, s.is_transaction)), want, "{}", &text[..text.len().min(80)]);
        };
        check("{}", Some((None, false)));
        check(r#"{"event_id":"9ec79c33ec9942ab8353589fcb2e04dc"}"#, Some((Some(id), false)));
        check(r#" {"a":{"event_id":1},"event_id":"9EC79C33-EC99-42AB-8353-589FCB2E04DC","type":"transaction"} "#, Some((Some(id), true)));
        check(r#"{"type":"transaction","type":"error"}"#, Some((None, false)));
        check(r#"{"event_id":"00000000000000000000000000000000"}"#, Some((None, false)));
        check(r#"{"event_id":"short","type":7}"#, Some((None, false)));
        check(r#"{"event_id":12,"type":null}"#, Some((None, false)));
        check(&format!(r#"{{"deep":{}{}}}"#, "[".repeat(100_000), "]".repeat(100_000)), Some((None, false)));
        check(&format!(r#"{{"event_id":{}{}}}"#, "[".repeat(100_000), "]".repeat(100_000)), None);
        check("{not json", None);
        check("{}x", None);
        check("[]", None);
        check("1", None);
        check("", None);
        check(r#"{"a":NaN}"#, None);
    }
}
