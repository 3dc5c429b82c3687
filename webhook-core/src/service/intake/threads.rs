//! Threads for work on large bodies.

use super::error::TriggerError;

/// Size, in bytes, up to which a body is looked at on the caller's thread.
pub(super) const SMALL_BODY: usize = 64 << 10;

/// Works on a thread for work that takes milliseconds, so that other calls continue.
pub(super) async fn elsewhere<R: Send + 'static>(
    work: impl FnOnce() -> R + Send + 'static,
) -> Result<R, TriggerError> {
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => Ok(result),
        Err(error) => match error.try_into_panic() {
            Ok(panic) => std::panic::resume_unwind(panic),
            Err(_) => Err(TriggerError::ShuttingDown),
        },
    }
}
