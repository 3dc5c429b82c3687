//! Whether the process lives, and whether it takes calls.

use http::StatusCode;
use serde_json::json;
use webhook_core::error::chain;

use crate::answer::{Answer, json as answer_json};
use crate::api::Api;
use crate::problem::{Problem, Slug};

/// 200 while the process lives and its store can be written.
pub(crate) async fn health(api: &Api) -> Result<Answer, Problem> {
    match api.webhooks().health().await {
        Ok(_) => Ok(answer_json(StatusCode::OK, &json!({"status": "ok"}))),
        Err(error) => {
            tracing::error!(error = chain(&error), "the store is not healthy");
            Err(Problem::new(Slug::StoreUnavailable).with_detail("the store is not healthy"))
        }
    }
}

/// 200 while calls are accepted as well.
pub(crate) async fn ready(api: &Api) -> Result<Answer, Problem> {
    if !api.webhooks().is_accepting() {
        return Err(Problem::new(Slug::ShuttingDown));
    }
    health(api).await
}
