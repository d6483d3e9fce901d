//! How large a value is, as limits count it: its JSON without what separates members and without their keys.

use weir_protocol::json::Json;

/// What a value counts beside itself.
pub const EACH_BYTES: usize = 1;

/// The size of a value with everything below it.
pub fn size(value: &Json<'_>) -> usize {
    match value {
        Json::Array(items) => flat_size(value) + items.iter().map(|item| size(item) + EACH_BYTES).sum::<usize>(),
        Json::Object(object) => flat_size(value) + object.iter().map(|(_, item)| size(item) + EACH_BYTES).sum::<usize>(),
        _ => flat_size(value),
    }
}

/// The size of a value without what is below it.
pub fn flat_size(value: &Json<'_>) -> usize {
    match value {
        Json::Null => 0,
        Json::Bool(true) => 4,
        Json::Bool(false) => 5,
        Json::Int(number) => digits(number.unsigned_abs()) + usize::from(*number < 0),
        Json::UInt(number) => digits(*number),
        // Without an exponent, however large it is.
        Json::Float(number) => number.to_string().len(),
        Json::String(text) => text.len() + 2,
        Json::Array(_) | Json::Object(_) => 2,
    }
}

/// The size of a value as JSON, with keys and what separates members.
pub fn json_size(value: &Json<'_>) -> usize {
    let separators = |count: usize| count.saturating_sub(1);
    match value {
        Json::Null => 4,
        Json::Array(items) => 2 + separators(items.len()) + items.iter().map(json_size).sum::<usize>(),
        Json::Object(object) => 2 + separators(object.len()) + object.iter().map(|(key, item)| key.len() + 3 + json_size(item)).sum::<usize>(),
        _ => flat_size(value),
    }
}

fn digits(number: u64) -> usize {
    number.checked_ilog10().map_or(1, |log| log as usize + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes() {
        let check = |text: &str, want: usize| assert_eq!(size(&Json::parse(text.as_bytes()).unwrap()), want, "{text}");
        check("null", 0);
        check("false", 5);
        check("-120", 4);
        check("0", 1);
        check("1.5", 3);
        check("\"é\"", 4);
        check("[1,2]", 6);
        check(r#"{"key":"v"}"#, 6);
    }
}
