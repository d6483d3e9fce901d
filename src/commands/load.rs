//! `weir load`: sends recorded envelopes with fresh ids and times, and says how that went.
//!
//! | module | noun |
//! |---|---|
//! | [`corpus`] | the recorded requests |
//! | [`template`], [`fresh`] | an envelope with gaps, and what they are filled with |
//! | [`target`], [`encoder`] | where a request goes, and how its body is compressed |
//! | [`pace`] | when it goes |
//! | [`sender`], [`tally`] | connections, and what they were answered |
//! | [`verify`] | what of it can be queried |
//! | [`report`] | the result |

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use anyhow::{Context, bail};
use hdrhistogram::Histogram;
use tokio::sync::mpsc;
use tokio::task::{JoinHandle, JoinSet};
use weir_protocol::encoding::Encoding;

use crate::cli::{LoadArgs, LoadFormat};

pub mod corpus;
pub mod encoder;
pub mod fresh;
pub mod pace;
pub mod report;
pub mod sender;
pub mod tally;
pub mod target;
pub mod template;
pub mod verify;

use corpus::Rows;
use fresh::{Source, Spread};
use pace::{Pace, Plan};
use report::Report;
use sender::Load;
use target::Target;
use template::Varied;
use verify::Tables;

/// How long what was accepted may take to be queryable before it counts as missing.
const VERIFY_MAX: Duration = Duration::from_secs(60);
/// Sends and probes a second. Above it they are no rates of this machine, the clock would only spin; below it the next moment may be
/// further away than clocks count.
const RATE_MAX: f64 = 1e6;
const RATE_MIN: f64 = 1e-3;
const PROBES_MAX: f64 = 1e3;

/// Sends, and prints the result.
///
/// # Errors
/// Where nothing was accepted, and with `--verify` where the tables do not have what was accepted.
pub async fn run(args: &LoadArgs) -> anyhow::Result<()> {
    let plan = plan(args)?;
    let targets = args.dsns.iter().map(|dsn| Target::parse(dsn)).collect::<anyhow::Result<Vec<_>>>()?;
    let mut tables = Vec::new();
    for _ in 0..usize::from(args.verify) + usize::from(args.probes.is_some()) {
        let token = args.token.as_deref().context("asking the tables needs a token: give --token TOKEN or WEIR_TOKEN; `weir token create NAME` makes one")?;
        tables.push(Tables::connect(&args.url, token, targets.iter().map(|target| target.project_id)).await?);
    }
    let mut verifier = if args.verify { tables.pop() } else { None };
    let before = match &mut verifier {
        Some(tables) => tables.rows().await?,
        None => Rows::default(),
    };
    let (accepted, events) = mpsc::channel(1);
    let load = Arc::new(load(args, targets, plan, (!tables.is_empty()).then_some(accepted))?);
    let probing = tables.pop().zip(args.probes).map(|(tables, rate)| tokio::spawn(tables.probe(events, rate)));

    let progress = tokio::spawn(show_progress(Arc::clone(&load)));
    let took = send(&load, args.connections).await?;
    progress.abort();
    // Until it has ended it may hold the load; that it was ended is no failure.
    let _ = progress.await;
    // Of the time of sending: what is asked of the tables afterwards makes no send late.
    let missed = load.pace.missed();

    let (load, visible_us) = finish(load, probing).await?;
    let tally = load.tally.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner);
    let verified = match &mut verifier {
        Some(tables) => Some(tables.verify(before, tally.rows, VERIFY_MAX).await?),
        None => None,
    };
    let report = Report { tally: &tally, took, connections: args.connections, rate: plan.rate, missed, visible_us, verified };
    match args.format {
        LoadFormat::Text => print!("{}", report.text()),
        LoadFormat::Json => println!("{}", report.json()),
    }
    if tally.accepted == 0 {
        bail!("nothing was accepted");
    }
    match verified {
        Some(verified) if !verified.agrees() => bail!("the tables do not have what was accepted: {verified}"),
        _ => Ok(()),
    }
}

fn plan(args: &LoadArgs) -> anyhow::Result<Plan> {
    if let Some(rate) = args.rate.filter(|rate| !(RATE_MIN..=RATE_MAX).contains(rate)) {
        bail!("--rate {rate}: give sends a second, from {RATE_MIN} to {RATE_MAX}");
    }
    if let Some(rate) = args.probes.filter(|rate| !(RATE_MIN..=PROBES_MAX).contains(rate)) {
        bail!("--probes {rate}: give events a second, from {RATE_MIN} to {PROBES_MAX}");
    }
    // Without an end of its own a run is short: whoever tries it out has not asked for more.
    let seconds = args.seconds.or(args.count.is_none().then_some(10.0));
    let time = seconds.map(Duration::try_from_secs_f64).transpose().with_context(|| format!("--seconds {}", seconds.unwrap_or_default()))?;
    Ok(Plan { rate: args.rate, time, count: args.count })
}

fn load(args: &LoadArgs, targets: Vec<Target>, plan: Plan, accepted: Option<mpsc::Sender<sender::Accepted>>) -> anyhow::Result<Load> {
    let varied = Varied { issues: args.issues > 0, users: args.users > 0, releases: args.releases > 0 };
    let only = regex::Regex::new(&args.only).with_context(|| format!("--only {:?}", args.only))?;
    let samples = corpus::read(&args.corpus, &only, varied, say_left_out)?;
    let encodings = encodings(args)?;
    let heads = Load::heads(&samples, &targets, &encodings)?;
    let events = samples.iter().filter(|sample| sample.rows.errors > 0).count().max(1) as u64;
    let spread = Spread { issues_per_event: args.issues.div_ceil(events), users: args.users, releases: args.releases };
    let mut random = [0; 8];
    getrandom::fill(&mut random).context("random bytes")?;
    Ok(Load {
        heads,
        samples,
        targets,
        encodings,
        source: Source::new(u64::from_le_bytes(random), spread),
        pace: Pace::start(plan),
        tally: Mutex::default(),
        accepted,
    })
}

/// The encodings that bodies are sent in; none where each keeps that of its recording.
fn encodings(args: &LoadArgs) -> anyhow::Result<Vec<Encoding>> {
    let named: Vec<Encoding> = args.encodings.iter().filter_map(|encoding| encoding.encoding()).collect();
    if !named.is_empty() && named.len() < args.encodings.len() {
        bail!("--encoding recorded leaves each body in the encoding of its recording and goes with no other: leave it out, or the others");
    }
    Ok(named)
}

#[allow(clippy::print_stderr, reason = "a word for whoever watches, and no part of the result")]
fn say_left_out(name: &str, reason: &str) {
    eprintln!("{name} is not sent: {reason}");
}

/// Sends over all connections; returns how long that took. An interrupt ends it early, with a report all the same.
async fn send(load: &Arc<Load>, connections: usize) -> anyhow::Result<Duration> {
    let mut sending = JoinSet::new();
    (0..connections).for_each(|_| drop(sending.spawn(sender::run(Arc::clone(load)))));
    let mut interrupted = false;
    loop {
        tokio::select! {
            ended = sending.join_next() => match ended {
                Some(ended) => ended.context("a connection panicked")??,
                None => return Ok(load.pace.started().elapsed()),
            },
            interrupt = tokio::signal::ctrl_c(), if !interrupted => {
                interrupt.context("waiting for an interrupt")?;
                interrupted = true;
                load.pace.stop();
            }
        }
    }
}

/// Ends the probe, whose channel ends with the last that holds the load.
async fn finish(load: Arc<Load>, probing: Option<JoinHandle<anyhow::Result<Histogram<u64>>>>) -> anyhow::Result<(Load, Option<Histogram<u64>>)> {
    let mut load = Arc::into_inner(load).context("a connection is still at work")?;
    load.accepted = None;
    let visible_us = match probing {
        Some(probing) => Some(probing.await.context("the probe panicked")??),
        None => None,
    };
    Ok((load, visible_us))
}

/// A line each second on standard error.
#[allow(clippy::print_stderr, reason = "progress is for whoever watches, and no part of the result")]
async fn show_progress(load: Arc<Load>) {
    let load = Arc::downgrade(&load);
    let mut every = tokio::time::interval(Duration::from_secs(1));
    every.tick().await;
    let mut before = 0;
    loop {
        every.tick().await;
        let Some(load) = load.upgrade() else { return };
        let (sent, accepted, refused, failed, recent) = {
            let mut tally = load.tally();
            (tally.sent(), tally.accepted, by_status(&tally.refused), tally.failed.values().sum::<u64>(), tally.take_recent())
        };
        let seconds = load.pace.started().elapsed().as_secs();
        let missed = load.pace.missed();
        let late = if missed > 0 { format!(", {missed} late") } else { String::new() };
        eprintln!("{seconds:>4} s  {:>6}/s  accepted {accepted}, refused {refused}, failed {failed}{late}  ms: {}", sent - before, report::quantiles(&recent));
        before = sent;
    }
}

fn by_status(refused: &BTreeMap<u16, u64>) -> String {
    if refused.is_empty() {
        return "0".to_owned();
    }
    refused.iter().map(|(status, count)| format!("{count} ({status})")).collect::<Vec<_>>().join(" ")
}
