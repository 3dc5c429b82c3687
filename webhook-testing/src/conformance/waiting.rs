//! Promises about wake-ups: no waiter misses work, and none is kept awake without it.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::oneshot;

use super::scene::*;
use webhook_core::notifier::DeliveryOutcome;
use webhook_core::store::{Channels, DeliveryClaimRequest, Store, Work};
use webhook_core::webhook::{Channel, OnOverlap, WebhookSettings};

/// Upper bound on the wake-ups of an idle worker in 300 ms.
const FEW: usize = 30;

/// A new run wakes a worker that waits for runs.
pub async fn a_new_run_wakes_who_waits(store: Arc<dyn Store>) {
    let webhook = webhook(&*store).await;
    let worker = worker(&store, Work::Runs);
    let id = enqueue(&*store, &webhook).await.id();
    assert_eq!(within("a worker to find a new run", worker).await, id.to_string());
}

/// Work that arrives between the last claim and the wait is noticed.
pub async fn no_wake_up_is_lost_between_claim_and_wait(store: Arc<dyn Store>) {
    let webhook = webhook(&*store).await;
    assert!(claim(&*store, 1).await.is_empty());
    enqueue(&*store, &webhook).await;
    within("a wait to notice earlier work", store.wait_for_work(Work::Runs)).await;
    assert_eq!(claim(&*store, 1).await.len(), 1);
    // Again, at full speed: each run is recorded while the worker is about to wait.
    let (acknowledge, mut acknowledged) = tokio::sync::mpsc::channel::<()>(1);
    let worker = tokio::spawn({
        let store = store.clone();
        async move {
            for _ in 0..100 {
                claim_when_due(&*store, LONG).await;
                if acknowledge.send(()).await.is_err() {
                    return;
                }
            }
        }
    });
    for _ in 0..100 {
        enqueue(&*store, &webhook).await;
        within("a worker to notice a run", acknowledged.recv()).await;
    }
    within("a worker to end", worker).await.must("keep a worker going");
}

/// A retry that is due, an expired lease, and a free place each wake a worker that waits for runs.
pub async fn due_times_leases_and_room_wake_who_waits(store: Arc<dyn Store>) {
    let webhook = bounded(&*store, 1, OnOverlap::Queue).await;
    let run = running(&*store, &webhook).await;
    applied(settle(&*store, &run, retry(Duration::from_millis(100))).await);
    assert!(claim(&*store, 1).await.is_empty());
    let again = claim_when_due(&*store, SHORT).await.remove(0).run;
    assert_eq!((again.id(), again.attempt()), (run.id(), 2), "a retry must come due");
    let again = claim_when_due(&*store, LONG).await.remove(0).run;
    assert_eq!((again.id(), again.interruptions()), (run.id(), 1), "a lease must be over");

    let waiting = enqueue(&*store, &webhook).await.id();
    assert!(claim(&*store, 1).await.is_empty(), "the webhook is bounded to one run");
    let worker = worker(&store, Work::Runs);
    applied(settle(&*store, &again, success()).await);
    assert_eq!(within("a worker to find room", worker).await, waiting.to_string());
}

/// A raised bound wakes a worker that waits for runs.
pub async fn new_settings_wake_who_waits(store: Arc<dyn Store>) {
    let webhook = bounded(&*store, 1, OnOverlap::Queue).await;
    running(&*store, &webhook).await;
    let waiting = enqueue(&*store, &webhook).await.id();
    assert!(claim(&*store, 1).await.is_empty(), "the webhook is bounded to one run");
    let worker = worker(&store, Work::Runs);
    let next = webhook.with_settings(concurrency(Some(2), OnOverlap::Queue), now());
    store.update_webhook(next, 1).await.must("update a webhook");
    assert_eq!(within("a worker to find room", worker).await, waiting.to_string());
}

/// A new delivery, a due retry and an expired lease each wake a worker that waits for deliveries.
pub async fn deliveries_wake_who_waits_for_them(store: Arc<dyn Store>) {
    let webhook = webhook(&*store).await;
    let waiting = worker(&store, any_delivery());
    let told = delivering(&*store, &webhook, 1).await.remove(0);
    assert_eq!(within("a worker to find a new delivery", waiting).await, told.id.to_string());
    let delay = Duration::from_millis(100);
    let outcome = DeliveryOutcome::Retry { error: "busy".to_owned(), delay, at: now() + delay };
    settle_delivery(&*store, &told, outcome).await;
    for what in ["a retry to come due", "a lease to be over"] {
        let claimed = within(what, async {
            loop {
                let request = DeliveryClaimRequest::new(1, SHORT);
                let claimed = store.claim_deliveries(request).await.must("claim deliveries");
                if !claimed.is_empty() {
                    return claimed;
                }
                store.wait_for_work(any_delivery()).await;
            }
        });
        assert_eq!(claimed.await[0].id, told.id);
    }
    settle_delivery(&*store, &told, DeliveryOutcome::Delivered).await;
    let waiting = worker(&store, any_delivery());
    store.resend_delivery(told.id, now()).await.must("resend a delivery");
    assert_eq!(within("a worker to find a resent delivery", waiting).await, told.id.to_string());
}

/// An empty store, runs that wait for a place or a distant time, and held claims keep no worker awake.
pub async fn waiting_is_no_busy_loop(store: Arc<dyn Store>) {
    let count = wake_ups_without_work(&*store, Work::Runs).await;
    assert!(count <= FEW, "an empty store woke a worker {count} times in {WATCH:?}");
    let webhook = bounded(&*store, 1, OnOverlap::Queue).await;
    let free = super::scene::webhook(&*store).await;
    running(&*store, &webhook).await;
    enqueue_many(&*store, &webhook, 3).await;
    let distant = running(&*store, &free).await;
    applied(settle(&*store, &distant, retry(LONG)).await);
    let count = wake_ups_without_work(&*store, Work::Runs).await;
    assert!(count <= FEW, "runs that cannot start woke a worker {count} times in {WATCH:?}");
}

/// Due runs of workflows that a worker does not execute do not keep it awake, and those that it does wake it.
pub async fn runs_of_other_workflows_wake_nobody_for_long(store: Arc<dyn Store>) {
    let sales = webhook(&*store).await;
    enqueue_many(&*store, &sales, 3).await;
    let others = Work::RunsOf(workflows_only("report/costs"));
    let count = wake_ups_without_work(&*store, others.clone()).await;
    assert!(count <= FEW, "runs of another workflow woke a worker {count} times in {WATCH:?}");
    let costs = recorded(&*store, webhook_for("report/costs", WebhookSettings::default())).await;
    let waiting = tokio::spawn({
        let store = store.clone();
        async move { store.wait_for_work(others).await }
    });
    enqueue(&*store, &costs).await;
    within("a worker to notice a run of its workflow", waiting).await.must("wait for work");
}

/// Work of one kind does not keep workers awake that wait for the other.
pub async fn work_of_the_other_sort_wakes_nobody_for_long(store: Arc<dyn Store>) {
    let webhook = webhook(&*store).await;
    delivering(&*store, &webhook, 3).await;
    let count = wake_ups_without_work(&*store, Work::Runs).await;
    assert!(count <= FEW, "deliveries woke who waits for runs {count} times in {WATCH:?}");
    store.claim_deliveries(DeliveryClaimRequest::new(10, LONG)).await.must("claim deliveries");
    enqueue_many(&*store, &webhook, 3).await;
    let count = wake_ups_without_work(&*store, any_delivery()).await;
    assert!(count <= FEW, "runs woke who waits for deliveries {count} times in {WATCH:?}");
}

/// Due deliveries of a channel that is not requested keep no worker awake, and requested ones still wake it.
pub async fn deliveries_of_other_channels_wake_nobody_for_long(store: Arc<dyn Store>) {
    let webhook = webhook(&*store).await;
    delivering(&*store, &webhook, 3).await;
    for channels in [Channels::Only(Channel::SLACK), Channels::Except(BTreeSet::from([Channel::EMAIL]))] {
        let slack = Work::Deliveries(channels);
        let count = wake_ups_without_work(&*store, slack.clone()).await;
        assert!(count <= FEW, "deliveries of another channel woke a worker {count} times in {WATCH:?}");
        let waiting = worker(&store, slack);
        let id = delivering_to_slack(&*store, &webhook).await.id;
        assert_eq!(within("a worker to find a delivery of its channel", waiting).await, id.to_string());
    }
}

/// Starts a worker that has found nothing and now waits. Returns the id of the work that it finds.
fn worker(store: &Arc<dyn Store>, work: Work) -> impl Future<Output = String> {
    let (found, finding) = oneshot::channel();
    let (began, beginning) = oneshot::channel();
    let store = store.clone();
    tokio::spawn(async move {
        let mut began = Some(began);
        loop {
            let id = match &work {
                Work::Runs => claim(&*store, 1).await.pop().map(|claim| claim.run.id().to_string()),
                Work::Deliveries(channels) => {
                    let request = DeliveryClaimRequest::new(1, LONG).through(channels.clone());
                    let claimed = store.claim_deliveries(request).await.must("claim deliveries").pop();
                    claimed.map(|delivery| delivery.id.to_string())
                }
                other => panic!("no promise is about {other:?}"),
            };
            if let Some(began) = began.take() {
                let _ = began.send(());
            }
            match id {
                Some(id) => return found.send(id),
                None => store.wait_for_work(work.clone()).await,
            }
        }
    });
    async move {
        let _ = beginning.await;
        finding.await.must("keep a worker going")
    }
}
