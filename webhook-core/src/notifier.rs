//! The notifier: what carries the news of a run's end to people.
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
//!         &[Channel::Email]
//!     }
//!     fn check(&self, _channel: Channel, recipient: &str) -> Result<(), String> {
//!         if recipient.contains('@') { Ok(()) } else { Err("an address with an @ is expected".into()) }
//!     }
//!     async fn deliver(&self, notification: &Notification) -> Result<(), DeliverError> {
//!         println!("to {}: {} {}", notification.recipient, notification.title, notification.run.state.as_str());
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
use crate::error::{BoxError, InvalidName};
use crate::id::{DeliveryId, RunId};
use crate::run::Run;
use crate::webhook::{Channel, EventKind};

/// Carries notifications over one or more channels.
#[async_trait::async_trait]
pub trait Notifier: Send + Sync + 'static {
    /// The channels it serves. Settings that ask for a channel nobody serves are refused.
    ///
    /// # Behavior
    /// The answer stays the same for the life of the notifier.
    ///
    /// # Errors
    /// None.
    ///
    /// # Cancel safety
    /// It is not async.
    fn channels(&self) -> &[Channel];

    /// Checks a recipient's form when settings are made.
    ///
    /// # Behavior
    /// It looks at the text only and does not block.
    ///
    /// # Errors
    /// What would be right, for people.
    ///
    /// # Cancel safety
    /// It is not async.
    fn check(&self, channel: Channel, recipient: &str) -> Result<(), String>;

    /// Delivers one notification to one recipient.
    ///
    /// # Behavior
    /// It is called at least once for each delivery that finds room in the outbox and does not wait behind an outage
    /// for days, and again with a growing pause after a retryable error. The delivery's id stays the same, so that it
    /// can serve as a message id. A failure never changes the run. It has 60 s.
    ///
    /// # Errors
    /// [`DeliverError`], which says whether trying again may help.
    ///
    /// # Cancel safety
    /// It is dropped when it takes longer than that, or when the patience of a shutdown is over; the delivery is tried
    /// again later.
    async fn deliver(&self, notification: &Notification) -> Result<(), DeliverError>;
}

/// How long one try has.
pub(crate) const DELIVERY_TIMEOUT: Duration = Duration::from_secs(60);

/// Gives a step of a try a bounded time, and turns its panic into an error.
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

/// What a notifier is given: one piece of news for one recipient.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Notification {
    /// The delivery, the same over all tries.
    pub delivery: DeliveryId,
    /// Through which channel.
    pub channel: Channel,
    /// To whom.
    pub recipient: String,
    /// Of what it tells.
    pub event: EventKind,
    /// The workflow's title.
    pub title: String,
    /// The run that ended. Secret parameters show as `***`.
    pub run: Arc<Run>,
    /// Where people see the run, as [`run_url`](crate::service::WebhooksBuilder::run_url) says.
    pub run_url: Option<String>,
}

impl Notification {
    /// News of `run` for `recipient`.
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

    /// Sets where people see the run.
    #[must_use]
    pub fn with_run_url(mut self, url: impl Into<String>) -> Self {
        self.run_url = Some(url.into());
        self
    }
}

/// Why a notification did not go out.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DeliverError {
    /// Trying again may help.
    #[error("{source}")]
    Retryable {
        /// What went wrong.
        source: BoxError,
        /// How long the other side asked to wait.
        after: Option<Duration>,
    },
    /// Nobody can be reached through this channel at present, such as when its server refuses connections, or the
    /// credentials of this notifier. Trying again may help, but other deliveries would fare the same: one at a time is
    /// tried until one gets through.
    #[error("{0}")]
    Unreachable(#[source] BoxError),
    /// Trying again will not help.
    #[error("{0}")]
    Permanent(#[source] BoxError),
}

impl DeliverError {
    /// An error after which trying again may help.
    pub fn retryable(error: impl Into<BoxError>) -> Self {
        Self::Retryable { source: error.into(), after: None }
    }

    /// An error that every delivery through this channel would meet at present.
    pub fn unreachable(error: impl Into<BoxError>) -> Self {
        Self::Unreachable(error.into())
    }

    /// An error after which trying again will not help.
    pub fn permanent(error: impl Into<BoxError>) -> Self {
        Self::Permanent(error.into())
    }
}

/// One notification to one recipient, as the outbox keeps it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Delivery {
    /// Its id.
    pub id: DeliveryId,
    /// The run it tells of.
    pub run: RunId,
    /// Through which channel.
    pub channel: Channel,
    /// To whom.
    pub recipient: String,
    /// Of what it tells.
    pub event: EventKind,
    /// How it stands.
    pub state: DeliveryState,
    /// How often it was tried.
    pub attempts: u32,
    /// Why the last try failed.
    pub last_error: Option<String>,
    /// When it is tried next; `None` once it is delivered or given up.
    #[serde(with = "milliseconds::option")]
    pub next_at: Option<SystemTime>,
    /// Since when it is to go out: since its run ended, or since it was sent again. Records of earlier versions do not
    /// say so.
    #[serde(default, with = "milliseconds::option", skip_serializing_if = "Option::is_none")]
    pub asked_at: Option<SystemTime>,
}

impl Delivery {
    /// A delivery that is due at once.
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

    /// This delivery after one more try, or after it was dropped without one.
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

    /// This delivery due again at once, as people asked.
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

    /// For how long it has been waiting to go out by the clock; not at all when the clock was set back since.
    #[must_use]
    pub fn age(&self, now: SystemTime) -> Duration {
        // The id of a record that does not say so tells when it was made.
        let asked_at = self.asked_at.unwrap_or_else(|| self.id.made_at());
        now.duration_since(asked_at).unwrap_or_default()
    }
}

/// How a delivery stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum DeliveryState {
    /// It is still to go out.
    Pending,
    /// The other side has taken it.
    Delivered,
    /// It failed for good or too often.
    GivenUp,
}

impl DeliveryState {
    /// Every state.
    pub const ALL: [Self; 3] = [Self::Pending, Self::Delivered, Self::GivenUp];

    /// The name on the wire.
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
        known.ok_or(InvalidName::new("delivery state", "pending, delivered or given_up"))
    }
}

/// How one try of a delivery went, or why there was none.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum DeliveryOutcome {
    /// The other side has taken it.
    Delivered,
    /// It is to be tried again.
    Retry {
        /// What went wrong.
        error: String,
        /// After which pause.
        delay: Duration,
        /// When that is by the clock.
        at: SystemTime,
    },
    /// It is not tried again.
    GivenUp {
        /// What went wrong.
        error: String,
    },
    /// It is given up without this try: there was no room for it, or it had waited too long.
    Dropped {
        /// Why.
        error: String,
    },
}
