//! Recording how attempts went, in batches.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;

use super::Shared;
use crate::notifier::{Delivery, DeliveryState};
use crate::store::{Settled, Settlement};

/// The most settlements that are recorded at once.
const BATCH: usize = 256;
/// The longest pause after the store failed.
const LONGEST_PAUSE: Duration = Duration::from_secs(10);

pub(super) type Settlements = mpsc::UnboundedReceiver<Settlement>;

/// Records settlements as they come. A failed batch is tried again for as long as it takes: its leases are still
/// renewed meanwhile, and settling twice does no harm.
pub(super) async fn settle(shared: Arc<Shared>, mut settlements: Settlements) {
    let mut batch = Vec::with_capacity(BATCH);
    while settlements.recv_many(&mut batch, BATCH).await > 0 {
        // Whoever is about to settle gets the chance to come along.
        tokio::task::yield_now().await;
        while batch.len() < BATCH
            && let Ok(settlement) = settlements.try_recv()
        {
            batch.push(settlement);
        }
        shared.outbox.bound(&*shared.webhooks.inner.store, &mut batch).await;
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
                let meters = &shared.webhooks.inner.meters;
                meters.settled(&run);
                let born_given_up = |delivery: &&Delivery| delivery.state == DeliveryState::GivenUp;
                meters.dropped(settlement.deliveries().iter().filter(born_given_up).count());
                let (workflow, webhook, attempt) = (&run.workflow, run.webhook_id, run.attempt);
                let span = tracing::info_span!("settle", run = %run.id, %workflow, %webhook, attempt);
                span.in_scope(|| tracing::debug!(state = run.state.as_str(), "attempt settled"));
            }
            Settled::Stale => {
                tracing::warn!(run = %settlement.run, "an attempt had lost its lease; its outcome was dropped");
            }
        }
    }
    shared.release(batch);
    Ok(())
}
