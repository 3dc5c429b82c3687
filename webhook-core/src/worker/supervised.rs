//! Supervision: a task that panics is logged and counted, and goes on.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;

use super::Shared;

/// The pause after a panic, so that a fault that stays does not use up a processor.
const PAUSE: Duration = Duration::from_secs(1);

/// Carries out a task until it returns, anew after each panic.
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
