//! A log and keys in memory, and requests that are easy to write.

use std::io::Write;
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::body::Body;
use axum::http::{HeaderMap, Request};
use bytes::Bytes;
use futures::StreamExt;
use tower::ServiceExt;

use weir_protocol::PublicKey;
use weir_protocol::category;
use weir_protocol::envelope::Envelope;
use weir_protocol::record::{Content, Intake, Position, Project, Record};

use crate::{Doors, Health, Key, KeySource, KeySourceError, Log, NotKept, Options, router};

/// A key of project 1 that takes events from anywhere.
pub(super) const KEY: &str = "0123456789abcdef0123456789abcdef";
/// A key of project 2 that takes events from `http://valid.com` only.
pub(super) const STRICT: &str = "22222222222222222222222222222222";
/// A key of project 3 that takes events from no origin.
pub(super) const CLOSED: &str = "33333333333333333333333333333333";
/// A disabled key of project 1.
pub(super) const DISABLED: &str = "44444444444444444444444444444444";
/// A key that cannot be looked up.
pub(super) const BROKEN: &str = "55555555555555555555555555555555";

/// What the log was given, in a form that reads.
#[derive(Default)]
pub(super) struct Memory {
    records: Mutex<Vec<Record>>,
    failure: Option<NotKept>,
}

struct MemoryLog(Arc<Memory>);

impl Log for MemoryLog {
    async fn append(&self, record: Record) -> Result<Position, NotKept> {
        if let Some(failure) = &self.0.failure {
            return Err(failure.clone());
        }
        let mut records = self.0.records.lock().unwrap();
        records.push(record);
        Ok(Position { partition: 0, offset: records.len() as u64 - 1 })
    }
}

struct Keys;

impl KeySource for Keys {
    async fn key(&self, public_key: PublicKey) -> Result<Option<Key>, KeySourceError> {
        let key = |key_id, enabled, project_id, domains: &[&str]| {
            let project = Project { org_id: 1, project_id, slug: format!("p{project_id}"), retention_days: 90 };
            Ok(Some(Key { key_id, enabled, project, allowed_domains: domains.iter().map(|d| (*d).to_owned()).collect() }))
        };
        match public_key.to_string().as_str() {
            KEY => key(1, true, 1, &["*"]),
            STRICT => key(2, true, 2, &["http://valid.com"]),
            CLOSED => key(3, true, 3, &[]),
            DISABLED => key(4, false, 1, &["*"]),
            BROKEN => Err(KeySourceError("the database is locked".to_owned())),
            _ => Ok(None),
        }
    }
}

/// The doors with a log in memory.
pub(super) struct World {
    pub(super) router: Router,
    memory: Arc<Memory>,
}

/// What came back.
pub(super) struct Answer {
    pub(super) status: u16,
    pub(super) headers: HeaderMap,
    pub(super) body: Bytes,
}

impl Answer {
    pub(super) fn text(&self) -> &str {
        std::str::from_utf8(&self.body).unwrap()
    }

    pub(super) fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap())
    }
}

impl World {
    pub(super) fn new(options: Options) -> Self {
        Self::failing(options, None)
    }

    pub(super) fn failing(options: Options, failure: Option<NotKept>) -> Self {
        let memory = Arc::new(Memory { failure, ..Memory::default() });
        let health = Health { report: Arc::new(|| (false, serde_json::json!({"journal": "full"}))), metrics: Arc::new(|| "some_metric 1\n".to_owned()) };
        let doors = Doors { options, ..Doors::new(MemoryLog(Arc::clone(&memory)), Keys, health) };
        Self { router: router(doors), memory }
    }

    pub(super) async fn send(&self, request: Request<Body>) -> Answer {
        let response = self.router.clone().oneshot(request).await.unwrap();
        let (parts, body) = response.into_parts();
        let mut chunks = body.into_data_stream();
        let mut body = Vec::new();
        while let Some(chunk) = chunks.next().await {
            body.extend_from_slice(&chunk.unwrap());
        }
        // Records of refused requests are appended beside the answer.
        for _ in 0..8 {
            tokio::task::yield_now().await;
        }
        Answer { status: parts.status.as_u16(), headers: parts.headers, body: body.into() }
    }

    pub(super) fn intakes(&self) -> Vec<Intake> {
        let records = self.memory.records.lock().unwrap();
        records
            .iter()
            .map(|record| match Record::decode(&record.encode()).unwrap().content {
                Content::Intake(intake) => *intake,
                _ => panic!("the doors append nothing but intakes"),
            })
            .collect()
    }

    /// Everything in the log: `type=payload` of each item kept, then `-reason/category=quantity` of each outcome.
    pub(super) fn kept(&self) -> String {
        self.intakes().iter().map(kept).collect::<Vec<_>>().join(" | ")
    }
}

fn kept(intake: &Intake) -> String {
    let envelope = intake.body.as_ref().map(|body| Envelope::parse(&body.plain().unwrap()).unwrap());
    let items = envelope.iter().flat_map(|e| &e.items).map(|item| {
        let payload = String::from_utf8_lossy(&item.payload);
        format!("{}={}", item.header.item_type.name(), payload.get(..40).unwrap_or(&payload))
    });
    let outcomes = intake.outcomes.iter().map(|o| format!("-{}/{}={}", o.reason.as_deref().unwrap_or_default(), category::name_of(o.category), o.quantity));
    items.chain(outcomes).collect::<Vec<_>>().join(" ")
}

/// A request with headers as `name: value` lines.
pub(super) fn request(method: &str, path: &str, headers: &[&str], body: impl Into<Bytes>) -> Request<Body> {
    let builder = headers.iter().map(|line| line.split_once(':').unwrap()).fold(Request::builder(), |b, (name, value)| b.header(name.trim(), value.trim()));
    builder.method(method).uri(path).body(Body::from(body.into())).unwrap()
}

/// The usual header.
pub(super) fn auth() -> String {
    auth_of(KEY)
}

pub(super) fn auth_of(key: &str) -> String {
    format!("X-Sentry-Auth: Sentry sentry_key={key}, sentry_version=7, sentry_client=test/1.0")
}

/// A body in an encoding.
pub(super) fn encoded(encoding: &str, plain: &[u8]) -> Vec<u8> {
    match encoding {
        "gzip" => {
            let mut writer = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
            writer.write_all(plain).unwrap();
            writer.finish().unwrap()
        }
        "deflate" => {
            let mut writer = flate2::write::ZlibEncoder::new(Vec::new(), flate2::Compression::default());
            writer.write_all(plain).unwrap();
            writer.finish().unwrap()
        }
        "br" => {
            let mut out = Vec::new();
            brotli::CompressorWriter::new(&mut out, 4096, 5, 22).write_all(plain).unwrap();
            out
        }
        "zstd" => zstd::stream::encode_all(plain, 1).unwrap(),
        _ => plain.to_vec(),
    }
}
