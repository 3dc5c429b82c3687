//! Supervision: a task that panics is logged and counted, and starts again.
//!
//! A restart would lose the task's data. Where that matters, only a panic of its call to the store is caught.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;

use crate::service::parts::Parts;
use crate::store::StoreError;

/// Pause after a panic, so that a lasting fault does not use up a processor.
const PAUSE: Duration = Duration::from_secs(1);

/// Runs a task until it returns, and starts it again after each panic.
pub(super) async fn supervised<F>(parts: Arc<Parts>, name: &'static str, task: impl Fn() -> F)
where
    F: Future<Output = ()>,
{
    // The task is also made inside the block, so a panic on the way to its future is caught too.
    while AssertUnwindSafe(async { task().await }).catch_unwind().await.is_err() {
        tracing::error!(task = name, "a task of the workers panicked; it begins again");
        parts.trouble.panicked(name);
        tokio::time::sleep(PAUSE).await;
    }
}

/// Awaits a call to the store, and returns its panic as an error.
pub(super) async fn caught<T>(
    parts: &Parts,
    task: &'static str,
    call: impl Future<Output = Result<T, StoreError>>,
) -> Result<T, StoreError> {
    AssertUnwindSafe(call).catch_unwind().await.unwrap_or_else(|_| {
        parts.trouble.panicked(task);
        Err(StoreError::unavailable("it panicked"))
    })
}
