//! Versions of the schema.

#![allow(clippy::unwrap_used, reason = "a test fails by a panic")]

mod scene;

use std::sync::Arc;

use webhook_core::store::{Store, StoreError};
use webhook_postgres::PostgresStore;
use webhook_testing::conformance;

/// The newest version that this one knows.
const NEWEST: u32 = 3;

#[tokio::test(flavor = "multi_thread")]
async fn a_newer_schema_is_refused_unless_it_says_that_this_version_works_with_it() {
    let Some(server) = scene::server() else { return };
    let schema = scene::schema();
    let store = PostgresStore::open(scene::options(server, &schema)).await.unwrap();
    server.psql(&format!("INSERT INTO {schema}.migrations (version, works_with) VALUES ({}, 1)", NEWEST + 1));
    PostgresStore::open(scene::options(server, &schema)).await.unwrap();
    server.psql(&format!(
        "INSERT INTO {schema}.migrations (version, works_with) VALUES ({0}, {0})",
        NEWEST + 2
    ));
    let refused = PostgresStore::open(scene::options(server, &schema)).await;
    let Err(StoreError::NewerFormat { found, known }) = refused else { panic!("{refused:?}") };
    assert_eq!((found, known), (NEWEST + 2, NEWEST));
    store.health().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn processes_that_start_at_once_migrate_once() {
    let Some(server) = scene::server() else { return };
    let schema = scene::schema();
    let mut opened = tokio::task::JoinSet::new();
    for _ in 0..8 {
        opened.spawn(PostgresStore::open(scene::options(server, &schema)));
    }
    for store in opened.join_all().await {
        store.unwrap().health().await.unwrap();
    }
    assert_eq!(server.psql(&format!("SELECT count(*) FROM {schema}.migrations")), NEWEST.to_string());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_read_only_database_is_unhealthy_and_reads_go_on() {
    let Some(server) = scene::server() else { return };
    let schema = scene::schema();
    PostgresStore::open(scene::options(server, &schema)).await.unwrap();
    let url = format!("{}&options=-c%20default_transaction_read_only%3Don", scene::url(server, &schema));
    let store = PostgresStore::open(url.parse().unwrap()).await;
    let Ok(store) = store else { panic!("what needs no migration opens: {store:?}") };
    assert!(matches!(store.health().await, Err(StoreError::Unavailable { .. })));
    assert!(store.list_runs(Default::default()).await.unwrap().items.is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_role_with_the_documented_grants_can_do_everything_but_upgrade() {
    let Some(server) = scene::server() else { return };
    let schema = scene::schema();
    PostgresStore::open(scene::options(server, &schema)).await.unwrap();
    server.psql(&format!(
        "CREATE ROLE {schema}_server LOGIN;
         GRANT USAGE ON SCHEMA {schema} TO {schema}_server;
         GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA {schema} TO {schema}_server;
         GRANT EXECUTE ON ALL FUNCTIONS IN SCHEMA {schema} TO {schema}_server"
    ));
    let url = scene::url(server, &schema).replace("//app@", &format!("//{schema}_server@"));
    let store = Arc::new(PostgresStore::open(url.parse().unwrap()).await.unwrap());
    conformance::progress_and_log_lines_are_events(store.clone()).await;
    conformance::nothing_of_a_pruned_run_is_left(store).await;
    let owns = format!("SELECT count(*) FROM pg_tables WHERE tableowner = '{schema}_server'");
    assert_eq!(server.psql(&owns), "0");
}
