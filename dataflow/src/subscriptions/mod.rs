//! Subscriptions: queries that the graph keeps up to date, and what comes of their rows.
//!
//! | module | noun |
//! |---|---|
//! | [`handle`](Subscriptions) | how subscriptions come and go, and who reads their rows |
//! | `coordinator` | the thread that knows all templates and subscriptions, and evaluates each completed tick |
//! | `command` | what it says to the workers and hears from them |
//! | `feed`, `scans` | what of the tables goes to which template |
//! | `hydration` | the stored rows that a new dataflow begins with |
//! | `entry` | a subscription with its alerts and whoever watches it |
//! | `member`, `live`, `codec` | one version of it in a template, and its rows that hold now |
//! | `watch` | whoever follows them as they change |
//! | `recorder` | makes transitions durable, in the catalog, before anybody is told |
//! | `alarm` | when the next tick is due though nothing arrives |

use std::sync::Arc;

use weir_operators::relation::template::{Parameters, Template};
use weir_protocol::subscription::{Subscription, SubscriptionId};

pub(crate) mod alarm;
mod codec;
pub(crate) mod command;
pub(crate) mod coordinator;
mod entry;
pub(crate) mod feed;
mod handle;
mod hydration;
mod live;
mod member;
pub(crate) mod recorder;
pub(crate) mod scans;
mod watch;

#[cfg(test)]
mod tests;

pub(crate) use handle::Shared;
pub use handle::Subscriptions;
pub use live::LiveRows;
pub use recorder::{AlertStore, MemoryAlerts};
pub use watch::{Watch, WatchEvent};

/// A digest of what subscriptions of one template have in common: the canonical plan, its scope among it.
pub type Shape = [u8; 32];

/// A subscription ready to run.
#[derive(Debug, Clone)]
pub struct Compiled {
    /// What was asked for.
    pub definition: Arc<Subscription>,
    /// Which template it belongs to.
    pub shape: Shape,
    /// The template; of the first subscription of a shape it is used.
    pub template: Arc<Template>,
    /// What tells it from others of its shape. `parameters.subscription` is the definition's id.
    pub parameters: Parameters,
}

/// How a subscription is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SubscriptionState {
    /// Which.
    pub id: SubscriptionId,
    /// Whether it runs.
    pub status: Status,
    /// How many rows its answer has.
    pub rows: u64,
    /// How many alerts stand.
    pub alerts: u64,
    /// What is wrong with it, and which row caused that.
    pub error: Option<String>,
}

/// Whether a subscription runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Status {
    /// Its rows are up to date.
    Running,
    /// Its rows are being computed for the first time since the start, or since it was created or changed.
    Hydrating,
    /// Something is wrong with it.
    Failed,
}

impl Status {
    /// The word that clients see.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Running => "running",
            Self::Hydrating => "hydrating",
            Self::Failed => "failed",
        }
    }
}

/// What the template of a shape holds, over all workers.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct TemplateUsage {
    /// How many subscriptions share it.
    pub subscriptions: u64,
    /// Groups of reductions and top-k.
    pub groups: u64,
    /// Bytes of state, about.
    pub state_bytes: u64,
    /// Pairs of joined rows, those of rows with subscriptions among them, in the newest tick that had any.
    pub pairs_per_tick: u64,
}

/// Why a subscription was not taken up.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SubscriptionError {
    /// Too many shapes.
    #[error("subscriptions of {max} different shapes stand already: drop some, or write the new one like one of them with other constants")]
    TooManyShapes {
        /// The bound.
        max: usize,
    },
    /// No such subscription runs.
    #[error("subscription {id} does not run here")]
    Unknown {
        /// Its number.
        id: SubscriptionId,
    },
    /// It stands already.
    #[error("subscription {id} runs already")]
    Exists {
        /// Its number.
        id: SubscriptionId,
    },
    /// Its dataflow could not be built or filled.
    #[error("the subscription cannot be kept up to date: {0}")]
    Failed(String),
    /// The graph has ended.
    #[error("weir is stopping")]
    Stopped,
}
