//! How templates come to run: their dataflows are built, filled with stored rows, filled anew, and dropped.

use std::collections::{BTreeMap, BTreeSet};
use std::mem;
use std::sync::Arc;
use std::sync::mpsc::sync_channel;
use std::time::{Duration, Instant};

use arrow::error::ArrowError;
use weir_operators::Time;
use weir_operators::alert::Recorded;
use weir_operators::relation;
use weir_operators::relation::template::{Template, Usage};
use weir_operators::schema::{self, TableKind};
use weir_protocol::limits::SUBSCRIPTION_SHAPES_MAX;
use weir_protocol::subscription::SubscriptionId;

use super::running::Running;
use super::{Coordinator, ToldTemplates, failure_row};
use crate::subscriptions::codec::Codec;
use crate::subscriptions::command::{Command, Notice, TemplateNumber};
use crate::subscriptions::entry::Entry;
use crate::subscriptions::hydration::{BATCHES_WAITING_MAX, Sink, Sinks};
use crate::subscriptions::member::{Failures, Member, ParameterCodec};
use crate::subscriptions::scans::{grids, tables};
use crate::subscriptions::{Compiled, Shape, SubscriptionError};
use crate::telemetry;

/// How often a template's stored rows are read again before who waits for them is told.
const FILLING_FAILURES_UNTOLD_MAX: u32 = 3;
/// How long is waited after the first failure; after each further one twice as long.
const FILLING_PAUSE_MIN: Duration = Duration::from_millis(250);
/// How long is waited at most.
const FILLING_PAUSE_MAX: Duration = Duration::from_secs(300);

impl Coordinator {
    /// A worker built a dataflow and keeps its ticks from `frontier` on. When all have, a snapshot with everything before that is
    /// waited for, and read.
    pub(super) fn built(&mut self, number: TemplateNumber, worker: usize, frontier: Time) {
        let Some(running) = self.state.templates.get_mut(&number) else { return };
        running.built[worker] = Some(frontier);
        let Some(frontiers) = running.built.iter().copied().collect::<Option<Vec<Time>>>() else { return };
        let tick = frontiers.into_iter().max().unwrap_or_default().saturating_sub(1);
        let sinks = Sinks { sinks: mem::take(&mut running.sinks), turn: 0, rows: 0 };
        let (plan, snapshots, notices) = (Arc::clone(&running.plan), self.snapshots.clone(), self.shared.notices.clone());
        let projects = running.members.first().and_then(|id| self.shared.read().entries.get(id).and_then(Entry::projects));
        let (permits, asked_at) = (Arc::clone(&self.state.hydrations), running.asked_at);
        self.runtime.spawn(async move {
            let Ok(permit) = permits.acquire_owned().await else { return };
            let snapshot = snapshots.at_least(tick).await;
            let read = tokio::task::spawn_blocking(move || sinks.fill(&snapshot, &plan.relation, projects.as_ref()));
            let read = read.await;
            drop(permit);
            let error = match read {
                Ok(Ok(rows)) => {
                    metrics::counter!(telemetry::HYDRATION_ROWS).increment(rows);
                    metrics::histogram!(telemetry::HYDRATION_SECONDS).record(asked_at.elapsed().as_secs_f64());
                    return;
                }
                Ok(Err(error)) => error.to_string(),
                Err(error) => error.to_string(),
            };
            // Not on a thread of the runtime: the channel may be full for a moment.
            let _ = tokio::task::spawn_blocking(move || notices.send(Notice::HydrationFailed { template: number, error })).await;
        });
    }

    pub(super) fn build(&mut self, compiled: &Compiled) -> Result<TemplateNumber, SubscriptionError> {
        if self.state.templates.len() >= SUBSCRIPTION_SHAPES_MAX {
            return Err(SubscriptionError::TooManyShapes { max: SUBSCRIPTION_SHAPES_MAX });
        }
        let failed = |error: ArrowError| SubscriptionError::Failed(error.to_string());
        let plan = Arc::clone(&compiled.template);
        relation::check(&plan).map_err(|error| SubscriptionError::Failed(error.to_string()))?;
        let codec = Arc::new(Codec::new(Arc::clone(&plan.finish.schema)).map_err(failed)?);
        let parameters = Arc::new(ParameterCodec::new(&compiled.parameters).map_err(failed)?);
        Ok(self.begin_template(compiled.shape, plan, codec, parameters, 0))
    }

    /// Lets the workers build a dataflow; subscriptions of the shape belong to it from now on.
    pub(super) fn begin_template(
        &mut self,
        shape: Shape,
        plan: Arc<Template>,
        codec: Arc<Codec>,
        parameters: Arc<ParameterCodec>,
        failures_of_filling: u32,
    ) -> TemplateNumber {
        self.state.last_template += 1;
        let number = self.state.last_template;
        let mut sinks = Vec::new();
        for mailbox in &self.mailboxes {
            let (sender, rows) = sync_channel(BATCHES_WAITING_MAX);
            mailbox.send(Command::Build { template: number, plan: Arc::clone(&plan), rows });
            sinks.push(Sink { rows: sender, mailbox: Arc::clone(mailbox) });
        }
        let workers = self.mailboxes.len();
        let running = Running {
            shape,
            codec,
            parameters,
            failures_of_filling,
            members: BTreeSet::new(),
            frontiers: vec![0; workers],
            usage: vec![Usage::default(); workers],
            warned: false,
            built: vec![None; workers],
            sinks,
            asked_at: Instant::now(),
            begun: 0,
            live: false,
            changes: BTreeMap::new(),
            failures: BTreeMap::new(),
            standing: Failures::default(),
            grids: grids(&plan.relation),
            fed: 0,
            is_dirty: false,
            is_halted: false,
            plan,
        };
        self.state.templates.insert(number, running);
        self.state.shapes.insert(shape, number);
        number
    }

    /// Rows that dataflows were given have been deleted.
    pub(super) fn mark_dirty(&mut self) {
        let is_given_rows =
            |running: &Running| tables(&running.plan.relation).into_iter().any(|table| schema::table(table).is_some_and(|t| t.kind == TableKind::Appended));
        self.state.templates.values_mut().filter(|running| is_given_rows(running)).for_each(|running| running.is_dirty = true);
    }

    /// Fills dataflows anew of whose rows some were deleted. One that is still being filled is waited for, so that deletions that
    /// follow each other closely do not keep its subscriptions from ever being there; it is filled once more then.
    pub(super) fn refresh_dirty(&mut self) {
        let dirty: Vec<TemplateNumber> =
            self.state.templates.iter().filter(|(_, running)| running.is_dirty && running.live).map(|(number, _)| *number).collect();
        for number in dirty {
            let Some(running) = self.state.templates.get_mut(&number) else { continue };
            if self.state.shapes.get(&running.shape) != Some(&number) {
                // Another one is filled in its place already.
                running.is_dirty = false;
                continue;
            }
            let members = running.members.clone();
            let live = self.shared.read();
            let is_waited_for = |id: &SubscriptionId| live.entries.get(id).is_some_and(|entry| entry.next.as_ref().is_some_and(|next| next.template == number));
            if members.iter().any(is_waited_for) {
                continue;
            }
            drop(live);
            running.is_dirty = false;
            self.refresh(number, 0);
        }
    }

    /// Builds a template's dataflow anew beside the old one. Its subscriptions go over as soon as the new one is filled, as those do
    /// that are altered: keys that are active in both keep their alerts.
    pub(super) fn refresh(&mut self, number: TemplateNumber, failures_of_filling: u32) {
        if self.state.end_sent {
            return;
        }
        let Some(old) = self.state.templates.get(&number) else { return };
        let members = old.members.clone();
        let (shape, plan, codec, parameters) = (old.shape, Arc::clone(&old.plan), Arc::clone(&old.codec), Arc::clone(&old.parameters));
        let project = plan.finish.project;
        let new = self.begin_template(shape, plan, Arc::clone(&codec), Arc::clone(&parameters), failures_of_filling);
        let shared = Arc::clone(&self.shared);
        let mut live = shared.write();
        let mut told = ToldTemplates::new();
        for id in members {
            let Some(entry) = live.entries.get_mut(&id) else { continue };
            let waiting = entry.next.take_if(|member| member.template == number);
            let (definition, parameters_told, waiter) = match (&waiting, &entry.next, &entry.current) {
                (Some(member), _, _) => (Arc::clone(&member.definition), member.told.clone(), member.waiter),
                (None, None, Some(member)) if member.template == number => (Arc::clone(&member.definition), member.told.clone(), None),
                // What comes next is of another template.
                _ => continue,
            };
            if let Some(member) = &waiting {
                self.take_back(id, member, &mut told);
            }
            let decoded = match parameters.decode(id, &parameters_told) {
                Ok(decoded) => decoded,
                Err(error) => {
                    tracing::error!(%error, subscription = id, "parameters cannot be read back");
                    continue;
                }
            };
            let (changes, subscriptions) = told.entry(new).or_default();
            changes.push((Arc::new(decoded), true));
            subscriptions.push(id);
            if let Some(running) = self.state.templates.get_mut(&new) {
                running.members.insert(id);
            }
            let (is_new, filling_error) = waiting.map_or((false, None), |member| (member.is_new, member.filling_error));
            let member = Member::new(definition, new, (Arc::clone(&codec), project), parameters_told, waiter);
            entry.next = Some(Box::new(Member { is_new, filling_error, ..member }));
        }
        for (template, (changes, subscriptions)) in told {
            self.tell(template, changes, subscriptions, &mut live);
        }
        self.drop_unused();
    }

    /// Ends templates that nobody uses.
    pub(super) fn drop_unused(&mut self) {
        let unused: Vec<TemplateNumber> = self.state.templates.iter().filter(|(_, running)| running.members.is_empty()).map(|(number, _)| *number).collect();
        for number in unused {
            if let Some(running) = self.state.templates.remove(&number) {
                // Its shape may be another template's by now.
                if self.state.shapes.get(&running.shape) == Some(&number) {
                    self.state.shapes.remove(&running.shape);
                }
            }
            for mailbox in &self.mailboxes {
                mailbox.send(Command::Drop { template: number });
            }
        }
    }

    /// The stored rows of a template cannot be read. That is tried again, ever more rarely and without an end; what runs in another
    /// template meanwhile runs on. Who waits is told after a few times.
    pub(super) fn fail_filling(&mut self, number: TemplateNumber, error: &str) {
        let Some(running) = self.state.templates.get_mut(&number) else { return };
        let failures = running.failures_of_filling;
        let pause = FILLING_PAUSE_MIN.saturating_mul(1 << failures.min(16)).min(FILLING_PAUSE_MAX);
        tracing::warn!(error, template = number, failures, pause_s = pause.as_secs_f64(), "stored rows cannot be read, trying again");
        let error: Arc<str> = format!("stored rows cannot be read: {error}; it is tried again").into();
        let members = running.members.clone();
        let shared = Arc::clone(&self.shared);
        let mut live = shared.write();
        let mut told = ToldTemplates::new();
        for id in members {
            let Some(entry) = live.entries.get_mut(&id) else { continue };
            let Some(next) = entry.next.as_mut().filter(|next| next.template == number) else { continue };
            next.filling_error = Some(Arc::clone(&error));
            if failures < FILLING_FAILURES_UNTOLD_MAX || (failures > FILLING_FAILURES_UNTOLD_MAX && next.waiter.is_none()) {
                continue;
            }
            let is_altered = next.waiter.is_some() && entry.current.is_some();
            if next.is_new || is_altered {
                // Who creates or alters is told, and it is as if nothing had been asked.
                if let Some(member) = entry.next.take() {
                    self.take_back(id, &member, &mut told);
                    self.end_member(id, *member, &error, &mut live);
                }
                continue;
            }
            if let Some(waiter) = next.waiter.take().and_then(|waiter| self.state.waiters.remove(&waiter)) {
                let _ = waiter.reply.send(Err(SubscriptionError::Failed(error.to_string())));
            }
            if entry.current.is_none()
                && let Some(alerts) = &mut entry.alerts
            {
                // It stood before this start and does not run: whom it notifies is told once.
                let mut recorded = Recorded::default();
                alerts.fail(self.state.evaluated.max(1), failure_row(&error), &mut recorded);
                self.state.deadlines.set(id, alerts.next_deadline());
                self.state.failing.insert(id);
                self.outgoing.add(self.state.evaluated, &self.state.offsets, recorded, &self.progress);
            }
        }
        for (template, (changes, subscriptions)) in told {
            self.tell(template, changes, subscriptions, &mut live);
        }
        drop(live);
        self.drop_unused();
        let notices = self.shared.notices.clone();
        self.runtime.spawn(async move {
            tokio::time::sleep(pause).await;
            // Not on a thread of the runtime: the channel may be full for a moment.
            let _ = tokio::task::spawn_blocking(move || notices.send(Notice::FillAgain { template: number })).await;
        });
    }

    /// A template's dataflow cannot be built: its subscriptions cannot run.
    pub(super) fn fail_template(&mut self, number: TemplateNumber, error: &str) {
        let Some(running) = self.state.templates.get_mut(&number) else { return };
        tracing::error!(error, template = number, "subscriptions cannot be kept up to date");
        let members = mem::take(&mut running.members);
        let shared = Arc::clone(&self.shared);
        let mut live = shared.write();
        for id in members {
            let Some(entry) = live.entries.get_mut(&id) else { continue };
            let next = entry.next.take_if(|member| member.template == number).map(|member| *member);
            let current = entry.current.take_if(|member| member.template == number);
            for member in [next, current].into_iter().flatten() {
                self.end_member(id, member, error, &mut live);
            }
        }
        drop(live);
        self.drop_unused();
    }
}
