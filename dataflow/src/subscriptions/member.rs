//! A subscription as one version of it runs in a template.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::error::ArrowError;
use weir_operators::Time;
use weir_operators::alert::Seen;
use weir_operators::relation::template::Parameters;
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
    /// The column of its answer that is a row's project.
    pub(super) project: Option<usize>,
    /// What it told the template, to take it back.
    pub(super) told: Told,
    pub(super) rows: Rows,
    /// The tick from which its rows are right, once that is known.
    pub(super) from: Option<Time>,
    /// Rows of its own that an expression has no value for: message and row.
    pub(super) failures: Failures,
    /// What is wrong with the whole template.
    pub(super) template_error: Option<Arc<str>>,
    /// Who waits for it.
    pub(super) waiter: Option<u64>,
    /// What brings its parameters to the template, the last one of several.
    pub(super) ticket: u64,
    /// Whether it is being created: where it cannot be, nothing of it stays, and nobody is told but who creates it.
    pub(super) is_new: bool,
    /// Why its stored rows could not be read the last time.
    pub(super) filling_error: Option<Arc<str>>,
}

/// Rows that an expression has no value for: how many, and which the first were.
#[derive(Debug, Default)]
pub(super) struct Failures {
    count: i64,
    /// Message and row, and how often.
    shown: BTreeMap<(String, String), i64>,
}

/// How many failing rows of a subscription are told apart.
const FAILURES_SHOWN_MAX: usize = 100;

impl Failures {
    pub(super) fn add(&mut self, message: String, row: String, difference: i64) {
        self.count += difference;
        let place = (message, row);
        if !self.shown.contains_key(&place) && (difference < 0 || self.shown.len() >= FAILURES_SHOWN_MAX) {
            return;
        }
        let count = self.shown.entry(place.clone()).or_default();
        *count += difference;
        if *count == 0 {
            self.shown.remove(&place);
        }
    }

    /// The first that stands.
    pub(super) fn error(&self) -> Option<String> {
        let shown = self.shown.iter().find(|(_, count)| **count > 0).map(|((message, row), _)| with_row(message, row));
        shown.or_else(|| (self.count > 0).then(|| format!("{} rows fail; which ones is not known any more", self.count)))
    }
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
    pub(super) fn new(
        definition: Arc<Subscription>,
        template: TemplateNumber,
        (codec, project): (Arc<Codec>, Option<usize>),
        told: Told,
        waiter: Option<u64>,
    ) -> Self {
        Self {
            definition,
            template,
            codec,
            project,
            told,
            rows: Rows::default(),
            from: None,
            failures: Failures::default(),
            template_error: None,
            waiter,
            ticket: 0,
            is_new: false,
            filling_error: None,
        }
    }

    pub(super) fn answer(&self, tick_ms: Time) -> Result<LiveRows, ArrowError> {
        self.rows.answer(&self.codec, tick_ms)
    }

    /// What is to be said of each of these keys: see [`Rows::seen`]. A row is of a project where it can be of no other; of one that the
    /// subscription does not read it is not.
    pub(super) fn seen<'k>(&self, keys: impl Iterator<Item = &'k str>) -> Result<BTreeMap<&'k str, Seen>, ArrowError> {
        let mut seen = self.rows.seen(keys, &self.codec, self.project)?;
        if let Some(projects) = &self.definition.projects {
            seen.values_mut().for_each(|seen| seen.project_id = seen.project_id.filter(|id| projects.contains(id)));
        }
        Ok(seen)
    }

    /// What is wrong with it.
    pub(super) fn error(&self) -> Option<String> {
        self.failures.error().or_else(|| self.template_error.as_deref().map(ToOwned::to_owned))
    }
}

/// A message with the row that caused it.
fn with_row(message: &str, row: &str) -> String {
    if row.is_empty() { message.to_owned() } else { format!("{message}, in the row {row}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_many_failing_rows_the_first_are_shown_and_all_are_counted() {
        let mut failures = Failures::default();
        let rows = 3 * FAILURES_SHOWN_MAX;
        (0..rows).for_each(|row| failures.add("no".to_owned(), format!("{row:04}"), 1));
        assert_eq!((failures.shown.len(), failures.error()), (FAILURES_SHOWN_MAX, Some("no, in the row 0000".to_owned())));
        (0..rows - 1).for_each(|row| failures.add("no".to_owned(), format!("{row:04}"), -1));
        assert!(failures.error().is_some_and(|error| error.starts_with("1 rows fail")), "one is left that was never shown");
        failures.add("no".to_owned(), format!("{:04}", rows - 1), -1);
        assert_eq!((failures.shown.len(), failures.error()), (0, None));
    }
}
