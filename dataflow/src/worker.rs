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
use weir_operators::relation::template::{TableChanges, Template, TemplateAdvance};
use weir_operators::relation::{self, RenderOptions, TemplateInputs};

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
    pub(crate) graph_ended: bool,
    /// Commands have ended.
    pub(crate) ended: bool,
}

/// A template's dataflow on this worker.
pub(crate) struct Running {
    inputs: TemplateInputs,
    tables: BTreeSet<&'static str>,
    /// The tick after the newest that it was given.
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
        Self {
            index,
            feed,
            mailbox,
            notices,
            progress,
            templates: BTreeMap::new(),
            said: Rc::default(),
            news: News::default(),
            graph_ended: false,
            ended: false,
        }
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
        let (ticks, ended) = self.feed.borrow_mut().take_complete();
        self.news.deleted |= self.feed.borrow_mut().take_deleted();
        self.news.ended = ended && !mem::replace(&mut self.graph_ended, ended);
        for (number, running) in &mut self.templates {
            let mut newest = None;
            for (tick, changes) in &ticks {
                if running.tick(*tick, changes, &self.progress) {
                    newest = Some(*tick);
                }
            }
            self.news.fed.extend(newest.map(|tick| (*number, tick)));
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
                    Some(running) => running.parameters(template, changes, ticket, &mut self.news),
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
        match worker.dataflow(|scope| relation::render(scope, Arc::clone(plan), RenderOptions::default(), emit)) {
            Ok(inputs) => {
                let filling = Filling { rows, at: None, parameters: Vec::new(), ticks: Vec::new(), bytes: 0 };
                self.templates.insert(number, Running { inputs, tables: scans::tables(&plan.relation), time: 0, filling: Some(filling) });
                self.tables_changed();
                self.news.built.push((number, self.feed.borrow().frontier()));
            }
            Err(error) => self.news.failed.push((number, error.to_string())),
        }
    }

    fn tables_changed(&mut self) {
        self.feed.borrow_mut().read = self.templates.values().flat_map(|running| running.tables.iter().copied()).collect();
    }

    /// Takes stored rows, a batch for each template that waits for some, so that ticks need not wait for them; whether there was any.
    fn fill(&mut self) -> bool {
        let mut any = false;
        for (number, running) in &mut self.templates {
            any |= running.fill(*number, &self.progress, &mut self.news);
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

impl Drop for WorkerLoop {
    /// However it ends, the coordinator hears of it.
    fn drop(&mut self) {
        let _ = self.notices.send(Notice::WorkerEnded);
    }
}

impl Running {
    /// The graph completed a tick; whether there was anything in it for this template.
    fn tick(&mut self, tick: Time, changes: &[TableChanges], progress: &Progress) -> bool {
        let mine: Vec<TableChanges> = changes.iter().filter(|change| self.tables.contains(change.table)).cloned().collect();
        let any = !mine.is_empty();
        match &mut self.filling {
            Some(filling) => filling.keep(tick, mine, progress),
            None => self.complete(tick, mine),
        }
        any
    }

    /// Gives it a tick. The tick is complete with it: answers wait for no later one.
    fn complete(&mut self, tick: Time, changes: Vec<TableChanges>) {
        changes.into_iter().for_each(|change| self.inputs.table(tick, change));
        self.time = tick + 1;
        self.inputs.advance_to(self.time);
    }

    fn parameters(&mut self, number: TemplateNumber, changes: ParameterChanges, ticket: u64, news: &mut News) {
        match &mut self.filling {
            Some(filling) => filling.parameters.push((changes, ticket)),
            None => self.insert(number, &changes, ticket, self.time, news),
        }
    }

    fn insert(&mut self, number: TemplateNumber, changes: &ParameterChanges, ticket: u64, time: Time, news: &mut News) {
        for (parameters, insert) in changes {
            if let Err(error) = self.inputs.parameters(time, parameters, *insert) {
                news.refused.push((parameters.subscription, number, error.to_string()));
            }
        }
        news.applied.push((ticket, Some(time)));
    }

    fn fill(&mut self, number: TemplateNumber, progress: &Progress, news: &mut News) -> bool {
        let Some(filling) = &mut self.filling else { return false };
        let rows = match filling.rows.try_recv() {
            Ok(rows) => rows,
            // Whoever read the rows failed, and says so to the coordinator, which drops the template.
            Err(TryRecvError::Empty | TryRecvError::Disconnected) => return false,
        };
        match (rows, filling.at) {
            (Hydration::At(tick), _) => filling.at = Some(tick),
            (Hydration::Rows(rows), Some(tick)) => {
                self.inputs.table(tick, rows);
                news.fed.push((number, tick));
            }
            (Hydration::Complete, Some(tick)) => {
                self.begin(number, tick, progress, news);
                news.begun.push(number);
            }
            (Hydration::Rows(_) | Hydration::Complete, None) => {}
        }
        true
    }

    /// All stored rows are there: what waited follows, and from now on the template goes along with the graph.
    fn begin(&mut self, number: TemplateNumber, at: Time, progress: &Progress, news: &mut News) {
        let Some(filling) = self.filling.take() else { return };
        filling.resume(progress);
        for (changes, ticket) in filling.parameters {
            self.insert(number, &changes, ticket, at, news);
        }
        self.complete(at, Vec::new());
        // The ticks up to the snapshot's are in the snapshot.
        for (tick, changes) in filling.ticks.into_iter().filter(|(tick, _)| *tick > at) {
            self.complete(tick, changes);
        }
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
