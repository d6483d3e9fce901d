//! The settings: defaults, then `weir.toml`, then `WEIR_SECTION__NAME`, then flags.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, bail};
use figment::Figment;
use figment::providers::{Env, Format, Serialized, Toml};
use serde::{Deserialize, Serialize};
use weir_catalog::CatalogLocation;
use weir_journal::KafkaUrl;
use weir_operators::normalise::place::Places;
use weir_outbound::reach::{IpNet, Reach};
use weir_outbound::{Mail, MailError};

use crate::data_dir::DataDir;

/// Every setting. Unknown ones are errors: a misspelt setting must not be a silent default.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// The data directory.
    pub data: PathBuf,
    /// Where SDKs send to.
    pub http: SocketAddr,
    /// Where SQL is asked.
    pub flight: SocketAddr,
    /// Timely workers.
    pub workers: usize,
    /// The journal.
    pub journal: JournalConfig,
    /// The catalog.
    pub catalog: CatalogConfig,
    /// The store of the lake's files.
    pub store: StoreConfig,
    /// Commits.
    pub commit: CommitConfig,
    /// Queries.
    pub query: QueryConfig,
    /// What is sent to addresses that somebody else names.
    pub outbound: OutboundConfig,
    /// Mails.
    pub mail: MailConfig,
    /// The lake's files after their commit.
    pub lake: LakeConfig,
    /// Several processes over one journal and one catalog.
    pub cluster: ClusterConfig,
    /// Where addresses are.
    pub geo: GeoConfig,
}

/// `cluster.*`
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ClusterConfig {
    /// How long a process may show no life before others take its partitions over; 0 where one process has everything.
    pub lease: Span,
}

/// `journal.*`
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct JournalConfig {
    /// Where the journal is: `kafka://HOST:PORT[,HOST:PORT]/TOPIC`; empty for segments in the data directory.
    pub url: String,
    /// How many bytes the segments may take before intake answers 503.
    pub max_bytes: Bytes,
    /// How many partitions the topic has, or is made with; 0 for what it has.
    pub partitions: u16,
    /// Properties of librdkafka.
    pub kafka: KafkaProperties,
}

impl JournalConfig {
    /// The topic, where one is set.
    ///
    /// # Errors
    /// Says what is wrong with the URL.
    pub fn topic(&self) -> anyhow::Result<Option<KafkaUrl>> {
        if self.url.is_empty() {
            return Ok(None);
        }
        let url = self
            .url
            .parse()
            .map_err(|reason| anyhow::anyhow!("journal.url is {:?}: {reason}; remove it for segments in the data directory", redacted(&self.url)))?;
        Ok(Some(url))
    }
}

/// Properties by name, written as librdkafka names them: `"security.protocol" = "SASL_SSL"`, `security.protocol = "SASL_SSL"`, or
/// `WEIR_JOURNAL__KAFKA__SECURITY__PROTOCOL`.
#[derive(Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "BTreeMap<String, serde_json::Value>")]
pub struct KafkaProperties(pub BTreeMap<String, String>);

impl TryFrom<BTreeMap<String, serde_json::Value>> for KafkaProperties {
    type Error = String;

    fn try_from(table: BTreeMap<String, serde_json::Value>) -> Result<Self, String> {
        fn flatten(name: String, value: serde_json::Value, properties: &mut BTreeMap<String, String>) -> Result<(), String> {
            let text = match value {
                serde_json::Value::Object(table) => {
                    return table.into_iter().try_for_each(|(part, value)| flatten(format!("{name}.{part}"), value, properties));
                }
                serde_json::Value::String(text) => text,
                serde_json::Value::Number(number) => number.to_string(),
                serde_json::Value::Bool(flag) => flag.to_string(),
                _ => return Err(format!("{name} is no text, number or truth value")),
            };
            properties.insert(name, text);
            Ok(())
        }
        let mut properties = BTreeMap::new();
        for (name, value) in table {
            flatten(name, value, &mut properties)?;
        }
        Ok(Self(properties))
    }
}

impl std::fmt::Debug for KafkaProperties {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let secret = |name: &str| ["password", "secret", "pem", "jaas", "token", "oauthbearer.config"].iter().any(|part| name.contains(part));
        f.debug_map().entries(self.0.iter().map(|(name, value)| (name, if secret(name) { "…" } else { value.as_str() }))).finish()
    }
}

/// `catalog.*`
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CatalogConfig {
    /// Where the catalog is, `postgres://…`; empty for SQLite in the data directory.
    pub url: SecretUrl,
}

impl CatalogConfig {
    /// Where the catalog is.
    pub fn location(&self, data: &DataDir) -> CatalogLocation {
        if self.url.0.is_empty() {
            CatalogLocation::Sqlite(data.catalog())
        } else {
            CatalogLocation::Postgres { url: self.url.0.clone(), key: data.secret_key() }
        }
    }
}

/// `store.*`
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StoreConfig {
    /// Where Parquet files are; empty for the data directory.
    pub url: String,
}

/// `commit.*`
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CommitConfig {
    /// How long rows may wait for a commit.
    pub max_age: Span,
    /// How many bytes of rows may wait for a commit.
    pub max_bytes: Bytes,
}

/// `query.*`
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct QueryConfig {
    /// Memory of all queries together.
    pub max_bytes: Bytes,
    /// Memory of one query; what can go to the disk does at its end.
    pub max_bytes_per_query: Bytes,
    /// Disk space of all that goes there.
    pub max_spill_bytes: Bytes,
    /// How long a query may run.
    pub max_time: Span,
    /// How many rows a query may return.
    pub max_rows: usize,
    /// How many queries may run at a time.
    pub max_concurrent: usize,
    /// How many of one organisation.
    pub max_concurrent_per_org: usize,
    /// How many with one token.
    pub max_concurrent_per_token: usize,
    /// How long a query waits for its turn before it is refused.
    pub max_wait: Span,
}

/// `geo.*`
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GeoConfig {
    /// A database of the places of addresses in MaxMind's format; empty for none.
    pub database: PathBuf,
}

impl GeoConfig {
    /// The database, where one is set. It is read into memory.
    ///
    /// # Errors
    /// Says which file cannot be used, and why.
    pub fn places(&self) -> anyhow::Result<Option<Places>> {
        if self.database.as_os_str().is_empty() {
            return Ok(None);
        }
        let named = || format!("geo.database {}", self.database.display());
        let bytes = std::fs::read(&self.database).with_context(|| format!("{} cannot be read: give the path of a .mmdb file", named()))?;
        Places::read(bytes).with_context(named).map(Some)
    }
}

/// `outbound.*`
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OutboundConfig {
    /// The networks that may be reached besides public addresses.
    pub allow: Networks,
}

/// `mail.*`
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MailConfig {
    /// The mail server; empty for none.
    pub url: SecretUrl,
    /// The address that mails come from.
    pub from: String,
}

impl StoreConfig {
    /// The folder that is set, if one is.
    ///
    /// # Errors
    /// Where it is no folder's absolute path.
    pub fn folder(&self) -> anyhow::Result<Option<PathBuf>> {
        if self.url.is_empty() {
            return Ok(None);
        }
        let path = self.url.strip_prefix("file://").unwrap_or(&self.url);
        if !path.starts_with('/') {
            bail!(
                "store.url is {:?}: this version of weir knows folders only, as /PATH or file:///PATH, which several processes can share; remove it for the data directory",
                redacted(&self.url)
            );
        }
        Ok(Some(PathBuf::from(path)))
    }
}

impl MailConfig {
    /// The mail server, where one is set.
    ///
    /// # Errors
    /// [`MailError`] names the setting that cannot be used.
    pub fn server(&self) -> Result<Option<Mail>, MailError> {
        if self.url.0.is_empty() { Ok(None) } else { Mail::new(&self.url.0, &self.from).map(Some) }
    }
}

/// A URL that may hold a password, which is not shown.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct SecretUrl(pub String);

impl std::fmt::Debug for SecretUrl {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{self}")
    }
}

impl std::fmt::Display for SecretUrl {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&redacted(&self.0))
    }
}

/// Networks, written `127.0.0.0/8, 10.1.0.0/16` or as a list of such texts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "OneOrMany", into = "String")]
pub struct Networks(pub Vec<IpNet>);

/// A list as TOML and the environment give it.
#[derive(Deserialize)]
#[serde(untagged)]
enum OneOrMany {
    One(String),
    Many(Vec<String>),
}

impl TryFrom<OneOrMany> for Networks {
    type Error = String;

    fn try_from(value: OneOrMany) -> Result<Self, String> {
        let text = match value {
            OneOrMany::One(text) => text,
            OneOrMany::Many(texts) => texts.join(","),
        };
        Reach::networks(&text).map(Networks).map_err(|e| e.to_string())
    }
}

impl From<Networks> for String {
    fn from(networks: Networks) -> Self {
        networks.0.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
    }
}

/// `lake.*`
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LakeConfig {
    /// How long replaced files stay for readers of older snapshots.
    pub grace: Span,
    /// How large a merged file becomes.
    pub file_bytes: Bytes,
    /// Memory of the maintenance.
    pub max_bytes: Bytes,
    /// Hundredths of a core that the maintenance may use.
    pub max_cpu_percent: u32,
}

/// A span of time, written `500ms`, `60s`, `5m` or `1h`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Span(pub Duration);

/// A number of bytes, written `64MiB`, `16GiB` or plainly.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Scalar", into = "String")]
pub struct Bytes(pub u64);

/// A number as TOML and the environment give it.
#[derive(Deserialize)]
#[serde(untagged)]
enum Scalar {
    Number(u64),
    Text(String),
}

impl TryFrom<String> for Span {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let (number, unit) = split_unit(&text).ok_or_else(|| format!("{text:?} is no span of time: write 500ms, 60s, 5m or 1h"))?;
        let milliseconds = match unit {
            "ms" => 1,
            "s" => 1_000,
            "m" => 60_000,
            "h" => 3_600_000,
            _ => return Err(format!("{text:?} is no span of time: write 500ms, 60s, 5m or 1h")),
        };
        number.checked_mul(milliseconds).map(|ms| Span(Duration::from_millis(ms))).ok_or_else(|| format!("{text:?} is too long"))
    }
}

impl From<Span> for String {
    fn from(span: Span) -> Self {
        format!("{}ms", span.0.as_millis())
    }
}

impl TryFrom<Scalar> for Bytes {
    type Error = String;

    fn try_from(value: Scalar) -> Result<Self, String> {
        let text = match value {
            Scalar::Number(bytes) => return Ok(Bytes(bytes)),
            Scalar::Text(text) => text,
        };
        let wrong = || format!("{text:?} is no number of bytes: write 1048576, 64MiB or 16GiB");
        let (number, unit) = split_unit(&text).ok_or_else(wrong)?;
        let factor = match unit {
            "" | "B" => 1,
            "KiB" => 1 << 10,
            "MiB" => 1 << 20,
            "GiB" => 1 << 30,
            "TiB" => 1u64 << 40,
            _ => return Err(wrong()),
        };
        number.checked_mul(factor).map(Bytes).ok_or_else(wrong)
    }
}

impl From<Bytes> for String {
    fn from(bytes: Bytes) -> Self {
        bytes.0.to_string()
    }
}

fn split_unit(text: &str) -> Option<(u64, &str)> {
    let text = text.trim();
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    Some((text[..digits].parse().ok()?, text[digits..].trim()))
}

impl Default for Config {
    fn default() -> Self {
        Self {
            data: PathBuf::from("weir-data"),
            http: SocketAddr::from(([127, 0, 0, 1], 9000)),
            flight: SocketAddr::from(([127, 0, 0, 1], 9001)),
            workers: 1,
            journal: JournalConfig { url: String::new(), max_bytes: Bytes(16 << 30), partitions: 0, kafka: KafkaProperties::default() },
            catalog: CatalogConfig { url: SecretUrl(String::new()) },
            store: StoreConfig { url: String::new() },
            commit: CommitConfig { max_age: Span(Duration::from_secs(60)), max_bytes: Bytes(64 << 20) },
            query: QueryConfig {
                max_bytes: Bytes(512 << 20),
                max_bytes_per_query: Bytes(256 << 20),
                max_spill_bytes: Bytes(10 << 30),
                max_time: Span(Duration::from_secs(60)),
                max_rows: 1_000_000,
                max_concurrent: 16,
                max_concurrent_per_org: 16,
                max_concurrent_per_token: 8,
                max_wait: Span(Duration::from_secs(5)),
            },
            outbound: OutboundConfig { allow: Networks(Vec::new()) },
            mail: MailConfig { url: SecretUrl(String::new()), from: String::new() },
            cluster: ClusterConfig { lease: Span(Duration::ZERO) },
            lake: LakeConfig { grace: Span(Duration::from_secs(3600)), file_bytes: Bytes(128 << 20), max_bytes: Bytes(96 << 20), max_cpu_percent: 50 },
            geo: GeoConfig { database: PathBuf::new() },
        }
    }
}

/// What flags say; they win over everything else.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Flags {
    /// `--data`
    #[serde(skip_serializing_if = "Option::is_none")]
    pub data: Option<PathBuf>,
    /// `--http`
    #[serde(skip_serializing_if = "Option::is_none")]
    pub http: Option<SocketAddr>,
    /// `--flight`
    #[serde(skip_serializing_if = "Option::is_none")]
    pub flight: Option<SocketAddr>,
}

/// Read where `--config` is not given, if it is there.
const DEFAULT_FILE: &str = "weir.toml";

impl Config {
    /// Reads the settings.
    ///
    /// # Errors
    /// Names the file, line and setting, or the variable, that cannot be used.
    pub fn load(file: Option<&Path>, flags: &Flags) -> anyhow::Result<Self> {
        let path = file.unwrap_or(Path::new(DEFAULT_FILE));
        let text = match std::fs::read_to_string(path) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound && file.is_none() => String::new(),
            Err(error) => return Err(error).with_context(|| format!("the configuration {} cannot be read", path.display())),
        };
        check_file(path, &text)?;
        let figment = Figment::from(Serialized::defaults(Config::default()))
            .merge(Toml::string(&text))
            .merge(Env::prefixed("WEIR_").split("__").filter(is_setting))
            .merge(Serialized::defaults(flags));
        let config: Config = figment.extract().map_err(|error| anyhow::anyhow!("{}", in_words(&error)))?;
        config.check()?;
        Ok(config)
    }

    fn check(&self) -> anyhow::Result<()> {
        if !(1..=64).contains(&self.workers) {
            bail!("workers is {}: use 1 to 64", self.workers);
        }
        if !(1..=100).contains(&self.lake.max_cpu_percent) {
            bail!("lake.max_cpu_percent is {}: use 1 to 100", self.lake.max_cpu_percent);
        }
        if self.lake.file_bytes.0 < 1 << 20 {
            bail!("lake.file_bytes is {}: use 1MiB or more", self.lake.file_bytes.0);
        }
        let catalog = &self.catalog.url;
        if !catalog.0.is_empty() && !["postgres://", "postgresql://"].iter().any(|scheme| catalog.0.starts_with(scheme)) {
            bail!("catalog.url is \"{catalog}\": write postgres://USER:PASSWORD@HOST:PORT/DATABASE, or remove the setting for SQLite in the data directory");
        }
        self.store.folder()?;
        if !self.cluster.lease.0.is_zero() {
            if self.journal.topic()?.is_none() {
                bail!("cluster.lease is set, but journal.url is not: several processes can share a topic of Kafka only");
            }
            if !(Duration::from_secs(1)..=Duration::from_secs(600)).contains(&self.cluster.lease.0) {
                bail!("cluster.lease is {}: use 1s to 10m", String::from(self.cluster.lease));
            }
        }
        if self.journal.topic()?.is_none() && (self.journal.partitions > 0 || !self.journal.kafka.0.is_empty()) {
            bail!("journal.partitions and journal.kafka are for a topic of Kafka: set journal.url = \"kafka://HOST:PORT/TOPIC\", or remove them");
        }
        if self.journal.partitions > 1024 {
            bail!("journal.partitions is {}: use 1 to 1024", self.journal.partitions);
        }
        self.mail.server()?;
        Ok(())
    }
}

/// The variables that are settings: `WEIR_DATA`, `WEIR_COMMIT__MAX_AGE`. Others that begin alike belong to other programs.
fn is_setting(key: &figment::value::UncasedStr) -> bool {
    let sections = ["journal", "catalog", "store", "commit", "query", "outbound", "mail", "lake", "cluster", "geo"];
    let key = key.as_str().to_ascii_lowercase();
    ["data", "http", "flight", "workers"].contains(&key.as_str())
        || sections.iter().any(|s| key.starts_with(&format!("{s}.")) || key.starts_with(&format!("{s}__")))
}

/// Checks a file by itself, so that an error can name its line.
fn check_file(path: &Path, text: &str) -> anyhow::Result<()> {
    let provider = Figment::from(Serialized::defaults(Config::default())).merge(Toml::string(text));
    match provider.extract::<Config>() {
        Ok(_) => Ok(()),
        Err(error) => {
            let unknown = unknown_field(&error).map(str::to_owned);
            let setting = error.path.iter().cloned().chain(unknown).collect::<Vec<_>>().join(".");
            let line = line_of(text, &error);
            let place = line.map_or_else(|| path.display().to_string(), |line| format!("{}:{line}", path.display()));
            let setting = if setting.is_empty() { String::new() } else { format!("{setting}: ") };
            bail!("{place}: {setting}{}", error.kind)
        }
    }
}

fn unknown_field(error: &figment::Error) -> Option<&str> {
    match &error.kind {
        figment::error::Kind::UnknownField(name, _) => Some(name),
        _ => None,
    }
}

/// The line of the setting that an error is about: that of its last key, or the one that the TOML parser names.
fn line_of(text: &str, error: &figment::Error) -> Option<usize> {
    if let Some(key) = unknown_field(error).or(error.path.last().map(String::as_str)) {
        let name = |line: &str| line.split('=').next().map(|k| k.trim().trim_start_matches('[').trim_end_matches(']').to_owned());
        let is_key = |line: &str| name(line).is_some_and(|name| name.rsplit('.').next() == Some(key));
        if let Some(index) = text.lines().position(is_key) {
            return Some(index + 1);
        }
    }
    let words = error.kind.to_string();
    words.split("line ").nth(1)?.split(|c: char| !c.is_ascii_digit()).next()?.parse().ok()
}

fn in_words(error: &figment::Error) -> String {
    let setting = error.path.join(".");
    format!("the setting {setting} (or WEIR_{}): {}", setting.replace('.', "__").to_ascii_uppercase(), error.kind)
}

/// A URL without what stands between `//` and `@`, and without the values of its parameters.
fn redacted(url: &str) -> String {
    let shown = match (url.find("://"), url.rfind('@')) {
        (Some(start), Some(end)) if start + 3 < end => format!("{}…{}", &url[..start + 3], &url[end..]),
        _ => url.to_owned(),
    };
    match shown.split_once('?') {
        Some((before, _)) => format!("{before}?…"),
        None => shown,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn load(text: &str) -> Result<Config, String> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("weir.toml");
        std::fs::write(&path, text).unwrap();
        Config::load(Some(&path), &Flags::default()).map_err(|e| format!("{e:#}").replace(&format!("{}", path.display()), "weir.toml"))
    }

    #[test]
    fn a_file_sets_what_it_names() {
        let config = load("http = \"127.0.0.1:7000\"\n[commit]\nmax_age = \"2s\"\nmax_bytes = \"8MiB\"\n").unwrap();
        assert_eq!((config.http.port(), config.commit.max_age.0, config.commit.max_bytes.0), (7000, Duration::from_secs(2), 8 << 20));
        assert_eq!(config.flight.port(), 9001);
    }

    #[test]
    fn what_is_wrong_is_named_with_its_line() {
        let check = |text: &str, want: &str| {
            let error = load(text).unwrap_err();
            assert!(error.contains(want), "{error}");
        };
        check("workers = 1\n[commit]\nmax_age = \"soon\"\n", "weir.toml:3: commit.max_age");
        check("\n\nhttp = 5\n", "weir.toml:3: http");
        check("[commit]\nmax_agee = \"2s\"\n", "weir.toml:2");
        check("\n[no_such_section]\n", "weir.toml:2: no_such_section");
        check("a = [\n", "weir.toml:");
        check("workers = 0\n", "workers is 0");
        check("[outbound]\nallow = \"127.0.0.0/8, here\"\n", "weir.toml:2: outbound.allow: \"here\" is no network");
        check("[mail]\nurl = \"smtp://127.0.0.1\"\n", "mail.from is \"\"");
        check("[mail]\nurl = \"http://127.0.0.1\"\nfrom = \"a@b.c\"\n", "mail.url cannot be used");
        check("[catalog]\nurl = \"mysql://me:secret@db/weir\"\n", "catalog.url is \"mysql://…@db/weir\"");
        check("[journal]\nurl = \"amqp://me:secret@log/weir\"\n", "journal.url is \"amqp://…@log/weir\"");
    }

    #[test]
    fn networks_are_a_text_or_a_list_and_passwords_are_not_shown() {
        for allow in ["\"127.0.0.0/8, 10.1.0.0/16\"", "[\"127.0.0.0/8\", \"10.1.0.0/16\"]"] {
            let config = load(&format!("[outbound]\nallow = {allow}\n")).unwrap();
            assert_eq!(String::from(config.outbound.allow), "127.0.0.0/8, 10.1.0.0/16");
        }
        let config = load("[mail]\nurl = \"smtps://me:hunter2@mail.example.org\"\nfrom = \"Weir <weir@example.org>\"\n").unwrap();
        assert!(config.mail.server().unwrap().is_some());
        let postgres = load("[catalog]\nurl = \"postgres://me:hunter2@db/weir?sslmode=require&password=hunter3\"\n").unwrap();
        let shown = format!("{postgres:?}");
        assert!(shown.contains("postgres://…@db/weir?…") && !shown.contains("hunter"), "{shown}");
        let shown = format!("{config:?}");
        assert!(shown.contains("smtps://…@mail.example.org") && !shown.contains("hunter2"), "{shown}");
    }

    #[test]
    fn a_topic_and_its_properties() {
        let url = "[journal]\nurl = \"kafka://a:9092,b:9092/weir\"\n";
        let config =
            load(&format!("{url}partitions = 8\n[journal.kafka]\n\"sasl.username\" = \"me\"\nsasl.password = \"hunter2\"\n\"linger.ms\" = 5\n")).unwrap();
        let topic = config.journal.topic().unwrap().unwrap();
        assert_eq!((topic.brokers.as_str(), topic.topic.as_str(), config.journal.partitions), ("a:9092,b:9092", "weir", 8));
        let properties: Vec<_> = config.journal.kafka.0.iter().map(|(name, value)| format!("{name}={value}")).collect();
        assert_eq!(properties, ["linger.ms=5", "sasl.password=hunter2", "sasl.username=me"]);
        let shown = format!("{config:?}");
        assert!(shown.contains("\"sasl.username\": \"me\"") && !shown.contains("hunter2"), "{shown}");
        let wrong = |text: &str, want: &str| {
            let error = load(text).unwrap_err();
            assert!(error.contains(want), "{error}");
        };
        wrong("[journal]\nurl = \"kafka://me:secret@a:1/t\"\n", "journal.url is \"kafka://…@a:1/t\"");
        wrong("[journal]\npartitions = 4\n", "are for a topic of Kafka");
        wrong(&format!("{url}partitions = 2000\n"), "use 1 to 1024");
        wrong(&format!("{url}[journal.kafka]\nlist = [1]\n"), "list is no text");
    }

    #[test]
    fn spans_and_sizes() {
        let span = |text: &str| Span::try_from(text.to_owned()).map(|s| s.0.as_millis()).ok();
        assert_eq!(
            [span("500ms"), span("60s"), span("5m"), span("1h"), span("1"), span("x")],
            [Some(500), Some(60_000), Some(300_000), Some(3_600_000), None, None]
        );
        let bytes = |text: &str| Bytes::try_from(Scalar::Text(text.to_owned())).map(|b| b.0).ok();
        assert_eq!(
            [bytes("64MiB"), bytes("16 GiB"), bytes("100"), bytes("1MB"), bytes("99999999TiB")],
            [Some(64 << 20), Some(16 << 30), Some(100), None, None]
        );
    }
}
