//! The rate limit of wrong tokens from an address. Each process counts its own.

use std::fmt;
use std::net::{IpAddr, Ipv6Addr};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::Instant;

use crate::backend::buckets::Buckets;

/// Capacity of the bucket for wrong tokens of one address.
const FAILURE_BURST: u32 = 60;
/// Refill of that bucket, per second.
const FAILURES_PER_SECOND: f64 = 1.0;
/// Upper bound on the addresses with a bucket of their own.
const ADDRESSES: usize = 16_384;

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
        let network =
            address.map(network).filter(|network| buckets.has_place(&Some(*network), ADDRESSES, now));
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

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;

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
        assert!(limiter.0.lock().len() <= ADDRESSES + 1);
        assert!(limiter.fail(address(u32::MAX >> 8)).is_err(), "who finds no room shares what is left");
        tokio::time::sleep(Duration::from_secs(61)).await;
        for _ in 0..FAILURE_BURST {
            assert!(limiter.fail(address(u32::MAX >> 8)).is_ok(), "there is room again");
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
