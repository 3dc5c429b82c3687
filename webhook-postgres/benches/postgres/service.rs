//! A service with a server, and with workers as users have them.

use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::mpsc;
use webhook_core::executor::{FnExecutor, RunOutput};
use webhook_core::parameters::{ParameterBlock, ParameterBlocks, ParameterType};
use webhook_core::store::Store;
use webhook_core::webhook::{Webhook, WebhookSettings};
use webhook_core::work::WorkerOptions;
use webhook_core::{ServiceOptions, Webhooks, Workflow};
use webhook_http::{AdminAccess, Api};
use webhook_postgres::PostgresStore;
use webhook_tower::ApiService;
use webhook_tower::server::Server;

use crate::calling::Called;
use crate::client;
use crate::store::enqueue_one;

/// The workflow that does nothing.
const NOOP: &str = "report/bench";
/// Pause between looks at what is left.
const LOOK_EVERY: Duration = Duration::from_millis(5);
/// Calls of an idle database, and the pause before each.
const IDLE_CALLS: usize = 200;
const IDLE_PAUSE: Duration = Duration::from_millis(10);

/// A service over a store. `begun` gets the time at which each run begins.
async fn build(store: PostgresStore, begun: mpsc::UnboundedSender<Instant>, url: &str) -> Webhooks {
    let blocks = vec![
        ParameterBlock::new("date", ParameterType::Date),
        ParameterBlock::new("region", ParameterType::Choice).with_choices(["EMEA", "APAC", "AMER"]),
    ];
    let blocks = ParameterBlocks::new(blocks).unwrap();
    let workflow = Workflow::new(NOOP.parse().unwrap(), "Nothing", blocks);
    let executor = FnExecutor::new([workflow], move |_| {
        // Nobody waits for it but the case of an idle database.
        let _ = begun.send(Instant::now());
        async { Ok(RunOutput::new()) }
    });
    let options =
        ServiceOptions::default().with_queue_limit(100_000_000).with_queue_bytes(64 << 30, 64 << 30);
    Webhooks::builder()
        .store(store)
        .executor(executor)
        .base_url(url.parse().unwrap())
        .options(options)
        .build()
        .await
        .unwrap()
}

/// A service that is served on a port of this machine, with a webhook.
pub(crate) struct Service {
    webhooks: Webhooks,
    store: PostgresStore,
    pub(crate) webhook: Arc<Webhook>,
    address: String,
    /// The bytes of a call.
    request: Vec<u8>,
}

impl Service {
    pub(crate) async fn start(store: PostgresStore) -> Self {
        let server = Server::bind((Ipv4Addr::LOCALHOST, 0).into()).await.unwrap();
        let address = server.local_address().unwrap().to_string();
        let (begun, _) = mpsc::unbounded_channel();
        let webhooks = build(store.clone(), begun, &format!("http://{address}")).await;
        let created = webhooks
            .manage()
            .create_webhook(NOOP.parse().unwrap(), WebhookSettings::default())
            .await
            .unwrap();
        let (_, path) = created.url.expose().split_once(&address).unwrap();
        let request = format!(
            "GET {path}&date=2026-01-10&region=AMER HTTP/1.1\r\nHost: {address}\r\nUser-Agent: curl/8.14.1\r\n\
             Accept: */*\r\n\r\n"
        );
        let api = ApiService::new(Api::new(webhooks.clone(), AdminAccess::Disabled));
        tokio::spawn(server.serve(api, std::future::pending()));
        Self { webhooks, store, webhook: created.webhook, address, request: request.into_bytes() }
    }

    /// Calls over so many connections, which one thread drives.
    pub(crate) async fn call(&self, connections: usize, time: Duration) -> Called {
        let (address, request) = (self.address.clone(), self.request.clone());
        let calling = move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(client::load(&address, request, connections, time))
        };
        tokio::task::spawn_blocking(calling).await.unwrap()
    }

    /// Lets default workers execute all that is queued.
    pub(crate) async fn drain(&self) -> Called {
        let left = async || {
            let health = self.store.health().await.unwrap();
            health.queued + health.running
        };
        let (count, start) = (left().await, Instant::now());
        let _workers = self.webhooks.start_workers(WorkerOptions::default());
        while left().await > 0 {
            tokio::time::sleep(LOOK_EVERY).await;
        }
        Called { count, elapsed: start.elapsed() }
    }
}

/// Returns the times from a call at one handle to the beginning of its run at another one, sorted.
pub(crate) async fn idle(store: &PostgresStore, other: &PostgresStore, webhook: &Webhook) -> Vec<Duration> {
    let (begun, mut beginnings) = mpsc::unbounded_channel();
    let webhooks = build(other.clone(), begun, "http://127.0.0.1").await;
    let _workers = webhooks.start_workers(WorkerOptions::default());
    let mut times = Vec::new();
    for _ in 0..IDLE_CALLS {
        tokio::time::sleep(IDLE_PAUSE).await;
        let called = Instant::now();
        enqueue_one(store, webhook).await;
        times.push(beginnings.recv().await.unwrap().saturating_duration_since(called));
    }
    times.sort_unstable();
    times
}
