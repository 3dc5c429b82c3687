//! Passing on what executors report: progress and log lines.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, sleep, timeout};

use super::attempt::Attempt;
use crate::service::work::supervised::caught;
use crate::store::Renewal;

/// How often reports of one attempt are passed on at most.
const PAUSE: Duration = Duration::from_millis(200);
/// How long to wait after the store failed.
const FAILED_PAUSE: Duration = Duration::from_secs(1);

/// Passes reports on as they come, from the first one until the executor has returned.
pub(in crate::service::work) async fn pass_on(attempt: Arc<Attempt>) {
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
pub(in crate::service::work) async fn pass_on_rest(attempt: &Arc<Attempt>) {
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

/// Passes on what was reported so far, and returns whether the store took it. What it did not take is put back.
async fn has_passed_on(attempt: &Attempt) -> bool {
    let (shared, reports) = attempt.reports();
    let _turn = reports.turn().await;
    let (store, lease) = (&shared.webhooks.inner.store, shared.options.lease);
    let (run, fence) = (attempt.claim.run.id, attempt.claim.run.fence);
    let mut pending = reports.take();
    let passing_on = async {
        if !pending.lines.is_empty() {
            store.append_log(run, fence, pending.lines.clone()).await?;
            pending.lines.clear();
        }
        if let Some(progress) = pending.progress.clone() {
            let lease_end = Instant::now() + lease;
            for renewed in store.renew(vec![Renewal::new(run, fence, Some(progress))], lease).await? {
                attempt.renewed(renewed, lease_end);
            }
        }
        Ok(())
    };
    let Err(error) = caught(&shared.webhooks, "reporting", passing_on).await else { return true };
    reports.put_back(pending);
    let error = &error as &dyn std::error::Error;
    tracing::warn!(%run, error, "what a run reports cannot be recorded; it is tried again");
    false
}
