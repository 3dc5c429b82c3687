//! The clock by which idempotency keys expire.

use std::time::SystemTime;

use tokio::time::Instant;
use webhook_core::clock::to_milliseconds;

use crate::format::value::SavedClock;

/// How many milliseconds count at most between two lives of a store.
const MOST_BETWEEN: u64 = 60 * 60 * 1_000;

/// The time by which idempotency keys expire: the time of day when the store was made, and from then on the time that
/// has passed while it was open, so that a clock that jumps or is wrong at a start expires nothing. Of the time between,
/// which only the clock tells, at most an hour counts.
pub(crate) struct StoreClock {
    base: u64,
    origin: Instant,
}

impl StoreClock {
    /// Goes on from where it was, at this time of day.
    pub(crate) fn start(saved: Option<SavedClock>, time_of_day: SystemTime) -> Self {
        let wall = u64::try_from(to_milliseconds(time_of_day)).unwrap_or(0);
        let base = saved.map_or(wall, |saved| {
            saved.time.saturating_add(wall.saturating_sub(saved.time_of_day).min(MOST_BETWEEN))
        });
        Self { base, origin: Instant::now() }
    }

    /// To go on from at the next start.
    pub(crate) fn save(&self) -> SavedClock {
        let time_of_day = u64::try_from(to_milliseconds(SystemTime::now())).unwrap_or(0);
        SavedClock { time: self.now(Instant::now()), time_of_day }
    }

    /// Milliseconds since the Unix epoch.
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
