//! One operation as the document shows it.

use http::StatusCode;
use schemars::{Schema, SchemaGenerator, json_schema};
use serde_json::{Map, Value, json};
use webhook_core::id::{CallId, RunId, SecretId, WorkflowId, WorkflowKind};

use super::answer_headers;
use super::schemas::Schemas;
use crate::contract::fields::{Field, REQUEST_ID, SchemaOf};
use crate::contract::operation::{AnswerHeader, Audience, Content, Path, Spec, Success, Takes, Verb};
use crate::contract::operations::Operation;
use crate::contract::slug::Slug;
use crate::contract::template::PathParameter;

const JSON: &str = "application/json";
const FORM: &str = "application/x-www-form-urlencoded";
const PROBLEM: &str = "application/problem+json";

/// The body of a trigger call.
const PARAMETERS: &str = "Values that override the workflow's parameter blocks, and the query. `text/json` and any \
     media type that ends in `+json` are read like JSON, and so is a body without a media type. By default a body has at \
     most 1 MiB, 256 parameters, 64 levels and 10,000 values, each array, object and item counted. It comes as it is, \
     without `Content-Encoding`.";

/// Returns the name of an operation in the document.
pub(super) fn operation_id(operation: Operation) -> String {
    let name = format!("{operation:?}");
    let (first, rest) = name.split_at(1);
    format!("{}{rest}", first.to_ascii_lowercase())
}

pub(super) fn operation(path: &Path<Operation>, id: &str, spec: &Spec, schemas: &mut Schemas) -> Value {
    let mut parameters: Vec<Value> =
        path.template.parameters().map(|parameter| path_parameter(parameter, schemas)).collect();
    parameters.extend(spec.query.iter().map(|field| parameter("query", field, schemas)));
    let headers = spec.headers.iter().chain([&REQUEST_ID]);
    parameters.extend(headers.map(|field| parameter("header", field, schemas)));
    let mut described = json!({
        "operationId": id,
        "summary": spec.summary,
        "tags": [tag(path.audience)],
        "parameters": parameters,
        "responses": responses(path, spec, schemas),
        "security": security(path.audience),
    });
    match spec.takes {
        Takes::Nothing => {}
        Takes::Json { schema, required } => {
            let content = json!({JSON: {"schema": schemas.request(schema)}});
            described["requestBody"] = json!({"content": content, "required": required});
        }
        Takes::Parameters => {
            let object = json!({"schema": {"type": "object"}});
            described["requestBody"] =
                json!({"description": PARAMETERS, "content": {JSON: object, FORM: object}});
        }
    }
    if spec.verb == Verb::Head {
        remove_content(&mut described);
    }
    described
}

/// Describes HEAD, which is answered like GET and without a body.
pub(super) fn head(path: &Path<Operation>, id: &str, spec: &Spec, schemas: &mut Schemas) -> Value {
    let mut described = operation(path, &format!("{id}Head"), spec, schemas);
    remove_content(&mut described);
    described
}

/// Removes the bodies of answers, which HEAD has none of.
fn remove_content(operation: &mut Value) {
    for response in operation["responses"].as_object_mut().into_iter().flat_map(Map::values_mut) {
        if let Some(response) = response.as_object_mut() {
            response.remove("content");
        }
    }
}

fn tag(audience: Audience) -> &'static str {
    match audience {
        Audience::Management => "management",
        Audience::Trigger | Audience::Status => "callers",
        Audience::Description | Audience::Metrics | Audience::Health => "service",
    }
}

fn security(audience: Audience) -> Value {
    match tag(audience) {
        "management" => json!([{"admin_token": []}]),
        "callers" => json!([{"webhook_token": []}, {"webhook_token_in_query": []}]),
        _ => json!([]),
    }
}

/// Problems of an operation: its own, and those that come with its audience, path, query and body.
fn problems(path: &Path<Operation>, spec: &Spec) -> Vec<Slug> {
    let mut problems = spec.problems.concat();
    if path.audience == Audience::Management {
        let of_management =
            [Slug::Unauthorized, Slug::RateLimited, Slug::CrossSiteRefused, Slug::StoreUnavailable];
        problems.extend(of_management);
    }
    if path.template.parameters().next().is_some() {
        problems.push(Slug::NotFound);
    }
    if !spec.query.is_empty() {
        problems.extend([Slug::MalformedQuery, Slug::QueryTooLong, Slug::SettingsInvalid]);
    }
    if matches!(spec.takes, Takes::Json { .. }) {
        let of_body =
            [Slug::MalformedBody, Slug::TooLarge, Slug::UnsupportedMediaType, Slug::SettingsInvalid];
        problems.extend(of_body);
    }
    problems
}

fn responses(path: &Path<Operation>, spec: &Spec, schemas: &mut Schemas) -> Value {
    let mut responses = Map::new();
    for success in spec.answers {
        responses.insert(success.status.to_string(), response(success, schemas));
    }
    let problems = problems(path, spec);
    let mut statuses: Vec<u16> = problems.iter().map(|slug| slug.status().as_u16()).collect();
    statuses.sort_unstable();
    statuses.dedup();
    for status in statuses {
        responses.insert(status.to_string(), refusal(status, &problems, schemas));
    }
    Value::Object(responses)
}

fn response(success: &Success, schemas: &mut Schemas) -> Value {
    let mut headers = answer_headers::common();
    for header in success.headers {
        let (name, required) = match *header {
            AnswerHeader::Always(name) => (name, true),
            AnswerHeader::Sometimes(name) => (name, false),
        };
        headers.insert(name.to_owned(), answer_headers::described(name, required));
    }
    let mut response = json!({"description": status_text(success.status), "headers": headers});
    let (media_type, schema) = match success.content {
        Content::Nothing => return response,
        Content::Json(schema) => (JSON, schemas.answer(schema)),
        Content::JsonOrText(schema) => {
            let content = json!({JSON: {"schema": schemas.answer(schema)}, "text/plain": {"schema": {"type": "string"}}});
            response["content"] = content;
            return response;
        }
        Content::Text(media_type) => (media_type, json!({"type": "string"})),
        Content::Artifact => ("*/*", Value::Bool(true)),
    };
    response["content"] = json!({media_type: {"schema": schema}});
    response
}

/// Describes the answer with a status of failure: the problems that it may be.
fn refusal(status: u16, problems: &[Slug], schemas: &mut Schemas) -> Value {
    let of_status = problems.iter().filter(|slug| slug.status().as_u16() == status);
    let mut types: Vec<String> = of_status.map(|slug| slug.urn()).collect();
    types.sort_unstable();
    types.dedup();
    let narrowed = json!({"properties": {"type": {"enum": types}, "status": {"const": status}}});
    let schema = json!({"allOf": [schemas.problem(), narrowed]});
    json!({
        "description": status_text(status),
        "headers": answer_headers::of_problem(status),
        "content": {PROBLEM: {"schema": schema}},
    })
}

fn parameter(place: &str, field: &Field, schemas: &mut Schemas) -> Value {
    let schema = schemas.request(field.schema);
    json!({
        "in": place, "name": field.name, "required": place == "path", "schema": schema,
        "description": field.description,
    })
}

fn path_parameter(path_parameter: PathParameter, schemas: &mut Schemas) -> Value {
    let (schema, description): (SchemaOf, _) = match path_parameter {
        PathParameter::Kind => (SchemaGenerator::subschema_for::<WorkflowKind>, "The kind of workflow"),
        PathParameter::WorkflowId => (SchemaGenerator::subschema_for::<WorkflowId>, "The id of the workflow"),
        PathParameter::Id => {
            (SchemaGenerator::subschema_for::<RunId>, "The id of what the path names (a UUIDv7)")
        }
        PathParameter::RunId => (SchemaGenerator::subschema_for::<RunId>, "The id of the run"),
        PathParameter::SecretId => (SchemaGenerator::subschema_for::<SecretId>, "The id of the secret"),
        PathParameter::CallId => (SchemaGenerator::subschema_for::<CallId>, "The id of the call"),
        PathParameter::Name => (name, "The name of the artifact"),
    };
    parameter("path", &Field { name: path_parameter.name(), description, schema }, schemas)
}

fn name(_: &mut SchemaGenerator) -> Schema {
    json_schema!({"type": "string", "minLength": 1})
}

fn status_text(status: u16) -> &'static str {
    StatusCode::from_u16(status).ok().and_then(|status| status.canonical_reason()).unwrap_or_default()
}
