//! Limits on how often: calls of a webhook, and wrong tokens from an address. Both are token buckets.

use std::collections::HashMap;
use std::hash::Hash;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::Mutex;
use std::time::Duration;

use tokio::time::Instant;

use super::error::TriggerError;
use crate::id::WebhookId;
use crate::service::lock;
use crate::webhook::RateLimit;

/// How many wrong tokens one address may send at once.
const FAILURE_BURST: u32 = 60;
/// How many more each second.
const FAILURES_PER_SECOND: f64 = 1.0;
/// How many buckets are kept before those that are full again are dropped.
const BUCKETS: usize = 16_384;

/// Limits how often each webhook may be called.
#[derive(Default)]
pub(crate) struct RateLimiter(Mutex<Buckets<WebhookId>>);

impl RateLimiter {
    pub(super) fn take(&self, webhook: WebhookId, limit: RateLimit) -> Result<(), TriggerError> {
        let per_second = f64::from(limit.per_minute) / 60.0;
        lock(&self.0)
            .take(webhook, per_second, limit.burst, Instant::now())
            .map_err(|retry_after| TriggerError::RateLimited { retry_after })
    }
}

/// Limits how many wrong tokens an address may try. A right token is never refused for others' failures.
#[derive(Default)]
pub(crate) struct FailureLimiter(Mutex<Buckets<Option<IpAddr>>>);

impl FailureLimiter {
    pub(super) fn fail(&self, address: Option<IpAddr>) -> Result<(), TriggerError> {
        let network = address.map(network);
        lock(&self.0)
            .take(network, FAILURES_PER_SECOND, FAILURE_BURST, Instant::now())
            .map_err(|retry_after| TriggerError::TooManyFailures { retry_after })
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
struct Buckets<K>(HashMap<K, Bucket>);

impl<K> Default for Buckets<K> {
    fn default() -> Self {
        Self(HashMap::new())
    }
}

#[derive(Debug, Clone, Copy)]
struct Bucket {
    left: f64,
    at: Instant,
    full_at: Instant,
}

impl<K: Hash + Eq + Clone> Buckets<K> {
    /// Takes one from the bucket of `key`, or says when there is one again.
    fn take(&mut self, key: K, per_second: f64, burst: u32, now: Instant) -> Result<(), Duration> {
        if self.0.len() >= BUCKETS && !self.0.contains_key(&key) {
            self.0.retain(|_, bucket| bucket.full_at > now);
            if self.0.len() >= BUCKETS {
                self.0.clear();
            }
        }
        let burst = f64::from(burst);
        let bucket = self.0.entry(key).or_insert(Bucket { left: burst, at: now, full_at: now });
        let gained = now.saturating_duration_since(bucket.at).as_secs_f64() * per_second;
        let left = (bucket.left + gained).min(burst);
        let taken = left >= 1.0;
        let left = if taken { left - 1.0 } else { left };
        let until_full = Duration::from_secs_f64((burst - left) / per_second);
        *bucket = Bucket { left, at: now, full_at: now + until_full };
        if taken { Ok(()) } else { Err(Duration::from_secs_f64((1.0 - left) / per_second)) }
    }
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
    async fn the_number_of_buckets_is_bounded() {
        let mut buckets = Buckets::default();
        for key in 0..3 * BUCKETS {
            let _ = buckets.take(key, 1.0, 1, Instant::now());
        }
        assert!(buckets.0.len() <= BUCKETS);
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
