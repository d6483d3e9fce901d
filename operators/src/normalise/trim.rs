//! Limits: texts cut to a length, bags of arbitrary values cut to a depth and a size.

use weir_protocol::json::{Json, Object};

const ELLIPSIS: &str = "...";

/// Levels of a bag (extra, contexts, data, vars) that stay structure; what lies deeper becomes its JSON text.
pub const BAG_DEPTH_MAX: usize = 7;

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

/// Cuts a string value to its limit; other values stay.
pub fn shorten(value: &mut Json<'_>, chars_max: usize) {
    if let Some(short) = value.as_str().and_then(|text| shortened(text, chars_max)) {
        *value = Json::text(short);
    }
}

/// Cuts a bag to `bytes_max` of text, about: strings are cut, then whatever follows is left out. Returns what was spent.
pub fn bound(value: &mut Json<'_>, bytes_max: usize) -> usize {
    let mut left = bytes_max;
    bound_at(value, BAG_DEPTH_MAX, &mut left);
    bytes_max - left
}

/// What a key, a number or a bracket counts beside its text.
const OVERHEAD_BYTES: usize = 4;

/// Whether anything of the value remains.
fn bound_at(value: &mut Json<'_>, depth: usize, left: &mut usize) -> bool {
    if depth == 0 && matches!(value, Json::Array(_) | Json::Object(_)) {
        *value = Json::text(value.to_string());
    }
    match value {
        Json::Null => true,
        Json::Bool(_) | Json::Int(_) | Json::UInt(_) | Json::Float(_) => spend(left, OVERHEAD_BYTES),
        Json::String(text) if text.len() <= *left => spend(left, text.len()),
        Json::String(text) => match cut_to_bytes(text, *left) {
            Some(short) => {
                *value = Json::text(short);
                *left = 0;
                true
            }
            None => {
                *left = 0;
                false
            }
        },
        Json::Array(items) => {
            items.retain_mut(|item| spend(left, OVERHEAD_BYTES) && bound_at(item, depth - 1, left));
            true
        }
        Json::Object(object) => {
            bound_members(object, depth, left);
            true
        }
    }
}

fn bound_members(object: &mut Object<'_>, depth: usize, left: &mut usize) {
    object.retain(|key, item| spend(left, OVERHEAD_BYTES + key.len()) && bound_at(item, depth - 1, left));
}

/// Takes the bytes off, or all that is left where they do not fit: what comes after must not slip in where this did not.
fn spend(left: &mut usize, bytes: usize) -> bool {
    let fits = bytes <= *left;
    *left = if fits { *left - bytes } else { 0 };
    fits
}

fn cut_to_bytes(text: &str, bytes: usize) -> Option<String> {
    let end = bytes.checked_sub(ELLIPSIS.len())?;
    let end = (0..=end).rev().find(|&at| text.is_char_boundary(at))?;
    Some(format!("{}{ELLIPSIS}", &text[..end]))
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
    fn bags_are_cut_by_depth_and_size_and_once_is_enough() {
        let check = |text: &str, max: usize, want: &str| {
            let mut bag = Json::parse(text.as_bytes()).unwrap();
            bound(&mut bag, max);
            assert_eq!(bag.to_string(), want, "{text}");
            bound(&mut bag, max);
            assert_eq!(bag.to_string(), want, "{text}, again");
        };
        check(r#"{"a":"0123456789","b":1}"#, 100, r#"{"a":"0123456789","b":1}"#);
        check(r#"{"a":"0123456789","b":1}"#, 12, r#"{"a":"0123..."}"#);
        check(r#"{"a":"0123456789","b":1}"#, 6, r#"{}"#);
        check(r#"[1,2,3]"#, 17, r#"[1,2]"#);
        check(r#"[[[[[[[[1]]]]]]]]"#, 100, r#"[[[[[[["[1]"]]]]]]]"#);
        check(r#"{"é":"ééééé"}"#, 12, r#"{"é":"é..."}"#);
    }
}
