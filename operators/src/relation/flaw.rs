//! Rows that an expression has no value for: whose they would have been, and for how long they are in their window.

use std::collections::BTreeMap;
use std::rc::Rc;

use arrow::array::{Array, ArrayRef, RecordBatch};
use serde::{Deserialize, Serialize};
use weir_protocol::limits::TEMPLATE_FLAWED_KEYS_MAX;

use super::codec::Codec;
use super::json::row_text;
use super::meter::Meter;
use super::spine::Bytes;
use super::template::FAILURE_ROW_BYTES_MAX;
use crate::Time;

/// A failing row.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(super) struct Flaw {
    /// The parameter key that it would have had, as [`super::edge::encode`] has it.
    pub key: Option<Bytes>,
    pub message: String,
    pub row: String,
    /// When it enters its window.
    pub enter: Time,
    /// When it leaves its window; `Time::MAX` where it does not.
    pub leave: Time,
}

/// A failing row, when it comes and how often.
pub(super) type FlawUpdate = (Flaw, Time, i64);

/// From a row that a node would have given to the columns of the template's parameter key.
pub(super) type Salvage = Rc<dyn Fn(&RecordBatch) -> Option<Vec<ArrayRef>>>;

/// Tells whose a failing row is.
#[derive(Clone)]
pub(super) struct Owner {
    salvage: Option<Salvage>,
    codec: Rc<Codec>,
}

impl Owner {
    /// Of rows of the template's relation. Without parameter keys every row is everybody's.
    pub fn of_relation(codec: Rc<Codec>) -> Self {
        let keys = codec.fields().len();
        let salvage: Option<Salvage> = (keys > 0).then(|| Rc::new(move |row: &RecordBatch| row.columns().get(..keys).map(<[ArrayRef]>::to_vec)) as Salvage);
        Self { salvage, codec }
    }

    /// Of rows of a node below, from which `upwards` makes as much of a row of this node as it can.
    pub fn below(&self, upwards: impl Fn(&RecordBatch) -> Option<RecordBatch> + 'static) -> Self {
        let salvage = self.salvage.clone().map(|salvage| Rc::new(move |row: &RecordBatch| salvage(&upwards(row)?)) as Salvage);
        Self { salvage, codec: Rc::clone(&self.codec) }
    }

    /// The key of a row, if it can be told.
    pub fn key(&self, row: &RecordBatch) -> Option<Bytes> {
        let columns = self.salvage.as_ref()?(row)?;
        let fits = columns.len() == self.codec.fields().len()
            && columns.iter().zip(self.codec.fields()).all(|(column, field)| column.data_type() == field.data_type());
        if !fits || columns.iter().any(|column| column.is_null(0)) {
            return None;
        }
        let mut key = vec![1];
        self.codec.encode(&columns).append_to(0, &mut key);
        Some(key)
    }
}

/// A failing row as people read it.
pub(super) fn shown(row: &RecordBatch) -> String {
    let mut text = row_text(row, 0);
    if text.len() > FAILURE_ROW_BYTES_MAX {
        let cut = (0..=FAILURE_ROW_BYTES_MAX - '…'.len_utf8()).rev().find(|&cut| text.is_char_boundary(cut)).unwrap_or(0);
        text.truncate(cut);
        text.push('…');
    }
    text
}

/// The failing rows of one key, and what is shown of them: the first, as long as there is any.
#[derive(Default)]
struct Live {
    count: i64,
    shown: Option<Shown>,
}

enum Shown {
    Own((String, String)),
    /// Too many keys are shown already: it counts as one failing row without a key.
    Elsewhere,
}

/// The failing rows of a worker's keys.
pub(super) struct Register {
    live: BTreeMap<Option<Bytes>, Live>,
    /// How many keys show a failure of their own.
    shown: usize,
    shown_max: usize,
    meter: Rc<Meter>,
    /// What comes or goes later, with what to show.
    due: BTreeMap<Time, BTreeMap<Option<Bytes>, Waiting>>,
}

#[derive(Default)]
struct Waiting {
    count: i64,
    shown: Option<(String, String)>,
}

const FLAW_OVERHEAD_BYTES: usize = 96;

impl Register {
    pub fn new(meter: Rc<Meter>) -> Self {
        Self { live: BTreeMap::new(), shown: 0, shown_max: TEMPLATE_FLAWED_KEYS_MAX, meter, due: BTreeMap::new() }
    }

    /// Takes a failing row of tick `now`.
    pub fn take(&mut self, flaw: Flaw, now: Time, difference: i64) {
        if flaw.leave <= now {
            return;
        }
        let key = flaw.key;
        let comes = self.due.entry(flaw.enter.max(now)).or_default().entry(key.clone()).or_default();
        comes.count += difference;
        let text = (flaw.message, flaw.row);
        if comes.shown.as_ref().is_none_or(|shown| text < *shown) {
            comes.shown = Some(text);
        }
        if flaw.leave != Time::MAX {
            self.due.entry(flaw.leave).or_default().entry(key).or_default().count -= difference;
        }
    }

    /// Everything that is due at `now`: failures that begin (1) or end (-1).
    pub fn advance(&mut self, now: Time) -> Vec<(Option<Bytes>, (String, String), i64)> {
        let mut changes = Vec::new();
        let mut touched: BTreeMap<Option<Bytes>, Waiting> = BTreeMap::new();
        while let Some(entry) = self.due.first_entry()
            && *entry.key() <= now
        {
            for (key, waiting) in entry.remove() {
                let sum = touched.entry(key).or_default();
                sum.count += waiting.count;
                sum.shown = sum.shown.take().or(waiting.shown);
            }
        }
        let mut of_none = touched.remove(&None).unwrap_or_default();
        for (key, waiting) in touched {
            self.change(key, waiting, &mut of_none, &mut changes);
        }
        if of_none.count != 0 || of_none.shown.is_some() {
            self.change(None, of_none, &mut Waiting::default(), &mut changes);
        }
        changes
    }

    /// Changes what there is of a key; what is not shown under it is a change of those without a key.
    fn change(&mut self, key: Option<Bytes>, waiting: Waiting, of_none: &mut Waiting, changes: &mut Vec<(Option<Bytes>, (String, String), i64)>) {
        let bytes = key.as_ref().map_or(0, |key| (key.len() + FLAW_OVERHEAD_BYTES) as i64);
        let has_room = key.is_none() || self.shown < self.shown_max;
        let live = self.live.entry(key.clone()).or_insert_with(|| {
            self.meter.add_bytes(bytes);
            Live::default()
        });
        live.count += waiting.count;
        if live.count > 0 {
            if live.shown.is_none()
                && let Some(shown) = waiting.shown
            {
                if has_room {
                    self.shown += usize::from(key.is_some());
                    changes.push((key, shown.clone(), 1));
                    live.shown = Some(Shown::Own(shown));
                } else {
                    of_none.count += 1;
                    of_none.shown = of_none.shown.take().or(Some(shown));
                    live.shown = Some(Shown::Elsewhere);
                }
            }
            return;
        }
        match live.shown.take() {
            Some(Shown::Own(shown)) => {
                self.shown -= usize::from(key.is_some());
                changes.push((key.clone(), shown, -1));
            }
            Some(Shown::Elsewhere) => of_none.count -= 1,
            None => {}
        }
        if live.count == 0 {
            self.live.remove(&key);
            self.meter.add_bytes(-bytes);
        }
    }
}

/// The marker of a failing row where rows and failing rows stand in one arrangement.
pub(super) const FLAW_TAG: u8 = 1;

/// A failure as the value of an arrangement.
pub(super) fn payload(message: &str, row: &str) -> Bytes {
    let mut bytes = vec![FLAW_TAG];
    bytes.extend_from_slice(&(message.len() as u32).to_le_bytes());
    bytes.extend_from_slice(message.as_bytes());
    bytes.extend_from_slice(row.as_bytes());
    bytes
}

/// Message and row of a [`payload`].
pub(super) fn read_payload(bytes: &[u8]) -> (String, String) {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let length = bytes.get(1..5).map_or(0, |length| u32::from_le_bytes(length.try_into().expect("four bytes")) as usize);
    let rest = bytes.get(5..).unwrap_or(&[]);
    let (message, row) = rest.split_at(length.min(rest.len()));
    (text(message), text(row))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn flaw(key: u8, message: &str, leave: Time) -> Flaw {
        Flaw { key: Some(vec![key]), message: message.to_owned(), row: "{}".to_owned(), enter: 0, leave }
    }

    #[test]
    fn the_first_failure_of_a_key_is_shown_until_the_last_has_left() {
        let mut register = Register::new(meter());
        register.take(flaw(1, "b", 50), 10, 1);
        register.take(flaw(1, "a", 30), 10, 1);
        register.take(flaw(2, "c", 5), 10, 1);
        let began = register.advance(10);
        assert_eq!(began, [(Some(vec![1]), ("a".to_owned(), "{}".to_owned()), 1)]);
        assert_eq!(register.advance(30), []);
        let ended = register.advance(50);
        assert_eq!(ended, [(Some(vec![1]), ("a".to_owned(), "{}".to_owned()), -1)]);
        assert!(register.live.is_empty());
        assert!(register.due.is_empty());
    }

    fn meter() -> Rc<Meter> {
        Rc::new(Meter::new(super::super::meter::Quotas::default(), 1))
    }

    #[test]
    fn keys_beyond_the_bound_are_shown_without_a_key_until_the_last_has_left() {
        let mut register = Register { shown_max: 1, ..Register::new(meter()) };
        let text = |message: &str| (message.to_owned(), "{}".to_owned());
        for (key, message) in [(1, "a"), (2, "b"), (3, "c")] {
            register.take(flaw(key, message, Time::MAX), 10, 1);
        }
        assert_eq!(register.advance(10), [(Some(vec![1]), text("a"), 1), (None, text("b"), 1)]);
        // The row of the first key goes: others are not moved to its place, and their rows end where they began.
        register.take(flaw(1, "a", Time::MAX), 20, -1);
        assert_eq!(register.advance(20), [(Some(vec![1]), text("a"), -1)]);
        register.take(flaw(2, "b", Time::MAX), 30, -1);
        register.take(flaw(4, "d", Time::MAX), 30, 1);
        assert_eq!(register.advance(30), [(Some(vec![4]), text("d"), 1)]);
        register.take(flaw(3, "c", Time::MAX), 40, -1);
        register.take(flaw(4, "d", Time::MAX), 40, -1);
        assert_eq!(register.advance(40), [(Some(vec![4]), text("d"), -1), (None, text("b"), -1)]);
        assert!(register.live.is_empty() && register.shown == 0);
        assert_eq!(register.meter.take_usage().state_bytes, 0);
    }

    #[test]
    fn a_payload_reads_back() {
        assert_eq!(read_payload(&payload("what", "row")), ("what".to_owned(), "row".to_owned()));
        assert_eq!(read_payload(&[FLAW_TAG]), (String::new(), String::new()));
    }
}
