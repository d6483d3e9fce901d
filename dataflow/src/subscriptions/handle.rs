//! The handle: through it subscriptions come, change and go, and their rows are read.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::sync::mpsc::SyncSender;
use std::sync::{Arc, Mutex, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use tokio::sync::{Semaphore, oneshot};
use weir_operators::Time;
use weir_protocol::limits::SUBSCRIPTION_REQUESTS_MAX;
use weir_protocol::subscription::{Subscription, SubscriptionId};

use super::command::Notice;
use super::entry::Entry;
use super::live::LiveRows;
use super::watch::{Queue, Watch};
use super::{Compiled, Shape, SubscriptionError, SubscriptionState, TemplateUsage};

/// The subscriptions of a running graph. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Subscriptions {
    pub(crate) shared: Arc<Shared>,
}

/// What somebody asks for.
#[derive(Debug)]
pub(super) enum Request {
    /// Subscriptions that are created or, where `are_known`, stood already when the graph started.
    Install {
        all: Vec<Compiled>,
        are_known: bool,
    },
    Replace(Box<Compiled>),
    Remove(SubscriptionId),
    /// A subscription that cannot be compiled any more.
    Broken(Arc<Subscription>, String),
}

pub(super) type Reply = oneshot::Sender<Result<(), SubscriptionError>>;

/// What handle, watchers and coordinator share.
#[derive(Debug)]
pub(crate) struct Shared {
    live: RwLock<Live>,
    requests: Mutex<Vec<(Request, Reply)>>,
    permits: Semaphore,
    pub(super) notices: SyncSender<Notice>,
    ended: AtomicBool,
}

/// All subscriptions as they stand at one tick. Written by the coordinator only.
#[derive(Debug, Default)]
pub(crate) struct Live {
    pub(super) tick_ms: Time,
    pub(super) entries: BTreeMap<SubscriptionId, Entry>,
    /// What the templates hold.
    pub(super) usage: BTreeMap<Shape, TemplateUsage>,
}

impl Live {
    /// The answer of a subscription; `None` before its rows are there.
    pub(super) fn rows(&self, id: SubscriptionId) -> Option<LiveRows> {
        let member = self.entries.get(&id)?.current.as_ref()?;
        match member.answer(self.tick_ms) {
            Ok(rows) => Some(rows),
            Err(error) => {
                tracing::error!(%error, subscription = id, "rows cannot be read back");
                None
            }
        }
    }
}

impl Shared {
    pub(crate) fn new(notices: SyncSender<Notice>) -> Self {
        Self { live: RwLock::default(), requests: Mutex::default(), permits: Semaphore::new(SUBSCRIPTION_REQUESTS_MAX), notices, ended: AtomicBool::new(false) }
    }

    pub(crate) fn read(&self) -> RwLockReadGuard<'_, Live> {
        self.live.read().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn write(&self) -> RwLockWriteGuard<'_, Live> {
        self.live.write().unwrap_or_else(PoisonError::into_inner)
    }

    /// All requests that wait.
    pub(super) fn take_requests(&self) -> Vec<(Request, Reply)> {
        std::mem::take(&mut *self.requests.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// No request is answered any more.
    pub(super) fn end(&self) {
        self.ended.store(true, SeqCst);
        for (_, reply) in self.take_requests() {
            let _ = reply.send(Err(SubscriptionError::Stopped));
        }
        for entry in self.write().entries.values() {
            entry.watchers.iter().filter_map(std::sync::Weak::upgrade).for_each(|queue| queue.end());
        }
    }
}

impl Subscriptions {
    /// Takes subscriptions up. Resolves when the rows that hold at once can be read; alerts that they make follow as soon as they
    /// are recorded.
    ///
    /// # Errors
    /// As [`SubscriptionError`] says. Of several the others are taken up all the same; then this does not wait for their rows. Nothing
    /// stays of one that is not taken up, and nobody else is told.
    pub async fn install(&self, subscriptions: Vec<Compiled>) -> Result<(), SubscriptionError> {
        self.take(subscriptions, false).await
    }

    /// The same at a start, of subscriptions that stood before: one that cannot be taken up is shown as failed, whom it notifies is
    /// told, and where its stored rows cannot be read that is tried again without an end.
    ///
    /// # Errors
    /// As [`Self::install`].
    pub async fn take_up(&self, subscriptions: Vec<Compiled>) -> Result<(), SubscriptionError> {
        self.take(subscriptions, true).await
    }

    async fn take(&self, all: Vec<Compiled>, are_known: bool) -> Result<(), SubscriptionError> {
        if all.is_empty() {
            return Ok(());
        }
        self.request(Request::Install { all, are_known }).await
    }

    /// Changes a subscription that runs: keys that are active before and after keep their alerts. It runs as before until the
    /// rows of the new version are there.
    ///
    /// # Errors
    /// As [`SubscriptionError`] says; then it goes on as it was.
    pub async fn replace(&self, subscription: Compiled) -> Result<(), SubscriptionError> {
        self.request(Request::Replace(Box::new(subscription))).await
    }

    /// Drops a subscription. Its alerts end without a word.
    ///
    /// # Errors
    /// Where it does not run.
    pub async fn remove(&self, id: SubscriptionId) -> Result<(), SubscriptionError> {
        self.request(Request::Remove(id)).await
    }

    /// Makes it known that a subscription of the catalog cannot be compiled any more: it is shown as failed, and whom it notifies
    /// is told once.
    ///
    /// # Errors
    /// Where the graph has ended.
    pub async fn broken(&self, subscription: Arc<Subscription>, why: String) -> Result<(), SubscriptionError> {
        self.request(Request::Broken(subscription, why)).await
    }

    /// The answer of a subscription at the newest tick; `None` where it does not run or its rows are not there yet.
    pub fn rows(&self, id: SubscriptionId) -> Option<LiveRows> {
        self.shared.read().rows(id)
    }

    /// How all subscriptions are, by their number.
    pub fn states(&self) -> Vec<SubscriptionState> {
        let live = self.shared.read();
        live.entries.iter().map(|(id, entry)| entry.state(*id)).collect()
    }

    /// How one subscription is.
    pub fn state(&self, id: SubscriptionId) -> Option<SubscriptionState> {
        self.shared.read().entries.get(&id).map(|entry| entry.state(id))
    }

    /// What the template of a shape holds, where it runs.
    pub fn usage(&self, shape: &Shape) -> Option<TemplateUsage> {
        self.shared.read().usage.get(shape).copied()
    }

    /// Follows the rows of a subscription; `None` where it does not run.
    pub fn watch(&self, id: SubscriptionId) -> Option<Watch> {
        let queue = Arc::new(Queue::new());
        let mut live = self.shared.write();
        let entry = live.entries.get_mut(&id)?;
        entry.watchers.retain(|watcher| watcher.strong_count() > 0);
        entry.watchers.push(Arc::downgrade(&queue));
        // Whoever ended the watchers before did not see this one.
        if self.shared.ended.load(SeqCst) {
            queue.end();
        }
        Some(Watch { id, queue, shared: Arc::downgrade(&self.shared) })
    }

    async fn request(&self, request: Request) -> Result<(), SubscriptionError> {
        let _permit = self.shared.permits.acquire().await.map_err(|_| SubscriptionError::Stopped)?;
        let (reply, answer) = oneshot::channel();
        self.shared.requests.lock().unwrap_or_else(PoisonError::into_inner).push((request, reply));
        // Where the channel is full the coordinator is awake, and looks for requests after each notice.
        let _ = self.shared.notices.try_send(Notice::Requests);
        if self.shared.ended.load(SeqCst) {
            return Err(SubscriptionError::Stopped);
        }
        answer.await.unwrap_or(Err(SubscriptionError::Stopped))
    }
}
