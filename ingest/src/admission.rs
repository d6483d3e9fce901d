//! Which items of an envelope are taken: the limits and the sharing rules of `spec/ingest.md` sections 2.2 and 2.3.

use weir_protocol::envelope::{Item, ItemType};
use weir_protocol::limits::{
    ATTACHMENT_BYTES_MAX, ATTACHMENT_COUNT_MAX, CHECK_IN_BYTES_MAX, CLIENT_REPORT_BYTES_MAX, CLIENT_REPORT_COUNT_MAX, CONTAINER_BYTES_MAX,
    EVENT_CLASS_BYTES_MAX, LOG_BYTES_MAX, METRIC_BUCKETS_BYTES_MAX, PROFILE_BYTES_MAX, REPLAY_BYTES_MAX, SESSION_BYTES_MAX, SESSION_COUNT_MAX, SPAN_BYTES_MAX,
    SPAN_CONTAINER_COUNT_MAX, SPAN_COUNT_MAX, TRACE_METRIC_BYTES_MAX,
};

/// The types that the graph consumes. Items of any other type are not journalled; they become outcomes.
const CONSUMED: &[ItemType] = &[ItemType::Event, ItemType::Transaction, ItemType::Span, ItemType::Log, ItemType::ClientReport];

/// What happens to an item of an envelope that is taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// It goes to the journal.
    Kept,
    /// An envelope may have only one of its kind, and this is another.
    Duplicate,
    /// Nothing consumes its type, or the type is not for SDKs to send.
    Unsupported,
}

/// An item, or what items of its class have together, is over a limit: the whole envelope is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("envelope exceeded size limits for type '{item_type}'")]
pub(crate) struct TooLarge {
    /// The type of the item that went over.
    pub(crate) item_type: String,
}

/// Decides about every item, in their order.
pub(crate) fn admit(items: &[Item]) -> Result<Vec<Verdict>, TooLarge> {
    let mut sums = [Sum::default(); CLASS_COUNT];
    let mut seen = Seen::default();
    let mut verdicts = Vec::with_capacity(items.len());
    for item in items {
        let too_large = || TooLarge { item_type: item.header.item_type.name().to_owned() };
        if let Some(limit) = Limit::of(item) {
            sums.get_mut(limit.class as usize).is_none_or(|sum| sum.add(item, &limit)).then_some(()).ok_or_else(too_large)?;
        }
        if !elements_fit(item) {
            return Err(too_large());
        }
        verdicts.push(match (seen.is_another(item), CONSUMED.contains(&item.header.item_type)) {
            (true, _) => Verdict::Duplicate,
            (false, true) => Verdict::Kept,
            (false, false) => Verdict::Unsupported,
        });
    }
    Ok(verdicts)
}

/// Items whose counts and sizes are limited together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Class {
    Event,
    Attachment,
    Session,
    ClientReport,
    LegacySpan,
    /// Items that are limited one by one.
    Single,
}

const CLASS_COUNT: usize = Class::Single as usize + 1;

/// The limits of an item: its own size, and what its class may have in one envelope.
#[derive(Debug, Clone, Copy)]
struct Limit {
    class: Class,
    bytes_max: usize,
    class_count_max: usize,
    class_bytes_max: usize,
}

impl Limit {
    /// The limits of an item; `None` for types that are not known, which only the envelope limits.
    fn of(item: &Item) -> Option<Self> {
        let class = |class, class_count_max, class_bytes_max| Some(Self { class, bytes_max: class_bytes_max, class_count_max, class_bytes_max });
        let single = |bytes_max| Some(Self { class: Class::Single, bytes_max, class_count_max: usize::MAX, class_bytes_max: usize::MAX });
        match &item.header.item_type {
            ItemType::Event | ItemType::Transaction | ItemType::Feedback | ItemType::ReplayEvent => class(Class::Event, usize::MAX, EVENT_CLASS_BYTES_MAX),
            ItemType::Attachment | ItemType::UserReport => class(Class::Attachment, ATTACHMENT_COUNT_MAX, ATTACHMENT_BYTES_MAX),
            ItemType::Session | ItemType::Sessions => class(Class::Session, SESSION_COUNT_MAX, SESSION_BYTES_MAX),
            ItemType::ClientReport => class(Class::ClientReport, CLIENT_REPORT_COUNT_MAX, CLIENT_REPORT_BYTES_MAX),
            ItemType::Span if !is_container(item) => {
                Some(Self { class: Class::LegacySpan, bytes_max: SPAN_BYTES_MAX, class_count_max: SPAN_COUNT_MAX, class_bytes_max: usize::MAX })
            }
            ItemType::Span | ItemType::Log | ItemType::TraceMetric => single(CONTAINER_BYTES_MAX),
            ItemType::CheckIn => single(CHECK_IN_BYTES_MAX),
            ItemType::Profile | ItemType::ProfileChunk => single(PROFILE_BYTES_MAX),
            ItemType::ReplayRecording | ItemType::ReplayVideo => single(REPLAY_BYTES_MAX),
            ItemType::Statsd | ItemType::MetricBuckets => single(METRIC_BUCKETS_BYTES_MAX),
            ItemType::Internal(name) => match name.as_str() {
                "security" | "raw_security" | "form_data" => class(Class::Event, usize::MAX, EVENT_CLASS_BYTES_MAX),
                "unreal_report" => class(Class::Attachment, ATTACHMENT_COUNT_MAX, ATTACHMENT_BYTES_MAX),
                _ => None,
            },
            ItemType::Unknown(_) => None,
        }
    }
}

/// What the items of a class have together so far.
#[derive(Debug, Clone, Copy, Default)]
struct Sum {
    count: usize,
    bytes: usize,
}

impl Sum {
    /// Adds an item; false where that goes over a limit.
    fn add(&mut self, item: &Item, limit: &Limit) -> bool {
        self.count += 1;
        self.bytes = self.bytes.saturating_add(item.payload.len());
        item.payload.len() <= limit.bytes_max && self.count <= limit.class_count_max && self.bytes <= limit.class_bytes_max
    }
}

/// Spans of the second version and those of `item_count` come as containers; a legacy span stands alone.
fn is_container(item: &Item) -> bool {
    item.header.item_count.is_some() || item.header.content_type.as_deref().is_some_and(|t| t.trim_start().starts_with("application/vnd.sentry.items."))
}

/// Whether the elements of a container are small enough on average and not too many. The graph checks each when it has parsed
/// them, and a container without a count too.
fn elements_fit(item: &Item) -> bool {
    let (element_bytes_max, count_max) = match item.header.item_type {
        ItemType::Log => (LOG_BYTES_MAX, u64::MAX),
        ItemType::Span => (SPAN_BYTES_MAX, SPAN_CONTAINER_COUNT_MAX as u64),
        ItemType::TraceMetric => (TRACE_METRIC_BYTES_MAX, u64::MAX),
        _ => return true,
    };
    item.header.item_count.is_none_or(|count| count <= count_max && item.payload.len() as u64 / count.max(1) <= element_bytes_max as u64)
}

/// Which kinds of item that an envelope may have once it has had.
#[derive(Debug, Default)]
struct Seen {
    event: bool,
    transaction: bool,
    feedback: bool,
    others: Vec<ItemType>,
}

impl Seen {
    /// Notes an item; true where it is one too many.
    fn is_another(&mut self, item: &Item) -> bool {
        match &item.header.item_type {
            ItemType::Event => self.event || self.transaction || note(&mut self.event),
            ItemType::Transaction => self.event || self.transaction || self.feedback || note(&mut self.transaction),
            ItemType::Feedback => self.transaction || self.feedback || note(&mut self.feedback),
            ItemType::Span if !is_container(item) => false,
            one @ (ItemType::Span
            | ItemType::Log
            | ItemType::TraceMetric
            | ItemType::CheckIn
            | ItemType::Profile
            | ItemType::ProfileChunk
            | ItemType::ReplayEvent
            | ItemType::ReplayRecording
            | ItemType::ReplayVideo) => {
                let another = self.others.contains(one);
                if !another {
                    self.others.push(one.clone());
                }
                another
            }
            _ => false,
        }
    }
}

/// Notes that a kind has come for the first time.
fn note(seen: &mut bool) -> bool {
    *seen = true;
    false
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use weir_protocol::envelope::Envelope;

    use super::*;

    /// Items of a type with payloads of a size.
    fn items(item_type: &str, attributes: &str, count: usize, bytes: usize) -> String {
        let item = format!("{{\"type\":\"{item_type}\"{attributes},\"length\":{bytes}}}\n{}\n", "x".repeat(bytes));
        item.repeat(count)
    }

    fn one(item_type: &str) -> String {
        items(item_type, "", 1, 2)
    }

    /// Verdicts as letters: kept, duplicate, unsupported; or the type that is too large.
    fn check(text: &str, want: Result<&str, &str>) {
        let envelope = Envelope::parse(&Bytes::from(format!("{{}}\n{text}"))).unwrap();
        let got = admit(&envelope.items).map_err(|e| e.item_type).map(|verdicts| {
            let letter = |verdict: &Verdict| match verdict {
                Verdict::Kept => 'k',
                Verdict::Duplicate => 'd',
                Verdict::Unsupported => 'u',
            };
            verdicts.iter().map(letter).collect::<String>()
        });
        assert_eq!(got.as_deref().map_err(String::as_str), want, "{}", &text[..text.len().min(120)]);
    }

    #[test]
    fn one_of_a_kind() {
        let all = |types: &[&str]| types.iter().map(|t| one(t)).collect::<String>();
        check("", Ok(""));
        check(&all(&["event", "event"]), Ok("kd"));
        check(&all(&["event", "transaction"]), Ok("kd"));
        check(&all(&["transaction", "event", "transaction"]), Ok("kdd"));
        check(&all(&["event", "feedback"]), Ok("ku"));
        check(&all(&["transaction", "feedback"]), Ok("kd"));
        check(&all(&["feedback", "transaction"]), Ok("ud"));
        check(&all(&["log", "log", "span"]), Ok("kdk"));
        check(&items("span", ",\"item_count\":1", 2, 2), Ok("kd"));
        check(&items("span", ",\"content_type\":\"application/vnd.sentry.items.span.v2+json\"", 2, 2), Ok("kd"));
        check(&items("span", ",\"content_type\":\"application/json\"", 2, 2), Ok("kk"));
        check(&all(&["check_in", "check_in", "replay_event", "replay_recording"]), Ok("uduu"));
        check(&all(&["profile", "profile", "profile_chunk", "profile_chunk"]), Ok("udud"));
        check(&all(&["client_report", "client_report"]), Ok("kk"));
        check(&all(&["session", "session", "attachment", "attachment"]), Ok("uuuu"));
        check(&all(&["new_thing", "new_thing", "integration", "nel"]), Ok("uuuu"));
    }

    #[test]
    fn limits() {
        check(&items("event", "", 1, EVENT_CLASS_BYTES_MAX), Ok("k"));
        check(&items("event", "", 1, EVENT_CLASS_BYTES_MAX + 1), Err("event"));
        check(&(items("event", "", 1, EVENT_CLASS_BYTES_MAX) + &one("replay_event")), Err("replay_event"));
        check(&items("transaction", "", 1, EVENT_CLASS_BYTES_MAX + 1), Err("transaction"));
        check(&items("form_data", "", 1, EVENT_CLASS_BYTES_MAX + 1), Err("form_data"));
        check(&items("attachment", "", ATTACHMENT_COUNT_MAX, 0), Ok(&"u".repeat(30)));
        check(&items("attachment", "", ATTACHMENT_COUNT_MAX + 1, 0), Err("attachment"));
        check(&(items("attachment", "", ATTACHMENT_COUNT_MAX, 0) + &one("user_report")), Err("user_report"));
        check(&items("session", "", SESSION_COUNT_MAX, 2), Ok(&"u".repeat(100)));
        check(&items("session", "", SESSION_COUNT_MAX + 1, 2), Err("session"));
        check(&items("sessions", "", 1, SESSION_BYTES_MAX + 1), Err("sessions"));
        check(&items("client_report", "", CLIENT_REPORT_COUNT_MAX + 1, 2), Err("client_report"));
        check(&items("client_report", "", 2, CLIENT_REPORT_BYTES_MAX / 2 + 1), Err("client_report"));
        check(&items("span", "", SPAN_COUNT_MAX, 2), Ok(&"k".repeat(25)));
        check(&items("span", "", SPAN_COUNT_MAX + 1, 2), Err("span"));
        check(&items("span", ",\"item_count\":1000", 1, 2), Ok("k"));
        check(&items("span", ",\"item_count\":1001", 1, 2), Err("span"));
        check(&items("log", ",\"item_count\":2", 1, LOG_BYTES_MAX * 2), Ok("k"));
        check(&items("log", ",\"item_count\":1", 1, LOG_BYTES_MAX + 1), Err("log"));
        check(&items("log", ",\"item_count\":100", 1, CONTAINER_BYTES_MAX + 1), Err("log"));
        check(&items("trace_metric", ",\"item_count\":0", 1, TRACE_METRIC_BYTES_MAX + 1), Err("trace_metric"));
        check(&items("check_in", "", 1, CHECK_IN_BYTES_MAX + 1), Err("check_in"));
        check(&items("replay_recording", "", 1, REPLAY_BYTES_MAX + 1), Err("replay_recording"));
        check(&items("statsd", "", 1, METRIC_BUCKETS_BYTES_MAX + 1), Err("statsd"));
        check(&items("new_thing", "", 1, METRIC_BUCKETS_BYTES_MAX + 1), Ok("u"));
    }
}
