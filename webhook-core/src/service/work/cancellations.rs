//! Stops runs that another process cancels.

use std::sync::Arc;

use crate::service::parts::Parts;

/// Passes the cancellations that the store tells of to the executors of this process.
pub(super) async fn pass_on_cancellations(parts: Arc<Parts>) {
    loop {
        for notice in parts.store.wait_for_cancellations().await {
            parts.executing.cancel(&[notice.run], notice.reason);
        }
    }
}
