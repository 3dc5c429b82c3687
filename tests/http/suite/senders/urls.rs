//! Tests of the URL and its token, however senders write and repeat them.

use reqwest::header::AUTHORIZATION;
use serde_json::json;
use webhook_core::token::Token;

use super::{dry, form, json_body, refused, typed};
use crate::support::content;

#[tokio::test]
async fn a_body_that_repeats_the_trigger_url_leaves_the_token_nowhere() {
    let (world, hook) = typed(json!({})).await;
    let ping = json!({
        "zen": "Keep it logically awesome.", "hook_id": 412, "hook": {"type": "Repository", "active": true,
        "config": {"content_type": "json", "insecure_ssl": "0", "url": hook.url}}, "token": hook.token(),
        "repository": {"id": 98765, "full_name": "acme/sales-data"},
    });
    let digits = &hook.token()[4..47];
    let dry_run = dry(json_body(&world, &hook, ping.to_string())).send().await.unwrap().text().await.unwrap();
    let call = json_body(&world, &hook, ping.to_string())
        .header("user-agent", format!("Hookshot {}", hook.url))
        .header("x-request-id", hook.token());
    let response = call.send().await.unwrap();
    assert_ne!(response.headers()["x-request-id"], hook.token());
    let accepted = content(response, 202).await;
    world.ended(&accepted).await;
    let record = world.managed_run(&accepted).await.to_string();
    let status = world.get(accepted["status_url"].as_str().unwrap()).bearer_auth(hook.token());
    let status = status.send().await.unwrap().text().await.unwrap();
    for shown in [&dry_run, &record, &status] {
        assert!(!shown.contains(digits), "{shown}");
        assert!(shown.contains("/api/v1/report/typed/webhook?token=whk_***"), "{shown}");
    }
}

#[tokio::test]
async fn a_token_in_any_spelling_is_masked_in_query_form_and_json() {
    let (world, hook) = typed(json!({})).await;
    let token = hook.token();
    let escaped = token.replace('_', "%5F");
    let calls = [
        world.get(&hook.with(&format!("note={escaped}"))),
        world.get(&hook.with(&format!("note={}", escaped.replace('%', "%25")))),
        form(&world, &hook, format!("token={token}&note=x{escaped}x")),
        json_body(&world, &hook, format!("{{\"note\":\"{}\"}}", token.replace('_', "\\u005f"))),
        json_body(&world, &hook, format!("{{\"note\":\"\\\"{}\\\"\"}}", token.replace('_', "\\\\u005f"))),
        json_body(&world, &hook, format!("{{\"note\":[{{\"{token}\":\"{token}\"}}]}}")),
        json_body(&world, &hook, format!("{{\"{token}\":\"note\"}}")),
        world.get(&hook.with(&format!("tags=a&tags={token}"))),
        json_body(&world, &hook, format!("{{\"note\":\"{}\"}}", Token::generate().expose())),
    ];
    for (index, call) in calls.into_iter().enumerate() {
        let shown = content(dry(call).send().await.unwrap(), 200).await.to_string();
        assert!(!shown.contains(&token[4..47]) && shown.contains("whk_***"), "{index}: {shown}");
    }
}

#[tokio::test]
async fn white_space_around_a_token_is_trimmed_and_a_torn_token_is_401() {
    let (world, hook) = typed(json!({})).await;
    let bare = hook.bare();
    let encoded = hook.token().replace('_', "%5F");
    for query in [format!("token=%20{}%0D%0A", hook.token()), format!("token={encoded}")] {
        content(world.post(&format!("{bare}?{query}")).send().await.unwrap(), 202).await;
    }
    for scheme in ["Bearer", "bearer", "BEARER  "] {
        let call = world.post(bare).header(AUTHORIZATION, format!("{scheme} {}  ", hook.token()));
        content(call.send().await.unwrap(), 202).await;
    }
    for query in [format!("token={}?uid=7", hook.token()), format!("token={};text=a", hook.token())] {
        refused(world.post(&format!("{bare}?{query}")), 401, "unauthorized").await;
    }
    for (name, text) in
        [("x-gitlab-token", ""), ("authorization", "token "), ("authorization", ""), ("token", "")]
    {
        let call = world.post(bare).header(name, format!("{text}{}", hook.token()));
        refused(call, 401, "unauthorized").await;
    }
    refused(world.post(bare).basic_auth("", Some(hook.token())), 401, "unauthorized").await;
}

#[tokio::test]
async fn another_path_is_404() {
    let (world, hook) = typed(json!({})).await;
    let query = format!("token={}", hook.token());
    for path in
        ["/api/v1/report/typed/webhook/", "//api/v1/report/typed/webhook", "/api/v1/report%2Ftyped/webhook"]
    {
        refused(world.post(&format!("{}{path}?{query}", world.base)), 404, "not-found").await;
    }
    let escaped = format!("{}/api/v1/report/%74yped/webhook?{query}", world.base);
    content(world.post(&escaped).send().await.unwrap(), 202).await;
}
