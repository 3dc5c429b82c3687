//! Runs and deliveries, written straight from their records: whole, or as lists and events show them.

use std::net::IpAddr;

use percent_encoding::utf8_percent_encode;
use serde::{Serialize, Serializer};
use serde_json::Value;
use webhook_core::id::{DeliveryId, RunId, WebhookId, WorkflowKey};
use webhook_core::masking::MASK;
use webhook_core::notifier::{Delivery, DeliveryState};
use webhook_core::parameters::Source;
use webhook_core::run::{
    Caller, EXCERPT_BYTES, ErrorKind, ParameterValue, Progress, Run, RunError, RunParameter, RunParameters,
    RunState, excerpt_text,
};
use webhook_core::webhook::{Channel, EventKind};

use super::{Links, SEGMENT, is_whole, time};

/// The most artifacts, and the most deliveries, that lists and events show of a run.
const MOST_PARTS: usize = 20;
/// The most that the names, types and addresses of those artifacts take, in bytes.
const ARTIFACT_BYTES: usize = 16 * EXCERPT_BYTES;
/// The most parameters that lists and events show of a run.
const MOST_PARAMETERS: usize = 256;

/// How much of a record is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Detail {
    /// All of it.
    Full,
    /// What fits into a list or an event. What was cut says `"truncated": true`.
    Excerpt,
}

impl Detail {
    /// As much of a text as is shown, and whether that is not all.
    pub(super) fn of_text(self, text: &str) -> (&str, bool) {
        let cut = if self == Self::Excerpt { excerpt_text(text, EXCERPT_BYTES) } else { None };
        (cut.unwrap_or(text), cut.is_some())
    }

    pub(super) fn of_number(self, most: usize) -> usize {
        if self == Self::Excerpt { most } else { usize::MAX }
    }
}

/// A run. An item of a list or an event says `truncated` when anything in it was cut.
#[derive(Debug, Serialize)]
pub(crate) struct RunView<'a> {
    id: RunId,
    workflow: &'a WorkflowKey,
    webhook_id: WebhookId,
    state: RunState,
    attempt: u32,
    max_attempts: u32,
    interruptions: u32,
    retried_from: Option<RunId>,
    queued_at: String,
    started_at: Option<String>,
    finished_at: Option<String>,
    due_at: String,
    parameters: ParametersView,
    progress: Option<ProgressView<'a>>,
    summary: Option<&'a str>,
    artifacts: Vec<ArtifactView<'a>>,
    error: Option<ErrorView<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    caller: Option<CallerView<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    deliveries: Option<Vec<DeliveryView<'a>>>,
    #[serde(skip_serializing_if = "is_whole")]
    truncated: bool,
}

impl<'a> RunView<'a> {
    /// The whole run for its callers: without who called and who was told.
    pub(crate) fn for_caller(run: &'a Run, links: Links<'_>) -> Self {
        Self::new(run, &links.status(run), Detail::Full)
    }

    /// A run for people who manage it.
    pub(crate) fn managed(
        run: &'a Run,
        deliveries: impl IntoIterator<Item = &'a Delivery>,
        links: Links<'_>,
        detail: Detail,
    ) -> Self {
        let mut view = Self::new(run, &links.run(run.id), detail);
        let mut deliveries = deliveries.into_iter();
        let shown = deliveries.by_ref().take(detail.of_number(MOST_PARTS));
        let shown: Vec<_> = shown.map(|delivery| DeliveryView::new(delivery, detail)).collect();
        view.truncated |= deliveries.next().is_some() || shown.iter().any(|delivery| delivery.truncated);
        view.deliveries = Some(shown);
        view.caller = Some(CallerView::new(&run.caller));
        view
    }

    fn new(run: &'a Run, address: &str, detail: Detail) -> Self {
        let parameters = ParametersView::new(&run.parameters, detail);
        let progress = run.progress.as_ref().map(|progress| ProgressView::new(progress, detail));
        let error = run.error.as_ref().map(|error| ErrorView::new(error, detail));
        let summary = run.summary.as_deref().map(|summary| detail.of_text(summary));
        let artifacts = artifacts(run, address, detail);
        let truncated = parameters.truncated
            || progress.as_ref().is_some_and(|progress| progress.truncated)
            || error.as_ref().is_some_and(|error| error.truncated)
            || summary.is_some_and(|(_, cut)| cut)
            || artifacts.len() < run.artifacts.len();
        Self {
            id: run.id,
            workflow: &run.workflow,
            webhook_id: run.webhook_id,
            state: run.state,
            attempt: run.attempt,
            max_attempts: run.max_attempts,
            interruptions: run.interruptions,
            retried_from: run.retried_from,
            queued_at: time(run.queued_at),
            started_at: run.started_at.map(time),
            finished_at: run.finished_at.map(time),
            due_at: time(run.due_at),
            parameters,
            progress,
            summary: summary.map(|(text, _)| text),
            artifacts,
            error,
            caller: None,
            deliveries: None,
            truncated,
        }
    }
}

/// A run's parameters, which are read from their text once.
#[derive(Debug)]
struct ParametersView {
    shown: Vec<(String, ParameterView)>,
    truncated: bool,
}

impl ParametersView {
    fn new(parameters: &RunParameters, detail: Detail) -> Self {
        let excerpt = if detail == Detail::Excerpt { parameters.excerpt() } else { None };
        let mut all = excerpt.as_ref().unwrap_or(parameters).iter();
        let shown = all.by_ref().take(detail.of_number(MOST_PARAMETERS));
        let shown: Vec<_> = shown.map(|(name, parameter)| (name, ParameterView::new(parameter))).collect();
        let truncated = all.next().is_some() || shown.iter().any(|(_, parameter)| parameter.truncated);
        Self { shown, truncated }
    }
}

impl Serialize for ParametersView {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.shown.iter().map(|(name, parameter)| (name, parameter)))
    }
}

#[derive(Debug, Serialize)]
struct ParameterView {
    value: Value,
    source: Source,
    #[serde(skip_serializing_if = "is_whole")]
    truncated: bool,
}

impl ParameterView {
    fn new(parameter: RunParameter) -> Self {
        let (source, truncated) = (parameter.source, parameter.is_truncated());
        let value = match parameter.value {
            ParameterValue::Plain(value) => value,
            ParameterValue::Truncated(text) => Value::from(text),
            // A sealed value, and whatever else is not to be seen.
            _ => Value::from(MASK),
        };
        Self { value, source, truncated }
    }
}

/// How far a run is.
#[derive(Debug, Serialize)]
pub(crate) struct ProgressView<'a> {
    fraction: f64,
    message: Option<&'a str>,
    #[serde(skip_serializing_if = "is_whole")]
    pub(super) truncated: bool,
}

impl<'a> ProgressView<'a> {
    pub(super) fn new(progress: &'a Progress, detail: Detail) -> Self {
        let message = progress.message.as_deref().map(|message| detail.of_text(message));
        let truncated = message.is_some_and(|(_, cut)| cut);
        Self { fraction: progress.fraction, message: message.map(|(text, _)| text), truncated }
    }
}

#[derive(Debug, Serialize)]
struct ErrorView<'a> {
    kind: ErrorKind,
    message: &'a str,
    #[serde(skip_serializing_if = "is_whole")]
    truncated: bool,
}

impl<'a> ErrorView<'a> {
    fn new(error: &'a RunError, detail: Detail) -> Self {
        let (message, truncated) = detail.of_text(&error.message);
        Self { kind: error.kind, message, truncated }
    }
}

#[derive(Debug, Serialize)]
struct ArtifactView<'a> {
    name: &'a str,
    content_type: &'a str,
    size: u64,
    url: String,
}

/// A run's artifacts. A name is needed whole, so one that is too long is left out.
fn artifacts<'a>(run: &'a Run, address: &str, detail: Detail) -> Vec<ArtifactView<'a>> {
    let mut room = detail.of_number(ARTIFACT_BYTES);
    let view = |artifact: &'a webhook_core::run::Artifact| {
        let url = format!("{address}/artifacts/{}", utf8_percent_encode(&artifact.name, SEGMENT));
        let (name, content_type, size) = (&*artifact.name, &*artifact.content_type, artifact.size);
        room = room.checked_sub(name.len() + content_type.len() + url.len())?;
        Some(ArtifactView { name, content_type, size, url })
    };
    run.artifacts.iter().take(detail.of_number(MOST_PARTS)).map_while(view).collect()
}

#[derive(Debug, Serialize)]
struct CallerView<'a> {
    method: Option<&'a str>,
    address: Option<IpAddr>,
    user_agent: Option<&'a str>,
    request_id: Option<&'a str>,
    token_hint: Option<&'a str>,
}

impl<'a> CallerView<'a> {
    fn new(caller: &'a Caller) -> Self {
        Self {
            method: Some(&*caller.method).filter(|method| !method.is_empty()),
            address: caller.address,
            user_agent: caller.user_agent.as_deref(),
            request_id: caller.request_id.as_deref(),
            token_hint: caller.token_hint.as_deref(),
        }
    }
}

/// A delivery.
#[derive(Debug, Serialize)]
pub(crate) struct DeliveryView<'a> {
    id: DeliveryId,
    run_id: RunId,
    /// The workflow of its run, in lists of deliveries.
    #[serde(skip_serializing_if = "Option::is_none")]
    workflow: Option<&'a WorkflowKey>,
    channel: Channel,
    recipient: &'a str,
    event: EventKind,
    state: DeliveryState,
    attempts: u32,
    last_error: Option<&'a str>,
    next_at: Option<String>,
    #[serde(skip_serializing_if = "is_whole")]
    truncated: bool,
}

impl<'a> DeliveryView<'a> {
    pub(crate) fn new(delivery: &'a Delivery, detail: Detail) -> Self {
        let last_error = delivery.last_error.as_deref().map(|error| detail.of_text(error));
        Self {
            id: delivery.id,
            run_id: delivery.run,
            workflow: None,
            channel: delivery.channel,
            recipient: &delivery.recipient,
            event: delivery.event,
            state: delivery.state,
            attempts: delivery.attempts,
            last_error: last_error.map(|(text, _)| text),
            next_at: delivery.next_at.map(time),
            truncated: last_error.is_some_and(|(_, cut)| cut),
        }
    }

    /// Adds the workflow of its run.
    pub(crate) fn of_workflow(mut self, workflow: Option<&'a WorkflowKey>) -> Self {
        self.workflow = workflow;
        self
    }
}
