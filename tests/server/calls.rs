//! Calls of the bundled workflows over a real socket.

use std::time::Duration;

use reqwest::StatusCode;
use serde_json::{Value, json};

use crate::server::{Server, each_file};

/// Triggers a run and returns its status URL.
async fn trigger(server: &Server, request: reqwest::RequestBuilder) -> String {
    let answer = server.send(request).await;
    assert_eq!(answer.status(), StatusCode::ACCEPTED);
    let accepted: Value = answer.json().await.unwrap();
    assert!(!accepted.to_string().contains("token"));
    accepted["status_url"].as_str().unwrap().to_owned()
}

/// Polls the status of a run of the demo webhook until it has ended.
async fn ended(server: &Server, status_url: &str) -> Value {
    ended_for(server, status_url, server.token()).await
}

/// Polls a run's status until it has ended.
async fn ended_for(server: &Server, status_url: &str, token: &str) -> Value {
    let asked = async {
        loop {
            let answer = server.send(server.client.get(status_url).bearer_auth(token)).await;
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
    let url = server.url().to_owned();
    let by_query = format!("{url}&date=2026-01-10&region=APAC");
    let panel = format!("http://127.0.0.1:{}/panel", server.port());
    assert!(
        server.panel() == panel && server.send(server.client.get(&panel)).await.status() == StatusCode::OK
    );
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
        assert_eq!(run["progress"]["fraction"], 1.0, "{run}");
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
    let (url, admin) = (server.url().to_owned(), server.admin_token());
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
    let old = server.url().to_owned();

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
async fn the_token_is_in_no_log_and_no_file() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start(folder.path(), &["--log", "trace"]);
    let (url, admin) = (server.url().to_owned(), server.admin_token());
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
    let log = server.stop();
    assert!(log.contains("answered"), "the log is there");
    assert!(!log.contains(&secret), "the token is in the log");
    assert!(!log.contains(&admin), "the admin token is in the log");
    let mut files = 0;
    each_file(folder.path(), &mut |path, content| {
        files += 1;
        let found = content.windows(secret.len()).any(|window| window == secret.as_bytes());
        assert!(!found, "the token is in {}", path.display());
    });
    assert!(files > 2);
}

#[tokio::test]
async fn a_command_sees_the_token_nowhere_and_a_secret_parameter_on_standard_input_only() {
    const CANARY: &str = "canary-5f1c2a";
    let folder = tempfile::tempdir().unwrap();
    let (data, workflows) = (folder.path().join("data"), folder.path().join("workflows"));
    std::fs::create_dir(&workflows).unwrap();
    let text = r#"
        kind = "report"
        id = "look"
        title = "Look"
        [[parameters]]
        name = "region"
        type = "text"
        [[parameters]]
        name = "password"
        type = "text"
        secret = true
        [command]
        program = "sh"
        args = ["-c", "cat /proc/$$/cmdline > arguments; cat /proc/$$/environ > variables; cat > input", "first"]
    "#;
    std::fs::write(workflows.join("look.toml"), text).unwrap();
    let server = Server::start(&data, &["--log", "trace", "--workflows", workflows.to_str().unwrap()]);
    let admin = server.admin_token();
    let url = server.webhook_of("report", "look").await;
    let token = url.split_once("token=").unwrap().1;
    let body = json!({"region": "EMEA", "password": CANARY});
    let status_url = trigger(&server, server.client.post(&url).json(&body)).await;
    let run = ended_for(&server, &status_url, token).await;
    assert_eq!(run["state"], "succeeded", "{run}");

    let seen = |name: &str| String::from_utf8(std::fs::read(workflows.join(name)).unwrap()).unwrap();
    let (arguments, variables, input) = (seen("arguments"), seen("variables"), seen("input"));
    assert!(arguments.ends_with("\0first\0"), "{arguments:?}");
    assert!(
        variables.contains("PARAM_REGION=EMEA\0") && variables.contains("WEBHOOK_RUN_ID="),
        "{variables:?}"
    );
    assert!(input.contains(CANARY), "a command is given its secret parameters: {input}");
    assert!(!format!("{arguments}{variables}").contains(CANARY), "{arguments:?}{variables:?}");
    for secret in [&token[4..47], &admin[4..]] {
        assert!(!format!("{arguments}{variables}{input}").contains(secret), "a command sees a token");
    }
    let log = server.stop();
    assert!(log.contains("answered") && !log.contains(CANARY), "the secret parameter is in the log");
    each_file(&data, &mut |path, content| {
        let found = content.windows(CANARY.len()).any(|window| window == CANARY.as_bytes());
        assert!(!found, "the secret parameter is in {}", path.display());
    });
}

#[tokio::test]
async fn a_signal_ends_the_server_cleanly_while_clients_keep_idle_connections() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start(folder.path(), &["--shutdown-timeout", "10"]);
    trigger(&server, server.client.post(server.url())).await;
    let idle = std::net::TcpStream::connect(("127.0.0.1", server.port())).unwrap();
    let started = std::time::Instant::now();
    server.stop();
    assert!(started.elapsed() < Duration::from_secs(10), "{:?}", started.elapsed());
    drop(idle);
}
