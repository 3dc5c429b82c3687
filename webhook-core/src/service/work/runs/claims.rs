//! Claiming runs: one for each free slot, and some more ahead of need, so no slot waits for the store.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::attempt::Attempt;
use super::slots::Room;
use crate::service::work::Shared;
use crate::store::{Begun, Claim, ClaimRequest, StoreError, Work};

/// How long to wait after the store failed.
const PAUSE: Duration = Duration::from_secs(1);
/// The most runs of which the store is told at once that they execute.
const BATCH: usize = 256;

/// Claims and executes runs until told to drain.
pub(in crate::service::work) async fn claim_and_execute(shared: Arc<Shared>) {
    let draining = shared.draining.cancellation();
    loop {
        let room = tokio::select! {
            biased;
            _ = draining.cancelled() => return,
            room = shared.room() => room,
        };
        // A claim is never dropped half-way: the runs it gave would be lost until their leases end.
        let claimed = claim(&shared, room).await;
        let waited = async {
            match claimed {
                Ok(count) if count == room.free + room.ahead => {}
                Ok(_) => shared.webhooks.inner.store.wait_for_work(Work::Runs).await,
                Err(error) => {
                    tracing::error!(error = &error as &dyn std::error::Error, "runs cannot be claimed");
                    tokio::time::sleep(PAUSE).await;
                }
            }
            // Calls that are about to enqueue a run get the chance to join the next claim.
            tokio::task::yield_now().await;
        };
        tokio::select! {
            () = waited => {}
            _ = draining.cancelled() => return,
        }
    }
}

/// Claims runs, and starts those that have a slot. Returns how many were claimed.
async fn claim(shared: &Arc<Shared>, room: Room) -> Result<usize, StoreError> {
    let inner = &shared.webhooks.inner;
    let request = ClaimRequest::new(room.free, shared.options.lease, inner.now())
        .with_ahead(room.ahead)
        .with_interruption_bound(shared.options.interruption_bound);
    let begun = Instant::now();
    let claims = inner.store.claim(request).await?;
    let (count, took) = (claims.len(), begun.elapsed());
    let attempts = hold(shared, claims, begun + shared.options.lease);
    shared.slots.claimed(attempts, took).into_iter().for_each(Attempt::start);
    Ok(count)
}

/// Adds claims to those that are held, and settles the ones that are not to be executed.
fn hold(shared: &Arc<Shared>, claims: Vec<Claim>, lease_end: Instant) -> Vec<Arc<Attempt>> {
    let mut attempts = Vec::with_capacity(claims.len());
    for claim in claims {
        let key = (claim.run.id, claim.run.fence);
        let stop = shared.webhooks.inner.begin_executing(key);
        match Attempt::new(shared, claim, stop, lease_end) {
            Ok(attempt) => {
                let attempt = Arc::new(attempt);
                shared.hold(key, Some(attempt.clone()));
                attempts.push(attempt);
            }
            Err(settlement) => {
                shared.hold(key, None);
                shared.settle(*settlement);
            }
        }
    }
    attempts
}

/// Tells the store which of the runs that were claimed ahead execute now. Most are over before that.
pub(in crate::service::work) async fn note_begun(shared: Arc<Shared>) {
    let (mut inbox, mut attempts) = (shared.begun.receiver.lock().await, Vec::new());
    while inbox.recv_many(&mut attempts, BATCH).await > 0 {
        let begun: Vec<Begun> = attempts.drain(..).filter_map(|attempt| attempt.upgrade()?.begun()).collect();
        if !begun.is_empty()
            && let Err(error) = shared.webhooks.inner.store.begin(begun).await
        {
            let error = &error as &dyn std::error::Error;
            tracing::warn!(error, "runs that execute are shown as queued");
        }
    }
}
