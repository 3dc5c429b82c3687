//! Switch between accepting and refusing new calls.

use std::sync::atomic::{AtomicBool, Ordering};

use tokio::sync::Notify;

/// Accepts calls until it is told to stop, as at shutdown, and again once workers start.
#[derive(Debug, Default)]
pub(super) struct Accepting {
    is_stopped: AtomicBool,
    /// Signalled when new calls begin to be refused.
    stopped: Notify,
}

impl Accepting {
    pub(super) fn is_accepting(&self) -> bool {
        !self.is_stopped.load(Ordering::SeqCst)
    }

    pub(super) fn start(&self) {
        self.is_stopped.store(false, Ordering::SeqCst);
    }

    pub(super) fn stop(&self) {
        self.is_stopped.store(true, Ordering::SeqCst);
        self.stopped.notify_waiters();
    }

    /// Waits until new calls are refused. Cancel safe.
    pub(super) async fn stopped(&self) {
        let stopped = self.stopped.notified();
        tokio::pin!(stopped);
        // Registered before the check, so that a stop in between is not missed.
        stopped.as_mut().enable();
        if self.is_accepting() {
            stopped.await;
        }
    }
}
