//! Claiming runs: one for each free slot, and some more ahead of need, so no slot waits for the store.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::attempt::Attempt;
use super::execution;
use super::pool::RunPool;
use super::slots::Room;
use crate::store::{Begun, Claim, ClaimRequest, StoreError, Work};

/// Pause after the store failed.
const PAUSE: Duration = Duration::from_secs(1);
/// Upper bound on the runs that one call reports as begun.
const BATCH: usize = 256;

/// Claims and executes runs until told to drain.
pub(in crate::service::work) async fn claim_and_execute(pool: Arc<RunPool>) {
    let draining = pool.draining.cancellation();
    loop {
        let room = tokio::select! {
            biased;
            _ = draining.cancelled() => return,
            room = pool.room() => room,
        };
        // A claim is never dropped half-way: its runs would be lost until their leases end.
        let claimed = claim(&pool, room).await;
        let waited = async {
            match claimed {
                // More may be due: claim again at once, if there is room.
                Ok(count) if count == room.free + room.ahead => {}
                Ok(_) => pool.parts.store.wait_for_work(Work::RunsOf(pool.options.workflows.clone())).await,
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

/// Claims runs, and starts those that have a slot. Returns the number of claimed runs.
async fn claim(pool: &Arc<RunPool>, room: Room) -> Result<usize, StoreError> {
    let request = ClaimRequest::new(room.free, pool.options.lease, pool.parts.now())
        .with_ahead(room.ahead)
        .with_interruption_bound(pool.options.interruption_bound)
        .with_workflows(pool.options.workflows.clone())
        .with_claimer(pool.options.name.clone());
    // The lease counts from before the call, since the store counts from some moment during it.
    let asked_at = Instant::now();
    let claims = pool.parts.store.claim(request).await?;
    let (count, took) = (claims.len(), asked_at.elapsed());
    let attempts = hold(pool, claims, asked_at + pool.options.lease);
    for attempt in pool.slots.claimed(attempts, took) {
        execution::start(pool, attempt);
    }
    Ok(count)
}

/// Adds claims to the registry, and settles the ones that are not to be executed.
fn hold(pool: &RunPool, claims: Vec<Claim>, lease_end: Instant) -> Vec<Arc<Attempt>> {
    let mut attempts = Vec::with_capacity(claims.len());
    for claim in claims {
        let key = (claim.run.id(), claim.run.fence());
        match Attempt::new(&pool.parts, claim, pool.options.interruption_bound, lease_end) {
            Ok(attempt) => {
                let attempt = Arc::new(attempt);
                pool.claimed.add(key, Some(attempt.clone()));
                attempts.push(attempt);
            }
            Err(settlement) => {
                pool.claimed.add(key, None);
                pool.settle(*settlement);
            }
        }
    }
    attempts
}

/// Reports to the store which of the runs claimed ahead execute now. Most are over before that.
pub(in crate::service::work) async fn note_begun(pool: Arc<RunPool>) {
    let (mut inbox, mut attempts) = (pool.begun.receiver.lock().await, Vec::new());
    while inbox.recv_many(&mut attempts, BATCH).await > 0 {
        let begun: Vec<Begun> = attempts.drain(..).filter_map(|attempt| attempt.upgrade()?.begun()).collect();
        if !begun.is_empty()
            && let Err(error) = pool.parts.store.begin(begun).await
        {
            let error = &error as &dyn std::error::Error;
            tracing::warn!(error, "runs that execute are shown as queued");
        }
    }
}
