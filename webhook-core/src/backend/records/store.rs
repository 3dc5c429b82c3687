//! A store around records of a host's own.

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio::time::{Instant, sleep, sleep_until};

use super::contract::Records;
use super::core::RecordCore;
use crate::backend::event_log::EventLog;
use crate::calls::{CallRecord, LoggedCall};
use crate::events::{EventCursor, Events};
use crate::id::{CallId, DeliveryId, RunId, WebhookId};
use crate::notifier::Delivery;
use crate::run::Run;
use crate::store::{
    Begun, CallQuery, CallStore, Cancelled, Claim, ClaimRequest, DeliveryClaimRequest, DeliveryQuery,
    DeliverySettlement, Enqueue, Enqueued, LogPart, Page, PruneRequest, Pruned, Renewal, Renewed, RunQuery,
    Settled, Settlement, Store, StoreError, StoreHealth, WebhookQuery, Work,
};
use crate::token::TokenDigest;
use crate::webhook::{RateLimit, Webhook};

/// Pause before a waiter looks again at a store that fails.
const PAUSE_AFTER_FAILURE: Duration = Duration::from_secs(1);

/// A store around records of a host's own, which it opens alone. Its clones share them.
///
/// It keeps every promise of a [store](crate::store) if the [`Records`] keep theirs. Rates, call log and events are in memory,
/// and so are all runs that have not ended, webhooks, idempotency keys and the index of pending deliveries.
///
/// When a write fails, the call fails, and the next call loads the records again. Running runs go on meanwhile. Readers of
/// events are told that they missed some, since what failed may have been written.
pub struct RecordStore<R>(Arc<Shared<R>>);

struct Shared<R> {
    core: Mutex<RecordCore<R>>,
    /// Held by the call that has a thread. Calls wait for it without one, so a slow write leaves threads to others.
    turn: Arc<tokio::sync::Mutex<()>>,
    events: Arc<EventLog>,
    /// Signalled after each call after which there may be more work.
    changed: Notify,
}

impl<R> Clone for RecordStore<R> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<R> fmt::Debug for RecordStore<R> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("RecordStore").finish_non_exhaustive()
    }
}

impl<R: Records> RecordStore<R> {
    /// Opens a store: loads the records, and queues runs again that were running.
    ///
    /// Blocks while it reads. Fails with [`StoreError`] when the records cannot be loaded.
    pub fn open(records: R) -> Result<Self, StoreError> {
        let mut core = RecordCore::new(records);
        core.open()?;
        Ok(Self::around(core))
    }

    /// Makes a store of no records.
    pub(crate) fn empty(records: R) -> Self {
        Self::around(RecordCore::new(records))
    }

    fn around(core: RecordCore<R>) -> Self {
        let events = core.events.clone();
        let (core, turn) = (Mutex::new(core), Arc::default());
        Self(Arc::new(Shared { core, turn, events, changed: Notify::new() }))
    }

    /// Executes a call after which there may be more work, and wakes those who wait for it.
    async fn change<T, F>(&self, change: F) -> Result<T, StoreError>
    where
        T: Send + 'static,
        F: FnOnce(&mut RecordCore<R>, Instant) -> Result<T, StoreError> + Send + 'static,
    {
        let shared = self.0.clone();
        let change = move |core: &mut RecordCore<R>, now| {
            let result = change(core, now);
            shared.changed.notify_waiters();
            result
        };
        self.call(change).await
    }

    /// Executes a call on a thread that may block. A call that has begun goes on if this future is dropped.
    async fn call<T, F>(&self, call: F) -> Result<T, StoreError>
    where
        T: Send + 'static,
        F: FnOnce(&mut RecordCore<R>, Instant) -> Result<T, StoreError> + Send + 'static,
    {
        let shared = self.0.clone();
        let call = move || {
            let mut core = shared.core.lock();
            if !core.is_ready() {
                core.make_ready()?;
                // Runs that were claimed ahead are queued again.
                shared.changed.notify_waiters();
            }
            core.execute(|core| call(core, Instant::now()))
        };
        if R::IN_MEMORY {
            return call();
        }
        let panicked = |error| Err(StoreError::unavailable_because("the call panicked", error));
        let turn = self.0.turn.clone().lock_owned().await;
        let call = move || {
            let _turn = turn;
            call()
        };
        tokio::task::spawn_blocking(call).await.unwrap_or_else(panicked)
    }

    /// Looks at what is in memory: at once, unless a call is under way or the records must be loaded again.
    async fn look<T, F>(&self, look: F) -> Result<T, StoreError>
    where
        T: Send + 'static,
        F: FnOnce(&mut RecordCore<R>) -> T + Send + 'static,
    {
        if let Some(mut core) = self.0.core.try_lock()
            && core.is_ready()
        {
            return Ok(look(&mut core));
        }
        self.call(|core, _| Ok(look(core))).await
    }
}

#[async_trait::async_trait]
impl<R: Records> Store for RecordStore<R> {
    async fn create_webhook(&self, webhook: Webhook) -> Result<(), StoreError> {
        self.call(move |core, _| core.create_webhook(webhook)).await
    }

    async fn get_webhook(&self, id: WebhookId) -> Result<Option<Arc<Webhook>>, StoreError> {
        self.look(move |core| core.webhooks.get(id).cloned()).await
    }

    async fn find_webhook(&self, digest: &TokenDigest) -> Result<Option<Arc<Webhook>>, StoreError> {
        let digest = *digest;
        self.look(move |core| core.webhooks.find(&digest).cloned()).await
    }

    async fn update_webhook(&self, webhook: Webhook, expected_revision: u64) -> Result<(), StoreError> {
        self.change(move |core, _| core.update_webhook(webhook, expected_revision)).await
    }

    async fn delete_webhook(
        &self,
        id: WebhookId,
        expected_revision: Option<u64>,
        now: SystemTime,
    ) -> Result<Vec<RunId>, StoreError> {
        self.call(move |core, _| core.delete_webhook(id, expected_revision, now)).await
    }

    async fn list_webhooks(&self, query: WebhookQuery) -> Result<Page<Arc<Webhook>, WebhookId>, StoreError> {
        self.look(move |core| core.webhooks.list(&query)).await
    }

    async fn record_use(&self, uses: &[(WebhookId, SystemTime)]) -> Result<(), StoreError> {
        let uses = uses.to_vec();
        self.call(move |core, _| core.record_use(&uses)).await
    }

    async fn enqueue(&self, request: Enqueue) -> Result<Enqueued, StoreError> {
        self.change(move |core, now| core.enqueue(request, now)).await
    }

    async fn claim(&self, request: ClaimRequest) -> Result<Vec<Claim>, StoreError> {
        self.call(move |core, now| core.claim(&request, now)).await
    }

    async fn begin(&self, begun: Vec<Begun>) -> Result<(), StoreError> {
        self.call(move |core, _| core.begin(&begun)).await
    }

    async fn renew(&self, renewals: Vec<Renewal>, lease: Duration) -> Result<Vec<Renewed>, StoreError> {
        self.call(move |core, now| core.renew(&renewals, lease, now)).await
    }

    async fn settle(&self, settlements: Vec<Settlement>) -> Result<Vec<Settled>, StoreError> {
        self.change(move |core, now| core.settle(&settlements, now)).await
    }

    async fn cancel_run(&self, id: RunId, now: SystemTime) -> Result<Cancelled, StoreError> {
        self.change(move |core, _| core.cancel_run(id, now)).await
    }

    async fn get_run(&self, id: RunId) -> Result<Option<Arc<Run>>, StoreError> {
        self.call(move |core, _| core.get_run(id)).await
    }

    async fn list_runs(&self, query: RunQuery) -> Result<Page<Arc<Run>, RunId>, StoreError> {
        self.call(move |core, _| core.list_runs(query)).await
    }

    async fn prune(&self, request: PruneRequest) -> Result<Pruned, StoreError> {
        self.call(move |core, now| core.prune(request, now)).await
    }

    async fn append_log(&self, run: RunId, fence: u64, text: String) -> Result<(), StoreError> {
        self.call(move |core, _| core.append_log(run, fence, text)).await
    }

    async fn read_log(&self, run: RunId, offset: u64) -> Result<LogPart, StoreError> {
        self.call(move |core, _| core.read_log(run, offset)).await
    }

    async fn claim_deliveries(&self, request: DeliveryClaimRequest) -> Result<Vec<Delivery>, StoreError> {
        self.call(move |core, now| core.claim_deliveries(&request, now)).await
    }

    async fn settle_deliveries(&self, settlements: Vec<DeliverySettlement>) -> Result<(), StoreError> {
        self.change(move |core, now| core.settle_deliveries(&settlements, now)).await
    }

    async fn list_deliveries(&self, runs: &[RunId]) -> Result<Vec<Delivery>, StoreError> {
        let runs = runs.to_vec();
        self.call(move |core, _| core.list_deliveries(&runs)).await
    }

    async fn find_deliveries(&self, query: DeliveryQuery) -> Result<Page<Delivery, DeliveryId>, StoreError> {
        self.call(move |core, _| core.find_deliveries(query)).await
    }

    async fn resend_delivery(&self, id: DeliveryId, now: SystemTime) -> Result<Delivery, StoreError> {
        self.change(move |core, instant| core.resend_delivery(id, now, instant)).await
    }

    async fn wait_for_work(&self, work: Work) {
        loop {
            let changed = self.0.changed.notified();
            tokio::pin!(changed);
            // Registered before the look, so that no change falls between the two.
            changed.as_mut().enable();
            let (work, now) = (work.clone(), Instant::now());
            match self.look(move |core| core.work_at(&work, now)).await {
                Ok(Some(from)) if from <= now => return,
                Ok(Some(from)) => tokio::select! {
                    () = changed => {}
                    () = sleep_until(from) => {}
                },
                Ok(None) => changed.await,
                // The next claim reports the error; until then there is no hurry.
                Err(_) => return sleep(PAUSE_AFTER_FAILURE).await,
            }
        }
    }

    async fn events_since(&self, cursor: Option<EventCursor>) -> Result<Events, StoreError> {
        Ok(self.0.events.since(cursor).await)
    }

    async fn health(&self) -> Result<StoreHealth, StoreError> {
        self.call(|core, _| core.health()).await
    }

    fn calls(&self) -> Option<&dyn CallStore> {
        Some(self)
    }

    async fn close(&self) {
        if R::IN_MEMORY {
            return;
        }
        let (shared, turn) = (self.0.clone(), self.0.turn.clone().lock_owned().await);
        let close = move || {
            let _turn = turn;
            shared.core.lock().close();
        };
        // If dropping the records panics, they are gone all the same.
        let _ = tokio::task::spawn_blocking(close).await;
    }
}

#[async_trait::async_trait]
impl<R: Records> CallStore for RecordStore<R> {
    async fn take_call(&self, webhook: WebhookId, limit: RateLimit) -> Result<Option<Duration>, StoreError> {
        self.look(move |core| core.calls.take(webhook, limit, Instant::now())).await
    }

    async fn append_calls(&self, calls: Vec<LoggedCall>) -> Result<(), StoreError> {
        self.look(move |core| core.calls.append(calls, &core.webhooks, &core.events)).await
    }

    async fn list_calls(&self, query: CallQuery) -> Result<Page<Arc<CallRecord>, CallId>, StoreError> {
        self.look(move |core| core.calls.list(&query)).await
    }

    async fn get_call(
        &self,
        webhook: WebhookId,
        call: CallId,
        now: SystemTime,
    ) -> Result<Option<LoggedCall>, StoreError> {
        self.look(move |core| core.calls.get(webhook, call, now)).await
    }
}
