//! Messages for Slack's incoming webhooks, and for the services that take the same form (Mattermost, Rocket.Chat and others).

use serde_json::{Value, json};
use weir_protocol::subscription::{Transition, TransitionKind};

use crate::rendering::{Columns, headline, meaning, shortened, time};

/// Columns that are shown; a message with more of them is unreadable.
const FIELDS_MAX: usize = 12;
const VALUE_CHARS_MAX: usize = 300;
const HEADLINE_CHARS_MAX: usize = 300;
/// A value up to here stands beside another one.
const SHORT_CHARS_MAX: usize = 30;

/// The body of the POST: `text`, which notifications of the desktop show, and an attachment with the row. Attachments with fields
/// are the form that all of these services show alike; Slack's newer blocks only Slack does.
pub(crate) fn body(transition: &Transition) -> Value {
    let row = Columns::of(&transition.row);
    let hidden = row.0.len().saturating_sub(FIELDS_MAX);
    let mut fields: Vec<Value> = row.0.iter().take(FIELDS_MAX).map(|(name, value)| field(name, value)).collect();
    if hidden > 0 {
        fields.push(field("…", &format!("{hidden} more columns")));
    }
    let text = format!("{} *{}*", symbol(transition.kind), escaped(&shortened(&headline(transition), HEADLINE_CHARS_MAX)));
    json!({
        "text": text,
        "attachments": [{
            "color": color(transition),
            "fallback": text,
            "text": meaning(transition.kind),
            "fields": fields,
            "footer": format!("{} · {} · alert {}", escaped(&transition.severity), time(transition.fired_ms), transition.id),
            "ts": transition.fired_ms / 1000,
        }],
    })
}

fn field(name: &str, value: &str) -> Value {
    let value = shortened(value, VALUE_CHARS_MAX);
    json!({ "title": escaped(name), "value": escaped(&value), "short": value.chars().count() <= SHORT_CHARS_MAX })
}

/// The three characters that Slack reads as markup, so that a row can neither link nor mention anybody.
fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

fn symbol(kind: TransitionKind) -> &'static str {
    match kind {
        TransitionKind::Fired => ":rotating_light:",
        TransitionKind::Escalated => ":fire:",
        TransitionKind::Resolved => ":white_check_mark:",
        TransitionKind::Failed => ":warning:",
    }
}

fn color(transition: &Transition) -> &'static str {
    match (transition.kind, transition.severity.as_str()) {
        (TransitionKind::Resolved, _) => "#2eb67d",
        (TransitionKind::Failed, _) => "#808080",
        (_, "info") => "#36c5f0",
        (_, "warning") => "#ecb22e",
        (_, "critical") => "#8b0000",
        _ => "#e01e5a",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rendering::tests::transition;

    #[test]
    fn a_row_becomes_fields_without_markup_of_its_own() {
        let body = body(&transition(TransitionKind::Fired));
        assert_eq!(body["text"], ":rotating_light: *checkout_errors fired: project=shop, transaction_name=/pay &lt;now&gt; &amp; \"here\"*");
        let attachment = &body["attachments"][0];
        assert_eq!(attachment["fields"][0], json!({ "title": "project", "value": "shop", "short": true }));
        assert_eq!(attachment["fields"][2]["value"], "9007199254740993");
        assert!(attachment["footer"].as_str().unwrap().ends_with("alert 0123456789abcdef0123456789abcdef"));
        assert_eq!((&attachment["color"], &attachment["ts"]), (&"#8b0000".into(), &1_795_298_520.into()));
    }

    #[test]
    fn wide_and_long_rows_are_cut() {
        let columns: Vec<String> = (0..40).map(|i| format!("\"c{i:02}\":\"{}\"", "<".repeat(1_000))).collect();
        let wide = Transition { row: format!("{{{}}}", columns.join(",")), ..transition(TransitionKind::Resolved) };
        let fields = body(&wide)["attachments"][0]["fields"].as_array().unwrap().clone();
        assert_eq!(fields.len(), FIELDS_MAX + 1);
        assert_eq!(fields[FIELDS_MAX]["value"], "28 more columns");
        assert_eq!(fields[0]["value"].as_str().unwrap().matches("&lt;").count(), VALUE_CHARS_MAX - 1);
    }
}
