//! Bounds and times of a service.

use std::time::Duration;

use crate::parameters::ParameterLimits;

/// Bounds and times of a whole service.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct ServiceOptions {
    /// The bounds on what a call brings.
    pub limits: ParameterLimits,
    /// Upper bound on queued runs in all. 100,000 by default. A webhook without a limit of its own may have half of
    /// them, and one at least.
    pub queue_limit: u32,
    /// Upper bound on the parameters of all queued runs, in bytes of JSON. 256 MiB by default.
    pub queue_bytes: u64,
    /// Upper bound on the parameters of the queued runs of one webhook, in bytes of JSON. 16 MiB by default, and never more
    /// than half of [`queue_bytes`](Self::queue_bytes).
    pub webhook_queue_bytes: u64,
    /// For how long an idempotency key is kept. 24 hours by default.
    pub keep_idempotency_keys: Duration,
    /// For how long ended runs are kept where their webhook does not say. 30 days by default.
    pub keep_runs: Duration,
    /// How many ended runs of each webhook are kept at most. Without bound by default.
    pub keep_runs_per_webhook: Option<u64>,
}

impl Default for ServiceOptions {
    fn default() -> Self {
        Self {
            limits: ParameterLimits::default(),
            queue_limit: 100_000,
            queue_bytes: 256 << 20,
            webhook_queue_bytes: 16 << 20,
            keep_idempotency_keys: Duration::from_secs(24 * 3_600),
            keep_runs: Duration::from_secs(30 * 86_400),
            keep_runs_per_webhook: None,
        }
    }
}

impl ServiceOptions {
    /// Sets the bounds on what a call brings.
    #[must_use]
    pub fn with_limits(mut self, limits: ParameterLimits) -> Self {
        self.limits = limits;
        self
    }

    /// Sets how many runs may be queued in all.
    #[must_use]
    pub fn with_queue_limit(mut self, limit: u32) -> Self {
        self.queue_limit = limit;
        self
    }

    /// Sets how many bytes of parameters may be queued, of each webhook and in all.
    #[must_use]
    pub fn with_queue_bytes(mut self, of_webhook: u64, in_all: u64) -> Self {
        self.webhook_queue_bytes = of_webhook;
        self.queue_bytes = in_all;
        self
    }

    /// Returns the bound on queued runs of a webhook with this limit of its own.
    pub(super) fn queue_share(&self, own_limit: Option<u32>) -> u32 {
        own_limit.unwrap_or_else(|| (self.queue_limit / 2).max(1))
    }

    /// Returns the bound on the parameters of the queued runs of one webhook, in bytes.
    pub(super) fn queue_bytes_share(&self) -> u64 {
        self.webhook_queue_bytes.min(self.queue_bytes / 2)
    }

    /// Sets for how long an idempotency key is kept.
    #[must_use]
    pub fn with_keep_idempotency_keys(mut self, keep: Duration) -> Self {
        self.keep_idempotency_keys = keep;
        self
    }

    /// Sets for how long, and how many of each webhook, ended runs are kept.
    #[must_use]
    pub fn with_keep_runs(mut self, keep: Duration, per_webhook: Option<u64>) -> Self {
        self.keep_runs = keep;
        self.keep_runs_per_webhook = per_webhook;
        self
    }
}
