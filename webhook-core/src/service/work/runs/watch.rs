//! Stopping attempts whose time-out or lease has ended, and giving up those that do not stop.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, sleep_until};

use crate::service::work::Shared;

/// How often all attempts are looked at while there are any. Besides, one is looked at when its time-out ends.
const PAUSE: Duration = Duration::from_millis(100);

/// Watches over all attempts. An attempt that is over within a pause is never looked at.
pub(in crate::service::work) async fn watch(shared: Arc<Shared>) {
    let mut next = Instant::now() + PAUSE;
    loop {
        sleep_until(next).await;
        let held = shared.held();
        if held.is_empty() {
            shared.holds.notified().await;
        }
        let now = Instant::now();
        let attempts = held.iter().filter_map(|(_, attempt)| attempt.as_ref());
        let deadlines = attempts.filter_map(|attempt| attempt.attend(now, shared.options.cancel_grace));
        next = deadlines.min().map_or(now + PAUSE, |deadline| deadline.clamp(now, now + PAUSE));
        if let Some(threads) = &shared.threads {
            threads.retry();
        }
    }
}
