//! Options from the command line and the environment.

use std::ffi::OsString;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::error::ErrorKind;
use clap::{Parser, ValueEnum};
use tracing_subscriber::filter::Targets;
use url::Url;
use webhook_core::network::{Network, Networks};
use webhook_notify::slack::SlackNotifier;
use webhook_notify::smtp::SmtpNotifier;
use webhook_postgres::PostgresOptions;
use webhook_warp::{AdminToken, InvalidAdminToken};

use crate::command_line::{CommandLineError, Secret};
use crate::integrations;

/// Folder of the bundled workflows, relative to the workspace.
pub(crate) const BUNDLED_WORKFLOWS: &str = "examples/workflows";

/// Default sender of mails.
const SMTP_FROM: &str = "webhooks@localhost";
/// Base URL of Slack's own Web API.
const SLACK_API: &str = "https://slack.com/api/";

/// Checked options of the server.
#[derive(Debug, Clone)]
pub(crate) struct Options {
    /// Address to listen on. Port 0 is any free port.
    pub(crate) listen: SocketAddr,
    /// Folder of the sled store, the keys and the artifacts.
    pub(crate) data: PathBuf,
    /// Folder of the workflow files.
    pub(crate) workflows: PathBuf,
    /// Base of all URLs, if it is not the address listened on.
    base_url: Option<Url>,
    /// Networks of the proxies in front of the server.
    pub(crate) trusted_proxies: Networks,
    /// Store for the runs.
    pub(crate) store: StoreChoice,
    /// Event that an acknowledged call survives.
    pub(crate) durability: DurabilityChoice,
    /// Name of this server, which runs show when several servers share a database.
    pub(crate) name: String,
    /// Time for which a claim of a run holds unless it is renewed.
    pub(crate) lease: Duration,
    /// Number of concurrent runs; 0 executes none, `None` is the library's default.
    pub(crate) workers: Option<usize>,
    /// Admin token, if it is given and not created.
    pub(crate) admin_token: Option<Secret>,
    /// File of the key that seals tokens.
    pub(crate) token_key: PathBuf,
    /// True if the server starts although the key of tokens in the store is lost.
    pub(crate) forget_unknown_keys: bool,
    /// Notifier for email, if configured.
    pub(crate) smtp: Option<SmtpNotifier>,
    /// Notifier for Slack, if configured.
    pub(crate) slack: Option<SlackNotifier>,
    /// Time for which runs may continue after a signal to stop.
    pub(crate) shutdown_timeout: Duration,
    /// Python that runs notebooks, if it is given and not searched for.
    pub(crate) python: Option<PathBuf>,
    /// Upper bound on the artifacts of all runs together, in bytes.
    pub(crate) artifact_quota: u64,
    /// Upper bound on the bytes in the store; above it, new runs are refused.
    pub(crate) store_quota: u64,
    /// Filter of log lines.
    pub(crate) log: Targets,
    /// True if the server checks the store and ends, instead of serving.
    pub(crate) verify: bool,
}

/// Store for the runs.
#[derive(Debug, Clone)]
pub(crate) enum StoreChoice {
    /// A database in the data folder.
    Sled,
    /// Memory; the data is lost when the server ends.
    Memory,
    /// A PostgreSQL database, which several servers may share.
    Postgres(Box<PostgresOptions>),
}

/// Event that an acknowledged call survives.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum DurabilityChoice {
    /// Loss of power.
    Power,
    /// Death of the process.
    Process,
}

/// The example server: starts workflows when their webhooks are called.
#[derive(Parser)]
#[command(name = "server", version)]
struct Flags {
    /// Address to listen on
    #[arg(long, env = "WEBHOOK_LISTEN", value_name = "ADDRESS:PORT", default_value = "127.0.0.1:8080")]
    listen: SocketAddr,
    /// Folder of the sled store, the keys and the artifacts; created if it does not exist
    #[arg(long, env = "WEBHOOK_DATA", value_name = "DIR", default_value = "data")]
    data: PathBuf,
    /// Folder of the workflow files
    #[arg(long, env = "WEBHOOK_WORKFLOWS", value_name = "DIR", default_value = BUNDLED_WORKFLOWS)]
    workflows: PathBuf,
    /// Base of all URLs, such as https://hooks.example.com [default: the address listened on]
    #[arg(long, env = "WEBHOOK_BASE_URL", hide_env_values = true, value_name = "URL")]
    base_url: Option<String>,
    /// Network of proxies in front of the server, such as 10.0.0.0/8; the address of a client is then read from
    /// Forwarded or X-Forwarded-For. May be given several times; the variable has commas between them
    #[arg(long, env = "WEBHOOK_TRUSTED_PROXY", value_name = "CIDR", value_delimiter = ',')]
    trusted_proxy: Vec<Network>,
    /// Store for the runs: sled (a database in the data folder), memory (lost when the server ends), or the URL of a
    /// PostgreSQL database, such as postgres://user@host/database. Several servers may share such a database.
    /// Process lists show the URL, so prefer --store-file for one with a password [default: sled]
    #[arg(long, env = "WEBHOOK_STORE", hide_env_values = true, value_name = "STORE")]
    store: Option<OsString>,
    /// File with the store, as for --store
    #[arg(long, env = "WEBHOOK_STORE_FILE", value_name = "FILE", conflicts_with = "store")]
    store_file: Option<PathBuf>,
    /// Name of this server, which runs show when several servers share a database [default: host and process id]
    #[arg(long, env = "WEBHOOK_NAME", value_name = "NAME")]
    name: Option<String>,
    /// Seconds after which another server executes the runs of a server that has died
    #[arg(long, env = "WEBHOOK_LEASE_S", value_name = "SECONDS", default_value = "30",
          value_parser = clap::value_parser!(u32).range(1..=3_600))]
    lease_s: u32,
    /// Event that an acknowledged call survives: the loss of power, or the end of the process
    #[arg(long, env = "WEBHOOK_DURABILITY", value_name = "WHAT", default_value = "power")]
    durability: DurabilityChoice,
    /// Check the whole store, list what is damaged, and exit: 0 if it is whole, 1 if records are damaged or
    /// missing, 2 if it cannot be opened. Like every start, it recovers the store first, so check a copy
    #[arg(long, env = "WEBHOOK_VERIFY")]
    verify: bool,
    /// Number of concurrent runs; 0 accepts calls and executes nothing [default: 16]
    #[arg(long, env = "WEBHOOK_WORKERS", value_name = "N", allow_hyphen_values = true, value_parser = clap::value_parser!(u16).range(0..=400))]
    workers: Option<u16>,
    /// Token for the management API; process lists show it, so prefer --admin-token-file [default: created at
    /// the first start]
    #[arg(long, env = "WEBHOOK_ADMIN_TOKEN", hide_env_values = true, value_name = "TOKEN")]
    admin_token: Option<OsString>,
    /// File with the token for the management API
    #[arg(long, env = "WEBHOOK_ADMIN_TOKEN_FILE", value_name = "FILE", conflicts_with = "admin_token")]
    admin_token_file: Option<PathBuf>,
    /// File of the key that seals tokens; created at the first start [default: token.key in the data folder]
    #[arg(long, env = "WEBHOOK_TOKEN_KEY", value_name = "FILE")]
    token_key: Option<PathBuf>,
    /// Start although the token key is lost: old URLs work, but cannot be copied until they are refreshed,
    /// and queued runs with secret parameters fail
    #[arg(long, env = "WEBHOOK_FORGET_UNKNOWN_KEYS")]
    forget_unknown_keys: bool,
    /// Mail server, as smtp://user:password@host:port or smtps://…; process lists show it, so prefer
    /// --smtp-file
    #[arg(long, env = "WEBHOOK_SMTP", hide_env_values = true, value_name = "URL")]
    smtp: Option<OsString>,
    /// File with the URL of the mail server
    #[arg(long, env = "WEBHOOK_SMTP_FILE", value_name = "FILE", conflicts_with = "smtp")]
    smtp_file: Option<PathBuf>,
    /// Sender of mails [default: webhooks@localhost]
    #[arg(long, env = "WEBHOOK_SMTP_FROM", value_name = "ADDRESS")]
    smtp_from: Option<String>,
    /// File of certificates (PEM) of authorities to trust for the mail server, besides those that this
    /// machine trusts
    #[arg(long, env = "WEBHOOK_SMTP_CA_FILE", value_name = "FILE")]
    smtp_ca_file: Option<PathBuf>,
    /// Token of a Slack bot; process lists show it, so prefer --slack-token-file
    #[arg(long, env = "WEBHOOK_SLACK_TOKEN", hide_env_values = true, value_name = "TOKEN")]
    slack_token: Option<OsString>,
    /// File with the token of a Slack bot
    #[arg(long, env = "WEBHOOK_SLACK_TOKEN_FILE", value_name = "FILE", conflicts_with = "slack_token")]
    slack_token_file: Option<PathBuf>,
    /// Base URL of Slack's Web API [default: https://slack.com/api/]
    #[arg(long, env = "WEBHOOK_SLACK_API", hide_env_values = true, value_name = "URL")]
    slack_api: Option<String>,
    /// Seconds for which runs may continue after a signal to stop
    #[arg(long, env = "WEBHOOK_SHUTDOWN_TIMEOUT", value_name = "SECONDS", default_value = "30",
          value_parser = clap::value_parser!(u32).range(0..=86_400))]
    shutdown_timeout: u32,
    /// Python that runs notebooks: the folder of a virtual environment, or an interpreter [default: .venv
    /// here, the active environment, or python3]
    #[arg(long, env = "WEBHOOK_PYTHON", value_name = "PATH")]
    python: Option<PathBuf>,
    /// Upper bound on the artifacts of all runs together, in MiB
    #[arg(long, env = "WEBHOOK_ARTIFACT_QUOTA_MIB", value_name = "MIB", default_value = "10240")]
    artifact_quota_mib: u32,
    /// Upper bound on the bytes in the store, in MiB, above which new runs are refused; its files take two to
    /// three times as much
    #[arg(long, env = "WEBHOOK_STORE_QUOTA_MIB", value_name = "MIB", default_value = "10240")]
    store_quota_mib: u32,
    /// Filter of the log lines on standard error, such as info, trace or info,webhook_core=debug
    #[arg(long, env = "WEBHOOK_LOG", value_name = "FILTER", default_value = "info", value_parser = log_filter)]
    log: Targets,
}

impl Options {
    /// Parses the command line and the environment of this process.
    pub(crate) fn from_process() -> Result<Self, CommandLineError> {
        Self::parse(std::env::args_os())
    }

    /// Parses a command line, whose first part is the program, and the environment of this process.
    pub(crate) fn parse(
        arguments: impl IntoIterator<Item = impl Into<OsString> + Clone>,
    ) -> Result<Self, CommandLineError> {
        let flags = Flags::try_parse_from(arguments).map_err(|error| command_line_error(&error))?;
        let admin_token = match (flags.admin_token, flags.admin_token_file) {
            (Some(token), _) => Some(admin_token(token.to_str(), "--admin-token")?),
            (None, Some(file)) => Some(admin_token_from(&file)?),
            (None, None) => None,
        };
        let smtp = given("--smtp", flags.smtp, flags.smtp_file)?;
        needs("--smtp-from", flags.smtp_from.is_some(), "--smtp", smtp.is_some())?;
        needs("--smtp-ca-file", flags.smtp_ca_file.is_some(), "--smtp", smtp.is_some())?;
        let from = flags.smtp_from.as_deref().unwrap_or(SMTP_FROM);
        let smtp = smtp.map(|url| integrations::smtp(&url, from, flags.smtp_ca_file.as_deref()));
        let slack = given("--slack-token", flags.slack_token, flags.slack_token_file)?;
        needs("--slack-api", flags.slack_api.is_some(), "--slack-token", slack.is_some())?;
        let api = flags.slack_api.as_deref().unwrap_or(SLACK_API);
        let slack = slack.map(|token| integrations::slack(&token, api));
        let name = flags.name.unwrap_or_else(default_name);
        let store = match given("--store", flags.store, flags.store_file)? {
            Some(store) => self::store(store.expose(), &name)?,
            None => StoreChoice::Sled,
        };
        if matches!(store, StoreChoice::Postgres(_)) && flags.token_key.is_none() {
            let message =
                "--token-key: it is needed with PostgreSQL, since all servers of a database share one key";
            return Err(CommandLineError::Usage(message.to_owned()));
        }
        Ok(Self {
            smtp: smtp.transpose()?,
            slack: slack.transpose()?,
            listen: flags.listen,
            token_key: flags.token_key.unwrap_or_else(|| flags.data.join("token.key")),
            forget_unknown_keys: flags.forget_unknown_keys,
            data: flags.data,
            workflows: flags.workflows,
            base_url: flags.base_url.as_deref().map(base_url).transpose()?,
            trusted_proxies: Networks::new(flags.trusted_proxy),
            store,
            name,
            lease: Duration::from_secs(flags.lease_s.into()),
            durability: flags.durability,
            workers: flags.workers.map(usize::from),
            admin_token,
            shutdown_timeout: Duration::from_secs(flags.shutdown_timeout.into()),
            python: flags.python,
            artifact_quota: u64::from(flags.artifact_quota_mib) << 20,
            store_quota: u64::from(flags.store_quota_mib) << 20,
            log: flags.log,
            verify: flags.verify,
        })
    }

    /// Returns the base of all URLs, once the server listens on `bound`. It ends with a slash only if it has
    /// no path.
    pub(crate) fn base_url(&self, bound: SocketAddr) -> Result<Url, url::ParseError> {
        match &self.base_url {
            Some(url) => Ok(url.clone()),
            None => format!("http://{}", reachable(bound)).parse(),
        }
    }

    /// Returns whether the bundled workflows are used.
    pub(crate) fn uses_bundled_workflows(&self) -> bool {
        self.workflows == Path::new(BUNDLED_WORKFLOWS)
    }
}

/// Returns an address that a client on this machine can call, since the unspecified address cannot be called.
fn reachable(bound: SocketAddr) -> SocketAddr {
    match bound.ip() {
        IpAddr::V4(address) if address.is_unspecified() => (Ipv4Addr::LOCALHOST, bound.port()).into(),
        IpAddr::V6(address) if address.is_unspecified() => (Ipv6Addr::LOCALHOST, bound.port()).into(),
        _ => bound,
    }
}

/// Parses the base URL. Messages do not repeat the value: it may be a trigger URL with its token.
fn base_url(text: &str) -> Result<Url, CommandLineError> {
    let wrong = |what: &str| Err(CommandLineError::Usage(format!("--base-url: {what}")));
    match text.parse::<Url>() {
        Err(error) => wrong(&format!("it is not a URL such as https://hooks.example.com: {error}")),
        Ok(url) if !matches!(url.scheme(), "http" | "https") => {
            wrong("it must start with http:// or https://")
        }
        Ok(url) if !url.username().is_empty() || url.password().is_some() => {
            wrong("it must have no user name and no password")
        }
        Ok(url) if url.query().is_some() || url.fragment().is_some() => {
            wrong("it must have no query and no fragment")
        }
        Ok(url) => Ok(url),
    }
}

/// Checks a log filter. Its parser takes any text for the name of a target, so typing errors are caught here.
fn log_filter(text: &str) -> Result<Targets, String> {
    let is_target = |target: &str| {
        let allowed = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b':' | b'-');
        !target.is_empty() && target.bytes().all(allowed)
    };
    // A target without a level would hide everything else.
    let is_part = |part: &str| match part.split_once('=') {
        Some((target, level)) => is_target(target) && !level.is_empty(),
        None => is_target(part),
    };
    if !text.split(',').all(is_part) {
        let expected = "it must be levels and target=level parts with commas between them and no spaces";
        return Err(format!("{expected}, such as info,webhook_core=debug"));
    }
    text.parse().map_err(|error: tracing_subscriber::filter::ParseError| error.to_string())
}

/// Parses the choice of a store. Messages do not repeat the value: the URL of a database may hold a password.
fn store(text: &str, name: &str) -> Result<StoreChoice, CommandLineError> {
    match text {
        "sled" => Ok(StoreChoice::Sled),
        "memory" => Ok(StoreChoice::Memory),
        url if url.starts_with("postgres://") || url.starts_with("postgresql://") => {
            match url.parse::<PostgresOptions>() {
                Ok(options) => Ok(StoreChoice::Postgres(Box::new(options.with_name(name)))),
                Err(error) => Err(CommandLineError::Usage(format!("--store: {error}"))),
            }
        }
        _ => Err(CommandLineError::Usage("--store: must be sled, memory or postgres://…".to_owned())),
    }
}

/// Returns the name of this machine and the number of this process.
fn default_name() -> String {
    let host = rustix::system::uname().nodename().to_string_lossy().into_owned();
    format!("{host}-{}", std::process::id())
}

fn admin_token_from(file: &Path) -> Result<Secret, CommandLineError> {
    let flag = "--admin-token-file";
    admin_token(Some(secret_in(file, flag)?.expose()), flag)
}

/// Returns a secret that was given directly or in a file.
fn given(
    flag: &str,
    itself: Option<OsString>,
    file: Option<PathBuf>,
) -> Result<Option<Secret>, CommandLineError> {
    match (itself, file) {
        (Some(text), _) => match text.into_string() {
            Ok(text) => Ok(Some(Secret(text))),
            Err(_) => Err(CommandLineError::Usage(format!("{flag}: it must be UTF-8 text"))),
        },
        (None, Some(file)) => secret_in(&file, &format!("{flag}-file")).map(Some),
        (None, None) => Ok(None),
    }
}

/// Refuses a flag that has no meaning without another one.
fn needs(flag: &str, is_given: bool, other: &str, is_other_given: bool) -> Result<(), CommandLineError> {
    if is_given && !is_other_given {
        return Err(CommandLineError::Usage(format!("{flag}: it needs {other} or {other}-file")));
    }
    Ok(())
}

/// Reads the secret in a file, which may end with a line end.
fn secret_in(file: &Path, flag: &str) -> Result<Secret, CommandLineError> {
    match std::fs::read_to_string(file) {
        Ok(text) => Ok(Secret(text.trim_end_matches(['\r', '\n']).to_owned())),
        Err(error) => {
            Err(CommandLineError::Usage(format!("{flag}: {} cannot be read: {error}", file.display())))
        }
    }
}

/// Accepts only a token that a client can send in an `Authorization` header.
fn admin_token(text: Option<&str>, flag: &str) -> Result<Secret, CommandLineError> {
    match text {
        Some(text) => match AdminToken::new(text) {
            Ok(_) => Ok(Secret(text.to_owned())),
            Err(error) => Err(CommandLineError::Usage(format!("{flag}: {error}"))),
        },
        None => Err(CommandLineError::Usage(format!("{flag}: {}", InvalidAdminToken::NotVisible))),
    }
}

fn command_line_error(error: &clap::Error) -> CommandLineError {
    let text = error.to_string();
    if matches!(error.kind(), ErrorKind::DisplayHelp | ErrorKind::DisplayVersion) {
        return CommandLineError::Information(text);
    }
    // The text after the first empty line is advice on how to get help.
    let lines = text.lines().take_while(|line| !line.trim().is_empty()).map(str::trim);
    let line = lines.collect::<Vec<_>>().join(" ");
    CommandLineError::Usage(line.strip_prefix("error: ").unwrap_or(&line).to_owned())
}

#[cfg(test)]
mod tests;
