//! The times of an event: when it happened by the server's clock (`spec/ingest.md` section 3.4).

use std::borrow::Cow;

use chrono::{DateTime, FixedOffset, NaiveDateTime};
use weir_protocol::json::{Json, Object};
use weir_protocol::limits::CLOCK_AHEAD_MS;

use super::EventContext;
use super::note::Notes;
use super::path::Path;

/// A clock that differs by less than this is left alone: the request may have waited.
const DRIFT_US_MIN: i64 = 55 * 60 * 1_000_000;
/// An event may lie this far in the future.
const FUTURE_US_MAX: i64 = CLOCK_AHEAD_MS as i64 * 1000;
/// The last microsecond of the year 9999; a later time is no time.
pub const TIME_US_MAX: i64 = 253_402_300_799_999_999;

/// By how much all times of an event are moved.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Shift(pub(crate) i64);

impl Shift {
    /// Not at all.
    pub const NONE: Self = Self(0);

    /// The shift of an element that was sent in a request whose `sent_at` is far from its receipt.
    pub fn of_request(sent_at: Option<&str>, received_ms: i64) -> Self {
        Self(drift(sent_at, received_ms.saturating_mul(1000)).map_or(0, |(_, drift)| drift))
    }

    /// A time after the shift, in microseconds.
    pub fn us(self, us: i64) -> i64 {
        us.saturating_add(self.0).clamp(0, TIME_US_MAX)
    }

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

/// The microseconds since 1970 that a JSON number of seconds or a text of RFC 3339 names, from 1970 on.
pub fn time_us(value: &Json<'_>) -> Option<i64> {
    read(value).ok().filter(|us| *us >= 0)
}

/// The microseconds since 1970 that a value names, or why it names none.
///
/// A text without an offset is UTC. A date alone and a number in quotes are no times.
pub fn read(value: &Json<'_>) -> Result<i64, Cow<'static, str>> {
    let us = match value {
        Json::String(text) => text_us(text)?,
        _ => {
            let seconds = value.as_f64().ok_or("expected a timestamp")?;
            let us = (seconds * 1e6).round();
            if us.abs() > TIME_US_MAX as f64 {
                return Err("timestamp out of range".into());
            }
            us as i64
        }
    };
    if us > TIME_US_MAX { Err("timestamp out of range".into()) } else { Ok(us) }
}

fn text_us(text: &str) -> Result<i64, Cow<'static, str>> {
    let time = match text.parse::<NaiveDateTime>() {
        Ok(time) => time.and_utc(),
        Err(_) => text.parse::<DateTime<FixedOffset>>().map_err(|error| error.to_string())?.to_utc(),
    };
    // Nanoseconds are rounded, as Relay writes them.
    Ok(time.timestamp_micros().saturating_add(i64::from(time.timestamp_subsec_nanos() % 1000 >= 500)))
}

fn text_of<'a>(us: i64) -> Json<'a> {
    Json::text(DateTime::from_timestamp_micros(us).unwrap_or_default().to_rfc3339())
}

/// Sets `timestamp`, `start_timestamp` and `received`, and says by how much the other times are to be moved.
pub fn normalise<'a>(event: &mut Object<'a>, context: &EventContext, notes: &mut Notes<'a>) -> Shift {
    let received = i64::try_from(context.received_ms).unwrap_or(i64::MAX).saturating_mul(1000).min(TIME_US_MAX);
    let happened = event.get("timestamp").and_then(|value| read(value).ok());
    let path = Path::Root.key("timestamp");
    let corrected = event.get("errors").and_then(Json::as_array).unwrap_or_default().iter().any(|e| e.str_at(&["type"]) == Some("clock_drift"));
    let drift = match drift(context.sent_at.as_deref(), received).filter(|_| !corrected) {
        Some((sent, drift)) => {
            notes.error(path, "clock_drift", vec![("sdk_time", text_of(sent)), ("server_time", text_of(received))]);
            drift
        }
        None => 0,
    };
    let shift = match happened {
        Some(us) => Shift(drift + window(us.saturating_add(drift), received, context.retention_days, notes)),
        None => Shift(drift),
    };
    event.insert("timestamp", seconds(happened.map_or(received, |us| shift.us(us))));
    if let Some(start) = event.get("start_timestamp") {
        match shift.moved(start) {
            Some(moved) => event.insert("start_timestamp", moved),
            None => {
                notes.invalid(Path::Root.key("start_timestamp"), "timestamp out of range", event.get_mut("start_timestamp").map(Json::take).unwrap_or_default())
            }
        }
    }
    event.insert("received", seconds(received));
    shift
}

/// When the SDK says that it sent, and the difference of its clock to the server's, where that is large.
fn drift(sent_at: Option<&str>, received: i64) -> Option<(i64, i64)> {
    let sent = sent_at.and_then(|text| text_us(text).ok()).filter(|us| (0..=TIME_US_MAX).contains(us))?;
    let drift = received - sent;
    (drift.abs() >= DRIFT_US_MIN).then_some((sent, drift))
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
    notes.error(Path::Root.key("timestamp"), kind, vec![("sdk_time", text_of(happened)), ("server_time", text_of(received))]);
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
        check(r#""2026-11-22T04:41:49.672434774Z""#, Some(1_795_322_509_672_435));
        check(r#""2026-11-22T04:41:49+01:00""#, Some(1_795_318_909_000_000));
        check(r#""2026-11-22T04:41:49""#, Some(1_795_322_509_000_000));
        check(r#""2026-11-22 04:41:49Z""#, Some(1_795_322_509_000_000));
        check(r#""2026-11-22""#, None);
        check(r#""1795322892""#, None);
        check(r#""9999-01-01T00:00:00Z""#, Some(253_370_764_800_000_000));
        check(r#""+10000-01-01T00:00:00Z""#, None);
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
        check(r#""soon""#, None, received, "");
        // Sent a day before it was received, by the SDK's clock; it happened ten seconds before that.
        check("1799913590", Some("2027-01-14T08:00:00Z"), 1_799_999_990.0, "clock_drift");
        check("1799999990", Some("2027-01-15T07:59:00Z"), 1_799_999_990.0, "");
    }
}
