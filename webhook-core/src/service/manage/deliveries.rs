//! Deliveries: the outbox, and test notifications.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt;
use tokio::sync::Semaphore;
use tokio::time::Instant;

use super::Management;
use super::error::ManagementError;
use crate::id::{DeliveryId, RunId, WebhookId};
use crate::notifier::{DELIVERY_TIMEOUT, DeliverError, Delivery, Notification, guarded};
use crate::run::{Caller, Run, RunParts, RunState};
use crate::store::{DeliveryQuery, Page, StoreError};
use crate::webhook::{Channel, EventKind};

/// Upper bound on concurrent test notifications.
const TESTS_AT_ONCE: usize = 8;
/// Number of deliveries that are made due at once; they share a sync of the store.
const RESENDS_AT_ONCE: usize = 64;
/// Upper bound on the time for which a test notification waits for its turn.
const TEST_PATIENCE: Duration = Duration::from_secs(60);

/// Result of resending deliveries.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct ResentDeliveries {
    /// Number of deliveries that matched the query.
    pub matched: usize,
    /// Number of deliveries that are due again.
    pub done: usize,
    /// Cursor of the next page; `None` at the end.
    pub next: Option<DeliveryId>,
}

/// Result of a test notification.
#[derive(Debug)]
#[non_exhaustive]
pub struct TestedNotification {
    /// The notification, with its recipient.
    pub notification: Notification,
    /// Result of sending it.
    pub outcome: Result<(), DeliverError>,
}

impl fmt::Display for TestedNotification {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{} {}: ", self.notification.channel.as_str(), self.notification.recipient)?;
        match &self.outcome {
            Ok(()) => formatter.write_str("delivered"),
            Err(error) => write!(formatter, "{error}"),
        }
    }
}

impl Management<'_> {
    /// Lists the deliveries of a run, oldest first.
    pub async fn list_deliveries(&self, run: RunId) -> Result<Vec<Delivery>, ManagementError> {
        self.list_deliveries_of(&[run]).await
    }

    /// Lists the deliveries of several runs in one read: run by run in the given order, each run's oldest
    /// first.
    pub async fn list_deliveries_of(&self, runs: &[RunId]) -> Result<Vec<Delivery>, ManagementError> {
        Ok(self.parts.store.list_deliveries(runs).await?)
    }

    /// Makes a delivery due again now.
    pub async fn resend_delivery(&self, delivery: DeliveryId) -> Result<Delivery, ManagementError> {
        let parts = self.parts;
        Ok(parts.store.resend_delivery(delivery, parts.now()).await?)
    }

    /// Lists deliveries of all runs, newest first. A page may hold fewer than `limit` although more follow.
    pub async fn find_deliveries(
        &self,
        query: DeliveryQuery,
    ) -> Result<Page<Delivery, DeliveryId>, ManagementError> {
        Ok(self.parts.store.find_deliveries(query).await?)
    }

    /// Makes one page of deliveries due again now, or only counts them in a dry run.
    ///
    /// Fails with [`ManagementError::Store`]; some may be due again then, and the call can be repeated.
    pub async fn resend_deliveries(
        &self,
        query: DeliveryQuery,
        dry_run: bool,
    ) -> Result<ResentDeliveries, ManagementError> {
        let parts = self.parts;
        let page = parts.store.find_deliveries(query).await?;
        let mut resent = ResentDeliveries { matched: page.items.len(), done: 0, next: page.next };
        if dry_run {
            return Ok(resent);
        }
        let now = parts.now();
        let resending = page.items.into_iter().map(|delivery| parts.store.resend_delivery(delivery.id, now));
        let mut resending = futures_util::stream::iter(resending).buffer_unordered(RESENDS_AT_ONCE);
        while let Some(outcome) = resending.next().await {
            match outcome {
                Ok(_) => resent.done += 1,
                // Its run was pruned in the meantime.
                Err(StoreError::NotFound(_)) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(resent)
    }

    /// Returns the channels that the host's notifiers serve, each once.
    #[must_use]
    pub fn list_channels(&self) -> Vec<Channel> {
        let mut channels: Vec<Channel> = Vec::new();
        for channel in self.parts.channels() {
            if !channels.contains(&channel) {
                channels.push(channel);
            }
        }
        channels
    }

    /// Sends a made-up notification to each recipient in a webhook's settings, without the outbox and without
    /// a link.
    ///
    /// Eight are sent at a time, since mail servers accept few connections from one client. A recipient whose
    /// turn has not come within a minute is not tried.
    /// Returns the result for each recipient.
    ///
    /// May also fail with [`ManagementError::Executor`].
    pub async fn test_notifications(
        &self,
        id: WebhookId,
    ) -> Result<Vec<TestedNotification>, ManagementError> {
        let parts = self.parts;
        let webhook = self.get_webhook(id).await?;
        let title = format!("Test: {}", parts.title(&webhook.workflow).await?);
        let now = parts.now();
        let (workflow, caller) = (webhook.workflow.clone(), Caller::default());
        let mut made_up = RunParts::new(RunId::generate(now), workflow, webhook.id, caller, now);
        (made_up.state, made_up.finished_at) = (RunState::Succeeded, Some(now));
        made_up.summary = Some("This is a test message; nothing was executed.".to_owned());
        let run = Arc::new(Run::from_parts(made_up).expect("a run that has ended has the time of its end"));
        let notify = |(channel, recipient, _): (Channel, &str, &[EventKind])| {
            let (id, event) = (DeliveryId::generate(now), EventKind::Success);
            Notification::new(id, channel, recipient, event, title.clone(), run.clone())
        };
        let targets = webhook.settings.notifications.targets();
        let (slots, last_turn) = (Semaphore::new(TESTS_AT_ONCE), Instant::now() + TEST_PATIENCE);
        let testing = targets.map(async |target| {
            let notification = notify(target);
            match tokio::time::timeout_at(last_turn, slots.acquire()).await {
                Ok(_slot) => self.test(notification).await,
                Err(_) => {
                    let outcome = Err(DeliverError::retryable("it was not tried: others took too long"));
                    TestedNotification { notification, outcome }
                }
            }
        });
        Ok(futures_util::future::join_all(testing).await)
    }

    async fn test(&self, notification: Notification) -> TestedNotification {
        let outcome = match self.parts.notifier(notification.channel) {
            Some(notifier) => {
                guarded("the notifier", DELIVERY_TIMEOUT, notifier.deliver(&notification)).await
            }
            None => Err(DeliverError::permanent("no integration serves this channel")),
        };
        TestedNotification { notification, outcome }
    }
}
