//! Promises about records that are opened again, for a store that one process opens.

use std::time::Duration;

use serde_json::json;

use super::scene::*;
use webhook_core::id::RunId;
use webhook_core::notifier::{DeliveryOutcome, DeliveryState};
use webhook_core::parameters::{EffectiveParameter, EffectiveParameters, Source};
use webhook_core::run::{Artifact, Caller, Ending, Run, RunParameters, RunState};
use webhook_core::store::{
    DeliveryClaimRequest, DeliveryQuery, Enqueue, Enqueued, Idempotency, Outcome, PruneRequest, RunQuery,
    Settled, Store, StoreError, WebhookQuery,
};
use webhook_core::token::Token;
use webhook_core::webhook::OnOverlap;

const DAY: Duration = Duration::from_secs(86_400);

/// Webhooks are found again with their settings, token, revision and last use; a replaced token finds nothing.
pub async fn webhooks_are_found_again<S: Store>(open: impl AsyncFn() -> S) {
    let store = open().await;
    let (old, new, used) = (Token::generate(), Token::generate(), now());
    let first = recorded(&store, webhook_with("report/sales", Default::default(), &old)).await;
    let refreshed = first.with_token(&new, None, now());
    store.update_webhook(refreshed.clone(), 1).await.must("update a webhook");
    let mut changed = refreshed.with_settings(concurrency(Some(3), OnOverlap::Coalesce), now());
    store.update_webhook(changed.clone(), 2).await.must("update a webhook");
    store.record_use(&[(first.id, used)]).await.must("record a use");
    changed.last_used_at = Some(used);
    let second = webhook(&store).await;

    let store = opened_again(store, &open).await;
    for expected in [&changed, &second] {
        let by_id = store.get_webhook(expected.id).await.must("get a webhook");
        assert_eq!(by_id.as_deref(), Some(expected), "a webhook must be there as it was");
        let by_digest = store.find_webhook(&expected.token_digest).await.must("find a webhook");
        assert_eq!(by_digest.as_deref(), Some(expected), "a token's digest must find its webhook");
    }
    let by_old = store.find_webhook(&old.digest()).await.must("find a webhook");
    assert_eq!(by_old, None, "a replaced token must find nothing");
    let stale = store.update_webhook(changed.with_settings(Default::default(), now()), 2).await;
    assert!(
        matches!(stale, Err(StoreError::Conflict(_))),
        "revision 2 is not the stored one, but: {stale:?}"
    );
}

/// A deleted webhook stays deleted; what waited for it stays cancelled, and what had ended stays as it was.
pub async fn a_deleted_webhook_stays_deleted<S: Store>(open: impl AsyncFn() -> S) {
    let store = open().await;
    let (kept, deleted) = (webhook(&store).await, webhook(&store).await);
    let ended = succeeded(&store, &deleted).await;
    let waiting = enqueue(&store, &deleted).await.id();
    store.delete_webhook(deleted.id, None, now()).await.must("delete a webhook");

    let store = opened_again(store, &open).await;
    assert_eq!(store.get_webhook(deleted.id).await.must("get a webhook"), None, "a deleted webhook is back");
    let by_digest = store.find_webhook(&deleted.token_digest).await.must("find a webhook");
    assert_eq!(by_digest, None, "the token of a deleted webhook must find nothing");
    let listed = store.list_webhooks(WebhookQuery::default()).await.must("list webhooks").items;
    assert_eq!(listed.iter().map(|webhook| webhook.id).collect::<Vec<_>>(), vec![kept.id]);
    assert_eq!(state(&store, ended).await, RunState::Succeeded);
    assert_eq!(state(&store, waiting).await, RunState::Cancelled);
    assert_eq!(claim_ids(&store, 10).await, vec![], "a run of a deleted webhook must not be claimed");
}

/// Queued runs are claimed with their parameters, oldest first; one that waits for its retry goes on waiting.
pub async fn queued_runs_are_claimed_again<S: Store>(open: impl AsyncFn() -> S) {
    let store = open().await;
    let webhook = webhook(&store).await;
    let retried = running(&store, &webhook).await;
    let retried = applied(settle(&store, &retried, retry(LONG)).await);
    let mut queued = Vec::new();
    for number in 0..3 {
        let run = run_of(&webhook);
        let value = json!({ "text": "naïve 日本語", "number": number });
        let effective: EffectiveParameters =
            [("value".to_owned(), EffectiveParameter::new(value, Source::Body))].into_iter().collect();
        let parameters = RunParameters::seal(effective, None, run.id()).must("keep plain parameters");
        let run = run.with_parameters(parameters);
        queued.push(created(store.enqueue(Enqueue::new(run)).await.must("enqueue a run")));
    }

    let store = opened_again(store, &open).await;
    assert_eq!(get(&store, retried.id()).await, retried, "a run that waits for its retry must be as it was");
    for run in &queued {
        assert_eq!(get(&store, run.id()).await, *run, "a queued run must be as it was");
    }
    assert_eq!(store.health().await.must("tell its health").queued, 4, "four runs are queued");
    let claims = claim(&store, 10).await;
    let claimed: Vec<_> = claims.iter().map(|claim| claim.run.id()).collect();
    assert_eq!(claimed, queued.iter().map(|run| run.id()).collect::<Vec<_>>(), "three runs are due");
    for (claim, run) in claims.iter().zip(&queued) {
        assert!(claim.run.parameters() == run.parameters(), "parameters must come with the claim exactly");
    }
}

/// A running run is interrupted, and executed again under a greater fence. The earlier fence changes nothing.
pub async fn a_running_run_is_executed_again<S: Store>(open: impl AsyncFn() -> S) {
    let store = open().await;
    let webhook = webhook(&store).await;
    enqueue(&store, &webhook).await;
    let before = claim_for(&store, 1, SHORT).await.pop().must("claim a run").run;

    let store = opened_again(store, &open).await;
    // A store may interrupt it when it is opened, or at the end of its lease.
    let after = claim_when_due(&store, LONG).await.pop().must("claim a run").run;
    assert_eq!(after.id(), before.id());
    assert!(after.fence() > before.fence(), "fence {} after fence {}", after.fence(), before.fence());
    assert_eq!((after.interruptions(), after.attempt()), (1, before.attempt() + 1));
    let late = settle(&store, &before, success()).await;
    assert!(matches!(late, Settled::Stale), "the fence of an interrupted execution was taken: {late:?}");
    assert_eq!(applied(settle(&store, &after, success()).await).state(), RunState::Succeeded);
}

/// Ended runs are there with their output and log, are listed, and are not executed again.
pub async fn ended_runs_are_there_again<S: Store>(open: impl AsyncFn() -> S) {
    let store = open().await;
    let webhook = webhook(&store).await;
    let run = running(&store, &webhook).await;
    store.append_log(run.id(), run.fence(), "one\ntwo\n".to_owned()).await.must("append to a log");
    let artifacts = vec![Artifact::new("report.html", "text/html", 7)];
    let ending = Ending::Succeeded { summary: Some("3 rows – ünïcode".to_owned()), artifacts };
    let outcome = Outcome::Ended { ending, deliveries: Vec::new() };
    let succeeded = applied(settle(&store, &run, outcome).await);
    let run = running(&store, &webhook).await;
    let failed = applied(settle(&store, &run, failure()).await);

    let store = opened_again(store, &open).await;
    for run in [&succeeded, &failed] {
        assert_eq!(get(&store, run.id()).await, *run, "an ended run must be as it was");
        let in_its_state = RunQuery::default().in_state(Some(run.state()));
        assert_eq!(list(&store, in_its_state).await, vec![run.id()]);
    }
    assert_eq!(list(&store, RunQuery::default()).await, vec![failed.id(), succeeded.id()]);
    let log = store.read_log(succeeded.id(), 0).await.must("read a log");
    assert_eq!((log.offset, log.text.as_str()), (0, "one\ntwo\n"), "the log of an ended run must be there");
    assert_eq!(claim_ids(&store, 10).await, vec![], "an ended run must not be executed again");
}

/// A key still finds its run, live or ended, and with another request it is still a mismatch.
pub async fn keys_hold_when_opened_again<S: Store>(open: impl AsyncFn() -> S) {
    let store = open().await;
    let webhook = webhook(&store).await;
    let ended = created(store.enqueue(keyed(&webhook, "ended", 1)).await.must("enqueue a run"));
    let run = claim(&store, 1).await.pop().must("claim a run").run;
    applied(settle(&store, &run, success()).await);
    let queued = created(store.enqueue(keyed(&webhook, "queued", 2)).await.must("enqueue a run"));

    let store = opened_again(store, &open).await;
    for (key, fingerprint, run) in [("ended", 1, ended.id()), ("queued", 2, queued.id())] {
        let repeated = store.enqueue(keyed(&webhook, key, fingerprint)).await.must("replay a run");
        let is_replayed = matches!(&repeated, Enqueued::Replayed(found) if found.id() == run);
        assert!(is_replayed, "a key and request from before the opening gave {repeated:?}");
        let other = store.enqueue(keyed(&webhook, key, 9)).await.must("answer a mismatch");
        assert!(matches!(other, Enqueued::KeyMismatch), "another request under one key gave {other:?}");
    }
    assert_eq!(list(&store, RunQuery::default()).await, vec![queued.id(), ended.id()]);
}

/// A key past its time, which a prune has removed, stays free, also where the time of day of its request was ahead.
pub async fn a_removed_key_does_not_come_back<S: Store>(open: impl AsyncFn() -> S) {
    let store = open().await;
    let webhook = webhook(&store).await;
    let request_at = |at| {
        let (workflow, parameters) = (webhook.workflow.clone(), RunParameters::default());
        let run =
            Run::new(RunId::generate(now()), workflow, webhook.id, parameters, 3, Caller::default(), at);
        Enqueue::new(run).with_idempotency(Some(Idempotency::new("key", [1; 32], SHORT)))
    };
    // The life of a key is measured with a monotonic clock.
    let first = created(store.enqueue(request_at(now() + DAY)).await.must("enqueue a run"));
    // Only passing time makes the key free.
    tokio::time::sleep(2 * SHORT).await;
    let pruned = store.prune(PruneRequest::new(now(), 30 * DAY, 100)).await.must("prune");
    assert_eq!(pruned.runs, vec![], "no run has ended");

    let store = opened_again(store, &open).await;
    let second = store.enqueue(request_at(now())).await.must("enqueue a run");
    let is_new = matches!(&second, Enqueued::Created { run, .. } if run.id() != first.id());
    assert!(is_new, "a key that was removed is back: {second:?}");
}

/// Pending deliveries are claimed again, those that wait for their next try later; delivered and given up ones are not.
pub async fn pending_deliveries_are_claimed_again<S: Store>(open: impl AsyncFn() -> S) {
    let store = open().await;
    let webhook = webhook(&store).await;
    let told = delivering(&store, &webhook, 4).await;
    let outcomes = [
        DeliveryOutcome::Delivered,
        DeliveryOutcome::GivenUp { error: "no such address".to_owned() },
        DeliveryOutcome::Retry { error: "busy".to_owned(), delay: LONG, at: now() + LONG },
    ];
    let mut expected = told.clone();
    for (place, outcome) in outcomes.into_iter().enumerate() {
        expected[place] = told[place].after(&outcome);
        settle_delivery(&store, &told[place], outcome).await;
    }

    let store = opened_again(store, &open).await;
    let listed = store.list_deliveries(&[told[0].run]).await.must("list deliveries");
    assert_eq!(listed, expected, "deliveries must be as they were");
    let pending = DeliveryQuery::default().in_state(Some(DeliveryState::Pending));
    assert_eq!(store.find_deliveries(pending).await.must("find deliveries").items.len(), 2);
    assert_eq!(store.health().await.must("tell its health").pending_deliveries, 2);
    let claimed = store.claim_deliveries(DeliveryClaimRequest::new(10, LONG)).await.must("claim deliveries");
    assert_eq!(claimed, vec![told[3].clone()], "one delivery is due");
}

/// A pruned run stays away, with its log, its deliveries and its key.
pub async fn a_pruned_run_stays_away<S: Store>(open: impl AsyncFn() -> S) {
    let store = open().await;
    let webhook = webhook(&store).await;
    created(store.enqueue(keyed(&webhook, "key", 1)).await.must("enqueue a run"));
    let run = claim(&store, 1).await.pop().must("claim a run").run;
    store.append_log(run.id(), run.fence(), "a line\n".to_owned()).await.must("append to a log");
    let told = delivery(run.id(), "a@example.com");
    applied(settle(&store, &run, success_with(vec![told.clone()])).await);
    settle_delivery(&store, &told, DeliveryOutcome::Delivered).await;
    let kept = enqueue(&store, &webhook).await.id();
    let pruned = store.prune(PruneRequest::new(now() + 31 * DAY, 30 * DAY, 100)).await.must("prune");
    assert_eq!(pruned.runs, vec![run.id()]);

    let store = opened_again(store, &open).await;
    assert_eq!(store.get_run(run.id()).await.must("read a run"), None, "a pruned run is back");
    assert_eq!(list(&store, RunQuery::default()).await, vec![kept]);
    assert_eq!(store.read_log(run.id(), 0).await.must("read a log").text, "", "a pruned run has no log");
    assert_eq!(store.list_deliveries(&[run.id()]).await.must("list deliveries"), vec![]);
    let resent = store.resend_delivery(told.id, now()).await;
    assert!(matches!(resent, Err(StoreError::NotFound(_))), "a pruned delivery was resent: {resent:?}");
    let enqueued = store.enqueue(keyed(&webhook, "key", 1)).await.must("enqueue a run");
    assert_ne!(created(enqueued).id(), run.id(), "a key must not stand for a run that is gone");
}

/// Closes a store, drops it, and opens its records again.
async fn opened_again<S: Store>(store: S, open: &impl AsyncFn() -> S) -> S {
    within("the store to close", store.close()).await;
    drop(store);
    open().await
}
