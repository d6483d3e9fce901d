//! Maintained queries: the relational plan that the graph can run, and what it makes of the tables' changes.
//!
//! [`plan`] is a small closed language over batches: scans with windows, maps, reductions, joins, top-k. It knows nothing of
//! SQL: expressions are opaque ([`plan::Evaluate`]), and whoever compiles SQL implements them. [`template`] is one plan for all
//! subscriptions that differ in their constants only. Edges between operators are Arrow batches with times and differences;
//! arrangements hold rows as bytes.
//!
//! | part | module |
//! |---|---|
//! | between operators | `edge`, `codec` (rows as bytes), `spine` (arrangements of them), `ticks`, `message` |
//! | operators | `scan` with `window`, `map` with `evaluate`, `variants`, `reduce`, `distinct`, `join`, `topk` |
//! | subscriptions | `parameters`, `share` (who sees what), `finish` (what each says), `flaw` (rows that fail), `meter` (quotas) |
//! | all together | [`render()`] |

mod codec;
mod distinct;
mod edge;
mod evaluate;
mod finish;
mod flaw;
#[doc(hidden)]
pub mod harness;
mod join;
pub mod json;
mod map;
mod message;
mod meter;
mod parameters;
pub mod plan;
mod reduce;
pub mod render;
mod scan;
mod share;
mod spine;
pub mod template;
#[cfg(test)]
mod tests;
mod ticks;
mod topk;
mod variants;
mod window;

pub use meter::Quotas;
pub use render::{RenderError, RenderOptions, TemplateInputs, check, render};
