//! Where the mail server is and how to speak with it.

use std::fmt;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use lettre::message::Mailbox;
use lettre::transport::smtp::authentication::Credentials;
use lettre::transport::smtp::client::Certificate;
use percent_encoding::percent_decode_str;
use url::{Host, Url};
use zeroize::Zeroizing;

use crate::message::TemplateError;
use crate::secrets::Secrets;

/// How a connection is encrypted. Certificates are always checked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Encryption {
    /// Not at all.
    None,
    /// By STARTTLS (RFC 3207): a server that does not offer it gets neither credentials nor mail.
    StartTls,
    /// From the first byte (RFC 8314).
    Implicit,
}

/// Where the mail server is and how to speak with it. `Debug` hides the password.
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
    login: Option<Login>,
}

#[derive(Clone)]
struct Login {
    user: String,
    password: Zeroizing<String>,
}

/// Why a mail server cannot be used as asked. No message repeats the URL, since it may hold a password.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SmtpOptionsError {
    /// The URL is not one of a mail server.
    #[error("{0}; expected is smtp://[user:password@]host[:port] or smtps://…")]
    Url(&'static str),
    /// The sender is not an address.
    #[error("the sender must be an address such as webhooks@example.com or Name <webhooks@example.com>")]
    From(#[source] lettre::address::AddressError),
    /// A certificate cannot be used.
    #[error("the certificates cannot be used: {0}")]
    Certificate(String),
    /// A template is wrong.
    #[error(transparent)]
    Template(#[from] TemplateError),
}

impl SmtpOptions {
    /// Reads a URL. `smtps://` is TLS from the first byte (port 465 by default). `smtp://` is plain text to this
    /// machine (port 25), and STARTTLS, which is then required, to every other (port 587). User and password are
    /// percent-decoded.
    ///
    /// # Errors
    /// [`SmtpOptionsError::Url`] says what is wrong with it, without repeating it.
    pub fn from_url(url: &str) -> Result<Self, SmtpOptionsError> {
        let url = Url::parse(url).map_err(|_| SmtpOptionsError::Url("it is not a URL"))?;
        let host = match url.host() {
            Some(Host::Domain(name)) if !name.is_empty() => name.to_owned(),
            Some(Host::Ipv4(address)) => address.to_string(),
            Some(Host::Ipv6(address)) => address.to_string(),
            _ => return Err(SmtpOptionsError::Url("it names no host")),
        };
        let encryption = match url.scheme() {
            "smtps" => Encryption::Implicit,
            "smtp" if is_loopback(&host) => Encryption::None,
            "smtp" => Encryption::StartTls,
            _ => return Err(SmtpOptionsError::Url("its scheme is neither smtp nor smtps")),
        };
        if !matches!(url.path(), "" | "/") || url.query().is_some() || url.fragment().is_some() {
            return Err(SmtpOptionsError::Url("it has a path, a query or a fragment"));
        }
        let port = url.port().unwrap_or(match encryption {
            Encryption::None => 25,
            Encryption::StartTls => 587,
            Encryption::Implicit => 465,
        });
        let login = match (url.username(), url.password()) {
            ("", None) => None,
            ("", Some(_)) => return Err(SmtpOptionsError::Url("it has a password without a user")),
            (_, None) => return Err(SmtpOptionsError::Url("it has a user without a password")),
            (user, Some(password)) => {
                Some(Login { user: decoded(user)?, password: Zeroizing::new(decoded(password)?) })
            }
        };
        Ok(Self { host, port, encryption, from: sender("webhooks@localhost")?, roots: Vec::new(), login })
    }

    /// Sets who the mails are from: an address, or a name and an address. `webhooks@localhost` by default.
    ///
    /// # Errors
    /// [`SmtpOptionsError::From`].
    pub fn with_from(mut self, from: &str) -> Result<Self, SmtpOptionsError> {
        self.from = sender(from)?;
        Ok(self)
    }

    /// Sets how the connection is encrypted, such as STARTTLS to this machine as well.
    #[must_use]
    pub fn with_encryption(mut self, encryption: Encryption) -> Self {
        self.encryption = encryption;
        self
    }

    /// Trusts these certificates too, in PEM: those of a private authority.
    ///
    /// # Errors
    /// [`SmtpOptionsError::Certificate`] when there is none in it.
    pub fn with_root_certificates(mut self, pem: &[u8]) -> Result<Self, SmtpOptionsError> {
        self.roots.push(super::certificates(pem)?);
        Ok(self)
    }

    /// How the connection is encrypted.
    #[must_use]
    pub fn encryption(&self) -> Encryption {
        self.encryption
    }

    pub(super) fn credentials(&self) -> Option<Credentials> {
        let login = self.login.as_ref()?;
        Some(Credentials::new(login.user.clone(), login.password.to_string()))
    }

    /// The password in every form in which it goes over the wire (RFC 4616, and LOGIN).
    pub(super) fn secrets(&self) -> Secrets {
        let forms = self.login.iter().flat_map(|Login { user, password }| {
            let plain = BASE64_STANDARD.encode(format!("\0{user}\0{}", password.as_str()));
            [password.to_string(), BASE64_STANDARD.encode(password.as_bytes()), plain]
        });
        Secrets::new(forms)
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
    text.parse().map_err(SmtpOptionsError::From)
}

fn decoded(text: &str) -> Result<String, SmtpOptionsError> {
    let decoded = percent_decode_str(text).decode_utf8();
    decoded.map(Into::into).map_err(|_| SmtpOptionsError::Url("user and password must be UTF-8 text"))
}

/// Whether a host is this machine: what is sent there does not leave it.
pub(crate) fn is_loopback(host: &str) -> bool {
    host.eq_ignore_ascii_case("localhost")
        || host.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

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
        assert_eq!(options.secrets().mask(said), "500 what is AUTH PLAIN *** *** ***");
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
