//! `/metrics`: the counters of the service in the text format of Prometheus.

use std::fmt;
use std::sync::Arc;

use http::StatusCode;
use metrics::{describe_gauge, gauge};
use webhook_core::error::chain;

use crate::response::answer::{Answer, with_body};
use crate::state::State;

/// Renders the text of all metrics, from the recorder that the host has installed.
#[derive(Clone)]
pub(crate) struct Renderer(Arc<dyn Fn() -> String + Send + Sync>);

impl Renderer {
    pub(crate) fn new(render: impl Fn() -> String + Send + Sync + 'static) -> Self {
        describe_gauge!("webhook_runs_queued", "Runs that wait");
        describe_gauge!("webhook_runs_executing", "Runs that execute");
        describe_gauge!("webhook_deliveries_pending", "Notifications that are not delivered yet");
        Self(Arc::new(render))
    }
}

impl fmt::Debug for Renderer {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Renderer")
    }
}

/// Handles `GET /metrics`. Gauges are read now, so they cost calls nothing.
pub(crate) async fn metrics(state: &State, renderer: &Renderer) -> Answer {
    match state.webhooks.health().await {
        Ok(health) => {
            gauge!("webhook_runs_queued").set(health.queued as f64);
            gauge!("webhook_runs_executing").set(health.running as f64);
            gauge!("webhook_deliveries_pending").set(health.pending_deliveries as f64);
        }
        Err(error) => tracing::warn!(error = chain(&error), "the store cannot say how much is queued"),
    }
    with_body(StatusCode::OK, "text/plain; version=0.0.4; charset=utf-8", (renderer.0)())
}
