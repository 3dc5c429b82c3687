//! Passes on the reports of executors: progress and log lines.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, sleep, timeout};

use super::attempt::Attempt;
use super::pool::RunPool;
use crate::service::work::supervised::caught;
use crate::store::Renewal;

/// Lower bound on the time between two calls to the store for one attempt.
const PAUSE: Duration = Duration::from_millis(200);
/// Pause after the store failed.
const FAILED_PAUSE: Duration = Duration::from_secs(1);

/// Passes on reports as they arrive, until the executor has returned.
pub(super) async fn pass_on(pool: Arc<RunPool>, attempt: Arc<Attempt>) {
    let reports = &attempt.reports;
    while !reports.is_finished() {
        if has_passed_on(&pool, &attempt).await {
            sleep(PAUSE).await;
            reports.arrived().await;
        } else {
            sleep(FAILED_PAUSE).await;
        }
    }
}

/// Passes on the rest when the executor has returned. Gives up if the store has not accepted it within a
/// lease.
pub(super) async fn pass_on_rest(pool: &RunPool, attempt: &Attempt) {
    let passing_on = async {
        while !has_passed_on(pool, attempt).await {
            sleep(FAILED_PAUSE).await;
        }
    };
    if timeout(pool.options.lease, passing_on).await.is_err() {
        tracing::error!(run = %attempt.claim.run.id(), "the last log lines of a run were lost");
    }
}

/// Passes on the reports so far, and returns whether the store accepted them. Otherwise they are put back.
async fn has_passed_on(pool: &RunPool, attempt: &Attempt) -> bool {
    let reports = &attempt.reports;
    let _turn = reports.turn().await;
    let (store, lease) = (&pool.parts.store, pool.options.lease);
    let (run, fence) = (attempt.claim.run.id(), attempt.claim.run.fence());
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
    let Err(error) = caught(&pool.parts, "reporting", passing_on).await else { return true };
    reports.put_back(pending);
    let error = &error as &dyn std::error::Error;
    tracing::warn!(%run, error, "what a run reports cannot be recorded; it is tried again");
    false
}
