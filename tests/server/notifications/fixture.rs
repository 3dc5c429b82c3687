//! A service with the real notifiers and running workers, on in-memory backends.

use std::ops::Deref;
use std::time::Duration;

use serde_json::Value;
use webhook_core::WebhooksBuilder;
use webhook_core::id::RunId;
use webhook_core::notifier::{Delivery, DeliveryState};
use webhook_core::retry::RetryPolicy;
use webhook_core::work::{WorkerOptions, Workers};
use webhook_testing::Fixture;

pub(crate) const CANARY: &str = "canary-5f1c2a";

/// A fixture with running workers.
pub(crate) struct NotifyingFixture {
    fixture: Fixture,
    pub(crate) workers: Workers,
}

impl Deref for NotifyingFixture {
    type Target = Fixture;

    fn deref(&self) -> &Fixture {
        &self.fixture
    }
}

impl NotifyingFixture {
    /// Builds a fixture whose failed deliveries are tried again soon.
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
        let builder = builder.run_url(|run| {
            Some(format!("https://app.example.com/hooks/panel#/{}/runs/{}", run.workflow(), run.id()))
        });
        let fixture = Fixture::with_own_notifiers(builder, settings).await;
        let workers = fixture.webhooks.start_workers(options.with_threads(false));
        Self { fixture, workers }
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
                let deliveries = self.webhooks.manage().list_deliveries(run).await.unwrap();
                if !deliveries.is_empty() && deliveries.iter().all(&is_so) {
                    return deliveries;
                }
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(30), waiting).await.expect("the deliveries come so far")
    }
}
