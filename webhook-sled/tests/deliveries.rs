//! Deliveries across runs.

#![allow(clippy::unwrap_used)]

mod scene;

use scene::*;
use webhook_core::id::DeliveryId;
use webhook_core::notifier::{Delivery, DeliveryOutcome, DeliveryState};
use webhook_core::store::{DeliveryQuery, Store};
use webhook_sled::SledStore;

const RUNS: usize = 50;
const RECIPIENTS: usize = 50;

/// All that fit, and how many pages it took.
async fn found(store: &SledStore, query: DeliveryQuery) -> (Vec<DeliveryId>, usize) {
    let (mut ids, mut before) = (Vec::new(), None);
    for pages in 1.. {
        let page = store.find_deliveries(query.before(before)).await.unwrap();
        ids.extend(page.items.iter().map(|delivery| delivery.id));
        before = page.next;
        if before.is_none() {
            return (ids, pages);
        }
    }
    unreachable!()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rare_delivery_is_found_behind_thousands_in_bounded_steps_also_after_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path());
    let webhook = webhook(&store).await;
    let mut all = Vec::new();
    for _ in 0..RUNS {
        enqueue(&store, request(&webhook, "x")).await.unwrap();
        let run = claim(&store, 1).await.remove(0).run;
        let deliveries: Vec<Delivery> = (0..RECIPIENTS).map(|_| delivery(run.id)).collect();
        all.extend(deliveries.iter().map(|delivery| delivery.id));
        succeed(&store, &run, deliveries).await;
    }
    all.sort_unstable();
    let (oldest, newest) = (all[0], all[all.len() - 1]);
    let outcome = |id| match id {
        id if id == oldest => Some((id, DeliveryOutcome::GivenUp { error: "no such address".to_owned() })),
        id if id == newest => None,
        id => Some((id, DeliveryOutcome::Delivered)),
    };
    store.settle_deliveries(all.iter().copied().filter_map(outcome).collect()).await.unwrap();
    let in_state = |state| DeliveryQuery::default().in_state(Some(state)).limit(10);
    let check = async |store: &SledStore| {
        let first = store.find_deliveries(in_state(DeliveryState::GivenUp)).await.unwrap();
        assert!(first.items.is_empty() && first.next.is_some(), "one page does not read all");
        assert_eq!(found(store, in_state(DeliveryState::GivenUp)).await, (vec![oldest], 2));
        assert_eq!(found(store, in_state(DeliveryState::Pending)).await, (vec![newest], 1));
        let delivered = found(store, in_state(DeliveryState::Delivered).limit(200)).await.0;
        assert_eq!(delivered.len(), RUNS * RECIPIENTS - 2);
    };
    check(&store).await;
    drop(store);
    let store = open(folder.path());
    check(&store).await;
    store.resend_delivery(oldest, now()).await.unwrap();
    assert_eq!(found(&store, in_state(DeliveryState::Pending)).await.0, [newest, oldest]);
}
