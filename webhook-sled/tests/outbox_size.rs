//! Measures the disk space of an outbox that fills while a mail server is down.

#![allow(clippy::unwrap_used, reason = "a test fails by a panic")]

mod scene;

use std::path::Path;
use std::time::Duration;

use scene::*;
use webhook_core::notifier::{Delivery, DeliveryOutcome};
use webhook_core::store::{DeliveryClaimRequest, DeliverySettlement, Store};

const RUNS: usize = 100;
const RECIPIENTS: usize = 50;

fn bytes_in(folder: &Path) -> u64 {
    let entries = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    entries.map(|path| if path.is_dir() { bytes_in(&path) } else { path.metadata().unwrap().len() }).sum()
}

/// Fills an outbox, lets every delivery to this recipient fail `tries` times with this error, and returns the
/// bytes per delivery.
async fn bytes_each(recipient: &str, tries: u32, error: &str) -> u64 {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path());
    let webhook = webhook(&store).await;
    for _ in 0..RUNS {
        enqueue(&store, request(&webhook, "x")).await.unwrap();
    }
    store.wait_for_work(webhook_core::store::Work::Runs).await;
    let mut runs = Vec::new();
    while runs.len() < RUNS {
        runs.extend(claim(&store, RUNS).await.into_iter().map(|claim| claim.run));
    }
    let before = bytes_in(folder.path());
    for run in &runs {
        let to = |_| {
            let mut delivery = delivery(run.id());
            delivery.recipient = recipient.to_owned();
            delivery
        };
        let deliveries: Vec<Delivery> = (0..RECIPIENTS).map(to).collect();
        succeed(&store, run, deliveries).await;
    }
    for attempt in 1..=tries {
        for _ in 0..RUNS {
            let claimed = store.claim_deliveries(DeliveryClaimRequest::new(RECIPIENTS, LEASE)).await.unwrap();
            assert_eq!(claimed.len(), RECIPIENTS);
            let delay = if attempt < tries { Duration::ZERO } else { LEASE };
            let failed = DeliveryOutcome::Retry { error: error.to_owned(), delay, at: now() + delay };
            let failed = |delivery| DeliverySettlement::new(delivery, failed.clone());
            store.settle_deliveries(claimed.iter().map(failed).collect()).await.unwrap();
        }
    }
    assert_eq!(store.health().await.unwrap().pending_deliveries, (RUNS * RECIPIENTS) as u64);
    drop(store);
    (bytes_in(folder.path()) - before) / (RUNS * RECIPIENTS) as u64
}

/// The bounds are those that `WorkerOptions::outbox_limit` states.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pending_delivery_takes_no_more_of_the_disk_than_is_stated() {
    let (address, longest) = ("a@example.com".to_owned(), format!("{}@example.com", "a".repeat(242)));
    let (refused, longest_error) = ("connection refused".to_owned(), "x".repeat(1_024));
    let cases = [(&address, 0, &refused, 2), (&address, 3, &refused, 2), (&longest, 3, &longest_error, 8)];
    for (recipient, tries, error, stated) in cases {
        let bytes = bytes_each(recipient, tries, error).await;
        println!("after {tries} tries, with an error of {} bytes: {bytes} bytes each", error.len());
        assert!(bytes <= stated * 1_024, "{bytes} bytes each after {tries} tries");
    }
}
