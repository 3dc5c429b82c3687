//! Tests that stored data is there when the folder is opened again.

#![allow(clippy::unwrap_used, reason = "a test fails by a panic")]

mod scene;

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use scene::*;
use serde_json::json;
use webhook_core::calls::{CALLS_KEPT, CallFacts, CallOutcome, CallRecord, LoggedCall};
use webhook_core::id::{DeliveryId, WebhookId};
use webhook_core::notifier::{DeliveryOutcome, DeliveryState};
use webhook_core::run::{CancelReason, Run, RunState};
use webhook_core::store::{
    CallQuery, CallStore, Cancelled, Enqueued, PruneRequest, RunQuery, Store, WebhookQuery,
};
use webhook_core::webhook::{Concurrency, OnOverlap};
use webhook_sled::testing::open_database;
use webhook_sled::{Durability, SledStore};

#[tokio::test]
async fn a_closed_store_is_whole_in_its_database_whoever_still_holds_it() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path());
    let held = store.clone();
    let webhook = webhook(&store).await;
    store.close();
    store.close();
    for refused in [held.record_use(&[(webhook.id, now())]).await, held.health().await.map(drop)] {
        assert!(refused.unwrap_err().to_string().contains("it is closed"));
    }

    let database = open_database(folder.path()).unwrap();
    assert_eq!(database.scan_prefix("w").count(), 1, "nothing is left for the journal to repeat");
    drop(database);
    let store = open(folder.path());
    assert!(store.get_webhook(webhook.id).await.unwrap().is_some());
    drop(held);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn everything_survives_being_opened_again() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("deep/data");
    let store = open(&path);
    let first = webhook(&store).await;
    let second = webhook(&store).await;
    let used = now();
    store.record_use(&[(first.id, used)]).await.unwrap();
    let ended = enqueue(&store, keyed(&first, "ended")).await.unwrap();
    let running = claim(&store, 1).await.remove(0).run;
    store.append_log(running.id(), running.fence(), "one\ntwo\n".to_owned()).await.unwrap();
    let (told, retried) = (delivery(ended.id()), delivery(ended.id()));
    let ended = succeed(&store, &running, vec![told.clone(), retried.clone()]).await;
    let again = DeliveryOutcome::Retry {
        error: "x".repeat(20_000),
        delay: Duration::from_secs(3_600),
        at: now() + Duration::from_secs(3_600),
    };
    settle_delivery(&store, &told, DeliveryOutcome::Delivered).await.unwrap();
    settle_delivery(&store, &retried, again).await.unwrap();
    let queued = enqueue(&store, keyed(&second, "queued")).await.unwrap();
    drop(store);

    let store = open(&path);
    let found = store.get_webhook(first.id).await.unwrap().unwrap();
    assert_eq!(found.last_used_at, Some(used));
    assert_eq!(store.find_webhook(&second.token_digest).await.unwrap().unwrap().id, second.id);
    assert_eq!(store.list_webhooks(WebhookQuery::default()).await.unwrap().items.len(), 2);
    assert_eq!(*store.get_run(ended.id()).await.unwrap().unwrap(), *ended);
    assert_eq!(*store.get_run(queued.id()).await.unwrap().unwrap(), *queued);
    assert_eq!(store.read_log(ended.id(), 4).await.unwrap().text, "two\n");
    for (key, webhook, id) in [("ended", &first, ended.id()), ("queued", &second, queued.id())] {
        let replayed = store.enqueue(keyed(webhook, key)).await.unwrap();
        assert!(matches!(replayed, Enqueued::Replayed(run) if run.id() == id));
    }
    let deliveries = store.list_deliveries(&[ended.id()]).await.unwrap();
    let states: Vec<_> = deliveries.iter().map(|delivery| delivery.state).collect();
    assert_eq!(states, [DeliveryState::Delivered, DeliveryState::Pending]);
    assert_eq!(deliveries[1].last_error.as_ref().unwrap().len(), 20_000);
    assert!(claim_deliveries(&store).await.is_empty(), "it is due in an hour");
    let health = store.health().await.unwrap();
    assert_eq!((health.queued, health.running, health.pending_deliveries), (1, 0, 1));
    store.resend_delivery(retried.id, now()).await.unwrap();
    assert_eq!(claim_deliveries(&store).await.len(), 1);
    let page = store.list_runs(RunQuery::default()).await.unwrap();
    assert_eq!(page.items.iter().map(|run| run.id()).collect::<Vec<_>>(), [queued.id(), ended.id()]);
}

#[test]
fn a_new_folder_is_its_owners_alone_and_one_that_exists_is_left_as_it_is() {
    let folder = tempfile::tempdir().unwrap();
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    let made = folder.path().join("deep/data");
    drop(open(&made));
    assert_eq!((mode(&made), mode(&made.join("sled"))), (0o700, 0o700));
    let given = folder.path().join("given");
    fs::create_dir(&given).unwrap();
    fs::set_permissions(&given, fs::Permissions::from_mode(0o750)).unwrap();
    drop(open(&given));
    assert_eq!((mode(&given), mode(&given.join("sled"))), (0o750, 0o700));
    drop(open(&given));
    assert_eq!(mode(&given), 0o750);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_run_is_kept_for_its_key_after_a_reopening_and_nothing_is_left_of_either() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path());
    let webhook = webhook(&store).await;
    let run = enqueue(&store, keyed(&webhook, "key")).await.unwrap();
    let running = claim(&store, 1).await.remove(0).run;
    succeed(&store, &running, Vec::new()).await;
    drop(store);
    let store = open(folder.path());
    let at = |now| PruneRequest::new(now, LEASE, 9).with_keep_per_webhook(Some(0));
    assert!(store.prune(at(now())).await.unwrap().runs.is_empty());
    let later = now() + Duration::from_secs(3_601);
    assert_eq!(store.prune(at(later)).await.unwrap().runs, [run.id()]);
    drop(store);
    let database = open_database(folder.path()).unwrap();
    let of_run = |key: &sled::IVec| key.windows(16).any(|part| part == run.id().as_bytes());
    assert!(!database.iter().keys().any(|key| of_run(&key.unwrap())));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn running_runs_come_back_at_once_as_interrupted() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path());
    let webhook = webhook(&store).await;
    let run = enqueue(&store, request(&webhook, "x")).await.unwrap();
    let mut fence = 0;
    let mut store = store;
    for interruptions in 1..=3 {
        let claimed = claim(&store, 1).await.remove(0).run;
        assert!(claimed.fence() > fence);
        fence = claimed.fence();
        drop(store);
        store = open(folder.path());
        let restored = store.get_run(run.id()).await.unwrap().unwrap();
        assert_eq!((restored.state(), restored.interruptions()), (RunState::Queued, interruptions));
        assert_eq!((restored.fence(), restored.attempt()), (fence, interruptions));
    }
    let claimed = claim(&store, 1).await.remove(0).run;
    let cancelled = store.cancel_run(run.id(), now()).await.unwrap();
    assert!(matches!(cancelled, Cancelled::Requested(_)));
    drop(store);
    let store = open(folder.path());
    let restored = store.get_run(run.id()).await.unwrap().unwrap();
    assert_eq!(restored.cancel_requested(), Some(CancelReason::Requested));
    assert_eq!((restored.interruptions(), restored.attempt()), (4, claimed.attempt()));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_run_whose_webhook_was_deleted_while_it_ran_is_not_tried_again() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path());
    let webhook = webhook(&store).await;
    let run = enqueue(&store, request(&webhook, "x")).await.unwrap();
    claim(&store, 1).await;
    assert!(store.delete_webhook(webhook.id, None, now()).await.unwrap().is_empty());
    drop(store);
    for _ in 0..2 {
        let store = open(folder.path());
        assert_eq!(store.get_run(run.id()).await.unwrap().unwrap().state(), RunState::Cancelled);
        assert!(claim(&store, 1).await.is_empty());
        let query = RunQuery::default().in_state(Some(RunState::Cancelled));
        assert_eq!(store.list_runs(query).await.unwrap().items.len(), 1);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_bound_of_a_webhook_holds_after_being_opened_again() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path());
    let plain = webhook(&store).await;
    let mut settings = plain.settings.clone();
    settings.concurrency = Concurrency::new(Some(1), OnOverlap::Queue);
    let bounded = plain.with_settings(settings, now());
    store.update_webhook(bounded.clone(), 1).await.unwrap();
    for _ in 0..3 {
        let request = request(&bounded, "x").with_concurrency(bounded.settings.concurrency);
        enqueue(&store, request).await.unwrap();
    }
    drop(store);
    assert_eq!(claim(&open(folder.path()), 9).await.len(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn large_parameters_are_split_and_leave_no_file_that_is_not_synced() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path());
    let webhook = webhook(&store).await;
    let text = "é".repeat(400_000);
    let mut runs = Vec::new();
    for _ in 0..6 {
        runs.push(enqueue(&store, request(&webhook, &text)).await.unwrap());
    }
    for claim in claim(&store, 3).await {
        succeed(&store, &claim.run, Vec::new()).await;
    }
    drop(store);
    let blobs = fs::read_dir(folder.path().join("sled/blobs")).unwrap().count();
    assert_eq!(blobs, 0, "sled never syncs these");
    let store = open(folder.path());
    for run in &runs {
        let found = store.get_run(run.id()).await.unwrap().unwrap();
        assert_eq!(found.parameters(), run.parameters());
    }
    let later = now() + Duration::from_secs(10);
    let pruned = store.prune(PruneRequest::new(later, Duration::from_secs(1), 9)).await.unwrap();
    assert_eq!(pruned.runs.len(), 3);
    assert!(store.get_run(runs[0].id()).await.unwrap().is_none());
    assert!(store.get_run(runs[3].id()).await.unwrap().is_some());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_store_that_was_killed_while_it_was_made_opens() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("webhook-store"), "").unwrap();
    fs::create_dir_all(folder.path().join("sled.unfinished")).unwrap();
    fs::write(folder.path().join("sled.unfinished/conf"), "torn").unwrap();
    let store = open(folder.path());
    let webhook = webhook(&store).await;
    drop(store);
    // Killed while sled wrote a snapshot.
    fs::write(folder.path().join("sled/snap.FFFFFFFFFFFFFFFF.generating"), "torn").unwrap();
    let store = open(folder.path());
    assert!(store.get_webhook(webhook.id).await.unwrap().is_some());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_store_that_was_killed_before_its_superblock_was_written_opens() {
    let folder = tempfile::tempdir().unwrap();
    drop(open(folder.path()));
    let database = open_database(folder.path()).unwrap();
    let mut identity = database.get("s").unwrap().unwrap().to_vec();
    // The state of a new database: no opening has begun.
    identity[17..].fill(0);
    database.insert("s", identity).unwrap();
    drop(database);
    for journal in ["journal-0", "journal-1"] {
        fs::remove_file(folder.path().join(journal)).unwrap();
    }
    fs::write(folder.path().join("webhook-store"), "").unwrap();
    let store = open(folder.path());
    let webhook = webhook(&store).await;
    drop(store);
    assert!(open(folder.path()).get_webhook(webhook.id).await.unwrap().is_some());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn dropping_the_store_with_reads_under_way_closes_the_folder() {
    let folder = tempfile::tempdir().unwrap();
    for _ in 0..20 {
        let store = open(folder.path());
        let webhook = webhook(&store).await;
        let run = enqueue(&store, request(&webhook, "x")).await.unwrap();
        let reader = store.clone();
        let reading = tokio::spawn(async move { reader.read_log(run.id(), 0).await });
        reading.abort();
        let _ = reading.await;
        drop(store);
    }
}

/// Thousands of runs of two webhooks wait in turn, most of them deep in the queue.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_deep_queue_is_cancelled_deleted_reopened_and_claimed_in_order() {
    const EACH: usize = 1_500;
    let folder = tempfile::tempdir().unwrap();
    let deep = || options().with_durability(Durability::Process);
    let store = deep().open(folder.path()).unwrap();
    let (kept, deleted) = (webhook(&store).await, webhook(&store).await);
    let mut runs = Vec::new();
    for _ in 0..EACH {
        runs.push(enqueue(&store, request(&kept, "kept")).await.unwrap().id());
        enqueue(&store, request(&deleted, "deleted")).await.unwrap();
    }
    for run in runs.extract_if(EACH / 2.., |run| run.as_bytes()[15] % 8 == 0).collect::<Vec<_>>() {
        let cancelled = store.cancel_run(run, now()).await.unwrap();
        assert!(matches!(cancelled, Cancelled::Ended(run) if run.state() == RunState::Cancelled));
    }
    assert_eq!(store.delete_webhook(deleted.id, None, now()).await.unwrap().len(), EACH);
    let page =
        store.list_runs(RunQuery::default().in_state(Some(RunState::Queued)).limit(200)).await.unwrap();
    let newest: Vec<_> = page.items.iter().map(|run| run.id()).collect();
    assert_eq!(newest, runs.iter().rev().take(200).copied().collect::<Vec<_>>());
    drop(store);

    let store = deep().open(folder.path()).unwrap();
    assert_eq!(store.health().await.unwrap().queued, runs.len() as u64);
    let middle = store.get_run(runs[runs.len() / 2]).await.unwrap().unwrap();
    let text =
        |run: &Run| run.parameters().iter().map(|(_, parameter)| parameter.shown()).collect::<Vec<_>>();
    assert_eq!((middle.state(), text(&middle)), (RunState::Queued, vec![json!("kept")]));
    let mut claimed = Vec::new();
    while claimed.len() < runs.len() {
        let claims = claim(&store, 100).await;
        assert!(!claims.is_empty() && claims.iter().all(|claim| text(&claim.run) == [json!("kept")]));
        claimed.extend(claims.into_iter().map(|claim| claim.run.id()));
    }
    assert_eq!(claimed, runs);
}

/// While its folder is moved, removed or replaced, the store refuses new runs and people's changes. Accepted
/// runs continue.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_store_whose_folder_is_moved_away_says_so_until_it_is_back_with_all_that_was_accepted() {
    let folder = tempfile::tempdir().unwrap();
    let (path, moved) = (folder.path().join("store"), folder.path().join("moved"));
    let store = open(&path);
    let webhook = webhook(&store).await;
    let mut accepted = Vec::new();
    type Replace = fn(&Path, &Path);
    let replacements: [(&str, Replace); 4] = [
        ("nothing", |_, _| {}),
        ("an empty folder", |path, _| fs::create_dir(path).unwrap()),
        ("a copy", |path, moved| copy(moved, path)),
        ("a link to another folder", |path, _| std::os::unix::fs::symlink("/", path).unwrap()),
    ];
    for (what, replace) in replacements {
        accepted.push(enqueue(&store, request(&webhook, what)).await.unwrap().id());
        let claimed = claim(&store, 1).await.remove(0).run;
        fs::rename(&path, &moved).unwrap();
        replace(&path, &moved);
        let error = store.health().await.unwrap_err().to_string();
        assert!(error.contains("its folder was moved, removed or replaced"), "{what}: {error}");
        assert!(!error.contains(folder.path().to_str().unwrap()), "{what}: {error}");
        let error = enqueue(&store, request(&webhook, "refused")).await.unwrap_err().to_string();
        assert!(error.contains("its folder was moved, removed or replaced"), "{what}: {error}");
        for refused in [
            store.create_webhook(webhook.clone()).await,
            store.update_webhook(webhook.clone(), webhook.revision).await,
            store.delete_webhook(webhook.id, None, now()).await.map(drop),
            store.cancel_run(claimed.id(), now()).await.map(drop),
            store.resend_delivery(DeliveryId::generate(now()), now()).await.map(drop),
        ] {
            let error = refused.unwrap_err().to_string();
            assert!(error.contains("its folder was moved, removed or replaced"), "{what}: {error}");
        }
        succeed(&store, &claimed, Vec::new()).await;
        // Reading the list makes the checkpointer write the end of the run to the database.
        assert_eq!(store.list_runs(RunQuery::default()).await.unwrap().items.len(), accepted.len(), "{what}");
        if path.is_symlink() || !path.exists() {
            let _ = fs::remove_file(&path);
        } else {
            fs::remove_dir_all(&path).unwrap();
        }
        fs::rename(&moved, &path).unwrap();
        store.health().await.unwrap();
    }
    for file in ["webhook-store", "journal-0", "journal-1", "sled/db"] {
        fs::rename(path.join(file), &moved).unwrap();
        assert!(store.health().await.is_err(), "{file}");
        fs::rename(&moved, path.join(file)).unwrap();
        store.health().await.unwrap();
    }
    drop(store);
    let store = open(&path);
    for id in accepted {
        assert_eq!(store.get_run(id).await.unwrap().unwrap().state(), RunState::Succeeded);
    }
    assert!(store.verify().await.unwrap().is_whole());
}

async fn log_calls(store: &SledStore, webhook: WebhookId, count: usize) {
    let facts = CallFacts::new("POST", 202, CallOutcome::Accepted);
    let call = || LoggedCall::new(Arc::new(CallRecord::new(webhook, &facts, now())));
    store.append_calls((0..count).map(|_| call()).collect()).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_call_log_survives_with_its_bounds_but_for_webhooks_that_are_gone() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path());
    let (busy, quiet, gone) = (webhook(&store).await, webhook(&store).await, webhook(&store).await);
    log_calls(&store, quiet.id, 3).await;
    log_calls(&store, gone.id, 3).await;
    for _ in 0..4 {
        log_calls(&store, busy.id, CALLS_KEPT - 30).await;
    }
    let list = async |store: &SledStore, webhook| {
        store.list_calls(CallQuery::new(webhook).limit(1_000)).await.unwrap().items
    };
    let before = (list(&store, busy.id).await, list(&store, quiet.id).await);
    store.delete_webhook(gone.id, None, now()).await.unwrap();
    let file = folder.path().join("calls");
    assert!(!fs::read_to_string(&file).unwrap().contains(&gone.id.to_string()));
    assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
    drop(store);
    let store = open(folder.path());
    assert_eq!((before.0.len(), before.1.len()), (CALLS_KEPT, 3));
    assert_eq!((list(&store, busy.id).await, list(&store, quiet.id).await), before);
    assert!(list(&store, gone.id).await.is_empty());
    drop(store);
    // The log is no record: without its file, or with something else in its place, the store opens all the same.
    fs::remove_file(&file).unwrap();
    fs::create_dir(&file).unwrap();
    let store = open(folder.path());
    log_calls(&store, busy.id, 1).await;
    assert_eq!(list(&store, busy.id).await.len(), 1);
    drop(store);
    fs::remove_dir(&file).unwrap();
    assert!(list(&open(folder.path()), busy.id).await.is_empty());
}
