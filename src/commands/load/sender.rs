//! A connection: takes its turns, fills templates, sends, and counts what is answered.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::Request;
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use weir_protocol::encoding::Encoding;
use weir_protocol::ids::hex;

use super::corpus::Sample;
use super::encoder::Encoder;
use super::fresh::Source;
use super::pace::Pace;
use super::tally::{Ended, Sent, Tally};
use super::target::{Head, Target};

/// How long an answer may take.
const ANSWER_MAX: Duration = Duration::from_secs(60);
/// After a connection was refused, how long its turns wait.
const REST: Duration = Duration::from_millis(100);

/// What all connections share.
pub struct Load {
    /// What is sent.
    pub samples: Vec<Sample>,
    /// Where it is sent.
    pub targets: Vec<Target>,
    /// In which encodings; empty for those that were recorded.
    pub encodings: Vec<Encoding>,
    /// The heads of all requests, in the order of [`Load::shape`].
    pub heads: Vec<(Encoding, Head)>,
    /// Fresh ids.
    pub source: Source,
    /// When to send.
    pub pace: Arc<Pace>,
    /// What came of it.
    pub tally: Mutex<Tally>,
    /// Where accepted events are told, for whoever looks whether they can be queried.
    pub accepted: Option<mpsc::Sender<Accepted>>,
}

/// An event that was accepted.
#[derive(Debug, Clone)]
pub struct Accepted {
    /// Its id as SQL shows it.
    pub event_id: String,
    /// When the answer came.
    pub at: Instant,
}

/// Which sample is sent where and how.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Shape {
    sample: usize,
    target: usize,
    head: usize,
}

/// A body that is ready to be sent.
struct Ready {
    shape: Shape,
    body: Bytes,
    plain_bytes: usize,
    event_id: Option<String>,
}

impl Load {
    /// The heads of all requests that there are.
    pub fn heads(samples: &[Sample], targets: &[Target], encodings: &[Encoding]) -> anyhow::Result<Vec<(Encoding, Head)>> {
        let mut heads = Vec::new();
        for target in targets {
            for sample in samples {
                for encoding in if encodings.is_empty() { std::slice::from_ref(&sample.encoding) } else { encodings } {
                    heads.push((*encoding, target.head(sample, *encoding)?));
                }
            }
        }
        Ok(heads)
    }

    /// What the n-th send is: every sample in its turn, to every target, in every encoding.
    fn shape(&self, number: u64) -> Shape {
        let (samples, targets, encodings) = (self.samples.len(), self.targets.len(), self.encodings.len().max(1));
        let number = number as usize;
        let sample = number % samples;
        // Each round over the samples goes one target and one encoding further, so that all combinations come up.
        let round = number / samples;
        let (target, encoding) = ((round + sample) % targets, (round / targets + sample) % encodings);
        Shape { sample, target, head: (target * samples + sample) * encodings + encoding }
    }

    /// Locks the tally.
    pub fn tally(&self) -> std::sync::MutexGuard<'_, Tally> {
        self.tally.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Sends until there are no more turns.
pub async fn run(load: Arc<Load>) -> anyhow::Result<()> {
    let (mut encoder, mut connections) = (Encoder::new()?, Connections::default());
    let (mut plain, mut scratch) = (Vec::new(), Vec::new());
    while let Some(turn) = load.pace.turn().await {
        let shape = load.shape(turn.number);
        let (sample, target) = (&load.samples[shape.sample], &load.targets[shape.target]);
        let fresh = load.source.fresh(turn.number, &target.dsn, &target.key);
        plain.clear();
        sample.template.fill(&fresh, &mut plain, &mut scratch);
        let (encoding, head) = &load.heads[shape.head];
        let body = Bytes::from(encoder.encode(*encoding, &plain)?);
        let event_id = sample.template.event_id(&fresh).map(|id| hex(&id));
        let ready = Ready { shape, body, plain_bytes: plain.len(), event_id };
        let wire_bytes = ready.body.len();
        let ended = connections.send(&target.address, head.request(Full::new(ready.body))).await;
        let now = Instant::now();
        let is_refused = matches!(ended, Ended::Failed(_));
        if let (Some(accepted), Ended::Accepted, Some(event_id), 1) = (&load.accepted, &ended, ready.event_id, sample.rows.errors) {
            // A channel of one: who looks takes the next when it has done with the last.
            let _ = accepted.try_send(Accepted { event_id, at: now });
        }
        let sent = Sent { took: now - turn.due, plain_bytes: ready.plain_bytes, wire_bytes, rows: load.samples[ready.shape.sample].rows };
        load.tally().count(ended, sent);
        if is_refused {
            tokio::time::sleep(REST).await;
        }
    }
    Ok(())
}

/// Connections that are kept alive, one for each address.
#[derive(Default)]
struct Connections(BTreeMap<String, SendRequest<Full<Bytes>>>);

impl Connections {
    async fn send(&mut self, address: &str, request: Request<Full<Bytes>>) -> Ended {
        match tokio::time::timeout(ANSWER_MAX, self.exchange(address, request)).await {
            Ok(Ok(200)) => Ended::Accepted,
            Ok(Ok(status)) => Ended::Refused(status),
            Ok(Err(reason)) => self.failed(address, reason),
            Err(_) => self.failed(address, format!("no answer within {} s", ANSWER_MAX.as_secs())),
        }
    }

    fn failed(&mut self, address: &str, reason: String) -> Ended {
        self.0.remove(address);
        Ended::Failed(reason)
    }

    async fn exchange(&mut self, address: &str, request: Request<Full<Bytes>>) -> Result<u16, String> {
        let connection = self.connection(address).await?;
        let answer = connection.send_request(request).await.map_err(|e| root_cause(&e))?;
        let status = answer.status().as_u16();
        // The connection is free again when the body has been read.
        answer.into_body().collect().await.map_err(|e| root_cause(&e))?;
        Ok(status)
    }

    async fn connection(&mut self, address: &str) -> Result<&mut SendRequest<Full<Bytes>>, String> {
        let is_usable = match self.0.get_mut(address) {
            Some(connection) => connection.ready().await.is_ok(),
            None => false,
        };
        if !is_usable {
            let stream = TcpStream::connect(address).await.map_err(|e| format!("connecting to {address}: {}", e.kind()))?;
            stream.set_nodelay(true).map_err(|e| e.to_string())?;
            let (sender, connection) = handshake(TokioIo::new(stream)).await.map_err(|e| root_cause(&e))?;
            tokio::spawn(async move {
                // Its failure is seen where a request is sent over it.
                let _ = connection.await;
            });
            self.0.insert(address.to_owned(), sender);
        }
        self.0.get_mut(address).ok_or_else(|| format!("connecting to {address}"))
    }
}

fn root_cause(error: &dyn std::error::Error) -> String {
    let mut cause = error;
    while let Some(source) = cause.source() {
        cause = source;
    }
    cause.to_string()
}
