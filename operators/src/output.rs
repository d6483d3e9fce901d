//! The end of the graph: the rows of a tick as batches, handed over when the tick is complete.

use std::collections::BTreeMap;

use arrow::array::RecordBatch;
use timely::container::CapacityContainerBuilder;
use timely::dataflow::StreamVec;
use timely::dataflow::channels::pact::Pipeline;
use timely::dataflow::operators::generic::operator::Operator;
use weir_protocol::ProjectId;
use weir_protocol::deletion::Deletion;

use crate::Time;
use crate::fact::{Fact, Rows};
use crate::issues::{IssueState, NewHash, RemovedIssue};
use crate::rows::{ErrorRow, IssueRow, ItemRow, LogRow, OutcomeRow, PayloadRow, ProjectRow, SpanRow, TableRow};

/// Which worker has a project's state: the route modulo the number of workers, as timely's exchange computes it.
pub fn route(project_id: ProjectId) -> u64 {
    project_id
}

/// What the last stage with memory makes.
#[derive(Debug, Clone)]
pub enum Made {
    /// Rows and outcomes of an item.
    Fact(Box<Fact>),
    /// An issue as it stands now.
    Issue(Box<IssueState>),
    /// The row of an issue that changed, as it was before.
    ReplacedIssue(Box<IssueRow>),
    /// A hash that leads to an issue from now on.
    Hash(NewHash),
    /// An issue that is gone.
    RemovedIssue(RemovedIssue),
    /// A hash that leads nowhere any more.
    RemovedHash(ProjectId, [u8; 16]),
    /// A deletion that is to be carried out, with its place in the journal.
    Deletion(i64, Box<Deletion>),
    /// A deletion that was carried out, by its place in the journal.
    Erased(i64),
}

/// What a worker made of one tick.
#[derive(Debug, Default)]
pub struct Output {
    /// New rows by table.
    pub batches: Vec<(&'static str, RecordBatch)>,
    /// Issues as they stand after the tick.
    pub issues: Vec<IssueState>,
    /// Issues that changed or are gone, as they were before the tick, where there were any.
    pub replaced_issues: Vec<IssueRow>,
    /// New grouping hashes.
    pub hashes: Vec<NewHash>,
    /// Issues that are gone.
    pub removed_issues: Vec<RemovedIssue>,
    /// Grouping hashes that lead nowhere any more.
    pub removed_hashes: Vec<(ProjectId, [u8; 16])>,
    /// Deletions that are to be carried out, by their place in the journal.
    pub deletions: Vec<(i64, Deletion)>,
    /// Deletions that were carried out.
    pub erased: Vec<i64>,
    /// Projects as they stand after the tick.
    pub projects: Vec<ProjectRow>,
    /// When the oldest of its records was received, in Unix milliseconds.
    pub oldest_received_ms: Option<u64>,
}

/// A worker's progress.
#[derive(Debug)]
pub struct Advance {
    /// All ticks before this are complete on this worker; `None` when the graph has ended.
    pub frontier: Option<Time>,
    /// What it made of them; a tick without rows is absent.
    pub outputs: Vec<(Time, Output)>,
}

/// The rows of one tick, by table.
#[derive(Default)]
struct Gathered {
    errors: Vec<ErrorRow>,
    spans: Vec<SpanRow>,
    logs: Vec<LogRow>,
    outcomes: Vec<OutcomeRow>,
    payloads: Vec<PayloadRow>,
    items: Vec<ItemRow>,
    output: Output,
}

impl Gathered {
    fn add(&mut self, made: Made) {
        match made {
            Made::Fact(fact) => self.add_fact(*fact),
            Made::Issue(state) => self.output.issues.push(*state),
            Made::ReplacedIssue(row) => self.output.replaced_issues.push(*row),
            Made::Hash(hash) => self.output.hashes.push(hash),
            Made::RemovedIssue(removed) => self.output.removed_issues.push(removed),
            Made::RemovedHash(project_id, hash) => self.output.removed_hashes.push((project_id, hash)),
            Made::Deletion(seq, deletion) => self.output.deletions.push((seq, *deletion)),
            Made::Erased(seq) => self.output.erased.push(seq),
        }
    }

    fn add_fact(&mut self, fact: Fact) {
        let oldest = &mut self.output.oldest_received_ms;
        *oldest = Some(oldest.map_or(fact.received_ms, |ms| ms.min(fact.received_ms)));
        self.outcomes.extend(fact.outcomes);
        match fact.rows {
            Rows::None | Rows::Deletion(_) | Rows::Erased(_) => {}
            Rows::Error { row, payload, .. } => {
                self.errors.push(*row);
                self.payloads.push(*payload);
            }
            Rows::Transaction { spans, payload } => {
                self.spans.extend(spans);
                self.payloads.push(*payload);
            }
            Rows::Spans { spans, item } => {
                self.spans.extend(spans);
                self.items.push(*item);
            }
            Rows::Logs { logs, item } => {
                self.logs.extend(logs);
                self.items.push(*item);
            }
            Rows::Report(item) => self.items.push(*item),
            Rows::Project(row) => self.output.projects.push(*row),
        }
    }

    fn finish(self) -> Output {
        fn batch<R: TableRow>(rows: &[R], batches: &mut Vec<(&'static str, RecordBatch)>) {
            if !rows.is_empty() {
                batches.push((R::TABLE, R::batch(rows)));
            }
        }

        let mut output = self.output;
        batch(&self.errors, &mut output.batches);
        batch(&self.spans, &mut output.batches);
        batch(&self.logs, &mut output.batches);
        batch(&self.outcomes, &mut output.batches);
        batch(&self.payloads, &mut output.batches);
        batch(&self.items, &mut output.batches);
        output
    }
}

/// The last stage.
pub trait Gather {
    /// Calls `advance` whenever ticks are complete on this worker, and once more when the graph has ended.
    fn gather(self, advance: impl FnMut(Advance) + 'static);
}

impl Gather for StreamVec<'_, Time, Made> {
    fn gather(self, mut advance: impl FnMut(Advance) + 'static) {
        self.unary_frontier::<CapacityContainerBuilder<Vec<()>>, _, _, _>(Pipeline, "Rows", move |_capability, _info| {
            let mut open: BTreeMap<Time, Gathered> = BTreeMap::new();
            let mut reported = Some(0);
            move |(input, frontier), _output| {
                input.for_each(|capability, made| {
                    let Some(time) = capability.least() else { return };
                    let gathered = open.entry(*time).or_default();
                    made.drain(..).for_each(|made| gathered.add(made));
                });
                let now = frontier.frontier().first().copied();
                if now == reported {
                    return;
                }
                reported = now;
                let mut outputs = Vec::new();
                while let Some(entry) = open.first_entry() {
                    if now.is_some_and(|frontier| *entry.key() >= frontier) {
                        break;
                    }
                    let (time, gathered) = entry.remove_entry();
                    outputs.push((time, gathered.finish()));
                }
                advance(Advance { frontier: now, outputs });
            }
        });
    }
}
