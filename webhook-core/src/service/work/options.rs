//! Options of workers.

use std::sync::Arc;
use std::time::Duration;

use crate::retry::RetryPolicy;
use crate::store::Workflows;

/// Bounds and times of the workers of a process.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct WorkerOptions {
    /// Name of this process, which runs show in a store that several processes share. Default: none.
    pub name: Option<Arc<str>>,
    /// Workflows whose runs these workers execute. Default: all.
    ///
    /// Where several processes share a store and not each can execute every workflow, this leaves the others to those
    /// that can.
    pub workflows: Workflows,
    /// Upper bound on concurrent runs. Default: 16. At least 1, and at most 400 with
    /// [`threads`](Self::threads).
    pub slots: usize,
    /// Time for which a claim holds unless it is renewed; it is renewed three times as often. Default: 30 s,
    /// at least 1 s.
    pub lease: Duration,
    /// Upper bound on the time that an executor may take to stop. Default: 10 s.
    pub cancel_grace: Duration,
    /// Number of interruptions after which a run fails. Default: 5.
    pub interruption_bound: u32,
    /// True if executors have their own threads, as many as there are slots, so that they may block. Default:
    /// true.
    ///
    /// Otherwise they are tasks of the runtime, which suits executors that never block, and tests with paused
    /// time.
    pub threads: bool,
    /// Retry policy of failed deliveries. Default: pauses from 10 s to 1 h, for about two days.
    ///
    /// Waiting for a channel whose circuit breaker is open uses up no retries.
    pub delivery_retries: RetryPolicy,
    /// Age at which a delivery is given up, if its channel has been unreachable for as long. Default: 3 days.
    ///
    /// The outage counts from when these workers first detected it.
    pub delivery_expiry: Duration,
    /// Upper bound on concurrent deliveries, without those to slow recipients. Default: 16.
    pub delivery_slots: usize,
    /// Approximate upper bound on pending deliveries. Default: 100,000.
    ///
    /// A further one is recorded as given up when its run ends, and can be sent again. A pending delivery
    /// takes 1 to 2 KiB of the sled store, and up to 8 KiB with the longest address and the longest kept
    /// error.
    pub outbox_limit: u64,
    /// Interval at which expired ended runs are removed. Default: one minute.
    pub prune_every: Duration,
}

impl Default for WorkerOptions {
    fn default() -> Self {
        Self {
            name: None,
            workflows: Workflows::All,
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
    /// Sets the upper bound on concurrent runs.
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

    /// Sets the upper bound on the time that an executor may take to stop.
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

    /// Sets whether executors have their own threads.
    #[must_use]
    pub fn with_threads(mut self, threads: bool) -> Self {
        self.threads = threads;
        self
    }

    /// Sets the name of this process.
    #[must_use]
    pub fn with_name(mut self, name: impl Into<Arc<str>>) -> Self {
        self.name = Some(name.into());
        self
    }

    /// Sets the workflows whose runs these workers execute.
    #[must_use]
    pub fn with_workflows(mut self, workflows: Workflows) -> Self {
        self.workflows = workflows;
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

    /// Sets the upper bound on concurrent deliveries.
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

    /// Sets the interval at which expired ended runs are removed.
    #[must_use]
    pub fn with_prune_every(mut self, every: Duration) -> Self {
        self.prune_every = every;
        self
    }
}
