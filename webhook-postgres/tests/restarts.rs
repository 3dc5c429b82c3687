//! The database is restarted under load: what was acknowledged is there, once, and the store goes on by itself.

#![allow(clippy::unwrap_used, reason = "a test fails by a panic")]

mod scene;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, SystemTime};

use parking_lot::Mutex;
use tokio::task::JoinSet;
use webhook_core::clock::{Clock, SystemClock};
use webhook_core::id::{RunId, WebhookId};
use webhook_core::run::{Caller, Ending, Run, RunParameters, RunState};
use webhook_core::store::{
    ClaimRequest, Enqueue, Enqueued, Outcome, RunQuery, Settled, Settlement, Store, Work,
};
use webhook_core::token::Token;
use webhook_core::webhook::{Webhook, WebhookSettings};
use webhook_postgres::PostgresStore;
use webhook_testing::postgres::PrivatePostgres;

fn now() -> SystemTime {
    SystemClock.now()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[allow(clippy::too_many_lines, reason = "one history, from the first call to what is left of it")]
async fn nothing_acknowledged_is_lost_when_the_database_restarts() {
    let Some(mut server) = PrivatePostgres::start(&["max_connections=100"]) else { return };
    let store = PostgresStore::open(scene::options(&server, "webhook")).await.unwrap();
    let (id, workflow) = (WebhookId::generate(now()), "report/sales".parse().unwrap());
    let webhook = Webhook::new(id, workflow, WebhookSettings::default(), &Token::generate(), None, now());
    store.create_webhook(webhook.clone()).await.unwrap();

    let acknowledged: Arc<Mutex<BTreeSet<RunId>>> = Arc::default();
    let succeeded: Arc<Mutex<BTreeSet<RunId>>> = Arc::default();
    let ends = Arc::new(AtomicBool::new(false));
    let mut callers = JoinSet::new();
    for _ in 0..8 {
        let (store, webhook, acknowledged, ends) =
            (store.clone(), webhook.clone(), acknowledged.clone(), ends.clone());
        callers.spawn(async move {
            while !ends.load(Ordering::Relaxed) {
                let run = Run::new(
                    RunId::generate(now()),
                    webhook.workflow.clone(),
                    webhook.id,
                    RunParameters::default(),
                    1,
                    Caller::default(),
                    now(),
                );
                let id = run.id();
                match store.enqueue(Enqueue::new(run)).await {
                    Ok(Enqueued::Created { run, .. }) => {
                        assert_eq!(run.id(), id);
                        acknowledged.lock().insert(id);
                    }
                    Ok(other) => panic!("{other:?}"),
                    Err(_) => tokio::time::sleep(Duration::from_millis(20)).await,
                }
            }
        });
    }
    let worker = tokio::spawn({
        let (store, succeeded) = (store.clone(), succeeded.clone());
        async move {
            loop {
                let Ok(claims) = store.claim(ClaimRequest::new(64, Duration::from_secs(2), now())).await
                else {
                    tokio::time::sleep(Duration::from_millis(20)).await;
                    continue;
                };
                let count = claims.len();
                let settlements: Vec<Settlement> = claims
                    .iter()
                    .map(|claim| {
                        let ending = Ending::Succeeded { summary: None, artifacts: Vec::new() };
                        let outcome = Outcome::Ended { ending, deliveries: Vec::new() };
                        Settlement::new(claim.run.id(), claim.run.fence(), outcome, now())
                    })
                    .collect();
                loop {
                    match store.settle(settlements.clone()).await {
                        Ok(settled) => {
                            for (claim, settled) in claims.iter().zip(settled) {
                                if matches!(settled, Settled::Applied(_)) {
                                    assert!(succeeded.lock().insert(claim.run.id()), "settled twice");
                                }
                            }
                            break;
                        }
                        Err(_) => tokio::time::sleep(Duration::from_millis(20)).await,
                    }
                }
                if count == 0 {
                    store.wait_for_work(Work::Runs).await;
                }
            }
        }
    });

    for signal in ["INT", "QUIT", "INT"] {
        let before = acknowledged.lock().len();
        tokio::time::sleep(Duration::from_millis(700)).await;
        server.restart(signal);
        // It goes on once more calls are acknowledged than there may have been before the restart.
        tokio::time::timeout(Duration::from_secs(30), async {
            tokio::time::sleep(Duration::from_secs(1)).await;
            let after = acknowledged.lock().len();
            while acknowledged.lock().len() < after + 50 {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        })
        .await
        .unwrap_or_else(|_| panic!("no call was acknowledged after {signal}, and {before} before"));
    }
    ends.store(true, Ordering::Relaxed);
    callers.join_all().await;

    let acknowledged = acknowledged.lock().clone();
    let waited = tokio::time::timeout(Duration::from_secs(30), async {
        loop {
            let health = store.health().await.unwrap();
            if health.queued + health.running == 0 {
                return;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    });
    assert!(waited.await.is_ok(), "runs are left: {:?}", store.health().await);
    worker.abort();
    let mut recorded = BTreeSet::new();
    let mut before = None;
    loop {
        let page = store.list_runs(RunQuery::default().limit(200).before(before)).await.unwrap();
        for run in &page.items {
            assert_eq!(run.state(), RunState::Succeeded);
            recorded.insert(run.id());
        }
        before = page.next;
        if before.is_none() {
            break;
        }
    }
    let lost: Vec<_> = acknowledged.difference(&recorded).collect();
    assert!(lost.is_empty(), "{} of {} acknowledged runs are lost", lost.len(), acknowledged.len());
}
