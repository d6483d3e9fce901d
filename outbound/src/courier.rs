//! One attempt at one notification: how it is sent, and what the answer means.

use std::time::Duration;

use bytes::Bytes;
use reqwest::Method;
use reqwest::header::{CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue};
use url::Url;
use weir_catalog::OutboxMessage;
use weir_protocol::notify::NotifyTarget;

use crate::client::{Bounds, Client, Reply, Request};
use crate::mail::Mail;
use crate::{slack, webhook};

/// What an attempt came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// The receiver has it.
    Delivered,
    /// It may succeed another time.
    Retry {
        /// What went wrong.
        error: String,
        /// How long the receiver asked to be left alone.
        after: Option<Duration>,
    },
    /// It would fail again.
    Failed {
        /// What went wrong.
        error: String,
    },
}

impl Verdict {
    pub(crate) fn retry(error: String) -> Self {
        Self::Retry { error, after: None }
    }
}

/// Sends notifications. Cheap to clone.
#[derive(Clone)]
pub struct Courier {
    client: Client,
    mail: Option<Mail>,
}

/// How much of a refusal's body the delivery log shows.
const EXCERPT_CHARS_MAX: usize = 100;

impl Courier {
    /// A courier; without a mail server mails fail.
    pub fn new(client: Client, mail: Option<Mail>) -> Self {
        Self { client, mail }
    }

    /// Tries to deliver a notification once.
    pub async fn deliver(&self, message: &OutboxMessage) -> Verdict {
        match message.target.parse::<NotifyTarget>() {
            Ok(NotifyTarget::Webhook(url)) => {
                let body = webhook::body(&message.transition);
                self.post(url, signed_headers(message, &body), body).await
            }
            Ok(NotifyTarget::Slack(url)) => self.post(url, json_headers(&message.transition.id), slack::body(&message.transition).to_string()).await,
            Ok(NotifyTarget::Email(address)) => match &self.mail {
                Some(mail) => mail.deliver(&address, &message.transition).await,
                None => Verdict::Failed { error: "no mail is sent: mail.url is not set".to_owned() },
            },
            Err(error) => Verdict::Failed { error: error.to_string() },
        }
    }

    async fn post(&self, url: Url, headers: HeaderMap, body: String) -> Verdict {
        let request = Request { method: Method::POST, url, headers, body: Bytes::from(body), bounds: Bounds::default() };
        match self.client.send(request).await {
            Ok(reply) => judge(&reply),
            Err(error) if error.is_transient() => Verdict::retry(error.to_string()),
            Err(error) => Verdict::Failed { error: error.to_string() },
        }
    }
}

/// A status in the two hundreds is a delivery. 408, 429 and the five hundreds are tried again; any other refusal is the
/// receiver's last word.
fn judge(reply: &Reply) -> Verdict {
    let status = reply.status;
    if status.is_success() {
        return Verdict::Delivered;
    }
    let excerpt: String = String::from_utf8_lossy(&reply.body).chars().map(|c| if c.is_control() { ' ' } else { c }).take(EXCERPT_CHARS_MAX).collect();
    let excerpt = excerpt.trim();
    let error = format!("the receiver answered {status}{}{excerpt}", if excerpt.is_empty() { "" } else { ": " });
    if status.is_server_error() || matches!(status.as_u16(), 408 | 429) {
        Verdict::Retry { error, after: reply.retry_after }
    } else {
        Verdict::Failed { error: format!("{error} (not tried again: only 408, 429 and 5xx are)") }
    }
}

fn json_headers(alert_id: &str) -> HeaderMap {
    let mut headers = HeaderMap::new();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    // An id is hexadecimal, which every header takes.
    if let Ok(id) = HeaderValue::from_str(alert_id) {
        headers.insert(HeaderName::from_static(webhook::IDEMPOTENCY_KEY), id);
    }
    headers
}

fn signed_headers(message: &OutboxMessage, body: &str) -> HeaderMap {
    let mut headers = json_headers(&message.transition.id);
    if let Some(secret) = &message.secret
        && let Ok(signature) = HeaderValue::from_str(&webhook::signature(secret, body.as_bytes()))
    {
        headers.insert(HeaderName::from_static(webhook::SIGNATURE), signature);
    }
    headers
}

#[cfg(test)]
mod tests {
    use reqwest::StatusCode;

    use super::*;

    #[test]
    fn statuses_and_what_becomes_of_them() {
        let verdict = |status: u16| judge(&Reply { status: StatusCode::from_u16(status).unwrap(), retry_after: None, body: b"no_\nteam".to_vec() });
        for status in [200, 201, 202, 204] {
            assert_eq!(verdict(status), Verdict::Delivered);
        }
        for status in [408, 429, 500, 502, 503, 504, 599] {
            assert!(matches!(verdict(status), Verdict::Retry { .. }), "{status}");
        }
        for status in [304, 400, 401, 403, 404, 410, 413, 422] {
            let Verdict::Failed { error } = verdict(status) else { panic!("{status} is tried again") };
            assert!(error.contains(&status.to_string()) && error.contains("no_ team") && error.contains("not tried again"), "{error}");
        }
    }
}
