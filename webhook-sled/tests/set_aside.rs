//! Tests that a damaged record is set aside and counted, and everything else continues.

#![allow(clippy::unwrap_used, reason = "a test fails by a panic")]

mod scene;

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use scene::*;
use webhook_core::id::RunId;
use webhook_core::run::{Run, RunState};
use webhook_core::store::{PruneRequest, RunQuery, Store};
use webhook_core::webhook::Webhook;
use webhook_sled::testing::open_database;
use webhook_sled::{RecordKind, SledStore};

const GARBAGE: &[u8] = &[3, 0, 0, 0xff, 0xff, 0xff];

/// Makes ended runs that share no value: no two of them are made within the same 16 ms.
async fn ended(store: &SledStore, webhook: &Webhook, count: usize) -> Vec<Arc<Run>> {
    let mut ended = Vec::new();
    for number in 0..count {
        tokio::time::sleep(Duration::from_millis(17)).await;
        enqueue(store, request(webhook, &format!("{number} {}", "x".repeat(2_000)))).await.unwrap();
        let claimed = claim(store, 1).await.remove(0).run;
        ended.push(succeed(store, &claimed, Vec::new()).await);
    }
    ended
}

/// Changes the database of a closed store.
fn edit(path: &Path, change: impl FnOnce(&sled::Db)) {
    let database = open_database(path).unwrap();
    change(&database);
    database.flush().unwrap();
}

fn key(kind: u8, id: &[u8; 16]) -> Vec<u8> {
    [&[kind][..], id].concat()
}

/// Returns the keys of a kind that end with this id.
fn index(database: &sled::Db, kind: u8, id: RunId) -> Vec<sled::IVec> {
    let keys = database.scan_prefix([kind]).keys().map(Result::unwrap);
    keys.filter(|key| key.ends_with(id.as_bytes())).collect()
}

async fn listed(store: &SledStore, query: RunQuery) -> Vec<RunId> {
    store.list_runs(query.limit(200)).await.unwrap().items.iter().map(|run| run.id()).collect()
}

async fn damaged(store: &SledStore) -> u64 {
    store.health().await.unwrap().damaged
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_whole_store_is_whole() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path());
    let webhook = webhook(&store).await;
    let run = enqueue(&store, keyed(&webhook, &"large ".repeat(20_000))).await.unwrap();
    let claimed = claim(&store, 1).await.remove(0).run;
    for number in 0..500 {
        store.append_log(run.id(), claimed.fence(), format!("line {number}\n")).await.unwrap();
    }
    let log = store.read_log(run.id(), 0).await.unwrap();
    succeed(&store, &claimed, vec![delivery(run.id())]).await;
    assert_eq!(store.read_log(run.id(), 0).await.unwrap(), log, "its parts are joined");
    ended(&store, &webhook, 5).await;
    enqueue(&store, keyed(&webhook, "waits")).await.unwrap();
    for _ in 0..2 {
        let report = store.verify().await.unwrap();
        assert!(report.is_whole() && report.checked > 20, "{report:?}");
    }
    drop(store);
    let store = open(folder.path());
    assert_eq!(damaged(&store).await, 0);
    let prune = PruneRequest::new(now() + Duration::from_secs(60), Duration::ZERO, 100);
    assert_eq!(store.prune(prune).await.unwrap().runs.len(), 5, "the key and the delivery of one are kept");
    let report = store.verify().await.unwrap();
    assert!(report.is_whole(), "{report:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_damaged_ended_run_hides_no_other_and_stops_no_pruning() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path());
    let webhook = webhook(&store).await;
    let runs = ended(&store, &webhook, 10).await;
    drop(store);
    edit(folder.path(), |database| {
        database.insert(key(b'r', runs[4].id().as_bytes()), GARBAGE).unwrap();
    });
    let store = open(folder.path());
    let queries = [
        RunQuery::default(),
        RunQuery::default().of_webhook(Some(webhook.id)),
        RunQuery::default().of_workflow(Some(webhook.workflow.clone())),
        RunQuery::default().in_state(Some(RunState::Succeeded)),
    ];
    for query in queries {
        let found = listed(&store, query).await;
        assert!(found.len() == 9 && !found.contains(&runs[4].id()));
    }
    assert_eq!(damaged(&store).await, 1, "it is counted once");
    assert!(
        store.get_run(runs[4].id()).await.is_err() && store.get_run(runs[5].id()).await.unwrap().is_some()
    );
    let prune = PruneRequest::new(now() + Duration::from_secs(60), Duration::ZERO, 100);
    assert_eq!(store.prune(prune).await.unwrap().runs.len(), 9);
    enqueue(&store, request(&webhook, "it goes on")).await.unwrap();
    let report = store.verify().await.unwrap();
    let ended = report.damaged.iter().filter(|damaged| damaged.kind == RecordKind::EndedRun).count();
    assert!(ended > 0 && !report.is_whole(), "{report:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_index_entry_without_its_run_is_damage_where_it_is_read() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path());
    let webhook = webhook(&store).await;
    let runs = ended(&store, &webhook, 5).await;
    drop(store);
    edit(folder.path(), |database| drop(database.remove(key(b'r', runs[2].id().as_bytes())).unwrap()));
    let store = open(folder.path());
    assert_eq!(listed(&store, RunQuery::default().of_webhook(Some(webhook.id))).await.len(), 4);
    assert_eq!(damaged(&store).await, 1);
    let prune = PruneRequest::new(now() + Duration::from_secs(60), Duration::ZERO, 100);
    assert_eq!(store.prune(prune).await.unwrap().runs.len(), 4);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_run_that_is_missing_without_a_trace_is_noticed_by_the_sums() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path());
    let webhook = webhook(&store).await;
    let runs = ended(&store, &webhook, 5).await;
    drop(store);
    edit(folder.path(), |database| {
        for kind in [b'r', b'y', b'h'] {
            for key in index(database, kind, runs[2].id()) {
                database.remove(key).unwrap();
            }
        }
    });
    let store = open(folder.path());
    let report = store.verify().await.unwrap();
    let told: Vec<String> = report.damaged.iter().map(ToString::to_string).collect();
    let missing = "1 of 5 values is missing or cannot be read";
    let of_index = format!("index of ended runs: {missing}");
    assert_eq!(told, [format!("ended run: {missing}"), of_index.clone(), of_index]);
    // Records that are added and removed meanwhile are counted on both sides.
    ended(&store, &webhook, 3).await;
    let again = store.verify().await.unwrap();
    assert_eq!(again.damaged_count, 3, "{again:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_older_than_it_was_is_noticed_although_it_is_in_order_by_itself() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path());
    let webhook = webhook(&store).await;
    ended(&store, &webhook, 3).await;
    drop(store);
    let of_webhook = key(b'w', webhook.id.as_bytes());
    let mut older = None;
    edit(folder.path(), |database| older = database.get(&of_webhook).unwrap());
    let store = open(folder.path());
    let mut changed = Webhook::clone(&webhook);
    changed.settings.enabled = !changed.settings.enabled;
    changed.revision += 1;
    store.update_webhook(changed, webhook.revision).await.unwrap();
    assert_eq!(damaged(&store).await, 0);
    drop(store);
    edit(folder.path(), |database| drop(database.insert(&of_webhook, older.unwrap()).unwrap()));
    let store = open(folder.path());
    assert_eq!(damaged(&store).await, 1, "at the start");
    let report = store.verify().await.unwrap();
    assert_eq!(report.damaged[0].to_string(), "webhook: some values are outdated");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn damage_of_two_kinds_that_have_one_name_is_counted_twice() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path());
    let webhook = webhook(&store).await;
    store.record_use(&[(webhook.id, now())]).await.unwrap();
    drop(store);
    edit(folder.path(), |database| {
        for kind in [b'w', b'u'] {
            database.remove(key(kind, webhook.id.as_bytes())).unwrap().unwrap();
        }
    });
    let store = open(folder.path());
    let report = store.verify().await.unwrap();
    assert_eq!(report.damaged_count, 2, "{:?}", report.damaged);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sums_that_are_older_than_the_last_change_are_noticed() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path());
    let webhook = webhook(&store).await;
    drop(store);
    let mut older = None;
    edit(folder.path(), |database| older = database.get(b"b").unwrap());
    let store = open(folder.path());
    ended(&store, &webhook, 1).await;
    drop(store);
    edit(folder.path(), |database| drop(database.insert(b"b", older.unwrap()).unwrap()));
    let store = open(folder.path());
    assert_eq!(damaged(&store).await, 1);
    enqueue(&store, request(&webhook, "it goes on")).await.unwrap();
    assert!(!store.verify().await.unwrap().is_whole());
    drop(store);
    // The quota does not know the size until the check, and holds from then on.
    let store = options().with_quota_bytes(2_000).open(folder.path()).unwrap();
    store.verify().await.unwrap();
    let refused = enqueue(&store, request(&webhook, "too much")).await.unwrap_err();
    assert!(refused.to_string().contains("quota"), "{refused}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn live_runs_webhooks_and_deliveries_that_are_missing_are_noticed_at_the_start() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path());
    let (first, second) = (webhook(&store).await, webhook(&store).await);
    let run = ended(&store, &first, 1).await.remove(0);
    enqueue(&store, request(&first, "to be told of")).await.unwrap();
    let claimed = claim(&store, 1).await.remove(0).run;
    let told = delivery(claimed.id());
    succeed(&store, &claimed, vec![told.clone()]).await;
    let waiting = enqueue(&store, request(&second, &"y".repeat(2_000))).await.unwrap();
    drop(store);
    edit(folder.path(), |database| {
        database.remove(key(b'w', first.id.as_bytes())).unwrap().unwrap();
        database.remove(key(b'l', waiting.id().as_bytes())).unwrap().unwrap();
        database.remove(key(b'o', told.id.as_bytes())).unwrap().unwrap();
    });
    let store = open(folder.path());
    assert_eq!(damaged(&store).await, 3);
    let report = store.verify().await.unwrap();
    for kind in [RecordKind::Webhook, RecordKind::LiveRun, RecordKind::Delivery] {
        assert!(report.damaged.iter().any(|damaged| damaged.kind == kind), "{kind}: {report:?}");
    }
    assert!(store.get_run(run.id()).await.unwrap().is_some());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_damaged_webhook_live_run_or_delivery_lets_the_rest_open() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path());
    let (first, second) = (webhook(&store).await, webhook(&store).await);
    let ended = ended(&store, &second, 2).await;
    let (bad, good) = (delivery(ended[0].id()), delivery(ended[0].id()));
    enqueue(&store, request(&second, "to be told of")).await.unwrap();
    let claimed = claim(&store, 1).await.remove(0).run;
    succeed(&store, &claimed, vec![delivery(claimed.id())]).await;
    let of_first = enqueue(&store, request(&first, &"y".repeat(2_000))).await.unwrap();
    let broken = enqueue(&store, request(&second, &"z".repeat(2_000))).await.unwrap();
    drop((store, bad, good));
    let mut due = Vec::new();
    edit(folder.path(), |database| {
        database.insert(key(b'w', first.id.as_bytes()), &[1, 0, 0, b'{']).unwrap();
        database.insert(key(b'l', broken.id().as_bytes()), GARBAGE).unwrap();
        for entry in database.scan_prefix(b"d") {
            due.push(entry.unwrap().0);
        }
        database.insert(&due[0], &[1, 0, 0, b'{']).unwrap();
    });
    let store = open(folder.path());
    assert!(damaged(&store).await >= 2);
    assert!(store.get_webhook(first.id).await.unwrap().is_none());
    assert!(store.get_webhook(second.id).await.unwrap().is_some());
    let state = store.get_run(of_first.id()).await.unwrap().unwrap().state();
    assert_eq!(state, RunState::Queued, "it waits for its webhook to be mended");
    assert!(claim_deliveries(&store).await.is_empty());
    assert!(damaged(&store).await >= 3, "the delivery was read");
    enqueue(&store, request(&second, "it goes on")).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_belongs_to_no_run_any_more_is_no_damage() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path());
    let webhook = webhook(&store).await;
    ended(&store, &webhook, 1).await;
    drop(store);
    edit(folder.path(), |database| {
        let gone = RunId::generate(now());
        let log = [&b"g"[..], gone.as_bytes(), &0_u64.to_be_bytes()].concat();
        let part = [&b"tr"[..], gone.as_bytes(), &0_u16.to_be_bytes()].concat();
        database.insert(log, "left over").unwrap();
        database.insert(part, "left over").unwrap();
        // A crash leaves them with sums that include them.
        database.remove(b"b").unwrap();
    });
    let store = open(folder.path());
    let report = store.verify().await.unwrap();
    assert!(report.is_whole(), "{report:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_query_for_a_webhook_of_another_workflow_is_answered_from_memory() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path());
    let webhook = webhook(&store).await;
    ended(&store, &webhook, 3).await;
    let other =
        RunQuery::default().of_webhook(Some(webhook.id)).of_workflow(Some("report/other".parse().unwrap()));
    assert!(listed(&store, other).await.is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_disk_that_hangs_is_told_within_seconds_and_callers_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let (store, faults) = open_faulty(folder.path(), options()).unwrap();
    let webhook = webhook(&store).await;
    let run = enqueue(&store, request(&webhook, "before")).await.unwrap();
    store.health().await.unwrap();
    faults.sync_hangs.store(true, Ordering::SeqCst);
    let (waiting, waits_for) = (store.clone(), request(&webhook, "meanwhile"));
    let waiting = tokio::spawn(async move { waiting.enqueue(waits_for).await });
    let begun = std::time::Instant::now();
    while store.health().await.is_ok() {
        assert!(begun.elapsed() < Duration::from_secs(20), "nobody notices");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let error = store.health().await.unwrap_err().to_string();
    assert!(error.contains("the disk hangs"), "{error}");
    waiting.await.unwrap().expect_err("whoever waits is told too");
    enqueue(&store, request(&webhook, "later")).await.unwrap_err();
    store.list_runs(RunQuery::default()).await.unwrap_err();
    assert!(store.get_run(run.id()).await.unwrap().is_some(), "what is in memory is there");
    faults.sync_hangs.store(false, Ordering::SeqCst);
    while store.health().await.is_err() {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    enqueue(&store, request(&webhook, "after")).await.unwrap();
}
