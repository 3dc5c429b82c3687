//! Renews leases. A worker fences itself: it stops an execution without a lease.
//!
//! Each lease is renewed three times before it would end. It may still end, when the store is unavailable or
//! this process was suspended.
//! Then the [watch](super::watch) tells the attempt to stop. Nothing is claimed until the attempt has ended
//! or its lease is renewed.

use std::sync::Arc;

use tokio::time::{Instant, sleep, timeout};

use super::pool::RunPool;
use crate::store::{Renewal, StoreError};

/// Renews the leases of all claims that are held.
pub(in crate::service::work) async fn renew(pool: Arc<RunPool>) {
    let lease = pool.options.lease;
    let mut pause = lease / 3;
    loop {
        sleep(pause).await;
        pause = if renew_once(&pool).await { lease / 3 } else { lease / 30 };
    }
}

/// Renews once, and returns whether the store replied.
async fn renew_once(pool: &RunPool) -> bool {
    let (lease, claimed) = (pool.options.lease, pool.claimed.snapshot());
    if claimed.is_empty() {
        return true;
    }
    let renewals = claimed.iter().map(|((run, fence), _)| Renewal::new(*run, *fence, None)).collect();
    // Counted from before the call, since the store counts from some moment during it.
    let end = Instant::now() + lease;
    let renewing = timeout(lease, pool.parts.store.renew(renewals, lease));
    let renewed = match renewing.await.unwrap_or_else(|_| Err(StoreError::unavailable("it does not answer")))
    {
        Ok(renewed) => renewed,
        Err(error) => {
            tracing::error!(error = &error as &dyn std::error::Error, "leases cannot be renewed");
            return false;
        }
    };
    for ((_, attempt), renewed) in claimed.into_iter().zip(renewed) {
        if let Some(attempt) = attempt {
            attempt.renewed(renewed, end);
        }
    }
    // Claiming may have waited for a lease that had lapsed.
    pool.slots.changed.notify_one();
    true
}
