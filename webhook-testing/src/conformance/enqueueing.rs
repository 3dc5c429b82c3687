//! Promises about recording runs: visibility, idempotency keys and queue limits.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use serde_json::json;

use super::scene::*;
use webhook_core::id::RunId;
use webhook_core::parameters::{EffectiveParameter, EffectiveParameters, Source};
use webhook_core::run::{Artifact, Caller, Ending, Run, RunParameters, RunState};
use webhook_core::store::{Enqueue, Enqueued, Idempotency, Outcome, RunQuery, Store, StoreError};
use webhook_core::token::Token;
use webhook_core::webhook::WebhookSettings;

/// A recorded run can be read, listed and claimed at once, exactly as it was given.
pub async fn an_enqueued_run_is_there_at_once(store: Arc<dyn Store>) {
    let webhook = webhook(&*store).await;
    let mut caller = Caller::default();
    caller.method = "POST".into();
    caller.address = Some(std::net::Ipv4Addr::LOCALHOST.into());
    caller.user_agent = Some("curl/8 – ünïcode".to_owned());
    let (workflow, parameters) = (webhook.workflow.clone(), RunParameters::default());
    let run = Run::new(RunId::generate(now()), workflow, webhook.id, parameters, 3, caller, now())
        .with_retried_from(RunId::generate(now()));
    let created = created(store.enqueue(Enqueue::new(run.clone())).await.must("enqueue a run"));
    assert_eq!(*created, run, "a created run must be the one that was given");
    assert_eq!(*get(&*store, run.id()).await, run, "a run must be read back as it was given");
    assert_eq!(list(&*store, RunQuery::default()).await, vec![run.id()]);
    assert_eq!(claim_ids(&*store, 1).await, vec![run.id()]);
}

/// A run of an unknown webhook is refused and not recorded.
pub async fn a_run_needs_its_webhook(store: Arc<dyn Store>) {
    let unknown = webhook_for("report/sales", Default::default());
    let request = request(&unknown);
    let id = request.run.id();
    let result = store.enqueue(request).await;
    assert!(matches!(result, Err(StoreError::NotFound(_))), "an unknown webhook took a run: {result:?}");
    assert_eq!(store.get_run(id).await.must("read a run"), None);
}

/// After a token was replaced, a call with the old token neither starts nor finds a run; the new token and
/// manual runs do.
pub async fn a_replaced_token_starts_nothing(store: Arc<dyn Store>) {
    let (old, new) = (Token::generate(), Token::generate());
    let webhook = recorded(&*store, webhook_with("report/sales", Default::default(), &old)).await;
    let first = keyed(&webhook, "key", 1).with_token_digest(old.digest());
    let first = created(store.enqueue(first).await.must("enqueue a run with the present token"));
    store.update_webhook(webhook.with_token(&new, None, now()), 1).await.must("update a webhook");
    for refused in [request(&webhook), keyed(&webhook, "key", 1), keyed(&webhook, "key", 2)] {
        let id = refused.run.id();
        let result = store.enqueue(refused.with_token_digest(old.digest())).await.must("refuse a call");
        assert!(matches!(result, Enqueued::Unauthorized), "a replaced token was let through: {result:?}");
        assert_eq!(store.get_run(id).await.must("read a run"), None, "a refused run must not be recorded");
    }
    replayed(&*store, keyed(&webhook, "key", 1).with_token_digest(new.digest()), first.id()).await;
    created(store.enqueue(request(&webhook)).await.must("enqueue a run without a token"));
}

/// A disabled webhook refuses every run that needs it enabled, whatever the call read before, and accepts
/// others.
pub async fn a_disabled_webhook_starts_nothing_but_manual_runs(store: Arc<dyn Store>) {
    let webhook = webhook(&*store).await;
    let call = |request: Enqueue| request.with_token_digest(webhook.token_digest).with_must_be_enabled(true);
    let first = created(store.enqueue(call(keyed(&webhook, "key", 1))).await.must("enqueue a run"));
    let mut disabled = WebhookSettings::default();
    disabled.enabled = false;
    store.update_webhook(webhook.with_settings(disabled, now()), 1).await.must("update a webhook");
    for refused in [request(&webhook), keyed(&webhook, "key", 1), keyed(&webhook, "other", 1)] {
        let id = refused.run.id();
        let result = store.enqueue(call(refused)).await.must("refuse a call");
        assert!(matches!(result, Enqueued::Disabled), "a disabled webhook took a call: {result:?}");
        assert_eq!(store.get_run(id).await.must("read a run"), None, "a refused run must not be recorded");
    }
    let by_hand = created(store.enqueue(request(&webhook)).await.must("enqueue a manual run"));
    assert_eq!(list(&*store, RunQuery::default()).await, vec![by_hand.id(), first.id()]);
}

/// Of calls concurrent with a replacement of their token, none starts a run after the replacement has
/// returned.
pub async fn a_token_replaced_at_once_with_calls_starts_nothing_afterwards(store: Arc<dyn Store>) {
    let webhook = webhook(&*store).await;
    let mut callers = tokio::task::JoinSet::new();
    let replaced = Arc::new(AtomicBool::new(false));
    for _ in 0..8 {
        let (store, webhook, replaced) = (store.clone(), webhook.clone(), replaced.clone());
        callers.spawn(async move {
            loop {
                let late = replaced.load(Ordering::SeqCst);
                let call = request(&webhook).with_token_digest(webhook.token_digest);
                match store.enqueue(call).await.must("answer a call") {
                    Enqueued::Created { .. } => assert!(!late, "a token that was replaced started a run"),
                    Enqueued::Unauthorized => return,
                    other => panic!("a call with a token gave {other:?}"),
                }
            }
        });
    }
    let next = webhook.with_token(&Token::generate(), None, now());
    store.update_webhook(next, 1).await.must("update a webhook");
    replaced.store(true, Ordering::SeqCst);
    within("callers with a replaced token", callers.join_all()).await;
}

/// Recording a run under an id that is taken conflicts and changes nothing.
pub async fn a_run_id_is_recorded_once(store: Arc<dyn Store>) {
    let webhook = webhook(&*store).await;
    let request = request(&webhook);
    let run = created(store.enqueue(request.clone()).await.must("enqueue a run"));
    let claimed = claim(&*store, 1).await.remove(0).run;
    let result = store.enqueue(request.clone()).await;
    assert!(matches!(result, Err(StoreError::Conflict(_))), "a live run was recorded again: {result:?}");
    assert_eq!(get(&*store, run.id()).await, claimed, "a conflict must overwrite nothing");
    applied(settle(&*store, &claimed, success()).await);
    let result = store.enqueue(request).await;
    assert!(matches!(result, Err(StoreError::Conflict(_))), "an ended run was recorded again: {result:?}");
    assert_eq!(state(&*store, run.id()).await, RunState::Succeeded);
    assert!(claim(&*store, 1).await.is_empty());
}

/// A repeated key with the same request finds the first run in its current state, even after it ended.
pub async fn a_key_finds_its_run_in_its_present_state(store: Arc<dyn Store>) {
    let webhook = webhook(&*store).await;
    let first = created(store.enqueue(keyed(&webhook, "key", 1)).await.must("enqueue a run"));
    assert_eq!(replayed(&*store, keyed(&webhook, "key", 1), first.id()).await, RunState::Queued);
    let claimed = claim(&*store, 1).await.remove(0).run;
    assert_eq!(replayed(&*store, keyed(&webhook, "key", 1), first.id()).await, RunState::Running);
    applied(settle(&*store, &claimed, success()).await);
    assert_eq!(replayed(&*store, keyed(&webhook, "key", 1), first.id()).await, RunState::Succeeded);
    assert_eq!(list(&*store, RunQuery::default()).await, vec![first.id()], "a replay must record nothing");
}

/// A repeated key with another request is a mismatch, and nothing is recorded.
pub async fn a_key_with_another_request_is_a_mismatch(store: Arc<dyn Store>) {
    let webhook = webhook(&*store).await;
    let first = created(store.enqueue(keyed(&webhook, "key", 1)).await.must("enqueue a run"));
    let other = keyed(&webhook, "key", 2);
    let id = other.run.id();
    let result = store.enqueue(other).await.must("answer a mismatch");
    assert!(matches!(result, Enqueued::KeyMismatch), "another request under one key: {result:?}");
    assert_eq!(store.get_run(id).await.must("read a run"), None, "a mismatch must record nothing");
    replayed(&*store, keyed(&webhook, "key", 1), first.id()).await;
    // This request is the same, hashed under another token key in the meantime.
    let rehashed = Idempotency::new("key", [3; 32], Duration::from_secs(3_600));
    let rehashed = rehashed.with_former_fingerprints(vec![[4; 32], [1; 32]]);
    replayed(&*store, request(&webhook).with_idempotency(Some(rehashed)), first.id()).await;
}

/// A key that stands for any request, as the id of a sender's event does, finds its first run whatever the request
/// holds. The flag is that of each request.
pub async fn a_key_may_stand_for_any_request(store: Arc<dyn Store>) {
    let webhook = webhook(&*store).await;
    let event = |fingerprint: u8| {
        let key = Idempotency::new("event", [fingerprint; 32], Duration::from_secs(3_600)).with_any_request();
        request(&webhook).with_idempotency(Some(key))
    };
    let first = created(store.enqueue(event(1)).await.must("enqueue a run"));
    replayed(&*store, event(1), first.id()).await;
    replayed(&*store, event(2), first.id()).await;
    assert_eq!(list(&*store, RunQuery::default()).await, vec![first.id()], "a replay must record nothing");
    let result = store.enqueue(keyed(&webhook, "event", 2)).await.must("answer a mismatch");
    assert!(matches!(result, Enqueued::KeyMismatch), "another request under one key: {result:?}");
    replayed(&*store, keyed(&webhook, "event", 1), first.id()).await;
}

/// A key belongs to its webhook: the same text is another key at another webhook.
pub async fn each_webhook_has_its_own_keys(store: Arc<dyn Store>) {
    let (one, other) = (webhook(&*store).await, webhook(&*store).await);
    let first = created(store.enqueue(keyed(&one, "key", 1)).await.must("enqueue a run"));
    let second = created(store.enqueue(keyed(&other, "key", 2)).await.must("enqueue a run"));
    replayed(&*store, keyed(&one, "key", 1), first.id()).await;
    replayed(&*store, keyed(&other, "key", 2), second.id()).await;
    let longer = created(store.enqueue(keyed(&one, "key2", 1)).await.must("enqueue a run"));
    let longest = "k".repeat(255);
    let long = created(store.enqueue(keyed(&one, &longest, 1)).await.must("enqueue a run"));
    assert_eq!(BTreeSet::from([first.id(), second.id(), longer.id(), long.id()]).len(), 4);
    replayed(&*store, keyed(&one, &longest, 1), long.id()).await;
}

/// Two hundred callers with one key at once start one run, and all get its id.
pub async fn enqueue_is_idempotent_under_one_key(store: Arc<dyn Store>) {
    let webhook = webhook(&*store).await;
    let mut callers = tokio::task::JoinSet::new();
    for _ in 0..200 {
        let (store, request) = (store.clone(), keyed(&webhook, "key", 1));
        callers.spawn(async move { store.enqueue(request).await.must("enqueue a run") });
    }
    let (mut ids, mut created) = (BTreeSet::new(), 0);
    for enqueued in within("two hundred callers", callers.join_all()).await {
        match enqueued {
            Enqueued::Created { run, .. } => {
                created += 1;
                ids.insert(run.id());
            }
            Enqueued::Replayed(run) => {
                ids.insert(run.id());
            }
            other => panic!("a caller with the same key and request got {other:?}"),
        }
    }
    assert_eq!((created, ids.len()), (1, 1), "one key must start one run, and all callers must get its id");
    assert_eq!(list(&*store, RunQuery::default()).await, Vec::from_iter(ids));
}

/// A key is kept for its time, and no longer.
pub async fn a_key_is_free_after_its_time(store: Arc<dyn Store>) {
    let webhook = webhook(&*store).await;
    let short = || {
        let idempotency = Idempotency::new("short", [1; 32], Duration::from_millis(100));
        request(&webhook).with_idempotency(Some(idempotency))
    };
    let kept = created(store.enqueue(keyed(&webhook, "kept", 1)).await.must("enqueue a run"));
    let first = created(store.enqueue(short()).await.must("enqueue a run"));
    let second = within("a key to be free again", async {
        loop {
            match store.enqueue(short()).await.must("enqueue a run") {
                Enqueued::Created { run, .. } => return run,
                Enqueued::Replayed(run) => assert_eq!(run.id(), first.id()),
                other => panic!("a key that is kept or free gave {other:?}"),
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    })
    .await;
    assert_ne!(second.id(), first.id());
    replayed(&*store, keyed(&webhook, "kept", 1), kept.id()).await;
}

/// A webhook's queue limit counts its queued runs only; a further run is refused and not recorded.
pub async fn a_webhooks_queue_limit_holds(store: Arc<dyn Store>) {
    let (webhook, other) = (webhook(&*store).await, webhook(&*store).await);
    let limited = || request(&webhook).with_queue_limits(Some(2), 100);
    enqueue_many(&*store, &other, 3).await;
    created(store.enqueue(limited()).await.must("enqueue a run"));
    created(store.enqueue(limited()).await.must("enqueue a run"));
    let third = limited();
    let id = third.run.id();
    let result = store.enqueue(third).await.must("answer a full queue");
    assert!(matches!(result, Enqueued::QueueFull), "the third of at most two runs: {result:?}");
    assert_eq!(store.get_run(id).await.must("read a run"), None, "a refused run must not be recorded");
    claim(&*store, 100).await;
    created(store.enqueue(limited()).await.must("enqueue a run when the others are running"));
}

/// The limit over all webhooks holds too.
pub async fn the_queue_limit_over_all_holds(store: Arc<dyn Store>) {
    let (one, other) = (webhook(&*store).await, webhook(&*store).await);
    enqueue_many(&*store, &one, 2).await;
    let third = request(&other).with_queue_limits(None, 3);
    created(store.enqueue(third).await.must("enqueue a run"));
    let result = store.enqueue(request(&other).with_queue_limits(None, 3)).await.must("answer a full queue");
    assert!(matches!(result, Enqueued::QueueFull), "the fourth of at most three runs: {result:?}");
    assert_eq!(list(&*store, RunQuery::default()).await.len(), 3);
}

/// A key is looked up before the queue limits are checked, and a refused call uses up no key.
pub async fn a_full_queue_neither_hides_nor_burns_keys(store: Arc<dyn Store>) {
    let webhook = webhook(&*store).await;
    let limited = |key, fingerprint| keyed(&webhook, key, fingerprint).with_queue_limits(Some(1), 100);
    let first = created(store.enqueue(limited("first", 1)).await.must("enqueue a run"));
    let refused = store.enqueue(limited("second", 2)).await.must("answer a full queue");
    assert!(matches!(refused, Enqueued::QueueFull), "the second of at most one run: {refused:?}");
    replayed(&*store, limited("first", 1), first.id()).await;
    claim(&*store, 1).await;
    created(store.enqueue(limited("second", 3)).await.must("enqueue under a key that was refused before"));
}

/// Parameters are read back exactly: doubles to the last bit, integers of 64 bits, and JSON of the largest
/// depth.
pub async fn parameters_survive_exactly(store: Arc<dyn Store>) {
    let webhook = webhook(&*store).await;
    let run = run_of(&webhook);
    // The largest depth that `ParameterLimits::json_depth` allows.
    let deep = (0..96).fold(json!(0.986_718_895_000_838_3), |inner, _| json!([inner]));
    let numbers =
        json!([9.204_938_554_384_977, 5e-324, f64::MAX, -0.1, u64::MAX, i64::MIN, 9_007_199_254_740_993_u64]);
    let effective: EffectiveParameters = [("deep", deep), ("numbers", numbers)]
        .map(|(name, value)| (name.to_owned(), EffectiveParameter::new(value, Source::Body)))
        .into_iter()
        .collect();
    let parameters = RunParameters::seal(effective, None, run.id()).must("keep plain parameters");
    let run = run.with_parameters(parameters);
    created(store.enqueue(Enqueue::new(run.clone())).await.must("enqueue a run"));
    assert!(
        get(&*store, run.id()).await.parameters() == run.parameters(),
        "parameters must be read back exactly"
    );
    let claimed = claim(&*store, 1).await.remove(0).run;
    assert!(claimed.parameters() == run.parameters(), "parameters must come with the claim exactly");
    let ended = applied(settle(&*store, &claimed, success()).await);
    assert!(ended.parameters() == run.parameters(), "a run's parameters must never change");
    assert!(get(&*store, run.id()).await == ended, "an ended run must be read back exactly");
}

/// Parameters of close to a megabyte and a large output survive unchanged.
pub async fn large_parameters_and_outputs_survive(store: Arc<dyn Store>) {
    let webhook = webhook(&*store).await;
    let run = run_of(&webhook);
    let value =
        json!({ "text": "naïve 日本語 \u{0} ".repeat(43_000), "numbers": (0..1_000).collect::<Vec<u32>>() });
    assert!(value.to_string().len() > 900 * 1_024);
    let effective: EffectiveParameters =
        [("large".to_owned(), EffectiveParameter::new(value, Source::Body))].into_iter().collect();
    let parameters = RunParameters::seal(effective, None, run.id()).must("keep plain parameters");
    let run = run.with_parameters(parameters);
    created(store.enqueue(Enqueue::new(run.clone())).await.must("enqueue a large run"));
    assert!(*get(&*store, run.id()).await == run, "large parameters must be read back as they were given");
    let claimed = claim(&*store, 1).await.remove(0).run;
    assert!(claimed.parameters() == run.parameters(), "large parameters must come with the claim");

    let artifact = |number| Artifact::new(format!("{number}-{}", "é".repeat(100)), "text/html", number);
    let artifacts: Vec<Artifact> = (0..2_000).map(artifact).collect();
    let ending = Ending::Succeeded { summary: Some("ok".repeat(2_000)), artifacts };
    let outcome = Outcome::Ended { ending, deliveries: Vec::new() };
    let ended = applied(settle(&*store, &claimed, outcome).await);
    let read = get(&*store, run.id()).await;
    assert!(read == ended, "a large output must be read back as it was settled");
    assert_eq!((read.artifacts().len(), read.summary().map(str::len)), (2_000, Some(4_000)));
    assert!(read.parameters() == run.parameters(), "a run's parameters must never change");
    let page = store.list_runs(RunQuery::default()).await.must("list runs");
    assert!(page.items == vec![ended], "a large run must be listed as it is");
}

async fn replayed(store: &dyn Store, request: Enqueue, expected: RunId) -> RunState {
    match store.enqueue(request).await.must("replay a run") {
        Enqueued::Replayed(run) => {
            assert_eq!(run.id(), expected, "a key must find the run it stands for");
            run.state()
        }
        other => panic!("a key and request that were seen before gave {other:?}"),
    }
}
