//! What of a stack trace is hashed (`spec/grouping.md` section 1.7).

use weir_protocol::json::Json;

use super::component::{Component, Kind};
use super::frame::{Family, Frame};
use super::variant::Stack;
use crate::event;

/// The component of a holder's stack trace; without frames one that does not contribute.
pub fn component(holder: &Json<'_>, platform: &str, variant: Stack) -> Component {
    let frames: Vec<Frame<'_>> = event::frames(holder).into_iter().map(|frame| Frame::read(frame, platform)).collect();
    let mut components = Vec::with_capacity(frames.len());
    let mut before: Option<&Frame<'_>> = None;
    for frame in &frames {
        let is_recursion = before.is_some_and(|before| frame.repeats(before));
        let is_foreign = variant == Stack::App && !frame.in_app;
        components.push(frame.component().off_if(is_recursion || is_foreign));
        before = Some(frame);
    }
    if let ([frame], [component]) = (frames.as_slice(), components.as_mut_slice())
        && Family::of(frame.platform) == Family::Javascript
        && frame.function.is_none()
        && !frame.has_url(true)
    {
        component.contributes = false;
    }
    Component::of_kind(Kind::Stacktrace, components)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stack_traces() {
        let check = |platform: &str, frames: &str, app: &[&str], system: &[&str]| {
            let text = format!(r#"{{"stacktrace":{{"frames":{frames}}}}}"#);
            let holder = Json::parse(text.as_bytes()).unwrap();
            assert_eq!(component(&holder, platform, Stack::App).leaves(), app, "app {frames}");
            assert_eq!(component(&holder, platform, Stack::System).leaves(), system, "system {frames}");
        };
        check("python", r#"[{"function":"a","in_app":true},{"function":"b","in_app":false},{"function":"c"}]"#, &["a"], &["a", "b", "c"]);
        check("python", r#"[{"function":"a","lineno":1},{"function":"a","lineno":1},{"function":"a","lineno":2}]"#, &[], &["a", "a"]);
        check("javascript", r#"[{"filename":"a.js"}]"#, &[], &[]);
        check("python", r#"[{"filename":"a.py"}]"#, &[], &["a.py"]);
        check("python", "[]", &[], &[]);
    }
}
