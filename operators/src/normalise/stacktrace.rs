//! Stack traces and their frames (`spec/ingest.md` section 3.2).

use weir_protocol::json::{Json, Object};
use weir_protocol::limits::FRAME_COUNT_MAX;

use super::note::Notes;
use super::path::Path;
use super::read::is_empty;

/// Of a longer trace this many of the outermost frames stay; the rest are the innermost ones.
const OUTERMOST_COUNT: usize = 50;
/// Frames that keep their variables and the lines around them.
const DETAILED_COUNT_MAX: usize = 50;
/// What the other frames lose.
const DETAILS: [&str; 3] = ["vars", "pre_context", "post_context"];

/// Brings all stacks of the event into form.
pub fn normalise<'a>(event: &mut Object<'a>, notes: &mut Notes<'a>) {
    holder(event, Path::Root, notes);
    for interface in ["exception", "threads"] {
        let values = event.get_mut(interface).and_then(Json::as_object_mut).and_then(|i| i.get_mut("values")).and_then(Json::as_array_mut);
        for (index, value) in values.into_iter().flatten().enumerate() {
            if let Json::Object(value) = value {
                holder(value, Path::Root.key(interface).key("values").index(index), notes);
            }
        }
    }
}

fn holder<'a>(holder: &mut Object<'a>, path: Path<'_>, notes: &mut Notes<'a>) {
    for key in ["stacktrace", "raw_stacktrace"] {
        let frames = holder.get_mut(key).and_then(Json::as_object_mut).and_then(|stacktrace| stacktrace.get_mut("frames"));
        let Some(Json::Array(frames)) = frames else { continue };
        let path = path.key(key);
        let path = path.key("frames");
        cut(frames, path, notes);
        for (index, item) in frames.iter_mut().enumerate() {
            if let Json::Object(item) = item {
                frame(item, path.index(index), notes);
            }
        }
        slim(frames, path, notes);
    }
}

fn frame<'a>(frame: &mut Object<'a>, path: Path<'_>, notes: &mut Notes<'a>) {
    for key in ["function", "symbol"] {
        if frame.get(key).and_then(Json::as_str) == Some("?") {
            frame.remove(key);
        }
    }
    let mut has_lines = false;
    for key in ["pre_context", "post_context"] {
        let Some(Json::Array(lines)) = frame.get_mut(key) else { continue };
        has_lines = true;
        lines.iter_mut().filter(|line| line.is_null()).for_each(|line| *line = Json::text(""));
    }
    if has_lines && frame.get("context_line").is_none() {
        frame.insert("context_line", Json::text(""));
    }
    paths(frame, path, notes);
}

/// A file name alone is where the file is; from that comes the name again, of a URL its path.
fn paths<'a>(frame: &mut Object<'a>, path: Path<'_>, notes: &mut Notes<'a>) {
    let is_given = |frame: &Object<'a>, key| frame.get(key).is_some_and(|value| !is_empty(value));
    if !is_given(frame, "abs_path") {
        notes.forget_below(path.key("abs_path"));
        notes.move_member(path, "filename", "abs_path");
        match frame.remove("filename") {
            Some(filename) => frame.insert("abs_path", filename),
            None => drop(frame.remove("abs_path")),
        }
    }
    if is_given(frame, "filename") {
        return;
    }
    if let Some(Json::String(abs_path)) = frame.get("abs_path") {
        let filename = url_path(abs_path).map_or_else(|| Json::String(abs_path.clone()), Json::text);
        notes.forget_below(path.key("filename"));
        frame.insert("filename", filename);
    }
}

/// The path of a URL of a script, where there is more of it than `/`.
fn url_path(text: &str) -> Option<String> {
    if !["http:", "https:", "file:", "applewebdata:"].iter().any(|scheme| text.starts_with(scheme)) {
        return None;
    }
    url::Url::parse(text).ok().map(|url| url.path().to_owned()).filter(|path| path != "/" && path.starts_with('/'))
}

/// A trace that is too long loses frames near its outer end.
fn cut<'a>(frames: &mut Vec<Json<'a>>, path: Path<'_>, notes: &mut Notes<'a>) {
    let count = frames.len();
    if count <= FRAME_COUNT_MAX {
        return;
    }
    let gone = OUTERMOST_COUNT..count - (FRAME_COUNT_MAX - OUTERMOST_COUNT);
    notes.move_elements(path, |index| if gone.contains(&index) { None } else { Some(if index < gone.start { index } else { index - gone.len() }) });
    notes.length(path, count);
    frames.drain(gone);
}

/// Variables and lines stay with the application's frames first, then with the others, of each the outermost and innermost.
fn slim<'a>(frames: &mut [Json<'a>], path: Path<'_>, notes: &mut Notes<'a>) {
    let count = frames.len();
    if count <= DETAILED_COUNT_MAX {
        return;
    }
    let is_own = |index: &usize| frames.get(*index).and_then(|frame| frame.get("in_app")).and_then(Json::as_bool) == Some(true);
    let (own, others): (Vec<usize>, Vec<usize>) = (0..count).partition(is_own);
    let slimmed_others = middle(&others, DETAILED_COUNT_MAX.saturating_sub(own.len()) / 2);
    let left = (count - DETAILED_COUNT_MAX).saturating_sub(slimmed_others.len());
    let slimmed_own = middle(&own, own.len().saturating_sub(left) / 2);
    for index in slimmed_others.iter().chain(slimmed_own).filter(|index| **index + 1 < count) {
        if let Some(Json::Object(frame)) = frames.get_mut(*index) {
            let path = path.index(*index);
            for key in DETAILS {
                frame.remove(key);
                notes.forget_below(path.key(key));
            }
        }
    }
}

/// What is left of a list without so many elements at each end.
fn middle(list: &[usize], each_end: usize) -> &[usize] {
    list.get(each_end..list.len().saturating_sub(each_end)).unwrap_or_default()
}
