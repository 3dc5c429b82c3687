//! Claiming runs: as many as there are free slots, and some ahead, so that no slot waits for the store.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::Shared;
use super::attempt::Attempt;
use super::slots::Room;
use crate::store::{Begun, Claim, ClaimRequest, StoreError, Work};

/// How long to wait after the store failed.
const PAUSE: Duration = Duration::from_secs(1);
/// The most beginnings that are noted at once.
const BATCH: usize = 256;

/// Claims and executes runs until told to drain.
pub(super) async fn claim_and_execute(shared: Arc<Shared>) {
    let draining = shared.draining.cancellation();
    loop {
        let room = tokio::select! {
            biased;
            _ = draining.cancelled() => return,
            room = shared.room() => room,
        };
        // A claim is never dropped half-way: what it gave would lie idle until its lease is over.
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
            // Whoever is about to enqueue another run gets the chance to come along.
            tokio::task::yield_now().await;
        };
        tokio::select! {
            () = waited => {}
            _ = draining.cancelled() => return,
        }
    }
}

/// Claims runs and lets those begin for which there are slots. Returns how many were claimed.
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

/// Holds on to claims until they are settled; settles those that are not to be executed.
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

/// Tells the store which of the runs that were claimed ahead execute, for ever. Most are over before.
pub(super) async fn note_begun(shared: Arc<Shared>) {
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
