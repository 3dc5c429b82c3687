//! TLS to the database, in the modes of libpq.

#![allow(clippy::unwrap_used, reason = "a test fails by a panic")]

mod scene;

use std::fs::{Permissions, set_permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedKey, DnType, IsCa, Issuer, KeyPair,
    generate_simple_self_signed,
};
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

/// Authority for the certificates of clients.
struct Authority {
    issuer: Issuer<'static, KeyPair>,
    certificate: String,
}

impl Authority {
    fn new(name: &str) -> Self {
        let mut parameters = named(name);
        parameters.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        let certificate = parameters.self_signed(&key).unwrap().pem();
        Self { issuer: Issuer::new(parameters, key), certificate }
    }

    /// Writes a certificate for a role and its key into a folder, and returns the parameters of a URL that name them.
    fn issue(&self, role: &str, folder: &Path) -> String {
        let key = KeyPair::generate().unwrap();
        let certificate = named(role).signed_by(&key, &self.issuer).unwrap();
        let (certificate_file, key_file) = (folder.join("client.crt"), folder.join("client.key"));
        std::fs::write(&certificate_file, certificate.pem()).unwrap();
        std::fs::write(&key_file, key.serialize_pem()).unwrap();
        set_permissions(&key_file, Permissions::from_mode(0o600)).unwrap();
        format!("sslcert={}&sslkey={}", certificate_file.display(), key_file.display())
    }
}

fn named(name: &str) -> CertificateParams {
    let mut parameters = CertificateParams::new(Vec::new()).unwrap();
    parameters.distinguished_name.push(DnType::CommonName, name);
    parameters
}

/// A server that knows its clients by their certificates of this authority, and the parameter that trusts the server.
fn server_for_clients_of(authority: &Authority) -> Option<(PrivatePostgres, tempfile::TempDir, String)> {
    let CertifiedKey { cert, signing_key } =
        generate_simple_self_signed(vec!["127.0.0.1".to_owned()]).unwrap();
    let (cert, key) = (cert.pem(), signing_key.serialize_pem());
    let settings = [
        "fsync=off",
        "ssl=on",
        "ssl_cert_file={folder}/server.crt",
        "ssl_key_file={folder}/server.key",
        "ssl_ca_file={folder}/clients.crt",
        "hba_file={folder}/hba.conf",
    ];
    // Without TLS, so that the test can ask as well.
    let access =
        "hostssl all all 127.0.0.1/32 trust clientcert=verify-full\nhostnossl all all 127.0.0.1/32 trust\n";
    let files = [
        ("server.crt", cert.as_str()),
        ("server.key", &key),
        ("clients.crt", &authority.certificate),
        ("hba.conf", access),
    ];
    let server = PrivatePostgres::start_with_files(&settings, &files)?;
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path().join("server.crt");
    std::fs::write(&root, cert).unwrap();
    Some((server, folder, format!("sslrootcert={}", root.display())))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_knows_its_clients_by_certificate_accepts_that_of_the_role() {
    let authority = Authority::new("clients");
    let Some((server, folder, root)) = server_for_clients_of(&authority) else { return };
    let files = authority.issue("app", folder.path());
    let _store = open(&server, &format!("{root}&{files}")).await.unwrap();
    let sql = "SELECT DISTINCT client_dn FROM pg_stat_ssl JOIN pg_stat_activity USING (pid) WHERE application_name = 'webhook'";
    assert_eq!(server.psql(sql), "/CN=app");
}

#[tokio::test(flavor = "multi_thread")]
async fn no_certificate_and_those_of_others_are_refused() {
    let authority = Authority::new("clients");
    let Some((server, folder, root)) = server_for_clients_of(&authority) else { return };
    let of_another_role = authority.issue("other", tempfile::tempdir_in(&folder).unwrap().keep().as_path());
    let of_another_authority = Authority::new("strangers").issue("app", folder.path());
    for files in ["", &of_another_role, &of_another_authority] {
        let refused = open(&server, &format!("{root}&{files}")).await;
        assert!(matches!(refused, Err(StoreError::Unavailable { .. })), "{files}: {refused:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_cannot_be_used_is_refused_by_the_name_of_its_parameter() {
    let authority = Authority::new("clients");
    let folder = tempfile::tempdir().unwrap();
    let files = authority.issue("app", folder.path());
    let (certificate, key) = files.split_once('&').unwrap();
    let refused = async |parameters: String| {
        // No server is asked.
        let url = format!("postgres://app@127.0.0.1:9/app?sslmode=require&{parameters}");
        let Err(error) = PostgresStore::open(url.parse().unwrap()).await else { panic!("{parameters}") };
        webhook_core::error::chain(&error)
    };
    let mode =
        |mode| set_permissions(folder.path().join("client.key"), Permissions::from_mode(mode)).unwrap();
    for readable in [0o604, 0o660, 0o644] {
        mode(readable);
        let reason = refused(files.clone()).await;
        assert!(reason.contains("sslkey: ") && reason.contains("can be read by others"), "{reason}");
    }
    mode(0o600);
    let reason = refused(format!("{certificate}&sslkey={}", folder.path().display())).await;
    assert!(reason.contains("sslkey: ") && reason.contains("not a regular file"), "{reason}");
    let reason = refused(format!("{certificate}&sslkey=/nowhere")).await;
    assert!(reason.contains("sslkey: /nowhere cannot be read"), "{reason}");
    let reason = refused(format!("sslcert={}&{key}", key.trim_start_matches("sslkey="))).await;
    assert!(reason.contains("sslcert: ") && reason.contains("has no certificate"), "{reason}");
    let reason =
        refused(format!("{certificate}&sslkey={}", certificate.trim_start_matches("sslcert="))).await;
    let is_no_key = reason.contains("sslkey: ");
    assert!(is_no_key && !reason.contains("BEGIN"), "{reason}");
    let other = authority.issue("app", tempfile::tempdir_in(&folder).unwrap().keep().as_path());
    let reason = refused(format!("{certificate}&{}", other.split_once('&').unwrap().1)).await;
    assert!(reason.contains("sslcert and sslkey"), "{reason}");
    let reason = refused("sslmode=verify-ca&sslrootcert=/nowhere".to_owned()).await;
    assert!(reason.contains("sslrootcert: /nowhere cannot be read"), "{reason}");
}
