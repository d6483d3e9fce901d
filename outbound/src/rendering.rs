//! What every notification says in words: times, columns, a line that sums it up.

use serde::de::{Deserialize, Deserializer, MapAccess, Visitor};
use serde_json::Value;
use weir_protocol::subscription::{Transition, TransitionKind};

/// The columns of a row or key in the order of its text, which is that of the query.
pub(crate) struct Columns(pub Vec<(String, String)>);

impl Columns {
    /// The columns of a JSON object; of other JSON, or of none, the text as it is.
    pub(crate) fn of(json: &str) -> Self {
        serde_json::from_str(json).unwrap_or_else(|_| Self(vec![("value".to_owned(), json.to_owned())]))
    }

    /// `a=1, b=x`
    pub(crate) fn in_a_line(&self) -> String {
        self.0.iter().map(|(name, value)| format!("{name}={value}")).collect::<Vec<_>>().join(", ")
    }

    /// Those whose names are not among others.
    pub(crate) fn without(self, others: &Self) -> Self {
        Self(self.0.into_iter().filter(|(name, _)| others.0.iter().all(|(other, _)| other != name)).collect())
    }
}

impl<'de> Deserialize<'de> for Columns {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Object;
        impl<'de> Visitor<'de> for Object {
            type Value = Columns;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Columns, A::Error> {
                let mut columns = Vec::new();
                while let Some((name, value)) = map.next_entry::<String, Value>()? {
                    let text = match value {
                        Value::String(text) => text,
                        Value::Null => "–".to_owned(),
                        other => other.to_string(),
                    };
                    columns.push((name, text));
                }
                Ok(Columns(columns))
            }
        }
        deserializer.deserialize_map(Object)
    }
}

/// A time as JSON and people read it: RFC 3339 in UTC with milliseconds.
pub(crate) fn time(ms: u64) -> String {
    let time = i64::try_from(ms).ok().and_then(chrono::DateTime::from_timestamp_millis).unwrap_or_default();
    time.format("%Y-%m-%dT%H:%M:%S%.3fZ").to_string()
}

/// A line that sums it up: `checkout_errors fired: project=shop`.
pub(crate) fn headline(transition: &Transition) -> String {
    let key = Columns::of(&transition.key).in_a_line();
    let colon = if key.is_empty() { "" } else { ": " };
    format!("{} {}{colon}{key}", transition.subscription, transition.kind.as_str())
}

/// What the kind means, for somebody who meets it for the first time.
pub(crate) fn meaning(kind: TransitionKind) -> &'static str {
    match kind {
        TransitionKind::Fired => "The condition of the subscription came to hold.",
        TransitionKind::Escalated => "The alert stands, and the condition of its escalation came to hold.",
        TransitionKind::Resolved => "The condition no longer holds. The values are the last ones for which it held.",
        TransitionKind::Failed => "The subscription itself cannot be kept up to date: until that is mended it fires no alerts.",
    }
}

/// A text of at most so many characters, the last of which says that there was more.
pub(crate) fn shortened(text: &str, chars_max: usize) -> String {
    if text.chars().count() <= chars_max {
        return text.to_owned();
    }
    text.chars().take(chars_max.saturating_sub(1)).chain(['…']).collect()
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// An alert to send in tests.
    pub(crate) fn transition(kind: TransitionKind) -> Transition {
        Transition {
            id: "0123456789abcdef0123456789abcdef".to_owned(),
            subscription_id: 7,
            subscription: "checkout_errors".to_owned(),
            version: 2,
            org_id: 1,
            project_id: Some(1),
            key: r#"{"project":"shop","transaction_name":"/pay <now> & \"here\""}"#.to_owned(),
            kind,
            severity: "critical".to_owned(),
            row: r#"{"project":"shop","transaction_name":"/pay <now> & \"here\"","n":9007199254740993,"users":null,"first":true}"#.to_owned(),
            event_time_ms: 1_795_298_400_123,
            fired_ms: 1_795_298_520_000,
            notify: Vec::new(),
        }
    }

    #[test]
    fn columns_keep_their_order_and_their_digits() {
        let columns = Columns::of(&transition(TransitionKind::Fired).row);
        let shown: Vec<_> = columns.0.iter().map(|(n, v)| (n.as_str(), v.as_str())).collect();
        assert_eq!(shown[0], ("project", "shop"));
        assert_eq!(&shown[2..], [("n", "9007199254740993"), ("users", "–"), ("first", "true")]);
        assert_eq!(Columns::of("no json").in_a_line(), "value=no json");
        assert_eq!(Columns::of("{}").in_a_line(), "");
    }

    #[test]
    fn times_and_lengths() {
        assert_eq!(time(1_795_298_400_123), "2026-11-21T22:00:00.123Z");
        assert_eq!([shortened("äbc", 3), shortened("äbcd", 3)], ["äbc", "äb…"]);
    }
}
