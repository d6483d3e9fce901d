//! The legacy `store` door: one event as JSON, or as base64 of it, becomes an envelope of one item.

use std::borrow::Cow;

use base64::Engine;
use base64::alphabet;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use bytes::{BufMut, Bytes, BytesMut};

use weir_protocol::encoding::{DecodeError, Encoding};
use weir_protocol::ids::EventId;

use crate::payload::Shallow;

/// Why a body is no event.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum StoreError {
    /// Nothing at all.
    #[error("the body is empty")]
    Empty,
    /// More than the bound after base64 and decompression.
    #[error("the event has more than {0} bytes")]
    TooLarge(usize),
    /// Neither a JSON object nor base64 of one.
    #[error("expected a JSON object, or base64 of one or of a zlib stream of one: {0}")]
    NotJson(String),
}

/// Old clients leave padding out.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &alphabet::STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent).with_decode_allow_trailing_bits(true),
);

/// The JSON text of a body: itself, or what comes out of base64 and zlib.
pub(crate) fn decode(body: &Bytes, bytes_max: usize) -> Result<Bytes, StoreError> {
    let not_json = |reason: &str| StoreError::NotJson(reason.to_owned());
    if body.iter().all(u8::is_ascii_whitespace) {
        return Err(StoreError::Empty);
    }
    if is_object(body) {
        return Ok(body.clone());
    }
    // A plus sign of a query string reads as a space.
    let digits: Vec<u8> = body.trim_ascii().iter().filter(|c| !matches!(c, b'\r' | b'\n' | b'\t')).map(|&c| if c == b' ' { b'+' } else { c }).collect();
    let decoded = Bytes::from(BASE64.decode(digits).map_err(|_| not_json("it is neither"))?);
    if is_object(&decoded) {
        return Ok(decoded);
    }
    match Encoding::Deflate.decode(&decoded, bytes_max) {
        Ok(json) => Ok(json),
        Err(DecodeError::TooLarge(bytes_max)) => Err(StoreError::TooLarge(bytes_max)),
        Err(DecodeError::Malformed(_)) => Err(not_json("the base64 holds neither")),
    }
}

fn is_object(bytes: &[u8]) -> bool {
    bytes.trim_ascii_start().first() == Some(&b'{')
}

/// Whether a client is known to write the tokens that [`neutralise`] replaces.
pub(crate) fn writes_bare_tokens(client: Option<&str>) -> bool {
    client.is_some_and(|client| client.starts_with("raven-python/") || client.starts_with("sentry-python/"))
}

/// Replaces `NaN`, `Infinity` and `-Infinity` outside strings with `null`: Python writes them, JSON has none.
pub(crate) fn neutralise(json: &[u8]) -> Cow<'_, [u8]> {
    const TOKENS: [&[u8]; 3] = [b"NaN", b"Infinity", b"-Infinity"];
    let mut out: Vec<u8> = Vec::new();
    let (mut at, mut copied, mut in_string) = (0, 0, false);
    while let Some(&byte) = json.get(at) {
        let token = if in_string { None } else { TOKENS.iter().find(|token| json[at..].starts_with(token)) };
        match (byte, token) {
            (_, Some(token)) => {
                out.extend_from_slice(&json[copied..at]);
                out.extend_from_slice(b"null");
                at += token.len();
                copied = at;
                continue;
            }
            (b'"', None) => in_string = !in_string,
            // The escaped byte, a quote perhaps, is skipped.
            (b'\\', None) if in_string => at += 1,
            _ => {}
        }
        at += 1;
    }
    if copied == 0 {
        return Cow::Borrowed(json);
    }
    out.extend_from_slice(&json[copied..]);
    Cow::Owned(out)
}

/// Puts an event into an envelope of its own. Its own id counts; `fresh_id` is used where it has none.
pub(crate) fn envelope(json: &[u8], fresh_id: EventId) -> Result<Bytes, StoreError> {
    let shallow = Shallow::read(json).map_err(|e| StoreError::NotJson(e.to_string()))?;
    let event_id = shallow.event_id.unwrap_or(fresh_id);
    let item_type = if shallow.is_transaction { "transaction" } else { "event" };
    let head = format!("{{\"event_id\":\"{event_id}\"}}\n{{\"type\":\"{item_type}\",\"length\":{}}}\n", json.len());
    let mut out = BytesMut::with_capacity(head.len() + json.len() + 1);
    out.put_slice(head.as_bytes());
    out.put_slice(json);
    out.put_u8(b'\n');
    Ok(out.freeze())
}

/// A transparent GIF of one pixel: what a page that sends by loading an image gets.
pub(crate) const PIXEL: &[u8] = &[
    b'G', b'I', b'F', b'8', b'9', b'a', // signature
    1, 0, 1, 0, 0x80, 0, 0, // one by one pixel, a table of two colours
    0, 0, 0, 0xff, 0xff, 0xff, // black, white
    0x21, 0xf9, 4, 1, 0, 0, 0, 0, // the first colour is transparent
    0x2c, 0, 0, 0, 0, 1, 0, 1, 0, 0, // an image that fills the screen
    2, 2, 0x44, 1, 0,    // its pixel
    0x3b, // the end
];

#[cfg(test)]
mod tests {
    use std::io::Write;

    use weir_protocol::envelope::Envelope;

    use super::*;

    fn base64(bytes: &[u8]) -> String {
        base64::engine::general_purpose::STANDARD.encode(bytes)
    }

    fn zlib(bytes: &[u8]) -> Vec<u8> {
        let mut writer = flate2::write::ZlibEncoder::new(Vec::new(), flate2::Compression::default());
        writer.write_all(bytes).unwrap();
        writer.finish().unwrap()
    }

    #[test]
    fn forms_of_a_body() {
        const MAX: usize = 1000;
        let check = |body: &str, want: Result<&str, StoreError>| {
            let got = decode(&Bytes::copy_from_slice(body.as_bytes()), MAX);
            assert_eq!(got, want.map(|text| Bytes::copy_from_slice(text.as_bytes())), "{body}");
        };
        let not_json = |reason: &str| Err(StoreError::NotJson(reason.to_owned()));
        let json = r#"{"message":"a?>~"}"#;
        let packed = base64(&zlib(json.as_bytes()));
        check(json, Ok(json));
        check(" \n{}", Ok(" \n{}"));
        check(&base64(json.as_bytes()), Ok(json));
        check(base64(json.as_bytes()).trim_end_matches('='), Ok(json));
        check(&packed, Ok(json));
        check(&format!("{}\r\n{}\n", &packed[..8], &packed[8..]), Ok(json));
        check(&packed.replace('+', " "), Ok(json));
        check("", Err(StoreError::Empty));
        check(" \n", Err(StoreError::Empty));
        check("[]", not_json("it is neither"));
        check("AAAA", not_json("the base64 holds neither"));
        check(&packed[..packed.len() / 2], not_json("the base64 holds neither"));
        check(&base64(&zlib(&[b' '; MAX + 1])), Err(StoreError::TooLarge(MAX)));
    }

    #[test]
    fn tokens_that_are_no_json() {
        let check = |text: &str, want: &str| assert_eq!(String::from_utf8_lossy(&neutralise(text.as_bytes())), want, "{text}");
        check(r#"{"a":NaN}"#, r#"{"a":null}"#);
        check(r#"[NaN,Infinity,-Infinity,1]"#, r#"[null,null,null,1]"#);
        check(r#"{"NaN":"NaN \" NaN","b":NaN}"#, r#"{"NaN":"NaN \" NaN","b":null}"#);
        check(r#"{"a":"\\","b":NaN}"#, r#"{"a":"\\","b":null}"#);
        check(r#"{"a":"NaN"}"#, r#"{"a":"NaN"}"#);
        check(r#"{"a":"unended NaN\"#, r#"{"a":"unended NaN\"#);
        check("", "");
    }

    #[test]
    fn clients_that_write_them() {
        let check = |client: Option<&str>, want: bool| assert_eq!(writes_bare_tokens(client), want, "{client:?}");
        check(Some("raven-python/6.0"), true);
        check(Some("sentry-python/0.1"), true);
        check(Some("sentry.python/2.0"), false);
        check(None, false);
    }

    #[test]
    fn an_event_becomes_an_envelope() {
        let fresh = EventId([7; 16]);
        let check = |json: &str, want: Option<(&str, &str)>| {
            let framed = envelope(json.as_bytes(), fresh).ok().map(|bytes| Envelope::parse(&bytes).unwrap());
            let got = framed.as_ref().map(|e| (e.header.event_id.map(|id| id.to_string()).unwrap_or_default(), e.items[0].header.item_type.name()));
            assert_eq!(got.as_ref().map(|(id, name)| (id.as_str(), *name)), want, "{json}");
            assert!(framed.is_none_or(|e| e.items.len() == 1 && e.items[0].payload == json), "{json}");
        };
        check("{}", Some(("07070707070707070707070707070707", "event")));
        check("{\n}\n", Some(("07070707070707070707070707070707", "event")));
        check(r#"{"event_id":"9ec79c33ec9942ab8353589fcb2e04dc","type":"transaction"}"#, Some(("9ec79c33ec9942ab8353589fcb2e04dc", "transaction")));
        check(r#"{"event_id":"bad"}"#, Some(("07070707070707070707070707070707", "event")));
        check("{not json", None);
    }
}
