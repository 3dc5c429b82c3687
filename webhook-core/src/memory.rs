//! The store in memory, for tests and for trying things out.
//!
//! [`MemoryStore`] keeps every promise of the [store](crate::store) except that its records survive the process.
//! It is small because the parts of [`backend`](crate::backend) decide and index.

mod deliveries;
mod history;
mod state;

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use parking_lot::{Mutex, MutexGuard};
use tokio::sync::Notify;
use tokio::time::Instant;

use crate::backend::{LiveCancel, wait_for_work};
use crate::calls::{CallRecord, LoggedCall};
use crate::error::Resource;
use crate::events::{EventCursor, Events};
use crate::id::{CallId, DeliveryId, RunId, WebhookId};
use crate::notifier::Delivery;
use crate::run::{CancelReason, Run};
use crate::store::{
    Begun, CallQuery, CallStore, Cancelled, Claim, ClaimRequest, DeliveryClaimRequest, DeliveryQuery,
    DeliverySettlement, Enqueue, Enqueued, LogPart, Page, PruneRequest, Pruned, Renewal, Renewed, RunQuery,
    Settled, Settlement, Store, StoreError, StoreHealth, WebhookQuery, Work, Workflows,
};
use crate::token::TokenDigest;
use crate::webhook::{RateLimit, Webhook};

use state::State;

/// A store that keeps everything in memory, for tests and for trying things out. Its clones share what they hold.
///
/// It is safe for any number of threads, holds as much as memory does until it is [pruned](Store::prune), and
/// loses all of it when its last clone is dropped. Leases and pauses follow tokio's time, so a paused runtime
/// lets a test skip them.
///
/// ```
/// use std::time::{Duration, SystemTime};
/// use webhook_core::id::{RunId, WebhookId};
/// use webhook_core::memory::MemoryStore;
/// use webhook_core::run::{Caller, Run, RunParameters};
/// use webhook_core::store::{ClaimRequest, Enqueue, Store};
/// use webhook_core::token::Token;
/// use webhook_core::webhook::{Webhook, WebhookSettings};
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let (store, now) = (MemoryStore::new(), SystemTime::now());
/// let (webhook, workflow) = (WebhookId::generate(now), "report/sales".parse()?);
/// let settings = WebhookSettings::default();
/// store.create_webhook(Webhook::new(webhook, workflow, settings, &Token::generate(), None, now)).await?;
/// let parameters = RunParameters::default();
/// let run = Run::new(
///     RunId::generate(now), "report/sales".parse()?, webhook, parameters, 1, Caller::default(), now,
/// );
/// store.enqueue(Enqueue::new(run)).await?;
/// let claims = store.claim(ClaimRequest::new(10, Duration::from_secs(30), now)).await?;
/// assert_eq!(claims[0].run.attempt(), 1);
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Default)]
pub struct MemoryStore(Arc<Shared>);

#[derive(Default)]
struct Shared {
    state: Mutex<State>,
    /// More runs may be claimed.
    runs_changed: Notify,
    /// More deliveries may be claimed.
    deliveries_changed: Notify,
}

impl MemoryStore {
    /// Creates an empty store.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.state.lock()
    }

    async fn wait_for_runs(&self, workflows: &Workflows) {
        wait_for_work(&self.0.runs_changed, |now| self.state().live.work_at(workflows, now)).await;
    }

    fn wake_workers(&self) {
        self.0.runs_changed.notify_waiters();
    }

    fn wake_deliveries(&self) {
        self.0.deliveries_changed.notify_waiters();
    }
}

impl fmt::Debug for MemoryStore {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let health = self.state().health();
        formatter.debug_tuple("MemoryStore").field(&health).finish()
    }
}

#[async_trait::async_trait]
impl Store for MemoryStore {
    async fn create_webhook(&self, webhook: Webhook) -> Result<(), StoreError> {
        let webhooks = &mut self.state().webhooks;
        webhooks.check_new(&webhook)?;
        webhooks.put(webhook);
        Ok(())
    }

    async fn get_webhook(&self, id: WebhookId) -> Result<Option<Arc<Webhook>>, StoreError> {
        Ok(self.state().webhooks.get(id).cloned())
    }

    async fn find_webhook(&self, digest: &TokenDigest) -> Result<Option<Arc<Webhook>>, StoreError> {
        Ok(self.state().webhooks.find(digest).cloned())
    }

    async fn update_webhook(&self, webhook: Webhook, expected_revision: u64) -> Result<(), StoreError> {
        let mut state = self.state();
        let webhook = state.webhooks.updated(webhook, expected_revision)?;
        state.live.set_bound(webhook.id, webhook.settings.concurrency.bound());
        state.webhooks.put(webhook);
        drop(state);
        // A wider bound lets waiting runs begin.
        self.wake_workers();
        Ok(())
    }

    async fn delete_webhook(
        &self,
        id: WebhookId,
        expected_revision: Option<u64>,
        now: SystemTime,
    ) -> Result<Vec<RunId>, StoreError> {
        let mut state = self.state();
        state.webhooks.check_removal(id, expected_revision)?;
        state.webhooks.remove(id);
        state.calls.forget(id);
        let queued = state.live.close_webhook(id);
        for run in &queued {
            if let Some(LiveCancel::Ended(run)) = state.live.cancel(*run, CancelReason::WebhookDeleted, now) {
                state.bury(run, Arc::default());
            }
        }
        Ok(queued)
    }

    async fn list_webhooks(&self, query: WebhookQuery) -> Result<Page<Arc<Webhook>, WebhookId>, StoreError> {
        Ok(self.state().webhooks.list(&query))
    }

    async fn record_use(&self, uses: &[(WebhookId, SystemTime)]) -> Result<(), StoreError> {
        let webhooks = &mut self.state().webhooks;
        for (id, at) in uses {
            webhooks.record_use(*id, *at);
        }
        Ok(())
    }

    async fn enqueue(&self, request: Enqueue) -> Result<Enqueued, StoreError> {
        let enqueued = self.state().enqueue(request, Instant::now())?;
        self.wake_workers();
        Ok(enqueued)
    }

    async fn claim(&self, request: ClaimRequest) -> Result<Vec<Claim>, StoreError> {
        Ok(self.state().claim(&request, Instant::now()))
    }

    async fn begin(&self, begun: Vec<Begun>) -> Result<(), StoreError> {
        let state = &mut *self.state();
        for run in begun.iter().filter_map(|begun| state.live.begin(begun)) {
            state.events.publish_state(&run, &Arc::default());
        }
        Ok(())
    }

    async fn renew(&self, renewals: Vec<Renewal>, lease: Duration) -> Result<Vec<Renewed>, StoreError> {
        Ok(self.state().renew(&renewals, lease, Instant::now()))
    }

    async fn settle(&self, settlements: Vec<Settlement>) -> Result<Vec<Settled>, StoreError> {
        let delivers = settlements.iter().any(|settlement| !settlement.deliveries().is_empty());
        let settled = self.state().settle(settlements, Instant::now());
        self.wake_workers();
        if delivers {
            self.wake_deliveries();
        }
        Ok(settled)
    }

    async fn cancel_run(&self, id: RunId, now: SystemTime) -> Result<Cancelled, StoreError> {
        let cancelled = self.state().cancel_run(id, now);
        // Another run of its webhook may take its place in the queue.
        self.wake_workers();
        cancelled
    }

    async fn get_run(&self, id: RunId) -> Result<Option<Arc<Run>>, StoreError> {
        Ok(self.state().run(id))
    }

    async fn list_runs(&self, query: RunQuery) -> Result<Page<Arc<Run>, RunId>, StoreError> {
        Ok(self.state().list_runs(&query))
    }

    async fn prune(&self, request: PruneRequest) -> Result<Pruned, StoreError> {
        Ok(self.state().prune(&request, Instant::now()))
    }

    async fn append_log(&self, run: RunId, fence: u64, text: String) -> Result<(), StoreError> {
        self.state().append_log(run, fence, &text);
        Ok(())
    }

    async fn read_log(&self, run: RunId, offset: u64) -> Result<LogPart, StoreError> {
        let state = self.state();
        let log = state.logs.get(&run);
        Ok(log.map_or_else(|| LogPart::new(offset, String::new()), |log| log.read(offset)))
    }

    async fn wait_for_work(&self, work: Work) {
        match work {
            Work::Runs => self.wait_for_runs(&Workflows::All).await,
            Work::RunsOf(workflows) => self.wait_for_runs(&workflows).await,
            Work::Deliveries(channels) => {
                let due = |_| self.state().deliveries.next_deadline(&channels);
                wait_for_work(&self.0.deliveries_changed, due).await;
            }
        }
    }

    async fn events_since(&self, cursor: Option<EventCursor>) -> Result<Events, StoreError> {
        let events = self.state().events.clone();
        Ok(events.since(cursor).await)
    }

    async fn claim_deliveries(&self, request: DeliveryClaimRequest) -> Result<Vec<Delivery>, StoreError> {
        Ok(self.state().deliveries.claim(&request, Instant::now()))
    }

    async fn settle_deliveries(&self, settlements: Vec<DeliverySettlement>) -> Result<(), StoreError> {
        self.state().deliveries.settle(&settlements, Instant::now());
        self.wake_deliveries();
        Ok(())
    }

    async fn list_deliveries(&self, runs: &[RunId]) -> Result<Vec<Delivery>, StoreError> {
        let state = self.state();
        Ok(runs.iter().flat_map(|run| state.deliveries.of_run(*run)).cloned().collect())
    }

    async fn find_deliveries(&self, query: DeliveryQuery) -> Result<Page<Delivery, DeliveryId>, StoreError> {
        Ok(self.state().deliveries.find(&query))
    }

    async fn resend_delivery(&self, id: DeliveryId, now: SystemTime) -> Result<Delivery, StoreError> {
        let resent = self.state().deliveries.resend(id, now, Instant::now());
        self.wake_deliveries();
        resent.ok_or(StoreError::NotFound(Resource::Delivery))
    }

    async fn health(&self) -> Result<StoreHealth, StoreError> {
        Ok(self.state().health())
    }

    fn calls(&self) -> Option<&dyn CallStore> {
        Some(self)
    }
}

#[async_trait::async_trait]
impl CallStore for MemoryStore {
    async fn take_call(&self, webhook: WebhookId, limit: RateLimit) -> Result<Option<Duration>, StoreError> {
        Ok(self.state().calls.take(webhook, limit, Instant::now()))
    }

    async fn append_calls(&self, calls: Vec<LoggedCall>) -> Result<(), StoreError> {
        self.state().append_calls(calls);
        Ok(())
    }

    async fn list_calls(&self, query: CallQuery) -> Result<Page<Arc<CallRecord>, CallId>, StoreError> {
        Ok(self.state().calls.list(&query))
    }

    async fn get_call(
        &self,
        webhook: WebhookId,
        call: CallId,
        now: SystemTime,
    ) -> Result<Option<LoggedCall>, StoreError> {
        Ok(self.state().calls.get(webhook, call, now))
    }
}

#[cfg(test)]
mod tests;
