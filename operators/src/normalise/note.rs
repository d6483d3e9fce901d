//! What normalisation had to change: the event's `errors` list and its `_meta` tree (`spec/ingest.md` section 3.1).

use weir_protocol::json::{Json, Object};

/// Errors that one event lists; what is wrong beyond them is changed silently.
const ERROR_COUNT_MAX: usize = 100;
/// A refused value is kept beside its error up to this many bytes of JSON.
const ORIGINAL_BYTES_MAX: usize = 500;

struct Note<'a> {
    kind: &'static str,
    path: Vec<String>,
    value: Option<Json<'a>>,
    more: Vec<(&'static str, Json<'a>)>,
}

/// The changes to one event, gathered while it is normalised.
#[derive(Default)]
pub struct Notes<'a>(Vec<Note<'a>>);

impl<'a> Notes<'a> {
    /// A value that is not what its field takes.
    pub fn invalid(&mut self, path: &[&str], value: Json<'a>) {
        self.add("invalid_data", path, Some(value), Vec::new());
    }

    /// A field that nothing knows.
    pub fn unknown(&mut self, path: &[&str], value: Json<'a>) {
        self.add("invalid_attribute", path, Some(value), Vec::new());
    }

    /// A part that lacks what it needs.
    pub fn missing(&mut self, path: &[&str], attribute: &'static str) {
        self.add("missing_attribute", path, None, vec![("attribute", Json::text(attribute))]);
    }

    /// Any other kind, with its particulars.
    pub fn add(&mut self, kind: &'static str, path: &[&str], value: Option<Json<'a>>, more: Vec<(&'static str, Json<'a>)>) {
        if self.0.len() >= ERROR_COUNT_MAX {
            return;
        }
        let value = value.filter(|v| !v.is_null() && v.to_string().len() <= ORIGINAL_BYTES_MAX);
        self.0.push(Note { kind, path: path.iter().map(|p| (*p).to_owned()).collect(), value, more });
    }

    /// Appends to `errors` and `_meta` of the event.
    pub fn write(self, event: &mut Object<'a>) {
        if self.0.is_empty() {
            return;
        }
        let mut meta = event.remove("_meta").filter(|m| m.as_object().is_some()).unwrap_or_else(|| Json::Object(Object::new()));
        let mut errors = match event.remove("errors") {
            Some(Json::Array(errors)) => errors,
            _ => Vec::new(),
        };
        for note in self.0 {
            mark(&mut meta, &note);
            let mut error: Object<'a> = [("type", Json::text(note.kind)), ("name", Json::text(note.path.join(".")))].into_iter().collect();
            if let Some(value) = note.value {
                error.insert("value", value);
            }
            note.more.into_iter().for_each(|(key, value)| error.insert(key, value));
            errors.push(Json::Object(error));
        }
        event.insert("errors", Json::Array(errors));
        event.insert("_meta", meta);
    }
}

/// Sets the node at the note's path: `{"": {"err": […], "val": …}}`.
fn mark<'a>(meta: &mut Json<'a>, note: &Note<'a>) {
    let Some(node) = note.path.iter().map(String::as_str).chain([""]).try_fold(meta, child) else { return };
    let error =
        if note.more.is_empty() { Json::text(note.kind) } else { Json::Array(vec![Json::text(note.kind), Json::Object(note.more.iter().cloned().collect())]) };
    let Json::Object(node) = node else { return };
    match node.get_mut("err") {
        Some(Json::Array(errors)) => errors.push(error),
        _ => node.insert("err", Json::Array(vec![error])),
    }
    if let Some(value) = &note.value {
        node.insert("val", value.clone());
    }
}

/// The member of an object, made an empty object where it is none.
fn child<'m, 'a>(node: &'m mut Json<'a>, key: &str) -> Option<&'m mut Json<'a>> {
    let object = node.as_object_mut()?;
    if object.get(key).and_then(Json::as_object).is_none() {
        object.insert(key.to_owned(), Json::Object(Object::new()));
    }
    object.get_mut(key)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_are_listed_and_mirrored_and_the_sdk_meta_stays() {
        let mut event = Json::parse(br#"{"_meta":{"request":{"":{"rem":[["a","s"]]}}},"errors":[{"type":"x"}]}"#).unwrap();
        let mut notes = Notes::default();
        notes.invalid(&["request", "method"], Json::text("no way"));
        notes.missing(&["exception", "values", "0"], "type or value");
        notes.invalid(&["level"], Json::text("x".repeat(600)));
        notes.write(event.as_object_mut().unwrap());
        assert_eq!(
            event.to_string(),
            concat!(
                r#"{"errors":[{"type":"x"},{"type":"invalid_data","name":"request.method","value":"no way"},"#,
                r#"{"type":"missing_attribute","name":"exception.values.0","attribute":"type or value"},{"type":"invalid_data","name":"level"}],"#,
                r#""_meta":{"request":{"":{"rem":[["a","s"]]},"method":{"":{"err":["invalid_data"],"val":"no way"}}},"#,
                r#""exception":{"values":{"0":{"":{"err":[["missing_attribute",{"attribute":"type or value"}]]}}}},"level":{"":{"err":["invalid_data"]}}}}"#
            )
        );
    }
}
