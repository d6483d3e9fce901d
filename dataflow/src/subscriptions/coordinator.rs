//! The coordinator: knows all templates and subscriptions, takes requests, and evaluates each tick that all templates completed.
//!
//! A tick is evaluated when every worker's frontier of every template has passed it: rows change, watchers are told, and what
//! the alerts make of it goes to the recorder. Requests that wait are taken together: one command a template, one tick.

use std::collections::{BTreeMap, BTreeSet};
use std::mem;
use std::sync::mpsc::{Receiver, RecvTimeoutError, sync_channel};
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use arrow::error::ArrowError;
use tokio::runtime::Handle;
use tokio::sync::Semaphore;
use weir_catalog::RestoredAlerts;
use weir_operators::Time;
use weir_operators::alert::{Alerts, Recorded};
use weir_operators::relation::template::{Changes, Failure, Parameters, Template, Usage};
use weir_operators::relation::{self, Quotas, json};
use weir_operators::schema::{self, TableKind};
use weir_protocol::ProjectId;
use weir_protocol::limits::SUBSCRIPTION_SHAPES_MAX;
use weir_protocol::subscription::{ActiveAlert, Subscription, SubscriptionId};

use super::alarm::Alarm;
use super::codec::{Codec, RowBytes};
use super::command::{Command, Mailbox, News, Notice, ParameterChanges, TemplateNumber};
use super::handle::{Entry, Live, Reply, Request, Shared};
use super::hydration::{BATCHES_WAITING_MAX, Sink, Sinks};
use super::live::RowChange;
use super::member::{Member, ParameterCodec, with_row};
use super::recorder::Outgoing;
use super::scans::{Grid, grids, tables};
use super::watch::Queue;
use super::{Compiled, Shape, SubscriptionError, TemplateUsage};
use crate::others::Own;
use crate::progress::Progress;
use crate::snapshot::Snapshots;
use crate::telemetry;

/// Templates whose stored rows are read at a time.
const HYDRATIONS_MAX: usize = 2;
/// How often a template's stored rows are read again after a failure.
const FILLING_RETRIES_MAX: u32 = 3;
/// How long the coordinator sleeps at most: after a failure nobody may tell it any more.
const LOOK_EVERY: Duration = Duration::from_secs(5);

pub(crate) struct Coordinator {
    /// Whose alerts these are, where other processes have the rest.
    pub(crate) own: Option<Own>,
    pub(crate) notices: Receiver<Notice>,
    pub(crate) shared: Arc<Shared>,
    pub(crate) mailboxes: Vec<Arc<Mailbox>>,
    pub(crate) outgoing: Arc<Outgoing>,
    pub(crate) alarm: Arc<Alarm>,
    pub(crate) snapshots: Snapshots,
    pub(crate) progress: Arc<Progress>,
    pub(crate) runtime: Handle,
    pub(crate) state: State,
}

/// What templates are to be told of their subscriptions, and whose parameters are new.
type ToldTemplates = BTreeMap<TemplateNumber, (ParameterChanges, Vec<SubscriptionId>)>;

/// What the coordinator remembers.
pub(crate) struct State {
    templates: BTreeMap<TemplateNumber, Running>,
    shapes: BTreeMap<Shape, TemplateNumber>,
    last_template: TemplateNumber,
    /// Whose parameters a ticket brought.
    tickets: BTreeMap<u64, (TemplateNumber, Vec<SubscriptionId>)>,
    last_ticket: u64,
    waiters: BTreeMap<u64, Waiter>,
    last_waiter: u64,
    /// Alerts of the last record whose subscriptions are not installed yet.
    restored: BTreeMap<SubscriptionId, Vec<ActiveAlert>>,
    /// Released ticks that may be evaluated, and the offsets that each reached.
    ticks: BTreeMap<Time, BTreeMap<u16, u64>>,
    /// The newest tick that was evaluated, and its offsets.
    evaluated: Time,
    offsets: BTreeMap<u16, u64>,
    /// Alerts are compared with what was recorded only when the graph has passed these: what was in the journal at the start.
    /// Nothing while that is not known.
    silent_until: Option<BTreeMap<u16, u64>>,
    /// Subscriptions whose newest version is not there yet.
    waiting_members: BTreeSet<SubscriptionId>,
    /// Subscriptions whose rows are to be seen by their alerts for the first time.
    unseen: BTreeSet<SubscriptionId>,
    /// Subscriptions with which something is wrong.
    failing: BTreeSet<SubscriptionId>,
    /// When the alerts of which subscription have something due.
    deadlines: BTreeSet<(Time, SubscriptionId)>,
    hydrations: Arc<Semaphore>,
    /// Whether rows that templates were given have been deleted.
    deleted: bool,
    ended: Vec<bool>,
    gone: usize,
    end_sent: bool,
}

/// Who waits for subscriptions to be there.
struct Waiter {
    reply: Reply,
    missing: usize,
}

/// A template.
struct Running {
    shape: Shape,
    plan: Arc<Template>,
    codec: Arc<Codec>,
    parameters: Arc<ParameterCodec>,
    /// How often its stored rows could not be read.
    failures_of_filling: u32,
    members: BTreeSet<SubscriptionId>,
    frontiers: Vec<Time>,
    usage: Vec<Usage>,
    /// Whether it was said that it comes near its quotas.
    warned: bool,
    built: Vec<Option<Time>>,
    /// Where the workers wait for stored rows.
    sinks: Vec<Sink>,
    asked_at: Instant,
    /// How many workers have all stored rows.
    begun: usize,
    /// Whether its ticks are waited for.
    live: bool,
    changes: BTreeMap<Time, Vec<Changes>>,
    failures: BTreeMap<Time, Vec<(Failure, i64)>>,
    /// Failures of the whole template that stand.
    standing: BTreeMap<(String, String), i64>,
    grids: BTreeSet<Grid>,
    /// The newest tick at which a table that it reads changed.
    fed: Time,
}

impl Running {
    fn frontier(&self) -> Time {
        self.frontiers.iter().copied().min().unwrap_or(Time::MAX)
    }

    /// When a row of a window comes or goes next, as far as rows can be in windows.
    fn due(&self, after: Time) -> Option<Time> {
        self.grids.iter().filter(|grid| after < self.fed.saturating_add(grid.reach_ms)).map(|grid| grid.after(after)).min()
    }
}

impl State {
    /// Begins with the alerts of the last record, and with the tables as of a tick. What the journal holds now is folded before
    /// alerts are compared with what was recorded: in between the tables are as they never were before, old rows gone and newer
    /// ones not there yet, and alerts would resolve and fire again for nothing.
    pub(crate) fn new(workers: usize, restored: RestoredAlerts, tick: Time, offsets: BTreeMap<u16, u64>, silent_until: Option<BTreeMap<u16, u64>>) -> Self {
        let mut by_subscription: BTreeMap<SubscriptionId, Vec<ActiveAlert>> = BTreeMap::new();
        for alert in restored.active {
            by_subscription.entry(alert.subscription_id).or_default().push(alert);
        }
        Self {
            templates: BTreeMap::new(),
            shapes: BTreeMap::new(),
            last_template: 0,
            tickets: BTreeMap::new(),
            last_ticket: 0,
            waiters: BTreeMap::new(),
            last_waiter: 0,
            restored: by_subscription,
            ticks: BTreeMap::new(),
            evaluated: tick,
            offsets,
            silent_until,
            waiting_members: BTreeSet::new(),
            unseen: BTreeSet::new(),
            failing: BTreeSet::new(),
            deadlines: BTreeSet::new(),
            hydrations: Arc::new(Semaphore::new(HYDRATIONS_MAX)),
            deleted: false,
            ended: vec![false; workers],
            gone: 0,
            end_sent: false,
        }
    }

    /// Whether the graph has yet to pass what was in the journal at the start.
    fn is_silent(&self) -> bool {
        // What was recorded and is not in the journal was lost with it; nothing comes in its place.
        let Some(until) = &self.silent_until else { return true };
        self.offsets.iter().any(|(partition, offset)| until.get(partition).is_some_and(|until| offset < until))
    }
}

impl Drop for Coordinator {
    /// However it ends, nobody waits for it.
    fn drop(&mut self) {
        self.send_end();
        self.shared.end();
        self.outgoing.end();
    }
}

impl Coordinator {
    /// Runs until all workers have ended.
    pub(crate) fn run(mut self) {
        while self.state.gone < self.mailboxes.len() {
            match self.notices.recv_timeout(LOOK_EVERY) {
                Ok(notice) => self.take(notice),
                Err(RecvTimeoutError::Timeout) if self.progress.has_failed() => break,
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => break,
            }
            // What else waits belongs to the same turn: requests are taken together, ticks are evaluated together.
            while let Ok(notice) = self.notices.try_recv() {
                self.take(notice);
            }
            if mem::take(&mut self.state.deleted) {
                self.refresh_all();
            }
            self.take_requests();
            self.evaluate();
        }
    }

    fn take(&mut self, notice: Notice) {
        match notice {
            Notice::Released { tick, upper } => {
                self.state.ticks.insert(tick, upper);
            }
            Notice::Worker { worker, news } => self.take_news(worker, *news),
            Notice::WorkerEnded => {
                self.state.gone += 1;
                self.send_end();
            }
            Notice::Requests => {}
            Notice::HydrationFailed { template, error } => self.fail_template(template, &error),
        }
    }

    fn take_news(&mut self, worker: usize, news: News) {
        for (template, frontier) in news.built {
            self.built(template, worker, frontier);
        }
        for (template, error) in news.failed {
            self.fail_template(template, &error);
        }
        for (id, error) in news.refused {
            self.refuse(id, error);
        }
        for (ticket, at) in news.applied {
            self.applied(ticket, at);
        }
        for template in news.begun {
            if let Some(running) = self.state.templates.get_mut(&template) {
                running.begun += 1;
            }
        }
        for (template, tick) in news.fed {
            if let Some(running) = self.state.templates.get_mut(&template) {
                running.fed = running.fed.max(tick);
            }
        }
        for (template, advance) in news.advances {
            // A template that was dropped still drains.
            let Some(running) = self.state.templates.get_mut(&template) else { continue };
            running.frontiers[worker] = advance.frontier.unwrap_or(Time::MAX);
            running.use_up(worker, template, advance.usage);
            for (time, changes) in advance.changes {
                running.changes.entry(time).or_default().push(changes);
            }
            for (time, failure, difference) in advance.failures {
                running.failures.entry(time).or_default().push((failure, difference));
            }
            metrics::counter!(telemetry::LATE_ROWS).increment(advance.late);
        }
        self.state.deleted |= news.deleted;
        if news.ended {
            self.state.ended[worker] = true;
            if self.state.ended.iter().all(|ended| *ended) {
                self.send_end();
            }
        }
    }

    /// The last command: every worker has been given the same ones by then.
    fn send_end(&mut self) {
        if !mem::replace(&mut self.state.end_sent, true) {
            for mailbox in &self.mailboxes {
                mailbox.send(Command::End);
            }
            self.shared.end();
        }
    }

    /// A worker built a dataflow and keeps its ticks from `frontier` on. When all have, a snapshot with everything before that is
    /// waited for, and read.
    fn built(&mut self, number: TemplateNumber, worker: usize, frontier: Time) {
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

    fn applied(&mut self, ticket: u64, at: Option<Time>) {
        let Some((template, subscriptions)) = self.state.tickets.remove(&ticket) else { return };
        let mut live = self.shared.write();
        for id in subscriptions {
            if let Some((member, _)) = live.entries.get_mut(&id).and_then(|entry| entry.member_of(template)) {
                member.from = at;
            }
        }
        self.alarm.ask();
    }

    // Requests.

    fn take_requests(&mut self) {
        let requests = self.shared.take_requests();
        if requests.is_empty() {
            return;
        }
        if self.state.end_sent {
            requests.into_iter().for_each(|(_, reply)| drop(reply.send(Err(SubscriptionError::Stopped))));
            return;
        }
        let shared = Arc::clone(&self.shared);
        let mut live = shared.write();
        let mut told = ToldTemplates::new();
        for (request, reply) in requests {
            match request {
                Request::Install(all) => self.install(all, reply, &mut live, &mut told),
                Request::Replace(compiled) => self.replace(*compiled, reply, &mut live, &mut told),
                Request::Remove(id) => self.remove(id, reply, &mut live, &mut told),
                Request::Broken(definition, why) => {
                    self.break_down(definition.id, &definition, why, &mut live);
                    let _ = reply.send(Ok(()));
                }
            }
        }
        for (template, (changes, subscriptions)) in told {
            self.tell(template, changes, subscriptions);
        }
        self.drop_unused();
        self.count(&live);
    }

    fn tell(&mut self, template: TemplateNumber, changes: ParameterChanges, subscriptions: Vec<SubscriptionId>) {
        self.state.last_ticket += 1;
        let ticket = self.state.last_ticket;
        self.state.waiting_members.extend(&subscriptions);
        self.state.tickets.insert(ticket, (template, subscriptions));
        // One worker takes them; the dataflow brings them where they belong.
        self.mailboxes[template as usize % self.mailboxes.len()].send(Command::Parameters { template, changes, ticket });
    }

    fn install(&mut self, all: Vec<Compiled>, reply: Reply, live: &mut Live, told: &mut ToldTemplates) {
        self.state.last_waiter += 1;
        let waiter = self.state.last_waiter;
        let (several, mut missing, mut refused) = (all.len() > 1, 0, None);
        for compiled in all {
            let id = compiled.definition.id;
            match self.install_one(&compiled, waiter, live, told) {
                Ok(()) => missing += 1,
                Err(error) => {
                    if several && !matches!(error, SubscriptionError::Exists { .. }) {
                        self.break_down(id, &compiled.definition, error.to_string(), live);
                    }
                    refused.get_or_insert(error);
                }
            }
        }
        match refused {
            Some(error) => drop(reply.send(Err(error))),
            None => drop(self.state.waiters.insert(waiter, Waiter { reply, missing })),
        }
    }

    fn install_one(&mut self, compiled: &Compiled, waiter: u64, live: &mut Live, told: &mut ToldTemplates) -> Result<(), SubscriptionError> {
        let id = compiled.definition.id;
        if live.entries.get(&id).is_some_and(|entry| entry.broken.is_none()) {
            return Err(SubscriptionError::Exists { id });
        }
        let (member, changes) = self.member(compiled, waiter)?;
        let (parameters, subscriptions) = told.entry(member.template).or_default();
        parameters.push(changes);
        subscriptions.push(id);
        let entry = live.entries.entry(id).or_default();
        entry.broken = None;
        if entry.alerts.is_none() {
            entry.alerts = Some(Alerts::new(Arc::clone(&compiled.definition), self.state.restored.remove(&id).unwrap_or_default()));
        }
        entry.next = Some(Box::new(member));
        Ok(())
    }

    /// Makes a subscription a member of its template, which is built where it is new.
    fn member(&mut self, compiled: &Compiled, waiter: u64) -> Result<(Member, (Arc<Parameters>, bool)), SubscriptionError> {
        let number = match self.state.shapes.get(&compiled.shape) {
            Some(number) => *number,
            None => self.build(compiled)?,
        };
        let failed = |error: ArrowError| SubscriptionError::Failed(error.to_string());
        let running = self.state.templates.get_mut(&number).ok_or_else(|| SubscriptionError::Failed("its template is gone".to_owned()))?;
        let told = running.parameters.encode(&compiled.parameters).map_err(failed)?;
        running.members.insert(compiled.definition.id);
        let mut member = Member::new(Arc::clone(&compiled.definition), number, Arc::clone(&running.codec), told, Some(waiter));
        member.template_error = running.error();
        Ok((member, (Arc::new(compiled.parameters.clone()), true)))
    }

    fn build(&mut self, compiled: &Compiled) -> Result<TemplateNumber, SubscriptionError> {
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
    fn begin_template(
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
            standing: BTreeMap::new(),
            grids: grids(&plan.relation),
            fed: 0,
            plan,
        };
        self.state.templates.insert(number, running);
        self.state.shapes.insert(shape, number);
        number
    }

    /// Fills all dataflows anew that were given rows: some of those were deleted.
    fn refresh_all(&mut self) {
        let is_given_rows =
            |running: &Running| tables(&running.plan.relation).into_iter().any(|table| schema::table(table).is_some_and(|t| t.kind == TableKind::Appended));
        let numbers: Vec<TemplateNumber> = self.state.templates.iter().filter(|(_, running)| is_given_rows(running)).map(|(number, _)| *number).collect();
        for number in numbers {
            self.refresh(number, 0);
        }
    }

    /// Builds a template's dataflow anew beside the old one. Its subscriptions go over as soon as the new one is filled, as those do
    /// that are altered: keys that are active in both keep their alerts.
    fn refresh(&mut self, number: TemplateNumber, failures_of_filling: u32) {
        if self.state.end_sent {
            return;
        }
        let Some(old) = self.state.templates.get(&number) else { return };
        let members = old.members.clone();
        let (shape, plan, codec, parameters) = (old.shape, Arc::clone(&old.plan), Arc::clone(&old.codec), Arc::clone(&old.parameters));
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
            if let Some(member) = waiting {
                self.take_back(id, &member, &mut told);
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
            entry.next = Some(Box::new(Member::new(definition, new, Arc::clone(&codec), parameters_told, waiter)));
        }
        for (template, (changes, subscriptions)) in told {
            self.tell(template, changes, subscriptions);
        }
        self.drop_unused();
    }

    fn replace(&mut self, compiled: Compiled, reply: Reply, live: &mut Live, told: &mut ToldTemplates) {
        let id = compiled.definition.id;
        let Some(entry) = live.entries.get_mut(&id) else {
            let _ = reply.send(Err(SubscriptionError::Unknown { id }));
            return;
        };
        self.state.last_waiter += 1;
        let waiter = self.state.last_waiter;
        let in_place = entry.current.as_ref().is_some_and(|member| self.state.shapes.get(&compiled.shape) == Some(&member.template));
        let (member, changes) = match self.member(&compiled, waiter) {
            Ok(made) => made,
            Err(error) => {
                let _ = reply.send(Err(error));
                return;
            }
        };
        // What was to come before this comes no more.
        let mut member = member;
        if let Some(superseded) = entry.next.take() {
            self.leave(id, &superseded, &member, told);
            superseded.waiter.into_iter().for_each(|waiter| self.arrived(waiter));
            if superseded.template == member.template {
                (member.rows, member.failures) = (superseded.rows, superseded.failures);
            }
        }
        self.state.waiters.insert(waiter, Waiter { reply, missing: 1 });
        entry.broken = None;
        let current = entry.current.take();
        match (current, in_place) {
            // Two memberships of one template could not be told apart: the rows change in place, at one tick.
            (Some(current), true) => {
                if let Some(alerts) = &mut entry.alerts {
                    alerts.alter(Arc::clone(&member.definition));
                    self.state.deadlines.extend(alerts.next_deadline().map(|deadline| (deadline, id)));
                }
                if current.told == member.told {
                    entry.current = Some(Member { waiter: None, definition: member.definition, ..current });
                    return self.arrived(waiter);
                }
                self.leave(id, &current, &member, told);
                entry.current = Some(Member { rows: current.rows, failures: current.failures, ..member });
            }
            (current, _) => {
                entry.current = current;
                entry.next = Some(Box::new(member));
            }
        }
        let template = entry.newest().map_or(0, |member| member.template);
        let (parameters, subscriptions) = told.entry(template).or_default();
        parameters.push(changes);
        subscriptions.push(id);
    }

    fn remove(&mut self, id: SubscriptionId, reply: Reply, live: &mut Live, told: &mut ToldTemplates) {
        let Some(entry) = live.entries.remove(&id) else {
            let _ = reply.send(Err(SubscriptionError::Unknown { id }));
            return;
        };
        for member in [entry.current.as_ref(), entry.next.as_deref()].into_iter().flatten() {
            self.take_back(id, member, told);
            if let Some(waiter) = member.waiter.and_then(|waiter| self.state.waiters.remove(&waiter)) {
                let _ = waiter.reply.send(Err(SubscriptionError::Unknown { id }));
            }
        }
        entry.watchers().for_each(|queue| queue.end());
        self.state.unseen.remove(&id);
        self.state.failing.remove(&id);
        self.outgoing.forget(id);
        let _ = reply.send(Ok(()));
    }

    /// A subscription does not run; whom it notifies is told once.
    fn break_down(&mut self, id: SubscriptionId, definition: &Arc<Subscription>, why: String, live: &mut Live) {
        let entry = live.entries.entry(id).or_default();
        if entry.current.is_some() || entry.next.is_some() {
            return;
        }
        let alerts = entry.alerts.get_or_insert_with(|| Alerts::new(Arc::clone(definition), self.state.restored.remove(&id).unwrap_or_default()));
        let mut recorded = Recorded::default();
        alerts.fail(self.state.evaluated.max(1), failure_row(&why), &mut recorded);
        entry.broken = Some(why);
        self.state.failing.insert(id);
        self.outgoing.add(self.state.evaluated, &self.state.offsets, recorded, &self.progress);
    }

    /// Takes a member out of its template, where another one of the same subscription has come, perhaps into the same template.
    fn leave(&mut self, id: SubscriptionId, member: &Member, successor: &Member, told: &mut ToldTemplates) {
        self.take_back(id, member, told);
        if let Some(running) = self.state.templates.get_mut(&successor.template) {
            running.members.insert(id);
        }
    }

    /// Takes a member out of its template.
    fn take_back(&mut self, id: SubscriptionId, member: &Member, told: &mut ToldTemplates) {
        let Some(running) = self.state.templates.get_mut(&member.template) else { return };
        running.members.remove(&id);
        match running.parameters.decode(id, &member.told) {
            Ok(parameters) => told.entry(member.template).or_default().0.push((Arc::new(parameters), false)),
            Err(error) => tracing::error!(%error, subscription = id, "parameters cannot be read back; they stay until the template ends"),
        }
    }

    /// One of the subscriptions that somebody waits for is there.
    fn arrived(&mut self, waiter: u64) {
        let Some(waiting) = self.state.waiters.get_mut(&waiter) else { return };
        waiting.missing -= 1;
        if waiting.missing == 0
            && let Some(waiting) = self.state.waiters.remove(&waiter)
        {
            let _ = waiting.reply.send(Ok(()));
        }
    }

    /// Ends templates that nobody uses.
    fn drop_unused(&mut self) {
        let unused: Vec<TemplateNumber> = self.state.templates.iter().filter(|(_, running)| running.members.is_empty()).map(|(number, _)| *number).collect();
        for number in unused {
            if let Some(running) = self.state.templates.remove(&number) {
                self.state.shapes.remove(&running.shape);
            }
            for mailbox in &self.mailboxes {
                mailbox.send(Command::Drop { template: number });
            }
        }
    }

    /// A subscription's parameters do not fit its template.
    fn refuse(&mut self, id: SubscriptionId, error: String) {
        let shared = Arc::clone(&self.shared);
        let mut live = shared.write();
        let Some(entry) = live.entries.get_mut(&id) else { return };
        let refused = entry.next.take().map(|next| *next).or_else(|| entry.current.take());
        if let Some(member) = refused {
            if let Some(running) = self.state.templates.get_mut(&member.template) {
                running.members.remove(&id);
            }
            if let Some(waiter) = member.waiter.and_then(|waiter| self.state.waiters.remove(&waiter)) {
                let _ = waiter.reply.send(Err(SubscriptionError::Failed(error.clone())));
            }
        }
        if entry.current.is_none() {
            entry.broken = Some(error);
        }
    }

    /// A template cannot be built or filled: so cannot its subscriptions.
    fn fail_template(&mut self, number: TemplateNumber, error: &str) {
        let Some(running) = self.state.templates.get_mut(&number) else { return };
        if running.failures_of_filling < FILLING_RETRIES_MAX && !running.live {
            tracing::warn!(error, template = number, "stored rows cannot be read, trying again");
            let failures = running.failures_of_filling + 1;
            return self.refresh(number, failures);
        }
        tracing::error!(error, template = number, "subscriptions cannot be kept up to date");
        let members = mem::take(&mut running.members);
        let shared = Arc::clone(&self.shared);
        let mut live = shared.write();
        for id in members {
            let Some(entry) = live.entries.get_mut(&id) else { continue };
            let next = entry.next.take_if(|member| member.template == number).map(|member| *member);
            let current = entry.current.take_if(|member| member.template == number);
            for waiter in [next, current].into_iter().flatten().filter_map(|member| member.waiter) {
                if let Some(waiter) = self.state.waiters.remove(&waiter) {
                    let _ = waiter.reply.send(Err(SubscriptionError::Failed(error.to_owned())));
                }
            }
            if let Some(definition) = entry.alerts.as_ref().map(|alerts| Arc::clone(alerts.subscription())) {
                self.break_down(id, &definition, error.to_owned(), &mut live);
            }
        }
        drop(live);
        self.drop_unused();
    }

    // Ticks.

    /// Evaluates all ticks that are complete.
    fn evaluate(&mut self) {
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
        let deadline = self.state.deadlines.first().map(|(deadline, _)| *deadline);
        let window = self.state.templates.values().filter_map(|running| running.due(self.state.evaluated)).min();
        self.alarm.set(deadline.into_iter().chain(window).min().unwrap_or(Time::MAX));
        if live_frontier.is_some() {
            metrics::gauge!(telemetry::SUBSCRIPTION_LAG_MS).set(self.progress.published_tick().saturating_sub(self.state.evaluated) as f64);
        }
    }

    /// Templates that have caught up are waited for from now on.
    fn admit(&mut self) {
        let (workers, evaluated) = (self.mailboxes.len(), self.state.evaluated);
        for running in self.state.templates.values_mut().filter(|running| !running.live) {
            if running.begun == workers && running.frontier() > evaluated {
                running.live = true;
                self.alarm.ask();
            }
        }
    }

    fn evaluate_tick(&mut self, tick: Time) {
        let started = Instant::now();
        let shared = Arc::clone(&self.shared);
        let mut live = shared.write();
        live.tick_ms = tick;
        let mut touched = Touched::default();
        for (number, running) in self.state.templates.iter_mut().filter(|(_, running)| running.live) {
            running.apply(*number, tick, &mut live, &mut touched);
        }
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

    /// Subscriptions whose rows are there now begin to be shown, in the place of their former versions.
    fn settle(&mut self, tick: Time, live: &mut Live, touched: &mut Touched) {
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
                    alerts.alter(Arc::clone(&next.definition));
                }
                if let Some(former) = entry.current.replace(*next) {
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
            self.tell(template, changes, subscriptions);
        }
        self.drop_unused();
    }

    /// Lets the alerts see what changed at a tick.
    fn alert(&mut self, tick: Time, live: &mut Live, mut touched: Touched) {
        let mut recorded = Recorded::default();
        for id in mem::take(&mut self.state.unseen) {
            touched.keys.remove(&id);
            touched.failures.insert(id);
            let own = self.own.clone();
            self.with_alerts(live, id, |member, alerts| {
                let keys = member.rows.keys().filter(|key| own.as_ref().is_none_or(|own| own.holds_key(key)));
                let rows = member.rows.seen(keys, &member.codec)?;
                alerts.begin(tick, &rows, &mut recorded);
                Ok(())
            });
        }
        while let Some((deadline, id)) = self.state.deadlines.first().copied()
            && deadline <= tick
        {
            self.state.deadlines.pop_first();
            touched.keys.entry(id).or_default();
        }
        for (id, mut keys) in touched.keys {
            if let Some(own) = &self.own {
                keys.retain(|key| own.holds_key(key));
            }
            self.with_alerts(live, id, |member, alerts| {
                alerts.pass(tick, &mut recorded);
                let mut seen = member.rows.seen(keys.iter().map(String::as_str), &member.codec)?;
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
    fn with_alerts(&mut self, live: &mut Live, id: SubscriptionId, mut work: impl FnMut(&Member, &mut Alerts) -> Result<(), ArrowError>) {
        let Some(Entry { current: Some(member), alerts: Some(alerts), .. }) = live.entries.get_mut(&id) else { return };
        if let Err(error) = work(member, alerts) {
            tracing::error!(%error, subscription = id, "rows cannot be read back");
        }
        self.state.deadlines.extend(alerts.next_deadline().map(|deadline| (deadline, id)));
    }

    fn count(&self, live: &Live) {
        metrics::gauge!(telemetry::TEMPLATES).set(self.state.templates.len() as f64);
        metrics::gauge!(telemetry::SUBSCRIPTIONS).set(live.entries.len() as f64);
    }

    /// Shows what the templates hold.
    fn show_usage(&self, live: &mut Live) {
        live.usage = self.state.templates.values().map(|running| (running.shape, running.total_usage())).collect();
        metrics::gauge!(telemetry::SUBSCRIPTION_GROUPS).set(live.usage.values().map(|usage| usage.groups).sum::<u64>() as f64);
        metrics::gauge!(telemetry::SUBSCRIPTIONS_FAILED).set(self.state.failing.len() as f64);
        metrics::gauge!(telemetry::SUBSCRIPTION_STATE_BYTES).set(live.usage.values().map(|usage| usage.state_bytes).sum::<u64>() as f64);
    }
}

/// What a tick changed.
#[derive(Default)]
struct Touched {
    keys: BTreeMap<SubscriptionId, BTreeSet<String>>,
    /// Subscriptions that began to fail, or ceased to.
    failures: BTreeSet<SubscriptionId>,
    /// Changes of rows that somebody watches.
    watched: BTreeMap<SubscriptionId, BTreeMap<RowBytes, i64>>,
}

/// Of a quota it is said that so many hundredths are used.
const QUOTA_WARNING_PERCENT: u64 = 80;

impl Running {
    /// Notes what a worker uses, and says so when it comes near the quotas: beyond them the template halts.
    fn use_up(&mut self, worker: usize, number: TemplateNumber, usage: Usage) {
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

    fn total_usage(&self) -> TemplateUsage {
        let sum = |of: fn(&Usage) -> u64| self.usage.iter().map(of).sum();
        TemplateUsage {
            subscriptions: self.members.len() as u64,
            groups: sum(|usage| usage.groups),
            state_bytes: sum(|usage| usage.state_bytes),
            pairs_per_tick: sum(|usage| usage.pairs),
        }
    }

    /// What is wrong with the whole template.
    fn error(&self) -> Option<Arc<str>> {
        self.standing.iter().find(|(_, count)| **count > 0).map(|((message, row), _)| with_row(message, row).into())
    }

    /// Takes up what changed until a tick.
    fn apply(&mut self, number: TemplateNumber, tick: Time, live: &mut Live, touched: &mut Touched) {
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

    fn apply_changes(&self, number: TemplateNumber, changes: &Changes, live: &mut Live, touched: &mut Touched) -> Result<(), ArrowError> {
        let rows = self.codec.encode(&changes.rows)?;
        for (index, bytes) in rows.into_iter().enumerate() {
            let id = changes.subscriptions[index];
            let Some(entry) = live.entries.get_mut(&id) else { continue };
            let is_watched = !entry.watchers.is_empty();
            let Some((member, is_current)) = entry.member_of(number) else { continue };
            let was_too_large = member.rows.is_too_large();
            let key = json::row_text(&changes.keys, index);
            let (fires, difference) = (changes.fires[index], changes.differences[index]);
            if is_current {
                touched.keys.entry(id).or_default().insert(key.clone());
                if is_watched && fires {
                    *touched.watched.entry(id).or_default().entry(bytes.clone()).or_default() += difference;
                }
            }
            member.rows.change(RowChange { key, bytes, fires, escalates: changes.escalates[index], difference });
            if member.rows.is_too_large() != was_too_large {
                touched.failures.insert(id);
            }
        }
        Ok(())
    }

    fn apply_failure(&mut self, number: TemplateNumber, failure: Failure, difference: i64, live: &mut Live, touched: &mut Touched) {
        let Failure { subscription, message, row } = failure;
        let add = |failures: &mut BTreeMap<(String, String), i64>| {
            let place = (message, row);
            let count = failures.entry(place.clone()).or_default();
            *count += difference;
            if *count == 0 {
                failures.remove(&place);
            }
        };
        match subscription {
            Some(id) => {
                if let Some((member, _)) = live.entries.get_mut(&id).and_then(|entry| entry.member_of(number)) {
                    add(&mut member.failures);
                    touched.failures.insert(id);
                }
            }
            None => {
                add(&mut self.standing);
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

impl Entry {
    /// The version that was asked for last.
    fn newest(&self) -> Option<&Member> {
        self.next.as_deref().or(self.current.as_ref())
    }

    /// The version that runs in a template, and whether it is the current one.
    fn member_of(&mut self, template: TemplateNumber) -> Option<(&mut Member, bool)> {
        let in_template = |member: &&mut Member| member.template == template;
        let current = self.current.as_mut().filter(in_template).map(|member| (member, true));
        current.or(self.next.as_deref_mut().filter(in_template).map(|member| (member, false)))
    }

    /// The projects that it reads; `None` for all.
    fn projects(&self) -> Option<BTreeSet<ProjectId>> {
        self.newest()?.definition.projects.clone()
    }

    fn watchers(&self) -> impl Iterator<Item = Arc<Queue>> {
        self.watchers.iter().filter_map(Weak::upgrade)
    }

    fn tell_watchers(&mut self, tick: Time, changes: BTreeMap<RowBytes, i64>) {
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
}

/// The row of a transition that says that a subscription failed.
fn failure_row(error: &str) -> String {
    serde_json::json!({ "error": error }).to_string()
}
