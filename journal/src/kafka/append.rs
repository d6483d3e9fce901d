//! The producer: hands records over and tells what became of them.

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use rdkafka::config::FromClientConfigAndContext;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{DeliveryResult, Header, Message, OwnedHeaders};
use rdkafka::producer::{BaseRecord, Producer, ThreadedProducer};
use tokio::sync::{OwnedSemaphorePermit, oneshot};
use weir_protocol::record::{Position, Record};

use super::Shared;
use super::partition::{kind_of, of_record, project_of};
use super::settings::{Context, setting_error};
use super::watch::in_words;
use crate::error::{AppendError, JournalError};
use crate::log::locked;
use crate::queue::{Answer, Room};
use crate::telemetry;

/// The version of the headers.
const FORMAT: &str = "1";

pub(crate) struct Appender {
    shared: Arc<Shared>,
    room: Room,
    producer: Mutex<ThreadedProducer<Context>>,
}

impl std::fmt::Debug for Appender {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Appender").finish_non_exhaustive()
    }
}

/// A record under way.
pub(crate) struct Sent {
    answer: oneshot::Sender<Answer>,
    bytes: u64,
    begun: Instant,
    _room: OwnedSemaphorePermit,
}

impl Appender {
    pub(crate) fn new(shared: &Arc<Shared>) -> Result<Self, JournalError> {
        Ok(Self { shared: Arc::clone(shared), room: Room::new(), producer: Mutex::new(producer(shared)?) })
    }

    pub(crate) async fn append(&self, record: Record) -> Result<Position, AppendError> {
        let room = self.room.take(record.bytes_in_memory()).await?;
        let topic = &self.shared.topic;
        if topic.is_closed() {
            return Err(AppendError::Closed);
        }
        if let Some(reason) = topic.takes_nothing() {
            return Err(AppendError::Storage { reason });
        }
        let payload = record.encode();
        let (bytes, max) = (payload.len() as u64, topic.record_bytes_max());
        if bytes > max {
            return Err(AppendError::TooLarge { bytes, max });
        }
        let partition = of_record(&record, topic.partition_count());
        let key = project_of(&record).map(|project_id| project_id.to_string());
        let received = record.received_ms.to_string();
        let mut headers = OwnedHeaders::new_with_capacity(4)
            .insert(Header { key: "weir-format", value: Some(FORMAT) })
            .insert(Header { key: "weir-kind", value: Some(kind_of(&record)) })
            .insert(Header { key: "weir-received-ms", value: Some(&received) });
        if let Some(project_id) = &key {
            headers = headers.insert(Header { key: "weir-project-id", value: Some(project_id) });
        }
        let (answer, answered) = oneshot::channel();
        let sent = Box::new(Sent { answer, bytes, begun: Instant::now(), _room: room });
        let mut kafka_record = BaseRecord::with_opaque_to(&self.shared.options.url.topic, sent)
            .partition(i32::from(partition))
            .payload(&payload[..])
            .timestamp(record.received_ms as i64)
            .headers(headers);
        if let Some(key) = &key {
            kafka_record = kafka_record.key(key.as_str());
        }
        let handed_over = locked(&self.producer).send(kafka_record).map_err(|(error, _)| error);
        drop(payload);
        match handed_over {
            Ok(()) => {}
            Err(KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull)) => return Err(AppendError::Busy),
            Err(error) => return Err(refused(&error, bytes, &self.shared)),
        }
        // Every record that was handed over is reported, unless the producer is gone.
        answered.await.unwrap_or(Err(AppendError::Closed))
    }

    /// An idempotent producer that can no longer tell what was kept takes nothing more: another one takes its place. What was under way
    /// is answered with an error.
    pub(crate) fn renew_if_fatal(&self) {
        let fatal = locked(&self.producer).client().fatal_error();
        let Some((error, reason)) = fatal else { return };
        tracing::error!(%error, reason, "the producer cannot go on; another takes its place");
        metrics::counter!(telemetry::ERRORS).increment(1);
        match producer(&self.shared) {
            // The lock is free again before the old one is dropped, which takes its time.
            Ok(new) => drop(std::mem::replace(&mut *locked(&self.producer), new)),
            Err(error) => tracing::error!(%error, "no producer can be made; it is tried again"),
        }
    }

    pub(crate) fn close(&self, flush_max: Duration) {
        if self.shared.topic.is_closed() {
            return;
        }
        self.shared.topic.close();
        self.room.close();
        if let Err(error) = locked(&self.producer).flush(flush_max) {
            tracing::warn!(error = in_words(&error), "records under way were not confirmed before the end; they were not acknowledged");
        }
    }
}

fn producer(shared: &Arc<Shared>) -> Result<ThreadedProducer<Context>, JournalError> {
    let context = Context { shared: Arc::clone(shared) };
    ThreadedProducer::from_config_and_context(&shared.options.producer()?, context).map_err(|e| setting_error(&e))
}

/// Too few replicas show as silence, since the client of Kafka asks again until the time is over.
const WITHOUT_REPLICAS: &str =
    "its partition's leader is down, or fewer replicas are in sync than min.insync.replicas asks for; start the brokers that are down";

/// Why a record was not kept, as far as is known.
fn refused(error: &KafkaError, bytes: u64, shared: &Shared) -> AppendError {
    metrics::counter!(telemetry::ERRORS).increment(1);
    let reason = match error.rdkafka_error_code() {
        Some(RDKafkaErrorCode::MessageSizeTooLarge | RDKafkaErrorCode::InvalidMessageSize) => {
            return AppendError::TooLarge { bytes, max: bytes.saturating_sub(1).min(shared.topic.record_bytes_max()) };
        }
        Some(RDKafkaErrorCode::MessageTimedOut) => format!("no broker confirmed the record in time; it may be kept all the same: {WITHOUT_REPLICAS}"),
        Some(RDKafkaErrorCode::NotEnoughReplicas | RDKafkaErrorCode::NotEnoughReplicasAfterAppend) => {
            "fewer replicas are in sync than min.insync.replicas of the topic asks for: start the brokers that are down".to_owned()
        }
        _ => format!("Kafka did not take the record: {}", in_words(error)),
    };
    shared.topic.delivery_failed(reason.clone());
    AppendError::Storage { reason }
}

impl Sent {
    pub(crate) fn delivered(self, result: &DeliveryResult<'_>, shared: &Shared) {
        let answer = match result {
            Ok(message) => match (u16::try_from(message.partition()), u64::try_from(message.offset())) {
                (Ok(partition), Ok(offset)) => {
                    shared.topic.acknowledged(partition, offset + 1);
                    metrics::counter!(telemetry::APPENDS).increment(1);
                    metrics::counter!(telemetry::APPEND_BYTES).increment(self.bytes);
                    metrics::histogram!(telemetry::ACKNOWLEDGED_SECONDS).record(self.begun.elapsed().as_secs_f64());
                    Ok(Position { partition, offset })
                }
                // A broker that took it for one that it has already: it does not say where.
                _ => Err(AppendError::Storage { reason: "Kafka confirmed the record without its offset".to_owned() }),
            },
            Err((error, _)) => Err(refused(error, self.bytes, shared)),
        };
        // Whoever does not wait any more is not told; the record is durable all the same.
        let _ = self.answer.send(answer);
    }
}
