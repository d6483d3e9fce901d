//! Opens the journal, and sees to it that it is the one that the commits continue from.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context, bail};
use weir_catalog::Catalog;
use weir_journal::{Identity, Journal, KafkaOptions, KafkaUrl};

use crate::config::Config;
use crate::data_dir::DataDir;

/// What the catalog remembers where the journal is segments; a topic is remembered as JSON.
const SEGMENTS: &str = "segments";
/// How often it is looked whether a broker has told of the topic.
const ASK_EVERY: Duration = Duration::from_millis(100);

/// Opens the journal of the settings.
pub(super) async fn open(config: &Config, data: &DataDir, catalog: &Catalog) -> anyhow::Result<Journal> {
    let remembered = remembered(catalog).await?;
    match config.journal.topic()? {
        Some(url) => open_topic(config, url, catalog, remembered).await,
        None => open_segments(config, data, catalog, remembered).await,
    }
}

/// The journal that the commits continue from.
async fn remembered(catalog: &Catalog) -> anyhow::Result<Option<String>> {
    let remembered = catalog.journal().await?;
    // Before there was a choice, nothing was remembered.
    Ok(if remembered.is_none() && catalog.has_commits().await? { Some(SEGMENTS.to_owned()) } else { remembered })
}

async fn open_segments(config: &Config, data: &DataDir, catalog: &Catalog, remembered: Option<String>) -> anyhow::Result<Journal> {
    if let Some(other) = remembered.filter(|remembered| remembered != SEGMENTS) {
        let topic = serde_json::from_str::<Identity>(&other).map_or(other, |identity| identity.topic);
        bail!(
            "what is committed here continues from topic {topic} of Kafka, but journal.url is not set: set journal.url to kafka://HOST:PORT/{topic}, or begin with an empty data \
             directory"
        );
    }
    let mut options = weir_journal::Options::new(data.journal());
    options.journal_bytes_max = config.journal.max_bytes.0;
    let (journal, opened) = Journal::open(options).with_context(|| format!("the journal {} cannot be opened", data.journal().display()))?;
    tracing::info!(start = opened.start, end = opened.end, segments = opened.segments, "journal opened");
    catalog.set_journal(SEGMENTS).await?;
    Ok(journal)
}

async fn open_topic(config: &Config, url: KafkaUrl, catalog: &Catalog, remembered: Option<String>) -> anyhow::Result<Journal> {
    let remembered = match remembered.as_deref() {
        Some(SEGMENTS) => bail!(
            "what is committed here continues from segments in the data directory, but journal.url is {url}: remove journal.url, or begin with an empty data directory"
        ),
        Some(json) => Some(
            serde_json::from_str::<Identity>(json)
                .with_context(|| format!("the catalog remembers a journal that this version of weir does not know: {json}"))?,
        ),
        None => None,
    };
    if let Some(other) = remembered.as_ref().filter(|identity| identity.topic != url.topic) {
        bail!("what is committed here continues from topic {}, but journal.url is {url}: name that topic, or begin with an empty data directory", other.topic);
    }
    let mut options = KafkaOptions::new(url);
    options.partitions = (config.journal.partitions > 0).then_some(config.journal.partitions);
    options.remembered = remembered;
    options.properties = BTreeMap::clone(&config.journal.kafka.0);
    let journal = tokio::task::spawn_blocking(|| Journal::open_kafka(options)).await.context("opening the journal panicked")??;
    match journal.identity() {
        Some(identity) => remember(catalog, &identity).await?,
        None => drop(tokio::spawn(remember_later(catalog.clone(), journal.clone()))),
    }
    if let Some(error) = journal.status().error {
        tracing::warn!("requests of SDKs are refused for now: {error}");
    }
    Ok(journal)
}

async fn remember(catalog: &Catalog, identity: &Identity) -> anyhow::Result<()> {
    catalog.set_journal(&serde_json::to_string(identity)?).await?;
    Ok(())
}

/// Remembers the topic as soon as a broker has told of it.
async fn remember_later(catalog: Catalog, journal: Journal) {
    loop {
        tokio::time::sleep(ASK_EVERY).await;
        let Some(identity) = journal.identity() else { continue };
        match remember(&catalog, &identity).await {
            Ok(()) => return,
            Err(error) => tracing::warn!(%error, "the topic cannot be remembered in the catalog; trying again"),
        }
    }
}
