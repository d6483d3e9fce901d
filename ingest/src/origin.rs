//! Which web origins may send to a project (`spec/ingest.md` section 8).

use axum::http::HeaderMap;
use axum::http::header::{ORIGIN, REFERER};

/// Whether a request may come from where it says it does. One that names no origin always may: it is no browser.
///
/// An entry of `allowed` is `*`, `host`, `*.host` (the host itself too), or either after `scheme://`. A port counts where the
/// entry has one.
pub(crate) fn allowed(allowed: &[String], headers: &HeaderMap) -> bool {
    let given =
        [ORIGIN, REFERER].iter().find_map(|name| headers.get(name).map(|value| String::from_utf8_lossy(value.as_bytes())).filter(|v| !v.trim().is_empty()));
    match given {
        None => true,
        Some(given) => {
            let given = Origin::parse(given.trim());
            allowed.iter().any(|pattern| given.matches(pattern.trim()))
        }
    }
}

/// The parts of an origin, or of a pattern for one. `null`, which sandboxed pages send, is a host without a scheme.
#[derive(Debug, PartialEq)]
struct Origin {
    scheme: Option<String>,
    host: String,
    port: Option<String>,
}

impl Origin {
    fn parse(text: &str) -> Self {
        let text = text.to_ascii_lowercase();
        let (scheme, rest) = text.split_once("://").map_or((None, text.as_str()), |(scheme, rest)| (Some(scheme.to_owned()), rest));
        let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
        let authority = authority.rsplit('@').next().unwrap_or_default();
        // A colon inside the brackets of an IPv6 address begins no port.
        let (host, port) = match authority.rsplit_once(':') {
            Some((host, port)) if !port.contains(']') => (host, Some(port.to_owned())),
            _ => (authority, None),
        };
        Self { scheme, host: host.to_owned(), port }
    }

    fn matches(&self, pattern: &str) -> bool {
        if pattern == "*" {
            return true;
        }
        let pattern = Self::parse(pattern);
        let scheme = pattern.scheme.is_none() || pattern.scheme == self.scheme;
        let port = pattern.port.is_none() || pattern.port == self.port;
        scheme && port && host_matches(&pattern.host, &self.host)
    }
}

fn host_matches(pattern: &str, host: &str) -> bool {
    match pattern.strip_prefix("*.") {
        Some(parent) => host == parent || host.strip_suffix(parent).is_some_and(|rest| rest.ends_with('.')),
        None => pattern == "*" || pattern == host,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn origins() {
        let check = |patterns: &[&str], header: Option<(&'static str, &str)>, want: bool| {
            let map: HeaderMap = header.iter().map(|(name, value)| (axum::http::HeaderName::from_static(name), value.parse().unwrap())).collect();
            let patterns: Vec<String> = patterns.iter().map(|p| (*p).to_owned()).collect();
            assert_eq!(allowed(&patterns, &map), want, "{patterns:?} {header:?}");
        };
        let origin = |value| Some(("origin", value));
        check(&[], None, true);
        check(&[], origin(""), true);
        check(&[], origin("http://valid.com"), false);
        check(&["*"], origin("http://valid.com"), true);
        check(&["*"], origin("null"), true);
        check(&["http://valid.com"], origin("http://valid.com"), true);
        check(&["http://valid.com"], origin("https://valid.com"), false);
        check(&["http://*"], origin("http://valid.com"), true);
        check(&["http://*"], origin("https://valid.com"), false);
        check(&["valid.com"], origin("https://VALID.com:8080"), true);
        check(&["valid.com:8080"], origin("https://valid.com:8080"), true);
        check(&["valid.com:8080"], origin("https://valid.com"), false);
        check(&["valid.com"], origin("http://invalid.com"), false);
        check(&["valid.com"], origin("http://www.valid.com"), false);
        check(&["*.valid.com"], origin("http://www.valid.com"), true);
        check(&["*.valid.com"], origin("http://valid.com"), true);
        check(&["*.valid.com"], origin("http://invalid.com"), false);
        check(&["other.com", "valid.com"], origin("http://valid.com"), true);
        check(&["valid.com"], origin("null"), false);
        check(&["[::1]"], origin("http://[::1]:9000"), true);
        check(&["valid.com"], Some(("referer", "http://valid.com/page?q=//other.com")), true);
        check(&["valid.com"], Some(("referer", "http://other.com/valid.com")), false);
        check(&["valid.com"], Some(("referer", "http://valid.com@other.com/")), false);
    }
}
