//! What of a frame is hashed (`spec/grouping.md` sections 1.5 and 1.6).

use std::borrow::Cow;
use std::sync::LazyLock;

use regex::Regex;
use weir_protocol::json::Json;

use super::component::Component;
use crate::event::text;

/// A source line longer than this is generated code.
const CONTEXT_LINE_CHARS_MAX: usize = 120;

/// Platforms of one kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Family {
    /// objc, cocoa, swift, native and c.
    Native,
    /// javascript and node.
    Javascript,
    /// Everything else.
    Other,
}

impl Family {
    /// The family of a platform.
    pub fn of(platform: &str) -> Self {
        match platform {
            "objc" | "cocoa" | "swift" | "native" | "c" => Self::Native,
            "javascript" | "node" => Self::Javascript,
            _ => Self::Other,
        }
    }
}

/// A frame as grouping sees it.
#[derive(Debug, Clone, PartialEq)]
pub struct Frame<'e> {
    /// The frame's platform, else the event's.
    pub platform: &'e str,
    /// Path or URL of the file.
    pub abs_path: Option<&'e str>,
    /// Library or image.
    pub package: Option<&'e str>,
    /// Module, class or namespace.
    pub module: Option<&'e str>,
    /// Path of the file, shorter.
    pub filename: Option<&'e str>,
    /// The function without arguments.
    pub function: Option<Cow<'e, str>>,
    /// The function as the SDK gave it, where it was shortened.
    pub raw_function: Option<&'e str>,
    /// The line of source.
    pub context_line: Option<Cow<'e, str>>,
    /// The line.
    pub lineno: Option<u64>,
    /// The column.
    pub colno: Option<u64>,
    /// Whether it is the application's own code; what nobody said is not.
    pub in_app: bool,
    /// Whether a source map gave the names.
    pub is_source_mapped: bool,
}

impl<'e> Frame<'e> {
    /// Reads a frame.
    pub fn read(frame: &'e Json<'_>, event_platform: &'e str) -> Self {
        let platform = text(frame, "platform").unwrap_or(event_platform);
        let given = text(frame, "function");
        let raw_function = text(frame, "raw_function");
        let function = given.map(|function| if raw_function.is_none() { shortened_function(function, platform) } else { function.into() });
        let filename = text(frame, "filename");
        Self {
            platform,
            abs_path: text(frame, "abs_path"),
            package: text(frame, "package"),
            module: text(frame, "module"),
            filename: filename.map(|name| if platform == "javascript" { name.split('?').next().unwrap_or(name) } else { name }),
            raw_function: raw_function.or_else(|| given.filter(|given| function.as_deref() != Some(given))),
            function,
            context_line: frame.get("context_line").and_then(Json::as_str).map(|line| context_line(line, platform)),
            lineno: frame.get("lineno").and_then(Json::as_u64),
            colno: frame.get("colno").and_then(Json::as_u64),
            in_app: frame.get("in_app").and_then(Json::as_bool).unwrap_or(false),
            is_source_mapped: frame.at(&["data", "sourcemap"]).is_some(),
        }
    }

    /// Whether this frame says the same as the one before: a recursion.
    pub fn repeats(&self, before: &Self) -> bool {
        let identity = |f: &Self| (f.abs_path, f.package, f.module, f.filename, f.lineno, f.colno);
        identity(self) == identity(before) && self.function == before.function
    }

    /// Whether the file has a URL; `file:` counts where the text around the line is asked for, not where the name is.
    pub fn has_url(&self, files_count: bool) -> bool {
        self.abs_path.is_some_and(|path| {
            ["http:", "https:", "applewebdata:", "blob:"].iter().any(|scheme| path.starts_with(scheme)) || (files_count && path.starts_with("file:"))
        })
    }

    /// The frame's component: module, file name, function and source line.
    pub fn component(&self) -> Component {
        let family = Family::of(self.platform);
        let context_line = self.context_line_component(family);
        let module = self.module_component();
        let filename = self.filename_component().off_if(module.contributes);
        let function = self.function_component(family, context_line.contributes);
        Component::of(vec![module, filename, function, context_line]).off_if(self.is_not_code(family))
    }

    /// A javascript frame that stands for evaluated or native code.
    fn is_not_code(&self, family: Family) -> bool {
        family == Family::Javascript
            && (self.function.as_deref() == Some("eval") || matches!(self.abs_path, Some("[native code]" | "native code" | "eval code" | "<anonymous>")))
    }

    fn module_component(&self) -> Component {
        let Some(module) = self.module else { return Component::empty() };
        match self.platform {
            "javascript" => Component::text(module).off_if(module.contains('/') && self.abs_path.is_some_and(|path| path.ends_with(module))),
            "java" if module.contains("$$Lambda$") => Component::empty(),
            "java" => Component::text(java_module(module)),
            _ => Component::text(module),
        }
    }

    fn filename_component(&self) -> Component {
        let Some(filename) = self.filename else { return Component::empty() };
        let last = filename.rsplit(['/', '\\']).next().unwrap_or(filename).to_lowercase();
        let last = if self.platform == "java" { JAVASSIST_FILE.replace_all(&last, "$${1}<auto>").into_owned() } else { last };
        let is_no_file = matches!(filename, "<anonymous>" | "[native code]");
        Component::text(last).off_if(self.has_url(false) || is_no_file)
    }

    fn function_component(&self, family: Family, has_context_line: bool) -> Component {
        let csharp = self.raw_function.filter(|_| self.platform == "csharp");
        let Some(function) = csharp.or(self.function.as_deref()) else { return Component::empty() };
        match (self.platform, family) {
            ("ruby", _) => Component::text(ruby_function(function)),
            ("php", _) => php_function(function),
            ("java", _) => Component::text(function).off_if(function.starts_with("lambda$")),
            (_, Family::Native) => Component::text(function).off_if(matches!(function, "<redacted>" | "<unknown>")),
            (_, Family::Javascript) => {
                let last = function.rsplit('.').next().unwrap_or(function);
                let is_nameless = matches!(last, "" | "?" | "<anonymous function>" | "<anonymous>" | "Anonymous function") || last.ends_with("/<");
                Component::text(last).off_if(is_nameless || (self.is_source_mapped && has_context_line))
            }
            _ => Component::text(function),
        }
    }

    fn context_line_component(&self, family: Family) -> Component {
        if !matches!(self.platform, "javascript" | "node" | "python" | "php" | "ruby") {
            return Component::empty();
        }
        let Some(raw) = &self.context_line else { return Component::empty() };
        let line = raw.split_whitespace().collect::<Vec<_>>().join(" ");
        if line.is_empty() {
            return Component::empty();
        }
        let is_generated = raw.chars().count() > CONTEXT_LINE_CHARS_MAX;
        let is_inline = family == Family::Javascript && self.has_url(true) && self.function.is_none();
        Component::text(line).off_if(is_generated || is_inline)
    }
}

/// The function without what differs from build to build. Native functions stay as their SDK or symbolication left them.
fn shortened_function<'e>(function: &'e str, platform: &str) -> Cow<'e, str> {
    match platform {
        "csharp" => function.split(" (").next().unwrap_or(function).into(),
        _ => function.into(),
    }
}

static SPAWN_NUMBER: LazyLock<Regex> = LazyLock::new(|| Regex::new(r"\d+").expect("a valid expression"));

/// The line with which Python starts a worker process names pipes by number.
fn context_line<'e>(line: &'e str, platform: &str) -> Cow<'e, str> {
    if platform == "python" && line.contains("from multiprocessing.spawn import spawn_main") { SPAWN_NUMBER.replace_all(line, "<int>") } else { line.into() }
}

static REFLECTION: LazyLock<Regex> =
    LazyLock::new(|| Regex::new(r"^((?:sun|jdk\.internal)\.reflect\.Generated(?:Method|Serialization|)Accessor)\d+").expect("a valid expression"));
/// What code generators of the JVM write into class names: a fixed part, then one that differs from run to run.
static GENERATED: LazyLock<Regex> = LazyLock::new(|| {
    let parts = [
        r"(\.reflect\.Generated(?:Serialization)?ConstructorAccessor)\d+",
        r"(\$\$EnhancerBy[A-Za-z]+CGLIB\$\$)[0-9a-fA-F]+",
        r"(\$\$FastClassBy[A-Za-z]*CGLIB\$\$)[0-9a-fA-F]+",
        r"(\$\$EnhancerBy[A-Za-z]+\$\$)[0-9a-fA-F]+",
        r"(\$\$FastClassBy[A-Za-z]+\$\$)[0-9a-fA-F]+",
        r"(\$HibernateProxy\$)[0-9A-Za-z]+",
        r"(_\$\$_javassist(?:_seam)?_)[0-9]+(?:_[0-9]+)?",
        r"(_\$\$_jvst)[0-9a-fA-F]+_[0-9a-fA-F]+",
        r"(\$fn__)\d+",
    ];
    Regex::new(&parts.join("|")).expect("a valid expression")
});
static JAVASSIST_FILE: LazyLock<Regex> = LazyLock::new(|| Regex::new(r"(_\$\$_javassist(?:_seam)?_)[0-9]+(?:_[0-9]+)?").expect("a valid expression"));

/// A module without the numbers of generated classes.
fn java_module(module: &str) -> String {
    let module = REFLECTION.replace(module, "${1}");
    GENERATED
        .replace_all(&module, |found: &regex::Captures<'_>| {
            let fixed = found.iter().skip(1).flatten().map(|group| group.as_str()).next().unwrap_or_default();
            format!("{fixed}<auto>")
        })
        .into_owned()
}

static ERB_SUFFIX: LazyLock<Regex> = LazyLock::new(|| Regex::new(r"__\d{4,}_\d{4,}$").expect("a valid expression"));

fn ruby_function(function: &str) -> String {
    let function = if function.starts_with("block ") { "block" } else { function };
    ERB_SUFFIX.replace(function, "").into_owned()
}

fn php_function(function: &str) -> Component {
    let is_anonymous = function.starts_with("[Anonymous") || function.starts_with("class@anonymous\0");
    match function.rsplit_once("::") {
        Some((_, method)) if is_anonymous && !method.is_empty() => Component::text(method),
        _ => Component::text(function).off_if(is_anonymous),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_of_a_frame_is_hashed() {
        let check = |platform: &str, json: &str, want: &[&str]| {
            let frame = Json::parse(json.as_bytes()).unwrap();
            assert_eq!(Frame::read(&frame, platform).component().leaves(), want, "{platform} {json}");
        };
        check("python", r#"{"module":"a","filename":"x/B.py","function":"f","context_line":"  a  =\t1"}"#, &["a", "f", "a = 1"]);
        check("python", r#"{"filename":"x/B.py","function":"f"}"#, &["b.py", "f"]);
        check("go", r#"{"filename":"m.go","function":"f","context_line":"x"}"#, &["m.go", "f"]);
        check("javascript", r#"{"abs_path":"https://h/a/b.js","filename":"/a/b.js","function":"Foo.bar"}"#, &["bar"]);
        check("javascript", r#"{"abs_path":"https://h/a/b","module":"a/b","function":"f"}"#, &["f"]);
        check("javascript", r#"{"abs_path":"<anonymous>","function":"f"}"#, &[]);
        check("javascript", r#"{"function":"eval"}"#, &[]);
        check("javascript", r#"{"abs_path":"file:///a.js","filename":"/a.js","context_line":"x"}"#, &["a.js"]);
        check("javascript", r#"{"filename":"a.js","function":"f","context_line":"x","data":{"sourcemap":"m"}}"#, &["a.js", "x"]);
        check("java", r#"{"module":"sun.reflect.GeneratedMethodAccessor123","function":"lambda$x$0"}"#, &["sun.reflect.GeneratedMethodAccessor"]);
        check("java", r#"{"module":"a.B$$EnhancerBySpringCGLIB$$1ebdddb0","function":"f"}"#, &["a.B$$EnhancerBySpringCGLIB$$<auto>", "f"]);
        check("java", r#"{"module":"a.B$$Lambda$7","filename":"B.java"}"#, &["b.java"]);
        check("ruby", r#"{"function":"block in x"}"#, &["block"]);
        check("ruby", r#"{"function":"_app_views__1234567_89012"}"#, &["_app_views"]);
        check("php", r#"{"function":"class@anonymous\u0000/a.php::run"}"#, &["run"]);
        check("php", r#"{"function":"[Anonymous function]"}"#, &[]);
        check("native", r#"{"function":"<redacted>","filename":"a.c"}"#, &["a.c"]);
        check("csharp", r#"{"function":"A.B (int c)"}"#, &["A.B (int c)"]);
        check("python", &format!(r#"{{"function":"f","context_line":"{}"}}"#, "x".repeat(121)), &["f"]);
        check(
            "python",
            r#"{"context_line":"from multiprocessing.spawn import spawn_main; spawn_main(fd=5)"}"#,
            &["from multiprocessing.spawn import spawn_main; spawn_main(fd=<int>)"],
        );
    }
}
