//! `BACKTEST SUBSCRIPTION`: when a subscription would have fired, from stored history.

use weir_protocol::subscription::SubscriptionOptions;

use super::compile::CompiledQuery;
use crate::engine::Engine;
use crate::error::QueryError;
use crate::scope::Scope;
use crate::stream::QueryStream;

impl Engine {
    /// Runs the same template over the stored rows, at ticks of a pane.
    pub(crate) async fn backtest(
        &self,
        _scope: &Scope,
        _sql: &str,
        _options: SubscriptionOptions,
        _compiled: CompiledQuery,
        _from_ms: u64,
        _to_ms: u64,
    ) -> Result<QueryStream, QueryError> {
        Err(QueryError::Invalid("BACKTEST SUBSCRIPTION is not answered yet".to_owned()))
    }
}
