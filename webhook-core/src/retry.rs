//! Retry policies: exponential backoff with jitter.

use std::time::Duration;

/// Number of attempts, and the pauses between them.
///
/// ```
/// use std::time::Duration;
/// use webhook_core::retry::RetryPolicy;
/// let policy = RetryPolicy::new(5).with_base(Duration::from_secs(10)).with_jitter(0.0);
/// assert_eq!(policy.delay(1, 0.5), Duration::from_secs(10));
/// assert_eq!(policy.delay(3, 0.5), Duration::from_secs(40));
/// ```
#[derive(Debug, Clone, Copy, PartialEq)]
#[non_exhaustive]
pub struct RetryPolicy {
    /// Upper bound on all attempts, the first included. At least 1.
    pub max_attempts: u32,
    /// Pause after the first failed attempt.
    pub base: Duration,
    /// Growth factor of each further pause. At least 1.
    pub factor: f64,
    /// Upper bound on the pause, before jitter.
    pub cap: Duration,
    /// Random share of a pause, from 0 (none) to 1 (the whole pause). A pause `d` becomes a random value
    /// between `d × (1 − jitter)` and `d`.
    pub jitter: f64,
}

impl Default for RetryPolicy {
    /// One attempt. If more are set: 10 s, doubling up to 10 minutes, with a jitter of a fifth.
    fn default() -> Self {
        Self {
            max_attempts: 1,
            base: Duration::from_secs(10),
            factor: 2.0,
            cap: Duration::from_secs(600),
            jitter: 0.2,
        }
    }
}

impl RetryPolicy {
    /// Creates a policy with this many attempts and the default pauses.
    #[must_use]
    pub fn new(max_attempts: u32) -> Self {
        Self { max_attempts, ..Self::default() }
    }

    /// Sets the first pause.
    #[must_use]
    pub fn with_base(mut self, base: Duration) -> Self {
        self.base = base;
        self
    }

    /// Sets the growth factor.
    #[must_use]
    pub fn with_factor(mut self, factor: f64) -> Self {
        self.factor = factor;
        self
    }

    /// Sets the upper bound on the pause.
    #[must_use]
    pub fn with_cap(mut self, cap: Duration) -> Self {
        self.cap = cap;
        self
    }

    /// Sets the random share of a pause.
    #[must_use]
    pub fn with_jitter(mut self, jitter: f64) -> Self {
        self.jitter = jitter;
        self
    }

    /// Returns whether another attempt is left after `attempts` attempts.
    #[must_use]
    pub fn allows_another(&self, attempts: u32) -> bool {
        attempts < self.max_attempts
    }

    /// Returns the pause after failed attempt number `attempt` (from 1), for a random number from 0 to 1.
    #[must_use]
    pub fn delay(&self, attempt: u32, random: f64) -> Duration {
        let exponent = attempt.saturating_sub(1).min(1_000) as i32;
        let grown = self.base.as_secs_f64() * self.factor.max(1.0).powi(exponent);
        let capped = grown.min(self.cap.as_secs_f64());
        let kept = 1.0 - self.jitter.clamp(0.0, 1.0) * random.clamp(0.0, 1.0);
        Duration::try_from_secs_f64(capped * kept).unwrap_or(self.cap)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn pauses_double_up_to_the_cap() {
        let policy = RetryPolicy::new(9).with_jitter(0.0).with_cap(Duration::from_secs(60));
        let pauses: Vec<u64> = (1..=5).map(|attempt| policy.delay(attempt, 0.0).as_secs()).collect();
        assert_eq!(pauses, [10, 20, 40, 60, 60]);
    }

    #[test]
    fn attempts_run_out() {
        let policy = RetryPolicy::new(2);
        assert!(policy.allows_another(1));
        assert!(!policy.allows_another(2));
        assert!(!RetryPolicy::default().allows_another(1));
    }

    proptest! {
        #[test]
        fn a_pause_is_never_longer_than_the_cap_nor_shorter_than_jitter_allows(
            attempt in 0_u32..=u32::MAX, random in 0.0..=1.0_f64, jitter in 0.0..=1.0_f64,
            base in 0_u64..10_000, cap in 0_u64..1_000_000, factor in 1.0..10.0_f64,
        ) {
            let policy = RetryPolicy::new(3)
                .with_base(Duration::from_secs(base))
                .with_cap(Duration::from_secs(cap))
                .with_factor(factor)
                .with_jitter(jitter);
            let pause = policy.delay(attempt, random);
            prop_assert!(pause <= policy.cap);
            prop_assert!(pause <= policy.delay(attempt, 0.0));
        }
    }
}
