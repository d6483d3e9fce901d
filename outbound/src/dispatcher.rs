//! Takes what the outbox holds, has it sent, and records what became of it.
//!
//! A notification is recorded as delivered after its receiver has it. If the program dies between the two it is sent again, with
//! the same id, by which the receiver can tell; recorded once, it is never sent again.

use std::collections::BTreeMap;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use tokio::sync::watch;
use tokio::task::{Id, JoinError, JoinHandle, JoinSet};
use weir_catalog::{Catalog, CatalogError, DeliveryOutcome, DeliveryResult, OutboxMessage};
use weir_protocol::notify::NotifyTarget;

use crate::courier::{Courier, Verdict};
use crate::schedule::{Patience, Pick, Schedule};
use crate::telemetry;

/// The running dispatcher. Dropped, it stops at once, as if the program had died.
#[derive(Debug)]
pub struct Dispatcher {
    stop: watch::Sender<bool>,
    tasks: Vec<JoinHandle<()>>,
}

/// How often the outbox is asked for what nobody told of: rows that another process put there.
const POLL_EVERY: Duration = Duration::from_secs(1);
/// How long after the catalog refused a record it is tried again.
const RECORD_AGAIN_AFTER: Duration = Duration::from_secs(1);
/// How often history and log are trimmed, and rows too old are looked for.
const TRIM_EVERY: Duration = Duration::from_secs(600);
const EXPIRE_EVERY_MS: u64 = 30_000;
const EXPIRED_AT_ONCE_MAX: usize = 1_000;
/// Rows that are read from the outbox at once.
const PAGE_ROWS: usize = 5_000;

impl Dispatcher {
    /// Starts to deliver what the catalog's outbox holds and will hold.
    pub fn start(catalog: Catalog, courier: Courier, patience: Patience) -> Self {
        let (stop, stopped) = watch::channel(false);
        let run = Run {
            catalog: catalog.clone(),
            courier,
            schedule: Schedule::new(patience),
            last_seq: 0,
            attempts: JoinSet::new(),
            under_way: BTreeMap::new(),
            unrecorded: Vec::new(),
            record_after: Instant::now(),
            read_after: Instant::now(),
            expire_after_ms: 0,
        };
        Self { stop, tasks: vec![tokio::spawn(run.until(stopped.clone())), tokio::spawn(trim(catalog, stopped))] }
    }

    /// Has what is in the outbox now attempted, as far as there is room, and then begins no more attempts; those under way go on.
    pub fn close(&self) {
        self.stop.send_replace(true);
    }

    /// Waits for the attempts under way for so long at most, then ends those that are left: they are made again after the next
    /// start. Implies [`close`](Self::close).
    pub async fn finish(mut self, time_max: Duration) {
        self.close();
        let deadline = tokio::time::Instant::now() + time_max;
        for mut task in std::mem::take(&mut self.tasks) {
            if tokio::time::timeout_at(deadline, &mut task).await.is_err() {
                task.abort();
                // Its attempts end with it; the catalog may be closed afterwards.
                let _ = task.await;
            }
        }
    }
}

impl Drop for Dispatcher {
    fn drop(&mut self) {
        self.tasks.iter().for_each(JoinHandle::abort);
    }
}

/// An attempt that ended.
struct Attempt {
    pick: Pick,
    kind: &'static str,
    fired_ms: u64,
    at_ms: u64,
    took: Duration,
    verdict: Verdict,
}

struct Run {
    catalog: Catalog,
    courier: Courier,
    schedule: Schedule,
    /// The last row of the outbox that was read.
    last_seq: u64,
    attempts: JoinSet<Attempt>,
    /// What each task attempts, for one that panics.
    under_way: BTreeMap<Id, Pick>,
    /// What became of attempts and is not in the catalog yet. They hold their places in the schedule, so that there are never more
    /// than attempts at once.
    unrecorded: Vec<DeliveryResult>,
    record_after: Instant,
    read_after: Instant,
    expire_after_ms: u64,
}

impl Run {
    async fn until(mut self, mut stopped: watch::Receiver<bool>) {
        let mut closed = false;
        loop {
            let closing = *stopped.borrow();
            // The first pass after the closing is the last one: what was committed before it gets an attempt if there is room.
            if !closed && let Err(error) = self.begin_attempts(closing).await {
                tracing::warn!(%error, "the outbox cannot be read; trying again");
            }
            closed = closing;
            if closed && self.attempts.is_empty() && self.unrecorded.is_empty() {
                return;
            }
            metrics::gauge!(telemetry::PENDING).set(self.schedule.len() as f64);
            let wait = self.wait();
            tokio::select! {
                Some(ended) = self.attempts.join_next_with_id() => self.ended(ended),
                () = self.catalog.outbox_filled() => self.read_after = Instant::now(),
                () = tokio::time::sleep(wait) => {}
                // An error means that the dispatcher is gone, which ends this task too.
                changed = stopped.changed(), if !closed => if changed.is_err() { return },
            }
            while let Some(ended) = self.attempts.try_join_next_with_id() {
                self.ended(ended);
            }
            self.record().await;
            self.expire().await;
        }
    }

    /// How long nothing is to be done unless something happens.
    fn wait(&self) -> Duration {
        let until_due = self.schedule.wake_ms().map_or(POLL_EVERY, |wake_ms| Duration::from_millis(wake_ms.saturating_sub(now_ms())));
        // At least a millisecond: a clock that is set back must not make this a busy loop.
        let wait = until_due.clamp(Duration::from_millis(1), POLL_EVERY);
        if self.unrecorded.is_empty() { wait } else { wait.min(RECORD_AGAIN_AFTER) }
    }

    async fn begin_attempts(&mut self, read_now: bool) -> Result<(), CatalogError> {
        if read_now || Instant::now() >= self.read_after {
            self.read().await?;
        }
        loop {
            let now_ms = now_ms();
            let picks: Vec<Pick> = std::iter::from_fn(|| self.schedule.next(now_ms)).collect();
            if picks.is_empty() {
                return Ok(());
            }
            self.begin(picks).await;
        }
    }

    /// Reads the rows that came into the outbox since the last time.
    async fn read(&mut self) -> Result<(), CatalogError> {
        self.read_after = Instant::now() + POLL_EVERY;
        loop {
            let entries = self.catalog.outbox_after(self.last_seq, PAGE_ROWS).await?;
            let is_last = entries.len() < PAGE_ROWS;
            for entry in entries {
                self.last_seq = entry.seq;
                self.schedule.add(entry);
            }
            if is_last {
                return Ok(());
            }
        }
    }

    async fn begin(&mut self, picks: Vec<Pick>) {
        let seqs: Vec<u64> = picks.iter().map(|pick| pick.seq).collect();
        match self.catalog.outbox_messages(&seqs).await {
            Ok(messages) => self.spawn(picks, messages),
            // One that is damaged must not hold up the others.
            Err(_) if picks.len() > 1 => {
                for pick in picks {
                    match self.catalog.outbox_messages(&[pick.seq]).await {
                        Ok(message) => self.spawn(vec![pick], message),
                        Err(error) => self.unreadable(pick, &error),
                    }
                }
            }
            Err(error) => picks.into_iter().for_each(|pick| self.unreadable(pick, &error)),
        }
    }

    fn spawn(&mut self, picks: Vec<Pick>, messages: Vec<OutboxMessage>) {
        let mut messages: BTreeMap<u64, OutboxMessage> = messages.into_iter().map(|message| (message.seq, message)).collect();
        for pick in picks {
            // A row that is gone belonged to a subscription that was dropped.
            let Some(message) = messages.remove(&pick.seq) else {
                self.schedule.forget(pick.seq);
                continue;
            };
            let task = self.attempts.spawn(attempt(self.courier.clone(), pick.clone(), message));
            self.under_way.insert(task.id(), pick);
        }
    }

    fn unreadable(&mut self, pick: Pick, error: &CatalogError) {
        let now_ms = now_ms();
        tracing::warn!(seq = pick.seq, %error, "a notification cannot be read");
        if matches!(error, CatalogError::Corrupt { .. }) {
            let outcome = DeliveryOutcome::Failed { error: error.to_string() };
            self.unrecorded.push(DeliveryResult { seq: pick.seq, attempt: pick.attempt, at_ms: now_ms, duration_ms: 0, outcome });
        } else {
            self.schedule.put_back(pick.seq, now_ms + RECORD_AGAIN_AFTER.as_millis() as u64);
        }
    }

    fn ended(&mut self, ended: Result<(Id, Attempt), JoinError>) {
        let now_ms = now_ms();
        let attempt = match ended {
            Ok((id, attempt)) => {
                self.under_way.remove(&id);
                attempt
            }
            Err(error) => {
                let Some(pick) = self.under_way.remove(&error.id()) else { return };
                tracing::error!(%error, "an attempt to deliver panicked");
                let verdict = Verdict::retry("the attempt failed within the program; its log says more".to_owned());
                Attempt { pick, kind: "unknown", fired_ms: now_ms, at_ms: now_ms, took: Duration::ZERO, verdict }
            }
        };
        let outcome = self.schedule.decide(attempt.pick.seq, attempt.verdict, now_ms);
        let result = match &outcome {
            DeliveryOutcome::Delivered => "delivered",
            DeliveryOutcome::Retry { .. } => "retrying",
            DeliveryOutcome::Failed { error } => {
                tracing::warn!(seq = attempt.pick.seq, kind = attempt.kind, error, "a notification was given up");
                "failed"
            }
        };
        metrics::counter!(telemetry::DELIVERIES, "kind" => attempt.kind, "result" => result).increment(1);
        metrics::histogram!(telemetry::ATTEMPT_SECONDS, "kind" => attempt.kind).record(attempt.took.as_secs_f64());
        if outcome == DeliveryOutcome::Delivered {
            metrics::histogram!(telemetry::DELAY_SECONDS, "kind" => attempt.kind).record(now_ms.saturating_sub(attempt.fired_ms) as f64 / 1_000.0);
        }
        self.unrecorded.push(DeliveryResult {
            seq: attempt.pick.seq,
            attempt: attempt.pick.attempt,
            at_ms: attempt.at_ms,
            duration_ms: attempt.took.as_millis() as u64,
            outcome,
        });
    }

    /// Gives up what is too old and waits for a receiver that fails anyway.
    async fn expire(&mut self) {
        let at_ms = now_ms();
        if at_ms < self.expire_after_ms {
            return;
        }
        self.expire_after_ms = at_ms + EXPIRE_EVERY_MS;
        let outcome = DeliveryOutcome::Failed { error: self.schedule.expiry() };
        let result = |seq| DeliveryResult { seq, attempt: 0, at_ms, duration_ms: 0, outcome: outcome.clone() };
        let results: Vec<DeliveryResult> = self.schedule.expired(at_ms, EXPIRED_AT_ONCE_MAX).into_iter().map(result).collect();
        if results.is_empty() {
            return;
        }
        match self.catalog.record_deliveries(&results).await {
            Ok(()) => {
                tracing::warn!(count = results.len(), "notifications were given up: they are too old and their receiver fails");
                results.iter().for_each(|result| self.schedule.settle(result.seq, &result.outcome));
                // More of them: in a transaction of its own, between those of others.
                if results.len() == EXPIRED_AT_ONCE_MAX {
                    self.expire_after_ms = at_ms;
                }
            }
            Err(error) => tracing::warn!(%error, "notifications that are too old cannot be given up; trying again"),
        }
    }

    /// Records what became of attempts; what the catalog does not take is kept and recorded later, and never sent meanwhile.
    async fn record(&mut self) {
        if self.unrecorded.is_empty() || Instant::now() < self.record_after {
            return;
        }
        match self.catalog.record_deliveries(&self.unrecorded).await {
            Ok(()) => {
                for result in self.unrecorded.drain(..) {
                    self.schedule.settle(result.seq, &result.outcome);
                }
            }
            Err(error) => {
                metrics::counter!(telemetry::RECORD_FAILURES).increment(1);
                tracing::warn!(%error, "what became of notifications cannot be recorded; trying again");
                self.record_after = Instant::now() + RECORD_AGAIN_AFTER;
            }
        }
    }
}

async fn attempt(courier: Courier, pick: Pick, message: OutboxMessage) -> Attempt {
    let (at_ms, began) = (now_ms(), Instant::now());
    let verdict = courier.deliver(&message).await;
    let kind = message.target.parse::<NotifyTarget>().map_or("unknown", |target| target.kind());
    Attempt { pick, kind, fired_ms: message.transition.fired_ms, at_ms, took: began.elapsed(), verdict }
}

/// Keeps history and delivery log within their bounds.
async fn trim(catalog: Catalog, mut stopped: watch::Receiver<bool>) {
    loop {
        tokio::select! {
            _ = stopped.wait_for(|stop| *stop) => return,
            () = tokio::time::sleep(TRIM_EVERY) => {}
        }
        match catalog.trim_alerts(now_ms()).await {
            Ok(0) => {}
            Ok(removed) => tracing::info!(removed, "history of alerts and delivery log trimmed"),
            Err(error) => tracing::warn!(%error, "history of alerts and delivery log were not trimmed; trying again later"),
        }
    }
}

fn now_ms() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_millis() as u64)
}

#[cfg(test)]
mod tests;
