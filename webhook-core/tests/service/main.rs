//! Tests of the service as a host uses it, on the in-memory backends.

#![allow(clippy::unwrap_used)]

mod callers;
mod faults;
mod intake;
mod management;
mod notifications;
mod outbox;
mod secrecy;
mod unsteady;
mod workers;

use std::sync::Arc;
use std::time::Duration;

use webhook_core::Webhooks;
use webhook_core::WebhooksBuilder;
use webhook_core::executor::Workflow;
use webhook_core::id::RunId;
use webhook_core::intake::{Method, TriggerCall, TriggerError, Triggered};
use webhook_core::memory::MemoryStore;
use webhook_core::parameters::{ParameterBlock, ParameterBlocks, ParameterType};
use webhook_core::run::Run;
use webhook_core::store::Store;
use webhook_core::token::TokenKey;
use webhook_core::webhook::{Webhook, WebhookSettings};
use webhook_testing::{RecordingNotifier, ScriptedExecutor};

/// A service on in-memory backends, with one webhook on `report/sales`.
struct House {
    webhooks: Webhooks,
    store: MemoryStore,
    executor: ScriptedExecutor,
    notifier: RecordingNotifier,
    webhook: Arc<Webhook>,
    token: String,
}

fn sales() -> Workflow {
    let blocks = ParameterBlocks::new(vec![
        ParameterBlock::new("region", ParameterType::Choice)
            .with_choices(["EMEA", "APAC"])
            .with_default("EMEA"),
        ParameterBlock::new("rows", ParameterType::Integer),
        ParameterBlock::new("password", ParameterType::Text).secret(),
    ]);
    Workflow::new("report/sales".parse().unwrap(), "Sales", blocks.unwrap())
}

impl House {
    async fn new(settings: serde_json::Value) -> Self {
        Self::of(Webhooks::builder(), settings).await
    }

    /// Builds a house from a prepared builder.
    async fn of(builder: WebhooksBuilder, settings: serde_json::Value) -> Self {
        let store = MemoryStore::new();
        Self::over(builder, store.clone(), store, settings).await
    }

    /// Builds a house over `store`, whose data is in `memory`.
    async fn over(
        builder: WebhooksBuilder,
        memory: MemoryStore,
        store: impl Store,
        settings: serde_json::Value,
    ) -> Self {
        let (executor, notifier) = (ScriptedExecutor::new([sales()]), RecordingNotifier::new());
        let webhooks = builder
            .store(store)
            .executor(executor.clone())
            .notifier(notifier.clone())
            .token_key(TokenKey::generate())
            .base_url("https://app.example.com/hooks".parse().unwrap())
            .build()
            .await
            .unwrap();
        let settings = WebhookSettings::default().patched(&settings).unwrap();
        let created = webhooks.manage().create("report/sales".parse().unwrap(), settings).await.unwrap();
        let token = created.url.expose().split_once("token=").unwrap().1.to_owned();
        Self { webhooks, store: memory, executor, notifier, webhook: created.webhook, token }
    }

    fn call(&self, method: Method, query: &str) -> TriggerCall {
        let mut call = TriggerCall::new(self.webhook.workflow.clone(), method);
        call.query = format!("token={}&{query}", self.token).into();
        call
    }

    async fn send(&self, call: TriggerCall, body: &str) -> Result<Triggered, TriggerError> {
        self.webhooks
            .trigger(self.webhooks.admit(self.webhooks.authenticate(call).await?)?, body.as_bytes())
            .await
    }

    /// Triggers by POST and returns the accepted run.
    async fn trigger(&self, query: &str) -> Arc<Run> {
        match self.send(self.call(Method::Post, query), "").await {
            Ok(Triggered::Accepted { run, .. }) => run,
            other => panic!("not accepted: {other:?}"),
        }
    }

    async fn run(&self, id: RunId) -> Arc<Run> {
        self.webhooks.manage().run_record(id).await.unwrap()
    }

    /// Waits for the end of a run and returns it.
    async fn end(&self, id: RunId) -> Arc<Run> {
        let run = self.webhooks.wait_for_end(id, Duration::from_secs(600)).await.unwrap().unwrap();
        assert!(run.state.is_ended(), "{run:?}");
        run
    }
}
