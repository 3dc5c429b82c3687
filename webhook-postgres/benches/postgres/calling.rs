//! Callers, each of which awaits its own call before the next.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use tokio::task::JoinSet;

/// Work of the callers within their time.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Called {
    pub(crate) count: u64,
    pub(crate) elapsed: Duration,
}

impl Called {
    pub(crate) fn per_second(self) -> f64 {
        self.count as f64 / self.elapsed.as_secs_f64()
    }
}

/// Calls from so many tasks at once until the time is over.
pub(crate) async fn call_for<C, F>(callers: usize, time: Duration, call: C) -> Called
where
    C: Fn() -> F + Clone + Send + 'static,
    F: Future<Output = ()> + Send,
{
    let (count, start) = (Arc::new(AtomicU64::new(0)), Instant::now());
    let end = start + time;
    let mut tasks = JoinSet::new();
    for _ in 0..callers {
        let (call, count) = (call.clone(), count.clone());
        tasks.spawn(async move {
            while Instant::now() < end {
                call().await;
                count.fetch_add(1, Ordering::Relaxed);
            }
        });
    }
    tasks.join_all().await;
    Called { count: count.load(Ordering::Relaxed), elapsed: start.elapsed() }
}
