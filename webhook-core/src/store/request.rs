//! Requests that change a store, and their results.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use crate::id::{RunId, WorkflowKey, WorkflowKind};
use crate::notifier::Delivery;
use crate::run::{CancelReason, Ending, Progress, Run, RunError};
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

/// Set of workflows whose runs a worker requests. Default: all workflows.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Workflows {
    /// All workflows.
    #[default]
    All,
    /// All workflows of these kinds.
    OfKinds(Arc<BTreeSet<WorkflowKind>>),
    /// These workflows.
    Only(Arc<BTreeSet<WorkflowKey>>),
}

impl Workflows {
    /// Returns whether the set contains `workflow`.
    #[must_use]
    pub fn include(&self, workflow: &WorkflowKey) -> bool {
        match self {
            Self::All => true,
            Self::OfKinds(kinds) => kinds.contains(&workflow.kind),
            Self::Only(keys) => keys.contains(workflow),
        }
    }
}

/// Request of a worker for due runs.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct ClaimRequest {
    /// Upper bound on the runs to execute now.
    pub limit: usize,
    /// Upper bound on the runs claimed ahead, behind those. They stay queued until they
    /// [begin](super::Store::begin).
    pub ahead: usize,
    /// Time for which a claim holds unless it is renewed.
    pub lease: Duration,
    /// Number of interruptions after which a run is claimed only to be failed. Default: 5.
    pub interruption_bound: u32,
    /// Time of day of the request.
    pub now: SystemTime,
    /// Workflows whose runs are claimed.
    pub workflows: Workflows,
    /// Name of the process that claims, for stores that several processes share.
    pub claimer: Option<Arc<str>>,
}

impl ClaimRequest {
    /// Requests at most `limit` runs to execute now, and none ahead.
    #[must_use]
    pub fn new(limit: usize, lease: Duration, now: SystemTime) -> Self {
        Self { limit, ahead: 0, lease, interruption_bound: 5, now, workflows: Workflows::All, claimer: None }
    }

    /// Sets the upper bound on the runs claimed ahead.
    #[must_use]
    pub fn with_ahead(mut self, ahead: usize) -> Self {
        self.ahead = ahead;
        self
    }

    /// Sets the number of interruptions after which a run is claimed only to be failed.
    #[must_use]
    pub fn with_interruption_bound(mut self, bound: u32) -> Self {
        self.interruption_bound = bound;
        self
    }

    /// Sets the workflows whose runs are claimed.
    #[must_use]
    pub fn with_workflows(mut self, workflows: Workflows) -> Self {
        self.workflows = workflows;
        self
    }

    /// Sets the name of the process that claims.
    #[must_use]
    pub fn with_claimer(mut self, claimer: Option<Arc<str>>) -> Self {
        self.claimer = claimer;
        self
    }
}

/// A claimed run.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Claim {
    /// The run as claimed, with its attempt and fence.
    pub run: Arc<Run>,
    /// Its webhook, or `None` if that was deleted.
    pub webhook: Option<Arc<Webhook>>,
    /// True if it is claimed ahead. In the store such a run is queued until it [begins](super::Store::begin).
    pub is_ahead: bool,
}

impl Claim {
    /// Combines a run claimed to execute now with its webhook.
    #[must_use]
    pub fn new(run: Arc<Run>, webhook: Option<Arc<Webhook>>) -> Self {
        Self { run, webhook, is_ahead: false }
    }

    /// Sets whether it is claimed ahead.
    #[must_use]
    pub fn with_ahead(mut self, is_ahead: bool) -> Self {
        self.is_ahead = is_ahead;
        self
    }
}

/// Notice that a run claimed ahead executes now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Begun {
    /// Id of the run.
    pub run: RunId,
    /// Fence of the claim.
    pub fence: u64,
    /// Time of day at which the run began.
    pub now: SystemTime,
}

impl Begun {
    /// Reports that the run of this claim executes now.
    #[must_use]
    pub fn new(run: RunId, fence: u64, now: SystemTime) -> Self {
        Self { run, fence, now }
    }
}

/// Claim whose lease is to be extended.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct Renewal {
    /// Id of the run.
    pub run: RunId,
    /// Fence of the claim.
    pub fence: u64,
    /// Progress of the run, if it changed.
    pub progress: Option<Progress>,
}

impl Renewal {
    /// Requests more time for a claim.
    #[must_use]
    pub fn new(run: RunId, fence: u64, progress: Option<Progress>) -> Self {
        Self { run, fence, progress }
    }
}

/// Result of renewing one claim.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Renewed {
    /// The claim holds.
    Held {
        /// Reason to stop the run, if its cancellation was requested.
        cancel: Option<CancelReason>,
    },
    /// The claim was lost to another worker, or the run has ended.
    Lost,
}

/// Outcome of an attempt, to be recorded.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct Settlement {
    /// Id of the run.
    pub run: RunId,
    /// Fence of the claim.
    pub fence: u64,
    /// Outcome to record.
    pub outcome: Outcome,
    /// Start of the execution, for a run that was claimed ahead and began.
    pub started_at: Option<SystemTime>,
    /// Time of day of the outcome.
    pub now: SystemTime,
}

impl Settlement {
    /// Reports the outcome of the attempt under `fence`.
    #[must_use]
    pub fn new(run: RunId, fence: u64, outcome: Outcome, now: SystemTime) -> Self {
        Self { run, fence, outcome, started_at: None, now }
    }

    /// Sets the start of the execution.
    #[must_use]
    pub fn with_started_at(mut self, started_at: Option<SystemTime>) -> Self {
        self.started_at = started_at;
        self
    }

    /// Returns the deliveries to record with the outcome.
    #[must_use]
    pub fn deliveries(&self) -> &[Delivery] {
        match &self.outcome {
            Outcome::Ended { deliveries, .. } => deliveries,
            Outcome::Retry { .. } | Outcome::HandBack => &[],
        }
    }
}

/// Outcome of an attempt.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub enum Outcome {
    /// The run has ended.
    Ended {
        /// Final state, with its summary or error.
        ending: Ending,
        /// Notifications to record with it.
        deliveries: Vec<Delivery>,
    },
    /// The attempt failed; another follows after a pause.
    Retry {
        /// Error of the attempt.
        error: RunError,
        /// Pause before the next attempt.
        delay: Duration,
    },
    /// The worker is stopping; another worker is to execute the run.
    HandBack,
}

/// Result of a settlement.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum Settled {
    /// The outcome is recorded. Holds the run as it is now.
    Applied(Arc<Run>),
    /// The claim was lost. Nothing is changed.
    Stale,
}

/// Result of a cancellation.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum Cancelled {
    /// The run was queued and has ended.
    Ended(Arc<Run>),
    /// The run is running and will be told to stop.
    Requested(Arc<Run>),
    /// The run had already ended.
    TooLate(Arc<Run>),
}

/// Notice that a running run is to stop.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct CancelNotice {
    /// Id of the run.
    pub run: RunId,
    /// Reason of its cancellation.
    pub reason: CancelReason,
}

impl CancelNotice {
    /// Reports that this run is to stop.
    #[must_use]
    pub fn new(run: RunId, reason: CancelReason) -> Self {
        Self { run, reason }
    }
}

/// Retention rules and bounds of a removal of ended runs.
#[derive(Debug, Clone, Copy)]
#[non_exhaustive]
pub struct PruneRequest {
    /// Time of day of the request.
    pub now: SystemTime,
    /// Retention of ended runs whose webhook sets none.
    pub keep_for: Duration,
    /// Upper bound on the ended runs kept for each webhook. `None`: no bound.
    pub keep_per_webhook: Option<u64>,
    /// Upper bound on the removed runs.
    pub limit: usize,
}

impl PruneRequest {
    /// Removes at most `limit` runs that ended longer than `keep_for` ago.
    #[must_use]
    pub fn new(now: SystemTime, keep_for: Duration, limit: usize) -> Self {
        Self { now, keep_for, keep_per_webhook: None, limit }
    }

    /// Sets the upper bound on the ended runs kept for each webhook.
    #[must_use]
    pub fn with_keep_per_webhook(mut self, keep: Option<u64>) -> Self {
        self.keep_per_webhook = keep;
        self
    }

    /// Returns the retention of a webhook's ended runs. `None` stands for a deleted webhook.
    #[must_use]
    pub fn retention(&self, webhook: Option<&Webhook>) -> Duration {
        let days = webhook.and_then(|webhook| webhook.settings.retention_days);
        days.map_or(self.keep_for, |days| Duration::from_secs(u64::from(days) * 86_400))
    }
}

/// Result of [`Store::prune`](super::Store::prune).
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Pruned {
    /// Ids of the removed runs.
    pub runs: Vec<RunId>,
    /// True if more runs may be removable.
    pub more: bool,
}

impl Pruned {
    /// Combines the removed runs with whether there may be more.
    #[must_use]
    pub fn new(runs: Vec<RunId>, more: bool) -> Self {
        Self { runs, more }
    }
}

/// Size of the tail that is kept of each run's log, in bytes.
pub const LOG_BYTES: usize = 256 * 1024;

/// Returns the number of oldest bytes of a log to drop so that at most [`LOG_BYTES`] remain.
///
/// Whole lines are dropped. Only a last line longer than the bound is itself cut.
#[must_use]
pub fn log_surplus(text: &str) -> usize {
    let Some(excess) = text.len().checked_sub(LOG_BYTES).filter(|excess| *excess > 0) else { return 0 };
    let line_end = text.as_bytes()[excess - 1..].iter().position(|byte| *byte == b'\n');
    match line_end.map(|position| excess + position) {
        Some(cut) if cut < text.len() => cut,
        _ => text.ceil_char_boundary(excess),
    }
}

/// Part of a run's log.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct LogPart {
    /// Byte offset of `text` in the log: the requested offset, or later if older lines were dropped.
    pub offset: u64,
    /// Lines from there to the end of the log.
    pub text: String,
}

impl LogPart {
    /// Combines text with its byte offset.
    #[must_use]
    pub fn new(offset: u64, text: String) -> Self {
        Self { offset, text }
    }

    /// Builds the reply to a read at `offset` from a log that retains `text`, starting at `start`.
    ///
    /// Returns at most the newest [`LOG_BYTES`], so a store may shorten what it retains whenever it suits.
    #[must_use]
    pub fn of_log(start: u64, text: &str, offset: u64) -> Self {
        let asked = usize::try_from(offset.saturating_sub(start)).unwrap_or(usize::MAX);
        if asked > text.len() {
            return Self::new(offset, String::new());
        }
        let from = text.ceil_char_boundary(asked.max(log_surplus(text)));
        Self::new(start + from as u64, text[from..].to_owned())
    }

    /// Returns the byte offset at which the next part starts.
    #[must_use]
    pub fn end(&self) -> u64 {
        self.offset + self.text.len() as u64
    }
}

/// Numbers of records in a store, and whether it accepts new runs.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct StoreHealth {
    /// Number of queued runs.
    pub queued: u64,
    /// Number of running runs.
    pub running: u64,
    /// Number of deliveries that have not ended.
    pub pending_deliveries: u64,
    /// Number of records known to be damaged or missing. The rest of the store works.
    pub damaged: u64,
    /// True if the store refuses new runs for lack of space, as on a disk below its reserve. Accepted runs
    /// continue.
    pub is_full: bool,
}

impl StoreHealth {
    /// Reports these numbers, without damage and not full.
    #[must_use]
    pub fn new(queued: u64, running: u64, pending_deliveries: u64) -> Self {
        Self { queued, running, pending_deliveries, damaged: 0, is_full: false }
    }

    /// Sets the number of records known to be damaged or missing.
    #[must_use]
    pub fn with_damaged(mut self, damaged: u64) -> Self {
        self.damaged = damaged;
        self
    }

    /// Sets whether the store refuses new runs for lack of space.
    #[must_use]
    pub fn with_full(mut self, is_full: bool) -> Self {
        self.is_full = is_full;
        self
    }
}
