//! Grouping: the hashes that tell which issue an event belongs to (`spec/grouping.md` section 1).
//!
//! A pure function of the normalised event and the rules. Hashes equal those that Sentry's newest configuration gives, with one
//! exception: an event whose only exceptions were attached to its message by the SDK is grouped by the message, since the stack of
//! `captureMessage` would put unrelated messages into one issue.
//!
//! | module | noun |
//! |---|---|
//! | [`component`] | the tree whose leaves are hashed |
//! | [`variant`] | the kinds of hash, and which of them count |
//! | [`frame`], [`stacktrace`], [`exception`], [`security`] | what of each is hashed |
//! | [`parameterise`] | messages without what varies in them |
//! | [`fingerprint`] | what an SDK wants hashed instead |

use weir_protocol::ids::{hex, parse_hex16};
use weir_protocol::json::Json;

pub mod component;
pub mod exception;
pub mod fingerprint;
pub mod frame;
pub mod parameterise;
pub mod security;
pub mod stacktrace;
pub mod variant;

#[cfg(test)]
#[allow(clippy::disallowed_methods, reason = "the tests read recorded input")]
mod tests;

pub use variant::Variant;

use crate::event;
use component::{Component, hash};
use fingerprint::Part;
use variant::{Stack, Variants, of_stacks};

/// The configuration that the hashes follow, stored with each event.
pub const CONFIG: &str = "newstyle:2026-01-20";

/// A project's rules for stack traces and fingerprints. It has none yet: frames are the application's own where the SDK says so.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Rules {}

/// One hash of an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct GroupHash {
    /// What it is a hash of.
    pub variant: Variant,
    /// MD5.
    pub hash: [u8; 16],
}

impl GroupHash {
    /// The hash as Sentry shows it.
    pub fn text(&self) -> String {
        hex(&self.hash)
    }
}

/// The hashes of a normalised event, the primary one first; there is always one.
pub fn hashes(event: &Json<'_>, _rules: &Rules) -> Vec<GroupHash> {
    if let Some(checksum) = event::text(event, "checksum") {
        return vec![of_checksum(checksum)];
    }
    let parts = fingerprint::parts(event);
    if !parts.contains(&Part::Default) {
        return vec![GroupHash { variant: Variant::CustomClientFingerprint, hash: hash(parts.iter().flat_map(|part| leaves(part, &[]))) }];
    }
    let mut hashes: Vec<GroupHash> = Vec::new();
    for (variant, component) in contributing(event) {
        let default = component.leaves();
        let hash = hash(parts.iter().flat_map(|part| leaves(part, &default)));
        if !hashes.iter().any(|other| other.hash == hash) {
            hashes.push(GroupHash { variant, hash });
        }
    }
    hashes.sort_by_key(|hash| hash.variant);
    if hashes.is_empty() {
        hashes.push(GroupHash { variant: Variant::Fallback, hash: hash([]) });
    }
    hashes
}

fn leaves<'p>(part: &'p Part, default: &[&'p str]) -> Vec<&'p str> {
    match part {
        Part::Default => default.to_vec(),
        Part::Text(text) => vec![text],
    }
}

/// A checksum that looks like a hash is the hash; any other is hashed.
fn of_checksum(checksum: &str) -> GroupHash {
    let is_hash = checksum.len() == 32 && checksum.bytes().all(|c| matches!(c, b'0'..=b'9' | b'a'..=b'f'));
    match parse_hex16(checksum).filter(|_| is_hash) {
        Some(hash) => GroupHash { variant: Variant::Checksum, hash },
        None => GroupHash { variant: Variant::HashedChecksum, hash: hash([checksum]) },
    }
}

/// The strategies in their order; each gives the variants of one part of the event.
const STRATEGIES: [fn(&Json<'_>) -> Variants; 6] = [attached_message, exception::variants, threads, top_stacktrace, template_or_report, message];

/// The contributing variants of the first strategy that has one.
fn contributing(event: &Json<'_>) -> Variants {
    let of = |strategy: fn(&Json<'_>) -> Variants| strategy(event).into_iter().filter(|(_, component)| component.contributes).collect::<Variants>();
    STRATEGIES.into_iter().map(of).find(|variants| !variants.is_empty()).unwrap_or_default()
}

/// The message of an event whose exceptions the SDK made to carry a stack; see [`event::is_attached_stack`].
fn attached_message(event: &Json<'_>) -> Variants {
    let exceptions = event::exceptions(event);
    if exceptions.is_empty() || !exceptions.iter().all(|exception| event::is_attached_stack(exception)) {
        return Variants::new();
    }
    let of_message = message(event);
    if !of_message.is_empty() {
        return of_message;
    }
    let value = exceptions.last().and_then(|exception| event::text(exception, "value"));
    vec![(Variant::Default, Component::optional(value.map(parameterise::message)))]
}

fn threads(event: &Json<'_>) -> Variants {
    event::relevant_thread(event).map(|thread| of_stack(thread, event)).unwrap_or_default()
}

fn top_stacktrace(event: &Json<'_>) -> Variants {
    of_stack(event, event)
}

fn of_stack(holder: &Json<'_>, event: &Json<'_>) -> Variants {
    if holder.get("stacktrace").is_none() {
        return Variants::new();
    }
    let platform = event.str_at(&["platform"]).unwrap_or_default();
    of_stacks(stacktrace::component(holder, platform, Stack::App), Some(stacktrace::component(holder, platform, Stack::System)))
}

fn template_or_report(event: &Json<'_>) -> Variants {
    let Some(template) = event.get("template") else { return security::variants(event) };
    let file = event::text(template, "filename").or_else(|| event::text(template, "abs_path"));
    let component = Component::of(vec![Component::optional(file), Component::optional(event::text(template, "context_line"))]);
    if component.contributes { vec![(Variant::Default, component)] } else { security::variants(event) }
}

fn message(event: &Json<'_>) -> Variants {
    let Some(entry) = event.get("logentry") else { return Variants::new() };
    let Some(text) = event::text(entry, "message").or_else(|| event::text(entry, "formatted")) else { return Variants::new() };
    let text = parameterise::message(text);
    if text.is_empty() { Variants::new() } else { vec![(Variant::Default, Component::text(text))] }
}
