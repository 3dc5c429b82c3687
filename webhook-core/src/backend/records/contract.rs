//! The host's side of a [`RecordStore`](super::RecordStore): reads and writes of its records.

use std::sync::Arc;
use std::time::SystemTime;

use serde::{Deserialize, Serialize};

use crate::backend::run_log::RunLog;
use crate::clock::milliseconds;
use crate::error::BoxError;
use crate::id::{DeliveryId, RunId, WebhookId};
use crate::notifier::Delivery;
use crate::run::Run;
use crate::store::{DeliveryQuery, PruneRequest, RunQuery};
use crate::webhook::Webhook;

/// Records in a file or a database of a host's own, which one process opens.
///
/// [`RecordStore`](super::RecordStore) makes a [`Store`](crate::store::Store) of them. It keeps live runs, webhooks, keys and
/// pending deliveries in memory and decides everything; an implementation reads and writes, and decides nothing.
///
/// | purpose | method |
/// |---|---|
/// | opening | `load(&mut self) -> Result<LiveRecords, BoxError>` |
/// | all writes | `write(&mut self, changes: &[RecordChange]) -> Result<(), BoxError>` |
/// | runs | `get_run(&mut self, id: RunId) -> Result<Option<Arc<Run>>, BoxError>` |
/// | | `list_runs(&mut self, query: &RunQuery) -> Result<Vec<Arc<Run>>, BoxError>` |
/// | | `expired_runs(&mut self, request: &PruneRequest, stays: &dyn Fn(RunId) -> bool) -> Result<Vec<RunId>, BoxError>` |
/// | logs | `get_log(&mut self, run: RunId) -> Result<Option<RunLog>, BoxError>` |
/// | deliveries | `get_delivery(&mut self, id: DeliveryId) -> Result<Option<Delivery>, BoxError>` |
/// | | `deliveries_of(&mut self, run: RunId) -> Result<Vec<Delivery>, BoxError>` |
/// | | `find_deliveries(&mut self, query: &DeliveryQuery) -> Result<Vec<Delivery>, BoxError>` |
///
/// # Contract
///
/// - **One call at a time**, on a thread that may block. A read sees every write that has returned.
/// - **Order:** "newest" and "oldest" are by id. The text of an id sorts as the id does: by the time of its creation.
/// - **Errors:** any error will do. One that is a [`StoreError`](crate::store::StoreError) is passed on; every other becomes
///   [`StoreError::Unavailable`](crate::store::StoreError::Unavailable) with it as the source. After an error the next call may
///   come at once.
/// - **Closing:** the value is dropped when the store is closed, or with its last clone. Release in `drop` what it holds, if its
///   fields do not do so themselves.
pub trait Records: Send + 'static {
    /// True if the records are in memory only. Default: false. Then calls do not block, so they run on the caller's thread, and
    /// closing the store keeps the records.
    const IN_MEMORY: bool = false;

    /// Reads what the store keeps in memory: all webhooks, the runs that have not ended, all keys, and the pending deliveries.
    ///
    /// Called when the store is opened, and again after a write has failed.
    fn load(&mut self) -> Result<LiveRecords, BoxError>;

    /// Writes changes in their order, in one transaction that is durable when this returns.
    ///
    /// One record may occur several times; the last change holds. No changes is a question whether the store can be written.
    /// After an error, either all of the changes or none of them are there. The store then [loads](Self::load) again before it
    /// does anything else.
    fn write(&mut self, changes: &[RecordChange]) -> Result<(), BoxError>;

    /// Returns a run, live or ended, or `None` if there is none.
    fn get_run(&mut self, id: RunId) -> Result<Option<Arc<Run>>, BoxError>;

    /// Lists the newest runs that [match](RunQuery::matches) a query and are older than `before`, if that is given.
    ///
    /// Newest first, at most `limit`, and fewer only if there are no more.
    /// Reads no more than it must: a workflow, a webhook and a state have an index each.
    fn list_runs(&mut self, query: &RunQuery) -> Result<Vec<Arc<Run>>, BoxError>;

    /// Lists ended runs to remove, in any order: at most `limit` of the request, and fewer only if there are no more.
    ///
    /// A run is to be removed if one of these holds, and `stays` does not:
    ///
    /// - It ended ([`Run::finished_at`]) at `now` of the request less its retention, or earlier. Its retention is
    ///   [`PruneRequest::retention`] of its webhook: `settings.retention_days` days if the webhook sets them, and else, or if
    ///   the webhook is deleted, `keep_for`.
    /// - `keep_per_webhook` is given, and as many runs of its webhook or more have ended later. Runs that stay count. Of runs
    ///   that ended at the same time, the newer counts as later.
    fn expired_runs(
        &mut self,
        request: &PruneRequest,
        stays: &dyn Fn(RunId) -> bool,
    ) -> Result<Vec<RunId>, BoxError>;

    /// Returns the log of a run, or `None` if it has none.
    fn get_log(&mut self, run: RunId) -> Result<Option<RunLog>, BoxError>;

    /// Returns a delivery, pending or not, or `None` if there is none.
    fn get_delivery(&mut self, id: DeliveryId) -> Result<Option<Delivery>, BoxError>;

    /// Returns all deliveries of a run, oldest first. None are an empty list.
    fn deliveries_of(&mut self, run: RunId) -> Result<Vec<Delivery>, BoxError>;

    /// Lists the newest deliveries that [match](DeliveryQuery::matches) a query and are older than `before`, if that is given.
    ///
    /// Newest first, at most `limit`, and fewer only if there are no more.
    fn find_deliveries(&mut self, query: &DeliveryQuery) -> Result<Vec<Delivery>, BoxError>;
}

/// A change of one record.
///
/// Later versions may bring other changes. An implementation returns an error for one that it does not know, so that nothing is
/// lost silently.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum RecordChange {
    /// Adds a webhook, or replaces the one with its id.
    PutWebhook(Arc<Webhook>),
    /// Removes a webhook. Its runs stay.
    RemoveWebhook(WebhookId),
    /// Adds a run, or replaces the one with its id.
    PutRun(Arc<Run>),
    /// Removes an ended run with its log and all its deliveries.
    RemoveRun(RunId),
    /// Appends whole lines to a run's log, as [`RunLog::append`] does.
    AppendLog {
        /// Id of the run.
        run: RunId,
        /// The lines, each with its line feed.
        text: String,
    },
    /// Adds an idempotency key, or replaces the one with its webhook and text.
    PutKey(KeyRecord),
    /// Removes an idempotency key.
    RemoveKey {
        /// Webhook of the key.
        webhook_id: WebhookId,
        /// Text of the key.
        key: String,
    },
    /// Adds a delivery, or replaces the one with its id.
    PutDelivery(Delivery),
}

/// An idempotency key, unique with its webhook, and the run that it stands for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct KeyRecord {
    /// Webhook of the key.
    pub webhook_id: WebhookId,
    /// Text of the key.
    pub key: String,
    /// Fingerprint of the request that brought the key.
    pub fingerprint: [u8; 32],
    /// The run that the key stands for.
    pub run: RunId,
    /// Time of day at which the key is free again.
    #[serde(with = "milliseconds")]
    pub expires_at: SystemTime,
}

impl KeyRecord {
    /// Makes the record of a key.
    #[must_use]
    pub fn new(
        webhook_id: WebhookId,
        key: impl Into<String>,
        fingerprint: [u8; 32],
        run: RunId,
        expires_at: SystemTime,
    ) -> Self {
        Self { webhook_id, key: key.into(), fingerprint, run, expires_at }
    }
}

/// The records that a store keeps in memory. Each list is in any order.
#[derive(Debug, Clone, Default)]
#[non_exhaustive]
pub struct LiveRecords {
    /// All webhooks, enabled or not.
    pub webhooks: Vec<Webhook>,
    /// The runs that are queued or running.
    pub runs: Vec<Run>,
    /// All idempotency keys.
    pub keys: Vec<KeyRecord>,
    /// The deliveries that are pending.
    pub deliveries: Vec<Delivery>,
}
