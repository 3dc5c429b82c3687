//! The trigger call: a GET or POST at a webhook's URL starts a run, or is a check of the URL by its sender.

use std::sync::Arc;
use std::time::Duration;

use http::{HeaderName, HeaderValue, Method, StatusCode, header};
use tracing::Instrument;
use tracing::field::{Empty, display};
use webhook_core::error::chain;
use webhook_core::handshake::HandshakeAnswer;
use webhook_core::intake::Triggered;
use webhook_core::parameters::ParameterWarning;
use webhook_core::run::{Run, RunParameters};
use webhook_core::webhook::Webhook;

use crate::capacity::body_budget::Turn;
use crate::capacity::room::Room;
use crate::contract::problem::Problem;
use crate::contract::slug::Slug;
use crate::contract::wire::run::{Accepted, DryRun, Ended};
use crate::contract::wire::sender::Ignored;
use crate::handlers::calls::NotedCall;
use crate::handlers::large::written;
use crate::headers;
use crate::request::head::{Head, Request};
use crate::response::answer::{Answer, json, no_content, set};
use crate::response::body::ResponseBody;
use crate::shutdown::ShutdownSignal;
use crate::state::State;

/// Decides on a call, logs how it is answered, and answers it.
pub(crate) async fn trigger(state: &Arc<State>, request: &mut Request<'_>) -> Result<Answer, Problem> {
    let mut noted = NotedCall::default();
    let decided = decide(state, request, &mut noted).await;
    noted.answered(state, &request.head, &decided);
    match decided? {
        Triggered::Accepted { run, replayed, warnings, .. } => {
            Ok(accepted(state, run, replayed, &warnings, noted.success, &request.head).await)
        }
        Triggered::DryRun { parameters, warnings, .. } => {
            Ok(json(StatusCode::OK, &DryRun::new(&parameters, &warnings)))
        }
        Triggered::Handshake(answer) => Ok(handshake(answer)),
        Triggered::Ignored(condition) => Ok(json(StatusCode::OK, &Ignored::new(&condition))),
        _ => Err(Problem::new(Slug::StoreUnavailable)),
    }
}

/// Checks a call in the order of the contract: size, token, the webhook's rules, body, parameters. Then starts a run, or
/// returns the parameters of a dry run.
async fn decide(
    state: &Arc<State>,
    request: &mut Request<'_>,
    noted: &mut NotedCall,
) -> Result<Triggered, Problem> {
    let limit = state.limits().body_bytes;
    let has_body = request.head.method == Method::POST;
    if has_body && let Err(too_large) = request.body.check_declared(limit) {
        // The owner of the webhook is to see it, too.
        if let Ok(call) = request.head.call()
            && let Ok(call) = state.webhooks.authenticate(call).await
        {
            noted.webhook = Some(call.webhook().id);
        }
        return Err(too_large);
    }
    let call = request.head.call()?;
    let call = state.webhooks.authenticate(call).await?;
    noted.webhook = Some(call.webhook().id);
    noted.success = success(call.webhook());
    let call = if call.needs_head() {
        let sent = request.head.sent(&state.webhooks, &call.webhook().workflow);
        call.with_head(sent)
    } else {
        call
    };
    let room = request.head.room.clone();
    if let Some(room) = &room {
        room.belongs_to(call.webhook().id);
    }
    let call = state.webhooks.admit(call).await?;
    let (body, _share) = if has_body && !call.is_handshake() {
        let turn = Turn { budget: &state.bodies, webhook: call.webhook().id, server: room.as_ref() };
        request.body.read_in_turn(limit, Some(turn)).await?
    } else {
        (Vec::new(), None)
    };
    noted.body_bytes = body.len() as u64;
    let span = tracing::info_span!("trigger", run = Empty, workflow = Empty, webhook = Empty);
    let _working = request.head.work().await?;
    let triggered = state.webhooks.trigger(call, &body).instrument(span.clone()).await?;
    if let Triggered::Accepted { run, .. } = &triggered {
        span.record("run", display(run.id()));
        span.record("workflow", display(run.workflow()));
        span.record("webhook", display(run.webhook_id()));
    }
    Ok(triggered)
}

/// Returns the status that the webhook's sender takes for success.
fn success(webhook: &Webhook) -> StatusCode {
    StatusCode::from_u16(webhook.settings.sender.success_status()).unwrap_or(StatusCode::ACCEPTED)
}

fn handshake(handshake: HandshakeAnswer) -> Answer {
    let mut answer = Answer::new(ResponseBody::from_bytes(handshake.body));
    for (name, value) in handshake.headers {
        if let (Ok(name), Ok(value)) = (HeaderName::try_from(name), HeaderValue::try_from(value)) {
            answer.headers_mut().insert(name, value);
        }
    }
    answer
}

/// Returns `success`, 202 by default, at once. If the caller prefers to wait: 200 once the run has ended, or `success` if it
/// does not in time.
async fn accepted(
    state: &Arc<State>,
    run: Arc<Run>,
    replayed: bool,
    warnings: &[ParameterWarning],
    success: StatusCode,
    head: &Head,
) -> Answer {
    let preferred = headers::preferred_wait(&head.headers);
    let run = match preferred {
        Some(patience) => waited(state, run, patience, head).await,
        None => run,
    };
    let status_url = state.links().status(&run);
    let mut answer = match preferred.filter(|_| run.state().is_ended()) {
        Some(patience) => {
            let (state, status_url, bytes) = (state.clone(), status_url.clone(), run.bytes_in_memory());
            let warnings = warnings.to_vec();
            let write = move || {
                let accepted = Accepted::new(&run, &status_url, &warnings);
                json(StatusCode::OK, &Ended { run: state.links().caller_run(&run), accepted })
            };
            let mut answer = written(bytes, write).await;
            set(&mut answer, headers::PREFERENCE_APPLIED, &format!("wait={}", patience.as_secs()));
            answer
        }
        None if success == StatusCode::NO_CONTENT => no_content(),
        None => json(success, &Accepted::new(&run, &status_url, warnings)),
    };
    set(&mut answer, header::LOCATION, &status_url);
    if replayed {
        set(&mut answer, headers::IDEMPOTENCY_REPLAYED, "true");
    }
    answer
}

/// Waits until the run ends or `patience` has passed, and returns the run.
///
/// It stops waiting when the server shuts down or connections run short; RFC 7240 section 2 allows to ignore a
/// preference. The run is accepted already, so a failed read is no error.
async fn waited(state: &State, run: Arc<Run>, patience: Duration, head: &Head) -> Arc<Run> {
    if run.state().is_ended() || patience.is_zero() {
        return run;
    }
    let waiting = head.room.as_ref().map(|room| room.wait(run.webhook_id()));
    if matches!(waiting, Some(None)) {
        return run;
    }
    let told = async {
        tokio::select! {
            () = told_by(head.shutdown.as_ref(), ShutdownSignal::shutting_down) => {}
            () = told_by(head.room.as_ref(), Room::crowded) => {}
        }
    };
    let id = run.id();
    // Many calls wait at the same time, and parameters can be large.
    let run = without_parameters(run);
    let outcome = tokio::select! {
        outcome = state.webhooks.wait_for_end(id, patience) => outcome,
        () = told => state.webhooks.wait_for_end(id, Duration::ZERO).await,
        () = state.webhooks.stopped_accepting() => state.webhooks.wait_for_end(id, Duration::ZERO).await,
    };
    match outcome {
        Ok(Some(present)) if present.state().is_ended() => present,
        Ok(Some(present)) => without_parameters(present),
        Ok(None) => run,
        Err(error) => {
            tracing::warn!(error = chain(&error), "a run that is waited for cannot be read");
            run
        }
    }
}

/// Drops the parameters of a run that has not ended: its answer shows only id and state.
fn without_parameters(run: Arc<Run>) -> Arc<Run> {
    Arc::new(Arc::unwrap_or_clone(run).with_parameters(RunParameters::default()))
}

/// Waits for a signal of the server. Without a source, waits forever.
async fn told_by<T>(source: Option<&T>, told: impl AsyncFnOnce(&T)) {
    match source {
        Some(source) => told(source).await,
        None => std::future::pending().await,
    }
}
