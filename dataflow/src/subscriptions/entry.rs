//! A subscription of a running graph: its versions, its alerts, whoever watches it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Weak};

use weir_operators::Time;
use weir_operators::alert::Alerts;
use weir_protocol::ProjectId;
use weir_protocol::subscription::SubscriptionId;

use super::codec::RowBytes;
use super::command::TemplateNumber;
use super::member::Member;
use super::watch::Queue;
use super::{Status, SubscriptionState};

/// A subscription: as it runs, and as it will run as soon as its rows are there.
#[derive(Debug, Default)]
pub(crate) struct Entry {
    pub(super) current: Option<Member>,
    pub(super) next: Option<Box<Member>>,
    /// What of its alerts is known.
    pub(super) alerts: Option<Alerts>,
    /// Why it does not run at all.
    pub(super) broken: Option<String>,
    pub(super) watchers: Vec<Weak<Queue>>,
}

impl Entry {
    /// The version that was asked for last.
    pub(super) fn newest(&self) -> Option<&Member> {
        self.next.as_deref().or(self.current.as_ref())
    }

    /// The version that runs in a template, and whether it is the current one.
    pub(super) fn member_of(&mut self, template: TemplateNumber) -> Option<(&mut Member, bool)> {
        let in_template = |member: &&mut Member| member.template == template;
        let current = self.current.as_mut().filter(in_template).map(|member| (member, true));
        current.or(self.next.as_deref_mut().filter(in_template).map(|member| (member, false)))
    }

    /// The projects that it reads; `None` for all.
    pub(super) fn projects(&self) -> Option<BTreeSet<ProjectId>> {
        self.newest()?.definition.projects.clone()
    }

    pub(super) fn watchers(&self) -> impl Iterator<Item = Arc<Queue>> {
        self.watchers.iter().filter_map(Weak::upgrade)
    }

    pub(super) fn tell_watchers(&mut self, tick: Time, changes: BTreeMap<RowBytes, i64>) {
        self.watchers.retain(|watcher| watcher.strong_count() > 0);
        let Some(member) = &self.current else { return };
        let changes: Vec<(RowBytes, i64)> = changes.into_iter().filter(|(_, difference)| *difference != 0).collect();
        if changes.is_empty() {
            return;
        }
        match member.codec.decode(changes.iter().map(|(bytes, _)| &bytes[..])) {
            Ok(rows) => {
                let differences: Vec<i64> = changes.iter().map(|(_, difference)| *difference).collect();
                self.watchers().for_each(|queue| queue.push(tick, &rows, &differences));
            }
            Err(error) => tracing::error!(%error, "changes of rows cannot be read back"),
        }
    }

    /// How it is.
    pub(super) fn state(&self, id: SubscriptionId) -> SubscriptionState {
        let member = self.current.as_ref();
        let own = self.broken.clone().or_else(|| member.or(self.next.as_deref()).and_then(Member::error));
        let status = match (&own, member) {
            (Some(_), _) => Status::Failed,
            (None, Some(_)) => Status::Running,
            (None, None) => Status::Hydrating,
        };
        // What runs runs on while its next version cannot be filled.
        let filling = || self.next.as_ref().and_then(|next| next.filling_error.as_deref().map(ToOwned::to_owned));
        let error = own.or_else(filling);
        SubscriptionState {
            id,
            status,
            rows: member.map_or(0, |member| member.rows.count()),
            alerts: self.alerts.as_ref().map_or(0, |alerts| alerts.standing() as u64),
            error,
        }
    }
}
