//! The examples as a user runs them: started, called over a socket, and stopped.

#![allow(clippy::unwrap_used, reason = "a test fails by a panic")]

mod program;

use std::time::Duration;

use program::Program;
use reqwest::header::{COOKIE, LOCATION, ORIGIN, SET_COOKIE};
use reqwest::redirect::Policy;
use reqwest::{Client, Response, StatusCode};
use serde_json::{Value, json};
use tempfile::tempdir;
use tokio::sync::mpsc;
use warp::Filter;

fn client() -> Client {
    Client::builder().redirect(Policy::none()).timeout(Duration::from_secs(60)).build().unwrap()
}

/// Triggers by POST, waits for the end, and reads the run with the webhook's token.
async fn run(client: &Client, url: &str) -> Value {
    let answer = client.post(url).header("Prefer", "wait=30").send().await.unwrap();
    assert_eq!(answer.status(), StatusCode::OK);
    let ended: Value = answer.json().await.unwrap();
    let status = client.get(ended["status_url"].as_str().unwrap()).bearer_auth(token(url));
    status.send().await.unwrap().json().await.unwrap()
}

fn token(url: &str) -> &str {
    url.split_once("token=").unwrap().1.split('&').next().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn minimal_greets_and_keeps_its_webhook_over_a_restart() {
    let (folder, client) = (tempdir().unwrap(), client());
    let mut program = Program::start("minimal", folder.path(), &[]);
    let url = program.curl_url();
    let ended = run(&client, &url).await;
    assert_eq!((&ended["state"], &ended["summary"]), (&json!("succeeded"), &json!("Hello \"you\"")));
    program.stop();

    let mut again = Program::start("minimal", folder.path(), &[]);
    let found = again.curl_url();
    assert_eq!(token(&found), token(&url));
    assert_eq!(run(&client, &found).await["state"], "succeeded");
    again.stop();
}

const ADMIN: &str = "an-admin-token-for-this-test-only";

#[tokio::test(flavor = "multi_thread")]
async fn own_executor_writes_invoices_and_can_be_cancelled() {
    let (folder, client) = (tempdir().unwrap(), client());
    let mut program = Program::start("own_executor", folder.path(), &[("ADMIN_TOKEN", ADMIN)]);
    let (invoices, sales) = (program.curl_url(), program.curl_url());
    assert_eq!(run(&client, &sales).await["summary"], "printed");

    let secret = "canary-0123456789";
    let ended = run(&client, &format!("{invoices}&months=3&password={secret}&note=thanks")).await;
    assert_eq!((&ended["state"], &ended["summary"]), (&json!("succeeded"), &json!("30 EUR")));
    let address = invoices.split_once("/webhook?").unwrap().0;
    let get = async |url: &str| {
        let answer = client.get(url).bearer_auth(token(&invoices)).send().await.unwrap();
        assert_eq!(answer.status(), StatusCode::OK, "{url}");
        answer.text().await.unwrap()
    };
    let invoice = get(ended["artifacts"][0]["url"].as_str().unwrap()).await;
    assert_eq!(invoice, "Invoice for ACME\nmonth 1: 10 EUR\nmonth 2: 10 EUR\nmonth 3: 10 EUR\nthanks");
    let log = get(&format!("{address}/runs/{}/log", ended["id"].as_str().unwrap())).await;
    assert!(log.contains("month 3") && log.contains("***") && !log.contains(secret), "{log}");

    // Parameters that do not fit are a fatal error that names them.
    let ended = run(&client, &format!("{invoices}&months=-1")).await;
    assert_eq!(ended["state"], "failed");
    assert!(ended["error"]["message"].as_str().unwrap().contains("parameter months"), "{ended}");

    let accepted: Value =
        client.post(format!("{invoices}&months=4000000")).send().await.unwrap().json().await.unwrap();
    let origin = address.split("/api/").next().unwrap();
    let id = accepted["run_id"].as_str().unwrap();
    let cancel = format!("{origin}/admin/api/v1/runs/{id}/cancel");
    let cancelled = client.post(cancel).bearer_auth(ADMIN).send().await.unwrap();
    assert!(cancelled.status().is_success(), "{}", cancelled.status());
    let mut state = json!(null);
    for _ in 0..600 {
        state = serde_json::from_str::<Value>(&get(accepted["status_url"].as_str().unwrap()).await).unwrap()
            ["state"]
            .take();
        if state == "cancelled" {
            break;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert_eq!(state, "cancelled");
    program.stop();
}

#[tokio::test(flavor = "multi_thread")]
async fn own_notifier_posts_to_the_channel_of_its_host() {
    let (told, mut messages) = mpsc::unbounded_channel();
    let path = warp::path!("flow" / "secret").and(warp::post()).and(warp::body::json());
    let teams = path.map(move |message: Value| {
        told.send(message).unwrap();
        StatusCode::ACCEPTED.to_string()
    });
    let listener = tokio::net::TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    let teams_url = format!("http://{}/flow/secret", listener.local_addr().unwrap());
    let serving = tokio::spawn(warp::serve(teams).incoming(listener).run());

    let folder = tempdir().unwrap();
    let mut program = Program::start("own_notifier", folder.path(), &[("TEAMS_URL", &teams_url)]);
    let ended = run(&client(), &program.curl_url()).await;
    let message = messages.recv().await.unwrap();
    assert_eq!(message["text"], "Sales succeeded");
    assert!(message["link"].as_str().unwrap().ends_with(ended["id"].as_str().unwrap()), "{message}");
    program.stop();
    serving.abort();
}

#[tokio::test(flavor = "multi_thread")]
async fn own_sign_in_lets_people_manage_and_no_page_of_another_site() {
    let (folder, client) = (tempdir().unwrap(), client());
    let mut program = Program::start("own_sign_in", folder.path(), &[]);
    let panel = program.line().trim().to_owned();
    let origin = panel.strip_suffix("/panel").unwrap();
    let webhooks = format!("{origin}/admin/api/v1/webhooks");
    let location =
        |answer: &Response| answer.headers().get(LOCATION).map(|to| to.to_str().unwrap().to_owned());

    // Without a session: the form for people, an error for programs, and a 404 for what is not there.
    let answer = client.get(&panel).send().await.unwrap();
    assert_eq!((answer.status(), location(&answer).as_deref()), (StatusCode::SEE_OTHER, Some("/sign-in")));
    assert_eq!(client.get(&webhooks).send().await.unwrap().status(), StatusCode::UNAUTHORIZED);
    assert_eq!(client.get(format!("{origin}/nothing")).send().await.unwrap().status(), StatusCode::NOT_FOUND);

    let sign_in = async |password: &str, site: &str| {
        let form = client.post(format!("{origin}/sign-in")).body(format!("name=ada&password={password}"));
        let form =
            form.header("Content-Type", "application/x-www-form-urlencoded").header("Sec-Fetch-Site", site);
        form.send().await.unwrap()
    };
    assert_eq!(sign_in("wrong", "same-origin").await.status(), StatusCode::FORBIDDEN);
    assert_eq!(sign_in("lovelace", "cross-site").await.status(), StatusCode::FORBIDDEN);
    let signed_in = sign_in("lovelace", "same-origin").await;
    assert_eq!(signed_in.status(), StatusCode::SEE_OTHER);
    let cookie = signed_in.headers()[SET_COOKIE].to_str().unwrap();
    assert!(cookie.contains("HttpOnly") && cookie.contains("SameSite=Lax"), "{cookie}");
    let cookie = cookie.split(';').next().unwrap();

    let page = client.get(&panel).header(COOKIE, cookie).send().await.unwrap();
    assert_eq!(page.status(), StatusCode::OK);
    let create = async |from: &str| {
        let request = client.post(&webhooks).header(COOKIE, cookie).header(ORIGIN, from);
        request.json(&json!({"workflow": {"kind": "report", "id": "sales"}})).send().await.unwrap()
    };
    assert_eq!(create("https://evil.example").await.status(), StatusCode::FORBIDDEN);
    let created = create(origin).await;
    assert_eq!(created.status(), StatusCode::CREATED);
    let created: Value = created.json().await.unwrap();
    // Its caller needs no session.
    assert_eq!(run(&client, created["url"].as_str().unwrap()).await["summary"], "printed");

    let sign_out = client.post(format!("{origin}/sign-out")).header(COOKIE, cookie);
    assert_eq!(sign_out.send().await.unwrap().status(), StatusCode::SEE_OTHER);
    let answer = client.get(&webhooks).header(COOKIE, cookie).send().await.unwrap();
    assert_eq!(answer.status(), StatusCode::UNAUTHORIZED);
    program.stop();
    let log = std::fs::read_to_string(folder.path().join("log")).unwrap();
    let audit: Vec<&str> = log.lines().filter(|line| line.contains("webhook::audit")).collect();
    assert!(audit.len() == 1 && audit[0].contains("user=\"ada\""), "{log}");
}

#[tokio::test(flavor = "multi_thread")]
async fn own_store_keeps_runs_over_a_restart() {
    let (folder, client) = (tempdir().unwrap(), client());
    let mut program = Program::start("own_store", folder.path(), &[]);
    let url = program.curl_url();
    let ended = run(&client, &url).await;
    assert_eq!(ended["summary"], "printed");
    program.stop();

    let mut again = Program::start("own_store", folder.path(), &[]);
    let found = again.curl_url();
    assert_eq!(token(&found), token(&url));
    let address = found.split_once("/webhook?").unwrap().0;
    let kept =
        client.get(format!("{address}/runs/{}", ended["id"].as_str().unwrap())).bearer_auth(token(&found));
    let kept: Value = kept.send().await.unwrap().json().await.unwrap();
    assert_eq!((&kept["id"], &kept["finished_at"]), (&ended["id"], &ended["finished_at"]));
    again.stop();
}
