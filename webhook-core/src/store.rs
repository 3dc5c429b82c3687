//! The [`Store`] trait: where webhooks, runs and deliveries are kept.
//!
//! A store makes six promises:
//!
//! - [`enqueue`](Store::enqueue) returns only when the run is durable. It records the run and its idempotency
//!   key in one atomic step.
//! - No write overwrites another silently: creating an existing record conflicts, and an update names the
//!   revision it expects.
//! - [`claim`](Store::claim) gives each due run to one claimer, with an attempt, a fence and a lease.
//!   Renewing or settling with a stale fence fails and changes nothing.
//! - [`settle`](Store::settle) records the outcome and its deliveries in one atomic step.
//! - Lists are newest first, stable under concurrent writes, and read no more than they must.
//! - [`prune`](Store::prune) removes ended runs past their retention in bounded batches, and never a live
//!   run.
//!
//! Runs are delivered **at least once** under a stable run id. An attempt that lost its lease never
//! overwrites a newer attempt.
//! Each request carries the time of day, so a store needs no wall clock. Pauses and leases are measured with
//! a monotonic clock, so a jump of the wall clock expires nothing.
//!
//! # Rules
//!
//! ## Overlap
//!
//! The effect of [`Enqueue::concurrency`] in [`enqueue`](Store::enqueue). The bound is the one stored with the webhook. Here
//! a run is *claimed* if it has begun or is claimed ahead, and *queued* otherwise, whether it is due or not.
//!
//! | rule | if | then |
//! |---|---|---|
//! | any, without a bound; `queue` | | the run is queued |
//! | `skip` | claimed + queued >= bound | the run is recorded as skipped, whatever the queue limits |
//! | `replace` | claimed + queued >= bound, without claimed runs that are asked to stop already | as many make room as are too many: queued ones end, oldest first; if they are too few, claimed ones are asked to stop: those that have not begun first, then the oldest |
//! | `coalesce` | claimed + queued >= bound | the oldest bound - claimed of the queued runs stay, the others end |
//!
//! A run that ends so is cancelled as [`Superseded`](crate::run::CancelReason::Superseded). Its place in the queue is free
//! before the queue limits are checked. If the queue is full nevertheless, nothing has ended.
//!
//! ## Events
//!
//! | call | events |
//! |---|---|
//! | [`enqueue`](Store::enqueue) | the state of the new run, and of each run that it supersedes |
//! | [`claim`](Store::claim) | the state of each run that is interrupted, cancelled or claimed to execute now |
//! | [`begin`](Store::begin) | the state |
//! | [`renew`](Store::renew) | progress, if it is given |
//! | [`settle`](Store::settle) | the state, with the deliveries |
//! | [`cancel_run`](Store::cancel_run), [`delete_webhook`](Store::delete_webhook) | the state of each run that ends |
//! | [`append_log`](Store::append_log) | the lines |
//!
//! A request to stop is none, nor is a claim ahead. An event follows its change: a reader that sees it reads the change.
//!
//! ## Time and order
//!
//! - Requests carry the time of day, which goes into records. What expires is measured with a monotonic clock: leases,
//!   pauses and the life of keys. So a store keeps a due time of its own beside [`Run::due_at`] and `Delivery::next_at`.
//!   When it is opened again, it waits for what is left until these.
//! - Order is that of ids, "oldest first" and "newest first" alike. Only [`prune`](Store::prune) goes by the time of the end.
//! - [`prune`](Store::prune) counts a run that must stay among those that it keeps of a webhook.
//!
//! ## Stored form
//!
//! `Serialize` of [`Run`], [`Webhook`] and [`Delivery`] is a form for stores. Secret values and tokens in it are sealed or
//! digests, and nothing is masked: it is no form for people. Later versions read it.
//!
//! # Your own store
//!
//! Where one process opens the store, implement [`Records`](crate::backend::Records): nine methods that read and write, and
//! decide nothing. [`RecordStore`](crate::backend::RecordStore) makes a store of them. [`MemoryStore`](crate::memory::MemoryStore)
//! is made so, and `examples/own_store.rs`, in an SQLite file.
//! Implement [`Store`] where several processes share the store, or where the records of queued runs do not fit into memory; the
//! parts in [`backend`](crate::backend) help with the latter.
//!
//! A store that keeps the fields of a run in columns, or in a format of its own, takes them from
//! [`Run::parts`](crate::run::Run::parts). It makes runs by [`Run::from_parts`](crate::run::Run::from_parts), which
//! refuses fields that no transitions lead to.
//!
//! The conformance suite in the crate `webhook-testing` holds a store to these promises, one test for each property.
//! A store's crate runs it with one line in a file of its tests, such as `tests/conformance.rs`. The expression
//! makes a fresh, empty store for each test:
//!
//! ```
//! # use std::sync::Arc;
//! # use webhook_core::memory::MemoryStore;
//! webhook_testing::conformance_tests!(Arc::new(MemoryStore::new()));
//! # fn main() {}
//! ```
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

mod calls;
mod claim;
mod enqueue;
mod error;
mod forward;
mod outbox;
mod query;
mod settle;
mod upkeep;

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use crate::events::{EventCursor, Events};
use crate::id::{DeliveryId, RunId, WebhookId};
use crate::notifier::Delivery;
use crate::run::Run;
use crate::token::TokenDigest;
use crate::webhook::Webhook;

pub use calls::CallStore;
pub use claim::{Begun, Claim, ClaimRequest, Renewal, Renewed, Workflows};
pub use enqueue::{Enqueue, Enqueued, Idempotency};
pub use error::StoreError;
pub use outbox::{Channels, DeliveryClaimRequest, DeliverySettlement};
pub use query::{CallQuery, DeliveryQuery, Page, RunQuery, WebhookQuery};
pub use settle::{CancelNotice, Cancelled, Outcome, Settled, Settlement};
pub use upkeep::{LOG_BYTES, LogPart, PruneRequest, Pruned, StoreHealth, log_surplus};

/// Keeps webhooks, runs, their logs and the outbox of deliveries.
///
/// # Methods
///
/// All are `async` but `calls`. `Result<T>` stands for `Result<T, StoreError>`; ids are those of the record.
///
/// | purpose | method |
/// |---|---|
/// | webhooks | `create_webhook(&self, webhook: Webhook) -> Result<()>` |
/// | | `get_webhook(&self, id: WebhookId) -> Result<Option<Arc<Webhook>>>` |
/// | | `find_webhook(&self, digest: &TokenDigest) -> Result<Option<Arc<Webhook>>>` |
/// | | `update_webhook(&self, webhook: Webhook, expected_revision: u64) -> Result<()>` |
/// | | `delete_webhook(&self, id: WebhookId, expected_revision: Option<u64>, now: SystemTime) -> Result<Vec<RunId>>` |
/// | | `list_webhooks(&self, query: WebhookQuery) -> Result<Page<Arc<Webhook>, WebhookId>>` |
/// | | `record_use(&self, uses: &[(WebhookId, SystemTime)]) -> Result<()>` |
/// | starting runs | `enqueue(&self, request: Enqueue) -> Result<Enqueued>` |
/// | executing runs | `claim(&self, request: ClaimRequest) -> Result<Vec<Claim>>` |
/// | | `begin(&self, begun: Vec<Begun>) -> Result<()>` |
/// | | `renew(&self, renewals: Vec<Renewal>, lease: Duration) -> Result<Vec<Renewed>>` |
/// | | `settle(&self, settlements: Vec<Settlement>) -> Result<Vec<Settled>>` |
/// | | `cancel_run(&self, id: RunId, now: SystemTime) -> Result<Cancelled>` |
/// | reading runs | `get_run(&self, id: RunId) -> Result<Option<Arc<Run>>>` |
/// | | `list_runs(&self, query: RunQuery) -> Result<Page<Arc<Run>, RunId>>` |
/// | retention | `prune(&self, request: PruneRequest) -> Result<Pruned>` |
/// | logs of runs | `append_log(&self, run: RunId, fence: u64, text: String) -> Result<()>` |
/// | | `read_log(&self, run: RunId, offset: u64) -> Result<LogPart>` |
/// | deliveries | `claim_deliveries(&self, request: DeliveryClaimRequest) -> Result<Vec<Delivery>>` |
/// | | `settle_deliveries(&self, settlements: Vec<DeliverySettlement>) -> Result<()>` |
/// | | `list_deliveries(&self, runs: &[RunId]) -> Result<Vec<Delivery>>` |
/// | | `find_deliveries(&self, query: DeliveryQuery) -> Result<Page<Delivery, DeliveryId>>` |
/// | | `resend_delivery(&self, id: DeliveryId, now: SystemTime) -> Result<Delivery>` |
/// | waiting and events | `wait_for_work(&self, work: Work)` |
/// | | `events_since(&self, cursor: Option<EventCursor>) -> Result<Events>` |
/// | health | `health(&self) -> Result<StoreHealth>` |
///
/// These have a default:
///
/// | method | default |
/// |---|---|
/// | `calls(&self) -> Option<&dyn CallStore>` | `None`: each process keeps rates and the call log in its memory |
/// | `wait_for_cancellations(&self) -> Vec<CancelNotice>` | never returns, as is right for one process |
/// | `close(&self)` | does nothing |
///
/// A later method has a default as well, so that it breaks no store.
///
/// # Contract
///
/// Unless a method says otherwise:
///
/// - **Reads** see every change that was acknowledged before the call.
/// - **Writes** are durable when the call returns.
/// - **Errors:** [`StoreError::NotFound`] and [`StoreError::Conflict`] change nothing. After any other error
///   of a write, the change may or may not be recorded.
/// - **Cancel safety:** a call may be dropped at any time. A dropped read has no effect; a dropped write may
///   or may not be recorded.
///
/// See the [module](self) for the promises that span methods.
#[async_trait::async_trait]
pub trait Store: Send + Sync + 'static {
    // Webhooks.

    /// Records a new webhook.
    ///
    /// Fails with [`StoreError::Conflict`] when its id or token digest is taken.
    async fn create_webhook(&self, webhook: Webhook) -> Result<(), StoreError>;

    /// Returns the webhook with this id, or `None` if there is none.
    async fn get_webhook(&self, id: WebhookId) -> Result<Option<Arc<Webhook>>, StoreError>;

    /// Returns the webhook whose current token has this digest, or `None` if there is none.
    ///
    /// Once [`update_webhook`](Self::update_webhook) has replaced a token, no machine finds the webhook by
    /// the old digest.
    async fn find_webhook(&self, digest: &TokenDigest) -> Result<Option<Arc<Webhook>>, StoreError>;

    /// Replaces a webhook's record, except its `last_used_at`, which keeps the stored value.
    ///
    /// The record brings its next revision ([`Webhook::with_settings`]).
    /// Every later claim follows the new settings.
    ///
    /// Fails with [`StoreError::NotFound`], and with [`StoreError::Conflict`] when the stored revision is not
    /// `expected_revision`, or when another webhook has the token digest.
    async fn update_webhook(&self, webhook: Webhook, expected_revision: u64) -> Result<(), StoreError>;

    /// Removes a webhook, cancels its queued runs, and returns the cancelled runs, oldest first.
    ///
    /// Its running runs continue and its history stays.
    /// From the first change on, the webhook is not found and none of its queued runs is claimed, even if the
    /// process dies before the call returns. The next start of the store then cancels the remaining runs.
    ///
    /// Fails with [`StoreError::NotFound`], and with [`StoreError::Conflict`] when the stored revision is not
    /// `expected_revision`.
    async fn delete_webhook(
        &self,
        id: WebhookId,
        expected_revision: Option<u64>,
        now: SystemTime,
    ) -> Result<Vec<RunId>, StoreError>;

    /// Lists webhooks, newest first.
    ///
    /// Stable: an item that exists throughout a walk over all pages is returned exactly once.
    async fn list_webhooks(&self, query: WebhookQuery) -> Result<Page<Arc<Webhook>, WebhookId>, StoreError>;

    /// Records when webhooks were last used.
    ///
    /// Unknown webhooks are ignored, and so is a time earlier than the recorded one. No revision changes.
    /// Need not be durable when it returns.
    async fn record_use(&self, uses: &[(WebhookId, SystemTime)]) -> Result<(), StoreError>;

    // Runs.

    /// Records a run, or returns the run that its idempotency key already stands for.
    ///
    /// One atomic step, in this order:
    ///
    /// 1. Check the token and `enabled` against the stored webhook ([`Enqueue::refused_by`]). Once
    ///    [`update_webhook`](Self::update_webhook) has returned, a replaced token or a disabled webhook
    ///    starts nothing, whatever the caller read before.
    /// 2. Look up the idempotency key. A replay waits until the run behind the key is durable.
    /// 3. Apply the overlap rule of [`Enqueue::concurrency`]. The bound on concurrency is the one stored with
    ///    the webhook.
    /// 4. Check the queue limits, in runs and in bytes.
    /// 5. Record the run and the key. Only then may the run be claimed.
    ///
    /// A refused run changes nothing. Refusals are values of [`Enqueued`], not errors: a full queue, a
    /// mismatched key, another token, a disabled webhook.
    ///
    /// Fails with [`StoreError::NotFound`] when the webhook does not exist, and with [`StoreError::Conflict`]
    /// when the run's id is taken. After [`StoreError::Unavailable`] the run may be recorded: the disk may
    /// have failed after the write.
    ///
    /// # Cancel safety
    /// After a dropped call, a call with an idempotency key can be repeated.
    async fn enqueue(&self, request: Enqueue) -> Result<Enqueued, StoreError>;

    /// Claims due runs: at most [`ClaimRequest::limit`] to execute now, and at most [`ClaimRequest::ahead`] behind
    /// them.
    ///
    /// Returns an empty list when nothing is due.
    ///
    /// - Webhooks are served in turn, from the one after the last that was served. Each gets an equal share of the
    ///   claim, oldest runs first, and the rest of its share goes to the others. A store may bound the number of webhooks
    ///   that one claim serves to 16 or more.
    /// - Only runs of [`ClaimRequest::workflows`] are claimed. The others stay as they are.
    /// - A run whose lease has expired is interrupted first and may then be claimed again.
    /// - No webhook gets more claimed runs than its stored settings allow, whatever an `enqueue` carried.
    ///   Runs claimed ahead count.
    /// - A run claimed ahead reads as queued until it [begins](Self::begin).
    /// - Each claim has a fence greater than every earlier fence of its run.
    /// - A claim survives the death of the process, so interruptions count. It need not survive the death of
    ///   the machine.
    ///
    /// On any error, nothing is claimed.
    ///
    /// # Cancel safety
    /// Runs may be claimed by a dropped call; they are due again when their lease expires.
    async fn claim(&self, request: ClaimRequest) -> Result<Vec<Claim>, StoreError>;

    /// Marks runs that were claimed ahead as running, because they execute now.
    ///
    /// A stale fence changes nothing and is no error; nor is a run that has already begun.
    /// A worker may omit the call for a run that ends before it.
    /// Need not be durable when it returns.
    async fn begin(&self, begun: Vec<Begun>) -> Result<(), StoreError>;

    /// Extends leases to `lease` from now, records progress, and returns which runs to stop, in the order of
    /// `renewals`.
    ///
    /// A claim whose fence is stale, or whose run is not running, is [`Renewed::Lost`] and nothing is
    /// changed.
    ///
    /// On any error, it is unknown which leases were extended.
    async fn renew(&self, renewals: Vec<Renewal>, lease: Duration) -> Result<Vec<Renewed>, StoreError>;

    /// Records the outcome of attempts, and returns one result for each, in order.
    ///
    /// Each outcome is recorded together with its deliveries in one atomic step.
    ///
    /// - A stale fence is [`Settled::Stale`] and changes nothing.
    /// - A run with a requested cancellation ends cancelled instead of being queued again.
    /// - A run of a deleted webhook is not queued again. Instead of a retry it fails with the error of its attempt.
    ///   Instead of a hand-back it ends cancelled as [`WebhookDeleted`](crate::run::CancelReason::WebhookDeleted).
    ///
    /// On any error, it is unknown which outcomes were recorded. Settling again is safe.
    async fn settle(&self, settlements: Vec<Settlement>) -> Result<Vec<Settled>, StoreError>;

    /// Cancels a queued run, or requests the cancellation of a running run.
    ///
    /// The worker of a running run learns of the request through [`renew`](Self::renew), and in another process also
    /// through [`wait_for_cancellations`](Self::wait_for_cancellations).
    /// A run that has ended is [`Cancelled::TooLate`], not an error.
    ///
    /// Fails with [`StoreError::NotFound`].
    async fn cancel_run(&self, id: RunId, now: SystemTime) -> Result<Cancelled, StoreError>;

    /// Returns the run with this id, or `None` if there is none.
    async fn get_run(&self, id: RunId) -> Result<Option<Arc<Run>>, StoreError>;

    /// Lists runs, newest first, by workflow, webhook and state.
    ///
    /// Stable under concurrent writes: a run that matches throughout a walk over all pages is returned
    /// exactly once.
    /// The amount read grows with the page, not with the history.
    async fn list_runs(&self, query: RunQuery) -> Result<Page<Arc<Run>, RunId>, StoreError>;

    /// Removes expired ended runs with their logs, deliveries and index entries, and expired idempotency keys. A store with a
    /// [`CallStore`] also removes expired contents of calls.
    ///
    /// Removes at most [`PruneRequest::limit`] runs and returns whether there may be more.
    /// The retention of a run is that of its webhook, or the default once the webhook is deleted.
    /// Two kinds of expired runs stay:
    ///
    /// - A run with a pending delivery.
    /// - A run whose idempotency key is still valid at [`PruneRequest::now`], since a repeated call must find
    ///   the run. A key's time counts from when the run was queued.
    ///
    /// On any error, some runs may have been removed.
    ///
    /// # Cancel safety
    /// A dropped call may have removed some runs, each of them wholly.
    async fn prune(&self, request: PruneRequest) -> Result<Pruned, StoreError>;

    /// Appends lines to a run's log, of which the newest 256 KiB are kept.
    ///
    /// Each line of `text` ends with a line feed. A stale fence changes nothing and is no error.
    /// Need not be durable when it returns.
    async fn append_log(&self, run: RunId, fence: u64, text: String) -> Result<(), StoreError>;

    /// Reads a run's log from a byte offset on. The log of an unknown run is empty.
    ///
    /// Offsets count all bytes ever appended, so they stay valid when the oldest lines are dropped.
    async fn read_log(&self, run: RunId, offset: u64) -> Result<LogPart, StoreError>;

    // Deliveries.

    /// Claims due deliveries of the requested channels for the time of a lease, earliest first.
    ///
    /// Each due delivery goes to one claimer. A delivery whose lease has expired is given out again.
    /// Deliveries of other channels stay as they are, and the next request for those channels gets them at
    /// once.
    ///
    /// On any error, nothing is claimed.
    ///
    /// # Cancel safety
    /// Deliveries may be claimed by a dropped call; they are due again when their lease expires.
    async fn claim_deliveries(&self, request: DeliveryClaimRequest) -> Result<Vec<Delivery>, StoreError>;

    /// Records the outcome of one try of each delivery.
    ///
    /// Ignores unknown deliveries, and outcomes that come too late by [`DeliverySettlement::applied_to`].
    ///
    /// After any error, settling again is safe.
    async fn settle_deliveries(&self, settlements: Vec<DeliverySettlement>) -> Result<(), StoreError>;

    /// Returns the deliveries of these runs in one read: run by run in the given order, each run's oldest
    /// first.
    ///
    /// Runs that are unknown or have no deliveries add nothing.
    async fn list_deliveries(&self, runs: &[RunId]) -> Result<Vec<Delivery>, StoreError>;

    /// Lists deliveries of all runs, newest first, by state and channel.
    ///
    /// Stable under concurrent writes, as [`list_runs`](Self::list_runs).
    /// The amount that one call reads is bounded, however many deliveries there are. So a page may hold fewer
    /// than `limit` deliveries, even none, although more follow.
    async fn find_deliveries(&self, query: DeliveryQuery) -> Result<Page<Delivery, DeliveryId>, StoreError>;

    /// Makes a delivery due again now, resets its count of tries, and returns it.
    ///
    /// One that is claimed at present is due again as well. The outcome of that claim then comes too late, by
    /// [`DeliverySettlement::applied_to`].
    ///
    /// Fails with [`StoreError::NotFound`].
    async fn resend_delivery(&self, id: DeliveryId, now: SystemTime) -> Result<Delivery, StoreError>;

    // Events and health.

    /// Waits until there may be work of this kind to claim: a new record, a due time, or an expired lease.
    ///
    /// - May return early, but never in a tight loop.
    /// - Notices work that arrived between the last claim and this call.
    /// - Keeps waiting while everything due is held back by its webhook's concurrency.
    /// - Work of another kind does not wake the caller for long. Deliveries that no worker claims must not
    ///   keep workers busy that wait for runs. Due deliveries of an excluded channel must not keep workers
    ///   busy that wait for the others. The same holds for due runs of workflows that are not asked for.
    ///
    /// A store that fails keeps waiting or returns now and then; the next claim reports the error.
    ///
    /// # Cancel safety
    /// A dropped call loses no wake-up for the next call.
    async fn wait_for_work(&self, work: Work);

    /// Returns the events after `cursor`, once there is at least one. `None` returns the current cursor at
    /// once. They are the events of all processes that share the store, and a cursor of one process holds in every other.
    ///
    /// A cursor that is too old, or from an earlier opening of the store, gives [`Events::reset`]: events
    /// were missed.
    async fn events_since(&self, cursor: Option<EventCursor>) -> Result<Events, StoreError>;

    /// Returns the number of records in the store, or an error if the store cannot be written.
    ///
    /// Cheap enough to be called every second: a store that would have to count keeps the numbers, which may lag behind by
    /// a moment.
    ///
    /// Fails with [`StoreError::Unavailable`] when the store cannot be written.
    async fn health(&self) -> Result<StoreHealth, StoreError>;

    // Methods with a default.

    /// Returns the part of this store that keeps the rates and the log of calls. Default: `None`.
    ///
    /// Without it, each process keeps both in its memory, for the calls that it answers. A restart loses them, processes do not
    /// share them, and no event tells of calls. See [`CallStore`].
    fn calls(&self) -> Option<&dyn CallStore> {
        None
    }

    /// Waits until the cancellation of running runs is requested by another process that shares the store, and
    /// returns at least one notice of it. Default: never returns, which is right for a store that one process opens. Such a
    /// process knows its cancellations.
    ///
    /// So an executor stops promptly, and not only when the lease of its run is [renewed](Self::renew). There may be
    /// notices of runs that this process does not execute, and several of one run.
    ///
    /// # Cancel safety
    /// A dropped call may lose notices. The next renewal reports the cancellation.
    async fn wait_for_cancellations(&self) -> Vec<CancelNotice> {
        std::future::pending().await
    }

    /// Completes the writes in hand, and releases what the store holds: files, locks, connections. Default: does nothing,
    /// which is right for a store that holds nothing of this kind, or that releases it when it is dropped.
    ///
    /// It closes the store for everyone who shares it in this process. Later calls may fail as
    /// [`StoreError::Unavailable`]. Closing a closed store does nothing.
    /// [`Webhooks::close`](crate::Webhooks::close) calls it last.
    ///
    /// # Cancel safety
    /// A dropped call may leave the store open.
    async fn close(&self) {}
}

/// Kind of work that a worker waits for.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Work {
    /// Runs, for [`Store::claim`].
    Runs,
    /// Runs of these workflows, for [`Store::claim`].
    RunsOf(Workflows),
    /// Deliveries through these channels, for [`Store::claim_deliveries`].
    Deliveries(Channels),
}
