//! The coordinator: knows all templates and subscriptions, takes requests, and evaluates each tick that all templates completed.
//!
//! A tick is evaluated when every worker's frontier of every template has passed it: rows change, watchers are told, and what
//! the alerts make of it goes to the recorder. Requests that wait are taken together: one command a template, one tick.
//!
//! | module | noun |
//! |---|---|
//! | `running` | a template as it runs: its frontiers, its failures, what it uses |
//! | `templates` | how templates are built, filled, filled anew and dropped |
//! | `members` | how subscriptions come to their templates, change and leave |
//! | `ticks` | what a complete tick changes, and what alerts see of it |

use std::collections::{BTreeMap, BTreeSet};
use std::mem;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::sync::Semaphore;
use weir_catalog::RestoredAlerts;
use weir_operators::Time;
use weir_protocol::subscription::{ActiveAlert, SubscriptionId};

use self::running::Running;
use super::Shape;
use super::alarm::Alarm;
use super::command::{Command, Mailbox, News, Notice, ParameterChanges, TemplateNumber};
use super::handle::{Live, Reply, Shared};
use super::recorder::Outgoing;
use crate::others::Own;
use crate::progress::Progress;
use crate::snapshot::Snapshots;
use crate::telemetry;

mod members;
mod running;
mod templates;
mod ticks;

#[cfg(test)]
mod tests;

/// Templates whose stored rows are read at a time.
const HYDRATIONS_MAX: usize = 2;
/// How long the coordinator sleeps at most: after a failure nobody may tell it any more.
const LOOK_EVERY: Duration = Duration::from_secs(5);

/// Why a subscription is not taken in that comes to more rows than a template may join in a tick.
const TOO_MUCH_AT_ONCE: &str =
    "there are more rows for the subscriptions of its shape that come at this time than can be joined in a tick: create fewer at a time, or narrow it";

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
    deadlines: Deadlines,
    hydrations: Arc<Semaphore>,
    /// Whether rows that templates were given have been deleted.
    deleted: bool,
    ended: Vec<bool>,
    gone: usize,
    end_sent: bool,
}

/// When something is due with which subscription: one time for each.
#[derive(Debug, Default)]
struct Deadlines {
    by_time: BTreeSet<(Time, SubscriptionId)>,
    times: BTreeMap<SubscriptionId, Time>,
}

impl Deadlines {
    fn set(&mut self, id: SubscriptionId, deadline: Option<Time>) {
        let before = match deadline {
            Some(deadline) => self.times.insert(id, deadline),
            None => self.times.remove(&id),
        };
        self.by_time.extend(deadline.map(|deadline| (deadline, id)));
        if let Some(before) = before.filter(|before| Some(*before) != deadline) {
            self.by_time.remove(&(before, id));
        }
    }

    fn first(&self) -> Option<Time> {
        self.by_time.first().map(|(deadline, _)| *deadline)
    }

    /// Takes one that is due at a tick.
    fn pop_due(&mut self, tick: Time) -> Option<SubscriptionId> {
        let (deadline, id) = *self.by_time.first()?;
        (deadline <= tick).then(|| {
            self.set(id, None);
            id
        })
    }
}

/// Who waits for subscriptions to be there.
struct Waiter {
    reply: Reply,
    missing: usize,
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
            deadlines: Deadlines::default(),
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
            self.turn();
        }
    }

    /// What follows from the notices that were taken.
    fn turn(&mut self) {
        if mem::take(&mut self.state.deleted) {
            self.mark_dirty();
        }
        self.refresh_dirty();
        self.take_requests();
        self.evaluate();
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
            Notice::Deleted => self.state.deleted = true,
            Notice::HydrationFailed { template, error } => self.fail_filling(template, &error),
            Notice::FillAgain { template } => {
                let failures = self.state.templates.get(&template).map_or(0, |running| running.failures_of_filling);
                self.refresh(template, failures + 1);
            }
        }
    }

    fn take_news(&mut self, worker: usize, news: News) {
        for (template, frontier) in news.built {
            self.built(template, worker, frontier);
        }
        for (template, error) in news.failed {
            self.fail_template(template, &error);
        }
        for (id, template, error) in news.refused {
            self.refuse(id, template, &error);
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
            for id in advance.refused {
                self.refuse(id, template, TOO_MUCH_AT_ONCE);
            }
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

    fn applied(&mut self, ticket: u64, at: Option<Time>) {
        let Some((template, subscriptions)) = self.state.tickets.remove(&ticket) else { return };
        let mut live = self.shared.write();
        for id in subscriptions {
            // A newer version of it may wait for a later ticket.
            if let Some((member, _)) = live.entries.get_mut(&id).and_then(|entry| entry.member_of(template)).filter(|(member, _)| member.ticket == ticket) {
                member.from = at;
            }
        }
        self.alarm.ask();
    }

    fn count(&self, live: &Live) {
        metrics::gauge!(telemetry::TEMPLATES).set(self.state.templates.len() as f64);
        metrics::gauge!(telemetry::SUBSCRIPTIONS).set(live.entries.len() as f64);
    }
}

/// The row of a transition that says that a subscription failed.
fn failure_row(error: &str) -> String {
    serde_json::json!({ "error": error }).to_string()
}
