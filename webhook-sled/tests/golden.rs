//! Tests that folders written by earlier versions open with their content.
//!
//! `write_the_golden_folder` below wrote each folder in `tests/golden`, and never writes it again: a new
//! format gets its own folder.

#![allow(clippy::unwrap_used, reason = "a test fails by a panic")]

mod scene;

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use scene::*;
use serde_json::json;
use webhook_core::notifier::{DeliveryOutcome, DeliveryState};
use webhook_core::run::{RunParameter, RunState};
use webhook_core::sender::SenderSettings;
use webhook_core::store::{Enqueued, Idempotency, PruneRequest, RunQuery, Store, WebhookQuery};
use webhook_core::webhook::{Concurrency, OnOverlap};
use webhook_sled::testing::open_database;

fn golden(version: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(version)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_folder_of_format_one_opens_with_everything_in_it() {
    opens_with_everything_in_it("v1").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_folder_of_format_two_opens_with_everything_in_it() {
    opens_with_everything_in_it("v2").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_folder_of_format_three_opens_with_everything_in_it() {
    opens_with_everything_in_it("v3").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_folder_of_format_four_opens_with_everything_in_it() {
    opens_with_everything_in_it("v4").await;
}

/// An opening takes over the changes that a kill left in the journal of an earlier version.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn changes_in_the_journal_of_an_earlier_format_are_there() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("copy");
    copy(&golden("v3"), &path);
    fs::create_dir_all(path.join("sled/blobs")).unwrap();
    let database = open_database(&path).unwrap();
    let last: [u8; 8] = database.get("n").unwrap().unwrap()[1..].try_into().unwrap();
    let (key, _) = database.scan_prefix("u").next().unwrap().unwrap();
    drop(database);
    let change = |number: u64, milliseconds: u64| {
        let value = [&[1][..], &milliseconds.to_be_bytes()].concat();
        let write = [&[1, key.len() as u8][..], &key, &(value.len() as u32).to_le_bytes(), &value].concat();
        let content = [&number.to_le_bytes()[..], &write].concat();
        [&(content.len() as u32).to_le_bytes()[..], &crc32fast::hash(&content).to_le_bytes(), &content]
            .concat()
    };
    let (next, later) = (u64::from_be_bytes(last) + 1, 4_000_000_000_000);
    let torn = &change(next + 2, later + 2)[..20];
    fs::write(
        path.join("journal-0"),
        [&change(next, later)[..], &change(next + 1, later + 1), torn].concat(),
    )
    .unwrap();
    for _ in 0..2 {
        let store = open(&path);
        let webhooks = store.list_webhooks(WebhookQuery::default()).await.unwrap().items;
        let used = std::time::UNIX_EPOCH + Duration::from_millis(later + 1);
        assert_eq!(webhooks[0].last_used_at, Some(used));
    }
    // A gap in the numbers is reported.
    let path = folder.path().join("gap");
    copy(&golden("v3"), &path);
    fs::create_dir_all(path.join("sled/blobs")).unwrap();
    fs::write(path.join("journal-0"), change(next + 7, later)).unwrap();
    let error = options().open(&path).unwrap_err().to_string();
    assert!(error.contains("are missing"), "{error}");
}

async fn opens_with_everything_in_it(version: &str) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("copy");
    copy(&golden(version), &path);
    fs::create_dir_all(path.join("sled/blobs")).unwrap();
    let store = open(&path);
    // The sums of its records are known from the first check on.
    assert!(store.verify().await.unwrap().is_whole());

    let webhooks = store.list_webhooks(WebhookQuery::default()).await.unwrap().items;
    let webhook = &webhooks[0];
    assert_eq!(webhook.settings.label.as_deref(), Some("golden"));
    assert_eq!(webhook.settings.concurrency, Concurrency::new(Some(3), OnOverlap::Queue));
    assert_eq!(webhook.workflow.to_string(), "report/sales");
    assert!(webhook.revision == 2 && webhook.last_used_at.is_some());
    // It was made before there were settings for senders, and takes calls as it did.
    assert_eq!(webhook.settings.sender, SenderSettings::default());
    assert!(webhook.secrets.is_empty() && webhook.verify_token.is_none());
    assert_eq!(store.find_webhook(&webhook.token_digest).await.unwrap().unwrap().id, webhook.id);

    let runs = store.list_runs(RunQuery::default()).await.unwrap().items;
    let states: Vec<_> = runs.iter().map(|run| run.state()).collect();
    // Newest first; a run that was running when the folder was closed is queued again.
    assert_eq!(states, [RunState::Queued, RunState::Queued, RunState::Cancelled, RunState::Succeeded]);
    let [queued, interrupted, cancelled, succeeded] = &runs[..] else { panic!("four runs") };
    assert_eq!((interrupted.interruptions(), interrupted.attempt(), interrupted.fence()), (1, 1, 2));
    assert_eq!((succeeded.attempt(), succeeded.summary()), (1, Some("done")));
    let text = |(name, parameter): (String, RunParameter)| (name, parameter.shown());
    let shown: Vec<_> = queued.parameters().iter().map(text).collect();
    assert_eq!(shown, [("text".to_owned(), json!("large ".repeat(2_000)))], "a record in several values");
    for state in [RunState::Cancelled, RunState::Succeeded] {
        let of_webhook = RunQuery::default().of_webhook(Some(webhook.id));
        let of_workflow = RunQuery::default().of_workflow(Some(webhook.workflow.clone()));
        for query in [RunQuery::default(), of_webhook, of_workflow] {
            let found = store.list_runs(query.in_state(Some(state))).await.unwrap().items;
            assert_eq!(found.len(), 1, "{state:?}");
        }
    }

    assert_eq!(store.read_log(succeeded.id(), 0).await.unwrap().text, "first line\nsecond line\n");
    let deliveries = store.list_deliveries(&[succeeded.id()]).await.unwrap();
    let states: Vec<_> = deliveries.iter().map(|delivery| (delivery.state, delivery.attempts)).collect();
    assert_eq!(states, [(DeliveryState::Delivered, 1), (DeliveryState::Pending, 0)]);
    let due = claim_deliveries(&store).await;
    assert_eq!(due, deliveries[1..]);
    let replayed = store.enqueue(forever(webhook, "large")).await.unwrap();
    assert!(matches!(replayed, Enqueued::Replayed(run) if run.id() == queued.id()));

    // The folder can also be written.
    settle_delivery(&store, &due[0], DeliveryOutcome::Delivered).await.unwrap();
    let claims = claim(&store, 9).await;
    assert_eq!(claims.len(), 2);
    let later = now() + Duration::from_secs(3_600);
    let mut pruned = store.prune(PruneRequest::new(later, Duration::from_secs(1), 9)).await.unwrap().runs;
    pruned.sort();
    // The first golden folder is older than the rule that a run stays as long as its key is kept.
    let expected = if version == "v1" { vec![succeeded.id(), cancelled.id()] } else { Vec::new() };
    assert_eq!(pruned, expected);
    // Large parameters are moved out of the record when their run ends.
    let large = claims.iter().find(|claim| claim.run.id() == queued.id()).unwrap();
    succeed(&store, &large.run, Vec::new()).await;
    let ended = RunQuery::default().in_state(Some(RunState::Succeeded)).limit(1);
    let newest = store.list_runs(ended).await.unwrap().items.remove(0);
    assert_eq!((newest.id(), newest.parameters()), (queued.id(), queued.parameters()));
    store.delete_webhook(webhook.id, None, now()).await.unwrap();
    for _ in 0..2 {
        assert!(store.verify().await.unwrap().is_whole());
    }
    drop(store);
    let store = open(&path);
    assert!(store.health().await.unwrap().damaged == 0 && store.verify().await.unwrap().is_whole());
}

fn forever(webhook: &webhook_core::webhook::Webhook, key: &str) -> webhook_core::store::Enqueue {
    let century = Duration::from_secs(100 * 365 * 86_400);
    let text = if key == "large" { "large ".repeat(2_000) } else { key.to_owned() };
    request(webhook, &text).with_idempotency(Some(Idempotency::new(key, [7; 32], century)))
}

/// Writes the folder of the current format: `cargo test -p webhook-sled --test golden -- --ignored`.
#[ignore = "writes the folder that the test above reads"]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn write_the_golden_folder() {
    let path = golden("v4");
    assert!(!path.exists(), "a golden folder is never written again");
    let store = open(&path);
    let plain = webhook(&store).await;
    let mut settings = plain.settings.clone();
    settings.label = Some("golden".to_owned());
    settings.concurrency = Concurrency::new(Some(3), OnOverlap::Queue);
    let webhook = plain.with_settings(settings, now());
    store.update_webhook(webhook.clone(), 1).await.unwrap();
    store.record_use(&[(webhook.id, now())]).await.unwrap();
    enqueue(&store, forever(&webhook, "succeeded")).await.unwrap();
    let running = claim(&store, 1).await.remove(0).run;
    store.append_log(running.id(), running.fence(), "first line\n".to_owned()).await.unwrap();
    store.append_log(running.id(), running.fence(), "second line\n".to_owned()).await.unwrap();
    let told = delivery(running.id());
    let pending = delivery(running.id());
    succeed(&store, &running, vec![told.clone(), pending]).await;
    settle_delivery(&store, &told, DeliveryOutcome::Delivered).await.unwrap();
    let cancelled = enqueue(&store, forever(&webhook, "cancelled")).await.unwrap();
    store.cancel_run(cancelled.id(), now()).await.unwrap();
    enqueue(&store, forever(&webhook, "interrupted")).await.unwrap();
    claim(&store, 1).await;
    enqueue(&store, forever(&webhook, "large")).await.unwrap();
    drop(store);
    // The journal is empty, and is created again if it is missing.
    for name in ["journal-0", "journal-1"] {
        fs::remove_file(path.join(name)).unwrap();
    }
    // sled fills its log up with zeroes, which need not be kept.
    let log = path.join("sled/db");
    let bytes = fs::read(&log).unwrap();
    let used = bytes.iter().rposition(|byte| *byte != 0).unwrap() + 1;
    fs::write(log, &bytes[..used]).unwrap();
}
