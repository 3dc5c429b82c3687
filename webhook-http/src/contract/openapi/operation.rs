//! One operation of the contract: what it takes and what it may answer.

use http::{Method, StatusCode};
use serde_json::{Map, Value, json};

use super::{answer_headers, schemas};
use crate::contract::problem::Slug;

pub(super) const JSON: &str = "application/json";

/// One thing that can be asked for.
pub(super) struct Operation {
    pub(super) path: &'static str,
    pub(super) method: Method,
    id: &'static str,
    summary: &'static str,
    successes: Vec<Success>,
    problems: Vec<Slug>,
    query: Vec<Value>,
    headers: Vec<Value>,
    /// The name of the schema of a JSON body.
    body: Option<&'static str>,
}

/// One answer that is no problem.
struct Success {
    status: u16,
    /// Empty for an answer without a body.
    media_type: &'static str,
    /// The name of the schema of the body.
    schema: &'static str,
    headers: Map<String, Value>,
}

impl Operation {
    pub(super) fn new(method: Method, path: &'static str, id: &'static str, summary: &'static str) -> Self {
        let mut problems = Vec::new();
        if path.starts_with("/admin/") {
            problems.extend([
                Slug::Unauthorized,
                Slug::RateLimited,
                Slug::CrossSiteRefused,
                Slug::StoreUnavailable,
            ]);
        }
        if path.contains('{') {
            problems.push(Slug::NotFound);
        }
        let (successes, query, headers) = (Vec::new(), Vec::new(), Vec::new());
        Self { path, method, id, summary, successes, problems, query, headers, body: None }
    }

    pub(super) fn answers(mut self, status: u16, media_type: &'static str, schema: &'static str) -> Self {
        let headers = answer_headers::common();
        self.successes.push(Success { status, media_type, schema, headers });
        self
    }

    /// The answer named last has this header each time.
    pub(super) fn always(self, header: &'static str) -> Self {
        self.with_header(header, true)
    }

    /// The answer named last has this header now and then, as its description says.
    pub(super) fn sometimes(self, header: &'static str) -> Self {
        self.with_header(header, false)
    }

    /// The content of an artifact, of whatever type it is.
    pub(super) fn answers_artifact(self) -> Self {
        self.answers(200, "*/*", "Any").always("Content-Disposition").always("Content-Security-Policy")
    }

    fn with_header(mut self, header: &'static str, required: bool) -> Self {
        if let Some(success) = self.successes.last_mut() {
            success.headers.insert(header.to_owned(), answer_headers::described(header, required));
        }
        self
    }

    pub(super) fn refuses(mut self, problems: &[Slug]) -> Self {
        self.problems.extend(problems);
        self
    }

    pub(super) fn query(mut self, name: &str, schema: Value, description: &str) -> Self {
        if self.query.is_empty() {
            self.problems.extend([Slug::MalformedQuery, Slug::QueryTooLong, Slug::SettingsInvalid]);
        }
        self.query.push(parameter("query", name, schema, description));
        self
    }

    pub(super) fn header(mut self, name: &str, schema: Value, description: &str) -> Self {
        self.headers.push(parameter("header", name, schema, description));
        self
    }

    /// Reads a JSON object; `Empty` is one without members.
    pub(super) fn takes(mut self, schema: &'static str) -> Self {
        self.body = Some(schema);
        let read = [Slug::MalformedBody, Slug::TooLarge, Slug::UnsupportedMediaType, Slug::SettingsInvalid];
        self.refuses(&read)
    }

    /// Answers one page of many.
    pub(super) fn list(self) -> Self {
        let limit = json!({"type": "integer", "minimum": 1, "maximum": 200, "default": 50});
        let cursor = "The `next_cursor` of the page before";
        self.query("limit", limit, "How many items at most").query("cursor", schemas::text(), cursor)
    }

    /// The same by HEAD.
    pub(super) fn without_body(self) -> Self {
        Self { method: Method::HEAD, ..self }
    }

    pub(super) fn described(&self) -> Value {
        let in_path = self.path.split('/').filter_map(|segment| segment.strip_prefix('{')?.strip_suffix('}'));
        let mut parameters: Vec<Value> = in_path.map(path_parameter).collect();
        parameters.extend(self.query.iter().chain(&self.headers).cloned());
        let request_id = "Taken over if it is 1 to 128 visible ASCII characters";
        parameters.push(parameter("header", "X-Request-Id", schemas::text(), request_id));
        // Every operation has an id of its own.
        let suffix = if self.method == Method::HEAD { "Head" } else { "" };
        let mut described = json!({
            "operationId": format!("{}{suffix}", self.id),
            "summary": self.summary,
            "tags": [self.tag()],
            "parameters": parameters,
            "responses": self.responses(),
            "security": self.security(),
        });
        if let Some(body) = self.request_body() {
            described["requestBody"] = body;
        }
        described
    }

    fn request_body(&self) -> Option<Value> {
        if self.path.ends_with("/webhook") && self.method == Method::POST {
            let object = json!({"type": "object"});
            return Some(json!({
                "description": "Values that override the workflow's parameter blocks, and the query. `text/json` and \
                     any media type that ends in `+json` are read like JSON, and so is a body without a media type. \
                     By default a body has at most 1 MiB, 256 parameters, 64 levels and 10,000 values, each array, \
                     object and item counted. It comes as it is, without `Content-Encoding`.",
                "content": {JSON: {"schema": object}, "application/x-www-form-urlencoded": {"schema": object}},
            }));
        }
        let schema = self.body?;
        let content = json!({JSON: {"schema": schemas::reference(schema)}});
        Some(json!({"content": content, "required": schemas::has_required(schema)}))
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
        for success in &self.successes {
            let mut response =
                json!({"description": status_text(success.status), "headers": success.headers});
            if !success.media_type.is_empty() && self.method != Method::HEAD {
                let schema = schemas::reference(success.schema);
                response["content"] = json!({success.media_type: {"schema": schema}});
            }
            responses.insert(success.status.to_string(), response);
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
        let headers = answer_headers::of_problem(status);
        let mut response = json!({"description": status_text(status), "headers": headers});
        if self.method != Method::HEAD {
            let narrowed = json!({"properties": {"type": {"enum": types}, "status": {"const": status}}});
            let schema = json!({"allOf": [schemas::reference("Problem"), narrowed]});
            response["content"] = json!({"application/problem+json": {"schema": schema}});
        }
        response
    }
}

fn parameter(place: &str, name: &str, schema: Value, description: &str) -> Value {
    let required = place == "path";
    json!({"in": place, "name": name, "required": required, "schema": schema, "description": description})
}

fn path_parameter(name: &str) -> Value {
    let (schema, description) = match name {
        "kind" => (json!({"type": "string", "pattern": "^[a-z][a-z0-9-]{0,31}$"}), "The kind of workflow"),
        "workflow_id" => {
            let pattern = "^[A-Za-z0-9][A-Za-z0-9._-]{0,127}$";
            (json!({"type": "string", "pattern": pattern}), "The id of the workflow")
        }
        "name" => (json!({"type": "string", "minLength": 1}), "The name of the artifact"),
        "run_id" => (schemas::id(), "The id of the run"),
        _ => (schemas::id(), "The id of what the path names (a UUIDv7)"),
    };
    parameter("path", name, schema, description)
}

fn status_text(status: u16) -> &'static str {
    StatusCode::from_u16(status).ok().and_then(|status| status.canonical_reason()).unwrap_or_default()
}
