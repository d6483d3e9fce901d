//! The DSN: the address with which an SDK is configured.

use std::fmt;
use std::str::FromStr;

use crate::ids::{ProjectId, PublicKey};

/// A parsed DSN, `http://KEY[:SECRET]@HOST[:PORT][/PATH]/PROJECT`. A secret is accepted and ignored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Dsn {
    /// `http` or `https`.
    pub scheme: String,
    /// The public key.
    pub public_key: PublicKey,
    /// Host, with the port where one is given.
    pub host: String,
    /// The project.
    pub project_id: ProjectId,
}

/// Why a text is no DSN.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidDsn {
    /// No `http://` or `https://`.
    #[error("a DSN begins with http:// or https://")]
    Scheme,
    /// No key before `@`, or not 32 hexadecimal digits.
    #[error("a DSN carries a public key of 32 hexadecimal digits before the @")]
    Key,
    /// No decimal project id at the end.
    #[error("a DSN ends with the decimal id of a project")]
    Project,
}

impl FromStr for Dsn {
    type Err = InvalidDsn;

    fn from_str(text: &str) -> Result<Self, InvalidDsn> {
        let (scheme, rest) = text.split_once("://").ok_or(InvalidDsn::Scheme)?;
        if scheme != "http" && scheme != "https" {
            return Err(InvalidDsn::Scheme);
        }
        let (user, rest) = rest.split_once('@').ok_or(InvalidDsn::Key)?;
        let key = user.split(':').next().unwrap_or_default();
        let public_key = parse_public_key(key).ok_or(InvalidDsn::Key)?;
        let (host, path) = rest.split_once('/').ok_or(InvalidDsn::Project)?;
        let project = path.trim_end_matches('/').rsplit('/').next().unwrap_or_default();
        let project_id = project.parse().map_err(|_| InvalidDsn::Project)?;
        Ok(Self { scheme: scheme.to_owned(), public_key, host: host.to_owned(), project_id })
    }
}

impl fmt::Display for Dsn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}://{}@{}/{}", self.scheme, self.public_key, self.host, self.project_id)
    }
}

/// A public key is exactly 32 hexadecimal digits; unlike an event id it has no spelling with hyphens.
pub fn parse_public_key(text: &str) -> Option<PublicKey> {
    (text.len() == 32).then(|| text.parse().ok()).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dsn_forms() {
        let check = |text: &str, want: Result<&str, InvalidDsn>| assert_eq!(text.parse::<Dsn>().map(|d| d.to_string()), want.map(str::to_owned), "{text}");
        let key = "0123456789abcdef0123456789abcdef";
        check(&format!("http://{key}@127.0.0.1:9000/1"), Ok("http://0123456789abcdef0123456789abcdef@127.0.0.1:9000/1"));
        check(&format!("https://{key}:secret@sentry.example.org/some/path/42"), Ok("https://0123456789abcdef0123456789abcdef@sentry.example.org/42"));
        check(&format!("ftp://{key}@h/1"), Err(InvalidDsn::Scheme));
        check("http://abc@h/1", Err(InvalidDsn::Key));
        check("http://h/1", Err(InvalidDsn::Key));
        check(&format!("http://{key}@h"), Err(InvalidDsn::Project));
        check(&format!("http://{key}@h/x"), Err(InvalidDsn::Project));
    }
}
