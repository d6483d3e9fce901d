//! Who sends: the forms in which an SDK gives its key (`spec/ingest.md` section 1.3).

use axum::http::HeaderMap;
use axum::http::header::AUTHORIZATION;
use base64::Engine;

use weir_protocol::dsn::{Dsn, InvalidDsn, parse_public_key};
use weir_protocol::ids::PublicKey;

use crate::query;

/// What a request authenticates with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Credentials {
    /// The key; not yet looked up.
    pub(crate) public_key: PublicKey,
    /// `sentry_client`, as given.
    pub(crate) client: Option<String>,
}

/// Why a request does not authenticate.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum AuthError {
    /// No form at all.
    #[error("missing authorization information")]
    Missing,
    /// More than one form.
    #[error("multiple authorization payloads detected")]
    Multiple,
    /// A form without a key, or with a version that is no number.
    #[error("bad x-sentry-auth header")]
    BadHeader,
    /// The DSN in the envelope's header is none.
    #[error("bad envelope authentication header")]
    BadEnvelope,
    /// The key is not 32 hexadecimal digits.
    #[error("bad sentry DSN public key")]
    BadKey,
    /// A later protocol.
    #[error("unsupported protocol version ({0})")]
    Version(u16),
}

/// The last version of the protocol.
const PROTOCOL_VERSION_MAX: u16 = 7;

/// What the headers and the query authenticate with; `None` where they do not, since an envelope's header still may.
///
/// A query string is a form where it has `sentry_key`: other names with that prefix (`sentry_data`, `sentry_release`) carry data.
pub(crate) fn of_request(headers: &HeaderMap, query: Option<&str>) -> Result<Option<Credentials>, AuthError> {
    let mut forms = Vec::new();
    for value in headers.get_all("x-sentry-auth") {
        forms.extend(strip_scheme(value.as_bytes(), "sentry ").map(of_fields));
    }
    for value in headers.get_all(AUTHORIZATION) {
        forms.extend(strip_scheme(value.as_bytes(), "sentry ").map(of_fields));
        forms.extend(strip_scheme(value.as_bytes(), "basic ").map(of_basic));
    }
    forms.extend(query.filter(|q| q.contains("sentry_key")).and_then(of_query));
    match forms.len() {
        0 => Ok(None),
        1 => forms.remove(0).map(Some),
        _ => Err(AuthError::Multiple),
    }
}

/// What the DSN of an envelope's header says, where nothing else authenticates.
pub(crate) fn of_envelope(dsn: Option<&str>) -> Result<Dsn, AuthError> {
    match dsn.ok_or(AuthError::Missing)?.parse() {
        Ok(dsn) => Ok(dsn),
        Err(InvalidDsn::Key) => Err(AuthError::BadKey),
        Err(_) => Err(AuthError::BadEnvelope),
    }
}

/// The rest of a header that begins with a scheme of whatever case; other headers, empty ones for instance, are no form.
fn strip_scheme<'a>(value: &'a [u8], scheme: &str) -> Option<&'a str> {
    let text = std::str::from_utf8(value).ok()?.trim_start();
    text.get(..scheme.len()).filter(|start| start.eq_ignore_ascii_case(scheme)).map(|_| &text[scheme.len()..])
}

fn of_fields(fields: &str) -> Result<Credentials, AuthError> {
    let pairs = fields.split(',').filter_map(|pair| pair.split_once('=')).map(|(name, value)| (name.trim().to_owned(), value.trim().to_owned()));
    of_pairs(pairs).ok_or(AuthError::BadHeader)?
}

fn of_query(query: &str) -> Option<Result<Credentials, AuthError>> {
    of_pairs(query::pairs(query))
}

fn of_basic(encoded: &str) -> Result<Credentials, AuthError> {
    let decoded = base64::engine::general_purpose::STANDARD.decode(encoded.trim()).map_err(|_| AuthError::BadHeader)?;
    let text = String::from_utf8(decoded).map_err(|_| AuthError::BadHeader)?;
    let key = text.split(':').next().unwrap_or_default();
    Ok(Credentials { public_key: parse_public_key(key).ok_or(AuthError::BadKey)?, client: None })
}

/// `None` where there is no key among the pairs.
fn of_pairs(pairs: impl Iterator<Item = (String, String)>) -> Option<Result<Credentials, AuthError>> {
    let (mut key, mut client, mut version) = (None, None, None);
    for (name, value) in pairs {
        match name.as_str() {
            "sentry_key" => key = Some(value),
            "sentry_client" => client = Some(value).filter(|v| !v.is_empty()),
            "sentry_version" => version = Some(value),
            _ => {}
        }
    }
    key.map(|key| {
        let public_key = parse_public_key(&key).ok_or(AuthError::BadKey)?;
        match version.map_or(Ok(PROTOCOL_VERSION_MAX), |v| v.parse::<u16>()) {
            Ok(version) if version <= PROTOCOL_VERSION_MAX => Ok(Credentials { public_key, client }),
            Ok(version) => Err(AuthError::Version(version)),
            Err(_) => Err(AuthError::BadHeader),
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: &str = "0123456789abcdef0123456789abcdef";

    /// The key's client (`-` for none), or the error.
    fn check(headers: &[(&'static str, &str)], query: Option<&str>, want: Result<Option<&str>, AuthError>) {
        let map: HeaderMap = headers.iter().map(|(name, value)| (axum::http::HeaderName::from_static(name), value.parse().unwrap())).collect();
        let got = of_request(&map, query).map(|found| {
            found.map(|credentials| {
                assert_eq!(credentials.public_key.to_string(), KEY);
                credentials.client.unwrap_or_else(|| "-".to_owned())
            })
        });
        assert_eq!(got, want.map(|found| found.map(str::to_owned)), "{headers:?} {query:?}");
    }

    #[test]
    fn forms() {
        let sentry = format!("Sentry sentry_key={KEY}, sentry_version=7, sentry_client=sdk/1.0");
        let bare = format!("sentry sentry_key={KEY}");
        let basic = format!("Basic {}", base64::engine::general_purpose::STANDARD.encode(format!("{KEY}:")));
        let in_query = format!("sentry_key={KEY}&sentry_version=7&sentry_client=js%2F1");
        check(&[("x-sentry-auth", &sentry)], None, Ok(Some("sdk/1.0")));
        check(&[("x-sentry-auth", &bare)], None, Ok(Some("-")));
        check(&[("x-sentry-auth", &format!("Sentry sentry_version=7,sentry_client=j/1,sentry_key={KEY},sentry_secret=x"))], None, Ok(Some("j/1")));
        check(&[("authorization", &sentry)], None, Ok(Some("sdk/1.0")));
        check(&[("authorization", &basic)], None, Ok(Some("-")));
        check(&[("authorization", "Bearer token")], Some(&in_query), Ok(Some("js/1")));
        check(&[], Some(&in_query), Ok(Some("js/1")));
        check(&[], None, Ok(None));
        check(&[("x-sentry-auth", "")], None, Ok(None));
        check(&[("x-sentry-auth", "nonsense")], None, Ok(None));
        check(&[], Some("sentry_data=e30"), Ok(None));
        check(&[], Some("other=sentry_key"), Ok(None));
        check(&[("x-sentry-auth", &sentry)], Some("sentry_data=e30"), Ok(Some("sdk/1.0")));
    }

    #[test]
    fn refused() {
        let sentry = format!("Sentry sentry_key={KEY}");
        let in_query = format!("sentry_key={KEY}");
        check(&[("x-sentry-auth", &sentry)], Some(&in_query), Err(AuthError::Multiple));
        check(&[("x-sentry-auth", &sentry), ("authorization", &sentry)], None, Err(AuthError::Multiple));
        check(&[("x-sentry-auth", "Sentry sentry_version=7")], None, Err(AuthError::BadHeader));
        check(&[("x-sentry-auth", "Sentry nonsense")], None, Err(AuthError::BadHeader));
        check(&[("x-sentry-auth", &format!("{sentry}, sentry_version=seven"))], None, Err(AuthError::BadHeader));
        check(&[("x-sentry-auth", &format!("{sentry}, sentry_version=8"))], None, Err(AuthError::Version(8)));
        check(&[("x-sentry-auth", "Sentry sentry_key=abc, sentry_version=7")], None, Err(AuthError::BadKey));
        check(&[("x-sentry-auth", "Sentry sentry_key=01234567-89ab-cdef-0123-456789abcdef")], None, Err(AuthError::BadKey));
        check(&[("authorization", "Basic !")], None, Err(AuthError::BadHeader));
        check(&[("authorization", "Basic YTo=")], None, Err(AuthError::BadKey));
        check(&[], Some("sentry_key=abc"), Err(AuthError::BadKey));
    }

    #[test]
    fn the_dsn_of_an_envelope() {
        let check = |dsn: Option<&str>, want: Result<u64, AuthError>| assert_eq!(of_envelope(dsn).map(|d| d.project_id), want, "{dsn:?}");
        check(Some(&format!("http://{KEY}@h:1/7")), Ok(7));
        check(Some("http://abc@h/7"), Err(AuthError::BadKey));
        check(Some("nonsense"), Err(AuthError::BadEnvelope));
        check(None, Err(AuthError::Missing));
    }
}
