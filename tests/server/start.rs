//! What a start makes, what it leaves alone, and what it refuses.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use reqwest::StatusCode;
use serde_json::Value;

use crate::process::{fails_to_start, fails_to_start_in};
use crate::server::Server;

/// The one line that says why the server did not start; all other lines must be of its log.
fn refusal(arguments: &[&str]) -> String {
    refusal_of(arguments, fails_to_start(arguments))
}

fn refusal_of(arguments: &[&str], (code, output): (Option<i32>, String)) -> String {
    assert_eq!(code, Some(2), "{arguments:?}: {output}");
    let (refusals, log): (Vec<_>, Vec<_>) = output.lines().partition(|line| line.starts_with("server: "));
    assert_eq!(refusals.len(), 1, "{arguments:?}: {output}");
    assert!(log.iter().all(|line| line.contains(" INFO ")), "{arguments:?}: {output}");
    refusals[0].to_owned()
}

fn mode(path: &Path) -> u32 {
    path.metadata().unwrap().permissions().mode() & 0o777
}

#[test]
fn a_second_process_on_the_same_data_gets_one_clear_line_and_exit_code_2() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start(folder.path(), &[]);
    let (code, output) =
        fails_to_start(&["--data", folder.path().to_str().unwrap(), "--listen", "127.0.0.1:0"]);
    assert_eq!(code, Some(2));
    assert_eq!(output.trim().lines().count(), 1, "{output}");
    server.stop();
}

#[test]
fn a_bad_flag_or_workflow_file_is_one_clear_line_and_exit_code_2() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    let workflows = folder.path().join("workflows");
    fs::create_dir(&workflows).unwrap();
    let text = "kind = \"report\"\nid = \"a\"\ntitle = \"A\"\n\n[[parameters]]\nname = \"x\"\ntype = \"colour\"\n\n[noop]\n";
    fs::write(workflows.join("broken.toml"), text).unwrap();
    let (data, workflows) = (data.to_str().unwrap(), workflows.to_str().unwrap());
    let cases: [(&[&str], &str); 5] = [
        (&["--listen", "nowhere"], "--listen"),
        (&["--store", "cloud"], "--store"),
        (&["--no-such-flag"], "--no-such-flag"),
        (&["--data", data, "--listen", "127.0.0.1:0", "--log", "no such filter!!"], "--log"),
        (&["--data", data, "--workflows", workflows], "broken.toml:7"),
    ];
    for (arguments, expected) in cases {
        let (code, output) = fails_to_start(arguments);
        assert_eq!(code, Some(2), "{arguments:?}: {output}");
        assert_eq!(output.trim().lines().count(), 1, "{arguments:?}: {output}");
        assert!(output.contains(expected), "{arguments:?}: {output}");
    }
    assert!(!Path::new(data).exists(), "a refused start makes nothing");
}

#[test]
fn after_a_start_whose_port_was_taken_the_next_one_still_makes_the_demo_webhook() {
    let folder = tempfile::tempdir().unwrap();
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let line = refusal(&["--data", folder.path().to_str().unwrap(), "--listen", &address]);
    assert!(line.contains(&address), "{line}");
    assert!(folder.path().join("store").exists(), "the port is bound after the store is open");
    let server = Server::start(folder.path(), &[]);
    assert!(server.has_demo());
    server.stop();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn commits_are_measured_from_the_first_one_on_in_bounds_that_fit_them() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start(folder.path(), &[]);
    let url = format!("http://127.0.0.1:{}/metrics", server.port());
    let text = server.send(server.client.get(url)).await.text().await.unwrap();
    let bounds = |metric: &str| -> Vec<&str> {
        let of_metric = format!("{metric}_bucket{{le=\"");
        text.lines().filter_map(|line| line.strip_prefix(&of_metric)?.split('"').next()).collect()
    };
    // The demo webhook was made before the port was bound.
    assert!(!text.contains("webhook_store_commit_size_count 0"), "{text}");
    assert_eq!(bounds("webhook_store_commit_size")[..3], ["1", "2", "4"]);
    assert_eq!(bounds("webhook_store_commit_seconds")[..3], ["0.0003", "0.001", "0.003"]);
    assert_eq!(bounds("webhook_run_duration_seconds").last(), Some(&"+Inf"));
    server.stop();
}

#[test]
fn a_data_folder_that_has_lost_its_store_is_told() {
    let folder = tempfile::tempdir().unwrap();
    let log = Server::start(folder.path(), &[]).stop();
    assert!(!log.contains("has no store"), "{log}");
    fs::remove_dir_all(folder.path().join("store")).unwrap();
    let log = Server::start(folder.path(), &[]).stop();
    assert!(log.contains("WARN") && log.contains("has no store: a new one is made"), "{log}");
}

#[tokio::test]
async fn a_deleted_demo_webhook_stays_deleted() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start(folder.path(), &[]);
    let admin = server.admin_token();
    let webhooks = server.admin("GET", "/webhooks", &admin, None).await.1;
    let webhook = format!("/webhooks/{}", webhooks["items"][0]["id"].as_str().unwrap());
    assert!(server.admin("DELETE", &webhook, &admin, None).await.0.is_success());
    server.stop();
    let server = Server::start(folder.path(), &[]);
    assert!(!server.has_demo());
    let webhooks: Value = server.admin("GET", "/webhooks", &admin, None).await.1;
    assert_eq!(webhooks["items"].as_array().unwrap().len(), 0, "{webhooks}");
    server.stop();
}

#[test]
fn a_start_that_ended_before_it_noted_the_demo_webhook_makes_no_second_one() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start(folder.path(), &[]);
    let token = server.token().to_owned();
    server.stop();
    fs::remove_file(folder.path().join("demo-made")).unwrap();
    let server = Server::start(folder.path(), &[]);
    assert_eq!(server.token(), token);
    assert!(folder.path().join("demo-made").is_file());
    server.stop();
}

#[tokio::test]
async fn a_workflow_of_any_kind_can_be_called() {
    let folder = tempfile::tempdir().unwrap();
    let workflows = folder.path().join("workflows");
    fs::create_dir(&workflows).unwrap();
    for id in ["first", "second"] {
        let text = format!("kind = 'job'\nid = '{id}'\ntitle = 'A job'\n[noop]\n");
        fs::write(workflows.join(format!("{id}.toml")), text).unwrap();
    }
    let server = Server::start(&folder.path().join("data"), &["--workflows", workflows.to_str().unwrap()]);
    assert!(!server.has_demo());
    let hint = "No workflow has a webhook yet: create one in the panel, or by POST to the management API.";
    assert!(server.greeting().contains(hint), "{}", server.greeting());
    let url = server.webhook_of("job", "first").await;
    assert_eq!(server.send(server.client.post(&url)).await.status(), StatusCode::ACCEPTED);
    server.stop();
    let server = Server::start(&folder.path().join("data"), &["--workflows", workflows.to_str().unwrap()]);
    assert!(!server.greeting().contains("No workflow has a webhook"), "{}", server.greeting());
    server.stop();
}

#[test]
fn a_new_data_folder_is_private_and_an_existing_one_is_left_alone() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("new");
    Server::start(&data, &[]).stop();
    assert_eq!(mode(&data), 0o700);
    let data = folder.path().join("own");
    fs::create_dir(&data).unwrap();
    fs::set_permissions(&data, Permissions::from_mode(0o750)).unwrap();
    Server::start(&data, &[]).stop();
    assert_eq!(mode(&data), 0o750);
}

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

#[test]
fn a_workflow_file_that_is_a_link_to_nowhere_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let workflows = folder.path().join("workflows");
    fs::create_dir(&workflows).unwrap();
    std::os::unix::fs::symlink("nowhere", workflows.join("lost.toml")).unwrap();
    let data = folder.path().join("data");
    let refusal = refusal(&["--data", data.to_str().unwrap(), "--workflows", workflows.to_str().unwrap()]);
    assert!(refusal.contains("lost.toml cannot be read"), "{refusal}");
}

#[test]
fn a_missing_workflow_folder_is_named_in_full_with_its_flag() {
    let folder = tempfile::tempdir().unwrap();
    let line = refusal_of(&[], fails_to_start_in(folder.path(), &[]));
    let looked_for = folder.path().canonicalize().unwrap().join("examples/workflows");
    for part in [looked_for.to_str().unwrap(), "--workflows"] {
        assert!(line.contains(part), "{line}");
    }
}

#[test]
fn an_empty_workflow_folder_is_a_warning() {
    let folder = tempfile::tempdir().unwrap();
    let workflows = folder.path().join("workflows");
    fs::create_dir(&workflows).unwrap();
    let workflows = workflows.to_str().unwrap();
    let log = Server::start(&folder.path().join("data"), &["--workflows", workflows]).stop();
    let warned = log.lines().any(|line| line.contains(" WARN ") && line.contains(workflows));
    assert!(warned, "{log}");
}
