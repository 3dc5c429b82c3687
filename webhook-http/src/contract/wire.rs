//! How things look on the wire. Unset values are `null`, times RFC 3339 with milliseconds, secrets `***`.

mod run;
mod workflow;

use std::fmt::{self, Write};
use std::time::SystemTime;

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC};
use serde::Serialize;
use serde_json::{Map, Value, json};
use webhook_core::Webhooks;
use webhook_core::clock::format_timestamp;
use webhook_core::events::Event;
use webhook_core::id::{RunId, WebhookId, WorkflowKey};
use webhook_core::manage::TestedNotification;
use webhook_core::parameters::{EffectiveParameters, ParameterWarning};
use webhook_core::run::{EXCERPT_BYTES, Progress, Run, RunState};
use webhook_core::webhook::Webhook;

pub(crate) use run::{DeliveryView, Detail, ProgressView, RunView};
pub(crate) use workflow::WorkflowView;

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
    pub(crate) run: Option<RunView<'a>>,
    pub(crate) run_id: RunId,
    pub(crate) state: RunState,
    /// Address at which the caller can read the run, with the token that it brought.
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

/// How a test notification went.
pub(crate) fn tested(tested: &TestedNotification) -> Value {
    json!({
        "channel": tested.notification.channel,
        "recipient": tested.notification.recipient,
        "delivered": tested.outcome.is_ok(),
        "error": tested.outcome.as_ref().err().map(|error| shortened(error.to_string())),
    })
}

/// Cuts what others have written to a length that a person reads.
fn shortened(mut text: String) -> String {
    if text.len() > EXCERPT_BYTES {
        text.truncate(text.floor_char_boundary(EXCERPT_BYTES));
        text.push('…');
    }
    text
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

/// What a dry run answers; secret values are masked by their own serialization.
pub(crate) fn dry_run(parameters: &EffectiveParameters, warnings: &[ParameterWarning]) -> Value {
    let mut content = json!({"dry_run": true, "parameters": parameters});
    if !warnings.is_empty() {
        content["warnings"] = json!(warnings);
    }
    content
}

/// The data of a `progress` or `log` event.
#[derive(Serialize)]
pub(crate) struct EventView<'a> {
    run_id: RunId,
    workflow: &'a WorkflowKey,
    webhook_id: WebhookId,
    #[serde(skip_serializing_if = "Option::is_none")]
    progress: Option<ProgressView<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    lines: Option<Vec<&'a str>>,
    #[serde(skip_serializing_if = "is_whole")]
    truncated: bool,
}

impl<'a> EventView<'a> {
    fn new(event: &'a Event) -> Self {
        let (workflow, webhook_id) = (&event.workflow, event.webhook_id);
        Self { run_id: event.run, workflow, webhook_id, progress: None, lines: None, truncated: false }
    }

    pub(crate) fn progress(event: &'a Event, progress: &'a Progress) -> Self {
        let progress = ProgressView::new(progress, Detail::Excerpt);
        Self { truncated: progress.truncated, progress: Some(progress), ..Self::new(event) }
    }

    pub(crate) fn log(event: &'a Event, text: &'a str, truncated: bool) -> Self {
        Self { lines: Some(text.lines().collect()), truncated, ..Self::new(event) }
    }
}

fn workflow_key(key: &WorkflowKey) -> Value {
    json!({"kind": key.kind, "id": key.id})
}

/// Whether nothing was cut. It takes a reference because serde does.
#[allow(clippy::trivially_copy_pass_by_ref)]
fn is_whole(truncated: &bool) -> bool {
    !truncated
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
