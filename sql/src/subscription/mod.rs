//! Subscriptions: queries that are kept up to date, from their statements to what the graph runs.
//!
//! | module | noun |
//! |---|---|
//! | `syntax`, `options` | the statements |
//! | `refusal` | why one is refused, and where |
//! | `planner` | the plan of a query |
//! | `lower`, `join`, `aggregate`, `window`, `pending` | the relation that keeps its answer |
//! | `compile` | the template that it shares, and its constants |
//! | `evaluate` | expressions over batches |

mod aggregate;
mod compile;
mod evaluate;
mod join;
mod lower;
mod options;
mod pending;
mod planner;
mod refusal;
mod syntax;
mod window;

pub use compile::{CompiledQuery, Shape};
pub use refusal::Refusal;
