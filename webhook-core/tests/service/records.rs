//! Tests of a store around a host's own records: when these fail, when they are opened again, and when they are closed.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, SystemTime};

use parking_lot::Mutex;
use webhook_core::backend::{KeyRecord, LiveRecords, RecordChange, RecordStore, Records, RunLog};
use webhook_core::error::BoxError;
use webhook_core::id::{DeliveryId, RunId, WebhookId};
use webhook_core::memory::MemoryRecords;
use webhook_core::notifier::{Delivery, DeliveryOutcome, DeliveryState};
use webhook_core::run::{Caller, Ending, Run, RunParameters, RunState};
use webhook_core::store::*;
use webhook_core::token::Token;
use webhook_core::webhook::{Channel, EventKind, Webhook, WebhookSettings};

const LEASE: Duration = Duration::from_secs(60);

/// Records that outlive their store, as a file does, and whose next writes fail as a test demands.
#[derive(Clone, Default)]
struct File(Arc<Shared>);

#[derive(Default)]
struct Shared {
    content: Mutex<Content>,
    /// Number of the next writes that fail.
    failing_writes: AtomicUsize,
    /// True if a write that fails has written.
    fails_after_writing: AtomicBool,
    fails_reads: AtomicBool,
    /// True if a search for expired runs panics.
    panics: AtomicBool,
    /// Blocks writes while it is locked.
    gate: Mutex<()>,
}

#[derive(Default)]
struct Content {
    records: MemoryRecords,
    webhooks: HashMap<WebhookId, Webhook>,
    keys: Vec<KeyRecord>,
}

impl File {
    fn open(&self) -> RecordStore<Self> {
        RecordStore::open(self.clone()).unwrap()
    }

    fn fail_writes(&self, count: usize) {
        self.0.failing_writes.store(count, Ordering::SeqCst);
    }

    fn read<T>(&self, read: impl FnOnce(&mut MemoryRecords) -> Result<T, BoxError>) -> Result<T, BoxError> {
        match self.0.fails_reads.load(Ordering::SeqCst) {
            true => Err("the file cannot be read".into()),
            false => read(&mut self.0.content.lock().records),
        }
    }
}

impl Shared {
    fn apply(&self, changes: &[RecordChange]) -> Result<(), BoxError> {
        let content = &mut *self.content.lock();
        for change in changes {
            match change {
                RecordChange::PutWebhook(webhook) => {
                    content.webhooks.insert(webhook.id, Webhook::clone(webhook));
                }
                RecordChange::RemoveWebhook(id) => {
                    content.webhooks.remove(id);
                }
                RecordChange::PutKey(key) => content.keys.push(key.clone()),
                RecordChange::RemoveKey { webhook_id, key } => {
                    content.keys.retain(|it| (it.webhook_id, &it.key) != (*webhook_id, key));
                }
                _ => {}
            }
        }
        content.records.write(changes)
    }
}

impl Records for File {
    fn load(&mut self) -> Result<LiveRecords, BoxError> {
        let runs = |state| RunQuery::default().in_state(Some(state)).limit(1_000);
        let pending = DeliveryQuery::default().in_state(Some(DeliveryState::Pending)).limit(1_000);
        let content = &mut *self.0.content.lock();
        let mut live = LiveRecords::default();
        live.webhooks = content.webhooks.values().cloned().collect();
        live.keys = content.keys.clone();
        for state in [RunState::Queued, RunState::Running] {
            live.runs.extend(content.records.list_runs(&runs(state))?.iter().map(|run| Run::clone(run)));
        }
        live.deliveries = content.records.find_deliveries(&pending)?;
        Ok(live)
    }

    fn write(&mut self, changes: &[RecordChange]) -> Result<(), BoxError> {
        let _open = self.0.gate.lock();
        let failing = self.0.failing_writes.load(Ordering::SeqCst);
        if failing > 0 {
            self.0.failing_writes.store(failing - 1, Ordering::SeqCst);
            if self.0.fails_after_writing.load(Ordering::SeqCst) {
                self.0.apply(changes)?;
            }
            return Err("the disk is full".into());
        }
        self.0.apply(changes)
    }

    fn get_run(&mut self, id: RunId) -> Result<Option<Arc<Run>>, BoxError> {
        self.read(|records| records.get_run(id))
    }

    fn list_runs(&mut self, query: &RunQuery) -> Result<Vec<Arc<Run>>, BoxError> {
        self.read(|records| records.list_runs(query))
    }

    fn expired_runs(
        &mut self,
        request: &PruneRequest,
        stays: &dyn Fn(RunId) -> bool,
    ) -> Result<Vec<RunId>, BoxError> {
        assert!(!self.0.panics.swap(false, Ordering::SeqCst), "a fault of the records");
        self.read(|records| records.expired_runs(request, stays))
    }

    fn get_log(&mut self, run: RunId) -> Result<Option<RunLog>, BoxError> {
        self.read(|records| records.get_log(run))
    }

    fn get_delivery(&mut self, id: DeliveryId) -> Result<Option<Delivery>, BoxError> {
        self.read(|records| records.get_delivery(id))
    }

    fn deliveries_of(&mut self, run: RunId) -> Result<Vec<Delivery>, BoxError> {
        self.read(|records| records.deliveries_of(run))
    }

    fn find_deliveries(&mut self, query: &DeliveryQuery) -> Result<Vec<Delivery>, BoxError> {
        self.read(|records| records.find_deliveries(query))
    }
}

fn now() -> SystemTime {
    SystemTime::now()
}

async fn webhook(store: &RecordStore<File>) -> Webhook {
    let (id, workflow) = (WebhookId::generate(now()), "report/sales".parse().unwrap());
    let webhook = Webhook::new(id, workflow, WebhookSettings::default(), &Token::generate(), None, now());
    store.create_webhook(webhook.clone()).await.unwrap();
    webhook
}

fn request(webhook: &Webhook) -> Enqueue {
    let (parameters, caller) = (RunParameters::default(), Caller::default());
    let workflow = webhook.workflow.clone();
    Enqueue::new(Run::new(RunId::generate(now()), workflow, webhook.id, parameters, 3, caller, now()))
}

async fn enqueue(store: &RecordStore<File>, webhook: &Webhook) -> RunId {
    let request = request(webhook);
    let id = request.run.id();
    assert!(matches!(store.enqueue(request).await, Ok(Enqueued::Created { .. })));
    id
}

async fn state(store: &RecordStore<File>, run: RunId) -> RunState {
    store.get_run(run).await.unwrap().unwrap().state()
}

fn success(run: &Run) -> Vec<Settlement> {
    let told = Delivery::new(
        DeliveryId::generate(now()),
        run.id(),
        Channel::EMAIL,
        "ada@example.com",
        EventKind::Success,
        now(),
    );
    let ending = Ending::Succeeded { summary: None, artifacts: Vec::new() };
    let outcome = Outcome::Ended { ending, deliveries: vec![told] };
    vec![Settlement::new(run.id(), run.fence(), outcome, now())]
}

#[tokio::test]
async fn after_a_write_that_failed_the_records_hold_and_running_runs_go_on() {
    let file = File::default();
    let store = file.open();
    let webhook = webhook(&store).await;
    let (first, second) = (enqueue(&store, &webhook).await, enqueue(&store, &webhook).await);
    let claims = store.claim(ClaimRequest::new(1, LEASE, now()).with_ahead(1)).await.unwrap();
    let (running, ahead) = (claims[0].run.clone(), claims[1].run.clone());
    assert_eq!((running.id(), ahead.id()), (first, second));

    file.fail_writes(1);
    let refused = request(&webhook);
    let refused_id = refused.run.id();
    assert!(matches!(store.enqueue(refused).await, Err(StoreError::Unavailable { .. })));
    assert!(store.get_run(refused_id).await.unwrap().is_none(), "nothing of it is there");
    assert_eq!(store.health().await.unwrap().queued, 1);

    let renewal = Renewal::new(first, running.fence(), None);
    assert_eq!(store.renew(vec![renewal], LEASE).await.unwrap(), [Renewed::Held { cancel: None }]);
    let settled = store.settle(success(&running)).await.unwrap();
    assert!(matches!(&settled[..], [Settled::Applied(run)] if run.state() == RunState::Succeeded));
    let again = store.claim(ClaimRequest::new(1, LEASE, now())).await.unwrap();
    assert_eq!(again[0].run.id(), second);
    assert!(again[0].run.fence() > ahead.fence(), "no fence is given out twice");
}

#[tokio::test]
async fn who_waits_for_work_learns_that_the_records_were_loaded_again() {
    let file = File::default();
    let store = file.open();
    let webhook = webhook(&store).await;
    for _ in 0..2 {
        enqueue(&store, &webhook).await;
    }
    let claims = store.claim(ClaimRequest::new(1, LEASE, now()).with_ahead(1)).await.unwrap();
    let waiting = tokio::spawn({
        let store = store.clone();
        async move { store.wait_for_work(Work::Runs).await }
    });
    tokio::task::yield_now().await;
    assert!(!waiting.is_finished(), "both are claimed");
    file.fail_writes(1);
    let run = &claims[0].run;
    assert!(store.append_log(run.id(), run.fence(), "a line\n".to_owned()).await.is_err());
    assert_eq!(state(&store, run.id()).await, RunState::Running);
    let woken = tokio::time::timeout(LEASE / 2, waiting).await;
    assert!(matches!(woken, Ok(Ok(()))), "the one that was claimed ahead is queued again");
}

#[tokio::test]
async fn a_call_that_failed_can_be_repeated() {
    let file = File::default();
    let store = file.open();
    let webhook = webhook(&store).await;
    let run = enqueue(&store, &webhook).await;
    file.fail_writes(2);
    assert!(store.enqueue(request(&webhook)).await.is_err());
    store.delete_webhook(webhook.id, None, now()).await.unwrap_err();
    store.delete_webhook(webhook.id, None, now()).await.unwrap();
    assert_eq!(state(&store, run).await, RunState::Cancelled);
}

#[tokio::test]
async fn a_read_that_fails_changes_nothing() {
    let file = File::default();
    let store = file.open();
    let webhook = webhook(&store).await;
    let run = enqueue(&store, &webhook).await;
    let claim = store.claim(ClaimRequest::new(1, LEASE, now())).await.unwrap().remove(0);
    store.settle(success(&claim.run)).await.unwrap();
    file.0.fails_reads.store(true, Ordering::SeqCst);
    let deliveries = DeliveryClaimRequest::new(1, LEASE);
    assert!(store.claim_deliveries(deliveries.clone()).await.is_err());
    assert!(store.get_run(run).await.is_err());
    assert!(store.enqueue(request(&webhook)).await.is_err(), "its id may be taken");
    file.0.fails_reads.store(false, Ordering::SeqCst);
    assert_eq!(store.claim_deliveries(deliveries).await.unwrap().len(), 1, "it was given back");
    assert_eq!(store.health().await.unwrap().queued, 0);
}

#[tokio::test]
async fn records_that_are_opened_again_queue_what_was_running_and_keep_the_rest() {
    let file = File::default();
    let store = file.open();
    let (kept, deleted) = (webhook(&store).await, webhook(&store).await);
    let key = || Some(Idempotency::new("key", [7; 32], Duration::from_secs(3_600)));
    let keyed = request(&kept).with_idempotency(key());
    let first = keyed.run.id();
    store.enqueue(keyed).await.unwrap();
    let done = store.claim(ClaimRequest::new(1, LEASE, now())).await.unwrap().remove(0).run;
    store.settle(success(&done)).await.unwrap();
    let running = enqueue(&store, &kept).await;
    let claimed = store.claim(ClaimRequest::new(1, LEASE, now())).await.unwrap().remove(0).run;
    let orphan = enqueue(&store, &deleted).await;
    drop(store);
    // As after the end of a process in the middle of a deletion by an earlier store.
    file.0.content.lock().webhooks.remove(&deleted.id);

    let store = file.open();
    let run = store.get_run(running).await.unwrap().unwrap();
    assert_eq!((run.state(), run.interruptions()), (RunState::Queued, 1));
    assert_eq!(state(&store, orphan).await, RunState::Cancelled);
    let replayed = store.enqueue(request(&kept).with_idempotency(key())).await.unwrap();
    assert!(matches!(replayed, Enqueued::Replayed(run) if run.id() == first));
    assert_eq!(store.claim_deliveries(DeliveryClaimRequest::new(9, LEASE)).await.unwrap().len(), 1);
    let again = store.claim(ClaimRequest::new(9, LEASE, now())).await.unwrap();
    assert_eq!(again.len(), 1);
    assert!(again[0].run.fence() > claimed.fence());
}

#[tokio::test]
async fn a_closed_store_lets_its_records_go_and_refuses_calls() {
    let file = File::default();
    let store = file.open();
    let webhook = webhook(&store).await;
    assert_eq!(Arc::strong_count(&file.0), 2);
    store.clone().close().await;
    assert_eq!(Arc::strong_count(&file.0), 1, "the records are dropped");
    assert!(matches!(store.enqueue(request(&webhook)).await, Err(StoreError::Unavailable { .. })));
    assert!(store.get_webhook(webhook.id).await.is_err());
    assert!(store.health().await.is_err());
}

#[tokio::test]
async fn a_delivery_whose_outcome_could_not_be_written_stays_claimed() {
    let file = File::default();
    let store = file.open();
    let webhook = webhook(&store).await;
    enqueue(&store, &webhook).await;
    let claim = store.claim(ClaimRequest::new(1, LEASE, now())).await.unwrap().remove(0);
    store.settle(success(&claim.run)).await.unwrap();
    let request = DeliveryClaimRequest::new(1, LEASE);
    let claimed = store.claim_deliveries(request.clone()).await.unwrap().remove(0);
    file.fail_writes(1);
    let sent = vec![DeliverySettlement::new(&claimed, DeliveryOutcome::Delivered)];
    store.settle_deliveries(sent.clone()).await.unwrap_err();
    assert!(store.claim_deliveries(request).await.unwrap().is_empty(), "it would be sent twice");
    store.settle_deliveries(sent).await.unwrap();
    assert_eq!(store.health().await.unwrap().pending_deliveries, 0);
}

#[tokio::test]
async fn a_claim_that_failed_after_it_was_written_holds_no_run() {
    let file = File::default();
    let store = file.open();
    let webhook = webhook(&store).await;
    let (first, second) = (enqueue(&store, &webhook).await, enqueue(&store, &webhook).await);
    let given = store.claim(ClaimRequest::new(1, LEASE, now())).await.unwrap().remove(0);
    file.0.fails_after_writing.store(true, Ordering::SeqCst);
    file.fail_writes(1);
    store.claim(ClaimRequest::new(1, LEASE, now())).await.unwrap_err();
    let claims = store.claim(ClaimRequest::new(9, LEASE, now())).await.unwrap();
    assert_eq!(claims.iter().map(|claim| claim.run.id()).collect::<Vec<_>>(), [second]);
    let renewal = Renewal::new(first, given.run.fence(), None);
    assert_eq!(store.renew(vec![renewal], LEASE).await.unwrap(), [Renewed::Held { cancel: None }]);
}

#[tokio::test]
async fn readers_of_events_learn_of_a_change_that_failed_after_it_was_written() {
    let file = File::default();
    let store = file.open();
    let webhook = webhook(&store).await;
    enqueue(&store, &webhook).await;
    let run = store.claim(ClaimRequest::new(1, LEASE, now())).await.unwrap().remove(0).run;
    let cursor = store.events_since(None).await.unwrap().cursor;
    file.0.fails_after_writing.store(true, Ordering::SeqCst);
    file.fail_writes(1);
    store.settle(success(&run)).await.unwrap_err();
    assert!(matches!(store.settle(success(&run)).await.unwrap()[..], [Settled::Stale]), "it has ended");
    let events = tokio::time::timeout(LEASE / 2, store.events_since(Some(cursor))).await;
    let events = events.expect("readers wait for an event that never comes").unwrap();
    assert!(events.reset && events.items.is_empty());
}

#[tokio::test]
async fn keys_that_a_failed_pruning_took_from_memory_leave_the_records_later() {
    for panics in [false, true] {
        let file = File::default();
        let store = file.open();
        let webhook = webhook(&store).await;
        let key = Some(Idempotency::new("key", [7; 32], Duration::ZERO));
        store.enqueue(request(&webhook).with_idempotency(key)).await.unwrap();
        let prune = || store.prune(PruneRequest::new(now(), LEASE, 9));
        file.0.panics.store(panics, Ordering::SeqCst);
        file.0.fails_reads.store(!panics, Ordering::SeqCst);
        prune().await.unwrap_err();
        file.0.fails_reads.store(false, Ordering::SeqCst);
        prune().await.unwrap();
        assert!(file.0.content.lock().keys.is_empty(), "panics: {panics}");
    }
}

#[test]
fn calls_that_wait_for_a_slow_write_leave_threads_to_others() {
    let mut builder = tokio::runtime::Builder::new_current_thread();
    let runtime = builder.enable_time().max_blocking_threads(2).build().unwrap();
    let file = File::default();
    let store = file.open();
    let webhook = runtime.block_on(webhook(&store));
    let mut calls = tokio::task::JoinSet::new();
    let gate = file.0.gate.lock();
    let is_free = runtime.block_on(async {
        for _ in 0..4 {
            let (store, request) = (store.clone(), request(&webhook));
            calls.spawn(async move { store.enqueue(request).await.map(|_| ()) });
            tokio::task::yield_now().await;
        }
        let other = tokio::task::spawn_blocking(|| ());
        tokio::time::timeout(Duration::from_secs(20), other).await.is_ok()
    });
    drop(gate);
    for called in runtime.block_on(calls.join_all()) {
        called.unwrap();
    }
    assert!(is_free, "calls of the store take all threads");
}
