//! Bounds and times of a service.

use std::time::Duration;

use crate::parameters::ParameterLimits;

/// Bounds and times of a service.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct ServiceOptions {
    /// Limits on what a call may send.
    pub limits: ParameterLimits,
    /// Upper bound on all queued runs. Default: 100,000.
    ///
    /// A webhook without its own limit may have half of them, and at least one.
    pub queue_limit: u32,
    /// Upper bound on the parameters of all queued runs, in bytes of JSON. Default: 256 MiB.
    pub queue_bytes: u64,
    /// Upper bound on the parameters of the queued runs of one webhook, in bytes of JSON. Default: 16 MiB.
    ///
    /// It is never more than half of [`queue_bytes`](Self::queue_bytes).
    pub webhook_queue_bytes: u64,
    /// Time for which an idempotency key is kept. Default: 24 hours.
    pub keep_idempotency_keys: Duration,
    /// Retention of ended runs whose webhook sets none. Default: 30 days.
    pub keep_runs: Duration,
    /// Upper bound on the ended runs kept for each webhook. Default: no bound.
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
    /// Sets the limits on what a call may send.
    #[must_use]
    pub fn with_limits(mut self, limits: ParameterLimits) -> Self {
        self.limits = limits;
        self
    }

    /// Sets the upper bound on all queued runs.
    #[must_use]
    pub fn with_queue_limit(mut self, limit: u32) -> Self {
        self.queue_limit = limit;
        self
    }

    /// Sets the upper bounds on queued parameters in bytes: `of_webhook`, and `in_all`.
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

    /// Sets the time for which an idempotency key is kept.
    #[must_use]
    pub fn with_keep_idempotency_keys(mut self, keep: Duration) -> Self {
        self.keep_idempotency_keys = keep;
        self
    }

    /// Sets the retention of ended runs, and the upper bound on them for each webhook.
    #[must_use]
    pub fn with_keep_runs(mut self, keep: Duration, per_webhook: Option<u64>) -> Self {
        self.keep_runs = keep;
        self.keep_runs_per_webhook = per_webhook;
        self
    }
}
