//! The envelope: one header line, then items of a header line and a payload each (`spec/ingest.md` section 2.1).
//!
//! Framing only: no payload is looked into. Payloads are slices of the bytes that were given; nothing is copied.

use bytes::{BufMut, Bytes, BytesMut};
use serde::Deserialize;

use crate::category::Category;
use crate::ids::EventId;
use crate::json::Json;
use crate::limits::{ENVELOPE_ITEM_COUNT_MAX, HEADER_LINE_BYTES_MAX};

/// An envelope, framed.
#[derive(Debug, Clone)]
pub struct Envelope {
    /// The header line.
    pub header: EnvelopeHeader,
    /// The items in their order.
    pub items: Vec<Item>,
}

/// What an envelope's header says. Attributes that are not known stay in `raw`.
#[derive(Debug, Clone, Default)]
pub struct EnvelopeHeader {
    /// The event that the items belong to. The nil id, which `sentry-cli send-event --raw` sends, counts as absent.
    pub event_id: Option<EventId>,
    /// The DSN that the SDK was configured with; it authenticates where nothing else does.
    pub dsn: Option<String>,
    /// When the SDK sent it, as written.
    pub sent_at: Option<String>,
    /// The header line itself.
    pub raw: Bytes,
}

/// An item: its header and its payload.
#[derive(Debug, Clone)]
pub struct Item {
    /// What the header says.
    pub header: ItemHeader,
    /// The header line itself.
    pub raw_header: Bytes,
    /// The payload.
    pub payload: Bytes,
}

/// What an item's header says. Attributes that are not known stay in the item's `raw_header`.
#[derive(Debug, Clone)]
pub struct ItemHeader {
    /// The type.
    pub item_type: ItemType,
    /// The length of the payload in bytes; without it the payload ends with the line.
    pub length: Option<u64>,
    /// How many elements a container holds.
    pub item_count: Option<u64>,
    /// The media type of the payload.
    pub content_type: Option<String>,
    /// The platform of a profile chunk.
    pub platform: Option<String>,
    /// The length of the JSON part of a trace attachment or of a profile chunk with a binary trace.
    pub meta_length: Option<u64>,
}

/// The types of items (`spec/ingest.md` section 2.4).
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[allow(missing_docs, reason = "the names on the wire are the documentation")]
pub enum ItemType {
    Event,
    Transaction,
    Span,
    Log,
    TraceMetric,
    Session,
    Sessions,
    CheckIn,
    Profile,
    ProfileChunk,
    ReplayEvent,
    ReplayRecording,
    ReplayVideo,
    UserReport,
    Feedback,
    ClientReport,
    Attachment,
    Statsd,
    MetricBuckets,
    /// Types that only a server makes out of what came through its other doors; from outside they are refused.
    Internal(String),
    /// Any other type.
    Unknown(String),
}

impl ItemType {
    /// The type of a name on the wire.
    pub fn from_name(name: &str) -> Self {
        match name {
            "event" => Self::Event,
            "transaction" => Self::Transaction,
            "span" => Self::Span,
            "log" => Self::Log,
            "trace_metric" => Self::TraceMetric,
            "session" => Self::Session,
            "sessions" => Self::Sessions,
            "check_in" => Self::CheckIn,
            "profile" => Self::Profile,
            "profile_chunk" | "profile_chunk_ui" => Self::ProfileChunk,
            "replay_event" => Self::ReplayEvent,
            "replay_recording" => Self::ReplayRecording,
            "replay_video" => Self::ReplayVideo,
            "user_report" => Self::UserReport,
            "feedback" => Self::Feedback,
            "client_report" => Self::ClientReport,
            "attachment" => Self::Attachment,
            "statsd" => Self::Statsd,
            "metric_buckets" => Self::MetricBuckets,
            "nel" | "raw_security" | "security" | "form_data" | "unreal_report" | "integration" => Self::Internal(name.to_owned()),
            other => Self::Unknown(other.to_owned()),
        }
    }

    /// The name on the wire.
    pub fn name(&self) -> &str {
        match self {
            Self::Event => "event",
            Self::Transaction => "transaction",
            Self::Span => "span",
            Self::Log => "log",
            Self::TraceMetric => "trace_metric",
            Self::Session => "session",
            Self::Sessions => "sessions",
            Self::CheckIn => "check_in",
            Self::Profile => "profile",
            Self::ProfileChunk => "profile_chunk",
            Self::ReplayEvent => "replay_event",
            Self::ReplayRecording => "replay_recording",
            Self::ReplayVideo => "replay_video",
            Self::UserReport => "user_report",
            Self::Feedback => "feedback",
            Self::ClientReport => "client_report",
            Self::Attachment => "attachment",
            Self::Statsd => "statsd",
            Self::MetricBuckets => "metric_buckets",
            Self::Internal(name) | Self::Unknown(name) => name,
        }
    }

    /// Whether an item of this type belongs to an event, so that an envelope without an id is given one.
    pub fn requires_event(&self) -> bool {
        match self {
            Self::Event | Self::Transaction | Self::Attachment | Self::UserReport | Self::Feedback | Self::ReplayEvent | Self::Profile => true,
            Self::Internal(name) => matches!(name.as_str(), "security" | "raw_security" | "form_data" | "unreal_report"),
            _ => false,
        }
    }
}

/// Why bytes are no envelope.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EnvelopeError {
    /// Nothing at all.
    #[error("missing envelope header: the body is empty")]
    MissingHeader,
    /// The first line is no JSON object, or one of its attributes has a wrong form.
    #[error("invalid envelope header: {0}")]
    InvalidHeader(String),
    /// An item's header line is no JSON object with a type.
    #[error("invalid header of item {index}: {reason}")]
    InvalidItemHeader {
        /// Which item, from 0.
        index: usize,
        /// What is wrong with it.
        reason: String,
    },
    /// The body ends before the payload does.
    #[error("item {index} says length {length}, but the body ends after {available} bytes of it")]
    UnexpectedEof {
        /// Which item, from 0.
        index: usize,
        /// What its header says.
        length: u64,
        /// What there is.
        available: usize,
    },
    /// The byte after a payload of stated length is no line feed.
    #[error("item {index}: expected a line feed after {length} bytes of payload")]
    MissingNewline {
        /// Which item, from 0.
        index: usize,
        /// What its header says.
        length: u64,
    },
    /// More items than an envelope may have.
    #[error("more than {ENVELOPE_ITEM_COUNT_MAX} items")]
    TooManyItems,
}

#[derive(Deserialize)]
struct WireHeader<'a> {
    #[serde(borrow, default)]
    event_id: Json<'a>,
    #[serde(borrow, default)]
    dsn: Json<'a>,
    #[serde(borrow, default)]
    sent_at: Json<'a>,
}

#[derive(Deserialize)]
struct WireItemHeader<'a> {
    #[serde(borrow, default, rename = "type")]
    item_type: Json<'a>,
    #[serde(borrow, default)]
    length: Json<'a>,
    #[serde(borrow, default)]
    item_count: Json<'a>,
    #[serde(borrow, default)]
    content_type: Json<'a>,
    #[serde(borrow, default)]
    platform: Json<'a>,
    #[serde(borrow, default)]
    meta_length: Json<'a>,
}

impl EnvelopeHeader {
    /// Reads a header line.
    pub fn parse(line: Bytes) -> Result<Self, EnvelopeError> {
        let invalid = |reason: String| EnvelopeError::InvalidHeader(reason);
        let wire: WireHeader<'_> = object_line(&line).map_err(invalid)?;
        let event_id = match &wire.event_id {
            Json::Null => None,
            Json::String(text) => Some(text.parse::<EventId>().map_err(|e| invalid(format!("event_id: {e}")))?),
            _ => return Err(invalid("event_id: expected a string".to_owned())),
        };
        let text = |value: &Json<'_>| value.as_str().map(str::to_owned);
        let (dsn, sent_at) = (text(&wire.dsn), text(&wire.sent_at));
        Ok(Self { event_id: event_id.filter(|id| !id.is_nil()), dsn, sent_at, raw: line })
    }
}

impl ItemHeader {
    fn parse(line: &[u8]) -> Result<Self, String> {
        let wire: WireItemHeader<'_> = object_line(line)?;
        let item_type = ItemType::from_name(wire.item_type.as_str().ok_or("expected a type")?);
        let count = |value: &Json<'_>, name: &str| match value {
            Json::Null => Ok(None),
            other => other.as_u64().map(Some).ok_or_else(|| format!("{name}: expected a whole number that is not negative")),
        };
        let text = |value: &Json<'_>| value.as_str().map(str::to_owned);
        Ok(Self {
            item_type,
            length: count(&wire.length, "length")?,
            item_count: count(&wire.item_count, "item_count")?,
            content_type: text(&wire.content_type),
            platform: text(&wire.platform),
            meta_length: count(&wire.meta_length, "meta_length")?,
        })
    }
}

fn object_line<'a, T: Deserialize<'a>>(line: &'a [u8]) -> Result<T, String> {
    if line.len() > HEADER_LINE_BYTES_MAX {
        return Err(format!("longer than {HEADER_LINE_BYTES_MAX} bytes"));
    }
    // serde would also read a list into a struct.
    if line.iter().find(|c| !c.is_ascii_whitespace()) != Some(&b'{') {
        return Err("expected a JSON object".to_owned());
    }
    serde_json::from_slice(line).map_err(|e| e.to_string())
}

impl Envelope {
    /// Frames an envelope. The payloads share the given bytes.
    pub fn parse(bytes: &Bytes) -> Result<Self, EnvelopeError> {
        if bytes.is_empty() {
            return Err(EnvelopeError::MissingHeader);
        }
        let (line, mut at) = line_at(bytes, 0);
        let header = EnvelopeHeader::parse(line)?;
        let mut items = Vec::new();
        while at < bytes.len() {
            // One trailing line feed ends the envelope; it begins no item.
            if at + 1 == bytes.len() && bytes[at] == b'\n' {
                break;
            }
            if items.len() == ENVELOPE_ITEM_COUNT_MAX {
                return Err(EnvelopeError::TooManyItems);
            }
            let index = items.len();
            let (raw_header, start) = line_at(bytes, at);
            let header = ItemHeader::parse(&raw_header).map_err(|reason| EnvelopeError::InvalidItemHeader { index, reason })?;
            let (payload, next) = match header.length {
                Some(length) => payload_of_length(bytes, start, length, index)?,
                None => line_at(bytes, start),
            };
            items.push(Item { header, raw_header, payload });
            at = next;
        }
        Ok(Self { header, items })
    }

    /// Writes an envelope of the same header and the given items.
    pub fn reframe<'a>(header: &EnvelopeHeader, items: impl IntoIterator<Item = &'a Item>) -> Bytes {
        let mut out = BytesMut::new();
        out.put_slice(&header.raw);
        for item in items {
            out.put_u8(b'\n');
            out.put_slice(&item.raw_header);
            out.put_u8(b'\n');
            out.put_slice(&item.payload);
        }
        out.put_u8(b'\n');
        out.freeze()
    }
}

/// The line from `start` up to a line feed or the end, and where the next begins.
fn line_at(bytes: &Bytes, start: usize) -> (Bytes, usize) {
    let start = start.min(bytes.len());
    let length = bytes[start..].iter().position(|&c| c == b'\n').unwrap_or(bytes.len() - start);
    (bytes.slice(start..start + length), start + length + 1)
}

fn payload_of_length(bytes: &Bytes, start: usize, length: u64, index: usize) -> Result<(Bytes, usize), EnvelopeError> {
    let start = start.min(bytes.len());
    let available = bytes.len() - start;
    let wanted = usize::try_from(length).ok().filter(|&n| n <= available).ok_or(EnvelopeError::UnexpectedEof { index, length, available })?;
    let end = start + wanted;
    match bytes.get(end) {
        None | Some(b'\n') => Ok((bytes.slice(start..end), end + 1)),
        Some(_) => Err(EnvelopeError::MissingNewline { index, length }),
    }
}

impl Item {
    /// What the item counts as when it is refused whole: categories with quantities. A container counts its stated
    /// elements, an attachment its bytes (at least 1). Client reports count as nothing (`spec/ingest.md` section 2.4).
    pub fn quantities(&self) -> Vec<(Category, u64)> {
        let bytes = self.payload.len() as u64;
        // No element takes less than a byte: a header may not make up more than there can be.
        let count = self.header.item_count.unwrap_or(1).clamp(1, bytes.max(1));
        match &self.header.item_type {
            ItemType::Event => vec![(Category::Error, 1)],
            ItemType::Transaction => vec![(Category::Transaction, 1), (Category::TransactionIndexed, 1)],
            ItemType::Span => vec![(Category::Span, count), (Category::SpanIndexed, count)],
            ItemType::Log => vec![(Category::LogItem, count), (Category::LogByte, bytes)],
            ItemType::TraceMetric => vec![(Category::TraceMetric, count), (Category::TraceMetricByte, bytes)],
            ItemType::Session | ItemType::Sessions => vec![(Category::Session, 1)],
            ItemType::CheckIn => vec![(Category::Monitor, 1)],
            ItemType::Profile => vec![(Category::Profile, 1), (Category::ProfileIndexed, 1)],
            ItemType::ProfileChunk => vec![(profile_chunk_category(self.header.platform.as_deref()), 1)],
            ItemType::ReplayEvent | ItemType::ReplayRecording | ItemType::ReplayVideo => vec![(Category::Replay, 1)],
            ItemType::UserReport | ItemType::Feedback => vec![(Category::Feedback, 1)],
            ItemType::Attachment => vec![(Category::Attachment, bytes.max(1)), (Category::AttachmentItem, 1)],
            ItemType::Statsd | ItemType::MetricBuckets => vec![(Category::MetricBucket, 1)],
            ItemType::ClientReport => vec![],
            ItemType::Internal(name) if name == "security" || name == "raw_security" => vec![(Category::Security, 1)],
            ItemType::Internal(_) | ItemType::Unknown(_) => vec![(Category::Unknown, 1)],
        }
    }
}

/// Profiles of browsers and phones count apart from those of servers.
fn profile_chunk_category(platform: Option<&str>) -> Category {
    match platform {
        Some("javascript" | "cocoa" | "android") => Category::ProfileChunkUi,
        _ => Category::ProfileChunk,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Types and payloads of an envelope, or the error.
    fn check(text: &str, want: Result<&[(&str, &str)], EnvelopeError>) {
        let got = Envelope::parse(&Bytes::copy_from_slice(text.as_bytes()));
        let got = got.as_ref().map(|e| e.items.iter().map(|i| (i.header.item_type.name(), std::str::from_utf8(&i.payload).unwrap())).collect::<Vec<_>>());
        assert_eq!(got.as_deref().map_err(|e| (*e).clone()), want, "{text:?}");
    }

    #[test]
    fn framing() {
        check("{}", Ok(&[]));
        check("{}\n", Ok(&[]));
        check("{}\n{\"type\":\"event\"}\n{\"a\":1}", Ok(&[("event", "{\"a\":1}")]));
        check("{}\n{\"type\":\"event\"}\n{\"a\":1}\n", Ok(&[("event", "{\"a\":1}")]));
        check("{}\n{\"type\":\"attachment\",\"length\":0}\n\n{\"type\":\"attachment\",\"length\":0}\n", Ok(&[("attachment", ""), ("attachment", "")]));
        check("{}\n{\"type\":\"attachment\",\"length\":0}\n\n{\"type\":\"attachment\",\"length\":0}\n\n", Ok(&[("attachment", ""), ("attachment", "")]));
        check("{}\n{\"type\":\"attachment\",\"length\":4}\na\r\nb\n{\"type\":\"log\"}\nx", Ok(&[("attachment", "a\r\nb"), ("log", "x")]));
        check("{}\n{\"type\":\"session\"}", Ok(&[("session", "")]));
        check("{}\n{\"type\":\"new\",\"odd\":[1]}\n", Ok(&[("new", "")]));
        check("{\"event_id\":\"00000000-0000-0000-0000-000000000000\"}\n", Ok(&[]));
    }

    #[test]
    fn malformed() {
        check("", Err(EnvelopeError::MissingHeader));
        check("{}\n{\"type\":\"event\",\"length\":2}\n{}x", Err(EnvelopeError::MissingNewline { index: 0, length: 2 }));
        check("{}\n{\"type\":\"event\",\"length\":999}\n{}", Err(EnvelopeError::UnexpectedEof { index: 0, length: 999, available: 2 }));
        let fails = |text: &str| assert!(Envelope::parse(&Bytes::copy_from_slice(text.as_bytes())).is_err(), "{text}");
        fails("\n");
        fails("[]\n");
        fails("nonsense");
        fails(&"[".repeat(100_000));
        fails("{\"event_id\":\"12\"}\n");
        fails("{\"event_id\":12}\n");
        fails("{\"sent_at\":\"2026-01-01T00:00:00Z\",\"sent_at\":\"2026-01-01T00:00:00Z\"}\n");
        fails("{}\n{}\n");
        fails("{}\n{\"type\":1}\n");
        fails("{}\n{\"type\":\"event\",\"length\":-1}\n");
        fails("{}\n\n\n");
    }

    #[test]
    fn reframing_keeps_header_lines_and_payloads() {
        let text = "{\"trace\":{\"trace_id\":\"x\"}}\n{\"type\":\"event\",\"extra\":1}\n{}\n{\"type\":\"attachment\",\"length\":3}\na\nb\n";
        let envelope = Envelope::parse(&Bytes::copy_from_slice(text.as_bytes())).unwrap();
        assert_eq!(Envelope::reframe(&envelope.header, &envelope.items), text.as_bytes());
        assert_eq!(
            Envelope::reframe(&envelope.header, &envelope.items[..1]),
            "{\"trace\":{\"trace_id\":\"x\"}}\n{\"type\":\"event\",\"extra\":1}\n{}\n".as_bytes()
        );
    }
}
