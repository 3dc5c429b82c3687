//! Options of a store: a URL, and settings that the URL may carry too.

use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use tokio_postgres::config::Host;
use url::Url;

use crate::tls::{ClientFiles, TlsOptions, Verification};

/// Settings of a [`PostgresStore`](crate::PostgresStore), read from a URL and changed by methods.
///
/// ```
/// use webhook_postgres::PostgresOptions;
/// let options: PostgresOptions =
///     "postgres://app@db.example.com/app?sslrootcert=/etc/ssl/db.pem&schema=triggers".parse()?;
/// let options = options.with_connections(16);
/// # Ok::<(), webhook_postgres::InvalidOptions>(())
/// ```
///
/// Beside what libpq knows (host, port, user, password, dbname, application_name, connect_timeout, keepalives,
/// target_session_attrs), a URL may have:
///
/// | parameter | meaning | default |
/// |---|---|---|
/// | `sslmode` | `disable`, `require`, `verify-ca` or `verify-full`, as in libpq | `verify-full`; `disable` on this machine |
/// | `sslrootcert` | file of trusted certificates (PEM), or `system` | `system` |
/// | `sslcert` | file of the client certificate (PEM), with `sslkey` | |
/// | `sslkey` | file of its private key (PEM, without a password), which nobody else may read | |
/// | `schema` | schema that the store keeps to itself | `webhook` |
/// | `connections` | upper bound on connections, besides the one that listens | 10 |
/// | `listen` | `off` behind a pooler that shares connections between transactions | `on` |
#[derive(Clone)]
pub struct PostgresOptions {
    pub(crate) config: tokio_postgres::Config,
    pub(crate) tls: TlsOptions,
    pub(crate) schema: String,
    pub(crate) connections: usize,
    pub(crate) listens: bool,
    pub(crate) name: String,
    pub(crate) timeout: Duration,
}

impl std::fmt::Debug for PostgresOptions {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("PostgresOptions")
            .field("hosts", &self.config.get_hosts())
            .field("tls", &self.tls)
            .field("schema", &self.schema)
            .field("connections", &self.connections)
            .finish_non_exhaustive()
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

fn invalid<T>(reason: impl Into<String>) -> Result<T, InvalidOptions> {
    Err(InvalidOptions(reason.into()))
}

impl FromStr for PostgresOptions {
    type Err = InvalidOptions;

    fn from_str(text: &str) -> Result<Self, InvalidOptions> {
        let Ok(mut url) = Url::parse(text) else {
            return invalid("the database URL must look like postgres://user:password@host:5432/database");
        };
        if !matches!(url.scheme(), "postgres" | "postgresql") {
            return invalid("the database URL must start with postgres:// or postgresql://");
        }
        let pairs: Vec<(String, String)> =
            url.query_pairs().map(|(name, value)| (name.into_owned(), value.into_owned())).collect();
        let (mut mode, mut root, mut certificate, mut key) = (None, None, None, None);
        let (mut schema, mut connections, mut listens) = (None, None, true);
        for (name, value) in pairs {
            match name.as_str() {
                "sslmode" => mode = Some(value),
                "sslrootcert" => root = Some(value),
                "sslcert" => certificate = Some(value),
                "sslkey" => key = Some(value),
                "schema" => schema = Some(value),
                "connections" => match value.parse() {
                    Ok(number) => connections = Some(number),
                    Err(_) => return invalid("connections must be a number"),
                },
                "listen" => match value.as_str() {
                    "on" => listens = true,
                    "off" => listens = false,
                    _ => return invalid("listen must be on or off"),
                },
                _ => {}
            }
        }
        // The others stay as they are written: writing them again would turn a space into `+`.
        let is_other = |pair: &&str| !OWN.contains(&pair.split('=').next().unwrap_or_default());
        let others: Vec<&str> = url.query().unwrap_or_default().split('&').filter(is_other).collect();
        let others = others.join("&");
        url.set_query((!others.is_empty()).then_some(&others));
        let Ok(mut config) = url.as_str().parse::<tokio_postgres::Config>() else {
            return invalid("the database URL has a part that is not understood");
        };
        if config.get_connect_timeout().is_none() {
            config.connect_timeout(Duration::from_secs(5));
        }
        if config.get_application_name().is_none() {
            config.application_name("webhook");
        }
        let client = client_files(certificate, key)?;
        let has_files = root.is_some() || client.is_some();
        let verification = match verification(mode.as_deref(), root.is_some(), has_files, is_local(&config))?
        {
            Verification::Off if client.is_some() => {
                return invalid("sslcert needs TLS, which sslmode turns off");
            }
            verification => verification,
        };
        config.ssl_mode(match verification {
            Verification::Off => tokio_postgres::config::SslMode::Disable,
            _ => tokio_postgres::config::SslMode::Require,
        });
        let options = Self {
            config,
            tls: TlsOptions {
                verification,
                root_certificate: root.filter(|root| root != "system").map(PathBuf::from),
                client,
            },
            schema: String::new(),
            connections: 10,
            listens,
            name: format!("process {}", std::process::id()),
            timeout: Duration::from_secs(30),
        };
        let options = options.with_schema(schema.as_deref().unwrap_or("webhook"))?;
        Ok(match connections {
            Some(connections) => options.with_connections(connections),
            None => options,
        })
    }
}

impl PostgresOptions {
    /// Sets the schema, which is created where it is missing.
    ///
    /// # Errors
    /// [`InvalidOptions`] when the name is not `[a-z_][a-z0-9_]{0,47}`.
    pub fn with_schema(mut self, name: &str) -> Result<Self, InvalidOptions> {
        let first = |byte: u8| byte.is_ascii_lowercase() || byte == b'_';
        let is_name = name.len() <= 48
            && name.bytes().next().is_some_and(first)
            && name.bytes().all(|byte| first(byte) || byte.is_ascii_digit());
        if !is_name || name.starts_with("pg_") {
            return invalid("the schema must match [a-z_][a-z0-9_]{0,47} and not begin with pg_");
        }
        name.clone_into(&mut self.schema);
        Ok(self)
    }

    /// Sets the upper bound on connections, at least 3. One more listens.
    #[must_use]
    pub fn with_connections(mut self, connections: usize) -> Self {
        self.connections = connections.max(3);
        self
    }

    /// Sets the name of this process, which runs that it executes show.
    #[must_use]
    pub fn with_name(mut self, name: impl Into<String>) -> Self {
        self.name = plain_name(&name.into());
        self
    }

    /// Sets how long one statement may take, network included, before it fails and its connection is given up.
    #[must_use]
    pub fn with_timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }
}

/// Returns a name without control characters: PostgreSQL's text holds no NUL, and lines of notifications no tabs.
pub(crate) fn plain_name(name: &str) -> String {
    name.chars().filter(|letter| !letter.is_control()).collect()
}

/// Parameters of a URL that only this store knows, or that it reads in its own way.
const OWN: [&str; 7] = ["sslmode", "sslrootcert", "sslcert", "sslkey", "schema", "connections", "listen"];

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

#[cfg(test)]
mod tests {
    use super::*;

    fn options(text: &str) -> PostgresOptions {
        text.parse().unwrap()
    }

    #[test]
    fn remote_hosts_are_verified_and_local_ones_are_not_asked_for_tls() {
        assert_eq!(options("postgres://app@db.example.com/app").tls.verification, Verification::Full);
        assert_eq!(options("postgres://app@10.0.0.7/app").tls.verification, Verification::Full);
        for local in
            ["postgres://app@localhost/app", "postgres://app@127.0.0.1:5433/app", "postgres://app@[::1]/app"]
        {
            assert_eq!(options(local).tls.verification, Verification::Off, "{local}");
        }
        let mixed = options("postgres://app@localhost,db.example.com/app");
        assert_eq!(mixed.tls.verification, Verification::Full);
    }

    #[test]
    fn each_mode_of_libpq_is_read() {
        let with = |mode: &str| format!("postgres://app@db.example.com/app?sslmode={mode}").parse();
        let read = |mode: &str| with(mode).map(|options: PostgresOptions| options.tls.verification);
        assert_eq!(read("disable"), Ok(Verification::Off));
        assert_eq!(read("require"), Ok(Verification::None));
        assert_eq!(read("require&sslrootcert=/a.pem"), Ok(Verification::Authority));
        assert_eq!(read("verify-ca"), Ok(Verification::Authority));
        assert_eq!(read("verify-full"), Ok(Verification::Full));
        for refused in ["prefer", "allow", "yes"] {
            assert!(read(refused).is_err(), "{refused}");
        }
        assert_eq!(options("postgres://localhost/a?sslmode=prefer").tls.verification, Verification::Off);
    }

    #[test]
    fn own_parameters_are_taken_out_and_others_are_passed_on() {
        let text =
            "postgres://app:secret@localhost/app?schema=a_1&connections=4&connect_timeout=9&listen=off";
        let options = options(text);
        assert_eq!((options.schema.as_str(), options.connections, options.listens), ("a_1", 4, false));
        assert_eq!(options.config.get_connect_timeout(), Some(&Duration::from_secs(9)));
        assert!(!format!("{options:?}").contains("secret"));
        let text = "postgres://localhost/app?schema=a&options=-c%20work_mem%3D8MB";
        assert_eq!(self::options(text).config.get_options(), Some("-c work_mem=8MB"));
    }

    #[test]
    fn a_client_certificate_comes_with_its_key_and_over_tls() {
        let files = "sslcert=/c.pem&sslkey=/k.pem";
        let read = |parameters: &str| format!("postgres://app@localhost/app?{parameters}").parse();
        let read = |parameters: &str| read(parameters).map(|options: PostgresOptions| options.tls);
        let tls = read(files).unwrap();
        assert_eq!(tls.verification, Verification::Full);
        assert_eq!(tls.client, Some(ClientFiles { certificate: "/c.pem".into(), key: "/k.pem".into() }));
        assert_eq!(read(&format!("{files}&sslmode=require")).unwrap().verification, Verification::None);
        for (parameters, named) in [
            ("sslcert=/c.pem", "sslkey"),
            ("sslkey=/k.pem", "sslcert"),
            (&format!("{files}&sslmode=disable"), "sslmode"),
            (&format!("{files}&sslmode=prefer"), "sslmode"),
        ] {
            let error = read(parameters).unwrap_err().to_string();
            assert!(error.contains(named), "{parameters}: {error}");
        }
    }

    #[test]
    fn what_cannot_be_used_is_refused_without_repeating_it() {
        for text in [
            "",
            "mysql://localhost/a",
            "postgres://localhost/a?schema=A",
            "postgres://localhost/a?schema=pg_a",
            "postgres://localhost/a?schema=a%22b",
            "postgres://localhost/a?unknown=1",
            "postgres://u:canary@localhost/a?connections=x",
        ] {
            let error = text.parse::<PostgresOptions>().unwrap_err();
            assert!(!error.to_string().contains("canary"), "{error}");
        }
    }
}
