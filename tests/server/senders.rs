//! Real senders call the example server: each recipe's sample, signed by its sender's own package where there is one, or
//! else by the rule that its documents state.

use std::io::Write;
use std::process::{Command, Stdio};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde_json::{Value, json};
use webhook_core::sender::recipes::{Recipe, SecretOrigin};
use webhook_core::verification::Preset;
use webhook_testing::python;

use crate::server::{Server, each_file};

const SIGN: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/server/senders/sign.py");
const PACKAGES: [&str; 5] = ["slack_sdk", "standardwebhooks", "stripe", "svix", "twilio"];

const KEY: &str = "secret-for-tests";
const OTHER_KEY: &str = "secret-for-others";
const STANDARD_KEY: &str = "whsec_AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=";

/// A call that a sender makes.
struct Sent {
    recipe: &'static Recipe,
    /// Name of the sender in the script that signs.
    sender: &'static str,
    secret: &'static str,
    body: String,
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

/// Returns the sample of each recipe as its sender would send it now.
fn calls() -> Vec<Sent> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis();
    let of = |recipe: &'static Recipe, sender| {
        let secret = match sender {
            "gitlab" | "standard-webhooks" | "svix" => STANDARD_KEY,
            "stripe" => "whsec_test_secret",
            _ => KEY,
        };
        let sample = recipe.sample.body();
        let body = match sender {
            "linear" => sample.replace("1768381964123", &now.to_string()),
            "microsoft-graph" => sample.replace("the secret", KEY),
            _ => sample.to_owned(),
        };
        Sent { recipe, sender, secret, body }
    };
    let mut calls: Vec<Sent> = Recipe::all().map(|recipe| of(recipe, recipe.name)).collect();
    // Two more ways to sign of the same preset.
    for (recipe, sender) in [("standard-webhooks", "svix"), ("gitlab", "gitlab-token")] {
        let recipe = Recipe::all().find(|other| other.name == recipe).unwrap();
        calls.push(of(recipe, sender));
    }
    calls
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

/// Returns a call with the headers of a recipe's sample, and over them those that its sender's signature needs.
fn call(
    server: &Server,
    url: &str,
    recipe: &Recipe,
    signed: &[(String, String)],
    body: &str,
) -> reqwest::RequestBuilder {
    let is_signed = |name: &str| signed.iter().any(|(other, _)| other.eq_ignore_ascii_case(name));
    let of_sample = recipe.sample.headers.iter().copied().filter(|(name, _)| !is_signed(name));
    let signed = signed.iter().map(|(name, value)| (name.as_str(), value.as_str()));
    let request = server.client.post(url).body(body.to_owned());
    of_sample.chain(signed).fold(request, |request, (name, value)| request.header(name, value))
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
async fn each_recipe_takes_a_call_of_its_sender_and_refuses_one_with_a_changed_byte() {
    let Some(python) = python("calls of real senders", &PACKAGES) else { return };
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start(folder.path(), &[]);
    let calls = calls();
    let mut webhooks = Vec::new();
    for sent in &calls {
        let is_secret = sent.recipe.secret != SecretOrigin::None;
        webhooks.push(webhook(&server, sent.recipe.settings(), is_secret.then_some(sent.secret)).await);
    }
    let to_sign: Vec<_> = calls
        .iter()
        .zip(&webhooks)
        .map(|(sent, (_, url))| (sent.sender, sent.secret, url.as_str(), sent.body.as_str(), "msg_1"))
        .collect();
    let headers = signed(&python, &to_sign);
    for ((sent, (id, url)), headers) in calls.iter().zip(&webhooks).zip(&headers) {
        let (sender, recipe) = (sent.sender, sent.recipe);
        // The region of another continent, by one byte; where the body is not signed, another secret.
        let (mut other, mut changed) = (headers.clone(), sent.body.clone());
        match sender {
            "microsoft-graph" => changed = changed.replace(KEY, OTHER_KEY),
            "gitlab-token" => OTHER_KEY.clone_into(&mut other[0].1),
            _ => changed = changed.replace("APAC", "AQAC"),
        }
        assert_ne!((&other, &changed), (headers, &sent.body), "{sender}");
        if recipe.secret != SecretOrigin::None {
            let refused = server.send(call(&server, url, recipe, &other, &changed)).await;
            assert_eq!(refused.status(), 401, "{sender}");
            let problem: Value = refused.json().await.unwrap();
            assert_eq!(problem["type"], "urn:webhook:problem:signature-invalid", "{sender}");
            assert_eq!(runs(&server, id).await.1, 0, "{sender}");
        }
        let answer = server.send(call(&server, url, recipe, headers, &sent.body)).await;
        let expected = recipe.preset().and_then(Preset::status).unwrap_or(202);
        assert_eq!(answer.status(), expected, "{sender}: {}", answer.text().await.unwrap());
        let (run, number) = runs(&server, id).await;
        for (name, value) in recipe.parameters {
            let source = if sender == "microsoft-graph" { "fixed" } else { "mapping" };
            assert_eq!(run["parameters"][name], json!({"value": value, "source": source}), "{sender}");
        }
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
    let recipe = calls()[0].recipe;
    let ping = server.send(call(&server, &url, recipe, &headers[1], ping)).await;
    assert_eq!(ping.status(), 200);
    let ignored = server.send(call(&server, &url, recipe, &headers[2], &branch)).await;
    assert_eq!(ignored.status(), 200);
    assert_eq!(ignored.json::<Value>().await.unwrap()["condition"]["pointer"], "/ref");
    assert_eq!(runs(&server, &id).await.1, 0);

    let first = server.send(call(&server, &url, recipe, &headers[0], push)).await;
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

    let again = server.send(call(&server, &url, recipe, &headers[0], push)).await;
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

#[tokio::test]
async fn the_call_log_holds_no_secret_and_a_kept_call_is_sealed_and_survives_a_restart() {
    const CANARY: &str = "canary-2f7d41";
    let Some(python) = python("calls of GitHub", &PACKAGES) else { return };
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start(folder.path(), &["--log", "trace"]);
    let settings = json!({
        "verification": {"preset": "github"}, "pass_through": "none", "keep_bodies_s": 3_600,
        "mapping": [{"parameter": "region", "from": "body", "pointer": "/regoin"}],
    });
    let (id, url) = webhook(&server, settings, Some(KEY)).await;
    let body = format!(r#"{{"region":"APAC","note":"{CANARY}"}}"#);
    let headers = signed(&python, &[("github", KEY, url.as_str(), body.as_str(), "1")]).remove(0);
    let recipe = calls()[0].recipe;
    let accepted = call(&server, &url, recipe, &headers, &body).header("Cookie", CANARY);
    assert_eq!(server.send(accepted).await.status(), 202);
    let refused = call(&server, &url, recipe, &headers, &body.replace("APAC", "AMER"));
    assert_eq!(server.send(refused.header("X-Api-Key", CANARY)).await.status(), 401);
    let guess = url.replace("token=whk_", "token=whk_x");
    assert_eq!(server.send(call(&server, &guess, recipe, &headers, &body)).await.status(), 401);
    let token = url.split_once("token=").unwrap().1[4..47].to_owned();
    let log = server.stop();
    assert!(log.contains("webhook::calls"), "calls are traced");
    let mut contents = 0;
    let secrets = [CANARY, KEY, &token];
    each_file(folder.path(), &mut |path, content| {
        contents += usize::from(path.parent().is_some_and(|parent| parent.ends_with("call-contents")));
        for secret in secrets {
            let found = content.windows(secret.len()).any(|window| window == secret.as_bytes());
            assert!(!found, "{secret} is in {}", path.display());
        }
    });
    assert_eq!(contents, 1, "the accepted call alone is kept");
    for secret in secrets {
        assert!(!log.contains(secret), "{secret} is in the log");
    }

    let server = Server::start(folder.path(), &[]);
    let admin = server.admin_token();
    let (_, listed) = server.admin("GET", &format!("/webhooks/{id}/calls"), &admin, None).await;
    let outcomes: Vec<_> = listed["items"].as_array().unwrap().iter().map(|call| &call["outcome"]).collect();
    assert_eq!(outcomes, ["refused", "accepted"]);
    let corrected = json!({"mapping": [{"parameter": "region", "from": "body", "pointer": "/region"}]});
    server.admin("PATCH", &format!("/webhooks/{id}"), &admin, Some(corrected)).await;
    let path = format!("/webhooks/{id}/calls/{}/replay", listed["items"][1]["id"].as_str().unwrap());
    let (status, replayed) = server.admin("POST", &path, &admin, None).await;
    assert_eq!(status, 202, "{replayed}");
    let (run, number) = runs(&server, &id).await;
    assert_eq!((&run["id"], number), (&replayed["run_id"], 2));
    assert_eq!(run["parameters"]["region"], json!({"value": "APAC", "source": "mapping"}));
    server.stop();
}
