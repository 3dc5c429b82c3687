//! Tests of the outbox over a store that fails or stalls, during outages, and at shutdown.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use serde_json::json;
use tokio::time::Instant;
use webhook_core::Webhooks;
use webhook_core::id::RunId;
use webhook_core::memory::MemoryStore;
use webhook_core::notifier::{Delivery, DeliveryState};
use webhook_core::run::RunState;
use webhook_core::store::Channels;
use webhook_core::webhook::Channel;
use webhook_core::work::WorkerOptions;

use super::notifications::Mail;
use super::unsteady::{Fault, UnsteadyStore};
use webhook_testing::Fixture;

fn options() -> WorkerOptions {
    WorkerOptions::default().with_threads(false)
}

fn seconds(count: u64) -> Duration {
    Duration::from_secs(count)
}

async fn fixture(mail: &Mail, recipient: &str) -> (Fixture, UnsteadyStore) {
    let settings = json!({"notifications": {"email": {"recipients": [recipient], "on": ["success"]}}});
    let memory = MemoryStore::new();
    let store = UnsteadyStore::new(memory.clone());
    let builder = Webhooks::builder().notifier(mail.clone());
    (Fixture::with_store(builder, memory, store.clone(), settings).await, store)
}

async fn delivery(fixture: &Fixture, run: RunId) -> Delivery {
    fixture.webhooks.manage().list_deliveries(run).await.unwrap().remove(0)
}

/// Fails a method `times` times.
fn failing(method: &'static str, times: usize, fault: Fault) -> impl Fn(&str) -> Option<Fault> {
    let left = AtomicUsize::new(times);
    move |called| {
        let fails = called == method
            && left.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(1)).is_ok();
        fails.then_some(fault)
    }
}

#[tokio::test(start_paused = true)]
async fn an_outcome_that_cannot_be_recorded_is_tried_again_and_the_message_goes_out_once() {
    for fault in [Fault::Fails, Fault::LosesItsAnswer, Fault::Panics, Fault::Stalls(seconds(4))] {
        let mail = Mail::new([]);
        let (fixture, store) = fixture(&mail, "a@example.com").await;
        store.set(failing("settle_deliveries", 5, fault));
        let workers = fixture.webhooks.start_workers(options());
        let run = fixture.trigger("").await;
        mail.tried("a", 1).await;
        tokio::time::sleep(seconds(20)).await;
        assert_eq!(delivery(&fixture, run.id()).await.state, DeliveryState::Delivered, "{fault:?}");
        tokio::time::sleep(seconds(1_000)).await;
        assert_eq!(mail.tried("a", 1).await.len(), 1, "{fault:?}");
        workers.shutdown(seconds(1)).await;
    }
}

#[tokio::test(start_paused = true)]
async fn an_outcome_that_is_lost_for_good_lets_the_delivery_come_back_after_its_lease() {
    let mail = Mail::new([]);
    let (fixture, store) = fixture(&mail, "a@example.com").await;
    store.set(|method| (method == "settle_deliveries").then_some(Fault::Fails));
    let workers = fixture.webhooks.start_workers(options());
    let run = fixture.trigger("").await;
    let tried = mail.tried("a", 2).await;
    assert!((seconds(90)..seconds(180)).contains(&(tried[1] - tried[0])), "{:?}", tried[1] - tried[0]);
    store.set(|_| None);
    tokio::time::sleep(seconds(60)).await;
    assert_eq!(delivery(&fixture, run.id()).await.state, DeliveryState::Delivered);
    workers.shutdown(seconds(1)).await;
}

/// Each step of a delivery takes nearly as long as it may.
#[tokio::test(start_paused = true)]
async fn a_lease_covers_claiming_preparing_delivering_and_recording() {
    let mail = Mail::new([]);
    let (fixture, store) = fixture(&mail, "minute@example.com").await;
    let recorded_from = Arc::new(parking_lot::Mutex::new(None::<Instant>));
    let started = recorded_from.clone();
    let slow_claim = AtomicUsize::new(0);
    store.set(move |method| match method {
        "claim_deliveries" if slow_claim.fetch_add(1, Ordering::SeqCst) < 2 => {
            Some(Fault::Stalls(seconds(7)))
        }
        "get_run" => Some(Fault::Stalls(seconds(7))),
        "settle_deliveries" => {
            let from = *started.lock().get_or_insert_with(Instant::now);
            (from.elapsed() < seconds(25)).then_some(Fault::Fails)
        }
        _ => None,
    });
    let run = fixture.trigger("").await;
    let workers = fixture.webhooks.start_workers(options());
    mail.tried("minute", 1).await;
    tokio::time::sleep(seconds(600)).await;
    assert_eq!(mail.tried("minute", 1).await.len(), 1);
    store.set(|_| None);
    assert_eq!(delivery(&fixture, run.id()).await.state, DeliveryState::Delivered);
    workers.shutdown(seconds(1)).await;
}

#[tokio::test(start_paused = true)]
async fn what_was_claimed_too_late_is_not_tried_under_that_claim() {
    let mail = Mail::new([]);
    let (fixture, store) = fixture(&mail, "a@example.com").await;
    let run = fixture.trigger("").await;
    let idle = fixture.webhooks.start_workers(options());
    fixture.ended(run.id()).await;
    idle.shutdown(seconds(1)).await;
    fixture.webhooks.manage().resend_delivery(delivery(&fixture, run.id()).await.id).await.unwrap();
    let before = mail.tried("a", 0).await.len();
    store.set(failing("claim_deliveries", 1, Fault::Stalls(seconds(10))));
    let (start, workers) = (Instant::now(), fixture.webhooks.start_workers(options()));
    let tried = mail.tried("a", before + 1).await[before];
    assert!(tried - start >= seconds(100), "only after its lease: {:?}", tried - start);
    workers.shutdown(seconds(1)).await;
}

#[tokio::test(start_paused = true)]
async fn an_outage_claims_nothing_but_probes_and_asks_seldom() {
    const RUNS: usize = 500;
    let mail = Mail::new([]);
    let (fixture, store) = fixture(&mail, "a@example.com").await;
    mail.is_down.store(true, Ordering::SeqCst);
    let workers = fixture.webhooks.start_workers(options());
    for _ in 0..RUNS {
        let run = fixture.trigger("").await;
        fixture.ended(run.id()).await;
    }
    tokio::time::sleep(seconds(60)).await;
    store.asked.lock().clear();
    tokio::time::sleep(seconds(3_600)).await;
    let asked = std::mem::take(&mut *store.asked.lock());
    assert!((200..2_000).contains(&asked.len()), "{} requests in an hour", asked.len());
    for (request, claimed) in &asked {
        let may_be_email = request.channels.include(Channel::EMAIL);
        assert_eq!(may_be_email, request.channels == Channels::Only(Channel::EMAIL), "{request:?}");
        assert!(!may_be_email || request.limit == 1, "{request:?}");
        assert!(*claimed <= 1);
    }
    let claimed: usize = asked.iter().map(|(_, claimed)| claimed).sum();
    assert!(claimed <= 250, "{claimed} claimed, one about every 15 s");
    mail.is_down.store(false, Ordering::SeqCst);
    let tried = mail.tried("a", 1).await.len();
    tokio::time::sleep(seconds(20)).await;
    let sent = mail.tried("a", 1).await.len() - tried;
    assert!(sent >= RUNS - 320, "those that were never tried are not left to a lease: {sent}");
    workers.shutdown(seconds(1)).await;
}

/// A breaker whose channel has nothing due must neither spin nor keep the only slot from other channels.
#[tokio::test(start_paused = true)]
async fn an_outage_without_due_deliveries_holds_up_nothing() {
    let mail = Mail::new([]);
    let settings = json!({"notifications": {
        "email": {"recipients": ["a@example.com"], "on": ["success"]},
        "slack": {"channel": "#ops", "on": ["success"]},
    }});
    let memory = MemoryStore::new();
    let store = UnsteadyStore::new(memory.clone());
    let builder = Webhooks::builder().notifier(mail.clone());
    let fixture = Fixture::with_store(builder, memory, store.clone(), settings).await;
    mail.is_down.store(true, Ordering::SeqCst);
    let workers = fixture.webhooks.start_workers(options().with_delivery_slots(1));
    fixture.trigger("").await;
    mail.tried("a", 1).await;
    fixture.notifier.delivered(1).await;
    store.asked.lock().clear();
    tokio::time::sleep(seconds(5)).await;
    let asked = store.asked.lock().len();
    assert!(asked < 20, "{asked} requests in five seconds without anything due");
    let start = Instant::now();
    fixture.trigger("").await;
    fixture.notifier.delivered(2).await;
    assert!(start.elapsed() < seconds(1), "{:?}", start.elapsed());
    workers.shutdown(seconds(1)).await;
}

#[tokio::test(start_paused = true)]
async fn deliveries_under_way_end_within_the_patience_of_a_shutdown() {
    let mail = Mail::new([]);
    let (fixture, _) = fixture(&mail, "slow@example.com").await;
    let workers = fixture.webhooks.start_workers(options());
    let run = fixture.trigger("").await;
    mail.tried("slow", 1).await;
    let start = Instant::now();
    workers.shutdown(seconds(30)).await;
    assert_eq!(delivery(&fixture, run.id()).await.state, DeliveryState::Delivered);
    assert!(start.elapsed() <= seconds(4), "no longer than it takes: {:?}", start.elapsed());
}

#[tokio::test(start_paused = true)]
async fn a_shutdown_waits_for_deliveries_no_longer_than_its_patience() {
    let mail = Mail::new([]);
    let (fixture, _) = fixture(&mail, "dead@example.com").await;
    let workers = fixture.webhooks.start_workers(options());
    let run = fixture.trigger("").await;
    mail.tried("dead", 1).await;
    let start = Instant::now();
    workers.shutdown(seconds(7)).await;
    assert!((seconds(6)..seconds(8)).contains(&start.elapsed()), "{:?}", start.elapsed());
    let told = delivery(&fixture, run.id()).await;
    assert_eq!((told.state, told.attempts), (DeliveryState::Pending, 0));
}

#[tokio::test(start_paused = true)]
async fn a_panic_of_notifier_or_store_ends_no_more_than_one_try() {
    let mail = Mail::new([]);
    let (fixture, store) = fixture(&mail, "panics@example.com").await;
    let workers = fixture.webhooks.start_workers(options());
    let run = fixture.trigger("").await;
    mail.tried("panics", 2).await;
    let told = delivery(&fixture, run.id()).await;
    assert_eq!(told.last_error.as_deref(), Some("the notifier panicked"));
    for method in ["claim_deliveries", "get_run"] {
        store.set(failing(method, 1, Fault::Panics));
        let before = mail.tried("panics", 0).await.len();
        fixture.webhooks.manage().resend_delivery(told.id).await.unwrap();
        mail.tried("panics", before + 2).await;
    }
    workers.shutdown(seconds(1)).await;
}

#[tokio::test(start_paused = true)]
async fn an_error_of_a_notifier_that_panics_when_it_is_told_counts_as_a_try() {
    let mail = Mail::new([]);
    let (fixture, _) = fixture(&mail, "untellable@example.com").await;
    let workers = fixture.webhooks.start_workers(options());
    let run = fixture.trigger("").await;
    mail.tried("untellable", 2).await;
    let told = delivery(&fixture, run.id()).await;
    assert!(told.attempts >= 1, "{told:?}");
    assert_eq!(told.last_error.as_deref(), Some("the notifier panicked"));
    workers.shutdown(seconds(1)).await;
}

#[tokio::test(start_paused = true)]
async fn the_bound_on_the_outbox_holds_while_the_store_cannot_tell_how_much_is_pending() {
    for fault in [Fault::Fails, Fault::Stalls(seconds(3_600))] {
        let mail = Mail::new([]);
        let (fixture, store) = fixture(&mail, "dead@example.com").await;
        store.set(move |method| (method == "health").then_some(fault));
        let workers = fixture.webhooks.start_workers(options().with_outbox_limit(10));
        let mut states = Vec::new();
        for _ in 0..20 {
            let run = fixture.trigger("").await;
            assert_eq!(fixture.ended(run.id()).await.state(), RunState::Succeeded);
            tokio::time::sleep(seconds(2)).await;
            states.push(delivery(&fixture, run.id()).await.state);
        }
        let pending = states.iter().filter(|state| **state == DeliveryState::Pending).count();
        assert_eq!(pending, 10, "{fault:?}");
        workers.shutdown(seconds(1)).await;
    }
}

#[tokio::test(start_paused = true)]
async fn nothing_is_given_up_for_want_of_room_while_the_outbox_is_empty() {
    let mail = Mail::new([]);
    let (fixture, store) = fixture(&mail, "a@example.com").await;
    store.set(|method| (method == "health").then_some(Fault::Fails));
    let workers = fixture.webhooks.start_workers(options().with_outbox_limit(2));
    for _ in 0..50 {
        let run = fixture.trigger("").await;
        fixture.ended(run.id()).await;
        tokio::time::sleep(Duration::from_millis(10)).await;
        assert_eq!(delivery(&fixture, run.id()).await.state, DeliveryState::Delivered);
    }
    workers.shutdown(seconds(1)).await;
}
