//! Limits: texts cut to a length, values cut to a size and a depth (`spec/ingest.md` section 3.2).

use weir_protocol::json::{Json, Object};

use super::fields::{EVENT, context};
use super::note::Notes;
use super::path::Path;
use super::read::sorted_text;
use super::schema::{Field, Kind, Struct};
use super::size::{EACH_BYTES, flat_size, size};

const ELLIPSIS: &str = "...";
/// What is remarked on a text that was cut.
const RULE: &str = "!limit";
/// No text field has a lower limit.
const TEXT_CHARS_MIN: usize = 64;
/// A context with everything below it.
static CONTEXT: Field = Field::new("", Kind::Bag).bag(8192, 7);
/// The type of context that keeps its fields whole, and cuts the others by what these leave.
const TRACE: &str = "trace";
/// The type of context with limits inside.
const RESPONSE: &str = "response";
/// The type of context that has no limit on its size.
const FLAGS: &str = "flags";
static FLAGS_CONTEXT: Field = Field::new("", Kind::Bag).bag(0, 7);

/// The text cut to `chars_max` characters, the last three of them `...`; `None` where it fits.
pub fn shortened(text: &str, chars_max: usize) -> Option<String> {
    if text.len() <= chars_max || text.chars().count() <= chars_max {
        return None;
    }
    let mut short: String = text.chars().take(chars_max.saturating_sub(ELLIPSIS.len())).collect();
    short.push_str(ELLIPSIS);
    Some(short)
}

/// The first `chars_max` characters.
pub fn first_chars(text: &str, chars_max: usize) -> &str {
    text.char_indices().nth(chars_max).map_or(text, |(at, _)| &text[..at])
}

/// Cuts a text to its limit, where it is longer than that by more than the allowance; other values stay.
pub fn shorten<'a>(value: &mut Json<'a>, chars_max: usize, allowance: usize, path: Path<'_>, notes: &mut Notes<'a>) {
    let Some(text) = value.as_str().filter(|text| text.len() > chars_max + allowance) else { return };
    let chars = text.chars().count();
    if chars <= chars_max + allowance {
        return;
    }
    if let Some(short) = shortened(text, chars_max) {
        notes.replaced(path, RULE, short.len() - ELLIPSIS.len()..short.len());
        notes.length(path, chars);
        *value = Json::text(short);
    }
}

/// Cuts everything in an event to its limits.
pub fn normalise<'a>(event: &mut Object<'a>, notes: &mut Notes<'a>) {
    let mut trim = Trim { bags: Vec::new(), depth: 0, notes };
    for (key, value) in event.iter_mut() {
        match key {
            "contexts" => trim.contexts(value, Path::Root.key(key)),
            _ => {
                if let Some(field) = EVENT.field(key) {
                    trim.member(value, field, Path::Root.key(key));
                }
            }
        }
    }
}

/// A limit on size and depth that holds for everything below a value.
struct Bag {
    bytes_left: usize,
    depth_max: usize,
    /// The depth of the value.
    depth: usize,
}

struct Trim<'n, 'a> {
    bags: Vec<Bag>,
    depth: usize,
    notes: &'n mut Notes<'a>,
}

/// What a value comes to.
#[derive(Default)]
struct Measure {
    size: usize,
    levels: usize,
    text_bytes_max: usize,
}

fn measure(value: &Json<'_>) -> Measure {
    let mut whole = Measure { size: flat_size(value), ..Measure::default() };
    let mut add = |item: &Json<'_>| {
        let part = measure(item);
        whole.size += part.size + EACH_BYTES;
        whole.levels = whole.levels.max(part.levels);
        whole.text_bytes_max = whole.text_bytes_max.max(part.text_bytes_max);
    };
    match value {
        Json::Array(items) => {
            items.iter().for_each(&mut add);
            whole.levels += 1;
        }
        Json::Object(object) => {
            object.iter().for_each(|(_, item)| add(item));
            whole.levels += 1;
        }
        Json::String(text) => whole.text_bytes_max = text.len(),
        _ => {}
    }
    whole
}

impl<'a> Trim<'_, 'a> {
    fn contexts(&mut self, contexts: &mut Json<'a>, path: Path<'_>) {
        let Some(contexts) = contexts.as_object_mut() else { return };
        for (key, value) in contexts.iter_mut() {
            let kind = value.get("type").and_then(Json::as_str).unwrap_or(key);
            let schema = context(kind);
            let path = path.key(key);
            let is_free = schema.fields.is_empty();
            if kind == FLAGS {
                self.open(&FLAGS_CONTEXT);
                value.as_object_mut().into_iter().for_each(|object| self.object(object, schema, path));
                self.bags.pop();
            } else if kind == TRACE {
                value.as_object_mut().into_iter().for_each(|object| self.trace(object, schema, path));
            } else if kind == RESPONSE || !self.fits(value, &CONTEXT, !is_free) {
                self.open(&CONTEXT);
                if let Json::Object(object) = value {
                    if is_free { self.members(object, path) } else { self.object(object, schema, path) }
                }
                self.close(value);
            }
        }
    }

    fn trace(&mut self, trace: &mut Object<'a>, schema: &Struct, path: Path<'_>) {
        for field in schema.fields {
            if let Some(value) = trace.get_mut(field.name) {
                self.inside(value, field, path.key(field.name));
            }
        }
        let is_other = |key: &str| key != "type" && schema.field(key).is_none();
        if !trace.iter().any(|(key, _)| is_other(key)) {
            return;
        }
        self.open(&CONTEXT);
        self.depth += 1;
        schema.fields.iter().for_each(|field| self.spend(trace.get(field.name).map_or(0, size) + EACH_BYTES));
        self.others(trace, is_other, path);
        self.depth -= 1;
        self.bags.pop();
    }

    /// Members that no field is for; what has no room goes.
    fn others(&mut self, object: &mut Object<'a>, is_other: impl Fn(&str) -> bool, path: Path<'_>) {
        for (key, value) in object.by_key_mut().into_iter().filter(|(key, _)| is_other(key)) {
            self.free(value, path.key(key));
        }
        object.retain(|key, value| !value.is_null() || self.notes.has(path.key(key)));
    }

    /// Whether the value stays within the limits as it is; if so, it is counted.
    fn fits(&mut self, value: &Json<'_>, field: &Field, has_fields: bool) -> bool {
        if let Kind::Map(of) = field.kind
            && of.bytes_max > 0
        {
            return false;
        }
        let measure = measure(value);
        // Fields that are not there count as well, and have limits of their own.
        let size = if has_fields { measure.size + TEXT_CHARS_MIN } else { measure.size };
        let is_short = !has_fields || measure.text_bytes_max <= TEXT_CHARS_MIN;
        let is_small = field.bytes_max == 0 || size < field.bytes_max;
        let is_flat = field.depth_max == 0 || measure.levels < field.depth_max;
        let inside = self.bags.iter().all(|bag| size < bag.bytes_left && self.depth - bag.depth + measure.levels < bag.depth_max);
        let fits = is_short && is_small && is_flat && inside;
        if fits {
            self.spend(measure.size + EACH_BYTES);
        }
        fits
    }

    fn open(&mut self, field: &Field) {
        let or_endless = |limit: usize| if limit == 0 { usize::MAX } else { limit };
        self.bags.push(Bag { bytes_left: or_endless(field.bytes_max), depth_max: or_endless(field.depth_max), depth: self.depth });
    }

    fn close(&mut self, value: &Json<'_>) {
        self.bags.pop();
        self.spend(flat_size(value) + EACH_BYTES);
    }

    fn spend(&mut self, bytes: usize) {
        self.bags.iter_mut().for_each(|bag| bag.bytes_left = bag.bytes_left.saturating_sub(bytes));
    }

    fn bytes_left(&self) -> usize {
        self.bags.iter().map(|bag| bag.bytes_left).min().unwrap_or(usize::MAX)
    }

    fn depth_left(&self) -> usize {
        self.bags.iter().map(|bag| bag.depth_max.saturating_sub(self.depth - bag.depth)).min().unwrap_or(usize::MAX)
    }

    /// A member or element with a field of its own.
    fn member(&mut self, value: &mut Json<'a>, field: &Field, path: Path<'_>) {
        let is_bag = field.bytes_max > 0 || field.depth_max > 0;
        if !is_bag && self.bags.is_empty() {
            return self.inside(value, field, path);
        }
        if self.fits(value, field, !is_free(field)) {
            return;
        }
        if is_bag {
            self.open(field);
        }
        if self.bytes_left() == 0 || self.depth_left() == 0 {
            *value = Json::Null;
        } else {
            self.inside(value, field, path);
        }
        if is_bag {
            self.close(value);
        } else {
            self.spend(flat_size(value) + EACH_BYTES);
        }
    }

    fn inside(&mut self, value: &mut Json<'a>, field: &Field, path: Path<'_>) {
        match (field.kind, &mut *value) {
            (_, Json::Null | Json::Bool(_) | Json::Int(_) | Json::UInt(_) | Json::Float(_)) => {}
            (_, Json::String(text)) if self.bags.is_empty() && text.len() <= TEXT_CHARS_MIN => {}
            (_, Json::String(_)) => {
                if field.chars_max > 0 {
                    shorten(value, field.chars_max, field.chars_allowance, path, self.notes);
                }
                self.cut_text(value, path);
            }
            (Kind::Object(schema), Json::Object(object)) => self.object(object, schema, path),
            (Kind::Map(of), Json::Object(object)) => self.map(object, of, path),
            (Kind::List(of), Json::Array(items)) => self.list(items, of, path),
            (Kind::Values(of), Json::Object(object)) => {
                if let Some(Json::Array(items)) = object.get_mut("values") {
                    self.list(items, of, path.key("values"));
                }
            }
            (Kind::Special(_), Json::Object(object)) => self.special(object, field, path),
            (Kind::Special(_), Json::Array(pairs)) => self.pairs(pairs, path),
            _ if self.bags.is_empty() => {}
            _ => self.free_inside(value, path),
        }
    }

    /// The fields of an object in their order, those that are not there too, then its other members.
    fn object(&mut self, object: &mut Object<'a>, schema: &Struct, path: Path<'_>) {
        self.depth += 1;
        if self.bags.is_empty() {
            for (key, value) in object.iter_mut() {
                if let Some(field) = schema.field(key) {
                    self.member(value, field, path.key(key));
                }
            }
        } else {
            for field in schema.fields {
                match object.get_mut(field.name) {
                    Some(value) => self.member(value, field, path.key(field.name)),
                    None => self.spend(EACH_BYTES),
                }
            }
            self.others(object, |key| key != "type" && schema.field(key).is_none(), path);
        }
        self.depth -= 1;
    }

    fn special(&mut self, object: &mut Object<'a>, field: &Field, path: Path<'_>) {
        let schema = match field.name {
            "logentry" => &super::fields::LOGENTRY,
            "mechanism" => &super::fields::MECHANISM,
            "" if object.contains_key("code_file") || object.contains_key("debug_id") || object.contains_key("uuid") => return,
            "" => &super::fields::EXCEPTION_FIELDS,
            _ => return,
        };
        self.object(object, schema, path);
    }

    /// Members of one kind, by their keys; what has no room goes.
    fn map(&mut self, object: &mut Object<'a>, of: &Field, path: Path<'_>) {
        self.each_with_room(object, path, |trim, value, path| trim.member(value, of, path));
    }

    /// Members by their keys, as long as there is room; the others go.
    fn each_with_room(&mut self, object: &mut Object<'a>, path: Path<'_>, mut each: impl FnMut(&mut Self, &mut Json<'a>, Path<'_>)) {
        self.depth += 1;
        let mut first_without = None;
        for (key, value) in object.by_key_mut() {
            if self.bytes_left() == 0 {
                first_without = Some(key.to_owned());
                break;
            }
            each(self, value, path.key(key));
        }
        if let Some(first) = first_without {
            let length = object.len();
            object.retain(|key, _| key < first.as_str());
            self.notes.length(path, length);
        }
        self.depth -= 1;
    }

    fn list(&mut self, items: &mut Vec<Json<'a>>, of: &Field, path: Path<'_>) {
        self.depth += 1;
        for (index, item) in items.iter_mut().enumerate() {
            self.member(item, of, path.index(index));
        }
        self.depth -= 1;
    }

    /// Pairs keep their places: what has no room is null.
    fn pairs(&mut self, pairs: &mut [Json<'a>], path: Path<'_>) {
        if self.bags.is_empty() {
            return;
        }
        self.depth += 1;
        for (index, pair) in pairs.iter_mut().enumerate() {
            if self.bytes_left() == 0 || self.depth_left() == 0 {
                *pair = Json::Null;
                continue;
            }
            let path = path.index(index);
            self.depth += 1;
            for (at, part) in pair.as_array_mut().into_iter().flatten().enumerate() {
                self.free(part, path.index(at));
            }
            self.depth -= 1;
            self.spend(flat_size(pair) + EACH_BYTES);
        }
        self.depth -= 1;
    }

    /// Members of a bag keep their keys: what has no room is null.
    fn members(&mut self, object: &mut Object<'a>, path: Path<'_>) {
        self.depth += 1;
        for (key, value) in object.by_key_mut() {
            self.free(value, path.key(key));
        }
        self.depth -= 1;
    }

    /// A value without a field, inside a bag.
    fn free(&mut self, value: &mut Json<'a>, path: Path<'_>) {
        if self.bytes_left() == 0 || self.depth_left() == 0 {
            *value = Json::Null;
            return;
        }
        self.free_inside(value, path);
        self.spend(flat_size(value) + EACH_BYTES);
    }

    fn free_inside(&mut self, value: &mut Json<'a>, path: Path<'_>) {
        if matches!(value, Json::Array(_) | Json::Object(_)) && self.depth_left() == 1 {
            *value = Json::text(sorted_text(value));
        }
        match value {
            Json::String(_) => self.cut_text(value, path),
            Json::Array(items) => {
                self.depth += 1;
                let length = items.len();
                let mut room = length;
                for (index, item) in items.iter_mut().enumerate() {
                    if self.bytes_left() == 0 {
                        room = index;
                        break;
                    }
                    self.free(item, path.index(index));
                }
                if room < length {
                    items.truncate(room);
                    self.notes.length(path, length);
                }
                self.depth -= 1;
            }
            Json::Object(object) => self.each_with_room(object, path, |trim, value, path| trim.free(value, path)),
            _ => {}
        }
    }

    fn cut_text(&mut self, value: &mut Json<'a>, path: Path<'_>) {
        let left = self.bytes_left();
        if left < usize::MAX {
            shorten(value, left, 0, path, self.notes);
        }
    }
}

/// Whether nothing below a field has a limit of its own.
fn is_free(field: &Field) -> bool {
    matches!(field.kind, Kind::Any | Kind::Bag | Kind::Vars | Kind::Params | Kind::Special(_)) && field.chars_max == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_end_with_dots_at_their_limit() {
        let check = |text: &str, max: usize, want: Option<&str>| assert_eq!(shortened(text, max).as_deref(), want, "{text}");
        check("short", 5, None);
        check("longer", 5, Some("lo..."));
        check("ééééé", 5, None);
        check("éééééé", 5, Some("éé..."));
        check("", 0, None);
    }

    #[test]
    fn bags_are_cut_by_depth_and_size() {
        let check = |data: &str, want: &str| {
            let text = format!(r#"{{"request":{{"data":{data}}}}}"#);
            let mut event = Json::parse(text.as_bytes()).unwrap();
            normalise(event.as_object_mut().unwrap(), &mut Notes::default());
            assert_eq!(event.at(&["request", "data"]).unwrap().to_string(), want);
        };
        let (long, rest) = ("x".repeat(4000), "x".repeat(8192 - 2 * 4003 - 3));
        check(r#"{"a":1}"#, r#"{"a":1}"#);
        check(&format!(r#"["{long}","{long}","{long}",1]"#), &format!(r#"["{long}","{long}","{rest}..."]"#));
        check(&format!(r#"{{"b":"{long}","a":"{long}","c":"{long}","d":1}}"#), &format!(r#"{{"b":"{long}","a":"{long}","c":"{rest}..."}}"#));
        check("[[[[[[[[1]]]]]]]]", r#"[[[[[["[[1]]"]]]]]]"#);
    }
}
