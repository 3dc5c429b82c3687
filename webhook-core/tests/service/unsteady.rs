//! A store that fails, stalls, panics or loses its answer, as a test demands.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, SystemTime};

use parking_lot::Mutex;
use tokio::sync::Semaphore;
use webhook_core::calls::{CallRecord, LoggedCall};
use webhook_core::events::{EventCursor, Events};
use webhook_core::id::{CallId, DeliveryId, RunId, WebhookId};
use webhook_core::memory::MemoryStore;
use webhook_core::notifier::Delivery;
use webhook_core::run::{CancelReason, Ending, Run};
use webhook_core::store::*;
use webhook_core::token::TokenDigest;
use webhook_core::webhook::{RateLimit, Webhook};

/// Fault that a call meets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    Fails,
    Panics,
    /// The call and its answer are each delayed by this much.
    Stalls(Duration),
    /// The call takes effect, and returns an error.
    LosesItsAnswer,
}

type Faults = dyn Fn(&str) -> Option<Fault> + Send + Sync;

/// Memory store whose calls meet the fault that is set for their method.
#[derive(Clone)]
pub(crate) struct UnsteadyStore {
    store: MemoryStore,
    faults: Arc<Mutex<Arc<Faults>>>,
    /// Faults of the next calls of a method.
    next: Arc<Mutex<Vec<(&'static str, Fault)>>>,
    /// Summary of the success that cannot be recorded.
    refused_summary: Arc<Mutex<Option<String>>>,
    /// Answered requests for deliveries, each with the number of returned deliveries.
    pub(crate) asked: Arc<Mutex<Vec<(DeliveryClaimRequest, usize)>>>,
    /// Runs that another process has cancelled, one permit for each.
    cancelled: Arc<(Mutex<Vec<CancelNotice>>, Semaphore)>,
    /// Runs whose outcomes were recorded, in the order of the recordings.
    pub(crate) settled: Arc<Mutex<Vec<RunId>>>,
    keeps_calls: bool,
    /// Set once the store was closed.
    pub(crate) is_closed: Arc<AtomicBool>,
}

fn failure(what: &str) -> StoreError {
    StoreError::unavailable_because("as the test says", std::io::Error::other(what.to_owned()))
}

impl UnsteadyStore {
    pub(crate) fn new(store: MemoryStore) -> Self {
        let faults: Arc<Mutex<Arc<Faults>>> = Arc::new(Mutex::new(Arc::new(|_: &str| None)));
        let cancelled = Arc::new((Mutex::default(), Semaphore::new(0)));
        Self {
            store,
            faults,
            next: Arc::default(),
            refused_summary: Arc::default(),
            asked: Arc::default(),
            cancelled,
            settled: Arc::default(),
            keeps_calls: true,
            is_closed: Arc::default(),
        }
    }

    /// Leaves the calls to the service.
    pub(crate) fn without_calls(mut self) -> Self {
        self.keeps_calls = false;
        self
    }

    /// Sets the faults of all later calls.
    pub(crate) fn set(&self, faults: impl Fn(&str) -> Option<Fault> + Send + Sync + 'static) {
        *self.faults.lock() = Arc::new(faults);
    }

    /// Sets this fault for all later calls of these methods, and none for others.
    pub(crate) fn always(&self, methods: &'static [&'static str], fault: Fault) {
        self.set(move |method| methods.contains(&method).then_some(fault));
    }

    /// Removes all faults.
    pub(crate) fn heal(&self) {
        self.set(|_| None);
    }

    /// Sets this fault for the next `count` calls of a method.
    pub(crate) fn next(&self, method: &'static str, fault: Fault, count: usize) {
        self.next.lock().extend(std::iter::repeat_n((method, fault), count));
    }

    /// Refuses to record a success with this summary, together with all that is settled in the same call.
    pub(crate) fn refuse_summary(&self, summary: &str) {
        *self.refused_summary.lock() = Some(summary.to_owned());
    }

    fn fault(&self, method: &str) -> Option<Fault> {
        let mut next = self.next.lock();
        if let Some(place) = next.iter().position(|(other, _)| *other == method) {
            return Some(next.remove(place).1);
        }
        let faults = self.faults.lock().clone();
        faults(method)
    }

    /// Cancels a run as another process that shares the store does.
    pub(crate) async fn cancel_elsewhere(&self, run: RunId) {
        self.store.cancel_run(run, SystemTime::now()).await.unwrap();
        self.cancelled.0.lock().push(CancelNotice::new(run, CancelReason::Requested));
        self.cancelled.1.add_permits(1);
    }

    fn refuses(&self, settlement: &Settlement) -> bool {
        match &settlement.outcome {
            Outcome::Ended { ending: Ending::Succeeded { summary, .. }, .. } => {
                summary.is_some() && *summary == *self.refused_summary.lock()
            }
            _ => false,
        }
    }

    async fn meet<T>(
        &self,
        method: &str,
        call: impl Future<Output = Result<T, StoreError>>,
    ) -> Result<T, StoreError> {
        match self.fault(method) {
            None => call.await,
            Some(Fault::Fails) => Err(failure("it failed")),
            Some(Fault::Panics) => panic!("the store panics in {method}, as the test says"),
            Some(Fault::Stalls(pause)) => {
                tokio::time::sleep(pause).await;
                let answer = call.await;
                tokio::time::sleep(pause).await;
                answer
            }
            Some(Fault::LosesItsAnswer) => {
                call.await?;
                Err(failure("the answer was lost"))
            }
        }
    }
}

macro_rules! unsteady {
    ($($method:ident($($argument:ident: $type:ty),*) -> $answer:ty;)+) => {
        #[async_trait::async_trait]
        impl Store for UnsteadyStore {
            $(
                async fn $method(&self, $($argument: $type),*) -> Result<$answer, StoreError> {
                    self.meet(stringify!($method), self.store.$method($($argument),*)).await
                }
            )+

            async fn claim_deliveries(
                &self,
                request: DeliveryClaimRequest,
            ) -> Result<Vec<Delivery>, StoreError> {
                let claiming = self.store.claim_deliveries(request.clone());
                let claimed = self.meet("claim_deliveries", claiming).await?;
                self.asked.lock().push((request, claimed.len()));
                Ok(claimed)
            }

            async fn settle(&self, settlements: Vec<Settlement>) -> Result<Vec<Settled>, StoreError> {
                if settlements.iter().any(|settlement| self.refuses(settlement)) {
                    return Err(failure("a value is refused"));
                }
                let runs: Vec<RunId> = settlements.iter().map(|settlement| settlement.run).collect();
                let settled = self.meet("settle", self.store.settle(settlements)).await?;
                self.settled.lock().extend(runs);
                Ok(settled)
            }

            async fn wait_for_cancellations(&self) -> Vec<CancelNotice> {
                self.cancelled.1.acquire().await.unwrap().forget();
                std::mem::take(&mut *self.cancelled.0.lock())
            }

            async fn wait_for_work(&self, work: Work) {
                self.store.wait_for_work(work).await;
            }

            fn calls(&self) -> Option<&dyn CallStore> {
                self.keeps_calls.then_some(self)
            }

            async fn close(&self) {
                self.is_closed.store(true, Ordering::SeqCst);
            }
        }
    };
}

unsteady! {
    create_webhook(webhook: Webhook) -> ();
    get_webhook(id: WebhookId) -> Option<Arc<Webhook>>;
    find_webhook(digest: &TokenDigest) -> Option<Arc<Webhook>>;
    update_webhook(webhook: Webhook, expected_revision: u64) -> ();
    delete_webhook(id: WebhookId, expected_revision: Option<u64>, now: SystemTime) -> Vec<RunId>;
    list_webhooks(query: WebhookQuery) -> Page<Arc<Webhook>, WebhookId>;
    record_use(uses: &[(WebhookId, SystemTime)]) -> ();
    enqueue(request: Enqueue) -> Enqueued;
    claim(request: ClaimRequest) -> Vec<Claim>;
    begin(begun: Vec<Begun>) -> ();
    renew(renewals: Vec<Renewal>, lease: Duration) -> Vec<Renewed>;
    cancel_run(id: RunId, now: SystemTime) -> Cancelled;
    get_run(id: RunId) -> Option<Arc<Run>>;
    list_runs(query: RunQuery) -> Page<Arc<Run>, RunId>;
    prune(request: PruneRequest) -> Pruned;
    append_log(run: RunId, fence: u64, text: String) -> ();
    read_log(run: RunId, offset: u64) -> LogPart;
    events_since(cursor: Option<EventCursor>) -> Events;
    settle_deliveries(settlements: Vec<DeliverySettlement>) -> ();
    list_deliveries(runs: &[RunId]) -> Vec<Delivery>;
    find_deliveries(query: DeliveryQuery) -> Page<Delivery, DeliveryId>;
    resend_delivery(id: DeliveryId, now: SystemTime) -> Delivery;
    health() -> StoreHealth;
}

#[async_trait::async_trait]
impl CallStore for UnsteadyStore {
    async fn take_call(&self, webhook: WebhookId, limit: RateLimit) -> Result<Option<Duration>, StoreError> {
        self.meet("take_call", self.store.take_call(webhook, limit)).await
    }

    async fn append_calls(&self, calls: Vec<LoggedCall>) -> Result<(), StoreError> {
        self.meet("append_calls", self.store.append_calls(calls)).await
    }

    async fn list_calls(&self, query: CallQuery) -> Result<Page<Arc<CallRecord>, CallId>, StoreError> {
        self.meet("list_calls", self.store.list_calls(query)).await
    }

    async fn get_call(
        &self,
        webhook: WebhookId,
        call: CallId,
        now: SystemTime,
    ) -> Result<Option<LoggedCall>, StoreError> {
        self.meet("get_call", self.store.get_call(webhook, call, now)).await
    }
}
