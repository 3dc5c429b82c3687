//! Claiming runs for free slots, and holding on to them.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::JoinSet;

use super::attempt::Attempt;
use super::{Phase, Shared};
use crate::executor::StopReason;
use crate::service::lock;
use crate::store::{Claim, ClaimRequest, Renewal, Renewed, StoreError, Work};

/// The most runs that are claimed at once.
const BATCH: usize = 256;
/// How long to wait after the store failed.
const PAUSE: Duration = Duration::from_secs(1);

/// Claims and executes runs until told to drain, then waits for those that execute as tasks.
pub(super) async fn claim_and_execute(shared: Arc<Shared>, mut phase: watch::Receiver<Phase>) {
    let mut tasks = JoinSet::new();
    while *phase.borrow_and_update() == Phase::Working {
        while tasks.try_join_next().is_some() {}
        let free = tokio::select! {
            free = shared.free_slots() => free.min(BATCH),
            _ = phase.changed() => continue,
        };
        // A claim is never dropped half-way: what it gave would lie idle until its lease is over.
        shared.set_claiming(true);
        let working = *phase.borrow() == Phase::Working;
        let claimed = if working { claim(&shared, free).await } else { Ok(Vec::new()) };
        let began = claimed.map(|claims| begin(&shared, claims));
        shared.set_claiming(false);
        let all_taken = began.as_ref().is_ok_and(|attempts| attempts.len() == free);
        let failed = began.is_err();
        match began {
            Ok(attempts) => match &shared.threads {
                Some(threads) => threads.run(attempts),
                None => attempts.into_iter().for_each(|attempt| {
                    tasks.spawn(execute(attempt));
                }),
            },
            Err(error) => {
                tracing::error!(error = &error as &dyn std::error::Error, "runs cannot be claimed");
            }
        }
        let waited = async {
            if failed {
                tokio::time::sleep(PAUSE).await;
            } else if !all_taken {
                shared.webhooks.inner.store.wait_for_work(Work::Runs).await;
            }
            // Whoever is about to enqueue another run gets the chance to come along.
            tokio::task::yield_now().await;
        };
        tokio::select! {
            () = waited => {}
            _ = phase.changed() => {}
        }
    }
    while tasks.join_next().await.is_some() {}
}

async fn claim(shared: &Shared, limit: usize) -> Result<Vec<Claim>, StoreError> {
    let inner = &shared.webhooks.inner;
    let request = ClaimRequest::new(limit, shared.options.lease, inner.now())
        .with_interruption_bound(shared.options.interruption_bound);
    inner.store.claim(request).await
}

/// Holds on to claims and takes a slot for each that is to be executed; settles those that are not.
fn begin(shared: &Arc<Shared>, claims: Vec<Claim>) -> Vec<Arc<Attempt>> {
    let held = shared.hold(claims);
    let mut attempts = Vec::with_capacity(held.len());
    for (claim, stop) in held {
        let (run, fence) = (claim.run.id, claim.run.fence);
        match Attempt::new(shared, claim, stop) {
            Ok(attempt) => attempts.push(Arc::new(attempt)),
            Err(outcome) => shared.settle(run, fence, outcome),
        }
    }
    shared.take_slots(attempts.len());
    attempts
}

async fn execute(attempt: Arc<Attempt>) {
    if let Some(outcome) = attempt.clone().execute_as_task().await {
        attempt.settle(outcome);
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
    let held: Vec<_> = lock(&shared.held).iter().map(|(key, stop)| (*key, stop.clone())).collect();
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
