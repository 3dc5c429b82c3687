//! Tests of the call log: each call of a webhook is there with its answer, and nothing that is secret.

use std::collections::BTreeSet;

use hmac::{Hmac, KeyInit, Mac};
use reqwest::Method;
use reqwest::header::{CONTENT_TYPE, USER_AGENT};
use serde_json::{Value, json};
use sha2::Sha256;
use webhook_core::token::Token;

use crate::suite::events::{Stream, events};
use crate::support::{Hook, NOBODY, World, content, problem};

pub(super) const SECRET: &str = "canary-secret-of-the-sender";

pub(super) async fn calls(world: &World, hook: &Hook) -> Vec<Value> {
    let listed = world.admin(Method::GET, &format!("/webhooks/{}/calls?limit=200", hook.id));
    let listed = content(listed.send().await.unwrap(), 200).await;
    assert_eq!(listed["next_cursor"], Value::Null);
    listed["items"].as_array().unwrap().clone()
}

/// Returns outcome, status and problem of each call, oldest first.
async fn outcomes(world: &World, hook: &Hook) -> Vec<(String, u64, Value)> {
    let mut calls = calls(world, hook).await;
    calls.reverse();
    let one = |call: &Value| {
        let outcome = call["outcome"].as_str().unwrap().to_owned();
        (outcome, call["status"].as_u64().unwrap(), call["problem"].clone())
    };
    calls.iter().map(one).collect()
}

async fn refused(world: &World, workflow: &str) -> Value {
    let read = world.admin(Method::GET, &format!("/workflows/{workflow}"));
    content(read.send().await.unwrap(), 200).await["refused"].clone()
}

#[tokio::test]
async fn a_call_is_logged_with_its_answer_and_the_facts_about_its_caller() {
    let world = World::start_idle().await;
    let hook = world.hook(json!({})).await;
    let call = world.post(&hook.with("count=5")).json(&json!({"region": "APAC"}));
    let call = call.header(USER_AGENT, "Airflow/2.10").header("X-Request-Id", "4bf92f35");
    let accepted = content(call.send().await.unwrap(), 202).await;
    let logged = calls(&world, &hook).await;
    assert!(logged[0]["at"].as_str().unwrap().starts_with("20"));
    let expected = json!({
        "id": logged[0]["id"], "at": logged[0]["at"], "method": "POST", "status": 202, "outcome": "accepted",
        "problem": null, "detail": null, "address": "127.0.0.1", "user_agent": "Airflow/2.10",
        "request_id": "4bf92f35", "run_id": accepted["run_id"], "content_type": "application/json",
        "body_bytes": 17, "replayable_until": null,
    });
    assert_eq!(logged, [expected]);
}

#[tokio::test]
async fn every_outcome_is_logged() {
    let world = World::start_idle().await;
    let hook = world.hook(json!({})).await;
    let send = async |call: reqwest::RequestBuilder| drop(call.send().await.unwrap());
    for _ in 0..2 {
        send(world.post(&hook.url).header("Idempotency-Key", "k")).await;
    }
    send(world.get(&hook.url).header("Webhook-Dry-Run", "true")).await;
    send(world.get(&hook.with("count=x&region=nowhere"))).await;
    send(world.get(&hook.url).header("Sec-Purpose", "prefetch")).await;
    send(world.post(&hook.url).header(CONTENT_TYPE, "text/csv").body("a;b")).await;
    send(world.post(&hook.url).header(CONTENT_TYPE, "application/json").body("{")).await;
    // It is refused before its token is looked at, and its owner sees it all the same.
    send(world.post(&hook.url).body(vec![b' '; 2 << 20])).await;
    send(world.client.head(&hook.url)).await;
    send(world.post(&hook.url).header("Idempotency-Key", "k").body("{ }")).await;
    world.webhooks.manage().update_webhook(hook.id, &json!({"enabled": false}), None).await.unwrap();
    send(world.post(&hook.url)).await;
    world.webhooks.manage().update_webhook(hook.id, &json!({"enabled": true}), None).await.unwrap();
    world.webhooks.stop_accepting();
    send(world.post(&hook.url)).await;
    let refused = |status: u64, slug: &str| ("refused".to_owned(), status, json!(slug));
    let other = |outcome: &str, status: u64| (outcome.to_owned(), status, Value::Null);
    let expected = [
        other("accepted", 202),
        other("replayed", 202),
        other("dry_run", 200),
        refused(422, "parameters-invalid"),
        refused(403, "preview-refused"),
        refused(415, "unsupported-media-type"),
        refused(400, "malformed-body"),
        refused(413, "too-large"),
        refused(405, "method-not-allowed"),
        refused(422, "idempotency-mismatch"),
        refused(403, "webhook-disabled"),
        refused(503, "shutting-down"),
    ];
    assert_eq!(outcomes(&world, &hook).await, expected);
    let calls = calls(&world, &hook).await;
    let invalid = calls.iter().find(|call| call["problem"] == "parameters-invalid").unwrap();
    let detail = invalid["detail"].as_str().unwrap();
    assert!(detail.contains("count: ") && detail.contains("region: "), "{detail}");
    assert!(!detail.contains("nowhere"), "a value of the caller is in the log: {detail}");
    let ids: BTreeSet<_> = calls.iter().map(|call| call["id"].as_str().unwrap()).collect();
    assert_eq!(ids.len(), calls.len());
}

#[tokio::test]
async fn calls_of_a_sender_are_logged_whether_they_are_verified_ignored_or_checks_of_the_url() {
    let world = World::start_idle().await;
    let hook = world
        .hook(json!({
            "verification": {"preset": "github"}, "allowed_networks": ["127.0.0.0/8"],
            "conditions": {"all": [{"from": "header", "name": "X-GitHub-Event", "op": "equals", "value": "push"}]},
        }))
        .await;
    let secret = world.admin(Method::POST, &format!("/webhooks/{}/secrets", hook.id));
    content(secret.json(&json!({"secret": SECRET})).send().await.unwrap(), 201).await;
    let send = async |event: &str, delivery: &str, secret: &str| {
        let body = r#"{"note":"canary-body"}"#;
        let mut code = Hmac::<Sha256>::new_from_slice(secret.as_bytes()).unwrap();
        code.update(body.as_bytes());
        let mac: String = code.finalize().into_bytes().iter().map(|byte| format!("{byte:02x}")).collect();
        let call =
            world.post(&hook.url).header("X-GitHub-Event", event).header("X-GitHub-Delivery", delivery);
        let call = call.header("X-Hub-Signature-256", format!("sha256={mac}"));
        call.header(CONTENT_TYPE, "application/json").body(body).send().await.unwrap().status().as_u16()
    };
    assert_eq!(send("push", "1", SECRET).await, 202);
    assert_eq!(send("push", "1", SECRET).await, 202);
    assert_eq!(send("ping", "2", SECRET).await, 200);
    assert_eq!(send("issues", "3", SECRET).await, 200);
    assert_eq!(send("push", "4", "another secret").await, 401);
    let networks = json!({"allowed_networks": ["192.0.2.0/24"]});
    world.webhooks.manage().update_webhook(hook.id, &networks, None).await.unwrap();
    assert_eq!(send("push", "5", SECRET).await, 403);
    let expected = [
        ("accepted".to_owned(), 202, Value::Null),
        ("replayed".to_owned(), 202, Value::Null),
        ("handshake".to_owned(), 200, Value::Null),
        ("ignored".to_owned(), 200, Value::Null),
        ("refused".to_owned(), 401, json!("signature-invalid")),
        ("refused".to_owned(), 403, json!("address-not-allowed")),
    ];
    assert_eq!(outcomes(&world, &hook).await, expected);
    let logged = calls(&world, &hook).await;
    assert!(logged[2]["detail"].as_str().unwrap().contains("X-GitHub-Event"), "{}", logged[2]);
    assert_eq!(logged[4]["run_id"], logged[5]["run_id"]);
    assert!(!format!("{logged:?}").contains("canary"), "{logged:?}");
}

#[tokio::test]
async fn calls_without_a_valid_token_fill_no_log_and_are_counted_for_their_workflow() {
    let world = World::start_idle().await;
    let hook = world.hook(json!({})).await;
    assert_eq!(refused(&world, "report/sales").await, json!({"unauthorized": 0, "last_at": null}));
    for _ in 0..3 {
        let guess = world.post(&format!("{}?token={}", hook.bare(), Token::generate().expose()));
        problem(guess.send().await.unwrap(), 401, "unauthorized").await;
    }
    problem(world.post(hook.bare()).send().await.unwrap(), 401, "unauthorized").await;
    let elsewhere = world.post(&hook.url.replace("report/sales", "notebook/train"));
    problem(elsewhere.send().await.unwrap(), 401, "unauthorized").await;
    let nowhere = world.post(&hook.url.replace("report/sales", "report/none"));
    problem(nowhere.send().await.unwrap(), 401, "unauthorized").await;
    let counted = refused(&world, "report/sales").await;
    assert_eq!(counted["unauthorized"], 4);
    assert!(counted["last_at"].as_str().unwrap().starts_with("20"), "{counted}");
    assert_eq!(refused(&world, "notebook/train").await["unauthorized"], 1);
    let listed = content(world.admin(Method::GET, "/workflows").send().await.unwrap(), 200).await;
    let of =
        |place: usize| (&listed["items"][place]["id"], &listed["items"][place]["refused"]["unauthorized"]);
    assert_eq!([of(0), of(1)], [(&json!("train"), &json!(1)), (&json!("sales"), &json!(4))]);
    assert_eq!(calls(&world, &hook).await, Vec::<Value>::new());
}

#[tokio::test]
async fn calls_whose_token_cannot_be_told_are_neither_logged_nor_counted() {
    let world = World::start_idle().await;
    let hook = world.hook(json!({})).await;
    let unreadable = world.post(&hook.with("region=%zz"));
    problem(unreadable.send().await.unwrap(), 400, "malformed-query").await;
    let two = world.post(&hook.with(&format!("token={}", Token::generate().expose())));
    problem(two.send().await.unwrap(), 400, "two-tokens").await;
    let two = world.post(&hook.url).bearer_auth(Token::generate().expose());
    problem(two.send().await.unwrap(), 400, "two-tokens").await;
    let put = world.client.put(&hook.url).send().await.unwrap();
    problem(put, 405, "method-not-allowed").await;
    assert_eq!(calls(&world, &hook).await, Vec::<Value>::new());
    assert_eq!(refused(&world, "report/sales").await, json!({"unauthorized": 0, "last_at": null}));
}

#[tokio::test]
async fn a_replaced_token_and_a_deleted_webhook_log_nothing() {
    let world = World::start_idle().await;
    let hook = world.hook(json!({})).await;
    content(world.post(&hook.url).send().await.unwrap(), 202).await;
    world.webhooks.manage().refresh_token(hook.id, None).await.unwrap();
    problem(world.post(&hook.url).send().await.unwrap(), 401, "unauthorized").await;
    assert_eq!(calls(&world, &hook).await.len(), 1);
    world.webhooks.manage().delete_webhook(hook.id, None).await.unwrap();
    for id in [hook.id.to_string().as_str(), NOBODY, "no-id"] {
        let list = world.admin(Method::GET, &format!("/webhooks/{id}/calls"));
        problem(list.send().await.unwrap(), 404, "not-found").await;
    }
}

#[tokio::test]
async fn the_log_is_paged_and_keeps_the_newest_200_calls() {
    let world = World::start_idle().await;
    let hook = world.hook(json!({"queue_limit": 1})).await;
    for _ in 0..205 {
        world.post(&hook.url).send().await.unwrap();
    }
    let (mut seen, mut cursor) = (Vec::new(), String::new());
    loop {
        let page = world.admin(Method::GET, &format!("/webhooks/{}/calls?limit=90{cursor}", hook.id));
        let page = content(page.send().await.unwrap(), 200).await;
        seen.extend(
            page["items"].as_array().unwrap().iter().map(|call| call["id"].as_str().unwrap().to_owned()),
        );
        match page["next_cursor"].as_str() {
            Some(next) => cursor = format!("&cursor={next}"),
            None => break,
        }
    }
    assert_eq!(seen.len(), 200);
    assert!(seen.is_sorted_by(|newer, older| newer > older), "newest first, each once");
    let wrong = world.admin(Method::GET, &format!("/webhooks/{}/calls?cursor=x", hook.id));
    problem(wrong.send().await.unwrap(), 422, "settings-invalid").await;
}

#[tokio::test]
async fn calls_are_events_without_anyone_asking_for_the_list() {
    let world = World::start_idle().await;
    let (hook, other) = (world.hook(json!({})).await, world.hook_of("notebook/train", json!({})).await);
    let mut stream = Stream::open(events(&world, "?workflow=report/sales")).await;
    world.post(&other.url).send().await.unwrap();
    let accepted = content(world.post(&hook.url).send().await.unwrap(), 202).await;
    problem(world.get(&hook.with("count=x")).send().await.unwrap(), 422, "parameters-invalid").await;
    let mut seen = Vec::new();
    while seen.len() < 2 {
        let event = stream.next_of_any().await.unwrap();
        if event.name == "calls" {
            assert_eq!(event.data["workflow"], json!({"kind": "report", "id": "sales"}));
            assert_eq!(event.data["webhook_id"], hook.id.to_string());
            // Newest first.
            seen.extend(event.data["items"].as_array().unwrap().iter().rev().cloned());
        }
    }
    assert_eq!((&seen[0]["outcome"], &seen[0]["run_id"]), (&json!("accepted"), &accepted["run_id"]));
    assert_eq!(seen[1]["problem"], "parameters-invalid");
    seen.reverse();
    assert_eq!(seen, calls(&world, &hook).await);
}

#[tokio::test]
async fn a_caller_that_awaits_its_run_is_logged_before_the_run_ends() {
    let world = World::start_idle().await;
    let hook = world.hook(json!({})).await;
    let mut stream = Stream::open(events(&world, "")).await;
    let awaiting = tokio::spawn(world.post(&hook.url).header("Prefer", "wait=20").send());
    let logged = loop {
        let event = stream.next_of_any().await.unwrap();
        if event.name == "calls" {
            break event.data["items"][0].clone();
        }
    };
    assert!(!awaiting.is_finished());
    assert_eq!((&logged["outcome"], &logged["status"]), (&json!("accepted"), &json!(202)));
    let run = logged["run_id"].as_str().unwrap();
    world.admin(Method::POST, &format!("/runs/{run}/cancel")).send().await.unwrap();
    assert_eq!(awaiting.await.unwrap().unwrap().status(), 200);
    assert_eq!(calls(&world, &hook).await.len(), 1);
}

#[tokio::test]
async fn tokens_and_secrets_of_a_call_are_not_in_the_log() {
    let world = World::start_idle().await;
    let hook = world.hook(json!({"strict": true})).await;
    let token = hook.token().to_owned();
    let call = || {
        let call = world.post(&hook.with("password=canary-1&rows=canary-2"));
        let call =
            call.header(USER_AGENT, format!("agent/{token}")).header("X-Request-Id", format!("id-{token}"));
        call.header("Authorization", format!("Bearer {token}")).header("Cookie", "canary-3")
    };
    call().json(&json!({"note": "canary-4", (token.as_str()): 1})).send().await.unwrap();
    call().header(CONTENT_TYPE, format!("text/{token}")).body("canary-5").send().await.unwrap();
    call().header(CONTENT_TYPE, "application/json").body("{\"canary\": canary-6").send().await.unwrap();
    call().header("Idempotency-Key", token.as_str()).body("{}").send().await.unwrap();
    let logged = calls(&world, &hook).await;
    assert_eq!(logged.len(), 4, "{logged:?}");
    let shown = format!("{logged:?}{:?}", world.store);
    assert!(!shown.contains(&token[4..47]) && !shown.contains("canary-"), "{shown}");
    assert!(shown.contains("agent/whk_***"), "{shown}");
}
