//! Tests of queued data on disk: large parameters, deep queues that are deleted, and unreadable records.

#![allow(clippy::unwrap_used, reason = "a test fails by a panic")]

mod scene;

use std::path::Path;
use std::time::Duration;

use scene::*;
use webhook_core::run::RunState;
use webhook_core::store::{Cancelled, PruneRequest, RunQuery, Store};
use webhook_core::webhook::Webhook;
use webhook_sled::testing::open_database;
use webhook_sled::{Durability, SledStore};

const LARGE: usize = 200_000;

/// Changes the database of a closed store.
fn tamper(folder: &Path, change: impl FnOnce(&sled::Db)) {
    let database = open_database(folder).unwrap();
    change(&database);
    database.flush().unwrap();
}

fn count(folder: &Path, kind: &[u8]) -> usize {
    let mut count = 0;
    tamper(folder, |database| count = database.scan_prefix(kind).count());
    count
}

async fn queue(store: &SledStore, webhook: &Webhook, text: &str) -> webhook_core::id::RunId {
    enqueue(store, request(webhook, text)).await.unwrap().id()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn large_parameters_are_kept_once_stay_when_their_run_ends_and_go_with_it() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path());
    let webhook = webhook(&store).await;
    for number in 0..3 {
        queue(&store, &webhook, &format!("{number}").repeat(LARGE)).await;
    }
    drop(store);
    let parts = count(folder.path(), b"p");
    assert!((3 * LARGE / 6_000..3 * LARGE / 6_000 + 6).contains(&parts), "{parts}");

    let store = open(folder.path());
    let claims = claim(&store, 2).await;
    succeed(&store, &claims[0].run, Vec::new()).await;
    let Cancelled::Requested(running) = store.cancel_run(claims[1].run.id(), now()).await.unwrap() else {
        panic!("it is running")
    };
    assert_eq!(running.parameters().bytes(), claims[1].run.parameters().bytes());
    drop(store);
    assert_eq!((count(folder.path(), b"p"), count(folder.path(), b"t")), (parts, 0));

    let store = open(folder.path());
    for run in store.list_runs(RunQuery::default()).await.unwrap().items {
        assert!(run.parameters().bytes() > LARGE, "{:?}", run.state());
        let text = run.parameters().iter().next().unwrap().1.shown();
        assert_eq!(text.as_str().unwrap().len(), LARGE);
    }
    for claimed in claim(&store, 9).await {
        succeed(&store, &claimed.run, Vec::new()).await;
    }
    let pruned =
        store.prune(PruneRequest::new(now() + Duration::from_secs(9), Duration::ZERO, 99)).await.unwrap();
    assert_eq!(pruned.runs.len(), 3);
    drop(store);
    assert_eq!(count(folder.path(), b"p"), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_deletion_that_a_crash_cut_short_is_finished_at_the_next_start() {
    let folder = tempfile::tempdir().unwrap();
    let store = options().with_durability(Durability::Process).open(folder.path()).unwrap();
    let (gone, stays) = (webhook(&store).await, webhook(&store).await);
    for number in 0..300 {
        queue(&store, if number % 3 == 0 { &stays } else { &gone }, "x").await;
    }
    // One run of the deleted webhook was running.
    assert_eq!(claim(&store, 2).await.len(), 2);
    drop(store);
    // The webhook's record is removed first, and the process died directly after that.
    let key = [&b"w"[..], gone.id.as_bytes()].concat();
    tamper(folder.path(), |database| {
        database.remove(&key).unwrap().unwrap();
        // Removed with it, since this record counts the webhooks.
        database.remove("b").unwrap().unwrap();
    });

    let store = open(folder.path());
    let claims = claim(&store, 999).await;
    assert!(claims.len() == 100 && claims.iter().all(|claim| claim.run.webhook_id() == stays.id));
    let cancelled = || RunQuery::default().of_webhook(Some(gone.id)).in_state(Some(RunState::Cancelled));
    while store.list_runs(cancelled().limit(500)).await.unwrap().items.len() < 200 {
        tokio::task::yield_now().await;
    }
    assert_eq!(store.health().await.unwrap().queued, 0);
    drop(store);
    assert_eq!(open(folder.path()).list_runs(cancelled().limit(500)).await.unwrap().items.len(), 200);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn others_are_served_while_a_deep_queue_is_deleted() {
    let folder = tempfile::tempdir().unwrap();
    let store = options().with_durability(Durability::Process).open(folder.path()).unwrap();
    let (gone, stays) = (webhook(&store).await, webhook(&store).await);
    let mut callers = tokio::task::JoinSet::new();
    for _ in 0..16 {
        let (store, gone) = (store.clone(), gone.clone());
        callers.spawn(async move {
            for _ in 0..1_000 {
                queue(&store, &gone, "x").await;
            }
        });
    }
    callers.join_all().await;
    let deleting = tokio::spawn({
        let (store, id) = (store.clone(), gone.id);
        async move { store.delete_webhook(id, None, now()).await.unwrap().len() }
    });
    while store.get_webhook(gone.id).await.unwrap().is_some() {
        tokio::task::yield_now().await;
    }
    let other = queue(&store, &stays, "x").await;
    assert_eq!(claim(&store, 9).await.iter().map(|claim| claim.run.id()).collect::<Vec<_>>(), [other]);
    assert!(!deleting.is_finished(), "a call and a claim waited for sixteen thousand runs to be cancelled");
    assert_eq!(deleting.await.unwrap(), 16_000);
    assert_eq!(store.health().await.unwrap().queued, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_queued_run_that_cannot_be_read_is_set_aside_and_the_others_are_executed() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path());
    let webhook = webhook(&store).await;
    let mut runs = Vec::new();
    for _ in 0..4 {
        runs.push(queue(&store, &webhook, &"x".repeat(LARGE)).await);
        // No two of them may share a value.
        tokio::time::sleep(Duration::from_millis(33)).await;
    }
    drop(store);
    tamper(folder.path(), |database| {
        let part = [&b"p"[..], runs[1].as_bytes(), &7_u16.to_be_bytes()].concat();
        database.remove(part).unwrap().unwrap();
        let record = [&b"l"[..], runs[2].as_bytes()].concat();
        database.insert(record, &[3, 0, 0, 9, 9, 9]).unwrap();
    });
    let store = open(folder.path());
    assert_eq!(store.health().await.unwrap().queued, 3, "a record is not readable, which shows at once");
    let claimed: Vec<_> = claim(&store, 9).await.iter().map(|claim| claim.run.id()).collect();
    assert_eq!(claimed, [runs[0], runs[3]]);
    assert_eq!(store.health().await.unwrap().queued, 0);
}
