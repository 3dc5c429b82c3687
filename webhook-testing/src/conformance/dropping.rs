//! Promises about futures that are dropped before they complete.

use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Waker};

use super::scene::*;
use webhook_core::run::RunState;
use webhook_core::store::{DeliveryClaimRequest, Enqueued, Renewal, RunQuery, Store, WebhookQuery, Work};

/// Reads, waits and renewals may be dropped at any time: the store keeps working, and nothing has changed.
pub async fn reads_and_waits_may_be_dropped(store: Arc<dyn Store>) {
    let webhook = webhook(&*store).await;
    let run = running(&*store, &webhook).await;
    let told = delivering(&*store, &webhook, 1).await.remove(0);
    claim(&*store, 10).await;
    let cursor = store.events_since(None).await.must("read events").cursor;
    let before = get(&*store, run.id()).await;
    for _ in 0..20 {
        start(store.get_webhook(webhook.id));
        start(store.find_webhook(&webhook.token_digest));
        start(store.list_webhooks(WebhookQuery::default()));
        start(store.record_use(&[]));
        start(store.renew(vec![Renewal::new(run.id(), run.fence(), None)], LONG));
        start(store.get_run(run.id()));
        start(store.list_runs(RunQuery::default()));
        start(store.read_log(run.id(), 0));
        start(store.wait_for_work(Work::Runs));
        start(store.wait_for_work(any_delivery()));
        start(store.events_since(Some(cursor)));
        start(store.list_deliveries(&[told.run]));
        start(store.health());
    }
    assert_eq!(get(&*store, run.id()).await, before, "what was dropped must have changed nothing");
    assert_eq!(applied(settle(&*store, &run, success()).await).state(), RunState::Succeeded);
    assert_eq!(
        store.claim_deliveries(DeliveryClaimRequest::new(1, LONG)).await.must("claim deliveries"),
        vec![told]
    );
}

/// A dropped wait loses no wake-up for the next one.
pub async fn a_dropped_wait_loses_no_wake_up(store: Arc<dyn Store>) {
    let webhook = webhook(&*store).await;
    for _ in 0..20 {
        assert!(claim(&*store, 1).await.is_empty());
        {
            let mut waiting = pin!(store.wait_for_work(Work::Runs));
            let mut context = Context::from_waker(Waker::noop());
            let _ = waiting.as_mut().poll(&mut context);
            enqueue(&*store, &webhook).await;
        }
        within("the next wait", store.wait_for_work(Work::Runs)).await;
        assert_eq!(claim(&*store, 1).await.len(), 1);
    }
}

/// A caller whose enqueue was dropped may repeat it with its key: there is one run.
pub async fn a_dropped_enqueue_can_be_repeated(store: Arc<dyn Store>) {
    let webhook = webhook(&*store).await;
    for round in 0..20 {
        let key = format!("key {round}");
        start(store.enqueue(keyed(&webhook, &key, 1)));
        let enqueued = within("a repeated call", store.enqueue(keyed(&webhook, &key, 1))).await;
        let id = match enqueued.must("enqueue a run") {
            Enqueued::Created { run, .. } | Enqueued::Replayed(run) => run.id(),
            other => panic!("a repeated call with the same key and request got {other:?}"),
        };
        assert_eq!(claim_ids(&*store, 10).await, vec![id], "one key must start one run");
    }
}

/// Closing ends, also the second time, and where calls are under way.
pub async fn a_store_can_be_closed_twice(store: Arc<dyn Store>) {
    let webhook = webhook(&*store).await;
    start(store.enqueue(request(&webhook)));
    within("the store to close", store.close()).await;
    within("the closed store to close", store.close()).await;
}

/// Polls a future once and drops it.
fn start(future: impl Future) {
    let mut context = Context::from_waker(Waker::noop());
    let _ = pin!(future).poll(&mut context);
}
