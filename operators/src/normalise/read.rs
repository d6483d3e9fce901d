//! Reads values as what their fields take: what is something else goes, and is remarked on (`spec/ingest.md` section 3.1).

use std::borrow::Cow;
use std::net::IpAddr;

use weir_protocol::json::{Json, Object};

use super::clock;
use super::fields::STATUSES;
use super::level::level;
use super::note::Notes;
use super::path::Path;
use super::schema::{Field, Kind, Other, Struct};
use crate::spans::{span_id_of, trace_id_of};

/// Whole numbers up to here are exact as floats, which is what JSON promises.
const EXACT_MAX: f64 = 9_007_199_254_740_992.0;

/// Reads the members of an object by its fields.
pub fn object<'a>(object: &mut Object<'a>, schema: &Struct, path: Path<'_>, notes: &mut Notes<'a>) {
    object.retain(|key, value| match schema.field(key) {
        Some(field) => member(value, field, path.key(key), notes),
        None => match schema.other {
            Other::Dropped => false,
            Other::Kept => !value.is_null(),
            Other::KeptWithNull => true,
            Other::Refused => {
                notes.error(path.key(key), "invalid_attribute", Vec::new());
                *value = Json::Null;
                true
            }
        },
    });
    for field in schema.fields.iter().filter(|field| field.is_required) {
        if object.contains_key(field.name) {
            continue;
        }
        notes.error(path.key(field.name), "missing_attribute", Vec::new());
        object.insert(field.name, Json::Null);
    }
}

/// Reads one member. Whether it stays: what became null stays with the remark that says why.
pub fn member<'a>(given: &mut Json<'a>, field: &Field, path: Path<'_>, notes: &mut Notes<'a>) -> bool {
    if given.is_null() {
        if field.is_required {
            notes.error(path, "missing_attribute", Vec::new());
        }
        return field.is_required;
    }
    value(given, field, path, notes);
    if given.is_null() {
        return notes.has(path);
    }
    !(field.skips_empty && is_empty(given))
}

/// The JSON of a value, the members of objects by their keys.
pub fn sorted_text(value: &Json<'_>) -> String {
    fn is_sorted(value: &Json<'_>) -> bool {
        match value {
            Json::Array(items) => items.iter().all(is_sorted),
            Json::Object(object) => object.iter().map(|(key, _)| key).is_sorted() && object.iter().all(|(_, item)| is_sorted(item)),
            _ => true,
        }
    }
    fn sorted<'a>(value: &Json<'a>) -> Json<'a> {
        match value {
            Json::Array(items) => Json::Array(items.iter().map(sorted).collect()),
            Json::Object(object) => {
                let mut members: Vec<(String, Json<'a>)> = object.iter().map(|(key, item)| (key.to_owned(), sorted(item))).collect();
                members.sort_by(|a, b| a.0.cmp(&b.0));
                Json::Object(members.into_iter().collect())
            }
            _ => value.clone(),
        }
    }
    if is_sorted(value) { value.to_string() } else { sorted(value).to_string() }
}

/// Whether there is nothing in a value, nor in what it holds.
pub fn is_deeply_empty(value: &Json<'_>) -> bool {
    match value {
        Json::Array(items) => items.iter().all(is_deeply_empty),
        Json::Object(object) => object.iter().all(|(_, item)| is_deeply_empty(item)),
        _ => is_empty(value),
    }
}

/// Whether there is nothing in a value.
pub fn is_empty(value: &Json<'_>) -> bool {
    match value {
        Json::Null => true,
        Json::String(text) => text.is_empty(),
        Json::Array(items) => items.is_empty(),
        Json::Object(object) => object.is_empty(),
        _ => false,
    }
}

/// Reads a value that is not null.
pub fn value<'a>(value: &mut Json<'a>, field: &Field, path: Path<'_>, notes: &mut Notes<'a>) {
    let refuse = |value: &mut Json<'a>, notes: &mut Notes<'a>, reason: Cow<'a, str>| notes.invalid(path, reason, value.take());
    match field.kind {
        Kind::Any => {}
        Kind::Text => text(value, field, path, notes),
        Kind::Primitive => {
            if primitive(value, path, notes) {
                text(value, field, path, notes);
            }
        }
        Kind::AnyAsText => {
            if value.as_str().is_none() {
                *value = Json::text(sorted_text(value));
            }
        }
        Kind::Bool if value.as_bool().is_none() => refuse(value, notes, "expected a boolean".into()),
        Kind::Bool => {}
        Kind::Unsigned => match value {
            Json::Int(number) if *number >= 0 => {}
            Json::UInt(_) => {}
            Json::Float(number) if (0.0..EXACT_MAX * 2048.0).contains(number) => *value = whole(*number as u64),
            _ => refuse(value, notes, "expected an unsigned integer".into()),
        },
        Kind::Signed => match value {
            Json::Int(_) => {}
            Json::Float(number) if number.abs() < EXACT_MAX * 1024.0 => *value = Json::Int(*number as i64),
            _ => refuse(value, notes, "expected a signed integer".into()),
        },
        Kind::Number => match value.as_f64() {
            Some(number) => *value = Json::Float(number),
            None => refuse(value, notes, "expected a floating point number".into()),
        },
        Kind::Time => match clock::read(value) {
            Ok(us) => *value = clock::seconds(us),
            Err(reason) => refuse(value, notes, reason),
        },
        Kind::EventId | Kind::Uuid => uuid(value, matches!(field.kind, Kind::Uuid), path, notes),
        Kind::SpanId => hex(value, span_id_of, ("expected span id", "not a valid span id"), path, notes),
        Kind::TraceId => hex(value, trace_id_of, ("expected trace id", "not a valid trace id"), path, notes),
        Kind::Status => status(value, path, notes),
        Kind::Address => address(value, "expected address", path, notes),
        Kind::Register => address(value, "expected register value", path, notes),
        Kind::ThreadId => match value {
            Json::Int(number) if *number < 0 => *value = Json::UInt(*number as u64),
            Json::Int(_) | Json::UInt(_) | Json::String(_) => {}
            _ => refuse(value, notes, "expected a thread id".into()),
        },
        Kind::Ip => {
            let is_address = value.as_str().is_some_and(|text| text == super::user::AUTO || text.parse::<IpAddr>().is_ok());
            if !is_address {
                refuse(value, notes, "expected an ip address".into());
            }
        }
        Kind::Level => match level(value) {
            Some(name) => *value = Json::text(name),
            None => match value {
                Json::String(_) => refuse(value, notes, "invalid level".into()),
                Json::Int(_) | Json::UInt(_) => notes.refused(path, value.take()),
                _ => refuse(value, notes, "expected a level".into()),
            },
        },
        Kind::LockType => match value {
            Json::Int(1 | 2 | 4 | 8) => {}
            Json::Int(_) | Json::UInt(_) => notes.refused(path, value.take()),
            _ => refuse(value, notes, "expected lock reason type".into()),
        },
        Kind::Bag if value.as_object().is_none() => refuse(value, notes, "expected an object".into()),
        Kind::Bag => {}
        Kind::Vars => match value {
            Json::Object(_) => {}
            Json::Array(items) => {
                let members = std::mem::take(items).into_iter().enumerate().map(|(index, item)| (index.to_string(), item));
                *value = Json::Object(members.collect());
            }
            _ => refuse(value, notes, "expected an object".into()),
        },
        Kind::Params if matches!(value, Json::Array(_) | Json::Object(_)) => {}
        Kind::Params => refuse(value, notes, "expected message parameters".into()),
        Kind::Map(of) => match value {
            Json::Object(members) => members.retain(|key, value| match value.is_null() {
                true => !of.skips_empty,
                false => member(value, of, path.key(key), notes),
            }),
            _ => refuse(value, notes, "expected an object".into()),
        },
        Kind::List(of) => list(value, field, of, path, notes),
        Kind::Object(schema) => match value {
            Json::Object(members) => object(members, schema, path, notes),
            _ => refuse(value, notes, format!("expected {}", schema.name).into()),
        },
        Kind::Values(of) => values(value, of, path, notes),
        Kind::Special(read) => read(value, path, notes),
    }
}

/// Checks a text.
fn text<'a>(value: &mut Json<'a>, field: &Field, path: Path<'_>, notes: &mut Notes<'a>) {
    let Json::String(given) = value else { return notes.invalid(path, "expected a string", value.take()) };
    if field.is_trimmed {
        let trimmed = given.trim();
        if trimmed.len() < given.len() {
            *given = Cow::Owned(trimmed.to_owned());
        }
    }
    if field.is_nonempty && given.is_empty() {
        notes.error(path, "invalid_data", vec![("reason", Json::text("expected a non-empty string"))]);
        *value = Json::Null;
    } else if let Some(refused) = field.chars.first_refused(given) {
        notes.invalid(path, format!("invalid character {refused:?}"), value.take());
    }
}

/// Makes a number or truth value its text; whether a text stands there now.
pub fn primitive<'a>(value: &mut Json<'a>, path: Path<'_>, notes: &mut Notes<'a>) -> bool {
    if value.as_str().is_some() {
        return true;
    }
    match primitive_text(value).map(Cow::into_owned) {
        Ok(text) => {
            *value = Json::text(text);
            true
        }
        Err(reason) => {
            notes.invalid(path, reason, value.take());
            false
        }
    }
}

/// The text of a text, number or truth value, or why there is none.
pub fn primitive_text<'v>(value: &'v Json<'_>) -> Result<Cow<'v, str>, &'static str> {
    match value {
        Json::String(text) => Ok(Cow::Borrowed(text)),
        Json::Bool(true) => Ok("True".into()),
        Json::Bool(false) => Ok("False".into()),
        Json::Int(_) | Json::UInt(_) => Ok(value.to_string().into()),
        Json::Float(number) if number.abs() < EXACT_MAX => Ok(number.trunc().to_string().into()),
        Json::Float(_) => Err("expected a number with JSON precision"),
        Json::Null | Json::Array(_) | Json::Object(_) => Err("expected a primitive value"),
    }
}

fn whole<'a>(number: u64) -> Json<'a> {
    i64::try_from(number).map_or(Json::UInt(number), Json::Int)
}

fn uuid<'a>(value: &mut Json<'a>, has_hyphens: bool, path: Path<'_>, notes: &mut Notes<'a>) {
    let Some(text) = value.as_str() else {
        return notes.invalid(path, if has_hyphens { "expected a uuid" } else { "expected event id" }, value.take());
    };
    match uuid::Uuid::parse_str(text) {
        Ok(id) if has_hyphens => *value = Json::text(id.hyphenated().to_string()),
        Ok(id) => {
            let written = id.simple().to_string();
            if written != text {
                *value = Json::text(written);
            }
        }
        Err(error) => notes.invalid(path, error.to_string(), value.take()),
    }
}

fn hex<'a>(value: &mut Json<'a>, read: fn(&str) -> Option<String>, (kind, form): (&'static str, &'static str), path: Path<'_>, notes: &mut Notes<'a>) {
    let Some(text) = value.as_str() else { return notes.invalid(path, kind, value.take()) };
    match read(text) {
        Some(written) if written == text => {}
        Some(written) => *value = Json::text(written),
        None => notes.invalid(path, form, value.take()),
    }
}

fn status<'a>(value: &mut Json<'a>, path: Path<'_>, notes: &mut Notes<'a>) {
    let known = match value {
        Json::String(text) => STATUSES.iter().find(|(names, _)| names.contains(&text.as_ref())),
        Json::Int(_) => value.as_u64().and_then(|number| STATUSES.iter().find(|(_, code)| *code == Some(number))),
        _ => return notes.invalid(path, "expected a string", value.take()),
    };
    match known {
        Some((names, _)) => *value = Json::text(names[0]),
        None => notes.invalid(path, "expected a trace status", value.take()),
    }
}

fn address<'a>(value: &mut Json<'a>, expected: &'static str, path: Path<'_>, notes: &mut Notes<'a>) {
    let number = match value {
        Json::Int(number) => *number as u64,
        Json::UInt(number) => *number,
        Json::String(text) => {
            let read = match text.strip_prefix("0x").or_else(|| text.strip_prefix("0X")) {
                Some(digits) => u64::from_str_radix(digits, 16),
                None => text.parse(),
            };
            match read {
                Ok(number) => number,
                Err(error) => return notes.invalid(path, error.to_string(), value.take()),
            }
        }
        _ => return notes.invalid(path, expected, value.take()),
    };
    *value = Json::text(format!("{number:#x}"));
}

fn list<'a>(value: &mut Json<'a>, field: &Field, of: &Field, path: Path<'_>, notes: &mut Notes<'a>) {
    let Json::Array(items) = value else { return notes.invalid(path, "expected an array", value.take()) };
    if field.is_nonempty && items.is_empty() {
        notes.error(path, "invalid_data", vec![("reason", Json::text("expected a non-empty value"))]);
        *value = Json::Null;
        return;
    }
    elements(items, of, path, notes);
}

fn elements<'a>(items: &mut [Json<'a>], of: &Field, path: Path<'_>, notes: &mut Notes<'a>) {
    for (index, item) in items.iter_mut().enumerate().filter(|(_, item)| !item.is_null()) {
        value(item, of, path.index(index), notes);
    }
}

/// Makes the three forms of an interface with values one.
fn values<'a>(value: &mut Json<'a>, of: &Field, path: Path<'_>, notes: &mut Notes<'a>) {
    let mut inner = match value.take() {
        Json::Array(items) => Json::Array(items),
        Json::Object(mut object) if object.contains_key("values") => object.remove("values").unwrap_or_default(),
        Json::Object(object) if object.is_empty() => return,
        single @ Json::Object(_) => Json::Array(vec![single]),
        other => return notes.invalid(path, "expected a list or values object", other),
    };
    let inside = path.key("values");
    match &mut inner {
        Json::Null => notes.error(inside, "missing_attribute", Vec::new()),
        Json::Array(items) if items.is_empty() => return,
        Json::Array(items) => elements(items, of, inside, notes),
        other => notes.invalid(inside, "expected an array", other.take()),
    }
    *value = Json::Object([("values", inner)].into_iter().collect());
}
