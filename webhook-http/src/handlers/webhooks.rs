//! Webhooks: list, create, read, change, delete; their URLs; runs by hand and test notifications.

use http::{StatusCode, header};
use webhook_core::id::WebhookId;
use webhook_core::store::WebhookQuery;
use webhook_core::webhook::Webhook;

use crate::contract::fields;
use crate::contract::problem::Problem;
use crate::contract::slug::Slug;
use crate::contract::wire::delivery::TestedNotifications;
use crate::contract::wire::page::Page;
use crate::contract::wire::request::{NewRun, NewWebhook};
use crate::contract::wire::settings::SettingsPatch;
use crate::contract::wire::webhook::{CreatedWebhook, Url, WebhookView};
use crate::handlers::runs;
use crate::headers::{self, Expected};
use crate::request::head::{Head, Request};
use crate::request::query::QueryFields;
use crate::response::answer::{Answer, json, no_content, set};
use crate::state::State;

/// Handles `GET /webhooks`: all, or those of `?workflow=kind/id`, newest first.
pub(crate) async fn list(state: &State, head: &Head) -> Result<Answer, Problem> {
    let mut given = QueryFields::read(&head.query, state.limits().query_bytes)?;
    let workflow = given.take(&fields::WORKFLOW);
    let before = given.take(&fields::cursor());
    let limit = given.limit();
    given.finish()?;
    let query = WebhookQuery::default().before(before).limit(limit);
    let query = match workflow {
        Some(workflow) => query.of_workflow(workflow),
        None => query,
    };
    let listed = state.webhooks.manage().list_webhooks(query).await?;
    let (mut written, mut next) = (Page::new(), listed.next);
    for (place, webhook) in listed.items.iter().enumerate() {
        if !written.push(&WebhookView::new(webhook)) {
            next = Some(listed.items[place - 1].id);
            break;
        }
    }
    Ok(written.into_answer(next))
}

/// Handles `POST /webhooks`: creates a webhook of a workflow, with settings.
pub(crate) async fn create(state: &State, request: &mut Request<'_>) -> Result<Answer, Problem> {
    let new: NewWebhook = request.object(state.limits()).await?;
    let (workflow, patch) = new.read().map_err(Problem::fields)?;
    let created = state.webhooks.manage().create_webhook_from_patch(workflow, &patch).await?;
    let content = CreatedWebhook { url: created.url.expose(), webhook: WebhookView::new(&created.webhook) };
    let mut answer = json(StatusCode::CREATED, &content);
    set(&mut answer, header::LOCATION, &state.links().webhook(created.webhook.id));
    Ok(tagged(answer, &created.webhook))
}

/// Handles `GET /webhooks/{id}`: its record.
pub(crate) async fn read(state: &State, head: &Head) -> Result<Answer, Problem> {
    let webhook = state.webhooks.manage().get_webhook(head.route.webhook()?).await?;
    Ok(record(&webhook))
}

/// Handles `PATCH /webhooks/{id}`: a JSON merge patch (RFC 7396) of the settings.
pub(crate) async fn change(state: &State, request: &mut Request<'_>) -> Result<Answer, Problem> {
    let id = request.head.route.webhook()?;
    let SettingsPatch(patch) = request.object(state.limits()).await?;
    let expected = expected_revision(state, id, &request.head).await?;
    let webhook = state.webhooks.manage().update_webhook(id, &patch.into(), expected).await?;
    Ok(record(&webhook))
}

/// Handles `DELETE /webhooks/{id}`: its history stays.
pub(crate) async fn delete(state: &State, request: &mut Request<'_>) -> Result<Answer, Problem> {
    let id = request.head.route.webhook()?;
    request.no_fields(state.limits()).await?;
    let expected = expected_revision(state, id, &request.head).await?;
    state.webhooks.manage().delete_webhook(id, expected).await?;
    Ok(no_content())
}

/// Handles `GET /webhooks/{id}/url`: the URL with its token.
pub(crate) async fn url(state: &State, head: &Head) -> Result<Answer, Problem> {
    let url = state.webhooks.manage().get_url(head.route.webhook()?).await?;
    Ok(json(StatusCode::OK, &Url { url: url.expose() }))
}

/// Handles `POST /webhooks/{id}/refresh-token`: the old URL stops at once.
pub(crate) async fn refresh_token(state: &State, request: &mut Request<'_>) -> Result<Answer, Problem> {
    let id = request.head.route.webhook()?;
    request.no_fields(state.limits()).await?;
    let expected = expected_revision(state, id, &request.head).await?;
    let refreshed = state.webhooks.manage().refresh_token(id, expected).await?;
    let answer = json(StatusCode::OK, &Url { url: refreshed.url.expose() });
    Ok(tagged(answer, &refreshed.webhook))
}

/// Handles `POST /webhooks/{id}/run`: a run by hand, with these parameters over the blocks' defaults.
pub(crate) async fn run(state: &State, request: &mut Request<'_>) -> Result<Answer, Problem> {
    let id = request.head.route.webhook()?;
    let new: NewRun = request.object(state.limits()).await?;
    let parameters = new.read().map_err(Problem::fields)?;
    let started = state.webhooks.manage().start_run(id, parameters, request.head.caller()).await?;
    Ok(runs::accepted(state, &started.run, &started.warnings))
}

/// Handles `POST /webhooks/{id}/test-notification`: a test message to each recipient.
pub(crate) async fn test_notification(state: &State, request: &mut Request<'_>) -> Result<Answer, Problem> {
    let id = request.head.route.webhook()?;
    request.no_fields(state.limits()).await?;
    let tested = state.webhooks.manage().test_notifications(id).await?;
    Ok(json(StatusCode::OK, &TestedNotifications::new(&tested)))
}

/// Returns the revision that `If-Match` requires: the current one, if it is among several.
async fn expected_revision(state: &State, id: WebhookId, head: &Head) -> Result<Option<u64>, Problem> {
    let Expected::Revisions(revisions) = headers::if_match(&head.headers) else { return Ok(None) };
    let present = state.webhooks.manage().get_webhook(id).await?.revision;
    if revisions.contains(&present) {
        return Ok(Some(present));
    }
    let detail = format!("the webhook has revision {present} now; read it again");
    Err(Problem::new(Slug::PreconditionFailed).with_detail(detail))
}

fn record(webhook: &Webhook) -> Answer {
    tagged(json(StatusCode::OK, &WebhookView::new(webhook)), webhook)
}

fn tagged(mut answer: Answer, webhook: &Webhook) -> Answer {
    set(&mut answer, header::ETAG, &headers::entity_tag(webhook.revision));
    answer
}
