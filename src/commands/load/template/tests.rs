//! Templates: every envelope of the corpus, filled in, is what the doors take, and has nothing in common with the last.

use std::collections::BTreeSet;
use std::path::PathBuf;

use bytes::Bytes;

use super::super::fresh::{Source, Spread};
use super::*;

const DSN: &str = "http://fedcba9876543210fedcba9876543210@127.0.0.1:9000/7";
const KEY: &str = "fedcba9876543210fedcba9876543210";
const RECORDED_KEY: &str = "0123456789abcdef0123456789abcdef";
const VARIED: Varied = Varied { issues: true, users: true, releases: true };

fn filled(template: &Template, source: &Source, send: u64) -> Envelope {
    let (mut out, mut scratch) = (Vec::new(), Vec::new());
    template.fill(&source.fresh(send, DSN, KEY), &mut out, &mut scratch);
    Envelope::parse(&Bytes::from(out)).unwrap()
}

fn source() -> Source {
    Source::new(1, Spread { issues_per_event: 3, users: 5, releases: 2 })
}

fn corpus() -> Vec<(String, Envelope)> {
    let folder = PathBuf::from(std::env::var_os("CARGO_MANIFEST_DIR").unwrap()).join("tests/corpus/envelopes");
    let mut files: Vec<_> = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    let mut envelopes = Vec::new();
    for file in files.iter().filter(|file| file.extension().is_some_and(|e| e == "envelope")) {
        let meta = std::fs::read_to_string(file.with_extension("meta.json")).unwrap();
        let body = Bytes::from(std::fs::read(file).unwrap());
        if meta.contains("/envelope/") && !body.is_empty() {
            envelopes.push((file.file_stem().unwrap().to_string_lossy().into_owned(), Envelope::parse(&body).unwrap()));
        }
    }
    assert!(envelopes.len() > 50, "{} envelopes", envelopes.len());
    envelopes
}

/// The items' types and the paths of all their members, which filling in must not change.
fn shape(envelope: &Envelope) -> Vec<(String, BTreeSet<String>)> {
    fn paths(json: &Json<'_>, path: &str, found: &mut BTreeSet<String>) {
        match json {
            Json::Object(object) => object.iter().for_each(|(key, value)| paths(value, &format!("{path}.{key}"), found)),
            Json::Array(items) => items.iter().enumerate().for_each(|(n, value)| paths(value, &format!("{path}.{n}"), found)),
            _ => drop(found.insert(path.to_owned())),
        }
    }
    let of = |item: &Item| {
        let mut found = BTreeSet::new();
        if let Some(json) = json_payload(item) {
            paths(&json, "", &mut found);
        }
        found.retain(|path| !path.starts_with(".fingerprint") && !path.starts_with(".user"));
        (item.header.item_type.name().to_owned(), found)
    };
    envelope.items.iter().map(of).collect()
}

/// All ids that belong to what is sent.
fn ids(envelope: &Envelope) -> BTreeSet<[u8; 16]> {
    let mut found = Found::default();
    found.look_at(&Json::parse(&envelope.header.raw).unwrap(), "");
    envelope.items.iter().filter_map(json_payload).for_each(|json| found.look_at(&json, ""));
    found.ids.into_keys().collect()
}

#[test]
fn every_envelope_of_the_corpus_is_accepted_with_fresh_ids() {
    let source = source();
    for (name, recorded) in corpus() {
        let template = Template::new(&recorded, VARIED).unwrap_or_else(|e| panic!("{name}: {e}"));
        let (first, second) = (filled(&template, &source, 1), filled(&template, &source, 2));
        assert_eq!(shape(&first), shape(&recorded), "{name}");
        assert_eq!(first.header.event_id.is_some(), recorded.header.event_id.is_some(), "{name}");
        let (before, one, two) = (ids(&recorded), ids(&first), ids(&second));
        assert_eq!((one.len(), two.len()), (before.len(), before.len()), "{name}: an id for each id");
        assert!(before.is_disjoint(&one) && one.is_disjoint(&two), "{name}: ids are sent again");
        let fresh = source.fresh(1, DSN, KEY);
        assert_eq!(template.event_id(&fresh), first.header.event_id.map(|id| id.0), "{name}");
        for (item, was) in first.items.iter().zip(&recorded.items) {
            assert_eq!(item.header.length.is_some(), was.header.length.is_some(), "{name}: a length where there was one");
            assert_eq!(item.header.item_count, was.header.item_count, "{name}");
        }
        let text = String::from_utf8_lossy(&first.header.raw).into_owned();
        assert!(!text.contains(RECORDED_KEY), "{name}: {text}");
    }
}

#[test]
fn the_event_has_the_id_of_its_envelope() {
    let source = source();
    for (name, recorded) in corpus() {
        let template = Template::new(&recorded, Varied::default()).unwrap();
        let envelope = filled(&template, &source, 1);
        for (item, was) in envelope.items.iter().zip(&recorded.items) {
            let id = |item: &Item| json_payload(item).and_then(|json| json.get("event_id")?.as_str()?.parse::<weir_protocol::EventId>().ok());
            let agreed = id(was).is_some() && id(was) == recorded.header.event_id;
            assert!(!agreed || id(item) == envelope.header.event_id, "{name}");
        }
    }
}

#[test]
fn times_keep_their_distances() {
    let text = concat!(
        "{\"event_id\":\"9ec79c33ec9942ab8353589fcb2e04dc\",\"sent_at\":\"2026-01-01T00:00:10Z\"}\n",
        "{\"type\":\"transaction\"}\n",
        "{\"timestamp\":\"2026-01-01T00:00:09.5\",\"start_timestamp\":1767225608.25,\"other\":1767225608.25,\"received\":\"2026-01-01T00:00:09Z\"}\n"
    );
    let template = Template::new(&Envelope::parse(&Bytes::from_static(text.as_bytes())).unwrap(), Varied::default()).unwrap();
    let (mut out, mut scratch) = (Vec::new(), Vec::new());
    let fresh = Fresh { now_us: 1_800_000_000_000_007, ..source().fresh(1, DSN, KEY) };
    template.fill(&fresh, &mut out, &mut scratch);
    let out = String::from_utf8(out).unwrap();
    for want in [
        "\"sent_at\":\"2027-01-15T08:00:00.000007Z\"",
        "\"timestamp\":\"2027-01-15T07:59:59.500007Z\"",
        "\"start_timestamp\":1799999998.250007",
        "\"other\":1767225608.25",
        "\"received\":\"2026-01-01T00:00:09Z\"",
    ] {
        assert!(out.contains(want), "{want} is not in {out}");
    }
}

#[test]
fn spreads_are_written_into_events() {
    let text = concat!(
        "{\"event_id\":\"9ec79c33ec9942ab8353589fcb2e04dc\",\"trace\":{\"release\":\"a@1\"}}\n",
        "{\"type\":\"event\",\"length\":37}\n",
        "{\"release\":\"a@1\",\"user\":{\"email\":\"e\"}}\n"
    );
    let text = text.replace("37", &"{\"release\":\"a@1\",\"user\":{\"email\":\"e\"}}".len().to_string());
    let template = Template::new(&Envelope::parse(&Bytes::from(text)).unwrap(), VARIED).unwrap();
    let (mut out, mut scratch) = (Vec::new(), Vec::new());
    let fresh = Fresh { issue: 11, user: 22, release: 33, ..source().fresh(1, DSN, KEY) };
    template.fill(&fresh, &mut out, &mut scratch);
    let envelope = Envelope::parse(&Bytes::from(out)).unwrap();
    let event = "{\"release\":\"weir-load@1.33\",\"user\":{\"email\":\"e\",\"id\":\"load-user-22\"},\"fingerprint\":[\"{{ default }}\",\"load-11\"]}";
    assert_eq!(std::str::from_utf8(&envelope.items[0].payload).unwrap(), event);
    assert!(String::from_utf8_lossy(&envelope.header.raw).contains("\"release\":\"weir-load@1.33\""));
}

#[test]
fn marks_of_gaps_in_the_recording_are_an_error_and_no_panic() {
    for odd in ["\u{f5a0}", "\u{f5a0}0\u{f5a1}", "\u{f5a0}99\u{f5a1}", "\u{f5a0}x\u{f5a1}"] {
        let text = format!("{{}}\n{{\"type\":\"event\"}}\n{{\"message\":\"{odd}\"}}\n");
        assert!(Template::new(&Envelope::parse(&Bytes::from(text)).unwrap(), Varied::default()).is_err(), "{odd:?}");
    }
}
