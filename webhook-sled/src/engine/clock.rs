//! The clock by which idempotency keys expire.

use std::time::SystemTime;

use tokio::time::Instant;
use webhook_core::clock::to_milliseconds;

use crate::format::value::SavedClock;

/// Upper bound on the time that counts between two openings, in milliseconds.
const MOST_BETWEEN: u64 = 60 * 60 * 1_000;

/// The clock by which idempotency keys expire.
///
/// It begins with the time of day when the store was made, and then counts the time for which the store is open. So a system
/// clock that jumps expires nothing. Between two openings only the system clock tells the time, of which at most an hour counts.
pub(crate) struct StoreClock {
    base: u64,
    origin: Instant,
}

impl StoreClock {
    /// Continues from where it was saved, at this time of day.
    pub(crate) fn start(saved: Option<SavedClock>, time_of_day: SystemTime) -> Self {
        let wall = u64::try_from(to_milliseconds(time_of_day)).unwrap_or(0);
        let base = saved.map_or(wall, |saved| {
            saved.time.saturating_add(wall.saturating_sub(saved.time_of_day).min(MOST_BETWEEN))
        });
        Self { base, origin: Instant::now() }
    }

    /// The reading to continue from at the next opening.
    pub(crate) fn save(&self) -> SavedClock {
        let time_of_day = u64::try_from(to_milliseconds(SystemTime::now())).unwrap_or(0);
        SavedClock { time: self.now(Instant::now()), time_of_day }
    }

    /// The present reading, in milliseconds since the Unix epoch.
    pub(crate) fn now(&self, instant: Instant) -> u64 {
        let passed = instant.saturating_duration_since(self.origin);
        self.base.saturating_add(u64::try_from(passed.as_millis()).unwrap_or(u64::MAX))
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_clock_that_was_wrong_for_a_day_expires_nothing_at_the_next_start() {
        let day = Duration::from_secs(86_400);
        let noon = SystemTime::UNIX_EPOCH + 20_000 * day;
        let time = |clock: &StoreClock| clock.now(clock.origin);
        let first = StoreClock::start(None, noon);
        let saved = SavedClock { time: time(&first), time_of_day: time(&first) };
        for (wrong, passed) in [(noon + day, MOST_BETWEEN), (noon - day, 0), (noon + day / 48, 1_800_000)] {
            assert_eq!(time(&StoreClock::start(Some(saved), wrong)) - time(&first), passed);
        }
    }
}
