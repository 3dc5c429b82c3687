//! Working until queue and outbox are empty, for hosts' tests.

use std::time::Duration;

use super::{WorkerOptions, Workers};
use crate::service::Webhooks;
use crate::store::StoreError;

/// How often to look at the store without a sign of progress.
const LOOK_AGAIN: Duration = Duration::from_secs(1);

/// Executes and delivers as tasks of the present runtime until the queue and the outbox are empty.
pub(crate) async fn run_until_idle(webhooks: &Webhooks) -> Result<(), StoreError> {
    let workers = Workers::start(webhooks.clone(), WorkerOptions::default().with_threads(false));
    loop {
        let progress = webhooks.inner.progress.notified();
        tokio::pin!(progress);
        progress.as_mut().enable();
        let health = webhooks.inner.store.health().await?;
        if health.queued + health.running + health.pending_deliveries == 0 && workers.executing() == 0 {
            return Ok(());
        }
        // A run that is cancelled or deleted by a call signals no progress.
        let _ = tokio::time::timeout(LOOK_AGAIN, progress).await;
    }
}
