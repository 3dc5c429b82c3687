//! Parts that a host shares, combines and makes once.

use std::sync::Arc;
use std::time::Duration;

use serde_json::json;
use webhook_core::clock::Clock;
use webhook_core::executor::{ArtifactContent, Executor, Executors, FnExecutor, RunOutput, Workflow};
use webhook_core::manage::ManagementError;
use webhook_core::memory::MemoryStore;
use webhook_core::notifier::Notifier;
use webhook_core::parameters::ParameterBlocks;
use webhook_core::run::{Caller, RunState};
use webhook_core::store::{RunQuery, Store};
use webhook_core::token::TokenKey;
use webhook_core::webhook::{SettingCode, WebhookSettings};
use webhook_core::{Webhooks, WebhooksBuilder};
use webhook_testing::{
    DeliverFailure, Fixture, RecordingNotifier, ScriptedExecutor, Step, TestClock, sales_workflow,
};

const DAY: Duration = Duration::from_secs(86_400);

/// Has a service execute a run that leaves an artifact, tells of it, and is pruned after its retention.
async fn use_every_part(
    builder: WebhooksBuilder,
    executor: &ScriptedExecutor,
    notifier: &RecordingNotifier,
    clock: &TestClock,
) {
    let webhooks = builder.build().await.unwrap();
    let settings =
        json!({"retention_days": 2, "notifications": {"slack": {"channel": "#a", "on": ["success"]}}});
    let settings = WebhookSettings::default().patched(&settings).unwrap();
    let manage = webhooks.manage();
    let webhook = manage.create_webhook("report/sales".parse().unwrap(), settings).await.unwrap().webhook;
    assert_eq!(webhook.created_at, clock.now());
    assert_eq!(manage.list_workflows(None).await.unwrap().items.len(), 1);
    let (name, bytes) = ("a.txt".to_owned(), b"text".to_vec());
    executor.script_next([Step::Artifact { name, content_type: "text/plain".to_owned(), bytes }]);
    let run = manage.start_run(webhook.id, serde_json::Map::new(), Caller::default()).await.unwrap().run.id();
    webhooks.run_until_idle().await.unwrap();
    assert_eq!(notifier.delivered(1).await[0].run.id(), run);
    let content = manage.get_artifact(&manage.get_run(run).await.unwrap(), "a.txt").await.unwrap();
    assert!(matches!(content, ArtifactContent::Bytes { .. }));
    clock.set(clock.now() + DAY);
    webhooks.run_until_idle().await.unwrap();
    assert!(manage.get_run(run).await.is_ok());
    clock.set(clock.now() + DAY + Duration::from_secs(60));
    webhooks.run_until_idle().await.unwrap();
    assert!(matches!(manage.get_run(run).await, Err(ManagementError::NotFound(_))));
    assert!(executor.artifact(run, "a.txt").await.unwrap().is_none());
}

#[tokio::test(start_paused = true)]
async fn every_part_may_be_shared_by_its_type_or_by_its_trait() {
    for by_trait in [false, true] {
        let store = Arc::new(MemoryStore::new());
        let executor = Arc::new(ScriptedExecutor::new([sales_workflow()]));
        let notifier = Arc::new(RecordingNotifier::new());
        let clock = Arc::new(TestClock::default());
        let builder = Webhooks::builder().token_key(TokenKey::generate());
        let builder = match by_trait {
            false => builder
                .store(store.clone())
                .executor(executor.clone())
                .notifier(notifier.clone())
                .clock(clock.clone()),
            true => builder
                .store(store.clone() as Arc<dyn Store>)
                .executor(executor.clone() as Arc<dyn Executor>)
                .notifier(notifier.clone() as Arc<dyn Notifier>)
                .clock(clock.clone() as Arc<dyn Clock>),
        };
        use_every_part(builder, &executor, &notifier, &clock).await;
        assert!(store.list_runs(RunQuery::default()).await.unwrap().items.is_empty());
    }
}

fn executor(key: &str, summary: &'static str) -> FnExecutor {
    let workflow = Workflow::new(key.parse().unwrap(), summary, ParameterBlocks::default());
    FnExecutor::new([workflow], move |_| async move { Ok(RunOutput::new().with_summary(summary)) })
}

#[tokio::test(start_paused = true)]
async fn several_kinds_of_work_are_one_executor() {
    let executors =
        Executors::new().with(executor("billing/a", "billed")).with(executor("report/a", "reported"));
    let webhooks = Webhooks::builder()
        .store(MemoryStore::new())
        .executor(executors)
        .kind("billing")
        .build()
        .await
        .unwrap();
    let manage = webhooks.manage();
    for (key, summary) in [("billing/a", "billed"), ("report/a", "reported")] {
        let webhook =
            manage.create_webhook(key.parse().unwrap(), WebhookSettings::default()).await.unwrap().webhook;
        let run =
            manage.start_run(webhook.id, serde_json::Map::new(), Caller::default()).await.unwrap().run.id();
        webhooks.run_until_idle().await.unwrap();
        let run = manage.get_run(run).await.unwrap();
        assert_eq!((run.state(), run.summary()), (RunState::Succeeded, Some(summary)));
    }
}

#[tokio::test]
async fn a_kind_that_is_not_registered_is_named() {
    let webhooks = Webhooks::builder().store(MemoryStore::new()).executor(executor("billing/a", "billed"));
    let webhooks = webhooks.build().await.unwrap();
    for (key, expected) in [
        (
            "billing/a",
            "this server does not know the kind billing; its host registers kinds at start, by `WebhooksBuilder::kind`",
        ),
        ("report/b", "there is no workflow report/b"),
    ] {
        let created =
            webhooks.manage().create_webhook(key.parse().unwrap(), WebhookSettings::default()).await;
        let error = created.unwrap_err();
        assert_eq!(error.to_string(), format!("these settings cannot be used: workflow: {expected}"));
        let ManagementError::Settings(problems) = error else { panic!("{error}") };
        assert_eq!(problems[0].code, SettingCode::Unknown);
    }
}

#[tokio::test]
async fn a_webhook_is_made_once_however_often_a_host_starts() {
    let (store, key) = (MemoryStore::new(), TokenKey::generate());
    let build = async |key: Option<TokenKey>| {
        let builder = Webhooks::builder().store(store.clone()).executor(executor("report/a", "done"));
        let builder = match key {
            Some(key) => builder.token_key(key),
            None => builder,
        };
        builder.build().await.unwrap()
    };
    let workflow = || "report/a".parse().unwrap();
    let webhooks = build(Some(key.clone())).await;
    let (manage, settings) = (webhooks.manage(), WebhookSettings::default);
    let (first, second) = tokio::join!(
        manage.ensure_webhook(workflow(), "CI", settings()),
        manage.ensure_webhook(workflow(), "CI", settings()),
    );
    let (first, second) = (first.unwrap(), second.unwrap());
    assert!(first.is_new && !second.is_new);
    assert_eq!(first.webhook.id, second.webhook.id);
    assert_eq!(first.url.unwrap().expose(), second.url.unwrap().expose());

    // It stays as people have set it.
    manage.set_webhook_enabled(first.webhook.id, false).await.unwrap();
    let again = build(Some(key)).await;
    let found = again.manage().ensure_webhook(workflow(), "CI", settings()).await.unwrap();
    assert!(!found.is_new && !found.webhook.settings.enabled && found.url.is_some());
    // Without its key, its URL cannot be shown.
    let found = build(None).await.manage().ensure_webhook(workflow(), "CI", settings()).await.unwrap();
    assert!(!found.is_new && found.url.is_none());

    let other = manage.ensure_webhook(workflow(), "cron", settings()).await.unwrap();
    assert!(other.is_new && other.webhook.settings.label.as_deref() == Some("cron"));
    // However many there are.
    for _ in 0..250 {
        manage.create_webhook(workflow(), settings()).await.unwrap();
    }
    let found = manage.ensure_webhook(workflow(), "CI", settings()).await.unwrap();
    assert_eq!((found.is_new, found.webhook.id), (false, first.webhook.id));
    let ManagementError::Settings(problems) =
        manage.ensure_webhook(workflow(), " ", settings()).await.unwrap_err()
    else {
        panic!("a blank label finds nothing")
    };
    assert_eq!(problems[0].field, "label");
}

#[tokio::test(start_paused = true)]
async fn an_outage_of_a_channel_can_be_rehearsed() {
    let settings = json!({"notifications": {"slack": {"channel": "#a", "on": ["success"]}}});
    let fixture = Fixture::new(settings).await;
    fixture.notifier.fail_next(3, DeliverFailure::Unreachable);
    fixture.trigger("").await;
    fixture.webhooks.run_until_idle().await.unwrap();
    assert_eq!(fixture.notifier.delivered(1).await.len(), 1);
    assert_eq!(fixture.notifier.tries(4).await, 4);
}
