//! What normalisation had to change: the event's `errors` list and its `_meta` tree (`spec/ingest.md` section 3.1).

use std::borrow::Cow;
use std::collections::BTreeMap;

use weir_protocol::json::{Json, Object};

use super::path::{self, Path};
use super::size::json_size;

/// Places of one event that are remarked on; what is wrong beyond them is changed silently.
const NOTE_COUNT_MAX: usize = 1000;
/// The paths of all these places in bytes: keys are as long as whoever sends them likes, and each is written several times.
const PATH_BYTES_MAX: usize = 256 << 10;
/// Errors, and remarks, of one place.
const PER_PLACE_MAX: usize = 100;
/// A refused value is kept beside its error below this many bytes of JSON.
const ORIGINAL_BYTES_MAX: usize = 500;

/// Particulars of an error.
pub type Details<'a> = Vec<(&'static str, Json<'a>)>;

/// Everything that was remarked on about one place.
#[derive(Default)]
struct Note<'a> {
    path: Vec<String>,
    errors: Vec<(&'static str, Details<'a>)>,
    /// What stood there.
    original: Option<Json<'a>>,
    /// Rule, kind, start and end of what was replaced, in bytes.
    remarks: Vec<Json<'a>>,
    /// The length that it had, in characters or elements.
    length: Option<usize>,
}

/// The changes to one event, gathered while it is normalised.
///
/// Each null and each member that is looked at asks whether something was remarked on there, however many remarks there are: what
/// was never noted is told from the hashes alone.
#[derive(Default)]
pub struct Notes<'a> {
    notes: Vec<Note<'a>>,
    path_bytes: usize,
    /// How many notes are at or below a place, by the hash of its path.
    places: BTreeMap<u64, u32>,
}

impl<'a> Notes<'a> {
    /// A value that is not what its field takes, and why.
    pub fn invalid(&mut self, path: Path<'_>, reason: impl Into<Cow<'a, str>>, value: Json<'a>) {
        self.error(path, "invalid_data", vec![("reason", Json::String(reason.into()))]);
        self.original(path, value);
    }

    /// A value that breaks a rule which needs no words.
    pub fn refused(&mut self, path: Path<'_>, value: Json<'a>) {
        self.error(path, "invalid_data", Vec::new());
        self.original(path, value);
    }

    /// An error of a kind, with its particulars.
    pub fn error(&mut self, path: Path<'_>, kind: &'static str, details: Details<'a>) {
        if let Some(note) = self.at(path).filter(|note| note.errors.len() < PER_PLACE_MAX) {
            note.errors.push((kind, details));
        }
    }

    /// What stood at a place whose value was replaced.
    pub fn original(&mut self, path: Path<'_>, value: Json<'a>) {
        if value.is_null() || json_size(&value) >= ORIGINAL_BYTES_MAX {
            return;
        }
        if let Some(note) = self.at(path) {
            note.original = Some(value);
        }
    }

    /// What stood at a place before it was made shorter or vaguer, and which bytes of the text are new.
    pub fn replaced(&mut self, path: Path<'_>, rule: &'static str, range: std::ops::Range<usize>) {
        self.remark_on(path, || vec![Json::text(rule), Json::text("s"), Json::Int(range.start as i64), Json::Int(range.end as i64)]);
    }

    /// A remark without a place in the text.
    pub fn remark(&mut self, path: Path<'_>, rule: &'static str, kind: &'static str) {
        self.remark_on(path, || vec![Json::text(rule), Json::text(kind)]);
    }

    fn remark_on(&mut self, path: Path<'_>, remark: impl FnOnce() -> Vec<Json<'a>>) {
        if let Some(note) = self.at(path).filter(|note| note.remarks.len() < PER_PLACE_MAX) {
            note.remarks.push(Json::Array(remark()));
        }
    }

    /// How long a value was that was cut.
    pub fn length(&mut self, path: Path<'_>, length: usize) {
        if let Some(note) = self.at(path) {
            note.length.get_or_insert(length);
        }
    }

    /// Whether anything was remarked on there; a null that nothing explains is left out of the event.
    pub fn has(&self, path: Path<'_>) -> bool {
        self.may_have_below(path) && self.notes.iter().any(|note| path.is(&note.path))
    }

    /// Whether anything was remarked on there or below.
    pub fn has_below(&self, path: Path<'_>) -> bool {
        self.may_have_below(path) && self.notes.iter().any(|note| path.begins(&note.path))
    }

    /// A value moved with what is below it.
    pub fn rename(&mut self, from: &[&str], to: &[&str]) {
        if from == to || !self.places.contains_key(&path::hash(from)) {
            return;
        }
        for note in &mut self.notes {
            if note.path.len() >= from.len() && note.path.iter().zip(from).all(|(a, b)| a == b) {
                note.path.splice(..from.len(), to.iter().map(|key| (*key).to_owned()));
            }
        }
        self.count_places();
    }

    /// A member of an object is under another key now.
    pub fn move_member(&mut self, path: Path<'_>, from: &str, to: &str) {
        if !self.may_have_below(path.key(from)) {
            return;
        }
        let depth = path.depth();
        for note in self.notes.iter_mut().filter(|note| note.path.len() > depth && path.begins(&note.path)) {
            let key = &mut note.path[depth];
            if key == from {
                to.clone_into(key);
            }
        }
        self.count_places();
    }

    /// What was remarked on at or below a place is about values that are gone.
    pub fn forget_below(&mut self, path: Path<'_>) {
        if self.may_have_below(path) {
            self.notes.retain(|note| !path.begins(&note.path));
            self.count_places();
        }
    }

    /// Elements of a list moved, or went.
    pub fn move_elements(&mut self, path: Path<'_>, moved: impl Fn(usize) -> Option<usize>) {
        if !self.may_have_below(path) {
            return;
        }
        let depth = path.depth();
        self.notes.retain_mut(|note| {
            let is_below = note.path.len() > depth && path.begins(&note.path);
            let Some(index) = note.path.get(depth).and_then(|key| key.parse().ok()).filter(|_| is_below) else { return true };
            moved(index).inspect(|index| note.path[depth] = index.to_string()).is_some()
        });
        self.count_places();
    }

    fn may_have_below(&self, path: Path<'_>) -> bool {
        !self.places.is_empty() && self.places.contains_key(&path.hash())
    }

    /// Paths changed.
    fn count_places(&mut self) {
        self.places.clear();
        self.path_bytes = 0;
        for note in &self.notes {
            self.path_bytes += bytes(&note.path);
            path::hashes(&note.path).for_each(|hash| *self.places.entry(hash).or_default() += 1);
        }
    }

    fn at(&mut self, path: Path<'_>) -> Option<&mut Note<'a>> {
        // Remarks on one place mostly come one after the other.
        let found = if self.may_have_below(path) { self.notes.iter().rposition(|note| path.is(&note.path)) } else { None };
        let at = match found {
            Some(at) => at,
            None if self.notes.len() >= NOTE_COUNT_MAX || self.path_bytes + path.bytes() > PATH_BYTES_MAX => return None,
            None => {
                let path = path.segments();
                self.path_bytes += bytes(&path);
                path::hashes(&path).for_each(|hash| *self.places.entry(hash).or_default() += 1);
                self.notes.push(Note { path, ..Note::default() });
                self.notes.len() - 1
            }
        };
        self.notes.get_mut(at)
    }

    /// Appends to `errors` and `_meta` of the event.
    pub fn write(self, event: &mut Object<'a>) {
        if self.notes.is_empty() {
            return;
        }
        let mut meta = event.remove("_meta").filter(|m| m.as_object().is_some()).unwrap_or_else(|| Json::Object(Object::new()));
        let mut errors = match event.remove("errors") {
            Some(Json::Array(errors)) => errors,
            _ => Vec::new(),
        };
        for note in self.notes {
            let name = note.path.join(".");
            for (kind, details) in &note.errors {
                let mut error: Object<'a> = [("type", Json::text(*kind)), ("name", Json::text(name.clone()))].into_iter().collect();
                if let Some(value) = &note.original {
                    error.insert("value", value.clone());
                }
                details.iter().for_each(|(key, value)| error.insert(*key, value.clone()));
                errors.push(Json::Object(error));
            }
            mark(&mut meta, note);
        }
        if !errors.is_empty() {
            event.insert("errors", Json::Array(errors));
        }
        event.insert("_meta", meta);
    }
}

fn bytes(path: &[String]) -> usize {
    path.iter().map(|key| key.len() + path::EACH_KEY_BYTES).sum()
}

/// Sets the node at the note's path: `{"": {"err": […], "rem": […], "len": …, "val": …}}`.
fn mark<'a>(meta: &mut Json<'a>, note: Note<'a>) {
    let Some(node) = note.path.iter().map(String::as_str).chain([""]).try_fold(meta, child) else { return };
    let Json::Object(node) = node else { return };
    let errors = note.errors.into_iter().map(|(kind, details)| match details.is_empty() {
        true => Json::text(kind),
        false => Json::Array(vec![Json::text(kind), Json::Object(details.into_iter().collect())]),
    });
    extend(node, "rem", note.remarks.into_iter());
    extend(node, "err", errors);
    if let Some(length) = note.length
        && node.get("len").is_none()
    {
        node.insert("len", Json::Int(length as i64));
    }
    if let Some(value) = note.original {
        node.insert("val", value);
    }
}

fn extend<'a>(node: &mut Object<'a>, key: &'static str, more: impl ExactSizeIterator<Item = Json<'a>>) {
    if more.len() == 0 {
        return;
    }
    match node.get_mut(key) {
        Some(Json::Array(list)) => list.extend(more),
        _ => node.insert(key, Json::Array(more.collect())),
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
        let request = Path::Root.key("request");
        notes.invalid(request.key("method"), "no method", Json::text("no way"));
        notes.error(Path::Root.key("frames"), "missing_attribute", Vec::new());
        notes.invalid(Path::Root.key("level"), "long", Json::text("x".repeat(600)));
        notes.replaced(Path::Root.key("level"), "!limit", 3..6);
        notes.length(Path::Root.key("level"), 600);
        notes.write(event.as_object_mut().unwrap());
        assert_eq!(
            event.to_string(),
            concat!(
                r#"{"errors":[{"type":"x"},{"type":"invalid_data","name":"request.method","value":"no way","reason":"no method"},"#,
                r#"{"type":"missing_attribute","name":"frames"},{"type":"invalid_data","name":"level","reason":"long"}],"#,
                r#""_meta":{"request":{"":{"rem":[["a","s"]]},"method":{"":{"err":[["invalid_data",{"reason":"no method"}]],"val":"no way"}}},"#,
                r#""frames":{"":{"err":["missing_attribute"]}},"level":{"":{"rem":[["!limit","s",3,6]],"err":[["invalid_data",{"reason":"long"}]],"len":600}}}}"#
            )
        );
    }

    #[test]
    fn what_is_noted_is_bounded_however_long_keys_are() {
        let key = "k".repeat(100_000);
        let mut notes = Notes::default();
        let list = Path::Root.key(&key);
        for index in 0..10 * NOTE_COUNT_MAX {
            notes.refused(list.index(index), Json::Int(1));
            notes.error(Path::Root, "invalid_data", Vec::new());
        }
        let mut event = Object::new();
        notes.write(&mut event);
        let text = Json::Object(event).to_string();
        assert!(text.len() < 4 * PATH_BYTES_MAX, "{}", text.len());
        assert!(text.contains(r#""name":"""#) && text.contains("kkk.1\""), "what fits is noted");
    }

    #[test]
    fn elements_move_and_go() {
        let mut notes = Notes::default();
        let list = Path::Root.key("l");
        for index in 0..3 {
            let element = list.index(index);
            notes.refused(element.key("k"), Json::Int(index as i64));
        }
        notes.move_elements(list, |index| index.checked_sub(1));
        assert!(notes.has(list.index(0).key("k")) && notes.has(list.index(1).key("k")) && !notes.has(list.index(2).key("k")));
        notes.forget_below(list);
        assert!(!notes.has(list.index(0).key("k")));
    }
}
