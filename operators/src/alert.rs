//! Alerts: from what a subscription's rows say, tick by tick, to what is recorded and told.
//!
//! A key whose row meets the condition fires, at once or after `for`; while its alert stands it may escalate; when the row
//! leaves, or no longer holds, it resolves. An alert that fired while it was muted, or too soon after the last one, and still stands
//! when that ends is announced then, once. What there is now (desired) is measured against what was recorded (the active set),
//! so the same rows after a restart make no transition. Nothing here reads a clock: time is the tick, and a deadline that
//! passes between two ticks is dated with the deadline.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use weir_protocol::ProjectId;
use weir_protocol::subscription::{ActiveAlert, Subscription, SubscriptionId, Transition, TransitionKind, transition_id};

use crate::Time;

/// What the row of a key says at a tick.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seen {
    /// Whether it meets the condition. A row that does not is there because it holds: it keeps an alert and makes none.
    pub fires: bool,
    /// Whether it meets `escalate_when`.
    pub escalates: bool,
    /// The row: a JSON object.
    pub row: String,
    /// The project that it is of, where it can be of no other.
    pub project_id: Option<ProjectId>,
}

/// What is to be recorded of one or several ticks.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Recorded {
    /// Entries of the history, in their order.
    pub transitions: Vec<Transition>,
    /// Keys whose standing changed: how they stand now, or that they are known no longer.
    pub active: BTreeMap<(SubscriptionId, String), Option<ActiveAlert>>,
    /// Whether it must be recorded at once; otherwise only rows or waits changed, which may wait for the next record.
    pub urgent: bool,
}

impl Recorded {
    /// Adds what came after.
    pub fn append(&mut self, later: Self) {
        self.transitions.extend(later.transitions);
        self.active.extend(later.active);
        self.urgent |= later.urgent;
    }

    /// Whether there is nothing.
    pub fn is_empty(&self) -> bool {
        self.transitions.is_empty() && self.active.is_empty()
    }

    /// Forgets a subscription: nothing of it is to be recorded any more.
    pub fn forget(&mut self, subscription: SubscriptionId) {
        self.transitions.retain(|transition| transition.subscription_id != subscription);
        self.active.retain(|(id, _), _| *id != subscription);
    }
}

/// The severity of an alert that was escalated.
pub const SEVERITY_ESCALATED: &str = "critical";
/// The severity where none is given.
pub const SEVERITY_DEFAULT: &str = "error";
/// The key under which a subscription's own failure is known: no row has it, since those are JSON objects.
const OWN_KEY: &str = "";

/// The alerts of one subscription.
#[derive(Debug)]
pub struct Alerts {
    subscription: Arc<Subscription>,
    keys: BTreeMap<String, Standing>,
    /// When a key's wait ends: the one for `for`, that for the end of the mute and of the least interval, after which it is
    /// announced or forgotten.
    deadlines: BTreeSet<(Time, String)>,
    /// When the subscription was altered last, as far as this process knows: a mute that is lifted ends then.
    altered_ms: Time,
}

/// How a key stands.
#[derive(Debug, Clone, Default, PartialEq)]
struct Standing {
    since_ms: Time,
    fired_ms: Time,
    notified_ms: Time,
    version: u32,
    escalated: bool,
    /// What the row said last.
    escalates: bool,
    row: String,
    project_id: Option<ProjectId>,
}

impl Standing {
    fn waits(&self) -> bool {
        self.since_ms != 0
    }

    fn stands(&self) -> bool {
        self.fired_ms != 0
    }

    /// Whether somebody was told that it fired, and so is told how it goes on.
    fn was_told(&self) -> bool {
        self.stands() && self.notified_ms >= self.fired_ms
    }
}

impl Alerts {
    /// The alerts of a subscription as they were recorded; none of a new one. `names_project` where the column `project_id` of its rows
    /// is known to be the project that they are of.
    pub fn new(subscription: Arc<Subscription>, active: impl IntoIterator<Item = ActiveAlert>, names_project: bool) -> Self {
        let is_read = |id: &ProjectId| subscription.projects.as_ref().is_none_or(|projects| projects.contains(id));
        let keys = active.into_iter().map(|alert| {
            let standing = Standing {
                since_ms: alert.since_ms,
                fired_ms: alert.fired_ms,
                notified_ms: alert.notified_ms,
                version: alert.version,
                escalated: alert.escalated,
                escalates: false,
                project_id: project_of(&alert.row).filter(|id| names_project && is_read(id)),
                row: alert.row,
            };
            (alert.key, standing)
        });
        // Deadlines are set when the rows are seen for the first time: whether a wait went on meanwhile shows only then.
        let keys = keys.collect();
        Self { keys, subscription, deadlines: BTreeSet::new(), altered_ms: 0 }
    }

    /// The subscription.
    pub fn subscription(&self) -> &Arc<Subscription> {
        &self.subscription
    }

    /// How many alerts stand.
    pub fn standing(&self) -> usize {
        self.keys.iter().filter(|(key, standing)| *key != OWN_KEY && standing.stands()).count()
    }

    /// When something is due next though no row changes.
    pub fn next_deadline(&self) -> Option<Time> {
        self.deadlines.first().map(|(deadline, _)| *deadline)
    }

    /// Another version of the subscription from now on. Keys stand as they stood; [`Self::begin`] or [`Self::observe`] with what
    /// its rows say are to follow.
    pub fn alter(&mut self, tick: Time, subscription: Arc<Subscription>) {
        self.subscription = subscription;
        self.altered_ms = tick;
        self.deadlines = self.keys.iter().filter_map(|(key, standing)| Some((self.deadline(standing)?, key.clone()))).collect();
    }

    /// All rows at a tick, where nothing was seen before: what is recorded and no longer there resolves, what is there and was not
    /// recorded fires.
    pub fn begin(&mut self, tick: Time, rows: &BTreeMap<&str, Seen>, recorded: &mut Recorded) {
        let gone: Vec<String> = self.keys.keys().filter(|key| *key != OWN_KEY && !rows.contains_key(key.as_str())).cloned().collect();
        for key in gone {
            self.observe(tick, &key, None, recorded);
        }
        for (key, seen) in rows {
            self.observe(tick, key, Some(seen.clone()), recorded);
        }
        self.pass(tick + 1, recorded);
    }

    /// The row of a key came, changed, or went (`None`). Deadlines before the tick must have been passed.
    pub fn observe(&mut self, tick: Time, key: &str, seen: Option<Seen>, recorded: &mut Recorded) {
        let before = self.keys.remove(key);
        let mut standing = before.clone().unwrap_or_default();
        if let Some(deadline) = before.as_ref().and_then(|standing| self.deadline(standing)) {
            self.deadlines.remove(&(deadline, key.to_owned()));
        }
        match seen {
            None => {
                standing.since_ms = 0;
                if standing.stands() {
                    self.resolve(tick, key, &mut standing, recorded);
                }
            }
            Some(seen) => self.stand(tick, key, &mut standing, seen, recorded),
        }
        self.keep(tick, key, before.as_ref(), standing, recorded);
    }

    /// Lets all waits end that end before `until`.
    pub fn pass(&mut self, until: Time, recorded: &mut Recorded) {
        while let Some((deadline, _)) = self.deadlines.first()
            && *deadline < until
        {
            let Some((deadline, key)) = self.deadlines.pop_first() else { return };
            let Some(before) = self.keys.remove(&key) else { continue };
            let mut standing = before.clone();
            if standing.waits() {
                self.fire(deadline, &key, &mut standing, recorded);
            } else if standing.stands() {
                self.announce(deadline, &key, &mut standing, recorded);
            }
            self.keep(deadline, &key, Some(&before), standing, recorded);
        }
    }

    /// The subscription itself cannot be kept up to date. It is told once until [`Self::recover`]; where it is muted, when the
    /// mute ends.
    pub fn fail(&mut self, tick: Time, row: String, recorded: &mut Recorded) {
        if let Some(known) = self.keys.get(OWN_KEY) {
            // After a restart: that it still fails is known only now.
            self.deadlines.extend(self.deadline(known).map(|deadline| (deadline, OWN_KEY.to_owned())));
            return;
        }
        let muted = tick < self.subscription.options.mute_until_ms;
        let standing = Standing { fired_ms: tick, notified_ms: if muted { 0 } else { tick }, version: self.subscription.version, row, ..Standing::default() };
        let transition = self.transition(OWN_KEY, TransitionKind::Failed, tick, tick, &standing);
        recorded.transitions.push(transition);
        self.keep(tick, OWN_KEY, None, standing, recorded);
    }

    /// The subscription is up to date again.
    pub fn recover(&mut self, recorded: &mut Recorded) {
        if let Some(known) = self.keys.remove(OWN_KEY) {
            if let Some(deadline) = self.deadline(&known) {
                self.deadlines.remove(&(deadline, OWN_KEY.to_owned()));
            }
            recorded.active.insert((self.subscription.id, OWN_KEY.to_owned()), None);
            recorded.urgent = true;
        }
    }

    fn stand(&self, tick: Time, key: &str, standing: &mut Standing, seen: Seen, recorded: &mut Recorded) {
        let fires = seen.fires;
        (standing.row, standing.project_id, standing.escalates) = (seen.row, seen.project_id, seen.escalates);
        if standing.stands() {
            standing.version = self.subscription.version;
            self.escalate(tick, key, standing, recorded);
        } else if !fires {
            standing.since_ms = 0;
        } else {
            if !standing.waits() {
                standing.since_ms = tick;
            }
            if self.subscription.options.for_ms == 0 {
                self.fire(tick, key, standing, recorded);
            }
        }
    }

    fn fire(&self, at: Time, key: &str, standing: &mut Standing, recorded: &mut Recorded) {
        let options = &self.subscription.options;
        let since = std::mem::take(&mut standing.since_ms);
        let too_soon = self.is_too_soon(at, standing);
        (standing.fired_ms, standing.version, standing.escalated) = (at, self.subscription.version, false);
        if !too_soon && at >= options.mute_until_ms {
            standing.notified_ms = at;
        }
        recorded.transitions.push(self.transition(key, TransitionKind::Fired, since, at, standing));
        self.escalate(at, key, standing, recorded);
    }

    /// Whether somebody was told of the key less than the least interval ago.
    fn is_too_soon(&self, at: Time, standing: &Standing) -> bool {
        standing.notified_ms != 0 && at < standing.notified_ms.saturating_add(self.subscription.options.min_interval_ms)
    }

    fn escalate(&self, at: Time, key: &str, standing: &mut Standing, recorded: &mut Recorded) {
        if standing.escalates && !standing.escalated {
            standing.escalated = true;
            // An alert that nobody was told of for having fired lately is told of when it is raised.
            if at >= self.subscription.options.mute_until_ms {
                standing.notified_ms = at;
            }
            recorded.transitions.push(self.transition(key, TransitionKind::Escalated, at, at, standing));
        }
    }

    /// Tells of an alert that fired while it was muted or within the least interval, and still stands.
    fn announce(&self, at: Time, key: &str, standing: &mut Standing, recorded: &mut Recorded) {
        standing.notified_ms = at;
        let kind = if key == OWN_KEY { TransitionKind::Failed } else { TransitionKind::Fired };
        recorded.transitions.push(self.transition(key, kind, standing.fired_ms, at, standing));
    }

    fn resolve(&self, at: Time, key: &str, standing: &mut Standing, recorded: &mut Recorded) {
        recorded.transitions.push(self.transition(key, TransitionKind::Resolved, at, at, standing));
        (standing.fired_ms, standing.escalated, standing.escalates) = (0, false, false);
    }

    fn transition(&self, key: &str, kind: TransitionKind, event_time_ms: Time, at: Time, standing: &Standing) -> Transition {
        let subscription = &self.subscription;
        let severity = if standing.escalated { SEVERITY_ESCALATED } else { subscription.options.severity.as_deref().unwrap_or(SEVERITY_DEFAULT) };
        let told = standing.was_told() && at >= subscription.options.mute_until_ms;
        let key = if key == OWN_KEY { "{}" } else { key };
        Transition {
            id: transition_id(subscription.id, subscription.version, key, kind, at),
            subscription_id: subscription.id,
            subscription: subscription.name.clone(),
            version: subscription.version,
            org_id: subscription.org_id,
            project_id: standing.project_id.or_else(|| only_project(subscription)),
            key: key.to_owned(),
            kind,
            severity: severity.to_owned(),
            row: standing.row.clone(),
            event_time_ms,
            fired_ms: at,
            notify: if told { subscription.options.notify.clone() } else { Vec::new() },
        }
    }

    /// When something is due with a key though its row does not change.
    fn deadline(&self, standing: &Standing) -> Option<Time> {
        let options = &self.subscription.options;
        if standing.stands() {
            let interval_ends = if standing.notified_ms == 0 { 0 } else { standing.notified_ms.saturating_add(options.min_interval_ms) };
            // Later than it fired: two transitions of one key and kind are told apart by their time.
            (!standing.was_told()).then(|| options.mute_until_ms.max(interval_ends).max(self.altered_ms).max(standing.fired_ms + 1))
        } else if standing.waits() {
            Some(standing.since_ms.saturating_add(options.for_ms))
        } else if standing.notified_ms == 0 {
            Some(0)
        } else {
            Some(standing.notified_ms.saturating_add(options.min_interval_ms))
        }
    }

    /// Remembers how a key stands, or forgets it, and records the difference.
    fn keep(&mut self, now: Time, key: &str, before: Option<&Standing>, standing: Standing, recorded: &mut Recorded) {
        let deadline = self.deadline(&standing);
        let known = standing.stands() || standing.waits() || deadline.is_none_or(|deadline| now < deadline);
        let place = (self.subscription.id, key.to_owned());
        let alert = |s: &Standing| (s.fired_ms, s.escalated, s.version, s.notified_ms);
        recorded.urgent |= before.map(alert).unwrap_or_default() != alert(&standing);
        if !known {
            if before.is_some() {
                recorded.active.insert(place, None);
            }
            return;
        }
        if before != Some(&standing) {
            recorded.active.insert(place, Some(self.active(key, &standing)));
        }
        if let Some(deadline) = deadline {
            self.deadlines.insert((deadline, key.to_owned()));
        }
        self.keys.insert(key.to_owned(), standing);
    }

    fn active(&self, key: &str, standing: &Standing) -> ActiveAlert {
        ActiveAlert {
            subscription_id: self.subscription.id,
            key: key.to_owned(),
            version: standing.version,
            escalated: standing.escalated,
            since_ms: standing.since_ms,
            fired_ms: standing.fired_ms,
            notified_ms: standing.notified_ms,
            row: standing.row.clone(),
        }
    }
}

/// The project of a subscription that reads one only.
fn only_project(subscription: &Subscription) -> Option<ProjectId> {
    let projects = subscription.projects.as_ref()?;
    projects.first().copied().filter(|_| projects.len() == 1)
}

/// The project that a recorded row names.
fn project_of(row: &str) -> Option<ProjectId> {
    serde_json::from_str::<serde_json::Value>(row).ok()?.get("project_id")?.as_u64()
}

#[cfg(test)]
mod tests;
