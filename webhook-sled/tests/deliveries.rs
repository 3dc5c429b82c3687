//! Tests of deliveries across runs.

#![allow(clippy::unwrap_used, reason = "a test fails by a panic")]

mod scene;

use scene::*;
use webhook_core::id::DeliveryId;
use webhook_core::notifier::{Delivery, DeliveryOutcome, DeliveryState};
use webhook_core::store::{Channels, DeliveryClaimRequest, DeliveryQuery, DeliverySettlement, Store, Work};
use webhook_core::webhook::Channel;
use webhook_sled::SledStore;

const RUNS: usize = 50;
const RECIPIENTS: usize = 50;

/// Returns all matching deliveries, and the number of pages.
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
        let deliveries: Vec<Delivery> = (0..RECIPIENTS).map(|_| delivery(run.id())).collect();
        all.extend(deliveries.iter().cloned());
        succeed(&store, &run, deliveries).await;
    }
    all.sort_unstable_by_key(|delivery| delivery.id);
    let (oldest, newest) = (all[0].id, all[all.len() - 1].id);
    let given_up = DeliveryOutcome::GivenUp { error: "no such address".to_owned() };
    let settle = |delivery: &Delivery| match delivery.id {
        id if id == oldest => Some(DeliverySettlement::new(delivery, given_up.clone())),
        id if id == newest => None,
        _ => Some(DeliverySettlement::new(delivery, DeliveryOutcome::Delivered)),
    };
    store.settle_deliveries(all.iter().filter_map(settle).collect()).await.unwrap();
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

/// After an opening, pending deliveries are known by id only; claims read their channels.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn after_a_restart_too_only_deliveries_of_channels_that_are_asked_for_are_claimed() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path());
    let webhook = webhook(&store).await;
    enqueue(&store, request(&webhook, "x")).await.unwrap();
    let run = claim(&store, 1).await.remove(0).run;
    let mut deliveries: Vec<Delivery> = (0..500).map(|_| delivery(run.id())).collect();
    deliveries.push(delivery(run.id()));
    deliveries[500].channel = Channel::SLACK;
    let slack = deliveries[500].id;
    succeed(&store, &run, deliveries).await;
    drop(store);

    let store = open(folder.path());
    let (only_slack, but_slack) =
        (Channels::Only(Channel::SLACK), Channels::Except([Channel::SLACK].into_iter().collect()));
    let claim = async |limit, channels: &Channels| {
        let request = DeliveryClaimRequest::new(limit, LEASE).through(channels.clone());
        store.claim_deliveries(request).await.unwrap()
    };
    let mut claims = 0;
    let claimed = loop {
        store.wait_for_work(Work::Deliveries(only_slack.clone())).await;
        let claimed = claim(1, &only_slack).await;
        claims += 1;
        if !claimed.is_empty() {
            break claimed;
        }
    };
    assert_eq!(claimed.iter().map(|delivery| delivery.id).collect::<Vec<_>>(), [slack]);
    assert!(claims <= 10, "{claims} claims");
    let waiting = store.wait_for_work(Work::Deliveries(only_slack.clone()));
    let waited = tokio::time::timeout(std::time::Duration::from_millis(100), waiting).await;
    assert!(waited.is_err(), "deliveries of another channel must not end the wait once they are known");
    assert_eq!(claim(1_000, &but_slack).await.len(), 500, "what was not asked for is not leased");
}
