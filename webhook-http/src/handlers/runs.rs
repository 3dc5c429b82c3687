//! Runs: list, read, cancel, retry.

use std::collections::HashMap;
use std::sync::Arc;

use http::{StatusCode, header};
use webhook_core::id::RunId;
use webhook_core::manage::Management;
use webhook_core::notifier::Delivery;
use webhook_core::parameters::ParameterWarning;
use webhook_core::run::{Run, RunState};
use webhook_core::store::RunQuery;

use crate::api::Api;
use crate::contract::problem::Problem;
use crate::contract::wire::{self, Detail, RunView};
use crate::handlers::artifact as artifacts;
use crate::handlers::status;
use crate::request::head::{Head, Request};
use crate::request::query::QueryFields;
use crate::response::answer::{Answer, json, set, written};
use crate::response::page::Page;

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
    let (runs, mut next) = excerpts(api, query).await?;
    let ids: Vec<RunId> = runs.iter().filter(|run| may_have_deliveries(run)).map(|run| run.id).collect();
    let deliveries = if ids.is_empty() { Vec::new() } else { manage(api).deliveries_of(&ids).await? };
    let mut of_runs: HashMap<RunId, Vec<&Delivery>> = HashMap::new();
    for delivery in &deliveries {
        of_runs.entry(delivery.run).or_default().push(delivery);
    }
    let mut page = Page::new();
    for (place, run) in runs.iter().enumerate() {
        let deliveries = of_runs.get(&run.id).into_iter().flatten().copied();
        if !page.push(&RunView::managed(run, deliveries, api.links(), Detail::Excerpt)) {
            next = Some(runs[place - 1].id);
            break;
        }
    }
    Ok(page.answer(next.map(|cursor| cursor.to_string())))
}

/// How many runs are read first, before it is known how large they are.
const FIRST_READ: usize = 8;
/// How many are read at once when they are small.
const MOST_READ: usize = 128;
/// How much memory the runs that are read at once are to take, going by those before.
const READ_BYTES: usize = 8 * 1024 * 1024;

/// Reads a page of runs, of which long values are let go before more are read, and the cursor of the next.
async fn excerpts(api: &Api, mut query: RunQuery) -> Result<(Vec<Arc<Run>>, Option<RunId>), Problem> {
    let limit = query.limit;
    let (mut runs, mut at_once) = (Vec::new(), FIRST_READ);
    loop {
        query = query.limit(at_once.min(limit - runs.len()));
        let page = manage(api).runs(query.clone()).await?;
        let largest = page.items.iter().map(|run| run.bytes_in_memory()).max().unwrap_or(0);
        at_once = (READ_BYTES / largest.max(1)).clamp(1, MOST_READ);
        runs.extend(page.items.iter().map(Run::excerpt));
        if page.next.is_none() || runs.len() >= limit {
            return Ok((runs, page.next));
        }
        query = query.before(page.next);
    }
}

fn manage(api: &Api) -> Management<'_> {
    api.webhooks().manage()
}

/// Nobody is told of runs that have not ended, or that were cancelled or skipped.
fn may_have_deliveries(run: &Run) -> bool {
    run.state.event().is_some()
}

/// `GET /runs/{id}`.
pub(crate) async fn get(api: &Api, id: RunId) -> Result<Answer, Problem> {
    let run = api.webhooks().manage().run_record(id).await?;
    whole(api, StatusCode::OK, run).await
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
    whole(api, status, run).await
}

/// `POST /runs/{id}/retry`: a new run like one that has ended.
pub(crate) async fn retry(api: &Api, id: RunId, request: &mut Request<'_>) -> Result<Answer, Problem> {
    request.no_fields(api.limits()).await?;
    let run = api.webhooks().manage().retry(id, request.head.caller()).await?;
    Ok(accepted(api, &run, &[]))
}

/// Returns the answer to starting a run by hand, in the form of a trigger call's.
///
/// Its address is the one that asks for the admin token: who manages runs may not have the webhook's.
pub(crate) fn accepted(api: &Api, run: &Run, warnings: &[ParameterWarning]) -> Answer {
    let status_url = api.links().run(run.id);
    let mut answer = json(StatusCode::ACCEPTED, &wire::Accepted::new(run, &status_url, warnings));
    set(&mut answer, header::LOCATION, &status_url);
    answer
}

/// A whole run with its deliveries.
async fn whole(api: &Api, status: StatusCode, run: Arc<Run>) -> Result<Answer, Problem> {
    let deliveries =
        if may_have_deliveries(&run) { manage(api).deliveries(run.id).await? } else { Vec::new() };
    let api = api.clone();
    let bytes = run.bytes_in_memory();
    let write = move || json(status, &RunView::managed(&run, &deliveries, api.links(), Detail::Full));
    Ok(written(bytes, write).await)
}
