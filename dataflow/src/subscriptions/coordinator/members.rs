//! How subscriptions come to their templates, change, and leave.

use std::sync::Arc;

use arrow::error::ArrowError;
use weir_operators::alert::{Alerts, Recorded};
use weir_operators::relation::template::Parameters;
use weir_protocol::subscription::{Subscription, SubscriptionId};

use super::{Coordinator, ToldTemplates, Waiter, failure_row};
use crate::subscriptions::command::{Command, ParameterChanges, TemplateNumber};
use crate::subscriptions::handle::{Live, Reply, Request};
use crate::subscriptions::member::Member;
use crate::subscriptions::{Compiled, SubscriptionError};

impl Coordinator {
    pub(super) fn take_requests(&mut self) {
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
                Request::Install { all, are_known } => self.install(all, are_known, reply, &mut live, &mut told),
                Request::Replace(compiled) => self.replace(*compiled, reply, &mut live, &mut told),
                Request::Remove(id) => self.remove(id, reply, &mut live, &mut told),
                Request::Broken(definition, why) => {
                    self.break_down(definition.id, &definition, why, &mut live);
                    let _ = reply.send(Ok(()));
                }
            }
        }
        for (template, (changes, subscriptions)) in told {
            self.tell(template, changes, subscriptions, &mut live);
        }
        self.drop_unused();
        self.count(&live);
    }

    pub(super) fn tell(&mut self, template: TemplateNumber, changes: ParameterChanges, subscriptions: Vec<SubscriptionId>, live: &mut Live) {
        self.state.last_ticket += 1;
        let ticket = self.state.last_ticket;
        for id in &subscriptions {
            if let Some((member, _)) = live.entries.get_mut(id).and_then(|entry| entry.member_of(template)) {
                member.ticket = ticket;
            }
        }
        self.state.waiting_members.extend(&subscriptions);
        self.state.tickets.insert(ticket, (template, subscriptions));
        // One worker takes them; the dataflow brings them where they belong.
        self.mailboxes[template as usize % self.mailboxes.len()].send(Command::Parameters { template, changes, ticket });
    }

    pub(super) fn install(&mut self, all: Vec<Compiled>, are_known: bool, reply: Reply, live: &mut Live, told: &mut ToldTemplates) {
        self.state.last_waiter += 1;
        let waiter = self.state.last_waiter;
        let (mut missing, mut refused) = (0, None);
        for compiled in all {
            let id = compiled.definition.id;
            match self.install_one(&compiled, waiter, !are_known, live, told) {
                Ok(()) => missing += 1,
                Err(error) => {
                    if are_known && !matches!(error, SubscriptionError::Exists { .. }) {
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

    fn install_one(&mut self, compiled: &Compiled, waiter: u64, is_new: bool, live: &mut Live, told: &mut ToldTemplates) -> Result<(), SubscriptionError> {
        let id = compiled.definition.id;
        if live.entries.get(&id).is_some_and(|entry| entry.broken.is_none()) {
            return Err(SubscriptionError::Exists { id });
        }
        let (mut member, changes) = self.member(compiled, waiter)?;
        member.is_new = is_new;
        let (parameters, subscriptions) = told.entry(member.template).or_default();
        parameters.push(changes);
        subscriptions.push(id);
        let entry = live.entries.entry(id).or_default();
        entry.broken = None;
        if entry.alerts.is_none() {
            let restored = self.state.restored.remove(&id).unwrap_or_default();
            let names_project = compiled.template.finish.project.is_some();
            entry.alerts = Some(Alerts::new(Arc::clone(&compiled.definition), restored, names_project));
        }
        entry.next = Some(Box::new(member));
        Ok(())
    }

    /// Makes a subscription a member of its template, which is built where it is new.
    pub(super) fn member(&mut self, compiled: &Compiled, waiter: u64) -> Result<(Member, (Arc<Parameters>, bool)), SubscriptionError> {
        let number = match self.state.shapes.get(&compiled.shape) {
            Some(number) => *number,
            None => self.build(compiled)?,
        };
        let failed = |error: ArrowError| SubscriptionError::Failed(error.to_string());
        let running = self.state.templates.get_mut(&number).ok_or_else(|| SubscriptionError::Failed("its template is gone".to_owned()))?;
        let told = running.parameters.encode(&compiled.parameters).map_err(failed)?;
        running.members.insert(compiled.definition.id);
        let mut member = Member::new(Arc::clone(&compiled.definition), number, (Arc::clone(&running.codec), running.plan.finish.project), told, Some(waiter));
        member.template_error = running.error();
        Ok((member, (Arc::new(compiled.parameters.clone()), true)))
    }

    pub(super) fn replace(&mut self, compiled: Compiled, reply: Reply, live: &mut Live, told: &mut ToldTemplates) {
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
                    alerts.alter(self.state.evaluated, Arc::clone(&member.definition));
                    self.state.deadlines.set(id, alerts.next_deadline());
                }
                if current.told == member.told {
                    entry.current = Some(Member { waiter: None, definition: member.definition, ..current });
                    return self.arrived(waiter);
                }
                self.leave(id, &current, &member, told);
                current.waiter.into_iter().for_each(|waiter| self.arrived(waiter));
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

    pub(super) fn remove(&mut self, id: SubscriptionId, reply: Reply, live: &mut Live, told: &mut ToldTemplates) {
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
        self.state.deadlines.set(id, None);
        self.outgoing.forget(id);
        let _ = reply.send(Ok(()));
    }

    /// A subscription does not run; whom it notifies is told once.
    pub(super) fn break_down(&mut self, id: SubscriptionId, definition: &Arc<Subscription>, why: String, live: &mut Live) {
        let entry = live.entries.entry(id).or_default();
        if entry.current.is_some() || entry.next.is_some() {
            return;
        }
        let alerts = entry.alerts.get_or_insert_with(|| Alerts::new(Arc::clone(definition), self.state.restored.remove(&id).unwrap_or_default(), false));
        let mut recorded = Recorded::default();
        alerts.fail(self.state.evaluated.max(1), failure_row(&why), &mut recorded);
        self.state.deadlines.set(id, alerts.next_deadline());
        entry.broken = Some(why);
        self.state.failing.insert(id);
        self.outgoing.add(self.state.evaluated, &self.state.offsets, recorded, &self.progress);
    }

    /// Takes a member out of its template, where another one of the same subscription has come, perhaps into the same template.
    pub(super) fn leave(&mut self, id: SubscriptionId, member: &Member, successor: &Member, told: &mut ToldTemplates) {
        self.take_back(id, member, told);
        if let Some(running) = self.state.templates.get_mut(&successor.template) {
            running.members.insert(id);
        }
    }

    /// Takes a member out of its template.
    pub(super) fn take_back(&mut self, id: SubscriptionId, member: &Member, told: &mut ToldTemplates) {
        let Some(running) = self.state.templates.get_mut(&member.template) else { return };
        running.members.remove(&id);
        match running.parameters.decode(id, &member.told) {
            Ok(parameters) => told.entry(member.template).or_default().0.push((Arc::new(parameters), false)),
            Err(error) => tracing::error!(%error, subscription = id, "parameters cannot be read back; they stay until the template ends"),
        }
    }

    /// One of the subscriptions that somebody waits for is there.
    pub(super) fn arrived(&mut self, waiter: u64) {
        let Some(waiting) = self.state.waiters.get_mut(&waiter) else { return };
        waiting.missing -= 1;
        if waiting.missing == 0
            && let Some(waiting) = self.state.waiters.remove(&waiter)
        {
            let _ = waiting.reply.send(Ok(()));
        }
    }

    /// A subscription's parameters are not taken in by its template.
    pub(super) fn refuse(&mut self, id: SubscriptionId, template: TemplateNumber, error: &str) {
        let shared = Arc::clone(&self.shared);
        let mut live = shared.write();
        let Some(entry) = live.entries.get_mut(&id) else { return };
        let next = entry.next.take_if(|member| member.template == template).map(|member| *member);
        let Some(member) = next.or_else(|| entry.current.take_if(|member| member.template == template)) else { return };
        if let Some(running) = self.state.templates.get_mut(&template) {
            running.members.remove(&id);
        }
        self.end_member(id, member, error, &mut live);
    }

    /// One version of a subscription, which was taken out of entry and template, does not run. Where no other does it has failed, and
    /// whom it notifies is told; of one that was being created nothing stays.
    pub(super) fn end_member(&mut self, id: SubscriptionId, member: Member, error: &str, live: &mut Live) {
        if let Some(waiter) = member.waiter.and_then(|waiter| self.state.waiters.remove(&waiter)) {
            let _ = waiter.reply.send(Err(SubscriptionError::Failed(error.to_owned())));
        }
        let Some(entry) = live.entries.get_mut(&id) else { return };
        if member.is_new && entry.current.is_none() && entry.next.is_none() {
            entry.watchers().for_each(|queue| queue.end());
            live.entries.remove(&id);
            self.state.deadlines.set(id, None);
            return;
        }
        self.break_down(id, &member.definition, error.to_owned(), live);
    }
}
