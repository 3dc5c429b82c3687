//! Renewing leases. A worker fences itself: it stops what it executes without a lease.
//!
//! Each lease is renewed three times before it would end. It can end all the same, when the store is away or when this
//! process was suspended. Then the [watch](super::watch) tells the attempt to stop. Nothing is claimed until the attempt
//! has ended or its lease is renewed.

use std::sync::Arc;

use tokio::time::{Instant, sleep, timeout};

use crate::service::work::Shared;
use crate::store::{Renewal, StoreError};

/// Renews the leases of all claims that are held.
pub(in crate::service::work) async fn renew(shared: Arc<Shared>) {
    let lease = shared.options.lease;
    let mut pause = lease / 3;
    loop {
        sleep(pause).await;
        pause = if renew_once(&shared).await { lease / 3 } else { lease / 30 };
    }
}

/// Renews once, and returns whether the store answered.
async fn renew_once(shared: &Shared) -> bool {
    let (lease, held) = (shared.options.lease, shared.held());
    if held.is_empty() {
        return true;
    }
    let renewals = held.iter().map(|((run, fence), _)| Renewal::new(*run, *fence, None)).collect();
    // Counted from before the call, since the store counts from some moment during it.
    let end = Instant::now() + lease;
    let renewing = timeout(lease, shared.webhooks.inner.store.renew(renewals, lease));
    let renewed = match renewing.await.unwrap_or_else(|_| Err(StoreError::unavailable("it does not answer")))
    {
        Ok(renewed) => renewed,
        Err(error) => {
            tracing::error!(error = &error as &dyn std::error::Error, "leases cannot be renewed");
            return false;
        }
    };
    for ((_, attempt), renewed) in held.into_iter().zip(renewed) {
        if let Some(attempt) = attempt {
            attempt.renewed(renewed, end);
        }
    }
    shared.slots.changed.notify_one();
    true
}
