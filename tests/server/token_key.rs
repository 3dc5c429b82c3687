//! The token key of a server: lost, forgotten, or kept elsewhere.

use std::fs;

use reqwest::StatusCode;

use crate::server::Server;
use crate::start::{mode, refusal};

#[test]
fn a_lost_token_key_is_named_and_never_replaced() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start(folder.path(), &[]);
    let token = server.token().to_owned();
    let log = server.stop();
    let file = folder.path().join("token.key");
    assert!(log.contains(" INFO ") && log.contains(&format!("{}", file.display())), "{log}");

    let kept = folder.path().join("kept");
    fs::rename(&file, &kept).unwrap();
    let line = refusal(&["--data", folder.path().to_str().unwrap(), "--listen", "127.0.0.1:0"]);
    for part in [file.to_str().unwrap(), "missing", "restore it", "--forget-unknown-keys"] {
        assert!(line.contains(part), "{line}");
    }
    assert!(!file.exists(), "no other key is made");

    fs::rename(&kept, &file).unwrap();
    let server = Server::start(folder.path(), &[]);
    assert_eq!(server.token(), token);
    assert!(!server.stop().contains("token.key"), "only a key that is made is logged");
}

#[tokio::test]
async fn a_server_goes_on_without_its_token_key_when_it_is_told_to() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start(folder.path(), &[]);
    let (url, admin, port) = (server.url().to_owned(), server.admin_token(), server.port());
    server.stop();
    fs::remove_file(folder.path().join("token.key")).unwrap();

    let listen = format!("127.0.0.1:{port}");
    Server::start(folder.path(), &["--forget-unknown-keys", "--listen", &listen]).stop();
    let line = refusal(&["--data", folder.path().to_str().unwrap(), "--listen", "127.0.0.1:0"]);
    for part in ["not the one", "--token-key", "--forget-unknown-keys at every start until"] {
        assert!(line.contains(part), "{line}");
    }
    let server = Server::start(folder.path(), &["--forget-unknown-keys", "--listen", &listen]);
    assert!(!server.has_demo(), "the URL cannot be shown without the key");
    assert_eq!(server.send(server.client.post(&url)).await.status(), StatusCode::ACCEPTED);
    let webhooks = server.admin("GET", "/webhooks", &admin, None).await.1;
    assert_eq!(webhooks["items"].as_array().unwrap().len(), 1, "{webhooks}");
    let webhook = format!("/webhooks/{}", webhooks["items"][0]["id"].as_str().unwrap());
    assert!(!server.admin("GET", &format!("{webhook}/url"), &admin, None).await.0.is_success());
    let refreshed = server.admin("POST", &format!("{webhook}/refresh-token"), &admin, None).await.1;
    server.stop();

    let server = Server::start(folder.path(), &["--listen", &listen]);
    assert_eq!(server.url(), refreshed["url"].as_str().unwrap(), "a refreshed URL needs no flag");
    server.stop();
}

#[test]
fn a_token_key_elsewhere_needs_a_folder_that_is_there() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    let missing = folder.path().join("typo");
    let key = missing.join("a/b");
    let arguments =
        ["--data", data.to_str().unwrap(), "--listen", "127.0.0.1:0", "--token-key", key.to_str().unwrap()];
    let line = refusal(&arguments);
    assert!(line.contains("--token-key") && line.contains(missing.to_str().unwrap()), "{line}");
    assert!(!missing.exists());

    let key = folder.path().join("own.key");
    Server::start(&data, &["--token-key", key.to_str().unwrap()]).stop();
    assert_eq!(mode(&key), 0o600);
}
