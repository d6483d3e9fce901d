//! How an exception was caught, and the names of the numbers that kernels give (`spec/ingest.md` section 3.2).

use weir_protocol::json::{Json, Object};

use super::fields::MECHANISM;
use super::names::{ERRNO_DARWIN, ERRNO_LINUX, ERRNO_WINDOWS, MACH_EXCEPTIONS, SIGNAL_CODES_DARWIN, SIGNALS_DARWIN, SIGNALS_LINUX};
use super::note::Notes;
use super::path::Path;
use super::read::{self, is_deeply_empty};

/// Reads a mechanism. One without a type is of the older form, whose members are data but for those of kernels.
pub fn read<'a>(value: &mut Json<'a>, path: Path<'_>, notes: &mut Notes<'a>) {
    let Json::Object(mechanism) = value else { return notes.invalid(path, "expected exception mechanism", value.take()) };
    if mechanism.is_empty() {
        *value = Json::Null;
        return;
    }
    if !mechanism.contains_key("type") {
        *mechanism = from_older(std::mem::take(mechanism));
    }
    read::object(mechanism, &MECHANISM, path, notes);
    if mechanism.get("meta").is_some_and(is_deeply_empty) {
        notes.forget_below(path.key("meta"));
        mechanism.remove("meta");
    }
    let link = mechanism.get_mut("help_link");
    if let Some(link) = link.filter(|link| link.as_str().is_some_and(|link| !link.starts_with("http://") && !link.starts_with("https://"))) {
        notes.invalid(path.key("help_link"), "expected http URL", link.take());
    }
}

fn from_older(older: Object<'_>) -> Object<'_> {
    let (mut data, mut meta) = (Vec::new(), Object::new());
    for (key, value) in older {
        let renamed = match key.as_ref() {
            "posix_signal" => Some(("signal", "signal", "number")),
            "mach_exception" => Some(("mach_exception", "exception_name", "name")),
            _ => None,
        };
        match (renamed, value) {
            (_, Json::Null) => {}
            (Some((name, from, to)), Json::Object(members)) => {
                let members: Object<'_> = members.into_iter().map(|(key, value)| (if key == from { to.into() } else { key }, value)).collect();
                meta.insert(name, Json::Object(members));
            }
            (Some((name, ..)), value) => meta.insert(name, value),
            (None, value) => data.push((key, value)),
        }
    }
    [("type", Json::text("generic")), ("data", Json::Object(data.into_iter().collect())), ("meta", Json::Object(meta))].into_iter().collect()
}

/// Gives the numbers of kernels in the mechanisms of all exceptions the names that they have on the event's system.
pub fn name_numbers<'a>(event: &mut Object<'a>, notes: &mut Notes<'a>) {
    let has_numbers =
        |exception: &Json<'_>| exception.at(&["mechanism", "meta"]).and_then(Json::as_object).is_some_and(|meta| meta.iter().any(|(key, _)| key != "ns_error"));
    if !event.get("exception").and_then(|e| e.get("values")).and_then(Json::as_array).unwrap_or_default().iter().any(has_numbers) {
        return;
    }
    let system = system(event);
    let values = event.get_mut("exception").and_then(Json::as_object_mut).and_then(|e| e.get_mut("values")).and_then(Json::as_array_mut);
    let path = Path::Root.key("exception");
    let path = path.key("values");
    for (index, exception) in values.into_iter().flatten().enumerate() {
        let path = path.index(index);
        let path = path.key("mechanism");
        let mechanism = exception.as_object_mut().and_then(|e| e.get_mut("mechanism")).and_then(Json::as_object_mut);
        if let Some(Json::Object(meta)) = mechanism.and_then(|m| m.get_mut("meta")) {
            name_all(meta, system, path.key("meta"), notes);
        }
    }
}

/// Systems that number alike.
#[derive(Clone, Copy, PartialEq, Eq)]
enum System {
    Linux,
    Darwin,
    Windows,
}

fn system(event: &Object<'_>) -> Option<System> {
    let sdk = event.get("debug_meta").and_then(|meta| meta.str_at(&["sdk_info", "sdk_name"]));
    let name = sdk.or_else(|| event.get("contexts").and_then(|contexts| contexts.str_at(&["os", "name"])))?.to_ascii_lowercase();
    match name.as_str() {
        "linux" | "android" => Some(System::Linux),
        "macos" | "ios" | "tvos" | "watchos" => Some(System::Darwin),
        "windows" => Some(System::Windows),
        _ => None,
    }
}

fn name_all<'a>(meta: &mut Object<'a>, system: Option<System>, path: Path<'_>, notes: &mut Notes<'a>) {
    let mut name_one = |meta: &mut Object<'a>, member, number, name, find: &dyn Fn(i64) -> Option<&'static str>| {
        if name_one(meta, member, number, name, find) {
            notes.forget_below(path.key(member).key(name));
        }
    };
    name_one(meta, "errno", "number", "name", &|number| match system? {
        System::Linux => of(ERRNO_LINUX, number),
        System::Darwin => of(ERRNO_DARWIN, number),
        System::Windows => of(ERRNO_WINDOWS, number),
    });
    name_one(meta, "signal", "number", "name", &|number| match system? {
        System::Linux => of(SIGNALS_LINUX, number),
        System::Darwin => of(SIGNALS_DARWIN, number),
        System::Windows => None,
    });
    let signal = meta.get("signal").and_then(|signal| signal.get("number")).and_then(Json::as_i64);
    name_one(meta, "signal", "code", "code_name", &|code| {
        let named = SIGNAL_CODES_DARWIN.iter().find(|(of, number, _)| Some(*of) == signal && *number == code);
        named.filter(|_| system == Some(System::Darwin)).map(|(_, _, name)| *name)
    });
    name_one(meta, "mach_exception", "exception", "name", &|number| of(MACH_EXCEPTIONS, number));
}

/// Whether a name was given.
fn name_one(meta: &mut Object<'_>, member: &str, number: &str, name: &'static str, find: &dyn Fn(i64) -> Option<&'static str>) -> bool {
    let Some(Json::Object(member)) = meta.get_mut(member) else { return false };
    if member.get(name).is_some() {
        return false;
    }
    let found = member.get(number).and_then(Json::as_i64).and_then(find);
    found.inspect(|found| member.insert(name, Json::text(*found))).is_some()
}

fn of(names: &[(i64, &'static str)], number: i64) -> Option<&'static str> {
    names.iter().find(|(of, _)| *of == number).map(|(_, name)| *name)
}
