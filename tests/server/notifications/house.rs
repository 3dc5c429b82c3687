//! A service with the real notifiers on in-memory backends.

use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;
use webhook_core::Webhooks;
use webhook_core::WebhooksBuilder;
use webhook_core::executor::Workflow;
use webhook_core::id::RunId;
use webhook_core::memory::MemoryStore;
use webhook_core::notifier::{Delivery, DeliveryState};
use webhook_core::parameters::{ParameterBlock, ParameterBlocks, ParameterType};
use webhook_core::retry::RetryPolicy;
use webhook_core::run::{Caller, Run};
use webhook_core::token::TokenKey;
use webhook_core::webhook::{Webhook, WebhookSettings};
use webhook_core::work::{WorkerOptions, Workers};
use webhook_testing::ScriptedExecutor;

pub(crate) const CANARY: &str = "canary-5f1c2a";

/// A service with one webhook and running workers.
pub(crate) struct House {
    pub(crate) webhooks: Webhooks,
    pub(crate) executor: ScriptedExecutor,
    pub(crate) webhook: Arc<Webhook>,
    pub(crate) token: String,
    pub(crate) workers: Workers,
}

impl House {
    /// Builds a house whose failed deliveries are tried again soon.
    pub(crate) async fn new(builder: WebhooksBuilder, settings: Value) -> Self {
        let often = RetryPolicy::new(10_000).with_base(Duration::from_millis(100));
        let often = often.with_cap(Duration::from_secs(1));
        Self::with_options(builder, settings, WorkerOptions::default().with_delivery_retries(often)).await
    }

    pub(crate) async fn with_options(
        builder: WebhooksBuilder,
        settings: Value,
        options: WorkerOptions,
    ) -> Self {
        let blocks = ParameterBlocks::new(vec![
            ParameterBlock::new("region", ParameterType::Text),
            ParameterBlock::new("password", ParameterType::Text).secret(),
        ]);
        let sales = Workflow::new("report/sales".parse().unwrap(), "Sales", blocks.unwrap());
        let executor = ScriptedExecutor::new([sales]);
        let webhooks = builder
            .store(MemoryStore::new())
            .executor(executor.clone())
            .token_key(TokenKey::generate())
            .base_url("https://app.example.com/hooks".parse().unwrap())
            .run_url(|run| {
                Some(format!("https://app.example.com/hooks/panel#/{}/runs/{}", run.workflow, run.id))
            })
            .build()
            .await
            .unwrap();
        let settings = WebhookSettings::default().patched(&settings).unwrap();
        let created = webhooks.manage().create("report/sales".parse().unwrap(), settings).await.unwrap();
        let token = created.url.expose().split_once("token=").unwrap().1.to_owned();
        let workers = webhooks.start_workers(options.with_threads(false));
        Self { webhooks, executor, webhook: created.webhook, token, workers }
    }

    pub(crate) async fn start(&self, parameters: Value) -> RunId {
        let parameters = parameters.as_object().unwrap().clone();
        self.webhooks.manage().run(self.webhook.id, parameters, Caller::default()).await.unwrap().run.id
    }

    pub(crate) async fn ended(&self, run: RunId) -> Arc<Run> {
        let run = self.webhooks.wait_for_end(run, Duration::from_secs(30)).await.unwrap().unwrap();
        assert!(run.state.is_ended(), "{run:?}");
        run
    }

    /// Waits until no delivery of a run is pending.
    pub(crate) async fn settled(&self, run: RunId) -> Vec<Delivery> {
        self.ended(run).await;
        self.deliveries_when(run, |delivery| delivery.state != DeliveryState::Pending).await
    }

    /// Waits until every delivery of a run meets a condition.
    pub(crate) async fn deliveries_when(
        &self,
        run: RunId,
        is_so: impl Fn(&Delivery) -> bool,
    ) -> Vec<Delivery> {
        let waiting = async {
            loop {
                let deliveries = self.webhooks.manage().deliveries(run).await.unwrap();
                if !deliveries.is_empty() && deliveries.iter().all(&is_so) {
                    return deliveries;
                }
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(30), waiting).await.expect("the deliveries come so far")
    }
}
