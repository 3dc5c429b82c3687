//! Tests that every metric can be read, and that no label names a webhook, a run or a token.

#![allow(clippy::unwrap_used, reason = "a test fails by a panic")]

#[path = "front/warp.rs"]
mod front;
mod support;

use std::time::Duration;

use metrics_exporter_prometheus::PrometheusBuilder;
use serde_json::json;
use webhook_http::{AdminAccess, Api};
use webhook_testing::Step;
use webhook_warp::server::Server;

use support::{World, content};

#[tokio::test]
async fn calls_attempts_and_runs_are_counted_by_outcome_without_ids() {
    let handle = PrometheusBuilder::new().install_recorder().unwrap();
    let world = World::start().await;
    let settings = json!({"notifications": {"email": {"recipients": ["a@example.com"], "on": ["failure"]}}});
    let hook = world.hook(settings).await;
    world.executor.script_next([Step::FailFatal("no".into())]);
    let failed = content(world.post(&hook.url).send().await.unwrap(), 202).await;
    world.ended(&failed).await;
    let call = || world.post(&hook.url).header("idempotency-key", "k");
    let accepted = content(call().send().await.unwrap(), 202).await;
    world.ended(&accepted).await;
    content(call().send().await.unwrap(), 202).await;
    content(world.post(&hook.url).header("webhook-dry-run", "true").send().await.unwrap(), 200).await;
    content(world.post(hook.bare()).send().await.unwrap(), 401).await;
    content(world.post(&hook.with("count=x")).send().await.unwrap(), 422).await;
    let unknown = world.client.get(format!("{}/admin/api/v1/runs", world.base));
    content(unknown.send().await.unwrap(), 401).await;

    let server = Server::bind(([127, 0, 0, 1], 0).into()).await.unwrap();
    let url = format!("http://{}/metrics", server.local_address().unwrap());
    let routes = webhook_warp::metrics_route(&world.webhooks, move || handle.render());
    tokio::spawn(server.serve(webhook_warp::service(routes), std::future::pending()));
    let expected = [
        "# HELP webhook_calls_total Trigger calls, by how they were answered",
        "# HELP webhook_runs_queued Runs that wait",
        "webhook_calls_total{outcome=\"accepted\"} 2",
        "webhook_calls_total{outcome=\"replayed\"} 1",
        "webhook_calls_total{outcome=\"dry-run\"} 1",
        "webhook_calls_total{outcome=\"unauthorized\"} 1",
        "webhook_calls_total{outcome=\"parameters-invalid\"} 1",
        "webhook_calls_total{outcome=\"queue-full\"} 0",
        "webhook_management_refusals_total{problem=\"unauthorized\"} 1",
        "webhook_management_refusals_total{problem=\"cross-site-refused\"} 0",
        "webhook_attempts_total{outcome=\"failed\"} 1",
        "webhook_attempts_total{outcome=\"succeeded\"} 1",
        "webhook_deliveries_total{outcome=\"delivered\"} 1",
        "webhook_channel_out{channel=\"email\"} 0",
        "webhook_run_duration_seconds_count 2",
        "webhook_runs_queued 0",
        "webhook_runs_executing 0",
        "webhook_deliveries_pending 0",
    ];
    // The last settling and the delivery are counted a moment after they become visible.
    let started = std::time::Instant::now();
    let text = loop {
        let response = world.get(&url).send().await.unwrap();
        assert_eq!(response.headers()["content-type"], "text/plain; version=0.0.4; charset=utf-8");
        let text = response.text().await.unwrap();
        let missing: Vec<_> = expected.iter().filter(|line| !text.lines().any(|it| it == **line)).collect();
        if missing.is_empty() {
            break text;
        }
        assert!(started.elapsed() < Duration::from_secs(20), "{missing:?} not in\n{text}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    };
    for secret in [hook.token(), &hook.id.to_string(), failed["run_id"].as_str().unwrap(), "sales"] {
        assert!(!text.contains(secret), "{secret}");
    }
    let without = Api::new(world.webhooks.clone(), AdminAccess::Open);
    assert!(without.route("/metrics").is_none(), "a host that hands in nothing has no such path");
}
