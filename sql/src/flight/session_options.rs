//! The options of a session and its end, as Flight's actions ask for them.
//!
//! The server keeps no sessions. There is one catalog with one schema; to choose them changes nothing and is answered so.
//! The messages are Flight's; the arrow-flight crate does not have them.

use std::collections::BTreeMap;

use crate::tables::{CATALOG, SCHEMA};

/// The type of the action that sets options.
pub(super) const SET: &str = "SetSessionOptions";
/// The type of the action that asks for them.
pub(super) const GET: &str = "GetSessionOptions";
/// The type of the action that ends a session.
pub(super) const CLOSE: &str = "CloseSession";

#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct SetSessionOptionsRequest {
    #[prost(btree_map = "string, message", tag = "1")]
    pub(super) session_options: BTreeMap<String, SessionOptionValue>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct SessionOptionValue {
    #[prost(oneof = "OptionValue", tags = "1, 2, 3, 4, 5")]
    pub(super) option_value: Option<OptionValue>,
}

#[derive(Clone, PartialEq, prost::Oneof)]
pub(super) enum OptionValue {
    #[prost(string, tag = "1")]
    Text(String),
    #[prost(bool, tag = "2")]
    Boolean(bool),
    #[prost(sfixed64, tag = "3")]
    Whole(i64),
    #[prost(double, tag = "4")]
    Number(f64),
    #[prost(message, tag = "5")]
    Texts(StringListValue),
}

#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct StringListValue {
    #[prost(string, repeated, tag = "1")]
    values: Vec<String>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct SetSessionOptionsResult {
    #[prost(btree_map = "string, message", tag = "1")]
    pub(super) errors: BTreeMap<String, OptionError>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct OptionError {
    #[prost(int32, tag = "1")]
    pub(super) value: i32,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct GetSessionOptionsResult {
    #[prost(btree_map = "string, message", tag = "1")]
    pub(super) session_options: BTreeMap<String, SessionOptionValue>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct CloseSessionResult {
    #[prost(int32, tag = "1")]
    pub(super) status: i32,
}

/// There is no such option.
pub(super) const INVALID_NAME: i32 = 1;
/// It cannot have this value.
pub(super) const INVALID_VALUE: i32 = 2;
/// The session is closed.
const CLOSED: i32 = 1;

/// The options and the one value that each can have.
const OPTIONS: [(&str, &str); 2] = [("catalog", CATALOG), ("schema", SCHEMA)];

pub(super) fn set(request: SetSessionOptionsRequest) -> SetSessionOptionsResult {
    let error = |name: &str, value: &SessionOptionValue| match OPTIONS.iter().find(|(known, _)| *known == name) {
        None => Some(INVALID_NAME),
        Some((_, only)) => match &value.option_value {
            // No value takes a choice back.
            None => None,
            Some(OptionValue::Text(text)) if text == only => None,
            Some(_) => Some(INVALID_VALUE),
        },
    };
    let errors = request.session_options.into_iter().filter_map(|(name, value)| error(&name, &value).map(|value| (name, OptionError { value })));
    SetSessionOptionsResult { errors: errors.collect() }
}

pub(super) fn get() -> GetSessionOptionsResult {
    let option = |(name, value): (&str, &str)| (name.to_owned(), SessionOptionValue { option_value: Some(OptionValue::Text(value.to_owned())) });
    GetSessionOptionsResult { session_options: OPTIONS.map(option).into() }
}

pub(super) fn close() -> CloseSessionResult {
    CloseSessionResult { status: CLOSED }
}

#[cfg(test)]
mod tests {
    use prost::Message;

    use super::*;

    #[test]
    fn only_what_is_there_can_be_chosen() {
        let text = |text: &str| SessionOptionValue { option_value: Some(OptionValue::Text(text.to_owned())) };
        let given = [("catalog", text("weir")), ("schema", text("private")), ("timezone", text("UTC"))];
        let request = SetSessionOptionsRequest { session_options: given.map(|(name, value)| (name.to_owned(), value)).into() };
        let request = SetSessionOptionsRequest::decode(request.encode_to_vec().as_slice()).unwrap();
        let errors: Vec<(String, i32)> = set(request).errors.into_iter().map(|(name, error)| (name, error.value)).collect();
        assert_eq!(errors, [("schema".to_owned(), INVALID_VALUE), ("timezone".to_owned(), INVALID_NAME)]);
        let back = SetSessionOptionsRequest { session_options: get().session_options };
        assert_eq!(set(back).errors.len(), 0);
    }
}
