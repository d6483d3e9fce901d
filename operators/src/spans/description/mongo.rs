//! Commands of MongoDB: leaves are `"?"`, and what is deep is one (docs.sentry.io, "Queries").

use weir_protocol::json::{Json, Object};

/// What lies deeper is a leaf.
const DEPTH_MAX: usize = 5;
const LEAF: &str = "?";

/// The command; `None` where the text is no JSON object. The collection's name is no value.
pub(super) fn normalised(text: &str, collection: Option<&str>) -> Option<String> {
    let Ok(Json::Object(command)) = Json::parse(text.as_bytes()) else { return None };
    Some(Json::Object(object(command, collection, DEPTH_MAX)).to_string())
}

fn object<'a>(object: Object<'a>, collection: Option<&str>, depth: usize) -> Object<'a> {
    object.into_iter().map(|(key, inner)| (key, value(inner, collection, depth - 1))).collect()
}

fn value<'a>(value: Json<'a>, collection: Option<&str>, depth: usize) -> Json<'a> {
    match value {
        Json::String(text) if Some(text.as_ref()) == collection => Json::String(text),
        Json::Object(inner) if depth > 0 => Json::Object(object(inner, collection, depth)),
        Json::Array(items) if depth > 0 => {
            // How many values a list has differs from call to call.
            let mut items: Vec<_> = items.into_iter().map(|item| self::value(item, collection, depth - 1)).collect();
            items.dedup();
            Json::Array(items)
        }
        _ => Json::text(LEAF),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands() {
        let check = |text: &str, want: Option<&str>| assert_eq!(normalised(text, Some("users")).as_deref(), want, "{text}");
        check(r#"{"find":"users","filter":{"age":{"$gte":18}}}"#, Some(r#"{"find":"users","filter":{"age":{"$gte":"?"}}}"#));
        check(r#"{"a":{"$in":[1,2,3]}}"#, Some(r#"{"a":{"$in":["?"]}}"#));
        check(r#"{"$or":[{"a":1},{"b":2},{"b":3}]}"#, Some(r#"{"$or":[{"a":"?"},{"b":"?"}]}"#));
        check(r#"{"a":{"b":{"c":{"d":{"e":{"f":1}}}}}}"#, Some(r#"{"a":{"b":{"c":{"d":{"e":"?"}}}}}"#));
        check("[1]", None);
        check("users.find", None);
    }
}
