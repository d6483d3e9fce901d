//! `WITH (…)`: what is given with a subscription.

use datafusion::sql::sqlparser::tokenizer::Location;
use weir_protocol::limits::{NOTIFY_TARGET_BYTES_MAX, NOTIFY_TARGET_COUNT_MAX};
use weir_protocol::notify::NotifyTarget;
use weir_protocol::subscription::SubscriptionOptions;

use super::refusal::Refusal;

/// Lengths of time that are given with a subscription are no longer than this: a week.
const LENGTH_MS_MAX: u64 = 7 * 24 * 3_600_000;
/// A value is no longer than this.
const VALUE_BYTES_MAX: usize = NOTIFY_TARGET_COUNT_MAX * NOTIFY_TARGET_BYTES_MAX;

/// What becomes of one option.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Setting {
    /// `severity`
    Severity(Option<String>),
    /// `notify`
    Notify(Vec<String>),
    /// `for`
    For(u64),
    /// `resolve_when`
    ResolveWhen(Option<String>),
    /// `escalate_when`
    EscalateWhen(Option<String>),
    /// `min_interval`
    MinInterval(u64),
    /// `mute_until`
    MuteUntil(u64),
    /// `lateness`
    Lateness(Option<u64>),
    /// `secret`
    Secret(Option<String>),
}

impl Setting {
    /// Applies it.
    pub(crate) fn apply(self, options: &mut SubscriptionOptions) {
        match self {
            Self::Severity(value) => options.severity = value,
            Self::Notify(value) => options.notify = value,
            Self::For(value) => options.for_ms = value,
            Self::ResolveWhen(value) => options.resolve_when = value,
            Self::EscalateWhen(value) => options.escalate_when = value,
            Self::MinInterval(value) => options.min_interval_ms = value,
            Self::MuteUntil(value) => options.mute_until_ms = value,
            Self::Lateness(value) => options.lateness_ms = value,
            Self::Secret(value) => options.secret = value,
        }
    }

    /// Whether alerts mean something else with it, so that the subscription gets a new version.
    pub(crate) fn changes_meaning(&self) -> bool {
        matches!(self, Self::ResolveWhen(_) | Self::EscalateWhen(_) | Self::Lateness(_))
    }
}

/// `key = value`.
pub(crate) fn set(at: Location, key: &str, value: &str) -> Result<Setting, Refusal> {
    if value.len() > VALUE_BYTES_MAX {
        return Err(Refusal::at(at, format!("the value of {key} has {} bytes, and {VALUE_BYTES_MAX} is the bound", value.len())));
    }
    let length = || {
        let ms = length_ms(value).ok_or_else(|| Refusal::at(at, format!("{value:?} is no length of time: write for instance '90 seconds' or '2 minutes'")))?;
        if ms > LENGTH_MS_MAX { Err(Refusal::at(at, format!("{key} is a week at most"))) } else { Ok(ms) }
    };
    Ok(match key {
        "severity" => {
            let severity = value.trim().to_lowercase();
            if !["info", "warning", "error", "critical"].contains(&severity.as_str()) {
                return Err(Refusal::at(at, format!("severity is info, warning, error or critical, not {value:?}")));
            }
            Setting::Severity(Some(severity))
        }
        "notify" => Setting::Notify(NotifyTarget::list(value).map_err(|error| Refusal::at(at, error.to_string()))?),
        "for" => Setting::For(length()?),
        "resolve_when" => Setting::ResolveWhen(Some(condition(at, key, value)?)),
        "escalate_when" => Setting::EscalateWhen(Some(condition(at, key, value)?)),
        "min_interval" => Setting::MinInterval(length()?),
        "mute_until" => {
            let until = instant(value).ok_or_else(|| Refusal::at(at, format!("{value:?} is no time: write 2026-11-24 22:00:00, in UTC")))?;
            Setting::MuteUntil(until)
        }
        "lateness" => Setting::Lateness(Some(length()?)),
        "secret" => {
            if value.is_empty() {
                return Err(Refusal::at(at, "an empty secret signs nothing; leave it out"));
            }
            Setting::Secret(Some(value.to_owned()))
        }
        _ => return Err(unknown(at, key)),
    })
}

/// An option as it is where it is not given.
pub(crate) fn reset(at: Location, key: &str) -> Result<Setting, Refusal> {
    Ok(match key {
        "severity" => Setting::Severity(None),
        "notify" => Setting::Notify(Vec::new()),
        "for" => Setting::For(0),
        "resolve_when" => Setting::ResolveWhen(None),
        "escalate_when" => Setting::EscalateWhen(None),
        "min_interval" => Setting::MinInterval(0),
        "mute_until" => Setting::MuteUntil(0),
        "lateness" => Setting::Lateness(None),
        "secret" => Setting::Secret(None),
        _ => return Err(unknown(at, key)),
    })
}

fn unknown(at: Location, key: &str) -> Refusal {
    let known = "severity, notify, for, resolve_when, escalate_when, min_interval, mute_until, lateness and secret";
    Refusal::at(at, format!("there is no option {key}; there are {known}"))
}

fn condition(at: Location, key: &str, value: &str) -> Result<String, Refusal> {
    let value = value.trim();
    if value.is_empty() { Err(Refusal::at(at, format!("{key} is a condition on the columns of the answer, as in 'n < 5'"))) } else { Ok(value.to_owned()) }
}

/// A length of time: numbers with units, `2 minutes`, `1 hour 30 minutes`, `90s`. In milliseconds.
pub(crate) fn length_ms(text: &str) -> Option<u64> {
    let mut rest = text.trim();
    let mut total: u64 = 0;
    if rest.is_empty() {
        return None;
    }
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit())?;
        let number: u64 = rest[..digits].parse().ok()?;
        rest = rest[digits..].trim_start();
        let letters = rest.find(|c: char| !c.is_ascii_alphabetic()).unwrap_or(rest.len());
        let unit = match rest[..letters].to_ascii_lowercase().as_str() {
            "ms" | "millisecond" | "milliseconds" => 1,
            "s" | "sec" | "secs" | "second" | "seconds" => 1_000,
            "m" | "min" | "mins" | "minute" | "minutes" => 60_000,
            "h" | "hour" | "hours" => 3_600_000,
            "d" | "day" | "days" => 86_400_000,
            "w" | "week" | "weeks" => 604_800_000,
            _ => return None,
        };
        total = total.checked_add(number.checked_mul(unit)?)?;
        rest = rest[letters..].trim_start().trim_start_matches(',').trim_start();
    }
    Some(total)
}

/// A time in Unix milliseconds: `2026-11-24 22:00:00`, with a zone or in UTC, or a date.
pub(crate) fn instant(text: &str) -> Option<u64> {
    let text = text.trim();
    let zoned = chrono::DateTime::parse_from_rfc3339(text).map(|t| t.timestamp_millis());
    let zoneless = ["%Y-%m-%d %H:%M:%S%.f", "%Y-%m-%dT%H:%M:%S%.f", "%Y-%m-%d %H:%M"]
        .iter()
        .find_map(|format| chrono::NaiveDateTime::parse_from_str(text, format).ok())
        .or_else(|| chrono::NaiveDate::parse_from_str(text, "%Y-%m-%d").ok()?.and_hms_opt(0, 0, 0))
        .map(|t| t.and_utc().timestamp_millis());
    zoned.ok().or(zoneless).and_then(|ms| u64::try_from(ms).ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_and_instants() {
        for (text, want) in [
            ("2 minutes", Some(120_000)),
            ("90s", Some(90_000)),
            ("1 hour 30 minutes", Some(5_400_000)),
            ("250ms", Some(250)),
            ("1 day", Some(86_400_000)),
            ("", None),
            ("5", None),
            ("minutes", None),
            ("99999999999999999999 days", None),
            ("-1 minute", None),
        ] {
            assert_eq!(length_ms(text), want, "{text}");
        }
        for (text, want) in [
            ("1970-01-01 00:00:01", Some(1000)),
            ("1970-01-01T00:00:01.5Z", Some(1500)),
            ("1970-01-01T01:00:00+01:00", Some(0)),
            ("1970-01-02", Some(86_400_000)),
            ("1969-01-01", None),
            ("soon", None),
        ] {
            assert_eq!(instant(text), want, "{text}");
        }
    }

    #[test]
    fn who_is_notified() {
        assert!(NotifyTarget::list("webhook:https://a.example/x?y=1, slack:http://b/, email:pay@example.org").is_ok());
        for bad in ["webhook:ftp://a", "webhook:https://", "email:a", "email:a@b@c\n", "email:@b", "sms:1", "https://a"] {
            assert!(NotifyTarget::list(bad).is_err(), "{bad}");
        }
    }
}
