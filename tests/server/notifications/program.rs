//! The example server as a process, with its integrations.

use std::collections::BTreeSet;
use std::time::Duration;

use serde_json::json;

use super::email::certificate;
use super::mail_server::MailServer;
use super::outage::free_port;
use super::slack_server::SlackServer;
use crate::server::{Server, each_file};
use webhook_testing::python;

const SECRETS: [&str; 3] = ["canary-smtp-1", "xoxb-canary-2", "canary-parameter-3"];

fn workflow(folder: &std::path::Path) -> String {
    let workflows = folder.join("workflows");
    std::fs::create_dir(&workflows).unwrap();
    let text = "kind = \"report\"\nid = \"quick\"\ntitle = \"Quick\"\n[[parameters]]\nname = \"password\"\n\
                type = \"text\"\nsecret = true\n[noop]\n";
    std::fs::write(workflows.join("quick.toml"), text).unwrap();
    workflows.to_str().unwrap().to_owned()
}

/// Creates a webhook with notifications, and returns its URL and its id.
async fn webhook(server: &Server, notifications: serde_json::Value) -> (String, String) {
    let url = server.webhook_of("report", "quick").await;
    let admin = server.admin_token();
    let listed = server.admin("GET", "/webhooks", &admin, None).await.1;
    let id = listed["items"][0]["id"].as_str().unwrap().to_owned();
    let patch = json!({"notifications": notifications});
    let (status, answer) = server.admin("PATCH", &format!("/webhooks/{id}"), &admin, Some(patch)).await;
    assert!(status.is_success(), "{answer}");
    (url, id)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn mail_and_slack_are_told_and_no_secret_is_said_anywhere() {
    let Some(python) = python("notifications", &["aiosmtpd"]) else { return };
    let folder = tempfile::tempdir().unwrap();
    let (_, files) = certificate(folder.path());
    let login = ["--tls", "implicit", "--user", "me", "--password", SECRETS[0]];
    let files: Vec<&str> = files.iter().map(String::as_str).collect();
    let mail = MailServer::start(&python, 0, &[&login[..], &files].concat());
    let slack = SlackServer::start([]).await;
    let secret = |name: &str, text: String| {
        let file = folder.path().join(name);
        std::fs::write(&file, text + "\n").unwrap();
        file.to_str().unwrap().to_owned()
    };
    let smtp = secret("smtp", format!("smtps://me:{}@localhost:{}", SECRETS[0], mail.port));
    let token = secret("slack", SECRETS[1].to_owned());
    let (data, api, workflows) = (folder.path().join("data"), slack.api(), workflow(folder.path()));
    let arguments = [
        "--log",
        "trace",
        "--workflows",
        &workflows,
        "--smtp-file",
        &smtp,
        "--smtp-ca-file",
        files[1],
        "--slack-token-file",
        &token,
        "--slack-api",
        &api,
    ];
    let server = Server::start(&data, &arguments);
    let (url, id) = webhook(
        &server,
        json!({
            "email": {"recipients": ["a@example.com", "reject@example.com"], "on": ["success"]},
            "slack": {"channel": "#ops", "on": ["success"]},
        }),
    )
    .await;
    let body = json!({"password": SECRETS[2]});
    let accepted: serde_json::Value =
        server.send(server.client.post(&url).json(&body)).await.json().await.unwrap();
    let told = mail.mails(1).await.remove(0);
    assert_eq!((told.to, told.from), (vec!["a@example.com".to_owned()], "webhooks@localhost".to_owned()));
    assert!(told.encrypted && told.authenticated);
    let admin = server.admin_token();
    let path = format!("/runs/{}", accepted["run_id"].as_str().unwrap());
    let shown = loop {
        let shown = server.admin("GET", &path, &admin, None).await.1;
        if shown["deliveries"].as_array().unwrap().iter().all(|delivery| delivery["state"] != "pending") {
            break shown;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    };
    assert_eq!(shown["deliveries"][1]["state"], "given_up", "{shown}");
    let tested = server.admin("POST", &format!("/webhooks/{id}/test-notification"), &admin, None).await.1;
    let message = slack.calls(2).await[0].message.clone();
    let log = server.stop();
    assert!(log.contains("answered"), "the log is there");
    let said = format!("{log}{shown}{tested}{message}{}{}{}", told.raw, told.text, told.html);
    let webhook_token = url.split_once("token=").unwrap().1;
    for secret in SECRETS.into_iter().chain([webhook_token]) {
        assert!(!said.contains(secret), "{secret} was said");
        each_file(&data, &mut |path, content| {
            let found = content.windows(secret.len()).any(|window| window == secret.as_bytes());
            assert!(!found, "{secret} is in {}", path.display());
        });
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn mails_of_a_thousand_runs_arrive_although_the_process_was_killed_while_the_mail_server_was_down() {
    const RUNS: usize = 1_000;
    let Some(python) = python("notifications", &["aiosmtpd"]) else { return };
    let folder = tempfile::tempdir().unwrap();
    let (data, port, workflows) = (folder.path().join("data"), free_port(), workflow(folder.path()));
    let smtp = format!("smtp://127.0.0.1:{port}");
    let arguments = ["--workflows", &workflows, "--smtp", &smtp, "--durability", "process"];
    let server = Server::start(&data, &arguments);
    let (url, _) =
        webhook(&server, json!({"email": {"recipients": ["a@example.com"], "on": ["success"]}})).await;
    let calls = futures_util::future::join_all((0..20).map(async |_| {
        for _ in 0..RUNS / 20 {
            let answer = server.send(server.client.post(&url)).await;
            assert_eq!(answer.status(), reqwest::StatusCode::ACCEPTED);
        }
    }));
    calls.await;
    // All runs have ended, so undelivered messages are in the outbox only.
    for (gauge, expected) in [("runs_queued", 0), ("runs_executing", 0), ("deliveries_pending", RUNS)] {
        let name = format!("webhook_{gauge} ");
        let reached = async {
            while server.metric(&name).await != Some(expected as f64) {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(60), reached).await.expect(gauge);
    }
    server.kill();

    let mail = MailServer::start(&python, port, &[]);
    let server = Server::start(&data, &arguments);
    let mails = mail.mails(RUNS).await;
    let distinct: BTreeSet<_> = mails.iter().map(|mail| &mail.message_id).collect();
    assert_eq!(distinct.len(), RUNS, "each run has a mail of its own");
    server.stop();
}
