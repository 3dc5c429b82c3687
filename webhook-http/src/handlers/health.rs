//! Whether the process lives, and whether it takes calls.

use http::StatusCode;
use serde_json::{Value, json};
use webhook_core::WorkHealth;

use crate::api::Api;
use crate::contract::problem::{Problem, Slug};
use crate::response::answer::{Answer, json as answer_json};

/// 200 while the process lives and its store can be written.
pub(crate) async fn health(api: &Api) -> Result<Answer, Problem> {
    match api.webhooks().health().await {
        Ok(_) => Ok(answer_json(StatusCode::OK, &status(api.webhooks().work_health()))),
        Err(error) => Err(unhealthy("the store is not healthy").caused_by(&error)),
    }
}

/// What a healthy process says: calls are taken, although some of its work may be stuck.
fn status(work: WorkHealth) -> Value {
    let mut status = json!({"status": "ok"});
    if work.is_stuck() {
        status["stuck"] = json!({
            "blocked_executors": work.blocked_executors,
            "unrecorded_outcomes": work.unrecorded_outcomes,
        });
    }
    status
}

/// 200 while calls are accepted as well, and the store has room for their runs.
pub(crate) async fn ready(api: &Api) -> Result<Answer, Problem> {
    if !api.webhooks().is_accepting() {
        return Err(Problem::new(Slug::ShuttingDown));
    }
    match api.webhooks().health().await {
        Ok(health) if health.is_full => Err(unhealthy("the store has no room for further runs")),
        _ => health(api).await,
    }
}

fn unhealthy(detail: &str) -> Problem {
    Problem::new(Slug::StoreUnavailable).with_detail(detail)
}
