//! TLS to the database, in the modes of libpq.

#![allow(clippy::unwrap_used, reason = "a test fails by a panic")]

mod scene;

use rcgen::{CertifiedKey, generate_simple_self_signed};
use webhook_core::store::{Store, StoreError};
use webhook_postgres::PostgresStore;
use webhook_testing::postgres::PrivatePostgres;

/// A server with a certificate for these names, and a file with the certificate.
fn server(names: &[&str]) -> Option<(PrivatePostgres, tempfile::NamedTempFile)> {
    let names: Vec<String> = names.iter().map(ToString::to_string).collect();
    let CertifiedKey { cert, signing_key } = generate_simple_self_signed(names).unwrap();
    let (cert, key) = (cert.pem(), signing_key.serialize_pem());
    let settings =
        ["fsync=off", "ssl=on", "ssl_cert_file={folder}/server.crt", "ssl_key_file={folder}/server.key"];
    let server =
        PrivatePostgres::start_with_files(&settings, &[("server.crt", &cert), ("server.key", &key)])?;
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), cert).unwrap();
    Some((server, file))
}

async fn open(server: &PrivatePostgres, parameters: &str) -> Result<PostgresStore, StoreError> {
    let store = PostgresStore::open(format!("{}?{parameters}", server.url()).parse().unwrap()).await?;
    store.health().await?;
    Ok(store)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_trusted_certificate_for_this_host_is_accepted_and_all_connections_are_encrypted() {
    let Some((server, root)) = server(&["localhost", "127.0.0.1"]) else { return };
    let root = format!("sslrootcert={}", root.path().display());
    for mode in ["", "&sslmode=verify-full", "&sslmode=verify-ca", "&sslmode=require"] {
        let _store = open(&server, &format!("{root}{mode}")).await.unwrap();
        let sql = "SELECT DISTINCT ssl FROM pg_stat_ssl JOIN pg_stat_activity USING (pid) WHERE application_name = 'webhook'";
        assert_eq!(server.psql(sql), "t", "{mode}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_certificate_that_is_not_trusted_is_refused_where_that_is_asked_for() {
    let Some((server, _)) = server(&["localhost", "127.0.0.1"]) else { return };
    let other = generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap().cert.pem();
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), other).unwrap();
    for mode in ["verify-full", "verify-ca", "require"] {
        let refused = open(&server, &format!("sslmode={mode}&sslrootcert={}", file.path().display())).await;
        assert!(matches!(refused, Err(StoreError::Unavailable { .. })), "{mode}: {refused:?}");
    }
    open(&server, "sslmode=require").await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn the_name_of_the_host_counts_where_everything_is_verified() {
    let Some((server, root)) = server(&["db.example.com"]) else { return };
    let root = format!("sslrootcert={}", root.path().display());
    let refused = open(&server, &format!("{root}&sslmode=verify-full")).await;
    assert!(matches!(refused, Err(StoreError::Unavailable { .. })), "{refused:?}");
    open(&server, &format!("{root}&sslmode=verify-ca")).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_without_tls_is_refused_where_tls_is_asked_for() {
    let Some(server) = scene::server() else { return };
    let refused = open(server, "sslmode=require").await;
    assert!(matches!(refused, Err(StoreError::Unavailable { .. })), "{refused:?}");
}
