//! A clock that tests control.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use parking_lot::Mutex;
use tokio::time::Instant;
use webhook_core::clock::{Clock, from_milliseconds, to_milliseconds};

/// A clock for tests. It follows tokio's time, so it stands still while that is paused, and it can jump. Its clones
/// share the time.
///
/// ```
/// # #[tokio::main(flavor = "current_thread", start_paused = true)] async fn main() {
/// use std::time::Duration;
/// use webhook_core::clock::Clock;
/// use webhook_testing::TestClock;
/// let clock = TestClock::default();
/// let before = clock.now();
/// clock.advance(Duration::from_secs(60)).await;
/// assert_eq!(clock.now(), before + Duration::from_secs(60));
/// # }
/// ```
#[derive(Debug, Clone)]
pub struct TestClock {
    started: Instant,
    offset: Arc<Mutex<SystemTime>>,
}

impl Default for TestClock {
    /// Starts at 2026-01-01T00:00:00Z.
    fn default() -> Self {
        Self::starting_at(from_milliseconds(1_767_225_600_000))
    }
}

impl TestClock {
    /// Starts at this time of day.
    #[must_use]
    pub fn starting_at(start: SystemTime) -> Self {
        Self { started: Instant::now(), offset: Arc::new(Mutex::new(start)) }
    }

    /// Lets time pass: timers fire, and the time of day advances. Needs a paused tokio runtime.
    pub async fn advance(&self, by: Duration) {
        tokio::time::sleep(by).await;
    }

    /// Sets the time of day, forward or back, without any time passing.
    pub fn set(&self, now: SystemTime) {
        let elapsed = self.started.elapsed();
        *self.offset.lock() = now - elapsed;
    }
}

impl Clock for TestClock {
    fn now(&self) -> SystemTime {
        let offset = *self.offset.lock();
        from_milliseconds(to_milliseconds(offset + self.started.elapsed()))
    }
}

#[cfg(test)]
mod tests {
    use webhook_core::clock::format_timestamp;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn the_test_clock_jumps_without_time_passing() {
        let clock = TestClock::default();
        let timer = Instant::now();
        let handed_over = clock.clone();
        clock.set(clock.now() - Duration::from_secs(3600));
        assert_eq!(handed_over.now(), clock.now());
        assert_eq!(format_timestamp(clock.now()), "2025-12-31T23:00:00.000Z");
        assert_eq!(timer.elapsed(), Duration::ZERO);
        clock.advance(Duration::from_secs(1)).await;
        assert_eq!(format_timestamp(clock.now()), "2025-12-31T23:00:01.000Z");
    }
}
