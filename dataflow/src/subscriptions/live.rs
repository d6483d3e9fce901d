//! The rows of a subscription as they stand, by key.

use std::collections::BTreeMap;

use arrow::array::{Array, AsArray, RecordBatch};
use arrow::datatypes::{Int64Type, SchemaRef};
use arrow::error::ArrowError;
use weir_operators::Time;
use weir_operators::alert::Seen;
use weir_operators::relation::json;
use weir_protocol::limits::SUBSCRIPTION_ROWS_MAX;

use super::codec::{Codec, RowBytes};

/// The answer of a subscription at one tick.
#[derive(Debug, Clone)]
pub struct LiveRows {
    /// The columns.
    pub schema: SchemaRef,
    /// The rows: those that fire.
    pub batches: Vec<RecordBatch>,
    /// The tick, in Unix milliseconds.
    pub tick_ms: Time,
}

/// One row, as often as it is there.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Row {
    bytes: RowBytes,
    fires: bool,
    escalates: bool,
    count: i64,
}

/// A change of a row.
pub(super) struct RowChange {
    pub(super) key: String,
    pub(super) bytes: RowBytes,
    pub(super) fires: bool,
    pub(super) escalates: bool,
    pub(super) difference: i64,
}

/// All rows that fire or hold. Without rows it takes a few dozen bytes.
#[derive(Debug, Default)]
pub(super) struct Rows {
    by_key: BTreeMap<Box<str>, Vec<Row>>,
    /// How many distinct rows there are.
    distinct: usize,
}

impl Rows {
    /// Adds and takes away. Changes of one tick may come in any order: a row may be there a negative number of times meanwhile.
    pub(super) fn change(&mut self, change: RowChange) {
        let RowChange { key, bytes, fires, escalates, difference } = change;
        let key = key.into_boxed_str();
        let rows = self.by_key.entry(key.clone()).or_default();
        match rows.iter_mut().position(|row| row.bytes == bytes && row.fires == fires && row.escalates == escalates) {
            Some(at) => {
                rows[at].count += difference;
                if rows[at].count == 0 {
                    rows.swap_remove(at);
                    self.distinct -= 1;
                }
            }
            None => {
                rows.push(Row { bytes, fires, escalates, count: difference });
                self.distinct += 1;
            }
        }
        if rows.is_empty() {
            self.by_key.remove(&key);
        }
    }

    pub(super) fn is_too_large(&self) -> bool {
        self.distinct > SUBSCRIPTION_ROWS_MAX
    }

    /// How many rows the answer has.
    pub(super) fn count(&self) -> u64 {
        self.firing().map(|row| row.count as u64).sum()
    }

    fn firing(&self) -> impl Iterator<Item = &Row> {
        self.by_key.values().flatten().filter(|row| row.fires && row.count > 0)
    }

    /// The answer.
    pub(super) fn answer(&self, codec: &Codec, tick_ms: Time) -> Result<LiveRows, ArrowError> {
        let rows: Vec<&[u8]> = self.firing().flat_map(|row| std::iter::repeat_n(&row.bytes[..], row.count as usize)).collect();
        let batches = if rows.is_empty() { Vec::new() } else { vec![codec.decode(rows.into_iter())?] };
        Ok(LiveRows { schema: SchemaRef::clone(codec.schema()), batches, tick_ms })
    }

    pub(super) fn keys(&self) -> impl Iterator<Item = &str> {
        self.by_key.keys().map(AsRef::as_ref)
    }

    /// What is to be said of each of these keys: its row, the first of them in a fixed order where there are several; a key
    /// without rows is left out. `project` is the column that is known to be the project of a row.
    pub(super) fn seen<'k>(&self, keys: impl Iterator<Item = &'k str>, codec: &Codec, project: Option<usize>) -> Result<BTreeMap<&'k str, Seen>, ArrowError> {
        let chosen: Vec<(&str, &[Row], &Row)> = keys.filter_map(|key| self.by_key.get(key).and_then(|rows| Some((key, &rows[..], shown(rows)?)))).collect();
        if chosen.is_empty() {
            return Ok(BTreeMap::new());
        }
        let batch = codec.decode(chosen.iter().map(|(_, _, row)| &row.bytes[..]))?;
        let projects = project.and_then(|column| batch.columns().get(column)?.as_primitive_opt::<Int64Type>());
        let seen = chosen.iter().enumerate().map(|(index, (key, rows, _))| {
            let there = |row: &&Row| row.count > 0;
            let seen = Seen {
                fires: rows.iter().filter(there).any(|row| row.fires),
                escalates: rows.iter().filter(there).any(|row| row.escalates),
                row: json::row_text(&batch, index),
                project_id: projects.filter(|column| column.is_valid(index)).map(|column| column.value(index) as u64),
            };
            (*key, seen)
        });
        Ok(seen.collect())
    }
}

/// The row that stands for a key: one that fires before one that holds, then in the order of the bytes.
fn shown(rows: &[Row]) -> Option<&Row> {
    rows.iter().filter(|row| row.count > 0).min_by_key(|row| (!row.fires, &row.bytes))
}
