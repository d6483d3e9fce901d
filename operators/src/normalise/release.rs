//! Release, environment and distribution: what makes one valid (`spec/ingest.md` section 3.2).

use weir_protocol::json::Json;

/// A release has at most this many characters; a longer one is invalid, not cut.
pub const RELEASE_CHARS_MAX: usize = 200;
/// An environment has at most this many characters.
pub const ENVIRONMENT_CHARS_MAX: usize = 64;
/// A distribution has at most this many characters.
pub const DIST_CHARS_MAX: usize = 64;

/// What a field holds once it is read.
#[derive(Debug, PartialEq)]
pub enum Field {
    /// Nothing, and nothing is wrong.
    Absent,
    /// This text.
    Valid(String),
    /// Something that the field does not take.
    Invalid,
}

/// A release: 1 to 200 characters without slashes, line ends and tabs, and none of `.`, `..`, `latest`. A number becomes its text.
pub fn release(value: &Json<'_>) -> Field {
    let text = match value {
        Json::Int(_) | Json::UInt(_) | Json::Float(_) => value.to_string(),
        _ => match value.as_str() {
            Some(text) => text.trim().to_owned(),
            None => return absent_or_invalid(value),
        },
    };
    let names_nothing = text == "." || text == ".." || text.eq_ignore_ascii_case("latest");
    checked(text, RELEASE_CHARS_MAX, |c| !"/\\\r\n\t\u{b}\u{c}".contains(c), names_nothing)
}

/// An environment: at most 64 characters without slashes and line ends, not `none`.
pub fn environment(value: &Json<'_>) -> Field {
    let Some(text) = value.as_str() else { return absent_or_invalid(value) };
    let text = text.trim().to_owned();
    let names_nothing = text.eq_ignore_ascii_case("none");
    checked(text, ENVIRONMENT_CHARS_MAX, |c| !"/\r\n".contains(c), names_nothing)
}

/// A distribution: at most 64 letters, digits, `_`, `.` and `-`.
pub fn dist(value: &Json<'_>) -> Field {
    let Some(text) = value.as_str() else { return absent_or_invalid(value) };
    checked(text.trim().to_owned(), DIST_CHARS_MAX, |c| c.is_ascii_alphanumeric() || "_.-".contains(c), false)
}

fn absent_or_invalid(value: &Json<'_>) -> Field {
    if value.is_null() { Field::Absent } else { Field::Invalid }
}

fn checked(text: String, chars_max: usize, allowed: impl Fn(char) -> bool, names_nothing: bool) -> Field {
    if text.is_empty() {
        Field::Absent
    } else if names_nothing || text.chars().count() > chars_max || !text.chars().all(allowed) {
        Field::Invalid
    } else {
        Field::Valid(text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(read: fn(&Json<'_>) -> Field, json: &str, want: Result<&str, bool>) {
        let want = match want {
            Ok(text) => Field::Valid(text.to_owned()),
            Err(true) => Field::Invalid,
            Err(false) => Field::Absent,
        };
        assert_eq!(read(&Json::parse(json.as_bytes()).unwrap()), want, "{json}");
    }

    #[test]
    fn releases() {
        check(release, r#"" shop-api@2.4.1+build.77 ""#, Ok("shop-api@2.4.1+build.77"));
        check(release, "42", Ok("42"));
        check(release, r#""""#, Err(false));
        check(release, "null", Err(false));
        check(release, r#""Latest""#, Err(true));
        check(release, r#""..""#, Err(true));
        check(release, r#""a/b""#, Err(true));
        check(release, "[]", Err(true));
        check(release, &format!("\"{}\"", "é".repeat(201)), Err(true));
        check(release, &format!("\"{}\"", "é".repeat(200)), Ok(&"é".repeat(200)));
    }

    #[test]
    fn environments_and_dists() {
        check(environment, r#""production""#, Ok("production"));
        check(environment, r#""None""#, Err(true));
        check(environment, r#""a/b""#, Err(true));
        check(environment, r#"" ""#, Err(false));
        check(environment, &format!("\"{}\"", "x".repeat(65)), Err(true));
        check(dist, r#""linux-amd64""#, Ok("linux-amd64"));
        check(dist, r#""a b""#, Err(true));
        check(dist, "48", Err(true));
    }
}
