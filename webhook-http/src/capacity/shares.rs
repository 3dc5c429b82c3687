//! Shares of a resource, so the callers of one webhook leave room for those of others.

use std::collections::HashMap;
use std::sync::{Arc, Weak};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, timeout_at};
use webhook_core::id::WebhookId;

/// Units that callers share, with a bound for each webhook. Waiting is fair: first come, first served.
#[derive(Debug)]
pub(crate) struct Shares {
    in_all: Arc<Semaphore>,
    of_webhook: usize,
    /// Semaphores of the webhooks that hold units or wait for some.
    of_webhooks: Mutex<HashMap<WebhookId, Weak<Semaphore>>>,
}

/// Units of one caller, held until this is dropped.
#[derive(Debug)]
pub(crate) struct Share {
    _of_webhook: OwnedSemaphorePermit,
    _in_all: OwnedSemaphorePermit,
}

/// Reason for which there is no share.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Exhausted {
    /// The webhook's own callers hold all that it may have.
    OfWebhook,
    /// The callers of all webhooks hold all units.
    InAll,
}

impl Shares {
    /// Creates `in_all` units, of which one webhook may hold `of_webhook`.
    pub(crate) fn new(in_all: usize, of_webhook: usize) -> Self {
        Self { in_all: Arc::new(Semaphore::new(in_all)), of_webhook, of_webhooks: Mutex::default() }
    }

    /// Waits for this many units. A caller takes all its units at once, so no two wait for each other.
    ///
    /// # Cancel safety
    /// A dropped call takes no units.
    pub(crate) async fn take(
        &self,
        webhook: WebhookId,
        units: u32,
        patience: Duration,
    ) -> Result<Share, Exhausted> {
        let until = Instant::now() + patience;
        let permits = |semaphore: Arc<Semaphore>, exhausted| async move {
            // The semaphores are never closed.
            let permit = timeout_at(until, semaphore.acquire_many_owned(units)).await;
            permit.ok().and_then(Result::ok).ok_or(exhausted)
        };
        let _of_webhook = permits(self.of_webhook(webhook), Exhausted::OfWebhook).await?;
        let _in_all = permits(self.in_all.clone(), Exhausted::InAll).await?;
        Ok(Share { _of_webhook, _in_all })
    }

    fn of_webhook(&self, webhook: WebhookId) -> Arc<Semaphore> {
        let mut of_webhooks = self.of_webhooks.lock();
        if let Some(known) = of_webhooks.get(&webhook).and_then(Weak::upgrade) {
            return known;
        }
        // At most as many are left as there are callers.
        of_webhooks.retain(|_, semaphore| semaphore.strong_count() > 0);
        let semaphore = Arc::new(Semaphore::new(self.of_webhook));
        of_webhooks.insert(webhook, Arc::downgrade(&semaphore));
        semaphore
    }

    /// Returns the number of webhooks with a semaphore.
    #[cfg(test)]
    pub(crate) fn webhooks(&self) -> usize {
        self.of_webhooks.lock().len()
    }
}
