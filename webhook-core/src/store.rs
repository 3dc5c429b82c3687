//! The store: where webhooks, runs and deliveries are kept.
//!
//! A store keeps six promises, each a property in the suite `webhook_core::conformance` (feature `conformance`):
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

mod error;
mod forward;
mod outbox;
mod query;
mod request;

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use crate::events::{EventCursor, Events};
use crate::id::{DeliveryId, RunId, WebhookId};
use crate::notifier::Delivery;
use crate::run::Run;
use crate::token::TokenDigest;
use crate::webhook::Webhook;

pub use error::StoreError;
pub use outbox::{Channels, DeliveryClaimRequest, DeliverySettlement};
pub use query::{DeliveryQuery, Page, RunQuery, WebhookQuery};
pub use request::{
    Begun, Cancelled, Claim, ClaimRequest, Enqueue, Enqueued, Idempotency, LOG_BYTES, LogPart, Outcome,
    PruneRequest, Pruned, Renewal, Renewed, Settled, Settlement, StoreHealth, log_surplus,
};

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
    /// Durable when it returns, and all queued runs are cancelled then. Meanwhile the webhook is found no more and none of
    /// these runs is claimed, also when the process dies in between; the next start cancels the rest. Answers the runs
    /// it cancelled, oldest first.
    ///
    /// # Errors
    /// [`StoreError::NotFound`], and [`StoreError::Conflict`] when the stored revision is not `expected_revision`;
    /// nothing is changed then.
    ///
    /// # Cancel safety
    /// When dropped, it may or may not be removed.
    async fn delete_webhook(
        &self,
        id: WebhookId,
        expected_revision: Option<u64>,
        now: SystemTime,
    ) -> Result<Vec<RunId>, StoreError>;

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
    /// One atomic step, durable when it returns: check token and `enabled` against the stored webhook
    /// ([`Enqueue::refused_by`]); look up the key (a replay waits until the run it stands for is durable); apply the
    /// overlap rule of [`Enqueue::concurrency`]; check the queue limits, in runs and in bytes; record run and key. Only
    /// then may the run be claimed. A run that is refused changes nothing. Of the bound on concurrency, the one that is
    /// stored with the webhook holds. Once [`update_webhook`](Self::update_webhook) has returned, a replaced token or a
    /// disabled webhook starts nothing, whatever the caller read before.
    ///
    /// # Errors
    /// [`StoreError::NotFound`] when its webhook does not exist, [`StoreError::Conflict`] when its id is taken. What
    /// [`Enqueued`] lists are outcomes, not errors: a full queue, a mismatched key, another token, a disabled webhook.
    /// After [`StoreError::Unavailable`] the run may be recorded all the same, when the disk failed after it was written.
    ///
    /// # Cancel safety
    /// When dropped, the run may or may not be recorded; with an idempotency key the call can be repeated.
    async fn enqueue(&self, request: Enqueue) -> Result<Enqueued, StoreError>;

    /// Claims due runs, oldest first: at most [`ClaimRequest::limit`] to execute now, and at most
    /// [`ClaimRequest::ahead`] behind them.
    ///
    /// # Behavior
    /// A run whose lease is over is interrupted first and may then be claimed again. No webhook gets more claimed runs than
    /// the stored settings allow, whatever an `enqueue` carried; those that are claimed ahead count. A run that is claimed
    /// ahead stays queued for all who read it, until it [begins](Self::begin). Each claim has a fence greater than every
    /// earlier one of its run. What is claimed survives the death of the process (not necessarily of the machine), so that
    /// interruptions count. Answers with nothing when nothing is due.
    ///
    /// # Errors
    /// [`StoreError`]; nothing is claimed then.
    ///
    /// # Cancel safety
    /// When dropped, runs may be claimed all the same; they come back when their lease is over.
    async fn claim(&self, request: ClaimRequest) -> Result<Vec<Claim>, StoreError>;

    /// Notes that runs which were claimed ahead execute now: they are running from then on.
    ///
    /// # Behavior
    /// Need not be durable when it returns. A stale fence changes nothing and is no error, nor does a run that has begun
    /// already. A worker need not say so of a run that is over before.
    ///
    /// # Errors
    /// [`StoreError`] when the store cannot be written.
    ///
    /// # Cancel safety
    /// When dropped, it may or may not be noted.
    async fn begin(&self, begun: Vec<Begun>) -> Result<(), StoreError>;

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
    /// noticed. When all that is due waits for a webhook's concurrency, it waits too. Work of another sort does
    /// not end the wait for long: deliveries that nobody takes must not keep those busy who wait for runs, and due
    /// deliveries of a channel that is left out must not keep those busy who wait for the others.
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

    /// Claims due deliveries of the channels that are asked for, earliest first, for the time of a lease.
    ///
    /// # Behavior
    /// Each due delivery goes to one claimer. One whose lease is over is given out again. Deliveries of other channels
    /// are left as they are: whoever asks for them gets them at once.
    ///
    /// # Errors
    /// [`StoreError`]; nothing is claimed then.
    ///
    /// # Cancel safety
    /// When dropped, deliveries may be claimed all the same; they come back when their lease is over.
    async fn claim_deliveries(&self, request: DeliveryClaimRequest) -> Result<Vec<Delivery>, StoreError>;

    /// Records how one try of each delivery went.
    ///
    /// # Behavior
    /// Durable when it returns. Passes over deliveries that are unknown, and outcomes that come too late, as
    /// [`DeliverySettlement::applied_to`] decides.
    ///
    /// # Errors
    /// [`StoreError`]; settling again is safe.
    ///
    /// # Cancel safety
    /// When dropped, outcomes may or may not be recorded.
    async fn settle_deliveries(&self, settlements: Vec<DeliverySettlement>) -> Result<(), StoreError>;

    /// The deliveries of these runs in one read: run by run in the given order, each run's oldest first.
    ///
    /// # Behavior
    /// Sees every change that was acknowledged before. Passes over runs that are unknown or have none.
    ///
    /// # Errors
    /// [`StoreError`] when the store cannot be read.
    ///
    /// # Cancel safety
    /// It may be dropped at any time.
    async fn list_deliveries(&self, runs: &[RunId]) -> Result<Vec<Delivery>, StoreError>;

    /// Lists deliveries of all runs, newest first, by state and channel.
    ///
    /// # Behavior
    /// Stable under concurrent writes, as [`list_runs`](Self::list_runs). What one call reads is bounded, however many
    /// deliveries there are: a page may hold fewer than were asked for, even none, although more follow.
    ///
    /// # Errors
    /// [`StoreError`] when the store cannot be read.
    ///
    /// # Cancel safety
    /// It may be dropped at any time.
    async fn find_deliveries(&self, query: DeliveryQuery) -> Result<Page<Delivery, DeliveryId>, StoreError>;

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
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Work {
    /// Runs, for [`Store::claim`].
    Runs,
    /// Deliveries through these channels, for [`Store::claim_deliveries`].
    Deliveries(Channels),
}
