//! Token buckets.

use std::collections::HashMap;
use std::hash::Hash;
use std::time::Duration;

use tokio::time::Instant;

use crate::id::WebhookId;
use crate::webhook::RateLimit;

/// Number of buckets at which full ones are first searched for.
const FIRST_SWEEP: usize = 1_024;
/// Lower bound on the time between two searches for full buckets in a table without space.
const SWEEP_PAUSE: Duration = Duration::from_secs(1);
/// Upper bound on the returned pause, whatever the rate.
const LONGEST_PAUSE: Duration = Duration::from_secs(86_400);

/// Rates of the calls of webhooks: a bucket for each webhook that was called lately.
#[derive(Debug, Default)]
pub struct CallRates(Buckets<WebhookId>);

impl CallRates {
    /// Takes one call from a webhook's bucket, like [`CallStore::take_call`](crate::store::CallStore::take_call).
    pub fn take(&mut self, webhook: WebhookId, limit: RateLimit, now: Instant) -> Option<Duration> {
        let per_second = f64::from(limit.per_minute) / 60.0;
        self.0.sweep_when_grown(now);
        self.0.take(webhook, per_second, limit.burst, now).err()
    }
}

#[derive(Debug)]
pub(crate) struct Buckets<K> {
    buckets: HashMap<K, Bucket>,
    /// Number of buckets at which full ones are searched for.
    sweep_at: usize,
    /// Time of the last search.
    swept: Option<Instant>,
}

impl<K> Default for Buckets<K> {
    fn default() -> Self {
        Self { buckets: HashMap::new(), sweep_at: FIRST_SWEEP, swept: None }
    }
}

#[derive(Debug, Clone, Copy)]
struct Bucket {
    left: f64,
    at: Instant,
    full_at: Instant,
}

impl<K: Hash + Eq + Clone> Buckets<K> {
    /// Takes one unit from the bucket of `key`, or returns the pause until there is one.
    pub(crate) fn take(&mut self, key: K, per_second: f64, burst: u32, now: Instant) -> Result<(), Duration> {
        let burst = f64::from(burst);
        let bucket = self.buckets.entry(key).or_insert(Bucket { left: burst, at: now, full_at: now });
        let gained = now.saturating_duration_since(bucket.at).as_secs_f64() * per_second;
        let left = (bucket.left + gained).min(burst);
        let taken = left >= 1.0;
        let left = if taken { left - 1.0 } else { left };
        let until_full = pause((burst - left) / per_second);
        *bucket = Bucket { left, at: now, full_at: now + until_full };
        if taken { Ok(()) } else { Err(pause((1.0 - left) / per_second)) }
    }

    /// Removes full buckets whenever their number has doubled, so the cost for each bucket is small.
    fn sweep_when_grown(&mut self, now: Instant) {
        if self.buckets.len() >= self.sweep_at {
            self.sweep(now);
            self.sweep_at = FIRST_SWEEP.max(2 * self.buckets.len());
        }
    }

    /// Returns whether `key` has a bucket or may get one, where there are to be at most `most`.
    pub(crate) fn has_place(&mut self, key: &K, most: usize, now: Instant) -> bool {
        if self.buckets.len() < most || self.buckets.contains_key(key) {
            return true;
        }
        let is_due = self.swept.is_none_or(|swept| now.saturating_duration_since(swept) >= SWEEP_PAUSE);
        if is_due {
            self.sweep(now);
        }
        self.buckets.len() < most
    }

    /// Number of buckets.
    #[cfg(test)]
    pub(crate) fn len(&self) -> usize {
        self.buckets.len()
    }

    fn sweep(&mut self, now: Instant) {
        self.buckets.retain(|_, bucket| bucket.full_at > now);
        self.swept = Some(now);
    }
}

/// Returns a pause of so many seconds, bounded: a rate of zero never fills a bucket.
fn pause(seconds: f64) -> Duration {
    Duration::try_from_secs_f64(seconds).map_or(LONGEST_PAUSE, |pause| pause.min(LONGEST_PAUSE))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_bucket_empties_by_its_burst_and_refills_by_its_rate() {
        let mut buckets = Buckets::default();
        let start = Instant::now();
        for _ in 0..3 {
            assert_eq!(buckets.take("a", 2.0, 3, start), Ok(()));
        }
        assert_eq!(buckets.take("a", 2.0, 3, start), Err(Duration::from_millis(500)));
        assert_eq!(buckets.take("b", 2.0, 3, start), Ok(()));
        let later = start + Duration::from_millis(500);
        assert_eq!(buckets.take("a", 2.0, 3, later), Ok(()));
        assert!(buckets.take("a", 2.0, 3, later).is_err());
    }

    #[tokio::test(start_paused = true)]
    async fn a_rate_limit_holds_however_many_webhooks_have_one() {
        let mut rates = CallRates::default();
        let limit = RateLimit::new(1, 1);
        let now = std::time::SystemTime::UNIX_EPOCH;
        let webhooks: Vec<_> = (0..40_000).map(|_| WebhookId::generate(now)).collect();
        for webhook in &webhooks {
            assert!(rates.take(*webhook, limit, Instant::now()).is_none());
        }
        assert!(webhooks.iter().all(|webhook| rates.take(*webhook, limit, Instant::now()).is_some()));
        tokio::time::sleep(Duration::from_secs(61)).await;
        for _ in 0..50_000 {
            let _ = rates.take(WebhookId::generate(now), limit, Instant::now());
        }
        assert!(rates.0.len() <= 90_000 - webhooks.len() + 1, "full buckets are dropped");
    }

    #[tokio::test(start_paused = true)]
    async fn a_limit_of_nothing_refuses_for_long_and_panics_never() {
        for (per_second, burst) in [(0.0, 0), (0.0, 1), (f64::NAN, 1), (1e-300, 2), (f64::INFINITY, 1)] {
            let mut buckets = Buckets::default();
            for second in [0, 1, 3_600] {
                let now = Instant::now() + Duration::from_secs(second);
                let taken = buckets.take("a", per_second, burst, now);
                assert!(taken.is_ok() || taken.unwrap_err() <= LONGEST_PAUSE);
            }
        }
    }
}
