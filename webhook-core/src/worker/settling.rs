//! Recording how attempts went, in batches.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;

use super::Shared;
use crate::store::{Settled, Settlement};

/// The most settlements that are recorded at once.
const BATCH: usize = 256;
/// The longest pause after the store failed.
const LONGEST_PAUSE: Duration = Duration::from_secs(10);

pub(super) type Sender = mpsc::Sender<Settlement>;

pub(super) fn channel() -> (Sender, mpsc::Receiver<Settlement>) {
    mpsc::channel(4 * BATCH)
}

/// Records settlements as they come. A failed batch is tried again for as long as it takes: its leases are still
/// renewed meanwhile, and settling twice does no harm.
pub(super) async fn settle(shared: Arc<Shared>, mut settlements: mpsc::Receiver<Settlement>) {
    let mut batch = Vec::with_capacity(BATCH);
    while settlements.recv_many(&mut batch, BATCH).await > 0 {
        let mut pause = Duration::from_millis(100);
        while let Err(error) = record(&shared, &batch).await {
            tracing::error!(error = &error as &dyn std::error::Error, "outcomes cannot be recorded");
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
        batch.clear();
    }
}

pub(super) async fn record(shared: &Shared, batch: &[Settlement]) -> Result<(), crate::store::StoreError> {
    let settled = shared.webhooks.inner.store.settle(batch.to_vec()).await?;
    for (settlement, settled) in batch.iter().zip(settled) {
        match settled {
            Settled::Applied(run) => {
                tracing::debug!(run = %run.id, attempt = run.attempt, state = run.state.as_str(), "attempt settled");
            }
            Settled::Stale => {
                tracing::warn!(run = %settlement.run, "an attempt had lost its lease; its outcome was dropped");
            }
        }
        shared.release(settlement.run, settlement.fence);
    }
    Ok(())
}
