//! Options of a store: a URL, and settings that the URL may carry too.

use std::str::FromStr;
use std::time::Duration;

use crate::endpoint::{Endpoint, InvalidOptions, Listen, OwnParameters, invalid, parsed, with_address};

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
/// | `listen` | behind a pooler that shares connections between transactions: the address `HOST[:PORT][/DATABASE]` of the database itself, or `off` | `on` |
///
/// A listening connection has the user, password and other parameters of the URL.
#[derive(Clone)]
pub struct PostgresOptions {
    pub(crate) endpoint: Endpoint,
    /// The address to listen at, if it is another one.
    pub(crate) listening: Option<Endpoint>,
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
            .field("endpoint", &self.endpoint)
            .field("listening", &self.listening)
            .field("schema", &self.schema)
            .field("connections", &self.connections)
            .finish_non_exhaustive()
    }
}

impl FromStr for PostgresOptions {
    type Err = InvalidOptions;

    fn from_str(text: &str) -> Result<Self, InvalidOptions> {
        let (url, own) = OwnParameters::take(parsed(text)?)?;
        let listening = match &own.listen {
            Listen::At(address) => Some(own.endpoint(with_address(url.clone(), address)?, None)?),
            Listen::On | Listen::Off => None,
        };
        let endpoint = own.endpoint(url, listening.as_ref())?;
        let options = Self {
            endpoint,
            listening,
            listens: own.listen != Listen::Off,
            schema: String::new(),
            connections: 10,
            name: format!("process {}", std::process::id()),
            timeout: Duration::from_secs(30),
        };
        let options = options.with_schema(own.schema.as_deref().unwrap_or("webhook"))?;
        Ok(match own.connections {
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

#[cfg(test)]
mod tests {
    use tokio_postgres::config::Host;

    use super::*;
    use crate::tls::{ClientFiles, Verification};

    fn options(text: &str) -> PostgresOptions {
        text.parse().unwrap()
    }

    #[test]
    fn remote_hosts_are_verified_and_local_ones_are_not_asked_for_tls() {
        assert_eq!(
            options("postgres://app@db.example.com/app").endpoint.tls.verification,
            Verification::Full
        );
        assert_eq!(options("postgres://app@10.0.0.7/app").endpoint.tls.verification, Verification::Full);
        for local in
            ["postgres://app@localhost/app", "postgres://app@127.0.0.1:5433/app", "postgres://app@[::1]/app"]
        {
            assert_eq!(options(local).endpoint.tls.verification, Verification::Off, "{local}");
        }
        let mixed = options("postgres://app@localhost,db.example.com/app");
        assert_eq!(mixed.endpoint.tls.verification, Verification::Full);
    }

    #[test]
    fn each_mode_of_libpq_is_read() {
        let with = |mode: &str| format!("postgres://app@db.example.com/app?sslmode={mode}").parse();
        let read = |mode: &str| with(mode).map(|options: PostgresOptions| options.endpoint.tls.verification);
        assert_eq!(read("disable"), Ok(Verification::Off));
        assert_eq!(read("require"), Ok(Verification::None));
        assert_eq!(read("require&sslrootcert=/a.pem"), Ok(Verification::Authority));
        assert_eq!(read("verify-ca"), Ok(Verification::Authority));
        assert_eq!(read("verify-full"), Ok(Verification::Full));
        for refused in ["prefer", "allow", "yes"] {
            assert!(read(refused).is_err(), "{refused}");
        }
        assert_eq!(
            options("postgres://localhost/a?sslmode=prefer").endpoint.tls.verification,
            Verification::Off
        );
    }

    #[test]
    fn own_parameters_are_taken_out_and_others_are_passed_on() {
        let text =
            "postgres://app:secret@localhost/app?schema=a_1&connections=4&connect_timeout=9&listen=off";
        let options = options(text);
        assert_eq!((options.schema.as_str(), options.connections, options.listens), ("a_1", 4, false));
        assert_eq!(options.endpoint.config.get_connect_timeout(), Some(&Duration::from_secs(9)));
        assert!(!format!("{options:?}").contains("secret"));
        let text = "postgres://localhost/app?schema=a&options=-c%20work_mem%3D8MB";
        assert_eq!(self::options(text).endpoint.config.get_options(), Some("-c work_mem=8MB"));
    }

    #[test]
    fn a_client_certificate_comes_with_its_key_and_over_tls() {
        let files = "sslcert=/c.pem&sslkey=/k.pem";
        let read = |parameters: &str| format!("postgres://app@localhost/app?{parameters}").parse();
        let read = |parameters: &str| read(parameters).map(|options: PostgresOptions| options.endpoint.tls);
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

    fn hosts(endpoint: &Endpoint) -> (Vec<Host>, Vec<u16>, Option<&str>) {
        let config = &endpoint.config;
        (config.get_hosts().to_vec(), config.get_ports().to_vec(), config.get_dbname())
    }

    #[test]
    fn another_address_to_listen_at_has_everything_else_from_the_url() {
        let text = "postgres://app:secret@127.0.0.1:6432/pooled?schema=a&connect_timeout=9&listen=db.example.com:5433/app";
        let read = options(text);
        let at = read.listening.as_ref().unwrap();
        assert_eq!(hosts(at), (vec![Host::Tcp("db.example.com".to_owned())], vec![5433], Some("app")));
        assert_eq!(at.config.get_user(), Some("app"));
        assert_eq!(at.config.get_password(), Some(&b"secret"[..]));
        assert_eq!(at.config.get_connect_timeout(), Some(&Duration::from_secs(9)));
        let pooled = hosts(&read.endpoint);
        assert_eq!(pooled, (vec![Host::Tcp("127.0.0.1".to_owned())], vec![6432], Some("pooled")));
        assert!(read.listens && !format!("{read:?}").contains("secret"));
        let read = options("postgres://app@pool/app?listen=%5B::1%5D");
        assert_eq!(hosts(&read.listening.unwrap()).2, Some("app"));
        let read = options("postgres:///app?user=app&host=/tmp/pool&port=6432&listen=localhost");
        assert_eq!(
            hosts(&read.listening.unwrap()),
            (vec![Host::Tcp("localhost".to_owned())], vec![5432], Some("app"))
        );
    }

    #[test]
    fn each_address_decides_about_tls_unless_a_mode_is_named() {
        let verified = |text: &str| {
            let read = options(text);
            (read.endpoint.tls.verification, read.listening.unwrap().tls.verification)
        };
        let of_local = "postgres://app@127.0.0.1:6432/app?listen=db.example.com";
        assert_eq!(verified(of_local), (Verification::Off, Verification::Full));
        let with_files = format!("{of_local}&sslrootcert=/a.pem&sslcert=/c.pem&sslkey=/k.pem");
        assert_eq!(verified(&with_files), (Verification::Off, Verification::Full));
        assert_eq!(options(&with_files).endpoint.tls.client, None);
        assert_eq!(
            verified(&format!("{of_local}&sslmode=verify-ca")),
            (Verification::Authority, Verification::Authority)
        );
        let of_remote = "postgres://app@pool.example.com/app?listen=127.0.0.1";
        assert_eq!(verified(of_remote), (Verification::Full, Verification::Off));
        let both_local = "postgres://app@127.0.0.1:6432/app?listen=127.0.0.1&sslrootcert=/a.pem";
        assert_eq!(verified(both_local), (Verification::Full, Verification::Full));
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
            "postgres://localhost/a?listen=u:canary@db",
            "postgres://localhost/a?listen=postgres%3A%2F%2Fu%3Acanary%40db",
            "postgres://localhost/a?listen=",
            "postgres://localhost/a?listen=db:x",
            "postgres://localhost/a?listen=db%3Fsslmode=disable",
            "postgres://localhost/a?listen=one,other",
        ] {
            let error = text.parse::<PostgresOptions>().unwrap_err();
            assert!(!error.to_string().contains("canary"), "{error}");
        }
    }
}
