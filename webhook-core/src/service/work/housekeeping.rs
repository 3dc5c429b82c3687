//! Housekeeping at intervals: it records the last uses of webhooks, and removes expired runs.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use tokio::time::{Instant, MissedTickBehavior};

use super::supervised::caught;
use crate::executor::ExecutorError;
use crate::id::RunId;
use crate::service::parts::Parts;
use crate::store::{PruneRequest, StoreError};

/// Interval at which the last uses of webhooks are recorded.
const RECORD_USES_EVERY: Duration = Duration::from_secs(5);
/// Upper bound on runs that are removed in one step.
const PRUNE_BATCH: usize = 500;

/// Records uses and removes expired runs at their intervals. Never returns.
pub(super) async fn keep_house(parts: Arc<Parts>, prune_every: Duration) {
    let every = prune_every.max(Duration::from_millis(1));
    let mut uses = tokio::time::interval_at(Instant::now() + RECORD_USES_EVERY, RECORD_USES_EVERY);
    let mut prunes = tokio::time::interval_at(Instant::now() + every, every);
    uses.set_missed_tick_behavior(MissedTickBehavior::Delay);
    prunes.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        let done = tokio::select! {
            _ = uses.tick() => parts.write_uses().await,
            _ = prunes.tick() => prune(&parts).await,
        };
        if let Err(error) = done {
            let error = &error as &dyn std::error::Error;
            tracing::warn!(error, "housekeeping failed; it is tried again");
        }
    }
}

/// Records uses and removes expired runs once, for hosts' tests.
pub(super) async fn keep_house_once(parts: &Parts) -> Result<(), StoreError> {
    parts.write_uses().await?;
    prune(parts).await
}

/// Records the last uses and calls of webhooks before the end, in so much time.
pub(in crate::service) async fn record_last(parts: &Parts, patience: Duration) {
    let recording = caught(parts, "housekeeping", async {
        let calls = parts.write_calls().await;
        parts.write_uses().await.and(calls)
    });
    if !matches!(tokio::time::timeout(patience, recording).await, Ok(Ok(()))) {
        tracing::warn!("the last uses and calls of webhooks were not recorded");
    }
}

async fn prune(parts: &Parts) -> Result<(), StoreError> {
    parts.process_calls.expire_contents(parts.now());
    loop {
        let request = PruneRequest::new(parts.now(), parts.options.keep_runs, PRUNE_BATCH)
            .with_keep_per_webhook(parts.options.keep_runs_per_webhook);
        let pruned = parts.store.prune(request).await?;
        if !pruned.runs.is_empty()
            && let Err(error) = discard(parts, &pruned.runs).await
        {
            let error = &error as &dyn std::error::Error;
            tracing::warn!(error, "what some removed runs left behind could not be removed");
        }
        if !pruned.more {
            return Ok(());
        }
        // A store in memory never waits, so other tasks get their turn here.
        tokio::task::yield_now().await;
    }
}

/// Tells the executor to forget runs, and returns its panic as an error.
async fn discard(parts: &Parts, runs: &[RunId]) -> Result<(), ExecutorError> {
    let discarding = AssertUnwindSafe(parts.executor.discard(runs)).catch_unwind();
    discarding.await.unwrap_or_else(|_| {
        parts.trouble.panicked("housekeeping");
        Err(ExecutorError::new("the executor panicked"))
    })
}
