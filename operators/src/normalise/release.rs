//! Release, environment and distribution: what makes one valid (`spec/ingest.md` section 3.2).

use weir_protocol::json::Object;

use super::note::Notes;
use super::path::Path;

const RELEASE_CHARS_MAX: usize = 200;
const ENVIRONMENT_CHARS_MAX: usize = 64;
const DIST_CHARS_MAX: usize = 64;

/// Takes out a release, environment or distribution that is none. One that is too long is none: it is not cut.
pub fn normalise<'a>(event: &mut Object<'a>, notes: &mut Notes<'a>) {
    let checks: [(&str, fn(&str) -> bool); 2] = [("release", is_release), ("environment", is_environment)];
    for (key, is_valid) in checks {
        if let Some(value) = event.get_mut(key)
            && value.as_str().is_some_and(|text| !is_valid(text))
        {
            notes.refused(Path::Root.key(key), value.take());
        }
    }
    if let Some(dist) = event.get_mut("dist")
        && dist.as_str().is_some_and(|text| text.chars().count() > DIST_CHARS_MAX)
    {
        let path = Path::Root.key("dist");
        notes.error(path, "value_too_long", Vec::new());
        notes.original(path, dist.take());
    }
}

fn is_release(text: &str) -> bool {
    let names_nothing = matches!(text, "." | "..") || text.eq_ignore_ascii_case("latest");
    !names_nothing && is_name(text, RELEASE_CHARS_MAX)
}

fn is_environment(text: &str) -> bool {
    !text.eq_ignore_ascii_case("none") && is_name(text, ENVIRONMENT_CHARS_MAX)
}

/// Neither too long nor with anything that separates paths or lines.
fn is_name(text: &str, chars_max: usize) -> bool {
    text.chars().count() <= chars_max && !text.chars().any(|c| c.is_control() || c == '/' || c == '\\')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn releases_and_environments() {
        let check = |is_valid: fn(&str) -> bool, text: &str, want: bool| assert_eq!(is_valid(text), want, "{text}");
        check(is_release, "shop-api@2.4.1+build.77", true);
        check(is_release, &"é".repeat(200), true);
        for text in ["Latest", "..", "a/b", "a\\b", "a\tb", &"é".repeat(201)] {
            check(is_release, text, false);
        }
        check(is_environment, "production eu", true);
        for text in ["None", "a/b", "a\nb", &"x".repeat(65)] {
            check(is_environment, text, false);
        }
    }
}
