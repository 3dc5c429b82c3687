//! Waiting for work.

use tokio::sync::Notify;
use tokio::time::{Instant, sleep_until};

/// Waits until there is work.
///
/// `work_at` returns the time at which work is due if nothing changes. It is called again after every change, which
/// the store signals through `changes` with [`Notify::notify_waiters`].
///
/// # Cancel safety
/// A caller that drops the wait misses nothing.
pub async fn wait_for_work(changes: &Notify, work_at: impl Fn(Instant) -> Option<Instant>) {
    loop {
        let changed = changes.notified();
        tokio::pin!(changed);
        // Registered before the look, so that no change falls between the two.
        changed.as_mut().enable();
        let now = Instant::now();
        match work_at(now) {
            None => changed.await,
            Some(from) if from <= now => return,
            Some(from) => tokio::select! {
                () = changed => {}
                () = sleep_until(from) => {}
            },
        }
    }
}
