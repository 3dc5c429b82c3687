//! Real senders call the example server: each preset by its sender's own package where there is one, or else by the rule
//! that its documents state.

use std::io::Write;
use std::process::{Command, Stdio};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde_json::{Value, json};
use webhook_testing::python;

use crate::server::Server;

const SIGN: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/server/senders/sign.py");
const PACKAGES: [&str; 5] = ["slack_sdk", "standardwebhooks", "stripe", "svix", "twilio"];

const KEY: &str = "secret-for-tests";
const OTHER_KEY: &str = "secret-for-others";
const STANDARD_KEY: &str = "whsec_AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=";

const JSON: &str = "application/json";
const FORM: &str = "application/x-www-form-urlencoded";

/// A call that a sender makes.
struct Sent {
    sender: &'static str,
    secret: &'static str,
    content_type: &'static str,
    body: String,
    /// Place of the region in the body.
    pointer: &'static str,
    /// Status that the sender takes for success.
    status: u16,
}

/// Returns the headers by which the sender of each call signs it: the sender, its secret, the URL, the body and an id.
fn signed(python: &std::path::Path, calls: &[(&str, &str, &str, &str, &str)]) -> Vec<Vec<(String, String)>> {
    let calls: Vec<Value> = calls
        .iter()
        .map(|(sender, secret, url, body, id)| {
            json!({"sender": sender, "secret": secret, "url": url, "body": body, "id": id})
        })
        .collect();
    let mut signing =
        Command::new(python).arg(SIGN).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    signing.stdin.take().unwrap().write_all(json!(calls).to_string().as_bytes()).unwrap();
    let output = signing.wait_with_output().unwrap();
    assert!(output.status.success(), "the script that signs fails");
    let headers: Vec<serde_json::Map<String, Value>> = serde_json::from_slice(&output.stdout).unwrap();
    let text = |value: Value| value.as_str().unwrap().to_owned();
    headers
        .into_iter()
        .map(|one| one.into_iter().map(|(name, value)| (name, text(value))).collect())
        .collect()
}

/// Returns a call of each preset, with the region in its body.
fn calls() -> Vec<Sent> {
    let plain = r#"{"id":"evt_1","type":"demo","name":"Jürgen","region":"APAC"}"#;
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis();
    let json = |sender, secret, status| Sent {
        sender,
        secret,
        content_type: JSON,
        body: plain.to_owned(),
        pointer: "/region",
        status,
    };
    let stripe = r#"{"id":"evt_1","object":"event","type":"invoice.paid","data":{"region":"APAC"}}"#;
    let linear = format!(r#"{{"action":"create","type":"Issue","webhookTimestamp":{now},"region":"APAC"}}"#);
    let trello = r#"{"action":{"id":"5f4d","type":"updateCard"},"model":{"region":"APAC"}}"#;
    let meta = r#"{"object":"page","entry":[{"text":"\u00e4\u00f6","region":"APAC"}]}"#;
    let graph = format!(r#"{{"value":[{{"changeType":"updated","clientState":"{KEY}","region":"APAC"}}]}}"#);
    let event =
        r#"{"specversion":"1.0","id":"9aeb","source":"/sales","type":"made","data":{"region":"APAC"}}"#;
    let sentry = r#"{"action":"triggered","data":{"event":{"event_id":"fe60"},"region":"APAC"}}"#;
    vec![
        json("github", KEY, 202),
        json("gitlab", STANDARD_KEY, 202),
        Sent { body: stripe.to_owned(), pointer: "/data/region", ..json("stripe", "whsec_test_secret", 202) },
        json("slack", KEY, 200),
        json("shopify", KEY, 200),
        Sent {
            content_type: FORM,
            body: "CallSid=CA1&To=%2B18005551212&Region=APAC&Empty=".to_owned(),
            pointer: "/Region",
            ..json("twilio", KEY, 204)
        },
        Sent { body: linear, ..json("linear", KEY, 200) },
        Sent { body: sentry.to_owned(), pointer: "/data/region", ..json("sentry", KEY, 202) },
        Sent { body: trello.to_owned(), pointer: "/model/region", ..json("trello", KEY, 200) },
        Sent { body: meta.to_owned(), pointer: "/entry/0/region", ..json("meta", KEY, 200) },
        Sent { body: graph, pointer: "/value/0/region", ..json("microsoft-graph", KEY, 202) },
        Sent {
            content_type: "application/cloudevents+json",
            body: event.to_owned(),
            pointer: "/data/region",
            ..json("cloudevents", KEY, 202)
        },
        json("standard-webhooks", STANDARD_KEY, 202),
        json("svix", STANDARD_KEY, 202),
    ]
}

/// Creates a webhook of the demo report for a sender, and returns its id and its URL.
async fn webhook(server: &Server, settings: Value, secret: Option<&str>) -> (String, String) {
    let admin = server.admin_token();
    let mut body = json!({"workflow": {"kind": "report", "id": "daily-sales"}});
    body.as_object_mut().unwrap().extend(settings.as_object().unwrap().clone());
    let (status, created) = server.admin("POST", "/webhooks", &admin, Some(body)).await;
    assert_eq!(status, 201, "{created}");
    let id = created["webhook"]["id"].as_str().unwrap().to_owned();
    if let Some(secret) = secret {
        let path = format!("/webhooks/{id}/secrets");
        let (status, added) = server.admin("POST", &path, &admin, Some(json!({"secret": secret}))).await;
        assert_eq!(status, 201, "{added}");
    }
    (id, created["url"].as_str().unwrap().to_owned())
}

fn call(
    server: &Server,
    url: &str,
    sent: &Sent,
    headers: &[(String, String)],
    body: &str,
) -> reqwest::RequestBuilder {
    let request = server.client.post(url).header("Content-Type", sent.content_type).body(body.to_owned());
    headers.iter().fold(request, |request, (name, value)| request.header(name, value))
}

/// Returns the newest run of a webhook, and the number of its runs.
async fn runs(server: &Server, webhook: &str) -> (Value, usize) {
    let path = format!("/runs?webhook={webhook}");
    let (status, listed) = server.admin("GET", &path, &server.admin_token(), None).await;
    assert_eq!(status, 200, "{listed}");
    let items = listed["items"].as_array().unwrap();
    (items.first().cloned().unwrap_or_default(), items.len())
}

#[tokio::test]
async fn each_preset_takes_a_call_of_its_sender_and_refuses_one_with_a_changed_byte() {
    let Some(python) = python("calls of real senders", &PACKAGES) else { return };
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start(folder.path(), &[]);
    let calls = calls();
    let mut webhooks = Vec::new();
    for sent in &calls {
        let preset = if sent.sender == "svix" { "standard-webhooks" } else { sent.sender };
        let mapping = json!([{"parameter": "region", "from": "body", "pointer": sent.pointer}]);
        let settings =
            json!({"verification": {"preset": preset}, "mapping": mapping, "pass_through": "none"});
        webhooks.push(webhook(&server, settings, Some(sent.secret)).await);
    }
    let to_sign: Vec<_> = calls
        .iter()
        .zip(&webhooks)
        .map(|(sent, (_, url))| (sent.sender, sent.secret, url.as_str(), sent.body.as_str(), "msg_1"))
        .collect();
    let headers = signed(&python, &to_sign);
    for ((sent, (id, url)), headers) in calls.iter().zip(&webhooks).zip(&headers) {
        let sender = sent.sender;
        // The region of another continent, by one byte; where the body is not signed, another secret.
        let (body, other) = match sender {
            "microsoft-graph" => (sent.body.replace(KEY, OTHER_KEY), true),
            "cloudevents" => (sent.body.clone(), false),
            _ => (sent.body.replace("APAC", "AQAC"), true),
        };
        if other {
            assert_ne!(body, sent.body);
            let refused = server.send(call(&server, url, sent, headers, &body)).await;
            assert_eq!(refused.status(), 401, "{sender}");
            let problem: Value = refused.json().await.unwrap();
            assert_eq!(problem["type"], "urn:webhook:problem:signature-invalid", "{sender}");
            assert_eq!(runs(&server, id).await.1, 0, "{sender}");
        }
        let answer = server.send(call(&server, url, sent, headers, &sent.body)).await;
        assert_eq!(answer.status(), sent.status, "{sender}: {}", answer.text().await.unwrap());
        let (run, number) = runs(&server, id).await;
        assert_eq!(run["parameters"]["region"], json!({"value": "APAC", "source": "mapping"}), "{sender}");
        assert_eq!(number, 1, "{sender}");
    }
    server.stop();
}

#[tokio::test]
async fn a_push_at_github_starts_daily_sales_once_with_the_region_of_its_payload() {
    let Some(python) = python("calls of GitHub", &PACKAGES) else { return };
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start(folder.path(), &[]);
    let settings = json!({
        "label": "GitHub", "verification": {"preset": "github"},
        "conditions": {"all": [
            {"from": "header", "name": "X-GitHub-Event", "op": "equals", "value": "push"},
            {"from": "body", "pointer": "/ref", "op": "equals", "value": "refs/heads/main"},
        ]},
        "mapping": [{"parameter": "region", "from": "body", "pointer": "/repository/custom_properties/region"}],
        "pass_through": "declared",
    });
    let (id, url) = webhook(&server, settings, Some(KEY)).await;
    let push = r#"{"ref":"refs/heads/main","date":"2026-01-10","repository":{"id":9007199254740993,"name":"sales-data",
        "custom_properties":{"region":"APAC"}},"commits":[{"message":"Add Januar’s numbers ✅"}]}"#;
    let ping = r#"{"zen":"Keep it logically awesome.","hook_id":4711}"#;
    let branch = push.replace("heads/main", "heads/try");
    let to_sign = [
        ("github", KEY, url.as_str(), push, "72d3162e-cc78-11e3-81ab-4c9367dc0958"),
        ("github", KEY, url.as_str(), ping, "72d3162e-cc78-11e3-81ab-4c9367dc0959"),
        ("github", KEY, url.as_str(), branch.as_str(), "72d3162e-cc78-11e3-81ab-4c9367dc0960"),
    ];
    let mut headers = signed(&python, &to_sign);
    for (name, value) in &mut headers[1] {
        if name == "X-GitHub-Event" {
            "ping".clone_into(value);
        }
    }
    let sent = &calls()[0];
    let ping = server.send(call(&server, &url, sent, &headers[1], ping)).await;
    assert_eq!(ping.status(), 200);
    let ignored = server.send(call(&server, &url, sent, &headers[2], &branch)).await;
    assert_eq!(ignored.status(), 200);
    assert_eq!(ignored.json::<Value>().await.unwrap()["condition"]["pointer"], "/ref");
    assert_eq!(runs(&server, &id).await.1, 0);

    let first = server.send(call(&server, &url, sent, &headers[0], push)).await;
    assert_eq!(first.status(), 202);
    let first: Value = first.json().await.unwrap();
    let ended = async {
        loop {
            let (run, number) = runs(&server, &id).await;
            assert_eq!(number, 1);
            if !matches!(run["state"].as_str(), Some("queued" | "running")) {
                return run;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    let run = tokio::time::timeout(Duration::from_secs(30), ended).await.expect("the run ends");
    assert_eq!((&run["state"], &run["id"]), (&json!("succeeded"), &first["run_id"]), "{run}");
    let expected = json!({
        "date": {"value": "2026-01-10", "source": "body"}, "region": {"value": "APAC", "source": "mapping"},
    });
    assert_eq!(run["parameters"], expected);

    let again = server.send(call(&server, &url, sent, &headers[0], push)).await;
    assert_eq!(again.headers()["idempotency-replayed"], "true");
    assert_eq!(again.json::<Value>().await.unwrap()["run_id"], first["run_id"]);
    assert_eq!(runs(&server, &id).await.1, 1);
    let log = server.stop();
    assert!(!log.contains(KEY), "the log holds a secret");
}

#[tokio::test]
async fn behind_a_trusted_proxy_the_address_of_the_client_counts() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start(folder.path(), &["--trusted-proxy", "127.0.0.0/8"]);
    let (id, url) = webhook(&server, json!({"allowed_networks": ["192.0.2.0/24"]}), None).await;
    let call = |address: &str| server.client.post(&url).header("X-Forwarded-For", address);
    let outside = server.send(call("192.0.2.7, 198.51.100.1")).await;
    assert_eq!(outside.status(), 403);
    assert_eq!(outside.json::<Value>().await.unwrap()["type"], "urn:webhook:problem:address-not-allowed");
    assert_eq!(server.send(call("198.51.100.1, 192.0.2.7")).await.status(), 202);
    assert_eq!(runs(&server, &id).await.0["caller"]["address"], "192.0.2.7");
    server.stop();
}
