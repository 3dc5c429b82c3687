//! The [`Notifier`] trait: sends the news of a run's end to people.
//!
//! A complete implementation:
//!
//! ```
//! use webhook_core::notifier::*;
//! use webhook_core::webhook::Channel;
//!
//! struct PrintEmail;
//!
//! #[async_trait::async_trait]
//! impl Notifier for PrintEmail {
//!     fn channels(&self) -> &[Channel] {
//!         &[Channel::EMAIL]
//!     }
//!     fn check(&self, _channel: Channel, recipient: &str) -> Result<(), String> {
//!         if recipient.contains('@') { Ok(()) } else { Err("an address with an @ is expected".into()) }
//!     }
//!     async fn deliver(&self, notification: &Notification) -> Result<(), DeliverError> {
//!         println!("to {}: {} {}", notification.recipient, notification.title, notification.run.state().as_str());
//!         Ok(())
//!     }
//! }
//! # let _: &dyn Notifier = &PrintEmail;
//! ```

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use futures_util::FutureExt;
use serde::{Deserialize, Serialize};

use crate::clock::milliseconds;
use crate::error::{BoxError, InvalidName, NameKind};
use crate::id::{DeliveryId, RunId};
use crate::run::Run;
use crate::webhook::{Channel, EventKind};

/// Sends notifications over one or more channels.
#[async_trait::async_trait]
pub trait Notifier: Send + Sync + 'static {
    /// Returns the channels it serves. Settings that name a channel without a notifier are refused.
    ///
    /// The list stays the same for the life of the notifier.
    fn channels(&self) -> &[Channel];

    /// Checks the form of a recipient when settings are made.
    ///
    /// Looks at the text only and does not block.
    ///
    /// # Errors
    /// The expected form, in words for people.
    fn check(&self, channel: Channel, recipient: &str) -> Result<(), String>;

    /// Sends one notification to one recipient, within 60 s.
    ///
    /// It is called at least once for each delivery, with two exceptions: the outbox had no room, or the
    /// channel was unreachable for days.
    /// After a retryable error it is called again, after a growing pause. The delivery's id stays the same,
    /// so it can serve as a message id.
    /// A failure never changes the run.
    ///
    /// Fails with [`DeliverError`], which says whether another try may help.
    ///
    /// # Cancel safety
    /// It is dropped after 60 s, or when the patience of a shutdown ends; the delivery is tried again later.
    async fn deliver(&self, notification: &Notification) -> Result<(), DeliverError>;
}

/// A shared notifier is a notifier, also when `N` is `dyn Notifier`.
#[async_trait::async_trait]
impl<N: Notifier + ?Sized> Notifier for Arc<N> {
    fn channels(&self) -> &[Channel] {
        (**self).channels()
    }

    fn check(&self, channel: Channel, recipient: &str) -> Result<(), String> {
        (**self).check(channel, recipient)
    }

    async fn deliver(&self, notification: &Notification) -> Result<(), DeliverError> {
        (**self).deliver(notification).await
    }
}

/// Upper bound on the duration of one try.
pub(crate) const DELIVERY_TIMEOUT: Duration = Duration::from_secs(60);

/// Bounds the duration of a step of a try, and turns its panic into an error.
pub(crate) async fn guarded<T>(
    what: &str,
    within: Duration,
    step: impl Future<Output = Result<T, DeliverError>>,
) -> Result<T, DeliverError> {
    let caught = AssertUnwindSafe(step).catch_unwind();
    match tokio::time::timeout(within, caught).await {
        Ok(Ok(outcome)) => outcome,
        Ok(Err(_)) => Err(DeliverError::retryable(format!("{what} panicked"))),
        Err(_) => Err(DeliverError::retryable(format!("no answer within {within:?}"))),
    }
}

/// Input of a notifier: one event for one recipient.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Notification {
    /// Id of the delivery, the same over all tries.
    pub delivery: DeliveryId,
    /// Channel to send through.
    pub channel: Channel,
    /// Recipient, in the form of its channel.
    pub recipient: String,
    /// Event to report.
    pub event: EventKind,
    /// Title of the workflow.
    pub title: String,
    /// The run that ended. Secret parameters show as `***`.
    pub run: Arc<Run>,
    /// URL at which people see the run, as set by [`run_url`](crate::WebhooksBuilder::run_url).
    pub run_url: Option<String>,
}

impl Notification {
    /// Describes the end of `run` for `recipient`.
    #[must_use]
    pub fn new(
        delivery: DeliveryId,
        channel: Channel,
        recipient: impl Into<String>,
        event: EventKind,
        title: impl Into<String>,
        run: Arc<Run>,
    ) -> Self {
        Self {
            delivery,
            channel,
            recipient: recipient.into(),
            event,
            title: title.into(),
            run,
            run_url: None,
        }
    }

    /// Sets the URL at which people see the run.
    #[must_use]
    pub fn with_run_url(mut self, url: impl Into<String>) -> Self {
        self.run_url = Some(url.into());
        self
    }
}

/// Error of sending a notification.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DeliverError {
    /// Another try may help.
    #[error("{source}")]
    Retryable {
        /// Cause of the failure.
        source: BoxError,
        /// Pause that the other side asked for.
        after: Option<Duration>,
    },
    /// No recipient can be reached through this channel at present: its server refuses connections, or
    /// refuses the notifier's credentials.
    ///
    /// Other deliveries would fail in the same way. So one at a time is tried until one gets through.
    #[error("{0}")]
    Unreachable(#[source] BoxError),
    /// Another try will not help.
    #[error("{0}")]
    Permanent(#[source] BoxError),
}

impl DeliverError {
    /// Returns an error after which another try may help.
    pub fn retryable(error: impl Into<BoxError>) -> Self {
        Self::Retryable { source: error.into(), after: None }
    }

    /// Returns an error that every delivery through this channel would meet at present.
    pub fn unreachable(error: impl Into<BoxError>) -> Self {
        Self::Unreachable(error.into())
    }

    /// Returns an error after which another try will not help.
    pub fn permanent(error: impl Into<BoxError>) -> Self {
        Self::Permanent(error.into())
    }
}

/// One notification to one recipient, as the outbox keeps it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Delivery {
    /// Id of the delivery, the same over all tries.
    pub id: DeliveryId,
    /// Run that it reports.
    pub run: RunId,
    /// Channel to send through.
    pub channel: Channel,
    /// Recipient, in the form of its channel.
    pub recipient: String,
    /// Event to report.
    pub event: EventKind,
    /// State after the last recorded try.
    pub state: DeliveryState,
    /// Number of tries so far.
    pub attempts: u32,
    /// Error of the last try.
    pub last_error: Option<String>,
    /// Time of the next try; `None` once it is delivered or given up.
    #[serde(with = "milliseconds::option")]
    pub next_at: Option<SystemTime>,
    /// Time since which it is to go out: the end of its run, or the last resend. `None` in records of earlier
    /// versions.
    #[serde(default, with = "milliseconds::option", skip_serializing_if = "Option::is_none")]
    pub asked_at: Option<SystemTime>,
}

impl Delivery {
    /// Creates a delivery that is due at once.
    #[must_use]
    pub fn new(
        id: DeliveryId,
        run: RunId,
        channel: Channel,
        recipient: impl Into<String>,
        event: EventKind,
        now: SystemTime,
    ) -> Self {
        Self {
            id,
            run,
            channel,
            recipient: recipient.into(),
            event,
            state: DeliveryState::Pending,
            attempts: 0,
            last_error: None,
            next_at: Some(now),
            asked_at: Some(now),
        }
    }

    /// Returns this delivery after one more try, or after it was dropped without one.
    #[must_use]
    pub fn after(&self, outcome: &DeliveryOutcome) -> Self {
        let is_tried = !matches!(outcome, DeliveryOutcome::Dropped { .. });
        let (state, last_error, next_at) = match outcome {
            DeliveryOutcome::Delivered => (DeliveryState::Delivered, None, None),
            DeliveryOutcome::Retry { error, at, .. } => {
                (DeliveryState::Pending, Some(error.clone()), Some(*at))
            }
            DeliveryOutcome::GivenUp { error } | DeliveryOutcome::Dropped { error } => {
                (DeliveryState::GivenUp, Some(error.clone()), None)
            }
        };
        Self { state, last_error, next_at, attempts: self.attempts + u32::from(is_tried), ..self.clone() }
    }

    /// Returns this delivery due again at once, as a person requested.
    #[must_use]
    pub fn resent(&self, now: SystemTime) -> Self {
        Self {
            state: DeliveryState::Pending,
            next_at: Some(now),
            asked_at: Some(now),
            attempts: 0,
            ..self.clone()
        }
    }

    /// Returns how long it has been waiting by the clock; zero if the clock was set back since.
    #[must_use]
    pub fn age(&self, now: SystemTime) -> Duration {
        // A record without the time still has its id, which tells when it was made.
        let asked_at = self.asked_at.unwrap_or_else(|| self.id.made_at());
        now.duration_since(asked_at).unwrap_or_default()
    }
}

/// State of a delivery.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum DeliveryState {
    /// It has not gone out yet.
    Pending,
    /// The other side has accepted it.
    Delivered,
    /// It failed finally, or too often.
    GivenUp,
}

impl DeliveryState {
    /// All states, in the order of a delivery's life.
    pub const ALL: [Self; 3] = [Self::Pending, Self::Delivered, Self::GivenUp];

    /// Returns the name on the wire.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Delivered => "delivered",
            Self::GivenUp => "given_up",
        }
    }
}

impl std::str::FromStr for DeliveryState {
    type Err = InvalidName;
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let known = Self::ALL.into_iter().find(|state| state.as_str() == text);
        known.ok_or(InvalidName::new(NameKind::DeliveryState, "pending, delivered or given_up"))
    }
}

/// Outcome of one try of a delivery, or the reason why there was none.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum DeliveryOutcome {
    /// The other side has accepted it.
    Delivered,
    /// Another try follows.
    Retry {
        /// Error of the try.
        error: String,
        /// Pause before the next try.
        delay: Duration,
        /// Wall-clock time of the next try.
        at: SystemTime,
    },
    /// No further try follows.
    GivenUp {
        /// Error of the try.
        error: String,
    },
    /// It is given up without this try: there was no room for it, or it had waited too long.
    Dropped {
        /// Reason for giving it up.
        error: String,
    },
}
