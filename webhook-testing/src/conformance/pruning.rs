//! Promises about removing expired runs.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use super::scene::*;
use webhook_core::id::RunId;
use webhook_core::notifier::DeliveryOutcome;
use webhook_core::run::RunState;
use webhook_core::store::{Enqueued, Outcome, PruneRequest, RunQuery, Store, StoreError};
use webhook_core::webhook::WebhookSettings;

const DAY: Duration = Duration::from_secs(86_400);

/// Ended runs are removed when their retention has expired, and not before.
pub async fn ended_runs_go_after_their_retention(store: Arc<dyn Store>) {
    let webhook = webhook(&*store).await;
    let ended = now();
    let old = succeeded_at(&*store, &webhook, ended).await;
    let young = succeeded_at(&*store, &webhook, ended + 5 * DAY).await;
    assert_eq!(pruned(&*store, days(ended + 29 * DAY, 30)).await, BTreeSet::new());
    assert_eq!(pruned(&*store, days(ended + 31 * DAY, 30)).await, BTreeSet::from([old]));
    assert_eq!(store.get_run(old).await.must("read a run"), None, "a pruned run must be gone");
    assert_eq!(list(&*store, RunQuery::default()).await, vec![young]);
    for state in RunState::ALL {
        let query = RunQuery::default().of_webhook(Some(webhook.id)).in_state(Some(state));
        let expected = if state == RunState::Succeeded { vec![young] } else { vec![] };
        assert_eq!(list(&*store, query).await, expected, "a pruned run must be in no list");
    }
    let cancelled = store.cancel_run(old, now()).await;
    assert!(matches!(cancelled, Err(StoreError::NotFound(_))), "a pruned run was cancelled: {cancelled:?}");
}

/// A webhook's own retention applies; the runs of a deleted webhook are kept for the default.
pub async fn each_webhooks_own_retention_counts(store: Arc<dyn Store>) {
    let keeping = |days| {
        let mut settings = WebhookSettings::default();
        settings.retention_days = days;
        settings
    };
    let default = recorded(&*store, webhook_for("report/sales", keeping(None))).await;
    let short = recorded(&*store, webhook_for("report/sales", keeping(Some(1)))).await;
    let long = recorded(&*store, webhook_for("report/sales", keeping(Some(90)))).await;
    let deleted = recorded(&*store, webhook_for("report/sales", keeping(Some(1)))).await;
    let ended = now();
    let of_default = succeeded_at(&*store, &default, ended).await;
    let of_short = succeeded_at(&*store, &short, ended).await;
    let of_long = succeeded_at(&*store, &long, ended).await;
    let of_deleted = succeeded_at(&*store, &deleted, ended).await;
    store.delete_webhook(deleted.id, None, now()).await.must("delete a webhook");
    assert_eq!(pruned(&*store, days(ended + 2 * DAY, 30)).await, BTreeSet::from([of_short]));
    let expected = BTreeSet::from([of_default, of_deleted]);
    assert_eq!(pruned(&*store, days(ended + 31 * DAY, 30)).await, expected);
    assert_eq!(pruned(&*store, days(ended + 91 * DAY, 30)).await, BTreeSet::from([of_long]));
}

/// Of each webhook's ended runs, at most `keep_per_webhook` are kept, the newest.
pub async fn the_newest_ended_runs_of_each_webhook_are_kept(store: Arc<dyn Store>) {
    let (many, few) = (webhook(&*store).await, webhook(&*store).await);
    let ended = now();
    let mut of_many = Vec::new();
    for step in 0..6 {
        of_many.push(succeeded_at(&*store, &many, ended + Duration::from_secs(step)).await);
    }
    let of_few = succeeded_at(&*store, &few, ended).await;
    let waiting = enqueue(&*store, &many).await.id();
    let request = days(ended + DAY, 30).with_keep_per_webhook(Some(2));
    assert_eq!(pruned(&*store, request).await, BTreeSet::from_iter(of_many[..4].iter().copied()));
    assert_eq!(list(&*store, RunQuery::default()).await, vec![waiting, of_few, of_many[5], of_many[4]]);
}

/// A prune removes at most `limit` runs, and says whether there may be more.
pub async fn a_prune_is_bounded(store: Arc<dyn Store>) {
    let webhook = webhook(&*store).await;
    let ended = now();
    let mut all = BTreeSet::new();
    for _ in 0..7 {
        all.insert(succeeded_at(&*store, &webhook, ended).await);
    }
    let request = PruneRequest::new(ended + 31 * DAY, 30 * DAY, 3);
    let first = store.prune(request).await.must("prune");
    assert_eq!((first.runs.len(), first.more), (3, true), "three of seven, and there are more");
    let mut removed = BTreeSet::from_iter(first.runs);
    removed.extend(pruned(&*store, request).await);
    assert_eq!(removed, all, "repeated prunes must remove everything once");
}

/// A run that is queued or running is never removed, however old it is.
pub async fn a_live_run_is_never_pruned(store: Arc<dyn Store>) {
    let webhook = webhook(&*store).await;
    let running = running(&*store, &webhook).await;
    let retrying = super::scene::running(&*store, &webhook).await;
    applied(settle(&*store, &retrying, retry(LONG)).await);
    let waiting = enqueue(&*store, &webhook).await;
    let request = days(now() + 3_650 * DAY, 1).with_keep_per_webhook(Some(0));
    assert_eq!(pruned(&*store, request).await, BTreeSet::new(), "no live run may be pruned");
    assert_eq!(list(&*store, RunQuery::default()).await, vec![waiting.id(), retrying.id(), running.id()]);
    assert_eq!(applied(settle(&*store, &running, success()).await).state(), RunState::Succeeded);
    assert_eq!(claim_ids(&*store, 10).await, vec![waiting.id()]);
}

/// A pruned run's log, deliveries and idempotency key are removed with it.
pub async fn nothing_of_a_pruned_run_is_left(store: Arc<dyn Store>) {
    let webhook = webhook(&*store).await;
    created(store.enqueue(keyed(&webhook, "key", 1)).await.must("enqueue a run"));
    let run = claim(&*store, 1).await.remove(0).run;
    store.append_log(run.id(), run.fence(), "a line\n".to_owned()).await.must("append to a log");
    let told = delivery(run.id(), "a@example.com");
    applied(settle(&*store, &run, success_with(vec![told.clone()])).await);
    settle_delivery(&*store, &told, DeliveryOutcome::Delivered).await;
    assert_eq!(pruned(&*store, days(now() + 31 * DAY, 30)).await, BTreeSet::from([run.id()]));

    assert_eq!(store.read_log(run.id(), 0).await.must("read a log").text, "", "a pruned run has no log");
    assert_eq!(store.list_deliveries(&[run.id()]).await.must("list deliveries"), vec![]);
    let resent = store.resend_delivery(told.id, now()).await;
    assert!(matches!(resent, Err(StoreError::NotFound(_))), "a pruned delivery was resent: {resent:?}");
    let enqueued = store.enqueue(keyed(&webhook, "key", 1)).await.must("enqueue a run");
    assert_ne!(created(enqueued).id(), run.id(), "a key must not stand for a run that is gone");
}

/// A run stays as long as one of its deliveries is pending.
pub async fn a_run_with_a_pending_delivery_stays(store: Arc<dyn Store>) {
    let webhook = webhook(&*store).await;
    let run = running(&*store, &webhook).await;
    let deliveries = vec![delivery(run.id(), "a@example.com"), delivery(run.id(), "b@example.com")];
    applied(settle(&*store, &run, success_with(deliveries.clone())).await);
    let request = days(now() + 31 * DAY, 30).with_keep_per_webhook(Some(0));
    assert_eq!(pruned(&*store, request).await, BTreeSet::new(), "two deliveries are pending");
    settle_delivery(&*store, &deliveries[0], DeliveryOutcome::Delivered).await;
    assert_eq!(pruned(&*store, request).await, BTreeSet::new(), "one delivery is pending");
    let given_up = DeliveryOutcome::GivenUp { error: "no such address".to_owned() };
    settle_delivery(&*store, &deliveries[1], given_up).await;
    assert_eq!(pruned(&*store, request).await, BTreeSet::from([run.id()]));
}

/// A run stays as long as its idempotency key is valid.
pub async fn a_run_whose_key_is_kept_is_not_pruned(store: Arc<dyn Store>) {
    let webhook = webhook(&*store).await;
    let queued = created(store.enqueue(keyed(&webhook, "key", 1)).await.must("enqueue a run"));
    let run = claim(&*store, 1).await.remove(0).run;
    applied(settle(&*store, &run, success()).await);
    let plain = succeeded(&*store, &webhook).await;
    let at = |now| days(now, 30).with_keep_per_webhook(Some(0));
    assert_eq!(pruned(&*store, at(now())).await, BTreeSet::from([plain]), "a run was pruned before its key");
    let repeated = store.enqueue(keyed(&webhook, "key", 1)).await.must("enqueue a run");
    assert!(
        matches!(&repeated, Enqueued::Replayed(run) if run.id() == queued.id()),
        "the key gave {repeated:?}"
    );
    let later = now() + Duration::from_secs(7_200);
    assert_eq!(pruned(&*store, at(later)).await, BTreeSet::from([run.id()]), "its key is past its time");
}

/// Runs with every ending are pruned alike.
pub async fn every_ending_is_pruned(store: Arc<dyn Store>) {
    let webhook = webhook(&*store).await;
    let mut all = BTreeSet::from([succeeded(&*store, &webhook).await]);
    let failed = running(&*store, &webhook).await;
    all.insert(applied(settle(&*store, &failed, failure()).await).id());
    let waiting = enqueue(&*store, &webhook).await.id();
    store.cancel_run(waiting, now()).await.must("cancel a run");
    all.insert(waiting);
    let handed_back = running(&*store, &webhook).await;
    store.cancel_run(handed_back.id(), now()).await.must("cancel a run");
    all.insert(applied(settle(&*store, &handed_back, Outcome::HandBack).await).id());
    let skipping = bounded(&*store, 1, webhook_core::webhook::OnOverlap::Skip).await;
    let live = enqueue(&*store, &skipping).await.id();
    all.insert(enqueue(&*store, &skipping).await.id());
    assert_eq!(pruned(&*store, days(now() + 31 * DAY, 30)).await, all);
    assert_eq!(list(&*store, RunQuery::default()).await, vec![live]);
}

fn days(now: SystemTime, keep: u32) -> PruneRequest {
    PruneRequest::new(now, keep * DAY, 100)
}

/// Prunes until there is nothing more to remove.
async fn pruned(store: &dyn Store, request: PruneRequest) -> BTreeSet<RunId> {
    let mut removed = BTreeSet::new();
    for _ in 0..20 {
        let pruned = store.prune(request).await.must("prune");
        assert!(pruned.runs.len() <= request.limit, "a prune must keep to its limit");
        for id in pruned.runs {
            assert!(removed.insert(id), "run {id} was removed twice");
        }
        if !pruned.more {
            return removed;
        }
    }
    panic!("a prune said there was more to remove, and there was no end to it");
}
