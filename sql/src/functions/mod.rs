//! The functions of the field: `apdex`, `p95`, `user_misery` and the like, beside those that SQL has anyway.
//!
//! Each aggregate is a [`field::Definition`] in the [`catalogue`], which [`expand`] writes out as arithmetic over counts, sums,
//! distinct counts and [`quantile`] sketches when a statement is planned.

mod bounded;
mod catalogue;
mod expand;
mod field;
mod quantile;
mod range;
mod scalar;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use datafusion::logical_expr::{AggregateUDF, ScalarUDF};

pub(crate) use expand::WriteOut;

/// The aggregates, as DataFusion knows functions.
pub(crate) fn aggregates() -> Vec<Arc<AggregateUDF>> {
    let defined = catalogue::AGGREGATES.iter().map(|definition| Arc::new(AggregateUDF::from(field::FieldFunction::new(definition))));
    defined.chain([Arc::clone(&quantile::DDSKETCH)]).collect()
}

/// The functions of a row, as DataFusion knows functions. Of those that it has already, some are bounded.
pub(crate) fn scalars(known: &[Arc<ScalarUDF>]) -> Vec<Arc<ScalarUDF>> {
    scalar::all().into_iter().map(Arc::new).chain([Arc::clone(&quantile::SKETCH_QUANTILE)]).chain(bounded::bounded(known)).collect()
}
