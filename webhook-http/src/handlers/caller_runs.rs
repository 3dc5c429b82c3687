//! Runs for callers. A token gives access to the runs of its own webhook only.

use std::sync::Arc;

use http::StatusCode;
use webhook_core::error::Resource;
use webhook_core::id::RunId;
use webhook_core::run::Run;

use crate::capacity::room::Working;
use crate::capacity::shares::Share;
use crate::contract::problem::Problem;
use crate::handlers::large::written;
use crate::handlers::{artifact, log};
use crate::request::head::Head;
use crate::response::answer::{Answer, json};
use crate::state::State;

/// A run, with the permits to read it, held until the answer is written.
struct Found {
    run: Arc<Run>,
    _turn: Share,
    _working: Option<Working>,
}

async fn find(state: &State, head: &Head) -> Result<Found, Problem> {
    let call = head.call()?;
    let webhook = state.webhooks.find_webhook(&call).await?.id;
    if let Some(room) = &head.room {
        room.belongs_to(webhook);
    }
    let turn = state.reads.turn(webhook, head.room.as_ref()).await?;
    let working = head.work().await?;
    // The token was right, so an ill-formed id is looked up like any other id without a run.
    let id = head.route.run().unwrap_or(RunId::from_bytes([0; 16]));
    let run = state.webhooks.find_run(call, id).await?;
    let run = run.ok_or_else(|| Problem::not_found(Resource::Run))?;
    Ok(Found { run, _turn: turn, _working: working })
}

/// Handles `GET /api/v1/{kind}/{workflow_id}/runs/{run_id}`: the whole run.
pub(crate) async fn read(state: &Arc<State>, head: &Head) -> Result<Answer, Problem> {
    let found = find(state, head).await?;
    let (state, run, bytes) = (state.clone(), found.run.clone(), found.run.bytes_in_memory());
    let write = move || json(StatusCode::OK, &state.links().caller_run(&run));
    Ok(written(bytes, write).await)
}

/// Handles `GET …/log`: its log as text.
pub(crate) async fn log(state: &State, head: &Head) -> Result<Answer, Problem> {
    let found = find(state, head).await?;
    log::answer(state, found.run.id(), head).await
}

/// Handles `GET …/artifacts/{name}`: the content of an artifact.
pub(crate) async fn artifact(state: &State, head: &Head) -> Result<Answer, Problem> {
    let found = find(state, head).await?;
    artifact::answer(state, &found.run, head.route.artifact()).await
}
