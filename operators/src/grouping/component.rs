//! The tree whose leaves are hashed (`spec/grouping.md` section 1.4).

use md5::{Digest, Md5};

/// What a component stands for, where something asks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A stack trace.
    Stacktrace,
    /// Anything else.
    Other,
}

/// A node: it contributes to the hash or not, and has texts and components below.
#[derive(Debug, Clone, PartialEq)]
pub struct Component {
    kind: Kind,
    /// Whether the leaves below are hashed.
    pub contributes: bool,
    values: Vec<Value>,
}

#[derive(Debug, Clone, PartialEq)]
enum Value {
    Text(String),
    Component(Component),
}

impl Component {
    /// A node of one text.
    pub fn text(text: impl Into<String>) -> Self {
        Self { kind: Kind::Other, contributes: true, values: vec![Value::Text(text.into())] }
    }

    /// A node of one text where there is one; without it the node does not contribute.
    pub fn optional(text: Option<impl Into<String>>) -> Self {
        text.map_or_else(Self::empty, Self::text)
    }

    /// A node that never contributes.
    pub fn empty() -> Self {
        Self { kind: Kind::Other, contributes: false, values: Vec::new() }
    }

    /// A node of nodes. It contributes where one of them does now; turning one off later does not turn it off.
    pub fn of(children: Vec<Self>) -> Self {
        Self::of_kind(Kind::Other, children)
    }

    /// The same for a kind.
    pub fn of_kind(kind: Kind, children: Vec<Self>) -> Self {
        let contributes = children.iter().any(|child| child.contributes);
        Self { kind, contributes, values: children.into_iter().map(Value::Component).collect() }
    }

    /// The same node, not contributing where the condition holds.
    pub fn off_if(mut self, condition: bool) -> Self {
        self.contributes &= !condition;
        self
    }

    /// The contributing texts from left to right.
    pub fn leaves(&self) -> Vec<&str> {
        let mut leaves = Vec::new();
        self.gather(&mut leaves);
        leaves
    }

    fn gather<'c>(&'c self, leaves: &mut Vec<&'c str>) {
        if !self.contributes {
            return;
        }
        for value in &self.values {
            match value {
                Value::Text(text) => leaves.push(text),
                Value::Component(component) => component.gather(leaves),
            }
        }
    }

    /// Whether a stack trace contributes, here or below.
    pub fn has_stacktrace(&self) -> bool {
        self.contributes
            && (self.kind == Kind::Stacktrace
                || self.values.iter().any(|value| match value {
                    Value::Text(_) => false,
                    Value::Component(component) => component.has_stacktrace(),
                }))
    }
}

/// MD5 over the texts without anything between them, as Sentry does it.
pub fn hash<'t>(leaves: impl IntoIterator<Item = &'t str>) -> [u8; 16] {
    let mut md5 = Md5::new();
    leaves.into_iter().for_each(|leaf| md5.update(leaf.as_bytes()));
    md5.finalize().into()
}

#[cfg(test)]
mod tests {
    use weir_protocol::ids::hex;

    use super::*;

    #[test]
    fn contributing_leaves_are_hashed_without_separators() {
        let check = |component: Component, want: &str| assert_eq!(hex(&hash(component.leaves())), want);
        check(Component::of(vec![Component::text("ValueError"), Component::text("hello world")]), "b23ee1963904c2ca87b145febf94b66c");
        check(Component::empty(), "d41d8cd98f00b204e9800998ecf8427e");
        check(Component::of(vec![Component::text("x").off_if(true), Component::text("hello world")]), "5eb63bbbe01eeed093cb22bb8f5acdc3");
    }

    #[test]
    fn a_parent_keeps_what_it_was() {
        let off = Component::of(vec![Component::text("x")]).off_if(true);
        assert!(!Component::of(vec![off.clone()]).contributes);
        assert!(Component::of(vec![off, Component::text("y")]).contributes);
        assert!(Component::of(vec![Component::of_kind(Kind::Stacktrace, vec![Component::text("f")])]).has_stacktrace());
        assert!(!Component::of(vec![Component::text("f")]).has_stacktrace());
    }
}
