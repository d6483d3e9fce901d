//! Notifications by mail, through the operator's mail server.
//!
//! The server is the operator's choice and not a user's, so its address is not filtered.

use std::time::{Duration, SystemTime};

use lettre::message::header::{ContentType, HeaderName, HeaderValue};
use lettre::message::{Mailbox, Message};
use lettre::{AsyncSmtpTransport, AsyncTransport, Tokio1Executor};
use url::Url;
use weir_protocol::subscription::Transition;

use crate::courier::Verdict;
use crate::rendering::{Columns, headline, meaning, shortened, time};

/// Sends mails from one address through one server.
#[derive(Clone)]
pub struct Mail {
    transport: AsyncSmtpTransport<Tokio1Executor>,
    from: Mailbox,
}

/// A setting that cannot be used. It never holds the password.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum MailError {
    /// `mail.url`
    #[error("mail.url cannot be used: {0}: write smtp://HOST:PORT, smtp://USER:PASSWORD@HOST or smtps://USER:PASSWORD@HOST")]
    Url(String),
    /// `mail.from`
    #[error("mail.from is {0:?}, which is no address: write weir@example.org or Weir <weir@example.org>")]
    From(String),
}

/// How long a command of the exchange may take.
const COMMAND_TIME_MAX: Duration = Duration::from_secs(10);
/// How long a mail may take altogether.
const MAIL_TIME_MAX: Duration = Duration::from_secs(30);
const SUBJECT_CHARS_MAX: usize = 180;
const VALUE_CHARS_MAX: usize = 2_000;
const COLUMNS_MAX: usize = 100;

impl Mail {
    /// Reads `mail.url` and `mail.from`; connects to nothing.
    ///
    /// # Errors
    /// [`MailError`]
    pub fn new(url: &str, from: &str) -> Result<Self, MailError> {
        let url = server(url)?;
        let transport = AsyncSmtpTransport::<Tokio1Executor>::from_url(url.as_str()).map_err(|e| MailError::Url(e.to_string()))?;
        let from = from.trim().parse().map_err(|_| MailError::From(from.to_owned()))?;
        Ok(Self { transport: transport.timeout(Some(COMMAND_TIME_MAX)).build(), from })
    }

    /// Connects to the server, with the encryption and the login that mails are sent with, and sends nothing.
    ///
    /// # Errors
    /// What went wrong, in words.
    pub async fn check(&self) -> Result<(), String> {
        match tokio::time::timeout(MAIL_TIME_MAX, self.transport.test_connection()).await {
            Ok(Ok(true)) => Ok(()),
            Ok(Ok(false)) => Err("the mail server ended the connection".to_owned()),
            Ok(Err(error)) => Err(in_words(&error)),
            Err(_) => Err(too_long()),
        }
    }

    /// Sends the mail of a transition to an address.
    pub(crate) async fn deliver(&self, address: &str, transition: &Transition) -> Verdict {
        let message = match self.message(address, transition) {
            Ok(message) => message,
            Err(error) => return Verdict::Failed { error },
        };
        match tokio::time::timeout(MAIL_TIME_MAX, self.transport.send(message)).await {
            Ok(Ok(_)) => Verdict::Delivered,
            Ok(Err(error)) => verdict(&error),
            Err(_) => Verdict::retry(too_long()),
        }
    }

    /// The same mail for every attempt, its id and date included, so that a mailbox that gets it twice can tell.
    fn message(&self, address: &str, transition: &Transition) -> Result<Message, String> {
        let to: Mailbox = address.parse().map_err(|_| format!("{address:?} is no address that mail can be sent to"))?;
        let domain = self.from.email.domain();
        // What happens to one row is one conversation in the reader's mailbox.
        let conversation = blake3::hash(format!("{}\0{}", transition.subscription_id, transition.key).as_bytes()).to_hex();
        Message::builder()
            .from(self.from.clone())
            .to(to)
            .subject(subject(transition))
            .message_id(Some(format!("<{}@{domain}>", transition.id)))
            .references(format!("<{}@{domain}>", &conversation[..32]))
            .date(SystemTime::UNIX_EPOCH + Duration::from_millis(transition.fired_ms))
            // Nobody's out-of-office notice is wanted (RFC 3834).
            .raw_header(HeaderValue::new(HeaderName::new_from_ascii_str("Auto-Submitted"), "auto-generated".to_owned()))
            .header(ContentType::TEXT_PLAIN)
            .body(text(transition))
            .map_err(|e| e.to_string())
    }
}

/// The URL in the form of the mail library: encryption where the server offers it, and always where a password is sent.
fn server(text: &str) -> Result<Url, MailError> {
    // Not the parser's words alone: it is told what the text is, which may hold a password.
    let mut url = Url::parse(text.trim()).map_err(|e| MailError::Url(e.to_string()))?;
    let wrong = |reason: &str| Err(MailError::Url(reason.to_owned()));
    if url.host_str().is_none_or(str::is_empty) {
        return wrong("it names no host");
    }
    match url.scheme() {
        "smtps" => {}
        "smtp" => {
            let asked = url.query_pairs().find(|(name, _)| name == "tls").map(|(_, value)| value.into_owned());
            let tls = asked.unwrap_or_else(|| if url.username().is_empty() { "opportunistic" } else { "required" }.to_owned());
            match tls.as_str() {
                "none" => url.set_query(None),
                "opportunistic" | "required" => url.set_query(Some(&format!("tls={tls}"))),
                _ => return wrong("tls is none, opportunistic or required"),
            }
        }
        _ => return wrong("it begins neither with smtp:// nor with smtps://"),
    }
    Ok(url)
}

fn verdict(error: &lettre::transport::smtp::Error) -> Verdict {
    let code = error.status().map(|code| code.to_string());
    // A password that is refused is the operator's to mend, and then what waits goes out.
    let is_login = code.as_deref().is_some_and(|code| ["530", "534", "535", "538"].contains(&code));
    if error.is_permanent() && !is_login { Verdict::Failed { error: in_words(error) } } else { Verdict::retry(in_words(error)) }
}

/// The error with its causes, each said once.
fn in_words(error: &lettre::transport::smtp::Error) -> String {
    let mut words = format!("the mail server: {error}");
    let mut source = std::error::Error::source(error);
    while let Some(error) = source {
        let cause = error.to_string();
        if !words.contains(&cause) {
            words = format!("{words}: {cause}");
        }
        source = error.source();
    }
    words
}

fn too_long() -> String {
    format!("the mail server took longer than {} s", MAIL_TIME_MAX.as_secs())
}

fn subject(transition: &Transition) -> String {
    let line = format!("[{}] {}", transition.severity, headline(transition));
    let plain: String = line.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    shortened(&plain, SUBJECT_CHARS_MAX)
}

fn text(transition: &Transition) -> String {
    let key = Columns::of(&transition.key);
    let row = Columns::of(&transition.row).without(&key);
    let width = key.0.iter().chain(&row.0).map(|(name, _)| name.chars().count()).max().unwrap_or_default().min(40);
    let mut lines = vec![
        format!("{} {} ({})", transition.subscription, transition.kind.as_str(), transition.severity),
        String::new(),
        meaning(transition.kind).to_owned(),
        String::new(),
    ];
    for (name, value) in key.0.iter().chain(&row.0).take(COLUMNS_MAX) {
        lines.push(format!("  {name:<width$}  {}", shortened(value, VALUE_CHARS_MAX).replace('\n', "\n      ")));
    }
    lines.extend([
        String::new(),
        format!("since  {}", time(transition.event_time_ms)),
        format!("{:<5}  {}", transition.kind.as_str().chars().take(5).collect::<String>(), time(transition.fired_ms)),
        format!("alert  {}", transition.id),
        String::new(),
        "Sent by Weir because this address stands in the subscription's notify. ALTER or DROP SUBSCRIPTION ends it.".to_owned(),
    ]);
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use weir_protocol::subscription::TransitionKind;

    use super::*;
    use crate::rendering::tests::transition;

    #[test]
    fn servers_are_read_or_refused() {
        let check = |url: &str, want: Result<&str, &str>| match (server(url), want) {
            (Ok(url), Ok(want)) => assert_eq!(url.as_str(), want),
            (Err(error), Err(words)) => assert!(error.to_string().contains(words) && !error.to_string().contains("hunter2"), "{url}: {error}"),
            (got, want) => panic!("{url}: {got:?}, not {want:?}"),
        };
        check("smtp://127.0.0.1:2525", Ok("smtp://127.0.0.1:2525?tls=opportunistic"));
        check("smtp://me:hunter2@mail.example.org", Ok("smtp://me:hunter2@mail.example.org?tls=required"));
        check("smtp://me:hunter2@mail.example.org:25?tls=none", Ok("smtp://me:hunter2@mail.example.org:25"));
        check("smtps://me:hunter2@mail.example.org", Ok("smtps://me:hunter2@mail.example.org"));
        check("smtp://mail.example.org?tls=maybe", Err("none, opportunistic or required"));
        check("http://me:hunter2@mail.example.org", Err("smtp://"));
        check("mail.example.org", Err("mail.url"));
        check("smtp://", Err("mail.url"));
        assert!(matches!(Mail::new("smtp://127.0.0.1", "nobody"), Err(MailError::From(_))));
    }

    #[test]
    fn a_mail_is_readable_and_the_same_each_time() {
        let mail = Mail::new("smtp://127.0.0.1:2525", "Weir <weir@example.org>").unwrap();
        let fired = transition(TransitionKind::Fired);
        let first = String::from_utf8(mail.message("pay@example.org", &fired).unwrap().formatted()).unwrap();
        assert_eq!(first, String::from_utf8(mail.message("pay@example.org", &fired).unwrap().formatted()).unwrap());
        for line in [
            "From: Weir <weir@example.org>\r\n",
            "To: pay@example.org\r\n",
            "Subject: [critical] checkout_errors fired: project=shop",
            "Message-ID: <0123456789abcdef0123456789abcdef@example.org>\r\n",
            "Auto-Submitted: auto-generated\r\n",
            "  n                 9007199254740993",
            "  project           shop",
        ] {
            assert!(first.contains(line), "{line:?} is not in {first}");
        }
        assert_eq!(first.matches("project  ").count(), 1, "a column of the key is not said again");
        let resolved = String::from_utf8(mail.message("pay@example.org", &transition(TransitionKind::Resolved)).unwrap().formatted()).unwrap();
        let conversation = |mail: &str| mail.lines().find(|line| line.starts_with("References:")).unwrap().to_owned();
        assert_eq!(conversation(&first), conversation(&resolved));
    }

    #[test]
    fn nothing_in_a_row_becomes_a_header() {
        let mail = Mail::new("smtp://127.0.0.1:2525", "weir@example.org").unwrap();
        let evil = Transition { key: r#"{"k":"x\r\nBcc: all@example.org\r\n\r\nbody"}"#.to_owned(), ..transition(TransitionKind::Fired) };
        let mail = String::from_utf8(mail.message("pay@example.org", &evil).unwrap().formatted()).unwrap();
        let headers = mail.split("\r\n\r\n").next().unwrap();
        assert!(!headers.lines().any(|line| line.starts_with("Bcc")), "{headers}");
    }
}
