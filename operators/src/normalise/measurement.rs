//! Measurements: numbers with units, by name (`spec/ingest.md` section 3.2).

use weir_protocol::json::{Json, Object};

use super::note::Notes;
use super::path::Path;

/// A unit of someone's own has at most this many characters.
const UNIT_CHARS_MAX: usize = 15;
const UNITS: [&str; 24] = [
    "nanosecond",
    "microsecond",
    "millisecond",
    "second",
    "minute",
    "hour",
    "day",
    "week",
    "bit",
    "byte",
    "kilobyte",
    "kibibyte",
    "megabyte",
    "mebibyte",
    "gigabyte",
    "gibibyte",
    "terabyte",
    "tebibyte",
    "petabyte",
    "pebibyte",
    "exabyte",
    "exbibyte",
    "ratio",
    "percent",
];

/// Reads a measurement; its unit stays absent where it has none.
pub fn read<'a>(value: &mut Json<'a>, path: Path<'_>, notes: &mut Notes<'a>) {
    let Json::Object(given) = value else { return notes.invalid(path, "expected measurement", value.take()) };
    let number = match given.remove("value") {
        None | Some(Json::Null) => {
            notes.error(path.key("value"), "missing_attribute", Vec::new());
            Json::Null
        }
        Some(number) => match number.as_f64() {
            Some(number) => Json::Float(number),
            None => {
                notes.invalid(path.key("value"), "expected a finite floating point number", number);
                Json::Null
            }
        },
    };
    let unit = match given.remove("unit") {
        None | Some(Json::Null) => None,
        Some(Json::String(text)) => Some(match unit(&text) {
            Some(unit) => Json::text(unit),
            None => {
                notes.refused(path.key("unit"), Json::String(text));
                Json::Null
            }
        }),
        Some(other) => {
            notes.invalid(path.key("unit"), "expected a string", other);
            Some(Json::Null)
        }
    };
    let mut measurement: Object<'a> = [("value", number)].into_iter().collect();
    if let Some(unit) = unit {
        measurement.insert("unit", unit);
    }
    *value = Json::Object(measurement);
}

/// The unit by its whole name.
fn unit(text: &str) -> Option<String> {
    let lower = text.to_ascii_lowercase();
    Some(match lower.as_str() {
        "" | "none" => "none".to_owned(),
        "ns" => "nanosecond".to_owned(),
        "ms" => "millisecond".to_owned(),
        "s" => "second".to_owned(),
        known if UNITS.contains(&known) => lower,
        _ if text.len() <= UNIT_CHARS_MAX && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_') => text.to_owned(),
        _ => return None,
    })
}

/// The unit of a measurement that is known by name.
fn unit_of(name: &str) -> &'static str {
    match name {
        "fcp"
        | "lcp"
        | "fid"
        | "fp"
        | "inp"
        | "ttfb"
        | "ttfb.requesttime"
        | "app_start_cold"
        | "app_start_warm"
        | "stall_total_time"
        | "stall_longest_time"
        | "time_to_initial_display"
        | "time_to_full_display" => "millisecond",
        "frames_slow_rate" | "frames_frozen_rate" | "stall_percentage" => "ratio",
        _ => "none",
    }
}

/// Brings the names of an event's measurements into form, gives them units, and adds those that others lead to.
pub fn normalise<'a>(event: &mut Object<'a>, duration_ms: Option<f64>, notes: &mut Notes<'a>) {
    let Some(Json::Object(measurements)) = event.get_mut("measurements") else { return };
    let path = Path::Root.key("measurements");
    named(measurements, path, notes);
    if measurements.is_empty() && !notes.has(path) {
        event.remove("measurements");
        return;
    }
    derive(measurements, duration_ms);
    units(measurements);
}

/// Lower-case names without white space around them. Of names that become the same the last stands.
fn named<'a>(measurements: &mut Object<'a>, path: Path<'_>, notes: &mut Notes<'a>) {
    let is_in_form = |name: &str| !name.is_empty() && name.bytes().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == b'.' || c == b'_');
    if measurements.iter().all(|(name, _)| is_in_form(name)) {
        return;
    }
    let mut given: Vec<_> = std::mem::take(measurements).into_iter().collect();
    given.sort_by(|a, b| a.0.cmp(&b.0));
    let mut kept = Vec::with_capacity(given.len());
    for (name, value) in given {
        let lower = name.trim().to_lowercase();
        if is_in_form(&lower) {
            notes.rename(&["measurements", &name], &["measurements", &lower]);
            kept.push((lower, value));
            continue;
        }
        notes.forget_below(path.key(&name));
        let reason = match lower.is_empty() {
            true => "measurement name '' cannot be empty".to_owned(),
            false => format!("measurement name '{name}' can contain only characters a-z0-9._"),
        };
        notes.error(path, "invalid_data", vec![("reason", Json::text(reason))]);
    }
    *measurements = kept.into_iter().collect();
}

/// Rates of frames and of stalls, and the start of an app.
fn derive(measurements: &mut Object<'_>, duration_ms: Option<f64>) {
    let number = |measurements: &Object<'_>, name: &str| measurements.get(name)?.get("value")?.as_f64();
    let mut derived = Vec::new();
    if let Some(total) = number(measurements, "frames_total").filter(|total| *total > 0.0) {
        derived.extend(number(measurements, "frames_frozen").map(|frozen| ("frames_frozen_rate", frozen / total, "ratio")));
        derived.extend(number(measurements, "frames_slow").map(|slow| ("frames_slow_rate", slow / total, "ratio")));
    }
    if let Some(duration_ms) = duration_ms.filter(|duration_ms| *duration_ms > 0.0) {
        derived.extend(number(measurements, "stall_total_time").map(|stalled| ("stall_percentage", stalled / duration_ms, "ratio")));
    }
    let start = number(measurements, "app_start_cold").or_else(|| number(measurements, "app_start_warm"));
    derived.extend(start.map(|start| ("app.vitals.start.value", start, "millisecond")));
    for (name, value, unit) in derived.into_iter().filter(|(_, value, _)| value.is_finite()) {
        measurements.insert(name, Json::Object([("value", Json::Float(value)), ("unit", Json::text(unit))].into_iter().collect()));
    }
}

fn units(measurements: &mut Object<'_>) {
    for (name, value) in measurements.iter_mut() {
        let unit = unit_of(name);
        if let Json::Object(measurement) = value
            && measurement.get("unit").is_none()
        {
            measurement.insert("unit", Json::text(unit));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn measurements() {
        let check = |json: &str, want: &str| {
            let mut value = Json::parse(json.as_bytes()).unwrap();
            let mut notes = Notes::default();
            let path = Path::Root.key("measurements");
            for (name, value) in value.as_object_mut().unwrap().iter_mut() {
                read(value, path.key(name), &mut notes);
            }
            let mut event: Object<'_> = [("measurements", value)].into_iter().collect();
            normalise(&mut event, Some(1000.0), &mut notes);
            assert_eq!(event.get("measurements").map(Json::to_string).unwrap_or_default(), want, "{json}");
        };
        check(r#"{"LCP ":{"value":3}}"#, r#"{"lcp":{"value":3.0,"unit":"millisecond"}}"#);
        check(r#"{"a b":{"value":3},"a":{"value":"x","unit":"s"}}"#, r#"{"a":{"value":null,"unit":"second"}}"#);
        check(
            r#"{"frames_total":{"value":4},"frames_slow":{"value":1}}"#,
            r#"{"frames_total":{"value":4.0,"unit":"none"},"frames_slow":{"value":1.0,"unit":"none"},"frames_slow_rate":{"value":0.25,"unit":"ratio"}}"#,
        );
        check(
            r#"{"stall_total_time":{"value":500}}"#,
            r#"{"stall_total_time":{"value":500.0,"unit":"millisecond"},"stall_percentage":{"value":0.5,"unit":"ratio"}}"#,
        );
    }
}
