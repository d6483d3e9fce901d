//! The thread that looks at the topic: makes it where it is missing, finds out whether it is the right one, how far it reaches, and what
//! keeps it from being used.

use std::sync::Arc;
use std::time::Duration;

use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, ResourceSpecifier, TopicReplication};
use rdkafka::config::FromClientConfigAndContext;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::metadata::MetadataTopic;

use super::Shared;
use super::append::Appender;
use super::settings::{Context, KAFKA_RECORD_BYTES_MAX, setting_error};
use super::topic::{Identity, Look, PARTITIONS_DEFAULT};
use crate::error::JournalError;

/// How often the topic is looked at.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// The same while something is wrong.
const LOOK_AGAIN: Duration = Duration::from_millis(250);
/// How long, and how often, the client is listened to before a look.
const SERVE: Duration = Duration::from_millis(5);
const SAYINGS_MAX: u32 = 100;
/// How often, and how far apart, a topic that was just made is looked for.
const LOOKS_FOR_MADE: u32 = 50;
const BETWEEN_LOOKS_FOR_MADE: Duration = Duration::from_millis(50);
/// How long a broker may take to answer a question.
const ANSWER_MAX: Duration = Duration::from_secs(2);
/// How long a broker may take to make a topic.
const MAKE_MAX: Duration = Duration::from_secs(10);

pub(crate) struct Watch {
    shared: Arc<Shared>,
    appender: Arc<Appender>,
    consumer: BaseConsumer<Context>,
    runtime: tokio::runtime::Runtime,
}

/// Why a look did not get to the end.
enum Hindrance {
    /// It may go away by itself.
    Trouble(String),
    /// Somebody has to do something.
    Refusal(String),
}

/// A topic without a leader yet, or none.
enum Found {
    Partitions(u16),
    Missing,
}

impl Watch {
    pub(crate) fn new(shared: Arc<Shared>, appender: Arc<Appender>) -> Result<Self, JournalError> {
        let context = Context { shared: Arc::clone(&shared) };
        let consumer = BaseConsumer::from_config_and_context(&shared.options.watcher()?, context).map_err(|e| setting_error(&e))?;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().map_err(JournalError::Thread)?;
        Ok(Self { shared, appender, consumer, runtime })
    }

    /// Looks until the journal is dropped.
    pub(crate) fn run(self) {
        loop {
            self.serve();
            let well = self.look();
            self.appender.renew_if_fatal();
            if !self.shared.topic.rest(if well { LOOK_EVERY } else { LOOK_AGAIN }) {
                return;
            }
        }
    }

    /// Takes what the client has to say.
    fn serve(&self) {
        for _ in 0..SAYINGS_MAX {
            if self.consumer.poll(SERVE).is_none() {
                return;
            }
        }
    }

    fn look(&self) -> bool {
        match self.try_to_look(0) {
            Ok(look) => {
                let well = look.trouble.is_none();
                self.shared.topic.looked(look);
                well
            }
            Err(Hindrance::Trouble(trouble)) => {
                self.shared.topic.looked(Look { trouble: Some(trouble), ..Look::default() });
                false
            }
            Err(Hindrance::Refusal(reason)) => {
                self.shared.topic.refused(reason);
                false
            }
        }
    }

    /// `made` is how often it was looked already since the topic was made.
    fn try_to_look(&self, made: u32) -> Result<Look, Hindrance> {
        let name = &self.shared.options.url.topic;
        let metadata = self.consumer.client().fetch_metadata(Some(name.as_str()), ANSWER_MAX).map_err(|error| self.unreachable(&error))?;
        let topic = metadata.topics().iter().find(|topic| topic.name() == name);
        let count = match self.found(topic)? {
            Found::Partitions(count) => count,
            Found::Missing => {
                match made {
                    0 => self.make()?,
                    1..LOOKS_FOR_MADE => std::thread::sleep(BETWEEN_LOOKS_FOR_MADE),
                    _ => return Err(Hindrance::Trouble(format!("topic {name} was made, but the brokers do not know it yet"))),
                }
                return self.try_to_look(made + 1);
            }
        };
        self.identify(count)?;
        let leaderless: Vec<String> =
            topic.into_iter().flat_map(MetadataTopic::partitions).filter(|p| p.leader() < 0).map(|partition| partition.id().to_string()).collect();
        let mut look = Look { seen: self.shared.topic.all_seen(), ..Look::default() };
        if !leaderless.is_empty() {
            look.trouble = Some(format!(
                "partitions {} of topic {name} have no leader: the brokers that hold them are down, or still starting; this goes on by itself when they are back",
                leaderless.join(", ")
            ));
        }
        for partition in 0..count {
            match self.consumer.client().fetch_watermarks(name, i32::from(partition), ANSWER_MAX) {
                Ok((start, end)) if start >= 0 && end >= 0 => {
                    look.bounds.insert(partition, (start as u64, end as u64));
                }
                Ok(_) => {}
                Err(error) => {
                    look.trouble.get_or_insert_with(|| format!("partition {partition} of topic {name} does not tell how far it reaches: {}; its leader is down or new, or too few replicas are in sync: start the brokers that are down; this goes on by itself when they are back", in_words(&error)));
                    break;
                }
            }
        }
        Ok(look)
    }

    fn found(&self, topic: Option<&MetadataTopic>) -> Result<Found, Hindrance> {
        let name = &self.shared.options.url.topic;
        let Some(topic) = topic else { return Ok(Found::Missing) };
        match topic.error().map(RDKafkaErrorCode::from) {
            None if topic.partitions().is_empty() => Ok(Found::Missing),
            None => u16::try_from(topic.partitions().len()).ok().filter(|count| *count < 1 << 15).map(Found::Partitions).ok_or_else(|| {
                Hindrance::Refusal(format!("topic {name} has {} partitions: weir reads topics of up to {}", topic.partitions().len(), (1 << 15) - 1))
            }),
            Some(RDKafkaErrorCode::UnknownTopicOrPartition | RDKafkaErrorCode::UnknownTopic) => Ok(Found::Missing),
            Some(RDKafkaErrorCode::LeaderNotAvailable) if topic.partitions().is_empty() => Ok(Found::Missing),
            Some(error) => Err(Hindrance::Trouble(format!("topic {name} cannot be used: {error}; check that journal.kafka has what the brokers ask for"))),
        }
    }

    /// Makes the topic, unless it must have been there.
    fn make(&self) -> Result<(), Hindrance> {
        let options = &self.shared.options;
        let name = &options.url.topic;
        if options.remembered.is_some() || self.shared.topic.identity().is_some() {
            return Err(Hindrance::Trouble(format!(
                "topic {name} is not there any more, but records of it are expected: restore it; where it is lost for good, begin with another topic and an empty data directory"
            )));
        }
        let partitions = options.partitions.unwrap_or(PARTITIONS_DEFAULT);
        // -1: as many replicas as the cluster's default says.
        let bytes = (KAFKA_RECORD_BYTES_MAX + (1 << 20)).to_string();
        let topic = NewTopic::new(name, i32::from(partitions), TopicReplication::Fixed(-1))
            .set("cleanup.policy", "delete")
            .set("max.message.bytes", &bytes)
            .set("message.timestamp.type", "CreateTime");
        let admin = self.admin()?;
        let options = AdminOptions::new().operation_timeout(Some(MAKE_MAX)).request_timeout(Some(MAKE_MAX));
        let made = self.runtime.block_on(admin.create_topics([&topic], &options));
        match made.as_deref() {
            Ok([Ok(_), ..]) => {
                tracing::info!(topic = name, partitions, "made the topic");
                Ok(())
            }
            Ok([Err((_, RDKafkaErrorCode::TopicAlreadyExists)), ..]) | Ok([]) => Ok(()),
            Ok([Err((_, error)), ..]) => Err(Hindrance::Trouble(format!(
                "topic {name} is not there and cannot be made: {error}; make it, with {partitions} partitions and max.message.bytes={bytes}, or let this user make it"
            ))),
            Err(error) => Err(Hindrance::Trouble(format!("topic {name} is not there and cannot be made: {}", in_words(error)))),
        }
    }

    fn admin(&self) -> Result<AdminClient<Context>, Hindrance> {
        let config = self.shared.options.watcher().map_err(|e| Hindrance::Refusal(e.to_string()))?;
        AdminClient::from_config_and_context(&config, Context { shared: Arc::clone(&self.shared) }).map_err(|e| Hindrance::Trouble(in_words(&e)))
    }

    /// Compares the topic with what is set and remembered.
    fn identify(&self, partitions: u16) -> Result<(), Hindrance> {
        let options = &self.shared.options;
        let name = &options.url.topic;
        let known = self.shared.topic.identity();
        if known.as_ref().is_some_and(|known| known.partitions == partitions) {
            return Ok(());
        }
        let expected = known.as_ref().or(options.remembered.as_ref());
        let grown = |was: u16| {
            format!(
                "topic {name} has {partitions} partitions, but had {was}: which partition a project's records are in depends on their number, so it must not change; \
                 begin with another topic and an empty data directory"
            )
        };
        match (expected, options.partitions) {
            (Some(expected), _) if expected.partitions != partitions => return Err(Hindrance::Refusal(grown(expected.partitions))),
            (_, Some(set)) if set != partitions => {
                return Err(Hindrance::Refusal(format!(
                    "topic {name} has {partitions} partitions, but journal.partitions is {set}: set it to {partitions}, or name another topic"
                )));
            }
            (None, None) if self.shared.topic.partition_count() != partitions && self.shared.topic.is_read() => {
                return Err(Hindrance::Refusal(format!(
                    "topic {name} has {partitions} partitions, which was not known when weir started without a broker: start it again, or set journal.partitions to {partitions}"
                )));
            }
            _ => {}
        }
        let cluster = self.consumer.client().fetch_cluster_id(ANSWER_MAX);
        if let (Some(now), Some(before)) = (&cluster, options.remembered.as_ref().and_then(|identity| identity.cluster.as_ref()))
            && now != before
        {
            return Err(Hindrance::Refusal(format!(
                "the last commit continues from topic {name} of the cluster {before}, but the brokers of journal.url are of the cluster {now}: offsets of one mean nothing \
                 in the other; name brokers of {before}, or begin with an empty data directory"
            )));
        }
        let record_bytes_max = self.record_bytes_max()?;
        self.shared.topic.identified(Identity { topic: name.clone(), cluster, partitions }, record_bytes_max);
        Ok(())
    }

    /// What the topic says of its records. Who may not ask finds out by trying.
    fn record_bytes_max(&self) -> Result<u64, Hindrance> {
        let name = &self.shared.options.url.topic;
        let options = AdminOptions::new().request_timeout(Some(ANSWER_MAX));
        let admin = self.admin()?;
        let described = self.runtime.block_on(admin.describe_configs([&ResourceSpecifier::Topic(name)], &options));
        let Some(Ok(config)) = described.ok().and_then(|described| described.into_iter().next()) else { return Ok(KAFKA_RECORD_BYTES_MAX) };
        let value = |name: &str| config.get(name).and_then(|entry| entry.value.as_deref());
        if value("cleanup.policy").is_some_and(|policy| policy.contains("compact")) {
            return Err(Hindrance::Refusal(format!(
                "topic {name} has cleanup.policy={}: compaction drops records that are needed; set cleanup.policy=delete",
                value("cleanup.policy").unwrap_or_default()
            )));
        }
        let max: u64 = value("max.message.bytes").and_then(|value| value.parse().ok()).unwrap_or(KAFKA_RECORD_BYTES_MAX);
        if max < 2 << 20 {
            tracing::warn!(
                topic = name,
                "max.message.bytes of the topic is {max}: larger requests are refused with 413; {KAFKA_RECORD_BYTES_MAX} lets everything in"
            );
        }
        // What Kafka puts around a record counts, too.
        Ok(max.saturating_sub(1024))
    }

    fn unreachable(&self, error: &KafkaError) -> Hindrance {
        let brokers = &self.shared.options.url.brokers;
        let said = self.shared.topic.last_said().map(|said| format!(": {said}")).unwrap_or_default();
        Hindrance::Trouble(format!(
            "no broker of {brokers} answers ({}){said}; requests are refused until one does, and then this goes on by itself; check that Kafka runs, that journal.url names it, \
             and that journal.kafka has what it asks for",
            in_words(error)
        ))
    }
}

/// An error without the wrapping that the library puts around it.
pub(crate) fn in_words(error: &KafkaError) -> String {
    error.rdkafka_error_code().map_or_else(|| error.to_string(), |code| code.to_string())
}
