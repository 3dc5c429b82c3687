//! Working until nothing is left to do, for hosts' tests.

use std::time::Duration;

use super::{WorkerOptions, Workers};
use crate::service::Webhooks;
use crate::store::StoreError;

/// How often to look whether something is left to do while nothing is done.
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
        // A run that is cancelled or deleted meanwhile is no progress of these workers.
        let _ = tokio::time::timeout(LOOK_AGAIN, progress).await;
    }
}
