use std::sync::Arc;
use std::time::Duration;

use serde_json::json;
use tokio::sync::{mpsc, oneshot};
use webhook_core::executor::{
    ArtifactContent, ExecuteError, Executor, ExecutorError, RunContext, RunOutput, Workflow, WorkflowPage,
};
use webhook_core::id::{RunId, WorkflowKey};
use webhook_core::intake::{Method, TriggerCall, TriggerError, Triggered};
use webhook_core::manage::ManagementError;
use webhook_core::memory::MemoryStore;
use webhook_core::parameters::{ParameterBlocks, Source};
use webhook_core::run::RunState;
use webhook_core::token::TokenKey;
use webhook_core::webhook::WebhookSettings;
use webhook_core::{ServiceOptions, Webhooks, WebhooksBuilder};
use webhook_testing::{Fixture, ScriptedExecutor};

/// Returns a workflow that needs no token key.
fn without_parameters() -> Workflow {
    Workflow::new("report/sales".parse().unwrap(), "Sales", ParameterBlocks::default())
}

#[tokio::test]
async fn a_call_queues_a_run_with_its_effective_parameters() {
    let fixture = Fixture::new(json!({})).await;
    let mut call = fixture.call(Method::Post, "region=APAC&rows=5&extra=1");
    call.caller.user_agent = Some("curl/8".to_owned());
    let Ok(Triggered::Accepted { run, replayed: false, .. }) = fixture.send(call, r#"{"rows": 6}"#).await
    else {
        panic!("not accepted");
    };
    assert_eq!(run.state(), RunState::Queued);
    let shown: Vec<_> = run.parameters().iter().map(|(name, it)| (name, it.shown(), it.source)).collect();
    let expected = [
        ("extra".to_owned(), json!("1"), Source::Query),
        ("region".to_owned(), json!("APAC"), Source::Query),
        ("rows".to_owned(), json!(6), Source::Body),
    ];
    assert_eq!(shown, expected);
    assert_eq!(run.caller().method, "POST");
    assert_eq!(run.caller().token_hint.as_deref(), Some(&fixture.token[fixture.token.len() - 4..]));
    assert_eq!(run.caller().user_agent.as_deref(), Some("curl/8"));
}

#[tokio::test]
async fn no_token_a_wrong_one_and_one_of_another_workflow_are_refused_alike() {
    let fixture = Fixture::new(json!({})).await;
    let workflow = fixture.webhook.workflow.clone();
    let nothing = TriggerCall::new(workflow.clone(), Method::Get);
    let mut wrong = TriggerCall::new(workflow, Method::Get);
    wrong.query = "token=whk_wrong".to_owned().into();
    let mut foreign = TriggerCall::new("report/other".parse().unwrap(), Method::Get);
    foreign.query = format!("token={}", fixture.token).into();
    for call in [nothing, wrong, foreign] {
        assert!(matches!(fixture.webhooks.authenticate(call).await, Err(TriggerError::Unauthorized)));
    }
}

#[tokio::test(start_paused = true)]
async fn wrong_tokens_from_one_address_are_limited_and_a_right_one_never_is() {
    let fixture = Fixture::new(json!({})).await;
    let attempt = || {
        let mut call = TriggerCall::new(fixture.webhook.workflow.clone(), Method::Get);
        call.caller.address = Some("192.0.2.7".parse().unwrap());
        fixture.webhooks.authenticate(call)
    };
    for _ in 0..60 {
        assert!(matches!(attempt().await, Err(TriggerError::Unauthorized)));
    }
    assert!(matches!(attempt().await, Err(TriggerError::TooManyFailures { .. })));
    let mut right = fixture.call(Method::Get, "");
    right.caller.address = Some("192.0.2.7".parse().unwrap());
    assert!(fixture.webhooks.authenticate(right).await.is_ok());
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert!(matches!(attempt().await, Err(TriggerError::Unauthorized)));
}

#[tokio::test]
async fn a_disabled_webhook_and_a_refused_get_start_nothing() {
    let fixture = Fixture::new(json!({"allow_get": false})).await;
    let refused = fixture.send(fixture.call(Method::Get, ""), "").await;
    assert!(matches!(refused, Err(TriggerError::GetNotAllowed)));
    fixture.webhooks.manage().set_webhook_enabled(fixture.webhook.id, false).await.unwrap();
    let refused = fixture.send(fixture.call(Method::Post, ""), "").await;
    assert!(matches!(refused, Err(TriggerError::Disabled)));
    assert_eq!(fixture.webhooks.health().await.unwrap().queued, 0);
}

#[tokio::test]
async fn link_previews_and_prefetches_start_nothing() {
    let fixture = Fixture::new(json!({})).await;
    let mut preview = fixture.call(Method::Get, "");
    preview.caller.user_agent = Some("Slackbot-LinkExpanding 1.0".to_owned());
    assert!(matches!(fixture.send(preview, "").await, Err(TriggerError::PreviewRefused)));
    let mut prefetch = fixture.call(Method::Get, "");
    prefetch.prefetch = true;
    assert!(matches!(fixture.send(prefetch, "").await, Err(TriggerError::PreviewRefused)));
    let mut post = fixture.call(Method::Post, "");
    post.caller.user_agent = Some("Slackbot 1.0".to_owned());
    assert!(fixture.send(post, "").await.is_ok());
}

#[tokio::test(start_paused = true)]
async fn the_rate_limit_says_when_to_come_again() {
    let fixture = Fixture::new(json!({"rate_limit": {"per_minute": 6, "burst": 2}})).await;
    fixture.trigger("").await;
    fixture.trigger("").await;
    let Err(TriggerError::RateLimited { retry_after }) =
        fixture.send(fixture.call(Method::Post, ""), "").await
    else {
        panic!("not limited");
    };
    assert_eq!(retry_after, Duration::from_secs(10));
    tokio::time::sleep(retry_after).await;
    fixture.trigger("").await;
}

#[tokio::test]
async fn all_parameter_problems_are_reported_at_once() {
    let fixture = Fixture::new(json!({"strict": true})).await;
    let refused = fixture.send(fixture.call(Method::Post, "region=MARS&rows=many&extra=1"), "").await;
    let Err(TriggerError::Parameters(problems)) = refused else { panic!("{refused:?}") };
    let names: Vec<_> = problems.iter().map(|problem| problem.parameter.as_str()).collect();
    assert_eq!(names, ["region", "rows", "extra"]);
}

#[tokio::test]
async fn a_dry_run_checks_everything_and_starts_nothing() {
    let fixture = Fixture::new(json!({})).await;
    let mut call = fixture.call(Method::Post, "rows=5");
    call.dry_run = true;
    call.idempotency_key = Some("k".to_owned());
    let Ok(Triggered::DryRun { parameters, .. }) = fixture.send(call, "").await else {
        panic!("not a dry run")
    };
    assert_eq!(parameters.get("rows").unwrap().value, json!(5));
    assert_eq!(parameters.get("region").unwrap().source, Source::Default);
    assert_eq!(fixture.webhooks.health().await.unwrap().queued, 0);
    let mut real = fixture.call(Method::Post, "rows=6");
    real.idempotency_key = Some("k".to_owned());
    assert!(fixture.send(real, "").await.is_ok(), "a dry run burns no key");
}

#[tokio::test]
async fn one_key_gives_one_run_and_another_request_under_it_is_refused() {
    let fixture = Arc::new(Fixture::new(json!({})).await);
    let keyed = |query: &str| {
        let mut call = fixture.call(Method::Post, query);
        call.idempotency_key = Some("\"night-1\"".to_owned());
        call
    };
    let calls = (0..100).map(|_| {
        let (fixture, call) = (fixture.clone(), keyed("rows=1"));
        tokio::spawn(async move { fixture.send(call, "").await })
    });
    let mut ids = Vec::new();
    let mut replays = 0;
    for call in calls.collect::<Vec<_>>() {
        let Ok(Triggered::Accepted { run, replayed, .. }) = call.await.unwrap() else {
            panic!("not accepted")
        };
        ids.push(run.id());
        replays += u32::from(replayed);
    }
    ids.dedup();
    assert_eq!((ids.len(), replays), (1, 99));
    let mut quoted_otherwise = keyed("rows=1");
    quoted_otherwise.idempotency_key = Some("night-1".to_owned());
    let again = fixture.send(quoted_otherwise, "").await;
    assert!(matches!(again, Ok(Triggered::Accepted { replayed: true, .. })));
    let other = fixture.send(keyed("rows=2"), "").await;
    assert!(matches!(other, Err(TriggerError::IdempotencyMismatch)));
    let refused = fixture.send(keyed("rows=x"), "").await;
    assert!(matches!(refused, Err(TriggerError::Parameters(_))));
}

#[tokio::test]
async fn a_full_queue_and_a_shutdown_refuse_calls() {
    let webhooks = Webhooks::builder()
        .store(MemoryStore::new())
        .executor(ScriptedExecutor::new([without_parameters()]))
        .options(ServiceOptions::default().with_queue_limit(1))
        .build()
        .await
        .unwrap();
    let created =
        webhooks.manage().create_webhook("report/sales".parse().unwrap(), Default::default()).await.unwrap();
    let token = created.url.expose().split_once("token=").unwrap().1.to_owned();
    let send = async || {
        let mut call = TriggerCall::new("report/sales".parse().unwrap(), Method::Post);
        call.bearer = Some(token.clone().into());
        webhooks.trigger(webhooks.admit(webhooks.authenticate(call).await?).await?, b"").await
    };
    assert!(send().await.is_ok());
    assert!(matches!(send().await, Err(TriggerError::QueueFull)));
    webhooks.stop_accepting();
    assert!(matches!(send().await, Err(TriggerError::ShuttingDown)));
}

#[tokio::test]
async fn a_webhook_without_a_limit_of_its_own_leaves_half_of_the_queue_to_others() {
    let sales = Workflow::new("report/sales".parse().unwrap(), "Sales", ParameterBlocks::default());
    let options = ServiceOptions::default().with_queue_limit(8).with_queue_bytes(1 << 20, 2_000);
    let webhooks = Webhooks::builder().store(MemoryStore::new()).executor(ScriptedExecutor::new([sales]));
    let webhooks = webhooks.options(options).build().await.unwrap();
    let workflow = || "report/sales".parse().unwrap();
    let mut tokens = Vec::new();
    for queue_limit in [None, None, Some(6)] {
        let mut settings = WebhookSettings::default();
        settings.queue_limit = queue_limit;
        let created = webhooks.manage().create_webhook(workflow(), settings).await.unwrap();
        tokens.push(created.url.expose().split_once("token=").unwrap().1.to_owned());
    }
    let accepted = async |token: &str, body: &str| {
        let mut count = 0;
        loop {
            let mut call = TriggerCall::new(workflow(), Method::Post);
            call.bearer = Some(token.to_owned().into());
            let admitted = webhooks.admit(webhooks.authenticate(call).await.unwrap()).await.unwrap();
            match webhooks.trigger(admitted, body.as_bytes()).await {
                Ok(_) => count += 1,
                Err(TriggerError::QueueFull) => return count,
                Err(error) => panic!("{error}"),
            }
        }
    };
    let large = format!("{{\"a\": \"{}\"}}", "x".repeat(400));
    assert_eq!(accepted(&tokens[0], &large).await, 2, "half of the bytes, less than what one more has");
    assert_eq!(accepted(&tokens[0], "").await, 2, "half of the runs");
    assert_eq!(accepted(&tokens[2], "").await, 4, "its own limit counts where it has one, and that of all");
    assert_eq!(accepted(&tokens[1], "").await, 0, "the queue is full");
}

#[tokio::test(start_paused = true)]
async fn who_waits_for_the_end_of_accepting_is_told_at_once() {
    let fixture = Fixture::new(json!({})).await;
    let webhooks = fixture.webhooks.clone();
    let waiting = tokio::spawn(async move { webhooks.stopped_accepting().await });
    tokio::task::yield_now().await;
    assert!(!waiting.is_finished());
    let before = tokio::time::Instant::now();
    fixture.webhooks.stop_accepting();
    waiting.await.unwrap();
    fixture.webhooks.stopped_accepting().await;
    assert_eq!(before.elapsed(), std::time::Duration::ZERO, "nothing was polled for");
}

#[tokio::test]
async fn a_token_refreshed_or_a_webhook_disabled_while_the_body_is_read_starts_nothing() {
    let fixture = Fixture::new(json!({})).await;
    let admitted = async || {
        let call = fixture.webhooks.authenticate(fixture.call(Method::Post, "")).await.unwrap();
        fixture.webhooks.admit(call).await.unwrap()
    };
    let call = admitted().await;
    fixture.webhooks.manage().set_webhook_enabled(fixture.webhook.id, false).await.unwrap();
    assert!(matches!(fixture.webhooks.trigger(call, b"").await, Err(TriggerError::Disabled)));
    fixture.webhooks.manage().set_webhook_enabled(fixture.webhook.id, true).await.unwrap();
    let call = admitted().await;
    fixture.webhooks.manage().refresh_token(fixture.webhook.id, None).await.unwrap();
    assert!(matches!(fixture.webhooks.trigger(call, b"").await, Err(TriggerError::Unauthorized)));
    assert_eq!(fixture.webhooks.health().await.unwrap().queued, 0);
}

#[tokio::test]
async fn a_token_refreshed_or_a_webhook_disabled_while_the_workflow_is_described_starts_nothing() {
    let fixture = Fixture::new(json!({})).await;
    let (executor, mut described) = SlowlyDescribed::around(fixture.executor.clone());
    let slow = Webhooks::builder().store(fixture.store.clone()).executor(executor);
    let slow = slow.forget_unknown_keys().build().await.unwrap();
    let admitted = async || {
        let call = slow.authenticate(fixture.call(Method::Post, "")).await.unwrap();
        slow.admit(call).await.unwrap()
    };
    let begin = |call| {
        let slow = slow.clone();
        tokio::spawn(async move { slow.trigger(call, b"").await })
    };
    let manage = fixture.webhooks.manage();

    let call = begin(admitted().await);
    let go_on = described.recv().await.unwrap();
    manage.set_webhook_enabled(fixture.webhook.id, false).await.unwrap();
    go_on.send(()).unwrap();
    assert!(matches!(call.await.unwrap(), Err(TriggerError::Disabled)));
    manage.set_webhook_enabled(fixture.webhook.id, true).await.unwrap();

    let call = begin(admitted().await);
    let go_on = described.recv().await.unwrap();
    manage.refresh_token(fixture.webhook.id, None).await.unwrap();
    go_on.send(()).unwrap();
    assert!(matches!(call.await.unwrap(), Err(TriggerError::Unauthorized)));
    assert_eq!(fixture.webhooks.health().await.unwrap().queued, 0);
    assert_eq!(slow.manage().get_webhook(fixture.webhook.id).await.unwrap().last_used_at, None);
}

/// Executor that describes a workflow only once the test lets it.
struct SlowlyDescribed {
    inner: ScriptedExecutor,
    described: mpsc::UnboundedSender<oneshot::Sender<()>>,
}

impl SlowlyDescribed {
    fn around(inner: ScriptedExecutor) -> (Self, mpsc::UnboundedReceiver<oneshot::Sender<()>>) {
        let (described, receiver) = mpsc::unbounded_channel();
        (Self { inner, described }, receiver)
    }
}

#[async_trait::async_trait]
impl Executor for SlowlyDescribed {
    async fn list(&self, cursor: Option<String>) -> Result<WorkflowPage, ExecutorError> {
        self.inner.list(cursor).await
    }

    async fn describe(&self, workflow: &WorkflowKey) -> Result<Option<Arc<Workflow>>, ExecutorError> {
        let (go_on, told) = oneshot::channel();
        self.described.send(go_on).unwrap();
        told.await.unwrap();
        self.inner.describe(workflow).await
    }

    async fn execute(&self, context: RunContext) -> Result<RunOutput, ExecuteError> {
        self.inner.execute(context).await
    }

    async fn artifact(&self, run: RunId, name: &str) -> Result<Option<ArtifactContent>, ExecutorError> {
        self.inner.artifact(run, name).await
    }

    async fn discard(&self, runs: &[RunId]) -> Result<(), ExecutorError> {
        self.inner.discard(runs).await
    }
}

#[tokio::test]
async fn the_parameters_of_a_media_type_do_not_make_another_request() {
    let fixture = Fixture::new(json!({})).await;
    for (content_type, replay) in [("application/json", false), ("Application/JSON; charset=utf-8", true)] {
        let mut call = fixture.call(Method::Post, "");
        call.content_type = Some(content_type.to_owned());
        call.idempotency_key = Some("k".to_owned());
        let Ok(Triggered::Accepted { replayed, .. }) = fixture.send(call, "{}").await else {
            panic!("not accepted");
        };
        assert_eq!(replayed, replay, "{content_type}");
    }
}

#[tokio::test]
async fn a_key_of_a_service_without_a_token_key_stands_for_its_run_under_one() {
    let store = MemoryStore::new();
    let build = async |key: Option<TokenKey>| {
        let executor = ScriptedExecutor::new([without_parameters()]);
        let builder = Webhooks::builder().store(store.clone()).executor(executor);
        key.into_iter().fold(builder, WebhooksBuilder::token_key).build().await.unwrap()
    };
    let without = build(None).await;
    let created =
        without.manage().create_webhook("report/sales".parse().unwrap(), Default::default()).await.unwrap();
    let token = created.url.expose().split_once("token=").unwrap().1.to_owned();
    let send = async |webhooks: &Webhooks| {
        let mut call = TriggerCall::new("report/sales".parse().unwrap(), Method::Post);
        call.bearer = Some(token.clone().into());
        call.idempotency_key = Some("night-1".to_owned());
        let admitted = webhooks.admit(webhooks.authenticate(call).await?).await?;
        webhooks.trigger(admitted, br#"{"rows":1}"#).await
    };
    let Ok(Triggered::Accepted { replayed: false, run, .. }) = send(&without).await else {
        panic!("not accepted")
    };
    let with = build(Some(TokenKey::generate())).await;
    let Ok(Triggered::Accepted { replayed: true, run: again, .. }) = send(&with).await else {
        panic!("not replayed")
    };
    assert_eq!(again.id(), run.id());
}

#[tokio::test]
async fn a_workflow_that_is_unavailable_is_listed_with_its_reason_and_starts_nothing() {
    let executor = ScriptedExecutor::new([without_parameters().with_unavailable("/srv/python is missing")]);
    let webhooks = Webhooks::builder().store(MemoryStore::new()).executor(executor).build().await.unwrap();
    let created =
        webhooks.manage().create_webhook("report/sales".parse().unwrap(), Default::default()).await.unwrap();
    let token = created.url.expose().split_once("token=").unwrap().1.to_owned();
    let mut call = TriggerCall::new("report/sales".parse().unwrap(), Method::Post);
    call.bearer = Some(token.into());
    let admitted = webhooks.admit(webhooks.authenticate(call).await.unwrap()).await.unwrap();
    let refused = webhooks.trigger(admitted, b"").await.unwrap_err();
    assert!(matches!(refused, TriggerError::WorkflowUnavailable) && !refused.to_string().contains("/srv"));
    let by_hand =
        webhooks.manage().start_run(created.webhook.id, serde_json::Map::new(), Default::default()).await;
    assert!(matches!(by_hand, Err(ManagementError::Trigger(TriggerError::WorkflowUnavailable))));
    let listed = webhooks.manage().list_workflows(None).await.unwrap();
    assert_eq!(listed.items[0].unavailable.as_deref(), Some("/srv/python is missing"));
    assert_eq!(webhooks.health().await.unwrap().queued, 0);
}
