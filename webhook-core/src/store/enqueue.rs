//! Requests to enqueue a run, and their results.

use std::sync::Arc;
use std::time::Duration;

use crate::id::RunId;
use crate::run::Run;
use crate::token::TokenDigest;
use crate::webhook::{Concurrency, Webhook};

/// A run to record, with the rules under which it is recorded.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Enqueue {
    /// The run, in state queued.
    pub run: Arc<Run>,
    /// Upper bound on the concurrent runs of its webhook, and the rule when it is reached.
    pub concurrency: Concurrency,
    /// Upper bound on the queued runs of its webhook, this one included. `None`: no bound.
    pub webhook_queue_limit: Option<u32>,
    /// Upper bound on all queued runs, this one included.
    pub queue_limit: u32,
    /// Upper bound on the [parameters](crate::run::RunParameters::bytes) of the webhook's queued runs, this
    /// one included, in bytes.
    pub webhook_queue_bytes: u64,
    /// Upper bound on the parameters of all queued runs, this one included, in bytes.
    pub queue_bytes: u64,
    /// Key by which a repeated call finds this run.
    pub idempotency: Option<Idempotency>,
    /// Digest of the token that the caller presented; `None` for a run started through the management API.
    pub token_digest: Option<TokenDigest>,
    /// True if a disabled webhook refuses the run.
    pub must_be_enabled: bool,
}

impl Enqueue {
    /// Wraps a run without limits, idempotency key or token check. A disabled webhook accepts it.
    #[must_use]
    pub fn new(run: impl Into<Arc<Run>>) -> Self {
        Self {
            run: run.into(),
            concurrency: Concurrency::default(),
            webhook_queue_limit: None,
            queue_limit: u32::MAX,
            webhook_queue_bytes: u64::MAX,
            queue_bytes: u64::MAX,
            idempotency: None,
            token_digest: None,
            must_be_enabled: false,
        }
    }

    /// Sets the concurrency of its webhook and the overlap rule.
    #[must_use]
    pub fn with_concurrency(mut self, concurrency: Concurrency) -> Self {
        self.concurrency = concurrency;
        self
    }

    /// Sets the upper bounds on queued runs: `of_webhook`, and `in_all`.
    #[must_use]
    pub fn with_queue_limits(mut self, of_webhook: Option<u32>, in_all: u32) -> Self {
        self.webhook_queue_limit = of_webhook;
        self.queue_limit = in_all;
        self
    }

    /// Sets the upper bounds on queued parameters in bytes: `of_webhook`, and `in_all`.
    #[must_use]
    pub fn with_queue_bytes(mut self, of_webhook: u64, in_all: u64) -> Self {
        self.webhook_queue_bytes = of_webhook;
        self.queue_bytes = in_all;
        self
    }

    /// Sets the idempotency key.
    #[must_use]
    pub fn with_idempotency(mut self, idempotency: Option<Idempotency>) -> Self {
        self.idempotency = idempotency;
        self
    }

    /// Requires that the stored webhook still has the token with this digest.
    #[must_use]
    pub fn with_token_digest(mut self, digest: TokenDigest) -> Self {
        self.token_digest = Some(digest);
        self
    }

    /// Sets whether a disabled webhook refuses the run.
    #[must_use]
    pub fn with_must_be_enabled(mut self, must_be_enabled: bool) -> Self {
        self.must_be_enabled = must_be_enabled;
        self
    }

    /// Returns the refusal if the stored webhook has another token or is disabled, and `None` if it accepts
    /// the run.
    ///
    /// A store calls this inside its atomic step, before it looks up the idempotency key.
    #[must_use]
    pub fn refused_by(&self, stored: &Webhook) -> Option<Enqueued> {
        if self.token_digest.is_some_and(|digest| !stored.token_digest.matches(&digest)) {
            return Some(Enqueued::Unauthorized);
        }
        (self.must_be_enabled && !stored.settings.enabled).then_some(Enqueued::Disabled)
    }
}

/// Idempotency key, unique within its webhook, with the request it stands for.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Idempotency {
    /// Key as the caller gave it, at most 255 bytes.
    pub key: String,
    /// Keyed hash of the request.
    pub fingerprint: [u8; 32],
    /// Other hashes of the same request: under a token key that was replaced, or without a token key.
    pub former_fingerprints: Vec<[u8; 32]>,
    /// True if the key alone names the request, as the id of a sender's event does. A later attempt with another time or
    /// signature is the same event.
    pub any_request: bool,
    /// Time for which the key is kept.
    pub keep_for: Duration,
}

impl Idempotency {
    /// Binds a key to the request with this fingerprint.
    #[must_use]
    pub fn new(key: impl Into<String>, fingerprint: [u8; 32], keep_for: Duration) -> Self {
        Self { key: key.into(), fingerprint, former_fingerprints: Vec::new(), any_request: false, keep_for }
    }

    /// Sets the other hashes under which the same request may already be recorded.
    #[must_use]
    pub fn with_former_fingerprints(mut self, fingerprints: Vec<[u8; 32]>) -> Self {
        self.former_fingerprints = fingerprints;
        self
    }

    /// Lets the key stand for its first request, whatever a later one holds.
    #[must_use]
    pub fn with_any_request(mut self) -> Self {
        self.any_request = true;
        self
    }

    /// Returns whether a recorded fingerprint is that of the same request. The same key with another request
    /// is a mismatch, unless the key alone counts.
    #[must_use]
    pub fn matches(&self, recorded: &[u8; 32]) -> bool {
        self.any_request || *recorded == self.fingerprint || self.former_fingerprints.contains(recorded)
    }
}

/// Result of [`Store::enqueue`](super::Store::enqueue).
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum Enqueued {
    /// The run is recorded.
    Created {
        /// The recorded run: queued, or skipped.
        run: Arc<Run>,
        /// Running runs whose cancellation the overlap rule requested.
        asked_to_stop: Vec<RunId>,
    },
    /// The key stands for this earlier run, given in its current state.
    Replayed(Arc<Run>),
    /// The key stands for another request. Nothing is recorded.
    KeyMismatch,
    /// The queue is full, in runs or in bytes. Nothing is recorded or changed.
    QueueFull,
    /// The webhook's token is not the one that the caller presented. Nothing is recorded.
    Unauthorized,
    /// The webhook is disabled. Nothing is recorded.
    Disabled,
}
