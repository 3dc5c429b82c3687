//! Stores with one defect each, which the suite must detect.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

use parking_lot::Mutex;
use webhook_core::calls::{CallRecord, LoggedCall};
use webhook_core::events::{EventCursor, Events};
use webhook_core::id::{CallId, DeliveryId, RunId, WebhookId};
use webhook_core::memory::MemoryStore;
use webhook_core::notifier::Delivery;
use webhook_core::run::{Run, RunState};
use webhook_core::store::{
    Begun, CallQuery, CallStore, CancelNotice, Cancelled, Channels, Claim, ClaimRequest,
    DeliveryClaimRequest, DeliveryQuery, DeliverySettlement, Enqueue, Enqueued, LogPart, Outcome, Page,
    PruneRequest, Pruned, Renewal, Renewed, RunQuery, Settled, Settlement, Store, StoreError, StoreHealth,
    WebhookQuery, Work, Workflows,
};
use webhook_core::token::TokenDigest;
use webhook_core::webhook::{RateLimit, Webhook};

/// Defect of a [`BrokenStore`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Defect {
    None,
    ForgetsTheFence,
    LogsUnderAnyFence,
    ClaimsTwice,
    ClaimsAnyWorkflow,
    WaitsForAllWorkflows,
    IgnoresKeys,
    ForgetsCalls,
    TrustsTheCaller,
    DropsDeliveries,
    ShiftsPages,
    PrunesLiveRuns,
    PrunesWithoutBound,
    Overwrites,
    Polls,
    WaitsForAllChannels,
    LeasesOtherChannels,
    TakesLateOutcomes,
    HidesGaps,
    LosesOldCalls,
    HasNoCallStore,
    GivesCursorsOfItsOwn,
}

/// Memory store with one defect.
pub(crate) struct BrokenStore {
    store: MemoryStore,
    defect: Defect,
    /// Claims to return a second time.
    again: Mutex<Vec<Claim>>,
    /// Number of items before the page that starts at a cursor.
    places: Mutex<HashMap<RunId, usize>>,
    /// Live runs that were pruned.
    pruned: Mutex<BTreeSet<RunId>>,
    /// Number of reads of events.
    reads: AtomicU64,
}

impl BrokenStore {
    pub(crate) fn new(defect: Defect) -> Self {
        let (again, places, pruned) = (Mutex::default(), Mutex::default(), Mutex::default());
        Self { store: MemoryStore::new(), defect, again, places, pruned, reads: AtomicU64::new(0) }
    }

    fn has(&self, defect: Defect) -> bool {
        self.defect == defect
    }

    /// Returns the current fence of a run, whatever fence was given.
    async fn present_fence(&self, run: RunId, given: u64) -> Result<u64, StoreError> {
        Ok(self.store.get_run(run).await?.map_or(given, |run| run.fence()))
    }

    /// Pages by the number of items before them, which shifts when an item is added.
    async fn list_by_place(&self, query: RunQuery) -> Result<Page<Arc<Run>, RunId>, StoreError> {
        let place = query.before.map_or(0, |before| self.places.lock()[&before]);
        let whole = query.clone().before(None).limit(place + query.limit);
        let mut page = self.store.list_runs(whole).await?;
        let items = page.items.split_off(place.min(page.items.len()));
        if let Some(next) = page.next {
            self.places.lock().insert(next, place + items.len());
        }
        Ok(Page::new(items, page.next))
    }
}

#[async_trait::async_trait]
impl Store for BrokenStore {
    async fn create_webhook(&self, webhook: Webhook) -> Result<(), StoreError> {
        self.store.create_webhook(webhook).await
    }

    async fn get_webhook(&self, id: WebhookId) -> Result<Option<Arc<Webhook>>, StoreError> {
        self.store.get_webhook(id).await
    }

    async fn find_webhook(&self, digest: &TokenDigest) -> Result<Option<Arc<Webhook>>, StoreError> {
        self.store.find_webhook(digest).await
    }

    async fn update_webhook(&self, webhook: Webhook, mut expected_revision: u64) -> Result<(), StoreError> {
        if self.has(Defect::Overwrites)
            && let Some(stored) = self.store.get_webhook(webhook.id).await?
        {
            expected_revision = stored.revision;
        }
        self.store.update_webhook(webhook, expected_revision).await
    }

    async fn delete_webhook(
        &self,
        id: WebhookId,
        expected_revision: Option<u64>,
        now: SystemTime,
    ) -> Result<Vec<RunId>, StoreError> {
        let expected_revision = expected_revision.filter(|_| !self.has(Defect::Overwrites));
        self.store.delete_webhook(id, expected_revision, now).await
    }

    async fn list_webhooks(&self, query: WebhookQuery) -> Result<Page<Arc<Webhook>, WebhookId>, StoreError> {
        self.store.list_webhooks(query).await
    }

    async fn record_use(&self, uses: &[(WebhookId, SystemTime)]) -> Result<(), StoreError> {
        self.store.record_use(uses).await
    }

    async fn enqueue(&self, mut request: Enqueue) -> Result<Enqueued, StoreError> {
        if self.has(Defect::IgnoresKeys) {
            request.idempotency = None;
        }
        if self.has(Defect::TrustsTheCaller) {
            request.token_digest = None;
            request.must_be_enabled = false;
        }
        self.store.enqueue(request).await
    }

    async fn claim(&self, request: ClaimRequest) -> Result<Vec<Claim>, StoreError> {
        if self.has(Defect::ClaimsTwice) {
            let again = std::mem::take(&mut *self.again.lock());
            if !again.is_empty() {
                return Ok(again);
            }
        }
        let request = match self.has(Defect::ClaimsAnyWorkflow) {
            true => request.with_workflows(Workflows::All),
            false => request,
        };
        let claims = self.store.claim(request).await?;
        self.again.lock().extend(claims.iter().cloned());
        Ok(claims)
    }

    async fn begin(&self, begun: Vec<Begun>) -> Result<(), StoreError> {
        self.store.begin(begun).await
    }

    async fn renew(&self, mut renewals: Vec<Renewal>, lease: Duration) -> Result<Vec<Renewed>, StoreError> {
        if self.has(Defect::ForgetsTheFence) {
            for renewal in &mut renewals {
                renewal.fence = self.present_fence(renewal.run, renewal.fence).await?;
            }
        }
        self.store.renew(renewals, lease).await
    }

    async fn settle(&self, mut settlements: Vec<Settlement>) -> Result<Vec<Settled>, StoreError> {
        for settlement in &mut settlements {
            if self.has(Defect::ForgetsTheFence) {
                settlement.fence = self.present_fence(settlement.run, settlement.fence).await?;
            }
            if self.has(Defect::DropsDeliveries)
                && let Outcome::Ended { deliveries, .. } = &mut settlement.outcome
            {
                deliveries.clear();
            }
        }
        self.store.settle(settlements).await
    }

    async fn cancel_run(&self, id: RunId, now: SystemTime) -> Result<Cancelled, StoreError> {
        self.store.cancel_run(id, now).await
    }

    async fn get_run(&self, id: RunId) -> Result<Option<Arc<Run>>, StoreError> {
        let pruned = self.pruned.lock().contains(&id);
        if pruned { Ok(None) } else { self.store.get_run(id).await }
    }

    async fn list_runs(&self, query: RunQuery) -> Result<Page<Arc<Run>, RunId>, StoreError> {
        if self.has(Defect::ShiftsPages) {
            return self.list_by_place(query).await;
        }
        let mut page = self.store.list_runs(query).await?;
        page.items.retain(|run| !self.pruned.lock().contains(&run.id()));
        Ok(page)
    }

    async fn prune(&self, mut request: PruneRequest) -> Result<Pruned, StoreError> {
        if self.has(Defect::PrunesWithoutBound) {
            request.limit += 1;
        }
        let mut pruned = self.store.prune(request).await?;
        if self.has(Defect::PrunesLiveRuns) {
            let live = RunQuery::default().in_state(Some(RunState::Queued)).limit(request.limit);
            let live: Vec<RunId> =
                self.store.list_runs(live).await?.items.iter().map(|run| run.id()).collect();
            let mut gone = self.pruned.lock();
            pruned.runs.extend(live.into_iter().filter(|id| gone.insert(*id)));
        }
        Ok(pruned)
    }

    async fn append_log(&self, run: RunId, mut fence: u64, text: String) -> Result<(), StoreError> {
        if self.has(Defect::LogsUnderAnyFence) {
            fence = self.present_fence(run, fence).await?;
        }
        self.store.append_log(run, fence, text).await
    }

    async fn read_log(&self, run: RunId, offset: u64) -> Result<LogPart, StoreError> {
        self.store.read_log(run, offset).await
    }

    async fn wait_for_work(&self, work: Work) {
        match work {
            _ if self.has(Defect::Polls) => tokio::time::sleep(Duration::from_millis(1)).await,
            Work::Deliveries(_) if self.has(Defect::WaitsForAllChannels) => {
                tokio::time::sleep(Duration::from_millis(1)).await;
                self.store.wait_for_work(Work::Deliveries(Channels::default())).await;
            }
            Work::RunsOf(_) if self.has(Defect::WaitsForAllWorkflows) => {
                tokio::time::sleep(Duration::from_millis(1)).await;
                self.store.wait_for_work(Work::Runs).await;
            }
            work => self.store.wait_for_work(work).await,
        }
    }

    async fn wait_for_cancellations(&self) -> Vec<CancelNotice> {
        self.store.wait_for_cancellations().await
    }

    async fn events_since(&self, cursor: Option<EventCursor>) -> Result<Events, StoreError> {
        if self.has(Defect::GivesCursorsOfItsOwn) {
            // Two handles read in turn, each with an identity of its own.
            let handle = self.reads.fetch_add(1, Ordering::SeqCst) % 2;
            let own = |cursor: EventCursor| EventCursor::new(cursor.life() ^ handle, cursor.sequence());
            let mut events = self.store.events_since(cursor.map(own)).await?;
            events.cursor = own(events.cursor);
            events.items.iter_mut().for_each(|event| event.cursor = own(event.cursor));
            return Ok(events);
        }
        let mut events = self.store.events_since(cursor).await?;
        if self.has(Defect::HidesGaps) && events.reset {
            events = self.store.events_since(Some(events.cursor)).await?;
        }
        Ok(events)
    }

    async fn claim_deliveries(&self, request: DeliveryClaimRequest) -> Result<Vec<Delivery>, StoreError> {
        if !self.has(Defect::LeasesOtherChannels) {
            return self.store.claim_deliveries(request).await;
        }
        let channels = request.channels.clone();
        let mut claimed = self.store.claim_deliveries(request.through(Channels::default())).await?;
        claimed.retain(|delivery| channels.include(delivery.channel));
        Ok(claimed)
    }

    async fn settle_deliveries(&self, mut settlements: Vec<DeliverySettlement>) -> Result<(), StoreError> {
        if self.has(Defect::TakesLateOutcomes) {
            let all = self.store.find_deliveries(DeliveryQuery::default().limit(usize::MAX)).await?.items;
            for settlement in &mut settlements {
                if let Some(stored) = all.iter().find(|stored| stored.id == settlement.id) {
                    *settlement = DeliverySettlement::new(stored, settlement.outcome.clone());
                }
            }
        }
        self.store.settle_deliveries(settlements).await
    }

    async fn list_deliveries(&self, runs: &[RunId]) -> Result<Vec<Delivery>, StoreError> {
        self.store.list_deliveries(runs).await
    }

    async fn find_deliveries(&self, query: DeliveryQuery) -> Result<Page<Delivery, DeliveryId>, StoreError> {
        self.store.find_deliveries(query).await
    }

    async fn resend_delivery(&self, id: DeliveryId, now: SystemTime) -> Result<Delivery, StoreError> {
        self.store.resend_delivery(id, now).await
    }

    async fn health(&self) -> Result<StoreHealth, StoreError> {
        self.store.health().await
    }

    fn calls(&self) -> Option<&dyn CallStore> {
        (!self.has(Defect::HasNoCallStore)).then_some(self)
    }
}

#[async_trait::async_trait]
impl CallStore for BrokenStore {
    async fn take_call(&self, webhook: WebhookId, limit: RateLimit) -> Result<Option<Duration>, StoreError> {
        let limit = match self.has(Defect::ForgetsCalls) {
            true => RateLimit::new(limit.per_minute, u32::MAX),
            false => limit,
        };
        self.store.take_call(webhook, limit).await
    }

    async fn append_calls(&self, calls: Vec<LoggedCall>) -> Result<(), StoreError> {
        let mut calls = calls;
        if self.has(Defect::LosesOldCalls) {
            calls.drain(..calls.len().saturating_sub(1));
        }
        self.store.append_calls(calls).await
    }

    async fn list_calls(&self, query: CallQuery) -> Result<Page<Arc<CallRecord>, CallId>, StoreError> {
        self.store.list_calls(query).await
    }

    async fn get_call(
        &self,
        webhook: WebhookId,
        call: CallId,
        now: SystemTime,
    ) -> Result<Option<LoggedCall>, StoreError> {
        self.store.get_call(webhook, call, now).await
    }
}
