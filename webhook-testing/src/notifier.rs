//! A notifier that records notifications.

use std::collections::VecDeque;
use std::fmt;
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::watch;

use webhook_core::notifier::{DeliverError, Notification, Notifier};
use webhook_core::webhook::Channel;

/// Records notifications instead of sending them. It serves email and Slack; its clones share all state.
///
/// ```
/// use std::sync::Arc;
/// use std::time::SystemTime;
/// use webhook_core::id::{DeliveryId, RunId, WebhookId};
/// use webhook_testing::{DeliverFailure, RecordingNotifier};
/// use webhook_core::notifier::{Notification, Notifier};
/// use webhook_core::run::{Caller, Run, RunParameters};
/// use webhook_core::webhook::{Channel, EventKind};
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let now = SystemTime::now();
/// # let (id, webhook) = (RunId::generate(now), WebhookId::generate(now));
/// # let run = Run::new(
/// #     id, "report/a".parse()?, webhook, RunParameters::default(), 1, Caller::default(), now,
/// # );
/// # let delivery = DeliveryId::generate(now);
/// # let (channel, event) = (Channel::SLACK, EventKind::Success);
/// # let notification = Notification::new(delivery, channel, "#reports", event, "A", Arc::new(run));
/// let notifier = RecordingNotifier::new();
/// notifier.fail_next(1, DeliverFailure::Retryable);
/// assert!(notifier.deliver(&notification).await.is_err());
/// assert!(notifier.deliver(&notification).await.is_ok());
/// assert_eq!(notifier.delivered(1).await[0].recipient, "#reports");
/// assert_eq!(notifier.tries(2).await, 2);
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct RecordingNotifier(Arc<Shared>);

/// Failure of a [`RecordingNotifier`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum DeliverFailure {
    /// Another try may help.
    Retryable,
    /// Nobody can be reached through the channel at present: an outage of its server.
    Unreachable,
    /// Another try will not help.
    Permanent,
}

struct Shared {
    failures: Mutex<VecDeque<DeliverFailure>>,
    delivered: watch::Sender<Vec<Notification>>,
    tries: watch::Sender<usize>,
}

impl Default for RecordingNotifier {
    fn default() -> Self {
        Self::new()
    }
}

impl RecordingNotifier {
    /// Creates a notifier that accepts every notification.
    #[must_use]
    pub fn new() -> Self {
        let delivered = watch::Sender::new(Vec::new());
        Self(Arc::new(Shared { failures: Mutex::default(), delivered, tries: watch::Sender::new(0) }))
    }

    /// Makes the next `count` tries fail, after those that are already set to fail.
    pub fn fail_next(&self, count: usize, failure: DeliverFailure) {
        let mut failures = self.0.failures.lock();
        failures.extend(std::iter::repeat_n(failure, count));
    }

    /// Waits until at least `count` notifications were accepted, and returns all of them. Cancel safe.
    pub async fn delivered(&self, count: usize) -> Vec<Notification> {
        let mut delivered = self.0.delivered.subscribe();
        match delivered.wait_for(|notifications| notifications.len() >= count).await {
            Ok(notifications) => notifications.clone(),
            Err(_) => Vec::new(),
        }
    }

    /// Waits until at least `count` tries were made, failed ones included, and returns their number. Cancel
    /// safe.
    pub async fn tries(&self, count: usize) -> usize {
        self.0.tries.subscribe().wait_for(|tries| *tries >= count).await.map_or(0, |tries| *tries)
    }
}

impl fmt::Debug for RecordingNotifier {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let delivered = self.0.delivered.borrow().len();
        formatter.debug_struct("RecordingNotifier").field("delivered", &delivered).finish_non_exhaustive()
    }
}

#[async_trait::async_trait]
impl Notifier for RecordingNotifier {
    fn channels(&self) -> &[Channel] {
        &[Channel::EMAIL, Channel::SLACK]
    }

    fn check(&self, channel: Channel, recipient: &str) -> Result<(), String> {
        match channel {
            Channel::EMAIL if !recipient.contains('@') => Err("an address with an @ is expected".to_owned()),
            _ if recipient.is_empty() => Err("a recipient is expected".to_owned()),
            _ => Ok(()),
        }
    }

    async fn deliver(&self, notification: &Notification) -> Result<(), DeliverError> {
        let failure = self.0.failures.lock().pop_front();
        let result = match failure {
            Some(DeliverFailure::Retryable) => Err(DeliverError::retryable("told to fail for now")),
            Some(DeliverFailure::Unreachable) => Err(DeliverError::unreachable("told to be out of reach")),
            Some(DeliverFailure::Permanent) => Err(DeliverError::permanent("told to fail for good")),
            None => {
                self.0.delivered.send_modify(|delivered| delivered.push(notification.clone()));
                Ok(())
            }
        };
        self.0.tries.send_modify(|tries| *tries += 1);
        result
    }
}
