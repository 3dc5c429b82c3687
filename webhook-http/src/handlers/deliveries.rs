//! Notifications of all runs: list them, and send one or many again.

use std::cmp::Reverse;
use std::collections::HashMap;
use std::collections::hash_map::Entry;

use http::StatusCode;
use serde_json::{Map, Value, json};
use webhook_core::id::{DeliveryId, RunId, WorkflowKey};
use webhook_core::manage::ManagementError;
use webhook_core::notifier::{Delivery, DeliveryState};
use webhook_core::store::{self, DeliveryQuery};
use webhook_core::webhook::{Channel, SettingCode, SettingProblem};

use crate::api::Api;
use crate::contract::problem::Problem;
use crate::contract::wire::{DeliveryView, Detail};
use crate::request::head::{Head, Request};
use crate::request::query::QueryFields;
use crate::response::answer::{Answer, json as answer_json};
use crate::response::page::Page;

/// How many deliveries one request makes due again.
const MOST_RESENT: usize = 1_000;
const STATES: &str = "one of pending, delivered, given_up";
const CHANNELS: &str = "one of email, slack";
const CURSOR: &str = "a cursor that was given out here";

/// `GET /deliveries`: by state, channel and run, newest first.
pub(crate) async fn list(api: &Api, head: &Head) -> Result<Answer, Problem> {
    let mut fields = QueryFields::read(head.query(), api.limits().query_bytes)?;
    let run = fields.take("run", "the id of a run");
    let query = DeliveryQuery::default()
        .in_state(fields.take("state", STATES))
        .through(fields.take("channel", CHANNELS))
        .before(fields.take("cursor", CURSOR))
        .limit(fields.limit());
    fields.finish()?;
    let found = match run {
        Some(run) => of_run(api, run, query).await?,
        None => api.webhooks().manage().find_deliveries(query).await?,
    };
    let workflows = workflows(api, &found.items).await?;
    let (mut page, mut next) = (Page::new(), found.next);
    for (place, delivery) in found.items.iter().enumerate() {
        let workflow = workflows.get(&delivery.run);
        if !page.push(&DeliveryView::new(delivery, Detail::Excerpt).of_workflow(workflow)) {
            next = Some(found.items[place - 1].id);
            break;
        }
    }
    Ok(page.answer(next.map(|cursor| cursor.to_string())))
}

/// Returns the deliveries of one run, which are few, so they are filtered here.
async fn of_run(
    api: &Api,
    run: RunId,
    query: DeliveryQuery,
) -> Result<store::Page<Delivery, DeliveryId>, Problem> {
    let mut items = api.webhooks().manage().deliveries(run).await?;
    let is_older = |delivery: &Delivery| query.before.is_none_or(|before| delivery.id < before);
    items.retain(|delivery| query.matches(delivery) && is_older(delivery));
    items.sort_unstable_by_key(|delivery| Reverse(delivery.id));
    Ok(store::Page::cut(items, query.limit, |delivery| delivery.id))
}

/// Returns the workflow of each run that deliveries tell of. One run at a time is read: its parameters may be large.
async fn workflows(api: &Api, deliveries: &[Delivery]) -> Result<HashMap<RunId, WorkflowKey>, Problem> {
    let mut workflows = HashMap::new();
    for delivery in deliveries {
        let Entry::Vacant(place) = workflows.entry(delivery.run) else { continue };
        match api.webhooks().manage().run_record(delivery.run).await {
            Ok(run) => {
                place.insert(run.workflow.clone());
            }
            // It was pruned meanwhile.
            Err(ManagementError::NotFound(_)) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(workflows)
}

/// `POST /deliveries/{id}/resend`.
pub(crate) async fn resend(api: &Api, id: DeliveryId, request: &mut Request<'_>) -> Result<Answer, Problem> {
    request.no_fields(api.limits()).await?;
    let delivery = api.webhooks().manage().resend(id).await?;
    Ok(answer_json(StatusCode::OK, &DeliveryView::new(&delivery, Detail::Full)))
}

/// `POST /deliveries/resend`: those that fit the filter, newest first, a bounded number at a time.
pub(crate) async fn resend_all(api: &Api, request: &mut Request<'_>) -> Result<Answer, Problem> {
    let (query, dry_run) = read(request.object(api.limits()).await?).map_err(Problem::fields)?;
    let resent = api.webhooks().manage().resend_deliveries(query.limit(MOST_RESENT), dry_run).await?;
    let content = json!({"matched": resent.matched, "done": resent.done, "next_cursor": resent.next});
    Ok(answer_json(StatusCode::OK, &content))
}

fn read(mut given: Map<String, Value>) -> Result<(DeliveryQuery, bool), Vec<SettingProblem>> {
    let mut problems = Vec::new();
    let mut filter = match given.remove("filter") {
        Some(Value::Object(filter)) => filter,
        _ => {
            problems.push(SettingProblem::new(
                "filter",
                SettingCode::Required,
                "an object such as {\"state\": \"given_up\"}",
            ));
            Map::new()
        }
    };
    let state: Option<DeliveryState> = take(&mut filter, "filter.state", STATES, &mut problems);
    let channel: Option<Channel> = take(&mut filter, "filter.channel", CHANNELS, &mut problems);
    if state.is_none() && problems.is_empty() {
        let message = format!("{STATES} is needed, so that nobody is told twice by mistake");
        problems.push(SettingProblem::new("filter.state", SettingCode::Required, message));
    }
    let before: Option<DeliveryId> = take(&mut given, "cursor", CURSOR, &mut problems);
    let dry_run = match given.remove("dry_run") {
        None | Some(Value::Null) => false,
        Some(Value::Bool(dry_run)) => dry_run,
        Some(_) => {
            problems.push(SettingProblem::new(
                "dry_run",
                SettingCode::WrongType,
                "true or false is expected",
            ));
            true
        }
    };
    let unknown = |field: String| SettingProblem::new(field, SettingCode::Unknown, "there is no such field");
    problems.extend(filter.keys().map(|name| unknown(format!("filter.{name}"))));
    problems.extend(given.keys().map(|name| unknown(name.clone())));
    let query = DeliveryQuery::default().in_state(state).through(channel).before(before);
    if problems.is_empty() { Ok((query, dry_run)) } else { Err(problems) }
}

/// Takes a text of a known form, if it is there.
fn take<T: std::str::FromStr>(
    fields: &mut Map<String, Value>,
    path: &str,
    expected: &str,
    problems: &mut Vec<SettingProblem>,
) -> Option<T> {
    let name = path.rsplit('.').next().unwrap_or(path);
    let value = fields.remove(name).filter(|value| !value.is_null())?;
    let read = value.as_str().and_then(|text| text.parse().ok());
    if read.is_none() {
        problems.push(SettingProblem::new(path, SettingCode::Invalid, format!("{expected} is expected")));
    }
    read
}

#[cfg(test)]
mod tests {
    use super::*;

    fn named(given: Value) -> Vec<String> {
        let Value::Object(given) = given else { panic!("no object") };
        let problems = read(given).unwrap_err();
        problems.into_iter().map(|problem| problem.field).collect()
    }

    #[test]
    fn a_filter_names_a_state_and_nothing_unknown() {
        assert_eq!(named(json!({})), ["filter"]);
        assert_eq!(named(json!({"filter": {}})), ["filter.state"]);
        assert_eq!(named(json!({"filter": {"channel": "email"}})), ["filter.state"]);
        let wrong = json!({"filter": {"state": "lost", "channel": 5, "run": null}, "dry_run": 1, "cursor": "x", "y": null});
        let expected = ["filter.state", "filter.channel", "cursor", "dry_run", "filter.run", "y"];
        assert_eq!(named(wrong), expected);
        let given = json!({"filter": {"state": "given_up", "channel": "slack"}, "dry_run": true});
        let Value::Object(given) = given else { panic!("no object") };
        let (query, dry_run) = read(given).unwrap();
        assert_eq!((query.state, query.channel), (Some(DeliveryState::GivenUp), Some(Channel::Slack)));
        assert!(dry_run && query.before.is_none());
    }
}
