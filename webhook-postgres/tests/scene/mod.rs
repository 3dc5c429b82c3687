//! Stores on a PostgreSQL server of the tests' own.

#![allow(dead_code, reason = "each file of tests is a crate that uses a part of it")]
#![allow(clippy::unwrap_used, reason = "a test fails by a panic")]

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

use webhook_core::store::Store;
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
