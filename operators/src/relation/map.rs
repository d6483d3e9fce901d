//! Rows that pass, with other columns.

use super::edge::{Deltas, Flaws, each_or_flaw};
use super::evaluate::Projection;
use super::flaw::{Flaw, Owner, shown};
use super::window::Geometry;
use crate::Time;

/// Filters and maps. Panes go on with their rows; `window` is theirs.
pub(super) fn map<'scope>(input: Deltas<'scope>, projection: Projection, window: Option<Geometry>, owner: Owner) -> (Deltas<'scope>, Flaws<'scope>) {
    each_or_flaw(input, "Map", move |_time, deltas, made, flaws| {
        for delta in deltas.drain(..) {
            let projected = projection.apply(&delta.batch);
            for (row, error) in projected.failures {
                let index = row as usize;
                let failing = delta.batch.slice(index, 1);
                let pane = delta.panes.as_ref().map(|panes| panes[index]);
                let (enter, leave) = window.zip(pane).map_or((0, Time::MAX), |(window, pane)| (window.enter(pane), window.leave(pane)));
                let flaw = Flaw { key: owner.key(&projection.salvage(&failing)), message: error.0, row: shown(&failing), enter, leave };
                flaws.push((flaw, delta.times[index], delta.differences[index]));
            }
            if !projected.rows.is_empty() {
                made.push(delta.select(projected.batch, &projected.rows));
            }
        }
    })
}
