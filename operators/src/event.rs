//! Reading a normalised event: the parts that grouping, titles and rows all look at.

use weir_protocol::json::Json;

/// The elements that are not null of an interface with `values` (`exception`, `threads`, `breadcrumbs`).
pub fn values<'e, 'a>(event: &'e Json<'a>, interface: &str) -> Vec<&'e Json<'a>> {
    elements(event.at(&[interface, "values"]))
}

/// The exceptions, innermost first, as SDKs send them.
pub fn exceptions<'e, 'a>(event: &'e Json<'a>) -> Vec<&'e Json<'a>> {
    values(event, "exception")
}

/// The frames that are not null of a holder of a `stacktrace` (an exception, a thread, the event itself), oldest first.
pub fn frames<'e, 'a>(holder: &'e Json<'a>) -> Vec<&'e Json<'a>> {
    elements(holder.at(&["stacktrace", "frames"]))
}

fn elements<'e, 'a>(list: Option<&'e Json<'a>>) -> Vec<&'e Json<'a>> {
    list.and_then(Json::as_array).unwrap_or_default().iter().filter(|item| !item.is_null()).collect()
}

/// The frame of a holder's stack that it crashed in: the last of the application's own code, else the last.
pub fn crash_frame<'e, 'a>(holder: &'e Json<'a>) -> Option<&'e Json<'a>> {
    let frames = frames(holder);
    let own = frames.iter().rev().copied().find(|frame| frame.get("in_app").and_then(Json::as_bool) == Some(true));
    own.or_else(|| frames.last().copied())
}

/// A text that is not empty.
pub fn text<'e>(value: &'e Json<'_>, key: &str) -> Option<&'e str> {
    value.get(key)?.as_str().filter(|text| !text.is_empty())
}

/// The message as a person reads it: parameters filled in where the SDK sent them.
pub fn message<'e>(event: &'e Json<'_>) -> Option<&'e str> {
    let entry = event.get("logentry")?;
    text(entry, "formatted").or_else(|| text(entry, "message"))
}

/// Whether an exception was made by the SDK only to carry a stack (`mechanism.synthetic`) and says nothing in its type.
///
/// Node and the browser attach one to every captured message. Its stack shows where `captureMessage` was called from, which
/// says nothing of what happened, so title and group come from the text (`spec/ui-and-peers.md`, point 3).
pub fn is_attached_stack(exception: &Json<'_>) -> bool {
    text(exception, "type").is_none() && exception.at(&["mechanism", "synthetic"]).and_then(Json::as_bool) == Some(true)
}

/// The thread that an event without an exception is about: the only crashed one, else the only current one, else the only one
/// (`spec/grouping.md` section 1.9).
pub fn relevant_thread<'e, 'a>(event: &'e Json<'a>) -> Option<&'e Json<'a>> {
    let threads = values(event, "threads");
    let only = |key: &str| -> Option<Option<&'e Json<'a>>> {
        let marked: Vec<_> = threads.iter().copied().filter(|t| t.get(key).and_then(Json::as_bool) == Some(true)).collect();
        match marked.as_slice() {
            [] => None,
            [one] => Some(Some(*one)),
            _ => Some(None),
        }
    };
    match only("crashed").flatten().or_else(|| only("current").flatten()) {
        Some(thread) => Some(thread),
        None if threads.len() == 1 => threads.first().copied(),
        None => None,
    }
}
