//! Tests of replays: a call that was logged runs again, or says why it cannot.

use std::time::{Duration, SystemTime};

use hmac::{Hmac, KeyInit, Mac};
use reqwest::Method;
use reqwest::header::CONTENT_TYPE;
use serde_json::{Value, json};
use sha2::Sha256;
use webhook_testing::TestClock;

use super::calls::{SECRET, calls};
use crate::front::server::ServerOptions;
use crate::support::{Hook, NOBODY, World, content, problem};

/// Replays a call, and returns the answer.
async fn replay(world: &World, hook: &Hook, call: &Value) -> reqwest::Response {
    let path = format!("/webhooks/{}/calls/{}/replay", hook.id, call["id"].as_str().unwrap());
    world.admin(Method::POST, &path).send().await.unwrap()
}

#[tokio::test]
async fn an_accepted_call_is_run_again_with_the_present_mapping() {
    let world = World::start_idle().await;
    let settings = json!({
        "verification": {"preset": "github"}, "keep_bodies_s": 3_600, "pass_through": "none",
        "mapping": [{"parameter": "region", "from": "body", "pointer": "/regoin", "default": "EMEA"}],
    });
    let hook = world.hook(settings).await;
    let secret = world.admin(Method::POST, &format!("/webhooks/{}/secrets", hook.id));
    content(secret.json(&json!({"secret": SECRET})).send().await.unwrap(), 201).await;
    let body = format!(r#"{{"region":"APAC","note":"{}"}}"#, "x".repeat(100_000));
    let mut code = Hmac::<Sha256>::new_from_slice(SECRET.as_bytes()).unwrap();
    code.update(body.as_bytes());
    let mac: String = code.finalize().into_bytes().iter().map(|byte| format!("{byte:02x}")).collect();
    let call = world.post(&hook.with("source=a+b")).header("X-GitHub-Delivery", "1").header("X-Count", "7");
    let call = call.header("X-Hub-Signature-256", format!("sha256={mac}"));
    let call = call.header(CONTENT_TYPE, "application/json").body(body);
    let first = content(call.send().await.unwrap(), 202).await;
    assert!(world.run(&first).await.parameters().as_json().contains("EMEA"));
    let logged = calls(&world, &hook).await.remove(0);
    assert!(logged["replayable_until"].as_str().unwrap() > logged["at"].as_str().unwrap(), "{logged}");

    // The signature is not checked again, nor is a condition.
    let corrected = json!({
        "mapping": [
            {"parameter": "region", "from": "body", "pointer": "/region"},
            {"parameter": "count", "from": "header", "name": "x-count"},
            {"parameter": "source", "from": "query", "name": "source"},
            {"parameter": "method", "from": "method"},
        ],
        "conditions": {"all": [{"from": "header", "name": "X-GitHub-Event", "op": "exists", "value": true}]},
        "enabled": false,
    });
    world.webhooks.manage().update_webhook(hook.id, &corrected, None).await.unwrap();
    for number in 2..4 {
        let again = replay(&world, &hook, &logged).await;
        assert!(again.headers().contains_key("location"));
        let again = content(again, 202).await;
        assert_ne!(again["run_id"], first["run_id"]);
        let run = world.managed_run(&again).await;
        let expected = json!({
            "region": {"value": "APAC", "source": "mapping"}, "count": {"value": 7, "source": "mapping"},
            "source": {"value": "a b", "source": "mapping"}, "method": {"value": "POST", "source": "mapping"},
        });
        assert_eq!(run["parameters"], expected);
        assert_eq!(run["caller"]["token_hint"], Value::Null, "a person started it");
        assert_eq!(world.runs().await, number);
    }
    assert_eq!(calls(&world, &hook).await.len(), 1, "a replay is no call");
    let too_strict = json!({"strict": true, "mapping": [{"parameter": "region", "from": "raw_body"}]});
    world.webhooks.manage().update_webhook(hook.id, &too_strict, None).await.unwrap();
    problem(replay(&world, &hook, &logged).await, 422, "parameters-invalid").await;
}

#[tokio::test]
async fn calls_without_settings_for_a_sender_are_run_again_too() {
    let world = World::start_idle().await;
    let hook = world.hook(json!({"keep_bodies_s": 60})).await;
    content(world.post(&hook.with("count=5")).json(&json!({"region": "APAC"})).send().await.unwrap(), 202)
        .await;
    content(world.get(&hook.with("region=APAC")).send().await.unwrap(), 202).await;
    let form = world.post(&hook.url).header(CONTENT_TYPE, "application/x-www-form-urlencoded");
    content(form.body("region=APAC&password=canary").send().await.unwrap(), 202).await;
    world.webhooks.manage().update_webhook(hook.id, &json!({"fixed": {"count": 9}}), None).await.unwrap();
    for call in calls(&world, &hook).await {
        let run = world.run(&content(replay(&world, &hook, &call).await, 202).await).await;
        let shown = run.parameters().as_json().to_owned();
        assert!(shown.contains("APAC") && !shown.contains("canary"), "{shown}");
    }
}

#[tokio::test]
async fn a_call_that_cannot_be_run_again_says_why() {
    let clock = TestClock::starting_at(SystemTime::now());
    let builder = |builder: webhook_core::WebhooksBuilder| builder.clock(clock.clone());
    let world = World::start_with(builder, ServerOptions::default(), false).await;
    let hook = world.hook(json!({})).await;
    content(world.post(&hook.url).send().await.unwrap(), 202).await;
    world.webhooks.manage().update_webhook(hook.id, &json!({"keep_bodies_s": 60}), None).await.unwrap();
    problem(world.get(&hook.with("count=x")).send().await.unwrap(), 422, "parameters-invalid").await;
    content(world.post(&hook.url).header("Webhook-Dry-Run", "true").send().await.unwrap(), 200).await;
    for _ in 0..2 {
        content(world.post(&hook.url).header("Idempotency-Key", "k").send().await.unwrap(), 202).await;
    }
    let logged = calls(&world, &hook).await;
    let detail = async |call: &Value| {
        problem(replay(&world, &hook, call).await, 409, "call-not-replayable").await["detail"].to_string()
    };
    let [repeated, kept, dry, refused, before] = &logged[..] else { panic!("{logged:?}") };
    for call in [repeated, dry, refused] {
        assert_eq!(call["replayable_until"], Value::Null, "{call}");
        assert!(detail(call).await.contains("started no run"), "{call}");
    }
    assert!(detail(before).await.contains("keep_bodies_s"));
    content(replay(&world, &hook, kept).await, 202).await;
    clock.set(SystemTime::now() + Duration::from_secs(61));
    assert!(detail(kept).await.contains("no longer kept"));
    for id in [NOBODY, "no-id"] {
        problem(replay(&world, &hook, &json!({"id": id})).await, 404, "not-found").await;
    }
    let other = world.hook(json!({})).await;
    problem(replay(&world, &other, kept).await, 404, "not-found").await;
    let path = format!("/webhooks/{}/calls/{}/replay", hook.id, kept["id"].as_str().unwrap());
    let fields = world.admin(Method::POST, &path).json(&json!({"force": true}));
    problem(fields.send().await.unwrap(), 422, "settings-invalid").await;
}
