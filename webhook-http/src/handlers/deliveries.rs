//! Notifications of all runs: list them, and send one or many again.

use std::cmp::Reverse;
use std::collections::HashMap;
use std::collections::hash_map::Entry;

use http::StatusCode;
use webhook_core::id::{DeliveryId, RunId, WorkflowKey};
use webhook_core::manage::ManagementError;
use webhook_core::notifier::Delivery;
use webhook_core::store::{self, DeliveryQuery};

use crate::contract::fields;
use crate::contract::problem::Problem;
use crate::contract::wire::delivery::{Channels, DeliveryView, ResentDeliveries};
use crate::contract::wire::page::Page;
use crate::contract::wire::request::ResendDeliveries;
use crate::contract::wire::value::Detail;
use crate::request::head::{Head, Request};
use crate::request::query::QueryFields;
use crate::response::answer::{Answer, json};
use crate::state::State;

/// Upper bound on the deliveries that one request makes due again.
const MOST_RESENT: usize = 1_000;

/// Handles `GET /channels`: channels, and whether the host serves them.
pub(crate) fn channels(state: &State) -> Answer {
    json(StatusCode::OK, &Channels::new(&state.webhooks.manage().list_channels()))
}

/// Handles `GET /deliveries`: by state, channel and run, newest first.
pub(crate) async fn list(state: &State, head: &Head) -> Result<Answer, Problem> {
    let mut given = QueryFields::read(&head.query, state.limits().query_bytes)?;
    let run = given.take(&fields::RUN_OF_DELIVERIES);
    let query = DeliveryQuery::default()
        .in_state(given.take(&fields::DELIVERY_STATE))
        .through(given.take(&fields::CHANNEL))
        .before(given.take(&fields::cursor()))
        .limit(given.limit());
    given.finish()?;
    let found = match run {
        Some(run) => of_run(state, run, query).await?,
        None => state.webhooks.manage().find_deliveries(query).await?,
    };
    let workflows = workflows(state, &found.items).await?;
    let (mut written, mut next) = (Page::new(), found.next);
    for (place, delivery) in found.items.iter().enumerate() {
        let workflow = workflows.get(&delivery.run);
        if !written.push(&DeliveryView::new(delivery, Detail::Excerpt).of_workflow(workflow)) {
            next = Some(found.items[place - 1].id);
            break;
        }
    }
    Ok(written.into_answer(next))
}

/// Returns the deliveries of one run, which are few, so they are filtered here.
async fn of_run(
    state: &State,
    run: RunId,
    query: DeliveryQuery,
) -> Result<store::Page<Delivery, DeliveryId>, Problem> {
    let mut items = state.webhooks.manage().list_deliveries(run).await?;
    let is_older = |delivery: &Delivery| query.before.is_none_or(|before| delivery.id < before);
    items.retain(|delivery| query.matches(delivery) && is_older(delivery));
    items.sort_unstable_by_key(|delivery| Reverse(delivery.id));
    Ok(store::Page::cut(items, query.limit, |delivery| delivery.id))
}

/// Returns the workflow of each run in `deliveries`. Runs are read one at a time, since their parameters may be large.
async fn workflows(state: &State, deliveries: &[Delivery]) -> Result<HashMap<RunId, WorkflowKey>, Problem> {
    let mut workflows = HashMap::new();
    for delivery in deliveries {
        let Entry::Vacant(place) = workflows.entry(delivery.run) else { continue };
        match state.webhooks.manage().get_run(delivery.run).await {
            Ok(run) => {
                place.insert(run.workflow().clone());
            }
            // The run has been pruned since.
            Err(ManagementError::NotFound(_)) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(workflows)
}

/// Handles `POST /deliveries/{id}/resend`: makes one due again.
pub(crate) async fn resend(state: &State, request: &mut Request<'_>) -> Result<Answer, Problem> {
    let id = request.head.route.delivery()?;
    request.no_fields(state.limits()).await?;
    let delivery = state.webhooks.manage().resend_delivery(id).await?;
    Ok(json(StatusCode::OK, &DeliveryView::new(&delivery, Detail::Full)))
}

/// Handles `POST /deliveries/resend`: those that fit the filter, newest first, a bounded number at a time.
pub(crate) async fn resend_all(state: &State, request: &mut Request<'_>) -> Result<Answer, Problem> {
    let given: ResendDeliveries = request.object(state.limits()).await?;
    let resend = given.read().map_err(Problem::fields)?;
    let query = DeliveryQuery::default()
        .in_state(Some(resend.state))
        .through(resend.channel)
        .before(resend.before)
        .limit(MOST_RESENT);
    let resent = state.webhooks.manage().resend_deliveries(query, resend.dry_run).await?;
    let content = ResentDeliveries { done: resent.done, matched: resent.matched, next_cursor: resent.next };
    Ok(json(StatusCode::OK, &content))
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};
    use webhook_core::Webhooks;
    use webhook_core::memory::MemoryStore;
    use webhook_testing::{RecordingNotifier, ScriptedExecutor};

    use super::*;
    use crate::access::gate::AdminAccess;

    async fn listed(notifiers: usize) -> Value {
        let mut builder = Webhooks::builder().store(MemoryStore::new()).executor(ScriptedExecutor::new([]));
        for _ in 0..notifiers {
            builder = builder.notifier(RecordingNotifier::new());
        }
        let state = State::new(builder.build().await.unwrap(), AdminAccess::Open);
        let body = channels(&state).into_body().into_bytes().unwrap();
        serde_json::from_slice(&body).unwrap()
    }

    #[tokio::test]
    async fn each_channel_is_listed_once_with_whether_a_notifier_serves_it() {
        let expected = |available: bool| {
            json!({"items": [
                {"channel": "email", "available": available}, {"channel": "slack", "available": available},
            ]})
        };
        assert_eq!(listed(0).await, expected(false));
        assert_eq!(listed(2).await, expected(true));
    }
}
