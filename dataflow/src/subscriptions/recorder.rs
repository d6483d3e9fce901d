//! The recorder: makes transitions and the active set durable in the catalog, before anybody is told.
//!
//! It has a thread of its own, so that no tick waits for a disk. While a record is written, what the following ticks make gathers
//! for the next: under load one transaction takes several ticks. What fails is tried again until it succeeds.

use std::collections::BTreeMap;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::runtime::Handle;
use weir_catalog::{AlertCommit, Catalog, CatalogError, RestoredAlerts};
use weir_operators::Time;
use weir_operators::alert::Recorded;
use weir_protocol::subscription::{ActiveAlert, SubscriptionId, Transition};

use crate::progress::Progress;
use crate::telemetry;
use crate::ticker::now_ms;

/// Where alerts are kept.
#[async_trait::async_trait]
pub trait AlertStore: Send + Sync + 'static {
    /// Writes a commit whole or not at all. The same commit again changes nothing.
    async fn commit_alerts(&self, commit: &AlertCommit) -> Result<(), CatalogError>;

    /// The alerts as of the last commit.
    async fn restore_alerts(&self) -> Result<RestoredAlerts, CatalogError>;
}

#[async_trait::async_trait]
impl AlertStore for Catalog {
    async fn commit_alerts(&self, commit: &AlertCommit) -> Result<(), CatalogError> {
        Self::commit_alerts(self, commit).await
    }

    async fn restore_alerts(&self) -> Result<RestoredAlerts, CatalogError> {
        Self::restore_alerts(self).await
    }
}

/// Alerts in memory, for tests: as durable as the value.
#[derive(Debug, Default)]
pub struct MemoryAlerts(Mutex<Kept>);

#[derive(Debug, Default)]
struct Kept {
    restored: RestoredAlerts,
    transitions: Vec<Transition>,
    fenced_below: i64,
    commits: usize,
}

impl MemoryAlerts {
    fn kept(&self) -> MutexGuard<'_, Kept> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// All transitions, in their order.
    pub fn transitions(&self) -> Vec<Transition> {
        self.kept().transitions.clone()
    }

    /// The alerts that are known.
    pub fn active(&self) -> Vec<ActiveAlert> {
        self.kept().restored.active.clone()
    }

    /// How many commits were made.
    pub fn commits(&self) -> usize {
        self.kept().commits
    }

    /// Commits of older generations fail from now on.
    pub fn fence(&self, generation: i64) {
        self.kept().fenced_below = generation;
    }
}

#[async_trait::async_trait]
impl AlertStore for MemoryAlerts {
    async fn commit_alerts(&self, commit: &AlertCommit) -> Result<(), CatalogError> {
        let mut kept = self.kept();
        if commit.generation < kept.fenced_below {
            return Err(CatalogError::Fenced { found: kept.fenced_below, mine: commit.generation });
        }
        kept.commits += 1;
        for transition in &commit.transitions {
            if kept.transitions.iter().all(|known| known.id != transition.id) {
                kept.transitions.push(transition.clone());
            }
        }
        let mut active: BTreeMap<(SubscriptionId, String), ActiveAlert> =
            kept.restored.active.drain(..).map(|alert| ((alert.subscription_id, alert.key.clone()), alert)).collect();
        active.extend(commit.active.iter().map(|alert| ((alert.subscription_id, alert.key.clone()), alert.clone())));
        active.retain(|place, _| !commit.ended.contains(place));
        kept.restored = RestoredAlerts { offsets: commit.offsets.clone(), tick_ms: commit.tick_ms, active: active.into_values().collect() };
        Ok(())
    }

    async fn restore_alerts(&self) -> Result<RestoredAlerts, CatalogError> {
        Ok(self.kept().restored.clone())
    }
}

/// How long a changed row of an alert that stands may wait to be recorded: a start computes it anew anyway.
const LAZY_MAX: Duration = Duration::from_secs(5);
/// Past so many transitions that wait to be recorded, the graph pauses.
const WAITING_TRANSITIONS_MAX: usize = 20_000;
/// The first pause after a failure; it doubles up to the longest.
const RETRY_FIRST: Duration = Duration::from_millis(50);
const RETRY_LONGEST: Duration = Duration::from_secs(5);
/// How long a stop goes on trying.
const STOP_PATIENCE: Duration = Duration::from_secs(3);

/// What waits to be recorded, between coordinator and recorder.
#[derive(Default)]
pub(crate) struct Outgoing {
    waiting: Mutex<Waiting>,
    filled: Condvar,
}

#[derive(Default)]
struct Waiting {
    recorded: Recorded,
    offsets: BTreeMap<u16, u64>,
    tick: Time,
    since: Option<Instant>,
    holding: bool,
    ended: bool,
}

impl Outgoing {
    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds what a tick made; the offsets are those that it reached.
    pub(crate) fn add(&self, tick: Time, offsets: &BTreeMap<u16, u64>, recorded: Recorded, progress: &Progress) {
        if recorded.is_empty() {
            return;
        }
        let mut waiting = self.lock();
        waiting.since.get_or_insert_with(Instant::now);
        waiting.recorded.append(recorded);
        waiting.tick = tick;
        waiting.offsets.clone_from(offsets);
        if !waiting.holding && waiting.recorded.transitions.len() > WAITING_TRANSITIONS_MAX {
            waiting.holding = true;
            progress.hold();
        }
        self.filled.notify_one();
    }

    /// Nothing of a subscription is to be recorded any more.
    pub(crate) fn forget(&self, subscription: SubscriptionId) {
        self.lock().recorded.forget(subscription);
    }

    /// Nothing follows.
    pub(crate) fn end(&self) {
        self.lock().ended = true;
        self.filled.notify_one();
    }

    /// Waits for something to be recorded; `None` at the end.
    fn next(&self, progress: &Progress) -> Option<(Time, BTreeMap<u16, u64>, Recorded)> {
        let mut waiting = self.lock();
        loop {
            let due = waiting.since.map(|since| if waiting.recorded.urgent { Duration::ZERO } else { LAZY_MAX.saturating_sub(since.elapsed()) });
            match due {
                Some(due) if due.is_zero() || waiting.ended => {
                    waiting.since = None;
                    if std::mem::take(&mut waiting.holding) {
                        progress.resume();
                    }
                    return Some((waiting.tick, waiting.offsets.clone(), std::mem::take(&mut waiting.recorded)));
                }
                Some(due) => waiting = self.filled.wait_timeout(waiting, due).map_or_else(|e| e.into_inner().0, |(waiting, _)| waiting),
                None if waiting.ended => return None,
                None => waiting = self.filled.wait(waiting).unwrap_or_else(PoisonError::into_inner),
            }
        }
    }
}

pub(crate) struct Recorder {
    pub(crate) outgoing: Arc<Outgoing>,
    pub(crate) store: Arc<dyn AlertStore>,
    pub(crate) generation: i64,
    pub(crate) progress: Arc<Progress>,
    pub(crate) runtime: Handle,
}

impl Recorder {
    /// Records until the end, or until another process has taken over.
    pub(crate) fn run(self) {
        while let Some((tick_ms, offsets, recorded)) = self.outgoing.next(&self.progress) {
            let mut commit = AlertCommit { generation: self.generation, offsets, tick_ms, transitions: recorded.transitions, ..AlertCommit::default() };
            for (place, active) in recorded.active {
                match active {
                    Some(active) => commit.active.push(active),
                    None => commit.ended.push(place),
                }
            }
            if !self.record(&commit) {
                return;
            }
        }
    }

    /// Tries until it is durable; false where it never will be.
    fn record(&self, commit: &AlertCommit) -> bool {
        let mut pause = RETRY_FIRST;
        let mut stop_seen_at = None;
        loop {
            let started = Instant::now();
            match self.runtime.block_on(self.store.commit_alerts(commit)) {
                Ok(()) => {
                    metrics::counter!(telemetry::ALERT_RECORDS).increment(1);
                    metrics::histogram!(telemetry::ALERT_RECORD_SECONDS).record(started.elapsed().as_secs_f64());
                    let now = now_ms();
                    for transition in &commit.transitions {
                        metrics::histogram!(telemetry::ALERT_DELAY_MS).record(now.saturating_sub(transition.fired_ms) as f64);
                    }
                    self.progress.trouble_with(ALERTS, None);
                    return true;
                }
                Err(fenced @ CatalogError::Fenced { .. }) => {
                    tracing::error!(error = %fenced, "alerts not recorded");
                    self.progress.fence(fenced.to_string());
                    return false;
                }
                Err(error) => {
                    metrics::counter!(telemetry::ALERT_RECORD_FAILURES).increment(1);
                    tracing::warn!(%error, retry_ms = pause.as_millis() as u64, "recording alerts failed, trying again");
                    self.progress.trouble_with(ALERTS, Some(format!("alerts are not recorded, it is tried again: {error}")));
                }
            }
            if self.progress.is_stopping() && stop_seen_at.get_or_insert_with(Instant::now).elapsed() > STOP_PATIENCE {
                tracing::warn!("stopping without recording the last alerts; they are found again at the next start");
                return false;
            }
            std::thread::sleep(pause);
            pause = (pause * 2).min(RETRY_LONGEST);
        }
    }
}

const ALERTS: &str = "alerts";
