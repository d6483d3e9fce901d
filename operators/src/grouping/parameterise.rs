//! Messages without what varies in them: numbers, ids, addresses, dates (`spec/grouping.md` section 1.10).
//!
//! Named patterns searched for together: the leftmost match counts, and of several there the first pattern in the list.
//!
//! The engine under the `regex` crate is used itself, since it says which pattern matched. As groups of one expression that took a
//! second, much slower search for each match, and nearly every word is one.

use std::borrow::Cow;
use std::sync::LazyLock;

use regex_automata::Input;
use regex_automata::meta::{self, Regex};
use regex_automata::util::syntax;

/// Non-blank lines of a message that count.
const LINE_COUNT_MAX: usize = 2;

const WEEKDAY: &str = "(?:Mon|Tue|Wed|Thu|Fri|Sat|Sun)";
const LONG_WEEKDAY: &str = "(?:Monday|Tuesday|Wednesday|Thursday|Friday|Saturday|Sunday)";
const MONTH: &str = "(?:Jan|Feb|Mar|Apr|May|Jun|Jul|Aug|Sep|Oct|Nov|Dec)";
const CLOCK: &str = "[0-2][0-9]:[0-5][0-9]:[0-5][0-9]";
const ZONE: &str = "(?:[+-][0-9]{2}:?[0-9]{2}|Z|UTC?|GMT|[ECMP][SD]T)";
/// Endings of host names that people use; few of them are also endings of files or names of methods.
const TOP_LEVEL: &str = "com|org|net|edu|gov|mil|info|biz|io|dev|app|ai|cloud|xyz|online|site|tech|store|shop|blog|club|eu|us|uk|de|fr|nl|be|ch|at|es|pt|it|pl|cz|sk|hu|ro|bg|gr|dk|se|fi|ie|lt|lv|ee|ua|ru|tr|il|ae|sa|za|ng|ke|eg|in|pk|lk|cn|jp|kr|tw|hk|sg|my|th|vn|ph|au|nz|ca|mx|br|ar|cl|pe|tv|me|cc";

/// A word that only its letters and digits make an id; see [`name_of_word`].
const WORD: &str = "word";

/// Name and pattern, in the order in which they are tried. What may run on without an end in sight has a bound: a candidate that
/// stays open to the end of the text at every place would cost the square of its length.
fn patterns() -> Vec<(&'static str, String)> {
    let h = "[0-9a-fA-F]{1,4}";
    let octet = "(?:25[0-5]|2[0-4][0-9]|1[0-9]{2}|[1-9]?[0-9])";
    let ipv4 = format!(r"{octet}(?:\.{octet}){{3}}");
    let ipv6 = [
        format!(r"\b(?:{h}:){{7}}{h}\b"),
        format!(r"(?:\b(?:{h}:){{1,4}}|\B:)(?::ffff(?::0{{1,4}})?)?:{ipv4}\b"),
        format!(r"\b(?:{h}:){{1,6}}:{h}\b"),
        format!(r"\b(?:{h}:){{1,5}}(?::{h}){{1,2}}\b"),
        format!(r"\b(?:{h}:){{1,4}}(?::{h}){{1,3}}\b"),
        format!(r"\b(?:{h}:){{1,3}}(?::{h}){{1,4}}\b"),
        format!(r"\b(?:{h}:){{1,2}}(?::{h}){{1,5}}\b"),
        format!(r"\b{h}:(?::{h}){{1,6}}\b"),
        format!(r"\B:(?::{h}){{1,7}}\b"),
        format!(r"\b(?:{h}:){{1,7}}:\B"),
    ];
    let dates = [
        format!(r"{WEEKDAY},?\s[0-9]{{1,2}}\s{MONTH}\s[0-9]{{2,4}}\s[0-9]{{2}}:[0-9]{{2}}(?::[0-9]{{2}})?(?:\s{ZONE})?"),
        format!(r"{LONG_WEEKDAY},\s[0-9]{{2}}-{MONTH}-[0-9]{{2,4}}\s{CLOCK}(?:\s{ZONE})?"),
        format!(r"{WEEKDAY}\s{MONTH}\s[0-9]{{1,2}}\s[0-9]{{4}}\s{CLOCK}\sGMT[+-][0-9]{{4}}(?:\s\([^)]*\))?"),
        format!(r"{WEEKDAY}\s{MONTH}\s+[0-9]{{1,2}}\s{CLOCK}(?:\s{ZONE})?\s[0-9]{{4}}"),
        format!(r"(?:{WEEKDAY}\s)?{MONTH}\s[0-9]{{1,2}},\s[0-9]{{2,4}}(?:\s{CLOCK})?"),
        format!(r"[0-9]{{4}}-?[01][0-9]-?[0-3][0-9][T\s][0-2][0-9]:[0-5][0-9](?::[0-5][0-9](?:[.,][0-9]+)?)?(?:\s?{ZONE}\b)?"),
        r"[1-9][0-9]?:[0-9]{2}(?::[0-9]{2})?(?:\s[aApP][mM])?\b".to_owned(),
        r"[0-9]{4}-[01][0-9]-[0-3][0-9]\b".to_owned(),
        format!(r"{CLOCK}(?:[.,][0-9]+)?\b"),
        r"datetime\.datetime\([^)]*\)".to_owned(),
    ];
    let upper = TOP_LEVEL.to_uppercase();
    vec![
        ("email", r"[a-zA-Z0-9.!#$%&'*+/=?^_`{|}~-]{1,64}@[a-zA-Z0-9-]{1,63}(?:\.[a-zA-Z0-9-]{1,63}){0,8}".to_owned()),
        ("url", r"\b(?:wss?|https?|ftp)://\S+".to_owned()),
        ("hostname", format!(r"\b(?:[a-z0-9][a-z0-9-]{{0,62}}\.){{1,8}}(?:{TOP_LEVEL})\b|\b(?:[A-Z0-9][A-Z0-9-]{{0,62}}\.){{1,8}}(?:{upper})\b")),
        ("ip", format!(r"{}|\b{ipv4}\b", ipv6.join("|"))),
        ("traceparent", r"\b00-[0-9a-f]{32}-[0-9a-f]{16}-0[01]\b|\b1-[0-9a-f]{8}-[0-9a-f]{24}\b".to_owned()),
        ("uuid", r"\b[0-9a-fA-F]{8}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{12}\b".to_owned()),
        ("sha1", r"\b[0-9a-fA-F]{40}\b".to_owned()),
        ("md5", r"\b[0-9a-fA-F]{32}\b".to_owned()),
        ("date", format!(r"\b(?:{})", dates.join("|"))),
        ("duration", r"\b[0-9]+ms\b|\b[0-9]+(?:\.[0-9]+)?s\b".to_owned()),
        ("swift_txn_id", r"\btx[0-9a-f]{21}-[0-9a-f]{10}\S*".to_owned()),
        ("hex", r"(?:\B-|\b)0[xX][0-9a-fA-F]+\b|(?:\B-|\b)(?:[0-9a-f]{8,128}|[0-9A-F]{8,128})\b".to_owned()),
        ("float", NUMBER[0].1.to_owned()),
        (WORD, r"(?:\B-|\b)[0-9A-Za-z]{4,128}\b".to_owned()),
        ("int", NUMBER[1].1.to_owned()),
        ("quoted_str", r#"='[^']*'|="[^"]*""#.to_owned()),
        ("bool", r"=(?:true|false|True|False)\b".to_owned()),
    ]
}

const NUMBER: [(&str, &str); 2] = [("float", r"(?:\B-|\b)[0-9]+\.[0-9]+\b"), ("int", r"(?:\B-|\b)[0-9]{1,7}\b")];

struct Parameters {
    names: Vec<&'static str>,
    all: Regex,
}

static PARAMETERS: LazyLock<Parameters> = LazyLock::new(|| {
    let (names, patterns): (Vec<&'static str>, Vec<String>) = patterns().into_iter().unzip();
    // What is searched is ASCII; see `in_ascii`.
    let ascii = syntax::Config::new().unicode(false).utf8(false);
    let all = Regex::builder().configure(meta::Config::new().utf8_empty(false)).syntax(ascii).build_many(&patterns);
    Parameters { names, all: all.expect("the patterns are valid expressions") }
});

/// A message or an exception's value as it is hashed: its first lines, parameterised.
pub fn message(text: &str) -> String {
    self::text(&first_lines(text))
}

/// The first non-blank lines, with `...` where that leaves anything out.
fn first_lines(text: &str) -> Cow<'_, str> {
    let kept: Vec<&str> = text.lines().filter(|line| !line.trim().is_empty()).take(LINE_COUNT_MAX).collect();
    let kept = kept.join("\n");
    let kept = kept.trim();
    if kept == text { text.into() } else { format!("{kept}...").into() }
}

/// A text with `<name>` in place of what varies.
pub fn text(text: &str) -> String {
    let searched = in_ascii(text);
    let mut out = String::with_capacity(text.len());
    let mut at = 0;
    while let Some(found) = PARAMETERS.all.find(Input::new(searched.as_ref()).range(at..)) {
        let (name, range) = (PARAMETERS.names[found.pattern().as_usize()], found.range());
        out.push_str(&text[at..range.start]);
        push_parameter(&mut out, name, &text[range.clone()]);
        at = range.end;
    }
    out.push_str(&text[at..]);
    out
}

/// The text with every other character replaced by as many ASCII ones as it has bytes: `_` for letters and digits, which are part of a
/// word but of no pattern, a blank for blanks, a control character for the rest.
///
/// The search engine is a hundred times slower where word boundaries have to be found among other characters.
fn in_ascii(text: &str) -> Cow<'_, str> {
    if text.is_ascii() {
        return text.into();
    }
    let stand_in = |c: char| match c {
        c if c.is_ascii() => c,
        c if c.is_alphanumeric() => '_',
        c if c.is_whitespace() => ' ',
        _ => '\u{1}',
    };
    text.chars().flat_map(|c| std::iter::repeat_n(stand_in(c), c.len_utf8())).collect::<String>().into()
}

fn push_parameter(out: &mut String, name: &'static str, matched: &str) {
    match name {
        WORD => match name_of_word(matched) {
            Some(name) => push(out, name),
            None => out.push_str(matched),
        },
        "quoted_str" | "bool" => {
            out.push('=');
            push(out, name);
        }
        "email" => {
            // An address begins after the last letter that it cannot have.
            let foreign = matched.char_indices().rev().find(|(_, c)| !c.is_ascii()).map_or(0, |(at, c)| at + c.len_utf8());
            out.push_str(&matched[..foreign]);
            if matched[foreign..].starts_with('@') { out.push_str(&matched[foreign..]) } else { push(out, name) }
        }
        name => push(out, name),
    }
}

fn push(out: &mut String, name: &str) {
    out.extend(["<", name, ">"]);
}

/// What a word of letters and digits is, where it is an id.
///
/// Sentry's pattern for random ids is not published; ours takes eight characters or more with three changes between letters and
/// digits.
fn name_of_word(matched: &str) -> Option<&'static str> {
    let word = matched.trim_start_matches('-');
    let has_digit = word.bytes().any(|c| c.is_ascii_digit());
    let has_letter = word.bytes().any(|c| c.is_ascii_alphabetic());
    let is_hex = |letters: fn(&u8) -> bool| word.bytes().all(|c| c.is_ascii_digit() || letters(&c));
    let (is_lower, is_upper) = (is_hex(|c| matches!(c, b'a'..=b'f')), is_hex(|c| matches!(c, b'A'..=b'F')));
    match word.len() {
        1..=7 if !has_letter => Some("int"),
        _ if !has_digit || !has_letter => None,
        4..=6 if is_lower || is_upper => Some("hex"),
        7 if is_lower && matched.len() == 7 => Some("git_sha"),
        8.. if switches(word) >= 3 => Some("random_id"),
        _ => None,
    }
}

/// Changes between letters and digits.
fn switches(word: &str) -> usize {
    word.as_bytes().windows(2).filter(|pair| pair[0].is_ascii_digit() != pair[1].is_ascii_digit()).count()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_varies_is_replaced() {
        let check = |given: &str, want: &str| assert_eq!(text(given), want, "{given}");
        check("nothing varies here", "nothing varies here");
        check("order 4711 of 3.5 kg", "order <int> of <float> kg");
        check("delta -12 but foo-12", "delta <int> but foo-<int>");
        check("12345678 is long", "<hex> is long");
        check("write to ann@example.org at https://h.example/a?b=1, now", "write to <email> at <url> now");
        check("host db-1.example.com down", "host <hostname> down");
        check("no main.py or this.state", "no main.py or this.state");
        check("127.0.0.1 and ::1 and 2001:0db8:85a3:0000:0000:8a2e:0370:7334", "<ip> and <ip> and <ip>");
        check("std::fmt core::bad", "std::fmt core::bad");
        check("88ee7c66-29a9-4a4a-bc26-c72d76c5de14", "<uuid>");
        check("da39a3ee5e6b4b0d3255bfef95601890afd80709 d41d8cd98f00b204e9800998ecf8427e", "<sha1> <md5>");
        check("at 2019-04-17T20:29:05Z or 2019-04-17 or Wed Apr 17 22:31:45 2019:", "at <date> or <date> or <date>:");
        check("at 2019-04-17 20:29:05.123456 +0200 x", "at <date> x");
        check("Mon, 02 Jan 2006 15:04:05 GMT", "<date>");
        check("took 12ms then 1.5s", "took <duration> then <duration>");
        check("offset 0xfeedbeef, a1b2c, A1B2, 1a2b3c4", "offset <hex>, <hex>, <hex>, <git_sha>");
        check("id x1b2c3y4z5 of utf8", "id <random_id> of utf8");
        check("a='b c' ok=true 'b'", "a=<quoted_str> ok=<bool> 'b'");
        check("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01", "<traceparent>");
        check("é 7 ü-7 é8 “9”\u{a0}x=true", "é <int> ü-<int> é8 “<int>”\u{a0}x=<bool>");
        check("ann.müller@example.org é@example.org", "ann.mü<email> é@example.org");
    }

    #[test]
    fn two_lines_count() {
        let check = |given: &str, want: &str| assert_eq!(message(given), want, "{given}");
        check("one", "one");
        check("one\ntwo", "one\ntwo");
        check("one\n\ntwo\nthree", "one\ntwo...");
        check("one\n", "one...");
        check("\n", "...");
        check("", "");
    }
}
