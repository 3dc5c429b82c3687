//! Runs, serialized directly from their records: whole, or as lists and events show them.

use std::collections::BTreeMap;
use std::net::IpAddr;

use schemars::JsonSchema;
use serde::{Serialize, Serializer};
use serde_json::Value;
use webhook_core::id::{RunId, WebhookId, WorkflowKey};
use webhook_core::masking::MASK;
use webhook_core::notifier::Delivery;
use webhook_core::parameters::{EffectiveParameters, ParameterWarning, Source};
use webhook_core::run::{
    Artifact, Caller, EXCERPT_BYTES, ErrorKind, ParameterValue, Progress, Run, RunError, RunParameter,
    RunParameters, RunState,
};

use crate::contract::wire::delivery::DeliveryView;
use crate::contract::wire::value::{Detail, Timestamp, Truncated};

/// Upper bound on the artifacts, and on the deliveries, that lists and events show of a run.
const MOST_PARTS: usize = 20;
/// Upper bound on the bytes of the names, types and addresses of those artifacts.
const ARTIFACT_BYTES: usize = 16 * EXCERPT_BYTES;
/// Upper bound on the parameters that lists and events show of a run.
const MOST_PARAMETERS: usize = 256;

/// An accepted call.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct Accepted<'a> {
    run_id: RunId,
    state: RunState,
    /// Address at which the run can be read, with the token that the call brought. It holds no token.
    status_url: &'a str,
    /// Probable mistakes in the call, such as a name that looks like a declared one. Left out when there are none.
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    #[schemars(length(min = 1))]
    warnings: &'a [ParameterWarning],
}

impl<'a> Accepted<'a> {
    pub(crate) fn new(run: &Run, status_url: &'a str, warnings: &'a [ParameterWarning]) -> Self {
        Self { run_id: run.id(), state: run.state(), status_url, warnings }
    }
}

/// An accepted call whose caller waited for the run's end.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct Ended<'a> {
    pub(crate) run: CallerRun<'a>,
    #[serde(flatten)]
    pub(crate) accepted: Accepted<'a>,
}

/// A call that was checked and started nothing.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct DryRun<'a> {
    #[schemars(extend("const" = true))]
    dry_run: bool,
    /// Effective parameters. Secret values are masked.
    #[schemars(with = "BTreeMap<String, ParameterView>")]
    parameters: &'a EffectiveParameters,
    /// Probable mistakes in the call, such as a name that looks like a declared one. Left out when there are none.
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    #[schemars(length(min = 1))]
    warnings: &'a [ParameterWarning],
}

impl<'a> DryRun<'a> {
    pub(crate) fn new(parameters: &'a EffectiveParameters, warnings: &'a [ParameterWarning]) -> Self {
        Self { dry_run: true, parameters, warnings }
    }
}

/// A run as its callers see it: without who called and who was notified.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct CallerRun<'a> {
    id: RunId,
    workflow: &'a WorkflowKey,
    webhook_id: WebhookId,
    state: RunState,
    attempt: u32,
    max_attempts: u32,
    interruptions: u32,
    retried_from: Option<RunId>,
    queued_at: Timestamp,
    started_at: Option<Timestamp>,
    finished_at: Option<Timestamp>,
    due_at: Timestamp,
    #[schemars(with = "BTreeMap<String, ParameterView>")]
    parameters: ParametersView,
    progress: Option<ProgressView<'a>>,
    summary: Option<&'a str>,
    artifacts: Vec<ArtifactView<'a>>,
    error: Option<ErrorView<'a>>,
}

/// A run for people who manage it. In lists and events, long values are cut.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "Run")]
pub(crate) struct ManagedRun<'a> {
    #[serde(flatten)]
    run: CallerRun<'a>,
    /// Name of the server that executes it, or executed it last, where several share a store.
    #[serde(skip_serializing_if = "Option::is_none")]
    worker: Option<&'a str>,
    caller: CallerView<'a>,
    deliveries: Vec<DeliveryView<'a>>,
    #[serde(skip_serializing_if = "Truncated::is_whole")]
    truncated: Truncated,
}

impl<'a> CallerRun<'a> {
    /// Shows the whole run. `address` returns where an artifact is read.
    pub(crate) fn new(run: &'a Run, address: impl Fn(&Artifact) -> String) -> Self {
        Self::with(run, address, Detail::Full).0
    }

    /// Shows a run, and says whether anything in it was cut.
    fn with(run: &'a Run, address: impl Fn(&Artifact) -> String, detail: Detail) -> (Self, bool) {
        let parameters = ParametersView::new(run.parameters(), detail);
        let progress = run.progress().map(|progress| ProgressView::new(progress, detail));
        let error = run.error().map(|error| ErrorView::new(error, detail));
        let summary = run.summary().map(|summary| detail.of_text(summary));
        let artifacts = artifacts(run, address, detail);
        let truncated = parameters.truncated
            || progress.as_ref().is_some_and(|progress| progress.truncated.0)
            || error.as_ref().is_some_and(|error| error.truncated.0)
            || summary.is_some_and(|(_, cut)| cut)
            || artifacts.len() < run.artifacts().len();
        let view = Self {
            id: run.id(),
            workflow: run.workflow(),
            webhook_id: run.webhook_id(),
            state: run.state(),
            attempt: run.attempt(),
            max_attempts: run.max_attempts(),
            interruptions: run.interruptions(),
            retried_from: run.retried_from(),
            queued_at: Timestamp(run.queued_at()),
            started_at: run.started_at().map(Timestamp),
            finished_at: run.finished_at().map(Timestamp),
            due_at: Timestamp(run.due_at()),
            parameters,
            progress,
            summary: summary.map(|(text, _)| text),
            artifacts,
            error,
        };
        (view, truncated)
    }
}

impl<'a> ManagedRun<'a> {
    /// Shows a run. `address` returns where an artifact is read.
    pub(crate) fn new(
        run: &'a Run,
        deliveries: impl IntoIterator<Item = &'a Delivery>,
        address: impl Fn(&Artifact) -> String,
        detail: Detail,
    ) -> Self {
        let mut deliveries = deliveries.into_iter();
        let shown = deliveries.by_ref().take(detail.of_number(MOST_PARTS));
        let shown: Vec<_> = shown.map(|delivery| DeliveryView::new(delivery, detail)).collect();
        let more = deliveries.next().is_some() || shown.iter().any(|delivery| delivery.truncated.0);
        let (view, truncated) = CallerRun::with(run, address, detail);
        Self {
            run: view,
            worker: run.worker(),
            caller: CallerView::new(run.caller()),
            deliveries: shown,
            truncated: Truncated(truncated || more),
        }
    }
}

/// Parameters of a run, read from their text once.
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
        let truncated = all.next().is_some() || shown.iter().any(|(_, parameter)| parameter.truncated.0);
        Self { shown, truncated }
    }
}

impl Serialize for ParametersView {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.shown.iter().map(|(name, parameter)| (name, parameter)))
    }
}

/// A parameter of a run.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "Parameter")]
pub(super) struct ParameterView {
    value: Value,
    source: Source,
    #[serde(skip_serializing_if = "Truncated::is_whole")]
    truncated: Truncated,
}

impl ParameterView {
    fn new(parameter: RunParameter) -> Self {
        let (source, truncated) = (parameter.source, Truncated(parameter.is_truncated()));
        let value = match parameter.value {
            ParameterValue::Plain(value) => value,
            ParameterValue::Truncated(text) => Value::from(text),
            // A sealed value, or a kind of value that this version does not know.
            _ => Value::from(MASK),
        };
        Self { value, source, truncated }
    }
}

/// Progress of a run.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "Progress")]
pub(crate) struct ProgressView<'a> {
    #[schemars(range(min = 0, max = 1))]
    fraction: f64,
    message: Option<&'a str>,
    #[serde(skip_serializing_if = "Truncated::is_whole")]
    pub(super) truncated: Truncated,
}

impl<'a> ProgressView<'a> {
    pub(super) fn new(progress: &'a Progress, detail: Detail) -> Self {
        let message = progress.message.as_deref().map(|message| detail.of_text(message));
        let truncated = Truncated(message.is_some_and(|(_, cut)| cut));
        Self { fraction: progress.fraction, message: message.map(|(text, _)| text), truncated }
    }
}

/// Failure of a run.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "RunError")]
struct ErrorView<'a> {
    kind: ErrorKind,
    message: &'a str,
    #[serde(skip_serializing_if = "Truncated::is_whole")]
    truncated: Truncated,
}

impl<'a> ErrorView<'a> {
    fn new(error: &'a RunError, detail: Detail) -> Self {
        let (message, truncated) = detail.of_text(&error.message);
        Self { kind: error.kind, message, truncated: Truncated(truncated) }
    }
}

/// A file that a run left.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "Artifact")]
struct ArtifactView<'a> {
    name: &'a str,
    content_type: &'a str,
    /// Size in bytes.
    size: u64,
    url: String,
}

/// Shows a run's artifacts. A name is needed whole, so one that is too long is left out.
fn artifacts(run: &Run, address: impl Fn(&Artifact) -> String, detail: Detail) -> Vec<ArtifactView<'_>> {
    let mut room = detail.of_number(ARTIFACT_BYTES);
    let mut views = Vec::new();
    for artifact in run.artifacts().iter().take(detail.of_number(MOST_PARTS)) {
        let url = address(artifact);
        let (name, content_type, size) = (&*artifact.name, &*artifact.content_type, artifact.size);
        let Some(left) = room.checked_sub(name.len() + content_type.len() + url.len()) else { break };
        room = left;
        views.push(ArtifactView { name, content_type, size, url });
    }
    views
}

/// Origin of a call. A run that was started by hand has no token.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "Caller")]
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
