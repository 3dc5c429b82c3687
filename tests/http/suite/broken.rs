//! Tests with a store that fails.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use webhook_core::Webhooks;
use webhook_core::events::{EventCursor, Events};
use webhook_core::id::{DeliveryId, RunId, WebhookId};
use webhook_core::notifier::Delivery;
use webhook_core::run::Run;
use webhook_core::store::*;
use webhook_core::token::TokenDigest;
use webhook_core::webhook::Webhook;

use crate::front::server::Server;
use crate::front::{self, AdminAccess};
use crate::support::{ADMIN, NOBODY, World, problem};

struct BrokenStore;

fn broken<T>() -> Result<T, StoreError> {
    Err(StoreError::unavailable_because("the disk is full", std::io::Error::other("secret-path")))
}

#[async_trait::async_trait]
impl Store for BrokenStore {
    async fn create_webhook(&self, _webhook: Webhook) -> Result<(), StoreError> {
        broken()
    }
    async fn get_webhook(&self, _id: WebhookId) -> Result<Option<Arc<Webhook>>, StoreError> {
        broken()
    }
    async fn find_webhook(&self, _digest: &TokenDigest) -> Result<Option<Arc<Webhook>>, StoreError> {
        broken()
    }
    async fn update_webhook(&self, _webhook: Webhook, _expected_revision: u64) -> Result<(), StoreError> {
        broken()
    }
    async fn delete_webhook(
        &self,
        _id: WebhookId,
        _expected_revision: Option<u64>,
        _now: SystemTime,
    ) -> Result<Vec<RunId>, StoreError> {
        broken()
    }
    async fn list_webhooks(&self, _query: WebhookQuery) -> Result<Page<Arc<Webhook>, WebhookId>, StoreError> {
        broken()
    }
    async fn record_use(&self, _uses: &[(WebhookId, SystemTime)]) -> Result<(), StoreError> {
        broken()
    }
    async fn enqueue(&self, _request: Enqueue) -> Result<Enqueued, StoreError> {
        broken()
    }
    async fn claim(&self, _request: ClaimRequest) -> Result<Vec<Claim>, StoreError> {
        broken()
    }
    async fn renew(&self, _renewals: Vec<Renewal>, _lease: Duration) -> Result<Vec<Renewed>, StoreError> {
        broken()
    }
    async fn begin(&self, _begun: Vec<Begun>) -> Result<(), StoreError> {
        broken()
    }
    async fn settle(&self, _settlements: Vec<Settlement>) -> Result<Vec<Settled>, StoreError> {
        broken()
    }
    async fn cancel_run(&self, _id: RunId, _now: SystemTime) -> Result<Cancelled, StoreError> {
        broken()
    }
    async fn get_run(&self, _id: RunId) -> Result<Option<Arc<Run>>, StoreError> {
        broken()
    }
    async fn list_runs(&self, _query: RunQuery) -> Result<Page<Arc<Run>, RunId>, StoreError> {
        broken()
    }
    async fn prune(&self, _request: PruneRequest) -> Result<Pruned, StoreError> {
        broken()
    }
    async fn append_log(&self, _run: RunId, _fence: u64, _text: String) -> Result<(), StoreError> {
        broken()
    }
    async fn read_log(&self, _run: RunId, _offset: u64) -> Result<LogPart, StoreError> {
        broken()
    }
    async fn wait_for_work(&self, _work: Work) {
        std::future::pending::<()>().await;
    }
    async fn events_since(&self, _cursor: Option<EventCursor>) -> Result<Events, StoreError> {
        broken()
    }
    async fn claim_deliveries(&self, _request: DeliveryClaimRequest) -> Result<Vec<Delivery>, StoreError> {
        broken()
    }
    async fn settle_deliveries(&self, _settlements: Vec<DeliverySettlement>) -> Result<(), StoreError> {
        broken()
    }
    async fn find_deliveries(&self, _query: DeliveryQuery) -> Result<Page<Delivery, DeliveryId>, StoreError> {
        broken()
    }

    async fn list_deliveries(&self, _runs: &[RunId]) -> Result<Vec<Delivery>, StoreError> {
        broken()
    }
    async fn resend_delivery(&self, _id: DeliveryId, _now: SystemTime) -> Result<Delivery, StoreError> {
        broken()
    }
    async fn health(&self) -> Result<StoreHealth, StoreError> {
        broken()
    }
}

#[tokio::test]
async fn a_failing_store_is_503_everywhere_and_says_nothing_of_the_inside() {
    let world = World::start_idle().await;
    let server = Server::bind(([127, 0, 0, 1], 0).into()).await.unwrap();
    let base = format!("http://{}", server.local_address().unwrap());
    let executor = world.executor.clone();
    let webhooks = Webhooks::builder().store(BrokenStore).executor(executor).build().await.unwrap();
    let routes = front::all_routes(&webhooks, AdminAccess::token(ADMIN).unwrap());
    tokio::spawn(front::serve(server, routes, std::future::pending()));
    let run = NOBODY;
    for path in [
        "/api/v1/report/sales/webhook?token=whk_x".to_owned(),
        format!("/api/v1/report/sales/runs/{run}"),
        "/healthz".to_owned(),
        "/readyz".to_owned(),
        "/admin/api/v1/runs".to_owned(),
        "/admin/api/v1/events".to_owned(),
        format!("/admin/api/v1/webhooks/{run}/url"),
    ] {
        let response =
            world.get(&format!("{base}{path}")).bearer_auth(token_for(&path)).send().await.unwrap();
        let retry_after: u64 = response.headers()["retry-after"].to_str().unwrap().parse().unwrap();
        assert!(retry_after >= 1);
        let answer = problem(response, 503, "store-unavailable").await.to_string();
        assert!(!answer.contains("secret-path"), "{answer}");
    }
}

fn token_for(path: &str) -> &'static str {
    if path.starts_with("/admin") { ADMIN } else { "whk_x" }
}
