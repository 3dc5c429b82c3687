//! Enqueueing a run under its webhook's rules, for a call or by hand.

use std::sync::Arc;
use std::time::SystemTime;

use super::error::TriggerError;
use crate::executor::Workflow;
use crate::id::RunId;
use crate::parameters::{
    self, BodyParameters, EffectiveParameter, Merged, Overlay, ParameterWarning, QueryParameters,
};
use crate::run::{Caller, CancelReason, Run, RunParameters, SealError};
use crate::service::parts::Parts;
use crate::store::{Enqueue, Enqueued};
use crate::webhook::Webhook;

/// A run that is durable and will be executed.
pub(in crate::service) struct Accepted {
    pub(in crate::service) run: Arc<Run>,
    /// True if it was accepted earlier, under the same idempotency key.
    pub(in crate::service) replayed: bool,
    pub(in crate::service) warnings: Vec<ParameterWarning>,
}

/// Returns the workflow, if it exists and can be executed.
pub(in crate::service) async fn available_workflow(
    parts: &Parts,
    webhook: &Webhook,
) -> Result<Arc<Workflow>, TriggerError> {
    let workflow = parts.executor.describe(&webhook.workflow).await?;
    let workflow = workflow.ok_or(TriggerError::WorkflowMissing)?;
    if workflow.unavailable.is_some() { Err(TriggerError::WorkflowUnavailable) } else { Ok(workflow) }
}

/// Merges the given parameters with the workflow's, and refuses those that could not be kept safely.
pub(in crate::service) fn effective(
    parts: &Parts,
    workflow: &Workflow,
    webhook: &Webhook,
    query: &QueryParameters,
    body: &BodyParameters,
    overlay: &Overlay,
) -> Result<Merged, TriggerError> {
    let strict = webhook.settings.strict;
    let merged =
        parameters::merge_over(&workflow.parameters, query, body, overlay, strict, &parts.options.limits)
            .map_err(TriggerError::Parameters)?;
    let unsafe_to_keep =
        |(_, parameter): &(&str, &EffectiveParameter)| parameter.secret && parts.keys.is_none();
    if let Some((name, _)) = merged.parameters.iter().find(unsafe_to_keep) {
        return Err(SealError::NoKey { name: name.to_owned() }.into());
    }
    Ok(merged)
}

/// Creates a run and enqueues it. `request` adds the conditions of its caller.
pub(in crate::service) async fn submit(
    parts: &Parts,
    webhook: &Webhook,
    merged: Merged,
    caller: Caller,
    now: SystemTime,
    request: impl FnOnce(Enqueue) -> Enqueue,
) -> Result<Accepted, TriggerError> {
    let id = RunId::generate(now);
    let caller = caller.without_tokens();
    let parameters = RunParameters::seal(merged.parameters, parts.keys.as_ref(), id)?;
    let attempts = webhook.settings.retries.max_attempts;
    let workflow = webhook.workflow.clone();
    let run = Run::new(id, workflow, webhook.id, parameters, attempts, caller, now);
    let accepted = enqueue(parts, webhook, request(Enqueue::new(run))).await?;
    Ok(Accepted { warnings: merged.warnings, ..accepted })
}

/// Enqueues a run under its webhook's rules.
pub(in crate::service) async fn enqueue(
    parts: &Parts,
    webhook: &Webhook,
    request: Enqueue,
) -> Result<Accepted, TriggerError> {
    let (settings, options) = (&webhook.settings, &parts.options);
    let request = request
        .with_concurrency(settings.concurrency)
        .with_queue_limits(Some(options.queue_share(settings.queue_limit)), options.queue_limit)
        .with_queue_bytes(options.queue_bytes_share(), options.queue_bytes);
    match parts.store.enqueue(request).await? {
        Enqueued::Created { run, asked_to_stop } => {
            parts.executing.cancel(&asked_to_stop, CancelReason::Superseded);
            Ok(Accepted { run, replayed: false, warnings: Vec::new() })
        }
        Enqueued::Replayed(run) => Ok(Accepted { run, replayed: true, warnings: Vec::new() }),
        Enqueued::KeyMismatch => Err(TriggerError::IdempotencyMismatch),
        Enqueued::QueueFull => Err(TriggerError::QueueFull),
        Enqueued::Unauthorized => Err(TriggerError::Unauthorized),
        Enqueued::Disabled => Err(TriggerError::Disabled),
    }
}
