//! Stores that several processes share, tried through two handles.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, SystemTime};

use super::scene::Must;
use webhook_core::calls::{CallRecord, LoggedCall};
use webhook_core::events::{EventCursor, Events};
use webhook_core::id::{CallId, DeliveryId, RunId, WebhookId};
use webhook_core::notifier::Delivery;
use webhook_core::run::Run;
use webhook_core::store::*;
use webhook_core::token::TokenDigest;
use webhook_core::webhook::{RateLimit, Webhook};

/// Opens handles of one store, each as another process would.
///
/// See [`conformance_tests!`](crate::conformance_tests).
#[async_trait::async_trait]
pub trait StoreHandles: Send + Sync {
    /// Opens another handle. The first one finds the store empty.
    async fn open(&self) -> Arc<dyn Store>;
}

/// A store that one process opens is each of its handles.
#[async_trait::async_trait]
impl<S: Store> StoreHandles for Arc<S> {
    async fn open(&self) -> Arc<dyn Store> {
        self.clone()
    }
}

/// A store that shares its calls among two handles of one store: each call goes to the handle that did not get the one
/// before.
///
/// A caller that waits for work does so at the handle of the last claim, since that is where it found nothing.
/// Cancellations are read at the first handle, so those of the other must reach it. Events are read in turns too, so a
/// cursor of one handle must hold at the other.
pub struct InTurns {
    handles: [Arc<dyn Store>; 2],
    next: AtomicUsize,
    /// Index of the handle of the last claim.
    last: AtomicUsize,
}

impl InTurns {
    /// Opens two handles at once.
    pub async fn open(handles: &impl StoreHandles) -> Self {
        let (one, other) = tokio::join!(handles.open(), handles.open());
        Self { handles: [one, other], next: AtomicUsize::new(0), last: AtomicUsize::new(0) }
    }

    fn turn(&self) -> usize {
        self.next.fetch_add(1, Ordering::SeqCst) % 2
    }

    fn handle(&self) -> &Arc<dyn Store> {
        &self.handles[self.turn()]
    }

    fn call_handle(&self) -> &dyn CallStore {
        self.handle().calls().must("return a CallStore from each handle")
    }

    fn claimer(&self) -> &Arc<dyn Store> {
        let turn = self.turn();
        self.last.store(turn, Ordering::SeqCst);
        &self.handles[turn]
    }
}

#[async_trait::async_trait]
impl Store for InTurns {
    async fn create_webhook(&self, webhook: Webhook) -> Result<(), StoreError> {
        self.handle().create_webhook(webhook).await
    }

    async fn get_webhook(&self, id: WebhookId) -> Result<Option<Arc<Webhook>>, StoreError> {
        self.handle().get_webhook(id).await
    }

    async fn find_webhook(&self, digest: &TokenDigest) -> Result<Option<Arc<Webhook>>, StoreError> {
        self.handle().find_webhook(digest).await
    }

    async fn update_webhook(&self, webhook: Webhook, expected_revision: u64) -> Result<(), StoreError> {
        self.handle().update_webhook(webhook, expected_revision).await
    }

    async fn delete_webhook(
        &self,
        id: WebhookId,
        expected_revision: Option<u64>,
        now: SystemTime,
    ) -> Result<Vec<RunId>, StoreError> {
        self.handle().delete_webhook(id, expected_revision, now).await
    }

    async fn list_webhooks(&self, query: WebhookQuery) -> Result<Page<Arc<Webhook>, WebhookId>, StoreError> {
        self.handle().list_webhooks(query).await
    }

    async fn record_use(&self, uses: &[(WebhookId, SystemTime)]) -> Result<(), StoreError> {
        self.handle().record_use(uses).await
    }

    async fn enqueue(&self, request: Enqueue) -> Result<Enqueued, StoreError> {
        self.handle().enqueue(request).await
    }

    async fn claim(&self, request: ClaimRequest) -> Result<Vec<Claim>, StoreError> {
        self.claimer().claim(request).await
    }

    async fn begin(&self, begun: Vec<Begun>) -> Result<(), StoreError> {
        self.handle().begin(begun).await
    }

    async fn renew(&self, renewals: Vec<Renewal>, lease: Duration) -> Result<Vec<Renewed>, StoreError> {
        self.handle().renew(renewals, lease).await
    }

    async fn settle(&self, settlements: Vec<Settlement>) -> Result<Vec<Settled>, StoreError> {
        self.handle().settle(settlements).await
    }

    async fn cancel_run(&self, id: RunId, now: SystemTime) -> Result<Cancelled, StoreError> {
        self.handle().cancel_run(id, now).await
    }

    async fn get_run(&self, id: RunId) -> Result<Option<Arc<Run>>, StoreError> {
        self.handle().get_run(id).await
    }

    async fn list_runs(&self, query: RunQuery) -> Result<Page<Arc<Run>, RunId>, StoreError> {
        self.handle().list_runs(query).await
    }

    async fn prune(&self, request: PruneRequest) -> Result<Pruned, StoreError> {
        self.handle().prune(request).await
    }

    async fn append_log(&self, run: RunId, fence: u64, text: String) -> Result<(), StoreError> {
        self.handle().append_log(run, fence, text).await
    }

    async fn read_log(&self, run: RunId, offset: u64) -> Result<LogPart, StoreError> {
        self.handle().read_log(run, offset).await
    }

    async fn wait_for_work(&self, work: Work) {
        self.handles[self.last.load(Ordering::SeqCst)].wait_for_work(work).await;
    }

    async fn wait_for_cancellations(&self) -> Vec<CancelNotice> {
        self.handles[0].wait_for_cancellations().await
    }

    async fn events_since(&self, cursor: Option<EventCursor>) -> Result<Events, StoreError> {
        self.handle().events_since(cursor).await
    }

    async fn claim_deliveries(&self, request: DeliveryClaimRequest) -> Result<Vec<Delivery>, StoreError> {
        self.claimer().claim_deliveries(request).await
    }

    async fn settle_deliveries(&self, settlements: Vec<DeliverySettlement>) -> Result<(), StoreError> {
        self.handle().settle_deliveries(settlements).await
    }

    async fn list_deliveries(&self, runs: &[RunId]) -> Result<Vec<Delivery>, StoreError> {
        self.handle().list_deliveries(runs).await
    }

    async fn find_deliveries(&self, query: DeliveryQuery) -> Result<Page<Delivery, DeliveryId>, StoreError> {
        self.handle().find_deliveries(query).await
    }

    async fn resend_delivery(&self, id: DeliveryId, now: SystemTime) -> Result<Delivery, StoreError> {
        self.handle().resend_delivery(id, now).await
    }

    async fn health(&self) -> Result<StoreHealth, StoreError> {
        self.handle().health().await
    }

    fn calls(&self) -> Option<&dyn CallStore> {
        self.handles[0].calls().map(|_| self as &dyn CallStore)
    }

    async fn close(&self) {
        tokio::join!(self.handles[0].close(), self.handles[1].close());
    }
}

#[async_trait::async_trait]
impl CallStore for InTurns {
    async fn take_call(&self, webhook: WebhookId, limit: RateLimit) -> Result<Option<Duration>, StoreError> {
        self.call_handle().take_call(webhook, limit).await
    }

    async fn append_calls(&self, calls: Vec<LoggedCall>) -> Result<(), StoreError> {
        self.call_handle().append_calls(calls).await
    }

    async fn list_calls(&self, query: CallQuery) -> Result<Page<Arc<CallRecord>, CallId>, StoreError> {
        self.call_handle().list_calls(query).await
    }

    async fn get_call(
        &self,
        webhook: WebhookId,
        call: CallId,
        now: SystemTime,
    ) -> Result<Option<LoggedCall>, StoreError> {
        self.call_handle().get_call(webhook, call, now).await
    }
}
