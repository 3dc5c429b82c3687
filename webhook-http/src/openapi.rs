//! The contract described for programs: an OpenAPI 3.1 document, made from the routes, the table of problems and
//! the names of states, so that what those say is not said a second time.

mod schemas;

use std::sync::LazyLock;

use bytes::Bytes;
use http::{Method, StatusCode};
use serde_json::{Map, Value, json};

use crate::answer::{Answer, with_body};
use crate::problem::Slug;
use crate::route::route;

/// A workflow and an id that stand for any in a path.
const SAMPLES: [(&str, &str); 5] = [
    ("{kind}", "report"),
    ("{workflow_id}", "sales"),
    ("{id}", "0198c5a0-7e6b-7aaa-8bbb-0123456789ab"),
    ("{run_id}", "0198c5a0-7e6b-7aaa-8bbb-0123456789ab"),
    ("{name}", "report.html"),
];

static DOCUMENT: LazyLock<Bytes> = LazyLock::new(|| Bytes::from(document().to_string()));

/// `GET /api/v1/openapi.json`.
pub(crate) fn answer() -> Answer {
    with_body(StatusCode::OK, "application/json", DOCUMENT.clone())
}

/// One thing that can be asked for.
struct Operation {
    path: &'static str,
    method: Method,
    id: &'static str,
    summary: &'static str,
    /// The status of success, the media type, and the name of the schema; no media type means no body.
    success: Vec<(u16, &'static str, &'static str)>,
    problems: Vec<Slug>,
    query: Vec<Value>,
    headers: Vec<Value>,
    /// The name of the schema of a JSON body.
    body: Option<&'static str>,
}

const JSON: &str = "application/json";

impl Operation {
    fn new(method: Method, path: &'static str, id: &'static str, summary: &'static str) -> Self {
        let mut problems = Vec::new();
        if path.starts_with("/admin/") {
            problems.extend([Slug::Unauthorized, Slug::StoreUnavailable]);
        }
        if path.contains('{') {
            problems.push(Slug::NotFound);
        }
        let (success, query, headers) = (Vec::new(), Vec::new(), Vec::new());
        Self { path, method, id, summary, success, problems, query, headers, body: None }
    }

    fn answers(mut self, status: u16, media_type: &'static str, schema: &'static str) -> Self {
        self.success.push((status, media_type, schema));
        self
    }

    fn refuses(mut self, problems: &[Slug]) -> Self {
        self.problems.extend(problems);
        self
    }

    fn query(mut self, name: &str, schema: Value, description: &str) -> Self {
        if self.query.is_empty() {
            self.problems.extend([Slug::MalformedQuery, Slug::QueryTooLong, Slug::SettingsInvalid]);
        }
        self.query.push(parameter("query", name, schema, description));
        self
    }

    fn header(mut self, name: &str, schema: Value, description: &str) -> Self {
        self.headers.push(parameter("header", name, schema, description));
        self
    }

    /// Reads a JSON object; `Empty` is one without members.
    fn takes(mut self, schema: &'static str) -> Self {
        self.body = Some(schema);
        let read = [Slug::MalformedBody, Slug::TooLarge, Slug::UnsupportedMediaType, Slug::SettingsInvalid];
        self.refuses(&read)
    }

    fn list(self) -> Self {
        let limit = json!({"type": "integer", "minimum": 1, "maximum": 200, "default": 50});
        self.query("limit", limit, "How many items at most").query(
            "cursor",
            text(),
            "The `next_cursor` of the page before",
        )
    }

    fn described(&self) -> Value {
        let in_path = self.path.split('/').filter_map(|segment| segment.strip_prefix('{')?.strip_suffix('}'));
        let mut parameters: Vec<Value> = in_path.map(path_parameter).collect();
        parameters.extend(self.query.iter().chain(&self.headers).cloned());
        let request_id = "Taken over if it is 1 to 128 visible ASCII characters";
        parameters.push(parameter("header", "X-Request-Id", text(), request_id));
        let mut described = json!({
            "operationId": self.id,
            "summary": self.summary,
            "tags": [self.tag()],
            "parameters": parameters,
            "responses": self.responses(),
            "security": self.security(),
        });
        if let Some(schema) = self.body {
            described["requestBody"] = json!({"content": {JSON: {"schema": schemas::reference(schema)}}});
        }
        if self.path.ends_with("/webhook") && self.method == Method::POST {
            let object = json!({"type": "object"});
            described["requestBody"] = json!({
                "description": "Values that override the workflow's parameter blocks, and the query",
                "content": {JSON: {"schema": object}, "application/x-www-form-urlencoded": {"schema": object}},
            });
        }
        described
    }

    fn tag(&self) -> &'static str {
        match self.path {
            path if path.starts_with("/admin/") => "management",
            path if path.contains("{kind}") => "callers",
            _ => "service",
        }
    }

    fn security(&self) -> Value {
        match self.tag() {
            "management" => json!([{"admin_token": []}]),
            "callers" => json!([{"webhook_token": []}, {"webhook_token_in_query": []}]),
            _ => json!([]),
        }
    }

    fn responses(&self) -> Value {
        let mut responses = Map::new();
        for (status, media_type, schema) in &self.success {
            let mut response = json!({"description": status_text(*status), "headers": common_headers()});
            if !media_type.is_empty() && self.method != Method::HEAD {
                response["content"] = json!({*media_type: {"schema": schemas::reference(schema)}});
            }
            responses.insert(status.to_string(), response);
        }
        let mut statuses: Vec<u16> = self.problems.iter().map(|slug| slug.status().as_u16()).collect();
        statuses.sort_unstable();
        statuses.dedup();
        for status in statuses {
            responses.insert(status.to_string(), self.refusal(status));
        }
        Value::Object(responses)
    }

    /// The answer with a status of failure: which problems it may be.
    fn refusal(&self, status: u16) -> Value {
        let of_status = self.problems.iter().filter(|slug| slug.status().as_u16() == status);
        let mut types: Vec<String> =
            of_status.map(|slug| format!("urn:webhook:problem:{}", slug.as_str())).collect();
        types.sort_unstable();
        types.dedup();
        let mut headers = common_headers();
        let mut add = |name: &str, schema: Value| headers[name] = json!({"schema": schema});
        match status {
            401 => add("WWW-Authenticate", text()),
            429 | 503 => add("Retry-After", json!({"type": "integer", "minimum": 1})),
            _ => {}
        }
        let mut response = json!({"description": status_text(status), "headers": headers});
        if self.method != Method::HEAD {
            let narrowed = json!({"properties": {"type": {"enum": types}, "status": {"const": status}}});
            let schema = json!({"allOf": [schemas::reference("Problem"), narrowed]});
            response["content"] = json!({"application/problem+json": {"schema": schema}});
        }
        response
    }
}

fn operations() -> Vec<Operation> {
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
            .answers(202, JSON, "Accepted")
            .refuses(if method == Method::POST { &read } else { &[GetNotAllowed, PreviewRefused] })
            .refuses(&[Unauthorized, TwoTokens, MalformedQuery, IdempotencyKeyInvalid, WebhookDisabled])
            .refuses(&[WorkflowMissing, QueryTooLong, ParametersInvalid, IdempotencyMismatch, RateLimited])
            .refuses(&[QueueFull, StoreUnavailable, ShuttingDown])
            .header("Idempotency-Key", text(), "The same key and request give the same run")
            .header(
                "Prefer",
                text(),
                "`wait=N` waits up to N seconds, 60 at most, for the run's end (RFC 7240)",
            )
            .header("Webhook-Dry-Run", text(), "Checks everything and starts nothing")
            .header("traceparent", text(), "The caller's trace (W3C Trace Context)")
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
        .answers(200, "*/*", "Any"),
    ]
}

fn with_offset(operation: Operation) -> Operation {
    let offset = json!({"type": "integer", "minimum": 0, "default": 0});
    operation.query("offset", offset, "From which byte on").answers(200, "text/plain", "Text")
}

fn webhooks() -> Vec<Operation> {
    use Slug::*;
    const LIST: &str = "/admin/api/v1/webhooks";
    const ONE: &str = "/admin/api/v1/webhooks/{id}";
    let new = Operation::new;
    let if_match = |operation: Operation| {
        operation
            .header("If-Match", text(), "The `ETag` that the webhook must still have")
            .refuses(&[PreconditionFailed])
    };
    vec![
        new(Method::GET, "/admin/api/v1/workflows", "listWorkflows", "Workflows with their webhooks")
            .list()
            .answers(200, JSON, "WorkflowPage"),
        new(Method::GET, LIST, "listWebhooks", "Webhooks, newest first")
            .list()
            .query("workflow", text(), "`kind/id`")
            .answers(200, JSON, "WebhookPage"),
        new(Method::POST, LIST, "createWebhook", "Make a webhook")
            .takes("NewWebhook")
            .refuses(&[IntegrationMissing])
            .answers(201, JSON, "CreatedWebhook"),
        new(Method::GET, ONE, "readWebhook", "A webhook; never its token").answers(200, JSON, "Webhook"),
        if_match(new(Method::PATCH, ONE, "changeWebhook", "Change settings (JSON merge patch, RFC 7396)"))
            .takes("Settings")
            .refuses(&[IntegrationMissing])
            .answers(200, JSON, "Webhook"),
        if_match(new(Method::DELETE, ONE, "deleteWebhook", "Delete a webhook; its history stays"))
            .takes("Empty")
            .answers(204, "", ""),
        new(Method::GET, "/admin/api/v1/webhooks/{id}/url", "readUrl", "The URL, for copying")
            .refuses(&[UrlNotRecoverable])
            .answers(200, JSON, "Url"),
        if_match(new(Method::POST, "/admin/api/v1/webhooks/{id}/refresh-token", "refreshToken", "A new URL"))
            .takes("Empty")
            .answers(200, JSON, "Url"),
        new(Method::POST, "/admin/api/v1/webhooks/{id}/run", "runNow", "Start a run by hand")
            .takes("NewRun")
            .refuses(&[ParametersInvalid, WorkflowMissing, QueueFull, ShuttingDown])
            .answers(202, JSON, "Accepted"),
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
            .query("workflow", text(), "`kind/id`")
            .query("webhook", text(), "The id of a webhook")
            .query("state", schemas::reference("State"), "The state they are in")
            .answers(200, JSON, "RunPage"),
        new(Method::GET, "/admin/api/v1/runs/{id}", "readRun", "A run").answers(200, JSON, "Run"),
        with_offset(new(Method::GET, "/admin/api/v1/runs/{id}/log", "readLog", "Its log")),
        new(Method::GET, "/admin/api/v1/runs/{id}/artifacts/{name}", "readArtifact", "One of its artifacts")
            .answers(200, "*/*", "Any"),
        new(Method::POST, "/admin/api/v1/runs/{id}/cancel", "cancelRun", "Cancel a run")
            .takes("Empty")
            .refuses(&[PreconditionFailed])
            .answers(200, JSON, "Run")
            .answers(202, JSON, "Run"),
        new(Method::POST, "/admin/api/v1/runs/{id}/retry", "retryRun", "A new run like one that has ended")
            .takes("Empty")
            .refuses(&[PreconditionFailed, WorkflowMissing, QueueFull, ShuttingDown])
            .answers(202, JSON, "Accepted"),
        new(Method::POST, "/admin/api/v1/deliveries/{id}/resend", "resendDelivery", "Send it again")
            .takes("Empty")
            .answers(200, JSON, "Delivery"),
        new(
            Method::GET,
            "/admin/api/v1/events",
            "watchEvents",
            "Server-sent events: run, progress, log, reset",
        )
        .query("workflow", text(), "`kind/id`")
        .query("run", text(), "The id of a run")
        .header("Last-Event-ID", text(), "Go on after this event")
        .answers(200, "text/event-stream", "Text"),
    ]
}

fn service() -> Vec<Operation> {
    use Slug::*;
    let new = Operation::new;
    vec![
        new(Method::GET, "/api/v1/openapi.json", "describe", "This document").answers(200, JSON, "Any"),
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

/// The whole document. A path that can be read by GET is listed with HEAD where it answers that as well.
fn document() -> Value {
    let mut paths = Map::new();
    for operation in operations() {
        let item = paths.entry(operation.path).or_insert_with(|| json!({}));
        item[operation.method.as_str().to_ascii_lowercase()] = operation.described();
        let answers_head = operation.method == Method::GET
            && sample(operation.path).is_some_and(|route| route.methods().contains(&Method::HEAD));
        if answers_head {
            item["head"] = Operation { method: Method::HEAD, ..operation }.described();
            if let Some(id) = item["get"]["operationId"].as_str() {
                item["head"]["operationId"] = Value::from(format!("{id}Head"));
            }
        }
    }
    let in_query = json!({"type": "apiKey", "in": "query", "name": "token"});
    let bearer = |description: &str| json!({"type": "http", "scheme": "bearer", "description": description});
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": "Inbound webhook triggers",
            "version": env!("CARGO_PKG_VERSION"),
            "license": {"name": "MIT OR Apache-2.0", "identifier": "MIT OR Apache-2.0"},
        },
        "tags": [{"name": "callers"}, {"name": "management"}, {"name": "service"}],
        "paths": paths,
        "components": {
            "schemas": schemas::all(),
            "securitySchemes": {
                "webhook_token": bearer("The token of the webhook"),
                "webhook_token_in_query": in_query,
                "admin_token": bearer("The token of the management paths"),
            },
        },
    })
}

fn sample(path: &str) -> Option<crate::route::Route> {
    route(&SAMPLES.iter().fold(path.to_owned(), |path, (name, value)| path.replace(name, value)))
}

fn parameter(place: &str, name: &str, schema: Value, description: &str) -> Value {
    json!({"in": place, "name": name, "required": place == "path", "schema": schema, "description": description})
}

fn path_parameter(name: &str) -> Value {
    let schema = match name {
        "kind" => json!({"type": "string", "pattern": "^[a-z][a-z0-9-]{0,31}$"}),
        "workflow_id" => json!({"type": "string", "pattern": "^[A-Za-z0-9][A-Za-z0-9._-]{0,127}$"}),
        "name" => json!({"type": "string", "minLength": 1}),
        _ => json!({"type": "string", "format": "uuid"}),
    };
    parameter("path", name, schema, "")
}

fn common_headers() -> Value {
    json!({"X-Request-Id": {"schema": text(), "description": "The id of the request, given or made"}})
}

fn status_text(status: u16) -> &'static str {
    StatusCode::from_u16(status).ok().and_then(|status| status.canonical_reason()).unwrap_or_default()
}

fn text() -> Value {
    json!({"type": "string"})
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::route::{Route, RunPart, WebhookPart};

    /// The path of each route. A new variant does not compile until it stands here.
    fn template(route: &Route) -> String {
        let of_part = |part: &RunPart| match part {
            RunPart::Record => "",
            RunPart::Log => "/log",
            RunPart::Artifact(_) => "/artifacts/{name}",
        };
        let below = |path: &str| format!("/admin/api/v1{path}");
        match route {
            Route::Trigger(_) => "/api/v1/{kind}/{workflow_id}/webhook".to_owned(),
            Route::CallerRun { part, .. } => {
                format!("/api/v1/{{kind}}/{{workflow_id}}/runs/{{run_id}}{}", of_part(part))
            }
            Route::Workflows => below("/workflows"),
            Route::Webhooks => below("/webhooks"),
            Route::Webhook { part, .. } => below(match part {
                WebhookPart::Record => "/webhooks/{id}",
                WebhookPart::Url => "/webhooks/{id}/url",
                WebhookPart::RefreshToken => "/webhooks/{id}/refresh-token",
                WebhookPart::Run => "/webhooks/{id}/run",
                WebhookPart::TestNotification => "/webhooks/{id}/test-notification",
            }),
            Route::Runs => below("/runs"),
            Route::Run { part, .. } => below(&format!("/runs/{{id}}{}", of_part(part))),
            Route::CancelRun(_) => below("/runs/{id}/cancel"),
            Route::RetryRun(_) => below("/runs/{id}/retry"),
            Route::ResendDelivery(_) => below("/deliveries/{id}/resend"),
            Route::Events => below("/events"),
            Route::Description => "/api/v1/openapi.json".to_owned(),
            Route::Metrics => "/metrics".to_owned(),
            Route::Health => "/healthz".to_owned(),
            Route::Ready => "/readyz".to_owned(),
        }
    }

    #[test]
    fn every_route_is_described_with_its_methods_and_every_description_is_routed() {
        let document = document();
        let paths = document["paths"].as_object().unwrap();
        // As many as `template` can answer.
        assert_eq!(paths.len(), 23);
        for (path, item) in paths {
            let route = sample(path).unwrap_or_else(|| panic!("{path} is not routed"));
            assert_eq!(&template(&route), path);
            let described: BTreeSet<String> =
                item.as_object().unwrap().keys().map(|method| method.to_uppercase()).collect();
            let answered: BTreeSet<String> = route.methods().iter().map(ToString::to_string).collect();
            assert_eq!(described, answered, "{path}");
        }
    }

    #[test]
    fn every_problem_but_the_method_is_described_and_every_reference_leads_somewhere() {
        let document = document();
        let text = document.to_string();
        for slug in Slug::ALL.into_iter().filter(|slug| *slug != Slug::MethodNotAllowed) {
            assert!(text.contains(&format!("urn:webhook:problem:{}\"", slug.as_str())), "{slug:?}");
        }
        for reference in text.split("#/components/schemas/").skip(1) {
            let name = reference.split('"').next().unwrap();
            assert!(document["components"]["schemas"].get(name).is_some(), "{name}");
        }
    }
}
