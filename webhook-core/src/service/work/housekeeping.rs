//! Recording now and then when webhooks were last used, and removing runs past their retention.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use tokio::time::{Instant, MissedTickBehavior};

use super::Shared;
use crate::executor::ExecutorError;
use crate::id::RunId;
use crate::store::{PruneRequest, StoreError};

/// How often the last uses of webhooks are recorded.
const RECORD_USES_EVERY: Duration = Duration::from_secs(5);
/// How many runs are removed at once.
const PRUNE_BATCH: usize = 500;

/// Does both at their intervals.
pub(super) async fn keep_house(shared: Arc<Shared>) {
    let every = shared.options.prune_every.max(Duration::from_millis(1));
    let mut uses = tokio::time::interval_at(Instant::now() + RECORD_USES_EVERY, RECORD_USES_EVERY);
    let mut prunes = tokio::time::interval_at(Instant::now() + every, every);
    uses.set_missed_tick_behavior(MissedTickBehavior::Delay);
    prunes.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        let done = tokio::select! {
            _ = uses.tick() => shared.webhooks.inner.write_uses().await,
            _ = prunes.tick() => prune(&shared).await,
        };
        if let Err(error) = done {
            tracing::warn!(
                error = &error as &dyn std::error::Error,
                "housekeeping failed; it is tried again"
            );
        }
    }
}

async fn prune(shared: &Shared) -> Result<(), StoreError> {
    let inner = &shared.webhooks.inner;
    loop {
        let request = PruneRequest::new(inner.now(), inner.options.keep_runs, PRUNE_BATCH)
            .with_keep_per_webhook(inner.options.keep_runs_per_webhook);
        let pruned = inner.store.prune(request).await?;
        if !pruned.runs.is_empty()
            && let Err(error) = discard(shared, &pruned.runs).await
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
async fn discard(shared: &Shared, runs: &[RunId]) -> Result<(), ExecutorError> {
    let discarding = AssertUnwindSafe(shared.webhooks.inner.executor.discard(runs)).catch_unwind();
    discarding.await.unwrap_or_else(|_| {
        shared.webhooks.inner.trouble.panicked("housekeeping");
        Err(ExecutorError::new("the executor panicked"))
    })
}
