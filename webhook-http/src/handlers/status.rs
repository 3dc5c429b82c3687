//! What can be read of a run: its record, its log and its artifacts.

use std::sync::Arc;

use http::StatusCode;
use webhook_core::error::Resource;
use webhook_core::id::RunId;
use webhook_core::run::Run;

use crate::api::Api;
use crate::contract::problem::Problem;
use crate::contract::route::{RunPart, WorkflowPath};
use crate::contract::wire;
use crate::handlers::artifact;
use crate::request::head::Head;
use crate::request::headers;
use crate::request::query::QueryFields;
use crate::response::answer::{Answer, json, set, with_body, written};

/// What a caller reads of a run of its own webhook, with that webhook's token. Another webhook's run is none.
pub(crate) async fn for_caller(
    api: &Api,
    workflow: &WorkflowPath,
    run: Option<RunId>,
    part: &RunPart,
    head: &Head,
) -> Result<Answer, Problem> {
    let call = head.call(workflow)?;
    let webhook = api.webhooks().find_webhook(&call).await?.id;
    if let Some(room) = &head.room {
        room.belongs_to(webhook);
    }
    let _turn = api.reads.turn(webhook, head.room.as_ref()).await?;
    let _working = head.work().await?;
    let id = run.unwrap_or(RunId::from_bytes([0; 16]));
    let run = api.webhooks().find_run(call, id).await?;
    let run = run.ok_or_else(|| Problem::not_found(Resource::Run))?;
    match part {
        RunPart::Record => {
            let (api, bytes) = (api.clone(), run.bytes_in_memory());
            let write = move || json(StatusCode::OK, &wire::RunView::for_caller(&run, api.links()));
            Ok(written(bytes, write).await)
        }
        RunPart::Log => log(api, &run, head).await,
        RunPart::Artifact(name) => artifact::answer(api, &run, name).await,
    }
}

/// The log from `?offset=N` on, as text. `Webhook-Log-Offset` says where the text starts, later than asked when
/// older lines were dropped; `Webhook-Log-End` is the offset to go on with.
pub(crate) async fn log(api: &Api, run: &Arc<Run>, head: &Head) -> Result<Answer, Problem> {
    let mut fields = QueryFields::read(head.query(), api.limits().query_bytes)?;
    let offset = fields.take("offset", "a whole number of bytes").unwrap_or(0);
    fields.finish()?;
    let part = api.webhooks().manage().log(run.id, offset).await?;
    let (start, end) = (part.offset, part.end());
    let mut answer = with_body(StatusCode::OK, "text/plain; charset=utf-8", part.text);
    set(&mut answer, headers::LOG_OFFSET, &start.to_string());
    set(&mut answer, headers::LOG_END, &end.to_string());
    Ok(answer)
}
