//! What the coordinator asks of the workers, and what they and others tell it.

use std::collections::{BTreeMap, VecDeque};
use std::sync::mpsc::Receiver;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::Thread;

use weir_operators::Time;
use weir_operators::relation::template::{Parameters, SubscriptionId, TableChanges, Template, TemplateAdvance};

/// The number of a template in this process.
pub(crate) type TemplateNumber = u64;

/// Parameters that come (true) or go.
pub(crate) type ParameterChanges = Vec<(Arc<Parameters>, bool)>;

/// What a worker is asked to do. All workers are given the same commands in the same order but for their shares of rows and
/// parameters: timely needs each to build the same dataflows in the same order.
pub(crate) enum Command {
    /// Builds a template's dataflow and fills it with stored rows.
    Build { template: TemplateNumber, plan: Arc<Template>, rows: Receiver<Hydration> },
    /// Changes who is subscribed; the answer has the ticket.
    Parameters { template: TemplateNumber, changes: ParameterChanges, ticket: u64 },
    /// Ends a template's dataflow.
    Drop { template: TemplateNumber },
    /// Ends all of them: nothing follows.
    End,
}

/// A worker's share of the stored rows that a new dataflow begins with.
pub(crate) enum Hydration {
    /// The tick of the snapshot: comes first.
    At(Time),
    /// Rows of it.
    Rows(TableChanges),
    /// There are no more.
    Complete,
}

/// What the coordinator is told.
pub(crate) enum Notice {
    /// The ticker released a tick.
    Released { tick: Time, upper: BTreeMap<u16, u64> },
    /// What became of a worker's templates.
    Worker { worker: usize, news: Box<News> },
    /// A worker ended, in order or not.
    WorkerEnded,
    /// Requests wait.
    Requests,
    /// The stored rows of a template are to be read again.
    FillAgain { template: TemplateNumber },
    /// More is known of what a deletion reaches: rows that dataflows were given are gone.
    Deleted,
    /// A template's stored rows could not be read.
    HydrationFailed { template: TemplateNumber, error: String },
}

/// What a worker says after a step, where there is anything to say.
#[derive(Default)]
pub(crate) struct News {
    /// Dataflows that were built, each with the worker's frontier then: it keeps all ticks from there on for them.
    pub(crate) built: Vec<(TemplateNumber, Time)>,
    /// Dataflows that could not be built.
    pub(crate) failed: Vec<(TemplateNumber, String)>,
    /// Subscriptions whose parameters do not fit.
    pub(crate) refused: Vec<(SubscriptionId, TemplateNumber, String)>,
    /// Dataflows that have all their stored rows.
    pub(crate) begun: Vec<TemplateNumber>,
    /// Dataflows that were given rows, and the newest tick of them.
    pub(crate) fed: Vec<(TemplateNumber, Time)>,
    /// Tickets of parameters, each with the time at which they take effect; `None` where the template is gone.
    pub(crate) applied: Vec<(u64, Option<Time>)>,
    /// What the dataflows said.
    pub(crate) advances: Vec<(TemplateNumber, TemplateAdvance)>,
    /// A deletion was taken up: rows that dataflows were given are gone.
    pub(crate) deleted: bool,
    /// The graph has ended on this worker; said once.
    pub(crate) ended: bool,
}

impl News {
    pub(crate) fn is_empty(&self) -> bool {
        self.built.is_empty()
            && self.failed.is_empty()
            && self.refused.is_empty()
            && self.begun.is_empty()
            && self.fed.is_empty()
            && self.applied.is_empty()
            && self.advances.is_empty()
            && !self.deleted
            && !self.ended
    }
}

/// Commands that wait for a worker. It never blocks whoever sends: the coordinator has few under way at a time, since requests
/// are bounded and taken together.
#[derive(Default)]
pub(crate) struct Mailbox {
    waiting: Mutex<VecDeque<Command>>,
    thread: Mutex<Option<Thread>>,
}

impl Mailbox {
    /// The thread that is to be woken.
    pub(crate) fn belongs_to(&self, thread: Thread) {
        *self.thread.lock().unwrap_or_else(PoisonError::into_inner) = Some(thread);
    }

    pub(crate) fn send(&self, command: Command) {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner).push_back(command);
        self.wake();
    }

    pub(crate) fn wake(&self) {
        if let Some(thread) = &*self.thread.lock().unwrap_or_else(PoisonError::into_inner) {
            thread.unpark();
        }
    }

    pub(crate) fn take(&self) -> Option<Command> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner).pop_front()
    }
}
