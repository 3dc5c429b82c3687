//! How workers work.

use std::time::Duration;

use crate::retry::RetryPolicy;

/// Bounds and times of the workers of a process.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct WorkerOptions {
    /// Upper bound on runs that execute at the same time. 16 by default, at least 1, and at most 400 with
    /// [`threads`](Self::threads).
    pub slots: usize,
    /// Time for which a claim holds without being renewed; it is renewed three times as often. 30 s by default, and a
    /// second at least.
    pub lease: Duration,
    /// Time that an executor may take to stop after it was told to. 10 s by default.
    pub cancel_grace: Duration,
    /// Number of interruptions after which a run fails. 5 by default.
    pub interruption_bound: u32,
    /// Whether executors have threads of their own, as many as there are slots, so that they may block. On by default.
    /// Off, they are tasks of the runtime, which suits executors that never block, and tests with paused time.
    pub threads: bool,
    /// Retries of failed deliveries. By default with pauses from 10 s to 1 h, for about two days. Waiting for a channel
    /// whose circuit breaker is open uses up no retries.
    pub delivery_retries: RetryPolicy,
    /// Age at which a delivery is given up, if its channel has been unreachable for as long. 3 days by default. The
    /// outage counts from when these workers first met it.
    pub delivery_expiry: Duration,
    /// Upper bound on deliveries under way, not counting those to slow recipients. 16 by default.
    pub delivery_slots: usize,
    /// Approximate upper bound on pending deliveries. One more is recorded as given up when its run ends, and can be
    /// sent again. 100,000 by default; a pending delivery takes 1 to 2 KiB of the sled store, and up to 8 KiB with the
    /// longest address and the longest error that is kept.
    pub outbox_limit: u64,
    /// Interval at which ended runs past their retention are removed. One minute by default.
    pub prune_every: Duration,
}

impl Default for WorkerOptions {
    fn default() -> Self {
        Self {
            slots: 16,
            lease: Duration::from_secs(30),
            cancel_grace: Duration::from_secs(10),
            interruption_bound: 5,
            threads: true,
            delivery_retries: RetryPolicy::new(55)
                .with_base(Duration::from_secs(10))
                .with_cap(Duration::from_secs(3_600)),
            delivery_expiry: Duration::from_secs(3 * 86_400),
            delivery_slots: 16,
            outbox_limit: 100_000,
            prune_every: Duration::from_secs(60),
        }
    }
}

impl WorkerOptions {
    /// Sets the upper bound on runs that execute at the same time.
    #[must_use]
    pub fn with_slots(mut self, slots: usize) -> Self {
        self.slots = slots;
        self
    }

    /// Sets the lease.
    #[must_use]
    pub fn with_lease(mut self, lease: Duration) -> Self {
        self.lease = lease;
        self
    }

    /// Sets the time that an executor may take to stop.
    #[must_use]
    pub fn with_cancel_grace(mut self, grace: Duration) -> Self {
        self.cancel_grace = grace;
        self
    }

    /// Sets the number of interruptions after which a run fails.
    #[must_use]
    pub fn with_interruption_bound(mut self, bound: u32) -> Self {
        self.interruption_bound = bound;
        self
    }

    /// Sets whether executors have threads of their own.
    #[must_use]
    pub fn with_threads(mut self, threads: bool) -> Self {
        self.threads = threads;
        self
    }

    /// Sets the retries of failed deliveries.
    #[must_use]
    pub fn with_delivery_retries(mut self, policy: RetryPolicy) -> Self {
        self.delivery_retries = policy;
        self
    }

    /// Sets the age at which a delivery to an unreachable channel is given up.
    #[must_use]
    pub fn with_delivery_expiry(mut self, expiry: Duration) -> Self {
        self.delivery_expiry = expiry;
        self
    }

    /// Sets the upper bound on deliveries under way.
    #[must_use]
    pub fn with_delivery_slots(mut self, slots: usize) -> Self {
        self.delivery_slots = slots;
        self
    }

    /// Sets the upper bound on pending deliveries.
    #[must_use]
    pub fn with_outbox_limit(mut self, limit: u64) -> Self {
        self.outbox_limit = limit;
        self
    }

    /// Sets the interval at which ended runs past their retention are removed.
    #[must_use]
    pub fn with_prune_every(mut self, every: Duration) -> Self {
        self.prune_every = every;
        self
    }
}
