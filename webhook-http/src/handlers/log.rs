//! Logs of runs.

use http::StatusCode;
use webhook_core::id::RunId;

use crate::contract::fields;
use crate::contract::problem::Problem;
use crate::headers;
use crate::request::head::Head;
use crate::request::query::QueryFields;
use crate::response::answer::{Answer, set, with_body};
use crate::state::State;

/// Returns the log from `?offset=N` on, as text.
///
/// `Webhook-Log-Offset` says where the text starts: later than asked if older lines were dropped. `Webhook-Log-End` is
/// the offset to continue with.
pub(crate) async fn answer(state: &State, run: RunId, head: &Head) -> Result<Answer, Problem> {
    let mut query = QueryFields::read(&head.query, state.limits().query_bytes)?;
    let offset = query.take(&fields::OFFSET).unwrap_or(0);
    query.finish()?;
    let part = state.webhooks.manage().read_log(run, offset).await?;
    let (start, end) = (part.offset, part.end());
    let mut answer = with_body(StatusCode::OK, "text/plain; charset=utf-8", part.text);
    set(&mut answer, headers::LOG_OFFSET, &start.to_string());
    set(&mut answer, headers::LOG_END, &end.to_string());
    Ok(answer)
}
