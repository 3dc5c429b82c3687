//! Senders of a webhook's calls: their secrets, samples of their calls, and the senders that are known.

use http::{StatusCode, header};
use webhook_core::manage::PreviewProblem;

use crate::contract::problem::Problem;
use crate::contract::slug::Slug;
use crate::contract::wire::page::Page;
use crate::contract::wire::preset::Presets;
use crate::contract::wire::problem::ErrorItem;
use crate::contract::wire::recipe::Recipes;
use crate::contract::wire::sender::{NewSecret, PreviewView, Sample, SecretToStore, SecretView};
use crate::request::head::{Head, Request};
use crate::response::answer::{Answer, json, no_content, set};
use crate::state::State;

/// `GET /webhooks/{id}/secrets`, newest first; never the secrets themselves.
pub(crate) async fn list(state: &State, head: &Head) -> Result<Answer, Problem> {
    let webhook = state.webhooks.manage().get_webhook(head.route.webhook()?).await?;
    let mut written = Page::new();
    for secret in webhook.secrets.iter().rev() {
        // There are at most two.
        let _ = written.push(&SecretView::new(secret));
    }
    Ok(written.into_answer(None::<String>))
}

/// `POST /webhooks/{id}/secrets`: stores the given secret, or a new one, which is shown this once.
pub(crate) async fn add(state: &State, request: &mut Request<'_>) -> Result<Answer, Problem> {
    let id = request.head.route.webhook()?;
    let secret: SecretToStore = request.object(state.limits()).await?;
    let secret = secret.read().map_err(Problem::fields)?.map(zeroize::Zeroizing::new);
    let added = state.webhooks.manage().add_secret(id, secret.as_deref().map(String::as_str)).await?;
    let mut answer = json(StatusCode::CREATED, &NewSecret::new(&added));
    set(&mut answer, header::LOCATION, &state.links().secret(id, added.record.id));
    Ok(answer)
}

/// Handles `DELETE /webhooks/{id}/secrets/{secret_id}`.
pub(crate) async fn remove(state: &State, request: &mut Request<'_>) -> Result<Answer, Problem> {
    let (id, secret) = (request.head.route.webhook()?, request.head.route.secret()?);
    request.no_fields(state.limits()).await?;
    state.webhooks.manage().remove_secret(id, secret).await?;
    Ok(no_content())
}

/// `POST /webhooks/{id}/preview`: the way of a sample through the settings.
pub(crate) async fn preview(state: &State, request: &mut Request<'_>) -> Result<Answer, Problem> {
    let id = request.head.route.webhook()?;
    let sample: Sample = request.object(state.limits()).await?;
    let sample = sample.read().map_err(Problem::fields)?;
    let mut preview = state.webhooks.manage().preview_call(id, &sample).await?;
    let problems = std::mem::take(&mut preview.problems).into_iter().map(item).collect();
    Ok(json(StatusCode::OK, &PreviewView::new(&preview, problems)))
}

fn item(problem: PreviewProblem) -> ErrorItem {
    match problem {
        PreviewProblem::Parameter(problem) => ErrorItem::from(&problem),
        PreviewProblem::Setting(problem) => ErrorItem::from(&problem),
        PreviewProblem::Call(error) => Problem::from(error).into_item(),
        // A kind that this front end does not know.
        _ => Problem::new(Slug::SettingsInvalid).into_item(),
    }
}

/// Handles `GET /presets`.
pub(crate) fn presets() -> Answer {
    json(StatusCode::OK, &Presets::all())
}

/// Handles `GET /recipes`.
pub(crate) fn recipes() -> Answer {
    json(StatusCode::OK, &Recipes::all())
}
