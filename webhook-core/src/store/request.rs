//! What a store is asked to change, and what became of it.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use crate::id::RunId;
use crate::notifier::Delivery;
use crate::run::{CancelReason, Ending, Progress, Run, RunError};
use crate::token::TokenDigest;
use crate::webhook::{Concurrency, Webhook};

/// A run to record, with the rules it is recorded under.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Enqueue {
    /// The run, queued.
    pub run: Arc<Run>,
    /// How many runs of its webhook may execute, and what happens to one too many.
    pub concurrency: Concurrency,
    /// How many runs of its webhook may be queued, this one included.
    pub webhook_queue_limit: Option<u32>,
    /// How many runs may be queued in all, this one included.
    pub queue_limit: u32,
    /// How many bytes of [parameters](crate::run::RunParameters::bytes) the queued runs of its webhook may have, this
    /// one included.
    pub webhook_queue_bytes: u64,
    /// Upper bound on the parameters of all queued runs, this one included, in bytes.
    pub queue_bytes: u64,
    /// The key under which a repeated call finds this run.
    pub idempotency: Option<Idempotency>,
    /// Digest of the token that the caller presented; `None` for a run started through the management API.
    pub token_digest: Option<TokenDigest>,
    /// Whether a disabled webhook refuses the run.
    pub must_be_enabled: bool,
}

impl Enqueue {
    /// A run without limits and key.
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

    /// Sets how many runs of its webhook may execute.
    #[must_use]
    pub fn with_concurrency(mut self, concurrency: Concurrency) -> Self {
        self.concurrency = concurrency;
        self
    }

    /// Sets the queue limits of its webhook and in all.
    #[must_use]
    pub fn with_queue_limits(mut self, of_webhook: Option<u32>, in_all: u32) -> Self {
        self.webhook_queue_limit = of_webhook;
        self.queue_limit = in_all;
        self
    }

    /// Sets how many bytes of parameters may be queued, of its webhook and in all.
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

    /// Returns the outcome if the webhook as stored refuses this run: its token is another one, or it is disabled.
    ///
    /// A store calls it inside its atomic step, before it looks up the idempotency key.
    #[must_use]
    pub fn refused_by(&self, stored: &Webhook) -> Option<Enqueued> {
        if self.token_digest.is_some_and(|digest| !stored.token_digest.matches(&digest)) {
            return Some(Enqueued::Unauthorized);
        }
        (self.must_be_enabled && !stored.settings.enabled).then_some(Enqueued::Disabled)
    }
}

/// An idempotency key, unique within its webhook, with the request it stands for.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Idempotency {
    /// The key as the caller gave it, at most 255 bytes.
    pub key: String,
    /// Keyed hash of the request.
    pub fingerprint: [u8; 32],
    /// Other hashes of the same request: under a key that was replaced, or without one.
    pub former_fingerprints: Vec<[u8; 32]>,
    /// For how long the key is kept.
    pub keep_for: Duration,
}

impl Idempotency {
    /// A key for the request with this fingerprint.
    #[must_use]
    pub fn new(key: impl Into<String>, fingerprint: [u8; 32], keep_for: Duration) -> Self {
        Self { key: key.into(), fingerprint, former_fingerprints: Vec::new(), keep_for }
    }

    /// Sets the hashes under which the same request may be recorded already.
    #[must_use]
    pub fn with_former_fingerprints(mut self, fingerprints: Vec<[u8; 32]>) -> Self {
        self.former_fingerprints = fingerprints;
        self
    }

    /// Whether a recorded fingerprint is that of the same request. The same key with another request is a mismatch.
    #[must_use]
    pub fn matches(&self, recorded: &[u8; 32]) -> bool {
        *recorded == self.fingerprint || self.former_fingerprints.contains(recorded)
    }
}

/// What became of a run to record.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum Enqueued {
    /// It is recorded.
    Created {
        /// As it is now: queued, or skipped.
        run: Arc<Run>,
        /// Running runs whose cancellation was asked for in its favour.
        asked_to_stop: Vec<RunId>,
    },
    /// Its key stands for this earlier run, in its present state.
    Replayed(Arc<Run>),
    /// Its key stands for another request. Nothing is recorded.
    KeyMismatch,
    /// The queue is full, in runs or in bytes. Nothing is recorded or changed.
    QueueFull,
    /// The webhook has another token than the caller's. Nothing is recorded.
    Unauthorized,
    /// The webhook is disabled. Nothing is recorded.
    Disabled,
}

/// Which runs a worker asks for.
#[derive(Debug, Clone, Copy)]
#[non_exhaustive]
pub struct ClaimRequest {
    /// At most this many are to execute now.
    pub limit: usize,
    /// At most this many behind them are claimed ahead: they stay queued until they [begin](super::Store::begin).
    pub ahead: usize,
    /// For how long a claim holds without being renewed.
    pub lease: Duration,
    /// After how many interruptions a run is given out only to be failed.
    pub interruption_bound: u32,
    /// The time of day.
    pub now: SystemTime,
}

impl ClaimRequest {
    /// Asks for at most `limit` runs.
    #[must_use]
    pub fn new(limit: usize, lease: Duration, now: SystemTime) -> Self {
        Self { limit, ahead: 0, lease, interruption_bound: 5, now }
    }

    /// Sets how many runs are claimed ahead, behind those that are to execute now.
    #[must_use]
    pub fn with_ahead(mut self, ahead: usize) -> Self {
        self.ahead = ahead;
        self
    }

    /// Sets after how many interruptions a run is given out only to be failed.
    #[must_use]
    pub fn with_interruption_bound(mut self, bound: u32) -> Self {
        self.interruption_bound = bound;
        self
    }
}

/// A claimed run.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Claim {
    /// The run as claimed, with its attempt and fence.
    pub run: Arc<Run>,
    /// Its webhook, unless that was deleted.
    pub webhook: Option<Arc<Webhook>>,
    /// Whether it is claimed ahead: in the store it is queued until it [begins](super::Store::begin).
    pub is_ahead: bool,
}

impl Claim {
    /// A claimed run with its webhook.
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

/// A run that was claimed ahead and executes now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Begun {
    /// The run.
    pub run: RunId,
    /// The fence of the claim.
    pub fence: u64,
    /// The time of day.
    pub now: SystemTime,
}

impl Begun {
    /// The run of this claim executes now.
    #[must_use]
    pub fn new(run: RunId, fence: u64, now: SystemTime) -> Self {
        Self { run, fence, now }
    }
}

/// A claim to hold on to.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct Renewal {
    /// The run.
    pub run: RunId,
    /// The fence of the claim.
    pub fence: u64,
    /// How far the run is, if that changed.
    pub progress: Option<Progress>,
}

impl Renewal {
    /// Holds on to a claim.
    #[must_use]
    pub fn new(run: RunId, fence: u64, progress: Option<Progress>) -> Self {
        Self { run, fence, progress }
    }
}

/// How a claim stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Renewed {
    /// It holds; stop the run if a reason is given.
    Held {
        /// Why the run is to stop.
        cancel: Option<CancelReason>,
    },
    /// It was lost to another worker, or the run has ended.
    Lost,
}

/// How an attempt went.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct Settlement {
    /// The run.
    pub run: RunId,
    /// The fence of the claim.
    pub fence: u64,
    /// What to record.
    pub outcome: Outcome,
    /// When its execution began, if it was claimed ahead and did.
    pub started_at: Option<SystemTime>,
    /// The time of day.
    pub now: SystemTime,
}

impl Settlement {
    /// Says how the attempt under `fence` went.
    #[must_use]
    pub fn new(run: RunId, fence: u64, outcome: Outcome, now: SystemTime) -> Self {
        Self { run, fence, outcome, started_at: None, now }
    }

    /// Sets when its execution began.
    #[must_use]
    pub fn with_started_at(mut self, started_at: Option<SystemTime>) -> Self {
        self.started_at = started_at;
        self
    }

    /// Who is to be told.
    #[must_use]
    pub fn deliveries(&self) -> &[Delivery] {
        match &self.outcome {
            Outcome::Ended { deliveries, .. } => deliveries,
            Outcome::Retry { .. } | Outcome::HandBack => &[],
        }
    }
}

/// What to record of an attempt.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub enum Outcome {
    /// The run has ended.
    Ended {
        /// How.
        ending: Ending,
        /// Who is to be told.
        deliveries: Vec<Delivery>,
    },
    /// The attempt failed and another is made after a pause.
    Retry {
        /// Why it failed.
        error: RunError,
        /// The pause.
        delay: Duration,
    },
    /// The worker stops; the run is to be executed again, by another.
    HandBack,
}

/// What became of a settlement.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum Settled {
    /// It is recorded; this is the run now.
    Applied(Arc<Run>),
    /// The claim was lost; nothing was changed.
    Stale,
}

/// What became of a cancellation.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum Cancelled {
    /// The run was queued and has ended.
    Ended(Arc<Run>),
    /// The run is running and will be told to stop.
    Requested(Arc<Run>),
    /// The run had ended before.
    TooLate(Arc<Run>),
}

/// Which ended runs to remove.
#[derive(Debug, Clone, Copy)]
#[non_exhaustive]
pub struct PruneRequest {
    /// The time of day.
    pub now: SystemTime,
    /// For how long ended runs are kept where their webhook does not say.
    pub keep_for: Duration,
    /// How many ended runs of each webhook are kept at most.
    pub keep_per_webhook: Option<u64>,
    /// At most this many are removed.
    pub limit: usize,
}

impl PruneRequest {
    /// Removes at most `limit` runs that ended longer than `keep_for` ago.
    #[must_use]
    pub fn new(now: SystemTime, keep_for: Duration, limit: usize) -> Self {
        Self { now, keep_for, keep_per_webhook: None, limit }
    }

    /// Sets how many ended runs of each webhook are kept at most.
    #[must_use]
    pub fn with_keep_per_webhook(mut self, keep: Option<u64>) -> Self {
        self.keep_per_webhook = keep;
        self
    }

    /// The retention that holds for the runs of a webhook.
    #[must_use]
    pub fn retention(&self, webhook: Option<&Webhook>) -> Duration {
        let days = webhook.and_then(|webhook| webhook.settings.retention_days);
        days.map_or(self.keep_for, |days| Duration::from_secs(u64::from(days) * 86_400))
    }
}

/// What was removed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Pruned {
    /// The runs.
    pub runs: Vec<RunId>,
    /// Whether there may be more to remove.
    pub more: bool,
}

impl Pruned {
    /// These runs were removed.
    #[must_use]
    pub fn new(runs: Vec<RunId>, more: bool) -> Self {
        Self { runs, more }
    }
}

/// How much of each run's log is kept, in bytes.
pub const LOG_BYTES: usize = 256 * 1024;

/// How many of the oldest bytes of a log go, so that at most [`LOG_BYTES`] stay: whole lines, and a part of the last
/// line only when it alone is longer.
#[must_use]
pub fn log_surplus(text: &str) -> usize {
    let Some(excess) = text.len().checked_sub(LOG_BYTES).filter(|excess| *excess > 0) else { return 0 };
    let line_end = text.as_bytes()[excess - 1..].iter().position(|byte| *byte == b'\n');
    match line_end.map(|position| excess + position) {
        Some(cut) if cut < text.len() => cut,
        _ => text.ceil_char_boundary(excess),
    }
}

/// A part of a run's log.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct LogPart {
    /// Where `text` starts: the asked offset, or later when older lines were dropped.
    pub offset: u64,
    /// The lines from there to the end.
    pub text: String,
}

impl LogPart {
    /// A part that starts at this offset.
    #[must_use]
    pub fn new(offset: u64, text: String) -> Self {
        Self { offset, text }
    }

    /// What a log answers that keeps `text` from the offset `start` on and is asked from `offset` on. At most the
    /// newest [`LOG_BYTES`] are shown, so that a store may cut what it keeps when it suits it.
    #[must_use]
    pub fn of_log(start: u64, text: &str, offset: u64) -> Self {
        let asked = usize::try_from(offset.saturating_sub(start)).unwrap_or(usize::MAX);
        if asked > text.len() {
            return Self::new(offset, String::new());
        }
        let from = text.ceil_char_boundary(asked.max(log_surplus(text)));
        Self::new(start + from as u64, text[from..].to_owned())
    }

    /// The offset at which the next part starts.
    #[must_use]
    pub fn end(&self) -> u64 {
        self.offset + self.text.len() as u64
    }
}

/// How much is in a store.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct StoreHealth {
    /// Runs that wait.
    pub queued: u64,
    /// Runs that execute.
    pub running: u64,
    /// Deliveries that are still to go out.
    pub pending_deliveries: u64,
    /// Records that are known to be damaged or missing. The rest of the store works.
    pub damaged: u64,
    /// Whether the store refuses new runs for want of room, as on a disk below its reserve. What is there goes on.
    pub is_full: bool,
}

impl StoreHealth {
    /// These numbers.
    #[must_use]
    pub fn new(queued: u64, running: u64, pending_deliveries: u64) -> Self {
        Self { queued, running, pending_deliveries, damaged: 0, is_full: false }
    }

    /// Sets how many records are known to be damaged or missing.
    #[must_use]
    pub fn with_damaged(mut self, damaged: u64) -> Self {
        self.damaged = damaged;
        self
    }

    /// Sets whether the store refuses new runs for want of room.
    #[must_use]
    pub fn with_full(mut self, is_full: bool) -> Self {
        self.is_full = is_full;
        self
    }
}
