//! A recorded envelope with gaps: what differs from send to send is filled in, everything else stays as the SDK wrote it.

use std::collections::BTreeMap;
use std::io::Write;

use chrono::{DateTime, Datelike, NaiveDateTime, Timelike};
use weir_protocol::envelope::{Envelope, Item, ItemType};
use weir_protocol::ids::parse_hex16;
use weir_protocol::json::{Json, Object};

use super::fresh::Fresh;

/// Which parts are varied beyond ids and times.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Varied {
    /// Error events are spread over issues.
    pub issues: bool,
    /// Events are spread over users.
    pub users: bool,
    /// Releases are varied.
    pub releases: bool,
}

/// An envelope to be sent again and again.
#[derive(Debug, Clone)]
pub struct Template {
    header: Pieces,
    items: Vec<ItemTemplate>,
    /// Which of the envelope's ids is that of its event.
    event_id: Option<u16>,
}

#[derive(Debug, Clone)]
struct ItemTemplate {
    header: Pieces,
    payload: Pieces,
}

type Pieces = Vec<Piece>;

#[derive(Debug, Clone, PartialEq)]
enum Piece {
    Text(Vec<u8>),
    Gap(Gap),
}

/// What is filled in.
#[derive(Debug, Clone, PartialEq)]
enum Gap {
    /// The n-th id of the envelope, in the form in which it was written.
    Id { number: u16, hyphens: bool },
    /// The n-th span id of the envelope.
    SpanId { number: u16 },
    /// A time as seconds, so far from the moment of sending.
    Seconds { offset_us: i64 },
    /// A time as text, so far from the moment of sending.
    Date { offset_us: i64 },
    /// The length of the payload.
    Length,
    /// The DSN that is sent to.
    Dsn,
    /// Its public key.
    Key,
    /// A release.
    Release,
    /// The id of a user.
    User,
    /// What makes an error another issue.
    Issue,
}

impl Gap {
    /// Whether it stands for a number, which has no quotes around it.
    fn is_number(&self) -> bool {
        matches!(self, Self::Seconds { .. } | Self::Length)
    }
}

/// Keys of ids that belong to what is sent, so that no two sends may have them in common.
const ID_KEYS: [&str; 9] = ["event_id", "trace_id", "sid", "replay_id", "profile_id", "chunk_id", "profiler_id", "check_in_id", "associated_event_id"];
const SPAN_ID_KEYS: [&str; 3] = ["span_id", "parent_span_id", "segment_id"];
const TIME_KEYS: [&str; 6] = ["timestamp", "start_timestamp", "end_timestamp", "started", "sent_at", "replay_start_timestamp"];
/// A time further from the sending than this says something else than when the event was: it stays.
const OFFSET_US_MAX: i64 = 2 * 24 * 3600 * 1_000_000;
/// Characters that stand around the number of a gap while the text is written. They are of the private use area, so that
/// nobody writes them; an envelope that has them is not used.
const OPEN: char = '\u{f5a0}';
const CLOSE: char = '\u{f5a1}';

/// What an envelope is made of that has to be known before the first gap is made.
#[derive(Debug, Default)]
struct Found {
    ids: BTreeMap<[u8; 16], u16>,
    span_ids: BTreeMap<String, u16>,
    release: Option<String>,
    /// The moment of sending, as the SDK's clock had it.
    sent_us: Option<i64>,
    newest_us: Option<i64>,
    /// Whether a text has the characters that stand for gaps.
    is_odd: bool,
}

/// Gaps under construction.
struct Cutter {
    found: Found,
    varied: Varied,
    gaps: Vec<Gap>,
}

impl Template {
    /// Makes a template of a recorded envelope.
    pub fn new(envelope: &Envelope, varied: Varied) -> Result<Self, String> {
        let mut header = Json::parse(&envelope.header.raw).map_err(|e| format!("its header is no JSON: {e}"))?;
        let mut payloads: Vec<Option<Json<'_>>> = envelope.items.iter().map(json_payload).collect();
        let release = header.str_at(&["trace", "release"]).map(str::to_owned);
        let mut found = Found { release, ..Found::default() };
        found.look_at(&header, "");
        payloads.iter().flatten().for_each(|payload| found.look_at(payload, ""));
        if found.is_odd {
            return Err("it has characters of the private use area that stand for gaps here".to_owned());
        }
        let mut cutter = Cutter { found, varied, gaps: Vec::new() };
        let header = cutter.header(&mut header)?;
        let mut items = Vec::new();
        for (item, payload) in envelope.items.iter().zip(&mut payloads) {
            items.push(cutter.item(item, payload.as_mut())?);
        }
        let event_id = envelope.header.event_id.and_then(|id| cutter.found.ids.get(&id.0).copied());
        Ok(Self { header, items, event_id })
    }

    /// The id that the envelope's event has when it is filled in with this.
    pub fn event_id(&self, fresh: &Fresh<'_>) -> Option<[u8; 16]> {
        self.event_id.map(|number| fresh.id(number))
    }

    /// Appends the envelope, filled in. `scratch` is a buffer that is used again.
    pub fn fill(&self, fresh: &Fresh<'_>, out: &mut Vec<u8>, scratch: &mut Vec<u8>) {
        fill(&self.header, fresh, 0, out);
        for item in &self.items {
            scratch.clear();
            fill(&item.payload, fresh, 0, scratch);
            out.push(b'\n');
            fill(&item.header, fresh, scratch.len(), out);
            out.push(b'\n');
            out.extend_from_slice(scratch);
        }
        out.push(b'\n');
    }
}

fn fill(pieces: &[Piece], fresh: &Fresh<'_>, length: usize, out: &mut Vec<u8>) {
    for piece in pieces {
        match piece {
            Piece::Text(text) => out.extend_from_slice(text),
            Piece::Gap(Gap::Id { number, hyphens }) => write_id(fresh.id(*number), *hyphens, out),
            Piece::Gap(Gap::SpanId { number }) => write_hex(&fresh.span_id(*number).to_be_bytes(), out),
            Piece::Gap(Gap::Seconds { offset_us }) => write_seconds(fresh.now_us + offset_us, out),
            Piece::Gap(Gap::Date { offset_us }) => write_date(fresh.now_us + offset_us, out),
            Piece::Gap(Gap::Length) => write_number(length as u64, out),
            Piece::Gap(Gap::Dsn) => out.extend_from_slice(fresh.dsn.as_bytes()),
            Piece::Gap(Gap::Key) => out.extend_from_slice(fresh.key.as_bytes()),
            Piece::Gap(Gap::Release) => {
                out.extend_from_slice(b"weir-load@1.");
                write_number(fresh.release, out);
            }
            Piece::Gap(Gap::User) => {
                out.extend_from_slice(b"load-user-");
                write_number(fresh.user, out);
            }
            Piece::Gap(Gap::Issue) => {
                out.extend_from_slice(b"load-");
                write_number(fresh.issue, out);
            }
        }
    }
}

/// The payload as JSON, where the item is made of JSON.
fn json_payload<'a>(item: &'a Item) -> Option<Json<'a>> {
    let is_binary = matches!(item.header.item_type, ItemType::Attachment | ItemType::ReplayRecording | ItemType::ReplayVideo);
    if is_binary || item.header.meta_length.is_some() {
        return None;
    }
    Json::parse(&item.payload).ok().filter(|json| matches!(json, Json::Object(_)))
}

impl Found {
    fn look_at(&mut self, value: &Json<'_>, key: &str) {
        self.is_odd |= [Some(key), value.as_str()].into_iter().flatten().any(|text| text.contains([OPEN, CLOSE]));
        match value {
            Json::Object(object) => object.iter().for_each(|(key, value)| self.look_at(value, key)),
            Json::Array(items) => items.iter().for_each(|item| self.look_at(item, "")),
            Json::String(text) if ID_KEYS.contains(&key) => self.id(text),
            Json::String(text) if SPAN_ID_KEYS.contains(&key) && is_span_id(text) => {
                let number = self.span_ids.len() as u16;
                self.span_ids.entry(text.to_string()).or_insert(number);
            }
            Json::String(text) if key == "release" && self.release.is_none() => self.release = Some(text.to_string()),
            _ => {
                if let Some(us) = time_of(key, value) {
                    self.newest_us = self.newest_us.max(Some(us));
                    if key == "sent_at" {
                        self.sent_us = Some(us);
                    }
                }
            }
        }
    }

    fn id(&mut self, text: &str) {
        if let Some(id) = parse_hex16(text).filter(|id| *id != [0; 16]) {
            let number = self.ids.len() as u16;
            self.ids.entry(id).or_insert(number);
        }
    }

    fn offset_us(&self, us: i64) -> Option<i64> {
        let base = self.sent_us.or(self.newest_us)?;
        Some(us - base).filter(|offset| offset.abs() <= OFFSET_US_MAX)
    }
}

impl Cutter {
    fn header(&mut self, header: &mut Json<'_>) -> Result<Pieces, String> {
        let Some(object) = header.as_object_mut() else { return Err("its header is no object".to_owned()) };
        if object.get("dsn").is_some() {
            let dsn = self.gap(Gap::Dsn);
            object.insert("dsn", dsn);
        }
        if let Some(trace) = object.get_mut("trace").and_then(Json::as_object_mut)
            && trace.get("public_key").is_some()
        {
            let key = self.gap(Gap::Key);
            trace.insert("public_key", key);
        }
        self.cut(header, "");
        self.pieces(header)
    }

    fn item(&mut self, item: &Item, payload: Option<&mut Json<'_>>) -> Result<ItemTemplate, String> {
        let mut header = Json::parse(&item.raw_header).map_err(|e| format!("an item's header is no JSON: {e}"))?;
        if let Some(object) = header.as_object_mut()
            && object.get("length").is_some()
        {
            let length = self.gap(Gap::Length);
            object.insert("length", length);
        }
        let header = self.pieces(&header)?;
        let payload = match payload {
            None => vec![Piece::Text(item.payload.to_vec())],
            Some(json) => {
                self.vary(json, &item.header.item_type);
                self.cut(json, "");
                self.pieces(json)?
            }
        };
        Ok(ItemTemplate { header, payload })
    }

    /// Adds what an event is spread over.
    fn vary(&mut self, json: &mut Json<'_>, item_type: &ItemType) {
        if !matches!(item_type, ItemType::Event | ItemType::Transaction) {
            return;
        }
        let Some(event) = json.as_object_mut() else { return };
        if self.varied.issues && *item_type == ItemType::Event {
            let mut parts = match event.remove("fingerprint") {
                Some(Json::Array(parts)) if !parts.is_empty() => parts,
                // The recorded groups stay apart from each other, and computing them stays part of the work.
                _ => vec![Json::text("{{ default }}")],
            };
            parts.push(self.gap(Gap::Issue));
            event.insert("fingerprint", Json::Array(parts));
        }
        if self.varied.users {
            let id = self.gap(Gap::User);
            match event.get_mut("user").and_then(Json::as_object_mut) {
                Some(user) => user.insert("id", id),
                None => event.insert("user", Json::Object(Object::from_iter([("id", id)]))),
            }
        }
    }

    /// Puts gaps in the place of what differs from send to send.
    fn cut(&mut self, value: &mut Json<'_>, key: &str) {
        match value {
            Json::Object(object) => object.iter_mut().for_each(|(key, value)| self.cut(value, key)),
            Json::Array(items) => items.iter_mut().for_each(|item| self.cut(item, "")),
            Json::String(text) => {
                if let Some(offset_us) = date_of(key, text).and_then(|us| self.found.offset_us(us)) {
                    *value = self.gap(Gap::Date { offset_us });
                } else if self.varied.releases && self.found.release.as_deref() == Some(text.as_ref()) {
                    *value = self.gap(Gap::Release);
                } else if let Some(&number) = self.found.span_ids.get(text.as_ref()) {
                    *value = self.gap(Gap::SpanId { number });
                } else if let Some(cut) = self.ids_within(text) {
                    *value = Json::text(cut);
                }
            }
            _ => {
                if let Some(offset_us) = seconds_of(key, value).and_then(|us| self.found.offset_us(us)) {
                    *value = self.gap(Gap::Seconds { offset_us });
                }
            }
        }
    }

    /// A text with gaps for the ids in it: an id as such, or one inside of a header that the event quotes.
    fn ids_within(&mut self, text: &str) -> Option<String> {
        let mut cut: Option<String> = None;
        for (id, number) in self.found.ids.clone() {
            let (plain, hyphenated) = spellings(&id);
            for (spelling, hyphens) in [(plain, false), (hyphenated, true)] {
                let current = cut.as_deref().unwrap_or(text);
                // Upper-case spellings are sent, too.
                for spelling in [spelling.clone(), spelling.to_ascii_uppercase()] {
                    if current.contains(&spelling) {
                        let mark = self.mark(Gap::Id { number, hyphens });
                        cut = Some(current.replace(&spelling, &mark));
                        break;
                    }
                }
            }
        }
        cut
    }

    fn mark(&mut self, gap: Gap) -> String {
        self.gaps.push(gap);
        format!("{OPEN}{}{CLOSE}", self.gaps.len() - 1)
    }

    fn gap(&mut self, gap: Gap) -> Json<'static> {
        Json::text(self.mark(gap))
    }

    /// The JSON text, taken apart at its gaps.
    fn pieces(&self, json: &Json<'_>) -> Result<Pieces, String> {
        const NO_GAP: &str = "an item's header has characters of the private use area that stand for gaps here";
        let text = json.to_string();
        let mut pieces = Vec::new();
        let mut rest = text.as_str();
        while let Some(at) = rest.find(OPEN) {
            let (mut before, after) = (&rest[..at], &rest[at + OPEN.len_utf8()..]);
            let (number, mut after) = after.split_once(CLOSE).ok_or(NO_GAP)?;
            let gap = number.parse::<usize>().ok().and_then(|n| self.gaps.get(n)).ok_or(NO_GAP)?;
            if gap.is_number() {
                before = before.strip_suffix('"').unwrap_or(before);
                after = after.strip_prefix('"').unwrap_or(after);
            }
            pieces.push(Piece::Text(before.as_bytes().to_vec()));
            pieces.push(Piece::Gap(gap.clone()));
            rest = after;
        }
        pieces.push(Piece::Text(rest.as_bytes().to_vec()));
        Ok(pieces)
    }
}

fn spellings(id: &[u8; 16]) -> (String, String) {
    let (mut plain, mut hyphenated) = (Vec::new(), Vec::new());
    write_id(*id, false, &mut plain);
    write_id(*id, true, &mut hyphenated);
    let text = |bytes| String::from_utf8(bytes).expect("digits and hyphens are text");
    (text(plain), text(hyphenated))
}

fn is_span_id(text: &str) -> bool {
    text.len() == 16 && text.bytes().all(|c| c.is_ascii_hexdigit())
}

/// The time that a member is, in Unix microseconds.
fn time_of(key: &str, value: &Json<'_>) -> Option<i64> {
    value.as_str().map_or_else(|| seconds_of(key, value), |text| date_of(key, text))
}

fn seconds_of(key: &str, value: &Json<'_>) -> Option<i64> {
    let seconds = value.as_f64().filter(|_| TIME_KEYS.contains(&key))?;
    // Other numbers are milliseconds, or distances.
    (1e9..1e10).contains(&seconds).then_some((seconds * 1e6) as i64)
}

fn date_of(key: &str, text: &str) -> Option<i64> {
    if !TIME_KEYS.contains(&key) {
        return None;
    }
    let zoned = DateTime::parse_from_rfc3339(text).map(|time| time.timestamp_micros());
    zoned.or_else(|_| NaiveDateTime::parse_from_str(text, "%Y-%m-%dT%H:%M:%S%.f").map(|time| time.and_utc().timestamp_micros())).ok()
}

fn write_number(number: u64, out: &mut Vec<u8>) {
    write!(out, "{number}").expect("memory does not fail to be written");
}

fn write_seconds(us: i64, out: &mut Vec<u8>) {
    write!(out, "{}.{:06}", us.div_euclid(1_000_000), us.rem_euclid(1_000_000)).expect("memory does not fail to be written");
}

fn write_date(us: i64, out: &mut Vec<u8>) {
    let time = DateTime::from_timestamp_micros(us).unwrap_or_default();
    let (year, month, day, hour, minute, second) = (time.year(), time.month(), time.day(), time.hour(), time.minute(), time.second());
    write!(out, "{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{:06}Z", us.rem_euclid(1_000_000))
        .expect("memory does not fail to be written");
}

fn write_hex(bytes: &[u8], out: &mut Vec<u8>) {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    out.extend(bytes.iter().flat_map(|byte| [DIGITS[usize::from(byte >> 4)], DIGITS[usize::from(byte & 15)]]));
}

fn write_id(id: [u8; 16], hyphens: bool, out: &mut Vec<u8>) {
    if !hyphens {
        return write_hex(&id, out);
    }
    for (index, part) in [&id[..4], &id[4..6], &id[6..8], &id[8..10], &id[10..]].into_iter().enumerate() {
        if index > 0 {
            out.push(b'-');
        }
        write_hex(part, out);
    }
}

#[cfg(test)]
mod tests;
