//! Limits, bounds and keys that hold for all processes together, tried by calls at the same time through two stores.

#![allow(clippy::unwrap_used, reason = "a test fails by a panic")]

mod scene;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use tokio::task::JoinSet;
use webhook_core::clock::{Clock, SystemClock};
use webhook_core::events::{Change, EventCursor};
use webhook_core::id::{RunId, WebhookId};
use webhook_core::run::{Caller, CancelReason, Ending, Run, RunParameters, RunState};
use webhook_core::store::{
    CancelNotice, ClaimRequest, Enqueue, Enqueued, Idempotency, Outcome, RunQuery, Settlement, Store,
    StoreError, Work,
};
use webhook_core::token::Token;
use webhook_core::webhook::{Concurrency, OnOverlap, Webhook, WebhookSettings};
use webhook_postgres::PostgresStore;
use webhook_testing::postgres::PrivatePostgres;

const LEASE: Duration = Duration::from_secs(60);

fn now() -> SystemTime {
    SystemClock.now()
}

/// Two stores on one schema, as two machines have them.
async fn two() -> Option<[PostgresStore; 2]> {
    Some(two_on(scene::server()?, &scene::schema()).await)
}

async fn two_on(server: &PrivatePostgres, schema: &str) -> [PostgresStore; 2] {
    let one = PostgresStore::open(scene::options(server, schema)).await.unwrap();
    [one, PostgresStore::open(scene::options(server, schema)).await.unwrap()]
}

/// Asserts that the counters have the number of queued runs, of each webhook and of all.
fn assert_counts(server: &PrivatePostgres, schema: &str) {
    let counted = server.psql(&format!(
        "SELECT webhook, sum(queued), sum(bytes) FROM {schema}.counts WHERE webhook <> 'ffffffff-ffff-ffff-ffff-ffffffffffff' \
         GROUP BY webhook HAVING sum(queued) <> 0 OR sum(bytes) <> 0 ORDER BY webhook"
    ));
    let queued = server.psql(&format!(
        "SELECT webhook, count(*), sum(bytes) FROM {schema}.live WHERE state < 3 GROUP BY webhook ORDER BY webhook"
    ));
    assert_eq!(counted, queued);
    let all = format!(
        "SELECT sum(queued) FROM {schema}.counts WHERE webhook = 'ffffffff-ffff-ffff-ffff-ffffffffffff'"
    );
    let of_all = format!("SELECT count(*) FROM {schema}.live WHERE state < 3");
    assert_eq!(server.psql(&all), server.psql(&of_all));
}

async fn webhook(store: &PostgresStore, concurrency: Concurrency) -> Webhook {
    let settings = WebhookSettings::default();
    let settings = settings.patched(&serde_json::json!({ "concurrency": concurrency })).unwrap();
    let (id, workflow) = (WebhookId::generate(now()), "report/sales".parse().unwrap());
    let webhook = Webhook::new(id, workflow, settings, &Token::generate(), None, now());
    store.create_webhook(webhook.clone()).await.unwrap();
    webhook
}

fn request(webhook: &Webhook) -> Enqueue {
    let (id, parameters) = (RunId::generate(now()), RunParameters::default());
    let run = Run::new(id, webhook.workflow.clone(), webhook.id, parameters, 3, Caller::default(), now());
    Enqueue::new(run).with_concurrency(webhook.settings.concurrency)
}

/// Returns the results of so many requests at the same time, half of them through each store.
async fn at_once(
    stores: &[PostgresStore; 2],
    count: usize,
    request: impl Fn(usize) -> Enqueue,
) -> Vec<Enqueued> {
    let mut calls = JoinSet::new();
    for index in 0..count {
        let (store, request) = (stores[index % 2].clone(), request(index));
        calls.spawn(async move { store.enqueue(request).await.unwrap() });
    }
    calls.join_all().await
}

fn created(enqueued: &[Enqueued]) -> usize {
    enqueued.iter().filter(|it| matches!(it, Enqueued::Created { .. })).count()
}

#[tokio::test(flavor = "multi_thread")]
async fn queue_limits_are_exact_over_all_processes() {
    let Some(stores) = two().await else { return };
    let (one, other) = (
        webhook(&stores[0], Concurrency::default()).await,
        webhook(&stores[0], Concurrency::default()).await,
    );
    let enqueued = at_once(&stores, 400, |_| request(&one).with_queue_limits(Some(123), 1_000)).await;
    assert_eq!(created(&enqueued), 123, "of one webhook");
    let enqueued = at_once(&stores, 400, |_| request(&other).with_queue_limits(None, 200)).await;
    assert_eq!(created(&enqueued), 77, "of all");
    assert_eq!(stores[1].health().await.unwrap().queued, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn one_key_starts_one_run_over_all_processes() {
    let Some(stores) = two().await else { return };
    let webhook = webhook(&stores[0], Concurrency::default()).await;
    for round in 0..20 {
        let key = || Some(Idempotency::new(format!("key {round}"), [1; 32], Duration::from_secs(60)));
        let enqueued = at_once(&stores, 40, |_| request(&webhook).with_idempotency(key())).await;
        assert_eq!(created(&enqueued), 1);
        let ids = enqueued.iter().map(|enqueued| match enqueued {
            Enqueued::Created { run, .. } | Enqueued::Replayed(run) => run.id(),
            other => panic!("{other:?}"),
        });
        assert_eq!(BTreeSet::from_iter(ids).len(), 1);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn overlap_rules_hold_over_all_processes() {
    let Some(stores) = two().await else { return };
    let skipping = webhook(&stores[0], Concurrency::new(Some(3), OnOverlap::Skip)).await;
    let enqueued = at_once(&stores, 100, |_| request(&skipping)).await;
    let queued =
        |it: &&Enqueued| matches!(it, Enqueued::Created { run, .. } if run.state() == RunState::Queued);
    assert_eq!(enqueued.iter().filter(queued).count(), 3);
    let coalescing = webhook(&stores[0], Concurrency::new(Some(1), OnOverlap::Coalesce)).await;
    at_once(&stores, 100, |_| request(&coalescing)).await;
    let replacing = webhook(&stores[0], Concurrency::new(Some(1), OnOverlap::Replace)).await;
    at_once(&stores, 100, |_| request(&replacing)).await;
    let health = stores[1].health().await.unwrap();
    // Of those that coalesce, one may begin at once and one waits behind it.
    assert!((5..=6).contains(&health.queued), "{health:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bound_holds_over_all_processes_under_load() {
    let (Some(server), schema) = (scene::server(), scene::schema()) else { return };
    let stores = two_on(server, &schema).await;
    let webhook = webhook(&stores[0], Concurrency::new(Some(4), OnOverlap::Queue)).await;
    at_once(&stores, 200, |_| request(&webhook)).await;
    let executing = Arc::new(std::sync::atomic::AtomicUsize::new(0));
    let done = Arc::new(std::sync::atomic::AtomicUsize::new(0));
    let handed_back: Arc<parking_lot::Mutex<BTreeSet<RunId>>> = Arc::default();
    let mut workers = JoinSet::new();
    for index in 0..6 {
        let (store, executing, done) = (stores[index % 2].clone(), executing.clone(), done.clone());
        let handed_back = handed_back.clone();
        workers.spawn(async move {
            use std::sync::atomic::Ordering::SeqCst;
            while done.load(SeqCst) < 200 {
                let claims = store.claim(ClaimRequest::new(3, LEASE, now())).await.unwrap();
                let count = claims.len();
                assert!(
                    executing.fetch_add(count, SeqCst) + count <= 4,
                    "more execute than the bound allows"
                );
                tokio::task::yield_now().await;
                executing.fetch_sub(count, SeqCst);
                for claim in claims {
                    let ending = Ending::Succeeded { summary: None, artifacts: Vec::new() };
                    let outcome = if index % 3 == 0 && handed_back.lock().insert(claim.run.id()) {
                        Outcome::HandBack
                    } else {
                        Outcome::Ended { ending, deliveries: Vec::new() }
                    };
                    let ends = matches!(outcome, Outcome::Ended { .. });
                    let settlement = Settlement::new(claim.run.id(), claim.run.fence(), outcome, now());
                    store.settle(vec![settlement]).await.unwrap();
                    done.fetch_add(usize::from(ends), SeqCst);
                }
                if count == 0 {
                    let wait = store.wait_for_work(Work::Runs);
                    let _ = tokio::time::timeout(Duration::from_millis(100), wait).await;
                }
            }
        });
    }
    tokio::time::timeout(Duration::from_secs(60), workers.join_all()).await.unwrap();
    let health = stores[0].health().await.unwrap();
    assert_eq!((health.queued, health.running), (0, 0));
    assert_counts(server, &schema);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_queued_is_counted_whatever_becomes_of_it() {
    let (Some(server), schema) = (scene::server(), scene::schema()) else { return };
    let stores = two_on(server, &schema).await;
    for (max, rule) in [(None, OnOverlap::Queue), (Some(2), OnOverlap::Queue), (Some(1), OnOverlap::Replace)]
    {
        let webhook = webhook(&stores[0], Concurrency::new(max, rule)).await;
        at_once(&stores, 30, |_| request(&webhook)).await;
        let claims = stores[1].claim(ClaimRequest::new(6, LEASE, now()).with_ahead(4)).await.unwrap();
        let mut settlements = Vec::new();
        for (index, claim) in claims.iter().enumerate() {
            let error = webhook_core::run::RunError::new(webhook_core::run::ErrorKind::Retryable, "again");
            let outcome = match index % 3 {
                0 => Outcome::HandBack,
                1 => Outcome::Retry { error, delay: Duration::from_millis(20) },
                _ => Outcome::Ended { ending: Ending::failed(error), deliveries: Vec::new() },
            };
            settlements.push(Settlement::new(claim.run.id(), claim.run.fence(), outcome, now()));
        }
        stores[0].settle(settlements).await.unwrap();
        assert_counts(server, &schema);
        let page = stores[0]
            .list_runs(webhook_core::store::RunQuery::default().in_state(Some(RunState::Queued)))
            .await;
        for run in page.unwrap().items.iter().take(5) {
            stores[1].cancel_run(run.id(), now()).await.unwrap();
        }
        assert_counts(server, &schema);
    }
    let page = stores[0].list_webhooks(Default::default()).await.unwrap();
    for webhook in page.items {
        stores[1].delete_webhook(webhook.id, None, now()).await.unwrap();
        assert_counts(server, &schema);
    }
    let left = stores[0].health().await.unwrap();
    assert_eq!(
        left.queued
            - stores[0]
                .list_runs(webhook_core::store::RunQuery::default().in_state(Some(RunState::Queued)))
                .await
                .unwrap()
                .items
                .len() as u64,
        0
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_of_a_hosts_transaction_starts_if_and_only_if_that_commits() {
    let (Some(server), schema) = (scene::server(), scene::schema()) else { return };
    let stores = two_on(server, &schema).await;
    let config: webhook_postgres::tokio_postgres::Config =
        server.url().split('?').next().unwrap().parse().unwrap();
    let (mut client, connection) = config.connect(webhook_postgres::tokio_postgres::NoTls).await.unwrap();
    let connection = tokio::spawn(connection);
    for rule in [OnOverlap::Queue, OnOverlap::Coalesce] {
        let webhook =
            webhook(&stores[0], Concurrency::new((rule != OnOverlap::Queue).then_some(1), rule)).await;
        for commits in [false, true] {
            let transaction = client.transaction().await.unwrap();
            let keyed = || {
                request(&webhook).with_idempotency(Some(Idempotency::new(
                    "key",
                    [1; 32],
                    Duration::from_secs(60),
                )))
            };
            let enqueued = stores[0].enqueue_in(&transaction, keyed()).await.unwrap();
            let Enqueued::Created { run, .. } = enqueued else { panic!("{enqueued:?}") };
            let replayed = stores[0].enqueue_in(&transaction, keyed()).await.unwrap();
            assert!(matches!(&replayed, Enqueued::Replayed(first) if first.id() == run.id()), "{replayed:?}");
            let claims = stores[1].claim(ClaimRequest::new(9, LEASE, now())).await.unwrap();
            assert!(
                claims.iter().all(|claim| claim.run.id() != run.id()),
                "it was claimed before it was there"
            );
            if rule == OnOverlap::Queue {
                // Nobody else waits for the host's transaction.
                let other = stores[1].enqueue(request(&webhook));
                let other = tokio::time::timeout(Duration::from_secs(5), other).await.unwrap().unwrap();
                let Enqueued::Created { run, .. } = other else { panic!("{other:?}") };
                let cancel = stores[1].cancel_run(run.id(), now());
                tokio::time::timeout(Duration::from_secs(5), cancel).await.unwrap().unwrap();
            }
            if commits {
                transaction.commit().await.unwrap();
            } else {
                transaction.rollback().await.unwrap();
            }
            assert_eq!(stores[1].get_run(run.id()).await.unwrap().is_some(), commits);
            let claims = stores[1].claim(ClaimRequest::new(9, LEASE, now())).await.unwrap();
            assert_eq!(claims.iter().any(|claim| claim.run.id() == run.id()), commits);
            assert_counts(server, &schema);
        }
    }
    stores[0].prune(webhook_core::store::PruneRequest::new(now(), LEASE, 10)).await.unwrap();
    assert_eq!(server.psql(&format!("SELECT count(*) FROM {schema}.counts WHERE slot >= 100")), "0");
    assert_counts(server, &schema);
    connection.abort();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_process_is_told_of_cancellations_by_another() {
    let Some([one, other]) = two().await else { return };
    let replaced = webhook(&one, Concurrency::new(Some(1), OnOverlap::Replace)).await;
    let cancelled = webhook(&one, Concurrency::default()).await;
    for webhook in [&replaced, &cancelled] {
        one.enqueue(request(webhook)).await.unwrap();
    }
    let claims = one.claim(ClaimRequest::new(2, LEASE, now())).await.unwrap();
    let of = |webhook: &Webhook| claims.iter().find(|it| it.run.webhook_id() == webhook.id).unwrap().run.id();
    let told =
        async || tokio::time::timeout(Duration::from_secs(10), one.wait_for_cancellations()).await.unwrap();
    other.cancel_run(of(&cancelled), now()).await.unwrap();
    assert_eq!(told().await, [CancelNotice::new(of(&cancelled), CancelReason::Requested)]);
    other.enqueue(request(&replaced)).await.unwrap();
    assert_eq!(told().await, [CancelNotice::new(of(&replaced), CancelReason::Superseded)]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_that_is_closed_completes_what_was_asked_and_refuses_the_rest() {
    let Some([one, other]) = two().await else { return };
    let webhook = webhook(&one, Concurrency::default()).await;
    let requests: Vec<Enqueue> = (0..200).map(|_| request(&webhook)).collect();
    let ids: BTreeSet<RunId> = requests.iter().map(|request| request.run.id()).collect();
    let mut context = std::task::Context::from_waker(std::task::Waker::noop());
    for request in requests {
        // Polled once and dropped: it is asked for, and nobody waits for it.
        let _ = std::pin::pin!(one.enqueue(request)).poll(&mut context);
    }
    one.close().await;
    let listed = other.list_runs(RunQuery::default().limit(1_000)).await.unwrap().items;
    assert_eq!(listed.iter().map(|run| run.id()).collect::<BTreeSet<_>>(), ids);
    let refused = one.enqueue(request(&webhook)).await;
    assert!(matches!(refused, Err(StoreError::Unavailable { .. })), "{refused:?}");
    one.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn events_of_another_process_come_within_a_moment_and_in_order() {
    let Some(stores) = two().await else { return };
    let webhook = webhook(&stores[0], Concurrency::default()).await;
    let mut cursor = stores[1].events_since(None).await.unwrap().cursor;
    let mut states = Vec::new();
    let id = stores[0].enqueue(request(&webhook)).await.unwrap();
    let Enqueued::Created { run, .. } = id else { panic!("{id:?}") };
    let claims = stores[0].claim(ClaimRequest::new(1, LEASE, now())).await.unwrap();
    stores[0].append_log(run.id(), claims[0].run.fence(), "line\n".to_owned()).await.unwrap();
    let ending = Ending::Succeeded { summary: Some("é".to_owned()), artifacts: Vec::new() };
    let outcome = Outcome::Ended { ending, deliveries: Vec::new() };
    let settlement = Settlement::new(run.id(), claims[0].run.fence(), outcome, now());
    stores[0].settle(vec![settlement]).await.unwrap();
    let settled = std::time::Instant::now();
    while states.last() != Some(&RunState::Succeeded) {
        let events = tokio::time::timeout(Duration::from_secs(5), stores[1].events_since(Some(cursor))).await;
        let events = events.unwrap().unwrap();
        assert!(!events.reset);
        cursor = events.cursor;
        for event in events.items {
            if let Change::State(run) = event.change {
                states.push(run.state());
            }
        }
    }
    assert_eq!(states, [RunState::Queued, RunState::Running, RunState::Succeeded]);
    assert!(settled.elapsed() < Duration::from_secs(1), "{:?}", settled.elapsed());
}

/// Reads events after a cursor until one is that state of the run. Returns their cursors.
async fn read_until(
    store: &PostgresStore,
    mut cursor: EventCursor,
    run: RunId,
    state: RunState,
) -> Vec<EventCursor> {
    let mut cursors = Vec::new();
    loop {
        let read = tokio::time::timeout(Duration::from_secs(20), store.events_since(Some(cursor)));
        let events = read.await.unwrap().unwrap();
        assert!(!events.reset, "after {cursor}");
        cursor = events.cursor;
        for event in events.items {
            cursors.push(event.cursor);
            if matches!(&event.change, Change::State(told) if told.id() == run && told.state() == state) {
                return cursors;
            }
        }
    }
}

async fn queued(store: &PostgresStore, webhook: &Webhook) -> RunId {
    match store.enqueue(request(webhook)).await.unwrap() {
        Enqueued::Created { run, .. } => run.id(),
        other => panic!("{other:?}"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reader_goes_on_in_a_process_in_which_nobody_has_read() {
    let Some([one, other]) = two().await else { return };
    let webhook = webhook(&one, Concurrency::default()).await;
    let start = one.events_since(None).await.unwrap().cursor;
    // Of both processes at the same time, so that the numbers are in another order than the commits.
    at_once(&[one.clone(), other.clone()], 100, |_| request(&webhook)).await;
    let last = queued(&one, &webhook).await;
    let there = read_until(&one, start, last, RunState::Queued).await;
    assert_eq!(there.len(), 101);
    assert_eq!(read_until(&other, start, last, RunState::Queued).await, there);
    assert_eq!(read_until(&other, there[49], last, RunState::Queued).await, there[50..]);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_happened_while_no_process_read_is_a_gap_in_all_of_them() {
    let (Some(server), schema) = (scene::server(), scene::schema()) else { return };
    let [one, other] = two_on(server, &schema).await;
    let webhook = webhook(&one, Concurrency::default()).await;
    let start = one.events_since(None).await.unwrap().cursor;
    let run = queued(&one, &webhook).await;
    let before = *read_until(&one, start, run, RunState::Queued).await.last().unwrap();
    // The time of the only reader has run out.
    server.psql(&format!("UPDATE {schema}.processes SET reads_until = now()"));
    let unseen = queued(&one, &webhook).await;
    for store in [&other, &one] {
        let events = store.events_since(Some(before)).await.unwrap();
        assert!(events.reset && events.items.is_empty(), "{events:?}");
        let run = queued(&one, &webhook).await;
        assert_ne!(run, unseen);
        assert_eq!(read_until(store, events.cursor, run, RunState::Queued).await.len(), 1);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn who_begins_to_read_during_a_hosts_transaction_is_told_of_its_run() {
    let (Some(server), schema) = (scene::server(), scene::schema()) else { return };
    let [one, other] = two_on(server, &schema).await;
    let webhook = webhook(&one, Concurrency::default()).await;
    let config: webhook_postgres::tokio_postgres::Config =
        server.url().split('?').next().unwrap().parse().unwrap();
    let (mut client, connection) = config.connect(webhook_postgres::tokio_postgres::NoTls).await.unwrap();
    let connection = tokio::spawn(connection);
    let transaction = client.transaction().await.unwrap();
    let enqueued = one.enqueue_in(&transaction, request(&webhook)).await.unwrap();
    let Enqueued::Created { run, .. } = enqueued else { panic!("{enqueued:?}") };
    // The reader does not wait for the host.
    let start = tokio::time::timeout(Duration::from_secs(10), other.events_since(None)).await;
    let start = start.unwrap().unwrap().cursor;
    transaction.commit().await.unwrap();
    assert_eq!(read_until(&other, start, run.id(), RunState::Queued).await.len(), 1);
    connection.abort();
}
