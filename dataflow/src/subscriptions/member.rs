//! A subscription as one version of it runs in a template.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::error::ArrowError;
use weir_operators::Time;
use weir_operators::relation::template::Parameters;
use weir_protocol::limits::SUBSCRIPTION_ROWS_MAX;
use weir_protocol::subscription::Subscription;

use super::codec::{Codec, RowBytes};
use super::command::TemplateNumber;
use super::live::{LiveRows, Rows};

/// A subscription in a template.
#[derive(Debug)]
pub(crate) struct Member {
    pub(super) definition: Arc<Subscription>,
    pub(super) template: TemplateNumber,
    pub(super) codec: Arc<Codec>,
    /// What it told the template, to take it back.
    pub(super) told: Told,
    pub(super) rows: Rows,
    /// The tick from which its rows are right, once that is known.
    pub(super) from: Option<Time>,
    /// Rows of its own that an expression has no value for: message and row.
    pub(super) failures: BTreeMap<(String, String), i64>,
    /// What is wrong with the whole template.
    pub(super) template_error: Option<Arc<str>>,
    /// Who waits for it.
    pub(super) waiter: Option<u64>,
}

/// Parameters as bytes: a batch of one row takes a kilobyte, these take a few dozen bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Told {
    key: RowBytes,
    constants: RowBytes,
}

/// Between parameters and their bytes.
pub(super) struct ParameterCodec {
    key: Codec,
    constants: Codec,
}

impl ParameterCodec {
    pub(super) fn new(example: &Parameters) -> Result<Self, ArrowError> {
        Ok(Self { key: Codec::new(example.key.schema())?, constants: Codec::new(example.constants.schema())? })
    }

    pub(super) fn encode(&self, parameters: &Parameters) -> Result<Told, ArrowError> {
        let one = |codec: &Codec, batch| codec.encode(batch)?.pop().ok_or_else(|| ArrowError::InvalidArgumentError("parameters without a row".to_owned()));
        Ok(Told { key: one(&self.key, &parameters.key)?, constants: one(&self.constants, &parameters.constants)? })
    }

    pub(super) fn decode(&self, subscription: u64, told: &Told) -> Result<Parameters, ArrowError> {
        let one = |codec: &Codec, bytes: &RowBytes| codec.decode(std::iter::once(&bytes[..]));
        Ok(Parameters { subscription, key: one(&self.key, &told.key)?, constants: one(&self.constants, &told.constants)? })
    }
}

impl Member {
    /// A member whose rows are yet to come.
    pub(super) fn new(definition: Arc<Subscription>, template: TemplateNumber, codec: Arc<Codec>, told: Told, waiter: Option<u64>) -> Self {
        Self { definition, template, codec, told, rows: Rows::default(), from: None, failures: BTreeMap::new(), template_error: None, waiter }
    }

    pub(super) fn answer(&self, tick_ms: Time) -> Result<LiveRows, ArrowError> {
        self.rows.answer(&self.codec, tick_ms)
    }

    /// What is wrong with it.
    pub(super) fn error(&self) -> Option<String> {
        if self.rows.is_too_large() {
            return Some(format!("the answer has more than {SUBSCRIPTION_ROWS_MAX} rows: write a narrower condition"));
        }
        let own = self.failures.iter().find(|(_, count)| **count > 0).map(|((message, row), _)| with_row(message, row));
        own.or_else(|| self.template_error.as_deref().map(ToOwned::to_owned))
    }
}

/// A message with the row that caused it.
pub(super) fn with_row(message: &str, row: &str) -> String {
    if row.is_empty() { message.to_owned() } else { format!("{message}, in the row {row}") }
}
