//! Health checks `/healthz` and `/readyz`, and the client as the server sees it.

use http::StatusCode;

use crate::contract::problem::Problem;
use crate::contract::slug::Slug;
use crate::contract::wire::service::{Client, Health};
use crate::headers;
use crate::request::head::Head;
use crate::response::answer::{Answer, json};
use crate::state::State;

/// Handles `/healthz`: 200 while the process runs and its store can be written.
pub(crate) async fn health(state: &State) -> Result<Answer, Problem> {
    match state.webhooks.health().await {
        Ok(_) => Ok(json(StatusCode::OK, &Health::new(state.webhooks.work_health()))),
        Err(error) => Err(unhealthy("the store is not healthy").caused_by(&error)),
    }
}

/// Handles `/readyz`: 200 while calls are accepted too, and the store has room for their runs.
pub(crate) async fn ready(state: &State) -> Result<Answer, Problem> {
    if !state.webhooks.is_accepting() {
        return Err(Problem::new(Slug::ShuttingDown));
    }
    match state.webhooks.health().await {
        Ok(health) if health.is_full => Err(unhealthy("the store has no room for further runs")),
        _ => health(state).await,
    }
}

/// Handles `GET /client`.
pub(crate) fn client(head: &Head) -> Answer {
    let forwarded = headers::is_forwarded(&head.headers);
    json(StatusCode::OK, &Client { address: head.peer, connection: head.connection, forwarded })
}

fn unhealthy(detail: &str) -> Problem {
    Problem::new(Slug::StoreUnavailable).with_detail(detail)
}
