//! When rows enter and leave a window, and rows that wait for it.

use std::collections::BTreeMap;
use std::rc::Rc;

use arrow::array::RecordBatch;
use arrow::compute::concat_batches;

use super::meter::Meter;
use super::plan::Window;
use crate::Time;

/// Where the edges of a [`Window`] lie.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Geometry {
    lower_ms: i128,
    upper_ms: i128,
    pane_ms: i64,
}

impl Geometry {
    pub fn of(window: &Window) -> Self {
        let pane_ms = i64::try_from(window.pane_ms).unwrap_or(i64::MAX).max(1);
        Self { lower_ms: window.lower_ms.into(), upper_ms: window.upper_ms.into(), pane_ms }
    }

    /// The pane of a row's time.
    pub fn pane(&self, time_ms: i64) -> i64 {
        time_ms.div_euclid(self.pane_ms)
    }

    /// The first millisecond after a pane.
    pub fn end(&self, pane: i64) -> i128 {
        (i128::from(pane) + 1) * i128::from(self.pane_ms)
    }

    /// The first tick at which rows of a pane may be in.
    pub fn enter(&self, pane: i64) -> Time {
        if self.upper_ms == 0 { 0 } else { clamp(self.end(pane) + self.upper_ms) }
    }

    /// Whether rows are in as soon as they are there.
    pub fn is_in_at_once(self) -> bool {
        self.upper_ms == 0
    }

    /// The first tick at which rows of a pane are no longer in.
    pub fn leave(&self, pane: i64) -> Time {
        clamp(self.end(pane) + self.lower_ms)
    }
}

fn clamp(time: i128) -> Time {
    Time::try_from(time.max(0)).unwrap_or(Time::MAX)
}

/// Rows that come or go at a later time.
#[derive(Default)]
pub(super) struct Held {
    due: BTreeMap<Time, Vec<(RecordBatch, Vec<i64>)>>,
}

impl Held {
    /// Keeps rows until `time`; their differences are what happens then.
    pub fn keep(&mut self, time: Time, batch: RecordBatch, differences: Vec<i64>, meter: &Rc<Meter>) {
        if time == Time::MAX {
            return;
        }
        meter.add_bytes(held_bytes(&batch));
        let pieces = self.due.entry(time).or_default();
        pieces.push((batch, differences));
        // Pieces grow like the digits of a counter, so that each row is copied a logarithmic number of times.
        while let [.., (before, _), (last, _)] = pieces.as_slice()
            && before.num_rows() <= 2 * last.num_rows()
        {
            let schema = last.schema();
            let (last, last_differences) = pieces.pop().expect("two pieces");
            let (before, mut differences) = pieces.pop().expect("two pieces");
            meter.add_bytes(-held_bytes(&last) - held_bytes(&before));
            let merged = if schema.fields().is_empty() {
                super::codec::batch_of(&schema, Vec::new(), before.num_rows() + last.num_rows())
            } else {
                concat_batches(&schema, [&before, &last]).expect("pieces have one schema")
            };
            differences.extend(last_differences);
            meter.add_bytes(held_bytes(&merged));
            pieces.push((merged, differences));
        }
    }

    /// What is due at `now`.
    pub fn release(&mut self, now: Time, meter: &Rc<Meter>) -> Vec<(RecordBatch, Vec<i64>)> {
        let mut released = Vec::new();
        while let Some(entry) = self.due.first_entry()
            && *entry.key() <= now
        {
            released.extend(entry.remove());
        }
        for (batch, _) in &released {
            meter.add_bytes(-held_bytes(batch));
        }
        released
    }

    /// Lets go of everything.
    pub fn clear(&mut self) {
        self.due.clear();
    }
}

fn held_bytes(batch: &RecordBatch) -> i64 {
    let columns: usize = batch.columns().iter().map(|column| column.to_data().get_slice_memory_size().unwrap_or(0)).sum();
    (columns + 8 * batch.num_rows()) as i64
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The definition, as `plan::Window` has it.
    fn is_in(pane: i64, now: i64, lower: i64, upper: i64, width: i64) -> bool {
        (now - lower).div_euclid(width) <= pane && (upper == 0 || pane < (now - upper).div_euclid(width))
    }

    #[test]
    fn edges_are_where_the_definition_has_them() {
        for (lower, upper, width) in [(60, 0, 1), (60, 0, 7), (300, 40, 5), (300, 299, 20), (1, 0, 20)] {
            let geometry = Geometry { lower_ms: lower.into(), upper_ms: upper.into(), pane_ms: width };
            for time in (0..200).step_by(3) {
                let pane = geometry.pane(time);
                for now in 0..700 {
                    let expected = is_in(pane, now, lower, upper, width);
                    let now = now as Time;
                    assert_eq!(geometry.enter(pane) <= now && now < geometry.leave(pane), expected, "{lower} {upper} {width} {time} {now}");
                }
            }
        }
    }

    #[test]
    fn times_out_of_range_neither_panic_nor_wrap() {
        let geometry = Geometry { lower_ms: 60_000, upper_ms: 0, pane_ms: 1000 };
        assert_eq!(geometry.leave(geometry.pane(i64::MIN)), 0);
        assert!(geometry.leave(geometry.pane(i64::MAX)) > i64::MAX as Time);
        assert_eq!(Geometry { pane_ms: 1, ..geometry }.leave(i64::MAX), i64::MAX as Time + 1 + 60_000);
    }
}
