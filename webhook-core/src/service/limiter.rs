//! Rate limits as token buckets: for the calls of a webhook, and for wrong tokens from an address.

use std::collections::HashMap;
use std::fmt;
use std::hash::Hash;
use std::net::{IpAddr, Ipv6Addr};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::Instant;

use crate::id::WebhookId;
use crate::webhook::RateLimit;

/// Capacity of the bucket for wrong tokens of one address.
const FAILURE_BURST: u32 = 60;
/// Refill of that bucket, per second.
const FAILURES_PER_SECOND: f64 = 1.0;
/// Upper bound on the addresses with a bucket of their own.
const ADDRESSES: usize = 16_384;
/// Number of buckets at which full ones are first searched for.
const FIRST_SWEEP: usize = 1_024;
/// Lower bound on the time between two searches for full buckets in a table without space.
const SWEEP_PAUSE: Duration = Duration::from_secs(1);
/// Upper bound on the returned pause, whatever the rate.
const LONGEST_PAUSE: Duration = Duration::from_secs(86_400);

/// Limits the rate of calls of each webhook. It holds as many buckets as there are active webhooks.
#[derive(Default)]
pub(super) struct RateLimiter(Mutex<Buckets<WebhookId>>);

impl RateLimiter {
    /// Takes one call from a webhook's bucket.
    ///
    /// # Errors
    /// The pause until another call is allowed, if the bucket is empty.
    pub(super) fn take(&self, webhook: WebhookId, limit: RateLimit) -> Result<(), Duration> {
        let per_second = f64::from(limit.per_minute) / 60.0;
        let now = Instant::now();
        let mut buckets = self.0.lock();
        buckets.sweep_when_grown(now);
        buckets.take(webhook, per_second, limit.burst, now)
    }
}

/// Limits the wrong tokens of an address: 60 at once, and one more each second.
///
/// It is asked only once a token was found wrong, so a right token is never refused for the failures of
/// others.
/// Memory is bounded: there are buckets for 16,384 addresses, and further addresses share one until there is
/// space again.
#[derive(Default)]
pub struct FailureLimiter(Mutex<Buckets<Option<IpAddr>>>);

impl fmt::Debug for FailureLimiter {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("FailureLimiter").finish_non_exhaustive()
    }
}

impl FailureLimiter {
    /// Counts a wrong token from this address.
    ///
    /// # Errors
    /// The pause until another one is allowed, if the address has sent too many.
    pub fn fail(&self, address: Option<IpAddr>) -> Result<(), Duration> {
        let now = Instant::now();
        let mut buckets = self.0.lock();
        let network = address.map(network).filter(|network| buckets.has_place(&Some(*network), now));
        buckets.take(network, FAILURES_PER_SECOND, FAILURE_BURST, now)
    }
}

/// One IPv6 subscriber holds a whole /64, so that is what is counted.
fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => IpAddr::V6(Ipv6Addr::from_bits(address.to_bits() >> 64 << 64)),
        address => address,
    }
}

#[derive(Debug)]
struct Buckets<K> {
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
    fn take(&mut self, key: K, per_second: f64, burst: u32, now: Instant) -> Result<(), Duration> {
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

    /// Returns whether `key` has a bucket or may get one.
    fn has_place(&mut self, key: &K, now: Instant) -> bool {
        if self.buckets.len() < ADDRESSES || self.buckets.contains_key(key) {
            return true;
        }
        let is_due = self.swept.is_none_or(|swept| now.saturating_duration_since(swept) >= SWEEP_PAUSE);
        if is_due {
            self.sweep(now);
        }
        self.buckets.len() < ADDRESSES
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
    use std::net::Ipv4Addr;

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
    async fn however_many_addresses_fail_none_is_forgotten_and_memory_is_bounded() {
        let limiter = FailureLimiter::default();
        let address = |number: u32| Some(IpAddr::V4(Ipv4Addr::from_bits(0x0a00_0000 + number)));
        for _ in 0..FAILURE_BURST {
            assert!(limiter.fail(address(0)).is_ok());
        }
        assert!(limiter.fail(address(0)).is_err());
        for number in 1..3 * ADDRESSES as u32 {
            let _ = limiter.fail(address(number));
        }
        assert!(limiter.fail(address(0)).is_err(), "others' failures give nobody a new budget");
        assert!(limiter.0.lock().buckets.len() <= ADDRESSES + 1);
        assert!(limiter.fail(address(u32::MAX >> 8)).is_err(), "who finds no room shares what is left");
        tokio::time::sleep(Duration::from_secs(61)).await;
        for _ in 0..FAILURE_BURST {
            assert!(limiter.fail(address(u32::MAX >> 8)).is_ok(), "there is room again");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_rate_limit_holds_however_many_webhooks_have_one() {
        let limiter = RateLimiter::default();
        let limit = RateLimit::new(1, 1);
        let now = std::time::SystemTime::UNIX_EPOCH;
        let webhooks: Vec<_> = (0..40_000).map(|_| WebhookId::generate(now)).collect();
        for webhook in &webhooks {
            assert!(limiter.take(*webhook, limit).is_ok());
        }
        assert!(webhooks.iter().all(|webhook| limiter.take(*webhook, limit).is_err()));
        tokio::time::sleep(Duration::from_secs(61)).await;
        for _ in 0..50_000 {
            let _ = limiter.take(WebhookId::generate(now), limit);
        }
        assert!(limiter.0.lock().buckets.len() <= 90_000 - webhooks.len() + 1, "full buckets are dropped");
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

    #[test]
    fn neighbours_in_one_ipv6_network_share_a_bucket() {
        let first: IpAddr = "2001:db8:1:2::1".parse().unwrap();
        let second: IpAddr = "2001:db8:1:2:ffff::9".parse().unwrap();
        let other: IpAddr = "2001:db8:1:3::1".parse().unwrap();
        assert_eq!(network(first), network(second));
        assert_ne!(network(first), network(other));
        let mapped: IpAddr = "::ffff:192.0.2.1".parse().unwrap();
        assert_eq!(network(mapped), "192.0.2.1".parse::<IpAddr>().unwrap());
    }
}
