//! Addresses of the database, from a URL.

use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use tokio_postgres::config::{Host, SslMode};
use url::Url;

use crate::tls::{ClientFiles, TlsOptions, Verification};

/// One address of the database.
#[derive(Clone)]
pub(crate) struct Endpoint {
    pub(crate) config: tokio_postgres::Config,
    pub(crate) tls: TlsOptions,
}

impl Endpoint {
    fn is_local(&self) -> bool {
        is_local(&self.config)
    }
}

impl std::fmt::Debug for Endpoint {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut shown = formatter.debug_struct("Endpoint");
        shown.field("hosts", &self.config.get_hosts()).field("ports", &self.config.get_ports());
        shown.field("tls", &self.tls).finish_non_exhaustive()
    }
}

/// Reason why a URL or a setting cannot be used. It repeats neither password nor URL.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InvalidOptions(String);

impl std::fmt::Display for InvalidOptions {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str(&self.0)
    }
}

impl std::error::Error for InvalidOptions {}

pub(crate) fn invalid<T>(reason: impl Into<String>) -> Result<T, InvalidOptions> {
    Err(InvalidOptions(reason.into()))
}

pub(crate) fn parsed(text: &str) -> Result<Url, InvalidOptions> {
    let Ok(url) = Url::parse(text) else {
        return invalid("the database URL must look like postgres://user:password@host:5432/database");
    };
    if !matches!(url.scheme(), "postgres" | "postgresql") {
        return invalid("the database URL must start with postgres:// or postgresql://");
    }
    Ok(url)
}

/// How notifications are got.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Listen {
    On,
    Off,
    /// At another address of the same database.
    At(Url),
}

impl FromStr for Listen {
    type Err = InvalidOptions;

    fn from_str(text: &str) -> Result<Self, InvalidOptions> {
        match text {
            "on" => return Ok(Self::On),
            "off" => return Ok(Self::Off),
            _ => {}
        }
        let url = Url::parse(&format!("postgres://{text}")).ok();
        let is_address = |url: &Url| {
            let has_host = url.host_str().is_some_and(|host| !host.is_empty());
            let has_more = text.contains(['@', '?', '#', ',']);
            has_host && !has_more
        };
        match url.filter(is_address) {
            Some(url) => Ok(Self::At(url)),
            // It may hold a password, so it is not repeated.
            None => invalid(
                "listen must be on, off or an address HOST[:PORT][/DATABASE]; user and password are those of the URL",
            ),
        }
    }
}

/// Returns the URL with another host and port, and another database if the address names one.
pub(crate) fn with_address(mut url: Url, address: &Url) -> Result<Url, InvalidOptions> {
    let is_set = url.set_host(address.host_str()).is_ok() && url.set_port(address.port()).is_ok();
    if !is_set {
        return invalid("listen cannot be used with this database URL");
    }
    let mut replaced = vec!["host", "hostaddr", "port"];
    if !matches!(address.path(), "" | "/") {
        url.set_path(address.path());
        replaced.push("dbname");
    }
    Ok(without(url, &replaced))
}

/// Returns the URL without these parameters. The others stay as they are written: writing them again would turn a space
/// into `+`.
fn without(mut url: Url, names: &[&str]) -> Url {
    let is_other = |pair: &&str| !names.contains(&pair.split('=').next().unwrap_or_default());
    let others: Vec<&str> = url.query().unwrap_or_default().split('&').filter(is_other).collect();
    let others = others.join("&");
    url.set_query((!others.is_empty()).then_some(&others));
    url
}

/// Parameters of a URL that only this store knows, or that it reads in its own way.
pub(crate) struct OwnParameters {
    mode: Option<String>,
    root_certificate: Option<String>,
    client: Option<ClientFiles>,
    pub(crate) schema: Option<String>,
    pub(crate) connections: Option<usize>,
    pub(crate) listen: Listen,
}

impl OwnParameters {
    const NAMES: [&str; 7] =
        ["sslmode", "sslrootcert", "sslcert", "sslkey", "schema", "connections", "listen"];

    /// Takes them out of a URL.
    pub(crate) fn take(url: Url) -> Result<(Url, Self), InvalidOptions> {
        let (mut mode, mut root_certificate, mut certificate, mut key) = (None, None, None, None);
        let (mut schema, mut connections, mut listen) = (None, None, Listen::On);
        for (name, value) in url.query_pairs() {
            match &*name {
                "sslmode" => mode = Some(value.into_owned()),
                "sslrootcert" => root_certificate = Some(value.into_owned()),
                "sslcert" => certificate = Some(value.into_owned()),
                "sslkey" => key = Some(value.into_owned()),
                "schema" => schema = Some(value.into_owned()),
                "connections" => match value.parse() {
                    Ok(number) => connections = Some(number),
                    Err(_) => return invalid("connections must be a number"),
                },
                "listen" => listen = value.parse()?,
                _ => {}
            }
        }
        let client = client_files(certificate, key)?;
        let own = Self { mode, root_certificate, client, schema, connections, listen };
        Ok((without(url, &Self::NAMES), own))
    }

    /// One address of the database, and the checks of its certificate.
    ///
    /// Without `sslmode`, each address decides for itself. The files are for the one to listen at where only that one is
    /// on another machine: then the first is a pooler on this one.
    pub(crate) fn endpoint(
        &self,
        url: Url,
        listening: Option<&Endpoint>,
    ) -> Result<Endpoint, InvalidOptions> {
        let Ok(mut config) = url.as_str().parse::<tokio_postgres::Config>() else {
            return invalid("the database URL has a part that is not understood");
        };
        if config.get_connect_timeout().is_none() {
            config.connect_timeout(Duration::from_secs(5));
        }
        if config.get_application_name().is_none() {
            config.application_name("webhook");
        }
        let has_root = self.root_certificate.is_some();
        let is_local = is_local(&config);
        let are_for_other =
            self.mode.is_none() && is_local && listening.is_some_and(|other| !other.is_local());
        let has_files = (has_root || self.client.is_some()) && !are_for_other;
        let verification = verification(self.mode.as_deref(), has_root, has_files, is_local)?;
        let client = self.client.clone().filter(|_| !are_for_other);
        if verification == Verification::Off && client.is_some() {
            return invalid("sslcert needs TLS, which sslmode turns off");
        }
        config.ssl_mode(match verification {
            Verification::Off => SslMode::Disable,
            _ => SslMode::Require,
        });
        let root_certificate = self.root_certificate.as_ref().filter(|root| *root != "system");
        let root_certificate = root_certificate.map(PathBuf::from);
        Ok(Endpoint { config, tls: TlsOptions { verification, root_certificate, client } })
    }
}

fn client_files(
    certificate: Option<String>,
    key: Option<String>,
) -> Result<Option<ClientFiles>, InvalidOptions> {
    match (certificate, key) {
        (Some(certificate), Some(key)) => {
            Ok(Some(ClientFiles { certificate: certificate.into(), key: key.into() }))
        }
        (Some(_), None) => invalid("sslkey is missing: sslcert needs the file of its private key"),
        (None, Some(_)) => invalid("sslcert is missing: sslkey needs the file of its certificate"),
        (None, None) => Ok(None),
    }
}

/// Returns whether all hosts are this machine.
fn is_local(config: &tokio_postgres::Config) -> bool {
    config.get_hosts().iter().all(|host| match host {
        Host::Tcp(name) => {
            name == "localhost" || name.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback())
        }
        Host::Unix(_) => true,
    })
}

/// The checks that a mode asks for. Files for TLS mean that it is wanted, also on this machine.
fn verification(
    mode: Option<&str>,
    has_root: bool,
    has_files: bool,
    is_local: bool,
) -> Result<Verification, InvalidOptions> {
    match mode {
        None if is_local && !has_files => Ok(Verification::Off),
        None | Some("verify-full") => Ok(Verification::Full),
        Some("disable") => Ok(Verification::Off),
        Some("verify-ca") => Ok(Verification::Authority),
        // With a certificate at hand, libpq checks it.
        Some("require") if has_root => Ok(Verification::Authority),
        Some("require") => Ok(Verification::None),
        Some("prefer" | "allow") if is_local => Ok(Verification::Off),
        Some("prefer" | "allow") => invalid(
            "sslmode prefer and allow fall back to plain text, which is no protection; use verify-full, or disable",
        ),
        Some(_) => invalid("sslmode must be disable, require, verify-ca or verify-full"),
    }
}
