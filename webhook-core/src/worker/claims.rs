//! Claiming runs for free slots, and holding on to them.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, watch};
use tokio::task::JoinSet;

use super::{Phase, Shared, attempt, settling};
use crate::executor::StopReason;
use crate::service::lock;
use crate::store::{Claim, ClaimRequest, Renewal, Renewed, Settlement, StoreError, Work};

/// The most runs that are claimed at once.
const BATCH: usize = 256;
/// How long to wait after the store failed.
const PAUSE: Duration = Duration::from_secs(1);

/// Claims and executes runs until told to drain, then waits for those that execute.
pub(super) async fn claim_and_execute(
    shared: Arc<Shared>,
    mut phase: watch::Receiver<Phase>,
    settle: settling::Sender,
) {
    let mut attempts = JoinSet::new();
    while *phase.borrow_and_update() == Phase::Working {
        while attempts.try_join_next().is_some() {}
        let permits = tokio::select! {
            permits = free_slots(&shared) => permits,
            _ = phase.changed() => continue,
        };
        // A claim is never dropped half-way: what it gave would lie idle until its lease is over.
        shared.set_claiming(true);
        let working = *phase.borrow() == Phase::Working;
        let claimed = if working { claim(&shared, permits.len()).await } else { Ok(Vec::new()) };
        if let Ok(claims) = &claimed {
            claims.iter().for_each(|claim| shared.hold(claim));
        }
        shared.set_claiming(false);
        match claimed {
            Ok(claims) if claims.is_empty() => {
                drop(permits);
                tokio::select! {
                    () = shared.webhooks.inner.store.wait_for_work(Work::Runs) => {}
                    _ = phase.changed() => {}
                }
            }
            Ok(claims) => {
                for (claim, permit) in claims.into_iter().zip(permits) {
                    attempts.spawn(execute(shared.clone(), claim, permit, settle.clone()));
                }
            }
            Err(error) => {
                tracing::error!(error = &error as &dyn std::error::Error, "runs cannot be claimed");
                drop(permits);
                tokio::select! {
                    () = tokio::time::sleep(PAUSE) => {}
                    _ = phase.changed() => {}
                }
            }
        }
    }
    while attempts.join_next().await.is_some() {}
}

async fn claim(shared: &Shared, limit: usize) -> Result<Vec<Claim>, StoreError> {
    let inner = &shared.webhooks.inner;
    let request = ClaimRequest::new(limit, shared.options.lease, inner.now())
        .with_interruption_bound(shared.options.interruption_bound);
    inner.store.claim(request).await
}

/// Waits for one free slot and takes what else is free. Cancel safe.
async fn free_slots(shared: &Shared) -> Vec<OwnedSemaphorePermit> {
    let mut permits: Vec<_> = shared.slots.clone().acquire_owned().await.into_iter().collect();
    while permits.len() < BATCH {
        match shared.slots.clone().try_acquire_owned() {
            Ok(permit) => permits.push(permit),
            Err(_) => break,
        }
    }
    permits
}

async fn execute(shared: Arc<Shared>, claim: Claim, permit: OwnedSemaphorePermit, settle: settling::Sender) {
    let (run, fence) = (claim.run.id, claim.run.fence);
    let outcome = attempt::execute(&shared, &claim).await;
    drop(permit);
    let settlement = Settlement::new(run, fence, outcome, shared.webhooks.inner.now());
    if settle.send(settlement).await.is_err() {
        shared.release(run, fence);
    }
}

/// Sees to it that no attempt waits for another's thread, for ever.
pub(super) async fn keep_threads_moving(shared: Arc<Shared>) {
    if let Some(threads) = shared.threads.clone() {
        threads.keep_moving().await;
    }
}

/// Renews the leases of all claims that are held, for ever.
pub(super) async fn renew(shared: Arc<Shared>) {
    loop {
        tokio::time::sleep(shared.options.lease / 3).await;
        renew_once(&shared).await;
    }
}

pub(super) async fn renew_once(shared: &Shared) {
    let held: Vec<_> = lock(&shared.held).iter().map(|(key, held)| (*key, held.stop.clone())).collect();
    if held.is_empty() {
        return;
    }
    let renewals = held.iter().map(|((run, fence), _)| Renewal::new(*run, *fence, None)).collect();
    match shared.webhooks.inner.store.renew(renewals, shared.options.lease).await {
        Ok(renewed) => {
            for ((_, stop), renewed) in held.iter().zip(renewed) {
                if let Some(reason) = stop_reason(renewed) {
                    stop.cancel(reason);
                }
            }
        }
        Err(error) => tracing::error!(error = &error as &dyn std::error::Error, "leases cannot be renewed"),
    }
}

/// Whether a renewed claim is to stop.
pub(super) fn stop_reason(renewed: Renewed) -> Option<StopReason> {
    match renewed {
        Renewed::Held { cancel } => cancel.map(StopReason::Cancelled),
        Renewed::Lost => Some(StopReason::LeaseLost),
    }
}
