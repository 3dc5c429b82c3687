//! Working until nothing is left to do, for hosts' tests.

use std::sync::Arc;

use tokio::task::JoinSet;

use super::attempt::Attempt;
use super::deliveries::Deliveries;
use super::settling::record;
use super::{Shared, WorkerOptions};
use crate::executor::CancellationSource;
use crate::service::Webhooks;
use crate::store::{Channels, Claim, ClaimRequest, Outcome, Settlement, StoreError, Work};

/// Executes and delivers as tasks of the present runtime until the queue and the outbox are empty.
pub(crate) async fn run_until_idle(webhooks: &Webhooks) -> Result<(), StoreError> {
    let (shared, _) = Shared::new(webhooks.clone(), WorkerOptions::default().with_threads(false));
    let store = &webhooks.inner.store;
    let options = &shared.options;
    let deliveries = Deliveries::new(webhooks.clone(), options, shared.outbox.clone());
    let mut attempts: JoinSet<Settlement> = JoinSet::new();
    loop {
        let free = options.slots - attempts.len();
        let claims = match free {
            0 => Vec::new(),
            _ => {
                let request = ClaimRequest::new(free, options.lease, webhooks.inner.now())
                    .with_interruption_bound(options.interruption_bound);
                store.claim(request).await?
            }
        };
        let began = !claims.is_empty();
        for (claim, stop) in shared.hold(claims) {
            attempts.spawn(execute(shared.clone(), claim, stop));
        }
        let delivered = deliveries.deliver_due().await?;
        if began || delivered {
            continue;
        }
        if attempts.is_empty() {
            let health = store.health().await?;
            if health.queued + health.running + health.pending_deliveries == 0 {
                return Ok(());
            }
        }
        let keep_leases = tokio::time::sleep(options.lease / 3);
        tokio::select! {
            Some(Ok(settlement)) = attempts.join_next() => {
                let mut settlements = [settlement];
                shared.outbox.bound(&**store, &mut settlements).await;
                record(&shared, &settlements).await?;
            }
            () = store.wait_for_work(Work::Runs), if free > 0 => {}
            () = store.wait_for_work(Work::Deliveries(Channels::default())) => {}
            () = keep_leases => super::claims::renew_once(&shared).await,
        }
    }
}

async fn execute(shared: Arc<Shared>, claim: Claim, stop: CancellationSource) -> Settlement {
    let (run, fence) = (claim.run.id, claim.run.fence);
    let outcome = match Attempt::new(&shared, claim, stop) {
        Ok(attempt) => Arc::new(attempt).execute_as_task().await.unwrap_or(Outcome::HandBack),
        Err(outcome) => outcome,
    };
    Settlement::new(run, fence, outcome, shared.webhooks.inner.now())
}
