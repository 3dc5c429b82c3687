use std::time::Duration;

use serde_json::{Map, json};
use webhook_core::error::Resource;
use webhook_core::executor::Workflow;
use webhook_core::id::{RunId, WebhookId};
use webhook_core::intake::{Method, TriggerError};
use webhook_core::manage::ManagementError;
use webhook_core::memory::MemoryStore;
use webhook_core::parameters::ParameterBlocks;
use webhook_core::run::{Caller, RunState};
use webhook_core::store::{RunQuery, WebhookQuery};
use webhook_core::token::TokenKey;
use webhook_core::webhook::{SettingCode, WebhookSettings};
use webhook_core::{BuildError, Webhooks};
use webhook_testing::{Fixture, ScriptedExecutor, Step, sales_workflow};

#[tokio::test]
async fn a_refreshed_token_replaces_the_old_one_at_once() {
    let mut fixture = Fixture::new(json!({})).await;
    let old = fixture.call(Method::Post, "");
    let refreshed = fixture.webhooks.manage().refresh_token(fixture.webhook.id, None).await.unwrap();
    assert!(matches!(fixture.send(old, "").await, Err(TriggerError::Unauthorized)));
    fixture.token = refreshed.url.expose().split_once("token=").unwrap().1.to_owned();
    fixture.trigger("").await;
    assert_eq!(refreshed.webhook.revision, 2);
}

#[tokio::test]
async fn the_url_can_be_copied_later_with_the_key_and_not_without() {
    let fixture = Fixture::new(json!({})).await;
    let url = fixture.webhooks.manage().get_url(fixture.webhook.id).await.unwrap();
    let expected =
        format!("https://app.example.com/hooks/api/v1/report/sales/webhook?token={}", fixture.token);
    assert_eq!(url.expose(), expected);
    assert_eq!(format!("{url:?}"), "TriggerUrl(***)");
    let without = Webhooks::builder().store(fixture.store.clone()).executor(fixture.executor.clone());
    let without = without.build().await.unwrap();
    let refused = without.manage().get_url(fixture.webhook.id).await;
    assert!(matches!(refused, Err(ManagementError::UrlNotRecoverable(None))));
}

#[tokio::test]
async fn a_wrong_key_is_an_error_at_start_up_and_a_former_key_still_opens() {
    let store = MemoryStore::new();
    let builder =
        || Webhooks::builder().store(store.clone()).executor(ScriptedExecutor::new([sales_workflow()]));
    let (old, new) = (TokenKey::generate(), TokenKey::generate());
    let first = builder().token_key(old.clone()).build().await.unwrap();
    let created =
        first.manage().create_webhook("report/sales".parse().unwrap(), Default::default()).await.unwrap();
    let wrong = builder().token_key(new.clone()).build().await;
    assert!(matches!(wrong, Err(BuildError::WrongKey(_))));
    let second = builder().token_key(new).opening_key(old).build().await.unwrap();
    let copied = second.manage().get_url(created.webhook.id).await.unwrap();
    assert!(copied.expose().ends_with(created.url.expose().split_once("/api").unwrap().1));
}

#[tokio::test]
async fn whatever_needs_the_token_key_of_a_service_without_one_says_so_by_its_code() {
    let plain = Workflow::new("report/plain".parse().unwrap(), "Plain", ParameterBlocks::default());
    let executor = ScriptedExecutor::new([sales_workflow(), plain]);
    let webhooks = Webhooks::builder().store(MemoryStore::new()).executor(executor).build().await.unwrap();
    let manage = webhooks.manage();
    let code = |refused: ManagementError| {
        let ManagementError::Settings(problems) = refused else { panic!("{refused}") };
        let [problem] = problems.as_slice() else { panic!("{problems:?}") };
        (problem.field.clone(), json!(problem.code))
    };
    let secret_parameters =
        manage.create_webhook("report/sales".parse().unwrap(), WebhookSettings::default()).await;
    assert_eq!(code(secret_parameters.unwrap_err()), ("workflow".to_owned(), json!("no_token_key")));
    let signed = json!({"verification": {"preset": "github"}});
    let signed = WebhookSettings::default().patched(&signed).unwrap();
    let signed = manage.create_webhook("report/plain".parse().unwrap(), signed).await;
    assert_eq!(code(signed.unwrap_err()), ("verification".to_owned(), json!("no_token_key")));
    let created =
        manage.create_webhook("report/plain".parse().unwrap(), WebhookSettings::default()).await.unwrap();
    let secret = manage.add_secret(created.webhook.id, None).await;
    assert_eq!(code(secret.err().unwrap()), ("secret".to_owned(), json!("no_token_key")));
}

#[tokio::test]
async fn builders_say_what_is_missing_or_wrong() {
    let executor = || ScriptedExecutor::new([]);
    let missing = Webhooks::builder().executor(executor()).build().await;
    assert_eq!(missing.unwrap_err().to_string(), "no store was given");
    let kind =
        Webhooks::builder().store(MemoryStore::new()).executor(executor()).kind("Bad Kind").build().await;
    assert!(matches!(kind, Err(BuildError::Kind(_))));
    let url = Webhooks::builder()
        .store(MemoryStore::new())
        .executor(executor())
        .base_url("mailto:a@example.com".parse().unwrap());
    assert!(matches!(url.build().await, Err(BuildError::BaseUrl)));
    let missing = Webhooks::builder().store(MemoryStore::new()).build().await;
    assert_eq!(missing.unwrap_err().to_string(), "no executor was given");
    let origin = Webhooks::builder().store(MemoryStore::new()).executor(executor());
    let origin = origin.allow_origin("file:///a".parse().unwrap()).build().await;
    assert!(matches!(origin, Err(BuildError::AllowedOrigin)));
}

#[tokio::test]
async fn an_unknown_workflow_and_a_missing_integration_are_named() {
    let executor = ScriptedExecutor::new([
        Workflow::new("report/open".parse().unwrap(), "Open", ParameterBlocks::default()),
        sales_workflow(),
    ]);
    let webhooks = Webhooks::builder().store(MemoryStore::new()).executor(executor).build().await.unwrap();
    let settings = WebhookSettings::default()
        .patched(&json!({"notifications": {"slack": {"channel": "#a", "on": ["failure"]}}}))
        .unwrap();
    let fields = async |workflow: &str| {
        let created = webhooks.manage().create_webhook(workflow.parse().unwrap(), settings.clone()).await;
        let Err(ManagementError::Settings(problems)) = created else { panic!("{created:?}") };
        problems.into_iter().map(|problem| (problem.field, problem.code)).collect::<Vec<_>>()
    };
    let slack = ("notifications.slack".to_owned(), SettingCode::IntegrationMissing);
    assert_eq!(fields("report/none").await, [("workflow".to_owned(), SettingCode::Unknown), slack.clone()]);
    assert_eq!(
        fields("dashboard/none").await,
        [("workflow".to_owned(), SettingCode::Unknown), slack.clone()]
    );
    assert_eq!(
        fields("report/sales").await,
        [("workflow".to_owned(), SettingCode::NoTokenKey), slack.clone()]
    );
    assert_eq!(fields("report/open").await, [slack]);
}

#[tokio::test]
async fn an_update_keeps_what_it_does_not_name_and_refuses_a_stale_revision() {
    let fixture = Fixture::new(json!({"label": "CI", "timeout_s": 5})).await;
    let manage = fixture.webhooks.manage();
    let updated = manage.update_webhook(fixture.webhook.id, &json!({"strict": true}), Some(1)).await.unwrap();
    assert_eq!(updated.settings.label.as_deref(), Some("CI"));
    assert!(updated.settings.strict);
    let stale = manage.update_webhook(fixture.webhook.id, &json!({"strict": false}), Some(1)).await;
    assert!(matches!(stale, Err(ManagementError::Conflict)));
    let wrong = manage.update_webhook(fixture.webhook.id, &json!({"timeout_s": -1, "x": 1}), None).await;
    assert!(matches!(wrong, Err(ManagementError::Settings(problems)) if problems.len() == 2));
    assert_eq!(manage.get_webhook(fixture.webhook.id).await.unwrap().revision, 2);
    let nobody = WebhookId::generate(std::time::SystemTime::now());
    assert!(matches!(manage.get_webhook(nobody).await, Err(ManagementError::NotFound(Resource::Webhook))));
}

#[tokio::test]
async fn a_wrong_recipient_is_named_when_settings_are_made() {
    let fixture = Fixture::new(json!({})).await;
    let patch = json!({"notifications": {"email": {"recipients": ["nobody"], "on": ["success"]}}});
    let refused = fixture.webhooks.manage().update_webhook(fixture.webhook.id, &patch, None).await;
    let Err(ManagementError::Settings(problems)) = refused else { panic!("{refused:?}") };
    assert!(problems[0].message.contains("nobody"));
}

#[tokio::test]
async fn deleting_stops_the_url_cancels_what_waits_and_keeps_the_history() {
    let fixture = Fixture::new(json!({})).await;
    let run = fixture.trigger("").await;
    let cancelled = fixture.webhooks.manage().delete_webhook(fixture.webhook.id, None).await.unwrap();
    assert_eq!(cancelled, [run.id()]);
    assert_eq!(fixture.run(run.id()).await.state(), RunState::Cancelled);
    assert!(fixture.send(fixture.call(Method::Post, ""), "").await.is_err());
    let list = fixture.webhooks.manage().list_webhooks(WebhookQuery::default()).await.unwrap();
    assert!(list.items.is_empty());
}

#[tokio::test]
async fn a_deletion_names_the_revision_it_expects() {
    let fixture = Fixture::new(json!({})).await;
    let (manage, id) = (fixture.webhooks.manage(), fixture.webhook.id);
    manage.set_webhook_enabled(id, false).await.unwrap();
    assert!(matches!(manage.delete_webhook(id, Some(1)).await, Err(ManagementError::Conflict)));
    assert_eq!(manage.get_webhook(id).await.unwrap().revision, 2);
    assert!(manage.delete_webhook(id, Some(2)).await.unwrap().is_empty());
    assert!(matches!(
        manage.delete_webhook(id, Some(2)).await,
        Err(ManagementError::NotFound(Resource::Webhook))
    ));
}

#[tokio::test]
async fn a_run_can_be_started_by_hand_also_on_a_disabled_webhook() {
    let fixture = Fixture::new(json!({"enabled": false})).await;
    let parameters = Map::from_iter([("rows".to_owned(), json!(3))]);
    let run = fixture
        .webhooks
        .manage()
        .start_run(fixture.webhook.id, parameters, Caller::default())
        .await
        .unwrap()
        .run;
    fixture.webhooks.run_until_idle().await.unwrap();
    assert_eq!(fixture.run(run.id()).await.state(), RunState::Succeeded);
    let wrong = Map::from_iter([("rows".to_owned(), json!("x"))]);
    let refused = fixture.webhooks.manage().start_run(fixture.webhook.id, wrong, Caller::default()).await;
    assert!(matches!(refused, Err(ManagementError::Trigger(TriggerError::Parameters(_)))));
}

#[tokio::test]
async fn a_retry_is_a_new_run_with_the_same_parameters() {
    let fixture = Fixture::new(json!({})).await;
    fixture.executor.script_next([Step::FailFatal("no".to_owned())]);
    let first = fixture.trigger("rows=5&password=canary").await;
    let manage = fixture.webhooks.manage();
    assert!(matches!(manage.retry_run(first.id(), Caller::default()).await, Err(ManagementError::StillLive)));
    fixture.webhooks.run_until_idle().await.unwrap();
    let second = manage.retry_run(first.id(), Caller::default()).await.unwrap();
    assert_eq!(second.retried_from(), Some(first.id()));
    fixture.webhooks.run_until_idle().await.unwrap();
    assert_eq!(fixture.run(second.id()).await.state(), RunState::Succeeded);
    let executed = fixture.executor.executed(2).await;
    assert_eq!(executed[0].parameters, executed[1].parameters);
    let query = RunQuery::default().in_state(Some(RunState::Failed));
    assert_eq!(manage.list_runs(query).await.unwrap().items[0].id(), first.id());
}

#[tokio::test]
async fn cancelling_what_has_ended_or_never_was_is_said() {
    let fixture = Fixture::new(json!({})).await;
    let run = fixture.trigger("").await;
    let manage = fixture.webhooks.manage();
    assert_eq!(manage.cancel_run(run.id()).await.unwrap().state(), RunState::Cancelled);
    assert!(matches!(manage.cancel_run(run.id()).await, Err(ManagementError::AlreadyEnded)));
    let nobody = RunId::generate(std::time::SystemTime::now());
    assert!(matches!(manage.cancel_run(nobody).await, Err(ManagementError::NotFound(Resource::Run))));
}

#[tokio::test]
async fn the_last_use_shows_at_once_and_is_written_later() {
    let fixture = Fixture::new(json!({})).await;
    fixture.trigger("").await;
    let fresh = fixture.webhooks.manage().get_webhook(fixture.webhook.id).await.unwrap();
    assert!(fresh.last_used_at.is_some());
    assert_eq!(fresh.revision, 1);
    let workers = fixture.webhooks.start_workers(Default::default());
    workers.shutdown(Duration::from_secs(5)).await;
    let other = Webhooks::builder().store(fixture.store.clone()).executor(fixture.executor.clone());
    let stored = other.build().await.unwrap().manage().get_webhook(fixture.webhook.id).await.unwrap();
    assert_eq!(stored.last_used_at, fresh.last_used_at);
}

#[tokio::test]
async fn a_test_notification_reaches_everyone_named() {
    let fixture = Fixture::new(json!({"notifications": {
        "email": {"recipients": ["a@example.com", "b@example.com"], "on": ["failure"]},
        "slack": {"channel": "#ops", "on": ["success"]},
    }}))
    .await;
    let tested = fixture.webhooks.manage().test_notifications(fixture.webhook.id).await.unwrap();
    assert_eq!(tested.iter().filter(|tested| tested.outcome.is_ok()).count(), 3);
    assert_eq!(fixture.notifier.delivered(3).await.len(), 3);
}

#[tokio::test]
async fn a_lost_key_can_be_forgotten_and_a_refresh_makes_the_url_copyable_again() {
    let store = MemoryStore::new();
    let builder =
        || Webhooks::builder().store(store.clone()).executor(ScriptedExecutor::new([sales_workflow()]));
    let first = builder().token_key(TokenKey::generate()).build().await.unwrap();
    let created =
        first.manage().create_webhook("report/sales".parse().unwrap(), Default::default()).await.unwrap();
    let second = builder().token_key(TokenKey::generate()).forget_unknown_keys().build().await.unwrap();
    let refused = second.manage().get_url(created.webhook.id).await;
    assert!(matches!(refused, Err(ManagementError::UrlNotRecoverable(Some(_)))));
    let refreshed = second.manage().refresh_token(created.webhook.id, None).await.unwrap();
    let copied = second.manage().get_url(created.webhook.id).await.unwrap();
    assert_eq!(copied.expose(), refreshed.url.expose());
}
