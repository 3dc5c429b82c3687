//! A service on in-memory backends.

use std::sync::Arc;
use std::time::Duration;

use webhook_core::executor::Workflow;
use webhook_core::id::RunId;
use webhook_core::intake::{Method, TriggerCall, TriggerError, Triggered};
use webhook_core::memory::MemoryStore;
use webhook_core::parameters::{ParameterBlock, ParameterBlocks, ParameterType};
use webhook_core::run::{Caller, Run};
use webhook_core::store::Store;
use webhook_core::token::TokenKey;
use webhook_core::webhook::{Webhook, WebhookSettings};
use webhook_core::{Webhooks, WebhooksBuilder};

use crate::{RecordingNotifier, ScriptedExecutor};

/// Upper bound on the wait for the end of a run.
const PATIENCE: Duration = Duration::from_secs(600);

/// A service on in-memory backends, with one webhook on the workflow `report/sales`.
///
/// Methods panic when the service refuses something that a test takes for granted.
#[derive(Debug)]
#[non_exhaustive]
pub struct Fixture {
    /// Service under test.
    pub webhooks: Webhooks,
    /// Store with the records of the service.
    pub store: MemoryStore,
    /// Executor of the service, whose runs succeed unless a script says otherwise.
    pub executor: ScriptedExecutor,
    /// Notifier of every channel that the builder brought no notifier for.
    pub notifier: RecordingNotifier,
    /// Webhook on `report/sales`.
    pub webhook: Arc<Webhook>,
    /// Token of the webhook.
    pub token: String,
}

impl Fixture {
    /// Builds a service and its webhook with these settings, in the form of a PATCH of the management API.
    pub async fn new(settings: serde_json::Value) -> Self {
        Self::with_builder(Webhooks::builder(), settings).await
    }

    /// Builds the fixture from a prepared builder, to which it adds store, executor, notifier, key and base URL.
    pub async fn with_builder(builder: WebhooksBuilder, settings: serde_json::Value) -> Self {
        let store = MemoryStore::new();
        Self::with_store(builder, store.clone(), store, settings).await
    }

    /// Builds the fixture from a builder with notifiers of its own. Other channels have no integration.
    pub async fn with_own_notifiers(builder: WebhooksBuilder, settings: serde_json::Value) -> Self {
        let store = MemoryStore::new();
        Self::build(builder.store(store.clone()), store, RecordingNotifier::new(), settings).await
    }

    /// Builds the fixture over `store`, which keeps its records in `memory`.
    pub async fn with_store(
        builder: WebhooksBuilder,
        memory: MemoryStore,
        store: impl Store,
        settings: serde_json::Value,
    ) -> Self {
        let notifier = RecordingNotifier::new();
        Self::build(builder.store(store).notifier(notifier.clone()), memory, notifier, settings).await
    }

    async fn build(
        builder: WebhooksBuilder,
        store: MemoryStore,
        notifier: RecordingNotifier,
        settings: serde_json::Value,
    ) -> Self {
        let executor = ScriptedExecutor::new([sales_workflow()]);
        let webhooks = builder
            .executor(executor.clone())
            .token_key(TokenKey::generate())
            .base_url("https://app.example.com/hooks".parse().expect("a URL"))
            .build()
            .await
            .expect("the service is built");
        let settings = WebhookSettings::default().patched(&settings).expect("valid settings");
        let workflow = "report/sales".parse().expect("a workflow key");
        let created =
            webhooks.manage().create_webhook(workflow, settings).await.expect("the webhook is created");
        let token = created.url.expose().split_once("token=").expect("a URL with a token").1.to_owned();
        Self { webhooks, store, executor, notifier, webhook: created.webhook, token }
    }

    /// Returns a call with the webhook's token and `query`, which no service has seen.
    #[must_use]
    pub fn call(&self, method: Method, query: &str) -> TriggerCall {
        let mut call = TriggerCall::new(self.webhook.workflow.clone(), method);
        call.query = format!("token={}&{query}", self.token).into();
        call
    }

    /// Sends a call through the steps that a front end takes.
    ///
    /// # Errors
    /// [`TriggerError`] of the step that refuses the call.
    pub async fn send(&self, call: TriggerCall, body: &str) -> Result<Triggered, TriggerError> {
        let authenticated = self.webhooks.authenticate(call).await?;
        self.webhooks.trigger(self.webhooks.admit(authenticated).await?, body.as_bytes()).await
    }

    /// Triggers by POST and returns the accepted run.
    pub async fn trigger(&self, query: &str) -> Arc<Run> {
        match self.send(self.call(Method::Post, query), "").await {
            Ok(Triggered::Accepted { run, .. }) => run,
            other => panic!("not accepted: {other:?}"),
        }
    }

    /// Starts a run by hand with an object of parameters, and returns its id.
    pub async fn start(&self, parameters: serde_json::Value) -> RunId {
        let serde_json::Value::Object(parameters) = parameters else { panic!("parameters are an object") };
        let started = self.webhooks.manage().start_run(self.webhook.id, parameters, Caller::default()).await;
        started.expect("the run is started").run.id()
    }

    /// Returns the record of a run.
    pub async fn run(&self, id: RunId) -> Arc<Run> {
        self.webhooks.manage().get_run(id).await.expect("the run is recorded")
    }

    /// Waits for the end of a run and returns its record.
    pub async fn ended(&self, id: RunId) -> Arc<Run> {
        let run = self.webhooks.wait_for_end(id, PATIENCE).await.expect("the store can be read");
        let run = run.expect("the run is recorded");
        assert!(run.state().is_ended(), "{run:?}");
        run
    }
}

/// Returns the workflow of a [`Fixture`]: `report/sales` with the parameters `region` (`EMEA` by default, or `APAC`),
/// `rows` (an integer), `note` (a text) and `password` (a secret text).
#[must_use]
pub fn sales_workflow() -> Workflow {
    let blocks = ParameterBlocks::new(vec![
        ParameterBlock::new("region", ParameterType::Choice)
            .with_choices(["EMEA", "APAC"])
            .with_default("EMEA"),
        ParameterBlock::new("rows", ParameterType::Integer),
        ParameterBlock::new("note", ParameterType::Text),
        ParameterBlock::new("password", ParameterType::Text).secret(),
    ]);
    let key = "report/sales".parse().expect("a workflow key");
    Workflow::new(key, "Sales", blocks.expect("valid parameters"))
}
