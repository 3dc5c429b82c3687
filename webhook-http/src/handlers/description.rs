//! The OpenAPI document.

use crate::contract::openapi;
use crate::request::head::Head;
use crate::response::answer::Answer;
use crate::state::State;

/// Handles `GET /api/v1/openapi.json`: the document, with the base URL of this service.
pub(crate) fn describe(state: &State, head: &Head) -> Answer {
    let rendered = state.description.get_or_init(|| openapi::rendered(state.webhooks.base_url()));
    rendered.answer(&head.headers)
}
