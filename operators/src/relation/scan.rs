//! Rows of a table: filtered, mapped, and put into their window.

use std::rc::Rc;
use std::sync::Arc;

use arrow::array::{Array, AsArray, Int64Array, RecordBatch};
use arrow::datatypes::{DataType, Field, Fields, Int64Type, Schema, SchemaRef};
use timely::dataflow::Stream;
use weir_protocol::limits::CLOCK_AHEAD_MS;

use super::codec::batch_of;
use super::edge::{Delta, Deltas, Flaws, each_or_flaw, take_rows};
use super::evaluate::{Projection, evaluate};
use super::flaw::{Flaw, FlawUpdate, Owner, shown};
use super::message::Message;
use super::meter::Meter;
use super::plan::Scan;
use super::template::TableChanges;
use super::window::{Geometry, Held};
use crate::Time;

/// What becomes of a scan's window.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Windowing {
    /// The scan holds rows back and takes them out again.
    Rows,
    /// Rows go on at once with their pane, and whoever reduces them applies the window.
    Panes,
}

/// Rows of a table.
pub(super) fn scan<'scope>(
    messages: Stream<'scope, Time, Vec<Message>>,
    scan: &Scan,
    schema: &SchemaRef,
    windowing: Windowing,
    owner: Owner,
    meter: Rc<Meter>,
) -> (Deltas<'scope>, Flaws<'scope>) {
    let mut scanner = Scanner::new(scan, schema, windowing, owner, meter);
    each_or_flaw(messages, "Scan", move |time, messages, made, flaws| {
        for message in messages.drain(..) {
            match message {
                Message::Table(changes) if changes.table == scanner.table => scanner.take(time, &changes, made, flaws),
                Message::Clock => scanner.release(time, made),
                Message::Table(_) | Message::Parameters(..) => {}
            }
        }
    })
}

struct Scanner {
    table: &'static str,
    table_columns: Vec<usize>,
    /// The scan's columns, then those of the window.
    projection: Projection,
    schema: SchemaRef,
    window: Option<Edges>,
    windowing: Windowing,
    held: Held,
    owner: Owner,
    meter: Rc<Meter>,
}

struct Edges {
    geometry: Geometry,
    lateness_ms: Option<i128>,
    has_received: bool,
}

impl Scanner {
    fn new(scan: &Scan, schema: &SchemaRef, windowing: Windowing, owner: Owner, meter: Rc<Meter>) -> Self {
        let mut columns = scan.columns.clone();
        let mut fields: Vec<_> = schema.fields().iter().cloned().collect();
        let window = scan.window.as_ref().map(|window| {
            columns.push(Arc::clone(&window.time));
            fields.push(Arc::new(Field::new("time", DataType::Int64, true)));
            if let Some(received) = window.received.as_ref().filter(|_| window.lateness_ms.is_some()) {
                columns.push(Arc::clone(received));
                fields.push(Arc::new(Field::new("received", DataType::Int64, true)));
            }
            Edges {
                geometry: Geometry::of(window),
                lateness_ms: window.lateness_ms.map(i128::from),
                has_received: window.received.is_some() && window.lateness_ms.is_some(),
            }
        });
        Self {
            table: scan.table,
            table_columns: scan.table_columns.clone(),
            projection: Projection { filter: scan.filter.clone(), columns, schema: Arc::new(Schema::new(Fields::from(fields))) },
            schema: Arc::clone(schema),
            window,
            windowing,
            held: Held::default(),
            owner,
            meter,
        }
    }

    fn take(&mut self, now: Time, changes: &TableChanges, made: &mut Vec<Delta>, flaws: &mut Vec<FlawUpdate>) {
        if self.meter.is_halted() {
            self.held.clear();
            return;
        }
        let input = changes.batch.project(&self.table_columns).expect("the table's stored schema has the plan's columns");
        let difference = |row: u32| changes.differences.as_ref().map_or(1, |differences| differences[row as usize]);
        let projected = self.projection.apply(&input);
        for (row, error) in &projected.failures {
            flaws.extend(self.flaw(now, &input.slice(*row as usize, 1), &error.0, difference(*row)));
        }
        if projected.rows.is_empty() {
            return;
        }
        let differences: Vec<i64> = projected.rows.iter().map(|&row| difference(row)).collect();
        match &self.window {
            None => made.push(delta(projected.batch, now, differences, None)),
            Some(_) => self.admit(now, &projected.batch, differences, made),
        }
    }

    /// Puts rows into their window. Those that have left already are left out, those that are late are counted.
    fn admit(&mut self, now: Time, batch: &RecordBatch, differences: Vec<i64>, made: &mut Vec<Delta>) {
        let edges = self.window.as_ref().expect("a scan with a window");
        let width = self.schema.fields().len();
        let times = batch.column(width).as_primitive::<Int64Type>();
        let received = edges.has_received.then(|| batch.column(width + 1).as_primitive::<Int64Type>());
        let mut kept = Vec::with_capacity(batch.num_rows());
        let mut panes = Vec::with_capacity(batch.num_rows());
        let mut late = 0;
        for (row, difference) in differences.iter().enumerate() {
            if times.is_null(row) {
                continue;
            }
            let received = received_at(received, row, now);
            let pane = edges.pane(times.value(row), received);
            if edges.is_late(pane, received) {
                late += difference.max(&0).unsigned_abs();
            } else if edges.geometry.leave(pane) > now {
                kept.push(row as u32);
                panes.push(pane);
            }
        }
        self.meter.add_late(late);
        let geometry = edges.geometry;
        let batch = batch_of(&self.schema, batch.columns()[..width].to_vec(), batch.num_rows());
        let (batch, differences) = if kept.len() == batch.num_rows() {
            (batch, differences)
        } else {
            (take_rows(&batch, &kept), kept.iter().map(|&row| differences[row as usize]).collect())
        };
        if batch.num_rows() == 0 {
            return;
        }
        match self.windowing {
            Windowing::Panes => made.push(delta(batch, now, differences, Some(panes))),
            Windowing::Rows => self.hold(now, geometry, &batch, &differences, &panes, made),
        }
    }

    fn hold(&mut self, now: Time, geometry: Geometry, batch: &RecordBatch, differences: &[i64], panes: &[i64], made: &mut Vec<Delta>) {
        let mut by_pane = std::collections::BTreeMap::<i64, Vec<u32>>::new();
        let mut at_once = Vec::new();
        for (row, &pane) in panes.iter().enumerate() {
            by_pane.entry(pane).or_default().push(row as u32);
            if geometry.enter(pane) <= now {
                at_once.push(row as u32);
            }
        }
        for (pane, rows) in by_pane {
            let of_pane = take_rows(batch, &rows);
            let comes: Vec<i64> = rows.iter().map(|&row| differences[row as usize]).collect();
            let goes = comes.iter().map(|difference| -difference).collect();
            if geometry.enter(pane) > now {
                self.held.keep(geometry.enter(pane), of_pane.clone(), comes, &self.meter);
            }
            self.held.keep(geometry.leave(pane), of_pane, goes, &self.meter);
        }
        if !at_once.is_empty() {
            let differences = at_once.iter().map(|&row| differences[row as usize]).collect();
            made.push(delta(take_rows(batch, &at_once), now, differences, None));
        }
    }

    /// Rows whose time has come.
    fn release(&mut self, now: Time, made: &mut Vec<Delta>) {
        if self.meter.is_halted() {
            self.held.clear();
            return;
        }
        for (batch, differences) in self.held.release(now, &self.meter) {
            made.push(delta(batch, now, differences, None));
        }
    }

    /// A row that fails, for as long as it would have been in the window. `None` where it is not in it.
    fn flaw(&self, now: Time, row: &RecordBatch, message: &str, difference: i64) -> Option<FlawUpdate> {
        let salvaged = self.projection.salvage(row);
        let (mut enter, mut leave) = (0, Time::MAX);
        if let Some(edges) = &self.window {
            let width = self.schema.fields().len();
            let times = salvaged.column(width).as_primitive::<Int64Type>();
            if times.is_null(0) && evaluate(&self.projection.columns[width], row).is_ok() {
                // It says no time, so it is in no window, whatever else fails of it.
                return None;
            }
            // A row whose time is what fails stays as long as one of now would.
            let time = if times.is_valid(0) { times.value(0) } else { i64::try_from(now).unwrap_or(i64::MAX) };
            let received = received_at(edges.has_received.then(|| salvaged.column(width + 1).as_primitive::<Int64Type>()), 0, now);
            let pane = edges.pane(time, received);
            if edges.is_late(pane, received) {
                self.meter.add_late(difference.max(0).unsigned_abs());
                return None;
            }
            (enter, leave) = (edges.geometry.enter(pane), edges.geometry.leave(pane));
        }
        (leave > now).then(|| {
            let flaw = Flaw { key: self.owner.key(&salvaged), message: message.to_owned(), row: shown(row), enter, leave };
            (flaw, now, difference)
        })
    }
}

impl Edges {
    /// The pane of a row. What says to have happened later than a clock may be ahead is taken as of its receipt: it would stay in the
    /// window for as long as its clock is wrong.
    fn pane(&self, time: i64, received: i64) -> i64 {
        let is_ahead = self.lateness_ms.is_some() && i128::from(time) > i128::from(received) + i128::from(CLOCK_AHEAD_MS);
        self.geometry.pane(if is_ahead { received } else { time })
    }

    fn is_late(&self, pane: i64, received: i64) -> bool {
        self.lateness_ms.is_some_and(|lateness_ms| i128::from(received) > self.geometry.end(pane) + lateness_ms)
    }
}

/// When a row was received; now where it does not say.
fn received_at(received: Option<&Int64Array>, row: usize, now: Time) -> i64 {
    received.filter(|received| received.is_valid(row)).map_or_else(|| i64::try_from(now).unwrap_or(i64::MAX), |received| received.value(row))
}

fn delta(batch: RecordBatch, time: Time, differences: Vec<i64>, panes: Option<Vec<i64>>) -> Delta {
    Delta { times: vec![time; batch.num_rows()], batch, differences, panes }
}
