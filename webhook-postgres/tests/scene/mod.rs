//! Stores on a PostgreSQL server of the tests' own.

#![allow(dead_code, reason = "each file of tests is a crate that uses a part of it")]
#![allow(clippy::unwrap_used, reason = "a test fails by a panic")]

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, SystemTime};

use webhook_core::id::{RunId, WebhookId};
use webhook_core::run::{Caller, Run, RunParameters};
use webhook_core::store::{ClaimRequest, Enqueue, Store};
use webhook_core::token::Token;
use webhook_core::webhook::{Webhook, WebhookSettings};
use webhook_postgres::{PostgresOptions, PostgresStore};
use webhook_testing::conformance::StoreHandles;
use webhook_testing::postgres::PrivatePostgres;

/// The server of all tests of one binary. It needs no disk: no test here ends the machine.
pub(crate) fn server() -> Option<&'static PrivatePostgres> {
    static SERVER: OnceLock<Option<PrivatePostgres>> = OnceLock::new();
    SERVER.get_or_init(|| PrivatePostgres::start(&["fsync=off", "max_connections=300"])).as_ref()
}

/// Returns the name of a schema that no other test uses.
pub(crate) fn schema() -> String {
    static NUMBER: AtomicU64 = AtomicU64::new(0);
    format!("t{}", NUMBER.fetch_add(1, Ordering::SeqCst))
}

pub(crate) fn url(server: &PrivatePostgres, schema: &str) -> String {
    format!("{}?schema={schema}", server.url())
}

pub(crate) fn options(server: &PrivatePostgres, schema: &str) -> PostgresOptions {
    url(server, schema).parse().unwrap()
}

/// Opens an empty store. Returns `None` where there is no PostgreSQL.
pub(crate) async fn fresh() -> Option<PostgresStore> {
    Some(PostgresStore::open(options(server()?, &schema())).await.unwrap())
}

/// Makes a webhook with a run, claims that, and returns its id.
pub(crate) async fn running(store: &dyn Store) -> RunId {
    let (now, workflow) = (SystemTime::now(), "report/sales".parse().unwrap());
    let (id, settings) = (WebhookId::generate(now), WebhookSettings::default());
    let webhook = Webhook::new(id, workflow, settings, &Token::generate(), None, now);
    store.create_webhook(webhook.clone()).await.unwrap();
    let (id, parameters) = (RunId::generate(now), RunParameters::default());
    let run = Run::new(id, webhook.workflow, webhook.id, parameters, 1, Caller::default(), now);
    store.enqueue(Enqueue::new(run)).await.unwrap();
    let claims = store.claim(ClaimRequest::new(1, Duration::from_secs(60), now)).await.unwrap();
    assert_eq!(claims.iter().map(|claim| claim.run.id()).collect::<Vec<_>>(), [id]);
    id
}

/// A schema of a test's own, which each handle opens for itself, as processes do.
pub(crate) struct Schema {
    server: &'static PrivatePostgres,
    name: String,
}

impl Schema {
    pub(crate) fn new() -> Option<Self> {
        Some(Self { server: server()?, name: schema() })
    }
}

#[async_trait::async_trait]
impl StoreHandles for Schema {
    async fn open(&self) -> Arc<dyn Store> {
        Arc::new(PostgresStore::open(options(self.server, &self.name)).await.unwrap())
    }
}
