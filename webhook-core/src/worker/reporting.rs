//! Passing on what executors report: progress and log lines.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, sleep, timeout};

use super::attempt::Attempt;
use super::supervised::caught;
use crate::store::{Renewal, StoreError};

/// How often reports of one attempt are passed on at most.
const PAUSE: Duration = Duration::from_millis(200);
/// How long to wait after the store failed.
const FAILED_PAUSE: Duration = Duration::from_secs(1);

/// Passes reports on as they come, from the first one until the executor has returned.
pub(super) async fn pass_on(attempt: Arc<Attempt>) {
    let (_, reports) = attempt.reports();
    while !reports.is_finished() {
        if has_passed_on(&attempt).await {
            sleep(PAUSE).await;
            reports.arrived().await;
        } else {
            sleep(FAILED_PAUSE).await;
        }
    }
}

/// Passes on what is left when the executor has returned. Gives up when the store has not taken it within a lease.
pub(super) async fn pass_on_rest(attempt: &Arc<Attempt>) {
    let (shared, _) = attempt.reports();
    let passing_on = async {
        while !has_passed_on(attempt).await {
            sleep(FAILED_PAUSE).await;
        }
    };
    if timeout(shared.options.lease, passing_on).await.is_err() {
        tracing::error!(run = %attempt.claim.run.id, "the last log lines of a run were lost");
    }
}

/// Passes on what was reported so far, and returns whether the store took it.
async fn has_passed_on(attempt: &Attempt) -> bool {
    let Err(error) = pass_on_once(attempt).await else { return true };
    let (run, error) = (attempt.claim.run.id, &error as &dyn std::error::Error);
    tracing::warn!(%run, error, "what a run reports cannot be recorded; it is tried again");
    false
}

/// Passes on what was reported so far. Reports that the store does not take are put back.
async fn pass_on_once(attempt: &Attempt) -> Result<(), StoreError> {
    let (shared, reports) = attempt.reports();
    let _turn = reports.turn().await;
    let (webhooks, lease) = (&shared.webhooks, shared.options.lease);
    let store = &webhooks.inner.store;
    let (run, fence) = (attempt.claim.run.id, attempt.claim.run.fence);
    let mut pending = reports.take();
    if !pending.lines.is_empty() {
        let appending = store.append_log(run, fence, pending.lines.clone());
        if let Err(error) = caught(webhooks, "reporting", appending).await {
            reports.put_back(pending);
            return Err(error);
        }
        pending.lines.clear();
    }
    if let Some(progress) = pending.progress.clone() {
        let lease_end = Instant::now() + lease;
        let renewing = store.renew(vec![Renewal::new(run, fence, Some(progress))], lease);
        match caught(webhooks, "reporting", renewing).await {
            Ok(renewed) => renewed.into_iter().for_each(|renewed| attempt.renewed(renewed, lease_end)),
            Err(error) => {
                reports.put_back(pending);
                return Err(error);
            }
        }
    }
    Ok(())
}
