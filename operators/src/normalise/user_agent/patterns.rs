//! The patterns of uap-core, tried in their order; the first that fits says what the software is.
//!
//! There are over a thousand, so each is compiled when a user agent first contains what it cannot match without, and what a
//! user agent was found to be is remembered.

use std::borrow::Cow;
use std::cell::RefCell;
use std::collections::HashMap;
use std::sync::{LazyLock, OnceLock};

use regex::bytes::{Regex, RegexBuilder};
use regex_syntax::hir::{Hir, HirKind};

/// User agents that are remembered on a worker.
const REMEMBERED_MAX: usize = 1000;
/// A longer user agent is read up to here.
const USER_AGENT_BYTES_MAX: usize = 1024;
/// A compiled pattern may take this much memory; none of the patterns takes nearly as much.
const PATTERN_BYTES_MAX: usize = 2 << 20;

/// Members of a context.
pub type Members = Vec<(&'static str, String)>;

/// What a client's software is, as far as it says.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Agent {
    /// The context `browser`.
    pub browser: Option<Members>,
    /// The context `client_os`.
    pub system: Option<Members>,
    /// The context `device`.
    pub device: Option<Members>,
}

/// A pattern with what stands for its groups.
struct Pattern {
    source: &'static str,
    ignores_case: bool,
    /// In lower case, what every match contains; empty where nothing is known.
    needed: String,
    replacements: Vec<&'static str>,
    compiled: OnceLock<Option<Regex>>,
}

static BROWSERS: LazyLock<Vec<Pattern>> = LazyLock::new(|| patterns(include_str!("browsers.tsv"), false));
static SYSTEMS: LazyLock<Vec<Pattern>> = LazyLock::new(|| patterns(include_str!("systems.tsv"), false));
static DEVICES: LazyLock<Vec<Pattern>> = LazyLock::new(|| patterns(include_str!("devices.tsv"), true));

thread_local! {
    static REMEMBERED: RefCell<HashMap<String, Agent>> = RefCell::default();
}

/// What a user agent names.
pub fn agent(user_agent: &str) -> Agent {
    let end = (0..=user_agent.len().min(USER_AGENT_BYTES_MAX)).rev().find(|at| user_agent.is_char_boundary(*at)).unwrap_or_default();
    let user_agent = &user_agent[..end];
    if let Some(known) = REMEMBERED.with_borrow(|remembered| remembered.get(user_agent).cloned()) {
        return known;
    }
    let lower = user_agent.to_ascii_lowercase();
    let found = Agent {
        browser: first(&BROWSERS, user_agent, &lower).and_then(|groups| named(&groups)),
        system: first(&SYSTEMS, user_agent, &lower).and_then(|groups| named(&groups).map(without_frozen_version)),
        device: first(&DEVICES, user_agent, &lower).and_then(|groups| device(&groups)),
    };
    REMEMBERED.with_borrow_mut(|remembered| {
        if remembered.len() >= REMEMBERED_MAX {
            remembered.clear();
        }
        remembered.insert(user_agent.to_owned(), found.clone());
    });
    found
}

/// Name and version: up to three parts of it.
fn named(groups: &[Option<String>]) -> Option<Members> {
    let name = groups.first()?.clone().filter(|name| name != "Other")?;
    let parts: Vec<&str> = groups.iter().skip(1).take(3).map_while(|part| part.as_deref()).collect();
    let version = (!parts.is_empty()).then(|| ("version", parts.join(".")));
    Some([("name", name)].into_iter().chain(version).collect())
}

/// Browsers name these versions whatever the real one is, so long as it is no older.
fn without_frozen_version(mut system: Members) -> Members {
    let is_frozen = |name: &str, version: &str| matches!((name, version), ("Windows", "10") | ("Mac OS X", "10.15.7"));
    if let [(_, name), (_, version)] = system.as_mut_slice()
        && is_frozen(name, version)
    {
        version.insert_str(0, ">=");
    }
    system
}

fn device(groups: &[Option<String>]) -> Option<Members> {
    let family = groups.first()?.clone().filter(|family| family != "Other")?;
    let more = [("model", groups.get(2)), ("brand", groups.get(1))];
    let more = more.into_iter().filter_map(|(key, text)| Some((key, text?.clone()?)));
    Some([("family", family)].into_iter().chain(more).collect())
}

/// The groups of the first pattern that matches, after replacement.
fn first(patterns: &[Pattern], user_agent: &str, lower: &str) -> Option<Vec<Option<String>>> {
    patterns.iter().filter(|pattern| lower.contains(&pattern.needed)).find_map(|pattern| pattern.groups(user_agent))
}

impl Pattern {
    fn groups(&self, user_agent: &str) -> Option<Vec<Option<String>>> {
        let regex = self.compiled.get_or_init(|| {
            RegexBuilder::new(&escaped(self.source)).unicode(false).case_insensitive(self.ignores_case).size_limit(PATTERN_BYTES_MAX).build().ok()
        });
        let captures = regex.as_ref()?.captures(user_agent.as_bytes())?;
        let group = |index: usize| captures.get(index).map(|group| String::from_utf8_lossy(group.as_bytes()).into_owned());
        let count = self.replacements.len().max(captures.len() - 1).max(1);
        Some((0..count).map(|at| self.group(at, &group)).collect())
    }

    /// What stands for a group: its replacement, else the group itself.
    fn group(&self, at: usize, group: &impl Fn(usize) -> Option<String>) -> Option<String> {
        let text = match self.replacements.get(at).filter(|replacement| !replacement.is_empty()) {
            Some(replacement) => filled_in(replacement, group),
            // The model of a device is its first group; it has no third.
            None => group(at + 1)?,
        };
        Some(text.trim().to_owned()).filter(|text| !text.is_empty())
    }
}

/// `$1` to `$9` are groups.
fn filled_in(replacement: &str, group: &impl Fn(usize) -> Option<String>) -> String {
    let mut out = String::with_capacity(replacement.len());
    let mut rest = replacement;
    while let Some(at) = rest.find('$') {
        out.push_str(&rest[..at]);
        rest = &rest[at + 1..];
        match rest.chars().next().and_then(|c| c.to_digit(10)) {
            Some(index) => {
                out.push_str(&group(index as usize).unwrap_or_default());
                rest = &rest[1..];
            }
            None => out.push('$'),
        }
    }
    out.push_str(rest);
    out
}

/// The patterns of a table; those of devices have a column for flags.
fn patterns(table: &'static str, has_flags: bool) -> Vec<Pattern> {
    let lines = table.lines().filter(|line| !line.starts_with('#'));
    lines
        .map(|line| {
            let mut columns = line.split('\t');
            let source = columns.next().unwrap_or_default();
            let ignores_case = has_flags && columns.next() == Some("i");
            let replacements: Vec<&'static str> = if has_flags {
                // Family, brand, model; without a word on the model it is the first group, as the family is.
                let mut replacements: Vec<&'static str> = columns.collect();
                replacements.resize(3, "");
                replacements.iter_mut().filter(|text| text.is_empty()).for_each(|text| *text = "$1");
                let is_brand_given = line.split('\t').nth(3).is_some_and(|brand| !brand.is_empty());
                if !is_brand_given {
                    replacements[1] = "$0";
                }
                replacements
            } else {
                columns.collect()
            };
            Pattern { source, ignores_case, needed: needed(source, ignores_case), replacements, compiled: OnceLock::new() }
        })
        .collect()
}

/// Patterns are written for engines that take `\_` and the like for the character itself.
fn escaped(source: &str) -> Cow<'_, str> {
    if source.contains("\\_") || source.contains("\\!") || source.contains("\\ ") {
        Cow::Owned(source.replace("\\_", "_").replace("\\!", "!").replace("\\ ", " "))
    } else {
        Cow::Borrowed(source)
    }
}

/// The longest text, in lower case, that every match contains; empty where there is none.
fn needed(source: &str, ignores_case: bool) -> String {
    let parsed = regex_syntax::ParserBuilder::new().unicode(false).utf8(false).case_insensitive(ignores_case).build().parse(&escaped(source));
    parsed.map(|hir| needed_in(&hir)).unwrap_or_default()
}

fn needed_in(hir: &Hir) -> String {
    match hir.kind() {
        HirKind::Literal(literal) => String::from_utf8_lossy(&literal.0).to_ascii_lowercase(),
        HirKind::Capture(capture) => needed_in(&capture.sub),
        HirKind::Repetition(repetition) if repetition.min > 0 => needed_in(&repetition.sub),
        HirKind::Concat(parts) => {
            let (mut longest, mut run) = (String::new(), String::new());
            for part in parts {
                match (part.kind(), one_letter(part)) {
                    (HirKind::Literal(literal), _) => run.push_str(&String::from_utf8_lossy(&literal.0).to_ascii_lowercase()),
                    (_, Some(letter)) => run.push(letter),
                    _ => {
                        let inner = needed_in(part);
                        let ended = std::mem::take(&mut run);
                        longest = [longest, ended, inner].into_iter().max_by_key(String::len).unwrap_or_default();
                    }
                }
            }
            [longest, run].into_iter().max_by_key(String::len).unwrap_or_default()
        }
        _ => one_letter(hir).map(String::from).unwrap_or_default(),
    }
}

/// The letter that a class stands for in either case.
fn one_letter(hir: &Hir) -> Option<char> {
    let HirKind::Class(regex_syntax::hir::Class::Bytes(class)) = hir.kind() else { return None };
    match class.ranges() {
        [upper, lower]
            if upper.start() == upper.end()
                && lower.start() == lower.end()
                && upper.start().is_ascii_uppercase()
                && upper.start().to_ascii_lowercase() == lower.start() =>
        {
            Some(char::from(lower.start()))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_pattern_compiles() {
        for patterns in [&*BROWSERS, &*SYSTEMS, &*DEVICES] {
            for pattern in patterns.iter() {
                pattern.groups("");
                assert!(pattern.compiled.get().is_some_and(Option::is_some), "{}", pattern.source);
            }
        }
    }

    #[test]
    fn what_a_match_contains() {
        let check = |source: &str, ignores_case: bool, want: &str| assert_eq!(needed(source, ignores_case), want, "{source}");
        check(r"(Firefox)/(\d+)", false, "firefox");
        check(r"(?:Chrome|CrMo)/\d+", false, "/");
        check("^.{0,100}Spider", true, "spider");
        check(r"\d+", false, "");
    }

    #[test]
    fn user_agents() {
        let text = |members: &Option<Members>| members.iter().flatten().map(|(key, text)| format!("{key}={text}")).collect::<Vec<_>>().join(" ");
        let check = |user_agent: &str, browser: &str, system: &str, device: &str| {
            let agent = agent(user_agent);
            assert_eq!([text(&agent.browser), text(&agent.system), text(&agent.device)], [browser, system, device], "{user_agent}");
        };
        check(
            "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/120.0.0.0 Safari/537.36",
            "name=Chrome version=120.0.0",
            "name=Windows version=>=10",
            "",
        );
        check(
            "Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/17.1 Safari/605.1.15",
            "name=Safari version=17.1",
            "name=Mac OS X version=>=10.15.7",
            "family=Mac model=Mac brand=Apple",
        );
        check(
            "Mozilla/5.0 (Linux; Android 10; K) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/120.0.0.0 Mobile Safari/537.36",
            "name=Chrome Mobile version=120.0.0",
            "name=Android version=10",
            "family=K model=K brand=Generic_Android",
        );
        check("curl/8.4.0", "name=curl version=8.4.0", "", "");
        check("nonsense", "", "", "");
    }
}
