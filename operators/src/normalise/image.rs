//! Images of code that frames are in (`spec/ingest.md` section 3.2).

use weir_protocol::json::{Json, Object};

use super::note::Notes;
use super::path::Path;
use super::read;
use super::schema::{Field, Kind, Other, Struct};

/// Reads an image by its type; one of a type that nothing knows becomes null.
pub fn read<'a>(value: &mut Json<'a>, path: Path<'_>, notes: &mut Notes<'a>) {
    let Json::Object(image) = value else { return notes.invalid(path, "expected an object", value.take()) };
    if image.get("type").and_then(Json::as_str) == Some("apple") {
        *image = from_apple(std::mem::take(image));
    }
    let schema = match image.get("type").and_then(Json::as_str) {
        Some("elf" | "macho" | "pe" | "pe_dotnet" | "symbolic" | "wasm") => {
            rename(image, "name", "code_file");
            rename(image, "id", "debug_id");
            &NATIVE
        }
        Some("proguard") => &PROGUARD,
        Some("sourcemap") => &SOURCE_MAP,
        Some("jvm") => &JVM,
        _ => return notes.invalid(path, "unsupported debug image type", value.take()),
    };
    read::object(image, schema, path, notes);
}

/// An older name of a member.
fn rename(image: &mut Object<'_>, older: &str, newer: &'static str) {
    if let Some(value) = image.remove(older)
        && !image.contains_key(newer)
    {
        image.insert(newer, value);
    }
}

/// The older form of an image on Apple's systems.
fn from_apple(apple: Object<'_>) -> Object<'_> {
    let mut image: Object<'_> = apple
        .into_iter()
        .filter_map(|(key, value)| match key.as_ref() {
            "name" => Some(("code_file".into(), value)),
            "uuid" => Some(("debug_id".into(), value)),
            "arch" | "cpu_type" | "cpu_subtype" | "image_addr" | "image_size" | "image_vmaddr" => Some((key, value)),
            _ => None,
        })
        .collect();
    image.insert("type", Json::text("macho"));
    image
}

static NATIVE: Struct = Struct {
    name: "an object",
    other: Other::Dropped,
    fields: &[
        Field::new("type", Kind::Any),
        Field::new("code_id", Kind::Special(code_id)),
        Field::text("code_file").required(),
        Field::new("debug_id", Kind::Special(debug_id)).required(),
        Field::text("debug_file"),
        Field::text("debug_checksum"),
        Field::text("arch"),
        Field::new("image_addr", Kind::Address),
        Field::new("image_size", Kind::Unsigned),
        Field::new("image_vmaddr", Kind::Address),
    ],
};

static PROGUARD: Struct =
    Struct { name: "an object", other: Other::Dropped, fields: &[Field::new("type", Kind::Any), Field::new("uuid", Kind::Uuid).required()] };

static SOURCE_MAP: Struct = Struct {
    name: "an object",
    other: Other::Dropped,
    fields: &[
        Field::new("type", Kind::Any),
        Field::text("code_file").required(),
        Field::new("debug_id", Kind::Special(debug_id)).required(),
        Field::text("debug_file"),
    ],
};

static JVM: Struct =
    Struct { name: "an object", other: Other::Dropped, fields: &[Field::new("type", Kind::Any), Field::new("debug_id", Kind::Special(debug_id)).required()] };

/// Reads an identifier of code: its hexadecimal digits.
fn code_id<'a>(value: &mut Json<'a>, path: Path<'_>, notes: &mut Notes<'a>) {
    match value.as_str() {
        Some(text) => *value = Json::text(text.chars().filter(char::is_ascii_hexdigit).collect::<String>().to_ascii_lowercase()),
        None => notes.invalid(path, "expected a code identifier", value.take()),
    }
}

/// Reads an identifier of debug information: a UUID, or a time and size of the older PDB, and an age.
fn debug_id<'a>(value: &mut Json<'a>, path: Path<'_>, notes: &mut Notes<'a>) {
    match value.as_str().map(parse_debug_id) {
        None => notes.invalid(path, "expected a debug identifier", value.take()),
        Some(None) => notes.invalid(path, "invalid debug identifier", value.take()),
        Some(Some(id)) => *value = Json::text(id),
    }
}

/// UUID with hyphens, or eight digits of a time, and the age where it is not 0.
fn parse_debug_id(text: &str) -> Option<String> {
    let has_hyphens = text.get(8..9) == Some("-");
    let uuid_len = if has_hyphens { 36 } else { 32 };
    if let Some(uuid) = text.get(..uuid_len).and_then(|uuid| uuid::Uuid::parse_str(uuid).ok()) {
        let rest = &text[uuid_len..];
        let age = age(rest.strip_prefix('-').unwrap_or(rest))?;
        return Some(if age == 0 { uuid.hyphenated().to_string() } else { format!("{}-{age:x}", uuid.hyphenated()) });
    }
    let time = text.get(..8).filter(|time| time.bytes().all(|byte| byte.is_ascii_hexdigit()))?;
    let rest = &text[8..];
    let age = age(rest.strip_prefix('-').unwrap_or(rest)).filter(|_| !rest.is_empty())?;
    Some(format!("{}-{age:x}", time.to_ascii_uppercase()))
}

fn age(digits: &str) -> Option<u32> {
    if digits.is_empty() {
        return Some(0);
    }
    u32::from_str_radix(digits, 16).ok().filter(|_| digits.bytes().all(|byte| byte.is_ascii_hexdigit()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn debug_ids() {
        let check = |text: &str, want: Option<&str>| assert_eq!(parse_debug_id(text).as_deref(), want, "{text}");
        check("3249d99d0c4049318610f4e4fb0b6936", Some("3249d99d-0c40-4931-8610-f4e4fb0b6936"));
        check("3249D99D-0C40-4931-8610-F4E4FB0B6936-a", Some("3249d99d-0c40-4931-8610-f4e4fb0b6936-a"));
        check("3249d99d0c4049318610f4e4fb0b69360", Some("3249d99d-0c40-4931-8610-f4e4fb0b6936"));
        check("536be95e5", Some("536BE95E-5"));
        check("xyz", None);
        check("", None);
    }
}
