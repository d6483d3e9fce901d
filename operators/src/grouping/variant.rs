//! The kinds of hash that an event can have (`spec/grouping.md` section 1.3).

use std::fmt;

use super::component::Component;

/// The two ways to look at a stack.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stack {
    /// The application's own frames.
    App,
    /// All frames.
    System,
}

/// The kind of a hash.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[allow(missing_docs, reason = "the names, which Sentry shows, are the documentation")]
pub enum Variant {
    App,
    Default,
    CustomClientFingerprint,
    CustomServerFingerprint,
    BuiltInFingerprint,
    Checksum,
    HashedChecksum,
    Fallback,
    System,
}

impl Variant {
    /// Sentry's name.
    pub fn name(self) -> &'static str {
        match self {
            Self::App => "app",
            Self::Default => "default",
            Self::CustomClientFingerprint => "custom_client_fingerprint",
            Self::CustomServerFingerprint => "custom_server_fingerprint",
            Self::BuiltInFingerprint => "built_in_fingerprint",
            Self::Checksum => "checksum",
            Self::HashedChecksum => "hashed_checksum",
            Self::Fallback => "fallback",
            Self::System => "system",
        }
    }
}

impl fmt::Display for Variant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// The components of one strategy, by variant, in the order of the variants' precedence.
pub type Variants = Vec<(Variant, Component)>;

/// The variants of a strategy that looks at stacks, with those that must not contribute turned off: a `system` that says the same
/// as `app`, and a variant without a stack beside one with.
pub fn of_stacks(app: Component, system: Option<Component>) -> Variants {
    let mut app = app;
    let Some(system) = system else { return vec![(Variant::App, app)] };
    let repeats = app.contributes && system.contributes && app.leaves().concat() == system.leaves().concat();
    let mut system = system.off_if(repeats);
    if app.has_stacktrace() || system.has_stacktrace() {
        app.contributes &= app.has_stacktrace();
        system.contributes &= system.has_stacktrace();
    }
    vec![(Variant::App, app), (Variant::System, system)]
}

#[cfg(test)]
mod tests {
    use super::super::component::Kind;
    use super::*;

    #[test]
    fn variants_without_a_stack_yield_to_those_with() {
        let stack = |text: &str| Component::of_kind(Kind::Stacktrace, vec![Component::text(text)]);
        let check = |app: Component, system: Component, want: (bool, bool)| {
            let variants = of_stacks(app, Some(system));
            assert_eq!((variants[0].1.contributes, variants[1].1.contributes), want);
        };
        check(stack("a"), stack("b"), (true, true));
        check(stack("a"), stack("a"), (true, false));
        check(Component::text("a"), stack("b"), (false, true));
        check(Component::text("a"), Component::text("a"), (true, false));
        check(Component::empty(), stack("b"), (false, true));
    }
}
