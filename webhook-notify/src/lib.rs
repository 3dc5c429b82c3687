//! Email and Slack notifiers for inbound webhook triggers.
//!
//! Both implement the core's [`Notifier`](webhook_core::notifier::Notifier). A host gives its service the
//! ones that it has configured:
//!
//! ```
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let (slack_token, store) = ("xoxb-1", webhook_core::memory::MemoryStore::new());
//! # let executor = webhook_testing::ScriptedExecutor::new([]);
//! use webhook_core::Webhooks;
//! use webhook_notify::slack::SlackNotifier;
//! use webhook_notify::smtp::{SmtpNotifier, SmtpOptions};
//!
//! let smtp = SmtpOptions::from_url("smtps://user:pass%20word@mail.example.com")?;
//! let webhooks = Webhooks::builder()
//!     .store(store)
//!     .executor(executor)
//!     .notifier(SmtpNotifier::new(smtp.with_from("Reports <reports@example.com>")?)?)
//!     .notifier(SlackNotifier::with_token(slack_token)?)
//!     .build()
//!     .await?;
//! # Ok(())
//! # }
//! ```
//!
//! The texts come from [templates](message), which a host may replace.
//! A notifier only says whether another try may help. The core's outbox decides when a delivery is tried
//! again, and when it is given up.
//!
//! TLS is rustls with ring. Certificates are checked against those that the machine trusts, so a company's
//! own authority in the system's store, or in `SSL_CERT_FILE`, holds for these notifiers too.
//!
//! # Features
//!
//! | feature | adds | default |
//! |---|---|---|
//! | `smtp` | `smtp`: email | yes |
//! | `slack` | `slack`: Slack messages | yes |

pub mod message;
#[cfg(feature = "slack")]
pub mod slack;
#[cfg(feature = "smtp")]
pub mod smtp;
