//! `Store` for `Arc<S>`, forwarded to `S`. So a shared store is a store, also when `S` is `dyn Store`.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use super::{
    Begun, CallStore, CancelNotice, Cancelled, Claim, ClaimRequest, DeliveryClaimRequest, DeliveryQuery,
    DeliverySettlement, Enqueue, Enqueued, LogPart, Page, PruneRequest, Pruned, Renewal, Renewed, RunQuery,
    Settled, Settlement, Store, StoreError, StoreHealth, WebhookQuery, Work,
};
use crate::events::{EventCursor, Events};
use crate::id::{DeliveryId, RunId, WebhookId};
use crate::notifier::Delivery;
use crate::run::Run;
use crate::token::TokenDigest;
use crate::webhook::Webhook;

#[async_trait::async_trait]
impl<S: Store + ?Sized> Store for Arc<S> {
    async fn create_webhook(&self, webhook: Webhook) -> Result<(), StoreError> {
        (**self).create_webhook(webhook).await
    }

    async fn get_webhook(&self, id: WebhookId) -> Result<Option<Arc<Webhook>>, StoreError> {
        (**self).get_webhook(id).await
    }

    async fn find_webhook(&self, digest: &TokenDigest) -> Result<Option<Arc<Webhook>>, StoreError> {
        (**self).find_webhook(digest).await
    }

    async fn update_webhook(&self, webhook: Webhook, expected_revision: u64) -> Result<(), StoreError> {
        (**self).update_webhook(webhook, expected_revision).await
    }

    async fn delete_webhook(
        &self,
        id: WebhookId,
        expected_revision: Option<u64>,
        now: SystemTime,
    ) -> Result<Vec<RunId>, StoreError> {
        (**self).delete_webhook(id, expected_revision, now).await
    }

    async fn list_webhooks(&self, query: WebhookQuery) -> Result<Page<Arc<Webhook>, WebhookId>, StoreError> {
        (**self).list_webhooks(query).await
    }

    async fn record_use(&self, uses: &[(WebhookId, SystemTime)]) -> Result<(), StoreError> {
        (**self).record_use(uses).await
    }

    async fn enqueue(&self, request: Enqueue) -> Result<Enqueued, StoreError> {
        (**self).enqueue(request).await
    }

    async fn claim(&self, request: ClaimRequest) -> Result<Vec<Claim>, StoreError> {
        (**self).claim(request).await
    }

    async fn begin(&self, begun: Vec<Begun>) -> Result<(), StoreError> {
        (**self).begin(begun).await
    }

    async fn renew(&self, renewals: Vec<Renewal>, lease: Duration) -> Result<Vec<Renewed>, StoreError> {
        (**self).renew(renewals, lease).await
    }

    async fn settle(&self, settlements: Vec<Settlement>) -> Result<Vec<Settled>, StoreError> {
        (**self).settle(settlements).await
    }

    async fn cancel_run(&self, id: RunId, now: SystemTime) -> Result<Cancelled, StoreError> {
        (**self).cancel_run(id, now).await
    }

    async fn get_run(&self, id: RunId) -> Result<Option<Arc<Run>>, StoreError> {
        (**self).get_run(id).await
    }

    async fn list_runs(&self, query: RunQuery) -> Result<Page<Arc<Run>, RunId>, StoreError> {
        (**self).list_runs(query).await
    }

    async fn prune(&self, request: PruneRequest) -> Result<Pruned, StoreError> {
        (**self).prune(request).await
    }

    async fn append_log(&self, run: RunId, fence: u64, text: String) -> Result<(), StoreError> {
        (**self).append_log(run, fence, text).await
    }

    async fn read_log(&self, run: RunId, offset: u64) -> Result<LogPart, StoreError> {
        (**self).read_log(run, offset).await
    }

    async fn wait_for_work(&self, work: Work) {
        (**self).wait_for_work(work).await;
    }

    fn calls(&self) -> Option<&dyn CallStore> {
        (**self).calls()
    }

    async fn wait_for_cancellations(&self) -> Vec<CancelNotice> {
        (**self).wait_for_cancellations().await
    }

    async fn events_since(&self, cursor: Option<EventCursor>) -> Result<Events, StoreError> {
        (**self).events_since(cursor).await
    }

    async fn claim_deliveries(&self, request: DeliveryClaimRequest) -> Result<Vec<Delivery>, StoreError> {
        (**self).claim_deliveries(request).await
    }

    async fn settle_deliveries(&self, settlements: Vec<DeliverySettlement>) -> Result<(), StoreError> {
        (**self).settle_deliveries(settlements).await
    }

    async fn list_deliveries(&self, runs: &[RunId]) -> Result<Vec<Delivery>, StoreError> {
        (**self).list_deliveries(runs).await
    }

    async fn find_deliveries(&self, query: DeliveryQuery) -> Result<Page<Delivery, DeliveryId>, StoreError> {
        (**self).find_deliveries(query).await
    }

    async fn resend_delivery(&self, id: DeliveryId, now: SystemTime) -> Result<Delivery, StoreError> {
        (**self).resend_delivery(id, now).await
    }

    async fn health(&self) -> Result<StoreHealth, StoreError> {
        (**self).health().await
    }

    async fn close(&self) {
        (**self).close().await;
    }
}
