//! Runs: list, read, cancel, retry.

use std::sync::Arc;

use http::{StatusCode, header};
use serde_json::Value;
use webhook_core::id::RunId;
use webhook_core::parameters::ParameterWarning;
use webhook_core::run::{Run, RunState};
use webhook_core::store::RunQuery;

use crate::answer::{Answer, json, set};
use crate::api::Api;
use crate::problem::Problem;
use crate::query::QueryFields;
use crate::request::{Head, Request};
use crate::status;
use crate::{artifact as artifacts, wire};

/// `GET /runs`: by workflow, webhook and state, newest first.
pub(crate) async fn list(api: &Api, head: &Head) -> Result<Answer, Problem> {
    let mut fields = QueryFields::read(head.query(), api.limits().query_bytes)?;
    let states = RunState::ALL.map(RunState::as_str).join(", ");
    let query = RunQuery::default()
        .of_workflow(fields.take("workflow", "kind/id"))
        .of_webhook(fields.take("webhook", "the id of a webhook"))
        .in_state(fields.take("state", &format!("one of {states}")))
        .before(fields.take("cursor", "a cursor that this list gave out"))
        .limit(fields.limit());
    fields.finish()?;
    let page = api.webhooks().manage().runs(query).await?;
    let mut items = Vec::with_capacity(page.items.len());
    for run in &page.items {
        items.push(view(api, run).await?);
    }
    let next = page.next.map(|cursor| cursor.to_string());
    Ok(json(StatusCode::OK, &wire::page(items, next)))
}

/// `GET /runs/{id}`.
pub(crate) async fn get(api: &Api, id: RunId) -> Result<Answer, Problem> {
    let run = api.webhooks().manage().run_record(id).await?;
    Ok(json(StatusCode::OK, &view(api, &run).await?))
}

/// `GET /runs/{id}/log`.
pub(crate) async fn log(api: &Api, id: RunId, head: &Head) -> Result<Answer, Problem> {
    let run = api.webhooks().manage().run_record(id).await?;
    status::log(api, &run, head).await
}

/// `GET /runs/{id}/artifacts/{name}`.
pub(crate) async fn artifact(api: &Api, id: RunId, name: &str) -> Result<Answer, Problem> {
    let run = api.webhooks().manage().run_record(id).await?;
    artifacts::answer(api, &run, name).await
}

/// `POST /runs/{id}/cancel`: 200 with the run when it has ended so, 202 when it was told to stop.
pub(crate) async fn cancel(api: &Api, id: RunId, request: &mut Request<'_>) -> Result<Answer, Problem> {
    request.no_fields(api.limits()).await?;
    let run = api.webhooks().manage().cancel(id).await?;
    let status = if run.state.is_ended() { StatusCode::OK } else { StatusCode::ACCEPTED };
    Ok(json(status, &view(api, &run).await?))
}

/// `POST /runs/{id}/retry`: a new run like one that has ended.
pub(crate) async fn retry(api: &Api, id: RunId, request: &mut Request<'_>) -> Result<Answer, Problem> {
    request.no_fields(api.limits()).await?;
    let run = api.webhooks().manage().retry(id, request.head.caller()).await?;
    Ok(accepted(api, &run, &[]))
}

/// What starting a run by hand answers: the same as a trigger call. `Location` is where the run is managed, for
/// the status address asks for the webhook's token.
pub(crate) fn accepted(api: &Api, run: &Run, warnings: &[ParameterWarning]) -> Answer {
    let status_url = api.links().status(run);
    let mut answer = json(StatusCode::ACCEPTED, &wire::Accepted::new(run, &status_url, warnings));
    set(&mut answer, header::LOCATION, &api.links().run(run.id));
    answer
}

/// A run as it is listed.
pub(crate) async fn view(api: &Api, run: &Arc<Run>) -> Result<Value, Problem> {
    // Nobody is told of runs that have not ended, or that were cancelled or skipped.
    let deliveries = match run.state.event() {
        Some(_) => api.webhooks().manage().deliveries(run.id).await?,
        None => Vec::new(),
    };
    Ok(wire::run(run, &deliveries, api.links()))
}
