//! The times of an event: when it happened by the server's clock (`spec/ingest.md` section 3.4).

use weir_protocol::json::{Json, Object};

use super::EventContext;
use super::note::Notes;

/// A clock that differs by less than this is left alone: the request may have waited.
const DRIFT_US_MIN: i64 = 55 * 60 * 1_000_000;
/// An event may lie this far in the future.
const FUTURE_US_MAX: i64 = 60 * 1_000_000;
/// The last microsecond that a number of seconds holds exactly, in the year 2255; a later time is no time.
pub const TIME_US_MAX: i64 = 1 << 53;

/// By how much all times of an event are moved.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Shift(i64);

impl Shift {
    /// Not at all.
    #[cfg(test)]
    pub const NONE: Self = Self(0);

    /// A time of the event in seconds after the shift; `None` for a value that is no time.
    pub fn moved<'a>(self, value: &Json<'_>) -> Option<Json<'a>> {
        let moved = time_us(value)?.checked_add(self.0).filter(|us| (0..=TIME_US_MAX).contains(us))?;
        Some(seconds(moved))
    }
}

/// Microseconds since 1970 as a number of seconds.
pub fn seconds<'a>(us: i64) -> Json<'a> {
    Json::Float(us as f64 / 1e6)
}

/// The microseconds since 1970 that a JSON number of seconds or a text of RFC 3339 names.
///
/// The text needs its `T`; without an offset it is UTC. A date alone, a blank for the `T` and a number in quotes are no times.
pub fn time_us(value: &Json<'_>) -> Option<i64> {
    let us = match value {
        Json::String(text) => rfc3339_us(text)?,
        _ => {
            let us = (value.as_f64()? * 1e6).round();
            if !(0.0..=TIME_US_MAX as f64).contains(&us) {
                return None;
            }
            us as i64
        }
    };
    (0..=TIME_US_MAX).contains(&us).then_some(us)
}

fn rfc3339_us(text: &str) -> Option<i64> {
    if !text.contains('T') {
        return None;
    }
    let time = match chrono::DateTime::parse_from_rfc3339(text) {
        Ok(time) => time.to_utc(),
        Err(_) => chrono::NaiveDateTime::parse_from_str(text, "%Y-%m-%dT%H:%M:%S%.f").ok()?.and_utc(),
    };
    Some(time.timestamp_micros())
}

/// Sets `timestamp`, `start_timestamp` and `received`, and says by how much the other times are to be moved.
pub fn normalise<'a>(event: &mut Object<'a>, context: &EventContext, notes: &mut Notes<'a>) -> Shift {
    let received = i64::try_from(context.received_ms).unwrap_or(i64::MAX).saturating_mul(1000).min(TIME_US_MAX);
    let given = event.remove("timestamp").unwrap_or_default();
    let happened = time_us(&given);
    if happened.is_none() && !given.is_null() {
        notes.invalid(&["timestamp"], given);
    }
    let drift = drift(event, context, received, notes);
    let shift = match happened {
        Some(us) => Shift(drift + window(us.saturating_add(drift), received, context.retention_days, notes)),
        None => Shift(drift),
    };
    event.insert("timestamp", seconds(happened.map_or(received, |us| us.saturating_add(shift.0).clamp(0, TIME_US_MAX))));
    if let Some(start) = event.remove("start_timestamp").filter(|v| !v.is_null()) {
        match shift.moved(&start) {
            Some(moved) => event.insert("start_timestamp", moved),
            None => notes.invalid(&["start_timestamp"], start),
        }
    }
    event.insert("received", seconds(received));
    shift
}

/// The difference of the SDK's clock to the server's, where it is large. An event that says it was corrected is left alone.
fn drift<'a>(event: &Object<'a>, context: &EventContext, received: i64, notes: &mut Notes<'a>) -> i64 {
    let corrected = event.get("errors").and_then(Json::as_array).unwrap_or_default().iter().any(|e| e.str_at(&["type"]) == Some("clock_drift"));
    let Some(sent) = context.sent_at.as_deref().and_then(rfc3339_us).filter(|us| !corrected && (0..=TIME_US_MAX).contains(us)) else { return 0 };
    let drift = received - sent;
    if drift.abs() < DRIFT_US_MIN {
        return 0;
    }
    notes.add("clock_drift", &["timestamp"], None, vec![("sdk_time", seconds(sent)), ("server_time", seconds(received))]);
    drift
}

/// How far an event outside the window of accepted times is moved: to its receipt.
fn window(happened: i64, received: i64, retention_days: u16, notes: &mut Notes<'_>) -> i64 {
    let age_max = i64::from(retention_days) * 86_400 * 1_000_000;
    let kind = if happened > received.saturating_add(FUTURE_US_MAX) {
        "future_timestamp"
    } else if happened < received.saturating_sub(age_max) {
        "past_timestamp"
    } else {
        return 0;
    };
    notes.add(kind, &["timestamp"], None, vec![("sdk_time", seconds(happened)), ("server_time", seconds(received))]);
    received - happened
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times() {
        let check = |json: &str, want: Option<i64>| assert_eq!(time_us(&Json::parse(json.as_bytes()).unwrap()), want, "{json}");
        check("1795322892.993", Some(1_795_322_892_993_000));
        check("1", Some(1_000_000));
        check("-1", None);
        check("1e300", None);
        check(r#""2026-11-22T04:41:49.672434174Z""#, Some(1_795_322_509_672_434));
        check(r#""2026-11-22T04:41:49+01:00""#, Some(1_795_318_909_000_000));
        check(r#""2026-11-22T04:41:49""#, Some(1_795_322_509_000_000));
        check(r#""2026-11-22 04:41:49Z""#, None);
        check(r#""2026-11-22""#, None);
        check(r#""1795322892""#, None);
        check(r#""9999-01-01T00:00:00Z""#, None);
    }

    #[test]
    fn clocks_and_windows() {
        let check = |timestamp: &str, sent_at: Option<&str>, want: f64, kinds: &str| {
            let text = format!(r#"{{"timestamp":{timestamp}}}"#);
            let mut event = Json::parse(text.as_bytes()).unwrap();
            let context = EventContext { received_ms: 1_800_000_000_000, sent_at: sent_at.map(str::to_owned), ..EventContext::default() };
            let mut notes = Notes::default();
            let event = event.as_object_mut().unwrap();
            normalise(event, &context, &mut notes);
            notes.write(event);
            assert_eq!(event.get("timestamp").and_then(Json::as_f64), Some(want), "{timestamp} {sent_at:?}");
            let errors = event.get("errors").and_then(Json::as_array).unwrap_or_default();
            let got: Vec<&str> = errors.iter().filter_map(|e| e.str_at(&["type"])).collect();
            assert_eq!(got.join(" "), kinds, "{timestamp} {sent_at:?}");
        };
        let received = 1_800_000_000.0;
        check("1799999990.5", None, 1_799_999_990.5, "");
        check("1800000060", None, 1_800_000_060.0, "");
        check("1800000061", None, received, "future_timestamp");
        check("1792224000", None, 1_792_224_000.0, "");
        check("1792223999", None, received, "past_timestamp");
        check("null", None, received, "");
        check(r#""soon""#, None, received, "invalid_data");
        // Sent a day before it was received, by the SDK's clock; it happened ten seconds before that.
        check("1799913590", Some("2027-01-14T08:00:00Z"), 1_799_999_990.0, "clock_drift");
        check("1799999990", Some("2027-01-15T07:59:00Z"), 1_799_999_990.0, "");
    }
}
