//! Time of day: its source, and its text form.
//!
//! The wall clock stamps records, and gives their age in days. Pauses, leases and time-outs are measured with
//! [`tokio::time::Instant`]: a jump of the wall clock does not affect it, and a test can pause it.

use std::fmt::Debug;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use time::OffsetDateTime;
use time::format_description::well_known::iso8601::{Config, EncodedConfig, Iso8601, TimePrecision};
use tokio::time::Instant;

/// Source of the time of day.
pub trait Clock: Debug + Send + Sync + 'static {
    /// Returns the current time of day.
    fn now(&self) -> SystemTime;
}

/// A shared clock is a clock, also when `C` is `dyn Clock`.
impl<C: Clock + ?Sized> Clock for Arc<C> {
    fn now(&self) -> SystemTime {
        (**self).now()
    }
}

/// The machine's clock, truncated to whole milliseconds like every record.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    fn now(&self) -> SystemTime {
        from_milliseconds(to_milliseconds(SystemTime::now()))
    }
}

/// Returns the whole milliseconds since the Unix epoch, negative before it.
#[must_use]
pub fn to_milliseconds(time: SystemTime) -> i64 {
    match time.duration_since(UNIX_EPOCH) {
        Ok(after) => after.as_millis() as i64,
        // The earliest representable time has no positive counterpart.
        Err(before) => (before.duration().as_millis() as i64).wrapping_neg(),
    }
}

/// Returns the time this many milliseconds after the Unix epoch.
#[must_use]
pub fn from_milliseconds(milliseconds: i64) -> SystemTime {
    let distance = Duration::from_millis(milliseconds.unsigned_abs());
    if milliseconds < 0 { UNIX_EPOCH - distance } else { UNIX_EPOCH + distance }
}

const MILLISECONDS: EncodedConfig = Config::DEFAULT
    .set_time_precision(TimePrecision::Second {
        decimal_digits: Some(std::num::NonZero::<u8>::MIN.saturating_add(2)),
    })
    .encode();

/// Formats a time as on the wire: RFC 3339 in UTC with milliseconds, such as `2026-01-31T08:30:00.000Z`.
#[must_use]
pub fn format_timestamp(time: SystemTime) -> String {
    let nanoseconds = i128::from(to_milliseconds(time)) * 1_000_000;
    OffsetDateTime::from_unix_timestamp_nanos(nanoseconds)
        .ok()
        .and_then(|moment| moment.format(&Iso8601::<MILLISECONDS>).ok())
        .unwrap_or_else(|| "1970-01-01T00:00:00.000Z".to_owned())
}

/// Serializes times in stored records as milliseconds since the Unix epoch: `#[serde(with =
/// "milliseconds")]`.
pub mod milliseconds {
    use std::time::SystemTime;

    use serde::{Deserialize, Deserializer, Serializer};

    /// Serializes a time as milliseconds.
    ///
    /// # Errors
    /// Those of the serializer.
    pub fn serialize<S: Serializer>(time: &SystemTime, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_i64(super::to_milliseconds(*time))
    }

    /// Deserializes a time from milliseconds.
    ///
    /// # Errors
    /// Those of the deserializer.
    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<SystemTime, D::Error> {
        i64::deserialize(deserializer).map(super::from_milliseconds)
    }

    /// Serializes an optional time in the same way.
    pub mod option {
        use std::time::SystemTime;

        use serde::{Deserialize, Deserializer, Serialize, Serializer};

        /// Serializes a time as milliseconds, or nothing.
        ///
        /// # Errors
        /// Those of the serializer.
        pub fn serialize<S: Serializer>(time: &Option<SystemTime>, serializer: S) -> Result<S::Ok, S::Error> {
            time.map(super::super::to_milliseconds).serialize(serializer)
        }

        /// Deserializes a time from milliseconds, or nothing.
        ///
        /// # Errors
        /// Those of the deserializer.
        pub fn deserialize<'de, D: Deserializer<'de>>(
            deserializer: D,
        ) -> Result<Option<SystemTime>, D::Error> {
            Ok(Option::<i64>::deserialize(deserializer)?.map(super::super::from_milliseconds))
        }
    }
}

/// Returns the instant after a pause. A pause that overflows counts as a century.
#[must_use]
pub fn later(instant: Instant, pause: Duration) -> Instant {
    instant.checked_add(pause).unwrap_or_else(|| instant + Duration::from_secs(100 * 365 * 86_400))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn timestamps_are_rfc_3339_with_milliseconds_in_utc() {
        assert_eq!(format_timestamp(UNIX_EPOCH), "1970-01-01T00:00:00.000Z");
        let time = from_milliseconds(1_767_225_600_007);
        assert_eq!(format_timestamp(time), "2026-01-01T00:00:00.007Z");
    }

    #[test]
    fn milliseconds_survive_the_round_trip_on_both_sides_of_the_epoch() {
        for milliseconds in [i64::MIN, -86_400_000, -1, 0, 1, 1_767_225_600_007, i64::MAX] {
            assert_eq!(to_milliseconds(from_milliseconds(milliseconds)), milliseconds);
        }
    }
}
