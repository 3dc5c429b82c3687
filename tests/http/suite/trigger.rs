//! Tests of accepted trigger calls.

use std::collections::HashSet;

use reqwest::header::{CONTENT_TYPE, LOCATION};
use serde_json::{Value, json};
use webhook_testing::Step;

use crate::support::{Hook, World, content};

async fn parameters(world: &World, accepted: &Value) -> Value {
    let run = world.run(accepted).await;
    let shown = run
        .parameters()
        .iter()
        .map(|(name, parameter)| (name.clone(), json!([parameter.shown(), parameter.source.as_str()])));
    Value::Object(shown.collect())
}

#[tokio::test]
async fn a_call_is_answered_202_with_the_run_and_where_to_ask_about_it() {
    let world = World::start_idle().await;
    let hook = world.hook(json!({})).await;
    let response = world.post(&hook.with("region=APAC")).send().await.unwrap();
    let headers = response.headers().clone();
    let accepted = content(response, 202).await;
    let run = accepted["run_id"].as_str().unwrap();
    let status_url = format!("{}/api/v1/report/sales/runs/{run}", world.base);
    assert_eq!(accepted, json!({"run_id": run, "state": "queued", "status_url": status_url}));
    assert_eq!(headers[LOCATION], status_url);
    assert_eq!(headers[CONTENT_TYPE], "application/json");
    assert_eq!(headers["cache-control"], "no-store");
    assert_eq!(headers["referrer-policy"], "no-referrer");
    assert_eq!(headers["x-content-type-options"], "nosniff");
    assert_eq!(headers["x-request-id"].len(), 36);
    assert!(!headers.contains_key("idempotency-replayed"));
    assert_eq!(parameters(&world, &accepted).await, json!({"region": ["APAC", "query"]}));
}

#[tokio::test]
async fn parameters_come_from_defaults_query_json_and_form() {
    let world = World::start_idle().await;
    let hook = world.hook(json!({})).await;
    let accepted = content(world.post(&hook.url).send().await.unwrap(), 202).await;
    assert_eq!(parameters(&world, &accepted).await, json!({"region": ["EMEA", "default"]}));

    let accepted = content(world.get(&hook.with("count=7&note=a+b")).send().await.unwrap(), 202).await;
    let expected = json!({"region": ["EMEA", "default"], "count": [7, "query"], "note": ["a b", "query"]});
    assert_eq!(parameters(&world, &accepted).await, expected);

    let body = json!({"count": 8, "token": "ordinary"});
    let call = world.post(&hook.with("count=7&region=APAC")).json(&body);
    let accepted = content(call.send().await.unwrap(), 202).await;
    let expected = json!({"region": ["APAC", "query"], "count": [8, "body"], "token": ["ordinary", "body"]});
    assert_eq!(parameters(&world, &accepted).await, expected);

    let call = world.post(&hook.url).header(CONTENT_TYPE, "application/x-www-form-urlencoded");
    let accepted = content(call.body("count=9&region=APAC").send().await.unwrap(), 202).await;
    assert_eq!(
        parameters(&world, &accepted).await,
        json!({"region": ["APAC", "body"], "count": [9, "body"]})
    );
}

#[tokio::test]
async fn a_secret_value_is_masked() {
    let world = World::start_idle().await;
    let hook = world.hook(json!({})).await;
    let call = world.post(&hook.url).json(&json!({"password": "hunter2"}));
    let accepted = content(call.send().await.unwrap(), 202).await;
    assert_eq!(parameters(&world, &accepted).await["password"], json!(["***", "body"]));
}

#[tokio::test]
async fn the_token_may_come_as_bearer_and_twice_if_it_is_the_same() {
    let world = World::start_idle().await;
    let hook = world.hook(json!({})).await;
    let header = |scheme: &str| format!("{scheme} {}", hook.token());
    for scheme in ["Bearer", "bearer", "BEARER"] {
        let call = world.post(hook.bare()).header("authorization", header(scheme));
        content(call.send().await.unwrap(), 202).await;
    }
    content(world.post(&hook.url).header("authorization", header("Bearer")).send().await.unwrap(), 202).await;
}

#[tokio::test]
async fn a_run_remembers_who_called() {
    let world = World::start_idle().await;
    let hook = world.hook(json!({})).await;
    let call = world
        .get(&hook.url)
        .header("x-request-id", "abc-1")
        .header("user-agent", "u".repeat(300))
        .header("traceparent", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01")
        .header("x-forwarded-for", "192.0.2.7");
    let response = call.send().await.unwrap();
    assert_eq!(response.headers()["x-request-id"], "abc-1");
    let run = world.run(&content(response, 202).await).await;
    assert_eq!(run.caller().method, "GET");
    assert_eq!(run.caller().address.unwrap().to_string(), "127.0.0.1");
    assert_eq!(run.caller().user_agent.as_deref(), Some("u".repeat(256).as_str()));
    assert_eq!(run.caller().request_id.as_deref(), Some("abc-1"));
    assert_eq!(run.caller().token_hint.as_deref(), Some(&hook.token()[49..]));
    assert!(run.caller().traceparent.as_deref().unwrap().starts_with("00-0af7"));
}

#[tokio::test]
async fn who_prefers_to_wait_gets_200_with_the_run_when_it_has_ended() {
    let world = World::start().await;
    let hook = world.hook(json!({})).await;
    world.executor.script_next([Step::SucceedWith("sold out".to_owned())]);
    let response = world.post(&hook.url).header("prefer", "wait=20").send().await.unwrap();
    assert_eq!(response.headers()["preference-applied"], "wait=20");
    assert!(response.headers().contains_key(LOCATION));
    let accepted = content(response, 200).await;
    assert_eq!(accepted["state"], "succeeded");
    assert_eq!(accepted["run"]["summary"], "sold out");
    assert_eq!(accepted["run"]["id"], accepted["run_id"]);
    assert!(accepted["run"].get("caller").is_none() && accepted["run"].get("deliveries").is_none());
}

#[tokio::test]
async fn who_prefers_to_wait_gets_202_when_the_run_takes_longer_and_the_run_goes_on() {
    let world = World::start().await;
    let hook = world.hook(json!({})).await;
    world.executor.script_next([Step::WaitForRelease]);
    let response = world.post(&hook.url).header("prefer", "wait=1").send().await.unwrap();
    assert!(!response.headers().contains_key("preference-applied"));
    let accepted = content(response, 202).await;
    assert_eq!(accepted["state"], "running");
    world.executor.release(1);
    assert_eq!(world.ended(&accepted).await.state().as_str(), "succeeded");
}

#[tokio::test]
async fn a_skipped_run_has_ended() {
    let world = World::start_idle().await;
    let hook = world.hook(json!({"concurrency": {"max": 1, "on_overlap": "skip"}})).await;
    content(world.post(&hook.url).send().await.unwrap(), 202).await;
    let response = world.post(&hook.url).header("prefer", "wait=5").send().await.unwrap();
    let accepted = content(response, 200).await;
    assert_eq!(accepted["state"], "skipped");
    assert_eq!(accepted["run"]["state"], "skipped");
    let accepted = content(world.post(&hook.url).send().await.unwrap(), 202).await;
    assert_eq!(accepted["state"], "skipped");
}

#[tokio::test]
async fn a_dry_run_says_what_would_be_used_and_starts_nothing() {
    let world = World::start_idle().await;
    let hook = world.hook(json!({})).await;
    let call = world.post(&hook.with("count=3")).header("webhook-dry-run", "true");
    let call = call.header("idempotency-key", "k").json(&json!({"password": "hunter2"}));
    let answer = content(call.send().await.unwrap(), 200).await;
    let expected = json!({"dry_run": true, "parameters": {
        "count": {"value": 3, "source": "query"},
        "password": {"value": "***", "source": "body"},
        "region": {"value": "EMEA", "source": "default"},
    }});
    assert_eq!(answer, expected);
    assert_eq!(world.runs().await, 0);
    let call = world.post(&hook.url).header("idempotency-key", "k");
    assert!(!call.send().await.unwrap().headers().contains_key("idempotency-replayed"));
}

#[tokio::test]
async fn a_repeated_key_gives_the_same_run_with_its_present_state() {
    let world = World::start().await;
    let hook = world.hook(json!({})).await;
    let call = |key: &str| world.post(&hook.with("count=1")).header("idempotency-key", key.to_owned());
    let first = content(call("\"k-1\"").send().await.unwrap(), 202).await;
    world.ended(&first).await;
    let response = call("k-1").send().await.unwrap();
    assert_eq!(response.headers()["idempotency-replayed"], "true");
    let again = content(response, 202).await;
    assert_eq!(again["run_id"], first["run_id"]);
    assert_eq!(again["state"], "succeeded");
    let response = call("k-1").header("prefer", "wait=5").send().await.unwrap();
    assert_eq!(response.headers()["idempotency-replayed"], "true");
    assert_eq!(content(response, 200).await["run"]["id"], first["run_id"]);
    assert_ne!(content(call("k-2").send().await.unwrap(), 202).await["run_id"], first["run_id"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn one_key_many_times_at_once_is_one_run() {
    let world = World::start_idle().await;
    let hook = world.hook(json!({})).await;
    let calls = (0..40).map(|_| {
        let call = world.get(&hook.url).header("idempotency-key", "same");
        tokio::spawn(async move { content(call.send().await.unwrap(), 202).await["run_id"].to_string() })
    });
    let mut ids = HashSet::new();
    for call in calls.collect::<Vec<_>>() {
        ids.insert(call.await.unwrap());
    }
    assert_eq!((ids.len(), world.runs().await), (1, 1));
}

#[tokio::test]
async fn a_webhook_that_is_disabled_and_enabled_again_goes_on_with_its_url() {
    let world = World::start_idle().await;
    let hook = world.hook(json!({})).await;
    let path = format!("/webhooks/{}", hook.id);
    for (enabled, status) in [(false, 403), (true, 202)] {
        let patch = world.admin(reqwest::Method::PATCH, &path).json(&json!({"enabled": enabled}));
        content(patch.send().await.unwrap(), 200).await;
        content(world.post(&hook.url).send().await.unwrap(), status).await;
    }
}

#[tokio::test]
async fn a_refreshed_token_replaces_the_old_one_in_the_very_next_call() {
    let world = World::start_idle().await;
    let old = world.hook(json!({})).await;
    let refresh = world.admin(reqwest::Method::POST, &format!("/webhooks/{}/refresh-token", old.id));
    let answer = content(refresh.send().await.unwrap(), 200).await;
    let new = Hook { id: old.id, url: answer["url"].as_str().unwrap().to_owned() };
    content(world.post(&old.url).send().await.unwrap(), 401).await;
    content(world.post(&new.url).send().await.unwrap(), 202).await;
    assert_ne!(old.token(), new.token());
}
