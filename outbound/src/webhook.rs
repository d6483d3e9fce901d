//! Webhooks: the body, and the signature by which a receiver knows who sent it.

use hmac::{Hmac, KeyInit, Mac};
use serde_json::Value;
use sha2::Sha256;
use weir_protocol::ids::hex;
use weir_protocol::subscription::Transition;

use crate::rendering::time;

/// The header that is the same for every attempt at the same notification.
pub(crate) const IDEMPOTENCY_KEY: &str = "idempotency-key";
/// The header of the signature.
pub(crate) const SIGNATURE: &str = "x-weir-signature";

/// The body: the same bytes for every attempt. Key and row stand in it as they are, so that no number loses digits.
pub(crate) fn body(transition: &Transition) -> String {
    let text = |text: &str| Value::from(text).to_string();
    format!(
        r#"{{"id":{},"kind":{},"subscription":{},"severity":{},"key":{},"row":{},"event_time":{},"fired_time":{}}}"#,
        text(&transition.id),
        text(transition.kind.as_str()),
        text(&transition.subscription),
        text(&transition.severity),
        json(&transition.key),
        json(&transition.row),
        text(&time(transition.event_time_ms)),
        text(&time(transition.fired_ms)),
    )
}

/// The text if it is JSON, else a JSON string of it: the body is JSON whatever stands in the history.
fn json(text: &str) -> String {
    match serde_json::from_str::<serde::de::IgnoredAny>(text) {
        Ok(_) => text.to_owned(),
        Err(_) => Value::from(text).to_string(),
    }
}

/// `sha256=` and the HMAC of the body, in hexadecimal.
pub(crate) fn signature(secret: &str, body: &[u8]) -> String {
    let mut mac = Hmac::<Sha256>::new_from_slice(secret.as_bytes()).expect("HMAC takes keys of any length");
    mac.update(body);
    format!("sha256={}", hex(&mac.finalize().into_bytes()))
}

#[cfg(test)]
mod tests {
    use weir_protocol::subscription::TransitionKind;

    use super::*;
    use crate::rendering::tests::transition;

    #[test]
    fn the_body_has_the_documented_members() {
        let body = body(&transition(TransitionKind::Fired));
        assert!(body.contains("\"n\":9007199254740993"), "{body}");
        let value: Value = serde_json::from_str(&body).unwrap();
        let members: Vec<&str> = value.as_object().unwrap().keys().map(String::as_str).collect();
        let mut want = ["id", "kind", "subscription", "severity", "key", "row", "event_time", "fired_time"];
        want.sort_unstable();
        let mut members = members;
        members.sort_unstable();
        assert_eq!(members, want);
        assert_eq!((&value["kind"], &value["key"]["project"], &value["fired_time"]), (&"fired".into(), &"shop".into(), &"2026-11-21T22:02:00.000Z".into()));
    }

    #[test]
    fn a_row_that_is_no_json_is_a_text() {
        let value: Value = serde_json::from_str(&body(&Transition { row: "{broken".to_owned(), ..transition(TransitionKind::Failed) })).unwrap();
        assert_eq!(value["row"], "{broken");
    }

    #[test]
    fn signatures_are_those_of_rfc_4231() {
        // Its test cases 2 and 1.
        assert_eq!(signature("Jefe", b"what do ya want for nothing?"), "sha256=5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843");
        let key = "\u{b}".repeat(20);
        assert_eq!(signature(&key, b"Hi There"), "sha256=b0344c61d8db38535ca8afceaf0bf12b881dc200c9833da726e9376c2e32cff7");
    }
}
