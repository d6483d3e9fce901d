//! What a complete tick changes, and what the alerts see of it.

use std::collections::{BTreeMap, BTreeSet};
use std::mem;
use std::sync::Arc;
use std::time::Instant;

use arrow::error::ArrowError;
use weir_operators::Time;
use weir_operators::alert::{Alerts, Recorded};
use weir_protocol::limits::SUBSCRIPTION_ROWS_MAX;
use weir_protocol::subscription::SubscriptionId;

use super::running::Running;
use super::{Coordinator, ToldTemplates, failure_row};
use crate::subscriptions::codec::RowBytes;
use crate::subscriptions::command::TemplateNumber;
use crate::subscriptions::entry::Entry;
use crate::subscriptions::handle::Live;
use crate::subscriptions::member::Member;
use crate::telemetry;

impl Coordinator {
    /// Evaluates all ticks that are complete.
    pub(super) fn evaluate(&mut self) {
        self.admit();
        if self.state.silent_until.is_none() {
            self.state.silent_until = self.alarm.journal_ends();
        }
        let live_frontier = self.state.templates.values().filter(|running| running.live).map(Running::frontier).min();
        // Without templates there is nothing to evaluate, but time goes on with the tables.
        let complete = live_frontier.unwrap_or_else(|| self.progress.published_tick() + 1);
        while let Some(entry) = self.state.ticks.first_entry()
            && *entry.key() < complete
        {
            let (tick, upper) = entry.remove_entry();
            self.state.offsets.extend(upper);
            if tick > self.state.evaluated {
                self.state.evaluated = tick;
                self.evaluate_tick(tick);
            }
        }
        let deadline = self.state.deadlines.first();
        let window = self.state.templates.values().filter_map(|running| running.due(self.state.evaluated)).min();
        self.alarm.set(deadline.into_iter().chain(window).min().unwrap_or(Time::MAX));
        if live_frontier.is_some() {
            metrics::gauge!(telemetry::SUBSCRIPTION_LAG_MS).set(self.progress.published_tick().saturating_sub(self.state.evaluated) as f64);
        }
    }

    /// Templates that have caught up are waited for from now on.
    pub(super) fn admit(&mut self) {
        let (workers, evaluated) = (self.mailboxes.len(), self.state.evaluated);
        for running in self.state.templates.values_mut().filter(|running| !running.live) {
            if running.begun == workers && running.frontier() > evaluated {
                running.live = true;
                self.alarm.ask();
            }
        }
    }

    pub(super) fn evaluate_tick(&mut self, tick: Time) {
        let started = Instant::now();
        let shared = Arc::clone(&self.shared);
        let mut live = shared.write();
        live.tick_ms = tick;
        let mut touched = Touched::default();
        for (number, running) in self.state.templates.iter_mut().filter(|(_, running)| running.live) {
            running.apply(*number, tick, &mut live, &mut touched);
        }
        self.end_grown(&mut live, &touched);
        self.settle(tick, &mut live, &mut touched);
        for (id, changes) in mem::take(&mut touched.watched) {
            if let Some(entry) = live.entries.get_mut(&id) {
                entry.tell_watchers(tick, changes);
            }
        }
        self.show_usage(&mut live);
        if !self.state.is_silent() {
            self.alert(tick, &mut live, touched);
        }
        if !self.state.templates.is_empty() {
            metrics::histogram!(telemetry::SUBSCRIPTION_SECONDS).record(started.elapsed().as_secs_f64());
        }
    }

    /// Ends subscriptions whose answers have grown too large: what they hold is let go of.
    fn end_grown(&mut self, live: &mut Live, touched: &Touched) {
        let mut told = ToldTemplates::new();
        for (id, template) in &touched.grown {
            let Some(entry) = live.entries.get_mut(id) else { continue };
            if !entry.member_of(*template).is_some_and(|(member, _)| member.rows.is_too_large()) {
                continue;
            }
            let next = entry.next.take_if(|member| member.template == *template).map(|member| *member);
            let Some(member) = next.or_else(|| entry.current.take()) else { continue };
            self.take_back(*id, &member, &mut told);
            let error = format!("the answer has more than {SUBSCRIPTION_ROWS_MAX} rows: write a narrower condition");
            self.end_member(*id, member, &error, live);
        }
        if told.is_empty() {
            return;
        }
        for (template, (changes, subscriptions)) in told {
            self.tell(template, changes, subscriptions, live);
        }
        self.drop_unused();
    }

    /// Subscriptions whose rows are there now begin to be shown, in the place of their former versions.
    pub(super) fn settle(&mut self, tick: Time, live: &mut Live, touched: &mut Touched) {
        if self.state.waiting_members.is_empty() {
            return;
        }
        let mut told = ToldTemplates::new();
        for id in mem::take(&mut self.state.waiting_members) {
            let Some(entry) = live.entries.get_mut(&id) else { continue };
            let is_live = |member: &Member| {
                member.from.is_some_and(|from| from <= tick) && self.state.templates.get(&member.template).is_some_and(|running| running.live)
            };
            let Some(newest) = entry.newest() else { continue };
            if !is_live(newest) {
                self.state.waiting_members.insert(id);
                continue;
            }
            if let Some(next) = entry.next.take() {
                if let Some(alerts) = &mut entry.alerts {
                    alerts.alter(tick, Arc::clone(&next.definition));
                }
                if let Some(former) = entry.current.replace(Member { is_new: false, ..*next }) {
                    self.take_back(id, &former, &mut told);
                }
                touched.watched.remove(&id);
                entry.watchers().for_each(|queue| queue.begin_again());
                self.state.unseen.insert(id);
            }
            if let Some(waiter) = entry.current.as_mut().and_then(|member| member.waiter.take()) {
                self.arrived(waiter);
            }
        }
        for (template, (changes, subscriptions)) in told {
            self.tell(template, changes, subscriptions, live);
        }
        self.drop_unused();
    }

    /// Lets the alerts see what changed at a tick.
    pub(super) fn alert(&mut self, tick: Time, live: &mut Live, mut touched: Touched) {
        let mut recorded = Recorded::default();
        if let Some(own) = &self.own
            && touched.keys.values().flatten().any(|key| own.is_new(key))
            && let Err(error) = self.runtime.block_on(own.learn())
        {
            tracing::warn!(%error, "whose alerts of a new project are is not known; the next change of a row tells");
        }
        for id in mem::take(&mut self.state.unseen) {
            touched.keys.remove(&id);
            touched.failures.insert(id);
            // Where a template has halted its rows are not all: alerts stay as they were recorded.
            let template = live.entries.get(&id).and_then(|entry| entry.current.as_ref()).map(|member| member.template);
            if template.and_then(|template| self.state.templates.get(&template)).is_some_and(|running| running.is_halted) {
                continue;
            }
            let own = self.own.clone();
            self.with_alerts(live, id, |member, alerts| {
                let keys = member.rows.keys().filter(|key| own.as_ref().is_none_or(|own| own.holds_key(key)));
                let rows = member.seen(keys)?;
                alerts.begin(tick, &rows, &mut recorded);
                Ok(())
            });
        }
        while let Some(id) = self.state.deadlines.pop_due(tick) {
            touched.keys.entry(id).or_default();
            // Of one that does not run at all there may be its own failure to tell, when a mute ends.
            if let Some(Entry { current: None, alerts: Some(alerts), .. }) = live.entries.get_mut(&id) {
                alerts.pass(tick + 1, &mut recorded);
                self.state.deadlines.set(id, alerts.next_deadline());
            }
        }
        for (id, mut keys) in touched.keys {
            if let Some(own) = &self.own {
                keys.retain(|key| own.holds_key(key));
            }
            self.with_alerts(live, id, |member, alerts| {
                alerts.pass(tick, &mut recorded);
                let mut seen = member.seen(keys.iter().map(String::as_str))?;
                for key in &keys {
                    alerts.observe(tick, key, seen.remove(key.as_str()), &mut recorded);
                }
                alerts.pass(tick + 1, &mut recorded);
                Ok(())
            });
        }
        for id in touched.failures {
            let mut is_failing = false;
            self.with_alerts(live, id, |member, alerts| {
                match member.error() {
                    Some(error) => {
                        is_failing = true;
                        alerts.fail(tick, failure_row(&error), &mut recorded);
                    }
                    None => alerts.recover(&mut recorded),
                }
                Ok(())
            });
            if is_failing {
                self.state.failing.insert(id)
            } else {
                self.state.failing.remove(&id)
            };
        }
        for transition in &recorded.transitions {
            metrics::counter!(telemetry::TRANSITIONS, "kind" => transition.kind.as_str()).increment(1);
        }
        self.outgoing.add(tick, &self.state.offsets, recorded, &self.progress);
    }

    /// Does something with a subscription's alerts, and notes when they have something due.
    pub(super) fn with_alerts(&mut self, live: &mut Live, id: SubscriptionId, mut work: impl FnMut(&Member, &mut Alerts) -> Result<(), ArrowError>) {
        let Some(Entry { current: Some(member), alerts: Some(alerts), .. }) = live.entries.get_mut(&id) else { return };
        if let Err(error) = work(member, alerts) {
            tracing::error!(%error, subscription = id, "rows cannot be read back");
        }
        self.state.deadlines.set(id, alerts.next_deadline());
    }

    /// Shows what the templates hold.
    pub(super) fn show_usage(&self, live: &mut Live) {
        live.usage = self.state.templates.values().map(|running| (running.shape, running.total_usage())).collect();
        metrics::gauge!(telemetry::SUBSCRIPTION_GROUPS).set(live.usage.values().map(|usage| usage.groups).sum::<u64>() as f64);
        metrics::gauge!(telemetry::SUBSCRIPTIONS_FAILED).set(self.state.failing.len() as f64);
        metrics::gauge!(telemetry::SUBSCRIPTION_STATE_BYTES).set(live.usage.values().map(|usage| usage.state_bytes).sum::<u64>() as f64);
    }
}

/// What a tick changed.
#[derive(Default)]
pub(super) struct Touched {
    pub(super) keys: BTreeMap<SubscriptionId, BTreeSet<String>>,
    /// Subscriptions that began to fail, or ceased to.
    pub(super) failures: BTreeSet<SubscriptionId>,
    /// Subscriptions that had too many rows at some time within the tick, and the template.
    pub(super) grown: BTreeSet<(SubscriptionId, TemplateNumber)>,
    /// Changes of rows that somebody watches.
    pub(super) watched: BTreeMap<SubscriptionId, BTreeMap<RowBytes, i64>>,
}
