//! Supervision: a task that panics is logged and counted, and starts again. Where a restart would lose what the task has
//! in hand, only the panic of its call to the store is caught.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;

use super::Shared;
use crate::service::Webhooks;
use crate::store::StoreError;

/// The pause after a panic, so a lasting fault does not use up a processor.
const PAUSE: Duration = Duration::from_secs(1);

/// Runs a task until it returns, and starts it again after each panic.
pub(super) async fn supervised<F>(shared: Arc<Shared>, name: &'static str, task: impl Fn(Arc<Shared>) -> F)
where
    F: Future<Output = ()>,
{
    while AssertUnwindSafe(async { task(shared.clone()).await }).catch_unwind().await.is_err() {
        tracing::error!(task = name, "a task of the workers panicked; it begins again");
        shared.webhooks.inner.trouble.panicked(name);
        tokio::time::sleep(PAUSE).await;
    }
}

/// Awaits a call of the store, and returns its panic as an error.
pub(super) async fn caught<T>(
    webhooks: &Webhooks,
    task: &'static str,
    call: impl Future<Output = Result<T, StoreError>>,
) -> Result<T, StoreError> {
    AssertUnwindSafe(call).catch_unwind().await.unwrap_or_else(|_| {
        webhooks.inner.trouble.panicked(task);
        Err(StoreError::unavailable("it panicked"))
    })
}
