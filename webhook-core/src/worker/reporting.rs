//! Passing on what executors report: progress and log lines.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, sleep};

use super::attempt::Attempt;
use super::leases::stop_reason;
use crate::store::{Renewal, StoreError};

/// How often reports of one attempt are passed on at most.
const PAUSE: Duration = Duration::from_millis(200);
/// How long to wait after the store failed.
const FAILED_PAUSE: Duration = Duration::from_secs(1);

/// Passes reports on as they come, from the first to the end of the attempt.
pub(super) async fn pass_on(attempt: Arc<Attempt>) {
    let (_, reports) = attempt.reports();
    while !reports.is_finished() {
        if let Err(error) = pass_on_once(&attempt).await {
            let run = attempt.claim.run.id;
            let text = "what a run reports cannot be recorded; it is tried again";
            tracing::warn!(%run, error = &error as &dyn std::error::Error, "{text}");
            sleep(FAILED_PAUSE).await;
        }
        sleep(PAUSE).await;
        reports.arrived().await;
    }
}

/// Passes on what is left when the executor has returned. Where the store fails, it is tried for as long as a lease.
pub(super) async fn pass_on_rest(attempt: &Arc<Attempt>) {
    let (shared, _) = attempt.reports();
    let give_up = Instant::now() + shared.options.lease;
    while let Err(error) = pass_on_once(attempt).await {
        if Instant::now() >= give_up {
            let run = attempt.claim.run.id;
            tracing::error!(%run, error = &error as &dyn std::error::Error, "the last log lines of a run were lost");
            return;
        }
        sleep(FAILED_PAUSE).await;
    }
}

/// Passes on what was reported so far. What the store does not take stays.
async fn pass_on_once(attempt: &Attempt) -> Result<(), StoreError> {
    let (shared, reports) = attempt.reports();
    let _turn = reports.turn().await;
    let store = &shared.webhooks.inner.store;
    let (run, fence) = (attempt.claim.run.id, attempt.claim.run.fence);
    let mut pending = reports.take();
    if !pending.lines.is_empty() {
        if let Err(error) = store.append_log(run, fence, pending.lines.clone()).await {
            reports.put_back(pending);
            return Err(error);
        }
        pending.lines.clear();
    }
    if let Some(progress) = pending.progress.clone() {
        let now = Instant::now();
        match store.renew(vec![Renewal::new(run, fence, Some(progress))], shared.options.lease).await {
            Ok(renewed) => match renewed.into_iter().find_map(stop_reason) {
                Some(reason) => attempt.stop(reason),
                None => attempt.renewed(now + shared.options.lease),
            },
            Err(error) => {
                reports.put_back(pending);
                return Err(error);
            }
        }
    }
    Ok(())
}
