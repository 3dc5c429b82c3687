//! Loses power at some moment: of the blocks written since the last finished sync, some are on disk and some
//! are not. Everything acknowledged by then is there, and the store opens.

#![allow(clippy::unwrap_used, reason = "a test fails by a panic")]

mod losing;
mod scene;

use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use losing::{Acknowledged, Losses};
use scene::*;
use webhook_core::id::RunId;
use webhook_core::run::RunState;
use webhook_core::store::{PruneRequest, RunQuery, Store};

const LOSSES: usize = 14;

fn seed() -> u64 {
    now().duration_since(std::time::UNIX_EPOCH).unwrap().as_nanos() as u64 | 1
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_acknowledged_is_lost_when_unsynced_writes_are() {
    let folder = tempfile::tempdir().unwrap();
    let (scene, seed) = (Losses::new(LOSSES), seed());
    eprintln!("seed {seed}");
    let path = folder.path().join("store");
    let store = scene.open(&path, options(), seed).unwrap();
    let acknowledged = scene.acknowledged.clone();
    let webhook = webhook(&store).await;
    let done = Arc::new(AtomicBool::new(false));
    let mut tasks = Vec::new();
    for caller in 0..8 {
        let (store, webhook) = (store.clone(), webhook.clone());
        let (acknowledged, done) = (acknowledged.clone(), done.clone());
        tasks.push(tokio::spawn(async move {
            let mut number = 0_usize;
            while !done.load(Ordering::SeqCst) {
                number += 1;
                let text = "x".repeat(100 + (number * 97 + caller * 31) % 2_500);
                let run =
                    enqueue(&store, keyed(&webhook, &format!("{caller} {number} {text}"))).await.unwrap();
                acknowledged.lock().insert(run.id(), RunState::Queued);
            }
        }));
    }
    tasks.push(tokio::spawn(settle_and_prune(store.clone(), acknowledged.clone(), done.clone())));
    let enough = async {
        while acknowledged.lock().len() < 20 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        scene.one_in.store(25, Ordering::SeqCst);
        while scene.count() < LOSSES {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(120), enough).await.expect("so many losses");
    done.store(true, Ordering::SeqCst);
    for task in tasks {
        task.await.unwrap();
    }
    let log_bytes = fs::metadata(path.join("sled/db")).unwrap().len();
    assert!(log_bytes > 2 << 20, "the log must have grown over several segments: {log_bytes}");
    drop(store);
    let losses = scene.take();
    for (number, loss) in losses.iter().enumerate() {
        check(&loss.folder, &loss.acknowledged, &format!("{number}, before {}", loss.before)).await;
    }
}

/// Only removals: of runs with logs and with large parameters, whose pages are shared with runs that stay.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_that_stays_is_lost_while_runs_with_logs_and_large_parameters_are_pruned() {
    let folder = tempfile::tempdir().unwrap();
    let (scene, seed) = (Losses::new(LOSSES), seed());
    eprintln!("seed {seed}");
    let store = scene.open(&folder.path().join("store"), options(), seed).unwrap();
    let (going, staying) = (webhook(&store).await, webhook_kept_for(&store, 30).await);
    let (mut kept, mut waiting) = (Vec::new(), Vec::new());
    for number in 0..120_usize {
        let webhook = if number.is_multiple_of(6) { &staying } else { &going };
        let text = "p".repeat(if number.is_multiple_of(5) { 120_000 } else { 300 });
        let run = enqueue(&store, request(webhook, &text)).await.unwrap();
        let claimed = claim(&store, 1).await.remove(0).run;
        for _ in 0..8 {
            let line = format!("{number} {}\n", "x".repeat(3_000));
            store.append_log(run.id(), claimed.fence(), line).await.unwrap();
        }
        let ended = succeed(&store, &claimed, Vec::new()).await;
        if webhook.id == staying.id {
            scene.acknowledged.lock().insert(ended.id(), ended.state());
            kept.push((ended, store.read_log(run.id(), 0).await.unwrap()));
        }
    }
    for _ in 0..40 {
        let run = enqueue(&store, request(&going, &"q".repeat(400))).await.unwrap();
        scene.acknowledged.lock().insert(run.id(), run.state());
        waiting.push(run);
    }
    scene.one_in.store(4, Ordering::SeqCst);
    let request = PruneRequest::new(now() + Duration::from_secs(1), Duration::ZERO, 20);
    while store.prune(request).await.unwrap().more {}
    drop(store);
    let losses = scene.take();
    assert!(losses.len() >= 5, "power was lost {} times only", losses.len());
    for (number, loss) in losses.iter().enumerate() {
        let store =
            check(&loss.folder, &loss.acknowledged, &format!("{number}, before {}", loss.before)).await;
        for (run, log) in &kept {
            assert_eq!(store.get_run(run.id()).await.unwrap().as_ref(), Some(run), "loss {number}");
            assert_eq!(store.read_log(run.id(), 0).await.unwrap(), *log, "loss {number}");
        }
        for run in &waiting {
            assert_eq!(store.get_run(run.id()).await.unwrap().as_ref(), Some(run), "loss {number}");
        }
        // Runs that were about to be removed are there, or not.
        while store.prune(request).await.unwrap().more {}
        let left = store.list_runs(RunQuery::default().limit(200)).await.unwrap().items;
        let ended = left.iter().filter(|run| run.state().is_ended()).count();
        assert_eq!(ended, kept.len(), "loss {number}");
    }
}

/// Every sync of a first opening is a moment at which power may be lost.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_store_that_was_being_made_opens() {
    for seed in [3, 5, 7] {
        let (folder, losses) = (tempfile::tempdir().unwrap(), Losses::new(64));
        losses.one_in.store(1, Ordering::SeqCst);
        let store = losses.open(&folder.path().join("store"), options(), seed).unwrap();
        let webhook = webhook(&store).await;
        let run = enqueue(&store, request(&webhook, "x")).await.unwrap();
        losses.acknowledged.lock().insert(run.id(), run.state());
        drop(store);
        let losses = losses.take();
        assert!(losses.len() > 10, "power was lost {} times only", losses.len());
        for loss in losses {
            check(&loss.folder, &loss.acknowledged, &loss.before).await;
        }
    }
}

/// Fills a store, and kills it: much of its data is only in the journal, and not durable in the database.
/// Returns its folder, and the durable part of it.
async fn killed(folder: &Path, losses: &Losses) -> (PathBuf, HashMap<PathBuf, Vec<u8>>) {
    let path = folder.join("store");
    let store = losses.open(&path, options(), 9).unwrap();
    let webhook = webhook(&store).await;
    for number in 0..60_usize {
        let text = "x".repeat(if number.is_multiple_of(9) { 50_000 } else { 300 });
        let run = enqueue(&store, request(&webhook, &text)).await.unwrap();
        losses.acknowledged.lock().insert(run.id(), run.state());
        if number.is_multiple_of(3) {
            let claimed = claim(&store, 1).await.remove(0).run;
            let ended = succeed(&store, &claimed, Vec::new()).await;
            losses.acknowledged.lock().insert(ended.id(), ended.state());
        }
    }
    let killed = folder.join("killed");
    copy(&path, &killed);
    // Taken before the store is closed cleanly, which makes more durable than a kill does.
    (killed, losses.durable())
}

/// Power is lost while the journal is replayed after a kill, and once more during the recovery from that.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn power_lost_while_a_journal_is_replayed_loses_nothing() {
    let (folder, before) = (tempfile::tempdir().unwrap(), Losses::new(0));
    let (killed, durable) = killed(folder.path(), &before).await;
    let acknowledged = before.acknowledged.lock().clone();
    let during = |seed: u64| {
        let losses = Losses::new(64);
        *losses.acknowledged.lock() = acknowledged.clone();
        losses.one_in.store(1, Ordering::SeqCst);
        (losses, seed)
    };
    let (losses, seed) = during(seed());
    eprintln!("seed {seed}");
    // The next process reads what the first wrote without a sync, which is no more durable than before.
    drop(losses.open_with(&killed, options(), seed, durable).unwrap());
    let losses = losses.take();
    assert!(losses.len() > 5, "power was lost {} times only", losses.len());
    for (number, loss) in losses.iter().enumerate() {
        if number.is_multiple_of(3) {
            let again = loss.folder.with_extension("again");
            copy(&loss.folder, &again);
            let (losses, seed) = during(seed + number as u64);
            drop(losses.open(&again, options(), seed).unwrap());
            for second in losses.take() {
                check(&second.folder, &second.acknowledged, &format!("{}, {}", loss.before, second.before))
                    .await;
            }
        }
        check(&loss.folder, &loss.acknowledged, &loss.before).await;
    }
}

/// The disk is full for a moment, and power is lost while the store is reopened in the process.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn power_lost_while_a_full_disk_is_recovered_from_loses_nothing() {
    let (folder, losses, seed) = (tempfile::tempdir().unwrap(), Losses::new(64), seed());
    eprintln!("seed {seed}");
    let store = losses.open(&folder.path().join("store"), options(), seed).unwrap();
    let webhook = webhook(&store).await;
    for _ in 0..40 {
        let run = enqueue(&store, request(&webhook, &"x".repeat(2_000))).await.unwrap();
        losses.acknowledged.lock().insert(run.id(), run.state());
    }
    losses.no_room.store(true, Ordering::SeqCst);
    assert!(enqueue(&store, request(&webhook, "refused")).await.is_err());
    losses.one_in.store(1, Ordering::SeqCst);
    losses.no_room.store(false, Ordering::SeqCst);
    let healthy = async {
        while store.health().await.map_or(true, |health| health.is_full) {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), healthy).await.expect("it recovers by itself");
    losses.one_in.store(0, Ordering::SeqCst);
    let run = enqueue(&store, request(&webhook, "after")).await.unwrap();
    drop(store);
    let store = options().open(folder.path().join("store")).unwrap();
    assert!(store.get_run(run.id()).await.unwrap().is_some());
    let losses = losses.take();
    assert!(losses.len() > 5, "power was lost {} times only", losses.len());
    for loss in losses {
        check(&loss.folder, &loss.acknowledged, &loss.before).await;
    }
}

async fn settle_and_prune(store: webhook_sled::SledStore, acknowledged: Acknowledged, done: Arc<AtomicBool>) {
    while !done.load(Ordering::SeqCst) {
        let claims = claim(&store, 16).await;
        if claims.is_empty() {
            tokio::task::yield_now().await;
        }
        for claim in claims {
            let ended = succeed(&store, &claim.run, Vec::new()).await;
            acknowledged.lock().insert(ended.id(), ended.state());
        }
        // The oldest ended runs are removed; whether they still exist after a loss does not matter.
        let mut old: Vec<RunId> = {
            let acknowledged = acknowledged.lock();
            acknowledged.iter().filter(|(_, state)| state.is_ended()).map(|(id, _)| *id).collect()
        };
        old.sort();
        let keep = 60;
        for id in old.iter().rev().skip(keep) {
            acknowledged.lock().remove(id);
        }
        let request = PruneRequest::new(now(), Duration::from_secs(3_600), 64);
        store.prune(request.with_keep_per_webhook(Some(keep as u64))).await.unwrap();
    }
}

async fn check(
    folder: &Path,
    acknowledged: &HashMap<RunId, RunState>,
    what: &str,
) -> webhook_sled::SledStore {
    let store = options().open(folder).unwrap_or_else(|error| panic!("loss {what}: {error:?}"));
    for (id, state) in acknowledged {
        let run = store.get_run(*id).await.unwrap_or_else(|error| panic!("loss {what}: {error:?}"));
        let run = run.unwrap_or_else(|| panic!("loss {what}: an acknowledged run is gone"));
        assert!(
            run.state() == *state || *state == RunState::Queued,
            "loss {what}: {} again",
            run.state().as_str()
        );
    }
    let report = store.verify().await.unwrap();
    assert!(report.is_whole(), "loss {what}: {report:?}");
    // The store continues to work.
    let webhook = webhook(&store).await;
    enqueue(&store, request(&webhook, "x")).await.unwrap();
    store
}
