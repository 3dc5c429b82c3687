//! The store: where webhooks, runs and deliveries are kept.
//!
//! A store keeps six promises, each a property in the [conformance suite](crate::conformance):
//!
//! - [`enqueue`](Store::enqueue) returns only when the run is durable; the run and its idempotency key are
//!   recorded in one atomic step.
//! - Creating what exists conflicts, and an update names the revision it expects; nothing is silently overwritten.
//! - [`claim`](Store::claim) gives each due run to one claimer. A claim carries run, attempt, fence and a lease;
//!   renewing or settling with a stale fence fails and changes nothing.
//! - [`settle`](Store::settle) records the outcome and its deliveries in one atomic step.
//! - Listing is newest first and stable under concurrent writes, and reads no more than it must.
//! - [`prune`](Store::prune) removes ended runs past their retention in bounded batches, and never a live one.
//!
//! Runs are delivered **at least once** under a stable run id; an attempt that lost its lease can never overwrite
//! a newer one. Time of day comes from the requests, so a store needs no clock; pauses and leases are measured in
//! time that passes, so a jump of the clock expires nothing wrongly.
//!
//! A store for one process can build on [`LiveRuns`](crate::live::LiveRuns), which decides everything about runs
//! that have not ended, and on [`EventLog`](crate::events::EventLog). [`MemoryStore`](crate::memory::MemoryStore)
//! is the complete sample implementation: it is small, and it is made of these parts.
//!
//! ```
//! use std::sync::Arc;
//! use webhook_core::memory::MemoryStore;
//! use webhook_core::store::{RunQuery, Store};
//! # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), webhook_core::store::StoreError> {
//! let store: Arc<dyn Store> = Arc::new(MemoryStore::new());
//! let page = store.list_runs(RunQuery::default()).await?;
//! assert!(page.items.is_empty() && page.next.is_none());
//! # Ok(())
//! # }
//! ```

mod forward;

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use crate::error::BoxError;
use crate::events::{EventCursor, Events};
use crate::id::{DeliveryId, RunId, WebhookId, WorkflowKey};
use crate::notifier::{Delivery, DeliveryOutcome};
use crate::run::{CancelReason, Ending, Progress, Run, RunError, RunState};
use crate::token::TokenDigest;
use crate::webhook::{Concurrency, Webhook};

/// Keeps webhooks, runs, their logs and the outbox of deliveries. See the [module](self) for its promises.
#[async_trait::async_trait]
pub trait Store: Send + Sync + 'static {
    /// Records a new webhook.
    ///
    /// # Behavior
    /// Durable when it returns.
    ///
    /// # Errors
    /// [`StoreError::Conflict`] when its id or token digest is taken.
    ///
    /// # Cancel safety
    /// When dropped, the webhook may or may not be recorded.
    async fn create_webhook(&self, webhook: Webhook) -> Result<(), StoreError>;

    /// The webhook with this id.
    ///
    /// # Behavior
    /// Sees every change that was acknowledged before.
    ///
    /// # Errors
    /// [`StoreError`] when the store cannot be read.
    ///
    /// # Cancel safety
    /// It may be dropped at any time.
    async fn get_webhook(&self, id: WebhookId) -> Result<Option<Arc<Webhook>>, StoreError>;

    /// The webhook whose present token has this digest.
    ///
    /// # Behavior
    /// Once [`update_webhook`](Self::update_webhook) has replaced a token, the old digest finds nothing on any
    /// machine.
    ///
    /// # Errors
    /// [`StoreError`] when the store cannot be read.
    ///
    /// # Cancel safety
    /// It may be dropped at any time.
    async fn find_webhook(&self, digest: &TokenDigest) -> Result<Option<Arc<Webhook>>, StoreError>;

    /// Replaces a webhook's record. Its `last_used_at` is left as it is stored.
    ///
    /// # Behavior
    /// Durable when it returns. The new settings hold for every claim after it.
    ///
    /// # Errors
    /// [`StoreError::NotFound`], and [`StoreError::Conflict`] when the stored revision is not `expected_revision`
    /// or another webhook has the token digest; nothing is changed then.
    ///
    /// # Cancel safety
    /// When dropped, the change may or may not be recorded.
    async fn update_webhook(&self, webhook: Webhook, expected_revision: u64) -> Result<(), StoreError>;

    /// Removes a webhook and cancels its queued runs; its running ones go on and its history stays.
    ///
    /// # Behavior
    /// One atomic, durable step. Answers the runs it cancelled.
    ///
    /// # Errors
    /// [`StoreError::NotFound`].
    ///
    /// # Cancel safety
    /// When dropped, it may or may not be removed.
    async fn delete_webhook(&self, id: WebhookId, now: SystemTime) -> Result<Vec<RunId>, StoreError>;

    /// Lists webhooks, newest first.
    ///
    /// # Behavior
    /// Stable: an item that exists throughout a walk over all pages is seen exactly once.
    ///
    /// # Errors
    /// [`StoreError`] when the store cannot be read.
    ///
    /// # Cancel safety
    /// It may be dropped at any time.
    async fn list_webhooks(&self, query: WebhookQuery) -> Result<Page<Arc<Webhook>, WebhookId>, StoreError>;

    /// Notes when webhooks were last used. Unknown ones are passed over, an earlier time changes nothing.
    ///
    /// # Behavior
    /// Need not be durable when it returns, and changes no revision.
    ///
    /// # Errors
    /// [`StoreError`] when the store cannot be written.
    ///
    /// # Cancel safety
    /// It may be dropped at any time.
    async fn record_use(&self, uses: &[(WebhookId, SystemTime)]) -> Result<(), StoreError>;

    /// Records a run, or finds the one its idempotency key stands for.
    ///
    /// # Behavior
    /// One atomic step, durable when it returns: look up the key (a replay waits until the run it stands for is
    /// durable); apply the overlap rule of [`Enqueue::concurrency`]; check the queue limits; record run and key.
    /// Only then may the run be claimed.
    ///
    /// # Errors
    /// [`StoreError::NotFound`] when its webhook does not exist, [`StoreError::Conflict`] when its id is taken. A
    /// full queue and a mismatched key are outcomes, not errors.
    ///
    /// # Cancel safety
    /// When dropped, the run may or may not be recorded; with an idempotency key the call can be repeated.
    async fn enqueue(&self, request: Enqueue) -> Result<Enqueued, StoreError>;

    /// Claims due runs, oldest first, at most [`ClaimRequest::limit`].
    ///
    /// # Behavior
    /// A run whose lease is over is interrupted first and may then be claimed again. No webhook gets more running
    /// runs than the stored settings allow, whatever an `enqueue` carried. Each claim has a fence greater than every earlier one of its run. What is
    /// claimed survives the death of the process (not necessarily of the machine), so that interruptions count.
    /// Answers with nothing when nothing is due.
    ///
    /// # Errors
    /// [`StoreError`]; nothing is claimed then.
    ///
    /// # Cancel safety
    /// When dropped, runs may be claimed all the same; they come back when their lease is over.
    async fn claim(&self, request: ClaimRequest) -> Result<Vec<Claim>, StoreError>;

    /// Extends leases to `lease` from now, records progress, and says which runs to stop. Answers in order.
    ///
    /// # Behavior
    /// A claim whose fence is stale, or whose run is not running, is [`Renewed::Lost`] and nothing is changed.
    ///
    /// # Errors
    /// [`StoreError`]; which leases were extended is unknown then.
    ///
    /// # Cancel safety
    /// It may be dropped at any time.
    async fn renew(&self, renewals: Vec<Renewal>, lease: Duration) -> Result<Vec<Renewed>, StoreError>;

    /// Records how attempts went, each together with its deliveries in one atomic step. Answers in order.
    ///
    /// # Behavior
    /// Durable when it returns. A stale fence is [`Settled::Stale`] and changes nothing. A run whose cancellation
    /// was asked for ends cancelled instead of being queued again; a run of a deleted webhook fails instead.
    ///
    /// # Errors
    /// [`StoreError`]; which outcomes were recorded is unknown then, and settling again is safe.
    ///
    /// # Cancel safety
    /// When dropped, outcomes may or may not be recorded.
    async fn settle(&self, settlements: Vec<Settlement>) -> Result<Vec<Settled>, StoreError>;

    /// Cancels a queued run, or asks for the cancellation of a running one.
    ///
    /// # Behavior
    /// Durable when it returns. A running run learns of it through [`renew`](Self::renew).
    ///
    /// # Errors
    /// [`StoreError::NotFound`]. A run that has ended is an outcome.
    ///
    /// # Cancel safety
    /// When dropped, it may or may not be recorded.
    async fn cancel_run(&self, id: RunId, now: SystemTime) -> Result<Cancelled, StoreError>;

    /// The run with this id.
    ///
    /// # Behavior
    /// Sees every change that was acknowledged before.
    ///
    /// # Errors
    /// [`StoreError`] when the store cannot be read.
    ///
    /// # Cancel safety
    /// It may be dropped at any time.
    async fn get_run(&self, id: RunId) -> Result<Option<Arc<Run>>, StoreError>;

    /// Lists runs, newest first, by workflow, webhook and state.
    ///
    /// # Behavior
    /// Stable under concurrent writes: a run that matches throughout a walk over all pages is seen exactly once.
    /// Reads an amount that grows with the page, not with the history.
    ///
    /// # Errors
    /// [`StoreError`] when the store cannot be read.
    ///
    /// # Cancel safety
    /// It may be dropped at any time.
    async fn list_runs(&self, query: RunQuery) -> Result<Page<Arc<Run>, RunId>, StoreError>;

    /// Removes ended runs past their retention with their logs, deliveries and index entries, and idempotency keys
    /// past their time.
    ///
    /// # Behavior
    /// Removes at most [`PruneRequest::limit`] runs and says whether there may be more. Each webhook's own
    /// retention counts; a run whose webhook is gone is kept for the default. A run with a pending delivery stays, and
    /// so does one whose idempotency key is to be kept beyond [`PruneRequest::now`], counted from when it was queued:
    /// a repeated call must find it.
    ///
    /// # Errors
    /// [`StoreError`]; some may have been removed.
    ///
    /// # Cancel safety
    /// When dropped, some may have been removed, each of them wholly.
    async fn prune(&self, request: PruneRequest) -> Result<Pruned, StoreError>;

    /// Appends lines to a run's log, of which the newest 256 KiB are kept.
    ///
    /// # Behavior
    /// Each line of `text` ends with a line feed. A stale fence changes nothing and is no error. Need not be
    /// durable when it returns.
    ///
    /// # Errors
    /// [`StoreError`] when the store cannot be written.
    ///
    /// # Cancel safety
    /// When dropped, the lines may or may not be recorded.
    async fn append_log(&self, run: RunId, fence: u64, text: String) -> Result<(), StoreError>;

    /// Reads a run's log from a byte offset on. An unknown run has an empty log.
    ///
    /// # Behavior
    /// Offsets count all bytes ever appended, so they stay valid when the oldest lines are dropped.
    ///
    /// # Errors
    /// [`StoreError`] when the store cannot be read.
    ///
    /// # Cancel safety
    /// It may be dropped at any time.
    async fn read_log(&self, run: RunId, offset: u64) -> Result<LogPart, StoreError>;

    /// Waits until there may be something to claim of this sort of work: something new, a due time, or a lease that
    /// is over.
    ///
    /// # Behavior
    /// May return early and must not poll in a tight loop. Work that came between the last claim and this call is
    /// noticed. When all that is due waits for a webhook's concurrency, it waits too. Work of the other sort does
    /// not end the wait for long: deliveries that nobody takes must not keep those busy who wait for runs.
    ///
    /// # Errors
    /// None; a store that fails waits or returns now and then, and the next claim tells.
    ///
    /// # Cancel safety
    /// It may be dropped at any time without losing a wake-up for the next call.
    async fn wait_for_work(&self, work: Work);

    /// The events after `cursor`; waits until there is one. `None` answers at once with the present cursor.
    ///
    /// # Behavior
    /// A cursor that is too old, or of another life of the store, gives [`Events::reset`]: there is a gap.
    ///
    /// # Errors
    /// [`StoreError`] when events cannot be read.
    ///
    /// # Cancel safety
    /// It may be dropped at any time.
    async fn events_since(&self, cursor: Option<EventCursor>) -> Result<Events, StoreError>;

    /// Claims due deliveries, earliest first, for the time of a lease.
    ///
    /// # Behavior
    /// Each due delivery goes to one claimer. One whose lease is over is given out again.
    ///
    /// # Errors
    /// [`StoreError`]; nothing is claimed then.
    ///
    /// # Cancel safety
    /// When dropped, deliveries may be claimed all the same; they come back when their lease is over.
    async fn claim_deliveries(&self, limit: usize, lease: Duration) -> Result<Vec<Delivery>, StoreError>;

    /// Records how one try of each delivery went. Unknown and already settled ones are passed over.
    ///
    /// # Behavior
    /// Durable when it returns.
    ///
    /// # Errors
    /// [`StoreError`]; settling again is safe.
    ///
    /// # Cancel safety
    /// When dropped, outcomes may or may not be recorded.
    async fn settle_deliveries(&self, outcomes: Vec<(DeliveryId, DeliveryOutcome)>)
    -> Result<(), StoreError>;

    /// The deliveries of a run, oldest first.
    ///
    /// # Behavior
    /// Sees every change that was acknowledged before.
    ///
    /// # Errors
    /// [`StoreError`] when the store cannot be read.
    ///
    /// # Cancel safety
    /// It may be dropped at any time.
    async fn list_deliveries(&self, run: RunId) -> Result<Vec<Delivery>, StoreError>;

    /// Makes a delivery due again now, with its tries counted anew.
    ///
    /// # Behavior
    /// Durable when it returns. Answers the delivery as it is now.
    ///
    /// # Errors
    /// [`StoreError::NotFound`].
    ///
    /// # Cancel safety
    /// When dropped, it may or may not be due again.
    async fn resend_delivery(&self, id: DeliveryId, now: SystemTime) -> Result<Delivery, StoreError>;

    /// Says whether the store can be written, and how much is in it.
    ///
    /// # Behavior
    /// Cheap enough to be asked every second.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`] when it cannot be written.
    ///
    /// # Cancel safety
    /// It may be dropped at any time.
    async fn health(&self) -> Result<StoreHealth, StoreError>;
}

/// What a worker waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Work {
    /// Runs, for [`Store::claim`].
    Runs,
    /// Deliveries, for [`Store::claim_deliveries`].
    Deliveries,
}

/// Why a store did not do what was asked.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StoreError {
    /// There is no such record.
    #[error("the {0} does not exist")]
    NotFound(&'static str),
    /// The record exists already or was changed in between.
    #[error("the {0} exists already or was changed in between")]
    Conflict(&'static str),
    /// The store cannot be used now; it may be later.
    #[error("the store is unavailable: {reason}")]
    Unavailable {
        /// Why, for people.
        reason: String,
        /// What caused it.
        source: Option<BoxError>,
    },
    /// What is stored cannot be understood.
    #[error("the store holds a damaged record: {reason}")]
    Corrupt {
        /// What is damaged.
        reason: String,
        /// What caused it.
        source: Option<BoxError>,
    },
    /// What is stored was written by a newer version.
    #[error("the store was written by a newer version: format {found}, at most {known} is understood")]
    NewerFormat {
        /// The format that was found.
        found: u32,
        /// The newest format that is understood.
        known: u32,
    },
}

impl StoreError {
    /// The store cannot be used now, for this reason.
    pub fn unavailable(reason: impl Into<String>) -> Self {
        Self::Unavailable { reason: reason.into(), source: None }
    }

    /// The store cannot be used now because of this error.
    pub fn unavailable_because(reason: impl Into<String>, source: impl Into<BoxError>) -> Self {
        Self::Unavailable { reason: reason.into(), source: Some(source.into()) }
    }

    /// A record cannot be understood because of this error.
    pub fn corrupt(reason: impl Into<String>, source: impl Into<BoxError>) -> Self {
        Self::Corrupt { reason: reason.into(), source: Some(source.into()) }
    }
}

/// Some items of a list, and the id of the last one where more may follow.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Page<T, C> {
    /// The items, newest first.
    pub items: Vec<T>,
    /// The cursor of the next page: list what is older than it. `None` at the end.
    pub next: Option<C>,
}

impl<T, C> Page<T, C> {
    /// A page, with the cursor of the next where there is one.
    #[must_use]
    pub fn new(items: Vec<T>, next: Option<C>) -> Self {
        Self { items, next }
    }

    /// Cuts `items`, of which one more than `limit` may have been read, to a page.
    #[must_use]
    pub fn cut(mut items: Vec<T>, limit: usize, id: impl Fn(&T) -> C) -> Self {
        let more = items.len() > limit;
        items.truncate(limit);
        let next = if more { items.last().map(id) } else { None };
        Self { items, next }
    }
}

/// Which webhooks to list.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct WebhookQuery {
    /// Only those of this workflow.
    pub workflow: Option<WorkflowKey>,
    /// Only those older than this one.
    pub before: Option<WebhookId>,
    /// At most this many.
    pub limit: usize,
}

impl Default for WebhookQuery {
    fn default() -> Self {
        Self { workflow: None, before: None, limit: 50 }
    }
}

impl WebhookQuery {
    /// Only those of this workflow.
    #[must_use]
    pub fn of_workflow(mut self, workflow: WorkflowKey) -> Self {
        self.workflow = Some(workflow);
        self
    }

    /// Only those older than this one.
    #[must_use]
    pub fn before(mut self, before: Option<WebhookId>) -> Self {
        self.before = before;
        self
    }

    /// At most this many.
    #[must_use]
    pub fn limit(mut self, limit: usize) -> Self {
        self.limit = limit;
        self
    }
}

/// Which runs to list.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct RunQuery {
    /// Only those of this workflow.
    pub workflow: Option<WorkflowKey>,
    /// Only those of this webhook.
    pub webhook: Option<WebhookId>,
    /// Only those in this state.
    pub state: Option<RunState>,
    /// Only those older than this one.
    pub before: Option<RunId>,
    /// At most this many.
    pub limit: usize,
}

impl Default for RunQuery {
    fn default() -> Self {
        Self { workflow: None, webhook: None, state: None, before: None, limit: 50 }
    }
}

impl RunQuery {
    /// Only those of this workflow.
    #[must_use]
    pub fn of_workflow(mut self, workflow: Option<WorkflowKey>) -> Self {
        self.workflow = workflow;
        self
    }

    /// Only those of this webhook.
    #[must_use]
    pub fn of_webhook(mut self, webhook: Option<WebhookId>) -> Self {
        self.webhook = webhook;
        self
    }

    /// Only those in this state.
    #[must_use]
    pub fn in_state(mut self, state: Option<RunState>) -> Self {
        self.state = state;
        self
    }

    /// Only those older than this one.
    #[must_use]
    pub fn before(mut self, before: Option<RunId>) -> Self {
        self.before = before;
        self
    }

    /// At most this many.
    #[must_use]
    pub fn limit(mut self, limit: usize) -> Self {
        self.limit = limit;
        self
    }

    /// Whether a run is one of those asked for, its place in the list aside.
    #[must_use]
    pub fn matches(&self, run: &Run) -> bool {
        self.workflow.as_ref().is_none_or(|workflow| *workflow == run.workflow)
            && self.webhook.is_none_or(|webhook| webhook == run.webhook_id)
            && self.state.is_none_or(|state| state == run.state)
    }
}

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
    /// The key under which a repeated call finds this run.
    pub idempotency: Option<Idempotency>,
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
            idempotency: None,
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

    /// Sets the idempotency key.
    #[must_use]
    pub fn with_idempotency(mut self, idempotency: Option<Idempotency>) -> Self {
        self.idempotency = idempotency;
        self
    }
}

/// An idempotency key, unique within its webhook, with the request it stands for.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Idempotency {
    /// The key as the caller gave it, at most 255 bytes.
    pub key: String,
    /// SHA-256 of the request; the same key with another request is a mismatch.
    pub fingerprint: [u8; 32],
    /// For how long the key is kept.
    pub keep_for: Duration,
}

impl Idempotency {
    /// A key for the request with this fingerprint.
    #[must_use]
    pub fn new(key: impl Into<String>, fingerprint: [u8; 32], keep_for: Duration) -> Self {
        Self { key: key.into(), fingerprint, keep_for }
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
    /// The queue is full. Nothing is recorded.
    QueueFull,
}

/// Which runs a worker asks for.
#[derive(Debug, Clone, Copy)]
#[non_exhaustive]
pub struct ClaimRequest {
    /// At most this many.
    pub limit: usize,
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
        Self { limit, lease, interruption_bound: 5, now }
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
}

impl Claim {
    /// A claimed run with its webhook.
    #[must_use]
    pub fn new(run: Arc<Run>, webhook: Option<Arc<Webhook>>) -> Self {
        Self { run, webhook }
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
    /// The time of day.
    pub now: SystemTime,
}

impl Settlement {
    /// Says how the attempt under `fence` went.
    #[must_use]
    pub fn new(run: RunId, fence: u64, outcome: Outcome, now: SystemTime) -> Self {
        Self { run, fence, outcome, now }
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
}

impl StoreHealth {
    /// These numbers.
    #[must_use]
    pub fn new(queued: u64, running: u64, pending_deliveries: u64) -> Self {
        Self { queued, running, pending_deliveries }
    }
}
