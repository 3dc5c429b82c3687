//! Tests of refused trigger calls: one for each row of the table of statuses.

use std::time::SystemTime;

use reqwest::Method;
use reqwest::header::{ALLOW, CONTENT_TYPE, RETRY_AFTER, WWW_AUTHENTICATE};
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use webhook_core::ServiceOptions;
use webhook_core::id::WebhookId;
use webhook_core::store::Store;
use webhook_core::token::Token;
use webhook_core::webhook::{Webhook, WebhookSettings};

use crate::front::server::ServerOptions;
use crate::support::{Hook, World, content, problem, raw, read_all};

#[tokio::test]
async fn a_malformed_query_is_400() {
    let world = World::start_idle().await;
    let hook = world.hook(json!({})).await;
    let request = format!(
        "POST /api/v1/report/sales/webhook?region=%zz&token={} HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n",
        hook.token()
    );
    let answer = raw(world.address, &[request.as_bytes()]).await;
    assert!(answer.starts_with("HTTP/1.1 400 "), "{answer}");
    assert!(answer.contains("urn:webhook:problem:malformed-query") && !answer.contains("whk_"), "{answer}");
}

#[tokio::test]
async fn a_malformed_body_is_400() {
    let world = World::start_idle().await;
    let hook = world.hook(json!({})).await;
    for body in ["{", "[1]", "{\"a\": 1, \"a\": 2}", "null"] {
        problem(world.post(&hook.url).body(body).send().await.unwrap(), 400, "malformed-body").await;
    }
    let form = world.post(&hook.url).header(CONTENT_TYPE, "application/x-www-form-urlencoded");
    let answer = problem(form.body("{\"a\": 1}").send().await.unwrap(), 400, "malformed-body").await;
    assert!(answer["detail"].as_str().unwrap().contains("Content-Type: application/json"));
}

#[tokio::test]
async fn two_different_tokens_are_400() {
    let world = World::start_idle().await;
    let (one, other) = (world.hook(json!({})).await, world.hook(json!({})).await);
    let call = world.post(&one.url).bearer_auth(other.token());
    problem(call.send().await.unwrap(), 400, "two-tokens").await;
    let call = world.post(&one.with(&format!("token={}", other.token())));
    problem(call.send().await.unwrap(), 400, "two-tokens").await;
}

#[tokio::test]
async fn a_repeated_header_must_say_the_same() {
    let world = World::start_idle().await;
    let (one, other) = (world.hook(json!({})).await, world.hook(json!({})).await);
    let call = |token: &str| world.post(one.bare()).bearer_auth(one.token()).bearer_auth(token);
    problem(call(other.token()).send().await.unwrap(), 400, "two-tokens").await;
    content(call(one.token()).send().await.unwrap(), 202).await;
    let call = |key: &'static str| {
        world.post(&one.url).header("idempotency-key", "a").header("idempotency-key", key)
    };
    problem(call("b").send().await.unwrap(), 400, "idempotency-key-invalid").await;
    content(call("a").send().await.unwrap(), 202).await;
    assert_eq!(world.runs().await, 2);
}

#[tokio::test]
async fn every_way_to_have_no_right_token_gets_the_same_401() {
    let world = World::start_idle().await;
    let hook = world.hook(json!({})).await;
    let foreign = world.hook_of("notebook/train", json!({})).await;
    let unknown = Token::generate();
    let at = |path: &str, token: &str| format!("{}/api/v1/{path}/webhook?token={token}", world.base);
    let urls = [
        hook.bare().to_owned(),
        at("report/sales", ""),
        at("report/sales", "whk_typo"),
        at("report/sales", unknown.expose()),
        at("report/sales", foreign.token()),
        at("report/nothing", hook.token()),
        at("report/nothing", unknown.expose()),
        at("report/-not-an-id", hook.token()),
        at("report/a%2Fb", hook.token()),
        format!("{}/api/v1/report/sales/runs/7", world.base),
        format!("{}/api/v1/report/nothing/runs/7?token={}", world.base, hook.token()),
    ];
    let mut answers = Vec::new();
    for url in &urls {
        let response = world.get(url).header("x-request-id", "same").send().await.unwrap();
        assert_eq!(response.headers()[WWW_AUTHENTICATE], "Bearer");
        let mut headers = response.headers().clone();
        headers.remove("date");
        let status = response.status().as_u16();
        answers.push((status, format!("{headers:?}"), response.bytes().await.unwrap()));
    }
    for (url, answer) in urls.iter().zip(&answers) {
        assert_eq!(answer, &answers[0], "{url}");
    }
    assert_eq!(answers[0].0, 401);
    problem(world.get(&urls[0]).send().await.unwrap(), 401, "unauthorized").await;
}

#[tokio::test]
async fn a_refusal_says_what_to_do() {
    let world = World::start_idle().await;
    let (hook, disabled) = (world.hook(json!({})).await, world.hook(json!({"enabled": false})).await);
    let limited = world.hook(json!({"rate_limit": {"per_minute": 1}})).await;
    content(world.post(&limited.url).send().await.unwrap(), 202).await;
    let bot = world.get(&hook.url).header("user-agent", "Slackbot-LinkExpanding 1.0");
    let management = world.get(&format!("{}/admin/api/v1/runs", world.base));
    for (call, status, slug, advice) in [
        (world.post(hook.bare()), 401, "unauthorized", "?token= or as Authorization: Bearer"),
        (management, 401, "unauthorized", "admin token as Authorization: Bearer"),
        (world.post(&disabled.url), 403, "webhook-disabled", "enable it"),
        (bot, 403, "preview-refused", "POST"),
        (world.post(&limited.url), 429, "rate-limited", "Retry-After"),
    ] {
        let refused = problem(call.send().await.unwrap(), status, slug).await;
        assert!(refused["detail"].as_str().unwrap().contains(advice), "{refused}");
    }
}

#[tokio::test]
async fn a_body_is_not_looked_at_before_the_token() {
    let world = World::start_idle().await;
    let hook = world.hook(json!({})).await;
    let call = world.post(hook.bare()).header(CONTENT_TYPE, "text/html").body("{".repeat(100_000));
    problem(call.send().await.unwrap(), 401, "unauthorized").await;
}

#[tokio::test]
async fn a_disabled_webhook_is_403() {
    let world = World::start_idle().await;
    let hook = world.hook(json!({"enabled": false})).await;
    problem(world.post(&hook.url).send().await.unwrap(), 403, "webhook-disabled").await;
    let large = world.post(&hook.url).body("{");
    problem(large.send().await.unwrap(), 403, "webhook-disabled").await;
}

#[tokio::test]
async fn get_can_be_switched_off() {
    let world = World::start_idle().await;
    let hook = world.hook(json!({"allow_get": false})).await;
    problem(world.get(&hook.url).send().await.unwrap(), 403, "get-not-allowed").await;
    content(world.post(&hook.url).send().await.unwrap(), 202).await;
}

#[tokio::test]
async fn link_previews_and_prefetches_start_nothing() {
    let world = World::start_idle().await;
    let hook = world.hook(json!({})).await;
    for (name, value) in [
        ("user-agent", "Slackbot-LinkExpanding 1.0 (+https://api.slack.com/robots)"),
        ("purpose", "prefetch"),
        ("sec-purpose", "prefetch;prerender"),
        ("x-moz", "prefetch"),
    ] {
        let call = world.get(&hook.url).header(name, value);
        problem(call.send().await.unwrap(), 403, "preview-refused").await;
    }
    assert_eq!(world.runs().await, 0);
}

#[tokio::test]
async fn an_unknown_kind_is_404() {
    let world = World::start_idle().await;
    let hook = world.hook(json!({})).await;
    for path in
        ["widget/sales/webhook", "report/sales/nothing", "Report/sales/webhook", "report/sales/webhook/"]
    {
        let url = format!("{}/api/v1/{path}?token={}", world.base, hook.token());
        problem(world.post(&url).send().await.unwrap(), 404, "not-found").await;
    }
}

#[tokio::test]
async fn a_right_token_whose_workflow_is_gone_is_404() {
    let world = World::start_idle().await;
    let (token, now) = (Token::generate(), SystemTime::now());
    let id = WebhookId::generate(now);
    let settings = WebhookSettings::default();
    let webhook = Webhook::new(id, "report/gone".parse().unwrap(), settings, &token, None, now);
    world.store.create_webhook(webhook).await.unwrap();
    let url = format!("{}/api/v1/report/gone/webhook?token={}", world.base, token.expose());
    problem(world.post(&url).send().await.unwrap(), 404, "workflow-missing").await;
}

#[tokio::test]
async fn other_methods_are_405_and_head_and_options_start_nothing() {
    let world = World::start_idle().await;
    let hook = world.hook(json!({})).await;
    for method in [Method::HEAD, Method::OPTIONS, Method::PUT, Method::PATCH, Method::DELETE] {
        let response = world.client.request(method.clone(), &hook.url).send().await.unwrap();
        // Only presets whose sender checks a URL by HEAD or OPTIONS answer these methods.
        let is_check = matches!(method, Method::HEAD | Method::OPTIONS);
        let allow = if is_check { "GET, POST" } else { "GET, POST, HEAD, OPTIONS" };
        assert_eq!(response.headers()[ALLOW], allow);
        match method {
            Method::HEAD => assert_eq!(content(response, 405).await, json!(null)),
            _ => assert_eq!(problem(response, 405, "method-not-allowed").await["status"], 405),
        }
    }
    assert_eq!(world.runs().await, 0);
}

#[tokio::test]
async fn a_body_that_is_too_large_is_413_and_its_sender_reads_the_answer() {
    let world = World::start_idle().await;
    let hook = world.hook(json!({})).await;
    for size in [1024 * 1024 + 1, 2 * 1024 * 1024, 7 * 1024 * 1024] {
        let call = world.post(&hook.url).body(vec![b' '; size]);
        problem(call.send().await.unwrap(), 413, "too-large").await;
    }
    let call = world.post(&hook.url).body(vec![b' '; 1024 * 1024]);
    content(call.send().await.unwrap(), 202).await;
}

#[tokio::test]
async fn a_chunked_body_that_is_too_large_is_413() {
    let world = World::start_idle().await;
    let hook = world.hook(json!({})).await;
    let head = format!(
        "POST /api/v1/report/sales/webhook?token={} HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\
         transfer-encoding: chunked\r\n\r\n",
        hook.token()
    );
    let chunk = [b"10000\r\n".as_slice(), &vec![b' '; 65_536], b"\r\n"].concat();
    let mut pieces = vec![head.as_bytes()];
    pieces.extend(std::iter::repeat_n(chunk.as_slice(), 32));
    pieces.push(b"0\r\n\r\n");
    let answer = raw(world.address, &pieces).await;
    assert!(answer.starts_with("HTTP/1.1 413 ") && answer.contains(":too-large\""), "{answer}");
}

#[tokio::test]
async fn who_asks_before_sending_too_much_is_not_asked_to_send_it() {
    let world = World::start_idle().await;
    let hook = world.hook(json!({})).await;
    let head = format!(
        "POST /api/v1/report/sales/webhook?token={} HTTP/1.1\r\nhost: a\r\nexpect: 100-continue\r\n\
         content-length: 2000000\r\n\r\n",
        hook.token()
    );
    let answer = raw(world.address, &[head.as_bytes()]).await;
    assert!(answer.starts_with("HTTP/1.1 413 "), "{answer}");
}

#[tokio::test]
async fn a_query_that_is_too_long_is_414() {
    let world = World::start_idle().await;
    let hook = world.hook(json!({})).await;
    let url = hook.with(&format!("note={}", "x".repeat(16 * 1024)));
    problem(world.post(&url).send().await.unwrap(), 414, "too-large").await;
}

#[tokio::test]
async fn another_media_type_is_415() {
    let world = World::start_idle().await;
    let hook = world.hook(json!({})).await;
    let call = world.post(&hook.url).header(CONTENT_TYPE, "text/plain").body("region=APAC");
    problem(call.send().await.unwrap(), 415, "unsupported-media-type").await;
}

#[tokio::test]
async fn wrong_parameters_are_422_and_all_of_them_are_named() {
    let world = World::start_idle().await;
    let hook = world.hook(json!({"strict": true})).await;
    let url = hook.with("region=MARS&count=007&colour=red");
    let answer = problem(world.post(&url).send().await.unwrap(), 422, "parameters-invalid").await;
    let errors = answer["errors"].as_array().unwrap();
    let pairs: Vec<_> = errors.iter().map(|error| (&error["parameter"], &error["code"])).collect();
    assert_eq!(pairs.len(), 3);
    for pair in [("region", "not_a_choice"), ("count", "wrong_type"), ("colour", "undeclared")] {
        assert!(pairs.contains(&(&json!(pair.0), &json!(pair.1))), "{pairs:?}");
    }
    assert!(errors.iter().all(|error| error["message"].is_string()));
}

#[tokio::test]
async fn a_wrong_secret_value_is_not_repeated() {
    let world = World::start_idle().await;
    let hook = world.hook(json!({})).await;
    let call = world.post(&hook.url).json(&json!({"password": ["canary-value"]}));
    let answer = problem(call.send().await.unwrap(), 422, "parameters-invalid").await;
    assert!(!answer.to_string().contains("canary-value"));
}

#[tokio::test]
async fn an_idempotency_key_must_have_the_form_of_one_and_stand_for_one_request() {
    let world = World::start_idle().await;
    let hook = world.hook(json!({})).await;
    let call =
        |query: &str, key: &str| world.post(&hook.with(query)).header("idempotency-key", key.to_owned());
    for bad in ["", "\"", "\u{e9}", &"k".repeat(256)] {
        problem(call("count=1", bad).send().await.unwrap(), 400, "idempotency-key-invalid").await;
    }
    content(call("count=1", "k").send().await.unwrap(), 202).await;
    problem(call("count=2", "k").send().await.unwrap(), 422, "idempotency-mismatch").await;
    assert_eq!(world.runs().await, 1);
}

fn retry_after(response: &reqwest::Response) -> u64 {
    response.headers()[RETRY_AFTER].to_str().unwrap().parse().unwrap()
}

#[tokio::test]
async fn a_webhook_that_is_called_too_often_is_429() {
    let world = World::start_idle().await;
    let hook = world.hook(json!({"rate_limit": {"per_minute": 6, "burst": 1}})).await;
    content(world.post(&hook.url).send().await.unwrap(), 202).await;
    let response = world.post(&hook.url).send().await.unwrap();
    assert!((9..=10).contains(&retry_after(&response)));
    problem(response, 429, "rate-limited").await;
}

#[tokio::test]
async fn a_webhook_that_is_called_too_often_answers_before_it_reads_a_body() {
    let world = World::start_idle().await;
    let hook = world.hook(json!({"rate_limit": {"per_minute": 6, "burst": 1}})).await;
    content(world.post(&hook.url).send().await.unwrap(), 202).await;
    let mut stream = TcpStream::connect(world.address).await.unwrap();
    stream.write_all(head_with_expectation(&hook).as_bytes()).await.unwrap();
    let answer = read_all(&mut stream).await;
    assert!(answer.starts_with("HTTP/1.1 429 "), "{answer}");
}

/// Returns the head of a POST whose sender waits to be asked for the body, which happens once it was
/// admitted.
fn head_with_expectation(hook: &Hook) -> String {
    let token = hook.token();
    format!(
        "POST /api/v1/report/sales/webhook HTTP/1.1\r\nhost: a\r\nauthorization: Bearer {token}\r\n\
         content-length: 2\r\nexpect: 100-continue\r\nconnection: close\r\n\r\n"
    )
}

#[tokio::test]
async fn a_token_refreshed_or_a_webhook_disabled_while_the_body_is_read_starts_nothing() {
    for (refresh, status) in [(true, "401"), (false, "403")] {
        let world = World::start_idle().await;
        let hook = world.hook(json!({})).await;
        let mut stream = TcpStream::connect(world.address).await.unwrap();
        stream.write_all(head_with_expectation(&hook).as_bytes()).await.unwrap();
        let mut asked = [0; 25];
        stream.read_exact(&mut asked).await.unwrap();
        assert!(asked.starts_with(b"HTTP/1.1 100 Continue"));
        if refresh {
            world.webhooks.manage().refresh_token(hook.id, None).await.unwrap();
        } else {
            world.webhooks.manage().set_webhook_enabled(hook.id, false).await.unwrap();
        }
        stream.write_all(b"{}").await.unwrap();
        let answer = read_all(&mut stream).await;
        assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{answer}");
        assert_eq!(world.runs().await, 0);
    }
}

#[tokio::test]
async fn too_many_wrong_tokens_are_429_and_a_right_one_is_never_refused_for_them() {
    let world = World::start_idle().await;
    let hook = world.hook(json!({})).await;
    let mut statuses = Vec::new();
    let last = loop {
        let response = world.get(hook.bare()).send().await.unwrap();
        statuses.push(response.status().as_u16());
        if response.status() != 401 || statuses.len() > 200 {
            break response;
        }
    };
    assert!(statuses.len() > 60, "{statuses:?}");
    assert_eq!(retry_after(&last), 1);
    problem(last, 429, "rate-limited").await;
    content(world.post(&hook.url).send().await.unwrap(), 202).await;
}

#[tokio::test]
async fn a_full_queue_is_503() {
    let options = ServiceOptions::default().with_queue_limit(2);
    let world = World::start_with(|builder| builder.options(options), ServerOptions::default(), false).await;
    let hook = world.hook(json!({"queue_limit": 1})).await;
    let other = world.hook(json!({})).await;
    content(world.post(&hook.url).send().await.unwrap(), 202).await;
    let refused = async |hook: &Hook| {
        let response = world.post(&hook.url).send().await.unwrap();
        assert!(retry_after(&response) >= 1);
        problem(response, 503, "queue-full").await;
    };
    refused(&hook).await;
    content(world.post(&other.url).send().await.unwrap(), 202).await;
    refused(&other).await;
}

#[tokio::test]
async fn a_service_that_shuts_down_answers_503_and_goes_on_telling_about_runs() {
    let world = World::start_idle().await;
    let hook = world.hook(json!({})).await;
    let accepted = content(world.post(&hook.url).send().await.unwrap(), 202).await;
    world.webhooks.stop_accepting();
    let response = world.post(&hook.url).send().await.unwrap();
    assert!(retry_after(&response) >= 1);
    problem(response, 503, "shutting-down").await;
    let status = world.get(accepted["status_url"].as_str().unwrap()).bearer_auth(hook.token());
    assert_eq!(content(status.send().await.unwrap(), 200).await["state"], "queued");
    problem(world.get(&format!("{}/readyz", world.base)).send().await.unwrap(), 503, "shutting-down").await;
    content(world.get(&format!("{}/healthz", world.base)).send().await.unwrap(), 200).await;
}
