//! Promises about webhooks.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use super::scene::*;
use webhook_core::id::{WebhookId, WorkflowKey};
use webhook_core::run::RunState;
use webhook_core::secret::Secret;
use webhook_core::store::{Renewal, Renewed, RunQuery, Store, StoreError, WebhookQuery};
use webhook_core::token::{Token, TokenKey, TokenKeys};
use webhook_core::webhook::{Email, EventKind, OnOverlap, RateLimit, Webhook, WebhookSettings};

/// A webhook is read back as it was created, by its id and by its token's digest.
pub async fn a_created_webhook_is_found_by_id_and_by_digest(store: Arc<dyn Store>) {
    let mut settings = concurrency(Some(3), OnOverlap::Coalesce);
    settings.label = Some("continuous integration – Ωmega".to_owned());
    settings.timeout = Some(Duration::from_millis(1_500));
    settings.rate_limit = Some(RateLimit::new(60, 10));
    settings.retention_days = Some(7);
    settings.notifications.email =
        Some(Email::new(vec!["a@example.com".to_owned()], vec![EventKind::Failure]));
    let sender = serde_json::json!({
        "verification": {"scheme": "hmac", "algorithm": "sha512", "header": "X-Signature", "encoding": "base64"},
        "idempotency_from": {"from": "body", "pointer": "/id"}, "allowed_networks": ["192.0.2.0/24", "2001:db8::/32"],
        "conditions": {"all": [
            {"from": "header", "name": "X-Event", "op": "one_of", "value": ["push", "tag"]},
            {"from": "body", "pointer": "/ref", "op": "matches", "value": "^refs/"},
            {"from": "query", "name": "test", "op": "exists", "value": false},
        ]},
        "mapping": [
            {"parameter": "region", "from": "body", "pointer": "/a~1b/0", "default": {"none": [1.5, null]}},
            {"parameter": "all", "from": "raw_body"},
        ],
        "pass_through": "declared", "fixed": {"currency": "€", "rows": u64::MAX}, "answer": {"status": 204},
    });
    let settings = settings.patched(&sender).must("set the settings of a sender");
    let keys = TokenKeys::new(TokenKey::generate());
    let mut webhook = webhook_for("report/sales", settings);
    let secret = Secret::new("secret-for-tests").must("make a secret");
    for _ in 0..2 {
        webhook.secrets.add(&secret, webhook.id, &keys, now()).must("seal a secret");
    }
    let webhook = recorded(&*store, webhook.with_verify_token(Some(&secret), &keys)).await;
    let by_id = store.get_webhook(webhook.id).await.must("get a webhook");
    assert_eq!(by_id.as_deref(), Some(&webhook), "a webhook must be read back as it was created");
    let by_digest = store.find_webhook(&webhook.token_digest).await.must("find a webhook");
    assert_eq!(by_digest.as_deref(), Some(&webhook), "a token's digest must find its webhook");
    let unknown = webhook_for("report/sales", WebhookSettings::default());
    assert_eq!(store.get_webhook(unknown.id).await.must("get a webhook"), None);
    assert_eq!(store.find_webhook(&unknown.token_digest).await.must("find a webhook"), None);
}

/// Creating a webhook whose id or token digest is taken conflicts and changes nothing.
pub async fn creating_what_exists_conflicts(store: Arc<dyn Store>) {
    let token = Token::generate();
    let first = recorded(&*store, webhook_with("report/sales", WebhookSettings::default(), &token)).await;
    let mut same_id = webhook_for("report/other", WebhookSettings::default());
    same_id.id = first.id;
    let result = store.create_webhook(same_id.clone()).await;
    assert!(matches!(result, Err(StoreError::Conflict(_))), "a taken id must conflict: {result:?}");
    let same_digest = webhook_with("report/other", WebhookSettings::default(), &token);
    let result = store.create_webhook(same_digest.clone()).await;
    assert!(matches!(result, Err(StoreError::Conflict(_))), "a taken digest must conflict: {result:?}");

    let kept = store.get_webhook(first.id).await.must("get a webhook");
    assert_eq!(kept.as_deref(), Some(&first), "a conflict must overwrite nothing");
    let found = store.find_webhook(&first.token_digest).await.must("find a webhook");
    assert_eq!(found.as_deref(), Some(&first), "a conflict must not move a digest");
    assert_eq!(store.get_webhook(same_digest.id).await.must("get a webhook"), None);
    assert_eq!(store.find_webhook(&same_id.token_digest).await.must("find a webhook"), None);
}

/// An update requires the stored revision and an existing webhook; otherwise it changes nothing.
pub async fn an_update_demands_the_expected_revision(store: Arc<dyn Store>) {
    let webhook = webhook(&*store).await;
    let second = webhook.with_settings(concurrency(Some(2), OnOverlap::Queue), now());
    store.update_webhook(second.clone(), 1).await.must("update a webhook");
    let stale = webhook.with_settings(concurrency(Some(9), OnOverlap::Skip), now());
    for expected in [1, 3] {
        let result = store.update_webhook(stale.clone(), expected).await;
        let conflicts = matches!(result, Err(StoreError::Conflict(_)));
        assert!(conflicts, "revision {expected} is not the stored one, but: {result:?}");
    }
    let stored = store.get_webhook(webhook.id).await.must("get a webhook");
    assert_eq!(stored.as_deref(), Some(&second), "a refused update must change nothing");
    let unknown = webhook_for("report/sales", WebhookSettings::default());
    let result = store.update_webhook(unknown.clone(), 1).await;
    assert!(matches!(result, Err(StoreError::NotFound(_))), "an unknown webhook was updated: {result:?}");
    assert_eq!(store.get_webhook(unknown.id).await.must("get a webhook"), None);
}

/// Of several concurrent updates of the same revision, exactly one succeeds.
pub async fn of_updates_at_once_one_wins(store: Arc<dyn Store>) {
    let webhook = webhook(&*store).await;
    let mut updates = tokio::task::JoinSet::new();
    for max in 1..=8 {
        let (store, settings) = (store.clone(), concurrency(Some(max), OnOverlap::Queue));
        let next = webhook.with_settings(settings, now());
        updates.spawn(async move { (store.update_webhook(next.clone(), 1).await, next) });
    }
    let mut winners = Vec::new();
    for (result, next) in updates.join_all().await {
        match result {
            Ok(()) => winners.push(next),
            Err(StoreError::Conflict(_)) => {}
            Err(error) => panic!("an update at once with others must win or conflict: {error:?}"),
        }
    }
    assert_eq!(winners.len(), 1, "exactly one of eight updates of one revision must win");
    let stored = store.get_webhook(webhook.id).await.must("get a webhook");
    assert_eq!(stored.as_deref(), winners.first(), "the stored webhook must be the winner's");
}

/// An update that would take another webhook's token digest conflicts and changes nothing.
pub async fn an_update_cannot_take_anothers_digest(store: Arc<dyn Store>) {
    let token = Token::generate();
    let holder = recorded(&*store, webhook_with("report/sales", WebhookSettings::default(), &token)).await;
    let other = webhook(&*store).await;
    let result = store.update_webhook(other.with_token(&token, None, now()), 1).await;
    assert!(matches!(result, Err(StoreError::Conflict(_))), "a taken digest must conflict: {result:?}");
    for expected in [&holder, &other] {
        let found = store.find_webhook(&expected.token_digest).await.must("find a webhook");
        assert_eq!(found.as_deref(), Some(expected), "a refused update must change nothing");
    }
}

/// Once a token was replaced, the old digest finds nothing and may be used again.
pub async fn a_replaced_token_finds_nothing(store: Arc<dyn Store>) {
    let (old, new) = (Token::generate(), Token::generate());
    let first = recorded(&*store, webhook_with("report/sales", WebhookSettings::default(), &old)).await;
    let refreshed = first.with_token(&new, None, now());
    store.update_webhook(refreshed.clone(), 1).await.must("update a webhook");
    let by_old = store.find_webhook(&old.digest()).await.must("find a webhook");
    assert_eq!(by_old, None, "a replaced token must find nothing");
    let by_new = store.find_webhook(&new.digest()).await.must("find a webhook");
    assert_eq!(by_new.as_deref(), Some(&refreshed), "the new token must find its webhook");
    recorded(&*store, webhook_with("report/sales", WebhookSettings::default(), &old)).await;
}

/// An update leaves `last_used_at` as it is stored.
pub async fn an_update_leaves_the_last_use_alone(store: Arc<dyn Store>) {
    let webhook = webhook(&*store).await;
    let used = now();
    store.record_use(&[(webhook.id, used)]).await.must("record a use");
    let mut next = webhook.with_settings(WebhookSettings::default(), now());
    next.last_used_at = Some(used + Duration::from_secs(60));
    store.update_webhook(next, 1).await.must("update a webhook");
    let stored = store.get_webhook(webhook.id).await.must("get a webhook").must("keep a webhook");
    assert_eq!(stored.last_used_at, Some(used), "an update must not touch when a webhook was last used");
    assert_eq!(stored.revision, 2);
}

/// Uses only advance `last_used_at`, change no revision, and ignore unknown webhooks.
pub async fn uses_move_forward_only(store: Arc<dyn Store>) {
    let webhook = webhook(&*store).await;
    let unknown = webhook_for("report/sales", WebhookSettings::default());
    let (earlier, later) = (now(), now() + Duration::from_secs(5));
    store.record_use(&[(unknown.id, later), (webhook.id, later)]).await.must("record uses");
    store.record_use(&[(webhook.id, earlier)]).await.must("record a use");
    let stored = store.get_webhook(webhook.id).await.must("get a webhook").must("keep a webhook");
    assert_eq!(stored.last_used_at, Some(later), "an earlier use must change nothing");
    assert_eq!(
        (stored.revision, stored.updated_at),
        (1, webhook.updated_at),
        "a use is no change of settings"
    );
    assert_eq!(store.get_webhook(unknown.id).await.must("get a webhook"), None);
    let next = webhook.with_settings(WebhookSettings::default(), now());
    store.update_webhook(next, 1).await.must("update a webhook after it was used");
}

/// New settings apply to every claim after the update, even if a call read the older ones before it.
pub async fn new_settings_hold_for_later_claims(store: Arc<dyn Store>) {
    let first = webhook(&*store).await;
    enqueue_many(&*store, &first, 3).await;
    let second = first.with_settings(concurrency(Some(1), OnOverlap::Queue), now());
    store.update_webhook(second.clone(), 1).await.must("update a webhook");
    enqueue(&*store, &first).await;
    assert_eq!(claim(&*store, 10).await.len(), 1, "a new bound of one run must hold for later claims");
    let third = second.with_settings(concurrency(Some(3), OnOverlap::Queue), now());
    store.update_webhook(third, 2).await.must("update a webhook");
    assert_eq!(claim(&*store, 10).await.len(), 2, "a raised bound must let two more runs start");
}

/// A deleted webhook is gone, and deleting it again finds nothing.
pub async fn a_deleted_webhook_is_gone(store: Arc<dyn Store>) {
    let (gone, kept) = (webhook(&*store).await, webhook(&*store).await);
    assert_eq!(store.delete_webhook(gone.id, None, now()).await.must("delete a webhook"), vec![]);
    assert_eq!(store.get_webhook(gone.id).await.must("get a webhook"), None);
    assert_eq!(store.find_webhook(&gone.token_digest).await.must("find a webhook"), None);
    assert_eq!(listed(&*store, None, 10).await, vec![kept.id]);
    let again = store.delete_webhook(gone.id, None, now()).await;
    assert!(matches!(again, Err(StoreError::NotFound(_))), "it was deleted twice: {again:?}");
    let refused = store.enqueue(request(&gone)).await;
    assert!(matches!(refused, Err(StoreError::NotFound(_))), "a deleted webhook took a run: {refused:?}");
}

/// A deletion with an expected revision requires the stored one; otherwise it changes nothing.
pub async fn a_deletion_demands_the_expected_revision(store: Arc<dyn Store>) {
    let first = webhook(&*store).await;
    let second = first.with_settings(WebhookSettings::default(), now());
    store.update_webhook(second.clone(), 1).await.must("update a webhook");
    let waiting = enqueue(&*store, &second).await.id();
    for expected in [1, 3] {
        let result = store.delete_webhook(first.id, Some(expected), now()).await;
        let conflicts = matches!(result, Err(StoreError::Conflict(_)));
        assert!(conflicts, "revision {expected} is not the stored one, but: {result:?}");
    }
    let stored = store.get_webhook(first.id).await.must("get a webhook");
    assert_eq!(stored.as_deref(), Some(&second), "a refused deletion must change nothing");
    assert_eq!(state(&*store, waiting).await, RunState::Queued, "a refused deletion must cancel nothing");
    let cancelled = store.delete_webhook(first.id, Some(2), now()).await.must("delete a webhook");
    assert_eq!(cancelled, vec![waiting]);
    assert_eq!(store.get_webhook(first.id).await.must("get a webhook"), None);
    let again = store.delete_webhook(first.id, Some(2), now()).await;
    assert!(matches!(again, Err(StoreError::NotFound(_))), "it was deleted twice: {again:?}");
}

/// Of an update and a deletion that expect the same revision, exactly one succeeds.
pub async fn of_an_update_and_a_deletion_at_once_one_wins(store: Arc<dyn Store>) {
    for _ in 0..8 {
        let webhook = webhook(&*store).await;
        let next = webhook.with_settings(concurrency(Some(1), OnOverlap::Queue), now());
        let (updated, deleted) = tokio::join!(
            tokio::spawn({
                let store = store.clone();
                async move { store.update_webhook(next, 1).await }
            }),
            tokio::spawn({
                let store = store.clone();
                async move { store.delete_webhook(webhook.id, Some(1), now()).await }
            }),
        );
        let outcome = (updated.must("update at once"), deleted.must("delete at once"));
        let stored = store.get_webhook(webhook.id).await.must("get a webhook");
        match outcome {
            (Ok(()), Err(StoreError::Conflict(_))) => assert!(stored.is_some(), "the update won"),
            (Err(StoreError::NotFound(_)), Ok(_)) => assert!(stored.is_none(), "the deletion won"),
            other => panic!("an update and a deletion of one revision gave {other:?}"),
        }
    }
}

/// Deleting a webhook cancels its queued runs, lets the running ones continue without a retry, and keeps its
/// history.
pub async fn deleting_a_webhook_cancels_what_waits_and_keeps_what_was(store: Arc<dyn Store>) {
    let (webhook, other) = (webhook(&*store).await, webhook(&*store).await);
    let ended = succeeded(&*store, &webhook).await;
    let (first, second) = (running(&*store, &webhook).await, running(&*store, &webhook).await);
    let waiting = enqueue_many(&*store, &webhook, 2).await;
    let others = enqueue(&*store, &other).await.id();

    let deleted_at = now();
    let mut cancelled = store.delete_webhook(webhook.id, None, deleted_at).await.must("delete a webhook");
    cancelled.sort_unstable();
    assert_eq!(cancelled, waiting, "deleting must cancel the queued runs and answer them");
    for id in &waiting {
        let run = get(&*store, *id).await;
        assert_eq!((run.state(), run.finished_at()), (RunState::Cancelled, Some(deleted_at)));
    }
    assert_eq!(state(&*store, ended).await, RunState::Succeeded, "deleting must keep the history");
    let history = list(&*store, RunQuery::default().of_webhook(Some(webhook.id))).await;
    assert_eq!(history.len(), 5, "the runs of a deleted webhook must stay listed");

    let renewal = Renewal::new(first.id(), first.fence(), None);
    let renewed = store.renew(vec![renewal], LONG).await.must("renew a claim");
    assert_eq!(renewed, vec![Renewed::Held { cancel: None }], "running runs of a deleted webhook must go on");
    let run = applied(settle(&*store, &first, retry(Duration::ZERO)).await);
    assert_eq!(
        run.state(),
        RunState::Failed,
        "a run of a deleted webhook must fail instead of being retried"
    );
    assert_eq!(applied(settle(&*store, &second, success()).await).state(), RunState::Succeeded);
    assert_eq!(claim_ids(&*store, 10).await, vec![others], "only the other webhook's run is left to claim");
}

/// A running run of a deleted webhook that is handed back or interrupted is cancelled: it is not executed again.
pub async fn a_run_of_a_deleted_webhook_is_not_executed_again(store: Arc<dyn Store>) {
    let webhook = webhook(&*store).await;
    enqueue_many(&*store, &webhook, 2).await;
    let handed_back = claim(&*store, 1).await.remove(0);
    assert_eq!(handed_back.webhook.as_deref(), Some(&webhook), "a claim must carry its webhook");
    let interrupted = claim_for(&*store, 1, SHORT).await.remove(0).run;
    store.delete_webhook(webhook.id, None, now()).await.must("delete a webhook");
    let run = applied(settle(&*store, &handed_back.run, webhook_core::store::Outcome::HandBack).await);
    assert_eq!(run.state(), RunState::Cancelled, "what is handed back must be cancelled");
    within("an interrupted run to be cancelled", async {
        while state(&*store, interrupted.id()).await != RunState::Cancelled {
            assert!(claim(&*store, 9).await.is_empty(), "a run of a deleted webhook must not be claimed");
            tokio::time::sleep(SHORT / 4).await;
        }
    })
    .await;
}

/// Webhooks are listed newest first, by workflow if requested, and no page exceeds its limit.
pub async fn webhooks_are_listed_newest_first_and_by_workflow(store: Arc<dyn Store>) {
    let mut of_sales = Vec::new();
    let mut all = Vec::new();
    for number in 0..7 {
        let workflow = if number % 2 == 0 { "report/sales" } else { "notebook/sales" };
        let webhook = recorded(&*store, webhook_for(workflow, WebhookSettings::default())).await;
        all.insert(0, webhook.id);
        if number % 2 == 0 {
            of_sales.insert(0, webhook.id);
        }
    }
    assert_eq!(listed(&*store, None, 3).await, all);
    assert_eq!(listed(&*store, Some("report/sales"), 2).await, of_sales);
    assert_eq!(listed(&*store, Some("report/unknown"), 2).await, vec![]);
}

/// A walk over the pages of webhooks returns each that existed throughout exactly once, while others are
/// created and deleted.
pub async fn listing_webhooks_is_stable_while_they_change(store: Arc<dyn Store>) {
    let mut there = Vec::new();
    for _ in 0..12 {
        there.push(webhook(&*store).await);
    }
    let gone: Vec<Webhook> = there.iter().step_by(4).cloned().collect();
    let (mut seen, mut before) = (Vec::new(), None);
    for round in 0.. {
        let query = WebhookQuery::default().before(before).limit(3);
        let page = store.list_webhooks(query).await.must("list webhooks");
        seen.extend(page.items.iter().map(|webhook| webhook.id));
        webhook(&*store).await;
        if let Some(gone) = gone.get(round) {
            store.delete_webhook(gone.id, None, now()).await.must("delete a webhook");
        }
        before = page.next;
        if before.is_none() {
            break;
        }
    }
    assert_newest_first(&seen);
    let gone: BTreeSet<WebhookId> = gone.iter().map(|webhook| webhook.id).collect();
    let stayed = there.iter().map(|webhook| webhook.id).filter(|id| !gone.contains(id));
    for id in stayed {
        assert!(seen.contains(&id), "webhook {id} was there throughout the walk and was not seen");
    }
}

async fn listed(store: &dyn Store, workflow: Option<&str>, limit: usize) -> Vec<WebhookId> {
    let mut query = WebhookQuery::default().limit(limit);
    if let Some(workflow) = workflow {
        let key: WorkflowKey = workflow.parse().must("read a workflow key");
        query = query.of_workflow(key);
    }
    let mut ids = Vec::new();
    loop {
        let page = store.list_webhooks(query.clone()).await.must("list webhooks");
        assert!(page.items.len() <= limit, "a page of at most {limit} webhooks had {}", page.items.len());
        ids.extend(page.items.iter().map(|webhook| webhook.id));
        match page.next {
            Some(next) => query = query.before(Some(next)),
            None => return ids,
        }
    }
}
