//! Measures how bodies should be kept in the journal: as received, plain, or compressed again.
//!
//! `cargo run --release -p weir-journal --example body_encodings [FOLDER]` reads the files `*.envelope` of a folder, by default
//! `tests/corpus/envelopes`. For each way it prints, for one envelope: the time to make what is stored and to write
//! it, the bytes stored, and the time to read it and have the plain envelope again, all in one thread. The time that the doors
//! need to decompress a request is the same in every way and is left out; nothing is synced.
//!
//! A small corpus is repeated with fresh ids and numbers. The copies are otherwise equal, so batches look smaller here than
//! they would be: as if the same few errors came again and again.
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "it is a program for the terminal")]

use std::fs::{self, File};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::PathBuf;
use std::time::Instant;

use bytes::Bytes;
use flate2::write::GzEncoder;
use weir_protocol::encoding::Encoding;
use weir_protocol::limits::ENVELOPE_BYTES_MAX;
use zstd::bulk::{Compressor, Decompressor};

/// Envelopes that one compressed batch has.
const BATCH: usize = 64;
/// What one round writes at least, so that it is longer than the clock's step.
const ROUND_BYTES: usize = 32 << 20;
/// The best of so many rounds is taken: what disturbs only ever adds.
const ROUNDS: usize = 15;

fn main() -> io::Result<()> {
    let folder = std::env::args_os().nth(1).map_or_else(|| PathBuf::from("tests/corpus/envelopes"), PathBuf::from);
    let envelopes = read_corpus(&folder).unwrap_or_default();
    if envelopes.is_empty() {
        eprintln!("no file *.envelope in {}: give a folder that has some", folder.display());
        return Ok(());
    }
    let events: Vec<Bytes> = envelopes.iter().filter(|bytes| has_event(bytes)).cloned().collect();
    table("envelopes with an event", &events)?;
    table("all envelopes", &envelopes)
}

fn read_corpus(folder: &PathBuf) -> io::Result<Vec<Bytes>> {
    let mut paths = fs::read_dir(folder)?.map(|entry| entry.map(|entry| entry.path())).collect::<io::Result<Vec<_>>>()?;
    paths.retain(|path| path.extension().is_some_and(|extension| extension == "envelope"));
    paths.sort();
    let read = paths.iter().map(|path| fs::read(path).map(Bytes::from)).collect::<io::Result<Vec<_>>>()?;
    Ok(read.into_iter().filter(|bytes| !bytes.is_empty()).collect())
}

fn has_event(envelope: &[u8]) -> bool {
    envelope.split(|&byte| byte == b'\n').any(|line| line.starts_with(b"{") && line.len() < 1000 && contains(line, b"\"type\":\"event\""))
}

fn contains(line: &[u8], part: &[u8]) -> bool {
    line.windows(part.len()).any(|window| window == part)
}

/// How bodies are kept.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Way {
    ReceivedGzip,
    Plain,
    ZstdEach,
    ZstdBatch,
}

impl Way {
    fn name(self) -> &'static str {
        match self {
            Self::ReceivedGzip => "as received (gzip)",
            Self::Plain => "plain",
            Self::ZstdEach => "zstd 1, each",
            Self::ZstdBatch => "zstd 1, batches of 64",
        }
    }

    /// What is stored for the envelopes of one batch.
    fn encode(self, zstd: &mut Compressor<'_>, received: &[Bytes], plain: &[Bytes]) -> io::Result<Vec<Bytes>> {
        match self {
            Self::ReceivedGzip => Ok(received.to_vec()),
            Self::Plain => Ok(plain.to_vec()),
            Self::ZstdEach => plain.iter().map(|body| zstd.compress(body).map(Bytes::from)).collect(),
            Self::ZstdBatch => Ok(vec![zstd.compress(&plain.concat())?.into()]),
        }
    }

    /// The plain bytes of what was stored; `most` bounds them.
    fn decode(self, zstd: &mut Decompressor<'_>, stored: Bytes, most: usize) -> io::Result<Bytes> {
        match self {
            Self::ReceivedGzip => Encoding::Gzip.decode(&stored, ENVELOPE_BYTES_MAX).map_err(io::Error::other),
            Self::Plain => Ok(stored),
            Self::ZstdEach | Self::ZstdBatch => zstd.decompress(&stored, most).map(Bytes::from),
        }
    }
}

/// What a way costs, for one envelope.
struct Cost {
    append_us: f64,
    stored_bytes: f64,
    replay_us: f64,
}

fn table(title: &str, bodies: &[Bytes]) -> io::Result<()> {
    if bodies.is_empty() {
        return Ok(());
    }
    let bytes: usize = bodies.iter().map(Bytes::len).sum();
    let repeats = (ROUND_BYTES / bytes).max(1);
    let mut seed = 1;
    let plain: Vec<Bytes> = bodies.iter().cycle().take(bodies.len() * repeats).map(|body| freshened(body, &mut seed)).collect();
    let received = plain.iter().map(|body| gzip(body)).collect::<io::Result<Vec<_>>>()?;
    println!("{title}: {} files, {} bytes each on average", bodies.len(), bytes / bodies.len());
    println!("  {:<24}{:>12}{:>14}{:>12}{:>12}", "", "append µs", "stored bytes", "replay µs", "both µs");
    for way in [Way::ReceivedGzip, Way::Plain, Way::ZstdEach, Way::ZstdBatch] {
        let Cost { append_us, stored_bytes, replay_us } = measure(way, &received, &plain)?;
        println!("  {:<24}{append_us:>12.1}{stored_bytes:>14.0}{replay_us:>12.1}{:>12.1}", way.name(), append_us + replay_us);
    }
    println!();
    Ok(())
}

/// The same envelope with other ids and times: every run of ten hexadecimal digits or more is made anew.
fn freshened(body: &[u8], seed: &mut u64) -> Bytes {
    let mut out = body.to_vec();
    for run in out.chunk_by_mut(|a, b| is_hex(*a) && is_hex(*b)).filter(|run| run.len() >= 10) {
        let digits: &[u8] = if run.iter().all(u8::is_ascii_digit) { b"0123456789" } else { b"0123456789abcdef" };
        // The first digits of a time change least.
        for digit in run.iter_mut().skip(5) {
            *seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            *digit = digits[(*seed >> 33) as usize % digits.len()];
        }
    }
    out.into()
}

fn is_hex(byte: u8) -> bool {
    matches!(byte, b'0'..=b'9' | b'a'..=b'f')
}

fn gzip(body: &[u8]) -> io::Result<Bytes> {
    // Level 6 is what the SDKs' libraries take when they are not told otherwise.
    let mut encoder = GzEncoder::new(Vec::new(), flate2::Compression::new(6));
    encoder.write_all(body)?;
    Ok(encoder.finish()?.into())
}

fn measure(way: Way, received: &[Bytes], plain: &[Bytes]) -> io::Result<Cost> {
    let mut best = Cost { append_us: f64::MAX, stored_bytes: 0.0, replay_us: f64::MAX };
    let microseconds = |begun: Instant| begun.elapsed().as_secs_f64() * 1e6;
    let per_envelope = |total: f64| total / plain.len() as f64;
    let most = plain.chunks(BATCH).map(|batch| batch.iter().map(Bytes::len).sum()).max().unwrap_or(0);
    for _ in 0..ROUNDS {
        let mut file = tempfile::tempfile()?;
        let begun = Instant::now();
        let lengths = write(way, &mut file, received, plain)?;
        best.append_us = best.append_us.min(per_envelope(microseconds(begun)));
        best.stored_bytes = per_envelope(lengths.iter().sum::<usize>() as f64);
        file.seek(SeekFrom::Start(0))?;
        let begun = Instant::now();
        let bytes = replay(way, &mut file, &lengths, most)?;
        best.replay_us = best.replay_us.min(per_envelope(microseconds(begun)));
        assert_eq!(bytes, plain.iter().map(Bytes::len).sum::<usize>(), "what is read back is what was written");
    }
    Ok(best)
}

/// Writes as the journal does: checksums, and one write for a batch.
fn write(way: Way, file: &mut File, received: &[Bytes], plain: &[Bytes]) -> io::Result<Vec<usize>> {
    let mut lengths = Vec::new();
    let mut buffer = Vec::new();
    let mut zstd = Compressor::new(1)?;
    for (received, plain) in received.chunks(BATCH).zip(plain.chunks(BATCH)) {
        buffer.clear();
        for stored in way.encode(&mut zstd, received, plain)? {
            std::hint::black_box(crc32fast::hash(&stored));
            buffer.extend_from_slice(&stored);
            lengths.push(stored.len());
        }
        file.write_all(&buffer)?;
    }
    Ok(lengths)
}

/// Reads everything as a start does and returns how many plain bytes came out.
fn replay(way: Way, file: &mut File, lengths: &[usize], most: usize) -> io::Result<usize> {
    let mut total = 0;
    let mut zstd = Decompressor::new()?;
    for &length in lengths {
        let mut stored = vec![0; length];
        file.read_exact(&mut stored)?;
        std::hint::black_box(crc32fast::hash(&stored));
        let plain = way.decode(&mut zstd, stored.into(), most)?;
        total += std::hint::black_box(plain).len();
    }
    Ok(total)
}
