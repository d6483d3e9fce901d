//! Stack traces and their frames (`spec/ingest.md` section 3.2).

use weir_protocol::json::{Json, Object};
use weir_protocol::limits::FRAME_COUNT_MAX;

use super::note::Notes;
use super::trim::{bound, shorten};

/// Local variables are kept on this many frames at each end.
const FRAMES_WITH_VARS_EACH_END: usize = 25;
const VARS_BYTES_MAX: usize = 2 << 10;
const FUNCTION_CHARS_MAX: usize = 512;
const PATH_CHARS_MAX: usize = 2048;
const CONTEXT_LINE_CHARS_MAX: usize = 8192;

/// Brings the `stacktrace` of an exception, a thread or the event into form; without a frame it goes.
pub fn normalise<'a>(holder: &mut Object<'a>, path: &[&str], notes: &mut Notes<'a>) {
    let mut stacktrace = match holder.remove("stacktrace") {
        None | Some(Json::Null) => return,
        Some(Json::Object(stacktrace)) => stacktrace,
        Some(other) => return notes.invalid(&at(path, "stacktrace"), other),
    };
    let mut frames = match stacktrace.remove("frames") {
        None | Some(Json::Null) => return,
        Some(Json::Array(frames)) => frames,
        Some(other) => return notes.invalid(&at(&at(path, "stacktrace"), "frames"), other),
    };
    let frame_path: Vec<&str> = at(path, "stacktrace").into_iter().chain(["frames"]).collect();
    frames.retain(|frame| match frame {
        Json::Object(frame) => !frame.is_empty(),
        Json::Null => false,
        other => {
            notes.invalid(&frame_path, other.clone());
            false
        }
    });
    if frames.is_empty() {
        return;
    }
    if frames.len() > FRAME_COUNT_MAX {
        notes.add("value_too_long", &frame_path, None, vec![("len", Json::Int(frames.len() as i64))]);
        frames.drain(FRAME_COUNT_MAX / 2..frames.len() - FRAME_COUNT_MAX / 2);
    }
    let count = frames.len();
    for (index, frame) in frames.iter_mut().enumerate() {
        let Some(frame) = frame.as_object_mut() else { continue };
        if (FRAMES_WITH_VARS_EACH_END..count.saturating_sub(FRAMES_WITH_VARS_EACH_END)).contains(&index) {
            frame.remove("vars");
        }
        normalise_frame(frame, &at(&frame_path, &index.to_string()), notes);
    }
    frames.retain(|frame| frame.as_object().is_some_and(|frame| !frame.is_empty()));
    if frames.is_empty() {
        return;
    }
    stacktrace.insert("frames", Json::Array(frames));
    holder.insert("stacktrace", Json::Object(stacktrace));
}

fn at<'p>(path: &[&'p str], key: &'p str) -> Vec<&'p str> {
    path.iter().copied().chain([key]).collect()
}

fn normalise_frame<'a>(frame: &mut Object<'a>, path: &[&str], notes: &mut Notes<'a>) {
    for (key, chars_max) in [
        ("function", FUNCTION_CHARS_MAX),
        ("raw_function", FUNCTION_CHARS_MAX),
        ("symbol", FUNCTION_CHARS_MAX),
        ("module", PATH_CHARS_MAX),
        ("package", PATH_CHARS_MAX),
        ("filename", PATH_CHARS_MAX),
        ("abs_path", PATH_CHARS_MAX),
        ("platform", PATH_CHARS_MAX),
        ("context_line", CONTEXT_LINE_CHARS_MAX),
    ] {
        text_field(frame, key, chars_max, path, notes);
    }
    if frame.get("function").and_then(Json::as_str) == Some("?") {
        frame.remove("function");
    }
    for key in ["lineno", "colno"] {
        if frame.get(key).is_some_and(|n| n.as_u64().is_none()) {
            notes.invalid(&at(path, key), frame.remove(key).unwrap_or_default());
        }
    }
    if frame.get("in_app").is_some_and(|v| v.as_bool().is_none()) {
        notes.invalid(&at(path, "in_app"), frame.remove("in_app").unwrap_or_default());
    }
    for key in ["pre_context", "post_context"] {
        lines(frame, key, path, notes);
    }
    for key in ["vars", "data"] {
        bag(frame, key, path, notes);
    }
    paths(frame);
}

fn text_field<'a>(frame: &mut Object<'a>, key: &str, chars_max: usize, path: &[&str], notes: &mut Notes<'a>) {
    let Some(value) = frame.get_mut(key) else { return };
    match value {
        Json::String(text) if text.is_empty() && key != "context_line" => *value = Json::Null,
        Json::String(_) => shorten(value, chars_max),
        Json::Null => {}
        _ => notes.invalid(&at(path, key), value.take()),
    }
    if value.is_null() {
        frame.remove(key);
    }
}

/// Lines of source around a frame; a missing line is an empty one.
fn lines<'a>(frame: &mut Object<'a>, key: &str, path: &[&str], notes: &mut Notes<'a>) {
    match frame.get_mut(key) {
        None => return,
        Some(Json::Array(lines)) => {
            for line in lines {
                if line.as_str().is_none() {
                    *line = Json::text("");
                }
                shorten(line, CONTEXT_LINE_CHARS_MAX);
            }
            return;
        }
        Some(Json::Null) => {}
        Some(other) => notes.invalid(&at(path, key), other.take()),
    }
    frame.remove(key);
}

fn bag<'a>(frame: &mut Object<'a>, key: &str, path: &[&str], notes: &mut Notes<'a>) {
    match frame.get_mut(key) {
        None => return,
        Some(value @ (Json::Object(_) | Json::Array(_))) => {
            bound(value, VARS_BYTES_MAX);
            return;
        }
        Some(Json::Null) => {}
        Some(other) => notes.invalid(&at(path, key), other.take()),
    }
    frame.remove(key);
}

/// `abs_path` is filled from `filename`, and `filename` from it; a file name that is a URL becomes the URL's path.
fn paths(frame: &mut Object<'_>) {
    let abs_path = frame.get("abs_path").or_else(|| frame.get("filename")).and_then(Json::as_str).map(str::to_owned);
    let Some(abs_path) = abs_path else { return };
    let given = frame.get("filename").and_then(Json::as_str).unwrap_or(&abs_path);
    let filename = url_path(given).unwrap_or(given).to_owned();
    frame.insert("filename", Json::text(filename));
    frame.insert("abs_path", Json::text(abs_path));
}

/// The path of a URL of a script, where there is more of it than `/`.
fn url_path(text: &str) -> Option<&str> {
    let is_url = ["http:", "https:", "file:", "applewebdata:"].iter().any(|scheme| text.starts_with(scheme));
    let (_, rest) = text.split_once("://").filter(|_| is_url)?;
    let path = &rest[rest.find('/')?..];
    let path = &path[..path.find(['?', '#']).unwrap_or(path.len())];
    (path.len() > 1).then_some(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn normalised(frames: &str) -> Json<'static> {
        let text = format!(r#"{{"stacktrace":{{"frames":{frames}}}}}"#);
        let mut holder = Json::parse(text.as_bytes()).unwrap();
        normalise(holder.as_object_mut().unwrap(), &[], &mut Notes::default());
        holder.into_owned()
    }

    #[test]
    fn frames() {
        let check = |frame: &str, want: &str| {
            let holder = normalised(&format!("[{frame}]"));
            assert_eq!(holder.at(&["stacktrace", "frames"]).map(|f| f.as_array().unwrap()[0].to_string()).unwrap_or_default(), want, "{frame}");
        };
        check(r#"{"filename":"http://h/assets/app.js?x=1"}"#, r#"{"filename":"/assets/app.js","abs_path":"http://h/assets/app.js?x=1"}"#);
        check(r#"{"filename":"http://h/"}"#, r#"{"filename":"http://h/","abs_path":"http://h/"}"#);
        check(r#"{"filename":"a.py"}"#, r#"{"filename":"a.py","abs_path":"a.py"}"#);
        check(r#"{"abs_path":"/x/a.py"}"#, r#"{"abs_path":"/x/a.py","filename":"/x/a.py"}"#);
        check(r#"{"filename":"a.py","abs_path":"/x/a.py"}"#, r#"{"filename":"a.py","abs_path":"/x/a.py"}"#);
        check(r#"{"function":"?","module":"","lineno":"7","colno":-1,"in_app":"no","package":3,"vars":7}"#, "");
        check(r#"{"pre_context":["a",null],"context_line":""}"#, r#"{"pre_context":["a",""],"context_line":""}"#);
        check("null", "");
        check("7", "");
        check("{}", "");
    }

    #[test]
    fn long_traces_lose_their_middle() {
        let list: Vec<String> = (1..=600).map(|line| format!(r#"{{"lineno":{line},"vars":{{"a":1}}}}"#)).collect();
        let holder = normalised(&format!("[{}]", list.join(",")));
        let frames = holder.at(&["stacktrace", "frames"]).unwrap().as_array().unwrap();
        let line = |at: usize| frames[at].get("lineno").unwrap().as_u64().unwrap();
        assert_eq!((frames.len(), line(0), line(124), line(125), line(249)), (250, 1, 125, 476, 600));
        let with_vars: Vec<usize> = (0..250).filter(|&at| frames[at].get("vars").is_some()).collect();
        assert_eq!(with_vars, (0..25).chain(225..250).collect::<Vec<_>>());
    }
}
