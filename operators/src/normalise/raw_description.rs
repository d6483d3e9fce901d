//! What a system and a runtime are called, out of the one text that some SDKs send (`raw_description`; .NET's and Unity's do).
//!
//! The forms, and what becomes of each, were measured on the published package. A context that has a name or a version stays as it is.

use std::sync::LazyLock;

use regex::{Captures, Regex};
use weir_protocol::json::{Json, Object};

use super::note::Notes;
use super::path::Path;

#[allow(clippy::unwrap_used, reason = "the patterns are constant, and the tests run each of them")]
fn pattern(text: &str) -> Regex {
    Regex::new(text).unwrap()
}

/// `Microsoft Windows NT 10.0.19045`: a version of three numbers, the last of which is the build.
static WINDOWS: LazyLock<Regex> = LazyLock::new(|| pattern(r"^(?:Microsoft\s+)?Windows\s+(?:NT\s+)?([0-9]+\.[0-9]+\.([0-9]+))"));
/// `Windows 10  (10.0.19045) 64bit`, as Unity writes it.
static WINDOWS_OF_UNITY: LazyLock<Regex> = LazyLock::new(|| pattern(r"^Windows\s+[0-9]+\s+\(([0-9]+\.[0-9]+\.([0-9]+))"));
/// `Mac OS X 10.14.2 (18C54)`.
static MACOS: LazyLock<Regex> = LazyLock::new(|| pattern(r"^Mac OS X ([0-9]+\.[0-9]+\.[0-9]+)(?: \(([0-9a-fA-F]+)\))?$"));
static IOS: LazyLock<Regex> = LazyLock::new(|| pattern(r"^(iOS|iPadOS) ([0-9]+\.[0-9]+(?:\.[0-9]+)?)"));
/// `Linux 5.11.0 Ubuntu 20.04 64bit`: the kernel, then the distribution.
static DISTRIBUTION: LazyLock<Regex> = LazyLock::new(|| pattern(r"^Linux ([0-9]+\.[0-9]+(?:\.[0-9]+(?:\.[1-9]+)?)?) ([a-zA-Z]+) ([0-9]+(?:\.[0-9]+){0,2})"));
/// `Darwin 21.6.0 …`, as `uname` writes it: the version is the kernel's.
static KERNEL: LazyLock<Regex> = LazyLock::new(|| pattern(r"^([a-zA-Z]+) ([0-9]+\.[0-9]+(?:\.[0-9]+(?:\.[1-9]+)?)?)"));
/// `Android OS 11 / API-30 (RP1A.201005.001/2107031736)`.
static ANDROID: LazyLock<Regex> = LazyLock::new(|| pattern(r"^Android (?:OS )?([0-9]+(?:\.[0-9]+){0,2}) / API-[0-9]"));
/// `PlayStation 5`: a name and a version, and nothing else.
static NAMED: LazyLock<Regex> = LazyLock::new(|| pattern(r"^([a-zA-Z]+) \s*([0-9.-]+)\s*$"));
static VERSION: LazyLock<Regex> = LazyLock::new(|| pattern(r"^[0-9]+\.[0-9]+(?:\.[0-9]+){0,2}"));

/// Releases of the .NET Framework by the number that the registry of Windows has for them.
const FRAMEWORKS: [(&str, &str); 21] = [
    ("378389", "4.5"),
    ("378675", "4.5.1"),
    ("378758", "4.5.1"),
    ("379893", "4.5.2"),
    ("393295", "4.6"),
    ("393297", "4.6"),
    ("394254", "4.6.1"),
    ("394271", "4.6.1"),
    ("394802", "4.6.2"),
    ("394806", "4.6.2"),
    ("460798", "4.7"),
    ("460805", "4.7"),
    ("461308", "4.7.1"),
    ("461310", "4.7.1"),
    ("461808", "4.7.2"),
    ("461814", "4.7.2"),
    ("528040", "4.8"),
    ("528049", "4.8"),
    ("528209", "4.8"),
    ("528372", "4.8"),
    ("528449", "4.8"),
];

/// Names a system.
pub fn system<'a>(context: &mut Object<'a>, path: Path<'_>, notes: &mut Notes<'a>) {
    let Some(text) = description(context) else { return };
    let mut set = |key, value: &str| set(context, key, value, path, notes);
    if let Some([version, build]) = groups(WINDOWS.captures(&text)).or_else(|| groups(WINDOWS_OF_UNITY.captures(&text))) {
        set("name", "Windows");
        set("version", windows(build).unwrap_or(version));
        if context.get("build").is_none() && !notes.has(path.key("build")) {
            context.insert("build", Json::text(build.to_owned()));
        }
    } else if let Some(found) = MACOS.captures(&text) {
        set("name", "macOS");
        set("version", found.get(1).map_or("", |version| version.as_str()));
        match found.get(2) {
            Some(build) => set("build", build.as_str()),
            None => {
                notes.forget_below(path.key("build"));
                context.remove("build");
            }
        }
    } else if let Some([name, version]) = groups(IOS.captures(&text)) {
        set("name", name);
        set("version", version);
    } else if let Some([kernel, name, version]) = groups(DISTRIBUTION.captures(&text)) {
        set("name", name);
        set("version", version);
        set("kernel_version", kernel);
    } else if let Some([name, kernel]) = groups(KERNEL.captures(&text)) {
        set("name", name);
        set("kernel_version", kernel);
    } else if let Some([version]) = groups(ANDROID.captures(&text)) {
        set("name", "Android");
        set("version", version);
    } else if text == "Nintendo Switch" {
        set("name", "Nintendo OS");
    } else if let Some([name, version]) = groups(NAMED.captures(&text)) {
        set("name", name);
        set("version", version);
    }
}

/// Names a runtime. What the registry says of a .NET Framework is its version, whatever else was said.
pub fn runtime<'a>(context: &mut Object<'a>, path: Path<'_>, notes: &mut Notes<'a>) {
    if let Some(text) = description(context)
        && let Some((name, version)) = name_and_version(&text)
    {
        set(context, "name", name, path, notes);
        set(context, "version", version, path, notes);
    }
    if context.get("name").and_then(Json::as_str) == Some(".NET Framework")
        && let Some(build) = context.get("build").and_then(Json::as_str)
        && let Some((_, version)) = FRAMEWORKS.iter().find(|(number, _)| *number == build)
    {
        set(context, "version", version, path, notes);
    }
}

/// `Mono 5.10.1.47 (2017-12/8eb8f7d5e74 …)`: the last version that follows a space, and all that stands before it.
fn name_and_version(text: &str) -> Option<(&str, &str)> {
    if text.contains('\n') {
        return None;
    }
    text.rmatch_indices(' ').find_map(|(at, _)| Some((&text[..at], VERSION.find(&text[at + 1..])?.as_str())))
}

/// The text, where it is all that is known.
fn description(context: &Object<'_>) -> Option<String> {
    if context.get("name").is_some() || context.get("version").is_some() {
        return None;
    }
    context.get("raw_description").and_then(Json::as_str).map(str::to_owned)
}

fn set<'a>(context: &mut Object<'a>, key: &'static str, value: &str, path: Path<'_>, notes: &mut Notes<'a>) {
    notes.forget_below(path.key(key));
    context.insert(key, Json::text(value.to_owned()));
}

/// What Windows of this build is called; newer builds are called by their whole version.
fn windows(build: &str) -> Option<&'static str> {
    Some(match build.parse::<u32>().ok()? {
        2600 | 3790 => "XP",
        6002 => "Vista",
        7601 => "7",
        9200 => "8",
        9600 => "8.1",
        10240..=19044 => "10",
        22000..=22999 => "11",
        _ => return None,
    })
}

/// The groups of a pattern all of which always match.
fn groups<'t, const N: usize>(found: Option<Captures<'t>>) -> Option<[&'t str; N]> {
    let found = found?;
    Some(std::array::from_fn(|at| found.get(at + 1).map_or("", |group| group.as_str())))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(name: fn(&mut Object<'static>, Path<'_>, &mut Notes<'static>), members: &str, want: &str) {
        let mut context = Json::parse(members.as_bytes()).unwrap().into_owned();
        let context = context.as_object_mut().unwrap();
        name(context, Path::Root, &mut Notes::default());
        context.remove("raw_description");
        assert_eq!(Json::Object(std::mem::take(context)).to_string(), want, "{members}");
    }

    #[test]
    fn systems() {
        let check = |text: &str, want: &str| check(system, &Json::Object([("raw_description", Json::text(text))].into_iter().collect()).to_string(), want);
        check("Microsoft Windows 10.0.19045", r#"{"name":"Windows","version":"10.0.19045","build":"19045"}"#);
        check("Microsoft Windows 10.0.22631", r#"{"name":"Windows","version":"11","build":"22631"}"#);
        check("Microsoft Windows NT 6.1.7601 Service Pack 1", r#"{"name":"Windows","version":"7","build":"7601"}"#);
        check("Windows 10  (10.0.17763) 64bit", r#"{"name":"Windows","version":"10","build":"17763"}"#);
        check("Windows 8.1  (6.3.9600) 64bit", r#"{"name":"Windows","kernel_version":"8.1"}"#);
        check("Microsoft Windows", "{}");
        check("Mac OS X 10.14.2 (18C54)", r#"{"name":"macOS","version":"10.14.2","build":"18C54"}"#);
        check("Mac OS X 10.14.2 x", "{}");
        check("iOS 17.5.1 (21F90)", r#"{"name":"iOS","version":"17.5.1"}"#);
        check("Linux 4.19.0 Ubuntu 20.04 64bit", r#"{"name":"Ubuntu","version":"20.04","kernel_version":"4.19.0"}"#);
        check("Linux 5.10.0-18-amd64 #1 SMP Debian 5.10.140-1", r#"{"name":"Linux","kernel_version":"5.10.0"}"#);
        check("Darwin 21.6.0 Darwin Kernel Version 21.6.0", r#"{"name":"Darwin","kernel_version":"21.6.0"}"#);
        check("Unix 18.2.0.0", r#"{"name":"Unix","kernel_version":"18.2.0"}"#);
        check("Android OS 9 / API-28 (PPR1.180610.011/4086678)", r#"{"name":"Android","version":"9"}"#);
        check("Android 9 / API-28", r#"{"name":"Android","version":"9"}"#);
        check("Nintendo Switch", r#"{"name":"Nintendo OS"}"#);
        check("PlayStation 5", r#"{"name":"PlayStation","version":"5"}"#);
        check("Linux", "{}");
    }

    #[test]
    fn runtimes() {
        let check = |members: &str, want: &str| check(runtime, members, want);
        check(r#"{"raw_description":"Mono 5.10.1.47 (2017-12/8eb8f7d5e74 Fri Apr 13)"}"#, r#"{"name":"Mono","version":"5.10.1.47"}"#);
        check(r#"{"raw_description":".NET Core 4.6.26614.01"}"#, r#"{"name":".NET Core","version":"4.6.26614.01"}"#);
        check(r#"{"raw_description":"a 1.2 b 3.4x"}"#, r#"{"name":"a 1.2 b","version":"3.4"}"#);
        check(r#"{"raw_description":".NET 6"}"#, "{}");
        check(r#"{"raw_description":"a 1.2\n"}"#, "{}");
        check(r#"{"raw_description":".NET Framework 4.7.3056.0","build":"461814"}"#, r#"{"build":"461814","name":".NET Framework","version":"4.7.2"}"#);
        check(r#"{"name":".NET Framework","version":"9","build":"528040"}"#, r#"{"name":".NET Framework","version":"4.8","build":"528040"}"#);
        check(r#"{"name":".NET","build":"528040"}"#, r#"{"name":".NET","build":"528040"}"#);
    }

    #[test]
    fn what_has_a_name_or_a_version_stays() {
        for members in [r#"{"name":"","raw_description":"Linux 5.10.0"}"#, r#"{"version":"","raw_description":"Linux 5.10.0"}"#] {
            let want = members.replace(r#","raw_description":"Linux 5.10.0""#, "");
            check(system, members, &want);
            check(runtime, members, &want);
        }
    }

    #[test]
    fn other_members() {
        check(system, r#"{"raw_description":"Microsoft Windows 10.0.19045","build":"7"}"#, r#"{"build":"7","name":"Windows","version":"10.0.19045"}"#);
        check(system, r#"{"raw_description":"Mac OS X 10.14.2","build":"7"}"#, r#"{"name":"macOS","version":"10.14.2"}"#);
        check(system, r#"{"raw_description":"Linux 5.10.0","kernel_version":"k"}"#, r#"{"kernel_version":"5.10.0","name":"Linux"}"#);
    }
}
