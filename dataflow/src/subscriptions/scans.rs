//! What a template reads of the tables: which, which columns, and how old a row may be.

use std::collections::{BTreeMap, BTreeSet};

use weir_operators::Time;
use weir_operators::relation::plan::{Node, Relation, Scan, Window};
use weir_protocol::limits::CLOCK_AHEAD_MS;

/// All scans of a relation.
pub(crate) fn scans(relation: &Relation) -> Vec<&Scan> {
    let mut found = Vec::new();
    let mut left = vec![relation];
    while let Some(relation) = left.pop() {
        match &relation.node {
            Node::Scan(scan) => found.push(scan),
            Node::Values(_) => {}
            Node::Map(map) => left.push(&map.input),
            Node::Variants(variants) => left.push(&variants.input),
            Node::Reduce(reduce) => left.push(&reduce.input),
            Node::Distinct(input) => left.push(input),
            Node::Union(inputs) => left.extend(inputs),
            Node::Join(join) => left.extend([&*join.left, &*join.right]),
            Node::TopK(top) => left.push(&top.input),
        }
    }
    found
}

/// The tables that a relation reads.
pub(crate) fn tables(relation: &Relation) -> BTreeSet<&'static str> {
    scans(relation).into_iter().map(|scan| scan.table).collect()
}

/// What of a table's stored rows a relation can still need.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Need {
    /// Columns of the stored schema.
    pub(crate) columns: BTreeSet<usize>,
    /// Rows received before this are not needed, in Unix milliseconds.
    pub(crate) received_from_ms: i64,
}

/// What of each table's stored rows a relation can need at a tick.
///
/// A row is in a window by its `received` or, where the window has a lateness, by its `timestamp`. In that case too it suffices to
/// bound `received`: what happened in the window was received after it happened, up to a client's clock that is ahead.
pub(crate) fn needs(relation: &Relation, tick: Time) -> BTreeMap<&'static str, Need> {
    let mut needs: BTreeMap<&'static str, Need> = BTreeMap::new();
    for scan in scans(relation) {
        let reach = |window: &Window| {
            let ahead = window.lateness_ms.map_or(0, |_| CLOCK_AHEAD_MS);
            tick.saturating_sub(window.lower_ms + window.pane_ms + ahead) as i64
        };
        let from = scan.window.as_ref().map_or(i64::MIN, reach);
        let need = needs.entry(scan.table).or_insert(Need { columns: BTreeSet::new(), received_from_ms: from });
        need.columns.extend(&scan.table_columns);
        need.received_from_ms = need.received_from_ms.min(from);
    }
    needs
}

/// A grid of times at which rows of a window come or go.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Grid {
    /// The table whose rows the window takes.
    pub(crate) table: &'static str,
    /// One of the times.
    offset_ms: u64,
    /// From one to the next.
    pane_ms: u64,
    /// How long after it came a row may still come or go.
    pub(crate) reach_ms: u64,
}

impl Grid {
    /// The first time of the grid after a moment.
    pub(crate) fn after(&self, moment: Time) -> Time {
        let phase = self.offset_ms % self.pane_ms;
        let into = (moment + self.pane_ms - phase) % self.pane_ms;
        moment + self.pane_ms - into
    }
}

/// When rows of a relation's windows come or go.
pub(crate) fn grids(relation: &Relation) -> BTreeSet<Grid> {
    let mut grids = BTreeSet::new();
    for scan in scans(relation) {
        let Some(window) = &scan.window else { continue };
        let pane_ms = window.pane_ms.max(1);
        let reach_ms = window.lower_ms + 2 * pane_ms + window.lateness_ms.map_or(0, |_| CLOCK_AHEAD_MS);
        grids.insert(Grid { table: scan.table, offset_ms: window.lower_ms, pane_ms, reach_ms });
        if window.upper_ms > 0 {
            grids.insert(Grid { table: scan.table, offset_ms: window.upper_ms, pane_ms, reach_ms });
        }
    }
    grids
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_grid_goes_through_its_offset() {
        for (offset_ms, pane_ms) in [(10_000, 166), (0, 1), (7, 20), (60_000, 1000), (20, 20)] {
            let grid = Grid { table: "errors", offset_ms, pane_ms, reach_ms: 0 };
            for moment in [1_000_000, 1_000_007, 1_795_330_000_123] {
                let next = grid.after(moment);
                let pane = |tick: u64| (tick - offset_ms) / pane_ms;
                assert!(next > moment && next - moment <= pane_ms, "{moment} to {next}");
                assert_eq!((next - offset_ms) % pane_ms, 0);
                assert_eq!(pane(next), pane(next - 1) + 1, "a row's pane ends there");
                assert_eq!(pane(next - 1), pane(moment), "and not before");
            }
        }
    }
}
