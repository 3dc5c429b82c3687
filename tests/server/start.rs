//! Tests of a start: what it creates, what it leaves unchanged, and what it refuses.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use reqwest::StatusCode;
use serde_json::Value;

use crate::process::{fails_to_start, fails_to_start_in};
use crate::server::Server;

/// Returns the one line with the reason for not starting. All other lines must be the log's.
pub(crate) fn refusal(arguments: &[&str]) -> String {
    refusal_of(arguments, fails_to_start(arguments))
}

fn refusal_of(arguments: &[&str], (code, output): (Option<i32>, String)) -> String {
    assert_eq!(code, Some(2), "{arguments:?}: {output}");
    let (refusals, log): (Vec<_>, Vec<_>) = output.lines().partition(|line| line.starts_with("server: "));
    assert_eq!(refusals.len(), 1, "{arguments:?}: {output}");
    assert!(log.iter().all(|line| line.contains(" INFO ")), "{arguments:?}: {output}");
    refusals[0].to_owned()
}

pub(crate) fn mode(path: &Path) -> u32 {
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
    // The demo webhook was created before the port was bound.
    assert!(!text.contains("webhook_store_commit_size_count 0"), "{text}");
    assert_eq!(bounds("webhook_store_commit_size")[..3], ["1", "2", "4"]);
    assert_eq!(bounds("webhook_store_commit_seconds")[..3], ["0.0003", "0.001", "0.003"]);
    assert_eq!(bounds("webhook_run_duration_seconds").last(), Some(&"+Inf"));
    server.stop();
}

#[test]
fn a_data_folder_that_has_lost_its_store_is_told() {
    let folder = tempfile::tempdir().unwrap();
    let log = Server::start(folder.path(), &["--store", "memory"]).stop();
    assert!(!log.contains("has no store"), "{log}");
    let log = Server::start(folder.path(), &[]).stop();
    assert!(log.contains("WARN") && log.contains("has no store: a new one is made"), "{log}");
}

/// This also holds if the folder exists and is empty, as with a missing mount.
#[test]
fn a_data_folder_without_the_store_that_was_made_there_is_refused_until_it_is_put_back() {
    let folder = tempfile::tempdir().unwrap();
    let arguments = ["--data", folder.path().to_str().unwrap(), "--listen", "127.0.0.1:0"];
    let (store, kept) = (folder.path().join("store"), folder.path().join("kept"));
    let made = folder.path().join("store-made");
    let server = Server::start(folder.path(), &[]);
    let token = server.token().to_owned();
    server.stop();
    fs::rename(&store, &kept).unwrap();
    for is_there in [false, true] {
        if is_there {
            fs::create_dir(&store).unwrap();
        }
        let line = refusal(&arguments);
        for part in
            ["the store is missing", "put back the folder", store.to_str().unwrap(), made.to_str().unwrap()]
        {
            assert!(line.contains(part), "{line}");
        }
        assert!(
            !store.exists() || fs::read_dir(&store).unwrap().count() == 0,
            "a refused start makes nothing"
        );
    }
    fs::remove_dir(&store).unwrap();
    // A store that cannot be read is not missing, and no file is to be removed.
    std::os::unix::fs::symlink(&store, &store).unwrap();
    for arguments in [&arguments[..], &[&arguments[..], &["--verify"]].concat()] {
        let line = refusal(arguments);
        assert!(line.contains("store cannot be read: ") && !line.contains("remove"), "{line}");
    }
    fs::remove_file(&store).unwrap();
    fs::rename(&kept, &store).unwrap();
    let server = Server::start(folder.path(), &[]);
    assert_eq!(server.token(), token);
    server.stop();

    fs::remove_dir_all(&store).unwrap();
    fs::remove_file(&made).unwrap();
    let log = Server::start(folder.path(), &[]).stop();
    assert!(log.contains("has no store: a new one is made"), "{log}");
}

#[test]
fn a_first_start_that_ends_between_any_two_steps_leaves_a_folder_that_starts() {
    let folder = tempfile::tempdir().unwrap();
    let whole = folder.path().join("whole");
    Server::start(&whole, &[]).stop();
    let steps = ["token.key", "store", "store-made", "admin.token", "demo-made"];
    for count in 0..steps.len() {
        let data = folder.path().join(count.to_string());
        fs::create_dir(&data).unwrap();
        for step in &steps[..count] {
            if *step == "store" {
                // A process that is killed while it creates a store leaves this.
                fs::create_dir(data.join(step)).unwrap();
                fs::write(data.join("store/webhook-store"), "").unwrap();
            } else {
                fs::copy(whole.join(step), data.join(step)).unwrap();
            }
        }
        let server = Server::start(&data, &[]);
        assert_eq!(server.has_demo(), !steps[..count].contains(&"demo-made"), "{count}");
        server.stop();
        for step in steps {
            assert!(data.join(step).exists(), "{count}: {step}");
        }
    }
}

#[tokio::test]
async fn a_server_whose_store_is_moved_away_is_unhealthy_until_it_is_back() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start(folder.path(), &[]);
    let (store, moved) = (folder.path().join("store"), folder.path().join("moved"));
    let base = server.url().split("/api/").next().unwrap();
    let health = format!("{base}/healthz");
    assert_eq!(server.send(server.client.get(&health)).await.status(), StatusCode::OK);
    fs::rename(&store, &moved).unwrap();
    for request in [
        server.client.get(&health),
        server.client.get(format!("{base}/readyz")),
        server.client.post(server.url()),
    ] {
        let answer = server.send(request).await;
        assert_eq!(answer.status(), StatusCode::SERVICE_UNAVAILABLE, "{}", answer.url().path());
        let text = answer.text().await.unwrap();
        assert!(!text.contains(folder.path().to_str().unwrap()), "{text}");
    }
    fs::rename(&moved, &store).unwrap();
    assert_eq!(server.send(server.client.get(&health)).await.status(), StatusCode::OK);
    assert_eq!(server.send(server.client.post(server.url())).await.status(), StatusCode::ACCEPTED);
    let log = server.stop();
    let line =
        log.lines().find(|line| line.contains("moved, removed or replaced while it is open, and")).unwrap();
    assert!(line.contains(" ERROR ") && line.contains(store.to_str().unwrap()), "{line}");
    assert!(log.contains("the store's folder is in its place again"), "{log}");
}

#[test]
fn what_is_no_regular_file_is_refused_by_name_and_never_waited_for() {
    let folder = tempfile::tempdir().unwrap();
    let (data, workflows) = (folder.path().join("data"), folder.path().join("workflows"));
    fs::create_dir(&workflows).unwrap();
    let arguments = [
        "--data",
        data.to_str().unwrap(),
        "--workflows",
        workflows.to_str().unwrap(),
        "--listen",
        "127.0.0.1:0",
    ];
    let head = "kind = 'report'\nid = 'a'\ntitle = 'A'\n";
    fs::write(workflows.join("t.csv"), "a\n1\n").unwrap();
    let report = "[report]\ntemplate = 'page.html'\ncsv = { t = 't.csv' }\nqueries.q = 'SELECT 1'\n";
    for (name, text) in [("page.html", report), ("t.csv", report), ("own.toml", "")] {
        fs::write(workflows.join("own.toml"), format!("{head}{text}")).unwrap();
        fs::write(workflows.join("page.html"), "").unwrap();
        let _ = fs::remove_file(workflows.join(name));
        make_pipe(&workflows.join(name));
        let line = refusal(&arguments);
        assert!(line.contains(&format!("{name} cannot be read: it is no regular file")), "{line}");
        fs::remove_file(workflows.join(name)).unwrap();
        fs::write(workflows.join("t.csv"), "a\n1\n").unwrap();
    }
    fs::create_dir(workflows.join("folder.toml")).unwrap();
    let line = refusal(&arguments);
    assert!(line.contains("folder.toml cannot be read: it is no regular file"), "{line}");
    fs::remove_dir(workflows.join("folder.toml")).unwrap();

    fs::write(workflows.join("own.toml"), format!("{head}[notebook]\npath = 'a.ipynb'\n")).unwrap();
    make_pipe(&workflows.join("a.ipynb"));
    let log = Server::start(&data, &arguments[2..]).stop();
    assert!(log.contains("report/a is unavailable") && log.contains("it is no regular file"), "{log}");

    fs::remove_file(workflows.join("own.toml")).unwrap();
    for name in ["admin.token", "store/webhook-store", "store/journal-1"] {
        let (file, kept) = (data.join(name), folder.path().join("kept"));
        fs::rename(&file, &kept).unwrap();
        make_pipe(&file);
        let (code, output) = fails_to_start(&arguments);
        assert_eq!(code, Some(2), "{output}");
        let line = output.lines().find(|line| line.starts_with("server: ")).unwrap();
        let named = name.trim_start_matches("store/");
        assert!(line.contains(named) && line.contains("no regular file"), "{line}");
        fs::rename(&kept, &file).unwrap();
    }
}

fn make_pipe(path: &Path) {
    assert!(std::process::Command::new("mkfifo").arg(path).status().unwrap().success());
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
