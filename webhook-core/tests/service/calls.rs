use std::sync::atomic::Ordering;
use std::time::Duration;

use serde_json::json;
use webhook_core::calls::{CallFacts, CallOutcome};
use webhook_core::intake::{Method, TriggerError, Triggered};
use webhook_core::manage::{ManagementError, NotReplayable};
use webhook_core::memory::MemoryStore;
use webhook_core::run::Caller;
use webhook_core::store::{CallQuery, CallStore, Store};
use webhook_core::token::TokenKey;
use webhook_core::webhook::SettingCode;
use webhook_core::{Webhooks, WebhooksBuilder};
use webhook_testing::{Fixture, ScriptedExecutor, sales_workflow};

use crate::unsteady::{Fault, UnsteadyStore};

/// Sends a call, and logs it as a front end does.
async fn log_accepted(fixture: &Fixture, body: &str) {
    let call = fixture.call(Method::Post, "");
    let Ok(Triggered::Accepted { run, content, .. }) = fixture.send(call, body).await else {
        panic!("not accepted")
    };
    let mut facts = CallFacts::new("POST", 202, CallOutcome::Accepted);
    facts.run_id = Some(run.id());
    facts.content = content;
    fixture.webhooks.log_call(fixture.webhook.id, &facts);
}

#[tokio::test]
async fn a_content_opens_with_its_key_and_not_without_or_with_another() {
    let fixture = Fixture::new(json!({"keep_bodies_s": 60})).await;
    log_accepted(&fixture, r#"{"note": "canary"}"#).await;
    let id = fixture.webhook.id;
    let call = fixture.webhooks.manage().list_calls(CallQuery::new(id)).await.unwrap().items[0].id;
    let now = std::time::SystemTime::now();
    let kept = fixture.store.get_call(id, call, now).await.unwrap().unwrap().content.unwrap();
    assert!(!kept.sealed.as_bytes().windows(6).any(|window| window == b"canary"), "it is sealed");
    let builder = || {
        let executor = ScriptedExecutor::new([sales_workflow()]);
        Webhooks::builder().store(fixture.store.clone()).executor(executor)
    };
    let replay = async |builder: WebhooksBuilder| {
        let webhooks = builder.forget_unknown_keys().build().await.unwrap();
        webhooks.manage().replay_call(id, call, Caller::default()).await
    };
    let refused = replay(builder()).await;
    assert!(matches!(refused, Err(ManagementError::NotReplayable(NotReplayable::NoTokenKey))), "{refused:?}");
    let refused = replay(builder().token_key(TokenKey::generate())).await;
    assert!(matches!(refused, Err(ManagementError::NotReplayable(NotReplayable::Sealed(_)))), "{refused:?}");
    let run = fixture.webhooks.manage().replay_call(id, call, Caller::default()).await.unwrap().run;
    assert!(run.parameters().as_json().contains("canary"));
}

#[tokio::test]
async fn contents_are_kept_only_where_they_can_be_sealed() {
    let executor = ScriptedExecutor::new([sales_workflow()]);
    let webhooks = Webhooks::builder().store(MemoryStore::new()).executor(executor).build().await.unwrap();
    let settings = json!({"keep_bodies_s": 60});
    let refused =
        webhooks.manage().create_webhook_from_patch("report/sales".parse().unwrap(), &settings).await;
    let Err(ManagementError::Settings(problems)) = refused else { panic!("{refused:?}") };
    assert!(problems.iter().any(|it| it.field == "keep_bodies_s" && it.code == SettingCode::NoTokenKey));
}

#[tokio::test(start_paused = true)]
async fn calls_that_the_store_does_not_take_are_kept_for_later() {
    let memory = MemoryStore::new();
    let store = UnsteadyStore::new(memory.clone());
    let fixture = Fixture::with_store(Webhooks::builder(), memory, store.clone(), json!({})).await;
    store.always(&["append_calls"], Fault::Fails);
    log_accepted(&fixture, "").await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert!(fixture.webhooks.manage().list_calls(CallQuery::new(fixture.webhook.id)).await.is_err());
    store.heal();
    log_accepted(&fixture, "").await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    let kept = fixture.store.list_calls(CallQuery::new(fixture.webhook.id)).await.unwrap();
    assert_eq!(kept.items.len(), 2, "both, without anyone asking");
}

#[tokio::test(start_paused = true)]
async fn a_store_without_calls_leaves_their_rates_and_their_log_to_the_service() {
    let memory = MemoryStore::new();
    let store = UnsteadyStore::new(memory.clone()).without_calls();
    let settings = json!({"keep_bodies_s": 60, "rate_limit": {"per_minute": 6, "burst": 2}});
    let fixture = Fixture::with_store(Webhooks::builder(), memory.clone(), store, settings).await;
    log_accepted(&fixture, r#"{"note": "first"}"#).await;
    log_accepted(&fixture, r#"{"note": "second"}"#).await;
    let refused = fixture.send(fixture.call(Method::Post, ""), "").await;
    assert!(matches!(refused, Err(TriggerError::RateLimited { .. })), "{refused:?}");
    let (manage, query) = (fixture.webhooks.manage(), CallQuery::new(fixture.webhook.id));
    let logged = manage.list_calls(query).await.unwrap().items;
    assert_eq!(logged.len(), 2);
    assert_eq!(memory.list_calls(query).await.unwrap().items, [], "the store has none");
    let run = manage.replay_call(query.webhook, logged[1].id, Caller::default()).await.unwrap().run;
    assert!(run.parameters().as_json().contains("first"));
    manage.delete_webhook(query.webhook, None).await.unwrap();
    let gone = manage.list_calls(query).await;
    assert!(matches!(gone, Err(ManagementError::NotFound(_))), "{gone:?}");
}

#[tokio::test]
async fn a_service_that_is_closed_writes_its_last_calls_and_closes_its_store() {
    let memory = MemoryStore::new();
    let store = UnsteadyStore::new(memory.clone());
    let fixture = Fixture::with_store(Webhooks::builder(), memory.clone(), store.clone(), json!({})).await;
    log_accepted(&fixture, "").await;
    fixture.webhooks.close().await;
    assert_eq!(memory.list_calls(CallQuery::new(fixture.webhook.id)).await.unwrap().items.len(), 1);
    let used = memory.get_webhook(fixture.webhook.id).await.unwrap().unwrap().last_used_at;
    assert!(used.is_some(), "the last use is recorded, too");
    assert!(store.is_closed.load(Ordering::SeqCst));
    let refused = fixture.send(fixture.call(Method::Post, ""), "").await;
    assert!(matches!(refused, Err(TriggerError::ShuttingDown)), "{refused:?}");
}
