//! Webhooks: list, create, read, change, delete; their URLs; runs by hand and test notifications.

use http::{Method, StatusCode, header};
use serde_json::{Map, Value, json};
use webhook_core::id::{WebhookId, WorkflowKey};
use webhook_core::store::WebhookQuery;
use webhook_core::webhook::{SettingCode, SettingProblem, Webhook, WebhookSettings};

use crate::api::Api;
use crate::contract::problem::{Problem, Slug};
use crate::contract::route::WebhookPart;
use crate::contract::wire;
use crate::handlers::runs;
use crate::request::head::{Head, Request, refuse_unknown};
use crate::request::headers::{self, Expected};
use crate::request::query::QueryFields;
use crate::response::answer::{Answer, json as answer_json, no_content, set};
use crate::response::page::Page;

/// `GET /webhooks`: all, or those of `?workflow=kind/id`, newest first.
pub(crate) async fn list(api: &Api, head: &Head) -> Result<Answer, Problem> {
    let mut fields = QueryFields::read(head.query(), api.limits().query_bytes)?;
    let workflow: Option<WorkflowKey> = fields.take("workflow", "kind/id");
    let before = fields.take("cursor", "a cursor that this list gave out");
    let limit = fields.limit();
    fields.finish()?;
    let query = WebhookQuery::default().before(before).limit(limit);
    let query = match workflow {
        Some(workflow) => query.of_workflow(workflow),
        None => query,
    };
    let listed = api.webhooks().manage().list(query).await?;
    let (mut page, mut next) = (Page::new(), listed.next);
    for (place, webhook) in listed.items.iter().enumerate() {
        if !page.push(&wire::webhook(webhook)) {
            next = Some(listed.items[place - 1].id);
            break;
        }
    }
    Ok(page.answer(next.map(|cursor| cursor.to_string())))
}

/// `POST /webhooks`: settings and the workflow they are for.
pub(crate) async fn create(api: &Api, request: &mut Request<'_>) -> Result<Answer, Problem> {
    let mut given = request.object(api.limits()).await?;
    let workflow = read_workflow(given.remove("workflow"));
    let settings = WebhookSettings::default().patched(&Value::Object(given));
    let (workflow, settings) = match (workflow, settings) {
        (Ok(workflow), Ok(settings)) => (workflow, settings),
        (workflow, settings) => {
            let mut problems = workflow.err().unwrap_or_default();
            problems.extend(settings.err().unwrap_or_default());
            return Err(Problem::fields(problems));
        }
    };
    let created = api.webhooks().manage().create(workflow, settings).await?;
    let content = json!({"webhook": wire::webhook(&created.webhook), "url": created.url.expose()});
    let mut answer = answer_json(StatusCode::CREATED, &content);
    set(&mut answer, header::LOCATION, &api.links().webhook(created.webhook.id));
    Ok(tagged(answer, &created.webhook))
}

fn read_workflow(given: Option<Value>) -> Result<WorkflowKey, Vec<SettingProblem>> {
    let problem = |code, message| Err(vec![SettingProblem::new("workflow", code, message)]);
    let form = "an object with kind and id, such as {\"kind\": \"report\", \"id\": \"sales\"}, is expected";
    match given {
        None | Some(Value::Null) => problem(SettingCode::Required, form),
        Some(Value::Object(given)) => {
            let unknown = given.keys().filter(|name| !["kind", "id"].contains(&name.as_str()));
            let problems: Vec<_> = unknown
                .map(|name| {
                    SettingProblem::new(
                        format!("workflow.{name}"),
                        SettingCode::Unknown,
                        "there is no such field",
                    )
                })
                .collect();
            if !problems.is_empty() {
                return Err(problems);
            }
            serde_json::from_value(Value::Object(given)).or_else(|_| problem(SettingCode::Invalid, form))
        }
        Some(_) => problem(SettingCode::WrongType, form),
    }
}

/// Everything below `/webhooks/{id}`.
pub(crate) async fn one(
    api: &Api,
    id: WebhookId,
    part: WebhookPart,
    request: &mut Request<'_>,
) -> Result<Answer, Problem> {
    match part {
        WebhookPart::Record => match request.head.method {
            Method::PATCH => update(api, id, request).await,
            Method::DELETE => delete(api, id, request).await,
            _ => {
                let webhook = api.webhooks().manage().get(id).await?;
                Ok(tagged(answer_json(StatusCode::OK, &wire::webhook(&webhook)), &webhook))
            }
        },
        WebhookPart::Url => {
            let url = api.webhooks().manage().url(id).await?;
            Ok(answer_json(StatusCode::OK, &json!({"url": url.expose()})))
        }
        WebhookPart::RefreshToken => {
            request.no_fields(api.limits()).await?;
            let expected = expected_revision(api, id, &request.head).await?;
            let refreshed = api.webhooks().manage().refresh_token(id, expected).await?;
            let answer = answer_json(StatusCode::OK, &json!({"url": refreshed.url.expose()}));
            Ok(tagged(answer, &refreshed.webhook))
        }
        WebhookPart::Run => run(api, id, request).await,
        WebhookPart::TestNotification => {
            request.no_fields(api.limits()).await?;
            let tested = api.webhooks().manage().test_notifications(id).await?;
            let items: Vec<Value> = tested.iter().map(wire::tested).collect();
            Ok(answer_json(StatusCode::OK, &json!({"items": items})))
        }
    }
}

/// `PATCH`: a JSON merge patch (RFC 7396) of the settings.
async fn update(api: &Api, id: WebhookId, request: &mut Request<'_>) -> Result<Answer, Problem> {
    let patch = Value::Object(request.object(api.limits()).await?);
    let expected = expected_revision(api, id, &request.head).await?;
    let webhook = api.webhooks().manage().update(id, &patch, expected).await?;
    Ok(tagged(answer_json(StatusCode::OK, &wire::webhook(&webhook)), &webhook))
}

async fn delete(api: &Api, id: WebhookId, request: &mut Request<'_>) -> Result<Answer, Problem> {
    request.no_fields(api.limits()).await?;
    let expected = expected_revision(api, id, &request.head).await?;
    api.webhooks().manage().delete(id, expected).await?;
    Ok(no_content())
}

/// `POST …/run`: a run by hand, with these parameters over the blocks' defaults.
async fn run(api: &Api, id: WebhookId, request: &mut Request<'_>) -> Result<Answer, Problem> {
    let mut given = request.object(api.limits()).await?;
    let parameters = match given.remove("parameters") {
        None | Some(Value::Null) => Map::new(),
        Some(Value::Object(parameters)) => parameters,
        Some(_) => {
            let message = "an object of names and values is expected";
            return Err(Problem::fields(vec![SettingProblem::new(
                "parameters",
                SettingCode::WrongType,
                message,
            )]));
        }
    };
    refuse_unknown(&given)?;
    let started = api.webhooks().manage().run(id, parameters, request.head.caller()).await?;
    Ok(runs::accepted(api, &started.run, &started.warnings))
}

/// The revision that `If-Match` demands. Of several tags the one counts that is present now.
async fn expected_revision(api: &Api, id: WebhookId, head: &Head) -> Result<Option<u64>, Problem> {
    let Expected::Revisions(revisions) = headers::if_match(&head.headers) else { return Ok(None) };
    let present = api.webhooks().manage().get(id).await?.revision;
    if revisions.contains(&present) {
        return Ok(Some(present));
    }
    let detail = format!("the webhook has revision {present} now; read it again");
    Err(Problem::new(Slug::PreconditionFailed).with_detail(detail))
}

fn tagged(mut answer: Answer, webhook: &Webhook) -> Answer {
    set(&mut answer, header::ETAG, &headers::entity_tag(webhook.revision));
    answer
}
