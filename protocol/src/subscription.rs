//! Subscriptions and what comes of them: the words that the catalog, the graph, the queries and the dispatcher share.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use crate::ids::{OrgId, ProjectId};
use crate::notify::redacted_target;

/// A subscription's number: given by the catalog, never used again.
pub type SubscriptionId = u64;

/// A query that is kept up to date, and what happens while it has rows.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Subscription {
    /// Its number.
    pub id: SubscriptionId,
    /// Raised by each change of its query or of what its alerts mean; part of the ids of its alerts.
    pub version: u32,
    /// Its name, unique in the organisation.
    pub name: String,
    /// The query, as text.
    pub query: String,
    /// What was given with it.
    pub options: SubscriptionOptions,
    /// Whose it is.
    pub org_id: OrgId,
    /// The projects that it reads: those that its creator could read then; `None` for all of the organisation.
    pub projects: Option<BTreeSet<ProjectId>>,
    /// The name of the token that created it.
    pub created_by: String,
    /// When it was created, in Unix milliseconds.
    pub created_ms: u64,
}

/// What is given with a subscription: `WITH (…)`. Its debug form shows no secret.
#[derive(Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct SubscriptionOptions {
    /// `severity`: `info`, `warning`, `error` or `critical`; `error` where it is not given.
    pub severity: Option<String>,
    /// `notify`: whom to tell, each `webhook:URL`, `slack:URL` or `email:ADDRESS`.
    pub notify: Vec<String>,
    /// `for`: how long a row must hold before it fires, in milliseconds.
    pub for_ms: u64,
    /// `resolve_when`: a condition on the columns of the answer; the alert of a row stays until it is true.
    pub resolve_when: Option<String>,
    /// `escalate_when`: a condition on the columns of the answer that raises the alert to `critical`.
    pub escalate_when: Option<String>,
    /// `min_interval`: after a key fired, it notifies of firing again only when this much time has passed, in milliseconds.
    pub min_interval_ms: u64,
    /// `mute_until`: nobody is notified before this, in Unix milliseconds; alerts are recorded all the same.
    pub mute_until_ms: u64,
    /// `lateness`: how long a window on event time waits for its events, in milliseconds; as long as the window where not given.
    pub lateness_ms: Option<u64>,
    /// `secret`: what webhooks are signed with. Never shown.
    pub secret: Option<String>,
}

impl std::fmt::Debug for SubscriptionOptions {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { severity, notify, for_ms, resolve_when, escalate_when, min_interval_ms, mute_until_ms, lateness_ms, secret } = self;
        f.debug_struct("SubscriptionOptions")
            .field("severity", severity)
            .field("notify", &notify.iter().map(|target| redacted_target(target)).collect::<Vec<_>>())
            .field("for_ms", for_ms)
            .field("resolve_when", resolve_when)
            .field("escalate_when", escalate_when)
            .field("min_interval_ms", min_interval_ms)
            .field("mute_until_ms", mute_until_ms)
            .field("lateness_ms", lateness_ms)
            .field("secret", &secret.as_ref().map(|_| "…"))
            .finish()
    }
}

/// What happened to an alert.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum TransitionKind {
    /// Its row appeared.
    Fired,
    /// Its row came to meet `escalate_when`.
    Escalated,
    /// Its row left, or came to meet `resolve_when`.
    Resolved,
    /// The subscription itself cannot be kept up to date; no alert of a row.
    Failed,
}

impl TransitionKind {
    /// The word that clients see.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Fired => "fired",
            Self::Escalated => "escalated",
            Self::Resolved => "resolved",
            Self::Failed => "failed",
        }
    }

    /// The kind that a word names.
    pub fn of(word: &str) -> Option<Self> {
        [Self::Fired, Self::Escalated, Self::Resolved, Self::Failed].into_iter().find(|kind| kind.as_str() == word)
    }
}

/// One entry of the alert history, and what a notification says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Transition {
    /// [`transition_id`], in lower-case hexadecimal.
    pub id: String,
    /// The subscription.
    pub subscription_id: SubscriptionId,
    /// Its name then.
    pub subscription: String,
    /// Its version then.
    pub version: u32,
    /// The organisation.
    pub org_id: OrgId,
    /// The project, where the row names one.
    pub project_id: Option<ProjectId>,
    /// The key of the row: a JSON object.
    pub key: String,
    /// What happened.
    pub kind: TransitionKind,
    /// The severity.
    pub severity: String,
    /// The row: a JSON object. Of a resolved alert the last row that held.
    pub row: String,
    /// The tick at which the row came to be so, in Unix milliseconds.
    pub event_time_ms: u64,
    /// The tick at which the transition was made, in Unix milliseconds; later than the above by `for`.
    pub fired_ms: u64,
    /// Whom to tell; empty while the subscription is muted, or within its least interval.
    pub notify: Vec<String>,
}

/// What is known of a key: what its next transition is measured against. Mostly an alert that stands; also a row that waits for
/// `for`, and a key whose alert ended within the least interval.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ActiveAlert {
    /// The subscription.
    pub subscription_id: SubscriptionId,
    /// The key: a JSON object, as in [`Transition::key`]. Empty for the subscription itself, which has failed.
    pub key: String,
    /// The version that fired it.
    pub version: u32,
    /// Whether it was escalated.
    pub escalated: bool,
    /// Since when its row has met the condition while it waits for `for`, in Unix milliseconds; 0 where it does not wait.
    pub since_ms: u64,
    /// When it fired, in Unix milliseconds; 0 where no alert stands.
    pub fired_ms: u64,
    /// When it last notified of firing, in Unix milliseconds.
    pub notified_ms: u64,
    /// Its last row: a JSON object.
    pub row: String,
}

/// The id of a transition: it is the same however often the same transition is made.
pub fn transition_id(subscription: SubscriptionId, version: u32, key: &str, kind: TransitionKind, tick_ms: u64) -> String {
    let mut text = format!("{subscription}\0{version}\0{}\0{tick_ms}\0", kind.as_str());
    text.push_str(key);
    blake3::hash(text.as_bytes()).to_hex()[..32].to_owned()
}
