//! Email through an SMTP server (RFC 5321), with TLS for every connection that leaves the machine.

mod address;
mod options;

use std::fmt;
use std::time::Duration;

use lettre::message::header::{Header, HeaderName, HeaderValue};
use lettre::message::{Mailbox, MultiPart};
use lettre::transport::smtp::client::{Tls, TlsParameters, TlsParametersBuilder};
use lettre::{AsyncSmtpTransport, AsyncTransport, Message, Tokio1Executor};
use webhook_core::error::chain;
use webhook_core::masking::Masker;
use webhook_core::notifier::{DeliverError, Notification, Notifier};
use webhook_core::webhook::Channel;

use crate::message::{Messages, Template, TemplateError};
pub use options::{Encryption, SmtpOptions, SmtpOptionsError, SmtpUrlProblem};

/// Upper bound on the time to connect.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// Upper bound on the time for one mail, connecting included. A notifier has little more.
const TIMEOUT: Duration = Duration::from_secs(55);
/// Reply codes by which a server refuses this client, whatever the mail (RFC 4954 section 6).
const REFUSED_CREDENTIALS: [u16; 4] = [530, 534, 535, 538];

/// Sends emails: one mail for each recipient, each over its own connection.
///
/// The `Message-ID` is the delivery's id, the same over all tries, so mail systems can drop duplicates.
/// A permanent refusal (5xx) is not tried again; every other failure is. A failure to connect or encrypt, and
/// refused credentials, affect every mail, so deliveries wait until the server accepts one.
///
/// Domains may be internationalized (RFC 5890); the part before the `@` must be ASCII.
#[derive(Clone)]
pub struct SmtpNotifier {
    transport: AsyncSmtpTransport<Tokio1Executor>,
    from: Mailbox,
    messages: Messages,
    masker: Masker,
}

impl SmtpNotifier {
    /// Creates a notifier for this server. It reads the certificates that the machine trusts, and does not
    /// connect yet.
    ///
    /// Fails with [`SmtpOptionsError`] when a certificate of the options cannot be used, or when the sender
    /// is `@localhost` and the server is on another machine.
    pub fn new(options: SmtpOptions) -> Result<Self, SmtpOptionsError> {
        options.check_sender()?;
        let tls = |options: &SmtpOptions| {
            let builder = TlsParameters::builder(options.host.clone());
            let builder =
                options.roots.iter().cloned().fold(builder, TlsParametersBuilder::add_root_certificate);
            builder.build().map_err(|error| SmtpOptionsError::Certificate(chain(&error)))
        };
        let tls = match options.encryption {
            Encryption::None => Tls::None,
            Encryption::StartTls => Tls::Required(tls(&options)?),
            Encryption::Implicit => Tls::Wrapper(tls(&options)?),
        };
        let mut builder = AsyncSmtpTransport::<Tokio1Executor>::builder_dangerous(options.host.clone())
            .port(options.port)
            .timeout(Some(CONNECT_TIMEOUT))
            .hello_name(options.hello_name())
            .tls(tls);
        if let Some(credentials) = options.credentials() {
            builder = builder.credentials(credentials);
        }
        let masker = options.masker();
        Ok(Self { transport: builder.build(), from: options.from, messages: Messages::new()?, masker })
    }

    /// Replaces the templates.
    #[must_use]
    pub fn with_messages(mut self, messages: Messages) -> Self {
        self.messages = messages;
        self
    }

    fn mail(&self, news: &Notification) -> Result<Message, MailError> {
        let to = address::in_ascii(&news.recipient)?;
        let id = format!("<{}@{}>", news.delivery, self.from.email.domain());
        let text = self.messages.render(Template::Text, news)?;
        let html = self.messages.render(Template::Html, news)?;
        Ok(Message::builder()
            .from(self.from.clone())
            .to(Mailbox::new(None, to))
            .subject(self.messages.render(Template::Subject, news)?)
            .message_id(Some(id))
            .date_now()
            .header(AutoSubmitted)
            .multipart(MultiPart::alternative_plain_html(text, html))?)
    }
}

impl fmt::Debug for SmtpNotifier {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("SmtpNotifier").field("from", &self.from).finish_non_exhaustive()
    }
}

/// Error of building a mail.
#[derive(Debug, thiserror::Error)]
enum MailError {
    #[error("the recipient {0}")]
    Address(#[from] address::WrongAddress),
    #[error(transparent)]
    Template(#[from] TemplateError),
    #[error("the mail cannot be put together")]
    Mail(#[from] lettre::error::Error),
}

/// Header that marks an automatic mail, so no out-of-office reply comes back (RFC 3834).
#[derive(Clone)]
struct AutoSubmitted;

impl Header for AutoSubmitted {
    fn name() -> HeaderName {
        HeaderName::new_from_ascii_str("Auto-Submitted")
    }

    fn parse(_text: &str) -> Result<Self, Box<dyn std::error::Error + Send + Sync>> {
        Ok(Self)
    }

    fn display(&self) -> HeaderValue {
        HeaderValue::new(Self::name(), "auto-generated".to_owned())
    }
}

#[async_trait::async_trait]
impl Notifier for SmtpNotifier {
    fn channels(&self) -> &[Channel] {
        &[Channel::EMAIL]
    }

    fn check(&self, _channel: Channel, recipient: &str) -> Result<(), String> {
        address::in_ascii(recipient).map(drop).map_err(|wrong| format!("it {wrong}"))
    }

    async fn deliver(&self, notification: &Notification) -> Result<(), DeliverError> {
        let mail = self.mail(notification).map_err(DeliverError::permanent)?;
        match tokio::time::timeout(TIMEOUT, self.transport.send(mail)).await {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(error)) => {
                // The server's reply may repeat what it was sent.
                let said = self.masker.mask(chain(&error));
                let has_answered = error.is_transient() || error.is_response();
                let refuses_all =
                    error.status().is_some_and(|code| REFUSED_CREDENTIALS.contains(&code.into()));
                // The client itself reports what the server lacks, such as STARTTLS or a way to sign in.
                Err(if refuses_all || error.is_client() {
                    DeliverError::unreachable(said)
                } else if error.is_permanent() {
                    DeliverError::permanent(said)
                } else if !has_answered && !error.is_timeout() {
                    // A slow reply may be this recipient's fault only, but a broken connection affects all.
                    DeliverError::unreachable(said)
                } else {
                    DeliverError::retryable(said)
                })
            }
            Err(_) => {
                let seconds = TIMEOUT.as_secs();
                Err(DeliverError::retryable(format!("the mail server took longer than {seconds} s")))
            }
        }
    }
}
