//! Whom an alert tells: the targets of `notify`, and how they are shown without their secrets.

use url::{Host, Url};

use crate::limits;

/// One target of `notify`.
#[derive(Clone, PartialEq, Eq)]
pub enum NotifyTarget {
    /// `webhook:URL`: a POST of JSON.
    Webhook(Url),
    /// `slack:URL`: a POST in the form that Slack's incoming webhooks take.
    Slack(Url),
    /// `email:ADDRESS`
    Email(String),
}

/// Why a text names no target.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NotifyTargetError {
    /// It begins with none of the known words.
    #[error("{shown:?} is no target of notify: write webhook:URL, slack:URL or email:ADDRESS")]
    Kind {
        /// Its beginning.
        shown: String,
    },
    /// What follows the word is no URL that can be sent to.
    #[error("the target {kind}:… of notify is no URL that can be sent to: {reason}")]
    Url {
        /// `webhook` or `slack`.
        kind: &'static str,
        /// What is wrong with it.
        reason: String,
    },
    /// What follows `email:` is no address.
    #[error("{address:?} is no e-mail address: write email:NAME@DOMAIN")]
    Address {
        /// What was given.
        address: String,
    },
    /// Too long, or too many.
    #[error("{what}: at most {max} are taken")]
    Limit {
        /// What there is too much of.
        what: &'static str,
        /// The bound.
        max: usize,
    },
}

/// The words that begin a target.
const KINDS: [&str; 3] = ["webhook:", "slack:", "email:"];
/// The longest address that SMTP carries (RFC 5321 section 4.5.3.1.3).
const ADDRESS_BYTES_MAX: usize = 254;

impl std::str::FromStr for NotifyTarget {
    type Err = NotifyTargetError;

    fn from_str(text: &str) -> Result<Self, NotifyTargetError> {
        let text = text.trim();
        if text.len() > limits::NOTIFY_TARGET_BYTES_MAX {
            return Err(NotifyTargetError::Limit { what: "the bytes of one target of notify", max: limits::NOTIFY_TARGET_BYTES_MAX });
        }
        match text.split_once(':') {
            Some(("webhook", url)) => sendable("webhook", url).map(Self::Webhook),
            Some(("slack", url)) => sendable("slack", url).map(Self::Slack),
            Some(("email", address)) => email(address).map(Self::Email),
            _ => Err(NotifyTargetError::Kind { shown: text.chars().take(40).collect() }),
        }
    }
}

fn sendable(kind: &'static str, text: &str) -> Result<Url, NotifyTargetError> {
    let wrong = |reason: &str| NotifyTargetError::Url { kind, reason: reason.to_owned() };
    let url = Url::parse(text.trim()).map_err(|e| wrong(&e.to_string()))?;
    if !matches!(url.scheme(), "http" | "https") {
        return Err(wrong("it must begin with https:// or http://"));
    }
    if url.host_str().is_none_or(str::is_empty) {
        return Err(wrong("it names no host"));
    }
    Ok(url)
}

/// Checks what every mail system demands; whether the address exists only its own server knows.
fn email(text: &str) -> Result<String, NotifyTargetError> {
    let address = text.trim();
    let plain = |part: &str| !part.is_empty() && part.chars().all(|c| !c.is_whitespace() && !c.is_control() && !matches!(c, '<' | '>' | ',' | ';' | '"' | '@'));
    match address.rsplit_once('@') {
        Some((local, domain)) if plain(local) && plain(domain) && address.len() <= ADDRESS_BYTES_MAX => Ok(address.to_owned()),
        _ => Err(NotifyTargetError::Address { address: address.chars().take(60).collect() }),
    }
}

impl NotifyTarget {
    /// Splits the text of the option `notify` into its targets, each checked. A comma separates two only where the next
    /// one begins, since a URL may hold commas.
    ///
    /// # Errors
    /// Says which part is no target.
    pub fn list(text: &str) -> Result<Vec<String>, NotifyTargetError> {
        let mut parts: Vec<String> = Vec::new();
        for piece in text.split(',') {
            let begins = KINDS.iter().any(|kind| piece.trim_start().starts_with(kind));
            match parts.last_mut() {
                Some(last) if !begins => {
                    last.push(',');
                    last.push_str(piece);
                }
                _ => parts.push(piece.to_owned()),
            }
        }
        let mut targets: Vec<String> = parts.into_iter().map(|part| part.trim().to_owned()).filter(|part| !part.is_empty()).collect();
        targets.iter().try_for_each(|target| target.parse::<Self>().map(drop))?;
        let mut seen = std::collections::BTreeSet::new();
        targets.retain(|target| seen.insert(target.clone()));
        if targets.len() > limits::NOTIFY_TARGET_COUNT_MAX {
            return Err(NotifyTargetError::Limit { what: "the targets of notify", max: limits::NOTIFY_TARGET_COUNT_MAX });
        }
        Ok(targets)
    }

    /// `webhook`, `slack` or `email`.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Webhook(_) => "webhook",
            Self::Slack(_) => "slack",
            Self::Email(_) => "email",
        }
    }

    /// Host and port that a delivery connects to; empty for e-mail, which goes to the mail server of the settings.
    pub fn host(&self) -> String {
        match self {
            Self::Webhook(url) | Self::Slack(url) => {
                let port = url.port_or_known_default().unwrap_or_default();
                match url.host() {
                    Some(Host::Ipv6(address)) => format!("[{address}]:{port}"),
                    Some(host) => format!("{host}:{port}"),
                    None => String::new(),
                }
            }
            Self::Email(_) => String::new(),
        }
    }

    /// The target as it may be shown: without user, password and query, and without the path of a Slack webhook, which is
    /// all that keeps others from posting to it.
    pub fn redacted(&self) -> String {
        let origin = |url: &Url| format!("{}://{}", url.scheme(), &url[url::Position::BeforeHost..url::Position::AfterPort]);
        match self {
            Self::Webhook(url) => format!("webhook:{}{}{}", origin(url), url.path(), if url.query().is_some() { "?…" } else { "" }),
            Self::Slack(url) => format!("slack:{}/…", origin(url)),
            Self::Email(address) => format!("email:{address}"),
        }
    }
}

impl std::fmt::Debug for NotifyTarget {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.redacted())
    }
}

/// The text of a target as it may be shown; of a text that is no target nothing but its first word.
pub fn redacted_target(text: &str) -> String {
    text.parse::<NotifyTarget>().map_or_else(|_| format!("{}:…", text.split(':').next().unwrap_or_default()), |target| target.redacted())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn targets_are_read_or_refused() {
        let check = |text: &str, want: Result<&str, &str>| match (text.parse::<NotifyTarget>(), want) {
            (Ok(target), Ok(shown)) => assert_eq!(target.redacted(), shown, "{text}"),
            (Err(error), Err(words)) => assert!(error.to_string().contains(words), "{text}: {error}"),
            (got, want) => panic!("{text}: {got:?}, not {want:?}"),
        };
        check("webhook:https://me:secret@example.org:8443/hook/a?token=x", Ok("webhook:https://example.org:8443/hook/a?…"));
        check("webhook:http://127.0.0.1:8000/1", Ok("webhook:http://127.0.0.1:8000/1"));
        check("slack:https://hooks.slack.com/services/T0/B0/x", Ok("slack:https://hooks.slack.com/…"));
        check(" email:pay@example.org ", Ok("email:pay@example.org"));
        check("webhook:ftp://example.org", Err("https://"));
        check("webhook:example.org", Err("URL"));
        check("webhook:https://", Err("host"));
        check("email:nobody", Err("e-mail address"));
        check("email:a@b\r\nBcc: c@d", Err("e-mail address"));
        check("email:a@b, c@d", Err("e-mail address"));
        check("pager:5", Err("webhook:URL"));
        check("", Err("webhook:URL"));
        check(&format!("webhook:https://example.org/{}", "x".repeat(3000)), Err("at most"));
    }

    #[test]
    fn a_list_is_split_where_targets_begin() {
        let list =
            NotifyTarget::list("webhook:https://example.org/a,b?c=1,2, email:pay@example.org,slack:https://hooks.slack.com/x, email:pay@example.org").unwrap();
        assert_eq!(list, ["webhook:https://example.org/a,b?c=1,2", "email:pay@example.org", "slack:https://hooks.slack.com/x"]);
        assert_eq!(NotifyTarget::list("").unwrap(), Vec::<String>::new());
        NotifyTarget::list("email:a@b, nonsense:c").unwrap_err();
        let many: Vec<String> = (0..21).map(|i| format!("email:u{i}@example.org")).collect();
        assert!(NotifyTarget::list(&many.join(",")).unwrap_err().to_string().contains("at most 20"));
    }

    #[test]
    fn hosts_are_what_is_connected_to() {
        let host = |text: &str| text.parse::<NotifyTarget>().unwrap().host();
        assert_eq!(host("webhook:https://Example.org/x"), "example.org:443");
        assert_eq!(host("webhook:http://[::1]:80/x"), "[::1]:80");
        assert_eq!(host("email:a@b"), "");
    }
}
