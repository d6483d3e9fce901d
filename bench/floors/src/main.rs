//! The floors: what the machine needs for an event at the very least, in microseconds of CPU.
//!
//! ```text
//! floors work CORPUS [ROUNDS]   decompression, parsing, batched compression, syncs of the disk; one JSON object
//! floors serve ADDR             accepts requests as the doors do and does nothing with them, until it is terminated
//! ```

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::hint::black_box;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use axum::Router;
use axum::body::Body;
use bytes::Bytes;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::{Service, service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use serde_json::json;
use tokio::net::TcpListener;

/// The recorded error events of which the figures speak.
const ONLY: [&str; 3] = ["py_event", "node_event", "rust_event"];
/// Events of one round.
const EVENTS: usize = 512;
/// Events that are compressed together.
const BATCH: usize = 64;
/// How long syncs are counted.
const SYNCING: Duration = Duration::from_secs(3);
/// Bytes that each sync makes durable: a batch of a few requests.
const SYNC_BYTES: usize = 16 << 10;

type Failure = Box<dyn std::error::Error>;

fn main() -> Result<(), Failure> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["work", corpus] => work(Path::new(corpus), 15),
        ["work", corpus, rounds] => work(Path::new(corpus), rounds.parse()?),
        ["serve", address] => serve(address),
        _ => Err("usage: floors work CORPUS [ROUNDS] | floors serve ADDR".into()),
    }
}

/// An event of the corpus with an id of its own.
struct Event {
    envelope: Vec<u8>,
    payload: Vec<u8>,
    gzip: Vec<u8>,
}

fn events(corpus: &Path) -> Result<Vec<Event>, Failure> {
    let mut files: Vec<PathBuf> = fs::read_dir(corpus)?.map(|entry| entry.map(|e| e.path())).collect::<Result<_, _>>()?;
    files.sort();
    let name = |file: &Path| file.file_name().unwrap_or_default().to_string_lossy().into_owned();
    files.retain(|file| name(file).ends_with(".envelope") && ONLY.iter().any(|begin| name(file).starts_with(begin)));
    let recorded: Vec<String> = files.iter().map(fs::read_to_string).collect::<Result<_, _>>()?;
    let mut events = Vec::new();
    for number in 0..EVENTS {
        let text = &recorded[number % recorded.len()];
        let header: serde_json::Value = serde_json::from_str(text.lines().next().unwrap_or_default())?;
        let id = header["event_id"].as_str().ok_or("an envelope without an id")?;
        let text = text.replace(id, &format!("{:032x}", (number as u128 + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15_f39c_c060_5ced_c835)));
        let payload = text.lines().nth(2).ok_or("an envelope without a payload")?.as_bytes().to_vec();
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::new(1));
        encoder.write_all(text.as_bytes())?;
        events.push(Event { envelope: text.into_bytes(), payload, gzip: encoder.finish()? });
    }
    Ok(events)
}

/// Nanoseconds of CPU that this thread has used, as Linux counts them.
fn cpu_ns() -> u64 {
    let text = fs::read_to_string("/proc/thread-self/schedstat").unwrap_or_default();
    text.split_whitespace().next().and_then(|ns| ns.parse().ok()).unwrap_or_default()
}

/// How often a round does its work: Linux counts CPU by the tick of its scheduler, so a round takes many of them.
const REPEATS: usize = 20;

/// Microseconds of CPU an event, round by round; sorted.
fn rounds(count: usize, events: &[Event], mut run: impl FnMut(&[Event])) -> Vec<f64> {
    run(events);
    let mut took: Vec<f64> = (0..count)
        .map(|_| {
            let begun = cpu_ns();
            (0..REPEATS).for_each(|_| run(events));
            (cpu_ns() - begun) as f64 / 1000.0 / (events.len() * REPEATS) as f64
        })
        .collect();
    took.sort_by(f64::total_cmp);
    took
}

fn summary(took: &[f64]) -> serde_json::Value {
    json!({ "median": took[took.len() / 2], "least": took[0], "most": took[took.len() - 1] })
}

fn work(corpus: &Path, count: usize) -> Result<(), Failure> {
    let events = events(corpus)?;
    let mut floors = BTreeMap::new();
    let mut measure = |name: &str, run: &mut dyn FnMut(&[Event])| {
        floors.insert(name.to_owned(), summary(&rounds(count, &events, run)));
    };
    measure("gunzip, zlib-rs", &mut |events| {
        for event in events {
            let mut out = Vec::with_capacity(event.gzip.len() * 4);
            flate2::bufread::MultiGzDecoder::new(&event.gzip[..]).read_to_end(&mut out).expect("it is gzip");
            black_box(out);
        }
    });
    let mut decompressor = libdeflater::Decompressor::new();
    measure("gunzip, libdeflate", &mut |events| {
        for event in events {
            let mut out = vec![0; event.envelope.len()];
            decompressor.gzip_decompress(&event.gzip, &mut out).expect("it is gzip");
            black_box(out);
        }
    });
    measure("parse, sonic-rs", &mut |events| events.iter().for_each(|e| drop(black_box(sonic_rs::from_slice::<sonic_rs::Value>(&e.payload)))));
    measure("parse, serde_json", &mut |events| events.iter().for_each(|e| drop(black_box(serde_json::from_slice::<serde_json::Value>(&e.payload)))));
    measure("zstd 1, batches", &mut |events| {
        for batch in events.chunks(BATCH) {
            let plain: Vec<u8> = batch.iter().flat_map(|event| event.payload.iter().copied()).collect();
            black_box(zstd::bulk::compress(&plain, 1).expect("memory is there"));
        }
    });
    let bytes: usize = events.iter().map(|event| event.envelope.len()).sum();
    let wire: usize = events.iter().map(|event| event.gzip.len()).sum();
    println!(
        "{}",
        json!({ "us_per_event": floors, "events": events.len(), "bytes_per_event": bytes / events.len(), "wire_bytes_per_event": wire / events.len(), "syncs": syncs()? })
    );
    Ok(())
}

/// How often a second the disk makes an append durable, and how long that takes.
fn syncs() -> Result<serde_json::Value, Failure> {
    let path = std::env::current_dir()?.join("floors-sync.tmp");
    let mut file = File::create(&path)?;
    let (begun, mut took) = (Instant::now(), Vec::new());
    while begun.elapsed() < SYNCING {
        let one = Instant::now();
        file.write_all(&[7; SYNC_BYTES])?;
        file.sync_data()?;
        took.push(one.elapsed().as_secs_f64() * 1000.0);
    }
    let elapsed = begun.elapsed().as_secs_f64();
    drop(file);
    fs::remove_file(&path)?;
    took.sort_by(f64::total_cmp);
    Ok(json!({ "per_second": took.len() as f64 / elapsed, "p50_ms": took[took.len() / 2], "p99_ms": took[took.len() * 99 / 100] }))
}

/// Reads each body and answers as the doors do.
fn serve(address: &str) -> Result<(), Failure> {
    let threads = std::thread::available_parallelism().map_or(2, |n| n.get()).clamp(2, 16);
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(threads).enable_all().build()?;
    runtime.block_on(async {
        let listener = TcpListener::bind(address).await?;
        let router = Router::new().fallback(|body: Bytes| async move {
            black_box(body);
            "{\"id\":\"9ec79c33ec9942ab8353589fcb2e04dc\"}"
        });
        let mut terminate = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate())?;
        loop {
            let (stream, _) = tokio::select! {
                accepted = listener.accept() => accepted?,
                _ = terminate.recv() => return Ok(()),
            };
            stream.set_nodelay(true)?;
            let router = TowerToHyperService::new(router.clone());
            let service = service_fn(move |request: hyper::Request<Incoming>| router.call(request.map(Body::new)));
            tokio::spawn(async move {
                let mut http = http1::Builder::new();
                http.timer(TokioTimer::new()).header_read_timeout(Duration::from_secs(30));
                // A client that goes away is no failure of the floor.
                let _ = http.serve_connection(TokioIo::new(stream), service).await;
            });
        }
    })
}
