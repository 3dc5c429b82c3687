//! The signal to stop.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};

use tokio::sync::Notify;

use crate::run::CancelReason;

/// Signal to an executor to stop, with the reason.
#[derive(Debug, Clone)]
pub struct Cancellation(Arc<Stop>);

#[derive(Debug, Default)]
struct Stop {
    reason: OnceLock<StopReason>,
    abandoned: AtomicBool,
    told: Notify,
}

/// Reason for stopping an attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum StopReason {
    /// The run was cancelled.
    Cancelled(CancelReason),
    /// The attempt exceeded its time-out.
    TimedOut,
    /// The service is shutting down; the run will be executed again.
    ShuttingDown,
    /// The lease was lost: another worker may already be executing the run.
    LeaseLost,
}

/// Sender of a [`Cancellation`].
#[derive(Debug, Clone, Default)]
pub struct CancellationSource(Arc<Stop>);

impl CancellationSource {
    /// Creates a source that has not been cancelled.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Tells every [`Cancellation`] of this source to stop. The first reason is kept.
    pub fn cancel(&self, reason: StopReason) {
        if self.0.reason.set(reason).is_ok() {
            self.0.told.notify_waiters();
        }
    }

    /// Gives up the executor: its outcome no longer counts.
    pub(crate) fn abandon(&self) {
        self.0.abandoned.store(true, Ordering::SeqCst);
        self.0.told.notify_waiters();
    }

    /// Returns whether the executor was given up.
    pub(crate) fn is_abandoned(&self) -> bool {
        self.0.abandoned.load(Ordering::SeqCst)
    }

    /// Waits until the executor is given up. Cancel safe.
    pub(crate) async fn abandoned(&self) {
        self.0.told_that(|| self.is_abandoned().then_some(())).await;
    }

    /// Returns the signal for an executor.
    #[must_use]
    pub fn cancellation(&self) -> Cancellation {
        Cancellation(self.0.clone())
    }
}

impl Cancellation {
    /// Returns a signal that never fires.
    #[must_use]
    pub fn never() -> Self {
        CancellationSource::new().cancellation()
    }

    /// Returns whether the executor should stop.
    #[must_use]
    pub fn is_cancelled(&self) -> bool {
        self.reason().is_some()
    }

    /// Returns the reason to stop, if there is one.
    #[must_use]
    pub fn reason(&self) -> Option<StopReason> {
        self.0.reason.get().copied()
    }

    /// Waits for the signal to stop, and returns the reason. Cancel safe.
    pub async fn cancelled(&self) -> StopReason {
        self.0.told_that(|| self.reason()).await
    }
}

impl Stop {
    /// Waits until `look` returns a value. Cancel safe.
    async fn told_that<T>(&self, look: impl Fn() -> Option<T>) -> T {
        loop {
            let told = self.told.notified();
            tokio::pin!(told);
            told.as_mut().enable();
            match look() {
                Some(found) => return found,
                None => told.await,
            }
        }
    }
}
