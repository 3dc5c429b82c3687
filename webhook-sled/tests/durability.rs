//! Tests that acknowledged changes are durable, and that a failing disk is never mistaken for a working one.

#![allow(clippy::unwrap_used, reason = "a test fails by a panic")]

mod scene;

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use scene::*;
use webhook_core::id::RunId;
use webhook_core::notifier::DeliveryOutcome;
use webhook_core::run::{Ending, Run, RunState};
use webhook_core::store::{
    Cancelled, Outcome, Renewal, Renewed, RunQuery, Settled, Settlement, Store, StoreError, Work,
};
use webhook_core::webhook::Webhook;
use webhook_sled::{Durability, SledStore};

fn is_unavailable<T: std::fmt::Debug>(outcome: Result<T, StoreError>) -> bool {
    matches!(outcome, Err(StoreError::Unavailable { .. }))
}

/// Opens a store on a scripted disk, with a webhook and one running run.
async fn open_with_a_running_run(folder: &Path) -> (SledStore, Arc<Faults>, Webhook, Arc<Run>) {
    let (store, faults) = open_faulty(folder, options()).unwrap();
    let webhook = webhook(&store).await;
    enqueue(&store, request(&webhook, "x")).await.unwrap();
    let run = claim(&store, 1).await.remove(0).run;
    (store, faults, webhook, run)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_run_is_acknowledged_only_after_the_sync() {
    let folder = tempfile::tempdir().unwrap();
    let (store, faults) = open_faulty(folder.path(), options()).unwrap();
    let webhook = webhook(&store).await;
    faults.sync_hangs.store(true, Ordering::SeqCst);
    let synced = faults.syncs.load(Ordering::SeqCst);
    let mut enqueued = Box::pin(store.enqueue(keyed(&webhook, "key")));
    let waited = Duration::from_millis(150);
    assert!(tokio::time::timeout(waited, &mut enqueued).await.is_err(), "nothing is durable yet");
    assert!(claim(&store, 1).await.is_empty(), "a run that is not durable is not claimed");
    let mut replayed = Box::pin(store.enqueue(keyed(&webhook, "key")));
    assert!(tokio::time::timeout(waited, &mut replayed).await.is_err());
    faults.sync_hangs.store(false, Ordering::SeqCst);
    enqueued.await.unwrap();
    replayed.await.unwrap();
    assert!(faults.syncs.load(Ordering::SeqCst) > synced);
    store.wait_for_work(Work::Runs).await;
    assert_eq!(claim(&store, 9).await.len(), 1, "one key is one run");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_run_shows_as_ended_only_after_the_sync() {
    let folder = tempfile::tempdir().unwrap();
    let (store, faults) = open_faulty(folder.path(), options()).unwrap();
    let webhook = webhook(&store).await;
    let older = enqueue(&store, request(&webhook, "older")).await.unwrap();
    enqueue(&store, request(&webhook, "x")).await.unwrap();
    let mut runs: Vec<_> = claim(&store, 2).await.into_iter().map(|claim| claim.run).collect();
    runs.sort_by_key(|run| run.id());
    succeed(&store, &runs[0], Vec::new()).await;
    let (id, fence) = (runs[1].id(), runs[1].fence());

    faults.sync_hangs.store(true, Ordering::SeqCst);
    let syncing = faults.next_sync();
    let settling = {
        let (store, run) = (store.clone(), runs[1].clone());
        tokio::spawn(async move { succeed(&store, &run, Vec::new()).await })
    };
    syncing.await;
    // Lists are read from the database once it has all changes decided before a sync, so the end is in it
    // below.
    let shown = store.get_run(id).await.unwrap().unwrap();
    assert_eq!((shown.state(), shown.fence()), (RunState::Running, fence));
    let in_state = |state| {
        let (store, query) = (store.clone(), RunQuery::default().in_state(state).limit(1));
        async move { store.list_runs(query).await.unwrap() }
    };
    assert_eq!(in_state(Some(RunState::Running)).await.items[0].id(), id);
    assert_eq!(
        in_state(Some(RunState::Succeeded)).await.items[0].id(),
        older.id(),
        "a page is full all the same"
    );
    let first = in_state(None).await;
    assert_eq!((first.items[0].state(), first.next), (RunState::Running, Some(id)));
    let mut cancelled = Box::pin(store.cancel_run(id, now()));
    let waited = Duration::from_millis(150);
    assert!(tokio::time::timeout(waited, &mut cancelled).await.is_err());

    faults.sync_hangs.store(false, Ordering::SeqCst);
    assert_eq!(settling.await.unwrap().state(), RunState::Succeeded);
    assert!(
        matches!(cancelled.await.unwrap(), Cancelled::TooLate(run) if run.state() == RunState::Succeeded)
    );
    assert_eq!(store.get_run(id).await.unwrap().unwrap().state(), RunState::Succeeded);
    assert_eq!(in_state(Some(RunState::Succeeded)).await.items[0].id(), id);
    assert!(in_state(Some(RunState::Running)).await.items.is_empty());
}

/// Operations that arrive while one sync hangs are one group, and its sync fails.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whoever_is_answered_with_what_another_did_waits_for_it_to_be_durable() {
    let folder = tempfile::tempdir().unwrap();
    let (store, faults, webhook, running) = open_with_a_running_run(folder.path()).await;
    faults.sync_hangs.store(true, Ordering::SeqCst);
    let last = faults.syncs.load(Ordering::SeqCst) + 1;
    faults.sync_fails_after.store(last, Ordering::SeqCst);
    let syncing = faults.next_sync();
    let durable = {
        let (store, request) = (store.clone(), request(&webhook, "y"));
        tokio::spawn(async move { enqueue(&store, request).await })
    };
    syncing.await;
    let ending = Ending::Succeeded { summary: None, artifacts: Vec::new() };
    let outcome = Outcome::Ended { ending, deliveries: Vec::new() };
    let settlement = Settlement::new(running.id(), running.fence(), outcome, now());
    let mut settled = Box::pin(store.settle(vec![settlement]));
    let mut cancelled = Box::pin(store.cancel_run(running.id(), now()));
    let mut enqueued = Box::pin(store.enqueue(keyed(&webhook, "key")));
    let mut replayed = Box::pin(store.enqueue(keyed(&webhook, "key")));
    // They wait for the writer in this order.
    let moment = Duration::from_millis(50);
    assert!(tokio::time::timeout(moment, &mut settled).await.is_err());
    assert!(tokio::time::timeout(moment, &mut cancelled).await.is_err());
    assert!(tokio::time::timeout(moment, &mut enqueued).await.is_err());
    assert!(tokio::time::timeout(moment, &mut replayed).await.is_err());
    faults.sync_hangs.store(false, Ordering::SeqCst);
    durable.await.unwrap().unwrap();
    assert!(is_unavailable(settled.await));
    assert!(is_unavailable(cancelled.await), "that it is too late is not durable");
    assert!(is_unavailable(enqueued.await));
    assert!(is_unavailable(replayed.await), "the run it stands for is not durable");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_callers_share_a_sync() {
    let folder = tempfile::tempdir().unwrap();
    let (store, faults) = open_faulty(folder.path(), options()).unwrap();
    let webhook = webhook(&store).await;
    faults.sync_hangs.store(true, Ordering::SeqCst);
    let before = faults.syncs.load(Ordering::SeqCst);
    let callers: Vec<_> = (0..50)
        .map(|_| {
            let (store, request) = (store.clone(), request(&webhook, "x"));
            tokio::spawn(async move { enqueue(&store, request).await })
        })
        .collect();
    tokio::time::sleep(Duration::from_millis(200)).await;
    faults.sync_hangs.store(false, Ordering::SeqCst);
    for caller in callers {
        caller.await.unwrap().unwrap();
    }
    assert!(faults.syncs.load(Ordering::SeqCst) - before <= 5);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn claims_and_logs_need_no_sync_and_process_durability_needs_none_at_all() {
    let folder = tempfile::tempdir().unwrap();
    let (store, faults) = open_faulty(folder.path(), options()).unwrap();
    let webhook_of_power = webhook(&store).await;
    enqueue(&store, request(&webhook_of_power, "x")).await.unwrap();
    let before = faults.syncs.load(Ordering::SeqCst);
    let run = claim(&store, 1).await.remove(0).run;
    store.append_log(run.id(), run.fence(), "line\n".to_owned()).await.unwrap();
    assert_eq!(faults.syncs.load(Ordering::SeqCst), before);
    drop(store);
    let options = options().with_durability(Durability::Process);
    let (store, faults) = open_faulty(folder.path(), options).unwrap();
    let webhook = webhook(&store).await;
    enqueue(&store, request(&webhook, "x")).await.unwrap();
    assert_eq!(faults.syncs.load(Ordering::SeqCst), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_failed_sync_ends_all_writing_and_what_was_acknowledged_is_there_after_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    let (store, faults) = open_faulty(folder.path(), options()).unwrap();
    let webhook = webhook(&store).await;
    let kept = enqueue(&store, keyed(&webhook, "kept")).await.unwrap();
    faults.sync_fails.store(true, Ordering::SeqCst);
    assert!(is_unavailable(store.enqueue(request(&webhook, "lost")).await));
    faults.sync_fails.store(false, Ordering::SeqCst);
    assert!(is_unavailable(store.enqueue(request(&webhook, "x")).await), "no second try after a failed sync");
    assert!(is_unavailable(store.health().await));
    assert!(is_unavailable(store.claim(webhook_core::store::ClaimRequest::new(1, LEASE, now())).await));
    assert!(is_unavailable(store.cancel_run(kept.id(), now()).await));
    assert!(is_unavailable(store.create_webhook(webhook.with_settings(Default::default(), now())).await));
    assert_eq!(store.get_run(kept.id()).await.unwrap().unwrap().state(), RunState::Queued, "reads go on");
    drop(store);
    let store = open(folder.path());
    assert_eq!(enqueue(&store, keyed(&webhook, "kept")).await.unwrap().id(), kept.id());
    store.health().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_panic_while_changes_are_made_durable_fails_the_store_and_leaves_nobody_waiting() {
    let folder = tempfile::tempdir().unwrap();
    let (store, faults) = open_faulty(folder.path(), options()).unwrap();
    let webhook = webhook(&store).await;
    let kept = enqueue(&store, keyed(&webhook, "kept")).await.unwrap();
    faults.sync_panics.store(true, Ordering::SeqCst);
    let refused = store.enqueue(request(&webhook, "lost")).await.unwrap_err().to_string();
    assert!(refused.contains("panicked"), "{refused}");
    faults.sync_panics.store(false, Ordering::SeqCst);
    let refused = store.enqueue(request(&webhook, "x")).await.unwrap_err().to_string();
    assert!(refused.contains("panicked"), "{refused}");
    drop(store);
    let store = open(folder.path());
    assert_eq!(enqueue(&store, keyed(&webhook, "kept")).await.unwrap().id(), kept.id());
}

/// A run logs without a pause, and no caller waits for the log to be durable.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_nobody_waits_for_is_written_before_it_fills_the_memory() {
    let folder = tempfile::tempdir().unwrap();
    let (store, faults, _, run) = open_with_a_running_run(folder.path()).await;
    let before = faults.writes.load(Ordering::SeqCst);
    let line = "x".repeat(5_000) + "\n";
    for _ in 0..3 * (1 << 20) / line.len() {
        store.append_log(run.id(), run.fence(), line.clone()).await.unwrap();
    }
    assert!(faults.writes.load(Ordering::SeqCst) >= before + 2, "3 MiB are gathered in memory");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn outcomes_that_come_one_by_one_share_a_sync() {
    let folder = tempfile::tempdir().unwrap();
    let (store, faults, _, run) = open_with_a_running_run(folder.path()).await;
    let deliveries: Vec<_> = (0..50).map(|_| delivery(run.id())).collect();
    succeed(&store, &run, deliveries.clone()).await;
    faults.sync_hangs.store(true, Ordering::SeqCst);
    let before = faults.syncs.load(Ordering::SeqCst);
    let settling: Vec<_> = deliveries
        .into_iter()
        .map(|delivery| {
            let store = store.clone();
            tokio::spawn(async move { settle_delivery(&store, &delivery, DeliveryOutcome::Delivered).await })
        })
        .collect();
    tokio::time::sleep(Duration::from_millis(200)).await;
    faults.sync_hangs.store(false, Ordering::SeqCst);
    for settled in settling {
        settled.await.unwrap().unwrap();
    }
    assert!(faults.syncs.load(Ordering::SeqCst) - before <= 5);
    assert_eq!(store.health().await.unwrap().pending_deliveries, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_disk_refuses_runs_and_is_healthy_again_once_there_is_room() {
    let folder = tempfile::tempdir().unwrap();
    let (store, faults) = open_faulty(folder.path(), options()).unwrap();
    let webhook = webhook(&store).await;
    let first = enqueue(&store, keyed(&webhook, "first")).await.unwrap();
    let running = claim(&store, 1).await.remove(0).run;
    faults.no_room.store(true, Ordering::SeqCst);
    // It does not check the free space at every call.
    while !store.health().await.unwrap().is_full {
        match store.cancel_run(RunId::generate(now()), now()).await {
            Err(StoreError::NotFound(_)) => {}
            other => panic!("{other:?}"),
        }
    }
    let refused = store.enqueue(request(&webhook, "x")).await.unwrap_err().to_string();
    assert!(refused.contains("the disk is nearly full"), "{refused}");
    assert!(store.health().await.unwrap().is_full);
    // A write that fails because the disk is full stops all writing for now.
    faults.writes_fail.store(true, Ordering::SeqCst);
    let cancelled = store.cancel_run(first.id(), now()).await;
    assert!(is_unavailable(cancelled));
    faults.writes_fail.store(false, Ordering::SeqCst);
    assert!(is_unavailable(store.enqueue(request(&webhook, "x")).await), "there is no room yet");
    faults.no_room.store(false, Ordering::SeqCst);
    recovers(&store).await;
    let second = enqueue(&store, request(&webhook, "second")).await.unwrap();
    assert_eq!(enqueue(&store, keyed(&webhook, "first")).await.unwrap().id(), first.id());
    store.wait_for_work(Work::Runs).await;
    let claimed = claim(&store, 9).await;
    let ids: Vec<_> = claimed.iter().map(|claim| claim.run.id()).collect();
    assert_eq!(ids, [second.id()], "what this process executes is not claimed again");
    let ended = succeed(&store, &running, Vec::new()).await;
    assert_eq!((ended.id(), ended.fence(), ended.interruptions()), (first.id(), running.fence(), 0));
}

async fn recovers(store: &SledStore) {
    let healthy = async {
        while store.health().await.map_or(true, |health| health.is_full) {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), healthy).await.expect("it recovers by itself");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_full_disk_refused_is_not_executed() {
    let folder = tempfile::tempdir().unwrap();
    let (store, faults) = open_faulty(folder.path(), options()).unwrap();
    let webhook = webhook(&store).await;
    faults.writes_fail.store(true, Ordering::SeqCst);
    assert!(is_unavailable(store.enqueue(request(&webhook, "refused")).await));
    faults.writes_fail.store(false, Ordering::SeqCst);
    recovers(&store).await;
    assert!(store.list_runs(RunQuery::default()).await.unwrap().items.is_empty());
    assert!(claim(&store, 1).await.is_empty());
    drop(store);
    assert!(open(folder.path()).list_runs(RunQuery::default()).await.unwrap().items.is_empty());
}

/// Leases are renewed while the disk is full, and refused outcomes can be recorded once there is space.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_outcome_and_a_delivery_that_a_full_disk_refused_are_recorded_later_and_happen_once() {
    let folder = tempfile::tempdir().unwrap();
    let (store, faults, webhook, first) = open_with_a_running_run(folder.path()).await;
    let told = delivery(first.id());
    succeed(&store, &first, vec![told.clone()]).await;
    assert_eq!(claim_deliveries(&store).await.len(), 1);
    enqueue(&store, request(&webhook, "y")).await.unwrap();
    let run = claim(&store, 1).await.remove(0).run;

    faults.writes_fail.store(true, Ordering::SeqCst);
    let ending = Ending::Succeeded { summary: None, artifacts: Vec::new() };
    let outcome = Outcome::Ended { ending, deliveries: Vec::new() };
    let settlement = Settlement::new(run.id(), run.fence(), outcome, now());
    assert!(is_unavailable(store.settle(vec![settlement.clone()]).await));
    assert!(is_unavailable(settle_delivery(&store, &told, DeliveryOutcome::Delivered).await));
    let renewal = || vec![Renewal::new(run.id(), run.fence(), None)];
    let renewed = store.renew(renewal(), LEASE).await.unwrap();
    assert_eq!(renewed, [Renewed::Held { cancel: None }], "nobody else can have claimed it");
    faults.writes_fail.store(false, Ordering::SeqCst);
    recovers(&store).await;

    assert_eq!(store.renew(renewal(), LEASE).await.unwrap(), [Renewed::Held { cancel: None }]);
    assert!(claim(&store, 9).await.is_empty(), "it was executed");
    assert!(claim_deliveries(&store).await.is_empty(), "it is still leased");
    assert!(
        matches!(&store.settle(vec![settlement]).await.unwrap()[..], [Settled::Applied(run)] if run.interruptions() == 0)
    );
    settle_delivery(&store, &told, DeliveryOutcome::Delivered).await.unwrap();
    assert_eq!(store.health().await.unwrap().pending_deliveries, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_sync_that_found_no_room_is_recovered_from_and_one_that_failed_is_not() {
    let folder = tempfile::tempdir().unwrap();
    let (store, faults) = open_faulty(folder.path(), options()).unwrap();
    let webhook = webhook(&store).await;
    let kept = enqueue(&store, keyed(&webhook, "kept")).await.unwrap();
    faults.sync_is_full.store(true, Ordering::SeqCst);
    assert!(is_unavailable(store.enqueue(request(&webhook, "x")).await));
    faults.sync_is_full.store(false, Ordering::SeqCst);
    recovers(&store).await;
    assert_eq!(enqueue(&store, keyed(&webhook, "kept")).await.unwrap().id(), kept.id());
    // The disk fails while the store waits for space.
    faults.sync_is_full.store(true, Ordering::SeqCst);
    assert!(is_unavailable(store.enqueue(request(&webhook, "x")).await));
    let recovering = faults.next_sync();
    faults.sync_fails.store(true, Ordering::SeqCst);
    recovering.await;
    while !store.health().await.unwrap_err().to_string().contains("Input/output") {
        tokio::task::yield_now().await;
    }
    faults.sync_fails.store(false, Ordering::SeqCst);
    faults.sync_is_full.store(false, Ordering::SeqCst);
    tokio::time::sleep(Duration::from_millis(1_200)).await;
    assert!(is_unavailable(store.health().await), "nothing but a restart helps");
    drop(store);
    let store = open(folder.path());
    assert_eq!(enqueue(&store, keyed(&webhook, "kept")).await.unwrap().id(), kept.id());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_small_reserve_of_free_space_is_not_enough() {
    let folder = tempfile::tempdir().unwrap();
    let store = options().with_reserve_bytes(u64::MAX).open(folder.path()).unwrap();
    let webhook = webhook(&store).await;
    assert!(is_unavailable(store.enqueue(request(&webhook, "x")).await));
    // Accepted work continues, so a restart would not help.
    assert!(store.health().await.unwrap().is_full);
}
