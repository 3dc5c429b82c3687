use std::time::{Duration, SystemTime};

use super::*;
use crate::run::{Caller, RunParameters, RunState};
use crate::store::{ClaimRequest, Enqueue, Enqueued, Store, Work};
use crate::token::Token;
use crate::webhook::WebhookSettings;

#[tokio::test(start_paused = true)]
async fn leases_and_keys_follow_tokios_time() {
    let (store, now) = (MemoryStore::new(), SystemTime::UNIX_EPOCH);
    let id = WebhookId::generate(now);
    let settings = WebhookSettings::default();
    let workflow: crate::id::WorkflowKey = "report/sales".parse().unwrap();
    let webhook = Webhook::new(id, workflow.clone(), settings, &Token::generate(), None, now);
    store.create_webhook(webhook).await.unwrap();
    let enqueue = || {
        let (parameters, caller) = (RunParameters::default(), Caller::default());
        let run = Run::new(RunId::generate(now), workflow.clone(), id, parameters, 1, caller, now);
        let key = crate::store::Idempotency::new("key", [0; 32], Duration::from_secs(86_400));
        Enqueue::new(run).with_idempotency(Some(key))
    };
    store.enqueue(enqueue()).await.unwrap();
    let request = ClaimRequest::new(1, Duration::from_secs(3_600), now);
    assert_eq!(store.clone().claim(request.clone()).await.unwrap().len(), 1);
    assert!(store.claim(request.clone()).await.unwrap().is_empty());
    store.wait_for_work(Work::Runs).await;
    let again = store.claim(request).await.unwrap();
    assert_eq!((again[0].run.state(), again[0].run.interruptions()), (RunState::Running, 1));
    assert!(matches!(store.enqueue(enqueue()).await.unwrap(), Enqueued::Replayed(_)));
    tokio::time::advance(Duration::from_secs(86_400)).await;
    assert!(matches!(store.enqueue(enqueue()).await.unwrap(), Enqueued::Created { .. }));
    assert!(!format!("{store:?}").contains("sales"));
}
