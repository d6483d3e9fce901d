//! The loop of a worker: the graph, and the dataflows of templates that come and go beside it.
//!
//! The graph's ticks are fed to the templates as soon as they are complete here, and the templates' time follows the graph's in
//! the same turn, so that an answer waits for no later tick. A worker with nothing to do is parked.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::mem;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, TryRecvError};
use std::time::Duration;

use timely::worker::Worker;
use weir_operators::Time;
use weir_operators::relation::render::{self, RenderOptions, TemplateInputs};
use weir_operators::relation::template::{TableChanges, Template, TemplateAdvance};

use crate::progress::Progress;
use crate::subscriptions::command::{Command, Hydration, Mailbox, News, Notice, ParameterChanges, TemplateNumber};
use crate::subscriptions::feed::Feed;
use crate::subscriptions::scans;

/// A worker's templates and the ways in and out.
pub(crate) struct WorkerLoop {
    pub(crate) index: usize,
    pub(crate) feed: Rc<RefCell<Feed>>,
    pub(crate) mailbox: Arc<Mailbox>,
    pub(crate) notices: SyncSender<Notice>,
    pub(crate) progress: Arc<Progress>,
    pub(crate) templates: BTreeMap<TemplateNumber, Running>,
    pub(crate) said: Rc<RefCell<Vec<(TemplateNumber, TemplateAdvance)>>>,
    pub(crate) news: News,
    /// Commands have ended.
    pub(crate) ended: bool,
}

/// A template's dataflow on this worker.
pub(crate) struct Running {
    inputs: TemplateInputs,
    tables: BTreeSet<&'static str>,
    /// What its inputs' time is.
    time: Time,
    /// While it is filled with stored rows.
    filling: Option<Filling>,
}

/// A dataflow that is being filled, and what waits for that.
struct Filling {
    rows: Receiver<Hydration>,
    /// The tick of the rows, as soon as it is known.
    at: Option<Time>,
    parameters: Vec<(ParameterChanges, u64)>,
    ticks: Vec<(Time, Vec<TableChanges>)>,
    bytes: usize,
}

/// Past so many bytes that wait for a dataflow to be filled, the graph pauses.
const WAITING_BYTES_MAX: usize = 256 << 20;

impl WorkerLoop {
    pub(crate) fn new(index: usize, feed: Rc<RefCell<Feed>>, mailbox: Arc<Mailbox>, notices: SyncSender<Notice>, progress: Arc<Progress>) -> Self {
        mailbox.belongs_to(std::thread::current());
        Self { index, feed, mailbox, notices, progress, templates: BTreeMap::new(), said: Rc::default(), news: News::default(), ended: false }
    }

    /// Runs until the commands and all dataflows have ended.
    pub(crate) fn run(mut self, worker: &mut Worker) {
        let mut busy = true;
        while !self.ended || worker.has_dataflows() {
            worker.step_or_park(busy.then_some(Duration::ZERO));
            self.feed();
            busy = self.obey(worker);
            busy |= self.fill();
            self.report();
        }
    }

    /// Gives the templates the ticks that the graph completed in the last step.
    fn feed(&mut self) {
        let (ticks, frontier) = {
            let mut feed = self.feed.borrow_mut();
            if !mem::take(&mut feed.moved) {
                return;
            }
            (mem::take(&mut feed.ticks), feed.frontier)
        };
        for running in self.templates.values_mut() {
            running.feed(&ticks, &self.progress);
        }
        match frontier {
            Some(frontier) => {
                for running in self.templates.values_mut().filter(|running| running.filling.is_none()) {
                    running.advance_to(frontier);
                }
            }
            None => self.news.ended = true,
        }
    }

    /// Carries commands out; whether there were any.
    fn obey(&mut self, worker: &mut Worker) -> bool {
        let mut any = false;
        while let Some(command) = self.mailbox.take() {
            any = true;
            match command {
                Command::Build { template, plan, rows } => self.build(worker, template, &plan, rows),
                Command::Parameters { template, changes, ticket } => match self.templates.get_mut(&template) {
                    Some(running) => self.news.applied.extend(running.parameters(changes, ticket)),
                    None => self.news.applied.push((ticket, None)),
                },
                Command::Drop { template } => {
                    if let Some(running) = self.templates.remove(&template) {
                        running.close(&self.progress);
                    }
                    self.tables_changed();
                }
                Command::End => {
                    self.ended = true;
                    for (_, running) in mem::take(&mut self.templates) {
                        running.close(&self.progress);
                    }
                }
            }
        }
        any
    }

    fn build(&mut self, worker: &mut Worker, number: TemplateNumber, plan: &Arc<Template>, rows: Receiver<Hydration>) {
        let said = Rc::clone(&self.said);
        let emit = move |advance| said.borrow_mut().push((number, advance));
        let options = RenderOptions { workers: worker.peers(), ..RenderOptions::default() };
        let inputs = worker.dataflow(|scope| render::render(scope, Arc::clone(plan), options, emit));
        let filling = Filling { rows, at: None, parameters: Vec::new(), ticks: Vec::new(), bytes: 0 };
        self.templates.insert(number, Running { inputs, tables: scans::tables(&plan.relation), time: 0, filling: Some(filling) });
        self.tables_changed();
        let frontier = self.feed.borrow().frontier.unwrap_or(Time::MAX);
        self.news.built.push((number, frontier));
    }

    fn tables_changed(&mut self) {
        self.feed.borrow_mut().read = self.templates.values().flat_map(|running| running.tables.iter().copied()).collect();
    }

    /// Takes stored rows, a batch for each template that waits for some, so that ticks need not wait for them; whether there was any.
    fn fill(&mut self) -> bool {
        let frontier = self.feed.borrow().frontier;
        let mut any = false;
        for running in self.templates.values_mut() {
            any |= running.fill(frontier, &self.progress, &mut self.news);
        }
        any
    }

    /// Tells the coordinator what happened.
    fn report(&mut self) {
        self.news.advances.append(&mut self.said.borrow_mut());
        if !self.news.is_empty() {
            let news = Box::new(mem::take(&mut self.news));
            // A coordinator that is gone has failed, and its failure is reported where its thread is joined.
            let _ = self.notices.send(Notice::Worker { worker: self.index, news });
        }
    }
}

impl Running {
    fn feed(&mut self, ticks: &[(Time, Vec<TableChanges>)], progress: &Progress) {
        for (tick, changes) in ticks {
            let mine: Vec<TableChanges> = changes.iter().filter(|change| self.tables.contains(change.table)).cloned().collect();
            if mine.is_empty() {
                continue;
            }
            match &mut self.filling {
                Some(filling) => filling.keep(*tick, mine, progress),
                None => mine.into_iter().for_each(|change| self.inputs.table(*tick, change)),
            }
        }
    }

    fn parameters(&mut self, changes: ParameterChanges, ticket: u64) -> Option<(u64, Option<Time>)> {
        match &mut self.filling {
            Some(filling) => {
                filling.parameters.push((changes, ticket));
                None
            }
            None => {
                self.insert(&changes, self.time);
                Some((ticket, Some(self.time)))
            }
        }
    }

    fn insert(&mut self, changes: &ParameterChanges, time: Time) {
        for (parameters, insert) in changes {
            self.inputs.parameters(time, parameters, *insert);
        }
    }

    fn advance_to(&mut self, time: Time) {
        if time > self.time {
            self.time = time;
            self.inputs.advance_to(time);
        }
    }

    fn fill(&mut self, frontier: Option<Time>, progress: &Progress, news: &mut News) -> bool {
        let Some(filling) = &mut self.filling else { return false };
        let rows = match filling.rows.try_recv() {
            Ok(rows) => rows,
            // Whoever read the rows failed, and says so to the coordinator, which drops the template.
            Err(TryRecvError::Empty | TryRecvError::Disconnected) => return false,
        };
        match (rows, filling.at) {
            (Hydration::At(tick), _) => {
                filling.at = Some(tick);
                self.advance_to(tick);
            }
            (Hydration::Rows(rows), Some(tick)) => self.inputs.table(tick, rows),
            (Hydration::Complete, Some(tick)) => self.begin(tick, frontier, progress, news),
            (Hydration::Rows(_) | Hydration::Complete, None) => {}
        }
        true
    }

    /// All stored rows are there: what waited follows, and from now on the template goes along with the graph.
    fn begin(&mut self, at: Time, frontier: Option<Time>, progress: &Progress, news: &mut News) {
        let Some(filling) = self.filling.take() else { return };
        filling.resume(progress);
        for (changes, ticket) in filling.parameters {
            self.insert(&changes, at);
            news.applied.push((ticket, Some(at)));
        }
        // The ticks up to the snapshot's are in the snapshot.
        for (tick, changes) in filling.ticks.into_iter().filter(|(tick, _)| *tick > at) {
            changes.into_iter().for_each(|change| self.inputs.table(tick, change));
        }
        // The snapshot was published when all workers had completed its tick.
        self.advance_to(frontier.unwrap_or_default().max(at + 1));
    }

    fn close(self, progress: &Progress) {
        if let Some(filling) = &self.filling {
            filling.resume(progress);
        }
        self.inputs.close();
    }
}

impl Filling {
    fn keep(&mut self, tick: Time, changes: Vec<TableChanges>, progress: &Progress) {
        let was_above = self.bytes > WAITING_BYTES_MAX;
        self.bytes += changes.iter().map(|change| change.batch.get_array_memory_size()).sum::<usize>();
        if !was_above && self.bytes > WAITING_BYTES_MAX {
            progress.hold();
        }
        self.ticks.push((tick, changes));
    }

    fn resume(&self, progress: &Progress) {
        if self.bytes > WAITING_BYTES_MAX {
            progress.resume();
        }
    }
}
