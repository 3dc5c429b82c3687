//! Holding on to claims, and letting go in time: a worker fences itself.
//!
//! Leases are renewed three times as often as they end. One that ends all the same, because the store is away or this
//! process stood still, ends for its worker too: the attempt is told, and nothing is claimed until a renewal succeeds.

use std::sync::Arc;

use tokio::time::{Instant, sleep, timeout};

use super::Shared;
use crate::store::{Renewal, StoreError};

/// Renews the leases of all claims that are held, for ever.
pub(super) async fn renew(shared: Arc<Shared>) {
    let lease = shared.options.lease;
    let mut pause = lease / 3;
    loop {
        sleep(pause).await;
        pause = if renew_once(&shared).await { lease / 3 } else { lease / 30 };
    }
}

/// Returns whether the store answered.
async fn renew_once(shared: &Shared) -> bool {
    let (lease, held) = (shared.options.lease, shared.held());
    if held.is_empty() {
        return true;
    }
    let renewals = held.iter().map(|((run, fence), _)| Renewal::new(*run, *fence, None)).collect();
    // The lease counts from before the call, for the store may have granted it then.
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
