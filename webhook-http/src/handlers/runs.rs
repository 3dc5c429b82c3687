//! Runs: list, read, cancel, retry.

use std::collections::HashMap;
use std::sync::Arc;

use http::{StatusCode, header};
use webhook_core::id::RunId;
use webhook_core::manage::Management;
use webhook_core::notifier::Delivery;
use webhook_core::parameters::ParameterWarning;
use webhook_core::run::Run;
use webhook_core::store::RunQuery;

use crate::contract::fields;
use crate::contract::problem::Problem;
use crate::contract::wire::page::Page;
use crate::contract::wire::run::Accepted;
use crate::contract::wire::value::Detail;
use crate::handlers::large::written;
use crate::handlers::{artifact as artifacts, log as logs};
use crate::request::head::{Head, Request};
use crate::request::query::QueryFields;
use crate::response::answer::{Answer, json, set};
use crate::state::State;

/// Handles `GET /runs`: by workflow, webhook and state, newest first.
pub(crate) async fn list(state: &State, head: &Head) -> Result<Answer, Problem> {
    let mut given = QueryFields::read(&head.query, state.limits().query_bytes)?;
    let query = RunQuery::default()
        .of_workflow(given.take(&fields::WORKFLOW))
        .of_webhook(given.take(&fields::WEBHOOK))
        .in_state(given.take(&fields::RUN_STATE))
        .before(given.take(&fields::cursor()))
        .limit(given.limit());
    given.finish()?;
    let (runs, mut next) = excerpts(state, query).await?;
    let ids: Vec<RunId> = runs.iter().filter(|run| may_have_deliveries(run)).map(|run| run.id()).collect();
    let deliveries = if ids.is_empty() { Vec::new() } else { manage(state).list_deliveries_of(&ids).await? };
    let mut of_runs: HashMap<RunId, Vec<&Delivery>> = HashMap::new();
    for delivery in &deliveries {
        of_runs.entry(delivery.run).or_default().push(delivery);
    }
    let mut written = Page::new();
    for (place, run) in runs.iter().enumerate() {
        let deliveries = of_runs.get(&run.id()).into_iter().flatten().copied();
        if !written.push(&state.links().managed_run(run, deliveries, Detail::Excerpt)) {
            next = Some(runs[place - 1].id());
            break;
        }
    }
    Ok(written.into_answer(next))
}

/// Runs that are read first, before their size is known.
const FIRST_READ: usize = 8;
/// Upper bound on runs that are read at once.
const MOST_READ: usize = 128;
/// Memory that runs read at once should take, estimated from those before.
const READ_BYTES: usize = 8 * 1024 * 1024;

/// Reads a page of runs, and the cursor of the next. Long values are dropped before further runs are read.
async fn excerpts(state: &State, mut query: RunQuery) -> Result<(Vec<Arc<Run>>, Option<RunId>), Problem> {
    let limit = query.limit;
    let (mut runs, mut at_once) = (Vec::new(), FIRST_READ);
    loop {
        query = query.limit(at_once.min(limit - runs.len()));
        let page = manage(state).list_runs(query.clone()).await?;
        let largest = page.items.iter().map(|run| run.bytes_in_memory()).max().unwrap_or(0);
        at_once = (READ_BYTES / largest.max(1)).clamp(1, MOST_READ);
        runs.extend(page.items.iter().map(Run::excerpt));
        if page.next.is_none() || runs.len() >= limit {
            return Ok((runs, page.next));
        }
        query = query.before(page.next);
    }
}

fn manage(state: &State) -> Management<'_> {
    state.webhooks.manage()
}

/// Returns whether a run can have deliveries: live, cancelled and skipped runs have none.
fn may_have_deliveries(run: &Run) -> bool {
    run.state().event().is_some()
}

/// Handles `GET /runs/{id}`: a run with its deliveries.
pub(crate) async fn read(state: &Arc<State>, head: &Head) -> Result<Answer, Problem> {
    let run = state.webhooks.manage().get_run(head.route.run()?).await?;
    whole(state, StatusCode::OK, run).await
}

/// Handles `GET /runs/{id}/log`: its log as text.
pub(crate) async fn log(state: &State, head: &Head) -> Result<Answer, Problem> {
    let run = state.webhooks.manage().get_run(head.route.run()?).await?;
    logs::answer(state, run.id(), head).await
}

/// Handles `GET /runs/{id}/artifacts/{name}`: the content of an artifact.
pub(crate) async fn artifact(state: &State, head: &Head) -> Result<Answer, Problem> {
    let run = state.webhooks.manage().get_run(head.route.run()?).await?;
    artifacts::answer(state, &run, head.route.artifact()).await
}

/// Handles `POST /runs/{id}/cancel`: 200 if the run has ended, 202 if it was told to stop.
pub(crate) async fn cancel(state: &Arc<State>, request: &mut Request<'_>) -> Result<Answer, Problem> {
    let id = request.head.route.run()?;
    request.no_fields(state.limits()).await?;
    let run = state.webhooks.manage().cancel_run(id).await?;
    let status = if run.state().is_ended() { StatusCode::OK } else { StatusCode::ACCEPTED };
    whole(state, status, run).await
}

/// Handles `POST /runs/{id}/retry`: a new run like one that has ended.
pub(crate) async fn retry(state: &State, request: &mut Request<'_>) -> Result<Answer, Problem> {
    let id = request.head.route.run()?;
    request.no_fields(state.limits()).await?;
    let run = state.webhooks.manage().retry_run(id, request.head.caller()).await?;
    Ok(accepted(state, &run, &[]))
}

/// Returns the answer to starting a run by hand, in the form of a trigger call's.
///
/// Its address needs the admin token: people who manage runs may not have the webhook's.
pub(crate) fn accepted(state: &State, run: &Run, warnings: &[ParameterWarning]) -> Answer {
    let status_url = state.links().run(run.id());
    let mut answer = json(StatusCode::ACCEPTED, &Accepted::new(run, &status_url, warnings));
    set(&mut answer, header::LOCATION, &status_url);
    answer
}

/// Returns a whole run with its deliveries.
async fn whole(state: &Arc<State>, status: StatusCode, run: Arc<Run>) -> Result<Answer, Problem> {
    let deliveries =
        if may_have_deliveries(&run) { manage(state).list_deliveries(run.id()).await? } else { Vec::new() };
    let state = state.clone();
    let bytes = run.bytes_in_memory();
    let write = move || json(status, &state.links().managed_run(&run, &deliveries, Detail::Full));
    Ok(written(bytes, write).await)
}
