//! The example server as a process, called over a real socket as its users call it.

#![allow(clippy::unwrap_used)]

#[path = "../support/process.rs"]
mod process;
mod server;

use std::time::Duration;

use reqwest::StatusCode;
use serde_json::{Value, json};
use server::Server;

/// Triggers and answers the status URL.
async fn trigger(server: &Server, request: reqwest::RequestBuilder) -> String {
    let answer = server.send(request).await;
    assert_eq!(answer.status(), StatusCode::ACCEPTED);
    let accepted: Value = answer.json().await.unwrap();
    assert!(!accepted.to_string().contains("token"));
    accepted["status_url"].as_str().unwrap().to_owned()
}

/// Asks for a run's status until it has ended.
async fn ended(server: &Server, status_url: &str) -> Value {
    let asked = async {
        loop {
            let answer = server.send(server.client.get(status_url).bearer_auth(server.token())).await;
            assert_eq!(answer.status(), StatusCode::OK);
            let run: Value = answer.json().await.unwrap();
            if !matches!(run["state"].as_str(), Some("queued" | "running")) {
                return run;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(30), asked).await.expect("the run ends")
}

async fn page(server: &Server, run: &Value) -> String {
    let artifact = run["artifacts"][0]["url"].as_str().unwrap();
    let answer = server.send(server.client.get(artifact).bearer_auth(server.token())).await;
    assert_eq!(answer.status(), StatusCode::OK);
    assert!(answer.headers()["content-type"].to_str().unwrap().starts_with("text/html"));
    answer.text().await.unwrap()
}

#[tokio::test]
async fn a_pasted_url_starts_a_real_report_that_stands_for_what_was_asked() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start(folder.path(), &[]);
    let url = server.url.clone();
    let by_query = format!("{url}&date=2026-01-10&region=APAC");
    let body = json!({"date": "2026-01-07", "region": "AMER"});
    let requests = [
        (server.client.post(&url), "EMEA", None),
        (server.client.get(&url), "EMEA", None),
        (server.client.post(&by_query), "APAC", Some("2026-01-10")),
        (server.client.get(&by_query), "APAC", Some("2026-01-10")),
        (server.client.post(&url).json(&body), "AMER", Some("2026-01-07")),
        (server.client.post(&by_query).json(&body), "AMER", Some("2026-01-07")),
    ];
    let mut pages = Vec::new();
    for (request, region, date) in requests {
        let status_url = trigger(&server, request).await;
        let run = ended(&server, &status_url).await;
        assert_eq!(run["state"], "succeeded", "{run}");
        assert_eq!(run["parameters"]["region"]["value"], region);
        let page = page(&server, &run).await;
        assert!(page.contains(region), "{region}");
        if let Some(date) = date {
            assert!(page.contains(date), "{date}");
        }
        assert!(page.contains("<table>") && page.contains("<svg"), "there are figures and a chart");
        pages.push(page.replace(run["id"].as_str().unwrap(), "RUN"));
    }
    assert_ne!(pages[0], pages[2]);
    assert_ne!(pages[2], pages[4]);
    assert_eq!(pages[4], pages[5], "a body goes before the query");
    server.stop();
}

#[tokio::test]
async fn webhook_url_and_history_are_there_after_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start(folder.path(), &[]);
    let (url, admin) = (server.url.clone(), server.admin_token());
    let status_url = trigger(&server, server.client.post(&url)).await;
    let run = ended(&server, &status_url).await;
    let port = server.port();
    server.stop();

    let server = Server::start(folder.path(), &["--listen", &format!("127.0.0.1:{port}")]);
    let webhooks: Value = server.admin("GET", "/webhooks", &admin, None).await.1;
    assert_eq!(webhooks["items"].as_array().unwrap().len(), 1);
    let id = webhooks["items"][0]["id"].as_str().unwrap();
    let copied = server.admin("GET", &format!("/webhooks/{id}/url"), &admin, None).await.1;
    assert_eq!(copied["url"], url.as_str());
    let again = server.client.get(&status_url).bearer_auth(url.split_once("token=").unwrap().1);
    let again: Value = server.send(again).await.json().await.unwrap();
    assert_eq!(again, run);
    assert!(page(&server, &again).await.contains("EMEA"));
    trigger(&server, server.client.post(&url)).await;
    let runs = server.admin("GET", "/runs?workflow=report/daily-sales", &admin, None).await.1;
    assert_eq!(runs["items"].as_array().unwrap().len(), 2);
    server.stop();
}

#[tokio::test]
async fn people_refresh_disable_and_enable_a_webhook_and_the_next_call_knows() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start(folder.path(), &["--store", "memory"]);
    let admin = server.admin_token();
    let webhooks = server.admin("GET", "/webhooks", &admin, None).await.1;
    let webhook = format!("/webhooks/{}", webhooks["items"][0]["id"].as_str().unwrap());
    let old = server.url.clone();

    let refreshed = server.admin("POST", &format!("{webhook}/refresh-token"), &admin, None).await.1;
    let new = refreshed["url"].as_str().unwrap().to_owned();
    assert_eq!(server.send(server.client.post(&old)).await.status(), StatusCode::UNAUTHORIZED);
    assert_eq!(server.send(server.client.post(&new)).await.status(), StatusCode::ACCEPTED);

    server.admin("PATCH", &webhook, &admin, Some(json!({"enabled": false}))).await;
    let refused = server.send(server.client.post(&new)).await;
    assert_eq!(refused.status(), StatusCode::FORBIDDEN);
    let problem: Value = refused.json().await.unwrap();
    assert_eq!(problem["type"], "urn:webhook:problem:webhook-disabled");
    server.admin("PATCH", &webhook, &admin, Some(json!({"enabled": true}))).await;
    assert_eq!(server.send(server.client.post(&new)).await.status(), StatusCode::ACCEPTED);
    let refused = server.admin("GET", "/webhooks", "wrong", None).await;
    assert_eq!(refused.0, StatusCode::UNAUTHORIZED);
    server.stop();
}

#[tokio::test]
async fn the_token_is_in_no_log_no_file_and_no_process_argument() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start(folder.path(), &["--log", "trace"]);
    let (url, admin) = (server.url.clone(), server.admin_token());
    let secret = server.token()[4..47].to_owned();
    let status_url = trigger(&server, server.client.post(format!("{url}&note=a"))).await;
    ended(&server, &status_url).await;
    for bad in ["&date=x", "&%zz", "&token=other", "&rows=1&rows=2"] {
        let answer = server.send(server.client.post(format!("{url}{bad}"))).await;
        assert!(!answer.text().await.unwrap().contains(&secret));
    }
    let runs = server.admin("GET", "/runs", &admin, None).await.1;
    let webhooks = server.admin("GET", "/webhooks", &admin, None).await.1;
    assert!(!format!("{runs}{webhooks}").contains(&secret));
    let arguments = std::fs::read(format!("/proc/{}/cmdline", server.process_id())).unwrap_or_default();
    assert!(!String::from_utf8_lossy(&arguments).contains(&secret));
    let log = server.stop();
    assert!(log.contains("answered"), "the log is there");
    assert!(!log.contains(&secret), "the token is in the log");
    assert!(!log.contains(&admin), "the admin token is in the log");
    let mut files = 0;
    server::each_file(folder.path(), &mut |path, content| {
        files += 1;
        let found = content.windows(secret.len()).any(|window| window == secret.as_bytes());
        assert!(!found, "the token is in {}", path.display());
    });
    assert!(files > 2);
}

#[tokio::test]
async fn a_signal_ends_the_server_cleanly_while_clients_keep_idle_connections() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start(folder.path(), &["--shutdown-timeout", "10"]);
    trigger(&server, server.client.post(&server.url)).await;
    let idle = std::net::TcpStream::connect(("127.0.0.1", server.port())).unwrap();
    let started = std::time::Instant::now();
    server.stop();
    assert!(started.elapsed() < Duration::from_secs(10), "{:?}", started.elapsed());
    drop(idle);
}

#[test]
fn a_second_process_on_the_same_data_gets_one_clear_line_and_exit_code_2() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start(folder.path(), &[]);
    let (code, output) =
        process::fails_to_start(&["--data", folder.path().to_str().unwrap(), "--listen", "127.0.0.1:0"]);
    assert_eq!(code, Some(2));
    assert_eq!(output.trim().lines().count(), 1, "{output}");
    server.stop();
}

#[test]
fn a_bad_flag_workflow_file_or_address_is_one_clear_line_and_exit_code_2() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    let workflows = folder.path().join("workflows");
    std::fs::create_dir(&workflows).unwrap();
    let text = "kind = \"report\"\nid = \"a\"\ntitle = \"A\"\n\n[[parameters]]\nname = \"x\"\ntype = \"colour\"\n\n[noop]\n";
    std::fs::write(workflows.join("broken.toml"), text).unwrap();
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let taken = taken.local_addr().unwrap().to_string();
    let (data, workflows) = (data.to_str().unwrap(), workflows.to_str().unwrap());
    let cases: [(&[&str], &str); 5] = [
        (&["--listen", "nowhere"], "--listen"),
        (&["--store", "cloud"], "--store"),
        (&["--no-such-flag"], "--no-such-flag"),
        (&["--data", data, "--workflows", workflows], "broken.toml:7"),
        (&["--data", data, "--listen", &taken], &taken),
    ];
    for (arguments, expected) in cases {
        let (code, output) = process::fails_to_start(arguments);
        assert_eq!(code, Some(2), "{arguments:?}: {output}");
        assert_eq!(output.trim().lines().count(), 1, "{arguments:?}: {output}");
        assert!(output.contains(expected), "{arguments:?}: {output}");
    }
    assert!(process::server_program().is_file());
}
