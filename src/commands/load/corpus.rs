//! Recorded requests: a folder of `NAME.envelope` with `NAME.meta.json` beside each, which has the path and the headers.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Context, bail};
use bytes::Bytes;
use serde::Deserialize;
use weir_protocol::encoding::Encoding;
use weir_protocol::envelope::{Envelope, ItemType};
use weir_protocol::json::Json;

use super::template::{Template, Varied};

/// A recorded request, to be sent again and again.
#[derive(Debug, Clone)]
pub struct Sample {
    /// The name of its file.
    pub name: String,
    /// The envelope.
    pub template: Template,
    /// How it was authenticated.
    pub auth: Auth,
    /// How it was compressed.
    pub encoding: Encoding,
    /// The headers that say something of the SDK, as they were sent.
    pub headers: Vec<(String, String)>,
    /// What it adds to the tables.
    pub rows: Rows,
    /// Bytes of the envelope as it was recorded.
    pub bytes: usize,
}

/// Where the key stands in the request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Auth {
    /// In this `X-Sentry-Auth`.
    Header(String),
    /// In this query string.
    Query(String),
    /// In the envelope's own header.
    Envelope,
}

/// Rows of the tables in which every item is at least one row, so that they can be counted.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Rows {
    /// Rows of `errors`.
    pub errors: u64,
    /// Rows of `payloads` that are transactions.
    pub transactions: u64,
    /// Rows of `logs`.
    pub logs: u64,
}

impl std::ops::AddAssign for Rows {
    fn add_assign(&mut self, other: Self) {
        self.errors += other.errors;
        self.transactions += other.transactions;
        self.logs += other.logs;
    }
}

#[derive(Deserialize)]
struct Meta {
    path: String,
    #[serde(default)]
    headers: BTreeMap<String, String>,
}

/// Headers that belong to the connection or to the encoding, not to the SDK.
const NOT_SENT: [&str; 8] = ["host", "connection", "content-length", "transfer-encoding", "accept-encoding", "content-encoding", "x-sentry-auth", "expect"];

/// Reads the samples whose name matches. A file that is no envelope is left out, with a word on what was wrong with it.
pub fn read(folder: &Path, only: &regex::Regex, varied: Varied, mut left_out: impl FnMut(&str, &str)) -> anyhow::Result<Vec<Sample>> {
    let entries = std::fs::read_dir(folder).with_context(|| format!("the corpus {} cannot be read", folder.display()))?;
    let mut files = Vec::new();
    for entry in entries {
        let path = entry.with_context(|| format!("the corpus {} cannot be read", folder.display()))?.path();
        if path.extension().is_some_and(|extension| extension == "envelope") {
            files.push(path);
        }
    }
    // The folder's own order differs from machine to machine.
    files.sort();
    let mut samples = Vec::new();
    for file in files {
        let name = file.file_stem().map(|stem| stem.to_string_lossy().into_owned()).unwrap_or_default();
        if !only.is_match(&name) {
            continue;
        }
        let body = std::fs::read(&file).with_context(|| format!("{} cannot be read", file.display()))?;
        let meta = meta(&file.with_extension("meta.json"))?;
        if body.is_empty() || meta.as_ref().is_some_and(|meta| !meta.path.contains("/envelope/")) {
            continue;
        }
        match sample(name.clone(), &body.into(), meta.as_ref(), varied) {
            Ok(sample) => samples.push(sample),
            Err(reason) => left_out(&name, &reason),
        }
    }
    if samples.is_empty() {
        bail!("there is no envelope to send in {}: it needs files NAME.envelope, with NAME.meta.json beside them", folder.display());
    }
    Ok(samples)
}

fn meta(file: &Path) -> anyhow::Result<Option<Meta>> {
    match std::fs::read(file) {
        Ok(text) => Ok(Some(serde_json::from_slice(&text).with_context(|| format!("{} cannot be read", file.display()))?)),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error).with_context(|| format!("{} cannot be read", file.display())),
    }
}

fn sample(name: String, body: &Bytes, meta: Option<&Meta>, varied: Varied) -> Result<Sample, String> {
    let envelope = Envelope::parse(body).map_err(|e| e.to_string())?;
    let header = |wanted: &str| meta.and_then(|meta| meta.headers.iter().find(|(name, _)| name.eq_ignore_ascii_case(wanted)).map(|(_, value)| value.clone()));
    let encoding = header("content-encoding").unwrap_or_default();
    Ok(Sample {
        template: Template::new(&envelope, varied)?,
        auth: auth(meta, header("x-sentry-auth"), &envelope),
        encoding: Encoding::from_header(&encoding).ok_or_else(|| format!("its encoding {encoding:?} is not known"))?,
        headers: meta.map(|meta| kept_headers(&meta.headers)).unwrap_or_default(),
        rows: rows(&envelope),
        bytes: body.len(),
        name,
    })
}

/// An envelope without a recorded request is sent as most SDKs do.
fn auth(meta: Option<&Meta>, header: Option<String>, envelope: &Envelope) -> Auth {
    let query = meta.and_then(|meta| meta.path.split_once('?')).map(|(_, query)| query).filter(|query| query.contains("sentry_key="));
    match (header, query) {
        (Some(header), _) => Auth::Header(header),
        (None, Some(query)) => Auth::Query(query.to_owned()),
        (None, None) if envelope.header.dsn.is_some() => Auth::Envelope,
        (None, None) => Auth::Header(format!("Sentry sentry_version=7, sentry_client=weir-load/{}, sentry_key=", env!("CARGO_PKG_VERSION"))),
    }
}

fn kept_headers(headers: &BTreeMap<String, String>) -> Vec<(String, String)> {
    let is_kept = |name: &str| !NOT_SENT.iter().any(|other| name.eq_ignore_ascii_case(other));
    headers.iter().filter(|(name, _)| is_kept(name)).map(|(name, value)| (name.clone(), value.clone())).collect()
}

fn rows(envelope: &Envelope) -> Rows {
    let mut rows = Rows::default();
    for item in &envelope.items {
        match item.header.item_type {
            ItemType::Event => rows.errors += 1,
            ItemType::Transaction => rows.transactions += 1,
            ItemType::Log => rows.logs += Json::parse(&item.payload).ok().and_then(|json| Some(json.get("items")?.as_array()?.len() as u64)).unwrap_or(1),
            _ => {}
        }
    }
    rows
}
