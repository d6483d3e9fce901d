//! From a request to a record of the journal: who sent it, what is kept, and how the rest ended.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use axum::extract::ConnectInfo;
use axum::http::header::{CONTENT_TYPE, USER_AGENT};
use axum::http::request::Parts;
use bytes::Bytes;
use tokio::sync::Semaphore;

use weir_protocol::dsn::Dsn;
use weir_protocol::encoding::Encoding;
use weir_protocol::envelope::{Envelope, EnvelopeError, EnvelopeHeader, Item, ItemType};
use weir_protocol::ids::{EventId, ProjectId, PublicKey};
use weir_protocol::limits::{ENVELOPE_BYTES_MAX, HEADER_LINE_BYTES_MAX, USER_AGENT_BYTES_MAX};
use weir_protocol::outcome::OutcomeCount;
use weir_protocol::record::{Body, Content, Intake, Record};

use crate::address;
use crate::admission::{self, TooLarge, Verdict};
use crate::auth::{self, AuthError, Credentials};
use crate::body::{Incoming, Packed};
use crate::budget::Budget;
use crate::keys::{Key, KeyCache, KeySource};
use crate::log::Log;
use crate::options::Options;
use crate::origin;
use crate::payload::Shallow;
use crate::query;
use crate::refusal::Refusal;
use crate::store;
use crate::tally::Tally;
use crate::telemetry;

/// Takes requests and turns them into records.
pub(crate) struct Intaker<L, K> {
    log: L,
    keys: KeyCache<K>,
    budget: Arc<Budget>,
    refusal_records: Arc<Semaphore>,
    pub(crate) options: Options,
}

/// Who sent a request: the key is known and belongs to the project.
#[derive(Debug, Clone)]
struct Sender {
    public_key: PublicKey,
    key: Arc<Key>,
    client: Option<String>,
    client_ip: Option<IpAddr>,
    user_agent: Option<String>,
}

/// An envelope above this is framed on a thread where it holds up nobody: the ends of lines are searched byte by byte.
const FRAMED_INLINE_BYTES_MAX: usize = 4 << 20;

impl<L: Log, K: KeySource> Intaker<L, K> {
    pub(crate) fn new(log: L, keys: K, options: Options) -> Self {
        // The journal is read back with this bound.
        let options = Options { envelope_bytes_max: options.envelope_bytes_max.min(ENVELOPE_BYTES_MAX), ..options };
        let budget = Budget::new(options.bodies_in_flight_bytes_max);
        Self { log, keys: KeyCache::new(keys), budget, refusal_records: Arc::new(Semaphore::new(options.refusal_records_max)), options }
    }

    /// The `envelope` door. Returns the id that the client is told.
    pub(crate) async fn envelope(self: &Arc<Self>, project_id: ProjectId, parts: &Parts, body: &mut Incoming) -> Result<Option<EventId>, Refusal> {
        let bytes_max = self.options.envelope_bytes_max;
        let Some(credentials) = auth::of_request(&parts.headers, parts.uri.query())? else {
            return self.envelope_with_dsn(project_id, parts, body).await;
        };
        let sender = self.sender(credentials, Some(project_id), parts).await?;
        let taken = async {
            sender.check_origin(parts)?;
            let packed = self.unpack(parts, body, bytes_max, "envelope").await?;
            self.keep(&sender, packed).await
        };
        self.settle(&sender, taken.await)
    }

    /// An envelope that nothing but the DSN in its header authenticates, so that it is read before its sender is known.
    async fn envelope_with_dsn(self: &Arc<Self>, project_id: ProjectId, parts: &Parts, body: &mut Incoming) -> Result<Option<EventId>, Refusal> {
        let packed = self.unpack(parts, body, self.options.envelope_bytes_max, "envelope").await?;
        let dsn = auth::of_envelope(header_of(&packed.plain).and_then(|header| header.dsn).as_deref())?;
        if dsn.project_id != project_id {
            return Err(Refusal::envelope(DSN_MISMATCH));
        }
        let sender = self.sender(Credentials { public_key: dsn.public_key, client: None }, Some(project_id), parts).await?;
        let taken = async {
            sender.check_origin(parts)?;
            self.keep(&sender, packed).await
        };
        self.settle(&sender, taken.await)
    }

    /// The `store` door; without a project the key alone says which.
    pub(crate) async fn store(self: &Arc<Self>, project_id: Option<ProjectId>, parts: &Parts, body: &mut Incoming) -> Result<Option<EventId>, Refusal> {
        let credentials = auth::of_request(&parts.headers, parts.uri.query())?.ok_or(AuthError::Missing)?;
        let sender = self.sender(credentials, project_id, parts).await?;
        let taken = async {
            sender.check_origin(parts)?;
            let packed = self.unpack(parts, body, self.options.store_bytes_max, "event").await?;
            if is_envelope(parts) {
                return self.keep(&sender, packed).await;
            }
            self.keep_event(&sender, &packed.plain).await
        };
        self.settle(&sender, taken.await)
    }

    /// The `store` door with the event in the query.
    pub(crate) async fn store_query(self: &Arc<Self>, project_id: Option<ProjectId>, parts: &Parts) -> Result<Option<EventId>, Refusal> {
        let credentials = auth::of_request(&parts.headers, parts.uri.query())?.ok_or(AuthError::Missing)?;
        let sender = self.sender(credentials, project_id, parts).await?;
        let taken = async {
            sender.check_origin(parts)?;
            let data = query::value(parts.uri.query(), "sentry_data").unwrap_or_default();
            self.keep_event(&sender, &data.into()).await
        };
        self.settle(&sender, taken.await)
    }

    async fn sender(&self, credentials: Credentials, project_id: Option<ProjectId>, parts: &Parts) -> Result<Sender, Refusal> {
        let key = self.keys.key(credentials.public_key, Instant::now()).await?.filter(|key| key.enabled).ok_or_else(Refusal::project)?;
        if project_id.is_some_and(|project_id| project_id != key.project.project_id) {
            return Err(Refusal::project());
        }
        let peer = parts.extensions.get::<ConnectInfo<std::net::SocketAddr>>().map(|ConnectInfo(peer)| peer.ip());
        let user_agent = parts.headers.get(USER_AGENT).map(|value| String::from_utf8_lossy(value.as_bytes()));
        Ok(Sender {
            public_key: credentials.public_key,
            key,
            client: credentials.client.map(|client| bounded(&client)),
            client_ip: address::client_ip(&parts.headers, peer, self.options.trust_forwarded),
            user_agent: user_agent.filter(|agent| !agent.is_empty()).map(|agent| bounded(&agent)),
        })
    }

    async fn unpack(&self, parts: &Parts, body: &mut Incoming, bytes_max: usize, item: &str) -> Result<Packed, Refusal> {
        body.unpack(&parts.headers, bytes_max, &self.options, &self.budget).await.map_err(|error| Refusal::body(error, item))
    }

    /// Keeps one event that is no envelope yet.
    async fn keep_event(&self, sender: &Sender, body: &Bytes) -> Result<Option<EventId>, Refusal> {
        let json = store::decode(body, self.options.store_bytes_max)?;
        let json = if store::writes_bare_tokens(sender.client.as_deref()) { store::neutralise(&json) } else { json.as_ref().into() };
        let framed = store::envelope(&json, fresh_event_id())?;
        self.keep_framed(sender, Encoding::Identity, framed.clone(), framed).await
    }

    async fn keep(&self, sender: &Sender, packed: Packed) -> Result<Option<EventId>, Refusal> {
        self.keep_framed(sender, packed.encoding, packed.stored.clone(), packed.plain.clone()).await
    }

    /// Keeps what an envelope has that is kept, and how the rest of it ended.
    async fn keep_framed(&self, sender: &Sender, encoding: Encoding, stored: Bytes, plain: Bytes) -> Result<Option<EventId>, Refusal> {
        let envelope = frame(plain.clone()).await.map_err(Refusal::envelope)?;
        telemetry::framed(&envelope.items);
        sender.check_dsn(&envelope.header)?;
        let verdicts = admission::admit(&envelope.items)
            .map_err(|error| Refusal::too_large(&error, outcomes_of_too_large(&envelope.items, &error).into_counts(envelope.header.event_id)))?;
        let event_id = event_id_of(&envelope);
        let outcomes = outcomes_of(&envelope.items, &verdicts).into_counts(event_id);
        let kept = || envelope.items.iter().zip(&verdicts).filter(|(_, verdict)| **verdict == Verdict::Kept).map(|(item, _)| item);
        let body = match kept().count() {
            0 => None,
            all if all == envelope.items.len() => Some(Body::received(encoding, stored, plain)),
            _ => Some(Body::identity(Envelope::reframe(&envelope.header, kept()))),
        };
        if body.is_some() || !outcomes.is_empty() {
            self.log.append(sender.record(event_id, outcomes, body)).await?;
        }
        Ok(event_id)
    }

    /// Counts what a refusal lost in the sender's project. It waits for nothing and is bounded: a refused request must never
    /// cost more than one that is taken.
    fn settle(self: &Arc<Self>, sender: &Sender, mut taken: Result<Option<EventId>, Refusal>) -> Result<Option<EventId>, Refusal> {
        let outcomes = taken.as_mut().err().map(Refusal::take_outcomes).unwrap_or_default();
        if outcomes.is_empty() {
            return taken;
        }
        match Arc::clone(&self.refusal_records).try_acquire_owned() {
            Ok(permit) => {
                let (intaker, record) = (Arc::clone(self), sender.record(None, outcomes, None));
                tokio::spawn(async move {
                    if let Err(error) = intaker.log.append(record).await {
                        tracing::warn!(%error, "the outcome of a refused request was not recorded");
                        telemetry::refusal_unrecorded();
                    }
                    drop(permit);
                });
            }
            Err(_) => telemetry::refusal_unrecorded(),
        }
        taken
    }
}

/// What an envelope is told whose header names another project or key than the request.
const DSN_MISMATCH: &str = "the dsn in the envelope's header is not that of the request";

impl Sender {
    fn check_origin(&self, parts: &Parts) -> Result<(), Refusal> {
        origin::allowed(&self.key.allowed_domains, &parts.headers).then_some(()).ok_or_else(Refusal::origin)
    }

    /// A DSN in an envelope's header is no second form of authentication (`spec/sdk-observed.md`, row 1), but it has to agree.
    /// The key was compared already where the DSN authenticated.
    fn check_dsn(&self, header: &EnvelopeHeader) -> Result<(), Refusal> {
        let Some(dsn) = &header.dsn else { return Ok(()) };
        let dsn: Dsn = dsn.parse().map_err(|error| Refusal::envelope(format!("the dsn in the envelope's header: {error}")))?;
        let agrees = dsn.project_id == self.key.project.project_id && dsn.public_key == self.public_key;
        agrees.then_some(()).ok_or_else(|| Refusal::envelope(DSN_MISMATCH))
    }

    fn record(&self, event_id: Option<EventId>, outcomes: Vec<OutcomeCount>, body: Option<Body>) -> Record {
        let intake = Intake {
            project: self.key.project.clone(),
            key_id: Some(self.key.key_id),
            client_ip: self.client_ip,
            user_agent: self.user_agent.clone(),
            client: self.client.clone(),
            event_id,
            outcomes,
            body,
        };
        Record { received_ms: now_ms(), content: Content::Intake(Box::new(intake)) }
    }
}

/// The header line of an envelope, where it is one.
fn header_of(plain: &Bytes) -> Option<EnvelopeHeader> {
    let end = plain.iter().take(HEADER_LINE_BYTES_MAX + 1).position(|&c| c == b'\n').unwrap_or(plain.len());
    EnvelopeHeader::parse(plain.slice(..end)).ok()
}

async fn frame(plain: Bytes) -> Result<Envelope, EnvelopeError> {
    if plain.len() <= FRAMED_INLINE_BYTES_MAX {
        return Envelope::parse(&plain);
    }
    tokio::task::spawn_blocking(move || Envelope::parse(&plain)).await.unwrap_or_else(|error| {
        tracing::error!(%error, "framing an envelope ended abnormally");
        Err(EnvelopeError::InvalidHeader("it could not be framed".to_owned()))
    })
}

/// The event that the items belong to: the header's, else the payload's, else a new one where an item needs one.
fn event_id_of(envelope: &Envelope) -> Option<EventId> {
    let needs_one = || envelope.items.iter().any(|item| item.header.item_type.requires_event());
    let of_payload = || {
        let carries_id = |item: &&Item| matches!(item.header.item_type, ItemType::Event | ItemType::Transaction | ItemType::Feedback);
        envelope.items.iter().find(carries_id).and_then(|item| Shallow::read(&item.payload).ok()?.event_id)
    };
    envelope.header.event_id.or_else(|| needs_one().then(|| of_payload().unwrap_or_else(fresh_event_id)))
}

/// How the items ended that are not kept.
fn outcomes_of(items: &[Item], verdicts: &[Verdict]) -> Tally {
    let mut tally = Tally::default();
    for (item, verdict) in items.iter().zip(verdicts) {
        match verdict {
            Verdict::Kept => {}
            Verdict::Duplicate => tally.refuse(item, "duplicate_item"),
            Verdict::Unsupported => tally.refuse(item, &format!("unsupported:{}", item.header.item_type.name())),
        }
    }
    tally
}

/// Every item of an envelope that is over a limit ends with it.
fn outcomes_of_too_large(items: &[Item], error: &TooLarge) -> Tally {
    let reason = format!("too_large:{}", error.item_type);
    let mut tally = Tally::default();
    items.iter().for_each(|item| tally.refuse(item, &reason));
    tally
}

fn is_envelope(parts: &Parts) -> bool {
    let given = parts.headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    given.split(';').next().is_some_and(|media_type| media_type.trim().eq_ignore_ascii_case("application/x-sentry-envelope"))
}

fn bounded(text: &str) -> String {
    text[..text.floor_char_boundary(USER_AGENT_BYTES_MAX)].to_owned()
}

fn fresh_event_id() -> EventId {
    EventId(uuid::Uuid::new_v4().into_bytes())
}

fn now_ms() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as u64)
}
