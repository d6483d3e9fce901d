//! What a worker's templates read: the changes of tables that the ticks of this worker make.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use arrow::array::RecordBatch;
use arrow::compute::concat_batches;
use weir_operators::Time;
use weir_operators::output::{Advance, Output};
use weir_operators::relation::template::TableChanges;
use weir_operators::rows::{IssueRow, ProjectRow, TableRow};

/// Ticks between graph and templates.
#[derive(Debug, Default)]
pub(crate) struct Feed {
    /// The tables that templates of this worker read; nothing is kept of others.
    pub(crate) read: BTreeSet<&'static str>,
    /// The projects as they stand: what the next change of each retracts. Few and small, so that all are kept.
    projects: BTreeMap<i64, ProjectRow>,
    /// Ticks that were released to this worker and are not complete on it.
    released: VecDeque<Time>,
    /// Changes by tick.
    ticks: BTreeMap<Time, Vec<TableChanges>>,
    /// All ticks before this are complete on this worker; `None` when the graph has ended.
    frontier: Option<Time>,
    /// Whether a deletion was taken up since the worker last looked.
    deleted: bool,
}

impl Feed {
    /// Begins with the projects of the last commit.
    pub(crate) fn new(projects: impl IntoIterator<Item = ProjectRow>) -> Self {
        let projects = projects.into_iter().map(|row| (row.common.project_id, row)).collect();
        Self { projects, frontier: Some(0), ..Self::default() }
    }

    /// A tick was released to this worker. Every worker is given every tick.
    pub(crate) fn release(&mut self, tick: Time) {
        self.released.push_back(tick);
    }

    /// All ticks before this are complete on this worker.
    pub(crate) fn frontier(&self) -> Time {
        self.frontier.unwrap_or(Time::MAX)
    }

    /// Takes up what the graph made. What no template reads costs nothing.
    pub(crate) fn take(&mut self, advance: &Advance) {
        for (tick, output) in &advance.outputs {
            self.deleted |= !output.deletions.is_empty();
            let changes = self.changes(output);
            if !changes.is_empty() {
                self.ticks.insert(*tick, changes);
            }
        }
        self.frontier = advance.frontier;
    }

    /// The ticks that are complete, in their order, each with its changes, and whether the graph has ended.
    pub(crate) fn take_complete(&mut self) -> (Vec<(Time, Vec<TableChanges>)>, bool) {
        let mut complete = Vec::new();
        while let Some(tick) = self.released.pop_front_if(|tick| self.frontier.is_none_or(|frontier| *tick < frontier)) {
            complete.push((tick, self.ticks.remove(&tick).unwrap_or_default()));
        }
        (complete, self.frontier.is_none())
    }

    /// Whether a deletion was taken up since this was asked last.
    pub(crate) fn take_deleted(&mut self) -> bool {
        std::mem::take(&mut self.deleted)
    }

    fn changes(&mut self, output: &Output) -> Vec<TableChanges> {
        let mut changes: Vec<TableChanges> = Vec::new();
        for (table, batch) in &output.batches {
            if self.read.contains(table) {
                changes.push(TableChanges { table, batch: batch.clone(), differences: None });
            }
        }
        if self.read.contains(IssueRow::TABLE) {
            let now: Vec<IssueRow> = output.issues.iter().map(|state| state.row.clone()).collect();
            changes.extend(replaced(&output.replaced_issues, &now));
        }
        let mut before = Vec::new();
        for row in &output.projects {
            before.extend(self.projects.insert(row.common.project_id, row.clone()));
        }
        if self.read.contains(ProjectRow::TABLE) {
            changes.extend(replaced(&before, &output.projects));
        }
        changes
    }
}

/// Rows that go and rows that come in their place.
fn replaced<R: TableRow>(before: &[R], now: &[R]) -> Option<TableChanges> {
    if before.is_empty() && now.is_empty() {
        return None;
    }
    let (gone, come) = (R::batch(before), R::batch(now));
    let differences = std::iter::repeat_n(-1, gone.num_rows()).chain(std::iter::repeat_n(1, come.num_rows())).collect();
    let batch: RecordBatch = concat_batches(&come.schema(), [&gone, &come]).expect("batches of one table have one schema");
    Some(TableChanges { table: R::TABLE, batch, differences: Some(differences) })
}
