//! A count and a sum by key over a sliding minute, kept up to date tick by tick: in our engine, and in dbsp in two ways.
//!
//! `dbsp-bench ENGINE KEYS EVENTS_PER_TICK` prints a JSON object: CPU seconds of the whole process per million events once the window
//! is full, the greatest resident memory, and a checksum of the answers, which is the same for all engines. `bench/dbsp/run` runs all.
//!
//! | engine | is |
//! |---|---|
//! | `nothing` | what generating the events and keeping the answers costs |
//! | `weir` | `weir_operators::relation`: groups × panes of a second |
//! | `dbsp` | a window over the events as they are, then a linear aggregate |
//! | `dbsp-panes` | a linear aggregate by key and pane, a window over the panes, a linear aggregate of these: what `weir` does |

use std::collections::BTreeMap;
use std::error::Error;

mod dbsp_engine;
mod events;
mod weir_engine;

use events::{Events, LOWER_MS, PANE_MS, TICK_MS, Tick};

/// The same for both engines: the one that dbsp brings and recommends.
#[global_allocator]
static ALLOCATOR: dbsp::mimalloc::MiMalloc = dbsp::mimalloc::MiMalloc;

/// Ticks until the window is full.
const WARM_UP_TICKS: u64 = LOWER_MS / TICK_MS + 100;
/// Ticks that are measured.
const TICKS: u64 = 600;

/// What keeps the answers up to date.
pub trait Engine {
    /// Takes a tick's events and gives the answers that have changed: key, count, sum, and how often (1 comes, -1 goes).
    ///
    /// # Errors
    /// Those of the engine.
    fn tick(&mut self, tick: &Tick, changed: &mut dyn FnMut(i64, i64, i64, i64)) -> Result<(), Box<dyn Error>>;
}

/// The answers, as whoever reads the changes has them.
#[derive(Default)]
struct Answers {
    rows: BTreeMap<(i64, i64, i64), i64>,
    changes: u64,
}

impl Answers {
    fn change(&mut self, row: (i64, i64, i64), difference: i64) {
        self.changes += 1;
        let times = self.rows.entry(row).or_default();
        *times += difference;
        if *times == 0 {
            self.rows.remove(&row);
        }
    }

    fn checksum(&self) -> i64 {
        self.rows.iter().fold(self.rows.len() as i64, |sum, ((key, count, total), times)| {
            sum.wrapping_mul(31).wrapping_add(key.wrapping_mul(7) ^ count.wrapping_mul(13) ^ total ^ times)
        })
    }
}

/// Takes the events and forgets them.
struct Nothing;

impl Engine for Nothing {
    fn tick(&mut self, _: &Tick, _: &mut dyn FnMut(i64, i64, i64, i64)) -> Result<(), Box<dyn Error>> {
        Ok(())
    }
}

/// CPU nanoseconds of all threads of the process so far.
fn cpu_ns() -> Result<u64, Box<dyn Error>> {
    let mut sum = 0;
    for thread in std::fs::read_dir("/proc/self/task")? {
        let text = std::fs::read_to_string(thread?.path().join("schedstat"))?;
        sum += text.split_whitespace().next().ok_or("an empty schedstat")?.parse::<u64>()?;
    }
    Ok(sum)
}

fn resident_mb(name: &str) -> Result<f64, Box<dyn Error>> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find(|line| line.starts_with(name)).ok_or("no such line in status")?;
    Ok(line.split_whitespace().nth(1).ok_or("no number")?.parse::<f64>()? / 1000.0)
}

/// Runs an engine over all ticks, and prints what it took.
fn measure(name: &str, keys: i64, per_tick: usize, mut engine: impl Engine) -> Result<(), Box<dyn Error>> {
    let (mut events, mut answers) = (Events::new(keys, per_tick), Answers::default());
    let (mut before, mut changes_before) = (0, 0);
    for round in 0..WARM_UP_TICKS + TICKS {
        if round == WARM_UP_TICKS {
            (before, changes_before) = (cpu_ns()?, answers.changes);
        }
        engine.tick(events.next_tick(), &mut |key, count, sum, difference| answers.change((key, count, sum), difference))?;
    }
    let took = cpu_ns()? - before;
    let million_events = (TICKS * per_tick as u64) as f64 / 1e6;
    println!(
        "{{\"engine\": \"{name}\", \"keys\": {keys}, \"events_per_tick\": {per_tick}, \"cpu_s_per_million\": {:.3}, \"changes_per_tick\": {:.0}, \"peak_mb\": {:.1}, \"resident_mb\": {:.1}, \"checksum\": {}}}",
        took as f64 / 1e9 / million_events,
        (answers.changes - changes_before) as f64 / TICKS as f64,
        resident_mb("VmHWM")?,
        resident_mb("VmRSS")?,
        answers.checksum(),
    );
    Ok(())
}

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [name, keys, per_tick] = arguments.as_slice() else {
        return Err("usage: dbsp-bench nothing|weir|dbsp|dbsp-panes KEYS EVENTS_PER_TICK".into());
    };
    let (keys, per_tick) = (keys.parse()?, per_tick.parse()?);
    match name.as_str() {
        "nothing" => measure(name, keys, per_tick, Nothing),
        "weir" => weir_engine::run(move |engine| measure("weir", keys, per_tick, engine)),
        "dbsp" => measure(name, keys, per_tick, dbsp_engine::Dbsp::of_events()?),
        "dbsp-panes" => measure(name, keys, per_tick, dbsp_engine::Dbsp::of_panes()?),
        other => Err(format!("no engine {other:?}: nothing, weir, dbsp or dbsp-panes").into()),
    }
}

/// The first pane that is in the window at a tick, as both engines have it.
fn first_pane(tick_ms: u64) -> i64 {
    ((tick_ms - LOWER_MS) / PANE_MS) as i64
}
