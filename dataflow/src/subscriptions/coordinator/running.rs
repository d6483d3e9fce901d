//! A template as it runs.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Instant;

use arrow::error::ArrowError;
use weir_operators::Time;
use weir_operators::relation::template::{Changes, Failure, HALTED, Template, Usage};
use weir_operators::relation::{Quotas, json};
use weir_protocol::subscription::SubscriptionId;

use super::ticks::Touched;
use crate::subscriptions::codec::Codec;
use crate::subscriptions::command::TemplateNumber;
use crate::subscriptions::handle::Live;
use crate::subscriptions::hydration::Sink;
use crate::subscriptions::live::RowChange;
use crate::subscriptions::member::{Failures, ParameterCodec};
use crate::subscriptions::scans::Grid;
use crate::subscriptions::{Shape, TemplateUsage};
use crate::telemetry;

/// A template.
pub(super) struct Running {
    pub(super) shape: Shape,
    pub(super) plan: Arc<Template>,
    pub(super) codec: Arc<Codec>,
    pub(super) parameters: Arc<ParameterCodec>,
    /// How often its stored rows could not be read.
    pub(super) failures_of_filling: u32,
    pub(super) members: BTreeSet<SubscriptionId>,
    pub(super) frontiers: Vec<Time>,
    pub(super) usage: Vec<Usage>,
    /// Whether it was said that it comes near its quotas.
    pub(super) warned: bool,
    pub(super) built: Vec<Option<Time>>,
    /// Where the workers wait for stored rows.
    pub(super) sinks: Vec<Sink>,
    pub(super) asked_at: Instant,
    /// How many workers have all stored rows.
    pub(super) begun: usize,
    /// Whether its ticks are waited for.
    pub(super) live: bool,
    pub(super) changes: BTreeMap<Time, Vec<Changes>>,
    pub(super) failures: BTreeMap<Time, Vec<(Failure, i64)>>,
    /// Failures of the whole template that stand.
    pub(super) standing: Failures,
    pub(super) grids: BTreeSet<Grid>,
    /// The newest tick at which a table that it reads changed.
    pub(super) fed: Time,
    /// Whether rows that it was given have been deleted since it was begun to be filled.
    pub(super) is_dirty: bool,
    /// Whether it makes nothing more on some worker: what others make is a part of the truth only, so that rows and alerts stay.
    pub(super) is_halted: bool,
}

/// Of a quota it is said that so many hundredths are used.
const QUOTA_WARNING_PERCENT: u64 = 80;

impl Running {
    pub(super) fn frontier(&self) -> Time {
        self.frontiers.iter().copied().min().unwrap_or(Time::MAX)
    }

    /// When a row of a window comes or goes next, as far as rows can be in windows.
    pub(super) fn due(&self, after: Time) -> Option<Time> {
        self.grids.iter().filter(|grid| after < self.fed.saturating_add(grid.reach_ms)).map(|grid| grid.after(after)).min()
    }

    /// Notes what a worker uses, and says so when it comes near the quotas: beyond them the template halts.
    pub(super) fn use_up(&mut self, worker: usize, number: TemplateNumber, usage: Usage) {
        let pairs = if usage.pairs == 0 { self.usage[worker].pairs } else { usage.pairs };
        self.usage[worker] = Usage { pairs, ..usage };
        let (total, quotas) = (self.total_usage(), Quotas::default());
        let used = [(total.groups, quotas.groups_max), (total.state_bytes, quotas.state_bytes_max), (total.pairs_per_tick, quotas.pairs_per_tick_max)];
        let is_near = used.iter().any(|(used, max)| used.saturating_mul(100) > max.saturating_mul(QUOTA_WARNING_PERCENT));
        if is_near && !self.warned {
            tracing::warn!(template = number, subscriptions = self.members.len(), usage = ?total, ?quotas, "a shape of subscriptions comes near its quotas");
        }
        self.warned = is_near;
    }

    pub(super) fn total_usage(&self) -> TemplateUsage {
        let sum = |of: fn(&Usage) -> u64| self.usage.iter().map(of).sum();
        TemplateUsage {
            subscriptions: self.members.len() as u64,
            groups: sum(|usage| usage.groups),
            state_bytes: sum(|usage| usage.state_bytes),
            pairs_per_tick: sum(|usage| usage.pairs),
        }
    }

    /// What is wrong with the whole template.
    pub(super) fn error(&self) -> Option<Arc<str>> {
        self.standing.error().map(Arc::from)
    }

    /// Takes up what changed until a tick.
    pub(super) fn apply(&mut self, number: TemplateNumber, tick: Time, live: &mut Live, touched: &mut Touched) {
        let halts = |(failure, difference): &(Failure, i64)| failure.subscription.is_none() && *difference > 0 && failure.message.starts_with(HALTED);
        self.is_halted |= self.failures.range(..=tick).any(|(_, failures)| failures.iter().any(halts));
        if self.is_halted {
            self.changes = self.changes.split_off(&(tick + 1));
            self.failures.range_mut(..=tick).for_each(|(_, failures)| failures.retain(halts));
        }
        while let Some(entry) = self.changes.first_entry()
            && *entry.key() <= tick
        {
            for changes in entry.remove() {
                metrics::counter!(telemetry::SUBSCRIPTION_CHANGES).increment(changes.differences.len() as u64);
                if let Err(error) = self.apply_changes(number, &changes, live, touched) {
                    tracing::error!(%error, template = number, "changes of rows cannot be taken up");
                }
            }
        }
        while let Some(entry) = self.failures.first_entry()
            && *entry.key() <= tick
        {
            for (failure, difference) in entry.remove() {
                self.apply_failure(number, failure, difference, live, touched);
            }
        }
    }

    pub(super) fn apply_changes(&self, number: TemplateNumber, changes: &Changes, live: &mut Live, touched: &mut Touched) -> Result<(), ArrowError> {
        let rows = self.codec.encode(&changes.rows)?;
        for (index, bytes) in rows.into_iter().enumerate() {
            let id = changes.subscriptions[index];
            let Some(entry) = live.entries.get_mut(&id) else { continue };
            let is_watched = !entry.watchers.is_empty();
            let Some((member, is_current)) = entry.member_of(number) else { continue };
            let key = json::row_text(&changes.keys, index);
            let (fires, difference) = (changes.fires[index], changes.differences[index]);
            if is_current {
                touched.keys.entry(id).or_default().insert(key.clone());
                if is_watched && fires {
                    *touched.watched.entry(id).or_default().entry(bytes.clone()).or_default() += difference;
                }
            }
            member.rows.change(RowChange { key, bytes, fires, escalates: changes.escalates[index], difference });
            if member.rows.is_too_large() {
                touched.grown.insert((id, number));
            }
        }
        Ok(())
    }

    pub(super) fn apply_failure(&mut self, number: TemplateNumber, failure: Failure, difference: i64, live: &mut Live, touched: &mut Touched) {
        let Failure { subscription, message, row } = failure;
        match subscription {
            Some(id) => {
                if let Some((member, _)) = live.entries.get_mut(&id).and_then(|entry| entry.member_of(number)) {
                    member.failures.add(message, row, difference);
                    touched.failures.insert(id);
                }
            }
            None => {
                self.standing.add(message, row, difference);
                let error = self.error();
                for id in &self.members {
                    if let Some((member, _)) = live.entries.get_mut(id).and_then(|entry| entry.member_of(number)) {
                        member.template_error.clone_from(&error);
                        touched.failures.insert(*id);
                    }
                }
            }
        }
    }
}
