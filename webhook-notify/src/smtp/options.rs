//! Options of the mail server and of the connection to it.

use std::fmt;
use std::net::Ipv4Addr;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use lettre::message::Mailbox;
use lettre::transport::smtp::authentication::Credentials;
use lettre::transport::smtp::client::Certificate;
use lettre::transport::smtp::extension::ClientId;
use percent_encoding::percent_decode_str;
use url::{Host, Url};
use webhook_core::error::{BoxError, chain};
use webhook_core::masking::Masker;
use zeroize::Zeroizing;

use super::address::in_ascii;
use crate::message::TemplateError;

/// Encryption of the connection. Certificates are always checked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Encryption {
    /// Plain text, for a server on this machine.
    None,
    /// STARTTLS (RFC 3207). A server that does not offer it gets neither credentials nor mail.
    StartTls,
    /// TLS from the first byte (RFC 8314).
    Implicit,
}

/// Address, credentials and encryption of a mail server. `Debug` hides the password.
///
/// ```
/// use webhook_notify::smtp::{Encryption, SmtpOptions};
/// let options = SmtpOptions::from_url("smtp://user:p%40ss@mail.example.com")?;
/// assert_eq!(options.encryption(), Encryption::StartTls);
/// assert!(!format!("{options:?}").contains("p@ss"));
/// assert_eq!(SmtpOptions::from_url("smtp://localhost:1025")?.encryption(), Encryption::None);
/// # Ok::<(), webhook_notify::smtp::SmtpOptionsError>(())
/// ```
#[derive(Clone)]
pub struct SmtpOptions {
    pub(super) host: String,
    pub(super) port: u16,
    pub(super) encryption: Encryption,
    pub(super) from: Mailbox,
    pub(super) roots: Vec<Certificate>,
    hello_name: Option<String>,
    login: Option<Login>,
}

#[derive(Clone)]
struct Login {
    user: String,
    password: Zeroizing<String>,
}

/// Problem of the URL of a mail server.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SmtpUrlProblem {
    /// The text is not a URL.
    #[error("it is not a URL")]
    NotAUrl,
    /// The URL has no host.
    #[error("it names no host")]
    NoHost,
    /// The scheme is unknown.
    #[error("its scheme is neither smtp nor smtps")]
    Scheme,
    /// More than a host, a port and a login is given.
    #[error("it has a path, a query or a fragment")]
    MoreThanAHost,
    /// The login lacks its user.
    #[error("it has a password without a user")]
    NoUser,
    /// The login lacks its password.
    #[error("it has a user without a password")]
    NoPassword,
    /// The login is not UTF-8 once it is decoded.
    #[error("user and password must be UTF-8 text")]
    LoginNotText,
}

/// Error of the SMTP configuration. No message repeats the URL, since it may hold a password.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SmtpOptionsError {
    /// The URL is not that of a mail server.
    #[error("{0}; expected is smtp://[user:password@]host[:port] or smtps://…")]
    Url(SmtpUrlProblem),
    /// The sender is not an address.
    #[error("the sender must be an address such as webhooks@example.com or Name <webhooks@example.com>")]
    From(#[source] BoxError),
    /// The sender's domain is this machine, and the mail server is on another.
    #[error("a mail server on another machine refuses the sender {0}; one of a domain of yours is needed")]
    LocalSender(String),
    /// The EHLO name is not a domain name.
    #[error("the name for EHLO must be a domain name such as mail.example.com")]
    HelloName,
    /// A certificate cannot be used.
    #[error("the certificates cannot be used: {0}")]
    Certificate(String),
    /// A template is invalid.
    #[error(transparent)]
    Template(#[from] TemplateError),
}

impl SmtpOptions {
    /// Parses the URL of a mail server.
    ///
    /// `smtps://` is TLS from the first byte, on port 465 by default. `smtp://` is plain text to this
    /// machine, on port 25, and requires STARTTLS to every other, on port 587.
    /// User and password are percent-decoded.
    ///
    /// Fails with [`SmtpOptionsError::Url`], which names the problem without repeating the URL.
    pub fn from_url(url: &str) -> Result<Self, SmtpOptionsError> {
        let url = Url::parse(url).map_err(|_| SmtpOptionsError::Url(SmtpUrlProblem::NotAUrl))?;
        let host = match url.host() {
            Some(Host::Domain(name)) if !name.is_empty() => name.to_owned(),
            Some(Host::Ipv4(address)) => address.to_string(),
            Some(Host::Ipv6(address)) => address.to_string(),
            _ => return Err(SmtpOptionsError::Url(SmtpUrlProblem::NoHost)),
        };
        let encryption = match url.scheme() {
            "smtps" => Encryption::Implicit,
            "smtp" if is_loopback(&host) => Encryption::None,
            "smtp" => Encryption::StartTls,
            _ => return Err(SmtpOptionsError::Url(SmtpUrlProblem::Scheme)),
        };
        if !matches!(url.path(), "" | "/") || url.query().is_some() || url.fragment().is_some() {
            return Err(SmtpOptionsError::Url(SmtpUrlProblem::MoreThanAHost));
        }
        let port = url.port().unwrap_or(match encryption {
            Encryption::None => 25,
            Encryption::StartTls => 587,
            Encryption::Implicit => 465,
        });
        let login = match (url.username(), url.password()) {
            ("", None) => None,
            ("", Some(_)) => return Err(SmtpOptionsError::Url(SmtpUrlProblem::NoUser)),
            (_, None) => return Err(SmtpOptionsError::Url(SmtpUrlProblem::NoPassword)),
            (user, Some(password)) => {
                Some(Login { user: decoded(user)?, password: Zeroizing::new(decoded(password)?) })
            }
        };
        Ok(Self {
            host,
            port,
            encryption,
            from: sender("webhooks@localhost")?,
            roots: Vec::new(),
            hello_name: None,
            login,
        })
    }

    /// Sets the sender: an address, or a name and an address.
    ///
    /// Default: `webhooks@localhost`, which only a server on this machine accepts.
    ///
    /// Fails with [`SmtpOptionsError::From`].
    pub fn with_from(mut self, from: &str) -> Result<Self, SmtpOptionsError> {
        self.from = sender(from)?;
        Ok(self)
    }

    /// Sets the name in the greeting (EHLO, RFC 5321 section 4.1.1.1).
    ///
    /// Default: the host name of this machine if it is a full domain name, otherwise the sender's domain.
    ///
    /// Fails with [`SmtpOptionsError::HelloName`].
    pub fn with_hello_name(mut self, name: &str) -> Result<Self, SmtpOptionsError> {
        if !is_domain(name) {
            return Err(SmtpOptionsError::HelloName);
        }
        self.hello_name = Some(name.to_owned());
        Ok(self)
    }

    /// Sets the encryption, for example STARTTLS to this machine as well.
    #[must_use]
    pub fn with_encryption(mut self, encryption: Encryption) -> Self {
        self.encryption = encryption;
        self
    }

    /// Trusts these certificates in addition, in PEM, such as those of a private authority.
    ///
    /// Fails with [`SmtpOptionsError::Certificate`] when `pem` contains none.
    pub fn with_root_certificates(mut self, pem: &[u8]) -> Result<Self, SmtpOptionsError> {
        self.roots.push(certificates(pem)?);
        Ok(self)
    }

    /// Returns the encryption of the connection.
    #[must_use]
    pub fn encryption(&self) -> Encryption {
        self.encryption
    }

    /// Refuses a sender that servers on other machines refuse.
    pub(super) fn check_sender(&self) -> Result<(), SmtpOptionsError> {
        let is_local = self.from.email.domain().eq_ignore_ascii_case("localhost");
        if is_local && !is_loopback(&self.host) {
            return Err(SmtpOptionsError::LocalSender(self.from.email.to_string()));
        }
        Ok(())
    }

    /// Returns the EHLO name. Many servers refuse a name without a dot, and most refuse `localhost`.
    pub(super) fn hello_name(&self) -> ClientId {
        let full = |name: &str| name.contains('.') && is_domain(name);
        let name = self.hello_name.clone().or_else(|| host_name().filter(|name| full(name)));
        let name = name.or_else(|| Some(self.from.email.domain().to_owned()).filter(|name| full(name)));
        name.map_or(ClientId::Ipv4(Ipv4Addr::LOCALHOST), ClientId::Domain)
    }

    pub(super) fn credentials(&self) -> Option<Credentials> {
        let login = self.login.as_ref()?;
        Some(Credentials::new(login.user.clone(), login.password.to_string()))
    }

    /// Returns a masker for the password, in every form that goes over the wire (RFC 4616, and LOGIN).
    pub(super) fn masker(&self) -> Masker {
        let forms = self.login.iter().flat_map(|Login { user, password }| {
            let plain = BASE64_STANDARD.encode(format!("\0{user}\0{}", password.as_str()));
            [password.to_string(), BASE64_STANDARD.encode(password.as_bytes()), plain]
        });
        Masker::new(forms)
    }
}

impl fmt::Debug for SmtpOptions {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { host, port, encryption, from, login, .. } = self;
        formatter
            .debug_struct("SmtpOptions")
            .field("host", host)
            .field("port", port)
            .field("encryption", encryption)
            .field("from", from)
            .field("authenticates", &login.is_some())
            .finish_non_exhaustive()
    }
}

fn sender(text: &str) -> Result<Mailbox, SmtpOptionsError> {
    let mailbox: Mailbox = text.parse().map_err(|error| SmtpOptionsError::From(BoxError::from(error)))?;
    let email = in_ascii(mailbox.email.as_ref()).map_err(|error| SmtpOptionsError::From(error.into()))?;
    Ok(Mailbox::new(mailbox.name, email))
}

/// Returns the host name of this machine.
fn host_name() -> Option<String> {
    rustix::system::uname().nodename().to_str().ok().map(str::to_owned)
}

/// Returns whether a name has the form of a domain name (RFC 1123 section 2.1).
fn is_domain(name: &str) -> bool {
    let is_label = |label: &str| {
        let inner = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-';
        (1..=63).contains(&label.len())
            && label.bytes().all(inner)
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    name.len() <= 253 && name.split('.').all(is_label)
}

fn decoded(text: &str) -> Result<String, SmtpOptionsError> {
    let decoded = percent_decode_str(text).decode_utf8();
    decoded.map(Into::into).map_err(|_| SmtpOptionsError::Url(SmtpUrlProblem::LoginNotText))
}

/// Returns whether a host is this machine, so that nothing sent to it leaves the machine.
pub(crate) fn is_loopback(host: &str) -> bool {
    host.eq_ignore_ascii_case("localhost")
        || host.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback())
}

/// Parses certificates in PEM (RFC 7468).
fn certificates(pem: &[u8]) -> Result<Certificate, SmtpOptionsError> {
    let is_pem = pem.windows(27).any(|part| part == b"-----BEGIN CERTIFICATE-----");
    let none = || SmtpOptionsError::Certificate("there is no certificate in PEM in it".to_owned());
    let found = is_pem.then(|| Certificate::from_pem(pem)).ok_or_else(none)?;
    found.map_err(|error| SmtpOptionsError::Certificate(chain(&error)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sender_of_this_machine_is_refused_for_a_server_on_another() {
        let options = |url: &str| SmtpOptions::from_url(url).unwrap();
        for url in ["smtp://localhost", "smtps://127.0.0.1", "smtp://[::1]:2525"] {
            assert!(options(url).check_sender().is_ok(), "{url}");
        }
        let remote = options("smtps://u:p@mail.example.com");
        let error = remote.check_sender().unwrap_err().to_string();
        assert!(error.contains("webhooks@localhost"), "{error}");
        assert!(remote.with_from("Reports <r@example.com>").unwrap().check_sender().is_ok());
    }

    #[test]
    fn the_server_is_greeted_with_a_full_name_or_an_address_literal() {
        let options = SmtpOptions::from_url("smtp://localhost").unwrap();
        match options.hello_name() {
            ClientId::Domain(name) => assert!(name.contains('.'), "{name}"),
            other => assert_eq!(other, ClientId::Ipv4(Ipv4Addr::LOCALHOST)),
        }
        let named = options.clone().with_hello_name("mail-1.example.com").unwrap();
        assert_eq!(named.hello_name(), ClientId::Domain("mail-1.example.com".to_owned()));
        for wrong in ["", "a b.example", "a..b", "-a.example", "x\r\nRSET", &"a".repeat(64), "müller.example"]
        {
            assert!(options.clone().with_hello_name(wrong).is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn an_internationalised_sender_is_written_in_ascii() {
        let options = SmtpOptions::from_url("smtp://localhost").unwrap();
        let options = options.with_from("Müller <reports@müller.example>").unwrap();
        assert_eq!(options.from.email.to_string(), "reports@xn--mller-kva.example");
        assert!(options.with_from("müller@example.com").is_err());
    }

    #[test]
    fn plain_text_goes_to_this_machine_only() {
        for (url, port, encryption) in [
            ("smtp://localhost", 25, Encryption::None),
            ("smtp://127.0.0.1:1025/", 1025, Encryption::None),
            ("smtp://[::1]:2525", 2525, Encryption::None),
            ("smtp://mail.example.com", 587, Encryption::StartTls),
            ("smtp://192.0.2.1:25", 25, Encryption::StartTls),
            ("smtp://localhost.example.com", 587, Encryption::StartTls),
            ("smtps://localhost", 465, Encryption::Implicit),
            ("smtps://u:p@mail.example.com:4650", 4650, Encryption::Implicit),
        ] {
            let options = SmtpOptions::from_url(url).unwrap();
            assert_eq!((options.port, options.encryption), (port, encryption), "{url}");
        }
    }

    #[test]
    fn a_url_that_is_wrong_is_not_repeated() {
        for url in [
            "canary",
            "http://u:canary@mail.example.com",
            "smtp://",
            "smtp://:canary@mail.example.com",
            "smtp://canary@mail.example.com",
            "smtp://u:canary@mail.example.com/inbox",
            "smtp://u:canary@mail.example.com?tls=none",
            "smtp://u:canary%ff@mail.example.com",
        ] {
            let error = SmtpOptions::from_url(url).unwrap_err();
            assert!(!format!("{error} {error:?}").contains("canary"), "{url}: {error}");
        }
    }

    #[test]
    fn user_and_password_are_decoded_and_masked_in_every_form() {
        let options = SmtpOptions::from_url("smtp://me%40example.com:p%3A%20w%C3%A9rd@localhost").unwrap();
        let login = options.login.as_ref().unwrap();
        assert_eq!((login.user.as_str(), login.password.as_str()), ("me@example.com", "p: wérd"));
        assert!(!format!("{options:?}").contains("wérd"));
        let plain = BASE64_STANDARD.encode("\0me@example.com\0p: wérd");
        let said = format!("500 what is AUTH PLAIN {plain} {} p: wérd", BASE64_STANDARD.encode("p: wérd"));
        assert_eq!(options.masker().mask(said), "500 what is AUTH PLAIN *** *** ***");
    }

    #[test]
    fn a_sender_is_an_address_with_or_without_a_name() {
        let options = SmtpOptions::from_url("smtp://localhost").unwrap();
        assert_eq!(options.from.to_string(), "webhooks@localhost");
        assert!(options.clone().with_from("Reports <r@example.com>").is_ok());
        for wrong in ["", "reports", "a@b@c <x", "r@example.com\r\nBcc: x@y.z"] {
            assert!(options.clone().with_from(wrong).is_err(), "{wrong:?}");
        }
        assert!(options.with_root_certificates(b"no PEM").is_err());
    }
}
