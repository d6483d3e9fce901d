//! The command line.

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};
use weir_protocol::EventId;
use weir_protocol::deletion::{Target, UserRef};
use weir_protocol::encoding::Encoding;

use crate::commands;
use crate::config::{Config, Flags};

/// Takes what Sentry SDKs send and answers SQL about it.
#[derive(Debug, Parser)]
#[command(name = "weir", version, about, long_about = None)]
pub struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Serve: take events, keep the tables, answer queries
    Serve {
        #[command(flatten)]
        common: Common,
        /// Where SDKs send to [default: 127.0.0.1:9000]
        #[arg(long, value_name = "ADDR")]
        http: Option<SocketAddr>,
        /// Where SQL is asked, over Arrow Flight SQL [default: 127.0.0.1:9001]
        #[arg(long, value_name = "ADDR")]
        flight: Option<SocketAddr>,
    },
    /// Create and list projects
    Project {
        #[command(subcommand)]
        action: ProjectAction,
    },
    /// Create, list and revoke access tokens
    Token {
        #[command(subcommand)]
        action: TokenAction,
    },
    /// Delete an event, an issue or what names a user
    Delete {
        #[command(subcommand)]
        target: DeleteTarget,
    },
    /// Ask SQL
    Query(QueryArgs),
    /// Follow the rows of a subscription: all that hold, then each change, one JSON object a line
    Subscribe(SubscribeArgs),
    /// Send recorded envelopes with fresh ids and times, and say how that went
    Load(LoadArgs),
    /// Check requirements, configuration and reachability
    Check {
        #[command(flatten)]
        common: Common,
    },
}

/// Which data directory, by flag or by configuration.
#[derive(Debug, Clone, Args)]
pub struct Common {
    /// The configuration file [default: weir.toml, where it is there]
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// The data directory [default: ./weir-data]
    #[arg(long, value_name = "DIR")]
    pub data: Option<PathBuf>,
}

impl Common {
    /// The settings with these flags.
    pub fn load(&self) -> anyhow::Result<Config> {
        self.load_with(None, None)
    }

    fn load_with(&self, http: Option<SocketAddr>, flight: Option<SocketAddr>) -> anyhow::Result<Config> {
        Config::load(self.config.as_deref(), &Flags { data: self.data.clone(), http, flight })
    }
}

#[derive(Debug, Subcommand)]
enum ProjectAction {
    /// Create a project and print its DSN
    Create {
        /// Lower-case letters, digits and hyphens
        name: String,
        #[command(flatten)]
        common: Common,
    },
    /// Change a project
    Set {
        /// Its name
        name: String,
        /// How many days its rows are kept, those that are there already too
        #[arg(long, value_name = "DAYS")]
        retention_days: u16,
        #[command(flatten)]
        common: Common,
    },
    /// List the projects with their DSNs
    List {
        /// How to write the list
        #[arg(long, value_enum, default_value_t = ListFormat::Table)]
        format: ListFormat,
        #[command(flatten)]
        common: Common,
    },
}

#[derive(Debug, Subcommand)]
enum DeleteTarget {
    /// Events or transactions, with everything that came with them
    Event {
        /// Their ids
        #[arg(required = true, value_name = "EVENT_ID")]
        ids: Vec<EventId>,
        #[command(flatten)]
        from: DeleteFrom,
    },
    /// Issues with their events; what arrives later starts new ones
    Issue {
        /// Their short ids (SHOP-1A) or ids
        #[arg(required = true, value_name = "SHORT_ID|GROUP_ID")]
        ids: Vec<String>,
        #[command(flatten)]
        from: DeleteFrom,
    },
    /// Every event, span and log that names a user
    User {
        /// An id or e-mail address, or id:…, email:…, username:… or ip:…
        #[arg(required = true, value_name = "USER")]
        users: Vec<UserRef>,
        #[command(flatten)]
        from: DeleteFrom,
    },
}

/// Where to delete from, and how fast it must leave the disk.
#[derive(Debug, Clone, Args)]
pub struct DeleteFrom {
    /// The project
    #[arg(long, value_name = "SLUG")]
    pub project: String,
    /// Remove the bytes at once, and do not wait for lake.grace: readers of older snapshots outside weir may fail
    #[arg(long)]
    pub now: bool,
    /// The data directory
    #[command(flatten)]
    pub common: Common,
}

#[derive(Debug, Subcommand)]
enum TokenAction {
    /// Create a token and print it, once
    Create {
        /// What to call it
        name: String,
        /// A project that it may read; can be given more than once [default: all]
        #[arg(long = "project", value_name = "SLUG")]
        projects: Vec<String>,
        #[command(flatten)]
        common: Common,
    },
    /// List the tokens, without the tokens themselves
    List {
        #[command(flatten)]
        common: Common,
    },
    /// Revoke a token by its name
    Revoke {
        /// Its name
        name: String,
        #[command(flatten)]
        common: Common,
    },
}

/// How a list is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum ListFormat {
    /// Columns
    Table,
    /// A JSON array
    Json,
}

/// How rows are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum RowFormat {
    /// Columns in a frame
    Table,
    /// Comma-separated values with a header
    Csv,
    /// A JSON array of objects
    Json,
}

/// What `weir query` is given.
#[derive(Debug, Clone, Args)]
pub struct QueryArgs {
    /// The statement
    pub sql: String,
    /// How to write the rows
    #[arg(long, value_enum, default_value_t = RowFormat::Table)]
    pub format: RowFormat,
    /// The server
    #[arg(long, value_name = "URL", env = "WEIR_URL", default_value = "grpc://127.0.0.1:9001")]
    pub url: String,
    /// The access token
    #[arg(long, value_name = "TOKEN", env = "WEIR_TOKEN", hide_env_values = true)]
    pub token: Option<String>,
    /// Accepted beside the others so that every command takes it; a query goes over the network
    #[arg(long, value_name = "DIR", hide = true)]
    pub data: Option<PathBuf>,
}

/// `weir subscribe`
#[derive(Debug, Args)]
pub struct SubscribeArgs {
    /// The subscription
    pub name: String,
    /// The server
    #[arg(long, value_name = "URL", env = "WEIR_URL", default_value = "grpc://127.0.0.1:9001")]
    pub url: String,
    /// The access token
    #[arg(long, value_name = "TOKEN", env = "WEIR_TOKEN", hide_env_values = true)]
    pub token: Option<String>,
    /// Accepted beside the others so that every command takes it; the rows come over the network
    #[arg(long, value_name = "DIR", hide = true)]
    pub data: Option<PathBuf>,
}

/// What `weir load` is given.
#[derive(Debug, Clone, Args)]
pub struct LoadArgs {
    /// Where to send to; several share the load
    #[arg(long = "dsn", value_name = "DSN", required = true)]
    pub dsns: Vec<String>,
    /// A folder of recorded requests: NAME.envelope with NAME.meta.json
    #[arg(long, value_name = "DIR")]
    pub corpus: PathBuf,
    /// Send only the requests whose name this expression matches
    #[arg(long, value_name = "REGEX", default_value = "")]
    pub only: String,
    /// Envelopes a second, sent at their moment whether or not the server keeps up [default: as fast as it goes]
    #[arg(long, value_name = "N")]
    pub rate: Option<f64>,
    /// Connections that are kept alive
    #[arg(long, value_name = "N", default_value_t = 8, value_parser = connections)]
    pub connections: usize,
    /// How long to send [default: 10, without --count]
    #[arg(long, value_name = "N")]
    pub seconds: Option<f64>,
    /// How many envelopes to send
    #[arg(long, value_name = "N")]
    pub count: Option<u64>,
    /// How to compress bodies; several share the load, but for `recorded`, which stands alone
    #[arg(long = "encoding", value_enum, default_value = "recorded")]
    pub encodings: Vec<LoadEncoding>,
    /// Spread errors over about this many issues, the first the most frequent [default: as recorded]
    #[arg(long, value_name = "N", default_value_t = 0, hide_default_value = true)]
    pub issues: u64,
    /// Spread events over this many users [default: as recorded]
    #[arg(long, value_name = "N", default_value_t = 0, hide_default_value = true)]
    pub users: u64,
    /// Spread events over this many releases [default: as recorded]
    #[arg(long, value_name = "N", default_value_t = 0, hide_default_value = true)]
    pub releases: u64,
    /// Ask afterwards, over Flight SQL, whether the tables have what was accepted; nothing else may send meanwhile
    #[arg(long)]
    pub verify: bool,
    /// Ask that often a second for an event that was just accepted, and say how long it took to be there
    #[arg(long, value_name = "N")]
    pub probes: Option<f64>,
    /// The server that is asked
    #[arg(long, value_name = "URL", env = "WEIR_URL", default_value = "grpc://127.0.0.1:9001")]
    pub url: String,
    /// The access token to ask with
    #[arg(long, value_name = "TOKEN", env = "WEIR_TOKEN", hide_env_values = true)]
    pub token: Option<String>,
    /// How to write the result
    #[arg(long, value_enum, default_value_t = LoadFormat::Text)]
    pub format: LoadFormat,
    /// Accepted beside the others so that every command takes it; a load goes over the network
    #[arg(long, value_name = "DIR", hide = true)]
    pub data: Option<PathBuf>,
}

/// More connections would run out of descriptors before they ran out of anything else.
const CONNECTIONS_MAX: usize = 4096;

fn connections(text: &str) -> Result<usize, String> {
    text.parse().ok().filter(|n| (1..=CONNECTIONS_MAX).contains(n)).ok_or_else(|| format!("give a number from 1 to {CONNECTIONS_MAX}"))
}

/// How the result of `weir load` is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum LoadFormat {
    /// Lines for people
    Text,
    /// A JSON object
    Json,
}

/// How bodies are compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum LoadEncoding {
    /// Each as its SDK did
    Recorded,
    /// Not at all
    Identity,
    /// gzip
    Gzip,
    /// zlib
    Deflate,
    /// Brotli
    Br,
    /// Zstandard
    Zstd,
}

impl LoadEncoding {
    /// The encoding; `None` for that of the recording.
    pub fn encoding(self) -> Option<Encoding> {
        match self {
            Self::Recorded => None,
            Self::Identity => Some(Encoding::Identity),
            Self::Gzip => Some(Encoding::Gzip),
            Self::Deflate => Some(Encoding::Deflate),
            Self::Br => Some(Encoding::Br),
            Self::Zstd => Some(Encoding::Zstd),
        }
    }
}

impl Cli {
    /// Threads of the async runtime: the doors and the queries need more than a one-off command.
    pub fn async_threads(&self) -> usize {
        let cores = std::thread::available_parallelism().map_or(2, |n| n.get());
        match &self.command {
            Command::Serve { .. } => cores.clamp(2, 16),
            Command::Load(args) => cores.min(args.connections),
            _ => 1,
        }
    }

    /// Runs the command.
    pub async fn run(self) -> anyhow::Result<()> {
        match self.command {
            Command::Serve { common, http, flight } => commands::serve::run(common.load_with(http, flight)?).await,
            Command::Project { action: ProjectAction::Create { name, common } } => commands::project::create(&common.load()?, &name).await,
            Command::Project { action: ProjectAction::Set { name, retention_days, common } } => {
                commands::project::set_retention(&common.load()?, &name, retention_days).await
            }
            Command::Project { action: ProjectAction::List { format, common } } => commands::project::list(&common.load()?, format).await,
            Command::Token { action: TokenAction::Create { name, projects, common } } => commands::token::create(&common.load()?, &name, &projects).await,
            Command::Token { action: TokenAction::List { common } } => commands::token::list(&common.load()?).await,
            Command::Token { action: TokenAction::Revoke { name, common } } => commands::token::revoke(&common.load()?, &name).await,
            Command::Delete { target } => {
                let (targets, from) = match target {
                    DeleteTarget::Event { ids, from } => (ids.into_iter().map(Target::Event).collect(), from),
                    DeleteTarget::Issue { ids, from } => (ids.iter().map(|id| commands::delete::issue(id)).collect(), from),
                    DeleteTarget::User { users, from } => (users.into_iter().map(Target::User).collect(), from),
                };
                commands::delete::run(&from.common.load()?, targets, &from.project, from.now).await
            }
            Command::Query(args) => commands::query::run(&args).await,
            Command::Subscribe(args) => commands::subscribe::run(&args).await,
            Command::Load(args) => commands::load::run(&args).await,
            Command::Check { common } => commands::check::run(&common).await,
        }
    }
}
