//! Tests of work that continues while and after the database is reopened in the same process.

#![allow(clippy::unwrap_used, reason = "a test fails by a panic")]

mod scene;

use std::sync::atomic::Ordering;
use std::time::Duration;

use scene::*;
use webhook_core::notifier::DeliveryOutcome;
use webhook_core::store::{ClaimRequest, Renewal, Renewed, Store};
use webhook_sled::SledStore;

async fn recovered(store: &SledStore) {
    let healthy = async {
        while store.health().await.is_err() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(10), healthy).await.unwrap();
}

/// A tried delivery whose outcome could not be recorded is left to its worker for another lease.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_second_recovery_in_a_row_hands_out_no_delivery_that_is_under_way() {
    for recoveries in 1..=2 {
        let folder = tempfile::tempdir().unwrap();
        let (store, faults) = open_faulty(folder.path(), options()).unwrap();
        let webhook = webhook(&store).await;
        enqueue(&store, request(&webhook, "x")).await.unwrap();
        let run = claim(&store, 1).await.remove(0).run;
        let told = delivery(run.id());
        succeed(&store, &run, vec![told.clone()]).await;
        assert_eq!(claim_deliveries(&store).await.len(), 1);
        for last in 1..=recoveries {
            faults.writes_fail.store(true, Ordering::SeqCst);
            if last == recoveries {
                settle_delivery(&store, &told, DeliveryOutcome::Delivered).await.unwrap_err();
            } else {
                enqueue(&store, request(&webhook, "x")).await.unwrap_err();
            }
            faults.writes_fail.store(false, Ordering::SeqCst);
            recovered(&store).await;
        }
        let again = claim_deliveries(&store).await;
        assert!(again.is_empty(), "after {recoveries} recoveries it is handed out again");
    }
}

/// A run whose lease was just renewed is not claimed again, however long the recovery takes.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_recovery_that_takes_longer_than_a_lease_loses_no_claim() {
    let lease = Duration::from_millis(800);
    let folder = tempfile::tempdir().unwrap();
    let (store, faults) = open_faulty(folder.path(), options()).unwrap();
    let webhook = webhook(&store).await;
    enqueue(&store, request(&webhook, "x")).await.unwrap();
    let run = store.claim(ClaimRequest::new(1, lease, now())).await.unwrap().remove(0).run;
    let renew = || async {
        store.renew(vec![Renewal::new(run.id(), run.fence(), None)], lease).await.unwrap().remove(0)
    };
    faults.writes_fail.store(true, Ordering::SeqCst);
    enqueue(&store, request(&webhook, "y")).await.unwrap_err();
    assert!(matches!(renew().await, Renewed::Held { .. }));
    faults.sync_hangs.store(true, Ordering::SeqCst);
    let syncing = faults.next_sync();
    faults.writes_fail.store(false, Ordering::SeqCst);
    syncing.await;
    for _ in 0..6 {
        tokio::time::sleep(lease / 4).await;
        assert!(matches!(renew().await, Renewed::Held { .. }));
    }
    faults.sync_hangs.store(false, Ordering::SeqCst);
    recovered(&store).await;
    let again = store.claim(ClaimRequest::new(9, lease, now())).await.unwrap();
    assert!(again.is_empty(), "it was renewed less than a lease ago, and is claimed once more: {again:?}");
}
