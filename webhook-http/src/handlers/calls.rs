//! The call log of a webhook: each call with its answer.

use http::{Method, StatusCode, header};
use webhook_core::calls::{CallFacts, CallOutcome};
use webhook_core::id::WebhookId;
use webhook_core::intake::Triggered;
use webhook_core::store::CallQuery;

use crate::contract::fields;
use crate::contract::problem::Problem;
use crate::contract::slug::Slug;
use crate::contract::wire::call::CallView;
use crate::contract::wire::page::Page;
use crate::handlers::runs;
use crate::headers;
use crate::meters::Answered;
use crate::request::head::{Head, Request, known_method};
use crate::request::query::QueryFields;
use crate::response::answer::Answer;
use crate::state::State;

/// Handles `GET /webhooks/{id}/calls`: its newest calls, newest first.
pub(crate) async fn list(state: &State, head: &Head) -> Result<Answer, Problem> {
    let webhook = head.route.webhook()?;
    let mut given = QueryFields::read(&head.query, state.limits().query_bytes)?;
    let before = given.take(&fields::cursor());
    let limit = given.limit();
    given.finish()?;
    let query = CallQuery::new(webhook).before(before).limit(limit);
    let listed = state.webhooks.manage().list_calls(query).await?;
    let (mut written, mut next) = (Page::new(), listed.next);
    for (place, call) in listed.items.iter().enumerate() {
        if !written.push(&CallView::new(call)) {
            next = Some(listed.items[place - 1].id);
            break;
        }
    }
    Ok(written.into_answer(next))
}

/// Handles `POST /webhooks/{id}/calls/{call_id}/replay`: a run from an accepted call, with the present settings.
pub(crate) async fn replay(state: &State, request: &mut Request<'_>) -> Result<Answer, Problem> {
    let (id, call) = (request.head.route.webhook()?, request.head.route.call()?);
    request.no_fields(state.limits()).await?;
    let started = state.webhooks.manage().replay_call(id, call, request.head.caller()).await?;
    Ok(runs::accepted(state, &started.run, &started.warnings))
}

/// A trigger call on its way to its answer: what the call log says besides the outcome.
#[derive(Debug)]
pub(crate) struct NotedCall {
    /// The called webhook, once its token was found valid.
    pub(crate) webhook: Option<WebhookId>,
    /// Bytes of the body that were read.
    pub(crate) body_bytes: u64,
    /// Status that the sender takes for success.
    pub(crate) success: StatusCode,
}

impl Default for NotedCall {
    fn default() -> Self {
        Self { webhook: None, body_bytes: 0, success: StatusCode::ACCEPTED }
    }
}

impl NotedCall {
    /// Counts, traces and logs how the call is answered: the only place that does, for every outcome.
    ///
    /// A call without a valid token belongs to no webhook, so no caller who guesses fills a log. The trace holds no text of the
    /// caller but the id of the request, which may hold no token.
    pub(crate) fn answered(&self, state: &State, head: &Head, decided: &Result<Triggered, Problem>) {
        let (method, success) = (known_method(&head.method), self.success.as_u16());
        let mut facts = CallFacts::new(method, success, CallOutcome::Refused);
        match decided {
            Ok(Triggered::Accepted { run, replayed, content, .. }) => {
                facts.content.clone_from(content);
                facts.outcome = if *replayed { CallOutcome::Replayed } else { CallOutcome::Accepted };
                facts.run_id = Some(run.id());
            }
            Ok(Triggered::DryRun { .. }) => (facts.outcome, facts.status) = (CallOutcome::DryRun, 200),
            Ok(Triggered::Handshake(_)) => (facts.outcome, facts.status) = (CallOutcome::Handshake, 200),
            Ok(Triggered::Ignored(condition)) => {
                (facts.outcome, facts.status) = (CallOutcome::Ignored, 200);
                // A condition is a setting, and holds nothing of the call.
                let condition = serde_json::to_string(condition).unwrap_or_default();
                facts.detail = Some(format!("this condition is not met: {condition}").into());
            }
            // No front end of this version knows another outcome; it is answered as a problem.
            Ok(_) => {}
            Err(problem) => {
                facts.status = problem.slug().status().as_u16();
                facts.problem = Some(problem.slug().as_str());
                facts.detail = problem.reason().map(Into::into);
            }
        }
        match decided {
            Err(problem) => state.calls.refused(problem),
            Ok(_) => state.calls.answered(answered(facts.outcome)),
        }
        tracing::debug!(
            target: "webhook::calls",
            webhook = self.webhook.map(tracing::field::display),
            method = facts.method,
            status = facts.status,
            outcome = facts.outcome.as_str(),
            problem = facts.problem,
            run = facts.run_id.map(tracing::field::display),
            body_bytes = self.body_bytes,
            request_id = head.id,
            "a call was answered"
        );
        // The token was valid, and is no longer: what the call asked for is no business of the webhook's log.
        let is_unauthorized = matches!(decided, Err(problem) if problem.slug() == Slug::Unauthorized);
        let Some(webhook) = self.webhook.filter(|_| !is_unauthorized) else { return };
        facts.address = head.peer;
        let agent = head.headers.get(header::USER_AGENT);
        facts.user_agent = agent.map(|agent| String::from_utf8_lossy(agent.as_bytes()));
        facts.request_id = Some(&head.id);
        facts.content_type = headers::text(&head.headers, header::CONTENT_TYPE).filter(|_| has_body(head));
        facts.body_bytes = self.body_bytes;
        state.webhooks.log_call(webhook, &facts);
    }
}

fn has_body(head: &Head) -> bool {
    head.method == Method::POST
}

fn answered(outcome: CallOutcome) -> Answered {
    match outcome {
        CallOutcome::Replayed => Answered::Replayed,
        CallOutcome::DryRun => Answered::DryRun,
        CallOutcome::Handshake => Answered::Handshake,
        CallOutcome::Ignored => Answered::Ignored,
        _ => Answered::Accepted,
    }
}
