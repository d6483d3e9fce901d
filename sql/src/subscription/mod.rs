//! Subscriptions: queries that are kept up to date, from their statements to what the graph runs.
//!
//! | module | noun |
//! |---|---|
//! | `syntax`, `options` | the statements |
//! | `refusal` | why one is refused, and where |
//! | `planner`, `rewrite` | the plan of a query |
//! | `lower`, `join`, `aggregate`, `window`, `pending` | the relation that keeps its answer |
//! | `slots`, `variants` | constants that leave their conditions and become parameters |
//! | `compile` | the template that it shares, and its constants |
//! | `known` | statements that differ in literals alone |
//! | `evaluate` | expressions over batches |
//! | `control` | what keeps subscriptions |
//! | `run`, `backtest` | what the statements do |
//! | `rows`, `history` | what queries see of it |

mod aggregate;
mod backtest;
mod compile;
mod control;
mod evaluate;
mod history;
mod join;
mod known;
mod lower;
mod options;
#[cfg(test)]
mod oracle;
mod pending;
mod planner;
mod project;
mod refusal;
mod rewrite;
mod rows;
mod run;
mod slots;
mod syntax;
#[cfg(test)]
mod tests;
#[cfg(test)]
mod third_party;
mod variants;
mod window;

pub use compile::{CompiledQuery, Shape};
pub use control::{DeliveryRow, HistoryQuery, HistoryRow, LiveChanges, LiveRows, NewSubscription, SubscriptionControl, SubscriptionState, TemplateUsage};
pub use refusal::Refusal;

pub(crate) use compile::compile;
pub(crate) use control::Control;
pub(crate) use history::{AlertsTable, DeliveriesTable};
pub(crate) use planner::Planner;
pub(crate) use rows::SubscriptionFunction;
pub(crate) use syntax::{Command, parse};
