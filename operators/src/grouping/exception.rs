//! What of exceptions is hashed: one, a chain, or the leaves of an exception group (`spec/grouping.md` section 1.8).

use std::collections::{BTreeMap, BTreeSet};

use weir_protocol::json::Json;

use super::component::Component;
use super::parameterise;
use super::stacktrace;
use super::variant::{self, Stack, Variants};
use crate::event;

/// The variants of an event's exceptions; none without one.
pub fn variants(event: &Json<'_>) -> Variants {
    let exceptions = grouped(event).exceptions;
    if exceptions.is_empty() {
        return Variants::new();
    }
    let platform = event.str_at(&["platform"]).unwrap_or_default();
    let app = joined(exceptions.iter().map(|exception| component(exception, platform, Stack::App)).collect());
    let with_stack: Vec<_> = exceptions.iter().filter(|exception| exception.get("stacktrace").is_some()).collect();
    let system = (!with_stack.is_empty()).then(|| joined(with_stack.into_iter().map(|exception| component(exception, platform, Stack::System)).collect()));
    variant::of_stacks(app, system)
}

/// The exception that the event is called after: the one that an exception group comes down to, else the last.
pub fn main<'e, 'a>(event: &'e Json<'a>) -> Option<&'e Json<'a>> {
    grouped(event).main
}

fn joined(mut components: Vec<Component>) -> Component {
    match (components.len(), components.pop()) {
        (1, Some(only)) => only,
        (_, Some(last)) => {
            components.push(last);
            Component::of(components)
        }
        (_, None) => Component::empty(),
    }
}

/// One exception: type, value, the error of Apple's frameworks, stack.
fn component(exception: &Json<'_>, platform: &str, variant: Stack) -> Component {
    let is_synthetic = exception.at(&["mechanism", "synthetic"]).and_then(Json::as_bool) == Some(true);
    let stack = stacktrace::component(exception, platform, variant);
    let ns_error = ns_error(exception);
    let kind = Component::optional(event::text(exception, "type")).off_if(is_synthetic);
    let value = event::text(exception, "value").map(parameterise::message).filter(|value| !value.is_empty());
    let value = Component::optional(value).off_if(stack.contributes || ns_error.is_some());
    Component::of(vec![kind, value, ns_error.unwrap_or_else(Component::empty), stack])
}

fn ns_error(exception: &Json<'_>) -> Option<Component> {
    let error = exception.at(&["mechanism", "meta", "ns_error"])?;
    let domain = Component::optional(event::text(error, "domain"));
    let code = Component::optional(error.get("code").and_then(Json::as_i64).map(|code| code.to_string()));
    Some(Component::of(vec![domain, code]))
}

struct Grouped<'e, 'a> {
    exceptions: Vec<&'e Json<'a>>,
    main: Option<&'e Json<'a>>,
}

/// The exceptions that are hashed, and the main one.
fn grouped<'e, 'a>(event: &'e Json<'a>) -> Grouped<'e, 'a> {
    let all = event::exceptions(event);
    let reduced = if all.len() > 1 && !is_python_3(event) { reduced(&all, event.str_at(&["platform"]).unwrap_or_default()) } else { None };
    reduced.unwrap_or_else(|| Grouped { main: all.last().copied(), exceptions: all })
}

/// Python's SDK 3 numbers its exceptions in another way.
fn is_python_3(event: &Json<'_>) -> bool {
    event.str_at(&["platform"]) == Some("python") && event.str_at(&["sdk", "version"]).is_some_and(|version| version.starts_with("3."))
}

/// The tree of an exception group.
struct Tree<'e, 'a> {
    by_id: BTreeMap<u64, &'e Json<'a>>,
    /// The children in the reverse order of the payload: first the one that was raised first.
    children: BTreeMap<u64, Vec<u64>>,
}

impl<'e, 'a> Tree<'e, 'a> {
    /// `None` where the ids do not make a tree below 0.
    fn of(exceptions: &[&'e Json<'a>]) -> Option<Self> {
        let mut tree = Self { by_id: BTreeMap::new(), children: BTreeMap::new() };
        let number = |exception: &Json<'_>, key| exception.at(&["mechanism", key]).and_then(Json::as_u64);
        for &exception in exceptions.iter().rev() {
            let id = number(exception, "exception_id")?;
            let parent = number(exception, "parent_id");
            if parent == Some(id) || tree.by_id.insert(id, exception).is_some() {
                return None;
            }
            if let Some(parent) = parent {
                tree.children.entry(parent).or_default().push(id);
            }
        }
        tree.by_id.contains_key(&0).then_some(tree)
    }

    fn children(&self, id: u64) -> &[u64] {
        self.children.get(&id).map(Vec::as_slice).unwrap_or_default()
    }

    fn is_group(&self, id: u64) -> bool {
        self.by_id.get(&id).and_then(|exception| exception.at(&["mechanism", "is_exception_group"])).and_then(Json::as_bool) == Some(true)
    }

    /// The exceptions nearest the root that are no groups; `None` where the ids run in a circle.
    fn top_level(&self) -> Option<Vec<u64>> {
        let (mut found, mut seen, mut open) = (Vec::new(), BTreeSet::new(), vec![0]);
        while let Some(id) = open.pop() {
            if !seen.insert(id) {
                return None;
            }
            match self.is_group(id) {
                true => open.extend(self.children(id).iter().rev()),
                false => found.push(id),
            }
        }
        Some(found)
    }

    /// An exception and its first children down the chain; `None` where they run in a circle.
    fn chain(&self, id: u64) -> Option<Vec<u64>> {
        let (mut chain, mut seen, mut next) = (Vec::new(), BTreeSet::new(), Some(id));
        while let Some(id) = next {
            if !seen.insert(id) {
                return None;
            }
            chain.push(id);
            next = self.children(id).first().copied();
        }
        Some(chain)
    }
}

/// An exception group that comes down to distinct exceptions; `None` where there is no group or its ids make no tree.
fn reduced<'e, 'a>(exceptions: &[&'e Json<'a>], platform: &str) -> Option<Grouped<'e, 'a>> {
    let tree = Tree::of(exceptions)?;
    if !tree.is_group(0) {
        return None;
    }
    let name = |id: &u64| tree.by_id.get(id).and_then(|exception| event::text(exception, "type")).unwrap_or_default();
    let mut top = tree.top_level()?;
    top.sort_by(|a, b| name(b).cmp(name(a)));
    let both = |id: &u64| tree.by_id.get(id).map(|exception| [Stack::App, Stack::System].map(|stack| component(exception, platform, stack)));
    top.dedup_by(|a, b| both(a) == both(b));
    match top.as_slice() {
        [] => None,
        [only] => {
            let chain: Vec<_> = tree.chain(*only)?.iter().filter_map(|id| tree.by_id.get(id).copied()).collect();
            Some(Grouped { main: chain.first().copied(), exceptions: chain.into_iter().rev().collect() })
        }
        several => {
            let exceptions: Vec<_> = several.iter().chain(&[0]).filter_map(|id| tree.by_id.get(id).copied()).collect();
            Some(Grouped { main: exceptions.last().copied(), exceptions })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn leaves(exceptions: &str) -> (String, String) {
        let text = format!(r#"{{"exception":{{"values":{exceptions}}}}}"#);
        let event = Json::parse(text.as_bytes()).unwrap();
        let app = variants(&event).first().map(|(_, component)| component.leaves().join(" ")).unwrap_or_default();
        (app, main(&event).and_then(|exception| event::text(exception, "type")).unwrap_or_default().to_owned())
    }

    #[test]
    fn exceptions() {
        let check = |exceptions: &str, want: &str, main: &str| assert_eq!(leaves(exceptions), (want.to_owned(), main.to_owned()), "{exceptions}");
        check(r#"[{"type":"A","value":"in 3 s"}]"#, "A in <int> s", "A");
        check(r#"[{"type":"A","value":"v","mechanism":{"type":"generic","synthetic":true}}]"#, "v", "A");
        check(r#"[{"type":"A","value":"v","stacktrace":{"frames":[{"function":"f","in_app":true}]}}]"#, "A f", "A");
        check(r#"[{"type":"A","value":"v","mechanism":{"meta":{"ns_error":{"domain":"d","code":-7}}}}]"#, "A d -7", "A");
        check(r#"[{"type":"A"},{"type":"B"}]"#, "A B", "B");
        check("[]", "", "");
        let inner = |id: u32, kind: &str| format!(r#"{{"type":"{kind}","mechanism":{{"exception_id":{id},"parent_id":0}}}}"#);
        let group = r#"{"type":"G","mechanism":{"exception_id":0,"is_exception_group":true}}"#;
        check(&format!("[{},{},{group}]", inner(2, "A"), inner(1, "A")), "A", "A");
        check(&format!("[{},{},{group}]", inner(2, "A"), inner(1, "B")), "B A G", "G");
        check(&format!("[{},{},{group}]", inner(1, "A"), inner(1, "B")), "A B G", "G");
        check(
            r#"[{"type":"A","mechanism":{"exception_id":1,"parent_id":2,"is_exception_group":true}},{"type":"B","mechanism":{"exception_id":2,"parent_id":1,"is_exception_group":true}}]"#,
            "A B",
            "B",
        );
    }
}
