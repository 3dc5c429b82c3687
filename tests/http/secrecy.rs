//! Tests that a token and a secret value appear in no log, even at the level TRACE.

#![allow(clippy::unwrap_used, reason = "a test fails by a panic")]

#[path = "front/warp.rs"]
mod front;
mod support;

use std::io::{self, Write};
use std::sync::Arc;

use parking_lot::Mutex;
use reqwest::Method;
use serde_json::json;
use tracing_subscriber::filter::LevelFilter;
use tracing_subscriber::fmt::MakeWriter;
use webhook_testing::Step;

use support::{ADMIN, World, content};

/// Collects all log lines.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl Write for Log {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().extend_from_slice(bytes);
        Ok(bytes.len())
    }
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for Log {
    type Writer = Self;
    fn make_writer(&'a self) -> Self {
        self.clone()
    }
}

#[tokio::test]
async fn neither_tokens_nor_secret_values_are_logged() {
    let log = Log::default();
    tracing_subscriber::fmt().with_max_level(LevelFilter::TRACE).with_writer(log.clone()).init();
    let mut world = World::start().await;
    let hook = world.hook(json!({})).await;
    world.executor.script_next([Step::FailRetryable("try again without canary-password".into())]);
    let secret = json!({"password": "canary-password"});
    let accepted = content(world.post(&hook.url).json(&secret).send().await.unwrap(), 202).await;
    world.ended(&accepted).await;
    for request in [
        world.get(&hook.with("count=x")),
        world.get(&hook.with("x=%zz")),
        world.post(&hook.url).json(&json!({"password": ["canary-password"]})),
        world.post(&hook.url).body("{\"password\": \"canary-password\""),
        world.post(&hook.url).bearer_auth("canary-second-token"),
        world.get(&format!("{}?token=whk_canary-wrong-token", hook.bare())),
        world.get(&format!("{}/nothing?token={}", world.base, hook.token())),
        world.client.put(&hook.url),
        world.client.request(Method::from_bytes(hook.token().as_bytes()).unwrap(), &hook.url),
        world.client.get(&hook.url).header("x-request-id", hook.token()),
        world.client.get(&hook.url).header("user-agent", hook.token()).header("traceparent", hook.token()),
        world.get(accepted["status_url"].as_str().unwrap()).bearer_auth(hook.token()),
        world.get(&format!("{}?token={}", accepted["status_url"].as_str().unwrap(), hook.token())),
        world.admin(Method::GET, &format!("/webhooks/{}/url", hook.id)),
        world.admin(Method::GET, "/runs?token=canary-in-a-query"),
        world.admin(Method::GET, &format!("/webhooks/{}/calls", hook.id)),
        world.admin(Method::POST, &format!("/webhooks/{}/run", hook.id)).json(&json!({"parameters": secret})),
        world.client.get(format!("{}/admin/api/v1/runs", world.base)).bearer_auth("canary-admin-guess"),
    ] {
        request.send().await.unwrap();
    }
    world.tell_to_stop();
    world.served().await;
    let logged = String::from_utf8_lossy(&log.0.lock()).into_owned();
    assert!(logged.contains("answered"), "nothing was logged, so nothing was shown");
    assert!(logged.contains("webhook::calls"), "calls are traced");
    for secret in ["canary", hook.token(), ADMIN, "whk_"] {
        if let Some(line) = logged.lines().find(|line| line.contains(secret)) {
            panic!("{secret} is in the log: {line}");
        }
    }
}
