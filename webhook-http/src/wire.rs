//! How things look on the wire. Unset values are `null`, times RFC 3339 with milliseconds, secrets `***`.

use std::fmt::{self, Write};
use std::time::SystemTime;

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use serde::Serialize;
use serde_json::{Map, Value, json};
use webhook_core::clock::format_timestamp;
use webhook_core::events::Event;
use webhook_core::executor::Workflow;
use webhook_core::id::{RunId, WebhookId, WorkflowKey};
use webhook_core::management::TestedNotification;
use webhook_core::notifier::Delivery;
use webhook_core::parameters::{EffectiveParameters, ParameterWarning};
use webhook_core::run::{Caller, Progress, Run, RunState};
use webhook_core::service::Webhooks;
use webhook_core::webhook::Webhook;

/// What a segment of a path may hold as it is (RFC 3986 section 2.3).
const SEGMENT: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// Makes addresses below the base URL. None of them holds a token.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Links<'a>(&'a Webhooks);

impl<'a> Links<'a> {
    pub(crate) fn new(webhooks: &'a Webhooks) -> Self {
        Self(webhooks)
    }

    fn below_base(self, path: fmt::Arguments<'_>) -> String {
        let base = self.0.base_url().as_str().trim_end_matches('/');
        let mut url = String::with_capacity(base.len() + 128);
        url.push_str(base);
        // Writing to a string never fails.
        let _ = url.write_fmt(path);
        url
    }

    /// Where callers ask about a run.
    pub(crate) fn status(self, run: &Run) -> String {
        self.below_base(format_args!("/api/v1/{}/runs/{}", run.workflow, run.id))
    }

    /// Where a run is managed.
    pub(crate) fn run(self, run: RunId) -> String {
        self.below_base(format_args!("/admin/api/v1/runs/{run}"))
    }

    /// Where a webhook is managed.
    pub(crate) fn webhook(self, webhook: WebhookId) -> String {
        self.below_base(format_args!("/admin/api/v1/webhooks/{webhook}"))
    }
}

/// What accepting a run answers.
#[derive(Debug, Serialize)]
pub(crate) struct Accepted<'a> {
    /// The run as it ended, when its caller waited for that.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) run: Option<Value>,
    pub(crate) run_id: RunId,
    pub(crate) state: RunState,
    pub(crate) status_url: &'a str,
    /// Left out when there are none.
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    pub(crate) warnings: &'a [ParameterWarning],
}

impl<'a> Accepted<'a> {
    pub(crate) fn new(run: &Run, status_url: &'a str, warnings: &'a [ParameterWarning]) -> Self {
        Self { run: None, run_id: run.id, state: run.state, status_url, warnings }
    }
}

/// A run for its callers: without who called and who was told.
pub(crate) fn run_for_caller(run: &Run, links: Links<'_>) -> Value {
    Value::Object(run_record(run, &links.status(run)))
}

/// A run for people who manage it.
pub(crate) fn run(run: &Run, deliveries: &[Delivery], links: Links<'_>) -> Value {
    let mut record = run_record(run, &links.run(run.id));
    record.insert("caller".to_owned(), caller(&run.caller));
    record.insert("deliveries".to_owned(), deliveries.iter().map(delivery).collect());
    Value::Object(record)
}

fn run_record(run: &Run, address: &str) -> Map<String, Value> {
    let parameters: Map<String, Value> = run
        .parameters
        .iter()
        .map(|(name, parameter)| (name, json!({"value": parameter.shown(), "source": parameter.source})))
        .collect();
    let artifacts: Vec<Value> = run
        .artifacts
        .iter()
        .map(|artifact| {
            let url = format!("{address}/artifacts/{}", utf8_percent_encode(&artifact.name, SEGMENT));
            json!({
                "name": artifact.name, "content_type": artifact.content_type, "size": artifact.size, "url": url,
            })
        })
        .collect();
    let record = json!({
        "id": run.id,
        "workflow": workflow_key(&run.workflow),
        "webhook_id": run.webhook_id,
        "state": run.state,
        "attempt": run.attempt,
        "max_attempts": run.max_attempts,
        "interruptions": run.interruptions,
        "retried_from": run.retried_from,
        "queued_at": time(run.queued_at),
        "started_at": run.started_at.map(time),
        "finished_at": run.finished_at.map(time),
        "due_at": time(run.due_at),
        "parameters": parameters,
        "progress": run.progress.as_ref().map(progress),
        "summary": run.summary,
        "artifacts": artifacts,
        "error": run.error.as_ref().map(|error| json!({"kind": error.kind, "message": error.message})),
    });
    object(record)
}

fn caller(caller: &Caller) -> Value {
    let method = Some(&caller.method).filter(|method| !method.is_empty());
    json!({
        "method": method,
        "address": caller.address,
        "user_agent": caller.user_agent,
        "request_id": caller.request_id,
        "token_hint": caller.token_hint,
    })
}

/// A delivery.
pub(crate) fn delivery(delivery: &Delivery) -> Value {
    json!({
        "id": delivery.id,
        "run_id": delivery.run,
        "channel": delivery.channel,
        "recipient": delivery.recipient,
        "event": delivery.event,
        "state": delivery.state,
        "attempts": delivery.attempts,
        "last_error": delivery.last_error,
        "next_at": delivery.next_at.map(time),
    })
}

/// How a test notification went.
pub(crate) fn tested(tested: &TestedNotification) -> Value {
    json!({
        "channel": tested.notification.channel,
        "recipient": tested.notification.recipient,
        "delivered": tested.outcome.is_ok(),
        "error": tested.outcome.as_ref().err().map(ToString::to_string),
    })
}

/// A webhook; never its token.
pub(crate) fn webhook(webhook: &Webhook) -> Value {
    let settings = serde_json::to_value(&webhook.settings).unwrap_or_default();
    let mut record = object(settings);
    record.append(&mut object(json!({
        "id": webhook.id,
        "workflow": workflow_key(&webhook.workflow),
        "token_hint": webhook.token_hint,
        "created_at": time(webhook.created_at),
        "updated_at": time(webhook.updated_at),
        "last_used_at": webhook.last_used_at.map(time),
        "revision": webhook.revision,
    })));
    Value::Object(record)
}

/// A workflow with its webhooks.
pub(crate) fn workflow(workflow: &Workflow, webhooks: Vec<Value>) -> Value {
    json!({
        "kind": workflow.key.kind,
        "id": workflow.key.id,
        "title": workflow.title,
        "parameters": workflow.parameters,
        "unavailable": workflow.unavailable,
        "webhooks": webhooks,
    })
}

/// What a dry run answers; secret values are masked by their own serialization.
pub(crate) fn dry_run(parameters: &EffectiveParameters, warnings: &[ParameterWarning]) -> Value {
    let mut content = json!({"dry_run": true, "parameters": parameters});
    if !warnings.is_empty() {
        content["warnings"] = json!(warnings);
    }
    content
}

/// A part of a list.
pub(crate) fn page(items: Vec<Value>, next_cursor: Option<String>) -> Value {
    json!({"items": items, "next_cursor": next_cursor})
}

/// The data of a `progress` event.
pub(crate) fn progress_event(event: &Event, progress: &Progress) -> Value {
    let mut data = event_record(event);
    data["progress"] = self::progress(progress);
    data
}

/// The data of a `log` event.
pub(crate) fn log_event(event: &Event, text: &str) -> Value {
    let mut data = event_record(event);
    data["lines"] = text.lines().collect();
    data
}

fn event_record(event: &Event) -> Value {
    json!({"run_id": event.run, "workflow": workflow_key(&event.workflow), "webhook_id": event.webhook_id})
}

fn progress(progress: &Progress) -> Value {
    json!({"fraction": progress.fraction, "message": progress.message})
}

fn workflow_key(key: &WorkflowKey) -> Value {
    json!({"kind": key.kind, "id": key.id})
}

fn time(time: SystemTime) -> String {
    format_timestamp(time)
}

fn object(value: Value) -> Map<String, Value> {
    match value {
        Value::Object(members) => members,
        _ => Map::new(),
    }
}
