//! Where the topic is, and what librdkafka is told.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use rdkafka::ClientContext;
use rdkafka::config::{ClientConfig, RDKafkaLogLevel};
use rdkafka::consumer::ConsumerContext;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::DeliveryResult;
use rdkafka::producer::ProducerContext;

use super::Shared;
use super::append::Sent;
use super::topic::Identity;
use crate::error::JournalError;

/// A record's greatest size. A broker takes requests of up to 100 MiB unless its `socket.request.max.bytes` says otherwise, and closes the
/// connection at larger ones without a word; so this leaves room for what goes around a record.
pub(crate) const KAFKA_RECORD_BYTES_MAX: u64 = 96 << 20;

/// How long a record may be under way before it is answered that it is not known to be kept: less than SDKs wait.
const DELIVERY_MAX: Duration = Duration::from_secs(10);
/// How long a broker may take to answer one request of the producer.
const REQUEST_MAX: Duration = Duration::from_secs(5);
/// What one request of the consumer brings, but for a record that is larger alone.
const FETCH_BYTES_MAX: usize = 16 << 20;
/// What the consumer has fetched and nobody has taken yet.
const PREFETCH_KILOBYTES_MAX: usize = 16 << 10;

/// The settings that Weir's guarantees rest on.
const OWN: &[&str] = &[
    "acks",
    "auto.offset.reset",
    "bootstrap.servers",
    "check.crcs",
    "enable.auto.commit",
    "enable.auto.offset.store",
    "enable.gapless.guarantee",
    "enable.idempotence",
    "enable.partition.eof",
    "isolation.level",
    "max.in.flight",
    "max.in.flight.requests.per.connection",
    "metadata.broker.list",
    "partition.assignment.strategy",
    "request.required.acks",
    "transactional.id",
];

/// A topic, and how it is used.
#[derive(Clone)]
pub struct KafkaOptions {
    /// Where it is.
    pub url: KafkaUrl,
    /// How many partitions it has, or is made with, where that is set.
    pub partitions: Option<u16>,
    /// What is remembered of it from an earlier start.
    pub remembered: Option<Identity>,
    /// Properties of librdkafka, for all of its clients.
    pub properties: BTreeMap<String, String>,
    /// How long an open waits for a broker.
    pub patience: Duration,
}

impl fmt::Debug for KafkaOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The properties may be secrets.
        f.debug_struct("KafkaOptions").field("url", &self.url).field("partitions", &self.partitions).finish_non_exhaustive()
    }
}

/// `kafka://HOST:PORT[,HOST:PORT]/TOPIC`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KafkaUrl {
    /// The brokers that are asked first, `HOST:PORT,HOST:PORT`.
    pub brokers: String,
    /// The topic.
    pub topic: String,
}

impl FromStr for KafkaUrl {
    type Err = String;

    fn from_str(url: &str) -> Result<Self, String> {
        const FORM: &str = "write kafka://HOST:PORT[,HOST:PORT]/TOPIC";
        let rest = url.strip_prefix("kafka://").ok_or_else(|| format!("it does not begin with kafka://; {FORM}"))?;
        let (brokers, topic) = rest.split_once('/').ok_or_else(|| format!("the topic is missing; {FORM}"))?;
        if rest.contains('@') {
            return Err("it holds a user: set sasl.username and sasl.password in journal.kafka instead".to_owned());
        }
        for broker in brokers.split(',') {
            let (host, port) = broker.rsplit_once(':').ok_or_else(|| format!("the broker {broker:?} has no port; {FORM}"))?;
            if host.is_empty() || port.parse::<u16>().is_err() {
                return Err(format!("{broker:?} is no broker; {FORM}"));
            }
        }
        let legal = |c: char| c.is_ascii_alphanumeric() || ".-_".contains(c);
        if topic.is_empty() || topic.len() > 249 || !topic.chars().all(legal) || topic == "." || topic == ".." {
            return Err(format!("{topic:?} cannot be a topic: 1 to 249 letters, digits, dots, hyphens and underscores; {FORM}"));
        }
        Ok(Self { brokers: brokers.to_owned(), topic: topic.to_owned() })
    }
}

impl fmt::Display for KafkaUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "kafka://{}/{}", self.brokers, self.topic)
    }
}

impl KafkaOptions {
    /// The topic behind a URL, with nothing else set.
    pub fn new(url: KafkaUrl) -> Self {
        Self { url, partitions: None, remembered: None, properties: BTreeMap::new(), patience: Duration::from_secs(5) }
    }

    fn client(&self) -> Result<ClientConfig, JournalError> {
        let mut config = ClientConfig::new();
        config
            .set("client.id", "weir")
            // A broker that is there again is found at once.
            .set("reconnect.backoff.ms", "100")
            .set("reconnect.backoff.max.ms", "1000")
            .set("socket.keepalive.enable", "true")
            .set("socket.timeout.ms", "10000")
            .set("topic.metadata.refresh.interval.ms", "30000");
        for (name, value) in &self.properties {
            if OWN.contains(&name.as_str()) {
                return Err(JournalError::Kafka(format!("journal.kafka sets {name}, which is weir's own: remove it")));
            }
            config.set(name, value);
        }
        config.set("bootstrap.servers", &self.url.brokers);
        config.set_log_level(RDKafkaLogLevel::Info);
        Ok(config)
    }

    pub(crate) fn producer(&self) -> Result<ClientConfig, JournalError> {
        let mut config = self.client()?;
        let defaults = [
            ("delivery.timeout.ms", DELIVERY_MAX.as_millis().to_string()),
            ("request.timeout.ms", REQUEST_MAX.as_millis().to_string()),
            ("linger.ms", "2".to_owned()),
            ("message.max.bytes", (KAFKA_RECORD_BYTES_MAX + (1 << 20)).to_string()),
            // More than the appends that are let on take: their bound is theirs.
            ("queue.buffering.max.kbytes", (2 * KAFKA_RECORD_BYTES_MAX / 1024).to_string()),
        ];
        self.default(&mut config, defaults);
        config.set("enable.idempotence", "true").set("acks", "all");
        Ok(config)
    }

    pub(crate) fn consumer(&self) -> Result<ClientConfig, JournalError> {
        let mut config = self.client()?;
        let defaults = [
            // Needed to be assigned partitions; no offsets are kept under it.
            ("group.id", "weir".to_owned()),
            ("fetch.max.bytes", FETCH_BYTES_MAX.to_string()),
            ("message.max.bytes", "1000000".to_owned()),
            ("receive.message.max.bytes", (KAFKA_RECORD_BYTES_MAX as usize + FETCH_BYTES_MAX + (1 << 20)).to_string()),
            ("queued.max.messages.kbytes", PREFETCH_KILOBYTES_MAX.to_string()),
            ("fetch.wait.max.ms", "500".to_owned()),
            ("fetch.error.backoff.ms", "100".to_owned()),
        ];
        self.default(&mut config, defaults);
        config
            .set("enable.auto.commit", "false")
            .set("enable.auto.offset.store", "false")
            .set("auto.offset.reset", "error")
            .set("allow.auto.create.topics", "false")
            .set("check.crcs", "true");
        Ok(config)
    }

    /// What asks about the topic and makes it.
    pub(crate) fn watcher(&self) -> Result<ClientConfig, JournalError> {
        let mut config = self.client()?;
        config.set("allow.auto.create.topics", "false");
        Ok(config)
    }

    fn default<const N: usize>(&self, config: &mut ClientConfig, defaults: [(&str, String); N]) {
        for (name, value) in defaults {
            if !self.properties.contains_key(name) {
                config.set(name, value);
            }
        }
    }
}

/// What went wrong with a setting, in words.
pub(crate) fn setting_error(error: &KafkaError) -> JournalError {
    JournalError::Kafka(match error {
        // The value may be a secret.
        KafkaError::ClientConfig(_, description, name, _) => format!("journal.kafka sets {name}: {description}"),
        other => format!("the settings of journal.kafka do not go together: {other}"),
    })
}

/// What librdkafka tells of itself. Its log is only of use where something is looked into; what goes wrong is said in the topic's words.
pub(crate) struct Context {
    pub(crate) shared: Arc<Shared>,
}

impl ClientContext for Context {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        tracing::debug!(target: "weir_journal::librdkafka", ?level, facility, "{message}");
    }

    fn error(&self, error: KafkaError, reason: &str) {
        tracing::debug!(target: "weir_journal::librdkafka", %error, "{reason}");
        // That all are down says less than what was said of each.
        if error.rdkafka_error_code() != Some(RDKafkaErrorCode::AllBrokersDown) {
            self.shared.topic.client_said(reason);
        }
    }
}

impl ConsumerContext for Context {}

impl ProducerContext for Context {
    type DeliveryOpaque = Box<Sent>;

    fn delivery(&self, result: &DeliveryResult<'_>, sent: Self::DeliveryOpaque) {
        sent.delivered(result, &self.shared);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls() {
        let url: KafkaUrl = "kafka://a:9092,[::1]:9093/weir.events".parse().unwrap();
        assert_eq!((url.brokers.as_str(), url.topic.as_str()), ("a:9092,[::1]:9093", "weir.events"));
        assert_eq!(url.to_string(), "kafka://a:9092,[::1]:9093/weir.events");
        let wrong = |url: &str, want: &str| {
            let error = url.parse::<KafkaUrl>().unwrap_err();
            assert!(error.contains(want), "{url}: {error}");
        };
        wrong("http://a:1/t", "does not begin with kafka://");
        wrong("kafka://a:1", "the topic is missing");
        wrong("kafka://a/t", "\"a\" has no port");
        wrong("kafka://a:x/t", "\"a:x\" is no broker");
        wrong("kafka://a:1,/t", "\"\" has no port");
        wrong("kafka://a:1/", "\"\" cannot be a topic");
        wrong("kafka://a:1/a b", "\"a b\" cannot be a topic");
        wrong("kafka://me:secret@a:1/t", "sasl.username");
    }

    #[test]
    fn properties_are_passed_on_but_for_those_that_guarantees_rest_on() {
        let mut options = KafkaOptions::new("kafka://a:1/t".parse().unwrap());
        options.properties = [("linger.ms".to_owned(), "50".to_owned()), ("security.protocol".to_owned(), "SSL".to_owned())].into();
        let config = options.producer().unwrap();
        assert_eq!((config.get("linger.ms"), config.get("security.protocol"), config.get("acks")), (Some("50"), Some("SSL"), Some("all")));
        options.properties.insert("acks".to_owned(), "1".to_owned());
        assert!(options.producer().unwrap_err().to_string().contains("journal.kafka sets acks"));
        options.properties = [("sasl.password".to_owned(), "hunter2".to_owned())].into();
        assert!(!format!("{options:?}").contains("hunter2"));
    }
}
