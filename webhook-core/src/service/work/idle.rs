//! Works until queue and outbox are empty, for hosts' tests.

use std::sync::Arc;
use std::time::Duration;

use super::Workers;
use super::housekeeping::keep_house_once;
use super::options::WorkerOptions;
use crate::service::parts::Parts;
use crate::store::StoreError;

/// Interval at which the store is read again without a sign of progress.
const LOOK_AGAIN: Duration = Duration::from_secs(1);

/// Executes and delivers as tasks of the present runtime until the queue and the outbox are empty.
pub(in crate::service) async fn run_until_idle(parts: &Arc<Parts>) -> Result<(), StoreError> {
    let workers = Workers::start(parts.clone(), WorkerOptions::default().with_threads(false));
    loop {
        let progress = parts.progress.notified();
        tokio::pin!(progress);
        // Registered before the check, so that progress in between is not missed.
        progress.as_mut().enable();
        let health = parts.store.health().await?;
        if health.queued + health.running + health.pending_deliveries == 0 && workers.executing() == 0 {
            return keep_house_once(parts).await;
        }
        // A run that is cancelled or deleted by a call signals no progress.
        let _ = tokio::time::timeout(LOOK_AGAIN, progress).await;
    }
}
