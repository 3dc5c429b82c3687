//! Tests of checks while the store is used, and while its disk fails or hangs.

use std::fs::File;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::SystemTime;

use webhook_core::id::WebhookId;
use webhook_core::parameters::{EffectiveParameter, EffectiveParameters, Source};
use webhook_core::run::{Caller, Ending, RunParameters};
use webhook_core::store::{ClaimRequest, Enqueue, Enqueued, Outcome, RunQuery, Settlement, Store};
use webhook_core::token::Token;
use webhook_core::webhook::WebhookSettings;

use super::*;
use crate::engine::disk::{Disk, FileDisk};
use crate::store::SledStore;
use crate::testing::open_database;

#[derive(Default)]
struct Faults {
    hangs: AtomicBool,
    hanging: AtomicBool,
    sync_full: AtomicBool,
    write_full: AtomicBool,
    no_room: AtomicBool,
    /// Number of batches that are applied before one hangs; 0 is never.
    apply_hangs_after: std::sync::atomic::AtomicU64,
}

struct Faulty(Arc<Faults>);

impl Disk for Faulty {
    fn sync(&self, file: &File, path: &Path) -> io::Result<()> {
        if path.ends_with("webhook-store") {
            return FileDisk.sync(file, path);
        }
        while self.0.hangs.load(Ordering::SeqCst) {
            self.0.hanging.store(true, Ordering::SeqCst);
            std::thread::yield_now();
        }
        if self.0.sync_full.load(Ordering::SeqCst) {
            return Err(io::ErrorKind::StorageFull.into());
        }
        FileDisk.sync(file, path)
    }
    fn sync_folder(&self, folder: &Path) -> io::Result<()> {
        FileDisk.sync_folder(folder)
    }
    fn free_bytes(&self, folder: &Path) -> io::Result<u64> {
        if self.0.no_room.load(Ordering::SeqCst) { Ok(0) } else { FileDisk.free_bytes(folder) }
    }
    fn before_write(&self) -> io::Result<()> {
        if self.0.write_full.load(Ordering::SeqCst) { Err(io::ErrorKind::StorageFull.into()) } else { Ok(()) }
    }
    fn before_apply(&self) -> io::Result<()> {
        let left = &self.0.apply_hangs_after;
        if left.load(Ordering::SeqCst) > 0 && left.fetch_sub(1, Ordering::SeqCst) == 1 {
            self.0.hanging.store(true, Ordering::SeqCst);
            while self.0.hanging.load(Ordering::SeqCst) {
                std::thread::yield_now();
            }
        }
        Ok(())
    }
}

fn open(path: &Path) -> (SledStore, Arc<Faults>) {
    let faults = Arc::new(Faults::default());
    let options = SledStore::options().with_reserve_bytes(1 << 20);
    (SledStore::open_with(path, options, Arc::new(Faulty(faults.clone()))).unwrap(), faults)
}

async fn webhook(store: &SledStore) -> Webhook {
    let now = SystemTime::now();
    let (id, workflow) = (WebhookId::generate(now), "report/sales".parse().unwrap());
    let webhook = Webhook::new(id, workflow, WebhookSettings::default(), &Token::generate(), None, now);
    store.create_webhook(webhook.clone()).await.unwrap();
    webhook
}

fn request(webhook: &Webhook, text: &str) -> Enqueue {
    let now = SystemTime::now();
    let id = RunId::generate(now);
    let value = EffectiveParameter::new(serde_json::json!(text), Source::Body);
    let effective: EffectiveParameters = [("text".to_owned(), value)].into_iter().collect();
    let parameters = RunParameters::seal(effective, None, id).unwrap();
    Enqueue::new(Run::new(id, webhook.workflow.clone(), webhook.id, parameters, 1, Caller::default(), now))
}

async fn enqueue(store: &SledStore, request: Enqueue) -> Result<Arc<Run>, StoreError> {
    match store.enqueue(request).await? {
        Enqueued::Created { run, .. } => Ok(run),
        other => panic!("{other:?}"),
    }
}

async fn claim(store: &SledStore) -> Arc<Run> {
    let request = ClaimRequest::new(1, Duration::from_secs(300), SystemTime::now());
    store.claim(request).await.unwrap().remove(0).run
}

async fn succeed(store: &SledStore, run: &Run) {
    let ending = Ending::Succeeded { summary: None, artifacts: Vec::new() };
    let outcome = Outcome::Ended { ending, deliveries: Vec::new() };
    store.settle(vec![Settlement::new(run.id(), run.fence(), outcome, SystemTime::now())]).await.unwrap();
}

async fn catch_up(store: &SledStore) {
    store.list_runs(RunQuery::default().limit(1)).await.unwrap();
}

async fn run_with_log(store: &SledStore) -> Arc<Run> {
    let webhook = webhook(store).await;
    enqueue(store, request(&webhook, "x")).await.unwrap();
    let run = claim(store).await;
    for _ in 0..300 {
        let line = format!("{}\n", "x".repeat(99));
        store.append_log(run.id(), run.fence(), line).await.unwrap();
    }
    catch_up(store).await;
    run
}

/// Continues, value by value, until it has seen `count` values of this kind.
fn walk_into(walk: &mut Walk, parts: &Parts, kind: u8, count: u64) {
    let mut seen = 0;
    while seen < count {
        assert!(walk.go_on(parts, Duration::ZERO).unwrap().is_continue());
        let mut tallies = parts.database.tallies();
        let (tally, _) = tallies.tally_of(&walk.identity);
        if tally.kind() == Some(kind) && tally.after.is_some() {
            seen += 1;
        }
    }
}

fn finish(walk: &mut Walk, parts: &Parts) {
    while walk.go_on(parts, Duration::from_secs(1)).unwrap().is_continue() {}
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_log_whose_parts_are_joined_while_it_is_checked_is_not_damaged() {
    let folder = tempfile::tempdir().unwrap();
    let (store, _) = open(folder.path());
    let run = run_with_log(&store).await;
    let mut walk = Walk::new();
    walk_into(&mut walk, store.parts(), keys::LOG, 3);
    succeed(&store, &run).await;
    catch_up(&store).await;
    finish(&mut walk, store.parts());
    assert_eq!(store.parts().damage().records(), []);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_check_that_begins_anew_within_a_log_finds_no_damage() {
    let folder = tempfile::tempdir().unwrap();
    let (store, _) = open(folder.path());
    run_with_log(&store).await;
    let mut walk = Walk::new();
    walk_into(&mut walk, store.parts(), keys::LOG, 3);
    // Like reopen().
    store.parts().database.tallies().forget();
    finish(&mut walk, store.parts());
    assert_eq!(store.parts().damage().records(), []);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_check_that_goes_on_after_an_error_counts_nothing_twice() {
    let folder = tempfile::tempdir().unwrap();
    let (store, _) = open(folder.path());
    let webhook = webhook(&store).await;
    catch_up(&store).await;
    let parts = store.parts();
    let key = keys::by_id(keys::WEBHOOK, webhook.id.as_bytes());
    let database = parts.database.sled().unwrap();
    let value = database.get(key).unwrap().unwrap();
    let mut walk = Walk::new();
    // Simulates a disk that cannot be read for a moment.
    database.insert(key, &[9, 0, 0]).unwrap();
    walk.go_on(parts, Duration::from_secs(1)).unwrap_err();
    database.insert(key, value).unwrap();
    finish(&mut walk, parts);
    assert_eq!(parts.damage().records(), []);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_belongs_to_a_damaged_run_is_not_swept_away() {
    let folder = tempfile::tempdir().unwrap();
    let (store, _) = open(folder.path());
    let webhook = webhook(&store).await;
    let run = enqueue(&store, request(&webhook, &"x".repeat(20_000))).await.unwrap();
    drop(store);
    let key = keys::by_id(keys::LIVE, run.id().as_bytes());
    let database = open_database(folder.path()).unwrap();
    let value = database.insert(key, &[3, 0, 0, 0xff, 0xff]).unwrap().unwrap();
    database.flush().unwrap();
    drop(database);
    let (store, _) = open(folder.path());
    // The scrubber does this 15 s after the opening.
    let mut walk = Walk::new();
    finish(&mut walk, store.parts());
    let leftovers = walk.leftovers;
    store.ask(|writer| writer.prune(leftovers, Vec::new())).await.unwrap();
    drop(store);
    let database = open_database(folder.path()).unwrap();
    database.insert(key, value).unwrap();
    let parts = database.scan_prefix(keys::by_id(keys::PARAMETERS, run.id().as_bytes())).count();
    assert_eq!(parts, 4, "of its parameters");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_check_across_a_recovery_removes_nothing_of_a_run_that_is_queued() {
    let folder = tempfile::tempdir().unwrap();
    let (store, faults) = open(folder.path());
    let parts = store.parts();
    let webhook = webhook(&store).await;
    catch_up(&store).await;
    // The sync of a new run finds the disk full, after its change went to the database.
    faults.hangs.store(true, Ordering::SeqCst);
    let request = request(&webhook, &"x".repeat(20_000));
    let id = request.run.id();
    let enqueued = tokio::spawn({
        let store = store.clone();
        async move { enqueue(&store, request).await }
    });
    tokio::time::sleep(Duration::from_millis(300)).await;
    faults.no_room.store(true, Ordering::SeqCst);
    faults.sync_full.store(true, Ordering::SeqCst);
    faults.hangs.store(false, Ordering::SeqCst);
    enqueued.await.unwrap().unwrap_err();
    let mut walk = Walk::new();
    walk.go_on(parts, Duration::from_secs(1)).unwrap_err();
    faults.sync_full.store(false, Ordering::SeqCst);
    faults.no_room.store(false, Ordering::SeqCst);
    while store.health().await.is_err() {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert_eq!(store.get_run(id).await.unwrap().unwrap().id(), id, "it is queued");
    finish(&mut walk, parts);
    let leftovers = walk.leftovers;
    store.ask(|writer| writer.prune(leftovers, Vec::new())).await.unwrap();
    drop(store);
    let database = open_database(folder.path()).unwrap();
    let parts = database.scan_prefix(keys::by_id(keys::PARAMETERS, id.as_bytes())).count();
    assert_eq!(parts, 4, "of its parameters");
}

#[test]
fn a_recovery_and_the_scrubber_do_not_wait_for_each_other() {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let folder = tempfile::tempdir().unwrap();
    let (store, faults) = open(folder.path());
    let webhook = runtime.block_on(webhook(&store));
    faults.write_full.store(true, Ordering::SeqCst);
    runtime.block_on(enqueue(&store, request(&webhook, "x"))).unwrap_err();
    faults.hangs.store(true, Ordering::SeqCst);
    faults.write_full.store(false, Ordering::SeqCst);
    let patience = Instant::now();
    while !faults.hanging.load(Ordering::SeqCst) {
        assert!(patience.elapsed() < Duration::from_secs(10), "the recovery begins");
        std::thread::yield_now();
    }
    // As the scrubber does.
    let parts = store.parts().clone();
    let check = std::thread::spawn(move || drop(Walk::new().go_on(&parts, Duration::from_millis(2))));
    std::thread::sleep(Duration::from_millis(200));
    faults.hangs.store(false, Ordering::SeqCst);
    let patience = Instant::now();
    while !check.is_finished() && patience.elapsed() < Duration::from_secs(5) {
        std::thread::sleep(Duration::from_millis(10));
    }
    if !check.is_finished() {
        std::mem::forget(store);
        std::mem::forget(runtime);
        panic!("the recovery and the check wait for each other");
    }
}

#[test]
fn verify_and_the_checkpointer_do_not_wait_for_each_other() {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let folder = tempfile::tempdir().unwrap();
    let (store, _) = open(folder.path());
    let webhook = runtime.block_on(webhook(&store));
    let load = {
        let store = store.clone();
        runtime.spawn(async move {
            for _ in 0..300 {
                enqueue(&store, request(&webhook, "x")).await.unwrap();
                let run = claim(&store).await;
                for _ in 0..3 {
                    store.append_log(run.id(), run.fence(), "a line\n".to_owned()).await.unwrap();
                }
                succeed(&store, &run).await;
            }
        })
    };
    let checking = {
        let store = store.clone();
        runtime.spawn(async move {
            loop {
                drop(store.verify().await);
            }
        })
    };
    let patience = Instant::now();
    while !load.is_finished() && patience.elapsed() < Duration::from_secs(40) {
        std::thread::sleep(Duration::from_millis(10));
    }
    let is_done = load.is_finished();
    let damage = store.parts().damage().records();
    checking.abort();
    if !is_done {
        std::mem::forget(store);
        std::mem::forget(runtime);
        panic!("verify and the checkpointer wait for each other");
    }
    assert_eq!(damage, []);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn callers_do_not_wait_while_a_log_is_joined() {
    let folder = tempfile::tempdir().unwrap();
    let (store, faults) = open(folder.path());
    let run = run_with_log(&store).await;
    let webhook = webhook(&store).await;
    catch_up(&store).await;
    // The end of the run is applied, and the join of its log waits.
    faults.apply_hangs_after.store(2, Ordering::SeqCst);
    succeed(&store, &run).await;
    while !faults.hanging.load(Ordering::SeqCst) {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    let enqueued =
        tokio::time::timeout(Duration::from_secs(2), enqueue(&store, request(&webhook, "y"))).await;
    faults.hanging.store(false, Ordering::SeqCst);
    assert!(enqueued.is_ok(), "a change that needs the journal only waits for the database");
}
