//! Runs the conformance suite on the memory store, on the same behind `Arc<dyn Store>`, and on broken stores
//! that it must detect.

use std::collections::{BTreeSet, HashMap};
use std::future::Future;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use parking_lot::Mutex;
use webhook_core::calls::{CallRecord, LoggedCall};
use webhook_core::events::{EventCursor, Events};
use webhook_core::id::{CallId, DeliveryId, RunId, WebhookId};
use webhook_core::memory::MemoryStore;
use webhook_core::notifier::Delivery;
use webhook_core::run::{Run, RunState};
use webhook_core::store::{
    Begun, CallQuery, CancelNotice, Cancelled, Channels, Claim, ClaimRequest, DeliveryClaimRequest,
    DeliveryQuery, DeliverySettlement, Enqueue, Enqueued, LogPart, Outcome, Page, PruneRequest, Pruned,
    Renewal, Renewed, RunQuery, Settled, Settlement, Store, StoreError, StoreHealth, WebhookQuery, Work,
    Workflows,
};
use webhook_core::token::TokenDigest;
use webhook_core::webhook::{RateLimit, Webhook};
use webhook_testing::conformance;

mod memory_store {
    use super::*;

    webhook_testing::conformance_tests!(Arc::new(MemoryStore::new()));
}

mod memory_store_behind_a_trait_object {
    use super::*;

    fn shared() -> Arc<dyn Store> {
        Arc::new(MemoryStore::new())
    }

    webhook_testing::conformance_tests!((Arc::new(shared()), "kept as long"));
}

#[test]
fn every_promise_has_a_name_of_its_own() {
    let names: BTreeSet<&str> = conformance::PROMISES.iter().copied().collect();
    assert_eq!(names.len(), conformance::PROMISES.len());
    assert!(names.contains("agrees_with_a_simple_model"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_without_a_defect_passes_through_the_wrapper() {
    keeps(Defect::None, conformance::a_stale_fence_changes_nothing).await;
    keeps(Defect::None, conformance::listing_is_stable_while_runs_change).await;
    keeps(Defect::None, conformance::agrees_with_a_simple_model).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_that_forgets_the_fence_is_found_out() {
    breaks(Defect::ForgetsTheFence, conformance::a_stale_fence_changes_nothing).await;
    breaks(Defect::ForgetsTheFence, conformance::only_the_exact_fence_holds).await;
    breaks(Defect::ForgetsTheFence, conformance::agrees_with_a_simple_model).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_that_logs_under_any_fence_is_found_out() {
    breaks(Defect::LogsUnderAnyFence, conformance::a_log_is_read_from_any_offset).await;
    breaks(Defect::LogsUnderAnyFence, conformance::a_stale_fence_changes_nothing).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_that_gives_a_run_out_twice_is_found_out() {
    breaks(Defect::ClaimsTwice, conformance::each_run_goes_to_one_claimer).await;
    breaks(Defect::ClaimsTwice, conformance::runs_are_claimed_oldest_first).await;
    breaks(Defect::ClaimsTwice, conformance::no_more_runs_than_the_bound_are_claimed).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_that_takes_runs_of_other_workflows_is_found_out() {
    breaks(Defect::ClaimsAnyWorkflow, conformance::only_runs_of_the_workflows_asked_for_are_claimed).await;
    breaks(Defect::WaitsForAllWorkflows, conformance::runs_of_other_workflows_wake_nobody_for_long).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_that_forgets_calls_is_found_out() {
    breaks(Defect::ForgetsCalls, conformance::a_rate_is_one_for_all_calls_of_a_webhook).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_that_ignores_keys_is_found_out() {
    breaks(Defect::IgnoresKeys, conformance::enqueue_is_idempotent_under_one_key).await;
    breaks(Defect::IgnoresKeys, conformance::a_key_with_another_request_is_a_mismatch).await;
    breaks(Defect::IgnoresKeys, conformance::a_key_may_stand_for_any_request).await;
    breaks(Defect::IgnoresKeys, conformance::a_dropped_enqueue_can_be_repeated).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_that_trusts_what_its_caller_read_is_found_out() {
    breaks(Defect::TrustsTheCaller, conformance::a_replaced_token_starts_nothing).await;
    breaks(Defect::TrustsTheCaller, conformance::a_disabled_webhook_starts_nothing_but_manual_runs).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_that_drops_deliveries_is_found_out() {
    breaks(Defect::DropsDeliveries, conformance::an_outcome_comes_with_its_deliveries).await;
    breaks(Defect::DropsDeliveries, conformance::each_delivery_goes_to_one_claimer).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_whose_pages_shift_is_found_out() {
    breaks(Defect::ShiftsPages, conformance::listing_is_stable_while_runs_change).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_that_prunes_live_runs_is_found_out() {
    breaks(Defect::PrunesLiveRuns, conformance::a_live_run_is_never_pruned).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_that_prunes_one_too_many_is_found_out() {
    breaks(Defect::PrunesWithoutBound, conformance::a_prune_is_bounded).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_that_overwrites_is_found_out() {
    breaks(Defect::Overwrites, conformance::an_update_demands_the_expected_revision).await;
    breaks(Defect::Overwrites, conformance::of_updates_at_once_one_wins).await;
    breaks(Defect::Overwrites, conformance::a_deletion_demands_the_expected_revision).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_that_polls_is_found_out() {
    breaks(Defect::Polls, conformance::waiting_is_no_busy_loop).await;
    breaks(Defect::Polls, conformance::work_of_the_other_sort_wakes_nobody_for_long).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_that_heeds_no_channels_is_found_out() {
    breaks(Defect::LeasesOtherChannels, conformance::only_deliveries_that_are_asked_for_are_claimed).await;
    breaks(Defect::WaitsForAllChannels, conformance::deliveries_of_other_channels_wake_nobody_for_long).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_that_takes_late_outcomes_is_found_out() {
    breaks(Defect::TakesLateOutcomes, conformance::an_outcome_that_comes_too_late_changes_nothing).await;
    breaks(Defect::TakesLateOutcomes, conformance::an_outcome_from_before_a_resend_changes_nothing).await;
}

/// Time is paused, so waiting for an event that never comes takes no time.
#[tokio::test(start_paused = true)]
async fn a_store_that_tells_no_gap_is_found_out() {
    breaks(Defect::HidesGaps, conformance::who_falls_behind_misses_nothing_unknowingly).await;
    breaks(Defect::HidesGaps, conformance::a_foreign_cursor_is_a_gap).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_that_loses_old_calls_is_found_out() {
    breaks(Defect::LosesOldCalls, conformance::calls_are_listed_newest_first_in_pages).await;
    breaks(Defect::LosesOldCalls, conformance::the_newest_calls_of_each_webhook_are_kept).await;
}

async fn keeps<F: Future<Output = ()> + Send + 'static>(defect: Defect, promise: fn(Arc<dyn Store>) -> F) {
    if let Err(message) = outcome(defect, promise).await {
        panic!("a store with {defect:?} must keep this promise, but: {message}");
    }
}

async fn breaks<F: Future<Output = ()> + Send + 'static>(defect: Defect, promise: fn(Arc<dyn Store>) -> F) {
    match outcome(defect, promise).await {
        Ok(()) => panic!("a store that {defect:?} was not found out"),
        Err(message) => assert!(!message.is_empty(), "a broken promise must be named"),
    }
}

/// Returns the result of a promise's check on a store with this defect.
async fn outcome<F: Future<Output = ()> + Send + 'static>(
    defect: Defect,
    promise: fn(Arc<dyn Store>) -> F,
) -> Result<(), String> {
    let trial = tokio::spawn(promise(Arc::new(BrokenStore::new(defect))));
    let Err(error) = trial.await else { return Ok(()) };
    let panic = error.into_panic();
    let text = panic.downcast_ref::<String>().cloned();
    Err(text.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned())).unwrap_or_default())
}

/// Defect of a [`BrokenStore`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Defect {
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
}

/// Memory store with one defect.
struct BrokenStore {
    store: MemoryStore,
    defect: Defect,
    /// Claims to return a second time.
    again: Mutex<Vec<Claim>>,
    /// Number of items before the page that starts at a cursor.
    places: Mutex<HashMap<RunId, usize>>,
    /// Live runs that were pruned.
    pruned: Mutex<BTreeSet<RunId>>,
}

impl BrokenStore {
    fn new(defect: Defect) -> Self {
        let (again, places, pruned) = (Mutex::default(), Mutex::default(), Mutex::default());
        Self { store: MemoryStore::new(), defect, again, places, pruned }
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

    async fn take_call(&self, webhook: WebhookId, limit: RateLimit) -> Result<Option<Duration>, StoreError> {
        let limit = match self.has(Defect::ForgetsCalls) {
            true => RateLimit::new(limit.per_minute, u32::MAX),
            false => limit,
        };
        self.store.take_call(webhook, limit).await
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

    async fn health(&self) -> Result<StoreHealth, StoreError> {
        self.store.health().await
    }
}
