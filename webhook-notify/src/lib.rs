//! Email and Slack notifiers for inbound webhook triggers.
//!
//! Both implement the core's [`Notifier`](webhook_core::notifier::Notifier); a host gives its service those that it
//! has an integration for:
//!
//! ```no_run
//! # async fn build(
//! #     store: webhook_core::memory::MemoryStore, executor: webhook_core::memory::ScriptedExecutor,
//! # ) -> Result<(), Box<dyn std::error::Error>> {
//! use webhook_core::Webhooks;
//! use webhook_notify::slack::SlackNotifier;
//! use webhook_notify::smtp::{SmtpNotifier, SmtpOptions};
//!
//! let smtp = SmtpOptions::from_url("smtps://user:pass%20word@mail.example.com")?;
//! let webhooks = Webhooks::builder()
//!     .store(store)
//!     .executor(executor)
//!     .notifier(SmtpNotifier::new(smtp.with_from("Reports <reports@example.com>")?)?)
//!     .notifier(SlackNotifier::with_token(&std::env::var("SLACK_TOKEN")?)?)
//!     .build()
//!     .await?;
//! # Ok(())
//! # }
//! ```
//!
//! What they say comes from [templates](message), which a host may replace. When a delivery is tried again, and when
//! it is given up, is decided by the core's outbox; a notifier only says whether another try may help.
//!
//! TLS is rustls with ring, and certificates are checked against those that the machine trusts: an administrator who
//! adds a company's own authority there (or names it in `SSL_CERT_FILE`) has done so for these notifiers as well.

pub mod message;
#[cfg(feature = "slack")]
pub mod slack;
#[cfg(feature = "smtp")]
pub mod smtp;
