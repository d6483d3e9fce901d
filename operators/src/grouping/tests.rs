//! Grouping against published hashes, and over the parts of an event together.

use std::collections::BTreeMap;
use std::path::PathBuf;

use weir_protocol::json::Json;

use super::*;
use crate::normalise::{self, EventContext};

fn hashes_of(json: &str) -> Vec<GroupHash> {
    let mut event = Json::parse(json.as_bytes()).unwrap();
    normalise::event(&mut event, &EventContext::default()).unwrap();
    hashes(&event, &Rules::default())
}

fn md5(text: &str) -> String {
    hex(&hash([text]))
}

#[test]
fn strategies_and_fingerprints() {
    let check = |json: &str, want: &[(Variant, &str)]| {
        let got: Vec<(Variant, String)> = hashes_of(json).iter().map(|hash| (hash.variant, hash.text())).collect();
        let want: Vec<(Variant, String)> = want.iter().map(|(variant, text)| (*variant, md5(text))).collect();
        assert_eq!(got, want, "{json}");
    };
    let stack = r#""stacktrace":{"frames":[{"function":"main"},{"function":"f","in_app":true}]}"#;
    check("{}", &[(Variant::Fallback, "")]);
    check(r#"{"message":"took 3 s"}"#, &[(Variant::Default, "took <int> s")]);
    check(r#"{"logentry":{"message":"took %s","params":["3"]}}"#, &[(Variant::Default, "took %s")]);
    check(r#"{"checksum":"x","message":"m"}"#, &[(Variant::HashedChecksum, "x")]);
    check(&format!(r#"{{"exception":{{"type":"T","value":"v",{stack}}},"message":"m"}}"#), &[(Variant::App, "Tf"), (Variant::System, "Tmainf")]);
    check(r#"{"exception":{"type":"T","stacktrace":{"frames":[{"function":"g"}]}}}"#, &[(Variant::System, "Tg")]);
    check(&format!(r#"{{"threads":[{{"id":1}},{{"crashed":true,{stack}}}],"message":"m"}}"#), &[(Variant::App, "f"), (Variant::System, "mainf")]);
    check(&format!(r#"{{"threads":[{{{stack}}},{{{stack}}}],"message":"m"}}"#), &[(Variant::Default, "m")]);
    check(&format!("{{{stack}}}"), &[(Variant::App, "f"), (Variant::System, "mainf")]);
    check(r#"{"template":{"filename":"a.html","context_line":"x"}}"#, &[(Variant::Default, "a.htmlx")]);
    check(r#"{"message":"m","fingerprint":["{{ default }}","x"]}"#, &[(Variant::Default, "mx")]);
    check(r#"{"message":"m","fingerprint":["a","{{ level }}"]}"#, &[(Variant::CustomClientFingerprint, "aerror")]);
    check(r#"{"fingerprint":["{{ default }}","x"]}"#, &[(Variant::Fallback, "")]);
    let attached = r#""mechanism":{"type":"generic","synthetic":true},"stacktrace":{"frames":[{"function":"?","in_app":true,"filename":"a.js"}]}"#;
    check(&format!(r#"{{"platform":"node","message":"lag 7","exception":[{{"value":"lag 7",{attached}}}]}}"#), &[(Variant::Default, "lag <int>")]);
    check(&format!(r#"{{"platform":"node","exception":[{{"value":"lag: 7",{attached}}}]}}"#), &[(Variant::Default, "lag: <int>")]);
}

#[test]
fn a_checksum_that_is_a_hash_is_the_hash() {
    let text = "11212012123120120415201309082013";
    let got = hashes_of(&format!(r#"{{"checksum":"{text}"}}"#));
    assert_eq!((got[0].variant, got[0].text().as_str(), got.len()), (Variant::Checksum, text, 1));
}

/// Published expectations that the rules here meet; what is missing needs rules for stack traces.
const PUBLISHED_MATCHES_MIN: usize = 22;

#[test]
fn published_hashes() {
    let corpus = PathBuf::from(std::env::var_os("CARGO_MANIFEST_DIR").unwrap()).join("../../shared/corpus/grouping");
    let Ok(expected) = std::fs::read(corpus.join("expected.json")) else {
        eprintln!("skipped: there are no published hashes at {}", corpus.display());
        return;
    };
    let expected = Json::parse(&expected).unwrap();
    let (mut matches, mut misses) = (0, Vec::new());
    for (name, variants) in expected.as_object().unwrap().iter() {
        let contributing = variants.as_object().unwrap().iter().filter(|(_, v)| v.get("contributes").and_then(Json::as_bool) == Some(true));
        let want: BTreeMap<String, String> = contributing.map(|(v, info)| (v.to_owned(), info.str_at(&["hash"]).unwrap_or_default().to_owned())).collect();
        let input = std::fs::read_to_string(corpus.join("inputs").join(name)).unwrap();
        let got: BTreeMap<String, String> = hashes_of(&input).iter().map(|hash| (hash.variant.name().to_owned(), hash.text())).collect();
        if got == want { matches += 1 } else { misses.push(name) }
    }
    eprintln!("{matches} of {} published expectations are met; not: {misses:?}", matches + misses.len());
    assert!(matches >= PUBLISHED_MATCHES_MIN, "{matches} of {} met, fewer than {PUBLISHED_MATCHES_MIN}; not: {misses:?}", matches + misses.len());
}
