//! Promises about listing runs.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use super::scene::*;
use webhook_core::id::{RunId, WebhookId, WorkflowKey};
use webhook_core::run::RunState;
use webhook_core::store::{RunQuery, Store};
use webhook_core::webhook::{OnOverlap, Webhook, WebhookSettings};

/// Runs are listed newest first under every combination of workflow, webhook and state.
pub async fn runs_are_listed_by_every_combination(store: Arc<dyn Store>) {
    let (webhooks, ids) = populated(&*store).await;
    let workflows = [None, key("report/sales"), key("notebook/sales"), key("report/unknown")];
    let unknown = WebhookId::generate(now());
    let of_webhook: Vec<Option<WebhookId>> =
        webhooks.iter().map(|webhook| Some(webhook.id)).chain([None, Some(unknown)]).collect();
    let states: Vec<Option<RunState>> = RunState::ALL.into_iter().map(Some).chain([None]).collect();
    let mut runs = Vec::new();
    for id in ids.iter().rev() {
        runs.push(get(&*store, *id).await);
    }
    for workflow in &workflows {
        for webhook in &of_webhook {
            for state in &states {
                let query = RunQuery::default()
                    .of_workflow(workflow.clone())
                    .of_webhook(*webhook)
                    .in_state(*state)
                    .limit(3);
                let matching = runs.iter().filter(|run| query.matches(run));
                let expected: Vec<RunId> = matching.map(|run| run.id()).collect();
                assert_eq!(list(&*store, query.clone()).await, expected, "the list of {query:?}");
            }
        }
    }
}

/// A run moves between the lists of states as its state changes.
pub async fn a_run_is_listed_in_its_present_state_only(store: Arc<dyn Store>) {
    let webhook = webhook(&*store).await;
    let id = enqueue(&*store, &webhook).await.id();
    only_listed(&*store, id, RunState::Queued).await;
    let run = claim(&*store, 1).await.remove(0).run;
    only_listed(&*store, id, RunState::Running).await;
    applied(settle(&*store, &run, retry(Duration::ZERO)).await);
    only_listed(&*store, id, RunState::Queued).await;
    let run = claim_when_due(&*store, LONG).await.remove(0).run;
    only_listed(&*store, id, RunState::Running).await;
    applied(settle(&*store, &run, failure()).await);
    only_listed(&*store, id, RunState::Failed).await;
}

/// Pages hold as many items as requested and continue after their cursor; the last page has no cursor.
pub async fn pages_follow_each_other(store: Arc<dyn Store>) {
    let webhook = webhook(&*store).await;
    let mut ids = enqueue_many(&*store, &webhook, 10).await;
    ids.reverse();
    for limit in [1, 3, 5, 9, 10, 11, 200] {
        assert_eq!(list(&*store, RunQuery::default().limit(limit)).await, ids, "pages of {limit}");
    }
    let page = store.list_runs(RunQuery::default().limit(4)).await.must("list runs");
    assert_eq!((page.items.len(), page.next), (4, Some(ids[3])), "a page's cursor is its last item");
    let later = RunQuery::default().before(Some(ids[8])).limit(4);
    let page = store.list_runs(later).await.must("list runs");
    assert_eq!((page.items.len(), page.next), (1, None), "what is left after the ninth of ten");
}

/// A walk over all pages returns every run that matches throughout exactly once, while others are added and
/// change.
pub async fn listing_is_stable_while_runs_change(store: Arc<dyn Store>) {
    let webhook = webhook(&*store).await;
    let mut there = Vec::new();
    for _ in 0..20 {
        there.push(succeeded(&*store, &webhook).await);
    }
    let waiting = enqueue_many(&*store, &webhook, 20).await;
    for (state, stays) in [(None, [there.clone(), waiting].concat()), (Some(RunState::Succeeded), there)] {
        let (mut seen, mut before) = (Vec::new(), None);
        loop {
            let query = RunQuery::default().in_state(state).before(before).limit(6);
            let page = store.list_runs(query).await.must("list runs");
            seen.extend(page.items.iter().map(|run| run.id()));
            before = page.next;
            if before.is_none() {
                break;
            }
            enqueue_many(&*store, &webhook, 2).await;
            let claims = claim(&*store, 2).await;
            applied(settle(&*store, &claims[0].run, success()).await);
            applied(settle(&*store, &claims[1].run, failure()).await);
        }
        assert_newest_first(&seen);
        for id in stays {
            assert!(seen.contains(&id), "run {id} matched throughout a walk in {state:?} and was not seen");
        }
    }
}

/// A walk is also stable with writers that do not wait for the reader.
pub async fn listing_is_stable_under_concurrent_writers(store: Arc<dyn Store>) {
    let webhook = webhook(&*store).await;
    let mut there = Vec::new();
    for _ in 0..30 {
        there.push(succeeded(&*store, &webhook).await);
    }
    let writer = tokio::spawn({
        let (store, webhook) = (store.clone(), webhook.clone());
        async move {
            loop {
                succeeded(&*store, &webhook).await;
                tokio::task::yield_now().await;
            }
        }
    });
    for _ in 0..5 {
        let (mut seen, mut before) = (Vec::new(), None);
        // The writer may add runs faster than pages are read, but they are newer than the position of the
        // walk.
        loop {
            let query = RunQuery::default().in_state(Some(RunState::Succeeded)).before(before).limit(7);
            let page = store.list_runs(query).await.must("list runs");
            seen.extend(page.items.iter().map(|run| run.id()));
            before = page.next;
            if before.is_none() {
                break;
            }
        }
        assert_newest_first(&seen);
        let missing: Vec<&RunId> = there.iter().filter(|id| !seen.contains(id)).collect();
        assert!(missing.is_empty(), "runs that were there throughout were not seen: {missing:?}");
    }
    writer.abort();
}

/// Creates webhooks of two workflows with runs in every state. Returns both, the runs oldest first.
async fn populated(store: &dyn Store) -> (Vec<Webhook>, Vec<RunId>) {
    let skipping = concurrency(Some(1), OnOverlap::Skip);
    let webhooks = vec![
        recorded(store, webhook_for("report/sales", WebhookSettings::default())).await,
        recorded(store, webhook_for("report/sales", WebhookSettings::default())).await,
        recorded(store, webhook_for("notebook/sales", WebhookSettings::default())).await,
        recorded(store, webhook_for("report/sales", skipping)).await,
    ];
    let mut ids = Vec::new();
    for webhook in &webhooks[..3] {
        for outcome in [success(), failure(), success()] {
            let run = running(store, webhook).await;
            ids.push(run.id());
            applied(settle(store, &run, outcome).await);
        }
        let cancelled = enqueue(store, webhook).await.id();
        store.cancel_run(cancelled, now()).await.must("cancel a run");
        ids.extend([cancelled, running(store, webhook).await.id()]);
    }
    ids.extend(enqueue_many(store, &webhooks[3], 3).await);
    for webhook in &webhooks[..3] {
        ids.extend(enqueue_many(store, webhook, 2).await);
    }
    (webhooks, ids)
}

fn key(text: &str) -> Option<WorkflowKey> {
    text.parse().ok()
}

async fn only_listed(store: &dyn Store, id: RunId, present: RunState) {
    let mut found = BTreeMap::new();
    for state in RunState::ALL {
        found.insert(state, list(store, RunQuery::default().in_state(Some(state))).await);
    }
    for (state, ids) in found {
        let expected = if state == present { vec![id] } else { vec![] };
        assert_eq!(ids, expected, "a run that is {present:?} in the list of {state:?}");
    }
}
