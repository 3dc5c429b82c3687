//! Everything that can be asked for, with what it takes and how it is answered.

use http::Method;
use serde_json::json;

use super::operation::{JSON, Operation};
use super::schemas;
use crate::contract::problem::Slug;

pub(super) fn operations() -> Vec<Operation> {
    let mut all = callers();
    all.extend(webhooks());
    all.extend(runs());
    all.extend(service());
    all
}

fn callers() -> Vec<Operation> {
    use Slug::*;
    const TRIGGER: &str = "/api/v1/{kind}/{workflow_id}/webhook";
    const RUN: &str = "/api/v1/{kind}/{workflow_id}/runs/{run_id}";
    let trigger = |method: Method, id| {
        let read = [MalformedBody, TooLarge, UnsupportedMediaType];
        Operation::new(method.clone(), TRIGGER, id, "Start a run")
            .answers(200, JSON, "Answered")
            .sometimes("Location")
            .sometimes("Preference-Applied")
            .sometimes("Idempotency-Replayed")
            .answers(202, JSON, "Accepted")
            .always("Location")
            .sometimes("Idempotency-Replayed")
            .refuses(if method == Method::POST { &read } else { &[GetNotAllowed, PreviewRefused] })
            .refuses(&[Unauthorized, TwoTokens, MalformedQuery, IdempotencyKeyInvalid, WebhookDisabled])
            .refuses(&[WorkflowMissing, QueryTooLong, ParametersInvalid, IdempotencyMismatch, RateLimited])
            .refuses(&[QueueFull, StoreUnavailable, ShuttingDown])
            .header("Idempotency-Key", schemas::text(), "The same key and request give the same run")
            .header(
                "Prefer",
                schemas::text(),
                "`wait=N` waits up to N seconds, 60 at most, for the run's end (RFC 7240)",
            )
            .header("Webhook-Dry-Run", schemas::text(), "Checks everything and starts nothing")
            .header("traceparent", schemas::text(), "The caller's trace (W3C Trace Context)")
    };
    let read = |path, id, summary| {
        Operation::new(Method::GET, path, id, summary).refuses(&[
            Unauthorized,
            TwoTokens,
            MalformedQuery,
            QueryTooLong,
            RateLimited,
            StoreUnavailable,
        ])
    };
    vec![
        trigger(Method::GET, "triggerByGet"),
        trigger(Method::POST, "trigger"),
        read(RUN, "readOwnRun", "A run as its caller sees it").answers(200, JSON, "CallerRun"),
        with_offset(read("/api/v1/{kind}/{workflow_id}/runs/{run_id}/log", "readOwnLog", "Its log")),
        read(
            "/api/v1/{kind}/{workflow_id}/runs/{run_id}/artifacts/{name}",
            "readOwnArtifact",
            "One of its artifacts",
        )
        .answers_artifact(),
    ]
}

fn with_offset(operation: Operation) -> Operation {
    let offset = json!({"type": "integer", "minimum": 0, "default": 0});
    operation
        .query("offset", offset, "From which byte on")
        .answers(200, "text/plain", "Text")
        .always("Webhook-Log-Offset")
        .always("Webhook-Log-End")
}

fn webhooks() -> Vec<Operation> {
    use Slug::*;
    const LIST: &str = "/admin/api/v1/webhooks";
    const ONE: &str = "/admin/api/v1/webhooks/{id}";
    let new = Operation::new;
    let if_match = |operation: Operation| {
        operation
            .header("If-Match", schemas::text(), "The `ETag` that the webhook must still have")
            .refuses(&[PreconditionFailed])
    };
    vec![
        new(Method::GET, "/admin/api/v1/workflows", "listWorkflows", "Workflows with their webhooks")
            .list()
            .answers(200, JSON, "WorkflowPage"),
        new(
            Method::GET,
            "/admin/api/v1/workflows/{kind}/{workflow_id}",
            "readWorkflow",
            "A workflow, with nothing cut",
        )
        .answers(200, JSON, "Workflow"),
        new(Method::GET, LIST, "listWebhooks", "Webhooks, newest first")
            .list()
            .query("workflow", schemas::text(), "`kind/id`")
            .answers(200, JSON, "WebhookPage"),
        new(Method::POST, LIST, "createWebhook", "Make a webhook")
            .takes("NewWebhook")
            .refuses(&[IntegrationMissing])
            .answers(201, JSON, "CreatedWebhook")
            .always("Location")
            .always("ETag"),
        new(Method::GET, ONE, "readWebhook", "A webhook; never its token")
            .answers(200, JSON, "Webhook")
            .always("ETag"),
        if_match(new(Method::PATCH, ONE, "changeWebhook", "Change settings (JSON merge patch, RFC 7396)"))
            .takes("Settings")
            .refuses(&[IntegrationMissing])
            .answers(200, JSON, "Webhook")
            .always("ETag"),
        if_match(new(Method::DELETE, ONE, "deleteWebhook", "Delete a webhook; its history stays"))
            .takes("Empty")
            .answers(204, "", ""),
        new(Method::GET, "/admin/api/v1/webhooks/{id}/url", "readUrl", "The URL, for copying")
            .refuses(&[UrlNotRecoverable])
            .answers(200, JSON, "Url"),
        if_match(new(Method::POST, "/admin/api/v1/webhooks/{id}/refresh-token", "refreshToken", "A new URL"))
            .takes("Empty")
            .answers(200, JSON, "Url")
            .always("ETag"),
        new(Method::POST, "/admin/api/v1/webhooks/{id}/run", "runNow", "Start a run by hand")
            .takes("NewRun")
            .refuses(&[ParametersInvalid, WorkflowMissing, QueueFull, ShuttingDown])
            .answers(202, JSON, "Accepted")
            .always("Location"),
        new(
            Method::POST,
            "/admin/api/v1/webhooks/{id}/test-notification",
            "testNotification",
            "Send a test message to all recipients",
        )
        .takes("Empty")
        .answers(200, JSON, "Tested"),
    ]
}

fn runs() -> Vec<Operation> {
    use Slug::*;
    let new = Operation::new;
    vec![
        new(Method::GET, "/admin/api/v1/runs", "listRuns", "Runs, newest first")
            .list()
            .query("workflow", schemas::text(), "`kind/id`")
            .query("webhook", schemas::text(), "The id of a webhook")
            .query("state", schemas::reference("State"), "The state they are in")
            .answers(200, JSON, "RunPage"),
        new(Method::GET, "/admin/api/v1/runs/{id}", "readRun", "A run").answers(200, JSON, "Run"),
        with_offset(new(Method::GET, "/admin/api/v1/runs/{id}/log", "readLog", "Its log")),
        new(Method::GET, "/admin/api/v1/runs/{id}/artifacts/{name}", "readArtifact", "One of its artifacts")
            .answers_artifact(),
        new(Method::POST, "/admin/api/v1/runs/{id}/cancel", "cancelRun", "Cancel a run")
            .takes("Empty")
            .refuses(&[PreconditionFailed])
            .answers(200, JSON, "Run")
            .answers(202, JSON, "Run"),
        new(Method::POST, "/admin/api/v1/runs/{id}/retry", "retryRun", "A new run like one that has ended")
            .takes("Empty")
            .refuses(&[ParametersInvalid, PreconditionFailed, WorkflowMissing, QueueFull, ShuttingDown])
            .answers(202, JSON, "Accepted")
            .always("Location"),
        new(
            Method::GET,
            "/admin/api/v1/deliveries",
            "listDeliveries",
            "Notifications of all runs, newest first",
        )
        .list()
        .query("state", schemas::reference("DeliveryState"), "The state they are in")
        .query("channel", schemas::reference("Channel"), "Through which channel they go")
        .query("run", schemas::text(), "The id of the run they tell of")
        .answers(200, JSON, "DeliveryPage"),
        new(
            Method::POST,
            "/admin/api/v1/deliveries/resend",
            "resendDeliveries",
            "Send again what fits a filter, at most 1,000 at a time",
        )
        .takes("ResendDeliveries")
        .answers(200, JSON, "ResentDeliveries"),
        new(Method::POST, "/admin/api/v1/deliveries/{id}/resend", "resendDelivery", "Send it again")
            .takes("Empty")
            .answers(200, JSON, "Delivery"),
        new(
            Method::GET,
            "/admin/api/v1/events",
            "watchEvents",
            "Server-sent events: run, progress, log, reset; long values are cut as in lists",
        )
        .query("workflow", schemas::text(), "`kind/id`")
        .query("run", schemas::text(), "The id of a run")
        .header("Last-Event-ID", schemas::text(), "Go on after this event")
        .answers(200, "text/event-stream", "Text")
        .always("X-Accel-Buffering"),
    ]
}

fn service() -> Vec<Operation> {
    use Slug::*;
    let new = Operation::new;
    vec![
        new(Method::GET, "/api/v1/openapi.json", "describe", "This document")
            .header("If-None-Match", schemas::text(), "What `ETag` said: unchanged, it is 304")
            .answers(304, "", "Any")
            .always("ETag")
            .answers(200, JSON, "Any")
            .always("ETag"),
        new(Method::GET, "/metrics", "metrics", "What was counted, for Prometheus; where the host serves it")
            .answers(200, "text/plain", "Text"),
        new(Method::GET, "/healthz", "health", "Whether the store can be written")
            .refuses(&[StoreUnavailable])
            .answers(200, JSON, "Health"),
        new(Method::GET, "/readyz", "ready", "Whether calls are accepted")
            .refuses(&[StoreUnavailable, ShuttingDown])
            .answers(200, JSON, "Health"),
    ]
}
