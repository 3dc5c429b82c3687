//! Requests that share a statement.

#![allow(clippy::unwrap_used, reason = "a test fails by a panic")]

mod scene;

use std::time::{Duration, SystemTime};

use webhook_core::clock::{Clock, SystemClock};
use webhook_core::id::{DeliveryId, RunId, WebhookId};
use webhook_core::notifier::Delivery;
use webhook_core::run::{Caller, Ending, Run, RunParameters};
use webhook_core::store::{ClaimRequest, Enqueue, Outcome, Settled, Settlement, Store};
use webhook_core::token::Token;
use webhook_core::webhook::{Channel, EventKind, Webhook, WebhookSettings};
use webhook_postgres::PostgresStore;
use webhook_testing::postgres::PrivatePostgres;

/// Concurrent look-ups of webhooks.
const LOOKUPS: usize = 200;

fn now() -> SystemTime {
    SystemClock.now()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_database_refuses_fails_alone() {
    let Some(store) = scene::fresh().await else { return };
    let (id, workflow) = (WebhookId::generate(now()), "report/sales".parse().unwrap());
    let webhook = Webhook::new(id, workflow, WebhookSettings::default(), &Token::generate(), None, now());
    store.create_webhook(webhook.clone()).await.unwrap();
    for _ in 0..20 {
        let (id, parameters) = (RunId::generate(now()), RunParameters::default());
        let run = Run::new(id, webhook.workflow.clone(), webhook.id, parameters, 1, Caller::default(), now());
        store.enqueue(Enqueue::new(run)).await.unwrap();
    }
    let claims = store.claim(ClaimRequest::new(20, Duration::from_secs(60), now())).await.unwrap();
    let told = DeliveryId::generate(now());
    let mut calls = tokio::task::JoinSet::new();
    for (index, claim) in claims.into_iter().enumerate() {
        // Two runs with one delivery: the second is refused.
        let id = if index % 10 == 7 { told } else { DeliveryId::generate(now()) };
        let delivery =
            Delivery::new(id, claim.run.id(), Channel::EMAIL, "a@example.com", EventKind::Success, now());
        let ending = Ending::Succeeded { summary: None, artifacts: Vec::new() };
        let outcome = Outcome::Ended { ending, deliveries: vec![delivery] };
        let (store, settlement) =
            (store.clone(), Settlement::new(claim.run.id(), claim.run.fence(), outcome, now()));
        calls.spawn(async move { store.settle(vec![settlement]).await });
    }
    let answers = calls.join_all().await;
    let applied = |it: &&Result<Vec<Settled>, _>| matches!(it, Ok(settled) if matches!(settled[0], Settled::Applied(_)));
    assert_eq!(answers.iter().filter(applied).count(), 19, "{answers:?}");
    let health = store.health().await.unwrap();
    assert_eq!((health.running, health.pending_deliveries), (1, 19));
}

#[tokio::test(flavor = "multi_thread")]
async fn calls_at_once_look_their_webhooks_up_together() {
    let Some(server) = PrivatePostgres::start(&["fsync=off", "log_statement=all"]) else { return };
    let store = PostgresStore::open(scene::options(&server, "lookups")).await.unwrap();
    let webhook = |workflow: &str| {
        let (id, workflow) = (WebhookId::generate(now()), workflow.parse().unwrap());
        Webhook::new(id, workflow, WebhookSettings::default(), &Token::generate(), None, now())
    };
    let known = [webhook("report/sales"), webhook("report/stock")];
    for webhook in &known {
        store.create_webhook(webhook.clone()).await.unwrap();
    }
    let digests = [known[0].token_digest, known[1].token_digest, Token::generate().digest()];
    let lookups = (0..LOOKUPS).map(|index| store.find_webhook(&digests[index % 3]));
    let found = futures_util::future::try_join_all(lookups).await.unwrap();
    for (index, found) in found.iter().enumerate() {
        let found = found.as_ref().map(|webhook| webhook.id);
        assert_eq!(found, known.get(index % 3).map(|webhook| webhook.id));
    }
    let log = server.whole_log();
    let statements = log.iter().filter(|line| line.contains("WHERE token_digest")).count();
    assert!(statements < LOOKUPS / 4, "{statements} statements for {LOOKUPS} look-ups");
}
