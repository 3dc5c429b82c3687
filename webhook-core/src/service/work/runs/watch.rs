//! Stops attempts whose time-out or lease has ended, and gives up those that do not stop.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, sleep_until};

use super::execution;
use super::pool::RunPool;

/// Interval at which all attempts are examined while there are any. In addition, one is examined when its
/// time-out ends.
const PAUSE: Duration = Duration::from_millis(100);

/// Watches all attempts. An attempt that ends within a pause is never examined.
pub(in crate::service::work) async fn watch(pool: Arc<RunPool>) {
    let mut next = Instant::now() + PAUSE;
    loop {
        sleep_until(next).await;
        let claimed = pool.claimed.snapshot();
        if claimed.is_empty() {
            pool.claimed.added.notified().await;
        }
        let now = Instant::now();
        let attempts = claimed.iter().filter_map(|(_, attempt)| attempt.as_ref());
        let deadlines = attempts.filter_map(|attempt| execution::attend(&pool, attempt, now));
        next = deadlines.min().map_or(now + PAUSE, |deadline| deadline.clamp(now, now + PAUSE));
        if let Some(threads) = &pool.threads {
            threads.retry();
        }
    }
}
