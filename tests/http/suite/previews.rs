//! Tests of previews: the way of a sample through the settings of a webhook.

use reqwest::Method;
use serde_json::{Value, json};

use super::verified::{PUSH, github, hook, mac, pushes};
use crate::support::{Hook, World, content};

#[tokio::test]
async fn a_preview_shows_the_way_of_a_sample_and_starts_nothing() {
    let world = World::start_idle().await;
    let hook = hook(&world, pushes()).await;
    let preview = async |sample: Value, status| {
        let request = world.admin(Method::POST, &format!("/webhooks/{}/preview", hook.id));
        content(request.json(&sample).send().await.unwrap(), status).await
    };
    let headers = json!({"X-GitHub-Event": "push", "X-Hub-Signature-256": format!("sha256={}", mac(PUSH))});
    let good = preview(json!({"method": "POST", "headers": headers, "body": PUSH}), 200).await;
    let expected = json!({
        "verification": {"ok": true, "detail": null}, "handshake": false, "conditions": {"met": true, "failed": null},
        "parameters": {"count": {"value": 7, "source": "fixed"}, "region": {"value": "APAC", "source": "mapping"}},
        "problems": [], "warnings": [],
    });
    assert_eq!(good, expected);
    let bad = preview(json!({"body": {"repository": {"name": "sales"}}}), 200).await;
    assert_eq!((&bad["verification"]["ok"], &bad["conditions"]["met"]), (&json!(false), &json!(false)));
    let fields: Vec<_> =
        bad["problems"].as_array().unwrap().iter().map(|problem| &problem["field"]).collect();
    assert_eq!(fields, ["conditions.all[0].name", "mapping[0].pointer"]);
    assert_eq!(preview(json!({"headers": {"X-GitHub-Event": "ping"}}), 200).await["handshake"], true);
    let broken = preview(json!({"headers": headers, "body": "{"}), 200).await;
    assert_eq!(broken["problems"].as_array().unwrap().last().unwrap()["code"], "malformed_body");
    preview(json!({"method": "TRACE"}), 422).await;
    assert_eq!(world.runs().await, 0);
    // Nothing was used up.
    content(github(&world, &hook.url, "push", PUSH).send().await.unwrap(), 202).await;
}

#[tokio::test]
async fn a_preview_refuses_what_a_call_would_be_refused_for() {
    let world = World::start_idle().await;
    let hook = world.hook(json!({"allow_get": false})).await;
    let headers = json!({"Content-Type": "application/json", "User-Agent": "curl/8"});
    let with = |name: &str, value: &str| {
        let mut headers = headers.clone();
        headers[name] = json!(value);
        json!({"headers": headers, "body": "{}"})
    };
    for (sample, status, slug) in [
        (json!({"method": "GET"}), 403, "get-not-allowed"),
        (json!({"method": "HEAD"}), 405, "method-not-allowed"),
        (json!({"method": "OPTIONS"}), 405, "method-not-allowed"),
        (with("Content-Type", "text/xml"), 415, "unsupported-media-type"),
        (with("Content-Encoding", "gzip"), 415, "unsupported-media-type"),
        (with("Idempotency-Key", ""), 400, "idempotency-key-invalid"),
        (json!({"headers": headers, "body": "["}), 400, "malformed-body"),
    ] {
        let request = world.admin(Method::POST, &format!("/webhooks/{}/preview", hook.id));
        let shown = content(request.json(&sample).send().await.unwrap(), 200).await;
        assert_eq!(shown["problems"].as_array().unwrap().len(), 1, "{shown}");
        assert_eq!(shown["problems"][0]["code"], slug.replace('-', "_"), "{sample}");
        let method: Method = sample["method"].as_str().unwrap_or("POST").parse().unwrap();
        let mut call = world.client.request(method, &hook.url);
        for (name, value) in sample["headers"].as_object().into_iter().flatten() {
            call = call.header(name, value.as_str().unwrap());
        }
        if let Some(body) = sample["body"].as_str() {
            call = call.body(body.to_owned());
        }
        assert_eq!(call.send().await.unwrap().status(), status, "{sample}");
    }
    assert_eq!(world.runs().await, 0);
}

#[tokio::test]
async fn a_preview_of_a_handshake_ends_with_it() {
    let world = World::start_idle().await;
    let preview = async |hook: &Hook, sample: Value| {
        let request = world.admin(Method::POST, &format!("/webhooks/{}/preview", hook.id));
        content(request.json(&sample).send().await.unwrap(), 200).await
    };
    let ended = |verification: Value| {
        json!({
            "verification": verification, "handshake": true, "conditions": {"met": true, "failed": null},
            "parameters": {}, "problems": [], "warnings": [],
        })
    };
    let pushes = hook(&world, pushes()).await;
    let body = r#"{"zen":"Design for failure."}"#;
    let headers = json!({"X-GitHub-Event": "ping", "X-Hub-Signature-256": format!("sha256={}", mac(body))});
    let ping = preview(&pushes, json!({"headers": headers, "body": body})).await;
    assert_eq!(ping, ended(json!({"ok": true, "detail": null})));
    let unsigned = preview(&pushes, json!({"headers": {"X-GitHub-Event": "ping"}, "body": body})).await;
    assert_eq!(unsigned["verification"]["ok"], false);
    let graph = hook(&world, json!({"verification": {"preset": "microsoft-graph"}})).await;
    let token = preview(&graph, json!({"query": "validationToken=Validation"})).await;
    assert_eq!(token, ended(Value::Null), "the sender does not sign it");
    let meta = world.hook(json!({"verification": {"preset": "meta"}})).await;
    let setting = json!({"verification": {"preset": "meta", "verify_token": "my-verify-token"}});
    let request = world.admin(Method::PATCH, &format!("/webhooks/{}", meta.id)).json(&setting);
    content(request.send().await.unwrap(), 200).await;
    let query = "hub.mode=subscribe&hub.challenge=1158201444&hub.verify_token=";
    for (token, is_right) in [("my-verify-token", true), ("other", false)] {
        let shown = preview(&meta, json!({"method": "GET", "query": format!("{query}{token}")})).await;
        assert_eq!(shown["handshake"], true);
        assert_eq!(shown["verification"].is_null(), is_right, "{shown}");
        let answer = world.get(&meta.with(&format!("{query}{token}"))).send().await.unwrap();
        assert_eq!(answer.status() == 200, is_right);
    }
}
