//! Calls in the call log, and counts of refused ones.

use std::net::IpAddr;

use schemars::JsonSchema;
use serde::Serialize;
use webhook_core::calls::{CallOutcome, CallRecord, RefusedCalls};
use webhook_core::events::Event;
use webhook_core::id::{CallId, RunId, WebhookId, WorkflowKey};

use crate::contract::wire::value::{Timestamp, Truncated};

/// A call as it was answered. Tokens in its texts are masked, and long texts are cut.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "Call")]
pub(crate) struct CallView<'a> {
    id: CallId,
    at: Timestamp,
    method: &'a str,
    /// Status of the answer. A run that the caller awaits with `Prefer: wait` is answered later, with 200.
    status: u16,
    outcome: CallOutcome,
    /// The last part of the problem's `type`, such as `signature-invalid`.
    problem: Option<&'a str>,
    /// The reason, for people.
    detail: Option<&'a str>,
    #[schemars(with = "Option<String>")]
    address: Option<IpAddr>,
    user_agent: Option<&'a str>,
    request_id: Option<&'a str>,
    /// The run that it started, or that its idempotency key stands for.
    run_id: Option<RunId>,
    content_type: Option<&'a str>,
    /// Bytes of the body that were read.
    body_bytes: u64,
    /// Time until which the call can be replayed, if its content is still kept.
    replayable_until: Option<Timestamp>,
}

impl<'a> CallView<'a> {
    pub(crate) fn new(call: &'a CallRecord) -> Self {
        Self {
            id: call.id,
            at: Timestamp(call.at),
            method: &call.method,
            status: call.status,
            outcome: call.outcome,
            problem: call.problem.as_deref(),
            detail: call.detail.as_deref(),
            address: call.address,
            user_agent: call.user_agent.as_deref(),
            request_id: call.request_id.as_deref(),
            run_id: call.run_id,
            content_type: call.content_type.as_deref(),
            body_bytes: call.body_bytes,
            replayable_until: call.replayable_until.map(Timestamp),
        }
    }
}

/// The data of a `calls` event.
#[derive(Serialize)]
pub(crate) struct CallsView<'a> {
    workflow: &'a WorkflowKey,
    webhook_id: WebhookId,
    /// Newest first, like the list.
    items: Vec<CallView<'a>>,
    /// There were more calls; the list has them.
    #[serde(skip_serializing_if = "Truncated::is_whole")]
    truncated: Truncated,
}

impl<'a> CallsView<'a> {
    pub(crate) fn new(
        event: &'a Event,
        calls: impl DoubleEndedIterator<Item = &'a CallRecord>,
        truncated: bool,
    ) -> Self {
        let items = calls.rev().map(CallView::new).collect();
        let truncated = Truncated(truncated);
        Self { workflow: &event.workflow, webhook_id: event.webhook_id, items, truncated }
    }
}

/// Calls of a workflow that were refused before their webhook was known.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "RefusedCalls")]
pub(crate) struct RefusedCallsView {
    /// Calls without a valid token, since this server started.
    unauthorized: u64,
    last_at: Option<Timestamp>,
}

impl RefusedCallsView {
    pub(crate) fn new(refused: Option<RefusedCalls>) -> Self {
        Self {
            unauthorized: refused.map_or(0, |refused| refused.unauthorized),
            last_at: refused.map(|refused| Timestamp(refused.last_at)),
        }
    }
}
