//! Promises about concurrency and overlap rules.

use std::sync::Arc;

use super::scene::*;
use webhook_core::id::RunId;
use webhook_core::run::{CancelReason, Ending, ErrorKind, RunState};
use webhook_core::store::{Enqueued, Outcome, Renewal, Renewed, Store};
use webhook_core::webhook::{OnOverlap, Webhook};

/// No webhook gets more running runs than its concurrency allows, over any number of claims, and it delays no
/// other webhook.
pub async fn no_more_runs_than_the_bound_are_claimed(store: Arc<dyn Store>) {
    let two_at_once = bounded(&*store, 2, OnOverlap::Queue).await;
    let free = webhook(&*store).await;
    let waiting = enqueue_many(&*store, &two_at_once, 5).await;
    let others = enqueue_many(&*store, &free, 3).await;
    let mut first = claim_ids(&*store, 1).await;
    first.extend(claim_ids(&*store, 100).await);
    let of_bounded: Vec<RunId> = first.iter().copied().filter(|id| waiting.contains(id)).collect();
    assert_eq!(of_bounded, waiting[..2], "of a webhook bounded to two, its two oldest runs must be claimed");
    assert_eq!(first.len(), 2 + others.len(), "runs of another webhook must not be held up");
    assert!(claim(&*store, 100).await.is_empty(), "a bound must hold across claims");

    let oldest = get(&*store, waiting[0]).await;
    applied(settle(&*store, &oldest, success()).await);
    assert_eq!(claim_ids(&*store, 100).await, vec![waiting[2]], "an end must make room for one more");
    let second = get(&*store, waiting[1]).await;
    applied(settle(&*store, &second, Outcome::HandBack).await);
    assert_eq!(claim(&*store, 100).await.len(), 1, "a run handed back must make room for one");
}

/// Many claimers at once keep to the bound too.
pub async fn claimers_at_once_keep_to_the_bound(store: Arc<dyn Store>) {
    let webhook = bounded(&*store, 3, OnOverlap::Queue).await;
    enqueue_many(&*store, &webhook, 30).await;
    let mut claimers = tokio::task::JoinSet::new();
    for _ in 0..8 {
        let store = store.clone();
        claimers.spawn(async move { claim_ids(&*store, 2).await });
    }
    let claimed: usize = claimers.join_all().await.iter().map(Vec::len).sum();
    assert_eq!(claimed, 3, "eight claimers at once must get three runs of a webhook bounded to three");
}

/// `skip`: the new run is recorded as skipped, is never claimed, and affects no other run.
pub async fn skip_records_a_run_that_is_never_executed(store: Arc<dyn Store>) {
    let webhook = bounded(&*store, 1, OnOverlap::Skip).await;
    let first = enqueue(&*store, &webhook).await;
    assert_eq!(first.state(), RunState::Queued);
    for busy in ["queued", "running"] {
        let skipped = enqueue(&*store, &webhook).await;
        assert_eq!(skipped.state(), RunState::Skipped, "another run is {busy}, so a new one is skipped");
        let stored = get(&*store, skipped.id()).await;
        assert_eq!(stored, skipped, "a skipped run must be recorded");
        assert!(stored.finished_at().is_some() && stored.attempt() == 0);
        claim(&*store, 100).await;
        assert_eq!(
            state(&*store, skipped.id()).await,
            RunState::Skipped,
            "a skipped run must not be claimed"
        );
    }
    let skipped = created(store.enqueue(keyed(&webhook, "key", 1)).await.must("enqueue a run"));
    let again = store.enqueue(keyed(&webhook, "key", 1)).await.must("replay a run");
    let same = matches!(&again, Enqueued::Replayed(run) if run.id() == skipped.id() && run.state() == RunState::Skipped);
    assert!(same, "a key must stand for a skipped run as for any: {again:?}");
    applied(settle(&*store, &*get(&*store, first.id()).await, success()).await);
    assert_eq!(enqueue(&*store, &webhook).await.state(), RunState::Queued, "an end must make room");
}

/// `replace`: the running run is asked to stop, and a waiting one ends superseded.
pub async fn replace_stops_the_running_and_ends_the_waiting_run(store: Arc<dyn Store>) {
    let webhook = bounded(&*store, 1, OnOverlap::Replace).await;
    let first = running(&*store, &webhook).await;
    let (second, stopped) = enqueue_over(&*store, &webhook).await;
    assert_eq!(stopped, vec![first.id()], "the running run must be asked to stop");
    let renewal = Renewal::new(first.id(), first.fence(), None);
    let renewed = store.renew(vec![renewal], LONG).await.must("renew a claim");
    assert_eq!(renewed, vec![Renewed::Held { cancel: Some(CancelReason::Superseded) }]);
    assert!(claim(&*store, 100).await.is_empty(), "the new run must wait until the old one has stopped");

    let (third, _) = enqueue_over(&*store, &webhook).await;
    superseded(&*store, second).await;
    let ending = Ending::Cancelled(CancelReason::Superseded);
    applied(settle(&*store, &first, Outcome::Ended { ending, deliveries: Vec::new() }).await);
    superseded(&*store, first.id()).await;
    assert_eq!(claim_ids(&*store, 100).await, vec![third], "the newest run must take the place");
}

/// `coalesce`: at most one run waits; the older waiting run ends superseded, and the running one continues.
pub async fn coalesce_lets_the_newest_wait(store: Arc<dyn Store>) {
    let webhook = bounded(&*store, 1, OnOverlap::Coalesce).await;
    let first = running(&*store, &webhook).await;
    let (second, _) = enqueue_over(&*store, &webhook).await;
    let (third, stopped) = enqueue_over(&*store, &webhook).await;
    assert_eq!(stopped, vec![], "coalescing must not stop what runs");
    superseded(&*store, second).await;
    assert_eq!(get(&*store, first.id()).await.cancel_requested(), None);
    applied(settle(&*store, &first, success()).await);
    assert_eq!(claim_ids(&*store, 100).await, vec![third], "the newest run must have waited");
}

/// `queue`: no run is cancelled, however many wait.
pub async fn queue_lets_every_run_wait(store: Arc<dyn Store>) {
    let webhook = bounded(&*store, 1, OnOverlap::Queue).await;
    let mut waiting = Vec::new();
    for _ in 0..4 {
        let (id, stopped) = enqueue_over(&*store, &webhook).await;
        assert_eq!(stopped, vec![]);
        waiting.push(id);
    }
    for id in waiting {
        let claims = claim(&*store, 100).await;
        assert_eq!(claims.iter().map(|claim| claim.run.id()).collect::<Vec<_>>(), vec![id]);
        applied(settle(&*store, &claims[0].run, success()).await);
    }
}

async fn enqueue_over(store: &dyn Store, webhook: &Webhook) -> (RunId, Vec<RunId>) {
    match store.enqueue(request(webhook)).await.must("enqueue a run") {
        Enqueued::Created { run, asked_to_stop } => (run.id(), asked_to_stop),
        other => panic!("a run was to be created, but the store answered {other:?}"),
    }
}

async fn superseded(store: &dyn Store, id: RunId) {
    let run = get(store, id).await;
    assert_eq!(run.state(), RunState::Cancelled, "a run pushed out must end cancelled");
    assert_eq!(run.error().map(|error| error.kind), Some(ErrorKind::Superseded));
}
